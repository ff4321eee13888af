//! The parts of a trial of a queue: what its processes do, what it is like before, and what must be left of it.

use std::{cell::Cell, sync::atomic::Ordering::SeqCst, thread, time::Duration};

use crate::{
    board::{cell, count},
    company::{Body, Companion, LIMIT, Moment, Moment::*, Process, Until::*, pause},
    letters::{
        BATCH, Bag, DISORDER, End, Form, Got, LEFT, Mail, NUMBERS, Refusal, SEEN_AT_STOP, SHRUNK,
        TOLD_CLOSED, TORN, Who, accepted, received,
    },
    scenario::Damage,
    trace::stepped,
};

/// The objects of one trial.
#[derive(Clone)]
pub struct Post {
    /// The queue that the company is about.
    pub line: Mail,
    /// For getting warm.
    scratch: Mail,
    /// The first letter of the next companion.
    letters: Cell<u64>,
}

/// Letters that prepare a queue and are gone when it begins; nobody looks for them.
pub const NOBODYS: u64 = 0;
/// The letters that the stewards and visitors send.
const STEWARDS: u64 = 10;
const VISITORS: u64 = 18;
/// The letters with which the auditor fills the queue.
const AUDITORS: u64 = 140;

impl Post {
    pub fn new(mail: fn() -> Mail) -> Post {
        Post { line: mail(), scratch: mail(), letters: Cell::new(40) }
    }

    fn next_letter(&self) -> u64 {
        self.letters.replace(self.letters.get() + 10)
    }

    /// Whether whoever comes to this end must wait.
    fn is_blocked(&self, at: End) -> bool {
        match at {
            End::Sending => self.line.len() == self.line.room(),
            End::Receiving => self.line.len() == 0,
        }
    }

    /// Sends `letter`, or receives one. False if that was not possible in time; closed is an answer too.
    fn part(&self, at: End, letter: u64, form: Form, bag: &mut Bag) -> bool {
        match at {
            End::Sending => self.line.send(letter, form) != Err(Refusal::Full),
            End::Receiving => {
                let got = self.line.receive(form);
                bag.put(got);
                got != Got::Nothing
            }
        }
    }

    /// The same without a limit, for one that does nothing else; and he notes that he has done it.
    fn only_part(&self, at: End, letter: u64) {
        self.part(at, letter, Form::Wait, &mut Bag::default());
        at.done();
    }
}

/// What a traced process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    Send(Form),
    Receive(Form),
    SendMany,
    ReceiveMany,
    Close,
}

impl Deed {
    pub fn at(end: End, form: Form) -> Deed {
        match end {
            End::Sending => Deed::Send(form),
            End::Receiving => Deed::Receive(form),
        }
    }

    pub fn many_at(end: End) -> Deed {
        match end {
            End::Sending => Deed::SendMany,
            End::Receiving => Deed::ReceiveMany,
        }
    }

    /// Where it is done; closing is done at neither end.
    fn end(self) -> Option<End> {
        match self {
            Deed::Send(_) | Deed::SendMany => Some(End::Sending),
            Deed::Receive(_) | Deed::ReceiveMany => Some(End::Receiving),
            Deed::Close => None,
        }
    }

    /// How many letters it is about, at most.
    fn letters(self) -> u64 {
        match self {
            Deed::Send(_) | Deed::Receive(_) => 1,
            Deed::SendMany | Deed::ReceiveMany => BATCH,
            Deed::Close => 0,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Deed::Send(Form::Wait) => "send",
            Deed::Send(Form::Try) => "try_send",
            Deed::Send(Form::Timeout(_)) => "send_timeout",
            Deed::Receive(Form::Wait) => "recv",
            Deed::Receive(Form::Try) => "try_recv",
            Deed::Receive(Form::Timeout(_)) => "recv_timeout",
            Deed::SendMany => "send_many",
            Deed::ReceiveMany => "recv_many",
            Deed::Close => "close",
        }
    }

    /// Calls `stepped` once.
    pub fn act(self, post: &Post, who: Who) {
        for form in [Form::Wait, Form::Try, Form::Timeout(1), Form::Wait] {
            // Only to get warm; and somebody may have closed it.
            let _ = post.scratch.send(NOBODYS, form);
            post.scratch.receive(form);
        }
        post.scratch.warm_batches();
        match self {
            Deed::SendMany => post.line.send_many_stepped(who),
            Deed::ReceiveMany => post.line.receive_many_stepped(who),
            Deed::Send(form) => post.line.send_stepped(who, form),
            Deed::Receive(form) => post.line.receive_stepped(who, form),
            Deed::Close => stepped(|| post.line.close()),
        }
    }

    pub fn body(self, post: &Post, who: Who, survives: bool) -> Body {
        let post = post.clone();
        Box::new(move || {
            self.act(&post, who);
            if survives && let Some(end) = self.end() {
                end.done();
            }
        })
    }
}

// The companions.

/// Does its part at an end, and sleeps there as long as it must.
pub fn peer(post: &Post, at: End, moment: Moment) -> Companion {
    let (letter, post) = (post.next_letter(), post.clone());
    Companion::new("peer", [(moment, Asleep)], move || post.only_part(at, letter))
}

/// Tries once while somebody stands at his kill point; what it did not get it waits for after the death.
pub fn barger(post: &Post, at: End, stop: Moment, death: Moment) -> Companion {
    let (letter, post) = (post.next_letter(), post.clone());
    Companion::new("barger", [(Opening, Paused), (stop, Paused), (death, Nothing)], move || {
        pause();
        let done = post.part(at, letter, Form::Try, &mut Bag::default());
        pause();
        if done { at.done() } else { post.only_part(at, letter) }
    })
}

/// Tries again and again right after the death.
pub fn late_barger(post: &Post, at: End) -> Companion {
    let (letter, post) = (post.next_letter(), post.clone());
    Companion::new("late barger", [(Opening, Paused), (Death, Nothing)], move || {
        pause();
        for _ in 0..20 {
            if post.part(at, letter, Form::Try, &mut Bag::default()) {
                return at.done();
            }
        }
        post.only_part(at, letter);
    })
}

/// Moves an end when the victim is to be woken at the other one.
pub fn waker(post: &Post, at: End, times: u64) -> Companion {
    let (letter, post) = (post.next_letter(), post.clone());
    Companion::new("waker", [(Wake, Ended)], move || {
        let mut bag = Bag::default();
        for i in 0..times {
            post.part(at, letter + i, Form::Wait, &mut bag);
        }
    })
}

/// Sleeps at the head of an end's line, and is killed when the victim is to be woken.
pub fn dying_head(post: &Post, at: End) -> Companion {
    let (letter, post) = (post.next_letter(), post.clone());
    Companion::new("dying head of line", [(Opening, Paused), (Wake, Ended)], move || {
        let mut head = Process::fork(|| post.only_part(at, letter));
        assert!(head.until_asleep(LIMIT), "the head of line is not asleep");
        pause();
        head.kill();
    })
}

/// Sees to it that `count` companions at an end come to theirs. As long as one of them can, he must without help.
pub fn steward(post: &Post, at: End, count: u64, moment: Moment) -> Companion {
    let post = post.clone();
    Companion::new("steward", [(moment, Nothing)], move || {
        let mut bag = Bag::default();
        for letter in STEWARDS.. {
            until(|| post.is_blocked(at) || at.all_done() >= count);
            if at.all_done() >= count {
                return;
            }
            post.part(at.other(), letter, Form::Wait, &mut bag);
        }
    })
}

/// Wakes the heir at an end, unless the victim has done so.
pub fn nudge(post: &Post, at: End) -> Companion {
    let (letter, post) = (post.next_letter(), post.clone());
    Companion::new("nudge", [(Death, Ended)], move || {
        if post.is_blocked(at) {
            post.part(at.other(), letter, Form::Wait, &mut Bag::default());
        }
    })
}

/// Comes when it is over, to both ends.
pub fn visitor(post: &Post) -> Companion {
    let post = post.clone();
    Companion::new("visitor", [(Death, Nothing)], move || {
        let first = if post.line.len() > 0 { End::Receiving } else { End::Sending };
        let mut bag = Bag::default();
        post.part(first, VISITORS, Form::Wait, &mut bag);
        post.part(first.other(), VISITORS, Form::Wait, &mut bag);
    })
}

/// Notes what has been committed when the victim stands at its kill point, for a victim that is alone.
pub fn observer(post: &Post) -> Companion {
    let post = post.clone();
    Companion::new("observer", [(Stop, Ended)], move || {
        let here = post.line.len() + (1..STEWARDS).map(received).sum::<u64>();
        cell(SEEN_AT_STOP).store(here + 1, SeqCst);
    })
}

/// Sees whether the victim's batch, for all of which there is room, is there as a whole or not at all.
pub fn whole(post: &Post) -> Companion {
    let post = post.clone();
    Companion::new("whole", [(Stop, Ended)], move || {
        let here = post.line.len();
        cell(DISORDER).fetch_add(u64::from(here != 0 && here != BATCH), SeqCst);
    })
}

pub fn closer(post: &Post, moment: Moment) -> Companion {
    let post = post.clone();
    Companion::new("closer", [(moment, Ended)], move || post.line.close())
}

/// Closes after the death. If it is closed already, then all that sleep at the end must know.
pub fn late_closer(post: &Post, at: End, count: u64) -> Companion {
    let post = post.clone();
    Companion::new("late closer", [(Death, Nothing)], move || {
        if post.line.is_closed() {
            until(|| at.all_done() >= count);
        }
        post.line.close();
    })
}

/// Waits for what others do. The harness has the limit.
fn until(done: impl Fn() -> bool) {
    while !done() {
        thread::sleep(Duration::from_micros(50));
    }
}

// What the queue is like when it begins.

fn fill(post: &Post, letters: u64) {
    (1..=letters).for_each(|letter| post.line.send(letter, Form::Try).expect("there is room"));
}

/// As free as can be.
pub fn free(post: &Post, own: End) {
    fill(post, if own == End::Receiving { post.line.room() } else { 0 });
}

/// Blocked after one more.
pub fn last(post: &Post, own: End) {
    fill(post, if own == End::Receiving { 1 } else { post.line.room() - 1 });
}

pub fn blocked(post: &Post, own: End) {
    free(post, own.other());
}

/// Free, and one died with the lock of this end.
pub fn owner_died(post: &Post, own: End) {
    if own == End::Sending {
        while post.line.send(NOBODYS, Form::Try).is_ok() {}
    }
    dies_asleep(post, own);
    while post.line.len() > 0 {
        post.line.receive(Form::Try);
    }
    free(post, own);
}

/// Free, and one died asleep at the other end: with its lock, and his bit is still set.
pub fn bit_opposite(post: &Post, own: End) {
    free(post, own);
    dies_asleep(post, own.other());
}

/// Blocked, and one died asleep at this end.
pub fn own_bit(post: &Post, own: End) {
    blocked(post, own);
    dies_asleep(post, own);
}

/// Free, and what comes next goes over the end of the buffer.
pub fn wrapped(post: &Post, own: End) {
    for _ in 0..2 {
        let _ = post.line.send(NOBODYS, Form::Try);
        post.line.receive(Form::Try);
    }
    free(post, own);
}

/// Somebody comes to a blocked end and is killed when he sleeps.
fn dies_asleep(post: &Post, at: End) {
    assert!(post.is_blocked(at), "he would not sleep");
    let mut sleeper = Process::fork(|| post.only_part(at, NOBODYS));
    assert!(sleeper.until_asleep(LIMIT), "he does not sleep");
    sleeper.kill();
}

/// What is left when everybody has ended.
pub fn verify(post: &Post, dead: &[(Who, Deed)], closed: bool) -> Damage {
    let told_closed = count(TOLD_CLOSED) > 0;
    // In a process of its own: in a damaged queue it might panic, or never end.
    let mut auditor = Process::fork(|| audit(&post.line, closed));
    if !auditor.until_ended(LIMIT) || !auditor.ended_well() {
        return Damage { wedged: 1, ..Damage::default() };
    }
    let (mut missing, mut doubled) = (0, 0);
    for letter in 1..NUMBERS {
        let (sent, got) = (accepted(letter), received(letter));
        // Whether it was accepted, a sender that died in between could not say.
        let unsure = dead.iter().any(|(who, deed)| {
            deed.end() == Some(End::Sending) && who.letters(*deed == Deed::SendMany).contains(&letter)
        });
        missing += sent.saturating_sub(got);
        doubled += got.saturating_sub(sent.max(u64::from(unsure)));
    }
    // A receiver that died without knowing what it had may have had as many as it asked for.
    let dead_receivers = dead.iter().filter(|(who, deed)| deed.end() == Some(End::Receiving) && !who.knows());
    let taken = dead_receivers.map(|(_, deed)| deed.letters()).sum();
    let mut lost = missing.saturating_sub(taken) + count(DISORDER) + count(SHRUNK);
    if let Some(seen) = count(SEEN_AT_STOP).checked_sub(1) {
        let before: u64 = (1..STEWARDS).map(accepted).sum();
        let victims: u64 = Who::Victim.letters(true).map(received).sum();
        lost += u64::from(seen + missing != before + victims);
    }
    if told_closed {
        lost += count(LEFT);
    }
    Damage { wedged: 0, torn: count(TORN), lost, doubled }
}

/// Empties the queue and sees whether all of it is still there.
fn audit(line: &Mail, closed: bool) {
    let expected = line.len();
    let mut bag = Bag::default();
    let left = drain(line, &mut bag, closed);
    cell(LEFT).store(left, SeqCst);
    let mut shrunk = expected.abs_diff(left);
    if closed {
        shrunk += u64::from(line.send(AUDITORS, Form::Try) != Err(Refusal::Closed));
    } else {
        let fits = (AUDITORS..).take_while(|&letter| line.send(letter, Form::Try).is_ok()).count() as u64;
        shrunk += fits.abs_diff(line.room()) + fits.abs_diff(drain(line, &mut bag, closed)) + line.len();
    }
    cell(SHRUNK).store(shrunk, SeqCst);
}

fn drain(line: &Mail, bag: &mut Bag, closed: bool) -> u64 {
    for drained in 0.. {
        match line.receive(Form::Try) {
            Got::Letter(letter) => bag.put(Got::Letter(letter)),
            end => {
                assert_eq!(end == Got::Closed, closed, "an open queue is empty, a closed one is over");
                return drained;
            }
        }
        assert!(drained < NUMBERS, "a queue that gives without end");
    }
    unreachable!("a loop without an end")
}
