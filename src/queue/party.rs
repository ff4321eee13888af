//! [`QueueSender`] and [`QueueReceiver`]: threads that have registered at a queue; how that works is in `peers.rs`.

use std::{fmt, marker::PhantomData, ops::Deref};

use crate::{
    error::QueueEntryError,
    primitive::{me, me_if},
    queue::{
        peers::{NotEntered, Party, Peers},
        queue::Queue,
    },
};

impl<T, C> Queue<T, C> {
    /// Registers the calling thread as a sender, until the returned handle is dropped, the thread ends, or its process
    /// is killed. The handle is the queue, and sends.
    ///
    /// When senders have registered and all of them have ended, whoever receives from the empty queue is told
    /// `Disconnected`, at once, also if it sleeps. That holds until a sender registers again. So register the next one
    /// before the last one ends: a parent that forks its senders one by one should be one itself until all have
    /// registered. Who does not register can send all the same, and nobody waits for it. The copy of a handle that a
    /// fork makes is no registration: the child registers itself.
    ///
    /// Of senders there can be as many at one time as [`Capacity::peers`](crate::Capacity::peers) says, which is none
    /// unless it was asked for. Never waits.
    ///
    /// # Errors
    /// [`QueueEntryError::Full`], [`QueueEntryError::TooManyHeld`].
    ///
    /// # Examples
    /// ```
    /// use pshared::{Capacity, Queue, RecvError};
    ///
    /// let queue = Queue::new(Capacity::bytes(4096).peers(4))?;
    /// let sender = queue.sender().unwrap();
    /// sender.send(1).unwrap();
    /// drop(sender);
    /// assert_eq!(queue.recv(), Ok(1));
    /// assert_eq!(queue.recv(), Err(RecvError::Disconnected));
    /// # Ok::<(), pshared::RegionError>(())
    /// ```
    ///
    /// A registration is its thread's, and ends with it, so it goes to no other:
    ///
    /// ```compile_fail,E0277
    /// let queue = pshared::Queue::<u8>::new(pshared::Capacity::bytes(64).peers(1)).unwrap();
    /// let sender = queue.sender().unwrap();
    /// std::thread::spawn(move || drop(sender));
    /// ```
    ///
    /// # References
    /// The end of a channel in crossbeam-channel; Python's `Queue` has none.
    pub fn sender(&self) -> Result<QueueSender<T, C>, QueueEntryError> {
        Ok(QueueSender { stay: Stay::begin(self, Peers::senders)? })
    }

    /// Registers the calling thread as a receiver, until the returned handle is dropped, the thread ends, or its
    /// process is killed. The handle is the queue, and receives.
    ///
    /// When receivers have registered and all of them have ended, whoever sends is told `Disconnected`, at once, also
    /// if it waits for room; until a receiver registers again. For the rest see [`sender`](Queue::sender).
    ///
    /// # Errors
    /// As for [`sender`](Queue::sender).
    pub fn receiver(&self) -> Result<QueueReceiver<T, C>, QueueEntryError> {
        Ok(QueueReceiver { stay: Stay::begin(self, Peers::receivers)? })
    }
}

/// A thread's registration. Dropped, it ends; a copy that a fork made does nothing.
struct Stay<T, C> {
    queue: Queue<T, C>,
    party: fn(&Peers) -> Party<'_>,
    place: usize,
    identity: u64,
    /// It belongs to a thread, whose end is its end.
    _thread: PhantomData<*const ()>,
}

impl<T, C> Stay<T, C> {
    fn begin(queue: &Queue<T, C>, party: fn(&Peers) -> Party<'_>) -> Result<Stay<T, C>, QueueEntryError> {
        let peers = queue.raw.peers().ok_or(QueueEntryError::Full { room: 0 })?;
        let party_there = party(peers);
        let place = party_there.enter().map_err(|reason| match reason {
            NotEntered::Crowded => QueueEntryError::Full { room: party_there.room() },
            NotEntered::TooMany(held) => QueueEntryError::TooManyHeld { held },
        })?;
        Ok(Stay { queue: queue.clone(), party, place, identity: me().identity(), _thread: PhantomData })
    }
}

impl<T, C> Drop for Stay<T, C> {
    fn drop(&mut self) {
        if let Some(peers) = self.queue.raw.peers()
            && me_if(self.identity).is_some()
        {
            (self.party)(peers).leave(self.place);
        }
    }
}

/// A thread that has registered as a sender: see [`Queue::sender`].
#[must_use = "dropped at once, it is as if all senders had ended"]
pub struct QueueSender<T, C> {
    stay: Stay<T, C>,
}

/// A thread that has registered as a receiver: see [`Queue::receiver`].
#[must_use = "dropped at once, it is as if all receivers had ended"]
pub struct QueueReceiver<T, C> {
    stay: Stay<T, C>,
}

impl<T, C> Deref for QueueSender<T, C> {
    type Target = Queue<T, C>;

    fn deref(&self) -> &Queue<T, C> {
        &self.stay.queue
    }
}

impl<T, C> Deref for QueueReceiver<T, C> {
    type Target = Queue<T, C>;

    fn deref(&self) -> &Queue<T, C> {
        &self.stay.queue
    }
}

impl<T, C> fmt::Debug for QueueSender<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("QueueSender").field(&self.stay.queue).finish()
    }
}

impl<T, C> fmt::Debug for QueueReceiver<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("QueueReceiver").field(&self.stay.queue).finish()
    }
}
