//! Values that processes share: a counter, a struct, an array.

use std::{
    cell::Cell,
    hint::black_box,
    sync::atomic::{
        AtomicU64,
        Ordering::{Relaxed, SeqCst},
    },
    time::Instant,
};

use pshared::{Array, Atomic, Lock, Value};

use crate::{
    drive::{APART, Contest, alone, effort},
    page::Page,
    parties::{Entrusted, Line, Mode, Party, shared, together},
    python::python,
    rounds::{
        Kind::{Limit, Ours, Rival},
        Row,
    },
};

/// Nanoseconds an addition, when two processes add one to the same number, which is checked.
fn added_by_two(add: impl Fn() + Sync, get: impl Fn() -> u64) -> f64 {
    let add = &add;
    let party = || -> Party<'_> {
        Box::new(move |clock| {
            clock.start();
            let (begun, mut added) = (Instant::now(), 0_u64);
            while begun.elapsed() < effort() {
                (0..1000).for_each(|_| add());
                added += 1000;
            }
            added as f64
        })
    };
    let outcome = together(Mode::Processes, &APART, vec![party(), party()]);
    let sum: f64 = outcome.results.iter().sum();
    assert_eq!(get() as f64, sum, "additions");
    outcome.wall / sum
}

/// Two that add and do nothing else.
fn two() -> Contest {
    Contest { parties: 2, inside: 0, outside: 0, time: effort() }
}

fn counters() -> Vec<Row> {
    let atomic = Row::apart("value/fetch_add, 2 processes", || {
        let counter = Atomic::new(0_u64).expect("a counter");
        added_by_two(|| _ = counter.fetch_add(1), || counter.get())
    })
    .beside(Limit, "bare atomic", || {
        let counter: &Line<AtomicU64> = shared();
        added_by_two(|| _ = counter.0.fetch_add(1, SeqCst), || counter.0.load(Relaxed))
    });
    let locked = Row::apart("value/add under a lock, 2 processes", || {
        let lock = Lock::new().expect("a lock");
        let section = |work: &dyn Fn()| {
            let _guard = lock.lock().expect("nobody dies here");
            work();
        };
        two().run(Mode::Processes, section).time
    })
    .beside(Rival, "pthread robust", || {
        // SAFETY: a mutex is there to be used by all.
        let mutex = unsafe { Entrusted::new(Page::new().mutex(0, true)) };
        let section = |work: &dyn Fn()| {
            black_box(mutex.get().lock());
            work();
            mutex.get().unlock();
        };
        two().run(Mode::Processes, section).time
    })
    .beside(Rival, "Python Value", || python(&["value"]));
    vec![atomic, locked]
}

/// A change of a struct as a whole, beside a lock alone, which would not save a half-made change.
fn struct_of_64() -> Row {
    Row::on_one("value/update of 64 B", || {
        let value = Value::new([0_u64; 8]).expect("a value");
        let took = alone(|| value.update(|words| words[0] = black_box(words[0] + 1)));
        assert!(value.get()[0] > 0);
        took
    })
    .beside(Ours, "our Lock", || {
        let (lock, word) = (Lock::new().expect("a lock"), Cell::new(0_u64));
        alone(|| {
            let _guard = lock.lock().expect("nobody dies here");
            word.set(black_box(word.get() + 1));
        })
    })
    .beside(Rival, "pthread robust", || {
        let (mutex, word) = (Page::new().mutex(0, true), Cell::new(0_u64));
        alone(|| {
            black_box(mutex.lock());
            word.set(black_box(word.get() + 1));
            mutex.unlock();
        })
    })
}

const SMALL: usize = 64 << 10;
const LARGE: usize = 64 << 20;

/// Bytes to be copied; touched, so that no page is made while the time is taken.
fn bytes(size: usize, first: u8) -> Vec<u8> {
    let mut bytes = vec![1; size];
    bytes[0] = first;
    bytes
}

/// An array that is copied as a whole, beside the same copy to and from plain shared memory.
fn copied<const SIZE: usize>(size: &str) -> [Row; 2] {
    let written = Row::on_one(&format!("array/{size} written"), || {
        let (array, bytes) = (Array::new(&bytes(SIZE, 0)).expect("an array"), bytes(SIZE, 7));
        let took = alone(|| array.copy_from_slice(0, black_box(&bytes)).expect("nobody dies here"));
        assert_eq!(array.get(0).expect("an element"), 7);
        took
    })
    .beside(Limit, "memcpy", || {
        let (place, bytes): (&[Cell<u8>; SIZE], _) = (shared(), bytes(SIZE, 7));
        // SAFETY: both are of that size, and nobody else knows the place.
        let took = alone(|| unsafe {
            black_box(&bytes)
                .as_ptr()
                .copy_to_nonoverlapping(black_box(place.as_ptr()).cast_mut().cast(), SIZE)
        });
        assert_eq!(place[0].get(), 7);
        took
    })
    .beside(Rival, "Python Array, as bytes", || python(&["array", &SIZE.to_string(), "write"]));

    let read = Row::on_one(&format!("array/{size} read"), || {
        let (array, mut copy) = (Array::new(&bytes(SIZE, 7)).expect("an array"), bytes(SIZE, 0));
        let took = alone(|| array.copy_to_slice(0, black_box(&mut copy)).expect("nobody dies here"));
        assert_eq!(copy[0], 7);
        took
    })
    .beside(Limit, "memcpy", || {
        let (place, mut copy): (&[Cell<u8>; SIZE], _) = (shared(), bytes(SIZE, 0));
        place[0].set(7);
        // SAFETY: both are of that size, and nobody else knows the place.
        let took = alone(|| unsafe {
            black_box(&mut copy).as_mut_ptr().copy_from_nonoverlapping(black_box(place.as_ptr()).cast(), SIZE)
        });
        assert_eq!(copy[0], 7);
        took
    })
    .beside(Rival, "Python Array, as bytes", || python(&["array", &SIZE.to_string(), "read"]));
    [written, read]
}

pub fn rows() -> Vec<Row> {
    let mut rows = counters();
    rows.push(struct_of_64());
    rows.extend(copied::<SMALL>("64 KiB"));
    rows.extend(copied::<LARGE>("64 MiB"));
    rows
}
