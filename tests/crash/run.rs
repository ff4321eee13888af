//! The command line, the table, the last line.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    io::{Write, stdout},
    process::ExitCode,
    time::Instant,
};

use pshared::{Lock, testing::Report};

use crate::{
    any, barrier, channel,
    company::{LIMIT, Process, asleep, keep_news},
    condition, event, lanes, lock, mutants, peers, pipe, pool, process, queue, rlock, rwlock,
    scenario::{Damage, Effort, Kind, Scenario},
    semaphore, tasks, trace, value,
};

/// Every file of scenarios has its line here, with the object that it is about.
fn files() -> [(&'static str, Vec<Scenario>); 16] {
    [
        ("Lock", lock::scenarios()),
        ("Queue", queue::scenarios()),
        ("Channel", channel::scenarios()),
        ("Value", value::scenarios()),
        ("Event", event::scenarios()),
        ("RLock", rlock::scenarios()),
        ("Semaphore", semaphore::scenarios()),
        ("Barrier", barrier::scenarios()),
        ("RwLock", rwlock::scenarios()),
        ("JoinableQueue", tasks::scenarios()),
        ("Condition", condition::scenarios()),
        ("Connection", pipe::scenarios()),
        ("Peers of a queue", peers::scenarios()),
        ("wait_any", any::scenarios()),
        ("Pool", pool::scenarios()),
        ("Process", process::scenarios()),
    ]
}

/// All rows.
#[cfg(mutants)]
pub fn scenarios() -> Vec<Scenario> {
    files().into_iter().flat_map(|(_, rows)| rows).collect()
}

/// What was asked for.
#[derive(Debug)]
struct Options {
    names: Vec<String>,
    pairs: Option<usize>,
    seed: u64,
    quick: bool,
    most: usize,
    /// Rows of this kind alone, and no mutants.
    kind: Option<Kind>,
    /// This is the second build: hunt the mutants.
    mutants: bool,
}

impl Options {
    fn from_args() -> Result<Options, String> {
        let mut options = Options {
            names: vec![],
            pairs: None,
            seed: 1,
            quick: false,
            most: usize::MAX,
            kind: None,
            mutants: false,
        };
        let mut words = env::args().skip(1);
        while let Some(word) = words.next() {
            let mut number = || -> Result<u64, String> {
                let value = words.next().ok_or_else(|| format!("{word} needs a number"))?;
                value.parse().map_err(|_| format!("{word} needs a number, not {value}"))
            };
            match word.as_str() {
                "--pairs" => options.pairs = Some(number()? as usize),
                "--seed" => options.seed = number()?,
                "--single" => options.kind = Some(Kind::OneDeath),
                "--double" => options.kind = Some(Kind::TwoDeaths),
                "--" => {}
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
    let wanted = |row: &Scenario| {
        (options.names.is_empty() || options.names.iter().any(|name| row.name().contains(name)))
            && options.kind.is_none_or(|kind| kind == row.kind)
    };
    let (mut known, mut rows, mut objects) = (0, Vec::new(), Vec::new());
    for (object, all) in files() {
        known += all.len();
        for row in all.into_iter().filter(wanted) {
            rows.push(row);
            objects.push(object);
        }
    }
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
    let mut total = Report::default();
    let mut operations = BTreeSet::new();
    let mut sums: BTreeMap<&str, Sum> = BTreeMap::new();
    for (kind, title) in [
        (Kind::OneDeath, "one death, at every point"),
        (Kind::TwoDeaths, "two deaths: the victim, then its heir"),
        (Kind::StoppedSleeper, "the victim dies while a sleeper stands stopped on its way to sleep"),
    ] {
        let (rows, objects): (Vec<&Scenario>, Vec<&str>) =
            rows.iter().zip(&objects).filter(|(row, _)| row.kind == kind).unzip();
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
            ..Effort::default()
        };
        whole &= lanes::run(&rows, effort, |place, report| {
            let row = rows[place];
            print_row(row, report);
            sums.entry(objects[place]).or_default().add(report);
            operations.insert(row.operation);
            total.damage += report.damage;
            total.kills += report.kills;
            total.rounds_left_out += report.rounds_left_out;
            total.points_left_out += report.points_left_out;
        });
    }
    print_sums(&sums);
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

/// What the rows of an object came to.
#[derive(Default)]
struct Sum {
    rows: usize,
    kills: u64,
    damage: Damage,
    seconds: f64,
}

impl Sum {
    fn add(&mut self, report: &Report) {
        self.rows += 1;
        self.kills += report.kills;
        self.damage += report.damage;
        self.seconds += report.seconds;
    }
}

fn print_sums(sums: &BTreeMap<&str, Sum>) {
    println!(
        "\n{:<24} {:>6} {:>8} {:>6} {:>5} {:>5} {:>7}",
        "object", "rows", "kills", "wedged", "torn", "lost", "s"
    );
    for (object, Sum { rows, kills, damage, seconds }) in sums {
        let lost = damage.lost + damage.doubled;
        let (wedged, torn) = (damage.wedged, damage.torn);
        println!("{object:<24} {rows:>6} {kills:>8} {wedged:>6} {torn:>5} {lost:>5} {seconds:>7.1}");
    }
}

fn print_row(row: &Scenario, report: &Report) {
    let points = match row.kind {
        Kind::OneDeath => report.points.to_string(),
        _ => format!("{}+{}", report.points, report.heir_points),
    };
    let damage = report.damage;
    println!(
        "{:<80} {points:>9} {:>6} {:>6} {:>5} {:>5} {:>6.1}",
        row.name(),
        report.kills,
        damage.wedged,
        damage.torn,
        damage.lost + damage.doubled,
        report.seconds
    );
    for fault in &report.faults {
        println!("! {}: {fault}", row.name());
    }
    let _ = stdout().flush();
}
