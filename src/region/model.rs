//! Memory as it is modelled: a region has no bytes and no end, and what is placed in it is counted.
//!
//! The same shapes as the real ones, so that `Lock::new()` and its kin compile unchanged. `NoRoom` never comes.

use std::{
    ops::Deref,
    ptr::NonNull,
    sync::{Arc, OnceLock},
};

use crate::{
    error::{HandleError, RegionError},
    primitive::{AtomicU64, Buffer},
    region::Shareable,
};

/// Memory that the threads of a model share.
#[derive(Clone, Debug)]
pub struct Region {
    size: usize,
}

impl Region {
    /// A region of `size` bytes.
    ///
    /// # Errors
    /// [`RegionError::ZeroSize`].
    pub fn anonymous(size: usize) -> Result<Region, RegionError> {
        if size == 0 { Err(RegionError::ZeroSize) } else { Ok(Region { size }) }
    }

    /// Its size in bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The bytes that no object has been placed in: all of them, always.
    pub fn room(&self) -> usize {
        self.size
    }

    /// Moves `value` to where all threads see it.
    pub(crate) fn place<T: Shareable>(&self, value: T) -> Result<Handle<T>, RegionError> {
        Ok(Handle(Arc::new(value)))
    }

    /// Moves `value` to where all threads see it, with `len` zero bytes.
    pub(crate) fn place_with_bytes<T: Shareable>(
        &self,
        value: T,
        len: usize,
        _align: usize,
    ) -> Result<(Handle<T>, SharedBytes), RegionError> {
        let bytes = SharedBytes { buffer: Arc::new(Buffer::new(len)), words: Arc::default() };
        Ok((self.place(value)?, bytes))
    }

    /// Moves `value` to where all threads see it, and `len` of what `make` returns.
    pub(crate) fn place_with_row<T: Shareable, S: Shareable>(
        &self,
        value: T,
        len: usize,
        make: impl Fn() -> S,
    ) -> Result<(Handle<T>, Row<S>), RegionError> {
        Ok((self.place(value)?, Row((0..len).map(|_| make()).collect())))
    }
}

/// A `T` that threads share. (Counted by std: loom's own counter would add edges that shared memory does not have.)
pub(crate) struct Handle<T>(Arc<T>);

impl<T: Shareable> Deref for Handle<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Shareable> Clone for Handle<T> {
    fn clone(&self) -> Handle<T> {
        Handle(self.0.clone())
    }
}

/// Some `T`s that threads share.
pub(crate) struct Row<T>(Arc<[T]>);

impl<T: Shareable> Deref for Row<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: Shareable> Clone for Row<T> {
    fn clone(&self) -> Row<T> {
        Row(self.0.clone())
    }
}

/// Bytes that threads share.
#[derive(Clone)]
pub(crate) struct SharedBytes {
    buffer: Arc<Buffer>,
    words: Arc<OnceLock<Box<[AtomicU64]>>>,
}

impl SharedBytes {
    /// The bytes as a protocol uses them: by copies.
    pub(crate) fn buffer(&self) -> &Buffer {
        &self.buffer
    }

    /// The bytes as words that several threads read and write at once. (Not the same memory as `buffer`: nothing
    /// uses both.)
    pub(crate) fn words(&self) -> &[AtomicU64] {
        self.words.get_or_init(|| (0..self.buffer.len() / 8).map(|_| AtomicU64::new(0)).collect())
    }

    /// No model follows a pointer into modelled bytes.
    pub(crate) fn base(&self) -> NonNull<u8> {
        NonNull::dangling()
    }
}

/// Lets `place` put an object of at most `need` bytes somewhere.
pub(crate) fn in_arena<T>(
    need: usize,
    place: impl Fn(&Region) -> Result<T, RegionError>,
) -> Result<T, RegionError> {
    place(&Region::anonymous(need.max(1))?)
}

/// Nothing travels in a model.
macro_rules! portable {
    ($($any:tt)*) => {};
}
pub(crate) use portable;

/// So no handle refuses to.
pub(crate) fn take_refusal() -> Option<HandleError> {
    None
}
