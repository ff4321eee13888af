//! [`Capacity`]: how much a queue holds.

use crate::{
    error::RegionError,
    queue::ends::{Bounds, RawQueue},
};

/// How much a queue holds: so many bytes, and, if that is asked for, so many messages.
///
/// A number stands for bytes: `Queue::new(4096)`. A message takes 8 bytes and its own length, rounded up to a multiple
/// of 8.
///
/// # Examples
/// ```
/// use pshared::{Capacity, Queue};
///
/// let queue = Queue::new(Capacity::bytes(4096).items(2))?;
/// queue.send("one".to_string()).unwrap();
/// queue.send("two".to_string()).unwrap();
/// assert!(queue.is_full());
/// # Ok::<(), pshared::RegionError>(())
/// ```
///
/// # References
/// Python `Queue(maxsize)`, which counts messages alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(alias = "maxsize")]
pub struct Capacity {
    bytes: usize,
    items: Option<usize>,
    peers: usize,
}

impl Capacity {
    /// At least so many bytes.
    pub fn bytes(bytes: usize) -> Capacity {
        Capacity { bytes, items: None, peers: 0 }
    }

    /// At most so many messages, too: what is reached first bounds the queue.
    pub fn items(self, items: usize) -> Capacity {
        Capacity { items: Some(items), ..self }
    }

    /// Room for so many registered senders and as many registered receivers at one time, at most 4096 of each: see
    /// [`Queue::sender`](crate::Queue::sender). It takes 64 bytes for each of them, and 192 more. To a
    /// [`JoinableQueue`](crate::JoinableQueue) it means nothing.
    pub fn peers(self, peers: usize) -> Capacity {
        Capacity { peers, ..self }
    }

    /// The same, without peers.
    pub(super) fn without_peers(self) -> Capacity {
        Capacity { peers: 0, ..self }
    }

    pub(super) fn bounds(self) -> Result<Bounds, RegionError> {
        RawQueue::bounds(self.bytes, self.items, self.peers)
    }
}

impl From<usize> for Capacity {
    fn from(bytes: usize) -> Capacity {
        Capacity::bytes(bytes)
    }
}
