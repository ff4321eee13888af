//! [`wait_any`]: one wait for several things, of which some are words and some are descriptors.
//!
//! # Protocol
//! Each [`Source`] is asked in turn: it is ready, or it names the word, or the descriptor, whose change would make it
//! so. Words are slept on by futex_waitv, descriptors by ppoll, and both at once by a ring of io_uring, which asks
//! nothing of those who commit: a bell of another kind, rung after the commit, would not be rung by one who is killed
//! in between. Afterwards all are asked again.
//!
//! # Invariants
//! - A1: a word is named with the value in which nothing was found; so what comes between is no sleep.
//! - A2: whoever changes such a word wakes all who sleep on it. So a sleeper here takes nobody's wake, and may die, or
//!   wake for something else.
//!
//! There is nothing to repair after a death: a sleeper leaves a bit in a word (`event.announced`, `bell.set`).

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use nix::libc;

use crate::{
    error::WaitAnyError,
    os::readiness,
    primitive::{self, Deadline, FutexWord, MAX_WORDS, Wake},
    sync::event::Event,
};

/// What [`wait_any`] can wait for: an [`Event`] that is set; a [`Queue`](crate::Queue) from which one can receive
/// without waiting; a channel's [`Receiver`](crate::Receiver) and a [`Connection`](crate::Connection) likewise; a
/// [`Child`](crate::Child) or [`Process`](crate::Process) that has ended; a descriptor that can be read or has failed.
pub trait Source: sealed::Sealed {}

pub(crate) mod sealed {
    use super::*;

    /// How a source is asked.
    pub trait Sealed {
        /// Whether it is ready; if not, says in `watch` what to sleep on. `began` is the source's own memory of this
        /// wait, empty at first.
        #[allow(private_interfaces, reason = "sealed: only this crate implements it")]
        fn look<'a>(&'a self, began: &mut Option<u32>, watch: &mut Watch<'a>) -> io::Result<bool>;
    }
}

use sealed::Sealed;

/// What to sleep on.
#[derive(Default)]
pub(crate) struct Watch<'a> {
    words: Vec<(&'a FutexWord, u32)>,
    files: Vec<BorrowedFd<'a>>,
    /// The sources that are ready if their descriptor is: which, and where the descriptor stands.
    plain: Vec<(usize, usize)>,
    asked: usize,
    /// A sleep lasts no longer.
    until: Option<Deadline>,
}

impl<'a> Watch<'a> {
    /// Until the word is no longer `expected`.
    pub(crate) fn word(&mut self, (word, expected): (&'a FutexWord, u32)) {
        self.words.push((word, expected));
    }

    /// And at most until then; then all are asked again.
    pub(crate) fn at_most_until(&mut self, until: Deadline) {
        self.until = Some(self.until.map_or(until, |earlier| earlier.min(until)));
    }

    /// Until the descriptor can be read; then the source is asked again.
    pub(crate) fn hint(&mut self, file: BorrowedFd<'a>) {
        self.files.push(file);
    }

    /// Until the descriptor can be read; then the source is ready.
    pub(crate) fn file(&mut self, file: BorrowedFd<'a>) {
        self.plain.push((self.asked, self.files.len()));
        self.files.push(file);
    }

    /// Adds to `ready` the sources whose descriptors are.
    fn poll(&self, ready: &mut Vec<usize>) -> io::Result<()> {
        let mut files: Vec<_> = self.files.iter().map(|&file| readiness::readable(file)).collect();
        if !self.plain.is_empty() && readiness::wait_ready(&mut files, Some(Deadline::now()))? > 0 {
            let is_ready = |&&(_, place): &&(usize, usize)| files[place].revents != 0;
            ready.extend(self.plain.iter().filter(is_ready).map(|&(source, _)| source));
            ready.sort_unstable();
        }
        Ok(())
    }

    /// Sleeps. May return for nothing.
    fn sleep(&self, deadline: Option<Deadline>) -> Result<(), WaitAnyError> {
        if self.words.len() > MAX_WORDS {
            return Err(WaitAnyError::TooMany { words: self.words.len(), limit: MAX_WORDS });
        }
        let deadline = self.until.into_iter().chain(deadline).min();
        match (self.words.is_empty(), self.files.is_empty()) {
            (_, true) => {
                let (Wake::Woken(_) | Wake::Changed | Wake::TimedOut | Wake::Interrupted) =
                    primitive::wait_any(&self.words, deadline);
                Ok(())
            }
            (true, false) => {
                let mut files: Vec<_> = self.files.iter().map(|&file| readiness::readable(file)).collect();
                let ended = readiness::wait_ready(&mut files, deadline);
                ended.map(drop).map_err(|source| WaitAnyError::Os { call: "ppoll", source })
            }
            (false, false) => {
                let ended = primitive::mixed::wait_mixed(&self.words, &self.files, deadline);
                ended.map_err(|source| match source.raw_os_error() {
                    Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM) => {
                        WaitAnyError::Os { call: "io_uring_setup", source }
                    }
                    _ => WaitAnyError::Unsupported { source },
                })
            }
        }
    }
}

/// Waits until one of the `sources` is ready, as long as it takes; says which are, by their places, in ascending order:
/// at least one.
///
/// What is found ready is as it was at that moment: of several processes that wait for one message one receives it. An
/// event counts as ready also if it was set during the wait and cleared again. A source that cannot be asked, such as a
/// connection that is another process's, is ready: to use it gives the error. Of a queue with registered senders
/// ([`Queue::sender`](crate::Queue::sender)), that they have all ended is found when the wait begins and whenever
/// something else ends the sleep, but does not end it: to hear of that at once, receive.
///
/// A death of whoever waits, or of whoever makes something ready, holds nobody up. Queues, channels and events among
/// themselves are at most 128; with processes, connections or descriptors among them the kernel must be Linux 6.7 or
/// later, and have io_uring allowed; and each sleep makes a ring, which takes ten times as long as another sleep.
/// Descriptors among themselves need neither.
///
/// # Errors
/// [`WaitAnyError::NoSources`], [`WaitAnyError::TooMany`], [`WaitAnyError::Unsupported`], [`WaitAnyError::Os`].
///
/// # Examples
/// ```
/// use pshared::{Event, Queue, wait_any};
///
/// let (stop, work) = (Event::new()?, Queue::new(4096)?);
/// work.send(1).unwrap();
/// assert_eq!(wait_any(&[&stop, &work])?, [1]);
/// stop.set();
/// assert_eq!(wait_any(&[&stop, &work])?, [0, 1]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Python `multiprocessing.connection.wait`, which knows descriptors alone; futex_waitv(2), ppoll(2), io_uring(7).
#[doc(alias = "select")]
pub fn wait_any(sources: &[&dyn Source]) -> Result<Vec<usize>, WaitAnyError> {
    wait_until(sources, None)
}

/// As [`wait_any`], if one is ready now.
///
/// # Errors
/// [`WaitAnyError::TimedOut`] if none is; else as for [`wait_any`].
pub fn try_wait_any(sources: &[&dyn Source]) -> Result<Vec<usize>, WaitAnyError> {
    wait_until(sources, Some(Deadline::now()))
}

/// As [`wait_any`], waiting at most `timeout` (CLOCK_MONOTONIC, from the call; zero looks once).
///
/// # Errors
/// [`WaitAnyError::TimedOut`]; else as for [`wait_any`].
pub fn wait_any_timeout(sources: &[&dyn Source], timeout: Duration) -> Result<Vec<usize>, WaitAnyError> {
    wait_until(sources, Some(Deadline::after(timeout)))
}

/// As [`wait_any`], waiting at most until `deadline`.
///
/// # Errors
/// As for [`wait_any_timeout`].
pub fn wait_any_deadline(sources: &[&dyn Source], deadline: Deadline) -> Result<Vec<usize>, WaitAnyError> {
    wait_until(sources, Some(deadline))
}

fn wait_until(sources: &[&dyn Source], deadline: Option<Deadline>) -> Result<Vec<usize>, WaitAnyError> {
    if sources.is_empty() {
        return Err(WaitAnyError::NoSources);
    }
    let mut began = vec![None; sources.len()];
    loop {
        // Before we look: what comes until then is found.
        let expired = deadline.is_some_and(|deadline| deadline.has_passed());
        let mut watch = Watch::default();
        let (mut ready, mut refused) = (Vec::new(), None);
        for (place, (source, began)) in sources.iter().zip(&mut began).enumerate() {
            watch.asked = place;
            match source.look(began, &mut watch) {
                Ok(true) => ready.push(place),
                Ok(false) => {}
                // For want of a descriptor, or of a place in a set: it cannot be waited for, and is not ready.
                Err(source) => refused = Some(WaitAnyError::Os { call: "epoll_ctl", source }),
            }
        }
        watch.poll(&mut ready).map_err(|source| WaitAnyError::Os { call: "ppoll", source })?;
        if !ready.is_empty() {
            return Ok(ready);
        }
        if let Some(refused) = refused {
            return Err(refused);
        }
        if expired {
            return Err(WaitAnyError::TimedOut);
        }
        watch.sleep(deadline)?;
    }
}

impl Source for Event {}

impl Sealed for Event {
    #[allow(private_interfaces, reason = "sealed: only this crate implements it")]
    fn look<'a>(&'a self, began: &mut Option<u32>, watch: &mut Watch<'a>) -> io::Result<bool> {
        match self.watch(began) {
            Some(word) => watch.word(word),
            None => return Ok(true),
        }
        Ok(false)
    }
}

/// A descriptor is ready when it can be read, or has failed.
impl Source for BorrowedFd<'_> {}

impl Sealed for BorrowedFd<'_> {
    #[allow(private_interfaces, reason = "sealed: only this crate implements it")]
    fn look<'a>(&'a self, _began: &mut Option<u32>, watch: &mut Watch<'a>) -> io::Result<bool> {
        watch.file(self.as_fd());
        Ok(false)
    }
}

/// A descriptor is ready when it can be read, or has failed.
impl Source for OwnedFd {}

impl Sealed for OwnedFd {
    #[allow(private_interfaces, reason = "sealed: only this crate implements it")]
    fn look<'a>(&'a self, _began: &mut Option<u32>, watch: &mut Watch<'a>) -> io::Result<bool> {
        watch.file(self.as_fd());
        Ok(false)
    }
}
