//! Messages one after the other, until the queue is closed and empty.

use crate::{
    error::{RecvError, TryRecvError},
    queue::{codec::Codec, queue::Queue},
};

impl<T, C: Codec<T>> Queue<T, C> {
    /// Receives message after message, waiting for each, and ends when the queue is closed and empty, or
    /// all registered senders have ended and it is empty. What else can go
    /// wrong with a message comes in its place.
    ///
    /// # Examples
    /// ```
    /// let queue = pshared::Queue::new(4096)?;
    /// queue.send(1).unwrap();
    /// queue.send(2).unwrap();
    /// queue.close();
    /// let sum: Result<i32, _> = queue.iter().sum();
    /// assert_eq!(sum, Ok(3));
    /// # Ok::<(), pshared::RegionError>(())
    /// ```
    pub fn iter(&self) -> Iter<'_, T, C> {
        Iter { queue: self }
    }

    /// Receives message after message, as long as there are any, without waiting.
    pub fn try_iter(&self) -> impl Iterator<Item = Result<T, RecvError>> + '_ {
        std::iter::from_fn(|| match self.try_recv() {
            Ok(message) => Some(Ok(message)),
            Err(TryRecvError::Empty | TryRecvError::Closed | TryRecvError::Disconnected) => None,
            Err(TryRecvError::Decode(source)) => Some(Err(RecvError::Decode(source))),
            Err(TryRecvError::OutOfMemory { len }) => Some(Err(RecvError::OutOfMemory { len })),
            Err(TryRecvError::TooManyTasks { held }) => Some(Err(RecvError::TooManyTasks { held })),
            // Of channels.
            Err(TryRecvError::Claim(_) | TryRecvError::Damaged { .. }) => None,
        })
    }
}

/// What [`Queue::iter`] returns.
#[derive(Debug)]
pub struct Iter<'a, T, C> {
    queue: &'a Queue<T, C>,
}

/// A [`Queue`] that is iterated over by value.
#[derive(Debug)]
pub struct IntoIter<T, C> {
    queue: Queue<T, C>,
}

fn next<T, C: Codec<T>>(queue: &Queue<T, C>) -> Option<Result<T, RecvError>> {
    match queue.recv() {
        Err(RecvError::Closed | RecvError::Disconnected) => None,
        received => Some(received),
    }
}

impl<T, C: Codec<T>> Iterator for Iter<'_, T, C> {
    type Item = Result<T, RecvError>;

    fn next(&mut self) -> Option<Self::Item> {
        next(self.queue)
    }
}

impl<T, C: Codec<T>> Iterator for IntoIter<T, C> {
    type Item = Result<T, RecvError>;

    fn next(&mut self) -> Option<Self::Item> {
        next(&self.queue)
    }
}

impl<'a, T, C: Codec<T>> IntoIterator for &'a Queue<T, C> {
    type Item = Result<T, RecvError>;
    type IntoIter = Iter<'a, T, C>;

    fn into_iter(self) -> Iter<'a, T, C> {
        self.iter()
    }
}

impl<T, C: Codec<T>> IntoIterator for Queue<T, C> {
    type Item = Result<T, RecvError>;
    type IntoIter = IntoIter<T, C>;

    fn into_iter(self) -> IntoIter<T, C> {
        IntoIter { queue: self }
    }
}
