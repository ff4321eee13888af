//! What a lock costs beside its peers, in one run.
//!
//! `cargo bench --bench lock` measures with criterion and then prints the ratios; with `-- --ratios` it prints the
//! ratios alone, in seconds. Absolute times differ between runs of one binary on a shared machine, so the figure that
//! counts is the median, over many short rounds that take turns, of the ratio within a round.

#[path = "../tests/support/page.rs"]
#[allow(dead_code, unreachable_pub, reason = "the tests' page, of which a part is used here")]
mod page;
#[path = "support/turns.rs"]
mod turns;

use std::{
    cell::Cell,
    env,
    hint::black_box,
    io::{Write, stdout},
    process,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use criterion::Criterion;
use nix::{
    libc,
    sys::wait::waitpid,
    unistd::{ForkResult, fork},
};
use page::{Page, PthreadMutex};
use pshared::Lock;

/// Operations in one round: some 0.1 ms, so that few rounds are interrupted.
const ROUND: u32 = 10_000;
/// Rounds for each contender.
const ROUNDS: usize = 501;

fn main() {
    let only_ratios = env::args().any(|argument| argument == "--ratios");
    // Every contender is measured in a program that has had a second thread: some libcs take short cuts before.
    thread::spawn(|| ()).join().expect("an empty thread");
    if !only_ratios {
        let mut criterion = Criterion::default()
            .configure_from_args()
            .warm_up_time(Duration::from_millis(500))
            .measurement_time(Duration::from_secs(2));
        uncontended(&mut criterion);
        criterion.final_summary();
    }
    if !env::args().any(|argument| argument == "--test" || argument == "--list") {
        ratios();
        contended();
    }
}

/// One lock, a short section, one unlock each.
struct Contenders {
    ours: Lock,
    guarded: Cell<u64>,
    std: Mutex<u64>,
    /// As threads share one: behind a pointer, as ours is.
    std_shared: Arc<Mutex<u64>>,
    robust: PthreadMutex,
    shared: PthreadMutex,
}

impl Contenders {
    fn new() -> Contenders {
        let page = Page::new();
        Contenders {
            ours: Lock::new().expect("a lock"),
            guarded: Cell::new(0),
            std: Mutex::new(0),
            std_shared: Arc::new(Mutex::new(0)),
            robust: page.mutex(0, true),
            shared: page.mutex(1, false),
        }
    }

    #[inline]
    fn ours(&self) {
        let _guard = self.ours.lock().expect("nobody dies here");
        self.count();
    }

    #[inline]
    fn std(&self) {
        let mut guard = self.std.lock().expect("nobody panics here");
        *guard = black_box(*guard + 1);
    }

    #[inline]
    fn std_shared(&self) {
        let mut guard = self.std_shared.lock().expect("nobody panics here");
        *guard = black_box(*guard + 1);
    }

    #[inline]
    fn pthread(&self, mutex: PthreadMutex) {
        black_box(mutex.lock());
        self.count();
        mutex.unlock();
    }

    /// What a section does here: one word changes.
    #[inline]
    fn count(&self) {
        self.guarded.set(black_box(self.guarded.get() + 1));
    }
}

fn uncontended(criterion: &mut Criterion) {
    let contenders = Contenders::new();
    let mut group = criterion.benchmark_group("lock");
    group.bench_function("ours", |b| b.iter(|| contenders.ours()));
    group.bench_function("std", |b| b.iter(|| contenders.std()));
    group.bench_function("std-shared", |b| b.iter(|| contenders.std_shared()));
    group.bench_function("pthread-robust-shared", |b| b.iter(|| contenders.pthread(contenders.robust)));
    group.bench_function("pthread-shared", |b| b.iter(|| contenders.pthread(contenders.shared)));
    group.finish();
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

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Rounds that take turns; the ratio to std within each turn.
fn ratios() {
    let contenders = Contenders::new();
    let all: [turns::Contender<'_>; 4] = [
        ("ours", &|| round(|| contenders.ours())),
        ("std", &|| round(|| contenders.std())),
        ("pthread-robust-shared", &|| round(|| contenders.pthread(contenders.robust))),
        ("pthread-shared", &|| round(|| contenders.pthread(contenders.shared))),
    ];
    let times = turns::take(ROUNDS, &all, 1);
    turns::report("lock/ratio", "ns", &all.map(|(name, _)| name), &times, 1, 0);
}

/// Two processes at one lock: nanoseconds per turn, and the ratio to a robust mutex of libc.
fn contended() {
    for (inside, outside) in [(0, 0), (100, 100)] {
        let contenders = Contenders::new();
        let (mut ours, mut robust) = (Vec::new(), Vec::new());
        for _ in 0..7 {
            ours.push(two_processes(inside, outside, |work| {
                let _guard = contenders.ours.lock().expect("nobody dies here");
                work();
            }));
            robust.push(two_processes(inside, outside, |work| {
                black_box(contenders.robust.lock());
                work();
                contenders.robust.unlock();
            }));
        }
        let mut ratios: Vec<f64> = ours.iter().zip(&robust).map(|(one, other)| one / other).collect();
        let (ours, robust, ratio) = (median(&mut ours), median(&mut robust), median(&mut ratios));
        println!(
            "lock/two-processes {inside} ns inside, {outside} ns outside: ours {ours:.1} ns a turn, \
             pthread-robust-shared {robust:.1}, ratio {ratio:.3}"
        );
    }
}

/// Runs the section in this process and in a forked one for a while; nanoseconds per section, both counted.
fn two_processes(inside: u64, outside: u64, section: impl Fn(&dyn Fn())) -> f64 {
    let page = Page::new();
    let (ready, count) = (0, 16);
    let limit = Duration::from_millis(200);
    let run = |who: usize| {
        page.add(ready, 1);
        while page.get(ready) < 2 {
            std::hint::spin_loop();
        }
        let (start, mut turns) = (Instant::now(), 0);
        while start.elapsed() < limit {
            for _ in 0..100 {
                section(&|| pass(inside));
                pass(outside);
                turns += 1;
            }
        }
        page.set(count + 16 * who, turns);
    };
    let _ = stdout().flush();
    // SAFETY: this program has one thread, and the child does nothing but work and exit.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Child => {
            run(1);
            // SAFETY: ends the child without running what belongs to the parent.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            run(0);
            if waitpid(child, None).is_err() {
                process::exit(1);
            }
        }
    }
    limit.as_secs_f64() * 1e9 / f64::from(page.get(count) + page.get(count + 16))
}

/// Spins for about `ns` nanoseconds, at the speed measured once.
fn pass(ns: u64) {
    use std::sync::OnceLock;
    static PER_MICROSECOND: OnceLock<u64> = OnceLock::new();
    if ns == 0 {
        return;
    }
    let spin = |times: u64| (0..times).for_each(|i| _ = black_box(i));
    let speed = PER_MICROSECOND.get_or_init(|| {
        let start = Instant::now();
        spin(10_000_000);
        10_000_000_000 / start.elapsed().as_nanos().max(1) as u64
    });
    spin(ns * speed / 1000);
}
