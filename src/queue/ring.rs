//! A bounded ring of records of any length: one producer, one consumer, one committing store at each end.
//!
//! # Words
//! Each end has a [`Doorbell`] that counts its commits, and two *places*: {count, position} in one 8-byte word each.
//! The place whose count equals the doorbell's is where the end stands; the other is room for the next. Positions
//! count units of 8 bytes from 0 to twice the capacity, so that full and empty differ.
//!
//! | word              | meaning                                   | written by                           |
//! |-------------------|-------------------------------------------|--------------------------------------|
//! | `tail.bell`       | records committed                         | producer, one step: the commit       |
//! | `tail.places`     | where the next record goes                | producer, before the commit          |
//! | `head.bell`       | records taken                             | consumer, one step: the commit       |
//! | `head.places`     | where the oldest record begins            | consumer, before the commit          |
//! | `tail.known`      | a `head` place that was true              | producer                             |
//! | `head.known`      | a `tail` count that was true              | consumer                             |
//! | the buffer        | records                                   | producer, beyond the last commit     |
//!
//! A record is a header of 8 bytes (its length) and the payload, padded to 8. It goes on at the start of the buffer
//! where it meets the end, so no room is ever lost and the longest record is the capacity less one header.
//!
//! # Invariants
//! - R1: what lies beyond the last commit is read by nobody.
//! - R2: a place is believed only while its own end's doorbell shows its count. So storing the next place before the
//!   commit claims nothing, and after a death there is nothing to repair: the commit moved, or it did not.
//! - R3: the place of the present count is not written; the other one is.
//! - R4: the consumer writes its place and its doorbell, and nothing in the buffer.
//!
//! # Ordering edges
//! The doorbells' `record` (`doorbell.rs`). The tail's carries payload and header to the consumer; the head's carries
//! the end of the consumer's reading to the producer, which writes over it.
//!
//! # Crash points
//! - `ring.written`: a record beyond the last commit: overwritten by the next producer (R1).
//! - `ring.staged`: the next place is stored, the commit is not: nobody believes it (R2).
//! - `ring.copied`: the consumer has a copy and has not committed: the next consumer takes the record again.
//! - `ring.taken`: committed, and the copy dies with its process: a plain `recv` is at most once.

use crate::{
    primitive::{AtomicU64, Buffer, Mutant, Relaxed, mutant, spin_hint},
    queue::doorbell::{COUNT_MASK, Closed, Doorbell, Reading},
};

/// What a record takes beside its payload, in bytes; and the unit of positions.
pub(crate) const HEADER: usize = 8;
/// Positions must fit 31 bits at twice the capacity, and counts must not wrap within one filling.
pub(crate) const MAX_CAPACITY: usize = 1 << 32;

/// A count and the position that belongs to it, in one word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    count: u32,
    position: u32,
}

impl Place {
    /// No doorbell ever shows this count.
    const NOWHERE: Place = Place { count: u32::MAX, position: 0 };

    fn unpack(word: u64) -> Place {
        Place { count: (word >> 32) as u32, position: word as u32 }
    }

    fn pack(self) -> u64 {
        u64::from(self.count) << 32 | u64::from(self.position)
    }
}

/// One end of the ring. What the other end reads stands on the first line, what is private to the end on the next.
#[repr(C, align(64))]
pub(crate) struct End {
    pub(crate) bell: Doorbell,
    places: [AtomicU64; 2],
    _shared: [u64; 5],
    known: AtomicU64,
    _private: [u64; 7],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<End>() == 128);

impl End {
    pub(crate) fn new() -> End {
        let first = Place { count: 0, position: 0 };
        End {
            bell: Doorbell::new(),
            places: [AtomicU64::new(first.pack()), AtomicU64::new(Place::NOWHERE.pack())],
            _shared: [0; 5],
            known: AtomicU64::new(first.pack()),
            _private: [0; 7],
        }
    }

    /// Where the end stood when its doorbell showed `count`; `None` if it has moved on since.
    #[inline]
    fn place(&self, count: u32) -> Option<Place> {
        // ORDERING: Relaxed, carried by the doorbell's `record`; the count in the word says whether it is the one.
        let places = [0, 1].map(|i| Place::unpack(self.places[i].load(Relaxed)));
        places.into_iter().find(|place| place.count == count)
    }

    /// Notes where the end will stand after the next commit. Only the end's own process may.
    #[inline]
    fn stage(&self, now: Place, next: Place) {
        // ORDERING: Relaxed, carried by the commit.
        let current = usize::from(Place::unpack(self.places[1].load(Relaxed)).count == now.count);
        let free = if mutant(Mutant::PositionBeforeCommit) { current } else { 1 - current };
        self.places[free].store(next.pack(), Relaxed);
    }

    /// For tests of wrapping: begins at another count and position.
    #[cfg(test)]
    pub(crate) fn start_at(&self, count: u32, position: u32) {
        self.bell.start_at(count);
        self.places[0].store(Place { count, position }.pack(), Relaxed);
        self.known.store(Place { count, position }.pack(), Relaxed);
    }
}

/// Why a record did not go in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotPushed {
    /// There is no room; what the head showed when that was found.
    Full(Reading),
    Closed,
}

/// A committed record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    place: Place,
    len: usize,
}

impl Record {
    /// The payload, in bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

/// Both ends and the bytes between them.
pub(crate) struct Ring<'a> {
    pub(crate) tail: &'a End,
    pub(crate) head: &'a End,
    pub(crate) buffer: &'a Buffer,
}

impl Ring<'_> {
    /// In units of 8 bytes. From private memory: no peer can change it.
    #[inline]
    fn capacity(&self) -> u32 {
        (self.buffer.len() / HEADER) as u32
    }

    /// The units that a payload of `len` bytes takes.
    #[inline]
    fn units(len: usize) -> u32 {
        (1 + len.div_ceil(HEADER)) as u32
    }

    #[inline]
    fn advance(&self, position: u32, units: u32) -> u32 {
        let sum = position + units;
        if sum >= 2 * self.capacity() { sum - 2 * self.capacity() } else { sum }
    }

    /// How many units lie between two positions.
    #[inline]
    fn between(&self, from: u32, to: u32) -> u32 {
        if to >= from { to - from } else { to + 2 * self.capacity() - from }
    }

    /// The byte in the buffer at which `position` lies.
    #[inline]
    fn offset(&self, position: u32) -> usize {
        let capacity = self.capacity();
        HEADER * (if position >= capacity { position - capacity } else { position }) as usize
    }

    /// Puts in `payload` and commits it. Only the producer may.
    pub(crate) fn push(&self, payload: &[u8]) -> Result<(), NotPushed> {
        let tail = self.own_place(self.tail);
        let units = Self::units(payload.len());
        self.make_room(tail, units).map_err(NotPushed::Full)?;
        let mut header = [0; HEADER];
        header[..4].copy_from_slice(&(payload.len() as u32).to_ne_bytes());
        self.buffer.write(self.offset(tail.position), &header);
        self.write_wrapping(self.offset(self.advance(tail.position, 1)), payload);
        // CRASH(ring.written): beyond the last commit.
        let next =
            Place { count: (tail.count + 1) & COUNT_MASK, position: self.advance(tail.position, units) };
        self.tail.stage(tail, next);
        // CRASH(ring.staged): the doorbell still shows the old count.
        self.tail.bell.commit(1).map_err(|Closed| NotPushed::Closed)
    }

    /// Sees to it that `units` are free behind `tail`, or says what the head showed when they were not.
    #[inline]
    fn make_room(&self, tail: Place, units: u32) -> Result<(), Reading> {
        // ORDERING: Relaxed, private to this end, carried by its lock.
        let known = Place::unpack(self.tail.known.load(Relaxed));
        if units <= self.capacity() - self.between(known.position, tail.position) {
            return Ok(());
        }
        let (reading, head) = self.look_at(self.head);
        self.tail.known.store(head.pack(), Relaxed);
        if units <= self.capacity() - self.between(head.position, tail.position) {
            Ok(())
        } else {
            Err(reading)
        }
    }

    /// The oldest record, if there is one; else what the tail showed. Only the consumer may.
    #[inline]
    pub(crate) fn peek(&self) -> Result<Record, Reading> {
        let place = self.own_place(self.head);
        // ORDERING: Relaxed, private to this end, carried by its lock; what it vouches for was acquired with it.
        if self.head.known.load(Relaxed) as u32 == place.count {
            let reading = self.tail.bell.read();
            if reading.count() == place.count {
                return Err(reading);
            }
            self.head.known.store(u64::from(reading.count()), Relaxed);
        }
        let mut header = [0; HEADER];
        self.buffer.read(self.offset(place.position), &mut header);
        let len = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        Ok(Record { place, len })
    }

    /// Copies the payload of `record` to `bytes`, which may be shorter.
    #[inline]
    pub(crate) fn copy(&self, record: Record, bytes: &mut [u8]) {
        let count = bytes.len().min(record.len);
        self.read_wrapping(self.offset(self.advance(record.place.position, 1)), &mut bytes[..count]);
    }

    /// Commits that `record` is taken. Only the consumer may.
    #[inline]
    pub(crate) fn take(&self, record: Record) {
        // CRASH(ring.copied): not yet taken.
        let Record { place, len } = record;
        let position = self.advance(place.position, Self::units(len));
        let next = Place { count: (place.count + 1) & COUNT_MASK, position };
        if mutant(Mutant::MarkEmptyBeforeCommit) {
            self.buffer.write(self.offset(place.position), &[0; HEADER]);
        }
        self.head.stage(place, next);
        // Nobody closes the head.
        let _ = self.head.bell.commit(1);
        // CRASH(ring.taken): the record is gone, and the copy is ours alone.
    }

    /// Where this process's own end stands.
    #[inline]
    fn own_place(&self, end: &End) -> Place {
        let count = end.bell.read().count();
        match end.place(count) {
            Some(place) if place.position < 2 * self.capacity() => place,
            place => panic!("ring damaged: count {count}, place {place:?}, capacity {}", self.capacity()),
        }
    }

    /// What an end shows, and where it stands with that, while its process may be moving it.
    fn look_at(&self, end: &End) -> (Reading, Place) {
        loop {
            let reading = end.bell.read();
            if let Some(place) = end.place(reading.count()) {
                return (reading, place);
            }
            spin_hint();
        }
    }

    /// The records between the ends at some instant of the call, and the units they take.
    pub(crate) fn contents(&self) -> (u32, u32) {
        loop {
            let (before, tail) = self.look_at(self.tail);
            let (_, head) = self.look_at(self.head);
            // The head was read while the tail stood still: that is the instant.
            if self.tail.bell.read().count() == before.count() {
                let records = tail.count.wrapping_sub(head.count) & COUNT_MASK;
                return (records, self.between(head.position, tail.position));
            }
            spin_hint();
        }
    }

    /// Whether a payload of `len` bytes would fit now.
    pub(crate) fn has_room_for(&self, len: usize) -> bool {
        let (_, used) = self.contents();
        Self::units(len) <= self.capacity() - used
    }

    /// Copies `bytes` to `at`, going on at the start where it meets the end.
    #[inline]
    fn write_wrapping(&self, at: usize, bytes: &[u8]) {
        let room = self.buffer.len() - at;
        if bytes.len() <= room {
            self.buffer.write(at, bytes);
        } else {
            let (first, rest) = bytes.split_at(room);
            self.buffer.write(at, first);
            self.buffer.write(0, rest);
        }
    }

    /// Copies from `at`, likewise.
    #[inline]
    fn read_wrapping(&self, at: usize, bytes: &mut [u8]) {
        let room = self.buffer.len() - at;
        if bytes.len() <= room {
            self.buffer.read(at, bytes);
        } else {
            let (first, rest) = bytes.split_at_mut(room);
            self.buffer.read(at, first);
            self.buffer.read(0, rest);
        }
    }
}
