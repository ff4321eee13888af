//! Reaping without waiting: by looking now and then, or when a descriptor says so.

use std::{
    fmt, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use nix::libc;

use crate::{
    os::{newborn, pidfd, readiness},
    primitive::{Deadline, lineage},
    process::{
        Child, ExitStatus, NotParent,
        here::{self, Onlooker},
    },
};

/// Reaps the children of this process that have ended, and says which; never blocks.
///
/// Every start and every drop of a handle does the same. Handles to those children tell how they ended, as ever.
///
/// # References
/// Python's clean-up at `Process.start()` and `active_children()`; the classic loop over waitpid(-1, WNOHANG), which
/// takes other people's children too.
pub fn reap_now() -> Vec<Child> {
    let reaped = here::here().reap().into_iter().map(|(child, _)| child);
    reaped.filter(|child| !child.is_service()).collect()
}

/// What a [`Reaper`] found.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Reaped {
    /// Children that this process started, each with how it ended.
    pub children: Vec<(Child, ExitStatus)>,
    /// Process id and end of those that this crate did not start here. Empty, unless it is a subreaper's.
    pub adopted: Vec<(u32, ExitStatus)>,
}

/// A descriptor that can be read while a child of this process has ended that it has not told about: for event loops.
///
/// It tells about every child that ran when it was made, or was started later by whatever thread, once, whoever reaped
/// it. It is a set of pidfds, so there is no signal in it, and no handler is installed for anybody. A child that finds
/// no place in the set (epoll(7), max_user_watches) is waited for by [`wait`](Reaper::wait), but not by the descriptor.
///
/// # Examples
/// ```standalone_crate
/// use pshared::{Process, Reaper};
///
/// let reaper = Reaper::new()?;
/// let child = Process::spawn(|| ())?;
/// reaper.wait()?; // or `reaper.as_fd()` in an event loop
/// let reaped = reaper.reap()?;
/// assert_eq!(reaped.children[0].0.pid(), child.pid());
/// assert!(child.wait()?.success());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// A SIGCHLD handler that calls waitpid(2); epoll(7), PR_SET_CHILD_SUBREAPER(2const), signalfd(2).
pub struct Reaper {
    onlooker: Arc<Onlooker>,
    sigchld: Option<OwnedFd>,
    lineage: u32,
}

impl Reaper {
    /// A reaper of the children that this process starts.
    ///
    /// # Errors
    /// What the system says, for want of a descriptor.
    pub fn new() -> io::Result<Reaper> {
        Ok(Reaper { onlooker: here::here().look_on()?, sigchld: None, lineage: lineage() })
    }

    /// A reaper of all children, and of descendants whose own parents have ended: they come to this process from now
    /// on, instead of to the system's first.
    ///
    /// Blocks SIGCHLD in the calling thread, and makes this process a subreaper; both stay when it is dropped. Call it
    /// before there are other threads, which then block it too: one that does not would take the news of an adopted
    /// child away. It reaps *every* child that has ended, those of `std::process::Command` too: for programs that are
    /// the head of a tree.
    ///
    /// # Errors
    /// As for [`new`](Reaper::new).
    pub fn subreaper() -> io::Result<Reaper> {
        let reaper = Reaper::new()?;
        let mask = newborn::mask_of(&[libc::SIGCHLD])?;
        let sigchld = readiness::signals(&mask)?;
        newborn::block(&mask)?;
        readiness::add(reaper.as_fd(), sigchld.as_fd())?;
        newborn::be_subreaper()?;
        Ok(Reaper { sigchld: Some(sigchld), ..reaper })
    }

    /// Reaps what has ended, and says what it has not said before; never blocks.
    ///
    /// # Errors
    /// [`NotParent`] inside an [`io::Error`], in a forked copy; else what waitid(2) says.
    pub fn reap(&self) -> io::Result<Reaped> {
        if self.lineage != lineage() {
            return Err(NotParent.into());
        }
        // Emptied before we look: what ends later rings anew.
        if let Some(sigchld) = &self.sigchld {
            readiness::drain(sigchld.as_fd())?;
        }
        let mut reaped = Reaped { children: self.onlooker.ended(), adopted: Vec::new() };
        if self.sigchld.is_none() {
            return Ok(reaped);
        }
        while let Some(pid) = pidfd::any_ended_child()? {
            let number = pid.as_raw().unsigned_abs();
            match here::here().listed().into_iter().find(|child| child.pid() == number) {
                Some(child) if child.exit_status()?.is_some() => {}
                Some(_) => break, // a tracer is to see it first
                None => match pidfd::reap_pid(pid) {
                    Ok(Some(ended)) => reaped.adopted.push((number, ended.into())),
                    Ok(None) => break,
                    Err(_) => {} // another thread was first
                },
            }
        }
        // Ours that ended in the meantime.
        reaped.children.append(&mut self.onlooker.ended());
        Ok(reaped)
    }

    /// Waits until there is something to reap.
    ///
    /// # Errors
    /// What ppoll(2) says.
    pub fn wait(&self) -> io::Result<()> {
        self.wait_until(None).map(|_| ())
    }

    /// The same, waiting at most `timeout`; says whether there is.
    ///
    /// # Errors
    /// As for [`wait`](Reaper::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> io::Result<bool> {
        self.wait_until(Some(Deadline::after(timeout)))
    }

    /// The same, waiting at most until `deadline`.
    ///
    /// # Errors
    /// As for [`wait`](Reaper::wait).
    pub fn wait_deadline(&self, deadline: Deadline) -> io::Result<bool> {
        self.wait_until(Some(deadline))
    }

    fn wait_until(&self, deadline: Option<Deadline>) -> io::Result<bool> {
        let unheard = self.onlooker.unheard();
        let mut files = vec![readiness::readable(self.as_fd())];
        files.extend(unheard.iter().map(Child::pollfd));
        Ok(readiness::wait_ready(&mut files, deadline)? > 0)
    }
}

impl AsFd for Reaper {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.onlooker.as_fd()
    }
}

impl fmt::Debug for Reaper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reaper").field("subreaper", &self.sigchld.is_some()).finish_non_exhaustive()
    }
}
