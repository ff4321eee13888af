//! The watch on the parent: a child ends when its parent *process* does, in whatever way.
//!
//! The kernel's own watch, PR_SET_PDEATHSIG, is about the parent's *thread* that forked, so it alone is wrong where
//! that thread may end before its process:
//!
//! | forked by             | signal at that thread's end | and then                                              |
//! |-----------------------|-----------------------------|-------------------------------------------------------|
//! | the main thread       | SIGKILL                     | nothing can hold it up: no mask, no handler, no stop  |
//! | another thread        | a real-time signal of ours  | [`look`] asks whose child we are now                  |
//!
//! The main thread's end is the process's, since a program leaves by `exit` or by returning from `main`. When another
//! thread ends, the kernel gives its children to a thread of the same process that still lives, sends the signal, and
//! keeps the watch: the child's handler finds getppid(2) unchanged and goes on, until one day it is another: then it
//! ends the child. Signals of both ends may merge, but the last look comes after the last end.
//!
//! # Why no start is missed
//! The watch is set first, and then getppid(2) compared with what the parent said its number was before the fork. An
//! orphan's new parent is an ancestor, or a subreaper, that lived beside the old one: so it has another number, even
//! if the old one's is used again; and a parent that is number 1 is no exception. Only a parent outside of our pid
//! namespace has the number 0 before and after: there a parent that dies between the gate and this watch is missed.
//!
//! # What does not hold
//! - A program that changes its user or group after the start, or runs a set-user-ID program, loses the watch: the
//!   kernel takes it away. (The builder's own changes come before it.)
//! - Where another thread than the main one forked: a child that blocks the signal in all its threads, takes it for
//!   itself, or is stopped, lives on until it lets go; and a program that the child runs by exec is ended by that
//!   thread's end already, since handlers do not survive an exec.
//! - A main thread that leaves by pthread_exit(3) takes with it the children that it started.
//!
//! Sources: PR_SET_PDEATHSIG(2const), kernel/exit.c (forget_original_parent), credentials(7).

use std::io;

use nix::{libc, sys::signal::SigSet};
use serde::{Deserialize, Serialize};

use crate::{
    os::newborn,
    primitive::{AtomicU32, Relaxed},
};

/// What a child must know of its parent, asked before the fork.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Watch {
    parent: u32,
    by_main_thread: bool,
}

/// The parent's number as getppid(2) says it, for the handler.
static PARENT: AtomicU32 = AtomicU32::new(0);

/// Ends this process if its parent is not what it was.
extern "C" fn look(_: i32) {
    // ORDERING: Relaxed, written by this thread before the signal could come.
    if newborn::parent() as u32 != PARENT.load(Relaxed) {
        newborn::die();
    }
}

impl Watch {
    /// On the calling process, for a child that the calling thread is about to fork.
    pub(crate) fn on_this_process() -> Watch {
        Watch { parent: std::process::id(), by_main_thread: newborn::is_main_thread() }
    }

    /// The child's side: sets the watch and takes its signal out of `mask`. False: the parent has ended already.
    pub(crate) fn arm(self, mask: &mut SigSet) -> io::Result<bool> {
        let signal = if self.by_main_thread { libc::SIGKILL } else { newborn::unused_signal() };
        // ORDERING: Relaxed, for this process's own handler.
        PARENT.store(newborn::parent() as u32, Relaxed);
        if !self.by_main_thread {
            *mask = newborn::without(mask, signal);
            newborn::handle(signal, look)?;
        }
        newborn::signal_at_parents_end(signal)?;
        let now = newborn::parent() as u32;
        Ok(now == self.parent || now == 0)
    }
}
