//! Deaths in a start and at the end of a life, at every stop of every system call, under each start method.
//!
//! What one process does is seen by others only through system calls and the words of the gate, whose own kills are
//! those of the lock. So a tracer lets the victim go from one side of a system call to the next, and kills it there.

mod support;

use std::process::ExitCode;

use nix::{
    libc,
    sys::{
        ptrace,
        signal::{Signal, kill, raise},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use pshared::{Atomic, Context, Event, JoinError, functions};

fn main() -> ExitCode {
    pshared::init();
    support::main(support::tests![
        a_stop_that_a_tracer_is_to_see_is_no_end,
        a_child_killed_at_any_call_leaves_its_value_or_none,
        a_parent_killed_at_any_call_of_a_start_leaves_nobody,
        a_server_killed_at_any_call_has_had_each_child_once,
    ])
}

functions! {
    static REPORT: fn((Event, Event)) -> Vec<u32> = |(ready, go)| {
        ready.set();
        go.wait();
        value()
    };
    static COUNT: fn(Atomic<u32>) -> u32 = |count| count.fetch_add(1);
}

/// More than a page, so that a record that is cut short is seen.
fn value() -> Vec<u32> {
    (0..10_000).collect()
}

/// A start method's name, and what makes its context.
type Method = (&'static str, fn() -> Context);

const METHODS: [Method; 3] =
    [("fork", Context::fork), ("spawn", Context::spawn), ("fork server", || Context::fork_server().unwrap())];

/// The next stop of a victim; false: it has ended.
fn next_stop(victim: Pid) -> bool {
    let change = waitpid(victim, Some(WaitPidFlag::__WALL)).unwrap();
    !matches!(change, WaitStatus::Exited(..) | WaitStatus::Signaled(..))
}

/// Lets a victim that is stopped go through so many stops; false: it ended before.
fn goes(victim: Pid, stops: usize) -> bool {
    (0..stops).all(|_| {
        ptrace::syscall(victim, None).unwrap();
        next_stop(victim)
    })
}

/// Stops a process that runs.
fn seize(victim: Pid) {
    ptrace::seize(victim, ptrace::Options::PTRACE_O_TRACESYSGOOD).unwrap();
    ptrace::interrupt(victim).unwrap();
    assert!(next_stop(victim));
}

fn a_stop_that_a_tracer_is_to_see_is_no_end() {
    for (name, context) in METHODS {
        let (ready, go) = (Event::new().unwrap(), Event::new().unwrap());
        let child = context().start(&REPORT, (ready.clone(), go.clone())).unwrap();
        ready.wait();
        let victim = Pid::from_raw(child.pid() as i32);
        ptrace::seize(victim, ptrace::Options::empty()).unwrap();
        ptrace::interrupt(victim).unwrap();
        support::until(|| std::fs::read_to_string(format!("/proc/{victim}/stat")).unwrap().contains(") t"));
        assert!(child.exit_status().unwrap().is_none() && child.is_alive(), "{name}");
        assert!(pshared::reap_now().is_empty(), "{name}");
        assert!(next_stop(victim), "{name}: the stop was taken away");
        ptrace::detach(victim, None).unwrap();
        go.set();
        assert!(child.join().unwrap() == value(), "{name}");
    }
}

fn a_child_killed_at_any_call_leaves_its_value_or_none() {
    for (name, context) in METHODS {
        let context = context();
        let (mut whole, mut none) = (0, 0);
        for stops in 0.. {
            let (ready, go) = (Event::new().unwrap(), Event::new().unwrap());
            let child = context.start(&REPORT, (ready.clone(), go.clone())).unwrap();
            ready.wait();
            let victim = Pid::from_raw(child.pid() as i32);
            seize(victim);
            go.set();
            let killed = goes(victim, stops);
            if killed {
                kill(victim, Signal::SIGKILL).unwrap();
            }
            match child.join() {
                Ok(found) => {
                    assert!(found == value(), "{name}, {stops} stops: torn");
                    whole += 1;
                }
                Err(JoinError::NoValue { status }) => {
                    assert!(
                        killed && status.signal() == Some(libc::SIGKILL),
                        "{name}, {stops} stops: {status}"
                    );
                    none += 1;
                }
                Err(error) => panic!("{name}, {stops} stops: {error}"),
            }
            if !killed {
                break;
            }
        }
        assert!(whole > 0 && none > 3, "{name}: {whole} whole, {none} without");
    }
}

fn a_parent_killed_at_any_call_of_a_start_leaves_nobody() {
    for (name, context) in METHODS {
        let mut ran = 0;
        for stops in 0.. {
            let count = Atomic::new(0_u32).unwrap();
            let parent = support::fork_child(|| {
                let context = context();
                ptrace::traceme().unwrap();
                raise(Signal::SIGSTOP).unwrap();
                let child = context.start(&COUNT, count.clone()).unwrap();
                child.wait().unwrap();
            });
            assert!(next_stop(parent.pid()));
            ptrace::setoptions(parent.pid(), ptrace::Options::PTRACE_O_TRACESYSGOOD).unwrap();
            let killed = goes(parent.pid(), stops);
            if killed {
                parent.kill();
            } else {
                // It was reaped when its end was seen.
                std::mem::forget(parent);
            }
            // Its child and its server have come to us; the harness ends the test if one of them lives on.
            while waitpid(None, None).is_ok() {}
            assert!(count.get() <= 1, "{name}, {stops} stops: ran {} times", count.get());
            ran += count.get();
            if !killed {
                assert_eq!(count.get(), 1, "{name}");
                break;
            }
        }
        assert!(ran > 1, "{name}: {ran}");
    }
}

fn a_server_killed_at_any_call_has_had_each_child_once() {
    let context = Context::fork_server().unwrap();
    for stops in 0.. {
        let count = Atomic::new(0_u32).unwrap();
        let text = format!("{context:?}");
        let server = text.split("Some(").nth(1).unwrap().split(')').next().unwrap().parse().unwrap();
        let server = Pid::from_raw(server);
        let (ready, is_ready) = std::sync::mpsc::channel();
        let survived = std::thread::scope(|scope| {
            let tracer = scope.spawn(move || {
                seize(server);
                ready.send(()).unwrap();
                let served = serves(server, stops);
                if served {
                    ptrace::detach(server, None).unwrap();
                } else {
                    kill(server, Signal::SIGKILL).unwrap();
                }
                served
            });
            is_ready.recv().unwrap();
            assert_eq!(context.start(&COUNT, count.clone()).unwrap().join().unwrap(), 0, "{stops} stops");
            tracer.join().unwrap()
        });
        assert_eq!(count.get(), 1, "{stops} stops");
        if survived {
            assert!(stops > 6, "{stops} stops are too few");
            return;
        }
        // Until the kill is felt; then there is another.
        support::until(|| {
            std::fs::read_to_string(format!("/proc/{server}/stat")).map_or(true, |stat| stat.contains(") Z"))
        });
        context.start(&COUNT, count.clone()).unwrap().join().unwrap();
    }
}

/// Lets a server go through so many stops, but not beyond the wait for another order once it has answered one; says
/// whether it came so far.
fn serves(server: Pid, stops: usize) -> bool {
    let mut answered = false;
    for _ in 0..stops {
        assert!(goes(server, 1), "a server ended by itself");
        let call = std::fs::read_to_string(format!("/proc/{server}/syscall")).unwrap();
        let number: Option<i64> = call.split_ascii_whitespace().next().and_then(|number| number.parse().ok());
        answered |= number == Some(libc::SYS_sendmsg);
        if answered && number == Some(libc::SYS_recvmsg) {
            return true;
        }
    }
    false
}
