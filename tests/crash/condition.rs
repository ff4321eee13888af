//! `Condition`: its operations, and the companies in which they are killed.
//!
//! One thing is there for each notification. A survivor waits until there is one, takes it, and if there are more
//! hands the notification on; whoever is told of a death notifies everybody. After the death the auditor puts in as
//! many things as the survivors need beyond those that were given, and notifies for *these* alone: so a notification
//! that the victim took with it leaves a survivor asleep, and is seen. Things are counted on the board.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use pshared::{Condition, ConditionError, Lock, LockError, LockGuard};

use crate::{
    board::{board, count},
    company::{Companion, LIMIT, Moment, Moment::*, Process, Until, Until::*, pause},
    scenario::{Damage, Enters, Kind, Play, Scenario},
    trace::stepped,
};

/// What a trial is about.
#[derive(Clone)]
struct Room {
    lock: Lock,
    changed: Condition,
    scratch: Lock,
    idle: Condition,
}

/// Cells of the board: things that are there, things that were taken.
const THERE: usize = 0;
const TAKEN: usize = 1;
/// Whether the victim, or the heir, took one.
const VICTIMS: usize = 2;
const HEIRS: usize = 3;

impl Room {
    fn new() -> Room {
        let (lock, scratch) = (Lock::new().expect("a lock"), Lock::new().expect("a lock"));
        let changed = Condition::new(&lock).expect("a condition");
        let idle = Condition::new(&scratch).expect("a condition");
        Room { lock, changed, scratch, idle }
    }

    fn warm(&self) {
        let guard = self.scratch.lock().expect("nobody else has it");
        drop(self.idle.wait_timeout(guard, Duration::from_micros(1)).expect("nobody died"));
        self.idle.notify_one();
        self.idle.notify_all();
    }

    /// The guard, whatever was said; who is told of a death notifies all.
    fn healed<'a>(&self, said: Result<LockGuard<'a>, LockError<LockGuard<'a>>>) -> LockGuard<'a> {
        said.unwrap_or_else(|error| {
            let mut guard = error.into_guard().expect("the lock can be taken");
            guard.make_consistent();
            self.changed.notify_all();
            guard
        })
    }

    fn enter(&self) -> LockGuard<'_> {
        self.healed(self.lock.lock())
    }

    /// Waits for a thing and takes it.
    fn take(&self, tally: usize) {
        let mut guard = self.enter();
        while count(THERE) == 0 {
            guard = match self.changed.wait(guard) {
                Ok(guard) => guard,
                Err(ConditionError::Lock(error)) => self.healed(Err(error)),
                Err(other) => panic!("{other}"),
            };
        }
        board().cells[tally].fetch_add(1, SeqCst);
        board().cells[THERE].fetch_sub(1, SeqCst);
        drop(guard);
    }

    /// Puts things there without notifying.
    fn put(&self, things: u64) {
        let guard = self.enter();
        board().cells[THERE].fetch_add(things, SeqCst);
        drop(guard);
    }
}

/// Waits once, and takes nothing.
fn wait(room: &Room) {
    room.warm();
    let guard = room.lock.lock().expect("nobody died before");
    stepped(|| drop(room.changed.wait(guard)));
}

/// Waits for a thing and takes it.
fn take(room: &Room) {
    room.warm();
    stepped(|| room.take(VICTIMS));
}

/// As `take`, with a limit that does not come.
fn take_timed(room: &Room) {
    room.warm();
    stepped(|| {
        let guard = room.enter();
        let ended = room.changed.wait_timeout_while(guard, Duration::from_secs(60), || count(THERE) == 0);
        if let Ok((guard, false)) = ended {
            board().cells[VICTIMS].fetch_add(1, SeqCst);
            board().cells[THERE].fetch_sub(1, SeqCst);
            drop(guard);
        }
    });
}

fn wait_too_long(room: &Room) {
    room.warm();
    let guard = room.lock.lock().expect("nobody died before");
    stepped(|| drop(room.changed.wait_timeout(guard, Duration::from_millis(15))));
}

fn notify_one(room: &Room) {
    room.warm();
    room.put(1);
    stepped(|| room.changed.notify_one());
}

fn notify_n(room: &Room) {
    room.warm();
    room.put(2);
    stepped(|| room.changed.notify_n(2));
}

fn notify_all(room: &Room) {
    room.warm();
    room.put(2);
    stepped(|| room.changed.notify_all());
}

/// Waits for a thing from `moment` on.
fn taker(room: &Room, moment: Moment, until: Until) -> Companion {
    let room = room.clone();
    Companion::new("taker", [(moment, until)], move || room.take(TAKEN))
}

/// Puts so many things there at `moment`, and notifies so many times.
fn giver(room: &Room, moment: Moment, things: u64, all: bool) -> Companion {
    let room = room.clone();
    Companion::new("giver", [(Opening, Paused), (moment, Ended)], move || {
        pause();
        room.put(things);
        if all {
            room.changed.notify_all();
        } else {
            (0..things).for_each(|_| _ = room.changed.notify_one());
        }
    })
}

/// Has the user's lock from the notification to the death, so that the chosen one dies waiting for it.
fn giver_that_keeps_the_lock(room: &Room) -> Companion {
    let room = room.clone();
    Companion::new("giver", [(Opening, Paused), (Wake, Paused), (Death, Ended)], move || {
        pause();
        let guard = room.enter();
        board().cells[THERE].fetch_add(1, SeqCst);
        room.changed.notify_one();
        pause();
        drop(guard);
    })
}

/// Comes after the death: looks after what the dead may have left as a holder. Nothing else is notified.
fn heir(room: &Room) -> Companion {
    let room = room.clone();
    Companion::new("heir", [(Death, Ended)], move || drop(room.enter()))
}

/// As the heir; and if the dead one took a thing, it puts another there and notifies one.
fn relief(room: &Room, moment: Moment, tally: usize) -> Companion {
    let room = room.clone();
    Companion::new("relief", [(moment, Ended)], move || {
        let guard = room.enter();
        let took = count(tally);
        board().cells[THERE].fetch_add(took, SeqCst);
        drop(guard);
        if took > 0 {
            room.changed.notify_one();
        }
    })
}

/// As the heir, and notifies as often as a notifier that died may not have done.
fn second_notifier(room: &Room, times: u64) -> Companion {
    let room = room.clone();
    Companion::new("second notifier", [(Death, Nothing)], move || {
        drop(room.enter());
        (0..times).for_each(|_| _ = room.changed.notify_one());
    })
}

struct Row {
    operation: &'static str,
    company: &'static str,
    kind: Kind,
    enters: Enters,
    body: fn(&Room),
    heir: bool,
    /// The victim sleeps alone when it is woken. Otherwise one who died waiting is counted, so that nobody disturbs it.
    loner: bool,
    companions: fn(&Room) -> Vec<Companion>,
}

const fn row(
    operation: &'static str,
    company: &'static str,
    body: fn(&Room),
    companions: fn(&Room) -> Vec<Companion>,
) -> Row {
    let (kind, enters) = (Kind::OneDeath, Enters::Awake);
    Row { operation, company, kind, enters, body, heir: false, loner: false, companions }
}

const fn woken(
    operation: &'static str,
    company: &'static str,
    body: fn(&Room),
    companions: fn(&Room) -> Vec<Companion>,
) -> Row {
    Row { enters: Enters::Woken, ..row(operation, company, body, companions) }
}

const WAIT: &str = "Condition::wait";
const TIMED: &str = "Condition::wait_timeout";
const ONE: &str = "Condition::notify_one";
const ALL: &str = "Condition::notify_all";

static ROWS: &[Row] = &[
    // Two are notified when the victim is dead; if it is counted still, one of the three times is for it.
    row(WAIT, "alone", wait, |r| vec![heir(r)]),
    row(WAIT, "two sleepers", wait, |r| {
        vec![
            taker(r, Ready, Asleep),
            taker(r, Ready, Asleep),
            giver(r, Death, 2, false),
            second_notifier(r, 1),
        ]
    }),
    row(WAIT, "two sleepers, all notified", wait, |r| {
        vec![taker(r, Ready, Asleep), taker(r, Ready, Asleep), giver(r, Death, 2, true), heir(r)]
    }),
    // One is notified, and it is the victim, which has slept longest. What it dies with is for the other.
    woken(WAIT, "woken, sleeper", take, |r| {
        vec![taker(r, Ready, Asleep), giver(r, Wake, 1, false), relief(r, Death, VICTIMS)]
    }),
    Row {
        loner: true,
        ..woken(WAIT, "woken, alone", take, |r| {
            vec![giver(r, Wake, 1, false), taker(r, Death, Nothing), relief(r, Death, VICTIMS)]
        })
    },
    Row {
        loner: true,
        ..woken(WAIT, "woken by another that comes, that one asleep", take, |r| {
            vec![taker(r, Wake, Asleep), giver(r, Death, 2, false), heir(r)]
        })
    },
    woken(WAIT, "woken, two sleepers, two notified", take, |r| {
        let takers = [taker(r, Ready, Asleep), taker(r, Ready, Asleep)];
        takers.into_iter().chain([giver(r, Wake, 2, false), relief(r, Death, VICTIMS)]).collect()
    }),
    woken(WAIT, "woken, sleeper, latecomer", take, |r| {
        let takers = [taker(r, Ready, Asleep), taker(r, Stop, Nothing)];
        let givers = [giver(r, Wake, 1, false), relief(r, Death, VICTIMS), giver(r, Death, 1, false)];
        takers.into_iter().chain(givers).collect()
    }),
    woken(WAIT, "woken, sleeper, the lock is held", take, |r| {
        vec![taker(r, Ready, Asleep), giver_that_keeps_the_lock(r), relief(r, Death, VICTIMS)]
    }),
    woken(WAIT, "woken with all, two sleepers", take, |r| {
        let takers = [taker(r, Ready, Asleep), taker(r, Ready, Asleep)];
        takers.into_iter().chain([giver(r, Wake, 2, true), relief(r, Death, VICTIMS)]).collect()
    }),
    woken(TIMED, "woken, sleeper", take_timed, |r| {
        vec![taker(r, Ready, Asleep), giver(r, Wake, 1, false), relief(r, Death, VICTIMS)]
    }),
    row(TIMED, "too late, sleeper", wait_too_long, |r| {
        vec![taker(r, Ready, Asleep), giver(r, Death, 1, false), second_notifier(r, 1)]
    }),
    row(ONE, "nobody", notify_one, |r| vec![heir(r)]),
    row(ONE, "sleeper", notify_one, |r| vec![taker(r, Opening, Asleep), second_notifier(r, 1)]),
    row(ONE, "two sleepers", notify_one, |r| {
        vec![
            taker(r, Opening, Asleep),
            taker(r, Opening, Asleep),
            giver(r, Death, 1, false),
            second_notifier(r, 2),
        ]
    }),
    row("Condition::notify_n", "two sleepers", notify_n, |r| {
        vec![taker(r, Opening, Asleep), taker(r, Opening, Asleep), second_notifier(r, 2)]
    }),
    row(ALL, "nobody", notify_all, |r| vec![heir(r)]),
    row(ALL, "two sleepers", notify_all, |r| {
        vec![taker(r, Opening, Asleep), taker(r, Opening, Asleep), second_notifier(r, 2)]
    }),
    Row {
        kind: Kind::TwoDeaths,
        heir: true,
        ..woken(WAIT, "woken, heir, sleeper", take, |r| {
            vec![
                taker(r, Ready, Asleep),
                giver(r, Wake, 1, false),
                relief(r, Death, VICTIMS),
                relief(r, SecondDeath, HEIRS),
            ]
        })
    },
    Row {
        kind: Kind::StoppedSleeper,
        heir: true,
        ..row(ONE, "stopped sleeper", notify_one, |r| vec![second_notifier(r, 1)])
    },
    Row {
        kind: Kind::StoppedSleeper,
        heir: true,
        ..row(ALL, "stopped sleeper and sleeper", notify_all, |r| {
            vec![taker(r, Opening, Asleep), second_notifier(r, 2)]
        })
    },
];

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
    let room = Room::new();
    if row.enters == Enters::Woken && !row.loner {
        let mut dead = Process::fork(|| drop(room.changed.wait(room.enter())));
        assert!(dead.until_asleep(LIMIT), "it does not sleep");
        dead.kill();
    }
    let companions = (row.companions)(&room);
    let victim = room.clone();
    let heir = row.heir.then(|| {
        let room = room.clone();
        Box::new(move || {
            room.warm();
            stepped(|| room.take(HEIRS));
        }) as _
    });
    Play {
        victim: Box::new(move || (row.body)(&victim)),
        enters: row.enters,
        heir,
        companions,
        verify: Box::new(move |_| {
            // The condition works as before: nobody is left in it once all are let go.
            drop(room.enter());
            room.changed.notify_all();
            let guard = room.enter();
            let left = room.changed.wait_timeout(guard, Duration::ZERO);
            Damage { wedged: u64::from(left.is_err() || room.changed.notify_one() != 0), ..Damage::default() }
        }),
    }
}
