//! Plain data that processes share: one value, a number, a row of elements.

mod array;
mod atomic;
// The module's namesake is its main type; the folder holds its siblings.
#[allow(clippy::module_inception, reason = "value/value.rs is where everybody looks for Value")]
mod value;

pub use array::{Array, ArrayGuard};
pub use atomic::{Atomic, Integer};
pub use value::{Value, ValueGuard};

#[cfg(all(test, loom))]
mod models;
