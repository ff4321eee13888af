//! What deaths do to a channel: its users are killed at random and on purpose, ten thousand times, and scribble on it.

mod support;

use std::{
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use pshared::{
    Array, Atomic, Channel, Deadline, Receiver, RecvError, RecvTimeoutError, SendError, Sender, channel,
};
use support::{Child, fork_child, until};

fn main() -> ExitCode {
    support::main(support::tests![
        a_receiver_that_sleeps_is_told_of_the_senders_death,
        a_sender_that_sleeps_is_told_of_the_receivers_death,
        a_sleeper_that_is_killed_is_replaced,
        a_woken_sleeper_that_is_killed_takes_no_message_along,
        a_killed_holder_of_a_slot_has_sent_nothing,
        a_killed_reader_in_place_leaves_the_message,
        many_kills_lose_nothing_and_double_nothing,
        ten_thousand_deaths_leave_the_channel_as_it_was,
    ])
}

/// Whoever is left ends in less.
const SOON: Duration = Duration::from_secs(30);

fn soon() -> Deadline {
    Deadline::after(SOON)
}

/// A child that runs `body` and then waits to be killed; `told` says how many have got there.
fn until_killed(told: &Atomic<u32>, body: impl FnOnce()) -> Child {
    let before = told.get();
    let child = fork_child(|| {
        body();
        told.fetch_add(1);
        loop {
            thread::park();
        }
    });
    until(|| told.get() > before || child.has_ended());
    child
}

fn a_receiver_that_sleeps_is_told_of_the_senders_death() {
    let (mut sender, mut receiver) = channel::<u32>(64).unwrap();
    let told = Atomic::new(0).unwrap();
    for round in 0..20 {
        let victim = until_killed(&told, || sender.send(round).unwrap());
        let waiting = fork_child(|| {
            assert_eq!(receiver.recv(), Ok(round));
            assert_eq!(receiver.recv_deadline(soon()), Err(RecvTimeoutError::Disconnected));
            receiver.release().unwrap();
        });
        until(|| receiver.is_empty());
        waiting.until_asleep();
        victim.kill();
        waiting.join_ok();
    }
}

fn a_sender_that_sleeps_is_told_of_the_receivers_death() {
    let (mut sender, mut receiver) = Channel::new(64).plain::<u32>().unwrap();
    let told = Atomic::new(0).unwrap();
    (0..8).for_each(|i| sender.send(i).unwrap());
    sender.release().unwrap();
    for _ in 0..20 {
        let victim = until_killed(&told, || receiver.claim().unwrap());
        let waiting = fork_child(|| assert!(matches!(sender.send(9), Err(SendError::Disconnected(9)))));
        waiting.until_asleep();
        victim.kill();
        waiting.join_ok();
    }
    assert_eq!(receiver.len(), 8);
}

fn a_sleeper_that_is_killed_is_replaced() {
    let (mut sender, mut receiver) = Channel::new(64).plain::<u32>().unwrap();
    for round in 0..20 {
        let sleeper = fork_child(|| drop(receiver.recv()));
        sleeper.until_asleep();
        sleeper.kill();
        let heir = fork_child(|| assert_eq!(receiver.recv_deadline(soon()), Ok(round)));
        heir.until_asleep();
        // The dead one's end was told until the heir claimed it.
        sender.send(round).unwrap();
        heir.join_ok();
        until(|| receiver.is_empty());
        receiver.claim().unwrap();
        receiver.release().unwrap();
    }
}

fn a_woken_sleeper_that_is_killed_takes_no_message_along() {
    let (mut sender, mut receiver) = Channel::new(64).plain::<u64>().unwrap();
    let taken = Array::<u64>::zeroed(1).unwrap();
    for round in 1..=50 {
        let sleeper = fork_child(|| {
            let received = receiver.recv().unwrap();
            taken.set(0, received).unwrap();
        });
        sleeper.until_asleep();
        sender.send(round).unwrap();
        // It is killed, unless it has ended.
        drop(sleeper);
        let left = receiver.recv_timeout(Duration::ZERO);
        let took = taken.get(0).unwrap() == round;
        assert!(left == Ok(round) || took || left == Err(RecvTimeoutError::TimedOut), "{left:?}");
        assert!(!(left == Ok(round) && took), "twice");
        receiver.release().unwrap();
    }
}

fn a_killed_holder_of_a_slot_has_sent_nothing() {
    let (mut sender, mut receiver) = Channel::new(256).bytes().unwrap();
    let told = Atomic::new(0).unwrap();
    for round in 0..50_u8 {
        let victim = until_killed(&told, || {
            let mut slot = sender.reserve(100).unwrap();
            slot.fill(round);
            std::mem::forget(slot);
        });
        victim.kill();
        assert!(matches!(receiver.try_read().map(drop), Err(pshared::TryRecvError::Disconnected)));
        let mut slot = sender.reserve(200).unwrap();
        slot.fill(!round);
        slot.commit().unwrap();
        sender.release().unwrap();
        assert_eq!(*receiver.read().unwrap(), [!round; 200]);
    }
}

fn a_killed_reader_in_place_leaves_the_message() {
    let (mut sender, mut receiver) = Channel::new(256).bytes().unwrap();
    let told = Atomic::new(0).unwrap();
    sender.send(vec![7; 100]).unwrap();
    for _ in 0..50 {
        let victim = until_killed(&told, || {
            let message = receiver.read().unwrap();
            assert_eq!(*message, [7; 100]);
            std::mem::forget(message);
        });
        victim.kill();
        assert_eq!(sender.len(), 1);
    }
    assert_eq!(receiver.recv().unwrap(), [7; 100]);
}

fn many_kills_lose_nothing_and_double_nothing() {
    // A sender counts up, and notes each number before and after it is sent; a receiver notes what it has. Both are
    // killed again and again, and their heirs go on. Nothing that was sent is lost but what a killed receiver had just
    // taken.
    let (mut sender, mut receiver) = Channel::new(256).plain::<[u64; 2]>().unwrap();
    let [begun, sent, last, count, faults] = [(); 5].map(|()| Atomic::new(0_u64).unwrap());
    let sending = |sender: &mut Sender<[u64; 2], _>| {
        fork_child(|| {
            loop {
                let number = begun.fetch_add(1) + 1;
                // Until the receiver's heir is there.
                while let Err(error) = sender.send([number, !number]) {
                    faults.fetch_add(u64::from(!matches!(error, SendError::Disconnected(_))));
                    thread::yield_now();
                }
                sent.set(number);
            }
        })
    };
    let receiving = |receiver: &mut Receiver<[u64; 2], _>| {
        fork_child(|| {
            loop {
                match receiver.recv() {
                    Ok([number, check]) => {
                        // Neither torn, nor again.
                        faults.fetch_add(u64::from(number != !check || number <= last.get()));
                        last.set(number);
                        count.fetch_add(1);
                    }
                    Err(error) => {
                        faults.fetch_add(u64::from(error != RecvError::Disconnected));
                        thread::yield_now();
                    }
                }
            }
        })
    };
    let (mut at_one, mut at_other) = (sending(&mut sender), receiving(&mut receiver));
    let mut kills = [0_u64; 2];
    let mut dice = 12345_u64;
    for _ in 0..400 {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        thread::sleep(Duration::from_micros(dice >> 54));
        if dice >> 40 & 1 == 0 {
            drop(at_one);
            kills[0] += 1;
            at_one = sending(&mut sender);
        } else {
            drop(at_other);
            kills[1] += 1;
            at_other = receiving(&mut receiver);
        }
    }
    drop(at_one);
    drop(at_other);
    sender.claim().unwrap();
    sender.close().unwrap();
    let (mut number, mut received) = (last.get(), count.get());
    for message in receiver.iter() {
        let [next, check] = message.unwrap();
        assert!(next == !check && next > number, "{next} after {number}");
        (number, received) = (next, received + 1);
    }
    let highest = sent.get();
    assert_eq!(faults.get(), 0, "torn, or received again");
    assert!(received > 0, "there was no traffic");
    // Each who was killed may have cost one: a number that was not sent, or one that was taken along.
    assert!(number + 1 >= highest, "{number} is the last that came, {highest} was sent");
    assert!(received + kills[0] + kills[1] >= highest, "{received} of {highest}, killed {kills:?}");
    assert!(received <= begun.get());
}

fn ten_thousand_deaths_leave_the_channel_as_it_was() {
    let (mut sender, mut receiver) = Channel::new(256).plain::<u64>().unwrap();
    let (descriptors, space) = (support::descriptors(), support::address_space());
    let start = Instant::now();
    for round in 0..10_000_u64 {
        let child = if round % 2 == 0 {
            fork_child(|| {
                // Whoever had the other end died with it.
                receiver.claim().unwrap();
                receiver.release().unwrap();
                sender.send(round).unwrap();
                // SAFETY: the death of this child.
                unsafe { nix::libc::raise(nix::libc::SIGKILL) };
            })
        } else {
            fork_child(|| {
                assert_eq!(receiver.recv(), Ok(round - 1));
                // SAFETY: as above.
                unsafe { nix::libc::raise(nix::libc::SIGKILL) };
            })
        };
        let status = child.join();
        assert!(matches!(status, nix::sys::wait::WaitStatus::Signaled(..)), "round {round}: {status:?}");
        assert_eq!(sender.len() as u64, (round + 1) % 2);
    }
    println!("10,000 deaths in {:?}", start.elapsed());
    assert!(receiver.is_empty());
    // It holds as much as before: nothing grew.
    receiver.claim().unwrap();
    let fits = (0..).take_while(|&i| sender.try_send(i).is_ok()).count();
    assert_eq!(fits, 32);
    (0..32).for_each(|i| assert_eq!(receiver.recv(), Ok(i)));
    assert_eq!((support::descriptors(), support::address_space()), (descriptors, space));
    sender.close().unwrap();
    assert_eq!(receiver.recv(), Err(RecvError::Disconnected));
}
