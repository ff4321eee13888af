//! The parent's side of a pool: which slots are free, who waits for what, and how results are taken home.
//!
//! It is private to the parent, behind a mutex of its own; what it knows of other processes stands in the board. There
//! is no helper thread: whoever waits for a task looks for it; and whoever needs a slot moves out of the slots what is
//! settled in them, for whomever.
//!
//! A thread that sleeps has set RING in every slot that it waits for, and sleeps on the one bell: see `board.rs`.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    pool::{
        board::Orders,
        callback::Callbacks,
        carry::Carried,
        column::Column,
        error::TaskError,
        keeper,
        limits::TaskLimits,
        site::{Side, Site, Trouble},
        word::{CANCEL, Form, State, Word},
    },
    primitive::{AtomicU64, Deadline, Relaxed, SPINS, lineage, spin_hint},
    process::Child,
};

/// How much memory of the store free slots keep for the next, in bytes.
const KEPT: u64 = 32 << 20;

/// How it stands with new tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Open,
    Closed,
    Terminated,
}

/// Whose a slot is.
#[derive(Debug)]
enum Holder {
    Free,
    /// A call's that looks after it itself.
    Call,
    /// An `AsyncResult`'s.
    Task(Arc<Inbox>),
    /// Nobody waits for it any more.
    Abandoned,
}

/// What was moved out of a slot.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) word: Word,
    pub(super) cell: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) task: u64,
}

/// Where the outcome of a task goes that was moved out.
#[derive(Debug, Default)]
pub(super) struct Inbox(Mutex<Option<Result<Outcome, TaskError>>>);

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Option<Result<Outcome, TaskError>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_filled(&self) -> bool {
        self.lock().is_some()
    }

    pub(super) fn take(&self) -> Option<Result<Outcome, TaskError>> {
        self.lock().take()
    }
}

#[derive(Debug)]
pub(super) struct Table {
    holders: Vec<Holder>,
    /// The number of each slot's task.
    tasks: Vec<u64>,
    /// Bytes of the store that each slot keeps, and all of them.
    kept: Vec<u64>,
    all_kept: u64,
    /// The free slots, that which was used last at the end: so few tasks use little memory.
    free: Vec<usize>,
    /// The number of the function that stands in each slot.
    functions: Vec<u64>,
    next: u64,
    /// Threads that wait for a slot.
    waiting: usize,
    pub(super) callbacks: Callbacks,
    pub(super) stage: Stage,
    pub(super) done: u64,
    pub(super) failed: u64,
}

impl Table {
    /// The slots of tasks that were not moved out.
    pub(super) fn uncollected(&self) -> impl Iterator<Item = usize> + '_ {
        let is_tasks = |slot: &usize| matches!(self.holders[*slot], Holder::Task(_) | Holder::Abandoned);
        (0..self.holders.len()).filter(is_tasks)
    }

    /// Whether that task is in that slot still.
    fn is_task(&self, slot: usize, inbox: &Arc<Inbox>) -> bool {
        matches!(&self.holders[slot], Holder::Task(other) if Arc::ptr_eq(other, inbox))
    }
}

/// How long to wait for a slot.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wait {
    No,
    Forever,
}

/// Why there is no slot.
#[derive(Debug)]
pub(super) enum NoSlot {
    Full,
    Failed(TaskError),
}

impl From<NoSlot> for TaskError {
    /// For who has waited.
    fn from(refused: NoSlot) -> TaskError {
        match refused {
            NoSlot::Failed(error) => error,
            NoSlot::Full => TaskError::PoolClosed,
        }
    }
}

/// What all handles to a pool share.
pub(super) struct Inner {
    pub(super) site: Site,
    pub(super) supervisor: Child,
    table: Mutex<Table>,
    /// How many callbacks have not returned.
    pub(super) callbacks: AtomicU64,
    /// A callback has.
    pub(super) returned: Condvar,
    lineage: u32,
    limits: TaskLimits,
}

impl Inner {
    pub(super) fn new(site: Site, supervisor: Child, limits: TaskLimits) -> Inner {
        let slots = site.board.slots();
        let table = Table {
            holders: (0..slots).map(|_| Holder::Free).collect(),
            tasks: vec![0; slots],
            kept: vec![0; slots],
            all_kept: 0,
            free: (0..slots).rev().collect(),
            functions: vec![0; slots],
            next: 0,
            waiting: 0,
            callbacks: Callbacks::default(),
            stage: Stage::Open,
            done: 0,
            failed: 0,
        };
        Inner {
            site,
            supervisor,
            table: Mutex::new(table),
            callbacks: AtomicU64::new(0),
            returned: Condvar::new(),
            lineage: lineage(),
            limits,
        }
    }

    /// Whether this process made the pool.
    pub(super) fn is_ours(&self) -> bool {
        self.lineage == lineage()
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why nothing more will be settled, if so.
    pub(super) fn breakage(&self) -> Option<TaskError> {
        let board = &self.site.board;
        if board.is_ordered(Orders::Failed) {
            return Some(TaskError::InitFailed { reason: keeper::notice(&self.site) });
        }
        if board.is_ordered(Orders::Ended) {
            return Some(TaskError::PoolClosed);
        }
        board.is_orphaned().then_some(TaskError::SupervisorDied)
    }

    /// Has at least one slot to itself, at most `most` of them and half of what is free; they are told to run
    /// `function`. Says the number of the first task. The caller puts tasks into them and calls
    /// [`publish`](Inner::publish), or gives them back.
    pub(super) fn reserve(
        &self,
        function: u64,
        most: usize,
        wait: Wait,
        slots: &mut Vec<usize>,
    ) -> Result<u64, NoSlot> {
        if !self.is_ours() {
            return Err(NoSlot::Failed(TaskError::NotParent));
        }
        let mut table = self.table();
        loop {
            if table.stage != Stage::Open {
                return Err(NoSlot::Failed(self.why_not()));
            }
            if table.free.is_empty() {
                self.harvest_all(&mut table);
                if matches!(wait, Wait::Forever) && self.callbacks.load(Relaxed) > 0 {
                    // What was moved out takes memory until it is given to somebody.
                    drop(table);
                    self.call_back(false);
                    table = self.table();
                }
            }
            if !table.free.is_empty() {
                let first = table.next;
                self.take_slots(&mut table, function, most, slots);
                return Ok(first);
            }
            if matches!(wait, Wait::No) {
                return Err(NoSlot::Full);
            }
            let rings = self.site.board.rings();
            let slots = 0..self.site.board.slots();
            let is_calls = |slot: &usize| matches!(table.holders[*slot], Holder::Call);
            // The slots of calls are rung for when they are free again.
            let settled =
                slots.filter(|slot| !is_calls(slot)).any(|slot| self.site.board.ask(slot).is_settled());
            if settled {
                continue;
            }
            if let Some(error) = self.breakage() {
                return Err(NoSlot::Failed(error));
            }
            table.waiting += 1;
            drop(table);
            if self.call_back(true) == 0 {
                self.site.board.await_ring(rings, None);
            }
            table = self.table();
            table.waiting -= 1;
        }
    }

    /// Numbers for so many tasks more, in slots that the caller has already. Says the first.
    pub(super) fn number(&self, tasks: usize) -> Result<u64, TaskError> {
        let mut table = self.table();
        if table.stage != Stage::Open {
            return Err(self.why_not());
        }
        let first = table.next;
        table.next += tasks as u64;
        Ok(first)
    }

    /// Why there are no more tasks.
    fn why_not(&self) -> TaskError {
        // That its supervisor has ended since is as it should be.
        let why = self.breakage().filter(|error| matches!(error, TaskError::InitFailed { .. }));
        why.unwrap_or(TaskError::PoolClosed)
    }

    /// Counts the good tasks and the others, and frees the slots in `free`; those in `idle` as well, if their owner
    /// does not keep them or somebody waits for one.
    pub(super) fn give_back(
        &self,
        free: &mut Vec<usize>,
        idle: &mut Vec<usize>,
        keeps: bool,
        [done, failed]: [u64; 2],
    ) {
        let mut table = self.table();
        table.done += done;
        table.failed += failed;
        if !keeps || table.waiting > 0 {
            free.append(idle);
        }
        free.drain(..).for_each(|slot| self.free(&mut table, slot));
    }

    fn take_slots(&self, table: &mut Table, function: u64, most: usize, slots: &mut Vec<usize>) {
        let board = &self.site.board;
        let most = most.min(table.free.len().div_ceil(2));
        let rest = table.free.len() - most;
        slots.extend(table.free.drain(rest..).rev());
        for &slot in &*slots {
            table.holders[slot] = Holder::Call;
            table.tasks[slot] = table.next;
            table.next += 1;
            if table.functions[slot] != function {
                table.functions[slot] = function;
                // ORDERING: Relaxed, carried by the slot's state.
                board.functions.at(slot).store(function, Relaxed);
            }
        }
    }

    /// Leaves a task in a slot that the caller has reserved.
    #[inline]
    pub(super) fn put<A: Carried>(
        &self,
        slot: usize,
        argument: &A,
        limits: Option<TaskLimits>,
    ) -> Result<(), TaskError> {
        let form = self.site.put(Side::Argument, slot, argument);
        let form = form.map_err(|trouble: Trouble| TaskError::Encode { reason: trouble.to_string() })?;
        let limits = limits.unwrap_or(self.limits);
        if limits.any() {
            self.note_limits(slot, limits);
        }
        self.site.board.put(slot, Word::ready(form, limits.any()));
        Ok(())
    }

    #[cold]
    fn note_limits(&self, slot: usize, limits: TaskLimits) {
        let TaskLimits { hard, soft, deadline } = limits;
        let span = |span: Option<Duration>| span.map_or(0, |span| (span.as_nanos() as u64).max(1));
        let latest = deadline.map_or(0, |span| Deadline::after(span).as_nanos());
        for (column, value) in self.site.board.limits().into_iter().zip([span(hard), span(soft), latest]) {
            // ORDERING: Relaxed, carried by the slot's state.
            column.at(slot).store(value, Relaxed);
        }
    }

    /// Makes known that these slots have tasks.
    pub(super) fn publish(&self, slots: &[usize]) {
        let table = self.table();
        self.site.board.publish(slots);
        drop(table);
        // ORDERING: Relaxed, behind the fence in `publish`.
        if self.site.board.hall.absent.load(Relaxed) > 0 {
            self.site.kick();
        }
    }

    /// Turns a call's slot into a task's, before it is published.
    pub(super) fn entrust(&self, slot: usize) -> Arc<Inbox> {
        let inbox = Arc::<Inbox>::default();
        self.table().holders[slot] = Holder::Task(inbox.clone());
        inbox
    }

    /// Gives slots back whose tasks are settled and read, or were never put; the good ones and the others are counted.
    pub(super) fn release(&self, slots: impl IntoIterator<Item = usize>, done: u64, failed: u64) {
        let mut table = self.table();
        table.done += done;
        table.failed += failed;
        for slot in slots {
            self.free(&mut table, slot);
        }
    }

    fn free(&self, table: &mut Table, slot: usize) {
        table.holders[slot] = Holder::Free;
        table.free.push(slot);
        let bytes = |column: &Column| column.at(slot).load(Relaxed);
        let word = self.site.board.look(slot);
        let plate = self.site.board.plate as u64;
        let (argument, result) = (bytes(&self.site.board.lengths), bytes(&self.site.board.result_lengths));
        let stored = |form: Form, len: u64| if form == Form::Stored && len > plate { len } else { 0 };
        let more = stored(word.argument(), argument) + stored(word.result(), result);
        let was_killed = matches!(word.state(), State::Lost | State::Cancelled | State::Late);
        if more > 0 || was_killed {
            let kept = table.kept[slot].max(more);
            table.all_kept += kept - table.kept[slot];
            table.kept[slot] = kept;
            if table.all_kept > KEPT || was_killed {
                self.site.forget(slot);
                table.all_kept -= kept;
                table.kept[slot] = 0;
            }
        }
        if table.waiting > 0 {
            self.site.board.ring();
        }
    }

    /// Moves the outcome of a settled task out of its slot.
    fn harvest(&self, table: &mut Table, slot: usize, word: Word) {
        let outcome = || {
            let (cell, mut bytes) = (self.site.cell(Side::Result, slot), Vec::new());
            match self.site.get_bytes(Side::Result, slot, word.result(), &mut bytes) {
                Ok(()) => Ok(Outcome { word, cell, bytes, task: table.tasks[slot] }),
                Err(error) => Err(TaskError::Decode { reason: Trouble::from(error).to_string() }),
            }
        };
        if let Holder::Task(inbox) = &table.holders[slot] {
            *inbox.lock() = Some(outcome());
        }
        if word.state() == State::Done {
            table.done += 1;
        } else {
            table.failed += 1;
        }
        self.free(table, slot);
    }

    /// Moves out all that is settled.
    pub(super) fn harvest_all(&self, table: &mut Table) {
        for slot in 0..table.holders.len() {
            if matches!(table.holders[slot], Holder::Task(_) | Holder::Abandoned) {
                let word = self.site.board.look(slot);
                if word.is_settled() {
                    self.harvest(table, slot, word);
                }
            }
        }
    }

    /// Waits until a call's slot is settled; `None` when `deadline` came first.
    #[inline]
    pub(super) fn await_slot(
        &self,
        slot: usize,
        deadline: Option<Deadline>,
    ) -> Result<Option<Word>, TaskError> {
        let word = self.site.board.look(slot);
        if word.is_settled() { Ok(Some(word)) } else { self.await_slot_long(slot, deadline) }
    }

    #[cold]
    fn await_slot_long(&self, slot: usize, deadline: Option<Deadline>) -> Result<Option<Word>, TaskError> {
        let board = &self.site.board;
        let mut expired = deadline.is_some_and(|deadline| deadline.has_passed());
        if !expired {
            self.call_back(false);
        }
        for _ in 0..SPINS {
            spin_hint();
            let word = board.look(slot);
            if word.is_settled() {
                return Ok(Some(word));
            }
        }
        loop {
            let rings = board.rings();
            let word = board.ask(slot);
            if word.is_settled() {
                return Ok(Some(word));
            }
            if let Some(error) = self.breakage() {
                // It may have been settled before that.
                let word = board.look(slot);
                return if word.is_settled() { Ok(Some(word)) } else { Err(error) };
            }
            if expired {
                return Ok(None);
            }
            if self.call_back(true) == 0 {
                board.await_ring(rings, deadline);
            }
            expired = deadline.is_some_and(|deadline| deadline.has_passed());
        }
    }

    /// Waits until a task is settled and its outcome moved out; false when `deadline` came first. An error means that
    /// it never will be.
    pub(super) fn await_task(
        &self,
        slot: usize,
        inbox: &Arc<Inbox>,
        deadline: Option<Deadline>,
    ) -> Result<bool, TaskError> {
        if inbox.is_filled() {
            return Ok(true);
        }
        if !self.is_ours() {
            return Err(TaskError::NotParent);
        }
        let board = &self.site.board;
        let expires_at_once = deadline.is_some_and(|deadline| deadline.has_passed());
        // If the slot has another task by now, this was moved out.
        let spins = if expires_at_once { 0 } else { SPINS };
        let _ = (0..spins).any(|_| {
            spin_hint();
            board.look(slot).is_settled()
        });
        let mut expired = expires_at_once;
        if !expired {
            self.call_back(false);
        }
        loop {
            let rings = board.rings();
            if self.collect(&mut self.table(), slot, inbox, !expired) {
                return Ok(true);
            }
            if let Some(error) = self.breakage() {
                return if board.look(slot).is_settled() { continue } else { Err(error) };
            }
            if expired {
                return Ok(false);
            }
            if self.call_back(true) == 0 {
                board.await_ring(rings, deadline);
            }
            expired = deadline.is_some_and(|deadline| deadline.has_passed());
        }
    }

    /// Whether a task is settled: then its outcome is moved out. Else, who `asks` is rung for when it is.
    pub(super) fn collect(&self, table: &mut Table, slot: usize, inbox: &Arc<Inbox>, asks: bool) -> bool {
        // If the slot has another task by now, this was moved out.
        if !table.is_task(slot, inbox) {
            return true;
        }
        let board = &self.site.board;
        let word = if asks { board.ask(slot) } else { board.look(slot) };
        if word.is_settled() {
            self.harvest(table, slot, word);
        }
        word.is_settled()
    }

    /// Withdraws a task, or has its worker killed. Says whether it is on its way to be cancelled.
    pub(super) fn cancel(&self, slot: usize, inbox: &Arc<Inbox>) -> bool {
        if !self.is_ours() {
            return false;
        }
        let table = self.table();
        if !table.is_task(slot, inbox) {
            return false;
        }
        let board = &self.site.board;
        loop {
            if board.withdraw(slot) {
                board.ring();
                return true;
            }
            if board.condemn(slot, CANCEL) {
                self.site.kick();
                return true;
            }
            if board.look(slot).is_settled() {
                return false;
            }
        }
    }

    /// Nobody will ask for these slots again: what nobody has begun is withdrawn.
    pub(super) fn abandon(&self, slots: impl IntoIterator<Item = usize>) {
        if !self.is_ours() {
            return;
        }
        let mut table = self.table();
        for slot in slots {
            self.site.board.withdraw(slot);
            table.holders[slot] = Holder::Abandoned;
        }
        self.harvest_all(&mut table);
    }

    /// The same for a task, which is done all the same.
    pub(super) fn disown(&self, slot: usize, inbox: &Arc<Inbox>) {
        if !self.is_ours() {
            return;
        }
        self.disown_in(&mut self.table(), slot, inbox);
    }

    pub(super) fn disown_in(&self, table: &mut Table, slot: usize, inbox: &Arc<Inbox>) {
        if table.is_task(slot, inbox) {
            table.holders[slot] = Holder::Abandoned;
            let word = self.site.board.look(slot);
            if word.is_settled() {
                self.harvest(table, slot, word);
            }
        }
    }
}
