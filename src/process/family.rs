//! Who this process is, who started it, and whom it started.

use std::{
    fmt, io,
    os::fd::{AsFd, OwnedFd},
    process,
    time::Duration,
};

use nix::unistd::Pid;

use crate::{
    os::{newborn, pidfd},
    primitive::Deadline,
    process::{
        Child,
        here::{self, Here},
    },
};

/// This process, as its parent named it.
///
/// # References
/// Python `multiprocessing.current_process()`.
#[derive(Clone, Copy)]
pub struct CurrentProcess(&'static Here);

/// This process.
///
/// The program itself is called `MainProcess`. A copy that a foreign fork made has its original's name.
pub fn current_process() -> CurrentProcess {
    CurrentProcess(here::here())
}

impl CurrentProcess {
    /// Its name.
    pub fn name(&self) -> &'static str {
        &self.0.identity.name
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        process::id()
    }

    /// Whether it was started as a daemon, or by one.
    pub fn is_daemon(&self) -> bool {
        self.0.identity.daemon
    }
}

impl fmt::Debug for CurrentProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CurrentProcess").field("name", &self.name()).field("pid", &self.pid()).finish()
    }
}

/// The process that started this one.
///
/// # References
/// Python `multiprocessing.parent_process()`.
#[derive(Debug)]
pub struct ParentProcess {
    pid: u32,
    name: &'static str,
    /// None: it had ended when we looked.
    pidfd: Option<OwnedFd>,
}

/// The process that started this one; `None` in the program itself.
///
/// # Errors
/// What pidfd_open(2) says, for want of a descriptor.
pub fn parent_process() -> io::Result<Option<ParentProcess>> {
    let Some((pid, name)) = &here::here().identity.parent else { return Ok(None) };
    let is_ours = || [*pid, 0].contains(&(newborn::parent() as u32));
    let pidfd = match pidfd::open(Pid::from_raw(*pid as i32)) {
        // Whoever is our parent still was it when the descriptor was opened.
        Ok(pidfd) => Some(pidfd).filter(|_| is_ours()),
        Err(error) if is_ours() => return Err(error),
        Err(_) => None,
    };
    Ok(Some(ParentProcess { pid: *pid, name, pidfd }))
}

impl ParentProcess {
    /// Its process id, which is a stranger's perhaps once it has ended.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.name
    }

    /// Whether it is still running; never blocks.
    pub fn is_alive(&self) -> bool {
        // A wait that fails has not seen the end.
        self.wait_deadline(Deadline::now()).is_ok_and(|ended| !ended)
    }

    /// Waits until it has ended. How it ended is its own parent's to know.
    ///
    /// # Errors
    /// What ppoll(2) says.
    #[doc(alias = "join")]
    pub fn wait(&self) -> io::Result<()> {
        self.wait_until(None).map(|_| ())
    }

    /// The same, waiting at most `timeout`; says whether it has ended.
    ///
    /// # Errors
    /// As for [`wait`](ParentProcess::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> io::Result<bool> {
        self.wait_deadline(Deadline::after(timeout))
    }

    /// The same, waiting at most until `deadline`.
    ///
    /// # Errors
    /// As for [`wait`](ParentProcess::wait).
    pub fn wait_deadline(&self, deadline: Deadline) -> io::Result<bool> {
        self.wait_until(Some(deadline))
    }

    fn wait_until(&self, deadline: Option<Deadline>) -> io::Result<bool> {
        self.pidfd.as_ref().map_or(Ok(true), |pidfd| pidfd::wait_end(pidfd.as_fd(), deadline))
    }
}

/// The children of this process that are running; reaps those that have ended.
///
/// # Examples
/// ```standalone_crate
/// use pshared::{Process, active_children};
///
/// let child = Process::builder().name("sleeper").spawn(|| std::thread::sleep(std::time::Duration::from_secs(60)))?;
/// assert_eq!(active_children()[0].name(), "sleeper");
/// child.kill()?;
/// child.wait()?;
/// assert!(active_children().is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Python `multiprocessing.active_children()`.
pub fn active_children() -> Vec<Child> {
    let here = here::here();
    here.reap();
    here.listed().into_iter().filter(|child| child.is_ours() && !child.is_service()).collect()
}
