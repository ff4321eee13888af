//! What a permit costs beside a semaphore of libc's, in one run.
//!
//! `cargo bench --bench semaphore` takes a permit and gives it back, in many short rounds that take turns: the figure
//! that counts is the median of the ratio within a round, since absolute times differ between runs on a shared machine.

#[path = "../tests/support/page.rs"]
#[allow(dead_code, unreachable_pub, reason = "the tests' page, of which a part is used here")]
mod page;
#[path = "support/turns.rs"]
mod turns;

use std::{env, hint::black_box, thread, time::Instant};

use nix::libc;
use page::Page;
use pshared::{BoundedSemaphore, Semaphore};

/// Operations in one round: some 0.1 ms, so that few rounds are interrupted.
const ROUND: u32 = 10_000;
/// Rounds for each contender.
const ROUNDS: usize = 501;

/// A semaphore of libc's between processes.
struct Posix {
    page: Page,
}

impl Posix {
    fn new() -> Posix {
        let posix = Posix { page: Page::new() };
        // SAFETY: fresh zero bytes, aligned to a page, that are never unmapped.
        assert_eq!(unsafe { libc::sem_init(posix.raw(), 1, 1) }, 0);
        posix
    }

    fn raw(&self) -> *mut libc::sem_t {
        self.page.word(0).as_ptr().cast()
    }

    #[inline]
    fn turn(&self) {
        // SAFETY: initialised in `new`.
        unsafe {
            assert_eq!(libc::sem_wait(self.raw()), 0);
            assert_eq!(libc::sem_post(self.raw()), 0);
        }
    }
}

fn main() {
    if env::args().any(|argument| argument == "--test" || argument == "--list") {
        return;
    }
    // Every contender is measured in a program that has had a second thread: some libcs take short cuts before.
    thread::spawn(|| ()).join().expect("an empty thread");
    let (posix, plain) = (Posix::new(), Semaphore::new(1).expect("a semaphore"));
    let bounded = BoundedSemaphore::new(1).expect("a semaphore");
    let all: [turns::Contender<'_>; 4] = [
        ("sem_t", &|| round(|| posix.turn())),
        ("Semaphore", &|| round(|| plain_turn(&plain))),
        ("BoundedSemaphore", &|| round(|| plain_turn(&bounded))),
        ("Permit", &|| round(|| drop(black_box(plain.permit().expect("nobody else is here"))))),
    ];
    let times = turns::take(ROUNDS, &all, 0);
    turns::report("semaphore/ratio", "ns", &all.map(|(name, _)| name), &times, 0, 1);
}

#[inline]
fn plain_turn(semaphore: &Semaphore) {
    assert!(semaphore.acquire().is_ok());
    assert!(semaphore.release().is_ok());
}

/// Nanoseconds per call in a round. A function of its own for each contender: in one big function the compiler runs
/// out of registers, and what it spills is measured with the lock.
#[inline(never)]
fn round(mut operation: impl FnMut()) -> f64 {
    let start = Instant::now();
    for _ in 0..ROUND {
        operation();
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(ROUND)
}
