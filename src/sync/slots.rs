//! Slots: a row of small locks beside an object, one for each thread that takes part in it.
//!
//! What a thread owes an object (a share of a read lock, a permit, its place at a barrier) cannot be a count: a count
//! does not say whose part of it died. So it is a lock of its own, which the thread holds for as long as it takes
//! part. That is all that anybody registers: the word holds the thread's TID, and it is not more than a TID because
//! the kernel takes it away at the thread's end, before the number can come back. Whether the holder lives, who waits
//! for it to leave, and what wakes them when it dies, is all the business of `sync/raw_lock.rs`.
//!
//! # Words
//! | word    | meaning                                 | written by                                     |
//! |---------|-----------------------------------------|------------------------------------------------|
//! | `lock`  | held: by whom; free; free, holder died  | see `sync/raw_lock.rs`                         |
//! | `notes` | the object's own: what the part is      | whoever holds the slot, by the object's rules  |
//! | `used`  | no slot from here on was ever held      | who claims a slot beyond it, before the claim  |
//!
//! # Invariants
//! - S1: a held slot lies below `used`. So who has made newcomers turn back (by a word that they read after their
//!   claim) and looks through the slots below `used` misses nobody.
//! - S2: a slot whose holder died says so to whoever takes it next, once.
//!
//! # Ordering edges
//! - `claim`: the look at `used` or the exchange that raises it, the exchange that takes the slot, and the claimant's
//!   next look at the word that may turn it back, are SeqCst, in this order; and so are the newcomers' word's change,
//!   the look at `used` and the looks at the slots, in that order, of who goes through the slots. In the one order of
//!   them all either the claimant's look comes behind the change, or the claim before the look at the slot.
//!
//! # Crash points
//! - `slots.raised`: `used` is too high by one, and the slot is free. It stays so, and costs a look.
//!
//! A death leaves a slot free and marked. Neither needs repair.

use crate::{
    primitive::{AtomicU32, Me, Relaxed, SeqCst, me},
    region::Shareable,
    sync::raw_lock::{RawLock, Suspicion},
};

/// One thread's part in an object. A cache line each, so that threads do not fight for lines.
#[repr(C, align(64))]
pub(crate) struct Slot {
    pub(crate) lock: RawLock,
    pub(crate) notes: [AtomicU32; 4],
}

// SAFETY: a lock, and atomics.
unsafe impl Shareable for Slot {
    const ROBUST: &'static [usize] = &[RawLock::WORD];
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Slot>() == 64);

impl Slot {
    pub(crate) fn new() -> Slot {
        Slot { lock: RawLock::new(), notes: [(); 4].map(|()| AtomicU32::new(0)) }
    }
}

/// The slots of an object, and how many of them were ever used.
#[derive(Clone, Copy)]
pub(crate) struct Slots<'a> {
    pub(crate) slots: &'a [Slot],
    pub(crate) used: &'a AtomicU32,
}

impl<'a> Slots<'a> {
    /// Holds a free slot, one whose holder died included; none if all are held. Says where, and whether it was a
    /// dead one's.
    #[inline]
    pub(crate) fn claim(self, me: Me) -> Option<(usize, Suspicion)> {
        let last = me.last_place();
        if last < self.slots.len()
            && let Some(suspicion) = self.claim_at(me, last)
        {
            return Some((last, suspicion));
        }
        Slots::search(self.slots, self.used)
    }

    /// Looks through all: once by a look, then by trying. It gives up when it has twice been refused by the same
    /// holders: then there was a moment between at which all were held, and none has been missed because its holder
    /// moved meanwhile.
    ///
    /// (It is given plain references: what is given by its address is kept in memory on the short way too.)
    #[cold]
    fn search(slots: &'a [Slot], used: &'a AtomicU32) -> Option<(usize, Suspicion)> {
        let (this, me) = (Slots { slots, used }, me());
        let mut claimed = (0..slots.len()).find_map(|place| Some((place, this.claim_at(me, place)?)));
        let mut before = None;
        while claimed.is_none() {
            let mut holders = 0_u64;
            claimed = slots.iter().enumerate().find_map(|(place, slot)| {
                this.raise(place); // S1
                // ORDERING(claim): the exchange is SeqCst.
                let suspicion = slot.lock.claim(me).ok();
                let holder = slot.lock.state().owner();
                holders = holders.wrapping_mul(0x0100_0000_01b3).wrapping_add(u64::from(holder));
                Some((place, suspicion?))
            });
            if claimed.is_none() && before.replace(holders) == Some(holders) {
                return None;
            }
        }
        claimed.inspect(|&(place, _)| me.set_last_place(place))
    }

    /// Holds the slot, if it looks free.
    #[inline]
    fn claim_at(self, me: Me, place: usize) -> Option<Suspicion> {
        let slot = &self.slots[place];
        // A look spares the exchange, and the cache line.
        if !slot.lock.state().is_free() {
            return None;
        }
        self.raise(place); // S1
        // CRASH(slots.raised): no more than a slot that will be looked at.
        // ORDERING(claim): the exchange is SeqCst.
        slot.lock.claim(me).ok()
    }

    /// Makes `used` lie above `place`.
    #[inline]
    fn raise(self, place: usize) {
        let need = place as u32 + 1;
        // ORDERING(claim): SeqCst, so that we come behind who raised it; and so is the exchange.
        let mut used = self.used.load(SeqCst);
        while used < need {
            match self.used.compare_exchange(used, need, SeqCst, Relaxed) {
                Ok(_) => return,
                Err(now) => used = now,
            }
        }
    }

    /// The slots that may be held.
    #[inline]
    pub(crate) fn used(self) -> &'a [Slot] {
        // ORDERING(claim): SeqCst, so that who could not be turned back any more is seen.
        &self.slots[..(self.used.load(SeqCst) as usize).min(self.slots.len())]
    }

    /// Whether the calling thread holds one of them.
    pub(crate) fn holds_one(self, me: Me) -> bool {
        self.used().iter().any(|slot| slot.lock.state().owner() == me.tid())
    }
}
