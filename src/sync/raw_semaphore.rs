//! [`RawSemaphore`]: a count of permits, a line of those who wait for some, and the head of the line, who sleeps.
//!
//! # Words
//! | `word`, bits | meaning                                         | written by                                        |
//! |--------------|-------------------------------------------------|---------------------------------------------------|
//! | 0            | SLEEPER: the head of the line sleeps, or soon will | the holder of `line` alone                      |
//! | 1..11        | guards: how many permits guards hold            | who moves a permit to or from a guard (`ledger.rs`) |
//! | 11..32       | free permits                                    | who takes some or gives some back                 |
//!
//! `bell` is always 0: it is what the kernel rings when one dies who was about to wake the head.
//! `line` is held by the head: by one thread that waits for permits. The others that wait, wait for `line`.
//! `limit` is the most that free permits and guards may come to. It never changes. These four are one cache line, and
//! all that a semaphore without guards has. With guards, a row of slots (`slots.rs`) stands behind it, whose first cell
//! is no slot but their *book* (`ledger.rs`).
//!
//! # Invariants
//! - P1: free permits and guards together never exceed `limit`: whoever adds looks at both in the word that it
//!   exchanges.
//! - P2: while SLEEPER is set, only the holder of `line` takes permits, by guard or without. So nobody gets past a head
//!   that sleeps, be it one that waits for many permits.
//! - P3: the head sleeps on the word in which it saw too few permits, on the bell, and on the slots of the guards that
//!   it saw (`ledger.rs`). The bell is queued on *before* the word is compared: then whoever adds permits does it
//!   before the comparison, which fails, or after it, and by then its bell would be heard.
//! - P4: who adds permits while SLEEPER is set wakes the head, or dies with the bell pending.
//! - P5: a head that is killed, or gives up, frees `line`, and the next in line looks for itself: at the word, and at
//!   the guards. So a wake that was spent on the dead is not missed.
//!
//! SLEEPER stays set until the head has its permits: a wake that comes too early or twice costs a look. Left by the
//! dead it sends newcomers to the line, where the first becomes head and takes it away.
//!
//! # Ordering edges
//! - `permit`: Release in `give` -> Acquire in `take`; carries what was written before the permit was given back.
//! - `guards`: AcqRel in `take` -> Acquire in `wait_as_head`, both on the word: a head that sees SLEEPER set sees the
//!   slot of every guard that came before.
//!
//! # Crash points
//! - `semaphore.heading`: `line` is held, nothing is taken: the kernel hands it to the next in line.
//! - `semaphore.announced`: SLEEPER is set and nobody sleeps: likewise, and the next head sleeps or clears it.
//! - `semaphore.belled`: the bell is pending, nothing is added: the head wakes for nothing.
//! - `semaphore.unrung`: permits are added, the head is not woken: the kernel rings the bell.
//!
//! An acquire and a release that meet nobody are one exchange each, so no death can part them. Sources: futex(2),
//! futex_waitv(2), whose words are compared and queued one after the other.

use std::time::Duration;

use crate::{
    error::RegionError,
    primitive::{
        AcqRel, Acquire, AtomicU32, Bell, Deadline, FutexWord, Mutant, Relaxed, Release, SPINS, Spins, Wake,
        me, mutant, spin_hint, wait_any,
    },
    region::{Handle, Region, Row, Shareable, portable},
    sync::{
        owner::OwnerWord,
        raw_lock::{Hold, Patience, RawLock, Refused},
        slots::{Slot, Slots},
    },
};

const SLEEPER: u32 = 1;
const GUARD: u32 = 1 << 1;
const PERMIT: u32 = 1 << 11;

/// The most permits that a semaphore can have.
pub(crate) const MAX_PERMITS: u32 = u32::MAX / PERMIT;
/// The most permits that guards can hold at once.
pub(crate) const MAX_HOLDERS: usize = (PERMIT / GUARD - 1) as usize;

/// How long one who does not wait leaves to somebody else's few instructions.
const MOMENT: Duration = Duration::from_millis(1);

/// The word at some instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count(pub(super) u32);

impl Count {
    /// Permits that nobody has.
    #[inline]
    pub(crate) fn free(self) -> u32 {
        self.0 / PERMIT
    }

    /// Permits that guards hold.
    #[inline]
    pub(crate) fn guards(self) -> u32 {
        self.0 % PERMIT / GUARD
    }

    #[inline]
    pub(crate) fn has_sleeper(self) -> bool {
        self.0 & SLEEPER != 0
    }

    /// `n` permits fewer, if `who` may take so many of these (P2). The head takes SLEEPER away with them.
    #[inline]
    pub(super) fn less(self, n: u32, who: Who) -> Option<Count> {
        let sleeper = self.0 & SLEEPER;
        match who {
            _ if self.free() < n => None,
            Who::Head => Some(Count(self.0 - n * PERMIT - sleeper)),
            Who::Newcomer if sleeper == 0 || mutant(Mutant::NewcomerPasses) => {
                Some(Count(self.0 - n * PERMIT))
            }
            Who::Newcomer => None,
        }
    }

    /// One permit fewer, likewise, and a guard more.
    #[inline]
    pub(super) fn with_guard(self, who: Who) -> Option<Count> {
        self.less(1, who).map(|less| Count(less.0 + GUARD))
    }

    /// A guard fewer, and its permit free. There is a guard.
    #[inline]
    pub(super) fn without_guard(self) -> Count {
        Count(self.0 + (PERMIT - GUARD))
    }

    /// `n` permits more, if there are then no more than `limit` says (P1).
    #[inline]
    fn more(self, n: u32, limit: Limit) -> Option<Count> {
        let all = u64::from(self.free()) + u64::from(self.guards()) + u64::from(n);
        (all * u64::from(PERMIT) <= limit.0).then(|| Count(self.0 + n * PERMIT))
    }

    /// The same, if there are neither guards nor a sleeper: told by one comparison.
    #[inline]
    fn more_alone(self, n: u32, limit: Limit) -> Option<Count> {
        let next = u64::from(self.0) + u64::from(n) * u64::from(PERMIT);
        (self.0.is_multiple_of(PERMIT) && next <= limit.0).then_some(Count(next as u32))
    }
}

/// The most that free permits and guards may come to, as a word with so many free permits.
#[derive(Clone, Copy)]
struct Limit(u64);

impl Limit {
    fn new(bound: u32) -> Limit {
        Limit(u64::from(bound) * u64::from(PERMIT))
    }
}

/// Who wants permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// One that has not stood in line.
    Newcomer,
    /// The holder of `line`.
    Head,
}

/// Why no permit was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAcquired {
    NoPermits,
    TimedOut,
    /// All slots for guards are held.
    NoSlot,
}

/// What every semaphore has in shared memory: one cache line. One with slots has their book and them behind it.
#[repr(C, align(64))]
pub(crate) struct Words {
    pub(super) word: FutexWord,
    pub(super) bell: Bell,
    limit: Limit,
    line: RawLock,
}

// SAFETY: a lock and atomics, and a number that nobody changes, for which any bytes will do.
unsafe impl Shareable for Words {
    const ROBUST: &'static [usize] = &[std::mem::offset_of!(Words, line) + RawLock::WORD];
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Words>() == 64);

/// Words and algorithm.
#[derive(Clone)]
pub(crate) struct RawSemaphore {
    pub(super) words: Handle<Words>,
    /// The book of the slots and the slots themselves, or nothing at all.
    row: Row<Slot>,
}

portable!(RawSemaphore { words, row });

impl RawSemaphore {
    /// What a semaphore takes of a region.
    pub(crate) fn footprint(holders: usize) -> usize {
        size_of::<Words>() + cells(holders) * size_of::<Slot>()
    }

    /// `permits` of them are free, and there may be `bound`; `holders` guards can be out at once.
    pub(crate) fn new_in(
        region: &Region,
        permits: u32,
        bound: u32,
        holders: usize,
    ) -> Result<RawSemaphore, RegionError> {
        debug_assert!(permits <= bound && bound <= MAX_PERMITS && holders <= MAX_HOLDERS);
        let words = Words {
            word: FutexWord::new(permits * PERMIT),
            bell: Bell::new(),
            limit: Limit::new(bound),
            line: RawLock::new(),
        };
        let (words, row) = region.place_with_row(words, cells(holders), Slot::new)?;
        Ok(RawSemaphore { words, row })
    }

    /// The most that free permits and guards may come to.
    #[inline]
    pub(crate) fn bound(&self) -> u32 {
        (self.words.limit.0 / u64::from(PERMIT)) as u32
    }

    /// How many guards can be out at once.
    pub(crate) fn holder_limit(&self) -> usize {
        self.row.len().saturating_sub(1)
    }

    /// The slots' book, and the slots; none if no guard can be out.
    #[inline]
    pub(super) fn book(&self) -> Option<Book<'_>> {
        self.row.split_first().map(|(cell, slots)| Book { cell, slots })
    }

    /// The slots that may be held.
    pub(super) fn used_slots(&self) -> &[Slot] {
        self.book().map_or(&[], |book| book.claimable().used())
    }

    /// The word, for whoever looks from outside.
    pub(crate) fn count(&self) -> Count {
        // ORDERING: Relaxed, a look; whoever acts on it exchanges.
        Count(self.words.word.load(Relaxed))
    }

    /// Who is at the head of the line, for whoever looks from outside.
    pub(crate) fn line(&self) -> OwnerWord {
        self.words.line.state()
    }

    /// Free permits, those of the dead included.
    pub(crate) fn available(&self) -> u32 {
        let count = self.count();
        if count.guards() == 0 {
            return count.free();
        }
        // Whoever is at it, if we cannot be, needs but a few instructions: or it is stopped, and holds them up.
        let _ = self.reclaim(moment());
        self.count().free()
    }

    /// Takes `n` permits, all or none, if that needs no waiting. Says whether it did.
    #[inline]
    pub(crate) fn acquire_at_once(&self, n: u32) -> bool {
        self.take(|seen| seen.less(n, Who::Newcomer))
    }

    /// Takes `n` permits, all or none, waiting for them as long as `patience` lasts. There can be so many.
    pub(crate) fn acquire(&self, n: u32, patience: Patience) -> Result<(), NotAcquired> {
        self.stand_in_line(n, patience, |who| Ok(self.take(|seen| seen.less(n, who)).then_some(())))
    }

    /// Makes a change that takes free permits, unless it is none for the count that stands. Says whether it was made.
    #[inline]
    pub(super) fn take(&self, change: impl Fn(Count) -> Option<Count>) -> bool {
        // ORDERING: Relaxed, a first guess; the exchange decides.
        let mut seen = Count(self.words.word.load(Relaxed));
        while let Some(next) = change(seen) {
            // ORDERING(permit): Acquire, so that we see what those wrote who gave the permits back.
            // ORDERING(guards): Release too, so that a head that sees a guard counted sees its slot held.
            match self.words.word.compare_exchange(seen.0, next.0, AcqRel, Relaxed) {
                Ok(_) => return true,
                Err(now) => seen = Count(now),
            }
        }
        false
    }

    /// Gives `n` permits back; the count that forbids it, if they would be more than there may be.
    #[inline]
    pub(crate) fn release(&self, n: u32) -> Result<(), Count> {
        // ORDERING: Relaxed, a first guess; the exchange decides.
        let seen = Count(self.words.word.load(Relaxed));
        if let Some(next) = seen.more_alone(n, self.words.limit) {
            let release = if mutant(Mutant::RelaxedRelease) { Relaxed } else { Release };
            // ORDERING(permit): Release, so that the next holder sees what we wrote.
            if self.words.word.compare_exchange(seen.0, next.0, release, Relaxed).is_ok() {
                return Ok(());
            }
        }
        self.release_in_company(n)
    }

    /// Apart, so that nobody's company costs who is alone: an exchange waits until all before it is done.
    #[cold]
    #[inline(never)]
    fn release_in_company(&self, n: u32) -> Result<(), Count> {
        let limit = self.words.limit;
        self.give(move |seen| seen.more(n, limit))
    }

    /// Makes a change that adds free permits, unless it is none for the count that stands. Wakes the head, if it
    /// sleeps.
    #[inline]
    pub(super) fn give(&self, change: impl Fn(Count) -> Option<Count>) -> Result<(), Count> {
        // ORDERING: Relaxed, a first guess; the exchange decides.
        let mut seen = Count(self.words.word.load(Relaxed));
        loop {
            let next = change(seen).ok_or(seen)?;
            if seen.has_sleeper() {
                return self.give_to_sleeper(change);
            }
            // ORDERING(permit): Release, as in `release`.
            match self.words.word.compare_exchange(seen.0, next.0, Release, Relaxed) {
                Ok(_) => return Ok(()),
                Err(now) => seen = Count(now),
            }
        }
    }

    /// [`give`](Self::give) to a head that sleeps (P4).
    #[cold]
    #[inline(never)]
    fn give_to_sleeper(&self, change: impl Fn(Count) -> Option<Count>) -> Result<(), Count> {
        let me = me();
        if !mutant(Mutant::BellNotPending) {
            self.words.bell.announce(me);
        }
        // CRASH(semaphore.belled): the kernel rings, and the head looks for nothing.
        // ORDERING: Relaxed, a first guess; the exchange decides.
        let mut seen = Count(self.words.word.load(Relaxed));
        let given = loop {
            let Some(next) = change(seen) else { break Err(seen) };
            // ORDERING(permit): Release, as in `give`.
            match self.words.word.compare_exchange(seen.0, next.0, Release, Relaxed) {
                Ok(_) => break Ok(()),
                Err(now) => seen = Count(now),
            }
        };
        // CRASH(semaphore.unrung): the kernel rings in our place.
        if given.is_ok() && seen.has_sleeper() && !mutant(Mutant::GiveWithoutWake) {
            self.words.word.wake(1);
        }
        me.retract();
        given
    }

    /// Stands in line, and does `take` when its turn has come and there are `n` permits. It may say that there are
    /// not, and is asked again.
    #[cold]
    pub(super) fn stand_in_line<T>(
        &self,
        n: u32,
        patience: Patience,
        take: impl Fn(Who) -> Result<Option<T>, NotAcquired>,
    ) -> Result<T, NotAcquired> {
        let Patience::Until(deadline) = patience else {
            return self.try_in_line(n, take);
        };
        let _line = hold(&self.words.line, patience)?;
        // CRASH(semaphore.heading): the next in line becomes head.
        let taken = self.wait_as_head(n, deadline, take);
        if taken.is_err() {
            self.leave();
        }
        taken
    }

    /// Without waiting. Permits that somebody waits for are that one's; but SLEEPER may be a dead one's, so who gets
    /// the line decides. It may have to be tried for some instructions: by another that does not wait either.
    fn try_in_line<T>(
        &self,
        n: u32,
        take: impl Fn(Who) -> Result<Option<T>, NotAcquired>,
    ) -> Result<T, NotAcquired> {
        if self.available() < n {
            return Err(NotAcquired::NoPermits);
        }
        let mut spins = SPINS;
        let _line = loop {
            let seen = self.count();
            if let Some(taken) = take(Who::Newcomer)? {
                return Ok(taken);
            }
            match hold(&self.words.line, Patience::None) {
                Ok(line) => break line,
                Err(_) if spins == 0 || seen.free() < n => return Err(NotAcquired::NoPermits),
                Err(_) => {}
            }
            while spins > 0 && self.count() == seen && !self.line().is_free() {
                spins -= 1;
                spin_hint();
            }
        };
        let taken = take(Who::Head).and_then(|taken| taken.ok_or(NotAcquired::NoPermits));
        if taken.is_err() {
            self.leave();
        }
        taken
    }

    /// Waits for `n` permits and takes them. The caller holds the line.
    fn wait_as_head<T>(
        &self,
        n: u32,
        deadline: Option<Deadline>,
        take: impl Fn(Who) -> Result<Option<T>, NotAcquired>,
    ) -> Result<T, NotAcquired> {
        let mut spins = Spins::new(deadline);
        let mut expired = false;
        loop {
            // ORDERING(guards): Acquire, so that we see the slots of the guards that are counted, SLEEPER being set.
            let seen = Count(self.words.word.load(Acquire));
            if seen.free() >= n {
                if let Some(taken) = take(Who::Head)? {
                    return Ok(taken);
                }
                continue;
            }
            if seen.guards() > 0 && self.reclaim(Patience::Until(deadline))? {
                continue;
            }
            if expired {
                return Err(NotAcquired::TimedOut);
            }
            while self.count() == seen && spins.turn() {}
            let announced = Count(seen.0 | SLEEPER);
            // ORDERING(guards): Acquire, as above.
            if !seen.has_sleeper()
                && self.words.word.compare_exchange(seen.0, announced.0, Acquire, Relaxed).is_err()
            {
                continue;
            }
            // CRASH(semaphore.announced): the next head finds it set.
            expired = self.sleep(announced, deadline) == Wake::TimedOut;
        }
    }

    /// Sleeps until the word is no longer `seen`, or a guard's holder has died (P3). May return for nothing.
    fn sleep(&self, mut seen: Count, deadline: Option<Deadline>) -> Wake {
        let words = &*self.words;
        if mutant(Mutant::HeadTrustsSleeper) {
            seen = self.count();
        }
        if mutant(Mutant::WordBeforeBell) {
            return wait_any(&[(&words.word, seen.0), (&words.bell, 0)], deadline);
        }
        if seen.guards() == 0 || mutant(Mutant::HoldersUnwatched) {
            return wait_any(&[(&words.bell, 0), (&words.word, seen.0)], deadline);
        }
        self.sleep_beside_guards(seen, deadline)
    }

    /// The head gives up: newcomers need not stand in line because of it.
    fn leave(&self) {
        // ORDERING: Relaxed, the bit carries nothing, and is its writer's, who holds the line.
        self.words.word.fetch_and(!SLEEPER, Relaxed);
    }
}

/// The slots of so many holders, and a book before them.
fn cells(holders: usize) -> usize {
    if holders == 0 { 0 } else { holders + 1 }
}

/// The cell before the slots, whose lock is `ledger` and whose notes are `used` and `last`; and the slots.
#[derive(Clone, Copy)]
pub(super) struct Book<'a> {
    cell: &'a Slot,
    pub(super) slots: &'a [Slot],
}

impl<'a> Book<'a> {
    /// See `ledger.rs`, as for `last`.
    #[inline]
    pub(super) fn ledger(self) -> &'a RawLock {
        &self.cell.lock
    }

    #[inline]
    pub(super) fn last(self) -> &'a AtomicU32 {
        &self.cell.notes[1]
    }

    /// The slots and how many of them were ever used.
    #[inline]
    pub(super) fn claimable(self) -> Slots<'a> {
        Slots { slots: self.slots, used: &self.cell.notes[0] }
    }
}

/// For what need not wait: as long as somebody else's few instructions may take.
pub(super) fn moment() -> Patience {
    Patience::Until(Some(Deadline::after(MOMENT)))
}

/// Takes a lock for part of one call; `TimedOut` when `patience` ends.
#[inline]
pub(super) fn hold(lock: &RawLock, patience: Patience) -> Result<Hold<'_>, NotAcquired> {
    match lock.hold(patience) {
        Ok(hold) => Ok(hold),
        Err(Refused::TimedOut | Refused::WouldBlock) => Err(NotAcquired::TimedOut),
        Err(Refused::AlreadyHeld) => panic!("a signal handler used the semaphore that it interrupted"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(free: u32, guards: u32, sleeper: bool) -> Count {
        Count(free * PERMIT + guards * GUARD + u32::from(sleeper))
    }

    #[test]
    fn a_count_keeps_its_parts_apart() {
        let full = count(MAX_PERMITS, MAX_HOLDERS as u32, true);
        assert_eq!(
            (full.0, full.free(), full.guards(), full.has_sleeper()),
            (u32::MAX, 2_097_151, 1023, true)
        );
        assert_eq!(full.less(7, Who::Head), Some(count(MAX_PERMITS - 7, MAX_HOLDERS as u32, false)));
        assert_eq!(count(3, 4, false).less(3, Who::Newcomer), Some(count(0, 4, false)));
        assert_eq!(count(3, 4, true).with_guard(Who::Head), Some(count(2, 5, false)));
        assert_eq!(count(3, 4, true).without_guard(), count(4, 3, true));
    }

    #[test]
    fn guards_count_against_the_bound() {
        let more = |count: Count, n, bound| {
            let alone = count.more_alone(n, Limit::new(bound));
            let more = count.more(n, Limit::new(bound));
            assert!(alone == more || alone.is_none() && !count.0.is_multiple_of(PERMIT));
            more
        };
        assert_eq!(more(count(3, 4, true), 2, 9), Some(count(5, 4, true)));
        assert_eq!(more(count(3, 4, true), 3, 9), None);
        assert_eq!(more(count(3, 0, true), 6, 9), Some(count(9, 0, true)));
        assert_eq!(more(count(3, 0, false), 6, 9), Some(count(9, 0, false)));
        assert_eq!(more(count(3, 0, false), 7, 9), None);
        assert_eq!(more(count(0, 0, false), 1, 0), None);
        let full = count(MAX_PERMITS, 0, false);
        assert_eq!(more(count(0, 0, false), MAX_PERMITS, MAX_PERMITS), Some(full));
        assert_eq!(more(full, 0, MAX_PERMITS), Some(full));
        assert_eq!(more(full, 1, MAX_PERMITS), None);
        assert_eq!(more(count(0, 0, false), u32::MAX, MAX_PERMITS), None);
        assert_eq!(more(count(MAX_PERMITS - 1, 1, false), 1, MAX_PERMITS), None);
    }

    #[test]
    fn a_newcomer_does_not_pass_a_sleeper() {
        assert_eq!(count(3, 0, true).less(1, Who::Newcomer), None);
        assert_eq!(count(3, 0, true).with_guard(Who::Newcomer), None);
        assert_eq!(count(3, 0, true).less(3, Who::Head), Some(count(0, 0, false)));
        assert_eq!(count(3, 0, false).less(4, Who::Head), None);
    }
}
