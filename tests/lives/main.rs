//! `cargo lives`: what the tests of processes show with a small count, with the full one.
//!
//! - *thief*: children of every fate beside a thread that calls waitpid(-1) all the time;
//! - *ignored*: the same in a process that ignores SIGCHLD;
//! - *trees*: trees of children, whose root, worker, or both are killed at a random moment;
//! - *objects*: one object of each kind, which all die with in hand, or in the middle of using it;
//! - *busy*: starts by the fork server from a program whose other threads hold std's streams, a lock and the allocator.
//!
//! `cargo lives [--count N] [--seed S] [NAME...]`; the count is 10,000 unless this says another.

#[path = "../support/mod.rs"]
mod support;

use std::{
    process::ExitCode,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use nix::libc;
use pshared::{Atomic, Context, Process, SpawnError, functions};
use support::{lives, random::Random, worn};

functions! {
    static DOUBLE: fn(u32) -> u32 = |number| 2 * number;
}

fn main() -> ExitCode {
    pshared::init();
    let (mut count, mut names, mut words) = (10_000, Vec::new(), std::env::args().skip(1));
    let mut seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_nanos() as u64);
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|number| number.parse::<u64>().ok()).expect("a number");
        match word.as_str() {
            "--count" => count = number() as u32,
            "--seed" => seed = number(),
            _ => names.push(word),
        }
    }
    println!("lives: {count} each, seed {seed}");
    let parts: [(&str, &dyn Fn() -> bool); 5] = [
        ("thief", &|| {
            let stolen = Atomic::new(0).unwrap();
            let well = in_a_child(|| stolen.set(lives::fates_beside_a_thief(count as i32)));
            print!("{} children were reaped by another thread; ", stolen.get());
            well
        }),
        ("ignored", &|| in_a_child(|| lives::fates_with_sigchld_ignored(count as i32))),
        ("trees", &|| trees(count, seed)),
        ("objects", &|| in_a_child(|| objects(count, seed))),
        ("busy", &|| in_a_child(|| busy(count))),
    ];
    let mut well = true;
    for (name, part) in parts {
        if names.is_empty() || names.iter().any(|asked| asked == name) {
            let begun = Instant::now();
            let is_well = part();
            let verdict = if is_well { "every one as it should be" } else { "FAILED" };
            println!("{name}: {count}, {verdict}, {:.1} s", begun.elapsed().as_secs_f32());
            well &= is_well;
        }
    }
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whether `body` comes to its end, in a process of its own.
fn in_a_child(body: impl FnOnce()) -> bool {
    Process::spawn(body).unwrap().join().inspect_err(|error| eprintln!("{error}")).is_ok()
}

fn trees(count: u32, seed: u64) -> bool {
    // SAFETY: a plain attribute of the process.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
    let felled = lives::fell_trees(count, &mut Random(seed | 1));
    println!("trees: {felled:?}");
    felled.zombies == 0 && felled.orphans == 0 && felled.descriptors == 0
}

fn objects(count: u32, seed: u64) {
    let worn = worn::wear(count, &mut Random(seed | 1));
    println!("{worn}");
    assert_eq!(worn.figures[0], worn.figures[1]);
}

fn busy(count: u32) {
    let server = Context::fork_server().unwrap();
    lives::beside_busy_threads(|| {
        for number in 0..count {
            assert_eq!(server.start(&DOUBLE, number).unwrap().join().unwrap(), 2 * number);
            if number % 100 == 0 {
                let refused = Context::fork().start(&DOUBLE, number);
                assert!(matches!(refused, Err(SpawnError::MultiThreaded { .. })), "{refused:?}");
            }
        }
    });
}
