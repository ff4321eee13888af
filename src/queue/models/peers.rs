//! Models of those who register at a queue: they come, send, leave or die; who waits for them learns it.
//!
//! A receiver that is not told sleeps for ever, which is a deadlock; one that is told too early has not got what was
//! sent, or is told while somebody is registered.

use crate::{
    primitive::{
        Mutant,
        model::{
            explore::{every_death, explore, fails_with, spawn},
            kernel::die_after,
        },
    },
    queue::{
        ends::{Bounds, NotReceived, NotSent, RawQueue},
        peers::{Party, Peers},
    },
    region::Region,
    sync::Patience,
};

/// One message of 8 bytes fills it; two threads can register at each end.
fn queue() -> RawQueue {
    let bounds = Bounds { buffer: 16, most: u32::MAX, peers: 2 };
    RawQueue::new_in(&Region::anonymous(1 << 20).unwrap(), bounds).unwrap()
}

fn peers(queue: &RawQueue) -> &Peers {
    queue.peers().expect("it was made with them")
}

fn senders(queue: &RawQueue) -> Party<'_> {
    peers(queue).senders()
}

fn send(queue: &RawQueue, number: u64) -> Result<(), NotSent> {
    queue.send(&number.to_ne_bytes(), Patience::FOREVER)
}

fn recv(queue: &RawQueue) -> Result<u64, NotReceived> {
    let mut landing = Vec::new();
    queue.recv(&mut landing, Patience::FOREVER)?;
    Ok(u64::from_ne_bytes(landing.try_into().expect("torn")))
}

/// A thread registers, sends one, and leaves; it dies after `fuel` steps. Then another registers and leaves. A
/// receiver waits from the start.
fn sender_dies(fuel: usize) {
    let queue = queue();
    let receiver = spawn({
        let queue = queue.clone();
        move || recv(&queue)
    });
    let victim = spawn({
        let queue = queue.clone();
        move || {
            die_after(fuel, || {
                let place = senders(&queue).enter().unwrap();
                send(&queue, 1).unwrap();
                senders(&queue).leave(place);
            })
        }
    });
    if victim.join().is_err() {
        // Perhaps it had not come so far as to be counted.
        let place = senders(&queue).enter().unwrap();
        senders(&queue).leave(place);
    } else {
        assert!(queue.len() <= 1);
    }
    let received = receiver.join();
    assert!(received == Ok(1) || received == Err(NotReceived::Disconnected), "{received:?}");
    if received == Ok(1) {
        assert_eq!(recv(&queue), Err(NotReceived::Disconnected));
    }
    assert_eq!(queue.len(), 0, "told that nobody is there, while something was");
}

/// A sender is registered, sends one and leaves, while a receiver waits: it gets what was sent before it is told.
fn what_was_sent_comes_first() {
    let queue = queue();
    let place = senders(&queue).enter().unwrap();
    let receiver = spawn({
        let queue = queue.clone();
        move || (recv(&queue), recv(&queue))
    });
    send(&queue, 1).unwrap();
    senders(&queue).leave(place);
    assert_eq!(receiver.join(), (Ok(1), Err(NotReceived::Disconnected)));
}

/// The sender in the first slot has left, and the one in the second goes as soon as a third has come, into the first:
/// there is always somebody.
fn one_comes_before_the_other_goes() {
    let queue = queue();
    let first = senders(&queue).enter().unwrap();
    let second = senders(&queue).enter().unwrap();
    senders(&queue).leave(first);
    let looker = spawn({
        let queue = queue.clone();
        move || senders(&queue).has_gone()
    });
    let third = senders(&queue).enter().unwrap();
    senders(&queue).leave(second);
    assert!(!looker.join(), "told that nobody was registered, and somebody always was");
    senders(&queue).leave(third);
    assert!(senders(&queue).has_gone());
}

/// The ring is full and a sender waits for room; the registered receiver dies after `fuel` steps, or leaves.
fn receiver_dies(fuel: usize) {
    let queue = queue();
    send(&queue, 1).unwrap();
    let sender = spawn({
        let queue = queue.clone();
        move || send(&queue, 2)
    });
    let victim = spawn({
        let queue = queue.clone();
        move || {
            die_after(fuel, || {
                let place = peers(&queue).receivers().enter().unwrap();
                peers(&queue).receivers().leave(place);
            })
        }
    });
    if victim.join().is_err() {
        let place = peers(&queue).receivers().enter().unwrap();
        peers(&queue).receivers().leave(place);
    }
    assert_eq!(sender.join(), Err(NotSent::Disconnected));
    assert_eq!(queue.len(), 1);
}

/// A receiver that waits for the registered sender dies after `fuel` steps; another waits behind it. The sender leaves.
fn waiting_receiver_dies(fuel: usize) {
    let queue = queue();
    let place = senders(&queue).enter().unwrap();
    let victim = spawn({
        let queue = queue.clone();
        move || die_after(fuel, || recv(&queue))
    });
    let other = spawn({
        let queue = queue.clone();
        move || recv(&queue)
    });
    senders(&queue).leave(place);
    assert_eq!(other.join(), Err(NotReceived::Disconnected));
    if let Ok(told) = victim.join() {
        assert_eq!(told, Err(NotReceived::Disconnected));
    }
}

#[test]
fn the_death_of_the_last_sender_reaches_a_receiver() {
    every_death("registered sender, another, receiver", 1, sender_dies);
}

#[test]
fn what_the_last_sender_sent_is_received_first() {
    explore("registered sender, receiver", 3, what_was_sent_comes_first);
}

#[test]
fn a_handover_is_not_taken_for_the_end() {
    explore("three senders, looker", 4, one_comes_before_the_other_goes);
}

#[test]
fn the_death_of_the_last_receiver_reaches_a_sender() {
    every_death("registered receiver, another, waiting sender", 2, receiver_dies);
}

#[test]
fn a_receiver_that_dies_waiting_leaves_the_news_to_the_next() {
    every_death("waiting receiver, heir, sender that leaves", 2, waiting_receiver_dies);
}

#[test]
fn mutant_entry_untold_is_seen() {
    let said = fails_with(Mutant::EntryUntold, || every_death("", 2, sender_dies));
    assert!(said.contains("deadlock"), "{said}");
}

#[test]
fn mutant_peers_unwatched_is_seen() {
    let said = fails_with(Mutant::PeersUnwatched, || every_death("", 2, waiting_receiver_dies));
    assert!(said.contains("deadlock"), "{said}");
}

#[test]
fn mutant_peers_counted_once_is_seen() {
    let said = fails_with(Mutant::PeersCountedOnce, || explore("", 4, one_comes_before_the_other_goes));
    assert!(said.contains("somebody always was"), "{said}");
}

#[test]
fn mutant_gone_at_once_is_seen() {
    let said = fails_with(Mutant::GoneAtOnce, || explore("", 3, what_was_sent_comes_first));
    assert!(said.contains("left == right") || said.contains("Disconnected"), "{said}");
}

#[test]
fn mutant_peers_unfenced_is_seen() {
    let said = fails_with(Mutant::PeersUnfenced, || explore("", 4, one_comes_before_the_other_goes));
    assert!(said.contains("somebody always was"), "{said}");
}

#[cfg(feature = "shuttle")]
mod crowd {
    //! Eight threads, any of which may die.

    use super::*;
    use crate::primitive::model::explore::crowds::{CROWD, crowd, mortal};

    #[test]
    fn a_crowd_of_mortals_comes_and_goes() {
        crowd("peers: five who come, send and go, two who receive until all are gone", || {
            let bounds = Bounds { buffer: 64, most: u32::MAX, peers: CROWD };
            let queue = RawQueue::new_in(&Region::anonymous(1 << 20).unwrap(), bounds).unwrap();
            let own = senders(&queue).enter().unwrap();
            let comers = [1, 2, 3, 4, 5].map(|number| {
                let queue = queue.clone();
                mortal(120, move || {
                    let place = senders(&queue).enter().unwrap();
                    send(&queue, number).unwrap();
                    senders(&queue).leave(place);
                })
            });
            let receivers = [(); 2].map(|()| {
                let queue = queue.clone();
                spawn(move || {
                    let mut received = Vec::new();
                    loop {
                        match recv(&queue) {
                            Ok(number) => received.push(number),
                            Err(reason) => break (received, reason),
                        }
                    }
                })
            });
            let mut sent = Vec::new();
            for (comer, number) in comers.into_iter().zip(1..) {
                sent.extend(comer.join().is_ok().then_some(number));
            }
            senders(&queue).leave(own);
            let mut all = Vec::new();
            for receiver in receivers {
                let (received, reason) = receiver.join();
                assert_eq!(reason, NotReceived::Disconnected);
                all.extend(received);
            }
            all.sort();
            assert!(all.windows(2).all(|two| two[0] != two[1]), "doubled: {all:?}");
            assert!(sent.iter().all(|number| all.contains(number)), "sent {sent:?}, received {all:?}");
        });
    }
}
