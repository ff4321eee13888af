//! What the sender of a channel does with its ring.
//!
//! # Crash points
//! - `lane.written`: records beyond the tail: the next sender writes over them.

use super::{Fate, HEADER, Hindrance, Mutant, Patience, Place, RawSender, is_ours, mutant, units};
use crate::queue::frame::header;

impl RawSender {
    #[inline]
    fn fits(&self, at: Place, units: u32) -> bool {
        let used = self.between(self.other.position, at.position);
        units <= self.capacity.saturating_sub(used) && at.count.wrapping_sub(self.other.count) < self.most
    }

    /// Sees to it that the end is ours, that somebody may receive, and that `units` more fit behind `at`.
    #[inline]
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
    fn put(&self, at: Place, payload: &[u8]) -> Place {
        let offset = self.offset(at.position);
        self.bytes.buffer().write(offset, &header(payload.len()));
        self.bytes.buffer().write(offset + HEADER, payload);
        // CRASH(lane.written): beyond the tail.
        self.behind(at, units(payload.len()))
    }

    /// Sends `payload`, which is not longer than [`max_len`](Side::max_len), waiting for room as long as `patience`
    /// lasts.
    #[inline]
    pub(crate) fn send(&mut self, payload: &[u8], patience: Patience) -> Result<(), Hindrance> {
        debug_assert!(payload.len() <= self.max_len());
        self.ready()?;
        self.make_room(self.own, units(payload.len()), patience)?;
        let at = self.own;
        let next = self.behind(at, units(payload.len()));
        if mutant(Mutant::CommitBeforeRecord) {
            self.commit(next);
            self.put(at, payload);
            return Ok(());
        }
        self.put(at, payload);
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
        self.ready()?;
        self.make_room(self.own, units(len), patience)?;
        Ok(self.payload_at(self.own))
    }

    /// Writes what was reserved.
    pub(crate) fn write_reserved(&self, payload: &[u8]) {
        if is_ours(self.identity) {
            self.bytes.buffer().write(self.offset(self.own.position) + HEADER, payload);
        }
    }

    /// Commits what was reserved. A copy that a fork made does nothing.
    pub(crate) fn commit_reserved(&mut self, len: usize) {
        if is_ours(self.identity) {
            self.bytes.buffer().write(self.offset(self.own.position), &header(len));
            self.commit(self.behind(self.own, units(len)));
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
    pub(crate) fn add(&mut self, payload: &[u8], patience: Patience) -> Result<(), Hindrance> {
        // What is being sent may fork as it is serialised.
        self.sender.ready()?;
        let units = units(payload.len());
        if !self.sender.fits(self.at, units) {
            // One look first: there may be room for all of it.
            if !self.sender.look()? || !self.sender.fits(self.at, units) {
                self.commit();
            }
            self.sender.make_room(self.at, units, patience)?;
        }
        self.at = self.sender.put(self.at, payload);
        self.records += 1;
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
