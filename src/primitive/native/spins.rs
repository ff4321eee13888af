//! Looking again and again before a sleep, as long as that has been worth while.
//!
//! A sleep and a wake cost 30 us across CPUs and 4 us on one. Where the other is awake on another CPU, what one waits
//! for comes within a few looks; where both share a CPU, no look ever finds it. Which of the two it is changes, and
//! nobody tells: so each thread learns from its own waits. What it finds late it looks for longer the next time; what
//! it does not find it looks for half as long, and then no more, but for a long look now and then: as long as a sleep
//! and a wake, since two who wait for each other asleep would otherwise never notice that they need not.

use std::cell::Cell;

use super::{Deadline, SPINS, pause, spin_hint};

/// The longest look, in turns.
const LONG: u32 = 2_000;
/// Fewer turns than these are none.
const SHORT: u32 = SPINS / 4;
/// After so many waits without a look comes a long one; if it finds nothing, after twice as many; and so on.
const FIRST: u32 = 16;
const LAST: u32 = 4_096;

/// What a thread has learned.
struct Learned {
    /// How many turns the next look has.
    turns: Cell<u32>,
    /// Without turns: how many waits come before the next long look, and how many there were before the last.
    pause: Cell<u32>,
    pauses: Cell<u32>,
}

thread_local! {
    static LEARNED: Learned =
        const { Learned { turns: Cell::new(SPINS), pause: Cell::new(0), pauses: Cell::new(FIRST) } };
}

/// One wait's turns. Dropped before they are used up, they were worth while.
pub(crate) struct Spins {
    deadline: Option<Deadline>,
    /// None before the first turn: nothing is learned from who need not wait.
    all: Option<u32>,
    left: u32,
}

impl Spins {
    /// For a wait until `deadline`.
    #[inline]
    pub(crate) fn new(deadline: Option<Deadline>) -> Spins {
        Spins { deadline, all: None, left: 0 }
    }

    /// Who waits for nothing does not look again.
    #[cold]
    fn begin(&mut self) {
        if self.deadline.is_some_and(|deadline| deadline.has_passed()) {
            self.all = Some(0);
            return;
        }
        self.left = LEARNED.with(|learned| match (learned.turns.get(), learned.pause.get()) {
            (0, 0) => LONG,
            (0, pause) => {
                learned.pause.set(pause - 1);
                0
            }
            (turns, _) => turns,
        });
        self.all = Some(self.left);
    }

    /// Pauses for a moment; false if there has been enough of that.
    #[inline]
    pub(crate) fn turn(&mut self) -> bool {
        if self.all.is_none() {
            self.begin();
        }
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        if self.left == 0 {
            self.in_vain();
            return false;
        }
        spin_hint();
        true
    }

    #[cold]
    fn in_vain(&self) {
        let all = self.all.unwrap_or(0);
        LEARNED.with(|learned| match learned.turns.get() {
            0 => {
                let pauses = (2 * learned.pauses.get()).min(LAST);
                learned.pauses.set(pauses);
                learned.pause.set(pauses);
            }
            _ if all / 2 < SHORT => {
                learned.turns.set(0);
                learned.pause.set(learned.pauses.get());
            }
            _ => learned.turns.set(all / 2),
        });
    }
}

impl Drop for Spins {
    #[inline]
    fn drop(&mut self) {
        if let Some(all) = self.all
            && self.left > 0
        {
            LEARNED.with(|learned| {
                learned.turns.set((2 * (all - self.left) + SPINS).min(LONG));
                learned.pauses.set(FIRST);
            });
        }
    }
}

/// Looks at a lock that another holds, before a sleep.
///
/// Each look takes the line of the lock's word from its holder, who wants it back at once. So the looks come after 1,
/// 2, 4, ... pauses: a holder who comes back again and again does so undisturbed, and takes turns by the dozen. All of
/// them last about as long as a sleep and a wake. (Two processes with an empty section: 31 ns a turn with a look after
/// every pause, 9 ns so; with 100 ns inside 600 ns and 80 ns, most of it for sleeps that came too soon. With longer
/// pauses a turn takes less still where nobody works outside, but the shares are less even.)
pub(crate) struct Backoff {
    deadline: Option<Deadline>,
    left: u32,
    pauses: u32,
}

impl Backoff {
    /// Pauses before a sleep.
    const ALL: u32 = 1_000;
    /// The most between two looks.
    const MOST: u32 = 32;
    /// Before so many pauses and more it looks at the clock too.
    const LATE: u32 = 16;

    /// For a wait until `deadline`.
    pub(crate) fn new(deadline: Option<Deadline>) -> Backoff {
        Backoff { deadline, left: Backoff::ALL, pauses: 1 }
    }

    /// Pauses for a while; false if there has been enough of that.
    #[inline]
    pub(crate) fn turn(&mut self) -> bool {
        if self.left == 0 {
            return false;
        }
        let pauses = self.pauses.min(self.left);
        if pauses >= Backoff::LATE && self.deadline.is_some_and(|deadline| deadline.has_passed()) {
            self.left = 0;
            return false;
        }
        pause(pauses);
        self.left -= pauses;
        self.pauses = (2 * pauses).min(Backoff::MOST);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backoff_has_so_many_looks() {
        let looks = |deadline| {
            let mut backoff = Backoff::new(deadline);
            let looks = std::iter::repeat_with(|| backoff.turn()).take_while(|&looks| looks).count();
            assert!(!backoff.turn());
            looks
        };
        // After 1, 2, ... 16 pauses, thirty times 32, and the rest.
        assert_eq!(looks(None), 5 + 30 + 1);
        assert_eq!(looks(Some(Deadline::now())), 4);
    }

    /// Turns until there has been enough; or until something is found.
    fn wait(found_after: Option<u32>) -> u32 {
        let mut spins = Spins::new(None);
        let mut turns = 0;
        while Some(turns) != found_after && spins.turn() {
            turns += 1;
        }
        turns
    }

    #[test]
    fn what_is_never_found_is_looked_for_less_and_less() {
        let looks: Vec<u32> = (0..20_000).map(|_| wait(None)).filter(|&turns| turns > 0).collect();
        assert_eq!(looks[..3], [SPINS - 1, SPINS / 2 - 1, SPINS / 4 - 1]);
        assert!(looks[3..].iter().all(|&turns| turns == LONG - 1));
        // 16, 32, 64 ... 4,096 waits lie between them.
        assert_eq!(looks.len(), 3 + 9 + 2);
    }

    #[test]
    fn who_does_not_wait_learns_nothing() {
        for _ in 0..10 {
            assert_eq!(wait(Some(0)), 0);
            let mut spins = Spins::new(Some(Deadline::now()));
            assert!(!spins.turn() && !spins.turn());
        }
        assert_eq!(wait(None), SPINS - 1);
    }

    #[test]
    fn what_is_found_late_is_looked_for_as_long() {
        assert_eq!(wait(Some(90)), 90);
        assert_eq!(wait(Some(270)), 270);
        while wait(None) > 0 {}
        // A long look finds that the other sleeps, and then that it does not any more.
        while wait(Some(700)) < 700 {}
        assert_eq!(wait(Some(700)), 700);
        assert_eq!(wait(Some(3)), 3);
        assert_eq!(wait(None), 2 * 3 + SPINS - 1);
    }
}
