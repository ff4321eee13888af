//! What parties do with a contender: the same for all of them.
//!
//! Every drive ends by the clock, not after a number of operations, since the same operation takes 4 ns or 40 as the
//! CPUs happen to lie. Whoever counts says the last number before anybody can have come to it.

use std::{
    hint::black_box,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use bytemuck::Zeroable;

use crate::parties::{Clock, FIRST, LAST, Line, Mode, Party, cpus, shared, stay_on, together};

/// Two parties on two CPUs.
pub const APART: [usize; 2] = [FIRST, LAST];
/// Two parties on one.
pub const ON_ONE: [usize; 2] = [LAST, LAST];

static EFFORT: OnceLock<Duration> = OnceLock::new();

/// For how long a sample measures.
pub fn effort() -> Duration {
    *EFFORT.get_or_init(|| Duration::from_millis(30))
}

/// To be set once, before the first sample.
pub fn set_effort(time: Duration) {
    let _ = EFFORT.set(time);
}

pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Nanoseconds that an operation takes on one CPU: the median over chunks of some 50 us.
#[inline(never)]
pub fn alone(operation: impl FnMut()) -> f64 {
    stay_on(LAST);
    // Every contender is measured in a process that has had a second thread: some libcs take short cuts before.
    thread::spawn(|| ()).join().expect("an empty thread");
    repeated(operation)
}

/// The same, wherever the kernel lets it run: for what starts processes.
#[inline(never)]
pub fn anywhere(operation: impl FnMut()) -> f64 {
    repeated(operation)
}

#[inline(always)]
fn repeated(mut operation: impl FnMut()) -> f64 {
    let mut chunk = |many: u64| {
        let begun = Instant::now();
        for _ in 0..many {
            operation();
        }
        begun.elapsed()
    };
    let mut many = 1;
    while chunk(many) < Duration::from_micros(50) {
        many *= 2;
    }
    let (begun, mut chunks) = (Instant::now(), Vec::new());
    while chunks.is_empty() || begun.elapsed() < effort() {
        chunks.push(chunk(many).as_secs_f64() * 1e9 / many as f64);
    }
    median(chunks)
}

/// Trips whose time is taken together: a clock's reading costs as much as some of them.
const TRIPS: u64 = 64;

/// Nanoseconds from one `ping` to the next, each of which waits for a `pong`: the median over chunks of 64. Both are
/// made by their parties.
pub fn round_trips<P: FnMut(), Q: FnMut()>(
    mode: Mode,
    places: [usize; 2],
    ping: impl FnOnce() -> P + Send,
    pong: impl FnOnce() -> Q + Send,
) -> f64 {
    round_trips_for(effort(), mode, places, ping, pong)
}

/// The same, for so long.
pub fn round_trips_for<P: FnMut(), Q: FnMut()>(
    time: Duration,
    mode: Mode,
    places: [usize; 2],
    ping: impl FnOnce() -> P + Send,
    pong: impl FnOnce() -> Q + Send,
) -> f64 {
    let first: Party<'_> = Box::new(move |clock| {
        let mut ping = ping();
        clock.start();
        let (begun, mut chunks, mut trips) = (Instant::now(), Vec::new(), 0);
        while trips < clock.last() {
            let chunk = Instant::now();
            (0..TRIPS).for_each(|_| ping());
            chunks.push(chunk.elapsed().as_secs_f64() * 1e9 / TRIPS as f64);
            trips += TRIPS;
            if clock.last() == u64::MAX && begun.elapsed() >= time {
                clock.set_last(trips + TRIPS);
            }
        }
        median(chunks)
    });
    let second: Party<'_> = Box::new(move |clock| {
        let mut pong = pong();
        clock.start();
        let mut trips = 0;
        while trips < clock.last() {
            pong();
            trips += 1;
        }
        0.0
    });
    together(mode, &places, vec![first, second]).results[0]
}

/// Blocks that go before those that are counted, so that no page is met for the first time while the time is taken.
const LAPS: usize = 2;

/// Nanoseconds a message, from the first that is sent to the last that is received. `send` and `receive` are made by
/// their parties, and send or receive as many messages as they are told: `block` at a time, which is no less than there
/// is room for.
pub fn stream<S: FnMut(usize), R: FnMut(usize)>(
    mode: Mode,
    block: usize,
    send: impl FnOnce() -> S + Send,
    receive: impl FnOnce() -> R + Send,
) -> f64 {
    let sender: Party<'_> = Box::new(move |clock| {
        let mut send = send();
        clock.meet();
        (0..LAPS).for_each(|_| send(block));
        clock.start();
        let (begun, mut sent) = (Instant::now(), 0);
        while sent < clock.last() {
            if clock.last() == u64::MAX && begun.elapsed() >= effort() {
                clock.set_last(sent + block as u64);
            }
            send(block);
            sent += block as u64;
        }
        clock.stop();
        sent as f64
    });
    let receiver: Party<'_> = Box::new(move |clock| {
        let mut receive = receive();
        clock.meet();
        (0..LAPS).for_each(|_| receive(block));
        clock.start();
        let mut received = 0;
        while received < clock.last() {
            receive(block);
            received += block as u64;
        }
        clock.stop();
        received as f64
    });
    let outcome = together(mode, &APART, vec![sender, receiver]);
    assert_eq!(outcome.results[0], outcome.results[1], "messages sent and received");
    outcome.wall / outcome.results[0]
}

/// Messages of `W` words that were made beforehand. What is stored just before it is sent stalls the wide load of the
/// copy, and is measured with it; so they are sent in turn as they are, and their order tells whether one is missing.
#[derive(Debug)]
pub struct Messages<const W: usize> {
    prepared: Vec<[u64; W]>,
    next: usize,
}

/// How many different messages there are.
const DIFFERENT: usize = 16;

impl<const W: usize> Messages<W> {
    pub fn new() -> Messages<W> {
        Messages { prepared: (0..DIFFERENT).map(|which| [Self::word(which); W]).collect(), next: 0 }
    }

    fn word(which: usize) -> u64 {
        (which as u64 + 1) * 0x0101_0101_0101_0101
    }

    /// The message whose turn it is to be sent.
    #[inline]
    pub fn next(&mut self) -> &[u64; W] {
        let which = self.next % DIFFERENT;
        self.next += 1;
        &self.prepared[which]
    }

    /// Checks that it is the turn of this message. The whole of it must have been copied.
    #[inline]
    pub fn check(&mut self, message: &[u64; W]) {
        let message = black_box(message);
        let word = Self::word(self.next % DIFFERENT);
        self.next += 1;
        assert!(message[0] == word && message[W - 1] == word, "a message out of order");
    }

    /// The same, of bytes.
    #[inline]
    pub fn check_bytes(&mut self, message: &[u8]) {
        let words: &[u64; W] = bytemuck::from_bytes(message);
        self.check(words);
    }

    /// What [`tally`](Messages::tally) of so many messages in turn comes to, if none is missing and none is double.
    pub fn sum(many: usize) -> u64 {
        let whole: u64 = (0..DIFFERENT).map(|which| Self::tally(&[Self::word(which); W])).sum();
        assert_eq!(many % DIFFERENT, 0, "all kinds of messages equally often");
        whole * (many / DIFFERENT) as u64
    }

    /// Which message it is, as a number to be added up where several receive.
    #[inline]
    pub fn tally(message: &[u64; W]) -> u64 {
        let message = black_box(message);
        assert_eq!(message[0], message[W - 1], "a torn message");
        message[0] & 0xFF
    }
}

/// Turns between two looks at the clock.
const TURNS: u32 = 50;

/// What several got at one lock.
#[derive(Clone, Copy, Debug)]
pub struct Shares {
    /// Nanoseconds a turn, of whomever.
    pub time: f64,
    /// What the one with the fewest turns had of what the one with the most had.
    pub fairness: f64,
}

/// A counter that is only right if nobody adds to it at the same time as another.
#[derive(Debug, Zeroable)]
pub struct Counter(AtomicU64);

impl Counter {
    #[inline]
    fn add_in_two_steps(&self) {
        self.0.store(self.0.load(Relaxed) + 1, Relaxed);
    }
}

/// How parties compete.
#[derive(Clone, Copy, Debug)]
pub struct Contest {
    pub parties: usize,
    /// Nanoseconds that each turn takes inside the section, and outside.
    pub inside: u64,
    pub outside: u64,
    /// For how long.
    pub time: Duration,
}

impl Contest {
    /// Lets the parties take turns, dealt over the two CPUs. `section` runs what it is given alone.
    pub fn run(self, mode: Mode, section: impl Fn(&dyn Fn()) + Sync) -> Shares {
        let counter: &Line<Counter> = shared();
        let (time, section) = (self.time, &section);
        let party = || -> Party<'_> {
            Box::new(move |clock: &Clock| {
                clock.start();
                let (begun, mut turns) = (Instant::now(), 0_u32);
                while begun.elapsed() < time {
                    for _ in 0..TURNS {
                        section(&|| {
                            counter.0.add_in_two_steps();
                            pass(self.inside);
                        });
                        pass(self.outside);
                    }
                    turns += TURNS;
                }
                f64::from(turns)
            })
        };
        let turns = together(mode, &APART, (0..self.parties).map(|_| party()).collect()).results;
        let sum: f64 = turns.iter().sum();
        assert_eq!(counter.0.0.load(Relaxed) as f64, sum, "turns that were not taken alone");
        let least = turns.iter().copied().fold(f64::INFINITY, f64::min);
        let most = turns.iter().copied().fold(0.0, f64::max);
        Shares { time: time.as_secs_f64() * 1e9 / sum, fairness: least / most }
    }
}

/// Steps of a loop that take a microsecond.
static SPEED: OnceLock<f64> = OnceLock::new();

/// Spins for about `ns` nanoseconds, at the speed measured once.
#[inline]
fn pass(ns: u64) {
    if ns > 0 {
        spin((ns as f64 * *SPEED.get_or_init(measure) / 1000.0) as u64);
    }
}

/// Never inlined: the compiler might make another loop of it elsewhere.
#[inline(never)]
fn spin(steps: u64) {
    (0..steps).for_each(|step| _ = black_box(step));
}

fn measure() -> f64 {
    let once = || {
        let begun = Instant::now();
        spin(100_000);
        100_000.0 / (begun.elapsed().as_secs_f64() * 1e6)
    };
    (0..20).map(|_| once()).fold(0.0, f64::max)
}

/// To be called before the first sample: all of them spin at the same speed then.
pub fn calibrate() {
    let _ = SPEED.get_or_init(measure);
    let _ = cpus();
}
