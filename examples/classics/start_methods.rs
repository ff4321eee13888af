//! The same function as a child by each start method.

use pshared::{Context, Queue, functions};

use super::Outcome;

functions! {
    static GREET: fn((Queue<String>, String)) -> () = greet;
}

fn greet((queue, whom): (Queue<String>, String)) {
    queue.send(format!("hello {whom}")).expect("somebody listens");
}

pub(crate) fn run() -> Outcome {
    let queue = Queue::new(4096)?;
    for (name, context) in
        [("fork", Context::fork()), ("spawn", Context::spawn()), ("fork server", Context::fork_server()?)]
    {
        context.start(&GREET, (queue.clone(), name.to_owned()))?.join()?;
        println!("{}", queue.recv()?);
    }
    Ok(())
}
