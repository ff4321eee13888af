//! Many children and many deaths: with a small count in the tests, with the full one by `cargo lives`.

#![allow(clippy::disallowed_types, reason = "shared by threads alone")]

use std::{
    fs,
    io::{stderr, stdout},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    libc,
    sys::{
        signal::{SigHandler, Signal, kill, raise, signal},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use pshared::{Process, Reaper, active_children};

use super::{descriptors, page::Page, random::Random, until};

fn sleep_for_ever() {
    loop {
        thread::sleep(Duration::from_secs(60));
    }
}

/// Children of every fate, each of which must be told as it was.
pub fn fates(count: i32) {
    for n in 0..count {
        // SAFETY: another thread, if there is one, only waits for children; it allocates nothing and holds nothing.
        let child: Process<i32> = unsafe {
            Process::spawn_unchecked(move || match n % 4 {
                0 => n,
                1 => std::process::exit(n % 256),
                2 => loop {
                    raise(Signal::SIGKILL).unwrap();
                },
                _ => loop {
                    raise(Signal::SIGTERM).unwrap();
                },
            })
        }
        .unwrap();
        if n % 8 >= 4 {
            until(|| !child.is_alive());
        }
        let status = child.wait().unwrap();
        assert!(!child.is_alive() && !child.kill().unwrap());
        match n % 4 {
            0 => assert_eq!(child.join().unwrap(), n),
            1 => assert_eq!(status.code(), Some(n % 256)),
            2 => assert_eq!(status.signal(), Some(libc::SIGKILL)),
            _ => assert_eq!(status.signal(), Some(libc::SIGTERM)),
        }
    }
}

/// The same beside a thread that calls waitpid(-1) all the time; says how many it took away.
pub fn fates_beside_a_thief(count: i32) -> u32 {
    let over = AtomicBool::new(false);
    let stolen = thread::scope(|scope| {
        let thief = scope.spawn(|| {
            let mut stolen = 0;
            while !over.load(Relaxed) {
                // SAFETY: a null pointer means that nobody asks for the status.
                stolen += u32::from(unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) } > 0);
            }
            stolen
        });
        // It ends with the test, if that fails.
        struct Over<'a>(&'a AtomicBool);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.store(true, Relaxed);
            }
        }
        let told = Over(&over);
        fates(count);
        drop(told);
        thief.join().unwrap()
    });
    assert!(stolen > 0, "nothing was ever stolen");
    stolen
}

/// The same in a process that ignores SIGCHLD, so that the kernel keeps no zombie.
pub fn fates_with_sigchld_ignored(count: i32) {
    // SAFETY: no handler, but the wish that there be no zombies.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }.unwrap();
    fates(count);
}

/// Runs `body` beside threads that hold std's streams, a lock, and the allocator most of the time.
pub fn beside_busy_threads(body: impl FnOnce()) {
    static HELD: Mutex<u32> = Mutex::new(0);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let until_over = |mut work: Box<dyn FnMut() + Send>| {
            let over = &over;
            scope.spawn(move || {
                while !over.load(Relaxed) {
                    work();
                }
            });
        };
        until_over(Box::new(|| {
            let _held = (stdout().lock(), stderr().lock());
            thread::sleep(Duration::from_micros(500));
        }));
        until_over(Box::new(|| {
            let mut held = HELD.lock().unwrap();
            *held += 1;
            thread::sleep(Duration::from_micros(300));
        }));
        until_over(Box::new(|| {
            let many: Vec<Vec<u8>> = (1..50).map(|n| vec![1; n * 37]).collect();
            std::hint::black_box(many);
            thread::sleep(Duration::from_micros(50));
        }));
        struct Over<'a>(&'a AtomicBool);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.store(true, Relaxed);
            }
        }
        let _over = Over(&over);
        body();
    });
}

/// What became of trees whose members were killed.
#[derive(Debug, Default)]
pub struct Felled {
    pub trees: u32,
    pub roots_killed: u32,
    pub workers_killed: u32,
    /// Members that came to us, as to the system's first, and had ended.
    pub adopted: u32,
    /// Children of this crate's that had ended and were not reaped a second later.
    pub zombies: u32,
    /// Members that still ran a second later.
    pub orphans: u32,
    /// Descriptors above the start.
    pub descriptors: usize,
    /// The longest that the last member of a tree took to end.
    pub slowest: Duration,
}

/// How long a member may take to end.
const LIMIT: Duration = Duration::from_secs(1);

/// Where in the page: the root is to end; how many workers it has reaped; their numbers.
const END: usize = 0;
const REAPED: usize = 1;
const WORKERS: usize = 2;

/// Starts workers that start leaves, and reaps who has ended, until it is told to end, or killed.
fn root(page: &Page, workers: usize, leaves: u64) {
    let reaper = Reaper::new().unwrap();
    let grow = |place: usize| {
        Process::spawn(move || {
            let _leaves: Vec<Process> =
                (0..leaves).map(|_| Process::spawn(sleep_for_ever).unwrap()).collect();
            page.set(WORKERS + place, std::process::id());
            sleep_for_ever();
        })
    };
    let _workers: Vec<Process> = (0..workers).map(|place| grow(place).unwrap()).collect();
    while page.get(END) == 0 {
        if reaper.wait_timeout(Duration::from_millis(1)).unwrap() {
            page.add(REAPED, reaper.reap().unwrap().children.len() as u32);
        }
    }
}

/// Starts so many trees one after the other, kills the root, a worker or both at a random moment, or lets the root end,
/// and looks what is left. This process must be a subreaper: orphans come to it.
pub fn fell_trees(count: u32, random: &mut Random) -> Felled {
    Process::spawn(|| ()).unwrap().join().unwrap();
    let page = Page::new();
    let mut felled = Felled { trees: count, ..Felled::default() };
    let before = descriptors();
    for _ in 0..count {
        (END..WORKERS + 3).for_each(|place| page.set(place, 0));
        let (workers, leaves) = (1 + random.below(3) as usize, random.below(3));
        let tree = Process::spawn(|| root(&page, workers, leaves)).unwrap();
        let (kills_worker, kills_root) = (random.below(2) == 0, random.below(4) > 0);
        thread::sleep(Duration::from_micros(random.below(4_000)));
        let chosen = WORKERS + random.below(workers as u64) as usize;
        let mut victim = 0;
        if kills_worker {
            // Not waited for if the root is to be killed in the middle of its starts.
            until(|| kills_root || page.get(chosen) != 0);
            victim = page.get(chosen);
        }
        if victim != 0 && random.below(2) == 0 {
            // Its parent has not reaped it, or it lives: workers end by a kill alone.
            kill(Pid::from_raw(victim as i32), Signal::SIGKILL).unwrap();
            felled.workers_killed += 1;
            if !kills_root {
                let limit = Instant::now() + LIMIT;
                until(|| page.get(REAPED) == 1 || Instant::now() > limit);
                felled.zombies += u32::from(page.get(REAPED) != 1);
            }
            victim = 0;
        }
        let begun = Instant::now();
        if kills_root {
            assert!(tree.kill().unwrap());
            felled.roots_killed += 1;
        } else {
            page.set(END, 1);
        }
        if victim != 0 {
            // Whoever it is a child of by now, nobody but us below can have reaped it, or its root that is ending.
            let _ = kill(Pid::from_raw(victim as i32), Signal::SIGKILL);
            felled.workers_killed += 1;
        }
        match random.below(2) {
            0 => drop(tree.wait().unwrap()),
            _ => {
                let pid = tree.pid();
                drop(tree);
                until(|| active_children().is_empty());
                felled.zombies += u32::from(fs::exists(format!("/proc/{pid}")).unwrap());
            }
        }
        collect(&mut felled, begun);
    }
    felled.descriptors = descriptors().saturating_sub(before);
    felled
}

/// Reaps who has come to us, and counts who has not ended.
fn collect(felled: &mut Felled, begun: Instant) {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Err(Errno::ECHILD) => break,
            Ok(WaitStatus::StillAlive) if begun.elapsed() < LIMIT => {
                thread::sleep(Duration::from_micros(100));
            }
            Ok(WaitStatus::StillAlive) => {
                let pids = fs::read_to_string("/proc/thread-self/children").unwrap();
                for pid in pids.split_ascii_whitespace() {
                    felled.orphans +=
                        u32::from(kill(Pid::from_raw(pid.parse().unwrap()), Signal::SIGKILL).is_ok());
                }
                while waitpid(None, None).is_ok() {}
            }
            Ok(WaitStatus::Signaled(_, Signal::SIGKILL, _) | WaitStatus::Exited(_, 125)) => {
                felled.adopted += 1
            }
            other => panic!("a member of a tree ended with {other:?}"),
        }
    }
    felled.slowest = felled.slowest.max(begun.elapsed());
}
