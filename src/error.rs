//! Every public error type and its message.

mod array;
mod barrier;
mod channel;
mod codec;
mod condition;
mod handle;
mod lock;
mod once;
mod pipe;
mod process;
mod queue;
mod region;
mod rwlock;
mod semaphore;
mod wait;

pub use array::ArrayError;
pub use barrier::{BarrierError, NewBarrierError};
pub use channel::ClaimError;
pub use codec::CodecError;
pub use condition::ConditionError;
pub use handle::HandleError;
pub use lock::LockError;
pub use once::OnceError;
pub use pipe::{PipeRecvError, PipeSendError};
pub use process::SpawnError;
pub use queue::{
    QueueEntryError, RecvError, RecvTimeoutError, SendError, SendManyError, SendTimeoutError, TaskDoneError,
    TryRecvError, TrySendError,
};
pub use region::RegionError;
pub use rwlock::RwLockError;
pub use semaphore::{AcquireError, ReleaseError, SemaphoreError};
pub use wait::WaitAnyError;
