//! A harness for tests that fork: the parent has one thread, and every test runs in a process of its own.
//!
//! A test that hangs is killed with all it started and reported; one that leaves children, zombies or descriptors
//! behind fails. Test names are sentences about behaviour.

#![allow(dead_code, unused_imports, unused_macros, reason = "each test file uses a part")]

pub mod locks;
pub mod page;

use std::{
    fs,
    io::{Write, stderr, stdout},
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use libtest_mimic::{Arguments, Failed, Trial};
use nix::{
    errno::Errno,
    libc,
    sys::{
        signal::{Signal, kill, killpg},
        wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid},
    },
    unistd::{ForkResult, Pid, fork, setpgid},
};

/// A test that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(60);

/// Lists test functions under their own names.
macro_rules! tests {
    ($($name:ident),* $(,)?) => { vec![$((stringify!($name), $name as fn())),*] };
}
pub(crate) use tests;

/// Runs the tests as `cargo test` expects it, one after the other.
pub fn main(tests: Vec<(&'static str, fn())>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let trials =
        tests.into_iter().map(|(name, test)| Trial::test(name, move || in_own_process(test))).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Forks, runs `test` in the child, and judges how it ended.
fn in_own_process(test: fn()) -> Result<(), Failed> {
    stdout().flush()?;
    // SAFETY: this process has one thread.
    let child = match unsafe { fork() }? {
        ForkResult::Child => run(test),
        ForkResult::Parent { child } => child,
    };
    let _ = setpgid(child, child);
    let ended = wait_within(child, LIMIT);
    if ended.is_none() {
        describe_group(child);
    }
    let left_behind = killpg(child, Signal::SIGKILL).is_ok();
    match ended {
        None => {
            let _ = waitpid(child, None);
            Err(format!("hung for {LIMIT:?}").into())
        }
        Some(WaitStatus::Exited(_, 0)) if left_behind => Err("left processes behind".into()),
        Some(WaitStatus::Exited(_, 0)) => Ok(()),
        Some(status) => Err(format!("{status:?}").into()),
    }
}

/// What every process of a hanging test is doing, on stderr.
fn describe_group(leader: Pid) {
    let Ok(entries) = fs::read_dir("/proc") else { return };
    for entry in entries.flatten() {
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_ascii_whitespace().collect();
        if fields.get(2) == Some(&leader.to_string().as_str()) {
            let call = fs::read_to_string(entry.path().join("syscall")).unwrap_or_default();
            eprintln!("hanging: {:?} state {} syscall {}", entry.file_name(), fields[0], call.trim());
        }
    }
}

/// The child's side: never returns into the harness.
fn run(test: fn()) -> ! {
    let _ = setpgid(Pid::from_raw(0), Pid::from_raw(0));
    // SAFETY: plain process attributes: orphans of this test come to us, and we go with the harness.
    unsafe {
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1);
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
    }
    let before = descriptors();
    let mut passed = catch_unwind(AssertUnwindSafe(test)).is_ok();
    match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        Err(Errno::ECHILD) => {}
        left => {
            eprintln!("the test left children behind: {left:?}");
            passed = false;
        }
    }
    let after = descriptors();
    if after > before + arenas() {
        eprintln!("the test left descriptors open: {before} before, {after} after");
        passed = false;
    }
    let _ = (stdout().flush(), stderr().flush());
    // SAFETY: ends the process without running what belongs to the harness.
    unsafe { libc::_exit(if passed { 0 } else { 1 }) }
}

/// The descriptors of the thread's arena, which live as long as the thread.
fn arenas() -> usize {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return 0 };
    let links = entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    links.filter(|link| link.to_string_lossy().contains("memfd:pshared")).count().min(1)
}

/// How many descriptors this process has open.
pub fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").map(|entries| entries.count()).unwrap_or(0)
}

/// The address space that this process has mapped, in bytes.
pub fn address_space() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").expect("statm");
    let pages: u64 = statm.split(' ').next().and_then(|pages| pages.parse().ok()).expect("a number of pages");
    pages * 4096
}

fn wait_within(child: Pid, limit: Duration) -> Option<WaitStatus> {
    let end = Instant::now() + limit;
    while Instant::now() < end {
        match waitpid(child, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => thread::sleep(Duration::from_millis(1)),
            Ok(status) => return Some(status),
            Err(_) => return None,
        }
    }
    None
}

/// A forked child of a test; killed and reaped when dropped.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    reaped: bool,
}

/// Forks a child that runs `body` and exits: 0, or 101 if it panicked.
pub fn fork_child(body: impl FnOnce()) -> Child {
    let _ = stdout().flush();
    // SAFETY: tests fork while they have one thread, or run nothing in the child that another thread could hold.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Parent { child } => Child { pid: child, reaped: false },
        ForkResult::Child => {
            let passed = catch_unwind(AssertUnwindSafe(body)).is_ok();
            let _ = stdout().flush();
            // SAFETY: ends the child without running what belongs to the parent.
            unsafe { libc::_exit(if passed { 0 } else { 101 }) }
        }
    }
}

impl Child {
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits for its end, and says whether it went well.
    pub fn join(mut self) -> WaitStatus {
        self.reaped = true;
        waitpid(self.pid, None).expect("waitpid")
    }

    /// Waits for its end, which must be a clean one.
    pub fn join_ok(self) {
        let status = self.join();
        assert!(matches!(status, WaitStatus::Exited(_, 0)), "the child ended with {status:?}");
    }

    /// SIGKILL, and wait.
    pub fn kill(mut self) {
        self.kill_now();
    }

    /// The same, for a child that is about to be replaced.
    pub fn kill_now(&mut self) {
        kill(self.pid, Signal::SIGKILL).expect("kill");
        self.reaped = true;
        let status = waitpid(self.pid, None).expect("waitpid");
        assert!(matches!(status, WaitStatus::Signaled(_, Signal::SIGKILL, _)), "{status:?}");
    }

    /// Whether it has ended and can be joined at once.
    pub fn has_ended(&self) -> bool {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        waitid(Id::Pid(self.pid), flags).is_ok_and(|status| status != WaitStatus::StillAlive)
    }

    /// Waits until the child sleeps in a futex call.
    pub fn until_asleep(&self) {
        until(|| is_asleep_in_futex(self.pid));
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.reaped {
            let _ = kill(self.pid, Signal::SIGKILL);
            let _ = waitpid(self.pid, None);
        }
    }
}

/// Whether the process sleeps in futex, futex_waitv or futex_wait.
pub fn is_asleep_in_futex(pid: Pid) -> bool {
    let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    let number: Option<i64> = call.split_ascii_whitespace().next().and_then(|n| n.parse().ok());
    let asleep = number.is_some_and(|n| n == libc::SYS_futex || n == libc::SYS_futex_waitv);
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    asleep && stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('S'))
}

/// Looks again and again until `condition` holds; the harness ends a test that looks for too long.
pub fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        thread::sleep(Duration::from_micros(200));
    }
}
