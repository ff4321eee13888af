//! `Semaphore`: its operations, and the companies in which they are killed.
//!
//! All semaphores here are bounded, so what comes back twice is refused and seen. After the death a feeder gives back
//! what the victim may not have given; it is refused, and then wakes nobody, if the victim has. What is free in the end
//! is known but for the plain permit of a victim that was killed in the middle of its operation.

use std::{mem::forget, ops::RangeInclusive, sync::atomic::Ordering::SeqCst, time::Duration};

use pshared::BoundedSemaphore;

use crate::{
    board::board,
    company::{Companion, LIMIT, Moment, Moment::*, Process, Until::*, pause},
    scenario::{Damage, End, Enters, Kind, Play, Scenario},
    trace::stepped,
};

/// What a trial is about.
#[derive(Clone)]
struct Room {
    semaphore: BoundedSemaphore,
    scratch: BoundedSemaphore,
}

fn warm(room: &Room) {
    for _ in 0..2 {
        drop(room.scratch.permit());
        drop(room.scratch.try_permit());
        room.scratch.acquire().expect("a permit");
        room.scratch.release().expect("room for it");
        let _ = room.scratch.acquire_many_timeout(2, Duration::from_micros(10));
    }
}

fn acquire(room: &Room) {
    warm(room);
    let _ = stepped(|| room.semaphore.acquire());
}

fn acquire_both(room: &Room) {
    warm(room);
    let _ = stepped(|| room.semaphore.acquire_many(2));
}

fn try_acquire(room: &Room) {
    warm(room);
    let _ = stepped(|| room.semaphore.try_acquire());
}

fn acquire_timeout(room: &Room) {
    warm(room);
    let _ = stepped(|| room.semaphore.acquire_timeout(Duration::from_secs(60)));
}

fn release_both(room: &Room) {
    warm(room);
    let _ = stepped(|| room.semaphore.release_many(2));
}

fn permit(room: &Room) {
    warm(room);
    forget(stepped(|| room.semaphore.permit()));
}

/// No warming: the thread registers itself on the way.
fn permit_first(room: &Room) {
    forget(stepped(|| room.semaphore.permit()));
}

fn try_permit(room: &Room) {
    warm(room);
    forget(stepped(|| room.semaphore.try_permit()));
}

fn permit_timeout(room: &Room) {
    warm(room);
    forget(stepped(|| room.semaphore.permit_timeout(Duration::from_secs(60))));
}

fn permit_and_drop(room: &Room) {
    warm(room);
    stepped(|| drop(room.semaphore.permit()));
}

fn drop_permit(room: &Room) {
    warm(room);
    let permit = room.semaphore.permit();
    stepped(|| drop(permit));
}

/// The newer of two goes first.
fn drop_of_two(room: &Room) {
    warm(room);
    let older = room.semaphore.permit();
    let newer = room.semaphore.permit();
    stepped(|| drop(newer));
    drop(older);
}

fn available_permits(room: &Room) {
    warm(room);
    stepped(|| room.semaphore.available_permits());
}

/// What stands before the victim comes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    /// The head of the line was killed asleep: its bit is there.
    DeadSleeper,
    /// A guard's holder was killed, and nobody has looked since.
    DeadHolder,
}

/// What a companion waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wants {
    /// A plain permit, which it keeps.
    One,
    /// Two of them.
    Both,
    /// A guard, which it drops.
    Guard,
}

/// One that waits, from which moment on.
type Sleeper = (Moment, Wants);

/// When the plain permits that were taken in the beginning are given back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fed {
    /// After the death: if they are not back by then.
    AtDeath,
    /// When the victim is to be woken.
    AtWake,
    /// Never.
    Never,
}

/// A guard of a companion's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    No,
    /// Dropped when the victim is to be woken.
    DroppedAtWake,
    /// Its process ends with it when the victim is to be woken.
    EndedAtWake,
    /// Dropped after the victim's death.
    DroppedAtDeath,
}

struct Row {
    operation: &'static str,
    company: &'static str,
    kind: Kind,
    body: fn(&Room),
    permits: usize,
    /// Plain permits taken in the beginning.
    taken: usize,
    before: Before,
    held: Held,
    enters: Enters,
    heir: Option<fn(&Room)>,
    sleepers: &'static [Sleeper],
    fed: Fed,
    /// The victim gives back as many as were taken, and so may the feeder, if sleepers have made room for both.
    gives: bool,
    /// How many plain permits the victim and its heir may have taken with them.
    gone: fn(&End) -> RangeInclusive<usize>,
}

fn none(_: &End) -> RangeInclusive<usize> {
    0..=0
}

fn one(end: &End) -> RangeInclusive<usize> {
    usize::from(end.finished)..=1
}

fn both(end: &End) -> RangeInclusive<usize> {
    2 * usize::from(end.finished)..=2
}

fn perhaps_one(_: &End) -> RangeInclusive<usize> {
    0..=1
}

/// Two permits, none of them there.
const fn plain(operation: &'static str, company: &'static str, body: fn(&Room)) -> Row {
    Row {
        operation,
        company,
        kind: Kind::OneDeath,
        body,
        permits: 2,
        taken: 2,
        before: Before::Nothing,
        held: Held::No,
        enters: Enters::Awake,
        heir: None,
        sleepers: &[],
        fed: Fed::AtDeath,
        gives: false,
        gone: one,
    }
}

const fn release(company: &'static str) -> Row {
    Row { gives: true, gone: none, ..plain("Semaphore::release_many", company, release_both) }
}

/// One permit, which is there.
const fn guard(operation: &'static str, company: &'static str, body: fn(&Room)) -> Row {
    Row { permits: 1, taken: 0, fed: Fed::Never, gone: none, ..plain(operation, company, body) }
}

/// Woken by what happens to a companion's guard.
const fn woken(operation: &'static str, company: &'static str, body: fn(&Room), held: Held) -> Row {
    Row { enters: Enters::Woken, held, ..guard(operation, company, body) }
}

const PERMIT: &str = "Semaphore::permit";
const DROP: &str = "drop of a permit";
const ACQUIRE: &str = "Semaphore::acquire";
const TRY: &str = "Semaphore::try_acquire";

static ROWS: &[Row] = &[
    release("alone"),
    Row { taken: 0, fed: Fed::Never, ..release("too many") },
    Row { before: Before::DeadSleeper, ..release("a dead sleeper's bit") },
    Row { sleepers: &[(Ready, Wants::One)], ..release("sleeper") },
    Row { sleepers: &[(Ready, Wants::Both)], ..release("sleeper who wants both") },
    Row { sleepers: &[(Ready, Wants::Guard), (Ready, Wants::One)], ..release("two in line") },
    Row { taken: 0, fed: Fed::Never, ..plain(ACQUIRE, "there are some", acquire) },
    Row { taken: 1, before: Before::DeadSleeper, ..plain(ACQUIRE, "a dead sleeper's bit", acquire) },
    Row { taken: 1, before: Before::DeadHolder, fed: Fed::Never, ..plain(ACQUIRE, "a dead holder", acquire) },
    plain(ACQUIRE, "first in line", acquire),
    Row { sleepers: &[(Stop, Wants::One)], ..plain(ACQUIRE, "one comes behind", acquire) },
    Row { sleepers: &[(Ready, Wants::One)], ..plain(ACQUIRE, "second in line", acquire) },
    Row {
        enters: Enters::Woken,
        fed: Fed::AtWake,
        sleepers: &[(Ready, Wants::One)],
        ..plain(ACQUIRE, "woken, one behind", acquire)
    },
    Row {
        enters: Enters::Woken,
        fed: Fed::AtWake,
        sleepers: &[(Opening, Wants::Guard)],
        ..plain(ACQUIRE, "woken as second in line", acquire)
    },
    Row { gone: one, ..woken(ACQUIRE, "woken by a drop", acquire, Held::DroppedAtWake) },
    Row { gone: one, ..woken(ACQUIRE, "woken by a death", acquire, Held::EndedAtWake) },
    Row {
        taken: 0,
        fed: Fed::Never,
        gone: both,
        ..plain("Semaphore::acquire_many", "both there", acquire_both)
    },
    Row {
        enters: Enters::Woken,
        fed: Fed::AtWake,
        gone: both,
        ..plain("Semaphore::acquire_many", "woken", acquire_both)
    },
    Row {
        sleepers: &[(Stop, Wants::One)],
        ..plain("Semaphore::acquire_timeout", "one behind", acquire_timeout)
    },
    Row { taken: 0, fed: Fed::Never, ..plain(TRY, "there are some", try_acquire) },
    Row { gone: none, ..plain(TRY, "none", try_acquire) },
    Row { taken: 1, before: Before::DeadSleeper, ..plain(TRY, "a dead sleeper's bit", try_acquire) },
    Row { taken: 1, before: Before::DeadHolder, fed: Fed::Never, ..plain(TRY, "a dead holder", try_acquire) },
    Row { taken: 1, gone: none, sleepers: &[(Ready, Wants::Both)], ..plain(TRY, "promised", try_acquire) },
    guard(PERMIT, "alone", permit),
    guard(PERMIT, "alone, for the first time", permit_first),
    Row { before: Before::DeadHolder, ..guard(PERMIT, "a dead holder", permit) },
    Row { before: Before::DeadSleeper, ..guard(PERMIT, "a dead sleeper's bit", permit) },
    Row { sleepers: &[(Stop, Wants::Guard)], ..guard(PERMIT, "one comes behind", permit) },
    Row {
        sleepers: &[(Stop, Wants::One), (Stop, Wants::Guard)],
        permits: 2,
        ..guard(PERMIT, "two come behind", permit)
    },
    Row {
        held: Held::DroppedAtDeath,
        sleepers: &[(Stop, Wants::Guard)],
        ..guard(PERMIT, "first in line, one comes behind", permit)
    },
    Row {
        held: Held::DroppedAtDeath,
        sleepers: &[(Ready, Wants::Guard)],
        ..guard(PERMIT, "second in line", permit)
    },
    Row {
        sleepers: &[(Ready, Wants::Guard)],
        ..woken(PERMIT, "woken by a drop, one behind", permit, Held::DroppedAtWake)
    },
    Row {
        sleepers: &[(Ready, Wants::Guard)],
        ..woken(PERMIT, "woken by a death, one behind", permit, Held::EndedAtWake)
    },
    Row {
        enters: Enters::Woken,
        fed: Fed::AtWake,
        taken: 1,
        sleepers: &[(Ready, Wants::Guard)],
        ..guard(PERMIT, "woken by a release, one behind", permit)
    },
    guard("Semaphore::try_permit", "alone", try_permit),
    Row { before: Before::DeadHolder, ..guard("Semaphore::try_permit", "a dead holder", try_permit) },
    Row { before: Before::DeadSleeper, ..guard("Semaphore::try_permit", "a dead sleeper's bit", try_permit) },
    Row {
        held: Held::DroppedAtDeath,
        sleepers: &[(Stop, Wants::Guard)],
        ..guard("Semaphore::permit_timeout", "first in line, one behind", permit_timeout)
    },
    guard("Semaphore::permit, drop", "alone", permit_and_drop),
    Row {
        sleepers: &[(Stop, Wants::Guard)],
        ..guard("Semaphore::permit, drop", "one behind", permit_and_drop)
    },
    guard(DROP, "alone", drop_permit),
    Row { permits: 2, ..guard(DROP, "another held", drop_of_two) },
    Row { permits: 2, before: Before::DeadHolder, ..guard(DROP, "a dead holder", drop_permit) },
    Row { sleepers: &[(Ready, Wants::One)], ..guard(DROP, "sleeper", drop_permit) },
    Row { sleepers: &[(Ready, Wants::Guard)], ..guard(DROP, "sleeper for a guard", drop_permit) },
    Row {
        sleepers: &[(Ready, Wants::Guard), (Ready, Wants::One)],
        ..guard(DROP, "two in line", drop_permit)
    },
    Row {
        permits: 2,
        sleepers: &[(Ready, Wants::Both)],
        ..guard(DROP, "another held, sleeper who wants both", drop_of_two)
    },
    Row {
        before: Before::DeadHolder,
        sleepers: &[(Stop, Wants::Guard)],
        ..guard("Semaphore::available_permits", "a dead holder", available_permits)
    },
    Row {
        kind: Kind::TwoDeaths,
        heir: Some(acquire),
        sleepers: &[(Ready, Wants::One)],
        gone: perhaps_one,
        ..release("heir and sleeper")
    },
    Row {
        kind: Kind::TwoDeaths,
        heir: Some(permit),
        sleepers: &[(Ready, Wants::Guard)],
        ..guard(DROP, "heir and sleeper", drop_permit)
    },
    Row {
        kind: Kind::TwoDeaths,
        heir: Some(permit_and_drop),
        sleepers: &[(Ready, Wants::One)],
        ..guard(PERMIT, "heir and sleeper", permit_and_drop_held)
    },
    Row {
        kind: Kind::StoppedSleeper,
        heir: Some(acquire),
        gone: one_of_the_heir,
        ..release("stopped sleeper")
    },
    Row {
        kind: Kind::StoppedSleeper,
        heir: Some(acquire),
        before: Before::DeadSleeper,
        gone: one_of_the_heir,
        ..release("a dead sleeper's bit, stopped sleeper")
    },
    Row {
        kind: Kind::StoppedSleeper,
        heir: Some(permit_and_drop),
        ..guard(DROP, "stopped sleeper", drop_permit)
    },
    Row {
        kind: Kind::StoppedSleeper,
        heir: Some(permit_and_drop),
        ..guard(PERMIT, "stopped sleeper", permit)
    },
];

/// A stopped sleeper comes to its end, and keeps what it has.
fn one_of_the_heir(_: &End) -> RangeInclusive<usize> {
    1..=1
}

/// Holds from before the mark, so that its heir sleeps; what is stepped is its dropping and taking again.
fn permit_and_drop_held(room: &Room) {
    warm(room);
    let held = room.semaphore.permit();
    stepped(|| {
        drop(held);
        forget(room.semaphore.permit());
    });
}

pub fn scenarios() -> Vec<Scenario> {
    ROWS.iter()
        .map(|row| Scenario {
            operation: row.operation,
            company: row.company,
            kind: row.kind,
            play: Box::new(move || play(row)),
        })
        .collect()
}

fn play(row: &'static Row) -> Play {
    let semaphore = || BoundedSemaphore::new(row.permits).expect("a semaphore");
    let room = Room { semaphore: semaphore(), scratch: BoundedSemaphore::new(1).expect("a semaphore") };
    room.semaphore.acquire_many(row.taken).expect("as many as that");
    match row.before {
        Before::Nothing => {}
        Before::DeadSleeper => killed_asleep(&room),
        Before::DeadHolder => {
            let semaphore = room.semaphore.clone();
            crate::company::run_to_end(move || forget(semaphore.permit()));
        }
    }
    let victim = {
        let room = room.clone();
        Box::new(move || (row.body)(&room))
    };
    let heir = row.heir.map(|body| {
        let room = room.clone();
        Box::new(move || body(&room)) as _
    });
    let mut companions: Vec<Companion> = holder(row, &room).into_iter().collect();
    companions.extend(row.sleepers.iter().map(|&sleeper| waiting(sleeper, &room)));
    let moment = match row.fed {
        Fed::AtDeath => Some(Death),
        Fed::AtWake => Some(Wake),
        Fed::Never => None,
    };
    companions.extend(moment.map(|moment| {
        let semaphore = room.semaphore.clone();
        Companion::new("feeder", [(Opening, Paused), (moment, Nothing)], move || {
            pause();
            let _ = semaphore.release_many(row.taken);
        })
    }));
    let verify = move |end: &End| verify(row, &room, end);
    Play { victim, enters: row.enters, heir, companions, verify: Box::new(verify) }
}

/// The head of the line, killed asleep.
fn killed_asleep(room: &Room) {
    let semaphore = room.semaphore.clone();
    // It cannot wait for more than there can be: so the permits are away for as long as that takes.
    let all = semaphore.available_permits();
    room.semaphore.acquire_many(all).expect("all");
    let mut sleeper = Process::fork(move || semaphore.acquire().expect("it is killed before"));
    assert!(sleeper.until_asleep(LIMIT), "a sleeper sleeps");
    sleeper.kill();
    room.semaphore.release_many(all).expect("all of them");
}

fn holder(row: &Row, room: &Room) -> Option<Companion> {
    let (moment, drops) = match row.held {
        Held::No => return None,
        Held::DroppedAtWake => (Wake, true),
        Held::EndedAtWake => (Wake, false),
        Held::DroppedAtDeath => (Death, true),
    };
    let semaphore = room.semaphore.clone();
    Some(Companion::new("holder", [(Opening, Paused), (moment, Nothing)], move || {
        let permit = semaphore.permit().expect("a permit");
        pause();
        if drops { drop(permit) } else { forget(permit) }
    }))
}

fn waiting((from, wants): Sleeper, room: &Room) -> Companion {
    let semaphore = room.semaphore.clone();
    // Behind a victim that stands somewhere, it may sleep or not.
    Companion::new("sleeper", [(from, Asleep)], move || {
        let kept = match wants {
            Wants::One => semaphore.acquire().map(|()| 1),
            Wants::Both => semaphore.acquire_many(2).map(|()| 2),
            Wants::Guard => semaphore.permit().map(|_| 0),
        };
        board().cells[0].fetch_add(1, SeqCst);
        board().cells[1].fetch_add(kept.expect("a permit"), SeqCst);
    })
}

fn verify(row: &Row, room: &Room, end: &End) -> Damage {
    let [woken, kept] = [0, 1].map(|cell| board().cells[cell].load(SeqCst) as usize);
    let free = room.semaphore.available_permits();
    let twice = if row.gives && row.fed == Fed::AtDeath { row.taken } else { 0 };
    let fixed = if row.fed == Fed::Never { row.taken } else { 0 };
    let gone = (row.gone)(end);
    let least = (row.permits - fixed).saturating_sub(kept + gone.end());
    let most = (row.permits - fixed + twice).saturating_sub(kept + gone.start()).min(row.permits);
    // It works as before, and no guard is counted.
    let works = room.semaphore.try_acquire_many(free).is_ok()
        && room.semaphore.try_acquire().is_err()
        && room.semaphore.release_many(row.permits).is_ok()
        && room.semaphore.release().is_err()
        && room.semaphore.try_permit().is_ok()
        && room.semaphore.available_permits() == row.permits;
    Damage {
        wedged: row.sleepers.len().saturating_sub(woken) as u64 + u64::from(!works),
        lost: least.saturating_sub(free) as u64,
        doubled: free.saturating_sub(most) as u64,
        ..Damage::default()
    }
}
