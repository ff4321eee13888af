//! Errors of the ends of channels.

use std::{error::Error, fmt};

/// Why an end of a channel is not the calling thread's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClaimError {
    /// Another thread holds the end: of another process, or of this one, which moved it without giving it back first.
    Held {
        /// The thread's TID.
        by: u32,
    },
    /// The end was closed.
    Closed,
    /// The calling thread holds so many locks and ends that the kernel would not look at one more.
    TooManyHeld {
        /// How many it holds.
        held: u32,
        /// The most it can.
        limit: u32,
    },
    /// What the other end left in the channel is garbage.
    Damaged {
        /// A length in bytes that was found.
        found: usize,
        /// The longest there can be.
        limit: usize,
    },
}

impl fmt::Display for ClaimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClaimError::Held { by } => write!(f, "the end of the channel is held by thread {by}"),
            ClaimError::Closed => f.write_str("the end of the channel is closed"),
            ClaimError::TooManyHeld { held, limit } => {
                write!(f, "too many locks held: this thread holds {held}, at most {limit}")
            }
            ClaimError::Damaged { found, limit } => say_damaged(f, *found, *limit),
        }
    }
}

impl Error for ClaimError {}

pub(super) fn say_damaged(f: &mut fmt::Formatter<'_>, found: usize, limit: usize) -> fmt::Result {
    if found == 0 {
        return f.write_str("the shared memory is damaged: a lock names this thread, which holds none");
    }
    write!(f, "the shared memory is damaged: a length of {found} bytes, where there are at most {limit}")
}
