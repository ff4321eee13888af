//! Name, parent and number, as both sides see them.

use pshared::{Process, current_process, parent_process};

use super::Outcome;

pub(crate) fn run() -> Outcome {
    let me = current_process();
    println!("{}: parent {:?}", me.name(), parent_process()?.map(|parent| parent.name().to_owned()));
    let child = Process::builder().name("bob").spawn(|| {
        let parent = parent_process().ok().flatten();
        let parent = parent.map(|parent| (parent.name().to_owned(), parent.pid()));
        (current_process().name().to_owned(), current_process().pid(), parent)
    })?;
    let (known_as, number) = (child.name().to_owned(), child.pid());
    let (name, pid, parent) = child.join()?;
    let (parent, parent_pid) = parent.ok_or("a child without a parent")?;
    println!("{name}: parent {parent}");
    println!("both agree: {}", name == known_as && pid == number && parent_pid == me.pid());
    Ok(())
}
