//! What the receiver of a channel does with its ring.
//!
//! # Crash points
//! - `lane.copied`: the receiver has a copy and has not committed: the next receiver takes the record again.
//! - `lane.taken`: committed, and the copy dies with its process: `recv` is at most once.

use super::{HEADER, Hindrance, Patience, Place, RawReceiver, is_ours, units};
use crate::queue::{ends::Landing, frame::payload_len};

impl RawReceiver {
    /// Sees to it that the end is ours and that there is a record.
    #[inline]
    fn await_record(&mut self, patience: Patience) -> Result<(), Hindrance> {
        self.ready()?;
        if self.own.position == self.other.position && !self.look()? {
            self.wait(patience)?;
        }
        Ok(())
    }

    /// The length of the record at `at`, which lies before the tail that we saw.
    #[inline]
    fn len_at(&self, at: Place) -> Result<usize, Hindrance> {
        let mut header = [0; HEADER];
        self.bytes.buffer().read(self.offset(at.position), &mut header);
        let len = payload_len(header);
        let available = self.between(at.position, self.other.position);
        if units(len) <= available {
            return Ok(len);
        }
        Err(Hindrance::Damaged { found: len, limit: (HEADER * available as usize).saturating_sub(HEADER) })
    }

    /// Copies the record at `at` to `landing`, and says where the next begins.
    #[inline]
    fn copy(&self, at: Place, landing: &mut impl Landing) -> Result<Place, Hindrance> {
        let len = self.len_at(at)?;
        let room = landing.room(len).ok_or(Hindrance::NoMemory(len))?;
        let count = room.len().min(len);
        self.bytes.buffer().read(self.offset(at.position) + HEADER, &mut room[..count]);
        Ok(self.behind(at, units(len)))
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
        let len = self.len_at(self.own)?;
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
            self.commit(self.behind(self.own, units(len)));
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
