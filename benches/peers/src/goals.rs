//! The goals, all in one table, and whether they are met.
//!
//! A goal is judged by the median of the ratios at one distance of the CPUs: the one at which most pairs were measured.
//! The others stand in the table of results.

use std::fmt;

use crate::{
    distance::Distance,
    report::{Cell, Results},
    rounds::Row,
};

/// What has to hold.
#[derive(Clone, Copy, Debug)]
pub enum Bound {
    /// Our time is at most so much of theirs.
    Time(f64),
    /// Our speed is at least so much of theirs.
    Speed(f64),
    /// Our figure is at least so much.
    AtLeast(f64),
    /// Our figure is at most so much.
    AtMost(f64),
}

use Bound::{AtLeast, AtMost, Speed, Time};

impl Bound {
    fn holds(self, cell: &Cell) -> bool {
        match self {
            Time(most) => cell.ratio.middle <= most,
            Speed(least) => 1.0 / cell.ratio.middle >= least,
            AtLeast(least) => cell.ours.middle >= least,
            AtMost(most) => cell.ours.middle <= most,
        }
    }

    /// The figure that is bounded.
    pub fn figure(self, cell: &Cell) -> f64 {
        match self {
            Time(_) => cell.ratio.middle,
            Speed(_) => 1.0 / cell.ratio.middle,
            AtLeast(_) | AtMost(_) => cell.ours.middle,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Time(most) => write!(f, "time ≤ {most} x"),
            Speed(least) => write!(f, "speed ≥ {least} x"),
            AtLeast(least) => write!(f, "≥ {least}"),
            AtMost(most) => write!(f, "≤ {most}"),
        }
    }
}

/// Of a row, beside each of some others: of those that can be measured here.
pub struct Goal {
    pub row: &'static str,
    pub beside: &'static [&'static str],
    pub bound: Bound,
}

const fn goal(row: &'static str, beside: &'static [&'static str], bound: Bound) -> Goal {
    Goal { row, beside, bound }
}

/// The fastest of what a program could use in place of a lock.
const BEST_LOCKS: &[&str] = &["parking_lot", "std Mutex", "pthread shared"];
const ROBUST: &[&str] = &["pthread robust"];
const SPIN: &[&str] = &["bare spin lock"];
const FUTEX: &[&str] = &["bare futex"];
const RING: &[&str] = &["bare ring"];
const BOUNDED: &[&str] = &["crossbeam channel", "crossbeam ArrayQueue"];
const MEMCPY: &[&str] = &["memcpy"];

/// Every goal.
pub const GOALS: &[Goal] = &[
    goal("lock/uncontended", &["std Mutex"], Time(1.05)),
    goal("lock/uncontended", ROBUST, Time(0.55)),
    goal("lock/2 processes, 100 + 0 ns", ROBUST, Time(0.3)),
    goal("lock/2 processes, 100 + 0 ns", SPIN, Time(1.1)),
    goal("lock/2 processes, 100 + 100 ns", ROBUST, Time(0.5)),
    goal("lock/2 processes, 100 + 100 ns", SPIN, Time(1.1)),
    goal("lock/4 processes, 100 + 0 ns", ROBUST, Time(0.3)),
    goal("lock/4 processes, 100 + 0 ns", SPIN, Time(1.1)),
    goal("lock/4 processes, 100 + 100 ns", ROBUST, Time(0.5)),
    goal("lock/4 processes, 100 + 100 ns", SPIN, Time(1.1)),
    goal("fairness/2 processes, 100 + 0 ns", ROBUST, AtLeast(0.8)),
    goal("fairness/2 processes, 100 + 100 ns", ROBUST, AtLeast(0.8)),
    goal("fairness/4 processes, 100 + 0 ns", ROBUST, AtLeast(0.8)),
    goal("fairness/4 processes, 100 + 100 ns", ROBUST, AtLeast(0.8)),
    goal("lock/2 processes, 0 + 0 ns", BEST_LOCKS, Time(1.1)),
    goal("lock/4 processes, 0 + 0 ns", BEST_LOCKS, Time(1.1)),
    goal("semaphore/uncontended", &["sem_t"], Time(1.0)),
    goal("semaphore/ping-pong", &["bare spinning semaphore"], Time(1.05)),
    goal("asleep/condition", FUTEX, Time(1.05)),
    goal("asleep/event", FUTEX, Time(1.05)),
    goal("asleep/semaphore", FUTEX, Time(1.05)),
    goal("asleep/channel", FUTEX, Time(1.05)),
    goal("round trip/event", &["two bare atomics"], Time(1.15)),
    goal("round trip/channel", &["two bare atomics"], Time(1.4)),
    goal("channel/8 B", RING, Speed(0.9)),
    goal("channel/64 B", RING, Speed(0.95)),
    goal("channel/1 KiB", RING, Speed(0.95)),
    goal("channel/8 B, batches", RING, Speed(1.25)),
    goal("channel/64 B, batches", RING, Speed(1.4)),
    goal("channel/1 KiB, batches", RING, Speed(1.4)),
    goal("channel/8 B", &["rtrb"], Time(1.0)),
    goal("channel/64 B", &["rtrb"], Time(1.0)),
    goal("channel/1 KiB", &["rtrb"], Time(1.0)),
    goal("channel/8 B, batches", &["rtrb"], Time(0.7)),
    goal("channel/64 B, batches", &["rtrb"], Time(0.7)),
    goal("channel/1 KiB, batches", &["rtrb"], Time(0.7)),
    goal("channel/64 KiB, copied", RING, Speed(0.95)),
    goal("channel/64 KiB, in place", &["iceoryx2 loan"], Time(0.5)),
    goal("queue/2 x 2, 8 B", BOUNDED, Time(0.5)),
    goal("queue/4 x 4, 8 B", BOUNDED, Time(0.5)),
    goal("queue/2 x 2, 8 B, batches", BOUNDED, Time(0.25)),
    goal("queue/4 x 4, 8 B, batches", BOUNDED, Time(0.25)),
    goal("queue/2 x 2, 1 KiB", BOUNDED, Time(0.8)),
    goal("queue/4 x 4, 1 KiB", BOUNDED, Time(0.8)),
    goal("channel/8 B", &["iceoryx2"], Speed(40.0)),
    goal("channel/8 B", &["Boost message_queue"], Speed(15.0)),
    goal("channel/8 B", &["ipc-channel"], Speed(200.0)),
    goal("channel/8 B", &["Python Queue"], Speed(500.0)),
    goal("value/fetch_add, 2 processes", &["bare atomic"], Time(1.05)),
    goal("value/add under a lock, 2 processes", ROBUST, Time(0.35)),
    goal("value/update of 64 B", &["our Lock"], Time(3.0)),
    goal("array/64 KiB written", MEMCPY, Speed(0.97)),
    goal("array/64 KiB read", MEMCPY, Speed(0.97)),
    goal("array/64 MiB written", MEMCPY, Speed(0.97)),
    goal("array/64 MiB read", MEMCPY, Speed(0.97)),
    goal("process/spawn + join", &["bare fork + waitpid"], Time(1.15)),
    goal("process/spawn + join", &["Python fork"], Time(0.1)),
    goal("process/fork server", &["Python forkserver"], Time(0.03)),
    goal("process/reap 1,000", &["waitpid(-1) loop"], Time(1.2)),
    goal("pool/map, chunks of 1", &["rayon"], Time(1.1)),
    goal("pool/map, chunks of 1", &["Python Pool"], Time(0.002)),
    goal("pool/map, usual chunks", &["rayon"], Time(0.6)),
    goal("pool/map, usual chunks", &["Python Pool"], Time(0.02)),
    goal("pool/apply round trip", &["rayon spawn + mpsc"], Time(0.05)),
    goal("pool/apply round trip", &["Python Pool"], Time(0.005)),
    goal("pool/1 MiB in and out", &["two copies"], Speed(0.5)),
    goal("region/1 MiB made and dropped", &["memfd + fallocate + mmap + munmap"], Time(1.15)),
    goal("memory/Lock", &["pthread_mutex_t"], AtMost(128.0)),
    goal("memory/Semaphore", &["sem_t"], AtMost(64.0)),
    goal("memory/Event", &["pthread_cond_t + pthread_mutex_t"], AtMost(64.0)),
    goal("memory/Queue beside its buffer", &["pthread_cond_t + pthread_mutex_t"], AtMost(768.0)),
    goal("memory/each of 64 on a queue", &["bare fork"], AtMost(65536.0)),
];

/// The goals by which none of the rows would be judged: of all rows, there must not be any.
pub fn unheard(rows: &[Row]) -> Vec<String> {
    let heard = |row: &Row, beside: &str| {
        row.others.iter().any(|other| other.name == beside)
            || row.absent.iter().any(|(name, _)| name == beside)
    };
    let all = GOALS.iter().flat_map(|goal| goal.beside.iter().map(|beside| (goal.row, *beside)));
    let unheard =
        all.filter(|&(name, beside)| !rows.iter().any(|row| row.name == name && heard(row, beside)));
    unheard.map(|(name, beside)| format!("{name} beside {beside}")).collect()
}

/// What became of a goal, beside one of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Met,
    Missed,
    /// The rival is not here, or the row was not asked for.
    NotAsked,
    /// There ought to be a figure.
    NoFigure,
}

/// The goal's verdict beside `other`, and the distance and figure by which it was judged.
pub fn judge(goal: &Goal, other: &str, results: &Results) -> (Verdict, Option<(Distance, f64)>) {
    let Some((distance, cell)) = results.most_measured(goal.row, other) else {
        let faulty = results.gaps.iter().any(|gap| gap.row == goal.row && gap.beside == other && !gap.absent);
        return (if faulty { Verdict::NoFigure } else { Verdict::NotAsked }, None);
    };
    let verdict = if goal.bound.holds(cell) { Verdict::Met } else { Verdict::Missed };
    (verdict, Some((distance, goal.bound.figure(cell))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_goal_has_a_row() {
        let unheard = unheard(&crate::rows(&[]));
        assert!(unheard.is_empty(), "{unheard:?}");
    }
}
