//! Threads and atomics by shuttle: some orders, taken at random, of as many threads and steps as one likes.
//!
//! # What it shows beside loom
//! loom tries every order, so it bears three threads that do one or two things each. Here the number of schedules is
//! given, and they are drawn by two schedulers in turn: one that chooses among all threads at each step, and one that
//! lets the foremost of a random ranking run and changes the ranking at a few random steps (PCT: Burckhardt and
//! others, ASPLOS 2010). Both are seeded, so a run can be had again: SHUTTLE_RANDOM_SEED takes another seed, and
//! PSHARED_SCHEDULES multiplies the number of schedules.
//!
//! # What it does not
//! Every access is sequentially consistent: orderings and fences are loom's to check, and so are the mutants that
//! weaken them. Two who are at a cell at once are seen, but not a handover that carries nothing.

use std::{cell::Cell, time::Duration};

#[cfg(test)]
pub(crate) use running::{TRIES, draw, method, run, shows, spawn};
pub(crate) use shuttle::{
    sync::atomic,
    thread::{Thread, current, park, yield_now},
};

/// What lies between threads, watched: who comes while another is at it panics.
#[derive(Debug)]
pub(crate) struct UnsafeCell<T> {
    /// -1 while one is changing it, and otherwise how many are reading it.
    visitors: Cell<isize>,
    value: std::cell::UnsafeCell<T>,
}

impl<T> UnsafeCell<T> {
    pub(crate) fn new(value: T) -> UnsafeCell<T> {
        UnsafeCell { visitors: Cell::new(0), value: std::cell::UnsafeCell::new(value) }
    }

    pub(crate) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        self.enter(self.visitors.get() >= 0, 1);
        let result = read(self.value.get());
        self.visitors.set(self.visitors.get() - 1);
        result
    }

    pub(crate) fn with_mut<R>(&self, change: impl FnOnce(*mut T) -> R) -> R {
        self.enter(self.visitors.get() == 0, -1);
        let result = change(self.value.get());
        self.visitors.set(0);
        result
    }

    /// Comes in, and lets others run, so that those who may be here at once will be.
    fn enter(&self, welcome: bool, as_visitor: isize) {
        assert!(welcome, "Causality violation: two at a cell at once");
        self.visitors.set(self.visitors.get() + as_visitor);
        if !std::thread::panicking() {
            shuttle::thread::sleep(Duration::ZERO);
        }
    }
}

#[cfg(test)]
mod running {
    use std::{env, sync::Arc};

    use shuttle::{
        Config, MaxSteps, Runner, rand,
        rand::Rng,
        scheduler::{PctScheduler, RandomScheduler, Scheduler},
        thread,
    };

    use crate::primitive::Mutant;

    /// How many schedules are drawn for each unit of effort, by both schedulers together.
    const SCHEDULES: usize = 100;
    /// How many times the effort is made until a fault is found.
    pub(crate) const TRIES: &[usize] = &[1, 8, 64, 256];
    /// At so many steps, less one, the ranking changes.
    const CHANGES: usize = 4;
    const SEED: u64 = 0x5eed;

    /// A closure may be anything: all threads of a model are on one thread of the machine.
    struct Body<F>(F);

    // SAFETY: shuttle runs the threads of a model in turns, on the thread that runs the model.
    unsafe impl<F> Send for Body<F> {}

    impl<F: FnOnce()> Body<F> {
        fn run(self) {
            (self.0)();
        }
    }

    /// Starts a thread.
    pub(crate) fn spawn(body: impl FnOnce() + 'static) {
        let body = Body(body);
        thread::spawn(move || body.run());
    }

    /// Runs `model` in so many orders. Preemptions are not counted.
    pub(crate) fn run(_preemptions: usize, effort: usize, model: impl Fn() + Send + Sync + 'static) {
        let model = Arc::new(model);
        let schedules = SCHEDULES / 2 * effort * factor();
        run_under(RandomScheduler::new_from_seed(SEED, schedules), model.clone());
        run_under(PctScheduler::new_from_seed(SEED, CHANGES, schedules), model);
    }

    fn run_under(scheduler: impl Scheduler + 'static, model: Arc<impl Fn() + Send + Sync + 'static>) {
        let mut config = Config::new();
        config.silence_warnings = true;
        config.stack_size = 1 << 17;
        config.max_steps = MaxSteps::FailAfter(100_000);
        Runner::new(scheduler, config).run(move || {
            // A ranking needs two: so there is always one more, who does nothing.
            thread::spawn(|| {});
            model();
        });
    }

    /// How many times as many schedules are asked for.
    fn factor() -> usize {
        let asked = env::var("PSHARED_SCHEDULES").ok();
        asked.map_or(1, |factor| factor.parse().expect("PSHARED_SCHEDULES is a number"))
    }

    /// A number below `limit`, which belongs to the schedule.
    pub(crate) fn draw(limit: usize) -> usize {
        rand::thread_rng().gen_range(0..limit)
    }

    /// Whether a fault of this kind can be seen: not if all that it does is to weaken an ordering.
    pub(crate) fn shows(fault: Mutant) -> bool {
        let name = format!("{fault:?}");
        !name.starts_with("Relaxed") && !name.ends_with("Unfenced")
    }

    /// By what orders are found.
    pub(crate) fn method(_preemptions: usize) -> String {
        "random and PCT".to_owned()
    }
}
