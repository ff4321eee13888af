//! Futex algorithms over words; they never ask where the memory came from.

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

pub use barrier::{Barrier, BarrierWaitResult};
pub use event::Event;
pub use lock::{Lock, LockGuard};
pub use once::{Once, OnceValue};
pub(crate) use owner::OwnerWord;
pub(crate) use raw_lock::{Hold, MAX_HELD, PaddedLock, Patience, RawLock, Refused, may_hold_more};
pub use rlock::{RLock, RLockGuard};
pub use rwlock::{RwLock, RwLockReadGuard, RwLockUpgradableGuard, RwLockWriteGuard};
pub use semaphore::{BoundedSemaphore, Permit, Semaphore};
pub use wait::{Condition, TimedWait, Waitable};

#[cfg(all(test, loom))]
mod models;
