//! A row of elements in shared memory, changed in place under a lock.
//!
//! # Words
//! The lock of `sync/raw_lock.rs`, then the elements. The lock's `suspicion` serves as a statement of intent: a holder
//! writes `OwnerDied` there before its first change and takes it back when its changes are whole. So a reader's
//! death, or that of a writer who had not begun, casts no doubt on the data.
//!
//! # Invariants
//! - A1: elements change only while `suspicion` is not `None`, but for single stores of a number's size.
//!
//! # Crash points
//! - `array.changing`: some elements are new, some old. The next holder is told `OwnerDied`.

use std::{
    fmt,
    marker::PhantomData,
    ops::{Deref, DerefMut},
    ptr::NonNull,
    slice,
    time::Duration,
};

use crate::{
    error::{ArrayError, LockError, RegionError},
    primitive::{Deadline, store_whole},
    region::{Handle, Plain, Region, SharedBytes, in_arena, portable},
    sync::{LockGuard, PaddedLock, Patience},
};

/// A row of `len` elements that processes share, with a lock of its own.
///
/// [`lock`](Array::lock) gives a guard that derefs to `[T]`, in place. The other methods take the lock for one call.
/// A holder killed in the middle of a change leaves some elements new and some old: the next to lock is told
/// [`LockError::OwnerDied`], with the guard inside. Elements are plain data, so any mixture is at least a value. A
/// clone is another handle to the same array.
///
/// # Examples
/// ```
/// let squares = pshared::Array::new(&[0_u32; 5])?;
/// for (i, square) in squares.lock().unwrap().iter_mut().enumerate() {
///     *square = (i * i) as u32;
/// }
/// assert_eq!(squares.get(4)?, 16);
/// assert_eq!(squares.to_vec()?, [0, 1, 4, 9, 16]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Python `multiprocessing.Array`.
pub struct Array<T> {
    lock: Handle<PaddedLock>,
    bytes: SharedBytes,
    len: usize,
    _type: PhantomData<T>,
}

portable!(of (T) Array<T> { lock, bytes, len, _type });

impl<T: Plain> Array<T> {
    /// A copy of `elements` in anonymous memory, which children forked from now on inherit.
    ///
    /// # Errors
    /// [`RegionError::ZeroSize`] for no elements or elements of no size, else what [`Region::anonymous`] says.
    pub fn new(elements: &[T]) -> Result<Array<T>, RegionError> {
        let array = Array::zeroed(elements.len())?;
        array.fill_new(elements);
        Ok(array)
    }

    /// `len` elements of zero bytes.
    ///
    /// # Errors
    /// As for [`new`](Array::new); [`RegionError::TooLarge`] if the size overflows.
    pub fn zeroed(len: usize) -> Result<Array<T>, RegionError> {
        let need = Self::size_of(len)?.saturating_add(size_of::<PaddedLock>());
        in_arena(need, |region| Self::zeroed_in(region, len))
    }

    /// A copy of `elements` in `region`.
    ///
    /// # Errors
    /// As for [`new`](Array::new); [`RegionError::NoRoom`].
    pub fn new_in(region: &Region, elements: &[T]) -> Result<Array<T>, RegionError> {
        let array = Self::zeroed_in(region, elements.len())?;
        array.fill_new(elements);
        Ok(array)
    }

    /// `len` elements of zero bytes in `region`.
    ///
    /// # Errors
    /// As for [`zeroed`](Array::zeroed); [`RegionError::NoRoom`].
    pub fn zeroed_in(region: &Region, len: usize) -> Result<Array<T>, RegionError> {
        let size = Self::size_of(len)?;
        let (lock, bytes) = region.place_with_bytes(PaddedLock::new(), size, align_of::<T>().max(8))?;
        Ok(Array { lock, bytes, len, _type: PhantomData })
    }

    /// The bytes of `len` elements; an error if there are none, or too many to address.
    fn size_of(len: usize) -> Result<usize, RegionError> {
        const { assert!(align_of::<T>() <= 128, "elements are aligned to at most 128") };
        const LIMIT: usize = isize::MAX as usize;
        match len.checked_mul(size_of::<T>()) {
            Some(0) => Err(RegionError::ZeroSize),
            Some(size) if size <= LIMIT => Ok(size),
            _ => Err(RegionError::TooLarge { need: usize::MAX, limit: LIMIT }),
        }
    }

    fn fill_new(&self, elements: &[T]) {
        self.bytes.buffer().write(0, bytemuck::cast_slice(elements));
    }

    /// How many elements there are.
    #[allow(clippy::len_without_is_empty, reason = "an array has at least one element")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The element at `index`.
    ///
    /// # Errors
    /// [`ArrayError::OutOfRange`]. Like every one-call method here: [`ArrayError::OwnerDied`] and
    /// [`ArrayError::Poisoned`] when a holder died or panicked in the middle of a change, which
    /// [`lock`](Array::lock) lets you repair; [`ArrayError::AlreadyHeld`], [`ArrayError::TooManyHeld`].
    pub fn get(&self, index: usize) -> Result<T, ArrayError> {
        self.end_of(index, 1)?;
        Ok(self.for_one_call()?[index])
    }

    /// Replaces the element at `index`. One of 1, 2, 4 or 8 bytes is never half replaced, so the death of its writer
    /// casts no doubt.
    ///
    /// # Errors
    /// As for [`get`](Array::get).
    pub fn set(&self, index: usize, value: T) -> Result<(), ArrayError> {
        self.end_of(index, 1)?;
        let mut guard = self.for_one_call()?;
        // SAFETY: in bounds by the check above; we hold the lock.
        let whole = unsafe { store_whole(self.base().add(index).as_ptr(), &value) };
        if !whole {
            guard[index] = value;
        }
        Ok(())
    }

    /// Copies all elements out.
    ///
    /// # Errors
    /// As for [`get`](Array::get).
    pub fn to_vec(&self) -> Result<Vec<T>, ArrayError> {
        Ok(self.for_one_call()?.to_vec())
    }

    /// Copies `elements` to the place that begins at `start`, at the speed of a memory copy.
    ///
    /// # Errors
    /// [`ArrayError::OutOfRange`] if they do not fit; then nothing has changed. Else as for [`get`](Array::get).
    pub fn copy_from_slice(&self, start: usize, elements: &[T]) -> Result<(), ArrayError> {
        let end = self.end_of(start, elements.len())?;
        self.for_one_call()?[start..end].copy_from_slice(elements);
        Ok(())
    }

    /// Fills `elements` from the place that begins at `start`, at the speed of a memory copy.
    ///
    /// # Errors
    /// [`ArrayError::OutOfRange`] if there are not so many. Else as for [`get`](Array::get).
    pub fn copy_to_slice(&self, start: usize, elements: &mut [T]) -> Result<(), ArrayError> {
        let end = self.end_of(start, elements.len())?;
        elements.copy_from_slice(&self.for_one_call()?[start..end]);
        Ok(())
    }

    fn end_of(&self, start: usize, count: usize) -> Result<usize, ArrayError> {
        match start.checked_add(count) {
            Some(end) if end <= self.len => Ok(end),
            end => Err(ArrayError::OutOfRange { end: end.unwrap_or(usize::MAX), len: self.len }),
        }
    }

    /// Takes the lock, waiting as long as it takes. The guard derefs to the elements, in place.
    ///
    /// # Errors
    /// - [`LockError::OwnerDied`], [`LockError::Poisoned`]: the lock is taken, the guard is inside; a holder died or
    ///   panicked in the middle of a change. Repair, then [`ArrayGuard::make_consistent`].
    /// - [`LockError::AlreadyHeld`], [`LockError::TooManyHeld`].
    ///
    /// # References
    /// Python `Array.get_lock()`.
    #[doc(alias = "get_lock")]
    pub fn lock(&self) -> Result<ArrayGuard<'_, T>, LockError<ArrayGuard<'_, T>>> {
        self.guard(Patience::FOREVER)
    }

    /// As [`lock`](Array::lock), but never waits.
    ///
    /// # Errors
    /// [`LockError::WouldBlock`], and as for [`lock`](Array::lock).
    pub fn try_lock(&self) -> Result<ArrayGuard<'_, T>, LockError<ArrayGuard<'_, T>>> {
        self.guard(Patience::None)
    }

    /// As [`lock`](Array::lock), but waits at most `timeout`.
    ///
    /// # Errors
    /// [`LockError::TimedOut`], and as for [`lock`](Array::lock).
    pub fn lock_timeout(&self, timeout: Duration) -> Result<ArrayGuard<'_, T>, LockError<ArrayGuard<'_, T>>> {
        self.lock_deadline(Deadline::after(timeout))
    }

    /// As [`lock`](Array::lock), but waits at most until `deadline`.
    ///
    /// # Errors
    /// As for [`lock_timeout`](Array::lock_timeout).
    pub fn lock_deadline(
        &self,
        deadline: Deadline,
    ) -> Result<ArrayGuard<'_, T>, LockError<ArrayGuard<'_, T>>> {
        self.guard(Patience::Until(Some(deadline)))
    }

    fn guard(&self, patience: Patience) -> Result<ArrayGuard<'_, T>, LockError<ArrayGuard<'_, T>>> {
        let wrap = |alone| ArrayGuard { array: self, changing: false, alone };
        LockGuard::take_by_note(&self.lock, patience).map(wrap).map_err(|error| error.map(wrap))
    }

    /// The lock for one call. Any doubt about the data stays for the next who locks.
    fn for_one_call(&self) -> Result<ArrayGuard<'_, T>, ArrayError> {
        self.lock().map_err(ArrayError::from_lock)
    }

    fn base(&self) -> NonNull<T> {
        self.bytes.base().cast()
    }
}

impl<T> Clone for Array<T> {
    fn clone(&self) -> Array<T> {
        Array { lock: self.lock.clone(), bytes: self.bytes.clone(), len: self.len, _type: PhantomData }
    }
}

impl<T> fmt::Debug for Array<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Array").field("len", &self.len).field("lock", &self.lock.state()).finish()
    }
}

/// A locked [`Array`]: derefs to its elements, in place. Dropping it frees the lock, in the process that took it.
///
/// Dropped while its thread panics, it leaves the array [`Poisoned`](LockError::Poisoned) for the next. A copy that a
/// fork made holds nothing: it does nothing when dropped, and panics when its elements are asked for.
#[must_use = "a guard that is dropped at once guards nothing"]
pub struct ArrayGuard<'a, T: Plain> {
    array: &'a Array<T>,
    changing: bool,
    alone: LockGuard<'a>,
}

impl<T: Plain> ArrayGuard<'_, T> {
    /// Declares the elements good again: the next holder is told of no death and no panic.
    pub fn make_consistent(&mut self) {
        self.alone.make_consistent();
        self.changing = false;
    }
}

impl<T: Plain> Deref for ArrayGuard<'_, T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        self.alone.assert_ours();
        // SAFETY: `len` elements of plain data, mapped while the array lives; we hold the lock, so no process that
        // keeps to the protocol writes them.
        unsafe { slice::from_raw_parts(self.array.base().as_ptr(), self.array.len) }
    }
}

impl<T: Plain> DerefMut for ArrayGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        self.alone.assert_ours();
        if !self.changing {
            self.changing = true;
            self.alone.intend_change();
        }
        // CRASH(array.changing): the note says OwnerDied until the guard is dropped.
        // SAFETY: as for `deref`; the guard is borrowed mutably, so this is the one reference in this process.
        unsafe { slice::from_raw_parts_mut(self.array.base().as_ptr(), self.array.len) }
    }
}

impl<T: Plain> Drop for ArrayGuard<'_, T> {
    fn drop(&mut self) {
        if self.changing {
            self.alone.changes_are_whole();
        }
    }
}

impl<T: Plain + fmt::Debug> fmt::Debug for ArrayGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
