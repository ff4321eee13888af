//! [`AsyncResult`]: a task that was given to a pool, until somebody asks what came of it.

use std::{fmt, marker::PhantomData, sync::Arc, time::Duration};

use crate::{
    pool::{
        error::{GetTimeoutError, TaskError},
        table::{Inbox, Inner, Outcome},
    },
    primitive::Deadline,
};

/// What will come of a task, or of several.
///
/// Dropped, the task is done all the same, and its value dropped. The task occupies a place in the pool until it is
/// done; its value is moved out of the way when somebody needs the place.
///
/// # References
/// Python `multiprocessing.pool.AsyncResult`.
#[must_use = "a result that is not asked for is dropped"]
pub struct AsyncResult<R> {
    pool: Arc<Inner>,
    parts: Vec<Part>,
    /// Puts the outcomes of all parts together.
    assemble: fn(Vec<Whole>) -> Result<R, TaskError>,
    _value: PhantomData<fn() -> R>,
}

/// One slot's worth of it.
pub(super) struct Part {
    pub(super) slot: usize,
    pub(super) inbox: Arc<Inbox>,
    pub(super) items: usize,
}

/// What came of a part, and of how many items.
pub(super) type Whole = (Result<Outcome, TaskError>, usize);

impl<R> AsyncResult<R> {
    pub(super) fn new(
        pool: Arc<Inner>,
        parts: Vec<Part>,
        assemble: fn(Vec<Whole>) -> Result<R, TaskError>,
    ) -> AsyncResult<R> {
        AsyncResult { pool, parts, assemble, _value: PhantomData }
    }

    /// Has another part.
    pub(super) fn add(&mut self, part: Part) {
        self.parts.push(part);
    }

    /// Waits until it is done, one way or the other, as long as it takes.
    pub fn wait(&self) {
        self.wait_until(None);
    }

    /// The same, waiting at most `timeout` (CLOCK_MONOTONIC, from the call; zero looks once). Says whether it is done.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.wait_until(Some(Deadline::after(timeout)))
    }

    /// The same, waiting at most until `deadline`.
    pub fn wait_deadline(&self, deadline: Deadline) -> bool {
        self.wait_until(Some(deadline))
    }

    /// Whether it is done, one way or the other; never blocks.
    #[doc(alias = "ready")]
    pub fn is_ready(&self) -> bool {
        self.wait_until(Some(Deadline::now()))
    }

    fn wait_until(&self, deadline: Option<Deadline>) -> bool {
        // What never will be is over.
        self.parts.iter().all(|part| self.pool.await_task(part.slot, &part.inbox, deadline).unwrap_or(true))
    }

    /// Waits for the value, as long as it takes.
    ///
    /// # Errors
    /// [`TaskError`].
    pub fn get(self) -> Result<R, TaskError> {
        self.wait();
        self.finish()
    }

    /// The same, waiting at most `timeout` (CLOCK_MONOTONIC, from the call; zero looks once). The task goes on if that
    /// is too short.
    ///
    /// # Errors
    /// [`GetTimeoutError::TimedOut`] with the handle inside; [`GetTimeoutError::Failed`].
    pub fn get_timeout(self, timeout: Duration) -> Result<R, GetTimeoutError<R>> {
        self.get_deadline(Deadline::after(timeout))
    }

    /// The same, waiting at most until `deadline`.
    ///
    /// # Errors
    /// As for [`get_timeout`](AsyncResult::get_timeout).
    pub fn get_deadline(self, deadline: Deadline) -> Result<R, GetTimeoutError<R>> {
        if self.wait_until(Some(deadline)) {
            self.finish().map_err(GetTimeoutError::Failed)
        } else {
            Err(GetTimeoutError::TimedOut(self))
        }
    }

    /// Puts an end to it: what no worker has begun is withdrawn, and a worker that is at it is killed and replaced.
    /// False if all of it was done before.
    ///
    /// Never waits. It may still come to its value if it is done before its worker is killed: what counts is what
    /// [`get`](AsyncResult::get) says, which is then [`TaskError::Cancelled`] or the value.
    pub fn cancel(&self) -> bool {
        let cancelled = self.parts.iter().filter(|part| self.pool.cancel(part.slot, &part.inbox));
        cancelled.count() > 0
    }

    /// Has `callback` given what comes of it, in place of whoever would ask: once, in a thread of this process.
    ///
    /// There is no helper thread. If it is done, the callback is called now. Else by a thread that waits for the pool,
    /// for whatever: in `get`, `wait`, `apply`, `map`, the iterators, `join`, or for a place for a task; or by
    /// [`Pool::poll`](crate::Pool::poll), [`Pool::terminate`](crate::Pool::terminate) and the pool's drop, after which
    /// nothing is left uncalled. Calls that never wait call none, nor does a thread that is in a callback.
    ///
    /// A callback may use the pool and take its time: that holds up the thread that is in it, whose time limits do not
    /// count meanwhile, and [`Pool::join`](crate::Pool::join), which waits until all have returned; nobody else. It
    /// must not want a lock that its thread holds while it waits for the pool. One that panics is stopped there: its
    /// message goes where those of panics go, and [`PoolStats::callbacks_panicked`](crate::PoolStats) counts it.
    ///
    /// # Examples
    /// ```standalone_crate
    /// use std::sync::mpsc;
    /// use pshared::Pool;
    ///
    /// let pool = Pool::new()?;
    /// let (sender, receiver) = mpsc::channel();
    /// for n in 1..=3_u64 {
    ///     let sender = sender.clone();
    ///     pool.apply_async(|n: u64| n * n, n)?.then(move |square| sender.send(square.unwrap()).unwrap());
    /// }
    /// pool.close();
    /// pool.join()?;
    /// assert_eq!(receiver.try_iter().sum::<u64>(), 14);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # References
    /// Python `apply_async(callback, error_callback)`, whose helper thread ends for good when a callback raises: then
    /// all who wait hang.
    #[doc(alias = "callback")]
    #[doc(alias = "error_callback")]
    #[doc(alias = "add_done_callback")]
    pub fn then(mut self, callback: impl FnOnce(Result<R, TaskError>) + Send + 'static)
    where
        R: 'static,
    {
        let (parts, assemble) = (std::mem::take(&mut self.parts), self.assemble);
        self.pool.call_when_done(parts, Box::new(move |wholes| callback(assemble(wholes))));
    }

    fn finish(mut self) -> Result<R, TaskError> {
        let parts = std::mem::take(&mut self.parts);
        let whole = parts.into_iter().map(|part| {
            let outcome = part.inbox.take().unwrap_or_else(|| {
                self.pool.disown(part.slot, &part.inbox);
                Err(self.pool.breakage().unwrap_or(TaskError::NotParent))
            });
            (outcome, part.items)
        });
        let whole = whole.collect();
        (self.assemble)(whole)
    }
}

impl<R> Drop for AsyncResult<R> {
    fn drop(&mut self) {
        for part in &self.parts {
            self.pool.disown(part.slot, &part.inbox);
        }
    }
}

impl<R> fmt::Debug for AsyncResult<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncResult")
            .field("ready", &self.is_ready())
            .field("parts", &self.parts.len())
            .finish()
    }
}
