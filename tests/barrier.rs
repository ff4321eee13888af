//! What `Barrier` promises, with really forked children.

mod support;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use pshared::{Atomic, Barrier, BarrierError, Lock, NewBarrierError, Region, RegionError};
use support::{
    Child, fork_child,
    locks::{panic_quietly, sleep_for_ever},
    until,
};

fn main() -> ExitCode {
    support::main(support::tests![
        one_round_lets_all_through,
        many_rounds_keep_in_step,
        every_index_is_given_once_a_round,
        the_action_runs_once_a_round_before_anybody_goes_on,
        an_abort_breaks_it_for_all,
        a_reset_breaks_those_who_wait_and_nobody_else,
        a_reset_after_an_abort_makes_it_whole,
        a_timeout_breaks_it_for_all,
        a_wait_with_time_left_is_as_any_other,
        one_party_never_waits,
        threads_and_processes_meet,
        more_threads_than_parties_take_turns,
        more_threads_than_slots_take_turns,
        a_broken_barrier_fails_at_once_and_says_why,
        a_zero_timeout_gets_through_last,
        timeouts_last_at_least_so_long,
        a_panicking_action_fails_for_all,
        an_action_may_use_locks_and_dies_with_news,
        an_action_can_be_overtaken_by_a_timeout_an_abort_a_reset,
        an_action_may_not_wait_for_itself,
        a_child_forked_by_the_action_is_no_party,
        a_killed_sleeper_breaks_it_for_the_others,
        a_party_that_died_waiting_is_news_for_the_last,
        all_who_waited_may_die,
        a_killed_leader_breaks_it_for_the_others,
        a_party_killed_while_rounds_go_on_breaks_it,
        a_killed_resetter_leaves_it_whole_or_broken,
        a_thread_that_ends_elsewhere_is_no_death,
        what_was_written_before_is_seen_after,
        ten_thousand_deaths_leave_it_as_it_was,
        a_thousand_processes_go_on_together,
        a_thousand_processes_hear_of_a_death,
        a_barrier_that_cannot_be_is_an_error,
        debug_tells_the_state,
    ])
}

const PARTIES: usize = 5;

/// Forks children that do the same, and does it here too: `PARTIES` in all.
fn together(body: impl Fn()) {
    let children: Vec<_> = (1..PARTIES).map(|_| fork_child(&body)).collect();
    body();
    children.into_iter().for_each(Child::join_ok);
}

/// Forks a child that waits and must be told `expected`, and sees it fall asleep.
fn waiter(barrier: &Barrier, expected: BarrierError) -> Child {
    let child = fork_child(|| assert_eq!(barrier.wait().unwrap_err(), expected));
    child.until_asleep();
    child
}

fn waiters(count: usize, barrier: &Barrier, expected: BarrierError) -> Vec<Child> {
    (0..count).map(|_| waiter(barrier, expected)).collect()
}

fn passes(barrier: &Barrier) {
    assert!(barrier.wait().is_ok());
}

/// Waits, and will not be asked how it went.
fn comes(barrier: &Barrier) {
    let _ = barrier.wait();
}

/// A round of all parties gets through.
fn works(barrier: &Barrier) {
    let children: Vec<_> = (1..barrier.parties()).map(|_| fork_child(|| passes(barrier))).collect();
    barrier.wait().unwrap();
    children.into_iter().for_each(Child::join_ok);
}

/// Passes `rounds` rounds, counting before each, and sees after each that all have counted and none is a round ahead.
fn keep_in_step(barrier: &Barrier, counts: &[Atomic<u32>; 2], rounds: u32) {
    let parties = barrier.parties() as u32;
    for round in 0..rounds {
        counts[0].fetch_add(1);
        barrier.wait().unwrap();
        assert_eq!(counts[0].get(), (round + 1) * parties);
        counts[1].fetch_add(1);
        barrier.wait().unwrap();
        assert_eq!(counts[1].get(), (round + 1) * parties);
    }
    assert!(!barrier.is_broken());
}

fn counters() -> [Atomic<u32>; 2] {
    [(); 2].map(|()| Atomic::new(0).unwrap())
}

/// Restates CPython's `BarrierTests.test_barrier`, `_TestBarrier.test_barrier`.
fn one_round_lets_all_through() {
    let (barrier, counts) = (Barrier::new(PARTIES).unwrap(), counters());
    together(|| keep_in_step(&barrier, &counts, 1));
    assert_eq!(barrier.n_waiting(), 0);
}

/// Restates CPython's `test_barrier_10`: ten rounds, and here a thousand.
fn many_rounds_keep_in_step() {
    for rounds in [10, 1_000] {
        let (barrier, counts) = (Barrier::new(PARTIES).unwrap(), counters());
        together(|| keep_in_step(&barrier, &counts, rounds));
        assert_eq!(barrier.n_waiting(), 0);
    }
}

/// Restates CPython's `test_wait_return`.
fn every_index_is_given_once_a_round() {
    let barrier = Barrier::new(PARTIES).unwrap();
    let given: Vec<Atomic<u32>> = (0..PARTIES).map(|_| Atomic::new(0).unwrap()).collect();
    let led = Atomic::new(0_u32).unwrap();
    together(|| {
        for _ in 0..200 {
            let result = barrier.wait().unwrap();
            given[result.index()].fetch_add(1);
            assert_eq!(result.is_leader(), result.index() == PARTIES - 1);
            if result.is_leader() {
                led.fetch_add(1);
            }
        }
    });
    assert!(given.iter().all(|given| given.get() == 200));
    assert_eq!(led.get(), 200);
}

/// Restates CPython's `test_action`.
fn the_action_runs_once_a_round_before_anybody_goes_on() {
    let runs = Atomic::new(0_u32).unwrap();
    let counted = runs.clone();
    let barrier = Barrier::with_action(PARTIES, move || _ = counted.fetch_add(1)).unwrap();
    together(|| {
        for round in 1..=200 {
            barrier.wait().unwrap();
            // Nobody is a round ahead: this party has not arrived there yet.
            assert_eq!(runs.get(), round);
        }
    });
    assert_eq!(runs.get(), 200);
}

/// Restates CPython's `test_abort`: one does not wait, and aborts.
fn an_abort_breaks_it_for_all() {
    let barrier = Barrier::new(PARTIES).unwrap();
    let children = waiters(PARTIES - 1, &barrier, BarrierError::Aborted);
    assert_eq!(barrier.n_waiting(), PARTIES - 1);
    barrier.abort();
    children.into_iter().for_each(Child::join_ok);
    assert!(barrier.is_broken());
    assert_eq!(barrier.n_waiting(), 0);
    assert_eq!(barrier.wait().unwrap_err(), BarrierError::Aborted);
    barrier.abort();
    assert_eq!(barrier.wait().unwrap_err(), BarrierError::Aborted);
}

/// Restates CPython's `test_reset`.
fn a_reset_breaks_those_who_wait_and_nobody_else() {
    let (barrier, counts) = (Barrier::new(PARTIES).unwrap(), counters());
    let children = waiters(PARTIES - 1, &barrier, BarrierError::Reset);
    barrier.reset();
    assert!(!barrier.is_broken());
    assert_eq!(barrier.n_waiting(), 0);
    children.into_iter().for_each(Child::join_ok);
    together(|| keep_in_step(&barrier, &counts, 10));
    // With nobody there it does nothing.
    let before = format!("{barrier:?}");
    barrier.reset();
    assert_eq!(format!("{barrier:?}"), before);
}

/// Restates CPython's `test_abort_and_reset`.
fn a_reset_after_an_abort_makes_it_whole() {
    let (barrier, counts, gate) =
        (Barrier::new(PARTIES).unwrap(), counters(), Barrier::new(PARTIES).unwrap());
    together(|| {
        let result = if counts[0].fetch_add(1) == 0 {
            barrier.abort();
            Err(BarrierError::Aborted)
        } else {
            barrier.wait().map(drop)
        };
        assert_eq!(result, Err(BarrierError::Aborted));
        if gate.wait().unwrap().is_leader() {
            barrier.reset();
            counts[0].set(0);
        }
        gate.wait().unwrap();
        keep_in_step(&barrier, &counts, 10);
    });
    // Those who still wait when a broken barrier is made whole are told why it broke.
    let children = waiters(PARTIES - 1, &barrier, BarrierError::Aborted);
    barrier.abort();
    barrier.reset();
    children.into_iter().for_each(Child::join_ok);
    assert!(!barrier.is_broken());
}

/// Restates CPython's `test_timeout`: one comes too late.
fn a_timeout_breaks_it_for_all() {
    let barrier = Barrier::new(PARTIES).unwrap();
    let children = waiters(PARTIES - 2, &barrier, BarrierError::TimedOut);
    assert_eq!(barrier.wait_timeout(Duration::from_millis(20)).unwrap_err(), BarrierError::TimedOut);
    children.into_iter().for_each(Child::join_ok);
    assert!(barrier.is_broken());
    assert_eq!(barrier.wait().unwrap_err(), BarrierError::TimedOut);
    barrier.reset();
    works(&barrier);
}

/// Restates CPython's `test_default_timeout`, which here is none: time left is time left.
fn a_wait_with_time_left_is_as_any_other() {
    let barrier = Barrier::new(2).unwrap();
    for timeout in [Duration::from_secs(1000), Duration::MAX] {
        let child = fork_child(|| assert!(barrier.wait_timeout(timeout).is_ok()));
        child.until_asleep();
        barrier.wait_timeout(timeout).unwrap();
        child.join_ok();
    }
}

/// Restates CPython's `test_single_thread`.
fn one_party_never_waits() {
    let barrier = Barrier::new(1).unwrap();
    for _ in 0..100 {
        let result = barrier.wait().unwrap();
        assert!(result.index() == 0 && result.is_leader());
    }
    barrier.abort();
    assert_eq!(barrier.wait().unwrap_err(), BarrierError::Aborted);
}

/// Restates CPython's `test_thousand`: a thousand rounds, in which nobody overtakes another.
fn threads_and_processes_meet() {
    let (barrier, counts) = (Barrier::new(4).unwrap(), counters());
    let two = || {
        thread::scope(|scope| {
            scope.spawn(|| keep_in_step(&barrier, &counts, 1_000));
            keep_in_step(&barrier, &counts, 1_000);
        });
    };
    let child = fork_child(two);
    two();
    child.join_ok();
}

/// So many children, each with so many threads, pass as often as they can; together a number that all rounds use up.
fn take_turns(parties: usize, children: usize, threads: usize, total: u32) {
    let barrier = Barrier::new(parties).unwrap();
    let (tickets, passed) = (Atomic::new(0_u32).unwrap(), Atomic::new(0_u32).unwrap());
    let turns = || {
        while tickets.fetch_add(1) < total {
            barrier.wait().unwrap();
            passed.fetch_add(1);
        }
    };
    let children: Vec<_> = (0..children)
        .map(|_| {
            fork_child(|| {
                thread::scope(|scope| {
                    let threads: Vec<_> = (0..threads).map(|_| scope.spawn(turns)).collect();
                    threads.into_iter().for_each(|thread| thread.join().unwrap());
                });
            })
        })
        .collect();
    children.into_iter().for_each(Child::join_ok);
    assert_eq!((passed.get(), barrier.n_waiting()), (total, 0));
}

fn more_threads_than_parties_take_turns() {
    take_turns(3, 3, 2, 9_000);
}

fn more_threads_than_slots_take_turns() {
    take_turns(2, 4, 16, 20_000);
    take_turns(3, 20, 5, 9_999);
}

fn a_broken_barrier_fails_at_once_and_says_why() {
    let barrier = Barrier::new(2).unwrap();
    assert_eq!(barrier.wait_timeout(Duration::ZERO).unwrap_err(), BarrierError::TimedOut);
    assert_eq!(barrier.wait().unwrap_err(), BarrierError::TimedOut);
    barrier.abort(); // Broken already: it stays as it is.
    assert_eq!(barrier.wait().unwrap_err(), BarrierError::TimedOut);
    barrier.reset();
    barrier.abort();
    assert_eq!(barrier.wait().unwrap_err(), BarrierError::Aborted);
    assert_eq!(BarrierError::PeerDied.to_string(), "the barrier is broken: one of its parties died waiting");
}

fn a_zero_timeout_gets_through_last() {
    let barrier = Barrier::new(2).unwrap();
    let child = fork_child(|| passes(&barrier));
    child.until_asleep();
    assert!(barrier.wait_timeout(Duration::ZERO).unwrap().is_leader());
    child.join_ok();
}

fn timeouts_last_at_least_so_long() {
    let barrier = Barrier::new(2).unwrap();
    let start = Instant::now();
    assert!(barrier.wait_timeout(Duration::from_millis(30)).is_err());
    assert!(start.elapsed() >= Duration::from_millis(30));
    barrier.reset();
    assert!(barrier.wait_deadline(pshared::Deadline::after(Duration::from_millis(50))).is_err());
    assert!(start.elapsed() >= Duration::from_millis(80));
}

fn a_panicking_action_fails_for_all() {
    let barrier = Barrier::with_action(3, || panic_quietly()).unwrap();
    for _ in 0..20 {
        let children = waiters(2, &barrier, BarrierError::ActionFailed);
        assert!(catch_unwind(AssertUnwindSafe(|| barrier.wait())).is_err());
        children.into_iter().for_each(Child::join_ok);
        assert_eq!(barrier.wait().unwrap_err(), BarrierError::ActionFailed);
        barrier.reset();
        assert!(!barrier.is_broken());
    }
}

/// A barrier whose action takes a lock, which stands in the pending slot then, and ends when it is let.
struct Slow {
    barrier: Barrier,
    began: Atomic<u32>,
    go_on: Atomic<u32>,
}

fn slow(parties: usize) -> Slow {
    let (lock, began, go_on) = (Lock::new().unwrap(), Atomic::new(0).unwrap(), Atomic::new(0).unwrap());
    let (begins, may) = (began.clone(), go_on.clone());
    let barrier = Barrier::with_action(parties, move || {
        drop(lock.lock().unwrap());
        begins.fetch_add(1);
        until(|| may.get() != 0);
        drop(lock.lock().unwrap());
    });
    Slow { barrier: barrier.unwrap(), began, go_on }
}

fn an_action_may_use_locks_and_dies_with_news() {
    let slow = slow(3);
    for round in 1..=20 {
        let children = waiters(2, &slow.barrier, BarrierError::PeerDied);
        let leader = fork_child(|| comes(&slow.barrier));
        until(|| slow.began.get() == round);
        assert_eq!(slow.barrier.n_waiting(), 3);
        leader.kill();
        children.into_iter().for_each(Child::join_ok);
        assert_eq!(slow.barrier.wait().unwrap_err(), BarrierError::PeerDied);
        slow.barrier.reset();
    }
    slow.go_on.set(1);
    works(&slow.barrier);
}

fn an_action_can_be_overtaken_by_a_timeout_an_abort_a_reset() {
    for why in [BarrierError::TimedOut, BarrierError::Aborted, BarrierError::Reset] {
        let slow = slow(3);
        let asleep = waiter(&slow.barrier, why);
        // Long enough for the leader to begin.
        let limit = Duration::from_secs(1);
        let timed = fork_child(|| {
            let limit = if why == BarrierError::TimedOut { limit } else { Duration::MAX };
            assert_eq!(slow.barrier.wait_timeout(limit).unwrap_err(), why);
        });
        timed.until_asleep();
        let leader = fork_child(|| assert_eq!(slow.barrier.wait().unwrap_err(), why));
        until(|| slow.began.get() == 1);
        let resetter = (why == BarrierError::Reset).then(|| fork_child(|| slow.barrier.reset()));
        if why == BarrierError::Aborted {
            slow.barrier.abort();
        }
        asleep.join_ok();
        timed.join_ok();
        if let Some(resetter) = &resetter {
            resetter.until_asleep(); // The action still runs.
        }
        slow.go_on.set(1);
        leader.join_ok();
        match resetter {
            Some(resetter) => resetter.join_ok(),
            None => slow.barrier.reset(),
        }
        works(&slow.barrier);
    }
}

fn an_action_may_not_wait_for_itself() {
    use std::sync::{Arc, OnceLock};
    let itself = Arc::new(OnceLock::<Barrier>::new());
    let inner = itself.clone();
    let barrier = Barrier::with_action(1, move || {
        let barrier = inner.get().unwrap();
        assert_eq!(barrier.wait().unwrap_err(), BarrierError::WithinAction);
        barrier.reset();
    })
    .unwrap();
    itself.set(barrier.clone()).unwrap();
    for _ in 0..3 {
        assert_eq!(barrier.wait().unwrap_err(), BarrierError::Reset);
        assert!(!barrier.is_broken());
    }
}

fn a_child_forked_by_the_action_is_no_party() {
    let ended = Atomic::new(0_u32).unwrap();
    let ends = ended.clone();
    let barrier = Barrier::with_action(2, move || {
        // SAFETY: a child that goes on with the test's one thread.
        match unsafe { nix::unistd::fork() }.unwrap() {
            nix::unistd::ForkResult::Child => {}
            nix::unistd::ForkResult::Parent { child } => {
                nix::sys::wait::waitpid(child, None).unwrap();
                ends.fetch_add(1);
            }
        }
    })
    .unwrap();
    let me = std::process::id();
    let child = fork_child(|| passes(&barrier));
    child.until_asleep();
    let result = barrier.wait();
    if std::process::id() != me {
        assert_eq!(result.unwrap_err(), BarrierError::WithinAction);
        // SAFETY: ends the child of the action without running what belongs to the test.
        unsafe { nix::libc::_exit(0) }
    }
    assert!(result.unwrap().is_leader());
    child.join_ok();
    assert_eq!(ended.get(), 1);
}

/// Kills a sleeper of each place in the order of coming; the others hear of it, and so does the late.
fn a_killed_sleeper_breaks_it_for_the_others() {
    let barrier = Barrier::new(PARTIES).unwrap();
    for turn in 0..8 * (PARTIES - 1) {
        let mut children = waiters(PARTIES - 1, &barrier, BarrierError::PeerDied);
        children.remove(turn % (PARTIES - 1)).kill();
        let start = Instant::now();
        children.into_iter().for_each(Child::join_ok);
        assert!(start.elapsed() < Duration::from_secs(10), "they hear of it at once");
        assert_eq!(barrier.wait().unwrap_err(), BarrierError::PeerDied);
        barrier.reset();
    }
    works(&barrier);
}

fn a_party_that_died_waiting_is_news_for_the_last() {
    let barrier = Barrier::new(2).unwrap();
    for _ in 0..100 {
        waiter(&barrier, BarrierError::PeerDied).kill();
        assert_eq!(barrier.wait().unwrap_err(), BarrierError::PeerDied);
        barrier.reset();
    }
    works(&barrier);
}

fn all_who_waited_may_die() {
    let barrier = Barrier::new(PARTIES).unwrap();
    for dead in 1..PARTIES {
        for _ in 0..10 {
            // The first death is news to the others: they may have ended before they are killed.
            waiters(dead, &barrier, BarrierError::PeerDied).into_iter().rev().for_each(drop);
            assert_eq!(barrier.wait().unwrap_err(), BarrierError::PeerDied);
            barrier.reset();
        }
    }
    works(&barrier);
}

fn a_killed_leader_breaks_it_for_the_others() {
    // Without an action the last to arrive is through at once: it dies before it comes, or after.
    let barrier = Barrier::new(3).unwrap();
    for _ in 0..50 {
        let children: Vec<_> = (0..2)
            .map(|_| fork_child(|| assert!(matches!(barrier.wait(), Ok(_) | Err(BarrierError::PeerDied)))))
            .collect();
        children.iter().for_each(Child::until_asleep);
        let last = fork_child(|| {
            comes(&barrier);
            sleep_for_ever();
        });
        last.kill();
        if barrier.n_waiting() == 2 {
            barrier.wait().unwrap();
        }
        children.into_iter().for_each(Child::join_ok);
        barrier.reset();
    }
}

fn a_party_killed_while_rounds_go_on_breaks_it() {
    let barrier = Barrier::new(3).unwrap();
    let rounds = Atomic::new(0_u64).unwrap();
    for turn in 0..100 {
        let goes_on = || {
            loop {
                match barrier.wait_timeout(Duration::from_secs(20)) {
                    Ok(_) => rounds.fetch_add(1),
                    Err(why) => {
                        assert!(matches!(why, BarrierError::PeerDied | BarrierError::Aborted), "{why}");
                        return;
                    }
                };
            }
        };
        let before = rounds.get();
        let victim = fork_child(goes_on);
        let others = [(); 2].map(|()| fork_child(goes_on));
        until(|| rounds.get() > before + turn % 10);
        victim.kill();
        // It may have died between its waits: then the others are still there.
        until(|| barrier.is_broken() || others.iter().all(|other| support::is_asleep_in_futex(other.pid())));
        barrier.abort();
        others.into_iter().for_each(Child::join_ok);
        barrier.reset();
    }
    works(&barrier);
}

fn a_killed_resetter_leaves_it_whole_or_broken() {
    let barrier = Barrier::new(2).unwrap();
    let turns = Atomic::new(0_u64).unwrap();
    for turn in 0..200 {
        let before = turns.get();
        let resetter = fork_child(|| {
            loop {
                barrier.abort();
                barrier.reset();
                turns.fetch_add(1);
            }
        });
        until(|| turns.get() > before + turn % 7);
        resetter.kill();
        if barrier.is_broken() {
            assert_eq!(barrier.wait().unwrap_err(), BarrierError::Aborted);
            barrier.reset();
        }
        works(&barrier);
    }
}

fn a_thread_that_ends_elsewhere_is_no_death() {
    let barrier = Barrier::new(2).unwrap();
    for _ in 0..200 {
        thread::scope(|scope| {
            scope.spawn(|| barrier.wait().unwrap());
            barrier.wait().unwrap();
        });
    }
    // Both have gone, and their slots are free and clean.
    works(&barrier);
}

fn what_was_written_before_is_seen_after() {
    let barrier = Barrier::new(PARTIES).unwrap();
    let cells: Vec<_> = (0..PARTIES).map(|_| Atomic::new(0_u32).unwrap()).collect();
    let next = Atomic::new(0_u64).unwrap();
    together(|| {
        let mine = next.fetch_add(1) as usize;
        for round in 1..=500_u32 {
            cells[mine].set(round);
            barrier.wait().unwrap();
            assert!(cells.iter().all(|cell| cell.get() == round));
            barrier.wait().unwrap();
        }
    });
}

fn ten_thousand_deaths_leave_it_as_it_was() {
    let barrier = Barrier::new(2).unwrap();
    let (descriptors, mapped) = (support::descriptors(), support::address_space());
    for _ in 0..10_000 {
        let child = fork_child(|| comes(&barrier));
        until(|| barrier.n_waiting() == 1);
        child.kill();
        assert_eq!(barrier.wait().unwrap_err(), BarrierError::PeerDied);
        barrier.reset();
    }
    works(&barrier);
    assert_eq!(support::descriptors(), descriptors);
    assert!(support::address_space() <= mapped + (1 << 20));
}

fn a_thousand_processes_go_on_together() {
    let barrier = Barrier::new(1_001).unwrap();
    let children: Vec<_> = (0..1_000).map(|_| fork_child(|| passes(&barrier))).collect();
    until(|| barrier.n_waiting() == 1_000);
    children.iter().for_each(Child::until_asleep);
    assert!(barrier.wait().unwrap().is_leader());
    children.into_iter().for_each(Child::join_ok);
}

fn a_thousand_processes_hear_of_a_death() {
    let barrier = Barrier::new(1_001).unwrap();
    let mut children: Vec<_> = (0..1_000)
        .map(|_| fork_child(|| assert_eq!(barrier.wait().unwrap_err(), BarrierError::PeerDied)))
        .collect();
    until(|| barrier.n_waiting() == 1_000);
    children.iter().for_each(Child::until_asleep);
    children.remove(500).kill();
    children.into_iter().for_each(Child::join_ok);
    assert_eq!(barrier.wait().unwrap_err(), BarrierError::PeerDied);
}

/// Restates CPython's `test_repr` for what cannot be, and the limits.
fn a_barrier_that_cannot_be_is_an_error() {
    assert!(matches!(Barrier::new(0), Err(NewBarrierError::NoParties)));
    let many = Barrier::new(16_001).unwrap_err();
    assert!(matches!(many, NewBarrierError::TooManyParties { parties: 16_001, limit: 16_000 }));
    assert_eq!(many.to_string(), "too many parties: 16001, limit is 16000");
    let largest = Barrier::new(16_000).unwrap();
    assert_eq!(largest.wait_timeout(Duration::ZERO).unwrap_err(), BarrierError::TimedOut);
    let region = Region::anonymous(4096).unwrap();
    let first = Barrier::new_in(&region, 1).unwrap();
    let room = region.room();
    assert!(matches!(
        Barrier::new_in(&region, 100),
        Err(NewBarrierError::Memory(RegionError::NoRoom { .. }))
    ));
    assert_eq!(region.room(), room);
    first.wait().unwrap();
    let acting = Barrier::with_action_in(&region, 1, || ()).unwrap();
    acting.wait().unwrap();
}

/// Restates CPython's `test_repr`.
fn debug_tells_the_state() {
    let barrier = Barrier::new(2).unwrap();
    barrier.wait_timeout(Duration::ZERO).unwrap_err();
    let said = "Barrier { parties: 2, waiting: 0, acting: false, broken: Some(TimedOut), round: 0 }";
    assert_eq!(format!("{barrier:?}"), said);
    barrier.reset();
    let child = fork_child(|| comes(&barrier));
    until(|| barrier.n_waiting() == 1);
    let said = "Barrier { parties: 2, waiting: 1, acting: false, broken: None, round: 1 }";
    assert_eq!(format!("{barrier:?}"), said);
    child.kill();
}
