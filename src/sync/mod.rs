//! Futex algorithms over words; they never ask where the memory came from.

mod barrier;
mod event;
mod lock;
mod owner;
mod raw_barrier;
mod raw_lock;
mod round;
mod slots;

pub use barrier::{Barrier, BarrierWaitResult};
pub use event::Event;
pub use lock::{Lock, LockGuard};
pub(crate) use owner::OwnerWord;
pub(crate) use raw_lock::{Hold, PaddedLock, Patience, RawLock, Refused};

#[cfg(all(test, loom))]
mod models;
