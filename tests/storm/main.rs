//! `cargo storm`: random SIGKILLs under load, always against the same objects.
//!
//! Four senders and four receivers share a queue; receivers pass on what they took to this process, through a second
//! queue, and all of them count in a value. One of the eight is killed at random and replaced, `--kills` times. Then
//! the books are opened:
//!
//! - *lost*: a message whose `send` had returned that nobody received, beyond one for each killed receiver, which may
//!   have had it in hand;
//! - *doubled*, *torn*: a message that came twice, or with contents that no sender wrote;
//! - *stalled*: a second in which nothing came through although nobody was stopped.
//!
//! Then the same with tasks (`tasks.rs`), with a channel (`channel.rs`) and in a pool (`pool.rs`); and a flow that
//! nobody disturbs (`flow.rs`). `cargo storm [pool] [--kills N] [--messages N] [--seed S]`; `pool` leaves out all but
//! that. The exact kill (`cargo crash`) proves more; this shows the whole at work.

mod channel;
mod flow;
mod pool;
#[path = "../support/mod.rs"]
mod support;
mod tasks;

use std::{
    collections::HashMap,
    process::ExitCode,
    time::{Duration, Instant},
};

use pshared::{Atomic, PlainData, Queue, RecvTimeoutError, Value};
use support::{Child, fork_child, random::Random};

/// Who sent it, its number there, and a check on both.
type Letter = [u64; 3];

const SENDERS: usize = 4;
const RECEIVERS: usize = 4;
/// A receiver that waits longer than this for anything has stalled.
const STALL: Duration = Duration::from_secs(1);

struct Goods {
    post: Queue<Letter, PlainData>,
    results: Queue<Letter, PlainData>,
    /// For each sender's place: the last number whose `send` returned.
    accepted: Vec<Atomic<u64>>,
    /// Two equal numbers that everybody counts up.
    turns: Value<[u64; 2]>,
    stop: Atomic<u8>,
}

fn check(sender: u64, number: u64) -> u64 {
    (sender << 32 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Goods {
    fn new() -> Goods {
        Goods {
            post: Queue::plain(1024).expect("memory"),
            results: Queue::plain(1 << 14).expect("memory"),
            accepted: (0..SENDERS).map(|_| Atomic::new(0).expect("memory")).collect(),
            turns: Value::new([0; 2]).expect("memory"),
            stop: Atomic::new(0).expect("memory"),
        }
    }

    fn sender(&self, place: usize, name: u64) -> Child {
        fork_child(|| {
            let mut number = 0;
            while self.stop.get() == 0 {
                number += 1;
                self.post.send([name, number, check(name, number)]).expect("nobody closes it before the end");
                self.accepted[place].set(number);
                self.turns.update(|turns| turns.iter_mut().for_each(|n| *n += 1));
            }
        })
    }

    fn receiver(&self) -> Child {
        fork_child(|| {
            while let Ok(letter) = self.post.recv() {
                self.results.send(letter).expect("nobody closes it before the end");
                self.turns.update(|turns| turns.iter_mut().for_each(|n| *n += 1));
            }
        })
    }
}

/// What came, and what should have come.
#[derive(Default)]
struct Books {
    /// For each sender, how often each of its numbers came.
    came: HashMap<u64, Vec<u8>>,
    accepted: HashMap<u64, u64>,
    letters: u64,
    torn: u64,
    stalled: u64,
    receivers_killed: u64,
}

impl Books {
    fn enter(&mut self, [sender, number, sum]: Letter) {
        self.letters += 1;
        if sum != check(sender, number) || number == 0 || number > u64::from(u32::MAX) {
            self.torn += 1;
            return;
        }
        let came = self.came.entry(sender).or_default();
        let index = number as usize - 1;
        came.resize(came.len().max(index + 1), 0);
        came[index] = came[index].saturating_add(1);
    }

    /// Takes in some of what is there, and waits for at least one letter.
    fn collect(&mut self, goods: &Goods) {
        match goods.results.recv_timeout(STALL) {
            Ok(letter) => self.enter(letter),
            Err(RecvTimeoutError::TimedOut) => {
                self.stalled += 1;
                eprintln!("stalled: {:?}, {:?}, {:?}", goods.post, goods.results, goods.turns);
            }
            Err(error) => panic!("{error}"),
        }
        for letter in std::iter::from_fn(|| goods.results.try_recv().ok()).take(100) {
            self.enter(letter);
        }
    }

    /// (lost, doubled), where each killed receiver may have taken one letter along.
    fn verdict(&self) -> (u64, u64) {
        let none = Vec::new();
        let missing = |(sender, &accepted): (&u64, &u64)| {
            let came = self.came.get(sender).unwrap_or(&none);
            (0..accepted as usize).filter(|&i| came.get(i).copied().unwrap_or(0) == 0).count() as u64
        };
        let missing: u64 = self.accepted.iter().map(missing).sum();
        let doubled = self.came.values().flatten().filter(|&&times| times > 1).count() as u64;
        (missing.saturating_sub(self.receivers_killed), doubled)
    }
}

fn main() -> ExitCode {
    let number = |name: &str, default: u64| {
        let mut arguments = std::env::args().skip_while(|argument| argument != name);
        arguments.nth(1).and_then(|n| n.parse().ok()).unwrap_or(default)
    };
    let (kills, messages) = (number("--kills", 20_000), number("--messages", 1_000_000));
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |d| d.as_nanos() as u64);
    let seed = number("--seed", now);
    println!("storm: {kills} kills, seed {seed}");
    let mut random = Random(seed | 1);
    let mut draw = move |limit: u64| random.below(limit);

    if std::env::args().any(|argument| argument == "pool") {
        return ExitCode::from(u8::from(pool::storm(kills, &mut draw) > 0));
    }
    let begun = Instant::now();
    let goods = Goods::new();
    let mut books = Books::default();
    let mut names = 0..;
    let mut name = || names.next().expect("names without end");
    let mut senders: Vec<(u64, Child)> = (0..SENDERS)
        .map(|place| {
            let name = name();
            (name, goods.sender(place, name))
        })
        .collect();
    let mut receivers: Vec<Child> = (0..RECEIVERS).map(|_| goods.receiver()).collect();
    for _ in 0..kills {
        let pause = Duration::from_micros(draw(300));
        let until = Instant::now() + pause;
        while Instant::now() < until {
            books.collect(&goods);
        }
        let victim = draw((SENDERS + RECEIVERS) as u64) as usize;
        if victim < SENDERS {
            let fresh = name();
            let (old, child) = &mut senders[victim];
            child.kill_now();
            books.accepted.insert(*old, goods.accepted[victim].swap(0));
            (*old, *child) = (fresh, goods.sender(victim, fresh));
        } else {
            let child = &mut receivers[victim - SENDERS];
            child.kill_now();
            books.receivers_killed += 1;
            *child = goods.receiver();
        }
        books.collect(&goods);
    }
    goods.stop.set(1);
    for (place, (name, child)) in senders.into_iter().enumerate() {
        while !child.has_ended() {
            while let Ok(letter) = goods.results.try_recv() {
                books.enter(letter);
            }
        }
        child.join_ok();
        books.accepted.insert(name, goods.accepted[place].get());
    }
    goods.post.close();
    for child in receivers {
        while !child.has_ended() {
            while let Ok(letter) = goods.results.try_recv() {
                books.enter(letter);
            }
        }
        child.join_ok();
    }
    while let Ok(letter) = goods.results.try_recv() {
        books.enter(letter);
    }

    let [one, other] = goods.turns.get();
    books.torn += u64::from(one != other);
    let (lost, doubled) = books.verdict();
    let (letters, seconds) = (books.letters, begun.elapsed().as_secs_f32());
    println!(
        "storm: {letters} messages, {one} turns, {} receivers killed, {seconds:.1} s",
        books.receivers_killed
    );
    println!(
        "storm: {kills} kills, {lost} lost, {doubled} doubled, {} torn, {} stalled",
        books.torn, books.stalled
    );
    let mut damage = lost + doubled + books.torn + books.stalled;
    damage += tasks::storm(kills, &mut draw);
    damage += channel::storm(kills, &mut draw);
    damage += pool::storm(kills, &mut draw);
    damage += flow::run(messages, &mut draw);
    ExitCode::from(u8::from(damage > 0))
}
