//! What `Semaphore` and `BoundedSemaphore` promise, with really forked children and with threads.

mod support;

use std::{
    mem,
    process::ExitCode,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use pshared::{
    AcquireError, BoundedSemaphore, Deadline, Permit, Region, RegionError, ReleaseError, Semaphore,
    SemaphoreError,
};
use support::{fork_child, locks::many_locks, page::Page, until};

fn main() -> ExitCode {
    support::main(support::tests![
        permits_are_counted,
        a_plain_semaphore_grows_and_a_bounded_one_says_no,
        nothing_is_acquired_from_nothing,
        more_permits_than_can_be_counted_are_refused,
        one_permit_excludes,
        a_semaphore_goes_when_its_handle_goes,
        contended_permits_go_to_as_many_as_there_are,
        many_are_released_at_once,
        try_acquire_says_so_when_there_is_none,
        contended_tries_take_no_more_than_there_is,
        timeouts_last_at_least_so_long,
        a_guard_gives_back_on_the_way_out_also_in_a_panic,
        releasing_what_was_never_acquired,
        debug_tells_the_state,
        many_are_acquired_all_or_none,
        more_than_there_can_ever_be_is_refused,
        the_first_in_line_is_not_overtaken,
        a_wait_that_ended_by_its_deadline_keeps_nothing_for_itself,
        over_releases_are_exact_under_races,
        a_guards_permit_is_nobody_elses_to_release,
        guards_are_as_many_as_were_asked_for,
        a_semaphore_takes_the_room_that_its_guards_need_and_no_more,
        a_thread_holds_only_so_many,
        a_forked_copy_of_a_permit_does_nothing,
        permits_go_from_process_to_process,
        what_was_written_before_release_is_seen_after_acquire,
        two_hundred_guards_are_watched,
        a_semaphore_in_a_full_region_is_an_error,
    ])
}

/// Taken and given back between two permits: what all kinds have in common.
fn counts(semaphore: &Semaphore) {
    assert_eq!(semaphore.available_permits(), 2);
    semaphore.acquire().unwrap();
    assert_eq!(semaphore.available_permits(), 1);
    semaphore.acquire().unwrap();
    assert_eq!(semaphore.available_permits(), 0);
    assert_eq!(semaphore.try_acquire(), Err(AcquireError::NoPermits));
    assert_eq!(semaphore.try_permit().unwrap_err(), AcquireError::NoPermits);
    semaphore.release().unwrap();
    assert_eq!(semaphore.available_permits(), 1);
    semaphore.release().unwrap();
    assert_eq!(semaphore.available_permits(), 2);
}

/// Restates CPython's `_TestSemaphore.test_semaphore` and `test_bounded_semaphore`.
fn permits_are_counted() {
    counts(&Semaphore::new(2).unwrap());
    counts(&BoundedSemaphore::new(2).unwrap());
    let region = Region::anonymous(8192).unwrap();
    counts(&Semaphore::new_in(&region, 2).unwrap());
    counts(&BoundedSemaphore::new_in(&region, 2).unwrap());
    fork_child(|| counts(&Semaphore::new(2).unwrap())).join_ok();
}

/// Restates the rest of CPython's `_TestSemaphore.test_semaphore`, and what `test_bounded_semaphore` leaves to one
/// platform.
fn a_plain_semaphore_grows_and_a_bounded_one_says_no() {
    let plain = Semaphore::new(2).unwrap();
    plain.release().unwrap();
    plain.release().unwrap();
    assert_eq!(plain.available_permits(), 4);
    let bounded = BoundedSemaphore::new(2).unwrap();
    let refused = ReleaseError::TooMany { released: 1, available: 2, guarded: 0, limit: 2 };
    assert_eq!(bounded.release(), Err(refused));
    assert_eq!(refused.to_string(), "cannot release 1: 2 are free, guards hold 0, limit is 2");
    assert_eq!(bounded.available_permits(), 2);
}

/// Restates CPython's `_TestSemaphore.test_timeout`.
fn nothing_is_acquired_from_nothing() {
    let semaphore = Semaphore::new(0).unwrap();
    assert_eq!(semaphore.try_acquire(), Err(AcquireError::NoPermits));
    assert_eq!(semaphore.acquire_timeout(Duration::ZERO), Err(AcquireError::TimedOut));
    for wait in [30, 60] {
        let (start, wait) = (Instant::now(), Duration::from_millis(wait));
        assert_eq!(semaphore.acquire_timeout(wait), Err(AcquireError::TimedOut));
        assert!(start.elapsed() >= wait);
    }
}

/// Restates CPython's `BaseSemaphoreTests.test_constructor` for what can be too much here.
fn more_permits_than_can_be_counted_are_refused() {
    let most = Semaphore::new(Semaphore::MAX_PERMITS).unwrap();
    assert_eq!(most.available_permits(), 2_097_151);
    let refused = ReleaseError::TooMany { released: 1, available: 2_097_151, guarded: 0, limit: 2_097_151 };
    assert_eq!(most.release(), Err(refused));
    most.acquire_many(2_097_151).unwrap();
    assert_eq!((most.release_many(2_097_151), most.available_permits()), (Ok(()), 2_097_151));
    for permits in [Semaphore::MAX_PERMITS + 1, 1 << 32, usize::MAX] {
        let refused = Semaphore::new(permits).unwrap_err();
        assert!(matches!(refused, SemaphoreError::TooManyPermits { limit: 2_097_151, .. }));
        assert_eq!(refused.to_string(), format!("too many permits: {permits}, limit is 2097151"));
        assert!(BoundedSemaphore::new(permits).is_err());
    }
    let refused = Semaphore::with_holders(1, 1024).unwrap_err();
    assert_eq!(refused.to_string(), "too many holders of permits: 1024, limit is 1023");
}

/// Restates CPython's `BaseSemaphoreTests.test_default_value` and `test_acquire`.
fn one_permit_excludes() {
    let semaphore = Semaphore::new(1).unwrap();
    let page = Page::new();
    let turns = || {
        for turn in 0..2_000 {
            if turn % 2 == 0 {
                let _permit = semaphore.permit().unwrap();
                page.add_one_in_two_steps(0);
            } else {
                semaphore.acquire().unwrap();
                page.add_one_in_two_steps(0);
                semaphore.release().unwrap();
            }
        }
    };
    let children: Vec<_> = (0..3).map(|_| fork_child(turns)).collect();
    turns();
    children.into_iter().for_each(|child| child.join_ok());
    assert_eq!((page.get(0), semaphore.available_permits()), (8_000, 1));
}

/// Restates CPython's `BaseSemaphoreTests.test_acquire_destroy`.
fn a_semaphore_goes_when_its_handle_goes() {
    let semaphore = Semaphore::new(1).unwrap();
    semaphore.acquire().unwrap();
    drop(semaphore);
    // A forgotten permit keeps its memory, so that the thread's list stays whole.
    let semaphore = Semaphore::new_in(&Region::anonymous(8192).unwrap(), 1).unwrap();
    mem::forget(semaphore.permit().unwrap());
    drop(semaphore);
    drop(many_locks(1)[0].lock().unwrap());
}

/// Restates CPython's `BaseSemaphoreTests.test_acquire_contended`.
fn contended_permits_go_to_as_many_as_there_are() {
    let semaphore = Semaphore::new(7).unwrap();
    let page = Page::new();
    semaphore.acquire().unwrap();
    let children: Vec<_> = (0..10)
        .map(|_| {
            fork_child(|| {
                semaphore.acquire().unwrap();
                page.add(0, 1);
                semaphore.acquire().unwrap();
                page.add(0, 1);
            })
        })
        .collect();
    let settled = |passed| {
        until(|| page.get(0) == passed && children.iter().all(|child| child.has_ended() || asleep(child)));
        assert_eq!((page.get(0), semaphore.available_permits()), (passed, 0));
    };
    settled(6);
    semaphore.release_many(7).unwrap();
    settled(13);
    semaphore.release_many(6).unwrap();
    settled(19);
    semaphore.release().unwrap();
    children.into_iter().for_each(|child| child.join_ok());
    assert_eq!((page.get(0), semaphore.available_permits()), (20, 0));
}

fn asleep(child: &support::Child) -> bool {
    support::is_asleep_in_futex(child.pid())
}

/// Restates CPython's `BaseSemaphoreTests.test_multirelease`.
fn many_are_released_at_once() {
    let semaphore = Semaphore::new(0).unwrap();
    let children: Vec<_> = (0..10).map(|_| fork_child(|| semaphore.acquire().unwrap())).collect();
    children.iter().for_each(|child| child.until_asleep());
    semaphore.release_many(10).unwrap();
    children.into_iter().for_each(|child| child.join_ok());
    assert_eq!((semaphore.release_many(0), semaphore.available_permits()), (Ok(()), 0));
}

/// Restates CPython's `BaseSemaphoreTests.test_try_acquire`.
fn try_acquire_says_so_when_there_is_none() {
    let semaphore = Semaphore::new(2).unwrap();
    assert_eq!((semaphore.try_acquire(), semaphore.try_acquire()), (Ok(()), Ok(())));
    assert_eq!(semaphore.try_acquire(), Err(AcquireError::NoPermits));
    semaphore.release().unwrap();
    assert_eq!(semaphore.try_acquire(), Ok(()));
    assert_eq!(AcquireError::NoPermits.to_string(), "not enough permits now");
}

/// Restates CPython's `BaseSemaphoreTests.test_try_acquire_contended`.
fn contended_tries_take_no_more_than_there_is() {
    let semaphore = Semaphore::new(4).unwrap();
    let page = Page::new();
    semaphore.acquire().unwrap();
    let children: Vec<_> = (0..5)
        .map(|_| {
            fork_child(|| {
                page.add(0, u32::from(semaphore.try_acquire().is_ok()));
                page.add(0, u32::from(semaphore.try_acquire().is_ok()));
            })
        })
        .collect();
    children.into_iter().for_each(|child| child.join_ok());
    assert_eq!((page.get(0), semaphore.available_permits()), (3, 0));
}

/// Restates CPython's `BaseSemaphoreTests.test_acquire_timeout`.
fn timeouts_last_at_least_so_long() {
    let semaphore = Semaphore::new(2).unwrap();
    semaphore.acquire().unwrap();
    assert_eq!(semaphore.acquire_timeout(Duration::from_millis(5)), Ok(()));
    let wait = Duration::from_millis(30);
    let waits: [&dyn Fn() -> Option<AcquireError>; 5] = [
        &|| semaphore.acquire_timeout(wait).err(),
        &|| semaphore.acquire_deadline(Deadline::after(wait)).err(),
        &|| semaphore.acquire_many_timeout(2, wait).err(),
        &|| semaphore.permit_timeout(wait).err(),
        &|| semaphore.permit_deadline(Deadline::after(wait)).err(),
    ];
    for waits in waits {
        let start = Instant::now();
        assert_eq!(waits(), Some(AcquireError::TimedOut));
        assert!(start.elapsed() >= wait);
    }
    semaphore.release().unwrap();
    assert_eq!(semaphore.acquire_timeout(Duration::MAX), Ok(()));
    // As second in line.
    let first = fork_child(|| semaphore.acquire().unwrap());
    first.until_asleep();
    let start = Instant::now();
    assert_eq!(semaphore.acquire_timeout(wait), Err(AcquireError::TimedOut));
    assert!(start.elapsed() >= wait);
    semaphore.release().unwrap();
    first.join_ok();
}

/// Restates CPython's `BaseSemaphoreTests.test_with`.
fn a_guard_gives_back_on_the_way_out_also_in_a_panic() {
    let semaphore = BoundedSemaphore::new(2).unwrap();
    {
        let _first = semaphore.permit().unwrap();
        let _second = semaphore.try_permit().unwrap();
        assert_eq!(semaphore.try_permit().unwrap_err(), AcquireError::NoPermits);
        assert_eq!(semaphore.available_permits(), 0);
    }
    assert_eq!(semaphore.available_permits(), 2);
    let panicked = thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let _permit = semaphore.permit().unwrap();
            support::locks::panic_quietly()
        });
        worker.join().is_err()
    });
    assert!(panicked);
    assert_eq!(semaphore.available_permits(), 2);
}

/// Restates CPython's `SemaphoreTests.test_release_unacquired` and `BoundedSemaphoreTests.test_release_unacquired`.
fn releasing_what_was_never_acquired() {
    let plain = Semaphore::new(1).unwrap();
    plain.release().unwrap();
    plain.acquire().unwrap();
    plain.acquire().unwrap();
    plain.release().unwrap();
    let bounded = BoundedSemaphore::new(1).unwrap();
    assert!(bounded.release().is_err());
    bounded.acquire().unwrap();
    bounded.release().unwrap();
    assert!(bounded.release().is_err());
    assert_eq!(bounded.available_permits(), 1);
}

/// Restates CPython's `BaseSemaphoreTests.test_repr`.
fn debug_tells_the_state() {
    let semaphore = BoundedSemaphore::new(3).unwrap();
    let permit = semaphore.permit().unwrap();
    let me = nix::unistd::gettid();
    let state = format!(
        "Semaphore {{ available: 2, guarded: 1, limit: 3, holders: [{me}], line: free, sleeper: false }}"
    );
    assert_eq!(format!("{:?}", *semaphore), state);
    assert_eq!(format!("{semaphore:?}"), format!("BoundedSemaphore({state})"));
    assert_eq!(format!("{permit:?}"), format!("Permit {{ semaphore: {state} }}"));
}

fn many_are_acquired_all_or_none() {
    let semaphore = Semaphore::new(3).unwrap();
    assert_eq!(semaphore.try_acquire_many(4), Err(AcquireError::NoPermits));
    assert_eq!(semaphore.acquire_many_timeout(4, Duration::from_millis(5)), Err(AcquireError::TimedOut));
    assert_eq!(semaphore.available_permits(), 3);
    let all = fork_child(|| semaphore.acquire_many(5).unwrap());
    all.until_asleep();
    semaphore.release().unwrap();
    all.until_asleep();
    assert_eq!(semaphore.available_permits(), 4);
    semaphore.release_many(3).unwrap();
    all.join_ok();
    assert_eq!(semaphore.available_permits(), 2);
    semaphore.acquire_many(0).unwrap();
    semaphore.try_acquire_many(2).unwrap();
    semaphore.try_acquire_many(0).unwrap();
    assert_eq!(semaphore.available_permits(), 0);
}

fn more_than_there_can_ever_be_is_refused() {
    let bounded = BoundedSemaphore::new(3).unwrap();
    let refused = AcquireError::Impossible { need: 4, limit: 3 };
    assert_eq!(bounded.acquire_many(4), Err(refused));
    assert_eq!(bounded.try_acquire_many(4), Err(refused));
    assert_eq!(bounded.acquire_many_timeout(4, Duration::MAX), Err(refused));
    assert_eq!(refused.to_string(), "there can never be enough permits: need 4, limit is 3");
    let plain = Semaphore::new(3).unwrap();
    assert!(matches!(plain.acquire_many(usize::MAX), Err(AcquireError::Impossible { limit: 2_097_151, .. })));
    let nothing = BoundedSemaphore::new(0).unwrap();
    assert_eq!(nothing.acquire(), Err(AcquireError::Impossible { need: 1, limit: 0 }));
    assert_eq!(nothing.permit().unwrap_err(), AcquireError::Impossible { need: 1, limit: 0 });
    assert!(nothing.release().is_err());
    for many in [4, 1 << 31, (1 << 32) - 1, 1 << 32, usize::MAX] {
        let refused = ReleaseError::TooMany { released: many, available: 3, guarded: 0, limit: 3 };
        assert_eq!(bounded.release_many(many), Err(refused));
        assert!(plain.release_many(many.max(Semaphore::MAX_PERMITS - 2)).is_err());
    }
    assert_eq!((bounded.available_permits(), plain.available_permits()), (3, 3));
}

fn the_first_in_line_is_not_overtaken() {
    let semaphore = Semaphore::new(1).unwrap();
    let patient = fork_child(|| semaphore.acquire_many(2).unwrap());
    patient.until_asleep();
    assert_eq!(semaphore.try_acquire(), Err(AcquireError::NoPermits));
    assert_eq!(semaphore.try_permit().unwrap_err(), AcquireError::NoPermits);
    let late = fork_child(|| drop(semaphore.permit().unwrap()));
    late.until_asleep();
    assert_eq!(semaphore.available_permits(), 1);
    semaphore.release().unwrap();
    patient.join_ok();
    assert!(!late.has_ended());
    semaphore.release().unwrap();
    late.join_ok();
    assert_eq!(semaphore.available_permits(), 1);
}

fn a_wait_that_ended_by_its_deadline_keeps_nothing_for_itself() {
    let semaphore = Semaphore::new(1).unwrap();
    assert_eq!(semaphore.acquire_many_timeout(2, Duration::from_millis(1)), Err(AcquireError::TimedOut));
    assert_eq!(semaphore.try_acquire(), Ok(()));
}

fn over_releases_are_exact_under_races() {
    let semaphore = BoundedSemaphore::new(1_000).unwrap();
    for _ in 0..20 {
        semaphore.acquire_many(1_000).unwrap();
        let page = Page::new();
        let children: Vec<_> = (0..4)
            .map(|_| {
                fork_child(|| {
                    let accepted = (0..400).filter(|_| semaphore.release().is_ok()).count();
                    page.add(0, accepted as u32);
                })
            })
            .collect();
        children.into_iter().for_each(|child| child.join_ok());
        assert_eq!((page.get(0), semaphore.available_permits()), (1_000, 1_000));
    }
}

fn a_guards_permit_is_nobody_elses_to_release() {
    let semaphore = BoundedSemaphore::new(2).unwrap();
    let permit = semaphore.permit().unwrap();
    let refused = ReleaseError::TooMany { released: 1, available: 1, guarded: 1, limit: 2 };
    assert_eq!(semaphore.release(), Err(refused));
    semaphore.acquire().unwrap();
    semaphore.release().unwrap();
    drop(permit);
    assert_eq!(semaphore.available_permits(), 2);
}

fn guards_are_as_many_as_were_asked_for() {
    let semaphore = Semaphore::with_holders(3, 2).unwrap();
    let guards = [semaphore.permit().unwrap(), semaphore.permit().unwrap()];
    let refused = AcquireError::TooManyHolders { limit: 2 };
    assert_eq!(semaphore.try_permit().unwrap_err(), refused);
    assert_eq!(semaphore.permit().unwrap_err(), refused);
    assert_eq!(refused.to_string(), "2 guards hold permits already, limit is 2");
    assert_eq!(semaphore.acquire(), Ok(()));
    semaphore.release().unwrap();
    drop(guards);
    drop(semaphore.permit().unwrap());
    let none = BoundedSemaphore::with_holders(3, 0).unwrap();
    assert_eq!(none.permit().unwrap_err(), AcquireError::TooManyHolders { limit: 0 });
    assert_eq!((none.acquire(), none.available_permits()), (Ok(()), 2));
}

fn a_semaphore_takes_the_room_that_its_guards_need_and_no_more() {
    let region = Region::anonymous(1 << 16).unwrap();
    let taken = |place: &dyn Fn() -> Result<(), SemaphoreError>| {
        let before = region.room();
        place().unwrap();
        before - region.room()
    };
    assert_eq!(taken(&|| Semaphore::with_holders_in(&region, 5, 0).map(drop)), 64);
    assert_eq!(taken(&|| Semaphore::with_holders_in(&region, 5, 2).map(drop)), 64 + 64 + 2 * 64);
    assert_eq!(taken(&|| Semaphore::new_in(&region, 1).map(drop)), 64 + 64 + 16 * 64);
    assert_eq!(taken(&|| BoundedSemaphore::with_holders_in(&region, 5, 0).map(drop)), 64);
    assert_eq!(taken(&|| BoundedSemaphore::new_in(&region, 0).map(drop)), 64);
    assert_eq!(taken(&|| BoundedSemaphore::new_in(&region, 1).map(drop)), 64 + 64 + 64);
    let refused = Semaphore::with_holders_in(&region, 1, 1024).unwrap_err();
    assert_eq!(refused.to_string(), "too many holders of permits: 1024, limit is 1023");
    // That no guard can be out is said when there is a permit to have.
    let none = Semaphore::with_holders(1, 0).unwrap();
    assert_eq!(none.try_permit().unwrap_err(), AcquireError::TooManyHolders { limit: 0 });
    none.acquire().unwrap();
    assert_eq!(none.try_permit().unwrap_err(), AcquireError::NoPermits);
    let impossible = AcquireError::Impossible { need: 1, limit: 0 };
    assert_eq!(BoundedSemaphore::new(0).unwrap().try_permit().unwrap_err(), impossible);
    // With as many slots as there can be guards, no guard is refused for want of one: whoever died with it.
    let one = BoundedSemaphore::new(1).unwrap();
    for _ in 0..100 {
        fork_child(|| mem::forget(one.permit().unwrap())).join_ok();
        drop(one.permit().unwrap());
    }
}

fn a_thread_holds_only_so_many() {
    let locks = many_locks(2_039);
    let _held: Vec<_> = locks.iter().map(|lock| lock.lock().unwrap()).collect();
    let semaphore = Semaphore::new(2).unwrap();
    let _permit = semaphore.permit().unwrap();
    let refused = AcquireError::TooManyHeld { held: 2_040, limit: 2_040 };
    assert_eq!(semaphore.permit().unwrap_err(), refused);
    assert_eq!(refused.to_string(), "this thread holds 2040 locks and permits already, limit is 2040");
    assert_eq!(semaphore.acquire(), Ok(()));
}

fn a_forked_copy_of_a_permit_does_nothing() {
    let semaphore = BoundedSemaphore::new(2).unwrap();
    let permit = semaphore.permit().unwrap();
    let mut copy = Some(permit);
    fork_child(|| drop(copy.take())).join_ok();
    assert_eq!(semaphore.available_permits(), 1);
    fork_child(|| {
        let own: Permit<'_> = semaphore.permit().unwrap();
        assert_eq!(semaphore.available_permits(), 0);
        drop(own);
    })
    .join_ok();
    drop(copy);
    assert_eq!(semaphore.available_permits(), 2);
}

fn permits_go_from_process_to_process() {
    let (there, back) = (Semaphore::new(0).unwrap(), Semaphore::new(0).unwrap());
    let child = fork_child(|| {
        for _ in 0..3_000 {
            there.acquire().unwrap();
            back.release().unwrap();
        }
    });
    for _ in 0..3_000 {
        there.release().unwrap();
        back.acquire().unwrap();
    }
    child.join_ok();
    let barrier = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            barrier.wait();
            (0..3_000).for_each(|_| there.acquire().unwrap());
        });
        barrier.wait();
        (0..3_000).for_each(|_| there.release().unwrap());
    });
    assert_eq!((there.available_permits(), back.available_permits()), (0, 0));
}

fn what_was_written_before_release_is_seen_after_acquire() {
    let (full, empty) = (Semaphore::new(0).unwrap(), Semaphore::new(1).unwrap());
    let page = Page::new();
    let child = fork_child(|| {
        for turn in 0..5_000 {
            full.acquire().unwrap();
            assert_eq!(page.get(0), turn);
            empty.release().unwrap();
        }
    });
    for turn in 0..5_000 {
        empty.acquire().unwrap();
        page.set(0, turn);
        full.release().unwrap();
    }
    child.join_ok();
}

/// More than one wait can be about: the death of any of them is heard of.
fn two_hundred_guards_are_watched() {
    let semaphore = BoundedSemaphore::new(200).unwrap();
    let page = Page::new();
    let mut holders: Vec<_> = (0..200)
        .map(|_| {
            fork_child(|| {
                mem::forget(semaphore.permit().unwrap());
                page.add(0, 1);
                support::locks::sleep_for_ever();
            })
        })
        .collect();
    until(|| page.get(0) == 200);
    for _ in 0..20 {
        let waiter = fork_child(|| semaphore.acquire().unwrap());
        waiter.until_asleep();
        holders.pop().expect("there are 200").kill();
        waiter.join_ok();
        let waiter = fork_child(|| semaphore.acquire().unwrap());
        waiter.until_asleep();
        holders.remove(0).kill();
        waiter.join_ok();
    }
    holders.into_iter().for_each(|holder| holder.kill());
    assert_eq!(semaphore.available_permits(), 160);
    semaphore.release_many(40).unwrap();
}

fn a_semaphore_in_a_full_region_is_an_error() {
    let region = Region::anonymous(4096).unwrap();
    let first = Semaphore::new_in(&region, 1).unwrap();
    while Semaphore::new_in(&region, 1).is_ok() {}
    let refused = Semaphore::new_in(&region, 1).unwrap_err();
    assert!(matches!(refused, SemaphoreError::Memory(RegionError::NoRoom { need: 1152, .. })), "{refused:?}");
    assert_eq!(refused.to_string(), "no shared memory for a semaphore");
    drop(first.permit().unwrap());
}
