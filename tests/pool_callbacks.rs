//! Callbacks of a pool's tasks: who calls them, and that none of them wedges anybody.

mod support;

use std::{
    process::ExitCode,
    sync::{
        Arc, Mutex,
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::Duration,
};

use nix::{
    sys::{
        signal::{Signal, kill, raise},
        wait::waitpid,
    },
    unistd::Pid,
};
use pshared::{Context, Event, Pool, PoolJoinError, TaskError};
use support::{fork_child, is_asleep_in_futex, until};

fn main() -> ExitCode {
    pshared::init();
    support::main(support::tests![
        a_callback_is_given_the_value,
        a_callback_of_what_is_done_is_called_at_once,
        a_callback_of_a_map_is_given_all_values,
        a_callback_is_given_the_error,
        who_sleeps_for_one_task_calls_the_callbacks_of_others,
        whoever_waits_calls_and_whoever_does_not_wait_does_not,
        a_callback_that_panics_costs_nobody_anything,
        a_callback_that_does_not_return_holds_up_nobody_else,
        a_callback_may_use_its_pool,
        join_waits_for_callbacks_in_other_threads,
        what_is_left_is_called_when_the_pool_ends,
        pools_that_end_in_a_callback_leave_none_uncalled,
        the_supervisors_death_is_told_to_callbacks,
        callbacks_of_cancelled_and_late_tasks_are_called,
        ten_thousand_callbacks_are_called_once_each_in_a_small_pool,
        many_threads_call_each_callback_once,
        a_copy_of_a_pool_calls_nothing,
        callbacks_of_a_pool_by_the_fork_server_are_called,
    ])
}

fn square(n: u64) -> u64 {
    n * n
}

fn pool(workers: usize) -> Pool {
    Pool::builder().workers(workers).build().unwrap()
}

thread_local! {
    static GATE: std::cell::RefCell<Option<Event>> = const { std::cell::RefCell::new(None) };
}

/// A pool in which [`gated`] waits until the event is set.
fn gated_pool(workers: usize) -> (Pool, Event) {
    let gate = Event::new().unwrap();
    let inherited = gate.clone();
    let keep = move || {
        GATE.replace(Some(inherited.clone()));
        Ok::<(), String>(())
    };
    (Pool::builder().workers(workers).initializer(keep).build().unwrap(), gate)
}

fn gated(n: u64) -> u64 {
    GATE.with_borrow(|gate| gate.as_ref().unwrap().wait());
    n
}

type Told = Result<u64, TaskError>;

/// A callback that passes on what it is given.
fn teller() -> (impl Fn(Told) + Send + Clone + 'static, Receiver<Told>) {
    let (sender, receiver): (Sender<Told>, _) = mpsc::channel();
    let tell = move |told| {
        // Who listens may have gone with its test.
        let _ = sender.send(told);
    };
    (tell, receiver)
}

/// Waits until that many tasks are done.
fn until_done(pool: &Pool, tasks: u64) {
    until(|| pool.stats().done + pool.stats().failed >= tasks);
}

/// concurrent.futures' `FutureTests.test_done_callback_with_result`.
fn a_callback_is_given_the_value() {
    let (tell, told) = teller();
    let pool = pool(1);
    pool.apply_async(square, 7).unwrap().then(tell);
    pool.close();
    pool.join().unwrap();
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [Ok(49)]);
    assert_eq!(pool.stats().callbacks, 0);
}

/// `FutureTests.test_done_callback_already_successful`, `_already_failed`.
fn a_callback_of_what_is_done_is_called_at_once() {
    let (tell, told) = teller();
    let pool = pool(1);
    let (good, bad) = (pool.apply_async(square, 3).unwrap(), pool.apply_async(fail, 0).unwrap());
    until_done(&pool, 2);
    good.then(tell.clone());
    assert_eq!(told.try_recv(), Ok(Ok(9)));
    bad.then(tell);
    assert!(matches!(told.try_recv(), Ok(Err(TaskError::Panicked { .. }))));
}

fn fail(_: u64) -> u64 {
    panic!("as asked")
}

/// `_TestPool.test_map_async_callbacks`: the values come in one call, and so does an error.
fn a_callback_of_a_map_is_given_all_values() {
    let pool = pool(2);
    let (sender, receiver) = mpsc::channel();
    let other = sender.clone();
    pool.map_async(square, 0..10).unwrap().then(move |squares| sender.send(squares).unwrap());
    let fail_at_5 = |n: u64| if n == 5 { fail(n) } else { n };
    pool.map_async(fail_at_5, 0..10).unwrap().then(move |none| other.send(none).unwrap());
    pool.close();
    pool.join().unwrap();
    let told: Vec<_> = receiver.try_iter().collect();
    let squares: Vec<u64> = (0..10).map(square).collect();
    assert!(told.contains(&Ok(squares)), "{told:?}");
    assert!(told.iter().any(|told| matches!(told, Err(TaskError::Panicked { .. }))), "{told:?}");
    assert_eq!(told.len(), 2);
}

/// `_TestPool.test_async_error_callback`; `FutureTests.test_done_callback_with_exception`.
fn a_callback_is_given_the_error() {
    let (tell, told) = teller();
    let pool = pool(1);
    pool.apply_async(fail, 0).unwrap().then(tell.clone());
    let die = |_: u64| -> u64 {
        raise(Signal::SIGKILL).unwrap();
        0
    };
    pool.apply_async(die, 0).unwrap().then(tell);
    pool.close();
    pool.join().unwrap();
    assert!(matches!(told.try_recv(), Ok(Err(TaskError::Panicked { message, .. })) if message == "as asked"));
    let death = told.try_recv().unwrap();
    assert!(matches!(death, Err(TaskError::WorkerDied { status, .. }) if status.signal() == Some(9)));
}

/// Its own task is not done before the callback of the other was called: so it is woken for that one.
fn who_sleeps_for_one_task_calls_the_callbacks_of_others() {
    let (pool, gate) = gated_pool(2);
    let opens = gate.clone();
    let nap = |n: u64| {
        thread::sleep(Duration::from_millis(50));
        n
    };
    pool.apply_async(nap, 1).unwrap().then(move |_| assert!(opens.set()));
    assert_eq!(pool.apply_async(gated, 2).unwrap().get(), Ok(2));

    // The same for every other way to wait.
    for wait in [
        |pool: &Pool| assert_eq!(pool.apply(gated, 3), Ok(3)),
        |pool: &Pool| assert_eq!(pool.map(gated, [3]), Ok(vec![3])),
        |pool: &Pool| assert_eq!(pool.imap(gated, [3]).next(), Some(Ok(3))),
        |pool: &Pool| assert_eq!(pool.imap_unordered(gated, [3]).next(), Some(Ok(3))),
    ] {
        gate.clear();
        let opens = gate.clone();
        pool.apply_async(nap, 1).unwrap().then(move |_| assert!(opens.set()));
        wait(&pool);
    }
    gate.clear();
    pool.apply_async(gated, 4).unwrap().then(|_| ());
    pool.apply_async(nap, 1).unwrap().then(move |_| assert!(gate.set()));
    pool.close();
    pool.join().unwrap();
}

fn whoever_waits_calls_and_whoever_does_not_wait_does_not() {
    let (tell, told) = teller();
    let (pool, gate) = gated_pool(1);
    let before = pool.apply_async(gated, 1).unwrap();
    pool.apply_async(square, 2).unwrap().then(tell.clone());
    assert_eq!(pool.poll(), 0);
    assert_eq!(pool.stats().callbacks, 1);
    gate.set();
    until_done(&pool, 2);
    assert!(before.is_ready());
    drop(pool.try_apply_async(square, 3).unwrap());
    assert!(told.try_recv().is_err());
    assert_eq!(pool.poll(), 1);
    assert_eq!(told.try_recv(), Ok(Ok(4)));
    assert_eq!((pool.poll(), pool.stats().callbacks), (0, 0));
    assert_eq!(before.get(), Ok(1));
}

/// `FutureTests.test_done_callback_raises`; CPython's issue of a raising callback, after which `Pool.join` hangs.
fn a_callback_that_panics_costs_nobody_anything() {
    let (tell, told) = teller();
    let pool = pool(2);
    for n in 0..10 {
        let tell = tell.clone();
        pool.apply_async(square, n).unwrap().then(move |value| {
            assert!(n % 2 == 1, "a panic of a callback, as the test wants it");
            tell(value);
        });
    }
    assert_eq!(pool.apply(square, 3), Ok(9));
    pool.close();
    pool.join().unwrap();
    let mut values: Vec<_> = told.try_iter().map(Result::unwrap).collect();
    values.sort_unstable();
    assert_eq!(values, [1, 9, 25, 49, 81]);
    assert_eq!((pool.stats().callbacks, pool.stats().callbacks_panicked), (0, 5));
}

fn a_callback_that_does_not_return_holds_up_nobody_else() {
    let (tell, told) = teller();
    let (pool, gate) = gated_pool(1);
    let (inside, is_inside) = mpsc::channel();
    let (let_go, held) = mpsc::channel::<()>();
    pool.apply_async(gated, 1).unwrap().then(move |_| {
        inside.send(()).unwrap();
        held.recv().unwrap();
    });
    gate.set();
    thread::scope(|scope| {
        let stuck = scope.spawn(|| until(|| pool.poll() > 0));
        is_inside.recv().unwrap();
        // All others are as before.
        pool.apply_async(square, 3).unwrap().then(tell);
        assert_eq!(pool.map(square, 0..100).unwrap()[99], 99 * 99);
        until(|| pool.poll() + told.try_iter().count() > 0);
        assert_eq!(pool.stats().callbacks, 1);
        let_go.send(()).unwrap();
        stuck.join().unwrap();
    });
    assert_eq!(pool.stats().callbacks, 0);
}

fn a_callback_may_use_its_pool() {
    let (tell, told) = teller();
    let (pool, gate) = gated_pool(1);
    let pool = Arc::new(pool);
    let (inner, more) = (pool.clone(), tell.clone());
    pool.apply_async(gated, 4).unwrap().then(move |four| {
        let four = four.unwrap();
        assert_eq!(inner.apply(square, four), Ok(16));
        assert_eq!(inner.apply_async(square, four).unwrap().get(), Ok(16));
        // Called behind this one, though it may be done.
        inner.apply_async(square, 5).unwrap().then(more);
        inner.close();
        inner.join().unwrap();
        tell(Ok(four));
    });
    gate.set();
    until_done(&pool, 1);
    assert_eq!(pool.poll() + pool.poll(), 2);
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [Ok(4), Ok(25)]);
}

fn join_waits_for_callbacks_in_other_threads() {
    let (pool, gate) = gated_pool(1);
    let (inside, is_inside) = mpsc::channel();
    let (let_go, held) = mpsc::channel::<()>();
    let returned = Arc::new(Mutex::new(false));
    let returns = returned.clone();
    pool.apply_async(gated, 1).unwrap().then(move |_| {
        inside.send(()).unwrap();
        held.recv().unwrap();
        *returns.lock().unwrap() = true;
    });
    gate.set();
    pool.close();
    thread::scope(|scope| {
        scope.spawn(|| until(|| pool.poll() > 0));
        is_inside.recv().unwrap();
        let short = pool.join_timeout(Duration::from_millis(20));
        assert!(matches!(short, Err(PoolJoinError::TimedOut { .. })), "{short:?}");
        let joiner = scope.spawn(|| {
            pool.join().unwrap();
            assert!(*returned.lock().unwrap());
        });
        let_go.send(()).unwrap();
        joiner.join().unwrap();
    });
}

fn what_is_left_is_called_when_the_pool_ends() {
    let (tell, told) = teller();
    let (gated_pool, _gate) = gated_pool(1);
    for n in 0..3 {
        gated_pool.apply_async(gated, n).unwrap().then(tell.clone());
    }
    let late = gated_pool.apply_async(gated, 4).unwrap();
    drop(gated_pool);
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [const { Err(TaskError::PoolClosed) }; 3]);
    late.then(tell.clone());
    assert_eq!(told.try_recv(), Ok(Err(TaskError::PoolClosed)));
    // What was done before is told as it is.
    let pool = pool(1);
    pool.apply_async(square, 9).unwrap().then(tell);
    until_done(&pool, 1);
    pool.terminate();
    assert_eq!(told.try_recv(), Ok(Ok(81)));
}

fn pools_that_end_in_a_callback_leave_none_uncalled() {
    let (tell, told) = teller();
    let (one, gate) = gated_pool(1);
    let (other, _never) = gated_pool(1);
    other.apply_async(gated, 7).unwrap().then(tell.clone());
    one.apply_async(gated, 1).unwrap().then(move |_| drop(other));
    one.apply_async(nap_for_ever, 2).unwrap().then(tell.clone());
    gate.set();
    until_done(&one, 1);
    assert_eq!(one.poll(), 1);
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [Err(TaskError::PoolClosed)]);
    drop(one);
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [Err(TaskError::PoolClosed)]);

    // A pool in a callback of its own.
    let (pool, gate) = gated_pool(1);
    let pool = Arc::new(pool);
    let (own, left) = (pool.clone(), tell.clone());
    let first = pool.apply_async(gated, 1).unwrap();
    pool.apply_async(nap_for_ever, 2).unwrap().then(left);
    first.then(move |_| own.terminate());
    gate.set();
    until_done(&pool, 1);
    pool.poll();
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [Err(TaskError::PoolClosed)]);
}

fn nap_for_ever(_: u64) -> u64 {
    loop {
        thread::park();
    }
}

fn the_supervisors_death_is_told_to_callbacks() {
    let (tell, told) = teller();
    let (pool, _gate) = gated_pool(2);
    until(|| pool.stats().workers.len() == 2);
    let workers = pool.stats().workers;
    let supervisor = pool.apply(|()| nix::unistd::getppid().as_raw(), ()).unwrap();
    pool.apply_async(gated, 1).unwrap().then(tell.clone());
    pool.map_async(gated, 0..8).unwrap().then(|none| assert_eq!(none, Err(TaskError::SupervisorDied)));
    let pool = &pool;
    thread::scope(|scope| {
        let (say, tid) = mpsc::channel();
        let waiter = scope.spawn(move || {
            say.send(nix::unistd::gettid()).unwrap();
            pool.apply(gated, 2)
        });
        let tid = tid.recv().unwrap();
        until(|| is_asleep_in_futex(tid));
        kill(Pid::from_raw(supervisor), Signal::SIGKILL).unwrap();
        assert_eq!(waiter.join().unwrap(), Err(TaskError::SupervisorDied));
    });
    pool.poll();
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [Err(TaskError::SupervisorDied)]);
    let stats = pool.stats();
    assert_eq!((stats.callbacks, stats.callbacks_panicked), (0, 0));
    // They come to this process.
    for worker in workers {
        until(|| waitpid(Pid::from_raw(worker.pid as i32), None).is_ok());
    }
}

/// `FutureTests.test_done_callback_with_cancel`, but that a callback takes the place of who could cancel: so it is the
/// limit of time that does.
fn callbacks_of_cancelled_and_late_tasks_are_called() {
    let (tell, told) = teller();
    let (pool, _gate) = gated_pool(1);
    let cancelled = pool.apply_async(gated, 1).unwrap();
    assert!(cancelled.cancel());
    cancelled.then(tell.clone());
    let limits = pshared::TaskLimits::new().deadline(Duration::from_millis(30));
    pool.apply_async_within(limits, gated, 1).unwrap().then(tell);
    pool.close();
    pool.join().unwrap();
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [Err(TaskError::Cancelled), Err(TaskError::TimedOut)]);
}

fn ten_thousand_callbacks_are_called_once_each_in_a_small_pool() {
    let (tell, told) = teller();
    let pool = Pool::builder().workers(2).bound(8).build().unwrap();
    for n in 0..10_000 {
        pool.apply_async(square, n).unwrap().then(tell.clone());
        // Who waits for places calls: so there are never many whose values wait for somebody.
        assert!(pool.stats().callbacks <= 16, "{:?}", pool.stats());
    }
    pool.close();
    pool.join().unwrap();
    let mut values: Vec<u64> = told.try_iter().map(Result::unwrap).collect();
    values.sort_unstable();
    assert!(values.into_iter().eq((0..10_000).map(square)));
}

fn many_threads_call_each_callback_once() {
    let pool = pool(2);
    let (tell, told) = teller();
    thread::scope(|scope| {
        for thread in 0..4 {
            let (pool, tell) = (&pool, tell.clone());
            scope.spawn(move || {
                for n in 0..500 {
                    pool.apply_async(square, thread * 500 + n).unwrap().then(tell.clone());
                    if n % 5 == 0 {
                        assert_eq!(pool.apply(square, n), Ok(n * n));
                    }
                }
            });
        }
    });
    pool.close();
    pool.join().unwrap();
    let mut values: Vec<u64> = told.try_iter().map(Result::unwrap).collect();
    values.sort_unstable();
    assert!(values.into_iter().eq((0..2_000).map(square)));
}

fn a_copy_of_a_pool_calls_nothing() {
    let (tell, told) = teller();
    let (pool, gate) = gated_pool(1);
    pool.apply_async(gated, 4).unwrap().then(tell.clone());
    let mine = pool.apply_async(square, 3).unwrap();
    gate.set();
    until_done(&pool, 2);
    fork_child(|| {
        assert_eq!(pool.poll(), 0);
        mine.then(tell);
        assert_eq!(told.try_recv(), Ok(Err(TaskError::NotParent)));
        assert!(told.try_recv().is_err());
    })
    .join_ok();
    assert_eq!(pool.poll(), 1);
    assert_eq!(told.try_recv(), Ok(Ok(4)));
}

fn callbacks_of_a_pool_by_the_fork_server_are_called() {
    let (tell, told) = teller();
    let pool = Pool::builder().workers(1).context(&Context::fork_server().unwrap()).build().unwrap();
    pool.apply_async(square, 4).unwrap().then(tell);
    pool.close();
    pool.join().unwrap();
    assert_eq!(told.try_recv(), Ok(Ok(16)));
}
