//! Models of the queue's two ends with the ring between them: locks, head of line, close.
//!
//! Payloads lie in the modelled buffer, whose cells report a copy that races with another. Sums are kept of what was
//! accepted and what was received: a message that is lost, doubled or torn is an assertion, a wedge is a deadlock.

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
        frame,
    },
    region::Region,
    sync::Patience,
};

/// One message of 8 bytes fills it.
const ONE: usize = 16;
/// Two do.
const TWO: usize = 32;

fn queue(buffer: usize) -> RawQueue {
    RawQueue::new_in(&Region::anonymous(1).unwrap(), Bounds { buffer, most: u32::MAX, peers: 0 }).unwrap()
}

fn send(queue: &RawQueue, number: u64) -> Result<(), NotSent> {
    queue.send(&number.to_ne_bytes(), Patience::FOREVER)
}

fn recv(queue: &RawQueue, patience: Patience) -> Result<u64, NotReceived> {
    let mut landing = Vec::new();
    queue.recv(&mut landing, patience)?;
    Ok(u64::from_ne_bytes(landing.try_into().expect("torn: a message of another length")))
}

/// The numbers from `first` on, as a batch.
fn batch(first: u64, count: u64) -> Vec<u8> {
    let mut batch = Vec::new();
    for number in first..first + count {
        let write = |to: &mut Vec<u8>| {
            to.extend(number.to_ne_bytes());
            Ok::<(), ()>(())
        };
        frame::append(&mut batch, 8, write).unwrap().unwrap();
    }
    batch
}

fn send_many(queue: &RawQueue, first: u64, count: u64) -> Result<(), NotSent> {
    let mut sent = 0;
    let result = queue.send_many(&batch(first, count), None, &mut sent, Patience::FOREVER);
    assert!(result.is_err() || sent as u64 == count);
    result
}

fn recv_many(queue: &RawQueue) -> Vec<u64> {
    let mut batch = Vec::new();
    queue.recv_many(&mut batch, 9, Patience::FOREVER).expect("nobody closes it");
    frame::payloads(&batch).map(|bytes| u64::from_ne_bytes(bytes.try_into().expect("torn"))).collect()
}

/// What is left, without waiting.
fn drain(queue: &RawQueue) -> Vec<u64> {
    std::iter::from_fn(|| recv(queue, Patience::None).ok()).collect()
}

/// A sender dies after `fuel` steps; then another sends. One receiver waits from the start.
fn sender_dies(fuel: usize, buffer: usize) {
    let queue = queue(buffer);
    let receiver = spawn({
        let queue = queue.clone();
        move || recv(&queue, Patience::FOREVER).unwrap()
    });
    let victim = spawn({
        let queue = queue.clone();
        move || die_after(fuel, || send(&queue, 1).unwrap())
    });
    let survived = victim.join().is_ok();
    send(&queue, 2).unwrap();
    let mut received = vec![receiver.join()];
    received.extend(drain(&queue));
    let accepted_both = received == [1, 2];
    assert!(accepted_both || (!survived && received == [2]), "received {received:?}, survived {survived}");
    assert_eq!(queue.len(), 0);
}

/// A receiver dies after `fuel` steps, another waits beside it, and a sender sends to both.
fn receiver_dies(fuel: usize, buffer: usize) {
    let queue = queue(buffer);
    let victim = spawn({
        let queue = queue.clone();
        move || die_after(fuel, || recv(&queue, Patience::FOREVER).unwrap())
    });
    let receiver = spawn({
        let queue = queue.clone();
        move || recv(&queue, Patience::FOREVER).unwrap()
    });
    send(&queue, 1).unwrap();
    send(&queue, 2).unwrap();
    let fate = victim.join();
    let mut received = vec![receiver.join()];
    received.extend(fate.ok());
    received.extend(drain(&queue));
    received.sort();
    match fate {
        Ok(_) => assert_eq!(received, [1, 2]),
        // The dead may have taken one with it.
        Err(_) => assert!([&[1, 2][..], &[1], &[2]].contains(&&received[..]), "received {received:?}"),
    }
}

/// The ring is full; a sender waits for room and dies after `fuel` steps; `behind` it another waits for the lock.
fn waiting_sender_dies(fuel: usize, behind: bool) {
    let queue = queue(ONE);
    send(&queue, 1).unwrap();
    let victim = spawn({
        let queue = queue.clone();
        move || die_after(fuel, || send(&queue, 2).unwrap())
    });
    let other = behind.then(|| {
        let queue = queue.clone();
        spawn(move || send(&queue, 3).unwrap())
    });
    let mut received = vec![recv(&queue, Patience::FOREVER).unwrap()];
    if behind {
        // The victim's or the other's: whoever lives must get room.
        received.push(recv(&queue, Patience::FOREVER).unwrap());
    }
    let survived = victim.join().is_ok();
    if behind && (survived || received[1] == 2) {
        received.push(recv(&queue, Patience::FOREVER).unwrap());
    }
    match other {
        Some(other) => other.join(),
        None => {
            received.extend(drain(&queue));
            send(&queue, 3).unwrap();
        }
    }
    // The victim may have died of telling that it had sent.
    received.extend(drain(&queue));
    received.sort();
    let all = received == [1, 2, 3];
    assert!(all || (!survived && received == [1, 3]), "received {received:?}, survived {survived}");
}

/// A sender of two dies after `fuel` steps, where two fit: they come together or not at all. Then another sends; a
/// receiver of batches waits from the start.
fn batch_sender_dies(fuel: usize) {
    let queue = queue(TWO);
    let receiver = spawn({
        let queue = queue.clone();
        move || recv_many(&queue)
    });
    let victim = spawn({
        let queue = queue.clone();
        move || die_after(fuel, || send_many(&queue, 1, 2).unwrap())
    });
    let survived = victim.join().is_ok();
    send_many(&queue, 9, 1).unwrap();
    let mut received = receiver.join();
    received.extend(drain(&queue));
    let all = received == [1, 2, 9];
    assert!(all || (!survived && received == [9]), "received {received:?}, survived {survived}");
}

/// A receiver of batches dies after `fuel` steps; a sender of three waits for room. The heir gets the rest.
fn batch_receiver_dies(fuel: usize) {
    let queue = queue(TWO);
    send_many(&queue, 1, 2).unwrap();
    let sender = spawn({
        let queue = queue.clone();
        move || send_many(&queue, 3, 2).unwrap()
    });
    let fate = spawn({
        let queue = queue.clone();
        move || die_after(fuel, || recv_many(&queue))
    });
    let fate = fate.join();
    let mut received = fate.clone().unwrap_or_default();
    while received.last() != Some(&4) {
        received.extend(recv_many(&queue));
    }
    sender.join();
    let all = received == [1, 2, 3, 4];
    assert!(all || (fate.is_err() && received == [3, 4]), "received {received:?}, {fate:?}");
    assert_eq!(queue.len(), 0);
}

/// A queue is closed while a sender waits for room, by one who may die of it.
fn close_while_a_sender_waits(fuel: usize) {
    let queue = queue(ONE);
    send(&queue, 1).unwrap();
    let sender = spawn({
        let queue = queue.clone();
        move || send(&queue, 2)
    });
    let closer = spawn({
        let queue = queue.clone();
        move || die_after(fuel, || queue.close())
    });
    if closer.join().is_err() {
        queue.close();
    }
    assert_eq!(sender.join(), Err(NotSent::Closed));
    assert_eq!(recv(&queue, Patience::FOREVER), Ok(1));
    assert_eq!(recv(&queue, Patience::FOREVER), Err(NotReceived::Closed));
}

/// A sender, a receiver that waits and a closer: what was accepted is received before `Closed` is said.
fn close_races_with_a_commit() {
    let queue = queue(TWO);
    let sender = spawn({
        let queue = queue.clone();
        move || send(&queue, 1).is_ok()
    });
    let receiver = spawn({
        let queue = queue.clone();
        move || {
            let first = recv(&queue, Patience::FOREVER);
            if first.is_ok() {
                assert_eq!(recv(&queue, Patience::FOREVER), Err(NotReceived::Closed));
            }
            first
        }
    });
    queue.close();
    let accepted = sender.join();
    match receiver.join() {
        Ok(number) => assert!(accepted && number == 1),
        Err(reason) => assert!(!accepted && reason == NotReceived::Closed, "accepted, and never received"),
    }
    assert_eq!(queue.len(), 0);
}

#[test]
fn a_sender_that_dies_costs_at_most_its_own_message() {
    every_death("sender, heir, waiting receiver", 3, |fuel| sender_dies(fuel, TWO));
}

#[test]
fn a_sender_that_dies_costs_at_most_its_own_message_in_a_ring_of_one() {
    every_death("sender, heir, waiting receiver, ring of one", 2, |fuel| sender_dies(fuel, ONE));
}

#[test]
fn a_receiver_that_dies_takes_at_most_one_message_along() {
    every_death("receiver, heir, sender", 2, |fuel| receiver_dies(fuel, TWO));
}

#[test]
fn a_receiver_that_dies_leaves_a_waiting_sender_its_room() {
    every_death("receiver, heir, sender, ring of one", 1, |fuel| receiver_dies(fuel, ONE));
}

#[test]
fn a_sender_that_dies_waiting_leaves_the_line_to_the_next() {
    every_death("waiting sender, receiver", 3, |fuel| waiting_sender_dies(fuel, false));
    every_death("waiting sender, heir, receiver", 0, |fuel| waiting_sender_dies(fuel, true));
}

#[test]
fn a_sender_of_a_batch_that_dies_leaves_whole_commits() {
    every_death("sender of a batch, heir, waiting receiver", 1, batch_sender_dies);
}

#[test]
fn a_receiver_of_a_batch_that_dies_takes_one_commit_along() {
    every_death("receiver of a batch, heir, sender", 2, batch_receiver_dies);
}

#[test]
fn close_reaches_a_sender_that_waits() {
    every_death("closer and waiting sender", 3, close_while_a_sender_waits);
}

#[test]
fn nothing_is_accepted_after_closed_was_said() {
    explore("closer, sender, receiver", 3, close_races_with_a_commit);
}

#[test]
fn mutant_commit_then_wake_is_seen() {
    fails_with(Mutant::CommitThenWake, || every_death("", 3, |fuel| sender_dies(fuel, TWO)));
}

#[test]
fn mutant_position_before_commit_is_seen() {
    fails_with(Mutant::PositionBeforeCommit, || every_death("", 3, |fuel| sender_dies(fuel, TWO)));
}

#[test]
fn mutant_mark_empty_before_commit_is_seen() {
    fails_with(Mutant::MarkEmptyBeforeCommit, || every_death("", 2, |fuel| receiver_dies(fuel, TWO)));
}

#[test]
fn mutant_relaxed_commit_is_seen() {
    fails_with(Mutant::RelaxedCommit, || every_death("", 3, |fuel| sender_dies(fuel, TWO)));
}

#[test]
fn mutant_close_beside_sleeper_is_seen() {
    fails_with(Mutant::CloseBesideSleeper, || every_death("", 3, close_while_a_sender_waits));
}

#[test]
fn mutant_closed_without_passing_through_is_seen() {
    fails_with(Mutant::ClosedAtOnce, || explore("", 3, close_races_with_a_commit));
}

#[test]
fn mutant_batch_piece_by_piece_is_seen() {
    let said = fails_with(Mutant::BatchPieceByPiece, || every_death("", 1, batch_sender_dies));
    assert!(said.contains("received [1, 9]"), "{said}");
}

#[test]
fn mutant_commit_then_wake_of_a_batch_is_seen() {
    fails_with(Mutant::CommitThenWake, || every_death("", 2, batch_receiver_dies));
}

#[test]
fn mutant_close_untold_is_seen() {
    let said = fails_with(Mutant::CloseUntold, || every_death("", 3, close_while_a_sender_waits));
    assert!(said.contains("deadlock"), "{said}");
}

#[cfg(feature = "shuttle")]
mod crowd {
    //! Eight threads, of which six may die.

    use std::{cell::RefCell, rc::Rc};

    use super::*;
    use crate::primitive::model::explore::crowds::{crowd, mortal};

    /// Four send two each, three receive until they are told that it is closed, and one closes it when all is sent.
    #[test]
    fn a_crowd_of_mortals_sends_and_receives() {
        crowd("queues: four who send, three who receive, one who closes", || {
            let queue = queue(TWO);
            let numbers = [10, 20, 30, 40];
            let senders = numbers.map(|number| {
                let queue = queue.clone();
                mortal(120, move || {
                    send(&queue, number).unwrap();
                    send(&queue, number + 1).unwrap();
                })
            });
            let receive = || {
                let (queue, landed) = (queue.clone(), Rc::new(RefCell::new(Vec::new())));
                let landing = landed.clone();
                let receiving = move || {
                    while let Ok(number) = recv(&queue, Patience::FOREVER) {
                        landing.borrow_mut().push(number);
                    }
                };
                (receiving, landed)
            };
            let (receiving, landed) = receive();
            let steady = spawn(receiving);
            let receivers = [(); 2].map(|()| {
                let (receiving, landed) = receive();
                (mortal(120, receiving), landed)
            });
            let mut sent = Vec::new();
            for (sender, number) in senders.into_iter().zip(numbers) {
                if sender.join().is_ok() {
                    sent.extend([number, number + 1]);
                }
            }
            queue.close();
            steady.join();
            let mut received = landed.take();
            let mut dead = 0;
            for (receiver, landed) in receivers {
                dead += usize::from(receiver.join().is_err());
                received.extend(landed.take());
            }
            assert_eq!(queue.len(), 0);
            received.sort();
            assert!(received.windows(2).all(|two| two[0] != two[1]), "doubled: {received:?}");
            let lost = sent.iter().filter(|number| !received.contains(number)).count();
            assert!(lost <= dead, "{lost} lost by {dead} deaths: {received:?}");
        });
    }
}
