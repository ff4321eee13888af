//! How records lie in the buffer of a channel, and where its ends are: arithmetic, without a word that is shared.

use crate::{
    error::RegionError,
    queue::{
        ends::{Bounds, Landing},
        frame::HEADER,
        lane::Lane,
        ring::MAX_CAPACITY,
    },
};

/// A count and the position that belongs to it, in one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(super) count: u32,
    pub(super) position: u32,
}

impl Place {
    pub(super) fn unpack(word: u64) -> Place {
        Place { count: (word >> 32) as u32, position: word as u32 }
    }

    pub(super) fn pack(self) -> u64 {
        u64::from(self.count) << 32 | u64::from(self.position)
    }
}

/// How records lie in the buffer of a channel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// The units in which records begin.
    pub(super) capacity: u32,
    /// The units of a record, if all have one length; else 1.
    pub(super) record: u32,
    /// The bytes before each payload: none, if all have one length.
    pub(super) header: usize,
    /// The most records, however short.
    pub(super) most: u32,
}

impl Layout {
    /// For payloads of any length within `bounds`; or all of one length.
    pub(crate) fn new(bounds: Bounds, payload: Option<usize>) -> Result<Layout, RegionError> {
        let (header, record) = match payload {
            None => (HEADER, HEADER),
            Some(len) => (0, len.max(1).next_multiple_of(HEADER)),
        };
        let bytes = bounds.buffer.next_multiple_of(record);
        if bytes > MAX_CAPACITY {
            return Err(RegionError::TooLarge { need: bytes, limit: MAX_CAPACITY });
        }
        let [capacity, record] = [bytes, record].map(|bytes| (bytes / HEADER) as u32);
        Ok(Layout { capacity, record, header, most: bounds.most })
    }

    /// What the buffer takes.
    pub(super) fn bytes(self) -> usize {
        HEADER * self.capacity as usize * if self.header == 0 { 1 } else { 2 }
    }

    /// What a channel takes of a region.
    pub(crate) fn footprint(self) -> usize {
        size_of::<Lane>() + self.bytes()
    }

    /// What follows on so many records, of so many units in all.
    #[inline]
    pub(super) fn behind(self, place: Place, records: u32, units: u32) -> Place {
        let (sum, end) = (place.position + units, 2 * self.capacity);
        let position = if sum >= end { sum - end } else { sum };
        Place { count: place.count.wrapping_add(records), position }
    }

    /// How many units lie between two positions; whatever the other end says, a number.
    #[inline]
    pub(super) fn between(self, from: u32, to: u32) -> u32 {
        let end = 2 * self.capacity;
        if to >= from { to - from } else { to.wrapping_add(end).wrapping_sub(from) }
    }

    /// The unit of the buffer at which `position` lies.
    #[inline]
    pub(super) fn place_of(self, position: u32) -> u32 {
        let capacity = self.capacity;
        if position >= capacity { position - capacity } else { position }
    }

    /// The byte of the buffer at which `position` lies.
    #[inline]
    pub(super) fn offset(self, position: u32) -> usize {
        HEADER * self.place_of(position) as usize
    }
}

/// The bytes before each payload that lands there.
#[inline]
pub(super) const fn header_of<L: Landing>() -> usize {
    if L::FIXED.is_some() { 0 } else { HEADER }
}

/// The units that a payload of `len` bytes takes that lands there.
#[inline]
pub(super) fn units<L: Landing>(len: usize) -> u32 {
    ((header_of::<L>() + len).div_ceil(HEADER) as u32).max(1)
}
