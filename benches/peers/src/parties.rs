//! Processes or threads that begin together, each on its CPU, and a sample that runs in a process of its own.
//!
//! The program itself has one thread and keeps nothing: whatever a sample makes (threads, mappings, files, a rival's
//! statics) ends with the sample's process, so that no contender meets what another one left.

use std::{
    cell::Cell,
    fmt::Debug,
    io::{Read, Write, pipe, stdout},
    num::NonZeroUsize,
    os::fd::AsFd,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use bytemuck::Zeroable;
use nix::{
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CpuSet, sched_getaffinity, sched_setaffinity, sched_yield},
    sys::{
        mman::{MapFlags, ProtFlags, mmap_anonymous},
        prctl::set_pdeathsig,
        signal::{Signal, killpg},
        wait::{WaitStatus, waitpid},
    },
    time::{ClockId, clock_gettime},
    unistd::{ForkResult, Pid, fork, setpgid},
};

/// The two CPUs on which everything happens.
pub const FIRST: usize = 0;
/// The last CPU: the first is the one that interrupts prefer, so what needs one alone takes this.
pub const LAST: usize = 1;

/// Something on cache lines of its own, and of its neighbour's: they are fetched in pairs.
#[derive(Debug, Default, Zeroable)]
#[repr(align(128))]
pub struct Line<T>(pub T);

/// What is only used by one party at a time, or is safe to use by several though its type does not say so.
#[derive(Debug)]
pub struct Entrusted<T>(T);

// SAFETY: the makers of these values entrust only what another thread, or a forked process, may use.
unsafe impl<T> Send for Entrusted<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Entrusted<T> {}

impl<T> Entrusted<T> {
    /// # Safety
    /// All parties may use `value` as they are going to.
    pub unsafe fn new(value: T) -> Entrusted<T> {
        Entrusted(value)
    }

    pub fn get(&self) -> &T {
        &self.0
    }
}

/// A place where all parties find the same `T`, all zero at first. It goes with the process.
pub fn shared<T: Zeroable>() -> &'static T {
    let size = NonZeroUsize::new(size_of::<T>()).expect("something to share");
    let rights = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: fresh zero pages, which may be a `T`, and are never unmapped.
    unsafe {
        mmap_anonymous(None, size, rights, MapFlags::MAP_SHARED | MapFlags::MAP_POPULATE)
            .expect("mmap")
            .cast()
            .as_ref()
    }
}

/// The CPUs that this program might use when it began.
pub fn cpus() -> &'static [usize] {
    static CPUS: OnceLock<Vec<usize>> = OnceLock::new();
    CPUS.get_or_init(|| {
        let allowed = sched_getaffinity(Pid::from_raw(0)).expect("sched_getaffinity");
        (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu).unwrap_or(false)).collect()
    })
}

/// Binds the calling thread to the first of the CPUs, or to the last.
pub fn stay_on(which: usize) {
    let cpu = if which == FIRST { cpus()[0] } else { cpus()[cpus().len() - 1] };
    let mut one = CpuSet::new();
    one.set(cpu).expect("a CPU of the set");
    sched_setaffinity(Pid::from_raw(0), &one).expect("sched_setaffinity");
}

/// Nanoseconds on a clock that all processes share.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("a clock");
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}

/// Forks a child that runs `work` and exits: with 0, or 101 after a panic, whose message it has printed.
pub fn child(work: impl FnOnce()) -> Pid {
    stdout().flush().expect("an open stdout");
    // SAFETY: the child runs on from here with one thread, a copy of the only one that this process has; a sample that
    // forks has none of its own left by then.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            set_pdeathsig(Signal::SIGKILL).expect("prctl");
            let code = if catch_unwind(AssertUnwindSafe(work)).is_ok() { 0 } else { 101 };
            // SAFETY: ends the child without running what belongs to the parent.
            unsafe { libc::_exit(code) }
        }
    }
}

/// Waits for a child of [`child`]. Says what is wrong with its end.
fn ended(of: Option<Pid>) -> Result<(), String> {
    match waitpid(of, None) {
        Ok(WaitStatus::Exited(_, 0)) => Ok(()),
        Ok(WaitStatus::Exited(..)) => Err("it panicked".to_string()),
        other => Err(format!("it ended otherwise: {other:?}")),
    }
}

/// The figure that `sample` gives in a process of its own.
///
/// # Errors
/// It panicked, ended otherwise, or took longer than `limit` and was killed with all it had started.
pub fn in_a_process(limit: Duration, sample: &dyn Fn() -> f64) -> Result<f64, String> {
    let (mut reader, mut writer) = pipe().map_err(|error| error.to_string())?;
    let leader = child(|| {
        setpgid(Pid::from_raw(0), Pid::from_raw(0)).expect("a group of its own");
        let figure = sample();
        writer.write_all(&figure.to_ne_bytes()).expect("somebody listens");
    });
    // Here too, so that there is a group to kill, whoever comes first.
    let _ = setpgid(leader, leader);
    drop(writer);
    let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
    let told = poll(&mut [PollFd::new(reader.as_fd(), PollFlags::POLLIN)], timeout);
    let mut figure = [0; size_of::<f64>()];
    let read = match told {
        Ok(1..) => reader.read_exact(&mut figure).map_err(|_| String::new()),
        _ => Err(format!("it took longer than {limit:?}")),
    };
    if read.is_ok() {
        ended(Some(leader))?;
    }
    let _ = killpg(leader, Signal::SIGKILL);
    match read {
        Ok(()) => Ok(f64::from_ne_bytes(figure)),
        Err(why) => {
            let end = ended(Some(leader)).err().unwrap_or_default();
            Err(if why.is_empty() { end } else { why })
        }
    }
}

/// Whether parties are processes, as this crate's users are, or threads, which is all that some rivals can serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Processes,
    Threads,
}

/// The most parties there can be.
pub const MOST: usize = 65;

/// What the parties of one run share.
#[derive(Debug, Zeroable)]
struct Board {
    ready: Line<AtomicUsize>,
    last: Line<AtomicU64>,
    seats: [Line<Seat>; MOST],
}

#[derive(Debug, Zeroable)]
struct Seat {
    begun: AtomicU64,
    ended: AtomicU64,
    result: AtomicU64,
}

/// A party's place at the board.
#[derive(Debug)]
pub struct Clock {
    board: &'static Board,
    own: usize,
    parties: usize,
    /// How often this party has met the others.
    met: Cell<usize>,
}

impl Clock {
    /// Waits until all parties have come this far.
    pub fn meet(&self) {
        self.met.set(self.met.get() + 1);
        self.board.ready.0.fetch_add(1, SeqCst);
        while self.board.ready.0.load(SeqCst) < self.met.get() * self.parties {
            sched_yield().expect("sched_yield");
        }
    }

    /// The same, and begins to count. Each party calls it once, when it has prepared what it needs.
    pub fn start(&self) {
        self.meet();
        self.board.seats[self.own].0.begun.store(now(), SeqCst);
    }

    /// Says that the work is done; what a party does afterwards is not counted.
    pub fn stop(&self) {
        self.board.seats[self.own].0.ended.store(now(), SeqCst);
    }

    /// How many operations there will be, as soon as that is known.
    pub fn last(&self) -> u64 {
        match self.board.last.0.load(SeqCst) {
            0 => u64::MAX,
            last => last,
        }
    }

    /// Says how many operations there will be: before the last of them is seen by anybody.
    pub fn set_last(&self, last: u64) {
        self.board.last.0.store(last, SeqCst);
    }
}

/// What a party does; its result.
pub type Party<'a> = Box<dyn FnOnce(&Clock) -> f64 + Send + 'a>;

/// What the parties gave.
#[derive(Debug)]
pub struct Outcome {
    /// Nanoseconds from the first's start to the last's stop.
    pub wall: f64,
    pub results: Vec<f64>,
}

/// Runs the parties together, each on the CPU that stands in its place in `places`, which is gone through again and
/// again.
///
/// # Panics
/// When one of them does; the others are left, and end with this process.
pub fn together(mode: Mode, places: &[usize], parties: Vec<Party<'_>>) -> Outcome {
    let board: &'static Board = shared();
    let many = parties.len();
    assert!(many <= MOST, "too many parties");
    let take_part = |own: usize, party: Party<'_>| {
        stay_on(places[own % places.len()]);
        let clock = Clock { board, own, parties: many, met: Cell::new(0) };
        let result = party(&clock);
        let seat = &board.seats[own].0;
        if seat.ended.load(SeqCst) == 0 {
            clock.stop();
        }
        seat.result.store(result.to_bits(), SeqCst);
    };
    match mode {
        Mode::Processes => {
            for (own, party) in parties.into_iter().enumerate() {
                child(move || take_part(own, party));
            }
            for _ in 0..many {
                ended(None).expect("a party");
            }
        }
        Mode::Threads => thread::scope(|scope| {
            for (own, party) in parties.into_iter().enumerate() {
                scope.spawn(move || take_part(own, party));
            }
        }),
    }
    let seats = || board.seats[..many].iter().map(|seat| &seat.0);
    let begun = seats().map(|seat| seat.begun.load(SeqCst)).min().expect("a party");
    let ended = seats().map(|seat| seat.ended.load(SeqCst)).max().expect("a party");
    let results = seats().map(|seat| f64::from_bits(seat.result.load(SeqCst))).collect();
    Outcome { wall: (ended - begun) as f64, results }
}
