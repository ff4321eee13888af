//! `Pool`: a worker is killed at every instruction of giving a result and of taking a task.
//!
//! The victim is a worker as it is: a child of the pool's supervisor, which the harness takes hold of in the middle of
//! its first task. A companion is the pool's parent; it must have an answer to every task within a second, and a pool
//! that works.

use std::{sync::atomic::Ordering::SeqCst, thread, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, getppid},
};
use pshared::{AsyncResult, Pool, TaskError};

use crate::{
    board::{CELLS, cell, count, up},
    company::{Companion, Moment::*, Until::*, pause},
    scenario::{Damage, Enters, Kind, Play, Scenario},
    trace::mark,
};

/// The victim's number.
const VICTIM: usize = CELLS - 1;
/// The victim may go to its mark.
const GO: usize = 50;
/// The victim is dead.
const DEAD: usize = 51;
/// The worker that is to die behind the victim, and the supervisor.
const OTHER: usize = 52;
const SUPERVISOR: usize = 53;
/// From here on: how often each task was done.
const DONE: usize = 60;
/// The supervisor was killed.
const ORPHANED: usize = 54;
/// From here on: answers to tasks. Values, deaths, what was wrong.
const VALUES: usize = 80;
const DEATHS: usize = 81;
const WRONG: usize = 82;

/// The first task of the victim: it waits to be taken hold of.
fn first(number: u64) -> u64 {
    if count(GO) != 0 {
        return done(number); // for the second time
    }
    cell(SUPERVISOR).store(getppid().as_raw() as u64, SeqCst);
    cell(VICTIM).store(u64::from(std::process::id()), SeqCst);
    while count(GO) == 0 {
        thread::sleep(Duration::from_micros(50));
    }
    mark();
    done(number)
}

/// A task that is the end of what is looked at, if the victim comes to it.
fn last(number: u64) -> u64 {
    if u64::from(std::process::id()) == count(VICTIM) {
        mark();
    } else {
        until_dead(); // so that the victim gets the next, if it is there
    }
    done(number)
}

/// A task that ends only if its worker is killed.
fn held(_: u64) -> u64 {
    cell(OTHER).store(u64::from(std::process::id()), SeqCst);
    loop {
        thread::sleep(Duration::from_millis(1));
    }
}

fn done(number: u64) -> u64 {
    up(DONE + number as usize);
    number * 10
}

/// Waits for an answer, and says whether it is one that there can be.
fn answer(number: u64, result: Result<AsyncResult<u64>, TaskError>) {
    match result.and_then(AsyncResult::get) {
        Ok(value) if value == number * 10 => up(VALUES),
        Err(TaskError::WorkerDied { status, .. }) if status.signal() == Some(9) => up(DEATHS),
        Err(TaskError::SupervisorDied) if count(ORPHANED) != 0 => up(DEATHS),
        _ => up(WRONG),
    }
}

/// The victim is dead, and the second one soon.
fn cry(second: Second) {
    let kill_it = |at: usize| kill(Pid::from_raw(count(at) as i32), Signal::SIGKILL).expect("it is there");
    match second {
        Second::Nobody => {}
        Second::Worker => kill_it(OTHER),
        Second::Supervisor => {
            up(ORPHANED);
            kill_it(SUPERVISOR);
        }
    }
    up(DEAD);
}

fn until_dead() {
    while count(DEAD) == 0 {
        thread::sleep(Duration::from_micros(50));
    }
}

/// Who dies behind the victim.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Second {
    Nobody,
    /// Another worker, in the middle of a task.
    Worker,
    /// The supervisor, at whatever it is at about the victim's death.
    Supervisor,
}

struct Row {
    company: &'static str,
    enters: Enters,
    workers: usize,
    retries: u32,
    /// Tasks that are queued behind the first; for one that is to be woken, given to wake it.
    behind: u64,
    second: Second,
}

const fn row(company: &'static str, behind: u64) -> Row {
    Row { company, enters: Enters::Found, workers: 1, retries: 0, behind, second: Second::Nobody }
}

static ROWS: &[Row] = &[
    row("gives a result, parent asleep", 0),
    row("gives a result, takes the next", 1),
    Row { retries: 1, ..row("gives a result, takes the next, which is tried again", 1) },
    Row { workers: 2, ..row("gives a result, another worker asleep", 0) },
    Row { workers: 2, enters: Enters::FoundWoken, ..row("woken for a task, another asleep", 2) },
    Row { enters: Enters::FoundWoken, ..row("woken for a task, alone", 1) },
    Row { workers: 2, second: Second::Worker, ..row("gives a result, another worker dies behind it", 1) },
    Row {
        second: Second::Supervisor,
        ..row("gives a result, takes the next, its supervisor dies behind it", 1)
    },
];

/// The pool's parent.
fn parent(row: &'static Row) -> Companion {
    let is_woken = row.enters == Enters::FoundWoken;
    let mut beats = vec![(Opening, Paused)];
    beats.push(if is_woken { (Wake, Nothing) } else { (Mark, Asleep) });
    Companion::new("parent", beats, move || {
        let pool =
            Pool::builder().workers(row.workers).retries(row.retries).bound(8).build().expect("a pool");
        let before = pool.apply_async(first, 0);
        let give = || {
            (1..=row.behind).map(|number| match row.second {
                Second::Worker => (number, pool.apply_async(held, number)),
                _ => (number, pool.apply_async(last, number)),
            })
        };
        let mut behind: Vec<_> = if is_woken { Vec::new() } else { give().collect() };
        while row.second == Second::Worker && count(OTHER) == 0 {
            thread::sleep(Duration::from_micros(50));
        }
        while count(VICTIM) == 0 || pool.stats().workers.len() < row.workers {
            thread::sleep(Duration::from_micros(50));
        }
        pause();
        if is_woken {
            behind = give().collect();
        }
        answer(0, before);
        behind.into_iter().for_each(|(number, result)| answer(number, result));
        until_dead();
        // All is as it was.
        answer(9, pool.apply_async(done, 9));
    })
}

pub fn scenarios() -> Vec<Scenario> {
    ROWS.iter()
        .map(|row| Scenario {
            operation: "Pool worker",
            company: row.company,
            kind: Kind::OneDeath,
            play: Box::new(move || play(row)),
        })
        .collect()
}

fn play(row: &'static Row) -> Play {
    let verify = move |_: &_| {
        let tasks = row.behind + 2;
        let answers = count(VALUES) + count(DEATHS);
        let most = match (row.retries, row.second) {
            (0, Second::Nobody) => 1,
            (0, Second::Worker) => 2,
            (0, Second::Supervisor) => tasks,
            _ => 0,
        };
        let times = (0..10).map(|number| count(DONE + number));
        let doubled = if row.retries > 0 { 0 } else { times.map(|times| times.saturating_sub(1)).sum() };
        Damage {
            torn: count(WRONG),
            lost: tasks.abs_diff(answers + count(WRONG)) + count(DEATHS).saturating_sub(most),
            doubled,
            wedged: 0,
        }
    };
    Play {
        victim: Box::new(|| cell(GO).store(1, SeqCst)),
        enters: row.enters,
        heir: None,
        companions: vec![parent(row), Companion::new("crier", [(Death, Ended)], || cry(row.second))],
        verify: Box::new(verify),
    }
}
