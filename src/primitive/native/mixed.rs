//! Waiting for words and for descriptors at once.

use std::{io, os::fd::BorrowedFd};

use super::FutexWord;
use crate::{
    os::{futex::Waiter, uring},
    primitive::Deadline,
};

/// Sleeps while each of the words is as given beside it and none of `files` can be read, at most until `deadline`. It
/// may return for nothing. An error says that this cannot be done here (`os/uring.rs`).
pub(crate) fn wait_mixed(
    words: &[(&FutexWord, u32)],
    files: &[BorrowedFd<'_>],
    deadline: Option<Deadline>,
) -> io::Result<()> {
    let waiter = |&(word, expected): &(&FutexWord, u32)| Waiter::new(word.0.as_ptr(), expected);
    let waiters: Vec<Waiter> = words.iter().map(waiter).collect();
    // SAFETY: the words are live for as long as the borrows last.
    unsafe { uring::wait(&waiters, files, deadline) }
}
