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
//! - `claim`: the exchanges that raise `used` and take the slot are both sequentially consistent in effect: each is a
//!   read-modify-write, and the claimant fences before it reads the word that may turn it back.
//!
//! A death leaves a slot free and marked, and `used` too high by at most one: neither needs repair.

use std::cell::Cell;

use crate::{
    primitive::{AtomicU32, Me, Relaxed, SeqCst},
    region::Shareable,
    sync::raw_lock::{Patience, RawLock, Suspicion},
};

thread_local! {
    /// Where this thread found its last slot: tried first.
    pub(super) static LAST: Cell<usize> = const { Cell::new(0) };
}

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
pub(crate) struct Slots<'a> {
    pub(crate) slots: &'a [Slot],
    pub(crate) used: &'a AtomicU32,
}

impl<'a> Slots<'a> {
    /// Holds a free slot, one whose holder died included; none if all are held. Says where, and whether it was a
    /// dead one's.
    #[inline]
    pub(crate) fn claim(&self, me: Me) -> Option<(usize, Suspicion)> {
        let first = LAST.get();
        let places = (first..self.slots.len()).chain(0..first.min(self.slots.len()));
        for place in places {
            // ORDERING: Relaxed, a first guess.
            if !self.slots[place].lock.state().is_free() {
                continue;
            }
            self.raise(place); // S1
            if let Ok(suspicion) = self.slots[place].lock.lock_as(me, Patience::None) {
                LAST.set(place);
                return Some((place, suspicion));
            }
        }
        None
    }

    /// Makes `used` lie above `place`.
    #[inline]
    fn raise(&self, place: usize) {
        let need = place as u32 + 1;
        // ORDERING(claim): Relaxed, a value that was seen to be large enough stays so.
        let mut used = self.used.load(Relaxed);
        while used < need {
            match self.used.compare_exchange(used, need, SeqCst, Relaxed) {
                Ok(_) => return,
                Err(now) => used = now,
            }
        }
    }

    /// The slots that may be held.
    #[inline]
    pub(crate) fn used(&self) -> &'a [Slot] {
        // ORDERING(claim): SeqCst, so that who could not be turned back any more is seen.
        &self.slots[..(self.used.load(SeqCst) as usize).min(self.slots.len())]
    }
}
