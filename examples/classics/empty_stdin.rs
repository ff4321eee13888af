//! A child's standard input is at its end, whatever the parent's has to say.

use std::io;

use pshared::Process;

use super::Outcome;

pub(crate) fn run() -> Outcome {
    let read = Process::spawn(|| io::read_to_string(io::stdin()).map(|text| text.len()).unwrap_or(99))?;
    println!("the child read {} bytes", read.join()?);
    println!("the parent read {:?}", io::read_to_string(io::stdin())?);
    Ok(())
}
