//! Rows, and the rounds in which they are measured.
//!
//! In a round, ours and one other run one after the other, ours first in every second round: a *pair*. Only the ratio
//! within a pair counts, and of those the median. Where two CPUs are involved, their distance is probed before and
//! after, and a pair during which it changed is taken again, three times at most, and then dropped.

use std::{
    fs,
    io::{self, Write},
    time::{Duration, Instant, SystemTime},
};

use serde::{Deserialize, Serialize};

use crate::{
    distance::{Distance, probe},
    drive::effort,
    parties::{cpus, in_a_process},
};

/// What the figures of a row are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Nanoseconds an operation.
    Ns,
    /// A share of one.
    Share,
    Bytes,
}

/// What ours is measured beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// What a program could use instead, between processes.
    Rival,
    /// The same, but between threads only.
    Threads,
    /// Written by hand, without what makes it usable: no code for the same purpose is much faster.
    Limit,
    /// Another part of this crate.
    Ours,
}

/// What is measured, in a process of its own.
pub type Sample = Box<dyn Fn() -> f64>;

pub struct Contender {
    pub name: String,
    pub kind: Kind,
    sample: Sample,
}

/// A subject of ours, and what it is measured beside.
pub struct Row {
    pub name: String,
    pub unit: Unit,
    /// Whether the distance of the CPUs matters.
    apart: bool,
    ours: Sample,
    pub others: Vec<Contender>,
    /// What is not here, and why.
    pub absent: Vec<(String, String)>,
}

impl Row {
    fn new(name: &str, unit: Unit, apart: bool, ours: impl Fn() -> f64 + 'static) -> Row {
        let (name, ours) = (name.to_string(), Box::new(ours));
        Row { name, unit, apart, ours, others: Vec::new(), absent: Vec::new() }
    }

    /// Nanoseconds of something that happens on two CPUs.
    pub fn apart(name: &str, ours: impl Fn() -> f64 + 'static) -> Row {
        Row::new(name, Unit::Ns, true, ours)
    }

    /// Nanoseconds of something else.
    pub fn on_one(name: &str, ours: impl Fn() -> f64 + 'static) -> Row {
        Row::new(name, Unit::Ns, false, ours)
    }

    /// Something of another unit.
    pub fn of(unit: Unit, name: &str, ours: impl Fn() -> f64 + 'static) -> Row {
        Row::new(name, unit, unit == Unit::Share, ours)
    }

    pub fn beside(mut self, kind: Kind, name: &str, sample: impl Fn() -> f64 + 'static) -> Row {
        self.others.push(Contender { name: name.to_string(), kind, sample: Box::new(sample) });
        self
    }

    /// Names a rival that cannot be measured here.
    pub fn without(mut self, name: &str, why: &str) -> Row {
        self.absent.push((name.to_string(), why.to_string()));
        self
    }
}

/// One pair. Printed as a line of JSON; everything else is made of such lines.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    pub row: String,
    pub beside: String,
    pub kind: Kind,
    pub unit: Unit,
    pub distance: Distance,
    pub ours: f64,
    pub theirs: f64,
    pub round: usize,
    /// Nanoseconds of the round trip between the CPUs, before and after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round_trip: Option<[f64; 2]>,
    /// How often it had to be taken.
    pub tries: usize,
}

/// Why there is no figure. Printed as a line of JSON too.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Gap {
    pub row: String,
    pub beside: String,
    /// A rival that is not here is no fault of this run.
    pub absent: bool,
    pub why: String,
}

/// Where and how it was measured. The first line that is printed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Setting {
    pub machine: String,
    pub system: String,
    pub date: String,
    pub effort_ms: u64,
    pub rounds: usize,
}

impl Setting {
    pub fn here(rounds: usize) -> Setting {
        let file = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let model = file("/proc/cpuinfo").lines().find_map(|line| {
            Some(line.strip_prefix("model name")?.trim_start_matches([' ', '\t', ':']).to_string())
        });
        let model = model.unwrap_or_else(|| "an unknown CPU".to_string());
        Setting {
            machine: format!("{model}, {} CPUs", cpus().len()),
            system: format!("Linux {}", file("/proc/sys/kernel/osrelease").trim()),
            date: today(),
            effort_ms: effort().as_millis() as u64,
            rounds,
        }
    }
}

fn today() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    date_of(since.map_or(0, |since| since.as_secs()))
}

/// The date, in UTC: days are counted from the first of March of the year 0, so that leap days come last.
fn date_of(seconds: u64) -> String {
    let days = seconds / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    format!("{:04}-{month:02}-{day:02}", era * 400 + year + u64::from(month <= 2))
}

/// A line that is printed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    Pair(Record),
    Gap(Gap),
    Setting(Setting),
}

/// How often a pair is taken whose distance changes.
const TRIES: usize = 4;

/// How long a sample may take that ought to take one effort: some start an interpreter, or wait for a CPU.
const LIMIT: Duration = Duration::from_secs(30);

/// How long a row may take that has had its least rounds: on a loaded machine, some would take all the time.
const PATIENCE: Duration = Duration::from_secs(20);
const LEAST: usize = 3;

/// Sizes are the same in every round.
fn rounds_of(row: &Row, rounds: usize) -> usize {
    if row.unit == Unit::Bytes { 1 } else { rounds }
}

/// Measures a row and prints its lines to `out`.
pub fn measure(row: &Row, rounds: usize, out: &mut dyn Write) -> io::Result<Vec<Line>> {
    let mut lines = Vec::new();
    let mut say = |line: Line, out: &mut dyn Write| -> io::Result<()> {
        writeln!(out, "{}", serde_json::to_string(&line)?)?;
        lines.push(line);
        Ok(())
    };
    let gap = |beside: &str, absent: bool, why: String| {
        eprintln!("!! {}: {beside}: {why}", row.name);
        Line::Gap(Gap { row: row.name.clone(), beside: beside.to_string(), absent, why })
    };
    for (name, why) in &row.absent {
        say(gap(name, true, why.clone()), out)?;
    }
    if row.apart && cpus().len() < 2 {
        for other in &row.others {
            say(gap(&other.name, true, "there is one CPU only".to_string()), out)?;
        }
        return Ok(lines);
    }
    let mut failed: Vec<&str> = Vec::new();
    let begun = Instant::now();
    for round in 0..rounds_of(row, rounds) {
        if round >= LEAST && begun.elapsed() > PATIENCE {
            break;
        }
        for other in &row.others {
            if failed.contains(&other.name.as_str()) {
                continue;
            }
            match pair(row, other, round) {
                Ok(Some(record)) => say(Line::Pair(record), out)?,
                Ok(None) => say(
                    gap(&other.name, false, "dropped: the CPUs' distance kept changing".to_string()),
                    out,
                )?,
                Err(why) => {
                    failed.push(&other.name);
                    say(gap(&other.name, false, why), out)?;
                }
            }
        }
    }
    Ok(lines)
}

/// Ours and another, at one distance; nothing if that did not hold still.
fn pair(row: &Row, other: &Contender, round: usize) -> Result<Option<Record>, String> {
    let limit = LIMIT.max(effort() * 100);
    let ours = || in_a_process(limit, &row.ours).map_err(|why| format!("ours: {why}"));
    let theirs = || in_a_process(limit, &other.sample).map_err(|why| format!("theirs: {why}"));
    for tries in 1..=TRIES {
        let before = row.apart.then(probe);
        let (own, others) = if round.is_multiple_of(2) {
            let own = ours()?;
            (own, theirs()?)
        } else {
            let others = theirs()?;
            (ours()?, others)
        };
        let round_trip = before.map(|before| [before, probe()]);
        let classes = round_trip.map(|both| both.map(Distance::of));
        if classes.is_some_and(|[before, after]| before != after) {
            continue;
        }
        return Ok(Some(Record {
            row: row.name.clone(),
            beside: other.name.clone(),
            kind: other.kind,
            unit: row.unit,
            distance: classes.map_or(Distance::Any, |[both, _]| both),
            ours: own,
            theirs: others,
            round,
            round_trip,
            tries,
        }));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_written_as_years_months_and_days() {
        assert_eq!(date_of(0), "1970-01-01");
        assert_eq!(date_of(951_782_400), "2000-02-29");
        assert_eq!(date_of(1_735_689_599), "2024-12-31");
        assert_eq!(date_of(1_795_219_200), "2026-11-21");
    }

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let record = Record {
            row: "a/b".to_string(),
            beside: "c".to_string(),
            kind: Kind::Limit,
            unit: Unit::Share,
            distance: Distance::Near,
            ours: 1.5,
            theirs: 2.0,
            round: 3,
            round_trip: Some([70.0, 71.0]),
            tries: 2,
        };
        let lines = [
            Line::Pair(record),
            Line::Gap(Gap {
                row: "a/b".to_string(),
                beside: "c".to_string(),
                absent: true,
                why: String::new(),
            }),
            Line::Setting(Setting::here(7)),
        ];
        for line in lines {
            let text = serde_json::to_string(&line).unwrap();
            let read: Line = serde_json::from_str(&text).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), text);
        }
    }
}
