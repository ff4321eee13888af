//! [`Supervisor`]: children that are started anew when they fail.
//!
//! # A member's states
//! | state   | meaning                                  | left by                                                   |
//! |---------|------------------------------------------|-----------------------------------------------------------|
//! | due     | to be started at that time               | its start                                                 |
//! | running |                                          | its end: well, or as a failure; or by the rest-for-one    |
//! | done    | it ended well                            | nothing                                                   |
//!
//! The supervisor waits for the ends of all that run, for the time when the next is due, and for the signals that tell
//! it to drain. While it drains it waits for the ends, for the end of the grace, and for another such signal, which is
//! the end of the grace too: who signals twice is in a hurry. It holds nothing in shared memory: when it is killed,
//! its children end with it, as all children do.

use std::{
    collections::VecDeque,
    error::Error,
    fmt, io,
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use nix::{libc, sys::signal::SigSet};

use crate::{
    error::SpawnError,
    os::{newborn, readiness},
    primitive::Deadline,
    process::{Builder, Child, ExitStatus, OnDrop, Process},
};

/// Who is started anew when a child fails.
///
/// # References
/// Erlang/OTP `supervisor`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Strategy {
    /// The one that failed.
    #[default]
    OneForOne,
    /// It, and all that were added after it: those are ended first, the last one first.
    RestForOne,
}

/// How a [`Supervisor`] came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Supervised {
    /// All children ended well.
    Done,
    /// SIGTERM or SIGINT came, and all children were ended.
    Drained,
}

/// Why a [`Supervisor`] gave up. All other children were ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum SuperviseError {
    /// More failures within the time than the budget allows.
    TooManyRestarts {
        /// Who failed last.
        name: String,
        /// How.
        failure: Failure,
        /// How many failures there were.
        failures: usize,
    },
    /// The system refused.
    Os(io::Error),
}

/// What counts against the budget.
#[derive(Debug)]
#[non_exhaustive]
pub enum Failure {
    /// The child ended so.
    Ended(ExitStatus),
    /// It could not be started.
    NotStarted(SpawnError),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Ended(status) => status.fmt(f),
            Failure::NotStarted(error) => error.fmt(f),
        }
    }
}

impl fmt::Display for SuperviseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SuperviseError::TooManyRestarts { name, failure, failures } => {
                write!(f, "given up after {failures} failures, the last that of {name}: {failure}")
            }
            SuperviseError::Os(_) => f.write_str("the children cannot be watched"),
        }
    }
}

impl Error for SuperviseError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            SuperviseError::TooManyRestarts { failure: Failure::NotStarted(error), .. } => Some(error),
            SuperviseError::TooManyRestarts { .. } => None,
            SuperviseError::Os(error) => Some(error),
        }
    }
}

impl From<io::Error> for SuperviseError {
    fn from(error: io::Error) -> SuperviseError {
        SuperviseError::Os(error)
    }
}

/// Starts children, and starts those anew that fail, until all have ended well, or it is told to stop.
///
/// A child fails when it ends otherwise than with code 0: a panic, a signal, another code. A child that ended well is
/// done. When there are more failures within a time than the budget allows, 5 in 10 seconds unless it is told another,
/// all are ended and the supervisor gives up.
///
/// On SIGTERM or SIGINT it drains: all children get SIGTERM, and those that are still there after the grace, 5 seconds
/// unless it is told another, SIGKILL. A second signal ends the grace at once: SIGKILL for all. Children are in
/// process groups of their own, so a Ctrl-C reaches the supervisor alone. When the supervisor's process is killed,
/// they end with it.
///
/// # Examples
/// ```standalone_crate
/// use pshared::{Atomic, Process, Supervised, Supervisor};
///
/// let tries = Atomic::new(0)?;
/// let mut supervisor = Supervisor::new();
/// supervisor.child("stubborn", |builder| builder.spawn(|| assert_eq!(tries.fetch_add(1), 2, "not yet")));
/// assert_eq!(supervisor.run()?, Supervised::Done);
/// assert_eq!(tries.get(), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Erlang/OTP `supervisor`; Python has none.
pub struct Supervisor<'a> {
    strategy: Strategy,
    most: usize,
    within: Duration,
    pauses: (Duration, Duration),
    grace: Duration,
    members: Vec<Member<'a>>,
}

type Start<'a> = Box<dyn FnMut(Builder) -> Result<Child, SpawnError> + 'a>;

struct Member<'a> {
    name: String,
    start: Start<'a>,
    state: State,
    /// Failures one soon after the other.
    failures: u32,
    started: Instant,
}

enum State {
    Due(Deadline),
    Running(Child),
    Done,
}

impl Member<'_> {
    /// Whether it runs, as a child of this process: a forked copy of its supervisor has none.
    fn runs_here(&self) -> bool {
        matches!(&self.state, State::Running(child) if child.is_ours())
    }
}

impl Default for Supervisor<'_> {
    fn default() -> Self {
        Supervisor::new()
    }
}

impl<'a> Supervisor<'a> {
    /// Without children yet.
    pub fn new() -> Supervisor<'a> {
        Supervisor {
            strategy: Strategy::default(),
            most: 5,
            within: Duration::from_secs(10),
            pauses: (Duration::from_millis(10), Duration::from_secs(5)),
            grace: Duration::from_secs(5),
            members: Vec::new(),
        }
    }

    /// Who is started anew when a child fails.
    pub fn strategy(&mut self, strategy: Strategy) -> &mut Self {
        self.strategy = strategy;
        self
    }

    /// Gives up at more than `most` failures, of whomever, within `time`.
    pub fn budget(&mut self, most: usize, time: Duration) -> &mut Self {
        (self.most, self.within) = (most, time);
        self
    }

    /// Waits before a child is started anew: `first`, and twice as long each time that it fails again within the
    /// budget's time after its start, but never longer than `longest`. 10 milliseconds and 5 seconds unless this says
    /// otherwise.
    pub fn back_off(&mut self, first: Duration, longest: Duration) -> &mut Self {
        self.pauses = (first, longest);
        self
    }

    /// How long a child may take to end when it is told to.
    pub fn grace(&mut self, grace: Duration) -> &mut Self {
        self.grace = grace;
        self
    }

    /// Adds a child. `start` is called for each of its starts, with a builder that has its name and its surroundings;
    /// it may change it and start the child by whatever method.
    pub fn child<T>(
        &mut self,
        name: impl Into<String>,
        mut start: impl FnMut(Builder) -> Result<Process<T>, SpawnError> + 'a,
    ) -> &mut Self {
        let start = Box::new(move |builder| start(builder).map(Process::detached));
        let (state, started) = (State::Due(Deadline::now()), Instant::now());
        self.members.push(Member { name: name.into(), start, state, failures: 0, started });
        self
    }

    /// Starts the children in the order in which they were added, and looks after them. Called again, it goes on with
    /// those that are not done.
    ///
    /// Blocks until all have ended well or it has drained. SIGTERM and SIGINT are blocked in the calling thread
    /// meanwhile, and mean a drain; threads that do not block them would take them away, so it is for programs, or
    /// children, that are supervisors and little else.
    ///
    /// # Errors
    /// [`SuperviseError::TooManyRestarts`]; [`SuperviseError::Os`]. All children have ended then.
    pub fn run(&mut self) -> Result<Supervised, SuperviseError> {
        let signals = Signals::blocked()?;
        let came_to = self.look_after(&signals);
        // Whoever is left, after a failure too, or when a panic of `start` has come by.
        if !matches!(came_to, Ok(Supervised::Done)) {
            self.drain(0, Some(&signals))?;
        }
        if matches!(came_to, Ok(Supervised::Drained)) {
            // What came during the drain has had its say.
            readiness::drain(signals.file.as_fd())?;
        }
        came_to
    }

    fn look_after(&mut self, signals: &Signals) -> Result<Supervised, SuperviseError> {
        let mut failures: VecDeque<Instant> = VecDeque::new();
        loop {
            for place in 0..self.members.len() {
                let failure = match &self.members[place].state {
                    State::Due(time) if time.has_passed() => match self.start(place, signals) {
                        Ok(()) => None,
                        Err(error) => Some(Failure::NotStarted(error)),
                    },
                    State::Running(child) => match child.exit_status()? {
                        Some(status) if status.success() => {
                            self.members[place].state = State::Done;
                            None
                        }
                        status => status.map(Failure::Ended),
                    },
                    State::Due(_) | State::Done => None,
                };
                let Some(failure) = failure else { continue };
                let now = Instant::now();
                failures.push_back(now);
                while failures.front().is_some_and(|&first| now.duration_since(first) > self.within) {
                    failures.pop_front();
                }
                self.put_off(place, now)?;
                if failures.len() > self.most {
                    let (name, failures) = (self.members[place].name.clone(), failures.len());
                    return Err(SuperviseError::TooManyRestarts { name, failure, failures });
                }
                // From the first on, so that nobody is started before whom it follows.
                break;
            }
            if self.members.iter().all(|member| matches!(member.state, State::Done)) {
                return Ok(Supervised::Done);
            }
            if self.wait(signals)? {
                return Ok(Supervised::Drained);
            }
        }
    }

    fn start(&mut self, place: usize, signals: &Signals) -> Result<(), SpawnError> {
        let member = &mut self.members[place];
        let builder = Builder::default()
            .name(member.name.as_str())
            .signal_mask(&newborn::members(&signals.before))
            .process_group(0)
            .on_drop(OnDrop::Kill);
        member.started = Instant::now();
        member.state = State::Running((member.start)(builder)?);
        Ok(())
    }

    /// Has a member that failed started again later, and those that the strategy takes along.
    fn put_off(&mut self, place: usize, now: Instant) -> Result<(), SuperviseError> {
        if self.strategy == Strategy::RestForOne {
            // A signal that comes meanwhile begins the great drain after this one.
            self.drain(place + 1, None)?;
        }
        let (first, longest) = self.pauses;
        let member = &mut self.members[place];
        let soon = now.duration_since(member.started) <= self.within;
        member.failures = if soon { member.failures.saturating_add(1) } else { 1 };
        let doublings = (member.failures - 1).min(31);
        let due = Deadline::after(first.saturating_mul(1 << doublings).min(longest));
        member.state = State::Due(due);
        if self.strategy == Strategy::RestForOne {
            let later = self.members[place + 1..].iter_mut();
            later
                .filter(|member| !matches!(member.state, State::Done))
                .for_each(|m| m.state = State::Due(due));
        }
        Ok(())
    }

    /// Waits until somebody ends or is due; true: until it is told to stop.
    fn wait(&self, signals: &Signals) -> Result<bool, SuperviseError> {
        let running = self.members.iter().filter_map(|member| match &member.state {
            State::Running(child) => Some(child.pollfd()),
            _ => None,
        });
        let mut files = vec![readiness::readable(signals.file.as_fd())];
        files.extend(running);
        let due = self.members.iter().filter_map(|member| match member.state {
            State::Due(time) => Some(time),
            _ => None,
        });
        readiness::wait_ready(&mut files, due.min())?;
        if files[0].revents == 0 {
            return Ok(false);
        }
        readiness::drain(signals.file.as_fd())?;
        Ok(true)
    }

    /// Ends all from that place on: SIGTERM, the last one first; and SIGKILL for who is there after the grace, which
    /// ends when another of the signals comes. They are due again.
    fn drain(&mut self, from: usize, signals: Option<&Signals>) -> Result<(), SuperviseError> {
        let running = self.members[from..].iter_mut().rev();
        let running: Vec<_> =
            running.filter(|member| member.runs_here()).map(|member| &mut member.state).collect();
        let mut refused = None;
        for state in &running {
            if let State::Running(child) = &**state {
                refused = child.terminate().err().or(refused);
            }
        }
        let limit = Deadline::after(self.grace);
        for state in running {
            let State::Running(child) = &*state else { continue };
            if !ends_in_time(child, limit, signals)? {
                refused = child.kill().err().or(refused);
                child.wait()?;
            }
            *state = State::Due(Deadline::now());
        }
        refused.map_or(Ok(()), |error| Err(error.into()))
    }
}

impl fmt::Debug for Supervisor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members = self.members.iter().map(|member| match &member.state {
            State::Due(_) => (member.name.as_str(), "due".to_owned()),
            State::Running(child) => (member.name.as_str(), format!("running as {}", child.pid())),
            State::Done => (member.name.as_str(), "done".to_owned()),
        });
        f.debug_map().entries(members).finish()
    }
}

impl Drop for Supervisor<'_> {
    /// Ends whoever is left: after a panic in a start.
    fn drop(&mut self) {
        let _ = self.drain(0, None);
    }
}

/// Whether the child ends before the limit, and before another signal comes; which stays there to be seen again.
fn ends_in_time(child: &Child, limit: Deadline, signals: Option<&Signals>) -> io::Result<bool> {
    let mut files = vec![child.pollfd()];
    files.extend(signals.map(|signals| readiness::readable(signals.file.as_fd())));
    readiness::wait_ready(&mut files, Some(limit))?;
    let limit = if files[0].revents == 0 { Deadline::now() } else { limit };
    Ok(child.wait_deadline(limit)?.is_some())
}

/// SIGTERM and SIGINT, blocked in this thread as long as this lives.
struct Signals {
    file: OwnedFd,
    before: SigSet,
}

impl Signals {
    fn blocked() -> io::Result<Signals> {
        let both = newborn::mask_of(&[libc::SIGTERM, libc::SIGINT])?;
        let before = newborn::mask()?;
        let file = readiness::signals(&both)?;
        newborn::block(&both)?;
        Ok(Signals { file, before })
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // A mask that was read a moment ago can be set again.
        let _ = newborn::set_mask(&self.before);
    }
}
