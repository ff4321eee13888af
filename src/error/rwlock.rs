//! What a lock for many readers says.

use std::{error::Error, fmt};

/// What [`RwLock`](crate::RwLock) says instead of a clean guard. `G` is the guard.
#[non_exhaustive]
pub enum RwLockError<G> {
    /// Somebody holds it, and this call does not wait.
    WouldBlock,
    /// It was still held when the time was up.
    TimedOut,
    /// The lock is yours, and a writer died writing: what the lock guards may be half-changed.
    ///
    /// The guard is inside. Everybody is told until a writer repairs the data and calls `make_consistent`.
    OwnerDied(G),
    /// The lock is yours, and a writer panicked, or left the data unrepaired after a panic. As for `OwnerDied`.
    Poisoned(G),
    /// The calling thread would wait for itself: it writes, or it reads and a writer waits for it.
    AlreadyHeld,
    /// The calling thread holds as many locks as the kernel would look through at its death.
    TooManyHeld {
        /// How many it holds.
        held: u32,
        /// How many it may hold.
        limit: u32,
    },
    /// As many read as may.
    TooManyReaders {
        /// How many may read at once.
        limit: usize,
    },
}

impl<G> RwLockError<G> {
    /// The guard, if the lock was taken all the same.
    pub fn into_guard(self) -> Option<G> {
        match self {
            RwLockError::OwnerDied(guard) | RwLockError::Poisoned(guard) => Some(guard),
            _ => None,
        }
    }
}

impl<G> fmt::Debug for RwLockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RwLockError::WouldBlock => f.write_str("WouldBlock"),
            RwLockError::TimedOut => f.write_str("TimedOut"),
            RwLockError::OwnerDied(_) => f.write_str("OwnerDied(..)"),
            RwLockError::Poisoned(_) => f.write_str("Poisoned(..)"),
            RwLockError::AlreadyHeld => f.write_str("AlreadyHeld"),
            RwLockError::TooManyHeld { held, limit } => {
                f.debug_struct("TooManyHeld").field("held", held).field("limit", limit).finish()
            }
            RwLockError::TooManyReaders { limit } => {
                f.debug_struct("TooManyReaders").field("limit", limit).finish()
            }
        }
    }
}

impl<G> fmt::Display for RwLockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RwLockError::WouldBlock => f.write_str("the lock is held"),
            RwLockError::TimedOut => f.write_str("the lock was still held when the time was up"),
            RwLockError::OwnerDied(_) => f.write_str("a writer died writing under the lock"),
            RwLockError::Poisoned(_) => f.write_str("a writer of the lock panicked"),
            RwLockError::AlreadyHeld => f.write_str("the calling thread holds the lock already"),
            RwLockError::TooManyHeld { held, limit } => {
                write!(f, "too many locks held: this thread holds {held}, limit is {limit}")
            }
            RwLockError::TooManyReaders { limit } => write!(f, "too many readers: limit is {limit}"),
        }
    }
}

impl<G> Error for RwLockError<G> {}
