//! Errors of [`Array`](crate::Array).

use std::{error::Error, fmt};

use crate::error::LockError;

/// Why a one-call method of [`Array`](crate::Array) did nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ArrayError {
    /// Elements beyond the end were asked for.
    OutOfRange {
        /// One past the last element asked for.
        end: usize,
        /// How many elements there are.
        len: usize,
    },
    /// A holder died in the middle of a change, and nobody has repaired it.
    OwnerDied,
    /// A holder panicked in the middle of a change, likewise.
    Poisoned,
    /// The calling thread holds the array's lock: use its guard.
    AlreadyHeld,
    /// The calling thread holds as many locks as the kernel would look through at its death.
    TooManyHeld {
        /// How many it holds.
        held: u32,
        /// How many it may hold.
        limit: u32,
    },
}

impl ArrayError {
    /// From a lock that was waited for without limit. A guard inside is dropped, and the doubt stays.
    pub(crate) fn from_lock<G>(error: LockError<G>) -> ArrayError {
        match error {
            LockError::OwnerDied(_) => ArrayError::OwnerDied,
            LockError::Poisoned(_) => ArrayError::Poisoned,
            LockError::TooManyHeld { held, limit } => ArrayError::TooManyHeld { held, limit },
            // The last two are a reentrant lock's alone, and the two before them a limited wait's.
            LockError::AlreadyHeld
            | LockError::WouldBlock
            | LockError::TimedOut
            | LockError::TooDeep { .. }
            | LockError::StrangeOwner { .. } => ArrayError::AlreadyHeld,
        }
    }
}

impl fmt::Display for ArrayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ArrayError::OutOfRange { end, len } => {
                write!(f, "out of range: need {end} elements, the array has {len}")
            }
            ArrayError::OwnerDied => f.write_str("a holder of the array died in the middle of a change"),
            ArrayError::Poisoned => f.write_str("a holder of the array panicked in the middle of a change"),
            ArrayError::AlreadyHeld => f.write_str("the calling thread holds the array's lock already"),
            ArrayError::TooManyHeld { held, limit } => {
                write!(f, "too many locks held: this thread holds {held}, limit is {limit}")
            }
        }
    }
}

impl Error for ArrayError {}
