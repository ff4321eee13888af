//! The board: a row of slots in which a pool's tasks lie, from being given to a worker to being taken home.
//!
//! # Protocol
//! The parent writes a task into a slot that it knows to be free, stores READY, and publishes: it moves `tail` over the
//! slot's position in the queue and wakes as many workers as sleep and have got work by that. A worker claims a slot by
//! one exchange, runs what lies there, writes the result beside it, and commits by one exchange. The parent copies the
//! result out; from then on the slot is free again, which is written nowhere: it is the parent's to know.
//!
//! So whatever a worker is killed at, the slots that are TAKEN in its name are what its death cost, and they are at
//! most one. Its supervisor, which alone reaps it, decides about each when it is dead: lost, or READY once more.
//!
//! `head` and the runs that workers take between `head` and `tail` only say where to look first. A worker that finds
//! nothing there looks through all slots before it sleeps, so what a run has left behind is found by whoever is idle.
//!
//! # Words
//! | word            | meaning                                                            | written by                  |
//! |-----------------|--------------------------------------------------------------------|-----------------------------|
//! | `states[slot]`  | a [`Word`]: READY, TAKEN by a worker, or how it was settled; flags | parent, worker, supervisor  |
//! | `functions`, `arguments`, `lengths` | what is to be done with what               | the parent, before READY    |
//! | `results`, `result_lengths` | what came of it                                        | the taker; if it is dead, the supervisor |
//! | `forgotten`     | how often the slot's part of the store was given back: see `store.rs` | the parent, before READY |
//! | `queue`         | which slot each of the last positions is, in the order in which tasks were given | the parent, before `tail` |
//! | `tail`          | how many positions were published                                  | the parent                  |
//! | `used`          | no slot from here on was ever published                            | the parent, before `tail`   |
//! | `head`          | the first position that nobody has looked at yet: a hint           | workers; the supervisor     |
//! | `asleep`        | a bit for each worker that sleeps, or soon will                    | that worker; whoever wakes it; the supervisor |
//! | `desk.bell`     | how often that worker was woken                                    | whoever took its bit        |
//! | `bell`          | how often the parent was rung for                                  | workers; the supervisor; the parent |
//! | `orders`        | what holds for all: see [`Orders`]                                 | the parent, the supervisor  |
//! | `alive`         | held by the supervisor                                             | the supervisor, the kernel  |
//!
//! # Invariants
//! - B1: a slot changes from READY to TAKEN by an exchange of its taker's, from TAKEN by its taker's swap, or, when
//!   that one was reaped, by its supervisor's exchange; from a settled state by the parent alone.
//! - B2: who waits for a slot sets RING in its word. Who settles the slot sees that in the same step, and rings. If it
//!   dies before it has rung, its supervisor rings: it does so after every death.
//! - B3: a worker that is about to sleep sets its bit, and then looks at all slots; who publishes stores READY, and
//!   then looks at the bits; a full fence stands between on both sides. So one of the two sees the other.
//! - B4: who takes a bit away wakes that worker, by a change of its bell. Parent and supervisor may die in between:
//!   then there is nobody left to work for.
//! - B5: a worker that dies may have been the one who was woken for a task: so its supervisor wakes all the others.
//! - B6: the index of a dead worker is used again only after its slots were settled.
//!
//! # Ordering edges
//! - `task`: Release of READY -> Acquire of the claim; carries the function and its argument.
//! - `result`: Release of the commit -> Acquire of the parent's look; carries the result.
//! - `publishing`: Release of `tail` -> Acquire of a worker's look; READY is there before the position is counted.
//! - `sleeping`: the fences of B3, in `publish` and in `rest`.
//! - `ringing`: Acquire of `bell` -> before the RING of the same waiter; so a ring after that ends its sleep.
//!
//! # Crash points
//! - `pool.looked`: positions that were passed and not claimed: found by whoever is idle, and by the next run.
//! - `pool.taken`: TAKEN by the dead: settled by its supervisor.
//! - `pool.written`: a result of a task that is TAKEN: it is nobody's.
//! - `pool.committed`: settled, and perhaps nobody was rung for: the supervisor rings.
//! - `pool.resting`: a bit of the dead: its supervisor takes it away.
//! - `pool.woken`: a wake that was spent on the dead: the supervisor wakes the others.

use crate::{
    error::RegionError,
    pool::{
        column::{Column, LINE, Nothing},
        desk::Desk,
        word::{Form, RING, State, Word},
    },
    primitive::{
        AcqRel, Acquire, AtomicU32, AtomicU64, Change, Deadline, FutexWord, Mutant, Relaxed, Release, SeqCst,
        Wake, fence, mutant, wait_any,
    },
    region::{Handle, Region, Row, Shareable, SharedBytes, portable},
    sync::{Patience, Slot},
};

/// The longest run of positions that a worker takes at once.
const LONGEST_RUN: u64 = 32;
/// More workers than these have no bit.
pub(super) const MOST_WORKERS: usize = 512;
const WORDS_OF_BITS: usize = MOST_WORKERS / 64;

/// What holds for all: bits of `orders`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Orders {
    /// There will be no more tasks: who finds none leaves.
    Closed = 1,
    /// All work is to be dropped.
    Ended = 2,
    /// No worker can be started: nothing more will be done.
    Failed = 4,
}

/// A word on a line of its own, and the rest of that.
#[repr(C, align(128))]
struct Apart<T, const REST: usize>(T, [u8; REST]);

/// What they all share beside the slots.
#[repr(C)]
pub(super) struct Hall {
    tail: Apart<AtomicU64, 120>,
    used: AtomicU32,
    _gap: [u32; 31],
    head: Apart<AtomicU64, 120>,
    asleep: Apart<[AtomicU64; WORDS_OF_BITS], 64>,
    bell: Apart<FutexWord, 124>,
    orders: Apart<AtomicU32, 124>,
    /// How many workers there are to be, and how many were started and have died.
    pub(super) workers: AtomicU32,
    /// How many of them have left because there was nothing to do.
    pub(super) absent: AtomicU32,
    pub(super) started: AtomicU64,
    pub(super) died: AtomicU64,
    _rest: [u64; 5],
    alive: Slot,
}

// SAFETY: atomics, and a slot.
unsafe impl Shareable for Hall {
    const ROBUST: &'static [usize] = &[std::mem::offset_of!(Hall, alive) + Slot::ROBUST[0]];
}

/// Positions that a worker looks at next.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Run {
    next: u64,
    end: u64,
}

/// See the module.
#[derive(Clone)]
pub(super) struct Board {
    pub(super) hall: Handle<Hall>,
    pub(super) desks: Row<Desk>,
    states: Column,
    queue: Column,
    pub(super) functions: Column,
    pub(super) arguments: Column,
    pub(super) lengths: Column,
    pub(super) results: Column,
    pub(super) result_lengths: Column,
    /// How often its stretches of the store were given back.
    pub(super) forgotten: Column,
    /// Of a task with limits: its whole time from the start, its time until the warning, and when it is too late, all
    /// in nanoseconds; 0 is never.
    hard: Column,
    soft: Column,
    latest: Column,
    pub(super) plates: SharedBytes,
    /// Bytes of one plate.
    pub(super) plate: usize,
    slots: usize,
}

portable!(Board {
    hall,
    desks,
    states,
    queue,
    functions,
    arguments,
    lengths,
    results,
    result_lengths,
    forgotten,
    hard,
    soft,
    latest,
    plates,
    plate,
    slots
});

impl Board {
    /// What it takes of a region.
    pub(super) fn footprint(slots: usize, desks: usize, plate: usize) -> usize {
        let columns = 11 * (slots.next_multiple_of(LINE) * 8 + 128);
        size_of::<Hall>() + desks * size_of::<Desk>() + columns + 2 * slots * plate + 2048
    }

    /// `slots` is a power of two.
    pub(super) fn new_in(
        region: &Region,
        slots: usize,
        desks: usize,
        plate: usize,
    ) -> Result<Board, RegionError> {
        let hall = Hall {
            tail: Apart(AtomicU64::new(0), [0; 120]),
            used: AtomicU32::new(0),
            _gap: [0; 31],
            head: Apart(AtomicU64::new(0), [0; 120]),
            asleep: Apart([(); WORDS_OF_BITS].map(|()| AtomicU64::new(0)), [0; 64]),
            bell: Apart(FutexWord::new(0), [0; 124]),
            orders: Apart(AtomicU32::new(0), [0; 124]),
            workers: AtomicU32::new(desks as u32),
            absent: AtomicU32::new(0),
            started: AtomicU64::new(0),
            died: AtomicU64::new(0),
            _rest: [0; 5],
            alive: Slot::new(),
        };
        let (hall, desks) = region.place_with_row(hall, desks, Desk::new)?;
        let column = || Column::new_in(region, slots);
        let (_, plates) = region.place_with_bytes(Nothing, 2 * slots * plate, 64)?;
        Ok(Board {
            hall,
            desks,
            states: column()?,
            queue: column()?,
            functions: column()?,
            arguments: column()?,
            lengths: column()?,
            results: column()?,
            result_lengths: column()?,
            forgotten: column()?,
            hard: column()?,
            soft: column()?,
            latest: column()?,
            plates,
            plate,
            slots,
        })
    }

    /// See the fields.
    pub(super) fn limits(&self) -> [&Column; 3] {
        [&self.hard, &self.soft, &self.latest]
    }

    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    /// How many slots may have tasks.
    #[inline]
    pub(super) fn used(&self) -> usize {
        // ORDERING: Relaxed: who looks behind a fence of B3 sees it with READY; who was told of a claim, with that.
        (self.hall.used.load(Relaxed) as usize).min(self.slots)
    }

    /// A slot's state. What it speaks of may be read.
    #[inline]
    pub(super) fn look(&self, slot: usize) -> Word {
        // ORDERING(result): Acquire.
        Word(self.states.at(slot).load(Acquire))
    }

    /// Whether these orders were given.
    #[inline]
    pub(super) fn is_ordered(&self, orders: Orders) -> bool {
        // ORDERING: Acquire, for what was written before the order was given.
        self.hall.orders.0.load(Acquire) & orders as u32 != 0
    }

    /// Gives orders, and wakes everybody.
    pub(super) fn order(&self, orders: Orders) {
        // ORDERING: the order and the looks at the bits are ordered as in `publish`.
        self.hall.orders.0.fetch_or(orders as u32, AcqRel);
        if !mutant(Mutant::OrderUnfenced) {
            fence(SeqCst);
        }
        if !mutant(Mutant::OrderUntold) {
            self.wake(u32::MAX);
        }
        self.ring();
    }

    // The parent's side.

    /// Makes a free slot READY; its contents are written.
    #[inline]
    pub(super) fn put(&self, slot: usize, word: Word) {
        // ORDERING(task): Release, so that who claims it sees what is to be done.
        self.states.at(slot).store(word.0, Release);
    }

    /// Puts the slots, which are READY, at the end of the queue, and wakes who is needed. One thread at a time may.
    #[inline]
    pub(super) fn publish(&self, slots: &[usize]) {
        // ORDERING: Relaxed, only the parent writes it, one thread at a time.
        let tail = self.hall.tail.0.load(Relaxed);
        for (place, &slot) in slots.iter().enumerate() {
            let position = tail.wrapping_add(place as u64) % self.slots as u64;
            self.queue.at(position as usize).store(slot as u64, Relaxed);
            if slot >= self.used() {
                self.hall.used.store(slot as u32 + 1, Relaxed);
            }
        }
        // ORDERING(publishing): Release.
        self.hall.tail.0.store(tail.wrapping_add(slots.len() as u64), Release);
        // ORDERING(sleeping): a full fence, between READY and the look at the bits.
        if !mutant(Mutant::GiverUnfenced) {
            fence(SeqCst);
        }
        if !mutant(Mutant::TaskUntold) {
            self.wake(slots.len() as u32);
        }
    }

    /// Asks to be rung for when the slot is settled. Says what it was then.
    pub(super) fn ask(&self, slot: usize) -> Word {
        // ORDERING(result): Acquire, if it is settled already.
        Word(self.states.at(slot).fetch_or(RING, AcqRel))
    }

    /// Takes a task back that nobody has begun. False if somebody has.
    pub(super) fn withdraw(&self, slot: usize) -> bool {
        let state = self.states.at(slot);
        let mut seen = self.look(slot);
        while seen.state() == State::Ready {
            let next = seen.settled(State::Cancelled, Form::Cell);
            // ORDERING: it carries nothing: what lies in the slot is our own.
            match state.compare_exchange(seen.0, next.0, AcqRel, Acquire) {
                Ok(_) => return true,
                Err(now) => seen = Word(now),
            }
        }
        false
    }

    /// Marks a task that a worker is at; the flag says why. False if none is.
    pub(super) fn condemn(&self, slot: usize, flag: u64) -> bool {
        let state = self.states.at(slot);
        let mut seen = self.look(slot);
        while seen.state() == State::Taken {
            // ORDERING: the flag carries nothing.
            match state.compare_exchange(seen.0, seen.0 | flag, AcqRel, Acquire) {
                Ok(_) => return true,
                Err(now) => seen = Word(now),
            }
        }
        false
    }

    /// How often was rung so far: to be asked before [`ask`](Board::ask), and slept by.
    pub(super) fn rings(&self) -> u32 {
        // ORDERING(ringing): Acquire, so that it comes before the RING.
        self.hall.bell.0.load(Acquire)
    }

    /// Sleeps until the next ring after `rings`, or until the supervisor has gone. May return for nothing.
    pub(super) fn await_ring(&self, rings: u32, deadline: Option<Deadline>) -> Wake {
        let (alive, seen) = self.hall.alive.watch();
        if seen.is_free() {
            return Wake::Changed;
        }
        let woken = wait_any(&[(&self.hall.bell.0, rings), (alive, seen.0)], deadline);
        // Its end wakes one of us.
        if self.is_orphaned() {
            self.ring();
        }
        woken
    }

    /// Whether the supervisor has gone. It has been there when the board is first used.
    pub(super) fn is_orphaned(&self) -> bool {
        self.hall.alive.lock.state().is_free()
    }

    // A worker's side.

    /// Takes a task, if it finds one where the cursor is.
    #[inline]
    pub(super) fn take(&self, worker: usize, run: &mut Run) -> Option<(usize, Word)> {
        loop {
            while run.next < run.end {
                // ORDERING(publishing): carried by `tail`. Should it be overwritten by now, this is one more look.
                let place = self.queue.at((run.next % self.slots as u64) as usize);
                let slot = place.load(Relaxed) as usize % self.slots;
                run.next += 1;
                if let Some(word) = self.claim(worker, slot) {
                    return Some((slot, word));
                }
            }
            *run = self.next_run()?;
            // CRASH(pool.looked): nobody looks at these by the cursor; who is idle looks everywhere.
        }
    }

    fn next_run(&self) -> Option<Run> {
        // ORDERING(publishing): Acquire.
        let tail = self.hall.tail.0.load(Acquire);
        // ORDERING: Relaxed, a hint.
        let mut head = self.hall.head.0.load(Relaxed);
        while head < tail {
            // The queue holds so many, and no more are looked at, whatever head and tail say.
            let first = head.max(tail.saturating_sub(self.slots as u64));
            let share = (tail - first) / (4 * u64::from(self.hall.workers.load(Relaxed).max(1)));
            let end = first + share.clamp(1, LONGEST_RUN);
            match self.hall.head.0.compare_exchange(head, end, Relaxed, Relaxed) {
                Ok(_) => return Some(Run { next: first, end }),
                Err(now) => head = now,
            }
        }
        None
    }

    /// Takes the task in this slot, if it is READY.
    #[inline]
    fn claim(&self, worker: usize, slot: usize) -> Option<Word> {
        let state = self.states.at(slot);
        // ORDERING: Relaxed, a first look; the exchange decides.
        let mut seen = Word(state.load(Relaxed));
        while seen.state() == State::Ready {
            let taken = seen.taken_by(worker);
            if mutant(Mutant::TakenByStore) {
                state.store(taken.0, Release);
                return Some(taken);
            }
            // ORDERING(task): Acquire, so that we see what is to be done.
            match state.compare_exchange(seen.0, taken.0, Acquire, Relaxed) {
                // CRASH(pool.taken): the supervisor finds it TAKEN in our name.
                Ok(_) => return Some(taken),
                Err(now) => seen = Word(now),
            }
        }
        None
    }

    /// Takes a task wherever there is one.
    pub(super) fn seek(&self, worker: usize) -> Option<(usize, Word)> {
        (0..self.used()).find_map(|slot| Some((slot, self.claim(worker, slot)?)))
    }

    /// Whether the cursor has something for who looks: a hint.
    #[inline]
    pub(super) fn has_more(&self) -> bool {
        // ORDERING: Relaxed, a hint.
        self.hall.head.0.load(Relaxed) < self.hall.tail.0.load(Relaxed)
    }

    /// Settles a task that the caller has taken; its result is written.
    #[inline]
    pub(super) fn commit(&self, slot: usize, word: Word) {
        // CRASH(pool.written): it is TAKEN still.
        let order = if mutant(Mutant::RelaxedResult) { Relaxed } else { AcqRel };
        // ORDERING(result): Release; the same step tells whether somebody waits (B2).
        let before = Word(self.states.at(slot).swap(word.0, order));
        // CRASH(pool.committed): the supervisor rings for us.
        if before.has(RING) && !mutant(Mutant::ResultUnrung) {
            self.ring();
        }
    }

    /// Sleeps until there may be something to do, or until `deadline`: then says so.
    pub(super) fn rest(&self, worker: usize, deadline: Option<Deadline>) -> Wake {
        let (desk, bit) = (&self.desks[worker], 1 << (worker % 64));
        let bits = &self.hall.asleep.0[worker / 64];
        // ORDERING: Acquire, so that it is read before the bit is set.
        let seen = desk.bell.load(Acquire);
        let early = mutant(Mutant::LooksBeforeItRests) && self.has_business(desk);
        bits.fetch_or(bit, SeqCst);
        // CRASH(pool.resting): the bit stays until the supervisor takes it away.
        // ORDERING(sleeping): a full fence, between the bit and the looks at the slots.
        if !mutant(Mutant::RestUnfenced) {
            fence(SeqCst);
        }
        let busy = if mutant(Mutant::LooksBeforeItRests) { early } else { self.has_business(desk) };
        let woken = if busy { Wake::Changed } else { desk.bell.wait(seen, deadline) };
        // CRASH(pool.woken): whatever it was woken for, the others are woken when it is buried.
        // ORDERING: Relaxed, whoever finds the bit takes it by an exchange.
        bits.fetch_and(!bit, Relaxed);
        woken
    }

    fn has_business(&self, desk: &Desk) -> bool {
        let is_ready = |slot| Word(self.states.at(slot).load(Relaxed)).state() == State::Ready;
        // ORDERING: Relaxed, behind the fence; a claim decides.
        self.hall.orders.0.load(Relaxed) != 0
            || desk.retire.load(Relaxed) != 0
            || (0..self.used()).any(is_ready)
    }

    // The supervisor's side, and what all may do.

    /// Holds the word by which the parent knows that there is a supervisor, for as long as this process lives.
    pub(super) fn preside(&self) -> bool {
        self.hall.alive.lock.lock(Patience::None).is_ok()
    }

    /// Settles what the dead `worker` had taken, as `decide` says, which has written what is to be known; then rings,
    /// and wakes everybody. `worker` has been reaped.
    pub(super) fn bury(&self, worker: usize, mut decide: impl FnMut(usize, Word) -> Word) {
        for slot in 0..self.used() {
            let mut seen = self.look(slot);
            while seen.is_taken_by(worker) && !mutant(Mutant::DeadKeepTasks) {
                let next = decide(slot, seen);
                // ORDERING(result): Release; `task`, which goes on being carried.
                match self.states.at(slot).compare_exchange(seen.0, next.0, AcqRel, Acquire) {
                    Ok(_) => break,
                    Err(now) => seen = Word(now),
                }
            }
        }
        // ORDERING: Relaxed, it sleeps no more.
        self.hall.asleep.0[worker / 64].fetch_and(!(1 << (worker % 64)), Relaxed);
        self.rewind();
        // ORDERING(sleeping): as in `publish`.
        fence(SeqCst);
        if !mutant(Mutant::DeathKeepsWake) {
            self.wake(u32::MAX); // B5
        }
        if !mutant(Mutant::DeathUnrung) {
            self.ring(); // B2
        }
    }

    /// Has the cursor pass everything once more.
    fn rewind(&self) {
        // ORDERING: Relaxed, a hint.
        let tail = self.hall.tail.0.load(Relaxed);
        self.hall.head.0.store(tail.saturating_sub(self.slots as u64), Relaxed);
    }

    /// Whether a task is READY, or taken.
    pub(super) fn has_tasks(&self) -> bool {
        (0..self.used()).any(|slot| matches!(self.look(slot).state(), State::Ready | State::Taken))
    }

    /// How many tasks are READY and how many taken.
    pub(super) fn counts(&self) -> (usize, usize) {
        let states = (0..self.used()).map(|slot| self.look(slot).state());
        states.fold((0, 0), |(ready, taken), state| match state {
            State::Ready => (ready + 1, taken),
            State::Taken => (ready, taken + 1),
            _ => (ready, taken),
        })
    }

    /// Wakes at most `count` of the workers that sleep.
    #[inline]
    fn wake(&self, mut count: u32) {
        for (word, bits) in self.hall.asleep.0.iter().enumerate().take(self.desks.len().div_ceil(64)) {
            // ORDERING: Relaxed, behind the caller's fence.
            let mut seen = bits.load(Relaxed);
            while seen != 0 && count > 0 {
                let place = seen.trailing_zeros();
                seen = self.wake_one(word, place);
                count -= 1;
            }
        }
    }

    /// Takes one bit and wakes its worker (B4). Says which bits are left.
    #[cold]
    fn wake_one(&self, word: usize, place: u32) -> u64 {
        let bits = &self.hall.asleep.0[word];
        // ORDERING: Relaxed, the bell's change is a full barrier.
        let before = bits.fetch_and(!(1 << place), Relaxed);
        if before & 1 << place != 0
            && let Some(desk) = self.desks.get(word * 64 + place as usize)
        {
            desk.bell.change_and_wake(Change::Add(1), 1);
        }
        before & !(1 << place)
    }

    /// Has one worker look again.
    pub(super) fn nudge(&self, worker: usize) {
        fence(SeqCst);
        self.wake_one(worker / 64, worker as u32 % 64);
    }

    /// Has all threads of the parent that wait look again.
    #[cold]
    pub(super) fn ring(&self) {
        // ORDERING(ringing): the kernel's change is a full barrier.
        self.hall.bell.0.change_and_wake(Change::Add(1), u32::MAX);
    }

    /// Sets one of its words to anything.
    #[cfg(any(test, fuzzing))]
    pub(super) fn spoil(&self, which: u8, value: u64) {
        let slot = usize::from(which) / 16 % self.slots;
        match which % 16 {
            0..5 => self.states.at(slot).store(value, Relaxed),
            5..9 => self.queue.at(slot).store(value, Relaxed),
            9 | 10 => self.hall.tail.0.store(value, Relaxed),
            11 | 12 => self.hall.head.0.store(value, Relaxed),
            13 => self.hall.used.store(value as u32, Relaxed),
            14 => self.hall.asleep.0[slot % WORDS_OF_BITS].store(value, Relaxed),
            _ => self.hall.workers.store(value as u32, Relaxed),
        }
    }
}
