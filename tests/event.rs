//! What `Event` promises, with really forked children.

mod support;

use std::{
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use pshared::{Atomic, Event, Region, RegionError};
use support::{fork_child, until};

fn main() -> ExitCode {
    support::main(support::tests![
        an_event_is_set_waited_for_and_cleared,
        a_child_waits_for_the_parent,
        threads_wait_for_each_other,
        set_and_clear_say_what_was,
        timeouts_last_at_least_so_long,
        a_pulse_reaches_all_who_were_waiting,
        a_killed_waiter_holds_up_neither_set_nor_the_others,
        a_killed_setter_leaves_a_usable_event,
        what_was_written_before_set_is_seen_after_wait,
        ten_thousand_deaths_leave_it_as_it_was,
        a_thousand_processes_are_reached,
        an_event_in_a_full_region_is_an_error,
        debug_tells_the_state,
    ])
}

/// Restates CPython's `_TestEvent.test_event`.
fn an_event_is_set_waited_for_and_cleared() {
    let event = Event::new().unwrap();
    assert!(!event.is_set());
    assert!(!event.wait_timeout(Duration::ZERO));
    let start = Instant::now();
    assert!(!event.wait_timeout(Duration::from_millis(30)));
    assert!(start.elapsed() >= Duration::from_millis(30));
    event.set();
    assert!(event.is_set());
    event.wait();
    assert!(event.wait_timeout(Duration::ZERO));
    assert!(event.wait_timeout(Duration::MAX));
    event.clear();
    assert!(!event.is_set());
    let child = fork_child(|| {
        thread::sleep(Duration::from_millis(10));
        event.set();
    });
    event.wait();
    child.join_ok();
}

fn a_child_waits_for_the_parent() {
    let event = Event::new().unwrap();
    let children: Vec<_> = (0..3).map(|_| fork_child(|| event.wait())).collect();
    children.iter().for_each(|child| child.until_asleep());
    assert!(event.set());
    children.into_iter().for_each(|child| child.join_ok());
}

fn threads_wait_for_each_other() {
    let (there, back) = (Event::new().unwrap(), Event::new().unwrap());
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..2_000 {
                there.wait();
                there.clear();
                back.set();
            }
        });
        for _ in 0..2_000 {
            there.set();
            back.wait();
            back.clear();
        }
    });
}

fn set_and_clear_say_what_was() {
    let event = Event::new().unwrap();
    assert!(!event.clear());
    assert!(event.set());
    assert!(!event.set());
    assert!(event.clear());
    assert!(!event.clear());
}

fn timeouts_last_at_least_so_long() {
    let event = Event::new().unwrap();
    let start = Instant::now();
    assert!(!event.wait_deadline(pshared::Deadline::after(Duration::from_millis(20))));
    assert!(start.elapsed() >= Duration::from_millis(20));
}

fn a_pulse_reaches_all_who_were_waiting() {
    // In CPython a waiter that has not run by the time of the clear has missed it.
    for _ in 0..100 {
        let event = Event::new().unwrap();
        let children: Vec<_> = (0..4).map(|_| fork_child(|| event.wait())).collect();
        children.iter().for_each(|child| child.until_asleep());
        event.set();
        event.clear();
        children.into_iter().for_each(|child| child.join_ok());
        assert!(!event.is_set());
    }
}

fn a_killed_waiter_holds_up_neither_set_nor_the_others() {
    for _ in 0..50 {
        let event = Event::new().unwrap();
        let mut children: Vec<_> = (0..3).map(|_| fork_child(|| event.wait())).collect();
        children.iter().for_each(|child| child.until_asleep());
        children.remove(1).kill();
        event.set();
        children.into_iter().for_each(|child| child.join_ok());
    }
}

fn a_killed_setter_leaves_a_usable_event() {
    let event = Event::new().unwrap();
    let turns = Atomic::new(0_u64).unwrap();
    for round in 0..100 {
        let before = turns.get();
        let setter = fork_child(|| {
            loop {
                event.set();
                event.clear();
                turns.fetch_add(1);
            }
        });
        until(|| turns.get() > before + round);
        setter.kill();
        let waiter = fork_child(|| event.wait());
        event.set();
        waiter.join_ok();
        event.clear();
    }
}

fn what_was_written_before_set_is_seen_after_wait() {
    let event = Event::new().unwrap();
    let cells: Vec<_> = (0..8).map(|_| Atomic::new(0_u32).unwrap()).collect();
    for round in 1..=500_u32 {
        let child = fork_child(|| {
            event.wait();
            assert!(cells.iter().all(|cell| cell.get() == round));
        });
        cells.iter().for_each(|cell| cell.set(round));
        event.set();
        child.join_ok();
        event.clear();
    }
}

fn ten_thousand_deaths_leave_it_as_it_was() {
    let event = Event::new().unwrap();
    let (descriptors, mapped) = (support::descriptors(), support::address_space());
    for _ in 0..10_000 {
        let child = fork_child(|| event.wait());
        child.kill();
    }
    assert!(event.set());
    event.wait();
    assert!(event.clear());
    assert_eq!(support::descriptors(), descriptors);
    assert!(support::address_space() <= mapped + (1 << 20));
}

fn a_thousand_processes_are_reached() {
    let event = Event::new().unwrap();
    let children: Vec<_> = (0..1_000).map(|_| fork_child(|| event.wait())).collect();
    children.iter().for_each(|child| child.until_asleep());
    event.set();
    children.into_iter().for_each(|child| child.join_ok());
}

fn an_event_in_a_full_region_is_an_error() {
    let region = Region::anonymous(4096).unwrap();
    let first = Event::new_in(&region).unwrap();
    while Event::new_in(&region).is_ok() {}
    assert!(matches!(Event::new_in(&region), Err(RegionError::NoRoom { need: 4, .. })));
    assert!(first.set());
}

/// Restates CPython's `_TestEvent.test_repr`: set and unset are told apart.
fn debug_tells_the_state() {
    assert_eq!(format!("{:?}", Event::new().unwrap()), "Event { set: false, sleepers: false, cleared: 0 }");
    let event = Event::new().unwrap();
    event.set();
    event.clear();
    event.set();
    assert_eq!(format!("{event:?}"), "Event { set: true, sleepers: false, cleared: 1 }");
}
