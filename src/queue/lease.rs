//! A place for an item that was taken and is not finished: who holds it, and how it comes back.
//!
//! # Words
//! | word         | meaning                                                        | written by                      |
//! |--------------|----------------------------------------------------------------|---------------------------------|
//! | `word`       | 0: free; TID (+ WAITERS): held by a taker; OWNER_DIED: free, the holder died | taker, or the kernel |
//! | `state`      | how many items were finished here, and what lies here ([`State`]) | the holder; if it is free, the head of the receiving line |
//! | `ticket`     | the number of the record that the item was                     | the taker, before `state`       |
//! | `len`        | its length; its bytes lie in the place's part of a buffer      | the taker, before `state`       |
//! | `deliveries` | how often it was handed to a taker                             | the taker                       |
//! | `kept`       | not 0: its taker has no guard for it                           | the holder                      |
//!
//! # Invariants
//! - L1: a taker holds the word from before the item lies here until it is finished or given back. So an item that
//!   lies in a free place has been given back, by its taker or by the kernel at its taker's end; and nothing needs to
//!   be said at a death.
//! - L2: finishing is one step on `state`: it counts the item, takes it away, and wakes the joiners who sleep on it.
//!   The word is freed afterwards; a death in between frees it too.
//! - L3: only the head of the receiving line sleeps on `word`, and only it puts items into places: so while it sleeps,
//!   no place becomes held. WAITERS is set by it, and goes together with waking it.
//! - L4: joiners alone set JOINER, by an exchange, and only where an item lies. A bit left by the dead does no harm.
//!
//! # Ordering edges
//! - `handback`: Release in `release` (or the kernel's exchange at the holder's end) -> Acquire in `owner` and `claim`;
//!   carries everything in the place.
//! - `state`: Release in `set_state` and `finish` -> Acquire in `state`; carries the count to who adds up.
//!
//! # Crash points
//! - `lease.pending`: named as pending, not ours. The kernel wakes one, for nothing.
//! - `lease.claimed`: ours, not yet linked. Pending: the kernel marks it.
//! - `lease.unlinked`: ours, no longer linked. Pending: the kernel marks it.
//! - `lease.awaited`: JOINER is set and nobody sleeps: who finishes makes a system call more.
//! - `lease.freed`: free, still pending. The kernel wakes one, for nothing.
//!
//! It is a lock that is tried and never waited for (`sync/raw_lock.rs` has the general one): the fewer states of its
//! word are why it can be shown that the one who watches misses no death.

use crate::{
    primitive::{
        Acquire, AtomicU32, Change, Deadline, FutexWord, Me, Mutant, Relaxed, Release, RobustWord, Wake,
        mutant,
    },
    region::Shareable,
    sync::OwnerWord,
};

/// What lies in a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Kind {
    /// Nothing.
    Nothing = 0,
    /// What may still be in the ring, if its taker died: see `tasks.rs`.
    Taking = 1,
    /// An item, taken or given back.
    Item = 2,
    /// An item that was given back too often.
    DeadLetter = 3,
}

/// `state` at some instant. Bit 0 is JOINER: somebody sleeps until the item is finished, or soon will. Bits 1 and 2 are
/// the [`Kind`]; the rest counts what was finished here, wrapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State(u32);

const JOINER: u32 = 1;
const KIND: u32 = 2;
const FINISHED: u32 = 8;
/// Counts wrap here.
pub(crate) const FINISHED_MASK: u32 = u32::MAX / FINISHED;

impl State {
    pub(crate) fn kind(self) -> Kind {
        match self.0 / KIND % 4 {
            0 => Kind::Nothing,
            1 => Kind::Taking,
            2 => Kind::Item,
            _ => Kind::DeadLetter,
        }
    }

    pub(crate) fn finished(self) -> u32 {
        self.0 / FINISHED
    }

    pub(crate) fn holding(self, kind: Kind) -> State {
        State(self.0 / FINISHED * FINISHED + kind as u32 * KIND)
    }
}

/// See the module. A cache line each.
#[repr(C, align(64))]
pub(crate) struct Lease {
    word: RobustWord,
    state: FutexWord,
    pub(crate) ticket: AtomicU32,
    pub(crate) len: AtomicU32,
    pub(crate) deliveries: AtomicU32,
    pub(crate) kept: AtomicU32,
    _rest: u32,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Lease>() == 64);

// SAFETY: every field is atomic or touched by the holder alone; robust links are the pointers that are allowed.
unsafe impl Shareable for Lease {
    const ROBUST: &'static [usize] = &[if cfg!(target_env = "musl") { 4 } else { 0 }];
}

/// What one who watches a place has to know.
pub(crate) enum Watched<'a> {
    /// Nobody holds it.
    Free(State),
    /// The caller does.
    Mine,
    /// Somebody does: the word changes and its sleeper is woken when that ends, by a death too.
    Held(&'a FutexWord, u32),
}

impl Lease {
    pub(crate) fn new() -> Lease {
        Lease {
            word: RobustWord::new(),
            state: FutexWord::new(0),
            ticket: AtomicU32::new(0),
            len: AtomicU32::new(0),
            deliveries: AtomicU32::new(0),
            kept: AtomicU32::new(0),
            _rest: 0,
        }
    }

    #[inline]
    pub(crate) fn state(&self) -> State {
        // ORDERING(state): Acquire.
        State(self.state.load(Acquire))
    }

    /// Only the holder may; if nobody holds it, the head of the receiving line. Not where an item lies: see
    /// [`finish`](Lease::finish).
    #[inline]
    pub(crate) fn set_state(&self, state: State) {
        // ORDERING(state): Release.
        self.state.store(state.0, Release);
    }

    /// Counts the item and takes it away, or makes it a dead letter; wakes the joiners (L2).
    #[inline]
    pub(crate) fn finish(&self, kind: Kind) {
        let seen = self.state.load(Relaxed) & !JOINER; // ORDERING: Relaxed, only we change it (L4).
        let next = State(seen.wrapping_add(FINISHED)).holding(kind).0;
        // ORDERING(state): Release.
        if mutant(Mutant::FinishThenWake)
            || self.state.compare_exchange(seen, next, Release, Relaxed).is_err()
        {
            self.finish_awaited(next.wrapping_sub(seen));
        }
    }

    /// In one step. WAKE_OP is a full barrier: `state` holds.
    #[cold]
    fn finish_awaited(&self, difference: u32) {
        if mutant(Mutant::FinishThenWake) {
            let before = self.state.fetch_add(difference, Release);
            if before & JOINER != 0 {
                self.state.fetch_and(!JOINER, Relaxed);
                self.state.wake(u32::MAX);
            }
            return;
        }
        let joiners = if mutant(Mutant::FinishWakesOne) { 1 } else { u32::MAX };
        self.state.change_and_wake(Change::Add(difference - JOINER), joiners);
    }

    /// Sleeps until the item that was seen to lie here is finished. May return for nothing.
    pub(crate) fn await_finish(&self, seen: State, deadline: Option<Deadline>) -> Wake {
        let expected = seen.0 | JOINER;
        // ORDERING: Relaxed, the bit carries nothing: who finishes exchanges the same word.
        if seen.0 != expected && self.state.compare_exchange(seen.0, expected, Relaxed, Relaxed).is_err() {
            return Wake::Changed;
        }
        // CRASH(lease.awaited): the bit stays: who finishes wakes nobody, and clears it.
        self.state.wait(expected, deadline)
    }

    #[inline]
    pub(crate) fn owner(&self) -> OwnerWord {
        // ORDERING(handback): Acquire, so that who finds the place free sees what lies there.
        OwnerWord(self.word.load(Acquire))
    }

    /// Holds the place, if nobody does.
    #[inline]
    pub(crate) fn claim(&self, me: Me) -> bool {
        let seen = self.owner();
        if !seen.is_free() {
            return false;
        }
        self.word.announce(me);
        // CRASH(lease.pending): nothing is ours.
        // ORDERING(handback): Acquire, so that we see what the last holder left.
        let claimed = self.word.compare_exchange(seen.0, seen.taken_by(me.tid()).0, Acquire, Relaxed).is_ok();
        if claimed {
            // CRASH(lease.claimed): the pending slot names a word that holds our TID: the kernel marks it.
            self.word.link(me);
        }
        me.retract();
        claimed
    }

    /// Lets go of the place, and wakes the one who watches it. What lies in it is given back.
    #[inline]
    pub(crate) fn release(&self, me: Me) {
        self.word.announce(me);
        self.word.unlink(me);
        // CRASH(lease.unlinked): pending and ours: the kernel marks it.
        // ORDERING(handback): Release, so that the next holder sees what we leave.
        if self.word.compare_exchange(me.tid(), 0, Release, Relaxed).is_err() {
            self.release_watched(me);
        }
        // CRASH(lease.freed): pending and free, or already another's: at worst one wakes for nothing.
        me.retract();
    }

    /// In one step (L3). WAKE_OP is a full barrier: `handback` holds.
    #[cold]
    fn release_watched(&self, me: Me) {
        if mutant(Mutant::LeaseFreedThenWake) {
            // ORDERING(handback): Release; the fault is the gap after it.
            self.word.swap(0, Release);
            me.retract();
            self.word.wake(1);
            return;
        }
        self.word.change_and_wake(Change::Clear, 1);
    }

    /// Announces to the holder, and to the kernel, that the caller is about to sleep on the word. Only the head of the
    /// receiving line may.
    pub(crate) fn watch(&self, me: Me) -> Watched<'_> {
        loop {
            let seen = self.owner();
            if seen.is_free() {
                return Watched::Free(self.state());
            }
            if seen.owner() == me.tid() {
                return Watched::Mine;
            }
            if mutant(Mutant::WatchWithoutWaiters) {
                return Watched::Held(&self.word, seen.0);
            }
            let expected = seen.with_waiters();
            // ORDERING: Relaxed, the bit carries nothing: whoever frees the word exchanges it and sees the bit.
            if seen.has_waiters() || self.word.compare_exchange(seen.0, expected.0, Relaxed, Relaxed).is_ok()
            {
                return Watched::Held(&self.word, expected.0);
            }
        }
    }
}
