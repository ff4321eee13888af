//! What CPython's own tests say of `multiprocessing.Pool` and of `concurrent.futures.ProcessPoolExecutor`, as far as it
//! means something here, by fork and by a fork server. Each names the test that it restates.
//!
//! `_TestPool` and its kin stand in CPython's test/_test_multiprocessing.py, the others in
//! test/test_concurrent_futures/.

mod support;

use std::{
    cell::Cell,
    num::NonZeroUsize,
    process::{self, ExitCode},
    thread,
    time::{Duration, Instant},
};

use nix::{libc, unistd::Pid};
use pshared::{
    Atomic, Context, Event, GetTimeoutError, Pool, PoolBuilder, PoolJoinError, TaskError, active_children,
};
use support::until;

fn main() -> ExitCode {
    pshared::init();
    support::main(support::tests![
        applied_functions_give_their_values,
        maps_keep_the_order,
        starmaps_take_tuples,
        maps_begun_early_give_all_values,
        an_error_in_a_map_begun_early_is_told,
        a_map_of_chunks_is_the_same,
        maps_of_nothing_end,
        what_cannot_be_pickled_is_an_error,
        results_begun_early_come,
        a_result_that_is_late_can_be_waited_for_again,
        lazy_maps_give_an_iterator,
        lazy_maps_tell_errors_in_their_place,
        unordered_maps_give_all_values,
        unordered_maps_tell_errors,
        pools_without_workers_are_refused,
        a_terminated_pool_drops_its_work,
        an_empty_iterable_is_no_trouble,
        a_pool_is_gone_at_the_end_of_its_scope,
        an_error_of_a_task_tells_where,
        an_error_in_a_map_is_told_though_wrapped,
        values_that_cannot_be_sent_are_told,
        a_pool_can_outlive_its_results,
        worker_lifetimes_are_kept_to,
        a_closed_pool_finishes_what_was_begun,
        a_closed_pool_finishes_though_workers_are_replaced,
        idle_pools_with_recycled_workers_end,
        initializers_run_in_each_worker,
        initializers_that_fail_break_the_pool,
        executors_submit_and_map,
        executors_time_out,
        executors_shut_down_while_busy,
        executors_do_not_deadlock_at_a_dead_worker,
        executors_replace_workers_after_so_many_tasks,
        executors_tell_what_was_cancelled,
        hanging_pools_are_not_left,
    ])
}

fn square(x: u64) -> u64 {
    x * x
}

fn square_after((x, millis): (u64, u64)) -> u64 {
    thread::sleep(Duration::from_millis(millis));
    x * x
}

fn multiply((x, y): (u64, u64)) -> u64 {
    x * y
}

fn divide_100_by(x: u64) -> u64 {
    100 / x
}

/// A pool by fork, and one by a fork server.
fn by_each_method(test: impl Fn(Pool)) {
    let server = Context::fork_server().unwrap();
    for context in [Context::fork(), server] {
        test(Pool::builder().workers(4).context(&context).build().unwrap());
    }
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

/// `_TestPool.test_apply`.
fn applied_functions_give_their_values() {
    by_each_method(|pool| {
        assert_eq!(pool.apply(square, 5), Ok(25));
        assert_eq!(pool.apply(square_after, (3, 0)), Ok(9));
    });
}

/// `_TestPool.test_map`.
fn maps_keep_the_order() {
    by_each_method(|pool| {
        let squares: Vec<u64> = (0..100).map(square).collect();
        assert_eq!(pool.map(square, 0..10).unwrap(), squares[..10]);
        assert_eq!(pool.map_chunked(square, 0..100, chunk(20)).unwrap(), squares);
    });
}

/// `_TestPool.test_starmap`, `test_starmap_async`.
fn starmaps_take_tuples() {
    by_each_method(|pool| {
        let pairs = |n: u64| (0..n).zip((0..n).rev());
        let products: Vec<u64> = pairs(100).map(multiply).collect();
        assert_eq!(pool.map(multiply, pairs(100)).unwrap(), products);
        assert_eq!(pool.map_chunked(multiply, pairs(100), chunk(20)).unwrap(), products);
        assert_eq!(pool.map_async(multiply, pairs(100)).unwrap().get().unwrap(), products);
    });
}

/// `_TestPool.test_map_async`.
fn maps_begun_early_give_all_values() {
    by_each_method(|pool| {
        let squares: Vec<u64> = (0..10).map(square).collect();
        assert_eq!(pool.map_async(square, 0..10).unwrap().get().unwrap(), squares);
    });
}

/// `_TestPool.test_map_async_callbacks`, of which the error is the point here; `pool_callbacks.rs` has the rest.
fn an_error_in_a_map_begun_early_is_told() {
    by_each_method(|pool| {
        let result = pool.map_async(divide_100_by, [1, 0, 5]).unwrap();
        result.wait();
        assert!(matches!(result.get(), Err(TaskError::Panicked { .. })));
    });
}

/// `_TestPool.test_map_chunksize`.
fn a_map_of_chunks_is_the_same() {
    by_each_method(|pool| {
        assert_eq!(pool.map_chunked(square, [], chunk(1)).unwrap(), []);
        assert_eq!(pool.map_chunked(square, 0..3, chunk(10)).unwrap(), [0, 1, 4]);
    });
}

/// `_TestPool.test_map_no_failfast`: all of a map is done before its error is told.
fn maps_of_nothing_end() {
    by_each_method(|pool| {
        let began = Instant::now();
        let late = |n: u64| {
            assert!(n != 0, "at once");
            thread::sleep(Duration::from_millis(50));
            n
        };
        let told = pool.map_chunked(late, 0..3, chunk(1));
        assert!(matches!(told, Err(TaskError::Panicked { message, .. }) if message == "at once"));
        assert!(began.elapsed() >= Duration::from_millis(50));
    });
}

/// Cannot be serialised.
#[derive(Clone, Copy, Debug)]
struct Unpicklable;

impl serde::Serialize for Unpicklable {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("not to be pickled"))
    }
}

impl<'de> serde::Deserialize<'de> for Unpicklable {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Ok(Unpicklable)
    }
}

/// `_TestPool.test_map_handle_iterable_exception`, `test_async_error_callback`; `_TestPoolWorkerErrors`.
fn what_cannot_be_pickled_is_an_error() {
    by_each_method(|pool| {
        let refused = pool.map(|_: Unpicklable| 1, [Unpicklable; 10]);
        assert!(matches!(refused, Err(TaskError::Encode { .. })), "{refused:?}");
        let refused: Vec<_> = pool.imap(|_: Unpicklable| 1, [Unpicklable; 3]).collect();
        assert!(
            refused.len() == 3 && refused.iter().all(|error| matches!(error, Err(TaskError::Encode { .. })))
        );
        assert_eq!(pool.apply(square, 2), Ok(4));
    });
}

/// `_TestPool.test_async`.
fn results_begun_early_come() {
    by_each_method(|pool| {
        let result = pool.apply_async(square_after, (7, 50)).unwrap();
        assert_eq!(result.get(), Ok(49));
    });
}

/// `_TestPool.test_async_timeout`.
fn a_result_that_is_late_can_be_waited_for_again() {
    let (pool, gate) = gated_pool(Pool::builder().workers(4));
    let result = pool.apply_async(gated, 36).unwrap();
    let Err(GetTimeoutError::TimedOut(result)) = result.get_timeout(Duration::from_millis(1)) else {
        panic!("it cannot be there");
    };
    gate.set();
    assert_eq!(result.get(), Ok(36));
}

/// `_TestPool.test_imap`.
fn lazy_maps_give_an_iterator() {
    by_each_method(|pool| {
        let mut squares = pool.imap(square, 0..1000);
        assert!((0..1000).all(|n| squares.next() == Some(Ok(n * n))));
        assert_eq!(squares.next(), None);
        assert_eq!(squares.next(), None);
        let chunks: Vec<u64> = pool.imap_chunked(square, 0..1000, chunk(100)).map(Result::unwrap).collect();
        assert_eq!(chunks, (0..1000).map(square).collect::<Vec<u64>>());
    });
}

/// `_TestPool.test_imap_handle_iterable_exception`.
fn lazy_maps_tell_errors_in_their_place() {
    by_each_method(|pool| {
        for stop in [1, 3, 6, 7] {
            let input = (0..10_u64).inspect(move |&n| assert_ne!(n, stop, "someone said too much"));
            let mut squares = pool.imap(square, input);
            assert!((0..stop).all(|n| squares.next() == Some(Ok(n * n))));
            assert!(matches!(squares.next(), Some(Err(TaskError::InputPanicked { .. }))));
            assert_eq!(squares.next(), None);
        }
    });
}

/// `_TestPool.test_imap_unordered`.
fn unordered_maps_give_all_values() {
    by_each_method(|pool| {
        for items in [chunk(1), chunk(53)] {
            let values = pool.imap_unordered_chunked(square, 0..1000, items);
            let mut values: Vec<u64> = values.map(Result::unwrap).collect();
            values.sort();
            assert_eq!(values, (0..1000).map(square).collect::<Vec<u64>>());
        }
    });
}

/// `_TestPool.test_imap_unordered_handle_iterable_exception`.
fn unordered_maps_tell_errors() {
    by_each_method(|pool| {
        let input = (0..10_u64).inspect(|&n| assert_ne!(n, 7));
        let (good, bad): (Vec<_>, Vec<_>) = pool.imap_unordered(square, input).partition(Result::is_ok);
        assert_eq!((good.len(), bad.len()), (7, 1));
    });
}

/// `_TestPool.test_make_pool`.
fn pools_without_workers_are_refused() {
    assert!(Pool::builder().workers(0).build().is_err());
    by_each_method(|pool| {
        assert_eq!(pool.workers(), 4);
        until(|| pool.stats().workers.len() == 4);
    });
}

/// `_TestPool.test_terminate`.
fn a_terminated_pool_drops_its_work() {
    by_each_method(|pool| {
        let began = Instant::now();
        let result =
            pool.map_async(|n: u64| thread::sleep(Duration::from_millis(n)), [100_000; 1000]).unwrap();
        pool.terminate();
        pool.join().unwrap();
        assert_eq!(result.get(), Err(TaskError::PoolClosed));
        assert!(began.elapsed() < Duration::from_secs(60));
    });
}

/// `_TestPool.test_empty_iterable`.
fn an_empty_iterable_is_no_trouble() {
    by_each_method(|pool| {
        assert_eq!(pool.map(square, []).unwrap(), []);
        assert_eq!(pool.imap(square, []).count(), 0);
        assert_eq!(pool.imap_unordered(square, []).count(), 0);
        assert_eq!(pool.map_each(square, []).unwrap(), []);
        assert_eq!(pool.map_async(square, []).unwrap().get().unwrap(), []);
    });
}

/// `_TestPool.test_context`: the end of a `with` is the end of a scope.
fn a_pool_is_gone_at_the_end_of_its_scope() {
    let mut workers = Vec::new();
    by_each_method(|pool| {
        assert_eq!(pool.map_async(square, 0..10).unwrap().get().unwrap().len(), 10);
        assert!(active_children().iter().any(|child| child.name() == "pool supervisor"));
    });
    {
        let pool = Pool::builder().workers(2).build().unwrap();
        until(|| pool.stats().workers.len() == 2);
        workers.extend(pool.stats().workers.iter().map(|worker| worker.pid));
    }
    assert!(active_children().is_empty());
    for pid in workers {
        assert_eq!(nix::sys::signal::kill(Pid::from_raw(pid as i32), None), Err(nix::errno::Errno::ESRCH));
    }
}

/// `_TestPool.test_traceback`.
fn an_error_of_a_task_tells_where() {
    by_each_method(|pool| {
        let told = pool.apply(divide_100_by, 0).unwrap_err();
        assert!(told.to_string().contains("tests/pool_cpython.rs"), "{told}");
        assert!(told.to_string().contains("divide by zero"), "{told}");
    });
}

/// `_TestPool.test_wrapped_exception`.
fn an_error_in_a_map_is_told_though_wrapped() {
    by_each_method(|pool| {
        let raising = |_: ()| -> () { panic!("key") };
        assert!(
            matches!(pool.apply(raising, ()), Err(TaskError::Panicked { message, .. }) if message == "key")
        );
        let first = pool.map_chunked(|n: u64| if n == 0 { panic!("first") } else { n }, 0..5, chunk(1));
        assert!(matches!(first, Err(TaskError::Panicked { message, .. }) if message == "first"));
    });
}

/// `_TestPoolWorkerErrors.test_unpickleable_result`.
fn values_that_cannot_be_sent_are_told() {
    by_each_method(|pool| {
        for _ in 0..20 {
            let lost = pool.apply(|()| Unpicklable, ()).unwrap_err();
            let TaskError::Encode { reason } = lost else { panic!("{lost}") };
            assert!(reason.starts_with("serialisation failed"), "{reason}");
        }
        assert_eq!(pool.stats().deaths, 0);
    });
}

/// `_TestPool.test_release_task_refs`, `test_del_pool`: results may be asked for when the pool is gone.
fn a_pool_can_outlive_its_results() {
    by_each_method(|pool| {
        let (done, never) =
            (pool.apply_async(square, 4).unwrap(), pool.apply_async(square_after, (1, 60_000)));
        done.wait();
        drop(pool);
        assert_eq!(done.get(), Ok(16));
        assert_eq!(never.unwrap().get(), Err(TaskError::PoolClosed));
    });
}

/// `_TestPoolWorkerLifetime.test_pool_worker_lifetime`.
fn worker_lifetimes_are_kept_to() {
    let server = Context::fork_server().unwrap();
    for context in [Context::fork(), server] {
        let pool = Pool::builder().workers(3).max_tasks(10).context(&context).build().unwrap();
        let results: Vec<_> = (0..100).map(|n| pool.apply_async(square, n).unwrap()).collect();
        for (n, result) in results.into_iter().enumerate() {
            assert_eq!(result.get(), Ok((n * n) as u64));
        }
        until(|| pool.stats().workers.len() == 3);
        assert!(pool.stats().restarts >= 7, "100 tasks take ten workers");
        pool.close();
        pool.join().unwrap();
    }
}

/// `_TestPoolWorkerLifetime.test_pool_worker_lifetime_early_close`.
fn a_closed_pool_finishes_what_was_begun() {
    let pool = Pool::builder().workers(3).max_tasks(1).build().unwrap();
    let results: Vec<_> = (0..6).map(|n| pool.apply_async(square_after, (n, 30)).unwrap()).collect();
    pool.close();
    pool.join().unwrap();
    for (n, result) in results.into_iter().enumerate() {
        assert_eq!(result.get(), Ok((n * n) as u64));
    }
}

/// `_TestPoolWorkerLifetime.test_pool_maxtasksperchild_invalid`, and the end of a pool with many replacements.
fn a_closed_pool_finishes_though_workers_are_replaced() {
    by_each_method(|pool| {
        let results: Vec<_> = (0..50).map(|n| pool.apply_async(square_after, (n, 1)).unwrap()).collect();
        assert_eq!(pool.join(), Err(PoolJoinError::StillOpen));
        pool.close();
        assert_eq!(pool.apply(square, 1), Err(TaskError::PoolClosed));
        assert!(matches!(pool.map(square, 0..3), Err(TaskError::PoolClosed)));
        assert_eq!(pool.imap(square, 0..3).collect::<Vec<_>>(), [Err(TaskError::PoolClosed)]);
        pool.join().unwrap();
        assert!(results.into_iter().enumerate().all(|(n, result)| result.get() == Ok((n * n) as u64)));
    });
}

/// `_TestPoolWorkerLifetime.test_worker_finalization_via_atexit_handler_of_multiprocessing`: leaving workers leave
/// well.
fn idle_pools_with_recycled_workers_end() {
    let left = Atomic::new(0_u32).unwrap();
    let count = left.clone();
    let register = move || {
        let count = count.clone();
        let _finalizer = pshared::Finalizer::new(0, move || assert!(count.fetch_add(1) < 2));
        Ok::<(), String>(())
    };
    let pool = Pool::builder().workers(2).initializer(register).build().unwrap();
    until(|| pool.stats().workers.len() == 2);
    pool.close();
    pool.join().unwrap();
    assert_eq!(left.get(), 2);
}

thread_local! {
    static STATE: Cell<u32> = const { Cell::new(0) };
}

/// `_TestPool` with `initializer`; `InitializerMixin.test_initializer`.
fn initializers_run_in_each_worker() {
    for context in [Context::fork(), Context::fork_server().unwrap()] {
        let initialize = || {
            STATE.set(5);
            Ok::<(), String>(())
        };
        let pool = Pool::builder().workers(2).context(&context).initializer(initialize).build().unwrap();
        assert!(pool.map_chunked(|_: u64| STATE.get(), 0..20, chunk(1)).unwrap().iter().all(|&n| n == 5));
    }
    assert_eq!(STATE.get(), 0);
}

/// `FailingInitializerMixin.test_initializer`: the executor is broken, and says why, and its processes are few.
fn initializers_that_fail_break_the_pool() {
    for context in [Context::fork(), Context::fork_server().unwrap()] {
        let fail = || Err("error in initializer");
        let pool = Pool::builder().workers(2).context(&context).initializer(fail).build().unwrap();
        let told = pool.apply(square, 1);
        assert!(
            matches!(&told, Err(TaskError::InitFailed { reason }) if reason == "error in initializer"),
            "{told:?}"
        );
        assert!(matches!(
            pool.apply_async(square, 1).and_then(|r| r.get()),
            Err(TaskError::InitFailed { .. })
        ));
    }
}

/// `ExecutorTest.test_submit`, `test_map`, `test_map_exception`.
fn executors_submit_and_map() {
    by_each_method(|pool| {
        assert_eq!(pool.apply_async(multiply, (2, 8)).unwrap().get(), Ok(16));
        let mut quotients = pool.imap(divide_100_by, [1, 2, 0, 4]);
        assert_eq!(quotients.next(), Some(Ok(100)));
        assert_eq!(quotients.next(), Some(Ok(50)));
        assert!(matches!(quotients.next(), Some(Err(TaskError::Panicked { .. }))));
    });
}

/// `ExecutorTest.test_map_timeout`.
fn executors_time_out() {
    let (pool, gate) = gated_pool(Pool::builder().workers(4));
    let last_waits = |n: u64| if n == 2 { gated(n) } else { n };
    let mut values = pool.imap(last_waits, 0..3);
    assert_eq!((values.next(), values.next()), (Some(Ok(0)), Some(Ok(1))));
    assert_eq!(values.next_timeout(Duration::from_millis(5)), Some(None));
    gate.set();
    assert_eq!(values.next(), Some(Ok(2)));
}

/// `ExecutorShutdownTest.test_hang_issue12364`, `test_cancel_futures`.
fn executors_shut_down_while_busy() {
    by_each_method(|pool| {
        let results: Vec<_> = (0..50).map(|n| pool.apply_async(square_after, (n, 1)).unwrap()).collect();
        let cancelled = results.iter().rev().take(20).filter(|result| result.cancel()).count();
        pool.close();
        pool.join().unwrap();
        let outcomes: Vec<_> = results.into_iter().map(pshared::AsyncResult::get).collect();
        let told = outcomes.iter().filter(|outcome| **outcome == Err(TaskError::Cancelled)).count();
        assert!(told <= cancelled && outcomes.iter().filter(|outcome| outcome.is_ok()).count() == 50 - told);
    });
}

/// `ExecutorDeadlockTest.test_crash_*`, `ProcessPoolExecutorTest.test_killed_child`, which break the executor for good.
fn executors_do_not_deadlock_at_a_dead_worker() {
    by_each_method(|pool| {
        let crash = |_: ()| -> u64 { process::abort() };
        let exit = |_: ()| -> u64 { process::exit(1) };
        let killed = pool.apply_async(crash, ()).unwrap();
        let left = pool.apply_async(exit, ()).unwrap();
        let good = pool.apply_async(square, 9).unwrap();
        let signal = |told| match told {
            Err(TaskError::WorkerDied { status, .. }) => (status.signal(), status.code()),
            other => panic!("{other:?}"),
        };
        assert_eq!(signal(killed.get()), (Some(libc::SIGABRT), None));
        assert_eq!(signal(left.get()), (None, Some(1)));
        assert_eq!((good.get(), pool.apply(square, 10)), (Ok(81), Ok(100)));
        // `test_crash_during_result_pickle_on_worker`.
        let lost = pool.apply(|()| CrashWhenSent, ());
        assert!(matches!(lost, Err(TaskError::WorkerDied { .. })), "{lost:?}");
    });
}

/// Ends the process that would send it.
#[derive(Debug)]
struct CrashWhenSent;

impl serde::Serialize for CrashWhenSent {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        process::abort()
    }
}

impl<'de> serde::Deserialize<'de> for CrashWhenSent {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Ok(CrashWhenSent)
    }
}

/// `ProcessPoolExecutorTest.test_max_tasks_per_child`, `test_max_tasks_early_shutdown`.
fn executors_replace_workers_after_so_many_tasks() {
    let pool = Pool::builder().workers(1).max_tasks(3).build().unwrap();
    let pids: Vec<_> = (0..6).map(|_| pool.apply_async(|()| process::id(), ()).unwrap()).collect();
    pool.close();
    pool.join().unwrap();
    let pids: Vec<u32> = pids.into_iter().map(|pid| pid.get().unwrap()).collect();
    assert!(pids[0] == pids[2] && pids[2] != pids[3] && pids[3] == pids[5], "{pids:?}");
}

/// `FutureTests.test_cancel`, `test_done`.
fn executors_tell_what_was_cancelled() {
    let (pool, gate) = gated_pool(Pool::builder().workers(1));
    let busy = pool.apply_async(gated, 1).unwrap();
    until(|| pool.stats().running == 1);
    let waiting = pool.apply_async(square, 2).unwrap();
    assert!(waiting.cancel() && !waiting.cancel());
    assert!(waiting.is_ready() && !busy.is_ready());
    gate.set();
    assert_eq!((waiting.get(), busy.get()), (Err(TaskError::Cancelled), Ok(1)));
}

/// `TestNoForkBomb`, `_TestPool.test_pool_worker_lifetime` under exits at every moment: a pool that is left is not
/// left.
fn hanging_pools_are_not_left() {
    for millis in 0..10 {
        let pool = Pool::builder().workers(2).build().unwrap();
        let _left = pool.map_async(square_after, (0..20).map(|n| (n, 10))).unwrap();
        thread::sleep(Duration::from_millis(millis));
    }
    assert!(active_children().is_empty());
}
