//! Messages between processes: a ring that survives its users, and waiting on top.

mod batch;
mod capacity;
mod codec;
mod doorbell;
mod ends;
mod frame;
mod iter;
mod joinable;
mod lease;
mod party;
mod peers;
// The module's namesake is its main type; the folder holds its parts.
#[allow(clippy::module_inception, reason = "queue/queue.rs is where everybody looks for Queue")]
mod queue;
mod ring;
#[cfg(not(loom))]
mod source;
mod task;
mod tasks;

pub use capacity::Capacity;
pub use codec::{Codec, PlainData, Serde};
pub use iter::{IntoIter, Iter};
pub use joinable::{JoinableBuilder, JoinableQueue};
pub use party::{QueueReceiver, QueueSender};
pub use queue::Queue;
pub use task::{DeadLetter, Task};

#[cfg(all(test, loom))]
mod models;
