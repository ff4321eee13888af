//! Models of `OnceValue` (and with it of `Once`): racing initialisers, and ones that die.

use crate::{
    primitive::{
        Mutant,
        model::{
            explore::{every_death, every_load, explore, fails_with, spawn},
            kernel::die_after,
        },
    },
    sync::OnceValue,
};

type Pair = OnceValue<[u64; 2]>;

fn make(pair: &Pair, number: u64) -> u64 {
    let [first, second] = pair.get_or_init(|| [number, number]).expect("nobody is at it for ever");
    assert_eq!(first, second, "torn");
    first
}

fn look(pair: &Pair) -> Option<u64> {
    pair.get().map(|[first, second]| {
        assert_eq!(first, second, "torn");
        first
    })
}

/// A victim with `fuel` makes the value, as others do; all who return have the same.
fn makers(fuel: usize, others: u64) {
    let pair = Pair::new().unwrap();
    let victim = spawn({
        let pair = pair.clone();
        move || die_after(fuel, || make(&pair, 100))
    });
    let others: Vec<_> = (1..others)
        .map(|number| {
            let pair = pair.clone();
            spawn(move || make(&pair, number))
        })
        .collect();
    let seen = look(&pair);
    let made = make(&pair, 0);
    assert!(seen.is_none_or(|seen| seen == made));
    for other in others {
        assert_eq!(other.join(), made);
    }
    if let Ok(victims) = victim.join() {
        assert_eq!(victims, made);
    }
    assert_eq!(look(&pair), Some(made));
}

/// Somebody looks without waiting while another makes it.
fn onlooker() {
    let pair = Pair::new().unwrap();
    let maker = spawn({
        let pair = pair.clone();
        move || make(&pair, 7)
    });
    assert!(matches!(look(&pair), None | Some(7)));
    maker.join();
}

#[test]
fn racing_initialisers_agree() {
    explore("three makers", 2, || makers(usize::MAX, 2));
    every_load(|| explore("a maker and an onlooker", 4, onlooker));
}

#[test]
fn an_initialiser_that_dies_is_followed_by_another() {
    every_death("victim and another", 4, |fuel| makers(fuel, 1));
    every_death("victim and two others", 1, |fuel| makers(fuel, 2));
}

#[test]
fn mutant_done_before_done_is_seen() {
    fails_with(Mutant::DoneBeforeDone, || every_load(|| explore("", 4, onlooker)));
}

#[test]
fn mutant_relaxed_done_is_seen() {
    let said = fails_with(Mutant::RelaxedDone, || every_load(|| explore("", 4, onlooker)));
    assert!(said.contains("Causality violation"), "{said}");
}

#[cfg(feature = "shuttle")]
mod crowd {
    //! Eight threads, one of which may die.

    use super::*;
    use crate::primitive::model::explore::crowds::{CROWD, crowd, draw_fuel};

    #[test]
    fn a_crowd_agrees() {
        crowd("once: eight makers", || makers(draw_fuel(2, 60), CROWD as u64 - 1));
    }
}
