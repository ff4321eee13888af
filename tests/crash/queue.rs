//! `Queue`: its operations, and the companies in which they are killed.
//!
//! The two ends mirror each other, so a company is told once, from the victim's end: its *own* end and the *other*.
//! An end is *free* when one who comes there can go on at once, and *blocked* when he must wait for the other end: a
//! full queue blocks senders, an empty one receivers.
//!
//! Whom the contents of the queue entitle to go on must do so by himself: a [`steward`] looks on, and moves the other
//! end only when nobody at this one can. In the end an auditor empties the queue, fills it, and empties it again, and
//! every letter is accounted for (`letters.rs`): received once, in order, whole; or it died with the receiver that
//! took it, at most one for each.

use std::{cell::Cell, sync::atomic::Ordering::SeqCst, thread, time::Duration};

use crate::{
    company::{Body, Companion, LIMIT, Moment, Moment::*, Process, Until::*, pause},
    letters::{
        Bag, DISORDER, End, Form, Got, LEFT, Mail, NUMBERS, Refusal, SEEN_AT_STOP, SHRUNK, TOLD_CLOSED, TORN,
        Who, accepted, cell, count, received,
    },
    scenario::{Damage, Enters, Kind, Play, Scenario},
    trace::stepped,
};

/// The objects of one trial.
#[derive(Clone)]
struct Post {
    /// The queue that the company is about.
    line: Mail,
    /// For getting warm.
    scratch: Mail,
    /// The first letter of the next companion.
    letters: Cell<u64>,
}

/// Letters that prepare a queue and are gone when it begins; nobody looks for them.
const NOBODYS: u64 = 0;
/// The letters that the stewards and visitors send.
const STEWARDS: u64 = 10;
const VISITORS: u64 = 18;
/// The letters with which the auditor fills the queue.
const AUDITORS: u64 = 140;

impl Post {
    fn new(mail: fn() -> Mail) -> Post {
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
enum Deed {
    Send(Form),
    Receive(Form),
    Close,
}

impl Deed {
    fn at(end: End, form: Form) -> Deed {
        match end {
            End::Sending => Deed::Send(form),
            End::Receiving => Deed::Receive(form),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Deed::Send(Form::Wait) => "send",
            Deed::Send(Form::Try) => "try_send",
            Deed::Send(Form::Timeout(_)) => "send_timeout",
            Deed::Receive(Form::Wait) => "recv",
            Deed::Receive(Form::Try) => "try_recv",
            Deed::Receive(Form::Timeout(_)) => "recv_timeout",
            Deed::Close => "close",
        }
    }

    /// Calls `stepped` once.
    fn act(self, post: &Post, who: Who) {
        for form in [Form::Wait, Form::Try, Form::Timeout(1), Form::Wait] {
            // Only to get warm; and somebody may have closed it.
            let _ = post.scratch.send(NOBODYS, form);
            post.scratch.receive(form);
        }
        match self {
            Deed::Send(form) => post.line.send_stepped(who, form),
            Deed::Receive(form) => post.line.receive_stepped(who, form),
            Deed::Close => stepped(|| post.line.close()),
        }
    }

    fn body(self, post: &Post, who: Who, survives: bool) -> Body {
        let post = post.clone();
        Box::new(move || {
            self.act(&post, who);
            match self {
                Deed::Send(_) if survives => End::Sending.done(),
                Deed::Receive(_) if survives => End::Receiving.done(),
                _ => {}
            }
        })
    }
}

// The companions.

/// Does its part at an end, and sleeps there as long as it must.
fn peer(post: &Post, at: End, moment: Moment) -> Companion {
    let (letter, post) = (post.next_letter(), post.clone());
    Companion::new("peer", [(moment, Asleep)], move || post.only_part(at, letter))
}

/// Tries once while somebody stands at his kill point; what it did not get it waits for after the death.
fn barger(post: &Post, at: End, stop: Moment, death: Moment) -> Companion {
    let (letter, post) = (post.next_letter(), post.clone());
    Companion::new("barger", [(Opening, Paused), (stop, Paused), (death, Nothing)], move || {
        pause();
        let done = post.part(at, letter, Form::Try, &mut Bag::default());
        pause();
        if done { at.done() } else { post.only_part(at, letter) }
    })
}

/// Tries again and again right after the death.
fn late_barger(post: &Post, at: End) -> Companion {
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
fn waker(post: &Post, at: End, times: u64) -> Companion {
    let (letter, post) = (post.next_letter(), post.clone());
    Companion::new("waker", [(Wake, Ended)], move || {
        let mut bag = Bag::default();
        for i in 0..times {
            post.part(at, letter + i, Form::Wait, &mut bag);
        }
    })
}

/// Sleeps at the head of an end's line, and is killed when the victim is to be woken.
fn dying_head(post: &Post, at: End) -> Companion {
    let (letter, post) = (post.next_letter(), post.clone());
    Companion::new("dying head of line", [(Opening, Paused), (Wake, Ended)], move || {
        let mut head = Process::fork(|| post.only_part(at, letter));
        assert!(head.until_asleep(LIMIT), "the head of line is not asleep");
        pause();
        head.kill();
    })
}

/// Sees to it that `count` companions at an end come to theirs. As long as one of them can, he must without help.
fn steward(post: &Post, at: End, count: u64, moment: Moment) -> Companion {
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
fn nudge(post: &Post, at: End) -> Companion {
    let (letter, post) = (post.next_letter(), post.clone());
    Companion::new("nudge", [(Death, Ended)], move || {
        if post.is_blocked(at) {
            post.part(at.other(), letter, Form::Wait, &mut Bag::default());
        }
    })
}

/// Comes when it is over, to both ends.
fn visitor(post: &Post) -> Companion {
    let post = post.clone();
    Companion::new("visitor", [(Death, Nothing)], move || {
        let first = if post.line.len() > 0 { End::Receiving } else { End::Sending };
        let mut bag = Bag::default();
        post.part(first, VISITORS, Form::Wait, &mut bag);
        post.part(first.other(), VISITORS, Form::Wait, &mut bag);
    })
}

/// Notes what has been committed when the victim stands at its kill point, for a victim that is alone.
fn observer(post: &Post) -> Companion {
    let post = post.clone();
    Companion::new("observer", [(Stop, Ended)], move || {
        let here = post.line.len() + (1..STEWARDS).map(received).sum::<u64>();
        cell(SEEN_AT_STOP).store(here + 1, SeqCst);
    })
}

fn closer(post: &Post, moment: Moment) -> Companion {
    let post = post.clone();
    Companion::new("closer", [(moment, Ended)], move || post.line.close())
}

/// Closes after the death. If it is closed already, then all that sleep at the end must know.
fn late_closer(post: &Post, at: End, count: u64) -> Companion {
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
fn free(post: &Post, own: End) {
    fill(post, if own == End::Receiving { post.line.room() } else { 0 });
}

/// Blocked after one more.
fn last(post: &Post, own: End) {
    fill(post, if own == End::Receiving { 1 } else { post.line.room() - 1 });
}

fn blocked(post: &Post, own: End) {
    free(post, own.other());
}

/// Free, and one died with the lock of this end.
fn owner_died(post: &Post, own: End) {
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
fn bit_opposite(post: &Post, own: End) {
    free(post, own);
    dies_asleep(post, own.other());
}

/// Blocked, and one died asleep at this end.
fn own_bit(post: &Post, own: End) {
    blocked(post, own);
    dies_asleep(post, own);
}

/// Free, and what comes next goes over the end of the buffer.
fn wrapped(post: &Post, own: End) {
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

/// A company, and what the queue is like.
struct Circle {
    name: &'static str,
    enters: Enters,
    mail: fn() -> Mail,
    prepare: fn(&Post, End),
    companions: fn(&Post, End) -> Vec<Companion>,
    /// Where the heir stands: its own end, or the other.
    heir: fn(End) -> Deed,
    /// Somebody closes the queue.
    closes: bool,
}

const fn awake(
    name: &'static str,
    prepare: fn(&Post, End),
    companions: fn(&Post, End) -> Vec<Companion>,
) -> Circle {
    let heir = |own| Deed::at(own, Form::Wait);
    Circle { name, enters: Enters::Awake, mail: Mail::short, prepare, companions, heir, closes: false }
}

/// The victim sleeps at its end, which is blocked, until a companion wakes it.
const fn woken(name: &'static str, companions: fn(&Post, End) -> Vec<Companion>) -> Circle {
    let mut circle = awake(name, blocked, companions);
    circle.enters = Enters::Woken;
    circle
}

impl Circle {
    const fn carrying(mut self, mail: fn() -> Mail) -> Circle {
        self.mail = mail;
        self
    }

    const fn closed(mut self) -> Circle {
        self.closes = true;
        self
    }

    const fn heir_opposite(mut self) -> Circle {
        self.heir = |own| Deed::at(own.other(), Form::Wait);
        self
    }
}

/// The victim can go on at once.
const FREE: &[Circle] = &[
    awake("free, alone", free, |p, _| vec![observer(p), visitor(p)]),
    awake("one more, alone", last, |p, _| vec![observer(p), visitor(p)]),
    awake("free, sleeper opposite", free, |p, own| {
        vec![peer(p, own.other(), Ready), steward(p, own.other(), 1, Death)]
    }),
    awake("free, three sleepers opposite", free, |p, own| {
        let other = own.other();
        vec![peer(p, other, Ready), peer(p, other, Ready), peer(p, other, Ready), steward(p, other, 3, Death)]
    }),
    awake("owner died before", owner_died, |p, _| vec![visitor(p)]),
    awake("a dead sleeper's bit, sleeper opposite", bit_opposite, |p, own| {
        vec![peer(p, own.other(), Ready), steward(p, own.other(), 1, Death)]
    }),
];

/// The same, in companies that all forms of an operation meet in the same way.
const FREE_BESIDES: &[Circle] = &[
    awake("free, two behind", free, |p, own| vec![peer(p, own, Stop), peer(p, own, Stop)]),
    awake("free, three sleepers opposite, late barger", free, |p, own| {
        let other = own.other();
        vec![
            peer(p, other, Ready),
            peer(p, other, Ready),
            peer(p, other, Ready),
            late_barger(p, own),
            steward(p, other, 3, Death),
        ]
    }),
    awake("free, two sleepers opposite, one behind, barger", free, |p, own| {
        let other = own.other();
        vec![
            peer(p, other, Ready),
            peer(p, other, Ready),
            peer(p, own, Stop),
            barger(p, own, Stop, Death),
            steward(p, other, 2, Death),
        ]
    }),
    awake("free, two sleepers opposite, barger opposite", free, |p, own| {
        let other = own.other();
        vec![
            peer(p, other, Ready),
            peer(p, other, Ready),
            barger(p, other, Stop, Death),
            steward(p, other, 3, Death),
        ]
    }),
    awake("owner died before, sleeper opposite, barger", owner_died, |p, own| {
        vec![peer(p, own.other(), Ready), barger(p, own, Stop, Death), steward(p, own.other(), 1, Death)]
    }),
    awake("a dead sleeper's bit, alone", bit_opposite, |p, _| vec![visitor(p)]),
    awake("wrapping, sleeper opposite", wrapped, |p, own| {
        vec![peer(p, own.other(), Ready), steward(p, own.other(), 1, Death)]
    })
    .carrying(Mail::wrapping),
    awake("wrapping, alone", wrapped, |p, _| vec![observer(p), visitor(p)]).carrying(Mail::wrapping),
    awake("24 bytes, alone", free, |p, _| vec![observer(p), visitor(p)]).carrying(Mail::long),
    awake("serde, wrapping, sleeper opposite", wrapped, |p, own| {
        vec![peer(p, own.other(), Ready), steward(p, own.other(), 1, Death)]
    })
    .carrying(Mail::serde),
];

/// The victim must wait, and is killed before it is woken: on its way to sleep, or asleep.
const BLOCKED: &[Circle] = &[
    awake("blocked, two behind", blocked, |p, own| {
        vec![peer(p, own, Stop), peer(p, own, Stop), steward(p, own, 2, Death)]
    }),
    awake("blocked behind another, one more behind", blocked, |p, own| {
        vec![peer(p, own, Opening), peer(p, own, Stop), steward(p, own, 2, Death)]
    }),
];

const BLOCKED_BESIDES: &[Circle] = &[
    awake("blocked, alone", blocked, |p, _| vec![visitor(p)]),
    awake("blocked, one behind, barger", blocked, |p, own| {
        vec![peer(p, own, Stop), barger(p, own, Stop, Death), steward(p, own, 2, Death)]
    }),
    awake("blocked, a dead sleeper's bit, one behind", own_bit, |p, own| {
        vec![peer(p, own, Stop), steward(p, own, 1, Death)]
    }),
    awake("blocked, freed at the kill point, one behind", blocked, |p, own| {
        vec![peer(p, own, Stop), barger(p, own.other(), Stop, Death), steward(p, own, 1, Death)]
    }),
];

/// A limit that ends the wait.
const TOO_LATE: &[Circle] =
    &[awake("too late, one behind", blocked, |p, own| vec![peer(p, own, Stop), steward(p, own, 1, Death)])];

/// A try that must be refused.
const REFUSED: &[Circle] = &[
    awake("blocked, alone", blocked, |p, _| vec![visitor(p)]),
    awake("blocked, another asleep", blocked, |p, own| {
        vec![peer(p, own, Opening), steward(p, own, 1, Death)]
    }),
];

/// The victim was asleep and is woken.
const WOKEN: &[Circle] = &[
    woken("woken, two behind", |p, own| {
        vec![waker(p, own.other(), 1), peer(p, own, Ready), peer(p, own, Ready), steward(p, own, 2, Death)]
    }),
    woken("woken, one behind, barger", |p, own| {
        vec![
            waker(p, own.other(), 1),
            peer(p, own, Ready),
            barger(p, own, Stop, Death),
            steward(p, own, 2, Death),
        ]
    }),
];

const WOKEN_BESIDES: &[Circle] = &[
    woken("woken, alone", |p, own| vec![waker(p, own.other(), 1), visitor(p)]),
    woken("woken, two behind, late barger", |p, own| {
        vec![
            waker(p, own.other(), 1),
            peer(p, own, Ready),
            peer(p, own, Ready),
            late_barger(p, own),
            steward(p, own, 3, Death),
        ]
    }),
    woken("woken by two, two behind", |p, own| {
        vec![waker(p, own.other(), 2), peer(p, own, Ready), peer(p, own, Ready), steward(p, own, 2, Death)]
    }),
    woken("woken from the lock, must wait on, one behind", |p, own| {
        vec![peer(p, own, Opening), waker(p, own.other(), 1), peer(p, own, Ready), steward(p, own, 2, Death)]
    }),
    woken("woken from the lock, can go on, one behind", |p, own| {
        vec![peer(p, own, Opening), waker(p, own.other(), 2), peer(p, own, Ready), steward(p, own, 2, Death)]
    }),
    woken("woken from the lock by a death, one behind, barger", |p, own| {
        vec![dying_head(p, own), peer(p, own, Ready), barger(p, own, Stop, Death), steward(p, own, 2, Death)]
    }),
];

/// Somebody closes the queue around the victim.
const CLOSING: &[Circle] = &[
    awake("free, sleeper opposite, closed at the kill point", free, |p, own| {
        vec![peer(p, own.other(), Ready), peer(p, own, Stop), closer(p, Stop)]
    })
    .closed(),
    awake("blocked, one behind, closed at the kill point", blocked, |p, own| {
        vec![peer(p, own, Stop), closer(p, Stop)]
    })
    .closed(),
    woken("woken by the closing, two behind", |p, own| {
        vec![closer(p, Wake), peer(p, own, Ready), peer(p, own, Ready)]
    })
    .closed(),
];

/// Around a closer; its own end is the one where others sleep.
const CLOSER: &[Circle] = &[
    awake("alone", free, |p, own| vec![late_closer(p, own, 0)]).closed(),
    awake("a second closer", free, |p, own| vec![closer(p, Stop), late_closer(p, own, 0)]).closed(),
];

const CLOSER_SENDERS: &[Circle] = &[
    awake("three senders asleep", blocked, closing_three).closed(),
    awake("two senders asleep, a dead sleeper's bit, a second closer", own_bit, closing_twice).closed(),
];

const CLOSER_RECEIVERS: &[Circle] = &[
    awake("three receivers asleep", blocked, closing_three).closed(),
    awake("two receivers asleep, a dead sleeper's bit, a second closer", own_bit, closing_twice).closed(),
];

fn closing_three(post: &Post, own: End) -> Vec<Companion> {
    let peer = || peer(post, own, Ready);
    vec![peer(), peer(), peer(), late_closer(post, own, 3)]
}

fn closing_twice(post: &Post, own: End) -> Vec<Companion> {
    let peer = || peer(post, own, Ready);
    vec![peer(), peer(), closer(post, Stop), late_closer(post, own, 2)]
}

/// The heir sleeps at an end and is woken by the victim's life or death; then it dies too.
const INHERITED: &[Circle] = &[
    awake("free, heir asleep opposite, another behind it", free, |p, own| {
        let other = own.other();
        vec![peer(p, other, Ready), nudge(p, other), steward(p, other, 1, SecondDeath)]
    })
    .heir_opposite(),
    awake("free, heir asleep opposite, another behind it, barger at the second death", free, |p, own| {
        let other = own.other();
        vec![
            peer(p, other, Ready),
            nudge(p, other),
            barger(p, other, SecondStop, SecondDeath),
            steward(p, other, 2, SecondDeath),
        ]
    })
    .heir_opposite(),
    awake("free, a dead sleeper's bit, heir asleep opposite, another behind it", bit_opposite, |p, own| {
        let other = own.other();
        vec![peer(p, other, Ready), nudge(p, other), steward(p, other, 1, SecondDeath)]
    })
    .heir_opposite(),
    awake("free, sleeper opposite, heir and another behind it", free, |p, own| {
        let other = own.other();
        vec![peer(p, other, Mark), peer(p, other, Ready), nudge(p, other), steward(p, other, 2, SecondDeath)]
    })
    .heir_opposite(),
    woken("woken, heir and another behind", |p, own| {
        vec![waker(p, own.other(), 1), peer(p, own, Ready), steward(p, own, 1, SecondDeath)]
    }),
    woken("woken, heir and another behind, barger at the first death", |p, own| {
        vec![
            waker(p, own.other(), 1),
            peer(p, own, Ready),
            barger(p, own, Stop, SecondDeath),
            steward(p, own, 2, SecondDeath),
        ]
    }),
    woken("woken, heir and another behind, barger at the second death", |p, own| {
        vec![
            waker(p, own.other(), 1),
            peer(p, own, Ready),
            barger(p, own, SecondStop, SecondDeath),
            steward(p, own, 2, SecondDeath),
        ]
    }),
    woken("woken by two, heir and another behind", |p, own| {
        vec![waker(p, own.other(), 2), peer(p, own, Ready), steward(p, own, 1, SecondDeath)]
    }),
    woken("woken from the lock, heir and another behind", |p, own| {
        vec![
            peer(p, own, Opening),
            waker(p, own.other(), 2),
            peer(p, own, Ready),
            steward(p, own, 2, SecondDeath),
        ]
    }),
    woken("woken by the closing, heir and another behind", |p, own| {
        vec![closer(p, Wake), peer(p, own, Ready)]
    })
    .closed(),
];

/// The heir stands stopped on its way while the victim dies.
const STOPPED: &[Circle] = &[
    awake("stopped sleeper opposite", free, |p, own| vec![steward(p, own.other(), 1, Death)]).heir_opposite(),
    awake("stopped sleeper opposite, another behind it", free, |p, own| {
        vec![peer(p, own.other(), Ready), steward(p, own.other(), 2, Death)]
    })
    .heir_opposite(),
    awake("a dead sleeper's bit, stopped sleeper opposite", bit_opposite, |p, own| {
        vec![steward(p, own.other(), 1, Death)]
    })
    .heir_opposite(),
    awake("sleeper opposite, another stopped behind it", free, |p, own| {
        vec![peer(p, own.other(), Mark), steward(p, own.other(), 2, Death)]
    })
    .heir_opposite(),
    awake("blocked, another stopped at its commit opposite, one behind", blocked, |p, own| {
        vec![peer(p, own, Stop), steward(p, own, 1, Death)]
    })
    .heir_opposite(),
];

const STOPPED_SENDERS: &[Circle] = &[
    awake("stopped sender on its way to sleep", blocked, |p, own| vec![late_closer(p, own, 0)]).closed(),
    awake("stopped sender at its commit, receiver asleep", free, |p, own| {
        vec![peer(p, own.other(), Mark), late_closer(p, own.other(), 1)]
    })
    .closed(),
];

const STOPPED_RECEIVERS: &[Circle] = &[
    awake("stopped receiver on its way to sleep", blocked, |p, own| vec![late_closer(p, own, 0)]).closed(),
    awake("stopped receiver, sender asleep", free, |p, own| {
        vec![peer(p, own.other(), Mark), late_closer(p, own.other(), 0)]
    })
    .closed(),
];

/// All scenarios of `Queue`.
pub fn scenarios() -> Vec<Scenario> {
    use Kind::*;
    let mut all = Vec::new();
    let mut add = |kind, deed, own, circles: &'static [Circle]| {
        all.extend(circles.iter().map(|circle| scenario(kind, deed, own, circle)));
    };
    for own in [End::Sending, End::Receiving] {
        let (wait, minute) = (Deed::at(own, Form::Wait), Deed::at(own, Form::Timeout(60_000)));
        for circles in [FREE, FREE_BESIDES, BLOCKED, BLOCKED_BESIDES, WOKEN, WOKEN_BESIDES, CLOSING] {
            add(OneDeath, wait, own, circles);
        }
        add(OneDeath, Deed::at(own, Form::Try), own, FREE);
        add(OneDeath, Deed::at(own, Form::Try), own, REFUSED);
        for circles in [FREE, BLOCKED, WOKEN] {
            add(OneDeath, minute, own, circles);
        }
        add(OneDeath, Deed::at(own, Form::Timeout(15)), own, TOO_LATE);
        add(TwoDeaths, wait, own, INHERITED);
        add(StoppedSleeper, wait, own, STOPPED);
    }
    add(OneDeath, Deed::Close, End::Sending, CLOSER);
    add(OneDeath, Deed::Close, End::Sending, CLOSER_SENDERS);
    add(OneDeath, Deed::Close, End::Receiving, CLOSER_RECEIVERS);
    add(StoppedSleeper, Deed::Close, End::Sending, STOPPED_SENDERS);
    add(StoppedSleeper, Deed::Close, End::Receiving, STOPPED_RECEIVERS);
    all.push(count_that_is_the_tid());
    all
}

fn scenario(kind: Kind, deed: Deed, own: End, circle: &'static Circle) -> Scenario {
    let heir = (circle.heir)(own);
    let play = move || {
        let post = Post::new(circle.mail);
        (circle.prepare)(&post, own);
        let dead = match kind {
            Kind::TwoDeaths => vec![(Who::Victim, deed), (Who::Heir, heir)],
            _ => vec![(Who::Victim, deed)],
        };
        Play {
            victim: deed.body(&post, Who::Victim, false),
            enters: circle.enters,
            heir: (kind != Kind::OneDeath).then(|| heir.body(&post, Who::Heir, kind == Kind::StoppedSleeper)),
            companions: (circle.companions)(&post, own),
            verify: Box::new(move |_| verify(&post, &dead, circle.closes)),
        }
    };
    Scenario { operation: deed.name(), company: circle.name, kind, play: Box::new(play) }
}

/// The doorbell's word comes to equal the sender's TID: were it pending, the kernel would take it for a lock.
fn count_that_is_the_tid() -> Scenario {
    let play = || {
        let post = Post::new(Mail::short);
        let victim = post.clone();
        // Two bits of the word are not the count's, so one TID in four will do; the next is the victim's, if nobody
        // else forks meanwhile. If it is another, the trial shows less.
        while Process::fork(|| ()).pid().as_raw() % 4 != 3 {}
        Play {
            victim: Box::new(move || {
                let commits = std::process::id() / 4;
                for _ in 1..commits {
                    let _ = victim.line.send(NOBODYS, Form::Try);
                    victim.line.receive(Form::Try);
                }
                Deed::Send(Form::Wait).act(&victim, Who::Victim);
            }),
            enters: Enters::Awake,
            heir: None,
            companions: vec![visitor(&post)],
            verify: Box::new(move |_| verify(&post, &[(Who::Victim, Deed::Send(Form::Wait))], false)),
        }
    };
    let company = "the count becomes its TID";
    Scenario { operation: "send", company, kind: Kind::OneDeath, play: Box::new(play) }
}

/// What is left when everybody has ended.
fn verify(post: &Post, dead: &[(Who, Deed)], closed: bool) -> Damage {
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
        let unsure = dead.iter().any(|(who, deed)| who.letter() == letter && matches!(deed, Deed::Send(_)));
        missing += sent.saturating_sub(got);
        doubled += got.saturating_sub(sent.max(u64::from(unsure)));
    }
    // A receiver that died without knowing what it had may have had one letter.
    let taken = dead.iter().filter(|(who, deed)| matches!(deed, Deed::Receive(_)) && !who.knows()).count();
    let mut lost = missing.saturating_sub(taken as u64) + count(DISORDER) + count(SHRUNK);
    if let Some(seen) = count(SEEN_AT_STOP).checked_sub(1) {
        let before: u64 = (1..STEWARDS).map(accepted).sum();
        lost += u64::from(seen + missing != before + received(Who::Victim.letter()));
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
