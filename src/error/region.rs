//! Errors of memory.

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
