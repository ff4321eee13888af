//! Errors of [`Once`](crate::Once) and [`OnceValue`](crate::OnceValue).

use std::{error::Error, fmt};

/// Why [`Once`](crate::Once) or [`OnceValue`](crate::OnceValue) did not do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnceError {
    /// Somebody is at it, and this call does not wait.
    WouldBlock,
    /// Somebody was still at it when the time was up.
    TimedOut,
    /// The initialiser asked for what it is to make: waiting would never end.
    Reentered,
    /// The process was forked inside the initialiser, and this is the child: it is its parent's to finish.
    Forked,
    /// The value was there before.
    AlreadySet,
    /// The calling thread holds as many locks as the kernel would look through at its death.
    TooManyHeld {
        /// How many it holds.
        held: u32,
        /// How many it may hold.
        limit: u32,
    },
}

impl fmt::Display for OnceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OnceError::WouldBlock => f.write_str("somebody is at it"),
            OnceError::TimedOut => f.write_str("somebody was still at it when the time was up"),
            OnceError::Reentered => f.write_str("the initialiser asked for what it is to make"),
            OnceError::Forked => {
                f.write_str("the process was forked inside the initialiser, which is its parent's")
            }
            OnceError::AlreadySet => f.write_str("the value was there before"),
            OnceError::TooManyHeld { held, limit } => {
                write!(f, "too many locks held: this thread holds {held}, limit is {limit}")
            }
        }
    }
}

impl Error for OnceError {}
