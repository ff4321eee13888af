//! [`RawRwLock`]: words and slots of a lock that many may read under, or one write under.
//!
//! # Words
//! | word         | meaning                                           | written by                                   |
//! |--------------|---------------------------------------------------|----------------------------------------------|
//! | `flag`: SHUT | newcomers turn back                               | who holds `writing`, and nobody else         |
//! | `.. CHANGING`| the data may be half-changed                      | the same                                     |
//! | `.. DIED`, `.. POISONED` | a writer died or panicked, and nobody has repaired what it left | the same   |
//! | `writing`    | a lock: who writes, may write, or goes in from the line | see `sync/raw_lock.rs`                 |
//! | slots        | locks: held by those who read                     | see `sync/slots.rs`                          |
//! | `used`       | how many slots were ever held                     | see `sync/slots.rs`                          |
//! | `hungry`     | a hint: a reader in line was passed by            | that reader; then it, or a writer            |
//!
//! To read is to hold a slot, claimed while `flag` was not SHUT. To write is to hold `writing` with `flag` SHUT and
//! CHANGING. To read and be able to write is to hold `writing` with `flag` open. *The line* are those who wait for
//! `writing`: writers, and readers that were turned back.
//!
//! # Invariants
//! - W1: `flag` is SHUT only while `writing` is held, or after its holder died: whoever gets `writing` next opens it.
//!   So who finds it SHUT waits for `writing`, which a death hands on, and never for the flag.
//! - W2: who finds `flag` open behind its claim of a slot reads; who finds it SHUT frees the slot. A writer that has
//!   shut it waits until each holder of a slot that it sees has left: those that came later turn back.
//! - W3: CHANGING stands in `flag` from before the first change of the data until after the last. So a death without
//!   it is no news to anybody, whatever its holder held; one with it is DIED, from the next holder of `writing` on.
//! - W4: on a slot sleeps only the one writer that holds `writing`.
//! - W5: nobody sleeps in line as a reader while `flag` is open, longer than it takes the holder of `writing` to
//!   release or to rouse the line. Who opens the flag and keeps `writing` rouses it; and a reader looks at the flag
//!   behind its look at `writing`'s word, on which it then sleeps.
//!
//! # Ordering edges
//! - `turn`: the claim of a slot, then a look at `flag`; SHUT, then looks at the slots: all SeqCst, so that a reader
//!   or the writer sees the other. (Where a locked exchange is a full barrier, that costs nothing beyond it.)
//! - `open`: Release when `flag` is opened -> SeqCst look of a reader; carries what was written.
//! - `line`: Release when `writing` is freed, or the rousing call -> Acquire of a reader that is about to sleep;
//!   carries the open flag.
//! - What readers did comes before what the next writer does by `handover` of the slot's lock.
//!
//! # Crash points
//! - `rwlock.claimed`: a slot is ours: the kernel marks it, and wakes the writer that waits for it.
//! - `rwlock.let_in`: a slot and `writing` are ours: the kernel marks both.
//! - `rwlock.shut`: SHUT, and `writing` is ours. The next holder of `writing` opens the flag.
//! - `rwlock.changing`: the same with CHANGING. The next holder of `writing` notes DIED.
//! - `rwlock.opened`: `flag` is open and `writing` is ours: the kernel hands it on, and there is nothing to report.
//!   Where the line is to be roused, the kernel wakes its head, who does what remains as it passes on.
//!
//! # Who goes first
//! A writer that has `writing` waits for those who read already, and for nobody else: so readers cannot starve
//! writers. Writers could starve a reader in line, since `writing` goes to whoever comes first. So a reader that slept
//! and was passed by says that it is `hungry`, and a writer that comes and sees it waits until it is not: at most 2 ms,
//! once, and it is only courtesy: nothing is wrong if it is not kept.

use crate::{
    primitive::{
        Acquire, AtomicU32, COURTESY, Deadline, FutexWord, Me, Mutant, Relaxed, Release, SeqCst, Wake, fence,
        mutant,
    },
    region::Shareable,
    sync::{
        OwnerWord,
        raw_lock::{Patience, RawLock, Refused, Suspicion},
        slots::{Slot, Slots},
    },
};

const SHUT: u32 = 1;
const CHANGING: u32 = 2;
const DIED: u32 = 4;
const POISONED: u32 = 8;

/// The words; the slots lie behind them.
#[repr(C, align(128))]
pub(crate) struct RawRwLock {
    pub(super) flag: AtomicU32,
    used: AtomicU32,
    hungry: FutexWord,
    /// Readers look at the line above, and only at that.
    _apart: [u32; 13],
    writing: RawLock,
    _rest: [u64; 2],
}

#[cfg(not(loom))]
const _: () = {
    assert!(size_of::<RawRwLock>() == 128);
    assert!(std::mem::offset_of!(RawRwLock, writing) == RawRwLock::WRITING);
};

// SAFETY: atomics, and a lock.
unsafe impl Shareable for RawRwLock {
    const ROBUST: &'static [usize] = &[RawRwLock::WRITING + RawLock::WORD];
}

impl RawRwLock {
    const WRITING: usize = 64;

    pub(crate) fn new() -> RawRwLock {
        RawRwLock {
            flag: AtomicU32::new(0),
            used: AtomicU32::new(0),
            hungry: FutexWord::new(0),
            _apart: [0; 13],
            writing: RawLock::new(),
            _rest: [0; 2],
        }
    }
}

/// Why nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    WouldBlock,
    TimedOut,
    /// The calling thread would wait for itself.
    AlreadyHeld,
    /// No slot is free.
    NoSlot,
}

impl From<Refused> for Denied {
    fn from(refused: Refused) -> Denied {
        match refused {
            Refused::WouldBlock => Denied::WouldBlock,
            Refused::TimedOut => Denied::TimedOut,
            Refused::AlreadyHeld => Denied::AlreadyHeld,
        }
    }
}

/// A reader's part: the slot that it holds, and what it must know of the data.
pub(crate) struct Share<'a> {
    pub(super) slot: &'a RawLock,
    pub(super) suspicion: Suspicion,
}

/// Why a reader did not get in at once.
enum TurnedBack {
    ByWriter,
    NoSlot,
}

/// One lock's words and slots.
#[derive(Clone, Copy)]
pub(crate) struct Parts<'a> {
    words: &'a RawRwLock,
    slots: Slots<'a>,
}

impl<'a> Parts<'a> {
    #[inline]
    pub(crate) fn new(words: &'a RawRwLock, slots: &'a [Slot]) -> Parts<'a> {
        Parts { words, slots: Slots { slots, used: &words.used } }
    }

    /// Gets a share. Its slot is freed by [`RawLock::unlock`].
    #[inline]
    pub(crate) fn read(self, me: Me, patience: Patience) -> Result<Share<'a>, Denied> {
        match self.read_at_once(me) {
            Ok(share) => Ok(share),
            Err(TurnedBack::ByWriter) => self.read_from_line(me, patience),
            Err(TurnedBack::NoSlot) => Err(Denied::NoSlot),
        }
    }

    #[inline]
    fn read_at_once(self, me: Me) -> Result<Share<'a>, TurnedBack> {
        // ORDERING: Relaxed, a first look. It spares the writer a claim that comes to nothing: one that tries again
        // and again would keep it waiting.
        if self.words.flag.load(Relaxed) & SHUT != 0 {
            return Err(TurnedBack::ByWriter);
        }
        let Some((place, _)) = self.slots.claim(me) else {
            // ORDERING: Relaxed, a guess. Who was turned back may hold a slot yet: with a writer there, it is too early
            // to say.
            let is_shut = self.words.flag.load(Relaxed) & SHUT != 0;
            return Err(if is_shut { TurnedBack::ByWriter } else { TurnedBack::NoSlot });
        };
        let slot = &self.slots.slots[place].lock;
        // CRASH(rwlock.claimed): the slot's lock is held and linked.
        // ORDERING(turn): SeqCst, behind the SeqCst exchange of the claim. ORDERING(open): Acquire in it.
        let flag = self.words.flag.load(if mutant(Mutant::RelaxedClaim) { Acquire } else { SeqCst });
        if flag & SHUT != 0 && !mutant(Mutant::WriterUnseen) {
            slot.unlock();
            return Err(TurnedBack::ByWriter);
        }
        Ok(Share { slot, suspicion: suspicion(flag) })
    }

    /// A reader that was turned back.
    #[cold]
    fn read_from_line(self, me: Me, patience: Patience) -> Result<Share<'a>, Denied> {
        let reads = self.would_wait_for_itself(me, patience);
        let patience = if reads { Patience::None } else { patience };
        let mut line = InLine { words: self.words, sleeps: 0, hungry: false };
        loop {
            match self.words.writing.lock_unless(me, patience, || line.is_open_before_sleep()) {
                Ok(_) => {
                    let share = self.share_of_holder(me);
                    // CRASH(rwlock.let_in): both are linked.
                    self.words.writing.unlock();
                    return share;
                }
                Err(Refused::WouldBlock) if reads => return Err(Denied::AlreadyHeld),
                // It left the line because the flag is open.
                Err(Refused::WouldBlock) if !matches!(patience, Patience::None) => {
                    match self.read_at_once(me) {
                        Ok(share) => return Ok(share),
                        Err(TurnedBack::NoSlot) => return Err(Denied::NoSlot),
                        Err(TurnedBack::ByWriter) => {}
                    }
                }
                Err(refused) => return Err(refused.into()),
            }
        }
    }

    /// A share for who holds `writing`: no writer is active.
    fn share_of_holder(self, me: Me) -> Result<Share<'a>, Denied> {
        let (flag, _) = self.settle();
        let (place, _) = self.slots.claim(me).ok_or(Denied::NoSlot)?;
        Ok(Share { slot: &self.slots.slots[place].lock, suspicion: suspicion(flag) })
    }

    /// Whether the thread reads: then a writer may wait for it, and it must wait for no writer.
    #[inline]
    fn would_wait_for_itself(self, me: Me, patience: Patience) -> bool {
        // Most threads hold nothing at all.
        me.holds_any() && !matches!(patience, Patience::None) && self.slots.holds_one(me)
    }

    /// Takes `writing` and has the data to itself.
    #[inline]
    pub(crate) fn write(self, me: Me, patience: Patience) -> Result<Suspicion, Denied> {
        if self.would_wait_for_itself(me, patience) {
            return Err(Denied::AlreadyHeld);
        }
        let (flag, _) = self.take_writing(me, patience)?;
        if let Err(denied) = self.shut_and_wait(me, patience) {
            self.words.writing.unlock();
            return Err(denied);
        }
        Ok(suspicion(flag))
    }

    /// Takes `writing` and leaves the flag open: to read, and perhaps to write.
    pub(crate) fn upgradable(self, me: Me, patience: Patience) -> Result<Suspicion, Denied> {
        let reads = self.would_wait_for_itself(me, patience);
        let (flag, opened) = match self.take_writing(me, if reads { Patience::None } else { patience }) {
            Err(Denied::WouldBlock) if reads => return Err(Denied::AlreadyHeld),
            taken => taken?,
        };
        if opened || self.words.writing.state().has_waiters() {
            self.rouse_line(); // W5
        }
        Ok(suspicion(flag))
    }

    /// From [`upgradable`](Parts::upgradable) to [`write`](Parts::write). Refused, all is as it was.
    pub(crate) fn upgrade(self, me: Me, patience: Patience) -> Result<Suspicion, Denied> {
        if self.would_wait_for_itself(me, patience) {
            return Err(Denied::AlreadyHeld);
        }
        // ORDERING: Relaxed, only the holder of `writing` stores there.
        let flag = self.words.flag.load(Relaxed);
        let refused = self.shut_and_wait(me, patience);
        if refused.is_err() {
            self.rouse_line(); // W5
        }
        refused.map(|()| suspicion(flag))
    }

    #[inline]
    fn take_writing(self, me: Me, patience: Patience) -> Result<(u32, bool), Denied> {
        self.words.let_readers_go_first(patience);
        self.words.writing.lock_as(me, patience)?;
        Ok(self.settle())
    }

    /// Opens a flag that a dead writer left SHUT, and notes whether it died within its section. Says what the flag is
    /// now, and whether it was opened. For the holder of `writing`.
    #[inline]
    fn settle(self) -> (u32, bool) {
        // ORDERING: Relaxed, only the holder of `writing` stores there.
        let flag = self.words.flag.load(Relaxed);
        if flag & SHUT == 0 { (flag, false) } else { (self.open_after_death(flag), true) }
    }

    #[cold]
    fn open_after_death(self, flag: u32) -> u32 {
        let left = if flag & CHANGING != 0 { DIED } else { flag & (DIED | POISONED) }; // W3
        // ORDERING(open): Release, as if the dead had opened it.
        self.words.flag.store(left, Release);
        left
    }

    /// Turns newcomers back, and waits for those who read. For the holder of `writing`; refused, the flag is open.
    #[inline]
    fn shut_and_wait(self, me: Me, patience: Patience) -> Result<(), Denied> {
        // ORDERING: Relaxed, only the holder of `writing` stores there.
        let flag = self.words.flag.load(Relaxed);
        let early = mutant(Mutant::SlotsBeforeShut).then(|| self.slots.used());
        // ORDERING(turn): SeqCst, before the looks at the slots.
        self.words.flag.swap(flag | SHUT, SeqCst);
        // CRASH(rwlock.shut): the next holder of `writing` opens it.
        for slot in early.unwrap_or_else(|| self.slots.used()) {
            if let Err(refused) = slot.lock.outlast(me, patience) {
                // ORDERING(open): Release, for what the last writer wrote.
                self.words.flag.store(flag, Release);
                return Err(refused.into());
            }
        }
        if !mutant(Mutant::ChangeUnnoted) {
            // ORDERING: Relaxed, carried by `writing`; but the note before the changes, in the compiler's order too.
            self.words.flag.store(SHUT | CHANGING, Relaxed);
            fence(Release);
        }
        // CRASH(rwlock.changing): the next holder of `writing` notes it.
        Ok(())
    }

    /// Ends [`write`](Parts::write), or takes an upgrade back. Leaves word of `suspicion`.
    #[inline]
    pub(crate) fn end_write(self, suspicion: Suspicion, upgraded: bool) {
        let early = mutant(Mutant::FreeBeforeOpen) && !upgraded;
        if early {
            self.words.writing.unlock();
        }
        // ORDERING(open): Release, so that readers see what we wrote.
        self.words.flag.store(note(suspicion), Release);
        // CRASH(rwlock.opened): the section is whole, and the kernel hands `writing` on.
        // ORDERING(line): Release in both.
        if upgraded {
            self.rouse_line(); // W5
        } else if !early {
            self.words.writing.unlock();
        }
    }

    /// From writing to reading. All slots are free, or held for a moment by newcomers that turn back.
    pub(crate) fn downgrade(self, me: Me, suspicion: Suspicion, upgraded: bool) -> Share<'a> {
        let slot = match self.slots.claim(me) {
            Some((place, _)) => &self.slots.slots[place].lock,
            None => self.wait_for_newcomer(me),
        };
        // CRASH(rwlock.let_in): as above, and CHANGING says that we may have died in the middle.
        self.end_write(suspicion, upgraded);
        Share { slot, suspicion }
    }

    #[cold]
    fn wait_for_newcomer(self, me: Me) -> &'a RawLock {
        let slot = &self.slots.slots[0].lock;
        loop {
            // W4
            if slot.outlast(me, Patience::FOREVER).is_ok() && slot.claim(me).is_ok() {
                return slot;
            }
        }
    }

    /// Gives [`upgradable`](Parts::upgradable) back.
    #[inline]
    pub(crate) fn end_upgradable(self) {
        self.words.writing.unlock();
    }

    fn rouse_line(self) {
        if !mutant(Mutant::LineStaysAsleep) {
            self.words.writing.rouse();
        }
    }

    /// The holder of `writing`, how many read, and what is known of the data, at some instant each.
    pub(crate) fn look(self) -> (OwnerWord, usize, Suspicion) {
        let readers = self.slots.used().iter().filter(|slot| !slot.lock.state().is_free()).count();
        // ORDERING: Relaxed, for whoever looks from outside.
        (self.words.writing.state(), readers, suspicion(self.words.flag.load(Relaxed)))
    }

    /// How many may read.
    pub(crate) fn capacity(self) -> usize {
        self.slots.slots.len()
    }
}

/// A reader in line.
struct InLine<'a> {
    words: &'a RawRwLock,
    sleeps: u32,
    hungry: bool,
}

impl InLine<'_> {
    /// Asked before each sleep: whether the flag is open.
    fn is_open_before_sleep(&mut self) -> bool {
        // ORDERING(line): Acquire, behind the look at `writing`'s word, which is its holder's or a sleeper's after it.
        if !mutant(Mutant::LineUnfenced) {
            fence(Acquire);
        }
        if self.words.flag.load(Relaxed) & SHUT == 0 {
            return true;
        }
        self.sleeps += 1;
        if self.sleeps > 1 && !COURTESY.is_zero() {
            self.hungry = true;
            // ORDERING: Relaxed, a hint.
            self.words.hungry.store(1, Relaxed);
        }
        false
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        if self.hungry {
            // ORDERING: Relaxed, a hint.
            self.words.hungry.store(0, Relaxed);
            self.words.hungry.wake(u32::MAX);
        }
    }
}

impl RawRwLock {
    /// A writer's courtesy, for as long as its own patience lasts.
    #[inline]
    fn let_readers_go_first(&self, patience: Patience) {
        // ORDERING: Relaxed, a hint.
        if !COURTESY.is_zero() && self.hungry.load(Relaxed) != 0 {
            self.wait_for_hungry(patience);
        }
    }

    #[cold]
    fn wait_for_hungry(&self, patience: Patience) {
        if matches!(patience, Patience::None) {
            return;
        }
        let limit = Deadline::after(COURTESY);
        let limit = patience.deadline().map_or(limit, |deadline| deadline.min(limit));
        while self.hungry.load(Relaxed) != 0 {
            if self.hungry.wait(1, Some(limit)) == Wake::TimedOut {
                // It may be dead: it has had its turn of courtesy.
                self.hungry.store(0, Relaxed);
            }
        }
    }
}

fn suspicion(flag: u32) -> Suspicion {
    match flag & (DIED | POISONED) {
        0 => Suspicion::None,
        POISONED => Suspicion::Poisoned,
        _ => Suspicion::OwnerDied,
    }
}

fn note(suspicion: Suspicion) -> u32 {
    match suspicion {
        Suspicion::None => 0,
        Suspicion::OwnerDied => DIED,
        Suspicion::Poisoned => POISONED,
    }
}
