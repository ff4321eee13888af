//! The kernel's part of a model: who sleeps where, who holds what, and what happens when a thread dies.
//!
//! loom runs the threads of a model in turns on one thread of the machine and switches only at loom's own operations.
//! So a plain table that no loom operation interrupts is one event, and costs loom no branch. Each event begins with
//! one read-modify-write of the word it is about, by which loom knows that the order of two events matters.
//!
//! Sources: kernel/futex/ (futex_wait_setup, futex_wake, futex_wake_op, exit_robust_list, handle_futex_death).

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
};

use super::{
    AcqRel, Deadline, FutexWord, Me, OWNER_DIED, Relaxed, TID_MASK, WAITERS, Wake,
    backend::{self, Thread},
};

thread_local! {
    static KERNEL: RefCell<Kernel> = const { RefCell::new(Kernel::new()) };
    static LOADS_COUNT: Cell<bool> = const { Cell::new(false) };
    static HEAVY_FENCES: Cell<bool> = const { Cell::new(true) };
    static NEWEST_FIRST: Cell<bool> = const { Cell::new(false) };
}

/// Whether the words of this model make the order of their loads count.
pub(super) fn loads_count() -> bool {
    LOADS_COUNT.get()
}

/// See [`loads_count`].
pub(super) fn set_loads_count(count: bool) {
    LOADS_COUNT.set(count);
}

/// Whether the modelled system has fences that reach other threads.
pub(super) fn has_heavy_fences() -> bool {
    HEAVY_FENCES.get()
}

/// See [`has_heavy_fences`].
pub(super) fn set_heavy_fences(heavy: bool) {
    HEAVY_FENCES.set(heavy);
}

/// Whether a wake is for who slept last, as if each newcomer had a higher priority; otherwise for who slept first.
pub(super) fn set_newest_first(newest: bool) {
    NEWEST_FIRST.set(newest);
}

/// What there is in one execution of a model.
struct Kernel {
    tasks: Vec<Task>,
    /// Who sleeps on which word, in the order of coming.
    queue: VecDeque<Sleeper>,
    /// Whether anybody has died.
    death: bool,
}

/// A task in the queue of a word, which is the task's own n-th.
struct Sleeper {
    word: *const FutexWord,
    task: usize,
    place: usize,
}

/// A thread, from its first access to its death. A loom thread that died and goes on is another one.
struct Task {
    thread: Thread,
    tid: u32,
    gone: bool,
    /// Steps until it dies, if it is to.
    fuel: Option<usize>,
    pending: Option<Arc<FutexWord>>,
    /// Oldest first.
    linked: Vec<Arc<FutexWord>>,
    /// The present sleep has a deadline.
    limited: bool,
    /// In the scheduler's hands until `ending` is set.
    parked: bool,
    ending: Option<Ending>,
    /// Of the words that woke it, the last in its own order.
    woken_by: usize,
}

/// How a sleep is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// By a wake, which is spent on the sleeper.
    Woken,
    /// By its deadline, if it has one.
    TimedOut,
    /// By a signal handler.
    Interrupted,
    /// By SIGKILL, if the sleeper runs under [`die_after`].
    Killed,
}

/// What the exit walk did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Died {
    /// Words that the dead owned: marked OWNER_DIED.
    pub(crate) marked: usize,
}

/// The payload of an unwinding that is a death.
struct Killed;

impl Kernel {
    const fn new() -> Kernel {
        Kernel { tasks: Vec::new(), queue: VecDeque::new(), death: false }
    }

    /// The calling thread's task.
    fn current(&mut self) -> usize {
        let thread = backend::current();
        let known = self.tasks.iter().rposition(|task| !task.gone && task.thread.id() == thread.id());
        known.unwrap_or_else(|| {
            self.tasks.push(Task {
                thread,
                tid: self.tasks.len() as u32 + 1,
                gone: false,
                fuel: None,
                pending: None,
                linked: Vec::new(),
                limited: false,
                parked: false,
                ending: None,
                woken_by: 0,
            });
            self.tasks.len() - 1
        })
    }

    fn me(&mut self) -> &mut Task {
        let current = self.current();
        &mut self.tasks[current]
    }

    fn leave_queue(&mut self, task: usize) {
        self.queue.retain(|sleeper| sleeper.task != task);
    }

    /// Ends the sleep of the first sleeper of `word` whom `ending` can meet, if there is one, and puts its thread among
    /// the `roused` if that is to be unparked. One that sleeps on several words leaves the other queues when it runs:
    /// until then a wake may be spent on it there too.
    fn end_first(&mut self, word: *const FutexWord, ending: Ending, roused: &mut Vec<Thread>) -> bool {
        let tasks = &self.tasks;
        let can_meet = |task: &Task| match ending {
            Ending::Woken => true,
            Ending::Interrupted => task.ending.is_none(),
            Ending::TimedOut => task.ending.is_none() && task.limited,
            Ending::Killed => task.ending.is_none() && task.fuel.is_some(),
        };
        let meets = |at: &Sleeper| at.word == word && can_meet(&tasks[at.task]);
        let first = match NEWEST_FIRST.get() {
            false => self.queue.iter().position(meets),
            true => self.queue.iter().rposition(meets),
        };
        let Some(first) = first else { return false };
        let Sleeper { task, place, .. } = self.queue[first];
        if ending == Ending::Woken {
            self.queue.remove(first);
            self.tasks[task].woken_by = self.tasks[task].woken_by.max(place);
        } else {
            self.leave_queue(task);
        }
        let task = &mut self.tasks[task];
        task.ending = Some(ending);
        if task.parked {
            task.parked = false;
            roused.push(task.thread.clone());
        }
        true
    }
}

fn with<R>(f: impl FnOnce(&mut Kernel) -> R) -> R {
    KERNEL.with(|kernel| f(&mut kernel.borrow_mut()))
}

/// Forgets everything: at the start of each execution.
pub(crate) fn reset() {
    with(|kernel| *kernel = Kernel::new());
}

/// Whether anybody died in this execution.
pub(crate) fn anybody_died() -> bool {
    with(|kernel| kernel.death)
}

/// Takes one step of the calling thread's fuel. A thread that has fuel but none left dies here. False means that the
/// thread is unwinding and must not touch anything.
pub(super) fn step() -> bool {
    if std::thread::panicking() {
        return false;
    }
    let dies = with(|kernel| match &mut kernel.me().fuel {
        None => false,
        Some(0) => true,
        Some(left) => {
            *left -= 1;
            false
        }
    });
    if dies { die() } else { true }
}

/// A place between two plain writes where a thread on fuel may die: a step that touches nothing.
pub(crate) fn crash_point() {
    step();
}

fn die() -> ! {
    with(|kernel| kernel.death = true);
    resume_unwind(Box::new(Killed))
}

/// Runs `operation` until it takes a step too many: `steps` are done and the next is not. Then the calling thread is
/// dead: its stack unwinds without touching anything, the kernel looks through its list, and what runs on after this
/// call is a new thread with a TID of its own. `steps` of `usize::MAX` dies by [`end_sleep`] only.
pub(crate) fn die_after<T>(steps: usize, operation: impl FnOnce() -> T) -> Result<T, Died> {
    with(|kernel| kernel.me().fuel = Some(steps));
    let result = catch_unwind(AssertUnwindSafe(operation));
    match result {
        Ok(value) => {
            with(|kernel| kernel.me().fuel = None);
            Ok(value)
        }
        Err(payload) if payload.is::<Killed>() => Err(bury()),
        Err(failure) => resume_unwind(failure),
    }
}

/// The end of the calling thread: what the kernel does for its list, newest entry first, and for its pending slot.
/// What runs on after this call is a new thread.
pub(crate) fn bury() -> Died {
    let (tid, linked, pending) = with(|kernel| {
        let task = kernel.me();
        task.gone = true;
        (task.tid, std::mem::take(&mut task.linked), task.pending.take())
    });
    let mut marked = 0;
    for word in linked.iter().rev() {
        if !pending.as_ref().is_some_and(|pending| Arc::ptr_eq(pending, word)) {
            marked += usize::from(handle_death(word, tid, false));
        }
    }
    if let Some(word) = pending {
        marked += usize::from(handle_death(&word, tid, true));
    }
    Died { marked }
}

/// Looks at one word of the dead. Says whether it was the dead one's own.
fn handle_death(word: &FutexWord, tid: u32, pending: bool) -> bool {
    // A plain read. It cannot be wrong about `tid`, which only the dead one's own exchanges bring and take.
    let owner = word.0.word.load(Relaxed) & TID_MASK;
    if owner != tid {
        if pending && owner == 0 {
            wake(word, 1);
        }
        return false;
    }
    // Takes the TID out and puts OWNER_DIED in, and keeps WAITERS, which others may set meanwhile.
    let before = word.0.word.fetch_xor(tid ^ OWNER_DIED, AcqRel);
    assert!(before & !WAITERS == tid, "the word of an owner is its TID and WAITERS, not {before:#x}");
    if before & WAITERS != 0 {
        wake(word, 1);
    }
    true
}

/// One FUTEX_WAIT, or one futex_waitv: each word is compared and queued in one event, one word after the other; then
/// `also` are compared.
pub(super) fn sleep(
    words: &[(&FutexWord, u32)],
    also: &[(&FutexWord, u32)],
    deadline: Option<Deadline>,
) -> Wake {
    if !step() {
        return Wake::Interrupted;
    }
    let me = with(|kernel| {
        let me = kernel.current();
        kernel.tasks[me].ending = None;
        kernel.tasks[me].woken_by = 0;
        kernel.tasks[me].limited = deadline.is_some();
        me
    });
    for (place, &(word, expected)) in words.iter().chain(also).enumerate() {
        let seen = word.newest();
        let goes_on = with(|kernel| {
            // Woken by an earlier word already?
            let goes_on = kernel.tasks[me].ending.is_none() && seen == expected;
            if !goes_on {
                kernel.leave_queue(me);
            } else if place < words.len() {
                kernel.queue.push_back(Sleeper { word, task: me, place });
            }
            goes_on
        });
        if !goes_on {
            return ended(me).unwrap_or(Wake::Changed);
        }
    }
    with(|kernel| kernel.tasks[me].parked = true);
    loop {
        backend::park();
        if let Some(ended) = ended(me) {
            return ended;
        }
    }
}

/// How the sleep of `task`, which is the caller's, was ended, if it was.
fn ended(task: usize) -> Option<Wake> {
    let (ending, woken_by) = with(|kernel| {
        let ending = kernel.tasks[task].ending.take();
        if ending.is_some() {
            kernel.leave_queue(task);
        }
        ending.map(|ending| (ending, kernel.tasks[task].woken_by))
    })?;
    match ending {
        Ending::Woken => Some(Wake::Woken(woken_by)),
        Ending::TimedOut => Some(Wake::TimedOut),
        Ending::Interrupted => Some(Wake::Interrupted),
        Ending::Killed => die(),
    }
}

/// One FUTEX_WAKE.
pub(super) fn wake(word: &FutexWord, count: u32) -> u32 {
    word.newest();
    rouse(word, count)
}

/// The waking part of an event that has changed or read `word` just now.
pub(super) fn rouse(word: &FutexWord, count: u32) -> u32 {
    let mut roused = Vec::new();
    let woken = with(|kernel| {
        let mut woken = 0;
        while woken < count && kernel.end_first(word, Ending::Woken, &mut roused) {
            woken += 1;
        }
        woken
    });
    unpark(roused);
    woken
}

/// Lets those run whose sleep has ended. Other threads may run between two of them, and the table shows them awake.
fn unpark(roused: Vec<Thread>) {
    for thread in roused {
        thread.unpark();
    }
}

/// Ends the sleep of whoever has slept longest on `word`, other than by a wake. False if nobody sleeps there whom
/// `ending` can meet: the caller then goes on without it, and loom tries the order in which somebody does.
pub(crate) fn end_sleep(word: &FutexWord, ending: Ending) -> bool {
    word.newest();
    let mut roused = Vec::new();
    let ended = with(|kernel| kernel.end_first(word, ending, &mut roused));
    unpark(roused);
    ended
}

/// The calling thread's TID, by order of first access. The unwinding have none.
pub(super) fn tid() -> u32 {
    if std::thread::panicking() { 0 } else { with(|kernel| kernel.me().tid) }
}

pub(super) fn held(_me: Me) -> u32 {
    if std::thread::panicking() { 0 } else { with(|kernel| kernel.me().linked.len() as u32) }
}

pub(super) fn set_pending(me: Me, word: Option<Arc<FutexWord>>) {
    on_list(me, |task| task.pending = word);
}

pub(super) fn link(me: Me, word: Arc<FutexWord>) {
    on_list(me, |task| task.linked.push(word));
}

pub(super) fn unlink(me: Me, word: &Arc<FutexWord>) {
    on_list(me, |task| {
        let place = task.linked.iter().position(|linked| Arc::ptr_eq(linked, word));
        task.linked.remove(place.expect("an unlinked word was linked"));
    });
}

/// One store to the calling thread's list or pending slot.
fn on_list(me: Me, store: impl FnOnce(&mut Task)) {
    if step() {
        with(|kernel| {
            let task = kernel.me();
            assert!(task.tid == me.tid, "thread {} acts as thread {}", task.tid, me.tid);
            store(task);
        });
    }
}

#[cfg(test)]
mod tests {
    //! The model of the kernel itself, on words without a lock.

    use super::*;
    use crate::primitive::{
        Acquire, Change, Mutant, Release, RobustWord, me,
        model::explore::{every_death, explore, fails_with, spawn},
        wait_any,
    };

    /// A thread that sleeps until `word` is not 0.
    fn sleeper(word: &Arc<FutexWord>) -> impl FnOnce() + use<> {
        let word = word.clone();
        move || {
            while word.load(Acquire) == 0 {
                word.wait(0, None);
            }
        }
    }

    #[test]
    fn a_change_with_a_wake_reaches_every_sleeper_and_no_death_parts_them() {
        every_death("two sleepers, one who changes and wakes", 4, |fuel| {
            let word = Arc::new(FutexWord::new(0));
            let sleepers = [(); 2].map(|()| spawn(sleeper(&word)));
            if die_after(fuel, || word.change_and_wake(Change::Add(1), u32::MAX)).is_err() {
                word.change_and_wake(Change::StoreBit(WAITERS), u32::MAX);
            }
            sleepers.into_iter().for_each(|sleeper| sleeper.join());
        });
    }

    #[test]
    fn a_death_between_a_change_and_its_wake_is_a_lost_wake_up() {
        let said = fails_with(Mutant::None, || {
            every_death("a sleeper, one who changes and then wakes", 4, |fuel| {
                let word = Arc::new(FutexWord::new(0));
                let asleep = spawn(sleeper(&word));
                let done = die_after(fuel, || {
                    word.store(1, Release);
                    word.wake(1);
                });
                if done.is_err() && word.load(Acquire) == 0 {
                    word.change_and_wake(Change::SetBit(1), 1);
                }
                asleep.join();
            });
        });
        assert!(said.contains("death after 1 steps: deadlock"), "{said}");
    }

    #[test]
    fn a_sleeper_on_two_words_wakes_by_either() {
        for both in [false, true] {
            explore("a sleeper on two words", 4, move || {
                let words = [(); 2].map(|()| Arc::new(FutexWord::new(0)));
                let asleep = spawn({
                    let [first, second] = words.clone();
                    move || {
                        while first.load(Acquire) == 0 && second.load(Acquire) == 0 {
                            wait_any(&[(&first, 0), (&second, 0)], None);
                        }
                    }
                });
                if both {
                    words[0].change_and_wake_both(Change::SetBit(1), &words[1]);
                } else {
                    words[1].change_and_wake(Change::SetBit(1), 1);
                }
                asleep.join();
            });
        }
    }

    /// Pending on a word whose owner part is 0: one sleeper wakes, the word stays.
    #[test]
    fn a_pending_word_without_an_owner_rings_at_a_death() {
        explore("a bell that the kernel rings", 4, || {
            let bell = Arc::new(RobustWord::new());
            bell.store(WAITERS, Release);
            let asleep = spawn({
                let bell = bell.clone();
                move || bell.wait(WAITERS, None)
            });
            let dead = spawn({
                let bell = bell.clone();
                move || bell.announce(me())
            });
            dead.join();
            assert_eq!(bell.load(Acquire), WAITERS);
            // The sleeper came too late for the death, or was woken by it.
            end_sleep(&bell, Ending::Interrupted);
            bell.store(0, Release);
            if bell.wake(1) == 1 {
                assert_eq!(asleep.join(), Wake::Woken(0));
            } else {
                asleep.join();
            }
        });
    }

    #[test]
    fn the_unwinding_of_the_dead_touches_nothing() {
        explore("a Drop impl that stores", 4, || {
            struct Meddler(Arc<FutexWord>);
            impl Drop for Meddler {
                fn drop(&mut self) {
                    self.0.store(7, Release);
                    self.0.wake(1);
                }
            }
            let word = Arc::new(FutexWord::new(0));
            let before = me().tid();
            let died = die_after(1, || {
                let meddler = Meddler(word.clone());
                meddler.0.load(Acquire);
                meddler.0.load(Acquire);
            });
            assert_eq!((died, word.load(Acquire)), (Err(Died { marked: 0 }), 0));
            assert_ne!(before, me().tid());
        });
    }
}
