//! What reading costs beside a lock, in one run.
//!
//! `cargo bench --bench rwlock` prints the ratios; as in `lock.rs`, the figure that counts is the median, over many
//! short rounds that take turns, of the ratio within a round.

#[path = "support/turns.rs"]
mod turns;

use std::{hint::black_box, sync::RwLock as StdRwLock, thread, time::Instant};

use nix::libc;
use pshared::{Lock, RwLock};

/// Operations in one round: some 0.1 ms, so that few rounds are interrupted.
const ROUND: u32 = 10_000;
/// Rounds for each contender.
const ROUNDS: usize = 501;

fn main() {
    if std::env::args().any(|argument| argument == "--test" || argument == "--list") {
        return;
    }
    // Every contender is measured in a program that has had a second thread: some libcs take short cuts before.
    thread::spawn(|| ()).join().expect("an empty thread");
    let lock = Lock::new().expect("a lock");
    let ours = RwLock::new().expect("a lock");
    let std = StdRwLock::new(0_u64);
    let mut pthread = shared_rwlock();
    let pthread: *mut libc::pthread_rwlock_t = &mut pthread;
    let all: [turns::Contender<'_>; 6] = [
        ("Lock", &|| round(|| drop(black_box(lock.lock().expect("nobody dies here"))))),
        ("read", &|| round(|| drop(black_box(ours.read().expect("nobody dies here"))))),
        ("write", &|| round(|| drop(black_box(ours.write().expect("nobody dies here"))))),
        ("std read", &|| round(|| drop(black_box(std.read().expect("nobody panics here"))))),
        ("pthread-shared read", &|| {
            // SAFETY: initialised, and used by this thread alone; so below.
            round(|| unsafe {
                libc::pthread_rwlock_rdlock(pthread);
                libc::pthread_rwlock_unlock(pthread);
            })
        }),
        ("pthread-shared write", &|| {
            // SAFETY: as above.
            round(|| unsafe {
                libc::pthread_rwlock_wrlock(pthread);
                libc::pthread_rwlock_unlock(pthread);
            })
        }),
    ];
    let times = turns::take(ROUNDS, &all, 0);
    turns::report("rwlock/ratio", "ns", &all.map(|(name, _)| name), &times, 0, 1);
}

/// Nanoseconds per call in a round. A function of its own for each contender: in one big function the compiler runs
/// out of registers, and what it spills is measured with the lock.
#[inline(never)]
fn round(mut operation: impl FnMut()) -> f64 {
    let start = Instant::now();
    for _ in 0..ROUND {
        operation();
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(ROUND)
}

/// A libc lock as processes share one.
fn shared_rwlock() -> libc::pthread_rwlock_t {
    let mut lock = libc::PTHREAD_RWLOCK_INITIALIZER;
    // SAFETY: attributes and lock are initialised in libc's order, before anybody uses them; nothing in the lock
    // refers to its own address while it is free.
    unsafe {
        let mut attributes = std::mem::zeroed::<libc::pthread_rwlockattr_t>();
        assert_eq!(libc::pthread_rwlockattr_init(&mut attributes), 0);
        libc::pthread_rwlockattr_setpshared(&mut attributes, libc::PTHREAD_PROCESS_SHARED);
        assert_eq!(libc::pthread_rwlock_init(&mut lock, &attributes), 0);
        libc::pthread_rwlockattr_destroy(&mut attributes);
    }
    lock
}
