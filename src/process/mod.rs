//! Children: start them, watch them, learn how they ended.
//!
//! | file      | what it owns                                                                        |
//! |-----------|-------------------------------------------------------------------------------------|
//! | `context` | [`Context`]: which start method                                                     |
//! | `spawn`   | the start by fork, and what all starts have in common                               |
//! | `reexec`  | the start by running the program anew; [`init`](crate::init)                        |
//! | `server`  | the start by a process that forks for another                                       |
//! | `function` | [`Function`]: what can be run by name                                              |
//! | `order`   | what a child is told that is no copy of its parent                                  |
//! | `hooks`   | [`after_fork`](crate::after_fork), [`Finalizer`]                                     |
//! | `life`    | a child's, from the gate to the way out                                             |
//! | `settings` | what a builder asked for, made true                                                |
//! | `gate`    | what a newborn waits at until its parent can see it                                 |
//! | `record`  | what the child leaves behind: its value, or its panic                               |
//! | `exit`    | [`ExitStatus`], and what [`Process::join`] says instead of a value                  |
//! | `child`   | [`Child`]: the pidfd; waits, signals, reaps exactly once                            |
//! | `handle`  | [`Process`]: a child and its value; what a drop does                                |
//! | `builder` | [`Builder`]: name, surroundings, rights, what becomes of it when its parent ends    |
//! | `watch`   | the child ends when its parent process does                                         |
//! | `here`    | what this process knows of itself, and the list of its children                     |
//! | `family`  | [`current_process`], [`parent_process`], [`active_children`]                        |
//! | `reaper`  | [`Reaper`], [`reap_now`]                                                            |
//! | `supervisor` | [`Supervisor`]: children that are started anew when they fail                    |
//! | `tree`    | ending a process with all its descendants                                           |
//! | `scope`   | [`scope`]: children that are joined at its end                                      |
//! | `usage`   | [`Usage`]: what a child used                                                        |
//!
//! # How a child is known
//! By its pidfd, opened while the child waits at the gate: it cannot have ended of itself, so nobody can have reaped
//! it and no stranger can have its pid. Every signal, wait and status goes through that descriptor.
//!
//! # How its end is known
//! 1. waitid(2) on the pidfd, which reaps it.
//! 2. ECHILD: somebody else reaped it, or SIGCHLD is ignored. The kernel still tells by PIDFD_GET_INFO (Linux 6.15).
//! 3. Else the record: a value stands for code 0, a panic for code 101.
//! 4. Else the status is unknown, and says so. Never "alive" for the dead, never 0 for the unknown.
//!
//! # Where a process may die
//! - The parent, before the gate is open: the kernel frees the gate with OWNER_DIED, and the child leaves before it
//!   runs anything of the user's.
//! - The parent, later: the child is killed by the kernel (`watch`), or was told to go on, and its record is read by
//!   nobody.
//! - The child, anywhere: its record has a header or has none. The header is written last, by one call, within a page.

mod builder;
mod child;
mod context;
mod exit;
mod family;
mod function;
mod gate;
mod handle;
mod here;
mod hooks;
mod life;
mod order;
mod reaper;
mod record;
mod reexec;
mod scope;
mod server;
mod settings;
mod source;
mod spawn;
mod supervisor;
mod tree;
mod usage;
mod watch;

pub use builder::{Builder, Limit, Stream};
pub use child::Child;
pub use context::Context;
pub use exit::{ExitStatus, JoinError, JoinTimeoutError, NotParent, PanicLocation};
pub use family::{CurrentProcess, ParentProcess, active_children, current_process, parent_process};
pub use function::Function;
pub use handle::{OnDrop, Process};
pub use hooks::{Finalizer, after_fork};
pub use reaper::{Reaped, Reaper, reap_now};
pub(crate) use record::Panic;
pub use reexec::init;
pub use scope::{Scope, ScopeError, scope};
pub use supervisor::{Failure, Strategy, SuperviseError, Supervised, Supervisor};
pub use usage::Usage;
