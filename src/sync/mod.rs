//! Futex algorithms over words; they never ask where the memory came from.

mod event;
mod lock;
mod owner;

pub use event::Event;
pub(crate) use lock::{Hold, Patience, RawLock, Refused};
pub use lock::{Lock, LockGuard};
pub(crate) use owner::OwnerWord;

#[cfg(all(test, loom))]
mod models;
