//! What the fuzzers run: one function of bytes for each target, by name.
//!
//! cargo-fuzz drives them on nightly (`fuzz_targets/`); `tests/fuzz.rs` of the crate replays the corpora and some
//! random inputs on stable. So they are plain code, and an input that fails in one fails in the other.

use arbitrary::{Arbitrary, Unstructured};

mod channel;
mod hostile;
mod joinable;
mod locks;
mod pipe;
mod queue;
mod rwlock;
mod semaphore;
mod signals;
mod values;

/// A target: it panics, hangs or reads where it must not, if anything is wrong.
pub type Target = fn(&[u8]);

/// Every target, by the name of its corpus.
pub const TARGETS: [(&str, Target); 11] = [
    ("array_ops", values::run),
    ("channel_ops", channel::run),
    ("hostile_bytes", hostile::bytes),
    ("hostile_peer", hostile::peer),
    ("joinable_ops", joinable::run),
    ("lock_ops", locks::run),
    ("pipe_ops", pipe::run),
    ("queue_ops", queue::run),
    ("rwlock_ops", rwlock::run),
    ("semaphore_ops", semaphore::run),
    ("signal_ops", signals::run),
];

/// What the bytes say, if they say anything.
fn case<'a, T: Arbitrary<'a>>(data: &'a [u8]) -> Option<T> {
    T::arbitrary_take_rest(Unstructured::new(data)).ok()
}

/// Runs one target by its name.
pub fn run(name: &str, data: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(target, _)| *target == name).expect("a target");
    target(data);
}
