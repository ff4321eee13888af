//! How a region lies in memory.
//!
//! ```text
//!    0  magic            8 bytes   stored last: a region without it is not finished
//!    8  layout version   4         changes when any struct in shared memory does
//!   12  pointer width    4         in bits
//!   16  page size        8
//!   24  region size      8         in bytes, this header included
//!   32  next             8         the bump pointer: where the next object may begin
//!   40  unused          88
//!  128  objects, each at a multiple of its own alignment, at most 128
//! ```

use std::alloc::Layout;

use crate::{
    error::RegionError,
    primitive::{Acquire, AtomicU64, Relaxed, Release},
};

/// "pshared" and a byte that no text contains.
const MAGIC: u64 = u64::from_le_bytes(*b"pshared\xb5");
/// Counts up with every change of layout.
const VERSION: u32 = 1;
/// Two cache lines: what one prefetch brings in. Nothing is aligned more strictly.
pub(crate) const MAX_ALIGN: usize = 128;

/// The first 128 bytes of a region.
#[repr(C, align(128))]
pub(crate) struct RegionHeader {
    magic: AtomicU64,
    version: u32,
    pointer_width: u32,
    page_size: u64,
    size: u64,
    next: AtomicU64,
    _unused: [u64; 11],
}

const _: () = assert!(size_of::<RegionHeader>() == MAX_ALIGN);

/// The bytes that a region needs beside its objects.
pub(crate) const HEADER: usize = size_of::<RegionHeader>();

impl RegionHeader {
    pub(crate) fn new(size: usize, page_size: usize) -> RegionHeader {
        RegionHeader {
            magic: AtomicU64::new(0),
            version: VERSION,
            pointer_width: usize::BITS,
            page_size: page_size as u64,
            size: size as u64,
            next: AtomicU64::new(HEADER as u64),
            _unused: [0; 11],
        }
    }

    /// Says that everything before is complete.
    pub(crate) fn finish(&self) {
        // ORDERING: Release, so that who reads the magic by Acquire (`check`) sees the whole header.
        self.magic.store(MAGIC, Release);
    }

    /// Whether it is a finished header of this layout, of a region of that size; else which field is wrong, what stands
    /// there, and what would have to.
    pub(crate) fn check(&self, size: usize, page_size: usize) -> Result<(), (&'static str, u64, u64)> {
        // ORDERING: Acquire, for the header that `finish` completed.
        let magic = self.magic.load(Acquire);
        let fields = [
            ("magic number", magic, MAGIC),
            ("layout version", self.version.into(), VERSION.into()),
            ("pointer width", self.pointer_width.into(), usize::BITS.into()),
            ("page size", self.page_size, page_size as u64),
            ("size in the header", self.size, size as u64),
        ];
        fields.into_iter().find(|(_, found, expected)| found != expected).map_or(Ok(()), Err)
    }

    /// Claims room for `layout` in a region of `size` bytes and says where.
    ///
    /// `size` comes from private memory: the header is shared, and what it says is checked against the mapping.
    pub(crate) fn claim(&self, layout: Layout, size: usize) -> Result<usize, RegionError> {
        let size = size as u64;
        // ORDERING: Relaxed throughout: only the exchange decides who has the bytes, and they carry nothing yet.
        let mut next = self.next.load(Relaxed);
        loop {
            let start = next.max(HEADER as u64).min(size).next_multiple_of(layout.align() as u64);
            let end = start.checked_add(layout.size() as u64).filter(|&end| end <= size);
            let Some(end) = end else {
                return Err(RegionError::NoRoom {
                    need: layout.size(),
                    have: size.saturating_sub(start) as usize,
                });
            };
            match self.next.compare_exchange(next, end, Relaxed, Relaxed) {
                Ok(_) => return Ok(start as usize),
                Err(now) => next = now,
            }
        }
    }

    /// The bytes not yet claimed.
    pub(crate) fn room(&self, size: usize) -> usize {
        (size as u64).saturating_sub(self.next.load(Relaxed)) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_aligned_and_never_overlap() {
        let header = RegionHeader::new(4096, 4096);
        let first = header.claim(Layout::new::<u8>(), 4096).unwrap();
        let second = header.claim(Layout::from_size_align(100, 128).unwrap(), 4096).unwrap();
        let third = header.claim(Layout::new::<u64>(), 4096).unwrap();
        assert_eq!((first, second, third), (128, 256, 360));
    }

    #[test]
    fn a_full_region_names_the_figures() {
        let header = RegionHeader::new(4096, 4096);
        let error = header.claim(Layout::from_size_align(3969, 1).unwrap(), 4096).unwrap_err();
        assert_eq!(error.to_string(), "no room in the region: need 3969 bytes, have 3968");
        assert_eq!(header.room(4096), 3968);
    }

    #[test]
    fn a_scribbled_bump_pointer_gives_an_error_and_nothing_else() {
        let header = RegionHeader::new(4096, 4096);
        for garbage in [0, 1, 127, 4097, u64::MAX - 200, u64::MAX] {
            header.next.store(garbage, Relaxed);
            match header.claim(Layout::from_size_align(64, 64).unwrap(), 4096) {
                Ok(start) => assert!((128..=4096 - 64).contains(&start)),
                Err(RegionError::NoRoom { need, .. }) => assert_eq!(need, 64),
                Err(other) => panic!("{other}"),
            }
        }
    }
}
