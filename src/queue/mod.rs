//! Messages between processes: a ring that survives its users, and waiting on top.

mod batch;
mod capacity;
mod channel;
mod claim;
mod codec;
mod doorbell;
mod ends;
mod frame;
mod held;
mod in_place;
mod iter;
mod joinable;
mod lane;
mod lease;
mod party;
mod peers;
// The module's namesake is its main type; the folder holds its parts.
#[allow(clippy::module_inception, reason = "queue/queue.rs is where everybody looks for Queue")]
mod queue;
mod receiver;
mod ring;
mod sender;
#[cfg(not(loom))]
mod source;
mod task;
mod tasks;

pub use capacity::Capacity;
pub use channel::{Channel, channel};
pub use codec::{Bytes, Codec, PlainData, Serde};
pub use in_place::{Message, Slot};
pub use iter::{IntoIter, Iter};
pub use joinable::{JoinableBuilder, JoinableQueue};
pub use party::{QueueReceiver, QueueSender};
pub use queue::Queue;
pub use receiver::{Messages, Receiver};
pub use sender::Sender;
pub use task::{DeadLetter, Task};

#[cfg(all(test, loom))]
mod models;
