//! What a semaphore says.

use std::{error::Error, fmt};

use crate::error::RegionError;

/// Why there is no new semaphore.
#[derive(Debug)]
#[non_exhaustive]
pub enum SemaphoreError {
    /// More permits than a semaphore can count.
    TooManyPermits {
        /// Permits asked for.
        permits: usize,
        /// The most there can be.
        limit: usize,
    },
    /// More guards than a semaphore can have out at once.
    TooManyHolders {
        /// Guards asked for.
        holders: usize,
        /// The most there can be.
        limit: usize,
    },
    /// No shared memory for it.
    Memory(RegionError),
}

impl fmt::Display for SemaphoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SemaphoreError::TooManyPermits { permits, limit } => {
                write!(f, "too many permits: {permits}, limit is {limit}")
            }
            SemaphoreError::TooManyHolders { holders, limit } => {
                write!(f, "too many holders of permits: {holders}, limit is {limit}")
            }
            SemaphoreError::Memory(_) => f.write_str("no shared memory for a semaphore"),
        }
    }
}

impl Error for SemaphoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            SemaphoreError::Memory(source) => Some(source),
            _ => None,
        }
    }
}

impl From<RegionError> for SemaphoreError {
    fn from(error: RegionError) -> SemaphoreError {
        SemaphoreError::Memory(error)
    }
}

/// Why a [`Semaphore`](crate::Semaphore) gave no permit. Nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AcquireError {
    /// There are too few, or somebody waits for those that there are, and this call does not wait.
    NoPermits,
    /// There were too few until the time was up.
    TimedOut,
    /// There can never be so many.
    Impossible {
        /// Permits asked for.
        need: usize,
        /// The most there can be.
        limit: usize,
    },
    /// As many guards are out as this semaphore was made for.
    TooManyHolders {
        /// How many that is.
        limit: usize,
    },
    /// The calling thread holds as many locks and guards as the kernel would look through at its death.
    TooManyHeld {
        /// How many it holds.
        held: u32,
        /// How many it may hold.
        limit: u32,
    },
}

impl fmt::Display for AcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AcquireError::NoPermits => f.write_str("not enough permits now"),
            AcquireError::TimedOut => f.write_str("not enough permits until the time was up"),
            AcquireError::Impossible { need, limit } => {
                write!(f, "there can never be enough permits: need {need}, limit is {limit}")
            }
            AcquireError::TooManyHolders { limit } => {
                write!(f, "{limit} guards hold permits already, limit is {limit}")
            }
            AcquireError::TooManyHeld { held, limit } => {
                write!(f, "this thread holds {held} locks and permits already, limit is {limit}")
            }
        }
    }
}

impl Error for AcquireError {}

/// Why a [`Semaphore`](crate::Semaphore) took no permit back. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReleaseError {
    /// There would be more than there may be.
    TooMany {
        /// Permits that were to be given back.
        released: usize,
        /// Permits that were free.
        available: usize,
        /// Permits that guards held, which come back by themselves.
        guarded: usize,
        /// The most that there may be: of a bounded semaphore, as many as in the beginning.
        limit: usize,
    },
}

impl fmt::Display for ReleaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ReleaseError::TooMany { released, available, guarded, limit } = self;
        write!(f, "cannot release {released}: {available} are free, guards hold {guarded}, limit is {limit}")
    }
}

impl Error for ReleaseError {}
