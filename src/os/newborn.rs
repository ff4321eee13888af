//! What a process changes about itself before it runs anything of its user's: one system call a function.
//!
//! A forked child maps every page of code that it comes to by a fault of its own, and libc's functions lie far apart.
//! So what every child calls and would be alone on its page goes by syscall(2).
//!
//! Sources: dup(2), chdir(2), setsid(2), setpgid(2), setrlimit(2), sched_setaffinity(2), nice(2), setresuid(2),
//! environ(7), PR_SET_PDEATHSIG(2const), PR_SET_CHILD_SUBREAPER(2const), sigaction(2).

use std::{
    ffi::{CStr, c_char},
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    libc,
    sys::signal::{SigSet, SigmaskHow, sigprocmask},
};

unsafe extern "C" {
    static mut environ: *const *const c_char;
}

fn done(result: i32) -> io::Result<()> {
    Errno::result(result)?;
    Ok(())
}

/// Makes `stream` (0, 1 or 2) another descriptor of the same file as `file`.
pub(crate) fn redirect(file: BorrowedFd<'_>, stream: i32) -> io::Result<()> {
    if file.as_raw_fd() == stream {
        // dup2 would leave it to close at exec.
        // SAFETY: a flag of a descriptor that we hold.
        return done(unsafe { libc::fcntl(stream, libc::F_SETFD, 0) });
    }
    // SAFETY: std opens its streams anew at each use and never owns their descriptors.
    done(unsafe { libc::dup2(file.as_raw_fd(), stream) })
}

/// The file under a descriptor that is none of the standard streams', which a redirection would overwrite.
pub(crate) fn above_the_streams(file: OwnedFd) -> io::Result<OwnedFd> {
    if file.as_raw_fd() > 2 {
        return Ok(file);
    }
    // SAFETY: a descriptor that we hold; the kernel makes a new one, which nobody else has.
    unsafe {
        let copy = Errno::result(libc::fcntl(file.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3))?;
        Ok(OwnedFd::from_raw_fd(copy))
    }
}

/// Goes to `directory`.
pub(crate) fn change_directory(directory: &CStr) -> io::Result<()> {
    // SAFETY: a string that ends in a zero byte.
    done(unsafe { libc::chdir(directory.as_ptr()) })
}

/// Makes `entries`, which end in a null pointer, the environment. No lock is taken and nothing is copied.
///
/// # Safety
/// The strings and the list stay where they are as long as the process lives, which has one thread.
pub(crate) unsafe fn set_environment(entries: &[*const c_char]) {
    debug_assert!(entries.last().is_some_and(|last| last.is_null()));
    // SAFETY: nobody reads it now; libc and std read it anew at each use, and copy before they change it.
    unsafe { environ = entries.as_ptr() };
}

/// Becomes the leader of a session and of a process group of its own.
pub(crate) fn new_session() -> io::Result<()> {
    // SAFETY: no arguments.
    done(unsafe { libc::setsid() })
}

/// Joins a process group; 0 is one of its own.
pub(crate) fn join_group(group: i32) -> io::Result<()> {
    // SAFETY: two numbers.
    done(unsafe { libc::setpgid(0, group) })
}

/// Sets the soft and the hard limit of `resource`.
pub(crate) fn limit(resource: u32, value: u64) -> io::Result<()> {
    let limits = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: a struct of ours; the kernel checks the number.
    done(unsafe { libc::setrlimit(resource as _, &limits) })
}

/// Runs on these CPUs alone.
pub(crate) fn run_on(cpus: &libc::cpu_set_t) -> io::Result<()> {
    // SAFETY: a set of ours, with its size.
    done(unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), cpus) })
}

/// Adds to its niceness.
pub(crate) fn nice(increment: i32) -> io::Result<()> {
    Errno::clear();
    // SAFETY: a number. -1 is a niceness too, so the error number decides.
    if unsafe { libc::nice(increment) } == -1 && Errno::last_raw() != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Gives up its supplementary groups, if it may.
pub(crate) fn leave_groups() -> io::Result<()> {
    // SAFETY: no arguments.
    if unsafe { libc::geteuid() } != 0 {
        return Ok(());
    }
    // SAFETY: an empty list.
    done(unsafe { libc::setgroups(0, std::ptr::null()) })
}

/// Becomes this group, for good.
pub(crate) fn become_group(gid: u32) -> io::Result<()> {
    // SAFETY: three numbers.
    done(unsafe { libc::setresgid(gid, gid, gid) })
}

/// Becomes this user, for good.
pub(crate) fn become_user(uid: u32) -> io::Result<()> {
    // SAFETY: three numbers.
    done(unsafe { libc::setresuid(uid, uid, uid) })
}

/// Blocks exactly these signals: a mask that libc made, so libc's own signals are not in it.
pub(crate) fn set_mask(mask: &SigSet) -> io::Result<()> {
    let before: *mut libc::sigset_t = std::ptr::null_mut();
    // The kernel's set is shorter than libc's, and their beginnings are the same.
    let length = (libc::SIGRTMAX() as usize).div_ceil(8);
    // SAFETY: a set of ours, at least as long as said; nothing is written.
    let result =
        unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, mask.as_ref(), before, length) };
    done(result as i32)
}

/// Blocks these signals too in the calling thread.
pub(crate) fn block(mask: &SigSet) -> io::Result<()> {
    Ok(sigprocmask(SigmaskHow::SIG_BLOCK, Some(mask), None)?)
}

/// Asks the kernel for `signal` when the thread ends that is this process's parent.
pub(crate) fn signal_at_parents_end(signal: i32) -> io::Result<()> {
    let (call, what, none) = (libc::SYS_prctl, libc::PR_SET_PDEATHSIG as libc::c_long, 0 as libc::c_long);
    // SAFETY: plain numbers.
    let result = unsafe { libc::syscall(call, what, libc::c_long::from(signal), none, none, none) };
    done(result as i32)
}

/// This process's id.
pub(crate) fn pid() -> i32 {
    // SAFETY: no arguments, no failure.
    unsafe { libc::getpid() }
}

/// The parent's process id, 0 when it lives outside of our namespace.
pub(crate) fn parent() -> i32 {
    // SAFETY: no arguments, no failure.
    unsafe { libc::getppid() }
}

/// Whether the calling thread is the one that its process began with.
pub(crate) fn is_main_thread() -> bool {
    // SAFETY: no arguments, no failure.
    unsafe { libc::gettid() == libc::getpid() }
}

/// Ends this process now, as if by somebody's SIGKILL. May be called by a signal handler.
pub(crate) fn die() {
    // SAFETY: plain numbers.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
}

/// The highest real-time signal that nobody handles; the highest of all if there is none.
pub(crate) fn unused_signal() -> i32 {
    let (lowest, highest) = (libc::SIGRTMIN(), libc::SIGRTMAX());
    let unused = |signal: &i32| {
        // SAFETY: an all-zero sigaction is a valid one; asking changes nothing.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            libc::sigaction(*signal, std::ptr::null(), &mut action) == 0
                && action.sa_sigaction == libc::SIG_DFL
        }
    };
    (lowest..=highest).rev().find(unused).unwrap_or(highest)
}

/// Has `handler` called for `signal`, and system calls go on after it.
pub(crate) fn handle(signal: i32, handler: extern "C" fn(i32)) -> io::Result<()> {
    // SAFETY: an all-zero sigaction is a valid one, with an empty mask; the handler is a function for as long as the
    // program lives.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_RESTART;
        done(libc::sigaction(signal, &action, std::ptr::null_mut()))
    }
}

/// Ignores `signal`; says what was done with it before.
pub(crate) fn ignore(signal: i32) -> io::Result<libc::sigaction> {
    // SAFETY: an all-zero sigaction is a valid one.
    unsafe {
        let (mut ignored, mut before): (libc::sigaction, libc::sigaction) = std::mem::zeroed();
        ignored.sa_sigaction = libc::SIG_IGN;
        done(libc::sigaction(signal, &ignored, &mut before))?;
        Ok(before)
    }
}

/// Does with `signal` as before.
pub(crate) fn restore(signal: i32, before: libc::sigaction) -> io::Result<()> {
    // SAFETY: what sigaction said once; its handler, if it has one, is there still.
    done(unsafe { libc::sigaction(signal, &before, std::ptr::null_mut()) })
}

/// The mask without this signal, which may be a real-time one.
pub(crate) fn without(mask: &SigSet, signal: i32) -> SigSet {
    let mut raw = *mask.as_ref();
    // SAFETY: a set of ours and a number that the call checks; the result is a set that libc made.
    unsafe {
        libc::sigdelset(&mut raw, signal);
        SigSet::from_sigset_t_unchecked(raw)
    }
}

/// A mask of these signals; the kernel's EINVAL if one of them is none.
pub(crate) fn mask_of(signals: &[i32]) -> io::Result<SigSet> {
    let mut raw = *SigSet::empty().as_ref();
    for &signal in signals {
        // SAFETY: a set of ours and a number that the call checks.
        done(unsafe { libc::sigaddset(&mut raw, signal) })?;
    }
    // SAFETY: a set that libc made.
    Ok(unsafe { SigSet::from_sigset_t_unchecked(raw) })
}

/// The signals that the calling thread blocks.
pub(crate) fn mask() -> io::Result<SigSet> {
    let mut now = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_BLOCK, None, Some(&mut now))?;
    Ok(now)
}

/// The numbers in a mask, real-time signals too.
pub(crate) fn members(mask: &SigSet) -> Vec<i32> {
    // SAFETY: a set that libc made, and numbers that the call checks.
    (1..=libc::SIGRTMAX())
        .filter(|&signal| unsafe { libc::sigismember(mask.as_ref(), signal) } == 1)
        .collect()
}

/// From now on this process adopts the orphans among its descendants.
pub(crate) fn be_subreaper() -> io::Result<()> {
    // SAFETY: plain numbers.
    done(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) })
}
