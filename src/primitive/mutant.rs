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
    /// The release that clears the word wakes one of those who sleep.
    LastReleaseWakesOne,
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
    /// Who gives permits to a sleeping head has no bell pending.
    BellNotPending,
    /// Who gives permits to a sleeping head does not wake it.
    GiveWithoutWake,
    /// The head is queued on the word before it is queued on the bell.
    WordBeforeBell,
    /// The head takes SLEEPER, set by the dead, for its own, and the count beside it for the one it saw.
    HeadTrustsSleeper,
    /// The head does not hear of the deaths of guards' holders.
    HoldersUnwatched,
    /// A newcomer takes permits past a head that sleeps.
    NewcomerPasses,
    /// Permits are given back by a Relaxed exchange.
    RelaxedRelease,
    /// A transfer is noted after it is made.
    NotedAfterwards,
    /// A transfer is settled by who made it, and by nobody else.
    HeirSettlesNothing,
    /// A guard's slot is freed before its permit is back.
    SlotBeforePermit,
    /// A reader does not look whether a writer came while it claimed its slot.
    WriterUnseen,
    /// The claim of a slot is ordered before nothing that follows.
    RelaxedClaim,
    /// A writer looks how many slots there are before it makes newcomers turn back.
    SlotsBeforeShut,
    /// A writer does not note that it is about to change the data.
    ChangeUnnoted,
    /// A writer lets the next writer in before it lets readers in.
    FreeBeforeOpen,
    /// A writer waits for a reader without saying so.
    WriterUnannounced,
    /// An upgraded reader that has written leaves those who wait in line asleep.
    LineStaysAsleep,
    /// A reader leaves the line with a wake that was the next one's.
    LeaverKeepsWake,
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
    /// Who waits at a barrier goes to sleep without a last look at the one whom it watches.
    SleepUnguarded,
    /// Who has arrived at a barrier does not name the bell as pending.
    PartyNotPending,
    /// Who hears the bell of a barrier keeps it to itself.
    BellNotPassedOn,
    /// Who ends a round of a barrier wakes one of those who wait.
    RoundWakesOne,
    /// The last to arrive at a barrier does not look who has died.
    LastLooksAway,
    /// Arriving at a barrier is Relaxed, so who leaves need not see what was written before.
    RelaxedArrival,
    /// Who runs a barrier's action frees the bell before the round is over.
    LeaderLeavesEarly,
    /// A broken barrier is made whole, and those of the broken round are not told.
    ResetUntold,
    /// Who arrives at a barrier does not look whether somebody waits for its slot.
    CrowdForgotten,
    /// The records of a batch are committed one by one.
    BatchPieceByPiece,
    /// An item that its dead taker had not yet taken from the ring counts as taken.
    LeaseNotVoided,
    /// The head moves before the item lies in its taker's place.
    LeaseAfterHead,
    /// A place that is watched is freed first, and its watcher is woken in a second system call, of which the kernel
    /// knows nothing.
    LeaseFreedThenWake,
    /// Who watches a place does not tell the kernel.
    WatchWithoutWaiters,
    /// A receiver does not sleep on the places that are held.
    TakersUnwatched,
    /// An item is finished first, and its joiners are woken in a second system call.
    FinishThenWake,
    /// Who finishes an item wakes one of its joiners.
    FinishWakesOne,
    /// Who takes an item from the ring does not wake the joiners that wait for that.
    TakingNotTold,
    /// A condition's waiter takes a token that was there before it came.
    LateWaiterTakes,
    /// A condition's waiters sleep with an empty pending slot.
    ListenerNotPending,
    /// Who is chosen by a condition waits for the user's lock without the baton.
    BatonNotHeld,
    /// The baton is freed, and nobody looks whether there are more tokens.
    BatonNotPassed,
    /// A condition's waiter that comes beside a loner lets it sleep on one word alone.
    LonerNotDisturbed,
    /// Who sleeps at a condition has looked at the baton only before news could wake it.
    BatonNotComparedAgain,
    /// Whoever sees that an epoch was ended takes it for granted that its sleepers know.
    SweepLeftUndone,
    /// A condition's waiter takes its token before it has the user's lock.
    TokenBeforeLock,
    /// A condition's waiter announces itself after it has freed the user's lock.
    AnnounceAfterLeaving,
    /// A commit wakes one of those who sleep on its doorbell.
    CommitWakesOne,
    /// Who waits for several things forgets that an event was clear when it began.
    PulseForgotten,
    /// Who registers at a queue does not wake those who sleep until somebody does.
    EntryUntold,
    /// Who waits at a queue does not watch those who have registered at the other end.
    PeersUnwatched,
    /// Who looks through those who have registered at a queue does not look whether others came meanwhile.
    PeersCountedOnce,
    /// A receiver that finds all senders gone does not look at the ring again.
    GoneAtOnce,
    /// Who uses an end of a pipe first does not greet the other end.
    PipeUngreeted,
    /// Who waits at a pipe does not watch the other end's owner.
    PipeOwnerUnwatched,
    /// Who drops its end of a pipe only closes its own copy.
    PipeClosedQuietly,
    /// Who claims an end of a channel does not wake the one who sleeps on it.
    ClaimUntold,
    /// An end of a channel is freed, and nobody is woken.
    LeaveUntold,
    /// Who finds a channel's sleeper wakes it first, and takes its bit away in a second step.
    RingThenWake,
    /// Who commits to a channel wakes nobody.
    CommitUnrung,
    /// Who is to be careful looks for a channel's sleeper without a fence.
    CarefulUnfenced,
    /// A channel's sleeper has no fence between its bit and its last look.
    SleeperUnfenced,
    /// A channel's sleeper does not look once more.
    NoLastLook,
    /// A channel's sleeper does not see that somebody came, and left, before it slept.
    LeftUnseen,
    /// A channel's commit comes before what it commits.
    CommitBeforeRecord,
    /// Who waits at a channel looks for records first, and then whether the other end is gone.
    DrainedBeforeJudged,
    /// Who gives a pool a task wakes no worker.
    TaskUntold,
    /// A worker of a pool looks for tasks before it says that it is about to sleep, and not afterwards.
    LooksBeforeItRests,
    /// A worker takes a task by a store.
    TakenByStore,
    /// The commit of a task's result is Relaxed.
    RelaxedResult,
    /// Who commits a task's result does not ring for whoever waits for it.
    ResultUnrung,
    /// The tasks of a dead worker stay its own.
    DeadKeepTasks,
    /// Nobody rings for a dead worker.
    DeathUnrung,
    /// A parent lets its newborn through the gate before it has opened it.
    GateFreedUnopened,
    /// A sleeper does not set WAITERS.
    SleeperUnannounced,
    /// A release that finds WAITERS set at the last moment wakes nobody.
    LatecomerAsleep,
    /// Who takes a lock over from the dead is not told.
    DeathUntold,
    /// A reader of a value looks at the version again without a fence.
    ReaderUnfenced,
    /// A writer of a value overwrites the older copy without a fence.
    WriterUnfenced,
    /// Who commits to a channel looks for a sleeper without a fence.
    CommitterUnfenced,
    /// Who gives a pool tasks looks for sleepers without a fence.
    GiverUnfenced,
    /// A worker of a pool looks for tasks without a fence after it has said that it is about to sleep.
    RestUnfenced,
    /// Who orders a pool to close looks for sleepers without a fence.
    OrderUnfenced,
    /// An order to a pool wakes no worker.
    OrderUntold,
    /// The wake that a dead worker had been given is nobody's.
    DeathKeepsWake,
    /// Who notifies wakes nobody.
    NotifiedAsleep,
    /// Who ends an epoch of a condition wakes one of its sleepers.
    SweepWakesOne,
    /// A reader in line looks at the flag without a fence.
    LineUnfenced,
    /// Who looks through those who have registered counts them again without a fence.
    PeersUnfenced,
    /// Who closes a queue wakes nobody.
    CloseUntold,
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
