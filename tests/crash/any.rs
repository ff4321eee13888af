//! `wait_any`: who waits is killed, and who makes something ready.
//!
//! The sources are a queue, an event, and, in a mixture, a connection, whose descriptor makes the wait one of
//! io_uring. Whoever waits must come to an end by itself if something was made ready, and whoever receives beside it
//! must be woken by what is sent.

use std::{rc::Rc, time::Duration};

use pshared::{Connection, Event, PlainData, Queue, Source, duplex, wait_any, wait_any_timeout};

use crate::{
    board::{count, up},
    company::{Companion, Moment::*, Until::*, pause},
    scenario::{Damage, End, Enters, Kind, Play, Scenario},
    trace::stepped,
};

/// Waiters that came to an end; letters received.
const WAITED: usize = 0;
const GOT: usize = 1;
const TORN: usize = 2;

const LETTER: u64 = 0x0303_0303_0303_0303;

/// What one can wait for.
#[derive(Clone)]
struct Sources {
    queue: Queue<u64, PlainData>,
    event: Event,
    connection: Option<Rc<(Connection, Connection)>>,
}

impl Sources {
    fn new(mixed: bool) -> Sources {
        let connection = mixed.then(|| Rc::new(duplex().expect("a connection")));
        Sources {
            queue: Queue::plain(64).expect("a queue"),
            event: Event::new().expect("an event"),
            connection,
        }
    }

    fn with<R>(&self, wait: impl FnOnce(&[&dyn Source]) -> R) -> R {
        match &self.connection {
            Some(ends) => wait(&[&self.queue, &self.event, &ends.0]),
            None => wait(&[&self.queue, &self.event]),
        }
    }

    fn wait(&self) {
        let ready = self.with(|sources| wait_any(sources)).expect("this kernel can wait so");
        up(if ready.iter().all(|&place| place < 2) { WAITED } else { TORN });
    }

    fn receive(&self) {
        let number = self.queue.recv().expect("nobody closes it");
        up(if number == LETTER { GOT } else { TORN });
    }

    fn warm(&self) {
        let _ = self.with(|sources| wait_any_timeout(sources, Duration::from_micros(50)).is_ok());
        let _ = self.queue.recv_timeout(Duration::from_micros(50));
        for _ in 0..2 {
            self.event.set();
            self.event.clear();
            self.queue.send(LETTER).expect("there is room");
            let _ = self.with(|sources| wait_any(sources).is_ok());
            let _ = self.queue.recv();
        }
    }
}

/// What the victim does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deed {
    Wait,
    Send,
    Set,
}

struct Row {
    operation: &'static str,
    company: &'static str,
    kind: Kind,
    enters: Enters,
    deed: Deed,
    mixed: bool,
    /// Companions that wait for any.
    waiters: usize,
    /// Companions that receive.
    receivers: usize,
}

const fn row(operation: &'static str, company: &'static str, deed: Deed) -> Row {
    let (kind, enters) = (Kind::OneDeath, Enters::Awake);
    Row { operation, company, kind, enters, deed, mixed: false, waiters: 0, receivers: 0 }
}

static ROWS: &[Row] = &[
    row("wait_any", "alone", Deed::Wait),
    Row { receivers: 1, ..row("wait_any", "receiver asleep", Deed::Wait) },
    Row {
        receivers: 1,
        waiters: 1,
        enters: Enters::Woken,
        ..row("wait_any", "woken, receiver, another", Deed::Wait)
    },
    Row { mixed: true, receivers: 1, ..row("wait_any of a mixture", "receiver asleep", Deed::Wait) },
    Row {
        mixed: true,
        receivers: 1,
        enters: Enters::Woken,
        ..row("wait_any of a mixture", "woken, receiver", Deed::Wait)
    },
    Row { waiters: 1, ..row("send", "somebody waits for any", Deed::Send) },
    Row { waiters: 2, receivers: 1, ..row("send", "two wait for any, receiver asleep", Deed::Send) },
    Row { mixed: true, waiters: 1, ..row("send", "somebody waits for a mixture", Deed::Send) },
    Row { waiters: 2, ..row("Event::set", "two wait for any", Deed::Set) },
    Row { mixed: true, waiters: 1, ..row("Event::set", "somebody waits for a mixture", Deed::Set) },
    Row {
        kind: Kind::StoppedSleeper,
        ..row("send", "somebody stopped on the way to wait for any", Deed::Send)
    },
    Row {
        kind: Kind::StoppedSleeper,
        receivers: 1,
        ..row("send", "somebody stopped on the way to wait for any, receiver asleep", Deed::Send)
    },
    Row {
        kind: Kind::StoppedSleeper,
        ..row("Event::set", "somebody stopped on the way to wait for any", Deed::Set)
    },
    Row {
        kind: Kind::StoppedSleeper,
        mixed: true,
        ..row("send", "somebody stopped on the way to wait for a mixture", Deed::Send)
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

fn play(row: &'static Row) -> Play {
    let sources = Sources::new(row.mixed);
    let victim = {
        let sources = sources.clone();
        let scratch = Sources::new(row.mixed);
        Box::new(move || {
            scratch.warm();
            match row.deed {
                Deed::Wait => stepped(|| sources.wait()),
                Deed::Send => stepped(|| sources.queue.send(LETTER).expect("there is room")),
                Deed::Set => stepped(|| assert!(sources.event.set())),
            }
        })
    };
    let heir = (row.kind == Kind::StoppedSleeper).then(|| {
        let sources = sources.clone();
        let scratch = Sources::new(row.mixed);
        Box::new(move || {
            scratch.warm();
            stepped(|| sources.wait());
        }) as _
    });
    let mut companions = Vec::new();
    for _ in 0..row.waiters {
        let sources = sources.clone();
        companions.push(Companion::new("waiter", [(Ready, Asleep)], move || sources.wait()));
    }
    for _ in 0..row.receivers {
        let sources = sources.clone();
        companions.push(Companion::new("receiver", [(Ready, Asleep)], move || sources.receive()));
    }
    let maker = sources.clone();
    if row.enters == Enters::Woken {
        // The event wakes the victim and the waiters; what is sent afterwards, the receivers.
        companions.push(Companion::new(
            "maker",
            [(Opening, Paused), (Wake, Paused), (Death, Nothing)],
            move || {
                pause();
                maker.event.set();
                pause();
                (0..row.receivers).for_each(|_| maker.queue.send(LETTER).expect("there is room"));
            },
        ));
    } else {
        // Makes ready what the victim did not; and feeds the receivers.
        companions.push(Companion::new("maker", [(Opening, Paused), (Death, Nothing)], move || {
            pause();
            let deadline = std::time::Instant::now() + Duration::from_millis(600);
            let made = row.deed == Deed::Send && (!maker.queue.is_empty() || count(GOT) > 0);
            for _ in u64::from(made && row.receivers > 0)..row.receivers as u64 {
                maker.queue.send(LETTER).expect("there is room");
            }
            if !made && row.receivers == 0 && !maker.event.is_set() {
                maker.queue.send(LETTER).expect("there is room");
            }
            // A receiver may be quicker than those who wait for any.
            while row.receivers > 0
                && count(GOT) < row.receivers as u64
                && std::time::Instant::now() < deadline
            {
                std::thread::sleep(Duration::from_micros(50));
            }
            if row.receivers > 0 {
                maker.event.set();
            }
        }));
    }
    let verify = move |_: &End| {
        let works = sources.with(|all| wait_any_timeout(all, Duration::ZERO)).is_ok();
        Damage {
            wedged: (row.waiters as u64).saturating_sub(count(WAITED))
                + (row.receivers as u64).saturating_sub(count(GOT))
                + u64::from(!works),
            torn: count(TORN),
            ..Damage::default()
        }
    };
    Play { victim, enters: row.enters, heir, companions, verify: Box::new(verify) }
}
