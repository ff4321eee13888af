//! A child puts a million bytes into a queue and is joined *before* anybody reads them.
//!
//! In Python this is the documented deadlock: the child cannot end before its feeder thread got rid of the bytes.

use pshared::{Process, Queue};

use super::Outcome;

pub(crate) fn run() -> Outcome {
    let queue: Queue<String> = Queue::new(2 << 20)?;
    let child = Process::spawn(|| queue.send("X".repeat(1_000_000)).is_ok())?;
    let sent = child.join()?;
    println!("joined, sent: {sent}, then {} bytes read", queue.try_recv()?.len());
    Ok(())
}
