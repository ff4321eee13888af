//! A parent that starts a child every so often, waits for none, and never has more than the last as a zombie.

use std::{fs, thread, time::Duration};

use pshared::{Process, reap_now};

use crate::Outcome;

fn zombies() -> usize {
    let children = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    let stats = children.split_ascii_whitespace().map(|pid| fs::read_to_string(format!("/proc/{pid}/stat")));
    stats.flatten().filter(|stat| stat.contains(") Z ")).count()
}

pub(crate) fn run() -> Outcome {
    let mut most = 0;
    for _ in 0..20 {
        drop(Process::spawn(|| ())?); // whoever has ended by now is reaped here
        thread::sleep(Duration::from_millis(5));
        most = most.max(zombies());
    }
    reap_now();
    println!("at most one zombie: {}, now: {}", most <= 1, zombies());
    Ok(())
}
