//! What tests of locks say again and again.

use std::{fs, mem, panic, thread, time::Duration};

use pshared::{Lock, LockError, LockGuard, Region};

use super::{Child, fork_child, page::Page, until};

/// The calling thread holds the lock from now on, whatever the lock has to say.
pub fn hold(lock: &Lock) {
    mem::forget(lock.lock().or_else(|error| error.into_guard().ok_or(())).expect("the lock"));
}

pub fn is_free(lock: &Lock) -> bool {
    lock.try_lock().is_ok()
}

pub fn owner_died<'a>(taken: Result<LockGuard<'a>, LockError<LockGuard<'a>>>) -> LockGuard<'a> {
    match taken {
        Err(LockError::OwnerDied(guard)) => guard,
        other => panic!("expected OwnerDied, not {other:?}"),
    }
}

pub fn poisoned<'a>(taken: Result<LockGuard<'a>, LockError<LockGuard<'a>>>) -> LockGuard<'a> {
    match taken {
        Err(LockError::Poisoned(guard)) => guard,
        other => panic!("expected Poisoned, not {other:?}"),
    }
}

/// Forks a child that runs `body` and then holds on until it is killed; returns when `body` is through.
pub fn fork_and_hold(body: impl FnOnce()) -> Child {
    let page = Page::new();
    let child = fork_child(|| {
        body();
        page.set(0, 1);
        sleep_for_ever();
    });
    until(|| page.get(0) == 1);
    child
}

pub fn sleep_for_ever() -> ! {
    loop {
        thread::sleep(Duration::from_secs(1000));
    }
}

/// Panics without a message on stderr.
pub fn panic_quietly() -> ! {
    panic::resume_unwind(Box::new(()))
}

/// How many mappings of this crate's memory this process has.
pub fn our_mappings() -> usize {
    let maps = fs::read_to_string("/proc/self/maps").expect("maps");
    maps.lines().filter(|line| line.contains("memfd:pshared")).count()
}

pub fn many_locks(count: usize) -> Vec<Lock> {
    let region = Region::anonymous(128 * (count + 1)).unwrap();
    (0..count).map(|_| Lock::new_in(&region).unwrap()).collect()
}
