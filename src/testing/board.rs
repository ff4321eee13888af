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

use super::report::Damage;

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
    /// What an invariant found, and what it said.
    verdict: [AtomicU64; 4],
    said: [AtomicU64; 32],
    /// In a storm: operations that came to their end, and whether it is over.
    turns: AtomicU64,
    over: AtomicU32,
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
        for word in [&self.inside, &self.overlaps, &self.deaths, &self.troubles, &self.over] {
            word.store(0, SeqCst);
        }
        let numbers = [&self.first, &self.second, &self.passed, &self.turns].into_iter();
        for word in numbers.chain(&self.cells).chain(&self.verdict).chain(&self.said) {
            word.store(0, SeqCst);
        }
    }

    /// Leaves what an invariant found.
    pub(super) fn judge(&self, Damage { wedged, torn, lost, doubled }: Damage) {
        for (word, number) in self.verdict.iter().zip([wedged, torn, lost, doubled]) {
            word.store(number, SeqCst);
        }
    }

    pub(super) fn judgement(&self) -> Damage {
        let [wedged, torn, lost, doubled] = self.verdict.each_ref().map(|word| word.load(SeqCst));
        Damage { wedged, torn, lost, doubled }
    }

    /// Leaves a remark, as far as there is room.
    pub(super) fn say(&self, text: &str) {
        for (word, bytes) in self.said.iter().zip(text.as_bytes().chunks(8)) {
            let mut eight = [0; 8];
            eight[..bytes.len()].copy_from_slice(bytes);
            word.store(u64::from_ne_bytes(eight), SeqCst);
        }
    }

    pub(super) fn said(&self) -> String {
        let bytes: Vec<u8> = self.said.iter().flat_map(|word| word.load(SeqCst).to_ne_bytes()).collect();
        String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned()
    }

    /// An operation has come to its end.
    pub(super) fn turn(&self) {
        self.turns.fetch_add(1, SeqCst);
    }

    pub(super) fn turns(&self) -> u64 {
        self.turns.load(SeqCst)
    }

    /// Nobody begins another.
    pub(super) fn end(&self) {
        self.over.store(1, SeqCst);
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(SeqCst) == 1
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
