//! A start and a join, killed in their parent: nobody is left at the gate, and a child's work is done once or not at
//! all.
//!
//! The victim is stepped through the system calls too, the fork among them; its child is not traced, and waits at the
//! gate meanwhile. Orphans come to the harness's lane, which must see them end. What else the deaths of processes do is
//! shown at every system call (tests/start_deaths.rs), which is enough where no shared word is written between two.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    libc,
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use pshared::{Context, Process, functions};

use crate::{
    board::{board, cell, count},
    company::LIMIT,
    scenario::{Damage, End, Enters, Kind, Play, Scenario},
    trace::stepped,
};

/// How often the child's work was done, and whether its value came home.
const RAN: usize = 0;
const CAME: usize = 1;

functions! {
    static NUMBER: fn(u32) -> u32 = |number| number;
}

fn work() -> u32 {
    cell(RAN).fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    7
}

fn fork_and_join(outlives: bool) {
    let start = || Process::builder().outlive_parent(outlives).spawn(work);
    Process::spawn(|| ()).expect("a child").join().expect("no value");
    let came = stepped(|| start().map(|child| child.join()));
    note(matches!(came, Ok(Ok(7))));
}

fn ask_and_join() {
    let server = Context::fork_server().expect("a fork server");
    let start = || server.start(&NUMBER, 7).map(|child| child.join());
    assert!(matches!(start(), Ok(Ok(7))));
    let came = stepped(start);
    note(matches!(came, Ok(Ok(7))));
}

/// Not reached by a victim that is killed at its last point: what came is seen by the count as well.
fn note(came: bool) {
    cell(CAME).store(came.into(), std::sync::atomic::Ordering::SeqCst);
}

/// Waits until nobody is left of a trial; says how many had to be killed.
fn left_behind() -> u64 {
    let begun = Instant::now();
    let mut left = 0;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Err(Errno::ECHILD) => return left,
            Ok(WaitStatus::StillAlive) if begun.elapsed() < LIMIT => thread::sleep(Duration::from_micros(50)),
            Ok(WaitStatus::StillAlive) => {
                let pids = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
                for pid in pids.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()) {
                    left += u64::from(kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok());
                }
                while waitpid(None, None).is_ok() {}
            }
            _ => {}
        }
    }
}

fn verify(end: &End, counts: bool) -> Damage {
    let wedged = left_behind();
    let ran = count(RAN);
    let lost = u64::from(counts && end.finished && ran == 0);
    Damage { wedged, lost, doubled: u64::from(ran > 1), ..Damage::default() }
}

pub fn scenarios() -> Vec<Scenario> {
    let row = |operation, company, body: fn(), counts: bool| Scenario {
        operation,
        company,
        kind: Kind::OneDeath,
        play: Box::new(move || {
            // SAFETY: a plain attribute of this lane's process.
            unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
            // A trial that was misled is not verified, and its child may still be at its work.
            left_behind();
            board().clear();
            Play {
                victim: Box::new(body),
                enters: Enters::Awake,
                heir: None,
                companions: Vec::new(),
                verify: Box::new(move |end| verify(end, counts)),
            }
        }),
    };
    vec![
        row("Process::spawn, join", "a child that ends with it", || fork_and_join(false), true),
        row("Process::spawn, join", "a child that may outlive it", || fork_and_join(true), true),
        row("Context::start, join", "a fork server", ask_and_join, false),
    ]
}
