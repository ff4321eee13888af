//! [`Process`]: a [`Child`] and the value that it brings home.

use std::{
    fmt, io,
    marker::PhantomData,
    ops::Deref,
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use serde::de::DeserializeOwned;

use crate::{
    primitive::Deadline,
    process::{
        Child, ExitStatus, JoinError, JoinTimeoutError, here,
        record::{Found, Kind, Panic},
    },
};

/// What the drop of a [`Process`] does to a child that has not been joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnDrop {
    /// Nothing: it goes on as long as this process does, and is reaped in passing.
    #[default]
    Detach,
    /// Waits for its end.
    Join,
    /// SIGTERM; it is reaped in passing. What a daemon is done by.
    Terminate,
    /// SIGKILL, and waits for its end.
    Kill,
}

/// A child process that computes a `T`: a [`Child`], and its value.
///
/// Made by [`Process::spawn`], by [`Builder::spawn`](crate::Builder::spawn) and by
/// [`Context::start`](crate::Context::start). Dropping the handle detaches, unless it is a daemon's or the builder said
/// otherwise: the child goes on, nobody waits for it, and it is reaped in passing by a later spawn or drop, so that it
/// does not stay a zombie. When its parent ends in whatever way, SIGKILL included, the child ends too, unless it was
/// told to [outlive its parent](crate::Builder::outlive_parent).
///
/// A handle that a fork copied can look at the process and signal it, but not wait for it: that says
/// [`NotParent`](crate::NotParent).
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
    child: Child,
    on_drop: OnDrop,
    _value: PhantomData<fn() -> T>,
}

impl<T> Process<T> {
    /// What the drop does unless it was said is the child's nature.
    pub(crate) fn new(child: Child, on_drop: Option<OnDrop>) -> Process<T> {
        let usual = if child.is_daemon() { OnDrop::Terminate } else { OnDrop::Detach };
        let on_drop = on_drop.unwrap_or(usual);
        Process { child, on_drop, _value: PhantomData }
    }

    /// The child alone, whose handle's drop does nothing.
    pub(super) fn detached(mut self) -> Child {
        self.on_drop = OnDrop::Detach;
        self.child.clone()
    }

    /// A handle that knows nothing of the value, and whose drop does nothing.
    pub fn child(&self) -> &Child {
        &self.child
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
    pub fn join(self) -> Result<T, JoinError> {
        let status = self.child.wait().map_err(JoinError::from_wait)?;
        value(&self.child, status)
    }

    /// The same, if the process has ended; never blocks.
    ///
    /// # Errors
    /// [`JoinTimeoutError::TimedOut`] with the handle inside; else as for [`join`](Process::join).
    pub fn try_join(self) -> Result<T, JoinTimeoutError<T>> {
        self.join_timeout(Duration::ZERO)
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
    pub fn join_deadline(self, deadline: Deadline) -> Result<T, JoinTimeoutError<T>> {
        match self.child.wait_until(Some(deadline)) {
            Ok(None) => Err(JoinTimeoutError::TimedOut(self)),
            Ok(Some(status)) => value(&self.child, status).map_err(JoinTimeoutError::Failed),
            Err(error) => Err(JoinTimeoutError::Failed(JoinError::from_wait(error))),
        }
    }
}

/// What a child left that has ended with `status`.
fn value<T: DeserializeOwned>(child: &Child, status: ExitStatus) -> Result<T, JoinError> {
    let body = body(child, status)?;
    decode(&body).map_err(|reason| JoinError::Lost { reason, status })
}

/// The value that a child left, encoded still; or why there is none.
pub(crate) fn body(child: &Child, status: ExitStatus) -> Result<Vec<u8>, JoinError> {
    if !child.is_ours() {
        return Err(JoinError::NotParent);
    }
    child.claim();
    let Found { kind, body } = match child.record().read() {
        Ok(Some(found)) => found,
        Ok(None) => return Err(JoinError::NoValue { status }),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(JoinError::Lost { reason: error.to_string(), status });
        }
        Err(source) => return Err(JoinError::Os { call: "pread", source }),
    };
    let lost = |reason: String| JoinError::Lost { reason, status };
    match kind {
        Kind::Value => Ok(body),
        Kind::Panic => {
            let Panic { message, location } = decode(&body).map_err(lost)?;
            Err(JoinError::Panicked { message, location, status })
        }
        Kind::Unencodable | Kind::Unwritable => Err(lost(String::from_utf8_lossy(&body).into_owned())),
    }
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(format!("{} bytes too many", rest.len())),
        Err(error) => Err(format!("cannot be decoded: {error}")),
    }
}

impl<T> Deref for Process<T> {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.child
    }
}

impl<T> Drop for Process<T> {
    fn drop(&mut self) {
        if !self.child.is_ours() {
            return;
        }
        // What cannot be waited for or killed now is on the list, and reaped when it can.
        match self.on_drop {
            OnDrop::Detach => {}
            OnDrop::Join => drop(self.child.wait()),
            OnDrop::Terminate => drop(self.child.terminate()),
            OnDrop::Kill => drop(self.child.kill().and_then(|_| self.child.wait())),
        }
        here::here().reap();
    }
}

impl<T> AsFd for Process<T> {
    /// As for [`Child`].
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.child.as_fd()
    }
}

impl<T> fmt::Debug for Process<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Process").field(&self.child).finish()
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
