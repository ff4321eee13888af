//! Models of the reentrant lock: nested takings, deaths at every depth, an heir.
//!
//! What it guards lies in an `UnsafeCell`: a lock that is freed too early is reported as a race, one that is never
//! freed is a deadlock.

use std::sync::Arc;

use crate::{
    error::LockError,
    primitive::{
        Mutant, UnsafeCell,
        model::{
            explore::{every_death, explore, fails_with, spawn},
            kernel::{Died, die_after},
        },
    },
    sync::{RLock, RLockGuard},
};

/// A number that only the holder touches.
struct Guarded {
    lock: RLock,
    number: UnsafeCell<u32>,
}

// SAFETY: loom checks every access to the number.
unsafe impl Sync for Guarded {}
// SAFETY: nothing in it belongs to a thread.
unsafe impl Send for Guarded {}

impl Guarded {
    fn new() -> Arc<Guarded> {
        Arc::new(Guarded { lock: RLock::new().unwrap(), number: UnsafeCell::new(0) })
    }

    /// A taking, healed; whether it told of a death.
    fn take(&self) -> (RLockGuard<'_>, bool) {
        match self.lock.lock() {
            Ok(guard) => (guard, false),
            Err(LockError::OwnerDied(mut guard)) => {
                guard.make_consistent();
                (guard, true)
            }
            Err(other) => panic!("{other}"),
        }
    }

    /// Two takings, the first given back first; the number changes after that. How many deaths it was told of.
    fn turn(&self) -> usize {
        let (outer, told) = self.take();
        assert_eq!(self.lock.depth(), 1);
        let (inner, again) = self.take();
        assert!(!again);
        drop(outer);
        // SAFETY: loom panics if anybody else is at it.
        self.number.with_mut(|number| unsafe { *number += 1 });
        drop(inner);
        usize::from(told)
    }
}

/// A victim with `fuel` takes a turn beside others; then somebody was told of its death if and only if it held.
fn turns(fuel: usize, others: usize) {
    let guarded = Guarded::new();
    let victim = spawn({
        let guarded = guarded.clone();
        move || die_after(fuel, || guarded.turn())
    });
    let others: Vec<_> = (1..others)
        .map(|_| {
            let guarded = guarded.clone();
            spawn(move || guarded.turn())
        })
        .collect();
    let mut told = guarded.turn();
    told += others.into_iter().map(|other| other.join()).sum::<usize>();
    let fate = victim.join();
    told += guarded.turn();
    match fate {
        Ok(victim_told) => assert_eq!(told + victim_told, 0),
        Err(Died { marked }) => assert_eq!(told, marked),
    }
}

#[test]
fn nested_takings_exclude_the_others_until_the_last_is_given_back() {
    explore("two threads", 4, || turns(usize::MAX, 1));
    explore("three threads", 2, || turns(usize::MAX, 2));
}

#[test]
fn a_death_at_any_depth_leaves_the_lock_to_the_next() {
    every_death("victim and another", 4, |fuel| turns(fuel, 1));
    every_death("victim and two others", 1, |fuel| turns(fuel, 2));
}

#[test]
fn mutant_heir_keeps_depth_is_seen() {
    fails_with(Mutant::HeirKeepsDepth, || every_death("", 4, |fuel| turns(fuel, 1)));
}

#[test]
fn mutant_inner_guard_frees_is_seen() {
    fails_with(Mutant::InnerGuardFrees, || explore("", 4, || turns(usize::MAX, 1)));
}

#[cfg(feature = "shuttle")]
mod crowd {
    //! Eight threads, any of which may die.

    use super::*;
    use crate::primitive::model::explore::crowds::{CROWD, crowd, mortal};

    #[test]
    fn a_crowd_of_mortals_takes_turns() {
        crowd("reentrant locks: eight who turn twice", || {
            let guarded = Guarded::new();
            let others = [(); CROWD - 1].map(|()| {
                let guarded = guarded.clone();
                mortal(60, move || guarded.turn() + guarded.turn())
            });
            let mut told = guarded.turn() + guarded.turn();
            let mut marked = 0;
            for other in others {
                match other.join() {
                    Ok(count) => told += count,
                    Err(died) => marked += died.marked,
                }
            }
            told += guarded.turn();
            assert!(told <= marked, "told {told} times of {marked} deaths");
            assert_eq!(guarded.turn(), 0);
        });
    }
}
