//! What the sender of a channel does with its ring.
//!
//! # Crash points
//! - `lane.written`: records beyond the tail: the next sender writes over them.

use super::{
    Fate, HEADER, Hindrance, Landing, Mutant, Patience, Place, RawSender, header_of, is_ours, mutant, units,
};
use crate::queue::frame::header;

impl RawSender {
    #[inline]
    fn fits(&self, at: Place, units: u32) -> bool {
        let used = self.layout.between(self.other.position, at.position);
        let records = at.count.wrapping_sub(self.other.count);
        units <= self.layout.capacity.saturating_sub(used) && records < self.layout.most
    }

    /// Whether the end is ours, somebody may receive, and `units` more fit, without a wait.
    #[inline]
    fn can_send(&self, units: u32) -> bool {
        is_ours(self.identity) && self.theirs().claim.judge() != Fate::Gone && self.fits(self.own, units)
    }

    /// Sees to it that all that is so.
    #[inline(never)]
    fn prepare(&mut self, units: u32, patience: Patience) -> Result<(), Hindrance> {
        self.ready()?;
        self.make_room(self.own, units, patience)
    }

    /// Sees to it that somebody may receive, and that `units` more fit behind `at`.
    fn make_room(&mut self, at: Place, units: u32, patience: Patience) -> Result<(), Hindrance> {
        if self.theirs().claim.judge() == Fate::Gone {
            return Err(Hindrance::Gone);
        }
        while !self.fits(at, units) {
            self.wait(patience)?;
        }
        Ok(())
    }

    /// Puts a record behind what was put there before, and says where the next one goes.
    #[inline]
    fn put<L: Landing>(&self, at: Place, payload: &[u8]) -> Place {
        let offset = self.layout.offset(at.position);
        if L::FIXED.is_none() {
            self.bytes.buffer().write(offset, &header(payload.len()));
        }
        self.bytes.buffer().write(offset + header_of::<L>(), payload);
        // CRASH(lane.written): beyond the tail.
        self.layout.behind(at, 1, units::<L>(payload.len()))
    }

    /// Sends `payload`, which is not longer than [`max_len`](Side::max_len) and lands in an `L`, waiting for room as
    /// long as `patience` lasts.
    #[inline]
    pub(crate) fn send<L: Landing>(&mut self, payload: &[u8], patience: Patience) -> Result<(), Hindrance> {
        debug_assert!(payload.len() <= self.max_len());
        let units = units::<L>(payload.len());
        if !self.can_send(units) {
            self.prepare(units, patience)?;
        }
        let at = self.own;
        if mutant(Mutant::CommitBeforeRecord) {
            self.commit(self.layout.behind(at, 1, units));
            self.put::<L>(at, payload);
            return Ok(());
        }
        let next = self.put::<L>(at, payload);
        self.commit(next);
        Ok(())
    }

    /// The begin of a batch: where its first record goes.
    #[inline]
    pub(crate) fn begin(&mut self) -> Result<Batch<'_>, Hindrance> {
        self.ready()?;
        if self.theirs().claim.judge() == Fate::Gone {
            return Err(Hindrance::Gone);
        }
        let at = self.own;
        Ok(Batch { sender: self, at, records: 0, sent: 0 })
    }

    /// Room for a payload of `len` bytes, which is not longer than [`max_len`](Side::max_len).
    pub(crate) fn reserve(&mut self, len: usize, patience: Patience) -> Result<*mut u8, Hindrance> {
        self.prepare(units::<Vec<u8>>(len), patience)?;
        Ok(self.payload_at(self.own))
    }

    /// Writes what was reserved.
    pub(crate) fn write_reserved(&self, payload: &[u8]) {
        if is_ours(self.identity) {
            self.bytes.buffer().write(self.layout.offset(self.own.position) + HEADER, payload);
        }
    }

    /// Commits what was reserved. A copy that a fork made does nothing.
    pub(crate) fn commit_reserved(&mut self, len: usize) {
        if is_ours(self.identity) {
            self.bytes.buffer().write(self.layout.offset(self.own.position), &header(len));
            self.commit(self.layout.behind(self.own, 1, units::<Vec<u8>>(len)));
        }
    }
}

/// Records that are committed together, as far as there is room.
pub(crate) struct Batch<'a> {
    sender: &'a mut RawSender,
    at: Place,
    records: usize,
    sent: usize,
}

impl Batch<'_> {
    /// Adds a record. What was added before is committed if this one must wait.
    #[inline]
    pub(crate) fn add<L: Landing>(&mut self, payload: &[u8], patience: Patience) -> Result<(), Hindrance> {
        // What is being sent may fork as it is serialised.
        self.sender.ready()?;
        self.make_room(units::<L>(payload.len()), patience)?;
        self.at = self.sender.put::<L>(self.at, payload);
        self.records += 1;
        Ok(())
    }

    /// Adds records that lie in `payloads` as they lie in the ring, each `len` bytes long.
    #[inline]
    pub(crate) fn add_all<L: Landing>(
        &mut self,
        mut payloads: &[u8],
        len: usize,
        patience: Patience,
    ) -> Result<(), Hindrance> {
        self.sender.ready()?;
        let units = units::<L>(len);
        while !payloads.is_empty() {
            self.make_room(units, patience)?;
            let (sender, at) = (&*self.sender, self.at);
            let (layout, other) = (sender.layout, sender.other);
            let free = layout.capacity.saturating_sub(sender.layout.between(other.position, at.position));
            let in_a_row = free.min(layout.capacity - sender.layout.place_of(at.position)) / units;
            let records = in_a_row.min(layout.most - at.count.wrapping_sub(other.count));
            let records = (records as usize).min(payloads.len() / len);
            let (now, later) = payloads.split_at(records * len);
            sender.bytes.buffer().write(sender.layout.offset(at.position), now);
            // CRASH(lane.written): beyond the tail.
            self.at = sender.layout.behind(at, records as u32, records as u32 * units);
            self.records += records;
            payloads = later;
        }
        Ok(())
    }

    /// Sees to it that `units` more fit. What was added before is committed if they must wait.
    #[inline]
    fn make_room(&mut self, units: u32, patience: Patience) -> Result<(), Hindrance> {
        if !self.sender.fits(self.at, units) {
            // One look first: there may be room for all of it.
            if !self.sender.look()? || !self.sender.fits(self.at, units) {
                self.commit();
            }
            self.sender.make_room(self.at, units, patience)?;
        }
        Ok(())
    }

    /// How many were committed so far.
    #[inline]
    pub(crate) fn committed(&self) -> usize {
        self.sent
    }

    /// Commits what was added. How many records were committed so far.
    #[inline]
    pub(crate) fn commit(&mut self) -> usize {
        if self.records > 0 && self.sender.is_ours() {
            self.sender.commit(self.at);
            self.sent += std::mem::take(&mut self.records);
        }
        self.sent
    }
}
