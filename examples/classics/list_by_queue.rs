//! A list comes home by a queue.

use pshared::{Process, Queue};

use super::Outcome;

pub(crate) fn run() -> Outcome {
    let queue: Queue<(u32, Option<String>, String)> = Queue::new(4096)?;
    let child = Process::spawn(|| queue.send((42, None, "hello".to_owned())).is_ok())?;
    println!("{:?}", queue.recv()?);
    child.join()?;
    Ok(())
}
