//! A worker's desk: what is said to it, and what it says of itself. `board.rs` tells who writes what.

use crate::{
    primitive::{AtomicU32, AtomicU64, FutexWord},
    region::Shareable,
};

/// What the supervisor and the others have to say to one worker, and it to them.
#[repr(C, align(64))]
pub(super) struct Desk {
    pub(super) bell: FutexWord,
    /// 1: it is to leave when it has finished what it is at.
    pub(super) retire: AtomicU32,
    /// Its process's number; 0 when there is none.
    pub(super) pid: AtomicU32,
    /// How it stands: see `worker.rs`.
    pub(super) phase: AtomicU32,
    /// When its task is to be killed, and when to be warned, in nanoseconds of CLOCK_MONOTONIC; 0 is never.
    pub(super) due: AtomicU64,
    pub(super) warned: AtomicU64,
    /// The task that these are about.
    pub(super) at: AtomicU64,
    /// Tasks that it has done.
    pub(super) tasks: AtomicU64,
    _rest: [u64; 2],
}

// SAFETY: atomic words, valid whatever stands in them.
unsafe impl Shareable for Desk {
    const ROBUST: &'static [usize] = &[];
}

impl Desk {
    pub(super) fn new() -> Desk {
        let [due, warned, at, tasks] = [(); 4].map(|()| AtomicU64::new(0));
        let [retire, pid, phase] = [(); 3].map(|()| AtomicU32::new(0));
        Desk { bell: FutexWord::new(0), retire, pid, phase, due, warned, at, tasks, _rest: [0; 2] }
    }
}
