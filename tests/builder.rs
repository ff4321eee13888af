//! What a `Builder` makes of a child, and what a handle then tells about it.

mod support;

use std::{
    env, fs,
    io::{self, Read, Write},
    os::fd::AsRawFd,
    process::ExitCode,
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    libc,
    sys::{
        resource::{Resource, getrlimit},
        signal::{SigSet, SigmaskHow, Signal, sigprocmask},
        wait::waitpid,
    },
    unistd::{Pid, getpgid, getpgrp, getsid},
};
use pshared::{Builder, Limit, OnDrop, Process, SpawnError, Stream, active_children, current_process};

fn main() -> ExitCode {
    let tests = support::tests![
        names_go_by_ancestry,
        a_foreign_fork_has_its_originals_name_and_no_children,
        a_daemon_passes_it_on,
        the_environment_is_the_childs_alone,
        a_variable_that_cannot_be_is_refused,
        the_working_directory_is_the_childs_alone,
        streams_go_where_they_are_told,
        streams_that_lie_on_each_other_are_kept_apart,
        a_signal_mask_is_set_and_else_inherited,
        a_signal_that_came_before_the_child_was_ready_is_not_lost,
        groups_and_sessions_are_new,
        limits_hold,
        affinity_and_niceness_hold,
        a_child_becomes_another_user_and_leaves_its_groups,
        who_is_not_root_cannot_become_root,
        a_refused_setting_is_told_and_leaves_nothing,
        a_child_killed_before_it_was_ready_is_a_child_that_was_killed,
        many_settings_at_once_hold,
        a_dropped_handle_does_as_it_was_told,
        a_daemons_drop_terminates_unless_told,
        builders_leave_no_descriptors,
    ];
    support::main_where(tests, &[("a_child_becomes_another_user_and_leaves_its_groups", support::needs_root)])
}

fn sleep_for_ever() {
    loop {
        thread::sleep(Duration::from_secs(60));
    }
}

fn is_there(pid: u32) -> bool {
    fs::exists(format!("/proc/{pid}")).unwrap()
}

// CPython: ProcessTestX.test_current, test_parent_process, test_daemon_argument.

fn names_go_by_ancestry() {
    assert_eq!((current_process().name(), current_process().pid()), ("MainProcess", std::process::id()));
    let name = || current_process().name().to_owned();
    let first = Process::spawn(name).unwrap();
    assert_eq!(first.name(), "Process-1");
    assert_eq!(first.join().unwrap(), "Process-1");
    let second = Process::builder().name("given").spawn(|| {
        let inner = Process::spawn(name).unwrap();
        let inner = (inner.name().to_owned(), inner.join().unwrap());
        (name(), inner, Process::spawn(name).unwrap().join().unwrap())
    });
    let second = second.unwrap();
    assert_eq!(second.name(), "given");
    let inner = "Process-2:1".to_owned();
    assert_eq!(second.join().unwrap(), ("given".into(), (inner.clone(), inner), "Process-2:2".into()));
    assert_eq!(Process::spawn(name).unwrap().join().unwrap(), "Process-3");
    let child = Process::spawn(|| format!("{:?}", current_process())).unwrap();
    assert!(child.join().unwrap().starts_with("CurrentProcess { name: \"Process-4\", pid: "));
}

fn a_foreign_fork_has_its_originals_name_and_no_children() {
    let child = Process::builder().name("original").spawn(|| {
        let sleeper = Process::spawn(sleep_for_ever).unwrap();
        let original = std::process::id();
        support::fork_child(|| {
            assert_eq!(current_process().name(), "original");
            assert_ne!(current_process().pid(), original);
            let parent = pshared::parent_process().unwrap().unwrap();
            assert_eq!((parent.pid(), parent.name()), (original, "original"));
            assert!(active_children().is_empty());
            assert_eq!(Process::spawn(|| 1).unwrap().join().unwrap(), 1);
        })
        .join_ok();
        assert_eq!(active_children().len(), 1);
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
    });
    child.unwrap().join().unwrap();
}

fn a_daemon_passes_it_on() {
    let is_daemon = || current_process().is_daemon();
    assert!(!is_daemon() && !Process::spawn(is_daemon).unwrap().join().unwrap());
    let daemon = Process::builder().daemon(true).spawn(|| {
        let inherited = Process::spawn(is_daemon).unwrap().join().unwrap();
        let refused = Process::builder().daemon(false).spawn(is_daemon).unwrap().join().unwrap();
        (is_daemon(), inherited, refused)
    });
    assert_eq!(daemon.unwrap().join().unwrap(), (true, true, false));
}

fn the_environment_is_the_childs_alone() {
    let kept = env::var("PATH").unwrap();
    let look = || ["PSHARED_A", "PSHARED_B", "PATH"].map(|key| env::var(key).ok());
    let child = Process::builder().env("PSHARED_A", "1").env("PSHARED_B", "x=y").env_remove("PATH");
    assert_eq!(child.spawn(look).unwrap().join().unwrap(), [Some("1".into()), Some("x=y".into()), None]);
    assert_eq!(look(), [None, None, Some(kept)]);
    let child = Process::builder().env("PSHARED_A", "lost").env_clear().env("PSHARED_B", "2");
    let all = child.spawn(|| env::vars().collect::<Vec<_>>()).unwrap().join().unwrap();
    assert_eq!(all, [("PSHARED_B".to_owned(), "2".to_owned())]);
    // The child may change it, and its own children have what it has.
    let child = Process::builder().env("PSHARED_A", "1").spawn(|| {
        // SAFETY: one thread.
        unsafe { env::set_var("PSHARED_B", "set in the child") };
        Process::spawn(look).unwrap().join().unwrap()
    });
    assert_eq!(child.unwrap().join().unwrap()[..2], [Some("1".into()), Some("set in the child".into())]);
}

fn a_variable_that_cannot_be_is_refused() {
    let bad: [fn(Builder) -> Builder; 3] =
        [|b| b.env("", "x"), |b| b.env("A=B", "x"), |b| b.env("A", "x\0y")];
    for make in bad {
        let refused = make(Process::builder()).spawn(|| ()).unwrap_err();
        assert!(matches!(&refused, SpawnError::Setting { what: "environment", .. }), "{refused:?}");
    }
}

fn the_working_directory_is_the_childs_alone() {
    let here = env::current_dir().unwrap();
    let child = Process::builder().current_dir("/proc").spawn(|| env::current_dir().unwrap());
    assert_eq!(child.unwrap().join().unwrap().to_str(), Some("/proc"));
    assert_eq!(env::current_dir().unwrap(), here);
}

fn streams_go_where_they_are_told() {
    let (reader, mut writer) = io::pipe().unwrap();
    let (mut out, into_out) = io::pipe().unwrap();
    let (mut err, into_err) = io::pipe().unwrap();
    let child = Process::builder().stdin(reader).stdout(into_out).stderr(into_err).spawn(|| {
        let mut text = String::new();
        io::stdin().read_line(&mut text).unwrap();
        print!("out: {text}");
        eprint!("err: {text}");
        // Of each file there is one descriptor in the child.
        let link = |fd: i32| fs::read_link(format!("/proc/self/fd/{fd}")).ok();
        let ours = [0, 1, 2].map(|fd| link(fd).unwrap());
        (3..64).filter(|&fd| link(fd).is_some_and(|file| ours.contains(&file))).count()
    });
    let child = child.unwrap();
    writer.write_all(b"some text\n").unwrap();
    drop(writer);
    // The parent's copies are closed: the pipes end with the child.
    let mut told = [String::new(), String::new()];
    out.read_to_string(&mut told[0]).unwrap();
    err.read_to_string(&mut told[1]).unwrap();
    assert_eq!(told, ["out: some text\n", "err: some text\n"]);
    // The other ends, which this test holds in variables, are the child's by inheritance.
    assert!(child.join().unwrap() <= 3);

    let silent = Process::builder().stdin(Stream::Null).stdout(Stream::Null).stderr(Stream::Null);
    let silent = silent.spawn(|| {
        println!("nobody hears this");
        eprintln!("nor that");
        [0, 1, 2].map(|fd| fs::read_link(format!("/proc/self/fd/{fd}")).unwrap())
    });
    assert!(silent.unwrap().join().unwrap().iter().all(|file| file.to_str() == Some("/dev/null")));

    support::fork_child(|| {
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"inherited").unwrap();
        drop(writer);
        nix::unistd::dup2_stdin(&reader).unwrap();
        let child =
            Process::builder().stdin(Stream::Inherit).spawn(|| io::read_to_string(io::stdin()).unwrap());
        assert_eq!(child.unwrap().join().unwrap(), "inherited");
    })
    .join_ok();
}

fn streams_that_lie_on_each_other_are_kept_apart() {
    support::fork_child(|| {
        // What is to be the child's output has the number of its input, and the other way round.
        let (mut read_a, write_a) = io::pipe().unwrap();
        let (read_b, mut write_b) = io::pipe().unwrap();
        // SAFETY: this process's own streams are not used again.
        unsafe {
            assert_eq!(libc::dup2(write_a.as_raw_fd(), 0), 0);
            assert_eq!(libc::dup2(read_b.as_raw_fd(), 1), 1);
        }
        drop((write_a, read_b));
        // SAFETY: the descriptors are open, and belong to nobody else.
        let owned = |fd| unsafe { <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd) };
        write_b.write_all(b"crossed").unwrap();
        drop(write_b);
        let child = Process::builder().stdin(owned(1)).stdout(owned(0)).spawn(|| {
            print!("{}", io::read_to_string(io::stdin()).unwrap());
        });
        child.unwrap().join().unwrap();
        let mut told = String::new();
        read_a.read_to_string(&mut told).unwrap();
        assert_eq!(told, "crossed");
    })
    .join_ok();
}

fn blocked() -> Vec<i32> {
    let mut mask = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_SETMASK, None, Some(&mut mask)).unwrap();
    mask.iter().map(|signal| signal as i32).collect()
}

fn a_signal_mask_is_set_and_else_inherited() {
    let child = Process::builder().signal_mask(&[libc::SIGUSR1, libc::SIGINT]).spawn(blocked).unwrap();
    assert_eq!(child.join().unwrap(), [libc::SIGINT, libc::SIGUSR1]);
    assert_eq!(blocked(), []);
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGUSR2);
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&mask), None).unwrap();
    assert_eq!(Process::spawn(blocked).unwrap().join().unwrap(), [libc::SIGUSR2]);
    assert_eq!(Process::builder().signal_mask(&[]).spawn(blocked).unwrap().join().unwrap(), []);
    assert_eq!(blocked(), [libc::SIGUSR2]);
    let refused = Process::builder().signal_mask(&[9_999]).spawn(|| ()).unwrap_err();
    assert_eq!(refused.to_string(), "cannot start a process: its signal mask cannot be set");
    // Shielded from Ctrl-C, and interrupted without a shield.
    let shielded = Process::builder().signal_mask(&[libc::SIGINT]).spawn(sleep_for_ever).unwrap();
    assert!(shielded.interrupt().unwrap());
    assert_eq!(shielded.wait_timeout(Duration::from_millis(20)).unwrap(), None);
    shielded.kill().unwrap();
    assert_eq!(shielded.wait().unwrap().signal(), Some(libc::SIGKILL));
    let open = Process::spawn(sleep_for_ever).unwrap();
    assert!(open.interrupt().unwrap());
    assert_eq!(open.wait().unwrap().to_string(), "killed by SIGINT");
    assert!(!open.interrupt().unwrap());
}

fn a_signal_that_came_before_the_child_was_ready_is_not_lost() {
    for _ in 0..100 {
        let child = Process::spawn(sleep_for_ever).unwrap();
        assert!(child.terminate().unwrap()); // the child has hardly begun
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGTERM));
    }
}

fn groups_and_sessions_are_new() {
    let look = || (getpgrp().as_raw(), getsid(None).unwrap().as_raw(), std::process::id() as i32);
    let (group, session, _) = look();
    let (its_group, its_session, pid) =
        Process::builder().process_group(0).spawn(look).unwrap().join().unwrap();
    assert_eq!((its_group, its_session), (pid, session));
    let (its_group, its_session, pid) = Process::builder().session().spawn(look).unwrap().join().unwrap();
    assert_eq!((its_group, its_session), (pid, pid));
    // The parent sees it done when the start returns.
    let leader = Process::builder().process_group(0).spawn(sleep_for_ever).unwrap();
    let number = Pid::from_raw(leader.pid() as i32);
    assert_eq!(getpgid(Some(number)), Ok(number));
    let member = Process::builder().process_group(leader.pid() as i32).spawn(look).unwrap();
    assert_eq!(member.join().unwrap().0, leader.pid() as i32);
    leader.kill().unwrap();
    leader.wait().unwrap();
    assert_eq!(getpgrp().as_raw(), group);
}

fn limits_hold() {
    let before = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let child = Process::builder()
        .limit(Limit::Core, 0)
        .limit(Limit::OpenFiles, 77)
        .spawn(|| (getrlimit(Resource::RLIMIT_CORE).unwrap(), getrlimit(Resource::RLIMIT_NOFILE).unwrap()));
    assert_eq!(child.unwrap().join().unwrap(), ((0, 0), (77, 77)));
    assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), before);
    let busy = Process::builder().limit(Limit::CpuTime, 1).limit(Limit::Core, 0).spawn(|| {
        let mut n = 0_u64;
        loop {
            n = std::hint::black_box(n + 1);
        }
    });
    let busy: Process<()> = busy.unwrap();
    let status = busy.wait().unwrap();
    assert!(matches!(status.signal(), Some(libc::SIGXCPU | libc::SIGKILL)), "{status}");
    assert!(!status.core_dumped());
    // The limit goes by the clock's ticks, the account by what was really used, which may be less.
    assert!(busy.usage().unwrap().cpu_time() >= Duration::from_millis(100), "{:?}", busy.usage());
}

fn affinity_and_niceness_hold() {
    let allowed = || {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:\t")).unwrap().to_owned()
    };
    let cpu: usize = allowed().split([',', '-']).next().unwrap().parse().unwrap();
    let child = Process::builder().affinity(&[cpu]).nice(3).spawn(|| {
        // SAFETY: plain numbers.
        (allowed(), unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) })
    });
    // SAFETY: plain numbers.
    let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    assert_eq!(child.unwrap().join().unwrap(), (cpu.to_string(), (nice + 3).min(19)));
    for cpus in [&[][..], &[1023], &[100_000]] {
        let refused = Process::builder().affinity(cpus).spawn(|| ()).unwrap_err();
        assert!(matches!(refused, SpawnError::Setting { what: "affinity", .. }), "{refused:?}");
    }
}

fn a_child_becomes_another_user_and_leaves_its_groups() {
    let look = || {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = |key: &str| {
            let found = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            found.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
        };
        [line("Uid:"), line("Gid:"), line("Groups:")]
    };
    let child = Process::builder().uid(1234).gid(2345).spawn(look).unwrap();
    assert_eq!(child.join().unwrap(), ["1234 1234 1234 1234", "2345 2345 2345 2345", ""]);
    let child = Process::builder().uid(1234).spawn(look).unwrap();
    assert_eq!(child.join().unwrap(), ["1234 1234 1234 1234", "0 0 0 0", ""]);
}

fn who_is_not_root_cannot_become_root() {
    support::fork_child(|| {
        // SAFETY: a plain number; who is not root stays who he is.
        unsafe { libc::setuid(1234) };
        assert_ne!(support::user(), 0);
        let refused = Process::builder().uid(0).spawn(|| ()).unwrap_err();
        assert!(matches!(refused, SpawnError::Setting { what: "user", .. }), "{refused:?}");
    })
    .join_ok();
}

fn a_refused_setting_is_told_and_leaves_nothing() {
    Process::spawn(|| ()).unwrap().join().unwrap();
    let before = support::descriptors();
    let (mut reader, writer) = io::pipe().unwrap();
    type Attempt = (&'static str, i32, fn(Builder) -> Builder);
    let attempts: [Attempt; 3] = [
        ("working directory", libc::ENOENT, |b| b.current_dir("/nowhere/at/all")),
        ("process group", libc::EPERM, |b| b.process_group(1)),
        ("limits", libc::EINVAL, |b| b.limit(Limit::OpenFiles, u64::MAX)),
    ];
    for (what, code, make) in attempts {
        for _ in 0..10 {
            let refused =
                make(Process::builder()).spawn(|| (&writer).write_all(b"ran").unwrap()).unwrap_err();
            match refused {
                SpawnError::Setting { what: told, source } => {
                    assert_eq!(told, what);
                    let errors = [code, libc::EPERM, libc::ESRCH];
                    assert!(errors.contains(&source.raw_os_error().unwrap()), "{what}: {source}");
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(waitpid(None, None), Err(Errno::ECHILD), "the child was reaped");
            assert!(active_children().is_empty());
        }
    }
    drop(writer);
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    drop(reader);
    assert_eq!(support::descriptors(), before);
}

fn a_child_killed_before_it_was_ready_is_a_child_that_was_killed() {
    // A limit of the CPU's time of the past: the child is killed somewhere on its way, or later.
    for _ in 0..20 {
        let child = Process::builder().limit(Limit::CpuTime, 0).limit(Limit::Core, 0).spawn(|| {
            let mut n = 0_u64;
            loop {
                n = std::hint::black_box(n + 1);
            }
        });
        let child: Process<()> = child.unwrap();
        let status = child.wait().unwrap();
        assert!(matches!(status.signal(), Some(libc::SIGXCPU | libc::SIGKILL)), "{status}");
    }
}

fn many_settings_at_once_hold() {
    let (mut out, into_out) = io::pipe().unwrap();
    let child = Process::builder()
        .name("all")
        .env("PSHARED_ALL", "1")
        .current_dir("/")
        .stdout(into_out)
        .signal_mask(&[libc::SIGHUP])
        .session()
        .limit(Limit::Core, 0)
        .nice(1)
        .on_drop(OnDrop::Join);
    let child = child.spawn(|| {
        print!("{} {}", env::var("PSHARED_ALL").unwrap(), env::current_dir().unwrap().display());
        blocked()
    });
    let child = child.unwrap();
    let pid = child.pid();
    drop(child);
    assert!(!is_there(pid), "the drop should have joined it");
    let mut told = String::new();
    out.read_to_string(&mut told).unwrap();
    assert_eq!(told, "1 /");
}

fn a_dropped_handle_does_as_it_was_told() {
    let started = |on_drop: OnDrop, until: Duration| {
        let child = Process::builder().on_drop(on_drop).spawn(move || thread::sleep(until)).unwrap();
        (child.pid(), child.child().clone())
    };
    let (pid, _child) = started(OnDrop::Kill, Duration::from_secs(60));
    assert!(!is_there(pid));
    let (pid, child) = started(OnDrop::Join, Duration::from_millis(30));
    assert!(!is_there(pid) && child.wait().unwrap().success());
    let (pid, child) = started(OnDrop::Detach, Duration::from_secs(60));
    assert!(is_there(pid) && child.is_alive());
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    // A copy of the handle in a forked process does nothing.
    let child = Process::builder().on_drop(OnDrop::Kill).spawn(sleep_for_ever).unwrap();
    let mut slot = Some(child);
    Process::spawn(|| drop(slot.take())).unwrap().join().unwrap();
    assert!(slot.as_ref().unwrap().is_alive());
}

fn a_daemons_drop_terminates_unless_told() {
    let daemon = Process::builder().daemon(true).spawn(sleep_for_ever).unwrap();
    let child = daemon.child().clone();
    drop(daemon);
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGTERM));
    let daemon = Process::builder().daemon(true).on_drop(OnDrop::Detach).spawn(sleep_for_ever).unwrap();
    let child = daemon.child().clone();
    drop(daemon);
    assert!(child.is_alive() && child.is_daemon());
    assert_eq!(child.shutdown(Duration::from_secs(30)).unwrap().signal(), Some(libc::SIGTERM));
}

fn builders_leave_no_descriptors() {
    let round = || {
        let (reader, writer) = io::pipe().unwrap();
        let child =
            Process::builder().stdin(reader).env("A", "B").spawn(|| io::stdin().read(&mut [0]).unwrap());
        (&writer).write_all(b"x").unwrap();
        assert_eq!(child.unwrap().join().unwrap(), 1);
    };
    round();
    let before = support::descriptors();
    (0..100).for_each(|_| round());
    assert_eq!(support::descriptors(), before);
}
