//! [`RLock`]: a lock that its holder's thread may take again.
//!
//! # Words
//! | word        | meaning                                              | written by                           |
//! |-------------|------------------------------------------------------|--------------------------------------|
//! | `raw`       | who holds it, if anybody: see `sync/raw_lock.rs`     | there                                |
//! | `signature` | the process of the holder; 0 while nobody has signed | the holder, once it has the lock     |
//! | `depth`     | how often the holder has taken it                    | the holder                           |
//!
//! # Invariants
//! - P1: a thread is the holder if the word holds its TID *and* `signature` is its process's. A TID alone will not do:
//!   after an exec from a thread that is not the main one the kernel leaves a dead thread's TID in the word, and the
//!   number comes back; and in another PID namespace it is another thread's. So who frees the lock takes its signature
//!   away before.
//! - P2: who takes the lock anew begins at depth 1, whatever the dead left there.
//! - P3: suspicion stays in the lock's note until somebody declares the data good; every taking tells of it, the
//!   holder's own included.
//!
//! A word with the caller's TID and a strange signature is refused (`StrangeOwner`) and not taken over: a dead leftover
//! cannot be told from a live holder in another PID namespace, since word and signature do not change in one step.
//!
//! # Crash points
//! - `rlock.unsigned`: taken and linked, not signed, or at the dead one's depth: the kernel marks it (P2).
//! - `rlock.signed_off`: still taken and linked, no longer signed: likewise.
//!
//! The words that the holder alone writes and reads need no ordering; `raw` hands them over.

use std::{fmt, marker::PhantomData, mem, thread, time::Duration};

use crate::{
    error::{LockError, RegionError},
    primitive::{AtomicU32, AtomicU64, Deadline, Me, Mutant, Relaxed, lineage, me, mutant, signature},
    region::{Handle, Region, Shareable, in_arena},
    sync::raw_lock::{MAX_HELD, Patience, RawLock, Refused, Suspicion, may_hold_more},
};

/// Words and algorithm. They lie as in `PaddedLock`: the polled word ends one cache line, the links stand on the next.
#[repr(C, align(128))]
pub(crate) struct RawRLock {
    _front: [u64; 4],
    signature: AtomicU64,
    depth: AtomicU32,
    _gap: u32,
    raw: RawLock,
    _back: [u64; 4],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<RawRLock>() == 128 && std::mem::offset_of!(RawRLock, raw) == 48);

// SAFETY: a lock, and atomics.
unsafe impl Shareable for RawRLock {
    const ROBUST: &'static [usize] = &[std::mem::offset_of!(RawRLock, raw) + RawLock::WORD];
}

impl RawRLock {
    pub(crate) fn new() -> RawRLock {
        RawRLock {
            _front: [0; 4],
            signature: AtomicU64::new(0),
            depth: AtomicU32::new(0),
            _gap: 0,
            raw: RawLock::new(),
            _back: [0; 4],
        }
    }

    /// Whether the calling thread holds it.
    #[inline]
    fn is_held_by(&self, me: Me) -> Result<bool, LockError<()>> {
        if self.raw.state().owner() != me.tid() {
            return Ok(false);
        }
        // P1
        if self.signature.load(Relaxed) == signature() {
            Ok(true)
        } else {
            Err(LockError::StrangeOwner { tid: me.tid() })
        }
    }

    /// Takes it once more, or anew.
    #[inline]
    pub(crate) fn enter(&self, patience: Patience) -> Result<(), LockError<()>> {
        let me = me();
        if self.is_held_by(me)? {
            let depth = self.depth.load(Relaxed);
            let deeper = depth.checked_add(1).ok_or(LockError::TooDeep { limit: u32::MAX })?;
            self.depth.store(deeper, Relaxed);
            return Ok(());
        }
        if let Err(held) = may_hold_more(me) {
            return Err(LockError::TooManyHeld { held, limit: MAX_HELD });
        }
        self.take(me, 1, patience)
    }

    /// Takes it anew, to stand at `depth`.
    #[inline]
    fn take(&self, me: Me, depth: u32, patience: Patience) -> Result<(), LockError<()>> {
        let suspicion = self.raw.lock_as(me, patience).map_err(|refused| match refused {
            Refused::WouldBlock => LockError::WouldBlock,
            Refused::TimedOut => LockError::TimedOut,
            // Not by this thread, as `is_held_by` said.
            Refused::AlreadyHeld => LockError::StrangeOwner { tid: me.tid() },
        })?;
        // CRASH(rlock.unsigned): held and linked: the kernel marks it.
        if !mutant(Mutant::HeirKeepsDepth) || suspicion != Suspicion::OwnerDied {
            self.depth.store(depth, Relaxed); // P2
        }
        self.signature.store(signature(), Relaxed);
        if suspicion != Suspicion::None {
            self.raw.note(suspicion); // P3
        }
        Ok(())
    }

    /// Takes one taking back; the last frees it.
    #[inline]
    pub(crate) fn leave(&self) {
        let left = self.depth.load(Relaxed) - 1;
        self.depth.store(left, Relaxed);
        if left == 0 || mutant(Mutant::InnerGuardFrees) {
            self.free();
        }
    }

    #[inline]
    fn free(&self) {
        self.signature.store(0, Relaxed); // P1
        // CRASH(rlock.signed_off): the kernel marks it.
        self.raw.unlock();
    }
}

/// A lock between processes, and between their threads, that the thread which holds it may take again.
///
/// Each taking gives a guard, and the lock is free when the last of them is dropped, in whatever order. It is not
/// enough for a reference to change what the lock guards: two guards of one thread guard the same data. Otherwise it
/// is like [`Lock`](crate::Lock): it survives the death of its holder, whom the next one is told of, and the same
/// warnings hold. All who share it must be in one PID namespace.
///
/// A forked child holds nothing of what its parent holds. A clone is another handle to the same lock.
///
/// # Examples
/// ```
/// let lock = pshared::RLock::new()?;
/// let outer = lock.lock().expect("nobody died");
/// let inner = lock.lock().expect("this thread may");
/// assert_eq!(lock.depth(), 2);
/// drop(outer);
/// drop(inner);
/// assert_eq!(lock.depth(), 0);
/// # Ok::<(), pshared::RegionError>(())
/// ```
///
/// # References
/// Python `multiprocessing.RLock`, which stays locked when its holder is killed; PTHREAD_MUTEX_RECURSIVE.
#[doc(alias = "ReentrantLock")]
#[doc(alias = "RecursiveMutex")]
#[derive(Clone)]
pub struct RLock {
    raw: Handle<RawRLock>,
}

impl RLock {
    /// A free lock in anonymous memory, which children forked from now on inherit. It takes 128 bytes.
    ///
    /// # Errors
    /// What [`Region::anonymous`] says.
    pub fn new() -> Result<RLock, RegionError> {
        in_arena(size_of::<RawRLock>(), RLock::new_in)
    }

    /// A free lock in `region`.
    ///
    /// # Errors
    /// [`RegionError::NoRoom`].
    pub fn new_in(region: &Region) -> Result<RLock, RegionError> {
        Ok(RLock { raw: region.place(RawRLock::new())? })
    }

    /// Takes the lock, waiting as long as it takes; not at all, and without a system call, if the calling thread holds
    /// it already.
    ///
    /// The guard takes this one taking back on drop, in the process that took it.
    ///
    /// # Errors
    /// - [`LockError::OwnerDied`], [`LockError::Poisoned`]: the lock is taken, the guard is inside. The same is said
    ///   at each taking, until [`make_consistent`](RLockGuard::make_consistent).
    /// - [`LockError::TooManyHeld`]: the thread holds 2,040 locks.
    /// - [`LockError::TooDeep`]: the thread has taken this one 4,294,967,295 times.
    /// - [`LockError::StrangeOwner`]: the lock names this thread, which does not hold it.
    ///
    /// # References
    /// Python `RLock.acquire()`; pthread_mutex_lock(3).
    #[doc(alias = "acquire")]
    #[inline]
    pub fn lock(&self) -> Result<RLockGuard<'_>, LockError<RLockGuard<'_>>> {
        RLockGuard::take(&self.raw, Patience::FOREVER)
    }

    /// Takes the lock if that needs no waiting.
    ///
    /// # Errors
    /// [`LockError::WouldBlock`] when another thread holds it; else as for [`lock`](RLock::lock).
    ///
    /// # References
    /// Python `RLock.acquire(block=False)`.
    #[inline]
    pub fn try_lock(&self) -> Result<RLockGuard<'_>, LockError<RLockGuard<'_>>> {
        RLockGuard::take(&self.raw, Patience::None)
    }

    /// Takes the lock, waiting at most `timeout` (CLOCK_MONOTONIC, from the call; zero tries once).
    ///
    /// # Errors
    /// [`LockError::TimedOut`] when another thread still held it; else as for [`lock`](RLock::lock).
    ///
    /// # References
    /// Python `RLock.acquire(timeout=...)`.
    pub fn lock_timeout(&self, timeout: Duration) -> Result<RLockGuard<'_>, LockError<RLockGuard<'_>>> {
        self.lock_deadline(Deadline::after(timeout))
    }

    /// Takes the lock, waiting at most until `deadline`.
    ///
    /// # Errors
    /// As for [`lock_timeout`](RLock::lock_timeout).
    pub fn lock_deadline(&self, deadline: Deadline) -> Result<RLockGuard<'_>, LockError<RLockGuard<'_>>> {
        RLockGuard::take(&self.raw, Patience::Until(Some(deadline)))
    }

    /// How often the calling thread has taken the lock and not given it back: 0 if it does not hold it.
    pub fn depth(&self) -> u32 {
        match self.raw.is_held_by(me()) {
            Ok(true) => self.raw.depth.load(Relaxed),
            _ => 0,
        }
    }
}

impl RLock {
    pub(super) fn raw(&self) -> &RawRLock {
        &self.raw
    }
}

impl fmt::Debug for RLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.raw.describe("RLock", f)
    }
}

impl RawRLock {
    fn describe(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.raw.state();
        let depth = if state.is_free() { 0 } else { self.depth.load(Relaxed) };
        f.debug_struct(name).field("state", &state).field("depth", &depth).finish()
    }
}

/// One taking of an [`RLock`]: dropping it takes it back, in the process that took it. A copy that a fork made does
/// nothing.
///
/// Dropped while its thread panics, it leaves the lock [`Poisoned`](LockError::Poisoned).
#[must_use = "a guard that is dropped at once guards nothing"]
pub struct RLockGuard<'a> {
    pub(super) lock: &'a RawRLock,
    lineage: u32,
    /// A panic that begins while the guard is held leaves the data suspect.
    poisons: bool,
    /// The word holds this thread's TID: another could not free it.
    _not_send: PhantomData<*const ()>,
}

// SAFETY: a shared guard gives nothing away; freeing takes the guard itself, which stays on its thread.
unsafe impl Sync for RLockGuard<'_> {}

impl<'a> RLockGuard<'a> {
    #[inline]
    fn take(lock: &'a RawRLock, patience: Patience) -> Result<Self, LockError<Self>> {
        match lock.enter(patience) {
            Ok(()) => RLockGuard::told(lock),
            Err(refused) => Err(refused.map(|()| unreachable!("a refusal has no guard"))),
        }
    }

    /// The guard of a taking, with what the lock's note says.
    #[inline]
    fn told(lock: &'a RawRLock) -> Result<Self, LockError<Self>> {
        let guard =
            RLockGuard { lock, lineage: lineage(), poisons: !thread::panicking(), _not_send: PhantomData };
        match lock.raw.noted() {
            Suspicion::None => Ok(guard),
            Suspicion::OwnerDied => Err(LockError::OwnerDied(guard)),
            Suspicion::Poisoned => Err(LockError::Poisoned(guard)),
        }
    }

    /// Takes all the thread's takings back, for a condition; says how many there were.
    pub(super) fn leave_wholly(self) -> u32 {
        self.poison();
        let depth = self.lock.depth.load(Relaxed);
        self.lock.free();
        mem::forget(self);
        depth
    }

    /// Takes `lock` as often again.
    pub(super) fn take_back(lock: &'a RawRLock, depth: u32) -> Result<Self, LockError<Self>> {
        match lock.take(me(), depth, Patience::FOREVER) {
            Ok(()) => RLockGuard::told(lock),
            Err(refused) => Err(refused.map(|()| unreachable!("a refusal has no guard"))),
        }
    }

    /// Leaves word of a panic, if there is one.
    #[inline]
    fn poison(&self) {
        if self.poisons && thread::panicking() && self.lock.raw.noted() == Suspicion::None {
            self.lock.raw.note(Suspicion::Poisoned);
        }
    }

    /// Whether this is the guard that took the lock, and not a copy that a fork made.
    #[inline]
    pub(super) fn is_ours(&self) -> bool {
        self.lineage == lineage()
    }

    /// Declares the data good again: nobody is told of a death or a panic any more.
    pub fn make_consistent(&mut self) {
        if self.is_ours() {
            self.lock.raw.note(Suspicion::None);
        }
    }
}

impl Drop for RLockGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        if !self.is_ours() {
            return;
        }
        self.poison();
        self.lock.leave();
    }
}

impl fmt::Debug for RLockGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lock.describe("RLockGuard", f)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_word_with_our_tid_that_we_did_not_write_is_no_hold_of_ours() {
        let lock = RLock::new().unwrap();
        let tid = me().tid();
        // What the exec of a thread leaves, when its number has come back to us.
        lock.raw.raw.robust.store(tid, Relaxed);
        for signed in [0, signature() ^ 1] {
            lock.raw.signature.store(signed, Relaxed);
            lock.raw.depth.store(3, Relaxed);
            for refused in [lock.lock(), lock.try_lock(), lock.lock_timeout(Duration::from_secs(1000))] {
                assert!(matches!(refused, Err(LockError::StrangeOwner { tid: said }) if said == tid));
            }
            assert_eq!(lock.depth(), 0);
        }
        // A thread with another number waits, as for any lock that is held.
        let other = thread::spawn({
            let lock = lock.clone();
            move || {
                (
                    matches!(lock.try_lock(), Err(LockError::WouldBlock)),
                    matches!(lock.lock_timeout(Duration::from_millis(5)), Err(LockError::TimedOut)),
                )
            }
        });
        assert_eq!(other.join().unwrap(), (true, true));
        lock.raw.raw.robust.store(0, Relaxed);
        assert_eq!(lock.lock().unwrap().lock.depth.load(Relaxed), 1);
    }

    #[test]
    fn a_depth_that_cannot_be_counted_is_an_error_and_changes_nothing() {
        let lock = RLock::new().unwrap();
        let guard = lock.lock().unwrap();
        lock.raw.depth.store(u32::MAX - 1, Relaxed);
        let last = lock.lock().unwrap();
        assert_eq!(lock.depth(), u32::MAX);
        assert!(matches!(lock.lock(), Err(LockError::TooDeep { limit: u32::MAX })));
        assert!(matches!(lock.try_lock(), Err(LockError::TooDeep { limit: u32::MAX })));
        drop(last);
        lock.raw.depth.store(1, Relaxed);
        drop(guard);
        assert_eq!(lock.depth(), 0);
    }
}
