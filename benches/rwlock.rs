//! What reading costs beside a lock, in one run.
//!
//! `cargo bench --bench rwlock` prints the ratios; as in `lock.rs`, the figure that counts is the median, over many
//! short rounds that take turns, of the ratio within a round.

use std::{hint::black_box, sync::RwLock as StdRwLock, thread, time::Instant};

use nix::libc;
use pshared::{Lock, RwLock};

/// Operations in one round: some 0.1 ms, so that few rounds are interrupted.
const ROUND: u32 = 10_000;
/// Rounds for each contender.
const ROUNDS: usize = 501;

const NAMES: [&str; 6] = ["lock", "read", "write", "std read", "pthread-shared read", "pthread-shared write"];

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
    let mut times: [Vec<f64>; NAMES.len()] = Default::default();
    for turn in 0..ROUNDS {
        for place in 0..NAMES.len() {
            let which = (turn + place) % NAMES.len();
            times[which].push(match which {
                0 => round(|| drop(black_box(lock.lock().expect("nobody dies here")))),
                1 => round(|| drop(black_box(ours.read().expect("nobody dies here")))),
                2 => round(|| drop(black_box(ours.write().expect("nobody dies here")))),
                3 => round(|| drop(black_box(std.read().expect("nobody panics here")))),
                // SAFETY: initialised, and used by this thread alone; so below.
                4 => round(|| unsafe {
                    libc::pthread_rwlock_rdlock(pthread);
                    libc::pthread_rwlock_unlock(pthread);
                }),
                // SAFETY: as above.
                _ => round(|| unsafe {
                    libc::pthread_rwlock_wrlock(pthread);
                    libc::pthread_rwlock_unlock(pthread);
                }),
            });
        }
    }
    for (which, name) in NAMES.iter().enumerate() {
        let mut ratios: Vec<f64> = times[which].iter().zip(&times[0]).map(|(one, lock)| one / lock).collect();
        let ratio = median(&mut ratios);
        let (low, high) = (ratios[ROUNDS / 20], ratios[ROUNDS - 1 - ROUNDS / 20]);
        let ns = median(&mut times[which].clone());
        println!(
            "rwlock/turns {name:<20} {ns:6.2} ns, {ratio:.3} x our Lock (middle 90 %: {low:.3} to {high:.3})"
        );
        if which == 1 {
            println!("rwlock/ratio {ratio:.3}");
        }
    }
}

/// Nanoseconds per call in a round.
fn round(mut operation: impl FnMut()) -> f64 {
    let start = Instant::now();
    for _ in 0..ROUND {
        operation();
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(ROUND)
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
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
