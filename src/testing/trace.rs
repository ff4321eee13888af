//! The ptrace engine: a process that runs one instruction at a time.
//!
//! The traced body calls [`stepped`] around its operation: a breakpoint instruction on either side. The harness runs
//! it to the first, and from there to one *point* after the other. A point is where one more instruction has been
//! executed, or where the process sleeps inside a futex call: that call's return is the next point. A system call is
//! one instruction: nothing parts it.
//!
//! Sources: ptrace(2); proc(5) for `syscall`.

use std::{
    arch::asm,
    collections::HashMap,
    hint::black_box,
    io, thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    libc,
    sys::{
        ptrace::{self, Options},
        signal::{Signal, raise},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

use super::{
    company::{Body, LIMIT, Limit, Process, asleep},
    shadow::Shadow,
    site::Stance,
};

/// Runs `operation` between the two marks.
#[inline(always)]
pub fn stepped<T>(operation: impl FnOnce() -> T) -> T {
    mark();
    let result = black_box(operation());
    mark();
    result
}

/// A mark by itself, for a process that is [attached](Traced::attach) to before it comes there.
#[inline(always)]
pub fn mark() {
    // SAFETY: a breakpoint: the tracer, which every caller has, goes on behind it.
    unsafe { asm!("int3") }
}

/// The first byte of [`mark`].
const BREAKPOINT: u8 = 0xcc;
/// `syscall`.
const SYSCALL: [u8; 2] = [0x0f, 0x05];
/// How long a sleeping process is given to come back by itself before it counts as asleep for good.
const NAP: Duration = Duration::from_millis(40);

/// Where a traced process stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Stopped between the marks.
    Inside,
    /// Sleeping in a futex call.
    Asleep,
    /// Stopped before the second mark: the operation is done.
    End,
}

/// A process under the harness's hand; killed and reaped when dropped.
#[derive(Debug)]
pub struct Traced {
    process: Process,
    place: Place,
    /// The address before the first point, and after each.
    way: Vec<u64>,
    /// The points before its first sleep.
    awake: usize,
    slept: bool,
    let_go: bool,
    /// Its stack pointer.
    stack: u64,
    shadow: Option<(Shadow, Vec<bool>)>,
}

impl Traced {
    fn new(process: Process) -> Traced {
        let place = Place::Inside;
        Traced { process, place, way: vec![], awake: 0, slept: false, let_go: false, stack: 0, shadow: None }
    }

    /// Forks, and runs `body` to its first mark.
    ///
    /// # Panics
    /// If it gets there in no way that a healthy body could.
    pub fn start(body: Body) -> Traced {
        let process = Process::fork(|| {
            ptrace::traceme().expect("PTRACE_TRACEME");
            raise(Signal::SIGSTOP).expect("SIGSTOP to oneself");
            body();
        });
        let mut traced = Traced::new(process);
        traced.stops_by(Signal::SIGSTOP);
        let options = Options::PTRACE_O_EXITKILL | Options::PTRACE_O_TRACESYSGOOD;
        ptrace::setoptions(traced.pid(), options).expect("PTRACE_SETOPTIONS");
        ptrace::cont(traced.pid(), None).expect("PTRACE_CONT");
        traced.stops_by(Signal::SIGTRAP);
        traced.look();
        traced.starts_here();
        traced
    }

    /// Takes hold of a process that another has started, calls `go`, and lets it run to its first mark.
    ///
    /// # Panics
    /// If it gets there in no way that a healthy body could.
    pub fn attach(pid: Pid, go: Body) -> Traced {
        ptrace::attach(pid).expect("PTRACE_ATTACH");
        let process = Process::of_another(pid);
        let mut traced = Traced::new(process);
        traced.stops_by(Signal::SIGSTOP);
        let options = Options::PTRACE_O_EXITKILL | Options::PTRACE_O_TRACESYSGOOD;
        ptrace::setoptions(traced.pid(), options).expect("PTRACE_SETOPTIONS");
        go();
        ptrace::cont(traced.pid(), None).expect("PTRACE_CONT");
        traced.stops_by(Signal::SIGTRAP);
        traced.look();
        traced.starts_here();
        traced
    }

    pub(super) fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// Where it stands.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Where it stood before its first point (the first mark, or where it was woken), and after each.
    pub fn way(&self) -> &[u64] {
        &self.way
    }

    fn address(&self) -> u64 {
        *self.way.last().expect("it stands somewhere")
    }

    /// Its points count from here.
    fn starts_here(&mut self) {
        self.shadow = None;
        self.way = vec![self.address()];
        (self.awake, self.slept) = (0, false);
    }

    /// The way up to its first sleep, for the next that goes it.
    pub fn guide(&self) -> Guide {
        Guide::new(&self.way[..=self.awake])
    }

    /// Goes `points` points, as far as it can. Where `guide` knows the way it runs to a place before the goal, by the
    /// shortest way, and steps from there. False if it went another way: nothing is shown then.
    pub fn go(&mut self, points: usize, guide: Option<&Guide>) -> bool {
        let known = guide.map_or(0, |guide| guide.start_before(points));
        if let Some(guide) = guide.filter(|_| known > 1) {
            if !self.runs_to(guide.way[known], guide.visits[known]) {
                return false;
            }
            self.way = guide.way[..=known].to_vec();
            self.awake = known;
        }
        while self.way.len() <= points && self.advance() {}
        true
    }

    /// Runs until the instruction at `address` comes next for the n-th time; false if it came elsewhere.
    fn runs_to(&mut self, address: u64, visits: u32) -> bool {
        let place = address as ptrace::AddressType;
        let code = ptrace::read(self.pid(), place).expect("PTRACE_PEEKTEXT");
        let broken = code & !0xff | libc::c_long::from(BREAKPOINT);
        for visit in 1..=visits {
            ptrace::write(self.pid(), place, broken).expect("PTRACE_POKETEXT");
            ptrace::cont(self.pid(), None).expect("PTRACE_CONT");
            if !self.breaks() {
                return false;
            }
            let mut registers = ptrace::getregs(self.pid()).expect("PTRACE_GETREGS");
            registers.rip -= 1;
            ptrace::setregs(self.pid(), registers).expect("PTRACE_SETREGS");
            ptrace::write(self.pid(), place, code).expect("PTRACE_POKETEXT");
            self.stack = registers.rsp;
            if registers.rip != address {
                return false;
            }
            if visit < visits {
                // It may be a system call, and sleep.
                ptrace::step(self.pid(), None).expect("PTRACE_SINGLESTEP");
                if !self.breaks() {
                    return false;
                }
            }
        }
        let at_mark = code as u8 == BREAKPOINT;
        self.place = if at_mark { Place::End } else { Place::Inside };
        true
    }

    /// Waits until it comes to a breakpoint, on a way on which it is known not to sleep for long: one that is not
    /// stepped may come to a wait too early, and has a few looks to come out of it.
    fn breaks(&mut self) -> bool {
        const LOOKS: usize = 4;
        let (end, mut naps) = (Instant::now() + LIMIT, 0);
        loop {
            match self.process.next_change(Duration::from_millis(3)) {
                Some(WaitStatus::Stopped(_, Signal::SIGTRAP)) => return true,
                None if Instant::now() < end => {
                    naps += usize::from(asleep(self.pid()).is_some());
                    if naps == LOOKS {
                        return false;
                    }
                }
                _ => return false,
            }
        }
    }

    /// Goes on to the next point. False at the end of the operation, or in a sleep that nobody ends.
    pub fn advance(&mut self) -> bool {
        match self.place {
            Place::End => false,
            Place::Asleep => self.returns_within(NAP),
            Place::Inside => {
                self.step();
                true
            }
        }
    }

    /// Executes one instruction.
    fn step(&mut self) {
        let may_sleep = code_at(self.address())[..2] == SYSCALL;
        ptrace::step(self.pid(), None).expect("PTRACE_SINGLESTEP");
        if may_sleep {
            self.stops_or_sleeps();
        } else {
            self.stops_by(Signal::SIGTRAP);
            self.look();
        }
    }

    /// Lets it run until it sleeps in a futex call, and counts its points from there.
    pub fn run_to_sleep(&mut self) -> Result<(), String> {
        while self.place != Place::Asleep {
            ptrace::syscall(self.pid(), None).expect("PTRACE_SYSCALL");
            match self.process.next_change(LIMIT) {
                // It enters a call: a single step from here ends when the call has returned.
                Some(WaitStatus::PtraceSyscall(_)) => {}
                Some(WaitStatus::Stopped(_, Signal::SIGTRAP)) => return Err("it did not sleep".into()),
                other => return Err(format!("on the way to its sleep: {other:?}")),
            }
            ptrace::step(self.pid(), None).expect("PTRACE_SINGLESTEP");
            self.stops_or_sleeps();
        }
        self.starts_here();
        Ok(())
    }

    /// Waits until the call in which it sleeps has returned.
    pub fn is_woken(&mut self) -> Result<(), String> {
        if self.place == Place::Asleep && !self.returns_within(LIMIT) {
            return Err(format!("the traced sleeper is stuck: {}", self.process.describe()));
        }
        self.starts_here();
        Ok(())
    }

    /// Lets it run on by itself.
    pub fn let_go(&mut self) {
        self.let_go = true;
        if self.place != Place::Asleep {
            self.run_on();
        }
    }

    fn run_on(&self) {
        match ptrace::cont(self.pid(), None) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => panic!("PTRACE_CONT: {error}"),
        }
    }

    /// Waits for the end of a process that was let go, past its second mark.
    pub fn ends(&mut self) -> Result<(), String> {
        assert!(self.let_go, "only a process that was let go ends by itself");
        let mut limit = Limit::after(LIMIT);
        loop {
            match self.process.next_change_by(&mut limit) {
                Some(WaitStatus::Stopped(..)) => self.run_on(),
                Some(_) if self.process.ended_well() => return Ok(()),
                Some(other) => return Err(format!("the traced sleeper ended with {other:?}")),
                None => return Err(format!("the traced sleeper is stuck: {}", self.process.describe())),
            }
        }
    }

    /// SIGKILL, and reaped.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Where it stands, for [`Site`](super::Site).
    pub(super) fn stance(&self) -> Stance {
        Stance::of(self.pid(), self.address(), self.stack)
    }

    /// For each point, whether it lies behind a step that others can see; empty if that was not asked for.
    pub(super) fn seen_steps(&self) -> &[bool] {
        self.shadow.as_ref().map_or(&[], |(_, seen)| seen)
    }

    /// From here on it is noted which steps others can see.
    pub(super) fn note_seen_steps(&mut self) {
        self.shadow = Some((Shadow::new(), vec![true; self.way.len()]));
    }

    fn stops_by(&mut self, signal: Signal) {
        let flags = Some(WaitPidFlag::__WALL);
        match waitpid(self.pid(), flags).expect("waitpid for a traced child") {
            WaitStatus::Stopped(_, seen) if seen == signal => {}
            other => panic!("the traced process should stop by {signal}, but: {other:?}"),
        }
    }

    /// After a step into a system call. Its sleep is no news, so it is looked for; and nobody waits here for others.
    fn stops_or_sleeps(&mut self) {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(status) = self.process.next_change(Duration::ZERO) {
                return self.has_returned(status);
            }
            if asleep(self.pid()).is_some() {
                self.place = Place::Asleep;
                self.note_step();
                self.way.push(self.address());
                self.slept = true;
                return;
            }
            assert!(Instant::now() < end, "the traced process hangs: {}", self.process.describe());
            thread::yield_now();
        }
    }

    /// Whether the call that was stepped into returns within `limit`.
    fn returns_within(&mut self, limit: Duration) -> bool {
        let news = self.process.next_change_by(&mut Limit::after(limit));
        news.map(|status| self.has_returned(status)).is_some()
    }

    fn has_returned(&mut self, status: WaitStatus) {
        match status {
            WaitStatus::Stopped(_, Signal::SIGTRAP) => self.look(),
            other => panic!("the traced process should return from a call, but: {other:?}"),
        }
    }

    /// Notes whether others can see the step that is behind it.
    fn note_step(&mut self) {
        let executed = self.way.last().copied();
        if let Some((shadow, seen)) = &mut self.shadow {
            seen.push(shadow.changes() | executed.is_some_and(is_shared_step));
        }
    }

    /// Where it stands now.
    fn look(&mut self) {
        let registers = ptrace::getregs(self.pid()).expect("PTRACE_GETREGS");
        self.note_step();
        self.way.push(registers.rip);
        self.stack = registers.rsp;
        if !self.slept {
            self.awake = self.way.len() - 1;
        }
        let at_mark = code_at(self.address())[0] == BREAKPOINT;
        self.place = if at_mark { Place::End } else { Place::Inside };
    }
}

/// The first bytes of the instruction at `address`, where a traced process stands or stood.
fn code_at(address: u64) -> [u8; 3] {
    // SAFETY: a traced process is a fork of this one, so the same code stands here at the same address; no
    // instruction that is executed is followed by less than a page's end, and it is long enough for each case.
    unsafe { *(address as *const [u8; 3]) }
}

/// Whether the instruction at `address`, which a traced process has executed, is locked, an exchange, or a call.
pub fn is_shared_step(address: u64) -> bool {
    matches!(
        code_at(address),
        [0xf0, ..] | [0x0f, 0x05, _] | [0x86 | 0x87, ..] | [0x40..=0x4f, 0x86 | 0x87, _]
    )
}

/// A way that a process went, up to its first sleep.
#[derive(Debug)]
pub struct Guide {
    way: Vec<u64>,
    /// For each point how often the process had been at its address, this time included.
    visits: Vec<u32>,
    /// For each point where one begins to step who wants to go there.
    starts: Vec<usize>,
}

impl Guide {
    fn new(way: &[u64]) -> Guide {
        /// To stop at a breakpoint and go on behind it costs as much as so many steps.
        const STOP: usize = 3;
        let mut been = HashMap::new();
        let mut visits = Vec::with_capacity(way.len());
        let mut starts = Vec::with_capacity(way.len());
        // What it costs to get to the end of the way: all stops at the address of the start, then step by step.
        let cost = |start: usize, visits: &[u32]| (STOP * visits[start] as usize) as isize - start as isize;
        let mut best = 0;
        for (point, &address) in way.iter().enumerate() {
            let count = been.entry(address).or_insert(0);
            *count += 1;
            visits.push(*count);
            if cost(point, &visits) <= cost(best, &visits) {
                best = point;
            }
            starts.push(best);
        }
        Guide { way: way.to_vec(), visits, starts }
    }

    /// How many points it has, the first mark included.
    #[allow(clippy::len_without_is_empty, reason = "it has at least its first mark")]
    pub fn len(&self) -> usize {
        self.way.len()
    }

    /// The point up to `point` from which it is stepped there.
    fn start_before(&self, point: usize) -> usize {
        self.starts[point.min(self.starts.len() - 1)]
    }
}

/// Whether a child can be traced here at all.
///
/// # Errors
/// What ptrace(2) says.
pub fn allowed() -> io::Result<()> {
    let mut process = Process::fork(|| {
        let refused = ptrace::traceme().err().map_or(0, |error| error as i32);
        // SAFETY: ends the child without running what belongs to the harness.
        unsafe { libc::_exit(refused) }
    });
    let ended = loop {
        if let Some(status) = process.next_change(Duration::from_secs(1)) {
            break status;
        }
    };
    match ended {
        WaitStatus::Exited(_, 0) => Ok(()),
        WaitStatus::Exited(_, error) => Err(io::Error::from_raw_os_error(error)),
        other => Err(io::Error::other(format!("the probe ended with {other:?}"))),
    }
}
