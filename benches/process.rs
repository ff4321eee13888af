//! What a child costs beside bare system calls of the same parent, in one run.
//!
//! `cargo bench --bench process` prints medians, over rounds that take turns, of the ratio within a round: absolute
//! times differ between runs of one binary on a shared machine.

#[path = "support/turns.rs"]
mod turns;

use std::{
    env,
    hint::black_box,
    os::fd::AsRawFd,
    time::{Duration, Instant},
};

use nix::{
    libc,
    sys::wait::waitpid,
    unistd::{ForkResult, Pid, fork},
};
use pshared::{Context, Process, functions, reap_now};

/// Rounds for each contender, of [`STARTS`] starts.
const ROUNDS: usize = 101;
/// Children one after the other in a round.
const STARTS: u32 = 20;
/// Ended children to be reaped at once.
const ENDED: usize = 1_000;
/// Rounds of these.
const REAPS: usize = 11;

functions! {
    static NOTHING: fn(()) -> () = |()| ();
}

fn main() {
    pshared::init();
    if env::args().any(|argument| argument == "--test" || argument == "--list") {
        return;
    }
    Process::spawn(|| ()).expect("a child").join().expect("no value");
    methods(0);
    methods(1 << 30);
    started_and_joined(0);
    started_and_joined(1 << 30);
    reaped();
}

/// A child that does nothing, by bare calls.
fn bare() -> Pid {
    // SAFETY: this process has one thread, and the child leaves at once.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Parent { child } => child,
        // SAFETY: ends the child at once.
        ForkResult::Child => unsafe { libc::_exit(0) },
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Prints what the first takes in terms of the second, and in time.
fn compare(
    what: &str,
    each: u32,
    rounds: usize,
    mut ours: impl FnMut() -> Duration,
    mut bare: impl FnMut() -> Duration,
) {
    let pairs: Vec<(Duration, Duration)> = (0..rounds).map(|_| (ours(), bare())).collect();
    let ratio = median(pairs.iter().map(|(ours, bare)| ours.as_secs_f64() / bare.as_secs_f64()).collect());
    let time = median(pairs.iter().map(|(ours, _)| ours.as_secs_f64() * 1e6 / f64::from(each)).collect());
    println!("{what}: {ratio:.3} times bare calls, {time:.1} us each");
}

/// Start, then join, beside fork, then waitpid, with so many bytes resident.
fn started_and_joined(resident: usize) {
    let memory = vec![1_u8; resident];
    let (starts, rounds) = if resident == 0 { (STARTS, ROUNDS) } else { (1, 21) };
    let timed = |one: &dyn Fn()| {
        let begun = Instant::now();
        (0..starts).for_each(|_| one());
        begun.elapsed()
    };
    compare(
        &format!("spawn + join with {} MiB resident", resident >> 20),
        starts,
        rounds,
        || timed(&|| Process::spawn(|| ()).expect("a child").join().expect("no value")),
        || timed(&|| _ = waitpid(bare(), None).expect("waitpid")),
    );
    black_box(memory);
}

/// The start methods beside fork, then waitpid, of the same parent, with so many bytes resident. The fork server is
/// made while they are not.
fn methods(resident: usize) {
    let server = Context::fork_server().expect("a fork server");
    let memory = vec![1_u8; resident];
    let timed = |starts: u32, one: &dyn Fn()| {
        let begun = Instant::now();
        (0..starts).for_each(|_| one());
        begun.elapsed().as_secs_f64() * 1e6 / f64::from(starts)
    };
    let (starts, rounds) = if resident == 0 { (10, 15) } else { (1, 7) };
    let started = |context: &Context| context.start(&NOTHING, ()).expect("a child").join().expect("no value");
    let contenders: [turns::Contender<'_>; 4] = [
        ("bare fork + waitpid", &|| timed(starts, &|| _ = waitpid(bare(), None).expect("waitpid"))),
        ("fork", &|| timed(starts, &|| started(&Context::fork()))),
        ("fork server", &|| timed(starts, &|| started(&server))),
        ("spawn", &|| timed(starts.div_ceil(5), &|| started(&Context::spawn()))),
    ];
    let times = turns::take(rounds, &contenders, 0);
    let names = contenders.map(|(name, _)| name);
    turns::report(&format!("start + join, {} MiB resident", resident >> 20), "us", &names, &times, 0, 2);
    black_box(memory);
}

/// A loop over children that have ended, beside a loop over waitpid(-1).
fn reaped() {
    let until_ended = |pid: Pid| {
        let flags = libc::WEXITED | libc::WNOWAIT;
        // SAFETY: a plain number, and a siginfo of ours to write to.
        unsafe { libc::waitid(libc::P_PID, pid.as_raw() as u32, &mut std::mem::zeroed(), flags) };
    };
    compare(
        "reaping 1,000 ended children",
        ENDED as u32,
        REAPS,
        || {
            // Ended only when all are started: a start reaps.
            let (reader, writer) = std::io::pipe().expect("a pipe");
            let started = || {
                let wait = || {
                    let mut byte = 0_u8;
                    // SAFETY: this process's own copy of the end, closed once; and a byte of ours to write to.
                    unsafe {
                        libc::close(writer.as_raw_fd());
                        libc::read(reader.as_raw_fd(), (&raw mut byte).cast(), 1);
                    }
                };
                Process::spawn(wait).expect("a child")
            };
            let children: Vec<Process<()>> = (0..ENDED).map(|_| started()).collect();
            drop(writer);
            children.iter().for_each(|child| until_ended(Pid::from_raw(child.pid() as i32)));
            let begun = Instant::now();
            assert_eq!(reap_now().len(), ENDED);
            begun.elapsed()
        },
        || {
            let pids: Vec<Pid> = (0..ENDED).map(|_| bare()).collect();
            pids.into_iter().for_each(until_ended);
            let begun = Instant::now();
            while waitpid(None, None).is_ok() {}
            begun.elapsed()
        },
    );
}
