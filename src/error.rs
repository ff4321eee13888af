//! Every public error type and its message.

use std::{error::Error, fmt, io};

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

/// Why [`Queue::send`](crate::Queue::send) did not send. The value is inside.
#[non_exhaustive]
pub enum SendError<T> {
    /// The queue is closed.
    Closed(T),
    /// The queue could never hold the message.
    TooLong {
        /// The value.
        value: T,
        /// Its length in bytes, encoded.
        len: usize,
        /// The longest there can be.
        limit: usize,
    },
    /// The value could not be serialised.
    Encode {
        /// The value.
        value: T,
        /// Why.
        source: CodecError,
    },
}

/// Why [`Queue::try_send`](crate::Queue::try_send) did not send. The value is inside.
#[non_exhaustive]
pub enum TrySendError<T> {
    /// There is no room now.
    Full(T),
    /// The queue is closed.
    Closed(T),
    /// As [`SendError::TooLong`].
    TooLong {
        /// The value.
        value: T,
        /// Its length in bytes, encoded.
        len: usize,
        /// The longest there can be.
        limit: usize,
    },
    /// As [`SendError::Encode`].
    Encode {
        /// The value.
        value: T,
        /// Why.
        source: CodecError,
    },
}

/// Why [`Queue::send_timeout`](crate::Queue::send_timeout) did not send. The value is inside.
#[non_exhaustive]
pub enum SendTimeoutError<T> {
    /// There was no room until the time was up.
    TimedOut(T),
    /// The queue is closed.
    Closed(T),
    /// As [`SendError::TooLong`].
    TooLong {
        /// The value.
        value: T,
        /// Its length in bytes, encoded.
        len: usize,
        /// The longest there can be.
        limit: usize,
    },
    /// As [`SendError::Encode`].
    Encode {
        /// The value.
        value: T,
        /// Why.
        source: CodecError,
    },
}

/// Why [`Queue::recv`](crate::Queue::recv) has no message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecvError {
    /// The queue is closed and empty.
    Closed,
    /// The message, which is gone, was none of the queue's type.
    Decode(CodecError),
    /// This process cannot allocate room for the message, which stays in the queue.
    OutOfMemory {
        /// Its length in bytes.
        len: usize,
    },
}

/// Why [`Queue::try_recv`](crate::Queue::try_recv) has no message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TryRecvError {
    /// There is none now.
    Empty,
    /// The queue is closed and empty.
    Closed,
    /// As [`RecvError::Decode`].
    Decode(CodecError),
    /// As [`RecvError::OutOfMemory`].
    OutOfMemory {
        /// The message's length in bytes.
        len: usize,
    },
}

/// Why [`Queue::recv_timeout`](crate::Queue::recv_timeout) has no message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecvTimeoutError {
    /// There was none until the time was up.
    TimedOut,
    /// The queue is closed and empty.
    Closed,
    /// As [`RecvError::Decode`].
    Decode(CodecError),
    /// As [`RecvError::OutOfMemory`].
    OutOfMemory {
        /// The message's length in bytes.
        len: usize,
    },
}

/// What the errors of the queue's ends have to say, whatever they are called.
enum Said<'a> {
    Waiting(&'a str),
    Closed,
    ClosedAndEmpty,
    TooLong(usize, usize),
    NoMemory(usize),
    Codec(&'a CodecError),
}

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Said::Waiting(text) => f.write_str(text),
            Said::Closed => f.write_str("the queue is closed"),
            Said::ClosedAndEmpty => f.write_str("the queue is closed and empty"),
            Said::TooLong(len, limit) => {
                write!(f, "message too long: {len} bytes, the queue holds at most {limit}")
            }
            Said::NoMemory(len) => write!(f, "not enough memory to receive a message of {len} bytes"),
            Said::Codec(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl<T> SendError<T> {
    /// The value that was not sent.
    pub fn into_inner(self) -> T {
        match self {
            SendError::Closed(value) | SendError::TooLong { value, .. } | SendError::Encode { value, .. } => {
                value
            }
        }
    }

    fn say(&self) -> Said<'_> {
        match self {
            SendError::Closed(_) => Said::Closed,
            SendError::TooLong { len, limit, .. } => Said::TooLong(*len, *limit),
            SendError::Encode { source, .. } => Said::Codec(source),
        }
    }
}

impl<T> TrySendError<T> {
    /// The value that was not sent.
    pub fn into_inner(self) -> T {
        match self {
            TrySendError::Full(value)
            | TrySendError::Closed(value)
            | TrySendError::TooLong { value, .. }
            | TrySendError::Encode { value, .. } => value,
        }
    }

    fn say(&self) -> Said<'_> {
        match self {
            TrySendError::Full(_) => Said::Waiting("the queue is full"),
            TrySendError::Closed(_) => Said::Closed,
            TrySendError::TooLong { len, limit, .. } => Said::TooLong(*len, *limit),
            TrySendError::Encode { source, .. } => Said::Codec(source),
        }
    }
}

impl<T> SendTimeoutError<T> {
    /// The value that was not sent.
    pub fn into_inner(self) -> T {
        match self {
            SendTimeoutError::TimedOut(value)
            | SendTimeoutError::Closed(value)
            | SendTimeoutError::TooLong { value, .. }
            | SendTimeoutError::Encode { value, .. } => value,
        }
    }

    fn say(&self) -> Said<'_> {
        match self {
            SendTimeoutError::TimedOut(_) => Said::Waiting("the queue was full until the time was up"),
            SendTimeoutError::Closed(_) => Said::Closed,
            SendTimeoutError::TooLong { len, limit, .. } => Said::TooLong(*len, *limit),
            SendTimeoutError::Encode { source, .. } => Said::Codec(source),
        }
    }
}

impl RecvError {
    fn say(&self) -> Said<'_> {
        match self {
            RecvError::Closed => Said::ClosedAndEmpty,
            RecvError::Decode(error) => Said::Codec(error),
            RecvError::OutOfMemory { len } => Said::NoMemory(*len),
        }
    }
}

impl TryRecvError {
    fn say(&self) -> Said<'_> {
        match self {
            TryRecvError::Empty => Said::Waiting("the queue is empty"),
            TryRecvError::Closed => Said::ClosedAndEmpty,
            TryRecvError::Decode(error) => Said::Codec(error),
            TryRecvError::OutOfMemory { len } => Said::NoMemory(*len),
        }
    }
}

impl RecvTimeoutError {
    fn say(&self) -> Said<'_> {
        match self {
            RecvTimeoutError::TimedOut => Said::Waiting("the queue was empty until the time was up"),
            RecvTimeoutError::Closed => Said::ClosedAndEmpty,
            RecvTimeoutError::Decode(error) => Said::Codec(error),
            RecvTimeoutError::OutOfMemory { len } => Said::NoMemory(*len),
        }
    }
}

// Debug without a bound on the value: whatever was to be sent, `unwrap` can speak of it.
macro_rules! speaks_for_itself {
    ($($error:ident $(<$value:ident>)?),*) => {$(
        impl$(<$value>)? fmt::Display for $error$(<$value>)? {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.say().fmt(f)
            }
        }

        impl$(<$value>)? Error for $error$(<$value>)? {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                match self.say() {
                    Said::Codec(error) => error.source(),
                    _ => None,
                }
            }
        }
    )*};
}
speaks_for_itself!(
    SendError<T>,
    TrySendError<T>,
    SendTimeoutError<T>,
    RecvError,
    TryRecvError,
    RecvTimeoutError
);

macro_rules! debug_as_display {
    ($($error:ident),*) => {$(
        impl<T> fmt::Debug for $error<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($error), "({})"), self.say())
            }
        }
    )*};
}
debug_as_display!(SendError, TrySendError, SendTimeoutError);

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
