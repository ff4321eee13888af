//! [`PoolStats`]: how a pool stands.

use std::time::Duration;

use crate::{
    pool::{table::Inner, word::State, worker::READY},
    primitive::Relaxed,
    process::Usage,
};

/// How a [`Pool`](crate::Pool) stood at some instant. A chunk counts as one task.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Tasks that no worker has begun.
    pub queued: usize,
    /// Tasks that a worker is at.
    pub running: usize,
    /// Tasks that came to a value, those included whose value nobody has asked for.
    pub done: u64,
    /// Tasks that came to an error.
    pub failed: u64,
    /// Workers that were started beyond the first ones.
    pub restarts: u64,
    /// Workers that died.
    pub deaths: u64,
    /// Callbacks that have not returned, most of them since their tasks are not done.
    pub callbacks: usize,
    /// Callbacks that panicked.
    pub callbacks_panicked: u64,
    /// The workers that are ready.
    pub workers: Vec<WorkerStats>,
}

/// How one worker of a [`Pool`](crate::Pool) stood.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerStats {
    /// Its process id.
    pub pid: u32,
    /// Tasks that it has done.
    pub tasks: u64,
    /// CPU time that it has used.
    pub cpu_time: Duration,
    /// The most memory that it had resident at a time, in bytes.
    pub peak_memory: u64,
}

impl PoolStats {
    pub(super) fn of(inner: &Inner) -> PoolStats {
        let board = &inner.site.board;
        let table = inner.table();
        let (queued, running) = board.counts();
        let (mut done, mut failed) = (table.done, table.failed);
        for slot in table.uncollected() {
            match board.look(slot).state() {
                State::Done => done += 1,
                state if state as u64 > State::Done as u64 => failed += 1,
                _ => {}
            }
        }
        let (callbacks, callbacks_panicked) = table.callbacks.counts();
        drop(table);
        // ORDERING: Relaxed, for whoever looks from outside, here and below.
        let ready = board.desks.iter().filter(|desk| desk.phase.load(Relaxed) == READY);
        let workers = ready.filter_map(|desk| {
            let pid = desk.pid.load(Relaxed);
            // One that has ended meanwhile has no account.
            let usage = Usage::of_process(pid).ok()?;
            let (cpu_time, peak_memory) = (usage.cpu_time(), usage.peak_memory);
            Some(WorkerStats { pid, tasks: desk.tasks.load(Relaxed), cpu_time, peak_memory })
        });
        let workers: Vec<WorkerStats> = workers.collect();
        let started = board.hall.started.load(Relaxed);
        let restarts = started.saturating_sub(u64::from(board.hall.workers.load(Relaxed)));
        let deaths = board.hall.died.load(Relaxed);
        PoolStats { queued, running, done, failed, restarts, deaths, callbacks, callbacks_panicked, workers }
    }
}
