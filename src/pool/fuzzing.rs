//! The board against a plain model of it, by lists of operations that bytes stand for; and with garbage in its words.
//!
//! Parent, workers and supervisor are one thread here: what they do at the same time is the models' (`models`) and the
//! exact kill's business. The tests at the foot replay the corpus and some random bytes; cargo-fuzz calls [`board`].

use crate::{
    pool::{
        board::{Board, Run},
        word::{CANCEL, Form, State, Word},
    },
    primitive::{Deadline, Wake},
    region::Region,
};

const SLOTS: usize = 16;
const WORKERS: usize = 3;

/// What lies in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plain {
    Free,
    Ready { deaths: u32 },
    Taken { worker: usize, deaths: u32 },
    Settled(State),
}

/// A worker: where it looks next, and the task it is at.
#[derive(Default)]
struct Worker {
    run: Run,
    at: Option<(usize, Word)>,
}

struct Play {
    board: Board,
    plain: [Plain; SLOTS],
    workers: [Worker; WORKERS],
    /// From when on there is garbage, and anything may be answered.
    spoilt: bool,
}

impl Play {
    fn check(&self, right: bool) {
        assert!(right || self.spoilt, "{:?}", self.plain);
    }

    /// The parent gives tasks to at most `most` free slots.
    fn give(&mut self, most: usize) {
        let is_free = |slot: &usize| self.plain[*slot] == Plain::Free;
        let slots: Vec<usize> = (0..SLOTS).filter(is_free).take(most).collect();
        for &slot in &slots {
            self.board.put(slot, Word::ready(Form::Cell, false));
            self.plain[slot] = Plain::Ready { deaths: 0 };
        }
        self.board.publish(&slots);
    }

    fn take(&mut self, worker: usize) {
        if self.workers[worker].at.is_some() {
            return;
        }
        let taken = self.board.take(worker, &mut self.workers[worker].run);
        let Some((slot, word)) = taken.or_else(|| self.board.seek(worker)) else {
            let nothing = !self.plain.iter().any(|plain| matches!(plain, Plain::Ready { .. }));
            return self.check(nothing);
        };
        assert!(slot < SLOTS && word.is_taken_by(worker));
        self.check(self.plain[slot] == Plain::Ready { deaths: word.deaths() });
        self.plain[slot] = Plain::Taken { worker, deaths: word.deaths() };
        self.workers[worker].at = Some((slot, word));
    }

    fn commit(&mut self, worker: usize, state: State) {
        let Some((slot, word)) = self.workers[worker].at.take() else { return };
        self.board.commit(slot, word.settled(state, Form::Plate));
        self.plain[slot] = Plain::Settled(state);
    }

    /// The worker has died; what it was at is done again, or lost.
    fn bury(&mut self, worker: usize, again: bool) {
        let mut decided = 0;
        self.board.bury(worker, |_, word| {
            decided += 1;
            if again { word.again(true) } else { word.settled(State::Lost, Form::Cell) }
        });
        let at = self.workers[worker].at.take();
        self.workers[worker].run = Run::default();
        self.check(decided == usize::from(at.is_some()));
        if let Some((slot, word)) = at {
            let deaths = word.deaths() + 1;
            self.plain[slot] = if again { Plain::Ready { deaths } } else { Plain::Settled(State::Lost) };
        }
    }

    fn withdraw(&mut self, slot: usize) {
        let withdrawn = self.board.withdraw(slot);
        self.check(withdrawn == matches!(self.plain[slot], Plain::Ready { .. }));
        if withdrawn {
            self.plain[slot] = Plain::Settled(State::Cancelled);
        }
    }

    /// The parent looks, and takes a result home.
    fn collect(&mut self, slot: usize) {
        let word = self.board.ask(slot);
        match self.plain[slot] {
            Plain::Settled(state) => self.check(word.state() == state && word.is_settled()),
            Plain::Taken { worker, .. } => self.check(word.is_taken_by(worker)),
            Plain::Ready { deaths } => self.check(word.state() == State::Ready && word.deaths() == deaths),
            Plain::Free => return,
        }
        if word.is_settled() {
            self.plain[slot] = Plain::Free;
        }
    }

    fn count(&self) {
        let is = |wanted: fn(&Plain) -> bool| self.plain.iter().filter(|plain| wanted(plain)).count();
        let (ready, taken) = (
            is(|plain| matches!(plain, Plain::Ready { .. })),
            is(|plain| matches!(plain, Plain::Taken { .. })),
        );
        self.check(self.board.counts() == (ready, taken) && self.board.has_tasks() == (ready + taken > 0));
    }

    fn spoil(&mut self, which: u8, value: u64) {
        self.spoilt = true;
        self.board.spoil(which, value);
    }
}

/// The fuzzers' target.
pub fn board(data: &[u8]) {
    let region = Region::anonymous(1 << 14).expect("a small region");
    let board = Board::new_in(&region, SLOTS, WORKERS, 8).expect("a board in a region that is larger");
    let mut play = Play { board, plain: [Plain::Free; SLOTS], workers: Default::default(), spoilt: false };
    let mut bytes = data.iter().copied();
    while let Some(op) = bytes.next() {
        let n = bytes.next().unwrap_or(0);
        let (worker, slot) = (usize::from(n) % WORKERS, usize::from(n) % SLOTS);
        match op % 11 {
            0 | 1 => play.give(usize::from(n % 8)),
            2 | 3 => play.take(worker),
            4 => play.commit(worker, if n < 128 { State::Done } else { State::Failed }),
            5 => play.bury(worker, n < 128),
            6 => play.withdraw(slot),
            7 => {
                let condemned = play.board.condemn(slot, CANCEL);
                play.check(condemned == matches!(play.plain[slot], Plain::Taken { .. }));
            }
            8 => play.collect(slot),
            9 => {
                let is_ready = play.plain.iter().any(|plain| matches!(plain, Plain::Ready { .. }));
                let woken = play.board.rest(worker, Some(Deadline::now()));
                play.check(is_ready == (woken == Wake::Changed));
            }
            // One in eight of these makes garbage of the rest.
            _ if op >= 224 => {
                let value = (0..8).fold(0, |value, _| value << 8 | u64::from(bytes.next().unwrap_or(0)));
                play.spoil(n, value);
            }
            _ => play.count(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn the_board_keeps_to_its_model_for_the_corpus() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/pool_board");
        for entry in fs::read_dir(corpus).into_iter().flatten().flatten() {
            board(&fs::read(entry.path()).unwrap());
        }
    }

    #[test]
    fn the_board_keeps_to_its_model_for_random_bytes() {
        let mut state = 1_u64;
        let mut draw = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as u8
        };
        for _ in 0..3_000 {
            let len = usize::from(draw());
            let input: Vec<u8> = (0..len).map(|_| draw()).collect();
            board(&input);
        }
    }
}
