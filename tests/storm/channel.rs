//! The third storm: one sender and one receiver, at a channel each other's only partner. One of the two is killed at
//! random, and its heir goes on.
//!
//! - *lost*: a number whose `send` had returned that was left out; but after the death of a receiver it may have been
//!   in its hand, one message or one batch, and is missed by its heir at once;
//! - *doubled*: a number that is not higher than the last: the order is the senders';
//! - *torn*: a message whose check does not fit;
//! - *stalled*: a second in which nothing was received.

use std::{
    ops::RangeInclusive,
    thread,
    time::{Duration, Instant},
};

use pshared::{Atomic, Channel, PlainData, Queue, Receiver, SendError, Sender};

use crate::{
    STALL, check,
    support::{Child, fork_child},
};

/// A number, and a check on it.
type Letter = [u64; 2];

/// Messages in a batch.
const BATCH: u64 = 8;

/// What sender and receiver, and their heirs, share with who kills them.
struct Tally {
    /// The last number that a sender took in hand, and the last whose `send` had returned.
    begun: Atomic<u64>,
    sent: Atomic<u64>,
    /// The last number that was received, and how many in all; how many are perhaps just being received.
    last: Atomic<u64>,
    received: Atomic<u64>,
    in_hand: Atomic<u64>,
    /// What was left out before a number, first and last.
    gaps: Queue<[u64; 2], PlainData>,
    doubled: Atomic<u64>,
    torn: Atomic<u64>,
    stop: Atomic<u8>,
}

impl Tally {
    fn new() -> Tally {
        let zero = || Atomic::new(0).expect("memory");
        Tally {
            begun: zero(),
            sent: zero(),
            last: zero(),
            received: zero(),
            in_hand: zero(),
            gaps: Queue::plain(1 << 16).expect("memory"),
            doubled: zero(),
            torn: zero(),
            stop: Atomic::new(0).expect("memory"),
        }
    }

    fn enter(&self, [number, sum]: Letter) {
        let last = self.last.get();
        if sum != check(7, number) {
            self.torn.fetch_add(1);
        } else if number <= last {
            self.doubled.fetch_add(1);
        } else {
            if number > last + 1 {
                self.gaps.send([last + 1, number - 1]).expect("nobody closes it");
            }
            self.last.set(number);
        }
        self.received.fetch_add(1);
    }
}

fn sender(tally: &Tally, end: &mut Sender<Letter, PlainData>) -> Child {
    fork_child(|| {
        let mut batch = Vec::new();
        while tally.stop.get() == 0 {
            let count = 1 + tally.begun.get() % BATCH;
            let first = tally.begun.fetch_add(count) + 1;
            batch.extend((first..first + count).map(|number| [number, check(7, number)]));
            // Until the receiver's heir is there.
            while !batch.is_empty() && tally.stop.get() == 0 {
                let sent = if batch.len() == 1 {
                    end.send(batch[0]).map(|()| batch.clear()).map_err(|error| match error {
                        SendError::Disconnected(_) => true,
                        _ => panic!("{error}"),
                    })
                } else {
                    end.send_many(&mut batch).map_err(|_| end.is_disconnected())
                };
                if sent.is_err() {
                    thread::yield_now();
                }
            }
            tally.sent.set(first + count - 1 - batch.len() as u64);
        }
    })
}

fn receiver(tally: &Tally, end: &mut Receiver<Letter, PlainData>) -> Child {
    fork_child(|| {
        let mut letters = Vec::new();
        loop {
            let most = 1 + tally.received.get() % BATCH;
            tally.in_hand.set(most);
            let gone = if most == 1 {
                end.recv().map(|letter| letters.push(letter)).is_err()
            } else {
                end.recv_many(&mut letters, most as usize).is_err()
            };
            letters.drain(..).for_each(|letter| tally.enter(letter));
            tally.in_hand.set(0);
            if gone {
                if tally.stop.get() != 0 {
                    return;
                }
                thread::yield_now();
            }
        }
    })
}

/// How many numbers of a gap were surely sent. The ranges are in order.
fn missing_in(gap: RangeInclusive<u64>, unsure: &[RangeInclusive<u64>]) -> u64 {
    let first = unsure.partition_point(|range| range.end() < gap.start());
    let near = unsure[first..].iter().take_while(|range| range.start() <= gap.end());
    let known: Vec<_> = near.collect();
    gap.filter(|number| !known.iter().any(|range| range.contains(number))).count() as u64
}

/// Runs it, tells what came of it, and returns how much damage there was.
pub fn storm(kills: u64, draw: &mut impl FnMut(u64) -> u64) -> u64 {
    let begun = Instant::now();
    let (mut tx, mut rx) = Channel::new(512).plain::<Letter>().expect("memory");
    let tally = Tally::new();
    let (mut taken_along, mut stalled, mut lost) = (0, 0, 0);
    // What the dead senders had begun, and may have sent or not.
    let mut unsure = Vec::new();
    let left_out = |unsure: &[_]| -> u64 {
        tally.gaps.try_iter().flatten().map(|[first, last]| missing_in(first..=last, unsure)).sum()
    };
    let mut sending = sender(&tally, &mut tx);
    let mut receiving = receiver(&tally, &mut rx);
    for _ in 0..kills {
        thread::sleep(Duration::from_micros(draw(300)));
        lost += left_out(&unsure);
        let mut in_hand = 0;
        if draw(2) == 0 {
            sending.kill_now();
            unsure.push(tally.sent.get() + 1..=tally.begun.get());
            tally.sent.set(tally.begun.get());
            sending = sender(&tally, &mut tx);
        } else {
            receiving.kill_now();
            in_hand = tally.in_hand.swap(0);
            receiving = receiver(&tally, &mut rx);
        }
        let (before, until) = (tally.received.get(), Instant::now() + STALL);
        while tally.received.get() == before {
            if Instant::now() > until {
                stalled += 1;
                eprintln!("stalled: {tx:?}, {rx:?}");
                break;
            }
            thread::yield_now();
        }
        let missing = left_out(&unsure);
        taken_along += missing.min(in_hand);
        lost += missing.saturating_sub(in_hand);
    }
    tally.stop.set(1);
    for child in [sending, receiving] {
        child.join_ok();
    }
    let [sent, received, doubled, torn] =
        [&tally.sent, &tally.received, &tally.doubled, &tally.torn].map(Atomic::get);
    lost += left_out(&unsure) + missing_in(tally.last.get() + 1..=sent, &unsure);
    println!(
        "storm: channel: {received} messages, {taken_along} taken along by those who were killed, {:.1} s",
        begun.elapsed().as_secs_f32()
    );
    println!("storm: channel: {kills} kills, {lost} lost, {doubled} doubled, {torn} torn, {stalled} stalled");
    lost + doubled + torn + stalled
}
