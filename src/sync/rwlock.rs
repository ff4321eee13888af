//! [`RwLock`] and its guards; the algorithm is in `sync/raw_rwlock.rs`.

use std::{fmt, marker::PhantomData, mem, thread, time::Duration};

use crate::{
    error::{RegionError, RwLockError},
    primitive::{Deadline, Me, lineage, me},
    region::{Handle, Region, Row, in_arena},
    sync::{
        raw_lock::{MAX_HELD, Patience, RawLock, Suspicion, may_hold_more},
        raw_rwlock::{Denied, Parts, RawRwLock, Share},
        slots::Slot,
    },
};

/// How many may read under a lock that `new` made.
const READERS: usize = 128;

/// A lock between processes, and between their threads, under which many read or one writes, and that survives the
/// death of any of them.
///
/// It guards no data of its own, as [`Lock`](crate::Lock) does not. A clone is another handle to the same lock, and a
/// forked child has one too.
///
/// If a process or a thread ends while it reads, its share comes back by itself and nobody is told: it has changed
/// nothing. If it ends while it *writes*, everybody who gets the lock from then on gets [`RwLockError::OwnerDied`] with
/// the guard inside, until a writer has repaired the data and says so ([`RwLockWriteGuard::make_consistent`]). One that
/// waits, or holds an [upgradable](RwLock::upgradable_read) guard that it has not upgraded, leaves no trace.
///
/// A writer that waits turns newcomers back, so readers do not starve writers; a writer that comes while a reader has
/// waited long lets it go first, so writers do not starve readers. A thread that reads may read again, but not while a
/// writer waits for it: it is told [`AlreadyHeld`](RwLockError::AlreadyHeld) before it would wait for itself.
///
/// What is said of [`Lock`](crate::Lock) about stopped processes, trust, signal handlers and exec(2) holds here too.
/// Reading costs about what a [`Lock`](crate::Lock) costs, and readers do not fight for a cache line; a writer looks at
/// one cache line for each thread that ever read at the same time as others. It takes 128 bytes, and 64 for each that
/// may read at once.
///
/// # Examples
/// ```
/// use pshared::{RwLock, RwLockError};
///
/// let lock = RwLock::new()?;
/// {
///     let _one = lock.read().expect("nobody writes");
///     let _two = lock.read().expect("nobody writes");
///     assert!(matches!(lock.try_write(), Err(RwLockError::WouldBlock)));
/// }
/// match lock.write() {
///     Ok(_guard) => { /* alone */ }
///     Err(RwLockError::OwnerDied(mut guard)) => {
///         // repair what the dead left, then
///         guard.make_consistent();
///     }
///     Err(error) => panic!("{error}"),
/// }
/// # Ok::<(), pshared::RegionError>(())
/// ```
///
/// # References
/// Python has none; pthread_rwlock_rdlock(3), which loses a share with each reader that is killed.
#[derive(Clone)]
pub struct RwLock {
    words: Handle<RawRwLock>,
    slots: Row<Slot>,
}

type Read<'a> = Result<RwLockReadGuard<'a>, RwLockError<RwLockReadGuard<'a>>>;
type Write<'a> = Result<RwLockWriteGuard<'a>, RwLockError<RwLockWriteGuard<'a>>>;
type Upgradable<'a> = Result<RwLockUpgradableGuard<'a>, RwLockError<RwLockUpgradableGuard<'a>>>;

impl RwLock {
    /// A free lock in anonymous memory, which children forked from now on inherit. 128 may read at once. It takes
    /// 8,320 bytes.
    ///
    /// # Errors
    /// What [`Region::anonymous`] says.
    pub fn new() -> Result<RwLock, RegionError> {
        RwLock::with_readers(READERS)
    }

    /// A free lock in anonymous memory, under which `readers` may read at once.
    ///
    /// # Errors
    /// [`RegionError::ZeroSize`], [`RegionError::TooLarge`]: no such number; else what [`Region::anonymous`] says.
    pub fn with_readers(readers: usize) -> Result<RwLock, RegionError> {
        let slots = checked(readers)?;
        in_arena(size_of::<RawRwLock>().saturating_add(slots), |region| {
            RwLock::with_readers_in(region, readers)
        })
    }

    /// A free lock in `region`. 128 may read at once.
    ///
    /// # Errors
    /// [`RegionError::NoRoom`].
    pub fn new_in(region: &Region) -> Result<RwLock, RegionError> {
        RwLock::with_readers_in(region, READERS)
    }

    /// A free lock in `region`, under which `readers` may read at once.
    ///
    /// # Errors
    /// [`RegionError::ZeroSize`], [`RegionError::TooLarge`]: no such number. [`RegionError::NoRoom`].
    pub fn with_readers_in(region: &Region, readers: usize) -> Result<RwLock, RegionError> {
        checked(readers)?;
        let (words, slots) = region.place_with_row(RawRwLock::new(), readers, Slot::new)?;
        Ok(RwLock { words, slots })
    }

    #[inline]
    fn parts(&self) -> Parts<'_> {
        Parts::new(&self.words, &self.slots)
    }

    /// Gets a share, waiting as long as a writer is there. Others may read at the same time.
    ///
    /// The guard gives the share back on drop, in the process that took it.
    ///
    /// # Errors
    /// - [`RwLockError::OwnerDied`], [`RwLockError::Poisoned`]: the share is yours, the guard is inside.
    /// - [`RwLockError::AlreadyHeld`]: the calling thread writes, or a writer waits until it reads no more.
    /// - [`RwLockError::TooManyReaders`]: as many read as may, or are about to.
    /// - [`RwLockError::TooManyHeld`]: the thread holds 2,040 locks.
    ///
    /// # References
    /// pthread_rwlock_rdlock(3).
    #[doc(alias = "rdlock")]
    #[inline]
    pub fn read(&self) -> Result<RwLockReadGuard<'_>, RwLockError<RwLockReadGuard<'_>>> {
        self.read_for(Patience::FOREVER)
    }

    /// Gets a share if that needs no waiting.
    ///
    /// # Errors
    /// [`RwLockError::WouldBlock`] when a writer is there, or waits; else as for [`read`](RwLock::read).
    #[inline]
    pub fn try_read(&self) -> Result<RwLockReadGuard<'_>, RwLockError<RwLockReadGuard<'_>>> {
        self.read_for(Patience::None)
    }

    /// Gets a share, waiting at most `timeout` (CLOCK_MONOTONIC, from the call; zero tries once).
    ///
    /// # Errors
    /// [`RwLockError::TimedOut`] when a writer was still there; else as for [`read`](RwLock::read).
    pub fn read_timeout(
        &self,
        timeout: Duration,
    ) -> Result<RwLockReadGuard<'_>, RwLockError<RwLockReadGuard<'_>>> {
        self.read_deadline(Deadline::after(timeout))
    }

    /// Gets a share, waiting at most until `deadline`.
    ///
    /// # Errors
    /// As for [`read_timeout`](RwLock::read_timeout).
    pub fn read_deadline(
        &self,
        deadline: Deadline,
    ) -> Result<RwLockReadGuard<'_>, RwLockError<RwLockReadGuard<'_>>> {
        self.read_for(Patience::Until(Some(deadline)))
    }

    /// Has the lock to itself, waiting until nobody reads or writes. From the call on, newcomers wait.
    ///
    /// # Errors
    /// - [`RwLockError::OwnerDied`], [`RwLockError::Poisoned`]: the lock is yours, the guard is inside.
    /// - [`RwLockError::AlreadyHeld`]: the calling thread reads or writes.
    /// - [`RwLockError::TooManyHeld`]: the thread holds 2,040 locks.
    ///
    /// # References
    /// pthread_rwlock_wrlock(3).
    #[doc(alias = "wrlock")]
    #[inline]
    pub fn write(&self) -> Result<RwLockWriteGuard<'_>, RwLockError<RwLockWriteGuard<'_>>> {
        self.write_for(Patience::FOREVER)
    }

    /// Has the lock to itself if that needs no waiting. It turns others back for the moment in which it looks.
    ///
    /// # Errors
    /// [`RwLockError::WouldBlock`] when anybody reads, writes or waits; else as for [`write`](RwLock::write).
    #[inline]
    pub fn try_write(&self) -> Result<RwLockWriteGuard<'_>, RwLockError<RwLockWriteGuard<'_>>> {
        self.write_for(Patience::None)
    }

    /// Has the lock to itself, waiting at most `timeout` (CLOCK_MONOTONIC, from the call; zero tries once). If the time
    /// is up, those who waited behind it go on.
    ///
    /// # Errors
    /// [`RwLockError::TimedOut`] when it was still held; else as for [`write`](RwLock::write).
    pub fn write_timeout(
        &self,
        timeout: Duration,
    ) -> Result<RwLockWriteGuard<'_>, RwLockError<RwLockWriteGuard<'_>>> {
        self.write_deadline(Deadline::after(timeout))
    }

    /// Has the lock to itself, waiting at most until `deadline`.
    ///
    /// # Errors
    /// As for [`write_timeout`](RwLock::write_timeout).
    pub fn write_deadline(
        &self,
        deadline: Deadline,
    ) -> Result<RwLockWriteGuard<'_>, RwLockError<RwLockWriteGuard<'_>>> {
        self.write_for(Patience::Until(Some(deadline)))
    }

    /// Reads, beside others that read, as the one that may [`upgrade`](RwLockUpgradableGuard::upgrade) to writing with
    /// no other writer in between. Waits while another writes or is upgradable. It counts as no reader.
    ///
    /// # Errors
    /// As for [`write`](RwLock::write); but a thread that reads may ask, and is told
    /// [`RwLockError::AlreadyHeld`] only if it had to wait.
    ///
    /// # Examples
    /// ```
    /// let lock = pshared::RwLock::new()?;
    /// let mut guard = lock.upgradable_read().expect("a guard");
    /// let _reader = lock.read().expect("others read");
    /// drop(_reader);
    /// let writing = guard.upgrade().expect("nobody reads any more");
    /// assert!(lock.try_read().is_err());
    /// drop(writing);
    /// assert!(lock.try_read().is_ok());
    /// # Ok::<(), pshared::RegionError>(())
    /// ```
    pub fn upgradable_read(
        &self,
    ) -> Result<RwLockUpgradableGuard<'_>, RwLockError<RwLockUpgradableGuard<'_>>> {
        self.upgradable_for(Patience::FOREVER)
    }

    /// As [`upgradable_read`](RwLock::upgradable_read), if that needs no waiting.
    ///
    /// # Errors
    /// [`RwLockError::WouldBlock`] when another writes, waits or is upgradable; else as for
    /// [`write`](RwLock::write).
    pub fn try_upgradable_read(
        &self,
    ) -> Result<RwLockUpgradableGuard<'_>, RwLockError<RwLockUpgradableGuard<'_>>> {
        self.upgradable_for(Patience::None)
    }

    /// As [`upgradable_read`](RwLock::upgradable_read), waiting at most `timeout` (CLOCK_MONOTONIC, from the call; zero
    /// tries once).
    ///
    /// # Errors
    /// [`RwLockError::TimedOut`]; else as for [`upgradable_read`](RwLock::upgradable_read).
    pub fn upgradable_read_timeout(
        &self,
        timeout: Duration,
    ) -> Result<RwLockUpgradableGuard<'_>, RwLockError<RwLockUpgradableGuard<'_>>> {
        self.upgradable_read_deadline(Deadline::after(timeout))
    }

    /// As [`upgradable_read`](RwLock::upgradable_read), waiting at most until `deadline`.
    ///
    /// # Errors
    /// As for [`upgradable_read_timeout`](RwLock::upgradable_read_timeout).
    pub fn upgradable_read_deadline(
        &self,
        deadline: Deadline,
    ) -> Result<RwLockUpgradableGuard<'_>, RwLockError<RwLockUpgradableGuard<'_>>> {
        self.upgradable_for(Patience::Until(Some(deadline)))
    }

    #[inline]
    fn read_for(&self, patience: Patience) -> Read<'_> {
        let me = me_with_room()?;
        let parts = self.parts();
        let share = parts.read(me, patience).map_err(|denied| refusal(parts, denied))?;
        wrap(share.suspicion, RwLockReadGuard::new(share))
    }

    #[inline]
    fn write_for(&self, patience: Patience) -> Write<'_> {
        let me = me_with_room()?;
        let parts = self.parts();
        let suspicion = parts.write(me, patience).map_err(|denied| refusal(parts, denied))?;
        wrap(suspicion, RwLockWriteGuard::new(parts, suspicion, false))
    }

    fn upgradable_for(&self, patience: Patience) -> Upgradable<'_> {
        let me = me_with_room()?;
        let parts = self.parts();
        let suspicion = parts.upgradable(me, patience).map_err(|denied| refusal(parts, denied))?;
        wrap(suspicion, RwLockUpgradableGuard { parts, lineage: lineage(), _not_send: PhantomData })
    }
}

impl fmt::Debug for RwLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug("RwLock", self.parts(), f)
    }
}

fn debug(name: &str, parts: Parts<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (writer, readers, suspicion) = parts.look();
    f.debug_struct(name)
        .field("writer", &writer)
        .field("readers", &readers)
        .field("suspicion", &suspicion)
        .finish()
}

/// The bytes of so many slots, if there can be so many.
fn checked(readers: usize) -> Result<usize, RegionError> {
    let bytes = |count: usize| count.saturating_mul(size_of::<Slot>());
    match readers {
        0 => Err(RegionError::ZeroSize),
        1..=0xffff_ffff => Ok(bytes(readers)),
        _ => Err(RegionError::TooLarge { need: bytes(readers), limit: bytes(0xffff_ffff) }),
    }
}

/// The calling thread, unless it holds as many locks as it may.
#[inline]
fn me_with_room<G>() -> Result<Me, RwLockError<G>> {
    let me = me();
    match may_hold_more(me) {
        Ok(()) => Ok(me),
        Err(held) => Err(RwLockError::TooManyHeld { held, limit: MAX_HELD }),
    }
}

#[cold]
fn refusal<G>(parts: Parts<'_>, denied: Denied) -> RwLockError<G> {
    match denied {
        Denied::WouldBlock => RwLockError::WouldBlock,
        Denied::TimedOut => RwLockError::TimedOut,
        Denied::AlreadyHeld => RwLockError::AlreadyHeld,
        Denied::NoSlot => RwLockError::TooManyReaders { limit: parts.capacity() },
    }
}

#[inline]
fn wrap<G>(suspicion: Suspicion, guard: G) -> Result<G, RwLockError<G>> {
    match suspicion {
        Suspicion::None => Ok(guard),
        Suspicion::OwnerDied => Err(RwLockError::OwnerDied(guard)),
        Suspicion::Poisoned => Err(RwLockError::Poisoned(guard)),
    }
}

/// A share of a [`RwLock`]: dropping it gives the share back, in the process that took it. A copy that a fork made does
/// nothing. A panic while it is held leaves no doubt.
#[must_use = "a guard that is dropped at once guards nothing"]
pub struct RwLockReadGuard<'a> {
    slot: &'a RawLock,
    lineage: u32,
    /// The slot holds this thread's TID: another could not free it.
    _not_send: PhantomData<*const ()>,
}

// SAFETY: a shared guard gives nothing away; freeing takes the guard itself, which stays on its thread.
unsafe impl Sync for RwLockReadGuard<'_> {}

impl<'a> RwLockReadGuard<'a> {
    #[inline]
    fn new(share: Share<'a>) -> RwLockReadGuard<'a> {
        RwLockReadGuard { slot: share.slot, lineage: lineage(), _not_send: PhantomData }
    }
}

impl Drop for RwLockReadGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.lineage == lineage() {
            self.slot.unlock();
        }
    }
}

impl fmt::Debug for RwLockReadGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RwLockReadGuard").field("slot", &self.slot.state()).finish()
    }
}

/// A [`RwLock`] that nobody else reads or writes under: dropping it frees the lock, in the process that took it. A copy
/// that a fork made does nothing.
///
/// Dropped while its thread panics, it leaves the lock [`Poisoned`](RwLockError::Poisoned).
#[must_use = "a guard that is dropped at once guards nothing"]
pub struct RwLockWriteGuard<'a> {
    parts: Parts<'a>,
    suspicion: Suspicion,
    /// An upgradable guard stands behind it.
    upgraded: bool,
    lineage: u32,
    /// A panic leaves the data suspect: one that begins while the guard is held.
    poisons: bool,
    /// `writing` holds this thread's TID: another could not free it.
    _not_send: PhantomData<*const ()>,
}

// SAFETY: as for `RwLockReadGuard`.
unsafe impl Sync for RwLockWriteGuard<'_> {}

impl<'a> RwLockWriteGuard<'a> {
    #[inline]
    fn new(parts: Parts<'a>, suspicion: Suspicion, upgraded: bool) -> RwLockWriteGuard<'a> {
        let poisons = !thread::panicking();
        RwLockWriteGuard { parts, suspicion, upgraded, lineage: lineage(), poisons, _not_send: PhantomData }
    }

    #[inline]
    fn is_ours(&self) -> bool {
        self.lineage == lineage()
    }

    /// Declares the data good again: whoever comes next is told of no death and no panic.
    pub fn make_consistent(&mut self) {
        self.suspicion = Suspicion::None;
    }

    /// What to tell those who come next.
    fn verdict(&self) -> Suspicion {
        if self.suspicion == Suspicion::None && self.poisons && thread::panicking() {
            Suspicion::Poisoned
        } else {
            self.suspicion
        }
    }

    /// Goes on as a reader, with no writer in between. Others may read from now on. After an upgrade the upgradable
    /// guard remains beside it. Never waits for anybody who reads.
    ///
    /// # Panics
    /// In a process that was forked while the guard was held: the guard is its parent's.
    pub fn downgrade(self) -> RwLockReadGuard<'a> {
        assert!(self.is_ours(), "the guard belongs to the process that this one was forked from");
        let share = self.parts.downgrade(me(), self.verdict(), self.upgraded);
        mem::forget(self);
        RwLockReadGuard::new(share)
    }
}

impl Drop for RwLockWriteGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.is_ours() {
            self.parts.end_write(self.verdict(), self.upgraded);
        }
    }
}

impl fmt::Debug for RwLockWriteGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug("RwLockWriteGuard", self.parts, f)
    }
}

/// A [`RwLock`] that others may read under, and nobody write but this guard's holder, when it is
/// [upgraded](RwLockUpgradableGuard::upgrade). Dropping it frees the lock, in the process that took it. A copy that a
/// fork made does nothing.
#[must_use = "a guard that is dropped at once guards nothing"]
pub struct RwLockUpgradableGuard<'a> {
    parts: Parts<'a>,
    lineage: u32,
    /// `writing` holds this thread's TID: another could not free it.
    _not_send: PhantomData<*const ()>,
}

// SAFETY: as for `RwLockReadGuard`.
unsafe impl Sync for RwLockUpgradableGuard<'_> {}

impl RwLockUpgradableGuard<'_> {
    /// Waits until nobody reads, and writes. From the call on, newcomers wait. When the returned guard is dropped, this
    /// one is upgradable again. (Forgotten instead, it counts as that of a dead writer.)
    ///
    /// # Errors
    /// As for [`RwLock::write`]; refused, the guard is as it was.
    ///
    /// # Panics
    /// In a process that was forked while the guard was held: the guard is its parent's.
    pub fn upgrade(&mut self) -> Result<RwLockWriteGuard<'_>, RwLockError<RwLockWriteGuard<'_>>> {
        self.upgrade_for(Patience::FOREVER)
    }

    /// Writes if nobody reads just now.
    ///
    /// # Errors
    /// [`RwLockError::WouldBlock`]; else as for [`upgrade`](RwLockUpgradableGuard::upgrade).
    ///
    /// # Panics
    /// As [`upgrade`](RwLockUpgradableGuard::upgrade).
    pub fn try_upgrade(&mut self) -> Result<RwLockWriteGuard<'_>, RwLockError<RwLockWriteGuard<'_>>> {
        self.upgrade_for(Patience::None)
    }

    /// Waits until nobody reads, at most `timeout` (CLOCK_MONOTONIC, from the call; zero tries once), and writes.
    ///
    /// # Errors
    /// [`RwLockError::TimedOut`]; else as for [`upgrade`](RwLockUpgradableGuard::upgrade).
    ///
    /// # Panics
    /// As [`upgrade`](RwLockUpgradableGuard::upgrade).
    pub fn upgrade_timeout(
        &mut self,
        timeout: Duration,
    ) -> Result<RwLockWriteGuard<'_>, RwLockError<RwLockWriteGuard<'_>>> {
        self.upgrade_deadline(Deadline::after(timeout))
    }

    /// Waits until nobody reads, at most until `deadline`, and writes.
    ///
    /// # Errors
    /// As for [`upgrade_timeout`](RwLockUpgradableGuard::upgrade_timeout).
    ///
    /// # Panics
    /// As [`upgrade`](RwLockUpgradableGuard::upgrade).
    pub fn upgrade_deadline(
        &mut self,
        deadline: Deadline,
    ) -> Result<RwLockWriteGuard<'_>, RwLockError<RwLockWriteGuard<'_>>> {
        self.upgrade_for(Patience::Until(Some(deadline)))
    }

    fn upgrade_for(&mut self, patience: Patience) -> Write<'_> {
        assert!(self.lineage == lineage(), "the guard belongs to the process that this one was forked from");
        let parts = self.parts;
        let suspicion = parts.upgrade(me(), patience).map_err(|denied| refusal(parts, denied))?;
        wrap(suspicion, RwLockWriteGuard::new(parts, suspicion, true))
    }
}

impl Drop for RwLockUpgradableGuard<'_> {
    fn drop(&mut self) {
        if self.lineage == lineage() {
            self.parts.end_upgradable();
        }
    }
}

impl fmt::Debug for RwLockUpgradableGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug("RwLockUpgradableGuard", self.parts, f)
    }
}
