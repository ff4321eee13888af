//! The robust list: what the kernel reads when a thread ends.
//!
//! Each thread has one head, registered by libc and shared with it. At the thread's end (and at exec) the kernel
//! walks `list`, then looks at `pending`. A word whose low 30 bits are the TID of the dying thread becomes
//! OWNER_DIED, its WAITERS bit kept, and one sleeper is woken. A *pending* word whose low 30 bits are 0 is left as it
//! is and one sleeper is woken. Any other word is passed over.
//!
//! An entry is the address of its own `next` pointer; the `prev` pointer stands just below, and the futex word at a
//! fixed distance that the head names ([`WORD_TO_ENTRY`]). This is libc's own shape: it writes the `prev` of ours
//! when it links a mutex after us, and we write its.
//!
//! Sources: get_robust_list(2), kernel/futex/core.c (exit_robust_list), the robust futex ABI document, uname(2).

use std::{io, ptr, sync::OnceLock, thread, time::Duration};

use nix::{libc, sys::utsname::uname};

use crate::os::{
    clock::Deadline,
    futex::{self, Wake},
};

/// The bits of a robust word that hold its owner's TID.
pub(crate) const TID_MASK: u32 = 0x3fff_ffff;
/// Set by the kernel when the owner died.
pub(crate) const OWNER_DIED: u32 = 1 << 30;
/// Set by whoever sleeps on the word, or is about to.
pub(crate) const WAITERS: u32 = 1 << 31;

/// How far an entry lies behind its word, as libc registers it.
pub(crate) const WORD_TO_ENTRY: usize = if cfg!(target_env = "musl") { 28 } else { 32 };

/// The head of a thread's robust list, as the kernel defines it.
#[repr(C)]
pub(crate) struct Head {
    /// The newest entry, or the address of this field: a circle.
    pub(crate) list: *mut Entry,
    /// From an entry to its word.
    pub(crate) futex_offset: libc::c_long,
    /// The entry that is being locked or unlocked.
    pub(crate) pending: *mut Entry,
}

/// A list entry: the pointer to the next one. The word of the previous one lies one pointer below.
#[repr(C)]
pub(crate) struct Entry {
    pub(crate) next: *mut Entry,
}

/// The calling thread's head.
///
/// # Errors
/// What get_robust_list(2) says; ENOTSUP when libc registered another distance than [`WORD_TO_ENTRY`].
pub(crate) fn head() -> io::Result<*mut Head> {
    let mut found = ask()?;
    if found.is_null() {
        register_by_libc();
        found = ask()?;
    }
    if found.is_null() {
        return Err(io::Error::other("this thread has no robust list: it was not created by libc"));
    }
    // SAFETY: the kernel returned the head that libc registered for this thread; it lives as long as the thread.
    let offset = unsafe { (*found).futex_offset };
    if offset != -(WORD_TO_ENTRY as libc::c_long) {
        let text = format!("libc's robust list offset is {offset}, this build expects -{WORD_TO_ENTRY}");
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    }
    Ok(found)
}

fn ask() -> io::Result<*mut Head> {
    let mut head: *mut Head = ptr::null_mut();
    let mut size: libc::size_t = 0;
    // SAFETY: both are ours to write to; pid 0 is the calling thread.
    let result = unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &mut head, &mut size) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    if !head.is_null() && size != size_of::<Head>() {
        return Err(io::Error::new(io::ErrorKind::Unsupported, format!("robust list head of {size} bytes")));
    }
    Ok(head)
}

/// musl registers its head at a thread's first robust mutex: so take one.
fn register_by_libc() {
    // SAFETY: a mutex of our own on this stack, initialised, locked, unlocked and destroyed in order.
    unsafe {
        let mut attributes: libc::pthread_mutexattr_t = std::mem::zeroed();
        let mut mutex: libc::pthread_mutex_t = std::mem::zeroed();
        libc::pthread_mutexattr_init(&mut attributes);
        libc::pthread_mutexattr_setrobust(&mut attributes, libc::PTHREAD_MUTEX_ROBUST);
        libc::pthread_mutexattr_setpshared(&mut attributes, libc::PTHREAD_PROCESS_SHARED);
        libc::pthread_mutex_init(&mut mutex, &attributes);
        libc::pthread_mutex_lock(&mut mutex);
        libc::pthread_mutex_unlock(&mut mutex);
        libc::pthread_mutex_destroy(&mut mutex);
        libc::pthread_mutexattr_destroy(&mut attributes);
    }
}

/// Whether this kernel wakes a sleeper of a pending word that nobody owns (Linux 6.2, and backports): without it a
/// death between a release and the next sleeper's turn can leave that sleeper asleep, and waits are cut in slices.
///
/// Known by the kernel's version, or else seen once per program at the death of a thread: 0.1 ms, and libc takes no
/// short cuts any more that a program with one thread can: a start then costs it seventeen pages more. Forked children
/// inherit the answer.
pub(crate) fn wakes_for_free_pending_word() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| is_of_version() || has_been_seen())
}

fn is_of_version() -> bool {
    let release = |name: &nix::sys::utsname::UtsName| version(name.release().to_str()?);
    uname().is_ok_and(|name| name.sysname() == "Linux" && release(&name).is_some_and(|found| found >= (6, 2)))
}

/// The first two numbers of a release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn has_been_seen() -> bool {
    // A signal handler can spoil a try.
    (0..3).find_map(|_| probe().unwrap_or(Some(false))).unwrap_or(false)
}

/// The calling thread sleeps; another moves it onto a free word with WAITERS, names that word as pending, and ends.
/// `None` when a signal handler ran meanwhile.
fn probe() -> io::Result<Option<bool>> {
    #[repr(C, align(64))]
    struct Words {
        gate: u32,
        free: u32,
    }
    let words = Words { gate: 0, free: WAITERS };
    let (gate, free) = (ptr::addr_of!(words.gate) as usize, ptr::addr_of!(words.free) as usize);
    let limit = Deadline::after(Duration::from_millis(500));
    let victim = thread::Builder::new().name("pshared-probe".into()).spawn(move || -> io::Result<()> {
        let head = head()?;
        // SAFETY: `words` outlives this thread, which is joined below; both are mapped words.
        while !unsafe { futex::requeue(gate as *const u32, free as *const u32) } {
            if limit.has_passed() {
                return Ok(());
            }
            thread::yield_now();
        }
        // SAFETY: the head is this thread's own; the entry names a word that outlives the thread, and a thread
        // that ends here uses no other robust word in between.
        unsafe { ptr::write_volatile(&mut (*head).pending, (free + WORD_TO_ENTRY) as *mut Entry) };
        Ok(())
    })?;
    // SAFETY: `words.gate` lives on this stack.
    let woken = match unsafe { futex::wait(gate as *const u32, 0, Some(limit)) } {
        Wake::Woken(_) => Some(true),
        Wake::TimedOut => Some(false),
        Wake::Changed | Wake::Interrupted => None,
    };
    match victim.join() {
        Ok(result) => result.map(|()| woken),
        Err(_) => Ok(Some(false)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_has_a_head_of_its_own() {
        let here = head().unwrap() as usize;
        let there = thread::spawn(|| head().unwrap() as usize).join().unwrap();
        assert_ne!(here, there);
    }

    #[test]
    fn the_probe_ends_whatever_the_kernel() {
        // Old kernels say false; none hangs or fails.
        let _ = probe().unwrap();
    }

    #[test]
    fn the_kernel_does_what_its_version_says() {
        // An older kernel may have it, too.
        assert!(has_been_seen() || !is_of_version());
    }

    #[test]
    fn versions_are_read_as_kernels_write_them() {
        let read =
            ["6.2.0", "6.18.5-amd64", "5.15.0-91-generic", "6.1", "10.0-rc1", "7", "", "x.6.2"].map(version);
        let none = None;
        assert_eq!(
            read,
            [Some((6, 2)), Some((6, 18)), Some((5, 15)), Some((6, 1)), Some((10, 0)), none, none, none]
        );
    }
}
