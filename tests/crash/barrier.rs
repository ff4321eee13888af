//! `Barrier`: its operations, and the companies in which they are killed.
//!
//! An observer looks when the victim stands at its kill point. If the victim had come to where it matters (arrived,
//! the round over, the barrier broken, the action running), everybody must end without help, and be told the same; if
//! not, a helper aborts after the death.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use pshared::{Barrier, BarrierError};

use crate::{
    board::{board, count},
    company::{Companion, LIMIT, Moment, Moment::*, Process, Until::*, pause},
    scenario::{Damage, End, Enters, Kind, Play, Scenario},
    trace::stepped,
};

/// What a trial is about.
#[derive(Clone)]
struct Hall {
    barrier: Barrier,
    alone: Barrier,
    pair: Barrier,
}

/// Cells of the board: how many were told what, by [`told`]; what the victim was told; whether the observer saw that
/// the victim had come to where it matters.
const TOLD: usize = 0;
const VICTIM: usize = 20;
const SETTLED: usize = 30;

/// The number of what one was told.
fn told(verdict: &Result<pshared::BarrierWaitResult, BarrierError>) -> usize {
    match verdict {
        Ok(_) => 1,
        Err(BarrierError::PeerDied) => 2,
        Err(BarrierError::Aborted) => 3,
        Err(BarrierError::TimedOut) => 4,
        Err(BarrierError::Reset) => 5,
        Err(_) => 6,
    }
}

fn warm(hall: &Hall) {
    for _ in 0..2 {
        let _ = hall.alone.wait();
        let _ = hall.pair.wait_timeout(Duration::from_micros(50));
        hall.pair.abort();
        hall.pair.reset();
    }
}

fn wait(hall: &Hall) {
    warm(hall);
    stepped(|| {
        let verdict = hall.barrier.wait();
        board().cells[VICTIM].store(told(&verdict) as u64, SeqCst);
    });
}

fn wait_timeout(hall: &Hall) {
    warm(hall);
    stepped(|| {
        let verdict = hall.barrier.wait_timeout(Duration::from_millis(2));
        board().cells[VICTIM].store(told(&verdict) as u64, SeqCst);
    });
}

fn abort(hall: &Hall) {
    warm(hall);
    stepped(|| hall.barrier.abort());
}

fn reset(hall: &Hall) {
    warm(hall);
    stepped(|| hall.barrier.reset());
}

/// What stands before the victim comes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Fresh,
    Broken,
    /// One party died waiting, and nobody knows.
    DeadParty,
}

/// What wakes a victim that sleeps.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wakes {
    Nothing,
    /// The last to arrive.
    Last,
    Abort,
    Reset,
    /// The death of one who waited before the victim.
    DeathBefore,
    /// The death of one who came after it.
    DeathAfter,
}

struct Row {
    operation: &'static str,
    company: &'static str,
    kind: Kind,
    before: Before,
    body: fn(&Hall),
    wakes: Wakes,
    heir: bool,
    /// Who sleep there before the victim or the heir comes, and after.
    early: usize,
    late: usize,
    /// Parties that never come.
    missing: usize,
    action: bool,
}

const fn row(operation: &'static str, company: &'static str, body: fn(&Hall)) -> Row {
    Row {
        operation,
        company,
        kind: Kind::OneDeath,
        before: Before::Fresh,
        body,
        wakes: Wakes::Nothing,
        heir: false,
        early: 0,
        late: 0,
        missing: 0,
        action: false,
    }
}

/// The victim comes, and sleeps.
const fn comes(company: &'static str, early: usize) -> Row {
    Row { early, missing: 1, ..row("Barrier::wait", company, wait) }
}

/// The victim comes last.
const fn last(company: &'static str, early: usize) -> Row {
    Row { early, ..row("Barrier::wait", company, wait) }
}

/// The victim sleeps, and is woken.
const fn woken(company: &'static str, wakes: Wakes, early: usize, late: usize) -> Row {
    Row { wakes, early, late, ..row("Barrier::wait", company, wait) }
}

static ROWS: &[Row] = &[
    comes("first", 0),
    comes("sleeper", 1),
    comes("two sleepers", 2),
    Row { before: Before::Broken, ..comes("broken before", 0) },
    Row { before: Before::DeadParty, ..comes("a dead party, and one to come", 0) },
    Row { before: Before::DeadParty, ..comes("a dead party, sleeper", 1) },
    Row { before: Before::DeadParty, ..last("last, a dead party", 0) },
    last("alone", 0),
    last("last, sleeper", 1),
    last("last, two sleepers", 2),
    Row { action: true, ..last("last, action, sleeper", 1) },
    Row { action: true, ..last("last, action, two sleepers", 2) },
    Row { action: true, ..comes("action, sleeper", 1) },
    woken("woken by the last, sleeper before", Wakes::Last, 1, 0),
    woken("woken by the last, sleeper behind", Wakes::Last, 0, 1),
    Row { action: true, ..woken("woken by the last, action, sleeper behind", Wakes::Last, 0, 1) },
    woken("woken by an abort, two sleepers", Wakes::Abort, 1, 1),
    woken("woken by a reset, two sleepers", Wakes::Reset, 1, 1),
    woken("woken by a death before it, sleeper behind", Wakes::DeathBefore, 0, 1),
    woken("woken by a death before it, sleeper before", Wakes::DeathBefore, 1, 0),
    woken("woken by a death after it, sleeper behind", Wakes::DeathAfter, 0, 1),
    woken("woken by a death after it, two sleepers", Wakes::DeathAfter, 1, 1),
    Row { missing: 1, ..row("Barrier::wait_timeout", "alone, too late", wait_timeout) },
    Row { missing: 1, early: 2, ..row("Barrier::wait_timeout", "two sleepers, too late", wait_timeout) },
    row("Barrier::abort", "alone", abort),
    Row { early: 2, missing: 1, ..row("Barrier::abort", "two sleepers", abort) },
    Row { before: Before::Broken, ..row("Barrier::abort", "broken before", abort) },
    row("Barrier::reset", "alone", reset),
    Row { before: Before::Broken, ..row("Barrier::reset", "broken before", reset) },
    Row { before: Before::Broken, action: true, ..row("Barrier::reset", "broken before, action", reset) },
    Row { early: 2, missing: 1, ..row("Barrier::reset", "two sleepers", reset) },
    Row { early: 2, missing: 1, action: true, ..row("Barrier::reset", "two sleepers, action", reset) },
    Row { before: Before::DeadParty, ..row("Barrier::reset", "a dead party", reset) },
    Row { kind: Kind::TwoDeaths, heir: true, late: 1, ..comes("heir and sleeper", 0) },
    Row { kind: Kind::TwoDeaths, heir: true, late: 2, ..comes("heir and two sleepers", 0) },
    Row { kind: Kind::TwoDeaths, heir: true, late: 1, ..last("last, heir and sleeper", 0) },
    Row {
        kind: Kind::TwoDeaths,
        heir: true,
        late: 1,
        action: true,
        ..last("last, action, heir, sleeper", 0)
    },
    Row {
        kind: Kind::TwoDeaths,
        heir: true,
        late: 1,
        missing: 1,
        ..row("Barrier::abort", "heir and sleeper", abort)
    },
    Row { kind: Kind::StoppedSleeper, heir: true, ..comes("stopped sleeper", 0) },
    Row { kind: Kind::StoppedSleeper, heir: true, ..comes("stopped sleeper, sleeper", 1) },
    Row { kind: Kind::StoppedSleeper, heir: true, ..last("last, stopped sleeper", 0) },
    Row { kind: Kind::StoppedSleeper, heir: true, action: true, ..last("last, action, stopped sleeper", 0) },
    Row {
        kind: Kind::StoppedSleeper,
        heir: true,
        missing: 1,
        ..row("Barrier::abort", "stopped sleeper", abort)
    },
    Row {
        kind: Kind::StoppedSleeper,
        heir: true,
        missing: 1,
        ..row("Barrier::reset", "stopped sleeper", reset)
    },
];

impl Row {
    /// Those who wait, whoever they are.
    fn parties(&self) -> usize {
        let waits = usize::from(self.operation.starts_with("Barrier::wait"));
        let dies = matches!(self.wakes, Wakes::DeathBefore | Wakes::DeathAfter);
        let parties = self.early
            + self.late
            + waits
            + usize::from(self.heir)
            + usize::from(self.before == Before::DeadParty)
            + usize::from(dies)
            + self.missing
            + usize::from(self.wakes != Wakes::Nothing);
        parties.max(1)
    }
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

fn sleeper(hall: &Hall, moment: Moment) -> Companion {
    let barrier = hall.barrier.clone();
    Companion::new("sleeper", [(moment, Asleep)], move || {
        let verdict = barrier.wait();
        board().cells[TOLD + told(&verdict)].fetch_add(1, SeqCst);
    })
}

/// Forks one that waits, and is killed asleep at the next beat.
fn dying(hall: &Hall, moment: Moment) -> Companion {
    let barrier = hall.barrier.clone();
    Companion::new("dying sleeper", [(moment, Paused), (Wake, Ended)], move || {
        let mut dying = Process::fork(|| _ = barrier.wait());
        assert!(dying.until_asleep(LIMIT), "it does not sleep");
        pause();
        dying.kill();
    })
}

/// Does something for the sleeping victim to be woken by.
fn waker(hall: &Hall, act: impl FnOnce(&Barrier) + 'static) -> Companion {
    let barrier = hall.barrier.clone();
    Companion::new("waker", [(Wake, Ended)], move || act(&barrier))
}

/// Sees whether the victim, at its kill point, had changed anything that the others wait for.
fn observer(hall: &Hall) -> Companion {
    let barrier = hall.barrier.clone();
    Companion::new("observer", [(Ready, Paused), (Stop, Ended)], move || {
        let before = format!("{barrier:?}");
        pause();
        let settled = format!("{barrier:?}") != before;
        board().cells[SETTLED].store(u64::from(settled), SeqCst);
    })
}

fn helper(hall: &Hall) -> Companion {
    let barrier = hall.barrier.clone();
    Companion::new("helper", [(Death, Ended)], move || {
        if count(SETTLED) == 0 {
            barrier.abort();
        }
    })
}

fn play(row: &'static Row) -> Play {
    let build = |parties| match row.action {
        true => Barrier::with_action(parties, std::hint::spin_loop),
        false => Barrier::new(parties),
    };
    let [barrier, alone, pair] = [row.parties(), 1, 2].map(|parties| build(parties).expect("a barrier"));
    let hall = Hall { barrier, alone, pair };
    match row.before {
        Before::Fresh => {}
        Before::Broken => hall.barrier.abort(),
        Before::DeadParty => {
            let mut dead = Process::fork(|| _ = hall.barrier.wait());
            assert!(dead.until_asleep(LIMIT), "it does not sleep");
            dead.kill();
        }
    }
    let body = |body: fn(&Hall)| {
        let hall = hall.clone();
        Box::new(move || body(&hall)) as crate::company::Body
    };
    let mut companions = Vec::new();
    companions.extend((0..row.early).map(|_| sleeper(&hall, Opening)));
    if row.wakes == Wakes::DeathBefore {
        companions.push(dying(&hall, Opening));
    }
    if row.wakes == Wakes::DeathAfter {
        companions.push(dying(&hall, Ready));
    }
    companions.extend((0..row.late).map(|_| sleeper(&hall, Ready)));
    match row.wakes {
        Wakes::Nothing => companions.extend([observer(&hall), helper(&hall)]),
        Wakes::Last => companions.push(waker(&hall, |barrier| assert!(barrier.wait().is_ok()))),
        Wakes::Abort => companions.push(waker(&hall, Barrier::abort)),
        Wakes::Reset => companions.push(waker(&hall, Barrier::reset)),
        Wakes::DeathBefore | Wakes::DeathAfter => {}
    }
    let enters = if row.wakes == Wakes::Nothing { Enters::Awake } else { Enters::Woken };
    let victim = body(row.body);
    let heir = row.heir.then(|| body(wait));
    let verify = Box::new(move |end: &End| verify(row, &hall, end));
    Play { victim, enters, heir, companions, verify }
}

/// What is left when everybody has ended.
fn verify(row: &Row, hall: &Hall, end: &End) -> Damage {
    let sleepers = (row.early + row.late) as u64;
    let told: Vec<u64> = (1..=6).map(|what| count(TOLD + what)).collect();
    let alike = sleepers == 0 || told.contains(&sleepers);
    let settled = count(SETTLED) == 1 || row.wakes != Wakes::Nothing;
    let through = 1 << 1;
    let died = 1 << 2;
    let aborted = 1 << 3;
    // What they may be told, once it is settled.
    let may = match (row.operation, row.wakes) {
        (_, Wakes::Last) => through,
        (_, Wakes::Abort) => aborted,
        (_, Wakes::Reset) => 1 << 5,
        (_, Wakes::DeathBefore | Wakes::DeathAfter) => died,
        // Told by the one who reset, or by the death of a party that it came before.
        ("Barrier::reset", _) => 1 << 5 | died,
        ("Barrier::abort", _) => aborted,
        ("Barrier::wait_timeout", _) => 1 << 4 | died,
        // The last to arrive ends the round; with an action it may die before.
        _ if row.missing == 0 && row.kind == Kind::OneDeath && !row.action => through | died,
        _ => through | died | aborted,
    };
    let may = if settled { may } else { may | died | aborted };
    let wrong = (1..=6).any(|what| told[what - 1] > 0 && may & 1 << what == 0);
    // Who comes to a dead party is told of it.
    let victims = count(VICTIM) as usize;
    let unheard =
        row.before == Before::DeadParty && end.finished && row.operation == "Barrier::wait" && victims != 2;
    Damage {
        wedged: u64::from(!works(&hall.barrier)),
        torn: u64::from(!alike),
        lost: u64::from(wrong) + u64::from(unheard),
        doubled: 0,
    }
}

/// Reset, it lets a round of all its parties through.
fn works(barrier: &Barrier) -> bool {
    let mut resetter = Process::fork(|| barrier.reset());
    if !resetter.until_ended(LIMIT) || barrier.is_broken() || barrier.n_waiting() > 0 {
        println!("  not whole: resetter {}, {barrier:?}", resetter.describe());
        return false;
    }
    let comes = || Process::fork(|| assert!(barrier.wait().is_ok()));
    let mut parties: Vec<Process> = (0..barrier.parties()).map(|_| comes()).collect();
    parties.iter_mut().all(|party| {
        let well = party.until_ended(LIMIT) && party.ended_well();
        if !well {
            println!("  not through: {}, {party:?}, {barrier:?}", party.describe());
        }
        well
    })
}
