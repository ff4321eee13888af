//! `RwLock`: its operations, and the companies in which they are killed.
//!
//! A survivor that reads must find the pair of cells whole; one that writes goes through the board's section, changes
//! both cells, and must find no survivor reading. In the end the lock must be free, with all its slots. The victim
//! changes nothing, but dies as a writer or as none: where that is certain, the survivors must have been told, or not.

use std::{hint::black_box, mem::forget, sync::atomic::Ordering::SeqCst, time::Duration};

use pshared::{RwLock, RwLockError, RwLockWriteGuard};

use crate::{
    board::board,
    company::{Companion, Moment, Moment::*, Until::*, pause, run_to_end},
    scenario::{Damage, End, Enters, Kind, Play, Scenario},
    trace::stepped,
};

/// How many may read.
const READERS: usize = 6;

/// The cells: a pair, how many survivors read, what was torn.
const FIRST: usize = 0;
const SECOND: usize = 1;
const READING: usize = 2;
const TORN: usize = 3;

#[derive(Clone)]
struct Locks {
    lock: RwLock,
    scratch: RwLock,
}

impl Locks {
    fn new() -> Locks {
        let lock = || RwLock::with_readers(READERS).expect("a lock");
        Locks { lock: lock(), scratch: lock() }
    }
}

fn guard<G>(taken: Result<G, RwLockError<G>>) -> G {
    taken.unwrap_or_else(|error| error.into_guard().expect("the lock can be taken"))
}

fn warm(locks: &Locks) {
    for _ in 0..2 {
        drop(guard(locks.scratch.read()));
        drop(guard(locks.scratch.write()));
        drop(guard(locks.scratch.try_read()));
        drop(guard(locks.scratch.try_write()));
        drop(guard(locks.scratch.read_timeout(Duration::from_millis(1))));
        drop(guard(locks.scratch.write_timeout(Duration::from_millis(1))));
        drop(guard(guard(locks.scratch.upgradable_read()).upgrade()));
        drop(guard(locks.scratch.write()).downgrade());
    }
}

// What a victim does.

fn read(locks: &Locks) {
    warm(locks);
    forget(stepped(|| locks.lock.read()));
}

fn try_read(locks: &Locks) {
    warm(locks);
    forget(stepped(|| locks.lock.try_read()));
}

fn read_timeout(locks: &Locks) {
    warm(locks);
    forget(stepped(|| locks.lock.read_timeout(Duration::from_secs(60))));
}

fn read_unlock(locks: &Locks) {
    warm(locks);
    stepped(|| drop(black_box(guard(locks.lock.read()))));
}

fn unlock_read(locks: &Locks) {
    warm(locks);
    let reading = guard(locks.lock.read());
    stepped(|| drop(reading));
}

fn write(locks: &Locks) {
    warm(locks);
    forget(stepped(|| locks.lock.write()));
}

fn try_write(locks: &Locks) {
    warm(locks);
    forget(stepped(|| locks.lock.try_write()));
}

fn write_unlock(locks: &Locks) {
    warm(locks);
    stepped(|| drop(black_box(guard(locks.lock.write()))));
}

fn write_timed_out(locks: &Locks) {
    warm(locks);
    forget(stepped(|| locks.lock.write_timeout(Duration::from_millis(15))));
}

fn unlock_write(locks: &Locks) {
    warm(locks);
    let writing = guard(locks.lock.write());
    stepped(|| drop(writing));
}

fn heal_unlock(locks: &Locks) {
    warm(locks);
    let mut writing = guard(locks.lock.write());
    stepped(|| {
        writing.make_consistent();
        drop(writing);
    });
}

fn downgrade(locks: &Locks) {
    warm(locks);
    let writing = guard(locks.lock.write());
    forget(stepped(|| writing.downgrade()));
}

fn upgradable(locks: &Locks) {
    warm(locks);
    forget(stepped(|| locks.lock.upgradable_read()));
}

fn upgrade(locks: &Locks) {
    warm(locks);
    let mut upgradable = guard(locks.lock.upgradable_read());
    forget(stepped(|| upgradable.upgrade()));
    forget(upgradable);
}

fn take_back(locks: &Locks) {
    warm(locks);
    let mut upgradable = guard(locks.lock.upgradable_read());
    let writing = guard(upgradable.upgrade());
    stepped(|| drop(writing));
    forget(upgradable);
}

fn unlock_upgradable(locks: &Locks) {
    warm(locks);
    let upgradable = guard(locks.lock.upgradable_read());
    stepped(|| drop(upgradable));
}

// What survivors do.

/// Notes what a survivor is told.
fn heard<G>(taken: Result<G, RwLockError<G>>) -> G {
    if matches!(taken, Err(RwLockError::OwnerDied(_))) {
        board().hear_of_death();
    }
    guard(taken)
}

fn look() {
    let cells = &board().cells;
    if cells[FIRST].load(SeqCst) != cells[SECOND].load(SeqCst) {
        cells[TORN].fetch_add(1, SeqCst);
    }
}

fn pass_reading(lock: &RwLock) {
    let reading = heard(lock.read());
    board().cells[READING].fetch_add(1, SeqCst);
    look();
    board().cells[READING].fetch_sub(1, SeqCst);
    drop(reading);
}

fn change(mut writing: RwLockWriteGuard<'_>) {
    let cells = &board().cells;
    look();
    cells[TORN].fetch_add(cells[READING].load(SeqCst), SeqCst);
    cells[FIRST].fetch_add(1, SeqCst);
    board().section();
    cells[SECOND].fetch_add(1, SeqCst);
    writing.make_consistent();
    drop(writing);
    board().pass();
}

fn pass_writing(lock: &RwLock) {
    change(heard(lock.write()));
}

/// Waits in line, or for a reader, from `moment` on.
fn sleeper(locks: &Locks, moment: Moment, pass: fn(&RwLock)) -> Companion {
    let lock = locks.lock.clone();
    Companion::new("sleeper", [(moment, Asleep)], move || pass(&lock))
}

fn latecomer(locks: &Locks) -> Companion {
    let lock = locks.lock.clone();
    Companion::new("latecomer", [(Death, Nothing)], move || {
        pass_reading(&lock);
        pass_writing(&lock);
    })
}

/// Reads from before the victim comes, until `moment`.
fn reader(locks: &Locks, moment: Moment) -> Companion {
    let lock = locks.lock.clone();
    Companion::new("reader", [(Opening, Paused), (moment, Ended)], move || {
        let reading = heard(lock.read());
        pause();
        look();
        drop(reading);
    })
}

/// Writes from before the victim comes, until `moment`.
fn writer(locks: &Locks, moment: Moment) -> Companion {
    let lock = locks.lock.clone();
    Companion::new("writer", [(Opening, Paused), (moment, Ended)], move || {
        let writing = heard(lock.write());
        pause();
        change(writing);
    })
}

/// Writes, and dies with it when the victim is to be woken.
fn dying_writer(locks: &Locks) -> Companion {
    let lock = locks.lock.clone();
    Companion::new("dying writer", [(Opening, Paused), (Wake, Ended)], move || {
        forget(lock.write());
        pause();
    })
}

/// Writes by an upgrade, takes it back when the victim is to be woken, and stays upgradable until the death.
fn upgrader(locks: &Locks) -> Companion {
    let lock = locks.lock.clone();
    Companion::new("upgrader", [(Opening, Paused), (Wake, Paused), (Death, Ended)], move || {
        let mut upgradable = heard(lock.upgradable_read());
        let writing = heard(upgradable.upgrade());
        pause();
        change(writing);
        pause();
        drop(upgradable);
    })
}

/// Tries once while the victim stands at its kill point; what it gets it holds over the death.
fn barger(locks: &Locks, writes: bool) -> Companion {
    let lock = locks.lock.clone();
    Companion::new("barger", [(Opening, Paused), (Stop, Paused), (Death, Nothing)], move || {
        pause();
        if writes {
            let tried = lock.try_write();
            let got = (!matches!(tried, Err(RwLockError::WouldBlock))).then(|| heard(tried));
            pause();
            match got {
                Some(writing) => change(writing),
                None => pass_writing(&lock),
            }
        } else {
            let tried = lock.try_read();
            let got = (!matches!(tried, Err(RwLockError::WouldBlock))).then(|| heard(tried));
            pause();
            if let Some(reading) = got {
                look();
                drop(reading);
            }
            pass_reading(&lock);
        }
    })
}

// What happened before.

fn nothing(_: &Locks) {}

fn writer_died(locks: &Locks) {
    run_to_end(|| forget(locks.lock.write()));
}

/// A reader died, and a writer gave up waiting for one.
fn reader_died(locks: &Locks) {
    let reading = guard(locks.lock.read());
    run_to_end(|| assert!(matches!(locks.lock.write_timeout(Duration::ZERO), Err(RwLockError::TimedOut))));
    drop(reading);
    run_to_end(|| forget(locks.lock.read()));
}

/// Whether the survivors are told of a death.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    /// If the victim has done its operation, and else perhaps.
    Done,
    /// Always: a writer died before.
    Always,
    /// Never: it is no writer; or if it has done its operation, not.
    Not,
    /// If the victim has done its operation, they are not; else they may be.
    NotDone,
}

struct Row {
    operation: &'static str,
    company: &'static str,
    kind: Kind,
    enters: Enters,
    body: fn(&Locks),
    heir: Option<fn(&Locks)>,
    before: fn(&Locks),
    told: Told,
    companions: fn(&Locks) -> Vec<Companion>,
}

const fn row(
    operation: &'static str,
    body: fn(&Locks),
    told: Told,
    company: &'static str,
    companions: fn(&Locks) -> Vec<Companion>,
) -> Row {
    let (kind, enters, before) = (Kind::OneDeath, Enters::Awake, nothing);
    Row { operation, company, kind, enters, body, heir: None, before, told, companions }
}

impl Row {
    const fn woken(mut self) -> Row {
        self.enters = Enters::Woken;
        self
    }

    const fn after(mut self, before: fn(&Locks)) -> Row {
        self.before = before;
        self
    }

    const fn heir(mut self, kind: Kind, heir: fn(&Locks)) -> Row {
        self.kind = kind;
        self.heir = Some(heir);
        self
    }
}

/// A reader and a writer that wait in line from `Ready` on.
fn line(locks: &Locks) -> Vec<Companion> {
    vec![sleeper(locks, Ready, pass_reading), sleeper(locks, Ready, pass_writing)]
}

fn and(mut some: Vec<Companion>, more: Companion) -> Vec<Companion> {
    some.insert(0, more);
    some
}

fn reads_as_survivor(locks: &Locks) {
    warm(locks);
    stepped(|| pass_reading(&locks.lock));
}

fn writes_as_survivor(locks: &Locks) {
    warm(locks);
    stepped(|| pass_writing(&locks.lock));
}

use Told::{Always, Done, Not, NotDone};

static READS: &[Row] = &[
    row("RwLock::read", read, Not, "alone", |l| vec![latecomer(l)]),
    row("RwLock::read", read, Not, "beside a reader", |l| vec![reader(l, Death), latecomer(l)]),
    row("RwLock::read", read, Not, "writer that tries", |l| vec![barger(l, true)]),
    row("RwLock::read", read, Not, "a dead reader's slot, writer that tries", |l| vec![barger(l, true)])
        .after(reader_died),
    row("RwLock::read", read, Always, "a writer died before", |l| vec![latecomer(l)]).after(writer_died),
    row("RwLock::read", read, Not, "writer, later line", |l| {
        vec![writer(l, Death), sleeper(l, Stop, pass_reading), sleeper(l, Stop, pass_writing)]
    }),
    row("RwLock::try_read", try_read, Not, "alone", |l| vec![latecomer(l)]),
    row("RwLock::try_read", try_read, Not, "writer and line", |l| and(line(l), writer(l, Death))),
    row("RwLock::read_timeout", read_timeout, Not, "writer, line", |l| and(line(l), writer(l, Death))),
    row("RwLock::read, unlock", read_unlock, Not, "woken, line", |l| and(line(l), writer(l, Wake))).woken(),
    row("RwLock::read, unlock", read_unlock, Not, "woken, line, writer that tries", |l| {
        and(and(line(l), writer(l, Wake)), barger(l, true))
    })
    .woken(),
    row("RwLock::read, unlock", read_unlock, Always, "woken by a death, line", |l| {
        and(line(l), dying_writer(l))
    })
    .woken(),
    row("RwLock::read, unlock", read_unlock, Not, "woken by an upgrade taken back, line", |l| {
        and(line(l), upgrader(l))
    })
    .woken(),
    row("RwLock::unlock of a share", unlock_read, Not, "alone", |l| vec![latecomer(l)]),
    row("RwLock::unlock of a share", unlock_read, Not, "writer that tries", |l| vec![barger(l, true)]),
    row("RwLock::unlock of a share", unlock_read, Not, "writer asleep", |l| {
        vec![sleeper(l, Ready, pass_writing)]
    }),
    row("RwLock::unlock of a share", unlock_read, Not, "writer asleep, line", |l| {
        vec![
            sleeper(l, Ready, pass_writing),
            sleeper(l, Ready, pass_reading),
            sleeper(l, Ready, pass_writing),
        ]
    }),
    row(
        "RwLock::unlock of a share",
        unlock_read,
        Not,
        "beside a reader, writer asleep, reader that tries",
        |l| vec![reader(l, Death), sleeper(l, Ready, pass_writing), barger(l, false)],
    ),
    row("RwLock::unlock of a share", unlock_read, Not, "heir that writes, reader in line", |l| {
        vec![sleeper(l, Ready, pass_reading)]
    })
    .heir(Kind::TwoDeaths, write_unlock),
    row("RwLock::unlock of a share", unlock_read, Not, "stopped writer", |_| vec![])
        .heir(Kind::StoppedSleeper, writes_as_survivor),
];

static WRITES: &[Row] = &[
    row("RwLock::write", write, Done, "alone", |l| vec![latecomer(l)]),
    row("RwLock::write", write, Done, "reader that tries", |l| vec![barger(l, false)]),
    row("RwLock::write", write, Done, "writer that tries", |l| vec![barger(l, true)]),
    row("RwLock::write", write, Always, "a writer died before", |l| vec![latecomer(l)]).after(writer_died),
    row("RwLock::write", write, Done, "a dead reader's slot", |l| vec![latecomer(l)]).after(reader_died),
    row("RwLock::write", write, Not, "reader, later writer", |l| {
        vec![reader(l, Death), sleeper(l, Stop, pass_writing)]
    }),
    row("RwLock::write", write, Not, "writer, line", |l| and(line(l), writer(l, Death))),
    row("RwLock::try_write", try_write, Done, "alone", |l| vec![latecomer(l)]),
    row("RwLock::try_write", try_write, Not, "reader, reader that tries", |l| {
        vec![reader(l, Death), barger(l, false)]
    }),
    row("RwLock::write_timeout", write_timed_out, Not, "too late, reader, later reader", |l| {
        vec![reader(l, Death), latecomer(l)]
    }),
    row("RwLock::write, unlock", write_unlock, NotDone, "woken by a reader, line", |l| {
        and(line(l), reader(l, Wake))
    })
    .woken(),
    row("RwLock::write, unlock", write_unlock, NotDone, "woken by a reader, line, reader that tries", |l| {
        and(and(line(l), reader(l, Wake)), barger(l, false))
    })
    .woken(),
    row("RwLock::write, unlock", write_unlock, NotDone, "woken in line, line", |l| {
        and(line(l), writer(l, Wake))
    })
    .woken(),
    row("RwLock::write, unlock", write_unlock, Always, "woken by a death, line", |l| {
        and(line(l), dying_writer(l))
    })
    .woken(),
    row("RwLock::unlock", unlock_write, NotDone, "alone", |l| vec![latecomer(l)]),
    row("RwLock::unlock", unlock_write, NotDone, "reader that tries", |l| vec![barger(l, false)]),
    row("RwLock::unlock", unlock_write, NotDone, "line, writer that tries", |l| {
        and(line(l), barger(l, true))
    }),
    row("RwLock::unlock", unlock_write, NotDone, "line, reader that tries", |l| {
        and(line(l), barger(l, false))
    }),
    row("RwLock::unlock", unlock_write, Always, "a writer died before, line", line).after(writer_died),
    row("RwLock::heal, unlock", heal_unlock, NotDone, "a writer died before, line", line).after(writer_died),
    row("RwLock::unlock", unlock_write, NotDone, "heir that reads, line", line)
        .heir(Kind::TwoDeaths, read_unlock),
    row("RwLock::unlock", unlock_write, NotDone, "heir that writes, line", line)
        .heir(Kind::TwoDeaths, write_unlock),
    row("RwLock::unlock", unlock_write, NotDone, "stopped reader, writer in line", |l| {
        vec![sleeper(l, Mark, pass_writing)]
    })
    .heir(Kind::StoppedSleeper, reads_as_survivor),
];

static UPGRADES: &[Row] = &[
    row("RwLock::downgrade", downgrade, NotDone, "alone", |l| vec![latecomer(l)]),
    row("RwLock::downgrade", downgrade, NotDone, "line", line),
    row("RwLock::downgrade", downgrade, NotDone, "line, writer that tries", |l| {
        and(line(l), barger(l, true))
    }),
    row("RwLock::upgradable_read", upgradable, Not, "alone", |l| vec![latecomer(l)]),
    row("RwLock::upgradable_read", upgradable, Always, "a writer died before, reader that tries", |l| {
        vec![barger(l, false), latecomer(l)]
    })
    .after(writer_died),
    row("RwLock::upgradable_read", upgradable, Not, "woken, line", |l| and(line(l), writer(l, Wake))).woken(),
    row("RwLock::upgrade", upgrade, Done, "alone", |l| vec![latecomer(l)]),
    row("RwLock::upgrade", upgrade, Not, "reader, writer in line", |l| {
        vec![reader(l, Death), sleeper(l, Ready, pass_writing)]
    }),
    row("RwLock::upgrade", upgrade, Done, "reader that tries", |l| vec![barger(l, false)]),
    row("RwLock::upgrade taken back", take_back, NotDone, "line", line),
    row("RwLock::upgrade taken back", take_back, NotDone, "line, reader that tries", |l| {
        and(line(l), barger(l, false))
    }),
    row("RwLock::upgrade taken back", take_back, NotDone, "heir that reads, line", line)
        .heir(Kind::TwoDeaths, read_unlock),
    row("RwLock::upgrade taken back", take_back, NotDone, "stopped reader", |_| vec![])
        .heir(Kind::StoppedSleeper, reads_as_survivor),
    row("RwLock::unlock of an upgradable guard", unlock_upgradable, Not, "writer in line", |l| {
        vec![sleeper(l, Ready, pass_writing), latecomer(l)]
    }),
];

pub fn scenarios() -> Vec<Scenario> {
    [READS, WRITES, UPGRADES]
        .into_iter()
        .flatten()
        .map(|row| Scenario {
            operation: row.operation,
            company: row.company,
            kind: row.kind,
            play: Box::new(move || play(row)),
        })
        .collect()
}

fn play(row: &'static Row) -> Play {
    let locks = Locks::new();
    (row.before)(&locks);
    let (victim, heir) = (locks.clone(), locks.clone());
    Play {
        victim: Box::new(move || (row.body)(&victim)),
        enters: row.enters,
        heir: row.heir.map(|body| Box::new(move || body(&heir)) as _),
        companions: (row.companions)(&locks),
        verify: Box::new(move |end| verify(row, &locks.lock, end)),
    }
}

/// What is left when everybody has ended.
fn verify(row: &Row, lock: &RwLock, end: &End) -> Damage {
    let board = board();
    let left = lock.try_write();
    let tells = matches!(left, Err(RwLockError::OwnerDied(_)));
    let blocked = left.is_err() && !tells;
    drop(left);
    // Every slot is there.
    let shares = (0..READERS).map(|_| lock.try_read().map_err(RwLockError::into_guard));
    let missing = shares.collect::<Vec<_>>().iter().filter(|share| matches!(share, Err(None))).count();
    let was_told = tells || board.deaths() > 0;
    let must_be = match row.told {
        _ if row.kind == Kind::TwoDeaths => None,
        Told::Always => Some(true),
        Told::Done => end.finished.then_some(true),
        Told::NotDone => end.finished.then_some(false),
        Told::Not => Some(false),
    };
    Damage {
        wedged: u64::from(blocked) + missing as u64,
        torn: board.overlaps() + board.cells[TORN].load(SeqCst),
        lost: board.lost_passes() + u64::from(must_be.is_some_and(|must_be| must_be != was_told)),
        doubled: 0,
    }
}
