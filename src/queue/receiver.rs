//! [`Receiver`]: the receiving end of a channel.

use std::{fmt, marker::PhantomData, time::Duration};

use crate::{
    error::{ClaimError, CodecError, RecvError, RecvTimeoutError, TryRecvError},
    primitive::Deadline,
    queue::{
        claim::{Bed, NotClaimed},
        codec::{Codec, Serde},
        lane::{Hindrance, RawReceiver},
        sender::claim_error,
    },
    region::portable,
    sync::Patience,
};

/// The receiving end of a [`channel`](crate::channel).
///
/// It belongs to the thread that first uses or [`claim`](Receiver::claim)s it, and cannot be cloned. A receiver that is
/// killed takes at most the message along that `recv` had just given it, or those of one `recv_many`; whoever has a
/// copy may claim the end and go on.
pub struct Receiver<T, C = Serde> {
    raw: RawReceiver,
    _codec: PhantomData<fn(C) -> T>,
}

portable!(of (T, C) Receiver<T, C> { raw, _codec });

impl<T, C> Receiver<T, C> {
    pub(super) fn new(raw: RawReceiver) -> Receiver<T, C> {
        Receiver { raw, _codec: PhantomData }
    }

    /// Makes the end the calling thread's, as the first use does. From then on the sender knows when its holder dies.
    ///
    /// # Errors
    /// [`ClaimError`] says who has it, or why it cannot be had.
    pub fn claim(&mut self) -> Result<(), ClaimError> {
        self.raw.claim().map_err(claim_error)
    }

    /// Gives the end back, so that another thread, or another process that has a copy, may claim it. Nothing is told to
    /// the sender, which waits for whoever that will be.
    ///
    /// # Errors
    /// [`ClaimError::Held`] if it is another's.
    pub fn release(&mut self) -> Result<(), ClaimError> {
        self.raw.release().map_or(Ok(()), |word| Err(ClaimError::Held { by: word.owner() }))
    }

    /// Closes the end for good, in every process: the sender is told `Disconnected`. What is in the channel stays
    /// there. Closing again does nothing.
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

    /// Whether the sender was closed, or has died and has no heir yet. There may still be messages.
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
    #[doc(alias = "poll")]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The size of the channel in bytes: what was asked for, rounded up to a multiple of 64.
    pub fn capacity(&self) -> usize {
        self.raw.capacity()
    }

    pub(super) fn raw(&mut self) -> &mut RawReceiver {
        &mut self.raw
    }

    /// [`RawReceiver::watch`].
    pub(super) fn bed(&self) -> Option<Bed<'_>> {
        self.raw.watch()
    }
}

impl<T, C: Codec<T>> Receiver<T, C> {
    /// Receives the oldest message, waiting for one as long as it takes.
    ///
    /// # Errors
    /// - [`RecvError::Disconnected`]: all is received, and the sender was closed, or died.
    /// - [`RecvError::Closed`]: this end was.
    /// - [`RecvError::Claim`]: this end is not the calling thread's.
    /// - [`RecvError::Decode`] for a message that is no `T`, which is gone; [`RecvError::OutOfMemory`] for one that
    ///   this process has no room for, which stays.
    /// - [`RecvError::Damaged`]: the sender wrote what it should not.
    ///
    /// # References
    /// Python `Connection.recv()`, `SimpleQueue.get()`.
    #[doc(alias = "get")]
    #[inline]
    pub fn recv(&mut self) -> Result<T, RecvError> {
        self.recv_within(Patience::FOREVER).map_err(Unreceived::of)
    }

    /// Receives the oldest message if there is one now.
    ///
    /// # Errors
    /// [`TryRecvError::Empty`], and as for [`recv`](Receiver::recv).
    #[doc(alias = "get_nowait")]
    #[inline]
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        self.recv_within(Patience::None).map_err(Unreceived::of_try)
    }

    /// Receives the oldest message, waiting for one at most `timeout` (CLOCK_MONOTONIC, from the call; zero tries
    /// once).
    ///
    /// # Errors
    /// [`RecvTimeoutError::TimedOut`], and as for [`recv`](Receiver::recv).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.recv_deadline(Deadline::after(timeout))
    }

    /// Receives the oldest message, waiting for one at most until `deadline`.
    ///
    /// # Errors
    /// As for [`recv_timeout`](Receiver::recv_timeout).
    pub fn recv_deadline(&mut self, deadline: Deadline) -> Result<T, RecvTimeoutError> {
        self.recv_within(Patience::Until(Some(deadline))).map_err(Unreceived::of_timeout)
    }

    #[inline]
    fn recv_within(&mut self, patience: Patience) -> Result<T, Unreceived> {
        let mut landing = C::landing();
        self.raw.recv(&mut landing, patience).map_err(Unreceived::Hindered)?;
        C::decode(landing).map_err(Unreceived::Decode)
    }

    /// Receives at most `most` messages, waiting for the first as long as it takes, and appends them to `into`. Says
    /// how many there were: at least one, unless `most` is 0, which asks for nothing and waits for nothing.
    ///
    /// They are taken at once, when the last is decoded. A receiver that is killed before has taken none, and one that
    /// is killed after that takes them along.
    ///
    /// # Errors
    /// As for [`recv`](Receiver::recv), for the first message. A later one that has no room in memory, or is garbage,
    /// stays for the next call; one that cannot be decoded is gone, and those after it are not taken: its error is
    /// returned, and what was decoded is in `into`.
    pub fn recv_many(&mut self, into: &mut Vec<T>, most: usize) -> Result<usize, RecvError> {
        self.recv_batch(into, most, Patience::FOREVER).map_err(Unreceived::of)
    }

    /// As [`recv_many`](Receiver::recv_many), if there is a message now.
    ///
    /// # Errors
    /// As for [`try_recv`](Receiver::try_recv), and [`recv_many`](Receiver::recv_many).
    pub fn try_recv_many(&mut self, into: &mut Vec<T>, most: usize) -> Result<usize, TryRecvError> {
        self.recv_batch(into, most, Patience::None).map_err(Unreceived::of_try)
    }

    /// As [`recv_many`](Receiver::recv_many), waiting for the first message at most `timeout`.
    ///
    /// # Errors
    /// As for [`recv_timeout`](Receiver::recv_timeout), and [`recv_many`](Receiver::recv_many).
    pub fn recv_many_timeout(
        &mut self,
        into: &mut Vec<T>,
        most: usize,
        timeout: Duration,
    ) -> Result<usize, RecvTimeoutError> {
        self.recv_many_deadline(into, most, Deadline::after(timeout))
    }

    /// As [`recv_many`](Receiver::recv_many), waiting for the first message at most until `deadline`.
    ///
    /// # Errors
    /// As for [`recv_many_timeout`](Receiver::recv_many_timeout).
    pub fn recv_many_deadline(
        &mut self,
        into: &mut Vec<T>,
        most: usize,
        deadline: Deadline,
    ) -> Result<usize, RecvTimeoutError> {
        self.recv_batch(into, most, Patience::Until(Some(deadline))).map_err(Unreceived::of_timeout)
    }

    #[inline]
    fn recv_batch(
        &mut self,
        into: &mut Vec<T>,
        most: usize,
        patience: Patience,
    ) -> Result<usize, Unreceived> {
        let mut received = 0;
        if most == 0 {
            return Ok(received);
        }
        let mut taking = self.raw.begin(patience).map_err(Unreceived::Hindered)?;
        while received < most && taking.has_more() {
            if let Some(taken) = C::take_records(&mut taking, into, most - received) {
                match taken {
                    Err(why) if received == 0 => return Err(Unreceived::Hindered(why)),
                    Err(_) => break,
                    Ok(records) => received += records,
                }
                continue;
            }
            let mut landing = C::landing();
            match taking.next(&mut landing) {
                Err(why) if received == 0 => return Err(Unreceived::Hindered(why)),
                Err(_) => break,
                Ok(()) => {}
            }
            into.push(C::decode(landing).map_err(Unreceived::Decode)?);
            received += 1;
        }
        Ok(received)
    }

    /// Receives message after message, waiting for each, and ends when all is received and the sender is gone. What
    /// else can go wrong with a message comes in its place.
    ///
    /// # Examples
    /// ```
    /// let (mut sender, mut receiver) = pshared::channel(4096)?;
    /// sender.send(1).unwrap();
    /// sender.send(2).unwrap();
    /// drop(sender);
    /// let sum: Result<i32, _> = receiver.iter().sum();
    /// assert_eq!(sum, Ok(3));
    /// # Ok::<(), pshared::RegionError>(())
    /// ```
    pub fn iter(&mut self) -> impl Iterator<Item = Result<T, RecvError>> + '_ {
        let mut over = false;
        std::iter::from_fn(move || self.next_until(&mut over))
    }

    /// Receives message after message, as long as there are any, without waiting.
    pub fn try_iter(&mut self) -> impl Iterator<Item = Result<T, RecvError>> + '_ {
        let mut over = false;
        std::iter::from_fn(move || match self.recv_within(Patience::None) {
            _ if over => None,
            Ok(message) => Some(Ok(message)),
            Err(Unreceived::Hindered(Hindrance::Blocked)) => None,
            Err(why) => item(why, &mut over),
        })
    }

    /// The next item of an iteration that waits.
    fn next_until(&mut self, over: &mut bool) -> Option<Result<T, RecvError>> {
        if *over {
            return None;
        }
        match self.recv_within(Patience::FOREVER) {
            Ok(message) => Some(Ok(message)),
            Err(why) => item(why, over),
        }
    }
}

/// What takes the place of a message in an iteration; nothing at its end. What would come again and again comes once.
fn item<T>(why: Unreceived, over: &mut bool) -> Option<Result<T, RecvError>> {
    *over = !matches!(why, Unreceived::Decode(_) | Unreceived::Hindered(Hindrance::NoMemory(_)));
    match why {
        Unreceived::Hindered(Hindrance::Gone | Hindrance::NotOurs(NotClaimed::Closed)) => None,
        why => Some(Err(why.of())),
    }
}

impl<T, C: Codec<T>> IntoIterator for Receiver<T, C> {
    type Item = Result<T, RecvError>;
    type IntoIter = Messages<T, C>;

    fn into_iter(self) -> Messages<T, C> {
        Messages { receiver: self, over: false }
    }
}

/// A [`Receiver`] that is iterated over by value.
#[derive(Debug)]
pub struct Messages<T, C> {
    receiver: Receiver<T, C>,
    over: bool,
}

impl<T, C: Codec<T>> Iterator for Messages<T, C> {
    type Item = Result<T, RecvError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.receiver.next_until(&mut self.over)
    }
}

/// Why there is no message, before it is given the caller's name.
pub(super) enum Unreceived {
    Hindered(Hindrance),
    Decode(CodecError),
}

/// The three errors differ in the name that `Blocked` and `TimedOut` have.
macro_rules! unreceived_as {
    ($name:ident, $error:ident, $blocked:ident) => {
        #[cold]
        pub(super) fn $name(self) -> $error {
            match self {
                Unreceived::Decode(source) => $error::Decode(source),
                Unreceived::Hindered(why) => match why {
                    Hindrance::Gone => $error::Disconnected,
                    Hindrance::NotOurs(NotClaimed::Closed) => $error::Closed,
                    Hindrance::NotOurs(_) => $error::Claim(claim_error(why)),
                    Hindrance::Damaged { found, limit } => $error::Damaged { found, limit },
                    Hindrance::NoMemory(len) => $error::OutOfMemory { len },
                    Hindrance::Blocked | Hindrance::TimedOut => $error::$blocked,
                },
            }
        }
    };
}

impl Unreceived {
    // Without a limit nothing ends a wait but these.
    unreceived_as!(of, RecvError, Disconnected);
    unreceived_as!(of_try, TryRecvError, Empty);
    unreceived_as!(of_timeout, RecvTimeoutError, TimedOut);
}

impl<T, C> fmt::Debug for Receiver<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [holder, sender] = self.raw.holders();
        f.debug_struct("Receiver")
            .field("len", &self.len())
            .field("capacity", &self.capacity())
            .field("closed", &self.is_closed())
            .field("disconnected", &self.is_disconnected())
            .field("end", &holder)
            .field("sender", &sender)
            .finish()
    }
}
