//! Errors of processes.

use std::{error::Error, fmt, io};

use crate::error::RegionError;

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
