//! What a task of a pool costs beside rayon's threads, in one run.
//!
//! `cargo bench --bench pool [NAME...]`. Two workers and two threads, on the same two CPUs. rayon's `with_max_len(1)`
//! is the counterpart of chunks of one item: each item is a job that another thread can take. The figures of the maps
//! are nanoseconds an item; what counts is the median, over rounds that take turns, of the ratio within a round.

#[path = "support/turns.rs"]
mod turns;

use std::{
    env,
    hint::black_box,
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use pshared::Pool;
use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};

const ITEMS: u64 = 1_000_000;
const WORKERS: usize = 2;

fn square(n: u64) -> u64 {
    n.wrapping_mul(n)
}

/// Nanoseconds for each of `count`.
fn each(count: u64, run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_secs_f64() * 1e9 / count as f64
}

fn maps(pool: &Pool, threads: &rayon::ThreadPool) {
    let by_one = || each(ITEMS, || drop(black_box(pool.map_chunked(square, 0..ITEMS, NonZeroUsize::MIN))));
    let by_chunks = || each(ITEMS, || drop(black_box(pool.map(square, 0..ITEMS))));
    let rayon_by_one = || {
        each(ITEMS, || {
            let map = || (0..ITEMS as usize).into_par_iter().with_max_len(1).map(|n| square(n as u64));
            drop(black_box(threads.install(|| map().collect::<Vec<u64>>())));
        })
    };
    let contenders: [turns::Contender<'_>; 3] = [
        ("rayon, max_len 1", &rayon_by_one),
        ("pool, chunks of 1", &by_one),
        ("pool, usual chunks", &by_chunks),
    ];
    let times = turns::take(11, &contenders, 0);
    let names = contenders.map(|(name, _)| name);
    turns::report("map of 10^6, chunks of 1", "ns", &names, &times, 0, 1);
    turns::report("map of 10^6, usual chunks", "ns", &names, &times, 0, 2);
}

/// One task at a time, there and back.
fn round_trip(pool: &Pool) {
    const TRIPS: u64 = 100_000;
    let trips = || {
        each(TRIPS, || {
            for n in 0..TRIPS {
                black_box(pool.apply_async(square, n).and_then(|result| result.get()).unwrap());
            }
        })
    };
    let mut times: Vec<f64> = (0..11).map(|_| trips()).collect();
    times.sort_by(f64::total_cmp);
    println!("apply_async and get: {:.0} ns a round trip (best {:.0})", times[5], times[0]);
}

/// A mebibyte in and out, beside two copies of it.
fn large(pool: &Pool) {
    const SIZE: usize = 1 << 20;
    const TIMES: u64 = 200;
    let bytes = vec![7_u8; SIZE];
    let tasks = || {
        let mut own = bytes.clone();
        each(TIMES, || {
            for _ in 0..TIMES {
                own = pool.apply(|bytes: Vec<u8>| bytes, std::mem::take(&mut own)).unwrap();
            }
        })
    };
    let copies = || {
        let mut other = vec![0_u8; SIZE];
        each(TIMES, || {
            for _ in 0..TIMES {
                black_box(&mut other).copy_from_slice(black_box(&bytes));
                black_box(&mut other).copy_from_slice(black_box(&bytes));
            }
        })
    };
    let contenders: [turns::Contender<'_>; 2] = [("two copies", &copies), ("a task", &tasks)];
    let times = turns::take(7, &contenders, 0);
    turns::report("1 MiB in and out", "ns", &["two copies", "a task"], &times, 0, 1);
}

/// Starts, and ends.
fn life() {
    let mut times: Vec<f64> = (0..21)
        .map(|_| {
            each(1, || {
                let pool = Pool::builder().workers(WORKERS).build().unwrap();
                assert_eq!(pool.apply(square, 2), Ok(4));
            })
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!(
        "a pool from its start, through a task, to its end: {:?}",
        Duration::from_nanos(times[10] as u64)
    );
}

fn main() {
    let names: Vec<String> = env::args().skip(1).filter(|name| !name.starts_with('-')).collect();
    let asked = |name: &str| names.is_empty() || names.iter().any(|asked| name.contains(asked.as_str()));
    // Before there are threads.
    let pool = Pool::builder().workers(WORKERS).build().unwrap();
    if asked("life") {
        life();
    }
    if asked("trip") {
        round_trip(&pool);
    }
    if asked("large") {
        large(&pool);
    }
    if asked("map") {
        let threads = rayon::ThreadPoolBuilder::new().num_threads(WORKERS).build().unwrap();
        maps(&pool, &threads);
    }
}
