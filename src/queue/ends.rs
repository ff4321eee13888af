//! The two ends of a queue: a robust lock each, the ring between them, and waiting at the head of the line.
//!
//! # Protocol
//! A sender takes the sending lock, a receiver the receiving lock; the two never meet. Whoever must wait for the ring
//! waits *holding its end's lock*, and the others of that end wait for the lock: one sleeper an end, one wake a
//! commit. If that sleeper dies, the kernel hands the lock to the next, and with it the duty to look. The ring needs
//! no repair (`ring.rs`, R2), so OWNER_DIED is not even looked at. No foreign code runs while a lock is held: payloads
//! are encoded before and decoded after.
//!
//! A *stopped* process at the head of a line holds up its end: timeouts still end, and so do the `try_` forms.
//!
//! # Closing
//! `close` is one step on the tail's doorbell, which every commit exchanges: after it no exchange commits. A sender
//! that waits for room sleeps on both doorbells, so the step wakes it; a receiver sleeps on the tail's anyway. A commit
//! that wakes a sleeper is an addition, not an exchange, and can come just after the close. So a receiver that finds
//! the ring closed and empty passes once through the sending lock, after which nobody is in the middle of a commit,
//! and looks again before it says `Closed`.
//!
//! # Peers
//! Where threads register (`peers.rs`), the head of a line sleeps on one of the other end's as well. A receiver that
//! finds all senders gone looks at the ring once more, since they have committed what they sent before they went, and
//! then says `Disconnected`; a sender that finds all receivers gone says so at once.
//!
//! # Invariants
//! - E1: a committed record is received once: by the one receiver whose commit at the head counts it.
//! - E2: when a receiver has said `Closed`, no record comes.
//!
//! # Crash points
//! - `ends.sending`, `ends.receiving`: the lock is held: the kernel hands it on (`lock.rs`).
//! - `ends.waiting`: asleep at the head of the line: likewise; the doorbell's bit may stay set (`bell.set`).

use std::time::Duration;

use crate::{
    error::RegionError,
    primitive::{Deadline, FutexWord, Mutant, Wake, me, mutant, wait_any},
    queue::{
        doorbell::{Doorbell, Reading},
        frame::{self, HEADER},
        peers::{MAX_PEERS, Party, Peers, Registers, Watched},
        ring::{Damage, End, MAX_CAPACITY, NotPushed, NotTaken, Record, Ring},
    },
    region::{Handle, Region, Shareable, SharedBytes, portable},
    sync::{Hold, OwnerWord, PaddedLock, Patience, RawLock, Refused, Slot},
};

/// How long a `try_` form waits for somebody else's few instructions, when the records say that it can succeed.
const MOMENT: Duration = Duration::from_millis(1);

/// What a queue has in shared memory beside its buffer: 512 bytes.
#[repr(C, align(128))]
pub(crate) struct Ends {
    sending: PaddedLock,
    tail: End,
    receiving: PaddedLock,
    head: End,
}

// SAFETY: locks, atomics, and words that a lock's holder alone touches.
unsafe impl Shareable for Ends {
    const ROBUST: &'static [usize] = &[
        std::mem::offset_of!(Ends, sending) + PaddedLock::WORD,
        std::mem::offset_of!(Ends, receiving) + PaddedLock::WORD,
    ];
}

/// Why nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotSent {
    Full,
    TimedOut,
    Closed,
    /// All registered receivers have ended.
    Disconnected,
    Damaged(Damage),
}

/// Why nothing was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotReceived {
    Empty,
    TimedOut,
    Closed,
    /// Empty, and all registered senders have ended.
    Disconnected,
    /// There is no memory for a payload of so many bytes, which stays where it is.
    NoMemory(usize),
    Damaged(Damage),
}

impl From<Damage> for NotSent {
    fn from(damage: Damage) -> NotSent {
        NotSent::Damaged(damage)
    }
}

impl From<Damage> for NotReceived {
    fn from(damage: Damage) -> NotReceived {
        NotReceived::Damaged(damage)
    }
}

/// Where a received payload goes.
pub(crate) trait Landing {
    /// The length of every payload that it takes, if they all have one.
    const FIXED: Option<usize> = None;

    /// Room for a payload of `len` bytes; less, if the rest is not wanted; `None`, if there is no memory.
    fn room(&mut self, len: usize) -> Option<&mut [u8]>;
}

impl Landing for Vec<u8> {
    fn room(&mut self, len: usize) -> Option<&mut [u8]> {
        self.try_reserve_exact(len.saturating_sub(self.len())).ok()?;
        self.resize(len, 0);
        Some(self)
    }
}

/// How much a queue is to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// The buffer, in bytes: a multiple of a cache line.
    pub(crate) buffer: usize,
    /// Messages; `u32::MAX` if the buffer alone is to bound them.
    pub(crate) most: u32,
    /// Threads that can register at each end.
    pub(crate) peers: usize,
}

/// Enough bytes to receive at once.
const BATCH: usize = 64 << 10;

/// A queue of byte strings.
#[derive(Clone)]
pub(crate) struct RawQueue {
    ends: Handle<Ends>,
    bytes: SharedBytes,
    most: u32,
    peers: Option<Peers>,
}

portable!(RawQueue { ends, bytes, most, peers });

impl RawQueue {
    /// The bounds of a queue that was asked to hold `bytes`, and at most so many messages, and to let so many threads
    /// register at each end.
    pub(crate) fn bounds(bytes: usize, messages: Option<usize>, peers: usize) -> Result<Bounds, RegionError> {
        if peers > MAX_PEERS {
            return Err(RegionError::TooLarge { need: peers, limit: MAX_PEERS });
        }
        let buffer = match bytes {
            0 => Err(RegionError::ZeroSize),
            1..=MAX_CAPACITY => Ok(bytes.next_multiple_of(64)),
            _ => Err(RegionError::TooLarge { need: bytes, limit: MAX_CAPACITY }),
        }?;
        match messages.map(u32::try_from) {
            Some(Ok(0)) => Err(RegionError::ZeroSize),
            Some(Ok(most)) => Ok(Bounds { buffer, most, peers }),
            // More than any buffer holds.
            None | Some(Err(_)) => Ok(Bounds { buffer, most: u32::MAX, peers }),
        }
    }

    /// What a queue with such a buffer takes of a region.
    pub(crate) fn footprint(bounds: Bounds) -> usize {
        // A line may be lost between the two.
        let peers = size_of::<Registers>() + 2 * bounds.peers * size_of::<Slot>() + align_of::<Slot>();
        size_of::<Ends>() + bounds.buffer + if bounds.peers > 0 { peers } else { 0 }
    }

    pub(crate) fn new_in(region: &Region, bounds: Bounds) -> Result<RawQueue, RegionError> {
        let ends = Ends {
            sending: PaddedLock::new(),
            tail: End::new(),
            receiving: PaddedLock::new(),
            head: End::new(),
        };
        if bounds.peers == 0 {
            let (ends, bytes) = region.place_with_bytes(ends, bounds.buffer, 64)?;
            return Ok(RawQueue { ends, bytes, most: bounds.most, peers: None });
        }
        // All of it or nothing, unless another process places something at the same moment.
        let (need, have) = (RawQueue::footprint(bounds), region.room());
        if need > have {
            return Err(RegionError::NoRoom { need, have });
        }
        let (ends, bytes) = region.place_with_bytes(ends, bounds.buffer, 64)?;
        let (registers, slots) = region.place_with_row(Registers::new(), 2 * bounds.peers, Slot::new)?;
        Ok(RawQueue { ends, bytes, most: bounds.most, peers: Some(Peers::new(registers, slots)) })
    }

    /// Where threads register, if they can.
    pub(crate) fn peers(&self) -> Option<&Peers> {
        self.peers.as_ref()
    }

    /// Whether receivers had registered, and have all ended.
    #[inline]
    fn receivers_have_gone(&self) -> bool {
        self.peers.as_ref().is_some_and(|peers| peers.receivers().has_gone())
    }

    /// Whether senders had registered, and have all ended, and left nothing.
    fn is_disconnected(&self) -> bool {
        let gone = self.peers.as_ref().is_some_and(|peers| peers.senders().has_gone());
        gone && self.is_empty() // P3
    }

    /// [`Doorbell::sleep`], and until one who registered at the other end has ended; `None` when they all have.
    fn sleep(
        &self,
        (bell, seen): (&Doorbell, Reading),
        also: Option<(&Doorbell, Reading)>,
        others: Option<Party<'_>>,
        deadline: Option<Deadline>,
    ) -> Option<Wake> {
        let Some(others) = others else { return Some(bell.sleep(seen, also, deadline)) };
        if bell.changes_soon(seen, also, deadline) {
            return Some(Wake::Changed);
        }
        let watched = match others.watch() {
            Watched::Gone => return None,
            Watched::While(word, expected) => (word, expected),
        };
        let Some(own) = bell.announce(seen) else { return Some(Wake::Changed) };
        let mut words: [(&FutexWord, u32); 3] = [own, watched, watched];
        let count = match also {
            Some((other, reading)) => {
                words[2] = other.as_it_was(reading);
                3
            }
            None => 2,
        };
        Some(wait_any(&words[..count], deadline))
    }

    #[inline]
    pub(super) fn ring(&self) -> Ring<'_> {
        Ring { tail: &self.ends.tail, head: &self.ends.head, buffer: self.bytes.buffer(), most: self.most }
    }

    /// Where the buffer begins.
    pub(super) fn base(&self) -> *mut u8 {
        self.bytes.base().as_ptr()
    }

    pub(super) fn tail_bell(&self) -> &Doorbell {
        &self.ends.tail.bell
    }

    /// The buffer, in bytes.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.buffer().len()
    }

    /// The longest payload that can ever be sent.
    pub(crate) fn max_len(&self) -> usize {
        self.capacity() - HEADER
    }

    /// The most messages that it may hold, if that was asked for.
    pub(crate) fn most(&self) -> Option<u32> {
        (self.most < u32::MAX).then_some(self.most)
    }

    /// Sends `payload`, waiting for room as long as `patience` lasts. It must not be longer than
    /// [`max_len`](Self::max_len).
    #[inline]
    pub(crate) fn send(&self, payload: &[u8], patience: Patience) -> Result<(), NotSent> {
        debug_assert!(payload.len() <= self.max_len());
        self.push(payload.len(), patience, |ring| ring.push(payload).map(|()| true)).map(drop)
    }

    /// Sends a batch, which is not empty, as much of it in one commit as there is room for, and waits for the rest as
    /// long as `patience` lasts. Nothing of others comes in between. `len` is the length of all payloads, if they have
    /// one. `sent` counts the messages, also if it fails.
    pub(crate) fn send_many(
        &self,
        batch: &[u8],
        len: Option<usize>,
        sent: &mut usize,
        patience: Patience,
    ) -> Result<(), NotSent> {
        let mut rest = batch;
        let first = frame::payloads(batch).next().map_or(0, <[u8]>::len);
        self.push(first, patience, |ring| {
            let extent = ring.push_many(rest, len)?;
            rest = &rest[extent.bytes()..];
            *sent += extent.records as usize;
            Ok(rest.is_empty())
        })
        .map(drop)
    }

    /// Lets `push` put in what it has until it says that this was all, waiting for room as long as `patience` lasts.
    /// The first payload has `len` bytes. The end is still held then.
    #[inline]
    pub(super) fn push(
        &self,
        len: usize,
        patience: Patience,
        mut push: impl FnMut(&Ring<'_>) -> Result<bool, NotPushed>,
    ) -> Result<Hold<'_>, NotSent> {
        let Patience::Until(deadline) = patience else {
            return self.try_push(len, push);
        };
        let end = hold(&self.ends.sending, patience, NotSent::TimedOut)?;
        // CRASH(ends.sending): ours, until the hold is dropped.
        let ring = self.ring();
        let receivers = self.peers.as_ref().map(Peers::receivers);
        if self.receivers_have_gone() {
            return Err(NotSent::Disconnected);
        }
        loop {
            let tail = self.tail_bell().read();
            if tail.is_closed() {
                return Err(NotSent::Closed);
            }
            match push(&ring) {
                Ok(true) => return Ok(end),
                Ok(false) => {}
                Err(NotPushed::Closed) => return Err(NotSent::Closed),
                Err(NotPushed::Damaged(damage)) => return Err(damage.into()),
                Err(NotPushed::Full(head)) => {
                    // CRASH(ends.waiting): the next in line looks for itself.
                    let (own, also) = ((&self.ends.head.bell, head), Some((self.tail_bell(), tail)));
                    match self.sleep(own, also, receivers, deadline) {
                        None => return Err(NotSent::Disconnected),
                        Some(Wake::TimedOut) => return Err(NotSent::TimedOut),
                        Some(_) => {}
                    }
                }
            }
        }
    }

    /// Judges by the records, not by who holds the lock: a holder may sleep, be stopped, or be dead and not yet marked.
    fn try_push(
        &self,
        len: usize,
        mut push: impl FnMut(&Ring<'_>) -> Result<bool, NotPushed>,
    ) -> Result<Hold<'_>, NotSent> {
        if self.tail_bell().read().is_closed() {
            return Err(NotSent::Closed);
        }
        if self.receivers_have_gone() {
            return Err(NotSent::Disconnected);
        }
        let ring = self.ring();
        if !ring.has_room_for(len) {
            return Err(NotSent::Full);
        }
        let end = hold(&self.ends.sending, moment(), NotSent::Full)?;
        loop {
            match push(&ring) {
                Ok(true) => return Ok(end),
                Ok(false) => {}
                Err(NotPushed::Full(_)) => return Err(NotSent::Full),
                Err(NotPushed::Closed) => return Err(NotSent::Closed),
                Err(NotPushed::Damaged(damage)) => return Err(damage.into()),
            }
        }
    }

    /// Receives the oldest payload into `landing`, waiting for one as long as `patience` lasts.
    #[inline]
    pub(crate) fn recv<L: Landing>(&self, landing: &mut L, patience: Patience) -> Result<(), NotReceived> {
        self.pull(patience, |ring| {
            let record = ring.peek()?;
            match L::FIXED {
                // The compiler knows how much is copied.
                Some(len) if len == record.len() => land(ring, record, len, landing)?,
                _ => land(ring, record, record.len(), landing)?,
            }
            ring.take(record);
            Ok(())
        })
        .map(drop)
    }

    /// Receives at most `most` payloads, one commit for all, and appends them to `batch`. It waits for the first alone,
    /// as long as `patience` lasts. If there is no memory for as many, it takes but one.
    pub(crate) fn recv_many(
        &self,
        batch: &mut Vec<u8>,
        most: usize,
        patience: Patience,
    ) -> Result<(), NotReceived> {
        self.pull(patience, |ring| {
            let mut oldest = ring.peek_many(most, BATCH)?;
            if batch.try_reserve_exact(oldest.extent.bytes()).is_err() {
                oldest = ring.peek_many(1, BATCH)?;
                let need = oldest.extent.bytes();
                batch.try_reserve_exact(need).map_err(|_| NotTaken::NoMemory(need - HEADER))?;
            }
            let start = batch.len();
            batch.resize(start + oldest.extent.bytes(), 0);
            ring.copy_many(oldest, &mut batch[start..]);
            ring.take_many(oldest);
            Ok(())
        })
        .map(drop)
    }

    /// Lets `take` have what there is, waiting for it as long as `patience` lasts. The end is still held then.
    #[inline]
    pub(super) fn pull(
        &self,
        patience: Patience,
        mut take: impl FnMut(&Ring<'_>) -> Result<(), NotTaken>,
    ) -> Result<Hold<'_>, NotReceived> {
        let Patience::Until(deadline) = patience else {
            return self.try_pull(take);
        };
        let end = hold(&self.ends.receiving, patience, NotReceived::TimedOut)?;
        // CRASH(ends.receiving): ours, until the hold is dropped.
        let senders = self.peers.as_ref().map(Peers::senders);
        let mut all_gone = false;
        while let Some(tail) = self.take_oldest(&mut take, patience)? {
            if all_gone {
                return Err(NotReceived::Disconnected);
            }
            match self.sleep((self.tail_bell(), tail), None, senders, deadline) {
                None if mutant(Mutant::GoneAtOnce) => return Err(NotReceived::Disconnected),
                None => all_gone = true, // P3
                Some(Wake::TimedOut) => return Err(NotReceived::TimedOut),
                Some(_) => {}
            }
        }
        Ok(end)
    }

    /// As [`try_push`](Self::try_push): by the records.
    fn try_pull(
        &self,
        mut take: impl FnMut(&Ring<'_>) -> Result<(), NotTaken>,
    ) -> Result<Hold<'_>, NotReceived> {
        let nothing = || if self.is_disconnected() { NotReceived::Disconnected } else { NotReceived::Empty };
        if self.is_empty() && !self.tail_bell().read().is_closed() {
            return Err(nothing());
        }
        let end = hold(&self.ends.receiving, moment(), NotReceived::Empty)?;
        match self.take_oldest(&mut take, moment())? {
            None => Ok(end),
            Some(_) => Err(nothing()),
        }
    }

    /// Takes what is oldest; if there is nothing, says what the tail showed. The caller holds the receiving end.
    #[inline]
    fn take_oldest(
        &self,
        take: &mut impl FnMut(&Ring<'_>) -> Result<(), NotTaken>,
        patience: Patience,
    ) -> Result<Option<Reading>, NotReceived> {
        let ring = self.ring();
        let mut commits_are_over = mutant(Mutant::ClosedAtOnce);
        loop {
            match take(&ring) {
                Ok(()) => return Ok(None),
                Err(NotTaken::NoMemory(len)) => return Err(NotReceived::NoMemory(len)),
                Err(NotTaken::Damaged(damage)) => return Err(damage.into()),
                Err(NotTaken::Nothing(tail)) if !tail.is_closed() => return Ok(Some(tail)),
                Err(NotTaken::Nothing(_)) if commits_are_over => return Err(NotReceived::Closed),
                Err(NotTaken::Nothing(_)) => {
                    self.pass_through_sending(patience)?;
                    commits_are_over = true;
                }
            }
        }
    }

    /// After this nobody is in the middle of a commit that began before the queue was closed.
    #[cold]
    pub(super) fn pass_through_sending(&self, patience: Patience) -> Result<(), NotReceived> {
        self.hold_sending(patience).map(drop)
    }

    /// Takes the sending end.
    #[cold]
    pub(super) fn hold_sending(&self, patience: Patience) -> Result<Hold<'_>, NotReceived> {
        hold(&self.ends.sending, patience, NotReceived::TimedOut)
    }

    /// Takes the receiving end; `late` when the time is up.
    #[inline]
    pub(super) fn hold_receiving(
        &self,
        patience: Patience,
        late: NotReceived,
    ) -> Result<Hold<'_>, NotReceived> {
        hold(&self.ends.receiving, patience, late)
    }

    /// The word to sleep on and as what, for whoever waits for several things; `None` if one can receive without
    /// waiting.
    pub(crate) fn watch(&self) -> Option<(&FutexWord, u32)> {
        loop {
            let tail = self.tail_bell().read();
            if tail.is_closed() || !self.is_empty() || self.is_disconnected() {
                return None;
            }
            // Empty at an instant since then; so it is as long as the tail stands still.
            if let Some(word) = self.tail_bell().announce(tail) {
                return Some(word);
            }
        }
    }

    /// Ends sending, and wakes all who wait. Any number of times.
    pub(crate) fn close(&self) {
        self.tail_bell().close(&self.ends.head.bell);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.tail_bell().read().is_closed()
    }

    /// Whether a payload of `len` bytes would be refused, at some instant of the call.
    pub(crate) fn is_full_for(&self, len: usize) -> bool {
        !self.ring().has_room_for(len)
    }

    /// The payloads in it, at some instant of the call.
    pub(crate) fn len(&self) -> usize {
        self.ring().contents().map_or(0, |(records, _)| records as usize)
    }

    /// Nothing is in it, for sure: where there is damage, who receives is told.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self.ring().contents(), Ok((0, _)))
    }

    /// The words of both locks, sending first.
    pub(crate) fn locks(&self) -> (OwnerWord, OwnerWord) {
        (self.ends.sending.state(), self.ends.receiving.state())
    }

    /// Starts counts and positions elsewhere, for tests of wrapping.
    #[cfg(test)]
    pub(crate) fn start_at(&self, count: u32, position: u32) {
        self.ends.tail.start_at(count, position);
        self.ends.head.start_at(count, position);
    }
}

pub(super) fn moment() -> Patience {
    Patience::Until(Some(Deadline::after(MOMENT)))
}

/// Copies a payload, which has `len` bytes.
#[inline]
fn land(ring: &Ring<'_>, record: Record, len: usize, landing: &mut impl Landing) -> Result<(), NotTaken> {
    let room = landing.room(len).ok_or(NotTaken::NoMemory(len))?;
    ring.copy(record, room);
    Ok(())
}

/// Takes an end's lock; `late` when the time is up.
#[inline]
fn hold<E: From<Damage>>(lock: &RawLock, patience: Patience, late: E) -> Result<Hold<'_>, E> {
    match lock.hold(patience) {
        Ok(hold) => Ok(hold),
        Err(Refused::TimedOut | Refused::WouldBlock) => Err(late),
        // Somebody else wrote that: this thread holds nothing.
        Err(Refused::AlreadyHeld) if !me().holds_any() => Err(Damage { found: 0, limit: 0 }.into()),
        Err(Refused::AlreadyHeld) => panic!(
            "this thread holds that end of the queue: it writes or reads a message in place, or a signal handler \
             interrupted its call"
        ),
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
