//! Registration at a `Queue`: its operations, and the companies in which they are killed.
//!
//! Whoever waits must be told when all who have registered at the other end are gone, and not before: a companion that
//! is registered notes before it leaves how many waiters have been told by then.

use std::{mem::forget, time::Duration};

use pshared::{Capacity, PlainData, Queue, QueueEntryError, RecvError, SendError};

use crate::{
    board::{count, up},
    company::{Companion, Moment::*, Until::*, pause},
    scenario::{Damage, End, Enters, Kind, Play, Scenario},
    trace::stepped,
};

type Numbers = Queue<u64, PlainData>;

/// Waiters that were told; letters received; somebody was told too early; letters that are surely sent.
const TOLD: usize = 0;
const GOT: usize = 1;
const EARLY: usize = 2;
const SENT: usize = 3;
const TORN: usize = 4;

fn numbers(items: usize) -> Numbers {
    Queue::plain(Capacity::bytes(256).items(items).peers(3)).expect("a queue")
}

/// What a trial is about.
#[derive(Clone)]
struct Line {
    queue: Numbers,
    scratch: Numbers,
    /// Who registers sends, and who waits receives; or the reverse.
    senders: bool,
}

impl Line {
    fn new(senders: bool) -> Line {
        let queue = numbers(2);
        if !senders {
            (0..2).for_each(|_| queue.send(LETTER).expect("there is room"));
        }
        Line { queue, scratch: numbers(2), senders }
    }

    /// Holds a registration until the process ends, or `during` has returned.
    fn register(&self, during: impl FnOnce()) {
        if self.senders {
            let _sender = self.queue.sender().expect("there is room");
            during();
        } else {
            let _receiver = self.queue.receiver().expect("there is room");
            during();
        }
    }

    /// Waits at the other end until it is told.
    fn wait(&self) {
        if self.senders {
            loop {
                match self.queue.recv() {
                    Ok(LETTER) => up(GOT),
                    Ok(_) => up(TORN),
                    Err(RecvError::Disconnected) => break,
                    Err(error) => panic!("{error}"),
                }
            }
        } else {
            match self.queue.send(LETTER) {
                Err(SendError::Disconnected(LETTER)) => {}
                other => panic!("{other:?}"),
            }
        }
        up(TOLD);
    }

    fn warm(&self) {
        let scratch = &self.scratch;
        let limit = Duration::from_micros(1);
        let (sender, receiver) = (scratch.sender().unwrap(), scratch.receiver().unwrap());
        let _ = receiver.recv_timeout(limit);
        (0..3).for_each(|_| drop(sender.send_timeout(LETTER, limit)));
        let _ = receiver.recv();
        drop((sender, receiver));
        let _ = (scratch.recv(), scratch.recv(), scratch.send(LETTER));
    }
}

const LETTER: u64 = 0x0101_0101_0101_0101;

/// What the victim does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deed {
    /// Registers, and goes.
    Stay,
    /// The same, and sends one in between.
    StayAndSend,
    /// Registers where there is no room.
    Refused,
    /// Waits to be told.
    Wait,
}

struct Row {
    operation: &'static str,
    company: &'static str,
    kind: Kind,
    enters: Enters,
    deed: Deed,
    senders: bool,
    /// Companions that wait to be told.
    waiters: usize,
    /// One is registered from before until after the death.
    witness: bool,
    /// Somebody registered and died before.
    dead: bool,
}

const fn row(operation: &'static str, company: &'static str, deed: Deed, senders: bool) -> Row {
    Row {
        operation,
        company,
        kind: Kind::OneDeath,
        enters: Enters::Awake,
        deed,
        senders,
        waiters: 1,
        witness: false,
        dead: false,
    }
}

static ROWS: &[Row] = &[
    Row { waiters: 0, ..row("Queue::sender", "alone", Deed::Stay, true) },
    row("Queue::sender", "receiver asleep", Deed::Stay, true),
    Row { waiters: 2, ..row("Queue::sender", "two receivers asleep", Deed::Stay, true) },
    Row { witness: true, ..row("Queue::sender", "receiver asleep, another sender", Deed::Stay, true) },
    Row { waiters: 0, dead: true, ..row("Queue::sender", "a dead sender", Deed::Stay, true) },
    row("Queue::sender, send", "receiver asleep", Deed::StayAndSend, true),
    Row {
        witness: true,
        ..row("Queue::sender, send", "receiver asleep, another sender", Deed::StayAndSend, true)
    },
    Row { waiters: 0, witness: true, ..row("Queue::sender", "no room", Deed::Refused, true) },
    row("Queue::receiver", "sender asleep", Deed::Stay, false),
    Row {
        waiters: 2,
        witness: true,
        ..row("Queue::receiver", "two senders asleep, another receiver", Deed::Stay, false)
    },
    Row { witness: true, ..row("recv of a registered queue", "another asleep behind", Deed::Wait, true) },
    Row { witness: true, ..row("send to a registered queue", "another asleep behind", Deed::Wait, false) },
    Row {
        witness: true,
        enters: Enters::Woken,
        ..row("recv of a registered queue", "woken by the end, another behind", Deed::Wait, true)
    },
    Row {
        witness: true,
        enters: Enters::Woken,
        ..row("send to a registered queue", "woken by the end, another behind", Deed::Wait, false)
    },
    Row {
        kind: Kind::StoppedSleeper,
        waiters: 0,
        ..row("Queue::sender", "stopped receiver", Deed::Stay, true)
    },
    Row {
        kind: Kind::StoppedSleeper,
        waiters: 1,
        ..row("Queue::sender, send", "stopped receiver, another asleep", Deed::StayAndSend, true)
    },
    Row {
        kind: Kind::StoppedSleeper,
        waiters: 0,
        ..row("Queue::receiver", "stopped sender", Deed::Stay, false)
    },
    Row {
        kind: Kind::TwoDeaths,
        waiters: 1,
        ..row("Queue::sender", "receiver asleep is the heir, another behind", Deed::Stay, true)
    },
];

pub fn scenarios() -> Vec<Scenario> {
    ROWS.iter()
        .map(|row| Scenario {
            operation: row.operation,
            company: row.company,
            kind: row.kind,
            play: Box::new(move || play(row)),
        })
        .collect()
}

fn act(row: &Row, line: &Line) {
    line.warm();
    let queue = &line.queue;
    match row.deed {
        Deed::Stay => stepped(|| line.register(|| ())),
        Deed::StayAndSend => {
            stepped(|| {
                line.register(|| {
                    let _ = queue.send(LETTER);
                });
                up(SENT);
            });
        }
        Deed::Refused => {
            (0..2).for_each(|_| forget(queue.sender().expect("there is room")));
            let said = stepped(|| queue.sender().map(drop));
            assert_eq!(said, Err(QueueEntryError::Full { room: 3 }));
        }
        Deed::Wait => stepped(|| line.wait()),
    }
}

fn play(row: &'static Row) -> Play {
    let line = Line::new(row.senders);
    if row.dead {
        let line = line.clone();
        crate::company::run_to_end(move || forget(line.queue.sender().expect("there is room")));
    }
    let victim = {
        let line = line.clone();
        Box::new(move || act(row, &line))
    };
    let heir = (row.kind != Kind::OneDeath).then(|| {
        let line = line.clone();
        Box::new(move || {
            line.warm();
            stepped(|| line.wait());
        }) as _
    });
    let mut companions = Vec::new();
    if row.witness {
        let line = line.clone();
        // The victim is woken by its leaving; else it leaves after the death.
        let leaves = if row.enters == Enters::Woken { Wake } else { Death };
        companions.push(Companion::new("witness", [(Opening, Paused), (leaves, Ended)], move || {
            line.register(|| {
                pause();
                if count(TOLD) > 0 {
                    up(EARLY);
                }
            });
        }));
    }
    for _ in 0..row.waiters {
        let line = line.clone();
        companions.push(Companion::new("waiter", [(Ready, Asleep)], move || line.wait()));
    }
    // If the victim did not come so far as to be counted, nobody was there; so somebody comes and goes.
    let last = line.clone();
    let moment = if row.kind == Kind::TwoDeaths { SecondDeath } else { Death };
    companions.push(Companion::new("last", [(moment, Nothing)], move || last.register(|| ())));
    if row.kind == Kind::TwoDeaths {
        let nudge = line.clone();
        companions.push(Companion::new("nudge", [(Death, Ended)], move || nudge.register(|| ())));
    }
    let verify = move |_: &End| {
        let waiters = row.waiters as u64;
        let told = count(TOLD);
        let sent = count(SENT);
        let left = if row.senders { line.queue.len() as u64 } else { line.queue.len().abs_diff(2) as u64 };
        let here = count(GOT) + if row.senders { left } else { 0 };
        Damage {
            wedged: waiters.saturating_sub(told),
            torn: count(TORN),
            lost: count(EARLY) + sent.saturating_sub(here) + if row.waiters > 0 { left } else { 0 },
            doubled: here.saturating_sub(u64::from(row.deed == Deed::StayAndSend)),
        }
    };
    Play { victim, enters: row.enters, heir, companions, verify: Box::new(verify) }
}
