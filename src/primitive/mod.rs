//! The seam: what every layer above uses in place of core atomics, the raw futex and the robust list.
//!
//! Two faces with the same names. `native` is core atomics, system calls and the thread's real robust list.
//! `model` is loom's atomics, a modelled futex, deaths by fuel, and `bury`: the kernel's part at a death.
//! Algorithms are methods on structs of these types, so the code that is modelled is the code that runs.

#[cfg(not(loom))]
mod native;
#[cfg(not(loom))]
pub use native::Deadline;
#[cfg(not(loom))]
pub(crate) use native::*;

#[cfg(loom)]
pub(crate) mod model;
#[cfg(loom)]
pub use model::Deadline;
#[cfg(loom)]
pub(crate) use model::*;

mod mutant;
pub use mutant::Mutant;
pub(crate) use mutant::mutant;
#[cfg(any(loom, mutants))]
pub use mutant::set_mutant;
