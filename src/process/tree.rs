//! Ending a process with all its descendants.
//!
//! A process is stopped before its children are looked for, so that it cannot start another unseen; its children are
//! stopped next, and so on down. Only then is anybody killed: a parent that ended earlier would lose its children to
//! somebody else. Each is known by a pidfd that was opened while its parent stood still, and that was seen to be its
//! parent afterwards; so no signal reaches a stranger.
//!
//! Sources: proc_pid_task(5) (`children`), proc_pid_stat(5), pidfd_open(2).

use std::{
    fs, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    thread,
    time::Duration,
};

use nix::{libc, unistd::Pid};

use crate::{os::pidfd, primitive::Deadline};

/// How long a process may take to stop before we go on without: one that waits in the kernel for its own child's exec
/// stops only then.
const PATIENCE: Duration = Duration::from_secs(1);

/// Kills `root` and what descends from it; says how many there were.
pub(crate) fn kill(root: Pid, pidfd: BorrowedFd<'_>) -> io::Result<usize> {
    let mut members: Vec<(Pid, OwnedFd)> = vec![(root, pidfd.try_clone_to_owned()?)];
    let mut next = 0;
    while next < members.len() {
        let (pid, pidfd) = &members[next];
        let _ = pidfd::send_signal(pidfd.as_fd(), libc::SIGSTOP);
        stands_still(*pid);
        let found = children(*pid);
        // Its number was its own all the time if it is not reaped now.
        if pidfd::send_signal(pidfd.as_fd(), 0).unwrap_or(true) {
            members.extend(found);
        }
        next += 1;
    }
    let mut refused = None;
    let mut killed = 0;
    for (_, pidfd) in &members {
        let ended = pidfd::wait_end(pidfd.as_fd(), Some(Deadline::now())).unwrap_or(false);
        match pidfd::send_signal(pidfd.as_fd(), libc::SIGKILL) {
            Ok(there) => killed += usize::from(there && !ended),
            Err(error) => refused = Some(error),
        }
    }
    refused.map_or(Ok(killed), Err)
}

/// Waits until the process is stopped, or has ended.
fn stands_still(pid: Pid) {
    let limit = Deadline::after(PATIENCE);
    while !matches!(stat(pid), None | Some(('T' | 't' | 'Z' | 'X', _))) && !limit.has_passed() {
        thread::sleep(Duration::from_micros(100));
    }
}

/// State and parent of a process, if there is one of that number.
fn stat(pid: Pid) -> Option<(char, Pid)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit(')').next()?.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, Pid::from_raw(fields.next()?.parse().ok()?)))
}

/// The children of all threads of a process that stands still.
fn children(parent: Pid) -> Vec<(Pid, OwnedFd)> {
    let Ok(threads) = fs::read_dir(format!("/proc/{parent}/task")) else { return Vec::new() };
    let lists =
        threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let mut found = Vec::new();
    for pid in lists.collect::<String>().split_ascii_whitespace().filter_map(|pid| pid.parse().ok()) {
        let pid = Pid::from_raw(pid);
        if let Ok(pidfd) = pidfd::open(pid)
            && stat(pid).is_some_and(|(_, its)| its == parent)
        {
            found.push((pid, pidfd));
        }
    }
    found
}
