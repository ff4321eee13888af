//! An end of a queue that is held while a message is written or read where it lies.
//!
//! Nothing is claimed but the end's lock, and nothing changes until the commit: so whoever dies here has sent nothing,
//! or has taken nothing, and the lock goes to the next (`ends.rs`).

use crate::{
    queue::{
        ends::{NotReceived, NotSent, RawQueue},
        ring::Record,
    },
    sync::{Hold, Patience},
};

/// The sending end, with room for one payload.
pub(crate) struct Reserved<'a> {
    queue: &'a RawQueue,
    end: Hold<'a>,
    record: Record,
}

/// The receiving end, with the oldest payload.
pub(crate) struct Peeked<'a> {
    queue: &'a RawQueue,
    end: Hold<'a>,
    record: Record,
}

impl RawQueue {
    /// Room for a payload of `len` bytes, which is not longer than [`max_len`](Self::max_len), waiting for it as long
    /// as `patience` lasts.
    pub(crate) fn reserve(&self, len: usize, patience: Patience) -> Result<Reserved<'_>, NotSent> {
        let mut reserved = None;
        let end = self.push(len, patience, |ring| {
            reserved = Some(ring.reserve(len)?);
            Ok(true)
        })?;
        let record = reserved.expect("`push` succeeds when it was reserved");
        Ok(Reserved { queue: self, end, record })
    }

    /// The oldest payload, waiting for one as long as `patience` lasts.
    pub(crate) fn peek(&self, patience: Patience) -> Result<Peeked<'_>, NotReceived> {
        let mut oldest = None;
        let end = self.pull(patience, |ring| {
            oldest = Some(ring.peek()?);
            Ok(())
        })?;
        let record = oldest.expect("`pull` succeeds when there was one");
        Ok(Peeked { queue: self, end, record })
    }

    /// Where the payload of `record` lies, if it does in one piece.
    fn in_one_piece(&self, record: Record) -> Option<*mut u8> {
        let at = self.ring().in_one_piece(record)?;
        // SAFETY: in bounds of the buffer.
        Some(unsafe { self.base().add(at) })
    }
}

impl Reserved<'_> {
    /// Not a copy that a fork made.
    pub(crate) fn is_ours(&self) -> bool {
        self.end.is_ours()
    }

    /// Where the payload goes, if in one piece.
    pub(crate) fn in_one_piece(&self) -> Option<*mut u8> {
        self.queue.in_one_piece(self.record)
    }

    /// Writes the payload.
    pub(crate) fn write(&self, payload: &[u8]) {
        if self.is_ours() {
            self.queue.ring().write(self.record, payload);
        }
    }

    /// Commits, unless the queue was closed meanwhile. A copy that a fork made does nothing.
    pub(crate) fn commit(self) -> Result<(), NotSent> {
        if self.is_ours() {
            self.queue.ring().commit(self.record).map_err(|_| NotSent::Closed)
        } else {
            Ok(())
        }
    }
}

impl Peeked<'_> {
    /// Not a copy that a fork made.
    pub(crate) fn is_ours(&self) -> bool {
        self.end.is_ours()
    }

    pub(crate) fn len(&self) -> usize {
        self.record.len()
    }

    /// Where the payload lies, if in one piece.
    pub(crate) fn in_one_piece(&self) -> Option<*const u8> {
        self.queue.in_one_piece(self.record).map(<*mut u8>::cast_const)
    }

    /// A copy of the payload; `None` if there is no memory for it.
    pub(crate) fn copy(&self) -> Option<Vec<u8>> {
        let mut copy = Vec::new();
        copy.try_reserve_exact(self.len()).ok()?;
        copy.resize(self.len(), 0);
        self.queue.ring().copy(self.record, &mut copy);
        Some(copy)
    }

    /// Takes it from the queue. A copy that a fork made does nothing.
    pub(crate) fn take(&self) {
        if self.is_ours() {
            self.queue.ring().take(self.record);
        }
    }
}
