//! Who has registered at an end of a queue, so that the other end learns when they have all ended.
//!
//! # Protocol
//! A sender, or a receiver, that registers holds a slot (`sync/slots.rs`), a lock, for as long as it takes part; the
//! kernel frees it at the thread's end. Who waits at the other end sleeps on *one* slot that is held, beside its
//! doorbell: as long as that one is held they have not all ended, and when it is freed, by whomever, the sleeper wakes
//! and looks for another. Only the head of that end's line sleeps so, so a slot has one sleeper, which owes nobody a
//! wake; if it dies woken, the next in line looks for itself. While nobody has registered the head sleeps on `entries`
//! instead.
//!
//! # Words
//! | word      | meaning                                                     | written by                             |
//! |-----------|-------------------------------------------------------------|----------------------------------------|
//! | slots     | held by a thread that has registered                        | see `sync/raw_lock.rs`                 |
//! | `used`    | no slot from here on was ever held                          | see `sync/slots.rs`                    |
//! | `entries` | how many registered so far, wrapping; 0: nobody did         | who registers: one FUTEX_WAKE_OP       |
//!
//! # Invariants
//! - P1: who registers holds its slot before it is counted, and counting wakes who sleeps on `entries`, in one step.
//! - P2: they have all gone if all slots were found free while `entries` stood still: nobody registered in between, so
//!   at the end of the search nobody was registered.
//! - P3: what a peer sent before it left, or died, is committed; so who finds all gone looks at the ring once more.
//!
//! # Ordering edges
//! - `entry`: the kernel's change when one registers (a full barrier) -> Acquire when `entries` is read: who sees the
//!   entry sees the slot held.
//! - `left`: Release when a slot is freed, or the kernel's exchange at its holder's end -> Acquire when it is found
//!   free; carries what its holder sent, and who had registered by then.
//!
//! # Crash points
//! - `peers.claimed`: a slot that is held and not counted: the kernel frees it, and nobody was there.
//! - `peers.entered`: counted, and a slot of the dead: all who have registered may have gone.
//! - `peers.watched`: WAITERS in a slot, and no sleeper: its holder makes a system call more when it goes.

use crate::{
    primitive::{AcqRel, Acquire, AtomicU32, Change, FutexWord, Mutant, fence, me, mutant},
    region::{Handle, Row, Shareable, portable},
    sync::{Slot, Slots, may_hold_more},
};

/// More slots than these at one end take too long to look through.
pub(crate) const MAX_PEERS: usize = 4096;

/// An end's words beside its slots.
#[repr(C, align(64))]
struct Register {
    used: AtomicU32,
    entries: FutexWord,
    _rest: [u64; 7],
}

/// What the peers of both ends share: 128 bytes beside the slots.
#[repr(C)]
pub(crate) struct Registers {
    senders: Register,
    receivers: Register,
}

// SAFETY: atomic words.
unsafe impl Shareable for Registers {
    const ROBUST: &'static [usize] = &[];
}

impl Registers {
    pub(crate) fn new() -> Registers {
        let [senders, receivers] = [(); 2].map(|()| {
            let (used, entries) = (AtomicU32::new(0), FutexWord::new(0));
            Register { used, entries, _rest: [0; 7] }
        });
        Registers { senders, receivers }
    }
}

/// The registers of a queue that has them.
#[derive(Clone)]
pub(crate) struct Peers {
    registers: Handle<Registers>,
    /// First the senders', then as many of the receivers.
    slots: Row<Slot>,
}

portable!(Peers { registers, slots });

/// Why one cannot register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotEntered {
    /// As many have registered as there are slots.
    Crowded,
    /// The calling thread holds so many locks.
    TooMany(u32),
}

/// Whether there is anybody.
pub(crate) enum Watched<'a> {
    /// Sleep on the word while it is so, and look again.
    While(&'a FutexWord, u32),
    /// All who registered have ended.
    Gone,
}

impl Peers {
    pub(crate) fn new(registers: Handle<Registers>, slots: Row<Slot>) -> Peers {
        Peers { registers, slots }
    }

    fn each(&self) -> usize {
        self.slots.len() / 2
    }

    pub(crate) fn senders(&self) -> Party<'_> {
        let Register { used, entries, .. } = &self.registers.senders;
        Party { slots: Slots { slots: &self.slots[..self.each()], used }, entries }
    }

    pub(crate) fn receivers(&self) -> Party<'_> {
        let Register { used, entries, .. } = &self.registers.receivers;
        Party { slots: Slots { slots: &self.slots[self.each()..], used }, entries }
    }
}

/// Those who register at one end.
#[derive(Clone, Copy)]
pub(crate) struct Party<'a> {
    slots: Slots<'a>,
    entries: &'a FutexWord,
}

impl<'a> Party<'a> {
    /// How many can be registered at one time.
    pub(crate) fn room(self) -> usize {
        self.slots.slots.len()
    }

    /// Registers the calling thread; says where.
    pub(crate) fn enter(self) -> Result<usize, NotEntered> {
        let me = me();
        may_hold_more(me).map_err(NotEntered::TooMany)?;
        let (place, _) = self.slots.claim(me).ok_or(NotEntered::Crowded)?;
        // CRASH(peers.claimed): not counted.
        // ORDERING(entry): the kernel's change is a full barrier.
        if mutant(Mutant::EntryUntold) {
            self.entries.fetch_add(1, AcqRel);
        } else {
            self.entries.change_and_wake(Change::Add(1), u32::MAX);
        }
        // CRASH(peers.entered): counted; the kernel frees the slot.
        Ok(place)
    }

    /// Ends what [`enter`](Party::enter) began, in the same thread.
    pub(crate) fn leave(self, place: usize) {
        // ORDERING(left): the lock's `handover` and `inherit`.
        self.slots.slots[place].lock.unlock();
    }

    /// A slot that is held; none if they have all gone.
    fn search(self) -> Option<&'a Slot> {
        loop {
            // ORDERING(entry): Acquire.
            let entries = self.entries.load(Acquire);
            let held = self.slots.used().iter().find(|slot| !slot.lock.state().is_free());
            // ORDERING(left): Acquire for all slots that were found free.
            if !mutant(Mutant::PeersUnfenced) {
                fence(Acquire);
            }
            if held.is_some() || self.entries.load(Acquire) == entries || mutant(Mutant::PeersCountedOnce) {
                return held; // P2
            }
        }
    }

    /// Whether somebody registered, and all who did have ended.
    pub(crate) fn has_gone(self) -> bool {
        // ORDERING(entry): Acquire.
        self.entries.load(Acquire) != 0 && self.search().is_none()
    }

    /// What to sleep on until there may be nobody. Only the head of the other end's line may.
    pub(crate) fn watch(self) -> Watched<'a> {
        loop {
            // ORDERING(entry): Acquire.
            if self.entries.load(Acquire) == 0 {
                return Watched::While(self.entries, 0);
            }
            let Some(slot) = self.search() else { return Watched::Gone };
            if mutant(Mutant::PeersUnwatched) {
                return Watched::While(self.entries, self.entries.load(Acquire));
            }
            let (word, state) = slot.watch();
            // CRASH(peers.watched): the bit stays.
            if !state.is_free() {
                return Watched::While(word, state.0);
            }
        }
    }

    /// The threads that have registered, for whoever looks from outside.
    pub(crate) fn owners(self) -> impl Iterator<Item = u32> {
        let owners = self.slots.used().iter().map(|slot| slot.lock.state().owner());
        owners.filter(|&owner| owner != 0)
    }
}
