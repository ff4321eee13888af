//! Futex algorithms over words; they never ask where the memory came from.

mod condition;
mod event;
mod lock;
mod once;
mod owner;
mod raw_lock;
mod rlock;
mod slots;
mod wait;

pub use event::Event;
pub use lock::{Lock, LockGuard};
pub use once::{Once, OnceValue};
pub(crate) use owner::OwnerWord;
pub(crate) use raw_lock::{Hold, PaddedLock, Patience, RawLock, Refused};
pub use rlock::{RLock, RLockGuard};
pub use wait::{Condition, TimedWait, Waitable};

#[cfg(all(test, loom))]
mod models;
