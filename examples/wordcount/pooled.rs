//! The same by a pool: each batch is a task, and its words are the task's value.
//!
//! A worker that is killed costs the batch that it was at, of which the pool says so; it goes into the next round, by
//! then with another worker. If the pool's supervisor is killed, the next round has another pool. Workers inherit the
//! [`Totals`], by a static that is set before there is a pool.

use std::{cell::RefCell, error::Error, process, sync::OnceLock, thread, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use pshared::{Atomic, ExitStatus, Pool, PoolError, TaskError};
use serde::{Deserialize, Serialize};

use super::{
    Hand, LOOK_ROUND, Tally,
    counter::Counter,
    shared::{Counted, Job, Place, Totals, chance, stand_still},
};

/// After so many rounds in a row that got nothing done the trouble is not an accident.
const FRUITLESS_ROUNDS: u32 = 10;

/// What workers inherit.
struct Shared {
    totals: Totals,
    /// Who has come to the place where it is to be killed; 0: nobody.
    ambushed: Atomic<u32>,
}

static SHARED: OnceLock<Shared> = OnceLock::new();

fn shared() -> &'static Shared {
    SHARED.get().expect("set before the pool is made")
}

/// The value of a task: whose it is, and an encoded [`Counted`].
#[derive(Serialize, Deserialize)]
struct Home {
    pid: u32,
    batch: u32,
    counted: Vec<u8>,
}

/// The task.
fn count_batch(job: Job) -> Home {
    thread_local! {
        static COUNTER: RefCell<Counter> = RefCell::new(Counter::new());
    }
    if job.ambush == Some(Place::Anywhere) {
        shared().ambushed.set(process::id());
    }
    COUNTER.with_borrow_mut(|counter| {
        let (sums, unreadable) = counter.count_batch(&job.paths, || pass(&job, Place::Counting));
        shared().totals.enter(job.batch, sums, || pass(&job, Place::Locked));
        let counted = Counted { sums, unreadable, words: counter.words() };
        let counted = postcard::to_stdvec(&counted).expect("plain counts can be encoded");
        pass(&job, Place::Parts);
        if job.ambush == Some(Place::Anywhere) {
            stand_still();
        }
        Home { pid: process::id(), batch: job.batch, counted }
    })
}

/// Goes on, unless this is where the worker is to be killed.
fn pass(job: &Job, place: Place) {
    if job.ambush == Some(place) {
        shared().ambushed.set(process::id());
        stand_still();
    }
}

/// Rounds, until every batch is done.
pub fn count(tally: &mut Tally<'_>, workers: usize) -> Result<(), Box<dyn Error>> {
    let ambushed = Atomic::new(0)?;
    let _ = SHARED.set(Shared { totals: tally.totals.clone(), ambushed });
    let (mut pool, mut first, mut fruitless) = (None, true, 0);
    loop {
        let todo = tally.todo();
        if todo.is_empty() {
            return Ok(());
        }
        if pool.is_none() {
            pool = match Pool::builder().workers(workers.min(todo.len())).build() {
                Ok(pool) => Some(pool),
                // Killed before it was there.
                Err(PoolError::Supervisor { .. }) => None,
                Err(error) => return Err(error.into()),
            };
        }
        if first {
            tally.show_progress()?;
        }
        let lives = match &pool {
            Some(pool) => round(tally, pool, &todo, first)?,
            None => false,
        };
        if !lives {
            pool = None;
        }
        first = false;
        fruitless = if tally.todo().len() < todo.len() { 0 } else { fruitless + 1 };
        if fruitless == FRUITLESS_ROUNDS {
            return Err(tally.given_up());
        }
    }
}

/// Has the pool count the batches `todo`; says whether it goes on.
fn round(tally: &mut Tally<'_>, pool: &Pool, todo: &[u32], first: bool) -> Result<bool, Box<dyn Error>> {
    let jobs: Vec<Job> = todo.iter().map(|&batch| tally.job(batch, first)).collect();
    let mut homes = pool.imap_unordered(count_batch, jobs);
    while let Some(home) = homes.next_timeout(LOOK_ROUND) {
        match home {
            None => {}
            Some(Ok(Home { pid, batch, counted })) => {
                let hand = hand(tally, pid);
                tally.merge(hand, batch, postcard::from_bytes(&counted)?);
            }
            Some(Err(TaskError::WorkerDied { pid, status, .. })) => bury(tally, pid, status),
            Some(Err(TaskError::SupervisorDied)) => return Ok(false),
            Some(Err(error)) => return Err(error.into()),
        }
        let victim = shared().ambushed.swap(0);
        if victim != 0 {
            if tally.ambush == Some(Place::Anywhere) {
                thread::sleep(Duration::from_micros(u64::from(chance()) % 3_000));
            }
            // It stands still there, or will before it gives its result: so the number is its own.
            kill(Pid::from_raw(victim as i32), Signal::SIGKILL)?;
            let hand = hand(tally, victim);
            tally.hands[hand].killed_at = tally.ambush;
        }
    }
    Ok(true)
}

/// The worker's place in the tally.
fn hand(tally: &mut Tally<'_>, pid: u32) -> usize {
    let known = tally.hands.iter().position(|hand| hand.pid == pid && hand.ended.is_none());
    known.unwrap_or_else(|| {
        tally.hands.push(Hand::new(pid));
        tally.hands.len() - 1
    })
}

fn bury(tally: &mut Tally<'_>, pid: u32, status: ExitStatus) {
    let hand = hand(tally, pid);
    tally.hands[hand].ended = Some(status.to_string());
}
