//! Models of the lock that many read under: readers and writers in every order, deaths of each, upgrades, the line.
//!
//! What is guarded lies in an `UnsafeCell`: a writer beside a reader is reported as a race, and so is a writer whose
//! changes the next does not see. A lost wake is a deadlock.

use std::{cell::Cell, sync::Arc};

use crate::{
    RwLock, RwLockError,
    primitive::{
        Acquire, Change, FutexWord, Mutant, UnsafeCell,
        model::{
            explore::{every_death, every_load, explore, fails_with, spawn},
            kernel::{Died, crash_point, die_after},
        },
    },
};

/// How far a writer that may die has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Outside,
    Inside,
    Leaving,
}

/// Two numbers that are equal but inside a writer's section.
struct Pair {
    lock: RwLock,
    numbers: UnsafeCell<[u32; 2]>,
    victim: Cell<Progress>,
}

// SAFETY: loom checks every access to the numbers; `victim` is the model's own, and loom runs on one thread.
unsafe impl Sync for Pair {}
// SAFETY: nothing in it belongs to a thread.
unsafe impl Send for Pair {}

/// The guard, whatever the lock has to say, and whether that was a death.
fn guard<G>(taken: Result<G, RwLockError<G>>) -> (G, usize) {
    match taken {
        Ok(guard) => (guard, 0),
        Err(RwLockError::OwnerDied(guard)) => (guard, 1),
        Err(other) => panic!("{other:?}"),
    }
}

impl Pair {
    fn new(readers: usize) -> Arc<Pair> {
        Arc::new(Pair {
            lock: RwLock::with_readers(readers).expect("a lock"),
            numbers: UnsafeCell::new([0; 2]),
            victim: Cell::new(Progress::Outside),
        })
    }

    fn look(&self, told: usize) {
        // SAFETY: loom panics if anybody changes them.
        let numbers = self.numbers.with(|numbers| unsafe { *numbers });
        assert!(told > 0 || numbers[0] == numbers[1], "half-changed, and nobody says so");
    }

    fn change(&self, told: usize) {
        self.look(told);
        // SAFETY: loom panics if anybody else is at them.
        self.numbers.with_mut(|numbers| unsafe { (*numbers)[0] += 1 });
        crash_point();
        // SAFETY: as above.
        self.numbers.with_mut(|numbers| unsafe { (*numbers)[1] = (*numbers)[0] });
    }

    /// Says whether it was told of a death.
    fn read(&self) -> usize {
        let (guard, told) = guard(self.lock.read());
        self.look(told);
        drop(guard);
        told
    }

    fn write(&self) -> usize {
        let (mut guard, told) = guard(self.lock.write());
        self.change(told);
        guard.make_consistent();
        drop(guard);
        told
    }

    /// A writer that notes how far it has come.
    fn write_as_victim(&self) {
        let (mut guard, told) = guard(self.lock.write());
        self.victim.set(Progress::Inside);
        self.change(told);
        guard.make_consistent();
        self.victim.set(Progress::Leaving);
        drop(guard);
        self.victim.set(Progress::Outside);
    }

    /// Upgrades and writes.
    fn upgrade(&self) -> usize {
        let (mut upgradable, told) = guard(self.lock.upgradable_read());
        self.look(told);
        let (mut writing, told_again) = guard(upgradable.upgrade());
        assert_eq!(told, told_again);
        self.change(told);
        writing.make_consistent();
        drop(writing);
        self.look(0);
        told
    }

    /// When all is over: the lock works, all shares are there, and who died changing is told of, once it is healed no
    /// more.
    fn verify(&self, fate: Result<(), Died>, told: usize) {
        let all = (0..2).map(|_| guard(self.lock.try_read())).collect::<Vec<_>>();
        let seen = all.iter().map(|(_, told)| told).sum::<usize>();
        assert!(matches!(self.lock.try_read(), Err(RwLockError::TooManyReaders { limit: 2 })));
        drop(all);
        let told = told + seen / 2 + usize::from(seen == 0 && self.write() > 0);
        match (fate, self.victim.get()) {
            (Err(_), Progress::Inside) => assert!(told > 0, "died inside, and nobody says so"),
            (Err(Died { marked }), _) => assert!(told == 0 || marked > 0),
            (Ok(()), _) => assert_eq!(told, 0, "told of a death that was none"),
        }
        self.write();
        assert_eq!(self.write() + self.read(), 0);
    }
}

/// A thread that does `turn` with the pair.
fn run<T: 'static>(
    pair: &Arc<Pair>,
    turn: impl FnOnce(&Pair) -> T + 'static,
) -> crate::primitive::model::explore::Joiner<T> {
    let pair = pair.clone();
    spawn(move || turn(&pair))
}

/// Everybody has a turn, the calling thread at last.
fn turns(others: &[fn(&Pair) -> usize], own: fn(&Pair) -> usize) {
    let pair = Pair::new(2);
    let others: Vec<_> = others.iter().map(|&turn| run(&pair, turn)).collect();
    let mut told = own(&pair);
    others.into_iter().for_each(|other| told += other.join());
    pair.verify(Ok(()), told);
}

/// A victim with `fuel` has its turn in company.
fn victim_in_company(fuel: usize, victim: fn(&Pair), others: &[fn(&Pair) -> usize], own: fn(&Pair) -> usize) {
    let pair = Pair::new(2);
    let victim = run(&pair, move |pair| die_after(fuel, || victim(pair)));
    let others: Vec<_> = others.iter().map(|&turn| run(&pair, turn)).collect();
    let mut told = own(&pair);
    others.into_iter().for_each(|other| told += other.join());
    pair.verify(victim.join(), told);
}

fn reading(pair: &Pair) {
    pair.read();
}

fn upgrading(pair: &Pair) {
    pair.upgrade();
}

/// A writer, then a reader.
fn downgrade(pair: &Pair) -> usize {
    let (mut writing, told) = guard(pair.lock.write());
    pair.change(told);
    writing.make_consistent();
    let reading = writing.downgrade();
    pair.look(0);
    drop(reading);
    told
}

#[test]
fn a_reader_and_a_writer_take_turns() {
    explore("reader, writer", 4, || turns(&[Pair::read], Pair::write));
    explore("reader, writer who writes twice", 2, || {
        turns(&[Pair::read], |pair| pair.write() + pair.write())
    });
    explore("writer, writer", 3, || turns(&[Pair::write], Pair::write));
}

#[test]
fn a_reader_and_a_writer_take_turns_whatever_they_load() {
    every_load(|| explore("reader, writer, every load", 2, || turns(&[Pair::read], Pair::write)));
}

#[test]
fn two_readers_and_a_writer_take_turns() {
    explore("two readers, writer", 1, || turns(&[Pair::read, Pair::read], Pair::write));
}

#[test]
fn a_writer_that_dies_holds_nobody_up() {
    every_death("dying writer, reader", 3, |fuel| {
        victim_in_company(fuel, Pair::write_as_victim, &[], Pair::read);
    });
    every_death("dying writer, writer", 2, |fuel| {
        victim_in_company(fuel, Pair::write_as_victim, &[], Pair::write);
    });
    every_death("dying writer, reader, reader", 1, |fuel| {
        victim_in_company(fuel, Pair::write_as_victim, &[Pair::read], Pair::read);
    });
}

#[test]
fn a_reader_that_dies_holds_nobody_up() {
    every_death("dying reader, writer", 2, |fuel| victim_in_company(fuel, reading, &[], Pair::write));
    every_death("dying reader, reader", 2, |fuel| victim_in_company(fuel, reading, &[], Pair::read));
}

#[test]
fn an_upgrade_lets_no_writer_in_between() {
    explore("upgrader, writer", 3, || turns(&[Pair::upgrade], Pair::write));
    explore("upgrader, reader", 3, || turns(&[Pair::upgrade], Pair::read));
    explore("downgrader, writer", 3, || turns(&[downgrade], Pair::write));
    explore("downgrader, reader", 3, || turns(&[downgrade], Pair::read));
    every_death("dying upgrader, reader", 2, |fuel| victim_in_company(fuel, upgrading, &[], Pair::read));
}

/// An upgradable guard is held until a reader has been through, though that may have been turned back meanwhile.
fn holder_waits_for_reader(upgrades: bool) {
    let pair = Pair::new(2);
    let done = Arc::new(FutexWord::new(0));
    let reader = run(&pair, {
        let done = done.clone();
        move |pair| {
            pair.read();
            done.change_and_wake(Change::SetBit(1), 1);
        }
    });
    if !upgrades {
        pair.write();
    }
    let (mut upgradable, _) = guard(pair.lock.upgradable_read());
    if upgrades {
        let (writing, _) = guard(upgradable.upgrade());
        pair.change(0);
        drop(writing);
    }
    while done.load(Acquire) == 0 {
        done.wait(0, None);
    }
    drop(upgradable);
    reader.join();
    pair.verify(Ok(()), 0);
}

#[test]
fn readers_in_line_go_on_while_a_guard_is_upgradable() {
    explore("an upgraded guard, a reader in line", 3, || holder_waits_for_reader(true));
    explore("an upgradable guard, a reader in line", 3, || holder_waits_for_reader(false));
}

/// A reader and a writer wait in line; the reader, woken, finds the flag open.
fn line_of_two() {
    let pair = Pair::new(2);
    let (guard, _) = guard(pair.lock.write());
    let others = [run(&pair, Pair::read), run(&pair, Pair::write)];
    drop(guard);
    others.into_iter().for_each(|other| assert_eq!(other.join(), 0));
    pair.verify(Ok(()), 0);
}

#[test]
fn who_leaves_the_line_takes_no_wake_with_it() {
    explore("reader and writer in line", 2, line_of_two);
}

#[test]
fn a_slot_is_one_threads_and_all_come_back() {
    every_death("dying reader and another, two slots", 3, |fuel| {
        let pair = Pair::new(2);
        let victim = run(&pair, move |pair| die_after(fuel, || drop(pair.lock.try_read().expect("a share"))));
        drop(pair.lock.try_read().expect("there are two"));
        pair.verify(victim.join(), 0);
    });
    explore("three readers, two slots", 1, || {
        let pair = Pair::new(2);
        let others = [(); 2].map(|()| run(&pair, |pair| drop(pair.lock.try_read())));
        // Without a writer, who is refused has seen two others at it.
        drop(pair.lock.try_read());
        others.into_iter().for_each(|other| other.join());
        pair.verify(Ok(()), 0);
    });
}

#[test]
fn a_failed_try_leaves_everything_open() {
    explore("a reader, a writer that tries", 3, || {
        let pair = Pair::new(2);
        let reader = run(&pair, Pair::read);
        match pair.lock.try_write() {
            Ok(_) | Err(RwLockError::WouldBlock) => {}
            Err(other) => panic!("{other:?}"),
        }
        reader.join();
        pair.verify(Ok(()), 0);
    });
}

mod mutants {
    //! Each known fault, put back in, must be seen.

    use super::*;
    use crate::primitive::model::explore::Said;

    /// Whatever loom says of two that are at the numbers at once, or of one that does not see what another did.
    fn is_race(said: &Said) -> bool {
        ["Causality violation", "half-changed", "a death that was none"].iter().any(|&how| said.contains(how))
    }

    #[test]
    fn writer_that_is_not_seen_is_a_race() {
        let said = fails_with(Mutant::WriterUnseen, || explore("", 4, || turns(&[Pair::read], Pair::write)));
        assert!(is_race(&said), "{said}");
    }

    #[test]
    fn claim_without_the_one_order_is_a_race() {
        let said = fails_with(Mutant::RelaxedClaim, || explore("", 4, || turns(&[Pair::read], Pair::write)));
        assert!(is_race(&said), "{said}");
    }

    #[test]
    fn slots_counted_too_early_are_a_race() {
        let said =
            fails_with(Mutant::SlotsBeforeShut, || explore("", 4, || turns(&[Pair::read], Pair::write)));
        assert!(is_race(&said), "{said}");
    }

    #[test]
    fn unnoted_change_is_not_told_of() {
        let said = fails_with(Mutant::ChangeUnnoted, || {
            every_death("", 3, |fuel| victim_in_company(fuel, Pair::write_as_victim, &[], Pair::read));
        });
        assert!(said.contains("nobody says so"), "{said}");
    }

    #[test]
    fn writer_let_in_too_early_is_a_race() {
        let said = fails_with(Mutant::FreeBeforeOpen, || {
            explore("", 3, || turns(&[Pair::write, Pair::read], Pair::write));
        });
        assert!(is_race(&said), "{said}");
    }

    #[test]
    fn unannounced_writer_sleeps_on() {
        let said =
            fails_with(Mutant::WriterUnannounced, || explore("", 4, || turns(&[Pair::read], Pair::write)));
        assert!(said.contains("deadlock"), "{said}");
    }

    #[test]
    fn line_that_is_not_roused_sleeps_on() {
        for upgrades in [true, false] {
            let said = fails_with(Mutant::LineStaysAsleep, || {
                explore("", 3, move || holder_waits_for_reader(upgrades))
            });
            assert!(said.contains("deadlock"), "{said}");
        }
    }

    #[test]
    fn leaver_that_keeps_a_wake_leaves_the_next_asleep() {
        let said = fails_with(Mutant::LeaverKeepsWake, || explore("", 3, line_of_two));
        assert!(said.contains("deadlock"), "{said}");
    }
}

#[test]
fn mutant_line_unfenced_is_seen() {
    fails_with(Mutant::LineUnfenced, || {
        explore("", 3, || holder_waits_for_reader(true));
        explore("", 3, || holder_waits_for_reader(false));
    });
}

#[cfg(feature = "shuttle")]
mod crowd {
    //! Eight threads, any of which may die.

    use super::*;
    use crate::primitive::model::explore::crowds::{CROWD, crowd, mortal};

    #[test]
    fn a_crowd_of_mortals_reads_and_writes() {
        crowd("read-write locks: eight who read, write, upgrade, downgrade", || {
            const TURNS: [fn(&Pair) -> usize; 4] = [Pair::read, Pair::write, Pair::upgrade, downgrade];
            let pair = Pair::new(CROWD);
            let others: Vec<_> = (0..CROWD - 1)
                .map(|index| {
                    let pair = pair.clone();
                    mortal(80, move || TURNS[index % 4](&pair) + TURNS[index / 2](&pair))
                })
                .collect();
            let mut told = pair.write();
            let mut marked = 0;
            for other in others {
                match other.join() {
                    Ok(count) => told += count,
                    Err(died) => marked += died.marked,
                }
            }
            told += pair.write();
            assert!(told == 0 || marked > 0, "told of a death that was none");
            assert_eq!(pair.write() + pair.read(), 0);
            // Nobody's share is gone.
            let all: Vec<_> = (0..CROWD).map(|_| guard(pair.lock.try_read())).collect();
            assert!(matches!(pair.lock.try_read(), Err(RwLockError::TooManyReaders { limit: CROWD })));
            drop(all);
        });
    }
}
