//! A process by a type of its own with a body to run, as Python's subclasses of `Process` are.

use pshared::{JoinError, Process, SpawnError};

use super::Outcome;

struct Greeter {
    whom: String,
}

impl Greeter {
    fn start(self) -> Result<Process<String>, SpawnError> {
        Process::builder().name(format!("greeter of {}", self.whom)).spawn(move || self.run())
    }

    /// The body: runs in the child.
    fn run(&self) -> String {
        format!("hello {}", self.whom)
    }
}

pub(crate) fn run() -> Outcome {
    let greeters = ["ann", "bob"].map(|whom| Greeter { whom: whom.to_owned() }.start());
    for greeter in greeters {
        let greeter = greeter?;
        let name = greeter.name().to_owned();
        let said: Result<String, JoinError> = greeter.join();
        println!("{name}: {}", said?);
    }
    Ok(())
}
