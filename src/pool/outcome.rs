//! What a settled slot says: a value, values, or why not.

use crate::pool::{
    call,
    carry::{self, Carried},
    error::TaskError,
    keeper::Death,
    site::Failure,
    word::{Form, State, Word},
};

/// What a settled task came to, if it was one by itself.
pub(super) fn decode<R: Carried>(
    word: Word,
    cell: u64,
    bytes: &mut Vec<u8>,
    task: u64,
) -> Result<R, TaskError> {
    if word.state() != State::Done {
        return Err(failure(word, bytes, task));
    }
    if word.result() == Form::Cell
        && let Some(value) = carry::from_cell(cell)
    {
        return Ok(value);
    }
    carry::from_own_bytes(bytes).map_err(|error| TaskError::Decode { reason: error.to_string() })
}

/// What a settled chunk of so many tasks came to.
pub(super) fn decode_many<R: Carried>(
    word: Word,
    bytes: &[u8],
    items: usize,
    task: u64,
) -> Vec<Result<R, TaskError>> {
    let all = |error: TaskError| (0..items).map(|_| Err(error.clone())).collect();
    let wrong = |have: usize| TaskError::Decode { reason: format!("{have} values of {items}") };
    match word.state() {
        State::Done => match carry::from_bytes::<Vec<R>>(bytes) {
            Ok(values) if values.len() == items => values.into_iter().map(Ok).collect(),
            Ok(values) => all(wrong(values.len())),
            Err(error) => all(TaskError::Decode { reason: error.to_string() }),
        },
        State::Failed => match call::unmixed::<R>(bytes) {
            Some(values) if values.len() == items => {
                values.into_iter().map(|value| value.map_err(TaskError::from)).collect()
            }
            _ => all(failure(word, bytes, task)),
        },
        _ => all(failure(word, bytes, task)),
    }
}

/// Why there is no value.
#[cold]
fn failure(word: Word, bytes: &[u8], task: u64) -> TaskError {
    match word.state() {
        State::Cancelled => TaskError::Cancelled,
        State::Late => TaskError::TimedOut,
        State::Lost => match postcard::from_bytes::<Death>(bytes) {
            Ok(death) => TaskError::WorkerDied {
                task,
                pid: death.pid,
                status: death.status(),
                peak_memory: death.peak_memory,
                deaths: word.deaths(),
            },
            Err(error) => TaskError::Decode { reason: error.to_string() },
        },
        _ => match postcard::from_bytes::<Failure>(bytes) {
            Ok(failure) => failure.into(),
            Err(error) => TaskError::Decode { reason: error.to_string() },
        },
    }
}
