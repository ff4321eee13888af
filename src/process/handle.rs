//! [`Process`]: a child by its descriptor. Waits, signals, and reaps exactly once.
//!
//! # Invariants
//! - H1: the status is read once and kept. What has been reaped is never asked about again.
//! - H2: only the process that started a child reaps it; a forked copy of the handle knows by the lineage.
//! - H3: `pidfd` and `record` are open as long as the handle lives; at its drop the pidfd of a child that still lives
//!   moves to the list of orphans.

use std::{
    fmt, io,
    marker::PhantomData,
    mem::ManuallyDrop,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    thread,
    time::Duration,
};

use nix::{libc, unistd::Pid};
use serde::de::DeserializeOwned;

use crate::{
    os::pidfd,
    primitive::{Deadline, lineage},
    process::{
        ExitStatus, JoinError, JoinTimeoutError, NotParent, orphans,
        record::{Kind, Panic, Record},
    },
};

/// A child process that computes a `T`.
///
/// Made by [`Process::spawn`]. Dropping the handle detaches: the child goes on, nobody waits for it, and it is reaped
/// in passing by a later spawn or drop, so that it does not stay a zombie. A parent that ends, or is killed, leaves its
/// children running.
///
/// A handle that a fork copied can look at the process and signal it, but not wait for it: that says [`NotParent`].
///
/// # Examples
/// ```standalone_crate
/// use pshared::Process;
///
/// let words = vec!["shared", "memory"];
/// let child = Process::spawn(|| words.join(" "))?;
/// assert_eq!(child.join()?, "shared memory");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Python `multiprocessing.Process`; pidfd_open(2).
#[must_use = "a handle that is dropped detaches the process"]
pub struct Process<T = ()> {
    pid: Pid,
    pidfd: ManuallyDrop<OwnedFd>,
    record: Record,
    status: Option<ExitStatus>,
    lineage: u32,
    _value: PhantomData<fn() -> T>,
}

impl<T> Process<T> {
    pub(crate) fn new(pid: Pid, pidfd: OwnedFd, record: Record) -> Process<T> {
        let pidfd = ManuallyDrop::new(pidfd);
        Process { pid, pidfd, record, status: None, lineage: lineage(), _value: PhantomData }
    }

    /// Its process id. Once it has been reaped, a stranger may have the same.
    #[doc(alias = "ident")]
    pub fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// Waits until the process has ended, reaps it, and says how it ended. Later calls say the same at once.
    ///
    /// # Errors
    /// [`NotParent`] inside an [`io::Error`]; else what waitid(2) says.
    ///
    /// # References
    /// Python `Process.join()` followed by `exitcode`.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        match self.wait_until(None)? {
            Some(status) => Ok(status),
            None => unreachable!("a wait without a limit ended without an end"),
        }
    }

    /// The same, waiting at most `timeout` (CLOCK_MONOTONIC, from the call; zero looks once). `None` when it was still
    /// running.
    ///
    /// # Errors
    /// As for [`wait`](Process::wait).
    pub fn wait_timeout(&mut self, timeout: Duration) -> io::Result<Option<ExitStatus>> {
        self.wait_until(Some(Deadline::after(timeout)))
    }

    /// The same, waiting at most until `deadline`.
    ///
    /// # Errors
    /// As for [`wait`](Process::wait).
    pub fn wait_deadline(&mut self, deadline: Deadline) -> io::Result<Option<ExitStatus>> {
        self.wait_until(Some(deadline))
    }

    /// How the process ended, if it has; never blocks. Reaps it.
    ///
    /// # Errors
    /// As for [`wait`](Process::wait).
    ///
    /// # References
    /// Python `Process.exitcode`, which stays `None` for ever when somebody else reaped the child.
    #[doc(alias = "exitcode")]
    #[doc(alias = "try_wait")]
    pub fn exit_status(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.status.is_some() {
            return Ok(self.status);
        }
        if self.lineage != lineage() {
            return Err(NotParent.into());
        }
        let status = match pidfd::reap(self.as_fd()) {
            Ok(None) => return Ok(None),
            Ok(Some(ended)) => ended.into(),
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => {
                // No child of ours and not dead: then we are a copy that came about behind libc's back.
                if !self.has_ended()? {
                    return Err(NotParent.into());
                }
                self.status_of_the_reaped()
            }
            Err(error) => return Err(error),
        };
        self.status = Some(status);
        Ok(self.status)
    }

    /// Whether the process is still running; never blocks. What has ended is reaped.
    #[doc(alias = "sentinel")]
    pub fn is_alive(&mut self) -> bool {
        // What is no child of ours, or is a tracer's to see first, can still be looked at.
        !matches!(self.exit_status(), Ok(Some(_))) && !self.has_ended().unwrap_or(false)
    }

    /// Asks the process to end: SIGTERM. False when it had ended already.
    ///
    /// # Errors
    /// What pidfd_send_signal(2) says: EPERM when the process changed its user.
    ///
    /// # References
    /// Python `Process.terminate()`.
    pub fn terminate(&mut self) -> io::Result<bool> {
        self.signal(libc::SIGTERM)
    }

    /// Ends the process: SIGKILL. False when it had ended already. The end itself comes a little later: see
    /// [`wait`](Process::wait).
    ///
    /// # Errors
    /// As for [`terminate`](Process::terminate).
    ///
    /// # References
    /// Python `Process.kill()`.
    pub fn kill(&mut self) -> io::Result<bool> {
        self.signal(libc::SIGKILL)
    }

    /// Sends the signal of that number. False when the process had ended already: never does it reach a stranger who
    /// was given the same pid.
    ///
    /// # Errors
    /// EINVAL when there is no such signal; else as for [`terminate`](Process::terminate).
    #[doc(alias = "interrupt")]
    pub fn signal(&mut self, signal: i32) -> io::Result<bool> {
        if !self.is_alive() {
            return Ok(false);
        }
        pidfd::send_signal(self.as_fd(), signal)
    }

    fn has_ended(&self) -> io::Result<bool> {
        pidfd::wait_end(self.as_fd(), Some(Deadline::after(Duration::ZERO)))
    }

    fn wait_until(&mut self, deadline: Option<Deadline>) -> io::Result<Option<ExitStatus>> {
        loop {
            let status = self.exit_status()?;
            if status.is_some() {
                return Ok(status);
            }
            if !pidfd::wait_end(self.as_fd(), deadline)? {
                return self.exit_status();
            }
            if let Some(status) = self.exit_status()? {
                return Ok(Some(status));
            }
            // It has ended, and a tracer is to see it first.
            if deadline.is_some_and(|d| d.has_passed()) {
                return Ok(None);
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// The status of a child that has ended and that somebody else reaped, or the kernel since SIGCHLD is ignored.
    #[cold]
    fn status_of_the_reaped(&self) -> ExitStatus {
        // Whoever reaps it takes it from us first and leaves the note a moment later.
        for _ in 0..50 {
            match pidfd::exit_info(self.as_fd()) {
                Ok(Some(ended)) => return ended.into(),
                Ok(None) => thread::sleep(Duration::from_micros(100)),
                Err(_) => break,
            }
        }
        self.record.code().map_or(ExitStatus::UNKNOWN, ExitStatus::exited)
    }
}

impl<T: DeserializeOwned> Process<T> {
    /// Waits until the process has ended, and gives what its closure returned.
    ///
    /// # Errors
    /// - [`JoinError::Panicked`]: the closure did; its message is inside.
    /// - [`JoinError::NoValue`]: a signal ended the process, or its own `exit`.
    /// - [`JoinError::Lost`]: the value could not be encoded or decoded.
    /// - [`JoinError::NotParent`], [`JoinError::Os`].
    ///
    /// # References
    /// `std::thread::JoinHandle::join`; Python `Process.join()`, which brings no value home.
    pub fn join(mut self) -> Result<T, JoinError> {
        let status = self.wait().map_err(JoinError::from_wait)?;
        self.value(status)
    }

    /// The same, waiting at most `timeout` (CLOCK_MONOTONIC, from the call; zero looks once).
    ///
    /// # Errors
    /// [`JoinTimeoutError::TimedOut`] with the handle inside; else as for [`join`](Process::join).
    pub fn join_timeout(self, timeout: Duration) -> Result<T, JoinTimeoutError<T>> {
        self.join_deadline(Deadline::after(timeout))
    }

    /// The same, waiting at most until `deadline`.
    ///
    /// # Errors
    /// As for [`join_timeout`](Process::join_timeout).
    pub fn join_deadline(mut self, deadline: Deadline) -> Result<T, JoinTimeoutError<T>> {
        if self.lineage != lineage() {
            return Err(JoinTimeoutError::Failed(JoinError::NotParent));
        }
        match self.wait_until(Some(deadline)) {
            Ok(None) => Err(JoinTimeoutError::TimedOut(self)),
            Ok(Some(status)) => self.value(status).map_err(JoinTimeoutError::Failed),
            Err(error) => Err(JoinTimeoutError::Failed(JoinError::from_wait(error))),
        }
    }

    /// What the child left, now that it has ended.
    fn value(&self, status: ExitStatus) -> Result<T, JoinError> {
        if self.lineage != lineage() {
            return Err(JoinError::NotParent);
        }
        let found = match self.record.read() {
            Ok(Some(found)) => found,
            Ok(None) => return Err(JoinError::NoValue { status }),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(JoinError::Lost { reason: error.to_string(), status });
            }
            Err(source) => return Err(JoinError::Os { call: "pread", source }),
        };
        let lost = |reason: String| JoinError::Lost { reason, status };
        match found.kind {
            Kind::Value => decode(&found.body).map_err(lost),
            Kind::Panic => {
                let Panic { message, location } = decode(&found.body).map_err(lost)?;
                Err(JoinError::Panicked { message, location, status })
            }
            Kind::Unencodable | Kind::Unwritable => {
                Err(lost(String::from_utf8_lossy(&found.body).into_owned()))
            }
        }
    }
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(format!("{} bytes too many", rest.len())),
        Err(error) => Err(format!("cannot be decoded: {error}")),
    }
}

impl<T> Drop for Process<T> {
    fn drop(&mut self) {
        // SAFETY: the descriptor is taken here and nowhere else, and nothing of the handle is used afterwards.
        let pidfd = unsafe { ManuallyDrop::take(&mut self.pidfd) };
        if self.lineage != lineage() {
            return;
        }
        if self.status.is_none() && matches!(pidfd::reap(pidfd.as_fd()), Ok(None)) {
            orphans::adopt(pidfd);
        }
        orphans::reap();
    }
}

impl<T> AsFd for Process<T> {
    /// The pidfd: readable from the moment the process has ended, whatever its own children do.
    ///
    /// # References
    /// Python `Process.sentinel`, which a grandchild can hold back; pidfd_open(2).
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl<T> fmt::Debug for Process<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("pid", &self.pid()).field("status", &self.status).finish()
    }
}

const _: () = {
    /// A handle is descriptors and a status: it may go to any thread, whatever `T` is.
    const fn is_send_and_sync<P: Send + Sync>() {}
    is_send_and_sync::<Process<std::rc::Rc<u8>>>();
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_too_many_are_not_ignored() {
        assert_eq!(decode::<u8>(&[7]), Ok(7));
        assert_eq!(decode::<u8>(&[7, 8]), Err("1 bytes too many".into()));
        assert!(decode::<String>(&[9, b'x']).is_err());
    }
}
