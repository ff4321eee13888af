//! [`Word`]: the state of a slot as one typed value.
//!
//! | bits   | meaning                                                     |
//! |--------|-------------------------------------------------------------|
//! | 0..3   | [`State`]                                                   |
//! | 3..7   | flags: [`RING`], [`CANCEL`], [`LATE`], [`LIMITED`]          |
//! | 8..10  | where the argument lies: [`Form`]                           |
//! | 10..12 | where the result lies                                       |
//! | 16..32 | the worker that took the task                               |
//! | 32..40 | how many workers have died of it                            |

/// How far a task has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum State {
    /// Nothing was ever here.
    Empty = 0,
    /// To be done.
    Ready = 1,
    /// A worker is at it.
    Taken = 2,
    /// There is a value.
    Done = 3,
    /// There is a failure of the task's own.
    Failed = 4,
    /// Its worker died; how, lies where the result would.
    Lost = 5,
    /// It was withdrawn, or its worker killed for that.
    Cancelled = 6,
    /// Its time was up.
    Late = 7,
}

/// Where an argument or a result lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum Form {
    /// In one word.
    Cell = 0,
    /// In the slot's bytes in the region.
    Plate = 1,
    /// In the slot's bytes of the store.
    Stored = 2,
}

/// The state of a slot at some instant: state, flags, forms, taker and deaths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word(pub(super) u64);

const STATE: u64 = 7;
/// Somebody waits for the task.
pub(super) const RING: u64 = 1 << 3;
/// Its worker is to be killed, since the task was cancelled.
pub(super) const CANCEL: u64 = 1 << 4;
/// Its worker is to be killed, since its time is up.
pub(super) const LATE: u64 = 1 << 5;
/// It has limits of its own.
pub(super) const LIMITED: u64 = 1 << 6;
const ARGUMENT: u32 = 8;
const RESULT: u32 = 10;
const WORKER: u32 = 16;
const DEATHS: u32 = 32;

impl Word {
    /// A task to be done.
    pub(super) fn ready(argument: Form, limited: bool) -> Word {
        Word(State::Ready as u64 | (argument as u64) << ARGUMENT | if limited { LIMITED } else { 0 })
    }

    #[inline]
    pub(super) fn state(self) -> State {
        match self.0 & STATE {
            0 => State::Empty,
            1 => State::Ready,
            2 => State::Taken,
            3 => State::Done,
            4 => State::Failed,
            5 => State::Lost,
            6 => State::Cancelled,
            _ => State::Late,
        }
    }

    #[inline]
    pub(super) fn is_settled(self) -> bool {
        self.0 & STATE > State::Taken as u64
    }

    pub(super) fn has(self, flag: u64) -> bool {
        self.0 & flag != 0
    }

    fn form(self, place: u32) -> Form {
        match self.0 >> place & 3 {
            0 => Form::Cell,
            1 => Form::Plate,
            _ => Form::Stored,
        }
    }

    pub(super) fn argument(self) -> Form {
        self.form(ARGUMENT)
    }

    pub(super) fn result(self) -> Form {
        self.form(RESULT)
    }

    /// How often a worker died of it.
    pub(super) fn deaths(self) -> u32 {
        (self.0 >> DEATHS & 0xff) as u32
    }

    /// Who took it.
    pub(super) fn worker(self) -> usize {
        (self.0 >> WORKER & 0xffff) as usize
    }

    pub(super) fn is_taken_by(self, worker: usize) -> bool {
        self.state() == State::Taken && self.worker() == worker
    }

    #[inline]
    pub(super) fn taken_by(self, worker: usize) -> Word {
        Word(self.0 & !(STATE | 0xffff << WORKER) | State::Taken as u64 | (worker as u64) << WORKER)
    }

    /// What it is when it is settled.
    #[inline]
    pub(super) fn settled(self, state: State, result: Form) -> Word {
        Word(self.0 & !(STATE | 3 << RESULT) | state as u64 | (result as u64) << RESULT)
    }

    /// To be done once more: its worker has died, which is the task's own fault or not.
    pub(super) fn again(self, fault: bool) -> Word {
        let deaths = (self.deaths() + u32::from(fault)).min(0xff);
        let kept = self.0 & !(STATE | CANCEL | LATE | 0xffff << WORKER | 0xff << DEATHS);
        Word(kept | State::Ready as u64 | u64::from(deaths) << DEATHS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_keeps_what_a_step_does_not_change() {
        let ready = Word::ready(Form::Stored, true);
        assert_eq!((ready.state(), ready.argument(), ready.has(LIMITED)), (State::Ready, Form::Stored, true));
        let taken = Word(ready.0 | RING).taken_by(300);
        assert!(taken.is_taken_by(300) && !taken.is_taken_by(44) && taken.has(RING) && !taken.is_settled());
        let done = taken.settled(State::Done, Form::Plate);
        assert_eq!((done.state(), done.result(), done.worker()), (State::Done, Form::Plate, 300));
        assert!(done.is_settled());
    }

    #[test]
    fn deaths_are_counted_when_they_are_the_tasks_fault() {
        let taken = Word(Word::ready(Form::Cell, false).0 | LATE | CANCEL).taken_by(7);
        let again = taken.again(true).taken_by(3).again(false).taken_by(1).again(true);
        assert_eq!((again.state(), again.deaths(), again.has(LATE | CANCEL)), (State::Ready, 2, false));
        let worn = (0..300).fold(taken, |word, _| word.again(true).taken_by(7));
        assert_eq!((worn.deaths(), worn.worker()), (255, 7));
    }
}
