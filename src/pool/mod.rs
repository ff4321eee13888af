//! Worker processes that run functions for others.
//!
//! | file      | what it owns                                                             |
//! |-----------|--------------------------------------------------------------------------|
//! | `pool`    | [`Pool`]: what its user holds                                            |
//! | `builder` | [`PoolBuilder`]: what it is to be like; its start                        |
//! | `board`   | the words that parent, supervisor and workers share, and the protocol    |
//! | `column`  | a word for each slot                                                     |
//! | `word`    | the state of a slot as one value                                         |
//! | `site`    | the board, and where the bytes of arguments and results lie              |
//! | `store`   | the bytes of what is too long for a slot's own                           |
//! | `carry`   | [`Carried`]: how values become bytes                                     |
//! | `call`    | how a function comes to a worker                                         |
//! | `keeper`  | the supervisor: starts workers, buries them, kills for limits            |
//! | `worker`  | a worker's life                                                          |
//! | `table`   | the parent's side: free slots, who waits for what                        |
//! | `limits`  | [`TaskLimits`]                                                           |
//! | `outcome` | what a settled slot says                                                 |
//! | `flow`    | maps; [`Mapped`]: the iterators                                          |
//! | `progress` | [`Progress`]: an iterator that moves a bar (feature `progress`)           |
//! | `result`  | [`AsyncResult`]                                                          |
//! | `callback` | who calls what is to be called when a task is done                      |
//! | `stats`   | [`PoolStats`]                                                            |
//! | `error`   | [`TaskError`], [`PoolError`] and others                                  |
//!
//! # Who may die
//! - A worker, at any instruction: the supervisor reaps it, settles the one task that was TAKEN by it, rings for it,
//!   and starts another.
//! - The supervisor: its workers end with it (`process/watch.rs`); the parent hears of it by a robust word.
//! - The parent: the supervisor ends with it.

mod board;
mod column;
mod desk;
mod word;

#[cfg(not(loom))]
mod builder;
#[cfg(not(loom))]
mod call;
#[cfg(not(loom))]
mod callback;
#[cfg(not(loom))]
mod carry;
#[cfg(not(loom))]
mod error;
#[cfg(not(loom))]
mod flow;
#[cfg(not(loom))]
mod keeper;
#[cfg(not(loom))]
mod limits;
#[cfg(not(loom))]
mod outcome;
// The module's namesake is its main type; the folder holds its parts.
#[cfg(not(loom))]
#[allow(clippy::module_inception, reason = "pool/pool.rs is where everybody looks for Pool")]
mod pool;
#[cfg(all(not(loom), feature = "progress"))]
mod progress;
#[cfg(not(loom))]
mod result;
#[cfg(not(loom))]
mod site;
#[cfg(not(loom))]
mod stats;
#[cfg(not(loom))]
mod store;
#[cfg(not(loom))]
mod table;
#[cfg(not(loom))]
mod worker;

#[cfg(not(loom))]
pub use builder::PoolBuilder;
#[cfg(not(loom))]
pub use carry::Carried;
#[cfg(not(loom))]
pub use error::{GetTimeoutError, PoolError, PoolJoinError, TaskError, TryApplyError};
#[cfg(not(loom))]
pub use flow::Mapped;
#[cfg(not(loom))]
pub use limits::TaskLimits;
#[cfg(not(loom))]
pub use pool::Pool;
#[cfg(all(not(loom), feature = "progress"))]
pub use progress::Progress;
#[cfg(not(loom))]
pub use result::AsyncResult;
#[cfg(not(loom))]
pub use stats::{PoolStats, WorkerStats};

#[cfg(all(fuzzing, not(loom)))]
#[doc(hidden)]
pub use fuzzing::board as fuzz_board;
#[cfg(all(any(test, fuzzing), not(loom)))]
mod fuzzing;

#[cfg(all(test, loom))]
mod models;
