//! `Queue`: its operations, and the companies in which they are killed.
//!
//! The two ends mirror each other, so a company is told once, from the victim's end: its *own* end and the *other*.
//! An end is *free* when one who comes there can go on at once, and *blocked* when he must wait for the other end: a
//! full queue blocks senders, an empty one receivers.
//!
//! Whom the contents of the queue entitle to go on must do so by himself: a [`steward`] looks on, and moves the other
//! end only when nobody at this one can. In the end an auditor empties the queue, fills it, and empties it again, and
//! every letter is accounted for (`letters.rs`, `post.rs`): received once, in order, whole; or it died with the
//! receiver that took it, at most one for each.

use crate::{
    company::{Companion, Moment::*, Process},
    letters::{End, Form, Mail, Who},
    post::{
        Deed, NOBODYS, Post, barger, bit_opposite, blocked, closer, dying_head, free, last, late_barger,
        late_closer, nudge, observer, own_bit, owner_died, peer, steward, verify, visitor, waker, whole,
        wrapped,
    },
    scenario::{Enters, Kind, Play, Scenario},
};

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

/// Where letters are written and read where they lie, the end's lock is held from one call to the next.
const IN_PLACE: &[Circle] = &[
    awake("in place, alone", free, |p, _| vec![observer(p), visitor(p)]).carrying(Mail::in_place),
    awake("in place, wrapping, alone", wrapped, |p, _| vec![observer(p), visitor(p)])
        .carrying(Mail::in_place),
    awake("in place, one behind", free, |p, own| vec![peer(p, own, Stop)]).carrying(Mail::in_place),
    awake("in place, sleeper opposite", free, |p, own| {
        vec![peer(p, own.other(), Ready), steward(p, own.other(), 1, Death)]
    })
    .carrying(Mail::in_place),
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

/// Around one that sends or receives a batch.
const BATCHES: &[Circle] = &[
    awake("wrapping, two sleepers opposite", wrapped, |p, own| {
        let other = own.other();
        vec![peer(p, other, Ready), peer(p, other, Ready), steward(p, other, 2, Death)]
    })
    .carrying(Mail::wrapping),
    awake("24 bytes, sleeper opposite", free, |p, own| {
        vec![peer(p, own.other(), Ready), steward(p, own.other(), 1, Death)]
    })
    .carrying(Mail::long),
    awake("serde, alone", free, |p, _| vec![visitor(p)]).carrying(Mail::serde),
];

/// There is room for the whole batch.
const WHOLE: &[Circle] = &[awake("room for all, alone", free, |p, _| vec![whole(p), visitor(p)])];

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
        for circles in [FREE, BLOCKED, WOKEN, BATCHES, CLOSING] {
            add(OneDeath, Deed::many_at(own), own, circles);
        }
        add(TwoDeaths, Deed::many_at(own), own, &INHERITED[..2]);
        add(StoppedSleeper, Deed::many_at(own), own, &STOPPED[..2]);
        add(TwoDeaths, wait, own, INHERITED);
        add(StoppedSleeper, wait, own, STOPPED);
    }
    for own in [End::Sending, End::Receiving] {
        add(OneDeath, Deed::at(own, Form::Wait), own, IN_PLACE);
    }
    add(OneDeath, Deed::SendMany, End::Sending, WHOLE);
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
