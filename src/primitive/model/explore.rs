//! How models are run: over every order, over every death, and with a fault put back in.
//!
//! ```text
//! explore("two turns", 4, || { ... });                   every order with at most 4 preemptions
//! every_death("turn", 4, |fuel| {                        the same for a victim that dies before its 1st step, its
//!     let victim = spawn(move || die_after(fuel, ...));  2nd, ..., until it has enough fuel in every order
//!     ...
//!     victim.join();
//! });
//! let said = fails_with(Mutant::X, || every_death(...)); the fault must be found; what loom said about it
//! ```
//!
//! `cargo loom --nocapture` prints how many orders each took. LOOM_MAX_PREEMPTIONS overrides the bounds.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    fmt,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind, set_hook, take_hook},
    rc::Rc,
    sync::Once,
    time::Instant,
};

use super::{
    SeqCst,
    backend::{self, Thread},
    fence, kernel,
};
use crate::primitive::{Mutant, set_mutant};

/// How much a backend does that cannot try every order: for one model, for each death in it, and for a crowd.
const EFFORT: usize = 8;
const EFFORT_OF_A_DEATH: usize = 1;
#[cfg(feature = "shuttle")]
const EFFORT_OF_A_CROWD: usize = 40;

thread_local! {
    static ORDERS: Cell<u64> = const { Cell::new(0) };
    static DEATH: Cell<bool> = const { Cell::new(false) };
    static QUIET: Cell<bool> = const { Cell::new(false) };
    /// How many times the effort is made.
    static TIMES: Cell<usize> = const { Cell::new(1) };
}

/// Runs `model` in every order with at most `preemptions` of them. A wake-up that got lost is a deadlock, which loom
/// reports by a panic, like a data race and a failed assertion.
pub(crate) fn explore(name: &str, preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let began = Instant::now();
    ORDERS.set(0);
    run(preemptions, EFFORT, model);
    report(name, preemptions, began);
}

/// [`explore`]s `model` for a victim with fuel for 0 steps, for 1, and so on, until nobody dies in any order.
pub(crate) fn every_death(
    name: &str,
    preemptions: usize,
    model: impl Fn(usize) + Clone + Send + Sync + 'static,
) {
    let began = Instant::now();
    ORDERS.set(0);
    for fuel in 0.. {
        DEATH.set(false);
        let model = model.clone();
        let result =
            catch_unwind(AssertUnwindSafe(|| run(preemptions, EFFORT_OF_A_DEATH, move || model(fuel))));
        if let Err(failure) = result {
            resume_unwind(Box::new(format!("death after {fuel} steps: {}", text(&*failure))));
        }
        if !DEATH.get() {
            report(&format!("{name}, deaths after 0 to {} steps", fuel - 1), preemptions, began);
            return;
        }
    }
}

/// Runs `models` with the order of loads counting as well: see `Loads`.
pub(crate) fn every_load(models: impl FnOnce()) {
    kernel::set_loads_count(true);
    let result = catch_unwind(AssertUnwindSafe(models));
    kernel::set_loads_count(false);
    result.unwrap_or_else(|failure| resume_unwind(failure));
}

/// Runs `models` on a system without heavy fences.
pub(crate) fn without_heavy_fences(models: impl FnOnce()) {
    kernel::set_heavy_fences(false);
    let result = catch_unwind(AssertUnwindSafe(models));
    kernel::set_heavy_fences(true);
    result.unwrap_or_else(|failure| resume_unwind(failure));
}

/// Runs `models` with wakes going to who slept last instead of first: the kernel wakes by priority.
pub(crate) fn newest_first(models: impl FnOnce()) {
    kernel::set_newest_first(true);
    let result = catch_unwind(AssertUnwindSafe(models));
    kernel::set_newest_first(false);
    result.unwrap_or_else(|failure| resume_unwind(failure));
}

/// Runs `model` with `fault` put in, asserts that it fails, and returns what it failed with. Where the backend cannot
/// show a fault of its kind, it must not fail, and nothing is said.
pub(crate) fn fails_with(fault: Mutant, model: impl Fn()) -> Said {
    keep_quiet();
    let shows = backend::shows(fault);
    let tries = if shows { backend::TRIES } else { &[1] };
    set_mutant(fault);
    QUIET.set(true);
    let failure = tries.iter().find_map(|&times| {
        TIMES.set(times);
        catch_unwind(AssertUnwindSafe(&model)).err()
    });
    TIMES.set(1);
    QUIET.set(false);
    set_mutant(Mutant::None);
    let said = failure.map(|failure| text(&*failure).lines().next().unwrap_or_default().to_owned());
    assert_eq!(said.is_some(), shows, "whether the model sees {fault:?}: {said:?}");
    println!("{fault:?} after {} orders: {said:?}", ORDERS.get());
    Said(said)
}

/// What a failure said, if one could be had.
pub(crate) struct Said(Option<String>);

impl Said {
    /// Whether it spoke of `matter`, if it spoke.
    pub(crate) fn contains(&self, matter: &str) -> bool {
        self.0.as_ref().is_none_or(|said| said.contains(matter))
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_deref().unwrap_or("nothing"))
    }
}

fn run(preemptions: usize, effort: usize, model: impl Fn() + Send + Sync + 'static) {
    backend::run(preemptions, effort * TIMES.get(), move || {
        ORDERS.set(ORDERS.get() + 1);
        kernel::reset();
        model();
        if kernel::anybody_died() {
            DEATH.set(true);
        }
    });
}

fn report(name: &str, preemptions: usize, began: Instant) {
    let seconds = began.elapsed().as_secs_f32();
    println!("{name}: {}, {} orders, {seconds:.1} s", backend::method(preemptions), ORDERS.get());
}

fn text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("a panic without words")
}

/// Panics of threads that expect one are not printed.
fn keep_quiet() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let print = take_hook();
        set_hook(Box::new(move |info| {
            if !QUIET.get() {
                print(info);
            }
        }));
    });
}

/// A thread of a model. (loom's own handle prints a line at every join.)
pub(crate) struct Joiner<T> {
    result: Rc<RefCell<Option<T>>>,
    end: Rc<End>,
}

/// Starts a thread. At its end the kernel looks through its list, as at any thread's end.
pub(crate) fn spawn<T: 'static>(body: impl FnOnce() -> T + 'static) -> Joiner<T> {
    let joiner = Joiner { result: Rc::default(), end: Rc::default() };
    let (result, end) = (joiner.result.clone(), joiner.end.clone());
    backend::spawn(move || {
        let value = body();
        kernel::bury();
        *result.borrow_mut() = Some(value);
        end.reach();
    });
    joiner
}

impl<T> Joiner<T> {
    /// Waits for the end of the thread, after which all that it did is seen.
    pub(crate) fn join(self) -> T {
        self.end.wait();
        self.result.take().expect("a thread that is done has a result")
    }
}

/// The end of a thread. Whether it comes before or after the join makes no difference to anybody, so loom need not
/// try both: nothing here is a loom object. The fences carry the edge if the end comes first, `unpark` if it does not.
#[derive(Default)]
struct End {
    reached: Cell<bool>,
    waiting: RefCell<Option<Thread>>,
}

impl End {
    fn reach(&self) {
        fence(SeqCst);
        self.reached.set(true);
        if let Some(waiting) = self.waiting.take() {
            waiting.unpark();
        }
    }

    fn wait(&self) {
        while !self.reached.get() {
            self.waiting.replace(Some(backend::current()));
            backend::park();
        }
        fence(SeqCst);
    }
}

#[cfg(feature = "shuttle")]
pub(crate) mod crowds {
    //! More threads than loom bears, several of which may die.

    use std::time::Instant;

    use super::{EFFORT_OF_A_CROWD, Joiner, ORDERS, report, run, spawn};
    use crate::primitive::model::{
        backend::draw,
        kernel::{Died, die_after},
    };

    /// How many there are.
    pub(crate) const CROWD: usize = 8;

    /// Runs `model` in many orders.
    pub(crate) fn crowd(name: &str, model: impl Fn() + Send + Sync + 'static) {
        let began = Instant::now();
        ORDERS.set(0);
        run(0, EFFORT_OF_A_CROWD, model);
        report(name, 0, began);
    }

    /// Starts a thread of which the schedule says whether it dies, and after how many steps: fewer than `steps`.
    pub(crate) fn mortal<T: 'static>(
        steps: usize,
        body: impl FnOnce() -> T + 'static,
    ) -> Joiner<Result<T, Died>> {
        let fuel = draw_fuel(2, steps);
        spawn(move || die_after(fuel, body))
    }

    /// Fuel for one of whom one in `odds` dies, in fewer than `steps` steps.
    pub(crate) fn draw_fuel(odds: usize, steps: usize) -> usize {
        if draw(odds) == 0 { draw(steps) } else { usize::MAX }
    }
}
