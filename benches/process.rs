//! What a child costs beside bare system calls, beside a parent without memory, and beside CPython; in one run.
//!
//! `cargo bench --bench process [NAME...]`; names are `start`, `methods`, `memory`, `reap`, `python`. Contenders take
//! turns (`support/turns.rs`), and what counts is the ratio within a turn. Beside the least that the kernel does stands
//! what the services cost by bare calls: what is between is ours. Where there is no `python3`, that comparison
//! is left out, and it is said so. Comparable are children of one fate: what reaps is given children that waited, and
//! had the same descriptors, on both sides.

#[path = "support/turns.rs"]
mod turns;

use std::{
    env,
    fs::{self, File},
    hint::black_box,
    io::{BufRead, BufReader, Read, Write},
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
        unix::fs::FileExt,
    },
    process::{self, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        memfd::{MFdFlags, memfd_create},
        signal::{SigSet, SigmaskHow, sigprocmask},
        wait::{Id, WaitPidFlag, waitid, waitpid},
    },
    unistd::{ForkResult, Pid, fork},
};
use pshared::{Context, Process, functions, reap_now};

/// Turns of short rounds that must be undisturbed.
const TURNS: usize = 101;
/// Children one after the other in a round.
const STARTS: u32 = 20;
/// Ended children to be reaped at once.
const ENDED: usize = 1_000;
/// Turns of these.
const REAPS: usize = 15;

functions! {
    static NOTHING: fn(()) -> () = |()| ();
}

fn main() {
    pshared::init();
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if arguments.iter().any(|argument| argument == "--test" || argument == "--list") {
        return;
    }
    let sections: [(&str, fn()); 5] = [
        ("start", start_beside_bare_calls),
        ("methods", methods),
        ("memory", server_beside_itself_in_a_large_parent),
        ("reap", reap_beside_bare_calls),
        ("python", python),
    ];
    Process::spawn(|| ()).expect("a child").join().expect("no value");
    for (name, section) in sections {
        if arguments.is_empty() || arguments.iter().any(|asked| asked == name) {
            section();
        }
    }
}

/// Microseconds that each of `starts` calls takes.
fn timed(starts: u32, one: &dyn Fn()) -> f64 {
    let begun = Instant::now();
    (0..starts).for_each(|_| one());
    micros(begun.elapsed()) / f64::from(starts)
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// A child that does `work` and leaves, by bare calls.
fn bare(work: impl FnOnce()) -> Pid {
    // SAFETY: this process has one thread.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            work();
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(0) }
        }
    }
}

fn bare_start() {
    waitpid(bare(|| ()), None).expect("waitpid");
}

/// What a start must call to keep what it promises, and nothing else: signals blocked, an empty input, a watch on the
/// parent, a pidfd, a record of the value.
fn bare_services(record: &File) {
    let parent = process::id() as i32;
    let mut before = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before)).expect("a mask");
    let child = bare(|| {
        // SAFETY: numbers, and strings and structs of ours; descriptor 0 is nobody's.
        unsafe {
            libc::close(0);
            libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY);
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
            assert_eq!(libc::getppid(), parent);
        }
        let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None);
        assert!(record.metadata().is_ok_and(|found| found.is_file()));
        record.write_all_at(&[7; 32], 0).expect("a record");
    });
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None).expect("a mask");
    let pidfd = pidfd_of(child);
    let mut ready = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    poll(&mut ready, PollTimeout::NONE).expect("poll");
    waitid(Id::PIDFd(pidfd.as_fd()), WaitPidFlag::WEXITED).expect("waitid");
    record.read_exact_at(&mut [0; 32], 0).expect("a record");
}

fn pidfd_of(child: Pid) -> OwnedFd {
    // SAFETY: a call that takes two numbers, and gives a descriptor that nobody else has.
    unsafe { OwnedFd::from_raw_fd(libc::syscall(libc::SYS_pidfd_open, child.as_raw(), 0) as i32) }
}

fn spawn_and_join() {
    Process::spawn(|| ()).expect("a child").join().expect("no value");
}

fn start_and_join(context: &Context) {
    context.start(&NOTHING, ()).expect("a child").join().expect("no value");
}

/// Takes turns, and reports the second contender in terms of the first.
fn compare(title: &str, unit: &str, turns: usize, contenders: &[turns::Contender<'_>]) {
    let times = turns::take(turns, contenders, 0);
    let names: Vec<&str> = contenders.iter().map(|(name, _)| *name).collect();
    turns::report(title, unit, &names, &times, 0, 1);
}

fn start_beside_bare_calls() {
    let record = File::from(memfd_create(c"record", MFdFlags::MFD_CLOEXEC).expect("a memfd"));
    let contenders: [turns::Contender<'_>; 3] = [
        ("bare fork + waitpid", &|| timed(STARTS, &bare_start)),
        ("spawn + join", &|| timed(STARTS, &spawn_and_join)),
        ("the same calls, bare", &|| timed(STARTS, &|| bare_services(&record))),
    ];
    compare("start and join (at most 1.15)", "us", TURNS, &contenders);
}

fn methods() {
    let server = Context::fork_server().expect("a fork server");
    let contenders: [turns::Contender<'_>; 4] = [
        ("bare fork + waitpid", &|| timed(10, &bare_start)),
        ("fork server", &|| timed(10, &|| start_and_join(&server))),
        ("fork", &|| timed(10, &|| start_and_join(&Context::fork()))),
        ("spawn", &|| timed(2, &|| start_and_join(&Context::spawn()))),
    ];
    compare("start methods", "us", 31, &contenders);
}

/// Another process that measures itself: it is sent a byte that says what, and answers with the microseconds.
struct Helper {
    process: process::Child,
}

impl Helper {
    fn ask(&mut self, what: &str) -> f64 {
        let (to, from) = (self.process.stdin.as_mut(), self.process.stdout.as_mut());
        writeln!(to.expect("a pipe"), "{what}").expect("a helper that listens");
        let mut answer = String::new();
        // One line at a time: nothing is left in the buffer.
        BufReader::new(from.expect("a pipe")).read_line(&mut answer).expect("a helper that answers");
        answer.trim().parse().unwrap_or_else(|_| panic!("{answer}"))
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A parent with so many bytes resident, forked from this one: what it is asked for, and what it answers by.
fn parent(resident: usize) -> (Process, std::io::PipeWriter, std::io::PipeReader) {
    let (mut asked, ask) = std::io::pipe().expect("a pipe");
    let (answer, mut answers) = std::io::pipe().expect("a pipe");
    let work = || {
        let memory = vec![1_u8; resident];
        let server = Context::fork_server().expect("a fork server");
        let mut what = [0];
        while asked.read(&mut what).expect("a pipe") == 1 {
            let time = match what[0] {
                b's' => timed(5, &|| start_and_join(&server)),
                _ => timed(1, &bare_start),
            };
            answers.write_all(&time.to_le_bytes()).expect("a pipe");
        }
        black_box(memory);
    };
    let child = Process::spawn(work).expect("a child");
    (child, ask, answer)
}

fn server_beside_itself_in_a_large_parent() {
    let (small, large) = (parent(0), parent(1 << 30));
    let asked = |(_, ask, answer): &(Process, std::io::PipeWriter, std::io::PipeReader), what: u8| {
        let (mut ask, mut answer, mut time) = (ask, answer, [0; 8]);
        ask.write_all(&[what]).expect("a parent that listens");
        answer.read_exact(&mut time).expect("a parent that answers");
        f64::from_le_bytes(time)
    };
    let contenders: [turns::Contender<'_>; 4] = [
        ("server, small parent", &|| asked(&small, b's')),
        ("server, 1 GiB resident", &|| asked(&large, b's')),
        ("bare, small parent", &|| asked(&small, b'b')),
        ("bare, 1 GiB resident", &|| asked(&large, b'b')),
    ];
    compare("memory of the parent (at most 2)", "us", 31, &contenders);
    for (child, ..) in [small, large] {
        child.kill().expect("a child");
        child.wait().expect("a child");
    }
}

/// Children that have ended together: started by `start`, which runs what they wait by.
fn ended_together<C>(start: impl Fn(&dyn Fn()) -> C, pid: impl Fn(&C) -> u32) -> Vec<C> {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let wait = || {
        let mut byte = 0_u8;
        // SAFETY: this process's own copy of the end, closed once; and a byte of ours to write to.
        unsafe {
            libc::close(writer.as_raw_fd());
            libc::read(reader.as_raw_fd(), (&raw mut byte).cast(), 1);
        }
    };
    // Ended only when all are started: a start reaps.
    let children: Vec<C> = (0..ENDED).map(|_| start(&wait)).collect();
    drop(writer);
    for child in &children {
        let flags = libc::WEXITED | libc::WNOWAIT;
        // SAFETY: a plain number, and a siginfo of ours to write to.
        unsafe { libc::waitid(libc::P_PID, pid(child), &mut std::mem::zeroed(), flags) };
    }
    children
}

/// A loop over children that have ended, beside a loop over waitpid(-1).
fn reap_beside_bare_calls() {
    let contenders: [turns::Contender<'_>; 3] = [
        ("waitpid(-1)", &|| {
            drop(ended_together(|wait| bare(wait), |pid| pid.as_raw() as u32));
            let begun = Instant::now();
            while waitpid(None, None).is_ok() {}
            micros(begun.elapsed()) / ENDED as f64
        }),
        ("reap_now", &|| {
            let children = ended_together(|wait| Process::spawn(wait).expect("a child"), |child| child.pid());
            let begun = Instant::now();
            assert_eq!(reap_now().len(), ENDED);
            let time = micros(begun.elapsed()) / ENDED as f64;
            drop(children);
            time
        }),
        ("waitid by pidfd", &|| {
            let start = |wait: &dyn Fn()| {
                let child = bare(wait);
                (child, pidfd_of(child))
            };
            let children = ended_together(start, |(pid, _)| pid.as_raw() as u32);
            let begun = Instant::now();
            for (_, pidfd) in &children {
                waitid(Id::PIDFd(pidfd.as_fd()), WaitPidFlag::WEXITED).expect("waitid");
            }
            micros(begun.elapsed()) / ENDED as f64
        }),
    ];
    compare("reaping 1,000 ended children (at most 1.2)", "us", REAPS, &contenders);
}

/// Measures CPython's children: a start method a line. A program in a file, as programs are, whose children import it.
const SCRIPT: &str = r#"
import multiprocessing, sys, time

def nothing():
    pass

def child(context):
    process = context.Process(target=nothing)
    process.start()
    process.join()
    assert process.exitcode == 0

if __name__ == "__main__":
    for method in iter(sys.stdin.readline, ""):
        context = multiprocessing.get_context(method.strip())
        child(context)
        begun = time.perf_counter()
        for _ in range(10):
            child(context)
        print((time.perf_counter() - begun) * 1e5, flush=True)
"#;

fn python() {
    let mut command = Command::new("python3");
    let script = env::temp_dir().join(format!("pshared-bench-{}.py", process::id()));
    fs::write(&script, SCRIPT).expect("a file");
    command.arg(&script).stdin(Stdio::piped()).stdout(Stdio::piped());
    let process = match command.spawn() {
        Ok(process) => process,
        Err(error) => {
            println!("CPython: SKIPPED, there is no python3: {error}");
            let _ = fs::remove_file(script);
            return;
        }
    };
    let helper = std::cell::RefCell::new(Helper { process });
    let server = Context::fork_server().expect("a fork server");
    let contenders: [turns::Contender<'_>; 2] = [
        ("spawn + join", &|| timed(STARTS, &spawn_and_join)),
        ("CPython's fork", &|| helper.borrow_mut().ask("fork")),
    ];
    compare("CPython by fork (at least 10)", "us", 31, &contenders);
    let contenders: [turns::Contender<'_>; 2] = [
        ("fork server", &|| timed(STARTS, &|| start_and_join(&server))),
        ("CPython's forkserver", &|| helper.borrow_mut().ask("forkserver")),
    ];
    compare("CPython by forkserver (at least 20)", "us", 31, &contenders);
    let _ = fs::remove_file(script);
}
