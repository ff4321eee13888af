//! What a message through a channel costs beside a ring that cannot sleep, in one run.
//!
//! `cargo bench --bench channel [NAME...]`. Two processes on two CPUs; the figure is nanoseconds a message, from the
//! first that is sent to the last that is received. The ring beside it is written by hand: slots of the message's size,
//! indices on lines of their own and cached by the other side, nothing else: it spins for ever, and nobody's death is
//! told. Absolute times differ between runs of one binary on a shared machine, so what counts is the median, over
//! rounds that take turns, of the ratio within a round.

#![allow(clippy::disallowed_types, reason = "the ring beside it is nobody's protocol")]

#[path = "support/turns.rs"]
mod turns;

use std::{
    cell::UnsafeCell,
    env,
    hint::{black_box, spin_loop},
    io::{Write, stdout},
    mem::MaybeUninit,
    num::NonZeroUsize,
    ptr::NonNull,
    sync::{
        OnceLock,
        atomic::{
            AtomicUsize,
            Ordering::{Acquire, Release},
        },
    },
    time::Instant,
};

use nix::{
    libc,
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    sys::{
        mman::{MapFlags, ProtFlags, mmap_anonymous, munmap},
        wait::waitpid,
    },
    unistd::{ForkResult, Pid, fork},
};
use pshared::{Atomic, Channel};

const ROUNDS: usize = 21;
/// Messages that are committed and taken together.
const BATCH: usize = 32;

/// A message of `N` bytes.
type Bytes<const N: usize> = [u8; N];

#[repr(align(128))]
struct Line<T>(T);

/// The ring that cannot sleep.
struct Bare<const N: usize> {
    tail: Line<AtomicUsize>,
    head: Line<AtomicUsize>,
    slots: UnsafeCell<[MaybeUninit<Bytes<N>>; 1024]>,
}

/// A place where two processes find the same `T`, all zero.
fn shared<T>() -> &'static T {
    let size = NonZeroUsize::new(size_of::<T>()).expect("something");
    let rights = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: fresh zero pages, which every `T` here is made of.
    unsafe {
        mmap_anonymous(None, size, rights, MapFlags::MAP_SHARED | MapFlags::MAP_POPULATE)
            .expect("mmap")
            .cast()
            .as_ref()
    }
}

fn unshared<T>(place: &'static T) {
    // SAFETY: mapped by `shared`, and not used again.
    unsafe { munmap(NonNull::from(place).cast(), size_of::<T>()) }.expect("munmap");
}

impl<const N: usize> Bare<N> {
    fn capacity() -> usize {
        if N > 4096 { 64 } else { 1024 }
    }

    #[inline]
    fn slot(&self, index: usize) -> *mut Bytes<N> {
        // SAFETY: in bounds.
        unsafe { self.slots.get().cast::<Bytes<N>>().add(index % Self::capacity()) }
    }

    fn send_all(&self, count: usize, message: &Bytes<N>) {
        let (mut tail, mut known) = (0, 0);
        while tail < count {
            while tail - known == Self::capacity() {
                known = self.head.0.load(Acquire);
                spin_loop();
            }
            // SAFETY: the slot is free.
            unsafe { self.slot(tail).write(*black_box(message)) };
            tail += 1;
            self.tail.0.store(tail, Release);
        }
    }

    fn receive_all(&self, count: usize) {
        let (mut head, mut known) = (0, 0);
        while head < count {
            while head == known {
                known = self.tail.0.load(Acquire);
                spin_loop();
            }
            // SAFETY: the slot is full.
            black_box(&unsafe { self.slot(head).read() });
            head += 1;
            self.head.0.store(head, Release);
        }
    }
}

/// Nanoseconds a message, when a child on the second CPU receives what this process sends on the first. `ready` tells
/// when the receiver is there, and when it has all.
fn between_two(count: usize, send: impl FnOnce(), receive: impl FnOnce()) -> f64 {
    stay_on(0);
    let ready = Atomic::new(0_u32).expect("a flag");
    let _ = stdout().flush();
    // SAFETY: one thread.
    let child = match unsafe { fork() }.expect("fork") {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            stay_on(1);
            ready.set(1);
            receive();
            ready.set(2);
            // SAFETY: ends the child without running what belongs to the parent.
            unsafe { libc::_exit(0) }
        }
    };
    while ready.get() == 0 {
        spin_loop();
    }
    let start = Instant::now();
    send();
    while ready.get() != 2 {
        spin_loop();
    }
    let took = start.elapsed();
    waitpid(child, None).expect("waitpid");
    took.as_secs_f64() * 1e9 / count as f64
}

/// The first of the CPUs that this process might use when it began, or the second.
fn stay_on(which: usize) {
    let cpus = CPUS.get_or_init(|| {
        let allowed = sched_getaffinity(Pid::from_raw(0)).expect("sched_getaffinity");
        (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu).unwrap_or(false)).collect()
    });
    let mut one = CpuSet::new();
    one.set(cpus[which % cpus.len()]).expect("a CPU of the set");
    sched_setaffinity(Pid::from_raw(0), &one).expect("sched_setaffinity");
}

static CPUS: OnceLock<Vec<usize>> = OnceLock::new();

fn bare<const N: usize>(count: usize) -> f64 {
    let (ring, message) = (shared::<Bare<N>>(), [1; N]);
    let took = between_two(count, || ring.send_all(count, &message), || ring.receive_all(count));
    unshared(ring);
    took
}

/// As many messages fit as into the ring beside it.
fn bytes_for<const N: usize>() -> usize {
    Bare::<N>::capacity() * (8 + N.next_multiple_of(8))
}

fn one_at_a_time<const N: usize>(count: usize) -> f64
where
    Bytes<N>: pshared::Plain,
{
    let (mut sender, mut receiver) = Channel::new(bytes_for::<N>()).plain::<Bytes<N>>().expect("a channel");
    let message = [1; N];
    between_two(
        count,
        || (0..count).for_each(|_| assert!(sender.send(*black_box(&message)).is_ok())),
        || {
            (0..count).for_each(|_| {
                black_box(receiver.recv().is_ok());
            });
        },
    )
}

fn in_batches<const N: usize>(count: usize) -> f64
where
    Bytes<N>: pshared::Plain,
{
    let (mut sender, mut receiver) = Channel::new(bytes_for::<N>()).plain::<Bytes<N>>().expect("a channel");
    let message = [1; N];
    between_two(
        count,
        || {
            let mut batch = Vec::with_capacity(BATCH);
            for _ in 0..count / BATCH {
                batch.resize(BATCH, *black_box(&message));
                assert!(sender.send_many(&mut batch).is_ok());
            }
        },
        || {
            let (mut batch, mut received) = (Vec::with_capacity(BATCH), 0);
            while received < count {
                received += receiver.recv_many(&mut batch, BATCH).unwrap_or(0);
                black_box(&batch);
                batch.clear();
            }
        },
    )
}

/// The sender touches one byte, and so does the receiver.
fn in_place<const N: usize>(count: usize) -> f64 {
    let (mut sender, mut receiver) = Channel::new(bytes_for::<N>()).bytes().expect("a channel");
    between_two(
        count,
        || {
            for _ in 0..count {
                let mut slot = sender.reserve(N).expect("room");
                slot[0] = 1;
                slot.commit().unwrap();
            }
        },
        || {
            for _ in 0..count {
                assert_eq!(receiver.read().expect("a message")[0], 1);
            }
        },
    )
}

fn size<const N: usize>(count: usize)
where
    Bytes<N>: pshared::Plain,
{
    let title = format!("channel/{N}");
    let wanted: Vec<String> = env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    if !wanted.is_empty() && !wanted.iter().any(|name| title.contains(name.as_str())) {
        return;
    }
    let count = count / BATCH * BATCH;
    let all: [turns::Contender<'_>; 4] = [
        ("bare ring", &|| bare::<N>(count)),
        ("one at a time", &|| one_at_a_time::<N>(count)),
        ("batches of 32", &|| in_batches::<N>(count)),
        ("in place, one byte", &|| in_place::<N>(count)),
    ];
    let times = turns::take(ROUNDS, &all, 0);
    turns::report(&title, "ns", &all.map(|(name, _)| name), &times, 0, 1);
}

fn main() {
    if env::args().any(|argument| argument == "--test" || argument == "--list") {
        return;
    }
    size::<8>(400_000);
    size::<64>(200_000);
    size::<1024>(50_000);
    size::<65536>(2_000);
}
