//! Python's `multiprocessing` on shared memory, for Linux.

#![warn(missing_docs)]
#![cfg_attr(loom, allow(dead_code, unused_imports, reason = "the modelled build lacks what uses some of it"))]

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!(
    "pshared runs on 64-bit Linux only: it is built on futexes, the kernel's robust lists, sealed memfds and pidfds"
);

mod error;
#[cfg(not(loom))]
mod os;
mod primitive;
mod region;
mod sync;

pub use error::{LockError, RegionError};
pub use primitive::Deadline;
#[cfg(any(loom, mutants))]
#[doc(hidden)]
pub use primitive::{Mutant, set_mutant};
pub use region::{Plain, Region};
pub use sync::{Lock, LockGuard};
