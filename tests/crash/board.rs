//! One page that the harness and all its processes share: what the survivors saw, and a section that shows whether
//! a lock excludes.
//!
//! Each lane maps its page once, before it forks anything, and wipes it before each trial, when no process of the last
//! trial is left.

#![allow(clippy::disallowed_types, reason = "the harness looks from outside the seam")]

use std::{
    num::NonZeroUsize,
    sync::{
        OnceLock,
        atomic::{
            AtomicU32, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
};

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};

/// How many [`Board::cells`] there are.
pub const CELLS: usize = 400;

/// What is shared. All zero at the start of a trial.
#[derive(Debug)]
#[repr(C)]
pub struct Board {
    inside: AtomicU32,
    overlaps: AtomicU32,
    first: AtomicU64,
    second: AtomicU64,
    passed: AtomicU64,
    deaths: AtomicU32,
    troubles: AtomicU32,
    /// For scenarios that count things of their own, for example how often each item arrived.
    pub cells: [AtomicU64; CELLS],
}

/// The board.
pub fn board() -> &'static Board {
    static BOARD: OnceLock<&'static Board> = OnceLock::new();
    BOARD.get_or_init(|| {
        let size = NonZeroUsize::new(size_of::<Board>()).expect("a board is not empty");
        let rights = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: fresh zero pages, page-aligned, never unmapped; zero is a valid value of every field.
        unsafe {
            let page = mmap_anonymous(None, size, rights, MapFlags::MAP_SHARED).expect("mmap of the board");
            page.cast::<Board>().as_ref()
        }
    })
}

/// A cell that a scenario has a meaning for.
pub fn cell(index: usize) -> &'static AtomicU64 {
    &board().cells[index]
}

/// What the cell has come to.
pub fn count(index: usize) -> u64 {
    cell(index).load(SeqCst)
}

/// The cell goes up by one.
pub fn up(index: usize) {
    cell(index).fetch_add(1, SeqCst);
}

impl Board {
    /// Wipes everything.
    pub fn clear(&self) {
        for word in [&self.inside, &self.overlaps, &self.deaths, &self.troubles] {
            word.store(0, SeqCst);
        }
        for word in [&self.first, &self.second, &self.passed].into_iter().chain(&self.cells) {
            word.store(0, SeqCst);
        }
    }

    /// What only one process at a time may do: two counters go up, one after the other, by plain loads and stores.
    pub fn section(&self) {
        if self.inside.swap(1, SeqCst) != 0 {
            self.overlaps.fetch_add(1, SeqCst);
        }
        let (first, second) = (self.first.load(Relaxed), self.second.load(Relaxed));
        if first != second {
            self.overlaps.fetch_add(1, SeqCst);
        }
        self.first.store(first + 1, Relaxed);
        for _ in 0..20 {
            std::hint::spin_loop();
        }
        self.second.store(second + 1, Relaxed);
        self.inside.store(0, SeqCst);
    }

    /// A process has been through the section and out again.
    pub fn pass(&self) {
        self.passed.fetch_add(1, SeqCst);
    }

    /// A process was told of a death.
    pub fn hear_of_death(&self) {
        self.deaths.fetch_add(1, SeqCst);
    }

    /// A process was told of a panic.
    pub fn hear_of_trouble(&self) {
        self.troubles.fetch_add(1, SeqCst);
    }

    /// How often two were in the section at once.
    pub fn overlaps(&self) -> u64 {
        let unlike = self.first.load(SeqCst) != self.second.load(SeqCst);
        u64::from(self.overlaps.load(SeqCst)) + u64::from(unlike)
    }

    /// How many passes left no trace in the counters.
    pub fn lost_passes(&self) -> u64 {
        self.passed.load(SeqCst).saturating_sub(self.first.load(SeqCst))
    }

    /// How many were told of a death.
    pub fn deaths(&self) -> u32 {
        self.deaths.load(SeqCst)
    }

    /// How many were told of a panic.
    pub fn troubles(&self) -> u32 {
        self.troubles.load(SeqCst)
    }
}
