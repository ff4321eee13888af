//! `pipe` and `duplex`: their operations, and the companies in which they are killed.
//!
//! The victim has one end, a peer the other; and the harness has idle copies of both, so the kernel alone would never
//! call an end closed. The peer goes on until it is told that the other end has gone. A victim that was killed before
//! its end was its own leaves it to a second user, who comes after the death; a victim that was the owner leaves
//! nothing to anybody. In the end every message was received once and whole, but for what the dead had not sent, or
//! had taken.

use std::{ptr, rc::Rc, sync::atomic::Ordering::SeqCst, thread, time::Duration};

use pshared::{Connection, PipeRecvError, PipeSendError, duplex};

use crate::{
    board::{board, count, up},
    company::{Companion, LIMIT, Moment, Moment::*, Until::*, pause},
    scenario::{Damage, End, Enters, Kind, Play, Scenario},
    trace::stepped,
};

/// How often each letter was received; how often it was surely sent.
const RECEIVED: usize = 0;
const SENT: usize = 10;
const TORN: usize = 20;
/// The peer was told that the other end has gone.
const TOLD: usize = 21;
/// The victim has dropped its end, and lives.
const DROPPED: usize = 22;
/// Somebody should have been told and was not.
const UNTOLD: usize = 23;

/// The letters of the victim, of the second user, and of the peer.
const VICTIMS: u64 = 1;
const SECONDS: u64 = 2;
const PEERS: u64 = 3;

/// The two ends. The harness keeps copies of both.
#[derive(Clone)]
struct Line {
    peers: Rc<Connection>,
    victims: Rc<Connection>,
    scratch: Rc<(Connection, Connection)>,
    /// In bytes.
    length: usize,
}

impl Line {
    fn new(length: usize) -> Line {
        let (peers, victims) = duplex().expect("a connection");
        let scratch = Rc::new(duplex().expect("a connection"));
        Line { peers: Rc::new(peers), victims: Rc::new(victims), scratch, length }
    }

    fn letter(&self, letter: u64) -> Vec<u8> {
        letter.to_ne_bytes().repeat(self.length / 8)
    }

    fn warm(&self) {
        let (one, other) = &*self.scratch;
        let _ = other.poll(Some(Duration::from_micros(1)));
        let _ = one.send_bytes_timeout(&self.letter(VICTIMS), Duration::from_micros(1));
        let _ = other.try_recv_bytes(usize::MAX);
        let _ = other.recv_bytes_timeout(usize::MAX, Duration::from_micros(1));
        // SAFETY: the victim does not touch it again.
        drop(unsafe { ptr::read(one) });
    }
}

/// Notes what was received. False when there will be no more.
fn note(received: Result<Vec<u8>, PipeRecvError>) -> bool {
    match received {
        Ok(bytes) => {
            let letter = bytes.first().copied().unwrap_or_default();
            let whole = bytes.chunks_exact(8).all(|word| word == u64::from(letter).to_ne_bytes());
            up(if whole && letter < 10 { RECEIVED + usize::from(letter) } else { TORN });
            true
        }
        Err(PipeRecvError::Disconnected) => false,
        Err(error) => panic!("{error}"),
    }
}

/// Sends a letter, and notes it. False if that is not possible any more, or not for us.
fn put(end: &Connection, line: &Line, letter: u64) -> bool {
    match end.send_bytes(&line.letter(letter)) {
        Ok(()) => {
            up(SENT + letter as usize);
            true
        }
        Err(PipeSendError::Disconnected | PipeSendError::Taken) => false,
        Err(error) => panic!("{error}"),
    }
}

/// Fills the way from an end, so that its next sender must wait.
fn fill(end: &Connection, line: &Line) {
    while end.try_send_bytes(&line.letter(0)).is_ok() {
        up(SENT);
    }
}

/// What the victim does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deed {
    Send,
    TrySend,
    Receive,
    TryReceive,
    Poll,
    Drop,
}

/// What the peer does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Peer {
    /// Receives until the other end has gone.
    Reads,
    /// Sends until the other end has gone.
    Writes,
    /// Sends one, and then receives.
    Answers,
}

struct Row {
    operation: &'static str,
    company: &'static str,
    kind: Kind,
    enters: Enters,
    deed: Deed,
    peer: Peer,
    /// When the peer comes.
    moment: Moment,
    /// The victim has used its end before.
    used: bool,
    /// The victim's way is full.
    full: bool,
    length: usize,
}

const fn row(operation: &'static str, company: &'static str, deed: Deed, peer: Peer) -> Row {
    Row {
        operation,
        company,
        kind: Kind::OneDeath,
        enters: Enters::Awake,
        deed,
        peer,
        moment: Ready,
        used: false,
        full: false,
        length: 8,
    }
}

/// More than a packet takes.
const LONG: usize = 70_000;

static ROWS: &[Row] = &[
    row("Connection::send", "first use, receiver asleep", Deed::Send, Peer::Reads),
    Row { used: true, ..row("Connection::send", "receiver asleep", Deed::Send, Peer::Reads) },
    Row { moment: Death, ..row("Connection::send", "first use, alone", Deed::Send, Peer::Reads) },
    Row { length: LONG, ..row("Connection::send", "long, receiver asleep", Deed::Send, Peer::Reads) },
    Row { full: true, used: true, moment: Stop, ..row("Connection::send", "full", Deed::Send, Peer::Reads) },
    Row {
        full: true,
        used: true,
        moment: Wake,
        enters: Enters::Woken,
        ..row("Connection::send", "full, woken", Deed::Send, Peer::Reads)
    },
    row("Connection::try_send", "first use, receiver asleep", Deed::TrySend, Peer::Reads),
    Row {
        full: true,
        used: true,
        moment: Stop,
        ..row("Connection::try_send", "full", Deed::TrySend, Peer::Reads)
    },
    row("Connection::recv", "first use, sender asleep", Deed::Receive, Peer::Writes),
    Row { used: true, ..row("Connection::recv", "sender asleep", Deed::Receive, Peer::Writes) },
    Row { length: LONG, ..row("Connection::recv", "long, sender asleep", Deed::Receive, Peer::Writes) },
    Row { moment: Stop, ..row("Connection::recv", "empty, alone", Deed::Receive, Peer::Writes) },
    Row {
        moment: Wake,
        enters: Enters::Woken,
        ..row("Connection::recv", "woken", Deed::Receive, Peer::Answers)
    },
    row("Connection::try_recv", "first use, sender asleep", Deed::TryReceive, Peer::Writes),
    Row { used: true, ..row("Connection::try_recv", "sender asleep", Deed::TryReceive, Peer::Writes) },
    Row { moment: Stop, ..row("Connection::try_recv", "empty, alone", Deed::TryReceive, Peer::Writes) },
    row("Connection::poll", "first use, sender asleep", Deed::Poll, Peer::Writes),
    Row { used: true, ..row("drop of a connection", "receiver asleep", Deed::Drop, Peer::Reads) },
    Row { used: true, ..row("drop of a connection", "sender asleep", Deed::Drop, Peer::Writes) },
    Row {
        kind: Kind::StoppedSleeper,
        ..row("Connection::send", "first use, stopped receiver", Deed::Send, Peer::Reads)
    },
    Row {
        kind: Kind::StoppedSleeper,
        ..row("Connection::recv", "first use, stopped sender", Deed::Receive, Peer::Writes)
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
    let end = &*line.victims;
    if row.used {
        let _ = end.poll(Some(Duration::ZERO)).expect("the victim's own end");
    }
    if row.full {
        fill(end, line);
    }
    let letter = line.letter(VICTIMS);
    match row.deed {
        Deed::Send => stepped(|| drop(end.send_bytes(&letter))),
        Deed::TrySend => stepped(|| drop(end.try_send_bytes(&letter))),
        Deed::Receive => stepped(|| drop(end.recv_bytes(usize::MAX))),
        Deed::TryReceive => stepped(|| drop(end.try_recv_bytes(usize::MAX))),
        Deed::Poll => stepped(|| drop(end.poll(None))),
        Deed::Drop => stepped(|| {
            // SAFETY: the victim does not touch it again.
            drop(unsafe { ptr::read(end) });
            board().cells[DROPPED].store(1, SeqCst);
        }),
    }
}

/// The peer's part.
fn meet(peer: Peer, line: &Line) {
    let end = &*line.peers;
    match peer {
        Peer::Reads => while note(end.recv_bytes(usize::MAX)) {},
        Peer::Writes => while put(end, line, PEERS) {},
        Peer::Answers => {
            put(end, line, PEERS);
            while note(end.recv_bytes(usize::MAX)) {}
        }
    }
    board().cells[TOLD].store(1, SeqCst);
}

fn play(row: &'static Row) -> Play {
    let line = Line::new(row.length);
    let victim = {
        let line = line.clone();
        Box::new(move || act(row, &line))
    };
    let stopped = row.kind == Kind::StoppedSleeper;
    let heir = stopped.then(|| {
        let line = line.clone();
        Box::new(move || {
            line.warm();
            if row.peer == Peer::Writes {
                // What it does until it must wait is long, and other rows' matter.
                fill(&line.peers, &line);
            }
            stepped(|| meet(row.peer, &line));
        }) as _
    });
    let mut companions = Vec::new();
    if !stopped {
        let line = line.clone();
        let arrived = if row.moment == Ready { Asleep } else { Nothing };
        companions.push(Companion::new("peer", [(row.moment, arrived)], move || meet(row.peer, &line)));
    }
    companions.push(Companion::new("witness", [(Opening, Paused), (Stop, Ended)], || {
        pause();
        if count(DROPPED) == 1 {
            let limit = std::time::Instant::now() + LIMIT / 2;
            while count(TOLD) == 0 && std::time::Instant::now() < limit {
                thread::sleep(Duration::from_micros(50));
            }
            board().cells[UNTOLD].store(u64::from(count(TOLD) == 0), SeqCst);
        }
    }));
    // Comes when the victim is dead, and uses the end if it is nobody's.
    let second = line.clone();
    companions.push(Companion::new("second user", [(Opening, Paused), (Death, Nothing)], move || {
        pause();
        let end = &*second.victims;
        match row.peer {
            Peer::Reads | Peer::Answers => drop(put(end, &second, SECONDS)),
            Peer::Writes => match end.recv_bytes(usize::MAX) {
                Err(PipeRecvError::Taken) => {}
                received => drop(note(received)),
            },
        }
    }));
    let verify = move |end: &End| {
        let _copies = &line;
        let sends = matches!(row.deed, Deed::Send | Deed::TrySend) && !row.full;
        let received = |letter: u64| count(RECEIVED + letter as usize);
        let lost = u64::from(sends && end.finished && received(VICTIMS) == 0)
            + if row.peer == Peer::Reads {
                count(SENT + SECONDS as usize).saturating_sub(received(SECONDS))
            } else {
                0
            };
        let doubled = received(VICTIMS).saturating_sub(1) + received(SECONDS).saturating_sub(1);
        let wedged = count(UNTOLD) + u64::from(count(TOLD) == 0);
        Damage { wedged, torn: count(TORN), lost, doubled }
    };
    Play { victim, enters: row.enters, heir, companions, verify: Box::new(verify) }
}
