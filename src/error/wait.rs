//! Errors of [`wait_any`](crate::wait_any).

use std::{error::Error, fmt, io};

/// Why [`wait_any`](crate::wait_any) found nothing ready.
#[derive(Debug)]
#[non_exhaustive]
pub enum WaitAnyError {
    /// Nothing was ready until the time was up.
    TimedOut,
    /// There is nothing to wait for.
    NoSources,
    /// More queues and events than one wait can be about.
    TooMany {
        /// How many there are.
        words: usize,
        /// The most there can be.
        limit: usize,
    },
    /// Queues or events are to be waited for together with processes, connections or descriptors, and this kernel
    /// cannot do that, or forbids it.
    Unsupported {
        /// What it said.
        source: io::Error,
    },
    /// The system refused.
    Os {
        /// The call that failed.
        call: &'static str,
        /// What it said.
        source: io::Error,
    },
}

impl fmt::Display for WaitAnyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WaitAnyError::TimedOut => f.write_str("nothing was ready until the time was up"),
            WaitAnyError::NoSources => f.write_str("there is nothing to wait for"),
            WaitAnyError::TooMany { words, limit } => {
                write!(f, "too much to wait for: {words} queues and events, limit is {limit}")
            }
            WaitAnyError::Unsupported { .. } => {
                f.write_str("queues and events cannot be waited for together with descriptors here")
            }
            WaitAnyError::Os { call, .. } => write!(f, "{call} failed"),
        }
    }
}

impl Error for WaitAnyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            WaitAnyError::Unsupported { source } | WaitAnyError::Os { source, .. } => Some(source),
            _ => None,
        }
    }
}
