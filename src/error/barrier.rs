//! What a [`Barrier`](crate::Barrier) says.

use std::{error::Error, fmt};

use super::RegionError;

/// Why a [`Barrier`](crate::Barrier) was not made.
#[derive(Debug)]
#[non_exhaustive]
pub enum NewBarrierError {
    /// A barrier for nobody.
    NoParties,
    /// More parties than a barrier can count.
    TooManyParties {
        /// Parties asked for.
        parties: usize,
        /// The most there can be.
        limit: usize,
    },
    /// No shared memory.
    Memory(RegionError),
}

impl fmt::Display for NewBarrierError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NewBarrierError::NoParties => f.write_str("a barrier needs at least 1 party"),
            NewBarrierError::TooManyParties { parties, limit } => {
                write!(f, "too many parties: {parties}, limit is {limit}")
            }
            NewBarrierError::Memory(_) => f.write_str("no shared memory for a barrier"),
        }
    }
}

impl Error for NewBarrierError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            NewBarrierError::Memory(source) => Some(source),
            _ => None,
        }
    }
}

impl From<RegionError> for NewBarrierError {
    fn from(error: RegionError) -> NewBarrierError {
        NewBarrierError::Memory(error)
    }
}

/// Why a wait at a [`Barrier`](crate::Barrier) did not end with all parties there. All who wait are told the same, and
/// so is whoever comes, until [`reset`](crate::Barrier::reset).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BarrierError {
    /// The time of one who waited was up.
    TimedOut,
    /// [`abort`](crate::Barrier::abort) was called.
    Aborted,
    /// The action panicked.
    ActionFailed,
    /// One who waited has died, or the one who ran the action.
    PeerDied,
    /// [`reset`](crate::Barrier::reset) was called while some waited. The barrier is whole again.
    Reset,
    /// Called from within the action of this very barrier: the wait would never end.
    WithinAction,
}

impl fmt::Display for BarrierError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BarrierError::TimedOut => "the barrier is broken: the time of one who waited was up",
            BarrierError::Aborted => "the barrier is broken: it was aborted",
            BarrierError::ActionFailed => "the barrier is broken: its action panicked",
            BarrierError::PeerDied => "the barrier is broken: one of its parties died waiting",
            BarrierError::Reset => "the barrier was reset",
            BarrierError::WithinAction => "a wait at the barrier whose action this is",
        })
    }
}

impl Error for BarrierError {}
