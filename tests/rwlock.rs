//! What `RwLock` promises among the living, with really forked children and threads.

mod support;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use pshared::{Atomic, Deadline, Lock, Region, RegionError, RwLock, RwLockError};
use support::{
    fork_child,
    locks::{many_locks, panic_quietly},
    page::Page,
    random::Random,
    until,
};

fn main() -> ExitCode {
    support::main(support::tests![
        many_read_and_one_writes,
        a_writer_is_refused_while_anybody_reads,
        a_reader_is_refused_while_somebody_writes,
        readers_in_other_processes_read_at_the_same_time,
        a_timed_wait_takes_at_least_its_time_and_leaves_no_trace,
        a_zero_timeout_and_a_past_deadline_try_once,
        a_waiting_writer_turns_newcomers_back_and_gets_in,
        a_writer_whose_time_is_up_lets_those_behind_it_go_on,
        a_thread_that_would_wait_for_itself_is_told_so,
        a_thread_may_read_twice_while_no_writer_waits,
        as_many_read_as_may_and_no_more,
        a_thousand_processes_read_at_once,
        a_writer_that_panics_poisons_and_a_reader_does_not,
        a_panic_before_the_lock_was_taken_does_not_poison,
        an_access_while_unwinding_works,
        a_mix_of_threads_counts_exactly,
        a_mix_of_processes_counts_exactly,
        a_downgrade_lets_readers_in_and_no_writer,
        a_downgrade_finds_a_slot_though_newcomers_try_them_all,
        an_upgradable_guard_reads_beside_readers_and_keeps_writers_out,
        an_upgrade_waits_for_readers_and_can_be_given_up,
        an_upgrade_excludes_and_goes_back,
        a_guard_copied_by_a_fork_does_nothing,
        a_child_holds_none_of_its_parents_shares,
        locks_held_are_counted_and_limited,
        four_writers_in_a_loop_do_not_starve_a_reader,
        four_readers_in_a_loop_do_not_starve_a_writer,
        readers_that_only_try_do_not_starve_a_writer,
        sizes_that_cannot_be_are_errors,
        debug_and_errors_tell_what_is,
    ])
}

/// In the spirit of std's `smoke` and `test_rwlock_try_write`.
fn many_read_and_one_writes() {
    let lock = RwLock::new().unwrap();
    drop(lock.read().unwrap());
    drop(lock.write().unwrap());
    drop((lock.read().unwrap(), lock.read().unwrap(), lock.try_read().unwrap()));
    drop(lock.write().unwrap());
    drop(lock.try_write().unwrap());
    drop(lock.read_timeout(Duration::ZERO).unwrap());
    drop(lock.write_timeout(Duration::ZERO).unwrap());
    drop(lock.read_deadline(Deadline::now()).unwrap());
    drop(lock.write_deadline(Deadline::now()).unwrap());
    let clone = lock.clone();
    let guard = clone.write().unwrap();
    assert!(matches!(lock.try_read(), Err(RwLockError::WouldBlock)));
    drop(guard);
    drop(clone);
    drop(lock.try_read().unwrap());
}

fn a_writer_is_refused_while_anybody_reads() {
    let lock = RwLock::new().unwrap();
    let reading = lock.read().unwrap();
    assert!(matches!(lock.try_write(), Err(RwLockError::WouldBlock)));
    fork_child(|| {
        assert!(matches!(lock.try_write(), Err(RwLockError::WouldBlock)));
        assert!(matches!(lock.write_timeout(Duration::from_millis(5)), Err(RwLockError::TimedOut)));
        // A refused writer leaves the lock open.
        drop(lock.try_read().unwrap());
    })
    .join_ok();
    drop(lock.try_read().unwrap());
    drop(reading);
    drop(lock.try_write().unwrap());
}

fn a_reader_is_refused_while_somebody_writes() {
    let lock = RwLock::new().unwrap();
    let writing = lock.write().unwrap();
    fork_child(|| {
        assert!(matches!(lock.try_read(), Err(RwLockError::WouldBlock)));
        assert!(matches!(lock.try_write(), Err(RwLockError::WouldBlock)));
        assert!(matches!(lock.try_upgradable_read(), Err(RwLockError::WouldBlock)));
        assert!(matches!(lock.read_timeout(Duration::from_millis(5)), Err(RwLockError::TimedOut)));
    })
    .join_ok();
    drop(writing);
    fork_child(|| drop(lock.try_read().unwrap())).join_ok();
}

fn readers_in_other_processes_read_at_the_same_time() {
    let lock = RwLock::new().unwrap();
    let inside = Atomic::new(0_u32).unwrap();
    let children: Vec<_> = (0..8)
        .map(|_| {
            fork_child(|| {
                let _guard = lock.read().unwrap();
                inside.fetch_add(1);
                until(|| inside.get() == 8);
            })
        })
        .collect();
    children.into_iter().for_each(support::Child::join_ok);
    drop(lock.try_write().unwrap());
}

fn a_timed_wait_takes_at_least_its_time_and_leaves_no_trace() {
    let lock = RwLock::new().unwrap();
    let time = Duration::from_millis(30);
    let reading = lock.read().unwrap();
    fork_child(|| {
        let start = Instant::now();
        assert!(matches!(lock.write_timeout(time), Err(RwLockError::TimedOut)));
        assert!(start.elapsed() >= time);
    })
    .join_ok();
    drop(reading);
    let writing = lock.write().unwrap();
    fork_child(|| {
        let start = Instant::now();
        assert!(matches!(lock.read_deadline(Deadline::after(time)), Err(RwLockError::TimedOut)));
        assert!(matches!(lock.upgradable_read_timeout(time), Err(RwLockError::TimedOut)));
        assert!(start.elapsed() >= 2 * time);
    })
    .join_ok();
    drop(writing);
    drop(lock.try_write().unwrap());
    drop(lock.read_timeout(Duration::MAX).unwrap());
}

fn a_zero_timeout_and_a_past_deadline_try_once() {
    let lock = RwLock::new().unwrap();
    let past = Deadline::now();
    let writing = lock.write().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            assert!(matches!(lock.read_timeout(Duration::ZERO), Err(RwLockError::TimedOut)));
            assert!(matches!(lock.write_deadline(past), Err(RwLockError::TimedOut)));
        });
    });
    drop(writing);
    drop(lock.write_deadline(past).unwrap());
}

fn a_waiting_writer_turns_newcomers_back_and_gets_in() {
    let lock = RwLock::new().unwrap();
    let wrote = Atomic::new(0_u32).unwrap();
    let reading = lock.read().unwrap();
    let writer = fork_child(|| {
        let _guard = lock.write().unwrap();
        wrote.set(1);
    });
    writer.until_asleep();
    let newcomer = fork_child(|| {
        assert!(matches!(lock.try_read(), Err(RwLockError::WouldBlock)));
        let _guard = lock.read().unwrap();
        assert_eq!(wrote.get(), 1);
    });
    newcomer.until_asleep();
    assert_eq!(wrote.get(), 0);
    drop(reading);
    writer.join_ok();
    newcomer.join_ok();
}

fn a_writer_whose_time_is_up_lets_those_behind_it_go_on() {
    let lock = RwLock::new().unwrap();
    let reading = lock.read().unwrap();
    let writer = fork_child(|| {
        assert!(matches!(lock.write_timeout(Duration::from_millis(100)), Err(RwLockError::TimedOut)));
    });
    writer.until_asleep();
    let readers: Vec<_> = (0..3).map(|_| fork_child(|| drop(lock.read().unwrap()))).collect();
    writer.join_ok();
    readers.into_iter().for_each(support::Child::join_ok);
    drop(reading);
    drop(lock.try_write().unwrap());
}

fn a_thread_that_would_wait_for_itself_is_told_so() {
    let lock = RwLock::new().unwrap();
    let held = |error: Option<&str>| assert_eq!(error, Some("the calling thread holds the lock already"));
    let reading = lock.read().unwrap();
    held(lock.write().err().map(|error| error.to_string()).as_deref());
    held(lock.write_timeout(Duration::MAX).err().map(|error| error.to_string()).as_deref());
    assert!(matches!(lock.try_write(), Err(RwLockError::WouldBlock)));
    // A writer waits for this thread: it must not wait for the writer.
    let writer = fork_child(|| drop(lock.write().unwrap()));
    writer.until_asleep();
    held(lock.read().err().map(|error| error.to_string()).as_deref());
    held(lock.upgradable_read().err().map(|error| error.to_string()).as_deref());
    held(lock.write().err().map(|error| error.to_string()).as_deref());
    assert!(matches!(lock.try_read(), Err(RwLockError::WouldBlock)));
    drop(reading);
    writer.join_ok();
    let writing = lock.write().unwrap();
    held(lock.read().err().map(|error| error.to_string()).as_deref());
    held(lock.write().err().map(|error| error.to_string()).as_deref());
    held(lock.upgradable_read().err().map(|error| error.to_string()).as_deref());
    drop(writing);
    let mut upgradable = lock.upgradable_read().unwrap();
    held(lock.write().err().map(|error| error.to_string()).as_deref());
    let reading = lock.read().unwrap();
    held(upgradable.upgrade().err().map(|error| error.to_string()).as_deref());
    drop((reading, upgradable));
    drop(lock.try_write().unwrap());
}

fn a_thread_may_read_twice_while_no_writer_waits() {
    let lock = RwLock::new().unwrap();
    let first = lock.read().unwrap();
    let second = lock.read().unwrap();
    let upgradable = lock.upgradable_read().unwrap();
    drop(first);
    fork_child(|| assert!(matches!(lock.try_write(), Err(RwLockError::WouldBlock)))).join_ok();
    drop(upgradable);
    fork_child(|| assert!(matches!(lock.try_write(), Err(RwLockError::WouldBlock)))).join_ok();
    drop(second);
    fork_child(|| drop(lock.try_write().unwrap())).join_ok();
}

fn as_many_read_as_may_and_no_more() {
    let lock = RwLock::with_readers(3).unwrap();
    let mut guards: Vec<_> = (0..3).map(|_| lock.read().unwrap()).collect();
    for refused in [lock.read(), lock.try_read(), lock.read_timeout(Duration::MAX)] {
        match refused {
            Err(error @ RwLockError::TooManyReaders { limit: 3 }) => {
                assert_eq!(error.to_string(), "too many readers: limit is 3");
            }
            other => panic!("{other:?}"),
        }
    }
    fork_child(|| assert!(matches!(lock.read(), Err(RwLockError::TooManyReaders { limit: 3 })))).join_ok();
    drop(guards.remove(1));
    fork_child(|| drop(lock.read().unwrap())).join_ok();
    // Upgradable, one is beside them.
    let upgradable = lock.upgradable_read().unwrap();
    guards.push(lock.read().unwrap());
    drop((guards, upgradable));
    drop(lock.try_write().unwrap());
    // Four in a row that never are more than three at once are never refused.
    let lock = RwLock::with_readers(4).unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..20_000).for_each(|_| drop(lock.read().expect("there are four"))));
        }
    });
}

fn a_thousand_processes_read_at_once() {
    let lock = RwLock::with_readers(1_024).unwrap();
    let (inside, go) = (Atomic::new(0_u32).unwrap(), pshared::Event::new().unwrap());
    let children: Vec<_> = (0..1_000)
        .map(|_| {
            fork_child(|| {
                let _guard = lock.read().unwrap();
                inside.fetch_add(1);
                go.wait();
            })
        })
        .collect();
    until(|| inside.get() == 1_000);
    assert!(matches!(lock.try_write(), Err(RwLockError::WouldBlock)));
    assert!(format!("{lock:?}").contains("readers: 1000"));
    go.set();
    drop(lock.write().unwrap());
    children.into_iter().for_each(support::Child::join_ok);
}

/// In the spirit of std's `test_rw_arc_poison_*` and `test_rw_arc_no_poison_*`.
fn a_writer_that_panics_poisons_and_a_reader_does_not() {
    let lock = RwLock::new().unwrap();
    let panics = |body: &dyn Fn()| assert!(catch_unwind(AssertUnwindSafe(body)).is_err());
    panics(&|| {
        let _guard = lock.read().unwrap();
        panic_quietly();
    });
    drop(lock.read().unwrap());
    panics(&|| {
        let _guard = lock.upgradable_read().unwrap();
        panic_quietly();
    });
    drop(lock.write().unwrap());
    for upgrades in [false, true] {
        panics(&|| {
            if upgrades {
                let mut guard = lock.upgradable_read().unwrap();
                let _writing = guard.upgrade().unwrap();
                panic_quietly();
            }
            let _guard = lock.write().unwrap();
            panic_quietly();
        });
        assert!(matches!(lock.try_read(), Err(RwLockError::Poisoned(_))));
        assert!(matches!(lock.read(), Err(RwLockError::Poisoned(_))));
        assert!(matches!(lock.upgradable_read(), Err(RwLockError::Poisoned(_))));
        fork_child(|| assert!(matches!(lock.write(), Err(RwLockError::Poisoned(_))))).join_ok();
        // Many may read what is in doubt.
        let both = (lock.read(), lock.read());
        assert!(matches!(both, (Err(RwLockError::Poisoned(_)), Err(RwLockError::Poisoned(_)))));
        drop(both);
        lock.write().unwrap_err().into_guard().unwrap().make_consistent();
        drop(lock.read().unwrap());
        drop(lock.write().unwrap());
    }
}

fn a_panic_before_the_lock_was_taken_does_not_poison() {
    struct Writes<'a>(&'a RwLock);
    impl Drop for Writes<'_> {
        fn drop(&mut self) {
            drop(self.0.write().unwrap());
        }
    }
    let lock = RwLock::new().unwrap();
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let _writes = Writes(&lock);
        panic_quietly();
    }));
    assert!(unwound.is_err());
    drop(lock.read().unwrap());
}

/// In the spirit of std's `test_rw_arc_access_in_unwind`.
fn an_access_while_unwinding_works() {
    let (lock, page) = (RwLock::new().unwrap(), Page::new());
    struct Reads<'a>(&'a RwLock, &'a Page);
    impl Drop for Reads<'_> {
        fn drop(&mut self) {
            let _guard = self.0.read().unwrap();
            self.1.add(0, 1);
        }
    }
    thread::scope(|scope| {
        let panics = scope.spawn(|| {
            let _reads = Reads(&lock, &page);
            panic_quietly();
        });
        assert!(panics.join().is_err());
    });
    assert_eq!(page.get(0), 1);
    drop(lock.write().unwrap());
}

/// Writers count in two steps, in two words that readers must find equal.
fn mix(lock: &RwLock, page: &Page, turns: u32, seed: u32) {
    let mut random = Random(u64::from(seed) + 1);
    for _ in 0..turns {
        match random.below(10) {
            0 => {
                let _guard = lock.write().unwrap();
                page.add_one_in_two_steps(0);
                page.add_one_in_two_steps(1);
                page.add(2, 1);
            }
            1 => {
                let mut guard = lock.upgradable_read().unwrap();
                let seen = page.get(0);
                let writing = guard.upgrade().unwrap();
                assert_eq!(page.get(0), seen);
                page.add_one_in_two_steps(0);
                page.add_one_in_two_steps(1);
                page.add(2, 1);
                let reading = writing.downgrade();
                assert_eq!((page.get(0), page.get(1)), (seen + 1, seen + 1));
                drop(reading);
            }
            _ => {
                let _guard = lock.read().unwrap();
                assert_eq!(page.get(0), page.get(1));
            }
        }
    }
}

/// In the spirit of std's `frob`.
fn a_mix_of_threads_counts_exactly() {
    let (lock, page) = (RwLock::new().unwrap(), Page::new());
    thread::scope(|scope| {
        for seed in 1..=6 {
            let (lock, page) = (&lock, &page);
            scope.spawn(move || mix(lock, page, 5_000, seed));
        }
    });
    assert_eq!((page.get(0), page.get(1)), (page.get(2), page.get(2)));
    assert!(page.get(2) > 0);
    drop(lock.try_write().unwrap());
}

fn a_mix_of_processes_counts_exactly() {
    let (lock, page) = (RwLock::with_readers(40).unwrap(), Page::new());
    let children: Vec<_> = (1..=40).map(|seed| fork_child(|| mix(&lock, &page, 500, seed))).collect();
    children.into_iter().for_each(support::Child::join_ok);
    assert_eq!((page.get(0), page.get(1)), (page.get(2), page.get(2)));
    drop(lock.try_write().unwrap());
}

/// In the spirit of std's `test_downgrade_observe` and `test_downgrade_atomic`.
fn a_downgrade_lets_readers_in_and_no_writer() {
    let (lock, page) = (RwLock::new().unwrap(), Page::new());
    let writing = lock.write().unwrap();
    let readers: Vec<_> = (0..3)
        .map(|_| {
            fork_child(|| {
                let _guard = lock.read().unwrap();
                assert_eq!(page.get(0), 1);
                page.add(1, 1);
            })
        })
        .collect();
    readers.iter().for_each(support::Child::until_asleep);
    page.set(0, 1);
    let reading = writing.downgrade();
    // They read while this one does.
    until(|| page.get(1) == 3);
    readers.into_iter().for_each(support::Child::join_ok);
    assert!(matches!(lock.try_write(), Err(RwLockError::WouldBlock)));
    let writer = fork_child(|| {
        let _guard = lock.write().unwrap();
        page.set(0, 2);
    });
    writer.until_asleep();
    assert_eq!(page.get(0), 1);
    drop(reading);
    writer.join_ok();
    assert_eq!(page.get(0), 2);
}

fn a_downgrade_finds_a_slot_though_newcomers_try_them_all() {
    let (lock, page) = (RwLock::with_readers(1).unwrap(), Page::new());
    let tries: Vec<_> = (0..3)
        .map(|_| {
            fork_child(|| {
                while page.get(0) == 0 {
                    drop(lock.try_read())
                }
            })
        })
        .collect();
    for _ in 0..3_000 {
        drop(lock.write().unwrap().downgrade());
    }
    page.set(0, 1);
    tries.into_iter().for_each(support::Child::join_ok);
}

fn an_upgradable_guard_reads_beside_readers_and_keeps_writers_out() {
    let lock = RwLock::new().unwrap();
    let upgradable = lock.upgradable_read().unwrap();
    let reading = lock.read().unwrap();
    fork_child(|| {
        drop(lock.try_read().unwrap());
        drop(lock.read().unwrap());
        assert!(matches!(lock.try_write(), Err(RwLockError::WouldBlock)));
        assert!(matches!(lock.try_upgradable_read(), Err(RwLockError::WouldBlock)));
        assert!(matches!(lock.upgradable_read_timeout(Duration::from_millis(5)), Err(RwLockError::TimedOut)));
    })
    .join_ok();
    drop((reading, upgradable));
    drop(lock.try_write().unwrap());
}

fn an_upgrade_waits_for_readers_and_can_be_given_up() {
    let (lock, page) = (RwLock::new().unwrap(), Page::new());
    let reader = fork_child(|| {
        let _guard = lock.read().unwrap();
        page.set(0, 1);
        until(|| page.get(0) == 2);
    });
    until(|| page.get(0) == 1);
    let mut upgradable = lock.upgradable_read().unwrap();
    assert!(matches!(upgradable.try_upgrade(), Err(RwLockError::WouldBlock)));
    let start = Instant::now();
    assert!(matches!(upgradable.upgrade_timeout(Duration::from_millis(20)), Err(RwLockError::TimedOut)));
    assert!(start.elapsed() >= Duration::from_millis(20));
    // Given up, it lets others read, those included that it turned back meanwhile.
    drop(lock.try_read().unwrap());
    let late = thread::scope(|scope| {
        let turned_back = scope.spawn(|| {
            until(|| matches!(lock.try_read(), Err(RwLockError::WouldBlock)));
            drop(lock.read().unwrap());
        });
        let refused = upgradable.upgrade_timeout(Duration::from_secs(1)).is_err();
        turned_back.join().unwrap();
        refused
    });
    assert!(late);
    page.set(0, 2);
    drop(upgradable.upgrade().unwrap());
    reader.join_ok();
}

fn an_upgrade_excludes_and_goes_back() {
    let lock = RwLock::new().unwrap();
    let mut upgradable = lock.upgradable_read().unwrap();
    let writing = upgradable.try_upgrade().unwrap();
    let reader = fork_child(|| {
        assert!(matches!(lock.try_read(), Err(RwLockError::WouldBlock)));
        drop(lock.read().unwrap());
    });
    reader.until_asleep();
    drop(writing);
    // It reads though the guard is still there.
    reader.join_ok();
    fork_child(|| assert!(matches!(lock.try_write(), Err(RwLockError::WouldBlock)))).join_ok();
    let reading = upgradable.upgrade().unwrap().downgrade();
    fork_child(|| drop(lock.try_read().unwrap())).join_ok();
    drop(reading);
    drop(upgradable);
    drop(lock.try_write().unwrap());
}

fn a_guard_copied_by_a_fork_does_nothing() {
    let lock = RwLock::new().unwrap();
    let reading = Some(lock.read().unwrap());
    let mut copy = reading;
    fork_child(|| drop(copy.take())).join_ok();
    assert!(matches!(lock.try_write(), Err(RwLockError::WouldBlock)));
    drop(copy);
    let mut copy = Some(lock.write().unwrap());
    fork_child(|| {
        copy.as_mut().unwrap().make_consistent();
        drop(copy.take());
    })
    .join_ok();
    fork_child(|| assert!(matches!(lock.try_read(), Err(RwLockError::WouldBlock)))).join_ok();
    fork_child(|| {
        std::panic::set_hook(Box::new(|_| ()));
        let copy = copy.take().unwrap();
        assert!(catch_unwind(AssertUnwindSafe(|| drop(copy.downgrade()))).is_err());
    })
    .join_ok();
    fork_child(|| assert!(matches!(lock.try_read(), Err(RwLockError::WouldBlock)))).join_ok();
    drop(copy);
    let mut copy = Some(lock.upgradable_read().unwrap());
    fork_child(|| drop(copy.take())).join_ok();
    fork_child(|| assert!(matches!(lock.try_write(), Err(RwLockError::WouldBlock)))).join_ok();
    drop(copy);
    drop(lock.try_write().unwrap());
}

fn a_child_holds_none_of_its_parents_shares() {
    let lock = RwLock::new().unwrap();
    let reading = lock.read().unwrap();
    // It would be told so if it waited for itself.
    let child = fork_child(|| drop(lock.write().unwrap()));
    child.until_asleep();
    drop(reading);
    child.join_ok();
}

fn locks_held_are_counted_and_limited() {
    let (many, lock) = (many_locks(2_039), RwLock::new().unwrap());
    let held: Vec<_> = many.iter().map(|lock| lock.lock().unwrap()).collect();
    let reading = lock.read().unwrap();
    assert!(matches!(lock.read(), Err(RwLockError::TooManyHeld { held: 2_040, limit: 2_040 })));
    assert!(matches!(lock.try_write(), Err(RwLockError::TooManyHeld { .. })));
    assert!(matches!(lock.upgradable_read(), Err(RwLockError::TooManyHeld { .. })));
    drop(reading);
    // With the last place, a writer that becomes a reader holds both for a moment.
    drop(lock.write().unwrap().downgrade());
    drop(held);
}

fn four_writers_in_a_loop_do_not_starve_a_reader() {
    let (lock, page) = (RwLock::new().unwrap(), Page::new());
    let writers: Vec<_> = (0..4)
        .map(|_| {
            fork_child(|| {
                while page.get(0) == 0 {
                    let _guard = lock.write().unwrap();
                    page.add_one_in_two_steps(1);
                }
            })
        })
        .collect();
    until(|| page.get(1) > 1_000);
    for _ in 0..200 {
        let before = page.get(1);
        drop(lock.read().unwrap());
        if before == page.get(1) {
            // They go on.
            until(|| page.get(1) > before);
        }
    }
    page.set(0, 1);
    writers.into_iter().for_each(support::Child::join_ok);
}

fn four_readers_in_a_loop_do_not_starve_a_writer() {
    let (lock, page) = (RwLock::new().unwrap(), Page::new());
    let readers: Vec<_> = (0..4)
        .map(|who| {
            let (lock, page) = (&lock, &page);
            fork_child(move || {
                while page.get(0) == 0 {
                    let _guard = lock.read().unwrap();
                    page.add(1 + who, 1);
                }
            })
        })
        .collect();
    until(|| (0..4).all(|who| page.get(1 + who) > 100));
    for _ in 0..200 {
        drop(lock.write().unwrap());
    }
    page.set(0, 1);
    readers.into_iter().for_each(support::Child::join_ok);
}

fn readers_that_only_try_do_not_starve_a_writer() {
    let (lock, page) = (RwLock::new().unwrap(), Page::new());
    let readers: Vec<_> = (0..3)
        .map(|_| {
            fork_child(|| {
                while page.get(0) == 0 {
                    drop(lock.try_read())
                }
            })
        })
        .collect();
    for _ in 0..1_000 {
        drop(lock.write().unwrap());
    }
    page.set(0, 1);
    readers.into_iter().for_each(support::Child::join_ok);
}

fn sizes_that_cannot_be_are_errors() {
    assert!(matches!(RwLock::with_readers(0), Err(RegionError::ZeroSize)));
    assert!(matches!(RwLock::with_readers(usize::MAX), Err(RegionError::TooLarge { .. })));
    assert!(matches!(RwLock::with_readers(1 << 32), Err(RegionError::TooLarge { .. })));
    let region = Region::anonymous(16 << 10).unwrap();
    let room = region.room();
    let lock = RwLock::new_in(&region).unwrap();
    assert_eq!(room - region.room(), 128 + 64 * 128);
    assert!(matches!(RwLock::new_in(&region), Err(RegionError::NoRoom { need: 8_320, .. })));
    let small = RwLock::with_readers_in(&region, 2).unwrap();
    drop(region);
    drop((lock.read().unwrap(), small.write().unwrap()));
    let _beside = Lock::new().unwrap();
}

fn debug_and_errors_tell_what_is() {
    let lock = RwLock::new().unwrap();
    assert_eq!(format!("{lock:?}"), "RwLock { writer: free, readers: 0, suspicion: None }");
    let me = nix::unistd::gettid();
    let reading = lock.read().unwrap();
    assert_eq!(format!("{lock:?}"), "RwLock { writer: free, readers: 1, suspicion: None }");
    assert_eq!(format!("{reading:?}"), format!("RwLockReadGuard {{ slot: held by thread {me} }}"));
    drop(reading);
    let writing = lock.write().unwrap();
    let state = format!("{{ writer: held by thread {me}, readers: 0, suspicion: None }}");
    assert_eq!(format!("{lock:?}"), format!("RwLock {state}"));
    assert_eq!(format!("{writing:?}"), format!("RwLockWriteGuard {state}"));
    drop(writing);
    let upgradable = lock.upgradable_read().unwrap();
    assert_eq!(format!("{upgradable:?}"), format!("RwLockUpgradableGuard {state}"));
    drop(upgradable);
    let said = [
        (RwLockError::<()>::WouldBlock, "the lock is held"),
        (RwLockError::TimedOut, "the lock was still held when the time was up"),
        (RwLockError::OwnerDied(()), "a writer died writing under the lock"),
        (RwLockError::Poisoned(()), "a writer of the lock panicked"),
        (RwLockError::AlreadyHeld, "the calling thread holds the lock already"),
        (
            RwLockError::TooManyHeld { held: 3, limit: 2 },
            "too many locks held: this thread holds 3, limit is 2",
        ),
        (RwLockError::TooManyReaders { limit: 2 }, "too many readers: limit is 2"),
    ];
    for (error, text) in said {
        assert_eq!(error.to_string(), text);
        let has_guard = format!("{error:?}").ends_with("(..)");
        assert_eq!(error.into_guard().is_some(), has_guard);
    }
}
