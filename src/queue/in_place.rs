//! Messages that are written and read where they lie: [`Slot`] and [`Message`].

use std::{
    fmt,
    ops::{Deref, DerefMut},
    slice,
    time::Duration,
};

use crate::{
    error::{RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError},
    primitive::Deadline,
    queue::{
        codec::Bytes,
        lane::{RawReceiver, RawSender},
        receiver::{Receiver, Unreceived},
        sender::{Sender, Unsent},
    },
    sync::Patience,
};

/// Bytes in the ring, or, where the other end is not trusted, in memory of one's own. The pointer keeps it in the
/// thread that holds the end: no other may commit there.
enum Place<P> {
    InRing(P, usize),
    Own(Vec<u8>),
}

impl<P> Place<P> {
    fn len(&self) -> usize {
        match self {
            Place::InRing(_, len) => *len,
            Place::Own(bytes) => bytes.len(),
        }
    }
}

/// A copy that a fork made gives no references: the original's end goes on, and its bytes become another message's.
#[inline]
fn assert_ours(is_ours: bool) {
    assert!(is_ours, "the message belongs to the process that this one was forked from");
}

/// Room for a message in the ring of a channel: what is written there is sent by [`commit`](Slot::commit), and by
/// nothing else.
///
/// It holds what was there before. Dropped, or lost with its process, it sends nothing. A copy that a fork made sends
/// nothing either, and panics when its bytes are asked for.
#[must_use = "only `commit` sends"]
pub struct Slot<'a> {
    sender: &'a mut RawSender,
    place: Place<*mut u8>,
}

impl Slot<'_> {
    /// Sends the message. It is received whole or, if this process is killed before, not at all.
    pub fn commit(self) {
        match &self.place {
            Place::InRing(_, len) => self.sender.commit_reserved(*len),
            Place::Own(bytes) => {
                self.sender.write_reserved(bytes);
                self.sender.commit_reserved(bytes.len());
            }
        }
    }
}

impl Deref for Slot<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        assert_ours(self.sender.is_ours());
        match &self.place {
            // SAFETY: `assert_ours`; `reserve` found the room free and in bounds, and as long as the slot borrows the
            // end nobody else is given it: what lies beyond the tail is read by nobody (L1).
            Place::InRing(bytes, len) => unsafe { slice::from_raw_parts(*bytes, *len) },
            Place::Own(bytes) => bytes,
        }
    }
}

impl DerefMut for Slot<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        assert_ours(self.sender.is_ours());
        match &mut self.place {
            // SAFETY: as for `deref`.
            Place::InRing(bytes, len) => unsafe { slice::from_raw_parts_mut(*bytes, *len) },
            Place::Own(bytes) => bytes,
        }
    }
}

impl fmt::Debug for Slot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("len", &self.place.len()).finish()
    }
}

/// The oldest message of a channel, where it lies. It is taken from the channel when this is dropped.
///
/// A receiver that is killed meanwhile has not taken it: whoever claims the end next gets it again. Forgotten
/// ([`mem::forget`](std::mem::forget)), it stays too. A copy that a fork made panics when its bytes are asked for.
pub struct Message<'a> {
    receiver: &'a mut RawReceiver,
    place: Place<*const u8>,
}

impl Deref for Message<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        assert_ours(self.receiver.is_ours());
        match &self.place {
            // SAFETY: `assert_ours`; `read` found it in bounds; nobody writes between head and tail (L1), and the head
            // moves when this is dropped.
            Place::InRing(bytes, len) => unsafe { slice::from_raw_parts(*bytes, *len) },
            Place::Own(bytes) => bytes,
        }
    }
}

impl Drop for Message<'_> {
    fn drop(&mut self) {
        self.receiver.take(self.place.len());
    }
}

impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message").field("len", &self.place.len()).finish()
    }
}

impl Sender<Vec<u8>, Bytes> {
    /// Room for a message of `len` bytes, in place, waiting for it as long as it takes.
    ///
    /// # Errors
    /// As for [`send`](Sender::send).
    ///
    /// # Examples
    /// ```
    /// let (mut sender, mut receiver) = pshared::Channel::new(4096).bytes()?;
    /// let mut slot = sender.reserve(3).unwrap();
    /// slot.copy_from_slice(b"abc");
    /// slot.commit();
    /// drop(sender.reserve(7).unwrap()); // sends nothing
    /// assert_eq!(receiver.recv().unwrap(), b"abc");
    /// # Ok::<(), pshared::RegionError>(())
    /// ```
    pub fn reserve(&mut self, len: usize) -> Result<Slot<'_>, SendError<()>> {
        self.reserve_within(len, Patience::FOREVER).map_err(|why| why.of(()))
    }

    /// The same, if there is room now.
    ///
    /// # Errors
    /// As for [`try_send`](Sender::try_send).
    pub fn try_reserve(&mut self, len: usize) -> Result<Slot<'_>, TrySendError<()>> {
        self.reserve_within(len, Patience::None).map_err(|why| why.of_try(()))
    }

    /// The same, waiting at most `timeout`.
    ///
    /// # Errors
    /// As for [`send_timeout`](Sender::send_timeout).
    pub fn reserve_timeout(
        &mut self,
        len: usize,
        timeout: Duration,
    ) -> Result<Slot<'_>, SendTimeoutError<()>> {
        self.reserve_deadline(len, Deadline::after(timeout))
    }

    /// The same, waiting at most until `deadline`.
    ///
    /// # Errors
    /// As for [`send_timeout`](Sender::send_timeout).
    pub fn reserve_deadline(
        &mut self,
        len: usize,
        deadline: Deadline,
    ) -> Result<Slot<'_>, SendTimeoutError<()>> {
        self.reserve_within(len, Patience::Until(Some(deadline))).map_err(|why| why.of_timeout(()))
    }

    fn reserve_within(&mut self, len: usize, patience: Patience) -> Result<Slot<'_>, Unsent> {
        let sender = self.raw();
        let limit = sender.max_len();
        if len > limit {
            return Err(Unsent::TooLong { len, limit });
        }
        let bytes = sender.reserve(len, patience).map_err(Unsent::Hindered)?;
        let place = if sender.trusts() { Place::InRing(bytes, len) } else { Place::Own(vec![0; len]) };
        Ok(Slot { sender, place })
    }
}

impl Receiver<Vec<u8>, Bytes> {
    /// The oldest message, in place, waiting for one as long as it takes.
    ///
    /// # Errors
    /// As for [`recv`](Receiver::recv).
    pub fn read(&mut self) -> Result<Message<'_>, RecvError> {
        self.read_within(Patience::FOREVER).map_err(Unreceived::of)
    }

    /// The same, if there is one now.
    ///
    /// # Errors
    /// As for [`try_recv`](Receiver::try_recv).
    pub fn try_read(&mut self) -> Result<Message<'_>, TryRecvError> {
        self.read_within(Patience::None).map_err(Unreceived::of_try)
    }

    /// The same, waiting at most `timeout`.
    ///
    /// # Errors
    /// As for [`recv_timeout`](Receiver::recv_timeout).
    pub fn read_timeout(&mut self, timeout: Duration) -> Result<Message<'_>, RecvTimeoutError> {
        self.read_deadline(Deadline::after(timeout))
    }

    /// The same, waiting at most until `deadline`.
    ///
    /// # Errors
    /// As for [`recv_timeout`](Receiver::recv_timeout).
    pub fn read_deadline(&mut self, deadline: Deadline) -> Result<Message<'_>, RecvTimeoutError> {
        self.read_within(Patience::Until(Some(deadline))).map_err(Unreceived::of_timeout)
    }

    fn read_within(&mut self, patience: Patience) -> Result<Message<'_>, Unreceived> {
        let receiver = self.raw();
        if receiver.trusts() {
            let (bytes, len) = receiver.peek(patience).map_err(Unreceived::Hindered)?;
            return Ok(Message { receiver, place: Place::InRing(bytes, len) });
        }
        let mut copy = Vec::new();
        receiver.peek_copy(&mut copy, patience).map_err(Unreceived::Hindered)?;
        Ok(Message { receiver, place: Place::Own(copy) })
    }
}
