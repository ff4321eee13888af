//! The ring of a channel: one sender, one receiver, no lock, and one plain store that commits.
//!
//! # Words
//! | word           | meaning                                                | written by                   |
//! |----------------|--------------------------------------------------------|------------------------------|
//! | `tail.place`   | {records committed, where the next goes}, 8 bytes      | the sender, one store        |
//! | `head.place`   | {records taken, where the oldest begins}, 8 bytes      | the receiver, one store      |
//! | `tail.claim`   | who sends; the receiver sleeps here                    | see `claim.rs`               |
//! | `head.claim`   | who receives; the sender sleeps here                   | see `claim.rs`               |
//! | the buffer     | records                                                | the sender, beyond the tail  |
//!
//! Each of the four lies on 128 bytes of its own. An end keeps its own place, and the last that it saw of the other's,
//! in its own memory; it reads shared places only when these do not suffice, or when it is claimed.
//!
//! Positions count units of 8 bytes from 0 to twice the capacity, so that full and empty differ. A record is a header
//! of 8 bytes and the payload, padded to 8 (`frame.rs`). It begins in the first `capacity` units of the buffer and may
//! go on beyond them, up to as much again: so every record lies in one piece and no room is lost, wherever it begins.
//!
//! Where all payloads have one length, which both ends know, there are no headers, and the capacity is a multiple of a
//! record: no record goes on beyond it, and many that lie one behind the other are copied at once.
//!
//! # Invariants
//! - L1: what lies beyond the tail is read by nobody; what lies between head and tail is written by nobody.
//! - L2: a place is one word, so a death leaves the old one or the new one, and whoever claims an end finds in it all
//!   that there is to know.
//! - L3: nothing that is read of the other end is believed: a place must lie where the other end can be, a record in
//!   what is committed. What is read is read once, into memory of one's own, before it is judged.
//! - L4: the receiver judges the sender first and looks at the tail next (`claim.rs`, C4): so it says `Gone` only when
//!   all is received.
//!
//! # Ordering edges
//! - `record`: Release in `commit` -> Acquire in `look`: the tail's carries the records, the head's the end of their
//!   reading.
//!
//! Crash points: see `lane/sending.rs` and `lane/receiving.rs`.

use std::sync::OnceLock;

use crate::{
    error::RegionError,
    primitive::{
        Acquire, AtomicU64, Deadline, Mutant, Pace, Relaxed, Release, Spins, Wake, forks, is_of_this_process,
        meets_heavy_fences, mutant, owned_here, spin_hint,
    },
    queue::{
        claim::{Bed, Claim, Fate, NotClaimed, claimant, is_ours},
        ends::Landing,
        frame::HEADER,
    },
    region::{Handle, Region, Shareable, SharedBytes},
    sync::{OwnerWord, Patience},
};

mod layout;
mod receiving;
mod sending;
#[cfg(not(loom))]
mod travel;

pub(crate) use layout::Layout;
use layout::{Place, header_of, units};
pub(crate) use receiving::Taking;

/// An identity that no thread has.
const NOBODY: u64 = u64::MAX;

/// Looks in a row that found something before the sleep, until sleeps count as rare. A heavy fence takes as long as a
/// dozen commits that are careful.
const CALM: u32 = 64;

/// One end, as all see it.
#[repr(C, align(128))]
struct Desk {
    place: AtomicU64,
    _line: [u64; 15],
    claim: Claim,
}

impl Desk {
    fn new(fences: bool) -> Desk {
        Desk { place: AtomicU64::new(Place::default().pack()), _line: [0; 15], claim: Claim::new(fences) }
    }

    /// ORDERING(record): Acquire, so that we see what the place speaks of.
    #[inline]
    fn place(&self) -> Place {
        Place::unpack(self.place.load(Acquire))
    }
}

/// What a channel has in shared memory beside its buffer: 512 bytes.
#[repr(C, align(128))]
pub(crate) struct Lane {
    tail: Desk,
    head: Desk,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Lane>() == 512);

// SAFETY: atomics, and claims.
unsafe impl Shareable for Lane {
    const ROBUST: &'static [usize] = &[
        std::mem::offset_of!(Lane, tail) + std::mem::offset_of!(Desk, claim) + Claim::WORD,
        std::mem::offset_of!(Lane, head) + std::mem::offset_of!(Desk, claim) + Claim::WORD,
    ];
}

/// Why an operation did not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hindrance {
    /// Full, or empty.
    Blocked,
    TimedOut,
    /// The other end was closed, or its holder died.
    Gone,
    /// The other end left garbage: a length of `found` bytes where there can be at most `limit`.
    Damaged {
        found: usize,
        limit: usize,
    },
    NotOurs(NotClaimed),
    /// There is no memory for a payload of so many bytes, which stays where it is.
    NoMemory(usize),
}

/// One end, as its holder knows it: the sender's, or the receiver's.
pub(crate) struct Side<const SENDS: bool> {
    lane: Handle<Lane>,
    bytes: SharedBytes,
    layout: Layout,
    /// Who commits need not fence, as long as nobody sleeps.
    fences: bool,
    /// The other end may do what it likes: its words are bounded anyway, but nothing of ours is linked.
    trusts: bool,
    /// How often this process was forked when the channel was made.
    forks: u32,
    /// It was sent to another process, or came from one: see `travel.rs`.
    copied: OnceLock<()>,
    /// The thread that claimed the end by this handle.
    identity: u64,
    /// Our place, and the last of theirs that we saw.
    own: Place,
    other: Place,
    pace: Pace,
    calm: u32,
}

pub(crate) type RawSender = Side<true>;
pub(crate) type RawReceiver = Side<false>;

/// Both ends of a new channel, whose users trust each other, or do not.
pub(crate) fn new_in(
    region: &Region,
    layout: Layout,
    trusts: bool,
) -> Result<(RawSender, RawReceiver), RegionError> {
    let fences = meets_heavy_fences();
    let lane = Lane { tail: Desk::new(fences), head: Desk::new(fences) };
    let (lane, bytes) = region.place_with_bytes(lane, layout.bytes(), 128)?;
    let sender = Side::new(lane.clone(), bytes.clone(), layout, fences, trusts);
    Ok((sender, Side::new(lane, bytes, layout, fences, trusts)))
}

impl<const SENDS: bool> Side<SENDS> {
    fn new(lane: Handle<Lane>, bytes: SharedBytes, layout: Layout, fences: bool, trusts: bool) -> Self {
        Side {
            lane,
            bytes,
            layout,
            fences,
            trusts,
            forks: forks(),
            copied: OnceLock::new(),
            identity: NOBODY,
            own: Place::default(),
            other: Place::default(),
            pace: Pace::new(),
            calm: 0,
        }
    }

    #[inline]
    fn mine(&self) -> &Desk {
        if SENDS { &self.lane.tail } else { &self.lane.head }
    }

    #[inline]
    fn theirs(&self) -> &Desk {
        if SENDS { &self.lane.head } else { &self.lane.tail }
    }

    /// In bytes.
    pub(crate) fn capacity(&self) -> usize {
        HEADER * self.layout.capacity as usize
    }

    /// The longest payload.
    #[inline]
    pub(crate) fn max_len(&self) -> usize {
        self.capacity() - self.layout.header
    }

    pub(crate) fn trusts(&self) -> bool {
        self.trusts
    }

    pub(crate) fn most(&self) -> Option<u32> {
        (self.layout.most < u32::MAX).then_some(self.layout.most)
    }

    /// Whether the calling thread claimed the end by this handle, in this process.
    #[inline]
    pub(crate) fn is_ours(&self) -> bool {
        is_ours(self.identity)
    }

    /// Sees to it that the end is the calling thread's.
    #[inline]
    fn ready(&mut self) -> Result<(), Hindrance> {
        if is_ours(self.identity) { Ok(()) } else { self.claim() }
    }

    /// Claims the end for the calling thread; nothing happens if it is its own.
    #[cold]
    pub(crate) fn claim(&mut self) -> Result<(), Hindrance> {
        if is_ours(self.identity) {
            return Ok(());
        }
        if self.mine().claim.is_closed() {
            return Err(Hindrance::NotOurs(NotClaimed::Closed));
        }
        let me = claimant();
        self.mine().claim.claim(me, self.trusts).map_err(Hindrance::NotOurs)?;
        self.identity = me.identity();
        self.calm = 0;
        // What our predecessor left counts no more than what the other end says (L3).
        self.own = self.mine().place();
        self.other = self.theirs().place();
        let judged = self.judge_places().and_then(|()| self.judge_begin());
        if judged.is_err() {
            self.release();
        }
        judged
    }

    /// Gives the end back, so that somebody else can claim it. Says who has it if that is not the calling thread.
    pub(crate) fn release(&mut self) -> Option<OwnerWord> {
        if !is_ours(self.identity) {
            return Some(self.mine().claim.state()).filter(|word| !word.is_free());
        }
        self.identity = NOBODY;
        self.mine().claim.give_back(claimant(), self.trusts);
        None
    }

    /// Closes the end for good: the other learns it.
    pub(crate) fn close(&mut self) -> Result<(), Hindrance> {
        match self.claim() {
            Ok(()) => {
                self.mine().claim.leave(self.identity, self.trusts);
                self.identity = NOBODY;
                Ok(())
            }
            Err(Hindrance::NotOurs(NotClaimed::Closed)) => Ok(()),
            Err(hindrance) => Err(hindrance),
        }
    }

    /// Whether our end was closed, and whether theirs was, or its holder died.
    pub(crate) fn is_closed(&self) -> (bool, bool) {
        (self.mine().claim.is_closed(), self.theirs().claim.judge() == Fate::Gone)
    }

    /// Who holds the ends, ours first.
    pub(crate) fn holders(&self) -> [OwnerWord; 2] {
        [self.mine().claim.state(), self.theirs().claim.state()]
    }

    /// Records between the ends, at some instant of the call.
    pub(crate) fn len(&self) -> usize {
        self.contents().0 as usize
    }

    /// Whether a payload of `len` bytes would be refused, at some instant of the call.
    pub(crate) fn is_full_for<L: Landing>(&self, len: usize) -> bool {
        let (records, used) = self.contents();
        records >= self.layout.most || units::<L>(len) > self.layout.capacity - used
    }

    /// The records between the ends, and the units that they take, at some instant of the call.
    fn contents(&self) -> (u32, u32) {
        loop {
            let tail = self.lane.tail.place();
            let head = self.lane.head.place();
            // The head was read while the tail stood still: that is the instant. (Our own end stands still anyway.)
            if self.lane.tail.place() == tail || !SENDS && is_ours(self.identity) {
                let used = self.layout.between(head.position, tail.position).min(self.layout.capacity);
                return (tail.count.wrapping_sub(head.count).min(used), used);
            }
            spin_hint();
        }
    }

    /// The units between head and tail, as we know them.
    #[inline]
    fn used(&self) -> u32 {
        let [from, to] = if SENDS { [self.other, self.own] } else { [self.own, self.other] };
        self.layout.between(from.position, to.position)
    }

    /// L3.
    #[inline]
    fn judge_places(&self) -> Result<(), Hindrance> {
        let (highest, used) = (self.own.position.max(self.other.position), self.used());
        if highest < 2 * self.layout.capacity && used <= self.layout.capacity {
            return Ok(());
        }
        let found = HEADER * used.max(highest) as usize;
        Err(Hindrance::Damaged { found, limit: self.capacity() })
    }

    /// L3: where records have one length, a place that we go on from must be the begin of one.
    fn judge_begin(&self) -> Result<(), Hindrance> {
        let (place, record) = (self.own.position, self.layout.record);
        let [found, limit] = [place, place - place % record].map(|units| HEADER * units as usize);
        if found == limit { Ok(()) } else { Err(Hindrance::Damaged { found, limit }) }
    }

    /// Looks where the other end is; whether it has moved.
    #[inline]
    fn look(&mut self) -> Result<bool, Hindrance> {
        self.pace.wait();
        let place = self.theirs().place();
        self.pace.learn(place.count.wrapping_sub(self.other.count));
        if place == self.other {
            return Ok(false);
        }
        let before = std::mem::replace(&mut self.other, place);
        if let Err(damaged) = self.judge_places() {
            self.other = before;
            return Err(damaged);
        }
        if self.calm < CALM && self.fences {
            self.calm += 1;
            if self.calm == CALM {
                self.theirs().claim.relax();
            }
        } else if self.theirs().claim.is_careful() {
            // Since `watch`.
            self.calm = 0;
        }
        Ok(true)
    }

    /// Waits until the other end has moved, as long as `patience` lasts.
    #[cold]
    fn wait(&mut self, patience: Patience) -> Result<(), Hindrance> {
        if !matches!(patience, Patience::None) && self.moves_soon(patience.deadline()) && self.look()? {
            return Ok(());
        }
        let mut expired = false;
        loop {
            if mutant(Mutant::DrainedBeforeJudged) && self.look()? {
                return Ok(());
            }
            let fate = self.theirs().claim.judge(); // L4
            if !mutant(Mutant::DrainedBeforeJudged) && self.look()? {
                return Ok(());
            }
            expired = match (fate, patience) {
                (Fate::Gone, _) => return Err(Hindrance::Gone),
                (Fate::There(_), Patience::None) => return Err(Hindrance::Blocked),
                (Fate::There(_), Patience::Until(_)) if expired => return Err(Hindrance::TimedOut),
                (Fate::There(word), Patience::Until(deadline)) => self.sleep(word, deadline),
            };
        }
    }

    /// Sleeps until the other end may have moved. Says whether the time was up.
    fn sleep(&mut self, word: OwnerWord, deadline: Option<Deadline>) -> bool {
        self.calm = 0;
        let (theirs, seen) = (self.theirs(), self.other.pack());
        // ORDERING: Relaxed: fenced by `announce`, and the caller looks again.
        let quiet = || theirs.place.load(Relaxed) == seen;
        theirs.claim.sleep(word, quiet, deadline) == Wake::TimedOut
    }

    /// What to sleep on, for whoever waits for several things; nothing if the other end has moved or is gone, or if our
    /// end is not the calling thread's.
    pub(crate) fn watch(&self) -> Option<Bed<'_>> {
        let (theirs, seen) = (self.theirs(), self.other.pack());
        // ORDERING: Relaxed: fenced by `announce`, and whoever finds something looks again.
        let quiet = || theirs.place.load(Relaxed) == seen;
        loop {
            let Fate::There(word) = theirs.claim.judge() else { return None };
            if !self.is_ours() || self.own.position != self.other.position || !quiet() {
                return None;
            }
            if let Some(bed) = theirs.claim.watch(word, quiet) {
                return Some(bed);
            }
        }
    }

    /// Looks for a little while whether the other end moves.
    fn moves_soon(&self, deadline: Option<Deadline>) -> bool {
        let (theirs, seen) = (self.theirs(), self.other.pack());
        let mut spins = Spins::new(deadline);
        while spins.turn() {
            // ORDERING: Relaxed, a hint; the caller looks again.
            if theirs.place.load(Relaxed) != seen {
                return true;
            }
        }
        false
    }

    /// Moves our end to `next`, in one store.
    #[inline]
    fn commit(&mut self, next: Place) {
        self.own = next;
        let release = if mutant(Mutant::RelaxedCommit) { Relaxed } else { Release };
        // ORDERING(record): Release, so that who sees the place sees the records, or the end of their reading.
        self.mine().place.store(next.pack(), release);
        self.mine().claim.ring_if_waited();
    }

    /// The bytes of a record's payload at `place`, behind a header, for whom they belong to.
    fn payload_at(&self, place: Place) -> *mut u8 {
        // SAFETY: a record begins within the capacity, and its payload behind its header.
        unsafe { self.bytes.base().as_ptr().add(self.layout.offset(place.position) + HEADER) }
    }
}

#[cfg(test)]
impl<const SENDS: bool> Side<SENDS> {
    /// A copy, as a fork makes it.
    pub(crate) fn forked(&mut self) -> Self {
        self.forks = !forks();
        let Side { layout, fences, trusts, forks, identity, own, other, calm, .. } = *self;
        let (lane, bytes) = (self.lane.clone(), self.bytes.clone());
        let copied = OnceLock::new();
        let pace = Pace::new();
        Side { lane, bytes, layout, fences, trusts, forks, copied, identity, own, other, pace, calm }
    }

    /// Starts counts and positions elsewhere, for tests of wrapping. Both ends are told.
    pub(crate) fn start_at(&mut self, count: u32, position: u32) {
        let place = Place { count, position };
        self.mine().place.store(place.pack(), Release);
        (self.own, self.other) = (place, place);
    }
}

impl<const SENDS: bool> Drop for Side<SENDS> {
    /// The holder closes its end. A copy that a fork made does nothing; a handle that never claimed its end closes it
    /// if no fork can have made a copy of it.
    fn drop(&mut self) {
        let claim = &self.mine().claim;
        let never_copied = || self.forks == forks() && self.copied.get().is_none() && !claim.is_closed();
        let claimed_here = self.identity != NOBODY && is_of_this_process(self.identity);
        let closes = if is_ours(self.identity) {
            true
        } else if claimed_here {
            // By another thread of this process, if that still lives and holds it.
            let word = claim.state();
            word.owner() == self.identity as u32 && owned_here(word.0)
        } else {
            // Whoever waits for the other end may have left WAITERS.
            let word = claim.state();
            self.identity == NOBODY && word.is_free() && !word.owner_died() && never_copied()
        };
        if closes {
            claim.leave(self.identity, self.trusts);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::queue::{
        codec::{Codec, PlainData},
        ends::Bounds,
    };

    fn channel(buffer: usize) -> (RawSender, RawReceiver) {
        let region = Region::anonymous(2 * buffer + 4096).unwrap();
        let bounds = Bounds { buffer, most: u32::MAX, peers: 0 };
        new_in(&region, Layout::new(bounds, None).unwrap(), true).unwrap()
    }

    fn received(receiver: &mut RawReceiver) -> Result<Vec<u8>, Hindrance> {
        let mut landing = Vec::new();
        receiver.recv(&mut landing, Patience::None).map(|()| landing)
    }

    #[test]
    fn counts_and_positions_wrap() {
        // 24 units of 8 bytes: positions wrap at 48, counts at 2^32.
        for (count, position) in [(u32::MAX, 0), (u32::MAX - 3, 47), (5, 46), (0, 24), (u32::MAX, 23)] {
            let (mut sender, mut receiver) = channel(192);
            sender.start_at(count, position);
            receiver.start_at(count, position);
            for round in 0..100_u8 {
                let lengths = [usize::from(round) % 41, 0, 16];
                for len in lengths {
                    sender.send::<Vec<u8>>(&vec![round; len], Patience::None).unwrap();
                }
                assert_eq!((sender.len(), receiver.len()), (3, 3));
                lengths
                    .iter()
                    .for_each(|&len| assert_eq!(received(&mut receiver).unwrap(), vec![round; len]));
                assert_eq!(received(&mut receiver), Err(Hindrance::Blocked));
            }
        }
    }

    #[test]
    fn a_copy_that_never_claimed_closes_nothing() {
        let (mut sender, mut receiver) = channel(64);
        drop(sender.forked());
        drop(sender);
        assert_eq!(received(&mut receiver), Err(Hindrance::Blocked));
    }

    #[test]
    fn places_between_records_of_one_length_are_damage() {
        // Records of 3 units, 8 of them.
        let layout = Layout::new(Bounds { buffer: 192, most: u32::MAX, peers: 0 }, Some(24)).unwrap();
        let new = || new_in(&Region::anonymous(4096).unwrap(), layout, true).unwrap();
        type Landing = <PlainData as Codec<[u8; 24]>>::Landing;
        let landing = <PlainData as Codec<[u8; 24]>>::landing;
        for position in [1, 2, 22, 23, 25, 47] {
            let garbage = Place { count: 1, position };
            // Where somebody goes on.
            let (mut sender, mut receiver) = new();
            sender.start_at(1, position);
            receiver.start_at(1, position);
            let damage = Hindrance::Damaged {
                found: 8 * position as usize,
                limit: 8 * (position - position % 3) as usize,
            };
            assert_eq!(sender.forked().send::<Landing>(&[1; 24], Patience::None), Err(damage));
            assert_eq!(receiver.forked().recv(&mut landing(), Patience::None), Err(damage));
            // Where the other end says that it is: what is whole is received.
            let (mut sender, mut receiver) = new();
            receiver.claim().unwrap();
            sender.claim().unwrap();
            sender.lane.tail.place.store(garbage.pack(), Release);
            let received = (0..9).map(|_| receiver.recv(&mut landing(), Patience::None)).find(Result::is_err);
            assert!(matches!(received, Some(Err(Hindrance::Damaged { .. }))), "{position}: {received:?}");
            let mut many = Vec::<[u8; 24]>::new();
            let mut taking = receiver.begin(Patience::None).map(drop);
            if taking.is_ok() {
                taking =
                    receiver.begin(Patience::None).unwrap().next_all::<Landing, _>(&mut many, 9).map(drop);
            }
            assert!(taking.is_err() && many.is_empty(), "{position}: {taking:?}");
            sender.lane.head.place.store(Place { count: 0, position }.pack(), Release);
            for _ in 0..20 {
                let _ = sender.send::<Landing>(&[1; 24], Patience::None);
            }
        }
    }

    #[test]
    fn commits_are_careless_again_when_nobody_sleeps_for_long() {
        let (mut sender, mut receiver) = channel(64);
        let passes = |sender: &mut RawSender, receiver: &mut RawReceiver| {
            sender.send::<Vec<u8>>(&[1; 8], Patience::None).unwrap();
            received(receiver).unwrap();
        };
        for _ in 0..3 {
            (0..CALM + 1).for_each(|_| passes(&mut sender, &mut receiver));
            assert_eq!(sender.mine().claim.is_careful(), !sender.fences);
            // As who waits for several things does, again and again.
            assert!(receiver.watch().is_some() && sender.mine().claim.is_careful());
        }
    }

    #[test]
    fn places_that_cannot_be_are_damage() {
        let (mut sender, mut receiver) = channel(64);
        sender.send::<Vec<u8>>(&[1; 8], Patience::None).unwrap();
        for position in [16, 1000, u32::MAX, 9, 15] {
            let garbage = Place { count: 1, position };
            sender.lane.tail.place.store(garbage.pack(), Release);
            let damage = Hindrance::Damaged { found: HEADER * position as usize, limit: 64 };
            assert_eq!(received(&mut receiver), Err(damage), "position {position}");
        }
        sender.lane.head.place.store(Place { count: 0, position: 3 }.pack(), Release);
        assert!(matches!(sender.send::<Vec<u8>>(&[1; 50], Patience::None), Err(Hindrance::Damaged { .. })));
    }
}
