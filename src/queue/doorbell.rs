//! The word that commits is the word that sleepers sleep on.
//!
//! # Word
//! | bits  | meaning                                        | written by                                        |
//! |-------|------------------------------------------------|---------------------------------------------------|
//! | 0     | SLEEPER: somebody sleeps, or soon will         | a sleeper sets it, the waking commit clears it    |
//! | 1     | CLOSED: there will be no more commits          | `close`, once                                     |
//! | 2..32 | commits so far, wrapping                       | the one committer                                 |
//!
//! There is one committer at a time, the holder of its end's lock. The holder of the other end's lock sleeps, and
//! beside it whoever waits for several things at once (`sync/any.rs`).
//!
//! # Invariants
//! - D1: a commit that finds no SLEEPER is one exchange; one that finds it is one FUTEX_WAKE_OP that counts, clears
//!   the bit and wakes all. Neither can be split by a death.
//! - D2: a sleeper waits for the very word in which it saw nothing new. A commit in between changes the word, and
//!   the kernel refuses the wait. So a bit left by the dead does no harm: at worst a commit wakes nobody.
//! - D3: while the committer holds its lock, others can only set the bits, and nobody else moves the count.
//!
//! # Ordering edges
//! - `record`: Release in `commit` -> Acquire in `read`; carries what was committed.
//! - `closing`: the kernel's change in `close` -> Acquire in `read`; carries nothing but itself.
//!
//! # Crash points
//! - `bell.set`: SLEEPER is set and nobody sleeps: the next commit wakes nobody and clears it.
//!
//! Sources: futex(2) on FUTEX_WAKE_OP. A bell beside the commit word loses wakes: its sleeper looks once more, the
//! committer stores and dies, and the bell is as it was.

use crate::primitive::{
    Acquire, Change, Deadline, FutexWord, Mutant, Relaxed, Release, Spins, Wake, me, mutant, wait_any,
};

const SLEEPER: u32 = 1;
const CLOSED: u32 = 2;
const ONE: u32 = 4;
/// Counts wrap here.
pub(crate) const COUNT_MASK: u32 = u32::MAX >> 2;
/// The most that one commit can count: FUTEX_WAKE_OP adds at most 2047.
pub(crate) const MAX_COMMIT: u32 = 511;

/// The word at some instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading(u32);

impl Reading {
    /// Commits so far, wrapping at [`COUNT_MASK`].
    #[inline]
    pub(crate) fn count(self) -> u32 {
        self.0 >> 2
    }

    #[inline]
    pub(crate) fn is_closed(self) -> bool {
        self.0 & CLOSED != 0
    }

    fn has_sleeper(self) -> bool {
        self.0 & SLEEPER != 0
    }
}

/// There are no more commits: the doorbell was closed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed;

/// See the module.
#[repr(C)]
pub(crate) struct Doorbell {
    word: FutexWord,
    /// A bell beside the word: only a mutant sleeps on it.
    beside: FutexWord,
}

impl Doorbell {
    pub(crate) fn new() -> Doorbell {
        Doorbell { word: FutexWord::new(0), beside: FutexWord::new(0) }
    }

    #[inline]
    pub(crate) fn read(&self) -> Reading {
        // ORDERING(record): Acquire, so that we see what the count speaks of.
        // ORDERING(closing): the same.
        Reading(self.word.load(Acquire))
    }

    /// Commits `n` at once. Only the holder of this end's lock may.
    #[inline]
    pub(crate) fn commit(&self, n: u32) -> Result<(), Closed> {
        debug_assert!((1..=MAX_COMMIT).contains(&n));
        let release = if mutant(Mutant::RelaxedCommit) { Relaxed } else { Release };
        // ORDERING: Relaxed, only we count (D3); the exchange decides about the bits.
        let mut seen = Reading(self.word.load(Relaxed));
        loop {
            if seen.is_closed() {
                return Err(Closed);
            }
            if seen.has_sleeper() || mutant(Mutant::CommitThenWake) || mutant(Mutant::BellBeside) {
                self.commit_and_wake(n);
                return Ok(());
            }
            if mutant(Mutant::PendingOnCount) {
                self.word.announce_free(me());
            }
            // ORDERING(record): Release, so that who reads the count sees the record.
            let committed =
                self.word.compare_exchange(seen.0, seen.0.wrapping_add(n * ONE), release, Relaxed);
            if mutant(Mutant::PendingOnCount) {
                me().retract();
            }
            match committed {
                Ok(_) => return Ok(()),
                Err(now) => seen = Reading(now),
            }
        }
    }

    /// Counts, clears SLEEPER and wakes, in one step (D1). WAKE_OP is a full barrier: `record` holds.
    #[cold]
    fn commit_and_wake(&self, n: u32) {
        if mutant(Mutant::CommitThenWake) {
            let before = self.word.fetch_add(n * ONE, Release);
            if before & SLEEPER != 0 {
                self.word.fetch_and(!SLEEPER, Relaxed);
                self.word.wake(1);
            }
            return;
        }
        if mutant(Mutant::BellBeside) {
            self.word.fetch_add(n * ONE, Release);
            if self.beside.swap(0, Relaxed) != 0 {
                self.beside.wake(1);
            }
            return;
        }
        let sleepers = if mutant(Mutant::CommitWakesOne) { 1 } else { u32::MAX };
        self.word.change_and_wake(Change::Add(n * ONE - SLEEPER), sleepers);
    }

    /// Sleeps until the word is no longer what `seen` says, for the holder of the *other* end's lock; `also` is a
    /// second word to watch likewise. Spins a little before. May return for nothing: read again.
    pub(crate) fn sleep(
        &self,
        seen: Reading,
        also: Option<(&Doorbell, Reading)>,
        deadline: Option<Deadline>,
    ) -> Wake {
        if self.changes_soon(seen, also, deadline) {
            return Wake::Changed;
        }
        if mutant(Mutant::BellBeside) {
            self.beside.store(1, Relaxed);
            if self.word.load(Acquire) != seen.0 {
                return Wake::Changed;
            }
            return self.beside.wait(1, deadline);
        }
        let Some((_, mut expected)) = self.announce(seen) else { return Wake::Changed };
        if mutant(Mutant::TrustSleeperBit) {
            expected = self.word.load(Relaxed);
        }
        match also {
            Some((other, reading)) if !mutant(Mutant::CloseBesideSleeper) => {
                wait_any(&[(&self.word, expected), (&other.word, reading.0)], deadline)
            }
            _ => self.word.wait(expected, deadline),
        }
    }

    /// Looks for a little while whether the word changes, or the other one.
    pub(crate) fn changes_soon(
        &self,
        seen: Reading,
        also: Option<(&Doorbell, Reading)>,
        deadline: Option<Deadline>,
    ) -> bool {
        let mut spins = Spins::new(deadline);
        while spins.turn() {
            // ORDERING: Relaxed, a hint; the caller reads again.
            let also_changed = also.is_some_and(|(other, reading)| other.word.load(Relaxed) != reading.0);
            if self.word.load(Relaxed) != seen.0 || also_changed {
                return true;
            }
        }
        false
    }

    /// Announces a sleeper: the word to sleep on, and as what; `None` if it
    /// is no longer what `seen` says.
    pub(crate) fn announce(&self, seen: Reading) -> Option<(&FutexWord, u32)> {
        let expected = seen.0 | SLEEPER;
        // ORDERING: Relaxed, the bit carries nothing: the commit that clears it exchanges the same word.
        if !seen.has_sleeper() && self.word.compare_exchange(seen.0, expected, Relaxed, Relaxed).is_err() {
            return None;
        }
        // CRASH(bell.set): the bit is set, and we may never sleep.
        Some((&self.word, expected))
    }

    /// The word to sleep on beside another doorbell, as long as it is what `reading` says.
    pub(crate) fn as_it_was(&self, reading: Reading) -> (&FutexWord, u32) {
        (&self.word, reading.0)
    }

    /// Closes, and wakes whoever sleeps here or on `other`, in one step. Anybody may, any number of times. (The one
    /// value for which the call passes over sleepers, 0x7ff, has CLOSED set: nobody sleeps on it.)
    pub(crate) fn close(&self, other: &Doorbell) {
        // ORDERING(closing): the kernel's change is a full barrier.
        if mutant(Mutant::CloseUntold) {
            self.word.fetch_or(CLOSED, Release);
            return;
        }
        self.word.change_and_wake_both(Change::SetBit(CLOSED), &other.word);
    }

    /// Starts the count elsewhere, for tests of wrapping.
    #[cfg(test)]
    pub(crate) fn start_at(&self, count: u32) {
        self.word.store(count << 2, Release);
    }
}
