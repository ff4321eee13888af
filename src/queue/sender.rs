//! [`Sender`]: the sending end of a channel.

use std::{fmt, marker::PhantomData, time::Duration};

use crate::{
    error::{ClaimError, CodecError, SendError, SendManyError, SendTimeoutError, TrySendError},
    primitive::Deadline,
    queue::{
        claim::NotClaimed,
        codec::{Codec, Serde},
        ends::Landing,
        lane::{Hindrance, RawSender},
    },
    region::portable,
    sync::{MAX_HELD, Patience},
};

/// The sending end of a [`channel`](crate::channel).
///
/// It belongs to the thread that first uses or [`claim`](Sender::claim)s it, and cannot be cloned. When `send` returns
/// the message is in shared memory: the sender may end, or be killed, at once. One that is killed in the middle of an
/// operation has sent nothing by it, or all.
pub struct Sender<T, C = Serde> {
    raw: RawSender,
    _codec: PhantomData<fn(T) -> C>,
}

portable!(of (T, C) Sender<T, C> { raw, _codec });

impl<T, C> Sender<T, C> {
    pub(super) fn new(raw: RawSender) -> Sender<T, C> {
        Sender { raw, _codec: PhantomData }
    }

    /// Makes the end the calling thread's, as the first use does. From then on the receiver knows when its holder dies.
    ///
    /// # Errors
    /// [`ClaimError`] says who has it, or why it cannot be had.
    pub fn claim(&mut self) -> Result<(), ClaimError> {
        self.raw.claim().map_err(claim_error)
    }

    /// Gives the end back, so that another thread, or another process that has a copy, may claim it. Nothing is told to
    /// the receiver, which waits for whoever that will be.
    ///
    /// # Errors
    /// [`ClaimError::Held`] if it is another's.
    pub fn release(&mut self) -> Result<(), ClaimError> {
        self.raw.release().map_or(Ok(()), |word| Err(ClaimError::Held { by: word.owner() }))
    }

    /// Closes the end for good, in every process: the receiver receives what there is, and then `Disconnected`. Closing
    /// again does nothing.
    ///
    /// # Errors
    /// [`ClaimError::Held`] if it is another's.
    pub fn close(&mut self) -> Result<(), ClaimError> {
        self.raw.close().map_err(claim_error)
    }

    /// Whether this end was closed.
    pub fn is_closed(&self) -> bool {
        self.raw.is_closed().0
    }

    /// Whether the receiver was closed, or has died and has no heir yet.
    pub fn is_disconnected(&self) -> bool {
        self.raw.is_closed().1
    }

    /// How many messages are in the channel: exact at some instant of the call.
    #[doc(alias = "qsize")]
    pub fn len(&self) -> usize {
        self.raw.len()
    }

    /// Whether there is no message in it, at some instant of the call.
    #[doc(alias = "empty")]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The size of the channel in bytes: what was asked for, rounded up to a multiple of 64.
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

    pub(super) fn raw(&mut self) -> &mut RawSender {
        &mut self.raw
    }
}

impl<T, C: Codec<T>> Sender<T, C> {
    /// Sends `value`, waiting for room as long as it takes.
    ///
    /// # Errors
    /// The value comes back in each of them:
    /// - [`SendError::Disconnected`], also while waiting: the receiver was closed, or died.
    /// - [`SendError::Closed`]: this end was.
    /// - [`SendError::Claim`]: this end is not the calling thread's.
    /// - [`SendError::TooLong`] for a message that the channel could never hold; [`SendError::Encode`].
    /// - [`SendError::Damaged`]: the receiver wrote what it should not.
    ///
    /// # References
    /// Python `Connection.send(obj)`, `SimpleQueue.put(obj)`.
    #[doc(alias = "put")]
    #[inline]
    pub fn send(&mut self, value: T) -> Result<(), SendError<T>> {
        match self.send_within(&value, Patience::FOREVER) {
            Ok(()) => Ok(()),
            Err(why) => Err(why.of(value)),
        }
    }

    /// Sends `value` if there is room now.
    ///
    /// # Errors
    /// [`TrySendError::Full`], and as for [`send`](Sender::send).
    #[doc(alias = "put_nowait")]
    #[inline]
    pub fn try_send(&mut self, value: T) -> Result<(), TrySendError<T>> {
        match self.send_within(&value, Patience::None) {
            Ok(()) => Ok(()),
            Err(why) => Err(why.of_try(value)),
        }
    }

    /// Sends `value`, waiting for room at most `timeout` (CLOCK_MONOTONIC, from the call; zero tries once).
    ///
    /// # Errors
    /// [`SendTimeoutError::TimedOut`], and as for [`send`](Sender::send).
    pub fn send_timeout(&mut self, value: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        self.send_deadline(value, Deadline::after(timeout))
    }

    /// Sends `value`, waiting for room at most until `deadline`.
    ///
    /// # Errors
    /// As for [`send_timeout`](Sender::send_timeout).
    pub fn send_deadline(&mut self, value: T, deadline: Deadline) -> Result<(), SendTimeoutError<T>> {
        match self.send_within(&value, Patience::Until(Some(deadline))) {
            Ok(()) => Ok(()),
            Err(why) => Err(why.of_timeout(value)),
        }
    }

    #[inline]
    fn send_within(&mut self, value: &T, patience: Patience) -> Result<(), Unsent> {
        let limit = self.raw.max_len();
        let raw = &mut self.raw;
        let sent = C::encode(value, |payload| {
            // The capacity is a multiple of what has a fixed length.
            if C::Landing::FIXED.is_none() && payload.len() > limit {
                return Err(Unsent::TooLong { len: payload.len(), limit });
            }
            raw.send::<C::Landing>(payload, patience).map_err(Unsent::Hindered)
        });
        sent.map_err(Unsent::Encode)?
    }

    /// Sends all `values`, in order, and leaves the list empty; waits for room as long as it takes. What there is room
    /// for is committed at once.
    ///
    /// A sender that is killed has sent some of the first of them.
    ///
    /// # Errors
    /// [`SendManyError`] says how many were sent; the others stay in the list. A value that is too long, or that cannot
    /// be encoded, stands at its head then.
    ///
    /// # Examples
    /// ```
    /// let (mut sender, mut receiver) = pshared::Channel::new(4096).plain::<u64>()?;
    /// let mut numbers = vec![1, 2, 3];
    /// sender.send_many(&mut numbers).unwrap();
    /// assert_eq!(receiver.recv_many(&mut numbers, 10).unwrap(), 3);
    /// assert_eq!(numbers, [1, 2, 3]);
    /// # Ok::<(), pshared::RegionError>(())
    /// ```
    pub fn send_many(&mut self, values: &mut Vec<T>) -> Result<(), SendManyError> {
        self.send_all(values, Patience::FOREVER)
    }

    /// Sends as many of the first `values` as there is room for now, and takes them from the list.
    ///
    /// # Errors
    /// [`SendManyError::Full`] if that was not all; else as for [`send_many`](Sender::send_many).
    pub fn try_send_many(&mut self, values: &mut Vec<T>) -> Result<(), SendManyError> {
        self.send_all(values, Patience::None)
    }

    /// As [`send_many`](Sender::send_many), waiting at most `timeout` in all.
    ///
    /// # Errors
    /// [`SendManyError::TimedOut`] if there was no room for all of them in time; else as for
    /// [`send_many`](Sender::send_many).
    pub fn send_many_timeout(&mut self, values: &mut Vec<T>, timeout: Duration) -> Result<(), SendManyError> {
        self.send_many_deadline(values, Deadline::after(timeout))
    }

    /// As [`send_many`](Sender::send_many), waiting at most until `deadline`.
    ///
    /// # Errors
    /// As for [`send_many_timeout`](Sender::send_many_timeout).
    pub fn send_many_deadline(
        &mut self,
        values: &mut Vec<T>,
        deadline: Deadline,
    ) -> Result<(), SendManyError> {
        self.send_all(values, Patience::Until(Some(deadline)))
    }

    #[inline]
    fn send_all(&mut self, values: &mut Vec<T>, patience: Patience) -> Result<(), SendManyError> {
        let limit = self.raw.max_len();
        let mut unsent = Rest { values, sent: 0 };
        let mut batch = self.raw.begin().map_err(|why| Unsent::Hindered(why).of_many(0))?;
        if let Some(payloads) = C::as_records(unsent.values) {
            let added = batch.add_all::<C::Landing>(payloads, size_of::<T>(), patience);
            unsent.sent = batch.commit();
            return added.map_err(|why| Unsent::Hindered(why).of_many(unsent.sent));
        }
        let mut refused = None;
        for value in &*unsent.values {
            let added = C::encode(value, |payload| {
                if payload.len() > limit {
                    return Err(Unsent::TooLong { len: payload.len(), limit });
                }
                batch.add::<C::Landing>(payload, patience).map_err(Unsent::Hindered)
            });
            if let Err(why) = added.map_err(Unsent::Encode).and_then(|added| added) {
                refused = Some(why);
                break;
            }
            unsent.sent = batch.committed();
        }
        unsent.sent = batch.commit();
        refused.map_or(Ok(()), |why| Err(why.of_many(unsent.sent)))
    }

    /// Whether not even the shortest message would be accepted, at some instant of the call.
    #[doc(alias = "full")]
    pub fn is_full(&self) -> bool {
        self.raw.is_full_for::<C::Landing>(C::SHORTEST)
    }
}

/// The values that are not yet sent. Dropped, it takes those that are out of the caller's list: also when a value's
/// serialisation panics.
struct Rest<'a, T> {
    values: &'a mut Vec<T>,
    sent: usize,
}

impl<T> Drop for Rest<'_, T> {
    fn drop(&mut self) {
        self.values.drain(..self.sent);
    }
}

/// Why a value was not sent, before it is given the caller's name.
pub(super) enum Unsent {
    Hindered(Hindrance),
    TooLong { len: usize, limit: usize },
    Encode(CodecError),
}

/// Who has an end, and that there is garbage, in words for users.
pub(super) fn claim_error(hindrance: Hindrance) -> ClaimError {
    match hindrance {
        Hindrance::NotOurs(NotClaimed::Held(by)) => ClaimError::Held { by },
        Hindrance::NotOurs(NotClaimed::TooMany(held)) => ClaimError::TooManyHeld { held, limit: MAX_HELD },
        Hindrance::Damaged { found, limit } => ClaimError::Damaged { found, limit },
        _ => ClaimError::Closed,
    }
}

/// The three errors of one value differ in the name that `Blocked` and `TimedOut` have.
macro_rules! unsent_as {
    ($name:ident, $error:ident, $blocked:ident) => {
        #[cold]
        pub(super) fn $name<T>(self, value: T) -> $error<T> {
            match self {
                Unsent::TooLong { len, limit } => $error::TooLong { value, len, limit },
                Unsent::Encode(source) => $error::Encode { value, source },
                Unsent::Hindered(why) => match why {
                    Hindrance::Gone => $error::Disconnected(value),
                    Hindrance::NotOurs(NotClaimed::Closed) => $error::Closed(value),
                    Hindrance::NotOurs(_) => $error::Claim { value, source: claim_error(why) },
                    Hindrance::Damaged { found, limit } => $error::Damaged { value, found, limit },
                    Hindrance::Blocked | Hindrance::TimedOut | Hindrance::NoMemory(_) => {
                        $error::$blocked(value)
                    }
                },
            }
        }
    };
}

impl Unsent {
    // Without a limit nothing ends a wait but these.
    unsent_as!(of, SendError, Disconnected);
    unsent_as!(of_try, TrySendError, Full);
    unsent_as!(of_timeout, SendTimeoutError, TimedOut);

    #[cold]
    fn of_many(self, sent: usize) -> SendManyError {
        match self {
            Unsent::TooLong { len, limit } => SendManyError::TooLong { sent, len, limit },
            Unsent::Encode(source) => SendManyError::Encode { sent, source },
            Unsent::Hindered(why) => match why {
                Hindrance::Gone => SendManyError::Disconnected { sent },
                Hindrance::NotOurs(NotClaimed::Closed) => SendManyError::Closed { sent },
                Hindrance::NotOurs(_) => SendManyError::Claim { sent, source: claim_error(why) },
                Hindrance::Damaged { found, limit } => SendManyError::Damaged { sent, found, limit },
                Hindrance::TimedOut => SendManyError::TimedOut { sent },
                Hindrance::Blocked | Hindrance::NoMemory(_) => SendManyError::Full { sent },
            },
        }
    }
}

impl<T, C> fmt::Debug for Sender<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [holder, receiver] = self.raw.holders();
        f.debug_struct("Sender")
            .field("len", &self.len())
            .field("capacity", &self.capacity())
            .field("max_items", &self.max_items())
            .field("closed", &self.is_closed())
            .field("disconnected", &self.is_disconnected())
            .field("end", &holder)
            .field("receiver", &receiver)
            .finish()
    }
}
