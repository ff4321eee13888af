//! What every start method promises, under each of them; and what only one of them can get wrong.
//!
//! Each test that names one of CPython's says its origin: those of `_TestProcess`, `_TestSubclassingProcess`,
//! `TestStartMethod`, `TestCloseFds`, `TestNoForkBomb` and `TestIgnoreEINTR` in test/_test_multiprocessing.py.

#![allow(clippy::disallowed_types, reason = "shared by threads alone")]

mod support;

use std::{
    env,
    fs::{self, File},
    io::{self, Write},
    os::fd::{AsFd, AsRawFd},
    process::{Command, ExitCode, Stdio},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

use nix::{
    libc,
    poll::{PollFd, PollFlags, poll},
    sys::{
        signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction},
        wait::{WaitStatus, waitpid},
    },
    unistd::Pid,
};
use pshared::{
    Array, Atomic, Barrier, BoundedSemaphore, Condition, Context, Event, HandleError, JoinError,
    JoinableQueue, Limit, Lock, Once, OnceValue, PlainData, Process, Queue, RLock, Region, RwLock, Semaphore,
    SendError, SpawnError, Value, active_children, current_process, functions, parent_process, scope,
};
use serde::{Deserialize, Serialize};

/// Set for a process that is to be another program than the tests: its value says which.
const PLAYS: &str = "PSHARED_TEST_PLAYS";

fn main() -> ExitCode {
    // A program that is played has its own idea of when to call it.
    if let Ok(part) = env::var(PLAYS) {
        return play(&part);
    }
    pshared::init();
    support::main(support::tests![
        a_child_has_its_argument_and_its_name,
        a_child_knows_its_parent,
        a_value_comes_home,
        a_panic_comes_home,
        a_panic_while_decoding_is_told,
        exit_codes_and_signals_are_told,
        a_child_is_active_until_it_ends,
        a_child_is_terminated_killed_and_interrupted,
        the_descriptor_is_readable_at_the_end,
        many_children_at_once,
        children_have_children,
        a_scope_joins_children_of_every_method,
        starts_leave_no_descriptor_and_no_child,
        a_thread_that_a_child_left_running_ends_with_it,
        a_worker_is_a_type_with_a_run_body,
        output_is_flushed,
        every_object_is_the_same_object,
        settings_hold,
        refused_settings_are_told_and_leave_nothing,
        a_child_ends_with_its_parent_unless_told,
        no_descriptor_of_a_child_stays_with_another,
        signals_without_end_do_no_harm,
        a_foreign_reaper_steals_nothing,
        threads_that_hold_everything_hold_no_child_up,
        handles_travel_nowhere_else,
        an_argument_that_cannot_be_sent_starts_nothing,
        a_program_without_init_is_refused,
        a_program_that_leaves_before_init_is_told,
        a_note_of_another_process_is_not_followed,
        a_parent_killed_in_a_start_leaves_nobody,
    ])
}

functions! {
    static ECHO: fn((u32, String)) -> (u32, String, String) =
        |(number, text)| (number, text, current_process().name().to_owned());
    static WHO: fn(()) -> (u32, String, Option<(u32, String, bool)>) = |()| {
        let parent = parent_process().unwrap();
        let parent = parent.map(|parent| (parent.pid(), parent.name().to_owned(), parent.is_alive()));
        (std::process::id(), current_process().name().to_owned(), parent)
    };
    static BIG: fn(Vec<u8>) -> Vec<u8> = |bytes| bytes.into_iter().rev().collect();
    static PANIC: fn(String) -> u8 = |text| panic!("{text}");
    static PRICKLY: fn(Prickly) -> () = drop;
    static EXIT: fn(i32) -> () = |code| std::process::exit(code);
    static DIE: fn(i32) -> () = |signal| {
        // SAFETY: plain numbers.
        unsafe { libc::kill(libc::getpid(), signal) };
        sleep_for_ever();
    };
    static SLEEP: fn(()) -> () = |()| sleep_for_ever();
    static WAIT_FOR: fn(Event) -> () = |event| event.wait();
    static COUNT: fn((Atomic<u32>, Event)) -> () = |(total, event)| {
        event.wait();
        total.fetch_add(1);
    };
    static TREE: fn((Queue<Vec<u32>>, Vec<u32>, Kind)) -> () = tree;
    static PARENT: fn((Kind, Atomic<u32>, bool)) -> () = parent;
    static STARTER: fn((Kind, Atomic<u32>)) -> () = starter;
    static LEAVE_A_THREAD: fn(()) -> () = |()| drop(thread::spawn(sleep_for_ever));
    static PASS_ON: fn(Vec<Kind>) -> u32 = pass_on;
    static INTERRUPTED: fn((Event, Event)) -> () = interrupted;
    static RUN: fn(Greeter) -> String = Greeter::run;
    static PRINT: fn(()) -> () = |()| {
        print!("[out]");
        eprint!("[err]");
    };
    static USE_ALL: fn(Everything) -> u64 = use_all;
    static SURROUNDINGS: fn(()) -> (Option<String>, String, Vec<bool>, String) = |()| {
        let set: Vec<bool> = {
            let mut set = SigSet::empty();
            nix::sys::signal::sigprocmask(nix::sys::signal::SigmaskHow::SIG_BLOCK, None, Some(&mut set)).unwrap();
            [Signal::SIGUSR1, Signal::SIGTERM].map(|signal| set.contains(signal)).into()
        };
        let directory = env::current_dir().unwrap().to_string_lossy().into_owned();
        (env::var("PSHARED_TEST_A").ok(), directory, set, io::read_to_string(io::stdin()).unwrap())
    };
    static DESCRIPTORS: fn(()) -> Vec<String> = |()| {
        let links = fs::read_dir("/proc/self/fd").unwrap().flatten().map(|entry| fs::read_link(entry.path()));
        links.flatten().map(|link| link.to_string_lossy().into_owned()).collect()
    };
    static NOTHING: fn(()) -> () = |()| ();
    static MEET: fn(Barrier) -> () = |barrier| _ = barrier.wait();
}

fn sleep_for_ever() {
    loop {
        thread::sleep(Duration::from_secs(60));
    }
}

/// A start method that can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    Fork,
    Spawn,
    ForkServer,
}

const KINDS: [Kind; 3] = [Kind::Fork, Kind::Spawn, Kind::ForkServer];
/// Those that work beside other threads.
const FRESH: [Kind; 2] = [Kind::Spawn, Kind::ForkServer];

impl Kind {
    fn context(self) -> Context {
        match self {
            Kind::Fork => Context::fork(),
            Kind::Spawn => Context::spawn(),
            Kind::ForkServer => Context::fork_server().unwrap(),
        }
    }
}

fn is_there(pid: u32) -> bool {
    fs::exists(format!("/proc/{pid}")).unwrap()
}

// CPython: _TestProcess.test_process, test_args_argument.
fn a_child_has_its_argument_and_its_name() {
    for (number, kind) in (1..).zip(KINDS) {
        let child = kind.context().start(&ECHO, (7, "seven".to_owned())).unwrap();
        let name = format!("Process-{number}");
        assert_eq!(child.name(), name, "{kind:?}");
        assert_eq!(child.join().unwrap(), (7, "seven".to_owned(), name));
    }
    for kind in KINDS {
        let child = kind.context().start_with(Process::builder().name("given"), &ECHO, (8, String::new()));
        assert_eq!(child.unwrap().join().unwrap().2, "given");
    }
}

// CPython: _TestProcess.test_current, test_parent_process_attributes, test_parent_process.
fn a_child_knows_its_parent() {
    let me = (std::process::id(), current_process().name().to_owned(), true);
    for kind in KINDS {
        let child = kind.context().start(&WHO, ()).unwrap();
        let (pid, name) = (child.pid(), child.name().to_owned());
        assert_eq!(child.join().unwrap(), (pid, name, Some(me.clone())), "{kind:?}");
    }
}

fn a_value_comes_home() {
    let bytes: Vec<u8> = (0..1 << 20).map(|i| (i % 251) as u8).collect();
    let turned: Vec<u8> = bytes.iter().rev().copied().collect();
    for kind in KINDS {
        assert!(kind.context().start(&BIG, bytes.clone()).unwrap().join().unwrap() == turned, "{kind:?}");
    }
}

// CPython: _TestSubclassingProcess.test_stderr_flush: what went wrong is told.
fn a_panic_comes_home() {
    for kind in KINDS {
        match kind.context().start(&PANIC, "no luck".to_owned()).unwrap().join() {
            Err(JoinError::Panicked { message, location: Some(place), status }) => {
                assert_eq!((message.as_str(), status.code()), ("no luck", Some(101)));
                assert!(place.file.ends_with("start.rs"), "{place}");
            }
            other => panic!("{kind:?}: {other:?}"),
        }
    }
}

#[derive(Serialize)]
struct Prickly;

impl<'de> Deserialize<'de> for Prickly {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Prickly, D::Error> {
        panic!("do not touch")
    }
}

fn a_panic_while_decoding_is_told() {
    for kind in FRESH {
        match kind.context().start(&PRICKLY, Prickly).unwrap().join() {
            Err(JoinError::Panicked { message, .. }) => assert_eq!(message, "do not touch"),
            other => panic!("{kind:?}: {other:?}"),
        }
    }
}

// CPython: _TestSubclassingProcess.test_sys_exit; the exit codes of _TestProcess.test_process.
fn exit_codes_and_signals_are_told() {
    for kind in KINDS {
        let context = kind.context();
        for (code, told) in [(0, 0), (1, 1), (8, 8), (300, 44)] {
            let child = context.start(&EXIT, code).unwrap();
            assert_eq!(child.wait().unwrap().as_python(), Some(told), "{kind:?}");
            assert!(matches!(child.join(), Err(JoinError::NoValue { .. })));
        }
        for signal in [libc::SIGTERM, libc::SIGKILL, libc::SIGUSR2, libc::SIGABRT] {
            let child = context.start(&DIE, signal).unwrap();
            assert_eq!(child.wait().unwrap().as_python(), Some(-signal), "{kind:?}");
        }
        let child = context.start(&NOTHING, ()).unwrap();
        child.wait().unwrap();
        assert!(child.usage().is_some_and(|usage| usage.peak_memory > 0), "{kind:?}");
    }
}

// CPython: _TestProcess.test_active_children.
fn a_child_is_active_until_it_ends() {
    for kind in KINDS {
        let context = kind.context();
        assert!(active_children().is_empty(), "{kind:?}: {:?}", active_children());
        let event = Event::new().unwrap();
        let child = context.start(&WAIT_FOR, event.clone()).unwrap();
        assert_eq!(active_children().iter().map(|child| child.pid()).collect::<Vec<_>>(), [child.pid()]);
        assert!(child.is_alive() && child.exit_status().unwrap().is_none());
        event.set();
        child.join().unwrap();
        assert!(active_children().is_empty());
    }
}

extern "C" fn note_interrupt(_: i32) {
    INTERRUPTS.store(true, Relaxed);
}

static INTERRUPTS: AtomicBool = AtomicBool::new(false);

fn interrupted((ready, go): (Event, Event)) {
    let action = SigAction::new(SigHandler::Handler(note_interrupt), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler stores a flag.
    unsafe { sigaction(Signal::SIGINT, &action) }.unwrap();
    ready.set();
    support::until(|| INTERRUPTS.load(Relaxed));
    go.wait();
    std::process::exit(42);
}

// CPython: _TestProcess.test_terminate, test_kill, test_interrupt, test_interrupt_no_handler.
fn a_child_is_terminated_killed_and_interrupted() {
    for kind in KINDS {
        let context = kind.context();
        for signal in [libc::SIGTERM, libc::SIGKILL, libc::SIGINT] {
            let child = context.start(&SLEEP, ()).unwrap();
            assert!(child.is_alive());
            assert!(child.wait_timeout(Duration::ZERO).unwrap().is_none());
            let sent = match signal {
                libc::SIGTERM => child.terminate(),
                libc::SIGKILL => child.kill(),
                _ => child.interrupt(),
            };
            assert!(sent.unwrap());
            assert_eq!(child.wait().unwrap().as_python(), Some(-signal), "{kind:?}");
            assert!(!child.kill().unwrap() && !child.is_alive());
        }
        let (ready, go) = (Event::new().unwrap(), Event::new().unwrap());
        let child = context.start(&INTERRUPTED, (ready.clone(), go.clone())).unwrap();
        ready.wait();
        assert!(child.interrupt().unwrap());
        go.set();
        assert_eq!(child.wait().unwrap().code(), Some(42), "{kind:?}");
    }
}

// CPython: _TestProcess.test_sentinel.
fn the_descriptor_is_readable_at_the_end() {
    for kind in KINDS {
        let event = Event::new().unwrap();
        let child = kind.context().start(&WAIT_FOR, event.clone()).unwrap();
        let readable = |timeout: u16| {
            let mut files = [PollFd::new(child.as_fd(), PollFlags::POLLIN)];
            poll(&mut files, timeout).unwrap() == 1
        };
        assert!(!readable(20), "{kind:?}");
        event.set();
        assert!(readable(60_000), "{kind:?}");
        assert!(child.wait().unwrap().success());
    }
}

// CPython: _TestProcess.test_many_processes.
fn many_children_at_once() {
    for kind in KINDS {
        let context = kind.context();
        let children: Vec<_> = (0..10).map(|_| context.start(&SLEEP, ()).unwrap()).collect();
        children.iter().for_each(|child| assert!(child.terminate().unwrap()));
        children.iter().for_each(|child| assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGTERM)));
        let started: Vec<_> = (0..10).map(|n| context.start(&ECHO, (n, String::new())).unwrap()).collect();
        for (number, child) in (0..).zip(started) {
            assert_eq!(child.join().unwrap().0, number, "{kind:?}");
        }
    }
}

fn tree((found, path, kind): (Queue<Vec<u32>>, Vec<u32>, Kind)) {
    found.send(path.clone()).unwrap();
    if path.len() < 2 {
        let context = kind.context();
        for number in 0..2 {
            let longer = [path.as_slice(), &[number]].concat();
            context.start(&TREE, (found.clone(), longer, kind)).unwrap().join().unwrap();
        }
    }
}

fn pass_on(mut kinds: Vec<Kind>) -> u32 {
    let Some(kind) = kinds.pop() else { return 0 };
    1 + kind.context().start(&PASS_ON, kinds).unwrap().join().unwrap()
}

// CPython: _TestProcess.test_recursion; TestStartMethod.test_nested_startmethod, test_mixed_startmethod.
fn children_have_children() {
    let paths: [&[u32]; 7] = [&[], &[0], &[0, 0], &[0, 1], &[1], &[1, 0], &[1, 1]];
    for kind in KINDS {
        let found = Queue::new(4096).unwrap();
        kind.context().start(&TREE, (found.clone(), vec![], kind)).unwrap().join().unwrap();
        let found: Vec<Vec<u32>> = (0..paths.len()).map(|_| found.try_recv().unwrap()).collect();
        assert_eq!(found, paths, "{kind:?}");
    }
    for last in KINDS {
        for kind in KINDS {
            assert_eq!(pass_on(vec![last, kind]), 2, "{kind:?} in {last:?}");
        }
    }
}

fn a_scope_joins_children_of_every_method() {
    for kind in KINDS {
        let context = kind.context();
        let (total, event) = (Atomic::new(0_u32).unwrap(), Event::new().unwrap());
        let sum = scope(|s| {
            for _ in 0..3 {
                drop(s.start(&context, &COUNT, (total.clone(), event.clone())).unwrap());
            }
            let named = Process::builder().name("asked");
            let asked = s.start_with(&context, named, &ECHO, (5, String::new())).unwrap();
            event.set();
            asked.join().unwrap()
        });
        assert_eq!(sum.unwrap(), (5, String::new(), "asked".to_owned()), "{kind:?}");
        assert_eq!(total.get(), 3, "{kind:?}: they were not joined");
        assert!(active_children().is_empty());
        let failed = scope(|s| {
            drop(s.start(&context, &NOTHING, ()).unwrap());
            drop(
                s.start_with(&context, Process::builder().name("unlucky"), &PANIC, "no luck".to_owned())
                    .unwrap(),
            );
        });
        let failed = failed.unwrap_err();
        assert!(failed.name == "unlucky" && failed.to_string().ends_with("no luck"), "{failed}");
    }
    // Beside other threads, where a scope cannot fork.
    let total = Atomic::new(0_u32).unwrap();
    let event = Event::new().unwrap();
    event.set();
    thread::scope(|threads| {
        let (end, wait) = std::sync::mpsc::channel::<()>();
        threads.spawn(move || wait.recv());
        let well = scope(|s| {
            assert!(matches!(s.spawn(|| ()), Err(SpawnError::MultiThreaded { .. })));
            drop(s.start(&Context::spawn(), &COUNT, (total.clone(), event.clone())).unwrap());
        });
        well.unwrap();
        drop(end);
    });
    assert_eq!(total.get(), 1);
}

// CPython: _TestProcess.test_child_fd_inflation, test_lose_target_ref, test_close.
fn starts_leave_no_descriptor_and_no_child() {
    for kind in KINDS {
        let context = kind.context();
        let start = || {
            let value = Value::new(1_u32).unwrap();
            context.start(&DESCRIPTORS, ()).unwrap().join().unwrap();
            let child = context.start(&NOTHING, ()).unwrap();
            drop((child.wait().unwrap(), child, value));
        };
        start();
        let of_the_child = || context.start(&DESCRIPTORS, ()).unwrap().join().unwrap();
        let (before, there) = (support::descriptors(), of_the_child());
        (0..20).for_each(|_| start());
        assert_eq!(support::descriptors(), before, "{kind:?}");
        assert_eq!(of_the_child().len(), there.len(), "{kind:?}");
        assert!(active_children().is_empty());
    }
}

// CPython: _TestProcess.test_wait_for_threads, where the child waits for it; here it says that it has done its work.
fn a_thread_that_a_child_left_running_ends_with_it() {
    for kind in KINDS {
        kind.context().start(&LEAVE_A_THREAD, ()).unwrap().join().unwrap();
    }
}

#[derive(Serialize, Deserialize)]
struct Greeter {
    whom: String,
}

impl Greeter {
    fn run(self) -> String {
        format!("hello {}", self.whom.to_uppercase())
    }
}

// CPython: _TestSubclassingProcess.test_subclassing.
fn a_worker_is_a_type_with_a_run_body() {
    for kind in KINDS {
        let child = kind.context().start(&RUN, Greeter { whom: "ann".into() }).unwrap();
        assert_eq!(child.join().unwrap(), "hello ANN", "{kind:?}");
    }
}

// CPython: _TestSubclassingProcess.test_stderr_flush, _TestProcess.test_error_on_stdio_flush.
fn output_is_flushed() {
    for kind in KINDS {
        let (mut out, out_end) = io::pipe().unwrap();
        let (mut err, err_end) = io::pipe().unwrap();
        let builder = Process::builder().stdout(out_end).stderr(err_end);
        kind.context().start_with(builder, &PRINT, ()).unwrap().join().unwrap();
        assert_eq!(io::read_to_string(&mut out).unwrap(), "[out]", "{kind:?}");
        assert_eq!(io::read_to_string(&mut err).unwrap(), "[err]", "{kind:?}");
        // A stream that cannot be written is no reason to fail.
        let full = File::options().write(true).open("/dev/full").unwrap();
        kind.context().start_with(Process::builder().stdout(full), &PRINT, ()).unwrap().join().unwrap();
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct Everything {
    region: Region,
    lock: Lock,
    rlock: RLock,
    rwlock: RwLock,
    semaphore: Semaphore,
    bounded: BoundedSemaphore,
    event: Event,
    barrier: Barrier,
    condition: Condition<Lock>,
    recursive: Condition<RLock>,
    once: Once,
    once_value: OnceValue<u64>,
    value: Value<[u64; 3]>,
    array: Array<u16>,
    atomic: Atomic<i64>,
    queue: Queue<String>,
    plain: Queue<u64, PlainData>,
    tasks: JoinableQueue<u8>,
}

/// The child's half of a meeting over every object.
fn use_all(all: Everything) -> u64 {
    assert_eq!(all.queue.recv().unwrap(), "to the child");
    assert!(all.lock.try_lock().is_err() && all.rlock.try_lock().is_err() && all.rwlock.try_write().is_err());
    assert!(all.semaphore.try_acquire().is_err() && all.bounded.try_acquire().is_err());
    assert!(all.once.is_completed() && all.once_value.get() == Some(77));
    all.event.set();
    // Its turn comes when the other waits.
    let guard = all.lock.lock().unwrap();
    all.value.update(|value| value[0] += 1);
    all.condition.notify_all();
    drop(guard);
    let guard = all.rlock.lock().unwrap();
    all.value.update(|value| value[1] += 1);
    all.recursive.notify_all();
    drop(guard);
    all.barrier.wait().unwrap();
    drop(all.rwlock.write().unwrap());
    all.semaphore.acquire().unwrap();
    all.bounded.acquire().unwrap();
    all.array.set(2, 5).unwrap();
    all.atomic.fetch_add(-3);
    all.plain.send(1 << 40).unwrap();
    let task = all.tasks.recv().unwrap();
    let number = u64::from(*task);
    task.done();
    drop(Lock::new_in(&all.region).unwrap());
    number
}

fn every_object_is_the_same_object() {
    for kind in KINDS {
        // In a child: they fill more than one of a thread's arenas, of which the gate's stays.
        support::fork_child(|| meet_over_everything(kind)).join_ok();
    }
}

fn meet_over_everything(kind: Kind) {
    let region = Region::anonymous(64 << 10).unwrap();
    let (lock, rlock) = (Lock::new().unwrap(), RLock::new_in(&region).unwrap());
    let all = Everything {
        region: region.clone(),
        lock: lock.clone(),
        rlock: rlock.clone(),
        rwlock: RwLock::new().unwrap(),
        semaphore: Semaphore::new(1).unwrap(),
        bounded: BoundedSemaphore::new(1).unwrap(),
        event: Event::new().unwrap(),
        barrier: Barrier::new(2).unwrap(),
        condition: Condition::new(&lock).unwrap(),
        recursive: Condition::new_in(&region, &rlock).unwrap(),
        once: Once::new().unwrap(),
        once_value: OnceValue::new().unwrap(),
        value: Value::new([0; 3]).unwrap(),
        array: Array::new(&[1; 4]).unwrap(),
        atomic: Atomic::new(1).unwrap(),
        queue: Queue::new(4096).unwrap(),
        plain: Queue::plain(4096).unwrap(),
        tasks: JoinableQueue::new(4096).unwrap(),
    };
    let room = region.room();
    let (guard, recursive, write) =
        (lock.lock().unwrap(), rlock.lock().unwrap(), all.rwlock.write().unwrap());
    all.semaphore.acquire().unwrap();
    all.bounded.acquire().unwrap();
    all.once.call_once(|| ()).unwrap();
    all.once_value.set(77).unwrap();
    all.queue.send("to the child".to_owned()).unwrap();
    all.tasks.send(9).unwrap();
    let Everything { semaphore, bounded, event, barrier, condition, recursive: again, .. } = &all;
    let child = kind.context().start(&USE_ALL, all.clone()).unwrap();
    event.wait();
    drop(condition.wait_while(guard, || all.value.get()[0] == 0).unwrap());
    drop(again.wait_while(recursive, || all.value.get()[1] == 0).unwrap());
    barrier.wait().unwrap();
    drop(write);
    semaphore.release().unwrap();
    bounded.release().unwrap();
    assert_eq!(child.join().unwrap(), 9, "{kind:?}");
    assert_eq!((all.array.get(2).unwrap(), all.atomic.get(), all.plain.recv().unwrap()), (5, -2, 1 << 40));
    all.tasks.join();
    assert!(region.room() < room, "{kind:?}: the child placed nothing in the region");
}

fn settings_hold() {
    for kind in KINDS {
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"for the child").unwrap();
        drop(writer);
        let builder = Process::builder()
            .env("PSHARED_TEST_A", "x=y")
            .current_dir("/dev")
            .signal_mask(&[libc::SIGUSR1])
            .limit(Limit::Core, 0)
            .stdin(reader);
        let child = kind.context().start_with(builder, &SURROUNDINGS, ()).unwrap();
        let told = (Some("x=y".into()), "/dev".into(), vec![true, false], "for the child".into());
        assert_eq!(child.join().unwrap(), told, "{kind:?}");
        let child = kind.context().start(&SURROUNDINGS, ()).unwrap();
        let here = env::current_dir().unwrap().to_str().unwrap().to_owned();
        assert_eq!(child.join().unwrap(), (None, here, vec![false, false], String::new()), "{kind:?}");
    }
}

fn refused_settings_are_told_and_leave_nothing() {
    for kind in KINDS {
        let context = kind.context();
        context.start(&NOTHING, ()).unwrap().join().unwrap();
        let before = support::descriptors();
        for (builder, what) in [
            (Process::builder().current_dir("/dev/null/nowhere"), "working directory"),
            (Process::builder().env("a=b", "c"), "environment"),
            (Process::builder().affinity(&[999_999]), "affinity"),
            (Process::builder().signal_mask(&[9_999]), "signal mask"),
        ] {
            match context.start_with(builder, &NOTHING, ()) {
                Err(SpawnError::Setting { what: told, .. }) => assert_eq!(told, what, "{kind:?}"),
                other => panic!("{kind:?}, {what}: {other:?}"),
            }
        }
        assert_eq!(support::descriptors(), before, "{kind:?}");
        assert!(active_children().is_empty());
    }
}

/// Starts a child that sleeps, and leaves its number.
fn parent((kind, place, outlives): (Kind, Atomic<u32>, bool)) {
    let builder = Process::builder().outlive_parent(outlives);
    let child = kind.context().start_with(builder, &SLEEP, ()).unwrap();
    place.set(child.pid());
    sleep_for_ever();
}

// CPython: TestStartMethod has none; a daemon survives a parent that is killed there.
fn a_child_ends_with_its_parent_unless_told() {
    for kind in KINDS {
        for outlives in [false, true] {
            let place = Atomic::new(0_u32).unwrap();
            let parent = Context::fork().start(&PARENT, (kind, place.clone(), outlives)).unwrap();
            support::until(|| place.get() != 0);
            parent.kill().unwrap();
            parent.wait().unwrap();
            let orphan = Pid::from_raw(place.get() as i32);
            if outlives {
                assert!(is_there(place.get()), "{kind:?}");
                nix::sys::signal::kill(orphan, Signal::SIGKILL).unwrap();
            }
            // Orphans of a test come to it, a fork server's too.
            let status = waitpid(orphan, None).unwrap();
            // Or it left by itself, where it saw its parent gone before it had begun.
            let left = matches!(status, WaitStatus::Exited(_, 125)) && !outlives;
            let killed = matches!(status, WaitStatus::Signaled(_, Signal::SIGKILL, _));
            assert!(left || killed, "{kind:?}: {status:?}");
            while waitpid(None, None).is_ok() {}
        }
    }
}

// CPython: TestCloseFds.test_closefd.
fn no_descriptor_of_a_child_stays_with_another() {
    let file = File::open("/dev/zero").unwrap();
    for kind in FRESH {
        let event = Event::new().unwrap();
        let context = kind.context();
        let other = context.start(&WAIT_FOR, event.clone()).unwrap();
        let links = context.start(&DESCRIPTORS, ()).unwrap().join().unwrap();
        assert!(!links.iter().any(|link| link.contains("zero")), "{kind:?}: {links:?}");
        // Its result's memfd is its own; no order, region or pidfd of anybody is left.
        let foreign = |link: &&String| link.contains("pshared-order") || link.contains("pidfd");
        assert_eq!(links.iter().filter(foreign).count(), 0, "{kind:?}: {links:?}");
        assert_eq!(
            links.iter().filter(|link| link.contains("pshared-result")).count(),
            1 + usize::from(kind == Kind::ForkServer),
            "{kind:?}: {links:?}"
        );
        event.set();
        other.join().unwrap();
    }
    assert!(file.as_raw_fd() > 2);
}

extern "C" fn ignore(_: i32) {}

// CPython: TestIgnoreEINTR.test_ignore, test_ignore_listener.
fn signals_without_end_do_no_harm() {
    let action = SigAction::new(SigHandler::Handler(ignore), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing.
    unsafe { sigaction(Signal::SIGALRM, &action) }.unwrap();
    let every = libc::timeval { tv_sec: 0, tv_usec: 400 };
    let timer = libc::itimerval { it_interval: every, it_value: every };
    for kind in KINDS {
        let context = kind.context();
        // SAFETY: a timer of ours.
        assert_eq!(unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut()) }, 0);
        for number in 0..20 {
            let child = context.start(&ECHO, (number, "x".repeat(5_000))).unwrap();
            assert_eq!(child.join().unwrap().0, number, "{kind:?}");
        }
        // SAFETY: an all-zero timer is off.
        unsafe { libc::setitimer(libc::ITIMER_REAL, &std::mem::zeroed(), std::ptr::null_mut()) };
    }
}

fn a_foreign_reaper_steals_nothing() {
    for kind in KINDS {
        let context = kind.context();
        let child = context.start(&EXIT, 7).unwrap();
        while waitpid(Pid::from_raw(child.pid() as i32), None).is_err() {}
        assert!(!child.is_alive());
        assert_eq!(child.wait().unwrap().code(), Some(7), "{kind:?}");
    }
}

fn threads_that_hold_everything_hold_no_child_up() {
    let contexts = FRESH.map(Kind::context);
    support::lives::beside_busy_threads(|| {
        let refused = Context::fork().start(&NOTHING, ());
        assert!(matches!(refused, Err(SpawnError::MultiThreaded { .. })), "{refused:?}");
        for (context, starts) in contexts.iter().zip([20, 2_000]) {
            for number in 0..starts {
                let child = context.start(&ECHO, (number, String::new())).unwrap();
                assert_eq!(child.join().unwrap().0, number);
            }
        }
        // By several threads at once, through one server.
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for number in 0..50 {
                        let child = contexts[1].start(&ECHO, (number, String::new())).unwrap();
                        assert_eq!(child.join().unwrap().0, number);
                    }
                });
            }
        });
    });
}

fn handles_travel_nowhere_else() {
    let queue: Queue<Lock> = Queue::new(4096).unwrap();
    let refused = queue.send(Lock::new().unwrap()).unwrap_err();
    let SendError::Encode { source, .. } = refused else { panic!("{refused:?}") };
    assert_eq!(source.handle_error(), Some(&HandleError::Elsewhere));
    let text = serde_json::to_string(&Lock::new().unwrap()).unwrap_err().to_string();
    assert!(text.contains("travels only in the start of a process"), "{text}");
    assert!(serde_json::from_str::<Lock>("0").is_err());
}

fn an_argument_that_cannot_be_sent_starts_nothing() {
    for kind in FRESH {
        let context = kind.context();
        context.start(&NOTHING, ()).unwrap().join().unwrap();
        let barrier = Barrier::with_action(1, || ()).unwrap();
        let before = support::descriptors();
        let refused = context.start(&MEET, barrier).unwrap_err();
        let SpawnError::Argument(cause) = &refused else { panic!("{refused:?}") };
        assert!(matches!(cause.handle_error(), Some(HandleError::Bound { .. })), "{cause:?}");
        assert_eq!(support::descriptors(), before, "{kind:?}");
        assert!(active_children().is_empty());
    }
}

/// What a program prints and how it ends that plays `part`.
fn played(part: &str) -> (Option<i32>, String) {
    let mut program = Command::new("/proc/self/exe");
    let output = program.env(PLAYS, part).stdin(Stdio::null()).output().unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap(),
    )
}

/// Programs that are not the tests.
fn play(part: &str) -> ExitCode {
    let start = || match Context::spawn().start(&NOTHING, ()) {
        Ok(child) => println!("started, and it ended: {:?}", child.join()),
        Err(error) => println!("{error}"),
    };
    match part {
        "no init" => start(),
        "late init" => {
            start();
            pshared::init();
            start();
        }
        "leaves" => {
            // In a child it leaves here.
            if env::var_os("PSHARED_ORDER").is_some() {
                return ExitCode::from(9);
            }
            pshared::init();
            start();
        }
        _ => return ExitCode::from(2),
    }
    ExitCode::SUCCESS
}

// CPython: TestNoForkBomb.test_noforkbomb.
fn a_program_without_init_is_refused() {
    let refusal = "cannot start a process anew: main has not called pshared::init() first\n";
    assert_eq!(played("no init"), (Some(0), refusal.to_owned()));
    let (code, text) = played("late init");
    // The child of the late start begins as its parent did, and says so.
    assert_eq!((code, text), (Some(0), format!("{refusal}{refusal}started, and it ended: Ok(())\n")));
}

fn a_program_that_leaves_before_init_is_told() {
    let told = "the program began anew and left with 9 before it came to pshared::init()\n";
    assert_eq!(played("leaves"), (Some(0), told.to_owned()));
}

fn a_note_of_another_process_is_not_followed() {
    let file = File::open("/dev/zero").unwrap();
    for note in ["", "x", "99", "1,2,3", &file.as_raw_fd().to_string()] {
        let mut program = Command::new("/proc/self/exe");
        program.args(["--list"]).env("PSHARED_ORDER", note).stdin(Stdio::null());
        let output = program.output().unwrap();
        assert!(output.status.success(), "{note}");
        assert!(String::from_utf8(output.stdout).unwrap().contains("settings_hold"), "{note}");
    }
}

/// Starts children until it is killed.
fn starter((kind, started): (Kind, Atomic<u32>)) {
    let context = kind.context();
    loop {
        drop(context.start(&SLEEP, ()).unwrap());
        started.fetch_add(1);
    }
}

fn a_parent_killed_in_a_start_leaves_nobody() {
    for kind in KINDS {
        for round in 0..15 {
            let started = Atomic::new(0_u32).unwrap();
            let parent = Context::fork().start(&STARTER, (kind, started.clone())).unwrap();
            support::until(|| started.get() > 0);
            thread::sleep(Duration::from_micros(round * 173 % 3_000));
            parent.kill().unwrap();
            parent.wait().unwrap();
            // The harness ends the test if one lives on.
            while waitpid(None, None).is_ok() {}
        }
    }
}
