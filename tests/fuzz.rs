//! The fuzzers' targets on stable: each replays its corpus, and some random inputs. `FUZZ_SEED` and `FUZZ_RUNS` choose
//! others: a seed that fails, or more of them.

#![allow(clippy::disallowed_types, reason = "whoever scribbles looks from outside the seam")]

mod support;
#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::{env, fs, path::Path, process::ExitCode};

use support::random::Random;

fn main() -> ExitCode {
    support::main(support::tests![
        array_ops,
        channel_ops,
        hostile_bytes,
        hostile_peer,
        joinable_ops,
        lock_ops,
        pipe_ops,
        queue_ops,
        rwlock_ops,
        semaphore_ops,
        signal_ops,
        every_target_is_replayed,
    ])
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|number| number.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

/// Runs a target with each input of its corpus, and with so many others.
fn replay(name: &str, runs: u64) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    // Not a part of the published package.
    for entry in fs::read_dir(corpus).into_iter().flatten().flatten() {
        let told = Told(format!("the input {:?} of its corpus", entry.file_name()));
        targets::run(name, &fs::read(entry.path()).unwrap());
        std::mem::forget(told);
    }
    let seed = number("FUZZ_SEED").unwrap_or(1);
    for seed in seed..seed + number("FUZZ_RUNS").unwrap_or(runs) {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let len = 1 << (4 + random.below(6));
        let input: Vec<u8> = (0..random.below(len)).map(|_| random.below(256) as u8).collect();
        let told = Told(format!("FUZZ_SEED={seed}"));
        targets::run(name, &input);
        std::mem::forget(told);
    }
}

/// Says what it was, if it fails.
struct Told(String);

impl Drop for Told {
    fn drop(&mut self) {
        eprintln!("with {}", self.0);
    }
}

fn array_ops() {
    replay("array_ops", 2_000);
}

fn channel_ops() {
    replay("channel_ops", 2_000);
}

fn hostile_bytes() {
    replay("hostile_bytes", 2_000);
}

fn hostile_peer() {
    replay("hostile_peer", 200);
}

fn joinable_ops() {
    replay("joinable_ops", 2_000);
}

fn lock_ops() {
    replay("lock_ops", 2_000);
}

fn pipe_ops() {
    replay("pipe_ops", 500);
}

fn queue_ops() {
    replay("queue_ops", 2_000);
}

fn rwlock_ops() {
    replay("rwlock_ops", 2_000);
}

fn semaphore_ops() {
    replay("semaphore_ops", 2_000);
}

fn signal_ops() {
    replay("signal_ops", 2_000);
}

fn every_target_is_replayed() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file!())).unwrap();
    for (name, _) in targets::TARGETS {
        assert!(text.contains(&format!("replay(\"{name}\", ")), "{name}");
    }
}
