//! A scenario, and the loops over its kill points.
//!
//! # A trial
//! 1. `play` builds the shared objects, in the harness, and hands out the parts.
//! 2. `Opening`. The victim is forked and runs to its first mark; one that is to be woken runs on until it sleeps.
//!    `Mark`.
//! 3. An heir, if there is one, takes its place: asleep ([`Kind::TwoDeaths`]) or stopped in the middle of its way to
//!    sleep ([`Kind::StoppedSleeper`]). `Ready`.
//! 4. `Wake`, if the victim is to be woken: from here on its points count.
//! 5. The victim goes `k` points. `Stop`. It is killed and reaped. `Death`.
//! 6. An heir is woken (it must be), goes its own number of points, `SecondStop`, is killed, `SecondDeath`. Or, a
//!    stopped sleeper, it is let go and must come to its end.
//! 7. Every companion ends within a second; then `verify` looks at what is left.
//!
//! # Which points
//! All, but for the rounds of a long loop (a spin before a sleep has 100): of the visits to one instruction the first
//! eight and the last are kept. What differs between the others is a private counter. How many points were left out
//! is printed. Pairs are sampled: half of each from all points, half from those where processes can cross, which are
//! those just behind a locked instruction or a system call, and for a sleeper the last 40 before its sleep.
//!
//! A trial does not step through what an earlier one has stepped through: a breakpoint stops it, at its first visit or
//! a later one, at or shortly before its kill point, and it steps from there. Should it not come there in two trials,
//! it is stepped from the start.
//!
//! # Adding one
//! A [`Check`](super::Check), or a constructor of a [`Play`]: tests/crash has many of these.

use std::{collections::HashMap, time::Instant};

use nix::unistd::Pid;

use super::{
    board::{CELLS, board, count},
    company::{Body, Companion, Company, Moment},
    report::{Fault, MOST_FAULTS, Report},
    site::{Site, Stance},
    stuck::{Stuck, show, shown},
    trace::{Guide, Place, Traced, is_shared_step},
};
use crate::region::names;

pub use super::report::Damage;

/// Which deaths a scenario sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The victim's, at every point.
    OneDeath,
    /// The victim's at one point, then the heir's at another; sampled.
    TwoDeaths,
    /// The victim's at one point, while the heir stands stopped at another; sampled.
    StoppedSleeper,
}

/// Where a victim's points begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enters {
    /// Before its operation.
    Awake,
    /// Inside its operation, when it is woken from its first sleep.
    Woken,
    /// As awake, and it is a process that a companion has started: its number is in the last cell of the board. What
    /// is called the victim's body is run by the harness, and lets it go to its mark.
    Found,
    /// The same, woken.
    FoundWoken,
}

impl Enters {
    fn is_woken(self) -> bool {
        matches!(self, Enters::Woken | Enters::FoundWoken)
    }

    fn is_found(self) -> bool {
        matches!(self, Enters::Found | Enters::FoundWoken)
    }
}

/// One operation in one company.
pub struct Scenario {
    /// What is stepped.
    pub operation: &'static str,
    /// Beside whom.
    pub company: &'static str,
    /// Which deaths it sees.
    pub kind: Kind,
    /// Makes the parts of a trial.
    pub play: Box<dyn Fn() -> Play>,
}

impl Scenario {
    /// The name of its row.
    pub fn name(&self) -> String {
        format!("{}: {}", self.operation, self.company)
    }
}

/// The parts of one trial.
pub struct Play {
    /// Calls [`stepped`](super::trace::stepped) once.
    pub victim: Body,
    /// Where its points begin.
    pub enters: Enters,
    /// Calls `stepped` once too. For the kinds with two traced processes.
    pub heir: Option<Body>,
    /// In the order in which they act at one moment.
    pub companions: Vec<Companion>,
    /// Looks, in the harness, at what a trial in which everybody ended has left.
    pub verify: Box<dyn Fn(&End) -> Damage>,
}

/// How the victim's life ended.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// Its operation was done.
    pub finished: bool,
}

/// Where the traced processes die, in points. What cannot go so far dies where it can.
#[derive(Clone, Copy, Debug)]
struct Cut {
    victim: usize,
    heir: usize,
    /// The victim's steps are looked at.
    notes: bool,
    /// The ways are kept for others to go.
    guides: bool,
}

/// Further than any operation goes.
const FAR: usize = 1_000_000;

/// Which points of a way are worth a death; see the header.
fn kept_points(way: &[u64]) -> Vec<bool> {
    const ROUNDS: usize = 8;
    let mut all = HashMap::new();
    for address in way {
        *all.entry(address).or_insert(0) += 1;
    }
    let mut seen = HashMap::new();
    way.iter()
        .map(|address| {
            let visit = seen.entry(address).or_insert(0);
            *visit += 1;
            *visit <= ROUNDS || *visit == all[address]
        })
        .collect()
}

/// The ways that the victim and the heir are known to go.
type Guides = [Option<Guide>; 2];

/// What one trial came to.
struct Outcome {
    damage: Damage,
    /// The addresses at the points that the victim and the heir went through.
    ways: [Vec<u64>; 2],
    guides: Guides,
    /// Whether the victim could go no further.
    exhausted: bool,
    /// Where the two stood before they were killed.
    stances: [Option<Stance>; 2],
    /// For the points of the victim's way, if it was asked: whether others see the step before it.
    seen_steps: Vec<bool>,
    kills: u64,
    note: String,
    stuck: Vec<Stuck>,
}

/// How much of it is run.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Every n-th kill point; 1 for all.
    pub stride: usize,
    /// The most kill points of one scenario with one traced process: of more, as many are chosen, evenly.
    pub most: usize,
    /// Sampled pairs of points, for each scenario with two traced processes.
    pub pairs: usize,
    /// The seed of the sampling: the same seed, the same points.
    pub seed: u64,
    /// End at the first damage.
    pub hunting: bool,
    /// With one traced process: only the points behind a step that others can see, which is one that changes shared
    /// memory, a locked one, or a system call.
    pub writes_only: bool,
}

impl Default for Effort {
    /// Every point, and a thousand pairs.
    fn default() -> Effort {
        let most = usize::MAX;
        Effort { stride: 1, most, pairs: 1000, seed: 1, hunting: false, writes_only: false }
    }
}

impl Scenario {
    /// Runs the scenario's trials.
    pub fn run(&self, effort: Effort) -> Report {
        let start = Instant::now();
        let mut report = Report::default();
        match self.kind {
            Kind::OneDeath => self.every_point(effort, &mut report),
            Kind::TwoDeaths | Kind::StoppedSleeper => self.pairs(effort, &mut report),
        }
        report.seconds = start.elapsed().as_secs_f64();
        report
    }

    /// The first trial goes to the end and shows the way; the others go to its points in turn, and on beyond them as
    /// long as there are any.
    fn every_point(&self, effort: Effort, report: &mut Report) {
        let pilot = self.unguided(Cut { victim: FAR, heir: 0, notes: effort.writes_only, guides: true });
        self.enter(report, &pilot);
        if effort.hunting && report.damage.any() {
            return;
        }
        let mut kept = kept_points(&pilot.ways[0]);
        kept.iter_mut().zip(&pilot.seen_steps).for_each(|(kept, seen)| *kept &= seen);
        let one_in = kept.iter().filter(|&&kept| kept).count().div_ceil(effort.most).max(1);
        let mut chance = effort.seed as usize;
        for victim in (0..).step_by(effort.stride) {
            if !kept.get(victim).unwrap_or(&true) {
                report.rounds_left_out += 1;
                continue;
            }
            chance += 1;
            if victim < kept.len() && !chance.is_multiple_of(one_in) {
                report.points_left_out += 1;
                continue;
            }
            let cut = Cut { victim, heir: 0, notes: false, guides: false };
            let outcome = self.guided(cut, &pilot.guides);
            let over = outcome.exhausted;
            self.enter(report, &outcome);
            if over || effort.hunting && report.damage.any() {
                return;
            }
        }
    }

    /// The first three show the ways; the rest are drawn from the points on them.
    fn pairs(&self, effort: Effort, report: &mut Report) {
        let mut dice = Dice(effort.seed);
        let mut points = [Points::default(), Points::default()];
        let mut guides = [None, None];
        for pair in 0..effort.pairs {
            let (victim, heir) = match pair {
                0 => (0, FAR),
                1 => (FAR, 0),
                2 => (FAR, FAR),
                _ => (points[0].draw(&mut dice), points[1].draw(&mut dice)),
            };
            let cut = Cut { victim, heir, notes: false, guides: pair < 3 };
            let mut outcome = self.guided(cut, &guides);
            for who in (0..2).filter(|_| pair < 3) {
                let way = &outcome.ways[who];
                if way.len() > points[who].all.last().map_or(0, |&last| last + 1) {
                    guides[who] = outcome.guides[who].take();
                    let sleeps_at = guides[who].as_ref().map_or(way.len(), Guide::len);
                    let stopped = self.kind == Kind::StoppedSleeper && who == 1;
                    points[who] = Points::new(way, stopped.then_some(sleeps_at));
                }
            }
            self.enter(report, &outcome);
            if effort.hunting && report.damage.any() {
                return;
            }
        }
    }

    fn enter(&self, report: &mut Report, outcome: &Outcome) {
        report.damage += outcome.damage;
        report.kills += outcome.kills;
        let [victim, heir] = [&outcome.ways[0], &outcome.ways[1]].map(|way| way.len().saturating_sub(1));
        report.points = report.points.max(victim);
        report.heir_points = report.heir_points.max(heir);
        if outcome.damage.any() && report.faults.len() < MOST_FAULTS {
            let [died_at, heir_died_at] =
                outcome.stances.each_ref().map(|stance| stance.as_ref().map(Site::of));
            report.faults.push(Fault {
                damage: outcome.damage,
                point: victim,
                died_at,
                heir_point: heir,
                heir_died_at,
                stuck: outcome.stuck.clone(),
                note: outcome.note.clone(),
            });
        }
    }

    /// A trial along known ways; if one was left twice, which may be chance, again without.
    fn guided(&self, cut: Cut, guides: &Guides) -> Outcome {
        let along = || self.trial(cut, guides);
        along().or_else(along).unwrap_or_else(|| self.unguided(cut))
    }

    fn unguided(&self, cut: Cut) -> Outcome {
        self.trial(cut, &[None, None]).expect("only a guide can mislead")
    }

    fn trial(&self, cut: Cut, guides: &Guides) -> Option<Outcome> {
        board().clear();
        show(None);
        names::begin();
        let Play { victim, enters, heir, companions, verify } = (self.play)();
        let mut trial = Trial {
            kind: self.kind,
            company: Company::new(companions),
            victim: None,
            heir: None,
            kills: 0,
            exhausted: false,
            misled: false,
            stances: [None, None],
        };
        let ran = trial.run((victim, enters), heir, cut, guides);
        if trial.misled {
            return None;
        }
        let state =
            ran.as_ref().err().and_then(|_| shown()).map_or(String::new(), |state| format!("; {state}"));
        let (damage, stuck) = match &ran {
            Ok(end) => (verify(end), Vec::new()),
            Err(_) => (Damage { wedged: 1, ..Damage::default() }, trial.stuck()),
        };
        let guide = |traced: &Option<Traced>| traced.as_ref().filter(|_| cut.guides).map(Traced::guide);
        let way = |traced: &Option<Traced>| traced.as_ref().map_or(vec![], |traced| traced.way().to_vec());
        Some(Outcome {
            damage,
            ways: [way(&trial.victim), way(&trial.heir)],
            guides: [guide(&trial.victim), guide(&trial.heir)],
            exhausted: trial.exhausted,
            seen_steps: trial.victim.as_ref().map_or(vec![], |victim| victim.seen_steps().to_vec()),
            stances: trial.stances,
            kills: trial.kills,
            note: ran.err().unwrap_or_else(|| board().said()) + &state,
            stuck,
        })
    }
}

/// A trial under way. Dropped, it leaves no process.
struct Trial {
    kind: Kind,
    company: Company,
    victim: Option<Traced>,
    heir: Option<Traced>,
    kills: u64,
    exhausted: bool,
    /// A guide did not know the way.
    misled: bool,
    stances: [Option<Stance>; 2],
}

impl Trial {
    /// Who is left, and where.
    fn stuck(&self) -> Vec<Stuck> {
        let traced = [("victim", &self.victim), ("heir", &self.heir)];
        let traced = traced.into_iter().filter_map(|(name, traced)| Some((name, traced.as_ref()?.pid())));
        let companions = self.company.processes().map(|(name, process)| (name, process.pid()));
        Stuck::among(&traced.chain(companions).collect::<Vec<_>>())
    }

    /// An error says who is stuck.
    fn run(
        &mut self,
        (body, enters): (Body, Enters),
        heir: Option<Body>,
        cut: Cut,
        guides: &Guides,
    ) -> Result<End, String> {
        let [way, heirs_way] = guides.each_ref().map(Option::as_ref);
        self.company.act(Moment::Opening)?;
        let victim = self.victim.insert(match enters.is_found() {
            true => Traced::attach(Pid::from_raw(count(CELLS - 1) as i32), body),
            false => Traced::start(body),
        });
        if enters.is_woken() {
            victim.run_to_sleep()?;
        }
        self.company.act(Moment::Mark)?;
        if let Some(body) = heir {
            let heir = self.heir.insert(Traced::start(body));
            if self.kind == Kind::TwoDeaths {
                heir.run_to_sleep()?;
            } else {
                self.misled |= !heir.go(cut.heir, heirs_way);
            }
        }
        self.company.act(Moment::Ready)?;
        if enters.is_woken() {
            self.company.act(Moment::Wake)?;
            victim.is_woken()?;
        }
        if cut.notes {
            victim.note_seen_steps();
        }
        self.misled |= !victim.go(cut.victim, way);
        if self.misled {
            return Err("misled".into());
        }
        self.exhausted = victim.way().len() <= cut.victim || victim.place() == Place::End;
        self.company.act(Moment::Stop)?;
        self.stances[0] = Some(victim.stance());
        victim.kill();
        self.kills += 1;
        let end = End { finished: victim.place() == Place::End };
        self.company.act(Moment::Death)?;
        match (&mut self.heir, self.kind) {
            (Some(heir), Kind::TwoDeaths) => {
                heir.is_woken()?;
                self.misled |= !heir.go(cut.heir, heirs_way);
                self.company.act(Moment::SecondStop)?;
                self.stances[1] = Some(heir.stance());
                heir.kill();
                self.kills += 1;
                self.company.act(Moment::SecondDeath)?;
            }
            (Some(heir), _) => {
                heir.let_go();
                heir.ends()?;
            }
            (None, _) => {}
        }
        self.company.all_end()?;
        Ok(end)
    }
}

/// The points that pairs are drawn from: every second one from those where two processes can cross.
#[derive(Default)]
struct Points {
    all: Vec<usize>,
    likely: Vec<usize>,
}

impl Points {
    /// `sleeps_at` is told for one that is stopped on its way to sleep.
    fn new(way: &[u64], sleeps_at: Option<usize>) -> Points {
        let kept = kept_points(way);
        let all: Vec<usize> = (0..way.len()).filter(|&point| kept[point]).collect();
        // Behind an exchange, or a call; or between the last look and the sleep.
        let likely = |&point: &usize| {
            let crossing = (1..=4).any(|back| point >= back && is_shared_step(way[point - back]));
            crossing || sleeps_at.is_some_and(|sleep| (sleep.saturating_sub(40)..sleep).contains(&point))
        };
        Points { likely: all.iter().copied().filter(likely).collect(), all }
    }

    fn draw(&self, dice: &mut Dice) -> usize {
        let likely = dice.next() & 1 == 0 && !self.likely.is_empty();
        dice.one_of(if likely { &self.likely } else { &self.all })
    }
}

/// A small generator (splitmix64): the same seed, the same pairs.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn one_of(&mut self, points: &[usize]) -> usize {
        points[(self.next() % points.len() as u64) as usize]
    }
}
