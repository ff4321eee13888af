//! What a `Supervisor` promises: who is started anew, how often, and that nobody is left.

mod support;

use std::{
    cell::RefCell,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use nix::{
    libc,
    sys::{
        signal::{Signal, kill, killpg},
        wait::{WaitStatus, waitpid},
    },
    unistd::{Pid, getpgrp, setpgid},
};
use pshared::{
    Atomic, Context, Event, Failure, Process, Queue, Strategy, SuperviseError, Supervised, Supervisor,
    active_children, functions,
};

fn main() -> ExitCode {
    pshared::init();
    support::main(support::tests![
        children_that_end_well_are_done,
        who_fails_is_started_anew_alone,
        rest_for_one_takes_along_those_after_it,
        too_many_failures_end_it_and_everybody,
        a_child_that_cannot_be_started_counts,
        pauses_grow_and_are_bounded,
        old_failures_are_forgotten,
        a_term_signal_drains,
        a_stubborn_child_is_killed_after_the_grace,
        a_second_signal_ends_the_grace,
        a_signal_while_some_are_restarted_drains_all,
        ctrl_c_reaches_the_supervisor_alone,
        a_killed_supervisor_leaves_nobody,
        by_any_start_method,
        a_panic_in_a_start_leaves_nobody,
        children_killed_at_random_come_back,
    ])
}

functions! {
    static FAIL_UNTIL: fn((Atomic<u32>, u32)) -> () =
        |(tries, enough)| assert!(tries.fetch_add(1) + 1 >= enough, "not yet");
}

fn sleep_for_ever() {
    loop {
        thread::sleep(Duration::from_secs(60));
    }
}

fn told<T: serde::Serialize + serde::de::DeserializeOwned>(queue: &Queue<T>) -> Vec<T> {
    std::iter::from_fn(|| queue.try_recv().ok()).collect()
}

fn children_that_end_well_are_done() {
    let runs = Atomic::new(0_u32).unwrap();
    let mut supervisor = Supervisor::new();
    for name in ["a", "b", "c"] {
        supervisor.child(name, |builder| builder.spawn(|| runs.fetch_add(1)));
    }
    assert!(format!("{supervisor:?}").contains("\"a\": \"due\""), "{supervisor:?}");
    assert_eq!(supervisor.run().unwrap(), Supervised::Done);
    assert_eq!((runs.get(), supervisor.run().unwrap()), (3, Supervised::Done));
    assert_eq!(format!("{supervisor:?}"), r#"{"a": "done", "b": "done", "c": "done"}"#);
    assert!(active_children().is_empty());
}

fn who_fails_is_started_anew_alone() {
    let (tries, others) = (Atomic::new(0_u32).unwrap(), Atomic::new(0_u32).unwrap());
    let over = Event::new().unwrap();
    let mut supervisor = Supervisor::new();
    supervisor.child("steady", |builder| {
        builder.spawn(|| {
            others.fetch_add(1);
            over.wait();
        })
    });
    supervisor.child("clumsy", |builder| {
        assert!(tries.get() < 4);
        builder.spawn(|| match tries.fetch_add(1) {
            0 => panic!("one"),
            1 => std::process::exit(9),
            2 => std::process::abort(),
            _ => _ = over.set(),
        })
    });
    assert_eq!(supervisor.run().unwrap(), Supervised::Done);
    assert_eq!((tries.get(), others.get()), (4, 1));
}

fn rest_for_one_takes_along_those_after_it() {
    for pause in [Duration::from_millis(5), Duration::ZERO] {
        let order: Queue<String> = Queue::new(4096).unwrap();
        let (second, over) = (Atomic::new(0_u32).unwrap(), Event::new().unwrap());
        let note = |name: &str| order.send(name.to_owned()).unwrap();
        let mut supervisor = Supervisor::new();
        supervisor.strategy(Strategy::RestForOne).back_off(pause, pause);
        supervisor.child("first", |builder| {
            note("first");
            builder.spawn(|| over.wait())
        });
        supervisor.child("second", |builder| {
            note("second");
            builder.spawn(|| match second.fetch_add(1) {
                0 | 1 => panic!("again"),
                _ => _ = over.set(),
            })
        });
        supervisor.child("third", |builder| {
            note("third");
            builder.spawn(|| over.wait())
        });
        assert_eq!(supervisor.run().unwrap(), Supervised::Done);
        let started = told(&order);
        assert_eq!(started.iter().filter(|name| *name == "first").count(), 1, "{started:?}");
        assert_eq!(started, ["first", "second", "third", "second", "third", "second", "third"]);
    }
}

fn too_many_failures_end_it_and_everybody() {
    let tries = Atomic::new(0_u32).unwrap();
    let mut supervisor = Supervisor::new();
    supervisor.budget(3, Duration::from_secs(60)).back_off(Duration::ZERO, Duration::ZERO);
    supervisor.child("steady", |builder| builder.spawn(sleep_for_ever));
    supervisor.child("hopeless", |builder| {
        builder.spawn(|| -> () {
            tries.fetch_add(1);
            std::process::exit(7)
        })
    });
    match supervisor.run() {
        Err(SuperviseError::TooManyRestarts { name, failure: Failure::Ended(status), failures }) => {
            assert_eq!((name.as_str(), status.code(), failures), ("hopeless", Some(7), 4));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(tries.get(), 4);
    assert!(active_children().is_empty(), "{:?}", active_children());
}

fn a_child_that_cannot_be_started_counts() {
    let mut supervisor = Supervisor::new();
    supervisor.budget(2, Duration::from_secs(60)).back_off(Duration::ZERO, Duration::ZERO);
    supervisor.child("lost", |builder| builder.current_dir("/nowhere/at/all").spawn(|| ()));
    let error = supervisor.run().unwrap_err();
    let text = "given up after 3 failures, the last that of lost: cannot start a process: its working directory \
                cannot be set";
    assert_eq!(error.to_string(), text);
    assert!(std::error::Error::source(&error).is_some());
}

fn pauses_grow_and_are_bounded() {
    let starts: RefCell<Vec<Instant>> = RefCell::default();
    let mut supervisor = Supervisor::new();
    let (first, longest) = (Duration::from_millis(20), Duration::from_millis(50));
    supervisor.budget(4, Duration::from_secs(60)).back_off(first, longest);
    supervisor.child("failing", |builder| {
        starts.borrow_mut().push(Instant::now());
        builder.spawn(|| -> () { std::process::exit(1) })
    });
    supervisor.run().unwrap_err();
    let starts = starts.borrow();
    let pauses: Vec<Duration> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let least = [20, 40, 50, 50].map(Duration::from_millis);
    assert!(
        pauses.len() == 4 && pauses.iter().zip(least).all(|(pause, least)| *pause >= least),
        "{pauses:?}"
    );
}

fn old_failures_are_forgotten() {
    let tries = Atomic::new(0_u32).unwrap();
    let mut supervisor = Supervisor::new();
    // Each failure is old when the next one comes.
    supervisor
        .budget(1, Duration::from_millis(5))
        .back_off(Duration::from_millis(20), Duration::from_millis(20));
    supervisor.child("slow", |builder| builder.spawn(|| assert!(tries.fetch_add(1) >= 6)));
    assert_eq!(supervisor.run().unwrap(), Supervised::Done);
    assert_eq!(tries.get(), 7);
}

/// Runs a supervisor in a child, tells it by `signal` once `ready` children run, and gives how it came to its end.
fn told_to_stop(ready: u32, tell: impl FnOnce(&support::Child), run: impl Fn(&Atomic<u32>)) -> WaitStatus {
    let running = Atomic::new(0_u32).unwrap();
    let head = support::fork_child(|| run(&running));
    support::until(|| running.get() == ready || head.has_ended());
    tell(&head);
    let status = head.join();
    // Whoever it left has come to us; the harness ends the test if one lives on.
    while waitpid(None, None).is_ok() {}
    status
}

fn a_term_signal_drains() {
    let tell = |head: &support::Child| kill(head.pid(), Signal::SIGTERM).unwrap();
    let status = told_to_stop(2, tell, |running| {
        let mut supervisor = Supervisor::new();
        for name in ["a", "b"] {
            supervisor.child(name, |builder| {
                builder.spawn(|| {
                    running.fetch_add(1);
                    sleep_for_ever();
                })
            });
        }
        assert_eq!(supervisor.run().unwrap(), Supervised::Drained);
        assert!(active_children().is_empty());
    });
    assert!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
}

fn a_stubborn_child_is_killed_after_the_grace() {
    let tell = |head: &support::Child| kill(head.pid(), Signal::SIGINT).unwrap();
    let status = told_to_stop(1, tell, |running| {
        let mut supervisor = Supervisor::new();
        supervisor.grace(Duration::from_millis(50));
        supervisor.child("deaf", |builder| {
            builder.signal_mask(&[libc::SIGTERM]).spawn(|| {
                running.fetch_add(1);
                sleep_for_ever();
            })
        });
        let begun = Instant::now();
        assert_eq!(supervisor.run().unwrap(), Supervised::Drained);
        assert!(begun.elapsed() >= Duration::from_millis(50) && active_children().is_empty());
    });
    assert!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
}

fn a_second_signal_ends_the_grace() {
    for second in [Signal::SIGTERM, Signal::SIGINT] {
        let polite = Atomic::new(0_u32).unwrap();
        let tell = |head: &support::Child| {
            kill(head.pid(), Signal::SIGTERM).unwrap();
            // Its end shows that the drain has begun.
            let pid = Pid::from_raw(polite.get() as i32);
            support::until(|| {
                std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |s| s.contains(") Z"))
            });
            assert!(!head.has_ended());
            kill(head.pid(), second).unwrap();
        };
        let status = told_to_stop(3, tell, |running| {
            let mut supervisor = Supervisor::new();
            // The harness ends the test if this is waited for.
            supervisor.grace(Duration::from_secs(3_600));
            for name in ["deaf", "dumb"] {
                supervisor.child(name, |builder| {
                    builder.signal_mask(&[libc::SIGTERM]).spawn(|| {
                        running.fetch_add(1);
                        sleep_for_ever();
                    })
                });
            }
            supervisor.child("polite", |builder| {
                builder.spawn(|| {
                    polite.set(std::process::id());
                    running.fetch_add(1);
                    sleep_for_ever();
                })
            });
            assert_eq!(supervisor.run().unwrap(), Supervised::Drained);
            assert!(active_children().is_empty());
        });
        // It came to its own end, and not to that of an unblocked signal.
        assert!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
    }
}

fn a_signal_while_some_are_restarted_drains_all() {
    let tell = |head: &support::Child| kill(head.pid(), Signal::SIGTERM).unwrap();
    let status = told_to_stop(3, tell, |running| {
        let mut supervisor = Supervisor::new();
        supervisor.strategy(Strategy::RestForOne).grace(Duration::from_millis(30));
        supervisor.back_off(Duration::ZERO, Duration::ZERO).budget(1_000_000, Duration::from_secs(1));
        supervisor.child("failing", |builder| builder.spawn(|| -> () { std::process::exit(1) }));
        supervisor.child("deaf", |builder| {
            builder.signal_mask(&[libc::SIGTERM]).spawn(|| {
                running.fetch_add(1);
                sleep_for_ever();
            })
        });
        assert_eq!(supervisor.run().unwrap(), Supervised::Drained);
        assert!(active_children().is_empty());
    });
    assert!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
}

fn ctrl_c_reaches_the_supervisor_alone() {
    // The terminal signals a whole group.
    let tell = |head: &support::Child| killpg(head.pid(), Signal::SIGINT).unwrap();
    let status = told_to_stop(1, tell, |running| {
        setpgid(Pid::from_raw(0), Pid::from_raw(0)).unwrap();
        let ended_by = Atomic::new(0_i32).unwrap();
        let group = getpgrp().as_raw();
        let mut supervisor = Supervisor::new();
        supervisor.child("shielded", |builder| {
            builder.spawn(|| {
                assert_ne!(getpgrp().as_raw(), group);
                let mut signals = nix::sys::signal::SigSet::empty();
                signals.add(Signal::SIGTERM);
                signals.add(Signal::SIGINT);
                signals.thread_block().unwrap();
                running.fetch_add(1);
                ended_by.set(signals.wait().unwrap() as i32);
            })
        });
        assert_eq!(supervisor.run().unwrap(), Supervised::Drained);
        assert_eq!(ended_by.get(), libc::SIGTERM);
    });
    assert!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
}

fn a_killed_supervisor_leaves_nobody() {
    let tell = |head: &support::Child| kill(head.pid(), Signal::SIGKILL).unwrap();
    let status = told_to_stop(2, tell, |running| {
        let mut supervisor = Supervisor::new();
        for name in ["a", "b"] {
            supervisor.child(name, |builder| {
                builder.spawn(|| {
                    running.fetch_add(1);
                    sleep_for_ever();
                })
            });
        }
        let _ = supervisor.run();
    });
    assert!(matches!(status, WaitStatus::Signaled(_, Signal::SIGKILL, _)), "{status:?}");
}

fn by_any_start_method() {
    for context in [Context::fork(), Context::spawn(), Context::fork_server().unwrap()] {
        let tries = Atomic::new(0_u32).unwrap();
        let mut supervisor = Supervisor::new();
        supervisor.child("worker", |builder| context.start_with(builder, &FAIL_UNTIL, (tries.clone(), 3)));
        assert_eq!(supervisor.run().unwrap(), Supervised::Done);
        assert_eq!(tries.get(), 3, "{context:?}");
    }
}

fn a_panic_in_a_start_leaves_nobody() {
    let caught = std::panic::catch_unwind(|| {
        let mut supervisor = Supervisor::new();
        supervisor.child("steady", |builder| builder.spawn(sleep_for_ever));
        supervisor.child::<()>("broken", |_| panic!("no child of mine"));
        supervisor.run()
    });
    assert!(caught.is_err() && active_children().is_empty());
}

fn children_killed_at_random_come_back() {
    let done = Atomic::new(0_u32).unwrap();
    let pids: Queue<u32> = Queue::new(1 << 16).unwrap();
    let (killer, seen) = (pids.clone(), done.clone());
    // A process of its own: the supervisor's has one thread.
    let killer = Process::spawn(move || {
        let mut killed = 0;
        while killed < 40 {
            let Ok(pid) = killer.recv() else { break };
            // A worker waits for its end, so its number is its own.
            kill(Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
            killed += 1;
        }
        seen.set(1);
        killed
    });
    let killer = killer.unwrap();
    let mut supervisor = Supervisor::new();
    supervisor.budget(1_000, Duration::from_secs(60)).back_off(Duration::ZERO, Duration::ZERO);
    for name in ["a", "b", "c", "d"] {
        supervisor.child(name, |builder| {
            builder.spawn(|| {
                if done.get() == 0 {
                    pids.send(std::process::id()).unwrap();
                    support::until(|| done.get() != 0);
                }
            })
        });
    }
    assert_eq!(supervisor.run().unwrap(), Supervised::Done);
    assert_eq!(killer.join().unwrap(), 40);
}
