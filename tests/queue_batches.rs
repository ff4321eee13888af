//! What `Queue` promises about many messages at once, about bounds in messages, and about iteration.

mod support;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use pshared::{
    Atomic, Capacity, Queue, RecvError, RecvTimeoutError, RegionError, SendManyError, TryRecvError,
    TrySendError,
};
use support::{descriptors, fork_child, until};

fn main() -> ExitCode {
    support::main(support::tests![
        batches_cross_in_order,
        batches_of_every_length_cross_the_end_of_the_buffer,
        a_batch_larger_than_the_queue_is_sent_piece_by_piece,
        a_batch_waits_for_its_first_message_alone,
        what_did_not_fit_stays_in_the_list,
        a_closed_queue_says_how_many_were_sent,
        a_deadline_says_how_many_were_sent,
        a_message_that_cannot_be_sent_stands_at_the_head_of_the_rest,
        a_serialisation_that_panics_leaves_what_was_not_sent,
        what_cannot_be_decoded_costs_no_other_message,
        nothing_asked_for_is_nothing_received,
        more_than_one_commit_counts_are_received,
        a_batch_of_large_messages_takes_what_64_kib_hold,
        messages_bound_a_queue,
        bytes_bound_a_queue_that_messages_do_not,
        bad_bounds_are_errors,
        a_bound_in_messages_is_exact_among_many,
        full_is_exact,
        a_queue_is_iterated_over_until_it_is_closed,
        an_iteration_without_waiting_ends_when_it_is_empty,
        an_iteration_goes_on_after_a_message_that_cannot_be_read,
        debug_tells_state_and_owners,
        killed_batches_are_whole_at_their_commits,
        ten_thousand_deaths_leave_the_whole_capacity,
    ])
}

/// Numbers, some at a time, in batches of changing length.
fn batches_cross_in_order() {
    let queue = Queue::new(512).unwrap();
    let sender = fork_child(|| {
        let (mut next, mut batch) = (0_u32, Vec::new());
        while next < 30_000 {
            let end = next + 1 + next % 41;
            batch.extend((next..end).map(|i| (i, format!("message {i}"))));
            queue.send_many(&mut batch).unwrap();
            assert!(batch.is_empty());
            next = end;
        }
        queue.close();
    });
    let (mut got, mut expected) = (Vec::new(), 0);
    while queue.recv_many(&mut got, 1 + expected as usize % 17).is_ok() {
        for (i, text) in got.drain(..) {
            assert_eq!((i, text), (expected, format!("message {expected}")));
            expected += 1;
        }
    }
    assert!(expected >= 30_000);
    sender.join_ok();
}

fn batches_of_every_length_cross_the_end_of_the_buffer() {
    let queue = Queue::new(320).unwrap();
    let (mut sent, mut got) = (Vec::new(), Vec::new());
    for len in (0..=60_usize).chain((0..=60).rev()) {
        for count in 1..=4 {
            sent.extend((0..count).map(|i| vec![len as u8; len + i]));
            let copy = sent.clone();
            queue.try_send_many(&mut sent).unwrap();
            assert_eq!(queue.len(), count);
            assert_eq!(queue.recv_many(&mut got, 9).unwrap(), count);
            assert_eq!(got, copy);
            got.clear();
        }
    }
}

fn a_batch_larger_than_the_queue_is_sent_piece_by_piece() {
    let queue = Queue::plain(64).unwrap();
    let sender = fork_child(|| queue.send_many(&mut (0..5_000_u64).collect()).unwrap());
    sender.until_asleep();
    let mut got = Vec::new();
    while got.len() < 5_000 {
        queue.recv_many(&mut got, 3).unwrap();
    }
    assert!(got.into_iter().eq(0..5_000));
    sender.join_ok();
}

fn a_batch_waits_for_its_first_message_alone() {
    let queue = Queue::plain(4096).unwrap();
    let receiver = fork_child(|| {
        let mut got = Vec::new();
        assert_eq!(queue.recv_many(&mut got, 100).unwrap(), 1);
        assert_eq!(got, [7_u64]);
    });
    receiver.until_asleep();
    queue.send(7).unwrap();
    receiver.join_ok();
}

fn what_did_not_fit_stays_in_the_list() {
    let queue = Queue::plain(64).unwrap();
    let mut values: Vec<u64> = (0..7).collect();
    assert_eq!(queue.try_send_many(&mut values), Err(SendManyError::Full { sent: 4 }));
    assert_eq!(values, [4, 5, 6]);
    assert_eq!(queue.try_send_many(&mut values), Err(SendManyError::Full { sent: 0 }));
    queue.recv().unwrap();
    assert_eq!(queue.try_send_many(&mut values), Err(SendManyError::Full { sent: 1 }));
    let mut got = Vec::new();
    assert_eq!(queue.try_recv_many(&mut got, 100).unwrap(), 4);
    queue.try_send_many(&mut values).unwrap();
    queue.try_send_many(&mut values).unwrap();
    assert_eq!(queue.try_recv_many(&mut got, 100).unwrap(), 2);
    assert_eq!(got, [1, 2, 3, 4, 5, 6]);
    assert_eq!(queue.try_recv_many(&mut got, 1), Err(TryRecvError::Empty));
}

fn a_closed_queue_says_how_many_were_sent() {
    let queue = Queue::plain(64).unwrap();
    let sender = fork_child(|| {
        let mut values: Vec<u64> = (0..9).collect();
        let error = queue.send_many(&mut values).unwrap_err();
        assert_eq!(error, SendManyError::Closed { sent: 5 });
        assert_eq!(values, [5, 6, 7, 8]);
        assert_eq!(error.to_string(), "the queue is closed, after 5 were sent");
    });
    sender.until_asleep();
    assert_eq!(queue.recv().unwrap(), 0);
    until(|| queue.is_full());
    sender.until_asleep();
    queue.close();
    sender.join_ok();
    let mut got = Vec::new();
    assert_eq!(queue.recv_many(&mut got, 2).unwrap(), 2);
    assert_eq!(queue.recv_many(&mut got, 8).unwrap(), 2);
    assert_eq!(got, [1, 2, 3, 4]);
    assert_eq!(queue.recv_many(&mut got, 8), Err(RecvError::Closed));
    assert_eq!(queue.try_recv_many(&mut got, 8), Err(TryRecvError::Closed));
    assert_eq!(queue.recv_many_timeout(&mut got, 8, Duration::ZERO), Err(RecvTimeoutError::Closed));
}

fn a_deadline_says_how_many_were_sent() {
    let queue = Queue::plain(64).unwrap();
    let wait = Duration::from_millis(20);
    let (mut values, start) = ((0..6_u64).collect(), Instant::now());
    assert_eq!(queue.send_many_timeout(&mut values, wait), Err(SendManyError::TimedOut { sent: 4 }));
    assert!(start.elapsed() >= wait);
    assert_eq!(values, [4, 5]);
    let mut got = Vec::new();
    assert_eq!(queue.recv_many_timeout(&mut got, 10, Duration::ZERO).unwrap(), 4);
    let start = Instant::now();
    assert_eq!(queue.recv_many_timeout(&mut got, 10, wait), Err(RecvTimeoutError::TimedOut));
    assert!(start.elapsed() >= wait);
}

fn a_message_that_cannot_be_sent_stands_at_the_head_of_the_rest() {
    let queue = Queue::new(128).unwrap();
    let (short, long) = ("x".to_string(), "x".repeat(500));
    let mut values = vec![short.clone(), short.clone(), long.clone(), short.clone()];
    assert_eq!(queue.send_many(&mut values), Err(SendManyError::TooLong { sent: 2, len: 502, limit: 120 }));
    assert_eq!(values, [long, short]);
    assert_eq!(queue.len(), 2);

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Odd(u8);
    impl serde::Serialize for Odd {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            if self.0 == 3 { Err(serde::ser::Error::custom("no")) } else { serializer.serialize_u8(self.0) }
        }
    }
    let queue = Queue::new(128).unwrap();
    let mut values = vec![Odd(1), Odd(2), Odd(3), Odd(4)];
    let error = queue.send_many(&mut values).unwrap_err();
    assert!(matches!(error, SendManyError::Encode { sent: 2, .. }) && error.sent() == 2);
    assert_eq!(values, [Odd(3), Odd(4)]);
}

fn a_serialisation_that_panics_leaves_what_was_not_sent() {
    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Bomb(u16);
    impl serde::Serialize for Bomb {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            assert!(self.0 != 600, "as planned");
            serializer.serialize_u16(self.0)
        }
    }
    let queue = Queue::<Bomb>::new(1 << 16).unwrap();
    let mut values: Vec<Bomb> = (0..700).map(Bomb).collect();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| queue.send_many(&mut values)));
    assert!(panicked.is_err());
    // The first 511 were committed before the 600th was looked at.
    assert_eq!((queue.len(), values.len(), values[0].0), (511, 189, 511));
}

/// Sent as any byte; received only if it is not 3.
#[derive(Debug, PartialEq, serde::Serialize)]
struct Picky(u8);

impl<'de> serde::Deserialize<'de> for Picky {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Picky, D::Error> {
        let number = u8::deserialize(from)?;
        if number == 3 { Err(serde::de::Error::custom("unreadable")) } else { Ok(Picky(number)) }
    }
}

fn what_cannot_be_decoded_costs_no_other_message() {
    let queue = Queue::new(256).unwrap();
    queue.send_many(&mut (1..=5).map(Picky).collect()).unwrap();
    let mut got = Vec::new();
    assert!(matches!(queue.recv_many(&mut got, 10), Err(RecvError::Decode(_))));
    assert_eq!(got, [1, 2, 4, 5].map(Picky));
    assert!(queue.is_empty());
}

fn nothing_asked_for_is_nothing_received() {
    let queue = Queue::plain(256).unwrap();
    assert_eq!(queue.recv_many(&mut Vec::new(), 0), Ok(0));
    queue.send(1_u8).unwrap();
    assert_eq!(queue.recv_many(&mut Vec::new(), 0), Ok(0));
    queue.send_many(&mut Vec::new()).unwrap();
    assert_eq!(queue.len(), 1);
}

fn more_than_one_commit_counts_are_received() {
    let queue = Queue::plain(1 << 16).unwrap();
    queue.send_many(&mut (0..2_000_u64).collect()).unwrap();
    assert_eq!(queue.len(), 2_000);
    let mut got = Vec::new();
    assert_eq!(queue.recv_many(&mut got, 2_000).unwrap(), 511);
    while got.len() < 2_000 {
        queue.recv_many(&mut got, 2_000).unwrap();
    }
    assert!(got.into_iter().eq(0..2_000));
}

fn a_batch_of_large_messages_takes_what_64_kib_hold() {
    let queue = Queue::new(1 << 20).unwrap();
    let message = |i: usize| vec![i as u8; 30_000];
    queue.send_many(&mut (0..10).map(message).collect()).unwrap();
    let mut got = Vec::new();
    assert_eq!(queue.recv_many(&mut got, 10).unwrap(), 2);
    queue.send(vec![1; 100_000]).unwrap();
    while got.len() < 11 {
        queue.recv_many(&mut got, 10).unwrap();
    }
    assert!((0..10).all(|i| got[i] == message(i)) && got[10].len() == 100_000);
}

fn messages_bound_a_queue() {
    let queue = Queue::new(Capacity::bytes(4096).items(3)).unwrap();
    assert_eq!((queue.max_items(), queue.capacity()), (Some(3), 4096));
    for i in 0..10_u64 {
        queue.try_send(i).unwrap();
        queue.try_send(i).unwrap();
        queue.try_send(i).unwrap();
        assert!(matches!(queue.try_send(9), Err(TrySendError::Full(9))));
        assert_eq!(queue.try_send_many(&mut vec![9]), Err(SendManyError::Full { sent: 0 }));
        (0..3).for_each(|_| assert_eq!(queue.recv().unwrap(), i));
    }
    let sender = fork_child(|| queue.send_many(&mut (0..7).collect()).unwrap());
    sender.until_asleep();
    assert_eq!(queue.len(), 3);
    (0..7).for_each(|i| assert_eq!(queue.recv().unwrap(), i));
    sender.join_ok();
}

fn bytes_bound_a_queue_that_messages_do_not() {
    let queue = Queue::plain(Capacity::bytes(64).items(100)).unwrap();
    assert_eq!(queue.try_send_many(&mut vec![0_u64; 100]), Err(SendManyError::Full { sent: 4 }));
    let queue = Queue::plain(Capacity::bytes(64).items(usize::MAX)).unwrap();
    assert_eq!(queue.try_send_many(&mut vec![0_u64; 100]), Err(SendManyError::Full { sent: 4 }));
    assert_eq!(Queue::<u64>::new(64).unwrap().max_items(), None);
}

fn bad_bounds_are_errors() {
    assert!(matches!(Queue::<u8>::new(Capacity::bytes(64).items(0)), Err(RegionError::ZeroSize)));
    assert!(matches!(Queue::<u8>::new(Capacity::bytes(0).items(1)), Err(RegionError::ZeroSize)));
    assert!(matches!(Queue::<u8, _>::plain(Capacity::bytes(usize::MAX)), Err(RegionError::TooLarge { .. })));
}

fn a_bound_in_messages_is_exact_among_many() {
    let queue = Queue::plain(Capacity::bytes(4096).items(5)).unwrap();
    let seen = Atomic::new(0_u64).unwrap();
    let senders: Vec<_> =
        (0..3).map(|_| fork_child(|| (0..2_000_u64).for_each(|i| queue.send(i).unwrap()))).collect();
    let receiver = fork_child(|| {
        while queue.recv().is_ok() {
            seen.fetch_add(1);
        }
    });
    until(|| {
        assert!(queue.len() <= 5);
        seen.get() == 6_000
    });
    senders.into_iter().for_each(|sender| sender.join_ok());
    queue.close();
    receiver.join_ok();
}

fn full_is_exact() {
    let queue = Queue::plain(64).unwrap();
    for _ in 0..4 {
        assert!(!queue.is_full());
        queue.send(1_u64).unwrap();
    }
    assert!(queue.is_full());
    queue.recv().unwrap();
    assert!(!queue.is_full());
    // Eight bytes are left: room for an empty message, which a serde type might be.
    let queue = Queue::new(64).unwrap();
    queue.send("x".repeat(47)).unwrap();
    assert!(!queue.is_full());
    queue.recv().unwrap();
    queue.send("x".repeat(55)).unwrap();
    assert!(queue.is_full());
}

fn a_queue_is_iterated_over_until_it_is_closed() {
    let queue = Queue::plain(64).unwrap();
    let sender = fork_child(|| {
        (0..1_000_u64).for_each(|i| queue.send(i).unwrap());
        queue.close();
    });
    let first: Vec<u64> = queue.iter().take(10).map(Result::unwrap).collect();
    assert!(first.into_iter().eq(0..10));
    let mut expected = 10;
    for message in &queue {
        assert_eq!(message, Ok(expected));
        expected += 1;
    }
    assert_eq!(expected, 1_000);
    assert_eq!(queue.into_iter().count(), 0);
    sender.join_ok();
}

fn an_iteration_without_waiting_ends_when_it_is_empty() {
    let queue = Queue::plain(64).unwrap();
    assert_eq!(queue.try_iter().count(), 0);
    queue.send_many(&mut vec![1_u8, 2, 3]).unwrap();
    assert!(queue.try_iter().map(Result::unwrap).eq([1, 2, 3]));
    queue.send(4).unwrap();
    queue.close();
    assert!(queue.try_iter().map(Result::unwrap).eq([4]));
}

fn an_iteration_goes_on_after_a_message_that_cannot_be_read() {
    let queue = Queue::new(256).unwrap();
    queue.send_many(&mut (2..=4).map(Picky).collect()).unwrap();
    let kinds: Vec<bool> = queue.try_iter().map(|message| message.is_ok()).collect();
    assert_eq!(kinds, [true, false, true]);
    queue.send_many(&mut (2..=4).map(Picky).collect()).unwrap();
    queue.close();
    let kinds: Vec<bool> = queue.into_iter().map(|message| message.is_ok()).collect();
    assert_eq!(kinds, [true, false, true]);
}

fn debug_tells_state_and_owners() {
    let queue = Queue::<u8>::new(Capacity::bytes(64).items(2)).unwrap();
    queue.send(1).unwrap();
    let text = format!("{queue:?}");
    assert_eq!(
        text,
        "Queue { len: 1, capacity: 64, max_items: Some(2), closed: false, sending: free, receiving: free }"
    );
}

/// Senders send batches of eight: killed, each has sent whole commits, and the next goes on behind it.
fn killed_batches_are_whole_at_their_commits() {
    let queue = Queue::plain(1024).unwrap();
    let told = Atomic::new(0_u64).unwrap();
    let mut got = Vec::new();
    for round in 1..=60_u64 {
        told.set(0);
        let sender = fork_child(|| {
            for batch in 1_u64.. {
                // Eight times 32 bytes: four batches fill the queue, and none is ever cut.
                queue.send_many(&mut (0..8).map(|i| [round, batch, i]).collect()).unwrap();
                told.set(batch);
            }
        });
        while told.get() < 20 {
            queue.recv_many(&mut got, 8).unwrap();
        }
        sender.kill();
        while queue.try_recv_many(&mut got, 100).is_ok() {}
        let told = told.get();
        let whole = got.len() as u64 / 8;
        assert!(whole == told || whole == told + 1, "told {told}, came {whole}");
        let expected = (1..=whole).flat_map(|batch| (0..8).map(move |i| [round, batch, i]));
        assert!(got.drain(..).eq(expected));
    }
}

fn ten_thousand_deaths_leave_the_whole_capacity() {
    let queue = Queue::plain(64).unwrap();
    let before = (descriptors(), support::address_space());
    for death in 0..10_000_u64 {
        let fate = fork_child(|| {
            // Sleeps at the head of one of the lines, or dies somewhere on its way.
            if death % 2 == 0 {
                let _ = queue.recv_many(&mut Vec::new(), 4);
            } else {
                let _ = queue.send_many(&mut vec![death; 9]);
            }
        });
        if death % 64 < 2 {
            fate.until_asleep();
        }
        fate.kill();
        while death % 2 == 1 && queue.try_recv().is_ok() {}
    }
    assert_eq!((descriptors(), support::address_space()), before);
    for _ in 0..3 {
        assert_eq!(queue.try_send_many(&mut vec![7; 5]), Err(SendManyError::Full { sent: 4 }));
        assert!(queue.try_iter().map(Result::unwrap).eq([7; 4]));
    }
}
