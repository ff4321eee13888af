//! What a round of a barrier of two costs beside its limit and its peer, in one run.
//!
//! The limit is what no barrier whose parties sleep can be below for long: each party of a round wakes the other once
//! by a bare futex, and sleeps. (On one CPU a barrier needs one of the two wake-ups a round.) The peer is libc's
//! `pthread_barrier_t`. All three take turns within one run, since absolute times differ between runs of one binary on
//! a shared machine; the figure that counts is the median of the ratio within a turn.
//!
//! `cargo bench --bench barrier` prints `barrier/ratio` for both processes on one CPU, and `barrier/ratio-two-cpus`.

#![allow(clippy::disallowed_types, reason = "the limit is measured beside the crate, not through it")]

#[path = "../tests/support/page.rs"]
#[allow(dead_code, unreachable_pub, reason = "the tests' page, of which a part is used here")]
mod page;
#[path = "support/turns.rs"]
#[allow(dead_code, reason = "two processes take these turns together, by themselves")]
mod results;

use std::{
    env,
    io::{Write, stdout},
    mem,
    ptr::NonNull,
    sync::atomic::{
        AtomicU32,
        Ordering::{Acquire, Release},
    },
    time::Instant,
};

use nix::{
    libc,
    sched::{CpuSet, sched_setaffinity},
    sys::wait::waitpid,
    unistd::{ForkResult, Pid, fork},
};
use page::Page;
use pshared::Barrier;

/// Rounds in one turn.
const ROUNDS: u32 = 1_000;
/// Turns of each contender.
const TURNS: usize = 101;

/// Words of the page.
const THERE: usize = 0;
const BACK: usize = 16;

fn main() {
    if env::args().any(|argument| argument == "--test" || argument == "--list") {
        return;
    }
    turns("barrier/ratio", [0, 0]);
    turns("barrier/ratio-two-cpus", [0, 1]);
}

/// Each side passes the rounds; `side` is 0 or 1.
struct Contenders {
    ours: Barrier,
    page: Page,
    libcs: PthreadBarrier,
}

impl Contenders {
    fn run(&self, which: usize, side: usize) {
        match which {
            0 => (0..ROUNDS).for_each(|_| assert!(self.ours.wait().is_ok())),
            1 => self.bare(side),
            _ => (0..ROUNDS).for_each(|_| self.libcs.wait()),
        }
    }

    /// A ball that is thrown there and back: two wake-ups and two sleeps a round.
    fn bare(&self, side: usize) {
        let (mine, theirs) = if side == 0 { (BACK, THERE) } else { (THERE, BACK) };
        for _ in 0..ROUNDS {
            if side == 0 {
                throw(self.page.word(theirs));
                catch(self.page.word(mine));
            } else {
                catch(self.page.word(mine));
                throw(self.page.word(theirs));
            }
        }
    }
}

fn throw(word: &AtomicU32) {
    word.store(1, Release);
    // SAFETY: only the address matters.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1) };
}

fn catch(word: &AtomicU32) {
    while word.load(Acquire) == 0 {
        let limit = std::ptr::null::<libc::timespec>();
        // SAFETY: a live word; no limit.
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, 0, limit) };
    }
    word.store(0, Release);
}

/// libc's barrier of two, between processes, in a page that is never unmapped.
struct PthreadBarrier(NonNull<libc::pthread_barrier_t>);

impl PthreadBarrier {
    fn new(page: &Page) -> PthreadBarrier {
        let place = page.word(512).as_ptr().cast::<libc::pthread_barrier_t>();
        // SAFETY: the page's second half is used by nobody else, and aligned; attributes first, as libc asks.
        unsafe {
            let mut attributes: libc::pthread_barrierattr_t = mem::zeroed();
            assert_eq!(libc::pthread_barrierattr_init(&mut attributes), 0);
            libc::pthread_barrierattr_setpshared(&mut attributes, libc::PTHREAD_PROCESS_SHARED);
            assert_eq!(libc::pthread_barrier_init(place, &attributes, 2), 0);
            libc::pthread_barrierattr_destroy(&mut attributes);
        }
        PthreadBarrier(NonNull::new(place).expect("not at address 0"))
    }

    fn wait(&self) {
        // SAFETY: initialised by `new`, in a page that is never unmapped.
        unsafe { libc::pthread_barrier_wait(self.0.as_ptr()) };
    }
}

fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu).expect("a CPU's number");
    sched_setaffinity(Pid::from_raw(0), &set).expect("two CPUs that may be used");
}

/// Two processes, each on its CPU, pass `TURNS` turns of each contender.
fn turns(name: &str, cpus: [usize; 2]) {
    let page = Page::new();
    let libcs = PthreadBarrier::new(&page);
    let contenders = Contenders { ours: Barrier::new(2).expect("a barrier"), page, libcs };
    let start = Barrier::new(2).expect("a barrier");
    let order = |turn: usize| (0..3).map(move |place| (turn + place) % 3);
    let _ = stdout().flush();
    // SAFETY: this program has one thread, and the child does nothing but pass rounds and exit.
    let child = match unsafe { fork() }.expect("fork") {
        ForkResult::Child => {
            pin(cpus[1]);
            for which in (0..TURNS).flat_map(order) {
                assert!(start.wait().is_ok());
                contenders.run(which, 1);
            }
            // SAFETY: ends the child without running what belongs to the parent.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => child,
    };
    pin(cpus[0]);
    let mut times: [Vec<f64>; 3] = Default::default();
    for which in (0..TURNS).flat_map(order) {
        assert!(start.wait().is_ok());
        let began = Instant::now();
        contenders.run(which, 0);
        times[which].push(began.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS));
    }
    waitpid(child, None).expect("the child ends");
    results::report(name, "us", &["ours", "two bare wake-ups", "pthread_barrier"], &times, 1, 0);
}
