//! What the trials of a scenario came to.

use std::{fmt, ops::AddAssign};

use serde::{Deserialize, Serialize};

use super::{site::Site, stuck::Stuck};

/// The faults that a report keeps: the first.
pub(super) const MOST_FAULTS: usize = 20;

/// What a trial did to the survivors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// Somebody who should have gone on did not.
    pub wedged: u64,
    /// Data that is neither the old nor the new, or two holders at once.
    pub torn: u64,
    /// Something committed that nobody got, news of a death included.
    pub lost: u64,
    /// Something that two got.
    pub doubled: u64,
}

impl Damage {
    /// Whether there is any.
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

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damage { wedged, torn, lost, doubled } = self;
        write!(f, "{wedged} wedged, {torn} torn, {lost} lost, {doubled} doubled")
    }
}

/// A trial that did damage.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fault {
    /// What was found.
    pub damage: Damage,
    /// The point at which the victim died: so many instructions, and sleeps, behind its first mark.
    pub point: usize,
    /// The instruction that it would have executed next.
    pub died_at: Option<Site>,
    /// The heir's point, if there was an heir.
    pub heir_point: usize,
    /// The same of the heir, if it died too.
    pub heir_died_at: Option<Site>,
    /// Who was still there when the time was up, and where.
    pub stuck: Vec<Stuck>,
    /// What the harness says of it.
    pub note: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; the victim died at point {}", self.damage, self.point)?;
        if let Some(site) = &self.died_at {
            write!(f, ", {site}")?;
        }
        if self.heir_point > 0 {
            write!(f, "; the heir at point {}", self.heir_point)?;
        }
        if let Some(site) = &self.heir_died_at {
            write!(f, ", {site}")?;
        }
        if !self.note.is_empty() {
            write!(f, "; {}", self.note)?;
        }
        self.stuck.iter().try_for_each(|stuck| write!(f, "\n    {stuck}"))
    }
}

/// What all trials of a scenario came to.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// The sum over all trials.
    pub damage: Damage,
    /// How many were killed.
    pub kills: u64,
    /// The points of the longest way of a victim.
    pub points: usize,
    /// The points of the longest way of an heir.
    pub heir_points: usize,
    /// Points in the middle rounds of long loops, which are left out.
    pub rounds_left_out: usize,
    /// Points left out because fewer were asked for.
    pub points_left_out: usize,
    /// The first twenty trials that did damage.
    pub faults: Vec<Fault>,
    /// How long it took.
    pub seconds: f64,
}

impl Report {
    /// Panics if there was damage, or if nobody was killed.
    ///
    /// # Panics
    /// With the whole report.
    #[track_caller]
    pub fn assert_sound(&self) {
        assert!(self.kills > 0, "nobody was killed: nothing was shown");
        assert!(!self.damage.any(), "{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} kills, {} points, {}", self.kills, self.points, self.damage)?;
        self.faults.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}
