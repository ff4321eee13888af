//! [`HandleError`]: shared objects on their way to another process.

use std::{error::Error, fmt, io};

/// Why a handle to a shared object could not be sent to another process, or not be opened there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandleError {
    /// It was serialised or deserialised elsewhere than in the start of a process: a handle is a mapping and a place in
    /// it, and its descriptor can travel only there.
    Elsewhere,
    /// The bytes name no object that was sent along, or one of another type.
    Unknown,
    /// What was sent as shared memory is no region of this program: nothing was mapped, or nothing is any more.
    NoRegion {
        /// What is wrong with it: its seals, its size, or a field of its header.
        what: &'static str,
        /// What it is.
        found: u64,
        /// What it would have to be; a size, at least.
        expected: u64,
    },
    /// The object holds what only its own process can have.
    Bound {
        /// What that is.
        what: &'static str,
    },
    /// The system refused.
    Os {
        /// The call that failed.
        call: &'static str,
        /// The number of its error, as errno(3) lists them.
        code: i32,
    },
}

impl fmt::Display for HandleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HandleError::Elsewhere => {
                f.write_str("a handle to a shared object travels only in the start of a process")
            }
            HandleError::Unknown => f.write_str("the bytes name no object of that type that was sent along"),
            HandleError::NoRegion { what, found, expected } => {
                write!(f, "no region of this program: its {what} is {found}, where {expected} is needed")
            }
            HandleError::Bound { what } => write!(f, "the object cannot be sent: {what}"),
            HandleError::Os { call, code } => {
                write!(f, "{call} failed: {}", io::Error::from_raw_os_error(*code))
            }
        }
    }
}

impl Error for HandleError {}
