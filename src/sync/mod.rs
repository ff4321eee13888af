//! Futex algorithms over words; they never ask where the memory came from.

mod event;
mod lock;
mod owner;
mod raw_lock;
mod slots;

pub use event::Event;
pub use lock::{Lock, LockGuard};
pub(crate) use owner::OwnerWord;
pub(crate) use raw_lock::{Hold, MAX_HELD, PaddedLock, Patience, RawLock, Refused};

#[cfg(all(test, loom))]
mod models;
