//! [`Once`] and [`OnceValue`]: what is done once, by whichever process comes first and lives.
//!
//! # Words
//! | word   | meaning                                     | written by                               |
//! |--------|---------------------------------------------|------------------------------------------|
//! | `lock` | held: the initialiser runs                  | `sync/raw_lock.rs`                       |
//! | `done` | 1: it has run to its end                    | the lock's holder, when it has           |
//! | bytes  | the value, if there is one                  | the lock's holder, while `done` is 0     |
//!
//! # Invariants
//! - O1: `done` goes from 0 to 1 once, written by the holder of the lock, after all that the initialiser did.
//! - O2: with `done` at 1 the bytes never change.
//!
//! # Ordering edges
//! - `done`: Release store of `done` -> Acquire load of it; carries what the initialiser did, and the bytes.
//!
//! # Crash points
//! - `once.running`: the lock is held and `done` is 0: the kernel hands the lock to the next, who begins anew. Neither
//!   a death nor a panic is reported: nobody has been told that it was done.
//! - `once.done`: the lock is held, and `done` is 1: the next finds it so.

use std::{fmt, marker::PhantomData, time::Duration};

use crate::{
    error::{OnceError, RegionError},
    primitive::{Acquire, AtomicU32, Deadline, Mutant, Relaxed, Release, lineage, me, mutant},
    region::{Handle, Plain, Region, Shareable, SharedBytes, in_arena, portable},
    sync::raw_lock::{MAX_HELD, Patience, RawLock, Refused, may_hold_more},
};

/// Words and algorithm; the memory is somebody else's.
#[repr(C)]
pub(crate) struct RawOnce {
    done: AtomicU32,
    _gap: u32,
    lock: RawLock,
}

// SAFETY: a lock, and an atomic.
unsafe impl Shareable for RawOnce {
    const ROBUST: &'static [usize] = &[std::mem::offset_of!(RawOnce, lock) + RawLock::WORD];
}

impl RawOnce {
    pub(crate) fn new() -> RawOnce {
        RawOnce { done: AtomicU32::new(0), _gap: 0, lock: RawLock::new() }
    }

    #[inline]
    pub(crate) fn is_done(&self) -> bool {
        // ORDERING(done): Acquire, so that we see what the initialiser did.
        self.done.load(Acquire) != 0
    }

    /// Runs `initialise`, unless it has been done; says whether this call did it.
    #[cold]
    pub(crate) fn call(&self, patience: Patience, initialise: impl FnOnce()) -> Result<bool, OnceError> {
        if self.is_done() {
            return Ok(false);
        }
        if let Err(held) = may_hold_more(me()) {
            return Err(OnceError::TooManyHeld { held, limit: MAX_HELD });
        }
        let _hold = match self.lock.hold(patience) {
            Ok(hold) => hold,
            // `try_lock` does not look whether the holder is the caller itself.
            Err(Refused::WouldBlock) if self.lock.state().owner() == me().tid() => {
                return Err(OnceError::Reentered);
            }
            Err(Refused::WouldBlock) => return Err(OnceError::WouldBlock),
            Err(Refused::TimedOut) => return Err(OnceError::TimedOut),
            Err(Refused::AlreadyHeld) => return Err(OnceError::Reentered),
        };
        if self.is_done() {
            return Ok(false);
        }
        let before = lineage();
        if mutant(Mutant::DoneBeforeDone) {
            self.done.store(1, Release);
        }
        // CRASH(once.running): the next caller begins anew.
        initialise();
        if lineage() != before {
            return Err(OnceError::Forked);
        }
        let release = if mutant(Mutant::RelaxedDone) { Relaxed } else { Release };
        // ORDERING(done): Release, so that who sees it done sees what we did (O1).
        self.done.store(1, release);
        // CRASH(once.done): held, and done.
        Ok(true)
    }
}

/// Something that is done once, by one process for all.
///
/// A process that is killed while it does it, at any instruction, leaves it undone, and the next caller does it from
/// the beginning; so does one whose initialiser panics. What the dead did half is for the next to do anew or to
/// overwrite. A clone is another handle to the same one.
///
/// # Examples
/// ```
/// let once = pshared::Once::new()?;
/// once.call_once(|| { /* in one process */ }).expect("not from within");
/// assert!(once.is_completed());
/// # Ok::<(), pshared::RegionError>(())
/// ```
///
/// # References
/// [`std::sync::Once`], in one process; pthread_once(3). Python has none.
#[derive(Clone)]
pub struct Once {
    raw: Handle<RawOnce>,
}

portable!(Once { raw });

impl Once {
    /// In anonymous memory, which children forked from now on inherit. It takes 56 bytes.
    ///
    /// # Errors
    /// What [`Region::anonymous`] says.
    pub fn new() -> Result<Once, RegionError> {
        in_arena(size_of::<RawOnce>(), Once::new_in)
    }

    /// In `region`.
    ///
    /// # Errors
    /// [`RegionError::NoRoom`].
    pub fn new_in(region: &Region) -> Result<Once, RegionError> {
        Ok(Once { raw: region.place(RawOnce::new())? })
    }

    /// Runs `initialise`, if it has not been done; waits, as long as it takes, for another that is at it. When this
    /// returns `Ok`, it has been done, and what was written by it is seen. Says whether this call did it.
    ///
    /// # Errors
    /// - [`OnceError::Reentered`]: called from the initialiser itself.
    /// - [`OnceError::TooManyHeld`]: the thread holds 2,040 locks.
    /// - [`OnceError::Forked`]: the initialiser forked, and returned in the child.
    ///
    /// # Panics
    /// If `initialise` does; it is undone then.
    #[inline]
    pub fn call_once(&self, initialise: impl FnOnce()) -> Result<bool, OnceError> {
        self.call(Patience::FOREVER, initialise)
    }

    /// As [`call_once`](Once::call_once), if that needs no waiting for another.
    ///
    /// # Errors
    /// [`OnceError::WouldBlock`] when another is at it; else as for [`call_once`](Once::call_once).
    pub fn try_call_once(&self, initialise: impl FnOnce()) -> Result<bool, OnceError> {
        self.call(Patience::None, initialise)
    }

    /// As [`call_once`](Once::call_once), waiting for another at most `timeout` (CLOCK_MONOTONIC, from the call). The
    /// caller's own initialiser takes as long as it takes.
    ///
    /// # Errors
    /// [`OnceError::TimedOut`] when another was still at it; else as for [`call_once`](Once::call_once).
    pub fn call_once_timeout(&self, timeout: Duration, initialise: impl FnOnce()) -> Result<bool, OnceError> {
        self.call_once_deadline(Deadline::after(timeout), initialise)
    }

    /// As [`call_once_timeout`](Once::call_once_timeout), until `deadline`.
    ///
    /// # Errors
    /// As for [`call_once_timeout`](Once::call_once_timeout).
    pub fn call_once_deadline(
        &self,
        deadline: Deadline,
        initialise: impl FnOnce(),
    ) -> Result<bool, OnceError> {
        self.call(Patience::Until(Some(deadline)), initialise)
    }

    /// Whether it has been done. Never waits.
    #[inline]
    pub fn is_completed(&self) -> bool {
        self.raw.is_done()
    }

    #[inline]
    fn call(&self, patience: Patience, initialise: impl FnOnce()) -> Result<bool, OnceError> {
        if self.raw.is_done() { Ok(false) } else { self.raw.call(patience, initialise) }
    }
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe(&self.raw, "Once", f)
    }
}

fn describe(raw: &RawOnce, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.debug_struct(name).field("done", &raw.is_done()).field("initialiser", &raw.lock.state()).finish()
}

/// A value that is made once, by one process for all, and never changes.
///
/// Deaths and panics are as for [`Once`]. A clone is another handle to the same value.
///
/// # Examples
/// ```
/// let seed = pshared::OnceValue::<u64>::new()?;
/// assert_eq!(seed.get(), None);
/// assert_eq!(seed.get_or_init(|| 42), Ok(42));
/// assert_eq!(seed.get_or_init(|| 43), Ok(42));
/// # Ok::<(), pshared::RegionError>(())
/// ```
///
/// # References
/// [`std::sync::OnceLock`], in one process.
pub struct OnceValue<T> {
    raw: Handle<RawOnce>,
    bytes: SharedBytes,
    _type: PhantomData<T>,
}

portable!(of (T) OnceValue<T> { raw, bytes, _type });

impl<T: Plain> OnceValue<T> {
    /// In anonymous memory, which children forked from now on inherit. It takes 56 bytes and its value's.
    ///
    /// # Errors
    /// What [`Region::anonymous`] says.
    pub fn new() -> Result<OnceValue<T>, RegionError> {
        in_arena(size_of::<RawOnce>() + size_of::<T>(), OnceValue::new_in)
    }

    /// In `region`.
    ///
    /// # Errors
    /// [`RegionError::NoRoom`].
    pub fn new_in(region: &Region) -> Result<OnceValue<T>, RegionError> {
        let (raw, bytes) = region.place_with_bytes(RawOnce::new(), size_of::<T>(), 8)?;
        Ok(OnceValue { raw, bytes, _type: PhantomData })
    }

    /// The value, if it has been made. Never waits.
    #[inline]
    pub fn get(&self) -> Option<T> {
        self.raw.is_done().then(|| self.read())
    }

    /// The value; made by `make` if it is not there. Waits, as long as it takes, for another that is at it.
    ///
    /// # Errors
    /// As for [`Once::call_once`].
    ///
    /// # Panics
    /// If `make` does; there is no value then.
    #[inline]
    pub fn get_or_init(&self, make: impl FnOnce() -> T) -> Result<T, OnceError> {
        self.init(Patience::FOREVER, make)
    }

    /// As [`get_or_init`](OnceValue::get_or_init), waiting for another at most `timeout`.
    ///
    /// # Errors
    /// As for [`Once::call_once_timeout`].
    pub fn get_or_init_timeout(&self, timeout: Duration, make: impl FnOnce() -> T) -> Result<T, OnceError> {
        self.get_or_init_deadline(Deadline::after(timeout), make)
    }

    /// As [`get_or_init`](OnceValue::get_or_init), waiting for another at most until `deadline`.
    ///
    /// # Errors
    /// As for [`Once::call_once_timeout`].
    pub fn get_or_init_deadline(&self, deadline: Deadline, make: impl FnOnce() -> T) -> Result<T, OnceError> {
        self.init(Patience::Until(Some(deadline)), make)
    }

    /// Makes `value` the value. Waits, as long as it takes, for another that is making one.
    ///
    /// # Errors
    /// [`OnceError::AlreadySet`]; else as for [`Once::call_once`].
    pub fn set(&self, value: T) -> Result<(), OnceError> {
        let write = || self.write(value);
        if self.raw.call(Patience::FOREVER, write)? { Ok(()) } else { Err(OnceError::AlreadySet) }
    }

    #[inline]
    fn init(&self, patience: Patience, make: impl FnOnce() -> T) -> Result<T, OnceError> {
        if !self.raw.is_done() {
            let before = lineage();
            // A copy of us that `make` forked must not write what is its parent's to make.
            self.raw.call(patience, || {
                let value = make();
                if lineage() == before {
                    self.write(value);
                }
            })?;
        }
        Ok(self.read())
    }

    /// Only the initialiser writes, while nobody reads (O2).
    fn write(&self, value: T) {
        self.bytes.buffer().write(0, bytemuck::bytes_of(&value));
    }

    /// It has been seen done.
    #[inline]
    fn read(&self) -> T {
        let mut value = T::zeroed();
        self.bytes.buffer().read(0, bytemuck::bytes_of_mut(&mut value));
        value
    }
}

impl<T> Clone for OnceValue<T> {
    fn clone(&self) -> OnceValue<T> {
        OnceValue { raw: self.raw.clone(), bytes: self.bytes.clone(), _type: PhantomData }
    }
}

impl<T: Plain + fmt::Debug> fmt::Debug for OnceValue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.get() {
            Some(value) => f.debug_tuple("OnceValue").field(&value).finish(),
            None => describe(&self.raw, "OnceValue", f),
        }
    }
}
