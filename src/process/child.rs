//! [`Child`]: a child by its descriptor, whatever it computes. Waits, signals, and reaps exactly once.
//!
//! # Invariants
//! - H1: the end is read once and kept, under a lock of this process: of two threads that ask, one asks the kernel.
//! - H2: only the process that started a child reaps it; a forked copy of the handle knows by the lineage, and asks
//!   for no lock before it has looked at that.
//! - H3: the pidfd and the record are open as long as there is a handle; the list of this process's children has one
//!   until the end was read.

use std::{
    fmt, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    process,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use nix::{libc, unistd::Pid};

use crate::{
    os::{
        pidfd::{self, Note},
        readiness,
    },
    primitive::{AcqRel, Acquire, AtomicU32, Deadline, lineage},
    process::{
        ExitStatus, NotParent, Usage,
        here::{self, Identity},
        record::Record,
        tree,
    },
};

/// A child process, whatever it computes: watches it, signals it, learns how it ended.
///
/// Every [`Process`](crate::Process) is one; others come from [`active_children`](crate::active_children). A clone is
/// another handle to the same child, and a handle that is dropped does nothing to it. How the child ended is read once
/// and told to all handles, whoever asks first.
///
/// A handle that a fork copied can look at the process and signal it, but not wait for it: that says [`NotParent`].
///
/// # References
/// Python `multiprocessing.Process` as `active_children` gives it; pidfd_open(2).
#[derive(Clone)]
pub struct Child(Arc<Inner>);

struct Inner {
    pid: Pid,
    pidfd: OwnedFd,
    record: Record,
    identity: Identity,
    lineage: u32,
    end: Mutex<Option<End>>,
    claimed: AtomicU32,
}

/// What is known of a child whose status is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    Nothing,
    /// It was seen to have ended, so it need not be asked whether.
    Over,
    /// And the list of this process's children is seen to by whoever asks.
    Unlisted,
}

/// How a child ended, and what it used; the latter is gone when somebody else reaped it.
#[derive(Clone, Copy)]
struct End {
    status: ExitStatus,
    usage: Option<Usage>,
}

impl Child {
    pub(crate) fn new(pid: Pid, pidfd: OwnedFd, record: Record, identity: Identity) -> Child {
        let (end, claimed) = (Mutex::new(None), AtomicU32::new(0));
        Child(Arc::new(Inner { pid, pidfd, record, identity, lineage: lineage(), end, claimed }))
    }

    /// Its process id. Once it has been reaped, a stranger may have the same.
    #[doc(alias = "ident")]
    pub fn pid(&self) -> u32 {
        self.0.pid.as_raw().unsigned_abs()
    }

    /// Its name: as the builder was told, else by ancestry, as in `Process-1:2`.
    pub fn name(&self) -> &str {
        &self.0.identity.name
    }

    /// Whether it was started as a daemon, or by one.
    #[doc(alias = "daemon")]
    pub fn is_daemon(&self) -> bool {
        self.0.identity.daemon
    }

    /// Waits until the process has ended, reaps it, and says how it ended. Later calls say the same at once.
    ///
    /// # Errors
    /// [`NotParent`] inside an [`io::Error`]; else what waitid(2) says.
    ///
    /// # References
    /// Python `Process.join()` followed by `exitcode`.
    pub fn wait(&self) -> io::Result<ExitStatus> {
        match self.wait_until(None)? {
            Some(status) => Ok(status),
            None => unreachable!("a wait without a limit ended without an end"),
        }
    }

    /// The same, waiting at most `timeout` (CLOCK_MONOTONIC, from the call; zero looks once). `None` when it was still
    /// running.
    ///
    /// # Errors
    /// As for [`wait`](Child::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> io::Result<Option<ExitStatus>> {
        self.wait_until(Some(Deadline::after(timeout)))
    }

    /// The same, waiting at most until `deadline`.
    ///
    /// # Errors
    /// As for [`wait`](Child::wait).
    pub fn wait_deadline(&self, deadline: Deadline) -> io::Result<Option<ExitStatus>> {
        self.wait_until(Some(deadline))
    }

    /// How the process ended, if it has; never blocks. Reaps it.
    ///
    /// # Errors
    /// As for [`wait`](Child::wait).
    ///
    /// # References
    /// Python `Process.exitcode`, which stays `None` for ever when somebody else reaped the child.
    #[doc(alias = "exitcode")]
    #[doc(alias = "try_wait")]
    pub fn exit_status(&self) -> io::Result<Option<ExitStatus>> {
        self.status_now(Known::Nothing)
    }

    /// The same, by one who knows more.
    pub(crate) fn status_now(&self, known: Known) -> io::Result<Option<ExitStatus>> {
        if !self.is_ours() {
            return Err(NotParent.into());
        }
        let mut end = self.end();
        if let Some(end) = *end {
            return Ok(Some(end.status));
        }
        let to_reap = if known == Known::Nothing { pidfd::is_to_reap(self.as_fd()) } else { Ok(true) };
        let reaped = match to_reap {
            Ok(true) => pidfd::reap(self.as_fd()),
            Ok(false) => return Ok(None),
            Err(error) => Err(error),
        };
        let found = match reaped {
            Ok(None) => return Ok(None),
            Ok(Some((ended, account))) => End { status: ended.into(), usage: Some(account.into()) },
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => {
                // No child of ours and not dead: then we are a copy that came about behind libc's back.
                if !self.has_ended()? {
                    return Err(NotParent.into());
                }
                End { status: self.status_of_the_reaped()?, usage: None }
            }
            Err(error) => return Err(error),
        };
        *end = Some(found);
        drop(end);
        if known != Known::Unlisted {
            here::here().forget(self);
        }
        Ok(Some(found.status))
    }

    /// What the process used in its life, once it was reaped; `None` before, and for good when somebody else reaped it.
    ///
    /// # References
    /// getrusage(2); Python `resource.getrusage(RUSAGE_CHILDREN)`, which adds all children up.
    #[doc(alias = "rusage")]
    pub fn usage(&self) -> Option<Usage> {
        if !self.is_ours() {
            return None;
        }
        self.end().and_then(|end| end.usage)
    }

    /// What the process has used so far: its own, without what its children used. When it has ended, the same as
    /// [`usage`](Child::usage), if that is known.
    ///
    /// Times come in the kernel's ticks of 10 ms or so. Looks at /proc, which must be that of this process's pid
    /// namespace.
    ///
    /// # Errors
    /// [`NotParent`] inside an [`io::Error`]; of kind [`io::ErrorKind::NotFound`] when somebody else reaped it; else
    /// what the files in /proc say.
    ///
    /// # References
    /// proc_pid_stat(5), proc_pid_status(5), proc_pid_io(5).
    pub fn usage_so_far(&self) -> io::Result<Usage> {
        if self.exit_status()?.is_none() {
            let used = Usage::of_living(self.0.pid);
            // Its number was its own all the time if nobody has reaped it.
            if pidfd::send_signal(self.as_fd(), 0)? {
                return used;
            }
            self.wait()?;
        }
        self.usage().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Whether the process is still running; never blocks. What has ended is reaped.
    #[doc(alias = "sentinel")]
    pub fn is_alive(&self) -> bool {
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
    pub fn terminate(&self) -> io::Result<bool> {
        self.signal(libc::SIGTERM)
    }

    /// Ends the process: SIGKILL. False when it had ended already. The end itself comes a little later: see
    /// [`wait`](Child::wait).
    ///
    /// # Errors
    /// As for [`terminate`](Child::terminate).
    ///
    /// # References
    /// Python `Process.kill()`.
    pub fn kill(&self) -> io::Result<bool> {
        self.signal(libc::SIGKILL)
    }

    /// Interrupts the process, as Ctrl-C does: SIGINT. False when it had ended already.
    ///
    /// # Errors
    /// As for [`terminate`](Child::terminate).
    ///
    /// # References
    /// Python `Process.interrupt()`.
    pub fn interrupt(&self) -> io::Result<bool> {
        self.signal(libc::SIGINT)
    }

    /// Sends the signal of that number. False when the process had ended already: never does it reach a stranger who
    /// was given the same pid.
    ///
    /// # Errors
    /// EINVAL when there is no such signal; else as for [`terminate`](Child::terminate).
    pub fn signal(&self, signal: i32) -> io::Result<bool> {
        if !self.is_alive() {
            return Ok(false);
        }
        pidfd::send_signal(self.as_fd(), signal)
    }

    /// Ends the process: SIGTERM, then, if it is still there after `grace`, SIGKILL. Says how it ended.
    ///
    /// Waits at most `grace` for it to go by itself, and then as long as the kernel takes.
    ///
    /// # Errors
    /// As for [`wait`](Child::wait) and [`terminate`](Child::terminate).
    pub fn shutdown(&self, grace: Duration) -> io::Result<ExitStatus> {
        if let Some(status) = self.exit_status()? {
            return Ok(status);
        }
        self.terminate()?;
        if let Some(status) = self.wait_timeout(grace)? {
            return Ok(status);
        }
        self.kill()?;
        self.wait()
    }

    /// Waits for its end, and after `grace` ends it: SIGKILL.
    pub(crate) fn shutdown_after(&self, grace: Duration) -> io::Result<ExitStatus> {
        if let Some(status) = self.wait_timeout(grace)? {
            return Ok(status);
        }
        self.kill()?;
        self.wait()
    }

    /// Ends the process and all its descendants: SIGKILL. Says how many processes there were, 0 if it had ended.
    ///
    /// All of them are stopped first, parents before their children, so that none can start another unseen. A
    /// descendant whose own parent had ended before the call belongs to somebody else by then, and is not found; it
    /// died with its parent already if this crate started it and it was not told to outlive it. If the caller is
    /// killed in the middle, some may stay stopped. Looks at /proc, which must be that of this process's pid
    /// namespace.
    ///
    /// # Errors
    /// [`NotParent`] inside an [`io::Error`]; what the kernel says about a process that changed its user.
    pub fn kill_tree(&self) -> io::Result<usize> {
        if !self.is_ours() {
            return Err(NotParent.into());
        }
        if !self.is_alive() {
            return Ok(0);
        }
        tree::kill(self.0.pid, self.as_fd())
    }

    /// Whether it is this crate's own affair.
    pub(crate) fn is_service(&self) -> bool {
        self.0.identity.service
    }

    /// Whether this process started the child.
    pub(crate) fn is_ours(&self) -> bool {
        self.0.lineage == lineage()
    }

    /// Whether both are handles to the same child.
    pub(crate) fn is(&self, other: &Child) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn record(&self) -> &Record {
        &self.0.record
    }

    /// Notes that somebody asks for the child's value; says whether that is the first.
    pub(crate) fn claim(&self) -> bool {
        // ORDERING: nothing else is carried by it.
        self.0.claimed.swap(1, AcqRel) == 0
    }

    /// Whether somebody did.
    pub(crate) fn is_claimed(&self) -> bool {
        // ORDERING: nothing else is carried by it.
        self.0.claimed.load(Acquire) != 0
    }

    /// Whether it has ended, reaped or not.
    pub(crate) fn has_ended(&self) -> io::Result<bool> {
        pidfd::wait_end(self.as_fd(), Some(Deadline::after(Duration::ZERO)))
    }

    /// One descriptor to wait for.
    pub(crate) fn pollfd(&self) -> libc::pollfd {
        readiness::readable(self.as_fd())
    }

    fn end(&self) -> MutexGuard<'_, Option<End>> {
        self.0.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn wait_until(&self, deadline: Option<Deadline>) -> io::Result<Option<ExitStatus>> {
        loop {
            let status = self.exit_status()?;
            if status.is_some() {
                return Ok(status);
            }
            if !pidfd::wait_end(self.as_fd(), deadline)? {
                return self.exit_status();
            }
            if let Some(status) = self.status_now(Known::Over)? {
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
    ///
    /// Whoever reaps it takes it from us first and leaves the note a moment later, however long that is on a busy
    /// machine: so the note is waited for.
    #[cold]
    fn status_of_the_reaped(&self) -> io::Result<ExitStatus> {
        let note = match pidfd::exit_info(self.as_fd()) {
            // A zombie that waits for another parent: we are a copy, as above.
            Ok(Note::Parent(parent)) if parent != process::id() => return Err(NotParent.into()),
            Err(error) if error.raw_os_error() != Some(libc::ESRCH) => Err(error),
            Ok(Note::Ended(ended)) => Ok(Note::Ended(ended)),
            _ => pidfd::wait_reaped(self.as_fd()).and_then(|()| pidfd::exit_info(self.as_fd())),
        };
        match note {
            Ok(Note::Ended(ended)) => Ok(ended.into()),
            _ => Ok(self.0.record.code().map_or(ExitStatus::UNKNOWN, ExitStatus::exited)),
        }
    }
}

impl AsFd for Child {
    /// The pidfd: readable from the moment the process has ended, whatever its own children do.
    ///
    /// # References
    /// Python `Process.sentinel`, which a grandchild can hold back; pidfd_open(2).
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.pidfd.as_fd()
    }
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = if self.is_ours() { self.end().map(|end| end.status) } else { None };
        let mut shown = f.debug_struct("Child");
        shown.field("name", &self.name()).field("pid", &self.pid()).field("status", &status).finish()
    }
}
