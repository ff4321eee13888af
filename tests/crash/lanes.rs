//! Rows side by side: a process for each CPU, with a board of its own, takes every n-th row.

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

use crate::{
    board::board,
    scenario::{Damage, Effort, Scenario, Tally},
};

/// The most lanes: more would not be seen to go on within a second.
const MOST: usize = 8;

struct Lane {
    pid: Pid,
    tallies: BufReader<File>,
}

/// Runs the rows and reports each, in their order. False if a lane ended before it was through.
pub fn run(rows: &[&Scenario], effort: Effort, mut report: impl FnMut(&Scenario, &Tally)) -> bool {
    let count = thread::available_parallelism().map_or(1, NonZeroUsize::get).min(MOST).min(rows.len());
    let mut lanes: Vec<Lane> =
        (0..count).map(|first| start(rows.iter().skip(first).step_by(count), effort)).collect();
    let mut whole = true;
    for (place, row) in rows.iter().enumerate() {
        let mut line = String::new();
        let _ = lanes[place % count].tallies.read_line(&mut line);
        match read(&line) {
            Some(tally) => report(row, &tally),
            None => {
                eprintln!("crash: a lane ended at {}", row.name());
                whole = false;
                break;
            }
        }
    }
    for lane in lanes {
        drop(lane.tallies);
        let _ = waitpid(lane.pid, None);
    }
    whole
}

fn start<'a>(rows: impl Iterator<Item = &'a &'a Scenario>, effort: Effort) -> Lane {
    let (read, write) = pipe().expect("a pipe");
    let _ = stdout().flush();
    // SAFETY: the harness has one thread.
    match unsafe { fork() }.expect("a lane") {
        ForkResult::Parent { child } => Lane { pid: child, tallies: BufReader::new(File::from(read)) },
        ForkResult::Child => {
            drop(read);
            // SAFETY: a plain process attribute: a lane goes with the harness.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            board();
            let mut tallies = File::from(write);
            for row in rows {
                let tally = row.run(effort);
                let _ = stdout().flush();
                if tallies.write_all(written(&tally).as_bytes()).is_err() {
                    break;
                }
            }
            // SAFETY: leaves without running what belongs to the parent.
            unsafe { libc::_exit(0) }
        }
    }
}

fn written(tally: &Tally) -> String {
    let Tally { damage, kills, points, heir_points, rounds_left_out, points_left_out, seconds } = tally;
    let Damage { wedged, torn, lost, doubled } = damage;
    let damage = format!("{wedged} {torn} {lost} {doubled}");
    format!("{damage} {kills} {points} {heir_points} {rounds_left_out} {points_left_out} {seconds}\n")
}

fn read(line: &str) -> Option<Tally> {
    let mut words = line.strip_suffix('\n')?.split(' ');
    let mut number = || words.next()?.parse::<u64>().ok();
    Some(Tally {
        damage: Damage { wedged: number()?, torn: number()?, lost: number()?, doubled: number()? },
        kills: number()?,
        points: number()? as usize,
        heir_points: number()? as usize,
        rounds_left_out: number()? as usize,
        points_left_out: number()? as usize,
        seconds: words.next()?.parse().ok()?,
    })
}
