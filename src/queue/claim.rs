//! Who holds an end of a channel; and the bell of that end.
//!
//! An end belongs to one thread at a time, which links the end's word into its robust list. The *other* end's holder
//! sleeps on that word: so one word tells it both that something was committed and that nothing more will be. A death
//! needs no help: the kernel changes the word and wakes its sleeper.
//!
//! # Words
//! | `word`                 | meaning                                   | left by                                      |
//! |------------------------|-------------------------------------------|----------------------------------------------|
//! | 0 (+ WAITERS)          | nobody holds the end (the other sleeps)   | `claim`: exchange to own TID, WAITERS kept   |
//! | TID (+ WAITERS)        | held (the other sleeps, or soon will)     | `give_back`, or the kernel at the holder's end |
//! | OWNER_DIED (+ WAITERS) | its holder died                           | `claim`, as above                            |
//!
//! `left` is 1 when the end was closed: nobody will hold it again. It never goes back.
//! `careful` is written by the other end's holder. 0: whoever commits need not fence. 1: he should, and may not know
//! it yet. 2: whoever commits fences before he looks at `word`, for certain.
//!
//! # Invariants
//! - C1: who commits stores first and looks at `word` next; who sleeps sets WAITERS first and looks at the other's
//!   commits next. A pair of fences between makes one of the two see the other. The committer's is a light one
//!   (`primitive`), which costs nothing, and the sleeper's a heavy one; or, when `careful` is 2, both are plain ones.
//!   A system without heavy fences is careful from the start.
//! - C2: `careful` becomes 2 only behind a heavy fence, so a sleeper that finds it there may rely on it, also when who
//!   stored it is dead; 1 it treats as 0.
//! - C3: the sleeper waits for the word with WAITERS and the holder that it judged to live. A commit that finds WAITERS
//!   takes it out and wakes in one step, a claim likewise, and a death changes the word: so none comes unnoticed
//!   between the sleeper's last look and its sleep. The word of an end that is free is 0 before anybody came and after
//!   he left; so the last look is at `left` as well. WAITERS left by the dead costs a commit one call.
//! - C4: what a death, a leaving and a commit have in common: what was committed before is seen by who sees them. So
//!   whoever judges first and then looks at the commits, and finds none, has seen the last of them.
//! - C5: a held end is in the list before the pending slot is emptied, and out of it before the word is freed.
//!
//! # Ordering edges
//! - `ending`: the kernel's exchange at the holder's end, or FUTEX_WAKE_OP in `give_back` -> Acquire in `judge` and in
//!   `claim`; carries the holder's commits, and `left`.
//! - `leaving`: Release of `left` -> Acquire in `judge`; the same, when the word is not freed.
//! - `sleeping`: the fences of C1: in `announce` and in `ring_if_waited`.
//!
//! # Crash points
//! - `claim.pending`: named as pending, not yet taken: the kernel wakes one if the word is free, for nothing.
//! - `claim.taken`: ours, not yet linked: the kernel marks it.
//! - `claim.held`: ours and linked: the kernel marks it, and the other end knows.
//! - `claim.unrung`: something is committed and the other not woken: it is woken by our end, and finds it.
//! - `claim.announced`: WAITERS is set and nobody sleeps: the next commit wakes nobody.
//! - `claim.left`: closed, and still held: our end wakes the other, which sees `left`.
//! - `claim.unlinked`: ours, no longer linked: pending: the kernel marks it.
//!
//! # Peers that are not trusted
//! Whoever can write the links of a held end can have its holder write anywhere. So where the other end is not trusted
//! nothing is linked and nothing is pending: the word is what it is otherwise, but no death changes it. A death between
//! a commit and its wake then leaves the other asleep, as a peer does that never rings.
//!
//! Sources: futex(2), get_robust_list(2), membarrier(2). A bell beside the commits loses the wake of a committer that
//! dies (`doorbell.rs`) unless its death rings the same bell, as here.

use std::time::Duration;

use crate::{
    primitive::{
        Acquire, AtomicU32, Change, Deadline, FutexWord, Me, Mutant, Relaxed, Release, RobustWord, SeqCst,
        Wake, fence, heavy_fence, light_fence, me, me_if, mutant,
    },
    region::Shareable,
    sync::{OwnerWord, may_hold_more},
};

/// `careful`: see the module.
const CARELESS: u32 = 0;
const ASKED: u32 = 1;
const CAREFUL: u32 = 2;

/// How long a sleep lasts that no heavy fence secures: only when a filter forbids the fence after it was allowed.
const SLICE: Duration = Duration::from_millis(10);

/// Why an end is not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotClaimed {
    /// The thread with this TID holds it.
    Held(u32),
    /// It was closed.
    Closed,
    /// This thread holds too many robust words.
    TooMany(u32),
}

/// What there is to say of an end to the one who waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Held, or not yet held by anybody; the word.
    There(OwnerWord),
    /// Closed, or its holder died.
    Gone,
}

/// What to sleep on.
pub(crate) struct Bed<'a> {
    pub(crate) word: &'a FutexWord,
    pub(crate) expected: u32,
    /// At most so long: no heavy fence secures the sleep.
    pub(crate) until: Option<Deadline>,
}

/// See the module. The word ends one line and the links begin the next: a thread that locks something writes the links
/// of what it holds, and those who look at the word are not disturbed by it.
#[repr(C, align(128))]
pub(crate) struct Claim {
    _front: [u64; 6],
    careful: AtomicU32,
    left: AtomicU32,
    robust: RobustWord,
    _back: [u64; 4],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Claim>() == 128);

// SAFETY: atomics, and robust links, which are the pointers that are allowed.
unsafe impl Shareable for Claim {
    const ROBUST: &'static [usize] = &[Claim::WORD];
}

impl Claim {
    /// Where the robust word stands.
    pub(crate) const WORD: usize =
        std::mem::offset_of!(Claim, robust) + if cfg!(target_env = "musl") { 4 } else { 0 };

    /// An end that nobody holds; `fences`: there are heavy ones.
    pub(crate) fn new(fences: bool) -> Claim {
        Claim {
            _front: [0; 6],
            careful: AtomicU32::new(if fences { CARELESS } else { CAREFUL }),
            left: AtomicU32::new(0),
            robust: RobustWord::new(),
            _back: [0; 4],
        }
    }

    /// Holds the end for the calling thread, and links it, unless the other end is not trusted. Whoever sleeps on it
    /// wakes, and looks who it is.
    #[cold]
    pub(crate) fn claim(&self, me: Me, linked: bool) -> Result<(), NotClaimed> {
        if linked {
            may_hold_more(me).map_err(NotClaimed::TooMany)?;
            self.robust.announce(me);
        }
        // CRASH(claim.pending): nothing is ours yet.
        // ORDERING: Relaxed, a first guess; the exchange decides.
        let mut seen = OwnerWord(self.robust.load(Relaxed));
        loop {
            if !seen.is_free() {
                if linked {
                    me.retract();
                }
                return Err(NotClaimed::Held(seen.owner()));
            }
            // ORDERING(ending): Acquire, so that we go on where the last holder was.
            match self.robust.compare_exchange(seen.0, seen.taken_by(me.tid()).0, Acquire, Relaxed) {
                Ok(_) => break,
                Err(now) => seen = OwnerWord(now),
            }
        }
        // CRASH(claim.taken): pending, with our TID.
        if linked {
            self.robust.link(me);
            me.retract();
        }
        // CRASH(claim.held): linked.
        // ORDERING: Relaxed, carried by `ending`, if a holder left; else whoever closes it is still at it.
        if self.left.load(Relaxed) != 0 {
            self.give_back(me, linked);
            return Err(NotClaimed::Closed);
        }
        if seen.has_waiters() && !mutant(Mutant::ClaimUntold) {
            self.wake();
        }
        Ok(())
    }

    /// Frees the end. Only the thread that holds it may.
    pub(crate) fn give_back(&self, me: Me, linked: bool) {
        if linked {
            self.robust.announce(me);
            self.robust.unlink(me); // C5
        }
        // CRASH(claim.unlinked): pending, with our TID.
        // ORDERING(ending): a full barrier.
        if mutant(Mutant::LeaveUntold) {
            self.robust.store(0, Release);
        } else {
            self.robust.change_and_wake(Change::Clear, 1);
        }
        if linked {
            me.retract();
        }
    }

    /// Closes the end, which the thread with this identity holds: the calling one, or another of this process, which
    /// then keeps it, for nobody. (If that process dies in between, so does the holder.)
    #[cold]
    pub(crate) fn leave(&self, identity: u64, linked: bool) {
        // ORDERING(leaving): Release, so that who sees it sees what we committed.
        self.left.store(1, Release);
        // CRASH(claim.left): the holder's end rings.
        match me_if(identity) {
            Some(me) => self.give_back(me, linked),
            None => self.wake(),
        }
    }

    /// Whether it was closed.
    pub(crate) fn is_closed(&self) -> bool {
        // ORDERING(leaving): Acquire.
        self.left.load(Acquire) != 0
    }

    /// What became of the end. Look at its commits *afterwards* (C4).
    #[inline]
    pub(crate) fn judge(&self) -> Fate {
        // ORDERING(ending): Acquire, so that the holder's last commits are seen behind this.
        let word = OwnerWord(self.robust.load(Acquire));
        // ORDERING(leaving): Acquire, the same.
        let left = self.left.load(Acquire) != 0;
        if left || word.is_free() && word.owner_died() { Fate::Gone } else { Fate::There(word) }
    }

    /// After a commit at this end: wakes the one who waits for it, if there is one. Only the end's holder calls it.
    #[inline]
    pub(crate) fn ring_if_waited(&self) {
        // CRASH(claim.unrung): committed. The sleeper, if there is one, is told by our end.
        // ORDERING(sleeping): between the commit and the look at the word.
        if !mutant(Mutant::CommitterUnfenced) {
            light_fence();
        }
        // ORDERING: Relaxed, ordered by the fence, or by the next.
        let careful = self.careful.load(Relaxed) != CARELESS;
        if careful || OwnerWord(self.robust.load(Relaxed)).has_waiters() {
            self.ring();
        }
    }

    #[cold]
    fn ring(&self) {
        if mutant(Mutant::CommitUnrung) {
            return;
        }
        // ORDERING(sleeping): the same, for one who relies on `careful`.
        if !mutant(Mutant::CarefulUnfenced) {
            fence(SeqCst);
        }
        if OwnerWord(self.robust.load(Relaxed)).has_waiters() {
            self.wake();
        }
    }

    /// Takes WAITERS out and wakes, in one step (C3).
    fn wake(&self) {
        use crate::primitive::WAITERS;
        if mutant(Mutant::RingThenWake) {
            self.robust.wake(1);
            self.robust.fetch_and(!WAITERS, Relaxed);
            return;
        }
        self.robust.change_and_wake(Change::ClearBit(WAITERS), 1);
    }

    /// Announces a sleeper; the word to sleep on is `word` with WAITERS. False if it is no longer `word`. Afterwards
    /// the sleeper looks at the commits once more. Says in `secured` whether the committer is sure to see it.
    fn announce(&self, word: OwnerWord, secured: &mut bool) -> bool {
        // ORDERING(ending): Acquire: nobody had claimed it when it was judged, and nobody has now, but somebody may
        // have come, and closed it, in between.
        // ORDERING: Relaxed when it fails: it is judged anew.
        let sets = || self.robust.compare_exchange(word.0, word.with_waiters().0, Acquire, Relaxed);
        if !word.has_waiters() && sets().is_err() {
            return false;
        }
        // CRASH(claim.announced): the next commit wakes nobody.
        // ORDERING: Relaxed: C2 for what the dead stored.
        if self.careful.load(Relaxed) == CAREFUL {
            // ORDERING(sleeping): between WAITERS and the look at the commits.
            if !mutant(Mutant::SleeperUnfenced) {
                fence(SeqCst);
            }
            return true;
        }
        self.careful.store(ASKED, Relaxed);
        // ORDERING(sleeping): the same.
        *secured = mutant(Mutant::SleeperUnfenced) || heavy_fence();
        if *secured {
            self.careful.store(CAREFUL, Relaxed);
        }
        true
    }

    /// Lets commits at this end be careless again: its sleeper has not slept for long. Only that one may.
    pub(crate) fn relax(&self) {
        // ORDERING: Relaxed, whoever sees it late is careful for nothing.
        if self.is_careful() {
            self.careful.store(CARELESS, Relaxed);
        }
    }

    /// Announces the one who waits for this end; `word` is what it was judged by, and `quiet` says whether, after all,
    /// nothing was committed. Says what to sleep on, or nothing if something has happened.
    pub(crate) fn watch(&self, word: OwnerWord, quiet: impl Fn() -> bool) -> Option<Bed<'_>> {
        let mut secured = true;
        if !self.announce(word, &mut secured) {
            return None;
        }
        // ORDERING(leaving): Acquire, as in `judge`.
        let left = self.left.load(Acquire) != 0 && !mutant(Mutant::LeftUnseen);
        if left || !mutant(Mutant::NoLastLook) && !quiet() {
            return None;
        }
        let until = (!secured).then(|| Deadline::after(SLICE));
        Some(Bed { word: &self.robust, expected: word.with_waiters().0, until })
    }

    /// Sleeps until something happens at this end, as announced by [`watch`](Self::watch). May return for nothing.
    pub(crate) fn sleep(
        &self,
        word: OwnerWord,
        quiet: impl Fn() -> bool,
        deadline: Option<Deadline>,
    ) -> Wake {
        let Some(Bed { expected, until, .. }) = self.watch(word, quiet) else { return Wake::Changed };
        let sliced = until.filter(|&until| deadline.is_none_or(|deadline| until < deadline));
        match self.robust.wait(expected, sliced.or(deadline)) {
            Wake::TimedOut if sliced.is_some() => Wake::Interrupted,
            ended => ended,
        }
    }

    /// Whether commits at this end are careful, as far as its sleeper asked for it.
    pub(crate) fn is_careful(&self) -> bool {
        // ORDERING: Relaxed, a hint.
        self.careful.load(Relaxed) != CARELESS
    }

    /// The word at some instant.
    pub(crate) fn state(&self) -> OwnerWord {
        // ORDERING: Relaxed, for whoever looks from outside.
        OwnerWord(self.robust.load(Relaxed))
    }
}

/// Whether `identity` is that of the calling thread, in the process that got it.
#[inline]
pub(crate) fn is_ours(identity: u64) -> bool {
    me_if(identity).is_some()
}

/// The calling thread, to claim something.
pub(crate) fn claimant() -> Me {
    me()
}
