//! What the lines come to: a table in Markdown, and a list of the goals.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    io::{self, Write},
};

use crate::{
    distance::Distance,
    goals::{GOALS, Goal, Verdict, judge},
    rounds::{Gap, Kind, Line, Record, Setting, Unit},
};

/// Least, median and greatest.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    pub least: f64,
    pub middle: f64,
    pub most: f64,
}

impl Spread {
    fn of(figures: impl Iterator<Item = f64>) -> Spread {
        let mut sorted: Vec<f64> = figures.collect();
        sorted.sort_by(f64::total_cmp);
        let half = sorted.len() / 2;
        let middle = if sorted.len().is_multiple_of(2) {
            (sorted[half - 1] + sorted[half]) / 2.0
        } else {
            sorted[half]
        };
        Spread { least: sorted[0], middle, most: sorted[sorted.len() - 1] }
    }
}

/// Three digits, and the rest of the number if there is more of it.
pub fn digits(figure: f64) -> String {
    let size = figure.abs();
    match size {
        100.0.. => {
            let whole = format!("{size:.0}");
            let groups: Vec<&[u8]> = whole.as_bytes().rchunks(3).rev().collect();
            let words: Vec<&str> =
                groups.iter().map(|group| str::from_utf8(group).expect("digits")).collect();
            words.join(",")
        }
        10.0.. => format!("{figure:.1}"),
        0.01.. => format!("{figure:.2}"),
        0.0 => "0".to_string(),
        _ => format!("{figure:.5}"),
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{} - {}]", digits(self.middle), digits(self.least), digits(self.most))
    }
}

/// All pairs of ours and one other, at one distance.
#[derive(Debug)]
pub struct Cell {
    pub kind: Kind,
    pub unit: Unit,
    pub ours: Spread,
    pub theirs: Spread,
    /// Ours by theirs.
    pub ratio: Spread,
    pub pairs: usize,
}

/// A list that keeps its order, of things with names.
type Named<T> = Vec<(String, T)>;

/// Everything that was measured, in the order in which it was.
#[derive(Debug, Default)]
pub struct Results {
    pub rows: Named<Named<BTreeMap<Distance, Cell>>>,
    pub gaps: Vec<Gap>,
    pub setting: Option<Setting>,
}

impl Results {
    pub fn of(lines: Vec<Line>) -> Results {
        let (mut gaps, mut setting) = (Vec::new(), None);
        let mut rows: Named<Named<Vec<Record>>> = Vec::new();
        for line in lines {
            let record = match line {
                Line::Setting(known) => {
                    setting = Some(known);
                    continue;
                }
                Line::Gap(gap) => {
                    gaps.push(gap);
                    continue;
                }
                Line::Pair(record) => record,
            };
            let others = place(&mut rows, &record.row);
            place(others, &record.beside).push(record);
        }
        let cells = |records: Vec<Record>| -> BTreeMap<Distance, Cell> {
            let distances: BTreeSet<Distance> = records.iter().map(|record| record.distance).collect();
            let at = |distance| records.iter().filter(move |record| record.distance == distance);
            let cell = |distance| Cell {
                kind: records[0].kind,
                unit: records[0].unit,
                ours: Spread::of(at(distance).map(|record| record.ours)),
                theirs: Spread::of(at(distance).map(|record| record.theirs)),
                ratio: Spread::of(at(distance).map(|record| record.ours / record.theirs)),
                pairs: at(distance).count(),
            };
            distances.iter().map(|&distance| (distance, cell(distance))).collect()
        };
        let others = |others: Named<Vec<Record>>| {
            others.into_iter().map(|(beside, records)| (beside, cells(records))).collect()
        };
        Results { rows: rows.into_iter().map(|(row, all)| (row, others(all))).collect(), gaps, setting }
    }

    /// The cell with the most pairs of a row and another, and its distance; the nearer of two that have as many.
    pub fn most_measured(&self, row: &str, beside: &str) -> Option<(Distance, &Cell)> {
        let (_, others) = self.rows.iter().find(|(name, _)| name == row)?;
        let (_, cells) = others.iter().find(|(name, _)| name == beside)?;
        let most = cells.values().map(|cell| cell.pairs).max()?;
        cells.iter().find(|(_, cell)| cell.pairs == most).map(|(&distance, cell)| (distance, cell))
    }
}

/// The value of a name, made if there is none.
fn place<'a, T: Default>(list: &'a mut Named<T>, name: &str) -> &'a mut T {
    let found = list.iter().position(|(known, _)| known == name);
    let index = found.unwrap_or_else(|| {
        list.push((name.to_string(), T::default()));
        list.len() - 1
    });
    &mut list[index].1
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Rival => "",
        Kind::Threads => " (threads)",
        Kind::Limit => " (limit)",
        Kind::Ours => " (ours)",
    }
}

pub fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Ns => "ns",
        Unit::Share => "share",
        Unit::Bytes => "B",
    }
}

fn mark(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Met => "met",
        Verdict::Missed => "**missed**",
        Verdict::NotAsked | Verdict::NoFigure => "no figure",
    }
}

/// The goals of a row beside another.
fn goals_of<'a>(row: &'a str, beside: &'a str) -> impl Iterator<Item = &'static Goal> + 'a {
    GOALS.iter().filter(move |goal| goal.row == row && goal.beside.contains(&beside))
}

/// Prints the table: a line for each row, other and distance.
pub fn table(results: &Results, out: &mut dyn Write) -> io::Result<()> {
    if let Some(Setting { machine, system, date, effort_ms, rounds }) = &results.setting {
        writeln!(out, "\n{machine}; {system}; {date}; {rounds} rounds of samples of {effort_ms} ms.")?;
    }
    writeln!(
        out,
        "\n| What | CPUs | Ours, median [least - most] | Beside | Theirs | Ours / theirs | Goal |"
    )?;
    writeln!(out, "|---|---|---|---|---|---|---|")?;
    for (row, others) in &results.rows {
        for (beside, cells) in others {
            let judged = results.most_measured(row, beside).map(|(distance, _)| distance);
            for (&distance, cell) in cells {
                let goals: Vec<String> = goals_of(row, beside)
                    .filter(|_| judged == Some(distance))
                    .map(|goal| format!("{} {}", goal.bound, mark(judge(goal, beside, results).0)))
                    .collect();
                writeln!(
                    out,
                    "| {row} | {distance} | {} {} | {beside}{} | {} | {} ({}) | {} |",
                    cell.ours,
                    unit(cell.unit),
                    kind(cell.kind),
                    cell.theirs,
                    cell.ratio,
                    cell.pairs,
                    goals.join(", "),
                )?;
            }
        }
    }
    for gap in results.gaps.iter().filter(|gap| gap.absent) {
        writeln!(out, "| {} | | | {} | {} | | |", gap.row, gap.beside, gap.why)?;
    }
    Ok(())
}

/// Prints how many goals were met, and which were not. Says whether all that were asked for were.
pub fn goals(results: &Results, out: &mut dyn Write) -> io::Result<bool> {
    let (mut met, mut bad) = (0, Vec::new());
    for goal in GOALS {
        for beside in goal.beside {
            let (verdict, figure) = judge(goal, beside, results);
            let what = format!("{} beside {beside}: {}", goal.row, goal.bound);
            match (verdict, figure) {
                (Verdict::Met, _) => met += 1,
                (Verdict::Missed, Some((distance, figure))) => {
                    bad.push(format!("missed: {what}, is {} ({distance})", digits(figure)));
                }
                (Verdict::NoFigure, _) | (Verdict::Missed, None) => bad.push(format!("no figure: {what}")),
                (Verdict::NotAsked, _) => {}
            }
        }
    }
    writeln!(out, "\n{met} goals met, {} not", bad.len())?;
    bad.iter().try_for_each(|line| writeln!(out, "- {line}"))?;
    let (absent, faults): (Vec<&Gap>, Vec<&Gap>) = results.gaps.iter().partition(|gap| gap.absent);
    for (what, gaps) in [("not here", absent), ("failed or dropped", faults)] {
        let names: BTreeSet<String> =
            gaps.iter().map(|gap| format!("{} ({})", gap.beside, gap.row)).collect();
        if !names.is_empty() {
            writeln!(out, "{what}: {}", names.into_iter().collect::<Vec<_>>().join("; "))?;
        }
    }
    Ok(bad.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(beside: &str, distance: Distance, ours: f64, theirs: f64) -> Line {
        Line::Pair(Record {
            row: "lock/uncontended".to_string(),
            beside: beside.to_string(),
            kind: Kind::Rival,
            unit: Unit::Ns,
            distance,
            ours,
            theirs,
            round: 0,
            round_trip: None,
            tries: 1,
        })
    }

    #[test]
    fn figures_have_three_digits_or_more() {
        let figures = [0.0, 0.000_123, 0.5, 12.34, 123.4, 1_234_567.0];
        assert_eq!(figures.map(digits), ["0", "0.00012", "0.50", "12.3", "123", "1,234,567"]);
    }

    #[test]
    fn the_ratio_is_that_within_a_pair() {
        let lines = [(1.0, 10.0), (20.0, 10.0), (300.0, 100.0)].map(|(a, b)| pair("x", Distance::Near, a, b));
        let results = Results::of(lines.to_vec());
        let (_, cell) = results.most_measured("lock/uncontended", "x").unwrap();
        assert_eq!((cell.ours.middle, cell.theirs.middle, cell.ratio.middle), (20.0, 10.0, 2.0));
        assert_eq!((cell.ratio.least, cell.ratio.most, cell.pairs), (0.1, 3.0, 3));
    }

    #[test]
    fn a_goal_is_judged_at_the_distance_of_most_pairs() {
        let mut lines =
            vec![pair("std Mutex", Distance::Far, 1.0, 1.0), pair("std Mutex", Distance::Far, 1.0, 1.0)];
        lines.push(pair("std Mutex", Distance::Near, 9.0, 1.0));
        let mut text = Vec::new();
        assert!(goals(&Results::of(lines.clone()), &mut text).unwrap());
        lines.extend([
            pair("std Mutex", Distance::Near, 9.0, 1.0),
            pair("std Mutex", Distance::Near, 9.0, 1.0),
        ]);
        assert!(!goals(&Results::of(lines), &mut text).unwrap());
    }

    #[test]
    fn what_has_no_figure_though_it_ought_to_is_no_success_and_what_is_absent_no_failure() {
        let gap = |absent| {
            let (row, beside) = ("lock/uncontended".to_string(), "std Mutex".to_string());
            vec![Line::Gap(Gap { row, beside, absent, why: String::new() })]
        };
        assert!(goals(&Results::of(gap(true)), &mut Vec::new()).unwrap());
        assert!(!goals(&Results::of(gap(false)), &mut Vec::new()).unwrap());
    }
}
