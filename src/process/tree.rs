//! Ending a process with all its descendants.
//!
//! A process is stopped before its children are looked for, so that it cannot start another unseen; its children are
//! stopped next, and so on down. Only then is anybody killed: a parent that ended earlier would lose its children to
//! somebody else. Each is known by a pidfd that was opened while its parent stood still, and that was seen to be its
//! parent afterwards; so no signal reaches a stranger.
//!
//! # Who does not stop
//! A stop is felt at the next step outside of the kernel. Only what the kernel holds feels it late: one that waits for
//! its vfork(2) child, which may be among those that we have stopped, or one in a frozen cgroup. To wait for these
//! without end would be to wait for ourselves, so there is a limit, and nothing is concluded from its passing: whoever
//! did not stand still is looked at again, until a whole round of looks has found nobody new. In all that time such a
//! process runs nothing of its own. What could be missed is the child of a fork that the kernel is in the middle of
//! for longer than the limit, and for all of the last round: it is not killed, but dies with its parent if this crate
//! started it.
//!
//! Sources: proc_pid_task(5) (`children`), proc_pid_stat(5), pidfd_open(2), kernel/fork.c (copy_process).

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
    // Who has been looked at while it stood still, or has waited as long as we do, comes before `next`.
    let (mut next, mut unsettled) = (0, Vec::new());
    loop {
        while next < members.len() {
            if !look(&mut members, next, PATIENCE) {
                unsettled.push(next);
            }
            next += 1;
        }
        let mut again = Vec::new();
        for member in unsettled {
            if !look(&mut members, member, Duration::ZERO) {
                again.push(member);
            }
        }
        unsettled = again;
        if next == members.len() {
            break;
        }
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

/// Stops a member, and adds its children to the members. False: it did not stand still.
fn look(members: &mut Vec<(Pid, OwnedFd)>, member: usize, patience: Duration) -> bool {
    let (pid, pidfd) = &members[member];
    let _ = pidfd::send_signal(pidfd.as_fd(), libc::SIGSTOP);
    let still = stands_still(*pid, patience);
    let found = children(*pid);
    // Its number was its own all the time if it is not reaped now.
    if pidfd::send_signal(pidfd.as_fd(), 0).unwrap_or(true) {
        for (pid, pidfd) in found {
            // Who is among them already is not reaped yet, and has its number still.
            if !members.iter().any(|(other, _)| *other == pid) {
                members.push((pid, pidfd));
            }
        }
    }
    still
}

/// Waits until the process is stopped, or has ended; says whether.
fn stands_still(pid: Pid, patience: Duration) -> bool {
    let limit = Deadline::after(patience);
    loop {
        if matches!(stat(pid), None | Some(('T' | 't' | 'Z' | 'X', _))) {
            return true;
        }
        if limit.has_passed() {
            return false;
        }
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
