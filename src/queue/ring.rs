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
//! | `head.known`      | a `tail` count that was true, as a place  | consumer                             |
//! | `*.pace`          | when to look at the other end (`Pace`)    | the end itself                       |
//! | the buffer        | records                                   | producer, beyond the last commit     |
//!
//! A record is a header of 8 bytes and the payload, padded to 8 (`frame.rs`). It goes on at the start of the buffer
//! where it meets the end, so no room is ever lost and the longest record is the capacity less one header. Several
//! records may be committed at once, at either end: the doorbell counts them in one step.
//!
//! # Invariants
//! - R1: what lies beyond the last commit is read by nobody.
//! - R2: a place is believed only while its own end's doorbell shows its count. So storing the next place before the
//!   commit claims nothing, and after a death there is nothing to repair: the commit moved, or it did not.
//! - R3: the place of the present count is not written; the other one is.
//! - R4: the consumer writes its place and its doorbell, and nothing in the buffer.
//! - R5: no place and no length is believed that cannot be: what garbage is found is [`Damage`], and nothing is read or
//!   written outside the buffer, which is known from private memory. Garbage that *can* be gives wrong messages.
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
    primitive::{AtomicU64, Buffer, Mutant, Pace, Relaxed, mutant, spin_hint},
    queue::{
        doorbell::{COUNT_MASK, Closed, Doorbell, MAX_COMMIT, Reading},
        frame::{HEADER, header, payload_len, units},
    },
};

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
    /// Beyond every ring.
    const BEYOND: Place = Place { count: u32::MAX, position: u32::MAX };

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
    pace: Pace,
    _private: [u64; 5],
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
            pace: Pace::new(),
            _private: [0; 5],
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

/// What no user of the ring has left there: a length in bytes, and the longest there can be; or, without figures, an
/// owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    pub(crate) found: usize,
    pub(crate) limit: usize,
}

/// Looks in a row at an end that moves all the while. (Beside two ends that never rest, on two CPUs, none of 10^9 who
/// looked needed more than four.)
const LOOKS: u32 = 4096;

/// Why a record did not go in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotPushed {
    /// There is no room; what the head showed when that was found.
    Full(Reading),
    Closed,
    Damaged(Damage),
}

/// Why nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// There is nothing; what the tail showed when that was found.
    Nothing(Reading),
    NoMemory(usize),
    Damaged(Damage),
}

impl From<Damage> for NotPushed {
    fn from(damage: Damage) -> NotPushed {
        NotPushed::Damaged(damage)
    }
}

impl From<Damage> for NotTaken {
    fn from(damage: Damage) -> NotTaken {
        NotTaken::Damaged(damage)
    }
}

impl From<Reading> for NotTaken {
    fn from(tail: Reading) -> NotTaken {
        NotTaken::Nothing(tail)
    }
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

    /// Its number: how many were taken before it, wrapping.
    pub(crate) fn ticket(&self) -> u32 {
        self.place.count
    }
}

/// Some records that lie one behind the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) records: u32,
    units: u32,
}

impl Extent {
    const NONE: Extent = Extent { records: 0, units: 0 };

    /// With headers and padding, in bytes.
    pub(crate) fn bytes(self) -> usize {
        HEADER * self.units as usize
    }

    /// One more record, with a payload of `len` bytes.
    fn and(self, len: usize) -> Extent {
        Extent { records: self.records + 1, units: self.units + units(len) }
    }

    /// So many records with payloads of `len` bytes each.
    fn of(records: u32, len: usize) -> Extent {
        Extent { records, units: records * units(len) }
    }

    fn fits(self, room: Extent) -> bool {
        self.records <= room.records && self.units <= room.units
    }
}

/// The oldest records, as far as they were asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Oldest {
    place: Place,
    pub(crate) extent: Extent,
}

/// Both ends and the bytes between them.
pub(crate) struct Ring<'a> {
    pub(crate) tail: &'a End,
    pub(crate) head: &'a End,
    pub(crate) buffer: &'a Buffer,
    /// No more records than these, however short. From private memory.
    pub(crate) most: u32,
}

impl Ring<'_> {
    /// In units of 8 bytes. From private memory: no peer can change it.
    #[inline]
    fn capacity(&self) -> u32 {
        (self.buffer.len() / HEADER) as u32
    }

    #[inline]
    fn advance(&self, position: u32, units: u32) -> u32 {
        let sum = position + units;
        if sum >= 2 * self.capacity() { sum - 2 * self.capacity() } else { sum }
    }

    /// How many units lie between two positions; whatever they are, a number.
    #[inline]
    fn between(&self, from: u32, to: u32) -> u32 {
        if to >= from { to - from } else { to.wrapping_add(2 * self.capacity()).wrapping_sub(from) }
    }

    /// The byte in the buffer at which `position` lies.
    #[inline]
    fn offset(&self, position: u32) -> usize {
        let capacity = self.capacity();
        HEADER * (if position >= capacity { position - capacity } else { position }) as usize
    }

    /// Puts in `payload` and commits it. Only the producer may.
    #[inline]
    pub(crate) fn push(&self, payload: &[u8]) -> Result<(), NotPushed> {
        let record = self.reserve(payload.len())?;
        self.write(record, payload);
        self.commit(record)
    }

    /// Where the next payload goes, which has `len` bytes, if there is room for it. Only the producer may ask.
    #[inline]
    pub(crate) fn reserve(&self, len: usize) -> Result<Record, NotPushed> {
        let tail = self.own_place(self.tail)?;
        let extent = Extent::NONE.and(len);
        if !extent.fits(self.known_room(tail)) {
            let (reading, room) = self.look_for_room(tail)?;
            if !extent.fits(room) {
                return Err(NotPushed::Full(reading));
            }
        }
        Ok(Record { place: tail, len })
    }

    /// Writes the payload of what was reserved.
    #[inline]
    pub(crate) fn write(&self, record: Record, payload: &[u8]) {
        self.write_wrapping(self.offset(self.advance(record.place.position, 1)), payload);
    }

    /// Commits what was reserved. Only the producer may.
    #[inline]
    pub(crate) fn commit(&self, Record { place, len }: Record) -> Result<(), NotPushed> {
        self.buffer.write(self.offset(place.position), &header(len));
        // CRASH(ring.written): beyond the last commit.
        self.commit_tail(place, Extent::NONE.and(len))
    }

    /// The byte of the buffer at which the payload of `record` begins, if it does not go on at the start.
    pub(crate) fn in_one_piece(&self, record: Record) -> Option<usize> {
        let at = self.offset(self.advance(record.place.position, 1));
        (record.len <= self.buffer.len() - at).then_some(at)
    }

    /// Puts in the first records of a batch, as many as fit and one commit can count, and says how far it came. `len`
    /// is the length of all payloads, if they have one. Only the producer may.
    pub(crate) fn push_many(&self, batch: &[u8], len: Option<usize>) -> Result<Extent, NotPushed> {
        let tail = self.own_place(self.tail)?;
        let mut extent = self.first_that_fit(batch, len, self.known_room(tail));
        if extent.bytes() < batch.len() && extent.records < MAX_COMMIT {
            let (reading, room) = self.look_for_room(tail)?;
            extent = self.first_that_fit(batch, len, room);
            if extent == Extent::NONE {
                return Err(NotPushed::Full(reading));
            }
        }
        self.write_wrapping(self.offset(tail.position), &batch[..extent.bytes()]);
        self.commit_tail(tail, extent).map(|()| extent)
    }

    /// How much of a batch fits into `room` and into one commit.
    fn first_that_fit(&self, batch: &[u8], len: Option<usize>, room: Extent) -> Extent {
        let most = if mutant(Mutant::BatchPieceByPiece) { 1 } else { MAX_COMMIT };
        let room = Extent { records: room.records.min(most), ..room };
        if let Some(len) = len {
            let all = (batch.len() / HEADER) as u32 / units(len);
            return Extent::of(all.min(room.records).min(room.units / units(len)), len);
        }
        let mut extent = Extent::NONE;
        while let Some(header) = batch.get(extent.bytes()..).and_then(|rest| rest.first_chunk()) {
            let longer = extent.and(payload_len(*header));
            if !longer.fits(room) {
                break;
            }
            extent = longer;
        }
        extent
    }

    /// Commits what was written behind `tail`.
    #[inline]
    fn commit_tail(&self, tail: Place, extent: Extent) -> Result<(), NotPushed> {
        self.tail.stage(tail, self.behind(tail, extent));
        // CRASH(ring.staged): the doorbell still shows the old count.
        self.tail.bell.commit(extent.records).map_err(|Closed| NotPushed::Closed)
    }

    /// Where an end stands that has moved over `extent`.
    #[inline]
    fn behind(&self, place: Place, extent: Extent) -> Place {
        Place {
            count: (place.count + extent.records) & COUNT_MASK,
            position: self.advance(place.position, extent.units),
        }
    }

    /// What is free between `tail` and `head`.
    #[inline]
    fn room_between(&self, tail: Place, head: Place) -> Extent {
        let records = tail.count.wrapping_sub(head.count) & COUNT_MASK;
        Extent {
            records: self.most.saturating_sub(records),
            units: self.capacity().saturating_sub(self.between(head.position, tail.position)),
        }
    }

    /// The room there is for sure.
    #[inline]
    fn known_room(&self, tail: Place) -> Extent {
        // ORDERING: Relaxed, private to this end, carried by its lock.
        self.room_between(tail, Place::unpack(self.tail.known.load(Relaxed)))
    }

    /// The room there is, and what the head showed when that was found.
    fn look_for_room(&self, tail: Place) -> Result<(Reading, Extent), Damage> {
        self.tail.pace.wait();
        let (reading, head) = self.look_at(self.head)?;
        self.used(head, tail)?;
        // ORDERING: Relaxed, as in `known_room`.
        let known = Place::unpack(self.tail.known.load(Relaxed));
        self.tail.known.store(head.pack(), Relaxed);
        self.tail.pace.learn(head.count.wrapping_sub(known.count) & COUNT_MASK);
        Ok((reading, self.room_between(tail, head)))
    }

    /// The oldest record, if there is one; else what the tail showed. Only the consumer may.
    #[inline]
    pub(crate) fn peek(&self) -> Result<Record, NotTaken> {
        let place = self.own_place(self.head)?;
        self.committed(place, 1)?;
        Ok(Record { place, len: self.len_at(place.position)? })
    }

    /// The oldest records, at most `most` of them and not more than one commit can count, and as many as `bytes` hold,
    /// but at least one; if there is none, what the tail showed. Only the consumer may.
    pub(crate) fn peek_many(&self, most: usize, bytes: usize) -> Result<Oldest, NotTaken> {
        let place = self.own_place(self.head)?;
        let most = most.clamp(1, MAX_COMMIT as usize) as u32;
        let most = most.min(self.committed(place, most)?);
        let mut extent = Extent::NONE;
        while extent.records < most {
            let len = self.len_at(self.advance(place.position, extent.units))?;
            let longer = extent.and(len);
            if longer.units > self.capacity() {
                return Err(self.damage(longer.units).into());
            }
            if longer.bytes() > bytes && extent.records > 0 {
                break;
            }
            extent = longer;
        }
        Ok(Oldest { place, extent })
    }

    /// How many records there are for sure from `place` on; it looks at the tail if there may be fewer than `enough`.
    #[inline]
    fn committed(&self, place: Place, enough: u32) -> Result<u32, Reading> {
        // ORDERING: Relaxed, private to this end, carried by its lock; what it vouches for was acquired with it.
        let known = Place::unpack(self.head.known.load(Relaxed)).count;
        let records = known.wrapping_sub(place.count) & COUNT_MASK;
        if records >= enough {
            return Ok(records);
        }
        self.head.pace.wait();
        let reading = self.tail.bell.read();
        let found = reading.count().wrapping_sub(place.count) & COUNT_MASK;
        self.head.pace.learn(found.wrapping_sub(records));
        if found == 0 {
            return Err(reading);
        }
        self.head.known.store(Place { count: reading.count(), position: 0 }.pack(), Relaxed);
        Ok(found)
    }

    /// The length of the record at `position`.
    #[inline]
    fn len_at(&self, position: u32) -> Result<usize, Damage> {
        let mut header = [0; HEADER];
        self.buffer.read(self.offset(position), &mut header);
        let len = payload_len(header);
        if units(len) <= self.capacity() { Ok(len) } else { Err(self.damage(units(len))) }
    }

    /// So many units where there can be no more than the capacity.
    #[cold]
    fn damage(&self, units: u32) -> Damage {
        Damage { found: HEADER * units as usize, limit: self.buffer.len() }
    }

    /// The units that are in use, if both places can be.
    fn used(&self, head: Place, tail: Place) -> Result<u32, Damage> {
        let used = self.between(head.position, tail.position);
        if used <= self.capacity() { Ok(used) } else { Err(self.damage(used)) }
    }

    /// Copies the payload of `record` to `bytes`, which may be shorter, and not longer.
    #[inline]
    pub(crate) fn copy(&self, record: Record, bytes: &mut [u8]) {
        debug_assert!(bytes.len() <= record.len);
        self.read_wrapping(self.offset(self.advance(record.place.position, 1)), bytes);
    }

    /// Copies records as they are to `bytes`, of which they take [`Extent::bytes`].
    pub(crate) fn copy_many(&self, oldest: Oldest, bytes: &mut [u8]) {
        self.read_wrapping(self.offset(oldest.place.position), &mut bytes[..oldest.extent.bytes()]);
    }

    /// Commits that `record` is taken. Only the consumer may.
    #[inline]
    pub(crate) fn take(&self, record: Record) {
        let Record { place, len } = record;
        self.take_many(Oldest { place, extent: Extent::NONE.and(len) });
    }

    /// Commits that the records are taken. Only the consumer may.
    #[inline]
    pub(crate) fn take_many(&self, Oldest { place, extent }: Oldest) {
        // CRASH(ring.copied): not yet taken.
        if mutant(Mutant::MarkEmptyBeforeCommit) {
            self.buffer.write(self.offset(place.position), &[0; HEADER]);
        }
        self.head.stage(place, self.behind(place, extent));
        // Nobody closes the head.
        let _ = self.head.bell.commit(extent.records);
        // CRASH(ring.taken): the records are gone, and the copy is ours alone.
    }

    /// How many records were taken so far, wrapping. Only the consumer may ask.
    pub(crate) fn taken(&self) -> u32 {
        self.head.bell.read().count()
    }

    /// Where this process's own end stands.
    #[inline]
    fn own_place(&self, end: &End) -> Result<Place, Damage> {
        self.checked(end.place(end.bell.read().count()).unwrap_or(Place::BEYOND))
    }

    /// A place where an end can be.
    #[inline]
    fn checked(&self, place: Place) -> Result<Place, Damage> {
        if place.position < 2 * self.capacity() { Ok(place) } else { Err(self.damage(place.position)) }
    }

    /// What an end shows, and where it stands with that, while its process may be moving it.
    fn look_at(&self, end: &End) -> Result<(Reading, Place), Damage> {
        for _ in 0..LOOKS {
            let reading = end.bell.read();
            if let Some(place) = end.place(reading.count()) {
                return Ok((reading, self.checked(place)?));
            }
            spin_hint();
        }
        Err(self.damage(Place::BEYOND.position))
    }

    /// The records between the ends at some instant of the call, and the units they take.
    pub(crate) fn contents(&self) -> Result<(u32, u32), Damage> {
        for _ in 0..LOOKS {
            let (before, tail) = self.look_at(self.tail)?;
            let (_, head) = self.look_at(self.head)?;
            // The head was read while the tail stood still: that is the instant.
            if self.tail.bell.read().count() == before.count() {
                let records = tail.count.wrapping_sub(head.count) & COUNT_MASK;
                return Ok((records, self.used(head, tail)?));
            }
            spin_hint();
        }
        Err(self.damage(Place::BEYOND.position))
    }

    /// Whether a payload of `len` bytes would fit now. Where there is damage: who tries is told.
    pub(crate) fn has_room_for(&self, len: usize) -> bool {
        let fits = |(records, used)| records < self.most && units(len) <= self.capacity() - used;
        self.contents().map_or(true, fits)
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
