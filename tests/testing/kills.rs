//! The exact-kill harness itself: it finds what is wrong, says where, and passes what is right.

#[path = "../../examples/crash_your_own/accounts.rs"]
mod accounts;
#[path = "../support/mod.rs"]
mod support;

use std::{process::ExitCode, sync::atomic::Ordering::Relaxed};

use pshared::{
    Atomic, Event, Lock,
    testing::{
        Check, Damage, Effort, Fault, Moment::*, Report, Storm, Until::*, board, pause, scenario::Scenario,
    },
};
use support::tests;

pub fn main() -> ExitCode {
    let all = tests![
        a_torn_pair_is_found_and_its_line_named,
        a_lock_that_nobody_frees_is_found,
        a_lost_wake_is_found_and_the_word_named,
        a_hoarder_is_named_with_the_word_that_he_holds,
        what_is_right_passes,
        a_second_death_is_needed_for_some_faults,
        a_stopped_one_sees_what_a_sleeper_does_not,
        the_woken_one_is_killed_on_its_way,
        points_behind_writes_are_fewer_and_enough,
        the_same_seed_makes_the_same_trials,
        an_invariant_that_panics_is_damage,
        a_storm_finds_a_lock_that_nobody_frees,
        a_storm_passes_what_is_right,
        a_setup_that_panics_is_an_error,
        many_runs_leave_nothing_behind,
        the_example_finds_its_fault_and_passes_the_mended_form,
    ];
    let needs: Vec<_> = all.iter().map(|&(name, _)| (name, needs_ptrace as support::Need)).collect();
    support::main_where(all, &needs)
}

/// Without leave to trace nothing can be shown.
fn needs_ptrace() -> Result<(), String> {
    pshared::testing::trace::allowed().map_err(|error| format!("needs leave to trace children: {error}"))
}

/// Two counters that should be equal.
struct Pair {
    one: Atomic<u64>,
    other: Atomic<u64>,
    lock: Lock,
}

impl Pair {
    fn new() -> Pair {
        let number = || Atomic::new(0).expect("memory");
        Pair { one: number(), other: number(), lock: Lock::new().expect("memory") }
    }

    /// As it should not be.
    fn raise(&self) {
        self.one.fetch_add(1);
        self.other.fetch_add(1);
    }
}

const RAISED: u32 = line!() - 3;

fn differ(pair: &Pair) -> Damage {
    Damage { torn: u64::from(pair.one.get() != pair.other.get()), ..Damage::default() }
}

fn torn_pair() -> Check<Pair> {
    Check::new("Pair::raise", Pair::new, Pair::raise).invariant(|pair, _| differ(pair))
}

/// The lines of this file at which victims died.
fn lines(faults: &[Fault]) -> Vec<u32> {
    let sites = faults.iter().filter_map(|fault| fault.died_at.as_ref());
    let numbers = sites.filter_map(|site| site.line.split_once("tests/testing/kills.rs:")?.1.parse().ok());
    numbers.collect()
}

fn first(report: &Report) -> &Fault {
    report.faults.first().unwrap_or_else(|| panic!("nothing was found: {report}"))
}

fn until_found() -> Effort {
    Effort { hunting: true, ..Effort::default() }
}

fn a_torn_pair_is_found_and_its_line_named() {
    let report = torn_pair().run(Effort::default()).expect("a run");
    assert!(report.kills > report.damage.torn && report.damage.torn > 0, "{report}");
    assert_eq!(report.damage.wedged + report.damage.lost + report.damage.doubled, 0, "{report}");
    assert!(report.faults.iter().all(|fault| fault.damage.torn == 1 && fault.stuck.is_empty()));
    // Between the two: in the first addition, behind its exchange, or in the second, or on the way.
    assert!(report.faults.iter().any(|fault| fault.died_at.as_ref().is_some_and(|at| !at.module.is_empty())));
    let text = report.to_string();
    let named = lines(&report.faults).iter().any(|line| (RAISED - 1..=RAISED).contains(line));
    assert!(named || text.contains("src/value/atomic.rs:"), "{text}");
}

/// A lock of one's own that no death frees.
struct Flag(Atomic<u32>);

impl Flag {
    fn new() -> Flag {
        Flag(Atomic::new(0).expect("memory"))
    }

    fn pass(&self) {
        while self.0.compare_exchange(0, 1).is_err() {
            std::hint::spin_loop();
        }
        self.0.set(0);
    }
}

fn a_lock_that_nobody_frees_is_found() {
    let check =
        Check::new("Flag::pass", Flag::new, Flag::pass).companion("second", [(Death, Nothing)], Flag::pass);
    let report = check.run(until_found()).expect("a run");
    let fault = first(&report);
    assert_eq!(fault.damage, Damage { wedged: 1, ..Damage::default() }, "{report}");
    let stuck = fault.stuck.iter().find(|stuck| stuck.who == "second").expect("it is named");
    assert_eq!((stuck.state, stuck.words.len()), ('R', 0), "{report}");
    assert!(stuck.at.as_ref().is_some_and(|at| at.line.contains(".rs:")), "{report}");
}

/// A flag, and an event that is set a step later.
struct News {
    flag: Atomic<u32>,
    event: Event,
}

impl News {
    fn new() -> News {
        News { flag: Atomic::new(0).expect("memory"), event: Event::new().expect("memory") }
    }

    fn tell(&self) {
        if self.flag.swap(1) == 0 {
            self.event.set();
        }
    }
}

fn set(event: &Event) {
    event.set();
}

fn a_lost_wake_is_found_and_the_word_named() {
    let check = Check::new("News::tell", News::new, News::tell)
        .companion("sleeper", [(Ready, Asleep)], |news| news.event.wait())
        .companion("another", [(Ready, Asleep)], |news| news.event.wait())
        .companion("late", [(Death, Nothing)], News::tell)
        .shows(|news| format!("{:?}", news.event));
    let report = check.run(until_found()).expect("a run");
    let fault = first(&report);
    assert_eq!(fault.damage.wedged, 1, "{report}");
    let stuck = fault.stuck.iter().find(|stuck| stuck.who == "sleeper").expect("it is named");
    assert_eq!((stuck.state, stuck.words.len()), ('S', 1), "{report}");
    let word = &stuck.words[0];
    assert_eq!(word.waiters, ["sleeper", "another"], "{report}");
    assert!(fault.note.contains("Event {"), "{report}");
    assert!(word.mapping.starts_with("/memfd:pshared"), "{report}");
    assert!(word.object.starts_with("pshared::sync::"), "{report}");
    assert_eq!((word.holder, word.holder_is.as_str()), (None, ""), "{report}");
    assert!(stuck.at.as_ref().is_some_and(|at| at.line.contains("src/")), "{report}");
}

fn a_hoarder_is_named_with_the_word_that_he_holds() {
    let check = Check::new("nothing", Pair::new, |pair| assert_eq!(pair.one.get(), 0))
        .companion("hoarder", [(Opening, Paused)], |pair| {
            let _held = pair.lock.lock();
            pause(); // and nobody lets him go
        })
        .companion("second", [(Ready, Asleep)], |pair| drop(pair.lock.lock()))
        .companion("third", [(Death, Asleep)], |pair| drop(pair.lock.lock()));
    let report = check.run(until_found()).expect("a run");
    let fault = first(&report);
    assert_eq!(fault.damage, Damage { wedged: 1, ..Damage::default() }, "{report}");
    let stuck = |who| fault.stuck.iter().find(|stuck| stuck.who == who).expect("it is named");
    let (hoarder, second) = (stuck("hoarder"), stuck("second"));
    assert_eq!((hoarder.state, hoarder.words.len()), ('T', 0), "{report}");
    let word = &second.words[0];
    assert_eq!((word.holder, word.holder_is.as_str()), (Some((hoarder.pid, true)), "hoarder"), "{report}");
    assert_eq!(word.waiters, ["second", "third"], "{report}");
    let offset = word.mapping.strip_prefix("/memfd:pshared").and_then(|rest| rest.split_once("+0x"));
    let offset = offset.and_then(|(_, offset)| usize::from_str_radix(offset, 16).ok());
    // Behind the region's header.
    assert!(offset.is_some_and(|offset| offset >= 128), "{report}");
    assert!(word.object.starts_with("pshared::sync::") && word.object.contains("Lock"), "{report}");
    let said = report.to_string();
    let holder = format!("held with WAITERS by TID {}, the hoarder (alive)", hoarder.pid);
    assert!(said.contains(&word.mapping) && said.contains(&word.object) && said.contains(&holder), "{said}");
}

fn locked(pair: &Pair) {
    let guard = pair.lock.lock();
    if guard.is_err() {
        // Somebody died within: the smaller one is right.
        let least = pair.one.get().min(pair.other.get());
        pair.one.set(least);
        pair.other.set(least);
    }
    pair.raise();
    let healed = guard.or_else(|error| error.into_guard().ok_or(()));
    healed.map(|mut guard| guard.make_consistent()).expect("the lock");
}

fn what_is_right_passes() {
    let check = Check::new("locked raise", Pair::new, locked)
        .before(|pair| drop(pair.lock.lock()))
        .companion("barger", [(Stop, Nothing)], locked)
        .companion("late", [(Death, Nothing)], locked)
        .invariant(|pair, _| differ(pair));
    let report = check.run(Effort { most: 150, ..Effort::default() }).expect("a run");
    report.assert_sound();
    assert!(report.kills >= 100, "{report}");
    assert!(report.faults.is_empty());
}

/// Its heir passes a permit on in two steps.
fn heirs(pass_on: fn(&(Lock, Event, Event))) -> Check<(Lock, Event, Event)> {
    let make =
        || (Lock::new().expect("memory"), Event::new().expect("memory"), Event::new().expect("memory"));
    Check::new("set", make, |(_, first, _)| set(first))
        .before(|(_, _, second)| assert!(!second.is_set()))
        .heir(pass_on)
        .companion("last", [(Ready, Asleep)], |(_, _, second)| second.wait())
        .companion("setter", [(Death, Ended)], |(_, first, _)| set(first))
        .companion("late", [(SecondDeath, Nothing)], |(lock, first, second)| {
            let _guard = lock.lock();
            // Whoever is told passes on; if the first event is still set, he has not.
            if first.is_set() {
                second.set();
            }
        })
}

fn a_second_death_is_needed_for_some_faults() {
    // It clears the news before it has passed it on.
    let careless = heirs(|(lock, first, second)| {
        first.wait();
        let _guard = lock.lock();
        first.clear();
        second.set();
    });
    let careful = heirs(|(lock, first, second)| {
        first.wait();
        let _guard = lock.lock();
        second.set();
        first.clear();
    });
    let report = careless.run(Effort { pairs: 400, ..until_found() }).expect("a run");
    let fault = first(&report);
    assert!(fault.damage.wedged == 1 && fault.heir_point > 0 && fault.heir_died_at.is_some(), "{report}");
    assert!(fault.stuck.iter().any(|stuck| stuck.who == "last"), "{report}");
    let report = careful.run(Effort { pairs: 20, ..Effort::default() }).expect("a run");
    report.assert_sound();
    assert_eq!(report.kills, 40, "two of each pair die");
}

fn a_stopped_one_sees_what_a_sleeper_does_not() {
    let check = Check::new("Event::set", News::new, |news| set(&news.event))
        .stopped(|news| news.event.wait())
        .companion("late", [(Death, Ended)], |news| set(&news.event));
    let report = check.run(Effort { pairs: 20, ..Effort::default() }).expect("a run");
    report.assert_sound();
    assert_eq!(report.kills, 20);
}

fn the_woken_one_is_killed_on_its_way() {
    let check = Check::new("Event::wait", News::new, |news| news.event.wait())
        .woken()
        .companion("waker", [(Wake, Ended)], |news| set(&news.event))
        .companion("late", [(Death, Ended)], |news| news.event.wait());
    let report = check.run(Effort::default()).expect("a run");
    report.assert_sound();
    assert!(report.points > 10, "{report}");
}

fn points_behind_writes_are_fewer_and_enough() {
    let all = torn_pair().run(Effort::default()).expect("a run");
    let few = torn_pair().run(Effort { writes_only: true, ..Effort::default() }).expect("a run");
    assert!(few.kills < all.kills / 3, "{few}\n{all}");
    assert!(few.damage.torn >= 1 && few.damage.torn < all.damage.torn, "{few}\n{all}");
    // A plain store is a write as well.
    let stores = Check::new("two stores", board::board, |board| {
        board.cells[0].store(1, Relaxed);
        board.cells[1].store(1, Relaxed);
    })
    .invariant(|_, _| Damage { torn: board::count(0).abs_diff(board::count(1)), ..Damage::default() });
    let few = stores.run(Effort { writes_only: true, ..Effort::default() }).expect("a run");
    assert_eq!(few.damage.torn, 1, "{few}");
}

fn the_same_seed_makes_the_same_trials() {
    let run = |seed| {
        let check = Check::new("Event::set", News::new, |news| set(&news.event))
            .heir(|news| news.event.wait())
            .companion("setter", [(Death, Ended)], |news| set(&news.event))
            .invariant(|_, _| Damage { lost: 1, ..Damage::default() });
        check.run(Effort { pairs: 20, seed, ..Effort::default() }).expect("a run")
    };
    let figures = |report: &Report| -> (u64, Vec<_>) {
        (report.kills, report.faults.iter().map(|fault| (fault.point, fault.heir_point)).collect())
    };
    let (one, again, other) = (run(7), run(7), run(8));
    assert_eq!(figures(&one), figures(&again));
    assert_ne!(figures(&one), figures(&other));
    assert_eq!((one.kills, one.damage.lost), (40, 20));
    let points = |report: &Report| (report.kills, report.points, report.damage);
    let torn = || points(&torn_pair().run(Effort::default()).expect("a run"));
    assert_eq!(torn(), torn());
}

fn an_invariant_that_panics_is_damage() {
    let check = torn_pair().invariant(|pair, _| {
        assert_eq!(pair.one.get(), pair.other.get(), "they differ");
        Damage::default()
    });
    let report = check.run(until_found()).expect("a run");
    assert_eq!(first(&report).damage.torn, 1, "{report}");
    assert!(first(&report).note.contains("they differ"), "{report}");
}

fn a_storm_finds_a_lock_that_nobody_frees() {
    let check = Check::new("Flag::pass", Flag::new, |flag| {
        while flag.0.compare_exchange(0, 1).is_err() {
            std::thread::yield_now();
        }
        (0..2000).for_each(|_| std::hint::spin_loop());
        flag.0.set(0);
    });
    let report = check.storm(Storm { kills: 10_000, ..Storm::default() }).expect("a storm");
    assert_eq!(report.damage, Damage { wedged: 1, ..Damage::default() }, "{report}");
    assert!(first(&report).stuck.iter().filter(|stuck| stuck.who == "worker").count() >= 2, "{report}");
}

fn a_storm_passes_what_is_right() {
    let check = Check::new("locked raise", Pair::new, locked).invariant(|pair, _| {
        // The last to die may have left them unequal; the next holder sees to it.
        locked(pair);
        differ(pair)
    });
    let report = check.storm(Storm { kills: 200, ..Storm::default() }).expect("a storm");
    report.assert_sound();
    assert_eq!(report.kills, 200);
}

fn a_setup_that_panics_is_an_error() {
    let check = Check::new("nothing", || panic!("on purpose"), |_: &()| ());
    let error = check.run(Effort::default()).expect_err("there is no state");
    assert!(error.to_string().contains("the harness ended"), "{error}");
}

fn many_runs_leave_nothing_behind() {
    let before = support::descriptors();
    for _ in 0..5 {
        let check = torn_pair().companion("paused", [(Mark, Paused), (Death, Ended)], |_| pause());
        check.run(Effort { most: 3, ..Effort::default() }).expect("a run");
    }
    // Children that are left, the harness of this test sees.
    assert_eq!(support::descriptors(), before);
    let scenario: Scenario = torn_pair().scenario();
    assert_eq!(scenario.name(), "Pair::raise: ");
}

fn the_example_finds_its_fault_and_passes_the_mended_form() {
    let [hoping, mending] = accounts::both().expect("a run");
    assert!(hoping.damage.torn > 0 && hoping.damage.wedged == 0, "{hoping}");
    mending.assert_sound();
}
