//! Models of the queue whose items come back: takers that die, watchers that sleep, joiners that wait.
//!
//! An item is finished once, and nobody waits for ever: a wedge is a deadlock.

use crate::{
    primitive::{
        Mutant, me,
        model::{
            explore::{every_death, fails_with, spawn},
            kernel::die_after,
        },
    },
    queue::{
        ends::Bounds,
        tasks::{Limits, RawTasks},
    },
    region::Region,
    sync::Patience,
};

fn tasks(takers: usize, deliveries: u32) -> RawTasks {
    let limits = Limits { takers, letters: usize::from(deliveries < 9), longest: 8, deliveries };
    let region = Region::anonymous(1 << 16).unwrap();
    RawTasks::new_in(&region, Bounds { buffer: 64, most: u32::MAX, peers: 0 }, limits).unwrap()
}

fn send(tasks: &RawTasks, number: u64) {
    tasks.queue.send(&number.to_ne_bytes(), Patience::FOREVER).unwrap();
}

/// Takes one and finishes it.
fn work(tasks: &RawTasks) -> u64 {
    let mut copy = Vec::new();
    let taken = tasks.take(&mut copy, Patience::FOREVER).expect("nobody closes it");
    tasks.finish(me(), taken.place);
    u64::from_ne_bytes(copy.try_into().expect("torn: an item of another length"))
}

/// Finishes what is left, without waiting.
fn drain(tasks: &RawTasks) -> Vec<u64> {
    let mut left = Vec::new();
    let mut copy = Vec::new();
    while let Ok(taken) = tasks.take(&mut copy, Patience::None) {
        tasks.finish(me(), taken.place);
        left.push(u64::from_ne_bytes(copy[..].try_into().expect("torn")));
    }
    left
}

/// A taker dies after `fuel` steps of taking and finishing; another works beside it, and must hear of its death.
fn taker_dies(fuel: usize) {
    let tasks = tasks(2, u32::MAX);
    send(&tasks, 1);
    send(&tasks, 2);
    let victim = spawn({
        let tasks = tasks.clone();
        move || die_after(fuel, || work(&tasks))
    });
    let fate = victim.join();
    let mut finished = drain(&tasks);
    finished.extend(fate.ok());
    finished.sort();
    match fate {
        Ok(_) => assert_eq!(finished, [1, 2]),
        // It may have finished one, and died before it could say so.
        Err(_) => assert!([&[1, 2][..], &[1], &[2]].contains(&&finished[..]), "finished {finished:?}"),
    }
    assert_eq!(tasks.unfinished(), 0);
}

/// The same while another waits, for what the dead had taken. When all is finished there is one more for each of them.
fn taker_dies_while_another_waits(fuel: usize) {
    let tasks = tasks(2, u32::MAX);
    send(&tasks, 1);
    let victim = spawn({
        let tasks = tasks.clone();
        move || die_after(fuel, || work(&tasks))
    });
    let other = spawn({
        let tasks = tasks.clone();
        move || work(&tasks)
    });
    assert!(tasks.join(None));
    send(&tasks, 2);
    send(&tasks, 3);
    let fate = victim.join();
    let mut finished = vec![other.join()];
    finished.extend(fate.ok());
    finished.extend(drain(&tasks));
    finished.sort();
    let unsaid = [&[1, 2][..], &[1, 3], &[2, 3]].contains(&&finished[..]);
    assert!(finished == [1, 2, 3] || (fate.is_err() && unsaid), "finished {finished:?}");
    assert_eq!(tasks.unfinished(), 0);
}

/// One holds an item, and dies or gives it back; another sleeps until it comes back.
fn holder_dies_while_another_waits(fuel: usize) {
    let tasks = tasks(2, u32::MAX);
    send(&tasks, 1);
    let taken = tasks.take(&mut Vec::new(), Patience::FOREVER).expect("nobody closes it");
    let other = spawn({
        let tasks = tasks.clone();
        move || work(&tasks)
    });
    let _ = die_after(fuel, || tasks.give_back(me(), taken.place));
    assert_eq!((other.join(), tasks.unfinished()), (1, 0));
}

/// One holds the only place; another waits for it and dies, or gets it.
fn finisher_dies_while_another_waits_for_its_place(fuel: usize) {
    let tasks = tasks(1, u32::MAX);
    send(&tasks, 1);
    send(&tasks, 2);
    let victim = spawn({
        let tasks = tasks.clone();
        move || {
            let taken = tasks.take(&mut Vec::new(), Patience::FOREVER).expect("nobody closes it");
            die_after(fuel, || tasks.finish(me(), taken.place)).is_ok()
        }
    });
    let other = spawn({
        let tasks = tasks.clone();
        move || work(&tasks)
    });
    let mut finished = vec![other.join()];
    victim.join();
    finished.extend(drain(&tasks));
    assert!(finished.len() <= 2);
    assert_eq!(tasks.unfinished(), 0);
}

/// Two wait until all is finished; who finishes the last item dies.
fn finisher_dies_while_two_join(fuel: usize) {
    let tasks = tasks(1, u32::MAX);
    send(&tasks, 1);
    let taken = tasks.take(&mut Vec::new(), Patience::FOREVER).expect("nobody closes it");
    let joiners = [(); 2].map(|()| {
        let tasks = tasks.clone();
        spawn(move || assert!(tasks.join(None)))
    });
    if die_after(fuel, || tasks.finish(me(), taken.place)).is_err() {
        drain(&tasks);
    }
    joiners.into_iter().for_each(|joiner| joiner.join());
}

/// The first of two joiners dies, wherever it is.
fn joiner_dies(fuel: usize) {
    let tasks = tasks(1, u32::MAX);
    send(&tasks, 1);
    let taken = tasks.take(&mut Vec::new(), Patience::FOREVER).expect("nobody closes it");
    let victim = spawn({
        let tasks = tasks.clone();
        move || die_after(fuel, || tasks.join(None)).is_ok()
    });
    let joiner = spawn({
        let tasks = tasks.clone();
        move || assert!(tasks.join(None))
    });
    tasks.finish(me(), taken.place);
    victim.join();
    joiner.join();
}

/// One waits until all is finished; who takes the only item from the ring dies, and its heir finishes it.
fn taker_dies_while_one_joins(fuel: usize) {
    let tasks = tasks(1, u32::MAX);
    send(&tasks, 1);
    let joiner = spawn({
        let tasks = tasks.clone();
        move || assert!(tasks.join(None))
    });
    if die_after(fuel, || work(&tasks)).is_err() {
        drain(&tasks);
    }
    joiner.join();
    assert_eq!(tasks.unfinished(), 0);
}

/// An item was handed out too often; who makes it a dead letter dies, while another waits until all is finished.
fn undertaker_dies(fuel: usize) {
    let tasks = tasks(1, 1);
    send(&tasks, 1);
    let taken = tasks.take(&mut Vec::new(), Patience::FOREVER).expect("nobody closes it");
    tasks.give_back(me(), taken.place);
    let joiner = spawn({
        let tasks = tasks.clone();
        move || assert!(tasks.join(None))
    });
    if die_after(fuel, || drain(&tasks)).is_err() {
        drain(&tasks);
    }
    joiner.join();
    let mut copy = Vec::new();
    assert_eq!((tasks.letters(), tasks.open_letter(&mut copy)), (1, Ok(Some(1))));
    assert_eq!((tasks.letters(), copy), (0, 1_u64.to_ne_bytes().to_vec()));
}

#[test]
fn a_taker_that_dies_gives_its_item_back() {
    every_death("taker, heir", 4, taker_dies);
}

#[test]
fn a_receiver_that_waits_hears_of_a_takers_death() {
    every_death("taker, waiting receiver, sender", 0, taker_dies_while_another_waits);
}

#[test]
fn a_receiver_that_sleeps_hears_of_a_holders_death() {
    every_death("holder, sleeping receiver", 4, holder_dies_while_another_waits);
}

#[test]
fn a_place_that_is_freed_wakes_who_waits_for_it() {
    every_death("finisher, receiver without a place", 2, finisher_dies_while_another_waits_for_its_place);
}

#[test]
fn a_finisher_that_dies_leaves_no_joiner_waiting() {
    every_death("finisher, two joiners", 2, finisher_dies_while_two_join);
}

#[test]
fn a_taker_that_dies_leaves_no_joiner_waiting() {
    every_death("taker, heir, joiner", 1, taker_dies_while_one_joins);
}

#[test]
fn a_joiner_that_dies_leaves_no_other_waiting() {
    every_death("joiner, joiner, finisher", 2, joiner_dies);
}

#[test]
fn a_dead_letter_is_made_once_and_joiners_hear_of_it() {
    every_death("undertaker, joiner", 3, undertaker_dies);
}

#[test]
fn mutant_lease_not_voided_is_seen() {
    fails_with(Mutant::LeaseNotVoided, || every_death("", 2, taker_dies));
}

#[test]
fn mutant_lease_after_head_is_seen() {
    fails_with(Mutant::LeaseAfterHead, || every_death("", 2, taker_dies));
}

#[test]
fn mutant_watch_without_waiters_is_seen() {
    let said =
        fails_with(Mutant::WatchWithoutWaiters, || every_death("", 4, holder_dies_while_another_waits));
    assert!(said.contains("deadlock"), "{said}");
}

#[test]
fn mutant_takers_unwatched_is_seen() {
    fails_with(Mutant::TakersUnwatched, || every_death("", 4, holder_dies_while_another_waits));
}

#[test]
fn mutant_lease_freed_then_wake_is_seen() {
    let said = fails_with(Mutant::LeaseFreedThenWake, || every_death("", 4, holder_dies_while_another_waits));
    assert!(said.contains("deadlock"), "{said}");
}

#[test]
fn mutant_finish_then_wake_is_seen() {
    let said = fails_with(Mutant::FinishThenWake, || every_death("", 2, finisher_dies_while_two_join));
    assert!(said.contains("deadlock"), "{said}");
}

#[test]
fn mutant_finish_wakes_one_is_seen() {
    let said = fails_with(Mutant::FinishWakesOne, || every_death("", 2, finisher_dies_while_two_join));
    assert!(said.contains("deadlock"), "{said}");
}

#[test]
fn mutant_taking_not_told_is_seen() {
    let said = fails_with(Mutant::TakingNotTold, || every_death("", 1, taker_dies_while_one_joins));
    assert!(said.contains("deadlock"), "{said}");
}

#[cfg(feature = "shuttle")]
mod crowd {
    //! Eight threads, five of which may die.

    use super::*;
    use crate::primitive::model::explore::crowds::{crowd, mortal};

    #[test]
    fn a_crowd_of_mortals_finishes_all() {
        crowd("tasks: five who take one and may die, two who do not, one who sends and joins", || {
            let tasks = tasks(4, u32::MAX);
            let mortals = [(); 5].map(|()| {
                let tasks = tasks.clone();
                mortal(200, move || work(&tasks))
            });
            let others = [(); 2].map(|()| {
                let tasks = tasks.clone();
                spawn(move || work(&tasks))
            });
            (1..=7).for_each(|number| send(&tasks, number));
            let mut finished: Vec<u64> = others.into_iter().map(|other| other.join()).collect();
            let mut dead = 0;
            for mortal in mortals {
                match mortal.join() {
                    Ok(number) => finished.push(number),
                    Err(_) => dead += 1,
                }
            }
            finished.extend(drain(&tasks));
            assert!(tasks.join(None));
            assert_eq!(tasks.unfinished(), 0);
            finished.sort();
            assert!(finished.windows(2).all(|two| two[0] != two[1]), "finished twice: {finished:?}");
            // One that died may have finished its item, and not said so.
            assert!(finished.len() + dead >= 7, "{finished:?} and {dead} dead");
        });
    }
}
