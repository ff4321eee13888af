//! [`JoinableQueue`]: a queue that knows what is unfinished; the algorithm is in `queue/tasks.rs`.

use std::{fmt, iter, marker::PhantomData, time::Duration};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    error::{
        CodecError, RecvError, RecvTimeoutError, RegionError, SendError, SendTimeoutError, TaskDoneError,
        TryRecvError, TrySendError,
    },
    primitive::{Deadline, me},
    queue::{
        capacity::Capacity,
        codec::{Codec, PlainData, Scratch, Serde},
        ends::{Landing, NotReceived, RawQueue},
        queue::send,
        task::{DeadLetter, Held, Task},
        tasks::{Limits, NotGiven, RawTasks},
    },
    region::{Plain, Region, in_arena, portable},
    sync::Patience,
};

/// A queue of work: what is taken from it comes back until somebody has finished it.
///
/// `recv` gives a [`Task`], a guard around the item. Dropped, the item is finished; if its taker panics, ends or is
/// killed first, the next receiver gets it, with one more in [`Task::deliveries`], within the fraction of a
/// millisecond that the kernel takes for the news, also if that receiver sleeps. So an item is handed out *at least*
/// once, and counted as finished exactly once: a taker that is killed may have done what the item asked for and not yet
/// said so. An item that was handed out so often as [`deliveries`](JoinableBuilder::deliveries) says becomes a dead
/// letter, which [`dead_letters`](JoinableQueue::dead_letters) returns.
///
/// While they are taken, items lie in *places*: at most so many as [`takers`](JoinableBuilder::takers) says can be
/// taken at one time, and receivers wait until a place is free. What was given back comes before what was not yet
/// taken, or after a few of it. For sending, order and capacity see [`Queue`](crate::Queue). A *stopped* taker is not
/// dead.
///
/// It takes 640 bytes, the capacity, and for each place 64 bytes and the longest item. A clone is another handle to the
/// same queue.
///
/// # Examples
/// ```
/// let queue = pshared::JoinableQueue::new(4096)?;
/// queue.send("build".to_string()).unwrap();
/// let task = queue.recv().unwrap();
/// assert_eq!((task.as_str(), task.deliveries()), ("build", 1));
/// assert_eq!(queue.unfinished(), 1);
/// task.done();
/// queue.join();
/// # Ok::<(), pshared::RegionError>(())
/// ```
///
/// # References
/// Python `multiprocessing.JoinableQueue`, which never hears of the item that a killed worker had taken, so that `join`
/// does not return.
pub struct JoinableQueue<T, C = Serde> {
    raw: RawTasks,
    _codec: PhantomData<fn(T) -> (T, C)>,
}

/// What a [`JoinableQueue`] is to be like, beside its capacity.
///
/// # Examples
/// ```
/// use pshared::{Capacity, JoinableQueue};
///
/// let queue: JoinableQueue<String> =
///     JoinableQueue::builder(Capacity::bytes(1 << 16).items(100)).takers(8).deliveries(3).build()?;
/// # Ok::<(), pshared::RegionError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinableBuilder {
    capacity: Capacity,
    takers: usize,
    letters: usize,
    longest: Option<usize>,
    deliveries: u32,
}

impl JoinableBuilder {
    /// How many items can be taken at one time: 32 unless said otherwise. With the dead letters at most 126, because a
    /// receiver that sleeps must hear of each taker's death.
    pub fn takers(self, takers: usize) -> JoinableBuilder {
        JoinableBuilder { takers, ..self }
    }

    /// How often an item is handed out before it becomes a dead letter: for ever unless said otherwise.
    pub fn deliveries(self, deliveries: u32) -> JoinableBuilder {
        JoinableBuilder { deliveries, ..self }
    }

    /// How many dead letters are kept, 8 unless said otherwise. While there are so many, items that were given back too
    /// often are handed out again: none is ever thrown away.
    pub fn dead_letters(self, letters: usize) -> JoinableBuilder {
        JoinableBuilder { letters, ..self }
    }

    /// The longest item in encoded bytes, each place having room for one: 1024, or what the capacity allows, unless
    /// said otherwise. Plain data needs no telling.
    pub fn longest(self, bytes: usize) -> JoinableBuilder {
        JoinableBuilder { longest: Some(bytes), ..self }
    }

    fn limits<T, C: Codec<T>>(&self) -> Limits {
        Limits {
            takers: self.takers,
            letters: self.letters,
            longest: C::Landing::FIXED.or(self.longest).unwrap_or(1024).max(1),
            deliveries: self.deliveries.max(1),
        }
    }

    /// A queue of any serialisable type, in anonymous memory, which children forked from now on inherit.
    ///
    /// # Errors
    /// [`RegionError::ZeroSize`] for no capacity or no takers; [`RegionError::TooLarge`] for a capacity beyond 4 GiB or
    /// more than 126 takers and dead letters; else what [`Region::anonymous`] says.
    pub fn build<T: Serialize + DeserializeOwned>(self) -> Result<JoinableQueue<T>, RegionError> {
        self.make()
    }

    /// The same in `region`.
    ///
    /// # Errors
    /// As for [`build`](JoinableBuilder::build); [`RegionError::NoRoom`].
    pub fn build_in<T: Serialize + DeserializeOwned>(
        self,
        region: &Region,
    ) -> Result<JoinableQueue<T>, RegionError> {
        self.make_in(region)
    }

    /// A queue of plain data, which is copied as it is, in anonymous memory.
    ///
    /// # Errors
    /// As for [`build`](JoinableBuilder::build).
    pub fn build_plain<T: Plain>(self) -> Result<JoinableQueue<T, PlainData>, RegionError> {
        self.make()
    }

    /// The same in `region`.
    ///
    /// # Errors
    /// As for [`build`](JoinableBuilder::build); [`RegionError::NoRoom`].
    pub fn build_plain_in<T: Plain>(
        self,
        region: &Region,
    ) -> Result<JoinableQueue<T, PlainData>, RegionError> {
        self.make_in(region)
    }

    fn make<T, C: Codec<T>>(self) -> Result<JoinableQueue<T, C>, RegionError> {
        let need = RawTasks::footprint(self.capacity.without_peers().bounds()?, self.limits::<T, C>())?;
        in_arena(need, |region| self.make_in(region))
    }

    fn make_in<T, C: Codec<T>>(self, region: &Region) -> Result<JoinableQueue<T, C>, RegionError> {
        let raw = RawTasks::new_in(region, self.capacity.without_peers().bounds()?, self.limits::<T, C>())?;
        Ok(JoinableQueue { raw, _codec: PhantomData })
    }
}

impl JoinableQueue<()> {
    /// How the queue is to be like: `.build()` makes it.
    pub fn builder(capacity: impl Into<Capacity>) -> JoinableBuilder {
        let capacity = capacity.into();
        JoinableBuilder { capacity, takers: 32, letters: 8, longest: None, deliveries: u32::MAX }
    }
}

portable!(of (T, C) JoinableQueue<T, C> { raw, _codec });

impl<T: Serialize + DeserializeOwned> JoinableQueue<T> {
    /// A queue of any serialisable type, as the [`builder`](JoinableQueue::builder) makes it if nothing else is said.
    ///
    /// # Errors
    /// As for [`JoinableBuilder::build`].
    pub fn new(capacity: impl Into<Capacity>) -> Result<JoinableQueue<T>, RegionError> {
        JoinableQueue::builder(capacity).build()
    }

    /// The same in `region`.
    ///
    /// # Errors
    /// As for [`JoinableBuilder::build_in`].
    pub fn new_in(region: &Region, capacity: impl Into<Capacity>) -> Result<JoinableQueue<T>, RegionError> {
        JoinableQueue::builder(capacity).build_in(region)
    }
}

impl<T: Plain> JoinableQueue<T, PlainData> {
    /// As [`new`](JoinableQueue::new), for plain data, which is copied as it is.
    ///
    /// # Errors
    /// As for [`JoinableBuilder::build`].
    pub fn plain(capacity: impl Into<Capacity>) -> Result<JoinableQueue<T, PlainData>, RegionError> {
        JoinableQueue::builder(capacity).build_plain()
    }

    /// The same in `region`.
    ///
    /// # Errors
    /// As for [`JoinableBuilder::build_in`].
    pub fn plain_in(
        region: &Region,
        capacity: impl Into<Capacity>,
    ) -> Result<JoinableQueue<T, PlainData>, RegionError> {
        JoinableQueue::builder(capacity).build_plain_in(region)
    }
}

impl<T, C: Codec<T>> JoinableQueue<T, C> {
    fn queue(&self) -> &RawQueue {
        &self.raw.queue
    }

    /// Sends `value`, waiting for room as long as it takes. From then on it is unfinished.
    ///
    /// # Errors
    /// As for [`Queue::send`](crate::Queue::send).
    ///
    /// # References
    /// Python `JoinableQueue.put(obj)`.
    #[doc(alias = "put")]
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        Ok(send::<T, C>(self.queue(), self.max_message_len(), value, Patience::FOREVER)?)
    }

    /// Sends `value` if there is room now.
    ///
    /// # Errors
    /// As for [`Queue::try_send`](crate::Queue::try_send).
    #[doc(alias = "put_nowait")]
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        Ok(send::<T, C>(self.queue(), self.max_message_len(), value, Patience::None)?)
    }

    /// Sends `value`, waiting for room at most `timeout` (CLOCK_MONOTONIC, from the call; zero tries once).
    ///
    /// # Errors
    /// As for [`Queue::send_timeout`](crate::Queue::send_timeout).
    pub fn send_timeout(&self, value: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        self.send_deadline(value, Deadline::after(timeout))
    }

    /// Sends `value`, waiting for room at most until `deadline`.
    ///
    /// # Errors
    /// As for [`send_timeout`](JoinableQueue::send_timeout).
    pub fn send_deadline(&self, value: T, deadline: Deadline) -> Result<(), SendTimeoutError<T>> {
        let patience = Patience::Until(Some(deadline));
        Ok(send::<T, C>(self.queue(), self.max_message_len(), value, patience)?)
    }

    /// Takes an item, waiting for one, and for a place to work on it, as long as it takes.
    ///
    /// # Errors
    /// - [`RecvError::Closed`] when the queue is closed and empty, and nobody else holds an item that might come
    ///   back. A thread that holds a task itself does not wait for those of others: it is told at once.
    /// - [`RecvError::TooManyTasks`]: every place is held by this thread; or it holds 2,040 locks.
    /// - [`RecvError::Decode`] for an item that is no `T`: it is finished, and gone. [`RecvError::OutOfMemory`] for one
    ///   that this process has no room for, which stays.
    ///
    /// # References
    /// Python `JoinableQueue.get()`.
    #[doc(alias = "get")]
    pub fn recv(&self) -> Result<Task<'_, T>, RecvError> {
        match self.take(Patience::FOREVER) {
            Ok(task) => task.map_err(RecvError::Decode),
            Err(NotGiven::TooMany(held)) => Err(RecvError::TooManyTasks { held }),
            Err(NotGiven::Queue(why)) => Err(why.into()),
        }
    }

    /// Takes an item if there are one and a place now. It judges by them; if another process is in the middle of
    /// taking, it waits for that at most a millisecond.
    ///
    /// # Errors
    /// [`TryRecvError::Empty`], and as for [`recv`](JoinableQueue::recv).
    #[doc(alias = "get_nowait")]
    pub fn try_recv(&self) -> Result<Task<'_, T>, TryRecvError> {
        match self.take(Patience::None) {
            Ok(task) => task.map_err(TryRecvError::Decode),
            Err(NotGiven::TooMany(held)) => Err(TryRecvError::TooManyTasks { held }),
            Err(NotGiven::Queue(why)) => Err(why.into()),
        }
    }

    /// Takes an item, waiting at most `timeout` (CLOCK_MONOTONIC, from the call; zero tries once).
    ///
    /// # Errors
    /// [`RecvTimeoutError::TimedOut`], and as for [`recv`](JoinableQueue::recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Task<'_, T>, RecvTimeoutError> {
        self.recv_deadline(Deadline::after(timeout))
    }

    /// Takes an item, waiting at most until `deadline`.
    ///
    /// # Errors
    /// As for [`recv_timeout`](JoinableQueue::recv_timeout).
    pub fn recv_deadline(&self, deadline: Deadline) -> Result<Task<'_, T>, RecvTimeoutError> {
        match self.take(Patience::Until(Some(deadline))) {
            Ok(task) => task.map_err(RecvTimeoutError::Decode),
            Err(NotGiven::TooMany(held)) => Err(RecvTimeoutError::TooManyTasks { held }),
            Err(NotGiven::Queue(why)) => Err(why.into()),
        }
    }

    fn take(&self, patience: Patience) -> Result<Result<Task<'_, T>, CodecError>, NotGiven> {
        let mut copy = Scratch::borrow();
        let taken = self.raw.take(&mut copy, patience)?;
        // Held from here on: a panic while it is decoded gives it back.
        let held = Held::new(&self.raw, taken);
        Ok(C::read(&copy).map(|item| Task::new(item, held)))
    }

    /// Finishes the oldest task that this thread took out of its guard by [`Task::into_inner`].
    ///
    /// # Errors
    /// [`TaskDoneError::TooMany`] if there is none.
    ///
    /// # References
    /// Python `JoinableQueue.task_done()`, where a ValueError is all that tells.
    pub fn task_done(&self) -> Result<(), TaskDoneError> {
        if self.raw.finish_kept(me()) { Ok(()) } else { Err(TaskDoneError::TooMany) }
    }

    /// Waits until all that was sent is finished, or a dead letter, as long as it takes. It returns when it sees that:
    /// where work is sent without end, a moment in which there is none can pass unseen.
    ///
    /// # References
    /// Python `JoinableQueue.join()`.
    pub fn join(&self) {
        self.raw.join(None);
    }

    /// As [`join`](JoinableQueue::join), waiting at most `timeout`. Says whether all is finished.
    pub fn join_timeout(&self, timeout: Duration) -> bool {
        self.join_deadline(Deadline::after(timeout))
    }

    /// As [`join`](JoinableQueue::join), waiting at most until `deadline`. Says whether all is finished.
    pub fn join_deadline(&self, deadline: Deadline) -> bool {
        self.raw.join(Some(deadline))
    }

    /// How many were sent and are neither finished nor dead letters: exact at some instant of the call.
    pub fn unfinished(&self) -> usize {
        self.raw.unfinished() as usize
    }

    /// Takes the dead letters out of the queue, one by one.
    ///
    /// # Errors
    /// In place of a letter: [`RecvError::Decode`] for one that is no `T`, which is gone; [`RecvError::OutOfMemory`];
    /// as the last, [`RecvError::Damaged`].
    pub fn dead_letters(&self) -> impl Iterator<Item = Result<DeadLetter<T>, RecvError>> + '_ {
        let mut is_damaged = false;
        iter::from_fn(move || {
            let mut copy = Scratch::borrow();
            match self.raw.open_letter(&mut copy) {
                _ if is_damaged => None,
                Ok(None) => None,
                Ok(Some(deliveries)) => {
                    let letter = C::read(&copy).map(|item| DeadLetter { item, deliveries });
                    Some(letter.map_err(RecvError::Decode))
                }
                Err(NotGiven::Queue(why)) => {
                    is_damaged = matches!(why, NotReceived::Damaged(_));
                    Some(Err(why.into()))
                }
                Err(NotGiven::TooMany(_)) => None,
            }
        })
    }

    /// Ends sending, in every process: senders get their value back, receivers finish what there is, and then see
    /// `Closed`. All who wait wake up. Closing again does nothing.
    pub fn close(&self) {
        self.queue().close();
    }

    /// Whether somebody closed it.
    pub fn is_closed(&self) -> bool {
        self.queue().is_closed()
    }

    /// How many items were never taken: exact at some instant of the call.
    #[doc(alias = "qsize")]
    pub fn len(&self) -> usize {
        self.queue().len()
    }

    /// Whether every item was taken, at some instant of the call.
    #[doc(alias = "empty")]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether not even the shortest item would be accepted, at some instant of the call.
    #[doc(alias = "full")]
    pub fn is_full(&self) -> bool {
        self.queue().is_full_for(C::SHORTEST)
    }

    /// The size of its buffer in bytes: what was asked for, rounded up to a multiple of 64.
    pub fn capacity(&self) -> usize {
        self.queue().capacity()
    }

    /// The longest item it can hold, in encoded bytes.
    pub fn max_message_len(&self) -> usize {
        self.raw.max_len()
    }
}

impl<T, C> Clone for JoinableQueue<T, C> {
    fn clone(&self) -> JoinableQueue<T, C> {
        JoinableQueue { raw: self.raw.clone(), _codec: PhantomData }
    }
}

impl<T, C> fmt::Debug for JoinableQueue<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sending, receiving) = self.raw.queue.locks();
        f.debug_struct("JoinableQueue")
            .field("unfinished", &self.raw.unfinished())
            .field("len", &self.raw.queue.len())
            .field("held", &self.raw.held())
            .field("dead_letters", &self.raw.letters())
            .field("capacity", &self.raw.queue.capacity())
            .field("closed", &self.raw.queue.is_closed())
            .field("sending", &sending)
            .field("receiving", &receiving)
            .finish()
    }
}
