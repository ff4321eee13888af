//! Models of one wait for a queue and an event: nothing that comes is slept through, and nobody's wake is taken.

use std::sync::Arc;

use crate::{
    primitive::{
        Mutant,
        model::{
            explore::{every_death, explore, fails_with, spawn},
            kernel::die_after,
        },
        wait_any,
    },
    queue::ends::{Bounds, RawQueue},
    region::Region,
    sync::{Event, Patience},
};

#[derive(Clone)]
struct Sources {
    queue: RawQueue,
    event: Arc<Event>,
}

fn sources() -> Sources {
    let region = Region::anonymous(1 << 20).unwrap();
    let queue = RawQueue::new_in(&region, Bounds { buffer: 32, most: u32::MAX, peers: 0 }).unwrap();
    Sources { queue, event: Arc::new(Event::new_in(&region).unwrap()) }
}

/// What `wait_any` does with the two.
fn wait(sources: &Sources) -> (bool, bool) {
    let mut began = None;
    loop {
        let (queue, event) = (sources.queue.watch(), sources.event.watch(&mut began));
        if let (Some(queue), Some(event)) = (queue, event) {
            wait_any(&[queue, event], None);
        } else {
            return (queue.is_none(), event.is_none());
        }
    }
}

fn send(queue: &RawQueue) {
    queue.send(&7_u64.to_ne_bytes(), Patience::FOREVER).unwrap();
}

fn recv(queue: &RawQueue) {
    queue.recv(&mut Vec::new(), Patience::FOREVER).unwrap();
}

/// One waits for both; a sender dies after `fuel` steps, and if nothing came of it another sends.
fn sender_dies(fuel: usize) {
    let sources = sources();
    let waiter = spawn({
        let sources = sources.clone();
        move || wait(&sources)
    });
    let victim = spawn({
        let queue = sources.queue.clone();
        move || die_after(fuel, || send(&queue))
    });
    let _ = victim.join();
    if sources.queue.len() == 0 {
        send(&sources.queue);
    }
    assert_eq!(waiter.join(), (true, false));
}

/// One waits for both and one receives; two are sent. Neither takes the other's wake.
fn beside_a_receiver() {
    let sources = sources();
    let waiter = spawn({
        let sources = sources.clone();
        move || wait(&sources)
    });
    let receiver = spawn({
        let queue = sources.queue.clone();
        move || recv(&queue)
    });
    send(&sources.queue);
    receiver.join();
    send(&sources.queue);
    assert_eq!(waiter.join(), (true, false));
}

/// One waits for both and dies after `fuel` steps; one receives, and one is sent.
fn waiter_dies(fuel: usize) {
    let sources = sources();
    let victim = spawn({
        let sources = sources.clone();
        move || die_after(fuel, || wait(&sources))
    });
    let receiver = spawn({
        let queue = sources.queue.clone();
        move || recv(&queue)
    });
    send(&sources.queue);
    receiver.join();
    sources.event.set();
    if let Ok((_, event)) = victim.join() {
        assert!(event || sources.queue.len() == 0);
    }
}

/// One waits for both; the event is set and cleared at once. If the wait had begun by then, it has come to an end.
fn a_pulse_ends_the_wait() {
    let sources = sources();
    let waiter = spawn({
        let sources = sources.clone();
        move || wait(&sources)
    });
    // Its bit is there: it has begun.
    let announced = format!("{:?}", sources.event).contains("sleepers: true");
    sources.event.set();
    sources.event.clear();
    if !announced {
        send(&sources.queue);
    }
    let (queue, event) = waiter.join();
    assert!(if announced { event } else { event || queue });
}

#[test]
fn a_sender_that_dies_is_waited_for_no_longer_than_the_next() {
    every_death("sender, another, waiter for two things", 3, sender_dies);
}

#[test]
fn who_waits_for_two_things_takes_nobodys_wake() {
    explore("waiter for two things, receiver, sender", 2, beside_a_receiver);
}

#[test]
fn who_dies_waiting_for_two_things_takes_nobodys_wake() {
    every_death("waiter for two things, receiver, sender", 1, waiter_dies);
}

#[test]
fn a_pulse_is_not_missed() {
    explore("waiter for two things, pulse", 4, a_pulse_ends_the_wait);
}

#[test]
fn mutant_commit_wakes_one_is_seen() {
    let said = fails_with(Mutant::CommitWakesOne, || explore("", 2, beside_a_receiver));
    assert!(said.contains("deadlock"), "{said}");
}

#[test]
fn mutant_commit_then_wake_is_seen() {
    let said = fails_with(Mutant::CommitThenWake, || every_death("", 3, sender_dies));
    assert!(said.contains("deadlock"), "{said}");
}

#[test]
fn mutant_pulse_forgotten_is_seen() {
    let said = fails_with(Mutant::PulseForgotten, || explore("", 4, a_pulse_ends_the_wait));
    assert!(said.contains("deadlock"), "{said}");
}

#[cfg(feature = "shuttle")]
mod crowd {
    //! Eight threads, some of which may die.

    use super::*;
    use crate::primitive::model::explore::crowds::{crowd, mortal};

    #[test]
    fn a_crowd_of_mortals_waits_for_two_things() {
        crowd("waits for two things: five who wait, two who receive, one who sends and sets", || {
            let sources = sources();
            let waiters = [(); 5].map(|()| {
                let sources = sources.clone();
                mortal(40, move || wait(&sources))
            });
            let receivers = [(); 2].map(|()| {
                let queue = sources.queue.clone();
                spawn(move || recv(&queue))
            });
            send(&sources.queue);
            send(&sources.queue);
            receivers.into_iter().for_each(|receiver| receiver.join());
            sources.event.set();
            for waiter in waiters {
                if let Ok((queue, event)) = waiter.join() {
                    assert!(queue || event);
                }
            }
        });
    }
}
