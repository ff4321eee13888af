//! A pool whose workers, supervisor or parent are killed: nobody waits for the dead, and only their own task fails.

#![allow(clippy::disallowed_types, reason = "shared by threads alone")]

mod support;

use std::{
    num::NonZeroUsize,
    process::{self, ExitCode},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    libc,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use pshared::{Atomic, Context, Pool, PoolJoinError, TaskError};
use support::{address_space, descriptors, fork_child, page::Page, random::Random, until};

/// What counts as at once.
const LIMIT: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    pshared::init();
    support::main(support::tests![
        an_idle_worker_is_replaced,
        a_running_task_fails_alone_and_says_why,
        a_task_that_exits_fails_alone,
        a_task_that_kills_its_worker_is_tried_so_often_and_no_more,
        a_task_is_tried_again_elsewhere,
        all_workers_at_once,
        a_killed_worker_costs_its_chunk,
        a_killed_supervisor_is_told_to_all_who_wait,
        a_stopped_supervisor_does_not_hold_up_the_end,
        everything_ends_with_the_parent,
        a_closed_pool_finishes_though_workers_die,
        terminate_ends_what_runs,
        random_kills_under_load_cost_one_task_each,
        ten_thousand_deaths_leave_a_pool_as_it_was,
    ])
}

fn square(n: u64) -> u64 {
    n * n
}

fn nap(millis: u64) -> u64 {
    thread::sleep(Duration::from_millis(millis));
    millis
}

fn die(signal: i32) -> u64 {
    // SAFETY: a signal to oneself.
    unsafe { libc::raise(signal) };
    0
}

fn pool(workers: usize) -> Pool {
    Pool::builder().workers(workers).build().unwrap()
}

fn strike(pid: u32) {
    match kill(Pid::from_raw(pid as i32), Signal::SIGKILL) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => panic!("{error}"),
    }
}

/// The numbers of the workers that are ready.
fn pids(pool: &Pool) -> Vec<u32> {
    pool.stats().workers.iter().map(|worker| worker.pid).collect()
}

fn supervisor(pool: &Pool) -> u32 {
    let text = format!("{pool:?}");
    let number = text.split("supervisor: ").nth(1).and_then(|rest| rest.split(',').next());
    number.and_then(|number| number.parse().ok()).expect("a number")
}

fn is_gone(pid: u32) -> bool {
    kill(Pid::from_raw(pid as i32), None) == Err(Errno::ESRCH)
}

fn an_idle_worker_is_replaced() {
    let pool = pool(1);
    until(|| pids(&pool).len() == 1);
    let first = pids(&pool)[0];
    strike(first);
    until(|| pids(&pool).iter().any(|&pid| pid != first));
    assert_eq!(pool.apply(square, 3), Ok(9));
    until(|| pool.stats().deaths == 1);
    assert_eq!((pool.stats().restarts, pool.stats().failed), (1, 0));
}

fn a_running_task_fails_alone_and_says_why() {
    for signal in [libc::SIGKILL, libc::SIGABRT, libc::SIGTERM] {
        let pool = pool(2);
        let before = pool.apply_async(square, 2).unwrap();
        let died = pool.apply(die, signal);
        let Err(TaskError::WorkerDied { task, pid, status, peak_memory, deaths }) = died else {
            panic!("{died:?}");
        };
        assert_eq!((task, status.signal(), deaths), (1, Some(signal), 1));
        assert!(peak_memory.is_some_and(|bytes| bytes > 0));
        assert!(is_gone(pid));
        assert_eq!((before.get(), pool.apply(square, 3)), (Ok(4), Ok(9)));
    }
}

fn a_task_that_exits_fails_alone() {
    let pool = pool(1);
    for code in [0, 3] {
        let left = pool.apply(|code: i32| -> u64 { process::exit(code) }, code);
        let Err(TaskError::WorkerDied { status, .. }) = left else { panic!("{left:?}") };
        assert_eq!(status.code(), Some(code));
    }
    assert_eq!(pool.apply(square, 3), Ok(9));
}

fn a_task_that_kills_its_worker_is_tried_so_often_and_no_more() {
    let pool = Pool::builder().workers(2).retries(2).build().unwrap();
    let died = pool.apply(die, libc::SIGKILL);
    assert!(matches!(died, Err(TaskError::WorkerDied { deaths: 3, .. })), "{died:?}");
    assert_eq!(pool.stats().deaths, 3);
    assert_eq!(pool.apply(square, 3), Ok(9));
}

fn a_task_is_tried_again_elsewhere() {
    let page = Page::new();
    let tries = Atomic::new(0_u64).unwrap();
    let counter = tries.clone();
    thread_local! {
        static TRIES: std::cell::RefCell<Option<Atomic<u64>>> = const { std::cell::RefCell::new(None) };
    }
    let initializer = move || {
        TRIES.replace(Some(counter.clone()));
        Ok::<(), String>(())
    };
    let pool = Pool::builder().workers(1).retries(1).initializer(initializer).build().unwrap();
    let second_time = |n: u64| {
        let tried = TRIES.with_borrow(|tries| tries.as_ref().unwrap().fetch_add(1));
        if tried == 0 { die(libc::SIGKILL) } else { n }
    };
    assert_eq!(pool.apply(second_time, 5), Ok(5));
    assert_eq!((tries.get(), page.get(0)), (2, 0));
}

fn all_workers_at_once() {
    let pool = pool(4);
    for round in 0..10 {
        until(|| pids(&pool).len() == 4);
        let running: Vec<_> = (0..4).map(|_| pool.apply_async(nap, 60_000).unwrap()).collect();
        let queued: Vec<_> = (0..20).map(|n| pool.apply_async(square, n).unwrap()).collect();
        until(|| pool.stats().running == 4);
        pids(&pool).into_iter().for_each(strike);
        for result in running {
            assert!(matches!(result.get(), Err(TaskError::WorkerDied { .. })));
        }
        for (n, result) in queued.into_iter().enumerate() {
            assert_eq!(result.get(), Ok(square(n as u64)), "round {round}");
        }
    }
    assert_eq!(pool.stats().deaths, 40);
}

fn a_killed_worker_costs_its_chunk() {
    let pool = pool(2);
    let fatal = |n: u64| if n == 13 { die(libc::SIGKILL) } else { n };
    let each = pool.map_each(fatal, 0..100).unwrap();
    for (n, value) in each.into_iter().enumerate() {
        match value {
            Ok(value) => assert!(value == n as u64 && n != 13),
            Err(TaskError::WorkerDied { .. }) => assert_eq!(n, 13),
            Err(error) => panic!("{error}"),
        }
    }
    let chunks = pool.map_each_chunked(fatal, 0..100, NonZeroUsize::new(10).unwrap()).unwrap();
    let lost: Vec<usize> = (0..100).filter(|&n| chunks[n].is_err()).collect();
    assert_eq!(lost, (10..20).collect::<Vec<_>>());
    assert!(matches!(pool.map(fatal, 0..100), Err(TaskError::WorkerDied { .. })));
}

fn a_killed_supervisor_is_told_to_all_who_wait() {
    for context in [Context::fork(), Context::fork_server().unwrap()] {
        let pool = Pool::builder().workers(2).bound(4).context(&context).build().unwrap();
        until(|| pids(&pool).len() == 2);
        let workers = pids(&pool);
        let held: Vec<_> = (0..4).map(|_| pool.apply_async(nap, 60_000).unwrap()).collect();
        thread::scope(|scope| {
            let waiting = held.into_iter().map(|result| scope.spawn(move || result.get()));
            let waiting: Vec<_> = waiting.collect();
            let for_room = scope.spawn(|| pool.apply_async(square, 1).and_then(|result| result.get()));
            let lazily = scope.spawn(|| pool.imap(square, 0..3).collect::<Vec<_>>());
            thread::sleep(Duration::from_millis(20));
            let began = Instant::now();
            strike(supervisor(&pool));
            for thread in waiting {
                assert_eq!(thread.join().unwrap(), Err(TaskError::SupervisorDied));
            }
            assert_eq!(for_room.join().unwrap(), Err(TaskError::SupervisorDied));
            assert_eq!(lazily.join().unwrap(), [Err(TaskError::SupervisorDied)]);
            assert!(began.elapsed() < LIMIT);
        });
        assert_eq!(pool.apply(square, 2), Err(TaskError::SupervisorDied));
        assert_eq!(pool.map(square, 0..3), Err(TaskError::SupervisorDied));
        pool.close();
        assert_eq!(pool.join(), Err(PoolJoinError::Failed(TaskError::SupervisorDied)));
        drop(pool);
        reap_orphans(&workers);
    }
}

/// Orphans come to this test, which reaps them.
fn reap_orphans(pids: &[u32]) {
    for &pid in pids {
        let _ = nix::sys::wait::waitpid(Pid::from_raw(pid as i32), None);
    }
    until(|| pids.iter().all(|&pid| is_gone(pid)));
}

fn a_stopped_supervisor_does_not_hold_up_the_end() {
    let pool = pool(1);
    until(|| pids(&pool).len() == 1);
    let workers = pids(&pool);
    kill(Pid::from_raw(supervisor(&pool) as i32), Signal::SIGSTOP).unwrap();
    assert_eq!(pool.apply(square, 3), Ok(9));
    pool.terminate();
    assert_eq!(pool.apply(square, 3), Err(TaskError::PoolClosed));
    reap_orphans(&workers);
}

fn everything_ends_with_the_parent() {
    for served in [false, true] {
        let page = Page::new();
        let parent = fork_child(|| {
            let context = if served { Context::fork_server().unwrap() } else { Context::fork() };
            let pool = Pool::builder().workers(2).context(&context).build().unwrap();
            let _held = pool.apply_async(nap, 60_000).unwrap();
            until(|| pids(&pool).len() == 2);
            page.set(1, supervisor(&pool));
            pids(&pool).into_iter().zip(2..).for_each(|(pid, place)| page.set(place, pid));
            page.set(0, 1);
            support::locks::sleep_for_ever();
        });
        until(|| page.get(0) == 1);
        let all: Vec<u32> = (1..4).map(|place| page.get(place)).collect();
        parent.kill();
        reap_orphans(&all);
        // The fork server, too.
        while nix::sys::wait::waitpid(None, None).is_ok() {}
    }
}

fn a_closed_pool_finishes_though_workers_die() {
    let pool = Pool::builder().workers(2).retries(1).build().unwrap();
    let results: Vec<_> = (0..200).map(|n| pool.apply_async(square, n).unwrap()).collect();
    let fatal = pool.apply_async(die, libc::SIGKILL).unwrap();
    let last = pool.apply_async(square, 7).unwrap();
    pool.close();
    assert_eq!(pool.apply(square, 1), Err(TaskError::PoolClosed));
    pool.join().unwrap();
    for (n, result) in results.into_iter().enumerate() {
        assert_eq!(result.get(), Ok(square(n as u64)));
    }
    assert!(matches!(fatal.get(), Err(TaskError::WorkerDied { deaths: 2, .. })));
    assert_eq!(last.get(), Ok(49));
}

fn terminate_ends_what_runs() {
    let pool = pool(2);
    let long = pool.apply_async(nap, 60_000).unwrap();
    let done = pool.apply_async(square, 5).unwrap();
    done.wait();
    until(|| pool.stats().running == 1);
    let workers = pids(&pool);
    pool.terminate();
    assert!(workers.into_iter().all(is_gone), "the workers are reaped");
    assert_eq!((long.get(), done.get()), (Err(TaskError::PoolClosed), Ok(25)));
    pool.join().unwrap();
    assert_eq!(pool.apply(square, 1), Err(TaskError::PoolClosed));
}

/// Each task is done, or reported as dead, once.
fn random_kills_under_load_cost_one_task_each() {
    let pool = pool(4);
    let mut random = Random(0x9001);
    let (mut died, mut strikes) = (0_u64, 0_u64);
    let mut left = std::collections::VecDeque::new();
    for n in 0..20_000_u64 {
        left.push_back((
            n,
            pool.apply_async(|n: u64| (0..n % 400).fold(n, |a, b| a ^ b.rotate_left(5)), n).unwrap(),
        ));
        if n % 100 == 0 {
            let workers = pids(&pool);
            if !workers.is_empty() {
                strike(workers[random.below(workers.len() as u64) as usize]);
                strikes += 1;
            }
        }
        if left.len() > 300 {
            let (n, result) = left.pop_front().unwrap();
            died += judge(n, result.get());
        }
    }
    for (n, result) in left {
        died += judge(n, result.get());
    }
    let stats = pool.stats();
    assert!(died <= strikes, "{died} tasks for {strikes} strikes");
    assert_eq!((stats.done + stats.failed, stats.failed), (20_000, died));
    println!("{strikes} strikes, {} deaths, {died} tasks lost", stats.deaths);
}

fn judge(n: u64, result: Result<u64, TaskError>) -> u64 {
    match result {
        Ok(value) => {
            assert_eq!(value, (0..n % 400).fold(n, |a, b: u64| a ^ b.rotate_left(5)));
            0
        }
        Err(TaskError::WorkerDied { status, .. }) => {
            assert_eq!(status.signal(), Some(libc::SIGKILL));
            1
        }
        Err(error) => panic!("task {n}: {error}"),
    }
}

fn ten_thousand_deaths_leave_a_pool_as_it_was() {
    let pool = Pool::builder().workers(2).bound(64).build().unwrap();
    let kill_one = |count: u64| {
        for value in pool.map_each(die, (0..count).map(|_| libc::SIGKILL)).unwrap() {
            assert!(matches!(value, Err(TaskError::WorkerDied { .. })));
        }
    };
    kill_one(100);
    let open = |pid: u32| std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let head = supervisor(&pool);
    let before = (descriptors(), open(head), address_space());
    kill_one(10_000);
    assert!(descriptors() <= before.0 && open(head) <= before.1 + 4, "{} then {}", before.1, open(head));
    assert!(address_space() <= before.2 + (4 << 20));
    assert_eq!(pool.stats().deaths, 10_100);
    let running: Vec<_> = (0..64).map(|n| pool.apply_async(square, n).unwrap()).collect();
    for (n, result) in running.into_iter().enumerate() {
        assert_eq!(result.get(), Ok(square(n as u64)));
    }
}
