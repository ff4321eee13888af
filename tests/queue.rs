//! What `Queue` promises, with really forked children.

mod support;

use std::{
    collections::BTreeMap,
    process::ExitCode,
    time::{Duration, Instant},
};

use pshared::{
    Array, Atomic, PlainData, Queue, RecvError, RecvTimeoutError, Region, RegionError, SendError,
    SendTimeoutError, TryRecvError, TrySendError,
};
use support::{fork_child, until};

fn main() -> ExitCode {
    support::main(support::tests![
        messages_cross_in_order,
        messages_of_every_length_cross_the_end_of_the_buffer,
        a_message_is_there_when_send_returns_and_its_sender_may_be_killed,
        receivers_share_the_messages,
        a_receiver_waits_for_a_message,
        a_sender_waits_for_room,
        try_forms_never_wait,
        try_forms_do_not_wait_for_a_sleeper,
        timeouts_last_at_least_so_long,
        a_killed_receiver_leaves_the_line_to_the_next,
        a_killed_sender_leaves_the_line_to_the_next,
        close_wakes_all_who_wait,
        close_reaches_a_thousand,
        receivers_drain_a_closed_queue,
        senders_get_their_value_back,
        len_is_exact,
        bad_capacities_are_errors,
        too_long_a_message_is_an_error_that_names_the_figures,
        values_that_cannot_be_encoded_come_back,
        a_message_of_another_type_is_a_decode_error,
        a_queue_in_a_full_region_is_an_error,
        a_message_that_cannot_be_allocated_stays,
        a_child_joined_before_its_messages_are_read_does_not_hang,
        killed_processes_lose_nothing_and_double_nothing,
        threads_share_a_queue,
    ])
}

fn messages_cross_in_order() {
    let queue = Queue::new(256).unwrap();
    let sender = fork_child(|| {
        for i in 0..20_000_u32 {
            queue.send((i, format!("message {i}"))).unwrap();
        }
    });
    for i in 0..20_000_u32 {
        assert_eq!(queue.recv().unwrap(), (i, format!("message {i}")));
    }
    sender.join_ok();
    assert!(queue.is_empty());
}

fn messages_of_every_length_cross_the_end_of_the_buffer() {
    let queue = Queue::new(1024).unwrap();
    let lengths = || (0..=1000_usize).chain((0..=1000).rev());
    let sender = fork_child(|| {
        for len in lengths() {
            queue.send(vec![len as u8; len]).unwrap();
        }
    });
    for len in lengths() {
        assert_eq!(queue.recv().unwrap(), vec![len as u8; len]);
    }
    sender.join_ok();
}

fn a_message_is_there_when_send_returns_and_its_sender_may_be_killed() {
    let queue = Queue::new(4096).unwrap();
    let told = Atomic::new(0_u32).unwrap();
    let sender = fork_child(|| {
        queue.send(String::from("kept")).unwrap();
        told.set(1);
        loop {
            std::thread::park();
        }
    });
    until(|| told.get() == 1);
    sender.kill();
    assert_eq!(queue.try_recv().unwrap(), "kept");
}

fn receivers_share_the_messages() {
    let queue = Queue::plain(4096).unwrap();
    let seen = Array::<u32>::zeroed(3_000).unwrap();
    let receivers: Vec<_> = (0..3)
        .map(|_| {
            fork_child(|| {
                while let Ok(i) = queue.recv() {
                    seen.lock().unwrap()[i as usize] += 1;
                }
            })
        })
        .collect();
    for i in 0..3_000_u64 {
        queue.send(i).unwrap();
    }
    queue.close();
    receivers.into_iter().for_each(|receiver| receiver.join_ok());
    assert!(seen.to_vec().unwrap().iter().all(|&count| count == 1));
}

fn a_receiver_waits_for_a_message() {
    let queue = Queue::plain(4096).unwrap();
    let receiver = fork_child(|| assert_eq!(queue.recv().unwrap(), 7_u64));
    receiver.until_asleep();
    queue.send(7).unwrap();
    receiver.join_ok();
}

fn a_sender_waits_for_room() {
    let queue = Queue::plain(64).unwrap();
    for i in 0..4_u64 {
        queue.send(i).unwrap();
    }
    let sender = fork_child(|| queue.send(4).unwrap());
    sender.until_asleep();
    for i in 0..5 {
        assert_eq!(queue.recv().unwrap(), i);
    }
    sender.join_ok();
}

fn try_forms_never_wait() {
    let queue = Queue::plain(64).unwrap();
    assert!(matches!(queue.try_recv(), Err(TryRecvError::Empty)));
    for i in 0..4_u64 {
        queue.try_send(i).unwrap();
    }
    assert!(matches!(queue.try_send(99), Err(TrySendError::Full(99))));
    assert_eq!(queue.try_recv().unwrap(), 0);
    queue.try_send(4).unwrap();
    for i in 1..5 {
        assert_eq!(queue.try_recv().unwrap(), i);
    }
    assert!(matches!(queue.try_recv(), Err(TryRecvError::Empty)));
}

fn try_forms_do_not_wait_for_a_sleeper() {
    let queue = Queue::plain(64).unwrap();
    let receiver = fork_child(|| assert_eq!(queue.recv().unwrap(), 1_u64));
    receiver.until_asleep();
    assert!(matches!(queue.try_recv(), Err(TryRecvError::Empty)), "the receiver sleeps holding its end");
    queue.try_send(1).unwrap();
    receiver.join_ok();
    while queue.try_send(0).is_ok() {}
    let sender = fork_child(|| queue.send(2).unwrap());
    sender.until_asleep();
    assert!(matches!(queue.try_send(3), Err(TrySendError::Full(3))), "the sender sleeps holding its end");
    assert_eq!(queue.try_recv().unwrap(), 0);
    sender.join_ok();
}

fn timeouts_last_at_least_so_long() {
    let queue = Queue::plain(64).unwrap();
    let wait = Duration::from_millis(30);
    let start = Instant::now();
    assert!(matches!(queue.recv_timeout(wait), Err(RecvTimeoutError::TimedOut)));
    assert!(start.elapsed() >= wait);
    while queue.try_send(0_u64).is_ok() {}
    let start = Instant::now();
    assert!(matches!(queue.send_timeout(1, wait), Err(SendTimeoutError::TimedOut(1))));
    assert!(start.elapsed() >= wait);
    assert!(matches!(queue.send_timeout(1, Duration::ZERO), Err(SendTimeoutError::TimedOut(1))));
    // Others hold the ends, asleep: a timeout ends all the same.
    let sender = fork_child(|| queue.send(5).unwrap());
    sender.until_asleep();
    let start = Instant::now();
    assert!(matches!(queue.send_timeout(1, wait), Err(SendTimeoutError::TimedOut(1))));
    assert!(start.elapsed() >= wait);
    queue.recv().unwrap();
    sender.join_ok();
}

fn a_killed_receiver_leaves_the_line_to_the_next() {
    let queue = Queue::plain(4096).unwrap();
    for _ in 0..50 {
        let mut line: Vec<_> =
            (0..3).map(|_| fork_child(|| assert_eq!(queue.recv().unwrap(), 1_u64))).collect();
        line.iter().for_each(|receiver| receiver.until_asleep());
        line.remove(0).kill();
        queue.send(1).unwrap();
        queue.send(1).unwrap();
        line.into_iter().for_each(|receiver| receiver.join_ok());
    }
}

fn a_killed_sender_leaves_the_line_to_the_next() {
    let queue = Queue::plain(64).unwrap();
    for _ in 0..50 {
        while queue.try_send(0_u64).is_ok() {}
        let mut line: Vec<_> = (0..3).map(|_| fork_child(|| queue.send(1).unwrap())).collect();
        line.iter().for_each(|sender| sender.until_asleep());
        line.remove(0).kill();
        let mut sum = 0;
        for _ in 0..6 {
            sum += queue.recv().unwrap();
        }
        assert_eq!(sum, 2);
        line.into_iter().for_each(|sender| sender.join_ok());
    }
}

fn close_wakes_all_who_wait() {
    for _ in 0..20 {
        let queue = Queue::<u64, _>::plain(64).unwrap();
        let receivers: Vec<_> =
            (0..3).map(|_| fork_child(|| assert!(matches!(queue.recv(), Err(RecvError::Closed))))).collect();
        receivers.iter().for_each(|receiver| receiver.until_asleep());
        queue.close();
        receivers.into_iter().for_each(|receiver| receiver.join_ok());

        let queue = Queue::plain(64).unwrap();
        while queue.try_send(0_u64).is_ok() {}
        let senders: Vec<_> = (0..3)
            .map(|_| fork_child(|| assert!(matches!(queue.send(7), Err(SendError::Closed(7))))))
            .collect();
        senders.iter().for_each(|sender| sender.until_asleep());
        queue.close();
        senders.into_iter().for_each(|sender| sender.join_ok());
    }
}

fn close_reaches_a_thousand() {
    // One at a time stands at the head of the line; the others wait for its place.
    let all_learn_it = |queue: &Queue<u64, PlainData>, wait: &dyn Fn()| {
        let waiting: Vec<_> = (0..1_000).map(|_| fork_child(wait)).collect();
        waiting.iter().for_each(|child| child.until_asleep());
        queue.close();
        waiting.into_iter().for_each(|child| child.join_ok());
    };
    let queue = Queue::plain(64).unwrap();
    while queue.try_send(0).is_ok() {}
    all_learn_it(&queue, &|| assert!(matches!(queue.send(7), Err(SendError::Closed(7)))));
    assert_eq!(queue.iter().count(), 4);
    let queue = Queue::plain(64).unwrap();
    all_learn_it(&queue, &|| assert!(matches!(queue.recv(), Err(RecvError::Closed))));
}

fn receivers_drain_a_closed_queue() {
    let queue = Queue::new(4096).unwrap();
    queue.send("a".to_string()).unwrap();
    queue.send("b".to_string()).unwrap();
    queue.close();
    queue.close();
    assert!(queue.is_closed());
    assert_eq!(queue.recv().unwrap(), "a");
    assert_eq!(queue.try_recv().unwrap(), "b");
    assert!(matches!(queue.recv(), Err(RecvError::Closed)));
    assert!(matches!(queue.try_recv(), Err(TryRecvError::Closed)));
    assert!(matches!(queue.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Closed)));
}

fn senders_get_their_value_back() {
    let queue = Queue::new(4096).unwrap();
    queue.close();
    assert_eq!(queue.send("x".to_string()).unwrap_err().into_inner(), "x");
    assert!(matches!(queue.try_send("x".to_string()), Err(TrySendError::Closed(x)) if x == "x"));
    assert!(matches!(queue.send_timeout("x".to_string(), Duration::ZERO), Err(SendTimeoutError::Closed(_))));
}

fn len_is_exact() {
    let queue = Queue::new(4096).unwrap();
    for i in 0..10_usize {
        assert_eq!(queue.len(), i);
        queue.send("x".repeat(i)).unwrap();
    }
    for i in (0..10_usize).rev() {
        queue.recv().unwrap();
        assert_eq!(queue.len(), i);
    }
    assert_eq!(queue.capacity(), 4096);
    assert_eq!(queue.max_message_len(), 4088);
}

fn bad_capacities_are_errors() {
    assert!(matches!(Queue::<u8>::new(0), Err(RegionError::ZeroSize)));
    for capacity in [usize::MAX, usize::MAX / 2, (1 << 32) + 1] {
        match Queue::<u8>::new(capacity) {
            Err(RegionError::TooLarge { need, limit }) => assert_eq!((need, limit), (capacity, 1 << 32)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(Queue::<u8>::new(1).unwrap().capacity(), 64);
}

fn too_long_a_message_is_an_error_that_names_the_figures() {
    let queue = Queue::new(128).unwrap();
    let longest = "x".repeat(119);
    queue.send(longest.clone()).unwrap();
    assert_eq!(queue.recv().unwrap(), longest);
    let error = queue.send("x".repeat(120)).unwrap_err();
    assert_eq!(error.to_string(), "message too long: 121 bytes, the queue holds at most 120");
    assert!(matches!(error, SendError::TooLong { len: 121, limit: 120, .. }));
    assert!(matches!(queue.try_send("x".repeat(500)), Err(TrySendError::TooLong { .. })));
    let plain = Queue::<[u64; 16], _>::plain(64).unwrap();
    assert!(matches!(plain.send([0; 16]), Err(SendError::TooLong { len: 128, limit: 56, .. })));
}

fn values_that_cannot_be_encoded_come_back() {
    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Stubborn;
    impl serde::Serialize for Stubborn {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("no"))
        }
    }
    let queue = Queue::new(64).unwrap();
    assert!(matches!(queue.send(Stubborn), Err(SendError::Encode { value: Stubborn, .. })));
    assert!(queue.is_empty());
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
    let queue = Queue::new(64).unwrap();
    queue.send(Odd).unwrap();
    assert!(matches!(queue.recv(), Err(RecvError::Decode(_))));
    assert!(queue.is_empty(), "what cannot be read is gone");
}

fn a_queue_in_a_full_region_is_an_error() {
    let region = Region::anonymous(8192).unwrap();
    let queue = Queue::new_in(&region, 4096).unwrap();
    queue.send(1_u8).unwrap();
    match Queue::<u8>::new_in(&region, 4096) {
        Err(RegionError::NoRoom { need, have }) => assert!(need > have, "need {need}, have {have}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(queue.recv().unwrap(), 1);
}

fn a_message_that_cannot_be_allocated_stays() {
    // More than any heap that libc may have reserved: 64 MiB for each thread there ever was.
    const LEN: usize = 80 << 20;
    let queue = Queue::<String>::new(LEN + 4096).unwrap();
    fork_child(|| queue.send("x".repeat(LEN)).unwrap()).join_ok();
    fork_child(|| {
        let rlim_cur = support::address_space() + (8 << 20);
        let limit = nix::libc::rlimit { rlim_cur, rlim_max: nix::libc::RLIM_INFINITY };
        // SAFETY: a limit for this child alone.
        assert_eq!(unsafe { nix::libc::setrlimit(nix::libc::RLIMIT_AS, &limit) }, 0);
        match queue.recv() {
            Err(RecvError::OutOfMemory { len }) => assert!(len > LEN),
            other => panic!("{:?}", other.map(|message| message.len())),
        }
    })
    .join_ok();
    assert_eq!(queue.recv().unwrap().len(), LEN);
}

fn a_child_joined_before_its_messages_are_read_does_not_hang() {
    // CPython's documentation warns of this: its feeder thread waits until the pipe is drained.
    let queue = Queue::new(2 << 20).unwrap();
    fork_child(|| queue.send(vec![7_u8; 1_000_000]).unwrap()).join_ok();
    assert_eq!(queue.recv().unwrap().len(), 1_000_000);
}

fn killed_processes_lose_nothing_and_double_nothing() {
    // Senders write (their number, a running number); receivers note what they took only after they have it. Killed
    // at random, a sender can lose nothing that it was told was sent, a receiver at most the one it had just taken.
    let queue = Queue::plain(256).unwrap();
    let rounds = 60_u64;
    let sent = Array::<u64>::zeroed(rounds as usize).unwrap();
    let results = Queue::plain(1 << 20).unwrap();
    let receiver = || {
        fork_child(|| {
            while let Ok(message) = queue.recv() {
                results.send(message).unwrap();
            }
        })
    };
    let mut receivers = vec![receiver(), receiver()];
    let mut taken_with_the_dead = 0;
    for round in 0..rounds {
        let sender = fork_child(|| {
            for i in 1..u64::MAX {
                queue.send([round, i, round ^ i]).unwrap();
                sent.set(round as usize, i).unwrap();
            }
        });
        until(|| sent.get(round as usize).unwrap() > 20);
        sender.kill();
        if round % 3 == 0 {
            receivers.remove(0).kill();
            taken_with_the_dead += 1;
            receivers.push(receiver());
        }
        while let Ok(message) = results.try_recv() {
            count(message);
        }
    }
    queue.close();
    until(|| queue.is_empty());
    receivers.into_iter().for_each(|receiver| receiver.join_ok());
    while let Ok(message) = results.try_recv() {
        count(message);
    }
    let seen = SEEN.with(|seen| seen.borrow().clone());
    let mut missing = 0;
    for round in 0..rounds {
        let told = sent.get(round as usize).unwrap();
        let got = &seen[&round];
        assert!(got.keys().all(|&i| i <= told + 1), "a message that was never sent");
        assert!(got.values().all(|&times| times == 1), "a message came twice");
        missing += (1..=told).filter(|i| !got.contains_key(i)).count();
    }
    assert!(
        missing <= taken_with_the_dead,
        "{missing} messages lost, {taken_with_the_dead} receivers killed"
    );

    thread_local! {
        static SEEN: std::cell::RefCell<BTreeMap<u64, BTreeMap<u64, u32>>> = const {
            std::cell::RefCell::new(BTreeMap::new())
        };
    }
    fn count([round, i, check]: [u64; 3]) {
        assert_eq!(round ^ i, check, "a torn message");
        SEEN.with(|seen| *seen.borrow_mut().entry(round).or_default().entry(i).or_default() += 1);
    }
}

fn threads_share_a_queue() {
    let queue = Queue::plain(256).unwrap();
    let total = Atomic::new(0_u64).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Ok(n) = queue.recv() {
                    total.fetch_add(n);
                }
            });
        }
        let senders: Vec<_> =
            (0..2).map(|_| scope.spawn(|| (1..=5_000_u64).for_each(|n| queue.send(n).unwrap()))).collect();
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        queue.close();
    });
    assert_eq!(total.get(), 2 * 5_000 * 5_001 / 2);
}
