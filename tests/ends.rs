//! What runs at the ends of a process's life, and what it has used between them.

#![allow(clippy::disallowed_types, reason = "private to a process")]

mod support;

use std::{
    env,
    fs::File,
    io::{Read, Write},
    process::{Command, ExitCode, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use pshared::{Atomic, Context, Finalizer, NotParent, Process, Queue, after_fork, functions};

/// Set for a process that is to be a program with finalizers: its value says how it ends.
const PLAYS: &str = "PSHARED_TEST_PLAYS";

fn main() -> ExitCode {
    pshared::init();
    if let Ok(part) = env::var(PLAYS) {
        return play(&part);
    }
    support::main(support::tests![
        hooks_run_in_every_forked_child_in_order,
        a_hook_that_panics_is_the_childs_panic,
        a_hook_that_is_being_registered_holds_no_child_up,
        finalizers_run_by_priority_and_the_latest_first,
        finalizers_run_once_and_can_be_cancelled,
        a_finalizer_is_its_own_processs,
        a_finalizer_that_panics_stops_no_other,
        finalizers_run_after_a_panic_and_at_an_exit_but_not_at_a_death,
        a_program_finalizes_however_it_ends_well,
        what_a_living_child_uses_is_told,
        what_a_child_of_another_uses_is_not_told,
    ])
}

functions! {
    static FINALIZE: fn(Queue<u32>) -> () = |queue| {
        Finalizer::new(0, move || queue.send(5).unwrap());
    };
    static SPIN: fn(()) -> () = |()| spin();
}

fn spin() {
    let mut total = 0_u64;
    loop {
        total = std::hint::black_box(total.wrapping_add(1));
    }
}

// CPython: _TestProcess has none; util.register_after_fork's users in test_multiprocessing.
fn hooks_run_in_every_forked_child_in_order() {
    static SEEN: Mutex<String> = Mutex::new(String::new());
    for text in ["a", "b"] {
        after_fork(move || SEEN.lock().unwrap().push_str(text));
    }
    let seen = || SEEN.lock().unwrap().clone();
    let child = Process::spawn(|| (seen(), Process::spawn(seen).unwrap().join().unwrap())).unwrap();
    assert_eq!(child.join().unwrap(), ("ab".into(), "abab".into()));
    assert_eq!(seen(), "");
}

fn a_hook_that_panics_is_the_childs_panic() {
    after_fork(|| panic!("the hook"));
    let error = Process::spawn(|| ()).unwrap().join().unwrap_err();
    assert!(error.to_string().ends_with("the hook"), "{error}");
}

fn a_hook_that_is_being_registered_holds_no_child_up() {
    let over = AtomicU32::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while over.load(Relaxed) == 0 {
                after_fork(|| ());
                thread::sleep(Duration::from_micros(20));
            }
        });
        for _ in 0..100 {
            // SAFETY: the other thread holds the allocator's locks, which glibc sees to, and the hooks'.
            let child = unsafe { Process::spawn_unchecked(|| after_fork(|| ())) };
            child.unwrap().join().unwrap();
        }
        over.store(1, Relaxed);
    });
}

fn told(queue: &Queue<u32>) -> Vec<u32> {
    std::iter::from_fn(|| queue.try_recv().ok()).collect()
}

// CPython: _TestFinalize.test_finalize.
fn finalizers_run_by_priority_and_the_latest_first() {
    let queue = Queue::new(4096).unwrap();
    let say = |number: u32| {
        let queue = queue.clone();
        move || queue.send(number).unwrap()
    };
    let child = Process::spawn(|| {
        for (priority, number) in [(0, 1), (10, 2), (-5, 3), (0, 4), (10, 5), (i32::MAX, 6), (i32::MIN, 7)] {
            Finalizer::new(priority, say(number));
        }
        let last = say(8);
        Finalizer::new(1, move || _ = Finalizer::new(-100, last));
        queue.send(0).unwrap();
    });
    child.unwrap().join().unwrap();
    assert_eq!(told(&queue), [0, 6, 5, 2, 4, 1, 3, 8, 7]);
}

fn finalizers_run_once_and_can_be_cancelled() {
    let queue = Queue::new(4096).unwrap();
    let say = |number: u32| {
        let queue = queue.clone();
        move || queue.send(number).unwrap()
    };
    let child = Process::spawn(|| {
        let (now, never) = (Finalizer::new(0, say(1)), Finalizer::new(0, say(2)));
        assert!(now.is_active() && now.run() && !now.run() && !now.is_active() && !now.cancel());
        assert!(never.cancel() && !never.cancel() && !never.run());
        Finalizer::new(0, say(3));
    });
    child.unwrap().join().unwrap();
    assert_eq!(told(&queue), [1, 3]);
}

// CPython: _TestProcess runs _run_finalizers in each child after clearing what it inherited.
fn a_finalizer_is_its_own_processs() {
    let total = Atomic::new(0_u32).unwrap();
    let counted = total.clone();
    let finalizer = Finalizer::new(0, move || _ = counted.fetch_add(1));
    let child = Process::spawn(|| (finalizer.is_active(), finalizer.run(), finalizer.cancel())).unwrap();
    assert_eq!(child.join().unwrap(), (false, false, false));
    assert_eq!(total.get(), 0);
    assert!(finalizer.run() && total.get() == 1);
    for context in [Context::fork(), Context::spawn(), Context::fork_server().unwrap()] {
        let queue = Queue::new(4096).unwrap();
        context.start(&FINALIZE, queue.clone()).unwrap().join().unwrap();
        assert_eq!(told(&queue), [5]);
    }
}

fn a_finalizer_that_panics_stops_no_other() {
    let queue = Queue::new(4096).unwrap();
    let sent = queue.clone();
    let child = Process::spawn(|| {
        Finalizer::new(1, || panic!("the finalizer"));
        Finalizer::new(0, move || sent.send(1).unwrap());
        7
    });
    assert_eq!(child.unwrap().join().unwrap(), 7);
    assert_eq!(told(&queue), [1]);
}

fn finalizers_run_after_a_panic_and_at_an_exit_but_not_at_a_death() {
    let ends: [fn(); 4] = [
        || panic!("unwinding"),
        || std::process::exit(3),
        || std::process::abort(),
        // SAFETY: ends the process at once.
        || unsafe { nix::libc::_exit(0) },
    ];
    for (end, expected) in ends.into_iter().zip([1, 1, 0, 0]) {
        let queue = Queue::new(4096).unwrap();
        let sent = queue.clone();
        let child = Process::spawn(|| {
            Finalizer::new(0, move || sent.send(1).unwrap());
            end();
        });
        child.unwrap().wait().unwrap();
        assert_eq!(told(&queue).len(), expected);
    }
}

fn play(part: &str) -> ExitCode {
    Finalizer::new(0, || println!("finalized"));
    // A child runs nothing of ours.
    Process::spawn(|| ()).unwrap().join().unwrap();
    match part {
        "returns" => ExitCode::SUCCESS,
        "exits" => std::process::exit(0),
        _ => std::process::abort(),
    }
}

fn a_program_finalizes_however_it_ends_well() {
    for (part, text) in [("returns", "finalized\n"), ("exits", "finalized\n"), ("aborts", "")] {
        let mut program = Command::new("/proc/self/exe");
        let output = program.env(PLAYS, part).stdin(Stdio::null()).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), text, "{part}");
    }
}

fn what_a_living_child_uses_is_told() {
    for context in [Context::fork(), Context::spawn(), Context::fork_server().unwrap()] {
        let begun = Instant::now();
        let child = context.start(&SPIN, ()).unwrap();
        support::until(|| child.usage_so_far().unwrap().cpu_time() >= Duration::from_millis(60));
        let used = child.usage_so_far().unwrap();
        assert!(used.cpu_time() <= begun.elapsed() + Duration::from_millis(100), "{used:?}");
        assert!(used.peak_memory > 100 << 10 && used.minor_faults > 0, "{used:?}");
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(child.usage_so_far().unwrap(), child.usage().unwrap());
    }
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    let child = Process::spawn(|| {
        let mut bytes = vec![0_u8; 4 << 20];
        let mut zeroes = File::open("/dev/zero").unwrap();
        (0..16).for_each(|_| zeroes.read_exact(&mut bytes).unwrap());
        reader.read_exact(&mut [0; 3]).unwrap();
        bytes.len()
    });
    let child = child.unwrap();
    for _ in 0..2 {
        let before = child.usage_so_far().unwrap().voluntary_switches;
        support::until(|| child.usage_so_far().unwrap().peak_memory > 4 << 20);
        writer.write_all(b"x").unwrap();
        support::until(|| child.usage_so_far().unwrap().voluntary_switches > before);
    }
    writer.write_all(b"x").unwrap();
    assert_eq!(child.join().unwrap(), 4 << 20);
}

fn what_a_child_of_another_uses_is_not_told() {
    let child = Process::spawn(spin).unwrap();
    assert!(
        Process::spawn(|| child.usage_so_far().unwrap_err().get_ref().unwrap().is::<NotParent>())
            .unwrap()
            .join()
            .unwrap()
    );
    child.kill().unwrap();
    child.wait().unwrap();
}
