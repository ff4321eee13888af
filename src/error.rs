//! Every public error type and its message.

mod array;
mod barrier;
mod channel;
mod codec;
mod condition;
mod lock;
mod once;
mod process;
mod queue;
mod region;
mod rwlock;
mod semaphore;

pub use array::ArrayError;
pub use barrier::{BarrierError, NewBarrierError};
pub use channel::ClaimError;
pub use codec::CodecError;
pub use condition::ConditionError;
pub use lock::LockError;
pub use once::OnceError;
pub use process::SpawnError;
pub use queue::{
    RecvError, RecvTimeoutError, SendError, SendManyError, SendTimeoutError, TaskDoneError, TryRecvError,
    TrySendError,
};
pub use region::RegionError;
pub use rwlock::RwLockError;
pub use semaphore::{AcquireError, ReleaseError, SemaphoreError};
