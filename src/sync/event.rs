//! A flag that processes wait for, with a generation, so that a pulse reaches everybody who was waiting.
//!
//! # Word
//! | bits  | meaning                                  | written by                                                  |
//! |-------|------------------------------------------|-------------------------------------------------------------|
//! | 0     | SLEEPERS: somebody sleeps, or soon will  | a waiter sets it; `clear` takes it away                     |
//! | 1     | SET                                      | `set`: one exchange, or one FUTEX_WAKE_OP if there are SLEEPERS |
//! | 2..32 | the generation: how often it was cleared | `clear`: one exchange                                       |
//!
//! # Invariants
//! - V1: a thread sleeps only on a word with SLEEPERS and without SET.
//! - V2: SET comes together with waking all, or when nobody sleeps. So on a word with SET nobody sleeps, and `clear`
//!   may take SLEEPERS away.
//! - V3: a waiter returns when it sees SET, or another generation than the one in which it began: then somebody has set
//!   the flag since.
//!
//! # Ordering edges
//! - `signal`: Release in `set` (or the kernel's change, a full barrier) -> Acquire in `wait` and `is_set`; carries
//!   what was written before the flag was set.
//! - `pulse`: AcqRel in `clear` -> the same Acquire: who sees the generation that a clear began has seen the set
//!   before it.
//!
//! # Crash points
//! - `event.announced`: SLEEPERS is set and nobody sleeps: the next `set` wakes nobody, and costs a system call more.
//!
//! `set` is one step whichever way it goes, so no death parts it from its wakes; and since a FUTEX_WAKE_OP that ors a
//! bit may be made twice, any number of threads may set at once. A waiter owes nobody a wake: its death needs no
//! repair.

use std::{fmt, time::Duration};

use crate::{
    error::RegionError,
    primitive::{
        AcqRel, Acquire, Change, Deadline, FutexWord, Mutant, Relaxed, Release, Spins, Wake, mutant,
    },
    region::{Handle, Region, Shareable, in_arena, portable},
};

const SLEEPERS: u32 = 1;
const SET: u32 = 2;
const GENERATION: u32 = 4;

/// Words and algorithm; the memory is somebody else's.
#[repr(C)]
pub(crate) struct RawEvent {
    pub(super) word: FutexWord,
}

// SAFETY: one atomic word.
unsafe impl Shareable for RawEvent {
    const ROBUST: &'static [usize] = &[];
}

impl RawEvent {
    pub(crate) fn new() -> RawEvent {
        RawEvent { word: FutexWord::new(0) }
    }

    #[inline]
    pub(crate) fn is_set(&self) -> bool {
        // ORDERING(signal): Acquire, so that we see what the setter wrote.
        self.word.load(Acquire) & SET != 0
    }

    /// Says whether the flag was clear before.
    #[inline]
    pub(crate) fn set(&self) -> bool {
        // ORDERING: Relaxed, a first guess; the exchange or the kernel decides.
        let mut seen = self.word.load(Relaxed);
        loop {
            if seen & SET != 0 {
                // ORDERING(signal): Release all the same, by an exchange that changes nothing: who sees this flag
                // sees what we wrote, though another set it.
                match self.word.compare_exchange(seen, seen, Release, Relaxed) {
                    Ok(_) => return false,
                    Err(now) => seen = now,
                }
                continue;
            }
            if seen & SLEEPERS != 0 {
                self.set_and_wake();
                return true;
            }
            // ORDERING(signal): Release.
            match self.word.compare_exchange(seen, seen | SET, Release, Relaxed) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
    }

    #[cold]
    fn set_and_wake(&self) {
        if mutant(Mutant::SetThenWake) {
            self.word.fetch_or(SET, Release);
            self.word.wake(u32::MAX);
            return;
        }
        if mutant(Mutant::SetWakesOne) {
            self.word.change_and_wake(Change::SetBit(SET), 1);
            return;
        }
        self.word.change_and_wake(Change::SetBit(SET), u32::MAX);
    }

    /// Says whether the flag was set before.
    pub(crate) fn clear(&self) -> bool {
        // ORDERING: Relaxed, a first guess.
        let mut seen = self.word.load(Relaxed);
        loop {
            if seen & SET == 0 {
                return false;
            }
            let generation = if mutant(Mutant::ClearKeepsGeneration) { 0 } else { GENERATION };
            let cleared = (seen & !(SET | SLEEPERS)).wrapping_add(generation); // V2
            // ORDERING(pulse): AcqRel, so that who sees the new generation sees what the setter wrote.
            match self.word.compare_exchange(seen, cleared, AcqRel, Relaxed) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
    }

    /// The word to sleep on and as what, for whoever waits for several things; `None` if the flag is set, or was since
    /// the wait `began`, which is empty at first.
    pub(crate) fn watch(&self, began: &mut Option<u32>) -> Option<(&FutexWord, u32)> {
        // ORDERING(signal), ORDERING(pulse): Acquire, here and below.
        let mut seen = self.word.load(Acquire);
        if mutant(Mutant::PulseForgotten) {
            *began = None;
        }
        let began = *began.get_or_insert(seen);
        loop {
            if seen & SET != 0 || (seen ^ began) >= GENERATION {
                return None;
            }
            // ORDERING: the success carries nothing; a failure is a load, Acquire as above.
            match self.word.compare_exchange(seen, seen | SLEEPERS, Acquire, Acquire) {
                Ok(_) => return Some((&self.word, seen | SLEEPERS)),
                Err(now) => seen = now,
            }
        }
    }

    /// Waits until the flag is set, or was in between; false when `deadline` came first.
    pub(crate) fn wait(&self, deadline: Option<Deadline>) -> bool {
        // ORDERING(signal), ORDERING(pulse): Acquire, here and below.
        let began = self.word.load(Acquire);
        let is_over = |seen: u32| seen & SET != 0 || (seen ^ began) >= GENERATION;
        let mut seen = began;
        let mut spins = Spins::new(deadline);
        let mut expired = false;
        loop {
            if is_over(seen) {
                return true;
            }
            if expired {
                return false;
            }
            if spins.turn() {
                seen = self.word.load(Acquire);
                continue;
            }
            if seen & SLEEPERS == 0 {
                // ORDERING: the success carries nothing; a failure is a load, Acquire as above.
                match self.word.compare_exchange(seen, seen | SLEEPERS, Acquire, Acquire) {
                    Ok(_) => seen |= SLEEPERS,
                    Err(now) => {
                        seen = now;
                        continue;
                    }
                }
            }
            // CRASH(event.announced): the bit stays, and does no harm.
            expired = self.word.wait(seen, deadline) == Wake::TimedOut;
            seen = self.word.load(Acquire);
        }
    }
}

/// A flag that processes set, clear and wait for.
///
/// Whoever waits when it is set goes on, even if it is cleared again before the waiter has run. A process that is
/// killed, setting, clearing or waiting, holds nobody up. A clone is another handle to the same flag.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// let ready = pshared::Event::new()?;
/// assert!(!ready.wait_timeout(Duration::from_millis(1)));
/// assert!(ready.set());
/// ready.wait();
/// # Ok::<(), pshared::RegionError>(())
/// ```
///
/// # References
/// Python `multiprocessing.Event`, whose `set` hangs when a waiter was killed, and whose pulses can be missed.
#[derive(Clone)]
pub struct Event {
    raw: Handle<RawEvent>,
}

portable!(Event { raw });

impl Event {
    /// A clear flag in anonymous memory, which children forked from now on inherit. It takes 4 bytes.
    ///
    /// # Errors
    /// What [`Region::anonymous`] says.
    pub fn new() -> Result<Event, RegionError> {
        in_arena(size_of::<RawEvent>(), Event::new_in)
    }

    /// A clear flag in `region`.
    ///
    /// # Errors
    /// [`RegionError::NoRoom`].
    pub fn new_in(region: &Region) -> Result<Event, RegionError> {
        Ok(Event { raw: region.place(RawEvent::new())? })
    }

    /// Sets the flag, and wakes all who wait for it. Says whether it was clear; of several that set it at the same
    /// moment, more than one may be told so. Never waits.
    #[inline]
    pub fn set(&self) -> bool {
        self.raw.set()
    }

    /// Clears the flag. Says whether it was set. Never waits.
    pub fn clear(&self) -> bool {
        self.raw.clear()
    }

    /// What [`wait_any`](crate::wait_any) sleeps on.
    pub(crate) fn watch(&self, began: &mut Option<u32>) -> Option<(&FutexWord, u32)> {
        self.raw.watch(began)
    }

    /// Whether the flag is set.
    #[inline]
    pub fn is_set(&self) -> bool {
        self.raw.is_set()
    }

    /// Waits until the flag is set, as long as it takes; not at all if it is.
    pub fn wait(&self) {
        self.raw.wait(None);
    }

    /// Waits until the flag is set, at most `timeout` (CLOCK_MONOTONIC, from the call; zero looks once). Says whether
    /// it was set.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.wait_deadline(Deadline::after(timeout))
    }

    /// Waits until the flag is set, at most until `deadline`. Says whether it was set.
    pub fn wait_deadline(&self, deadline: Deadline) -> bool {
        self.raw.wait(Some(deadline))
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // ORDERING: Relaxed, for whoever looks from outside.
        let word = self.raw.word.load(Relaxed);
        f.debug_struct("Event")
            .field("set", &(word & SET != 0))
            .field("sleepers", &(word & SLEEPERS != 0))
            .field("cleared", &(word / GENERATION))
            .finish()
    }
}
