//! A pool of two workers: maps of trivial tasks, a task there and back, and a large one.

use std::{
    hint::black_box,
    num::NonZeroUsize,
    sync::mpsc,
    time::Instant,
};

use pshared::Pool;
use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};

use crate::{
    drive::{anywhere, effort, median},
    python::python,
    rounds::{
        Kind::{Limit, Rival, Threads},
        Row,
    },
};

const WORKERS: usize = 2;
const ITEMS: u64 = 1_000_000;
/// Bytes of a large argument, and of its value.
const LARGE: usize = 1 << 20;

fn square(n: u64) -> u64 {
    n.wrapping_mul(n)
}

fn pool() -> Pool {
    let pool = Pool::builder().workers(WORKERS).build().expect("a pool");
    // Nobody's start is counted.
    pool.map_chunked(square, 0..10_000, NonZeroUsize::MIN).expect("values");
    pool
}

fn threads() -> rayon::ThreadPool {
    let threads = rayon::ThreadPoolBuilder::new().num_threads(WORKERS).build().expect("threads");
    threads.broadcast(|_| ());
    threads
}

/// Nanoseconds an item: the median of maps of a million.
fn items(mut map: impl FnMut() -> Vec<u64>) -> f64 {
    let (begun, mut figures) = (Instant::now(), Vec::new());
    while figures.len() < 3 || begun.elapsed() < effort() {
        let start = Instant::now();
        let values = black_box(map());
        figures.push(start.elapsed().as_secs_f64() * 1e9 / ITEMS as f64);
        assert_eq!((values.len() as u64, values[999]), (ITEMS, square(999)));
    }
    median(figures)
}

fn by_rayon(longest: usize) -> f64 {
    let threads = threads();
    let map = || (0..ITEMS as usize).into_par_iter().with_max_len(longest).map(|n| square(n as u64));
    items(|| threads.install(|| map().collect()))
}

/// One task at a time, there and back.
fn round_trip() -> f64 {
    let pool = pool();
    let mut n = 0;
    anywhere(|| {
        n += 1;
        let result = pool.apply_async(square, n).expect("an open pool");
        assert_eq!(result.get(), Ok(square(n)));
    })
}

fn rayon_round_trip() -> f64 {
    let threads = threads();
    let (sender, receiver) = mpsc::channel();
    let mut n = 0;
    anywhere(|| {
        n += 1;
        let sender = sender.clone();
        threads.spawn(move || sender.send(square(n)).expect("somebody waits"));
        assert_eq!(receiver.recv(), Ok(square(n)));
    })
}

fn large() -> f64 {
    let pool = pool();
    let mut own = vec![7; LARGE];
    anywhere(|| own = pool.apply(|bytes: Vec<u8>| bytes, std::mem::take(&mut own)).expect("its value"))
}

fn two_copies() -> f64 {
    let (from, mut to) = (vec![7_u8; LARGE], vec![0_u8; LARGE]);
    anywhere(|| {
        for _ in 0..2 {
            black_box(&mut to).copy_from_slice(black_box(&from));
        }
    })
}

pub fn rows() -> Vec<Row> {
    let by_one = Row::on_one("pool/map, chunks of 1", || {
        let pool = pool();
        items(|| pool.map_chunked(square, 0..ITEMS, NonZeroUsize::MIN).expect("values"))
    })
    .beside(Threads, "rayon", || by_rayon(1))
    .beside(Rival, "Python Pool", || python(&["pool", "map", "1"]));

    let by_chunks = Row::on_one("pool/map, usual chunks", || {
        let pool = pool();
        items(|| pool.map(square, 0..ITEMS).expect("values"))
    })
    .beside(Threads, "rayon", || by_rayon(usize::MAX))
    .beside(Rival, "Python Pool", || python(&["pool", "map", "usual"]));

    let trip = Row::on_one("pool/apply round trip", round_trip)
        .beside(Threads, "rayon spawn + mpsc", rayon_round_trip)
        .beside(Rival, "Python Pool", || python(&["pool", "apply"]));

    let large = Row::on_one("pool/1 MiB in and out", large)
        .beside(Limit, "two copies", two_copies)
        .beside(Rival, "Python Pool", || python(&["pool", "large"]));
    vec![by_one, by_chunks, trip, large]
}
