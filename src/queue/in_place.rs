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
        ends::NotReceived,
        held::{Peeked, Reserved},
        lane::{RawReceiver, RawSender},
        queue::{Failed, Queue},
        receiver::{Receiver, Unreceived},
        sender::{Sender, Unsent},
    },
    sync::Patience,
};

/// Bytes in the ring, or in memory of one's own: where the other end is not trusted, or the ring of a queue goes on at
/// its start. The pointer keeps it in the thread that holds the end: no other may commit there.
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

/// Room for a message in the ring of a channel or a queue: what is written there is sent by [`commit`](Slot::commit),
/// and by nothing else.
///
/// It holds what was there before. Dropped, or lost with its process, it sends nothing. A copy that a fork made sends
/// nothing either, and panics when its bytes are asked for. The other senders of a queue wait meanwhile; a use of its
/// sending end by this thread panics.
#[must_use = "only `commit` sends"]
pub struct Slot<'a> {
    end: Sending<'a>,
    place: Place<*mut u8>,
}

/// Where a slot is.
enum Sending<'a> {
    Channel(&'a mut RawSender),
    Queue(Reserved<'a>),
}

impl Sending<'_> {
    fn is_ours(&self) -> bool {
        match self {
            Sending::Channel(sender) => sender.is_ours(),
            Sending::Queue(reserved) => reserved.is_ours(),
        }
    }
}

impl Slot<'_> {
    /// Sends the message. It is received whole or, if this process is killed before, not at all.
    ///
    /// # Errors
    /// [`SendError::Closed`] if the queue was closed meanwhile. The receiver of a channel that has gone meanwhile is
    /// told by the next call.
    pub fn commit(self) -> Result<(), SendError<()>> {
        let own = match &self.place {
            Place::InRing(..) => None,
            Place::Own(bytes) => Some(bytes),
        };
        match self.end {
            Sending::Channel(sender) => {
                own.iter().for_each(|bytes| sender.write_reserved(bytes));
                sender.commit_reserved(self.place.len());
                Ok(())
            }
            Sending::Queue(reserved) => {
                own.iter().for_each(|bytes| reserved.write(bytes));
                reserved.commit().map_err(|_| SendError::Closed(()))
            }
        }
    }
}

impl Deref for Slot<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        assert_ours(self.end.is_ours());
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
        assert_ours(self.end.is_ours());
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

/// The oldest message of a channel or a queue, where it lies. It is taken from there when this is dropped.
///
/// A receiver that is killed meanwhile has not taken it: whoever receives next gets it again. Forgotten
/// ([`mem::forget`](std::mem::forget)), it stays too, and a queue's receiving end is held until this thread ends. A
/// copy that a fork made panics when its bytes are asked for. The other receivers of a queue wait meanwhile; a use of
/// its receiving end by this thread panics.
pub struct Message<'a> {
    end: Receiving<'a>,
    place: Place<*const u8>,
}

/// Where a message is.
enum Receiving<'a> {
    Channel(&'a mut RawReceiver),
    Queue(Peeked<'a>),
}

impl Receiving<'_> {
    fn is_ours(&self) -> bool {
        match self {
            Receiving::Channel(receiver) => receiver.is_ours(),
            Receiving::Queue(peeked) => peeked.is_ours(),
        }
    }
}

impl Deref for Message<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        assert_ours(self.end.is_ours());
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
        match &mut self.end {
            Receiving::Channel(receiver) => receiver.take(self.place.len()),
            Receiving::Queue(peeked) => peeked.take(),
        }
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
    /// slot.commit().unwrap();
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
        Ok(Slot { end: Sending::Channel(sender), place })
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
            return Ok(Message { end: Receiving::Channel(receiver), place: Place::InRing(bytes, len) });
        }
        let mut copy = Vec::new();
        receiver.peek_copy(&mut copy, patience).map_err(Unreceived::Hindered)?;
        Ok(Message { end: Receiving::Channel(receiver), place: Place::Own(copy) })
    }
}

impl Queue<Vec<u8>, Bytes> {
    /// Room for a message of `len` bytes, waiting for it as long as it takes: in place, unless it would go on at the
    /// start of the ring; then `commit` copies it.
    ///
    /// # Errors
    /// As for [`send`](Queue::send).
    ///
    /// # Panics
    /// If this thread holds a [`Slot`] of this queue already.
    ///
    /// # Examples
    /// ```
    /// let queue = pshared::Queue::bytes(4096)?;
    /// let mut slot = queue.reserve(3).unwrap();
    /// slot.copy_from_slice(b"abc");
    /// slot.commit().unwrap();
    /// assert_eq!(*queue.read().unwrap(), *b"abc");
    /// assert!(queue.is_empty());
    /// # Ok::<(), pshared::RegionError>(())
    /// ```
    pub fn reserve(&self, len: usize) -> Result<Slot<'_>, SendError<()>> {
        Ok(self.reserve_within(len, Patience::FOREVER)?)
    }

    /// The same, if there is room now.
    ///
    /// # Errors
    /// As for [`try_send`](Queue::try_send).
    ///
    /// # Panics
    /// As for [`reserve`](Queue::reserve).
    pub fn try_reserve(&self, len: usize) -> Result<Slot<'_>, TrySendError<()>> {
        Ok(self.reserve_within(len, Patience::None)?)
    }

    /// The same, waiting at most `timeout`.
    ///
    /// # Errors
    /// As for [`send_timeout`](Queue::send_timeout).
    ///
    /// # Panics
    /// As for [`reserve`](Queue::reserve).
    pub fn reserve_timeout(&self, len: usize, timeout: Duration) -> Result<Slot<'_>, SendTimeoutError<()>> {
        self.reserve_deadline(len, Deadline::after(timeout))
    }

    /// The same, waiting at most until `deadline`.
    ///
    /// # Errors
    /// As for [`send_timeout`](Queue::send_timeout).
    ///
    /// # Panics
    /// As for [`reserve`](Queue::reserve).
    pub fn reserve_deadline(&self, len: usize, deadline: Deadline) -> Result<Slot<'_>, SendTimeoutError<()>> {
        Ok(self.reserve_within(len, Patience::Until(Some(deadline)))?)
    }

    fn reserve_within(&self, len: usize, patience: Patience) -> Result<Slot<'_>, Failed<()>> {
        let limit = self.max_message_len();
        if len > limit {
            return Err(Failed::TooLong { value: (), len, limit });
        }
        let reserved = self.raw.reserve(len, patience).map_err(|why| Failed::NotSent(why, ()))?;
        let place =
            reserved.in_one_piece().map_or_else(|| Place::Own(vec![0; len]), |at| Place::InRing(at, len));
        Ok(Slot { end: Sending::Queue(reserved), place })
    }

    /// The oldest message, waiting for one as long as it takes: in place, or a copy where it goes on at the start of
    /// the ring.
    ///
    /// # Errors
    /// As for [`recv`](Queue::recv).
    ///
    /// # Panics
    /// If this thread holds a [`Message`] of this queue already.
    pub fn read(&self) -> Result<Message<'_>, RecvError> {
        Ok(self.read_within(Patience::FOREVER)?)
    }

    /// The same, if there is one now.
    ///
    /// # Errors
    /// As for [`try_recv`](Queue::try_recv).
    ///
    /// # Panics
    /// As for [`read`](Queue::read).
    pub fn try_read(&self) -> Result<Message<'_>, TryRecvError> {
        Ok(self.read_within(Patience::None)?)
    }

    /// The same, waiting at most `timeout`.
    ///
    /// # Errors
    /// As for [`recv_timeout`](Queue::recv_timeout).
    ///
    /// # Panics
    /// As for [`read`](Queue::read).
    pub fn read_timeout(&self, timeout: Duration) -> Result<Message<'_>, RecvTimeoutError> {
        self.read_deadline(Deadline::after(timeout))
    }

    /// The same, waiting at most until `deadline`.
    ///
    /// # Errors
    /// As for [`recv_timeout`](Queue::recv_timeout).
    ///
    /// # Panics
    /// As for [`read`](Queue::read).
    pub fn read_deadline(&self, deadline: Deadline) -> Result<Message<'_>, RecvTimeoutError> {
        Ok(self.read_within(Patience::Until(Some(deadline)))?)
    }

    fn read_within(&self, patience: Patience) -> Result<Message<'_>, NotReceived> {
        let peeked = self.raw.peek(patience)?;
        let len = peeked.len();
        let place = match peeked.in_one_piece() {
            Some(at) => Place::InRing(at, len),
            None => Place::Own(peeked.copy().ok_or(NotReceived::NoMemory(len))?),
        };
        Ok(Message { end: Receiving::Queue(peeked), place })
    }
}
