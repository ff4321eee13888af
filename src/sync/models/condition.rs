//! Models of the condition: notifications that are made while waiters come, are chosen, and die.
//!
//! A lost notification is a deadlock. Whoever waits looks again after each wait, so that one for nothing is no fault.
//! What the lock guards lies in an `UnsafeCell`. The user's lock and the condition's words are the real ones, so every
//! step of either may be the victim's last.
//!
//! | model                                                  | threads | preemptions |
//! |--------------------------------------------------------|---------|-------------|
//! | a waiter, one who sets and notifies                    | 2       | 4           |
//! | two turns that are handed over by one condition        | 2       | 3           |
//! | two who are notified, and one baton                    | 2       | 4           |
//! | a latecomer beside one who was notified                | 3       | 2           |
//! | two waiters, one notification for two, handed on       | 3       | 2           |
//! | two waiters, of whom one dies; or the notifier does    | 3       | 1           |
//! | one who waits alone, and one who comes and dies        | 3       | 1           |
//!
//! What takes more preemptions than are affordable here (a token that is taken before the lock, a chosen one without
//! the baton) the exact-kill harness sees.

use std::{sync::Arc, time::Duration};

use crate::{
    error::{ConditionError, LockError},
    primitive::{
        Mutant, UnsafeCell, me,
        model::{
            explore::{Joiner, every_death, explore, fails_with, newest_first, spawn},
            kernel::{Ending, crash_point, die_after, end_sleep},
        },
    },
    sync::{
        Condition, Lock, LockGuard,
        condition::{RawCondition, Ticket, Turn},
    },
};

/// Numbers behind a lock, and a condition of it.
struct Room {
    lock: Lock,
    changed: Condition,
    numbers: UnsafeCell<[u32; 3]>,
}

// SAFETY: loom checks every access to the numbers.
unsafe impl Sync for Room {}
// SAFETY: nothing in it belongs to a thread.
unsafe impl Send for Room {}

impl Room {
    fn new() -> Arc<Room> {
        let lock = Lock::new().unwrap();
        let changed = Condition::new(&lock).unwrap();
        Arc::new(Room { lock, changed, numbers: UnsafeCell::new([0; 3]) })
    }

    fn enter(&self) -> LockGuard<'_> {
        self.healed(self.lock.lock())
    }

    /// Whoever is told of a death notifies: the dead one may have taken a notification.
    fn healed<'a>(&self, taken: Result<LockGuard<'a>, LockError<LockGuard<'a>>>) -> LockGuard<'a> {
        taken.unwrap_or_else(|error| {
            let mut guard = error.into_guard().expect("the lock can be taken");
            guard.make_consistent();
            self.changed.notify_all();
            guard
        })
    }

    fn get(&self, index: usize) -> u32 {
        // SAFETY: loom panics if anybody else is at it.
        self.numbers.with(|numbers| unsafe { (*numbers)[index] })
    }

    fn add(&self, index: usize) {
        // SAFETY: as above.
        self.numbers.with_mut(|numbers| unsafe { (*numbers)[index] += 1 });
    }

    fn wait<'a>(&self, guard: LockGuard<'a>) -> LockGuard<'a> {
        match self.changed.wait(guard) {
            Ok(guard) => guard,
            Err(ConditionError::Lock(error)) => self.healed(Err(error)),
            Err(other) => panic!("{other}"),
        }
    }

    /// Waits until the number is not 0, and takes one off.
    fn take_one(&self, index: usize) {
        let mut guard = self.enter();
        while self.get(index) == 0 {
            guard = self.wait(guard);
        }
        // SAFETY: as above.
        self.numbers.with_mut(|numbers| unsafe { (*numbers)[index] -= 1 });
        drop(guard);
    }

    /// Waits until the number is not 0.
    fn see(&self, index: usize) -> LockGuard<'_> {
        let mut guard = self.enter();
        while self.get(index) == 0 {
            guard = self.wait(guard);
        }
        guard
    }

    /// Adds one, and notifies one: with the lock, or after it.
    fn give_one(&self, index: usize, within: bool) {
        let guard = self.enter();
        self.add(index);
        if within {
            self.changed.notify_one();
            drop(guard);
        } else {
            drop(guard);
            self.changed.notify_one();
        }
    }
}

/// One waits, one gives.
fn a_notification_arrives(within: bool) {
    let room = Room::new();
    let waiter = spawn({
        let room = room.clone();
        move || room.take_one(0)
    });
    room.give_one(0, within);
    waiter.join();
}

/// Two hand a turn to and fro by one condition: each notifies, and then waits itself.
fn turns_go_to_and_fro() {
    let room = Room::new();
    let other = spawn({
        let room = room.clone();
        move || {
            drop(room.see(0));
            room.give_one(1, true);
        }
    });
    let mut guard = room.enter();
    room.add(0);
    room.changed.notify_one();
    while room.get(1) == 0 {
        guard = room.wait(guard);
    }
    drop(guard);
    other.join();
}

/// The first waits for its number, and is notified when nobody else waits. Then a latecomer waits for another. The
/// notification is the first one's.
fn a_latecomer_leaves_the_notification_to_whom_it_was_for() {
    let room = Room::new();
    let first = spawn({
        let room = room.clone();
        move || drop(room.see(0))
    });
    let latecomer = spawn({
        let room = room.clone();
        move || {
            let guard = room.enter();
            room.add(0);
            room.changed.notify_one();
            drop(guard);
            drop(room.see(1));
        }
    });
    first.join();
    let guard = room.enter();
    room.add(1);
    room.changed.notify_all();
    drop(guard);
    latecomer.join();
}

/// A victim and another wait for one each; both are given. Whatever became of the victim, the other gets one.
fn a_waiter_dies(fuel: usize) {
    let room = Room::new();
    let victim = spawn({
        let room = room.clone();
        move || die_after(fuel, || room.take_one(0))
    });
    let other = spawn({
        let room = room.clone();
        move || room.take_one(1)
    });
    // Only the other can use this one, but whoever was notified may be the victim: so both are, one by one.
    let guard = room.enter();
    room.add(0);
    room.add(1);
    room.changed.notify_one();
    room.changed.notify_one();
    drop(guard);
    let _ = victim.join();
    other.join();
}

/// A victim and another stand in line, and one is notified. Without the user's lock, of which nothing but the waiting
/// for it is left: a place to die. If the victim dies before it has taken the token, the other must be woken.
fn the_chosen_one_dies(fuel: usize) {
    let raw = Arc::new(RawCondition::new());
    let [victim, other] = [fuel, usize::MAX].map(|fuel| {
        let (raw, ticket) = (raw.clone(), raw.announce());
        spawn(move || {
            let fate = die_after(fuel, || serve(&raw, ticket));
            if fate.is_ok() {
                raw.notify(1); // Whoever is done hands it on.
            }
            fate
        })
    });
    raw.notify(1);
    let _ = victim.join();
    // The token is gone: taken by a victim that did not come to hand it on.
    if raw.counts().1 == 0 {
        raw.notify(1);
    }
    assert!(other.join().is_ok());
}

/// One waits, alone perhaps. A victim comes and stands in line beside it, is woken first, and dies: then the other must
/// be woken.
fn who_came_beside_a_loner_dies(fuel: usize) {
    let raw = Arc::new(RawCondition::new());
    let ticket = raw.announce();
    let loner = spawn({
        let raw = raw.clone();
        // It ends with the baton, and leaves the token to the other.
        move || _ = raw.stand_in_line(me(), ticket, None)
    });
    let _ = die_after(fuel, || {
        let ticket = raw.announce();
        let notified = raw.clone();
        spawn(move || notified.notify(1));
        serve(&raw, ticket);
    });
    // Not given, or taken by the victim.
    if raw.counts().1 == 0 {
        raw.notify(1);
    }
    loner.join();
}

/// Stands in line until its turn is over.
fn serve(raw: &RawCondition, ticket: Ticket) {
    let turn = raw.stand_in_line(me(), ticket, None);
    crash_point();
    raw.take_leave(ticket);
    if turn == Turn::Chosen {
        raw.pass_baton(me());
    }
}

/// Two who wait, in a new room, until the first number is not 0.
fn two_who_wait() -> (Arc<Room>, [Joiner<()>; 2]) {
    let room = Room::new();
    let waiters = [(); 2].map(|()| {
        let room = room.clone();
        spawn(move || drop(room.see(0)))
    });
    (room, waiters)
}

/// Who notifies all dies; if it has come so far as to change anything, a later notification lets all go.
fn a_notifier_of_all_dies(fuel: usize) {
    let (room, waiters) = two_who_wait();
    let guard = room.enter();
    room.add(0);
    drop(guard);
    let _ = die_after(fuel, || room.changed.notify_all());
    room.changed.notify_one();
    room.changed.notify_one();
    let _ = waiters.map(|waiter| waiter.join());
}

/// Two wait for one each, and are notified in one call that wakes one of them.
fn one_passes_it_on_to_the_next() {
    let room = Room::new();
    let waiters = [(); 2].map(|()| {
        let room = room.clone();
        spawn(move || room.take_one(0))
    });
    let guard = room.enter();
    room.add(0);
    room.add(0);
    room.changed.notify_n(2);
    drop(guard);
    let _ = waiters.map(|waiter| waiter.join());
}

/// Two have been notified, and find one baton.
fn the_second_hears_of_the_baton() {
    let raw = Arc::new(RawCondition::new());
    let tickets = [raw.announce(), raw.announce()];
    raw.notify(2);
    let first = spawn({
        let raw = raw.clone();
        move || serve(&raw, tickets[0])
    });
    serve(&raw, tickets[1]);
    first.join();
}

/// A waiter's time is up, while another waits and one is notified.
fn a_waiters_time_is_up() {
    let room = Room::new();
    let limited = spawn({
        let room = room.clone();
        move || {
            let mut guard = room.enter();
            while room.get(1) == 0 {
                let ended = room.changed.wait_timeout(guard, Duration::from_secs(1));
                let expired;
                (guard, expired) = ended.expect("nobody dies here");
                if expired {
                    break;
                }
                // Not for us, so for the other.
                room.changed.notify_one();
            }
            drop(guard);
        }
    });
    let waiter = spawn({
        let room = room.clone();
        move || room.take_one(0)
    });
    end_sleep(&room.changed.raw.baton, Ending::TimedOut);
    room.give_one(0, true);
    waiter.join();
    let guard = room.enter();
    room.add(1);
    room.changed.notify_all();
    drop(guard);
    limited.join();
}

#[test]
fn notifications_arrive() {
    explore("a waiter, notified with the lock", 4, || a_notification_arrives(true));
    explore("a waiter, notified without", 4, || a_notification_arrives(false));
}

#[test]
fn a_turn_goes_to_and_fro() {
    explore("two turns by one condition", 3, turns_go_to_and_fro);
}

#[test]
fn who_comes_late_takes_nobodys_notification() {
    explore("a latecomer", 2, a_latecomer_leaves_the_notification_to_whom_it_was_for);
}

#[test]
fn a_notification_of_two_reaches_both() {
    explore("two waiters, notified at once", 2, one_passes_it_on_to_the_next);
}

#[test]
fn a_baton_that_is_freed_is_heard_of() {
    explore("two who are notified", 4, the_second_hears_of_the_baton);
}

#[test]
fn mutant_baton_not_compared_again_is_seen() {
    is_seen(Mutant::BatonNotComparedAgain, || explore("", 4, the_second_hears_of_the_baton));
}

#[test]
fn a_waiter_that_dies_holds_nobody_up() {
    every_death("two waiters, two notifications", 1, a_waiter_dies);
}

#[test]
fn a_chosen_one_that_dies_leaves_its_notification() {
    every_death("two waiters, one notification", 1, the_chosen_one_dies);
}

#[test]
fn a_loner_is_reached_whoever_dies_beside_it() {
    newest_first(|| every_death("a loner, one beside it", 1, who_came_beside_a_loner_dies));
}

#[test]
fn a_notifier_of_all_that_dies_leaves_all_reachable() {
    every_death("two waiters, a notifier of all", 1, a_notifier_of_all_dies);
}

#[test]
fn a_waiter_whose_time_is_up_takes_no_notification_away() {
    explore("a waiter whose time is up, and another", 1, a_waiters_time_is_up);
}

/// Each known fault, put back in, must be seen.
fn is_seen(fault: Mutant, model: impl Fn()) {
    let said = fails_with(fault, model);
    assert!(said.contains("deadlock"), "{said}");
}

#[test]
fn mutant_late_waiter_takes_is_seen() {
    is_seen(Mutant::LateWaiterTakes, || {
        explore("", 2, a_latecomer_leaves_the_notification_to_whom_it_was_for);
    });
}

#[test]
fn mutant_listener_not_pending_is_seen() {
    is_seen(Mutant::ListenerNotPending, || every_death("", 1, the_chosen_one_dies));
}

#[test]
fn mutant_loner_not_disturbed_is_seen() {
    let model = || every_death("", 1, who_came_beside_a_loner_dies);
    is_seen(Mutant::LonerNotDisturbed, || newest_first(model));
}

#[test]
fn mutant_baton_not_passed_is_seen() {
    is_seen(Mutant::BatonNotPassed, || explore("", 2, one_passes_it_on_to_the_next));
}

#[test]
fn mutant_sweep_left_undone_is_seen() {
    is_seen(Mutant::SweepLeftUndone, || every_death("", 1, a_notifier_of_all_dies));
}

#[test]
fn mutant_announce_after_leaving_is_seen() {
    is_seen(Mutant::AnnounceAfterLeaving, || explore("", 4, || a_notification_arrives(true)));
}

/// Two wait, and all are notified, once.
fn all_are_let_go() {
    let (room, waiters) = two_who_wait();
    let guard = room.enter();
    room.add(0);
    room.changed.notify_all();
    drop(guard);
    let _ = waiters.map(|waiter| waiter.join());
}

#[test]
fn one_call_lets_all_go() {
    explore("two waiters, one who notifies all", 1, all_are_let_go);
}

#[test]
fn mutant_notified_asleep_is_seen() {
    is_seen(Mutant::NotifiedAsleep, || explore("", 2, || a_notification_arrives(true)));
}

#[test]
fn mutant_sweep_wakes_one_is_seen() {
    is_seen(Mutant::SweepWakesOne, || explore("", 2, all_are_let_go));
}

#[cfg(feature = "shuttle")]
mod crowd {
    //! Eight threads, of which those that wait may die.

    use super::*;
    use crate::primitive::model::explore::crowds::{crowd, mortal};

    #[test]
    fn a_crowd_of_mortals_waits_for_its_share() {
        crowd("conditions: five who take one, two who give, one who looks", || {
            let room = Room::new();
            let takers = [(); 5].map(|()| {
                let room = room.clone();
                mortal(120, move || room.take_one(0))
            });
            let givers = [2, 3].map(|count| {
                let room = room.clone();
                spawn(move || (0..count).for_each(|turn| room.give_one(0, turn % 2 == 0)))
            });
            givers.into_iter().for_each(|giver| giver.join());
            let mut taken = 0;
            for taker in takers {
                // Who died with the lock may have taken a notification along: whoever enters next is told.
                drop(room.enter());
                taken += u32::from(taker.join().is_ok());
            }
            let _guard = room.enter();
            assert!(room.get(0) + taken <= 5, "{} left, {taken} taken", room.get(0));
        });
    }
}
