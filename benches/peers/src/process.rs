//! Processes: started and joined by each method, and reaped.

use std::{
    io::{Read, pipe},
    process::Command,
    time::Instant,
};

use nix::{
    libc,
    sys::wait::{Id, WaitPidFlag, waitid, waitpid},
    unistd::{ForkResult, Pid, fork},
};
use pshared::{Context, Process, functions, reap_now};

use crate::{
    drive::anywhere,
    python::python,
    rounds::{
        Kind::{Limit, Rival},
        Row,
    },
};

functions! {
    static NOTHING: fn(()) -> () = |()| ();
}

/// A child that does `work` and leaves, by bare calls.
fn bare(work: &mut dyn FnMut()) -> Pid {
    // SAFETY: this process has one thread, and the child leaves at once.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            work();
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(0) }
        }
    }
}

fn bare_fork() -> f64 {
    anywhere(|| _ = waitpid(bare(&mut || ()), None).expect("waitpid"))
}

fn by(context: &Context) -> f64 {
    anywhere(|| context.start(&NOTHING, ()).expect("a child").join().expect("no value"))
}

/// Ended children that are reaped at once.
const ENDED: usize = 1_000;

/// Waits until a child has ended, and leaves it there.
fn until_ended(pid: Pid) {
    waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).expect("waitid");
}

/// Children that end together, after the last was started by `start`, which is given what they wait by. Whoever has its
/// end behind it a while ago is cheaper to reap than one of a crowd, so both sides reap a crowd.
fn ended_together<C>(start: impl Fn(&mut dyn FnMut()) -> C, pid: impl Fn(&C) -> Pid) -> Vec<C> {
    let (mut reader, writer) = pipe().expect("a pipe");
    let mut writer = Some(writer);
    let mut wait = || {
        // A child's own copy of the end; the last copy ends the wait of all.
        drop(writer.take());
        let _ = reader.read(&mut [0]);
    };
    let children: Vec<C> = (0..ENDED).map(|_| start(&mut wait)).collect();
    drop(writer);
    children.iter().for_each(|child| until_ended(pid(child)));
    children
}

/// Nanoseconds for each.
fn reaped() -> f64 {
    let start = |wait: &mut dyn FnMut()| Process::spawn(wait).expect("a child");
    let children = ended_together(start, |child| Pid::from_raw(child.pid() as i32));
    let begun = Instant::now();
    assert_eq!(reap_now().len(), ENDED);
    let time = begun.elapsed().as_secs_f64() * 1e9 / ENDED as f64;
    drop(children);
    time
}

fn bare_reaped() -> f64 {
    drop(ended_together(bare, |&pid| pid));
    let (begun, mut reaped) = (Instant::now(), 0);
    while waitpid(None, None).is_ok() {
        reaped += 1;
    }
    assert_eq!(reaped, ENDED);
    begun.elapsed().as_secs_f64() * 1e9 / ENDED as f64
}

pub fn rows() -> Vec<Row> {
    let forked = Row::on_one("process/spawn + join", || {
        anywhere(|| Process::spawn(|| ()).expect("a child").join().expect("no value"))
    })
    .beside(Limit, "bare fork + waitpid", bare_fork)
    .beside(Rival, "Python fork", || python(&["start", "fork"]));

    let served = Row::on_one("process/fork server", || by(&Context::fork_server().expect("a server")))
        .beside(Limit, "bare fork + waitpid", bare_fork)
        .beside(Rival, "Python forkserver", || python(&["start", "forkserver"]));

    let begun_anew = Row::on_one("process/spawn by exec", || by(&Context::spawn()))
        .beside(Limit, "std Command of true", || {
            anywhere(|| assert!(Command::new("true").status().expect("true").success()))
        })
        .beside(Rival, "procspawn", || anywhere(|| procspawn::spawn((), |()| ()).join().expect("no value")))
        .beside(Rival, "Python spawn", || python(&["start", "spawn"]));

    let reaped = Row::on_one("process/reap 1,000", reaped).beside(Limit, "waitpid(-1) loop", bare_reaped);
    vec![forked, served, begun_anew, reaped]
}
