//! [`Column`]: a word for each slot of a board, eight to a cache line.

use crate::{
    error::RegionError,
    primitive::AtomicU64,
    region::{Region, Row, Shareable, portable},
};

/// Words that stand together: a cache line.
#[repr(C, align(64))]
struct Line {
    words: [AtomicU64; LINE],
}

/// Words of a line.
pub(super) const LINE: usize = 8;

// SAFETY: atomic words, valid whatever stands in them.
unsafe impl Shareable for Line {
    const ROBUST: &'static [usize] = &[];
}

/// A word for each slot.
#[derive(Clone)]
pub(super) struct Column(Row<Line>);

portable!(Column { 0 });

impl Column {
    pub(super) fn new_in(region: &Region, slots: usize) -> Result<Column, RegionError> {
        let line = || Line { words: [(); LINE].map(|()| AtomicU64::new(0)) };
        let (_, row) = region.place_with_row(Nothing, slots.div_ceil(LINE), line)?;
        Ok(Column(row))
    }

    #[inline]
    pub(super) fn at(&self, slot: usize) -> &AtomicU64 {
        &self.0[slot / LINE].words[slot % LINE]
    }
}

/// For rows that belong to no struct.
#[repr(C, align(64))]
pub(super) struct Nothing;

// SAFETY: it has no contents.
unsafe impl Shareable for Nothing {
    const ROBUST: &'static [usize] = &[];
}
