//! How a child ended, and what [`Process::join`] says instead of a value.

use std::{error::Error, fmt, io};

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::{os::pidfd::Ended, process::Process};

/// The exit code of a child whose closure panicked: that of a Rust program whose `main` did.
pub(crate) const PANICKED: i32 = 101;

/// How a process ended: by a code, by a signal, or nobody can tell.
///
/// # Examples
/// ```standalone_crate
/// use pshared::Process;
///
/// let mut child = Process::spawn(|| std::process::exit(3))?;
/// let status = child.wait()?;
/// assert_eq!((status.code(), status.signal()), (Some(3), None));
/// # let _: pshared::Process<()> = child;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// wait(2); Python `Process.exitcode`.
#[doc(alias = "exitcode")]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ExitStatus(Inner);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Inner {
    Exited(i32),
    Killed { signal: i32, core: bool },
    Unknown,
}

impl ExitStatus {
    pub(crate) const UNKNOWN: ExitStatus = ExitStatus(Inner::Unknown);

    pub(crate) fn exited(code: i32) -> ExitStatus {
        ExitStatus(Inner::Exited(code))
    }

    /// Whether it ended with code 0.
    pub fn success(&self) -> bool {
        self.0 == Inner::Exited(0)
    }

    /// The code it ended with: 0 to 255, of which a panic is 101. `None` when a signal ended it, or nobody can tell.
    pub fn code(&self) -> Option<i32> {
        match self.0 {
            Inner::Exited(code) => Some(code),
            _ => None,
        }
    }

    /// The number of the signal that ended it, if one did. SIGKILL is the kernel's too, when memory runs out; SIGABRT
    /// is what Rust makes of a stack overflow and of an allocation that fails.
    pub fn signal(&self) -> Option<i32> {
        match self.0 {
            Inner::Killed { signal, .. } => Some(signal),
            _ => None,
        }
    }

    /// Whether it left a core dump.
    pub fn core_dumped(&self) -> bool {
        matches!(self.0, Inner::Killed { core: true, .. })
    }

    /// Whether it has ended and nobody can tell how: another part of the program reaped it, the kernel is older than
    /// Linux 6.15, and it came neither to a value nor to a panic.
    pub fn is_unknown(&self) -> bool {
        self.0 == Inner::Unknown
    }

    /// As Python counts: the code, or minus the number of the signal; `None` when nobody can tell.
    ///
    /// # References
    /// Python `Process.exitcode`, which is `None` for the living too, and 1 for an uncaught exception.
    pub fn as_python(&self) -> Option<i32> {
        match self.0 {
            Inner::Exited(code) => Some(code),
            Inner::Killed { signal, .. } => Some(-signal),
            Inner::Unknown => None,
        }
    }
}

impl From<Ended> for ExitStatus {
    fn from(ended: Ended) -> ExitStatus {
        ExitStatus(match ended {
            Ended::Exited(code) => Inner::Exited(code),
            Ended::Killed { signal, core } => Inner::Killed { signal, core },
        })
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Inner::Exited(code) => write!(f, "exited with {code}"),
            Inner::Killed { signal, core } => {
                match Signal::try_from(signal) {
                    Ok(name) => write!(f, "killed by {name}")?,
                    Err(_) => write!(f, "killed by signal {signal}")?,
                }
                f.write_str(if core { ", core dumped" } else { "" })
            }
            Inner::Unknown => f.write_str("ended, status unknown"),
        }
    }
}

impl fmt::Debug for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ExitStatus({self})")
    }
}

/// Where a child panicked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PanicLocation {
    /// The source file, as the compiler was given it.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
}

impl fmt::Display for PanicLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// The process was started by another process than this one, of which this is a forked copy: only its parent can
/// wait for it. Where an [`io::Error`] is returned, this is the error inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotParent;

impl fmt::Display for NotParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not the parent of that process: the handle was inherited by a fork")
    }
}

impl Error for NotParent {}

impl From<NotParent> for io::Error {
    fn from(error: NotParent) -> io::Error {
        io::Error::other(error)
    }
}

/// Why there is no value of a child.
#[derive(Debug)]
#[non_exhaustive]
pub enum JoinError {
    /// Its closure panicked, or the destructor of its value did.
    Panicked {
        /// What it said.
        message: String,
        /// Where; `None` when the panic was resumed from elsewhere.
        location: Option<PanicLocation>,
        /// How the child ended: with code 101, unless something overtook it.
        status: ExitStatus,
    },
    /// It ended before there was a value: by a signal, or by its own `exit`.
    NoValue {
        /// How.
        status: ExitStatus,
    },
    /// The value could not be encoded, or not be written, in the child; or not be decoded here.
    Lost {
        /// What was said about it.
        reason: String,
        /// How the child ended.
        status: ExitStatus,
    },
    /// This process is a forked copy of the child's parent.
    NotParent,
    /// The system refused.
    Os {
        /// The call that failed.
        call: &'static str,
        /// What it said.
        source: io::Error,
    },
}

impl JoinError {
    /// How the child ended, where that was learnt.
    pub fn status(&self) -> Option<ExitStatus> {
        match self {
            JoinError::Panicked { status, .. }
            | JoinError::NoValue { status }
            | JoinError::Lost { status, .. } => Some(*status),
            JoinError::NotParent | JoinError::Os { .. } => None,
        }
    }

    /// What a wait said.
    pub(crate) fn from_wait(error: io::Error) -> JoinError {
        if error.get_ref().is_some_and(|inner| inner.is::<NotParent>()) {
            return JoinError::NotParent;
        }
        JoinError::Os { call: "waitid", source: error }
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinError::Panicked { message, location: Some(place), .. } => {
                write!(f, "the process panicked at {place}: {message}")
            }
            JoinError::Panicked { message, location: None, .. } => {
                write!(f, "the process panicked: {message}")
            }
            JoinError::NoValue { status } => write!(f, "the process left no value: {status}"),
            JoinError::Lost { reason, status } => write!(f, "the value was lost: {reason} ({status})"),
            JoinError::NotParent => write!(f, "{NotParent}"),
            JoinError::Os { call, .. } => write!(f, "cannot learn how the process ended: {call} failed"),
        }
    }
}

impl Error for JoinError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            JoinError::Os { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Why [`Process::join_timeout`] gave no value.
pub enum JoinTimeoutError<T> {
    /// It was still running when the time was up. The handle is inside.
    TimedOut(Process<T>),
    /// It has ended, or cannot be waited for.
    Failed(JoinError),
}

impl<T> JoinTimeoutError<T> {
    /// The handle, if it was the time that was up.
    pub fn into_process(self) -> Option<Process<T>> {
        match self {
            JoinTimeoutError::TimedOut(process) => Some(process),
            JoinTimeoutError::Failed(_) => None,
        }
    }
}

impl<T> fmt::Debug for JoinTimeoutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinTimeoutError::TimedOut(process) => f.debug_tuple("TimedOut").field(process).finish(),
            JoinTimeoutError::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
        }
    }
}

impl<T> fmt::Display for JoinTimeoutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinTimeoutError::TimedOut(_) => {
                f.write_str("the process was still running when the time was up")
            }
            JoinTimeoutError::Failed(error) => error.fmt(f),
        }
    }
}

impl<T> Error for JoinTimeoutError<T> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            JoinTimeoutError::TimedOut(_) => None,
            JoinTimeoutError::Failed(error) => error.source(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_how_it_ended() {
        let killed = |signal, core| ExitStatus::from(Ended::Killed { signal, core });
        assert_eq!(ExitStatus::exited(3).to_string(), "exited with 3");
        assert_eq!(killed(9, false).to_string(), "killed by SIGKILL");
        assert_eq!(killed(11, true).to_string(), "killed by SIGSEGV, core dumped");
        assert_eq!(killed(40, false).to_string(), "killed by signal 40");
        assert_eq!(ExitStatus::UNKNOWN.to_string(), "ended, status unknown");
    }

    #[test]
    fn python_counts_signals_downwards() {
        assert_eq!(ExitStatus::exited(3).as_python(), Some(3));
        assert_eq!(ExitStatus::from(Ended::Killed { signal: 9, core: false }).as_python(), Some(-9));
        assert_eq!(ExitStatus::UNKNOWN.as_python(), None);
    }

    #[test]
    fn an_unknown_status_is_no_success() {
        let unknown = ExitStatus::UNKNOWN;
        assert!(unknown.is_unknown() && !unknown.success());
        assert_eq!((unknown.code(), unknown.signal()), (None, None));
    }
}
