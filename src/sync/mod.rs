//! Futex algorithms over words; they never ask where the memory came from.

mod lock;
mod owner;

pub use lock::{Lock, LockGuard};
pub(crate) use lock::{Patience, RawLock, Refused, Suspicion};

#[cfg(all(test, loom))]
mod models;
