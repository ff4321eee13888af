//! `cargo crash`: a kill after every instruction of every operation.
//!
//! ```text
//! cargo crash                     everything
//! cargo crash NAME...             the rows whose "operation: company" contains one of the names
//! cargo crash --pairs N           so many sampled pairs of deaths, and so many of stopped sleepers (default 6400)
//! cargo crash --seed N            the seed of the sampling
//! cargo crash --most N            at most N kill points in each row with one death, spread evenly (default: all)
//! cargo crash --single            the rows with one death, every point of them, and nothing else
//! cargo crash --double            the rows with two deaths, and nothing else
//! cargo crash --quick             every fifth kill point, 600 pairs, no mutants: a look, not a proof
//! ```
//!
//! A victim is single-stepped through its operation and killed after k instructions, for every k, in every company
//! (`pshared::testing`, whose `scenario` says how); then two die, the second being whoever inherits; then the sleeper
//! stands stopped while the holder dies. The survivors, which have no timers, get one second. In the end there is a
//! table of all by object. Then the harness is built again with the known faults (`mutants.rs`): a proof that catches
//! none of them proves nothing. Which rows show which operation, `tests/covered.txt` says.
//!
//! Where ptrace(2) is forbidden, or the machine is no x86-64, the run fails: it has shown nothing.

use std::process::ExitCode;

#[cfg(target_arch = "x86_64")]
use pshared::testing::{board, company, scenario, trace};

#[cfg(target_arch = "x86_64")]
mod any;
#[cfg(target_arch = "x86_64")]
mod barrier;
#[cfg(target_arch = "x86_64")]
mod channel;
#[cfg(target_arch = "x86_64")]
mod condition;
#[cfg(target_arch = "x86_64")]
mod event;
#[cfg(target_arch = "x86_64")]
mod lanes;
#[cfg(target_arch = "x86_64")]
mod letters;
#[cfg(target_arch = "x86_64")]
mod lock;
#[cfg(target_arch = "x86_64")]
mod mutants;
#[cfg(target_arch = "x86_64")]
mod peers;
#[cfg(target_arch = "x86_64")]
mod pipe;
#[cfg(target_arch = "x86_64")]
mod pool;
#[cfg(target_arch = "x86_64")]
mod post;
#[cfg(target_arch = "x86_64")]
mod process;
#[cfg(target_arch = "x86_64")]
mod queue;
#[cfg(target_arch = "x86_64")]
mod rlock;
#[cfg(target_arch = "x86_64")]
mod run;
#[cfg(target_arch = "x86_64")]
mod rwlock;
#[cfg(target_arch = "x86_64")]
mod semaphore;
#[cfg(target_arch = "x86_64")]
mod tasks;
#[cfg(target_arch = "x86_64")]
mod value;

#[cfg(target_arch = "x86_64")]
fn main() -> ExitCode {
    pshared::init();
    run::main()
}

#[cfg(not(target_arch = "x86_64"))]
fn main() -> ExitCode {
    eprintln!("crash: CANNOT RUN: the exact-kill harness steps x86-64 code only; nothing was shown");
    ExitCode::FAILURE
}
