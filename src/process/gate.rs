//! The gate at which a newborn waits until its parent holds a descriptor of it.
//!
//! # Words
//! | word     | meaning                                              | written by                       |
//! |----------|------------------------------------------------------|----------------------------------|
//! | `lock`   | held: a parent is between its fork and its pidfd     | the parent; a child in passing   |
//! | `opened` | the number of the last start that came to its pidfd  | the parent, holding `lock`       |
//!
//! The parent takes `lock`, forks, opens the pidfd, stores the number of this start, frees `lock`. The child needs
//! no lock when it finds its number; else it waits for `lock` and looks once more. Whether it was a free or a death
//! that let it in does not matter: the number alone says whether the gate was opened.
//!
//! # Invariants
//! - G1: a gate belongs to one thread of one process; a forked copy of it makes another.
//! - G2: a start that fails sees its child off before the next one begins, so every number up to `opened` was opened
//!   for a living child or is nobody's.
//!
//! # Ordering edges
//! - `opened`: Release in `open` -> Acquire in `is_open`. It carries nothing but itself; what the child reads, it
//!   reads in its own copy of the parent's memory.
//!
//! # Crash points
//! - `gate.shut`: the parent dies before it stored the number: OWNER_DIED lets the child in, which leaves.
//! - `gate.opened`: the parent dies before it freed the lock: the child finds its number and goes on.
//! - A child that dies holding the lock leaves OWNER_DIED to whoever is next, who does not care.

use std::cell::RefCell;

use crate::{
    error::RegionError,
    primitive::{Acquire, AtomicU32, Mutant, Release, lineage, mutant},
    region::{Handle, Shareable, in_arena, portable},
    sync::{Patience, RawLock},
};

#[repr(C)]
struct Gate {
    lock: RawLock,
    opened: AtomicU32,
    _rest: u32,
}

// SAFETY: a lock that may be shared, and an atomic.
unsafe impl Shareable for Gate {
    const ROBUST: &'static [usize] = &[RawLock::WORD];
}

/// The gate of a thread, and how many starts it has seen.
struct Keeper {
    gate: Handle<Gate>,
    lineage: u32,
    starts: u32,
}

thread_local! {
    static KEEPER: RefCell<Option<Keeper>> = const { RefCell::new(None) };
}

/// The gate, shut for one start. Dropped, it lets the child of that start in to leave at once.
pub(crate) struct ShutGate(Ticket);

/// What the child of one start passes the gate with.
#[derive(Clone)]
pub(crate) struct Ticket {
    gate: Handle<Gate>,
    number: u32,
}
portable!(Ticket { gate, number });

impl ShutGate {
    /// Shuts the calling thread's gate.
    pub(crate) fn new() -> Result<ShutGate, RegionError> {
        let shut = KEEPER.try_with(|keeper| {
            let mut keeper = keeper.try_borrow_mut().ok()?;
            // A child that was stopped in passing still holds the lock: it keeps that gate, and we make another.
            let usable =
                keeper.take_if(|k| k.lineage == lineage() && k.gate.lock.lock(Patience::None).is_ok());
            let mut usable = usable?;
            usable.starts = usable.starts.wrapping_add(1);
            let shut = ShutGate(Ticket { gate: usable.gate.clone(), number: usable.starts });
            *keeper = Some(usable);
            Some(shut)
        });
        match shut {
            Ok(Some(shut)) => Ok(shut),
            _ => ShutGate::new_gate(),
        }
    }

    /// Makes a gate, shuts it, and keeps it for later.
    #[cold]
    fn new_gate() -> Result<ShutGate, RegionError> {
        let gate = in_arena(size_of::<Gate>(), |region| {
            region.place(Gate { lock: RawLock::new(), opened: AtomicU32::new(0), _rest: 0 })
        })?;
        let shut = gate.lock.lock(Patience::None);
        assert!(shut.is_ok(), "a new gate is {:?}", gate.lock.state());
        let keeper = Keeper { gate: gate.clone(), lineage: lineage(), starts: 1 };
        // A thread that is ending has no place to keep it.
        let _ = KEEPER.try_with(|kept| kept.try_borrow_mut().map(|mut kept| *kept = Some(keeper)));
        Ok(ShutGate(Ticket { gate, number: 1 }))
    }

    /// Opens it: the parent can see the child.
    pub(crate) fn open(self) {
        if mutant(Mutant::GateFreedUnopened) {
            self.0.gate.lock.unlock();
            self.0.gate.opened.store(self.0.number, Release);
            return std::mem::forget(self);
        }
        // CRASH(gate.shut): the kernel frees the lock; the child does not find its number and leaves.
        // ORDERING(opened): Release, for the child's Acquire.
        self.0.gate.opened.store(self.0.number, Release);
        // CRASH(gate.opened): the kernel frees the lock; the child finds its number and goes on.
    }

    /// What the child needs to pass it.
    pub(crate) fn ticket(&self) -> &Ticket {
        &self.0
    }
}

impl Ticket {
    /// The child's side: waits until the parent opened the gate, gave up, or died. Says whether to go on.
    pub(crate) fn pass(&self) -> bool {
        if self.is_open() {
            return true;
        }
        if self.gate.lock.lock(Patience::FOREVER).is_err() {
            return false;
        }
        self.gate.lock.unlock();
        self.is_open()
    }

    fn is_open(&self) -> bool {
        // ORDERING(opened): Acquire. The parent may have opened it for later children already.
        self.gate.opened.load(Acquire).wrapping_sub(self.number) as i32 >= 0
    }
}

impl Drop for ShutGate {
    fn drop(&mut self) {
        self.0.gate.lock.unlock();
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread, time::Duration};

    use super::*;

    #[test]
    fn a_gate_serves_one_start_after_the_other() {
        let first = ShutGate::new().unwrap();
        let (gate, number) = (&raw const *first.0.gate, first.0.number);
        assert!(!first.0.is_open());
        first.open();
        let second = ShutGate::new().unwrap();
        assert_eq!((&raw const *second.0.gate, second.0.number), (gate, number + 1));
        assert!(!second.0.is_open());
    }

    #[test]
    fn a_late_child_finds_its_number_though_the_gate_is_shut_again() {
        let first = ShutGate::new().unwrap();
        let late = first.ticket().clone();
        first.open();
        let _second = ShutGate::new().unwrap();
        assert!(late.pass());
    }

    #[test]
    fn a_gate_whose_child_died_in_passing_serves_on() {
        let first = ShutGate::new().unwrap();
        let gate = first.0.gate.clone();
        first.open();
        // A thread that ends holding it stands for the child.
        let held =
            thread::scope(|scope| scope.spawn(|| gate.lock.lock(Patience::FOREVER).is_ok()).join().unwrap());
        assert!(held && gate.lock.state().owner_died());
        assert_eq!(&raw const *ShutGate::new().unwrap().0.gate, &raw const *gate);
    }

    #[test]
    fn a_gate_whose_child_stopped_in_passing_is_left_to_it() {
        let first = ShutGate::new().unwrap();
        let gate = first.0.gate.clone();
        first.open();
        let (holds, held) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        thread::scope(|scope| {
            // A thread that holds it stands for the child.
            let gate = &gate;
            let stopped = scope.spawn(move || {
                holds.send(gate.lock.lock(Patience::FOREVER).is_ok()).unwrap();
                let _ = ended.recv_timeout(Duration::from_secs(5));
                gate.lock.unlock();
            });
            assert!(held.recv().unwrap());
            assert_ne!(&raw const *ShutGate::new().unwrap().0.gate, &raw const **gate);
            let _ = end.send(());
            stopped.join().unwrap();
        });
    }
}
