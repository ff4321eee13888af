//! [`Handle`], [`Row`] and [`SharedBytes`]: region and offset become a reference here, and nowhere else.

use std::{ops::Deref, ptr::NonNull, slice};

use crate::{
    error::HandleError,
    primitive::{AtomicU64, Buffer},
    region::{
        Region, Shareable,
        luggage::{Packer, Portable, Unpacker},
    },
};

/// A `T` in a region, which it keeps mapped.
pub(crate) struct Handle<T> {
    place: NonNull<T>,
    region: Region,
}

// SAFETY: a handle is a shared reference to a type that may be shared, and a counted mapping.
unsafe impl<T: Shareable> Send for Handle<T> {}
// SAFETY: as above.
unsafe impl<T: Shareable> Sync for Handle<T> {}

impl<T: Shareable> Handle<T> {
    /// # Safety
    /// `place` points to a `T` in `region`, in bounds and aligned, that stays one as long as the region lives.
    pub(crate) unsafe fn new(region: Region, place: NonNull<T>) -> Handle<T> {
        Handle { place, region }
    }
}

impl<T: Shareable> Deref for Handle<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: `new`'s caller vouched for bounds, alignment and contents; `self.region` keeps them mapped; a
        // `Shareable` type is valid whatever bytes a peer leaves in it and synchronizes its own changes.
        unsafe { self.place.as_ref() }
    }
}

impl<T: Shareable> Clone for Handle<T> {
    fn clone(&self) -> Handle<T> {
        Handle { place: self.place, region: self.region.clone() }
    }
}

impl<T: Shareable> Portable for Handle<T> {
    fn pack(&self, packer: &mut Packer<'_>) -> Result<(), HandleError> {
        packer.region(&self.region)?;
        packer.number(self.region.offset_of(self.place.cast()) as u64)
    }

    fn unpack(unpacker: &mut Unpacker<'_>) -> Result<Handle<T>, HandleError> {
        let row: Row<T> = unpack_row(unpacker, |_| Ok(1))?;
        Ok(row.first)
    }
}

/// A place as a handle is packed, and so many `T`s from there on.
fn unpack_row<T: Shareable>(
    unpacker: &mut Unpacker<'_>,
    len: impl FnOnce(&mut Unpacker<'_>) -> Result<usize, HandleError>,
) -> Result<Row<T>, HandleError> {
    let region = unpacker.region()?;
    let offset = unpacker.size()?;
    let len = len(unpacker)?;
    let first = region.adopt::<T>(offset, len).ok_or(HandleError::Unknown)?;
    // SAFETY: in bounds and aligned, by `adopt`; and another process of this program has packed a `T`, or so many, from
    // just there: nobody else writes the table.
    Ok(unsafe { Row::new(region, first, len) })
}

/// Some `T`s one after the other in a region, which it keeps mapped.
pub(crate) struct Row<T> {
    first: Handle<T>,
    len: usize,
}

impl<T: Shareable> Row<T> {
    /// # Safety
    /// As for [`Handle::new`], for `len` of them from `first` on.
    pub(crate) unsafe fn new(region: Region, first: NonNull<T>, len: usize) -> Row<T> {
        // SAFETY: passed on.
        Row { first: unsafe { Handle::new(region, first) }, len }
    }
}

impl<T: Shareable> Deref for Row<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: as for `Handle`, by `new`'s caller.
        unsafe { slice::from_raw_parts(self.first.place.as_ptr(), self.len) }
    }
}

impl<T: Shareable> Clone for Row<T> {
    fn clone(&self) -> Row<T> {
        Row { first: self.first.clone(), len: self.len }
    }
}

impl<T: Shareable> Portable for Row<T> {
    fn pack(&self, packer: &mut Packer<'_>) -> Result<(), HandleError> {
        self.first.pack(packer)?;
        packer.number(self.len as u64)
    }

    fn unpack(unpacker: &mut Unpacker<'_>) -> Result<Row<T>, HandleError> {
        unpack_row(unpacker, |unpacker| unpacker.size())
    }
}

/// Bytes in a region, which it keeps mapped.
pub(crate) struct SharedBytes {
    base: NonNull<u8>,
    buffer: Buffer,
    region: Region,
}

// SAFETY: a range of shared memory and a counted mapping; see `Buffer` for who may touch what when.
unsafe impl Send for SharedBytes {}
// SAFETY: as above.
unsafe impl Sync for SharedBytes {}

impl SharedBytes {
    /// # Safety
    /// `len` bytes from `base` lie in `region`, aligned to 8, and belong to whoever shares this value.
    pub(crate) unsafe fn new(region: Region, base: NonNull<u8>, len: usize) -> SharedBytes {
        // SAFETY: passed on; `region` keeps the range mapped.
        SharedBytes { base, buffer: unsafe { Buffer::new(base, len) }, region }
    }

    /// The bytes as a protocol uses them: by copies.
    #[inline]
    pub(crate) fn buffer(&self) -> &Buffer {
        &self.buffer
    }

    /// Where they begin.
    #[inline]
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// The bytes as words that several processes read and write at once.
    #[inline]
    pub(crate) fn words(&self) -> &[AtomicU64] {
        // SAFETY: in bounds, aligned to 8 (`new`), mapped while `self` lives; any bytes make a word. Who uses the
        // words of a range does not use its `buffer`.
        unsafe { slice::from_raw_parts(self.base.cast().as_ptr(), self.buffer.len() / 8) }
    }
}

impl Clone for SharedBytes {
    fn clone(&self) -> SharedBytes {
        // SAFETY: the same range, kept mapped by the region's clone.
        unsafe { SharedBytes::new(self.region.clone(), self.base, self.buffer.len()) }
    }
}

impl Portable for SharedBytes {
    fn pack(&self, packer: &mut Packer<'_>) -> Result<(), HandleError> {
        packer.region(&self.region)?;
        packer.number(self.region.offset_of(self.base) as u64)?;
        packer.number(self.buffer.len() as u64)
    }

    fn unpack(unpacker: &mut Unpacker<'_>) -> Result<SharedBytes, HandleError> {
        let region = unpacker.region()?;
        let (offset, len) = (unpacker.size()?, unpacker.size()?);
        let base = region.bytes_at(offset, len).filter(|base| base.cast::<u64>().is_aligned());
        let base = base.ok_or(HandleError::Unknown)?;
        // SAFETY: in bounds and aligned, by the lines above; packed as such by another process of this program.
        Ok(unsafe { SharedBytes::new(region, base, len) })
    }
}
