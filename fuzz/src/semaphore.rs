//! Operation lists against a semaphore and a bounded one, and against plain numbers.

use std::time::Duration;

use arbitrary::Arbitrary;
use pshared::{AcquireError, BoundedSemaphore, ReleaseError, Semaphore};

#[derive(Arbitrary, Debug)]
enum Op {
    Acquire(u8),
    AcquireTimeout(u8),
    Release(u8),
    Permit,
    Drop(u8),
}

#[derive(Arbitrary, Debug)]
struct Case {
    permits: u8,
    holders: u8,
    bounded: bool,
    ops: Vec<Op>,
}

pub fn run(data: &[u8]) {
    let Some(case) = super::case::<Case>(data) else { return };
    let (permits, holders) = (usize::from(case.permits % 16), usize::from(case.holders % 8));
    let (bounded, free_one);
    let semaphore: &Semaphore = if case.bounded {
        bounded = BoundedSemaphore::with_holders(permits, holders).unwrap();
        &bounded
    } else {
        free_one = Semaphore::with_holders(permits, holders).unwrap();
        &free_one
    };
    let limit = if case.bounded { permits } else { Semaphore::MAX_PERMITS };
    let (mut free, mut guards) = (permits, Vec::new());
    for op in case.ops {
        match op {
            Op::Acquire(n) | Op::AcquireTimeout(n) => {
                let n = usize::from(n % 20);
                let got = match op {
                    Op::Acquire(_) => semaphore.try_acquire_many(n),
                    _ => semaphore.acquire_many_timeout(n, Duration::ZERO),
                };
                match got {
                    Ok(()) => free = free.checked_sub(n).expect("permits that there were not"),
                    Err(AcquireError::Impossible { need, limit: most }) => {
                        assert!(need == n && most == limit && n > limit)
                    }
                    Err(AcquireError::NoPermits | AcquireError::TimedOut) => assert!(n > free),
                    Err(error) => panic!("{error}"),
                }
            }
            Op::Release(n) => match semaphore.release_many(n.into()) {
                Ok(()) => {
                    free += usize::from(n);
                    assert!(free + guards.len() <= limit);
                }
                Err(ReleaseError::TooMany { released, available, guarded, limit: most }) => {
                    assert_eq!((released, available, guarded, most), (n.into(), free, guards.len(), limit));
                    assert!(free + guards.len() + usize::from(n) > limit);
                }
                Err(error) => panic!("{error}"),
            },
            Op::Permit => match semaphore.try_permit() {
                Ok(permit) => {
                    free = free.checked_sub(1).expect("a permit that there was not");
                    guards.push(permit);
                }
                Err(AcquireError::NoPermits) => assert_eq!(free, 0),
                Err(AcquireError::Impossible { need: 1, limit: 0 }) => assert_eq!(limit, 0),
                Err(AcquireError::TooManyHolders { limit: most }) => {
                    assert!(most == holders && guards.len() == holders && free > 0);
                }
                Err(error) => panic!("{error}"),
            },
            Op::Drop(nth) if !guards.is_empty() => {
                drop(guards.swap_remove(usize::from(nth) % guards.len()));
                free += 1;
            }
            Op::Drop(_) => {}
        }
        assert_eq!(semaphore.available_permits(), free);
    }
}
