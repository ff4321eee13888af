//! What `Lock` promises, with really forked children.
//!
//! The first three restate CPython's `_TestLock`; the rest is about what CPython's suite never does: killing a process
//! that takes part.

mod support;

use std::{
    ffi::CString,
    fs, mem,
    panic::{self, AssertUnwindSafe},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use nix::{
    libc,
    sys::{
        signal::{Signal, kill, raise},
        wait::WaitStatus,
    },
    unistd::{execv, gettid},
};
use pshared::{Deadline, Lock, LockError, LockGuard, Region};
use support::{fork_child, is_asleep_in_futex, page::Page, until};

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
        lock_reports_owner_died_when_its_holder_is_killed,
        every_form_of_taking_reports_a_death_with_the_guard_inside,
        a_death_is_reported_until_somebody_makes_it_consistent,
        an_heir_that_dies_leaves_the_same_report,
        sleepers_learn_of_a_death_and_pass_the_lock_on_as_they_die,
        a_panic_poisons_until_somebody_makes_it_consistent,
        a_panic_before_the_lock_was_taken_does_not_poison,
        a_child_that_panics_poisons_for_its_parent,
        a_thread_that_ends_holding_is_a_dead_holder,
        a_process_that_exits_holding_is_a_dead_holder,
        an_exec_while_holding_is_a_death,
        a_guard_dropped_in_a_forked_child_does_nothing,
        a_guard_dropped_in_a_childs_child_does_nothing,
        a_copied_guard_does_not_free_what_the_child_took_itself,
        a_copied_guard_cannot_make_the_lock_consistent,
        a_child_holds_none_of_its_parents_locks,
        all_locks_of_a_killed_process_are_marked_in_any_release_order,
        libcs_robust_mutexes_and_ours_share_one_list,
        a_thread_may_hold_2040_locks_and_no_more,
        all_2040_locks_of_a_killed_process_are_marked,
        a_forgotten_guard_keeps_its_memory_and_the_list_whole,
        a_forgotten_guards_lock_is_reported_when_its_thread_is_gone,
        a_sleeper_killed_in_its_sleep_does_not_swallow_the_next_wake,
        a_sleeper_killed_as_it_is_woken_does_not_swallow_the_wake,
        a_hundred_processes_count_exactly,
        counting_stays_exact_while_holders_are_killed,
        ten_thousand_deaths_leave_the_lock_as_it_was,
        a_lock_is_sent_and_shared_between_threads,
        a_clone_is_the_same_lock,
        debug_output_tells_state_and_owner,
        errors_say_what_happened,
    ])
}

/// The calling thread holds the lock from now on, whatever the lock has to say.
fn hold(lock: &Lock) {
    mem::forget(lock.lock().or_else(|error| error.into_guard().ok_or(())).expect("the lock"));
}

fn is_free(lock: &Lock) -> bool {
    lock.try_lock().is_ok()
}

fn owner_died<'a>(taken: Result<LockGuard<'a>, LockError<LockGuard<'a>>>) -> LockGuard<'a> {
    match taken {
        Err(LockError::OwnerDied(guard)) => guard,
        other => panic!("expected OwnerDied, not {other:?}"),
    }
}

fn poisoned<'a>(taken: Result<LockGuard<'a>, LockError<LockGuard<'a>>>) -> LockGuard<'a> {
    match taken {
        Err(LockError::Poisoned(guard)) => guard,
        other => panic!("expected Poisoned, not {other:?}"),
    }
}

/// Forks a child that runs `body` and then holds on until it is killed; returns when `body` is through.
fn fork_and_hold(body: impl FnOnce()) -> support::Child {
    let page = Page::new();
    let child = fork_child(|| {
        body();
        page.set(0, 1);
        sleep_for_ever();
    });
    until(|| page.get(0) == 1);
    child
}

fn sleep_for_ever() -> ! {
    loop {
        thread::sleep(Duration::from_secs(1000));
    }
}

/// Panics without a message on stderr.
fn panic_quietly() -> ! {
    panic::resume_unwind(Box::new(()))
}

/// How many mappings of this crate's memory this process has.
fn our_mappings() -> usize {
    let maps = fs::read_to_string("/proc/self/maps").expect("maps");
    maps.lines().filter(|line| line.contains("memfd:pshared")).count()
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

fn lock_reports_owner_died_when_its_holder_is_killed() {
    let lock = Lock::new().unwrap();
    let ready = Lock::new().unwrap();
    let gate = ready.lock().unwrap();
    let holder = fork_child(|| {
        mem::forget(lock.lock().unwrap());
        let _ = ready.lock();
    });
    holder.until_asleep();
    assert!(matches!(lock.lock_timeout(Duration::from_millis(10)), Err(LockError::TimedOut)));
    holder.kill();
    owner_died(lock.lock()).make_consistent();
    drop(lock.lock().unwrap());
    drop(gate);
}

fn every_form_of_taking_reports_a_death_with_the_guard_inside() {
    let lock = Lock::new().unwrap();
    for form in 0..4 {
        fork_and_hold(|| hold(&lock)).kill();
        let mut guard = owner_died(match form {
            0 => lock.lock(),
            1 => lock.try_lock(),
            2 => lock.lock_timeout(Duration::from_millis(1)),
            _ => lock.lock_deadline(Deadline::now()),
        });
        assert!(!is_free(&lock), "the guard inside holds");
        guard.make_consistent();
        drop(guard);
        assert!(is_free(&lock));
    }
}

fn a_death_is_reported_until_somebody_makes_it_consistent() {
    let lock = Lock::new().unwrap();
    fork_and_hold(|| hold(&lock)).kill();
    for _ in 0..3 {
        drop(owner_died(lock.lock()));
    }
    fork_child(|| drop(owner_died(lock.try_lock()))).join_ok();
    fork_child(|| owner_died(lock.lock()).make_consistent()).join_ok();
    for _ in 0..3 {
        drop(lock.lock().unwrap());
    }
}

fn an_heir_that_dies_leaves_the_same_report() {
    let lock = Lock::new().unwrap();
    for _ in 0..5 {
        fork_and_hold(|| hold(&lock)).kill();
    }
    // One that dies after it made the data consistent has changed them again, for all we know.
    fork_and_hold(|| {
        let mut guard = owner_died(lock.lock());
        guard.make_consistent();
        mem::forget(guard);
    })
    .kill();
    owner_died(lock.lock()).make_consistent();
    assert!(is_free(&lock));
}

fn sleepers_learn_of_a_death_and_pass_the_lock_on_as_they_die() {
    let lock = Lock::new().unwrap();
    let page = Page::new();
    let holder = fork_and_hold(|| hold(&lock));
    let sleepers: Vec<_> = (0..10)
        .map(|_| {
            fork_child(|| {
                mem::forget(owner_died(lock.lock()));
                page.add(0, 1);
                raise(Signal::SIGKILL).unwrap();
            })
        })
        .collect();
    sleepers.iter().for_each(support::Child::until_asleep);
    holder.kill();
    for sleeper in sleepers {
        assert!(matches!(sleeper.join(), WaitStatus::Signaled(_, Signal::SIGKILL, _)));
    }
    assert_eq!(page.get(0), 10);
    owner_died(lock.lock()).make_consistent();
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

fn a_thread_that_ends_holding_is_a_dead_holder() {
    let lock = Lock::new().unwrap();
    for _ in 0..100 {
        thread::scope(|scope| scope.spawn(|| hold(&lock)).join()).unwrap();
        owner_died(lock.lock()).make_consistent();
    }
    // While others sleep on it, in the same process and in another.
    let page = Page::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            hold(&lock);
            page.set(0, 1);
            until(|| page.get(1) == 1);
        });
        until(|| page.get(0) == 1);
        let sleeper = scope.spawn(|| drop(owner_died(lock.lock())));
        thread::sleep(Duration::from_millis(20));
        page.set(1, 1);
        sleeper.join().unwrap();
    });
    owner_died(lock.lock()).make_consistent();
    assert!(is_free(&lock));
}

fn a_process_that_exits_holding_is_a_dead_holder() {
    let lock = Lock::new().unwrap();
    fork_child(|| hold(&lock)).join_ok();
    owner_died(lock.lock()).make_consistent();
    assert!(is_free(&lock));
}

fn an_exec_while_holding_is_a_death() {
    let (lock, other) = (Lock::new().unwrap(), Lock::new().unwrap());
    let page = Page::new();
    let child = fork_child(|| {
        hold(&lock);
        hold(&other);
        page.set(0, 1);
        let words = [c"sleep".to_owned(), c"1000".to_owned()];
        let shell: CString = c"/bin/sleep".to_owned();
        execv(&shell, &words).unwrap();
    });
    until(|| page.get(0) == 1);
    drop(owner_died(lock.lock()));
    drop(owner_died(other.lock()));
    assert!(matches!(kill(child.pid(), None), Ok(())), "the process itself lives on");
    child.kill();
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

fn all_locks_of_a_killed_process_are_marked_in_any_release_order() {
    let locks: Vec<Lock> = (0..4).map(|_| Lock::new().unwrap()).collect();
    // Every order in which two of the four are freed before the kill.
    for (first, second) in (0..4).flat_map(|a| (0..4).map(move |b| (a, b))).filter(|(a, b)| a != b) {
        fork_and_hold(|| {
            let mut guards: Vec<_> = locks.iter().map(|lock| Some(lock.lock().unwrap())).collect();
            guards[first] = None;
            guards[second] = None;
            mem::forget(guards);
        })
        .kill();
        for (index, lock) in locks.iter().enumerate() {
            if index == first || index == second {
                assert!(lock.try_lock().is_ok(), "{index} was freed before {first}, {second}");
            } else {
                owner_died(lock.try_lock()).make_consistent();
            }
        }
    }
}

fn libcs_robust_mutexes_and_ours_share_one_list() {
    let ours: Vec<Lock> = (0..3).map(|_| Lock::new().unwrap()).collect();
    let page = Page::new();
    let libcs: Vec<_> = (0..3).map(|slot| page.mutex(slot, true)).collect();
    // Taken in turns: libc's 0, our 0, libc's 1, our 1, libc's 2, our 2. Then these go, in this order, before the kill.
    let orders: [&[usize]; 8] = [&[], &[2], &[3], &[2, 3], &[3, 2], &[0, 5], &[5, 0, 3], &[1, 4, 2, 3]];
    for freed in orders {
        fork_and_hold(|| {
            let mut guards = [None, None, None];
            for index in 0..3 {
                assert_eq!(libcs[index].lock(), 0);
                guards[index] = Some(ours[index].lock().unwrap());
            }
            for &which in freed {
                if which % 2 == 0 { libcs[which / 2].unlock() } else { guards[which / 2] = None }
            }
            mem::forget(guards);
        })
        .kill();
        for which in 0..6 {
            let was_freed = freed.contains(&which);
            if which % 2 == 1 {
                match ours[which / 2].try_lock() {
                    Ok(_) => assert!(was_freed, "our {} after {freed:?}", which / 2),
                    Err(LockError::OwnerDied(mut guard)) => {
                        assert!(!was_freed);
                        guard.make_consistent();
                    }
                    other => panic!("our {} after {freed:?}: {other:?}", which / 2),
                };
            } else {
                let expected = if was_freed { 0 } else { libc::EOWNERDEAD };
                assert_eq!(libcs[which / 2].lock(), expected, "libc's {} after {freed:?}", which / 2);
                libcs[which / 2].make_consistent();
                libcs[which / 2].unlock();
            }
        }
    }
}

fn many_locks(count: usize) -> Vec<Lock> {
    let region = Region::anonymous(128 * (count + 1)).unwrap();
    (0..count).map(|_| Lock::new_in(&region).unwrap()).collect()
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
    guards.swap_remove(7);
    let again = locks[2_041].lock().unwrap();
    assert!(matches!(locks[7].lock(), Err(LockError::TooManyHeld { .. })));
    drop(again);
    // A forked child holds none.
    fork_child(|| drop(locks[2_041].lock().unwrap())).join_ok();
    drop(guards);
    assert!(locks.iter().all(is_free));
}

fn all_2040_locks_of_a_killed_process_are_marked() {
    let locks = many_locks(2_040);
    fork_and_hold(|| locks.iter().for_each(hold)).kill();
    for lock in &locks {
        owner_died(lock.try_lock()).make_consistent();
    }
    assert!(locks.iter().all(is_free));
}

fn a_forgotten_guard_keeps_its_memory_and_the_list_whole() {
    let (before, after) = (Lock::new().unwrap(), Lock::new().unwrap());
    let page = Page::new();
    let libcs = page.mutex(0, true);
    fork_and_hold(|| {
        hold(&before);
        let mapped = our_mappings();
        {
            let region = Region::anonymous(1 << 16).unwrap();
            hold(&Lock::new_in(&region).unwrap());
        }
        assert_eq!(our_mappings(), mapped + 1, "memory with a held lock was unmapped");
        {
            let region = Region::anonymous(1 << 16).unwrap();
            drop(Lock::new_in(&region).unwrap().lock().unwrap());
        }
        assert_eq!(our_mappings(), mapped + 1, "memory with a free lock stayed");
        // Linking behind the forgotten entry writes to it.
        assert_eq!(libcs.lock(), 0);
        hold(&after);
    })
    .kill();
    drop(owner_died(before.try_lock()));
    drop(owner_died(after.try_lock()));
    assert_eq!(libcs.lock(), libc::EOWNERDEAD);
    libcs.make_consistent();
    libcs.unlock();
}

fn a_forgotten_guards_lock_is_reported_when_its_thread_is_gone() {
    let lock = Lock::new().unwrap();
    let clone = lock.clone();
    thread::spawn(move || hold(&clone)).join().unwrap();
    owner_died(lock.try_lock()).make_consistent();
    // With the thread gone, nothing keeps memory that only it had a handle to.
    let mapped = our_mappings();
    thread::spawn(|| hold(&Lock::new_in(&Region::anonymous(4096).unwrap()).unwrap())).join().unwrap();
    assert!(our_mappings() <= mapped + 1);
}

fn a_sleeper_killed_in_its_sleep_does_not_swallow_the_next_wake() {
    let lock = Lock::new().unwrap();
    for round in 0..100 {
        let guard = lock.lock().unwrap();
        let victim = fork_child(|| drop(lock.lock().unwrap()));
        victim.until_asleep();
        let sleeper = fork_child(|| drop(lock.lock().unwrap()));
        sleeper.until_asleep();
        // Both orders of the two queue places.
        let (victim, sleeper) = if round % 2 == 0 { (victim, sleeper) } else { (sleeper, victim) };
        victim.kill();
        drop(guard);
        sleeper.join_ok();
    }
    assert!(is_free(&lock));
}

fn a_sleeper_killed_as_it_is_woken_does_not_swallow_the_wake() {
    let lock = Lock::new().unwrap();
    for _ in 0..300 {
        let guard = lock.lock().unwrap();
        let victim = fork_child(|| drop(lock.lock()));
        victim.until_asleep();
        let sleeper = fork_child(|| drop(lock.lock()));
        sleeper.until_asleep();
        drop(guard);
        kill(victim.pid(), Signal::SIGKILL).unwrap();
        sleeper.join_ok();
        let _ = victim.join();
        // The victim may have died holding.
        match lock.try_lock() {
            Ok(_) => {}
            Err(LockError::OwnerDied(mut guard)) => guard.make_consistent(),
            other => panic!("{other:?}"),
        }
    }
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

fn counting_stays_exact_while_holders_are_killed() {
    let lock = Lock::new().unwrap();
    let page = Page::new();
    let (data, check, stop) = (0, 1, 2);
    let work = || {
        while page.get(stop) == 0 {
            let mut guard = match lock.lock() {
                Ok(guard) => guard,
                Err(LockError::OwnerDied(guard)) => {
                    // The dead may have stood between the two: the first is taken back.
                    page.set(data, page.get(check));
                    guard
                }
                Err(other) => panic!("{other:?}"),
            };
            assert_eq!(page.get(data), page.get(check));
            page.add_one_in_two_steps(data);
            page.add_one_in_two_steps(check);
            guard.make_consistent();
        }
    };
    let steady: Vec<_> = (0..2).map(|_| fork_child(work)).collect();
    for round in 0..300 {
        let victim = fork_child(work);
        thread::sleep(Duration::from_micros(500 + 7 * round));
        victim.kill();
    }
    page.set(stop, 1);
    steady.into_iter().for_each(support::Child::join_ok);
    assert!(page.get(data) > 0);
}

fn ten_thousand_deaths_leave_the_lock_as_it_was() {
    let lock = Lock::new().unwrap();
    let count_maps = || fs::read_to_string("/proc/self/maps").expect("maps").lines().count();
    fork_child(|| hold(&lock)).join_ok();
    owner_died(lock.lock()).make_consistent();
    let (descriptors, mappings, ours) = (support::descriptors(), count_maps(), our_mappings());
    let fresh = format!("{lock:?}");
    for _ in 0..10_000 {
        let child = fork_child(|| {
            hold(&lock);
            raise(Signal::SIGKILL).unwrap();
        });
        assert!(matches!(child.join(), WaitStatus::Signaled(_, Signal::SIGKILL, _)));
        owner_died(lock.try_lock()).make_consistent();
    }
    assert_eq!((support::descriptors(), our_mappings()), (descriptors, ours));
    assert!(count_maps() <= mappings + 2, "{mappings} mappings before, {} after", count_maps());
    assert_eq!(format!("{lock:?}"), fresh);
    drop(lock.try_lock().unwrap());
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
