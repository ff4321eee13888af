//! What the suites of other queues pin, restated for `Queue`; each test names its origin.
//!
//! CPython: `test/_test_multiprocessing.py`. Left out: `test_no_import_lock_contention` (there is no import lock) and
//! `test_task_done`, which is `JoinableQueue`'s. crossbeam-channel: `tests/array.rs`. Left out: `drops` and
//! `panic_on_drop` (a queue holds bytes, not values), `channel_through_channel`, and what is about `select`.

mod support;

use std::{
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use pshared::{
    Array, Atomic, Capacity, PlainData, Queue, RecvError, RecvTimeoutError, SendError, SendTimeoutError,
    TryRecvError, TrySendError,
};
use support::{fork_child, until};

fn main() -> ExitCode {
    support::main(support::tests![
        cpython_put,
        cpython_get,
        cpython_fork,
        cpython_qsize,
        cpython_timeout,
        cpython_feeder_does_not_stop_on_an_exception,
        cpython_feeder_error_gives_the_value_to_whoever_asks,
        cpython_closed_queue_is_empty,
        cpython_closed_queue_refuses_put_and_get,
        cpython_simple_empty,
        cpython_simple_empty_of_a_closed_one,
        cpython_simple_close,
        crossbeam_smoke,
        crossbeam_capacity,
        crossbeam_len_empty_full,
        crossbeam_try_recv,
        crossbeam_recv,
        crossbeam_recv_timeout,
        crossbeam_try_send,
        crossbeam_send,
        crossbeam_send_timeout,
        crossbeam_send_after_disconnect,
        crossbeam_recv_after_disconnect,
        crossbeam_len,
        crossbeam_disconnect_wakes_sender,
        crossbeam_disconnect_wakes_receiver,
        crossbeam_spsc,
        crossbeam_mpmc,
        crossbeam_stress_oneshot,
        crossbeam_stress_iter,
        crossbeam_stress_timeout_two_threads,
        crossbeam_linearizable,
    ])
}

fn bounded(items: usize) -> Queue<u64, PlainData> {
    Queue::plain(Capacity::bytes(1 << 16).items(items)).unwrap()
}

const WHILE: Duration = Duration::from_millis(15);

/// `_TestQueue.test_put`: six fit; then each form of put says Full, in its time; a child drains it and it takes more.
fn cpython_put() {
    let queue = bounded(6);
    assert!(queue.is_empty() && !queue.is_full());
    queue.send(1).unwrap();
    queue.send_timeout(2, WHILE).unwrap();
    queue.send_deadline(3, pshared::Deadline::after(WHILE)).unwrap();
    queue.try_send(4).unwrap();
    queue.send(5).unwrap();
    queue.try_send(6).unwrap();
    assert!(!queue.is_empty() && queue.is_full());
    let start = Instant::now();
    assert!(matches!(queue.try_send(7), Err(TrySendError::Full(7))));
    assert!(matches!(queue.send_timeout(7, Duration::ZERO), Err(SendTimeoutError::TimedOut(7))));
    assert!(matches!(queue.send_timeout(7, WHILE), Err(SendTimeoutError::TimedOut(7))));
    assert!(start.elapsed() >= WHILE);
    fork_child(|| (1..=6).for_each(|i| assert_eq!(queue.recv().unwrap(), i))).join_ok();
    assert!(queue.is_empty());
    queue.try_send(8).unwrap();
}

/// `_TestQueue.test_get`: what a child puts comes in order by each form of get; then each says Empty, in its time.
fn cpython_get() {
    let queue = bounded(100);
    fork_child(|| (2..=5).for_each(|i| queue.send(i).unwrap())).join_ok();
    assert!(!queue.is_empty());
    assert_eq!(queue.recv_timeout(WHILE).unwrap(), 2);
    assert_eq!(queue.recv().unwrap(), 3);
    assert_eq!(queue.recv_deadline(pshared::Deadline::after(WHILE)).unwrap(), 4);
    assert_eq!(queue.try_recv().unwrap(), 5);
    assert!(queue.is_empty());
    let start = Instant::now();
    assert_eq!(queue.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(queue.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::TimedOut));
    assert_eq!(queue.recv_timeout(WHILE), Err(RecvTimeoutError::TimedOut));
    assert!(start.elapsed() >= WHILE);
}

/// `_TestQueue.test_fork`: what the parent put before it forked comes once, not once for each process.
fn cpython_fork() {
    let queue = bounded(100);
    (0..10).for_each(|i| queue.send(i).unwrap());
    fork_child(|| (10..20).for_each(|i| queue.send(i).unwrap())).join_ok();
    (0..20).for_each(|i| assert_eq!(queue.recv().unwrap(), i));
    assert_eq!(queue.try_recv(), Err(TryRecvError::Empty));
}

/// `_TestQueue.test_qsize`.
fn cpython_qsize() {
    let queue = bounded(100);
    assert_eq!(queue.len(), 0);
    queue.send(1).unwrap();
    assert_eq!(queue.len(), 1);
    queue.send(5).unwrap();
    assert_eq!(queue.len(), 2);
    queue.recv().unwrap();
    assert_eq!(queue.len(), 1);
    queue.recv().unwrap();
    assert_eq!(queue.len(), 0);
}

/// `_TestQueue.test_timeout`: a get with a limit does not end before it.
fn cpython_timeout() {
    let queue = bounded(10);
    let (limit, start) = (Duration::from_millis(200), Instant::now());
    assert_eq!(queue.recv_timeout(limit), Err(RecvTimeoutError::TimedOut));
    assert!(start.elapsed() >= limit);
}

/// Encoded, unless it is 13.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
struct Unlucky(u8);

impl serde::Serialize for Unlucky {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 == 13 { Err(serde::ser::Error::custom("13")) } else { serializer.serialize_u8(self.0) }
    }
}

/// `_TestQueue.test_queue_feeder_donot_stop_onexc`: what cannot be pickled takes no place, and the next one goes
/// through.
fn cpython_feeder_does_not_stop_on_an_exception() {
    let queue = Queue::new(Capacity::bytes(256).items(1)).unwrap();
    assert!(queue.send(Unlucky(13)).is_err());
    assert!(queue.is_empty());
    queue.try_send(Unlucky(1)).unwrap();
    assert_eq!(queue.recv_timeout(WHILE).unwrap(), Unlucky(1));
}

/// `_TestQueue.test_queue_feeder_on_queue_feeder_error`: there a hook gets the object; here the caller does.
fn cpython_feeder_error_gives_the_value_to_whoever_asks() {
    let queue = Queue::new(256).unwrap();
    match queue.send(Unlucky(13)) {
        Err(SendError::Encode { value, source }) => {
            assert_eq!(value, Unlucky(13));
            assert!(source.to_string().contains("serialisation failed"), "{source}");
        }
        other => panic!("{other:?}"),
    }
    queue.send(Unlucky(2)).unwrap();
    assert_eq!(queue.recv().unwrap(), Unlucky(2));
}

/// `_TestQueue.test_closed_queue_empty_exceptions`: a closed one can still be asked whether it is empty.
fn cpython_closed_queue_is_empty() {
    let queue = bounded(4);
    queue.close();
    assert!(queue.is_empty() && queue.is_closed());
}

/// `_TestQueue.test_closed_queue_put_get_exceptions`.
fn cpython_closed_queue_refuses_put_and_get() {
    let queue = bounded(4);
    queue.close();
    assert!(matches!(queue.send(1), Err(SendError::Closed(1))));
    assert_eq!(queue.recv(), Err(RecvError::Closed));
}

/// `_TestSimpleQueue.test_empty`: seen from both sides while a child puts and the parent gets.
fn cpython_simple_empty() {
    let (queue, turn) = (bounded(4), Atomic::new(0_u32).unwrap());
    let child = fork_child(|| {
        until(|| turn.get() == 1);
        queue.send(1).unwrap();
        queue.send(0).unwrap();
        turn.set(2);
    });
    assert!(queue.is_empty());
    turn.set(1);
    until(|| turn.get() == 2);
    assert!(!queue.is_empty());
    assert_eq!((queue.recv().unwrap(), queue.recv().unwrap()), (1, 0));
    assert!(queue.is_empty());
    child.join_ok();
}

/// `_TestSimpleQueue.test_empty_exceptions`: there it raises; here the question has an answer, in other processes too.
fn cpython_simple_empty_of_a_closed_one() {
    let queue = bounded(4);
    queue.send(1).unwrap();
    queue.close();
    fork_child(|| assert!(!queue.is_empty() && queue.is_closed())).join_ok();
}

/// `_TestSimpleQueue.test_close`: twice is as good as once.
fn cpython_simple_close() {
    let queue = bounded(4);
    queue.close();
    queue.close();
    assert!(queue.is_closed());
}

/// `array::smoke`.
fn crossbeam_smoke() {
    let queue = bounded(1);
    queue.send(7).unwrap();
    assert_eq!(queue.try_recv(), Ok(7));
    queue.send(8).unwrap();
    assert_eq!(queue.recv(), Ok(8));
    assert_eq!(queue.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(queue.recv_timeout(WHILE), Err(RecvTimeoutError::TimedOut));
}

/// `array::capacity`.
fn crossbeam_capacity() {
    for items in 1..10 {
        assert_eq!(bounded(items).max_items(), Some(items));
    }
}

/// `array::len_empty_full`.
fn crossbeam_len_empty_full() {
    let queue = bounded(2);
    let state = || (queue.len(), queue.is_empty(), queue.is_full());
    assert_eq!(state(), (0, true, false));
    queue.send(0).unwrap();
    assert_eq!(state(), (1, false, false));
    queue.send(0).unwrap();
    assert_eq!(state(), (2, false, true));
    queue.recv().unwrap();
    assert_eq!(state(), (1, false, false));
}

/// `array::try_recv`.
fn crossbeam_try_recv() {
    let queue = bounded(100);
    let receiver = fork_child(|| {
        let mut got = Err(TryRecvError::Empty);
        until(|| {
            got = queue.try_recv();
            got != Err(TryRecvError::Empty)
        });
        assert_eq!(got, Ok(7));
        until(|| queue.is_closed());
        assert_eq!(queue.try_recv(), Err(TryRecvError::Closed));
    });
    queue.send(7).unwrap();
    until(|| queue.is_empty());
    queue.close();
    receiver.join_ok();
}

/// `array::recv`.
fn crossbeam_recv() {
    let queue = bounded(100);
    let receiver = fork_child(|| {
        assert_eq!((queue.recv(), queue.recv(), queue.recv()), (Ok(7), Ok(8), Ok(9)));
        assert_eq!(queue.recv(), Err(RecvError::Closed));
    });
    receiver.until_asleep();
    (7..=9).for_each(|i| queue.send(i).unwrap());
    queue.close();
    receiver.join_ok();
}

/// `array::recv_timeout`.
fn crossbeam_recv_timeout() {
    let queue = bounded(100);
    assert_eq!(queue.recv_timeout(WHILE), Err(RecvTimeoutError::TimedOut));
    let receiver = fork_child(|| {
        assert_eq!(queue.recv_timeout(Duration::from_secs(50)), Ok(7));
        assert_eq!(queue.recv_timeout(Duration::from_secs(50)), Err(RecvTimeoutError::Closed));
    });
    queue.send(7).unwrap();
    until(|| queue.is_empty());
    queue.close();
    receiver.join_ok();
}

/// `array::try_send`.
fn crossbeam_try_send() {
    let queue = bounded(1);
    queue.try_send(1).unwrap();
    assert!(matches!(queue.try_send(2), Err(TrySendError::Full(2))));
    fork_child(|| assert_eq!(queue.recv(), Ok(1))).join_ok();
    queue.try_send(3).unwrap();
    queue.close();
    assert!(matches!(queue.try_send(4), Err(TrySendError::Closed(4))));
    assert_eq!((queue.recv(), queue.recv()), (Ok(3), Err(RecvError::Closed)));
}

/// `array::send`.
fn crossbeam_send() {
    let queue = bounded(1);
    let sender = fork_child(|| (7..=10).for_each(|i| queue.send(i).unwrap()));
    sender.until_asleep();
    (7..=10).for_each(|i| assert_eq!(queue.recv(), Ok(i)));
    sender.join_ok();
}

/// `array::send_timeout`.
fn crossbeam_send_timeout() {
    let queue = bounded(2);
    queue.send_timeout(1, WHILE).unwrap();
    queue.send_timeout(2, WHILE).unwrap();
    assert!(matches!(queue.send_timeout(3, WHILE), Err(SendTimeoutError::TimedOut(3))));
    let sender = fork_child(|| {
        queue.send_timeout(4, Duration::from_secs(50)).unwrap();
        let last = queue.send_timeout(5, Duration::from_secs(50));
        assert!(matches!(last, Err(SendTimeoutError::Closed(5))));
    });
    assert_eq!(queue.recv(), Ok(1));
    until(|| queue.is_full());
    sender.until_asleep();
    queue.close();
    sender.join_ok();
    assert_eq!((queue.recv(), queue.recv()), (Ok(2), Ok(4)));
}

/// `array::send_after_disconnect`.
fn crossbeam_send_after_disconnect() {
    let queue = bounded(100);
    (1..=3).for_each(|i| queue.send(i).unwrap());
    queue.close();
    assert!(matches!(queue.send(4), Err(SendError::Closed(4))));
    assert!(matches!(queue.try_send(5), Err(TrySendError::Closed(5))));
    assert!(matches!(queue.send_timeout(6, WHILE), Err(SendTimeoutError::Closed(6))));
}

/// `array::recv_after_disconnect`.
fn crossbeam_recv_after_disconnect() {
    let queue = bounded(100);
    (1..=3).for_each(|i| queue.send(i).unwrap());
    queue.close();
    (1..=3).for_each(|i| assert_eq!(queue.recv(), Ok(i)));
    assert_eq!(queue.recv(), Err(RecvError::Closed));
}

/// `array::len`: never above the bound, and 0 in the end.
fn crossbeam_len() {
    const ITEMS: usize = 50;
    let queue = bounded(ITEMS);
    for i in 0..ITEMS {
        queue.send(i as u64).unwrap();
        assert_eq!(queue.len(), i + 1);
    }
    for i in (0..ITEMS).rev() {
        queue.recv().unwrap();
        assert_eq!(queue.len(), i);
    }
    let receiver = fork_child(|| {
        for i in 0..20_000 {
            assert_eq!(queue.recv(), Ok(i));
            assert!(queue.len() <= ITEMS);
        }
    });
    for i in 0..20_000 {
        queue.send(i).unwrap();
        assert!(queue.len() <= ITEMS);
    }
    receiver.join_ok();
    assert_eq!(queue.len(), 0);
}

/// `array::disconnect_wakes_sender`.
fn crossbeam_disconnect_wakes_sender() {
    let queue = bounded(1);
    queue.send(1).unwrap();
    let sender = fork_child(|| assert!(matches!(queue.send(2), Err(SendError::Closed(2)))));
    sender.until_asleep();
    queue.close();
    sender.join_ok();
}

/// `array::disconnect_wakes_receiver`.
fn crossbeam_disconnect_wakes_receiver() {
    let queue = bounded(1);
    let receiver = fork_child(|| assert_eq!(queue.recv(), Err(RecvError::Closed)));
    receiver.until_asleep();
    queue.close();
    receiver.join_ok();
}

/// `array::spsc`.
fn crossbeam_spsc() {
    const COUNT: u64 = 100_000;
    let queue = bounded(3);
    let receiver = fork_child(|| {
        (0..COUNT).for_each(|i| assert_eq!(queue.recv(), Ok(i)));
        assert_eq!(queue.recv(), Err(RecvError::Closed));
    });
    (0..COUNT).for_each(|i| queue.send(i).unwrap());
    queue.close();
    receiver.join_ok();
}

/// `array::mpmc`: by four processes and four threads.
fn crossbeam_mpmc() {
    const COUNT: u64 = 5_000;
    let (queue, seen) = (bounded(3), Array::<u32>::zeroed(COUNT as usize).unwrap());
    let receive = || {
        (0..COUNT).for_each(|_| {
            let i = queue.recv().unwrap() as usize;
            seen.lock().unwrap()[i] += 1;
        });
    };
    let send = || (0..COUNT).for_each(|i| queue.send(i).unwrap());
    let children = [fork_child(receive), fork_child(receive), fork_child(send), fork_child(send)];
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(receive);
            scope.spawn(send);
        }
    });
    children.into_iter().for_each(|child| child.join_ok());
    assert_eq!(queue.try_recv(), Err(TryRecvError::Empty));
    assert!(seen.to_vec().unwrap().into_iter().all(|times| times == 4));
}

/// `array::stress_oneshot`: a thousand queues, one message each.
fn crossbeam_stress_oneshot() {
    for _ in 0..1_000 {
        let queue = Queue::plain(Capacity::bytes(64).items(1)).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| assert_eq!(queue.recv(), Ok(0_u64)));
            scope.spawn(|| queue.send(0).unwrap());
        });
    }
}

/// `array::stress_iter`: a question and its answers, by iteration without waiting.
fn crossbeam_stress_iter() {
    let (questions, answers) = (bounded(100), bounded(100));
    let child = fork_child(|| {
        let mut count = 0;
        until(|| {
            count += questions.try_iter().map(Result::unwrap).sum::<u64>();
            if answers.try_send(count).is_err() {
                count = 0;
            }
            questions.is_closed() && questions.is_empty()
        });
        answers.close();
    });
    for _ in 0..100 {
        questions.send(5).unwrap();
    }
    questions.close();
    assert!(answers.iter().map(Result::unwrap).max().is_some_and(|most| most <= 500));
    child.join_ok();
}

/// `array::stress_timeout_two_threads`: each comes too late now and then, and nothing is lost or doubled.
fn crossbeam_stress_timeout_two_threads() {
    const COUNT: u64 = 60;
    let queue = bounded(2);
    let limit = Duration::from_millis(4);
    let late = |i: u64| {
        if i.is_multiple_of(2) {
            thread::sleep(Duration::from_millis(8));
        }
    };
    let sender = fork_child(|| {
        for i in 0..COUNT {
            late(i);
            while queue.send_timeout(i, limit).is_err() {}
        }
    });
    for i in 0..COUNT {
        late(i);
        let got = std::iter::from_fn(|| Some(queue.recv_timeout(limit))).find_map(Result::ok);
        assert_eq!(got, Some(i));
    }
    sender.join_ok();
}

/// `array::linearizable`: who has sent finds a message, whichever.
fn crossbeam_linearizable() {
    let queue = bounded(4);
    let turn = || {
        for _ in 0..20_000 {
            queue.send(0).unwrap();
            // Another may be in the middle of receiving: only an empty queue would be wrong.
            while queue.try_recv().is_err() {}
        }
    };
    let children: Vec<_> = (0..2).map(|_| fork_child(turn)).collect();
    thread::scope(|scope| {
        scope.spawn(turn);
        scope.spawn(turn);
    });
    children.into_iter().for_each(|child| child.join_ok());
}
