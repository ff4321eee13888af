//! Random kills under load, of processes that do one operation again and again.

use std::{
    io,
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use super::{
    board::board,
    check::{Check, apart},
    company::{LIMIT, Limit, Process},
    report::{Damage, Fault, Report},
    scenario::Dice,
    stuck::Stuck,
};

/// How hard it blows.
#[derive(Clone, Copy, Debug)]
pub struct Storm {
    /// Processes at a time.
    pub workers: usize,
    /// How many are killed, and replaced.
    pub kills: u64,
    /// Between two kills there is a pause up to this.
    pub longest_pause: Duration,
    /// Who is killed when: the same seed, the same order.
    pub seed: u64,
}

impl Default for Storm {
    /// A thousand kills of one of four.
    fn default() -> Storm {
        Storm { workers: 4, kills: 1000, longest_pause: Duration::from_micros(300), seed: 1 }
    }
}

impl<S: 'static> Check<S> {
    /// Lets workers do the operation again and again, and kills one after the other. The operation must be one that
    /// several can do at once without anybody else; companions have no part in it. After each kill somebody must come
    /// to the end of an operation within a second, and in the end the invariant must hold.
    ///
    /// # Errors
    /// As [`Check::run`].
    pub fn storm(&self, storm: Storm) -> io::Result<Report> {
        apart(|| Ok(self.blow(storm)))
    }

    fn blow(&self, storm: Storm) -> Report {
        let begun = Instant::now();
        board().clear();
        let state = Rc::new((self.make)());
        let worker = || {
            Process::fork(|| {
                while !board().is_over() {
                    (self.operation)(&state);
                    board().turn();
                }
            })
        };
        let mut dice = Dice(storm.seed);
        let mut report = Report::default();
        let mut workers: Vec<Process> = (0..storm.workers.max(2)).map(|_| worker()).collect();
        while report.kills < storm.kills && !report.damage.any() {
            let longest = storm.longest_pause.as_micros() as u64;
            thread::sleep(Duration::from_micros(dice.next() % (longest + 1)));
            let victim = (dice.next() % workers.len() as u64) as usize;
            workers[victim].kill();
            report.kills += 1;
            if let Some(fault) = goes_on(&mut workers, report.kills) {
                report.damage += fault.damage;
                report.faults.push(fault);
            }
            workers[victim] = worker();
        }
        if !report.damage.any() {
            board().end();
            if let Some(fault) = all_end(&mut workers, report.kills) {
                report.damage += fault.damage;
                report.faults.push(fault);
            } else {
                let damage = self.look_at(&state);
                if damage.any() {
                    report.faults.push(fault_of(damage, report.kills, board().said(), Vec::new()));
                }
                report.damage += damage;
            }
        }
        report.seconds = begun.elapsed().as_secs_f64();
        report
    }
}

fn fault_of(damage: Damage, kills: u64, note: String, stuck: Vec<Stuck>) -> Fault {
    let point = kills as usize;
    Fault { damage, point, died_at: None, heir_point: 0, heir_died_at: None, stuck, note }
}

fn wedged(workers: &[Process], kills: u64, note: &str) -> Fault {
    let named: Vec<_> = workers.iter().map(|worker| ("worker", worker.pid())).collect();
    fault_of(Damage { wedged: 1, ..Damage::default() }, kills, note.to_owned(), Stuck::among(&named))
}

/// Waits until somebody has come to the end of an operation; a fault if nobody does, or one has panicked.
fn goes_on(workers: &mut [Process], kills: u64) -> Option<Fault> {
    let (turns, mut limit) = (board().turns(), Limit::after(LIMIT));
    while board().turns() == turns {
        if limit.left().is_zero() {
            return Some(wedged(workers, kills, "after this kill nobody goes on"));
        }
        thread::sleep(Duration::from_micros(20));
    }
    None
}

/// Waits until all have ended; a fault if one does not, or not well.
fn all_end(workers: &mut [Process], kills: u64) -> Option<Fault> {
    for place in 0..workers.len() {
        if !workers[place].until_ended(LIMIT) {
            return Some(wedged(workers, kills, "in the end one does not end"));
        }
        if !workers[place].ended_well() {
            let damage = Damage { torn: 1, ..Damage::default() };
            return Some(fault_of(damage, kills, "a worker panicked".to_owned(), Vec::new()));
        }
    }
    None
}
