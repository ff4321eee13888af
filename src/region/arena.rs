//! Where `X::new()` finds its memory: one region a thread, and a bigger one when it is full.
//!
//! Per thread, so that no lock of this process stands between a fork and its child. Regions double from 16 KiB to
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
        return place(&Region::anonymous(size_for(need))?);
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
    NEXT_SIZE.set((size * 2).min(LARGEST));
    let _ = CURRENT.try_with(|current| current.replace(Some(region)));
    Ok(placed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_objects_share_a_region_and_large_ones_do_not() {
        let place = |region: &Region| region.place_bytes(64, 64).map(|_| region.size());
        let first = in_arena(64, place).unwrap();
        assert_eq!(first, in_arena(64, place).unwrap());
        let big = in_arena(1 << 20, |region| region.place_bytes(1 << 20, 8).map(|_| region.size())).unwrap();
        assert!(big > 1 << 20 && big < (1 << 20) + 8192);
    }

    #[test]
    fn a_thousand_objects_take_few_regions() {
        let mut sizes = std::collections::BTreeSet::new();
        for _ in 0..1000 {
            sizes.insert(in_arena(128, |r| r.place_bytes(128, 128).map(|_| r.size())).unwrap());
        }
        assert!(sizes.len() <= 5, "{sizes:?}");
    }
}
