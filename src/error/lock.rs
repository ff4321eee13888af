//! What a lock says instead of giving a guard, or with it.

use std::{error::Error, fmt};

/// What [`Lock`](crate::Lock) and its kin say instead of a clean guard. `G` is the guard.
#[non_exhaustive]
pub enum LockError<G> {
    /// Somebody holds it, and this call does not wait.
    WouldBlock,
    /// It was still held when the time was up.
    TimedOut,
    /// The lock is yours, and its last holder died holding it: what it guards may be half-changed.
    ///
    /// The guard is inside. Repair the data and call `make_consistent`; dropped without it, the next caller is told
    /// the same.
    OwnerDied(G),
    /// The lock is yours, and a holder panicked, or left it unrepaired after a panic. As for `OwnerDied`.
    Poisoned(G),
    /// The calling thread holds it already, so waiting would never end.
    AlreadyHeld,
    /// The calling thread holds as many locks as the kernel would look through at its death.
    TooManyHeld {
        /// How many it holds.
        held: u32,
        /// How many it may hold.
        limit: u32,
    },
    /// The calling thread has taken the [`RLock`](crate::RLock) as often as can be counted.
    TooDeep {
        /// How often it may take it.
        limit: u32,
    },
    /// The [`RLock`](crate::RLock) names the calling thread as its holder, but another process wrote that. The holder
    /// is gone without the kernel's notice (it called exec from a thread that was not the main one), or lives in
    /// another PID namespace, where the same number is another thread's.
    StrangeOwner {
        /// The number.
        tid: u32,
    },
}

impl<G> LockError<G> {
    /// The guard, if the lock was taken all the same.
    pub fn into_guard(self) -> Option<G> {
        match self {
            LockError::OwnerDied(guard) | LockError::Poisoned(guard) => Some(guard),
            _ => None,
        }
    }

    /// The same error around another guard.
    pub(crate) fn map<H>(self, wrap: impl FnOnce(G) -> H) -> LockError<H> {
        match self {
            LockError::WouldBlock => LockError::WouldBlock,
            LockError::TimedOut => LockError::TimedOut,
            LockError::OwnerDied(guard) => LockError::OwnerDied(wrap(guard)),
            LockError::Poisoned(guard) => LockError::Poisoned(wrap(guard)),
            LockError::AlreadyHeld => LockError::AlreadyHeld,
            LockError::TooManyHeld { held, limit } => LockError::TooManyHeld { held, limit },
            LockError::TooDeep { limit } => LockError::TooDeep { limit },
            LockError::StrangeOwner { tid } => LockError::StrangeOwner { tid },
        }
    }
}

impl<G> fmt::Debug for LockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockError::WouldBlock => f.write_str("WouldBlock"),
            LockError::TimedOut => f.write_str("TimedOut"),
            LockError::OwnerDied(_) => f.write_str("OwnerDied(..)"),
            LockError::Poisoned(_) => f.write_str("Poisoned(..)"),
            LockError::AlreadyHeld => f.write_str("AlreadyHeld"),
            LockError::TooManyHeld { held, limit } => {
                f.debug_struct("TooManyHeld").field("held", held).field("limit", limit).finish()
            }
            LockError::TooDeep { limit } => f.debug_struct("TooDeep").field("limit", limit).finish(),
            LockError::StrangeOwner { tid } => f.debug_struct("StrangeOwner").field("tid", tid).finish(),
        }
    }
}

impl<G> fmt::Display for LockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockError::WouldBlock => f.write_str("the lock is held"),
            LockError::TimedOut => f.write_str("the lock was still held when the time was up"),
            LockError::OwnerDied(_) => f.write_str("the last holder of the lock died holding it"),
            LockError::Poisoned(_) => f.write_str("a holder of the lock panicked"),
            LockError::AlreadyHeld => f.write_str("the calling thread holds the lock already"),
            LockError::TooManyHeld { held, limit } => {
                write!(f, "too many locks held: this thread holds {held}, limit is {limit}")
            }
            LockError::TooDeep { limit } => write!(f, "taken too often by this thread: limit is {limit}"),
            LockError::StrangeOwner { tid } => {
                write!(
                    f,
                    "the lock names thread {tid}, which is the calling one, but another process wrote that"
                )
            }
        }
    }
}

impl<G> Error for LockError<G> {}
