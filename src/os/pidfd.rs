//! A process by descriptor: never mistaken for a stranger who got the same pid.
//!
//! Sources: pidfd_open(2), pidfd_send_signal(2), waitid(2), poll(2), ioctl_pidfd(2), linux/pidfd.h.

use std::{
    io, mem,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use nix::{errno::Errno, libc, unistd::Pid};

use crate::os::clock::Deadline;

/// How a child ended, as waitid(2) tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Exited(i32),
    Killed { signal: i32, core: bool },
}

/// Opens a descriptor for `pid`, close-on-exec.
pub(crate) fn open(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: a system call that takes two integers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Sends `signal`; false when the process has been reaped already. A zombie takes every signal and feels none.
pub(crate) fn send_signal(process: BorrowedFd<'_>, signal: i32) -> io::Result<bool> {
    // SAFETY: a descriptor we hold, a number that the kernel checks, no siginfo, no flags.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    match Errno::result(result) {
        Ok(_) => Ok(true),
        Err(Errno::ESRCH) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Waits until the process has ended, without reaping it; false when `deadline` came first.
pub(crate) fn wait_end(process: BorrowedFd<'_>, deadline: Option<Deadline>) -> io::Result<bool> {
    loop {
        let limit = deadline.map(|d| {
            let left = d.remaining();
            libc::timespec {
                tv_sec: libc::time_t::try_from(left.as_secs()).unwrap_or(libc::time_t::MAX),
                tv_nsec: left.subsec_nanos().into(),
            }
        });
        let limit = limit.as_ref().map_or(std::ptr::null(), |t| t as *const libc::timespec);
        let mut poll = libc::pollfd { fd: process.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd of ours, a timespec that outlives the call, no signal mask.
        let ready = unsafe { libc::ppoll(&mut poll, 1, limit, std::ptr::null()) };
        match Errno::result(ready) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Reaps the process if it has ended. `Err(ECHILD)` means that somebody else reaped it, or that it is no child of ours.
pub(crate) fn reap(process: BorrowedFd<'_>) -> io::Result<Option<Ended>> {
    loop {
        // SAFETY: an all-zero siginfo_t is a valid one.
        let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
        let id = process.as_raw_fd() as libc::id_t;
        let options = libc::WEXITED | libc::WNOHANG | libc::__WALL;
        // SAFETY: a descriptor we hold, and a siginfo of ours to write to.
        match Errno::result(unsafe { libc::waitid(libc::P_PIDFD, id, &mut info, options) }) {
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
            Ok(_) => {}
        }
        // SAFETY: waitid filled these fields, or left the zeroes that mean "not yet".
        let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
        if pid == 0 {
            return Ok(None);
        }
        return Ok(Some(match info.si_code {
            libc::CLD_EXITED => Ended::Exited(status),
            code => Ended::Killed { signal: status, core: code == libc::CLD_DUMPED },
        }));
    }
}

/// The struct of PIDFD_GET_INFO in its first form, 64 bytes, which every kernel that has the call accepts.
#[repr(C)]
#[derive(Default)]
struct Info {
    mask: u64,
    cgroup: u64,
    pid: u32,
    tgid: u32,
    ppid: u32,
    /// Real, effective, saved and file system user and group.
    ids: [u32; 8],
    /// As wait(2) packs it; good when `mask` comes back with [`INFO_EXIT`].
    exit_code: i32,
}

const _: () = assert!(size_of::<Info>() == 64);

const INFO_EXIT: u64 = 1 << 3;
/// `_IOWR(0xff, 11, struct pidfd_info)`.
const GET_INFO: u32 = (3 << 30) | ((size_of::<Info>() as u32) << 16) | (0xff << 8) | 11;

/// How the process ended, once it was reaped, by whomever (Linux 6.15).
///
/// `Ok(None)` means that it was not reaped yet. An error means that this kernel does not know: ENOTTY before 6.13,
/// ESRCH before 6.15.
pub(crate) fn exit_info(process: BorrowedFd<'_>) -> io::Result<Option<Ended>> {
    let mut info = Info { mask: INFO_EXIT, ..Info::default() };
    // SAFETY: a descriptor we hold; the request names the size of `info`, which is ours to write to.
    let result = unsafe { libc::ioctl(process.as_raw_fd(), GET_INFO as libc::Ioctl, &raw mut info) };
    Errno::result(result)?;
    if info.mask & INFO_EXIT == 0 {
        return Ok(None);
    }
    Ok(Some(Ended::from_wait_status(info.exit_code)))
}

impl Ended {
    /// From the status as wait(2) packs it.
    fn from_wait_status(status: i32) -> Ended {
        if libc::WIFEXITED(status) {
            Ended::Exited(libc::WEXITSTATUS(status))
        } else {
            Ended::Killed { signal: libc::WTERMSIG(status), core: libc::WCOREDUMP(status) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_status_is_unpacked() {
        assert_eq!(Ended::from_wait_status(3 << 8), Ended::Exited(3));
        assert_eq!(Ended::from_wait_status(9), Ended::Killed { signal: 9, core: false });
        assert_eq!(Ended::from_wait_status(11 | 0x80), Ended::Killed { signal: 11, core: true });
    }
}
