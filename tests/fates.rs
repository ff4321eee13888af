//! How a child ended, told apart by its status, by the error of its join, and by what these print.
//!
//! | end                                  | status                  | join                    |
//! |--------------------------------------|-------------------------|-------------------------|
//! | a value                              | exited with 0           | the value               |
//! | a panic                              | exited with 101         | `Panicked`, and where   |
//! | `exit`                               | its code, without value | `NoValue`               |
//! | each signal that ends a process      | killed by it            | `NoValue`               |
//! | `abort`, an allocation that failed   | killed by SIGABRT       | `NoValue`               |
//! | a stack overflow                     | killed by SIGABRT: Rust's own handler aborts. Where that is not there, SIGSEGV | `NoValue` |
//! | the kernel's out-of-memory kill      | killed by SIGKILL; who sent it the kernel does not tell a parent | `NoValue` |

mod support;

use std::{fs, io::Write, path::PathBuf, process::ExitCode, thread, time::Duration};

use nix::libc;
use pshared::{ExitStatus, JoinError, Limit, Process};
use support::forbid;

fn main() -> ExitCode {
    let tests = support::tests![
        ends_are_told_apart,
        exit_codes_are_told,
        signals_are_told_apart,
        every_signal_is_told_by_its_name,
        an_allocation_that_fails_is_an_abort,
        a_system_call_that_is_forbidden_is_told,
        the_kernels_kill_for_want_of_memory_is_told,
    ];
    support::main_where(tests, &[("the_kernels_kill_for_want_of_memory_is_told", needs_a_memory_group)])
}

fn spawn<T: serde::Serialize + serde::de::DeserializeOwned>(closure: impl FnOnce() -> T) -> Process<T> {
    Process::spawn(closure).unwrap()
}

fn sleep_for_ever() {
    loop {
        thread::sleep(Duration::from_secs(60));
    }
}

/// Who ends without a value, and by a dump of no core.
fn fate(closure: impl FnOnce()) -> (ExitStatus, JoinError) {
    let child = Process::builder().limit(Limit::Core, 0).spawn(closure).unwrap();
    let status = child.wait().unwrap();
    let error = child.join().unwrap_err();
    assert_eq!(error.status(), Some(status));
    (status, error)
}

#[expect(unconditional_recursion)]
fn deeper(depth: &[u8; 1024]) -> u8 {
    let next = std::hint::black_box([depth[0].wrapping_add(1); 1024]);
    deeper(&next) ^ std::hint::black_box(next)[7]
}

fn ends_are_told_apart() {
    let (status, error) = fate(|| panic!("no luck"));
    assert_eq!(status.to_string(), "exited with 101");
    let text = error.to_string();
    assert!(
        text.starts_with("the process panicked at tests/fates.rs:") && text.ends_with(": no luck"),
        "{text}"
    );
    let (status, error) = fate(|| std::process::exit(101));
    assert_eq!(status.code(), Some(101));
    assert_eq!(error.to_string(), "the process left no value: exited with 101", "it is no panic");
    let (status, error) = fate(|| std::process::abort());
    assert_eq!((status.signal(), status.core_dumped()), (Some(libc::SIGABRT), false));
    assert_eq!(error.to_string(), "the process left no value: killed by SIGABRT");
    let (status, error) = fate(|| _ = deeper(&[0; 1024]));
    assert_eq!(status.signal(), Some(libc::SIGABRT), "{error}");
    // Without Rust's handler it is the kernel's own word.
    let (status, error) = fate(|| {
        // SAFETY: no handler.
        unsafe { libc::signal(libc::SIGSEGV, libc::SIG_DFL) };
        deeper(&[0; 1024]);
    });
    assert_eq!(status.signal(), Some(libc::SIGSEGV));
    assert_eq!(error.to_string(), "the process left no value: killed by SIGSEGV");
    assert_eq!(spawn(|| 1).wait().unwrap().to_string(), "exited with 0");
}

fn exit_codes_are_told() {
    for code in (0..=255).chain([256, 300, -1]) {
        let child: Process<()> = spawn(|| std::process::exit(code));
        match child.join() {
            Err(JoinError::NoValue { status }) => {
                assert_eq!((status.code(), status.signal()), (Some(code & 0xff), None));
                assert_eq!(status.success(), code & 0xff == 0);
                assert_eq!(status.as_python(), Some(code & 0xff));
            }
            other => panic!("{other:?}"),
        }
    }
}

fn signals_are_told_apart() {
    for number in [libc::SIGTERM, libc::SIGKILL, libc::SIGINT, libc::SIGUSR1, libc::SIGRTMIN() + 1] {
        let child = spawn(sleep_for_ever);
        assert!(child.signal(number).unwrap());
        let status = child.wait().unwrap();
        assert_eq!((status.signal(), status.code()), (Some(number), None));
        assert_eq!(status.as_python(), Some(-number));
        assert!(!status.success() && !status.is_unknown());
    }
}

fn every_signal_is_told_by_its_name() {
    const NAMES: [(i32, &str); 27] = [
        (libc::SIGHUP, "SIGHUP"),
        (libc::SIGINT, "SIGINT"),
        (libc::SIGQUIT, "SIGQUIT"),
        (libc::SIGILL, "SIGILL"),
        (libc::SIGTRAP, "SIGTRAP"),
        (libc::SIGABRT, "SIGABRT"),
        (libc::SIGBUS, "SIGBUS"),
        (libc::SIGFPE, "SIGFPE"),
        (libc::SIGKILL, "SIGKILL"),
        (libc::SIGUSR1, "SIGUSR1"),
        (libc::SIGSEGV, "SIGSEGV"),
        (libc::SIGUSR2, "SIGUSR2"),
        (libc::SIGPIPE, "SIGPIPE"),
        (libc::SIGALRM, "SIGALRM"),
        (libc::SIGTERM, "SIGTERM"),
        (libc::SIGSTKFLT, "SIGSTKFLT"),
        (libc::SIGXCPU, "SIGXCPU"),
        (libc::SIGXFSZ, "SIGXFSZ"),
        (libc::SIGVTALRM, "SIGVTALRM"),
        (libc::SIGPROF, "SIGPROF"),
        (libc::SIGIO, "SIGIO"),
        (libc::SIGPWR, "SIGPWR"),
        (libc::SIGSYS, "SIGSYS"),
        (34, "signal 34"),
        (35, "signal 35"),
        (63, "signal 63"),
        (64, "signal 64"),
    ];
    for (number, name) in NAMES {
        let (status, error) = fate(|| {
            // SAFETY: plain numbers; what Rust does about a signal is not asked for.
            unsafe {
                libc::signal(number, libc::SIG_DFL);
                libc::kill(libc::getpid(), number);
            }
            sleep_for_ever();
        });
        assert_eq!((status.signal(), status.core_dumped()), (Some(number), false));
        assert_eq!(status.to_string(), format!("killed by {name}"));
        assert_eq!(error.to_string(), format!("the process left no value: killed by {name}"));
    }
}

fn an_allocation_that_fails_is_an_abort() {
    let child = Process::builder().limit(Limit::AddressSpace, 256 << 20).limit(Limit::Core, 0);
    let child = child.spawn(|| vec![1_u8; 1 << 30].len()).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(libc::SIGABRT), "{status}");
}

fn a_system_call_that_is_forbidden_is_told() {
    let (status, _) = fate(|| {
        forbid(&[libc::SYS_getppid], libc::SECCOMP_RET_KILL_PROCESS);
        // SAFETY: no arguments.
        unsafe { libc::getppid() };
    });
    assert_eq!(status.to_string(), "killed by SIGSYS");
}

/// A memory cgroup of our own, below that of this process; removed when dropped.
struct MemoryGroup(PathBuf);

impl MemoryGroup {
    /// By the first version of cgroups or the second, whichever lets us.
    fn new(limit: u64) -> Result<MemoryGroup, String> {
        let groups = fs::read_to_string("/proc/self/cgroup").map_err(|error| error.to_string())?;
        let mut reasons = String::new();
        for line in groups.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(kinds), Some(own)) = (fields.next(), fields.next()) else { continue };
            let (root, file) = match kinds {
                "" => ("/sys/fs/cgroup", "memory.max"),
                kinds if kinds.split(',').any(|kind| kind == "memory") => {
                    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
                }
                _ => continue,
            };
            let group = PathBuf::from(format!("{root}{own}/pshared-test-{}", std::process::id()));
            let made = fs::create_dir(&group).map(|()| MemoryGroup(group.clone()));
            match made.and_then(|made| fs::write(group.join(file), limit.to_string()).map(|()| made)) {
                Ok(made) => return Ok(made),
                Err(error) => reasons += &format!("{}: {error}; ", group.display()),
            }
        }
        Err(format!("needs leave to make a memory cgroup: {reasons}"))
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // It is empty a moment after its last process was reaped.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn needs_a_memory_group() -> Result<(), String> {
    MemoryGroup::new(64 << 20).map(drop)
}

fn the_kernels_kill_for_want_of_memory_is_told() {
    let group = MemoryGroup::new(24 << 20).unwrap();
    let enter = group.0.join("cgroup.procs");
    for by_handle in [false, true] {
        let child = Process::builder().limit(Limit::Core, 0).spawn(|| {
            let mut file = fs::File::options().write(true).open(&enter).unwrap();
            file.write_all(std::process::id().to_string().as_bytes()).unwrap();
            let mut eaten = Vec::new();
            loop {
                eaten.push(vec![1_u8; 1 << 20]);
            }
        });
        let child: Process<()> = child.unwrap();
        if by_handle {
            support::until(|| !child.is_alive());
        }
        let status = child.wait().unwrap();
        assert_eq!(status.to_string(), "killed by SIGKILL");
        assert!(
            matches!(child.join(), Err(JoinError::NoValue { status }) if status.signal() == Some(libc::SIGKILL))
        );
    }
    // Whoever is left goes on.
    assert_eq!(spawn(|| 5).join().unwrap(), 5);
}
