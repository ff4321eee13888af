//! A process by descriptor: never mistaken for a stranger who got the same pid.
//!
//! Sources: pidfd_open(2), pidfd_send_signal(2), waitid(2), poll(2), ioctl_pidfd(2), linux/pidfd.h; the
//! kernel's fs/pidfs.c: a pidfd hangs up after the note of the end was left.

use std::{
    io, mem,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    time::Duration,
};

use nix::{errno::Errno, libc, unistd::Pid};

use crate::os::{clock::Deadline, readiness};

/// How a child ended, as waitid(2) tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Exited(i32),
    Killed { signal: i32, core: bool },
}

/// What a process used in its life, as the kernel counted it when it was reaped: wait4(2)'s account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
    /// In bytes.
    pub(crate) peak_memory: u64,
    pub(crate) minor_faults: u64,
    pub(crate) major_faults: u64,
    pub(crate) voluntary_switches: u64,
    pub(crate) involuntary_switches: u64,
    /// Blocks of 512 bytes.
    pub(crate) blocks_read: u64,
    pub(crate) blocks_written: u64,
}

impl Account {
    fn new(raw: &libc::rusage) -> Account {
        let count = |n: libc::c_long| u64::try_from(n).unwrap_or(0);
        let time = |t: libc::timeval| Duration::new(count(t.tv_sec), count(t.tv_usec) as u32 * 1_000);
        Account {
            user: time(raw.ru_utime),
            system: time(raw.ru_stime),
            peak_memory: count(raw.ru_maxrss) * 1024,
            minor_faults: count(raw.ru_minflt),
            major_faults: count(raw.ru_majflt),
            voluntary_switches: count(raw.ru_nvcsw),
            involuntary_switches: count(raw.ru_nivcsw),
            blocks_read: count(raw.ru_inblock),
            blocks_written: count(raw.ru_oublock),
        }
    }
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

/// Waits until a child that was sent SIGSTOP has stopped; false if it has ended instead. Takes no end away.
pub(crate) fn wait_stopped(process: BorrowedFd<'_>) -> io::Result<bool> {
    loop {
        // SAFETY: an all-zero siginfo is a valid one; a descriptor that we hold.
        let (result, info) = unsafe {
            let mut info: libc::siginfo_t = mem::zeroed();
            let flags = libc::WSTOPPED | libc::WEXITED | libc::WNOWAIT;
            (libc::waitid(libc::P_PIDFD, process.as_raw_fd() as libc::id_t, &mut info, flags), info)
        };
        match Errno::result(result) {
            Ok(_) => return Ok(info.si_code == libc::CLD_STOPPED),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
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
    Ok(readiness::wait_ready(&mut [readiness::readable(process)], deadline)? > 0)
}

/// Whether the process has ended, and is a child of ours that nobody has reaped: it stays so. `Err(ECHILD)` as for
/// [`reap`]; and a stop that a tracer is to see is left to it.
pub(crate) fn is_to_reap(process: BorrowedFd<'_>) -> io::Result<bool> {
    let options = libc::WNOWAIT | libc::__WALL;
    Ok(wait(libc::P_PIDFD, process.as_raw_fd() as libc::id_t, options)?.is_some())
}

/// Reaps the process, which has ended. `Err(ECHILD)` means that somebody else reaped it, or that it is no child of
/// ours.
pub(crate) fn reap(process: BorrowedFd<'_>) -> io::Result<Option<(Ended, Account)>> {
    let ended = wait(libc::P_PIDFD, process.as_raw_fd() as libc::id_t, libc::__WALL)?;
    Ok(ended.map(|(_, ended, account)| (ended, account)))
}

/// A child of this process that has ended and is not reaped, whichever; it stays as it is.
pub(crate) fn any_ended_child() -> io::Result<Option<Pid>> {
    match wait(libc::P_ALL, 0, libc::WNOWAIT | libc::__WALL) {
        Ok(ended) => Ok(ended.map(|(pid, ..)| pid)),
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reaps the child of that number if it has ended.
pub(crate) fn reap_pid(child: Pid) -> io::Result<Option<Ended>> {
    let ended = wait(libc::P_PID, child.as_raw() as libc::id_t, libc::__WALL)?;
    Ok(ended.map(|(_, ended, _)| ended))
}

/// waitid(2) as the kernel has it: it knows an account too. Never blocks.
fn wait(kind: libc::idtype_t, id: libc::id_t, options: i32) -> io::Result<Option<(Pid, Ended, Account)>> {
    loop {
        // SAFETY: an all-zero siginfo_t is a valid one, and so is an all-zero rusage.
        let (mut info, mut usage): (libc::siginfo_t, libc::rusage) = unsafe { mem::zeroed() };
        let options = libc::WEXITED | libc::WNOHANG | options;
        // SAFETY: the kernel checks the numbers; a siginfo and a rusage of ours to write to.
        let result =
            unsafe { libc::syscall(libc::SYS_waitid, kind, id, &raw mut info, options, &raw mut usage) };
        match Errno::result(result) {
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
            Ok(_) => {}
        }
        // SAFETY: waitid filled these fields, or left the zeroes that mean "not yet".
        let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
        if pid == 0 {
            return Ok(None);
        }
        let ended = match info.si_code {
            libc::CLD_EXITED => Ended::Exited(status),
            code @ (libc::CLD_KILLED | libc::CLD_DUMPED) => {
                Ended::Killed { signal: status, core: code == libc::CLD_DUMPED }
            }
            // A stop of one that this process traces is told to every wait.
            _ => return Ok(None),
        };
        return Ok(Some((Pid::from_raw(pid), ended, Account::new(&usage))));
    }
}

/// Waits until the process has been reaped, by whomever: then [`exit_info`] knows all it will ever know (Linux 6.9).
///
/// It must have been taken by somebody already: then the end of the wait is the kernel's alone to bring about.
pub(crate) fn wait_reaped(process: BorrowedFd<'_>) -> io::Result<()> {
    let hung_up = libc::pollfd { events: 0, ..readiness::readable(process) };
    readiness::wait_ready(&mut [hung_up], None).map(drop)
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

/// What the kernel knows of a process by PIDFD_GET_INFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// It is not reaped yet; its parent has this number.
    Parent(u32),
    /// It was reaped, by whomever, and ended so (Linux 6.15).
    Ended(Ended),
}

/// How the process ended, if it was reaped.
///
/// An error means that this kernel does not know, ENOTTY before 6.13, ESRCH before 6.15; but ESRCH also says that the
/// process is being reaped at this instant.
pub(crate) fn exit_info(process: BorrowedFd<'_>) -> io::Result<Note> {
    let mut info = Info { mask: INFO_EXIT, ..Info::default() };
    // SAFETY: a descriptor we hold; the request names the size of `info`, which is ours to write to.
    let result = unsafe { libc::ioctl(process.as_raw_fd(), GET_INFO as libc::Ioctl, &raw mut info) };
    Errno::result(result)?;
    if info.mask & INFO_EXIT == 0 {
        return Ok(Note::Parent(info.ppid));
    }
    Ok(Note::Ended(Ended::from_wait_status(info.exit_code)))
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
