//! The words of a condition, and how its waiters are chosen; [`Condition`](crate::Condition) is in `sync/wait.rs`.
//!
//! # Words
//! `state`, 64 bits, changed by exchanges alone:
//!
//! | bits   | name      | meaning                                                                        |
//! |--------|-----------|--------------------------------------------------------------------------------|
//! | 0..15  | `waiting` | who waits of the present epoch; the dead among them                            |
//! | 15..30 | `tokens`  | notifications that no waiter has taken, at most `waiting`                      |
//! | 30     | `sweep`   | the epoch was ended, and perhaps not all who sleep know                        |
//! | 31     | `loner`   | who came when nobody waited sleeps alone, perhaps                              |
//! | 32..44 | `round`   | goes up with the first token of several                                        |
//! | 44..64 | `epoch`   | goes up when everybody who waits is let go                                     |
//!
//! `news` goes up at every notification, behind the change of `state`. `baton` is a robust word: who is on the way
//! from being chosen to having taken its token. Waiters sleep on both, as long as both are as they saw them; but one
//! that sees nobody beside it and no token sleeps on `news` alone, which costs a tenth less. We wake by `news`, the
//! kernel by `baton`.
//!
//! # Invariants
//! - N1: a waiter announces itself (`waiting`, epoch and round as they are) before it frees the user's lock. So who
//!   takes the lock after it and notifies sees it.
//! - N2: a token stays in `state` until its taker has the user's lock. A wake is no more than a hint: one who is killed
//!   with a hint loses none.
//! - N3: a hint that a death eats is given anew: while `baton` is free every waiter's pending slot names it, so the
//!   kernel wakes another; and if somebody has it, that one's passing on, or the kernel at its death, wakes another as
//!   long as there are tokens.
//! - N4: a token is for those who came before it. Who came since (its round is the present one) sleeps on. Otherwise
//!   it could take the token of one who was notified before, and that one would wait for ever.
//! - N5: one of those who came since, and who is woken or hears news all the same while there are tokens, lets
//!   everybody go: it cannot tell whether those before it are alive, and perhaps the news was for itself.
//! - N6: nobody sleeps in an epoch that was ended: its end changes `news` and wakes all, and until it is known that
//!   this was done `sweep` is set: whoever sees that does it again.
//! - N7: nobody stands in line, so that a hint could be spent on it, beside one who sleeps on `news` alone and whom no
//!   death would wake. Who announces itself when `loner` is set changes `news` and wakes all before it looks for the
//!   first time, and only then takes the bit away; the other then sees two who wait. (Most hints go to whoever has
//!   slept longest, and that is the loner. But the kernel wakes real-time tasks first.)
//! - N8: a freed baton is no news, and its hint goes to who sleeps on `news`. So who sleeps on both has compared
//!   `baton` behind its place on `news`: either it saw the baton free, or the hint, which comes after, reaches it.
//!
//! So a death loses nothing and holds nobody up, but a token that nobody alive was meant for stays until the next
//! notification, and then all are let go (N5): a spurious wake-up, after which no trace of the dead is left. Nothing is
//! kept for a waiter, so there is no end to how many there may be: one too many to count ends the epoch.
//!
//! The epoch has 20 bits, `news` 32: a waiter that stands still between two of its instructions while exactly so many
//! are used up, and after that nobody notifies, sleeps on. The round has 12: one who has slept through exactly so many
//! is taken for a newcomer, and all are let go (N5).
//!
//! # Ordering edges
//! - `post`: AcqRel exchanges of `state` -> the same, and Acquire loads: who sees a token has seen what made it.
//! - `herald`: Release addition to `news` -> Acquire load, before `state` is read: who sees the news sees the state.
//! - `relay`: a SeqCst fence between freeing `baton` and reading `tokens`: either we see the token, or its notifier's
//!   wake, which follows it, meets a free baton.
//!
//! # Crash points
//! - `condition.announced`: one too many in `waiting`, until the epoch ends.
//! - `condition.beside`: beside a loner that does not know: `loner` says so to the next who comes (N7).
//! - `condition.posted`: a token, and nobody was woken for it: it is there for the next who looks.
//! - `condition.ended`: an epoch ended, and its sleepers do not know: `sweep` says so (N6).
//! - `condition.hinted`: woken, and `baton` is pending: the kernel wakes another (N3).
//! - `condition.chosen`: with `baton`, token not taken: the kernel marks the word and wakes another.
//! - `condition.taken`: the token is taken, and `baton` held: likewise, and the other finds what tokens are left.
//! - `condition.passed`: `baton` is free and pending: the kernel wakes another, as was to be done.
//!
//! Sources: futex(2), futex_waitv(2); on N4, glibc bug 13165.

use crate::{
    primitive::{
        AcqRel, Acquire, AtomicU64, Deadline, FutexWord, Me, Mutant, Relaxed, Release, RobustWord, SeqCst,
        WAITERS, Wake, fence, mutant, wait_any_if,
    },
    region::Shareable,
    sync::owner::OwnerWord,
};

/// A value of `state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State(u64);

const COUNT_BITS: u32 = 15;
const COUNT: u64 = (1 << COUNT_BITS) - 1;
const SWEEP: u64 = 1 << 30;
const LONER: u64 = 1 << 31;
const ROUND_SHIFT: u32 = 32;
const ROUND: u64 = (1 << 12) - 1;
const EPOCH_SHIFT: u32 = 44;
const EPOCH: u64 = (1 << 20) - 1;

impl State {
    fn waiting(self) -> u64 {
        self.0 & COUNT
    }

    fn tokens(self) -> u64 {
        self.0 >> COUNT_BITS & COUNT
    }

    fn sweep(self) -> bool {
        self.0 & SWEEP != 0
    }

    fn loner(self) -> bool {
        self.0 & LONER != 0
    }

    fn round(self) -> u64 {
        self.0 >> ROUND_SHIFT & ROUND
    }

    fn epoch(self) -> u64 {
        self.0 >> EPOCH_SHIFT
    }

    /// The same with other counts.
    fn counting(self, waiting: u64, tokens: u64) -> State {
        State(self.0 & !(COUNT | COUNT << COUNT_BITS) | waiting | tokens << COUNT_BITS)
    }

    /// The same with one more who waits.
    fn with_newcomer(self) -> State {
        let loner = if self.waiting() == 0 { LONER } else { 0 };
        State(self.counting(self.waiting() + 1, self.tokens()).0 | loner)
    }

    /// Whether the only one who waits may sleep alone.
    fn may_sleep_alone(self) -> bool {
        self.loner() && self.waiting() == 1 && self.tokens() == 0
    }

    fn next_round(self) -> State {
        State(self.0 & !(ROUND << ROUND_SHIFT) | ((self.round() + 1) & ROUND) << ROUND_SHIFT)
    }

    /// The next epoch, in which nobody waits yet, and of which not everybody knows.
    fn next_epoch(self) -> State {
        State(((self.epoch() + 1) & EPOCH) << EPOCH_SHIFT | SWEEP)
    }

    /// Whether there is a token for one who came in `round`.
    fn has_token_for(self, ticket: Ticket) -> bool {
        self.tokens() > 0 && (self.round() != ticket.round || mutant(Mutant::LateWaiterTakes))
    }
}

/// What a waiter saw when it announced itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    epoch: u64,
    round: u64,
    news: u32,
    /// There was a loner.
    beside: bool,
}

/// How the standing in line ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// There is a token, and the caller has the baton.
    Chosen,
    /// Its epoch was ended.
    LetGo,
    /// It is still announced.
    TimedOut,
}

/// Words and algorithm; the memory is somebody else's.
#[repr(C, align(64))]
pub(crate) struct RawCondition {
    state: AtomicU64,
    pub(super) baton: RobustWord,
    news: FutexWord,
    _rest: [u32; 3],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<RawCondition>() == 64);

// SAFETY: atomics, and a robust word.
unsafe impl Shareable for RawCondition {
    const ROBUST: &'static [usize] =
        &[std::mem::offset_of!(RawCondition, baton) + if cfg!(target_env = "musl") { 4 } else { 0 }];
}

impl RawCondition {
    pub(crate) fn new() -> RawCondition {
        let (state, news) = (AtomicU64::new(0), FutexWord::new(0));
        RawCondition { state, baton: RobustWord::new(), news, _rest: [0; 3] }
    }

    fn load(&self) -> State {
        // ORDERING(post): Acquire.
        State(self.state.load(Acquire))
    }

    fn exchange(&self, seen: State, new: State) -> bool {
        // ORDERING(post): AcqRel; a failure is followed by a load.
        self.state.compare_exchange(seen.0, new.0, AcqRel, Relaxed).is_ok()
    }

    /// Announces a waiter. The caller holds the user's lock, and frees it afterwards (N1).
    pub(crate) fn announce(&self) -> Ticket {
        loop {
            // ORDERING(herald): Acquire: read before `state`, so that later news is news.
            let news = self.news.load(Acquire);
            let seen = self.load();
            if seen.sweep() && !mutant(Mutant::SweepLeftUndone) {
                // Or a sleeper of the new epoch could be given a wake that is for one of the old.
                self.sweep(seen.epoch());
            } else if seen.waiting() == COUNT {
                self.end_epoch(seen);
            } else if self.exchange(seen, seen.with_newcomer()) {
                // CRASH(condition.announced): nobody takes it back.
                let beside = seen.loner() && seen.waiting() > 0;
                return Ticket { epoch: seen.epoch(), round: seen.round(), news, beside };
            }
        }
    }

    /// Sleeps until there is a token for `ticket`, and the caller has the baton; or one of the other ends.
    pub(crate) fn stand_in_line(&self, me: Me, ticket: Ticket, deadline: Option<Deadline>) -> Turn {
        let mut heard = if ticket.beside { self.disturb_loner(ticket) } else { ticket.news };
        let (mut woken, mut expired) = (false, false);
        if !mutant(Mutant::ListenerNotPending) {
            self.baton.announce(me); // N3
        }
        loop {
            // ORDERING(herald): Acquire.
            let news = self.news.load(Acquire);
            // ORDERING: Acquire, so that `state` is read after it.
            let baton = OwnerWord(self.baton.load(Acquire));
            let seen = self.load();
            if seen.epoch() != ticket.epoch {
                self.hint(seen); // A hint spent on us was perhaps for others.
                me.retract();
                return Turn::LetGo;
            }
            if seen.has_token_for(ticket) {
                if mutant(Mutant::BatonNotHeld) {
                    me.retract();
                    return Turn::Chosen;
                }
                if baton.is_free() {
                    if self.take_baton(me, baton, ticket) {
                        return Turn::Chosen;
                    }
                    self.baton.announce(me);
                    continue;
                }
            } else if seen.tokens() > 0 && (woken || news != heard) {
                self.end_epoch(seen); // N5
                continue;
            }
            if expired {
                me.retract();
                return Turn::TimedOut;
            }
            heard = news;
            let ended = if seen.may_sleep_alone() {
                self.news.wait(news, deadline) // N7
            } else {
                // The baton is compared when both can wake us (N8).
                let baton = (&*self.baton, baton.0);
                let also = [baton];
                let also = if mutant(Mutant::BatonNotComparedAgain) { &[] } else { &also[..] };
                wait_any_if(&[baton, (&self.news, news)], also, deadline)
            };
            // CRASH(condition.hinted): perhaps a hint was spent on us.
            (woken, expired) = (matches!(ended, Wake::Woken(_)), ended == Wake::TimedOut);
        }
    }

    /// Tells a loner that it is one no more (N7). Says what news there was, but for this.
    #[cold]
    fn disturb_loner(&self, ticket: Ticket) -> u32 {
        if mutant(Mutant::LonerNotDisturbed) {
            return ticket.news;
        }
        // CRASH(condition.beside): the loner sleeps on, and so does nobody else.
        // ORDERING(herald): Release.
        let before = self.news.fetch_add(1, Release);
        self.news.wake(u32::MAX);
        loop {
            let seen = self.load();
            let known = seen.epoch() != ticket.epoch || !seen.loner();
            if known || self.exchange(seen, State(seen.0 & !LONER)) {
                return if before == ticket.news { before.wrapping_add(1) } else { ticket.news };
            }
        }
    }

    /// Takes the baton, which was `seen` free; false if another did, or there is no token any more. The pending slot
    /// names it, and is empty afterwards.
    fn take_baton(&self, me: Me, seen: OwnerWord, ticket: Ticket) -> bool {
        // WAITERS, so that the kernel wakes one of those who sleep.
        // ORDERING: Acquire, the baton itself carries nothing.
        if self.baton.compare_exchange(seen.0, me.tid() | WAITERS, Acquire, Relaxed).is_err() {
            return false;
        }
        self.baton.link(me);
        me.retract();
        // CRASH(condition.chosen): linked.
        let seen = self.load();
        let chosen = seen.epoch() == ticket.epoch && seen.has_token_for(ticket);
        if !chosen {
            self.pass_baton(me);
        }
        chosen
    }

    /// Takes the caller, who has the user's lock, off the list, with a token if there is one. Says whether it was
    /// notified.
    pub(crate) fn take_leave(&self, ticket: Ticket) -> bool {
        loop {
            let seen = self.load();
            if seen.epoch() != ticket.epoch {
                return true;
            }
            let taken = seen.has_token_for(ticket);
            let waiting = seen.waiting().saturating_sub(1);
            let tokens = (seen.tokens() - u64::from(taken)).min(waiting);
            if self.exchange(seen, seen.counting(waiting, tokens)) {
                return taken;
            }
        }
    }

    /// Frees the baton, and wakes another if there is anything left to do.
    pub(crate) fn pass_baton(&self, me: Me) {
        // CRASH(condition.taken): linked.
        self.baton.announce(me);
        self.baton.unlink(me);
        // ORDERING: Release, the baton itself carries nothing.
        self.baton.swap(0, Release);
        // CRASH(condition.passed): pending.
        // ORDERING(relay): SeqCst.
        fence(SeqCst);
        if !mutant(Mutant::BatonNotPassed) {
            self.hint(self.load());
        }
        me.retract();
    }

    /// Wakes whom `seen` has something for.
    fn hint(&self, seen: State) {
        if seen.sweep() && !mutant(Mutant::SweepLeftUndone) {
            self.sweep(seen.epoch());
        } else if seen.tokens() > 0 {
            self.news.wake(1);
        }
    }

    /// Gives a token to each of `count` waiters, as far as there are so many without one. Says to how many.
    pub(crate) fn notify(&self, count: u64) -> u64 {
        let given = loop {
            let seen = self.load();
            if seen.sweep() && !mutant(Mutant::SweepLeftUndone) {
                self.sweep(seen.epoch());
                continue;
            }
            if seen.waiting() == 0 || count == 0 {
                return 0;
            }
            let given = count.min(seen.waiting() - seen.tokens());
            let tokens = seen.counting(seen.waiting(), seen.tokens() + given);
            if self.exchange(seen, if seen.tokens() == 0 { tokens.next_round() } else { tokens }) {
                break given;
            }
        };
        // CRASH(condition.posted): no news, no wake.
        // ORDERING(herald): Release.
        self.news.fetch_add(1, Release);
        // ORDERING(relay): SeqCst, as in `pass_baton`.
        fence(SeqCst);
        // Even if all have tokens: it may be that who gave the last one died before this.
        if !mutant(Mutant::NotifiedAsleep) {
            self.news.wake(1);
        }
        given
    }

    /// Lets everybody go. Says how many had no token.
    pub(crate) fn notify_all(&self) -> u64 {
        loop {
            let seen = self.load();
            if seen.waiting() == 0 {
                if seen.sweep() {
                    self.sweep(seen.epoch());
                }
                return 0;
            }
            if self.end_epoch(seen) {
                return seen.waiting() - seen.tokens();
            }
        }
    }

    /// Ends the epoch that was `seen`, unless something has changed.
    fn end_epoch(&self, seen: State) -> bool {
        let next = seen.next_epoch();
        let ended = self.exchange(seen, next);
        if ended {
            // CRASH(condition.ended): whoever sees `sweep` goes on.
            self.sweep(next.epoch());
        }
        ended
    }

    /// Tells all who sleep that theirs is not `epoch` (N6).
    fn sweep(&self, epoch: u64) {
        // ORDERING(herald): Release.
        self.news.fetch_add(1, Release);
        self.news.wake(if mutant(Mutant::SweepWakesOne) { 1 } else { u32::MAX });
        loop {
            let seen = self.load();
            if seen.epoch() != epoch || !seen.sweep() || self.exchange(seen, State(seen.0 & !SWEEP)) {
                return;
            }
        }
    }

    /// Who waits, and how many of them are notified, at some instant.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let seen = self.load();
        (seen.waiting(), seen.tokens())
    }

    /// As if so many waiters had died.
    #[cfg(test)]
    pub(crate) fn bury(&self, dead: u64) {
        let seen = self.load();
        assert!(self.exchange(seen, seen.counting(dead, seen.tokens())));
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_out_of_each_others_way() {
        let full = State(u64::MAX);
        assert_eq!((full.waiting(), full.tokens(), full.round(), full.epoch()), (COUNT, COUNT, ROUND, EPOCH));
        let state = full.counting(3, 2);
        assert_eq!((state.waiting(), state.tokens(), state.round(), state.epoch()), (3, 2, ROUND, EPOCH));
        assert_eq!((state.next_round().round(), state.next_round().epoch()), (0, EPOCH));
        let next = State(5 << EPOCH_SHIFT | 77).next_epoch();
        assert_eq!((next.waiting(), next.tokens(), next.sweep(), next.epoch()), (0, 0, true, 6));
        assert!(!next.loner() && next.with_newcomer().may_sleep_alone());
        let beside = next.with_newcomer().with_newcomer();
        assert!(beside.loner() && beside.waiting() == 2 && !beside.may_sleep_alone());
        assert_eq!(full.next_epoch().epoch(), 0);
    }

    #[test]
    fn one_too_many_to_count_ends_the_epoch() {
        let raw = RawCondition::new();
        raw.bury(COUNT);
        let before = raw.load().epoch();
        let ticket = raw.announce();
        assert_eq!((ticket.epoch, raw.load().waiting(), raw.load().sweep()), (before + 1, 1, false));
    }

    #[test]
    fn what_was_left_for_the_dead_goes_with_the_next_notification() {
        let raw = RawCondition::new();
        raw.bury(1);
        assert_eq!(raw.notify(1), 1);
        // Nobody alive: the token stays, and no second one comes.
        assert_eq!((raw.notify(1), raw.counts()), (0, (1, 1)));
        let ticket = raw.announce();
        assert_eq!(raw.notify(1), 1);
        assert_eq!(raw.stand_in_line(crate::primitive::me(), ticket, None), Turn::LetGo);
        assert_eq!(raw.counts(), (0, 0));
    }
}
