//! What the processes share, and what they say to each other.

use std::{process, thread};

use clap::ValueEnum;
use pshared::{Array, Lock, LockError, LockGuard, RegionError, Value};
use serde::{Deserialize, Serialize};

/// What was counted: plain data, so that it can lie in shared memory.
#[derive(
    Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize, bytemuck::Pod, bytemuck::Zeroable,
)]
#[repr(C)]
pub struct Sums {
    pub files: u64,
    pub bytes: u64,
    pub words: u64,
    pub binary: u64,
}

impl Sums {
    pub fn add(&mut self, other: Sums) {
        self.files += other.files;
        self.bytes += other.bytes;
        self.words += other.words;
        self.binary += other.binary;
    }

    fn take_away(&mut self, other: Sums) {
        self.files -= other.files;
        self.bytes -= other.bytes;
        self.words -= other.words;
        self.binary -= other.binary;
    }
}

/// A row for each batch, and their sum. While the lock is free the sum is that of the rows.
#[derive(Clone)]
pub struct Totals {
    lock: Lock,
    rows: Array<Sums>,
    pub sum: Value<Sums>,
}

impl Totals {
    pub fn new(batches: usize) -> Result<Totals, RegionError> {
        Ok(Totals {
            lock: Lock::new()?,
            rows: Array::zeroed(batches.max(1))?,
            sum: Value::new(Sums::default())?,
        })
    }

    /// Takes the lock, and puts right what a holder who died left half-done.
    pub fn lock(&self) -> LockGuard<'_> {
        match self.lock.lock() {
            Ok(guard) => guard,
            Err(LockError::OwnerDied(mut guard) | LockError::Poisoned(mut guard)) => {
                self.repair();
                guard.make_consistent();
                guard
            }
            Err(error) => panic!("totals: {error}"),
        }
    }

    /// A row that is half written is that of a batch not done: any value will do until it is set again.
    fn repair(&self) {
        let rows = match self.rows.lock() {
            Ok(rows) => rows,
            Err(LockError::OwnerDied(mut rows) | LockError::Poisoned(mut rows)) => {
                rows.make_consistent();
                rows
            }
            Err(error) => panic!("rows: {error}"),
        };
        let mut sum = Sums::default();
        rows.iter().for_each(|&row| sum.add(row));
        self.sum.set(sum);
        drop(rows);
    }

    /// Enters a batch: once or again, the totals come out the same. `half_way` runs when the row is set.
    pub fn enter(&self, batch: u32, counted: Sums, half_way: impl FnOnce()) {
        let _guard = self.lock();
        let before = self.rows.get(batch as usize).expect("a row for each batch");
        self.rows.set(batch as usize, counted).expect("a row for each batch");
        half_way();
        self.sum.update(|sum| {
            sum.take_away(before);
            sum.add(counted);
        });
    }
}

/// A batch to count. Paths are bytes: they need not be UTF-8.
#[derive(Serialize, Deserialize)]
pub struct Job {
    pub batch: u32,
    pub paths: Vec<Vec<u8>>,
    pub ambush: Option<Place>,
}

/// What a worker tells the parent.
#[derive(Serialize, Deserialize)]
pub enum Report {
    /// It has come to the place where it is to be killed.
    Ambushed { worker: u32 },
    /// A part of the encoded [`Counted`] of a batch. With the last one the batch is done.
    Part { worker: u32, batch: u32, last: bool, bytes: Vec<u8> },
    /// There are no jobs left, and it ends.
    Farewell { worker: u32 },
}

/// All that a batch came to.
#[derive(Serialize, Deserialize)]
pub struct Counted<'a> {
    pub sums: Sums,
    /// Files that could not be read, by their index in the job, and why.
    pub unreadable: Vec<(u32, String)>,
    #[serde(borrow)]
    pub words: Vec<(&'a str, u64)>,
}

/// Where a worker is killed on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
pub enum Place {
    /// When it has counted half of its batch
    Counting,
    /// While it holds the lock, its row entered and not yet in the sum
    Locked,
    /// When it has sent a part of its result; a pool's: when that is complete and not given yet
    Parts,
    /// At some instant before its result is complete
    Anywhere,
}

impl Place {
    pub fn by_chance() -> Place {
        Place::value_variants()[chance() as usize % Place::value_variants().len()]
    }
}

/// Waits to be killed.
pub fn stand_still() -> ! {
    loop {
        thread::park();
    }
}

/// A number that nobody needs to be able to repeat: a kill at it changes no result.
pub fn chance() -> u32 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(process::id()) as u32
}
