//! [`Semaphore`], [`BoundedSemaphore`] and [`Permit`]; the algorithms are in `sync/raw_semaphore.rs` and
//! `sync/ledger.rs`.

use std::{fmt, marker::PhantomData, ops::Deref, time::Duration};

use crate::{
    error::{AcquireError, ReleaseError, SemaphoreError},
    primitive::{Deadline, lineage, me},
    region::{Region, in_arena, portable},
    sync::{
        raw_lock::{MAX_HELD, Patience, may_hold_more},
        raw_semaphore::{Count, MAX_HOLDERS, MAX_PERMITS, NotAcquired, RawSemaphore},
    },
};

/// A number of permits, which processes and their threads take and give back.
///
/// Permits are taken in one of two ways:
/// - [`permit`](Semaphore::permit) gives a guard. The permit comes back when the guard is dropped, or when the thread
///   that has it ends, be it by SIGKILL: exactly once. Somebody who waits for it wakes at once.
/// - [`acquire`](Semaphore::acquire) takes plain permits, which belong to nobody: anybody may
///   [`release`](Semaphore::release) them. They do not come back by themselves.
///
/// An operation that is killed half-way has happened, or has not; a waiter that is killed holds nobody up. Permits
/// never get lost between two processes.
///
/// Who must wait stands in line, and the first in line is not overtaken: permits that are given back while it sleeps
/// are kept for it, also from the `try_` forms, and if it waits for many, until there are so many. The others of the
/// line come in no promised order. A *stopped* process (SIGSTOP, a debugger) is not dead: stopped as first in line it
/// holds up those behind it, and stopped in the middle of taking or dropping a guard, whoever takes or drops one.
/// Timeouts end all the same.
///
/// More than 126 guards at once: then the first in line hears of the deaths of 126 holders at once, and of the others
/// within 100 ms.
///
/// It takes 64 bytes, and, if guards can be out, 64 more and 64 for each of them: as many as there are permits at the
/// beginning, but at least 16 and at most 1,023, or as [`with_holders`](Semaphore::with_holders) says. A clone is
/// another handle to the same semaphore, and a forked child has one too. No signal handler may use it.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// use pshared::{AcquireError, Semaphore};
///
/// let workers = pshared::Semaphore::new(2)?;
/// let first = workers.permit()?;
/// let second = workers.permit()?;
/// assert_eq!(workers.permit_timeout(Duration::from_millis(1)).unwrap_err(), AcquireError::TimedOut);
/// drop(first);
/// let third = workers.try_permit()?;
/// assert_eq!(workers.available_permits(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Python `multiprocessing.Semaphore`, whose permits are lost when their holder is killed; sem_overview(7).
#[derive(Clone)]
pub struct Semaphore {
    raw: RawSemaphore,
}

portable!(Semaphore { raw });

impl Semaphore {
    /// The most permits that a semaphore can have: 2,097,151.
    pub const MAX_PERMITS: usize = MAX_PERMITS as usize;

    /// A semaphore with `permits` permits, in anonymous memory, which children forked from now on inherit.
    ///
    /// # Errors
    /// - [`SemaphoreError::TooManyPermits`]: more than [`MAX_PERMITS`](Semaphore::MAX_PERMITS).
    /// - [`SemaphoreError::Memory`]: what [`Region::anonymous`] says.
    pub fn new(permits: usize) -> Result<Semaphore, SemaphoreError> {
        Semaphore::with_holders(permits, holders_for(permits))
    }

    /// A semaphore with `permits` permits in `region`.
    ///
    /// # Errors
    /// As for [`new`](Semaphore::new); [`RegionError::NoRoom`](crate::RegionError::NoRoom) as
    /// [`SemaphoreError::Memory`].
    pub fn new_in(region: &Region, permits: usize) -> Result<Semaphore, SemaphoreError> {
        let permits = checked(permits, 0)?;
        let holders = holders_for(permits as usize);
        Ok(Semaphore { raw: RawSemaphore::new_in(region, permits, MAX_PERMITS, holders)? })
    }

    /// As [`new`](Semaphore::new), and `holders` guards can be out at once, 0 to 1,023.
    ///
    /// # Errors
    /// As for [`new`](Semaphore::new); [`SemaphoreError::TooManyHolders`].
    pub fn with_holders(permits: usize, holders: usize) -> Result<Semaphore, SemaphoreError> {
        Semaphore::in_anonymous_memory(checked(permits, holders)?, MAX_PERMITS, holders)
    }

    /// As [`with_holders`](Semaphore::with_holders), in `region`. The semaphore takes 64 bytes of it if there are
    /// no guards, and else 64 more, and 64 for each.
    ///
    /// # Errors
    /// As for [`new_in`](Semaphore::new_in); [`SemaphoreError::TooManyHolders`].
    pub fn with_holders_in(
        region: &Region,
        permits: usize,
        holders: usize,
    ) -> Result<Semaphore, SemaphoreError> {
        let permits = checked(permits, holders)?;
        Ok(Semaphore { raw: RawSemaphore::new_in(region, permits, MAX_PERMITS, holders)? })
    }

    fn in_anonymous_memory(permits: u32, bound: u32, holders: usize) -> Result<Semaphore, SemaphoreError> {
        let raw = in_arena(RawSemaphore::footprint(holders), |region| {
            RawSemaphore::new_in(region, permits, bound, holders)
        })?;
        Ok(Semaphore { raw })
    }

    /// Takes a plain permit, waiting for one as long as it takes.
    ///
    /// # Errors
    /// [`AcquireError::Impossible`], if it is bounded by 0.
    ///
    /// # References
    /// Python `Semaphore.acquire()`; sem_wait(3).
    #[doc(alias = "wait")]
    #[inline]
    pub fn acquire(&self) -> Result<(), AcquireError> {
        self.acquire_many(1)
    }

    /// Takes a plain permit if that needs no waiting.
    ///
    /// # Errors
    /// [`AcquireError::NoPermits`], also if somebody waits for those that there are; else as for
    /// [`acquire`](Semaphore::acquire).
    ///
    /// # References
    /// Python `Semaphore.acquire(block=False)`; sem_trywait(3).
    #[inline]
    pub fn try_acquire(&self) -> Result<(), AcquireError> {
        self.try_acquire_many(1)
    }

    /// Takes a plain permit, waiting at most `timeout` (CLOCK_MONOTONIC, from the call; zero looks once).
    ///
    /// # Errors
    /// [`AcquireError::TimedOut`]; else as for [`acquire`](Semaphore::acquire).
    ///
    /// # References
    /// Python `Semaphore.acquire(timeout=...)`; sem_timedwait(3).
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<(), AcquireError> {
        self.acquire_deadline(Deadline::after(timeout))
    }

    /// Takes a plain permit, waiting at most until `deadline`.
    ///
    /// # Errors
    /// As for [`acquire_timeout`](Semaphore::acquire_timeout).
    pub fn acquire_deadline(&self, deadline: Deadline) -> Result<(), AcquireError> {
        self.acquire_many_deadline(1, deadline)
    }

    /// Takes `n` plain permits, all or none, waiting for them as long as it takes; of 0 none, at once.
    ///
    /// # Errors
    /// [`AcquireError::Impossible`]: more than there can ever be.
    #[inline]
    pub fn acquire_many(&self, n: usize) -> Result<(), AcquireError> {
        self.take(n, || Patience::FOREVER)
    }

    /// Takes `n` plain permits, all or none, if that needs no waiting.
    ///
    /// # Errors
    /// As for [`try_acquire`](Semaphore::try_acquire) and [`acquire_many`](Semaphore::acquire_many).
    #[inline]
    pub fn try_acquire_many(&self, n: usize) -> Result<(), AcquireError> {
        self.take(n, || Patience::None)
    }

    /// Takes `n` plain permits, all or none, waiting at most `timeout`.
    ///
    /// # Errors
    /// As for [`acquire_timeout`](Semaphore::acquire_timeout) and [`acquire_many`](Semaphore::acquire_many).
    pub fn acquire_many_timeout(&self, n: usize, timeout: Duration) -> Result<(), AcquireError> {
        self.acquire_many_deadline(n, Deadline::after(timeout))
    }

    /// Takes `n` plain permits, all or none, waiting at most until `deadline`.
    ///
    /// # Errors
    /// As for [`acquire_many_timeout`](Semaphore::acquire_many_timeout).
    pub fn acquire_many_deadline(&self, n: usize, deadline: Deadline) -> Result<(), AcquireError> {
        self.take(n, || Patience::Until(Some(deadline)))
    }

    /// `patience` is asked for if it matters: what is put down before an exchange is waited for.
    #[inline]
    fn take(&self, n: usize, patience: impl FnOnce() -> Patience) -> Result<(), AcquireError> {
        let at_once = |n| self.raw.acquire_at_once(n);
        if n == 0 || u32::try_from(n).is_ok_and(at_once) {
            Ok(())
        } else {
            self.take_from_line(n, patience())
        }
    }

    /// Apart, so that nobody's company costs who is alone.
    #[cold]
    #[inline(never)]
    fn take_from_line(&self, n: usize, patience: Patience) -> Result<(), AcquireError> {
        let limit = self.raw.bound();
        if n > limit as usize {
            return Err(AcquireError::Impossible { need: n, limit: limit as usize });
        }
        self.raw.acquire(n as u32, patience).map_err(|refused| self.explain(refused))
    }

    /// Gives a plain permit back. Anybody may, whoever took it. Never waits.
    ///
    /// # Errors
    /// [`ReleaseError::TooMany`]: there would be more than there may be, those that guards hold included. Nothing has
    /// changed.
    ///
    /// # References
    /// Python `Semaphore.release()`; sem_post(3).
    #[doc(alias = "post")]
    #[inline]
    pub fn release(&self) -> Result<(), ReleaseError> {
        self.release_many(1)
    }

    /// Gives `n` plain permits back at once. Of 0 it gives none. Never waits.
    ///
    /// # Errors
    /// As for [`release`](Semaphore::release).
    #[inline]
    pub fn release_many(&self, n: usize) -> Result<(), ReleaseError> {
        let most = n.min(u32::MAX as usize) as u32;
        self.raw.release(most).map_err(|count| self.too_many(n, count))
    }

    #[cold]
    fn too_many(&self, released: usize, count: Count) -> ReleaseError {
        ReleaseError::TooMany {
            released,
            available: count.free() as usize,
            guarded: count.guards() as usize,
            limit: self.raw.bound() as usize,
        }
    }

    /// Takes a permit by a guard, waiting for one as long as it takes.
    ///
    /// # Errors
    /// - [`AcquireError::Impossible`], if it is bounded by 0.
    /// - [`AcquireError::TooManyHolders`]: there is a permit, but as many guards are out as can be.
    /// - [`AcquireError::TooManyHeld`]: the thread holds 2,040 guards and locks.
    ///
    /// # Examples
    /// ```
    /// let semaphore = pshared::BoundedSemaphore::new(3)?;
    /// {
    ///     let _permit = semaphore.permit()?;
    ///     assert_eq!(semaphore.available_permits(), 2);
    /// }
    /// assert_eq!(semaphore.available_permits(), 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # References
    /// Python `with semaphore:`, where the permit of a process that is killed is lost; SEM_UNDO of semop(2).
    pub fn permit(&self) -> Result<Permit<'_>, AcquireError> {
        self.guard(Patience::FOREVER)
    }

    /// Takes a permit by a guard if that needs no waiting.
    ///
    /// # Errors
    /// As for [`try_acquire`](Semaphore::try_acquire) and [`permit`](Semaphore::permit).
    pub fn try_permit(&self) -> Result<Permit<'_>, AcquireError> {
        self.guard(Patience::None)
    }

    /// Takes a permit by a guard, waiting at most `timeout`.
    ///
    /// # Errors
    /// [`AcquireError::TimedOut`]; else as for [`permit`](Semaphore::permit).
    pub fn permit_timeout(&self, timeout: Duration) -> Result<Permit<'_>, AcquireError> {
        self.permit_deadline(Deadline::after(timeout))
    }

    /// Takes a permit by a guard, waiting at most until `deadline`.
    ///
    /// # Errors
    /// As for [`permit_timeout`](Semaphore::permit_timeout).
    pub fn permit_deadline(&self, deadline: Deadline) -> Result<Permit<'_>, AcquireError> {
        self.guard(Patience::Until(Some(deadline)))
    }

    fn guard(&self, patience: Patience) -> Result<Permit<'_>, AcquireError> {
        if self.raw.bound() == 0 {
            return Err(AcquireError::Impossible { need: 1, limit: 0 });
        }
        if let Err(held) = may_hold_more(me()) {
            return Err(AcquireError::TooManyHeld { held, limit: MAX_HELD });
        }
        let place = self.raw.acquire_guard(patience).map_err(|refused| self.explain(refused))?;
        Ok(Permit { semaphore: self, place, lineage: lineage(), _not_send: PhantomData })
    }

    #[cold]
    fn explain(&self, refused: NotAcquired) -> AcquireError {
        match refused {
            NotAcquired::NoPermits => AcquireError::NoPermits,
            NotAcquired::TimedOut => AcquireError::TimedOut,
            NotAcquired::NoSlot => AcquireError::TooManyHolders { limit: self.raw.holder_limit() },
        }
    }

    /// The permits that are free at some instant of the call, those of holders that have died included.
    ///
    /// # References
    /// Python `Semaphore.get_value()`; sem_getvalue(3).
    #[doc(alias = "get_value")]
    pub fn available_permits(&self) -> usize {
        self.raw.available() as usize
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.raw.count();
        f.debug_struct("Semaphore")
            .field("available", &count.free())
            .field("guarded", &count.guards())
            .field("limit", &self.raw.bound())
            .field("holders", &self.raw.holders().collect::<Vec<_>>())
            .field("line", &self.raw.line())
            .field("sleeper", &count.has_sleeper())
            .finish()
    }
}

/// A [`Semaphore`] that never has more permits than in the beginning: who releases too many is told.
///
/// It derefs to [`Semaphore`], which has all the operations. A permit that a guard holds is not there to be released by
/// anybody else: neither a stray `release` nor the death of a holder ever brings it above its bound.
///
/// As many guards can be out at once as there are permits, up to 1,023: so it takes room for no more of them.
///
/// # Examples
/// ```
/// use pshared::{BoundedSemaphore, ReleaseError};
///
/// let semaphore = BoundedSemaphore::new(2)?;
/// semaphore.acquire()?;
/// semaphore.release()?;
/// let error = semaphore.release().unwrap_err();
/// assert_eq!(error, ReleaseError::TooMany { released: 1, available: 2, guarded: 0, limit: 2 });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Python `multiprocessing.BoundedSemaphore`, whose `release` raises `ValueError`.
#[derive(Clone)]
pub struct BoundedSemaphore(Semaphore);

portable!(BoundedSemaphore { 0 });

impl BoundedSemaphore {
    /// A semaphore with `permits` permits, and never more, in anonymous memory, which children forked from now on
    /// inherit.
    ///
    /// # Errors
    /// As for [`Semaphore::new`].
    pub fn new(permits: usize) -> Result<BoundedSemaphore, SemaphoreError> {
        BoundedSemaphore::with_holders(permits, permits.min(MAX_HOLDERS))
    }

    /// A semaphore with `permits` permits, and never more, in `region`.
    ///
    /// # Errors
    /// As for [`Semaphore::new_in`].
    pub fn new_in(region: &Region, permits: usize) -> Result<BoundedSemaphore, SemaphoreError> {
        BoundedSemaphore::with_holders_in(region, permits, permits.min(MAX_HOLDERS))
    }

    /// As [`new`](BoundedSemaphore::new), and `holders` guards can be out at once, 0 to 1,023.
    ///
    /// # Errors
    /// As for [`Semaphore::with_holders`].
    pub fn with_holders(permits: usize, holders: usize) -> Result<BoundedSemaphore, SemaphoreError> {
        let permits = checked(permits, holders)?;
        Semaphore::in_anonymous_memory(permits, permits, holders).map(BoundedSemaphore)
    }

    /// As [`with_holders`](BoundedSemaphore::with_holders), in `region`.
    ///
    /// # Errors
    /// As for [`Semaphore::with_holders_in`].
    pub fn with_holders_in(
        region: &Region,
        permits: usize,
        holders: usize,
    ) -> Result<BoundedSemaphore, SemaphoreError> {
        let permits = checked(permits, holders)?;
        let raw = RawSemaphore::new_in(region, permits, permits, holders)?;
        Ok(BoundedSemaphore(Semaphore { raw }))
    }
}

impl Deref for BoundedSemaphore {
    type Target = Semaphore;

    #[inline]
    fn deref(&self) -> &Semaphore {
        &self.0
    }
}

impl fmt::Debug for BoundedSemaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BoundedSemaphore").field(&self.0).finish()
    }
}

/// How many guards can be out if nobody says.
fn holders_for(permits: usize) -> usize {
    permits.clamp(16, MAX_HOLDERS)
}

/// `permits`, if there may be so many of both.
fn checked(permits: usize, holders: usize) -> Result<u32, SemaphoreError> {
    match u32::try_from(permits) {
        _ if holders > MAX_HOLDERS => Err(SemaphoreError::TooManyHolders { holders, limit: MAX_HOLDERS }),
        Ok(permits) if permits <= MAX_PERMITS => Ok(permits),
        _ => Err(SemaphoreError::TooManyPermits { permits, limit: Semaphore::MAX_PERMITS }),
    }
}

/// A permit of a [`Semaphore`], which comes back when this is dropped, or when its thread ends. A copy that a fork made
/// does nothing.
#[must_use = "a permit that is dropped at once permits nothing"]
pub struct Permit<'a> {
    semaphore: &'a Semaphore,
    place: usize,
    lineage: u32,
    /// Its slot holds this thread's TID: another could not free it.
    _not_send: PhantomData<*const ()>,
}

// SAFETY: a shared permit gives nothing away; giving it back takes the permit itself, which stays on its thread.
unsafe impl Sync for Permit<'_> {}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.lineage == lineage() {
            self.semaphore.raw.release_guard(self.place);
        }
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("semaphore", self.semaphore).finish()
    }
}
