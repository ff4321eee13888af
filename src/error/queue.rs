//! What the queue's batches say.

use std::{error::Error, fmt};

use super::{CodecError, Said};

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
}

impl SendManyError {
    /// How many were sent: they are in the queue, or received.
    pub fn sent(&self) -> usize {
        match *self {
            SendManyError::Full { sent }
            | SendManyError::TimedOut { sent }
            | SendManyError::Closed { sent }
            | SendManyError::TooLong { sent, .. }
            | SendManyError::Encode { sent, .. } => sent,
        }
    }

    fn say(&self) -> Said<'_> {
        match self {
            SendManyError::Full { .. } => Said::Waiting("the queue is full"),
            SendManyError::TimedOut { .. } => Said::Waiting("the queue was full until the time was up"),
            SendManyError::Closed { .. } => Said::Closed,
            SendManyError::TooLong { len, limit, .. } => Said::TooLong(*len, *limit),
            SendManyError::Encode { source, .. } => Said::Codec(source),
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
