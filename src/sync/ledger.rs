//! Permits that guards hold: they come back by themselves when the holder dies, exactly once.
//!
//! A guard is a slot (`slots.rs`), which its thread holds for as long as it has the permit. That a dead one's permit
//! moves back needs to know whether it had moved at all: from the count to the slot, or from the slot to the count. So
//! every such transfer is noted before it is made, under a lock, and the count itself tells whether it was made.
//!
//! # Words
//! | word       | meaning                                                               | written by             |
//! |------------|-----------------------------------------------------------------------|------------------------|
//! | `ledger`   | held: a transfer is under way                                         | see `sync/raw_lock.rs` |
//! | `used`     | see `slots.rs`                                                        | see there              |
//! | `last`     | the latest transfer: which slot, whether it has the permit then, and how many guards there are then | the holder of `ledger` |
//! | `notes[0]` | of a slot: it has a permit, as far as the transfers before the latest go | the holder of `ledger` |
//! | guards in `word` | how many permits guards hold                                    | the exchange of a transfer, and nobody else |
//!
//! The first three are the book: a cell of its own before the slots. Where there are no slots there is no book, and no
//! guard is ever out.
//!
//! # Invariants
//! - G1: slots are taken and freed under `ledger` only, but for the kernel, which frees a dead one's and marks it.
//! - G2: the latest transfer was made if and only if the guards in `word` are as many as `last` says: each transfer
//!   changes their number by one, so before its exchange they are one more or one fewer.
//! - G3: a slot has a permit if `last` is about it and was made with that end, or is about another, or was not made,
//!   and the note says so. *Settling* brings the note up to `last`; it comes before `last` is written anew. It may be
//!   done twice, and by the heir of the ledger as well as by the dead.
//! - G4: a slot with a permit is held, or its holder died and it says so: who frees it has made the transfer before;
//!   who takes a dead one's for itself, or to put it in order, first puts its permit back. If *that* one dies, the slot
//!   is a dead one's again.
//! - G5: guards in `word` are as many as there are slots with a permit.
//! - G6: who holds the ledger waits for nobody but the kernel: a slot that is held without a permit, while nobody else
//!   has the ledger, is that of one who died with both. The kernel has freed the ledger, which was taken later, and is
//!   about to free the slot.
//!
//! What is written under `ledger` is carried by the edges of that lock; the words of the row that the head looks at, by
//! `guards` in `raw_semaphore.rs`.
//!
//! # Crash points
//! - `ledger.claimed`: a slot is ours, without a permit: the kernel frees it.
//! - `ledger.noted`: `last` speaks of a transfer that was not made: the guards are not as many, so nobody believes it.
//! - `ledger.moved`: the transfer is made, and the slot's note is old: whoever holds the ledger next settles it.
//! - `ledger.reclaiming`: a dead one's slot is ours, permit and all: the kernel marks it again.
//! - `ledger.emptied`: our permit is back, and the slot still ours: the kernel frees it.
//! - `ledger.watching`: WAITERS is set in a slot on which nobody sleeps: its holder wakes nobody when it goes.

use std::time::Duration;

use crate::{
    primitive::{Deadline, FutexWord, MAX_WORDS, Mutant, Relaxed, Wake, me, mutant, wait_any},
    sync::{
        raw_lock::Patience,
        raw_semaphore::{Book, Count, NotAcquired, RawSemaphore, Who, hold, moment},
        slots::Slot,
    },
};

/// How long the head sleeps at a time when there are more guards than one wait can be about.
const BLIND: Duration = Duration::from_millis(100);

/// What a slot's note says of one with a permit; of any other it says 0.
const HAS_PERMIT: u32 = 1;

/// A transfer, as `last` tells it.
///
/// | bits   | meaning                                          |
/// |--------|--------------------------------------------------|
/// | 0..11  | how many guards there are after it               |
/// | 11..22 | the slot                                         |
/// | 22     | whether the slot has the permit after it         |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Transfer(u32);

impl Transfer {
    fn to_slot(place: usize, before: Count) -> Transfer {
        Transfer(HAS_PERMIT << 22 | (place as u32) << 11 | (before.guards() + 1))
    }

    fn from_slot(place: usize, before: Count) -> Transfer {
        Transfer((place as u32) << 11 | before.without_guard().guards())
    }

    fn guards(self) -> u32 {
        self.0 & 0x7ff
    }

    fn place(self) -> usize {
        (self.0 >> 11 & 0x7ff) as usize
    }

    fn note(self) -> u32 {
        self.0 >> 22
    }
}

impl RawSemaphore {
    /// Takes a permit for a guard: the place of its slot, which the calling thread holds from now on.
    #[inline]
    pub(crate) fn acquire_guard(&self, patience: Patience) -> Result<usize, NotAcquired> {
        let waits = !matches!(patience, Patience::None);
        let take = |who| self.take_guard(who, if waits { patience } else { moment() });
        let taken = match take(Who::Newcomer) {
            Ok(None) => self.stand_in_line(1, patience, take),
            Ok(Some(place)) => Ok(place),
            Err(refused) => Err(refused),
        };
        match taken {
            Err(NotAcquired::TimedOut) if !waits => Err(NotAcquired::NoPermits),
            taken => taken,
        }
    }

    /// A permit for a guard, if there is one for `who`.
    fn take_guard(&self, who: Who, patience: Patience) -> Result<Option<usize>, NotAcquired> {
        if self.count().with_guard(who).is_none() {
            return Ok(None);
        }
        let Some(book) = self.book() else { return Err(NotAcquired::NoSlot) };
        let _ledger = hold(book.ledger(), patience)?;
        // Others had the ledger meanwhile, and perhaps the last slot and the last permit.
        if self.count().with_guard(who).is_none() {
            return Ok(None);
        }
        let place = match book.claimable().claim(me()) {
            Some((place, _)) => place,
            None => self.claim_from_dying(book, patience)?,
        };
        // CRASH(ledger.claimed): a slot without a permit; or a dead one's with it, which is a dead one's again.
        self.put_back(book, place); // G4
        let transfer = Transfer::to_slot(place, self.count());
        if self.transfer(book, transfer, || self.take(|seen| seen.with_guard(who))) {
            return Ok(Some(place));
        }
        book.slots[place].lock.unlock();
        Ok(None)
    }

    /// Holds the slot of one whose permit is back, and who is on its way out (G6). The caller holds the ledger, and
    /// found no slot free.
    #[cold]
    fn claim_from_dying(&self, book: Book<'_>, patience: Patience) -> Result<usize, NotAcquired> {
        self.settle(book);
        // ORDERING: Relaxed, carried by the ledger.
        let without_permit = |slot: &Slot| slot.notes[0].load(Relaxed) != HAS_PERMIT;
        let place = book.slots.iter().position(without_permit).ok_or(NotAcquired::NoSlot)?;
        book.slots[place].lock.lock_as(me(), patience).map_err(|_| NotAcquired::TimedOut)?;
        Ok(place)
    }

    /// Gives a guard's permit back, and its slot, which the calling thread holds.
    #[inline]
    pub(crate) fn release_guard(&self, place: usize) {
        let book = self.book().expect("a guard has a slot");
        let _ledger = hold(book.ledger(), Patience::FOREVER).expect("who waits for ever gets it");
        if mutant(Mutant::SlotBeforePermit) {
            book.slots[place].lock.unlock();
        }
        self.put_back(book, place);
        // CRASH(ledger.emptied): nothing is left to do but what the kernel does.
        if !mutant(Mutant::SlotBeforePermit) {
            book.slots[place].lock.unlock();
        }
    }

    /// Gives the permit of a slot back, if it has one. The caller holds the slot and the ledger.
    fn put_back(&self, book: Book<'_>, place: usize) -> bool {
        self.settle(book);
        // ORDERING: Relaxed, carried by the ledger.
        if book.slots[place].notes[0].load(Relaxed) != HAS_PERMIT {
            return false;
        }
        let transfer = Transfer::from_slot(place, self.count());
        self.transfer(book, transfer, || self.give(|seen| Some(seen.without_guard())).is_ok())
    }

    /// Makes a transfer by `exchange`, which says whether it was made. The caller holds the slot and the ledger.
    fn transfer(&self, book: Book<'_>, transfer: Transfer, exchange: impl FnOnce() -> bool) -> bool {
        self.settle(book); // G3
        // ORDERING: Relaxed, carried by the ledger, here and below.
        if !mutant(Mutant::NotedAfterwards) {
            book.last().store(transfer.0, Relaxed);
        }
        // CRASH(ledger.noted): not made, and not believed (G2).
        let made = exchange();
        // CRASH(ledger.moved): made, and believed.
        if mutant(Mutant::NotedAfterwards) && made {
            book.last().store(transfer.0, Relaxed);
        }
        if mutant(Mutant::HeirSettlesNothing) && made {
            book.put_down(transfer);
        }
        made
    }

    /// Brings the note of the slot of the latest transfer up to date. The caller holds the ledger.
    fn settle(&self, book: Book<'_>) {
        if mutant(Mutant::HeirSettlesNothing) {
            return;
        }
        // ORDERING: Relaxed, carried by the ledger: so is the number of guards, which changes under it only.
        let last = Transfer(book.last().load(Relaxed));
        if last.guards() == self.count().guards() {
            book.put_down(last);
        }
    }

    /// Gives back what dead holders have. Says whether there was any.
    #[cold]
    pub(super) fn reclaim(&self, patience: Patience) -> Result<bool, NotAcquired> {
        let Some(book) = self.book() else { return Ok(false) };
        let used = || book.claimable().used();
        if !used().iter().any(is_dead) {
            return Ok(false);
        }
        let _ledger = hold(book.ledger(), patience)?;
        let me = me();
        let mut any = false;
        for (place, slot) in used().iter().enumerate() {
            if is_dead(slot) && slot.lock.lock_as(me, Patience::None).is_ok() {
                // CRASH(ledger.reclaiming): a dead one's again.
                any |= self.put_back(book, place);
                slot.lock.unlock();
            }
        }
        Ok(any)
    }

    /// As `sleep`, and until the holder of a guard is dead.
    #[cold]
    pub(super) fn sleep_beside_guards(&self, seen: Count, deadline: Option<Deadline>) -> Wake {
        let words = &*self.words;
        let mut watched: [(&FutexWord, u32); MAX_WORDS] = [(&*words.bell, 0); MAX_WORDS];
        watched[1] = (&words.word, seen.0);
        let mut len = 2;
        let mut blind = None;
        for slot in self.used_slots() {
            let (word, state) = slot.watch();
            match state.is_free() {
                true if state.owner_died() => return Wake::Changed,
                true => continue,
                false if len == MAX_WORDS => blind = Some(Deadline::after(BLIND)),
                false => {
                    watched[len] = (word, state.0);
                    len += 1;
                }
            }
        }
        // CRASH(ledger.watching): the bits stay, and do no harm.
        let blind = blind.filter(|&blind| deadline.is_none_or(|deadline| blind < deadline));
        match wait_any(&watched[..len], blind.or(deadline)) {
            Wake::TimedOut if blind.is_some() => Wake::Interrupted,
            ended => ended,
        }
    }

    /// The threads that hold guards, for whoever looks from outside.
    pub(crate) fn holders(&self) -> impl Iterator<Item = u32> {
        self.used_slots().iter().map(|slot| slot.lock.state().owner()).filter(|&owner| owner != 0)
    }
}

impl Book<'_> {
    /// Stores the note of a slot. (`last` names one that there is, unless somebody scribbled over it.)
    fn put_down(self, transfer: Transfer) {
        if let Some(slot) = self.slots.get(transfer.place()) {
            // ORDERING: Relaxed, carried by the ledger.
            slot.notes[0].store(transfer.note(), Relaxed);
        }
    }
}

/// Free, and marked by the kernel.
fn is_dead(slot: &Slot) -> bool {
    let state = slot.lock.state();
    state.is_free() && state.owner_died()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::raw_semaphore::MAX_HOLDERS;

    #[test]
    fn a_transfer_keeps_its_parts_apart() {
        let guards = |guards: u32| Count(guards << 1);
        let most = MAX_HOLDERS as u32;
        let inwards = Transfer::to_slot(MAX_HOLDERS - 1, guards(most - 1));
        assert_eq!((inwards.place(), inwards.note(), inwards.guards()), (MAX_HOLDERS - 1, HAS_PERMIT, most));
        let outwards = Transfer::from_slot(5, guards(1));
        assert_eq!((outwards.place(), outwards.note(), outwards.guards()), (5, 0, 0));
    }
}
