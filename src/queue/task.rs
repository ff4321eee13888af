//! [`Task`]: an item that was taken from a [`JoinableQueue`](crate::JoinableQueue), until it is finished.

use std::{
    cell::Cell,
    fmt,
    marker::PhantomData,
    mem,
    ops::{Deref, DerefMut},
    thread,
};

use crate::{
    primitive::{me, me_if},
    queue::tasks::{RawTasks, Taken},
};

/// An item that this thread works on. Dropped, it is finished; dropped while its thread panics, it goes back to the
/// queue. If its process or its thread ends first, however that happens, it goes back too.
///
/// A copy that a fork made is an item and nothing more: it finishes nothing.
#[must_use = "a task that is dropped at once is done at once"]
pub struct Task<'a, T> {
    item: T,
    held: Held<'a>,
}

/// The place that the item lies in, held by this thread.
pub(super) struct Held<'a> {
    tasks: &'a RawTasks,
    taken: Taken,
    identity: u64,
    /// Whether a panic means that the item was not finished: one that began while it was held.
    returns: bool,
    /// The place is held by this thread: another could not let go of it.
    _not_send: PhantomData<*const ()>,
}

// SAFETY: a shared guard gives nothing away; letting go takes the guard itself, which stays on its thread.
unsafe impl Sync for Held<'_> {}

thread_local! {
    /// How many tasks this thread has taken out of their guards.
    static KEPT: Cell<u32> = const { Cell::new(0) };
}

impl<'a> Held<'a> {
    pub(super) fn new(tasks: &'a RawTasks, taken: Taken) -> Held<'a> {
        let returns = !thread::panicking();
        Held { tasks, taken, identity: me().identity(), returns, _not_send: PhantomData }
    }

    /// The end of it, one way or the other.
    fn end(&self, finished: bool) {
        if let Some(me) = me_if(self.identity) {
            if finished {
                self.tasks.finish(me, self.taken.place);
            } else {
                self.tasks.give_back(me, self.taken.place);
            }
        }
    }

    fn end_now(self, finished: bool) {
        self.end(finished);
        mem::forget(self);
    }
}

impl Drop for Held<'_> {
    #[inline]
    fn drop(&mut self) {
        self.end(!(self.returns && thread::panicking()));
    }
}

impl<'a, T> Task<'a, T> {
    pub(super) fn new(item: T, held: Held<'a>) -> Task<'a, T> {
        Task { item, held }
    }

    /// Finishes it, also while the thread panics. It is counted as finished before this returns.
    pub fn done(self) {
        self.held.end_now(true);
    }

    /// Gives it back to the queue: somebody will get it again, with one more in [`deliveries`](Task::deliveries).
    pub fn give_back(self) {
        self.held.end_now(false);
    }

    /// How often it was handed to a taker, this time included.
    pub fn deliveries(&self) -> u32 {
        self.held.taken.deliveries
    }

    /// Takes the item out. The task stays unfinished until this thread calls
    /// [`task_done`](crate::JoinableQueue::task_done), as in Python, and goes back if the thread ends first.
    pub fn into_inner(self) -> T {
        let Task { item, held } = self;
        if me_if(held.identity).is_some() {
            KEPT.set(KEPT.get().wrapping_add(1));
            held.tasks.keep(held.taken.place, KEPT.get());
        }
        mem::forget(held);
        item
    }
}

impl<T> Deref for Task<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.item
    }
}

impl<T> DerefMut for Task<'_, T> {
    /// What is changed here is changed in this process: should the task go back, it goes back as it was sent.
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.item
    }
}

impl<T: fmt::Debug> fmt::Debug for Task<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("item", &self.item).field("deliveries", &self.deliveries()).finish()
    }
}

/// An item that was given back too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadLetter<T> {
    /// What was sent.
    pub item: T,
    /// How often it was handed to a taker.
    pub deliveries: u32,
}
