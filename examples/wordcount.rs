//! Counts the words of all files below some paths with forked workers, and is right even if workers are killed.
//!
//! `cargo run --release --example wordcount -- --help` tells how to call it.
//!
//! # The way of the data
//! The parent cuts the files into *batches*. There are two engines: by a [`Pool`](pshared::Pool), which is told of
//! below in `pooled.rs`, and by queues alone, to show how that is done. There a job (a batch's number and paths) goes
//! out through one [`Queue`]; a worker counts it, enters its sums in the shared [`Totals`], and sends the counts of its
//! words home through a second queue, in as many parts as they need.
//!
//! # How a killed worker costs nothing
//! - A batch is **done** when the parent has the part that is marked as its last. Sending is atomic, so a worker that
//!   is killed at any instruction has done its batch or has not; parts without a last one are dropped.
//! - The parent works in **rounds**: it sends out all batches that are not done, closes the queue of jobs, and takes in
//!   results until every worker has ended; then it takes what the dead had sent before. What is not done now is in
//!   nobody's hands: it died with a worker that had received it, or was never received. It goes into the next round,
//!   once, with fresh workers.
//! - A worker that dies in a round is replaced at once if there are jobs left. That only saves time.
//! - A batch's row in [`Totals`] is *set*, not added to, and before the batch is done: doing it again is harmless.
//!   The sum of all rows is kept beside them under a [`Lock`]. Whoever is told that the lock's owner died adds up the
//!   rows again: they are right but for a batch that is not done, and that one will be set again.

#[path = "wordcount/counter.rs"]
mod counter;
#[path = "wordcount/files.rs"]
mod files;
#[path = "wordcount/pooled.rs"]
mod pooled;
#[path = "wordcount/shared.rs"]
mod shared;
#[path = "wordcount/worker.rs"]
mod worker;

use std::{
    cmp::Reverse,
    error::Error,
    fmt::{self, Write as _},
    io::{self, Write as _},
    mem,
    os::unix::ffi::OsStrExt,
    path::PathBuf,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use clap::{CommandFactory, Parser, ValueEnum, error::ErrorKind};
use indicatif::{ProgressBar, ProgressStyle};
use pshared::{Process, Queue, RecvTimeoutError, RegionError, TrySendError};

use counter::WordMap;
use files::{Batches, Missing, find, skipped};
use shared::{Counted, Job, Place, Report, Sums, Totals, chance};
use worker::Worker;

/// How many of the commonest words are shown.
const TOP: usize = 20;
const JOBS_CAPACITY: usize = 256 << 10;
const RESULTS_CAPACITY: usize = 4 << 20;
/// How long a death can go unnoticed while no result comes in.
const LOOK_ROUND: Duration = Duration::from_millis(10);
/// After so many rounds in a row that got nothing done the trouble is not an accident.
const FRUITLESS_ROUNDS: u32 = 3;

/// Counts the words of all regular files below the given paths.
///
/// A word is a run of ASCII letters, in lower case. Links are not followed. A file with a NUL byte in its first 8,192
/// bytes is binary and is skipped; what cannot be read is named on stderr and skipped.
#[derive(Parser)]
#[command(name = "wordcount")]
struct Options {
    /// Files and directories [default: this repository]
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Worker processes, 1 to 256 [default: the CPUs that this process may use]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    workers: Option<u32>,
    /// What the workers are
    #[arg(long, value_enum, default_value_t = Engine::Pool)]
    engine: Engine,
    /// Kill a worker in the middle of its work, at a chosen place or at one taken by chance
    #[arg(long, value_name = "WHERE", num_args = 0..=1, require_equals = true)]
    kill_one: Option<Option<Place>>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Engine {
    /// A pool's
    Pool,
    /// Processes that take jobs from one queue and send results to another
    Queue,
}

pub(crate) fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => return refuse(error),
    };
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(usage) = error.downcast_ref::<Missing>() {
                return refuse(Options::command().error(ErrorKind::InvalidValue, usage));
            }
            let mut text = error.to_string();
            let mut cause = error.source();
            while let Some(deeper) = cause {
                let _ = write!(text, ": {deeper}");
                cause = deeper.source();
            }
            eprintln!("wordcount: {text}");
            ExitCode::FAILURE
        }
    }
}

/// Says what is wrong with the arguments, with usage, or what was asked for (`--help`).
fn refuse(error: clap::Error) -> ExitCode {
    let _ = error.print();
    if error.use_stderr() && !error.to_string().contains("Usage:") {
        eprintln!("{}", Options::command().render_usage());
    }
    ExitCode::from(error.exit_code() as u8)
}

fn run(options: Options) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let workers = match options.workers {
        Some(workers) => workers as usize,
        None => thread::available_parallelism().map_or(1, |cpus| cpus.get().min(256)),
    };
    let files = find(options.paths)?;
    let batches = Batches::cut(files, workers);
    let ambush = options.kill_one.map(|place| place.unwrap_or_else(Place::by_chance));
    if ambush.is_some() && batches.len() == 0 {
        eprintln!("wordcount: there is nothing to count, so nobody is killed");
    }
    let mut tally = Tally::new(&batches, ambush)?;
    match options.engine {
        Engine::Pool => pooled::count(&mut tally, workers)?,
        Engine::Queue => Parent::new(&mut tally, workers)?.count()?,
    }
    tally.bar.finish_and_clear();
    let text = tally.report(options.json, start.elapsed())?;
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// A worker as the parent sees it: what it has done is what came home.
struct Hand {
    pid: u32,
    /// How it ended.
    ended: Option<String>,
    killed_at: Option<Place>,
    batches: u64,
    sums: Sums,
}

/// What has come home.
struct Tally<'a> {
    batches: &'a Batches,
    ambush: Option<Place>,
    totals: Totals,
    hands: Vec<Hand>,
    done: Vec<bool>,
    words: WordMap<str>,
    unreadable: u64,
    bar: ProgressBar,
}

/// The engine of queues.
struct Parent<'a, 'b> {
    tally: &'b mut Tally<'a>,
    at_once: usize,
    results: Queue<Report>,
    /// For each hand of the tally its process, and parts of the batch that it is sending.
    crew: Vec<(Process, Vec<u8>)>,
    living: usize,
}

impl<'a, 'b> Parent<'a, 'b> {
    fn new(tally: &'b mut Tally<'a>, at_once: usize) -> Result<Parent<'a, 'b>, RegionError> {
        Ok(Parent { tally, at_once, results: Queue::new(RESULTS_CAPACITY)?, crew: Vec::new(), living: 0 })
    }

    /// Rounds, until every batch is done.
    fn count(&mut self) -> Result<(), Box<dyn Error>> {
        let mut todo = self.tally.todo();
        let mut fruitless = 0;
        while !todo.is_empty() {
            self.round(&todo)?;
            let left = self.tally.todo();
            fruitless = if left.len() < todo.len() { 0 } else { fruitless + 1 };
            if fruitless == FRUITLESS_ROUNDS {
                return Err(self.tally.given_up());
            }
            todo = left;
        }
        Ok(())
    }

    /// Sends out the batches `todo`, and takes in results until all workers have ended.
    fn round(&mut self, todo: &[u32]) -> Result<(), Box<dyn Error>> {
        let jobs = Queue::new(JOBS_CAPACITY)?;
        let first = self.crew.is_empty();
        for _ in 0..self.at_once.min(todo.len()) {
            self.spawn(&jobs)?;
        }
        if first {
            self.tally.show_progress()?;
        }
        let mut replacements = self.at_once;
        let mut unsent = todo.iter().copied().peekable();
        while self.living > 0 {
            while let Some(&batch) = unsent.peek() {
                match jobs.try_send(self.tally.job(batch, first)) {
                    Ok(()) => drop(unsent.next()),
                    Err(TrySendError::Full(_)) => break,
                    Err(error) => return Err(error.into()),
                }
            }
            if unsent.peek().is_none() {
                jobs.close();
            }
            match self.results.recv_timeout(LOOK_ROUND) {
                Ok(report) => self.take(report)?,
                Err(RecvTimeoutError::TimedOut) => {}
                Err(error) => return Err(error.into()),
            }
            let died = self.look_round()?;
            for _ in 0..died.min(replacements) {
                if unsent.peek().is_some() || !jobs.is_empty() {
                    replacements -= 1;
                    self.spawn(&jobs)?;
                }
            }
        }
        // Nobody sends any more: what the dead had sent before is all here.
        while let Ok(report) = self.results.try_recv() {
            self.take(report)?;
        }
        self.crew.iter_mut().for_each(|(_, begun)| *begun = Vec::new());
        Ok(())
    }

    fn spawn(&mut self, jobs: &Queue<Job>) -> Result<(), Box<dyn Error>> {
        let (number, totals) = (self.crew.len() as u32, &self.tally.totals);
        let worker = Worker { number, jobs, results: &self.results, totals };
        // It ends with its parent: nobody is to wait for jobs of one that has been killed.
        let process = Process::spawn(|| worker.work())?;
        self.living += 1;
        self.tally.hands.push(Hand::new(process.pid()));
        self.crew.push((process, Vec::new()));
        Ok(())
    }

    fn take(&mut self, report: Report) -> Result<(), Box<dyn Error>> {
        match report {
            Report::Ambushed { worker } => {
                let (process, _) = &self.crew[worker as usize];
                if self.tally.ambush == Some(Place::Anywhere) {
                    thread::sleep(Duration::from_micros(u64::from(chance()) % 3_000));
                }
                process.kill()?;
                process.wait()?;
                self.tally.hands[worker as usize].killed_at = self.tally.ambush;
            }
            Report::Part { worker, batch, last, bytes } => {
                let (_, begun) = &mut self.crew[worker as usize];
                begun.extend_from_slice(&bytes);
                if last {
                    let encoded = mem::take(begun);
                    self.tally.merge(worker as usize, batch, postcard::from_bytes(&encoded)?);
                }
            }
            // It is on its way out: so its end is news at once, and not after the next look round.
            Report::Farewell { worker } => drop(self.crew[worker as usize].0.wait()?),
        }
        Ok(())
    }

    /// Notes who has ended, and says how many of them should not have.
    fn look_round(&mut self) -> io::Result<usize> {
        let mut died = 0;
        for (hand, (process, _)) in self.tally.hands.iter_mut().zip(&self.crew) {
            if hand.ended.is_none()
                && let Some(status) = process.exit_status()?
            {
                hand.ended = Some(status.to_string());
                self.living -= 1;
                died += usize::from(!status.success());
            }
        }
        Ok(died)
    }
}

impl<'a> Tally<'a> {
    fn new(batches: &'a Batches, ambush: Option<Place>) -> Result<Tally<'a>, RegionError> {
        Ok(Tally {
            batches,
            ambush,
            totals: Totals::new(batches.len())?,
            hands: Vec::new(),
            done: vec![false; batches.len()],
            words: WordMap::default(),
            unreadable: 0,
            bar: ProgressBar::hidden(),
        })
    }

    /// The batches that are not done.
    fn todo(&self) -> Vec<u32> {
        (0..self.batches.len() as u32).filter(|&batch| !self.done[batch as usize]).collect()
    }

    fn given_up(&self) -> Box<dyn Error> {
        let left = self.todo();
        let file = &self.batches.files(left[0])[0].path;
        format!("every worker died; {} batches are left, from {file:?} on", left.len()).into()
    }

    fn job(&self, batch: u32, first_round: bool) -> Job {
        let files = self.batches.files(batch);
        let chosen = first_round && batch as usize == self.batches.len() / 2;
        Job {
            batch,
            paths: files.iter().map(|file| file.path.as_os_str().as_bytes().to_vec()).collect(),
            ambush: self.ambush.filter(|_| chosen),
        }
    }

    /// On stderr, if that is a terminal. Drawn by this thread alone: a fork needs the process to have no other.
    fn show_progress(&mut self) -> Result<(), Box<dyn Error>> {
        let total = (0..self.batches.len() as u32).map(|batch| self.batches.bytes(batch)).sum();
        let style = ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes} {bytes_per_sec}")?;
        self.bar = ProgressBar::new(total).with_style(style);
        Ok(())
    }

    /// The batch is done.
    fn merge(&mut self, worker: usize, batch: u32, counted: Counted<'_>) {
        assert!(!mem::replace(&mut self.done[batch as usize], true), "batch {batch} was done twice");
        for (word, count) in counted.words {
            match self.words.get_mut(word) {
                Some(sum) => *sum += count,
                None => drop(self.words.insert(word.into(), count)),
            }
        }
        let files = self.batches.files(batch);
        for (index, why) in &counted.unreadable {
            self.unreadable += 1;
            self.bar.suspend(|| skipped(&files[*index as usize].path, why));
        }
        let hand = &mut self.hands[worker];
        hand.batches += 1;
        hand.sums.add(counted.sums);
        self.bar.inc(self.batches.bytes(batch));
    }

    fn report(&self, json: bool, time: Duration) -> Result<String, Box<dyn Error>> {
        let guard = self.totals.lock();
        let sum = self.totals.sum.get();
        drop(guard);
        // Two ways home, one truth: the sums went through shared memory, the words through the queue.
        let counted: u64 = self.words.values().sum();
        let mut came_home = Sums::default();
        self.hands.iter().for_each(|hand| came_home.add(hand.sums));
        if counted != sum.words || came_home != sum {
            return Err(format!("the counts disagree: {sum:?}, {came_home:?}, {counted} words").into());
        }
        let mut top: Vec<(&str, u64)> = self.words.iter().map(|(word, &count)| (&**word, count)).collect();
        top.sort_unstable_by_key(|&(word, count)| (Reverse(count), word));
        top.truncate(TOP);
        if json { Ok(self.as_json(sum, &top)) } else { self.as_text(sum, &top, time).map_err(Into::into) }
    }

    fn as_json(&self, sum: Sums, top: &[(&str, u64)]) -> String {
        let worker = |(number, hand): (usize, &Hand)| {
            serde_json::json!({
                "worker": number,
                "pid": hand.pid,
                "batches": hand.batches,
                "files": hand.sums.files,
                "bytes": hand.sums.bytes,
                "words": hand.sums.words,
                "ended": hand.how_it_ended(),
            })
        };
        let object = serde_json::json!({
            "files": sum.files,
            "bytes": sum.bytes,
            "words": sum.words,
            "distinct": self.words.len(),
            "top": top,
            "workers": self.hands.iter().enumerate().map(worker).collect::<Vec<_>>(),
        });
        format!("{object}\n")
    }

    fn as_text(&self, sum: Sums, top: &[(&str, u64)], time: Duration) -> Result<String, fmt::Error> {
        let mut text = String::new();
        for (word, count) in top {
            writeln!(text, "{count:>12} {word}")?;
        }
        let seconds = time.as_secs_f64();
        let speed = sum.bytes as f64 / 1e6 / seconds;
        writeln!(
            text,
            "\nfiles     {} ({} binary, {} unreadable skipped)",
            sum.files, sum.binary, self.unreadable
        )?;
        writeln!(text, "bytes     {}", sum.bytes)?;
        writeln!(text, "words     {}", sum.words)?;
        writeln!(text, "distinct  {}", self.words.len())?;
        writeln!(text, "time      {seconds:.3} s, {speed:.1} MB/s")?;
        writeln!(text, "\nworker      pid  batches    files        bytes        words  end")?;
        for (number, Hand { pid, batches, sums, .. }) in self.hands.iter().enumerate() {
            let how = self.hands[number].how_it_ended();
            let Sums { files, bytes, words, .. } = sums;
            writeln!(text, "{number:>6} {pid:>8} {batches:>8} {files:>8} {bytes:>12} {words:>12}  {how}")?;
        }
        Ok(text)
    }
}

impl Hand {
    fn new(pid: u32) -> Hand {
        Hand { pid, ended: None, killed_at: None, batches: 0, sums: Sums::default() }
    }

    fn how_it_ended(&self) -> String {
        let how = self.ended.clone().unwrap_or_else(|| "left with its pool".to_string());
        match self.killed_at {
            None => how,
            Some(Place::Counting) => how + " on purpose, half of its batch counted",
            Some(Place::Locked) => how + " on purpose, holding the lock",
            Some(Place::Parts) => how + " on purpose, a part of its result sent",
            Some(Place::Anywhere) => how + " on purpose, at some instant of its work",
        }
    }
}
