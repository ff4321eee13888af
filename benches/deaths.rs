//! What an operation costs after 10,000 deaths with the object in use, beside a new object of its kind, in one run.
//!
//! `cargo bench --bench deaths [NAME...]`. The ratio ought to be 1: the dead leave nothing behind that would be looked
//! through.

#[path = "support/turns.rs"]
mod turns;

use std::{env, hint::black_box, mem::forget, process, thread, time::Duration, time::Instant};

use nix::{
    sys::signal::{Signal, raise},
    sys::wait::waitpid,
    unistd::{ForkResult, fork},
};
use pshared::{
    Barrier, BoundedSemaphore, Condition, Event, Lock, LockError, Once, RLock, RwLock, RwLockError, Semaphore,
};

/// Deaths that an object has behind it.
const DEATHS: u32 = 10_000;
/// Operations in one round.
const ROUND: u32 = 5_000;
/// Rounds for each contender.
const ROUNDS: usize = 101;

/// An object: how it is used, and what one does with it that is about to die.
struct Subject {
    uses: Box<dyn Fn()>,
    dies: Box<dyn Fn()>,
}

impl Subject {
    fn new<T: Clone + 'static>(
        object: T,
        uses: impl Fn(&T) + 'static,
        dies: impl Fn(&T) + 'static,
    ) -> Subject {
        let same = object.clone();
        Subject { uses: Box::new(move || uses(&object)), dies: Box::new(move || dies(&same)) }
    }

    /// Lets so many use it and be killed.
    fn wear(&self) {
        for _ in 0..DEATHS {
            // SAFETY: this program has one thread by now.
            match unsafe { fork() }.expect("a child") {
                ForkResult::Child => {
                    (self.dies)();
                    raise(Signal::SIGKILL).expect("a signal");
                    process::abort();
                }
                ForkResult::Parent { child } => drop(waitpid(child, None).expect("its end")),
            }
        }
        // What the last of them left is put right by the next use.
        (self.uses)();
    }

    /// Nanoseconds per use in a round.
    fn round(&self) -> f64 {
        let start = Instant::now();
        for _ in 0..ROUND {
            black_box(&self.uses)();
        }
        start.elapsed().as_secs_f64() * 1e9 / f64::from(ROUND)
    }
}

/// One of each kind.
fn subjects() -> Vec<(&'static str, Subject)> {
    const TEXT: &str = "an object";
    let soon = Duration::ZERO;
    vec![
        (
            "Lock",
            Subject::new(
                Lock::new().expect(TEXT),
                |lock| match lock.lock() {
                    Ok(guard) => drop(guard),
                    Err(LockError::OwnerDied(mut guard)) => guard.make_consistent(),
                    Err(error) => panic!("{error}"),
                },
                |lock| forget(lock.lock()),
            ),
        ),
        (
            "RLock",
            Subject::new(
                RLock::new().expect(TEXT),
                |lock| match lock.lock() {
                    Ok(guard) => drop(guard),
                    Err(LockError::OwnerDied(mut guard)) => guard.make_consistent(),
                    Err(error) => panic!("{error}"),
                },
                |lock| forget((lock.lock(), lock.lock())),
            ),
        ),
        (
            "RwLock, readers die",
            Subject::new(
                RwLock::new().expect(TEXT),
                |lock| drop(lock.read().expect("a share")),
                |lock| forget(lock.read()),
            ),
        ),
        (
            "RwLock, writers die",
            Subject::new(
                RwLock::new().expect(TEXT),
                |lock| match lock.write() {
                    Ok(guard) => drop(guard),
                    Err(RwLockError::OwnerDied(mut guard)) => guard.make_consistent(),
                    Err(error) => panic!("{error}"),
                },
                |lock| forget(lock.write()),
            ),
        ),
        (
            "Semaphore, Permit",
            Subject::new(
                Semaphore::new(4).expect(TEXT),
                |semaphore| drop(semaphore.permit().expect("a permit")),
                |semaphore| forget(semaphore.permit()),
            ),
        ),
        (
            "BoundedSemaphore",
            Subject::new(
                BoundedSemaphore::new(4).expect(TEXT),
                // All of them: the permits of the dead come back when there are too few without.
                |semaphore| {
                    semaphore.acquire_many(4).expect("four permits");
                    semaphore.release_many(4).expect("four were taken");
                },
                |semaphore| forget(semaphore.permit()),
            ),
        ),
        (
            "Condition",
            Subject::new(
                {
                    let lock = Lock::new().expect(TEXT);
                    (Condition::new(&lock).expect(TEXT), lock)
                },
                move |(condition, lock)| {
                    drop(condition.wait_timeout(lock.lock().expect("the lock"), soon).expect("the lock"));
                    condition.notify_all();
                },
                move |(condition, lock)| {
                    let guard = lock.lock().expect("the lock");
                    drop(condition.wait_timeout(guard, soon).expect("the lock"));
                },
            ),
        ),
        (
            "Event",
            Subject::new(
                Event::new().expect(TEXT),
                |event| {
                    event.set();
                    event.clear();
                },
                move |event| _ = event.wait_timeout(soon),
            ),
        ),
        (
            "Barrier",
            Subject::new(
                Barrier::new(1).expect(TEXT),
                |barrier| _ = barrier.wait().expect("a barrier of one"),
                |barrier| _ = barrier.wait().expect("a barrier of one"),
            ),
        ),
        (
            "Once",
            Subject::new(
                Once::new().expect(TEXT),
                |once| _ = black_box(once.call_once(|| ())),
                |once| _ = once.call_once(|| _ = raise(Signal::SIGKILL)),
            ),
        ),
    ]
}

fn main() {
    if env::args().any(|argument| argument == "--test" || argument == "--list") {
        return;
    }
    // Every contender is measured in a program that has had a second thread: some libcs take short cuts before.
    thread::spawn(|| ()).join().expect("an empty thread");
    let wanted: Vec<String> = env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    for ((name, new), (_, worn)) in subjects().into_iter().zip(subjects()) {
        if !wanted.is_empty() && !wanted.iter().any(|word| name.contains(word.as_str())) {
            continue;
        }
        worn.wear();
        (new.uses)();
        let both: [turns::Contender<'_>; 2] = [("new", &|| new.round()), ("worn", &|| worn.round())];
        let times = turns::take(ROUNDS, &both, 0);
        turns::report(&format!("deaths/{name}"), "ns", &["new", "after 10,000 deaths"], &times, 0, 1);
    }
}
