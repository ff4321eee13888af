//! Rows side by side: a process for each CPU, with a board of its own, takes every n-th.

use std::{
    fs::File,
    io::{BufRead, BufReader, Write, stdout},
    num::NonZeroUsize,
    thread,
};

use nix::{
    libc,
    sys::wait::waitpid,
    unistd::{ForkResult, Pid, fork, pipe},
};

use pshared::testing::Report;

use crate::{
    board::board,
    scenario::{Effort, Scenario},
};

/// The most lanes: more would not be seen to go on within a second.
const MOST: usize = 8;

struct Lane {
    pid: Pid,
    lines: BufReader<File>,
}

/// Runs the rows and reports each, in their order. False if a lane ended before it was through.
pub fn run(rows: &[&Scenario], effort: Effort, mut report: impl FnMut(usize, &Report)) -> bool {
    let work = |place: usize| serde_json::to_string(&rows[place].run(effort)).expect("plain data");
    each(rows.len(), work, |place, line| match line.and_then(|line| serde_json::from_str(line).ok()) {
        Some(found) => {
            report(place, &found);
            true
        }
        None => {
            eprintln!("crash: a lane ended at {}", rows[place].name());
            false
        }
    })
}

/// Does `work` for each number below `count`, and reports the line that came of it, in their order; no line if a lane
/// ended. False as soon as a report was.
pub fn each(
    count: usize,
    work: impl Fn(usize) -> String,
    mut report: impl FnMut(usize, Option<&str>) -> bool,
) -> bool {
    let all = thread::available_parallelism().map_or(1, NonZeroUsize::get).min(MOST).min(count);
    let mut lanes: Vec<Lane> = (0..all).map(|first| start((first..count).step_by(all), &work)).collect();
    let whole = (0..count).all(|place| {
        let mut line = String::new();
        let _ = lanes[place % all].lines.read_line(&mut line);
        report(place, line.strip_suffix('\n'))
    });
    for lane in lanes {
        drop(lane.lines);
        let _ = waitpid(lane.pid, None);
    }
    whole
}

fn start(places: impl Iterator<Item = usize>, work: &impl Fn(usize) -> String) -> Lane {
    let (read, write) = pipe().expect("a pipe");
    let _ = stdout().flush();
    // SAFETY: the harness has one thread.
    match unsafe { fork() }.expect("a lane") {
        ForkResult::Parent { child } => Lane { pid: child, lines: BufReader::new(File::from(read)) },
        ForkResult::Child => {
            drop(read);
            // SAFETY: a plain process attribute: a lane goes with the harness.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            board();
            let mut lines = File::from(write);
            for place in places {
                let line = work(place);
                let _ = stdout().flush();
                if lines.write_all(format!("{line}\n").as_bytes()).is_err() {
                    break;
                }
            }
            // SAFETY: leaves without running what belongs to the parent.
            unsafe { libc::_exit(0) }
        }
    }
}
