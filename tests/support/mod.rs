//! A harness for tests that fork: the parent has one thread, and every test runs in a process of its own.
//!
//! A test that hangs is killed with all it started and reported; one that leaves children, zombies or descriptors
//! behind fails. One that needs what this machine does not grant is not run, and said to be skipped. Test names are
//! sentences about behaviour.

#![allow(dead_code, unused_imports, unused_macros, reason = "each test file uses a part")]

pub mod lives;
pub mod locks;
pub mod page;
pub mod random;
pub mod worn;

use std::{
    fs,
    io::{Write, stderr, stdout},
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use libtest_mimic::{Arguments, Failed, Trial};
use nix::{
    errno::Errno,
    libc,
    sched::{CloneFlags, unshare},
    sys::{
        signal::{SigHandler, Signal, kill, killpg, signal},
        wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid},
    },
    unistd::{ForkResult, Pid, fork, setpgid},
};
use pshared::Region;

/// A test that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(120);

/// Lists test functions under their own names.
macro_rules! tests {
    ($($name:ident),* $(,)?) => { vec![$((stringify!($name), $name as fn())),*] };
}
pub(crate) use tests;

/// Says why a test cannot be run here, if so.
pub type Need = fn() -> Result<(), String>;

/// Runs the tests as `cargo test` expects it, one after the other.
pub fn main(tests: Vec<(&'static str, fn())>) -> ExitCode {
    main_where(tests, &[])
}

/// The same, where some tests need what not every machine grants: without it they count as ignored, and it is said why.
pub fn main_where(tests: Vec<(&'static str, fn())>, needs: &[(&'static str, Need)]) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    // Whoever started us may ignore them: then nobody could be waited for, and nobody interrupted.
    for signaled in [Signal::SIGCHLD, Signal::SIGINT] {
        // SAFETY: no handler.
        unsafe { signal(signaled, SigHandler::SigDfl) }.expect("the usual way");
    }
    for (name, _) in needs {
        assert!(tests.iter().any(|(test, _)| test == name), "{name} is no test");
    }
    let trial = |(name, test): (&'static str, fn())| {
        let needs = needs.iter().filter(|(needy, _)| *needy == name);
        let unmet: Vec<String> = needs.filter_map(|(_, need)| need().err()).collect();
        let trial = Trial::test(name, move || in_own_process(test)).with_ignored_flag(!unmet.is_empty());
        if unmet.is_empty() || arguments.list {
            return trial;
        }
        eprintln!("SKIPPED {name}: {}", unmet.join(", "));
        trial.with_kind("skipped")
    };
    let trials = tests.into_iter().map(trial).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// For tests in which somebody becomes another user.
pub fn needs_root() -> Result<(), String> {
    if user() == 0 { Ok(()) } else { Err("needs root".to_string()) }
}

/// The user that this process has the rights of.
pub fn user() -> u32 {
    // SAFETY: no arguments.
    unsafe { libc::geteuid() }
}

/// For tests whose children get process numbers of their own.
pub fn needs_pid_namespaces() -> Result<(), String> {
    tried("needs leave to make a pid namespace", || unshare_pids().is_ok())
}

/// For tests that choose the next process number of such a namespace.
pub fn needs_chosen_pids() -> Result<(), String> {
    tried("needs leave to write ns_last_pid in a pid namespace", || {
        // Number 1 must live for others to be started.
        let number_one = || choose_next_pid(300).is_ok() && fork_child(|| ()).pid().as_raw() == 300;
        unshare_pids().is_ok() && succeeds(number_one)
    })
}

/// From now on, in this thread and its children, these system calls end in `action`.
pub fn forbid(calls: &[libc::c_long], action: u32) {
    let filter = filter(calls, action);
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: a complete program that outlives the calls, for this thread alone.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program), 0);
    }
}

/// The same, but each of these calls of this thread is told to whoever has the descriptor, and waits for an answer.
pub fn ask_before(calls: &[libc::c_long]) -> OwnedFd {
    let filter = filter(calls, libc::SECCOMP_RET_USER_NOTIF);
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: as for `forbid`; the descriptor is new and nobody else's.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let (set, listen) = (libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER);
        let listener = libc::syscall(libc::SYS_seccomp, set, listen, &raw const program);
        assert!(listener >= 0, "seccomp: {}", std::io::Error::last_os_error());
        OwnedFd::from_raw_fd(listener as i32)
    }
}

/// Answers the next question of [`ask_before`]: the call goes on, or ends with that error.
pub fn answer(listener: &OwnedFd, error: Option<i32>) {
    const RECEIVE: u32 = 3 << 30 | (size_of::<libc::seccomp_notif>() as u32) << 16 | 0x21 << 8;
    const SEND: u32 = 3 << 30 | (size_of::<libc::seccomp_notif_resp>() as u32) << 16 | 0x21 << 8 | 1;
    // SAFETY: all-zero structs are valid ones; they are ours to write to and of the sizes that the numbers name.
    unsafe {
        let mut question: libc::seccomp_notif = std::mem::zeroed();
        let asked = libc::ioctl(listener.as_raw_fd(), RECEIVE as libc::Ioctl, &raw mut question);
        assert_eq!(asked, 0, "{}", std::io::Error::last_os_error());
        let mut said: libc::seccomp_notif_resp = std::mem::zeroed();
        said.id = question.id;
        match error {
            Some(error) => said.error = -error,
            None => said.flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
        }
        assert_eq!(libc::ioctl(listener.as_raw_fd(), SEND as libc::Ioctl, &raw mut said), 0);
    }
}

/// A program for seccomp(2): these calls end in `action`, and no others.
fn filter(calls: &[libc::c_long], action: u32) -> Vec<libc::sock_filter> {
    let op = |code: u32, jt: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf: 0, k };
    let mut filter = vec![op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0)];
    for (i, &call) in calls.iter().enumerate() {
        filter.push(op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, (calls.len() - i) as u8, call as u32));
    }
    filter.push(op(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW));
    filter.push(op(libc::BPF_RET | libc::BPF_K, 0, action));
    filter
}

fn tried(need: &str, attempt: impl FnOnce() -> bool) -> Result<(), String> {
    if succeeds(attempt) { Ok(()) } else { Err(need.to_string()) }
}

/// Whether `attempt` comes out well, in a child.
fn succeeds(attempt: impl FnOnce() -> bool) -> bool {
    // SAFETY: leaves without running what belongs to the parent.
    let child = fork_child(|| unsafe { libc::_exit(if attempt() { 0 } else { 1 }) });
    matches!(child.join(), WaitStatus::Exited(_, 0))
}

/// Children of this process, from the next on, have numbers of their own: 1, 2 and so on.
pub fn unshare_pids() -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWPID)
}

/// The next process of this namespace gets the number `pid`, if that is free.
pub fn choose_next_pid(pid: i32) -> std::io::Result<()> {
    fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string())
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
    let ended = ends_within(child, LIMIT);
    let left_behind = rest_of_group(child);
    if !ended {
        eprintln!("hanging: {}", describe(child));
    }
    left_behind.iter().for_each(|&pid| eprintln!("still there: {}", describe(pid)));
    // As long as the leader is not reaped, its number stands for this group and no other.
    killpg(child, Signal::SIGKILL)?;
    match waitpid(child, None)? {
        _ if !ended => Err(format!("hung for {LIMIT:?}").into()),
        WaitStatus::Exited(_, 0) if !left_behind.is_empty() => Err("left processes behind".into()),
        WaitStatus::Exited(_, 0) => Ok(()),
        status => Err(format!("{status:?}").into()),
    }
}

/// The fields of a process's `stat` from its state on, if there is such a process.
fn stat(pid: Pid) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit(')').next()?.split_ascii_whitespace().map(str::to_owned).collect())
}

/// Who runs in the leader's group beside it.
fn rest_of_group(leader: Pid) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Pid::from_raw));
    let is_member = |pid: &Pid| {
        let Some(stat) = stat(*pid) else { return false };
        stat[2] == leader.to_string() && !["Z", "X"].contains(&stat[0].as_str())
    };
    pids.filter(|&pid| pid != leader).filter(is_member).collect()
}

/// What the process is doing.
fn describe(pid: Pid) -> String {
    let state = stat(pid).map_or("gone".to_string(), |stat| stat[0].clone());
    let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    format!("{pid} state {state} syscall {}", call.trim())
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

/// The descriptors that the crate keeps: the thread's arena, as long as the thread lives, and the memfd that waits for
/// the next child's value.
fn arenas() -> usize {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return 0 };
    let links: Vec<_> = entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok()).collect();
    let kept = ["/memfd:pshared (deleted)", "/memfd:pshared-result (deleted)"];
    kept.into_iter().filter(|name| links.iter().any(|link| link.as_os_str() == *name)).count()
}

/// How many descriptors this process has open.
pub fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").map(|entries| entries.count()).unwrap_or(0)
}

/// The descriptor behind the only region of this process, which gives it to nobody.
pub fn the_memfd(_region: &Region) -> BorrowedFd<'_> {
    let entries = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let is_ours = |entry: &fs::DirEntry| {
        fs::read_link(entry.path()).is_ok_and(|link| link.to_string_lossy().contains("memfd:pshared"))
    };
    let found: Vec<i32> =
        entries.filter(is_ours).map(|entry| entry.file_name().to_str().unwrap().parse().unwrap()).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    // SAFETY: the region holds it open.
    unsafe { BorrowedFd::borrow_raw(found[0]) }
}

/// The address space that this process has mapped, in bytes.
pub fn address_space() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").expect("statm");
    let pages: u64 = statm.split(' ').next().and_then(|pages| pages.parse().ok()).expect("a number of pages");
    pages * 4096
}

/// Waits until the child has ended, and leaves it to be reaped.
fn ends_within(child: Pid, limit: Duration) -> bool {
    let end = Instant::now() + limit;
    while !has_ended(child) && Instant::now() < end {
        thread::sleep(Duration::from_millis(1));
    }
    has_ended(child)
}

fn has_ended(child: Pid) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    waitid(Id::Pid(child), flags).is_ok_and(|status| status != WaitStatus::StillAlive)
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
        has_ended(self.pid)
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

/// Whether the process sleeps, in whatever call.
pub fn is_asleep(pid: Pid) -> bool {
    stat(pid).is_some_and(|stat| stat[0] == "S")
}

/// Looks again and again until `condition` holds; the harness ends a test that looks for too long.
pub fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        thread::sleep(Duration::from_micros(200));
    }
}
