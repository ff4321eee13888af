//! Ten processes print under one lock, piece by piece, and no line is mixed.

use std::io::{Write, stdout};

use pshared::{Lock, Process, scope};

use super::Outcome;

pub(crate) fn run() -> Outcome {
    let lock = Lock::new()?;
    scope(|s| {
        for number in 0..10 {
            let say = || {
                let _guard = lock.lock();
                for piece in ["hello ", "world ", &number.to_string(), "\n"] {
                    print!("{piece}");
                    let _ = stdout().flush();
                }
            };
            s.spawn_with(Process::builder(), say).map(drop)?;
        }
        Ok::<(), pshared::SpawnError>(())
    })??;
    Ok(())
}
