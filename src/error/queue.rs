//! Errors of queues, in the shapes of crossbeam-channel.

use std::{error::Error, fmt};

use crate::error::{
    CodecError,
    channel::{ClaimError, say_damaged},
};

/// Why [`Queue::send`](crate::Queue::send) did not send. The value is inside.
#[non_exhaustive]
pub enum SendError<T> {
    /// The queue is closed.
    Closed(T),
    /// All receivers are gone: those that had registered ([`Queue::receiver`](crate::Queue::receiver)), or a channel's,
    /// which was closed, or died.
    Disconnected(T),
    /// The queue could never hold the message.
    TooLong {
        /// The value.
        value: T,
        /// Its length in bytes, encoded.
        len: usize,
        /// The longest there can be.
        limit: usize,
    },
    /// The value could not be serialised.
    Encode {
        /// The value.
        value: T,
        /// Why.
        source: CodecError,
    },
    /// Of a channel: the sending end is not the calling thread's.
    Claim {
        /// The value.
        value: T,
        /// Why.
        source: ClaimError,
    },
    /// A peer left garbage in the shared memory.
    Damaged {
        /// The value.
        value: T,
        /// A length in bytes that was found.
        found: usize,
        /// The longest there can be.
        limit: usize,
    },
}

/// Why [`Queue::try_send`](crate::Queue::try_send) did not send. The value is inside.
#[non_exhaustive]
pub enum TrySendError<T> {
    /// There is no room now.
    Full(T),
    /// The queue is closed.
    Closed(T),
    /// All receivers are gone: those that had registered ([`Queue::receiver`](crate::Queue::receiver)), or a channel's,
    /// which was closed, or died.
    Disconnected(T),
    /// As [`SendError::TooLong`].
    TooLong {
        /// The value.
        value: T,
        /// Its length in bytes, encoded.
        len: usize,
        /// The longest there can be.
        limit: usize,
    },
    /// As [`SendError::Encode`].
    Encode {
        /// The value.
        value: T,
        /// Why.
        source: CodecError,
    },
    /// Of a channel: the sending end is not the calling thread's.
    Claim {
        /// The value.
        value: T,
        /// Why.
        source: ClaimError,
    },
    /// A peer left garbage in the shared memory.
    Damaged {
        /// The value.
        value: T,
        /// A length in bytes that was found.
        found: usize,
        /// The longest there can be.
        limit: usize,
    },
}

/// Why [`Queue::send_timeout`](crate::Queue::send_timeout) did not send. The value is inside.
#[non_exhaustive]
pub enum SendTimeoutError<T> {
    /// There was no room until the time was up.
    TimedOut(T),
    /// The queue is closed.
    Closed(T),
    /// All receivers are gone: those that had registered ([`Queue::receiver`](crate::Queue::receiver)), or a channel's,
    /// which was closed, or died.
    Disconnected(T),
    /// As [`SendError::TooLong`].
    TooLong {
        /// The value.
        value: T,
        /// Its length in bytes, encoded.
        len: usize,
        /// The longest there can be.
        limit: usize,
    },
    /// As [`SendError::Encode`].
    Encode {
        /// The value.
        value: T,
        /// Why.
        source: CodecError,
    },
    /// Of a channel: the sending end is not the calling thread's.
    Claim {
        /// The value.
        value: T,
        /// Why.
        source: ClaimError,
    },
    /// A peer left garbage in the shared memory.
    Damaged {
        /// The value.
        value: T,
        /// A length in bytes that was found.
        found: usize,
        /// The longest there can be.
        limit: usize,
    },
}

/// Why [`Queue::recv`](crate::Queue::recv) has no message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecvError {
    /// The queue is closed and empty.
    Closed,
    /// Empty, and all senders are gone: those that had registered ([`Queue::sender`](crate::Queue::sender)), or a
    /// channel's, which was closed, or died.
    Disconnected,
    /// The message, which is gone, was none of the queue's type.
    Decode(CodecError),
    /// This process cannot allocate room for the message, which stays in the queue.
    OutOfMemory {
        /// Its length in bytes.
        len: usize,
    },
    /// Of a [`JoinableQueue`](crate::JoinableQueue) alone: the calling thread holds as many tasks as it may, or as
    /// there are places for, so waiting would never end.
    TooManyTasks {
        /// How many it holds.
        held: usize,
    },
    /// Of a channel: the receiving end is not the calling thread's.
    Claim(ClaimError),
    /// A peer left garbage in the shared memory, where nothing can be received any more.
    Damaged {
        /// A length in bytes that was found.
        found: usize,
        /// The longest there can be.
        limit: usize,
    },
}

/// Why [`Queue::try_recv`](crate::Queue::try_recv) has no message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TryRecvError {
    /// There is none now.
    Empty,
    /// The queue is closed and empty.
    Closed,
    /// Empty, and all senders are gone: those that had registered ([`Queue::sender`](crate::Queue::sender)), or a
    /// channel's, which was closed, or died.
    Disconnected,
    /// As [`RecvError::Decode`].
    Decode(CodecError),
    /// As [`RecvError::OutOfMemory`].
    OutOfMemory {
        /// The message's length in bytes.
        len: usize,
    },
    /// Of a [`JoinableQueue`](crate::JoinableQueue) alone: the calling thread holds as many tasks as it may, or as
    /// there are places for, so waiting would never end.
    TooManyTasks {
        /// How many it holds.
        held: usize,
    },
    /// Of a channel: the receiving end is not the calling thread's.
    Claim(ClaimError),
    /// A peer left garbage in the shared memory, where nothing can be received any more.
    Damaged {
        /// A length in bytes that was found.
        found: usize,
        /// The longest there can be.
        limit: usize,
    },
}

/// Why [`Queue::recv_timeout`](crate::Queue::recv_timeout) has no message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecvTimeoutError {
    /// There was none until the time was up.
    TimedOut,
    /// The queue is closed and empty.
    Closed,
    /// Empty, and all senders are gone: those that had registered ([`Queue::sender`](crate::Queue::sender)), or a
    /// channel's, which was closed, or died.
    Disconnected,
    /// As [`RecvError::Decode`].
    Decode(CodecError),
    /// As [`RecvError::OutOfMemory`].
    OutOfMemory {
        /// The message's length in bytes.
        len: usize,
    },
    /// Of a [`JoinableQueue`](crate::JoinableQueue) alone: the calling thread holds as many tasks as it may, or as
    /// there are places for, so waiting would never end.
    TooManyTasks {
        /// How many it holds.
        held: usize,
    },
    /// Of a channel: the receiving end is not the calling thread's.
    Claim(ClaimError),
    /// A peer left garbage in the shared memory, where nothing can be received any more.
    Damaged {
        /// A length in bytes that was found.
        found: usize,
        /// The longest there can be.
        limit: usize,
    },
}

/// What the errors of the queue's ends have to say, whatever they are called.
enum Said<'a> {
    Waiting(&'a str),
    Closed,
    ClosedAndEmpty,
    NoReceivers,
    NoSenders,
    TooLong(usize, usize),
    NoMemory(usize),
    TooManyTasks(usize),
    Codec(&'a CodecError),
    Claim(ClaimError),
    Damaged(usize, usize),
}

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Said::Waiting(text) => f.write_str(text),
            Said::Closed => f.write_str("the queue is closed"),
            Said::ClosedAndEmpty => f.write_str("the queue is closed and empty"),
            Said::NoReceivers => f.write_str("all receivers are gone"),
            Said::NoSenders => f.write_str("all senders are gone, and there is nothing left"),
            Said::TooLong(len, limit) => {
                write!(f, "message too long: {len} bytes, the queue holds at most {limit}")
            }
            Said::NoMemory(len) => write!(f, "not enough memory to receive a message of {len} bytes"),
            Said::TooManyTasks(held) => write!(f, "too many tasks held: this thread holds {held}"),
            Said::Codec(error) => fmt::Display::fmt(error, f),
            Said::Claim(error) => fmt::Display::fmt(error, f),
            Said::Damaged(found, limit) => say_damaged(f, *found, *limit),
        }
    }
}

impl<T> SendError<T> {
    /// The value that was not sent.
    pub fn into_inner(self) -> T {
        match self {
            SendError::Closed(value)
            | SendError::TooLong { value, .. }
            | SendError::Encode { value, .. }
            | SendError::Disconnected(value)
            | SendError::Claim { value, .. }
            | SendError::Damaged { value, .. } => value,
        }
    }

    fn say(&self) -> Said<'_> {
        match self {
            SendError::Closed(_) => Said::Closed,
            SendError::Disconnected(_) => Said::NoReceivers,
            SendError::TooLong { len, limit, .. } => Said::TooLong(*len, *limit),
            SendError::Encode { source, .. } => Said::Codec(source),
            SendError::Claim { source, .. } => Said::Claim(*source),
            SendError::Damaged { found, limit, .. } => Said::Damaged(*found, *limit),
        }
    }
}

impl<T> TrySendError<T> {
    /// The value that was not sent.
    pub fn into_inner(self) -> T {
        match self {
            TrySendError::Full(value)
            | TrySendError::Closed(value)
            | TrySendError::Disconnected(value)
            | TrySendError::TooLong { value, .. }
            | TrySendError::Encode { value, .. }
            | TrySendError::Claim { value, .. }
            | TrySendError::Damaged { value, .. } => value,
        }
    }

    fn say(&self) -> Said<'_> {
        match self {
            TrySendError::Full(_) => Said::Waiting("the queue is full"),
            TrySendError::Closed(_) => Said::Closed,
            TrySendError::Disconnected(_) => Said::NoReceivers,
            TrySendError::TooLong { len, limit, .. } => Said::TooLong(*len, *limit),
            TrySendError::Encode { source, .. } => Said::Codec(source),
            TrySendError::Claim { source, .. } => Said::Claim(*source),
            TrySendError::Damaged { found, limit, .. } => Said::Damaged(*found, *limit),
        }
    }
}

impl<T> SendTimeoutError<T> {
    /// The value that was not sent.
    pub fn into_inner(self) -> T {
        match self {
            SendTimeoutError::TimedOut(value)
            | SendTimeoutError::Closed(value)
            | SendTimeoutError::Disconnected(value)
            | SendTimeoutError::TooLong { value, .. }
            | SendTimeoutError::Encode { value, .. }
            | SendTimeoutError::Claim { value, .. }
            | SendTimeoutError::Damaged { value, .. } => value,
        }
    }

    fn say(&self) -> Said<'_> {
        match self {
            SendTimeoutError::TimedOut(_) => Said::Waiting("the queue was full until the time was up"),
            SendTimeoutError::Closed(_) => Said::Closed,
            SendTimeoutError::Disconnected(_) => Said::NoReceivers,
            SendTimeoutError::TooLong { len, limit, .. } => Said::TooLong(*len, *limit),
            SendTimeoutError::Encode { source, .. } => Said::Codec(source),
            SendTimeoutError::Claim { source, .. } => Said::Claim(*source),
            SendTimeoutError::Damaged { found, limit, .. } => Said::Damaged(*found, *limit),
        }
    }
}

impl RecvError {
    fn say(&self) -> Said<'_> {
        match self {
            RecvError::Closed => Said::ClosedAndEmpty,
            RecvError::Disconnected => Said::NoSenders,
            RecvError::Decode(error) => Said::Codec(error),
            RecvError::OutOfMemory { len } => Said::NoMemory(*len),
            RecvError::TooManyTasks { held } => Said::TooManyTasks(*held),
            RecvError::Claim(error) => Said::Claim(*error),
            RecvError::Damaged { found, limit } => Said::Damaged(*found, *limit),
        }
    }
}

impl TryRecvError {
    fn say(&self) -> Said<'_> {
        match self {
            TryRecvError::Empty => Said::Waiting("the queue is empty"),
            TryRecvError::Closed => Said::ClosedAndEmpty,
            TryRecvError::Disconnected => Said::NoSenders,
            TryRecvError::Decode(error) => Said::Codec(error),
            TryRecvError::OutOfMemory { len } => Said::NoMemory(*len),
            TryRecvError::TooManyTasks { held } => Said::TooManyTasks(*held),
            TryRecvError::Claim(error) => Said::Claim(*error),
            TryRecvError::Damaged { found, limit } => Said::Damaged(*found, *limit),
        }
    }
}

impl RecvTimeoutError {
    fn say(&self) -> Said<'_> {
        match self {
            RecvTimeoutError::TimedOut => Said::Waiting("the queue was empty until the time was up"),
            RecvTimeoutError::Closed => Said::ClosedAndEmpty,
            RecvTimeoutError::Disconnected => Said::NoSenders,
            RecvTimeoutError::Decode(error) => Said::Codec(error),
            RecvTimeoutError::OutOfMemory { len } => Said::NoMemory(*len),
            RecvTimeoutError::TooManyTasks { held } => Said::TooManyTasks(*held),
            RecvTimeoutError::Claim(error) => Said::Claim(*error),
            RecvTimeoutError::Damaged { found, limit } => Said::Damaged(*found, *limit),
        }
    }
}

// Debug without a bound on the value: whatever was to be sent, `unwrap` can speak of it.
macro_rules! speaks_for_itself {
    ($($error:ident $(<$value:ident>)?),*) => {$(
        impl$(<$value>)? fmt::Display for $error$(<$value>)? {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.say().fmt(f)
            }
        }

        impl$(<$value>)? Error for $error$(<$value>)? {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                match self.say() {
                    Said::Codec(error) => error.source(),
                    _ => None,
                }
            }
        }
    )*};
}
speaks_for_itself!(
    SendError<T>,
    TrySendError<T>,
    SendTimeoutError<T>,
    RecvError,
    TryRecvError,
    RecvTimeoutError
);

macro_rules! debug_as_display {
    ($($error:ident),*) => {$(
        impl<T> fmt::Debug for $error<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($error), "({})"), self.say())
            }
        }
    )*};
}
debug_as_display!(SendError, TrySendError, SendTimeoutError);

/// Why [`Queue::send_many`](crate::Queue::send_many) and its kin did not send all. What was not sent is still in the
/// caller's list.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendManyError {
    /// There is no room for more now.
    Full {
        /// How many were sent.
        sent: usize,
    },
    /// There was no room for more until the time was up.
    TimedOut {
        /// How many were sent.
        sent: usize,
    },
    /// The queue is closed.
    Closed {
        /// How many were sent.
        sent: usize,
    },
    /// As [`SendError::Disconnected`].
    Disconnected {
        /// How many were sent.
        sent: usize,
    },
    /// The queue could never hold the next message.
    TooLong {
        /// How many were sent.
        sent: usize,
        /// The next one's length in bytes, encoded.
        len: usize,
        /// The longest there can be.
        limit: usize,
    },
    /// The next value could not be serialised.
    Encode {
        /// How many were sent.
        sent: usize,
        /// Why.
        source: CodecError,
    },
    /// Of a channel: the sending end is not the calling thread's.
    Claim {
        /// How many were sent.
        sent: usize,
        /// Why.
        source: ClaimError,
    },
    /// A peer left garbage in the shared memory.
    Damaged {
        /// How many were sent.
        sent: usize,
        /// A length in bytes that was found.
        found: usize,
        /// The longest there can be.
        limit: usize,
    },
}

impl SendManyError {
    /// How many were sent: they are in the queue, or received.
    pub fn sent(&self) -> usize {
        match *self {
            SendManyError::Full { sent }
            | SendManyError::TimedOut { sent }
            | SendManyError::Closed { sent }
            | SendManyError::Disconnected { sent }
            | SendManyError::TooLong { sent, .. }
            | SendManyError::Encode { sent, .. }
            | SendManyError::Claim { sent, .. }
            | SendManyError::Damaged { sent, .. } => sent,
        }
    }

    fn say(&self) -> Said<'_> {
        match self {
            SendManyError::Full { .. } => Said::Waiting("the queue is full"),
            SendManyError::TimedOut { .. } => Said::Waiting("the queue was full until the time was up"),
            SendManyError::Closed { .. } => Said::Closed,
            SendManyError::Disconnected { .. } => Said::NoReceivers,
            SendManyError::TooLong { len, limit, .. } => Said::TooLong(*len, *limit),
            SendManyError::Encode { source, .. } => Said::Codec(source),
            SendManyError::Claim { source, .. } => Said::Claim(*source),
            SendManyError::Damaged { found, limit, .. } => Said::Damaged(*found, *limit),
        }
    }
}

impl fmt::Display for SendManyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, after {} were sent", self.say(), self.sent())
    }
}

impl Error for SendManyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            SendManyError::Encode { source, .. } => source.source(),
            _ => None,
        }
    }
}

/// Why [`JoinableQueue::task_done`](crate::JoinableQueue::task_done) did nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskDoneError {
    /// The calling thread has no task left that it took out of its guard.
    TooMany,
}

impl fmt::Display for TaskDoneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("task_done was called more often than tasks were taken by this thread")
    }
}

impl Error for TaskDoneError {}

/// Why [`Queue::sender`](crate::Queue::sender) or [`Queue::receiver`](crate::Queue::receiver) registered nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueueEntryError {
    /// As many have registered at this end as there is room for: see [`Capacity::peers`](crate::Capacity::peers).
    Full {
        /// How many that is.
        room: usize,
    },
    /// The calling thread holds as many locks as it may.
    TooManyHeld {
        /// How many it holds.
        held: u32,
    },
}

impl fmt::Display for QueueEntryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            QueueEntryError::Full { room } => {
                write!(f, "no room to register at the queue: {room} of {room} have")
            }
            QueueEntryError::TooManyHeld { held } => {
                write!(f, "too many locks held: this thread holds {held}")
            }
        }
    }
}

impl Error for QueueEntryError {}
