//! How a row of tasks goes through a pool: so many ahead, and taken home in the order in which they were given.
//!
//! [`Flow`] holds slots of its own and reads the results in them, without a lock for each. It gives tasks out in
//! batches, and waits for the last of a batch first: so the parent sleeps once for many short tasks.

use std::{
    any::Any,
    collections::VecDeque,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use crate::{
    pool::{
        call,
        carry::{self, Carried},
        error::TaskError,
        outcome::{decode, decode_many},
        site::Side,
        table::{Inner, NoSlot, Wait},
        word::{Form, State, Word},
    },
    primitive::{Deadline, Relaxed},
};

/// The most tasks of one batch.
const BATCH: usize = 256;

/// Where a part that never went lies: nowhere.
const NOWHERE: u32 = u32::MAX;

/// A part that is on its way.
#[derive(Clone, Copy, Debug)]
struct Flight {
    slot: u32,
    items: u32,
    task: u64,
}

/// What came home.
pub(super) enum Landed<R> {
    One(Result<R, TaskError>),
    /// A part all of which went well.
    All(Vec<R>),
    Many(Vec<Result<R, TaskError>>),
}

impl<R> Landed<R> {
    /// Puts values behind the others, and keeps the first error.
    #[inline]
    pub(super) fn sort(self, values: &mut Vec<R>, first: &mut Option<TaskError>) {
        match self {
            Landed::One(Ok(value)) => values.push(value),
            Landed::One(Err(error)) => drop(first.get_or_insert(error)),
            Landed::All(mut all) => values.append(&mut all),
            Landed::Many(all) => all.into_iter().for_each(|one| Landed::One(one).sort(values, first)),
        }
    }

    /// Puts them behind the others, values and errors.
    #[inline]
    pub(super) fn put_behind(self, results: &mut Vec<Result<R, TaskError>>) {
        match self {
            Landed::One(result) => results.push(result),
            Landed::All(all) => results.extend(all.into_iter().map(Ok)),
            Landed::Many(all) => results.extend(all),
        }
    }
}

/// See the module.
pub(super) struct Flow<'p, A, R> {
    pool: &'p Inner,
    function: u64,
    chunk: usize,
    /// The most parts that are on their way at one time.
    most: usize,
    flights: VecDeque<Flight>,
    /// Why parts never went, in their order.
    refused: VecDeque<TaskError>,
    slots: Vec<usize>,
    free: Vec<usize>,
    /// Slots that are to have the next tasks: nothing was left in them that takes memory.
    idle: Vec<usize>,
    scratch: Vec<u8>,
    counts: [u64; 2],
    _types: PhantomData<fn(A) -> R>,
}

impl<'p, A: Carried, R: Carried> Flow<'p, A, R> {
    pub(super) fn new<F: Fn(A) -> R + Copy>(
        pool: &'p Inner,
        _function: F,
        chunk: usize,
        most: usize,
    ) -> Flow<'p, A, R> {
        // Of large chunks few are enough to keep everybody at work.
        let workers = pool.site.board.hall.workers.load(Relaxed) as usize;
        let ahead = (8 * BATCH / chunk).max(8 * workers);
        let trampoline = if chunk == 1 { call::one::<F, A, R> } else { call::many::<F, A, R> };
        Flow {
            pool,
            function: call::number(trampoline),
            chunk,
            most: most.min(ahead).clamp(1, (pool.site.board.slots() / 2).max(1)),
            flights: VecDeque::new(),
            refused: VecDeque::new(),
            slots: Vec::new(),
            free: Vec::new(),
            idle: Vec::new(),
            scratch: Vec::new(),
            counts: [0; 2],
            _types: PhantomData,
        }
    }

    /// Gives out what there is, up to `most`. False when there is no more. `next` may panic: then what it has given
    /// before is on its way.
    fn fill(&mut self, next: &mut impl FnMut() -> Option<A>) -> Result<bool, TaskError> {
        // In pieces of some size, so that a batch comes home before the next one goes.
        let batch = (self.most / 4).clamp(1, BATCH);
        while self.flights.len() + batch <= self.most || self.flights.is_empty() {
            let Some(first) = self.have_slots(batch)? else { return Ok(true) };
            let put = catch_unwind(AssertUnwindSafe(|| self.load(first, next)));
            let used = put.as_ref().map_or_else(|_| self.loaded(first), |&used| used);
            if used < self.slots.len() {
                self.pool.release(self.slots[used..].iter().copied(), 0, 0);
            }
            self.pool.publish(&self.slots[..used]);
            match put {
                Ok(used) if used < self.slots.len() => return Ok(false),
                Ok(_) => {}
                Err(payload) => std::panic::resume_unwind(payload),
            }
        }
        Ok(true)
    }

    /// Has slots for at most so many parts. Says the number of the first; `None` if it would have to wait although
    /// parts are on their way.
    fn have_slots(&mut self, batch: usize) -> Result<Option<u64>, TaskError> {
        self.slots.clear();
        if !self.idle.is_empty() {
            let rest = self.idle.len().saturating_sub(batch);
            // In the order in which they were used before: neighbours share lines.
            self.slots.extend(self.idle.drain(..self.idle.len() - rest));
            return self.pool.number(self.slots.len()).map(Some);
        }
        let wait = if self.flights.is_empty() { Wait::Forever } else { Wait::No };
        match self.pool.reserve(self.function, batch, wait, &mut self.slots) {
            Ok(first) => Ok(Some(first)),
            Err(NoSlot::Full) => Ok(None),
            Err(NoSlot::Failed(error)) => Err(error),
        }
    }

    /// How many of the slots of a batch whose first task is `first` went before a panic.
    fn loaded(&self, first: u64) -> usize {
        self.flights.iter().rev().take_while(|flight| flight.task >= first && flight.slot != NOWHERE).count()
    }

    /// Puts tasks into the reserved slots; says how many slots were used.
    #[inline]
    fn load(&mut self, first: u64, next: &mut impl FnMut() -> Option<A>) -> usize {
        let mut used = 0;
        while used < self.slots.len() {
            let (slot, task) = (self.slots[used], first + used as u64);
            let (items, put) = if self.chunk == 1 {
                let Some(item) = next() else { break };
                (1, self.pool.put(slot, &item, None))
            } else {
                let items: Vec<A> = std::iter::from_fn(&mut *next).take(self.chunk).collect();
                if items.is_empty() {
                    break;
                }
                (items.len(), self.pool.put(slot, &items, None))
            };
            let items = items as u32;
            match put {
                Ok(()) => {
                    self.flights.push_back(Flight { slot: slot as u32, items, task });
                    used += 1;
                }
                Err(error) => {
                    self.refused.push_back(error);
                    self.flights.push_back(Flight { slot: NOWHERE, items, task });
                }
            }
        }
        used
    }

    /// Waits for the oldest part and takes it home; `None` when `deadline` came first.
    #[inline]
    fn land(&mut self, deadline: Option<Deadline>) -> Result<Option<Landed<R>>, TaskError> {
        let Some(&flight) = self.flights.front() else { return Ok(None) };
        self.land_at(0, flight, deadline)
    }

    #[inline]
    fn land_at(
        &mut self,
        place: usize,
        flight: Flight,
        deadline: Option<Deadline>,
    ) -> Result<Option<Landed<R>>, TaskError> {
        let word = if flight.slot == NOWHERE {
            None
        } else {
            match self.pool.await_slot(flight.slot as usize, deadline)? {
                Some(word) => Some(word),
                None => return Ok(None),
            }
        };
        if place == 0 {
            self.flights.pop_front();
        } else {
            self.flights.remove(place);
        }
        Ok(Some(self.read(flight, word)))
    }

    /// Reads a settled part; its slot is free afterwards.
    #[inline]
    fn read(&mut self, flight: Flight, word: Option<Word>) -> Landed<R> {
        let Flight { slot, items, task } = flight;
        let Some(word) = word else {
            let error = self.refused.pop_front().unwrap_or(TaskError::PoolClosed);
            return match self.chunk {
                1 => Landed::One(Err(error)),
                _ => Landed::Many((0..items).map(|_| Err(error.clone())).collect()),
            };
        };
        let (site, slot) = (&self.pool.site, slot as usize);
        let nothing_is_stored = word.result() != Form::Stored && word.argument() != Form::Stored;
        if word.state() == State::Done && nothing_is_stored {
            self.idle.push(slot);
        } else {
            self.free.push(slot);
        }
        self.counts[usize::from(word.state() != State::Done)] += 1;
        if word.state() == State::Done
            && word.result() == Form::Cell
            && let Some(value) = carry::from_cell(site.cell(Side::Result, slot))
        {
            return Landed::One(Ok(value));
        }
        let (cell, form) = (site.cell(Side::Result, slot), word.result());
        if self.chunk > 1
            && word.state() == State::Done
            && let Ok(values) = site.get::<Vec<R>>(Side::Result, slot, form, &mut self.scratch)
            && values.len() == items as usize
        {
            return Landed::All(values);
        }
        let read = site.get_bytes(Side::Result, slot, form, &mut self.scratch);
        let read = read.map_err(|error| TaskError::Decode { reason: error.to_string() });
        let bytes = &mut self.scratch;
        match self.chunk {
            1 => Landed::One(read.and_then(|()| decode(word, cell, bytes, task))),
            _ => Landed::Many(match read {
                Ok(()) => decode_many(word, bytes, items as usize, task),
                Err(error) => (0..items).map(|_| Err(error.clone())).collect(),
            }),
        }
    }

    /// Takes the oldest part home if it is settled, and is a value in a word.
    #[inline]
    fn land_cell(&mut self) -> Option<R> {
        let slot = self.flights.front()?.slot as usize;
        if slot == NOWHERE as usize {
            return None;
        }
        let site = &self.pool.site;
        let word = site.board.look(slot);
        if word.state() != State::Done || word.result() != Form::Cell || word.argument() == Form::Stored {
            return None;
        }
        let value = carry::from_cell(site.cell(Side::Result, slot))?;
        self.flights.pop_front();
        self.idle.push(slot);
        self.counts[0] += 1;
        Some(value)
    }

    /// Gives back the slots of what came home; keeps those that can be used again, if it `keeps` them and nobody waits.
    fn give_back(&mut self, keeps: bool) {
        let counts = std::mem::take(&mut self.counts);
        self.pool.give_back(&mut self.free, &mut self.idle, keeps, counts);
    }

    /// Waits for the part in that place; if it must sleep, until half of what is on its way is done.
    fn sleep_on(&self, place: usize) -> Result<(), TaskError> {
        let slot =
            |place: usize| self.flights.get(place).map(|flight| flight.slot).filter(|&slot| slot != NOWHERE);
        let Some(last) = slot(place) else { return Ok(()) };
        if !self.pool.site.board.look(last as usize).is_settled() {
            let middle = slot(place.max(self.flights.len() / 2)).unwrap_or(last);
            self.pool.await_slot(middle as usize, None)?;
        }
        Ok(())
    }

    /// All of it, in order.
    pub(super) fn run(
        mut self,
        mut next: impl FnMut() -> Option<A>,
        mut sink: impl FnMut(Landed<R>),
    ) -> Result<(), TaskError> {
        let mut more = true;
        loop {
            if more {
                more = self.fill(&mut next)?;
            }
            if self.flights.is_empty() && !more {
                return Ok(());
            }
            let batch = self.flights.len().min((self.most / 4).clamp(1, BATCH));
            self.sleep_on(batch.saturating_sub(1))?;
            for _ in 0..batch {
                if let Some(value) = self.land_cell() {
                    sink(Landed::One(Ok(value)));
                } else if let Some(landed) = self.land(None)? {
                    sink(landed);
                }
            }
            self.give_back(more);
        }
    }
}

impl<A, R> Drop for Flow<'_, A, R> {
    fn drop(&mut self) {
        let done = self.free.drain(..).chain(self.idle.drain(..));
        let [good, bad] = self.counts;
        if self.pool.is_ours() {
            self.pool.release(done, good, bad);
        }
        let left = self.flights.iter().map(|flight| flight.slot).filter(|&slot| slot != NOWHERE);
        self.pool.abandon(left.map(|slot| slot as usize));
    }
}

/// The values of a row of tasks, as they come home: made by [`Pool::imap`](crate::Pool::imap) and
/// [`Pool::imap_unordered`](crate::Pool::imap_unordered).
///
/// The input is asked for no more items than are to be ahead. Dropped early, it leaves the pool as it was: what no
/// worker has begun is withdrawn. An input that panics gives an error in that item's place, and then it has ended.
pub struct Mapped<'p, A, R, I> {
    flow: Flow<'p, A, R>,
    input: Option<I>,
    ordered: bool,
    /// What has come home with others.
    home: VecDeque<Result<R, TaskError>>,
    /// What is told when all has come home.
    last: Option<TaskError>,
}

impl<'p, A: Carried, R: Carried, I: Iterator<Item = A>> Mapped<'p, A, R, I> {
    pub(super) fn new(flow: Flow<'p, A, R>, input: I, ordered: bool) -> Mapped<'p, A, R, I> {
        Mapped { flow, input: Some(input), ordered, home: VecDeque::new(), last: None }
    }

    /// Has at most so many parts on their way or at home: at least 1; twice as many as there are workers, unless this
    /// says otherwise.
    pub fn look_ahead(mut self, parts: usize) -> Self {
        self.flow.most = parts.clamp(1, (self.flow.pool.site.board.slots() / 2).max(1));
        self
    }

    /// How many values there will be, if the input says how many items it has and the pool does not end.
    #[cfg(feature = "progress")]
    pub(super) fn expected(&self) -> Option<usize> {
        let (least, most) = self.input.as_ref()?.size_hint();
        let under_way: usize = self.flow.flights.iter().map(|flight| flight.items as usize).sum();
        (most == Some(least)).then_some(least + under_way + self.home.len())
    }

    /// The next value, waiting at most `timeout` for it (CLOCK_MONOTONIC, from the call; zero looks once). `None`:
    /// there are no more; `Some(None)`: the time was up.
    pub fn next_timeout(&mut self, timeout: Duration) -> Option<Option<Result<R, TaskError>>> {
        self.next_until(Some(Deadline::after(timeout)))
    }

    fn next_until(&mut self, deadline: Option<Deadline>) -> Option<Option<Result<R, TaskError>>> {
        loop {
            if let Some(value) = self.home.pop_front() {
                return Some(Some(value));
            }
            self.fill();
            if self.flow.flights.is_empty() {
                return self.last.take().map(|error| Some(Err(error)));
            }
            let landed = if self.ordered { self.flow.land(deadline) } else { self.land_any(deadline) };
            self.flow.give_back(false);
            match landed {
                Ok(Some(Landed::One(value))) => return Some(Some(value)),
                Ok(Some(Landed::All(values))) => self.home.extend(values.into_iter().map(Ok)),
                Ok(Some(Landed::Many(values))) => self.home.extend(values),
                Ok(None) => return Some(None),
                Err(error) => {
                    // Nothing more will come.
                    self.input = None;
                    let left: Vec<Flight> = self.flow.flights.drain(..).collect();
                    let left = left.iter().map(|flight| flight.slot).filter(|&slot| slot != NOWHERE);
                    self.flow.pool.abandon(left.map(|slot| slot as usize));
                    self.last = None;
                    return Some(Some(Err(error)));
                }
            }
        }
    }

    fn fill(&mut self) {
        let Some(input) = &mut self.input else { return };
        if self.flow.flights.len() >= self.flow.most {
            return;
        }
        let filled = catch_unwind(AssertUnwindSafe(|| self.flow.fill(&mut || input.next())));
        match filled {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => self.input = None,
            Ok(Err(error)) => (self.input, self.last) = (None, Some(error)),
            Err(payload) => {
                self.input = None;
                self.last = Some(TaskError::InputPanicked { message: text(&*payload) });
                std::mem::forget(payload);
            }
        }
    }

    /// Takes home whatever is settled first.
    fn land_any(&mut self, deadline: Option<Deadline>) -> Result<Option<Landed<R>>, TaskError> {
        let flow = &mut self.flow;
        let board = &flow.pool.site.board;
        let mut expired = deadline.is_some_and(|deadline| deadline.has_passed());
        let mut asks = expired;
        if !expired {
            flow.pool.call_back(false);
        }
        loop {
            let rings = board.rings();
            let settled = flow.flights.iter().position(|flight| {
                let slot = flight.slot as usize;
                flight.slot == NOWHERE || if asks { board.ask(slot) } else { board.look(slot) }.is_settled()
            });
            if let Some(place) = settled {
                let flight = flow.flights[place];
                return flow.land_at(place, flight, deadline);
            }
            if !asks {
                asks = true;
                continue;
            }
            if let Some(error) = flow.pool.breakage() {
                let is_settled = |flight: &Flight| board.look(flight.slot as usize).is_settled();
                if flow.flights.iter().any(is_settled) {
                    continue;
                }
                return Err(error);
            }
            if expired {
                return Ok(None);
            }
            if flow.pool.call_back(true) == 0 {
                board.await_ring(rings, deadline);
            }
            expired = deadline.is_some_and(|deadline| deadline.has_passed());
        }
    }
}

impl<A: Carried, R: Carried, I: Iterator<Item = A>> Iterator for Mapped<'_, A, R, I> {
    type Item = Result<R, TaskError>;

    /// Waits for the next value, as long as it takes.
    fn next(&mut self) -> Option<Result<R, TaskError>> {
        self.next_until(None).flatten()
    }

    /// At most: there are fewer if the pool ends.
    fn size_hint(&self) -> (usize, Option<usize>) {
        let under_way: usize = self.flow.flights.iter().map(|flight| flight.items as usize).sum();
        let known = self.home.len() + under_way + usize::from(self.last.is_some());
        // An input that panics gives one more.
        let to_come = self.input.as_ref().map_or(Some(0), |input| input.size_hint().1?.checked_add(1));
        (self.home.len(), to_come.and_then(|items| items.checked_add(known)))
    }
}

impl<A, R, I> std::fmt::Debug for Mapped<'_, A, R, I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mapped")
            .field("ordered", &self.ordered)
            .field("under_way", &self.flow.flights.len())
            .field("ended", &self.input.is_none())
            .finish()
    }
}

/// The message of a panic, if it has one that can be read.
fn text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or(payload.downcast_ref::<&str>().copied());
    text.unwrap_or("a value that is no text").to_owned()
}
