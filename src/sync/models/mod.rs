//! loom models of the synchronisers, one file each. `primitive/model/explore.rs` says how they are run.

mod barrier;
mod condition;
mod event;
mod lock;
mod once;
mod rlock;
mod rwlock;
mod semaphore;
