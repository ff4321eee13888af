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
//! A trial does not step through what an earlier one has stepped through: it runs to the last place before its kill
//! point where it is for the first time, and steps from there. Should it not come there, it is stepped from the start.
//!
//! # Adding one
//! A file with `pub fn scenarios() -> Vec<Scenario>`, and its name in the list in `main.rs`. Each scenario is a
//! constructor of a [`Play`]: see `lock.rs`.

use std::{
    collections::HashMap,
    io::{Write, stdout},
    ops::AddAssign,
    time::Instant,
};

use nix::unistd::Pid;

use crate::{
    board::{CELLS, board, count},
    company::{Body, Companion, Company, Moment},
    trace::{Guide, Place, Site, Traced, is_shared_step},
};

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
    pub operation: &'static str,
    pub company: &'static str,
    pub kind: Kind,
    pub play: Box<dyn Fn() -> Play>,
}

impl Scenario {
    pub fn name(&self) -> String {
        format!("{}: {}", self.operation, self.company)
    }
}

/// The parts of one trial.
pub struct Play {
    /// Calls [`stepped`](crate::trace::stepped) once.
    pub victim: Body,
    pub enters: Enters,
    /// Calls `stepped` once too. For the kinds with two traced processes.
    pub heir: Option<Body>,
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

/// What a trial did to the survivors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Somebody who should have gone on did not.
    pub wedged: u64,
    /// Data that is neither the old nor the new, or two holders at once.
    pub torn: u64,
    /// Something committed that nobody got, news of a death included.
    pub lost: u64,
    /// Something that two got; counted as lost in the last line.
    pub doubled: u64,
}

impl Damage {
    pub fn any(self) -> bool {
        self != Damage::default()
    }
}

impl AddAssign for Damage {
    fn add_assign(&mut self, other: Damage) {
        self.wedged += other.wedged;
        self.torn += other.torn;
        self.lost += other.lost;
        self.doubled += other.doubled;
    }
}

/// Where the traced processes die, in points. What cannot go so far dies where it can.
#[derive(Clone, Copy, Debug)]
struct Cut {
    victim: usize,
    heir: usize,
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
    site: Site,
    kills: u64,
    note: String,
}

/// What all trials of a scenario came to.
#[derive(Debug, Default)]
pub struct Tally {
    pub damage: Damage,
    pub kills: u64,
    /// The points of the longest way.
    pub points: usize,
    pub heir_points: usize,
    pub rounds_left_out: usize,
    /// Points beyond the most that were asked for.
    pub points_left_out: usize,
    pub seconds: f64,
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
    pub seed: u64,
    /// End at the first damage, and tell nothing.
    pub hunting: bool,
}

impl Scenario {
    /// Runs the scenario's trials.
    pub fn run(&self, effort: Effort) -> Tally {
        let start = Instant::now();
        let mut tally = Tally::default();
        match self.kind {
            Kind::OneDeath => self.every_point(effort, &mut tally),
            Kind::TwoDeaths | Kind::StoppedSleeper => self.pairs(effort, &mut tally),
        }
        tally.seconds = start.elapsed().as_secs_f64();
        tally
    }

    /// The first trial goes to the end and shows the way; the others go to its points in turn, and on beyond them as
    /// long as there are any.
    fn every_point(&self, effort: Effort, tally: &mut Tally) {
        let pilot = self.unguided(Cut { victim: FAR, heir: 0 });
        self.enter(tally, &pilot, effort);
        if effort.hunting && tally.damage.any() {
            return;
        }
        let kept = kept_points(&pilot.ways[0]);
        let one_in = kept.iter().filter(|&&kept| kept).count().div_ceil(effort.most).max(1);
        let mut chance = effort.seed as usize;
        for victim in (0..).step_by(effort.stride) {
            if !kept.get(victim).unwrap_or(&true) {
                tally.rounds_left_out += 1;
                continue;
            }
            chance += 1;
            if victim < kept.len() && !chance.is_multiple_of(one_in) {
                tally.points_left_out += 1;
                continue;
            }
            let outcome = self.guided(Cut { victim, heir: 0 }, &pilot.guides);
            let over = outcome.exhausted;
            self.enter(tally, &outcome, effort);
            if over || effort.hunting && tally.damage.any() {
                return;
            }
        }
    }

    /// The first three show the ways; the rest are drawn from the points on them.
    fn pairs(&self, effort: Effort, tally: &mut Tally) {
        let mut dice = Dice(effort.seed);
        let mut points = [Points::default(), Points::default()];
        let mut guides = [None, None];
        for pair in 0..effort.pairs {
            let cut = match pair {
                0 => Cut { victim: 0, heir: FAR },
                1 => Cut { victim: FAR, heir: 0 },
                2 => Cut { victim: FAR, heir: FAR },
                _ => Cut { victim: points[0].draw(&mut dice), heir: points[1].draw(&mut dice) },
            };
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
            self.enter(tally, &outcome, effort);
            if effort.hunting && tally.damage.any() {
                return;
            }
        }
    }

    fn enter(&self, tally: &mut Tally, outcome: &Outcome, effort: Effort) {
        tally.damage += outcome.damage;
        tally.kills += outcome.kills;
        let [victim, heir] = [&outcome.ways[0], &outcome.ways[1]].map(|way| way.len().saturating_sub(1));
        tally.points = tally.points.max(victim);
        tally.heir_points = tally.heir_points.max(heir);
        if outcome.damage.any() && !effort.hunting {
            let Outcome { damage, site, note, .. } = outcome;
            println!(
                "! {}: victim at point {victim}, {site}, heir at {heir}: {damage:?} {note}",
                self.name()
            );
            let _ = stdout().flush();
        }
    }

    /// A trial along known ways; if one was left, again without.
    fn guided(&self, cut: Cut, guides: &Guides) -> Outcome {
        self.trial(cut, guides).unwrap_or_else(|| self.unguided(cut))
    }

    fn unguided(&self, cut: Cut) -> Outcome {
        self.trial(cut, &[None, None]).expect("only a guide can mislead")
    }

    fn trial(&self, cut: Cut, guides: &Guides) -> Option<Outcome> {
        board().clear();
        let Play { victim, enters, heir, companions, verify } = (self.play)();
        let mut trial = Trial {
            kind: self.kind,
            company: Company::new(companions),
            victim: None,
            heir: None,
            kills: 0,
            exhausted: false,
            misled: false,
        };
        let ran = trial.run((victim, enters), heir, cut, guides);
        if trial.misled {
            return None;
        }
        let damage = match &ran {
            Ok(end) => verify(end),
            Err(_) => Damage { wedged: 1, ..Damage::default() },
        };
        let guide = |traced: &Option<Traced>| traced.as_ref().map(Traced::guide);
        let way = |traced: &Option<Traced>| traced.as_ref().map_or(vec![], |traced| traced.way().to_vec());
        Some(Outcome {
            damage,
            ways: [way(&trial.victim), way(&trial.heir)],
            guides: [guide(&trial.victim), guide(&trial.heir)],
            exhausted: trial.exhausted,
            site: trial.victim.as_ref().map_or(Site::default(), Traced::site),
            kills: trial.kills,
            note: ran.err().unwrap_or_default(),
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
}

impl Trial {
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
        self.misled |= !victim.go(cut.victim, way);
        if self.misled {
            return Err("misled".into());
        }
        self.exhausted = victim.way().len() <= cut.victim || victim.place() == Place::End;
        self.company.act(Moment::Stop)?;
        victim.kill();
        self.kills += 1;
        let end = End { finished: victim.place() == Place::End };
        self.company.act(Moment::Death)?;
        match (&mut self.heir, self.kind) {
            (Some(heir), Kind::TwoDeaths) => {
                heir.is_woken()?;
                self.misled |= !heir.go(cut.heir, heirs_way);
                self.company.act(Moment::SecondStop)?;
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
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn one_of(&mut self, points: &[usize]) -> usize {
        points[(self.next() % points.len() as u64) as usize]
    }
}
