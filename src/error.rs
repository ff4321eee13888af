//! Every public error type and its message.

use std::{error::Error, fmt, io};

mod queue;
pub use queue::{
    RecvError, RecvTimeoutError, SendError, SendManyError, SendTimeoutError, TaskDoneError, TryRecvError,
    TrySendError,
};

/// Why shared memory could not be had.
#[derive(Debug)]
#[non_exhaustive]
pub enum RegionError {
    /// A size, capacity or length of 0 was asked for.
    ZeroSize,
    /// More than can be addressed.
    TooLarge {
        /// Bytes asked for.
        need: usize,
        /// The most there can be.
        limit: usize,
    },
    /// The region is full.
    NoRoom {
        /// Bytes asked for.
        need: usize,
        /// Bytes left.
        have: usize,
    },
    /// More than the machine, or a limit set for this process, can give.
    OutOfMemory {
        /// Bytes asked for.
        need: usize,
        /// Bytes there are.
        available: u64,
        /// ENOMEM, or EFBIG for RLIMIT_FSIZE.
        source: io::Error,
    },
    /// The system refused.
    Os {
        /// The call that failed.
        call: &'static str,
        /// Bytes asked for.
        need: usize,
        /// What it said.
        source: io::Error,
    },
}

impl fmt::Display for RegionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RegionError::ZeroSize => write!(f, "size is 0 bytes, need at least 1"),
            RegionError::TooLarge { need, limit } => {
                write!(f, "too large: need {need} bytes, limit is {limit}")
            }
            RegionError::NoRoom { need, have } => {
                write!(f, "no room in the region: need {need} bytes, have {have}")
            }
            RegionError::OutOfMemory { need, available, .. } => {
                write!(f, "not enough memory: need {need} bytes, {available} available")
            }
            RegionError::Os { call, need, .. } => write!(f, "{call} failed for {need} bytes"),
        }
    }
}

impl Error for RegionError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            RegionError::OutOfMemory { source, .. } | RegionError::Os { source, .. } => Some(source),
            _ => None,
        }
    }
}

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
        }
    }
}

impl<G> Error for LockError<G> {}

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
            LockError::AlreadyHeld | LockError::WouldBlock | LockError::TimedOut => ArrayError::AlreadyHeld,
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

/// A value could not be turned into bytes, or bytes into a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodecError(Cause);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Cause {
    Postcard(postcard::Error),
    Length { need: usize, have: usize },
}

impl CodecError {
    pub(crate) fn postcard(error: postcard::Error) -> CodecError {
        CodecError(Cause::Postcard(error))
    }

    /// The message has another length than its type.
    pub(crate) fn length(need: usize, have: usize) -> CodecError {
        CodecError(Cause::Length { need, have })
    }
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Cause::Postcard(error) => write!(f, "serialisation failed: {error}"),
            Cause::Length { need, have } => {
                write!(f, "message of another type: need {need} bytes, have {have}")
            }
        }
    }
}

impl Error for CodecError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0 {
            Cause::Postcard(error) => Some(error),
            Cause::Length { .. } => None,
        }
    }
}

/// Why no process was started. Nothing of the closure has run, and nothing is left behind.
#[derive(Debug)]
#[non_exhaustive]
pub enum SpawnError {
    /// The process has other threads: a lock that one of them holds would stay held in the child for ever.
    MultiThreaded {
        /// How many threads there are, the calling one included.
        threads: usize,
    },
    /// No shared memory for the gate at which the child waits.
    Memory(RegionError),
    /// The system refused.
    Os {
        /// The call that failed.
        call: &'static str,
        /// What it said.
        source: io::Error,
    },
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SpawnError::MultiThreaded { threads } => {
                write!(f, "cannot fork safely: this process has {threads} threads, need 1")
            }
            SpawnError::Memory(_) => f.write_str("no shared memory to start a process with"),
            SpawnError::Os { call, .. } => write!(f, "cannot start a process: {call} failed"),
        }
    }
}

impl Error for SpawnError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            SpawnError::Memory(source) => Some(source),
            SpawnError::Os { source, .. } => Some(source),
            SpawnError::MultiThreaded { .. } => None,
        }
    }
}

impl From<RegionError> for SpawnError {
    fn from(error: RegionError) -> SpawnError {
        SpawnError::Memory(error)
    }
}
