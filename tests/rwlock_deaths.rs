//! What `RwLock` promises when its users are killed.

mod support;

use std::{mem, process::ExitCode, thread, time::Duration};

use nix::sys::{
    signal::{Signal, kill, raise},
    wait::WaitStatus,
};
use pshared::{RwLock, RwLockError, RwLockWriteGuard};
use support::{Child, fork_child, locks::fork_and_hold, page::Page, until};

fn main() -> ExitCode {
    support::main(support::tests![
        a_killed_readers_share_comes_back_and_nobody_is_told,
        a_killed_writer_is_reported_until_a_writer_repairs,
        every_form_of_taking_reports_a_dead_writer,
        a_writer_that_inherits_and_dies_leaves_the_same_report,
        a_killed_writer_frees_all_who_wait,
        a_killed_reader_frees_the_writer_that_waits,
        a_killed_waiting_writer_lets_everybody_go_on,
        a_killed_waiting_reader_holds_nobody_up,
        a_killed_upgradable_reader_is_no_news,
        a_killed_upgrader_is_reported_once_it_wrote,
        a_killed_waiting_upgrader_lets_everybody_go_on,
        a_thread_that_ends_writing_is_a_dead_writer,
        a_reader_killed_as_the_writer_waits_for_several,
        a_woken_reader_that_is_killed_passes_the_line_on,
        the_pair_stays_whole_while_all_are_killed,
        ten_thousand_deaths_leave_it_as_it_was,
    ])
}

/// The calling thread reads from now on.
fn keep_reading(lock: &RwLock) {
    mem::forget(lock.read());
}

fn keep_writing(lock: &RwLock) {
    mem::forget(lock.write());
}

/// The guard of one who was told of a death.
fn told<G>(taken: Result<G, RwLockError<G>>) -> G {
    match taken {
        Err(RwLockError::OwnerDied(guard)) => guard,
        Err(other) => panic!("expected OwnerDied, not {other:?}"),
        Ok(_) => panic!("expected OwnerDied, not a guard"),
    }
}

fn heal(lock: &RwLock) {
    told(lock.try_write()).make_consistent();
    drop(lock.try_read().unwrap());
    drop(lock.try_write().unwrap());
}

fn a_killed_readers_share_comes_back_and_nobody_is_told() {
    let lock = RwLock::with_readers(2).unwrap();
    for _ in 0..10 {
        let both = [(); 2].map(|()| fork_and_hold(|| keep_reading(&lock)));
        assert!(matches!(lock.try_read(), Err(RwLockError::TooManyReaders { limit: 2 })));
        let [first, second] = both;
        first.kill();
        drop(lock.try_read().unwrap());
        assert!(matches!(lock.try_write(), Err(RwLockError::WouldBlock)));
        second.kill();
        drop((lock.try_read().unwrap(), lock.try_read().unwrap()));
        drop(lock.try_write().unwrap());
    }
}

fn a_killed_writer_is_reported_until_a_writer_repairs() {
    let lock = RwLock::new().unwrap();
    fork_and_hold(|| keep_writing(&lock)).kill();
    drop(told(lock.read()));
    let both = (told(lock.try_read()), told(lock.read()));
    drop(both);
    drop(told(lock.write()));
    let mut guard = told(lock.write());
    guard.make_consistent();
    // It says so when it leaves, and reads meanwhile.
    let reading = guard.downgrade();
    drop(lock.read().unwrap());
    drop(reading);
    drop(lock.write().unwrap());
}

fn every_form_of_taking_reports_a_dead_writer() {
    let lock = RwLock::new().unwrap();
    let long = Duration::from_secs(10);
    let reads: [fn(&RwLock) -> bool; 7] = [
        |lock| matches!(lock.read(), Err(RwLockError::OwnerDied(_))),
        |lock| matches!(lock.try_read(), Err(RwLockError::OwnerDied(_))),
        |lock| matches!(lock.read_timeout(Duration::ZERO), Err(RwLockError::OwnerDied(_))),
        |lock| matches!(lock.write(), Err(RwLockError::OwnerDied(_))),
        |lock| matches!(lock.try_write(), Err(RwLockError::OwnerDied(_))),
        |lock| matches!(lock.upgradable_read(), Err(RwLockError::OwnerDied(_))),
        |lock| matches!(lock.try_upgradable_read(), Err(RwLockError::OwnerDied(_))),
    ];
    for first in reads {
        fork_and_hold(|| keep_writing(&lock)).kill();
        assert!(first(&lock));
        assert!(reads.iter().all(|next| next(&lock)));
        let mut upgradable = told(lock.upgradable_read_timeout(long));
        told(upgradable.upgrade_timeout(long)).make_consistent();
        drop(upgradable);
        assert!(!reads.iter().any(|next| next(&lock)));
    }
}

fn a_writer_that_inherits_and_dies_leaves_the_same_report() {
    let lock = RwLock::new().unwrap();
    for _ in 0..5 {
        fork_and_hold(|| mem::forget(lock.write().or_else(|error| error.into_guard().ok_or(())))).kill();
    }
    heal(&lock);
}

fn a_killed_writer_frees_all_who_wait() {
    let lock = RwLock::new().unwrap();
    let holder = fork_and_hold(|| keep_writing(&lock));
    let waiters: Vec<_> = (0..6)
        .map(|who| {
            let lock = &lock;
            fork_child(move || match who % 3 {
                0 => drop(told(lock.read())),
                1 => drop(told(lock.write())),
                _ => drop(told(lock.upgradable_read())),
            })
        })
        .collect();
    waiters.iter().for_each(Child::until_asleep);
    holder.kill();
    waiters.into_iter().for_each(Child::join_ok);
    heal(&lock);
}

fn a_killed_reader_frees_the_writer_that_waits() {
    let lock = RwLock::new().unwrap();
    let reader = fork_and_hold(|| keep_reading(&lock));
    let writer = fork_child(|| drop(lock.write().unwrap()));
    writer.until_asleep();
    reader.kill();
    writer.join_ok();
    drop(lock.try_write().unwrap());
}

fn a_killed_waiting_writer_lets_everybody_go_on() {
    let lock = RwLock::new().unwrap();
    for _ in 0..20 {
        let reading = lock.read().unwrap();
        let writer = fork_child(|| drop(lock.write()));
        writer.until_asleep();
        let others: Vec<_> = (0..3).map(|_| fork_child(|| drop(lock.read().unwrap()))).collect();
        others.iter().for_each(Child::until_asleep);
        writer.kill();
        // It has changed nothing, so nobody is told; and readers go on though one reads.
        others.into_iter().for_each(Child::join_ok);
        drop(reading);
        drop(lock.write().unwrap());
    }
}

fn a_killed_waiting_reader_holds_nobody_up() {
    let lock = RwLock::new().unwrap();
    for place in 0..20 {
        let writing = lock.write().unwrap();
        let mut waiters: Vec<_> = (0..3)
            .map(|who| {
                let lock = &lock;
                fork_child(
                    move || if who == 2 { drop(lock.write().unwrap()) } else { drop(lock.read().unwrap()) },
                )
            })
            .collect();
        waiters.iter().for_each(Child::until_asleep);
        waiters.remove(place % 2).kill();
        drop(writing);
        waiters.into_iter().for_each(Child::join_ok);
    }
    drop(lock.try_write().unwrap());
}

fn a_killed_upgradable_reader_is_no_news() {
    let lock = RwLock::new().unwrap();
    let holder = fork_and_hold(|| mem::forget(lock.upgradable_read()));
    drop(lock.try_read().unwrap());
    assert!(matches!(lock.try_write(), Err(RwLockError::WouldBlock)));
    let writer = fork_child(|| drop(lock.write().unwrap()));
    writer.until_asleep();
    holder.kill();
    writer.join_ok();
    drop(lock.try_write().unwrap());
}

fn a_killed_upgrader_is_reported_once_it_wrote() {
    let lock = RwLock::new().unwrap();
    let hold = |lock: &RwLock| {
        let mut upgradable = lock.upgradable_read().unwrap();
        mem::forget(upgradable.upgrade());
        mem::forget(upgradable);
    };
    fork_and_hold(|| hold(&lock)).kill();
    heal(&lock);
    // It went back before it died.
    fork_and_hold(|| {
        let mut upgradable = lock.upgradable_read().unwrap();
        drop(upgradable.upgrade().unwrap());
        mem::forget(upgradable);
    })
    .kill();
    drop(lock.write().unwrap());
}

fn a_killed_waiting_upgrader_lets_everybody_go_on() {
    let lock = RwLock::new().unwrap();
    let reading = lock.read().unwrap();
    let upgrader = fork_child(|| {
        let mut upgradable = lock.upgradable_read().unwrap();
        drop(upgradable.upgrade());
    });
    upgrader.until_asleep();
    let others = [fork_child(|| drop(lock.read().unwrap())), fork_child(|| drop(lock.read().unwrap()))];
    others.iter().for_each(Child::until_asleep);
    upgrader.kill();
    others.into_iter().for_each(Child::join_ok);
    drop(reading);
    drop(lock.try_write().unwrap());
}

fn a_thread_that_ends_writing_is_a_dead_writer() {
    let lock = RwLock::new().unwrap();
    for _ in 0..100 {
        thread::scope(|scope| scope.spawn(|| keep_writing(&lock)).join()).unwrap();
        heal(&lock);
        thread::scope(|scope| scope.spawn(|| keep_reading(&lock)).join()).unwrap();
        drop(lock.try_write().unwrap());
    }
}

fn a_reader_killed_as_the_writer_waits_for_several() {
    let lock = RwLock::new().unwrap();
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let mut readers: Vec<_> = (0..3).map(|_| Some(fork_and_hold(|| keep_reading(&lock)))).collect();
        let writer = fork_child(|| drop(lock.write().unwrap()));
        writer.until_asleep();
        for (nth, reader) in order.into_iter().enumerate() {
            assert!(!writer.has_ended(), "{nth} of 3 were dead");
            readers[reader].take().unwrap().kill();
        }
        writer.join_ok();
    }
}

fn a_woken_reader_that_is_killed_passes_the_line_on() {
    let lock = RwLock::new().unwrap();
    for _ in 0..200 {
        let writing = lock.write().unwrap();
        let victim = fork_child(|| drop(lock.read()));
        victim.until_asleep();
        let others = [fork_child(|| drop(lock.read().unwrap())), fork_child(|| drop(lock.write().unwrap()))];
        others.iter().for_each(Child::until_asleep);
        drop(writing);
        kill(victim.pid(), Signal::SIGKILL).unwrap();
        others.into_iter().for_each(Child::join_ok);
        let _ = victim.join();
    }
    drop(lock.try_write().unwrap());
}

type Written<'a> = Result<RwLockWriteGuard<'a>, RwLockError<RwLockWriteGuard<'a>>>;

const DATA: usize = 0;
const CHECK: usize = 1;

/// Adds one to both.
fn write_whole(taken: Written<'_>, page: &Page) {
    let mut guard = match taken {
        Ok(guard) => guard,
        Err(RwLockError::OwnerDied(guard)) => {
            // The dead may have stood between the two.
            page.set(DATA, page.get(CHECK));
            guard
        }
        Err(other) => panic!("{other:?}"),
    };
    assert_eq!(page.get(DATA), page.get(CHECK));
    page.add_one_in_two_steps(DATA);
    page.add_one_in_two_steps(CHECK);
    guard.make_consistent();
}

fn the_pair_stays_whole_while_all_are_killed() {
    let (lock, page) = (RwLock::with_readers(16).unwrap(), Page::new());
    let stop = 2;
    let work = || {
        while page.get(stop) == 0 {
            for _ in 0..4 {
                match lock.read() {
                    Ok(_guard) => assert_eq!(page.get(DATA), page.get(CHECK)),
                    Err(RwLockError::OwnerDied(_)) => {}
                    Err(other) => panic!("{other:?}"),
                }
            }
            write_whole(lock.write(), &page);
            let (Ok(mut upgradable) | Err(RwLockError::OwnerDied(mut upgradable))) = lock.upgradable_read()
            else {
                panic!("an upgradable guard is waited for without limit");
            };
            write_whole(upgradable.upgrade(), &page);
        }
    };
    let steady: Vec<_> = (0..3).map(|_| fork_child(work)).collect();
    for round in 0..300 {
        let victim = fork_child(work);
        thread::sleep(Duration::from_micros(500 + 7 * round));
        victim.kill();
    }
    page.set(stop, 1);
    steady.into_iter().for_each(Child::join_ok);
    assert!(page.get(DATA) > 0);
    write_whole(lock.try_write(), &page);
    let all: Vec<_> = (0..16).map(|_| lock.try_read().unwrap()).collect();
    drop(all);
}

fn ten_thousand_deaths_leave_it_as_it_was() {
    let lock = RwLock::with_readers(2).unwrap();
    fork_child(|| keep_reading(&lock)).join_ok();
    drop((lock.read().unwrap(), lock.read().unwrap()));
    let fresh = format!("{lock:?}");
    let (descriptors, mapped) = (support::descriptors(), support::address_space());
    for round in 0..10_000 {
        let child = fork_child(|| {
            match round % 3 {
                0 => keep_writing(&lock),
                1 => keep_reading(&lock),
                _ => mem::forget(lock.upgradable_read()),
            }
            raise(Signal::SIGKILL).unwrap();
        });
        assert!(matches!(child.join(), WaitStatus::Signaled(_, Signal::SIGKILL, _)));
        if round % 3 == 0 {
            told(lock.try_write()).make_consistent();
        }
    }
    drop((lock.try_read().unwrap(), lock.try_read().unwrap()));
    drop(lock.try_write().unwrap());
    assert_eq!(support::descriptors(), descriptors);
    assert!(support::address_space() <= mapped + (1 << 20));
    until(|| format!("{lock:?}") == fresh);
}
