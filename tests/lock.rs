//! What `Lock` promises, with really forked children.

mod support;

use std::{mem, process::ExitCode, time::Duration};

use pshared::{Lock, LockError};

fn main() -> ExitCode {
    support::main(support::tests![lock_reports_owner_died_when_its_holder_is_killed,])
}

fn lock_reports_owner_died_when_its_holder_is_killed() {
    let lock = Lock::new().unwrap();
    let ready = Lock::new().unwrap();
    let gate = ready.lock().unwrap();
    let holder = support::fork_child(|| {
        mem::forget(lock.lock().unwrap());
        let _ = ready.lock();
    });
    holder.until_asleep();
    assert!(matches!(lock.lock_timeout(Duration::from_millis(10)), Err(LockError::TimedOut)));
    holder.kill();
    match lock.lock() {
        Err(LockError::OwnerDied(mut guard)) => guard.make_consistent(),
        other => panic!("{other:?}"),
    }
    drop(lock.lock().unwrap());
    drop(gate);
}
