//! What the fork server promises beside what every start method does: it may die at any moment, and nobody cares.

#![allow(clippy::disallowed_types, reason = "shared by threads alone")]

mod support;

use std::{
    fs,
    process::ExitCode,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::Duration,
};

use nix::{
    libc,
    sys::{
        ptrace,
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use pshared::{Atomic, Context, Event, SpawnError, active_children, functions, reap_now};

static PRELOADED: OnceLock<u32> = OnceLock::new();

fn main() -> ExitCode {
    pshared::init();
    support::main(support::tests![
        a_server_is_nobodys_business,
        children_of_a_killed_server_do_not_care,
        a_server_killed_at_any_moment_loses_no_start_and_no_status,
        a_server_killed_right_after_its_fork_has_had_its_child,
        a_server_killed_before_it_took_an_order_has_not,
        a_server_ends_with_the_last_context,
        a_server_ends_with_its_parent,
        a_server_ignores_ctrl_c_and_its_children_do_not,
        what_is_preloaded_every_child_has,
        a_preload_that_fails_is_told,
        a_server_that_dies_at_every_order_is_given_up,
        a_copy_of_the_asker_is_refused,
        many_descriptors_go_along,
        half_an_order_is_nobodys,
        a_program_without_standard_streams_has_them_overwritten_by_nothing,
        children_know_a_tid_of_their_own,
        the_asker_may_be_any_thread,
        a_missing_pidfd_runs_nothing_and_leaves_nothing,
    ])
}

functions! {
    static NOTHING: fn(()) -> () = |()| ();
    static DOUBLE: fn(u32) -> u32 = |n| 2 * n;
    static EXIT: fn(i32) -> () = |code| std::process::exit(code);
    static SLEEP: fn(()) -> () = |()| sleep_for_ever();
    static WAIT_FOR: fn(Event) -> () = |event| event.wait();
    static PRELOAD: fn(()) -> () = |()| PRELOADED.set(std::process::id()).unwrap();
    static WHO_PRELOADED: fn(()) -> Option<u32> = |()| PRELOADED.get().copied();
    static FAIL: fn(()) -> () = |()| panic!("not today");
    static LEAVE_A_THREAD: fn(()) -> () = |()| drop(thread::spawn(sleep_for_ever));
    static FORBID_CLONE: fn(()) -> () = |()| support::forbid(&[libc::SYS_clone], libc::SECCOMP_RET_KILL_PROCESS);
    static SUM: fn(Vec<Atomic<u32>>) -> u32 = |numbers| numbers.iter().map(|number| number.get()).sum();
    static SUM_AND_COUNT: fn((Vec<Atomic<u32>>, Atomic<u32>)) -> u32 = |(numbers, count)| {
        count.fetch_add(1);
        numbers.iter().map(|number| number.get()).sum()
    };
    static TIDS: fn(()) -> (u32, u32, bool) = |()| {
        // SAFETY: no arguments.
        let (tid, kept) = (unsafe { libc::gettid() } as u32, kept_tid());
        let lock = pshared::Lock::new().unwrap();
        let held = thread::scope(|scope| scope.spawn(|| std::mem::forget(lock.lock().unwrap())).join().is_ok());
        (tid, kept, held && matches!(lock.lock(), Err(pshared::LockError::OwnerDied(_))))
    };
    static COUNT: fn(Atomic<u32>) -> u32 = |count| count.fetch_add(1);
    static TELL: fn(Atomic<u32>) -> () = |place| place.set(1);
}

fn sleep_for_ever() {
    loop {
        thread::sleep(Duration::from_secs(60));
    }
}

/// The number that libc has for the calling thread: it stands in a mutex that it holds.
fn kept_tid() -> u32 {
    // SAFETY: a mutex of our own on this stack, used in order; its owner stands behind its lock word and its count.
    unsafe {
        let mut mutex: libc::pthread_mutex_t = std::mem::zeroed();
        let mut kind: libc::pthread_mutexattr_t = std::mem::zeroed();
        libc::pthread_mutexattr_init(&mut kind);
        libc::pthread_mutexattr_settype(&mut kind, libc::PTHREAD_MUTEX_ERRORCHECK);
        libc::pthread_mutex_init(&mut mutex, &kind);
        libc::pthread_mutex_lock(&mut mutex);
        let owner = (&raw const mutex).cast::<u32>().add(2).read();
        libc::pthread_mutex_unlock(&mut mutex);
        owner
    }
}

/// The server's number, from what a context says of itself between two starts.
fn server_of(context: &Context) -> Option<u32> {
    let text = format!("{context:?}");
    let rest = text.split("Some(").nth(1)?;
    rest.split(')').next()?.parse().ok()
}

fn is_there(pid: u32) -> bool {
    fs::exists(format!("/proc/{pid}")).unwrap()
}

fn kill_pid(pid: u32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid as i32), signal);
}

fn parent_of(pid: u32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(')').next().unwrap().split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

fn a_server_is_nobodys_business() {
    let reaper = pshared::Reaper::new().unwrap();
    let context = Context::fork_server().unwrap();
    let server = server_of(&context).unwrap();
    assert!(is_there(server) && active_children().is_empty());
    let child = context.start(&SLEEP, ()).unwrap();
    assert_eq!(child.name(), "Process-1");
    assert_eq!((parent_of(child.pid()), parent_of(server)), (std::process::id(), std::process::id()));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(reaper.reap().unwrap().children.len(), 1);
    drop(context);
    assert!(!is_there(server) && reap_now().is_empty());
    assert!(!reaper.wait_timeout(Duration::from_millis(10)).unwrap(), "the server's end was told");
}

// CPython: _TestProcess.test_forkserver_sigkill.
fn children_of_a_killed_server_do_not_care() {
    let context = Context::fork_server().unwrap();
    let event = Event::new().unwrap();
    let child = context.start(&WAIT_FOR, event.clone()).unwrap();
    let server = server_of(&context).unwrap();
    kill_pid(server, Signal::SIGKILL);
    support::until(|| {
        !child.is_alive() || fs::read_to_string(format!("/proc/{server}/stat")).unwrap().contains(") Z")
    });
    assert_eq!(context.start(&DOUBLE, 4).unwrap().join().unwrap(), 8);
    assert_ne!(server_of(&context), Some(server));
    assert!(child.is_alive() && !is_there(server), "it was not reaped");
    event.set();
    child.join().unwrap();
}

fn a_server_killed_at_any_moment_loses_no_start_and_no_status() {
    let context = Context::fork_server().unwrap();
    let (over, killed) = (AtomicBool::new(false), AtomicU32::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut state = 0x2545_f491_u32;
            while !over.load(Relaxed) {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if let Some(server) = server_of(&context) {
                    thread::sleep(Duration::from_micros(u64::from(state >> 16) % 1_500));
                    kill_pid(server, Signal::SIGKILL);
                    killed.fetch_add(1, Relaxed);
                }
                thread::sleep(Duration::from_micros(u64::from(state >> 8) % 4_000));
            }
        });
        struct Over<'a>(&'a AtomicBool);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.store(true, Relaxed);
            }
        }
        let _over = Over(&over);
        for number in 0..1_500 {
            assert_eq!(context.start(&DOUBLE, number).unwrap().join().unwrap(), 2 * number);
            if number % 8 == 0 {
                assert_eq!(context.start(&EXIT, 7).unwrap().wait().unwrap().code(), Some(7));
            }
        }
    });
    assert!(killed.load(Relaxed) > 20, "{killed:?}");
    assert!(active_children().is_empty());
    drop(context);
    // A child that nobody knew of would be found by the harness, which looks for zombies and orphans of this test.
    assert!(waitpid(None, None).is_err());
}

/// Crash point `server.born`: a tracer stops the server at the end of the call that forked, and kills it there.
fn a_server_killed_right_after_its_fork_has_had_its_child() {
    let context = Context::fork_server().unwrap();
    for _ in 0..10 {
        let count = Atomic::new(0_u32).unwrap();
        let server = server_of(&context).unwrap();
        let traced = Pid::from_raw(server as i32);
        let (ready, is_ready) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(move || {
                let options = ptrace::Options::PTRACE_O_TRACEFORK | ptrace::Options::PTRACE_O_TRACECLONE;
                ptrace::seize(traced, options).unwrap();
                ready.send(()).unwrap();
                let stop = waitpid(traced, Some(WaitPidFlag::__WALL)).unwrap();
                assert!(matches!(stop, WaitStatus::PtraceEvent(..)), "{stop:?}");
                let child = Pid::from_raw(ptrace::getevent(traced).unwrap() as i32);
                kill(traced, Signal::SIGKILL).unwrap();
                // It is traced from its birth, and stops at its first instruction.
                waitpid(child, Some(WaitPidFlag::__WALL)).unwrap();
                ptrace::detach(child, None).unwrap();
            });
            is_ready.recv().unwrap();
            assert_eq!(context.start(&COUNT, count.clone()).unwrap().join().unwrap(), 0);
        });
        assert_eq!(count.get(), 1, "it was forked twice");
        assert!(!is_there(server));
        context.start(&NOTHING, ()).unwrap().join().unwrap();
    }
}

/// Crash point `server.asked`.
fn a_server_killed_before_it_took_an_order_has_not() {
    let context = Context::fork_server().unwrap();
    for round in 0..10 {
        let count = Atomic::new(0_u32).unwrap();
        let server = server_of(&context).unwrap();
        kill_pid(server, Signal::SIGSTOP);
        thread::scope(|scope| {
            scope.spawn(move || {
                thread::sleep(Duration::from_millis(round));
                kill_pid(server, Signal::SIGKILL);
            });
            assert_eq!(context.start(&COUNT, count.clone()).unwrap().join().unwrap(), 0);
        });
        assert_eq!((count.get(), is_there(server)), (1, false));
    }
}

fn a_server_ends_with_the_last_context() {
    let context = Context::fork_server().unwrap();
    let (clone, server) = (context.clone(), server_of(&context).unwrap());
    drop(context);
    assert_eq!(clone.start(&DOUBLE, 2).unwrap().join().unwrap(), 4);
    let child = clone.start(&SLEEP, ()).unwrap();
    drop(clone);
    assert!(!is_there(server) && child.is_alive());
    child.kill().unwrap();
    child.wait().unwrap();
}

fn a_server_ends_with_its_parent() {
    let place = Atomic::new(0_u32).unwrap();
    let parent = support::fork_child(|| {
        let context = Context::fork_server().unwrap();
        place.set(server_of(&context).unwrap());
        sleep_for_ever();
    });
    support::until(|| place.get() != 0);
    parent.kill();
    // It has come to us; the harness ends the test if it lives on.
    assert!(waitpid(Pid::from_raw(place.get() as i32), None).is_ok());
}

// CPython: _TestProcess.test_forkserver_sigint.
fn a_server_ignores_ctrl_c_and_its_children_do_not() {
    let context = Context::fork_server().unwrap();
    let server = server_of(&context).unwrap();
    kill_pid(server, Signal::SIGINT);
    let child = context.start(&SLEEP, ()).unwrap();
    assert_eq!(server_of(&context), Some(server));
    child.interrupt().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGINT));
}

// CPython: TestForkServer's preloading; TestStartMethod.test_preload_resources.
fn what_is_preloaded_every_child_has() {
    let context = Context::fork_server_with(&PRELOAD).unwrap();
    for _ in 0..3 {
        let server = server_of(&context);
        for _ in 0..3 {
            assert_eq!(context.start(&WHO_PRELOADED, ()).unwrap().join().unwrap(), server);
        }
        kill_pid(server.unwrap(), Signal::SIGKILL);
        assert_ne!(context.start(&WHO_PRELOADED, ()).unwrap().join().unwrap(), None);
    }
    let context = Context::fork_server().unwrap();
    assert_eq!(context.start(&WHO_PRELOADED, ()).unwrap().join().unwrap(), None);
}

fn a_preload_that_fails_is_told() {
    let before = support::descriptors();
    for (preload, told) in
        [(&FAIL, "not today"), (&LEAVE_A_THREAD, "it has 2 threads after its preload, need 1")]
    {
        match Context::fork_server_with(preload) {
            Err(SpawnError::Server { reason }) => assert!(reason.contains(told), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
    assert!(support::descriptors() <= before + 2, "more than the arena and a child's memfd");
}

fn a_server_that_dies_at_every_order_is_given_up() {
    let context = Context::fork_server_with(&FORBID_CLONE).unwrap();
    let refused = context.start(&NOTHING, ()).unwrap_err();
    assert_eq!(refused.to_string(), "the fork server cannot serve: 100 of them were killed");
}

fn a_copy_of_the_asker_is_refused() {
    let context = Context::fork_server().unwrap();
    let server = server_of(&context).unwrap();
    support::fork_child(|| {
        assert!(matches!(context.start(&NOTHING, ()), Err(SpawnError::NotParent)));
        let own = Context::fork_server().unwrap();
        assert_eq!(own.start(&DOUBLE, 3).unwrap().join().unwrap(), 6);
    })
    .join_ok();
    assert_eq!((context.start(&DOUBLE, 5).unwrap().join().unwrap(), server_of(&context)), (10, Some(server)));
}

fn many_descriptors_go_along() {
    let numbers: Vec<Atomic<u32>> = (0..600)
        .map(|number| Atomic::new_in(&pshared::Region::anonymous(4096).unwrap(), number).unwrap())
        .collect();
    for context in [Context::spawn(), Context::fork_server().unwrap()] {
        assert_eq!(context.start(&SUM, numbers.clone()).unwrap().join().unwrap(), 599 * 300);
    }
}

fn half_an_order_is_nobodys() {
    // So many descriptors take three messages.
    let numbers: Vec<Atomic<u32>> =
        (0..600).map(|_| Atomic::new_in(&pshared::Region::anonymous(4096).unwrap(), 1).unwrap()).collect();
    let context = Context::fork_server().unwrap();
    for sent in 0..3 {
        let before = server_of(&context);
        let count = Atomic::new(0_u32).unwrap();
        let (asks, asked) = mpsc::channel();
        thread::scope(|scope| {
            let asker = scope.spawn(|| {
                asks.send(support::ask_before(&[libc::SYS_sendmsg])).unwrap();
                context.start(&SUM_AND_COUNT, (numbers.clone(), count.clone())).map(|child| child.join())
            });
            let listener = asked.recv().unwrap();
            (0..sent).for_each(|_| support::answer(&listener, None));
            support::answer(&listener, Some(libc::ENOBUFS));
            match asker.join().unwrap() {
                Err(SpawnError::Os { call: "sendmsg", source }) => {
                    assert_eq!(source.raw_os_error(), Some(libc::ENOBUFS))
                }
                other => panic!("after {sent} of 3: {other:?}"),
            }
        });
        // That server would take the next order for the rest of this one; there is another.
        assert_eq!((count.get(), is_there(before.unwrap())), (0, false), "after {sent} of 3");
        let child = context.start(&SUM_AND_COUNT, (numbers.clone(), count.clone())).unwrap();
        assert_eq!((child.join().unwrap(), count.get()), (600, 1), "after {sent} of 3");
        assert_ne!(server_of(&context), before);
    }
    assert!(active_children().is_empty());
}

fn a_program_without_standard_streams_has_them_overwritten_by_nothing() {
    let number = Atomic::new(40_u32).unwrap();
    let sum = Atomic::new(0_u32).unwrap();
    let child = support::fork_child(|| {
        // SAFETY: nobody owns these.
        (0..3).for_each(|stream| _ = unsafe { libc::close(stream) });
        for context in [Context::fork_server().unwrap(), Context::spawn()] {
            let null = || std::fs::File::options().write(true).open("/dev/null").unwrap();
            let builder = pshared::Process::builder().stdout(null()).stderr(null());
            let child = context.start_with(builder, &SUM, vec![number.clone(), number.clone()]).unwrap();
            sum.fetch_add(child.join().unwrap());
        }
    });
    child.join_ok();
    assert_eq!(sum.get(), 160);
}

fn children_know_a_tid_of_their_own() {
    let context = Context::fork_server().unwrap();
    for _ in 0..3 {
        let child = context.start(&TIDS, ()).unwrap();
        let pid = child.pid();
        assert_eq!(child.join().unwrap(), (pid, pid, true));
    }
}

fn the_asker_may_be_any_thread() {
    // The thread that started the server ends; a child that it would have taken along goes on.
    let context = thread::spawn(|| Context::fork_server().unwrap()).join().unwrap();
    let event = Event::new().unwrap();
    let child = context.start(&WAIT_FOR, event.clone()).unwrap();
    let other = thread::scope(|scope| {
        scope.spawn(|| context.start(&WAIT_FOR, event.clone()).unwrap()).join().unwrap()
    });
    thread::sleep(Duration::from_millis(20));
    assert!(child.is_alive() && other.is_alive());
    event.set();
    child.join().unwrap();
    other.join().unwrap();
}

fn a_missing_pidfd_runs_nothing_and_leaves_nothing() {
    support::fork_child(|| {
        let place = Atomic::new(0_u32).unwrap();
        let context = Context::fork_server().unwrap();
        context.start(&NOTHING, ()).unwrap().join().unwrap();
        let before = support::descriptors();
        support::forbid(&[libc::SYS_pidfd_open], libc::SECCOMP_RET_ERRNO | libc::EMFILE as u32);
        for _ in 0..5 {
            let refused = context.start(&TELL, place.clone()).unwrap_err();
            assert!(matches!(refused, SpawnError::Os { call: "pidfd_open", .. }), "{refused:?}");
        }
        assert_eq!((place.get(), support::descriptors()), (0, before));
    })
    .join_ok();
}
