//! [`PoolBuilder`]: what a pool is to be like.

use std::{
    fmt,
    io::IoSliceMut,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    thread,
    time::Duration,
};

use nix::libc;
use serde::{Deserialize, Serialize};

use crate::{
    os::{newborn, packets, readiness},
    pool::{
        board::{Board, MOST_WORKERS},
        call,
        error::PoolError,
        keeper::Keeper,
        limits::TaskLimits,
        pool::Pool,
        site::Site,
        store::Store,
        table::Inner,
        worker::{Initializer, Rules},
    },
    primitive::Relaxed,
    process::{Builder, Child, Context, Limit, OnDrop, Process},
    region::{Descriptor, Region},
};

/// What a supervisor is told that is no copy of its parent.
#[derive(Serialize, Deserialize)]
struct Terms {
    site: Site,
    socket: Descriptor,
    rules: Rules,
    initializer: Option<u64>,
}

crate::functions! {
    static SUPERVISE: fn(Terms) -> () = |terms: Terms| {
        let Terms { site, socket: Descriptor(socket), rules, initializer } = terms;
        // SAFETY: the pool's parent, a process of this program, made the number for such a function.
        let initializer = initializer.map(|number| unsafe { call::initializer(number) });
        let initializer = initializer.as_ref().map(|initializer| initializer as &Initializer);
        Keeper::new(&site, rules, initializer, socket).preside();
    };
}

/// A pool to be. Made by [`Pool::builder`].
///
/// # Examples
/// ```standalone_crate
/// use std::time::Duration;
/// use pshared::Pool;
///
/// let base = 100_u64;
/// let pool = Pool::builder().workers(2).max_tasks(1000).build()?;
/// assert_eq!(pool.apply(|n: u64| n + 1, base)?, 101);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Python `Pool(processes, initializer, initargs, maxtasksperchild)`.
#[must_use = "a builder starts nothing until `build`"]
pub struct PoolBuilder {
    workers: Option<usize>,
    context: Context,
    initializer: Option<(Box<Initializer>, Option<u64>)>,
    rules: Rules,
    bound: usize,
    inline: usize,
    shield: bool,
    limits: TaskLimits,
}

impl PoolBuilder {
    pub(super) fn new() -> PoolBuilder {
        PoolBuilder {
            workers: None,
            context: Context::fork(),
            initializer: None,
            rules: Rules {
                name: "PoolWorker".into(),
                limits: Vec::new(),
                max_tasks: None,
                max_age: None,
                max_memory: None,
                idle: None,
                retries: 0,
                budget: 5,
                pauses: (Duration::from_millis(10), Duration::from_secs(1)),
                warning: libc::SIGUSR1,
            },
            bound: 4096,
            inline: 128,
            shield: true,
            limits: TaskLimits::new(),
        }
    }

    /// How many workers there are: 1 to 512. As many as this process has CPUs, by its affinity and its quota, unless
    /// this says otherwise.
    #[doc(alias = "processes")]
    pub fn workers(mut self, workers: usize) -> PoolBuilder {
        self.workers = Some(workers);
        self
    }

    /// By which method the supervisor is started, which forks the workers: by fork, unless this says otherwise. A
    /// program with threads needs another.
    pub fn context(mut self, context: &Context) -> PoolBuilder {
        self.context = context.clone();
        self
    }

    /// What each worker does before it takes tasks. By fork it may capture what it likes: the workers have copies. By
    /// another method it must capture nothing.
    ///
    /// A worker whose initializer fails or panics is replaced, after a pause; when so many starts in a row have failed
    /// as [`budget`](PoolBuilder::budget) says, and no worker is ready, all tasks are told
    /// [`TaskError::InitFailed`](crate::TaskError::InitFailed).
    pub fn initializer<E: fmt::Display>(
        mut self,
        initializer: impl Fn() -> Result<(), E> + 'static,
    ) -> PoolBuilder {
        let number = call::initializer_number(&initializer);
        let initialize = move || initializer().map_err(|error| error.to_string());
        self.initializer = Some((Box::new(initialize), number));
        self
    }

    /// Workers are called by this name and a number: `PoolWorker-1`, unless this says otherwise.
    pub fn name(mut self, name: impl Into<String>) -> PoolBuilder {
        self.rules.name = name.into();
        self
    }

    /// A worker that has done so many tasks is replaced; a chunk counts as one.
    #[doc(alias = "maxtasksperchild")]
    pub fn max_tasks(mut self, tasks: u64) -> PoolBuilder {
        self.rules.max_tasks = Some(tasks.max(1));
        self
    }

    /// A worker that is so old is replaced when it has finished its task.
    pub fn max_age(mut self, age: Duration) -> PoolBuilder {
        self.rules.max_age = Some(age);
        self
    }

    /// A worker that has more than so many bytes of its own resident after a task is replaced: what it shares with
    /// others is not counted. It is looked up after each task.
    pub fn max_memory(mut self, bytes: u64) -> PoolBuilder {
        self.rules.max_memory = Some(bytes);
        self
    }

    /// Workers beyond the first `keep` leave when they have had nothing to do for so long, and others come when there
    /// is work for them.
    pub fn idle_shrink(mut self, after: Duration, keep: usize) -> PoolBuilder {
        self.rules.idle = Some((after, keep));
        self
    }

    /// Limits what each worker may use: a worker that cannot get more memory than that dies of it, alone.
    #[doc(alias = "rlimit")]
    pub fn limit(mut self, limit: Limit, value: u64) -> PoolBuilder {
        self.rules.limits.push((limit, value));
        self
    }

    /// How long a task may take, unless it is given with limits of its own.
    pub fn limits(mut self, limits: TaskLimits) -> PoolBuilder {
        self.limits = limits;
        self
    }

    /// The signal that warns a task of its soft limit: SIGUSR1, unless this says otherwise. Unless the worker handles
    /// it (by what the initializer does), it dies of it.
    pub fn warning(mut self, signal: i32) -> PoolBuilder {
        self.rules.warning = signal;
        self
    }

    /// How often a task is tried again whose worker has died: not at all, unless this says otherwise; at most 250. When
    /// these are used up, the task fails and is not tried again. A task that is tried again may have had effects
    /// before.
    pub fn retries(mut self, retries: u32) -> PoolBuilder {
        self.rules.retries = retries.min(250);
        self
    }

    /// How many starts in a row may fail, while no worker is ready, before the pool gives up: 5, unless this says
    /// otherwise.
    pub fn budget(mut self, starts: u32) -> PoolBuilder {
        self.rules.budget = starts.max(1);
        self
    }

    /// The pause after the first start that failed, which doubles with each that follows, and the longest. 10 ms and
    /// 1 s, unless this says otherwise.
    pub fn back_off(mut self, first: Duration, longest: Duration) -> PoolBuilder {
        self.rules.pauses = (first, longest);
        self
    }

    /// How many tasks, or chunks, can be under way at one time, those included whose values nobody has asked for: 4096
    /// unless this says otherwise; rounded up to a power of two. Each takes 80 bytes, and twice those of
    /// [`inline`](PoolBuilder::inline).
    pub fn bound(mut self, tasks: usize) -> PoolBuilder {
        self.bound = tasks;
        self
    }

    /// Arguments and values up to so many bytes go through memory that is set aside for them, 128 unless this says
    /// otherwise; longer ones take two system calls more.
    pub fn inline(mut self, bytes: usize) -> PoolBuilder {
        self.inline = bytes;
        self
    }

    /// Whether the pool's processes block SIGINT, so that Ctrl-C reaches the program alone, which ends them: they do,
    /// unless this says otherwise.
    pub fn shield(mut self, shield: bool) -> PoolBuilder {
        self.shield = shield;
        self
    }

    /// Makes the pool: its supervisor runs when this returns, and its workers are about to.
    ///
    /// # Errors
    /// - [`PoolError::Workers`]: too many, or none.
    /// - [`PoolError::Captures`]: an initializer that captures something, without a fork.
    /// - [`PoolError::Spawn`]: as for [`Context::start`]; by fork, that this process has other threads.
    /// - [`PoolError::Memory`], [`PoolError::Os`], [`PoolError::Supervisor`].
    pub fn build(self) -> Result<Pool, PoolError> {
        let os = |call: &'static str| move |source| PoolError::Os { call, source };
        let workers =
            self.workers.unwrap_or_else(|| thread::available_parallelism().map_or(1, |cpus| cpus.get()));
        if !(1..=MOST_WORKERS).contains(&workers) {
            return Err(PoolError::Workers { asked: workers, limit: MOST_WORKERS });
        }
        let is_fork = self.context.is_fork();
        let number = self.initializer.as_ref().map(|(_, number)| *number);
        if !is_fork && number == Some(None) {
            return Err(PoolError::Captures);
        }
        let slots = self.bound.clamp(2, 1 << 16).next_power_of_two();
        let plate = self.inline.clamp(8, 1 << 16).next_multiple_of(64);
        let need = Board::footprint(slots, MOST_WORKERS, plate);
        // A region of its own, so that it goes with the pool.
        let board = Board::new_in(&Region::anonymous(need)?, slots, MOST_WORKERS, plate)?;
        // ORDERING: Relaxed, nobody else has it yet.
        board.hall.workers.store(workers as u32, Relaxed);
        let store = Store::new(slots).map_err(os("memfd_create"))?;
        let (kick, socket) = packets::pair().map_err(os("socketpair"))?;
        let site = Site { board, store, kick };
        let mut builder = Process::builder().name("pool supervisor").on_drop(OnDrop::Detach);
        if self.shield {
            let mut blocked = newborn::members(&newborn::mask().map_err(os("sigprocmask"))?);
            blocked.push(libc::SIGINT);
            builder = builder.signal_mask(&blocked);
        }
        let PoolBuilder { context, initializer, rules, limits, .. } = self;
        let supervisor = if is_fork {
            by_fork(builder, &site, rules, initializer, socket)?
        } else {
            let site = site.try_clone().map_err(os("dup"))?;
            let terms = Terms { site, socket: Descriptor(socket), rules, initializer: number.flatten() };
            context.start_with(builder, &SUPERVISE, terms)?.child().clone()
        };
        await_supervisor(&site, &supervisor)?;
        Ok(Pool::of(Arc::new(Inner::new(site, supervisor, limits))))
    }
}

fn by_fork(
    builder: Builder,
    site: &Site,
    rules: Rules,
    initializer: Option<(Box<Initializer>, Option<u64>)>,
    socket: OwnedFd,
) -> Result<Child, PoolError> {
    let supervisor = builder.spawn(move || {
        let initializer = initializer.as_ref().map(|(initializer, _)| &**initializer);
        Keeper::new(site, rules, initializer, socket).preside();
    })?;
    Ok(supervisor.child().clone())
}

/// Waits until the supervisor can be seen to live, or has ended.
fn await_supervisor(site: &Site, supervisor: &Child) -> Result<(), PoolError> {
    let os = |call: &'static str| move |source| PoolError::Os { call, source };
    loop {
        let mut files = [readiness::readable(site.kick.as_fd()), readiness::readable(supervisor.as_fd())];
        readiness::wait_ready(&mut files, None).map_err(os("ppoll"))?;
        let mut byte = [0];
        if let Ok(1..) = packets::take(site.kick.as_fd(), &mut [IoSliceMut::new(&mut byte)]) {
            return Ok(());
        }
        if files[1].revents != 0 {
            let status = supervisor.wait().map_err(os("waitid"))?;
            return Err(PoolError::Supervisor { status });
        }
    }
}

impl fmt::Debug for PoolBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let initializer = self.initializer.is_some();
        f.debug_struct("PoolBuilder")
            .field("workers", &self.workers)
            .field("context", &self.context)
            .field("initializer", &initializer)
            .field("bound", &self.bound)
            .field("rules", &self.rules)
            .finish()
    }
}
