//! What `Condition` promises, with really forked children.

mod support;

use std::{
    mem,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use nix::{
    libc,
    sys::signal::{Signal, kill, raise},
};
use pshared::{
    Atomic, Condition, ConditionError, Deadline, Lock, LockError, LockGuard, RLock, Region, RegionError,
};
use support::{Child, fork_child, is_asleep_in_futex, locks::fork_and_hold, page::Page, until};

fn main() -> ExitCode {
    support::main(support::tests![
        a_waiter_is_notified_one_after_the_other,
        notify_all_reaches_processes_and_threads,
        notify_n_reaches_so_many,
        a_wait_ends_at_its_time,
        waiting_for_a_state_of_things,
        waiting_for_a_state_with_a_limit,
        a_wait_says_how_it_ended,
        a_wait_needs_the_conditions_own_lock,
        an_rlock_is_freed_wholly_and_taken_as_often_again,
        notifying_needs_no_lock_and_is_not_kept,
        each_notification_counts_once,
        a_latecomer_takes_nobodys_notification,
        turns_go_to_and_fro_by_one_condition,
        a_bounded_buffer_loses_and_doubles_nothing,
        signals_neither_end_nor_shorten_a_wait,
        a_thousand_processes_are_reached,
        a_holders_death_is_told_to_the_waiter,
        a_killed_waiter_takes_no_notification_with_it,
        a_waiter_killed_as_it_is_woken_takes_no_notification_with_it,
        a_waiter_killed_before_it_has_the_lock_takes_no_notification_with_it,
        a_killed_notifier_holds_nobody_up,
        a_stopped_waiter_holds_up_no_notifier,
        ten_thousand_deaths_leave_it_as_it_was,
        a_full_region_is_an_error,
        debug_and_errors_say_what_is,
    ])
}

fn room() -> (Lock, Condition, Page) {
    let lock = Lock::new().unwrap();
    let condition = Condition::new(&lock).unwrap();
    (lock, condition, Page::new())
}

/// A child that waits once and adds one to the page's first word.
fn sleeper(lock: &Lock, condition: &Condition, page: &Page) -> Child {
    let child = fork_child(|| {
        let guard = condition.wait(lock.lock().unwrap()).unwrap();
        page.add_one_in_two_steps(0);
        drop(guard);
    });
    child.until_asleep();
    child
}

fn sleepers(count: usize, lock: &Lock, condition: &Condition, page: &Page) -> Vec<Child> {
    asleep((0..count).map(|_| sleeper(lock, condition, page)).collect())
}

/// Until all sleep: the second that comes rouses the first for a moment.
fn asleep(children: Vec<Child>) -> Vec<Child> {
    until(|| children.iter().all(|child| is_asleep_in_futex(child.pid())));
    children
}

/// Whoever sleeps still sleeps, however often one looks.
fn all_sleep(children: &[Child]) -> bool {
    (0..20).all(|_| {
        thread::sleep(Duration::from_micros(500));
        children.iter().all(|child| is_asleep_in_futex(child.pid()))
    })
}

fn join_all(children: Vec<Child>) {
    children.into_iter().for_each(Child::join_ok);
}

// CPython, _TestCondition.test_notify: two sleepers, each notify wakes one of them.
fn a_waiter_is_notified_one_after_the_other() {
    let (lock, condition, page) = room();
    let mut children = sleepers(2, &lock, &condition, &page);
    for woken in 1..=2 {
        let guard = lock.lock().unwrap();
        assert_eq!(condition.notify_one(), 1);
        drop(guard);
        until(|| children.iter().any(Child::has_ended));
        let first = children.iter().position(Child::has_ended).unwrap();
        children.remove(first).join_ok();
        assert_eq!(page.get(0), woken);
        assert!(all_sleep(&children));
    }
    assert_eq!(condition.notify_one(), 0);
}

// CPython, _TestCondition.test_notify_all: three processes and three threads, some of which gave up before.
fn notify_all_reaches_processes_and_threads() {
    let (lock, condition, page) = room();
    let limited: Vec<_> = (0..2)
        .map(|_| {
            fork_child(|| {
                let guard = lock.lock().unwrap();
                let (_guard, expired) = condition.wait_timeout(guard, Duration::from_millis(5)).unwrap();
                assert!(expired);
            })
        })
        .collect();
    join_all(limited);
    let children = sleepers(3, &lock, &condition, &page);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let guard = condition.wait(lock.lock().unwrap()).unwrap();
                page.add_one_in_two_steps(0);
                drop(guard);
            });
        }
        until(|| format!("{condition:?}").starts_with("Condition { waiting: 6"));
        assert_eq!(condition.notify_all(), 6);
    });
    join_all(children);
    assert_eq!((page.get(0), condition.notify_all()), (6, 0));
}

// CPython, _TestCondition.test_notify_n, and lock_tests.ConditionTests.test_notify.
fn notify_n_reaches_so_many() {
    let (lock, condition, page) = room();
    let mut children = sleepers(6, &lock, &condition, &page);
    for (count, so_far) in [(0, 0), (1, 1), (3, 4), (1, 5), (3, 6)] {
        let given = condition.notify_n(count);
        assert_eq!(given, count.min(children.len()));
        let mut left = given;
        while left > 0 {
            until(|| children.iter().any(Child::has_ended));
            let first = children.iter().position(Child::has_ended).unwrap();
            children.remove(first).join_ok();
            left -= 1;
        }
        assert_eq!(page.get(0), so_far);
        assert!(all_sleep(&children));
    }
}

// CPython, _TestCondition.test_timeout and lock_tests.ConditionTests.test_timeout.
fn a_wait_ends_at_its_time() {
    let (lock, condition, _page) = room();
    for millis in [0, 1, 50] {
        let timeout = Duration::from_millis(millis);
        let start = Instant::now();
        let (guard, expired) = condition.wait_timeout(lock.lock().unwrap(), timeout).unwrap();
        assert!(expired && start.elapsed() >= timeout);
        let deadline = Deadline::after(timeout);
        let (guard, expired) = condition.wait_deadline(guard, deadline).unwrap();
        assert!(expired && deadline.has_passed());
        drop(guard);
    }
    // Nobody waits any more.
    assert_eq!((condition.notify_one(), condition.notify_all()), (0, 0));
}

// CPython, _TestCondition.test_waitfor.
fn waiting_for_a_state_of_things() {
    let (lock, condition, _page) = room();
    let state = Atomic::new(0_u32).unwrap();
    let child = fork_child(|| {
        let guard = condition.wait_while(lock.lock().unwrap(), || state.get() == 0).unwrap();
        assert_eq!(state.get(), 1);
        state.set(2);
        condition.notify_one();
        let _guard = condition.wait_while(guard, || state.get() != 4).unwrap();
    });
    let guard = lock.lock().unwrap();
    state.set(1);
    condition.notify_one();
    let guard = condition.wait_while(guard, || state.get() != 2).unwrap();
    drop(guard);
    for number in [3, 4] {
        let _guard = lock.lock().unwrap();
        state.set(number);
        condition.notify_one();
    }
    child.join_ok();
}

// CPython, _TestCondition.test_waitfor_timeout and test_wait_result's limits.
fn waiting_for_a_state_with_a_limit() {
    let (lock, condition, _page) = room();
    let state = Atomic::new(0_u32).unwrap();
    let start = Instant::now();
    let timeout = Duration::from_millis(30);
    let looks = Atomic::new(0_u32).unwrap();
    let looking = || {
        looks.fetch_add(1);
        state.get() != 4
    };
    let child = fork_child(|| {
        for _ in 0..3 {
            thread::sleep(Duration::from_millis(5));
            state.fetch_add(1);
            condition.notify_all();
        }
    });
    let (guard, expired) = condition.wait_timeout_while(lock.lock().unwrap(), timeout, looking).unwrap();
    assert!(expired && start.elapsed() >= timeout && looks.get() >= 2);
    child.join_ok();
    state.set(4);
    let deadline = Deadline::now();
    let (guard, expired) = condition.wait_deadline_while(guard, deadline, || state.get() != 4).unwrap();
    assert!(!expired);
    drop(guard);
}

// CPython, _TestCondition.test_wait_result: True after a notify, False when the time was up.
fn a_wait_says_how_it_ended() {
    let (lock, condition, _page) = room();
    let child = fork_child(|| {
        let guard = lock.lock().unwrap();
        condition.notify_one();
        drop(guard);
    });
    // The child is either there already, and notified nobody, or it notifies this.
    let (guard, _) = condition.wait_timeout(lock.lock().unwrap(), Duration::from_millis(20)).unwrap();
    drop(guard);
    child.join_ok();
    let waiter = fork_child(|| {
        let (_guard, expired) =
            condition.wait_timeout(lock.lock().unwrap(), Duration::from_secs(1000)).unwrap();
        assert!(!expired);
    });
    waiter.until_asleep();
    assert_eq!(condition.notify_one(), 1);
    waiter.join_ok();
}

// lock_tests.ConditionTests.test_unacquired_wait, test_unacquired_notify: here a wait without a guard does not
// compile, a guard of another lock is refused, and notifying needs none.
fn a_wait_needs_the_conditions_own_lock() {
    let (lock, condition, _page) = room();
    let other = Lock::new().unwrap();
    match condition.wait(other.lock().unwrap()) {
        Err(ConditionError::WrongLock(guard)) => drop(guard),
        ended => panic!("{ended:?}"),
    }
    let (rlock, another) = (RLock::new().unwrap(), RLock::new().unwrap());
    let of_rlock = Condition::new(&rlock).unwrap();
    let ended = of_rlock.wait_timeout(another.lock().unwrap(), Duration::ZERO);
    assert!(matches!(ended, Err(ConditionError::WrongLock(_))));
    // A clone is the same lock.
    let clone = lock.clone();
    let (guard, _) = condition.wait_timeout(clone.lock().unwrap(), Duration::ZERO).unwrap();
    // A copy of the guard is not the guard.
    let mut guard = Some(guard);
    fork_child(|| {
        let ended = condition.wait(guard.take().unwrap());
        assert!(matches!(ended, Err(ConditionError::Copied(_))));
    })
    .join_ok();
    assert!(matches!(lock.try_lock(), Err(LockError::WouldBlock)));
    drop(guard);
    assert_eq!(condition.notify_all(), 0);
}

// lock_tests.ConditionAsRLockTests, and CPython's default, a Condition of an RLock.
fn an_rlock_is_freed_wholly_and_taken_as_often_again() {
    let rlock = RLock::new().unwrap();
    let condition = Condition::new(&rlock).unwrap();
    let page = Page::new();
    let child = fork_child(|| {
        let outer = rlock.lock().unwrap();
        let middle = rlock.lock().unwrap();
        let inner = condition.wait(rlock.lock().unwrap()).unwrap();
        assert_eq!(rlock.depth(), 3);
        let (inner, expired) = condition.wait_timeout(inner, Duration::from_millis(1)).unwrap();
        assert!(expired);
        assert_eq!(rlock.depth(), 3);
        drop((outer, middle));
        assert_eq!(rlock.depth(), 1);
        page.set(0, 1);
        drop(inner);
    });
    child.until_asleep();
    let guard = rlock.lock().unwrap();
    assert_eq!(condition.notify_one(), 1);
    drop(guard);
    child.join_ok();
    assert_eq!(page.get(0), 1);
    drop(rlock.try_lock().unwrap());
}

fn notifying_needs_no_lock_and_is_not_kept() {
    let (lock, condition, page) = room();
    assert_eq!((condition.notify_one(), condition.notify_n(5), condition.notify_all()), (0, 0, 0));
    let (guard, expired) = condition.wait_timeout(lock.lock().unwrap(), Duration::from_millis(10)).unwrap();
    assert!(expired);
    // With the lock held by somebody else as well.
    drop(guard);
    let child = sleeper(&lock, &condition, &page);
    let guard = lock.lock().unwrap();
    fork_child(|| assert_eq!(condition.notify_all(), 1)).join_ok();
    drop(guard);
    child.join_ok();
}

fn each_notification_counts_once() {
    let (lock, condition, page) = room();
    for _ in 0..30 {
        page.set(0, 0);
        let children = sleepers(4, &lock, &condition, &page);
        let guard = lock.lock().unwrap();
        assert_eq!((condition.notify_one(), condition.notify_one()), (1, 1));
        assert_eq!((condition.notify_n(1), condition.notify_all(), condition.notify_one()), (1, 1, 0));
        assert_eq!(page.get(0), 0);
        drop(guard);
        join_all(children);
        assert_eq!(page.get(0), 4);
    }
}

/// Somebody waits for its own word; whoever notifies it then waits for another word, at once.
fn a_latecomer_takes_nobodys_notification() {
    let (lock, condition, page) = room();
    for _ in 0..2_000 {
        page.set(1, 0);
        page.set(2, 0);
        page.set(3, 0);
        thread::scope(|scope| {
            scope.spawn(|| {
                let guard = lock.lock().unwrap();
                page.set(3, 1);
                drop(condition.wait_while(guard, || page.get(1) == 0).unwrap());
                let guard = lock.lock().unwrap();
                page.set(2, 1);
                condition.notify_all();
                drop(guard);
            });
            // It has the lock, or waits, perhaps not yet asleep.
            while page.get(3) == 0 {
                std::hint::spin_loop();
            }
            let guard = lock.lock().unwrap();
            page.set(1, 1);
            assert_eq!(condition.notify_one(), 1);
            drop(condition.wait_while(guard, || page.get(2) == 0).unwrap());
        });
    }
}

fn turns_go_to_and_fro_by_one_condition() {
    const TURNS: u32 = 5_000;
    let (lock, condition, page) = room();
    let play = |own: u32| {
        let mut guard = lock.lock().unwrap();
        for _ in 0..TURNS {
            guard = condition.wait_while(guard, || page.get(0) % 3 != own).unwrap();
            page.add_one_in_two_steps(0);
            // Two wait, or are about to, and only one of them can go on.
            condition.notify_all();
        }
        drop(guard);
    };
    let others = [1, 2].map(|own| fork_child(move || play(own)));
    play(0);
    others.into_iter().for_each(Child::join_ok);
    assert_eq!(page.get(0), 3 * TURNS);
}

fn a_bounded_buffer_loses_and_doubles_nothing() {
    const EACH: u32 = 3_000;
    const ROOM: u32 = 3;
    let lock = Lock::new().unwrap();
    let [filled, emptied] = [(); 2].map(|()| Condition::new(&lock).unwrap());
    let page = Page::new();
    let (inside, sum) = (0, 1);
    let producers = (1..=3_u32).map(|own| {
        let (lock, filled, emptied, page) = (&lock, &filled, &emptied, &page);
        fork_child(move || {
            for _ in 0..EACH {
                let guard = emptied.wait_while(lock.lock().unwrap(), || page.get(inside) == ROOM).unwrap();
                page.set(10 + page.get(inside) as usize, own);
                page.add_one_in_two_steps(inside);
                drop(guard);
                filled.notify_one();
            }
        })
    });
    let producers: Vec<_> = producers.collect();
    let consumers: Vec<_> = (0..3)
        .map(|_| {
            fork_child(|| {
                for _ in 0..EACH {
                    let guard = filled.wait_while(lock.lock().unwrap(), || page.get(inside) == 0).unwrap();
                    page.set(inside, page.get(inside) - 1);
                    let taken = page.get(10 + page.get(inside) as usize);
                    page.set(sum, page.get(sum) + taken);
                    emptied.notify_one();
                    drop(guard);
                }
            })
        })
        .collect();
    join_all(producers);
    join_all(consumers);
    assert_eq!((page.get(inside), page.get(sum)), (0, EACH * (1 + 2 + 3)));
}

// CPython pins the same in _TestIgnoreEINTR.
fn signals_neither_end_nor_shorten_a_wait() {
    extern "C" fn ignore(_: libc::c_int) {}
    let (lock, condition, page) = room();
    // SAFETY: the handler does nothing; without SA_RESTART it interrupts every wait.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = ignore as extern "C" fn(libc::c_int) as usize;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()), 0);
    }
    let child = sleeper(&lock, &condition, &page);
    for _ in 0..20 {
        kill(child.pid(), Signal::SIGUSR1).unwrap();
        child.until_asleep();
    }
    assert_eq!((page.get(0), condition.notify_one()), (0, 1));
    child.join_ok();
    let limited = fork_child(|| {
        let start = Instant::now();
        let (_guard, expired) =
            condition.wait_timeout(lock.lock().unwrap(), Duration::from_millis(60)).unwrap();
        assert!(expired && start.elapsed() >= Duration::from_millis(60));
    });
    for _ in 0..10 {
        thread::sleep(Duration::from_millis(3));
        kill(limited.pid(), Signal::SIGUSR1).unwrap();
    }
    limited.join_ok();
}

fn a_thousand_processes_are_reached() {
    let (lock, condition, page) = room();
    let children = sleepers(1_000, &lock, &condition, &page);
    let guard = lock.lock().unwrap();
    assert_eq!(condition.notify_all(), 1_000);
    drop(guard);
    join_all(children);
    assert_eq!(page.get(0), 1_000);
    // And one by one.
    let children = sleepers(200, &lock, &condition, &page);
    (0..200).for_each(|_| assert_eq!(condition.notify_one(), 1));
    join_all(children);
    assert_eq!(page.get(0), 1_200);
}

fn a_holders_death_is_told_to_the_waiter() {
    let (lock, condition, _page) = room();
    let waiter = fork_child(|| match condition.wait(lock.lock().unwrap()) {
        Err(ConditionError::Lock(LockError::OwnerDied(mut guard))) => guard.make_consistent(),
        ended => panic!("{ended:?}"),
    });
    waiter.until_asleep();
    let holder = fork_and_hold(|| mem::forget(lock.lock().unwrap()));
    assert_eq!(condition.notify_one(), 1);
    holder.kill();
    waiter.join_ok();
    drop(lock.lock().unwrap());
    // What a waiter was told before its wait the next is told again.
    fork_and_hold(|| mem::forget(lock.lock().unwrap())).kill();
    let suspect = lock.lock().unwrap_err().into_guard().unwrap();
    let ended = condition.wait_timeout(suspect, Duration::ZERO);
    let guard = match ended {
        Err(ConditionError::Lock(LockError::OwnerDied(mut guard))) => {
            guard.make_consistent();
            guard
        }
        ended => panic!("{ended:?}"),
    };
    drop(condition.wait_timeout(guard, Duration::ZERO).unwrap());
}

/// A survivor's guard.
fn healed<'a>(ended: Result<LockGuard<'a>, ConditionError<LockGuard<'a>>>) -> LockGuard<'a> {
    ended.unwrap_or_else(|error| {
        let mut guard = error.into_guard().expect("the lock");
        guard.make_consistent();
        guard
    })
}

/// The lock, whoever died with it.
fn healed_lock(lock: &Lock) -> LockGuard<'_> {
    lock.lock().or_else(|error| error.into_guard().ok_or(())).expect("the lock")
}

fn survivors(count: usize, lock: &Lock, condition: &Condition) -> Vec<Child> {
    let children: Vec<_> = (0..count)
        .map(|_| {
            let child = fork_child(|| drop(healed(condition.wait(healed_lock(lock)))));
            child.until_asleep();
            child
        })
        .collect();
    asleep(children)
}

fn a_killed_waiter_takes_no_notification_with_it() {
    let (lock, condition, _page) = room();
    for round in 0..60 {
        let mut children = survivors(3, &lock, &condition);
        children.remove(round % 3).kill();
        // As many as are alive, and one for the dead, which is still counted.
        (0..3).for_each(|_| _ = condition.notify_one());
        join_all(children);
    }
    for round in 0..60 {
        let mut children = survivors(3, &lock, &condition);
        children.remove(round % 3).kill();
        condition.notify_all();
        join_all(children);
    }
}

fn a_waiter_killed_as_it_is_woken_takes_no_notification_with_it() {
    let (lock, condition, page) = room();
    for _ in 0..300 {
        page.set(0, 0);
        let waiter = || {
            let child = fork_child(|| {
                let back = healed(condition.wait(healed_lock(&lock)));
                // With the lock, so that whoever took a notification is counted or leaves OWNER_DIED.
                page.add(0, 1);
                drop(back);
            });
            child.until_asleep();
            child
        };
        let (victim, other) = (waiter(), waiter());
        condition.notify_one();
        kill(victim.pid(), Signal::SIGKILL).unwrap();
        victim.join();
        // If the victim took its notification, the other needs one of its own.
        if page.get(0) > 0 || matches!(lock.try_lock(), Err(LockError::OwnerDied(_))) {
            condition.notify_one();
        }
        other.join_ok();
        condition.notify_all();
    }
}

fn a_waiter_killed_before_it_has_the_lock_takes_no_notification_with_it() {
    let (lock, condition, _page) = room();
    for _ in 0..100 {
        let mut children = survivors(3, &lock, &condition);
        let guard = healed_lock(&lock);
        assert_eq!(condition.notify_one(), 1);
        // The first in line is chosen, and waits for the lock.
        let counts = || format!("{condition:?}").split(", lock").next().unwrap().to_owned();
        let before = counts();
        until(|| children.iter().all(|child| is_asleep_in_futex(child.pid())));
        children.remove(0).kill();
        assert_eq!(counts(), before);
        until(|| children.iter().all(|child| is_asleep_in_futex(child.pid())));
        drop(guard);
        until(|| children.iter().any(Child::has_ended));
        condition.notify_all();
        join_all(children);
    }
}

fn a_killed_notifier_holds_nobody_up() {
    let (lock, condition, page) = room();
    for round in 0..100 {
        let children = survivors(2, &lock, &condition);
        page.set(5, 0);
        let notifier = fork_child(|| {
            page.set(5, 1);
            loop {
                if round % 2 == 0 {
                    condition.notify_one()
                } else {
                    condition.notify_all()
                };
            }
        });
        until(|| page.get(5) == 1);
        notifier.kill();
        condition.notify_one();
        condition.notify_all();
        join_all(children);
    }
}

fn a_stopped_waiter_holds_up_no_notifier() {
    let (lock, condition, page) = room();
    let children = sleepers(2, &lock, &condition, &page);
    kill(children[0].pid(), Signal::SIGSTOP).unwrap();
    // In CPython this would wait for the stopped one.
    assert_eq!((condition.notify_one(), condition.notify_all()), (1, 1));
    kill(children[0].pid(), Signal::SIGCONT).unwrap();
    join_all(children);
}

fn ten_thousand_deaths_leave_it_as_it_was() {
    let (lock, condition, page) = room();
    drop(condition.wait_timeout(lock.lock().unwrap(), Duration::ZERO).unwrap());
    let (descriptors, mapped) = (support::descriptors(), support::address_space());
    for death in 0..10_000 {
        let child = fork_child(|| {
            let guard = lock.lock().unwrap();
            if death % 2 == 0 {
                let _ = condition.wait_while(guard, || {
                    // Seen by the parent with the lock: this one is about to wait.
                    page.set(1, 1);
                    true
                });
            } else {
                drop(guard);
                condition.notify_all();
                raise(Signal::SIGKILL).unwrap();
            }
        });
        if death % 2 == 0 {
            until(|| page.get(1) == 1);
            page.set(1, 0);
            child.kill();
            if let Err(LockError::OwnerDied(mut guard)) = lock.lock() {
                guard.make_consistent();
            }
        } else {
            let _ = child.join();
        }
    }
    // Whoever is counted of the dead goes with the next notification of all.
    condition.notify_all();
    let children = sleepers(3, &lock, &condition, &page);
    assert_eq!((condition.notify_n(2), condition.notify_all()), (2, 1));
    join_all(children);
    assert_eq!(support::descriptors(), descriptors);
    assert!(support::address_space() <= mapped + (1 << 20));
}

fn a_full_region_is_an_error() {
    let region = Region::anonymous(4096).unwrap();
    let lock = Lock::new().unwrap();
    let first = Condition::new_in(&region, &lock).unwrap();
    while Condition::new_in(&region, &lock).is_ok() {}
    assert!(matches!(Condition::new_in(&region, &lock), Err(RegionError::NoRoom { need: 64, .. })));
    assert_eq!(first.notify_one(), 0);
}

fn debug_and_errors_say_what_is() {
    let (lock, condition, page) = room();
    let free = "Condition { waiting: 0, notified: 0, lock: Lock { state: free } }";
    assert_eq!(format!("{condition:?}"), free);
    let child = sleeper(&lock, &condition, &page);
    let guard = lock.lock().unwrap();
    condition.clone().notify_one();
    let said = format!("{condition:?}");
    assert!(said.starts_with("Condition { waiting: 1, notified: 1, lock: Lock { state: held by"), "{said}");
    drop(guard);
    child.join_ok();
    assert!(
        format!("{condition:?}").starts_with("Condition { waiting: 0, notified: 0, lock: Lock { state: free")
    );
    for (error, text, name) in [
        (ConditionError::WrongLock(()), "the guard is not of the condition's lock", "WrongLock(..)"),
        (
            ConditionError::Copied(()),
            "the guard belongs to the process that this one was forked from",
            "Copied(..)",
        ),
        (
            ConditionError::Lock(LockError::OwnerDied(())),
            "the last holder of the lock died holding it",
            "Lock(OwnerDied(..))",
        ),
    ] {
        assert_eq!((error.to_string(), format!("{error:?}")), (text.to_owned(), name.to_owned()));
        assert!(error.into_guard().is_some());
    }
}
