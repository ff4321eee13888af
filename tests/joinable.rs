//! What `JoinableQueue` promises, with really forked children.

mod support;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use pshared::{
    Atomic, Capacity, DeadLetter, JoinableQueue, PlainData, RecvError, RecvTimeoutError, Region, RegionError,
    SendError, SendTimeoutError, TaskDoneError, TryRecvError, TrySendError,
};
use support::{descriptors, fork_child, page::Page, until};

fn main() -> ExitCode {
    support::main(support::tests![
        a_task_is_unfinished_until_it_is_done,
        a_task_that_is_dropped_is_done,
        a_task_given_back_comes_again,
        a_panic_gives_the_task_back,
        a_task_dropped_in_a_panic_older_than_it_is_done,
        a_killed_taker_gives_its_task_back,
        a_killed_taker_wakes_a_receiver_that_sleeps,
        a_thread_that_ends_with_a_task_gives_it_back,
        a_forked_copy_of_a_task_finishes_nothing,
        what_was_given_back_is_found_among_what_is_new,
        a_task_given_back_too_often_becomes_a_dead_letter,
        dead_letters_beyond_their_places_are_handed_out_again,
        join_waits_for_every_task,
        join_is_told_by_the_last_of_many,
        join_is_told_of_a_dead_letter,
        killed_joiners_and_finishers_leave_nobody_waiting,
        join_with_a_limit_says_whether_all_is_finished,
        receivers_wait_for_a_free_place,
        a_thread_that_holds_every_place_is_told,
        a_closed_queue_is_over_when_nothing_can_come_back,
        who_holds_a_task_is_told_at_once_that_it_is_closed,
        try_and_timeout_forms_do_not_hang_on_others,
        python_task_done,
        task_done_too_often_is_an_error,
        tasks_kept_by_the_dead_come_back,
        items_that_cannot_be_read_are_finished,
        a_panic_while_reading_gives_the_item_back,
        figures_of_errors,
        what_is_unfinished_can_be_told_while_much_is_sent,
        killed_workers_lose_nothing_and_finish_nothing_twice,
        ten_thousand_deaths_with_a_task_in_hand,
    ])
}

fn small() -> JoinableQueue<u64, PlainData> {
    JoinableQueue::builder(256).takers(4).build_plain().unwrap()
}

fn a_task_is_unfinished_until_it_is_done() {
    let queue = JoinableQueue::new(1024).unwrap();
    queue.send("one".to_string()).unwrap();
    queue.send("two".to_string()).unwrap();
    assert_eq!((queue.unfinished(), queue.len()), (2, 2));
    let one = queue.recv().unwrap();
    assert_eq!((one.as_str(), one.deliveries()), ("one", 1));
    assert_eq!((queue.unfinished(), queue.len()), (2, 1));
    one.done();
    assert_eq!((queue.unfinished(), queue.len()), (1, 1));
    assert!(!queue.join_timeout(Duration::ZERO));
    queue.try_recv().unwrap().done();
    assert!(queue.join_timeout(Duration::ZERO) && queue.is_empty());
    assert_eq!(queue.try_recv().err(), Some(TryRecvError::Empty));
}

fn a_task_that_is_dropped_is_done() {
    let queue = small();
    queue.send(1).unwrap();
    drop(queue.recv().unwrap());
    assert_eq!(queue.unfinished(), 0);
}

fn a_task_given_back_comes_again() {
    let queue = small();
    queue.send(7).unwrap();
    for delivery in 1..=10 {
        let mut task = queue.recv().unwrap();
        assert_eq!((*task, task.deliveries()), (7, delivery));
        // What a taker changes is its own.
        *task += 1;
        task.give_back();
        assert_eq!((queue.unfinished(), queue.len()), (1, 0));
    }
    queue.recv().unwrap().done();
    queue.join();
}

fn a_panic_gives_the_task_back() {
    let queue = small();
    queue.send(7).unwrap();
    let worker = fork_child(|| {
        let _task = queue.recv().unwrap();
        panic!("as planned");
    });
    worker.join();
    let caught = catch_unwind(AssertUnwindSafe(|| {
        let task = queue.recv().unwrap();
        assert_eq!((*task, task.deliveries()), (7, 2));
        panic!("as planned");
    }));
    assert!(caught.is_err());
    let task = queue.try_recv().unwrap();
    assert_eq!((*task, task.deliveries()), (7, 3));
    task.done();
}

fn a_task_dropped_in_a_panic_older_than_it_is_done() {
    struct Cleanup<'a>(&'a JoinableQueue<u64, PlainData>);
    impl Drop for Cleanup<'_> {
        fn drop(&mut self) {
            drop(self.0.recv().unwrap());
        }
    }
    let queue = small();
    queue.send(7).unwrap();
    let caught = catch_unwind(AssertUnwindSafe(|| {
        let _cleanup = Cleanup(&queue);
        panic!("as planned");
    }));
    assert!(caught.is_err());
    assert_eq!(queue.unfinished(), 0);
}

fn a_killed_taker_gives_its_task_back() {
    let (queue, holds) = (small(), Atomic::new(0_u32).unwrap());
    queue.send(7).unwrap();
    for delivery in 2..30 {
        holds.set(0);
        let taker = fork_child(|| {
            let _task = queue.recv().unwrap();
            holds.set(1);
            loop {
                thread::park();
            }
        });
        until(|| holds.get() == 1);
        assert_eq!(queue.try_recv().err(), Some(TryRecvError::Empty));
        taker.kill();
        let task = queue.try_recv().unwrap();
        assert_eq!((*task, task.deliveries()), (7, 2 * delivery - 2));
        task.give_back();
    }
    assert_eq!(queue.unfinished(), 1);
}

fn a_killed_taker_wakes_a_receiver_that_sleeps() {
    for _ in 0..30 {
        let (queue, holds) = (small(), Atomic::new(0_u32).unwrap());
        (0..3).for_each(|i| queue.send(i).unwrap());
        let mut takers: Vec<_> = (0..3)
            .map(|_| {
                fork_child(|| {
                    let _task = queue.recv().unwrap();
                    holds.fetch_add(1);
                    loop {
                        thread::park();
                    }
                })
            })
            .collect();
        until(|| holds.get() == 3);
        let receivers: Vec<_> = (0..3).map(|_| fork_child(|| queue.recv().unwrap().done())).collect();
        receivers.iter().for_each(|receiver| receiver.until_asleep());
        takers.drain(..).for_each(|taker| taker.kill());
        receivers.into_iter().for_each(|receiver| receiver.join_ok());
        assert_eq!(queue.unfinished(), 0);
    }
}

fn a_thread_that_ends_with_a_task_gives_it_back() {
    let queue = small();
    queue.send(7).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| std::mem::forget(queue.recv().unwrap()));
    });
    assert_eq!(queue.recv().unwrap().deliveries(), 2);
}

fn a_forked_copy_of_a_task_finishes_nothing() {
    let queue = small();
    queue.send(7).unwrap();
    let task = queue.recv().unwrap();
    let mut task = Some(task);
    fork_child(|| {
        let copy = task.take().unwrap();
        assert_eq!(*copy, 7);
        drop(copy);
        assert_eq!(queue.task_done(), Err(TaskDoneError::TooMany));
    })
    .join_ok();
    assert_eq!(queue.unfinished(), 1);
    task.take().unwrap().done();
    assert_eq!(queue.unfinished(), 0);
}

fn what_was_given_back_is_found_among_what_is_new() {
    let queue = JoinableQueue::builder(1 << 12).takers(6).dead_letters(0).build_plain().unwrap();
    (0..100_u64).for_each(|i| queue.send(i).unwrap());
    queue.recv().unwrap().give_back();
    let again = (0..).find(|_| queue.recv().unwrap().deliveries() == 2).unwrap();
    assert!(again <= 6, "given back, and found after {again} others");
}

fn a_task_given_back_too_often_becomes_a_dead_letter() {
    let queue = JoinableQueue::builder(1024).deliveries(3).build().unwrap();
    queue.send("poison".to_string()).unwrap();
    for delivery in 1..=3 {
        let taker = fork_child(|| {
            let task = queue.recv().unwrap();
            assert_eq!(task.deliveries(), delivery);
            std::process::abort();
        });
        taker.join();
    }
    queue.send("food".to_string()).unwrap();
    let task = queue.recv().unwrap();
    assert_eq!((task.as_str(), task.deliveries()), ("food", 1));
    task.done();
    assert!(matches!(queue.try_recv(), Err(TryRecvError::Empty)));
    // A dead letter is nobody's work any more.
    assert!(queue.join_timeout(Duration::ZERO));
    let letters: Vec<_> = queue.dead_letters().map(Result::unwrap).collect();
    assert_eq!(letters, [DeadLetter { item: "poison".to_string(), deliveries: 3 }]);
    assert_eq!(queue.dead_letters().count(), 0);
}

fn dead_letters_beyond_their_places_are_handed_out_again() {
    let queue = JoinableQueue::builder(1024).takers(2).dead_letters(2).deliveries(1).build_plain().unwrap();
    for i in 0..3_u64 {
        queue.send(i).unwrap();
        queue.recv().unwrap().give_back();
    }
    let task = queue.try_recv().unwrap();
    assert_eq!((*task, task.deliveries()), (2, 2));
    assert_eq!(queue.dead_letters().map(|letter| letter.unwrap().item).sum::<u64>(), 1);
    task.give_back();
    assert!(queue.try_recv().is_err());
    assert_eq!(queue.dead_letters().next().unwrap().unwrap(), DeadLetter { item: 2, deliveries: 2 });
    assert_eq!(queue.unfinished(), 0);
}

fn join_waits_for_every_task() {
    let queue = small();
    (0..3).for_each(|i| queue.send(i).unwrap());
    let joiners: Vec<_> = (0..3).map(|_| fork_child(|| queue.join())).collect();
    joiners.iter().for_each(|joiner| joiner.until_asleep());
    for _ in 0..2 {
        queue.recv().unwrap().done();
    }
    joiners.iter().for_each(|joiner| assert!(!joiner.has_ended()));
    queue.recv().unwrap().done();
    joiners.into_iter().for_each(|joiner| joiner.join_ok());
}

fn join_is_told_by_the_last_of_many() {
    let queue = JoinableQueue::<u64, _>::plain(4096).unwrap();
    let workers: Vec<_> =
        (0..4).map(|_| fork_child(|| while queue.recv().map(|task| task.done()).is_ok() {})).collect();
    for round in 0..300 {
        (0..1 + round % 20).for_each(|i| queue.send(i).unwrap());
        queue.join();
        assert_eq!(queue.unfinished(), 0);
    }
    queue.close();
    workers.into_iter().for_each(|worker| worker.join_ok());
}

fn join_is_told_of_a_dead_letter() {
    let queue = JoinableQueue::builder(256).deliveries(1).build_plain().unwrap();
    queue.send(1_u64).unwrap();
    queue.recv().unwrap().give_back();
    let joiner = fork_child(|| queue.join());
    joiner.until_asleep();
    assert!(matches!(queue.recv_timeout(Duration::from_millis(1)), Err(RecvTimeoutError::TimedOut)));
    joiner.join_ok();
}

/// Whoever finishes the last task is killed at a random moment around it; so is one of three joiners.
fn killed_joiners_and_finishers_leave_nobody_waiting() {
    let queue = small();
    for round in 0..200 {
        queue.send(round).unwrap();
        let mut joiners: Vec<_> = (0..3).map(|_| fork_child(|| queue.join())).collect();
        joiners.iter().for_each(|joiner| joiner.until_asleep());
        let finisher = fork_child(|| queue.recv().unwrap().done());
        thread::sleep(Duration::from_micros(5 * (round % 40)));
        let unlucky = joiners.remove(0);
        let _ = nix::sys::signal::kill(unlucky.pid(), nix::sys::signal::Signal::SIGKILL);
        unlucky.join();
        let _ = nix::sys::signal::kill(finisher.pid(), nix::sys::signal::Signal::SIGKILL);
        finisher.join();
        while let Ok(task) = queue.try_recv() {
            task.done();
        }
        joiners.into_iter().for_each(|joiner| joiner.join_ok());
        assert_eq!(queue.unfinished(), 0);
    }
}

fn join_with_a_limit_says_whether_all_is_finished() {
    let (queue, wait) = (small(), Duration::from_millis(20));
    queue.send(1).unwrap();
    let start = Instant::now();
    assert!(!queue.join_timeout(wait));
    assert!(start.elapsed() >= wait);
    let joiner = fork_child(|| assert!(queue.join_timeout(Duration::from_secs(50))));
    joiner.until_asleep();
    queue.recv().unwrap().done();
    joiner.join_ok();
    assert!(queue.join_deadline(pshared::Deadline::now()));
}

fn receivers_wait_for_a_free_place() {
    let queue = JoinableQueue::builder(256).takers(2).dead_letters(0).build_plain().unwrap();
    (0..3_u64).for_each(|i| queue.send(i).unwrap());
    let (first, second) = (queue.recv().unwrap(), queue.recv().unwrap());
    let receiver = fork_child(|| assert_eq!(*queue.recv().unwrap(), 2));
    receiver.until_asleep();
    second.done();
    receiver.join_ok();
    // The same when a death makes room, by giving back what then comes first.
    let holds = Atomic::new(0_u32).unwrap();
    queue.send(3).unwrap();
    queue.send(4).unwrap();
    let taker = fork_child(|| {
        let _task = queue.recv().unwrap();
        holds.set(1);
        loop {
            thread::park();
        }
    });
    until(|| holds.get() == 1);
    let receiver = fork_child(|| assert_eq!(*queue.recv().unwrap(), 3));
    receiver.until_asleep();
    taker.kill();
    receiver.join_ok();
    first.done();
    assert_eq!(*queue.recv().unwrap(), 4);
}

fn a_thread_that_holds_every_place_is_told() {
    let queue = JoinableQueue::builder(256).takers(2).dead_letters(0).build_plain().unwrap();
    (0..3_u64).for_each(|i| queue.send(i).unwrap());
    let _tasks = [queue.recv().unwrap(), queue.recv().unwrap()];
    assert_eq!(queue.recv().err(), Some(RecvError::TooManyTasks { held: 2 }));
    assert_eq!(queue.try_recv().err(), Some(TryRecvError::TooManyTasks { held: 2 }));
}

fn a_closed_queue_is_over_when_nothing_can_come_back() {
    let (queue, holds) = (small(), Atomic::new(0_u32).unwrap());
    queue.send(7).unwrap();
    queue.close();
    assert!(matches!(queue.send(8), Err(SendError::Closed(8))));
    let taker = fork_child(|| {
        let _task = queue.recv().unwrap();
        holds.set(1);
        loop {
            thread::park();
        }
    });
    until(|| holds.get() == 1);
    assert_eq!(queue.try_recv().err(), Some(TryRecvError::Empty));
    let receivers: Vec<_> = (0..2)
        .map(|_| {
            fork_child(|| {
                while let Ok(task) = queue.recv() {
                    assert_eq!((*task, task.deliveries()), (7, 2));
                    task.done();
                }
            })
        })
        .collect();
    receivers.iter().for_each(|receiver| receiver.until_asleep());
    taker.kill();
    receivers.into_iter().for_each(|receiver| receiver.join_ok());
    assert_eq!(queue.recv().err(), Some(RecvError::Closed));
    assert_eq!((queue.unfinished(), queue.is_closed()), (0, true));
}

fn who_holds_a_task_is_told_at_once_that_it_is_closed() {
    let (queue, holds) = (small(), Atomic::new(0_u32).unwrap());
    queue.send(1).unwrap();
    queue.send(2).unwrap();
    queue.close();
    let children: Vec<_> = (0..2)
        .map(|_| {
            fork_child(|| {
                let task = queue.recv().unwrap();
                holds.fetch_add(1);
                until(|| holds.get() == 2);
                assert_eq!(queue.recv().err(), Some(RecvError::Closed));
                task.done();
            })
        })
        .collect();
    children.into_iter().for_each(|child| child.join_ok());
}

fn try_and_timeout_forms_do_not_hang_on_others() {
    let (queue, wait) = (small(), Duration::from_millis(15));
    let receiver = fork_child(|| queue.recv().unwrap().done());
    receiver.until_asleep();
    assert_eq!(queue.try_recv().err(), Some(TryRecvError::Empty));
    let start = Instant::now();
    assert_eq!(queue.recv_timeout(wait).err(), Some(RecvTimeoutError::TimedOut));
    assert!(start.elapsed() >= wait);
    queue.send_timeout(1, wait).unwrap();
    receiver.join_ok();
    while queue.try_send(0).is_ok() {}
    assert!(queue.is_full());
    assert!(matches!(queue.try_send(9), Err(TrySendError::Full(9))));
    assert!(matches!(queue.send_timeout(9, wait), Err(SendTimeoutError::TimedOut(9))));
}

/// CPython, `_TestQueue.test_task_done`: four workers, ten items, a join, and then an item for each worker to end by.
fn python_task_done() {
    let queue = JoinableQueue::<Option<u32>>::new(Capacity::bytes(4096).items(20)).unwrap();
    let workers: Vec<_> = (0..4)
        .map(|_| {
            fork_child(|| {
                loop {
                    let item = queue.recv().unwrap().into_inner();
                    queue.task_done().unwrap();
                    if item.is_none() {
                        return;
                    }
                }
            })
        })
        .collect();
    (0..10).for_each(|i| queue.send(Some(i)).unwrap());
    queue.join();
    workers.iter().for_each(|_| queue.send(None).unwrap());
    workers.into_iter().for_each(|worker| worker.join_ok());
    assert_eq!(queue.unfinished(), 0);
}

fn task_done_too_often_is_an_error() {
    let queue = small();
    assert_eq!(queue.task_done(), Err(TaskDoneError::TooMany));
    (1..=3).for_each(|i| queue.send(i).unwrap());
    let guarded = queue.recv().unwrap();
    assert_eq!(queue.task_done(), Err(TaskDoneError::TooMany));
    let kept = [queue.recv().unwrap().into_inner(), queue.recv().unwrap().into_inner()];
    assert_eq!(kept, [2, 3]);
    fork_child(|| assert_eq!(queue.task_done(), Err(TaskDoneError::TooMany))).join_ok();
    thread::scope(|scope| {
        scope.spawn(|| assert_eq!(queue.task_done(), Err(TaskDoneError::TooMany)));
    });
    assert_eq!((queue.task_done(), queue.task_done()), (Ok(()), Ok(())));
    let error = queue.task_done().unwrap_err();
    assert_eq!(error.to_string(), "task_done was called more often than tasks were taken by this thread");
    assert_eq!(queue.unfinished(), 1);
    guarded.done();
}

/// The oldest is finished first: what comes back is the other one.
fn tasks_kept_by_the_dead_come_back() {
    let (queue, holds) = (small(), Atomic::new(0_u32).unwrap());
    queue.send(1).unwrap();
    queue.send(2).unwrap();
    let taker = fork_child(|| {
        let _items = [queue.recv().unwrap().into_inner(), queue.recv().unwrap().into_inner()];
        queue.task_done().unwrap();
        holds.set(1);
        loop {
            thread::park();
        }
    });
    until(|| holds.get() == 1);
    taker.kill();
    let task = queue.recv().unwrap();
    assert_eq!((*task, task.deliveries(), queue.unfinished()), (2, 2, 1));
}

/// Received only if it is not 3; a 4 makes its reader panic.
#[derive(Debug, PartialEq, serde::Serialize)]
struct Picky(u8);

impl<'de> serde::Deserialize<'de> for Picky {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Picky, D::Error> {
        match u8::deserialize(from)? {
            3 => Err(serde::de::Error::custom("unreadable")),
            4 => panic!("as planned"),
            number => Ok(Picky(number)),
        }
    }
}

fn items_that_cannot_be_read_are_finished() {
    let queue = JoinableQueue::new(256).unwrap();
    queue.send(Picky(3)).unwrap();
    assert!(matches!(queue.recv(), Err(RecvError::Decode(_))));
    assert_eq!(queue.unfinished(), 0);
}

fn a_panic_while_reading_gives_the_item_back() {
    let queue = JoinableQueue::new(256).unwrap();
    queue.send(Picky(4)).unwrap();
    for _ in 0..3 {
        assert!(catch_unwind(AssertUnwindSafe(|| queue.recv().map(drop))).is_err());
    }
    assert_eq!((queue.unfinished(), queue.len()), (1, 0));
}

fn figures_of_errors() {
    let region = Region::anonymous(8192).unwrap();
    match JoinableQueue::<u8>::new_in(&region, 4096) {
        Err(RegionError::NoRoom { need, have }) => assert!(need > have && have == region.room()),
        other => panic!("{other:?}"),
    }
    assert_eq!(region.room(), 8192 - 128);
    let queue = JoinableQueue::builder(1024).takers(2).build_plain_in::<u64>(&region).unwrap();
    queue.send(1).unwrap();
    let none = JoinableQueue::builder(64).takers(0).build::<u8>();
    assert!(matches!(none, Err(RegionError::ZeroSize)));
    match JoinableQueue::builder(64).takers(120).dead_letters(7).build::<u8>() {
        Err(RegionError::TooLarge { need: 127, limit: 126 }) => {}
        other => panic!("{other:?}"),
    }
    assert!(JoinableQueue::builder(64).takers(118).build::<u8>().is_ok());
    assert!(matches!(JoinableQueue::<u8>::new(0), Err(RegionError::ZeroSize)));
    let queue = JoinableQueue::builder(1 << 16).longest(100).build().unwrap();
    assert_eq!(queue.max_message_len(), 100);
    assert!(matches!(queue.send("x".repeat(100)), Err(SendError::TooLong { len: 101, limit: 100, .. })));
    queue.send("x".repeat(99)).unwrap();
    assert_eq!(queue.recv().unwrap().len(), 99);
    assert_eq!(JoinableQueue::<[u64; 200], _>::plain(1 << 14).unwrap().max_message_len(), 1600);
    let text = format!("{queue:?}");
    assert_eq!(
        text,
        "JoinableQueue { unfinished: 0, len: 0, held: 0, dead_letters: 0, capacity: 65536, closed: false, \
         sending: free, receiving: free }"
    );
}

fn what_is_unfinished_can_be_told_while_much_is_sent() {
    let queue = JoinableQueue::plain(1 << 16).unwrap();
    let children: Vec<_> = (0..2)
        .map(|_| fork_child(|| while queue.send(1_u64).is_ok() {}))
        .chain((0..2).map(|_| fork_child(|| while queue.recv().map(drop).is_ok() {})))
        .collect();
    for _ in 0..20_000 {
        // At most what fits, and what two hold.
        assert!(queue.unfinished() <= (1 << 12) + 2);
    }
    queue.close();
    queue.join();
    children.into_iter().for_each(|child| child.join_ok());
    assert_eq!((queue.unfinished(), queue.len()), (0, 0));
}

/// Workers note each task *before* they finish it, and report it *after*. Killed at random, they lose none: every task
/// is noted, those noted again are at most one for each death, and none is reported twice.
fn killed_workers_lose_nothing_and_finish_nothing_twice() {
    const TASKS: u32 = 1_000;
    let queue = JoinableQueue::builder(512).takers(6).build_plain().unwrap();
    let (noted, reported) = (Page::new(), Page::new());
    let worker = || {
        fork_child(|| {
            while let Ok(task) = queue.recv() {
                let [number, check]: [u32; 2] = *task;
                assert_eq!(check, !number, "a torn task");
                noted.add(number as usize, 1);
                task.done();
                reported.add(number as usize, 1);
            }
        })
    };
    let mut workers: Vec<_> = (0..4).map(|_| worker()).collect();
    let mut deaths = 0;
    for number in 0..TASKS {
        queue.send([number, !number]).unwrap();
        if number % 7 == 0 {
            workers.remove(0).kill();
            deaths += 1;
            workers.push(worker());
        }
    }
    queue.join();
    assert_eq!(queue.unfinished(), 0);
    queue.close();
    workers.into_iter().for_each(|worker| worker.join_ok());
    let all = |page: &Page| (0..TASKS as usize).map(|number| page.get(number)).collect::<Vec<_>>();
    assert!(all(&noted).iter().all(|&times| times > 0), "a task that nobody did");
    assert!(all(&noted).iter().sum::<u32>() <= TASKS + deaths);
    assert!(all(&reported).iter().all(|&times| times <= 1), "a task that was finished twice");
    assert!(all(&reported).iter().sum::<u32>() >= TASKS - deaths);
}

fn ten_thousand_deaths_with_a_task_in_hand() {
    let queue = JoinableQueue::builder(256).takers(3).dead_letters(0).build_plain().unwrap();
    (0..3_u64).for_each(|i| queue.send(i).unwrap());
    let before = (descriptors(), support::address_space());
    for _ in 0..10_000 {
        fork_child(|| {
            let _tasks = (queue.recv().unwrap(), queue.recv().unwrap());
            let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
        })
        .join();
    }
    assert_eq!((descriptors(), support::address_space()), before);
    // Still three places, and three tasks.
    let tasks: Vec<_> = (0..3).map(|_| queue.try_recv().unwrap()).collect();
    assert_eq!(tasks.iter().map(|task| **task).sum::<u64>(), 3);
    assert_eq!(tasks.iter().map(|task| task.deliveries()).sum::<u32>(), 20_000 + 3);
    assert_eq!(queue.unfinished(), 3);
    drop(tasks);
    queue.join();
}
