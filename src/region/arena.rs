//! Where `X::new()` finds its memory: one region a thread, and a bigger one when it is full.
//!
//! Per thread, so that threads do not wait for each other. Regions double from 16 KiB to
//! 16 MiB, so that a million objects take a score of mappings and descriptors, and one object takes four pages.

use std::cell::{Cell, RefCell};

use crate::{
    error::RegionError,
    region::mapping::{Region, size_for},
};

const FIRST: usize = 16 << 10;
const LARGEST: usize = 16 << 20;

thread_local! {
    static CURRENT: RefCell<Option<Region>> = const { RefCell::new(None) };
    static NEXT_SIZE: Cell<usize> = const { Cell::new(FIRST) };
}

/// Lets `place` put an object of at most `need` bytes into the thread's region, or, if it is large or there is no
/// room, into a new one.
pub(crate) fn in_arena<T>(
    need: usize,
    place: impl Fn(&Region) -> Result<T, RegionError>,
) -> Result<T, RegionError> {
    if size_for(need) > NEXT_SIZE.get() / 4 {
        let placed = place(&Region::anonymous(size_for(need))?)?;
        grow();
        return Ok(placed);
    }
    // At the end of a thread its locals may be gone already: then the object gets a region of its own.
    let current = CURRENT.try_with(|current| current.borrow().clone()).ok().flatten();
    if let Some(region) = current {
        match place(&region) {
            Err(RegionError::NoRoom { .. }) => {}
            placed => return placed,
        }
    }
    let size = NEXT_SIZE.get();
    let region = Region::anonymous(size)?;
    let placed = place(&region)?;
    grow();
    let _ = CURRENT.try_with(|current| current.replace(Some(region)));
    Ok(placed)
}

/// Who places much will place more: the next region is twice as large.
fn grow() {
    NEXT_SIZE.set((NEXT_SIZE.get() * 2).min(LARGEST));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{primitive::AtomicU64, region::Shareable};

    struct Word {
        _word: AtomicU64,
    }

    // SAFETY: one atomic word.
    unsafe impl Shareable for Word {
        const ROBUST: &'static [usize] = &[];
    }

    /// The size of the region in which `need` bytes were put.
    fn put(need: usize) -> usize {
        let place = |region: &Region| {
            region
                .place_with_bytes(Word { _word: AtomicU64::new(0) }, need - size_of::<Word>(), 8)
                .map(|_| region.size())
        };
        in_arena(need, place).unwrap()
    }

    #[test]
    fn small_objects_share_a_region_and_large_ones_do_not() {
        let first = put(192);
        assert_eq!(first, put(192));
        let big = put(16 << 20);
        assert!(big > 16 << 20 && big < (16 << 20) + 8192);
    }

    #[test]
    fn a_thousand_objects_take_few_regions() {
        let sizes: BTreeSet<usize> = (0..1000).map(|_| put(256)).collect();
        assert!(sizes.len() <= 6, "{sizes:?}");
        let sizes: BTreeSet<usize> = (0..1000).map(|_| put(5_000)).collect();
        assert!(sizes.len() <= 12, "{sizes:?}");
    }
}
