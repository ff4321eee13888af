//! Errors of processes.

use std::{error::Error, fmt, io};

use crate::error::{CodecError, RegionError};

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
    /// The child could not be made what the builder asked for.
    Setting {
        /// What it was about.
        what: &'static str,
        /// What the system said in the child.
        source: io::Error,
    },
    /// Another start method than fork was asked for, and [`init`](crate::init) was not called before: a child would
    /// run this program from its beginning, and start children in its turn.
    NotInitialized,
    /// The program was begun anew and left before it came to [`init`](crate::init).
    NeverBegan {
        /// The code that it left with.
        code: i32,
    },
    /// No function of that name is registered, or more than one.
    Function {
        /// The name.
        name: &'static str,
    },
    /// The argument could not be encoded, or a handle in it not be sent.
    Argument(CodecError),
    /// The fork server was started by another process, of which this is a forked copy.
    NotParent,
    /// The fork server ended before it could serve.
    Server {
        /// How, and why if that is known.
        reason: String,
    },
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
            SpawnError::Setting { what, .. } => write!(f, "cannot start a process: its {what} cannot be set"),
            SpawnError::NotInitialized => {
                f.write_str("cannot start a process anew: main has not called pshared::init() first")
            }
            SpawnError::NeverBegan { code } => {
                write!(f, "the program began anew and left with {code} before it came to pshared::init()")
            }
            SpawnError::Function { name } => write!(f, "not exactly one function is registered as {name}"),
            SpawnError::Argument(_) => f.write_str("cannot start a process: its argument cannot be sent"),
            SpawnError::NotParent => f.write_str("the fork server is another process's: inherited by a fork"),
            SpawnError::Server { reason } => write!(f, "the fork server cannot serve: {reason}"),
            SpawnError::Os { call, .. } => write!(f, "cannot start a process: {call} failed"),
        }
    }
}

impl Error for SpawnError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            SpawnError::Memory(source) => Some(source),
            SpawnError::Os { source, .. } | SpawnError::Setting { source, .. } => Some(source),
            SpawnError::Argument(source) => Some(source),
            _ => None,
        }
    }
}

impl From<RegionError> for SpawnError {
    fn from(error: RegionError) -> SpawnError {
        SpawnError::Memory(error)
    }
}
