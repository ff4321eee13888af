//! What the suites of other queues and pipes pin, restated for `channel()`; each test names its origin.
//!
//! CPython: `test/_test_multiprocessing.py`, `_TestQueue` and `_TestSimpleQueue`. Left out: what several senders or
//! receivers do, which is `Queue`'s; and what pickles. crossbeam-channel: `tests/array.rs`. Left out: `mpmc`,
//! `fairness` and `select`, and what clones an end; `drops` and `panic_on_drop` (a channel holds bytes, not values).
//!
//! And what no suite pins: a peer that scribbles on the memory of the channel.

#![allow(clippy::disallowed_types, reason = "the scribbler looks from outside the seam")]

mod support;

use std::{
    fs,
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use pshared::{
    Atomic, Capacity, Channel, PlainData, Receiver, RecvError, RecvTimeoutError, SendError, SendTimeoutError,
    Sender, TryRecvError, TrySendError, channel,
};
use support::{fork_child, random::Random, until};

fn main() -> ExitCode {
    support::main(support::tests![
        cpython_put,
        cpython_get,
        cpython_fork,
        cpython_qsize,
        cpython_timeout,
        cpython_feeder_does_not_stop_on_an_exception,
        cpython_closed_queue_refuses_put_and_get,
        cpython_simple_empty,
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
        crossbeam_stress_oneshot,
        crossbeam_stress_iter,
        crossbeam_stress_timeout_two_threads,
        an_untrusted_channel_works,
        an_untrusted_end_is_closed_like_any_other,
        whatever_a_peer_scribbles_gives_messages_or_errors,
        garbage_is_an_error_that_names_the_figures,
    ])
}

type Ends = (Sender<u64, PlainData>, Receiver<u64, PlainData>);

fn bounded(items: usize) -> Ends {
    Channel::new(Capacity::bytes(1 << 16).items(items)).plain().unwrap()
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// `_TestQueue.test_put`: a queue of six is filled by every form, refuses more at once and in time, and is empty again
/// when a child has emptied it.
fn cpython_put() {
    let (mut sender, mut receiver) = bounded(6);
    assert!(sender.is_empty() && !sender.is_full());
    sender.send(1).unwrap();
    sender.send_timeout(2, ms(1)).unwrap();
    sender.try_send(3).unwrap();
    sender.send_many(&mut vec![4, 5, 6]).unwrap();
    assert!(sender.is_full());
    assert!(matches!(sender.try_send(7), Err(TrySendError::Full(7))));
    let start = Instant::now();
    assert!(matches!(sender.send_timeout(7, ms(20)), Err(SendTimeoutError::TimedOut(7))));
    assert!(start.elapsed() >= ms(20));
    fork_child(|| (1..=6).for_each(|i| assert_eq!(receiver.recv(), Ok(i)))).join_ok();
    assert!(sender.is_empty());
}

/// `_TestQueue.test_get`.
fn cpython_get() {
    let (mut sender, mut receiver) = bounded(6);
    fork_child(|| {
        (1..=4).for_each(|i| sender.send(i).unwrap());
        sender.release().unwrap();
    })
    .join_ok();
    assert!(!receiver.is_empty());
    assert_eq!((receiver.recv(), receiver.try_recv()), (Ok(1), Ok(2)));
    assert_eq!(
        (receiver.recv_timeout(ms(9)), receiver.recv_deadline(pshared::Deadline::now())),
        (Ok(3), Ok(4))
    );
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    let start = Instant::now();
    assert_eq!(receiver.recv_timeout(ms(20)), Err(RecvTimeoutError::TimedOut));
    assert!(start.elapsed() >= ms(20));
}

/// `_TestQueue.test_fork`: what the parent has sent is not sent again by the child.
fn cpython_fork() {
    let (mut sender, mut receiver) = bounded(40);
    (0..10).for_each(|i| sender.send(i).unwrap());
    sender.release().unwrap();
    fork_child(|| {
        (10..20).for_each(|i| sender.send(i).unwrap());
        sender.close().unwrap();
    })
    .join_ok();
    assert!(receiver.iter().map(Result::unwrap).eq(0..20));
}

/// `_TestQueue.test_qsize`.
fn cpython_qsize() {
    let (mut sender, mut receiver) = bounded(9);
    for (change, size) in [(1, 1), (5, 2)] {
        sender.send(change).unwrap();
        assert_eq!(sender.len(), size);
    }
    assert_eq!((receiver.recv(), receiver.len()), (Ok(1), 1));
    assert_eq!((receiver.recv(), receiver.len()), (Ok(5), 0));
}

/// `_TestQueue.test_timeout`.
fn cpython_timeout() {
    let (_sender, mut receiver) = bounded(1);
    let start = Instant::now();
    assert_eq!(receiver.recv_timeout(ms(200)), Err(RecvTimeoutError::TimedOut));
    assert!(start.elapsed() >= ms(200));
}

/// `_TestQueue.test_queue_feeder_donot_stop_onexc`: what cannot be encoded does not stop what comes after it.
fn cpython_feeder_does_not_stop_on_an_exception() {
    #[derive(Debug, serde::Deserialize)]
    struct Picky(bool);
    impl serde::Serialize for Picky {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            if self.0 { serializer.serialize_bool(true) } else { Err(serde::ser::Error::custom("no")) }
        }
    }
    let (mut sender, mut receiver) = channel(64).unwrap();
    assert!(matches!(sender.send(Picky(false)), Err(SendError::Encode { value: Picky(false), .. })));
    let mut batch = vec![Picky(true), Picky(false), Picky(true)];
    assert_eq!(sender.send_many(&mut batch).unwrap_err().sent(), 1);
    assert_eq!(batch.len(), 2);
    sender.send(Picky(true)).unwrap();
    assert!(receiver.recv().unwrap().0 && receiver.recv().unwrap().0 && receiver.is_empty());
}

/// `_TestQueue.test_closed_queue_put_get_exceptions`.
fn cpython_closed_queue_refuses_put_and_get() {
    let (mut sender, mut receiver) = bounded(1);
    sender.close().unwrap();
    assert!(matches!(sender.send(1), Err(SendError::Closed(1))));
    assert_eq!(receiver.recv(), Err(RecvError::Disconnected));
    receiver.close().unwrap();
    assert_eq!(receiver.recv(), Err(RecvError::Closed));
}

/// `_TestSimpleQueue.test_empty`.
fn cpython_simple_empty() {
    let (mut sender, mut receiver) = channel::<Option<bool>>(4096).unwrap();
    assert!(receiver.is_empty());
    let child = fork_child(|| {
        sender.send(Some(true)).unwrap();
        sender.send(None).unwrap();
    });
    until(|| receiver.len() == 2);
    assert_eq!((receiver.recv(), receiver.recv()), (Ok(Some(true)), Ok(None)));
    assert!(receiver.is_empty());
    child.join_ok();
}

/// `_TestSimpleQueue.test_close`: closing twice does nothing.
fn cpython_simple_close() {
    let (mut sender, mut receiver) = channel::<u8>(64).unwrap();
    for _ in 0..2 {
        sender.close().unwrap();
        receiver.close().unwrap();
    }
    assert!(sender.is_closed() && receiver.is_closed());
}

/// `smoke`.
fn crossbeam_smoke() {
    let (mut sender, mut receiver) = bounded(1);
    sender.send(7).unwrap();
    assert_eq!(receiver.try_recv(), Ok(7));
    sender.send(8).unwrap();
    assert_eq!((receiver.recv(), receiver.try_recv()), (Ok(8), Err(TryRecvError::Empty)));
    assert_eq!(receiver.recv_timeout(ms(1)), Err(RecvTimeoutError::TimedOut));
}

/// `capacity`.
fn crossbeam_capacity() {
    for items in 1..10 {
        assert_eq!(bounded(items).0.max_items(), Some(items));
    }
}

/// `len_empty_full`.
fn crossbeam_len_empty_full() {
    let (mut sender, mut receiver) = bounded(2);
    for len in 0..=2 {
        assert_eq!((sender.len(), sender.is_empty(), sender.is_full()), (len, len == 0, len == 2));
        assert_eq!((receiver.len(), receiver.is_empty()), (len, len == 0));
        let _ = sender.try_send(1);
    }
    receiver.recv().unwrap();
    assert!(sender.len() == 1 && !sender.is_full());
}

/// `try_recv`, with a process for a thread.
fn crossbeam_try_recv() {
    let (mut sender, mut receiver) = bounded(100);
    let looked = Atomic::new(0_u32).unwrap();
    let child = fork_child(|| {
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
        looked.set(1);
        until(|| !receiver.is_empty());
        assert_eq!(receiver.try_recv(), Ok(7));
        until(|| receiver.is_disconnected());
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
    });
    until(|| looked.get() == 1 || child.has_ended());
    sender.send(7).unwrap();
    drop(sender);
    child.join_ok();
}

/// `recv`.
fn crossbeam_recv() {
    let (mut sender, mut receiver) = bounded(100);
    let child = fork_child(|| {
        (7..10).for_each(|i| assert_eq!(receiver.recv(), Ok(i)));
        assert_eq!(receiver.recv(), Err(RecvError::Disconnected));
    });
    (7..10).for_each(|i| sender.send(i).unwrap());
    drop(sender);
    child.join_ok();
}

/// `recv_timeout`.
fn crossbeam_recv_timeout() {
    let (mut sender, mut receiver) = bounded(100);
    let looked = Atomic::new(0_u32).unwrap();
    let child = fork_child(|| {
        assert_eq!(receiver.recv_timeout(ms(5)), Err(RecvTimeoutError::TimedOut));
        looked.set(1);
        assert_eq!(receiver.recv_timeout(Duration::MAX), Ok(7));
        assert_eq!(receiver.recv_timeout(Duration::MAX), Err(RecvTimeoutError::Disconnected));
    });
    until(|| looked.get() == 1 || child.has_ended());
    sender.send(7).unwrap();
    drop(sender);
    child.join_ok();
}

/// `try_send`.
fn crossbeam_try_send() {
    let (mut sender, mut receiver) = bounded(1);
    let refused = Atomic::new(0_u32).unwrap();
    let child = fork_child(|| {
        sender.try_send(1).unwrap();
        assert!(matches!(sender.try_send(2), Err(TrySendError::Full(2))));
        refused.set(1);
        until(|| sender.is_empty());
        sender.try_send(3).unwrap();
        until(|| sender.is_disconnected());
        assert!(matches!(sender.try_send(4), Err(TrySendError::Disconnected(4))));
    });
    until(|| refused.get() == 1 || child.has_ended());
    assert_eq!((receiver.recv(), receiver.recv()), (Ok(1), Ok(3)));
    drop(receiver);
    child.join_ok();
}

/// `send`.
fn crossbeam_send() {
    let (mut sender, mut receiver) = bounded(1);
    let child = fork_child(|| (7..10).for_each(|i| sender.send(i).unwrap()));
    child.until_asleep();
    (7..10).for_each(|i| assert_eq!(receiver.recv(), Ok(i)));
    child.join_ok();
}

/// `send_timeout`.
fn crossbeam_send_timeout() {
    let (mut sender, mut receiver) = bounded(2);
    let refused = Atomic::new(0_u32).unwrap();
    let child = fork_child(|| {
        sender.send_timeout(1, ms(5)).unwrap();
        sender.send_timeout(2, ms(5)).unwrap();
        assert!(matches!(sender.send_timeout(3, ms(5)), Err(SendTimeoutError::TimedOut(3))));
        refused.set(1);
        sender.send_timeout(4, Duration::MAX).unwrap();
        let error = sender.send_timeout(5, Duration::MAX);
        assert!(matches!(error, Err(SendTimeoutError::Disconnected(5))));
    });
    until(|| refused.get() == 1 || child.has_ended());
    assert_eq!(receiver.recv(), Ok(1));
    until(|| receiver.len() == 2);
    drop(receiver);
    child.join_ok();
}

/// `send_after_disconnect`.
fn crossbeam_send_after_disconnect() {
    let (mut sender, receiver) = bounded(100);
    (1..4).for_each(|i| sender.send(i).unwrap());
    drop(receiver);
    assert!(matches!(sender.send(4), Err(SendError::Disconnected(4))));
    assert!(matches!(sender.try_send(5), Err(TrySendError::Disconnected(5))));
    assert!(matches!(sender.send_timeout(6, ms(5)), Err(SendTimeoutError::Disconnected(6))));
}

/// `recv_after_disconnect`.
fn crossbeam_recv_after_disconnect() {
    let (mut sender, mut receiver) = bounded(100);
    (1..4).for_each(|i| sender.send(i).unwrap());
    drop(sender);
    (1..4).for_each(|i| assert_eq!(receiver.recv(), Ok(i)));
    assert_eq!(receiver.recv(), Err(RecvError::Disconnected));
}

/// `len`: while both ends move it stays within bounds.
fn crossbeam_len() {
    let (mut sender, mut receiver) = bounded(100);
    let child = fork_child(|| {
        for i in 0..20_000 {
            assert_eq!(receiver.recv(), Ok(i));
            assert!(receiver.len() <= 100);
        }
    });
    for i in 0..20_000 {
        sender.send(i).unwrap();
        assert!(sender.len() <= 100);
    }
    child.join_ok();
    assert_eq!(sender.len(), 0);
}

/// `disconnect_wakes_sender`.
fn crossbeam_disconnect_wakes_sender() {
    let (mut sender, mut receiver) = bounded(1);
    sender.send(1).unwrap();
    sender.release().unwrap();
    let child = fork_child(|| assert!(matches!(sender.send(2), Err(SendError::Disconnected(2)))));
    child.until_asleep();
    receiver.close().unwrap();
    child.join_ok();
}

/// `disconnect_wakes_receiver`.
fn crossbeam_disconnect_wakes_receiver() {
    let (mut sender, mut receiver) = bounded(1);
    let child = fork_child(|| assert_eq!(receiver.recv(), Err(RecvError::Disconnected)));
    child.until_asleep();
    sender.close().unwrap();
    child.join_ok();
}

/// `spsc`.
fn crossbeam_spsc() {
    let (mut sender, mut receiver) = bounded(3);
    let child = fork_child(|| {
        (0..100_000).for_each(|i| assert_eq!(receiver.recv(), Ok(i)));
        assert_eq!(receiver.recv(), Err(RecvError::Disconnected));
    });
    (0..100_000).for_each(|i| sender.send(i).unwrap());
    drop(sender);
    child.join_ok();
}

/// `stress_oneshot`: an end in each of two threads, that use it once.
fn crossbeam_stress_oneshot() {
    for _ in 0..1_000 {
        let (mut sender, mut receiver) = bounded(1);
        thread::scope(|scope| {
            scope.spawn(move || assert_eq!(receiver.recv(), Ok(7)));
            scope.spawn(move || sender.send(7).unwrap());
        });
    }
}

/// `stress_iter`: asked and answered, one drains whenever it is asked.
fn crossbeam_stress_iter() {
    let (mut ask, mut asked) = bounded(100);
    let (mut answer, mut answered) = bounded(100);
    let child = fork_child(|| {
        let mut count = 0;
        while count < 10_000 {
            count += asked.try_iter().map(Result::unwrap).sum::<u64>();
            let _ = answer.try_send(count);
        }
    });
    (0..10_000).for_each(|_| ask.send(1).unwrap());
    assert!(answered.iter().map(Result::unwrap).last().is_some_and(|count| count <= 10_000));
    child.join_ok();
}

/// `stress_timeout_two_threads`: both come late in turns.
fn crossbeam_stress_timeout_two_threads() {
    let (mut sender, mut receiver) = bounded(2);
    let child = fork_child(|| {
        for i in 0..60 {
            if i % 2 == 0 {
                thread::sleep(ms(3));
            }
            while sender.send_timeout(i, ms(2)).is_err() {}
        }
    });
    for i in 0..60 {
        if i % 3 == 0 {
            thread::sleep(ms(3));
        }
        let received = std::iter::repeat_with(|| receiver.recv_timeout(ms(2))).find_map(Result::ok);
        assert_eq!(received, Some(i));
    }
    child.join_ok();
}

fn an_untrusted_channel_works() {
    let (mut sender, mut receiver) = Channel::new(256).untrusted().bytes().unwrap();
    let child = fork_child(|| {
        for round in 0..2_000_usize {
            let mut slot = sender.reserve(round % 200).unwrap();
            slot.fill(round as u8);
            slot.commit().unwrap();
        }
        sender.close().unwrap();
    });
    for round in 0..2_000_usize {
        if round % 2 == 0 {
            assert_eq!(*receiver.read().unwrap(), *vec![round as u8; round % 200]);
        } else {
            assert_eq!(receiver.recv().unwrap(), vec![round as u8; round % 200]);
        }
    }
    assert!(matches!(receiver.read().map(drop), Err(RecvError::Disconnected)));
    child.join_ok();
}

fn an_untrusted_end_is_closed_like_any_other() {
    let (mut sender, mut receiver) = Channel::new(64).untrusted().plain::<u64>().unwrap();
    let waiting = fork_child(|| assert_eq!(receiver.recv(), Err(RecvError::Disconnected)));
    waiting.until_asleep();
    sender.close().unwrap();
    waiting.join_ok();
}

/// What a region has before its first object.
const HEADER: usize = 128;

/// The words of the memory that a channel lies in: its own region, and nothing else that matters.
fn words_of_the_region(capacity: usize) -> &'static [AtomicU64] {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let region = |line: &str| {
        let range = line.split(' ').next()?;
        let (from, to) = range.split_once('-')?;
        let [from, to] = [from, to].map(|number| usize::from_str_radix(number, 16).unwrap());
        (line.contains("pshared") && to - from > 2 * capacity).then_some((from, to))
    };
    let (from, to) = maps.lines().rev().find_map(region).expect("a region of that size");
    // SAFETY: mapped as long as the channel is; words of any content are words. The header of the region is left out.
    unsafe { std::slice::from_raw_parts((from + HEADER) as *const AtomicU64, (to - from - HEADER) / 8) }
}

fn whatever_a_peer_scribbles_gives_messages_or_errors() {
    const CAPACITY: usize = 64 << 10;
    for seed in 1..=40_u64 {
        let (mut sender, mut receiver) = Channel::new(CAPACITY).untrusted().bytes().unwrap();
        let words = words_of_the_region(CAPACITY);
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut roll = move || random.below(u64::MAX);
        // Not under memory protection: what was read outside would end this process.
        let scribbler = fork_child(|| {
            loop {
                let value = match roll() % 4 {
                    0 => roll(),
                    1 => roll() % (4 * CAPACITY as u64),
                    2 => ((roll() % 16) << 32) | (roll() % 20_000),
                    _ => 0,
                };
                // The first words, where the places and the claims lie, as often as all others.
                let near = if roll() % 2 == 0 { 128 } else { words.len() };
                words[roll() as usize % near].store(value, Relaxed);
            }
        });
        let moment = Duration::from_micros(20);
        for _ in 0..400 {
            if let Ok(bytes) = receiver.recv_timeout(moment) {
                assert!(bytes.len() <= CAPACITY - 8, "{} bytes", bytes.len());
            }
            if let Ok(message) = receiver.read_timeout(moment) {
                assert!(message.len() <= CAPACITY - 8);
            }
            let _ = receiver.try_recv_many(&mut Vec::new(), 9);
            let _ = sender.send_timeout(vec![1; 100], moment);
            let _ = sender.try_send_many(&mut vec![vec![2; 9]; 5]);
            if let Ok(slot) = sender.try_reserve(50) {
                slot.commit().unwrap();
            }
            let _ = (sender.len(), sender.is_full(), format!("{receiver:?}"));
        }
        scribbler.kill();
    }
}

fn garbage_is_an_error_that_names_the_figures() {
    const CAPACITY: usize = 64 << 10;
    let (mut sender, mut receiver) = Channel::new(CAPACITY).untrusted().bytes().unwrap();
    let words = words_of_the_region(CAPACITY);
    sender.send(b"longer than 8".to_vec()).unwrap();
    // The header says how long it is.
    let (at, _) = words.iter().enumerate().rfind(|(_, word)| word.load(Relaxed) == 13).expect("a header");
    words[at].store(1000, Relaxed);
    let error = receiver.recv().unwrap_err();
    assert_eq!(error, RecvError::Damaged { found: 1000, limit: 16 });
    assert_eq!(
        error.to_string(),
        "the shared memory is damaged: a length of 1000 bytes, where there are at most 16"
    );
    words[at].store(13, Relaxed);
    assert_eq!(receiver.recv().unwrap(), b"longer than 8");
}
