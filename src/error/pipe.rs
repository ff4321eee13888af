//! Errors of [`Connection`](crate::Connection).

use std::{error::Error, fmt, io};

use crate::error::CodecError;

/// Why [`Connection::send`](crate::Connection::send) and its kin did not send: nothing was.
#[derive(Debug)]
#[non_exhaustive]
pub enum PipeSendError {
    /// The other end has gone: it was dropped, or its process has ended.
    Disconnected,
    /// There is no room now.
    Full,
    /// There was no room until the time was up.
    TimedOut,
    /// This end is another process's, which used it first.
    Taken,
    /// The value could not be serialised.
    Encode(CodecError),
    /// The machine has no room for a message so long.
    OutOfMemory {
        /// Its length in bytes.
        len: usize,
    },
    /// The system refused.
    Os {
        /// The call that failed.
        call: &'static str,
        /// What it said.
        source: io::Error,
    },
}

/// Why [`Connection::recv`](crate::Connection::recv) and its kin have no message.
#[derive(Debug)]
#[non_exhaustive]
pub enum PipeRecvError {
    /// The other end has gone, and all that it sent was received.
    Disconnected,
    /// There is no message now.
    Empty,
    /// There was no message until the time was up.
    TimedOut,
    /// This end is another process's, which used it first.
    Taken,
    /// The message is longer than was asked for; it stays where it is.
    TooLong {
        /// Its length in bytes.
        len: usize,
        /// The most that was asked for.
        limit: usize,
    },
    /// The message, which is gone, was none of the type that was asked for.
    Decode(CodecError),
    /// This process cannot allocate room for the message, which stays where it is.
    OutOfMemory {
        /// Its length in bytes.
        len: usize,
    },
    /// The system refused.
    Os {
        /// The call that failed.
        call: &'static str,
        /// What it said.
        source: io::Error,
    },
}

const GONE: &str = "the other end of the connection has gone";
const TAKEN: &str = "this end of the connection belongs to another process, which used it first";

impl fmt::Display for PipeSendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PipeSendError::Disconnected => f.write_str(GONE),
            PipeSendError::Full => f.write_str("the connection is full"),
            PipeSendError::TimedOut => f.write_str("the connection was full until the time was up"),
            PipeSendError::Taken => f.write_str(TAKEN),
            PipeSendError::Encode(error) => error.fmt(f),
            PipeSendError::OutOfMemory { len } => {
                write!(f, "not enough memory to send a message of {len} bytes")
            }
            PipeSendError::Os { call, .. } => write!(f, "{call} failed"),
        }
    }
}

impl fmt::Display for PipeRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PipeRecvError::Disconnected => f.write_str(GONE),
            PipeRecvError::Empty => f.write_str("the connection is empty"),
            PipeRecvError::TimedOut => f.write_str("the connection was empty until the time was up"),
            PipeRecvError::Taken => f.write_str(TAKEN),
            PipeRecvError::TooLong { len, limit } => {
                write!(f, "message too long: {len} bytes, asked for at most {limit}")
            }
            PipeRecvError::Decode(error) => error.fmt(f),
            PipeRecvError::OutOfMemory { len } => {
                write!(f, "not enough memory to receive a message of {len} bytes")
            }
            PipeRecvError::Os { call, .. } => write!(f, "{call} failed"),
        }
    }
}

impl Error for PipeSendError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            PipeSendError::Encode(error) => error.source(),
            PipeSendError::Os { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl Error for PipeRecvError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            PipeRecvError::Decode(error) => error.source(),
            PipeRecvError::Os { source, .. } => Some(source),
            _ => None,
        }
    }
}
