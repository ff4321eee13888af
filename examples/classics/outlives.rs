//! A child that outlives its parent, by choice, and one that does not.

use std::{
    io::{self, Read, Write},
    process, thread,
    time::Duration,
};

use pshared::{Process, parent_process};

use super::Outcome;

pub(crate) fn run() -> Outcome {
    let (mut from_survivor, mut survivor) = io::pipe()?;
    let (mut from_other, other) = io::pipe()?;
    // The parent that ends is a child of ours, so that there is somebody to tell about it.
    let parent: Process = Process::spawn(move || {
        let by_choice = Process::builder().outlive_parent(true).spawn(move || {
            if let Ok(Some(parent)) = parent_process() {
                let _ = parent.wait();
            }
            let _ = survivor.write_all(b"the survivor saw its parent end");
        });
        let default = Process::spawn(move || {
            let _open = other;
            thread::sleep(Duration::from_secs(3_600));
        });
        // What is open here is closed by this end; none of it runs a destructor.
        process::exit(if by_choice.is_ok() && default.is_ok() { 0 } else { 1 })
    })?;
    println!("the parent {}", parent.wait()?);
    let mut said = String::new();
    from_survivor.read_to_string(&mut said)?;
    println!("{said}");
    // The end of the pipe is that of the last process that held it open.
    println!("the other said {} bytes and ended", from_other.read_to_end(&mut Vec::new())?);
    Ok(())
}
