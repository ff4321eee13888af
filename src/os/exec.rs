//! The same program anew, by execv(3), and the descriptors that it is left.
//!
//! Sources: execve(2), proc_pid_exe(5), fcntl(2), getauxval(3), secureexec in ld.so(8).

use std::{
    ffi::{CString, c_char},
    io,
    os::fd::{FromRawFd, OwnedFd, RawFd},
    ptr,
};

use nix::{errno::Errno, libc};

/// A list of strings as execve(2) takes it.
pub(crate) struct Arguments {
    _strings: Vec<CString>,
    list: Vec<*const c_char>,
}

impl Arguments {
    pub(crate) fn new(strings: Vec<CString>) -> Arguments {
        let list = strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect();
        Arguments { _strings: strings, list }
    }
}

/// Begins the program of this process anew, with this process's environment: the file it was begun from, whatever
/// stands under that name by now. Makes system calls alone. Returns only when it fails.
pub(crate) fn begin_anew(arguments: &Arguments) -> io::Error {
    // SAFETY: strings that end in a zero byte, and a list of them that ends in a null pointer.
    unsafe { libc::execv(c"/proc/self/exe".as_ptr(), arguments.list.as_ptr()) };
    io::Error::last_os_error()
}

/// Leaves a descriptor open for the program that comes by exec.
pub(crate) fn keep_at_exec(file: RawFd) -> io::Result<()> {
    // SAFETY: a flag of a descriptor, which the kernel checks.
    Errno::result(unsafe { libc::fcntl(file, libc::F_SETFD, 0) })?;
    Ok(())
}

/// Whether the file under that number, if there is one, begins with these bytes.
pub(crate) fn begins_with(file: RawFd, bytes: &[u8]) -> bool {
    let mut found = vec![0; bytes.len()];
    // SAFETY: bytes of ours to write to; the kernel checks the number.
    let read = unsafe { libc::pread(file, found.as_mut_ptr().cast(), found.len(), 0) };
    read == bytes.len() as isize && found == bytes
}

/// Takes what an exec left at that number; nobody else gets it from here.
///
/// # Safety
/// Nobody in this process owns that descriptor.
pub(crate) unsafe fn take_over(file: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: a flag of a descriptor, which the kernel checks; and nobody else owns it, as the caller vouches.
    unsafe {
        Errno::result(libc::fcntl(file, libc::F_SETFD, libc::FD_CLOEXEC))?;
        Ok(OwnedFd::from_raw_fd(file))
    }
}

/// Whether this program has rights that whoever started it has not: then what that one left us is not to be trusted.
pub(crate) fn is_set_id() -> bool {
    // SAFETY: a number.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}
