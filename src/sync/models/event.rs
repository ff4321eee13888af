//! Models of the event: setters and clearers that die, waiters that die, pulses.
//!
//! What the setter wrote before lies in an `UnsafeCell`: a flag that carries nothing is reported as a race. A lost wake
//! is a deadlock.

use std::sync::Arc;

use crate::{
    primitive::{
        Mutant, UnsafeCell,
        model::{
            explore::{every_death, every_load, explore, fails_with, spawn},
            kernel::die_after,
        },
    },
    sync::event::RawEvent,
};

/// A flag, and what it speaks of.
struct Signal {
    event: RawEvent,
    number: UnsafeCell<u32>,
}

// SAFETY: loom checks every access to the number.
unsafe impl Sync for Signal {}
// SAFETY: nothing in it belongs to a thread.
unsafe impl Send for Signal {}

impl Signal {
    fn new() -> Arc<Signal> {
        Arc::new(Signal { event: RawEvent::new(), number: UnsafeCell::new(0) })
    }

    fn set(&self) {
        // SAFETY: loom panics if anybody else is at it.
        self.number.with_mut(|number| unsafe { *number = 7 });
        self.event.set();
    }

    fn wait(&self) {
        assert!(self.event.wait(None));
        // SAFETY: as above.
        self.number.with(|number| assert_eq!(unsafe { *number }, 7));
    }
}

/// Two wait; one sets and at once clears: both have been waiting, or find the flag set, or wait for the second set.
fn pulse_reaches_both() {
    let signal = Signal::new();
    let waiters = [(); 2].map(|()| {
        let signal = signal.clone();
        spawn(move || signal.wait())
    });
    signal.set();
    signal.event.clear();
    signal.event.set();
    let _ = waiters.map(|waiter| waiter.join());
}

/// One waits, and the flag is set and cleared; if it was asleep by then, nobody else will wake it.
fn a_sleeper_hears_a_pulse() {
    let signal = Signal::new();
    let waiter = spawn({
        let signal = signal.clone();
        move || signal.wait()
    });
    // Not before it has announced itself: then it has begun to wait in this generation.
    let announced = signal.event.word.load(crate::primitive::Acquire) & 1 != 0;
    signal.set();
    signal.event.clear();
    if !announced {
        signal.event.set();
    }
    waiter.join();
}

/// The setter dies after `fuel` steps. If the flag is not set by then, another sets it.
fn setter_dies(fuel: usize) {
    let signal = Signal::new();
    let waiters = [(); 2].map(|()| {
        let signal = signal.clone();
        spawn(move || signal.wait())
    });
    let victim = spawn({
        let signal = signal.clone();
        move || die_after(fuel, || signal.set())
    });
    let survived = victim.join().is_ok();
    assert!(!survived || signal.event.is_set());
    if !signal.event.is_set() {
        signal.event.set();
    }
    let _ = waiters.map(|waiter| waiter.join());
}

/// A waiter dies after `fuel` steps; another waits beside it.
fn waiter_dies(fuel: usize) {
    let signal = Signal::new();
    let victim = spawn({
        let signal = signal.clone();
        move || die_after(fuel, || signal.wait())
    });
    let waiter = spawn({
        let signal = signal.clone();
        move || signal.wait()
    });
    signal.set();
    let _ = victim.join();
    waiter.join();
}

#[test]
fn a_pulse_reaches_everybody() {
    explore("two waiters, set, clear, set", 3, pulse_reaches_both);
    every_load(|| explore("a waiter, set, clear", 4, a_sleeper_hears_a_pulse));
}

#[test]
fn a_setter_that_dies_wakes_all_or_none() {
    every_death("setter, two waiters", 3, setter_dies);
}

#[test]
fn a_waiter_that_dies_holds_nobody_up() {
    every_death("waiter, another, setter", 3, waiter_dies);
}

#[test]
fn mutant_set_then_wake_is_seen() {
    let said = fails_with(Mutant::SetThenWake, || every_death("", 3, setter_dies));
    assert!(said.contains("deadlock"), "{said}");
}

#[test]
fn mutant_set_wakes_one_is_seen() {
    let said = fails_with(Mutant::SetWakesOne, || explore("", 3, pulse_reaches_both));
    assert!(said.contains("deadlock"), "{said}");
}

#[test]
fn mutant_clear_keeps_generation_is_seen() {
    let said =
        fails_with(Mutant::ClearKeepsGeneration, || every_load(|| explore("", 4, a_sleeper_hears_a_pulse)));
    assert!(said.contains("deadlock"), "{said}");
}

#[cfg(feature = "shuttle")]
mod crowd {
    //! Eight threads, any of which may die.

    use super::*;
    use crate::primitive::model::explore::crowds::{CROWD, crowd, mortal};

    #[test]
    fn a_crowd_of_mortals_hears_of_it() {
        crowd("events: seven who wait, one who sets, clears and sets", || {
            let signal = Signal::new();
            let waiters = [(); CROWD - 1].map(|()| {
                let signal = signal.clone();
                mortal(20, move || signal.wait())
            });
            signal.set();
            let pulse = {
                let signal = signal.clone();
                move || {
                    signal.event.clear();
                    signal.event.set();
                }
            };
            if mortal(20, pulse).join().is_err() {
                signal.event.set();
            }
            let _ = waiters.map(|waiter| waiter.join());
            assert!(signal.event.is_set());
        });
    }
}
