//! Models of the barrier: parties that die at every step, leaders with and without an action, timeouts, resets, crowds.
//!
//! What each party wrote before it came lies in an `UnsafeCell` that all others read when they are through: arriving
//! that carries nothing is reported as a race. Whoever is left waiting is a deadlock.
//!
//! A victim that died goes on as a new thread. If it had not arrived, the new thread comes in its place; if it had, the
//! others must notice by themselves.

use std::{cell::Cell, rc::Rc, sync::Arc};

use crate::{
    error::BarrierError,
    primitive::{
        Deadline, Mutant, Relaxed, SeqCst, UnsafeCell, fence, me,
        model::{
            explore::{every_death, explore, fails_with, spawn},
            kernel::{Ending, crash_point, die_after, end_sleep},
            yield_now,
        },
    },
    sync::{
        raw_barrier::{Meeting, RawBarrier},
        round::State,
        slots::Slot,
    },
};

type Verdict = Result<usize, BarrierError>;

/// A barrier of so many parties and slots, and what they and the action write.
struct Party {
    raw: RawBarrier,
    slots: Vec<Slot>,
    parties: usize,
    action: Option<Arc<dyn Fn() + Send + Sync>>,
    written: [UnsafeCell<u32>; 4],
}

// SAFETY: loom checks every access to the cells.
unsafe impl Sync for Party {}
// SAFETY: nothing in it belongs to a thread.
unsafe impl Send for Party {}

impl Party {
    fn new(parties: usize, slots: usize) -> Arc<Party> {
        Party::build(parties, slots, None)
    }

    fn build(parties: usize, slots: usize, action: Option<Arc<dyn Fn() + Send + Sync>>) -> Arc<Party> {
        let slots = (0..slots).map(|_| Slot::new()).collect();
        let written = [(); 4].map(|()| UnsafeCell::new(0));
        Arc::new(Party { raw: RawBarrier::new(), slots, parties, action, written })
    }

    fn meeting(&self) -> Meeting<'_> {
        Meeting { raw: &self.raw, slots: &self.slots, parties: self.parties, action: self.action.as_deref() }
    }

    fn wait(&self) -> Verdict {
        self.meeting().wait(None)
    }

    /// Writes to the cell of this number, and waits; if all came, reads what `others` wrote.
    fn come(&self, own: usize, others: &[usize]) -> Verdict {
        // SAFETY: loom panics if anybody else is at it.
        self.written[own].with_mut(|cell| unsafe { *cell = 1 });
        let verdict = self.wait();
        if verdict.is_ok() {
            for &other in others {
                // SAFETY: loom panics if anybody writes it.
                self.written[other].with(|cell| assert_eq!(unsafe { *cell }, 1));
            }
        }
        verdict
    }

    /// Whether the thread of this TID is still to come, in the first round.
    fn is_missing(&self, tid: u32) -> bool {
        let meeting = self.meeting();
        let seen = meeting.look();
        seen.round() == 0
            && matches!(seen.state(), State::Open(_))
            && !meeting.list(seen).any(|place| self.slots[place].notes[0].load(Relaxed) == tid)
    }

    /// Comes with `fuel`; dead before it has arrived, comes again. Says how it went, if it was not dead; and whether
    /// it had arrived when it died.
    fn come_mortal(&self, fuel: usize, come: impl Fn() -> Verdict) -> (Option<Verdict>, bool) {
        let tid = me().tid();
        match die_after(fuel, &come) {
            Ok(verdict) => (Some(verdict), false),
            Err(_) if self.is_missing(tid) => (Some(come()), false),
            Err(_) => (None, true),
        }
    }
}

/// All are told the same; through, each has another number.
fn agree(verdicts: &[Verdict]) {
    let through: Vec<usize> = verdicts.iter().filter_map(|verdict| verdict.ok()).collect();
    if through.is_empty() {
        assert!(verdicts.windows(2).all(|two| two[0] == two[1]), "{verdicts:?}");
    } else {
        assert_eq!(through.len(), verdicts.len(), "{verdicts:?}");
        assert!((0..4).all(|index| through.iter().filter(|&&got| got == index).count() <= 1), "{verdicts:?}");
    }
}

/// Set when somebody is dead that had arrived. Not a loom object: the fences carry the order.
#[derive(Clone, Default)]
struct News(Rc<Cell<bool>>);

impl News {
    fn spread(&self) {
        fence(SeqCst);
        self.0.set(true);
    }

    /// Asked when all others have gone as far as they can, and, by preemption, before.
    fn is_known(&self) -> bool {
        yield_now();
        let known = self.0.get();
        fence(SeqCst);
        known
    }
}

/// A victim and one more, or two. Everybody who lives is told the same, of a death only if there was one, and who comes
/// after it is told of it.
fn victim_in_company(fuel: usize, others: usize, slots: usize, action: bool) {
    let parties = others + 1;
    let nothing: Arc<dyn Fn() + Send + Sync> = Arc::new(crash_point);
    let party = Party::build(parties, slots, action.then_some(nothing));
    let news = News::default();
    let victim = spawn({
        let (party, news) = (party.clone(), news.clone());
        move || {
            let others: Vec<usize> = (1..parties).collect();
            let (verdict, died) = party.come_mortal(fuel, || party.come(0, &others));
            if died && party.meeting().look().round() == 0 {
                news.spread();
            }
            (verdict, died)
        }
    });
    let come = |own: usize, other: usize| {
        let (party, news) = (party.clone(), news.clone());
        move || {
            let late = news.is_known();
            let all = [0, other];
            let verdict = party.come(own, &all[..others]);
            assert!(!late || verdict == Err(BarrierError::PeerDied), "came after a death: {verdict:?}");
            verdict
        }
    };
    let other = (others == 2).then(|| spawn(come(2, 1)));
    let mut verdicts = vec![come(1, 2)()];
    verdicts.extend(other.map(|other| other.join()));
    let (victims, died) = victim.join();
    verdicts.extend(victims);
    agree(&verdicts);
    assert!(died || verdicts.iter().all(|verdict| verdict.is_ok()), "{verdicts:?}");
    assert!(verdicts.iter().all(|verdict| matches!(verdict, Ok(_) | Err(BarrierError::PeerDied))));
}

/// A victim and others who wait in vain, since one party never comes. If the victim dies when it has arrived, all end;
/// if it does not, they are let go.
fn too_few(fuel: usize, others: usize, kill_asleep: bool) {
    let party = Party::new(others + 2, others + 2);
    let news = News::default();
    let victim = spawn({
        let (party, news) = (party.clone(), news.clone());
        move || {
            let tid = me().tid();
            if die_after(fuel, || party.wait()).is_err() {
                if party.is_missing(tid) { party.meeting().abort() } else { news.spread() }
            }
        }
    });
    let others: Vec<_> = (0..others)
        .map(|_| {
            let party = party.clone();
            spawn(move || party.wait())
        })
        .collect();
    let killed = kill_asleep && end_sleep(&party.raw.word, Ending::Killed);
    if !killed && !news.is_known() {
        party.meeting().abort();
    }
    for other in others {
        let verdict = other.join();
        assert!(matches!(verdict, Err(BarrierError::PeerDied | BarrierError::Aborted)), "{verdict:?}");
    }
    victim.join();
}

/// Two pass two rounds; one may still be asleep in the first when the other arrives in the second.
fn two_rounds(slots: usize) {
    let party = Party::new(2, slots);
    let other = spawn({
        let party = party.clone();
        move || [party.come(0, &[]), party.wait()]
    });
    let mine = [party.come(1, &[]), party.wait()];
    let others = other.join();
    for round in 0..2 {
        assert_eq!(mine[round].unwrap() + others[round].unwrap(), 1);
    }
}

/// The time of one is up; the other comes, or comes too late. The first may die.
fn a_timeout_races_the_last(fuel: usize) {
    let party = Party::new(2, 2);
    let timed = spawn({
        let party = party.clone();
        move || {
            let verdict = die_after(fuel, || party.meeting().wait(Some(Deadline::now())));
            if verdict.is_err() {
                party.meeting().abort();
            }
            verdict.ok()
        }
    });
    end_sleep(&party.raw.word, Ending::TimedOut);
    let last = party.wait();
    match (timed.join(), last) {
        (Some(timed), last) => agree(&[timed, last]),
        (None, Err(BarrierError::PeerDied | BarrierError::Aborted | BarrierError::TimedOut) | Ok(_)) => {}
        other => panic!("{other:?}"),
    }
}

/// One waits; another resets, and dies on its way. The first never learns that all had come.
fn a_reset_tells_those_who_wait(fuel: usize) {
    let party = Party::new(2, 2);
    let waiter = spawn({
        let party = party.clone();
        move || party.wait()
    });
    end_sleep(&party.raw.word, Ending::Interrupted);
    let alive = die_after(fuel, || party.meeting().reset()).is_ok();
    if alive {
        assert!(!matches!(party.meeting().look().state(), State::Broken(_)));
    }
    party.meeting().abort();
    let told = waiter.join();
    assert!(matches!(told, Err(BarrierError::Reset | BarrierError::Aborted)), "{told:?}");
}

#[test]
fn parties_pass_round_after_round() {
    explore("two rounds of two", 2, || two_rounds(2));
}

#[test]
fn a_death_is_news_to_the_other() {
    every_death("victim and another", 2, |fuel| victim_in_company(fuel, 1, 2, false));
}

#[test]
fn the_death_of_a_leader_is_news_to_the_other() {
    every_death("victim and another, an action", 1, |fuel| victim_in_company(fuel, 1, 2, true));
}

#[test]
fn a_death_is_news_to_one_who_sleeps() {
    every_death("victim and another, too few", 1, |fuel| too_few(fuel, 1, false));
    explore("sleeper killed and another, too few", 1, || too_few(usize::MAX, 1, true));
}

#[test]
fn a_timeout_breaks_it_or_comes_too_late() {
    every_death("timed victim and another", 2, a_timeout_races_the_last);
}

#[test]
fn a_reset_breaks_the_round_and_is_told() {
    every_death("resetting victim and a waiter", 3, a_reset_tells_those_who_wait);
}

/// Each fault is seen by the model named beside it.
fn seen(fault: Mutant, says: &str, model: impl Fn()) {
    let said = fails_with(fault, model);
    assert!(said.contains(says), "{said}");
}

#[test]
fn mutants_of_the_sleep_are_seen() {
    // Only deaths about the arrival, which takes some 15 steps.
    let deaths = |first| (first..=20).for_each(|fuel| explore("", 2, move || too_few(fuel, 1, false)));
    seen(Mutant::SleepUnguarded, "deadlock", || deaths(16));
    seen(Mutant::PartyNotPending, "deadlock", || deaths(17));
}

#[test]
fn mutants_of_the_round_are_seen() {
    seen(Mutant::RoundWakesOne, "deadlock", || explore("", 1, || victim_in_company(usize::MAX, 2, 2, false)));
    seen(Mutant::RelaxedArrival, "", || explore("", 3, || victim_in_company(usize::MAX, 1, 2, false)));
    seen(Mutant::ResetUntold, "", || every_death("", 4, a_reset_tells_those_who_wait));
    seen(Mutant::CrowdForgotten, "deadlock", || explore("", 3, || two_rounds(1)));
}

#[test]
fn mutants_of_the_last_are_seen() {
    let says = "came after a death";
    seen(Mutant::LastLooksAway, says, || every_death("", 1, |fuel| victim_in_company(fuel, 1, 2, false)));
    seen(Mutant::LeaderLeavesEarly, "", || explore("", 3, || victim_in_company(usize::MAX, 1, 2, true)));
}

#[cfg(feature = "shuttle")]
mod crowd {
    //! Eight parties, any of which may die.

    use super::*;
    use crate::primitive::model::explore::crowds::{CROWD, crowd, draw_fuel};

    #[test]
    fn a_crowd_meets_twice() {
        crowd("barriers: eight who meet twice", || {
            let party = Party::new(CROWD, CROWD);
            let others = [(); CROWD - 1].map(|()| {
                let party = party.clone();
                spawn(move || [party.wait(), party.wait()])
            });
            let mut verdicts = vec![[party.wait(), party.wait()]];
            verdicts.extend(others.into_iter().map(|other| other.join()));
            for round in 0..2 {
                let mut numbers: Vec<_> = verdicts.iter().map(|verdict| verdict[round].unwrap()).collect();
                numbers.sort();
                assert!(numbers.into_iter().eq(0..CROWD));
            }
        });
    }

    #[test]
    fn a_crowd_of_mortals_is_told_of_a_death() {
        crowd("barriers: eight who may die", || {
            let party = Party::new(CROWD, CROWD);
            let others = [(); CROWD - 1].map(|()| {
                let party = party.clone();
                let fuel = draw_fuel(4, 60);
                spawn(move || party.come_mortal(fuel, || party.wait()))
            });
            let mut verdicts = vec![party.wait()];
            let mut died = false;
            for other in others {
                let (verdict, dead) = other.join();
                verdicts.extend(verdict);
                died |= dead;
            }
            assert!(verdicts.iter().all(|verdict| verdict.is_ok() == verdicts[0].is_ok()), "{verdicts:?}");
            let told = verdicts.iter().all(|verdict| *verdict == Err(BarrierError::PeerDied));
            assert!(verdicts[0].is_ok() || (died && told), "{verdicts:?}");
        });
    }
}
