//! pshared beside every rival, and near the limits of the machine.
//!
//! `cargo peers [NAME...]` measures the rows whose names contain one of the words, or all of them. Each pair of samples
//! is printed as a line of JSON, and at the end a table in Markdown and what became of the goals. How it measures is
//! told in [`rounds`]; what it is measured beside, in a file for each subject.

#![allow(clippy::disallowed_types, reason = "rivals and limits stand beside the crate's seam")]

mod asleep;
#[cfg(boost)]
mod boost;
#[cfg(not(boost))]
#[path = "no_boost.rs"]
mod boost;
mod channel;
mod curves;
mod distance;
mod drive;
mod futex;
mod goals;
mod growth;
mod iceoryx;
mod lock;
mod mq;
#[path = "../../../tests/support/page.rs"]
#[allow(dead_code, unreachable_pub, reason = "the tests' page, of which a part is used here")]
mod page;
mod parties;
mod plot;
mod pool;
mod process;
mod python;
mod queue;
mod region;
mod report;
mod ring;
mod round_trip;
mod rounds;
mod semaphore;
mod value;

use std::{
    fs,
    io::{self, stdout},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use report::Results;
use rounds::{Line, Row, Setting};

/// Measures pshared beside its rivals and the machine's limits.
#[derive(Parser)]
#[command(name = "cargo peers")]
struct Arguments {
    /// Rows to measure: those whose names contain one of these. All, if there are none.
    names: Vec<String>,
    /// Fewer and shorter samples: under 3 minutes.
    #[arg(long)]
    quick: bool,
    /// Exit with 1 when a goal is missed.
    #[arg(long)]
    check: bool,
    /// Print the names of the rows, and what each is measured beside.
    #[arg(long)]
    list: bool,
    /// Measure nothing, and report on the lines that an earlier run printed.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Draw the results as SVG, a file for each subject, into this folder.
    #[arg(long, value_name = "FOLDER", num_args = 0..=1, require_equals = true, default_missing_value = RESULTS)]
    plot: Option<PathBuf>,
    /// Measure how cost grows instead, and write the page and its pictures into this folder.
    #[arg(long, value_name = "FOLDER", num_args = 0..=1, require_equals = true, default_missing_value = RESULTS)]
    growth: Option<PathBuf>,
}

/// Where pictures are drawn.
const RESULTS: &str = "benches/results";

/// For how long a sample measures, and how many rounds there are.
const FULL: (Duration, usize) = (Duration::from_millis(40), 7);
const QUICK: (Duration, usize) = (Duration::from_millis(8), 3);

fn rows(names: &[String]) -> Vec<Row> {
    let all = [
        lock::rows(),
        semaphore::rows(),
        asleep::rows(),
        round_trip::rows(),
        channel::rows(),
        queue::rows(),
        value::rows(),
        process::rows(),
        pool::rows(),
        region::rows(),
    ];
    let wanted = |row: &Row| names.is_empty() || names.iter().any(|name| row.name.contains(name.as_str()));
    let mut rows: Vec<Row> = all.into_iter().flatten().filter(wanted).collect();
    if let Some(why) = python::absent() {
        for row in &mut rows {
            let (python, others) = row.others.drain(..).partition(|other| other.name.starts_with("Python"));
            row.others = others;
            let python: Vec<rounds::Contender> = python;
            row.absent.extend(python.into_iter().map(|other| (other.name, why.to_string())));
        }
    }
    rows
}

/// The lines of an earlier run; what else it printed is passed over.
fn read(file: &PathBuf) -> io::Result<Vec<Line>> {
    let text = fs::read_to_string(file)?;
    let lines = text.lines().filter(|line| line.starts_with('{'));
    lines.map(|line| serde_json::from_str(line).map_err(io::Error::other)).collect()
}

fn measure(rows: &[Row], quick: bool) -> io::Result<Vec<Line>> {
    let rounds = if quick { QUICK } else { FULL }.1;
    drive::calibrate();
    let setting = Line::Setting(Setting::here(rounds));
    println!("{}", serde_json::to_string(&setting)?);
    let (begun, mut lines) = (Instant::now(), vec![setting]);
    for (number, row) in rows.iter().enumerate() {
        eprintln!(
            "{:4.0} s, row {} of {}: {}",
            begun.elapsed().as_secs_f64(),
            number + 1,
            rows.len(),
            row.name
        );
        lines.extend(rounds::measure(row, rounds, &mut stdout())?);
    }
    Ok(lines)
}

fn run(arguments: &Arguments) -> io::Result<bool> {
    if let Some(folder) = &arguments.growth {
        growth::run(folder)?.iter().for_each(|file| eprintln!("written: {}", file.display()));
        return Ok(true);
    }
    drive::set_effort(if arguments.quick { QUICK } else { FULL }.0);
    let rows = rows(&arguments.names);
    if arguments.names.is_empty() {
        let unheard = goals::unheard(&rows);
        assert!(unheard.is_empty(), "goals without a row: {unheard:?}");
    }
    if arguments.list {
        for row in &rows {
            let others: Vec<&str> = row.others.iter().map(|other| other.name.as_str()).collect();
            println!("{}: {}", row.name, others.join(", "));
        }
        return Ok(true);
    }
    if rows.is_empty() {
        return Err(io::Error::other(format!("no row is named so: {}", arguments.names.join(", "))));
    }
    let lines = match &arguments.from {
        Some(file) => read(file)?,
        None => measure(&rows, arguments.quick)?,
    };
    let results = Results::of(lines);
    report::table(&results, &mut stdout())?;
    let met = report::goals(&results, &mut stdout())?;
    if let Some(folder) = &arguments.plot {
        plot::draw(&results, folder)?.iter().for_each(|file| eprintln!("drawn: {}", file.display()));
    }
    Ok(met || !arguments.check)
}

fn main() -> ExitCode {
    // What is started anew by these goes no further than here.
    pshared::init();
    procspawn::init();
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}
