//! [`Handle`], [`Row`] and [`SharedBytes`]: region and offset become a reference here, and nowhere else.

use std::{ops::Deref, ptr::NonNull, slice};

use crate::{
    primitive::{AtomicU64, Buffer},
    region::{Region, Shareable},
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
