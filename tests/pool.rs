//! What a pool promises, but for its deaths: those are in `pool_deaths.rs`.

#![allow(clippy::disallowed_types, reason = "shared by threads alone")]

mod support;

use std::{
    num::NonZeroUsize,
    process::{self, ExitCode},
    thread,
    time::{Duration, Instant},
};

use nix::{
    libc,
    sys::signal::{Signal, kill, raise},
    unistd::Pid,
};
use pshared::{
    Atomic, Context, Event, GetTimeoutError, Limit, Pool, PoolBuilder, PoolError, PoolJoinError, TaskError,
    TaskLimits, TryApplyError, active_children,
};
use support::{descriptors, is_asleep_in_futex, until};

fn main() -> ExitCode {
    pshared::init();
    support::main(support::tests![
        a_function_is_applied,
        values_of_every_size_go_there_and_back,
        a_map_keeps_the_order,
        a_map_by_single_items_is_the_same,
        what_cannot_be_sent_is_an_error,
        a_panic_is_told_with_its_place,
        more_tasks_than_places_go_through,
        a_map_leaves_places_for_others,
        long_values_come_as_they_were_when_memory_was_given_back,
        try_apply_never_waits,
        a_value_that_nobody_asks_for_is_in_nobodys_way,
        get_with_a_limit_lets_the_task_go_on,
        tasks_begin_in_their_order,
        what_is_queued_can_be_cancelled,
        what_runs_can_be_cancelled_and_nobody_else_dies,
        hard_limits_kill_and_soft_ones_warn,
        a_deadline_counts_from_the_submission,
        a_worker_that_wants_too_much_memory_dies_alone,
        workers_are_replaced_after_so_many_tasks,
        workers_are_replaced_at_an_age,
        workers_that_have_grown_are_replaced,
        idle_workers_leave_and_come_back,
        a_pool_grows_and_shrinks,
        an_initializer_captures_what_it_likes_by_fork,
        an_initializer_that_captures_is_refused_without_a_fork,
        a_failing_initializer_is_told_within_the_budget,
        a_panicking_initializer_is_told_too,
        the_pool_goes_on_with_the_workers_that_are_ready,
        stats_tell_what_was_done,
        workers_have_names,
        ctrl_c_is_the_programs_alone,
        many_threads_use_one_pool,
        a_map_within_a_map_has_room,
        lazy_maps_look_ahead_so_far_and_no_further,
        lazy_maps_that_are_dropped_leave_the_pool_as_it_was,
        an_input_that_panics_is_an_error_in_its_place,
        a_lazy_map_can_be_asked_for_a_while,
        unordered_values_come_as_they_are_done,
        a_copy_of_a_pool_is_inert,
        a_pool_in_a_pool,
        sizes_that_cannot_be_are_refused,
        waits_sleep,
        nothing_is_left_of_a_pool,
    ])
}

fn square(n: u64) -> u64 {
    n * n
}

fn nap(millis: u64) -> u64 {
    thread::sleep(Duration::from_millis(millis));
    millis
}

fn pool(workers: usize) -> Pool {
    Pool::builder().workers(workers).build().unwrap()
}

thread_local! {
    static GATE: std::cell::RefCell<Option<Event>> = const { std::cell::RefCell::new(None) };
}

/// A pool in which [`gated`] waits until the event is set.
fn gated_pool(builder: PoolBuilder) -> (Pool, Event) {
    let gate = Event::new().unwrap();
    let inherited = gate.clone();
    let keep = move || {
        GATE.replace(Some(inherited.clone()));
        Ok::<(), String>(())
    };
    (builder.initializer(keep).build().unwrap(), gate)
}

fn gated(n: u64) -> u64 {
    GATE.with_borrow(|gate| gate.as_ref().unwrap().wait());
    n
}

fn chunk(items: usize) -> NonZeroUsize {
    NonZeroUsize::new(items).unwrap()
}

fn a_function_is_applied() {
    let pool = pool(2);
    assert_eq!(pool.apply(square, 5), Ok(25));
    assert_eq!(pool.apply(|(a, b): (u8, String)| format!("{a}{b}"), (7, "x".into())), Ok("7x".to_string()));
    assert_eq!(pool.apply(|()| (), ()), Ok(()));
    let pid = pool.apply(|()| process::id(), ()).unwrap();
    assert_ne!(pid, process::id());
    let later = pool.apply_async(square, 6).unwrap();
    later.wait();
    assert!(later.is_ready());
    assert_eq!(later.get(), Ok(36));
}

fn values_of_every_size_go_there_and_back() {
    let pool = pool(1);
    for len in [0, 1, 7, 8, 9, 63, 127, 128, 129, 1000, 4096, 100_000, 3_000_001] {
        let bytes: Vec<u8> = (0..len).map(|n| n as u8).collect();
        let expected: Vec<u8> = bytes.iter().rev().copied().collect();
        let back = |mut bytes: Vec<u8>| {
            bytes.reverse();
            bytes
        };
        assert!(pool.apply(back, bytes.clone()).unwrap() == expected, "{len}");
        assert!(pool.apply_async(back, bytes).unwrap().get().unwrap() == expected, "{len}");
        let text = "ä".repeat(len);
        assert!(pool.apply(|text: String| text + "!", text.clone()).unwrap() == text + "!", "{len}");
        let floats: Vec<f64> = (0..len).map(|n| n as f64).collect();
        assert!(pool.apply(|floats: Vec<f64>| floats, floats.clone()).unwrap() == floats, "{len}");
    }
    assert_eq!(pool.apply(|x: f32| x * 2.0, 1.5), Ok(3.0));
    assert_eq!(pool.apply(|x: i8| -x, 5), Ok(-5));
    assert_eq!(pool.apply(|x: u128| x + 1, u128::MAX - 1), Ok(u128::MAX));
    assert_eq!(pool.apply(|x: Option<char>| x.is_some(), Some('x')), Ok(true));
}

fn a_map_keeps_the_order() {
    let pool = pool(2);
    for len in [0, 1, 2, 7, 8, 9, 1000, 50_000] {
        let expected: Vec<u64> = (0..len).map(square).collect();
        assert!(pool.map(square, 0..len).unwrap() == expected, "{len}");
        // An input that does not say how long it is.
        assert!(pool.map(square, (0..len).filter(|_| true)).unwrap() == expected, "{len}");
        assert!(pool.map_async(square, 0..len).unwrap().get().unwrap() == expected, "{len}");
    }
    let words = pool.map(|(n, word): (usize, String)| word.repeat(n), [(1, "a".into()), (3, "b".into())]);
    assert_eq!(words.unwrap(), ["a", "bbb"]);
}

fn a_map_by_single_items_is_the_same() {
    for bound in [2, 16, 4096] {
        let pool = Pool::builder().workers(2).bound(bound).build().unwrap();
        for len in [0, 1, 2, 300, 20_000] {
            let expected: Vec<u64> = (0..len).map(square).collect();
            assert!(pool.map_chunked(square, 0..len, chunk(1)).unwrap() == expected, "{len}");
            assert!(pool.map_chunked(square, 0..len, chunk(7)).unwrap() == expected, "{len}");
            let lazily: Vec<u64> = pool.imap(square, 0..len).map(Result::unwrap).collect();
            assert!(lazily == expected, "{len}");
            let chunks: Vec<u64> = pool.imap_chunked(square, 0..len, chunk(9)).map(Result::unwrap).collect();
            assert!(chunks == expected, "{len}");
            let mut any: Vec<u64> = pool.imap_unordered(square, 0..len).map(Result::unwrap).collect();
            any.sort_unstable();
            assert!(any == expected, "{len}");
        }
    }
}

fn what_cannot_be_sent_is_an_error() {
    /// Refuses to be sent, or to be read.
    #[derive(Clone, Debug, PartialEq)]
    struct Shy(u8);

    impl serde::Serialize for Shy {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match self.0 {
                1 => Err(serde::ser::Error::custom("not me")),
                2 => panic!("never"),
                number => serializer.serialize_u8(number),
            }
        }
    }

    impl<'de> serde::Deserialize<'de> for Shy {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            match <u8 as serde::Deserialize>::deserialize(deserializer)? {
                3 => Err(serde::de::Error::custom("not read")),
                number => Ok(Shy(number)),
            }
        }
    }

    let pool = pool(1);
    assert!(matches!(pool.apply(|_: Shy| 1, Shy(1)), Err(TaskError::Encode { .. })));
    assert!(matches!(pool.apply_async(|_: Shy| 1, Shy(1)), Err(TaskError::Encode { .. })));
    assert!(matches!(pool.apply(|_: Shy| 1, Shy(3)), Err(TaskError::Decode { .. })));
    assert!(matches!(pool.apply(|n: u8| Shy(n), 1), Err(TaskError::Encode { .. })));
    assert!(matches!(pool.apply(|n: u8| Shy(n), 2), Err(TaskError::Panicked { .. })));
    assert!(matches!(pool.apply(|n: u8| Shy(n), 3), Err(TaskError::Decode { .. })));
    for chunk in [chunk(1), chunk(10)] {
        let each = pool.map_each_chunked(|n: u8| Shy(n), 0..6, chunk).unwrap();
        assert!(
            matches!(
                &each[..],
                [
                    Ok(Shy(0)),
                    Err(TaskError::Encode { .. }),
                    Err(TaskError::Panicked { .. }),
                    Err(TaskError::Decode { .. }),
                    Ok(Shy(4)),
                    Ok(Shy(5))
                ]
            ),
            "{each:?}"
        );
    }
    // What never went is in nobody's way.
    let small = Pool::builder().workers(1).bound(2).build().unwrap();
    for _ in 0..5 {
        let give = std::panic::AssertUnwindSafe(|| small.apply_async(|_: Shy| 1, Shy(2)).is_ok());
        assert!(std::panic::catch_unwind(give).is_err());
        assert!(small.apply_async(|_: Shy| 1, Shy(1)).is_err());
        assert_eq!(small.apply(square, 4), Ok(16));
    }
    // Shared objects go to children that are started, not to workers that are there.
    let refused = pool.apply(|event: Event| event.is_set(), Event::new().unwrap());
    assert!(matches!(refused, Err(TaskError::Encode { .. })), "{refused:?}");
    assert_eq!(pool.apply(square, 3), Ok(9));
}

fn a_panic_is_told_with_its_place() {
    let pool = pool(1);
    let pid = pool.apply(|()| process::id(), ()).unwrap();
    let here = line!() + 1;
    let panicked = pool.apply(|n: u64| if n == 3 { panic!("no {n}") } else { n }, 3);
    let Err(TaskError::Panicked { message, location: Some(place) }) = panicked else {
        panic!("{panicked:?}")
    };
    assert_eq!((message.as_str(), place.line), ("no 3", here));
    assert!(place.file.ends_with("tests/pool.rs"));
    let each = pool.map_each_chunked(|n: u64| if n % 2 == 1 { panic!("odd {n}") } else { n }, 0..5, chunk(5));
    let told = each.unwrap().into_iter().map(|value| match value {
        Ok(n) => n.to_string(),
        Err(TaskError::Panicked { message, .. }) => message,
        other => panic!("{other:?}"),
    });
    assert_eq!(told.collect::<Vec<_>>(), ["0", "odd 1", "2", "odd 3", "4"]);
    // The first error in order, when all is done.
    let first = pool.map(|n: u64| if n > 2 { panic!("at {n}") } else { n }, 0..9);
    assert!(matches!(first, Err(TaskError::Panicked { message, .. }) if message == "at 3"));
    assert_eq!(pool.apply(|()| process::id(), ()), Ok(pid), "a panic costs no worker");
}

fn more_tasks_than_places_go_through() {
    let pool = Pool::builder().workers(2).bound(8).build().unwrap();
    let results: Vec<_> = (0..500).map(|n| pool.apply_async(square, n).unwrap()).collect();
    for (n, result) in results.into_iter().enumerate() {
        assert_eq!(result.get(), Ok(square(n as u64)));
    }
}

fn a_map_leaves_places_for_others() {
    let pool = Pool::builder().workers(2).bound(4).build().unwrap();
    let by_one = NonZeroUsize::MIN;
    let squares: Vec<u64> = (0..5000).map(square).collect();
    thread::scope(|scope| {
        let maps: Vec<_> =
            (0..3).map(|_| scope.spawn(|| pool.map_chunked(square, 0..5000, by_one).unwrap())).collect();
        for n in 0..500 {
            assert_eq!(pool.apply(square, n), Ok(square(n)));
        }
        maps.into_iter().for_each(|map| assert_eq!(map.join().unwrap(), squares));
    });
    // An input that needs the pool itself.
    let fourth = pool.map_chunked(square, (0..200).map(|n| pool.apply(square, n).unwrap()), by_one);
    assert_eq!(fourth.unwrap(), (0..200).map(|n| square(square(n))).collect::<Vec<_>>());
    assert_eq!(pool.stats().done, 3 * 5000 + 500 + 2 * 200);
}

fn long_values_come_as_they_were_when_memory_was_given_back() {
    let pool = pool(2);
    let more = |mut bytes: Vec<u8>| -> Vec<u8> {
        let byte = bytes[bytes.len() / 2] + 1;
        bytes.fill(byte);
        bytes
    };
    let lens = [5_000, (4 << 20) - 1, 4 << 20, (4 << 20) + 1, 9 << 20, 100_000];
    for round in 0..3 {
        // Together they have more than a pool keeps.
        let given = |n: usize| vec![(16 * round + n) as u8; lens[(n + round) % lens.len()]];
        let results: Vec<_> = (0..12).map(|n| pool.apply_async(more, given(n)).unwrap()).collect();
        for (n, result) in results.into_iter().enumerate() {
            assert!(result.get().unwrap() == more(given(n)), "round {round}, {n}");
        }
        // A killed worker's, too.
        let killed = pool.apply(
            |bytes: Vec<u8>| -> Vec<u8> {
                raise(Signal::SIGKILL).unwrap();
                bytes
            },
            given(round),
        );
        assert!(matches!(killed, Err(TaskError::WorkerDied { .. })), "{killed:?}");
    }
}

fn try_apply_never_waits() {
    let (pool, gate) = gated_pool(Pool::builder().workers(1).bound(2));
    let slow: Vec<_> = (0..2).map(|n| pool.apply_async(gated, n).unwrap()).collect();
    let Err(TryApplyError::Full(back)) = pool.try_apply_async(square, 3) else { panic!("there is no room") };
    assert_eq!(back, 3);
    gate.set();
    slow.into_iter().zip(0..).for_each(|(result, n)| assert_eq!(result.get(), Ok(n)));
    assert_eq!(pool.try_apply_async(square, back).unwrap().get(), Ok(9));
    pool.close();
    for _ in 0..2 {
        let refused = pool.try_apply_async(square, 3);
        assert!(matches!(refused, Err(TryApplyError::Failed(TaskError::PoolClosed))));
        pool.join().unwrap();
    }
}

fn a_value_that_nobody_asks_for_is_in_nobodys_way() {
    let pool = Pool::builder().workers(2).bound(4).build().unwrap();
    let count = Atomic::new(0_u32).unwrap();
    for _ in 0..50 {
        drop(pool.apply_async(square, 2).unwrap());
    }
    pool.close();
    pool.join().unwrap();
    assert_eq!((pool.stats().done, pool.stats().failed, count.get()), (50, 0, 0));
}

fn get_with_a_limit_lets_the_task_go_on() {
    let (pool, gate) = gated_pool(Pool::builder().workers(1));
    let slow = pool.apply_async(gated, 7).unwrap();
    let before = Instant::now();
    let Err(GetTimeoutError::TimedOut(slow)) = slow.get_timeout(Duration::from_millis(10)) else {
        panic!("it cannot be done");
    };
    assert!(before.elapsed() >= Duration::from_millis(10));
    assert!(!slow.is_ready() && !slow.wait_timeout(Duration::ZERO));
    gate.set();
    assert_eq!(slow.get_timeout(Duration::from_secs(60)).unwrap(), 7);
}

fn tasks_begin_in_their_order() {
    let (pool, gate) = gated_pool(Pool::builder().workers(1));
    let first = pool.apply_async(gated, 20).unwrap();
    let times: Vec<_> = (0..50).map(|_| pool.apply_async(|()| now(), ()).unwrap()).collect();
    gate.set();
    assert_eq!(first.get(), Ok(20));
    let times: Vec<u64> = times.into_iter().map(|time| time.get().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
}

/// Nanoseconds of a clock that all processes have.
fn now() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a timespec of ours to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn what_is_queued_can_be_cancelled() {
    let (pool, gate) = gated_pool(Pool::builder().workers(1));
    let first = pool.apply_async(gated, 50).unwrap();
    until(|| pool.stats().running == 1);
    let second = pool.apply_async(nap, 60_000).unwrap();
    let third = pool.apply_async(square, 3).unwrap();
    assert!(second.cancel());
    assert!(second.is_ready());
    assert_eq!(second.get(), Err(TaskError::Cancelled));
    gate.set();
    assert_eq!((first.get(), third.get()), (Ok(50), Ok(9)));
    let done = pool.apply_async(square, 4).unwrap();
    done.wait();
    assert!(!done.cancel());
    assert_eq!(done.get(), Ok(16));
    assert_eq!(pool.stats().deaths, 0);
}

fn what_runs_can_be_cancelled_and_nobody_else_dies() {
    let pool = pool(2);
    for _ in 0..20 {
        let long = pool.apply_async(nap, 60_000).unwrap();
        until(|| pool.stats().running == 1);
        assert!(long.cancel());
        assert_eq!(long.get(), Err(TaskError::Cancelled));
    }
    // Tasks that end just then are done or cancelled, and no other is touched.
    let mut cancelled = 0;
    for n in 0..200 {
        let short = pool.apply_async(|n: u64| (0..n * 37).map(|x| x ^ 5).max(), n).unwrap();
        let other = pool.apply_async(square, n).unwrap();
        short.cancel();
        assert_eq!(other.get(), Ok(n * n));
        match short.get() {
            Ok(_) => {}
            Err(TaskError::Cancelled) => cancelled += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(cancelled > 0);
    let all = pool.map_async(nap, [60_000; 8]).unwrap();
    assert!(all.cancel());
    assert_eq!(all.get(), Err(TaskError::Cancelled));
}

fn hard_limits_kill_and_soft_ones_warn() {
    let warn = || {
        extern "C" fn warned(_: i32) {
            // SAFETY: ends the process, as the test wants it.
            unsafe { libc::_exit(77) }
        }
        // SAFETY: a handler that may be called at any moment.
        unsafe { libc::signal(libc::SIGUSR2, warned as *const () as libc::sighandler_t) };
        Ok::<(), String>(())
    };
    let limits = TaskLimits::new().hard(Duration::from_millis(500));
    let pool =
        Pool::builder().workers(2).limits(limits).warning(libc::SIGUSR2).initializer(warn).build().unwrap();
    let before = Instant::now();
    assert_eq!(pool.apply(nap, 60_000), Err(TaskError::TimedOut));
    assert!(before.elapsed() >= Duration::from_millis(500));
    assert_eq!(pool.apply(nap, 1), Ok(1));
    let all = pool.map_each(nap, [1, 60_000, 2, 60_000]).unwrap();
    assert_eq!(all, [Ok(1), Err(TaskError::TimedOut), Ok(2), Err(TaskError::TimedOut)]);
    let soft = TaskLimits::new().soft(Duration::from_millis(30));
    let warned = pool.apply_async_within(soft, nap, 60_000).unwrap().get();
    let Err(TaskError::WorkerDied { status, .. }) = warned else { panic!("{warned:?}") };
    assert_eq!(status.code(), Some(77));
    let free = pool.apply_async_within(TaskLimits::new(), nap, 100).unwrap();
    assert_eq!(free.get(), Ok(100));
}

fn a_deadline_counts_from_the_submission() {
    let (pool, gate) = gated_pool(Pool::builder().workers(1));
    let limits = TaskLimits::new().deadline(Duration::from_millis(50));
    let first = pool.apply_async(gated, 100).unwrap();
    until(|| pool.stats().running == 1);
    let late = pool.apply_async_within(limits, nap, 0).unwrap();
    thread::sleep(Duration::from_millis(60));
    gate.set();
    assert_eq!((first.get(), late.get()), (Ok(100), Err(TaskError::TimedOut)));
    assert_eq!(pool.stats().deaths, 0, "it was not begun");
    let long = pool.apply_async_within(limits, nap, 60_000).unwrap();
    assert_eq!(long.get(), Err(TaskError::TimedOut));
}

fn a_worker_that_wants_too_much_memory_dies_alone() {
    let pool = Pool::builder().workers(2).limit(Limit::AddressSpace, 1 << 30).build().unwrap();
    let pool = &pool;
    let took = pool.apply(|bytes: u64| vec![1_u8; bytes as usize].len(), 4 << 30);
    let Err(TaskError::WorkerDied { status, peak_memory, .. }) = took else { panic!("{took:?}") };
    assert_eq!(status.signal(), Some(libc::SIGABRT));
    assert!(peak_memory.is_some_and(|bytes| bytes > 0));
    assert_eq!(pool.apply(|bytes: u64| vec![1_u8; bytes as usize].len(), 1 << 20), Ok(1 << 20));
}

fn workers_are_replaced_after_so_many_tasks() {
    let pool = Pool::builder().workers(1).max_tasks(3).build().unwrap();
    let pids: Vec<u32> = (0..9).map(|_| pool.apply(|()| process::id(), ()).unwrap()).collect();
    for three in pids.chunks(3) {
        assert!(three.iter().all(|pid| pid == &three[0]), "{pids:?}");
    }
    assert!(pids[0] != pids[3] && pids[3] != pids[6], "{pids:?}");
    assert_eq!(pool.stats().deaths, 0);
    // Under load, and to its end.
    let sum: u64 = pool.map_chunked(square, 0..500, chunk(1)).unwrap().iter().sum();
    assert_eq!(sum, (0..500).map(square).sum::<u64>());
    pool.close();
    pool.join().unwrap();
}

fn workers_are_replaced_at_an_age() {
    let pool = Pool::builder().workers(1).max_age(Duration::from_millis(20)).build().unwrap();
    let first = pool.apply(|()| process::id(), ()).unwrap();
    until(|| pool.apply(|()| process::id(), ()).unwrap() != first);
    assert_eq!(pool.stats().deaths, 0);
}

fn workers_that_have_grown_are_replaced() {
    let pool = Pool::builder().workers(1).max_memory(64 << 20).build().unwrap();
    let pid = || pool.apply(|()| process::id(), ()).unwrap();
    let first = pid();
    assert_eq!(pid(), first);
    let grow = |bytes: u64| vec![1_u8; bytes as usize].leak().len() as u64;
    assert_eq!(pool.apply(grow, 100 << 20), Ok(100 << 20));
    assert_ne!(pid(), first);
}

fn idle_workers_leave_and_come_back() {
    let (pool, gate) = gated_pool(Pool::builder().workers(4).idle_shrink(Duration::from_millis(10), 1));
    until(|| pool.stats().workers.len() == 1);
    let slow: Vec<_> = (0..4).map(|_| pool.apply_async(gated, 200).unwrap()).collect();
    until(|| pool.stats().running == 4);
    gate.set();
    slow.into_iter().for_each(|result| assert_eq!(result.get(), Ok(200)));
    until(|| pool.stats().workers.len() == 1);
    assert_eq!(pool.apply(square, 2), Ok(4));
    assert_eq!(pool.stats().deaths, 0);
}

fn a_pool_grows_and_shrinks() {
    let (pool, gate) = gated_pool(Pool::builder().workers(1));
    pool.resize(4).unwrap();
    let slow: Vec<_> = (0..4).map(|_| pool.apply_async(gated, 100).unwrap()).collect();
    until(|| pool.stats().running == 4);
    pool.resize(2).unwrap();
    gate.set();
    assert_eq!(pool.workers(), 2);
    slow.into_iter().for_each(|result| assert_eq!(result.get(), Ok(100)));
    until(|| pool.stats().workers.len() == 2);
    pool.resize(3).unwrap();
    until(|| pool.stats().workers.len() == 3);
    assert_eq!(pool.map(square, 0..10).unwrap().len(), 10);
    assert_eq!(pool.stats().deaths, 0);
    assert!(matches!(pool.resize(0), Err(PoolError::Workers { .. })));
}

thread_local! {
    static GIVEN: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

fn an_initializer_captures_what_it_likes_by_fork() {
    let (ready, base) = (Atomic::new(0_u64).unwrap(), vec![40, 2]);
    let count = ready.clone();
    let initializer = move || {
        count.fetch_add(1);
        GIVEN.set(base.iter().sum());
        Ok::<(), String>(())
    };
    let pool = Pool::builder().workers(2).initializer(initializer).build().unwrap();
    assert_eq!(pool.map(|n: u64| n + GIVEN.get(), 0..3).unwrap(), [42, 43, 44]);
    until(|| ready.get() == 2);
}

fn an_initializer_that_captures_is_refused_without_a_fork() {
    let text = "captured".to_string();
    let capturing = move || if text.is_empty() { Err("empty") } else { Ok(()) };
    let context = Context::fork_server().unwrap();
    let refused = Pool::builder().context(&context).initializer(capturing).build();
    assert!(matches!(refused, Err(PoolError::Captures)));
    let plain = || {
        GIVEN.set(7);
        Ok::<(), String>(())
    };
    let pool = Pool::builder().workers(1).context(&context).initializer(plain).build().unwrap();
    assert_eq!(pool.apply(|n: u64| n + GIVEN.get(), 1), Ok(8));
}

fn a_failing_initializer_is_told_within_the_budget() {
    let tries = Atomic::new(0_u32).unwrap();
    let count = tries.clone();
    let fail = move || {
        count.fetch_add(1);
        Err("no licence")
    };
    let pool = Pool::builder().workers(2).initializer(fail).build().unwrap();
    let told = pool.apply(square, 1);
    assert_eq!(told, Err(TaskError::InitFailed { reason: "no licence".into() }));
    assert!((5..=6).contains(&tries.get()), "{} tries", tries.get());
    assert_eq!(pool.map(square, 0..3), Err(TaskError::InitFailed { reason: "no licence".into() }));
    let lazily: Vec<_> = pool.imap(square, 0..3).collect();
    assert_eq!(lazily, [Err(TaskError::InitFailed { reason: "no licence".into() })]);
    pool.close();
    assert!(matches!(pool.join(), Err(PoolJoinError::Failed(TaskError::InitFailed { .. }))));
}

fn a_panicking_initializer_is_told_too() {
    let panic = || -> Result<(), String> { panic!("not ready") };
    let pool = Pool::builder().workers(1).budget(2).initializer(panic).build().unwrap();
    let told = pool.apply(square, 1);
    assert!(
        matches!(&told, Err(TaskError::InitFailed { reason }) if reason.contains("not ready")),
        "{told:?}"
    );
}

fn the_pool_goes_on_with_the_workers_that_are_ready() {
    let started = Atomic::new(0_u32).unwrap();
    let count = started.clone();
    let only_the_first = move || if count.fetch_add(1) == 0 { Ok(()) } else { Err("there can only be one") };
    let builder = Pool::builder().workers(2).budget(2).initializer(only_the_first);
    let pool = builder.back_off(Duration::from_millis(1), Duration::from_millis(2)).build().unwrap();
    until(|| started.get() > 10);
    assert_eq!(pool.apply(square, 4), Ok(16));
}

fn stats_tell_what_was_done() {
    let pool = pool(2);
    for n in 0..10 {
        assert_eq!(pool.apply(square, n), Ok(n * n));
    }
    assert!(pool.apply(|()| -> () { panic!("once") }, ()).is_err());
    let left = pool.apply_async(square, 2).unwrap();
    left.wait();
    let stats = pool.stats();
    assert_eq!((stats.queued, stats.running, stats.done, stats.failed), (0, 0, 11, 1));
    until(|| pool.stats().workers.len() == 2);
    until(|| pool.stats().workers.iter().map(|worker| worker.tasks).sum::<u64>() == 12);
    let stats = pool.stats();
    assert!(stats.workers.iter().all(|worker| worker.peak_memory > 0));
    assert_eq!((stats.restarts, stats.deaths), (0, 0));
    let text = format!("{pool:?}");
    assert!(text.starts_with("Pool { workers: 2, supervisor: ") && text.contains("queued: 0"), "{text}");
}

fn workers_have_names() {
    let pool = Pool::builder().workers(1).name("squarer").build().unwrap();
    let name = |()| pshared::current_process().name().to_string();
    assert_eq!(pool.apply(name, ()), Ok("squarer-1".to_string()));
    let usual = Pool::builder().workers(1).build().unwrap();
    assert_eq!(usual.apply(name, ()), Ok("PoolWorker-1".to_string()));
}

fn ctrl_c_is_the_programs_alone() {
    let pool = pool(1);
    let pid = pool.apply(|()| process::id(), ()).unwrap();
    kill(Pid::from_raw(pid as i32), Signal::SIGINT).unwrap();
    let interrupt = |()| raise(Signal::SIGINT).is_ok();
    assert_eq!(pool.apply(interrupt, ()), Ok(true));
    assert_eq!(pool.apply(|()| process::id(), ()), Ok(pid));
    let open = Pool::builder().workers(1).shield(false).build().unwrap();
    let died = open.apply(interrupt, ());
    let Err(TaskError::WorkerDied { status, .. }) = died else { panic!("{died:?}") };
    assert_eq!(status.signal(), Some(libc::SIGINT));
}

fn many_threads_use_one_pool() {
    let pool = Pool::builder().workers(2).bound(16).build().unwrap();
    thread::scope(|scope| {
        for thread in 0..4_u64 {
            let pool = &pool;
            scope.spawn(move || {
                for round in 0..20 {
                    let base = 1000 * thread + round;
                    assert_eq!(pool.apply(square, base), Ok(base * base));
                    let values = pool.map_chunked(square, base..base + 50, chunk(1)).unwrap();
                    assert_eq!(values, (base..base + 50).map(square).collect::<Vec<_>>());
                    let later: Vec<_> = (0..5).map(|n| pool.apply_async(square, n).unwrap()).collect();
                    for (n, result) in later.into_iter().enumerate() {
                        assert_eq!(result.get(), Ok(square(n as u64)));
                    }
                }
            });
        }
    });
    // Now that there are threads no more, another can be made by fork; with them it takes a server.
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let other = thread::spawn(move || stopped.recv());
    let refused = Pool::builder().build();
    assert!(matches!(refused, Err(PoolError::Spawn(pshared::SpawnError::MultiThreaded { .. }))));
    let context = Context::fork_server().unwrap();
    let served = Pool::builder().workers(2).context(&context).build().unwrap();
    assert_eq!(served.map(square, 0..4).unwrap(), [0, 1, 4, 9]);
    stop.send(()).unwrap();
    other.join().unwrap().unwrap();
}

fn a_map_within_a_map_has_room() {
    for bound in [4, 64, 4096] {
        let pool = Pool::builder().workers(2).bound(bound).build().unwrap();
        let inner = pool.imap(square, 0..100).map(Result::unwrap);
        let outer: Vec<u64> = pool.imap(|n: u64| n + 1, inner).map(Result::unwrap).collect();
        assert_eq!(outer, (0..100).map(|n| n * n + 1).collect::<Vec<u64>>());
        let inner = pool.imap(square, 0..100).map(Result::unwrap);
        let outer = pool.map_chunked(|n: u64| n + 1, inner, chunk(1)).unwrap();
        assert_eq!(outer, (0..100).map(|n| n * n + 1).collect::<Vec<u64>>());
    }
}

fn lazy_maps_look_ahead_so_far_and_no_further() {
    let pool = pool(2);
    let asked = std::cell::Cell::new(0);
    let input = || (0..).inspect(|_| asked.set(asked.get() + 1));
    let mut values = pool.imap(square, input());
    assert_eq!(asked.get(), 0, "nothing is asked for before it is needed");
    for n in 0..20 {
        assert_eq!(values.next(), Some(Ok(n * n)));
        assert!(asked.get() <= n + 1 + 4, "{} asked for {n}", asked.get());
    }
    drop(values);
    asked.set(0);
    let mut values = pool.imap_unordered(square, input()).look_ahead(1);
    for n in 0..5 {
        assert_eq!(values.next(), Some(Ok(n * n)));
        assert_eq!(asked.get(), n + 1);
    }
}

fn lazy_maps_that_are_dropped_leave_the_pool_as_it_was() {
    let pool = Pool::builder().workers(2).bound(8).build().unwrap();
    for _ in 0..100 {
        let mut values = pool.imap(nap, 0..3);
        assert_eq!(values.next(), Some(Ok(0)));
    }
    let all: Vec<_> = (0..8).map(|n| pool.apply_async(square, n).unwrap()).collect();
    for (n, result) in all.into_iter().enumerate() {
        assert_eq!(result.get(), Ok(square(n as u64)));
    }
}

fn an_input_that_panics_is_an_error_in_its_place() {
    let pool = pool(2);
    let input = || (0..10_u64).inspect(|&n| assert!(n < 5, "no more"));
    let values: Vec<_> = pool.imap(square, input()).collect();
    let expected: Vec<_> = (0..5).map(|n| Ok(n * n)).collect();
    assert_eq!(values[..5], expected);
    assert!(
        matches!(&values[5..], [Err(TaskError::InputPanicked { message })] if message.contains("no more"))
    );
    let mut values: Vec<_> = pool.imap_unordered_chunked(square, input(), chunk(2)).collect();
    assert!(matches!(values.pop(), Some(Err(TaskError::InputPanicked { .. }))));
    let mut values: Vec<u64> = values.into_iter().map(Result::unwrap).collect();
    values.sort();
    assert_eq!(values, [0, 1, 4, 9], "the chunk that was being filled never went");
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        pool.map_chunked(square, input(), chunk(1))
    }));
    assert!(caught.is_err());
    assert_eq!(pool.map(square, 0..3).unwrap(), [0, 1, 4]);
}

fn a_lazy_map_can_be_asked_for_a_while() {
    for ordered in [true, false] {
        let (pool, gate) = gated_pool(Pool::builder().workers(1));
        let mut values = match ordered {
            true => pool.imap(gated, [50, 1]),
            false => pool.imap_unordered(gated, [50, 1]),
        };
        assert_eq!(values.next_timeout(Duration::from_millis(1)), Some(None));
        gate.set();
        assert_eq!(values.next_timeout(Duration::from_secs(60)), Some(Some(Ok(50))));
        assert_eq!(values.next(), Some(Ok(1)));
        assert_eq!(values.next_timeout(Duration::ZERO), None);
    }
}

fn unordered_values_come_as_they_are_done() {
    let (pool, gate) = gated_pool(Pool::builder().workers(2));
    let some_wait = |n: u64| if n > 2 { gated(n) } else { n };
    let mut values = pool.imap_unordered(some_wait, [300, 1, 2]).map(Result::unwrap);
    let mut first = [values.next().unwrap(), values.next().unwrap()];
    first.sort();
    gate.set();
    assert_eq!((first, values.next(), values.next()), ([1, 2], Some(300), None));
}

fn a_copy_of_a_pool_is_inert() {
    let pool = pool(1);
    let later = pool.apply_async(nap, 100).unwrap();
    let child = support::fork_child(|| {
        assert_eq!(pool.apply(square, 2), Err(TaskError::NotParent));
        assert!(matches!(pool.apply_async(square, 2), Err(TaskError::NotParent)));
        assert!(!later.cancel());
        pool.close();
        pool.terminate();
        assert!(matches!(pool.join(), Err(PoolJoinError::Failed(TaskError::NotParent))));
        // SAFETY: read where nobody else has it, and not used again: a copy of the handles goes as they would.
        unsafe { drop((std::ptr::read(&pool), std::ptr::read(&later))) };
    });
    child.join_ok();
    assert_eq!((later.get(), pool.apply(square, 3)), (Ok(100), Ok(9)));
}

fn a_pool_in_a_pool() {
    let outer = pool(1);
    let nested = |n: u64| pool(2).map(square, 0..n).unwrap();
    assert_eq!(outer.apply(nested, 4), Ok(vec![0, 1, 4, 9]));
}

fn sizes_that_cannot_be_are_refused() {
    for workers in [0, 513] {
        let refused = Pool::builder().workers(workers).build();
        assert!(matches!(refused, Err(PoolError::Workers { limit: 512, .. })));
    }
    let error = Pool::builder().workers(0).build().unwrap_err();
    assert_eq!(error.to_string(), "0 workers: need 1 to 512");
    assert_eq!(pool(1).join(), Err(PoolJoinError::StillOpen));
}

/// Whoever waits sleeps in the kernel, without a limit.
fn waits_sleep() {
    let (pool, gate) = gated_pool(Pool::builder().workers(2));
    until(|| pool.stats().workers.len() == 2);
    let all_asleep = || {
        let workers = pool.stats().workers;
        workers.iter().filter(|worker| is_asleep_in_futex(Pid::from_raw(worker.pid as i32))).count()
    };
    until(|| all_asleep() == 2);
    let held = pool.apply_async(gated, 200).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            until(|| is_asleep_in_futex(Pid::this()));
            assert!(!held.is_ready());
            gate.set();
        });
        held.wait();
    });
    until(|| all_asleep() == 2);
}

fn nothing_is_left_of_a_pool() {
    drop(pool(2));
    let before = descriptors();
    for round in 0..20 {
        let pool = pool(2);
        assert_eq!(pool.map(square, 0..3).unwrap().len(), 3);
        match round % 3 {
            0 => pool.terminate(),
            1 => {
                pool.close();
                pool.join().unwrap();
            }
            _ => {}
        }
    }
    assert!(descriptors() <= before);
    assert!(active_children().is_empty());
}
