//! Reaping, trees, scopes: what becomes of children that somebody waits for, and of those that nobody does.

mod support;

use std::{
    fs, io,
    io::{Read, Write},
    mem,
    os::fd::AsFd,
    process::ExitCode,
    sync::mpsc,
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigHandler, Signal, kill, signal},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use pshared::{
    ExitStatus, JoinError, Lock, NotParent, Process, Reaper, ScopeError, active_children, channel, reap_now,
    scope,
};
use serde::{Serialize, de::DeserializeOwned};
use support::{lives, page::Page};

fn main() -> ExitCode {
    let tests = support::tests![
        active_children_are_those_that_run,
        a_start_reaps_what_has_ended_though_a_handle_is_held,
        reap_now_says_who_has_ended,
        a_reaper_is_readable_when_a_child_has_ended,
        reapers_see_children_that_come_and_go,
        a_forked_copy_of_a_reaper_reaps_nothing,
        a_subreaper_adopts_and_reaps_grandchildren,
        two_threads_that_wait_for_one_child_are_told_the_same,
        try_join_gives_the_handle_back_until_the_end,
        shutdown_waits_for_grace_and_then_kills,
        usage_tells_what_a_child_used,
        a_tree_is_killed_to_the_last_leaf,
        a_tree_that_grows_while_it_is_killed_is_killed_all_the_same,
        a_scope_joins_all_its_children,
        a_scope_names_the_first_that_failed,
        a_scope_whose_body_panics_joins_first,
        two_thousand_children_beside_somebody_who_reaps_everything,
        two_thousand_children_with_sigchld_ignored,
        a_copy_that_libc_does_not_know_of_is_not_the_parent,
        a_child_without_a_place_in_the_set_is_waited_for_all_the_same,
        numbers_used_again_reach_no_stranger,
        a_threads_number_used_again_is_another_thread,
    ];
    let needs: [(_, support::Need); 2] = [
        ("numbers_used_again_reach_no_stranger", support::needs_chosen_pids),
        ("a_threads_number_used_again_is_another_thread", support::needs_chosen_pids),
    ];
    support::main_where(tests, &needs)
}

fn spawn<T: Serialize + DeserializeOwned>(closure: impl FnOnce() -> T) -> Process<T> {
    Process::spawn(closure).unwrap()
}

fn sleep_for_ever() {
    loop {
        thread::sleep(Duration::from_secs(60));
    }
}

fn is_there(pid: u32) -> bool {
    fs::exists(format!("/proc/{pid}")).unwrap()
}

fn is_zombie(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().unwrap().trim_start().starts_with('Z')
}

/// Waits until the descriptor can be read.
fn readable(file: &impl AsFd, timeout: u16) -> bool {
    let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::from(timeout)).unwrap() == 1
}

// CPython: ProcessTestX.test_active_children, test_sentinel, test_terminate, test_kill, test_many_processes.

fn active_children_are_those_that_run() {
    assert!(active_children().is_empty());
    let children: Vec<Process> = (0..5).map(|_| spawn(sleep_for_ever)).collect();
    let names: Vec<String> = active_children().iter().map(|child| child.name().to_owned()).collect();
    assert_eq!(names, ["Process-1", "Process-2", "Process-3", "Process-4", "Process-5"]);
    assert_eq!(spawn(|| active_children().len()).join().unwrap(), 0, "a child's children are its own");
    for child in &children {
        assert!(active_children().iter().any(|other| other.pid() == child.pid()));
        child.terminate().unwrap();
    }
    support::until(|| active_children().is_empty());
    for child in &children {
        assert!(!is_there(child.pid()), "active_children did not reap");
        assert_eq!(child.exit_status().unwrap().unwrap().as_python(), Some(-libc::SIGTERM));
    }
}

fn a_start_reaps_what_has_ended_though_a_handle_is_held() {
    let children: Vec<Process> = (0..10).map(|n| spawn(move || std::process::exit(n))).collect();
    children.iter().for_each(|child| support::until(|| is_zombie(child.pid()) || !is_there(child.pid())));
    spawn(|| ()).join().unwrap();
    assert!(!children.iter().any(|child| is_there(child.pid())), "zombies are left");
    for (n, child) in children.iter().enumerate() {
        assert_eq!(child.wait().unwrap().code(), Some(n as i32), "the status was kept");
    }
}

fn reap_now_says_who_has_ended() {
    assert!(reap_now().is_empty());
    let sleeper = spawn(sleep_for_ever);
    let ended = spawn(|| 7);
    assert!(readable(&ended, 30_000));
    let reaped = reap_now();
    assert_eq!(reaped.iter().map(|child| child.pid()).collect::<Vec<_>>(), [ended.pid()]);
    assert!(reap_now().is_empty() && !is_there(ended.pid()));
    assert_eq!(ended.join().unwrap(), 7);
    drop(sleeper.shutdown(Duration::ZERO));
}

fn a_reaper_is_readable_when_a_child_has_ended() {
    let early = spawn(sleep_for_ever);
    let reaper = Reaper::new().unwrap();
    let late = spawn(sleep_for_ever);
    assert!(!readable(&reaper, 0) && !reaper.wait_timeout(Duration::from_millis(10)).unwrap());
    assert!(reaper.reap().unwrap().children.is_empty());
    for child in [&late, &early] {
        child.kill().unwrap();
        reaper.wait().unwrap();
        assert!(readable(&reaper, 0));
        let reaped = reaper.reap().unwrap();
        let (found, status) = &reaped.children[0];
        assert_eq!((found.pid(), status.signal()), (child.pid(), Some(libc::SIGKILL)));
        assert!(reaped.children.len() == 1 && reaped.adopted.is_empty());
        assert!(!is_there(child.pid()) && !readable(&reaper, 0));
    }
    // No handler is installed, and SIGCHLD is as it was.
    // SAFETY: the handler is put back as it is found.
    let was = unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) }.unwrap();
    assert!(matches!(was, SigHandler::SigDfl));
}

fn reapers_see_children_that_come_and_go() {
    let reapers = [Reaper::new().unwrap(), Reaper::new().unwrap()];
    spawn(|| ()).join().unwrap();
    reapers.iter().for_each(|reaper| assert_eq!(reaper.reap().unwrap().children.len(), 1));
    let before = support::descriptors();
    for _ in 0..50 {
        // Told to both, whoever reaps it: its handle, another start, a drop, or one of them.
        let joined = spawn(|| 1);
        let pid = joined.pid();
        assert_eq!(joined.join().unwrap(), 1);
        let ended = spawn(|| ());
        for reaper in &reapers {
            let mut told = Vec::new();
            while told.len() < 2 {
                assert!(reaper.wait_timeout(Duration::from_secs(30)).unwrap());
                told.extend(reaper.reap().unwrap().children.iter().map(|(child, _)| child.pid()));
            }
            assert_eq!(told, [pid, ended.pid()]);
            assert!(!readable(reaper, 0) && reaper.reap().unwrap().children.is_empty());
        }
    }
    assert_eq!(support::descriptors(), before);
    drop(reapers);
    spawn(|| ()).join().unwrap();
}

fn a_forked_copy_of_a_reaper_reaps_nothing() {
    let reaper = Reaper::new().unwrap();
    let child = spawn(sleep_for_ever);
    let refused = spawn(|| reaper.reap().unwrap_err().get_ref().is_some_and(|error| error.is::<NotParent>()));
    assert!(refused.join().unwrap());
    drop(child.shutdown(Duration::ZERO));
    // The copy took none of the two away.
    let told: Vec<u32> = reaper.reap().unwrap().children.iter().map(|(child, _)| child.pid()).collect();
    assert!(told.contains(&child.pid()) && told.len() == 2 && !readable(&reaper, 0), "{told:?}");
}

fn a_subreaper_adopts_and_reaps_grandchildren() {
    let reaper = Reaper::subreaper().unwrap();
    let page = Page::new();
    let child = spawn(|| {
        let outlives = pshared::Process::builder().outlive_parent(true);
        let orphan = outlives.spawn(|| {
            support::until(|| page.get(1) == 1);
            std::process::exit(9)
        });
        let orphan: Process = orphan.unwrap();
        page.set(0, orphan.pid());
    });
    child.join().unwrap();
    assert!(reaper.reap().unwrap().adopted.is_empty());
    page.set(1, 1);
    let mut adopted = Vec::new();
    while adopted.is_empty() {
        assert!(reaper.wait_timeout(Duration::from_secs(30)).unwrap());
        adopted = reaper.reap().unwrap().adopted;
    }
    assert_eq!(adopted.len(), 1);
    assert_eq!((adopted[0].0, adopted[0].1.code()), (page.get(0), Some(9)));
    assert!(!is_there(page.get(0)));
    // Ours are told as ours, and keep their status; the first has been told before.
    let ours: Process = spawn(|| std::process::exit(4));
    let found = loop {
        reaper.wait().unwrap();
        if let Some((found, status)) = reaper.reap().unwrap().children.pop() {
            assert_eq!(status.code(), Some(4));
            break found;
        }
    };
    assert_eq!((found.pid(), ours.wait().unwrap().code()), (ours.pid(), Some(4)));
}

fn two_threads_that_wait_for_one_child_are_told_the_same() {
    for n in 0..50 {
        let child: Process = spawn(move || std::process::exit(n));
        let told: Vec<ExitStatus> = thread::scope(|threads| {
            let waits: Vec<_> = (0..2).map(|_| threads.spawn(|| child.wait().unwrap())).collect();
            waits.into_iter().map(|wait| wait.join().unwrap()).collect()
        });
        assert!(told.iter().all(|status| status.code() == Some(n)), "{told:?}");
        assert!(child.usage().is_some(), "the account was lost");
    }
}

fn try_join_gives_the_handle_back_until_the_end() {
    let (mut reader, mut writer) = io::pipe().unwrap();
    let child = spawn(|| reader.read(&mut [0]).unwrap());
    let child = child.try_join().unwrap_err().into_process().unwrap();
    writer.write_all(b"x").unwrap();
    assert!(readable(&child, 30_000));
    assert_eq!(child.try_join().unwrap(), 1);
}

fn shutdown_waits_for_grace_and_then_kills() {
    let polite = spawn(sleep_for_ever);
    assert_eq!(polite.shutdown(Duration::from_secs(30)).unwrap().signal(), Some(libc::SIGTERM));
    assert_eq!(polite.shutdown(Duration::from_secs(30)).unwrap().signal(), Some(libc::SIGTERM));
    let deaf = Process::builder().signal_mask(&[libc::SIGTERM]).spawn(sleep_for_ever).unwrap();
    let begun = std::time::Instant::now();
    assert_eq!(deaf.shutdown(Duration::from_millis(30)).unwrap().signal(), Some(libc::SIGKILL));
    assert!(begun.elapsed() >= Duration::from_millis(30));
    assert!(!spawn(|| 3).shutdown(Duration::from_secs(30)).unwrap().is_unknown());
}

fn usage_tells_what_a_child_used() {
    let child = spawn(|| {
        let memory = vec![1_u8; 32 << 20];
        let begun = std::time::Instant::now();
        while begun.elapsed() < Duration::from_millis(60) {
            std::hint::black_box(&memory);
        }
        thread::sleep(Duration::from_millis(1));
    });
    assert!(child.usage().is_none(), "it is running");
    child.wait().unwrap();
    let usage = child.usage().unwrap();
    assert!(usage.peak_memory >= 32 << 20, "{usage:?}");
    assert!(usage.minor_faults > 0 && usage.voluntary_switches > 0, "{usage:?}");
    assert!(usage.cpu_time() > Duration::from_millis(5), "{usage:?}");
    let stolen = spawn(|| ());
    while waitpid(None, None).is_err() {}
    assert!(stolen.wait().unwrap().success() && stolen.usage().is_none());
}

/// Forks a tree of `depth` levels below, whose members outlive their parents and count themselves.
fn grow(page: &Page, depth: u32) {
    page.add(0, 1);
    if depth > 0 {
        for _ in 0..2 {
            let child = Process::builder().outlive_parent(true).spawn(|| grow(page, depth - 1)).unwrap();
            mem::forget(child);
        }
    }
    sleep_for_ever();
}

/// Kills and reaps what else has come to this test, a subreaper; says how many there were.
fn stragglers() -> usize {
    let mut found = 0;
    while let Ok(pids) = fs::read_to_string("/proc/thread-self/children")
        && !pids.trim().is_empty()
    {
        for pid in pids.split_ascii_whitespace() {
            let pid = Pid::from_raw(pid.parse().unwrap());
            found += usize::from(!is_zombie(pid.as_raw() as u32) && kill(pid, Signal::SIGKILL).is_ok());
            let _ = waitpid(pid, None);
        }
    }
    found
}

fn a_tree_is_killed_to_the_last_leaf() {
    for _ in 0..5 {
        let page = Page::new();
        let root = spawn(|| grow(&page, 3));
        support::until(|| page.get(0) == 15);
        let other = spawn(sleep_for_ever);
        assert_eq!(root.kill_tree().unwrap(), 15);
        assert_eq!(root.wait().unwrap().signal(), Some(libc::SIGKILL));
        assert_eq!(root.kill_tree().unwrap(), 0);
        assert!(other.is_alive(), "a sibling is no descendant");
        drop(other.shutdown(Duration::ZERO));
        // Orphans come to us, dying or dead.
        while waitpid(None, None).is_ok() {}
    }
}

fn a_tree_that_grows_while_it_is_killed_is_killed_all_the_same() {
    for round in 0..20 {
        let root: Process = spawn(|| {
            loop {
                // Short-lived children that start longer-lived ones, as fast as can be.
                let child = Process::builder().outlive_parent(true).spawn(|| {
                    drop(Process::builder().outlive_parent(true).spawn(sleep_for_ever).unwrap());
                    sleep_for_ever();
                });
                mem::forget(child);
            }
        });
        thread::sleep(Duration::from_micros(500 + round * 211));
        assert!(root.kill_tree().unwrap() >= 1);
        root.wait().unwrap();
        thread::sleep(Duration::from_millis(1));
        // Whoever is not dying by now was missed.
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        while std::time::Instant::now() < deadline
            && waitpid(None, Some(WaitPidFlag::WNOHANG)) != Err(Errno::ECHILD)
        {
            thread::sleep(Duration::from_micros(100));
        }
        assert_eq!(stragglers(), 0, "round {round}");
    }
}

fn a_scope_joins_all_its_children() {
    let page = Page::new();
    let sum = scope(|s| {
        for n in 1..=10 {
            drop(s.spawn(|| {
                thread::sleep(Duration::from_millis(5));
                page.add(0, n);
            }));
        }
        s.spawn_with(Process::builder().name("counted"), || 5).unwrap().join().unwrap()
    });
    assert_eq!((sum.unwrap(), page.get(0)), (5, 55));
    assert!(active_children().is_empty());
}

fn a_scope_names_the_first_that_failed() {
    let failed: ScopeError = scope(|s| {
        drop(s.spawn(|| ()).unwrap());
        let asked: Process = s.spawn(|| panic!("asked about")).unwrap();
        assert!(asked.join().is_err());
        drop(s.spawn_with(Process::builder().name("killer"), || std::process::abort()).map(|p: Process| p));
        drop(s.spawn(|| panic!("later")).map(|p: Process| p));
    })
    .unwrap_err();
    assert_eq!(failed.name, "killer");
    assert!(matches!(&failed.error, JoinError::NoValue { status } if status.signal() == Some(libc::SIGABRT)));
    let text = failed.to_string();
    assert!(text.starts_with("killer (pid ") && text.contains("killed by SIGABRT"), "{text}");
    // A handle that leaves the scope still has its value.
    assert_eq!(scope(|s| s.spawn(|| 8).unwrap()).unwrap().join().unwrap(), 8);
}

fn a_scope_whose_body_panics_joins_first() {
    let page = Page::new();
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        scope(|s| {
            drop(s.spawn(|| {
                thread::sleep(Duration::from_millis(20));
                page.set(0, 1);
            }));
            panic!("the body panics");
        })
    }));
    let message = *caught.map(|_: Result<(), _>| ()).unwrap_err().downcast::<&str>().unwrap();
    assert_eq!((message, page.get(0)), ("the body panics", 1));
}

fn two_thousand_children_beside_somebody_who_reaps_everything() {
    lives::fates_beside_a_thief(2_000);
}

fn two_thousand_children_with_sigchld_ignored() {
    lives::fates_with_sigchld_ignored(2_000);
}

fn a_copy_that_libc_does_not_know_of_is_not_the_parent() {
    let sleeper = spawn(sleep_for_ever);
    let zombie = spawn(|| ());
    assert!(readable(&zombie, 30_000));
    let refused = |child: &Process| {
        child.exit_status().is_err_and(|error| error.get_ref().is_some_and(|error| error.is::<NotParent>()))
    };
    // SAFETY: as fork(2), with one thread; the copy asks two questions and leaves.
    unsafe {
        let copy = libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0);
        if copy == 0 {
            libc::_exit(if refused(&sleeper) && refused(&zombie) { 0 } else { 1 });
        }
        let copy = Pid::from_raw(copy as i32);
        assert_eq!(waitpid(copy, None), Ok(WaitStatus::Exited(copy, 0)));
    }
    assert_eq!(zombie.wait().unwrap().code(), Some(0));
    sleeper.kill().unwrap();
    assert_eq!(sleeper.wait().unwrap().signal(), Some(libc::SIGKILL));
}

fn numbers_used_again_reach_no_stranger() {
    support::fork_child(|| {
        support::unshare_pids().unwrap();
        support::fork_child(|| {
            for _ in 0..50 {
                let ended = spawn(|| ());
                let pid = ended.pid() as i32;
                support::until(|| is_ended(&ended));
                while waitpid(None, None).is_err() {}
                support::choose_next_pid(pid).unwrap();
                let stranger = support::fork_child(sleep_for_ever);
                assert_eq!(stranger.pid().as_raw(), pid, "nobody else takes numbers here");
                assert!(!ended.kill().unwrap() && !ended.terminate().unwrap() && !ended.is_alive());
                assert_eq!(ended.kill_tree().unwrap(), 0);
                assert!(!stranger.has_ended());
                stranger.kill();
            }
        })
        .join_ok();
    })
    .join_ok();
}

/// What becomes of a channel whose sender goes from one thread, which ends, to another, that has the same number or
/// not.
fn sender_of_two_threads(same_number: bool) -> Vec<String> {
    let (mut sender, mut receiver) = channel::<u32>(4096).unwrap();
    let lock = Lock::new().unwrap();
    let mut told = Vec::new();
    let number = thread::scope(|threads| {
        let first = threads.spawn(|| {
            sender.send(1).unwrap();
            // SAFETY: no arguments.
            unsafe { libc::gettid() }
        });
        first.join().unwrap()
    });
    told.push(format!("{:?}", receiver.try_recv()));
    loop {
        // Threads without the number that is wanted are not used.
        support::choose_next_pid(if same_number { number } else { number + 100 }).unwrap();
        let (sent, is_sent) = mpsc::channel();
        let (go, may_go) = mpsc::channel::<()>();
        let used = thread::scope(|threads| {
            let second = threads.spawn(|| {
                let (sent, may_go) = (sent, may_go);
                // It is known to the crate before it meets the channel.
                drop(lock.lock().unwrap());
                // SAFETY: no arguments.
                let is_right = (unsafe { libc::gettid() } == number) == same_number;
                if is_right {
                    sent.send(Some(sender.send(2))).unwrap();
                    let _ = may_go.recv();
                } else {
                    sent.send(None).unwrap();
                }
            });
            let result = is_sent.recv().unwrap();
            if let Some(result) = &result {
                // Now, while it lives.
                told.push(format!("{result:?} {:?} {:?}", receiver.try_recv(), receiver.try_recv()));
            }
            drop(go);
            second.join().unwrap();
            result.is_some()
        });
        if used {
            break;
        }
    }
    told.push(format!("{:?}", receiver.try_recv()));
    drop(sender);
    told.push(format!("{:?}", receiver.recv()));
    told
}

fn a_threads_number_used_again_is_another_thread() {
    support::fork_child(|| {
        support::unshare_pids().unwrap();
        support::fork_child(|| {
            let (other, same) = (sender_of_two_threads(false), sender_of_two_threads(true));
            assert_eq!(same, other);
            assert!(same[1].contains("Ok(2) Err(Empty)"), "{same:?}");
        })
        .join_ok();
    })
    .join_ok();
}

fn a_child_without_a_place_in_the_set_is_waited_for_all_the_same() {
    support::fork_child(|| {
        let reaper = Reaper::new().unwrap();
        support::forbid(&[libc::SYS_epoll_ctl], libc::SECCOMP_RET_ERRNO | libc::ENOSPC as u32);
        let child = spawn(sleep_for_ever);
        assert!(!reaper.wait_timeout(Duration::from_millis(5)).unwrap());
        child.kill().unwrap();
        // The harness ends the test if it does not hear of it.
        reaper.wait().unwrap();
        assert_eq!(reaper.reap().unwrap().children.len(), 1);
        assert!(!reaper.wait_timeout(Duration::ZERO).unwrap());
        let refused = Reaper::new().and_then(|_| {
            let _child = spawn(sleep_for_ever);
            Reaper::new()
        });
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::ENOSPC));
        reap_now();
    })
    .join_ok();
    // The last one ended with its parent, and has come to us.
    while waitpid(None, None).is_ok() {}
}

fn is_ended(child: &Process) -> bool {
    readable(child, 0)
}
