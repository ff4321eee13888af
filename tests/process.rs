//! What `Process` promises, with really forked children.

mod support;

use std::{
    cell::Cell,
    error::Error,
    fs::{self, File},
    io::{self, ErrorKind, Read, Write},
    mem,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    process::ExitCode,
    rc::Rc,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        resource::{Resource, getrlimit, setrlimit},
        signal::{SigHandler, Signal, kill, raise, signal},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, dup2_stdin, dup2_stdout, pipe},
};
use pshared::{JoinError, JoinTimeoutError, Lock, LockError, NotParent, Process, SpawnError};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

fn main() -> ExitCode {
    support::main(support::tests![
        a_value_of_any_shape_comes_home,
        a_large_value_comes_home_though_nobody_reads_meanwhile,
        values_of_children_one_after_the_other_are_not_mixed_up,
        a_closure_may_borrow_locals_and_need_not_be_send,
        what_the_closure_owns_is_dropped_here_as_well,
        a_child_may_have_children,
        a_panic_comes_home_with_message_and_place,
        a_panic_that_was_caught_is_not_reported,
        a_resumed_panic_has_no_place,
        a_panic_in_the_values_destructor_is_contained,
        a_panic_while_encoding_is_contained,
        a_panic_with_a_value_that_panics_in_turn_is_contained,
        a_panic_within_a_panic_aborts,
        a_panicking_child_runs_nothing_of_its_parent,
        a_child_runs_no_exit_handler_of_its_parent,
        a_value_that_cannot_be_encoded_is_lost_with_a_reason,
        a_value_that_cannot_be_decoded_is_lost_with_a_reason,
        a_process_that_the_closure_forked_reports_nothing,
        closed_descriptors_lose_the_value_and_harm_no_other_file,
        join_timeout_gives_the_handle_back,
        wait_keeps_the_status,
        is_alive_until_the_end_and_never_after,
        terminate_and_kill_say_whether_it_was_there,
        the_pidfd_is_readable_at_the_end_whatever_a_grandchild_does,
        a_foreign_reaper_steals_nothing,
        an_ignored_sigchld_steals_nothing,
        without_the_kernels_note_the_record_tells_and_else_nobody,
        a_forked_copy_of_a_handle_is_not_the_parent,
        other_threads_are_refused,
        a_joined_thread_does_not_count,
        spawn_unchecked_never_inherits_a_held_stdout,
        an_inherited_guard_does_nothing_in_the_child,
        standard_input_is_empty,
        nothing_is_printed_twice,
        a_parent_that_dies_before_the_gate_opens_runs_nothing,
        a_child_has_a_gate_of_its_own,
        parents_killed_at_random_leave_no_child_waiting,
        a_missing_pidfd_runs_nothing_and_leaves_nothing,
        a_refused_fork_leaves_nothing,
        a_lack_of_descriptors_names_the_call_and_leaves_nothing,
        a_thousand_children_leave_nothing,
        dropped_handles_leave_no_zombies,
        spawning_goes_on_past_a_stopped_child,
    ])
}

fn spawn<T: Serialize + serde::de::DeserializeOwned>(closure: impl FnOnce() -> T) -> Process<T> {
    Process::spawn(closure).unwrap()
}

fn sleep_for_ever() {
    loop {
        thread::sleep(Duration::from_secs(60));
    }
}

/// A pipe whose bytes say what ran.
fn trace() -> (File, File) {
    let (reader, writer) = pipe().unwrap();
    (reader.into(), writer.into())
}

/// What the others wrote, once they have closed it.
fn told((mut reader, writer): (File, File)) -> String {
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    text
}

fn is_there(pid: u32) -> bool {
    fs::exists(format!("/proc/{pid}")).unwrap()
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
struct Nested {
    name: String,
    inner: Option<Box<Nested>>,
    pairs: Vec<(u64, f64)>,
}

fn a_value_of_any_shape_comes_home() {
    spawn(|| ()).join().unwrap();
    assert_eq!(spawn(|| "text".to_string()).join().unwrap(), "text");
    assert_eq!(spawn(|| Err::<u8, _>("no".to_string())).join().unwrap(), Err("no".into()));
    let leaf = Nested { name: "leaf".into(), inner: None, pairs: vec![(1, 0.5)] };
    let tree = Nested { name: "tree".into(), inner: Some(Box::new(leaf)), pairs: vec![] };
    assert_eq!(spawn(|| tree.clone()).join().unwrap(), tree);
}

fn a_large_value_comes_home_though_nobody_reads_meanwhile() {
    let bytes: Vec<u8> = (0..1 << 20).map(|i| (i % 251) as u8).collect();
    assert!(spawn(|| bytes.clone()).join().unwrap() == bytes);
    let long = spawn(|| "x".repeat(32 << 20)).join().unwrap();
    assert_eq!(long.len(), 32 << 20);
}

fn values_of_children_one_after_the_other_are_not_mixed_up() {
    let mut late: Vec<(usize, Process<Vec<usize>>)> = Vec::new();
    for round in 0..200 {
        // Long and short, with and without a value, some of them joined late; and a child that does the same.
        let child = spawn(move || vec![round; [0, 1, 100, 5_000][round % 4]]);
        match round % 5 {
            0 => late.push((round, child)),
            1 => drop(child),
            _ => assert_eq!(child.join().unwrap(), vec![round; [0, 1, 100, 5_000][round % 4]]),
        }
        let silent: Process<Vec<usize>> = spawn(|| std::process::exit(7));
        assert!(matches!(silent.join(), Err(JoinError::NoValue { status }) if status.code() == Some(7)));
        let inner =
            spawn(move || (spawn(move || round + 1).join().unwrap(), spawn(move || round).join().unwrap()));
        assert_eq!(spawn(move || round + 2).join().unwrap(), round + 2);
        assert_eq!(inner.join().unwrap(), (round + 1, round));
    }
    for (round, child) in late {
        assert_eq!(child.join().unwrap(), vec![round; [0, 1, 100, 5_000][round % 4]]);
    }
}

fn a_closure_may_borrow_locals_and_need_not_be_send() {
    let words = ["a", "b"];
    let count = Rc::new(Cell::new(1));
    let child = spawn(|| {
        count.set(count.get() + 1);
        (words.concat(), count.get())
    });
    assert_eq!(child.join().unwrap(), ("ab".to_string(), 2));
    assert_eq!(count.get(), 1, "the child has a copy");
}

fn what_the_closure_owns_is_dropped_here_as_well() {
    let (mut reader, mut writer) = trace();
    let child = spawn(move || writer.write_all(b"from the child").unwrap());
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap(); // ends only when this process's end is closed too
    assert_eq!(text, "from the child");
    child.join().unwrap();
}

fn a_child_may_have_children() {
    let depth = spawn(|| {
        let inner = spawn(|| spawn(|| 1).join().unwrap() + 1);
        let other = spawn(|| 10);
        inner.join().unwrap() + other.join().unwrap() + 1
    });
    assert_eq!(depth.join().unwrap(), 13);
}

fn a_panic_comes_home_with_message_and_place() {
    let number = 7;
    let child = spawn(|| -> u8 { panic!("no {number}") });
    match child.join() {
        Err(JoinError::Panicked { message, location: Some(place), status }) => {
            assert_eq!(message, "no 7");
            assert!(place.file.ends_with("process.rs") && place.line > 100, "{place}");
            assert_eq!(status.code(), Some(101));
        }
        other => panic!("{other:?}"),
    }
}

fn a_panic_that_was_caught_is_not_reported() {
    let child = spawn(|| {
        let caught = std::panic::catch_unwind(|| panic!("caught")).is_err();
        assert!(!caught, "not caught");
    });
    let Err(JoinError::Panicked { message, location, .. }) = child.join() else { panic!() };
    assert_eq!(message, "not caught");
    assert!(location.is_some());
    assert!(spawn(|| std::panic::catch_unwind(|| panic!("caught")).is_err()).join().unwrap());
}

fn a_resumed_panic_has_no_place() {
    let child = spawn(|| {
        let _ = std::panic::catch_unwind(|| panic!("seen by the hook"));
        std::panic::resume_unwind(Box::new("unseen"))
    });
    let Err(JoinError::Panicked { message, location: None, .. }) = Process::<()>::join(child) else {
        panic!()
    };
    assert_eq!(message, "unseen");
}

#[derive(Serialize, Deserialize, Debug)]
struct Grudge(u8);

impl Drop for Grudge {
    fn drop(&mut self) {
        panic!("a grudge");
    }
}

fn a_panic_in_the_values_destructor_is_contained() {
    let Err(JoinError::Panicked { message, status, .. }) = spawn(|| Grudge(1)).join() else { panic!() };
    assert_eq!((message.as_str(), status.code()), ("a grudge", Some(101)));
}

#[derive(Debug)]
struct Stubborn;

impl Serialize for Stubborn {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("stubborn");
    }
}

impl<'de> Deserialize<'de> for Stubborn {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Stubborn, D::Error> {
        Ok(Stubborn)
    }
}

fn a_panic_while_encoding_is_contained() {
    let Err(JoinError::Panicked { message, .. }) = spawn(|| Stubborn).join() else { panic!() };
    assert_eq!(message, "stubborn");
}

fn a_panic_with_a_value_that_panics_in_turn_is_contained() {
    let child: Process<()> = spawn(|| std::panic::panic_any(Grudge(3)));
    let Err(JoinError::Panicked { message, location: Some(_), .. }) = child.join() else { panic!() };
    assert_eq!(message, "a value that is no text");
}

fn a_panic_within_a_panic_aborts() {
    let child = spawn(|| {
        let _grudge = Grudge(2);
        panic!("first");
    });
    let Err(JoinError::NoValue { status }) = Process::<()>::join(child) else { panic!() };
    assert_eq!(status.signal(), Some(libc::SIGABRT));
}

struct Tell<'a>(&'a File, &'static str);

impl Drop for Tell<'_> {
    fn drop(&mut self) {
        let _ = (&mut &*self.0).write_all(self.1.as_bytes());
    }
}

fn a_panicking_child_runs_nothing_of_its_parent() {
    let trace = trace();
    let tell = Tell(&trace.1, "parent's destructor;");
    let child = spawn(|| {
        let _own = Tell(&trace.1, "own destructor;");
        panic!("unwinding")
    });
    assert!(Process::<()>::join(child).is_err());
    mem::forget(tell);
    assert_eq!(told(trace), "own destructor;");
}

static TRACE_FD: std::sync::OnceLock<i32> = std::sync::OnceLock::new();

extern "C" fn at_exit() {
    // SAFETY: a byte of ours to a descriptor that the test keeps open.
    unsafe { libc::write(*TRACE_FD.get().unwrap(), c"x".as_ptr().cast(), 1) };
}

fn a_child_runs_no_exit_handler_of_its_parent() {
    let trace = trace();
    TRACE_FD.set(trace.1.as_raw_fd()).unwrap();
    // SAFETY: the handler touches nothing but a descriptor.
    unsafe { libc::atexit(at_exit) };
    spawn(|| ()).join().unwrap();
    assert!(Process::<()>::join(spawn(|| panic!("exit"))).is_err());
    assert_eq!(told(trace), "");
}

struct Endless;

impl Serialize for Endless {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(std::iter::repeat_n(1_u8, 10).filter(|_| true))
    }
}

impl<'de> Deserialize<'de> for Endless {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Endless, D::Error> {
        Ok(Endless)
    }
}

fn a_value_that_cannot_be_encoded_is_lost_with_a_reason() {
    let Err(JoinError::Lost { reason, status }) = spawn(|| Endless).join() else { panic!() };
    assert!(reason.starts_with("cannot be encoded"), "{reason}");
    assert_eq!(status.code(), Some(1));
}

#[derive(Debug)]
struct TwoFaced;

impl Serialize for TwoFaced {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(9)
    }
}

impl<'de> Deserialize<'de> for TwoFaced {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<TwoFaced, D::Error> {
        String::deserialize(deserializer).map(|_| TwoFaced)
    }
}

fn a_value_that_cannot_be_decoded_is_lost_with_a_reason() {
    let Err(JoinError::Lost { reason, status }) = spawn(|| TwoFaced).join() else { panic!() };
    assert!(reason.starts_with("cannot be decoded"), "{reason}");
    assert!(status.success());
}

fn a_process_that_the_closure_forked_reports_nothing() {
    let child = spawn(|| {
        // SAFETY: one thread; both sides go on as the closure does.
        let grandchild = unsafe { libc::fork() };
        if grandchild == 0 {
            return "grandchild".to_string();
        }
        waitpid(Pid::from_raw(grandchild), None).unwrap();
        // The grandchild has left: had it reported, its record would stand now.
        // SAFETY: ends this process at once, without a report.
        unsafe { libc::_exit(5) }
    });
    let Err(JoinError::NoValue { status }) = child.join() else { panic!() };
    assert_eq!(status.code(), Some(5));
}

fn closed_descriptors_lose_the_value_and_harm_no_other_file() {
    let path = format!("/tmp/pshared-test-{}", std::process::id());
    let child = spawn(|| {
        for entry in fs::read_dir("/proc/self/fd").unwrap().flatten() {
            let fd: i32 = entry.file_name().to_str().unwrap().parse().unwrap();
            if fs::read_link(entry.path()).is_ok_and(|link| link.to_string_lossy().contains("pshared-result"))
            {
                let file = File::create(&path).unwrap();
                // SAFETY: this is what a daemon does to descriptors it does not know.
                unsafe { libc::dup2(file.as_raw_fd(), fd) };
            }
        }
        7
    });
    let Err(JoinError::NoValue { status }) = child.join() else { panic!() };
    assert_eq!(status.code(), Some(1));
    assert_eq!(fs::read(&path).unwrap(), b"");
    fs::remove_file(&path).unwrap();
}

fn join_timeout_gives_the_handle_back() {
    let (mut reader, writer) = trace();
    let child = spawn(|| reader.read(&mut [0]).unwrap());
    let begun = Instant::now();
    let child = match child.join_timeout(Duration::from_millis(30)) {
        Err(JoinTimeoutError::TimedOut(child)) => child,
        other => panic!("{other:?}"),
    };
    assert!(begun.elapsed() >= Duration::from_millis(30));
    let child = child.join_timeout(Duration::ZERO).unwrap_err().into_process().unwrap();
    (&writer).write_all(b"x").unwrap();
    assert_eq!(child.join_timeout(Duration::from_secs(50)).unwrap(), 1);
    let child: Process<()> = spawn(|| panic!("late"));
    let failed = child.join_timeout(Duration::from_secs(50));
    assert!(matches!(failed, Err(JoinTimeoutError::Failed(JoinError::Panicked { .. }))));
}

fn wait_keeps_the_status() {
    let (mut reader, writer) = trace();
    let child = spawn(|| reader.read(&mut [0]).unwrap());
    assert_eq!(child.exit_status().unwrap(), None);
    assert_eq!(child.wait_timeout(Duration::from_millis(20)).unwrap(), None);
    (&writer).write_all(b"x").unwrap();
    assert!(child.wait().unwrap().success());
    assert!(child.wait().unwrap().success());
    assert!(child.exit_status().unwrap().unwrap().success());
    assert!(child.wait_timeout(Duration::ZERO).unwrap().unwrap().success());
    assert!(!is_there(child.pid()), "a zombie is left");
    assert_eq!(child.join().unwrap(), 1);
}

fn is_alive_until_the_end_and_never_after() {
    let child = spawn(sleep_for_ever);
    assert!(child.is_alive());
    kill(Pid::from_raw(child.pid() as i32), Signal::SIGKILL).unwrap();
    support::until(|| !child.is_alive());
    assert!(!is_there(child.pid()), "is_alive did not reap");
    assert_eq!(child.exit_status().unwrap().unwrap().signal(), Some(libc::SIGKILL));
}

fn terminate_and_kill_say_whether_it_was_there() {
    for blunt in [false, true] {
        let child = spawn(sleep_for_ever);
        assert!(if blunt { child.kill() } else { child.terminate() }.unwrap());
        let signal = if blunt { libc::SIGKILL } else { libc::SIGTERM };
        assert_eq!(child.wait().unwrap().signal(), Some(signal));
        assert!(!child.kill().unwrap() && !child.terminate().unwrap());
    }
    let zombie = spawn(|| ());
    let mut fds = [PollFd::new(zombie.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::NONE).unwrap();
    assert!(!zombie.kill().unwrap(), "a zombie is gone");
    let child = spawn(sleep_for_ever);
    assert_eq!(child.signal(9_999).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    child.kill().unwrap();
    child.wait().unwrap();
}

fn readable(child: &Process<i32>, timeout: u16) -> bool {
    let mut fds = [PollFd::new(child.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, timeout).unwrap() == 1
}

fn the_pidfd_is_readable_at_the_end_whatever_a_grandchild_does() {
    let (mut reader, writer) = trace();
    let child = spawn(|| {
        let grandchild = support::fork_child(sleep_for_ever);
        let pid = grandchild.pid().as_raw();
        mem::forget(grandchild);
        reader.read_exact(&mut [0]).unwrap();
        pid
    });
    assert!(!readable(&child, 50));
    (&writer).write_all(b"x").unwrap();
    assert!(readable(&child, 30_000));
    let grandchild = child.join_timeout(Duration::from_secs(30)).unwrap();
    assert!(is_there(grandchild as u32), "the grandchild should have lived on");
    kill(Pid::from_raw(grandchild), Signal::SIGKILL).unwrap();
    waitpid(Pid::from_raw(grandchild), None).unwrap(); // orphans of a test come to it
}

fn a_foreign_reaper_steals_nothing() {
    let steal = || while waitpid(None, None).is_err() {};
    let child = spawn(|| "value".to_string());
    steal();
    assert_eq!(child.join().unwrap(), "value");

    let child: Process<()> = spawn(|| std::process::exit(7));
    steal();
    assert!(!child.is_alive());
    assert_eq!(child.wait().unwrap().code(), Some(7));

    let child = spawn(sleep_for_ever);
    child.kill().unwrap();
    steal();
    assert!(!child.kill().unwrap());
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
}

fn an_ignored_sigchld_steals_nothing() {
    // SAFETY: no handler, but the wish that there be no zombies.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }.unwrap();
    for _ in 0..50 {
        assert_eq!(spawn(|| 5).join().unwrap(), 5);
        let child: Process<()> = spawn(|| std::process::exit(7));
        assert_eq!(child.wait().unwrap().code(), Some(7));
        let child = spawn(sleep_for_ever);
        assert!(child.terminate().unwrap());
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGTERM));
        assert!(!child.is_alive());
    }
}

fn without_the_kernels_note_the_record_tells_and_else_nobody() {
    support::fork_child(|| {
        support::forbid(&[libc::SYS_ioctl], libc::SECCOMP_RET_ERRNO | libc::ENOTTY as u32);
        let steal = || while waitpid(None, None).is_err() {};
        let child = spawn(|| 5);
        steal();
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert_eq!(child.join().unwrap(), 5);

        let child: Process<()> = spawn(|| panic!("recorded"));
        steal();
        assert_eq!(child.join().unwrap_err().status().unwrap().code(), Some(101));

        let child: Process<()> = spawn(|| std::process::exit(3));
        assert_eq!(child.wait().unwrap().code(), Some(3));
        assert_eq!(child.wait().unwrap().code(), Some(3), "read once and kept");

        let child: Process<()> = spawn(|| std::process::exit(0));
        steal();
        assert!(!child.is_alive());
        let status = child.wait().unwrap();
        assert!(status.is_unknown() && !status.success());
        assert!(matches!(child.join(), Err(JoinError::NoValue { status }) if status.is_unknown()));
    })
    .join_ok();
}

fn a_forked_copy_of_a_handle_is_not_the_parent() {
    let child = spawn(sleep_for_ever);
    let copy = support::fork_child(|| {
        assert!(child.is_alive());
        for error in [child.wait().unwrap_err(), child.exit_status().unwrap_err()] {
            assert!(error.get_ref().unwrap().is::<NotParent>());
        }
        let child = child.join_timeout(Duration::ZERO);
        assert!(matches!(child, Err(JoinTimeoutError::Failed(JoinError::NotParent))));
    });
    let WaitStatus::Exited(_, 0) = copy.join() else { panic!() };
    // `child` was moved into the copy's closure, and dropped here: detached.
    end_all_children();

    // The same in a child of ours, which may signal but not wait.
    let child = spawn(sleep_for_ever);
    assert!(spawn(|| child.kill().unwrap() && child.wait().is_err()).join().unwrap());
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));

    // A zombie can be seen to be one, and still is its parent's.
    let zombie = spawn(|| 1);
    assert!(readable(&zombie, 30_000));
    assert!(spawn(|| !zombie.is_alive() && zombie.wait().is_err()).join().unwrap());
    assert_eq!(zombie.join().unwrap(), 1);
}

/// Kills and reaps whoever is left; the orphans' list finds nothing of them later.
fn end_all_children() {
    let pids = fs::read_to_string("/proc/thread-self/children").unwrap();
    for pid in pids.split_ascii_whitespace() {
        let pid = Pid::from_raw(pid.parse().unwrap());
        kill(pid, Signal::SIGKILL).unwrap();
        waitpid(pid, None).unwrap();
    }
    spawn(|| ()).join().unwrap(); // closes the orphans' descriptors
}

fn other_threads_are_refused() {
    let (end, wait) = mpsc::channel::<()>();
    let thread = thread::spawn(move || wait.recv());
    let refused = Process::spawn(|| 1);
    assert!(matches!(refused, Err(SpawnError::MultiThreaded { threads: 2 })), "{refused:?}");
    // SAFETY: the other thread only sleeps.
    let child = unsafe { Process::spawn_unchecked(|| 2) }.unwrap();
    assert_eq!(child.join().unwrap(), 2);
    drop(end);
    let _ = thread.join();
}

fn a_joined_thread_does_not_count() {
    for _ in 0..50 {
        let slow_to_leave = thread::spawn(|| {
            // Descriptors of its own, which the kernel closes after it told the joiner.
            // SAFETY: a plain attribute of this thread.
            assert_eq!(unsafe { libc::unshare(libc::CLONE_FILES) }, 0);
            (0..500).for_each(|_| mem::forget(File::open("/proc/self/stat").unwrap()));
        });
        slow_to_leave.join().unwrap();
        assert_eq!(spawn(|| 1).join().unwrap(), 1);
    }
}

fn spawn_unchecked_never_inherits_a_held_stdout() {
    let (end, stop) = mpsc::channel::<()>();
    let printer = thread::spawn(move || {
        while stop.try_recv() == Err(mpsc::TryRecvError::Empty) {
            let held = (io::stdout().lock(), io::stderr().lock());
            thread::sleep(Duration::from_micros(500));
            drop(held);
            thread::sleep(Duration::from_micros(100));
        }
    });
    for _ in 0..100 {
        // SAFETY: the other thread holds std's streams and nothing else.
        let child = unsafe { Process::spawn_unchecked(|| drop((io::stdout().lock(), io::stderr().lock()))) };
        child.unwrap().join().unwrap();
    }
    drop(end);
    printer.join().unwrap();
}

fn an_inherited_guard_does_nothing_in_the_child() {
    let lock = Lock::new().unwrap();
    let mut slot = Some(lock.lock().unwrap());
    spawn(|| drop(slot.take())).join().unwrap();
    spawn(|| assert!(matches!(lock.try_lock(), Err(LockError::WouldBlock)))).join().unwrap();
    drop(slot);
    spawn(|| drop(lock.lock().unwrap())).join().unwrap();
}

fn standard_input_is_empty() {
    let (reader, writer) = trace();
    (&writer).write_all(b"for the parent").unwrap();
    drop(writer);
    support::fork_child(|| {
        dup2_stdin(&reader).unwrap();
        let read = spawn(|| io::read_to_string(io::stdin()).unwrap()).join().unwrap();
        assert_eq!(read, "");
        assert_eq!(io::read_to_string(io::stdin()).unwrap(), "for the parent");
    })
    .join_ok();
}

fn nothing_is_printed_twice() {
    let (reader, writer) = trace();
    support::fork_child(|| {
        dup2_stdout(&writer).unwrap();
        print!("[before]");
        spawn(|| print!("[child]")).join().unwrap();
        let _: Result<(), _> = spawn(|| {
            print!("[panicking]");
            panic!("after a print");
        })
        .join();
        print!("[after]");
    })
    .join_ok();
    assert_eq!(told((reader, writer)), "[before][child][panicking][after]");
}

fn a_parent_that_dies_before_the_gate_opens_runs_nothing() {
    for round in 0..20 {
        let trace = trace();
        let parent = support::fork_child(|| {
            if round % 2 == 1 {
                spawn(|| ()).join().unwrap(); // a gate that has been used
            }
            support::forbid(&[libc::SYS_pidfd_open], libc::SECCOMP_RET_KILL_PROCESS);
            let _child = Process::spawn(|| (&trace.1).write_all(b"ran").unwrap());
        });
        assert!(matches!(parent.join(), WaitStatus::Signaled(_, Signal::SIGSYS, _)));
        let orphan = waitpid(None, None).unwrap();
        assert!(matches!(orphan, WaitStatus::Exited(_, 125)), "{orphan:?}");
        assert_eq!(told(trace), "");
    }
}

fn a_child_has_a_gate_of_its_own() {
    let (mut begin, begun) = trace();
    let trace = trace();
    let child = spawn(|| {
        begin.read_exact(&mut [0]).unwrap();
        support::forbid(&[libc::SYS_pidfd_open], libc::SECCOMP_RET_KILL_PROCESS);
        let _child = Process::spawn(|| (&trace.1).write_all(b"ran").unwrap());
    });
    // The numbers that come next on the parent's gate are opened before the child starts its own.
    (0..5).for_each(|_| spawn(|| ()).join().unwrap());
    (&begun).write_all(b"x").unwrap();
    assert_eq!(child.join().unwrap_err().status().unwrap().signal(), Some(libc::SIGSYS));
    let orphan = waitpid(None, None).unwrap();
    assert!(matches!(orphan, WaitStatus::Exited(_, 125)), "{orphan:?}");
    assert_eq!(told(trace), "");
}

fn parents_killed_at_random_leave_no_child_waiting() {
    for round in 0..100 {
        let parent = support::fork_child(|| {
            loop {
                drop(spawn(|| ()));
            }
        });
        thread::sleep(Duration::from_micros(300 + round * 97 % 5_000));
        parent.kill();
        // The harness ends the test if one waits for ever.
        while waitpid(None, None).is_ok() {}
    }
}

fn a_missing_pidfd_runs_nothing_and_leaves_nothing() {
    support::fork_child(|| {
        let trace = trace();
        spawn(|| ()).join().unwrap();
        let before = support::descriptors();
        support::forbid(&[libc::SYS_pidfd_open], libc::SECCOMP_RET_ERRNO | libc::EMFILE as u32);
        for _ in 0..20 {
            let refused = Process::spawn(|| (&trace.1).write_all(b"ran").unwrap()).unwrap_err();
            assert_eq!(refused.to_string(), "cannot start a process: pidfd_open failed");
            assert_eq!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Err(Errno::ECHILD));
        }
        assert_eq!(support::descriptors(), before);
        assert_eq!(told(trace), "");
    })
    .join_ok();
}

fn a_refused_fork_leaves_nothing() {
    support::fork_child(|| {
        spawn(|| ()).join().unwrap();
        let before = support::descriptors();
        let mut calls = vec![libc::SYS_clone, libc::SYS_clone3];
        #[cfg(target_arch = "x86_64")]
        calls.push(libc::SYS_fork);
        support::forbid(&calls, libc::SECCOMP_RET_ERRNO | libc::EAGAIN as u32);
        for _ in 0..20 {
            match Process::spawn(|| ()) {
                Err(SpawnError::Os { call: "fork", source }) => {
                    assert_eq!(source.raw_os_error(), Some(libc::EAGAIN))
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(support::descriptors(), before);
    })
    .join_ok();
}

fn a_lack_of_descriptors_names_the_call_and_leaves_nothing() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let mut seen = Vec::new();
    let before = descriptors_without_arena();
    let attempt = |limit: u64, seen: &mut Vec<String>| {
        setrlimit(Resource::RLIMIT_NOFILE, limit, most).unwrap();
        let started = Process::spawn(|| ());
        setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
        match started {
            Ok(child) => {
                child.join().unwrap();
                return true;
            }
            Err(error) => {
                let cause = error.source().unwrap();
                let cause = cause.downcast_ref().or_else(|| cause.source()?.downcast_ref::<io::Error>());
                assert_eq!(cause.unwrap().raw_os_error(), Some(libc::EMFILE), "{error:?}");
                seen.push(error.to_string());
            }
        }
        assert_eq!(descriptors_without_arena(), before);
        assert_eq!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Err(Errno::ECHILD));
        false
    };
    let limit = (1..).find(|&limit| attempt(limit, &mut seen)).unwrap();
    // Now there is a gate: one descriptor fewer is needed, and the next to fail is another.
    let limit = (1..=limit).rev().find(|&limit| !attempt(limit, &mut seen)).unwrap();
    assert!((1..limit).all(|limit| !attempt(limit, &mut seen)));
    for call in ["memfd_create failed", "pidfd_open failed", "no shared memory"] {
        assert!(seen.iter().any(|text| text.contains(call)), "{call} is not in {seen:?}");
    }
}

/// How many descriptors there are, but for those that the crate keeps: the thread's arena, which comes with the first
/// gate, and the memfd of a child to be.
fn descriptors_without_arena() -> usize {
    let links = fs::read_dir("/proc/self/fd").unwrap().flatten().map(|entry| fs::read_link(entry.path()));
    let kept = ["/memfd:pshared (deleted)", "/memfd:pshared-result (deleted)"];
    links
        .filter(|link| !link.as_ref().is_ok_and(|link| kept.iter().any(|kept| link.as_os_str() == *kept)))
        .count()
}

fn maps() -> usize {
    fs::read_to_string("/proc/self/maps").unwrap().lines().count()
}

fn a_thousand_children_leave_nothing() {
    let round = || {
        assert_eq!(spawn(|| 1).join().unwrap(), 1);
        let killed = spawn(sleep_for_ever).kill_and_wait();
        assert_eq!(killed, Some(libc::SIGKILL));
    };
    (0..10).for_each(|_| round());
    let before = (support::descriptors(), maps());
    (0..500).for_each(|_| round());
    let after = (support::descriptors(), maps());
    assert_eq!(after.0, before.0, "descriptors");
    assert!(after.1 <= before.1 + 4, "mappings: {} before, {} after", before.1, after.1);
    assert_eq!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Err(Errno::ECHILD));
}

trait KillAndWait {
    fn kill_and_wait(self) -> Option<i32>;
}

impl KillAndWait for Process<()> {
    fn kill_and_wait(self) -> Option<i32> {
        self.kill().unwrap();
        self.wait().unwrap().signal()
    }
}

fn dropped_handles_leave_no_zombies() {
    let before = {
        spawn(|| ()).join().unwrap();
        support::descriptors()
    };
    let (reader, writer) = trace();
    let gate: OwnedFd = writer.into();
    let pids: Vec<u32> = (0..20)
        .map(|_| {
            let child = spawn(|| {
                nix::unistd::close(gate.as_raw_fd()).unwrap();
                (&reader).read(&mut [0]).unwrap()
            });
            child.pid()
        })
        .collect();
    assert!(pids.iter().all(|&pid| is_there(pid)), "a drop must not kill");
    drop((gate, reader));
    let zombie = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit(')').next().unwrap().trim_start().starts_with('Z')
    };
    support::until(|| pids.iter().all(|&pid| zombie(pid)));
    spawn(|| ()).join().unwrap();
    assert!(!pids.iter().any(|&pid| is_there(pid)), "zombies are left");
    assert_eq!(support::descriptors(), before);

    // One that has ended already is reaped by the drop itself.
    let child = spawn(|| 1);
    let pid = child.pid();
    assert!(readable(&child, 30_000));
    drop(child);
    assert!(!is_there(pid));
}

fn spawning_goes_on_past_a_stopped_child() {
    for _ in 0..200 {
        let stopped = spawn(|| ());
        stopped.signal(libc::SIGSTOP).unwrap();
        assert_eq!(spawn(|| 1).join().unwrap(), 1);
        stopped.kill().unwrap();
        stopped.wait().unwrap();
    }
    assert!(raise(Signal::SIGCONT).is_ok());
    assert_eq!(io::Error::from(NotParent).kind(), ErrorKind::Other);
}
