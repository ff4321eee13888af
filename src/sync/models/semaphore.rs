//! Models of the semaphore: givers, takers and holders that die at every step, and what the others find.
//!
//! What a permit permits lies in an `UnsafeCell`: two holders of one permit, or a handover that carries nothing, are
//! reported as a race. A lost wake is a deadlock. A permit that got lost or doubled is seen in the count at the end.

use std::{sync::Arc, time::Duration};

use crate::{
    primitive::{
        Deadline, Mutant, UnsafeCell,
        model::{
            explore::{Joiner, every_death, explore, fails_with, spawn},
            kernel::{Ending, crash_point, die_after, end_sleep},
        },
    },
    region::Region,
    sync::{
        Patience,
        raw_semaphore::{NotAcquired, RawSemaphore},
    },
};

/// As `Semaphore` does it.
fn acquire(semaphore: &RawSemaphore, n: u32, patience: Patience) -> Result<(), NotAcquired> {
    if semaphore.acquire_at_once(n) { Ok(()) } else { semaphore.acquire(n, patience) }
}

/// A semaphore of `bound` permits, `free` of which are free, and room for `holders` guards.
fn semaphore(free: u32, bound: u32, holders: usize) -> RawSemaphore {
    RawSemaphore::new_in(&Region::anonymous(1).unwrap(), free, bound, holders).unwrap()
}

fn waiter(semaphore: &RawSemaphore, n: u32) -> Joiner<()> {
    let semaphore = semaphore.clone();
    spawn(move || acquire(&semaphore, n, Patience::FOREVER).unwrap())
}

/// Free permits and guards.
fn balance(semaphore: &RawSemaphore) -> (u32, u32) {
    (semaphore.available(), semaphore.count().guards())
}

/// What one permit permits.
struct Section {
    semaphore: RawSemaphore,
    number: UnsafeCell<u32>,
}

// SAFETY: loom checks every access to the number.
unsafe impl Sync for Section {}
// SAFETY: nothing in it belongs to a thread.
unsafe impl Send for Section {}

impl Section {
    fn new() -> Arc<Section> {
        Arc::new(Section { semaphore: semaphore(1, 1, 1), number: UnsafeCell::new(0) })
    }

    fn work(&self) {
        // SAFETY: loom panics if anybody else is at it.
        self.number.with_mut(|number| unsafe { *number += 1 });
        crash_point();
    }

    /// By a plain permit.
    fn plain_turn(&self) {
        acquire(&self.semaphore, 1, Patience::FOREVER).unwrap();
        self.work();
        self.semaphore.release(1).unwrap();
    }

    /// By a guard.
    fn guarded_turn(&self) {
        let place = self.semaphore.acquire_guard(Patience::FOREVER).unwrap();
        self.work();
        self.semaphore.release_guard(place);
    }
}

fn plain_turns(others: usize) {
    let section = Section::new();
    let others: Vec<_> = (0..others)
        .map(|_| {
            let section = section.clone();
            spawn(move || section.plain_turn())
        })
        .collect();
    section.plain_turn();
    others.into_iter().for_each(|other| other.join());
    assert_eq!(balance(&section.semaphore), (1, 0));
}

#[test]
fn a_permit_is_one_threads_at_a_time() {
    explore("two plain turns", 5, || plain_turns(1));
    explore("three plain turns", 2, || plain_turns(2));
}

/// A giver dies after `fuel` steps. The permits that it has not given are given again: too many are refused, and then
/// wake nobody, so that a wake which the dead one owed is not made up for.
fn giver_dies(fuel: usize, waiters: usize) {
    let semaphore = semaphore(0, 2, 0);
    let waiters: Vec<_> = (0..waiters).map(|_| waiter(&semaphore, 2 / waiters as u32)).collect();
    let victim = spawn({
        let semaphore = semaphore.clone();
        move || die_after(fuel, || semaphore.release(2))
    });
    if victim.join().is_err() {
        let _ = semaphore.release(2);
    }
    waiters.into_iter().for_each(|waiter| waiter.join());
}

#[test]
fn a_giver_that_dies_has_given_and_woken_or_not_given() {
    every_death("giver, one who waits for two", 4, |fuel| giver_dies(fuel, 1));
    every_death("giver, two who wait for one", 1, |fuel| giver_dies(fuel, 2));
}

/// One that waits for `n` dies after `fuel` steps; another waits beside it.
fn taker_dies(fuel: usize) {
    let semaphore = semaphore(0, 9, 0);
    let victim = spawn({
        let semaphore = semaphore.clone();
        move || die_after(fuel, || acquire(&semaphore, 1, Patience::FOREVER).unwrap())
    });
    let other = waiter(&semaphore, 1);
    semaphore.release(2).unwrap();
    let survived = victim.join().is_ok();
    other.join();
    let left = semaphore.available();
    assert!(if survived { left == 0 } else { left <= 1 }, "{left} left");
}

#[test]
fn a_taker_that_dies_holds_nobody_up() {
    every_death("taker, another, giver", 2, taker_dies);
}

/// A guard's holder dies after `fuel` steps, and another works by the same permit.
fn holder_dies(fuel: usize, other: fn(&Section)) {
    let section = Section::new();
    let victim = spawn({
        let section = section.clone();
        move || die_after(fuel, || section.guarded_turn())
    });
    other(&section);
    let _ = victim.join();
    assert_eq!(balance(&section.semaphore), (1, 0));
}

#[test]
fn a_holder_that_dies_gives_its_permit_back_once() {
    every_death("holder, one who takes guards", 1, |fuel| holder_dies(fuel, Section::guarded_turn));
    every_death("holder, one who takes plain permits", 3, |fuel| holder_dies(fuel, Section::plain_turn));
}

/// Of two permits one is a guard's, whose holder dies after `fuel` steps; another thread waits for both.
fn holder_dies_before_one_who_wants_all(fuel: usize) {
    let semaphore = semaphore(2, 2, 2);
    let victim = spawn({
        let semaphore = semaphore.clone();
        move || {
            die_after(fuel, || semaphore.release_guard(semaphore.acquire_guard(Patience::FOREVER).unwrap()))
        }
    });
    acquire(&semaphore, 2, Patience::FOREVER).unwrap();
    semaphore.release(2).unwrap();
    let _ = victim.join();
    assert_eq!(balance(&semaphore), (2, 0));
}

#[test]
fn one_who_wants_all_gets_them_when_a_holder_dies() {
    every_death("holder, one who wants all", 3, holder_dies_before_one_who_wants_all);
}

/// The reclaimer of a dead holder's permit dies after `fuel` steps. Nobody waits, so the next one finds it.
fn reclaimer_dies(fuel: usize) {
    let semaphore = semaphore(1, 1, 1);
    let holder = spawn({
        let semaphore = semaphore.clone();
        move || semaphore.acquire_guard(Patience::FOREVER).is_ok()
    });
    assert!(holder.join());
    let victim = spawn({
        let semaphore = semaphore.clone();
        move || die_after(fuel, || semaphore.available())
    });
    let taken = spawn({
        let semaphore = semaphore.clone();
        move || acquire(&semaphore, 1, Patience::FOREVER).unwrap()
    });
    taken.join();
    assert!(victim.join().is_err() || semaphore.count().guards() == 0);
    assert_eq!(semaphore.release(1), Ok(()));
    assert_eq!(balance(&semaphore), (1, 0));
}

#[test]
fn a_reclaimer_that_dies_leaves_the_permit_to_the_next() {
    every_death("reclaimer, one who waits", 2, reclaimer_dies);
}

/// The head is killed asleep, or its time is up, while a permit is given, and another stands behind it.
fn head_is_ended(ending: Ending) {
    let semaphore = semaphore(0, 9, 0);
    let waiters = [(); 2].map(|()| {
        let semaphore = semaphore.clone();
        spawn(move || {
            let patience = Patience::Until(Some(Deadline::after(Duration::from_secs(1))));
            die_after(usize::MAX, || acquire(&semaphore, 1, patience))
        })
    });
    let ended = end_sleep(&semaphore.words.word, ending);
    semaphore.release(1).unwrap();
    // Out of time, it may find a permit all the same.
    let spare = u32::from(!ended || ending == Ending::TimedOut);
    semaphore.release(spare).unwrap();
    let taken =
        waiters.map(|waiter| waiter.join()).iter().filter(|end| matches!(end, Ok(Ok(())))).count() as u32;
    assert_eq!(balance(&semaphore), (1 + spare - taken, 0));
}

#[test]
fn a_head_that_is_ended_makes_way() {
    explore("head killed asleep", 2, || head_is_ended(Ending::Killed));
    explore("head timed out", 2, || head_is_ended(Ending::TimedOut));
}

/// A holder dies, and so does the head that would have reclaimed its permit.
fn holder_and_head_die() {
    let semaphore = semaphore(1, 1, 1);
    let place = semaphore.acquire_guard(Patience::FOREVER).unwrap();
    let head = spawn({
        let semaphore = semaphore.clone();
        move || die_after(usize::MAX, || acquire(&semaphore, 1, Patience::FOREVER).unwrap())
    });
    let holder_ended = end_sleep(&semaphore.words.bell, Ending::Killed);
    semaphore.release_guard(place);
    if holder_ended {
        waiter(&semaphore, 1).join();
        assert!(head.join().is_err());
    } else {
        head.join().unwrap();
    }
    assert_eq!(balance(&semaphore), (0, 0));
}

#[test]
fn the_heir_of_a_sleeping_head_gets_the_permit() {
    explore("head killed beside a guard", 4, holder_and_head_die);
}

/// While one sleeps for two permits, a third thread gives and takes one.
fn nobody_passes() {
    let semaphore = semaphore(1, 9, 1);
    let patient = waiter(&semaphore, 2);
    let asleep = semaphore.count().has_sleeper();
    let taken = acquire(&semaphore, 1, Patience::None);
    assert!(!asleep || taken == Err(NotAcquired::NoPermits), "a permit that somebody waits for was taken");
    semaphore.release(if taken.is_ok() { 2 } else { 1 }).unwrap();
    patient.join();
    assert_eq!(semaphore.release(9), Ok(()));
}

#[test]
fn nobody_passes_a_head_that_sleeps() {
    explore("one who waits for two, one who tries", 4, nobody_passes);
}

/// Releases that together are too many: as many are refused as are too many, whatever the order.
fn releases_race() {
    let semaphore = semaphore(0, 1, 1);
    let others = [(); 2].map(|()| {
        let semaphore = semaphore.clone();
        spawn(move || semaphore.release(1).is_ok())
    });
    let mine = semaphore.release(1).is_ok();
    let accepted = others.map(|other| other.join()).into_iter().chain([mine]).filter(|&done| done).count();
    assert_eq!((accepted, balance(&semaphore)), (1, (1, 0)));
}

/// A release beside a guard that is taken and dropped: there is never room for it.
fn release_beside_a_guard() {
    let semaphore = semaphore(1, 1, 1);
    let guarded = spawn({
        let semaphore = semaphore.clone();
        move || semaphore.release_guard(semaphore.acquire_guard(Patience::FOREVER).unwrap())
    });
    assert!(semaphore.release(1).is_err());
    guarded.join();
    assert_eq!(balance(&semaphore), (1, 0));
}

#[test]
fn no_release_gets_beyond_the_bound() {
    explore("three releases", 4, releases_race);
    explore("a release, a guard", 5, release_beside_a_guard);
}

fn deadlock(fault: Mutant, model: impl Fn()) {
    let said = fails_with(fault, model);
    assert!(said.contains("deadlock"), "{said}");
}

#[test]
fn mutants_that_lose_a_wake_are_seen() {
    deadlock(Mutant::BellNotPending, || every_death("", 3, |fuel| giver_dies(fuel, 1)));
    deadlock(Mutant::GiveWithoutWake, || every_death("", 3, |fuel| giver_dies(fuel, 1)));
    deadlock(Mutant::WordBeforeBell, || every_death("", 3, |fuel| giver_dies(fuel, 1)));
    deadlock(Mutant::HeadTrustsSleeper, || explore("", 3, || plain_turns(2)));
    deadlock(Mutant::HoldersUnwatched, || every_death("", 3, |fuel| holder_dies(fuel, Section::plain_turn)));
}

#[test]
fn mutants_that_lose_or_double_a_permit_are_seen() {
    for fault in [Mutant::NotedAfterwards, Mutant::HeirSettlesNothing, Mutant::SlotBeforePermit] {
        fails_with(fault, || every_death("", 2, |fuel| holder_dies(fuel, Section::plain_turn)));
    }
}

#[test]
fn mutant_newcomer_passes_is_seen() {
    let said = fails_with(Mutant::NewcomerPasses, || explore("", 4, nobody_passes));
    assert!(said.contains("waits for"), "{said}");
}

#[test]
fn mutant_relaxed_release_is_seen() {
    let said = fails_with(Mutant::RelaxedRelease, || explore("", 3, || plain_turns(1)));
    assert!(said.contains("Causality violation"), "{said}");
}

#[cfg(feature = "shuttle")]
mod crowd {
    //! Eight threads, those of which that hold guards may die.

    use super::*;
    use crate::primitive::model::explore::crowds::{CROWD, crowd, mortal};

    fn section(permits: u32) -> Arc<Section> {
        Arc::new(Section { semaphore: semaphore(permits, permits, CROWD), number: UnsafeCell::new(0) })
    }

    #[test]
    fn a_crowd_of_mortals_shares_a_permit() {
        crowd("semaphores: eight for one permit", || {
            let section = section(1);
            let guarded = [(); 5].map(|()| {
                let section = section.clone();
                mortal(80, move || section.guarded_turn())
            });
            let plain = [(); 2].map(|()| {
                let section = section.clone();
                spawn(move || section.plain_turn())
            });
            section.plain_turn();
            let _ = guarded.map(|other| other.join());
            plain.into_iter().for_each(|other| other.join());
            assert_eq!(balance(&section.semaphore), (1, 0));
        });
    }

    #[test]
    fn one_of_a_crowd_wants_all_permits() {
        crowd("semaphores: seven for one of three permits, one for all", || {
            let shared = semaphore(3, 3, CROWD);
            let others = [(); CROWD - 1].map(|()| {
                let shared = shared.clone();
                mortal(80, move || shared.release_guard(shared.acquire_guard(Patience::FOREVER).unwrap()))
            });
            acquire(&shared, 3, Patience::FOREVER).unwrap();
            shared.release(3).unwrap();
            let _ = others.map(|other| other.join());
            assert_eq!(balance(&shared), (3, 0));
        });
    }
}
