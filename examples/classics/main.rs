//! The programs that every multiprocessing tutorial shows, each in a file of its own.
//!
//! `cargo run --example classics` lists them; `cargo run --example classics -- ten_children` runs one.

mod cache_by_pid;
mod empty_stdin;
mod list_by_queue;
mod million_bytes;
mod no_zombies;
mod one_lock;
mod outlives;
mod pool;
mod reap_by_polling;
mod reap_on_end;
mod shared_value;
mod start_methods;
mod ten_children;
mod unchanged_variable;
mod who_am_i;
mod worker_type;

use std::{env, error::Error, process::ExitCode};

/// What a classic comes to.
type Outcome = Result<(), Box<dyn Error>>;

/// A name, and what it runs.
type Classic = (&'static str, fn() -> Outcome);

const CLASSICS: [Classic; 16] = [
    ("cache_by_pid", cache_by_pid::run),
    ("empty_stdin", empty_stdin::run),
    ("list_by_queue", list_by_queue::run),
    ("million_bytes", million_bytes::run),
    ("no_zombies", no_zombies::run),
    ("one_lock", one_lock::run),
    ("outlives", outlives::run),
    ("pool", pool::run),
    ("reap_by_polling", reap_by_polling::run),
    ("reap_on_end", reap_on_end::run),
    ("shared_value", shared_value::run),
    ("start_methods", start_methods::run),
    ("ten_children", ten_children::run),
    ("unchanged_variable", unchanged_variable::run),
    ("who_am_i", who_am_i::run),
    ("worker_type", worker_type::run),
];

pub(crate) fn main() -> ExitCode {
    // For `start_methods`: a child that is begun anew goes no further.
    pshared::init();
    let asked = env::args().nth(1);
    let Some((_, run)) = CLASSICS.iter().find(|(name, _)| Some(*name) == asked.as_deref()) else {
        CLASSICS.iter().for_each(|(name, _)| println!("{name}"));
        return ExitCode::from(if asked.is_none() { 0 } else { 2 });
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
