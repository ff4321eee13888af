//! Models of the doorbell alone: one committer, one sleeper, and what the word carries.
//!
//! The number that a commit speaks of lies in an `UnsafeCell`: a commit that carries nothing is reported as a race. A
//! lost wake-up is a deadlock.

use std::sync::Arc;

use crate::{
    primitive::{
        Mutant, UnsafeCell,
        model::{
            explore::{every_death, every_load, explore, fails_with, spawn},
            kernel::die_after,
        },
    },
    queue::doorbell::{Doorbell, Reading},
};

/// A doorbell and what its commits speak of: `numbers[i]` is written before commit i.
struct Announced {
    bell: Doorbell,
    numbers: [UnsafeCell<u32>; 2],
}

// SAFETY: loom checks every access to the numbers.
unsafe impl Sync for Announced {}
// SAFETY: nothing in it belongs to a thread.
unsafe impl Send for Announced {}

impl Announced {
    fn new() -> Arc<Announced> {
        Arc::new(Announced { bell: Doorbell::new(), numbers: [UnsafeCell::new(0), UnsafeCell::new(0)] })
    }

    /// Writes number `i` and commits it.
    fn announce(&self, i: usize) {
        // SAFETY: loom panics if anybody else is at it.
        self.numbers[i].with_mut(|number| unsafe { *number = 7 });
        self.bell.commit(1).expect("nobody closes it");
    }

    /// Sleeps until there are `count` commits, and reads their numbers.
    fn await_count(&self, count: u32) -> Reading {
        let seen = loop {
            let seen = self.bell.read();
            if seen.count() >= count {
                break seen;
            }
            self.bell.sleep(seen, None, None);
        };
        for number in &self.numbers[..count as usize] {
            // SAFETY: as above.
            number.with(|number| assert_eq!(unsafe { *number }, 7));
        }
        seen
    }
}

/// One commits twice, one waits for each.
fn two_commits() {
    let announced = Announced::new();
    let sleeper = spawn({
        let announced = announced.clone();
        move || {
            announced.await_count(1);
            announced.await_count(2);
        }
    });
    announced.announce(0);
    announced.announce(1);
    sleeper.join();
}

/// A committer dies after `fuel` steps; a sleeper waits for what it may have committed. The next committer looks what
/// is there, as the heir of a lock does, and commits only what is not.
fn committer_dies(fuel: usize) {
    let announced = Announced::new();
    let sleeper = spawn({
        let announced = announced.clone();
        move || announced.await_count(1)
    });
    let victim = spawn({
        let announced = announced.clone();
        move || die_after(fuel, || announced.announce(0))
    });
    let survived = victim.join().is_ok();
    let committed = announced.bell.read().count();
    assert!(!survived || committed == 1);
    if committed == 0 {
        announced.announce(0);
    }
    sleeper.join();
}

/// A sleeper dies after `fuel` steps, perhaps leaving its bit; the next sleeper must hear of both commits.
fn sleeper_dies(fuel: usize) {
    let announced = Announced::new();
    let committer = spawn({
        let announced = announced.clone();
        move || {
            announced.announce(0);
            announced.announce(1);
        }
    });
    let victim = spawn({
        let announced = announced.clone();
        move || die_after(fuel, || announced.await_count(1))
    });
    let _ = victim.join();
    announced.await_count(2);
    committer.join();
}

#[test]
fn no_commit_is_slept_through() {
    every_load(|| explore("two commits and a sleeper", 5, two_commits));
}

#[test]
fn a_committer_that_dies_leaves_nobody_asleep() {
    every_load(|| every_death("committer, sleeper, heir", 4, committer_dies));
}

#[test]
fn a_sleeper_that_dies_leaves_a_bit_that_does_no_harm() {
    every_load(|| every_death("sleeper, its heir, committer", 4, sleeper_dies));
}

#[test]
fn mutant_commit_then_wake_is_seen() {
    let said = fails_with(Mutant::CommitThenWake, || every_death("", 4, committer_dies));
    assert!(said.contains("deadlock"), "{said}");
}

#[test]
fn mutant_bell_beside_is_seen() {
    let said = fails_with(Mutant::BellBeside, || every_death("", 4, committer_dies));
    assert!(said.contains("deadlock"), "{said}");
}

#[test]
fn mutant_trust_sleeper_bit_is_seen() {
    let said = fails_with(Mutant::TrustSleeperBit, || every_death("", 4, sleeper_dies));
    assert!(said.contains("deadlock"), "{said}");
}

#[test]
fn mutant_relaxed_commit_is_seen() {
    fails_with(Mutant::RelaxedCommit, || explore("", 4, two_commits));
}
