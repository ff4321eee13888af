//! The supervisor of a pool: a process with one thread that starts workers, buries them, and starts others.
//!
//! It sleeps on its workers' pidfds and on a socket to which the parent, or a worker, writes when there is something to
//! look at: an order, a cancelled task, a time limit. What is to be done stands in the board, so such a packet says
//! nothing, may be one too many, and may be missing where the sender died: a dead worker is news by itself, and a dead
//! parent ends the supervisor.
//!
//! # How a worker is killed for a task, and for no other
//! It may finish the task at any moment and take the next. So it is stopped first (SIGSTOP, and waited for); then the
//! slot is looked at; and only if the worker is still at that task, it is killed. Otherwise it goes on.
//!
//! # What a worker's end means
//! | it was                    | its task                                             | its place                            |
//! |---------------------------|------------------------------------------------------|--------------------------------------|
//! | killed for a cancellation | cancelled                                            | filled at once                       |
//! | killed for a time limit   | late                                                 | filled at once                       |
//! | ready, and died           | tried again, if the rules say so; else lost          | filled at once                       |
//! | not yet ready             | none                                                 | filled after a pause; when too many starts in a row have failed and no worker is ready, the pool gives up |
//! | leaving                   | none                                                 | filled at once                       |
//! | leaving for want of work  | none                                                 | filled when there is work            |
//!
//! When the pool is closed, a place is filled only as long as there are tasks. Sources: signal(7), waitid(2).

use std::{
    io::{self, IoSliceMut},
    os::fd::{AsFd, OwnedFd},
};

use nix::libc;
use serde::{Deserialize, Serialize};

use crate::{
    os::{
        packets,
        pidfd::{self, Ended},
        readiness,
    },
    pool::{
        board::Orders,
        site::{Side, Site},
        word::{CANCEL, Form, LATE, State, Word},
        worker::{self, IDLE, Initializer, Rules, STARTING},
    },
    primitive::{Acquire, Deadline, Relaxed},
    process::{ExitStatus, JoinError, Process},
};

/// How a worker died, as it is left in the place of a result.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Death {
    pub(super) pid: u32,
    code: Option<i32>,
    signal: Option<i32>,
    core: bool,
    pub(super) peak_memory: Option<u64>,
}

impl Death {
    pub(super) fn status(&self) -> ExitStatus {
        match (self.code, self.signal) {
            (Some(code), _) => ExitStatus::from(Ended::Exited(code)),
            (None, Some(signal)) => ExitStatus::from(Ended::Killed { signal, core: self.core }),
            (None, None) => ExitStatus::UNKNOWN,
        }
    }
}

/// One of as many places as there are to be workers.
enum Place {
    /// Nobody is to come.
    Vacant,
    /// Nobody comes before there is work.
    Waiting,
    /// To be filled at that time.
    Due(Deadline),
    Running(Process<Result<(), String>>),
}

pub(super) struct Keeper<'a> {
    site: &'a Site,
    rules: Rules,
    initializer: Option<&'a Initializer>,
    socket: OwnedFd,
    places: Vec<Place>,
    /// Starts in a row that have failed.
    failures: u32,
    started: u64,
}

impl<'a> Keeper<'a> {
    pub(super) fn new(
        site: &'a Site,
        rules: Rules,
        initializer: Option<&'a Initializer>,
        socket: OwnedFd,
    ) -> Keeper<'a> {
        Keeper { site, rules, initializer, socket, places: Vec::new(), failures: 0, started: 0 }
    }

    /// Looks after the workers until there is nothing more to do.
    pub(super) fn preside(mut self) {
        if !self.site.board.preside() || packets::send(self.socket.as_fd(), &[&[1]], None).is_err() {
            return;
        }
        while self.look_round() {
            self.sleep();
        }
        self.end_all();
    }

    /// Does what is to be done. False if that was all.
    fn look_round(&mut self) -> bool {
        let board = &self.site.board;
        self.drain();
        if board.is_ordered(Orders::Ended) {
            return false;
        }
        self.fit();
        if let Err(reason) = self.bury_the_dead() {
            self.give_up(&reason);
            return false;
        }
        self.enforce();
        let is_closed = board.is_ordered(Orders::Closed);
        if is_closed && !board.has_tasks() {
            // Nobody else comes; those who are there leave by themselves.
            for place in &mut self.places {
                if !matches!(place, Place::Running(_)) {
                    *place = Place::Vacant;
                }
            }
            return self.places.iter().any(|place| matches!(place, Place::Running(_)));
        }
        match self.fill() {
            Ok(()) => true,
            Err(reason) => {
                self.give_up(&reason);
                false
            }
        }
    }

    /// Takes what was written to wake us.
    fn drain(&self) {
        let mut byte = [0];
        while matches!(packets::take(self.socket.as_fd(), &mut [IoSliceMut::new(&mut byte)]), Ok(1..)) {}
    }

    /// Makes as many places as there are to be.
    fn fit(&mut self) {
        let board = &self.site.board;
        let target = board.hall.workers.load(Acquire) as usize;
        while self.places.len() < target {
            self.places.push(Place::Due(Deadline::now()));
        }
        for (index, place) in self.places.iter_mut().enumerate() {
            match place {
                // Not again a moment later: whoever was told to leave leaves, and is replaced if need be.
                Place::Running(_) if index >= target => {
                    if board.desks[index].retire.swap(1, Relaxed) == 0 {
                        board.nudge(index);
                    }
                }
                Place::Running(_) => {}
                place if index >= target => *place = Place::Vacant,
                Place::Vacant => *place = Place::Due(Deadline::now()),
                Place::Due(_) | Place::Waiting => {}
            }
        }
    }

    /// Reaps who has ended and settles what they leave. An error is why nothing more can be done.
    fn bury_the_dead(&mut self) -> Result<(), String> {
        let mut verdict = Ok(());
        for index in 0..self.places.len() {
            let Place::Running(process) = &self.places[index] else { continue };
            let Ok(Some(status)) = process.exit_status() else { continue };
            let Place::Running(process) = std::mem::replace(&mut self.places[index], Place::Vacant) else {
                continue;
            };
            let (pid, usage) = (process.pid(), process.usage());
            let left = process.join();
            self.bury(index, pid, status, usage.map(|usage| usage.peak_memory));
            let board = &self.site.board;
            let desk = &board.desks[index];
            let phase = desk.phase.load(Acquire);
            let target = board.hall.workers.load(Relaxed) as usize;
            if phase == STARTING {
                self.failures += 1;
                let reason = match left {
                    Ok(Ok(())) | Err(JoinError::NoValue { .. }) => format!("its process {status}"),
                    Ok(Err(reason)) => reason,
                    Err(error) => error.to_string(),
                };
                verdict = verdict.and(self.may_go_on(reason));
                self.places[index] = Place::Due(Deadline::after(self.pause()));
            } else {
                self.failures = 0;
                self.places[index] = match phase {
                    _ if index >= target => Place::Vacant,
                    IDLE => Place::Waiting,
                    _ => Place::Due(Deadline::now()),
                };
            }
        }
        self.note_absent();
        verdict
    }

    fn bury(&self, index: usize, pid: u32, status: ExitStatus, peak_memory: Option<u64>) {
        let (code, signal, core) = (status.code(), status.signal(), status.core_dumped());
        let death = postcard::to_stdvec(&Death { pid, code, signal, core, peak_memory }).unwrap_or_default();
        let board = &self.site.board;
        let phase = board.desks[index].phase.load(Acquire);
        if !status.success() && phase != STARTING {
            // ORDERING: Relaxed, a count that we alone write.
            board.hall.died.store(board.hall.died.load(Relaxed) + 1, Relaxed);
        }
        board.bury(index, |slot, word| {
            if word.has(CANCEL) {
                return word.settled(State::Cancelled, Form::Cell);
            }
            if word.has(LATE) {
                return word.settled(State::Late, Form::Cell);
            }
            let again = word.again(true);
            if again.deaths() <= self.rules.retries {
                return again;
            }
            let left = self.site.put_bytes(Side::Result, slot, &death);
            again.settled(State::Lost, left.unwrap_or(Form::Cell))
        });
    }

    /// Whether another start may be tried after one that failed; if not, why.
    fn may_go_on(&self, reason: String) -> Result<(), String> {
        let is_ready = |(index, place): (usize, &Place)| {
            matches!(place, Place::Running(_)) && self.site.board.desks[index].phase.load(Acquire) != STARTING
        };
        let one_is_ready = self.places.iter().enumerate().any(is_ready);
        if self.failures < self.rules.budget || one_is_ready { Ok(()) } else { Err(reason) }
    }

    fn pause(&self) -> std::time::Duration {
        let (first, longest) = self.rules.pauses;
        first.saturating_mul(1 << self.failures.saturating_sub(1).min(20)).min(longest)
    }

    fn note_absent(&self) {
        let absent = self.places.iter().filter(|place| matches!(place, Place::Waiting)).count();
        // ORDERING: Relaxed, a hint; READY tasks are looked for after a packet came.
        self.site.board.hall.absent.store(absent as u32, Relaxed);
    }

    /// Fills the places that are due. An error is why nothing more can be done.
    fn fill(&mut self) -> Result<(), String> {
        // Said before the tasks are counted: who publishes one later sees it, and writes to us.
        self.note_absent();
        let mut wanted = match self.places.iter().any(|place| matches!(place, Place::Waiting)) {
            true => self.site.board.counts().0,
            false => 0,
        };
        for index in 0..self.places.len() {
            let is_due = match &self.places[index] {
                Place::Due(time) => time.has_passed(),
                Place::Waiting if wanted > 0 => {
                    wanted -= 1;
                    true
                }
                _ => false,
            };
            if !is_due {
                continue;
            }
            match self.start(index) {
                Ok(process) => self.places[index] = Place::Running(process),
                Err(error) => {
                    self.failures += 1;
                    self.places[index] = Place::Due(Deadline::after(self.pause()));
                    self.may_go_on(error.to_string())?;
                }
            }
        }
        self.note_absent();
        Ok(())
    }

    fn start(&mut self, index: usize) -> Result<Process<Result<(), String>>, crate::error::SpawnError> {
        let (site, rules, initializer) = (self.site, &self.rules, self.initializer);
        let desk = &site.board.desks[index];
        desk.phase.store(STARTING, Relaxed);
        // ORDERING: Relaxed, nobody is there; the fork carries all of it.
        for word in [&desk.due, &desk.warned, &desk.tasks] {
            word.store(0, Relaxed);
        }
        desk.retire.store(0, Relaxed);
        let name = format!("{}-{}", rules.name, self.started + 1);
        let builder = rules
            .limits
            .iter()
            .fold(Process::builder().name(name), |builder, &(limit, value)| builder.limit(limit, value));
        let process = builder.spawn(|| worker::work(site, rules, index, initializer))?;
        self.started += 1;
        site.board.hall.started.store(self.started, Relaxed);
        Ok(process)
    }

    /// Sees to cancelled tasks and to time limits.
    fn enforce(&self) {
        let board = &self.site.board;
        for slot in 0..board.used() {
            let word = board.look(slot);
            if word.state() == State::Taken && word.has(CANCEL | LATE) {
                self.kill_for(slot, word, |word| word.has(CANCEL | LATE));
            }
        }
        let now = Deadline::now().as_nanos();
        for (index, place) in self.places.iter().enumerate() {
            let desk = &board.desks[index];
            let passed = |time: u64| (1..=now).contains(&time);
            // ORDERING: Acquire, for `at`, which was written before.
            let (due, warned) = (desk.due.load(Acquire), desk.warned.load(Acquire));
            if !matches!(place, Place::Running(_)) || !(passed(due) || passed(warned)) {
                continue;
            }
            let slot = desk.at.load(Relaxed) as usize % board.slots();
            let word = board.look(slot);
            if passed(due) {
                // While it is stopped, what it has announced is about the task that it is at.
                self.kill_for(slot, word, |_| {
                    let is_late = passed(desk.due.load(Acquire)) && desk.at.load(Relaxed) == slot as u64;
                    is_late && board.condemn(slot, LATE)
                });
            } else {
                self.stopped(index, |process| {
                    if passed(desk.warned.swap(0, Relaxed)) {
                        let _ = process.signal(self.rules.warning);
                    }
                    true
                });
            }
        }
    }

    /// Kills the worker that is at the task in `slot`, if it is still at it when it is stopped, and `is_due`.
    fn kill_for(&self, slot: usize, word: Word, is_due: impl Fn(Word) -> bool) {
        let index = word.worker();
        if word.state() != State::Taken || index >= self.places.len() {
            return;
        }
        self.stopped(index, |process| {
            let now = self.site.board.look(slot);
            let is_at_it = now.state() == State::Taken && now.worker() == index;
            if is_at_it && is_due(now) {
                // Its end is news like any other.
                let _ = process.kill();
                return false;
            }
            true
        });
    }

    /// Does something while a worker stands still; then lets it go on if that says so.
    fn stopped(&self, index: usize, body: impl FnOnce(&Process<Result<(), String>>) -> bool) {
        let Some(Place::Running(process)) = self.places.get(index) else { return };
        let stops = process.signal(libc::SIGSTOP).unwrap_or(false)
            && pidfd::wait_stopped(process.as_fd()).unwrap_or(false);
        if stops && body(process) {
            let _ = process.signal(libc::SIGCONT);
        }
    }

    /// Sleeps until there is something to do.
    fn sleep(&self) {
        let running = || {
            self.places.iter().filter_map(|place| match place {
                Place::Running(process) => Some(process),
                _ => None,
            })
        };
        let mut files = vec![readiness::readable(self.socket.as_fd())];
        files.extend(running().map(|process| readiness::readable(process.as_fd())));
        let starts = self.places.iter().filter_map(|place| match place {
            Place::Due(time) => Some(*time),
            _ => None,
        });
        let limits = self.places.iter().zip(&*self.site.board.desks).filter_map(|(place, desk)| {
            let times = [desk.due.load(Acquire), desk.warned.load(Acquire)];
            let first = times.into_iter().filter(|&time| time != 0).min();
            first.filter(|_| matches!(place, Place::Running(_))).map(Deadline::from_nanos)
        });
        // What cannot be waited for is looked at again at once: there is nothing better to be done.
        let _: io::Result<usize> = readiness::wait_ready(&mut files, starts.chain(limits).min());
    }

    /// Nothing more will be done: whoever waits is told.
    fn give_up(&self, reason: &str) {
        let board = &self.site.board;
        let notice = &reason.as_bytes()[..reason.len().min(NOTICE - 8)];
        let mut bytes = (notice.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(notice);
        // Without memory for the reason the pool fails without one.
        let _ = self.site.store.write(Side::Result, board.slots(), &bytes, 0);
        board.order(Orders::Failed);
    }

    /// Ends all that run, and waits for them.
    fn end_all(&mut self) {
        let places = std::mem::take(&mut self.places);
        let running = |place: Place| match place {
            Place::Running(process) => Some(process),
            _ => None,
        };
        let running: Vec<_> = places.into_iter().filter_map(running).collect();
        for process in &running {
            let _ = process.kill();
        }
        for process in &running {
            let _ = process.wait();
        }
    }
}

/// Bytes that the reason for giving up takes at most, its length included.
const NOTICE: usize = 4096;

/// Why the supervisor gave up.
pub(super) fn notice(site: &Site) -> String {
    let mut bytes = [0; 8];
    let slot = site.board.slots();
    let read = site.store.read(Side::Result, slot, &mut bytes).and_then(|()| {
        let mut all = vec![0; 8 + (u64::from_le_bytes(bytes) as usize).min(NOTICE - 8)];
        site.store.read(Side::Result, slot, &mut all)?;
        Ok(String::from_utf8_lossy(&all[8..]).into_owned())
    });
    read.unwrap_or_else(|error| error.to_string())
}
