//! What `Once` and `OnceValue` promise, with really forked children.

mod support;

use std::{
    panic::{self, AssertUnwindSafe},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::{Signal, kill};
use pshared::{Deadline, Lock, LockError, Once, OnceError, OnceValue, Region, RegionError};
use support::{
    fork_child,
    locks::{fork_and_hold, hold, many_locks, panic_quietly, sleep_for_ever},
    page::Page,
    until,
};

fn main() -> ExitCode {
    support::main(support::tests![
        it_is_done_once,
        many_processes_and_threads_do_it_once_and_all_see_it_done,
        who_comes_while_another_is_at_it_waits,
        the_forms_that_do_not_wait_for_ever_say_so,
        an_initialiser_that_asks_for_itself_is_told,
        an_initialiser_that_panics_leaves_it_to_the_next,
        an_initialiser_that_is_killed_is_followed_by_a_sleeper,
        a_killed_sleeper_holds_nobody_up,
        ten_thousand_deaths_leave_it_undone_and_usable,
        a_child_forked_inside_does_not_finish_it_for_its_parent,
        a_thread_with_too_many_locks_is_told,
        a_value_is_made_once_and_never_changes,
        set_says_whether_it_was_there,
        values_of_any_plain_type_are_whole,
        a_value_half_made_by_the_dead_is_made_anew,
        a_full_region_is_an_error,
        debug_and_errors_say_what_is,
    ])
}

fn it_is_done_once() {
    let once = Once::new().unwrap();
    let mut runs = 0;
    assert!(!once.is_completed());
    assert_eq!(once.call_once(|| runs += 1), Ok(true));
    assert!(once.is_completed());
    assert_eq!(once.call_once(|| runs += 1), Ok(false));
    assert_eq!(once.try_call_once(|| runs += 1), Ok(false));
    assert_eq!(once.clone().call_once_timeout(Duration::ZERO, || runs += 1), Ok(false));
    assert_eq!(runs, 1);
}

fn many_processes_and_threads_do_it_once_and_all_see_it_done() {
    for _ in 0..50 {
        let once = Once::new().unwrap();
        let page = Page::new();
        let work = || {
            let mine = once.call_once(|| {
                page.add_one_in_two_steps(0);
                page.set(1, 77);
            });
            assert!(mine.is_ok());
            assert_eq!(page.get(1), 77);
        };
        let children: Vec<_> = (0..4).map(|_| fork_child(work)).collect();
        thread::scope(|scope| (0..2).for_each(|_| _ = scope.spawn(work)));
        children.into_iter().for_each(support::Child::join_ok);
        assert_eq!(page.get(0), 1);
    }
}

/// A child that is at it until it is killed.
fn busy(once: &Once) -> support::Child {
    let page = Page::new();
    let child = fork_child(|| {
        let _ = once.call_once(|| {
            page.set(0, 1);
            sleep_for_ever();
        });
    });
    until(|| page.get(0) == 1);
    child
}

fn who_comes_while_another_is_at_it_waits() {
    let once = Once::new().unwrap();
    let page = Page::new();
    let first = fork_child(|| {
        assert_eq!(
            once.call_once(|| {
                page.set(0, 1);
                until(|| page.get(1) == 1);
            }),
            Ok(true)
        );
    });
    until(|| page.get(0) == 1);
    let waiters: Vec<_> =
        (0..3).map(|_| fork_child(|| assert_eq!(once.call_once(|| ()), Ok(false)))).collect();
    waiters.iter().for_each(support::Child::until_asleep);
    assert!(!once.is_completed());
    page.set(1, 1);
    waiters.into_iter().for_each(support::Child::join_ok);
    first.join_ok();
}

fn the_forms_that_do_not_wait_for_ever_say_so() {
    let once = Once::new().unwrap();
    let busy = busy(&once);
    assert_eq!(once.try_call_once(|| ()), Err(OnceError::WouldBlock));
    let start = Instant::now();
    assert_eq!(once.call_once_timeout(Duration::from_millis(30), || ()), Err(OnceError::TimedOut));
    assert!(start.elapsed() >= Duration::from_millis(30));
    let deadline = Deadline::after(Duration::from_millis(10));
    assert_eq!(once.call_once_deadline(deadline, || ()), Err(OnceError::TimedOut));
    assert!(deadline.has_passed());
    busy.kill();
    assert_eq!(once.call_once_timeout(Duration::from_secs(1000), || ()), Ok(true));
}

fn an_initialiser_that_asks_for_itself_is_told() {
    let once = Once::new().unwrap();
    let outer = once.call_once(|| {
        assert_eq!(once.call_once(|| ()), Err(OnceError::Reentered));
        assert_eq!(once.try_call_once(|| ()), Err(OnceError::Reentered));
        assert_eq!(once.call_once_timeout(Duration::MAX, || ()), Err(OnceError::Reentered));
        assert!(!once.is_completed());
    });
    assert_eq!(outer, Ok(true));
    let value = OnceValue::<u32>::new().unwrap();
    let made = value.get_or_init(|| {
        assert_eq!(value.get_or_init(|| 1), Err(OnceError::Reentered));
        assert_eq!(value.set(1), Err(OnceError::Reentered));
        2
    });
    assert_eq!(made, Ok(2));
}

fn an_initialiser_that_panics_leaves_it_to_the_next() {
    let once = Once::new().unwrap();
    for _ in 0..3 {
        let unwound = panic::catch_unwind(AssertUnwindSafe(|| once.call_once(|| panic_quietly())));
        assert!(unwound.is_err());
        assert!(!once.is_completed());
    }
    fork_child(|| _ = once.call_once(|| panic_quietly())).join();
    assert_eq!(once.call_once(|| ()), Ok(true));
}

fn an_initialiser_that_is_killed_is_followed_by_a_sleeper() {
    for _ in 0..100 {
        let once = Once::new().unwrap();
        let busy = busy(&once);
        let page = Page::new();
        let sleepers: Vec<_> =
            (0..3).map(|_| fork_child(|| assert!(once.call_once(|| _ = page.add(0, 1)).is_ok()))).collect();
        sleepers.iter().for_each(support::Child::until_asleep);
        busy.kill();
        sleepers.into_iter().for_each(support::Child::join_ok);
        assert_eq!(page.get(0), 1);
    }
}

fn a_killed_sleeper_holds_nobody_up() {
    for round in 0..100 {
        let once = Once::new().unwrap();
        let busy = busy(&once);
        let mut sleepers: Vec<_> =
            (0..3).map(|_| fork_child(|| assert!(once.call_once(|| ()).is_ok()))).collect();
        sleepers.iter().for_each(support::Child::until_asleep);
        if round % 2 == 0 {
            // Killed as it is woken.
            busy.kill();
            kill(sleepers[0].pid(), Signal::SIGKILL).unwrap();
            let _ = sleepers.remove(0).join();
        } else {
            sleepers.remove(0).kill();
            busy.kill();
        }
        sleepers.into_iter().for_each(support::Child::join_ok);
        assert!(once.is_completed());
    }
}

fn ten_thousand_deaths_leave_it_undone_and_usable() {
    let once = Once::new().unwrap();
    let value = OnceValue::<[u64; 4]>::new().unwrap();
    let (descriptors, mapped) = (support::descriptors(), support::address_space());
    for death in 0..10_000 {
        let child = fork_child(|| {
            let die = || nix::sys::signal::raise(Signal::SIGKILL).unwrap();
            if death % 2 == 0 {
                let _ = once.call_once(die);
            } else {
                let _ = value.get_or_init(|| {
                    die();
                    [1; 4]
                });
            }
        });
        let _ = child.join();
        assert!(!once.is_completed() && value.get().is_none());
    }
    assert_eq!(once.call_once(|| ()), Ok(true));
    assert_eq!(value.get_or_init(|| [2; 4]), Ok([2; 4]));
    assert_eq!(support::descriptors(), descriptors);
    assert!(support::address_space() <= mapped + (1 << 20));
}

fn a_child_forked_inside_does_not_finish_it_for_its_parent() {
    let once = Once::new().unwrap();
    let value = OnceValue::<u32>::new().unwrap();
    let parent = std::process::id();
    // The copy of the call returns in the child: there it is an error, and nothing is done.
    let outcome = once.call_once(|| {
        // SAFETY: this process has one thread.
        match unsafe { nix::unistd::fork() }.unwrap() {
            nix::unistd::ForkResult::Child => {}
            nix::unistd::ForkResult::Parent { child } => {
                let status = nix::sys::wait::waitpid(child, None).unwrap();
                assert!(matches!(status, nix::sys::wait::WaitStatus::Exited(_, 0)), "{status:?}");
                assert!(!once.is_completed());
            }
        }
    });
    if std::process::id() != parent {
        let well =
            outcome == Err(OnceError::Forked) && once.try_call_once(|| ()) == Err(OnceError::WouldBlock);
        // SAFETY: ends the child without running what belongs to the parent.
        unsafe { nix::libc::_exit(i32::from(!well)) }
    }
    assert_eq!(outcome, Ok(true));
    let outcome = value.get_or_init(|| {
        // SAFETY: as above.
        match unsafe { nix::unistd::fork() }.unwrap() {
            nix::unistd::ForkResult::Child => 66,
            nix::unistd::ForkResult::Parent { child } => {
                nix::sys::wait::waitpid(child, None).unwrap();
                assert_eq!(value.get(), None);
                7
            }
        }
    });
    if std::process::id() != parent {
        // SAFETY: as above.
        unsafe { nix::libc::_exit(i32::from(outcome != Err(OnceError::Forked))) }
    }
    assert_eq!(outcome, Ok(7));
}

fn a_thread_with_too_many_locks_is_told() {
    let locks = many_locks(2_040);
    let once = Once::new().unwrap();
    let guards: Vec<_> = locks.iter().map(|lock| lock.lock().unwrap()).collect();
    assert_eq!(once.call_once(|| ()), Err(OnceError::TooManyHeld { held: 2_040, limit: 2_040 }));
    drop(guards);
    assert_eq!(once.call_once(|| ()), Ok(true));
    // What the initialiser takes is its own affair.
    let (once, lock) = (Once::new().unwrap(), Lock::new().unwrap());
    fork_and_hold(|| hold(&lock)).kill();
    assert_eq!(once.call_once(|| assert!(matches!(lock.lock(), Err(LockError::OwnerDied(_))))), Ok(true));
}

fn a_value_is_made_once_and_never_changes() {
    let value = OnceValue::<u64>::new().unwrap();
    assert_eq!(value.get(), None);
    let children: Vec<_> = (0..4_u64)
        .map(|number| {
            let value = value.clone();
            fork_child(move || {
                let made = value.get_or_init(|| number + 1).unwrap();
                assert_eq!(value.get(), Some(made));
            })
        })
        .collect();
    children.into_iter().for_each(support::Child::join_ok);
    let made = value.get().unwrap();
    assert!((1..=4).contains(&made));
    assert_eq!(value.get_or_init_timeout(Duration::ZERO, || 99), Ok(made));
    assert_eq!(value.get_or_init_deadline(Deadline::now(), || 99), Ok(made));
}

fn set_says_whether_it_was_there() {
    let value = OnceValue::<u64>::new().unwrap();
    assert_eq!(value.set(5), Ok(()));
    assert_eq!(value.set(6), Err(OnceError::AlreadySet));
    fork_child(|| assert_eq!((value.set(7), value.get()), (Err(OnceError::AlreadySet), Some(5)))).join_ok();
}

fn values_of_any_plain_type_are_whole() {
    let region = Region::anonymous(1 << 16).unwrap();
    let bytes = OnceValue::<[u8; 3]>::new_in(&region).unwrap();
    let large = OnceValue::<[u64; 1000]>::new_in(&region).unwrap();
    let nothing = OnceValue::<()>::new_in(&region).unwrap();
    fork_child(|| {
        bytes.set([1, 2, 3]).unwrap();
        large.set(std::array::from_fn(|index| index as u64)).unwrap();
        nothing.set(()).unwrap();
    })
    .join_ok();
    assert_eq!(bytes.get(), Some([1, 2, 3]));
    assert!(large.get().unwrap().iter().enumerate().all(|(index, &word)| word == index as u64));
    assert_eq!(nothing.get(), Some(()));
}

fn a_value_half_made_by_the_dead_is_made_anew() {
    // Killed anywhere: in most rounds while it writes.
    for round in 0..200_u64 {
        let value = OnceValue::<[u64; 512]>::new().unwrap();
        let page = Page::new();
        let maker = fork_child(|| {
            page.set(0, 1);
            let _ = value.get_or_init(|| [1; 512]);
        });
        until(|| page.get(0) == 1);
        thread::sleep(Duration::from_micros(round % 20));
        kill(maker.pid(), Signal::SIGKILL).unwrap();
        let _ = maker.join();
        let seen = value.get();
        let made = value.get_or_init(|| [2; 512]).unwrap();
        assert!(made == [1; 512] || made == [2; 512]);
        assert!(seen.is_none_or(|seen| seen == made));
    }
}

fn a_full_region_is_an_error() {
    let region = Region::anonymous(4096).unwrap();
    while Once::new_in(&region).is_ok() {}
    assert!(matches!(Once::new_in(&region), Err(RegionError::NoRoom { need: 56, .. })));
    assert!(matches!(OnceValue::<[u64; 64]>::new_in(&region), Err(RegionError::NoRoom { .. })));
}

fn debug_and_errors_say_what_is() {
    let once = Once::new().unwrap();
    assert_eq!(format!("{once:?}"), "Once { done: false, initialiser: free }");
    let busy = busy(&once);
    let state = format!("Once {{ done: false, initialiser: held by thread {} }}", busy.pid());
    assert_eq!(format!("{once:?}"), state);
    busy.kill();
    once.call_once(|| ()).unwrap();
    assert_eq!(format!("{once:?}"), "Once { done: true, initialiser: free }");
    let value = OnceValue::<u8>::new().unwrap();
    assert_eq!(format!("{value:?}"), "OnceValue { done: false, initialiser: free }");
    value.set(3).unwrap();
    assert_eq!(format!("{value:?}"), "OnceValue(3)");
    for (error, text) in [
        (OnceError::WouldBlock, "somebody is at it"),
        (OnceError::TimedOut, "somebody was still at it when the time was up"),
        (OnceError::Reentered, "the initialiser asked for what it is to make"),
        (OnceError::Forked, "the process was forked inside the initialiser, which is its parent's"),
        (OnceError::AlreadySet, "the value was there before"),
        (
            OnceError::TooManyHeld { held: 3, limit: 2 },
            "too many locks held: this thread holds 3, limit is 2",
        ),
    ] {
        assert_eq!(error.to_string(), text);
    }
}
