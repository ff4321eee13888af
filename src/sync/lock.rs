//! [`Lock`] and its guard; the algorithm is in `sync/raw_lock.rs`.

use std::{convert::Infallible, fmt, marker::PhantomData, thread, time::Duration};

use crate::{
    error::{LockError, RegionError},
    primitive::{Deadline, Me, Release, fence, is_of_this_process, me, me_if},
    region::{Handle, Region, in_arena, portable},
    sync::raw_lock::{MAX_HELD, PaddedLock, Patience, RawLock, Refused, Rest, Suspicion, may_hold_more},
};

/// A lock between processes, and between their threads, that survives the death of its holder.
///
/// `Lock` guards no data of its own: it is Python's `Lock`, for what lies elsewhere. [`Value`](crate::Value) and
/// [`Array`](crate::Array) bring their own. It is not reentrant. A clone is another handle to the same lock, and a
/// forked child has one too.
///
/// If a process or a thread ends while it holds the lock, the kernel frees it and wakes a waiter within a fraction of
/// a millisecond; that waiter gets the lock *and* [`LockError::OwnerDied`], so that it can repair what the dead left.
/// A *stopped* holder (SIGSTOP, a debugger) is not dead, nor is a stopped waiter whose turn it is: others wait on, and
/// timeouts end.
///
/// The lock's links lie in shared memory, so the processes that share a lock must trust each other. No signal handler
/// may use it. A thread other than the main one that calls exec(2) holding it leaves it held for ever: the kernel
/// gives that thread another TID before it looks for its locks.
///
/// # Examples
/// ```
/// use pshared::{Lock, LockError};
///
/// let lock = Lock::new()?;
/// match lock.lock() {
///     Ok(_guard) => { /* alone */ }
///     Err(LockError::OwnerDied(mut guard)) => {
///         // repair what the dead left, then
///         guard.make_consistent();
///     }
///     Err(error) => panic!("{error}"),
/// }
/// # Ok::<(), pshared::RegionError>(())
/// ```
///
/// # References
/// Python `multiprocessing.Lock`, which stays locked when its holder is killed; pthread_mutexattr_setrobust(3).
#[doc(alias = "Mutex")]
#[derive(Clone)]
pub struct Lock {
    raw: Handle<PaddedLock>,
}

portable!(Lock { raw });

impl Lock {
    /// A free lock in anonymous memory, which children forked from now on inherit. It takes 128 bytes.
    ///
    /// # Errors
    /// What [`Region::anonymous`] says.
    pub fn new() -> Result<Lock, RegionError> {
        in_arena(size_of::<PaddedLock>(), Lock::new_in)
    }

    /// A free lock in `region`.
    ///
    /// # Errors
    /// [`RegionError::NoRoom`].
    pub fn new_in(region: &Region) -> Result<Lock, RegionError> {
        Ok(Lock { raw: region.place(PaddedLock::new())? })
    }

    /// Takes the lock, waiting as long as it takes.
    ///
    /// Waiters get it in no promised order. The guard frees the lock on drop, in the process that took it.
    ///
    /// # Errors
    /// - [`LockError::OwnerDied`], [`LockError::Poisoned`]: the lock is taken, the guard is inside.
    /// - [`LockError::AlreadyHeld`]: by the calling thread itself.
    /// - [`LockError::TooManyHeld`]: the thread holds 2,040 locks.
    ///
    /// # References
    /// Python `Lock.acquire()`; pthread_mutex_lock(3).
    #[doc(alias = "acquire")]
    #[inline]
    pub fn lock(&self) -> Result<LockGuard<'_>, LockError<LockGuard<'_>>> {
        LockGuard::take(&self.raw, Patience::FOREVER)
    }

    /// Takes the lock if that needs no waiting.
    ///
    /// # Errors
    /// [`LockError::WouldBlock`] when it is held, by whomever; else as for [`lock`](Lock::lock).
    ///
    /// # References
    /// Python `Lock.acquire(block=False)`.
    #[inline]
    pub fn try_lock(&self) -> Result<LockGuard<'_>, LockError<LockGuard<'_>>> {
        LockGuard::take(&self.raw, Patience::None)
    }

    /// Takes the lock, waiting at most `timeout` (CLOCK_MONOTONIC, from the call; zero tries once).
    ///
    /// # Errors
    /// [`LockError::TimedOut`] when it was still held; else as for [`lock`](Lock::lock).
    ///
    /// # References
    /// Python `Lock.acquire(timeout=...)`, which cannot report a death; pthread_mutex_timedlock(3).
    pub fn lock_timeout(&self, timeout: Duration) -> Result<LockGuard<'_>, LockError<LockGuard<'_>>> {
        self.lock_deadline(Deadline::after(timeout))
    }

    /// Takes the lock, waiting at most until `deadline`.
    ///
    /// # Errors
    /// As for [`lock_timeout`](Lock::lock_timeout).
    pub fn lock_deadline(&self, deadline: Deadline) -> Result<LockGuard<'_>, LockError<LockGuard<'_>>> {
        LockGuard::take(&self.raw, Patience::Until(Some(deadline)))
    }
}

impl Lock {
    pub(super) fn raw(&self) -> &RawLock {
        &self.raw
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").field("state", &self.raw.state()).finish()
    }
}

/// A held [`Lock`]: dropping it frees the lock, in the process that took it. A copy that a fork made does nothing.
///
/// Dropped while its thread panics, it leaves the lock [`Poisoned`](LockError::Poisoned) for the next.
#[must_use = "a guard that is dropped at once guards nothing"]
pub struct LockGuard<'a> {
    lock: &'a RawLock,
    suspicion: Suspicion,
    /// Whose guard it is: [`Me::identity`](crate::primitive::Me::identity).
    identity: u64,
    /// A panic leaves the data suspect: one that begins while the guard is held, over data that is changed by then.
    poisons: bool,
    /// The word holds this thread's TID: another could not free it.
    _not_send: PhantomData<*const ()>,
}

// SAFETY: a shared guard gives nothing away; freeing takes the guard itself, which stays on its thread.
unsafe impl Sync for LockGuard<'_> {}

impl<'a> LockGuard<'a> {
    /// Takes `lock` on behalf of a user, who may hold only so many.
    #[inline]
    pub(crate) fn take(lock: &'a RawLock, patience: Patience) -> Result<Self, LockError<Self>> {
        let me = me();
        if let Err(held) = may_hold_more(me) {
            return Err(LockError::TooManyHeld { held, limit: MAX_HELD });
        }
        LockGuard::take_as(lock, me, patience)
    }

    /// Takes `lock` again, which a condition has freed.
    pub(super) fn take_back(lock: &'a RawLock) -> Result<Self, LockError<Self>> {
        LockGuard::take_as(lock, me(), Patience::FOREVER)
    }

    pub(super) fn raw(&self) -> &'a RawLock {
        self.lock
    }

    #[inline]
    fn take_as(lock: &'a RawLock, me: Me, patience: Patience) -> Result<Self, LockError<Self>> {
        let suspicion = match lock.lock_as(me, patience) {
            Ok(suspicion) => suspicion,
            Err(Refused::WouldBlock) => return Err(LockError::WouldBlock),
            Err(Refused::TimedOut) => return Err(LockError::TimedOut),
            Err(Refused::AlreadyHeld) => return Err(LockError::AlreadyHeld),
        };
        let guard = LockGuard {
            lock,
            suspicion,
            identity: me.identity(),
            poisons: !thread::panicking(),
            _not_send: PhantomData,
        };
        match suspicion {
            Suspicion::None => Ok(guard),
            Suspicion::OwnerDied => Err(LockError::OwnerDied(guard)),
            Suspicion::Poisoned => Err(LockError::Poisoned(guard)),
        }
    }

    /// Takes `lock` over data that neither a death nor a panic can leave half-changed.
    #[inline]
    pub(crate) fn take_healed(lock: &'a RawLock, patience: Patience) -> Result<Self, LockError<Infallible>> {
        match LockGuard::take(lock, patience) {
            Ok(guard) => Ok(guard),
            Err(LockError::OwnerDied(mut guard) | LockError::Poisoned(mut guard)) => {
                guard.make_consistent();
                Ok(guard)
            }
            Err(refused) => Err(refused.map(|_| unreachable!("a refusal has no guard"))),
        }
    }

    /// Takes `lock` over data whose holders note their intent before they change it: a death counts only if the note
    /// says so.
    #[inline]
    pub(crate) fn take_by_note(lock: &'a RawLock, patience: Patience) -> Result<Self, LockError<Self>> {
        let mut guard = match LockGuard::take(lock, patience) {
            Ok(guard) | Err(LockError::OwnerDied(guard) | LockError::Poisoned(guard)) => guard,
            refused => return refused,
        };
        guard.poisons = false;
        guard.suspicion = lock.noted();
        match guard.suspicion {
            Suspicion::None => Ok(guard),
            Suspicion::OwnerDied => Err(LockError::OwnerDied(guard)),
            Suspicion::Poisoned => Err(LockError::Poisoned(guard)),
        }
    }

    /// Notes that the data is about to change: if we die now, it is suspect.
    pub(crate) fn intend_change(&mut self) {
        if self.is_ours() {
            self.poisons = !thread::panicking();
            self.lock.note(Suspicion::OwnerDied);
            // The note before the changes, in the compiler's order too.
            fence(Release);
        }
    }

    /// Takes the note back, unless there was suspicion before, or a panic has cut the changes short.
    pub(crate) fn changes_are_whole(&mut self) {
        let panicked = self.poisons && thread::panicking();
        if self.is_ours() && self.suspicion == Suspicion::None && !panicked {
            // The changes before the note: a death between them must leave the note.
            fence(Release);
            self.lock.note(Suspicion::None);
        }
    }

    /// Whether this is the guard that took the lock, and not a copy that a fork made.
    #[inline]
    pub(crate) fn is_ours(&self) -> bool {
        is_of_this_process(self.identity)
    }

    /// For guards that give references into shared memory: a copy that a fork made has no right to them.
    #[inline]
    pub(crate) fn assert_ours(&self) {
        assert!(self.is_ours(), "the guard belongs to the process that this one was forked from");
    }

    /// Declares the data good again: the next holder is told of no death and no panic.
    pub fn make_consistent(&mut self) {
        if self.is_ours() {
            self.suspicion = Suspicion::None;
            self.lock.note(Suspicion::None);
        }
    }
}

impl LockGuard<'_> {
    /// The end of a guard that finds waiters, over data that may be suspect, or of a copy. (It is given what it needs
    /// by value: a guard whose address nobody has stays in registers.)
    #[cold]
    #[inline(never)]
    fn drop_slowly(lock: &RawLock, identity: u64, suspicion: Suspicion, poisons: bool, rest: Rest) {
        if !is_of_this_process(identity) {
            return;
        }
        if suspicion != Suspicion::None {
            lock.note(suspicion);
        } else if poisons && thread::panicking() {
            lock.note(Suspicion::Poisoned);
        }
        lock.unlock_rest(rest);
    }
}

impl Drop for LockGuard<'_> {
    /// Short, with one way out for all that is rare, so that it is worth inlining: a call costs a fifth of the turn.
    #[inline]
    fn drop(&mut self) {
        let mut rest = Rest::All;
        if self.suspicion == Suspicion::None
            && let Some(me) = me_if(self.identity)
            && !thread::panicking()
        {
            match self.lock.unlock_quietly(me) {
                Ok(()) => return,
                Err(left) => rest = left,
            }
        }
        LockGuard::drop_slowly(self.lock, self.identity, self.suspicion, self.poisons, rest);
    }
}

impl fmt::Debug for LockGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockGuard").field("state", &self.lock.state()).finish()
    }
}
