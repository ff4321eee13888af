//! A scenario, and the loops over its kill points.
//!
//! # A trial
//! 1. `play` builds the shared objects, in the harness, and hands out the parts.
//! 2. `Opening`. The victim is forked and runs to its first mark; one that is to be woken runs on until it sleeps.
//! 3. An heir, if there is one, takes its place: asleep ([`Kind::TwoDeaths`]) or stopped in the middle of its way to
//!    sleep ([`Kind::StoppedSleeper`]). `Ready`.
//! 4. `Wake`, if the victim is to be woken: from here on its points count.
//! 5. The victim goes `k` points. `Stop`. It is killed and reaped. `Death`.
//! 6. An heir is woken (it must be), goes its own number of points, `SecondStop`, is killed, `SecondDeath`. Or, a
//!    stopped sleeper, it is let go and must come to its end.
//! 7. Every companion ends within a second; then `verify` looks at what is left.
//!
//! # Adding one
//! A file with `pub fn scenarios() -> Vec<Scenario>`, and its name in the list in `main.rs`. Each scenario is a
//! constructor of a [`Play`]: see `lock.rs`.

use std::{
    io::{Write, stdout},
    ops::AddAssign,
    time::Instant,
};

use crate::{
    board::board,
    company::{Body, Companion, Company, Moment},
    trace::{Place, Site, Traced},
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

/// What one trial came to.
struct Outcome {
    damage: Damage,
    /// The points that the victim and the heir really went.
    reached: Cut,
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
    pub seconds: f64,
}

/// How much of it is run.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Every n-th kill point; 1 for all.
    pub stride: usize,
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

    fn every_point(&self, effort: Effort, tally: &mut Tally) {
        for victim in (0..).step_by(effort.stride) {
            let outcome = self.trial(Cut { victim, heir: 0 });
            let over = outcome.exhausted;
            self.enter(tally, &outcome, effort);
            if over || effort.hunting && tally.damage.any() {
                return;
            }
        }
    }

    /// The first three find how far each can go; the rest are drawn.
    fn pairs(&self, effort: Effort, tally: &mut Tally) {
        const FAR: usize = 100_000;
        let mut dice = Dice(effort.seed);
        for pair in 0..effort.pairs {
            let cut = match pair {
                0 => Cut { victim: 0, heir: FAR },
                1 => Cut { victim: FAR, heir: 0 },
                2 => Cut { victim: FAR, heir: FAR },
                _ => Cut { victim: dice.point(tally.points), heir: dice.point(tally.heir_points) },
            };
            let outcome = self.trial(cut);
            self.enter(tally, &outcome, effort);
            if effort.hunting && tally.damage.any() {
                return;
            }
        }
    }

    fn enter(&self, tally: &mut Tally, outcome: &Outcome, effort: Effort) {
        tally.damage += outcome.damage;
        tally.kills += outcome.kills;
        tally.points = tally.points.max(outcome.reached.victim);
        tally.heir_points = tally.heir_points.max(outcome.reached.heir);
        if outcome.damage.any() && !effort.hunting {
            let Outcome { damage, reached, site, note, .. } = outcome;
            println!("! {}: {reached:?}, victim at {site}: {damage:?} {note}", self.name());
            let _ = stdout().flush();
        }
    }

    fn trial(&self, cut: Cut) -> Outcome {
        board().clear();
        let Play { victim, enters, heir, companions, verify } = (self.play)();
        let mut trial = Trial {
            kind: self.kind,
            company: Company::new(companions),
            victim: None,
            heir: None,
            kills: 0,
            exhausted: false,
        };
        let ran = trial.run((victim, enters), heir, cut);
        let damage = match &ran {
            Ok(end) => verify(end),
            Err(_) => Damage { wedged: 1, ..Damage::default() },
        };
        let points = |traced: &Option<Traced>| traced.as_ref().map_or(0, Traced::points);
        Outcome {
            damage,
            reached: Cut { victim: points(&trial.victim), heir: points(&trial.heir) },
            exhausted: trial.exhausted,
            site: trial.victim.as_ref().map_or(Site::default(), Traced::site),
            kills: trial.kills,
            note: ran.err().unwrap_or_default(),
        }
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
}

impl Trial {
    /// An error says who is stuck.
    fn run(&mut self, (body, enters): (Body, Enters), heir: Option<Body>, cut: Cut) -> Result<End, String> {
        self.company.act(Moment::Opening)?;
        let victim = self.victim.insert(Traced::start(body));
        if enters == Enters::Woken {
            victim.run_to_sleep()?;
        }
        if let Some(body) = heir {
            let heir = self.heir.insert(Traced::start(body));
            if self.kind == Kind::TwoDeaths {
                heir.run_to_sleep()?;
            } else {
                go(heir, cut.heir);
            }
        }
        self.company.act(Moment::Ready)?;
        if enters == Enters::Woken {
            self.company.act(Moment::Wake)?;
            victim.is_woken()?;
        }
        self.exhausted = !go(victim, cut.victim) || victim.place() == Place::End;
        self.company.act(Moment::Stop)?;
        victim.kill();
        self.kills += 1;
        let end = End { finished: victim.place() == Place::End };
        self.company.act(Moment::Death)?;
        match (&mut self.heir, self.kind) {
            (Some(heir), Kind::TwoDeaths) => {
                heir.is_woken()?;
                go(heir, cut.heir);
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

/// Lets a traced process go so many points; false if it cannot.
fn go(traced: &mut Traced, points: usize) -> bool {
    (0..points).all(|_| traced.advance())
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

    /// A point of `0..=last`: half of all throws anywhere, the others among the first or the last 40, since a long
    /// way is long because of its spinning.
    fn point(&mut self, last: usize) -> usize {
        const EDGE: usize = 40;
        let within = |dice: &mut Dice, count: usize| (dice.next() % count as u64) as usize;
        let edge = EDGE.min(last + 1);
        match self.next() % 4 {
            0 | 1 => within(self, last + 1),
            2 => within(self, edge),
            _ => last - within(self, edge),
        }
    }
}
