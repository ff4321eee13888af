//! A queue whose items come back until somebody has finished them.
//!
//! # Protocol
//! Sending is as in `ends.rs`. A receiver holds the receiving end, claims a free place (`lease.rs`), copies the oldest
//! record into it, and only then moves the head over the record. So a taken item stays in shared memory, and its
//! taker's end gives it back: the next receiver finds it in a place that nobody holds, and claims the place with what
//! is in it. No room in the ring is needed for that.
//!
//! Whoever comes to the receiving end first looks at `taking`: the place into which the last one there was just taking.
//! If that one died, the item lies there as `Taking`, and its ticket says whether the head has moved over it. If not,
//! the item is void: it is still in the ring. This is done before anybody moves the head, so the ticket cannot lie.
//!
//! A receiver that finds nothing sleeps holding its end, on the tail's doorbell and on the word of every place that is
//! held: a taker's death wakes it. While it sleeps nobody else can take, so it watches all there are. When the queue is
//! closed and empty, receivers that hold nothing themselves wait on for what others hold, and then see `Closed`.
//!
//! What is unfinished is not counted anywhere: it is what was sent (the tail's count) less what was finished (one
//! count in each place, moved by the step that finishes). Neither can be half-done.
//!
//! A joiner sleeps on one item, whichever it finds taken, until that is finished, and looks again. Where none is taken
//! and there is something in the ring, it sleeps on `taking`. So it needs no news of deaths: they finish nothing.
//!
//! # Words
//! | word       | meaning                                            | written by                                  |
//! |------------|----------------------------------------------------|---------------------------------------------|
//! | `taking`   | bit 0: JOINER, somebody sleeps until it changes; above it 1 + the place that is being filled, or 0 | the head of the receiving line; joiners set the bit |
//! | `cursor`   | where the next search for a place begins           | the head of the receiving line              |
//!
//! # Invariants
//! - T1: an item is void, in the ring, taken, given back, a dead letter or finished, and each change is one store or
//!   one exchange: it is handed out once until it is given back, and counted once.
//! - T2: while an item is unfinished, it is in the ring or in a place, and who takes it out of the ring changes
//!   `taking` twice: before it lies in the place, and after. Each change, and the step that finishes, wakes the joiners
//!   who sleep on that word, undivided.
//! - T3: every search begins behind the last place that was used, so what was given back is found after at most as many
//!   takes as there are places, and before anybody sleeps.
//!
//! # Ordering edges
//! - `taken`: Release when `taking` changes -> Acquire when a joiner sets its bit there: it sees every place that was
//!   filled before, so that no item is in neither.
//!
//! # Crash points
//! - `task.copied`: a place that is held and empty: the kernel frees it.
//! - `task.written`: an item in a place and in the ring: the next receiver makes it void.
//! - `task.taken`: the head has moved: the next receiver confirms the item, and it is given back.
//! - `task.finished`: counted, and the place is held: the kernel frees it.
//! - `task.buried`: a dead letter, counted as finished.
//! - `task.opened`: a copy of a dead letter in a dead process: the next reader takes it.
//! - `task.joining`: JOINER in `taking` and no joiner: the next change wakes nobody, and clears it.

use crate::{
    error::RegionError,
    primitive::{
        Acquire, AtomicU32, Buffer, Change, Deadline, FutexWord, MAX_WORDS, Me, Mutant, Relaxed, Release,
        Wake, me, mutant, spin_hint, wait_any,
    },
    queue::{
        doorbell::Reading,
        ends::{Bounds, NotReceived, RawQueue, moment},
        lease::{FINISHED_MASK, Kind, Lease, State, Watched},
        ring::{Damage, MAX_CAPACITY, NotTaken, Record},
    },
    region::{Handle, Region, Row, Shareable, SharedBytes, portable},
    sync::{MAX_HELD, Patience, may_hold_more},
};

/// More places than these one wait could not watch beside the doorbell.
pub(crate) const MAX_PLACES: usize = MAX_WORDS - 2;

/// No more records than the counts of finished ones can tell apart.
const MAX_BUFFER: usize = MAX_CAPACITY / 2;

/// How many there are of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Items that can be taken at one time, beside the dead letters.
    pub(crate) takers: usize,
    /// Dead letters that are kept.
    pub(crate) letters: usize,
    /// The longest item, in bytes.
    pub(crate) longest: usize,
    /// How often an item is handed out at most, if there is room for a dead letter.
    pub(crate) deliveries: u32,
}

portable!(Limits { takers, letters, longest, deliveries });

impl Limits {
    fn places(self) -> usize {
        self.takers + self.letters
    }

    /// The bytes between one place's item and the next one's.
    fn stride(self) -> usize {
        self.longest.next_multiple_of(8)
    }
}

/// What the receivers share beside the places.
#[repr(C, align(64))]
pub(crate) struct Desk {
    taking: FutexWord,
    cursor: AtomicU32,
    _rest: [u64; 7],
}

/// In `taking`: somebody sleeps until it changes, or soon will.
const JOINER: u32 = 1;

impl Desk {
    /// The place that is being filled.
    fn taking(&self) -> Option<usize> {
        // ORDERING: Relaxed, carried by the end's lock, which the kernel may have handed over.
        (self.taking.load(Relaxed) / 2).checked_sub(1).map(|place| place as usize)
    }

    /// Notes that `place` is being filled, which comes after none, or that none is, and wakes the joiners (T2). Only
    /// the head of the receiving line may.
    #[inline]
    fn set_taking(&self, place: Option<usize>) {
        let next = place.map_or(0, |place| 2 * (place as u32 + 1));
        let seen = self.taking.load(Relaxed) & !JOINER; // ORDERING: Relaxed, others set the bit alone.
        // ORDERING(taken): Release.
        if self.taking.compare_exchange(seen, next, Release, Relaxed).is_err() {
            // In one step. WAKE_OP is a full barrier: `taken` holds.
            let change = if next == 0 { Change::Clear } else { Change::Add(next - JOINER) };
            if mutant(Mutant::TakingNotTold) {
                // ORDERING(taken): Release; the fault is that nobody is woken.
                self.taking.swap(next, Release);
            } else {
                self.taking.change_and_wake(change, u32::MAX);
            }
        }
    }
}

// SAFETY: two atomic words, valid whatever stands in them.
unsafe impl Shareable for Desk {
    const ROBUST: &'static [usize] = &[];
}

/// An item that the caller holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) place: usize,
    pub(crate) deliveries: u32,
}

/// Why nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotGiven {
    Queue(NotReceived),
    /// The caller holds as many as it may.
    TooMany(usize),
}

impl From<NotReceived> for NotGiven {
    fn from(reason: NotReceived) -> NotGiven {
        NotGiven::Queue(reason)
    }
}

/// A queue of byte strings that come back until they are finished.
#[derive(Clone)]
pub(crate) struct RawTasks {
    pub(crate) queue: RawQueue,
    desk: Handle<Desk>,
    leases: Row<Lease>,
    bytes: SharedBytes,
    limits: Limits,
}

portable!(RawTasks { queue, desk, leases, bytes, limits });

impl RawTasks {
    /// What such a queue takes of a region.
    pub(crate) fn footprint(bounds: Bounds, limits: Limits) -> Result<usize, RegionError> {
        if limits.takers == 0 || limits.longest == 0 {
            return Err(RegionError::ZeroSize);
        }
        let places = limits.takers.saturating_add(limits.letters);
        if places > MAX_PLACES {
            return Err(RegionError::TooLarge { need: places, limit: MAX_PLACES });
        }
        if limits.longest > MAX_BUFFER {
            return Err(RegionError::TooLarge { need: limits.longest, limit: MAX_BUFFER });
        }
        if bounds.buffer > MAX_BUFFER {
            return Err(RegionError::TooLarge { need: bounds.buffer, limit: MAX_BUFFER });
        }
        let places = limits.places() * (size_of::<Lease>() + limits.stride());
        Ok(RawQueue::footprint(bounds) + size_of::<Desk>() + places + 3 * 128)
    }

    pub(crate) fn new_in(region: &Region, bounds: Bounds, limits: Limits) -> Result<RawTasks, RegionError> {
        // All of it or nothing, unless another process places something at the same moment.
        let (need, have) = (RawTasks::footprint(bounds, limits)?, region.room());
        if need > have {
            return Err(RegionError::NoRoom { need, have });
        }
        let desk = Desk { taking: FutexWord::new(0), cursor: AtomicU32::new(0), _rest: [0; 7] };
        let queue = RawQueue::new_in(region, bounds)?;
        let (_, bytes) = region.place_with_bytes(Nothing, limits.places() * limits.stride(), 64)?;
        let (desk, leases) = region.place_with_row(desk, limits.places(), Lease::new)?;
        Ok(RawTasks { queue, desk, leases, bytes, limits })
    }

    /// The longest item that can ever be sent.
    pub(crate) fn max_len(&self) -> usize {
        self.limits.longest.min(self.queue.max_len())
    }

    fn buffer(&self) -> &Buffer {
        self.bytes.buffer()
    }

    /// Takes an item, and copies it to `copy`, waiting for one as long as `patience` lasts.
    pub(crate) fn take(&self, copy: &mut Vec<u8>, patience: Patience) -> Result<Taken, NotGiven> {
        let me = me();
        if may_hold_more(me).is_err() {
            return Err(NotGiven::TooMany(MAX_HELD as usize));
        }
        let tries = matches!(patience, Patience::None);
        let (patience, deadline) = match patience {
            Patience::None if self.seems_empty() => return Err(NotReceived::Empty.into()),
            Patience::None => (moment(), None),
            Patience::Until(deadline) => (patience, deadline),
        };
        let late = if tries { NotReceived::Empty } else { NotReceived::TimedOut };
        let _end = self.queue.hold_receiving(patience, late)?;
        self.settle();
        let mut commits_are_over = false;
        loop {
            let tail = match self.search(me, copy)? {
                Found::Item(taken) => return Ok(taken),
                Found::NoPlace => None,
                Found::NoRecord(tail) => Some(tail),
            };
            if tail.is_some_and(Reading::is_closed) && !commits_are_over {
                self.queue
                    .pass_through_sending(patience)
                    .map_err(|why| if why == NotReceived::TimedOut { late } else { why })?;
                commits_are_over = true;
            } else if self.sleep(me, tail, tries, deadline)? == Wake::TimedOut {
                return Err(late.into());
            }
        }
    }

    /// Judges by what lies there, not by who holds the end.
    fn seems_empty(&self) -> bool {
        // What a dead taker was just taking may be an item: `settle` will tell.
        let given_back = |lease: &Lease| {
            lease.owner().is_free() && matches!(lease.state().kind(), Kind::Item | Kind::Taking)
        };
        self.queue.is_empty() && !self.queue.is_closed() && !self.leases.iter().any(given_back)
    }

    /// Puts right what the last one at this end left, if it died.
    fn settle(&self) {
        let Some(place) = self.desk.taking() else { return };
        if let Some(lease) = self.leases.get(place) {
            let state = lease.state();
            if state.kind() == Kind::Taking {
                // ORDERING: Relaxed, carried by the end's lock.
                let is_void = lease.ticket.load(Relaxed) == self.queue.ring().taken();
                let is_void = is_void && !mutant(Mutant::LeaseNotVoided);
                lease.set_state(state.holding(if is_void { Kind::Nothing } else { Kind::Item }));
            }
        }
        self.desk.set_taking(None);
    }

    /// Takes what was given back, or the oldest record, whichever comes first from the cursor on. The caller holds the
    /// receiving end.
    fn search(&self, me: Me, copy: &mut Vec<u8>) -> Result<Found, NotGiven> {
        let oldest = match self.queue.ring().peek() {
            Ok(record) if record.len() > self.limits.stride() => {
                return Err(NotReceived::Damaged(self.damage(record.len())).into());
            }
            Ok(record) => Ok(record),
            Err(NotTaken::Nothing(tail)) => Err(tail),
            Err(NotTaken::Damaged(damage)) => return Err(NotReceived::Damaged(damage).into()),
            Err(NotTaken::NoMemory(len)) => return Err(NotReceived::NoMemory(len).into()),
        };
        let places = self.leases.len();
        let first = self.desk.cursor.load(Relaxed) as usize;
        for place in (first..first + places).map(|place| place % places) {
            let lease = &self.leases[place];
            if !lease.owner().is_free() {
                continue;
            }
            let state = lease.state();
            let taken = match (state.kind(), oldest) {
                (Kind::Nothing, Ok(record)) => self.take_record(me, place, record, copy)?,
                (Kind::Item, _) => self.take_given_back(me, place, copy)?,
                _ => None,
            };
            if let Some(taken) = taken {
                self.desk.cursor.store(place as u32 + 1, Relaxed);
                return Ok(Found::Item(taken));
            }
        }
        Ok(oldest.map_or_else(Found::NoRecord, |_| Found::NoPlace))
    }

    /// Takes the oldest record into a free place.
    #[inline]
    fn take_record(
        &self,
        me: Me,
        place: usize,
        record: Record,
        copy: &mut Vec<u8>,
    ) -> Result<Option<Taken>, NotGiven> {
        let lease = &self.leases[place];
        reserve(copy, record.len())?;
        if !lease.claim(me) {
            return Ok(None);
        }
        let ring = self.queue.ring();
        ring.copy(record, copy);
        self.buffer().write(place * self.limits.stride(), copy);
        // CRASH(task.copied): the place is held, and nothing is in it.
        // ORDERING: Relaxed, carried by the lease's `state`.
        lease.len.store(record.len() as u32, Relaxed);
        lease.ticket.store(record.ticket(), Relaxed);
        lease.deliveries.store(1, Relaxed);
        lease.kept.store(0, Relaxed);
        self.desk.set_taking(Some(place));
        let state = lease.state();
        if mutant(Mutant::LeaseAfterHead) {
            ring.take(record);
        }
        lease.set_state(state.holding(Kind::Taking));
        // CRASH(task.written): the ticket equals the head's count: void.
        if !mutant(Mutant::LeaseAfterHead) {
            ring.take(record);
        }
        // CRASH(task.taken): the head's count has moved on: an item.
        lease.set_state(state.holding(Kind::Item));
        self.desk.set_taking(None);
        Ok(Some(Taken { place, deliveries: 1 }))
    }

    /// Takes what was given back, where it lies; or makes it a dead letter.
    #[cold]
    fn take_given_back(&self, me: Me, place: usize, copy: &mut Vec<u8>) -> Result<Option<Taken>, NotGiven> {
        let lease = &self.leases[place];
        let delivered = lease.deliveries.load(Relaxed);
        if delivered >= self.limits.deliveries && self.letters() < self.limits.letters {
            lease.finish(Kind::DeadLetter);
            // CRASH(task.buried): a dead letter, counted as finished.
            return Ok(None);
        }
        reserve(copy, self.len_of(lease)?)?;
        if !lease.claim(me) {
            return Ok(None);
        }
        let deliveries = delivered.saturating_add(1);
        lease.deliveries.store(deliveries, Relaxed);
        lease.kept.store(0, Relaxed);
        self.buffer().read(place * self.limits.stride(), copy);
        Ok(Some(Taken { place, deliveries }))
    }

    /// The length of what lies in a place.
    fn len_of(&self, lease: &Lease) -> Result<usize, NotReceived> {
        let len = lease.len.load(Relaxed) as usize;
        if len <= self.limits.stride() { Ok(len) } else { Err(NotReceived::Damaged(self.damage(len))) }
    }

    /// So many bytes where no item can be so long.
    fn damage(&self, found: usize) -> Damage {
        Damage { found, limit: self.limits.longest }
    }

    /// Sleeps until there may be something, for the head of the receiving line. `tail` is what it showed, if there is
    /// no record; else there is no place for it.
    fn sleep(
        &self,
        me: Me,
        tail: Option<Reading>,
        tries: bool,
        deadline: Option<Deadline>,
    ) -> Result<Wake, NotGiven> {
        let is_closed = tail.is_some_and(Reading::is_closed);
        let (mut mine, mut count) = (0, 0);
        let mut words: [(&FutexWord, u32); MAX_WORDS] = [(&self.desk.taking, 0); MAX_WORDS];
        for lease in self.leases.iter() {
            match lease.watch(me) {
                // Given back just now, or free for the record that is there.
                Watched::Free(state) if state.kind() == Kind::Item => return Ok(Wake::Changed),
                Watched::Free(state) if state.kind() == Kind::Nothing && tail.is_none() => {
                    return Ok(Wake::Changed);
                }
                Watched::Free(_) => {}
                Watched::Mine => mine += 1,
                Watched::Held(..) if mutant(Mutant::TakersUnwatched) => {}
                Watched::Held(word, expected) => {
                    words[count] = (word, expected);
                    count += 1;
                }
            }
        }
        match tail {
            Some(_) if is_closed && (count == 0 || mine > 0) => return Err(NotReceived::Closed.into()),
            None if count == 0 => return Err(NotGiven::TooMany(mine)),
            _ if tries => return Err(NotReceived::Empty.into()),
            Some(tail) if !is_closed && self.queue.tail_bell().changes_soon(tail, None, deadline) => {
                return Ok(Wake::Changed);
            }
            Some(tail) if !is_closed => match self.queue.tail_bell().announce(tail) {
                Some(bell) => {
                    words[count] = bell;
                    count += 1;
                }
                None => return Ok(Wake::Changed),
            },
            _ => {}
        }
        Ok(wait_any(&words[..count], deadline))
    }

    /// Finishes what lies in a place, which the caller holds.
    #[inline]
    pub(crate) fn finish(&self, me: Me, place: usize) {
        let lease = &self.leases[place];
        lease.finish(Kind::Nothing);
        // CRASH(task.finished): the kernel frees the place.
        lease.release(me);
    }

    /// Gives back what lies in a place, which the caller holds.
    pub(crate) fn give_back(&self, me: Me, place: usize) {
        self.leases[place].release(me);
    }

    /// What was sent and is not finished: exact at some instant of the call.
    pub(crate) fn unfinished(&self) -> u32 {
        let look = || {
            let sent = self.queue.tail_bell().read().count();
            // Each count only grows, one by one: their sum is what was finished at some instant of the adding up.
            let finished =
                self.leases.iter().fold(0_u32, |sum, lease| sum.wrapping_add(lease.state().finished()));
            // Nothing was sent meanwhile: at that instant.
            let same = self.queue.tail_bell().read().count() == sent;
            same.then(|| sent.wrapping_sub(finished) & FINISHED_MASK)
        };
        for _ in 0..64 {
            if let Some(unfinished) = look() {
                return unfinished;
            }
            spin_hint();
        }
        // Much is being sent: not now. (If somebody sleeps or stands still at that end, nothing is sent either.)
        loop {
            let _end = self.queue.hold_sending(moment());
            if let Some(unfinished) = look() {
                return unfinished;
            }
        }
    }

    /// Waits until all is finished; false when `deadline` came first.
    pub(crate) fn join(&self, deadline: Option<Deadline>) -> bool {
        let mut expired = false;
        loop {
            if self.unfinished() == 0 {
                return true;
            }
            if expired {
                return false;
            }
            expired = self.sleep_until_one_is_finished(deadline) == Wake::TimedOut;
        }
    }

    /// Sleeps until an item is finished, or may have been taken from the ring.
    fn sleep_until_one_is_finished(&self, deadline: Option<Deadline>) -> Wake {
        let is_item = |state: &State| state.kind() == Kind::Item;
        let item =
            || self.leases.iter().find_map(|lease| Some((lease, Some(lease.state()).filter(is_item)?)));
        if let Some((lease, state)) = item() {
            return lease.await_finish(state, deadline);
        }
        // ORDERING(taken): Acquire: what was filled before is seen below.
        let expected = self.desk.taking.fetch_or(JOINER, Acquire) | JOINER;
        // CRASH(task.joining): the bit stays.
        if item().is_some() || self.unfinished() == 0 {
            return Wake::Changed;
        }
        self.desk.taking.wait(expected, deadline)
    }

    /// How many dead letters there are.
    pub(crate) fn letters(&self) -> usize {
        self.leases.iter().filter(|lease| lease.state().kind() == Kind::DeadLetter).count()
    }

    /// Takes a dead letter out, copies it to `copy`, and says how often it was handed out.
    pub(crate) fn open_letter(&self, copy: &mut Vec<u8>) -> Result<Option<u32>, NotGiven> {
        let me = me();
        for (place, lease) in self.leases.iter().enumerate() {
            if lease.state().kind() != Kind::DeadLetter || !lease.claim(me) {
                continue;
            }
            let state = lease.state();
            let opened = if state.kind() == Kind::DeadLetter {
                let reserved = self.len_of(lease).map_err(NotGiven::from).and_then(|len| reserve(copy, len));
                if reserved.is_ok() {
                    self.buffer().read(place * self.limits.stride(), copy);
                    // CRASH(task.opened): it is still there for the next.
                    lease.set_state(state.holding(Kind::Nothing));
                }
                Some(reserved.map(|()| lease.deliveries.load(Relaxed)))
            } else {
                None
            };
            lease.release(me);
            if let Some(opened) = opened {
                return opened.map(Some);
            }
        }
        Ok(None)
    }

    /// Notes that the caller, who holds the place, has no guard for it any more; `number` says which came first.
    pub(crate) fn keep(&self, place: usize, number: u32) {
        // ORDERING: Relaxed, for this thread's own eyes.
        self.leases[place].kept.store(number.max(1), Relaxed);
    }

    /// Finishes the first of those that the caller holds without a guard. False if there is none.
    pub(crate) fn finish_kept(&self, me: Me) -> bool {
        let is_kept = |lease: &Lease| lease.owner().owner() == me.tid() && lease.kept.load(Relaxed) != 0;
        let kept = self.leases.iter().enumerate().filter(|(_, lease)| is_kept(lease));
        let first = kept.min_by_key(|(_, lease)| lease.kept.load(Relaxed)).map(|(place, _)| place);
        first.map(|place| self.finish(me, place)).is_some()
    }

    /// The places that somebody holds.
    pub(crate) fn held(&self) -> usize {
        self.leases.iter().filter(|lease| !lease.owner().is_free()).count()
    }
}

/// What a search came to.
enum Found {
    Item(Taken),
    /// There is a record, and every place is in use.
    NoPlace,
    /// There is no record; what the tail showed.
    NoRecord(Reading),
}

/// Makes `copy` `len` bytes long.
fn reserve(copy: &mut Vec<u8>, len: usize) -> Result<(), NotGiven> {
    copy.clear();
    copy.try_reserve_exact(len).map_err(|_| NotReceived::NoMemory(len))?;
    copy.resize(len, 0);
    Ok(())
}

/// For bytes that belong to no struct.
#[repr(C, align(64))]
struct Nothing;

// SAFETY: it has no contents.
unsafe impl Shareable for Nothing {
    const ROBUST: &'static [usize] = &[];
}
