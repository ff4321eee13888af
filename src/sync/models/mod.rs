//! loom models of the synchronisers, one file each. `primitive/model/explore.rs` says how they are run.

mod event;
mod lock;
mod rwlock;
