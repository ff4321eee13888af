//! A parent that starts a child every so often and waits for none: each start takes away the zombies of before.

use std::{fs, thread, time::Duration};

use pshared::{Process, active_children};

use super::Outcome;

/// The children that have ended and that nobody has asked about.
fn zombies() -> Vec<String> {
    let children = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    let is_zombie =
        |pid: &&str| fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "));
    children.split_ascii_whitespace().filter(is_zombie).map(str::to_owned).collect()
}

pub(crate) fn run() -> Outcome {
    let mut left = 0;
    for _ in 0..20 {
        let before = zombies();
        drop(Process::spawn(|| ())?);
        left += zombies().iter().filter(|pid| before.contains(pid)).count();
        thread::sleep(Duration::from_millis(2));
    }
    for child in active_children() {
        child.wait()?;
    }
    println!("zombies that a start left: {left}, now: {}", zombies().len());
    Ok(())
}
