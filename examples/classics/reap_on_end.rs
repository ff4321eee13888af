//! Children are reaped when they end: what a handler of SIGCHLD is for, without a handler.

use pshared::{Process, Reaper};

use super::Outcome;

pub(crate) fn run() -> Outcome {
    let reaper = Reaper::new()?;
    for code in 1..=3 {
        let child: Process =
            Process::builder().name(format!("child {code}")).spawn(|| std::process::exit(code))?;
        drop(child);
    }
    let mut ended = Vec::new();
    while ended.len() < 3 {
        reaper.wait()?; // an event loop would poll the reaper's descriptor beside others
        ended.extend(reaper.reap()?.children);
    }
    ended.sort_by_key(|(child, _)| child.name().to_owned());
    ended.iter().for_each(|(child, status)| println!("{} {status}", child.name()));
    Ok(())
}
