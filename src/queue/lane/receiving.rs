//! What the receiver of a channel does with its ring.
//!
//! # Crash points
//! - `lane.copied`: the receiver has a copy and has not committed: the next receiver takes the record again.
//! - `lane.taken`: committed, and the copy dies with its process: `recv` is at most once.

use super::{HEADER, Hindrance, Landing, Patience, Place, RawReceiver, header_of, is_ours, units};
use crate::{queue::frame::payload_len, region::Plain};

impl RawReceiver {
    /// Sees to it that the end is ours and that there is a record.
    #[inline]
    fn await_record(&mut self, patience: Patience) -> Result<(), Hindrance> {
        if is_ours(self.identity) && self.own.position != self.other.position {
            return Ok(());
        }
        self.prepare(patience)
    }

    #[inline(never)]
    fn prepare(&mut self, patience: Patience) -> Result<(), Hindrance> {
        self.ready()?;
        if self.own.position == self.other.position && !self.look()? {
            self.wait(patience)?;
        }
        Ok(())
    }

    /// The length of the payload of the record at `at`, which lies before the tail that we saw.
    #[inline]
    fn len_at<L: Landing>(&self, at: Place) -> Result<usize, Hindrance> {
        let len = L::FIXED.unwrap_or_else(|| {
            let mut header = [0; HEADER];
            self.bytes.buffer().read(self.layout.offset(at.position), &mut header);
            payload_len(header)
        });
        let available = self.layout.between(at.position, self.other.position);
        if units::<L>(len) <= available {
            return Ok(len);
        }
        let limit = (HEADER * available as usize).saturating_sub(header_of::<L>());
        Err(Hindrance::Damaged { found: len, limit })
    }

    /// Copies the record at `at` to `landing`, and says where the next begins.
    #[inline]
    fn copy<L: Landing>(&self, at: Place, landing: &mut L) -> Result<Place, Hindrance> {
        let len = self.len_at::<L>(at)?;
        let room = landing.room(len).ok_or(Hindrance::NoMemory(len))?;
        let count = room.len().min(len);
        self.bytes.buffer().read(self.layout.offset(at.position) + header_of::<L>(), &mut room[..count]);
        Ok(self.layout.behind(at, 1, units::<L>(len)))
    }

    /// Receives the oldest payload into `landing`, waiting for one as long as `patience` lasts.
    #[inline]
    pub(crate) fn recv(&mut self, landing: &mut impl Landing, patience: Patience) -> Result<(), Hindrance> {
        self.await_record(patience)?;
        let next = self.copy(self.own, landing)?;
        // CRASH(lane.copied): not yet taken.
        self.commit(next);
        // CRASH(lane.taken): gone from the ring.
        Ok(())
    }

    /// Waits for a record; then takes as many as are asked for of those that are there, and commits once, when the
    /// taking is dropped.
    #[inline]
    pub(crate) fn begin(&mut self, patience: Patience) -> Result<Taking<'_>, Hindrance> {
        self.await_record(patience)?;
        let at = self.own;
        Ok(Taking { receiver: self, at })
    }

    /// The oldest payload where it lies, waiting for one as long as `patience` lasts.
    pub(crate) fn peek(&mut self, patience: Patience) -> Result<(*const u8, usize), Hindrance> {
        self.await_record(patience)?;
        let len = self.len_at::<Vec<u8>>(self.own)?;
        Ok((self.payload_at(self.own), len))
    }

    /// The same, as a copy.
    pub(crate) fn peek_copy(&mut self, copy: &mut Vec<u8>, patience: Patience) -> Result<(), Hindrance> {
        self.await_record(patience)?;
        self.copy(self.own, copy).map(drop)
    }

    /// Takes the oldest record, which has a payload of `len` bytes. A copy that a fork made does nothing.
    pub(crate) fn take(&mut self, len: usize) {
        if is_ours(self.identity) {
            self.commit(self.layout.behind(self.own, 1, units::<Vec<u8>>(len)));
        }
    }
}

/// Records that are taken together.
pub(crate) struct Taking<'a> {
    receiver: &'a mut RawReceiver,
    at: Place,
}

impl Taking<'_> {
    /// Whether there is another for sure.
    #[inline]
    pub(crate) fn has_more(&self) -> bool {
        self.at.position != self.receiver.other.position
    }

    /// Copies records to `into`, as they lie there: at most `most` of them, and those that lie one behind the other.
    /// How many there were. The values are as long as the records.
    #[inline]
    pub(crate) fn next_all<L: Landing, T: Plain>(
        &mut self,
        into: &mut Vec<T>,
        most: usize,
    ) -> Result<usize, Hindrance> {
        let (receiver, at) = (&*self.receiver, self.at);
        let units = units::<L>(size_of::<T>());
        let available = receiver.layout.between(at.position, receiver.other.position);
        let in_a_row = available.min(receiver.layout.capacity - receiver.layout.place_of(at.position));
        let records = most.min((in_a_row / units) as usize);
        if records == 0 {
            let limit = HEADER * available as usize;
            return Err(Hindrance::Damaged { found: size_of::<T>(), limit });
        }
        receiver
            .bytes
            .buffer()
            .read_onto(receiver.layout.offset(at.position), into, records)
            .ok_or(Hindrance::NoMemory(records * size_of::<T>()))?;
        self.at = receiver.layout.behind(at, records as u32, records as u32 * units);
        Ok(records)
    }

    /// Copies the next record to `landing`.
    #[inline]
    pub(crate) fn next(&mut self, landing: &mut impl Landing) -> Result<(), Hindrance> {
        self.at = self.receiver.copy(self.at, landing)?;
        Ok(())
    }
}

impl Drop for Taking<'_> {
    #[inline]
    fn drop(&mut self) {
        // Not in a copy: what decodes may fork.
        if self.at != self.receiver.own && is_ours(self.receiver.identity) {
            self.receiver.commit(self.at);
        }
    }
}
