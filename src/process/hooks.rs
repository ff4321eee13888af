//! What runs at the two ends of a process's life: hooks after a fork, finalizers at a normal end.
//!
//! Hooks are registered in a list of the program's; a start holds its lock over the fork, so no copy finds it held by
//! a thread that it has not. Finalizers belong to the process that registered them: they lie on its page (`here`),
//! which a forked copy has not, so no process runs another's. They run when a child's work is done (`life`), and when
//! the program ends by exit(3), by a return from `main` too: then by a handler of atexit(3), which looks at the page of
//! the process it finds itself in.

use std::{
    cmp::Reverse,
    fmt, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, Once, PoisonError},
};

use crate::{
    os::fork,
    process::here::{self, Here},
};

pub(super) type Hook = Arc<dyn Fn() + Send + Sync>;

static HOOKS: Mutex<Vec<Hook>> = Mutex::new(Vec::new());

/// Has `hook` run in every child that this process, or one of its children, forks from now on, before the child's
/// closure: to drop what a copy must not go on with. Hooks run in the order of their registration.
///
/// It runs in the children of [`Process::spawn`](crate::Process::spawn) and its kin. One that is begun anew, or forked
/// by a fork server, is no copy, and has nothing to forget. A hook that panics is the child's panic.
///
/// # Examples
/// ```standalone_crate
/// use pshared::{Atomic, Process};
///
/// let forks = Atomic::new(0)?;
/// let counted = forks.clone();
/// pshared::after_fork(move || _ = counted.fetch_add(1));
/// Process::spawn(|| Process::spawn(|| ()).unwrap().join().unwrap())?.join()?;
/// assert_eq!(forks.get(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Python `multiprocessing.util.register_after_fork`; `os.register_at_fork`; pthread_atfork(3), whose handlers run
/// between the fork and its return, where little is allowed.
#[doc(alias = "register_after_fork")]
pub fn after_fork(hook: impl Fn() + Send + Sync + 'static) {
    held().push(Arc::new(hook));
}

/// The hooks, while this is held: over a fork.
pub(super) fn held() -> MutexGuard<'static, Vec<Hook>> {
    HOOKS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is to be done before this process ends.
pub(super) struct Finalizers(Mutex<Vec<Entry>>);

struct Entry {
    number: u64,
    priority: i32,
    action: Box<dyn FnOnce() + Send>,
}

impl Finalizers {
    pub(super) const fn new() -> Finalizers {
        Finalizers(Mutex::new(Vec::new()))
    }

    fn with<R>(&self, body: impl FnOnce(&mut Vec<Entry>) -> R) -> R {
        body(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes out what is to run next: of the highest priority, the latest.
    fn next(&self) -> Option<Entry> {
        self.with(|entries| {
            let places = 0..entries.len();
            let place =
                places.min_by_key(|&place| Reverse((entries[place].priority, entries[place].number)))?;
            Some(entries.remove(place))
        })
    }

    fn take(&self, number: u64) -> Option<Entry> {
        self.with(|entries| {
            let place = entries.iter().position(|entry| entry.number == number)?;
            Some(entries.remove(place))
        })
    }

    /// Runs all, and what they register meanwhile. A panic is the hook's to tell, and stops none of the others.
    pub(super) fn run(&self) {
        while let Some(entry) = self.next() {
            if let Err(payload) = catch_unwind(AssertUnwindSafe(entry.action)) {
                mem::forget(payload);
            }
        }
    }
}

/// Something to be done before this process ends normally: once, then or [now](Finalizer::run).
///
/// "Normally" is: a child's closure has returned or panicked; or the program returns from `main`, or calls
/// [`std::process::exit`]. Not at a death by signal, an abort, or `_exit`. The order is by priority, the highest first;
/// within one, the latest registered first. It runs in the process that registered it, never in a forked copy.
/// Dropping the handle changes nothing.
///
/// # Examples
/// ```standalone_crate
/// use pshared::{Atomic, Finalizer, Process};
///
/// let (order, total) = (Atomic::new(0)?, Atomic::new(0)?);
/// let child = Process::spawn(|| {
///     for (priority, value) in [(1, 10), (9, 20)] {
///         let (order, total) = (order.clone(), total.clone());
///         Finalizer::new(priority, move || _ = total.fetch_add(value * order.fetch_add(1)));
///     }
/// })?;
/// child.join()?;
/// assert_eq!(total.get(), 20 * 0 + 10 * 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Python `multiprocessing.util.Finalize(..., exitpriority=...)`; atexit(3).
#[doc(alias = "Finalize")]
#[doc(alias = "atexit")]
pub struct Finalizer {
    of: &'static Here,
    number: u64,
}

extern "C" fn at_exit() {
    here::here().finalizers.run();
}

impl Finalizer {
    /// Registers `action`.
    pub fn new(priority: i32, action: impl FnOnce() + Send + 'static) -> Finalizer {
        static AT_EXIT: Once = Once::new();
        AT_EXIT.call_once(|| fork::at_exit(at_exit));
        let of = here::here();
        let number = of.number_of_finalizer();
        let entry = Entry { number, priority, action: Box::new(action) };
        of.finalizers.with(|entries| entries.push(entry));
        Finalizer { of, number }
    }

    /// Does it now, and not again. False: it was done or cancelled before, or is another process's.
    pub fn run(&self) -> bool {
        let entry = self.find();
        entry.is_some_and(|entry| {
            (entry.action)();
            true
        })
    }

    /// Forgets it. False: as for [`run`](Finalizer::run).
    pub fn cancel(&self) -> bool {
        self.find().is_some()
    }

    /// Whether it is still to be done.
    #[doc(alias = "still_active")]
    pub fn is_active(&self) -> bool {
        let is_it = |entry: &Entry| entry.number == self.number;
        self.is_ours() && self.of.finalizers.with(|entries| entries.iter().any(is_it))
    }

    fn is_ours(&self) -> bool {
        std::ptr::eq(self.of, here::here())
    }

    fn find(&self) -> Option<Entry> {
        // A copy asks for no lock of its original's.
        if self.is_ours() { self.of.finalizers.take(self.number) } else { None }
    }
}

impl fmt::Debug for Finalizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Finalizer").field("is_active", &self.is_active()).finish_non_exhaustive()
    }
}
