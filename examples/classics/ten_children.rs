//! Ten children are joined, and "over" is printed last.

use pshared::Process;

use super::Outcome;

pub(crate) fn run() -> Outcome {
    let children: Vec<Process> =
        (0..10).map(|n| Process::spawn(move || println!("child {n}"))).collect::<Result<_, _>>()?;
    for child in children {
        child.join()?;
    }
    println!("over");
    Ok(())
}
