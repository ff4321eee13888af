//! Threads and atomics by loom: every order within a bound, and what weak memory may show.

pub(crate) use loom::{
    cell::UnsafeCell,
    sync::atomic,
    thread::{Thread, current, park, yield_now},
};

#[cfg(test)]
use crate::primitive::Mutant;

/// A second try would be the same.
#[cfg(test)]
pub(crate) const TRIES: &[usize] = &[1];

/// Whether a fault of this kind can be seen: each that is modelled.
#[cfg(test)]
pub(crate) fn shows(_fault: Mutant) -> bool {
    true
}

/// Starts a thread.
#[cfg(test)]
pub(crate) fn spawn(body: impl FnOnce() + 'static) {
    loom::thread::spawn(body);
}

/// Runs `model` in every order with at most `preemptions` of them, which is as much effort as there can be.
#[cfg(test)]
pub(crate) fn run(preemptions: usize, _effort: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.max_branches = builder.max_branches.max(10_000);
    builder.check(model);
}

/// By what orders are found.
#[cfg(test)]
pub(crate) fn method(preemptions: usize) -> String {
    format!("{preemptions} preemptions")
}
