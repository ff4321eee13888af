//! A child ends when its parent process does, in whatever way; and goes on when it was told to.
//!
//! Orphans of a test come to it, so that it can see how they ended.

mod support;

use std::{
    fs,
    io::{Read, Write},
    process::ExitCode,
    sync::mpsc,
    thread,
    time::Duration,
};

use nix::{
    libc,
    sys::{
        signal::{SigSet, SigmaskHow, Signal, kill, pthread_sigmask},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use pshared::{Process, current_process, parent_process};
use support::{lives, page::Page, random::Random};

fn main() -> ExitCode {
    let tests = support::tests![
        a_child_ends_however_its_parent_ends,
        a_detached_child_ends_with_its_parent_all_the_same,
        a_child_that_may_outlive_its_parent_goes_on,
        a_daemon_never_outlives_its_parent,
        the_end_of_the_thread_that_started_it_leaves_a_child_alone,
        the_ends_of_many_threads_and_then_of_the_process_are_told_apart,
        a_thread_that_blocks_all_signals_starts_children_that_end_too,
        a_child_that_became_another_user_ends_too,
        a_stopped_child_ends_too,
        under_number_one_a_child_lives_and_ends_as_elsewhere,
        in_a_new_pid_namespace_a_child_lives,
        a_parent_killed_at_any_moment_leaves_nobody,
        trees_killed_at_random_leave_nobody,
        a_child_sees_its_parent_end,
    ];
    let needs: [(_, support::Need); 3] = [
        ("a_child_that_became_another_user_ends_too", support::needs_root),
        ("under_number_one_a_child_lives_and_ends_as_elsewhere", support::needs_pid_namespaces),
        ("in_a_new_pid_namespace_a_child_lives", support::needs_pid_namespaces),
    ];
    support::main_where(tests, &needs)
}

fn sleep_for_ever() {
    loop {
        thread::sleep(Duration::from_secs(60));
    }
}

/// What a child runs here: from when its number stands in the page, only a signal can be its end.
fn note_and_sleep(page: &Page, place: usize) {
    page.set(place, std::process::id());
    sleep_for_ever();
}

/// Waits for an orphan that has come to us, which must have been killed.
fn was_killed(pid: u32) {
    let status = waitpid(Pid::from_raw(pid as i32), None).unwrap();
    assert!(matches!(status, WaitStatus::Signaled(_, Signal::SIGKILL, _)), "{status:?}");
}

/// Waits until the page has a word in that place; `parent` is to write it, or to have it written.
fn noted(parent: &support::Child, page: &Page, place: usize) -> u32 {
    support::until(|| page.get(place) != 0 || parent.has_ended());
    assert_ne!(page.get(place), 0, "the parent ended too early");
    page.get(place)
}

/// Forks a parent of a child that notes its number in the page's first word; once that is there the parent does `end`.
fn parent_of_a_sleeper(page: &Page, end: impl FnOnce()) -> support::Child {
    let parent = support::fork_child(|| {
        let child = Process::spawn(|| note_and_sleep(page, 0)).unwrap();
        support::until(|| page.get(0) != 0);
        assert_eq!(page.get(0), child.pid());
        end();
    });
    support::until(|| page.get(0) != 0 || parent.has_ended());
    parent
}

fn a_child_ends_however_its_parent_ends() {
    let ends: [fn(); 5] = [
        || std::process::exit(3),
        || std::process::abort(),
        || panic!("the parent panics"),
        || {}, // returns: the harness leaves by _exit
        sleep_for_ever,
    ];
    for (number, end) in ends.into_iter().enumerate() {
        let page = Page::new();
        let parent = parent_of_a_sleeper(&page, end);
        if number == 4 {
            parent.kill();
        } else {
            parent.join();
        }
        was_killed(page.get(0));
    }
}

fn a_detached_child_ends_with_its_parent_all_the_same() {
    let page = Page::new();
    let parent = support::fork_child(|| {
        drop(Process::spawn(|| note_and_sleep(&page, 0)).unwrap());
        sleep_for_ever();
    });
    let child = noted(&parent, &page, 0);
    parent.kill();
    was_killed(child);
}

fn a_child_that_may_outlive_its_parent_goes_on() {
    let page = Page::new();
    let parent = support::fork_child(|| {
        let outlives = Process::builder().outlive_parent(true);
        drop(outlives.spawn(|| support::until(|| page.get(1) == 1)).unwrap());
    });
    parent.join_ok();
    assert_eq!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive));
    page.set(1, 1);
    assert!(matches!(waitpid(None, None).unwrap(), WaitStatus::Exited(_, 0)));
}

fn a_daemon_never_outlives_its_parent() {
    let page = Page::new();
    let parent = support::fork_child(|| {
        let daemon = Process::builder().daemon(true).outlive_parent(true);
        let daemon = daemon
            .spawn(|| {
                assert!(current_process().is_daemon());
                // What a daemon starts is a daemon too.
                let inner = Process::builder().outlive_parent(true);
                let inner = inner.spawn(|| note_and_sleep(&page, 1)).unwrap();
                assert!(inner.is_daemon());
                note_and_sleep(&page, 0);
            })
            .unwrap();
        support::until(|| page.get(0) != 0 && page.get(1) != 0);
        assert_eq!(page.get(0), daemon.pid());
        // Its drop would tell it to end.
        std::mem::forget(daemon);
    });
    parent.join_ok();
    was_killed(page.get(0));
    was_killed(page.get(1));
}

fn the_end_of_the_thread_that_started_it_leaves_a_child_alone() {
    let page = &*Box::leak(Box::new(Page::new()));
    let parent = support::fork_child(|| {
        let starter = thread::spawn(move || {
            // SAFETY: the main thread waits in join.
            unsafe { Process::spawn_unchecked(move || note_and_sleep(page, 0)) }.unwrap()
        });
        let child = starter.join().unwrap();
        support::until(|| page.get(0) != 0);
        support::until(|| fs::read_dir("/proc/self/task").unwrap().count() == 1); // the thread is gone for good
        // Time for a signal that must not come: what was sent has arrived when the child has run once more.
        assert!(child.signal(libc::SIGWINCH).unwrap());
        assert_eq!(
            child.wait_timeout(Duration::from_millis(50)).unwrap(),
            None,
            "the child ended with a thread"
        );
        page.set(1, 1);
        sleep_for_ever();
    });
    noted(&parent, page, 1);
    parent.kill();
    was_killed(page.get(0));
}

fn the_ends_of_many_threads_and_then_of_the_process_are_told_apart() {
    for round in 0..10 {
        let page = &*Box::leak(Box::new(Page::new()));
        let parent = support::fork_child(|| {
            let (sent, children) = mpsc::channel();
            for place in 0..4 {
                let sent = sent.clone();
                let starter = thread::spawn(move || {
                    // SAFETY: the main thread waits in join.
                    let child = unsafe { Process::spawn_unchecked(move || note_and_sleep(page, place)) };
                    support::until(|| page.get(place) != 0);
                    sent.send(child.unwrap()).unwrap();
                });
                starter.join().unwrap();
            }
            let children: Vec<Process> = children.try_iter().collect();
            assert!((0..4).all(|place| page.get(place) == children[place].pid()));
            // The last starter's end and ours come close together.
            thread::sleep(Duration::from_micros(round * 37));
            std::process::abort();
        });
        assert!(matches!(parent.join(), WaitStatus::Signaled(_, Signal::SIGABRT, _)));
        (0..4).for_each(|place| was_killed(page.get(place)));
    }
}

fn a_thread_that_blocks_all_signals_starts_children_that_end_too() {
    let page = &*Box::leak(Box::new(Page::new()));
    let parent = support::fork_child(|| {
        let starter = thread::spawn(move || {
            pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None).unwrap();
            // SAFETY: the main thread waits in join.
            unsafe { Process::spawn_unchecked(move || note_and_sleep(page, 0)) }.unwrap()
        });
        let _child = starter.join().unwrap();
        sleep_for_ever();
    });
    let child = noted(&parent, page, 0);
    parent.kill();
    was_killed(child);
}

fn a_child_that_became_another_user_ends_too() {
    let page = Page::new();
    let parent = support::fork_child(|| {
        let other = Process::builder().uid(65_534).gid(65_534);
        let _child = other.spawn(|| {
            assert_eq!(support::user(), 65_534);
            note_and_sleep(&page, 0);
        });
        sleep_for_ever();
    });
    let child = noted(&parent, &page, 0);
    parent.kill();
    was_killed(child);
}

fn a_stopped_child_ends_too() {
    let page = Page::new();
    let parent = parent_of_a_sleeper(&page, sleep_for_ever);
    let child = noted(&parent, &page, 0);
    kill(Pid::from_raw(child as i32), Signal::SIGSTOP).unwrap();
    parent.kill();
    was_killed(child);
}

fn under_number_one_a_child_lives_and_ends_as_elsewhere() {
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    support::fork_child(|| {
        support::unshare_pids().unwrap();
        let one = support::fork_child(|| {
            assert_eq!(std::process::id(), 1);
            assert_eq!(
                Process::spawn(|| parent_process().unwrap().unwrap().pid()).unwrap().join().unwrap(),
                1
            );
            let page = Page::new();
            let _sleeper = Process::spawn(|| {
                writer.write_all(b"x").unwrap();
                note_and_sleep(&page, 0);
            });
            support::until(|| page.get(0) != 0);
            assert!(parent_process().unwrap().is_none());
        });
        one.join_ok();
    })
    .join_ok();
    drop(writer);
    let mut said = Vec::new();
    reader.read_to_end(&mut said).unwrap(); // the sleeper's end closes the pipe
    assert_eq!(said, b"x");
}

fn in_a_new_pid_namespace_a_child_lives() {
    support::fork_child(|| {
        support::unshare_pids().unwrap();
        assert_eq!(Process::spawn(std::process::id).unwrap().join().unwrap(), 1);
    })
    .join_ok();
}

/// Waits for all who have come to us, who were killed, or found their parent gone before they ran anything; the
/// harness ends the test if one never ends.
fn reap_orphans() {
    while let Ok(status) = waitpid(None, None) {
        let expected =
            matches!(status, WaitStatus::Signaled(_, Signal::SIGKILL, _) | WaitStatus::Exited(_, 125));
        assert!(expected, "{status:?}");
    }
}

fn a_parent_killed_at_any_moment_leaves_nobody() {
    let mut random = Random(0x5eed);
    for _ in 0..200 {
        let parent = support::fork_child(|| {
            let mut children = Vec::new();
            loop {
                children.push(Process::spawn(sleep_for_ever).unwrap());
            }
        });
        thread::sleep(Duration::from_micros(200 + random.below(4_000)));
        parent.kill();
        reap_orphans();
    }
}

fn trees_killed_at_random_leave_nobody() {
    let felled = lives::fell_trees(150, &mut Random(0xf0e57));
    assert_eq!((felled.zombies, felled.orphans, felled.descriptors), (0, 0, 0), "{felled:?}");
    assert!(felled.roots_killed > 20 && felled.workers_killed > 20, "{felled:?}");
}

fn a_child_sees_its_parent_end() {
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    let page = Page::new();
    let parent = support::fork_child(|| {
        assert!(parent_process().unwrap().is_none(), "nobody of ours started this one");
        let outlives = Process::builder().outlive_parent(true).name("survivor");
        let child = outlives.spawn(|| {
            let parent = parent_process().unwrap().unwrap();
            assert_eq!(parent.name(), "MainProcess");
            assert!(parent.is_alive() && !parent.wait_timeout(Duration::from_millis(5)).unwrap());
            page.set(0, parent.pid());
            parent.wait().unwrap();
            assert!(!parent.is_alive());
            // Looked for again, it is not found, and not taken for the one who adopted us.
            let late = parent_process().unwrap().unwrap();
            assert!(!late.is_alive() && late.pid() == parent.pid());
            writer.write_all(b"seen").unwrap();
        });
        assert_eq!(child.unwrap().name(), "survivor");
        support::until(|| page.get(0) != 0);
    });
    let pid = parent.pid().as_raw() as u32;
    parent.join_ok();
    assert_eq!(page.get(0), pid);
    assert!(matches!(waitpid(None, None).unwrap(), WaitStatus::Exited(_, 0)));
    drop(writer);
    let mut said = String::new();
    reader.read_to_string(&mut said).unwrap();
    assert_eq!(said, "seen");
}
