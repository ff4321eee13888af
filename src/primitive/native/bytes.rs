//! Shared memory that is not made of words: elements in place, and the bytes of messages.

#![allow(clippy::disallowed_types, reason = "this is the seam")]

use core::sync::atomic::{self, Ordering::Relaxed};
use std::ptr::{self, NonNull};

/// Stores `value` at `place` in one step that a death cannot split, if it has the size and alignment of a number; says
/// whether it did.
///
/// # Safety
/// `place` is writable and aligned for a `T`, and nobody but atomics touches it meanwhile.
#[inline]
pub(crate) unsafe fn store_whole<T: bytemuck::NoUninit>(place: *mut T, value: &T) -> bool {
    if align_of::<T>() != size_of::<T>() {
        return false;
    }
    let bytes = bytemuck::bytes_of(value);
    // SAFETY: as the caller vouches; the alignment is that of the atomic, by the check above.
    unsafe {
        match *bytes {
            [a] => (*place.cast::<atomic::AtomicU8>()).store(a, Relaxed),
            [a, b] => (*place.cast::<atomic::AtomicU16>()).store(u16::from_ne_bytes([a, b]), Relaxed),
            [a, b, c, d] => {
                (*place.cast::<atomic::AtomicU32>()).store(u32::from_ne_bytes([a, b, c, d]), Relaxed);
            }
            [a, b, c, d, e, f, g, h] => (*place.cast::<atomic::AtomicU64>())
                .store(u64::from_ne_bytes([a, b, c, d, e, f, g, h]), Relaxed),
            _ => return false,
        }
    }
    true
}

/// Shared bytes that a protocol hands from one process to another. Every access is a copy.
///
/// # Safety of use
/// Whoever writes a range has it to itself until a Release commit, and whoever reads it has seen that commit by an
/// Acquire load: the protocols above guarantee it and the models check it.
#[derive(Debug)]
pub(crate) struct Buffer {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a range of shared memory, not of a thread; see "Safety of use" for who may touch what when.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// A view of `len` bytes from `base`.
    ///
    /// # Safety
    /// The range stays mapped, readable and writable, while the value lives; `base` is 8-byte aligned.
    pub(crate) unsafe fn new(base: NonNull<u8>, len: usize) -> Buffer {
        Buffer { base, len }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Copies `bytes` to `at`.
    #[inline]
    pub(crate) fn write(&self, at: usize, bytes: &[u8]) {
        assert!(at <= self.len && bytes.len() <= self.len - at, "write outside the buffer");
        // SAFETY: in bounds by the line above; a private source cannot overlap shared memory; nobody else touches
        // the range (see "Safety of use").
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.base.as_ptr().add(at), bytes.len()) }
    }

    /// Copies from `at` into `bytes`.
    #[inline]
    pub(crate) fn read(&self, at: usize, bytes: &mut [u8]) {
        assert!(at <= self.len && bytes.len() <= self.len - at, "read outside the buffer");
        // SAFETY: as for `write`, with the roles changed.
        unsafe { ptr::copy_nonoverlapping(self.base.as_ptr().add(at), bytes.as_mut_ptr(), bytes.len()) }
    }
}
