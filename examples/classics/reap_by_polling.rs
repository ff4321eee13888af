//! Children are reaped by looking now and then.

use std::{thread, time::Duration};

use pshared::{Process, reap_now};

use crate::Outcome;

pub(crate) fn run() -> Outcome {
    let children: Vec<Process> = (0..5).map(|_| Process::spawn(|| ())).collect::<Result<_, _>>()?;
    let mut reaped = 0;
    while reaped < children.len() {
        thread::sleep(Duration::from_millis(2)); // some other work
        reaped += reap_now().len();
    }
    println!(
        "reaped {reaped}; all went well: {}",
        children.iter().all(|c| c.wait().is_ok_and(|s| s.success()))
    );
    Ok(())
}
