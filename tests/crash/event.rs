//! `Event`: its operations, and the companies in which they are killed.
//!
//! Whoever waits must go on if the flag is set, or was for a moment. A companion sets it after the death, but only if
//! it is not set: so a set that woke nobody leaves its sleepers asleep, and is seen.

use pshared::Event;

use crate::{
    board::board,
    company::{Companion, Moment::*, Until::*, pause},
    scenario::{Damage, End, Enters, Kind, Play, Scenario},
    trace::stepped,
};

/// What a trial is about.
#[derive(Clone)]
struct Flags {
    event: Event,
    scratch: Event,
}

impl Flags {
    fn new() -> Flags {
        Flags { event: Event::new().expect("an event"), scratch: Event::new().expect("an event") }
    }
}

fn warm(flags: &Flags) {
    flags.scratch.set();
    flags.scratch.wait();
    flags.scratch.clear();
    flags.scratch.wait_timeout(std::time::Duration::from_micros(50));
}

/// What stands before the victim comes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Clear,
    Set,
    /// A sleeper died: its bit is there.
    DeadSleeper,
}

/// How the sleepers are to be let go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Release {
    /// After the death, if the flag is not set by then.
    IfNeeded,
    /// When the victim is to be woken: set, and stay.
    Set,
    /// When the victim is to be woken: set, and clear at once.
    Pulse,
}

struct Row {
    operation: &'static str,
    company: &'static str,
    kind: Kind,
    before: Before,
    body: fn(&Flags),
    enters: Enters,
    heir: bool,
    sleepers: usize,
    release: Release,
}

fn set(flags: &Flags) {
    warm(flags);
    stepped(|| flags.event.set());
}

fn clear(flags: &Flags) {
    warm(flags);
    stepped(|| flags.event.clear());
}

fn wait(flags: &Flags) {
    warm(flags);
    stepped(|| flags.event.wait());
}

fn wait_timeout(flags: &Flags) {
    warm(flags);
    stepped(|| flags.event.wait_timeout(std::time::Duration::from_secs(60)));
}

const fn row(operation: &'static str, company: &'static str, body: fn(&Flags)) -> Row {
    Row {
        operation,
        company,
        kind: Kind::OneDeath,
        before: Before::Clear,
        body,
        enters: Enters::Awake,
        heir: false,
        sleepers: 0,
        release: Release::IfNeeded,
    }
}

static ROWS: &[Row] = &[
    row("Event::set", "alone", set),
    Row { before: Before::Set, ..row("Event::set", "set before", set) },
    Row { before: Before::DeadSleeper, ..row("Event::set", "a dead sleeper's bit", set) },
    Row { sleepers: 1, ..row("Event::set", "sleeper", set) },
    Row { sleepers: 2, ..row("Event::set", "two sleepers", set) },
    Row { before: Before::Set, ..row("Event::clear", "set before", clear) },
    row("Event::clear", "clear before", clear),
    Row { sleepers: 1, ..row("Event::clear", "clear before, sleeper", clear) },
    row("Event::wait", "alone", wait),
    Row { before: Before::Set, ..row("Event::wait", "set before", wait) },
    Row { before: Before::DeadSleeper, ..row("Event::wait", "a dead sleeper's bit", wait) },
    Row { sleepers: 1, ..row("Event::wait", "sleeper", wait) },
    Row {
        sleepers: 2,
        enters: Enters::Woken,
        release: Release::Set,
        ..row("Event::wait", "woken, two sleepers", wait)
    },
    Row {
        sleepers: 2,
        enters: Enters::Woken,
        release: Release::Pulse,
        ..row("Event::wait", "woken by a pulse, two sleepers", wait)
    },
    Row { sleepers: 1, ..row("Event::wait_timeout", "sleeper", wait_timeout) },
    Row {
        sleepers: 1,
        enters: Enters::Woken,
        release: Release::Pulse,
        ..row("Event::wait_timeout", "woken by a pulse, sleeper", wait_timeout)
    },
    Row { kind: Kind::TwoDeaths, heir: true, sleepers: 1, ..row("Event::set", "heir and sleeper", set) },
    Row { kind: Kind::StoppedSleeper, heir: true, ..row("Event::set", "stopped sleeper", set) },
    Row {
        kind: Kind::StoppedSleeper,
        heir: true,
        sleepers: 1,
        ..row("Event::set", "stopped sleeper and sleeper", set)
    },
    Row {
        kind: Kind::StoppedSleeper,
        heir: true,
        before: Before::DeadSleeper,
        ..row("Event::set", "a dead sleeper's bit, stopped sleeper", set)
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
    let flags = Flags::new();
    match row.before {
        Before::Clear => {}
        Before::Set => {
            flags.event.set();
        }
        Before::DeadSleeper => {
            // A wait that ended by its deadline leaves the bit as a death does.
            flags.event.wait_timeout(std::time::Duration::from_micros(1));
        }
    }
    let victim = {
        let flags = flags.clone();
        Box::new(move || (row.body)(&flags))
    };
    let heir = row.heir.then(|| {
        let flags = flags.clone();
        Box::new(move || wait(&flags)) as _
    });
    let mut companions = Vec::new();
    for _ in 0..row.sleepers {
        let event = flags.event.clone();
        companions.push(Companion::new("sleeper", [(Ready, Asleep)], move || {
            event.wait();
            board().cells[0].fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }));
    }
    let event = flags.event.clone();
    let setter = match row.release {
        Release::IfNeeded => Companion::new("setter", [(Opening, Paused), (Death, Nothing)], move || {
            pause();
            if !event.is_set() {
                event.set();
            }
        }),
        Release::Set => Companion::new("setter", [(Opening, Paused), (Wake, Nothing)], move || {
            pause();
            event.set();
        }),
        Release::Pulse => Companion::new("setter", [(Opening, Paused), (Wake, Nothing)], move || {
            pause();
            event.set();
            event.clear();
        }),
    };
    companions.push(setter);
    let event = flags.event.clone();
    let verify = move |_: &End| {
        let woken = board().cells[0].load(std::sync::atomic::Ordering::SeqCst);
        let left_set = event.is_set();
        // The flag works as before.
        event.set();
        let works = event.wait_timeout(std::time::Duration::ZERO) && event.clear() && !event.is_set();
        Damage {
            wedged: u64::from(!works) + (row.sleepers as u64).saturating_sub(woken),
            lost: u64::from(!left_set && row.release != Release::Pulse),
            ..Damage::default()
        }
    };
    Play { victim, enters: row.enters, heir, companions, verify: Box::new(verify) }
}
