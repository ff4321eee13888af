//! [`RawLock`]: a word and its links, locked and unlocked; it survives the death of its holder.
//!
//! # Words
//! | `word`                 | meaning                              | left by                                        |
//! |------------------------|--------------------------------------|------------------------------------------------|
//! | 0                      | free                                 | `lock`: exchange to own TID                    |
//! | TID (+ WAITERS)        | held (somebody sleeps, or soon will) | `unlock`, or the kernel at the owner's end     |
//! | OWNER_DIED (+ WAITERS) | free, data suspect                   | `lock`: to own TID, WAITERS kept, suspicion    |
//! | WAITERS                | free, a woken sleeper is on its way  | `lock`: to own TID + WAITERS                   |
//!
//! `suspicion` is written by the holder alone, before it releases: why the data may be half-changed.
//! `few` is a hint, written by who releases: one contended release woke nobody, and none since woke more than one.
//!
//! # Invariants
//! - I1: at most one live thread finds its own TID in `word`.
//! - I2: a thread sleeps only on a word with WAITERS, and who takes or frees the word keeps the bit, the kernel
//!   included; but for I4. So while a thread sleeps, WAITERS is set, and need not be set again after a sleep.
//! - I3: from before the exchange that takes until after the exchange that frees, this thread's pending slot or list
//!   names the lock; and while it waits, its pending slot does. So if the lock is free with WAITERS, a woken thread is
//!   on its way, or who freed it is about to wake one; and the kernel wakes another when that one dies. (Who waits by
//!   `outlast` is the only one that waits, and owes nobody a wake.)
//! - I4: WAITERS goes only together with waking *all*, or when nobody can sleep. A contended release wakes one and
//!   leaves the bit set; if it woke nobody, it notes `few`. Where there are few, it clears the word and wakes whoever
//!   there is: so who comes back at once finds the lock simply free, and of two that contend neither makes system calls
//!   while the other is on its way.
//! - I5: a held lock is in the list before the pending slot names another or none, and out of it before the word is
//!   freed: once it is free another process links it and its `next` is a stranger's. The slot goes on naming a lock
//!   that is held, linked, and alone in the list (emptying it would be one more store): the kernel looks at such an
//!   entry once.
//!
//! # Ordering edges
//! - `handover`: Release in `unlock` -> Acquire exchange in `lock`; carries the data and `suspicion`.
//! - `inherit`: the kernel's exchange at the owner's end -> the same Acquire; the data may be half-changed.
//!
//! # Crash points
//! - `lock.pending`: named as pending, not yet taken. The word is free (the kernel wakes one), or another's (nothing).
//! - `lock.taken`: ours, not yet linked. Pending: the kernel marks it.
//! - `lock.held`: ours and linked, and pending as long as no other word is. The kernel marks it.
//! - `lock.unlinked`: ours, no longer linked. Pending: the kernel marks it.
//! - `lock.unrung`: freed without a look at WAITERS that came in between, still pending. The kernel wakes one; or it is
//!   another's already, with WAITERS, and that one's release wakes.
//! - `lock.freed`: free, still pending. The kernel wakes one: at worst for nothing.
//!
//! A release that sees WAITERS is one FUTEX_WAKE_OP, so no death parts the release from the wake. One that sees none
//! subtracts its TID, which keeps a bit that came since, and costs less than an exchange that compares. A sleeper that
//! dies woken dies with the word pending: free, and the kernel wakes the next; taken by another, and that one's
//! release does.
//!
//! Sources: futex(2), get_robust_list(2); for I2, glibc bug 20973, where the heir dropped the bit.

use std::ops::Deref;

use crate::{
    primitive::{
        Acquire, AtomicU32, Backoff, Change, Deadline, Me, Mutant, Ordering, Relaxed, Release, RobustWord,
        SPINS, SeqCst, WAITERS, Wake, me, me_if, mutant, spin_hint,
    },
    region::Shareable,
    sync::owner::OwnerWord,
};

/// The locks a thread may hold. The kernel looks through 2,048 entries of a thread's list, newest first; eight are
/// left for the locks that this crate takes inside one call, and for libc's.
pub(crate) const MAX_HELD: u32 = 2_040;

/// Whether `me` may take one more on behalf of a user; if not, how many it holds.
#[inline]
pub(crate) fn may_hold_more(me: Me) -> Result<(), u32> {
    me.holds_as_many_as(MAX_HELD).map_or(Ok(()), Err)
}

/// How long a lock may be waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Patience {
    /// Not at all.
    None,
    /// Until the instant, if there is one.
    Until(Option<Deadline>),
}

impl Patience {
    pub(crate) const FOREVER: Patience = Patience::Until(None);

    pub(crate) fn deadline(self) -> Option<Deadline> {
        match self {
            Patience::None => None,
            Patience::Until(deadline) => deadline,
        }
    }
}

/// Why the lock was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    WouldBlock,
    TimedOut,
    AlreadyHeld,
}

/// What an unlock leaves to the slow path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// Everything: there are waiters, so freeing and waking must be one step.
    All,
    /// To wake one who came after the look.
    Wake,
}

/// What the lock's history says about the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Suspicion {
    /// Every holder released it.
    None = 0,
    /// A holder died, and nobody declared the data consistent since.
    OwnerDied = 1,
    /// A holder panicked, likewise.
    Poisoned = 2,
}

impl Suspicion {
    /// Any word but a known one speaks of trouble.
    fn from_note(note: u32) -> Suspicion {
        match note {
            0 => Suspicion::None,
            2 => Suspicion::Poisoned,
            _ => Suspicion::OwnerDied,
        }
    }
}

/// Words and algorithm; the memory is somebody else's.
#[repr(C)]
pub(crate) struct RawLock {
    suspicion: AtomicU32,
    few: AtomicU32,
    pub(super) robust: RobustWord,
}

// SAFETY: every field is atomic or touched by the holder alone; robust links are the pointers that are allowed.
unsafe impl Shareable for RawLock {
    const ROBUST: &'static [usize] = &[RawLock::WORD];
}

/// A lock that several may poll at once.
///
/// The word ends one cache line and the links stand on the next: a waiter that polls the word does not fight the
/// holder for the links. (Measured with two processes and an empty section: 43 to 52 ns a turn with both on one
/// line, 24 to 27 apart.)
#[repr(C, align(128))]
pub(crate) struct PaddedLock {
    _front: [u64; 6],
    raw: RawLock,
    _back: [u64; 4],
}

#[cfg(not(loom))]
const _: () = {
    assert!(size_of::<RawLock>() == 48);
    assert!(size_of::<PaddedLock>() == 128);
    assert!(PaddedLock::WORD == if cfg!(target_env = "musl") { 60 } else { 56 });
};

// SAFETY: as for `RawLock`.
unsafe impl Shareable for PaddedLock {
    const ROBUST: &'static [usize] = &[PaddedLock::WORD];
}

impl PaddedLock {
    /// Where the robust word stands.
    pub(crate) const WORD: usize = 48 + RawLock::WORD;

    pub(crate) fn new() -> PaddedLock {
        PaddedLock { _front: [0; 6], raw: RawLock::new(), _back: [0; 4] }
    }
}

impl Deref for PaddedLock {
    type Target = RawLock;

    #[inline]
    fn deref(&self) -> &RawLock {
        &self.raw
    }
}

impl RawLock {
    /// Where the robust word stands.
    pub(crate) const WORD: usize = if cfg!(target_env = "musl") { 12 } else { 8 };

    pub(crate) fn new() -> RawLock {
        RawLock {
            suspicion: AtomicU32::new(Suspicion::None as u32),
            few: AtomicU32::new(0),
            robust: RobustWord::new(),
        }
    }

    /// Takes the lock. Not more than [`MAX_HELD`] may be held: whoever lets users hold it looks before.
    #[inline]
    pub(crate) fn lock(&self, patience: Patience) -> Result<Suspicion, Refused> {
        self.lock_as(me(), patience)
    }

    #[inline]
    pub(super) fn lock_as(&self, me: Me, patience: Patience) -> Result<Suspicion, Refused> {
        self.take(me, patience, Acquire, || false)
    }

    /// Takes the lock if that needs no waiting, by an exchange that stands in the one order of all SeqCst accesses.
    #[inline]
    pub(super) fn claim(&self, me: Me) -> Result<Suspicion, Refused> {
        self.take(me, Patience::None, if mutant(Mutant::RelaxedClaim) { Acquire } else { SeqCst }, || false)
    }

    /// Takes the lock, but asks `leave` before each sleep: told so, it refuses by `WouldBlock`. It leaves only a lock
    /// that another holds, whose release then wakes the next: so it takes no wake with it.
    #[inline]
    pub(super) fn lock_unless(
        &self,
        me: Me,
        patience: Patience,
        leave: impl FnMut() -> bool,
    ) -> Result<Suspicion, Refused> {
        self.take(me, patience, Acquire, leave)
    }

    /// `order` is that of the exchange that takes: Acquire at least.
    #[inline]
    fn take(
        &self,
        me: Me,
        patience: Patience,
        order: Ordering,
        leave: impl FnMut() -> bool,
    ) -> Result<Suspicion, Refused> {
        self.robust.announce(me);
        // CRASH(lock.pending): nothing is ours yet; if the word is free and somebody sleeps, the kernel wakes one.
        // ORDERING(handover): Acquire, so that we see what the last holder wrote.
        // ORDERING(inherit): the same, after the kernel's exchange.
        let seen = match self.robust.compare_exchange(0, me.tid(), order, Relaxed) {
            Ok(free) => OwnerWord(free),
            Err(_) => self.lock_contended(patience, order, leave)?,
        };
        // CRASH(lock.taken): the pending slot names a word that holds our TID: the kernel marks it.
        self.robust.link(me);
        // CRASH(lock.held): linked, and pending until another word is: the kernel looks at it once.
        // ORDERING: Relaxed, carried by `handover`.
        let noted = self.suspicion.load(Relaxed);
        if seen.owner_died() || noted != 0 { Ok(self.suspect(seen, noted)) } else { Ok(Suspicion::None) }
    }

    /// The way through when the word is not simply 0. Refused, it empties the pending slot.
    #[cold]
    fn lock_contended(
        &self,
        patience: Patience,
        order: Ordering,
        mut leave: impl FnMut() -> bool,
    ) -> Result<OwnerWord, Refused> {
        let me = me();
        let mut backoff = Backoff::new(patience.deadline());
        let mut expired = false;
        // ORDERING: Relaxed, a first guess; the exchanges below decide.
        let mut seen = OwnerWord(self.robust.load(Relaxed));
        loop {
            if mutant(Mutant::LeaverKeepsWake) && seen.is_free() && leave() {
                me.retract();
                return Err(Refused::WouldBlock);
            }
            if seen.is_free() {
                let mut ours = seen.taken_by(me.tid()).0; // I2
                if mutant(Mutant::HeirForgetsWaiters) && seen.owner_died() {
                    ours = me.tid();
                }
                // ORDERING(handover), ORDERING(inherit): as in `lock`.
                match self.robust.compare_exchange(seen.0, ours, order, Relaxed) {
                    Ok(_) => return Ok(seen),
                    Err(now) => seen = OwnerWord(now),
                }
                continue;
            }
            let refused = match patience {
                _ if seen.owner() == me.tid() && !matches!(patience, Patience::None) => {
                    Some(Refused::AlreadyHeld)
                }
                Patience::None => Some(Refused::WouldBlock),
                Patience::Until(_) if expired => Some(Refused::TimedOut),
                Patience::Until(_) => None,
            };
            if let Some(refused) = refused {
                me.retract();
                return Err(refused);
            }
            if !seen.has_waiters() && backoff.turn() {
                // ORDERING: Relaxed, a hint that ends the spinning.
                seen = OwnerWord(self.robust.load(Relaxed));
                continue;
            }
            if !seen.has_waiters() && !mutant(Mutant::SleeperUnannounced) {
                // ORDERING: Relaxed, the bit carries nothing: whoever frees the word exchanges it and sees the bit.
                match self.robust.compare_exchange(seen.0, seen.with_waiters().0, Relaxed, Relaxed) {
                    Ok(_) => seen = seen.with_waiters(),
                    Err(now) => {
                        seen = OwnerWord(now);
                        continue;
                    }
                }
            }
            if leave() {
                me.retract();
                return Err(Refused::WouldBlock);
            }
            if mutant(Mutant::WaiterNotPending) {
                me.retract();
            }
            // Woken, a wake was spent on us: we try once more before we look at the clock again, and whoever took
            // the lock first keeps WAITERS, so that its release passes the wake on. Out of time, we try once more
            // too: the word may be free, and the one who was woken for it not running.
            expired = self.robust.wait(seen.0, patience.deadline()) == Wake::TimedOut;
            backoff = Backoff::new(patience.deadline());
            // ORDERING: Relaxed, a guess; the exchange decides.
            seen = OwnerWord(self.robust.load(Relaxed));
        }
    }

    /// Waits until the thread that holds the lock now holds it no more, and leaves the lock to others. (If it comes
    /// back unseen, that too is waited for.)
    ///
    /// One thread at a time may wait so, and for such a lock nobody may wait otherwise: then nobody else is owed the
    /// wake that it gets, and it may die with it. So the pending slot need not name the word.
    #[inline]
    pub(super) fn outlast(&self, me: Me, patience: Patience) -> Result<(), Refused> {
        // SeqCst, for those who took it by `claim`.
        // ORDERING(handover): Acquire in this and below, so that we come behind what the holder did.
        let seen = OwnerWord(self.robust.load(SeqCst));
        if seen.is_free() { Ok(()) } else { self.outlast_holder(me, patience, seen) }
    }

    #[cold]
    fn outlast_holder(&self, me: Me, patience: Patience, mut seen: OwnerWord) -> Result<(), Refused> {
        let holder = seen.owner();
        let mut spins = SPINS;
        let mut expired = false;
        loop {
            if seen.owner() != holder {
                if seen.is_free() && seen.has_waiters() {
                    // Nobody sleeps here any more (I4), so who comes next is spared two system calls.
                    // ORDERING: Relaxed, it carries nothing and may fail.
                    let _ = self.robust.compare_exchange(seen.0, seen.without_waiters().0, Relaxed, Relaxed);
                }
                return Ok(());
            }
            match patience {
                Patience::None => return Err(Refused::WouldBlock),
                Patience::Until(_) if holder == me.tid() => return Err(Refused::AlreadyHeld),
                Patience::Until(_) if expired => return Err(Refused::TimedOut),
                Patience::Until(_) => {}
            }
            if spins > 0 {
                spins -= 1;
                spin_hint();
                seen = OwnerWord(self.robust.load(Acquire));
                continue;
            }
            if !seen.has_waiters() && !mutant(Mutant::WriterUnannounced) {
                // ORDERING: as in `lock_contended`; a failure is a load, Acquire as above.
                match self.robust.compare_exchange(seen.0, seen.with_waiters().0, Relaxed, Acquire) {
                    Ok(_) => seen = seen.with_waiters(),
                    Err(now) => {
                        seen = OwnerWord(now);
                        continue;
                    }
                }
            }
            expired = self.robust.wait(seen.0, patience.deadline()) == Wake::TimedOut;
            seen = OwnerWord(self.robust.load(Acquire));
        }
    }

    /// Wakes all who wait for the lock, while the caller holds on to it: they look again at what they wait for. One
    /// that is on its way to sleep finds the word changed (I4). WAKE_OP is a full barrier: what was stored before is
    /// seen by whoever sets WAITERS again.
    pub(super) fn rouse(&self) {
        self.robust.change_and_wake(Change::ClearBit(WAITERS), u32::MAX);
    }

    /// What to report when the word or the note speaks of trouble.
    #[cold]
    fn suspect(&self, seen: OwnerWord, noted: u32) -> Suspicion {
        if seen.owner_died() && !mutant(Mutant::DeathUntold) {
            Suspicion::OwnerDied
        } else {
            Suspicion::from_note(noted)
        }
    }

    /// What the holders before left word of. Only the holder may ask.
    pub(crate) fn noted(&self) -> Suspicion {
        // ORDERING: Relaxed, carried by `handover`.
        Suspicion::from_note(self.suspicion.load(Relaxed))
    }

    /// Leaves word of `suspicion` for the next holder, or takes it away. Only the holder may.
    #[inline]
    pub(crate) fn note(&self, suspicion: Suspicion) {
        // ORDERING: Relaxed, carried by `handover`.
        self.suspicion.store(suspicion as u32, Relaxed);
    }

    /// Frees the lock. Only the thread that took it may.
    #[inline]
    pub(crate) fn unlock(&self) {
        if let Err(rest) = self.unlock_quietly(me()) {
            self.unlock_rest(rest);
        }
    }

    /// [`unlock`](RawLock::unlock) by `me`, unless there are waiters, or come in between: then it says so, and
    /// [`unlock_rest`](RawLock::unlock_rest) is to do the rest.
    #[inline]
    pub(super) fn unlock_quietly(&self, me: Me) -> Result<(), Rest> {
        // ORDERING: Relaxed, a first look: WAITERS seen now will not go before we free the word.
        if self.robust.load(Relaxed) != me.tid() {
            return Err(Rest::All);
        }
        self.robust.announce(me);
        if !mutant(Mutant::ReleaseBeforeUnlink) {
            self.robust.unlink(me); // I5
        }
        // CRASH(lock.unlinked): pending and ours: the kernel marks it.
        let release = if mutant(Mutant::RelaxedUnlock) { Relaxed } else { Release };
        // ORDERING(handover): Release, so that the next holder's Acquire sees what we wrote. (Compared with what it
        // subtracts, it is one `sub` that sets flags; asked for a bit, it would be a slower `xadd`.)
        if self.robust.fetch_sub(me.tid(), release) != me.tid() {
            return Err(Rest::Wake);
        }
        self.freed(me);
        Ok(())
    }

    /// What a release without waiters left to do.
    #[cold]
    pub(super) fn unlock_rest(&self, rest: Rest) {
        let me = me();
        match rest {
            Rest::All => {
                self.robust.announce(me);
                if !mutant(Mutant::ReleaseBeforeUnlink) {
                    self.robust.unlink(me); // I5
                }
                self.free_and_wake();
            }
            Rest::Wake => self.wake_latecomer(),
        }
        self.freed(me);
    }

    /// The last step of a release.
    #[inline]
    fn freed(&self, me: Me) {
        if mutant(Mutant::ReleaseBeforeUnlink) {
            self.robust.unlink(me);
        }
        // CRASH(lock.freed): pending and free, or already another's: at worst one sleeper wakes for nothing.
        me.retract();
    }

    /// Wakes whoever announced itself between the look and the release, which left the word free with WAITERS.
    fn wake_latecomer(&self) {
        // CRASH(lock.unrung): free with WAITERS and still pending: the kernel wakes one in our place; or another's,
        // WAITERS kept, and its release wakes.
        if mutant(Mutant::LatecomerAsleep) {
            return;
        }
        if self.robust.wake(1) == 0 {
            // ORDERING: Relaxed, a hint between those who release.
            self.few.store(1, Relaxed);
        }
    }

    /// Frees the lock and wakes, in one step (I4). WAKE_OP is a full barrier: `handover` holds.
    fn free_and_wake(&self) {
        let all = if mutant(Mutant::LastReleaseWakesOne) { 1 } else { u32::MAX };
        if mutant(Mutant::DropWaiters) {
            self.robust.change_and_wake(Change::Clear, 1);
        } else if mutant(Mutant::ReleaseThenWake) {
            // ORDERING(handover): Release; the fault is the gap after it.
            self.robust.swap(0, Release);
            self.robust.wake(1);
        } else if self.few.load(Relaxed) == 0 {
            // ORDERING: Relaxed, a hint between those who release; so is what is stored there.
            if self.robust.change_and_wake(Change::StoreBit(WAITERS), 1) == 0 {
                self.few.store(1, Relaxed);
            }
        } else if self.robust.change_and_wake(Change::Clear, all) > 1 {
            self.few.store(0, Relaxed);
        }
    }

    /// A free lock on whose word threads sleep that do not want it. WAITERS never goes, if only
    /// [`unlock_and_ring`](RawLock::unlock_and_ring) frees it.
    pub(crate) fn with_waiters() -> RawLock {
        let lock = RawLock::new();
        // ORDERING: Relaxed, nobody else has it yet.
        lock.robust.store(WAITERS, Relaxed);
        lock
    }

    /// Frees the lock and wakes one sleeper, in one step; WAITERS stays. Only the thread that took it may.
    pub(super) fn unlock_and_ring(&self, me: Me) {
        self.robust.announce(me);
        self.robust.unlink(me); // I5
        self.robust.change_and_wake(Change::StoreBit(WAITERS), 1);
        me.retract();
    }

    /// Takes the lock until the returned value is dropped: for what runs no foreign code, inside one call of this
    /// crate, and needs no repair after a death.
    #[inline]
    pub(crate) fn hold(&self, patience: Patience) -> Result<Hold<'_>, Refused> {
        let me = me();
        self.lock_as(me, patience).map(|_| Hold { lock: self, identity: me.identity() })
    }

    /// The word at some instant.
    #[inline]
    pub(crate) fn state(&self) -> OwnerWord {
        // ORDERING: Relaxed, for whoever looks from outside.
        OwnerWord(self.robust.load(Relaxed))
    }
}

/// A lock that one call of this crate holds. A copy that a fork made (in a signal handler, or in an allocator) does
/// nothing.
pub(crate) struct Hold<'a> {
    lock: &'a RawLock,
    identity: u64,
}

impl Hold<'_> {
    /// Whether it is the calling thread's, and not a copy that a fork made.
    pub(crate) fn is_ours(&self) -> bool {
        me_if(self.identity).is_some()
    }
}

impl Drop for Hold<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(me) = me_if(self.identity)
            && let Err(rest) = self.lock.unlock_quietly(me)
        {
            self.lock.unlock_rest(rest);
        }
    }
}
