//! Callbacks: functions of the parent's that are given what came of a task, though there is no thread to call them.
//!
//! A thread that waits for the pool calls those that are due, whatever it waits for itself: once when it begins, and
//! each time before it sleeps, when it has asked to be rung for the tasks of all the others. No lock is held while one
//! runs. So one that never returns keeps its thread, and the pool, its workers and the other threads go on; and one
//! that panics costs nobody anything.
//!
//! | list      | what is in it                                              | left                                      |
//! |-----------|------------------------------------------------------------|-------------------------------------------|
//! | `waiting` | callbacks of tasks that were not seen to be done           | when they are, or never will be: to `due` |
//! | `due`     | callbacks with what they are to be given                   | when a thread has time: to be called      |
//!
//! # Invariants
//! - A callback is in one of the lists, or runs, or has run: it is moved under the mutex of the table, so it is called
//!   once.
//! - Nothing is in `waiting` after the pool's end was seen: what is put there later is found to be due at once.
//! - A callback holds no handle to the pool, so a pool that is dropped with callbacks in its lists is dropped.

use std::{
    cell::Cell,
    collections::VecDeque,
    fmt, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::PoisonError,
};

use crate::{
    pool::{
        error::TaskError,
        pool::Pool,
        result::{Part, Whole},
        table::{Inner, Table},
    },
    primitive::{Deadline, Relaxed},
};

/// What is called.
pub(super) type Call = Box<dyn FnOnce(Vec<Whole>) + Send>;

/// See the module.
#[derive(Default)]
pub(super) struct Callbacks {
    waiting: Vec<(Vec<Part>, Call)>,
    due: VecDeque<(Vec<Whole>, Call)>,
    running: usize,
    panicked: u64,
}

impl Callbacks {
    fn left(&self) -> usize {
        self.waiting.len() + self.due.len() + self.running
    }

    /// How many have not returned yet, and how many have panicked.
    pub(super) fn counts(&self) -> (usize, u64) {
        (self.left(), self.panicked)
    }

    pub(super) fn are_due(&self) -> bool {
        !self.due.is_empty()
    }
}

impl fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callbacks").field("left", &self.left()).field("panicked", &self.panicked).finish()
    }
}

thread_local! {
    /// Whether this thread is in a callback: then it calls no other.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

impl Pool {
    /// Calls the callbacks of tasks that are done ([`AsyncResult::then`](crate::AsyncResult::then)), and says how many.
    /// Never waits. A program that waits for the pool somewhere need not call it.
    pub fn poll(&self) -> usize {
        self.inner.call_back(false)
    }
}

impl Inner {
    /// Has `call` called with what comes of these parts: at once if that is known.
    pub(super) fn call_when_done(&self, parts: Vec<Part>, call: Call) {
        if !self.is_ours() {
            let never = |part: Part| (Err(TaskError::NotParent), part.items);
            let never = parts.into_iter().map(never).collect();
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| call(never))) {
                mem::forget(payload);
            }
            return;
        }
        let mut table = self.table();
        table.callbacks.waiting.push((parts, call));
        // ORDERING: Relaxed, a count that is changed under the mutex; who sees it too late calls nobody this time.
        self.callbacks.fetch_add(1, Relaxed);
        let newest = table.callbacks.waiting.len() - 1;
        self.gather(&mut table, newest, false);
        drop(table);
        if !INSIDE.get() {
            self.call_due();
        }
    }

    /// Calls what is due, and says how much that was. Who is about to sleep `asks` to be rung for the others; it has
    /// read the rings before, and looks once more at what it waits for if anything was called.
    pub(super) fn call_back(&self, asks: bool) -> usize {
        if self.callbacks.load(Relaxed) == 0 || INSIDE.get() || !self.is_ours() {
            return 0;
        }
        self.gather(&mut self.table(), 0, asks);
        self.call_due()
    }

    /// Calls all that are left of a pool that has ended, in a callback too: nobody else might come.
    pub(super) fn call_the_rest(&self) {
        self.gather(&mut self.table(), 0, false);
        self.call_due();
    }

    /// Moves to `due` what is done, of those from `first` on.
    pub(super) fn gather(&self, table: &mut Table, first: usize, asks: bool) {
        // Before the looks: what is settled was so before the pool's end.
        let broken = self.breakage();
        for (parts, call) in table.callbacks.waiting.split_off(first) {
            let is_done = parts.iter().all(|part| self.collect(table, part.slot, &part.inbox, asks));
            if !is_done && broken.is_none() {
                table.callbacks.waiting.push((parts, call));
                continue;
            }
            let whole = |part: Part| {
                // A part behind one that never will be may be done all the same.
                self.collect(table, part.slot, &part.inbox, false);
                let outcome = part.inbox.take().unwrap_or_else(|| {
                    self.disown_in(table, part.slot, &part.inbox);
                    Err(broken.clone().unwrap_or(TaskError::PoolClosed))
                });
                (outcome, part.items)
            };
            let wholes = parts.into_iter().map(whole).collect();
            table.callbacks.due.push_back((wholes, call));
        }
    }

    /// Calls all that is in `due`, one after the other, so that another thread may take the rest.
    fn call_due(&self) -> usize {
        let mut called = 0;
        loop {
            let mut table = self.table();
            let Some((wholes, call)) = table.callbacks.due.pop_front() else { return called };
            table.callbacks.running += 1;
            drop(table);
            let before = INSIDE.replace(true);
            let returned = catch_unwind(AssertUnwindSafe(|| call(wholes)));
            INSIDE.set(before);
            let mut table = self.table();
            table.callbacks.running -= 1;
            self.callbacks.fetch_sub(1, Relaxed);
            if let Err(payload) = returned {
                table.callbacks.panicked += 1;
                // Its destructor is foreign code, and might panic.
                mem::forget(payload);
            }
            drop(table);
            self.returned.notify_all();
            called += 1;
        }
    }

    /// Waits until all callbacks have returned, and calls those that are due; false when `deadline` came first. In a
    /// callback it waits for none.
    pub(super) fn await_callbacks(&self, deadline: Option<Deadline>) -> bool {
        if INSIDE.get() {
            return true;
        }
        let mut expired = false;
        loop {
            let rings = self.site.board.rings();
            self.call_back(true);
            let mut table = self.table();
            if table.callbacks.left() == 0 {
                return true;
            }
            if expired {
                return false;
            }
            if !table.callbacks.waiting.is_empty() {
                drop(table);
                self.site.board.await_ring(rings, deadline);
            } else if !table.callbacks.are_due() {
                // Other threads are in the last ones.
                match deadline {
                    None => {
                        table = self.returned.wait(table).unwrap_or_else(PoisonError::into_inner);
                    }
                    Some(deadline) => {
                        let waited = self.returned.wait_timeout(table, deadline.remaining());
                        table = waited.unwrap_or_else(PoisonError::into_inner).0;
                    }
                }
                drop(table);
            }
            expired = deadline.is_some_and(|deadline| deadline.has_passed());
        }
    }
}
