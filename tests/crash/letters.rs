//! What goes through the queues of `queue.rs`: numbered letters, and the tallies by which each is accounted for.
//!
//! A letter's number is written all over it, so that a torn one shows. Its tens say who sent it: one process, which
//! sends in ascending order. The board counts how often each was accepted and how often it came out.

#![allow(clippy::disallowed_types, reason = "the harness looks from outside the seam")]

use std::{
    ops::{Deref, Range},
    sync::atomic::Ordering::SeqCst,
    time::Duration,
};

use pshared::{
    Bytes, Message, PlainData, Queue, RecvError, RecvTimeoutError, SendTimeoutError, TryRecvError,
    TrySendError,
};

use crate::{
    board::{cell, count, up},
    trace::stepped,
};

/// Letters in a batch: more than fit into a queue of [`Mail::long`], and as many as into one of [`Mail::short`].
pub const BATCH: u64 = 4;
/// Letters have numbers below this.
pub const NUMBERS: u64 = 150;

// What is on the board: two tallies of `NUMBERS` cells, then these.
const ACCEPTED: usize = 0;
const RECEIVED: usize = NUMBERS as usize;
/// Letters that were no letters.
pub const TORN: usize = 300;
/// A letter came after a later one of its sender.
pub const DISORDER: usize = 301;
/// How many receivers were told that no letter will come.
pub const TOLD_CLOSED: usize = 302;
/// What the auditor found left, and what did not fit any more.
pub const LEFT: usize = 303;
pub const SHRUNK: usize = 304;
/// What lay in the queue when the victim stood at its kill point, plus one.
pub const SEEN_AT_STOP: usize = 305;
/// Companions of either end that have done their part: see [`End::done`].
const DONE: usize = 306;
/// Whether a traced process came to know the outcome of its operation: see [`Who`].
const KNOWS: usize = 308;

pub fn accepted(number: u64) -> u64 {
    count(ACCEPTED + number as usize)
}

pub fn received(number: u64) -> u64 {
    count(RECEIVED + number as usize)
}

/// The traced processes; each has letters of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Victim = 0,
    Heir = 1,
}

impl Who {
    /// The first of its letters.
    pub fn letter(self) -> u64 {
        20 + 10 * self as u64
    }

    /// Those that it sends in one operation.
    pub fn letters(self, many: bool) -> Range<u64> {
        self.letter()..self.letter() + if many { BATCH } else { 1 }
    }

    /// Whether it came to know what its operation did.
    pub fn knows(self) -> bool {
        count(KNOWS + self as usize) > 0
    }
}

/// The ends of a queue, by what a process does there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Sending = 0,
    Receiving = 1,
}

impl End {
    pub fn other(self) -> End {
        match self {
            End::Sending => End::Receiving,
            End::Receiving => End::Sending,
        }
    }

    /// A companion at this end has done its part.
    pub fn done(self) {
        up(DONE + self as usize);
    }

    pub fn all_done(self) -> u64 {
        count(DONE + self as usize)
    }
}

/// Something with a number all over it.
pub trait Letter: PartialEq + Sized {
    fn write(number: u64) -> Self;
    fn number(&self) -> u64;

    /// The number, if it is a letter.
    fn read(&self) -> Option<u64> {
        let number = self.number();
        (number < NUMBERS && *self == Self::write(number)).then_some(number)
    }
}

impl Letter for u64 {
    fn write(number: u64) -> u64 {
        !number << 32 | number
    }

    fn number(&self) -> u64 {
        self & 0xffff_ffff
    }
}

impl<const N: usize> Letter for [u64; N] {
    fn write(number: u64) -> [u64; N] {
        std::array::from_fn(|i| if i == 0 { number } else { !number.rotate_left(8 * i as u32) })
    }

    fn number(&self) -> u64 {
        self[0]
    }
}

/// 16 bytes, as `[u64; 2]`.
impl Letter for Vec<u8> {
    fn write(number: u64) -> Vec<u8> {
        <[u64; 2]>::write(number).map(u64::to_ne_bytes).concat()
    }

    fn number(&self) -> u64 {
        self.first_chunk().map_or(u64::MAX, |number| u64::from_ne_bytes(*number))
    }
}

impl Letter for (u64, String) {
    fn write(number: u64) -> (u64, String) {
        (number, format!("no. {number:06}"))
    }

    fn number(&self) -> u64 {
        self.0
    }
}

/// How long an operation may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Wait,
    Try,
    /// Milliseconds.
    Timeout(u64),
}

/// What a receiver got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Got {
    /// A letter, or what was none.
    Letter(Option<u64>),
    Nothing,
    Closed,
}

/// Why a letter was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Full,
    Closed,
}

/// A queue whose letters are written and read where they lie.
#[derive(Clone, Debug)]
pub struct InPlace(Queue<Vec<u8>, Bytes>);

impl Deref for InPlace {
    type Target = Queue<Vec<u8>, Bytes>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// A queue of one kind of letters.
#[derive(Clone, Debug)]
pub enum Mail {
    /// 8 bytes.
    Short(Queue<u64, PlainData>),
    /// 16 bytes: with its header it does not divide the buffer, so it wraps.
    Wrapping(Queue<[u64; 2], PlainData>),
    /// 24 bytes.
    Long(Queue<[u64; 3], PlainData>),
    /// Encoded.
    Serde(Queue<(u64, String)>),
    /// 16 bytes, in place.
    InPlace(InPlace),
}

/// The buffer of every queue, in bytes.
const BUFFER: usize = 64;

/// What is written once and made for each kind of letters.
macro_rules! each {
    ($mail:expr, $queue:ident => $body:expr) => {
        match $mail {
            Mail::Short($queue) => $body,
            Mail::Wrapping($queue) => $body,
            Mail::Long($queue) => $body,
            Mail::Serde($queue) => $body,
            Mail::InPlace($queue) => $body,
        }
    };
}

impl Mail {
    pub fn short() -> Mail {
        Mail::Short(Queue::plain(BUFFER).expect("a queue"))
    }

    pub fn wrapping() -> Mail {
        Mail::Wrapping(Queue::plain(BUFFER).expect("a queue"))
    }

    pub fn long() -> Mail {
        Mail::Long(Queue::plain(BUFFER).expect("a queue"))
    }

    pub fn serde() -> Mail {
        Mail::Serde(Queue::new(BUFFER).expect("a queue"))
    }

    pub fn in_place() -> Mail {
        Mail::InPlace(InPlace(Queue::bytes(BUFFER).expect("a queue")))
    }

    /// How many letters fit.
    pub fn room(&self) -> u64 {
        if matches!(self, Mail::Short(_)) { 4 } else { 2 }
    }

    pub fn len(&self) -> u64 {
        each!(self, queue => queue.len() as u64)
    }

    pub fn close(&self) {
        each!(self, queue => queue.close());
    }

    pub fn is_closed(&self) -> bool {
        each!(self, queue => queue.is_closed())
    }

    /// Sends a letter and notes that it was accepted.
    pub fn send(&self, number: u64, form: Form) -> Result<(), Refusal> {
        each!(self, queue => noted(number, queue.put(Letter::write(number), form)))
    }

    /// Receives a letter. What it is belongs into a [`Bag`].
    pub fn receive(&self, form: Form) -> Got {
        each!(self, queue => queue.take(form))
    }

    /// As [`send`](Mail::send), one instruction at a time.
    pub fn send_stepped(&self, who: Who, form: Form) {
        let number = who.letter();
        each!(self, queue => {
            let letter = Letter::write(number);
            let (accepted, knows) = (cell(ACCEPTED + number as usize), cell(KNOWS + who as usize));
            stepped(|| {
                let sent = queue.put(letter, form);
                accepted.store(u64::from(sent.is_ok()), SeqCst);
                knows.store(1, SeqCst);
            });
        });
    }

    /// As [`send_stepped`](Mail::send_stepped), a batch.
    pub fn send_many_stepped(&self, who: Who) {
        let knows = cell(KNOWS + who as usize);
        each!(self, queue => {
            let mut batch: Vec<_> = who.letters(true).map(Letter::write).collect();
            stepped(|| {
                let sent = queue.send_many(&mut batch).map_or_else(|error| error.sent() as u64, |()| BATCH);
                for number in who.letter()..who.letter() + sent {
                    up(ACCEPTED + number as usize);
                }
                knows.store(1, SeqCst);
            });
        });
    }

    /// As [`receive_stepped`](Mail::receive_stepped), a batch.
    pub fn receive_many_stepped(&self, who: Who) {
        let knows = cell(KNOWS + who as usize);
        each!(self, queue => {
            let mut batch = Vec::with_capacity(2 * BATCH as usize);
            stepped(|| {
                match queue.recv_many(&mut batch, BATCH as usize) {
                    Ok(_) => batch.iter().for_each(|letter| note(Got::Letter(letter.read()))),
                    Err(RecvError::Closed) => note(Got::Closed),
                    Err(_) => note(Got::Letter(None)),
                }
                knows.store(1, SeqCst);
            });
        });
    }

    /// Uses the batches once, so that their code and their memory are there.
    pub fn warm_batches(&self) {
        each!(self, queue => {
            let mut batch = vec![Letter::write(0)];
            let _ = queue.send_many(&mut batch);
            let _ = queue.try_recv_many(&mut batch, BATCH as usize);
        });
    }

    /// As [`receive`](Mail::receive), one instruction at a time.
    pub fn receive_stepped(&self, who: Who, form: Form) {
        let knows = cell(KNOWS + who as usize);
        each!(self, queue => stepped(|| {
            let got = queue.take(form);
            note(got);
            knows.store(1, SeqCst);
        }));
    }
}

fn noted(number: u64, sent: Result<(), Refusal>) -> Result<(), Refusal> {
    if sent.is_ok() {
        up(ACCEPTED + number as usize);
    }
    sent
}

fn note(got: Got) {
    match got {
        Got::Letter(Some(number)) => up(RECEIVED + number as usize),
        Got::Letter(None) => up(TORN),
        Got::Nothing => {}
        Got::Closed => up(TOLD_CLOSED),
    }
}

/// How a letter is put into a queue, and taken from it.
trait Line {
    type Letter: Letter;

    fn put(&self, letter: Self::Letter, form: Form) -> Result<(), Refusal>;
    fn take(&self, form: Form) -> Got;
}

impl<T: Letter, C: pshared::Codec<T>> Line for Queue<T, C> {
    type Letter = T;

    #[inline(always)]
    fn put(&self, letter: T, form: Form) -> Result<(), Refusal> {
        match form {
            Form::Wait => self.send(letter).map_err(|_| Refusal::Closed),
            Form::Try => self.try_send(letter).map_err(not_tried),
            Form::Timeout(ms) => self.send_timeout(letter, Duration::from_millis(ms)).map_err(too_late),
        }
    }

    #[inline(always)]
    fn take(&self, form: Form) -> Got {
        let letter = match form {
            Form::Wait => self.recv().map_err(nothing),
            Form::Try => self.try_recv().map_err(nothing_now),
            Form::Timeout(ms) => self.recv_timeout(Duration::from_millis(ms)).map_err(nothing_in_time),
        };
        letter.map_or_else(|got| got, |letter| Got::Letter(letter.read()))
    }
}

impl Line for InPlace {
    type Letter = Vec<u8>;

    #[inline(always)]
    fn put(&self, letter: Vec<u8>, form: Form) -> Result<(), Refusal> {
        let slot = match form {
            Form::Wait => self.reserve(letter.len()).map_err(|_| Refusal::Closed),
            Form::Try => self.try_reserve(letter.len()).map_err(not_tried),
            Form::Timeout(ms) => {
                self.reserve_timeout(letter.len(), Duration::from_millis(ms)).map_err(too_late)
            }
        };
        let mut slot = slot?;
        slot.copy_from_slice(&letter);
        slot.commit().map_err(|_| Refusal::Closed)
    }

    #[inline(always)]
    fn take(&self, form: Form) -> Got {
        let message = match form {
            Form::Wait => self.read().map_err(nothing),
            Form::Try => self.try_read().map_err(nothing_now),
            Form::Timeout(ms) => self.read_timeout(Duration::from_millis(ms)).map_err(nothing_in_time),
        };
        message.map_or_else(|got| got, |message: Message<'_>| Got::Letter(message.to_vec().read()))
    }
}

fn not_tried<T>(error: TrySendError<T>) -> Refusal {
    if matches!(error, TrySendError::Full(_)) { Refusal::Full } else { Refusal::Closed }
}

fn too_late<T>(error: SendTimeoutError<T>) -> Refusal {
    if matches!(error, SendTimeoutError::TimedOut(_)) { Refusal::Full } else { Refusal::Closed }
}

fn nothing(error: RecvError) -> Got {
    if error == RecvError::Closed { Got::Closed } else { Got::Letter(None) }
}

fn nothing_now(error: TryRecvError) -> Got {
    match error {
        TryRecvError::Empty => Got::Nothing,
        TryRecvError::Closed => Got::Closed,
        _ => Got::Letter(None),
    }
}

fn nothing_in_time(error: RecvTimeoutError) -> Got {
    match error {
        RecvTimeoutError::TimedOut => Got::Nothing,
        RecvTimeoutError::Closed => Got::Closed,
        _ => Got::Letter(None),
    }
}

/// Where one process puts what it receives, to see that it comes in order.
#[derive(Debug, Default)]
pub struct Bag {
    /// By sender: the number after the last.
    next: [u64; (NUMBERS / 10) as usize],
}

impl Bag {
    pub fn put(&mut self, got: Got) {
        note(got);
        let Got::Letter(Some(number)) = got else { return };
        let sender = (number / 10) as usize;
        // The first ten were in the queue before anybody came.
        let late = number < self.next[sender] || sender == 0 && self.next[1..].iter().any(|&next| next > 0);
        if late {
            up(DISORDER);
        }
        self.next[sender] = number + 1;
    }
}
