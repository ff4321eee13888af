//! Why there is no value of a task, and why there is no pool.

use std::{error::Error, fmt, io, time::Duration};

use crate::{
    error::{RegionError, SpawnError},
    pool::{AsyncResult, site::Failure},
    process::{ExitStatus, Panic, PanicLocation},
};

/// Why a task of a [`Pool`](crate::Pool) gave no value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskError {
    /// It panicked. Its worker goes on.
    Panicked {
        /// What it said.
        message: String,
        /// Where; `None` when the panic was resumed from elsewhere.
        location: Option<PanicLocation>,
    },
    /// The input of a map panicked when it was asked for the next item.
    InputPanicked {
        /// What it said.
        message: String,
    },
    /// Its argument, or its value, could not be sent.
    Encode {
        /// What was said about it.
        reason: String,
    },
    /// Its argument, or its value, could not be read where it came to.
    Decode {
        /// What was said about it.
        reason: String,
    },
    /// Its worker ended in the middle of it: by a signal, or by the task's own `exit`.
    WorkerDied {
        /// The number of the task, counted from 0 in the order in which tasks were given to the pool.
        task: u64,
        /// The process id that the worker had.
        pid: u32,
        /// How it ended.
        status: ExitStatus,
        /// The most memory that it had resident at a time, in bytes, if that is known.
        peak_memory: Option<u64>,
        /// How many workers have died of this task.
        deaths: u32,
    },
    /// Its time was up, so its worker was killed; or it was up before one had begun.
    TimedOut,
    /// It was cancelled.
    Cancelled,
    /// The pool was closed or terminated before.
    PoolClosed,
    /// No worker could be made ready: the initializer failed again and again, or no process could be started.
    InitFailed {
        /// What was said the last time.
        reason: String,
    },
    /// The supervisor of the pool was killed, and all workers with it.
    SupervisorDied,
    /// This process is a forked copy of the one that made the pool.
    NotParent,
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TaskError::Panicked { message, location: Some(place) } => {
                write!(f, "the task panicked at {place}: {message}")
            }
            TaskError::Panicked { message, location: None } => write!(f, "the task panicked: {message}"),
            TaskError::InputPanicked { message } => write!(f, "the input panicked: {message}"),
            TaskError::Encode { reason } => write!(f, "the task cannot be sent: {reason}"),
            TaskError::Decode { reason } => write!(f, "the task cannot be read: {reason}"),
            TaskError::WorkerDied { task, pid, status, peak_memory, deaths } => {
                write!(f, "the worker of task {task}, process {pid}, {}", Past(*status))?;
                if let Some(bytes) = peak_memory {
                    write!(f, ", peak memory {} MiB", bytes >> 20)?;
                }
                if *deaths > 1 { write!(f, "; {deaths} workers have died of it") } else { Ok(()) }
            }
            TaskError::TimedOut => f.write_str("the time of the task was up"),
            TaskError::Cancelled => f.write_str("the task was cancelled"),
            TaskError::PoolClosed => f.write_str("the pool is closed"),
            TaskError::InitFailed { reason } => write!(f, "no worker could be made ready: {reason}"),
            TaskError::SupervisorDied => f.write_str("the supervisor of the pool died"),
            TaskError::NotParent => f.write_str("the pool is another process's: inherited by a fork"),
        }
    }
}

/// How it ended, behind a subject.
struct Past(ExitStatus);

impl fmt::Display for Past {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.signal().is_some() { write!(f, "was {}", self.0) } else { self.0.fmt(f) }
    }
}

impl Error for TaskError {}

impl From<Failure> for TaskError {
    fn from(failure: Failure) -> TaskError {
        match failure {
            Failure::Panicked(Panic { message, location }) => TaskError::Panicked { message, location },
            Failure::Encode(reason) => TaskError::Encode { reason },
            Failure::Decode(reason) => TaskError::Decode { reason },
        }
    }
}

/// Why no pool was made. Nothing is left behind.
#[derive(Debug)]
#[non_exhaustive]
pub enum PoolError {
    /// There is no memory for it.
    Memory(RegionError),
    /// Its supervisor could not be started.
    Spawn(SpawnError),
    /// Its supervisor ended before it could begin.
    Supervisor {
        /// How.
        status: ExitStatus,
    },
    /// More workers than there can be, or none.
    Workers {
        /// How many were asked for.
        asked: usize,
        /// How many there can be.
        limit: usize,
    },
    /// The initializer captures something, which goes to workers by fork alone.
    Captures,
    /// The system refused.
    Os {
        /// The call that failed.
        call: &'static str,
        /// What it said.
        source: io::Error,
    },
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PoolError::Memory(_) => f.write_str("no shared memory for a pool"),
            PoolError::Spawn(_) => f.write_str("the supervisor of a pool cannot be started"),
            PoolError::Supervisor { status } => write!(f, "the supervisor of a pool ended at once: {status}"),
            PoolError::Workers { asked, limit } => write!(f, "{asked} workers: need 1 to {limit}"),
            PoolError::Captures => {
                f.write_str("the initializer captures something: it goes to workers by fork alone")
            }
            PoolError::Os { call, .. } => write!(f, "no pool can be made: {call} failed"),
        }
    }
}

impl Error for PoolError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            PoolError::Memory(source) => Some(source),
            PoolError::Spawn(source) => Some(source),
            PoolError::Os { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<RegionError> for PoolError {
    fn from(error: RegionError) -> PoolError {
        PoolError::Memory(error)
    }
}

impl From<SpawnError> for PoolError {
    fn from(error: SpawnError) -> PoolError {
        PoolError::Spawn(error)
    }
}

/// Why a task was not given to the pool without waiting.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TryApplyError<A> {
    /// As many tasks as there can be are on their way. The argument is inside.
    Full(A),
    /// It can never be given.
    Failed(TaskError),
}

impl<A> fmt::Debug for TryApplyError<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TryApplyError::Full(_) => f.write_str("Full(..)"),
            TryApplyError::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
        }
    }
}

impl<A> fmt::Display for TryApplyError<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TryApplyError::Full(_) => f.write_str("as many tasks as there can be are on their way"),
            TryApplyError::Failed(error) => error.fmt(f),
        }
    }
}

impl<A> Error for TryApplyError<A> {}

/// Why [`AsyncResult::get_timeout`] gave no value.
pub enum GetTimeoutError<R> {
    /// The task was not done when the time was up; it goes on. The handle is inside.
    TimedOut(AsyncResult<R>),
    /// There is no value.
    Failed(TaskError),
}

impl<R> fmt::Debug for GetTimeoutError<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GetTimeoutError::TimedOut(result) => f.debug_tuple("TimedOut").field(result).finish(),
            GetTimeoutError::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
        }
    }
}

impl<R> fmt::Display for GetTimeoutError<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GetTimeoutError::TimedOut(_) => f.write_str("the task was not done when the time was up"),
            GetTimeoutError::Failed(error) => error.fmt(f),
        }
    }
}

impl<R> Error for GetTimeoutError<R> {}

/// Why [`Pool::join`](crate::Pool::join) did not end well.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PoolJoinError {
    /// The pool has been neither closed nor terminated.
    StillOpen,
    /// It had not ended when the time was up.
    TimedOut {
        /// How long was waited.
        after: Duration,
    },
    /// What a task given to it would be told.
    Failed(TaskError),
}

impl fmt::Display for PoolJoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PoolJoinError::StillOpen => f.write_str("the pool is still open: close or terminate it first"),
            PoolJoinError::TimedOut { after } => write!(f, "the pool had not ended after {after:?}"),
            PoolJoinError::Failed(error) => error.fmt(f),
        }
    }
}

impl Error for PoolJoinError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_worker_is_told_with_all_that_is_known() {
        let died = TaskError::WorkerDied {
            task: 7,
            pid: 300,
            status: ExitStatus::exited(3),
            peak_memory: Some(5 << 20),
            deaths: 2,
        };
        let text =
            "the worker of task 7, process 300, exited with 3, peak memory 5 MiB; 2 workers have died of it";
        assert_eq!(died.to_string(), text);
    }
}
