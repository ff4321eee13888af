//! The command line, the table, the last line.

use std::{
    collections::BTreeSet,
    env,
    io::{Write, stdout},
    process::ExitCode,
    time::Instant,
};

use pshared::Lock;

use crate::{
    any, barrier, channel,
    company::{LIMIT, Process, asleep, keep_news},
    condition, event, lanes, lock, mutants, peers, pipe, pool, process, queue, rlock, rwlock,
    scenario::{Effort, Kind, Scenario, Tally},
    semaphore, tasks, trace, value,
};

/// Every file of scenarios has its line here.
pub fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    all.extend(lock::scenarios());
    all.extend(queue::scenarios());
    all.extend(channel::scenarios());
    all.extend(value::scenarios());
    all.extend(event::scenarios());
    all.extend(rlock::scenarios());
    all.extend(semaphore::scenarios());
    all.extend(barrier::scenarios());
    all.extend(rwlock::scenarios());
    all.extend(tasks::scenarios());
    all.extend(condition::scenarios());
    all.extend(pipe::scenarios());
    all.extend(peers::scenarios());
    all.extend(any::scenarios());
    all.extend(pool::scenarios());
    all.extend(process::scenarios());
    all
}

/// What was asked for.
#[derive(Debug)]
struct Options {
    names: Vec<String>,
    pairs: Option<usize>,
    seed: u64,
    quick: bool,
    most: usize,
    /// This is the second build: hunt the mutants.
    mutants: bool,
}

impl Options {
    fn from_args() -> Result<Options, String> {
        let mut options =
            Options { names: vec![], pairs: None, seed: 1, quick: false, most: usize::MAX, mutants: false };
        let mut words = env::args().skip(1);
        while let Some(word) = words.next() {
            let mut number = || -> Result<u64, String> {
                let value = words.next().ok_or_else(|| format!("{word} needs a number"))?;
                value.parse().map_err(|_| format!("{word} needs a number, not {value}"))
            };
            match word.as_str() {
                "--pairs" => options.pairs = Some(number()? as usize),
                "--seed" => options.seed = number()?,
                "--quick" => options.quick = true,
                "--most" => options.most = number()?.max(1) as usize,
                "--mutants" => options.mutants = true,
                flag if flag.starts_with('-') => return Err(format!("unknown option {flag}")),
                name => options.names.push(name.to_string()),
            }
        }
        Ok(options)
    }

    fn pairs(&self) -> usize {
        self.pairs.unwrap_or(if self.quick { 600 } else { 6400 })
    }
}

pub fn main() -> ExitCode {
    let options = match Options::from_args() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("crash: {error}");
            return ExitCode::FAILURE;
        }
    };
    keep_news();
    if let Err(error) = can_run() {
        eprintln!("crash: CANNOT RUN: {error}; nothing was shown");
        return ExitCode::FAILURE;
    }
    let well =
        if options.mutants { mutants::hunt(options.seed, &options.names) } else { everything(&options) };
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whether a run here would prove anything.
fn can_run() -> Result<(), String> {
    trace::allowed().map_err(|error| format!("ptrace is forbidden here ({error})"))?;
    // A wait that the crate cuts in slices would heal what the kills are to show.
    let lock = Lock::new().map_err(|error| format!("no lock: {error}"))?;
    let guard = lock.lock().map_err(|error| format!("no lock: {error}"))?;
    let mut sleeper = Process::fork(|| drop(lock.lock()));
    if !sleeper.until_asleep(LIMIT) {
        return Err("a sleeper is not seen to sleep".into());
    }
    // Number, word, operation, value, limit.
    let call = asleep(sleeper.pid()).ok_or("a sleeper is not seen to sleep")?;
    drop(guard);
    match call.get(4) {
        Some(0) => Ok(()),
        limit => {
            Err(format!("this kernel needs timers behind its wake-ups, and they are on (limit {limit:?})"))
        }
    }
}

fn everything(options: &Options) -> bool {
    let all = scenarios();
    let known = all.len();
    let rows: Vec<Scenario> = all
        .into_iter()
        .filter(|row| options.names.is_empty() || options.names.iter().any(|name| row.name().contains(name)))
        .collect();
    if rows.is_empty() {
        eprintln!("crash: no row is called {:?}", options.names);
        return false;
    }
    println!("seed {} (--seed), {} pairs of each kind (--pairs)", options.seed, options.pairs());
    if options.quick {
        println!("--quick: SKIPPED: four of five kill points and the mutants; this is a look, not a proof");
    }
    if rows.len() < known {
        println!("filter: SKIPPED: {} of {known} rows and the mutants", known - rows.len());
    }
    let began = Instant::now();
    let mut whole = true;
    let mut total = Tally::default();
    let mut operations = BTreeSet::new();
    for (kind, title) in [
        (Kind::OneDeath, "one death, at every point"),
        (Kind::TwoDeaths, "two deaths: the victim, then its heir"),
        (Kind::StoppedSleeper, "the victim dies while a sleeper stands stopped on its way to sleep"),
    ] {
        let rows: Vec<&Scenario> = rows.iter().filter(|row| row.kind == kind).collect();
        if rows.is_empty() {
            continue;
        }
        println!("\n{title}");
        println!(
            "{:<80} {:>9} {:>6} {:>6} {:>5} {:>5} {:>6}",
            "", "points", "kills", "wedged", "torn", "lost", "s"
        );
        let effort = Effort {
            stride: if options.quick { 5 } else { 1 },
            most: options.most,
            pairs: options.pairs().div_ceil(rows.len()),
            seed: options.seed,
            hunting: false,
        };
        whole &= lanes::run(&rows, effort, |row, tally| {
            print_row(row, tally);
            operations.insert(row.operation);
            total.damage += tally.damage;
            total.kills += tally.kills;
            total.rounds_left_out += tally.rounds_left_out;
            total.points_left_out += tally.points_left_out;
        });
    }
    let (seconds, rounds) = (began.elapsed().as_secs_f64(), total.rounds_left_out);
    println!("\n{seconds:.0} s; left out: {rounds} points in the middle rounds of long loops");
    if total.points_left_out > 0 {
        println!("--most {}: SKIPPED: {} points more, spread evenly", options.most, total.points_left_out);
    }
    let mutants_caught = options.quick || rows.len() < known || mutants::build_and_hunt(options.seed);
    let damage = total.damage;
    let lost = damage.lost + damage.doubled;
    println!(
        "crash: {} operations, {} kills, {} wedged, {} torn, {lost} lost",
        operations.len(),
        total.kills,
        damage.wedged,
        damage.torn
    );
    whole && !damage.any() && mutants_caught
}

fn print_row(row: &Scenario, tally: &Tally) {
    let points = match row.kind {
        Kind::OneDeath => tally.points.to_string(),
        _ => format!("{}+{}", tally.points, tally.heir_points),
    };
    let damage = tally.damage;
    println!(
        "{:<80} {points:>9} {:>6} {:>6} {:>5} {:>5} {:>6.1}",
        row.name(),
        tally.kills,
        damage.wedged,
        damage.torn,
        damage.lost + damage.doubled,
        tally.seconds
    );
    let _ = stdout().flush();
}
