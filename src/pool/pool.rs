//! [`Pool`]: what its user holds.

use std::{
    fmt,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
    time::Duration,
};

use crate::{
    pool::{
        board::{MOST_WORKERS, Orders},
        builder::PoolBuilder,
        call,
        carry::Carried,
        error::{PoolError, PoolJoinError, TaskError, TryApplyError},
        flow::{Flow, Landed, Mapped},
        limits::TaskLimits,
        outcome::{decode, decode_many},
        result::{AsyncResult, Part, Whole},
        stats::PoolStats,
        table::{Inner, NoSlot, Stage, Wait},
    },
    primitive::{Deadline, Release},
};

/// How long a supervisor may take to end its workers when it is told to.
const GRACE: Duration = Duration::from_secs(2);

/// Worker processes that run functions, whatever dies.
///
/// A task is a function and an argument. Functions are fn items and closures that capture nothing: nothing of them is
/// sent but where they are. Arguments and values go as [`Carried`] says. What a worker is to have beside that, it
/// inherits: captured by the [`initializer`](PoolBuilder::initializer), or shared, as everything in this crate is.
///
/// When a worker is killed, the task that it was at fails with [`TaskError::WorkerDied`], which tells the task, the
/// signal and more, or is tried again if the pool was made so ([`PoolBuilder::retries`]). No other task is lost or
/// done twice, and the worker is replaced at once. Workers are the children of a *supervisor*, a process of the pool's:
/// when that is killed the workers end with it, and all who wait are told [`TaskError::SupervisorDied`]. When this
/// process ends in whatever way, the supervisor ends, and its workers with it.
///
/// There is no helper thread: what is settled stays in shared memory until somebody asks. Many threads may use a pool.
/// By fork it is made in a program with one thread; one with more needs [`PoolBuilder::context`]. Copies are idle.
///
/// Dropped, it is terminated: see [`terminate`](Pool::terminate).
///
/// # Examples
/// ```standalone_crate
/// use pshared::Pool;
///
/// let pool = Pool::new()?;
/// let squares = pool.map(|n: u64| n * n, 0..5)?;
/// assert_eq!(squares, [0, 1, 4, 9, 16]);
///
/// let later = pool.apply_async(|name: String| format!("hello {name}"), "ann".to_string())?;
/// assert_eq!(later.get()?, "hello ann");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A closure that captures something is refused by the compiler:
/// ```compile_fail
/// let base = 5;
/// let pool = pshared::Pool::new().unwrap();
/// pool.apply(move |n: u64| n + base, 1);
/// ```
///
/// # References
/// Python `multiprocessing.Pool`, in which the task of a killed worker never ends; `concurrent.futures`'
/// `ProcessPoolExecutor`, which is broken for ever by one.
#[must_use = "a pool that is dropped is terminated"]
pub struct Pool {
    pub(super) inner: Arc<Inner>,
}

impl Pool {
    /// A pool with as many workers as this process has CPUs, by its affinity and its quota.
    ///
    /// # Errors
    /// As for [`PoolBuilder::build`].
    pub fn new() -> Result<Pool, PoolError> {
        Pool::builder().build()
    }

    /// A pool to be.
    pub fn builder() -> PoolBuilder {
        PoolBuilder::new()
    }

    pub(super) fn of(inner: Arc<Inner>) -> Pool {
        Pool { inner }
    }

    /// Has a worker call `function` with `argument`, and waits for the value.
    ///
    /// Waits for a place first, as [`apply_async`](Pool::apply_async) does.
    ///
    /// # Errors
    /// [`TaskError`].
    pub fn apply<F, A, R>(&self, function: F, argument: A) -> Result<R, TaskError>
    where
        F: Fn(A) -> R + Copy + 'static,
        A: Carried,
        R: Carried,
    {
        let mut value = Err(TaskError::PoolClosed);
        let mut argument = Some(argument);
        let flow = Flow::<A, R>::new(&self.inner, function, 1, 1);
        flow.run(
            || argument.take(),
            |landed| {
                if let Landed::One(landed) = landed {
                    value = landed;
                }
            },
        )?;
        value
    }

    /// Has a worker call `function` with `argument`, some time.
    ///
    /// Waits only if as many tasks as there can be are under way ([`PoolBuilder::bound`]), until one of them is done.
    /// Tasks are begun in the order in which they were given.
    ///
    /// # Errors
    /// [`TaskError::PoolClosed`], [`TaskError::Encode`], and what says that nothing will be done any more.
    ///
    /// # Panics
    /// When the encoding of `argument` does.
    ///
    /// # References
    /// Python `Pool.apply_async`, whose queue has no bound.
    #[doc(alias = "submit")]
    pub fn apply_async<F, A, R>(&self, function: F, argument: A) -> Result<AsyncResult<R>, TaskError>
    where
        F: Fn(A) -> R + Copy + 'static,
        A: Carried,
        R: Carried,
    {
        self.submit(function, &argument, None, Wait::Forever).map_err(TaskError::from)
    }

    /// The same, within limits of its own.
    ///
    /// # Errors
    /// As for [`apply_async`](Pool::apply_async).
    pub fn apply_async_within<F, A, R>(
        &self,
        limits: TaskLimits,
        function: F,
        argument: A,
    ) -> Result<AsyncResult<R>, TaskError>
    where
        F: Fn(A) -> R + Copy + 'static,
        A: Carried,
        R: Carried,
    {
        self.submit(function, &argument, Some(limits), Wait::Forever).map_err(TaskError::from)
    }

    /// As [`apply_async`](Pool::apply_async), if that needs no waiting.
    ///
    /// # Errors
    /// [`TryApplyError::Full`] with the argument inside; else as for [`apply_async`](Pool::apply_async).
    pub fn try_apply_async<F, A, R>(
        &self,
        function: F,
        argument: A,
    ) -> Result<AsyncResult<R>, TryApplyError<A>>
    where
        F: Fn(A) -> R + Copy + 'static,
        A: Carried,
        R: Carried,
    {
        self.submit(function, &argument, None, Wait::No).map_err(|refused| match refused {
            NoSlot::Full => TryApplyError::Full(argument),
            NoSlot::Failed(error) => TryApplyError::Failed(error),
        })
    }

    fn submit<F, A, R>(
        &self,
        _function: F,
        argument: &A,
        limits: Option<TaskLimits>,
        wait: Wait,
    ) -> Result<AsyncResult<R>, NoSlot>
    where
        F: Fn(A) -> R + Copy + 'static,
        A: Carried,
        R: Carried,
    {
        let number = call::number(call::one::<F, A, R>);
        let part = self.give(number, argument, limits, wait, 1)?;
        let assemble = |mut parts: Vec<Whole>| match parts.pop() {
            Some((Ok(mut outcome), _)) => {
                decode(outcome.word, outcome.cell, &mut outcome.bytes, outcome.task)
            }
            Some((Err(error), _)) => Err(error),
            None => Err(TaskError::PoolClosed),
        };
        Ok(AsyncResult::new(self.inner.clone(), vec![part], assemble))
    }

    /// Gives one slot's worth to the pool.
    fn give<A: Carried>(
        &self,
        function: u64,
        argument: &A,
        limits: Option<TaskLimits>,
        wait: Wait,
        items: usize,
    ) -> Result<Part, NoSlot> {
        let mut slots = Vec::with_capacity(1);
        self.inner.reserve(function, 1, wait, &mut slots)?;
        let slot = slots[0];
        // Encoding is foreign code, and may panic.
        let put = catch_unwind(AssertUnwindSafe(|| self.inner.put(slot, argument, limits)));
        if !matches!(put, Ok(Ok(()))) {
            self.inner.release(slots, 0, 0);
        }
        put.unwrap_or_else(|payload| resume_unwind(payload)).map_err(NoSlot::Failed)?;
        let inbox = self.inner.entrust(slot);
        self.inner.publish(&[slot]);
        Ok(Part { slot, inbox, items })
    }

    /// Calls `function` with each of the `items`, and gives the values in their order.
    ///
    /// Items go to workers in chunks: a quarter of each worker's share at a time, as in Python. All are done, also
    /// when one fails. A killed worker costs its chunk.
    ///
    /// # Errors
    /// The first error in the order of the items.
    ///
    /// # Panics
    /// When `items` does.
    ///
    /// # References
    /// Python `Pool.map`, and `Pool.starmap`: a function of several arguments takes a tuple.
    #[doc(alias = "starmap")]
    pub fn map<F, A, R>(&self, function: F, items: impl IntoIterator<Item = A>) -> Result<Vec<R>, TaskError>
    where
        F: Fn(A) -> R + Copy + 'static,
        A: Carried,
        R: Carried,
    {
        let items = items.into_iter();
        match items.size_hint() {
            (least, Some(most)) if least == most => self.map_in(function, items, self.usual_chunk(least)),
            _ => {
                let items: Vec<A> = items.collect();
                let chunk = self.usual_chunk(items.len());
                self.map_in(function, items.into_iter(), chunk)
            }
        }
    }

    /// The same in chunks of so many items: 1 lets a killed worker cost one item.
    ///
    /// # Errors
    /// As for [`map`](Pool::map).
    ///
    /// # Panics
    /// As for [`map`](Pool::map).
    pub fn map_chunked<F, A, R>(
        &self,
        function: F,
        items: impl IntoIterator<Item = A>,
        chunk: NonZeroUsize,
    ) -> Result<Vec<R>, TaskError>
    where
        F: Fn(A) -> R + Copy + 'static,
        A: Carried,
        R: Carried,
    {
        self.map_in(function, items.into_iter(), chunk.get())
    }

    fn map_in<F, A, R>(
        &self,
        function: F,
        mut items: impl Iterator<Item = A>,
        chunk: usize,
    ) -> Result<Vec<R>, TaskError>
    where
        F: Fn(A) -> R + Copy + 'static,
        A: Carried,
        R: Carried,
    {
        let mut values = Vec::with_capacity(items.size_hint().0);
        let mut first = None;
        let flow = Flow::<A, R>::new(&self.inner, function, chunk, usize::MAX);
        flow.run(|| items.next(), |landed| landed.sort(&mut values, &mut first))?;
        first.map_or(Ok(values), Err)
    }

    /// As [`map`](Pool::map) with chunks of one item, and says of each what came of it.
    ///
    /// # Errors
    /// What says that nothing will be done any more. What fails for itself is in its item's place.
    ///
    /// # Panics
    /// As for [`map`](Pool::map).
    pub fn map_each<F, A, R>(
        &self,
        function: F,
        items: impl IntoIterator<Item = A>,
    ) -> Result<Vec<Result<R, TaskError>>, TaskError>
    where
        F: Fn(A) -> R + Copy + 'static,
        A: Carried,
        R: Carried,
    {
        self.map_each_chunked(function, items, NonZeroUsize::MIN)
    }

    /// The same in chunks of so many items.
    ///
    /// # Errors
    /// As for [`map_each`](Pool::map_each).
    ///
    /// # Panics
    /// As for [`map`](Pool::map).
    pub fn map_each_chunked<F, A, R>(
        &self,
        function: F,
        items: impl IntoIterator<Item = A>,
        chunk: NonZeroUsize,
    ) -> Result<Vec<Result<R, TaskError>>, TaskError>
    where
        F: Fn(A) -> R + Copy + 'static,
        A: Carried,
        R: Carried,
    {
        let mut items = items.into_iter();
        let mut values = Vec::with_capacity(items.size_hint().0);
        let flow = Flow::<A, R>::new(&self.inner, function, chunk.get(), usize::MAX);
        flow.run(|| items.next(), |landed| landed.put_behind(&mut values))?;
        Ok(values)
    }

    /// As [`map`](Pool::map), some time. The items are all taken at once, and sent in chunks.
    ///
    /// Waits as [`apply_async`](Pool::apply_async) does.
    ///
    /// # Errors
    /// As for [`apply_async`](Pool::apply_async): then none of it counts.
    ///
    /// # Panics
    /// As for [`map`](Pool::map).
    #[doc(alias = "starmap_async")]
    pub fn map_async<F, A, R>(
        &self,
        _function: F,
        items: impl IntoIterator<Item = A>,
    ) -> Result<AsyncResult<Vec<R>>, TaskError>
    where
        F: Fn(A) -> R + Copy + 'static,
        A: Carried,
        R: Carried,
    {
        let number = call::number(call::many::<F, A, R>);
        let mut items: Vec<A> = items.into_iter().collect();
        let chunk = self.usual_chunk(items.len());
        let assemble = |parts: Vec<Whole>| -> Result<Vec<R>, TaskError> {
            let mut values = Vec::new();
            let mut first = None;
            for (outcome, items) in parts {
                let all = match outcome {
                    Ok(outcome) => decode_many(outcome.word, &outcome.bytes, items, outcome.task),
                    Err(error) => vec![Err(error)],
                };
                for value in all {
                    match value {
                        Ok(value) => values.push(value),
                        Err(error) => drop(first.get_or_insert(error)),
                    }
                }
            }
            first.map_or(Ok(values), Err)
        };
        let mut result = AsyncResult::new(self.inner.clone(), Vec::new(), assemble);
        while !items.is_empty() {
            let rest = items.split_off(chunk.min(items.len()));
            let part = match self.give(number, &items, None, Wait::Forever, items.len()) {
                Ok(part) => part,
                Err(refused) => {
                    result.cancel();
                    return Err(refused.into());
                }
            };
            result.add(part);
            items = rest;
        }
        Ok(result)
    }

    /// Calls `function` with the items, and gives the values in their order, as they are asked for: each item by
    /// itself.
    ///
    /// The input is asked for items as they are needed: see [`Mapped::look_ahead`].
    ///
    /// # References
    /// Python `Pool.imap`, which takes all its input at once.
    pub fn imap<F, A, R, I>(&self, function: F, items: I) -> Mapped<'_, A, R, I::IntoIter>
    where
        F: Fn(A) -> R + Copy + 'static,
        A: Carried,
        R: Carried,
        I: IntoIterator<Item = A>,
    {
        self.imap_chunked(function, items, NonZeroUsize::MIN)
    }

    /// The same in chunks of so many items.
    pub fn imap_chunked<F, A, R, I>(
        &self,
        function: F,
        items: I,
        chunk: NonZeroUsize,
    ) -> Mapped<'_, A, R, I::IntoIter>
    where
        F: Fn(A) -> R + Copy + 'static,
        A: Carried,
        R: Carried,
        I: IntoIterator<Item = A>,
    {
        let flow = Flow::new(&self.inner, function, chunk.get(), 2 * self.workers());
        Mapped::new(flow, items.into_iter(), true)
    }

    /// As [`imap`](Pool::imap), and gives each value as soon as it is there.
    ///
    /// # References
    /// Python `Pool.imap_unordered`; `concurrent.futures.as_completed`.
    #[doc(alias = "as_completed")]
    pub fn imap_unordered<F, A, R, I>(&self, function: F, items: I) -> Mapped<'_, A, R, I::IntoIter>
    where
        F: Fn(A) -> R + Copy + 'static,
        A: Carried,
        R: Carried,
        I: IntoIterator<Item = A>,
    {
        self.imap_unordered_chunked(function, items, NonZeroUsize::MIN)
    }

    /// The same in chunks of so many items.
    pub fn imap_unordered_chunked<F, A, R, I>(
        &self,
        function: F,
        items: I,
        chunk: NonZeroUsize,
    ) -> Mapped<'_, A, R, I::IntoIter>
    where
        F: Fn(A) -> R + Copy + 'static,
        A: Carried,
        R: Carried,
        I: IntoIterator<Item = A>,
    {
        let flow = Flow::new(&self.inner, function, chunk.get(), 2 * self.workers());
        Mapped::new(flow, items.into_iter(), false)
    }

    /// Python's rule: each worker gets four chunks.
    fn usual_chunk(&self, items: usize) -> usize {
        items.div_ceil(4 * self.workers()).max(1)
    }

    /// How many workers there are to be.
    pub fn workers(&self) -> usize {
        // ORDERING: Relaxed, a number.
        self.inner.site.board.hall.workers.load(crate::primitive::Relaxed) as usize
    }

    /// Has so many workers from now on, 1 to 512: others are started, or the last ones leave when they have finished
    /// their tasks.
    ///
    /// # Errors
    /// [`PoolError::Workers`].
    pub fn resize(&self, workers: usize) -> Result<(), PoolError> {
        if !(1..=MOST_WORKERS).contains(&workers) {
            return Err(PoolError::Workers { asked: workers, limit: MOST_WORKERS });
        }
        if self.inner.is_ours() {
            self.inner.site.board.hall.workers.store(workers as u32, Release);
            self.inner.site.kick();
        }
        Ok(())
    }

    /// How it stands.
    pub fn stats(&self) -> PoolStats {
        PoolStats::of(&self.inner)
    }

    /// Takes no more tasks. What was given is done, and then the workers leave.
    pub fn close(&self) {
        if self.inner.is_ours() {
            let mut table = self.inner.table();
            if table.stage == Stage::Open {
                table.stage = Stage::Closed;
                drop(table);
                self.inner.site.board.order(Orders::Closed);
                self.inner.site.kick();
            }
        }
    }

    /// Drops all tasks that are not done, and ends the workers: by SIGKILL, whatever they are at. Waits until they and
    /// the supervisor have ended. Whoever waits for a task is told [`TaskError::PoolClosed`].
    pub fn terminate(&self) {
        if !self.inner.is_ours() {
            return;
        }
        self.inner.table().stage = Stage::Terminated;
        self.inner.site.board.order(Orders::Ended);
        self.inner.site.kick();
        // A supervisor that is stopped, or was never able to, is ended itself, and its workers with it.
        let _ = self.inner.supervisor.shutdown_after(GRACE);
        self.inner.site.board.ring();
        self.inner.call_the_rest();
    }

    /// Waits until all tasks are done and all workers have ended, after [`close`](Pool::close); or only the latter,
    /// after [`terminate`](Pool::terminate). All callbacks ([`AsyncResult::then`]) have returned then.
    ///
    /// # Errors
    /// [`PoolJoinError::StillOpen`]; [`PoolJoinError::Failed`]: not all tasks were done.
    pub fn join(&self) -> Result<(), PoolJoinError> {
        self.join_until(None)
    }

    /// The same, waiting at most `timeout` (CLOCK_MONOTONIC, from the call; zero looks once).
    ///
    /// # Errors
    /// [`PoolJoinError::TimedOut`]; else as for [`join`](Pool::join).
    pub fn join_timeout(&self, timeout: Duration) -> Result<(), PoolJoinError> {
        self.join_until(Some(timeout))
    }

    fn join_until(&self, timeout: Option<Duration>) -> Result<(), PoolJoinError> {
        if !self.inner.is_ours() {
            return Err(PoolJoinError::Failed(TaskError::NotParent));
        }
        let stage = self.inner.table().stage;
        if stage == Stage::Open {
            return Err(PoolJoinError::StillOpen);
        }
        let deadline = timeout.map(Deadline::after);
        if !self.inner.await_callbacks(deadline) {
            return Err(PoolJoinError::TimedOut { after: timeout.unwrap_or_default() });
        }
        let ended = match deadline {
            None => self.inner.supervisor.wait().map(Some),
            Some(deadline) => self.inner.supervisor.wait_deadline(deadline),
        };
        match ended {
            Ok(None) => Err(PoolJoinError::TimedOut { after: timeout.unwrap_or_default() }),
            _ if stage == Stage::Terminated => Ok(()),
            Ok(Some(status)) if status.success() && !self.inner.site.board.is_ordered(Orders::Failed) => {
                Ok(())
            }
            _ => Err(PoolJoinError::Failed(self.inner.breakage().unwrap_or(TaskError::SupervisorDied))),
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.terminate();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (queued, running) = self.inner.site.board.counts();
        f.debug_struct("Pool")
            .field("workers", &self.workers())
            .field("supervisor", &self.inner.supervisor.pid())
            .field("queued", &queued)
            .field("running", &running)
            .finish()
    }
}
