//! Children are reaped by looking now and then.

use std::{thread, time::Duration};

use pshared::{Process, active_children};

use super::Outcome;

pub(crate) fn run() -> Outcome {
    let children: Vec<Process> = (0..5).map(|_| Process::spawn(|| ())).collect::<Result<_, _>>()?;
    // Whoever looks, reaps: so does each start, which may have taken some of the five already.
    while !active_children().is_empty() {
        thread::sleep(Duration::from_millis(2)); // some other work
    }
    println!(
        "all went well: {}",
        children.iter().all(|child| child.wait().is_ok_and(|status| status.success()))
    );
    Ok(())
}
