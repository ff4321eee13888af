//! loom models of the synchronisers, one file each. `primitive/model/explore.rs` says how they are run.

mod condition;
mod event;
mod lock;
mod once;
mod rlock;
