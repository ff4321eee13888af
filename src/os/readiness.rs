//! Which descriptors are ready: ppoll(2) over some, epoll(7) for a set that is a descriptor itself, signalfd(2).

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
};

use nix::{errno::Errno, libc, sys::signal::SigSet};

use crate::os::clock::Deadline;

/// One descriptor to wait for; `revents` tells afterwards.
pub(crate) fn readable(file: BorrowedFd<'_>) -> libc::pollfd {
    libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 }
}

/// The same, for one to be written to.
pub(crate) fn writable(file: BorrowedFd<'_>) -> libc::pollfd {
    libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLOUT, revents: 0 }
}

/// Waits until one is as was asked or has failed; says how many, 0 when `deadline` came first. An interruption does not
/// end the wait.
pub(crate) fn wait_ready(files: &mut [libc::pollfd], deadline: Option<Deadline>) -> io::Result<usize> {
    loop {
        let limit = deadline.map(|d| {
            let left = d.remaining();
            libc::timespec {
                tv_sec: libc::time_t::try_from(left.as_secs()).unwrap_or(libc::time_t::MAX),
                tv_nsec: left.subsec_nanos().into(),
            }
        });
        let limit = limit.as_ref().map_or(ptr::null(), |t| t as *const libc::timespec);
        // SAFETY: pollfds of ours and their number, a timespec that outlives the call, no signal mask.
        let ready =
            unsafe { libc::ppoll(files.as_mut_ptr(), files.len() as libc::nfds_t, limit, ptr::null()) };
        match Errno::result(ready) {
            Ok(count) => return Ok(count as usize),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// An empty set of descriptors, which can be read while one of its members can.
pub(crate) fn new_set() -> io::Result<OwnedFd> {
    // SAFETY: a flag; the descriptor is new and nobody else has it.
    unsafe {
        let set = Errno::result(libc::epoll_create1(libc::EPOLL_CLOEXEC))?;
        Ok(OwnedFd::from_raw_fd(set))
    }
}

/// Adds `file` to the set.
pub(crate) fn add(set: BorrowedFd<'_>, file: BorrowedFd<'_>) -> io::Result<()> {
    let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
    // SAFETY: two descriptors that we hold, and an event of ours.
    let result =
        unsafe { libc::epoll_ctl(set.as_raw_fd(), libc::EPOLL_CTL_ADD, file.as_raw_fd(), &mut event) };
    Errno::result(result)?;
    Ok(())
}

/// Takes `file` out of the set. A close alone does not while a forked copy of the descriptor is open.
pub(crate) fn remove(set: BorrowedFd<'_>, file: BorrowedFd<'_>) -> io::Result<()> {
    let none = ptr::null_mut();
    // SAFETY: two descriptors that we hold.
    let result = unsafe { libc::epoll_ctl(set.as_raw_fd(), libc::EPOLL_CTL_DEL, file.as_raw_fd(), none) };
    Errno::result(result)?;
    Ok(())
}

/// A descriptor that can be read while one of these signals is pending, which the calling thread has blocked.
pub(crate) fn signals(signals: &SigSet) -> io::Result<OwnedFd> {
    // SAFETY: a set that libc made; the descriptor is new and nobody else has it.
    unsafe {
        let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
        let file = Errno::result(libc::signalfd(-1, signals.as_ref(), flags))?;
        Ok(OwnedFd::from_raw_fd(file))
    }
}

/// Takes what is pending at such a descriptor.
pub(crate) fn drain(signals: BorrowedFd<'_>) -> io::Result<()> {
    let mut taken = [0_u8; size_of::<libc::signalfd_siginfo>()];
    loop {
        // SAFETY: bytes of ours to write to, and their number.
        let read = unsafe { libc::read(signals.as_raw_fd(), taken.as_mut_ptr().cast(), taken.len()) };
        match Errno::result(read) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}
