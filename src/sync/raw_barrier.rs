//! [`Meeting`]: the words of a barrier and what is done with them; no death of a party keeps the others waiting.
//!
//! # Words
//! | word         | meaning                                          | written by                                       |
//! |--------------|--------------------------------------------------|--------------------------------------------------|
//! | `word`       | the round, 18 bits, and its state, 14 bits:      |                                                  |
//! |              | 0: nobody has arrived                            | who ends the round before                        |
//! |              | n: the last to arrive holds the slot n - 1       | who arrives: one exchange                        |
//! |              | ACTING: all have arrived, and one runs the action | who arrives last, if there is an action         |
//! |              | BROKEN + why                                     | whoever breaks it: one exchange                  |
//! | `bell`       | a lock on whose word all who wait sleep          | the leader, while all are there; who resets      |
//! | slot, `lock` | held: by one who has arrived, or is about to     | its holder, and the kernel at its end            |
//! | slot, notes  | TID; the slot of whoever came before; how many had come; the round, later why it broke | its holder; who resets |
//!
//! Those who have arrived are a list: the word names the newest, and each slot the one before. So their number, and
//! who they are, change in one exchange. The round goes on by one when it is complete, and when it is reset. The
//! *leader* is the last to arrive. It needs no slot: its exchange ends the round, or, if there is an action, takes it
//! to ACTING, and then it holds the bell.
//!
//! # Invariants
//! - B1: a slot that the list of an open round names is held by whom its note names, or by nobody: then the holder has
//!   died. Nobody leaves it before the round is over or broken; and who finds it free and marked looks through the list
//!   before it takes it, and breaks the round.
//! - B2: from before its first exchange until after the wake that it owes, the pending slot of a thread names the bell,
//!   or it holds the bell. Only while it takes a slot it names that. So at a death one who sleeps is woken by the bell;
//!   and while the bell is held, at its release, or at the death of its holder: WAITERS is always set.
//! - B3: who is woken by the bell wakes all: everybody sleeps on the word as well. (It may have slept since an earlier
//!   round, and the news be for another.)
//! - B4: who wants to sleep has first found the one alive whom it watches, and this is compared again when the bell can
//!   already wake it: the first to arrive watches the newest, and with it that there is none newer; every other
//!   watches whoever came before.
//! - B5: while the round is ACTING, the leader holds the bell. So if it is free then, the leader has died.
//!
//! No death of one who has arrived goes unnoticed. Suppose that all who live sleep, and the round is open. By B2 and B3
//! the news of a death wakes all, or it found nobody asleep: either way all went to sleep after it, and so after every
//! death. By B4 each found alive whoever came before; so the dead, if there are any, are the newest; but the first
//! found the newest alive, and nobody can have come and died since.
//!
//! Whoever ends a round exchanges the word and then wakes all, in two steps. If it dies between them, the bell wakes
//! one, and by B3 it wakes all: those who do not sleep see the word.
//!
//! A round that wraps does no harm: to take one for another, a thread must stand still between two instructions while
//! a multiple of 262,144 rounds go by without it, and nobody but it be in the list as it was.
//!
//! # Ordering edges
//! - `arrive`: AcqRel when arriving -> Acquire when the round is seen to be over; the exchanges in between carry it on.
//! - `crowd`: a fence between setting WAITERS in a slot's lock and looking whether its holder is about to arrive, and
//!   one between arriving and looking for WAITERS: one of the two sees the other.
//!
//! # Crash points
//! - `barrier.claimed`: a slot is held, and its holder has not arrived. The kernel marks it; nobody waits for it.
//! - `barrier.arrived`: in the list. The kernel marks the slot and rings the bell; whoever watches it breaks the round.
//! - `barrier.unrung`: the round is over or broken, and nobody has been woken. The kernel rings the bell.
//! - `barrier.acting`: the leader holds the bell. The kernel marks it and wakes one, which breaks the round.
//! - `barrier.stamped`: some of a broken round have been told why, and it is still broken. The next reset goes on.
//!
//! # More threads than slots
//! There are a few slots more than parties. Who finds none free waits for one that is not in the list: it is about to
//! be left, or its holder arrives, and then wakes whoever waits for it. It sleeps as all others do, by the word and the
//! bell as well; so when it dies, woken by the slot, B3 wakes the next who waits for it.
//!
//! Sources: futex(2), get_robust_list(2); B1 and B4 take the place of a count that would not say whose arrival died.

use std::iter;

use crate::{
    error::BarrierError,
    primitive::{
        AcqRel, Acquire, Deadline, FutexWord, Me, Mutant, Relaxed, Release, SeqCst, Spins, Wake, fence,
        lineage, me, mutant, wait_any_if,
    },
    region::Shareable,
    sync::{
        raw_lock::{Patience, RawLock},
        round::{self, State, Word},
        slots::Slot,
    },
};

/// How many parties there may be: with the spare slots the number of a slot stays below the other states.
pub(crate) const MAX_PARTIES: usize = 16_000;
/// Slots beyond one for each party, for those who have not left the round before.
const SPARE: usize = 8;

/// The notes of a slot.
const TID: usize = 0;
const BEFORE: usize = 1;
const COUNT: usize = 2;
/// The word as it was when nobody had arrived; or, if its round broke and was reset, as it was broken.
const FATE: usize = 3;

/// The words beside the slots.
#[repr(C, align(64))]
pub(crate) struct RawBarrier {
    pub(super) word: FutexWord,
    _gap: u32,
    pub(super) bell: RawLock,
    _rest: u64,
}

// SAFETY: atomics and a lock.
unsafe impl Shareable for RawBarrier {
    const ROBUST: &'static [usize] = &[std::mem::offset_of!(RawBarrier, bell) + RawLock::WORD];
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<RawBarrier>() == 64);

impl RawBarrier {
    pub(crate) fn new() -> RawBarrier {
        RawBarrier { word: FutexWord::new(0), _gap: 0, bell: RawLock::with_waiters(), _rest: 0 }
    }
}

/// How many slots go with so many parties.
pub(crate) const fn slots_for(parties: usize) -> usize {
    parties + SPARE
}

/// How many parties so many slots are for. Known from private memory, then: no peer can change it.
pub(crate) const fn parties_of(slots: usize) -> usize {
    slots.saturating_sub(SPARE)
}

/// A barrier as its algorithm sees it; the memory is somebody else's.
#[derive(Clone, Copy)]
pub(crate) struct Meeting<'a> {
    pub(crate) raw: &'a RawBarrier,
    pub(crate) slots: &'a [Slot],
    pub(crate) parties: usize,
    pub(crate) action: Option<&'a (dyn Fn() + Send + Sync)>,
}

/// What a thread has taken for its stay. Dropped, it gives it back; a copy that a fork made does nothing.
struct Stay<'a> {
    meeting: Meeting<'a>,
    me: Me,
    place: Option<usize>,
    /// The slot to look at first.
    first: usize,
    /// Holds the bell.
    leads: bool,
    lineage: u32,
}

impl Stay<'_> {
    /// Frees the bell, which rings (B2), and names it again.
    fn stop_leading(&mut self) {
        if self.leads {
            self.leads = false;
            self.meeting.raw.bell.unlock_and_ring(self.me);
            self.meeting.raw.bell.robust.announce(self.me);
        }
    }
}

impl Drop for Stay<'_> {
    fn drop(&mut self) {
        if self.lineage != lineage() {
            return;
        }
        self.stop_leading();
        match self.place {
            Some(place) => self.meeting.slots[place].lock.unlock(),
            None => self.me.retract(),
        }
    }
}

/// If the action panics: the round breaks while the panic goes on.
struct Acting<'a, 'b>(&'b Stay<'a>, Word);

impl Drop for Acting<'_, '_> {
    fn drop(&mut self) {
        let Acting(stay, seen) = self;
        if stay.lineage == lineage() {
            stay.meeting.change(*seen, seen.broken(BarrierError::ActionFailed));
        }
    }
}

impl<'a> Meeting<'a> {
    fn enter(self) -> Stay<'a> {
        let me = me();
        self.raw.bell.robust.announce(me); // B2
        let first = me.tid() as usize % self.slots.len();
        Stay { meeting: self, me, place: None, first, leads: false, lineage: lineage() }
    }

    /// The word as it is.
    pub(crate) fn look(self) -> Word {
        // ORDERING(arrive): Acquire, so that who sees a round over sees what all wrote before they arrived.
        Word(self.raw.word.load(Acquire))
    }

    /// Waits until all have arrived. Says how many had arrived before.
    pub(crate) fn wait(self, deadline: Option<Deadline>) -> Result<usize, BarrierError> {
        let mut stay = self.enter();
        if self.raw.bell.state().owner() == stay.me.tid() {
            return Err(BarrierError::WithinAction);
        }
        let mut expired = false;
        loop {
            let seen = self.look();
            match seen.state() {
                State::Broken(BarrierError::Reset) if !expired => {
                    expired = self.finish_reset(&mut stay, seen, deadline) == Progress::Expired;
                }
                State::Broken(BarrierError::Reset) => return Err(BarrierError::TimedOut),
                State::Broken(why) => return Err(why),
                // We hold the bell: B5.
                State::Acting if stay.leads => _ = self.change(seen, seen.broken(BarrierError::PeerDied)),
                // Not our round: there are more of us than parties.
                State::Acting if expired => return Err(BarrierError::TimedOut),
                State::Acting => expired = self.sleep(seen, None, None, deadline),
                State::Open(_) if expired => {
                    if self.change(seen, seen.broken(BarrierError::TimedOut)) {
                        return Err(BarrierError::TimedOut);
                    }
                }
                State::Open(newest) if self.arrived(newest) + 1 >= self.parties => {
                    if self.action.is_some() && !stay.leads {
                        expired = self.lead(&mut stay, seen, deadline);
                        continue;
                    }
                    if let Some(result) = self.end_round(&mut stay, seen) {
                        return result;
                    }
                }
                State::Open(newest) => match stay.place {
                    None => expired = self.claim(&mut stay, deadline),
                    Some(place) => {
                        let before = self.arrived(newest);
                        // Nobody arrives with the bell in its hand: nothing would ring for it.
                        if !stay.leads && self.arrive(stay.me, seen, place, before) {
                            return self.stay(seen, place, before, deadline);
                        }
                    }
                },
            }
            stay.stop_leading();
        }
    }

    /// How many have arrived, the newest being in this slot. (If the word has changed since, it is any number.)
    fn arrived(self, newest: Option<usize>) -> usize {
        // ORDERING: Relaxed, `arrive` carries it.
        newest
            .and_then(|place| self.slots.get(place))
            .map_or(0, |slot| slot.notes[COUNT].load(Relaxed) as usize)
    }

    /// The number of those who wait.
    pub(crate) fn waiting(self) -> usize {
        loop {
            let seen = self.look();
            let waiting = match seen.state() {
                State::Broken(_) => return 0,
                State::Acting => return self.parties,
                State::Open(newest) => self.arrived(newest),
            };
            // ORDERING: Acquire, so that the second look is after the slot's.
            fence(Acquire);
            if self.look() == seen {
                return waiting;
            }
        }
    }

    /// Makes the exchange that somebody waits for, and wakes all; false if the word is no longer as `seen`.
    fn change(self, seen: Word, to: Word) -> bool {
        // ORDERING(arrive): AcqRel, so that who sees it sees what each party wrote before it arrived, and we as well.
        let changed = self.raw.word.compare_exchange(seen.0, to.0, AcqRel, Relaxed).is_ok();
        if changed {
            // CRASH(barrier.unrung): the bell is pending, or ours: the kernel wakes one, and it wakes all.
            self.raw.word.wake(if mutant(Mutant::RoundWakesOne) { 1 } else { u32::MAX });
        }
        changed
    }

    /// Joins the list; false if the word is no longer as `seen`.
    fn arrive(self, me: Me, seen: Word, place: usize, before: usize) -> bool {
        let slot = &self.slots[place];
        // ORDERING: Relaxed, `arrive` carries them.
        slot.notes[TID].store(me.tid(), Relaxed);
        slot.notes[BEFORE].store(seen.newest(), Relaxed);
        slot.notes[COUNT].store(before as u32 + 1, Relaxed);
        slot.notes[FATE].store(seen.empty().0, Relaxed);
        // CRASH(barrier.claimed): the slot is free again, and marked.
        let order = if mutant(Mutant::RelaxedArrival) { Relaxed } else { AcqRel };
        // ORDERING(arrive): AcqRel, so that the last sees what all wrote.
        if self.raw.word.compare_exchange(seen.0, seen.with_newest(place).0, order, Relaxed).is_err() {
            return false;
        }
        // CRASH(barrier.arrived): who watches us, or hears the bell, finds the slot free.
        if mutant(Mutant::PartyNotPending) {
            me.retract();
        }
        // ORDERING(crowd): who waits for this slot sees that we arrived, or we see that it waits.
        fence(SeqCst);
        if slot.lock.state().has_waiters() && !mutant(Mutant::CrowdForgotten) {
            slot.lock.robust.wake(u32::MAX);
        }
        true
    }

    /// Waits for the end of the round in which we arrived.
    fn stay(
        self,
        came: Word,
        place: usize,
        before: usize,
        deadline: Option<Deadline>,
    ) -> Result<usize, BarrierError> {
        let mut expired = false;
        let mut spins = Spins::new(deadline);
        loop {
            let seen = self.look();
            if seen.round() != came.round() {
                // ORDERING: Relaxed, whoever reset it wrote it before the round went on.
                let fate = Word(self.slots[place].notes[FATE].load(Relaxed));
                return match fate.state() {
                    State::Broken(why) => Err(why),
                    _ => Ok(before),
                };
            }
            let watched = match seen.state() {
                State::Broken(why) => return Err(why),
                State::Acting => None,
                State::Open(newest) if before == 0 => newest.filter(|&newest| newest != place),
                State::Open(_) => round::place(came.newest()),
            };
            if expired {
                if self.change(seen, seen.broken(BarrierError::TimedOut)) {
                    return Err(BarrierError::TimedOut);
                }
            } else if !spins.turn() {
                expired = self.sleep(seen, watched, None, deadline);
            }
        }
    }

    /// Sleeps while the word is as `seen`, and breaks the round if the holder of the slot `watched`, or the leader,
    /// has died (B4, B5). `wanted` is a slot to be woken by as well, while its lock is as given. Says whether the time
    /// is up. May return for nothing.
    fn sleep(
        self,
        seen: Word,
        watched: Option<usize>,
        wanted: Option<(usize, u32)>,
        deadline: Option<Deadline>,
    ) -> bool {
        let bell = self.raw.bell.state();
        let guard = watched.map(|place| {
            let lock = &self.slots[place].lock;
            (lock.state(), self.is_alive(place))
        });
        let leader_died = seen.state() == State::Acting && bell.is_free();
        if leader_died || guard.is_some_and(|(_, alive)| !alive) {
            self.change(seen, seen.broken(BarrierError::PeerDied));
            return false;
        }
        let word = (&self.raw.word, seen.0);
        let bell = (&*self.raw.bell.robust, bell.0);
        let also = [
            word,
            match (watched, guard) {
                (Some(place), Some((state, _))) => (&*self.slots[place].lock.robust, state.0),
                _ => word,
            },
        ];
        let also = match watched {
            _ if mutant(Mutant::SleepUnguarded) => &[],
            Some(_) => &also[..],
            None => &also[..1],
        };
        // The bell is the last that can wake us: so we are told of it, whatever else did.
        let (woken, place_of_bell) = match wanted {
            None => (wait_any_if(&[word, bell], also, deadline), 1),
            Some((place, held)) => {
                let slot = (&*self.slots[place].lock.robust, held);
                (wait_any_if(&[word, slot, bell], also, deadline), 2)
            }
        };
        if woken == Wake::Woken(place_of_bell) && !mutant(Mutant::BellNotPassedOn) {
            self.raw.word.wake(u32::MAX); // B3
        }
        woken == Wake::TimedOut
    }

    /// Whether the one who arrived in this slot lives. (If the round is over, it is any answer.)
    fn is_alive(self, place: usize) -> bool {
        let slot = &self.slots[place];
        let state = slot.lock.state();
        // ORDERING: Relaxed, `arrive` carries it.
        !state.is_free() && state.owner() == slot.notes[TID].load(Relaxed)
    }

    /// Whether one of those who have arrived is dead. (If the word has changed since, it is any answer.)
    fn somebody_died(self, seen: Word) -> bool {
        self.list(seen).any(|place| !self.is_alive(place))
    }

    /// Breaks the round if one of those who have arrived is dead.
    fn look_for_dead(self) {
        let seen = self.look();
        if self.somebody_died(seen) {
            self.change(seen, seen.broken(BarrierError::PeerDied));
        }
    }

    /// Ends the round as the last to arrive, holding the bell if there is an action. None if the word is no longer as
    /// `seen`.
    fn end_round(self, stay: &mut Stay<'a>, seen: Word) -> Option<Result<usize, BarrierError>> {
        let index = self.parties - 1;
        if self.somebody_died(seen) && !mutant(Mutant::LastLooksAway) {
            let broken = self.change(seen, seen.broken(BarrierError::PeerDied));
            return broken.then_some(Err(BarrierError::PeerDied));
        }
        let Some(action) = self.action else {
            return self.change(seen, seen.next()).then_some(Ok(index));
        };
        // ORDERING(arrive): AcqRel, so that the action sees what all wrote before they arrived.
        if self.raw.word.compare_exchange(seen.0, seen.acting().0, AcqRel, Relaxed).is_err() {
            return None;
        }
        // CRASH(barrier.acting): linked, with WAITERS: one of those who sleep by the bell hears of it.
        if mutant(Mutant::LeaderLeavesEarly) {
            stay.stop_leading();
        }
        let acting = Acting(stay, seen.acting());
        action();
        std::mem::forget(acting);
        if stay.lineage != lineage() {
            // A child that the action forked is no party.
            return Some(Err(BarrierError::WithinAction));
        }
        if self.change(seen.acting(), seen.next()) {
            return Some(Ok(index));
        }
        let now = self.look();
        Some(Err(match now.state() {
            State::Broken(why) if now.round() == seen.round() => why,
            _ => BarrierError::Reset,
        }))
    }

    /// Takes the bell, or sleeps while somebody has it and the word is as `seen`. Says whether the time is up. (Not as
    /// those do who wait for a lock: the wake of a release may go to one who does not want the lock, and wakes all.)
    fn lead(self, stay: &mut Stay<'a>, seen: Word, deadline: Option<Deadline>) -> bool {
        stay.leads = self.raw.bell.lock_as(stay.me, Patience::None).is_ok();
        if stay.leads {
            return false;
        }
        self.raw.bell.robust.announce(stay.me); // B2
        self.sleep(seen, None, None, deadline)
    }

    /// Takes a slot, or waits until one may be free. Says whether the time is up.
    fn claim(self, stay: &mut Stay<'a>, deadline: Option<Deadline>) -> bool {
        for place in (stay.first..self.slots.len()).chain(0..stay.first) {
            let lock = &self.slots[place].lock;
            let state = lock.state();
            if !state.is_free() {
                continue;
            }
            if state.owner_died() {
                self.look_for_dead(); // B1
            }
            let taken = lock.lock_as(stay.me, Patience::None).is_ok();
            self.raw.bell.robust.announce(stay.me); // B2
            if taken {
                stay.place = Some(place);
                return false;
            }
        }
        self.wait_for_slot(&mut stay.first, deadline)
    }

    /// Sleeps until a slot may be free; `first` is where to look. Says whether the time is up.
    #[cold]
    fn wait_for_slot(self, first: &mut usize, deadline: Option<Deadline>) -> bool {
        let Some(place) = (0..self.slots.len()).find(|&place| !self.has_arrived(self.look(), place)) else {
            return false;
        };
        // A wake by this slot is spent on us: so we look there first.
        *first = place;
        let lock = &self.slots[place].lock;
        let state = lock.state();
        if state.is_free() {
            return false;
        }
        // ORDERING: Relaxed, whoever frees the word exchanges it and sees the bit.
        let marked = lock.robust.compare_exchange(state.0, state.with_waiters().0, Relaxed, Relaxed);
        // ORDERING(crowd): as in `arrive`.
        fence(SeqCst);
        let seen = self.look();
        let in_vain = marked.is_err() || self.has_arrived(seen, place);
        match seen.state() {
            State::Open(_) if !in_vain => {
                self.sleep(seen, None, Some((place, state.with_waiters().0)), deadline)
            }
            _ => false,
        }
    }

    /// Whether the list names this slot. (If the word has changed since, it is any answer.)
    fn has_arrived(self, seen: Word, place: usize) -> bool {
        self.list(seen).any(|arrived| arrived == place)
    }

    /// The slots of those who have arrived, the newest first. (If the word has changed since, they are any.)
    pub(super) fn list(self, seen: Word) -> impl Iterator<Item = usize> + use<'a> {
        let newest = if let State::Open(newest) = seen.state() { newest } else { None };
        let known = move |place: &usize| *place < self.slots.len();
        iter::successors(newest.filter(known), move |&place| {
            // ORDERING: Relaxed, `arrive` carries it.
            round::place(self.slots[place].notes[BEFORE].load(Relaxed)).filter(known)
        })
        .take(self.slots.len())
    }

    /// Breaks the barrier, for whoever waits and whoever comes.
    pub(crate) fn abort(self) {
        let _stay = self.enter();
        loop {
            let seen = self.look();
            match seen.state() {
                State::Broken(why) if why != BarrierError::Reset => return,
                _ if self.change(seen, seen.broken(BarrierError::Aborted)) => return,
                _ => {}
            }
        }
    }

    /// Breaks the round of those who wait, and makes the barrier whole.
    pub(crate) fn reset(self) {
        let mut stay = self.enter();
        let first = self.look();
        loop {
            let seen = self.look();
            match seen.state() {
                // Another has done it.
                _ if seen.round() != first.round() => return,
                State::Open(None) => return,
                State::Broken(_) => {
                    if self.finish_reset(&mut stay, seen, None) == Progress::Done {
                        return;
                    }
                }
                _ => _ = self.change(seen, seen.broken(BarrierError::Reset)),
            }
        }
    }

    /// Tells those of the broken round why, once and for all, and begins the next. Waits for the end of an action that
    /// still runs.
    fn finish_reset(self, stay: &mut Stay<'a>, broken: Word, deadline: Option<Deadline>) -> Progress {
        let within_action = self.raw.bell.state().owner() == stay.me.tid();
        if self.action.is_some() && !within_action {
            let expired = self.lead(stay, broken, deadline);
            if !stay.leads {
                return if expired { Progress::Expired } else { Progress::Again };
            }
        }
        for slot in self.slots {
            if !mutant(Mutant::ResetUntold) {
                // ORDERING: Relaxed, the exchange below carries it.
                let _ = slot.notes[FATE].compare_exchange(broken.empty().0, broken.0, Relaxed, Relaxed);
            }
        }
        // CRASH(barrier.stamped): it is broken as before.
        // ORDERING(arrive): Release, so that who sees the new round sees why the last one broke. (Who sleeps in a
        // broken round is about to be woken: by whoever broke it, or, waiting for the bell, by its release.)
        let _ = self.raw.word.compare_exchange(broken.0, broken.next().0, Release, Relaxed);
        Progress::Done
    }
}

/// How a reset goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// The next round has begun, or somebody has broken the barrier anew.
    Done,
    /// Look again.
    Again,
    /// The time is up.
    Expired,
}
