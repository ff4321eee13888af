//! `RLock` and `Once`: their operations, and the companies in which they are killed.
//!
//! A survivor takes the lock twice, heals it if it was told of a death, goes through the board's section, and gives
//! both takings back: so an heir at a wrong depth leaves the lock held, which is a wedge. For `Once` whoever comes
//! after the death must find it done, or do it.

use std::{hint::black_box, mem::forget};

use pshared::{Once, OnceValue, RLock};

use crate::{
    board::board,
    company::{Companion, Moment, Moment::*, Until::*, pause, run_to_end},
    scenario::{Damage, Enters, Kind, Play, Scenario},
    trace::stepped,
};

/// What a trial is about.
#[derive(Clone)]
struct Things {
    lock: RLock,
    scratch: RLock,
    once: Once,
    value: OnceValue<[u64; 3]>,
}

impl Things {
    fn new() -> Things {
        Things {
            lock: RLock::new().expect("a lock"),
            scratch: RLock::new().expect("a lock"),
            once: Once::new().expect("a once"),
            value: OnceValue::new().expect("a value"),
        }
    }

    fn warm(&self) {
        for _ in 0..2 {
            let _outer = self.scratch.lock();
            let _inner = self.scratch.lock();
        }
        black_box((self.once.is_completed(), self.value.get()));
    }
}

/// Takes the lock, whatever it says, and heals it.
fn take(lock: &RLock) -> pshared::RLockGuard<'_> {
    lock.lock().unwrap_or_else(|error| {
        board().hear_of_death();
        let mut guard = error.into_guard().expect("the lock can be taken");
        guard.make_consistent();
        guard
    })
}

fn pass(lock: &RLock) {
    let outer = take(lock);
    let inner = take(lock);
    drop(outer);
    board().section();
    drop(inner);
    board().pass();
}

fn lock_twice(things: &Things) {
    things.warm();
    stepped(|| {
        forget(things.lock.lock());
        forget(things.lock.lock());
    });
}

fn unlock_twice(things: &Things) {
    things.warm();
    let (outer, inner) = (things.lock.lock(), things.lock.lock());
    stepped(|| {
        drop(inner);
        drop(outer);
    });
}

fn both(things: &Things) {
    things.warm();
    stepped(|| {
        let (outer, inner) = (take(&things.lock), take(&things.lock));
        drop(outer);
        drop(inner);
    });
}

fn call_once(things: &Things) {
    things.warm();
    stepped(|| things.once.call_once(|| done(1)).expect("it can be done"));
}

fn make(things: &Things) {
    things.warm();
    stepped(|| things.value.get_or_init(|| [7; 3]).expect("it can be made"));
}

fn set(things: &Things) {
    things.warm();
    stepped(|| things.value.set([7; 3]).is_ok());
}

/// The work of a `Once`: it leaves a mark when it is whole.
fn done(by: u64) {
    board().cells[0].store(0, std::sync::atomic::Ordering::SeqCst);
    board().cells[0].store(by, std::sync::atomic::Ordering::SeqCst);
}

/// Whoever comes: it must be done afterwards, and the value whole.
fn come(things: &Things) {
    things.once.call_once(|| done(2)).expect("it can be done");
    let value = things.value.get_or_init(|| [9; 3]).expect("it can be made");
    if board().cells[0].load(std::sync::atomic::Ordering::SeqCst) == 0 || (value != [7; 3] && value != [9; 3])
    {
        board().cells[1].fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }
}

/// Sleeps on the lock, or comes to it, from `moment` on.
fn passer(things: &Things, moment: Moment, asleep: bool) -> Companion {
    let lock = things.lock.clone();
    let until = if asleep { Asleep } else { Nothing };
    Companion::new("passer", [(moment, until)], move || pass(&lock))
}

fn holder(things: &Things, moment: Moment) -> Companion {
    let lock = things.lock.clone();
    Companion::new("holder", [(Opening, Paused), (moment, Ended)], move || {
        let (_outer, _inner) = (take(&lock), take(&lock));
        pause();
    })
}

fn comer(things: &Things, moment: Moment, until: crate::company::Until) -> Companion {
    let things = things.clone();
    Companion::new("comer", [(moment, until)], move || come(&things))
}

/// Somebody is at it when the victim comes, and done when the victim is to be woken.
fn busy(things: &Things, moment: Moment) -> Companion {
    let things = things.clone();
    Companion::new("busy", [(Opening, Paused), (moment, Ended)], move || {
        let slow = || {
            pause();
            done(3);
        };
        things.once.call_once(slow).expect("it can be done");
    })
}

struct Row {
    operation: &'static str,
    company: &'static str,
    enters: Enters,
    before: fn(&Things),
    body: fn(&Things),
    companions: fn(&Things) -> Vec<Companion>,
}

const fn row(
    operation: &'static str,
    company: &'static str,
    body: fn(&Things),
    companions: fn(&Things) -> Vec<Companion>,
) -> Row {
    Row { operation, company, enters: Enters::Awake, before: |_| (), body, companions }
}

fn owner_died(things: &Things) {
    run_to_end(|| {
        for _ in 0..3 {
            forget(things.lock.lock());
        }
    });
}

const LOCK: &str = "RLock::lock twice";
const UNLOCK: &str = "RLock: give both back";

static ROWS: &[Row] = &[
    row(LOCK, "alone", lock_twice, |t| vec![passer(t, Death, false)]),
    row(LOCK, "later sleeper", lock_twice, |t| vec![passer(t, Stop, false)]),
    Row {
        before: owner_died,
        ..row(LOCK, "owner died before", lock_twice, |t| vec![passer(t, Death, false)])
    },
    row(LOCK, "holder and sleeper", lock_twice, |t| vec![holder(t, Death), passer(t, Ready, true)]),
    Row {
        enters: Enters::Woken,
        ..row("RLock::lock twice, free", "woken, sleeper", both, |t| {
            vec![holder(t, Wake), passer(t, Ready, true)]
        })
    },
    row(UNLOCK, "alone", unlock_twice, |t| vec![passer(t, Death, false)]),
    row(UNLOCK, "sleeper", unlock_twice, |t| vec![passer(t, Ready, true)]),
    row(UNLOCK, "two sleepers", unlock_twice, |t| vec![passer(t, Ready, true), passer(t, Ready, true)]),
    Row {
        before: owner_died,
        ..row(UNLOCK, "owner died before, sleeper", unlock_twice, |t| vec![passer(t, Ready, true)])
    },
    row("Once::call_once", "alone", call_once, |t| vec![comer(t, Death, Nothing)]),
    row("Once::call_once", "another comes", call_once, |t| vec![comer(t, Stop, Nothing)]),
    row("Once::call_once", "another is at it", call_once, |t| vec![busy(t, Death), comer(t, Stop, Nothing)]),
    Row {
        enters: Enters::Woken,
        ..row("Once::call_once", "woken, sleeper", call_once, |t| {
            vec![busy(t, Wake), comer(t, Ready, Asleep)]
        })
    },
    row("OnceValue::get_or_init", "alone", make, |t| vec![comer(t, Death, Nothing)]),
    row("OnceValue::get_or_init", "another comes", make, |t| vec![comer(t, Stop, Nothing)]),
    row("OnceValue::set", "alone", set, |t| vec![comer(t, Death, Nothing)]),
    row("OnceValue::set", "another comes", set, |t| vec![comer(t, Stop, Nothing)]),
];

pub fn scenarios() -> Vec<Scenario> {
    ROWS.iter()
        .map(|row| Scenario {
            operation: row.operation,
            company: row.company,
            kind: Kind::OneDeath,
            play: Box::new(move || play(row)),
        })
        .collect()
}

fn play(row: &'static Row) -> Play {
    let things = Things::new();
    (row.before)(&things);
    let companions = (row.companions)(&things);
    let victim = things.clone();
    Play {
        victim: Box::new(move || (row.body)(&victim)),
        enters: row.enters,
        heir: None,
        companions,
        verify: Box::new(move |_| {
            // Every survivor has healed it and given all back.
            let stuck = things.lock.try_lock().is_err();
            let wrong = board().cells[1].load(std::sync::atomic::Ordering::SeqCst);
            Damage {
                wedged: u64::from(stuck) + u64::from(things.once.try_call_once(|| ()).is_err()),
                torn: board().overlaps() + wrong,
                lost: board().lost_passes(),
                doubled: 0,
            }
        }),
    }
}
