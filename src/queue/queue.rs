//! [`Queue`]: what users hold.

use std::{fmt, marker::PhantomData, time::Duration};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    error::{
        CodecError, RecvError, RecvTimeoutError, RegionError, SendError, SendTimeoutError, TryRecvError,
        TrySendError,
    },
    primitive::Deadline,
    queue::{
        capacity::Capacity,
        codec::{Bytes, Codec, PlainData, Serde},
        ends::{NotReceived, NotSent, RawQueue},
        ring::Damage,
    },
    region::{Plain, Region, in_arena, portable},
    sync::Patience,
};

/// A bounded first-in first-out queue between processes: many senders, many receivers, no helper thread.
///
/// A message that `send` accepted is in shared memory when `send` returns: its sender may end, or be killed, at once.
/// Whoever is killed while it uses the queue costs at most what it was itself doing: a message not yet accepted is
/// never seen, one that a receiver has taken is gone with it, and nobody else waits for the dead. A *stopped* process
/// in the middle of an operation holds up its end of the queue; timeouts and `try_` forms still end.
///
/// Messages keep the order in which they were accepted. The capacity is in bytes, and, if asked for, in messages
/// ([`Capacity`]): a message takes 8 bytes and its own length, rounded up to a multiple of 8. `C` says how values
/// travel: [`new`](Queue::new) takes any serde type, [`plain`](Queue::plain) copies plain data as it is, and
/// [`bytes`](Queue::bytes) are written and read in place. A clone is another handle to the same queue.
///
/// Whoever wants the other end to learn of its own end registers: [`sender`](Queue::sender),
/// [`receiver`](Queue::receiver).
///
/// # Examples
/// ```
/// let queue = pshared::Queue::new(4096)?;
/// queue.send(("answer".to_string(), 42)).unwrap();
/// assert_eq!(queue.recv().unwrap(), ("answer".to_string(), 42));
/// queue.close();
/// assert!(queue.recv().is_err());
/// # Ok::<(), pshared::RegionError>(())
/// ```
///
/// # References
/// Python `multiprocessing.Queue`, which writes from a helper thread and wedges when a reader is killed; the errors
/// have the shapes of crossbeam-channel's.
pub struct Queue<T, C = Serde> {
    pub(super) raw: RawQueue,
    _codec: PhantomData<fn(T) -> (T, C)>,
}

portable!(of (T, C) Queue<T, C> { raw, _codec });

impl<T: Serialize + DeserializeOwned> Queue<T> {
    /// A queue of at least `capacity` bytes in anonymous memory, which children forked from now on inherit. It takes
    /// 512 bytes beside them.
    ///
    /// # Errors
    /// [`RegionError::ZeroSize`]; [`RegionError::TooLarge`] beyond 4 GiB; else what [`Region::anonymous`] says.
    pub fn new(capacity: impl Into<Capacity>) -> Result<Queue<T>, RegionError> {
        Queue::make(capacity.into())
    }

    /// A queue of at least `capacity` bytes in `region`.
    ///
    /// # Errors
    /// As for [`new`](Queue::new); [`RegionError::NoRoom`].
    pub fn new_in(region: &Region, capacity: impl Into<Capacity>) -> Result<Queue<T>, RegionError> {
        Queue::make_in(region, capacity.into())
    }
}

impl<T: Plain> Queue<T, PlainData> {
    /// As [`new`](Queue::new), for plain data, which is copied as it is.
    ///
    /// # Errors
    /// As for [`new`](Queue::new).
    ///
    /// # Examples
    /// ```
    /// let queue = pshared::Queue::plain(4096)?;
    /// queue.send([1.5_f64, 2.5]).unwrap();
    /// assert_eq!(queue.recv().unwrap(), [1.5, 2.5]);
    /// # Ok::<(), pshared::RegionError>(())
    /// ```
    pub fn plain(capacity: impl Into<Capacity>) -> Result<Queue<T, PlainData>, RegionError> {
        Queue::make(capacity.into())
    }

    /// As [`plain`](Queue::plain), in `region`.
    ///
    /// # Errors
    /// As for [`new`](Queue::new); [`RegionError::NoRoom`].
    pub fn plain_in(
        region: &Region,
        capacity: impl Into<Capacity>,
    ) -> Result<Queue<T, PlainData>, RegionError> {
        Queue::make_in(region, capacity.into())
    }
}

impl Queue<Vec<u8>, Bytes> {
    /// As [`new`](Queue::new), for byte strings, whole, or written and read in place: [`reserve`](Queue::reserve) and
    /// [`read`](Queue::read).
    ///
    /// # Errors
    /// As for [`new`](Queue::new).
    pub fn bytes(capacity: impl Into<Capacity>) -> Result<Queue<Vec<u8>, Bytes>, RegionError> {
        Queue::make(capacity.into())
    }

    /// As [`bytes`](Queue::bytes), in `region`.
    ///
    /// # Errors
    /// As for [`new`](Queue::new); [`RegionError::NoRoom`].
    pub fn bytes_in(
        region: &Region,
        capacity: impl Into<Capacity>,
    ) -> Result<Queue<Vec<u8>, Bytes>, RegionError> {
        Queue::make_in(region, capacity.into())
    }
}

impl<T, C: Codec<T>> Queue<T, C> {
    fn make(capacity: Capacity) -> Result<Queue<T, C>, RegionError> {
        in_arena(RawQueue::footprint(capacity.bounds()?), |region| Queue::make_in(region, capacity))
    }

    fn make_in(region: &Region, capacity: Capacity) -> Result<Queue<T, C>, RegionError> {
        Ok(Queue { raw: RawQueue::new_in(region, capacity.bounds()?)?, _codec: PhantomData })
    }

    /// Sends `value`, waiting for room as long as it takes.
    ///
    /// # Errors
    /// The value comes back in each of them: [`SendError::Closed`] and [`SendError::Disconnected`], also while waiting;
    /// [`SendError::TooLong`] for a message that the queue could never hold; [`SendError::Encode`];
    /// [`SendError::Damaged`] if a peer has left in the shared memory what no user of a queue does.
    ///
    /// # References
    /// Python `Queue.put(obj)`.
    #[doc(alias = "put")]
    #[inline]
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        Ok(send::<T, C>(&self.raw, self.raw.max_len(), value, Patience::FOREVER)?)
    }

    /// Sends `value` if there is room now.
    ///
    /// It judges by what is in the queue. If there is room but another process is in the middle of sending, it waits
    /// for that at most a millisecond.
    ///
    /// # Errors
    /// [`TrySendError::Full`], and as for [`send`](Queue::send).
    ///
    /// # References
    /// Python `Queue.put_nowait(obj)`.
    #[doc(alias = "put_nowait")]
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        Ok(send::<T, C>(&self.raw, self.raw.max_len(), value, Patience::None)?)
    }

    /// Sends `value`, waiting for room at most `timeout` (CLOCK_MONOTONIC, from the call; zero tries once).
    ///
    /// # Errors
    /// [`SendTimeoutError::TimedOut`], and as for [`send`](Queue::send).
    pub fn send_timeout(&self, value: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        self.send_deadline(value, Deadline::after(timeout))
    }

    /// Sends `value`, waiting for room at most until `deadline`.
    ///
    /// # Errors
    /// As for [`send_timeout`](Queue::send_timeout).
    pub fn send_deadline(&self, value: T, deadline: Deadline) -> Result<(), SendTimeoutError<T>> {
        Ok(send::<T, C>(&self.raw, self.raw.max_len(), value, Patience::Until(Some(deadline)))?)
    }

    /// Receives the oldest message, waiting for one as long as it takes.
    ///
    /// # Errors
    /// [`RecvError::Closed`] when the queue is closed and empty; [`RecvError::Disconnected`] when it is empty and all
    /// registered senders have ended; [`RecvError::Decode`] for a message that is no `T`, which is gone;
    /// [`RecvError::OutOfMemory`] for one that this process has no room for, which stays.
    ///
    /// # References
    /// Python `Queue.get()`.
    #[doc(alias = "get")]
    #[inline]
    pub fn recv(&self) -> Result<T, RecvError> {
        self.recv_within(Patience::FOREVER)?.map_err(RecvError::Decode)
    }

    /// Receives the oldest message if there is one now.
    ///
    /// It judges by what is in the queue. If there is a message but another process is in the middle of receiving, it
    /// waits for that at most a millisecond.
    ///
    /// # Errors
    /// [`TryRecvError::Empty`], and as for [`recv`](Queue::recv).
    ///
    /// # References
    /// Python `Queue.get_nowait()`.
    #[doc(alias = "get_nowait")]
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.recv_within(Patience::None)?.map_err(TryRecvError::Decode)
    }

    /// Receives the oldest message, waiting for one at most `timeout` (CLOCK_MONOTONIC, from the call; zero tries
    /// once).
    ///
    /// # Errors
    /// [`RecvTimeoutError::TimedOut`], and as for [`recv`](Queue::recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.recv_deadline(Deadline::after(timeout))
    }

    /// Receives the oldest message, waiting for one at most until `deadline`.
    ///
    /// # Errors
    /// As for [`recv_timeout`](Queue::recv_timeout).
    pub fn recv_deadline(&self, deadline: Deadline) -> Result<T, RecvTimeoutError> {
        self.recv_within(Patience::Until(Some(deadline)))?.map_err(RecvTimeoutError::Decode)
    }

    fn recv_within(&self, patience: Patience) -> Result<Result<T, CodecError>, NotReceived> {
        let mut landing = C::landing();
        self.raw.recv(&mut landing, patience)?;
        Ok(C::decode(landing))
    }

    /// Ends sending, in every process: senders get their value back, receivers drain the queue and then see `Closed`.
    ///
    /// All who wait wake up. Closing again does nothing.
    pub fn close(&self) {
        self.raw.close();
    }

    /// Whether somebody closed it. There may still be messages to receive.
    pub fn is_closed(&self) -> bool {
        self.raw.is_closed()
    }

    /// How many messages are in it: exact at some instant of the call.
    #[doc(alias = "qsize")]
    pub fn len(&self) -> usize {
        self.raw.len()
    }

    /// Whether there is no message in it, at some instant of the call.
    #[doc(alias = "empty")]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether not even the shortest message would be accepted, at some instant of the call.
    #[doc(alias = "full")]
    pub fn is_full(&self) -> bool {
        self.raw.is_full_for(C::SHORTEST)
    }

    /// The size of its buffer in bytes: what was asked for, rounded up to a multiple of 64.
    pub fn capacity(&self) -> usize {
        self.raw.capacity()
    }

    /// The most messages it may hold, if that was asked for.
    pub fn max_items(&self) -> Option<usize> {
        self.raw.most().map(|most| most as usize)
    }

    /// The longest message it can hold, in encoded bytes: the capacity less 8.
    pub fn max_message_len(&self) -> usize {
        self.raw.max_len()
    }
}

/// Encodes `value` and sends it, if it is not longer than `limit`.
#[inline]
pub(super) fn send<T, C: Codec<T>>(
    raw: &RawQueue,
    limit: usize,
    value: T,
    patience: Patience,
) -> Result<(), Failed<T>> {
    let sent = C::encode(&value, |payload| {
        if payload.len() > limit { Err(payload.len()) } else { Ok(raw.send(payload, patience)) }
    });
    match sent {
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(Ok(Err(reason))) => Err(Failed::NotSent(reason, value)),
        Ok(Err(len)) => Err(Failed::TooLong { value, len, limit }),
        Err(source) => Err(Failed::Encode { value, source }),
    }
}

impl From<NotReceived> for RecvError {
    fn from(why: NotReceived) -> RecvError {
        match why {
            NotReceived::NoMemory(len) => RecvError::OutOfMemory { len },
            NotReceived::Damaged(Damage { found, limit }) => RecvError::Damaged { found, limit },
            NotReceived::Disconnected => RecvError::Disconnected,
            // Without a limit nothing else ends a wait.
            NotReceived::Closed | NotReceived::Empty | NotReceived::TimedOut => RecvError::Closed,
        }
    }
}

impl From<NotReceived> for TryRecvError {
    fn from(why: NotReceived) -> TryRecvError {
        match why {
            NotReceived::NoMemory(len) => TryRecvError::OutOfMemory { len },
            NotReceived::Damaged(Damage { found, limit }) => TryRecvError::Damaged { found, limit },
            NotReceived::Disconnected => TryRecvError::Disconnected,
            NotReceived::Closed => TryRecvError::Closed,
            NotReceived::Empty | NotReceived::TimedOut => TryRecvError::Empty,
        }
    }
}

impl From<NotReceived> for RecvTimeoutError {
    fn from(why: NotReceived) -> RecvTimeoutError {
        match why {
            NotReceived::NoMemory(len) => RecvTimeoutError::OutOfMemory { len },
            NotReceived::Damaged(Damage { found, limit }) => RecvTimeoutError::Damaged { found, limit },
            NotReceived::Disconnected => RecvTimeoutError::Disconnected,
            NotReceived::Closed => RecvTimeoutError::Closed,
            NotReceived::Empty | NotReceived::TimedOut => RecvTimeoutError::TimedOut,
        }
    }
}

/// What can go wrong with a send, before it is given the caller's name.
pub(super) enum Failed<T> {
    NotSent(NotSent, T),
    TooLong { value: T, len: usize, limit: usize },
    Encode { value: T, source: CodecError },
}

impl<T> From<Failed<T>> for SendError<T> {
    fn from(failed: Failed<T>) -> SendError<T> {
        match failed {
            Failed::NotSent(NotSent::Disconnected, value) => SendError::Disconnected(value),
            Failed::NotSent(NotSent::Damaged(Damage { found, limit }), value) => {
                SendError::Damaged { value, found, limit }
            }
            Failed::NotSent(_, value) => SendError::Closed(value),
            Failed::TooLong { value, len, limit } => SendError::TooLong { value, len, limit },
            Failed::Encode { value, source } => SendError::Encode { value, source },
        }
    }
}

impl<T> From<Failed<T>> for TrySendError<T> {
    fn from(failed: Failed<T>) -> TrySendError<T> {
        match failed {
            Failed::NotSent(NotSent::Closed, value) => TrySendError::Closed(value),
            Failed::NotSent(NotSent::Disconnected, value) => TrySendError::Disconnected(value),
            Failed::NotSent(NotSent::Damaged(Damage { found, limit }), value) => {
                TrySendError::Damaged { value, found, limit }
            }
            Failed::NotSent(_, value) => TrySendError::Full(value),
            Failed::TooLong { value, len, limit } => TrySendError::TooLong { value, len, limit },
            Failed::Encode { value, source } => TrySendError::Encode { value, source },
        }
    }
}

impl<T> From<Failed<T>> for SendTimeoutError<T> {
    fn from(failed: Failed<T>) -> SendTimeoutError<T> {
        match failed {
            Failed::NotSent(NotSent::Closed, value) => SendTimeoutError::Closed(value),
            Failed::NotSent(NotSent::Disconnected, value) => SendTimeoutError::Disconnected(value),
            Failed::NotSent(NotSent::Damaged(Damage { found, limit }), value) => {
                SendTimeoutError::Damaged { value, found, limit }
            }
            Failed::NotSent(_, value) => SendTimeoutError::TimedOut(value),
            Failed::TooLong { value, len, limit } => SendTimeoutError::TooLong { value, len, limit },
            Failed::Encode { value, source } => SendTimeoutError::Encode { value, source },
        }
    }
}

impl<T, C> Clone for Queue<T, C> {
    fn clone(&self) -> Queue<T, C> {
        Queue { raw: self.raw.clone(), _codec: PhantomData }
    }
}

impl<T, C> fmt::Debug for Queue<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sending, receiving) = self.raw.locks();
        let mut debug = f.debug_struct("Queue");
        debug
            .field("len", &self.raw.len())
            .field("capacity", &self.raw.capacity())
            .field("max_items", &self.raw.most())
            .field("closed", &self.raw.is_closed())
            .field("sending", &sending)
            .field("receiving", &receiving);
        if let Some(peers) = self.raw.peers() {
            debug
                .field("senders", &peers.senders().owners().collect::<Vec<_>>())
                .field("receivers", &peers.receivers().owners().collect::<Vec<_>>());
        }
        debug.finish()
    }
}
