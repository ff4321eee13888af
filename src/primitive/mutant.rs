//! Known faults, put back in on demand, to see that the proofs catch them.
//!
//! In a normal build [`mutant`] is the constant `false` and every mutated branch is gone before code generation. Under
//! `cfg(loom)` and `cfg(mutants)` one fault at a time can be switched on.

/// A fault that a sketch of a protocol had, or that a rival has.
#[allow(dead_code, reason = "each build reads the mutants of the protocols that it contains")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[doc(hidden)]
pub enum Mutant {
    /// The protocols as they are.
    None,
    /// The contended release stores 0 and forgets that others may sleep.
    DropWaiters,
    /// The contended release stores first and wakes in a second system call.
    ReleaseThenWake,
    /// The release is Relaxed, so the next holder need not see what was written.
    RelaxedUnlock,
    /// Who takes the lock over from the dead forgets that others may sleep.
    HeirForgetsWaiters,
    /// The release frees the word first and unlinks afterwards.
    ReleaseBeforeUnlink,
    /// The pending slot is cleared while the thread waits for a lock.
    WaiterNotPending,
    /// A commit stores first and wakes in a second system call.
    CommitThenWake,
    /// The sleeper sleeps on a bell that stands beside the committing word.
    BellBeside,
    /// A sleeper who finds the bit set takes it for its own, and does not look again before it sleeps.
    TrustSleeperBit,
    /// The pending slot names a counting word during its commit.
    PendingOnCount,
    /// The position of an end is overwritten before the commit that makes it true.
    PositionBeforeCommit,
    /// The consumer marks a record empty before it commits that it has taken it.
    MarkEmptyBeforeCommit,
    /// The commit is Relaxed, so the other end need not see the payload.
    RelaxedCommit,
    /// Nobody asks for news of `close` while waiting for room.
    CloseBesideSleeper,
    /// A receiver that finds the queue closed and empty says so at once.
    ClosedAtOnce,
    /// An event is set first, and its waiters are woken in a second system call.
    SetThenWake,
    /// Setting an event wakes one of its waiters.
    SetWakesOne,
    /// Clearing an event leaves the generation as it was.
    ClearKeepsGeneration,
    /// A value's new version is stored before its bytes.
    VersionBeforeBytes,
    /// Memory with a lock that this thread still holds is unmapped.
    UnmapHeldLock,
    /// Who takes a reentrant lock over from the dead goes on at their depth.
    HeirKeepsDepth,
    /// Dropping any guard of a reentrant lock frees it.
    InnerGuardFrees,
    /// What is done once counts as done before it is.
    DoneBeforeDone,
    /// That it is done is stored Relaxed.
    RelaxedDone,
    /// A condition's waiter takes a token that was there before it came.
    LateWaiterTakes,
    /// A condition's waiters sleep with an empty pending slot.
    ListenerNotPending,
    /// Who is chosen by a condition waits for the user's lock without the baton.
    BatonNotHeld,
    /// The baton is freed, and nobody looks whether there are more tokens.
    BatonNotPassed,
    /// Whoever sees that an epoch was ended takes it for granted that its sleepers know.
    SweepLeftUndone,
    /// A condition's waiter takes its token before it has the user's lock.
    TokenBeforeLock,
    /// A condition's waiter announces itself after it has freed the user's lock.
    AnnounceAfterLeaving,
}

/// Whether the fault `which` is switched on. Always false in a normal build.
#[cfg(not(any(loom, mutants)))]
#[inline(always)]
pub(crate) const fn mutant(_which: Mutant) -> bool {
    false
}

#[cfg(any(loom, mutants))]
pub(crate) use switch::mutant;
#[cfg(any(loom, mutants))]
pub use switch::set_mutant;

#[cfg(any(loom, mutants))]
mod switch {
    use std::cell::Cell;

    use super::Mutant;

    // Each test thread has its own: loom runs all threads of a model on the thread that started it, and the
    // exact-kill harness switches before it forks.
    thread_local! {
        static ACTIVE: Cell<Mutant> = const { Cell::new(Mutant::None) };
    }

    /// Whether the fault `which` is switched on.
    #[inline]
    pub(crate) fn mutant(which: Mutant) -> bool {
        ACTIVE.with(|active| active.get() == which)
    }

    /// Switches the fault on, and any other off, for this thread and its forked children.
    #[doc(hidden)]
    pub fn set_mutant(which: Mutant) {
        ACTIVE.with(|active| active.set(which));
    }
}
