//! Operation lists against two locks and two reentrant ones, in one thread, and against plain counts.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::Duration,
};

use arbitrary::Arbitrary;
use pshared::{Lock, LockError, RLock};

#[derive(Arbitrary, Debug)]
enum Op {
    Try(bool),
    Timeout(bool),
    /// Takes it if it is free, and panics.
    Poison(bool),
    Heal(bool),
    /// Frees the n-th of those that are held.
    Free(u8),
    TryR(bool),
    TimeoutR(bool),
    PoisonR(bool),
    HealR(bool),
    FreeR(u8),
}

/// How often each is held, and whether a panic is told of.
#[derive(Default)]
struct Plain {
    held: [u32; 2],
    poisoned: [bool; 2],
}

fn panic_quietly() -> ! {
    resume_unwind(Box::new(()))
}

/// The guard, if there was to be one; else nothing. `refused` is what was to be said.
fn taken<G>(
    got: Result<G, LockError<G>>,
    free: bool,
    poisoned: bool,
    refused: impl Fn(&LockError<G>) -> bool,
) -> Option<G> {
    match got {
        Ok(guard) => {
            assert!(free && !poisoned);
            Some(guard)
        }
        Err(LockError::Poisoned(guard)) => {
            assert!(free && poisoned);
            Some(guard)
        }
        Err(error) => {
            assert!(!free && refused(&error), "{error:?}");
            None
        }
    }
}

pub fn run(data: &[u8]) {
    let Some(ops) = super::case::<Vec<Op>>(data) else { return };
    let locks = [Lock::new().unwrap(), Lock::new().unwrap()];
    let relocks = [RLock::new().unwrap(), RLock::new().unwrap()];
    let (mut plain, mut replain) = (Plain::default(), Plain::default());
    let (mut guards, mut reguards) = (Vec::new(), Vec::new());
    for op in ops {
        match op {
            Op::Try(which) | Op::Timeout(which) => {
                let i = usize::from(which);
                let (got, is_try) = match op {
                    Op::Try(_) => (locks[i].try_lock(), true),
                    _ => (locks[i].lock_timeout(Duration::ZERO), false),
                };
                let refused = |error: &LockError<_>| match error {
                    LockError::WouldBlock => is_try,
                    LockError::AlreadyHeld => !is_try,
                    _ => false,
                };
                let guard = taken(got, plain.held[i] == 0, plain.poisoned[i], refused);
                plain.held[i] += u32::from(guard.is_some());
                guards.extend(guard.map(|guard| (i, guard)));
            }
            Op::Poison(which) if plain.held[usize::from(which)] == 0 => {
                let i = usize::from(which);
                let panicked = catch_unwind(AssertUnwindSafe(|| {
                    let _guard = locks[i].lock();
                    panic_quietly();
                }));
                assert!(panicked.is_err());
                plain.poisoned[i] = true;
            }
            Op::Heal(which) => {
                let i = usize::from(which);
                if let Some((_, guard)) = guards.iter_mut().find(|(held, _)| *held == i) {
                    guard.make_consistent();
                    plain.poisoned[i] = false;
                }
            }
            Op::Free(nth) if !guards.is_empty() => {
                let (i, guard) = guards.swap_remove(usize::from(nth) % guards.len());
                drop(guard);
                plain.held[i] -= 1;
            }
            Op::TryR(which) | Op::TimeoutR(which) => {
                let i = usize::from(which);
                let got = match op {
                    Op::TryR(_) => relocks[i].try_lock(),
                    _ => relocks[i].lock_timeout(Duration::ZERO),
                };
                reguards.extend(taken(got, true, replain.poisoned[i], |_| false).map(|guard| (i, guard)));
                replain.held[i] += 1;
            }
            Op::PoisonR(which) => {
                let i = usize::from(which);
                let panicked = catch_unwind(AssertUnwindSafe(|| {
                    let _guard = relocks[i].lock();
                    panic_quietly();
                }));
                assert!(panicked.is_err());
                replain.poisoned[i] = true;
            }
            Op::HealR(which) => {
                let i = usize::from(which);
                if let Some((_, guard)) = reguards.iter_mut().find(|(held, _)| *held == i) {
                    guard.make_consistent();
                    replain.poisoned[i] = false;
                }
            }
            Op::FreeR(nth) if !reguards.is_empty() => {
                let (i, guard) = reguards.swap_remove(usize::from(nth) % reguards.len());
                drop(guard);
                replain.held[i] -= 1;
            }
            Op::Poison(_) | Op::Free(_) | Op::FreeR(_) => {}
        }
        assert!((0..2).all(|i| relocks[i].depth() == replain.held[i]));
    }
    drop((guards, reguards));
    assert!(locks.iter().all(|lock| lock.try_lock().map_or_else(LockError::into_guard, Some).is_some()));
    assert!(relocks.iter().all(|lock| lock.depth() == 0));
}
