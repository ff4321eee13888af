//! What `Lock` promises while all live, with really forked children. `lock_deaths.rs` has the rest.
//!
//! The first three restate CPython's `_TestLock`.

mod support;

use std::{
    mem,
    panic::{self, AssertUnwindSafe},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use nix::{
    libc,
    sys::{
        signal::{Signal, kill},
        wait::WaitStatus,
    },
    unistd::gettid,
};
use pshared::{Deadline, Lock, LockError};
use support::{
    fork_child, is_asleep_in_futex,
    locks::{fork_and_hold, hold, is_free, many_locks, owner_died, panic_quietly, poisoned},
    page::Page,
    until,
};

fn main() -> ExitCode {
    support::main(support::tests![
        a_lock_is_taken_once_and_freed_by_its_guard,
        a_lock_is_free_after_its_scope_and_inside_it_is_not,
        only_the_guard_frees_so_there_is_no_release_too_many,
        a_lock_held_by_another_process_is_refused_at_once_by_try_lock,
        a_lock_held_by_this_thread_is_refused_by_every_form,
        a_timed_wait_takes_at_least_its_time,
        a_zero_timeout_and_a_past_deadline_try_once,
        signals_neither_end_nor_shorten_a_wait,
        a_sleeper_gets_the_lock_when_it_is_freed,
        a_stopped_holder_is_not_a_dead_one,
        a_panic_poisons_until_somebody_makes_it_consistent,
        a_panic_before_the_lock_was_taken_does_not_poison,
        a_child_that_panics_poisons_for_its_parent,
        a_guard_dropped_in_a_forked_child_does_nothing,
        a_guard_dropped_in_a_childs_child_does_nothing,
        a_copied_guard_does_not_free_what_the_child_took_itself,
        a_copied_guard_cannot_make_the_lock_consistent,
        a_child_holds_none_of_its_parents_locks,
        a_thread_may_hold_2040_locks_and_no_more,
        a_hundred_processes_count_exactly,
        a_lock_is_sent_and_shared_between_threads,
        a_clone_is_the_same_lock,
        debug_output_tells_state_and_owner,
        errors_say_what_happened,
    ])
}

// CPython, _TestLock.test_lock: acquire, a second acquire(False) is refused, release.
fn a_lock_is_taken_once_and_freed_by_its_guard() {
    let lock = Lock::new().unwrap();
    let guard = lock.lock().unwrap();
    assert!(matches!(lock.try_lock(), Err(LockError::WouldBlock)));
    drop(guard);
    drop(lock.try_lock().unwrap());
    drop(lock.lock().unwrap());
}

// CPython, _TestLock.test_lock_context: `with lock: pass`.
fn a_lock_is_free_after_its_scope_and_inside_it_is_not() {
    let lock = Lock::new().unwrap();
    {
        let _guard = lock.lock().unwrap();
        assert!(!is_free(&lock));
    }
    assert!(is_free(&lock));
}

// CPython, _TestLock.test_lock ends with a release of the free lock, a ValueError. Here freeing is the drop of a guard,
// which happens once: what can be shown is that the drop frees that one hold and no later one.
fn only_the_guard_frees_so_there_is_no_release_too_many() {
    let lock = Lock::new().unwrap();
    let first = lock.lock().unwrap();
    drop(first);
    let second = lock.lock().unwrap();
    assert!(!is_free(&lock));
    drop(second);
    assert!(is_free(&lock));
}

fn a_lock_held_by_another_process_is_refused_at_once_by_try_lock() {
    let lock = Lock::new().unwrap();
    let holder = fork_and_hold(|| hold(&lock));
    assert!(matches!(lock.try_lock(), Err(LockError::WouldBlock)));
    holder.kill();
}

fn a_lock_held_by_this_thread_is_refused_by_every_form() {
    let lock = Lock::new().unwrap();
    let guard = lock.lock().unwrap();
    assert!(matches!(lock.lock(), Err(LockError::AlreadyHeld)));
    assert!(matches!(lock.try_lock(), Err(LockError::WouldBlock)));
    assert!(matches!(lock.lock_timeout(Duration::MAX), Err(LockError::AlreadyHeld)));
    assert!(matches!(lock.lock_timeout(Duration::ZERO), Err(LockError::AlreadyHeld)));
    drop(guard);
    assert!(is_free(&lock), "the refusals changed nothing");
}

fn a_timed_wait_takes_at_least_its_time() {
    let lock = Lock::new().unwrap();
    let holder = fork_and_hold(|| hold(&lock));
    for millis in [1, 20, 100] {
        let timeout = Duration::from_millis(millis);
        let start = Instant::now();
        assert!(matches!(lock.lock_timeout(timeout), Err(LockError::TimedOut)));
        assert!(start.elapsed() >= timeout);
        let deadline = Deadline::after(timeout);
        assert!(matches!(lock.lock_deadline(deadline), Err(LockError::TimedOut)));
        assert!(deadline.has_passed());
    }
    holder.kill();
    drop(owner_died(lock.lock_timeout(Duration::from_secs(1000))));
}

fn a_zero_timeout_and_a_past_deadline_try_once() {
    let lock = Lock::new().unwrap();
    drop(lock.lock_timeout(Duration::ZERO).unwrap());
    let past = Deadline::now();
    drop(lock.lock_deadline(past).unwrap());
    let holder = fork_and_hold(|| hold(&lock));
    assert!(matches!(lock.lock_timeout(Duration::ZERO), Err(LockError::TimedOut)));
    assert!(matches!(lock.lock_deadline(past), Err(LockError::TimedOut)));
    holder.kill();
    drop(owner_died(lock.lock_timeout(Duration::ZERO)));
}

// CPython pins the same in _TestIgnoreEINTR.
fn signals_neither_end_nor_shorten_a_wait() {
    extern "C" fn ignore(_: libc::c_int) {}
    let lock = Lock::new().unwrap();
    let holder = fork_and_hold(|| hold(&lock));
    let every = libc::timeval { tv_sec: 0, tv_usec: 2_000 };
    let never = libc::timeval { tv_sec: 0, tv_usec: 0 };
    // SAFETY: the handler does nothing; without SA_RESTART it interrupts every wait.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = ignore as extern "C" fn(libc::c_int) as usize;
        assert_eq!(libc::sigaction(libc::SIGALRM, &action, std::ptr::null_mut()), 0);
        let timer = libc::itimerval { it_interval: every, it_value: every };
        libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut());
    }
    let timeout = Duration::from_millis(60);
    let start = Instant::now();
    assert!(matches!(lock.lock_timeout(timeout), Err(LockError::TimedOut)));
    assert!(start.elapsed() >= timeout);
    let killer = fork_child(|| {
        thread::sleep(Duration::from_millis(40));
        kill(holder.pid(), Signal::SIGKILL).unwrap();
    });
    drop(owner_died(lock.lock()));
    // SAFETY: stops the timer.
    unsafe {
        let timer = libc::itimerval { it_interval: never, it_value: never };
        libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut());
    }
    killer.join_ok();
    assert!(matches!(holder.join(), WaitStatus::Signaled(_, Signal::SIGKILL, _)));
}

fn a_sleeper_gets_the_lock_when_it_is_freed() {
    let lock = Lock::new().unwrap();
    for _ in 0..100 {
        let guard = lock.lock().unwrap();
        let sleepers: Vec<_> = (0..3).map(|_| fork_child(|| drop(lock.lock().unwrap()))).collect();
        sleepers.iter().for_each(support::Child::until_asleep);
        drop(guard);
        sleepers.into_iter().for_each(support::Child::join_ok);
    }
    assert!(is_free(&lock));
}

fn a_stopped_holder_is_not_a_dead_one() {
    let lock = Lock::new().unwrap();
    let page = Page::new();
    let holder = fork_child(|| {
        let guard = lock.lock().unwrap();
        page.set(0, 1);
        until(|| page.get(1) == 1);
        drop(guard);
    });
    until(|| page.get(0) == 1);
    kill(holder.pid(), Signal::SIGSTOP).unwrap();
    page.set(1, 1);
    assert!(matches!(lock.lock_timeout(Duration::from_millis(50)), Err(LockError::TimedOut)));
    kill(holder.pid(), Signal::SIGCONT).unwrap();
    drop(lock.lock().unwrap());
    holder.join_ok();
}

fn a_panic_poisons_until_somebody_makes_it_consistent() {
    let lock = Lock::new().unwrap();
    let unwound = panic::catch_unwind(AssertUnwindSafe(|| {
        let _guard = lock.lock().unwrap();
        panic_quietly();
    }));
    assert!(unwound.is_err());
    for _ in 0..3 {
        drop(poisoned(lock.lock()));
        drop(poisoned(lock.try_lock()));
        fork_child(|| drop(poisoned(lock.lock_timeout(Duration::from_secs(10))))).join_ok();
    }
    poisoned(lock.lock()).make_consistent();
    drop(lock.lock().unwrap());
    // A death on top of a panic is told as a death.
    let _ = panic::catch_unwind(AssertUnwindSafe(|| {
        let _guard = lock.lock().unwrap();
        panic_quietly();
    }));
    fork_and_hold(|| mem::forget(poisoned(lock.lock()))).kill();
    owner_died(lock.lock()).make_consistent();
    drop(lock.lock().unwrap());
}

fn a_panic_before_the_lock_was_taken_does_not_poison() {
    struct LocksInDrop<'a>(&'a Lock);
    impl Drop for LocksInDrop<'_> {
        fn drop(&mut self) {
            drop(self.0.lock().unwrap());
        }
    }
    let lock = Lock::new().unwrap();
    let unwound = panic::catch_unwind(AssertUnwindSafe(|| {
        let _locks = LocksInDrop(&lock);
        panic_quietly();
    }));
    assert!(unwound.is_err());
    drop(lock.lock().unwrap());
}

fn a_child_that_panics_poisons_for_its_parent() {
    let lock = Lock::new().unwrap();
    let child = fork_child(|| {
        let _guard = lock.lock().unwrap();
        panic_quietly();
    });
    assert!(matches!(child.join(), WaitStatus::Exited(_, 101)));
    poisoned(lock.lock()).make_consistent();
    assert!(is_free(&lock));
}

fn a_guard_dropped_in_a_forked_child_does_nothing() {
    let lock = Lock::new().unwrap();
    let mut guard = Some(lock.lock().unwrap());
    fork_child(|| {
        drop(guard.take());
        assert!(matches!(lock.try_lock(), Err(LockError::WouldBlock)));
    })
    .join_ok();
    assert!(matches!(lock.try_lock(), Err(LockError::WouldBlock)));
    fork_child(|| assert!(matches!(lock.try_lock(), Err(LockError::WouldBlock)))).join_ok();
    drop(guard);
    assert!(is_free(&lock));
}

fn a_guard_dropped_in_a_childs_child_does_nothing() {
    let lock = Lock::new().unwrap();
    let mut guard = Some(lock.lock().unwrap());
    fork_child(|| {
        fork_child(|| {
            drop(guard.take());
            assert!(matches!(lock.try_lock(), Err(LockError::WouldBlock)));
        })
        .join_ok();
        drop(guard.take());
        assert!(matches!(lock.try_lock(), Err(LockError::WouldBlock)));
    })
    .join_ok();
    assert!(!is_free(&lock));
    drop(guard);
    assert!(is_free(&lock));
}

fn a_copied_guard_does_not_free_what_the_child_took_itself() {
    let lock = Lock::new().unwrap();
    let page = Page::new();
    let mut guard = Some(lock.lock().unwrap());
    let child = fork_child(|| {
        let own = lock.lock().unwrap();
        drop(guard.take());
        assert!(!is_free(&lock), "the copy freed the child's own hold");
        page.set(0, 1);
        // A child of the child has copies of neither's hold.
        let mut own = Some(own);
        fork_child(|| drop(own.take())).join_ok();
        until(|| page.get(1) == 1);
        drop(own);
    });
    drop(guard.take());
    until(|| page.get(0) == 1);
    assert!(!is_free(&lock));
    page.set(1, 1);
    child.join_ok();
    assert!(is_free(&lock));
}

fn a_copied_guard_cannot_make_the_lock_consistent() {
    let lock = Lock::new().unwrap();
    fork_and_hold(|| hold(&lock)).kill();
    let mut guard = owner_died(lock.lock());
    fork_child(|| guard.make_consistent()).join_ok();
    drop(guard);
    owner_died(lock.lock()).make_consistent();
    assert!(is_free(&lock));
}

fn a_child_holds_none_of_its_parents_locks() {
    let lock = Lock::new().unwrap();
    let guard = lock.lock().unwrap();
    // It would be AlreadyHeld if the child were taken for its parent, and its death would mark the lock.
    fork_child(|| assert!(matches!(lock.lock_timeout(Duration::from_millis(5)), Err(LockError::TimedOut))))
        .join_ok();
    fork_and_hold(|| ()).kill();
    drop(guard);
    drop(lock.lock().unwrap());
}

fn a_thread_may_hold_2040_locks_and_no_more() {
    let locks = many_locks(2_042);
    let mut guards: Vec<_> = locks[..2_040].iter().map(|lock| lock.lock().unwrap()).collect();
    for refused in [locks[2_040].lock(), locks[2_040].try_lock(), locks[0].try_lock()] {
        match refused {
            Err(LockError::TooManyHeld { held, limit }) => assert_eq!((held, limit), (2_040, 2_040)),
            other => panic!("{other:?}"),
        }
    }
    // Another thread counts for itself; and a place that is given back can be had again.
    thread::scope(|scope| scope.spawn(|| drop(locks[2_040].lock().unwrap())).join()).unwrap();
    drop(guards.swap_remove(7));
    let again = locks[2_041].lock().unwrap();
    assert!(matches!(locks[7].lock(), Err(LockError::TooManyHeld { .. })));
    drop(again);
    // A forked child holds none.
    fork_child(|| drop(locks[2_041].lock().unwrap())).join_ok();
    drop(guards);
    assert!(locks.iter().all(is_free));
}

fn a_hundred_processes_count_exactly() {
    const EACH: u32 = 500;
    let lock = Lock::new().unwrap();
    let page = Page::new();
    let start = lock.lock().unwrap();
    let children: Vec<_> = (0..100)
        .map(|_| {
            fork_child(|| {
                for _ in 0..EACH {
                    let _guard = lock.lock().unwrap();
                    page.add_one_in_two_steps(0);
                }
            })
        })
        .collect();
    until(|| children.iter().all(|child| is_asleep_in_futex(child.pid())));
    drop(start);
    children.into_iter().for_each(support::Child::join_ok);
    assert_eq!(page.get(0), 100 * EACH);
    assert!(is_free(&lock));
}

fn a_lock_is_sent_and_shared_between_threads() {
    let lock = Lock::new().unwrap();
    let sent = thread::spawn(move || {
        drop(lock.lock().unwrap());
        lock
    });
    let lock = sent.join().unwrap();
    let page = Page::new();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5_000 {
                    let _guard = lock.lock().unwrap();
                    page.add_one_in_two_steps(0);
                }
            });
        }
    });
    assert_eq!(page.get(0), 20_000);
    // Made in a thread that is gone: the memory lives as long as the handle.
    let made = thread::spawn(|| Lock::new().unwrap()).join().unwrap();
    fork_child(|| drop(made.lock().unwrap())).join_ok();
    drop(made.lock().unwrap());
}

fn a_clone_is_the_same_lock() {
    let lock = Lock::new().unwrap();
    let clone = lock.clone();
    let guard = clone.lock().unwrap();
    assert!(matches!(lock.try_lock(), Err(LockError::WouldBlock)));
    drop(guard);
    drop(clone);
    assert!(is_free(&lock));
}

fn debug_output_tells_state_and_owner() {
    let lock = Lock::new().unwrap();
    assert_eq!(format!("{lock:?}"), "Lock { state: free }");
    let guard = lock.lock().unwrap();
    let me = gettid();
    assert_eq!(format!("{lock:?}"), format!("Lock {{ state: held by thread {me} }}"));
    assert_eq!(format!("{guard:?}"), format!("LockGuard {{ state: held by thread {me} }}"));
    let sleeper = fork_child(|| drop(lock.lock()));
    sleeper.until_asleep();
    assert_eq!(format!("{lock:?}"), format!("Lock {{ state: held by thread {me}, waiters }}"));
    drop(guard);
    sleeper.join_ok();
    let other = Lock::new().unwrap();
    let holder = fork_and_hold(|| hold(&other));
    assert_eq!(format!("{other:?}"), format!("Lock {{ state: held by thread {} }}", holder.pid()));
    holder.kill();
    assert_eq!(format!("{other:?}"), "Lock { state: free, owner died }");
}

fn errors_say_what_happened() {
    let lock = Lock::new().unwrap();
    let guard = lock.lock().unwrap();
    assert_eq!(lock.try_lock().unwrap_err().to_string(), "the lock is held");
    assert_eq!(lock.lock().unwrap_err().to_string(), "the calling thread holds the lock already");
    drop(guard);
    fork_and_hold(|| hold(&lock)).kill();
    let error = lock.lock().unwrap_err();
    assert_eq!(error.to_string(), "the last holder of the lock died holding it");
    assert_eq!(format!("{error:?}"), "OwnerDied(..)");
    assert!(error.into_guard().is_some());
    assert!(LockError::<()>::TimedOut.into_guard().is_none());
    let too_many = LockError::<()>::TooManyHeld { held: 3, limit: 2 };
    assert_eq!(too_many.to_string(), "too many locks held: this thread holds 3, limit is 2");
}
