//! Exact kill, for structures of one's own on shared memory (feature `testing`, x86-64).
//!
//! A structure that processes share is right when any of them may be killed at any instruction. This shows it: a
//! victim is single-stepped by ptrace(2) through an operation and killed after k instructions, for every k, beside
//! companions that sleep, hold, or come later; then the survivors have a second, and the state is looked at. With a
//! [`heir`](Check::heir) two die, one after the other; a [`storm`](Check::storm) kills at random, under load.
//!
//! ```
//! use pshared::testing::{Check, Damage, Effort, Moment::*, Until::*};
//! use pshared::{Atomic, Lock};
//!
//! let check = Check::new(
//!     "two counters",
//!     || (Atomic::new(0_u32).unwrap(), Atomic::new(0_u32).unwrap()),
//!     |(one, other)| {
//!         one.fetch_add(1);
//!         other.fetch_add(1); // dies before this, and they differ
//!     },
//! )
//! .invariant(|(one, other), _| Damage { torn: u64::from(one.get() != other.get()), ..Damage::default() });
//! let report = check.run(Effort { hunting: true, ..Effort::default() })?;
//! assert_eq!(report.damage.torn, 1);
//! println!("{report}"); // and where it died: symbol, file and line
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! `examples/crash_your_own/accounts.rs` is a longer one: a fault, and the structure mended. The crate's own rows
//! (`cargo crash`, tests/crash) are made of the same parts: a [`scenario`] for each operation in each company.
//!
//! # What it asks for
//! Leave to trace one's own children, which some containers refuse: then a run is an error, not a success. Debug
//! information, for symbols and lines: `debug = "line-tables-only"` in the profile. Operations are best a few hundred
//! instructions long; a loop's middle rounds are left out, and counted.
//!
//! # What it does not show
//! Weak memory, for which there are models; and what happens inside a system call.

pub mod board;
mod check;
pub mod company;
mod report;
pub mod scenario;
mod shadow;
mod site;
mod storm;
mod stuck;
pub mod trace;

pub use check::Check;
pub use company::{Moment, Until, pause};
pub use report::{Damage, Fault, Report};
pub use scenario::{Effort, End};
pub use site::Site;
pub use storm::Storm;
pub use stuck::{Stuck, Word};
