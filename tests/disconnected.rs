//! What `Queue` tells of senders and receivers that have registered and ended, with really forked children.
//!
//! Where crossbeam-channel's suite (`tests/array.rs`) pins it, the test names its origin.

mod support;

use std::{
    mem,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use pshared::{
    Atomic, Capacity, Event, PlainData, Process, Queue, QueueEntryError, RecvError, RecvTimeoutError, Region,
    RegionError, SendError, SendManyError, SendTimeoutError, TryRecvError, TrySendError,
};
use support::{Child, fork_child};

fn main() -> ExitCode {
    support::main(support::tests![
        crossbeam_recv_after_disconnect,
        crossbeam_send_after_disconnect,
        crossbeam_disconnect_wakes_receiver,
        crossbeam_disconnect_wakes_sender,
        a_queue_that_nobody_registered_with_knows_of_no_end,
        a_receiver_that_sleeps_hears_of_the_last_senders_death,
        a_receiver_that_slept_before_anybody_registered_hears_of_the_death,
        a_sender_that_waits_for_room_hears_of_the_last_receivers_death,
        all_who_sleep_hear_of_it,
        as_long_as_one_lives_the_others_may_die,
        the_next_in_line_hears_of_it_when_the_head_is_killed,
        the_end_of_a_thread_is_the_end_of_its_registration,
        a_forked_copy_of_a_registration_is_none,
        what_was_sent_before_the_death_is_received_first,
        who_registers_again_is_there_again,
        batches_and_iteration_end_likewise,
        close_says_closed,
        as_many_register_as_there_is_room_for,
        the_dead_leave_their_room,
        threads_register_each_for_itself,
        timeouts_last_at_least_so_long,
        ten_thousand_deaths_leave_it_as_it_was,
        a_full_region_is_an_error,
        debug_tells_who_registered,
    ])
}

type Numbers = Queue<u64, PlainData>;

fn queue(items: usize) -> Numbers {
    Queue::plain(Capacity::bytes(1 << 12).items(items).peers(4)).unwrap()
}

const WHILE: Duration = Duration::from_millis(15);

/// A child that registers by `enter`, and then does nothing until it is killed.
fn registered<H>(enter: impl Fn() -> H) -> Child {
    let there = Event::new().unwrap();
    let child = fork_child(|| {
        let _handle = enter();
        there.set();
        loop {
            thread::sleep(Duration::from_secs(60));
        }
    });
    there.wait();
    child
}

fn sender(queue: &Numbers) -> Child {
    registered(|| queue.sender().unwrap())
}

fn receiver(queue: &Numbers) -> Child {
    registered(|| queue.receiver().unwrap())
}

/// `array::recv_after_disconnect`.
fn crossbeam_recv_after_disconnect() {
    let queue = queue(100);
    let sender = queue.sender().unwrap();
    (1..=3).for_each(|i| sender.send(i).unwrap());
    drop(sender);
    (1..=3).for_each(|i| assert_eq!(queue.recv(), Ok(i)));
    assert_eq!(queue.recv(), Err(RecvError::Disconnected));
    assert_eq!(queue.try_recv(), Err(TryRecvError::Disconnected));
    assert_eq!(queue.recv_timeout(WHILE), Err(RecvTimeoutError::Disconnected));
    // Who has not registered sends all the same.
    queue.send(4).unwrap();
    assert_eq!(queue.recv(), Ok(4));
}

/// `array::send_after_disconnect`.
fn crossbeam_send_after_disconnect() {
    let queue = queue(100);
    let receiver = queue.receiver().unwrap();
    (1..=3).for_each(|i| queue.send(i).unwrap());
    drop(receiver);
    assert!(matches!(queue.send(4), Err(SendError::Disconnected(4))));
    assert!(matches!(queue.try_send(5), Err(TrySendError::Disconnected(5))));
    assert!(matches!(queue.send_timeout(6, WHILE), Err(SendTimeoutError::Disconnected(6))));
    assert_eq!(queue.len(), 3);
}

/// `array::disconnect_wakes_receiver`.
fn crossbeam_disconnect_wakes_receiver() {
    let queue = queue(1);
    let sender = queue.sender().unwrap();
    let sleeper = fork_child(|| assert_eq!(queue.recv(), Err(RecvError::Disconnected)));
    sleeper.until_asleep();
    drop(sender);
    sleeper.join_ok();
}

/// `array::disconnect_wakes_sender`.
fn crossbeam_disconnect_wakes_sender() {
    let queue = queue(1);
    queue.send(1).unwrap();
    let receiver = queue.receiver().unwrap();
    let sleeper = fork_child(|| assert!(matches!(queue.send(2), Err(SendError::Disconnected(2)))));
    sleeper.until_asleep();
    drop(receiver);
    sleeper.join_ok();
}

fn a_queue_that_nobody_registered_with_knows_of_no_end() {
    let queue = queue(1);
    fork_child(|| queue.send(1).unwrap()).join_ok();
    assert_eq!(queue.recv(), Ok(1));
    assert_eq!(queue.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(queue.recv_timeout(WHILE), Err(RecvTimeoutError::TimedOut));
    // Receivers do not count as senders.
    drop(queue.receiver().unwrap());
    assert_eq!(queue.recv_timeout(WHILE), Err(RecvTimeoutError::TimedOut));
}

fn a_receiver_that_sleeps_hears_of_the_last_senders_death() {
    for _ in 0..50 {
        let queue = queue(1);
        let sender = sender(&queue);
        let sleeper = fork_child(|| assert_eq!(queue.recv(), Err(RecvError::Disconnected)));
        sleeper.until_asleep();
        sender.kill();
        sleeper.join_ok();
    }
}

fn a_receiver_that_slept_before_anybody_registered_hears_of_the_death() {
    for _ in 0..50 {
        let queue = queue(1);
        let sleeper = fork_child(|| assert_eq!(queue.recv(), Err(RecvError::Disconnected)));
        sleeper.until_asleep();
        sender(&queue).kill();
        sleeper.join_ok();
    }
}

fn a_sender_that_waits_for_room_hears_of_the_last_receivers_death() {
    for early in [true, false] {
        let queue = queue(1);
        queue.send(1).unwrap();
        let before = early.then(|| receiver(&queue));
        let sleeper = fork_child(|| assert!(matches!(queue.send(2), Err(SendError::Disconnected(2)))));
        sleeper.until_asleep();
        before.unwrap_or_else(|| receiver(&queue)).kill();
        sleeper.join_ok();
        assert_eq!(queue.recv(), Ok(1));
    }
}

fn all_who_sleep_hear_of_it() {
    let queue = queue(1);
    let sender = sender(&queue);
    let sleepers: Vec<_> =
        (0..20).map(|_| fork_child(|| assert_eq!(queue.recv(), Err(RecvError::Disconnected)))).collect();
    sleepers.iter().for_each(|sleeper| sleeper.until_asleep());
    sender.kill();
    sleepers.into_iter().for_each(|sleeper| sleeper.join_ok());
}

fn as_long_as_one_lives_the_others_may_die() {
    let queue = queue(1);
    let mut senders: Vec<_> = (0..4).map(|_| sender(&queue)).collect();
    let got = Atomic::new(0_u64).unwrap();
    let sleeper = fork_child(|| {
        got.set(queue.recv().unwrap());
        assert_eq!(queue.recv(), Err(RecvError::Disconnected));
    });
    sleeper.until_asleep();
    let last = senders.remove(1);
    senders.into_iter().for_each(|sender| sender.kill());
    sleeper.until_asleep();
    assert_eq!(got.get(), 0);
    queue.send(7).unwrap();
    support::until(|| got.get() == 7);
    sleeper.until_asleep();
    last.kill();
    sleeper.join_ok();
}

fn the_next_in_line_hears_of_it_when_the_head_is_killed() {
    for _ in 0..50 {
        let queue = queue(1);
        let sender = sender(&queue);
        let head = fork_child(|| drop(queue.recv()));
        head.until_asleep();
        let next = fork_child(|| assert_eq!(queue.recv(), Err(RecvError::Disconnected)));
        next.until_asleep();
        sender.kill();
        drop(head); // killed, unless it was told and has ended already
        next.join_ok();
    }
}

fn the_end_of_a_thread_is_the_end_of_its_registration() {
    let queue = queue(1);
    thread::scope(|scope| scope.spawn(|| mem::forget(queue.sender().unwrap())).join().unwrap());
    // The join may come before the kernel has looked through the thread's list.
    assert_eq!(queue.recv(), Err(RecvError::Disconnected));
}

fn a_forked_copy_of_a_registration_is_none() {
    let queue = queue(1);
    let sender = queue.sender().unwrap();
    let child = Process::spawn(|| drop(sender)).unwrap();
    child.join().unwrap();
    // The parent dropped its own with the closure.
    assert_eq!(queue.recv(), Err(RecvError::Disconnected));
    let sender = queue.sender().unwrap();
    fork_child(|| {
        // SAFETY: the child ends without touching it again.
        drop(unsafe { std::ptr::read(&sender) });
    })
    .join_ok();
    assert_eq!(queue.try_recv(), Err(TryRecvError::Empty));
    drop(sender);
    assert_eq!(queue.try_recv(), Err(TryRecvError::Disconnected));
}

fn what_was_sent_before_the_death_is_received_first() {
    for _ in 0..50 {
        let (queue, sent) = (queue(1000), Atomic::new(0_u64).unwrap());
        let sender = fork_child(|| {
            let sender = queue.sender().unwrap();
            for i in 1.. {
                sender.send(i).unwrap();
                sent.set(i);
            }
        });
        let mut last = 0;
        while last < 20 {
            last += 1;
            assert_eq!(queue.recv(), Ok(last));
        }
        sender.kill();
        loop {
            match queue.recv() {
                Ok(number) => last = number,
                Err(error) => break assert_eq!(error, RecvError::Disconnected),
            }
        }
        assert!(last == sent.get() || last == sent.get() + 1);
    }
}

fn who_registers_again_is_there_again() {
    let queue = queue(1);
    drop(queue.sender().unwrap());
    assert_eq!(queue.try_recv(), Err(TryRecvError::Disconnected));
    let again = queue.sender().unwrap();
    assert_eq!(queue.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(queue.recv_timeout(WHILE), Err(RecvTimeoutError::TimedOut));
    again.send(1).unwrap();
    drop(again);
    assert_eq!((queue.recv(), queue.recv()), (Ok(1), Err(RecvError::Disconnected)));
}

fn batches_and_iteration_end_likewise() {
    let queue = queue(8);
    let sender = sender(&queue);
    queue.send_many(&mut vec![1, 2, 3]).unwrap();
    let sleeper = fork_child(|| assert_eq!(queue.iter().map(Result::unwrap).sum::<u64>(), 6));
    support::until(|| queue.is_empty());
    sleeper.until_asleep();
    sender.kill();
    sleeper.join_ok();
    let mut more = Vec::new();
    assert_eq!(queue.recv_many(&mut more, 8), Err(RecvError::Disconnected));
    assert_eq!(queue.try_recv_many(&mut more, 8), Err(TryRecvError::Disconnected));
    assert_eq!(queue.try_iter().count(), 0);
    drop(queue.receiver().unwrap());
    let mut values = vec![1, 2];
    assert_eq!(queue.send_many(&mut values), Err(SendManyError::Disconnected { sent: 0 }));
    assert_eq!(values, [1, 2]);
}

fn close_says_closed() {
    let queue = queue(8);
    let sender = queue.sender().unwrap();
    let sleeper = fork_child(|| assert_eq!(queue.recv(), Err(RecvError::Closed)));
    sleeper.until_asleep();
    queue.close();
    sleeper.join_ok();
    drop(sender);
    assert_eq!(queue.recv(), Err(RecvError::Closed));
    drop(queue.receiver().unwrap());
    assert!(matches!(queue.send(1), Err(SendError::Closed(1) | SendError::Disconnected(1))));
}

fn as_many_register_as_there_is_room_for() {
    let plain = Queue::<u64>::new(64).unwrap();
    assert_eq!(plain.sender().unwrap_err(), QueueEntryError::Full { room: 0 });
    let queue = queue(1);
    let handles: Vec<_> = (0..4).map(|_| queue.sender().unwrap()).collect();
    let error = queue.sender().unwrap_err();
    assert_eq!(error, QueueEntryError::Full { room: 4 });
    assert_eq!(error.to_string(), "no room to register at the queue: 4 of 4 have");
    let _other_end = queue.receiver().unwrap();
    drop(handles);
    drop(queue.sender().unwrap());
    let too_many = Queue::<u64>::new(Capacity::bytes(64).peers(4097));
    assert!(matches!(too_many, Err(RegionError::TooLarge { need: 4097, limit: 4096 })));
}

fn the_dead_leave_their_room() {
    let queue = queue(1);
    for _ in 0..20 {
        let senders: Vec<_> = (0..4).map(|_| sender(&queue)).collect();
        assert_eq!(queue.sender().unwrap_err(), QueueEntryError::Full { room: 4 });
        senders.into_iter().for_each(|sender| sender.kill());
        assert_eq!(queue.recv(), Err(RecvError::Disconnected));
    }
}

fn threads_register_each_for_itself() {
    let (queue, there) = (queue(3), Atomic::new(0_u32).unwrap());
    let all = queue.sender().unwrap();
    thread::scope(|scope| {
        for i in 0..3 {
            let (queue, there) = (&queue, &there);
            scope.spawn(move || {
                let sender = queue.sender().unwrap();
                there.fetch_add(1);
                (0..1000).for_each(|k| sender.send(1000 * i + k).unwrap());
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                let receiver = queue.receiver().unwrap();
                for number in receiver.iter() {
                    assert!(number.unwrap() < 3000);
                }
            });
        }
        let start = Instant::now();
        while start.elapsed() < WHILE || there.get() < 3 {
            assert_ne!(queue.try_recv(), Err(TryRecvError::Disconnected));
        }
        drop(all);
    });
    assert_eq!(queue.recv(), Err(RecvError::Disconnected));
}

fn timeouts_last_at_least_so_long() {
    let queue = queue(1);
    let (sender, receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    let start = Instant::now();
    assert_eq!(receiver.recv_timeout(WHILE), Err(RecvTimeoutError::TimedOut));
    sender.send(1).unwrap();
    assert!(matches!(sender.send_timeout(2, WHILE), Err(SendTimeoutError::TimedOut(2))));
    assert!(start.elapsed() >= 2 * WHILE);
}

fn ten_thousand_deaths_leave_it_as_it_was() {
    let (queue, there) = (queue(2), Event::new().unwrap());
    let (descriptors, mapped) = (support::descriptors(), support::address_space());
    for i in 0..10_000 {
        let child = fork_child(|| {
            let sender = queue.sender().unwrap();
            sender.send(i).unwrap();
            there.set();
            loop {
                thread::sleep(Duration::from_secs(60));
            }
        });
        there.wait();
        there.clear();
        assert_eq!(queue.recv(), Ok(i));
        child.kill();
        assert_eq!(queue.recv(), Err(RecvError::Disconnected));
    }
    let handles: Vec<_> = (0..4).map(|_| queue.sender().unwrap()).collect();
    assert_eq!(handles.len(), 4);
    assert!(support::descriptors() <= descriptors + 1);
    assert!(support::address_space() <= mapped + (1 << 20));
}

fn a_full_region_is_an_error() {
    let region = Region::anonymous(4096).unwrap();
    let before = region.room();
    let refused = Queue::<u64>::new_in(&region, Capacity::bytes(1024).peers(32));
    assert!(matches!(refused, Err(RegionError::NoRoom { .. })));
    assert_eq!(region.room(), before);
    let queue = Queue::<u64>::new_in(&region, Capacity::bytes(1024).peers(8)).unwrap();
    drop(queue.sender().unwrap());
}

fn debug_tells_who_registered() {
    let queue = queue(1);
    let sender = queue.sender().unwrap();
    let text = format!("{queue:?}");
    assert!(text.contains(&format!("senders: [{}], receivers: []", std::process::id())), "{text}");
    assert!(format!("{sender:?}").starts_with("QueueSender(Queue"));
}
