//! What `Lock` promises when processes and threads die: what CPython's suite never tries.

mod support;

use std::{ffi::CString, fs, mem, process::ExitCode, thread, time::Duration};

use nix::{
    libc,
    sys::{
        signal::{Signal, kill, raise},
        wait::WaitStatus,
    },
    unistd::execv,
};
use pshared::{Deadline, Lock, LockError, Region};
use support::{
    fork_child,
    locks::{fork_and_hold, hold, is_free, many_locks, our_mappings, owner_died},
    page::Page,
    random::Random,
    until,
};

fn main() -> ExitCode {
    support::main(support::tests![
        lock_reports_owner_died_when_its_holder_is_killed,
        every_form_of_taking_reports_a_death_with_the_guard_inside,
        a_death_is_reported_until_somebody_makes_it_consistent,
        an_heir_that_dies_leaves_the_same_report,
        sleepers_learn_of_a_death_and_pass_the_lock_on_as_they_die,
        a_thread_that_ends_holding_is_a_dead_holder,
        a_process_that_exits_holding_is_a_dead_holder,
        an_exec_while_holding_is_a_death,
        all_locks_of_a_killed_process_are_marked_in_any_release_order,
        libcs_robust_mutexes_and_ours_share_one_list,
        libcs_robust_mutexes_do_not_use_up_our_places,
        all_2040_locks_of_a_killed_process_are_marked,
        a_forgotten_guard_keeps_its_memory_and_the_list_whole,
        a_forgotten_guards_lock_is_reported_when_its_thread_is_gone,
        a_sleeper_killed_in_its_sleep_does_not_swallow_the_next_wake,
        a_sleeper_killed_as_it_is_woken_does_not_swallow_the_wake,
        counting_stays_exact_while_holders_are_killed,
        ten_thousand_deaths_leave_the_lock_as_it_was,
    ])
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
    // Libc's 0, our 0, libc's 1 and so on are taken in turns; then some are freed, or taken again, before the kill.
    let mut random = Random(1);
    for steps in (0..8).chain([100; 40]) {
        let script: Vec<usize> = (0..6).chain((0..steps).map(|_| random.below(6) as usize)).collect();
        fork_and_hold(|| {
            let mut guards = [None, None, None];
            let mut held = [false; 6];
            for &which in &script {
                let (at, was_held) = (which / 2, held[which]);
                match which % 2 {
                    0 if was_held => libcs[at].unlock(),
                    0 => assert_eq!(libcs[at].lock(), 0),
                    _ => guards[at] = if was_held { None } else { Some(ours[at].lock().unwrap()) },
                }
                held[which] = !was_held;
            }
            mem::forget(guards);
        })
        .kill();
        for which in 0..6 {
            let was_freed = script.iter().filter(|&&step| step == which).count() % 2 == 0;
            if which % 2 == 1 {
                match ours[which / 2].try_lock() {
                    Ok(_) => assert!(was_freed, "our {} after {script:?}", which / 2),
                    Err(LockError::OwnerDied(mut guard)) => {
                        assert!(!was_freed);
                        guard.make_consistent();
                    }
                    other => panic!("our {} after {script:?}: {other:?}", which / 2),
                };
            } else {
                let expected = if was_freed { 0 } else { libc::EOWNERDEAD };
                assert_eq!(libcs[which / 2].lock(), expected, "libc's {} after {script:?}", which / 2);
                libcs[which / 2].make_consistent();
                libcs[which / 2].unlock();
            }
        }
    }
}

fn libcs_robust_mutexes_do_not_use_up_our_places() {
    let locks = many_locks(2_040);
    let libcs = Page::new().mutex(0, true);
    for _ in 0..10_000 {
        // Each is alone in the list as it goes, and was not as it came; and the other way round.
        assert_eq!(libcs.lock(), 0);
        let guard = locks[0].lock().unwrap();
        libcs.unlock();
        drop(guard);
        let guard = locks[0].lock().unwrap();
        assert_eq!(libcs.lock(), 0);
        drop(guard);
        libcs.unlock();
    }
    let guards: Vec<_> = locks.iter().map(|lock| lock.lock().unwrap()).collect();
    assert!(matches!(locks[0].try_lock(), Err(LockError::TooManyHeld { held: 2_040, limit: 2_040 })));
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
