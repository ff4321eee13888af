//! What `RLock` promises, with really forked children.

mod support;

use std::{
    mem,
    panic::{self, AssertUnwindSafe},
    process::ExitCode,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use nix::unistd::gettid;
use pshared::{Deadline, Lock, LockError, RLock, RLockGuard, Region, RegionError};
use support::{
    fork_child, is_asleep_in_futex,
    locks::{fork_and_hold, panic_quietly},
    page::Page,
    until,
};

fn main() -> ExitCode {
    support::main(support::tests![
        a_thread_takes_it_again_and_gives_each_taking_back,
        guards_may_go_in_any_order,
        only_the_holder_gives_it_back,
        another_process_waits_until_the_last_taking_is_given_back,
        another_thread_of_the_holders_process_is_another,
        try_lock_is_refused_to_others_and_not_to_the_holder,
        a_timed_wait_takes_at_least_its_time,
        takings_of_many_threads_exclude_each_other,
        a_taking_again_asks_the_system_for_nothing,
        a_guard_dropped_in_a_forked_child_does_nothing,
        a_child_holds_nothing_of_its_parents,
        a_death_at_any_depth_is_reported_and_its_heir_begins_at_one,
        a_death_is_reported_until_somebody_makes_it_consistent,
        a_panic_poisons_until_somebody_makes_it_consistent,
        a_killed_sleeper_and_a_killed_heir_hold_nobody_up,
        a_thread_that_ends_holding_is_a_dead_holder,
        ten_thousand_deaths_leave_it_as_it_was,
        a_thread_may_hold_2040_and_take_each_of_them_again,
        a_full_region_is_an_error,
        debug_and_errors_tell_state_owner_and_depth,
    ])
}

type Taken<'a> = Result<RLockGuard<'a>, LockError<RLockGuard<'a>>>;

fn owner_died(taken: Taken<'_>) -> RLockGuard<'_> {
    match taken {
        Err(LockError::OwnerDied(guard)) => guard,
        other => panic!("expected OwnerDied, not {other:?}"),
    }
}

fn poisoned(taken: Taken<'_>) -> RLockGuard<'_> {
    match taken {
        Err(LockError::Poisoned(guard)) => guard,
        other => panic!("expected Poisoned, not {other:?}"),
    }
}

/// The calling thread holds it from now on, that often.
fn hold(lock: &RLock, depth: usize) {
    for _ in 0..depth {
        mem::forget(lock.lock().or_else(|error| error.into_guard().ok_or(())).expect("the lock"));
    }
}

/// As another process sees it.
fn is_free(lock: &RLock) -> bool {
    let free = Page::new();
    fork_child(|| free.set(0, u32::from(lock.try_lock().is_ok()))).join_ok();
    free.get(0) == 1
}

// CPython, _TestLock.test_rlock: three acquires, three releases, and a fourth release is an AssertionError (here a
// guard is dropped once). lock_tests.RLockTests.test_reacquire and test_release_unacquired say the same for threads.
fn a_thread_takes_it_again_and_gives_each_taking_back() {
    let lock = RLock::new().unwrap();
    assert_eq!(lock.depth(), 0);
    let guards: Vec<_> = (0..3).map(|_| lock.lock().unwrap()).collect();
    assert_eq!(lock.depth(), 3);
    for (given_back, guard) in guards.into_iter().enumerate() {
        assert!(!is_free(&lock));
        drop(guard);
        assert_eq!(lock.depth(), 2 - given_back as u32);
    }
    assert!(is_free(&lock));
    // lock_tests.BaseLockTests.test_with_statement, test_acquire_release.
    {
        let _outer = lock.lock().unwrap();
        let _inner = lock.try_lock().unwrap();
    }
    assert!(is_free(&lock));
}

fn guards_may_go_in_any_order() {
    let lock = RLock::new().unwrap();
    let [first, second, third] = [(); 3].map(|()| lock.lock().unwrap());
    drop(second);
    drop(first);
    assert!(!is_free(&lock));
    let fourth = lock.lock().unwrap();
    drop(third);
    assert!(!is_free(&lock));
    drop(fourth);
    assert!(is_free(&lock));
}

// lock_tests.RLockTests.test_different_thread: another thread's release is refused. Here a guard cannot leave its
// thread; what another can do is take the lock, and wait.
fn only_the_holder_gives_it_back() {
    let lock = RLock::new().unwrap();
    let guard = lock.lock().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            assert!(matches!(lock.try_lock(), Err(LockError::WouldBlock)));
            assert_eq!(lock.depth(), 0);
        });
    });
    drop(guard);
    assert!(is_free(&lock));
}

// lock_tests.RLockTests.test__is_owned, test_recursion_count: what is told to the holder, and to others.
fn another_process_waits_until_the_last_taking_is_given_back() {
    let lock = RLock::new().unwrap();
    let mut guards: Vec<_> = (0..5).map(|_| lock.lock().unwrap()).collect();
    let sleeper = fork_child(|| {
        assert_eq!(lock.depth(), 0);
        let guard = lock.lock().unwrap();
        assert_eq!(lock.depth(), 1);
        drop(guard);
    });
    sleeper.until_asleep();
    while let Some(guard) = guards.pop() {
        assert!(!sleeper.has_ended());
        drop(guard);
    }
    sleeper.join_ok();
}

fn another_thread_of_the_holders_process_is_another() {
    let lock = RLock::new().unwrap();
    let guard = lock.lock().unwrap();
    let clone = lock.clone();
    let (tell, told) = mpsc::channel();
    let other = thread::spawn(move || {
        tell.send(matches!(clone.lock_timeout(Duration::from_millis(10)), Err(LockError::TimedOut))).unwrap();
        drop(clone.lock().unwrap());
    });
    assert!(told.recv().unwrap());
    drop(guard);
    other.join().unwrap();
}

// lock_tests.BaseLockTests.test_try_acquire, test_try_acquire_contended.
fn try_lock_is_refused_to_others_and_not_to_the_holder() {
    let lock = RLock::new().unwrap();
    let holder = fork_and_hold(|| hold(&lock, 2));
    assert!(matches!(lock.try_lock(), Err(LockError::WouldBlock)));
    holder.kill();
    owner_died(lock.try_lock()).make_consistent();
    let _outer = lock.try_lock().unwrap();
    drop(lock.try_lock().unwrap());
}

// lock_tests.BaseLockTests.test_timeout.
fn a_timed_wait_takes_at_least_its_time() {
    let lock = RLock::new().unwrap();
    let holder = fork_and_hold(|| hold(&lock, 1));
    for millis in [0, 1, 40] {
        let timeout = Duration::from_millis(millis);
        let start = Instant::now();
        assert!(matches!(lock.lock_timeout(timeout), Err(LockError::TimedOut)));
        assert!(start.elapsed() >= timeout);
        let deadline = Deadline::after(timeout);
        assert!(matches!(lock.lock_deadline(deadline), Err(LockError::TimedOut)));
        assert!(deadline.has_passed());
    }
    holder.kill();
    let _outer = owner_died(lock.lock_timeout(Duration::from_secs(1000)));
    drop(owner_died(lock.lock_timeout(Duration::ZERO)));
}

// lock_tests.BaseLockTests.test_acquire_contended, test_thread_leak: many at once, here of both kinds.
fn takings_of_many_threads_exclude_each_other() {
    const EACH: u32 = 2_000;
    let lock = RLock::new().unwrap();
    let page = Page::new();
    let work = || {
        for _ in 0..EACH {
            let _outer = lock.lock().unwrap();
            page.add_one_in_two_steps(0);
            let _inner = lock.lock().unwrap();
            page.add_one_in_two_steps(0);
        }
    };
    let children: Vec<_> = (0..3).map(|_| fork_child(work)).collect();
    children.into_iter().for_each(support::Child::join_ok);
    thread::scope(|scope| (0..3).for_each(|_| _ = scope.spawn(work)));
    assert_eq!(page.get(0), 6 * 2 * EACH);
}

fn a_taking_again_asks_the_system_for_nothing() {
    fork_child(|| {
        let lock = RLock::new().unwrap();
        let _outer = lock.lock().unwrap();
        // From here on the kernel kills this process at any call but read, write, exit and sigreturn.
        // SAFETY: a plain attribute of the process.
        let strict = unsafe { nix::libc::prctl(nix::libc::PR_SET_SECCOMP, 1) };
        assert_eq!(strict, 0);
        for _ in 0..1_000 {
            let _inner = lock.lock();
            assert_eq!(lock.depth(), 2);
        }
        // SAFETY: ends this thread, and with it the process; exit_group is forbidden now.
        unsafe { nix::libc::syscall(nix::libc::SYS_exit, 0) };
    })
    .join_ok();
}

fn a_guard_dropped_in_a_forked_child_does_nothing() {
    let lock = RLock::new().unwrap();
    let mut guards = vec![lock.lock().unwrap(), lock.lock().unwrap()];
    fork_child(|| {
        guards.pop().unwrap().make_consistent();
        guards.clear();
        assert!(matches!(lock.try_lock(), Err(LockError::WouldBlock)));
    })
    .join_ok();
    assert_eq!(lock.depth(), 2);
    drop(guards);
    assert!(is_free(&lock));
}

fn a_child_holds_nothing_of_its_parents() {
    let lock = RLock::new().unwrap();
    let guard = lock.lock().unwrap();
    fork_child(|| {
        assert_eq!(lock.depth(), 0);
        assert!(matches!(lock.lock_timeout(Duration::from_millis(5)), Err(LockError::TimedOut)));
    })
    .join_ok();
    let child = fork_child(|| {
        let _outer = lock.lock().unwrap();
        let inner = lock.lock().unwrap();
        // Nor does the child's child.
        fork_child(|| assert!(matches!(lock.try_lock(), Err(LockError::WouldBlock)))).join_ok();
        drop(inner);
    });
    child.until_asleep();
    drop(guard);
    child.join_ok();
    assert!(is_free(&lock));
}

fn a_death_at_any_depth_is_reported_and_its_heir_begins_at_one() {
    let lock = RLock::new().unwrap();
    for depth in [1, 2, 100] {
        fork_and_hold(|| hold(&lock, depth)).kill();
        let mut heir = owner_died(lock.lock());
        assert_eq!(lock.depth(), 1);
        // The data is as suspect at the second taking as at the first.
        let again = owner_died(lock.lock());
        assert_eq!(lock.depth(), 2);
        heir.make_consistent();
        drop(lock.lock().unwrap());
        drop((heir, again));
        assert!(is_free(&lock));
    }
}

fn a_death_is_reported_until_somebody_makes_it_consistent() {
    let lock = RLock::new().unwrap();
    fork_and_hold(|| hold(&lock, 3)).kill();
    for _ in 0..3 {
        drop(owner_died(lock.lock()));
        fork_child(|| drop(owner_died(lock.try_lock()))).join_ok();
    }
    // An heir that dies leaves the same report.
    fork_and_hold(|| mem::forget(owner_died(lock.lock()))).kill();
    owner_died(lock.lock()).make_consistent();
    drop(lock.lock().unwrap());
}

fn a_panic_poisons_until_somebody_makes_it_consistent() {
    let lock = RLock::new().unwrap();
    let outer = lock.lock().unwrap();
    let unwound = panic::catch_unwind(AssertUnwindSafe(|| {
        let _inner = lock.lock().unwrap();
        panic_quietly();
    }));
    assert!(unwound.is_err());
    assert_eq!(lock.depth(), 1);
    drop(poisoned(lock.lock()));
    drop(outer);
    fork_child(|| drop(poisoned(lock.lock()))).join_ok();
    poisoned(lock.lock()).make_consistent();
    drop(lock.lock().unwrap());
}

fn a_killed_sleeper_and_a_killed_heir_hold_nobody_up() {
    let lock = RLock::new().unwrap();
    for _ in 0..100 {
        let holder = fork_and_hold(|| hold(&lock, 2));
        let mut sleepers: Vec<_> = (0..3)
            .map(|_| {
                fork_child(|| match lock.lock() {
                    Ok(_) => {}
                    Err(LockError::OwnerDied(mut guard)) => guard.make_consistent(),
                    other => panic!("{other:?}"),
                })
            })
            .collect();
        until(|| sleepers.iter().all(|sleeper| is_asleep_in_futex(sleeper.pid())));
        // The first in the queue is the one that the death wakes.
        holder.kill();
        nix::sys::signal::kill(sleepers[0].pid(), nix::sys::signal::Signal::SIGKILL).unwrap();
        let _ = sleepers.remove(0).join();
        sleepers.into_iter().for_each(support::Child::join_ok);
    }
}

fn a_thread_that_ends_holding_is_a_dead_holder() {
    let lock = RLock::new().unwrap();
    let clone = lock.clone();
    thread::spawn(move || hold(&clone, 2)).join().unwrap();
    owner_died(lock.lock()).make_consistent();
    assert!(is_free(&lock));
}

fn ten_thousand_deaths_leave_it_as_it_was() {
    let lock = RLock::new().unwrap();
    drop(lock.lock().unwrap());
    let (descriptors, mapped) = (support::descriptors(), support::address_space());
    for death in 0..10_000 {
        let child = fork_child(|| {
            hold(&lock, 1 + death % 3);
            nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).unwrap();
        });
        let _ = child.join();
        owner_died(lock.try_lock()).make_consistent();
    }
    assert_eq!(lock.depth(), 0);
    drop(lock.lock().unwrap());
    assert_eq!(support::descriptors(), descriptors);
    assert!(support::address_space() <= mapped + (1 << 20));
}

fn a_thread_may_hold_2040_and_take_each_of_them_again() {
    let region = Region::anonymous(128 * 2_050).unwrap();
    let locks: Vec<_> = (0..2_041).map(|_| RLock::new_in(&region).unwrap()).collect();
    let guards: Vec<_> = locks[..2_040].iter().map(|lock| lock.lock().unwrap()).collect();
    assert!(matches!(locks[2_040].lock(), Err(LockError::TooManyHeld { held: 2_040, limit: 2_040 })));
    assert!(matches!(Lock::new().unwrap().try_lock(), Err(LockError::TooManyHeld { .. })));
    drop(locks[7].lock().unwrap());
    drop(guards);
    drop(locks[2_040].lock().unwrap());
}

fn a_full_region_is_an_error() {
    let region = Region::anonymous(4096).unwrap();
    let first = RLock::new_in(&region).unwrap();
    while RLock::new_in(&region).is_ok() {}
    assert!(matches!(RLock::new_in(&region), Err(RegionError::NoRoom { need: 128, .. })));
    drop(first.lock().unwrap());
}

// lock_tests.BaseLockTests.test_repr, test_locked_repr, and RLockTests.test_repr_count.
fn debug_and_errors_tell_state_owner_and_depth() {
    let lock = RLock::new().unwrap();
    assert_eq!(format!("{lock:?}"), "RLock { state: free, depth: 0 }");
    let outer = lock.lock().unwrap();
    let _inner = lock.lock().unwrap();
    let state = format!("{{ state: held by thread {}, depth: 2 }}", gettid());
    assert_eq!(
        (format!("{lock:?}"), format!("{outer:?}")),
        (format!("RLock {state}"), format!("RLockGuard {state}"))
    );
    let (deep, strange) = (LockError::<()>::TooDeep { limit: 9 }, LockError::<()>::StrangeOwner { tid: 5 });
    assert_eq!(deep.to_string(), "taken too often by this thread: limit is 9");
    assert_eq!(format!("{deep:?} {strange:?}"), "TooDeep { limit: 9 } StrangeOwner { tid: 5 }");
    let text = "the lock names thread 5, which is the calling one, but another process wrote that";
    assert_eq!(strange.to_string(), text);
    assert!(strange.into_guard().is_none());
}
