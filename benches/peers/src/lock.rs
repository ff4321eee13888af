//! Locks: alone, and with two and four at one lock. Python's takes part alone: what it does with others is its
//! interpreter's.

use std::{
    cell::Cell,
    hint::{black_box, spin_loop},
    sync::{
        Mutex,
        atomic::{
            AtomicU32,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};

use bytemuck::Zeroable;
use nix::{libc, sched::sched_yield};
use pshared::Lock;
use raw_sync::locks::{LockImpl, LockInit, Mutex as RawMutex};

use crate::{
    boost,
    drive::{Contest, Shares, alone, effort},
    page::{Page, PthreadMutex},
    parties::{Entrusted, Line, Mode, shared},
    python::python,
    rounds::{
        Kind::{Limit, Rival, Threads},
        Row, Unit,
    },
};

/// A word that is taken by one exchange and given back by one store; who finds it taken spins, and yields now and then,
/// since there may be more parties than CPUs.
#[derive(Debug, Zeroable)]
pub struct Spin(AtomicU32);

impl Spin {
    #[inline]
    pub fn lock(&self) {
        while self.0.compare_exchange_weak(0, 1, Acquire, Relaxed).is_err() {
            let mut turns = 0;
            while self.0.load(Relaxed) != 0 {
                spin_loop();
                turns += 1;
                if turns % 1000 == 0 {
                    sched_yield().expect("sched_yield");
                }
            }
        }
    }

    #[inline]
    pub fn unlock(&self) {
        self.0.store(0, Release);
    }
}

/// libc's mutex as threads of one process share it.
struct Plain(Entrusted<Box<std::cell::UnsafeCell<libc::pthread_mutex_t>>>);

impl Plain {
    fn new() -> Plain {
        // SAFETY: a mutex is there to be used by several threads; it does not move again.
        Plain(unsafe { Entrusted::new(Box::new(libc::PTHREAD_MUTEX_INITIALIZER.into())) })
    }

    #[inline]
    fn with(&self, work: impl FnOnce()) {
        // SAFETY: an initialised mutex that lives as long as `self`.
        black_box(unsafe { libc::pthread_mutex_lock(self.0.get().get()) });
        work();
        // SAFETY: as above, and held.
        unsafe { libc::pthread_mutex_unlock(self.0.get().get()) };
    }
}

#[inline]
fn with(mutex: PthreadMutex, work: impl FnOnce()) {
    black_box(mutex.lock());
    work();
    mutex.unlock();
}

/// libc's mutex between processes; the page stays mapped for ever.
fn pthread(robust: bool) -> Entrusted<PthreadMutex> {
    let page = Page::new();
    let mutex = page.mutex(0, robust);
    // SAFETY: a mutex is there to be used by all.
    unsafe { Entrusted::new(mutex) }
}

fn raw_sync() -> Entrusted<Box<dyn LockImpl>> {
    let place: &Line<[u64; 16]> = shared();
    let start = (&raw const place.0).cast_mut().cast::<u8>();
    // SAFETY: aligned shared memory that is large enough, and used for nothing else.
    let (mutex, size) = unsafe { RawMutex::new(start, start) }.expect("a mutex");
    assert!(size <= size_of_val(place), "room for a mutex");
    // SAFETY: it is a process-shared mutex behind a pointer to shared memory.
    unsafe { Entrusted::new(mutex) }
}

/// One word changes inside each section, where no other party is.
#[derive(Debug, Default)]
pub struct Guarded(Cell<u64>);

impl Guarded {
    #[inline]
    pub fn count(&self) {
        self.0.set(black_box(self.0.get() + 1));
    }
}

/// A lock that nobody else takes.
fn uncontended() -> Row {
    let row = Row::on_one("lock/uncontended", || {
        let (lock, guarded) = (Lock::new().expect("a lock"), Guarded::default());
        alone(|| {
            let _guard = lock.lock().expect("nobody dies here");
            guarded.count();
        })
    })
    .beside(Limit, "bare exchange and store", || {
        let (spin, guarded): (&Line<Spin>, _) = (shared(), Guarded::default());
        alone(|| {
            spin.0.lock();
            guarded.count();
            spin.0.unlock();
        })
    })
    .beside(Threads, "std Mutex", || {
        let (lock, guarded) = (Mutex::new(()), Guarded::default());
        alone(|| {
            let _guard = lock.lock().expect("nobody panics here");
            guarded.count();
        })
    })
    .beside(Threads, "parking_lot", || {
        let (lock, guarded) = (parking_lot::Mutex::new(()), Guarded::default());
        alone(|| {
            let _guard = lock.lock();
            guarded.count();
        })
    })
    .beside(Threads, "pthread plain", || {
        let (lock, guarded) = (Plain::new(), Guarded::default());
        alone(|| lock.with(|| guarded.count()))
    })
    .beside(Rival, "pthread shared", || {
        let (mutex, guarded) = (*pthread(false).get(), Guarded::default());
        alone(|| with(mutex, || guarded.count()))
    })
    .beside(Rival, "pthread robust", || {
        let (mutex, guarded) = (*pthread(true).get(), Guarded::default());
        alone(|| with(mutex, || guarded.count()))
    })
    .beside(Rival, "raw_sync", || {
        let (mutex, guarded) = (raw_sync(), Guarded::default());
        alone(|| {
            let _guard = mutex.get().lock().expect("a lock");
            guarded.count();
        })
    })
    .beside(Rival, "Python Lock", || python(&["lock"]));
    boost::uncontended(row)
}

fn ours(contest: Contest) -> Shares {
    let lock = Lock::new().expect("a lock");
    contest.run(Mode::Processes, |work| {
        let _guard = lock.lock().expect("nobody dies here");
        work();
    })
}

fn pthread_shared(contest: Contest, robust: bool) -> Shares {
    let mutex = pthread(robust);
    contest.run(Mode::Processes, |work| with(*mutex.get(), work))
}

fn std_mutex(contest: Contest) -> Shares {
    let lock = Mutex::new(());
    contest.run(Mode::Threads, |work| {
        let _guard = lock.lock().expect("nobody panics here");
        work();
    })
}

fn parking_lot(contest: Contest) -> Shares {
    let lock = parking_lot::Mutex::new(());
    contest.run(Mode::Threads, |work| {
        let _guard = lock.lock();
        work();
    })
}

fn spin(contest: Contest) -> Shares {
    let lock: &Line<Spin> = shared();
    contest.run(Mode::Processes, |work| {
        lock.0.lock();
        work();
        lock.0.unlock();
    })
}

/// Several at one lock: the time of a turn.
fn contended(contest: Contest) -> Row {
    let Contest { parties, inside, outside, .. } = contest;
    let name = format!("lock/{parties} processes, {inside} + {outside} ns");
    let row = Row::apart(&name, move || ours(contest).time)
        .beside(Limit, "bare spin lock", move || spin(contest).time)
        .beside(Threads, "std Mutex", move || std_mutex(contest).time)
        .beside(Threads, "parking_lot", move || parking_lot(contest).time)
        .beside(Threads, "pthread plain", move || {
            let lock = Plain::new();
            contest.run(Mode::Threads, |work| lock.with(work)).time
        })
        .beside(Rival, "pthread shared", move || pthread_shared(contest, false).time)
        .beside(Rival, "pthread robust", move || pthread_shared(contest, true).time)
        .beside(Rival, "raw_sync", move || {
            let mutex = raw_sync();
            let section = |work: &dyn Fn()| {
                let _guard = mutex.get().lock().expect("a lock");
                work();
            };
            contest.run(Mode::Processes, section).time
        });
    boost::contended(row, contest)
}

/// The same: what the one with the fewest turns had of the turns of the one with the most.
fn fairness(contest: Contest) -> Row {
    let Contest { parties, inside, outside, .. } = contest;
    let name = format!("fairness/{parties} processes, {inside} + {outside} ns");
    Row::of(Unit::Share, &name, move || ours(contest).fairness)
        .beside(Limit, "bare spin lock", move || spin(contest).fairness)
        .beside(Threads, "std Mutex", move || std_mutex(contest).fairness)
        .beside(Threads, "parking_lot", move || parking_lot(contest).fairness)
        .beside(Rival, "pthread robust", move || pthread_shared(contest, true).fairness)
}

/// For how long shares are counted: a few of the kernel's time slices.
const LONG: Duration = Duration::from_millis(40);

pub fn rows() -> Vec<Row> {
    let mut rows = vec![uncontended()];
    for parties in [2, 4] {
        for (inside, outside) in [(0, 0), (100, 0), (100, 100)] {
            rows.push(contended(Contest { parties, inside, outside, time: effort() }));
            if inside > 0 {
                rows.push(fairness(Contest { parties, inside, outside, time: LONG }));
            }
        }
    }
    rows
}
