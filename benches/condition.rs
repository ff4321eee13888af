//! What a hand-over by a condition costs beside a bare futex and libc's condition, in one run.
//!
//! `cargo bench --bench condition`. Two processes on one CPU hand a turn to and fro; the figure is nanoseconds a
//! hand-over. Absolute times differ between runs of one binary on a shared machine, so what counts is the median, over
//! rounds that take turns, of the ratio within a round.

#[path = "../tests/support/page.rs"]
#[allow(dead_code, unreachable_pub, reason = "the tests' page, of which a part is used here")]
mod page;
#[path = "support/turns.rs"]
mod turns;

use std::{
    env,
    io::{Write, stdout},
    ptr,
    time::Instant,
};

use nix::{
    libc,
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    sys::wait::waitpid,
    unistd::{ForkResult, Pid, fork},
};
use page::Page;
use pshared::{Condition, Lock};

/// Hand-overs in one round, there and back counted as two.
const ROUND: u32 = 10_000;
const ROUNDS: usize = 31;

fn main() {
    if env::args().any(|argument| argument == "--test" || argument == "--list") {
        return;
    }
    stay_on_one_cpu();
    let all: [turns::Contender<'_>; 4] = [
        ("ours", &|| ours(false)),
        ("ours, one for both ways", &|| ours(true)),
        ("bare futex", &futex),
        ("pthread", &pthread),
    ];
    let times = turns::take(ROUNDS, &all, 2);
    turns::report("condition/ratio", "ns", &all.map(|(name, _)| name), &times, 2, 0);
}

/// The last of the CPUs that this process may use: the first is the one that interrupts prefer.
fn stay_on_one_cpu() {
    let allowed = sched_getaffinity(Pid::from_raw(0)).expect("sched_getaffinity");
    let last = (0..CpuSet::count()).rev().find(|&cpu| allowed.is_set(cpu).unwrap_or(false)).expect("a CPU");
    let mut one = CpuSet::new();
    one.set(last).expect("a CPU of the set");
    sched_setaffinity(Pid::from_raw(0), &one).expect("sched_setaffinity");
}

/// Nanoseconds a hand-over between this process, player 0, and a forked one.
fn between_two(play: impl Fn(u32)) -> f64 {
    let _ = stdout().flush();
    let start = Instant::now();
    // SAFETY: this program has one thread, and the child does nothing but play and exit.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Child => {
            play(1);
            // SAFETY: ends the child without running what belongs to the parent.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            play(0);
            waitpid(child, None).expect("the other player");
        }
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(2 * ROUND)
}

/// One condition for each way, or one for both.
fn ours(shared: bool) -> f64 {
    let page = Page::new();
    let lock = Lock::new().expect("a lock");
    let first = Condition::new(&lock).expect("a condition");
    let second = if shared { first.clone() } else { Condition::new(&lock).expect("a condition") };
    let turned = [first, second];
    between_two(|own| {
        let (mine, others) = (&turned[own as usize], &turned[1 - own as usize]);
        for _ in 0..ROUND {
            let guard = lock.lock().expect("nobody dies here");
            let guard = mine.wait_while(guard, || page.get(0) != own).expect("nobody dies here");
            page.set(0, 1 - own);
            drop(guard);
            others.notify_one();
        }
    })
}

fn futex() -> f64 {
    let page = Page::new();
    let call = |word: usize, operation: libc::c_int, value: u32| {
        // SAFETY: a word of the page; no limit.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                page.word(word).as_ptr(),
                operation,
                value,
                ptr::null::<libc::timespec>(),
            )
        };
    };
    between_two(|own| {
        let (mine, others) = (1 + 16 * own as usize, 1 + 16 * (1 - own) as usize);
        for turn in 0..ROUND {
            // How often the other has played must be as often as we have; or once more, if it is the first.
            loop {
                let seen = page.get(mine);
                if seen >= turn + own {
                    break;
                }
                call(mine, libc::FUTEX_WAIT, seen);
            }
            page.add(others, 1);
            call(others, libc::FUTEX_WAKE, 1);
        }
    })
}

fn pthread() -> f64 {
    let page = Page::new();
    let mutex = page.mutex(0, false);
    let conditions = [1, 2].map(|slot| page.condition(slot));
    between_two(|own| {
        let (mine, others) = (conditions[own as usize], conditions[1 - own as usize]);
        for _ in 0..ROUND {
            mutex.lock();
            while page.get(0) != own {
                mine.wait(mutex);
            }
            page.set(0, 1 - own);
            mutex.unlock();
            others.notify_one();
        }
    })
}
