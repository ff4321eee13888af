//! Models of a value's commit: readers beside writers, and writers that die.

use crate::{
    primitive::{
        Mutant,
        model::{
            explore::{every_death, every_load, explore, fails_with, spawn},
            kernel::die_after,
        },
    },
    value::Value,
};

/// Two numbers that are equal in every value that was ever committed.
fn pair() -> Value<[u64; 2]> {
    Value::new([0, 0]).unwrap()
}

fn bump(value: &Value<[u64; 2]>) {
    value.update(|pair| *pair = pair.map(|n| n + 1));
}

fn read(value: &Value<[u64; 2]>) -> u64 {
    let [a, b] = value.get();
    assert_eq!(a, b, "torn");
    a
}

/// Somebody reads while another commits twice: both copies are written once.
fn reader_beside_a_writer() {
    let value = pair();
    let writer = spawn({
        let value = value.clone();
        move || {
            bump(&value);
            bump(&value);
        }
    });
    let first = read(&value);
    assert!(first <= read(&value), "went back");
    writer.join();
    assert_eq!(read(&value), 2);
}

/// A writer dies after `fuel` steps beside a reader; the next writer goes on from the old value or from the new one.
fn writer_dies(fuel: usize) {
    let value = pair();
    let victim = spawn({
        let value = value.clone();
        move || die_after(fuel, || bump(&value))
    });
    let reader = spawn({
        let value = value.clone();
        move || read(&value)
    });
    let survived = victim.join().is_ok();
    let left = read(&value);
    assert!(left == 1 || (left == 0 && !survived));
    bump(&value);
    assert_eq!(read(&value), left + 1);
    assert!(reader.join() <= left + 1);
}

#[test]
fn a_reader_never_sees_a_mixture() {
    every_load(|| explore("reader beside two commits", 4, reader_beside_a_writer));
}

#[test]
fn a_writer_that_dies_leaves_the_old_value_or_the_new_one() {
    every_load(|| every_death("writer, reader, next writer", 2, writer_dies));
}

#[test]
fn mutant_version_before_bytes_is_seen() {
    fails_with(Mutant::VersionBeforeBytes, || every_load(|| explore("", 3, reader_beside_a_writer)));
}

#[test]
fn mutant_relaxed_commit_is_seen() {
    fails_with(Mutant::RelaxedCommit, || every_load(|| explore("", 3, reader_beside_a_writer)));
}

#[test]
fn mutants_without_a_fence_are_seen() {
    for fault in [Mutant::ReaderUnfenced, Mutant::WriterUnfenced] {
        fails_with(fault, || every_load(|| explore("", 3, reader_beside_a_writer)));
    }
}

#[cfg(feature = "shuttle")]
mod crowd {
    //! Eight threads, any writer of which may die.

    use super::*;
    use crate::primitive::model::explore::crowds::{crowd, mortal};

    #[test]
    fn a_crowd_of_mortals_counts() {
        crowd("values: five who count twice, three who read", || {
            let value = pair();
            let writers = [(); 5].map(|()| {
                let value = value.clone();
                mortal(60, move || {
                    bump(&value);
                    bump(&value);
                })
            });
            let readers = [(); 2].map(|()| {
                let value = value.clone();
                spawn(move || assert!(read(&value) <= read(&value), "went back"))
            });
            read(&value);
            let fates = writers.map(|writer| writer.join());
            let survivors = fates.iter().filter(|fate| fate.is_ok()).count() as u64;
            readers.into_iter().for_each(|reader| reader.join());
            bump(&value);
            let counted = read(&value) - 1;
            assert!((survivors * 2..=10).contains(&counted), "{counted} by {survivors} survivors");
        });
    }
}
