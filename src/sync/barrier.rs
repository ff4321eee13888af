//! [`Barrier`]: the handle. How it works is told in `sync/raw_barrier.rs`.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    error::{BarrierError, NewBarrierError},
    primitive::Deadline,
    region::{Handle, Region, Row, in_arena, portable},
    sync::{
        raw_barrier::{MAX_PARTIES, Meeting, RawBarrier, parties_of, slots_for},
        round::State,
        slots::Slot,
    },
};

/// What the last to arrive runs before anybody goes on.
type Action = dyn Fn() + Send + Sync;

/// A place where parties wait until all of them are there.
///
/// A party that is killed while it waits breaks the barrier for the others at once: they are told
/// [`PeerDied`](BarrierError::PeerDied), and so is whoever comes, until [`reset`](Barrier::reset). A party that dies
/// *between* its waits is not known to the barrier, and the others wait for somebody to come in its place: a wait with
/// a timeout ends all the same. Any thread of any process that has the barrier is as good as any other; there may be
/// more of them than parties, and they take turns. A clone is another handle to the same barrier.
///
/// It takes 64 bytes, and 64 for each party and for eight more.
///
/// # Examples
/// ```
/// use pshared::{Barrier, BarrierError};
///
/// let barrier = Barrier::new(2)?;
/// std::thread::scope(|scope| {
///     scope.spawn(|| barrier.wait());
///     barrier.wait()
/// })?;
/// barrier.abort();
/// assert_eq!(barrier.wait().unwrap_err(), BarrierError::Aborted);
/// barrier.reset();
/// assert!(!barrier.is_broken());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Python `multiprocessing.Barrier`, which hangs, past any timeout, when a party is killed that waits; `std`'s
/// `Barrier`; pthread_barrier_wait(3).
#[derive(Clone)]
pub struct Barrier {
    raw: Handle<RawBarrier>,
    slots: Row<Slot>,
    /// In this process's own memory: a forked child has a copy.
    action: Option<Arc<Action>>,
}

/// How a wait ended that all parties came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarrierWaitResult {
    index: usize,
    leader: bool,
}

impl BarrierWaitResult {
    /// How many had arrived before: in each round every number from 0 to below
    /// [`parties`](Barrier::parties) is given to one of them.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Whether this party was the last to arrive: true for one of them. If there is an action, it ran it.
    pub fn is_leader(&self) -> bool {
        self.leader
    }
}

portable!(Barrier { raw, slots, action });

impl Barrier {
    /// A barrier for `parties` in anonymous memory, which children forked from now on inherit.
    ///
    /// # Errors
    /// - [`NewBarrierError::NoParties`], [`NewBarrierError::TooManyParties`]: 0, or more than 16,000.
    /// - [`NewBarrierError::Memory`]: what [`Region::anonymous`] says.
    pub fn new(parties: usize) -> Result<Barrier, NewBarrierError> {
        Barrier::build(None, parties, None)
    }

    /// A barrier for `parties` in `region`.
    ///
    /// # Errors
    /// As for [`new`](Barrier::new), with [`RegionError::NoRoom`](crate::RegionError::NoRoom).
    pub fn new_in(region: &Region, parties: usize) -> Result<Barrier, NewBarrierError> {
        Barrier::build(Some(region), parties, None)
    }

    /// A barrier whose `action` the last to arrive runs before anybody goes on.
    ///
    /// Each process has its own copy of what the closure has captured, as it was when the process was forked; so what
    /// it is to do for all it does through shared objects. While it runs all parties are there, and the death of one
    /// who only waits changes nothing; that of the one who runs it breaks the barrier. If it panics, the others are
    /// told [`ActionFailed`](BarrierError::ActionFailed), and the panic goes on.
    ///
    /// # Errors
    /// As for [`new`](Barrier::new).
    ///
    /// # Examples
    /// ```
    /// let rounds = pshared::Atomic::new(0_u32)?;
    /// let counted = rounds.clone();
    /// let barrier = pshared::Barrier::with_action(1, move || _ = counted.fetch_add(1))?;
    /// assert!(barrier.wait()?.is_leader());
    /// assert_eq!(rounds.get(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_action(
        parties: usize,
        action: impl Fn() + Send + Sync + 'static,
    ) -> Result<Barrier, NewBarrierError> {
        Barrier::build(None, parties, Some(Arc::new(action)))
    }

    /// The same in `region`.
    ///
    /// # Errors
    /// As for [`new_in`](Barrier::new_in).
    pub fn with_action_in(
        region: &Region,
        parties: usize,
        action: impl Fn() + Send + Sync + 'static,
    ) -> Result<Barrier, NewBarrierError> {
        Barrier::build(Some(region), parties, Some(Arc::new(action)))
    }

    fn build(
        region: Option<&Region>,
        parties: usize,
        action: Option<Arc<Action>>,
    ) -> Result<Barrier, NewBarrierError> {
        match parties {
            0 => return Err(NewBarrierError::NoParties),
            1..=MAX_PARTIES => {}
            _ => return Err(NewBarrierError::TooManyParties { parties, limit: MAX_PARTIES }),
        }
        let slots = slots_for(parties);
        let place = |region: &Region| region.place_with_row(RawBarrier::new(), slots, Slot::new);
        let (raw, slots) = match region {
            Some(region) => place(region)?,
            None => in_arena(size_of::<RawBarrier>() + slots * size_of::<Slot>(), place)?,
        };
        Ok(Barrier { raw, slots, action })
    }

    #[inline]
    pub(super) fn meeting(&self) -> Meeting<'_> {
        Meeting {
            raw: &self.raw,
            slots: &self.slots,
            parties: self.parties(),
            action: self.action.as_deref(),
        }
    }

    /// Waits until all parties have arrived, as long as it takes.
    ///
    /// # Errors
    /// Why the barrier is broken; at once if it was broken before.
    ///
    /// # Panics
    /// If the action panics, in the party that runs it.
    pub fn wait(&self) -> Result<BarrierWaitResult, BarrierError> {
        self.wait_until(None)
    }

    /// Waits at most `timeout` (CLOCK_MONOTONIC, from the call; with zero only the last to arrive gets through).
    ///
    /// If the time is up before all have arrived, or while the action runs, the barrier breaks for all. (A thread too
    /// many, that waits for an earlier round's action to end, breaks nothing.)
    ///
    /// # Errors
    /// - [`BarrierError::TimedOut`]: the time is up, or that of another was.
    /// - What [`wait`](Barrier::wait) says.
    ///
    /// # Panics
    /// As [`wait`](Barrier::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<BarrierWaitResult, BarrierError> {
        self.wait_deadline(Deadline::after(timeout))
    }

    /// Waits at most until `deadline`. As [`wait_timeout`](Barrier::wait_timeout).
    ///
    /// # Errors
    /// As [`wait_timeout`](Barrier::wait_timeout).
    ///
    /// # Panics
    /// As [`wait`](Barrier::wait).
    pub fn wait_deadline(&self, deadline: Deadline) -> Result<BarrierWaitResult, BarrierError> {
        self.wait_until(Some(deadline))
    }

    fn wait_until(&self, deadline: Option<Deadline>) -> Result<BarrierWaitResult, BarrierError> {
        let index = self.meeting().wait(deadline)?;
        Ok(BarrierWaitResult { index, leader: index + 1 == self.parties() })
    }

    /// Breaks the barrier: all who wait are told [`Aborted`](BarrierError::Aborted), and so is whoever comes. Never
    /// waits. If it is broken already, it stays as it is.
    pub fn abort(&self) {
        self.meeting().abort();
    }

    /// Makes the barrier whole again. All who wait are told [`Reset`](BarrierError::Reset), or why it broke before.
    ///
    /// It does not wait for them to leave; only for an action that still runs, if it is not called from within. Killed
    /// on its way it leaves the barrier as it was, or whole.
    pub fn reset(&self) {
        self.meeting().reset();
    }

    /// How many must arrive.
    pub fn parties(&self) -> usize {
        parties_of(self.slots.len())
    }

    /// How many have arrived and wait; 0 when it is broken.
    #[doc(alias = "waiting")]
    pub fn n_waiting(&self) -> usize {
        self.meeting().waiting()
    }

    /// Whether it is broken.
    #[doc(alias = "broken")]
    pub fn is_broken(&self) -> bool {
        matches!(self.meeting().look().state(), State::Broken(why) if why != BarrierError::Reset)
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seen = self.meeting().look();
        let broken = match seen.state() {
            State::Broken(why) => Some(why),
            _ => None,
        };
        f.debug_struct("Barrier")
            .field("parties", &self.parties())
            .field("waiting", &self.n_waiting())
            .field("acting", &(seen.state() == State::Acting))
            .field("broken", &broken)
            .field("round", &seen.round())
            .finish()
    }
}
