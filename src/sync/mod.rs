//! Futex algorithms over words; they never ask where the memory came from.

mod event;
mod lock;
mod owner;
mod raw_lock;
mod raw_rwlock;
mod rwlock;
mod slots;

pub use event::Event;
pub use lock::{Lock, LockGuard};
pub(crate) use owner::OwnerWord;
pub(crate) use raw_lock::{Hold, PaddedLock, Patience, RawLock, Refused};
pub use rwlock::{RwLock, RwLockReadGuard, RwLockUpgradableGuard, RwLockWriteGuard};

#[cfg(all(test, loom))]
mod models;
