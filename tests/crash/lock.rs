//! `Lock`: its operations, and the companies in which they are killed.
//!
//! A survivor takes the lock, heals it if it was told of trouble, goes through the board's section, and frees it. In
//! the end the sections must have excluded each other, and the lock must be free. Where it is certain whether the
//! victim died as a holder, the survivors must have been told, or not.

use std::{
    hint::black_box,
    mem::forget,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::Duration,
};

use pshared::{Lock, LockError, LockGuard, Region};

use crate::{
    board::board,
    company::{Body, Companion, Moment, Moment::*, Until::*, pause, run_to_end},
    scenario::{Damage, End, Enters, Kind, Play, Scenario},
    trace::stepped,
};

/// The objects of one trial.
#[derive(Clone)]
struct Locks {
    /// The one that the company is about.
    lock: Lock,
    /// Held before it, or after it, by a victim of many locks.
    older: Lock,
    newer: Lock,
    /// For getting warm.
    scratch: Lock,
}

impl Locks {
    fn new() -> Locks {
        let lock = || Lock::new().expect("a lock");
        Locks { lock: lock(), older: lock(), newer: lock(), scratch: lock() }
    }
}

/// What a victim does.
struct Operation {
    name: &'static str,
    /// Calls `stepped` once.
    body: fn(&Locks),
    /// Whether the survivors are told of trouble when it dies with its operation done.
    told: Told,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    /// It dies as a holder, or has panicked.
    Yes,
    /// It has healed the lock and freed it.
    No,
    /// It has no lock, and leaves this one as suspect as it found it.
    AsBefore,
}

const fn operation(name: &'static str, body: fn(&Locks), told: Told) -> Operation {
    Operation { name, body, told }
}

static LOCK: Operation = operation("lock", lock, Told::Yes);
static LOCK_FIRST: Operation = operation("lock", lock_first, Told::Yes);
static LOCK_AMID: Operation = operation("lock", lock_amid, Told::Yes);
static LOCK_UNLOCK: Operation = operation("lock, unlock", lock_unlock, Told::AsBefore);
static TRY_LOCK: Operation = operation("try_lock", try_lock, Told::Yes);
static TRY_LOCK_REFUSED: Operation = operation("try_lock", try_lock, Told::AsBefore);
static LOCK_TIMEOUT: Operation = operation("lock_timeout", lock_timeout, Told::Yes);
static LOCK_TIMED_OUT: Operation = operation("lock_timeout", lock_timed_out, Told::AsBefore);
static UNLOCK: Operation = operation("unlock", unlock, Told::AsBefore);
static UNLOCK_AMID: Operation = operation("unlock", unlock_amid, Told::AsBefore);
static UNLOCK_PANIC: Operation = operation("unlock in a panic", unlock_in_panic, Told::Yes);
static UNLOCK_HEALED: Operation = operation("heal, unlock", heal_unlock, Told::No);

fn warm(locks: &Locks) {
    for _ in 0..2 {
        used(locks.scratch.lock());
        used(locks.scratch.try_lock());
        used(locks.scratch.lock_timeout(Duration::from_millis(1)));
    }
}

fn used(taken: Result<LockGuard<'_>, LockError<LockGuard<'_>>>) {
    drop(taken.expect("nobody else has the scratch lock"));
}

fn lock(locks: &Locks) {
    warm(locks);
    forget(stepped(|| locks.lock.lock()));
}

/// No warming: the thread registers itself on the way.
fn lock_first(locks: &Locks) {
    forget(stepped(|| locks.lock.lock()));
}

fn lock_unlock(locks: &Locks) {
    warm(locks);
    stepped(|| drop(black_box(taken(locks.lock.lock()))));
}

/// Two other locks are held already.
fn lock_amid(locks: &Locks) {
    warm(locks);
    let _older = taken(locks.older.lock());
    let _newer = taken(locks.newer.lock());
    forget(stepped(|| locks.lock.lock()));
}

fn try_lock(locks: &Locks) {
    warm(locks);
    forget(stepped(|| locks.lock.try_lock()));
}

fn lock_timeout(locks: &Locks) {
    warm(locks);
    forget(stepped(|| locks.lock.lock_timeout(Duration::from_secs(60))));
}

fn lock_timed_out(locks: &Locks) {
    warm(locks);
    forget(stepped(|| locks.lock.lock_timeout(Duration::from_millis(15))));
}

fn unlock(locks: &Locks) {
    warm(locks);
    let guard = taken(locks.lock.lock());
    stepped(|| drop(guard));
}

fn heal_unlock(locks: &Locks) {
    warm(locks);
    let mut guard = taken(locks.lock.lock());
    stepped(|| {
        guard.make_consistent();
        drop(guard);
    });
}

fn unlock_in_panic(locks: &Locks) {
    struct Stepping<'a>(Option<LockGuard<'a>>);
    impl Drop for Stepping<'_> {
        fn drop(&mut self) {
            let guard = self.0.take();
            stepped(|| drop(guard));
        }
    }
    warm(locks);
    let _ = catch_unwind(AssertUnwindSafe(|| {
        let _guard = Stepping(Some(taken(locks.lock.lock())));
        resume_unwind(Box::new("on purpose"));
    }));
}

/// Two other locks are held on, an older and a newer one: their links change.
fn unlock_amid(locks: &Locks) {
    warm(locks);
    let _older = taken(locks.older.lock());
    let guard = taken(locks.lock.lock());
    let _newer = taken(locks.newer.lock());
    stepped(|| drop(guard));
}

/// The guard, whatever the lock's history.
fn taken<'a>(result: Result<LockGuard<'a>, LockError<LockGuard<'a>>>) -> LockGuard<'a> {
    result.unwrap_or_else(|error| error.into_guard().expect("the lock can be taken"))
}

/// A survivor's way in: it notes what it is told, and heals.
fn heard<'a>(result: Result<LockGuard<'a>, LockError<LockGuard<'a>>>) -> LockGuard<'a> {
    match result {
        Ok(guard) => return guard,
        Err(LockError::OwnerDied(_)) => board().hear_of_death(),
        Err(LockError::Poisoned(_)) => board().hear_of_trouble(),
        Err(_) => {}
    }
    let mut guard = taken(result);
    guard.make_consistent();
    guard
}

/// What a survivor must be able to do.
fn pass(lock: &Lock) {
    leave(heard(lock.lock()));
}

fn leave(guard: LockGuard<'_>) {
    board().section();
    drop(guard);
    board().pass();
}

// The companions.

/// Takes the lock first and frees it at `moment`.
fn holder(locks: &Locks, moment: Moment) -> Companion {
    let lock = locks.lock.clone();
    Companion::new("holder", [(Opening, Paused), (moment, Ended)], move || {
        let guard = heard(lock.lock());
        pause();
        leave(guard);
    })
}

/// Takes the lock first and dies with it when the victim is to be woken.
fn dying_holder(locks: &Locks) -> Companion {
    let lock = locks.lock.clone();
    Companion::new("dying holder", [(Opening, Paused), (Wake, Ended)], move || {
        forget(lock.lock());
        pause();
    })
}

/// Frees the lock and has it again at once, in one go; frees it for good after the death.
fn greedy_holder(locks: &Locks) -> Companion {
    let lock = locks.lock.clone();
    Companion::new("greedy holder", [(Opening, Paused), (Wake, Paused), (Death, Ended)], move || {
        let guard = heard(lock.lock());
        pause();
        leave(guard);
        let guard = heard(lock.lock());
        pause();
        leave(guard);
    })
}

/// Sleeps on the lock from `moment` on.
fn sleeper(locks: &Locks, moment: Moment) -> Companion {
    let lock = locks.lock.clone();
    Companion::new("sleeper", [(moment, Asleep)], move || pass(&lock))
}

/// Tries once while somebody stands at his kill point; what it gets it holds over the death.
fn barger(locks: &Locks, stop: Moment, death: Moment) -> Companion {
    let lock = locks.lock.clone();
    Companion::new("barger", [(Opening, Paused), (stop, Paused), (death, Nothing)], move || {
        pause();
        let tried = lock.try_lock();
        let refused = matches!(tried, Err(LockError::WouldBlock));
        let guard = (!refused).then(|| heard(tried));
        pause();
        match guard {
            Some(guard) => leave(guard),
            None => pass(&lock),
        }
    })
}

/// Tries again and again right after the death.
fn late_barger(locks: &Locks) -> Companion {
    let lock = locks.lock.clone();
    Companion::new("late barger", [(Opening, Paused), (Death, Nothing)], move || {
        pause();
        for _ in 0..2_000 {
            match lock.try_lock() {
                Err(LockError::WouldBlock) => std::hint::spin_loop(),
                taken => return leave(heard(taken)),
            }
        }
        pass(&lock);
    })
}

/// Waits with a limit while the victim holds or waits, and gives up: WAITERS stays behind.
fn quitter(locks: &Locks, moment: Moment) -> Companion {
    let lock = locks.lock.clone();
    Companion::new("quitter", [(moment, Ended)], move || {
        assert!(matches!(lock.lock_timeout(Duration::ZERO), Err(LockError::TimedOut)));
    })
}

/// Comes when it is over.
fn latecomer(locks: &Locks) -> Companion {
    let lock = locks.lock.clone();
    Companion::new("latecomer", [(Death, Nothing)], move || pass(&lock))
}

/// Takes the locks that the victim held besides.
fn heir_of_the_others(locks: &Locks) -> Companion {
    let locks = locks.clone();
    Companion::new("heir of the other locks", [(Death, Nothing)], move || {
        for lock in [&locks.older, &locks.newer] {
            assert!(
                matches!(lock.lock(), Err(LockError::OwnerDied(_))),
                "a held lock must tell of the death"
            );
        }
    })
}

// What happened to the lock before.

fn nothing(_: &Locks) {}

/// A holder died.
fn owner_died(locks: &Locks) {
    run_to_end(|| forget(locks.lock.lock()));
}

/// A holder panicked.
fn poisoned(locks: &Locks) {
    run_to_end(|| {
        let _ = catch_unwind(AssertUnwindSafe(|| {
            let _guard = taken(locks.lock.lock());
            resume_unwind(Box::new("on purpose"));
        }));
    });
    assert!(matches!(locks.lock.try_lock(), Err(LockError::Poisoned(_))));
}

/// A contended release woke nobody: WAITERS is set, and so is the hint that there are few.
fn few(locks: &Locks) {
    let guard = taken(locks.lock.lock());
    run_to_end(|| assert!(matches!(locks.lock.lock_timeout(Duration::ZERO), Err(LockError::TimedOut))));
    drop(guard);
}

/// A company, and what happened before.
struct Circle {
    name: &'static str,
    enters: Enters,
    before: fn(&Locks),
    /// Whether the survivors must be told of trouble, wherever the victim died.
    suspect: bool,
    companions: fn(&Locks) -> Vec<Companion>,
}

const fn awake(name: &'static str, companions: fn(&Locks) -> Vec<Companion>) -> Circle {
    Circle { name, enters: Enters::Awake, before: nothing, suspect: false, companions }
}

const fn woken(name: &'static str, companions: fn(&Locks) -> Vec<Companion>) -> Circle {
    Circle { name, enters: Enters::Woken, before: nothing, suspect: false, companions }
}

impl Circle {
    const fn after(mut self, before: fn(&Locks)) -> Circle {
        self.before = before;
        self
    }

    const fn suspect(mut self) -> Circle {
        self.suspect = true;
        self
    }
}

/// Around a victim that wants the lock and can have it at once.
const FREE: &[Circle] = &[
    awake("alone", |l| vec![latecomer(l)]),
    awake("barger", |l| vec![barger(l, Stop, Death)]),
    awake("owner died before", |l| vec![latecomer(l)]).after(owner_died).suspect(),
    awake("owner died before, barger", |l| vec![barger(l, Stop, Death)]).after(owner_died).suspect(),
    awake("poisoned before", |l| vec![latecomer(l)]).after(poisoned).suspect(),
    awake("few, by the hint", |l| vec![latecomer(l)]).after(few),
    awake("few, by the hint, barger", |l| vec![barger(l, Stop, Death)]).after(few),
];

/// Around a victim that cannot have it.
const HELD: &[Circle] = &[
    awake("holder, later sleeper", |l| vec![holder(l, Death), sleeper(l, Stop)]),
    awake("holder and sleeper", |l| vec![holder(l, Death), sleeper(l, Ready)]),
    awake("holder, another gave up, later sleeper", |l| {
        vec![holder(l, Death), quitter(l, Ready), sleeper(l, Stop)]
    }),
];

/// Around a victim that was asleep and is woken.
const WOKEN: &[Circle] = &[
    woken("woken", |l| vec![holder(l, Wake), latecomer(l)]),
    woken("woken, sleeper", |l| vec![holder(l, Wake), sleeper(l, Ready)]),
    woken("woken, sleeper and barger", |l| vec![holder(l, Wake), sleeper(l, Ready), barger(l, Stop, Death)]),
    woken("woken, sleeper and late barger", |l| vec![holder(l, Wake), sleeper(l, Ready), late_barger(l)]),
    woken("woken, greedy holder", |l| vec![greedy_holder(l), sleeper(l, Ready)]),
    woken("woken by a death, sleeper", |l| vec![dying_holder(l), sleeper(l, Ready)]).suspect(),
    woken("woken by a death, sleeper and barger", |l| {
        vec![dying_holder(l), sleeper(l, Ready), barger(l, Stop, Death)]
    })
    .suspect(),
    woken("woken, sleeper, few, by the hint", |l| vec![holder(l, Wake), sleeper(l, Ready)]).after(few),
    woken("woken, sleeper and barger, few, by the hint", |l| {
        vec![holder(l, Wake), sleeper(l, Ready), barger(l, Stop, Death)]
    })
    .after(few),
];

/// Around a victim that holds the lock.
const HOLDING: &[Circle] = &[
    awake("alone", |l| vec![latecomer(l)]),
    awake("barger", |l| vec![barger(l, Stop, Death)]),
    awake("sleeper", |l| vec![sleeper(l, Ready)]),
    awake("two sleepers", |l| vec![sleeper(l, Ready), sleeper(l, Ready)]),
    awake("sleeper and barger", |l| vec![sleeper(l, Ready), barger(l, Stop, Death)]),
    awake("sleeper and late barger", |l| vec![sleeper(l, Ready), late_barger(l)]),
    awake("two sleepers and barger", |l| vec![sleeper(l, Ready), sleeper(l, Ready), barger(l, Stop, Death)]),
    awake("sleeper gave up", |l| vec![quitter(l, Ready), latecomer(l)]),
    awake("sleeper gave up, later sleeper", |l| vec![quitter(l, Ready), late_barger(l), latecomer(l)]),
    awake("sleeper, few, by the hint", |l| vec![sleeper(l, Ready)]).after(few),
    awake("two sleepers and barger, few, by the hint", |l| {
        vec![sleeper(l, Ready), sleeper(l, Ready), barger(l, Stop, Death)]
    })
    .after(few),
];

/// Around a victim that holds the lock and knows that something was wrong.
const HOLDING_SUSPECT: &[Circle] = &[
    awake("owner died before", |l| vec![latecomer(l)]).after(owner_died).suspect(),
    awake("owner died before, sleeper and barger", |l| vec![sleeper(l, Ready), barger(l, Stop, Death)])
        .after(owner_died)
        .suspect(),
    awake("poisoned before, sleeper", |l| vec![sleeper(l, Ready)]).after(poisoned).suspect(),
];

/// A heir's operation: the lock, and free again. It dies on the way.
fn heir(locks: &Locks) -> Body {
    let locks = locks.clone();
    Box::new(move || lock_unlock(&locks))
}

/// A stopped sleeper's operation. It is let go, and is a survivor then.
fn stopped_sleeper(locks: &Locks) -> Body {
    let locks = locks.clone();
    Box::new(move || {
        warm(&locks);
        stepped(|| pass(&locks.lock));
    })
}

/// Behind an heir that sleeps: the victim holds the lock, or is to be woken itself.
const INHERITED: &[Circle] = &[
    awake("heir, sleeper", |l| vec![sleeper(l, Ready)]),
    awake("heir, sleeper, barger at the first death", |l| vec![sleeper(l, Ready), barger(l, Stop, Death)]),
    awake("heir, sleeper, barger at the second death", |l| {
        vec![sleeper(l, Ready), barger(l, SecondStop, SecondDeath)]
    }),
    awake("heir, sleeper, barger over both deaths", |l| {
        vec![sleeper(l, Ready), barger(l, Stop, SecondDeath)]
    }),
    awake("heir, sleeper, few, by the hint", |l| vec![sleeper(l, Ready)]).after(few),
    awake("heir, sleeper, few, by the hint, barger at the second death", |l| {
        vec![sleeper(l, Ready), barger(l, SecondStop, SecondDeath)]
    })
    .after(few),
];

const INHERITED_WOKEN: &[Circle] = &[
    woken("woken, heir, sleeper", |l| vec![holder(l, Wake), sleeper(l, Ready)]),
    woken("woken, heir, sleeper, barger at the first death", |l| {
        vec![holder(l, Wake), sleeper(l, Ready), barger(l, Stop, Death)]
    }),
    woken("woken, heir, sleeper, barger at the second death", |l| {
        vec![holder(l, Wake), sleeper(l, Ready), barger(l, SecondStop, SecondDeath)]
    }),
    woken("woken by a death, heir, sleeper", |l| vec![dying_holder(l), sleeper(l, Ready)]).suspect(),
    woken("woken, heir, sleeper, few, by the hint", |l| vec![holder(l, Wake), sleeper(l, Ready)]).after(few),
];

/// Around a sleeper that stands stopped on its way to sleep while the holder dies.
const STOPPED: &[Circle] = &[
    awake("stopped sleeper", |_| vec![]),
    awake("stopped sleeper, later sleeper and barger", |l| vec![sleeper(l, Ready), barger(l, Stop, Death)]),
    awake("stopped sleeper behind another", |l| vec![sleeper(l, Mark)]),
    awake("stopped sleeper behind another, barger", |l| vec![sleeper(l, Mark), barger(l, Stop, Death)]),
    awake("stopped sleeper, another gave up", |l| vec![quitter(l, Mark)]),
    awake("stopped sleeper, another gave up, barger", |l| vec![quitter(l, Mark), barger(l, Stop, Death)]),
    awake("stopped sleeper, few, by the hint", |_| vec![]).after(few),
    awake("stopped sleeper behind another, few, by the hint, barger", |l| {
        vec![sleeper(l, Mark), barger(l, Stop, Death)]
    })
    .after(few),
];

/// All scenarios of `Lock`.
pub fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    let mut one = |operation: &'static Operation, circles: &'static [Circle]| {
        all.extend(circles.iter().map(|circle| scenario(Kind::OneDeath, operation, circle)));
    };
    one(&LOCK, FREE);
    one(&LOCK_FIRST, const { &[awake("alone, first in its process", |l| vec![latecomer(l)])] });
    one(&LOCK_AMID, const { &[awake("two more held", |l| vec![latecomer(l), heir_of_the_others(l)])] });
    one(&LOCK, HELD);
    one(&LOCK_UNLOCK, WOKEN);
    one(&TRY_LOCK, FREE);
    one(&TRY_LOCK_REFUSED, HELD);
    one(&LOCK_TIMEOUT, FREE);
    one(&LOCK_TIMEOUT, HELD);
    one(&LOCK_TIMEOUT, WOKEN);
    one(
        &LOCK_TIMED_OUT,
        const { &[awake("too late, holder and sleeper", |l| vec![holder(l, Death), sleeper(l, Ready)])] },
    );
    one(&UNLOCK, HOLDING);
    one(&UNLOCK, HOLDING_SUSPECT);
    one(
        &UNLOCK_AMID,
        const {
            &[
                awake("two more held", |l| vec![latecomer(l), heir_of_the_others(l)]),
                awake("two more held, barger", |l| vec![barger(l, Stop, Death), heir_of_the_others(l)]),
                awake("two more held, sleeper and barger", |l| {
                    vec![sleeper(l, Ready), barger(l, Stop, Death), heir_of_the_others(l)]
                }),
            ]
        },
    );
    one(&UNLOCK_HEALED, HOLDING_SUSPECT);
    one(&UNLOCK_PANIC, HOLDING);
    all.push(region_with_a_held_lock());
    all.extend(INHERITED.iter().map(|circle| scenario(Kind::TwoDeaths, &UNLOCK, circle)));
    all.extend(INHERITED_WOKEN.iter().map(|circle| scenario(Kind::TwoDeaths, &LOCK_UNLOCK, circle)));
    all.extend(STOPPED.iter().map(|circle| scenario(Kind::StoppedSleeper, &UNLOCK, circle)));
    all
}

fn scenario(kind: Kind, operation: &'static Operation, circle: &'static Circle) -> Scenario {
    let play = move || {
        let locks = Locks::new();
        (circle.before)(&locks);
        let victim = locks.clone();
        Play {
            victim: Box::new(move || (operation.body)(&victim)),
            enters: circle.enters,
            heir: match kind {
                Kind::OneDeath => None,
                Kind::TwoDeaths => Some(heir(&locks)),
                Kind::StoppedSleeper => Some(stopped_sleeper(&locks)),
            },
            companions: (circle.companions)(&locks),
            verify: Box::new(move |end| verify(&locks.lock, news(kind, operation, circle, end))),
        }
    };
    Scenario { operation: operation.name, company: circle.name, kind, play: Box::new(play) }
}

/// A guard is forgotten, and the region of its lock dropped: an older lock must be marked all the same.
fn region_with_a_held_lock() -> Scenario {
    let play = || {
        let locks = Locks::new();
        let region = Region::anonymous(4096).expect("a region");
        let within = Lock::new_in(&region).expect("a lock in it");
        let victim = locks.clone();
        Play {
            victim: Box::new(move || {
                warm(&victim);
                forget(victim.lock.lock());
                forget(within.lock());
                stepped(|| drop((within, region)));
            }),
            enters: Enters::Awake,
            heir: None,
            companions: vec![latecomer(&locks)],
            verify: Box::new(move |_| verify(&locks.lock, Some(true))),
        }
    };
    Scenario {
        operation: "drop of a region",
        company: "a lock in it is held, and an older one",
        kind: Kind::OneDeath,
        play: Box::new(play),
    }
}

/// Whether somebody must have been told of trouble, where that is certain.
fn news(kind: Kind, operation: &Operation, circle: &Circle, end: &End) -> Option<bool> {
    match operation.told {
        _ if kind == Kind::TwoDeaths => None,
        Told::Yes if end.finished => Some(true),
        Told::No => end.finished.then_some(false),
        _ if circle.suspect => Some(true),
        Told::AsBefore if end.finished => Some(false),
        _ => None,
    }
}

/// What is left when everybody has ended.
fn verify(lock: &Lock, told: Option<bool>) -> Damage {
    let board = board();
    let left = lock.try_lock();
    let tells = matches!(left, Err(LockError::OwnerDied(_) | LockError::Poisoned(_)));
    let was_told = tells || board.deaths() + board.troubles() > 0;
    Damage {
        wedged: u64::from(left.is_err() && !tells),
        torn: board.overlaps(),
        lost: board.lost_passes() + u64::from(told.is_some_and(|told| told != was_told)),
        doubled: 0,
    }
}
