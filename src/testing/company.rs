//! Companions: forked processes that hold, sleep, barge or come late while the victim is stepped and killed.
//!
//! A companion's body runs from [`pause`] to [`pause`]: there it stops itself by SIGSTOP, so the harness sees by
//! waitpid(2) that it has arrived, and lets it go by SIGCONT. Its *beats* say at which [`Moment`] it is started (the
//! first) or let go (the others), and what the harness then waits for. "Asleep" is what the kernel says:
//! /proc/PID/syscall names a futex call, ppoll, or a wait of io_uring, and the state is S.
//!
//! Nothing here polls on a timer that the crate has: sleepers sleep without a limit.

use std::{
    fs, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    ptr, thread,
    time::{Duration, Instant},
};

use nix::{
    libc,
    sys::{
        signal::{SigSet, SigmaskHow, Signal, kill, raise, sigprocmask},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, fork},
};

/// How long a survivor may take; longer is a wedge. (See [`Limit`].)
pub const LIMIT: Duration = Duration::from_secs(1);

/// A limit that is not over while a process of this lane waits for a CPU. On a machine with too much to do that may
/// last for seconds, and it is not the survivor's doing: one that is wedged sleeps, or uses a CPU up.
pub struct Limit {
    end: Instant,
    last: Instant,
}

impl Limit {
    /// A limit that begins now.
    pub fn after(limit: Duration) -> Limit {
        let end = Instant::now() + limit;
        Limit { end, last: end + 30 * LIMIT }
    }

    /// What is left of it.
    pub fn left(&mut self) -> Duration {
        let now = Instant::now();
        if self.end <= now && now < self.last && somebody_waits_for_a_cpu() {
            self.end = now + LIMIT / 20;
        }
        self.end.saturating_duration_since(now)
    }
}

/// Whether a child of ours, or a child of one, could run, but was let run for less than half the limit.
fn somebody_waits_for_a_cpu() -> bool {
    let children = |pid: i32| {
        let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        list.split_ascii_whitespace().filter_map(|pid| pid.parse::<i32>().ok()).collect::<Vec<_>>()
    };
    let waits = |pid: i32| {
        let used = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
        let used = used.split_ascii_whitespace().next().and_then(|used| used.parse().ok());
        state(Pid::from_raw(pid)) == Some('R')
            && used.is_some_and(|used| Duration::from_nanos(used) < LIMIT / 2)
    };
    let own = children(Pid::this().as_raw());
    own.iter().any(|&pid| waits(pid) || children(pid).into_iter().any(waits))
}

/// What a forked process runs.
pub type Body = Box<dyn FnOnce()>;

/// The places in a trial where companions act, in their order. At one moment they act in the order of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before the victim exists.
    Opening,
    /// The victim stands before its operation; one that is to be woken sleeps already.
    Mark,
    /// An heir, if there is one, has taken its place too: asleep, or stopped on its way to sleep.
    Ready,
    /// Whoever is to wake the sleeping victim does it now.
    Wake,
    /// The victim stands at its kill point, still alive.
    Stop,
    /// The victim is dead and reaped.
    Death,
    /// The heir stands at its kill point.
    SecondStop,
    /// The heir is dead too.
    SecondDeath,
}

/// What the harness waits for after a beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// It has stopped itself in [`pause`], or ended.
    Paused,
    /// It sleeps in a call of the crate's, or has ended.
    Asleep,
    /// It has ended.
    Ended,
    /// Nothing: it runs on beside the harness. In the end every companion must have ended within [`LIMIT`].
    Nothing,
}

/// One companion: a name, its beats, its part.
pub struct Companion {
    name: &'static str,
    beats: Vec<(Moment, Until)>,
    body: Option<Body>,
    process: Option<Process>,
}

impl Companion {
    /// A companion, whose `body` pauses as often as it has beats after the first.
    pub fn new(
        name: &'static str,
        beats: impl Into<Vec<(Moment, Until)>>,
        body: impl FnOnce() + 'static,
    ) -> Companion {
        let mut beats = beats.into();
        beats.reverse();
        Companion { name, beats, body: Some(Box::new(body)), process: None }
    }

    /// Does this moment's beats, if there are any.
    fn act(&mut self, moment: Moment) -> Result<(), String> {
        while self.beats.last().is_some_and(|beat| beat.0 == moment) {
            let (_, until) = self.beats.pop().expect("there is a last one");
            match (self.body.take(), &self.process) {
                (Some(body), _) => self.process = Some(Process::fork(body)),
                (None, Some(process)) => process.signal(Signal::SIGCONT),
                (None, None) => unreachable!("a body runs in a process"),
            }
            let process = self.process.as_mut().expect("it was started");
            let arrived = match until {
                Until::Paused => process.until_stopped(LIMIT),
                Until::Asleep => process.until_asleep(LIMIT),
                Until::Ended => process.until_ended(LIMIT),
                Until::Nothing => true,
            };
            if !arrived {
                return Err(format!("{} not {until:?} at {moment:?}: {}", self.name, process.describe()));
            }
        }
        Ok(())
    }
}

/// All companions of a trial. Dropped, it leaves none alive.
pub struct Company(Vec<Companion>);

impl Company {
    /// All of them, in the order in which they act.
    pub fn new(companions: Vec<Companion>) -> Company {
        Company(companions)
    }

    /// The names and processes of those who have been started.
    pub(super) fn processes(&self) -> impl Iterator<Item = (&'static str, &Process)> {
        self.0.iter().filter_map(|companion| Some((companion.name, companion.process.as_ref()?)))
    }

    /// Lets everybody act whose beat this is.
    pub fn act(&mut self, moment: Moment) -> Result<(), String> {
        self.0.iter_mut().try_for_each(|companion| companion.act(moment))
    }

    /// Waits until all have ended, and well, within [`LIMIT`] from now.
    pub fn all_end(&mut self) -> Result<(), String> {
        let mut limit = Limit::after(LIMIT);
        for companion in &mut self.0 {
            let name = companion.name;
            let process = companion.process.as_mut().ok_or_else(|| format!("{name} was never started"))?;
            if !process.until_ended_by(&mut limit) {
                return Err(format!("{name} is stuck: {}", process.describe()));
            }
            if !process.ended_well() {
                return Err(format!("{name} ended with {:?}", process.ended));
            }
        }
        Ok(())
    }
}

/// Stops the calling companion until its next beat.
pub fn pause() {
    raise(Signal::SIGSTOP).expect("SIGSTOP to oneself");
}

/// A forked process; killed and reaped when dropped.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    ended: Option<WaitStatus>,
}

impl Process {
    /// Forks; the child runs `body` and exits: 0, or 101 if it panicked. It dies with the harness.
    pub fn fork(body: impl FnOnce()) -> Process {
        // SAFETY: the harness has one thread.
        match unsafe { fork() }.expect("fork") {
            ForkResult::Parent { child } => Process { pid: child, ended: None },
            ForkResult::Child => {
                // SAFETY: a plain attribute of the process.
                unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
                let well = catch_unwind(AssertUnwindSafe(body)).is_ok();
                // SAFETY: ends the child without running what belongs to the harness.
                unsafe { libc::_exit(if well { 0 } else { 101 }) }
            }
        }
    }

    /// One that another has started, and that this process traces.
    pub fn of_another(pid: Pid) -> Process {
        Process { pid, ended: None }
    }

    /// Its number.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Whether it has ended, as far as is known.
    pub fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Sends it a signal, if it has not ended.
    pub fn signal(&self, signal: Signal) {
        if self.ended.is_none() {
            kill(self.pid, signal).expect("kill of a child that is not reaped");
        }
    }

    /// The next change of state (an end, a stop), if there is one within `limit`.
    pub fn next_change(&mut self, limit: Duration) -> Option<WaitStatus> {
        let end = Instant::now() + limit;
        loop {
            let flags = WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED | WaitPidFlag::__WALL;
            let status = waitpid(self.pid, Some(flags)).expect("waitpid for a child of ours");
            match status {
                WaitStatus::StillAlive => {}
                WaitStatus::Exited(..) | WaitStatus::Signaled(..) => {
                    self.ended = Some(status);
                    return Some(status);
                }
                _ => return Some(status),
            }
            let now = Instant::now();
            if now >= end {
                return None;
            }
            news_of_a_child(end - now);
        }
    }

    /// The next change of state, if there is one by then.
    pub fn next_change_by(&mut self, limit: &mut Limit) -> Option<WaitStatus> {
        loop {
            let left = limit.left();
            match self.next_change(left) {
                None if left.is_zero() => return None,
                None => {}
                status => return status,
            }
        }
    }

    fn until_stopped(&mut self, limit: Duration) -> bool {
        self.ended.is_some() || self.next_change_by(&mut Limit::after(limit)).is_some()
    }

    /// Waits for its end, and says whether it came.
    pub fn until_ended(&mut self, limit: Duration) -> bool {
        self.until_ended_by(&mut Limit::after(limit))
    }

    fn until_ended_by(&mut self, limit: &mut Limit) -> bool {
        while self.ended.is_none() {
            if self.next_change_by(limit).is_none() {
                return false;
            }
        }
        true
    }

    /// Waits until it sleeps in a call of the crate's, or has ended.
    pub fn until_asleep(&mut self, limit: Duration) -> bool {
        let mut limit = Limit::after(limit);
        loop {
            if self.ended.is_some() || asleep(self.pid).is_some() {
                return true;
            }
            self.next_change(Duration::ZERO);
            if limit.left().is_zero() {
                return false;
            }
            thread::sleep(Duration::from_micros(20));
        }
    }

    /// Whether it ran to its end without a panic.
    pub fn ended_well(&self) -> bool {
        matches!(self.ended, Some(WaitStatus::Exited(_, 0)))
    }

    /// What the kernel says it is doing.
    pub fn describe(&self) -> String {
        let call = fs::read_to_string(format!("/proc/{}/syscall", self.pid)).unwrap_or_default();
        format!("state {}, syscall {}", state(self.pid).unwrap_or('?'), call.trim())
    }

    /// SIGKILL, and reaped: what the kernel does at a death has been done.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        while self.ended.is_none() {
            self.next_change(Duration::from_secs(60)).expect("a killed process ends");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs `body` in a process of its own to its end, which must be a clean one.
pub fn run_to_end(body: impl FnOnce()) {
    let mut process = Process::fork(body);
    assert!(process.until_ended(LIMIT) && process.ended_well(), "a preparation failed: {:?}", process.ended);
}

/// If the process sleeps in one of the calls in which the crate waits: the call's number and its arguments.
pub fn asleep(pid: Pid) -> Option<Vec<u64>> {
    let call = fs::read_to_string(format!("/proc/{pid}/syscall")).ok()?;
    let mut words = call.split_ascii_whitespace();
    let number: i64 = words.next()?.parse().ok()?;
    let waits = [libc::SYS_futex, libc::SYS_futex_waitv, libc::SYS_ppoll, libc::SYS_io_uring_enter];
    if !waits.contains(&number) || state(pid) != Some('S') {
        return None;
    }
    let arguments = words.filter_map(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok());
    Some([number as u64].into_iter().chain(arguments).collect())
}

/// The state letter of proc(5).
pub(super) fn state(pid: Pid) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.trim_start().chars().next()
}

/// Keeps SIGCHLD, so that a wait for a child hears of it at once. Once, before anything is forked.
pub fn keep_news() {
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&children), None).expect("sigprocmask");
}

/// Sleeps until a child changes state, at most `limit`. It may return early; and does, so that who has not called
/// `keep_news`, and hears nothing, only waits a little longer.
fn news_of_a_child(limit: Duration) {
    let limit = limit.min(Duration::from_millis(5));
    let limit = libc::timespec {
        tv_sec: libc::time_t::try_from(limit.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(limit.subsec_nanos()),
    };
    // SAFETY: a set of our own, initialised before use; no siginfo is asked for; `limit` outlives the call.
    unsafe {
        let mut children: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&mut children);
        libc::sigaddset(&mut children, libc::SIGCHLD);
        libc::sigtimedwait(&children, ptr::null_mut(), &limit);
    }
}
