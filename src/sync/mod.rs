//! Futex algorithms over words; they never ask where the memory came from.

mod event;
mod ledger;
mod lock;
mod owner;
mod raw_lock;
mod raw_semaphore;
mod semaphore;
mod slots;

pub use event::Event;
pub use lock::{Lock, LockGuard};
pub(crate) use owner::OwnerWord;
pub(crate) use raw_lock::{Hold, PaddedLock, Patience, RawLock, Refused};
pub use semaphore::{BoundedSemaphore, Permit, Semaphore};

#[cfg(all(test, loom))]
mod models;
