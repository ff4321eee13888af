//! The storm in a pool: four workers, one of which is killed again and again, while tasks are given and asked for.
//!
//! - *lost*: a task that nothing is reported of, or more deaths reported than there were;
//! - *doubled*: a task that was done twice, or done though its worker is said to have died and somebody did it again;
//! - *torn*: a value that is not the task's, or one of a task that was not done; an error that no kill gives;
//! - *stalled*: a second in which nothing came of the oldest task;
//! - *left*: a descriptor that parent or supervisor have beyond those of the beginning, or 16 MiB of memory.

use std::{
    collections::VecDeque,
    fs,
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, getppid},
};
use pshared::{AsyncResult, GetTimeoutError, Pool, TaskError};

use crate::{STALL, check, support::page::Page};

const WORKERS: usize = 4;
/// Tasks that are under way.
const AHEAD: usize = 128;
/// A task's place on the page is its number by these: more than are under way.
const PLACES: u64 = 1000;
/// What may be left behind, in pages of memory.
const GROWTH: u64 = (16 << 20) / 4096;
/// How long tasks are counted at a time, and how often.
const TURN: Duration = Duration::from_millis(50);
const TURNS: usize = 9;

/// How often each task was done that is under way.
static TIMES: OnceLock<Page> = OnceLock::new();

/// Takes up to some 30 us, so that workers are killed in the middle of tasks.
fn work(number: u64) -> u64 {
    for _ in 0..number % 32 * 50 {
        std::hint::spin_loop();
    }
    let times = TIMES.get().expect("made before the pool").add((number % PLACES) as usize, 1);
    check(u64::from(times), number)
}

#[derive(Default)]
struct Books {
    under_way: VecDeque<(u64, AsyncResult<u64>)>,
    given: u64,
    done: u64,
    died: u64,
    doubled: u64,
    /// Errors that no kill gives.
    odd: u64,
    torn: u64,
    stalled: u64,
}

impl Books {
    fn give(&mut self, pool: &Pool) {
        while self.under_way.len() < AHEAD {
            let result = pool.apply_async(work, self.given).expect("an open pool");
            self.under_way.push_back((self.given, result));
            self.given += 1;
        }
    }

    /// Asks for the oldest.
    fn take(&mut self) {
        let Some((number, mut result)) = self.under_way.pop_front() else { return };
        let told = loop {
            match result.get_timeout(STALL) {
                Err(GetTimeoutError::TimedOut(again)) => {
                    self.stalled += 1;
                    eprintln!("stalled: task {number}");
                    if self.stalled > 10 {
                        return;
                    }
                    result = again;
                }
                Err(GetTimeoutError::Failed(error)) => break Err(error),
                Ok(value) => break Ok(value),
            }
        };
        // Nobody is at it any more.
        let page = TIMES.get().expect("made before the pool");
        let times = page.get((number % PLACES) as usize);
        page.set((number % PLACES) as usize, 0);
        self.doubled += u64::from(times > 1);
        match told {
            Ok(value) => {
                self.done += 1;
                self.torn += u64::from(value != check(0, number) || times == 0);
            }
            Err(TaskError::WorkerDied { status, deaths: 1, .. }) if status.signal() == Some(9) => {
                self.died += 1
            }
            Err(error) => {
                self.odd += 1;
                self.torn += 1;
                eprintln!("task {number}: {error}");
            }
        }
    }
}

/// Descriptors of this process and of the supervisor, and pages that they have resident.
fn possessions(supervisor: Pid) -> [u64; 4] {
    let of = |whose: &str| {
        let descriptors =
            fs::read_dir(format!("/proc/{whose}/fd")).map_or(0, |entries| entries.count() as u64);
        let statm = fs::read_to_string(format!("/proc/{whose}/statm")).unwrap_or_default();
        let pages = statm.split_ascii_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
        [descriptors, pages]
    };
    let ([mine, my_pages], [its, its_pages]) = (of("self"), of(&supervisor.to_string()));
    [mine, its, my_pages, its_pages]
}

fn until_all_are_there(pool: &Pool) {
    while pool.stats().workers.len() < WORKERS {
        thread::sleep(Duration::from_millis(1));
    }
}

/// Tasks in a turn without kills.
fn tasks_in_a_turn(pool: &Pool, books: &mut Books) -> u64 {
    let (before, end) = (books.done, Instant::now() + TURN);
    while Instant::now() < end {
        books.give(pool);
        books.take();
    }
    books.done - before
}

fn new_pool() -> Pool {
    Pool::builder().workers(WORKERS).bound(2 * AHEAD).build().expect("a pool")
}

/// Runs it, tells what came of it, and returns how much damage there was.
pub fn storm(kills: u64, draw: &mut impl FnMut(u64) -> u64) -> u64 {
    let begun = Instant::now();
    TIMES.get_or_init(Page::new);
    let pool = new_pool();
    let supervisor = pool.apply(|()| getppid().as_raw(), ()).map(Pid::from_raw).expect("a worker");
    let mut books = Books::default();
    let mut before = [0; 4];
    loop {
        let deaths = pool.stats().deaths;
        if before[0] == 0 && deaths >= (kills / 20).min(200) {
            // What a pool needs for its first deaths, it has by now.
            until_all_are_there(&pool);
            before = possessions(supervisor);
        }
        if deaths >= kills {
            break;
        }
        let until = Instant::now() + Duration::from_micros(draw(300));
        while Instant::now() < until {
            books.give(&pool);
            books.take();
        }
        let workers = pool.stats().workers;
        if !workers.is_empty() {
            let victim = &workers[draw(workers.len() as u64) as usize];
            // It is there, or was a moment ago: numbers are not used again so soon.
            let _ = kill(Pid::from_raw(victim.pid as i32), Signal::SIGKILL);
        }
        if books.stalled > 10 {
            break;
        }
    }
    while !books.under_way.is_empty() && books.stalled <= 10 {
        books.take();
    }
    until_all_are_there(&pool);
    let deaths = pool.stats().deaths;
    // What came of the others was told; what was told in vain is counted above.
    let told = books.done + books.died + books.odd;
    let lost = books.given - told + books.died.saturating_sub(deaths);
    // A replacement may be on its way still.
    let end = Instant::now() + STALL;
    let mut after = possessions(supervisor);
    while after[..2] != before[..2] && Instant::now() < end {
        thread::sleep(Duration::from_millis(1));
        after = possessions(supervisor);
    }
    let descriptors = after[0].saturating_sub(before[0]) + after[1].saturating_sub(before[1]);
    let grown = (2..4).filter(|&of| after[of] > before[of] + GROWTH).count() as u64;

    // Worn and new by turns.
    let fresh = new_pool();
    let (mut other, mut turns) = (Books { given: books.given, ..Books::default() }, Vec::new());
    for _ in 0..TURNS {
        let worn = tasks_in_a_turn(&pool, &mut books);
        while !books.under_way.is_empty() {
            books.take();
        }
        let new = tasks_in_a_turn(&fresh, &mut other);
        while !other.under_way.is_empty() {
            other.take();
        }
        turns.push([worn as f64, new as f64].map(|tasks| tasks / TURN.as_secs_f64() / 1e3));
    }
    let median = |of: fn(&[f64; 2]) -> f64| {
        let mut figures: Vec<f64> = turns.iter().map(of).collect();
        figures.sort_unstable_by(f64::total_cmp);
        figures[TURNS / 2]
    };
    let torn = books.torn + other.torn;
    println!(
        "storm: pool: {} tasks done, {} lost with their workers, {deaths} workers killed, {:.1} s",
        books.done,
        books.died,
        begun.elapsed().as_secs_f32()
    );
    println!(
        "storm: pool: parent {} -> {} descriptors, {} -> {} pages; supervisor {} -> {}, {} -> {}",
        before[0], after[0], before[2], after[2], before[1], after[1], before[3], after[3],
    );
    println!(
        "storm: pool: {:.1} thousand tasks a second after the kills, {:.1} in a new pool, ratio {:.3} \
         (medians of {TURNS} turns)",
        median(|[worn, _]| *worn),
        median(|[_, new]| *new),
        median(|[worn, new]| worn / new.max(0.001))
    );
    println!(
        "storm: pool: {kills} kills, {lost} lost, {} doubled, {torn} torn, {} stalled, {descriptors} descriptors left",
        books.doubled, books.stalled
    );
    lost + books.doubled + torn + books.stalled + descriptors + grown
}
