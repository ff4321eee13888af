//! CPython's tests of processes, by name, and where each is restated; here are those that stand nowhere else.
//!
//! Origin: test/_test_multiprocessing.py. A start method is all three unless it is said otherwise.
//!
//! | `_TestProcess`                         | restated as                                                              |
//! |----------------------------------------|--------------------------------------------------------------------------|
//! | `test_current`                         | [`who_one_is`]                                                           |
//! | `test_set_executable`                  | cannot apply: the program is the one that runs, by /proc/self/exe        |
//! | `test_args_argument`                   | [`arguments_of_any_shape_arrive`]                                        |
//! | `test_daemon_argument`                 | [`a_daemon_is_told_and_inherited`]                                       |
//! | `test_parent_process_attributes`       | start: `a_child_knows_its_parent`                                        |
//! | `test_parent_process`                  | [`a_child_sees_its_parent_end`]                                          |
//! | `test_process`                         | [`a_child_from_its_start_to_its_end`]                                    |
//! | `test_process_mainthread_native_id`    | [`a_child_has_a_thread_of_its_own`]                                      |
//! | `test_interrupt`, `test_interrupt_no_handler`, `test_terminate`, `test_kill` | start: `a_child_is_terminated_killed_and_interrupted` |
//! | `test_cpu_count`                       | cannot apply: `std::thread::available_parallelism` is std's              |
//! | `test_active_children`                 | start: `a_child_is_active_until_it_ends`                                 |
//! | `test_recursion`                       | start: `children_have_children`                                          |
//! | `test_sentinel`                        | start: `the_descriptor_is_readable_at_the_end`                           |
//! | `test_close`                           | start: `starts_leave_no_descriptor_and_no_child`; a handle that is used up cannot be named |
//! | `test_many_processes`                  | [`a_hundred_at_once`]                                                    |
//! | `test_lose_target_ref`                 | [`what_is_sent_is_dropped`]; process: `what_the_closure_owns_is_dropped_here_as_well` |
//! | `test_child_fd_inflation`              | [`descriptors_do_not_grow_with_siblings`]; not by fork, which copies what the parent holds |
//! | `test_wait_for_threads`                | start: `a_thread_that_a_child_left_running_ends_with_it`                 |
//! | `test_error_on_stdio_flush_1`, `_2`    | [`broken_standard_streams_do_not_matter`]                                |
//! | `test_forkserver_sigint`, `_sigkill`   | fork_server: `a_server_ignores_ctrl_c_and_its_children_do_not`, `children_of_a_killed_server_do_not_care` |
//! | `test_forkserver_auth_is_enabled`, `_without_auth_fails` | cannot apply: a socket pair has no address that others could connect to |
//!
//! | others                                 | restated as                                                              |
//! |----------------------------------------|--------------------------------------------------------------------------|
//! | `_TestSubclassingProcess.test_subclassing` | [`a_worker_answers_until_it_is_stopped`]; start: `a_worker_is_a_type_with_a_run_body` |
//! | `.test_stderr_flush`                   | [`a_panic_is_printed_whole`]                                             |
//! | `.test_sys_exit`                       | start: `exit_codes_and_signals_are_told`; process exit takes no text      |
//! | `TestStartMethod.test_context`         | [`a_context_is_its_method`]                                              |
//! | `.test_context_check_module_types`     | cannot apply: what is preloaded is a function, by its type               |
//! | `.test_set_get`, `.test_get_all_start_methods` | cannot apply: there is no setting; contexts are values           |
//! | `.test_preload_resources`              | fork_server: `what_is_preloaded_every_child_has`                         |
//! | `.test_mixed_startmethod`, `.test_nested_startmethod` | [`queues_go_through_every_mixture`]                       |
//! | `TestWait.*`                           | wait_any: `cpython_*`; [`one_waits_for_children_and_queues`]             |
//! | `TestCloseFds.test_closefd`            | [`a_descriptor_is_inherited_by_a_fork_alone`]                            |
//! | `TestNoForkBomb.test_noforkbomb`       | start: `a_program_without_init_is_refused`; by fork it is not refused there |
//! | `TestIgnoreEINTR.test_ignore`          | [`signals_interrupt_no_message`]; start: `signals_without_end_do_no_harm` |
//! | `.test_ignore_listener`                | cannot apply: there are no listeners                                     |

mod support;

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    os::fd::AsRawFd,
    process::ExitCode,
    thread,
    time::Duration,
};

use nix::{
    libc,
    sys::{
        signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction},
        wait::waitpid,
    },
};
use pshared::{
    Atomic, Context, Event, JoinError, Process, Queue, Source, active_children, current_process, functions,
    parent_process, wait_any,
};
use serde::{Deserialize, Serialize};

fn main() -> ExitCode {
    pshared::init();
    support::main(support::tests![
        who_one_is,
        arguments_of_any_shape_arrive,
        a_daemon_is_told_and_inherited,
        a_child_sees_its_parent_end,
        a_child_from_its_start_to_its_end,
        a_child_has_a_thread_of_its_own,
        a_hundred_at_once,
        what_is_sent_is_dropped,
        descriptors_do_not_grow_with_siblings,
        broken_standard_streams_do_not_matter,
        a_worker_answers_until_it_is_stopped,
        a_panic_is_printed_whole,
        a_context_is_its_method,
        queues_go_through_every_mixture,
        one_waits_for_children_and_queues,
        a_descriptor_is_inherited_by_a_fork_alone,
        signals_interrupt_no_message,
    ])
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Number(i64),
    Text(String),
    List(Vec<Shape>),
    Pair(Box<(Shape, Shape)>),
}

type Wait = (Queue<(u32, u32)>, Event);

functions! {
    static SHAPE: fn(Shape) -> Shape = |shape| shape;
    static DAEMON: fn(Kind) -> (bool, bool) = |kind| {
        let inner = kind.context().start(&IS_DAEMON, ()).unwrap();
        (current_process().is_daemon(), inner.join().unwrap())
    };
    static IS_DAEMON: fn(()) -> bool = |()| current_process().is_daemon();
    static PARENT: fn((Kind, Queue<String>)) -> () = |(kind, said)| {
        let child = Process::builder().outlive_parent(true);
        drop(kind.context().start_with(child, &ORPHAN, said).unwrap());
        sleep_for_ever();
    };
    static ORPHAN: fn(Queue<String>) -> () = |said| {
        let parent = parent_process().unwrap().unwrap();
        let say = || said.send(if parent.is_alive() { "alive" } else { "not alive" }.to_owned()).unwrap();
        say();
        parent.wait().unwrap();
        say();
    };
    static TELL: fn((Queue<String>, u8, u8)) -> () = |(said, one, two)| {
        for text in [format!("{one} {two}"), current_process().name().to_owned(), std::process::id().to_string()] {
            said.send(text).unwrap();
        }
    };
    static THREAD: fn(()) -> i32 = |()| tid();
    static NAP: fn(()) -> () = |()| thread::sleep(Duration::from_millis(10));
    static SLEEP: fn(()) -> () = |()| sleep_for_ever();
    static COUNT_FILES: fn((Queue<usize>, Event)) -> () = |(counts, go)| {
        counts.send(support::descriptors()).unwrap();
        go.wait();
    };
    static BREAK: fn((i32, Event)) -> () = |(stream, done)| {
        // SAFETY: std opens its streams anew at each use.
        unsafe { libc::close(stream) };
        print!("out");
        eprint!("err");
        done.set();
    };
    static SET: fn(Event) -> () = |event| _ = event.set();
    static UPPER: fn((Queue<String>, Queue<String>)) -> () = |(asked, answers)| {
        while let Ok(text) = asked.recv() {
            answers.send(text.to_uppercase()).unwrap();
        }
    };
    static MARK: fn(()) -> () = |()| panic!("divided by nothing");
    static PUT: fn((Queue<u32>, Vec<Kind>)) -> () = |(queue, mut kinds)| {
        queue.send(kinds.len() as u32).unwrap();
        if let Some(kind) = kinds.pop() {
            kind.context().start(&PUT, (queue, kinds)).unwrap().join().unwrap();
        }
    };
    static TEN: fn(Wait) -> () = |(queue, go)| {
        (0..10).for_each(|number| queue.send((number, std::process::id())).unwrap());
        go.wait();
    };
    static IS_OPEN: fn(i32) -> bool = |file| {
        // SAFETY: a question about a number.
        unsafe { libc::fcntl(file, libc::F_GETFD) >= 0 }
    };
    static ECHO: fn((Queue<u32>, Queue<u32>, Event)) -> () = |(asked, answers, ready)| {
        let action = SigAction::new(SigHandler::Handler(ignore), SaFlags::empty(), SigSet::empty());
        // SAFETY: the handler does nothing.
        unsafe { sigaction(Signal::SIGUSR1, &action) }.unwrap();
        ready.set();
        for _ in 0..200 {
            answers.send(asked.recv().unwrap()).unwrap();
        }
    };
}

extern "C" fn ignore(_: i32) {}

fn tid() -> i32 {
    // SAFETY: no arguments.
    unsafe { libc::gettid() }
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

impl Kind {
    fn context(self) -> Context {
        match self {
            Kind::Fork => Context::fork(),
            Kind::Spawn => Context::spawn(),
            Kind::ForkServer => Context::fork_server().unwrap(),
        }
    }
}

fn who_one_is() {
    let me = current_process();
    assert_eq!((me.name(), me.pid(), me.is_daemon()), ("MainProcess", std::process::id(), false));
    assert!(parent_process().unwrap().is_none() && active_children().is_empty());
}

fn arguments_of_any_shape_arrive() {
    let pair = Shape::Pair(Box::new((Shape::Number(1), Shape::Text("one".into()))));
    let shapes = [Shape::Number(1), Shape::Text("str".into()), Shape::List(vec![pair.clone()]), pair];
    for kind in KINDS {
        let context = kind.context();
        for shape in &shapes {
            assert_eq!(&context.start(&SHAPE, shape.clone()).unwrap().join().unwrap(), shape, "{kind:?}");
        }
    }
}

fn a_daemon_is_told_and_inherited() {
    for kind in KINDS {
        let context = kind.context();
        assert!(!context.start(&IS_DAEMON, ()).unwrap().join().unwrap(), "{kind:?}");
        for daemon in [false, true] {
            let child = context.start_with(Process::builder().daemon(daemon), &DAEMON, kind).unwrap();
            assert_eq!(child.is_daemon(), daemon);
            assert_eq!(child.join().unwrap(), (daemon, daemon), "{kind:?}");
        }
    }
}

fn a_child_sees_its_parent_end() {
    for kind in KINDS {
        let said = Queue::new(4096).unwrap();
        let parent = kind.context().start(&PARENT, (kind, said.clone())).unwrap();
        assert_eq!(said.recv().unwrap(), "alive", "{kind:?}");
        parent.terminate().unwrap();
        parent.wait().unwrap();
        assert_eq!(said.recv().unwrap(), "not alive", "{kind:?}");
        // It has come to us, and a fork server with it.
        while waitpid(None, None).is_ok() {}
    }
}

fn a_child_from_its_start_to_its_end() {
    for kind in KINDS {
        let said = Queue::new(4096).unwrap();
        let (name, context) = ("SomeProcess", kind.context());
        let builder = Process::builder().name(name).daemon(true);
        assert!(active_children().is_empty());
        let child = context.start_with(builder, &TELL, (said.clone(), 1, 2)).unwrap();
        assert!(child.is_daemon() && child.name() == name);
        let told: Vec<String> = (0..3).map(|_| said.recv().unwrap()).collect();
        assert_eq!(told, ["1 2".to_owned(), name.to_owned(), child.pid().to_string()], "{kind:?}");
        assert!(child.wait().unwrap().success() && !child.is_alive());
        assert!(active_children().is_empty());
        child.join().unwrap();
    }
}

fn a_child_has_a_thread_of_its_own() {
    for kind in KINDS {
        let child = kind.context().start(&THREAD, ()).unwrap();
        let pid = child.pid() as i32;
        let its = child.join().unwrap();
        assert_eq!(its, pid, "{kind:?}");
        assert_ne!(its, tid(), "{kind:?}");
    }
}

fn a_hundred_at_once() {
    for kind in KINDS {
        let (context, count) = (kind.context(), if kind == Kind::Spawn { 5 } else { 100 });
        let napping: Vec<_> = (0..count).map(|_| context.start(&NAP, ()).unwrap()).collect();
        napping.into_iter().for_each(|child| child.join().unwrap());
        let sleeping: Vec<_> = (0..count).map(|_| context.start(&SLEEP, ()).unwrap()).collect();
        sleeping.iter().for_each(|child| assert!(child.terminate().unwrap()));
        for child in &sleeping {
            assert_eq!(child.wait().unwrap().as_python(), Some(-libc::SIGTERM), "{kind:?}");
        }
        assert!(active_children().is_empty());
    }
}

fn what_is_sent_is_dropped() {
    for kind in KINDS {
        let context = kind.context();
        let total = Atomic::new(0_u32).unwrap();
        context.start(&THREAD, ()).unwrap().join().unwrap();
        let before = support::descriptors();
        for _ in 0..10 {
            let region = pshared::Region::anonymous(4096).unwrap();
            let queue = Queue::new_in(&region, 256).unwrap();
            context.start(&PUT, (queue.clone(), vec![])).unwrap().join().unwrap();
            total.fetch_add(queue.recv().unwrap() + 1);
        }
        assert_eq!((total.get(), support::descriptors()), (10, before), "{kind:?}");
    }
}

fn descriptors_do_not_grow_with_siblings() {
    for kind in [Kind::Spawn, Kind::ForkServer] {
        let context = kind.context();
        let (counts, go) = (Queue::new(4096).unwrap(), Event::new().unwrap());
        // What the first brings about, such as a server, is there.
        context.start(&THREAD, ()).unwrap().join().unwrap();
        let start = || context.start(&COUNT_FILES, (counts.clone(), go.clone())).unwrap();
        let children: Vec<_> = (0..5).map(|_| start()).collect();
        let found: BTreeSet<usize> = (0..5).map(|_| counts.recv().unwrap()).collect();
        assert_eq!(found.len(), 1, "{kind:?}: {found:?}");
        go.set();
        children.into_iter().for_each(|child| child.join().unwrap());
    }
}

fn broken_standard_streams_do_not_matter() {
    for kind in KINDS {
        let context = kind.context();
        for stream in 0..3 {
            // Broken by the child.
            let done = Event::new().unwrap();
            let null = || File::options().write(true).open("/dev/null").unwrap();
            let builder = Process::builder().stdout(null()).stderr(null());
            let child = context.start_with(builder, &BREAK, (stream, done.clone())).unwrap();
            assert!(child.wait().unwrap().success() && done.is_set(), "{kind:?}, {stream}");
            child.join().unwrap();
            // Broken by the parent.
            let done = Event::new().unwrap();
            support::fork_child(|| {
                // SAFETY: as in the child.
                unsafe { libc::close(stream) };
                kind.context().start(&SET, done.clone()).unwrap().join().unwrap();
            })
            .join_ok();
            assert!(done.is_set(), "{kind:?}, {stream}");
        }
    }
}

/// A type with a life of its own: CPython's subclass.
struct Upper {
    asked: Queue<String>,
    answers: Queue<String>,
    process: Process,
}

impl Upper {
    fn start(context: &Context) -> Upper {
        let (asked, answers) = (Queue::new(4096).unwrap(), Queue::new(4096).unwrap());
        let process = context.start(&UPPER, (asked.clone(), answers.clone())).unwrap();
        Upper { asked, answers, process }
    }

    fn submit(&self, text: &str) -> String {
        self.asked.send(text.to_owned()).unwrap();
        self.answers.recv().unwrap()
    }

    fn stop(self) -> Result<(), JoinError> {
        self.asked.close();
        self.process.join()
    }
}

fn a_worker_answers_until_it_is_stopped() {
    for kind in KINDS {
        let upper = Upper::start(&kind.context());
        assert_eq!(
            (upper.submit("hello"), upper.submit("world")),
            ("HELLO".into(), "WORLD".into()),
            "{kind:?}"
        );
        upper.stop().unwrap();
    }
}

fn a_panic_is_printed_whole() {
    for kind in KINDS {
        let (mut printed, end) = io::pipe().unwrap();
        let child = kind.context().start_with(Process::builder().stderr(end), &MARK, ()).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(101));
        let text = io::read_to_string(&mut printed).unwrap();
        assert!(
            text.contains("divided by nothing") && text.contains("cpython_process.rs"),
            "{kind:?}: {text}"
        );
        assert!(matches!(child.join(), Err(JoinError::Panicked { .. })));
    }
}

fn a_context_is_its_method() {
    for (kind, name) in KINDS.into_iter().zip(["Fork", "Spawn", "ForkServer"]) {
        let context = kind.context();
        assert!(format!("{context:?}").contains(name), "{context:?}");
        let clone = context.clone();
        drop(context);
        assert_eq!(clone.start(&SHAPE, Shape::Number(3)).unwrap().join().unwrap(), Shape::Number(3));
    }
}

fn queues_go_through_every_mixture() {
    let queue = Queue::new(4096).unwrap();
    for last in KINDS {
        for middle in KINDS {
            for first in KINDS {
                let child = first.context().start(&PUT, (queue.clone(), vec![last, middle])).unwrap();
                child.join().unwrap();
                let found: Vec<u32> = std::iter::from_fn(|| queue.try_recv().ok()).collect();
                assert_eq!(found, [2, 1, 0], "{first:?}, {middle:?}, {last:?}");
            }
        }
    }
}

fn one_waits_for_children_and_queues() {
    for kind in KINDS {
        // In a child: the queues fill more than one of a thread's arenas.
        support::fork_child(|| wait_for_children_and_queues(kind)).join_ok();
    }
}

fn wait_for_children_and_queues(kind: Kind) {
    let context = kind.context();
    let go = Event::new().unwrap();
    let queues: Vec<Queue<(u32, u32)>> = (0..4).map(|_| Queue::new(4096).unwrap()).collect();
    let children: Vec<Process> =
        queues.iter().map(|queue| context.start(&TEN, (queue.clone(), go.clone())).unwrap()).collect();
    let sources: Vec<&dyn Source> = queues.iter().map(|queue| queue as _).collect();
    let mut messages = BTreeSet::new();
    while messages.len() < 40 {
        for ready in wait_any(&sources).unwrap() {
            messages.insert(queues[ready].recv().unwrap());
        }
    }
    let expected = |child: &Process| (0..10).map(|number| (number, child.pid())).collect::<Vec<_>>();
    assert_eq!(messages, children.iter().flat_map(expected).collect(), "{kind:?}");
    // Nobody has ended; then all have.
    let ends: Vec<&dyn Source> = children.iter().map(|child| child as _).collect();
    assert!(pshared::try_wait_any(&ends).is_err(), "{kind:?}");
    go.set();
    let mut left: Vec<&Process> = children.iter().collect();
    while !left.is_empty() {
        let ends: Vec<&dyn Source> = left.iter().map(|&child| child as _).collect();
        let ended = wait_any(&ends).unwrap();
        for place in ended.into_iter().rev() {
            assert!(left.remove(place).wait().unwrap().success());
        }
    }
}

fn a_descriptor_is_inherited_by_a_fork_alone() {
    let file = File::open("/dev/zero").unwrap();
    // SAFETY: a number that is free, or 200 is below the limit everywhere; the copy is closed below.
    let high = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 200) };
    assert!(high >= 200);
    for kind in KINDS {
        let is_open = kind.context().start(&IS_OPEN, high).unwrap().join().unwrap();
        assert_eq!(is_open, kind == Kind::Fork, "{kind:?}");
    }
    // SAFETY: ours, and not used again.
    unsafe { libc::close(high) };
    assert!(fs::exists("/dev/zero").unwrap());
}

fn signals_interrupt_no_message() {
    for kind in KINDS {
        let (asked, answers) = (Queue::new(64).unwrap(), Queue::new(64).unwrap());
        let ready = Event::new().unwrap();
        let child = kind.context().start(&ECHO, (asked.clone(), answers.clone(), ready.clone())).unwrap();
        ready.wait();
        for number in 0..200 {
            // While it waits to receive, and while it does not.
            child.signal(libc::SIGUSR1).unwrap();
            asked.send(number).unwrap();
            child.signal(libc::SIGUSR1).unwrap();
            assert_eq!(answers.recv().unwrap(), number, "{kind:?}");
        }
        child.join().unwrap();
    }
}
