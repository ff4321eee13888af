//! fork(2) by libc, so that the child has a robust list and a TID of its own, with no signal in between.
//!
//! Sources: fork(2), clone(2), set_tid_address(2), PR_GET_TID_ADDRESS(2const), glibc's sysdeps/nptl/_Fork.c,
//! pthread_atfork(3), signal-safety(7), unshare(2), proc_pid_task(5), proc_pid_stat(5), _exit(2), wait(2).

use std::{fs, hint::black_box, io, os::linux::fs::MetadataExt, ptr};

use nix::{
    errno::Errno,
    libc,
    sys::{
        signal::{SigSet, SigmaskHow, sigprocmask},
        wait::waitpid,
    },
    unistd::{ForkResult, Pid},
};

use crate::os::{map, robust_list};

/// Which side of a fork we are on.
#[derive(Debug)]
pub(crate) enum Side {
    /// Every signal is blocked still.
    Child,
    Parent(Pid),
}

/// Forks with every signal blocked. The parent's mask is as before when this returns; the child sets its own, and finds
/// the one of before in `mask`.
///
/// # Safety
/// As for fork(2): in a program with other threads the child may only do what is async-signal-safe.
pub(crate) unsafe fn fork(mask: &mut SigSet) -> io::Result<Side> {
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(mask))?;
    // SAFETY: passed on to the caller.
    let forked = unsafe { nix::unistd::fork() };
    if let Ok(ForkResult::Child) = forked {
        return Ok(Side::Child);
    }
    // A mask that was read a moment ago can be set again.
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(mask), None);
    match forked? {
        ForkResult::Child => unreachable!("the child went its way"),
        ForkResult::Parent { child } => Ok(Side::Parent(child)),
    }
}

/// Where libc keeps the number of the calling thread.
///
/// The kernel knows: it clears it when the thread ends. On musl that is another word, which is seen by its value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TidAddress(*mut libc::pid_t);

impl TidAddress {
    /// # Errors
    /// What prctl(2) says, in a kernel without checkpoints; ENOTSUP where libc keeps the number elsewhere.
    pub(crate) fn of_this_thread() -> io::Result<TidAddress> {
        let mut address: *mut libc::pid_t = ptr::null_mut();
        // SAFETY: a pointer of ours to write to; the kernel's word is mapped as long as the thread lives.
        unsafe {
            Errno::result(libc::prctl(libc::PR_GET_TID_ADDRESS, &raw mut address))?;
            if address.is_null() || address.read() != libc::gettid() {
                return Err(Errno::ENOTSUP.into());
            }
        }
        Ok(TidAddress(address))
    }
}

/// Forks a child of this process's *parent*, with every signal blocked, as [`fork`]. The kernel writes its number to
/// `number` before it runs.
///
/// libc cannot do this, so what its fork does in the child is done here: the thread's number, by the kernel, and the
/// robust list, which is empty and registered anew. Locks of libc's are free, since there is one thread. What is *not*
/// done: handlers of pthread_atfork(3) do not run; ours is the caller's to call.
///
/// # Safety
/// This process has one thread, whose address `tid` is, and which holds no robust lock. `number` is a word that stays
/// mapped.
pub(crate) unsafe fn fork_for_parent(number: *mut u32, tid: TidAddress) -> io::Result<Side> {
    let head = robust_list::head()?;
    let mut before = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before))?;
    let flags = libc::CLONE_PARENT
        | libc::CLONE_PARENT_SETTID
        | libc::CLONE_CHILD_SETTID
        | libc::CLONE_CHILD_CLEARTID;
    let flags = (flags | libc::SIGCHLD) as libc::c_long;
    let (number, tid) = (number as libc::c_long, tid.0 as libc::c_long);
    // The order of the last two differs between machines; one of them is for a flag that is not set.
    // SAFETY: without a stack of its own the child goes on on a copy of ours; the rest as the caller vouches.
    let forked = unsafe {
        if cfg!(target_arch = "s390x") {
            libc::syscall(libc::SYS_clone, 0 as libc::c_long, flags, number, tid, tid)
        } else {
            libc::syscall(libc::SYS_clone, flags, 0 as libc::c_long, number, tid, tid)
        }
    };
    if forked == 0 {
        // SAFETY: the head of the only thread, at the address where its original had it.
        unsafe {
            (*head).list = head.cast();
            (*head).pending = ptr::null_mut();
            libc::syscall(libc::SYS_set_robust_list, head, size_of::<robust_list::Head>());
        }
        return Ok(Side::Child);
    }
    let refused = io::Error::last_os_error();
    // A mask that was read a moment ago can be set again.
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None);
    if forked < 0 { Err(refused) } else { Ok(Side::Parent(Pid::from_raw(forked as i32))) }
}

/// How many threads this process has, by the link count of its task directory: one system call.
pub(crate) fn thread_count() -> io::Result<usize> {
    let links = fs::metadata("/proc/self/task")?.st_nlink();
    Ok(links.saturating_sub(2) as usize)
}

/// The same, without those that are leaving: the kernel takes them down, and they run nothing of the program any more.
///
/// `pthread_join` returns when a thread has let go of its memory, which is before it leaves the process, by how much
/// depends on the load; a program that joined its threads is single-threaded as it sees it.
pub(crate) fn staying_thread_count() -> io::Result<usize> {
    if is_alone() {
        return Ok(1);
    }
    let count = thread_count()?;
    if count <= 1 {
        return Ok(count);
    }
    let mut staying = 0;
    for thread in fs::read_dir("/proc/self/task")? {
        match fs::read_to_string(thread?.path().join("stat")) {
            Ok(stat) => staying += usize::from(!is_leaving(&stat)),
            // It has left.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(staying)
}

/// Whether this process has one thread, leaving ones counted. A no does not say so: a sandbox may forbid to ask.
///
/// Of a process with one thread, unshare(2) takes this flag and does nothing; of others it does not. A tenth of what a
/// look into /proc takes.
fn is_alone() -> bool {
    // SAFETY: a flag, which changes nothing.
    unsafe { libc::unshare(libc::CLONE_THREAD) == 0 }
}

/// PF_EXITING of the kernel's linux/sched.h: set before a thread lets go of its memory.
const LEAVING: u64 = 4;

/// By the text of a thread's `stat`: the flags are the seventh field after the name, which stands in brackets.
fn is_leaving(stat: &str) -> bool {
    let flags = stat.rsplit(')').next().and_then(|rest| rest.split_ascii_whitespace().nth(6));
    flags.and_then(|flags| flags.parse().ok()).is_some_and(|flags: u64| flags & LEAVING != 0)
}

/// Ends this process now: no destructor, no atexit handler, no buffer is looked at.
pub(crate) fn leave(code: i32) -> ! {
    // SAFETY: ends the process; nothing of it is used again.
    unsafe { libc::_exit(code) }
}

/// Has `handler` run when this process, or a copy of it, ends by exit(3).
pub(crate) fn at_exit(handler: extern "C" fn()) {
    // SAFETY: a function for as long as the program lives. Refused only for want of memory; then it does not run.
    unsafe { libc::atexit(handler) };
}

/// Gives this process an empty standard input, unless it has one. Needs no free descriptor, since 0 is the lowest there
/// is.
///
/// For a process with one thread: another could be given descriptor 0 in between.
pub(crate) fn empty_stdin() -> io::Result<()> {
    if map::is_the_null_device(0) {
        return Ok(());
    }
    // Its path lies on the stack: a constant's page would have to be mapped.
    let path = *b"/dev/null\0";
    // SAFETY: descriptor 0 is the standard input, which std opens anew at each read and never owns; a string of ours.
    let opened = unsafe {
        libc::close(0);
        libc::open(black_box(&path).as_ptr().cast(), libc::O_RDONLY)
    };
    match opened {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Waits for the end of a child that is about to end and that only its pid is known of, and reaps it, if nobody else
/// does.
pub(crate) fn see_off(child: Pid) {
    while waitpid(child, None) == Err(Errno::EINTR) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaving_thread_is_told_by_its_flags() {
        assert!(!is_leaving("7 (a) b) S 1 2 3 0 -1 4194368 5 0"));
        assert!(is_leaving("7 (a) b) S 1 2 3 0 -1 4194372 5 0"));
        assert!(!is_leaving("7 (cut off"));
        assert!(!is_leaving(&fs::read_to_string("/proc/thread-self/stat").unwrap()));
    }
}
