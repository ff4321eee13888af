//! [`Condition`], and the locks that it can be bound to; the algorithm is in `sync/condition.rs`.

use std::{fmt, time::Duration};

use crate::{
    error::{ConditionError, LockError, RegionError},
    primitive::{Deadline, Mutant, me, mutant},
    region::{Handle, Region, in_arena, portable},
    sync::{
        condition::{RawCondition, Turn},
        lock::{Lock, LockGuard},
        rlock::{RLock, RLockGuard},
    },
};

/// A lock that a [`Condition`] can be bound to: [`Lock`] and [`RLock`].
pub trait Waitable: sealed::Sealed {}

impl Waitable for Lock {}
impl Waitable for RLock {}

pub(super) mod sealed {
    use super::*;
    use crate::sync::{raw_lock::RawLock, rlock::RawRLock};

    /// What a condition does with a guard.
    pub trait Sealed: Clone {
        type Guard<'a>;
        /// What is left of a guard while its lock is free.
        type Left<'a>;

        // `'a: 'a` in the implementations makes their lifetime a parameter of the function, as it is here.

        /// Whether the guard is one of this lock's.
        fn is_held_by(&self, guard: &Self::Guard<'_>) -> bool;
        /// Whether it is the guard that took the lock, and not a copy that a fork made.
        fn is_ours(guard: &Self::Guard<'_>) -> bool;
        /// Frees the lock, however often it was taken.
        fn leave<'a>(guard: Self::Guard<'a>) -> Self::Left<'a>;
        /// Takes it as often again.
        fn come_back<'a>(left: Self::Left<'a>) -> Result<Self::Guard<'a>, LockError<Self::Guard<'a>>>;
    }

    #[derive(Clone, Copy)]
    pub struct LeftLock<'a>(&'a RawLock);

    #[derive(Clone, Copy)]
    pub struct LeftRLock<'a>(&'a RawRLock, u32);

    impl Sealed for Lock {
        type Guard<'a> = LockGuard<'a>;
        type Left<'a> = LeftLock<'a>;

        fn is_held_by(&self, guard: &LockGuard<'_>) -> bool {
            std::ptr::eq(self.raw(), guard.raw())
        }

        fn is_ours(guard: &LockGuard<'_>) -> bool {
            guard.is_ours()
        }

        fn leave<'a>(guard: LockGuard<'a>) -> LeftLock<'a>
        where
            'a: 'a,
        {
            let lock = guard.raw();
            drop(guard);
            LeftLock(lock)
        }

        fn come_back<'a>(left: LeftLock<'a>) -> Result<LockGuard<'a>, LockError<LockGuard<'a>>>
        where
            'a: 'a,
        {
            LockGuard::take_back(left.0)
        }
    }

    impl Sealed for RLock {
        type Guard<'a> = RLockGuard<'a>;
        type Left<'a> = LeftRLock<'a>;

        fn is_held_by(&self, guard: &RLockGuard<'_>) -> bool {
            std::ptr::eq(self.raw(), guard.lock)
        }

        fn is_ours(guard: &RLockGuard<'_>) -> bool {
            guard.is_ours()
        }

        fn leave<'a>(guard: RLockGuard<'a>) -> LeftRLock<'a>
        where
            'a: 'a,
        {
            let (lock, depth) = (guard.lock, guard.leave_wholly());
            LeftRLock(lock, depth)
        }

        fn come_back<'a>(left: LeftRLock<'a>) -> Result<RLockGuard<'a>, LockError<RLockGuard<'a>>>
        where
            'a: 'a,
        {
            RLockGuard::take_back(left.0, left.1)
        }
    }
}

/// A guard and whether the time was up, or why there is no clean guard.
pub type TimedWait<G> = Result<(G, bool), ConditionError<G>>;

/// A place where processes wait for each other's changes to what a lock guards.
///
/// It is bound to a [`Lock`] or an [`RLock`]. [`wait`](Condition::wait) frees the lock and sleeps until somebody
/// notifies; then it takes the lock again, an `RLock` as often as it was taken. A notification reaches one of those
/// who wait when it is made. It is not kept for those who come later, and who comes later does not get it.
///
/// A waiter that is killed, at any instruction, takes no notification with it that is meant for another; a notifier
/// waits for nobody and holds nobody up, dead or alive. (Once it has the lock again it is a holder like any other: if
/// it dies before it has done what it was notified for, the next holder is told `OwnerDied`, and should notify.) Waits
/// may end for nothing, above all after deaths, so whoever waits looks again, as
/// [`wait_while`](Condition::wait_while) does. A *stopped* waiter (SIGSTOP, a debugger) is not dead: it keeps a
/// notification that it has been given, and those given after it to itself while it stands in their way; timeouts end.
///
/// A clone is another handle to the same condition. It counts up to 32,767 waiters; if more come, all are woken for
/// nothing and wait anew.
///
/// # Examples
/// ```
/// use pshared::{Atomic, Condition, Lock};
///
/// let (lock, ready) = (Lock::new()?, Atomic::new(0_u32)?);
/// let changed = Condition::new(&lock)?;
/// # let (other, flag, signal) = (lock.clone(), ready.clone(), changed.clone());
/// # let setter = std::thread::spawn(move || {
/// #     let _guard = other.lock().unwrap();
/// #     flag.set(1);
/// #     signal.notify_one();
/// # });
/// let guard = lock.lock().expect("nobody died");
/// let _guard = changed.wait_while(guard, || ready.get() == 0).expect("nobody died");
/// # setter.join().unwrap();
/// # Ok::<(), pshared::RegionError>(())
/// ```
///
/// # References
/// Python `multiprocessing.Condition`, whose `notify` waits for a dead waiter for ever; [`std::sync::Condvar`];
/// pthread_cond_wait(3).
#[doc(alias = "Condvar")]
pub struct Condition<L = Lock> {
    pub(super) raw: Handle<RawCondition>,
    lock: L,
}

portable!(Condition<Lock> { raw, lock });
portable!(Condition<RLock> { raw, lock });

impl<L: Waitable> Condition<L> {
    /// A condition of `lock` in anonymous memory, which children forked from now on inherit. It takes 64 bytes.
    ///
    /// # Errors
    /// What [`Region::anonymous`] says.
    pub fn new(lock: &L) -> Result<Condition<L>, RegionError> {
        in_arena(size_of::<RawCondition>(), |region| Condition::new_in(region, lock))
    }

    /// A condition of `lock` in `region`, which need not be the lock's.
    ///
    /// # Errors
    /// [`RegionError::NoRoom`].
    pub fn new_in(region: &Region, lock: &L) -> Result<Condition<L>, RegionError> {
        Ok(Condition { raw: region.place(RawCondition::new())?, lock: lock.clone() })
    }

    /// Frees the lock, waits for a notification as long as it takes, and takes the lock again. May return for nothing.
    ///
    /// # Errors
    /// - [`ConditionError::Lock`]: what the lock said when it was taken again, above all
    ///   [`OwnerDied`](LockError::OwnerDied), with the guard inside.
    /// - [`ConditionError::WrongLock`], [`ConditionError::Copied`]: the guard, untouched, is inside.
    ///
    /// # References
    /// Python `Condition.wait()`; pthread_cond_wait(3).
    pub fn wait<'a>(&self, guard: L::Guard<'a>) -> Result<L::Guard<'a>, ConditionError<L::Guard<'a>>> {
        Ok(self.wait_until(guard, None)?.0)
    }

    /// Waits as long as `condition` is true; not at all if it is false. It is asked with the lock held.
    ///
    /// # Errors
    /// As for [`wait`](Condition::wait), whatever the condition says by then.
    ///
    /// # References
    /// Python `Condition.wait_for`, with the opposite sense.
    #[doc(alias = "wait_for")]
    pub fn wait_while<'a>(
        &self,
        mut guard: L::Guard<'a>,
        mut condition: impl FnMut() -> bool,
    ) -> Result<L::Guard<'a>, ConditionError<L::Guard<'a>>> {
        while condition() {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// As [`wait`](Condition::wait), at most `timeout` (CLOCK_MONOTONIC, from the call; zero looks once). Says whether
    /// the time was up. Taking the lock again may last longer.
    ///
    /// # Errors
    /// As for [`wait`](Condition::wait).
    pub fn wait_timeout<'a>(&self, guard: L::Guard<'a>, timeout: Duration) -> TimedWait<L::Guard<'a>> {
        self.wait_deadline(guard, Deadline::after(timeout))
    }

    /// As [`wait_timeout`](Condition::wait_timeout), until `deadline`.
    ///
    /// # Errors
    /// As for [`wait`](Condition::wait).
    pub fn wait_deadline<'a>(&self, guard: L::Guard<'a>, deadline: Deadline) -> TimedWait<L::Guard<'a>> {
        self.wait_until(guard, Some(deadline))
    }

    /// As [`wait_while`](Condition::wait_while), at most `timeout` in all. Says whether the time was up with
    /// `condition` still true.
    ///
    /// # Errors
    /// As for [`wait`](Condition::wait).
    pub fn wait_timeout_while<'a>(
        &self,
        guard: L::Guard<'a>,
        timeout: Duration,
        condition: impl FnMut() -> bool,
    ) -> TimedWait<L::Guard<'a>> {
        self.wait_deadline_while(guard, Deadline::after(timeout), condition)
    }

    /// As [`wait_timeout_while`](Condition::wait_timeout_while), until `deadline`.
    ///
    /// # Errors
    /// As for [`wait`](Condition::wait).
    pub fn wait_deadline_while<'a>(
        &self,
        mut guard: L::Guard<'a>,
        deadline: Deadline,
        mut condition: impl FnMut() -> bool,
    ) -> TimedWait<L::Guard<'a>> {
        let mut expired = false;
        while condition() {
            if expired {
                return Ok((guard, true));
            }
            (guard, expired) = self.wait_deadline(guard, deadline)?;
        }
        Ok((guard, false))
    }

    /// Notifies one of those who wait. Says how many that were: 0 if nobody waits, or all are notified. Whoever was
    /// killed waiting may be counted, until the next time that all are woken. Never waits, and needs no lock.
    ///
    /// # References
    /// Python `Condition.notify`, which waits for whom it has woken.
    #[doc(alias = "notify")]
    pub fn notify_one(&self) -> usize {
        self.notify_n(1)
    }

    /// Notifies `count` of those who wait, or all if they are fewer. Says how many, as
    /// [`notify_one`](Condition::notify_one) does.
    ///
    /// # References
    /// Python `Condition.notify(n)`.
    pub fn notify_n(&self, count: usize) -> usize {
        self.raw.notify(count as u64) as usize
    }

    /// Notifies all who wait. Says how many, as [`notify_one`](Condition::notify_one) does.
    ///
    /// # References
    /// Python `Condition.notify_all`.
    pub fn notify_all(&self) -> usize {
        self.raw.notify_all() as usize
    }

    fn wait_until<'a>(&self, guard: L::Guard<'a>, deadline: Option<Deadline>) -> TimedWait<L::Guard<'a>> {
        if !self.lock.is_held_by(&guard) {
            return Err(ConditionError::WrongLock(guard));
        }
        if !L::is_ours(&guard) {
            return Err(ConditionError::Copied(guard));
        }
        let me = me();
        let (left, ticket);
        if mutant(Mutant::AnnounceAfterLeaving) {
            left = L::leave(guard);
            ticket = self.raw.announce();
        } else {
            ticket = self.raw.announce(); // N1
            left = L::leave(guard);
        }
        let turn = self.raw.stand_in_line(me, ticket, deadline);
        let (back, notified);
        if mutant(Mutant::TokenBeforeLock) {
            notified = self.raw.take_leave(ticket);
            back = L::come_back(left);
        } else {
            back = L::come_back(left);
            notified = self.raw.take_leave(ticket); // N2
        }
        if turn == Turn::Chosen && !mutant(Mutant::BatonNotHeld) {
            self.raw.pass_baton(me);
        }
        match back {
            Ok(guard) => Ok((guard, turn == Turn::TimedOut && !notified)),
            Err(error) => Err(ConditionError::Lock(error)),
        }
    }
}

impl<L: Clone> Clone for Condition<L> {
    fn clone(&self) -> Condition<L> {
        Condition { raw: self.raw.clone(), lock: self.lock.clone() }
    }
}

impl<L: fmt::Debug> fmt::Debug for Condition<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (waiting, notified) = self.raw.counts();
        f.debug_struct("Condition")
            .field("waiting", &waiting)
            .field("notified", &notified)
            .field("lock", &self.lock)
            .finish()
    }
}
