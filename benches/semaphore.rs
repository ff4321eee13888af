//! What a permit costs beside a semaphore of libc's, in one run.
//!
//! `cargo bench --bench semaphore` takes a permit and gives it back, in many short rounds that take turns: the figure
//! that counts is the median of the ratio within a round, since absolute times differ between runs on a shared machine.

#[path = "../tests/support/page.rs"]
#[allow(dead_code, unreachable_pub, reason = "the tests' page, of which a part is used here")]
mod page;

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
    let contenders: [(&str, &dyn Fn() -> f64); 4] = [
        ("sem_t", &|| round(|| posix.turn())),
        ("Semaphore", &|| round(|| plain_turn(&plain))),
        ("BoundedSemaphore", &|| round(|| plain_turn(&bounded))),
        ("Permit", &|| round(|| drop(black_box(plain.permit().expect("nobody else is here"))))),
    ];
    let mut times: [Vec<f64>; 4] = Default::default();
    for turn in 0..ROUNDS {
        for place in 0..contenders.len() {
            let which = (turn + place) % contenders.len();
            times[which].push(contenders[which].1());
        }
    }
    for (which, (name, _)) in contenders.iter().enumerate() {
        let mut ratios: Vec<f64> =
            times[which].iter().zip(&times[0]).map(|(one, other)| one / other).collect();
        let ratio = median(&mut ratios);
        let (low, high) = (ratios[ROUNDS / 20], ratios[ROUNDS - 1 - ROUNDS / 20]);
        let ns = median(&mut times[which].clone());
        println!(
            "semaphore/turns {name:<17} {ns:6.2} ns, {ratio:.3} x sem_t (middle 90 %: {low:.3} to {high:.3})"
        );
        if which == 1 {
            println!("semaphore/ratio {ratio:.3}");
        }
    }
}

#[inline]
fn plain_turn(semaphore: &Semaphore) {
    assert!(semaphore.acquire().is_ok());
    assert!(semaphore.release().is_ok());
}

/// Nanoseconds per call in a round.
fn round(mut operation: impl FnMut()) -> f64 {
    let start = Instant::now();
    for _ in 0..ROUND {
        operation();
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(ROUND)
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
