//! Python's `multiprocessing` on shared memory, for Linux.
//!
//! Any process may be killed at any instruction: the others go on, and nothing that was committed is lost, doubled or
//! torn. How that is done, and how it is proven, is told in [`design`].
//!
//! | to share                          | use                                                              |
//! |-----------------------------------|------------------------------------------------------------------|
//! | work and results                  | [`Queue`], [`JoinableQueue`]                                     |
//! | messages from one to one other    | [`channel`], [`Channel`]                                         |
//! | messages between two processes    | [`pipe`], [`duplex`]                                             |
//! | a counter or a flag               | [`Atomic`]                                                       |
//! | a value that changes as a whole   | [`Value`]                                                        |
//! | many elements, in place           | [`Array`]                                                        |
//! | a section, a signal               | [`Lock`], [`RLock`], [`Event`]                                   |
//! | what many read and few change     | [`RwLock`]                                                       |
//! | a number of permits               | [`Semaphore`], [`BoundedSemaphore`]                              |
//! | a place to wait for each other    | [`Barrier`]                                                      |
//! | a change to what a lock guards    | [`Condition`]                                                    |
//! | what is done or made once         | [`Once`], [`OnceValue`]                                          |
//! | to wait for any of several        | [`wait_any`]                                                     |
//! | a process to run it in            | [`Process`]; by another start method [`Context`]                 |
//! | processes that are to go on       | [`Supervisor`]                                                   |
//! | processes to run functions in     | [`Pool`]                                                         |
//! | the memory of several objects     | [`Region`], and the constructors that end in `_in`               |
//! | to kill in one's own structures   | the module `testing`, with the feature of that name              |
//!
//! Objects made by `new` are inherited by children that are forked afterwards. A clone is another handle to the same
//! object. Every wait has a form with a [`Duration`](std::time::Duration) and one with a [`Deadline`].

#![warn(missing_docs)]
#![cfg_attr(loom, allow(dead_code, unused_imports, reason = "the modelled build lacks what uses some of it"))]

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!(
    "pshared runs on 64-bit Linux only: it is built on futexes, the kernel's robust lists, sealed memfds and pidfds"
);

pub mod design;
mod error;
#[cfg(not(loom))]
mod os;
#[cfg(not(loom))]
mod pipe;
mod pool;
mod primitive;
#[cfg(not(loom))]
mod process;
mod queue;
mod region;
mod sync;
#[cfg(all(feature = "testing", not(loom), target_arch = "x86_64"))]
pub mod testing;
mod value;

pub use error::{
    AcquireError, ArrayError, BarrierError, ClaimError, CodecError, ConditionError, HandleError, LockError,
    NewBarrierError, OnceError, PipeRecvError, PipeSendError, QueueEntryError, RecvError, RecvTimeoutError,
    RegionError, ReleaseError, RwLockError, SemaphoreError, SendError, SendManyError, SendTimeoutError,
    SpawnError, TaskDoneError, TryRecvError, TrySendError, WaitAnyError,
};
#[cfg(not(loom))]
pub use pipe::{Connection, PipeReader, PipeWriter, direction, duplex, pipe};
#[cfg(all(not(loom), feature = "progress"))]
pub use pool::Progress;
#[cfg(all(fuzzing, not(loom)))]
#[doc(hidden)]
pub use pool::fuzz_board;
#[cfg(not(loom))]
pub use pool::{
    AsyncResult, Carried, GetTimeoutError, Mapped, Pool, PoolBuilder, PoolError, PoolJoinError, PoolStats,
    TaskError, TaskLimits, TryApplyError, WorkerStats,
};
pub use primitive::Deadline;
#[cfg(any(loom, mutants))]
#[doc(hidden)]
pub use primitive::{Mutant, set_mutant};
#[cfg(not(loom))]
pub use process::{
    Builder, Child, Context, CurrentProcess, ExitStatus, Failure, Finalizer, Function, JoinError,
    JoinTimeoutError, Limit, NotParent, OnDrop, PanicLocation, ParentProcess, Process, Reaped, Reaper, Scope,
    ScopeError, Strategy, Stream, SuperviseError, Supervised, Supervisor, Usage, active_children, after_fork,
    current_process, init, parent_process, reap_now, scope,
};
pub use queue::{
    Bytes, Capacity, Channel, Codec, DeadLetter, IntoIter, Iter, JoinableBuilder, JoinableQueue, Message,
    Messages, PlainData, Queue, QueueReceiver, QueueSender, Receiver, Sender, Serde, Slot, Task, channel,
};
pub use region::{Plain, Region};
pub use sync::{
    Barrier, BarrierWaitResult, BoundedSemaphore, Condition, Event, Lock, LockGuard, Once, OnceValue, Permit,
    RLock, RLockGuard, RwLock, RwLockReadGuard, RwLockUpgradableGuard, RwLockWriteGuard, Semaphore,
    TimedWait, Waitable,
};
#[cfg(not(loom))]
pub use sync::{Source, try_wait_any, wait_any, wait_any_deadline, wait_any_timeout};
pub use value::{Array, ArrayGuard, Atomic, Integer, Value, ValueGuard};

/// The example of `README.md` is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
