//! What `Semaphore` promises when processes and threads die: what CPython's suite never tries.

mod support;

use std::{
    mem,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use nix::{
    libc,
    sys::signal::{Signal, kill},
};
use pshared::{AcquireError, BoundedSemaphore, Semaphore};
use support::{
    Child, fork_child,
    locks::{fork_and_hold, sleep_for_ever},
    page::Page,
    until,
};

fn main() -> ExitCode {
    support::main(support::tests![
        a_killed_holders_permit_goes_to_who_waits,
        a_killed_holders_permit_is_there_for_who_tries_or_counts,
        a_thread_that_ends_holding_gives_back,
        a_process_that_exits_holding_gives_back,
        all_permits_of_a_killed_process_come_back,
        a_killed_holder_counts_against_the_bound_until_it_is_cleared,
        a_killed_first_in_line_makes_way,
        a_first_in_line_killed_as_it_is_woken_swallows_nothing,
        a_killed_second_in_line_holds_nobody_up,
        who_tries_after_the_first_in_line_was_killed_is_served,
        a_holder_and_the_first_in_line_killed_together,
        a_killed_releaser_has_released_or_not,
        killed_at_random_with_guards_the_count_stays_whole,
        a_stopped_first_in_line_lets_timeouts_end,
        ten_thousand_deaths_leave_it_as_it_was,
        a_thousand_processes_stand_in_line,
    ])
}

/// A child that holds a permit by a guard, until it is killed.
fn holder(semaphore: &Semaphore) -> Child {
    fork_and_hold(|| mem::forget(semaphore.permit().unwrap()))
}

/// Must end, and not by the harness's patience.
fn ends_soon(child: Child) {
    let start = Instant::now();
    child.join_ok();
    assert!(start.elapsed() < Duration::from_secs(10), "a hang of {:?}", start.elapsed());
}

fn a_killed_holders_permit_goes_to_who_waits() {
    for _ in 0..50 {
        let semaphore = BoundedSemaphore::new(1).unwrap();
        let holder = holder(&semaphore);
        let waiters = [
            fork_child(|| drop(semaphore.permit().unwrap())),
            fork_child(|| {
                semaphore.acquire().unwrap();
                semaphore.release().unwrap();
            }),
            fork_child(|| drop(semaphore.permit_timeout(Duration::from_secs(50)).unwrap())),
        ];
        waiters.iter().for_each(|waiter| waiter.until_asleep());
        holder.kill();
        waiters.into_iter().for_each(ends_soon);
        assert_eq!(semaphore.available_permits(), 1);
    }
}

fn a_killed_holders_permit_is_there_for_who_tries_or_counts() {
    let semaphore = BoundedSemaphore::new(1).unwrap();
    holder(&semaphore).kill();
    assert_eq!(semaphore.available_permits(), 1);
    holder(&semaphore).kill();
    assert_eq!(semaphore.try_acquire(), Ok(()));
    semaphore.release().unwrap();
    holder(&semaphore).kill();
    drop(semaphore.try_permit().unwrap());
    holder(&semaphore).kill();
    drop(semaphore.permit().unwrap());
    holder(&semaphore).kill();
    assert_eq!(semaphore.acquire_timeout(Duration::ZERO), Ok(()));
}

fn a_thread_that_ends_holding_gives_back() {
    let semaphore = BoundedSemaphore::new(2).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            mem::forget(semaphore.permit().unwrap());
            mem::forget(semaphore.permit().unwrap());
        });
    });
    // The scope waits for the closure; the thread's end comes a moment later.
    semaphore.acquire_many(2).unwrap();
    semaphore.release_many(2).unwrap();
    let waiter = fork_child(|| semaphore.acquire_many(2).unwrap());
    ends_soon(waiter);
}

fn a_process_that_exits_holding_gives_back() {
    let semaphore = BoundedSemaphore::new(1).unwrap();
    fork_child(|| mem::forget(semaphore.permit().unwrap())).join_ok();
    drop(semaphore.permit().unwrap());
    fork_child(|| {
        let _permit = semaphore.permit().unwrap();
        // SAFETY: ends the process without dropping anything.
        unsafe { libc::_exit(0) }
    })
    .join_ok();
    assert_eq!(semaphore.available_permits(), 1);
}

fn all_permits_of_a_killed_process_come_back() {
    let semaphore = BoundedSemaphore::new(100).unwrap();
    let holder = fork_and_hold(|| (0..100).for_each(|_| mem::forget(semaphore.permit().unwrap())));
    let all = fork_child(|| semaphore.acquire_many(100).unwrap());
    all.until_asleep();
    holder.kill();
    ends_soon(all);
    assert_eq!(semaphore.available_permits(), 0);
}

fn a_killed_holder_counts_against_the_bound_until_it_is_cleared() {
    let semaphore = BoundedSemaphore::new(1).unwrap();
    holder(&semaphore).kill();
    assert!(semaphore.release().is_err());
    assert_eq!(semaphore.available_permits(), 1);
    assert!(semaphore.release().is_err());
}

fn a_killed_first_in_line_makes_way() {
    for _ in 0..50 {
        let semaphore = Semaphore::new(0).unwrap();
        let first = fork_child(|| semaphore.acquire_many(2).unwrap());
        first.until_asleep();
        let second = fork_child(|| semaphore.acquire().unwrap());
        second.until_asleep();
        semaphore.release().unwrap();
        first.kill();
        ends_soon(second);
    }
}

fn a_first_in_line_killed_as_it_is_woken_swallows_nothing() {
    let mut missed = 0;
    for _ in 0..200 {
        let semaphore = Semaphore::new(0).unwrap();
        let first = fork_child(|| semaphore.acquire().unwrap());
        first.until_asleep();
        let second = fork_child(|| semaphore.acquire().unwrap());
        second.until_asleep();
        kill(first.pid(), Signal::SIGSTOP).unwrap();
        semaphore.release().unwrap();
        missed += semaphore.available_permits();
        first.kill();
        ends_soon(second);
    }
    assert!(missed > 0, "no first in line was killed between its wake and its permit");
}

fn a_killed_second_in_line_holds_nobody_up() {
    let semaphore = Semaphore::new(0).unwrap();
    let mut waiters: Vec<_> = (0..3).map(|_| fork_child(|| semaphore.acquire().unwrap())).collect();
    waiters.iter().for_each(|waiter| waiter.until_asleep());
    waiters.remove(1).kill();
    semaphore.release_many(2).unwrap();
    waiters.into_iter().for_each(ends_soon);
    assert_eq!(semaphore.available_permits(), 0);
}

fn who_tries_after_the_first_in_line_was_killed_is_served() {
    let semaphore = Semaphore::new(1).unwrap();
    let first = fork_child(|| semaphore.acquire_many(2).unwrap());
    first.until_asleep();
    assert_eq!(semaphore.try_acquire(), Err(AcquireError::NoPermits));
    first.kill();
    assert_eq!(semaphore.try_acquire(), Ok(()));
    semaphore.release().unwrap();
    let first = fork_child(|| semaphore.acquire_many(2).unwrap());
    first.until_asleep();
    first.kill();
    drop(semaphore.try_permit().unwrap());
}

fn a_holder_and_the_first_in_line_killed_together() {
    for round in 0..50 {
        let semaphore = BoundedSemaphore::new(1).unwrap();
        let holder = holder(&semaphore);
        let first = fork_child(|| semaphore.acquire().unwrap());
        first.until_asleep();
        let second = fork_child(|| drop(semaphore.permit().unwrap()));
        second.until_asleep();
        // The first must not run between the two deaths.
        kill(first.pid(), Signal::SIGSTOP).unwrap();
        if round % 2 == 0 {
            holder.kill();
            first.kill();
        } else {
            first.kill();
            holder.kill();
        }
        ends_soon(second);
        assert_eq!(semaphore.available_permits(), 1);
    }
}

fn a_killed_releaser_has_released_or_not() {
    let semaphore = Semaphore::new(0).unwrap();
    let page = Page::new();
    for round in 0..300 {
        let waiter = fork_child(|| {
            loop {
                semaphore.acquire().unwrap();
                page.add(0, 1);
            }
        });
        let before = page.get(0);
        let releaser = fork_child(|| {
            loop {
                semaphore.release().unwrap();
                page.add(1, 1);
            }
        });
        until(|| page.get(0) > before + round);
        releaser.kill();
        // Whatever was released is taken: nobody sleeps beside a permit.
        until(|| semaphore.available_permits() == 0);
        waiter.until_asleep();
        waiter.kill();
    }
    assert!(page.get(0) <= page.get(1) + 300);
}

fn killed_at_random_with_guards_the_count_stays_whole() {
    let semaphore = BoundedSemaphore::new(3).unwrap();
    let page = Page::new();
    let work = || {
        loop {
            let first = semaphore.permit().unwrap();
            drop(semaphore.try_permit());
            drop(first);
            semaphore.permit_timeout(Duration::from_micros(1)).ok();
            page.add(0, 1);
        }
    };
    let mut workers: Vec<_> = (0..6).map(|_| fork_child(work)).collect();
    for round in 0..600 {
        let before = page.get(0);
        until(|| page.get(0) > before);
        workers[round % 6].kill_now();
        workers[round % 6] = fork_child(work);
    }
    drop(workers);
    assert_eq!(semaphore.available_permits(), 3);
    assert!(semaphore.release().is_err());
    semaphore.acquire_many(3).unwrap();
}

fn a_stopped_first_in_line_lets_timeouts_end() {
    let semaphore = Semaphore::new(0).unwrap();
    let first = fork_child(|| semaphore.acquire().unwrap());
    first.until_asleep();
    kill(first.pid(), Signal::SIGSTOP).unwrap();
    semaphore.release().unwrap();
    let start = Instant::now();
    let ended = semaphore.acquire_timeout(Duration::from_millis(50));
    assert!(ended == Ok(()) || start.elapsed() >= Duration::from_millis(50));
    assert_eq!(semaphore.try_acquire(), Err(AcquireError::NoPermits));
    kill(first.pid(), Signal::SIGCONT).unwrap();
    if ended.is_ok() {
        semaphore.release().unwrap();
    }
    ends_soon(first);
}

fn ten_thousand_deaths_leave_it_as_it_was() {
    let semaphore = BoundedSemaphore::new(2).unwrap();
    let _permit = semaphore.permit().unwrap();
    let (descriptors, mapped) = (support::descriptors(), support::address_space());
    let page = Page::new();
    for death in 1..=10_000 {
        let child = fork_child(|| {
            mem::forget(semaphore.permit().unwrap());
            page.set(0, death);
            sleep_for_ever();
        });
        while page.get(0) != death {
            thread::yield_now();
        }
        child.kill();
    }
    assert_eq!(semaphore.available_permits(), 1);
    semaphore.acquire().unwrap();
    semaphore.release().unwrap();
    assert!(semaphore.release().is_err());
    assert_eq!(support::descriptors(), descriptors);
    assert!(support::address_space() <= mapped + (1 << 20));
}

fn a_thousand_processes_stand_in_line() {
    let semaphore = BoundedSemaphore::new(4).unwrap();
    semaphore.acquire_many(4).unwrap();
    let mut children: Vec<_> = (0..1_000)
        .map(|number| {
            fork_child(|| {
                if number % 2 == 0 {
                    drop(semaphore.permit().unwrap());
                } else {
                    semaphore.acquire().unwrap();
                    semaphore.release().unwrap();
                }
            })
        })
        .collect();
    children.iter().for_each(|child| child.until_asleep());
    // Every tenth dies in line.
    (0..100).rev().for_each(|tenth| children.remove(tenth * 10).kill());
    semaphore.release_many(4).unwrap();
    children.into_iter().for_each(|child| child.join_ok());
    assert_eq!(semaphore.available_permits(), 4);
}
