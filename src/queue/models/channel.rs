//! Models of a channel: one sender, one receiver, their claims, and whoever claims after them.
//!
//! Payloads lie in the modelled buffer, whose cells report a copy that races with another. What is lost, doubled or
//! torn is an assertion; a lost wake-up, or a death that is not told, is a deadlock.
//!
//! Each model runs on two systems: one with heavy fences, where a light one is modelled as a full one, and one without,
//! where it is nothing and all is done with care.

use crate::{
    primitive::{
        Mutant,
        model::{
            explore::{every_death, explore, fails_with, spawn, without_heavy_fences},
            kernel::die_after,
        },
    },
    queue::{
        ends::Bounds,
        lane::{self, Hindrance, Layout, RawReceiver, RawSender},
    },
    region::Region,
    sync::Patience,
};

/// One message of 8 bytes fills it.
const ONE: usize = 16;
/// Two do.
const TWO: usize = 32;
/// More than there are.
const FOUR: usize = 64;

fn channel(buffer: usize) -> (RawSender, RawReceiver) {
    let region = Region::anonymous(1).unwrap();
    let bounds = Bounds { buffer, most: u32::MAX, peers: 0 };
    lane::new_in(&region, Layout::new(bounds, None).unwrap(), true).unwrap()
}

fn send(sender: &mut RawSender, number: u64) -> Result<(), Hindrance> {
    sender.send::<Vec<u8>>(&number.to_ne_bytes(), Patience::FOREVER)
}

fn send_both(sender: &mut RawSender, first: u64, second: u64) -> Result<(), Hindrance> {
    let mut batch = sender.begin()?;
    batch.add::<Vec<u8>>(&first.to_ne_bytes(), Patience::FOREVER)?;
    batch.add::<Vec<u8>>(&second.to_ne_bytes(), Patience::FOREVER)?;
    assert_eq!(batch.commit(), 2);
    Ok(())
}

fn recv(receiver: &mut RawReceiver, patience: Patience) -> Result<u64, Hindrance> {
    let mut landing = Vec::new();
    receiver.recv(&mut landing, patience)?;
    Ok(u64::from_ne_bytes(landing.try_into().expect("torn: a message of another length")))
}

/// Receives until the sender is gone.
fn recv_all(receiver: &mut RawReceiver) -> Vec<u64> {
    let mut received = Vec::new();
    loop {
        match recv(receiver, Patience::FOREVER) {
            Ok(number) => received.push(number),
            Err(reason) => {
                assert_eq!(reason, Hindrance::Gone);
                return received;
            }
        }
    }
}

/// What is left, without waiting.
fn drain(receiver: &mut RawReceiver) -> Vec<u64> {
    std::iter::from_fn(|| recv(receiver, Patience::None).ok()).collect()
}

/// One sends twice and drops its end; one receives until that is told.
fn two_messages(buffer: usize) {
    let (mut sender, mut receiver) = channel(buffer);
    let receiving = spawn(move || recv_all(&mut receiver));
    assert_eq!(send(&mut sender, 1), Ok(()));
    assert_eq!(send(&mut sender, 2), Ok(()));
    drop(sender);
    assert_eq!(receiving.join(), [1, 2]);
}

/// A sender dies after `fuel` steps; the receiver waits from the start, and is told. Then another claims the end.
fn sender_dies(fuel: usize) {
    let (mut sender, mut receiver) = channel(FOUR);
    let mut heir = sender.forked();
    let receiving = spawn(move || {
        let first = recv(&mut receiver, Patience::FOREVER);
        // The end of this thread is no death of the receiver.
        receiver.release();
        (first, receiver)
    });
    let victim = spawn(move || {
        die_after(fuel, || {
            send(&mut sender, 1).unwrap();
            send(&mut sender, 2).unwrap();
            sender.release();
        })
        .is_ok()
    });
    let survived = victim.join();
    let told = send(&mut heir, 3);
    drop(heir);
    let (first, mut receiver) = receiving.join();
    let mut received: Vec<u64> = first.ok().into_iter().collect();
    assert!(first.is_ok() || first == Err(Hindrance::Gone) && !survived);
    received.extend(recv_all(&mut receiver));
    assert_eq!(told, Ok(()));
    let whole = received == [1, 2, 3];
    assert!(whole || !survived && (received == [1, 3] || received == [3]), "received {received:?}");
}

/// A sender dies after `fuel` steps and nobody comes after it: the receiver, which waits from the start, is told.
fn sender_dies_for_good(fuel: usize, both: bool) {
    let (mut sender, mut receiver) = channel(TWO);
    let receiving = spawn(move || recv_all(&mut receiver));
    let victim = spawn(move || {
        // Before it is its own, nobody is told of a death.
        sender.claim().unwrap();
        let done = die_after(fuel, || {
            if both {
                send_both(&mut sender, 1, 2).unwrap();
            } else {
                send(&mut sender, 1).unwrap();
                send(&mut sender, 2).unwrap();
            }
            drop(sender);
        });
        done.is_ok()
    });
    let survived = victim.join();
    let received = receiving.join();
    let part = received.is_empty() || received == [1] && !both;
    assert!(received == [1, 2] || !survived && part, "received {received:?}, survived {survived}");
}

/// A receiver dies after `fuel` steps while a sender waits for room; another claims its end.
fn receiver_dies(fuel: usize) {
    let (mut sender, mut receiver) = channel(ONE);
    let mut heir = receiver.forked();
    receiver.claim().unwrap();
    receiver.release();
    send(&mut sender, 1).unwrap();
    sender.release();
    let sending = spawn(move || {
        let told = send(&mut sender, 2);
        // Dropped by the main thread.
        sender.release();
        (told, sender)
    });
    let victim = spawn(move || {
        die_after(fuel, || {
            let received = recv(&mut receiver, Patience::FOREVER).unwrap();
            receiver.release();
            received
        })
        .ok()
    });
    let fate = victim.join();
    let mut received: Vec<u64> = fate.into_iter().collect();
    // Whether or not the sender was told of the death: what it sent comes, once.
    received.extend(drain(&mut heir));
    let (told, sender) = sending.join();
    received.extend(drain(&mut heir));
    drop(sender);
    match (fate, told) {
        (Some(_), _) => assert_eq!((told, &received[..]), (Ok(()), &[1, 2][..])),
        (None, Ok(())) => assert!(received == [1, 2] || received == [2], "received {received:?}"),
        (None, told) => {
            assert_eq!(told, Err(Hindrance::Gone));
            assert!(received == [1] || received.is_empty(), "received {received:?}");
        }
    }
}

/// A receiver closes its end, and may die of it, while a sender waits for room.
fn receiver_leaves(fuel: usize) {
    let (mut sender, mut receiver) = channel(ONE);
    send(&mut sender, 1).unwrap();
    sender.release();
    let sending = spawn(move || send(&mut sender, 2));
    let victim = spawn(move || {
        receiver.claim().unwrap();
        die_after(fuel, || drop(receiver)).is_ok()
    });
    victim.join();
    assert_eq!(sending.join(), Err(Hindrance::Gone));
}

/// A receiver that waits dies after `fuel` steps, and leaves its bit; the next hears of what is sent.
fn waiting_receiver_dies(fuel: usize) {
    let (mut sender, mut receiver) = channel(TWO);
    let mut heir = receiver.forked();
    let sending = spawn(move || send(&mut sender, 1).map(|()| sender));
    let victim = spawn(move || {
        die_after(fuel, || {
            let received = recv(&mut receiver, Patience::FOREVER).unwrap();
            receiver.release();
            received
        })
        .ok()
    });
    let fate = victim.join();
    // The sender was told of the death, or its message waits, or the dead took it along.
    match sending.join() {
        Err(reason) => assert_eq!((reason, fate), (Hindrance::Gone, None)),
        Ok(mut sender) => {
            let rest = drain(&mut heir);
            assert!(rest == [1] && fate.is_none() || rest.is_empty(), "received {rest:?} after {fate:?}");
            heir.release();
            sender.release();
        }
    }
}

/// One sends and gives the end back; another sends then. The receiver waits through all of it.
fn the_end_changes_hands() {
    let (mut sender, mut receiver) = channel(ONE);
    let mut other = sender.forked();
    let receiving = spawn(move || recv_all(&mut receiver));
    let first = spawn(move || {
        send(&mut sender, 1).unwrap();
        sender.release();
    });
    first.join();
    send(&mut other, 2).unwrap();
    drop(other);
    assert_eq!(receiving.join(), [1, 2]);
}

/// Two want the same end: one has it, and the other is told who.
fn two_claim_one_end() {
    let (mut sender, mut receiver) = channel(TWO);
    let mut copy = sender.forked();
    let other = spawn(move || {
        let claimed = copy.claim().is_ok();
        if claimed {
            send(&mut copy, 1).unwrap();
        }
        claimed
    });
    let claimed = sender.claim().is_ok();
    if claimed {
        send(&mut sender, 1).unwrap();
    }
    drop(sender);
    let both = [claimed, other.join()];
    // The second may come when the first has closed the end.
    assert!(both[0] != both[1], "{both:?}");
    assert_eq!(recv_all(&mut receiver), [1]);
}

fn on_both_systems(models: impl Fn()) {
    models();
    without_heavy_fences(models);
}

#[test]
fn no_message_is_slept_through() {
    on_both_systems(|| {
        explore("two messages", 3, || two_messages(TWO));
        explore("two messages, a ring of one", 2, || two_messages(ONE));
    });
}

#[test]
fn a_sender_that_dies_is_missed_and_what_it_sent_is_received() {
    on_both_systems(|| {
        every_death("sender, waiting receiver", 2, |fuel| sender_dies_for_good(fuel, false));
        every_death("sender of a batch, waiting receiver", 2, |fuel| sender_dies_for_good(fuel, true));
    });
}

#[test]
fn whoever_claims_a_dead_senders_end_goes_on() {
    every_death("sender, heir, waiting receiver", 1, sender_dies);
}

#[test]
fn whoever_claims_a_dead_receivers_end_goes_on() {
    every_death("receiver, heir, sender that waits", 1, receiver_dies);
    every_death("waiting receiver, heir, sender", 2, waiting_receiver_dies);
}

#[test]
fn a_receiver_that_leaves_is_missed() {
    on_both_systems(|| every_death("leaving receiver, sender that waits", 4, receiver_leaves));
}

#[test]
fn an_end_is_held_by_one_at_a_time() {
    explore("an end that changes hands", 1, the_end_changes_hands);
    explore("two who want one end", 2, two_claim_one_end);
}

#[test]
fn mutant_relaxed_commit_is_seen() {
    without_heavy_fences(|| {
        fails_with(Mutant::RelaxedCommit, || explore("", 4, || two_messages(TWO)));
    });
}

#[test]
fn mutant_commit_before_record_is_seen() {
    fails_with(Mutant::CommitBeforeRecord, || explore("", 4, || two_messages(TWO)));
}

#[test]
fn mutant_commit_unrung_is_seen() {
    let said = fails_with(Mutant::CommitUnrung, || explore("", 4, || two_messages(ONE)));
    assert!(said.contains("deadlock"), "{said}");
}

#[test]
fn mutant_ring_then_wake_is_seen() {
    let said = fails_with(Mutant::RingThenWake, || explore("", 3, || two_messages(ONE)));
    assert!(said.contains("deadlock"), "{said}");
}

#[test]
fn mutant_careful_unfenced_is_seen() {
    without_heavy_fences(|| {
        let said = fails_with(Mutant::CarefulUnfenced, || explore("", 4, || two_messages(ONE)));
        assert!(said.contains("deadlock"), "{said}");
    });
}

#[test]
fn mutant_committer_unfenced_is_seen() {
    let said = fails_with(Mutant::CommitterUnfenced, || explore("", 2, || two_messages(ONE)));
    assert!(said.contains("deadlock"), "{said}");
}

#[test]
fn mutant_sleeper_unfenced_is_seen() {
    for heavy in [true, false] {
        let hunt = || {
            let said = fails_with(Mutant::SleeperUnfenced, || explore("", 4, || two_messages(ONE)));
            assert!(said.contains("deadlock"), "{said}");
        };
        if heavy { hunt() } else { without_heavy_fences(hunt) }
    }
}

#[test]
fn mutant_no_last_look_is_seen() {
    let said = fails_with(Mutant::NoLastLook, || explore("", 4, || two_messages(ONE)));
    assert!(said.contains("deadlock"), "{said}");
}

#[test]
fn mutant_drained_before_judged_is_seen() {
    fails_with(Mutant::DrainedBeforeJudged, || explore("", 4, || two_messages(TWO)));
}

#[test]
fn mutant_leave_untold_is_seen() {
    let said = fails_with(Mutant::LeaveUntold, || explore("", 4, || two_messages(TWO)));
    assert!(said.contains("deadlock"), "{said}");
}

#[test]
fn mutant_left_unseen_is_seen() {
    let said = fails_with(Mutant::LeftUnseen, || every_death("", 4, receiver_leaves));
    assert!(said.contains("deadlock"), "{said}");
}

/// A receiver dies on its way to sleep, and leaves its bit; whoever claims the end then takes it away. (So one that is
/// on its way to sleep hears of a new holder, even if that has the TID of the last.)
fn a_bit_is_left_for_a_claim(fuel: usize) {
    let (mut sender, mut receiver) = channel(TWO);
    assert!(die_after(fuel, || recv(&mut receiver, Patience::Until(None))).is_err());
    sender.claim().unwrap();
    assert!(!sender.holders()[0].has_waiters());
}

/// The steps after which it has announced itself, and does not sleep yet.
const ANNOUNCED: usize = 17;

fn claims_after_a_bit() {
    for fuel in 0..ANNOUNCED {
        explore("a bit that is left for a claim", 1, move || a_bit_is_left_for_a_claim(fuel));
    }
}

#[test]
fn a_claim_takes_the_bit_of_the_dead_away() {
    claims_after_a_bit();
}

#[test]
fn mutant_claim_untold_is_seen() {
    fails_with(Mutant::ClaimUntold, claims_after_a_bit);
}
