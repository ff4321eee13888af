//! What `channel()` promises, with really forked children.

mod support;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use nix::unistd::gettid;
use pshared::{
    Array, Atomic, Capacity, Channel, ClaimError, Plain, Process, Receiver, RecvError, RecvTimeoutError,
    Region, RegionError, SendError, SendManyError, SendTimeoutError, Sender, TryRecvError, TrySendError,
    channel,
};
use support::{fork_child, is_asleep_in_futex, until};

fn main() -> ExitCode {
    support::main(support::tests![
        messages_cross_in_order,
        messages_of_every_length_cross_the_end_of_the_buffer,
        the_longest_message_fits_wherever_it_begins,
        a_message_is_there_when_send_returns_and_its_sender_may_be_killed,
        a_receiver_waits_for_a_message,
        a_sender_waits_for_room,
        both_sleep_in_turn,
        try_forms_never_wait,
        timeouts_last_at_least_so_long,
        batches_cross_whole_and_wait_for_room,
        plain_data_has_no_headers,
        a_batch_stops_at_what_cannot_be_sent,
        slots_are_written_and_messages_read_in_place,
        a_slot_that_is_dropped_sends_nothing,
        a_message_that_is_forgotten_stays,
        a_forked_copy_of_a_slot_sends_nothing,
        len_and_capacity_are_exact,
        bad_capacities_are_errors,
        too_long_a_message_is_an_error_that_names_the_figures,
        values_that_cannot_be_encoded_come_back,
        a_message_of_another_type_is_a_decode_error,
        a_channel_in_a_full_region_is_an_error,
        a_dropped_sender_is_missed_when_all_is_received,
        a_dropped_receiver_is_missed_at_once,
        close_is_for_good_in_every_process,
        an_end_is_held_by_one_thread_at_a_time,
        an_end_that_is_given_back_may_be_claimed_by_another_process,
        an_end_that_nobody_claims_is_waited_for,
        an_unclaimed_end_that_no_fork_copied_is_closed_when_dropped,
        an_unclaimed_end_is_closed_beside_a_sleeper,
        an_end_that_another_thread_drops_is_closed,
        the_end_of_a_thread_is_told_like_a_death,
        who_holds_too_much_cannot_claim,
        a_child_takes_its_end_along_by_closure,
        debug_tells_state_and_holder,
        threads_share_a_channel,
    ])
}

fn holder(error: ClaimError) -> u32 {
    match error {
        ClaimError::Held { by } => by,
        other => panic!("{other:?}"),
    }
}

fn messages_cross_in_order() {
    let (mut sender, mut receiver) = channel(256).unwrap();
    let child = fork_child(|| {
        for i in 0..20_000_u32 {
            sender.send((i, format!("message {i}"))).unwrap();
        }
    });
    for i in 0..20_000_u32 {
        assert_eq!(receiver.recv().unwrap(), (i, format!("message {i}")));
    }
    child.join_ok();
    assert!(receiver.is_empty());
}

fn messages_of_every_length_cross_the_end_of_the_buffer() {
    let (mut sender, mut receiver) = Channel::new(1024).bytes().unwrap();
    let lengths = || (0..=1000_usize).chain((0..=1000).rev());
    let child = fork_child(|| {
        for len in lengths() {
            sender.send(vec![len as u8; len]).unwrap();
        }
    });
    for len in lengths() {
        assert_eq!(receiver.recv().unwrap(), vec![len as u8; len]);
    }
    child.join_ok();
}

fn the_longest_message_fits_wherever_it_begins() {
    let (mut sender, mut receiver) = Channel::new(128).bytes().unwrap();
    let longest: Vec<u8> = (0..sender.max_message_len() as u8).collect();
    for _ in 0..40 {
        sender.try_send(longest.clone()).unwrap();
        assert!(matches!(sender.try_send(vec![]), Err(TrySendError::Full(_))));
        assert_eq!(receiver.recv().unwrap(), longest);
        // Moves on by one unit, so that the next begins elsewhere.
        sender.try_send(vec![]).unwrap();
        assert_eq!(receiver.recv().unwrap(), []);
    }
}

fn a_message_is_there_when_send_returns_and_its_sender_may_be_killed() {
    let (mut sender, mut receiver) = channel(4096).unwrap();
    let told = Atomic::new(0_u32).unwrap();
    let child = fork_child(|| {
        sender.send(String::from("kept")).unwrap();
        told.set(1);
        loop {
            thread::park();
        }
    });
    until(|| told.get() == 1);
    child.kill();
    assert_eq!(receiver.try_recv().unwrap(), "kept");
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
}

fn a_receiver_waits_for_a_message() {
    let (mut sender, mut receiver) = Channel::new(4096).plain::<u64>().unwrap();
    let child = fork_child(|| assert_eq!(receiver.recv().unwrap(), 7));
    child.until_asleep();
    sender.send(7).unwrap();
    child.join_ok();
}

fn a_sender_waits_for_room() {
    let (mut sender, mut receiver) = Channel::new(64).plain::<u64>().unwrap();
    let child = fork_child(|| (0..9).for_each(|i| sender.send(i).unwrap()));
    child.until_asleep();
    assert_eq!(receiver.len(), 8);
    (0..9).for_each(|i| assert_eq!(receiver.recv().unwrap(), i));
    child.join_ok();
}

fn both_sleep_in_turn() {
    // One answers the other, so each sleeps again and again; then a burst, after which sleeps count as rare; and again.
    let (mut there, mut asked) = Channel::new(64).plain::<u64>().unwrap();
    let (mut back, mut answered) = Channel::new(64).plain::<u64>().unwrap();
    let child = fork_child(|| {
        while let Ok(n) = asked.recv() {
            back.send(n + 1).unwrap();
        }
    });
    for round in 0..20 {
        for n in 0..50 {
            if round % 4 == 0 {
                child.until_asleep();
            }
            there.send(n).unwrap();
            assert_eq!(answered.recv().unwrap(), n + 1);
        }
    }
    there.close().unwrap();
    child.join_ok();
}

fn try_forms_never_wait() {
    let (mut sender, mut receiver) = Channel::new(64).plain::<u64>().unwrap();
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(receiver.try_recv_many(&mut Vec::new(), 9), Err(TryRecvError::Empty));
    // Plain data has no headers.
    (0..8).for_each(|i| sender.try_send(i).unwrap());
    assert!(matches!(sender.try_send(8), Err(TrySendError::Full(8))));
    assert_eq!(sender.try_send_many(&mut vec![8, 9]), Err(SendManyError::Full { sent: 0 }));
    assert!(sender.is_full());
}

fn timeouts_last_at_least_so_long() {
    let (mut sender, mut receiver) = Channel::new(64).bytes().unwrap();
    let limit = Duration::from_millis(30);
    let lasts = |wait: &mut dyn FnMut()| {
        let start = Instant::now();
        wait();
        assert!(start.elapsed() >= limit);
    };
    lasts(&mut || assert_eq!(receiver.recv_timeout(limit), Err(RecvTimeoutError::TimedOut)));
    lasts(&mut || assert!(matches!(receiver.read_timeout(limit), Err(RecvTimeoutError::TimedOut))));
    lasts(&mut || {
        assert_eq!(receiver.recv_many_timeout(&mut Vec::new(), 2, limit), Err(RecvTimeoutError::TimedOut));
    });
    sender.send(vec![1; 50]).unwrap();
    lasts(&mut || {
        let error = sender.send_timeout(vec![2; 9], limit).unwrap_err();
        assert!(matches!(error, SendTimeoutError::TimedOut(value) if value == [2; 9]));
    });
    lasts(&mut || assert!(matches!(sender.reserve_timeout(9, limit), Err(SendTimeoutError::TimedOut(())))));
    lasts(&mut || {
        let error = sender.send_many_timeout(&mut vec![vec![3]], limit).unwrap_err();
        assert_eq!(error, SendManyError::TimedOut { sent: 0 });
    });
    assert!(matches!(sender.send_timeout(vec![2; 9], Duration::ZERO), Err(SendTimeoutError::TimedOut(_))));
}

fn batches_cross_whole_and_wait_for_room() {
    let (mut sender, mut receiver) = Channel::new(256).plain::<u64>().unwrap();
    const ALL: u64 = 30_000;
    let child = fork_child(|| {
        let mut next = 0;
        while next < ALL {
            let mut batch: Vec<u64> = (next..ALL.min(next + 1 + next % 37)).collect();
            next += batch.len() as u64;
            sender.send_many(&mut batch).unwrap();
            assert!(batch.is_empty());
        }
    });
    let mut received = Vec::new();
    while (received.len() as u64) < ALL {
        let before = received.len();
        let count = receiver.recv_many(&mut received, 1 + before % 29).unwrap();
        assert!(count >= 1 && count <= 1 + before % 29 && received.len() == before + count);
    }
    assert!((0..ALL).eq(received));
    child.join_ok();
    assert_eq!(receiver.recv_many(&mut Vec::new(), 0), Ok(0));
}

/// Messages of `N` bytes through a channel of `capacity` bytes, in batches of changing sizes and one by one.
fn plain_data_of<const N: usize>(capacity: usize, fits: usize)
where
    [u8; N]: Plain,
{
    let (mut sender, mut receiver) = Channel::new(capacity).plain::<[u8; N]>().unwrap();
    assert!(sender.capacity() >= capacity && sender.max_message_len() >= N, "{sender:?}");
    let (mut sent, mut received) = (0_usize, 0_usize);
    let message = |number: usize| [number as u8; N];
    for round in 0..200 {
        let begin = sent;
        let mut batch: Vec<_> = (sent..sent + round % (2 * fits)).map(message).collect();
        let asked = batch.len();
        let refused = sender.try_send_many(&mut batch);
        sent += asked - batch.len();
        assert_eq!(
            refused,
            if batch.is_empty() { Ok(()) } else { Err(SendManyError::Full { sent: sent - begin }) }
        );
        if sender.try_send(message(sent)).is_ok() {
            sent += 1;
        }
        assert_eq!((sender.len(), sender.is_full()), (sent - received, sent - received == fits));
        let mut there = Vec::new();
        match receiver.try_recv_many(&mut there, 1 + round % (fits + 3)) {
            Ok(count) => assert_eq!(count, there.len()),
            Err(error) => assert!(error == TryRecvError::Empty && sent == received),
        }
        there.extend(receiver.try_recv());
        let expected: Vec<_> = (received..received + there.len()).map(message).collect();
        assert_eq!(there, expected, "{N} bytes, round {round}");
        received += there.len();
    }
    assert!(received > 100);
}

fn plain_data_has_no_headers() {
    plain_data_of::<8>(64, 8);
    plain_data_of::<24>(64, 3);
    plain_data_of::<40>(128, 4);
    plain_data_of::<1000>(64, 1);
    // What is not a multiple of 8 is padded, and nothing takes 8 bytes.
    plain_data_of::<3>(64, 8);
    plain_data_of::<13>(64, 4);
    plain_data_of::<0>(64, 8);
    let too_large = Channel::new(4096).plain::<[[u8; 1 << 30]; 5]>();
    assert!(matches!(too_large, Err(RegionError::TooLarge { need: 0x1_4000_0000, .. })), "{too_large:?}");
}

fn a_batch_stops_at_what_cannot_be_sent() {
    let (mut sender, mut receiver) = Channel::new(128).bytes().unwrap();
    let mut batch = vec![vec![1], vec![2; 121], vec![3]];
    let error = sender.send_many(&mut batch).unwrap_err();
    assert_eq!(error, SendManyError::TooLong { sent: 1, len: 121, limit: 120 });
    assert_eq!(batch, [vec![2; 121], vec![3]]);
    assert_eq!(receiver.recv().unwrap(), [1]);
    let mut batch = vec![vec![7; 40]; 5];
    let error = sender.try_send_many(&mut batch).unwrap_err();
    assert_eq!((error, batch.len()), (SendManyError::Full { sent: 2 }, 3));
    assert_eq!(error_text(SendManyError::Full { sent: 2 }), "the queue is full, after 2 were sent");
    drop(receiver);
    assert_eq!(sender.send_many(&mut batch), Err(SendManyError::Disconnected { sent: 0 }));
    assert_eq!(batch.len(), 3);
}

fn error_text(error: impl std::error::Error) -> String {
    error.to_string()
}

fn slots_are_written_and_messages_read_in_place() {
    let (mut sender, mut receiver) = Channel::new(4096).bytes().unwrap();
    let child = fork_child(|| {
        for round in 0..5_000_usize {
            let mut slot = sender.reserve(round % 1500).unwrap();
            assert_eq!(slot.len(), round % 1500);
            slot.fill(round as u8);
            slot.commit().unwrap();
        }
    });
    for round in 0..5_000_usize {
        let message = receiver.read().unwrap();
        assert_eq!(*message, *vec![round as u8; round % 1500]);
    }
    child.join_ok();
    assert!(matches!(sender.try_reserve(4089), Err(TrySendError::TooLong { len: 4089, limit: 4088, .. })));
}

fn a_slot_that_is_dropped_sends_nothing() {
    let (mut sender, mut receiver) = Channel::new(64).bytes().unwrap();
    sender.reserve(20).unwrap().fill(9);
    assert!(receiver.try_read().is_err());
    std::mem::forget(sender.reserve(56).unwrap());
    let mut slot = sender.try_reserve(3).unwrap();
    slot.copy_from_slice(b"yes");
    slot.commit().unwrap();
    assert_eq!((sender.len(), receiver.recv().unwrap()), (1, b"yes".to_vec()));
}

fn a_message_that_is_forgotten_stays() {
    let (mut sender, mut receiver) = Channel::new(64).bytes().unwrap();
    sender.send(b"again".to_vec()).unwrap();
    std::mem::forget(receiver.read().unwrap());
    assert_eq!(*receiver.read().unwrap(), *b"again");
    assert!(matches!(receiver.try_read(), Err(TryRecvError::Empty)));
}

fn a_forked_copy_of_a_slot_sends_nothing() {
    let (mut sender, mut receiver) = Channel::new(64).bytes().unwrap();
    let mut slot = sender.reserve(2).unwrap();
    slot.copy_from_slice(b"ok");
    let mut held = Some(slot);
    fork_child(|| {
        let bytes = AssertUnwindSafe(|| held.as_ref().unwrap()[0]);
        assert!(catch_unwind(bytes).is_err(), "a copy gives no references");
        held.take().unwrap().commit().unwrap();
    })
    .join_ok();
    assert!(receiver.try_recv().is_err());
    held.unwrap().commit().unwrap();
    let message = receiver.read().unwrap();
    let mut held = Some(message);
    fork_child(|| drop(held.take())).join_ok();
    assert_eq!(**held.as_ref().unwrap(), *b"ok");
    drop(held);
    assert!(receiver.is_empty());
}

fn len_and_capacity_are_exact() {
    let (mut sender, mut receiver) = channel(4096).unwrap();
    for i in 0..10_usize {
        assert_eq!((sender.len(), receiver.len()), (i, i));
        sender.send("x".repeat(i)).unwrap();
    }
    for i in (0..10_usize).rev() {
        receiver.recv().unwrap();
        assert_eq!((sender.len(), receiver.len()), (i, i));
    }
    assert_eq!((sender.capacity(), receiver.capacity()), (4096, 4096));
    assert_eq!((sender.max_message_len(), sender.max_items()), (4088, None));
    let (mut sender, mut receiver) = Channel::new(Capacity::bytes(4096).items(2)).plain::<u8>().unwrap();
    for i in 0..100 {
        sender.try_send(i).unwrap();
        sender.try_send(i).unwrap();
        assert!(sender.is_full() && sender.try_send(i).is_err());
        assert_eq!([receiver.recv().unwrap(), receiver.recv().unwrap()], [i, i]);
    }
    assert_eq!(sender.max_items(), Some(2));
}

fn bad_capacities_are_errors() {
    assert!(matches!(channel::<u8>(0), Err(RegionError::ZeroSize)));
    for capacity in [usize::MAX, usize::MAX / 2, (1 << 32) + 1] {
        match channel::<u8>(capacity) {
            Err(RegionError::TooLarge { need, limit }) => assert_eq!((need, limit), (capacity, 1 << 32)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(channel::<u8>(1).unwrap().0.capacity(), 64);
}

fn too_long_a_message_is_an_error_that_names_the_figures() {
    let (mut sender, mut receiver) = channel(128).unwrap();
    let longest = "x".repeat(119);
    sender.send(longest.clone()).unwrap();
    assert_eq!(receiver.recv().unwrap(), longest);
    let error = sender.send("x".repeat(120)).unwrap_err();
    assert_eq!(error.to_string(), "message too long: 121 bytes, the queue holds at most 120");
    assert!(matches!(error, SendError::TooLong { len: 121, limit: 120, .. }));
    assert!(matches!(sender.try_send("x".repeat(500)), Err(TrySendError::TooLong { .. })));
}

fn values_that_cannot_be_encoded_come_back() {
    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Stubborn;
    impl serde::Serialize for Stubborn {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("no"))
        }
    }
    let (mut sender, _receiver) = channel(64).unwrap();
    assert!(matches!(sender.send(Stubborn), Err(SendError::Encode { value: Stubborn, .. })));
    assert!(sender.is_empty());
}

fn a_message_of_another_type_is_a_decode_error() {
    // The same type in name, but it does not read what it wrote.
    #[derive(Debug, serde::Serialize)]
    struct Odd;
    impl<'de> serde::Deserialize<'de> for Odd {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Odd, D::Error> {
            Err(serde::de::Error::custom("unreadable"))
        }
    }
    let (mut sender, mut receiver) = channel(64).unwrap();
    sender.send(Odd).unwrap();
    assert!(matches!(receiver.recv(), Err(RecvError::Decode(_))));
    assert!(receiver.is_empty(), "what cannot be read is gone");
    sender.send(Odd).unwrap();
    assert!(matches!(receiver.recv_many(&mut Vec::new(), 2), Err(RecvError::Decode(_))));
    assert!(receiver.is_empty());
}

fn a_channel_in_a_full_region_is_an_error() {
    let region = Region::anonymous(16384).unwrap();
    let (mut sender, mut receiver) = Channel::new(4096).in_region(&region).serde::<u8>().unwrap();
    sender.send(1).unwrap();
    match Channel::new(4096).in_region(&region).serde::<u8>() {
        Err(RegionError::NoRoom { need, have }) => assert!(need > have, "need {need}, have {have}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(receiver.recv().unwrap(), 1);
}

fn a_dropped_sender_is_missed_when_all_is_received() {
    let (mut sender, mut receiver) = channel(64).unwrap();
    sender.send(1).unwrap();
    sender.send(2).unwrap();
    drop(sender);
    assert!(receiver.is_disconnected());
    assert_eq!((receiver.recv(), receiver.try_recv()), (Ok(1), Ok(2)));
    assert_eq!(receiver.recv(), Err(RecvError::Disconnected));
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
    let limit = Duration::from_secs(9);
    assert_eq!(receiver.recv_timeout(limit), Err(RecvTimeoutError::Disconnected));
    assert_eq!(receiver.recv_many(&mut Vec::new(), 2), Err(RecvError::Disconnected));
    assert_eq!(RecvError::Disconnected.to_string(), "all senders are gone, and there is nothing left");
    assert_eq!(receiver.iter().count(), 0);
}

fn a_dropped_receiver_is_missed_at_once() {
    let (mut sender, mut receiver) = channel(64).unwrap();
    sender.send("x".to_string()).unwrap();
    receiver.recv().unwrap();
    drop(receiver);
    let error = sender.send("x".to_string()).unwrap_err();
    assert_eq!(error.to_string(), "all receivers are gone");
    assert_eq!(error.into_inner(), "x");
    assert!(matches!(sender.try_send("x".to_string()), Err(TrySendError::Disconnected(x)) if x == "x"));
    let error = sender.send_timeout("x".to_string(), Duration::ZERO);
    assert!(matches!(error, Err(SendTimeoutError::Disconnected(_))));
}

fn close_is_for_good_in_every_process() {
    let (mut sender, mut receiver) = channel(64).unwrap();
    sender.send(1).unwrap();
    sender.close().unwrap();
    sender.close().unwrap();
    assert!(matches!(sender.send(2), Err(SendError::Closed(2))));
    assert!(matches!(sender.try_send(2), Err(TrySendError::Closed(2))));
    assert_eq!(sender.claim(), Err(ClaimError::Closed));
    fork_child(|| assert!(matches!(sender.send(2), Err(SendError::Closed(2))))).join_ok();
    assert_eq!((receiver.recv(), receiver.recv()), (Ok(1), Err(RecvError::Disconnected)));
    receiver.close().unwrap();
    assert_eq!(receiver.recv(), Err(RecvError::Closed));
    assert!(sender.is_closed() && receiver.is_closed());
}

fn an_end_is_held_by_one_thread_at_a_time() {
    let (mut sender, mut receiver) = channel(64).unwrap();
    sender.claim().unwrap();
    sender.claim().unwrap();
    let me = std::process::id();
    fork_child(|| {
        assert_eq!(holder(sender.claim().unwrap_err()), me);
        let error = sender.send(1).unwrap_err();
        assert_eq!(error.to_string(), format!("the end of the channel is held by thread {me}"));
        assert_eq!(holder(sender.close().unwrap_err()), me);
        assert_eq!(holder(sender.release().unwrap_err()), me);
    })
    .join_ok();
    let mut copied = Some(sender);
    fork_child(|| drop(copied.take())).join_ok();
    let mut sender = copied.unwrap();
    thread::scope(|scope| {
        let (sender, receiver) = (&mut sender, &mut receiver);
        scope.spawn(move || {
            assert_eq!(holder(sender.claim().unwrap_err()), me);
            assert!(matches!(sender.send(1), Err(SendError::Claim { value: 1, .. })));
            assert_eq!(sender.try_send_many(&mut vec![1]).unwrap_err().sent(), 0);
            receiver.claim().unwrap();
            receiver.release().unwrap();
        });
    });
    sender.release().unwrap();
    thread::scope(|scope| {
        let sender = &mut sender;
        scope.spawn(move || {
            sender.send(1).unwrap();
            sender.release().unwrap();
        });
    });
    sender.send(2).unwrap();
    assert_eq!((receiver.recv(), receiver.recv()), (Ok(1), Ok(2)));
}

fn an_end_that_is_given_back_may_be_claimed_by_another_process() {
    let (mut sender, mut receiver) = channel(4096).unwrap();
    for round in 0..10 {
        sender.send(round * 10).unwrap();
        sender.release().unwrap();
        fork_child(|| {
            (1..10).for_each(|i| sender.send(round * 10 + i).unwrap());
            sender.release().unwrap();
        })
        .join_ok();
    }
    sender.close().unwrap();
    assert!(receiver.iter().map(Result::unwrap).eq(0..100));
}

fn an_end_that_nobody_claims_is_waited_for() {
    let (sender, mut receiver) = channel::<u8>(64).unwrap();
    fork_child(|| ()).join_ok();
    // A child might have it.
    drop(sender);
    assert_eq!(receiver.recv_timeout(Duration::from_millis(5)), Err(RecvTimeoutError::TimedOut));
    let (mut sender, mut receiver) = channel::<u8>(64).unwrap();
    let waiting = fork_child(|| assert_eq!(receiver.recv(), Err(RecvError::Disconnected)));
    waiting.until_asleep();
    sender.close().unwrap();
    waiting.join_ok();
}

fn an_unclaimed_end_that_no_fork_copied_is_closed_when_dropped() {
    let (sender, mut receiver) = channel::<u8>(64).unwrap();
    drop(sender);
    assert_eq!(receiver.recv(), Err(RecvError::Disconnected));
    let (mut sender, receiver) = channel::<u8>(64).unwrap();
    drop(receiver);
    assert!(matches!(sender.send(1), Err(SendError::Disconnected(1))));
}

fn an_unclaimed_end_is_closed_beside_a_sleeper() {
    let (sender, mut receiver) = channel::<u8>(64).unwrap();
    let (tell, told) = mpsc::channel();
    let waiting = thread::spawn(move || {
        tell.send(gettid()).unwrap();
        receiver.recv()
    });
    let waiter = told.recv().unwrap();
    until(|| is_asleep_in_futex(waiter));
    drop(sender);
    assert_eq!(waiting.join().unwrap(), Err(RecvError::Disconnected));
}

fn an_end_that_another_thread_drops_is_closed() {
    let (mut sender, mut receiver) = channel(64).unwrap();
    sender.send(1).unwrap();
    let waiting = fork_child(|| {
        assert_eq!(receiver.recv(), Ok(1));
        assert_eq!(receiver.recv(), Err(RecvError::Disconnected));
    });
    waiting.until_asleep();
    thread::spawn(move || drop(sender)).join().unwrap();
    waiting.join_ok();
}

fn the_end_of_a_thread_is_told_like_a_death() {
    let (mut sender, mut receiver) = channel(64).unwrap();
    let mut sender = thread::spawn(move || {
        sender.send(1).unwrap();
        sender
    })
    .join()
    .unwrap();
    assert_eq!((receiver.recv(), receiver.recv()), (Ok(1), Err(RecvError::Disconnected)));
    // It has no holder now, and is not closed.
    sender.send(2).unwrap();
    assert_eq!(receiver.recv(), Ok(2));
}

fn who_holds_too_much_cannot_claim() {
    let ends: Vec<(Sender<u8>, Receiver<u8>)> = (0..1021).map(|_| channel(64).unwrap()).collect();
    let (mut ends, mut last) = (ends, None);
    for (sender, receiver) in &mut ends {
        last = [sender.claim(), receiver.claim()].into_iter().find_map(Result::err).or(last);
    }
    assert_eq!(last, Some(ClaimError::TooManyHeld { held: 2040, limit: 2040 }));
    assert_eq!(last.unwrap().to_string(), "too many locks held: this thread holds 2040, at most 2040");
    assert!(matches!(ends[1020].0.send(1), Err(SendError::Claim { value: 1, .. })));
    ends[0].0.close().unwrap();
    ends[1020].0.send(1).unwrap();
}

fn a_child_takes_its_end_along_by_closure() {
    let (mut sender, mut receiver) = channel(64).unwrap();
    let child = Process::spawn(move || {
        let numbers: Result<Vec<u64>, _> = receiver.iter().collect();
        numbers.unwrap().into_iter().sum::<u64>()
    })
    .unwrap();
    (1..=100).for_each(|i| sender.send(i).unwrap());
    drop(sender);
    assert_eq!(child.join().unwrap(), 5050);
    let (mut sender, receiver) = channel(64).unwrap();
    let child = Process::spawn(move || (1..=100_u64).for_each(|i| sender.send(i).unwrap())).unwrap();
    assert_eq!(receiver.into_iter().map(Result::unwrap).sum::<u64>(), 5050);
    child.join().unwrap();
}

fn debug_tells_state_and_holder() {
    let (mut sender, receiver) = channel(64).unwrap();
    sender.send(1_u8).unwrap();
    let me = std::process::id();
    assert_eq!(
        format!("{sender:?}"),
        format!(
            "Sender {{ len: 1, capacity: 64, max_items: None, closed: false, disconnected: false, \
             end: held by thread {me}, receiver: free }}"
        )
    );
    assert!(format!("{receiver:?}").contains(&format!("end: free, sender: held by thread {me}")));
}

fn threads_share_a_channel() {
    let (mut sender, mut receiver) = Channel::new(256).plain::<u64>().unwrap();
    let sum = Array::<u64>::zeroed(1).unwrap();
    thread::scope(|scope| {
        scope.spawn(move || (1..=20_000).for_each(|n| sender.send(n).unwrap()));
        scope.spawn(|| sum.set(0, receiver.iter().map(Result::unwrap).sum()).unwrap());
    });
    assert_eq!(sum.get(0).unwrap(), 20_000 * 20_001 / 2);
}
