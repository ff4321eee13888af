//! Errors of [`Condition`](crate::Condition).

use std::{error::Error, fmt};

use crate::error::LockError;

/// Why a wait for a [`Condition`](crate::Condition) gives no clean guard. `G` is the guard.
#[non_exhaustive]
pub enum ConditionError<G> {
    /// What the lock said when it was taken again after the wait: it may be yours, with the guard inside.
    Lock(LockError<G>),
    /// The guard, which is inside, is of another lock than the condition's. There was no wait.
    WrongLock(G),
    /// The guard, which is inside, is the copy of one that the parent of this process holds. There was no wait.
    Copied(G),
}

impl<G> ConditionError<G> {
    /// The guard, if there is one.
    pub fn into_guard(self) -> Option<G> {
        match self {
            ConditionError::Lock(error) => error.into_guard(),
            ConditionError::WrongLock(guard) | ConditionError::Copied(guard) => Some(guard),
        }
    }
}

impl<G> fmt::Debug for ConditionError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConditionError::Lock(error) => f.debug_tuple("Lock").field(error).finish(),
            ConditionError::WrongLock(_) => f.write_str("WrongLock(..)"),
            ConditionError::Copied(_) => f.write_str("Copied(..)"),
        }
    }
}

impl<G> fmt::Display for ConditionError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConditionError::Lock(error) => error.fmt(f),
            ConditionError::WrongLock(_) => f.write_str("the guard is not of the condition's lock"),
            ConditionError::Copied(_) => {
                f.write_str("the guard belongs to the process that this one was forked from")
            }
        }
    }
}

impl<G> Error for ConditionError<G> {}
