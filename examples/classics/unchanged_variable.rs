//! A variable that a child changes stays as it was in the parent.

use pshared::Process;

use super::Outcome;

pub(crate) fn run() -> Outcome {
    let mut list = vec![1, 2, 3];
    let child = Process::spawn(|| {
        list.push(4);
        list.clone()
    })?;
    println!("in the child {:?}", child.join()?);
    println!("in the parent {list:?}");
    Ok(())
}
