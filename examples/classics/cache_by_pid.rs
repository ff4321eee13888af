//! A cache keyed by process id: a child does not use what was opened by its parent.

use std::cell::RefCell;

use pshared::{Process, current_process};

use super::Outcome;

thread_local! {
    /// A connection, so to speak, and the process that opened it.
    static CACHE: RefCell<Option<(u32, String)>> = const { RefCell::new(None) };
}

fn connection() -> String {
    let pid = current_process().pid();
    CACHE.with_borrow_mut(|cache| {
        if cache.as_ref().is_none_or(|(owner, _)| *owner != pid) {
            *cache = Some((pid, format!("opened by {}", current_process().name())));
        }
        cache.as_ref().map(|(_, connection)| connection.clone()).unwrap_or_default()
    })
}

pub(crate) fn run() -> Outcome {
    println!("{}", connection());
    println!("{}", Process::spawn(connection)?.join()?);
    println!("{}", connection());
    Ok(())
}
