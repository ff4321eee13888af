//! Models of the board: workers that die wherever they are, a parent that sleeps until all is settled.
//!
//! A task's number lies in its argument, and its answer in its result: one that is read too early is the wrong one. A
//! lost wake is a deadlock. The supervisor is the model's main thread, which knows of a death when the dead one was
//! joined, as a process knows by waitid(2).

use std::sync::Arc;

use crate::{
    pool::{
        board::{Board, Orders, Run},
        word::{Form, State, Word},
    },
    primitive::{
        Mutant, Relaxed,
        model::{
            explore::{every_death, explore, fails_with, spawn},
            kernel::die_after,
        },
    },
    region::Region,
};

fn board(slots: usize, workers: usize) -> Arc<Board> {
    let region = Region::anonymous(1 << 20).expect("a model's region");
    Arc::new(Board::new_in(&region, slots, workers, 8).expect("a model's region is large"))
}

/// Gives the board tasks with these numbers.
fn give(board: &Board, tasks: &[(usize, u64)]) {
    for &(slot, number) in tasks {
        board.arguments.at(slot).store(number, Relaxed);
        board.put(slot, Word::ready(Form::Cell, false));
    }
    let slots: Vec<usize> = tasks.iter().map(|&(slot, _)| slot).collect();
    board.publish(&slots);
}

/// Does tasks until the board is closed, or so many.
fn work(board: &Board, worker: usize, most: usize) -> usize {
    let mut run = Run::default();
    let mut done = 0;
    while done < most {
        let Some((slot, word)) = board.take(worker, &mut run).or_else(|| board.seek(worker)) else {
            if board.is_ordered(Orders::Closed) {
                break;
            }
            board.rest(worker, None);
            continue;
        };
        let number = board.arguments.at(slot).load(Relaxed);
        assert_ne!(number, 0, "an argument that was not there yet");
        board.results.at(slot).store(number * 10, Relaxed);
        board.commit(slot, word.settled(State::Done, Form::Cell));
        done += 1;
    }
    done
}

/// Waits for a slot as the parent does, and takes its result.
fn collect(board: &Board, slot: usize, number: u64) -> State {
    loop {
        let rings = board.rings();
        let word = board.ask(slot);
        if word.is_settled() {
            let result = board.results.at(slot).load(Relaxed);
            assert!(word.state() != State::Done || result == number * 10, "a result that was not there yet");
            return word.state();
        }
        board.await_ring(rings, None);
    }
}

/// A worker and a parent; both sleep, or do not.
fn one_task() {
    let board = board(2, 1);
    assert!(board.preside());
    let worker = spawn({
        let board = board.clone();
        move || work(&board, 0, 1)
    });
    give(&board, &[(1, 7)]);
    assert_eq!(collect(&board, 1, 7), State::Done);
    assert_eq!(worker.join(), 1);
}

/// Two workers, two tasks: each is done once, or a worker would wait for ever.
fn two_workers() {
    let board = board(2, 2);
    assert!(board.preside());
    give(&board, &[(0, 7), (1, 8)]);
    let workers = [0, 1].map(|index| {
        let board = board.clone();
        spawn(move || work(&board, index, 1))
    });
    assert_eq!(collect(&board, 0, 7), State::Done);
    assert_eq!(collect(&board, 1, 8), State::Done);
    let _ = workers.map(|worker| worker.join());
}

/// A worker dies after `fuel` steps of a task, or of waiting for one; its task is lost, and another worker does what
/// is left. The parent hears of all.
fn a_worker_dies(fuel: usize) {
    let board = board(2, 2);
    assert!(board.preside());
    let victim = spawn({
        let board = board.clone();
        move || die_after(fuel, || work(&board, 0, 1))
    });
    let parent = spawn({
        let board = board.clone();
        move || {
            give(&board, &[(0, 7)]);
            collect(&board, 0, 7)
        }
    });
    let survived = victim.join().is_ok();
    if !survived {
        board.bury(0, |_, word| word.settled(State::Lost, Form::Cell));
        // Its heir.
        if matches!(board.look(0).state(), State::Ready | State::Empty) {
            let heir = spawn({
                let board = board.clone();
                move || work(&board, 0, 1)
            });
            assert_eq!(parent.join(), State::Done);
            heir.join();
            return;
        }
    }
    let came = parent.join();
    assert!(came == State::Done || !survived, "{came:?}");
}

/// The same with another worker beside it, which sleeps perhaps; the dead one's task is tried again.
fn a_worker_dies_beside_another(fuel: usize) {
    let board = board(1, 2);
    assert!(board.preside());
    let victim = spawn({
        let board = board.clone();
        move || die_after(fuel, || work(&board, 0, 1))
    });
    let other = spawn({
        let board = board.clone();
        move || work(&board, 1, 1)
    });
    let parent = spawn({
        let board = board.clone();
        move || {
            give(&board, &[(0, 7)]);
            assert_eq!(collect(&board, 0, 7), State::Done);
            board.order(Orders::Closed);
        }
    });
    if victim.join().is_err() {
        board.bury(0, |_, word| word.again(true));
    }
    parent.join();
    other.join();
}

/// The parent takes back what a worker is about to take.
fn a_withdrawal() {
    let board = board(1, 1);
    assert!(board.preside());
    give(&board, &[(0, 7)]);
    let worker = spawn({
        let board = board.clone();
        move || work(&board, 0, 1)
    });
    let withdrawn = board.withdraw(0);
    board.order(Orders::Closed);
    let done = worker.join();
    assert_eq!(usize::from(!withdrawn), done, "both, or neither");
    let state = if withdrawn { State::Cancelled } else { State::Done };
    assert_eq!(board.look(0).state(), state);
}

/// A worker that has nothing to do hears that the pool is closed.
fn an_order() {
    let board = board(1, 1);
    assert!(board.preside());
    let worker = spawn({
        let board = board.clone();
        move || work(&board, 0, 1)
    });
    board.order(Orders::Closed);
    assert_eq!(worker.join(), 0);
}

#[test]
fn a_task_is_done_and_its_result_seen() {
    explore("a worker, a parent", 4, one_task);
}

#[test]
fn each_task_is_done_once() {
    explore("two workers, a parent", 1, two_workers);
}

#[test]
fn the_parent_hears_of_a_task_whose_worker_dies() {
    every_death("worker, parent", 1, a_worker_dies);
}

#[test]
fn a_task_whose_worker_dies_is_done_by_another() {
    every_death("worker, another, parent", 0, a_worker_dies_beside_another);
}

#[test]
fn what_is_withdrawn_is_not_done() {
    explore("a worker, a parent that withdraws", 4, a_withdrawal);
}

#[test]
fn an_idle_worker_hears_of_an_order() {
    explore("an idle worker, an order", 4, an_order);
}

#[test]
fn mutant_task_untold_is_seen() {
    let said = fails_with(Mutant::TaskUntold, || explore("", 4, one_task));
    assert!(said.contains("deadlock"), "{said}");
}

#[test]
fn mutant_looks_before_it_rests_is_seen() {
    let said = fails_with(Mutant::LooksBeforeItRests, || explore("", 4, one_task));
    assert!(said.contains("deadlock"), "{said}");
}

#[test]
fn mutant_taken_by_store_is_seen() {
    fails_with(Mutant::TakenByStore, || explore("", 1, two_workers));
}

#[test]
fn mutant_relaxed_result_is_seen() {
    let said = fails_with(Mutant::RelaxedResult, || explore("", 4, one_task));
    assert!(said.contains("not there yet"), "{said}");
}

#[test]
fn mutant_result_unrung_is_seen() {
    let said = fails_with(Mutant::ResultUnrung, || explore("", 4, one_task));
    assert!(said.contains("deadlock"), "{said}");
}

#[test]
fn mutant_dead_keep_tasks_is_seen() {
    let said = fails_with(Mutant::DeadKeepTasks, || every_death("", 1, a_worker_dies));
    assert!(said.contains("deadlock"), "{said}");
}

#[test]
fn mutant_death_unrung_is_seen() {
    let said = fails_with(Mutant::DeathUnrung, || every_death("", 1, a_worker_dies));
    assert!(said.contains("deadlock"), "{said}");
}

#[test]
fn mutants_without_a_fence_are_seen() {
    for fault in [Mutant::GiverUnfenced, Mutant::RestUnfenced] {
        let said = fails_with(fault, || explore("", 4, one_task));
        assert!(said.contains("deadlock"), "{said}");
    }
    let said = fails_with(Mutant::OrderUnfenced, || explore("", 4, an_order));
    assert!(said.contains("deadlock"), "{said}");
}

#[test]
fn mutant_order_untold_is_seen() {
    let said = fails_with(Mutant::OrderUntold, || explore("", 4, an_order));
    assert!(said.contains("deadlock"), "{said}");
}

#[test]
fn mutant_death_keeps_wake_is_seen() {
    let said = fails_with(Mutant::DeathKeepsWake, || every_death("", 0, a_worker_dies_beside_another));
    assert!(said.contains("deadlock"), "{said}");
}

#[cfg(feature = "shuttle")]
mod crowd {
    //! Six workers, any of which but one may die; a parent; a supervisor.

    use std::{cell::RefCell, rc::Rc};

    use super::*;
    use crate::primitive::{
        Acquire, Change, FutexWord,
        model::explore::crowds::{crowd, draw_fuel},
    };

    #[test]
    fn a_crowd_of_mortals_does_each_task() {
        crowd("pools: six workers, a parent, a supervisor", || {
            let board = board(6, 6);
            assert!(board.preside());
            let (ended, count) = (Rc::new(RefCell::new(Vec::new())), Arc::new(FutexWord::new(0)));
            for worker in 0..6 {
                let (board, ended, count) = (board.clone(), ended.clone(), count.clone());
                let fuel = if worker == 0 { usize::MAX } else { draw_fuel(2, 60) };
                spawn(move || {
                    let died = die_after(fuel, || work(&board, worker, usize::MAX)).is_err();
                    ended.borrow_mut().push((worker, died));
                    count.change_and_wake(Change::Add(1), 1);
                });
            }
            let parent = spawn({
                let board = board.clone();
                move || {
                    let tasks = [(0, 3), (1, 4), (2, 5), (3, 6), (4, 7), (5, 8)];
                    give(&board, &tasks[..4]);
                    give(&board, &tasks[4..]);
                    for (slot, number) in tasks {
                        assert_eq!(collect(&board, slot, number), State::Done);
                    }
                    board.order(Orders::Closed);
                }
            });
            for buried in 0..6 {
                while count.load(Acquire) == buried {
                    count.wait(buried, None);
                }
                let (worker, died) = ended.borrow()[buried as usize];
                if died {
                    board.bury(worker, |_, word| word.again(true));
                }
            }
            parent.join();
        });
    }
}
