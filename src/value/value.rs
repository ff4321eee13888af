//! A value that no death can tear.
//!
//! There are two copies, and a version whose lowest bit says which of them is the value. A writer holds the lock,
//! works on a private copy, writes that to the spare place and commits by storing the next version. A reader takes
//! no lock: it copies the place that the version names and looks at the version again.
//!
//! # Words
//! | word                  | meaning                            | written by                          |
//! |-----------------------|------------------------------------|-------------------------------------|
//! | `lock`                | writers, one at a time             | see `sync/raw_lock.rs`              |
//! | `version`             | commits so far; bit 0 names a copy | the holder: one store, the commit   |
//! | copy 0, copy 1        | the value, and room for the next   | the holder: the one not named       |
//!
//! # Invariants
//! - V1: the copy that `version` names is complete and does not change.
//! - V2: a reader that saw the same version before and after its copy saw no other writer's bytes: the copy it read
//!   is only written after `version` moved on.
//!
//! # Ordering edges
//! - `commit`: Release store of `version` -> Acquire load of a reader; carries the copy.
//! - `reuse`: Release fence before the spare copy is written -> Acquire fence after a reader's copy; carries the
//!   `version` that made that copy the spare one. So a reader that saw new bytes sees a new version.
//!
//! # Crash points
//! - `value.staged`: the spare copy is written, the version is not: the value is the old one, and the next writer
//!   writes the spare copy anew. The lock's OWNER_DIED needs no repair and is not reported.
//!
//! Source: the seqlock literature; here writers never make a reader wait for them, since the copy in use stays.

use std::{
    fmt,
    marker::PhantomData,
    mem,
    ops::{Deref, DerefMut},
    thread,
    time::Duration,
};

use crate::{
    error::{LockError, RegionError},
    primitive::{Acquire, AtomicU64, Deadline, Mutant, Relaxed, Release, fence, mutant, spin_hint},
    region::{Handle, Plain, Region, SharedBytes, in_arena, portable},
    sync::{LockGuard, PaddedLock, Patience},
};

/// The version, then both copies, as words that may be read while they are written.
pub(crate) struct Copies<'a, T> {
    words: &'a [AtomicU64],
    _type: PhantomData<T>,
}

impl<'a, T: Plain> Copies<'a, T> {
    /// The words that one copy takes.
    const LEN: usize = size_of::<T>().div_ceil(8);
    /// The bytes that version and copies take.
    pub(crate) const BYTES: usize = 8 * (1 + 2 * Self::LEN);

    pub(crate) fn new(words: &'a [AtomicU64]) -> Copies<'a, T> {
        assert!(words.len() > 2 * Self::LEN);
        Copies { words, _type: PhantomData }
    }

    fn version(&self) -> &'a AtomicU64 {
        &self.words[0]
    }

    fn copy(&self, version: u64) -> &'a [AtomicU64] {
        let start = 1 + (version & 1) as usize * Self::LEN;
        &self.words[start..start + Self::LEN]
    }

    /// The value at some instant of the call.
    #[inline]
    pub(crate) fn load(&self) -> T {
        let mut value = T::zeroed();
        loop {
            // ORDERING(commit): Acquire, so that we see the copy that this version names.
            let version = self.version().load(Acquire);
            for (bytes, word) in bytemuck::bytes_of_mut(&mut value).chunks_mut(8).zip(self.copy(version)) {
                // ORDERING: Relaxed, judged by the version afterwards.
                bytes.copy_from_slice(&word.load(Relaxed).to_ne_bytes()[..bytes.len()]);
            }
            // ORDERING(reuse): Acquire, so that with any newer byte we also see the newer version (V2).
            if !mutant(Mutant::ReaderUnfenced) {
                fence(Acquire);
            }
            if self.version().load(Relaxed) == version {
                return value;
            }
            spin_hint();
        }
    }

    /// Makes `value` the value. The caller holds the lock.
    #[inline]
    pub(crate) fn store(&self, value: &T) {
        // ORDERING: Relaxed, only holders of the lock write it, and we are one.
        let next = self.version().load(Relaxed).wrapping_add(1);
        if mutant(Mutant::VersionBeforeBytes) {
            self.version().store(next, Release);
        }
        // ORDERING(reuse): Release, so that who sees a byte of this copy sees the version that freed it.
        if !mutant(Mutant::WriterUnfenced) {
            fence(Release);
        }
        for (bytes, word) in bytemuck::bytes_of(value).chunks(8).zip(self.copy(next)) {
            let mut padded = [0; 8];
            padded[..bytes.len()].copy_from_slice(bytes);
            // ORDERING: Relaxed, carried by `commit`.
            word.store(u64::from_ne_bytes(padded), Relaxed);
        }
        // CRASH(value.staged): nobody reads the spare copy before the version names it.
        if !mutant(Mutant::VersionBeforeBytes) {
            let release = if mutant(Mutant::RelaxedCommit) { Relaxed } else { Release };
            // ORDERING(commit): Release, so that a reader of the version sees the copy.
            self.version().store(next, release);
        }
    }
}

/// One value that processes share: read without waiting, changed as a whole or not at all.
///
/// A writer that is killed, at any instruction, leaves the old value or the new one, never a mixture, and never a
/// lock that nobody can take. So no operation here reports a death. A clone is another handle to the same value.
///
/// For a counter or a flag [`Atomic`](crate::Atomic) needs no lock; for many elements there is
/// [`Array`](crate::Array), which changes in place.
///
/// # Examples
/// ```
/// let total = pshared::Value::new([0_u64; 4])?;
/// total.update(|row| row[2] += 7);
/// assert_eq!(total.get(), [0, 0, 7, 0]);
/// # Ok::<(), pshared::RegionError>(())
/// ```
///
/// # References
/// Python `multiprocessing.Value`, whose `+=` is two steps and whose lock stays with the dead.
pub struct Value<T> {
    lock: Handle<PaddedLock>,
    bytes: SharedBytes,
    _type: PhantomData<T>,
}

portable!(of (T) Value<T> { lock, bytes, _type });

impl<T: Plain> Value<T> {
    /// A value in anonymous memory, which children forked from now on inherit. It takes 136 bytes and twice its size.
    ///
    /// # Errors
    /// What [`Region::anonymous`] says.
    pub fn new(value: T) -> Result<Value<T>, RegionError> {
        in_arena(Self::footprint(), |region| Value::new_in(region, value))
    }

    /// A value in `region`.
    ///
    /// # Errors
    /// [`RegionError::NoRoom`].
    pub fn new_in(region: &Region, value: T) -> Result<Value<T>, RegionError> {
        let (lock, bytes) = region.place_with_bytes(PaddedLock::new(), Copies::<T>::BYTES, 8)?;
        let made = Value { lock, bytes, _type: PhantomData };
        made.copies().store(&value);
        Ok(made)
    }

    fn footprint() -> usize {
        size_of::<PaddedLock>() + Copies::<T>::BYTES
    }

    #[inline]
    fn copies(&self) -> Copies<'_, T> {
        Copies::new(self.bytes.words())
    }

    /// The value at some instant of the call. Never waits for a writer, living, stopped or dead.
    #[doc(alias = "value")]
    #[inline]
    pub fn get(&self) -> T {
        self.copies().load()
    }

    /// Replaces the value, waiting while others change it.
    ///
    /// # Panics
    /// If the calling thread holds the lock of this value, or 2,040 locks.
    #[inline]
    pub fn set(&self, value: T) {
        let _alone = self.alone(Patience::FOREVER).unwrap_or_else(|error| panic!("Value::set: {error}"));
        self.copies().store(&value);
    }

    /// Changes the value by `change`, waiting while others change it, and passes on what `change` returns.
    ///
    /// `change` works on a private copy. If it panics, or the process is killed, the value stays as it was.
    ///
    /// # Panics
    /// If the calling thread holds the lock of this value, or 2,040 locks.
    ///
    /// # References
    /// Python `with value.get_lock(): value.value += 1`.
    #[inline]
    pub fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let alone = self.alone(Patience::FOREVER).unwrap_or_else(|error| panic!("Value::update: {error}"));
        let mut value = self.get();
        let result = change(&mut value);
        // A child that `change` forked comes by here too.
        if alone.is_ours() {
            self.copies().store(&value);
        }
        result
    }

    /// Keeps other writers out and gives a copy to work on; dropping the guard commits it. See [`ValueGuard`].
    ///
    /// # Errors
    /// [`LockError::AlreadyHeld`] and [`LockError::TooManyHeld`]. Never `OwnerDied`: there is nothing to repair.
    ///
    /// # References
    /// Python `Value.get_lock()`.
    #[doc(alias = "get_lock")]
    pub fn lock(&self) -> Result<ValueGuard<'_, T>, LockError<ValueGuard<'_, T>>> {
        self.guard(Patience::FOREVER)
    }

    /// As [`lock`](Value::lock), but never waits.
    ///
    /// # Errors
    /// [`LockError::WouldBlock`], and as for [`lock`](Value::lock).
    pub fn try_lock(&self) -> Result<ValueGuard<'_, T>, LockError<ValueGuard<'_, T>>> {
        self.guard(Patience::None)
    }

    /// As [`lock`](Value::lock), but waits at most `timeout`.
    ///
    /// # Errors
    /// [`LockError::TimedOut`], and as for [`lock`](Value::lock).
    pub fn lock_timeout(&self, timeout: Duration) -> Result<ValueGuard<'_, T>, LockError<ValueGuard<'_, T>>> {
        self.lock_deadline(Deadline::after(timeout))
    }

    /// As [`lock`](Value::lock), but waits at most until `deadline`.
    ///
    /// # Errors
    /// As for [`lock_timeout`](Value::lock_timeout).
    pub fn lock_deadline(
        &self,
        deadline: Deadline,
    ) -> Result<ValueGuard<'_, T>, LockError<ValueGuard<'_, T>>> {
        self.guard(Patience::Until(Some(deadline)))
    }

    fn guard(&self, patience: Patience) -> Result<ValueGuard<'_, T>, LockError<ValueGuard<'_, T>>> {
        let alone = self.alone(patience).map_err(|error| error.map(|never| match never {}))?;
        Ok(ValueGuard {
            value: self.get(),
            owner: self,
            changed: false,
            panicking: thread::panicking(),
            alone,
        })
    }

    /// The lock. A death or a panic behind it left the value whole (V1): nothing to report.
    #[inline]
    fn alone(&self, patience: Patience) -> Result<LockGuard<'_>, LockError<std::convert::Infallible>> {
        LockGuard::take_healed(&self.lock, patience)
    }
}

impl<T> Clone for Value<T> {
    fn clone(&self) -> Value<T> {
        Value { lock: self.lock.clone(), bytes: self.bytes.clone(), _type: PhantomData }
    }
}

impl<T: Plain + fmt::Debug> fmt::Debug for Value<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Value").field("value", &self.get()).field("lock", &self.lock.state()).finish()
    }
}

/// A locked [`Value`]: derefs to a private copy. Dropping it makes the copy the value, if it was borrowed mutably.
///
/// Dropped while its thread panics, in another process than the one that locked, or by [`discard`](Self::discard),
/// it leaves the value as it was. Readers see the old value until the drop.
#[must_use = "a guard that is dropped at once guards nothing"]
pub struct ValueGuard<'a, T: Plain> {
    value: T,
    owner: &'a Value<T>,
    changed: bool,
    panicking: bool,
    alone: LockGuard<'a>,
}

impl<T: Plain> ValueGuard<'_, T> {
    /// Leaves the value as it was.
    pub fn discard(mut self) {
        self.changed = false;
    }
}

impl<T: Plain> Deref for ValueGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Plain> DerefMut for ValueGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.changed = true;
        &mut self.value
    }
}

impl<T: Plain> Drop for ValueGuard<'_, T> {
    fn drop(&mut self) {
        let panicked = !self.panicking && thread::panicking();
        if mem::take(&mut self.changed) && !panicked && self.alone.is_ours() {
            self.owner.copies().store(&self.value);
        }
    }
}

impl<T: Plain + fmt::Debug> fmt::Debug for ValueGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ValueGuard").field(&self.value).finish()
    }
}
