//! Messages of a `Queue` that are written and read where they lie.

mod support;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    time::Duration,
};

use pshared::{
    Atomic, Bytes, Capacity, Queue, RecvError, RecvTimeoutError, Region, RegionError, SendError,
    SendTimeoutError, TryRecvError, TrySendError,
};
use support::{fork_child, until};

fn main() -> ExitCode {
    support::main(support::tests![
        every_length_is_written_and_read_wherever_it_lies,
        a_slot_that_is_dropped_sends_nothing,
        a_queue_that_is_closed_meanwhile_refuses_the_commit,
        room_and_messages_are_waited_for,
        the_errors_are_those_of_send_and_recv,
        the_others_of_that_end_wait_meanwhile,
        a_killed_holder_of_a_slot_has_sent_nothing,
        a_killed_reader_has_taken_nothing,
        a_forked_copy_does_nothing,
        a_second_use_of_the_same_end_by_this_thread_panics,
        processes_pass_messages_in_place,
        registered_peers_are_missed,
    ])
}

fn queue(capacity: usize) -> Queue<Vec<u8>, Bytes> {
    Queue::bytes(capacity).unwrap()
}

/// Writes `bytes` in place.
fn write(queue: &Queue<Vec<u8>, Bytes>, bytes: &[u8]) {
    let mut slot = queue.reserve(bytes.len()).unwrap();
    slot.copy_from_slice(bytes);
    slot.commit().unwrap();
}

fn every_length_is_written_and_read_wherever_it_lies() {
    let queue = queue(128);
    for round in 0..2_000 {
        let bytes = vec![round as u8; round % 121];
        match round % 3 {
            0 => queue.send(bytes.clone()).unwrap(),
            _ => write(&queue, &bytes),
        }
        assert_eq!(queue.len(), 1);
        match round % 4 {
            0 => assert_eq!(queue.recv().unwrap(), bytes),
            _ => assert_eq!(*queue.read().unwrap(), *bytes),
        }
        assert!(queue.is_empty());
    }
}

fn a_slot_that_is_dropped_sends_nothing() {
    let queue = queue(64);
    let mut slot = queue.reserve(9).unwrap();
    slot.fill(1);
    assert_eq!((slot.len(), format!("{slot:?}").as_str()), (9, "Slot { len: 9 }"));
    drop(slot);
    assert_eq!(queue.try_recv(), Err(TryRecvError::Empty));
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _slot = queue.reserve(5).unwrap();
        panic!("in the middle");
    }));
    assert!(panicked.is_err());
    write(&queue, b"next");
    let message = queue.read().unwrap();
    assert_eq!(format!("{message:?}"), "Message { len: 4 }");
    // It is there until it is dropped.
    assert_eq!((&*message, queue.len()), (&b"next"[..], 1));
    drop(message);
    assert!(queue.is_empty());
}

fn a_queue_that_is_closed_meanwhile_refuses_the_commit() {
    let queue = queue(64);
    let slot = queue.reserve(3).unwrap();
    queue.close();
    assert!(matches!(slot.commit(), Err(SendError::Closed(()))));
    assert!(matches!(queue.read().map(drop), Err(RecvError::Closed)));
    assert!(matches!(queue.reserve(1).map(drop), Err(SendError::Closed(()))));
}

fn room_and_messages_are_waited_for() {
    let queue = queue(64);
    let reader = fork_child(|| assert_eq!(*queue.read().unwrap(), *b"first"));
    reader.until_asleep();
    write(&queue, b"first");
    reader.join_ok();
    while queue.try_send(vec![0; 8]).is_ok() {}
    let writer = fork_child(|| write(&queue, b"last"));
    writer.until_asleep();
    while *queue.read().unwrap() != *b"last" {}
    writer.join_ok();
}

fn the_errors_are_those_of_send_and_recv() {
    let queue = queue(64);
    let moment = Duration::from_millis(2);
    assert!(matches!(queue.try_read().map(drop), Err(TryRecvError::Empty)));
    assert!(matches!(queue.read_timeout(moment).map(drop), Err(RecvTimeoutError::TimedOut)));
    let too_long = queue.reserve(57).map(drop);
    assert!(matches!(too_long, Err(SendError::TooLong { len: 57, limit: 56, .. })), "{too_long:?}");
    while queue.try_send(vec![0; 8]).is_ok() {}
    assert!(matches!(queue.try_reserve(1).map(drop), Err(TrySendError::Full(()))));
    assert!(matches!(queue.reserve_timeout(1, moment).map(drop), Err(SendTimeoutError::TimedOut(()))));
    let region = Region::anonymous(4096).unwrap();
    assert!(matches!(Queue::bytes_in(&region, 8192), Err(RegionError::NoRoom { .. })));
    let queue = Queue::bytes_in(&region, Capacity::bytes(256).items(1)).unwrap();
    write(&queue, b"one");
    assert!(matches!(queue.try_reserve(0).map(drop), Err(TrySendError::Full(()))));
}

fn the_others_of_that_end_wait_meanwhile() {
    let queue = queue(256);
    let slot = queue.reserve(8).unwrap();
    let other = fork_child(|| queue.send(b"second".to_vec()).unwrap());
    other.until_asleep();
    // The receiving end is free, and so is the queue to look at.
    assert_eq!((queue.len(), queue.try_recv()), (0, Err(TryRecvError::Empty)));
    slot.commit().unwrap();
    other.join_ok();
    let message = queue.read().unwrap();
    assert_eq!(message.len(), 8);
    let other = fork_child(|| assert_eq!(queue.recv().unwrap(), b"second"));
    other.until_asleep();
    queue.send(b"third".to_vec()).unwrap();
    drop(message);
    other.join_ok();
    assert_eq!(queue.len(), 1);
}

fn a_killed_holder_of_a_slot_has_sent_nothing() {
    let queue = queue(64);
    let there = Atomic::new(0_u8).unwrap();
    for round in 0..50_u8 {
        let victim = fork_child(|| {
            let mut slot = queue.reserve(usize::from(round)).unwrap();
            slot.fill(0xff);
            there.set(1);
            loop {
                std::thread::park();
            }
        });
        until(|| there.swap(0) == 1);
        let next = fork_child(|| write(&queue, &[round]));
        next.until_asleep();
        victim.kill();
        next.join_ok();
        assert_eq!(*queue.try_read().unwrap(), [round]);
    }
}

fn a_killed_reader_has_taken_nothing() {
    let queue = queue(64);
    let there = Atomic::new(0_u8).unwrap();
    for round in 0..50_u8 {
        write(&queue, &vec![round; usize::from(round)]);
        let victim = fork_child(|| {
            let _message = queue.read().unwrap();
            there.set(1);
            loop {
                std::thread::park();
            }
        });
        until(|| there.swap(0) == 1);
        let heir = fork_child(|| assert_eq!(*queue.read().unwrap(), *vec![round; usize::from(round)]));
        heir.until_asleep();
        victim.kill();
        heir.join_ok();
        assert!(queue.is_empty());
    }
}

fn a_forked_copy_does_nothing() {
    let queue = queue(64);
    let mut slot = queue.reserve(2).unwrap();
    slot.copy_from_slice(b"ok");
    let mut held = Some(slot);
    fork_child(|| {
        let bytes = AssertUnwindSafe(|| held.as_ref().unwrap()[0]);
        assert!(catch_unwind(bytes).is_err(), "a copy gives no references");
        held.take().unwrap().commit().unwrap();
    })
    .join_ok();
    assert!(queue.is_empty());
    held.unwrap().commit().unwrap();
    let mut held = Some(queue.read().unwrap());
    fork_child(|| drop(held.take())).join_ok();
    assert_eq!((queue.len(), &**held.as_ref().unwrap()), (1, &b"ok"[..]));
    drop(held);
    assert!(queue.is_empty());
}

fn a_second_use_of_the_same_end_by_this_thread_panics() {
    let queue = queue(64);
    let slot = queue.reserve(2).unwrap();
    let again = catch_unwind(AssertUnwindSafe(|| drop(queue.send(vec![1]))));
    let text = *again.unwrap_err().downcast::<&str>().unwrap();
    assert!(text.contains("this thread holds that end of the queue"), "{text}");
    slot.commit().unwrap();
    let message = queue.read().unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| drop(queue.read()))).is_err());
    drop(message);
    assert!(queue.is_empty());
}

fn processes_pass_messages_in_place() {
    let queue = queue(1 << 12);
    let (torn, sum) = (Atomic::new(0_u64).unwrap(), Atomic::new(0_u64).unwrap());
    const EACH: u64 = 5_000;
    let len = |number: u64| (number * 7919 % 600) as usize + 8;
    let readers: Vec<_> = (0..2)
        .map(|_| {
            fork_child(|| {
                while let Ok(message) = queue.read() {
                    let number = u64::from_ne_bytes(*message.first_chunk().unwrap());
                    let whole =
                        message.len() == len(number) && message[8..].iter().all(|&b| b == number as u8);
                    torn.fetch_add(u64::from(!whole));
                    sum.fetch_add(number);
                }
            })
        })
        .collect();
    let writers: Vec<_> = (0..2)
        .map(|writer| {
            let queue = &queue;
            fork_child(move || {
                for number in (writer..2 * EACH).step_by(2) {
                    let mut slot = queue.reserve(len(number)).unwrap();
                    slot.fill(number as u8);
                    slot[..8].copy_from_slice(&number.to_ne_bytes());
                    slot.commit().unwrap();
                }
            })
        })
        .collect();
    writers.into_iter().for_each(|writer| writer.join_ok());
    queue.close();
    readers.into_iter().for_each(|reader| reader.join_ok());
    assert_eq!((torn.get(), sum.get()), (0, EACH * (2 * EACH - 1)));
}

fn registered_peers_are_missed() {
    let queue = Queue::bytes(Capacity::bytes(256).peers(2)).unwrap();
    let registered = Atomic::new(0_u8).unwrap();
    let sender = fork_child(|| {
        let _sender = queue.sender().unwrap();
        registered.set(1);
        loop {
            std::thread::park();
        }
    });
    until(|| registered.get() == 1);
    let reader = fork_child(|| assert!(matches!(queue.read().map(drop), Err(RecvError::Disconnected))));
    reader.until_asleep();
    sender.kill();
    reader.join_ok();
}
