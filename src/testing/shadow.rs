//! Which steps change shared memory: a copy of it, compared after each.
//!
//! A step that changes nothing there, is not locked and is no system call, cannot be told from its neighbours by any
//! survivor. Only pages that are there are copied: a sparse file stays sparse.

use std::{collections::BTreeMap, fs, ops::Range};

use nix::libc;

const PAGE: usize = 4096;

/// The shared memory of this process, as it was.
#[derive(Debug)]
pub(super) struct Shadow {
    maps: Vec<Range<usize>>,
    pages: BTreeMap<usize, Box<[u8; PAGE]>>,
}

impl Shadow {
    /// Of all mappings that are shared and may be written to.
    pub(super) fn new() -> Shadow {
        let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let shared = maps.lines().filter(|line| line.split(' ').nth(1) == Some("rw-s"));
        let range = |line: &str| {
            let (start, end) = line.split(' ').next()?.split_once('-')?;
            Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
        };
        let mut shadow = Shadow { maps: shared.filter_map(range).collect(), pages: BTreeMap::new() };
        shadow.changes();
        shadow
    }

    /// Whether anything has changed since the last look.
    pub(super) fn changes(&mut self) -> bool {
        let mut changed = false;
        for map in &self.maps {
            let mut there = vec![0_u8; map.len().div_ceil(PAGE)];
            // SAFETY: a mapping of this process, whose pages are told one by one into a list that has room for them.
            let told = unsafe { libc::mincore(map.start as *mut _, map.len(), there.as_mut_ptr()) };
            for (number, _) in there.iter().enumerate().filter(|(_, there)| told == 0 && **there & 1 == 1) {
                let page = map.start + number * PAGE;
                // SAFETY: a page of a mapping of this process that is there; that others write to it meanwhile is
                // why the copy is volatile, word by word, and any value of a word is one.
                let now = unsafe { copy(page) };
                let old = self.pages.get(&page);
                if old.is_none_or(|old| **old != *now) {
                    self.pages.insert(page, now);
                    changed = true;
                }
            }
        }
        changed
    }
}

/// # Safety
/// A page that may be read.
unsafe fn copy(page: usize) -> Box<[u8; PAGE]> {
    let mut bytes = Box::new([0; PAGE]);
    for (place, word) in bytes.chunks_exact_mut(8).enumerate() {
        // SAFETY: within the page, and aligned as it is.
        let value = unsafe { (page as *const u64).add(place).read_volatile() };
        word.copy_from_slice(&value.to_ne_bytes());
    }
    bytes
}
