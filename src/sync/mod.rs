//! Futex algorithms over words; they never ask where the memory came from.

#[cfg(not(loom))]
mod any;
mod barrier;
mod condition;
mod event;
mod ledger;
mod lock;
mod once;
mod owner;
mod raw_barrier;
mod raw_lock;
mod raw_rwlock;
mod raw_semaphore;
mod rlock;
mod round;
mod rwlock;
mod semaphore;
mod slots;
mod wait;

#[cfg(not(loom))]
pub use any::{Source, try_wait_any, wait_any, wait_any_deadline, wait_any_timeout};
#[cfg(not(loom))]
pub(crate) use any::{Watch, sealed::Sealed};
pub use barrier::{Barrier, BarrierWaitResult};
pub use event::Event;
pub use lock::{Lock, LockGuard};
pub use once::{Once, OnceValue};
pub(crate) use owner::OwnerWord;
pub(crate) use raw_lock::{Hold, MAX_HELD, PaddedLock, Patience, RawLock, Refused, may_hold_more};
pub use rlock::{RLock, RLockGuard};
pub use rwlock::{RwLock, RwLockReadGuard, RwLockUpgradableGuard, RwLockWriteGuard};
pub use semaphore::{BoundedSemaphore, Permit, Semaphore};
pub(crate) use slots::{Slot, Slots};
pub use wait::{Condition, TimedWait, Waitable};

#[cfg(all(test, loom))]
mod models;
