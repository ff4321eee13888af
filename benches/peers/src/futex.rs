//! The bare futex: what nothing that puts a process to sleep can be below.

use std::{
    ptr,
    sync::atomic::{
        AtomicU32,
        Ordering::{Acquire, Release},
    },
};

use bytemuck::Zeroable;
use nix::libc;

use crate::{
    drive::round_trips,
    parties::{Line, Mode, shared},
};

/// A word that is set by one side, and waited for and taken by the other.
#[derive(Debug, Zeroable)]
pub struct Turn(AtomicU32);

impl Turn {
    pub fn give(&self) {
        self.0.store(1, Release);
        // SAFETY: only the address matters.
        unsafe { libc::syscall(libc::SYS_futex, self.0.as_ptr(), libc::FUTEX_WAKE, 1) };
    }

    pub fn take(&self) {
        while self.0.load(Acquire) == 0 {
            let limit = ptr::null::<libc::timespec>();
            // SAFETY: a live word, and no limit.
            unsafe { libc::syscall(libc::SYS_futex, self.0.as_ptr(), libc::FUTEX_WAIT, 0, limit) };
        }
        self.0.store(0, Release);
    }
}

/// Nanoseconds of a round trip of two wake-ups and two sleeps.
pub fn ping_pong(places: [usize; 2]) -> f64 {
    let turns: &[Line<Turn>; 2] = shared();
    let ping = || {
        || {
            turns[0].0.give();
            turns[1].0.take();
        }
    };
    let pong = || {
        || {
            turns[0].0.take();
            turns[1].0.give();
        }
    };
    round_trips(Mode::Processes, places, ping, pong)
}
