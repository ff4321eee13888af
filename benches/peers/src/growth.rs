//! How cost grows: with the size of messages, with processes, with the depth of a queue, with objects, with a region.
//!
//! `cargo peers --growth` measures every point of every curve once in a round, each in a process of its own; what is
//! drawn and tabled is the least of the rounds. So a minute in which the machine is disturbed costs a figure of each
//! point, and not a point. Nothing here but the public interface is ours.

mod memory;

use std::{
    fs,
    hint::black_box,
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    ptr,
    sync::atomic::{
        AtomicU32, AtomicU64,
        Ordering::{Acquire, Relaxed, Release, SeqCst},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use bytemuck::Zeroable;
use nix::{
    libc,
    unistd::{pipe, read, write},
};
use pshared::{Capacity, Channel, Event, Lock, Queue};

use crate::{
    curves::{self, Chart, Curve},
    drive::{self, alone, effort, median, stream},
    page::Page,
    parties::{Entrusted, FIRST, LAST, Line, Mode::Processes, Party, in_a_process, shared, together},
    rounds::{
        Kind::{self, Limit, Ours, Rival},
        Setting, Unit,
    },
};

/// Rounds of all points, and for how long a point is measured in each.
const ROUNDS: usize = 5;
const EFFORT: Duration = Duration::from_millis(25);
/// How long a point may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A curve to be measured: its figure for each of these.
struct Plan {
    name: &'static str,
    kind: Kind,
    at: Vec<u64>,
    sample: Box<dyn Fn(u64) -> f64>,
}

fn plan(kind: Kind, name: &'static str, at: &[u64], sample: impl Fn(u64) -> f64 + 'static) -> Plan {
    Plan { name, kind, at: at.to_vec(), sample: Box::new(sample) }
}

/// Measures everything, and writes a page with pictures into `folder`.
pub fn run(folder: &Path) -> io::Result<Vec<PathBuf>> {
    drive::set_effort(EFFORT);
    drive::calibrate();
    let begun = Instant::now();
    let mut charts: Vec<Chart> = Vec::new();
    for (file, title, about, across, unit, plans) in subjects() {
        eprintln!("{:4.0} s: {title}", begun.elapsed().as_secs_f64());
        let chart = Chart { file, title, about, across, unit, curves: measured(&plans) };
        let by_the_byte = (across == "bytes").then(|| a_byte(&chart));
        charts.push(chart);
        charts.extend(by_the_byte);
    }
    let setting = Setting::here(ROUNDS);
    let seconds = begun.elapsed().as_secs();
    fs::create_dir_all(folder)?;
    let mut written = vec![folder.join("growth.md")];
    fs::write(&written[0], curves::page(&charts, &setting, seconds))?;
    for chart in &charts {
        let file = folder.join(format!("{}.svg", chart.file));
        fs::write(&file, curves::picture(chart))?;
        written.push(file);
    }
    Ok(written)
}

/// The same figures, divided by the bytes.
fn a_byte(chart: &Chart) -> Chart {
    let divided = |curve: &Curve| Curve {
        points: curve.points.iter().map(|&(at, figure)| (at, figure / at as f64)).collect(),
        ..*curve
    };
    Chart {
        file: "growth-byte",
        title: "The same, a byte",
        about: "Nanoseconds a byte.",
        curves: chart.curves.iter().map(divided).collect(),
        ..*chart
    }
}

/// The least of the rounds. A point that fails is left out, and said so.
fn measured(plans: &[Plan]) -> Vec<Curve> {
    let mut samples: Vec<Vec<Vec<f64>>> = plans.iter().map(|plan| vec![Vec::new(); plan.at.len()]).collect();
    for _ in 0..ROUNDS {
        for (plan, samples) in plans.iter().zip(&mut samples) {
            for (&at, samples) in plan.at.iter().zip(samples) {
                match in_a_process(PATIENCE, &|| (plan.sample)(at)) {
                    Ok(figure) => samples.push(figure),
                    Err(why) => eprintln!("!! {} at {at}: {why}", plan.name),
                }
            }
        }
    }
    let curve = |(plan, samples): (&Plan, Vec<Vec<f64>>)| {
        let points = plan.at.iter().zip(samples).filter(|(_, samples)| !samples.is_empty());
        let points =
            points.map(|(&at, samples)| (at, samples.into_iter().fold(f64::INFINITY, f64::min))).collect();
        Curve { name: plan.name, kind: plan.kind, points }
    };
    plans.iter().zip(samples).map(curve).collect()
}

/// A chart's file, title, what is to be known about it, what grows, unit and curves.
type Subject = (&'static str, &'static str, &'static str, &'static str, Unit, Vec<Plan>);

fn subjects() -> Vec<Subject> {
    let powers = |from: u32, to: u32, step: usize| -> Vec<u64> {
        (from..=to).step_by(step).map(|power| 1 << power).collect()
    };
    let tens: Vec<u64> = (0..=6).map(|power| 10_u64.pow(power)).collect();
    vec![
        ("growth-message", "Size of a message", MESSAGE, "bytes", Unit::Ns, message(&powers(3, 20, 1))),
        (
            "growth-processes",
            "Processes at one object",
            PROCESSES,
            "processes",
            Unit::Ns,
            crowds(&powers(0, 6, 1)),
        ),
        ("growth-wake", "Sleepers of one event", WAKE, "processes", Unit::Ns, woken_all(&powers(0, 6, 1))),
        ("growth-depth", "Depth of a queue", DEPTH, "messages", Unit::Ns, depth(&powers(0, 16, 2))),
        (
            "growth-objects",
            "Objects in a region",
            memory::OBJECTS,
            "objects",
            Unit::Ns,
            memory::objects(&tens),
        ),
        (
            "growth-memory",
            "Memory of an object",
            memory::MEMORY,
            "objects",
            Unit::Bytes,
            memory::memory(&tens),
        ),
        (
            "growth-region",
            "Size of a region",
            memory::REGION,
            "MiB",
            Unit::Ns,
            memory::regions(&powers(0, 16, 2)),
        ),
    ]
}

const MESSAGE: &str = "\
    Nanoseconds a message between two processes on two CPUs, from a buffer of the sender's to one of the receiver's; \
    room for four messages, or 64 KiB. The limit is two copies of so many bytes, one after the other.";

/// Four messages, or as much as many small ones take.
fn room(size: u64) -> usize {
    (4 * (size as usize + 64)).max(64 << 10)
}

/// Messages between two looks at the clock: at least as many as there is room for.
fn block(size: u64) -> usize {
    (room(size) / size as usize).max(64)
}

fn message(sizes: &[u64]) -> Vec<Plan> {
    let buffer = |size: u64| vec![7_u8; size as usize];
    let channel = move |size: u64| {
        let (mut sender, mut receiver) = Channel::new(room(size)).bytes().expect("a channel");
        let send = || {
            let bytes = buffer(size);
            move |many| {
                for _ in 0..many {
                    let mut slot = sender.reserve(bytes.len()).expect("room");
                    slot.copy_from_slice(&bytes);
                    slot.commit().expect("a place in the ring");
                }
            }
        };
        let receive = || {
            let mut bytes = buffer(size);
            move |many| (0..many).for_each(|_| bytes.copy_from_slice(&receiver.read().expect("a message")))
        };
        stream(Processes, block(size), send, receive)
    };
    let queue = move |size: u64| {
        let queue = &Queue::bytes(room(size)).expect("a queue");
        let send = || {
            let bytes = buffer(size);
            move |many| {
                for _ in 0..many {
                    let mut slot = queue.reserve(bytes.len()).expect("room");
                    slot.copy_from_slice(&bytes);
                    slot.commit().expect("a place in the ring");
                }
            }
        };
        let receive = || {
            let mut bytes = buffer(size);
            move |many| (0..many).for_each(|_| bytes.copy_from_slice(&queue.read().expect("a message")))
        };
        stream(Processes, block(size), send, receive)
    };
    let copies = move |size: u64| {
        let (bytes, mut there, mut back) = (buffer(size), buffer(size), buffer(size));
        alone(|| {
            there.copy_from_slice(black_box(&bytes));
            back.copy_from_slice(black_box(&there));
            black_box(&back);
        })
    };
    let through_a_pipe = move |size: u64| {
        let (reader, writer) = pipe().expect("a pipe");
        let send = || {
            let bytes = buffer(size);
            let writer = &writer;
            move |many| (0..many).for_each(|_| write_all(writer, &bytes))
        };
        let receive = || {
            let mut bytes = buffer(size);
            let reader = &reader;
            move |many| (0..many).for_each(|_| read_all(reader, &mut bytes))
        };
        stream(Processes, block(size), send, receive)
    };
    vec![
        plan(Ours, "channel", sizes, channel),
        plan(Ours, "Queue", sizes, queue),
        plan(Limit, "memcpy, twice", sizes, copies),
        plan(Rival, "pipe", sizes, through_a_pipe),
    ]
}

fn write_all(to: &OwnedFd, bytes: &[u8]) {
    let mut done = 0;
    while done < bytes.len() {
        done += write(to, &bytes[done..]).expect("write");
    }
}

fn read_all(from: &OwnedFd, bytes: &mut [u8]) {
    let mut done = 0;
    while done < bytes.len() {
        done += read(from.as_fd(), &mut bytes[done..]).expect("read");
    }
}

const PROCESSES: &str = "\
    Nanoseconds a turn of whomever, on two CPUs: a turn at a lock takes it, adds one to a number and gives it back; \
    at a queue or a pipe it sends 8 bytes and receives 8, of whomever.";

/// Nanoseconds a turn, when so many processes take turns for one effort.
fn turns(processes: u64, turn: impl Fn() + Sync) -> f64 {
    let turn = &turn;
    let party = || -> Party<'_> {
        Box::new(move |clock| {
            clock.start();
            let (begun, mut turns) = (Instant::now(), 0_u32);
            while begun.elapsed() < effort() {
                (0..50).for_each(|_| turn());
                turns += 50;
            }
            f64::from(turns)
        })
    };
    let outcome = together(Processes, &[FIRST, LAST], (0..processes).map(|_| party()).collect());
    outcome.wall / outcome.results.iter().sum::<f64>()
}

fn crowds(processes: &[u64]) -> Vec<Plan> {
    let number = || -> &'static Line<AtomicU64> { shared() };
    let count = |number: &Line<AtomicU64>| number.0.store(number.0.load(Relaxed) + 1, Relaxed);
    let lock = move |processes| {
        let (lock, number) = (Lock::new().expect("a lock"), number());
        turns(processes, || {
            let _guard = lock.lock().expect("nobody dies here");
            count(number);
        })
    };
    let pthread = move |processes| {
        // SAFETY: a mutex is there to be used by all.
        let (mutex, number) = (unsafe { Entrusted::new(Page::new().mutex(0, true)) }, number());
        turns(processes, || {
            mutex.get().lock();
            count(number);
            mutex.get().unlock();
        })
    };
    let queue = |processes| {
        let queue = Queue::<u64, _>::plain(1 << 16).expect("a queue");
        turns(processes, || {
            queue.send(1).expect("room");
            assert_eq!(queue.recv(), Ok(1));
        })
    };
    let bytes = |processes| {
        let (reader, writer) = pipe().expect("a pipe");
        turns(processes, || {
            write_all(&writer, &[7; 8]);
            read_all(&reader, &mut [0; 8]);
        })
    };
    vec![
        plan(Ours, "Lock", processes, lock),
        plan(Rival, "pthread robust", processes, pthread),
        plan(Ours, "Queue", processes, queue),
        plan(Rival, "pipe", processes, bytes),
    ]
}

const WAKE: &str = "\
    Nanoseconds from one call that wakes all to the last of them having said so, divided by their number. Two CPUs; \
    all sleep when the call comes.";

/// A word that is opened for all who sleep on it.
#[derive(Debug, Zeroable)]
struct Door(AtomicU32);

impl Door {
    fn open(&self, round: u32) {
        self.0.store(round, Release);
        // SAFETY: only the address matters.
        unsafe { libc::syscall(libc::SYS_futex, self.0.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
    }

    fn pass(&self, round: u32) {
        loop {
            let seen = self.0.load(Acquire);
            if seen >= round {
                return;
            }
            let limit = ptr::null::<libc::timespec>();
            // SAFETY: a live word, and no limit.
            unsafe { libc::syscall(libc::SYS_futex, self.0.as_ptr(), libc::FUTEX_WAIT, seen, limit) };
        }
    }
}

/// How often all are woken.
const WAKES: u32 = 9;

/// Nanoseconds that it takes to wake each of so many. `open` lets those go who `pass` in the same round; the last of
/// them calls `last`, for which `heard` waits.
fn woken(
    sleepers: u64,
    open: impl Fn(u32) + Sync,
    pass: impl Fn(u32) + Sync,
    last: impl Fn(u32) + Sync,
    heard: impl Fn(u32) + Sync,
) -> f64 {
    let awake: &Line<AtomicU64> = shared();
    let (open, pass, last, heard) = (&open, &pass, &last, &heard);
    let waker: Party<'_> = Box::new(move |clock| {
        clock.start();
        let one = |round| {
            // They were all here, and are asleep long before this is over.
            sleep(Duration::from_millis(2));
            let begun = Instant::now();
            open(round);
            heard(round);
            begun.elapsed().as_secs_f64() * 1e9 / sleepers as f64
        };
        median((1..=WAKES).map(one).collect())
    });
    let sleeper = || -> Party<'_> {
        Box::new(move |clock| {
            clock.start();
            for round in 1..=WAKES {
                pass(round);
                if awake.0.fetch_add(1, SeqCst) + 1 == u64::from(round) * sleepers {
                    last(round);
                }
            }
            0.0
        })
    };
    let parties = std::iter::once(waker).chain((0..sleepers).map(|_| sleeper()));
    together(Processes, &[FIRST, LAST], parties.collect()).results[0]
}

fn woken_all(sleepers: &[u64]) -> Vec<Plan> {
    let event = |sleepers| {
        let ways = [(); 2].map(|()| Event::new().expect("an event"));
        let done = Event::new().expect("an event");
        let of = |round: u32| &ways[round as usize % 2];
        let open = |round| {
            done.clear();
            of(round + 1).clear();
            of(round).set();
        };
        woken(sleepers, open, |round| of(round).wait(), |_| _ = done.set(), |_| done.wait())
    };
    let bare = |sleepers| {
        let [all, done]: &'static [Line<Door>; 2] = shared();
        let (open, pass) = (|round| all.0.open(round), |round| all.0.pass(round));
        woken(sleepers, open, pass, |round| done.0.open(round), |round| done.0.pass(round))
    };
    vec![plan(Ours, "Event", sleepers, event), plan(Limit, "bare futex", sleepers, bare)]
}

const DEPTH: &str = "\
    Nanoseconds a message of 8 bytes, through a queue that holds so many: sent and received at the same time by two \
    processes on two CPUs, or by one process that fills it and then empties it.";

fn depth(depths: &[u64]) -> Vec<Plan> {
    let capacity = |depth: u64| Capacity::bytes(16 * depth as usize).items(depth as usize);
    let all = |depth: u64| (depth as usize).max(4096);
    let channel = move |depth: u64| {
        let (mut sender, mut receiver) = Channel::new(capacity(depth)).plain::<u64>().expect("a channel");
        let send =
            || move |many| (0..many as u64).for_each(|number| sender.send(number).expect("a receiver"));
        let receive =
            || move |many| (0..many as u64).for_each(|number| assert_eq!(receiver.recv(), Ok(number)));
        stream(Processes, all(depth), send, receive)
    };
    let queue = move |depth: u64| {
        let queue = &Queue::<u64, _>::plain(capacity(depth)).expect("a queue");
        let send = || move |many| (0..many as u64).for_each(|number| queue.send(number).expect("room"));
        let receive = || move |many| (0..many as u64).for_each(|number| assert_eq!(queue.recv(), Ok(number)));
        stream(Processes, all(depth), send, receive)
    };
    let filled = move |depth: u64| {
        let queue = &Queue::<u64, _>::plain(capacity(depth)).expect("a queue");
        let round = || {
            (0..depth).for_each(|number| queue.send(number).expect("room"));
            (0..depth).for_each(|number| assert_eq!(queue.recv(), Ok(number)));
        };
        alone(round) / depth as f64
    };
    vec![
        plan(Ours, "channel, 1 x 1", depths, channel),
        plan(Ours, "Queue, 1 x 1", depths, queue),
        plan(Ours, "Queue, filled and emptied", depths, filled),
    ]
}
