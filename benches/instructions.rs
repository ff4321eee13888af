//! How many instructions the fast path of each operation has, beside what was recorded.
//!
//! `cargo bench --bench instructions` runs each under valgrind's callgrind, and exits with 1 when one has become longer
//! than `instructions.txt` says; with `-- --record` it writes that file. Counts repeat, unlike times, but not by every
//! compiler: beside another rustc than the recorded one they are printed and not judged. (They were never taken on a
//! CPU that is not x86-64 with AVX2.) Where there is no valgrind, it is said so.

use std::{
    env, fs,
    hint::black_box,
    path::Path,
    process::{Command, ExitCode},
};

use pshared::{
    Array, Atomic, Barrier, BoundedSemaphore, Channel, Condition, Event, JoinableQueue, Lock, Once,
    PlainData, Queue, RLock, RwLock, Semaphore, Value,
};

/// What is repeated, after something was set up for it.
type Operation = Box<dyn FnMut()>;
/// Its name, and its set-up.
type Row = (&'static str, fn() -> Operation);

/// Room for a few messages.
const ROOM: usize = 1 << 16;

const ROWS: &[Row] = &[
    ("Lock: lock, unlock", || {
        let lock = Lock::new().unwrap();
        Box::new(move || drop(lock.lock().unwrap()))
    }),
    ("Lock: try_lock, unlock", || {
        let lock = Lock::new().unwrap();
        Box::new(move || drop(lock.try_lock().unwrap()))
    }),
    ("RLock: lock, unlock", || {
        let lock = RLock::new().unwrap();
        Box::new(move || drop(lock.lock().unwrap()))
    }),
    ("RLock: lock, unlock, held before", || {
        let lock = RLock::new().unwrap();
        std::mem::forget(lock.lock().unwrap());
        Box::new(move || drop(lock.lock().unwrap()))
    }),
    ("RwLock: read, unlock", || {
        let lock = RwLock::new().unwrap();
        Box::new(move || drop(lock.read().unwrap()))
    }),
    ("RwLock: write, unlock", || {
        let lock = RwLock::new().unwrap();
        Box::new(move || drop(lock.write().unwrap()))
    }),
    ("Semaphore: acquire, release", || {
        let semaphore = Semaphore::new(1).unwrap();
        Box::new(move || {
            semaphore.acquire().unwrap();
            semaphore.release().unwrap();
        })
    }),
    ("BoundedSemaphore: acquire, release", || {
        let semaphore = BoundedSemaphore::new(1).unwrap();
        Box::new(move || {
            semaphore.acquire().unwrap();
            semaphore.release().unwrap();
        })
    }),
    ("Condition: notify_one, nobody waits", || {
        let lock = Lock::new().unwrap();
        let condition = Condition::new(&lock).unwrap();
        Box::new(move || _ = black_box(condition.notify_one()))
    }),
    ("Event: set, clear", || {
        let event = Event::new().unwrap();
        Box::new(move || _ = black_box((event.set(), event.clear())))
    }),
    ("Event: wait, set", || {
        let event = Event::new().unwrap();
        event.set();
        Box::new(move || event.wait())
    }),
    ("Barrier: wait, of one", || {
        let barrier = Barrier::new(1).unwrap();
        Box::new(move || _ = black_box(barrier.wait().unwrap()))
    }),
    ("Once: call_once, done", || {
        let once = Once::new().unwrap();
        once.call_once(|| ()).unwrap();
        Box::new(move || _ = black_box(once.call_once(|| ()).unwrap()))
    }),
    ("Atomic: fetch_add", || {
        let atomic = Atomic::new(0_u64).unwrap();
        Box::new(move || _ = black_box(atomic.fetch_add(1)))
    }),
    ("Value: get, 64 B", || {
        let value = Value::new([0_u64; 8]).unwrap();
        Box::new(move || _ = black_box(value.get()))
    }),
    ("Value: set, 64 B", || {
        let value = Value::new([0_u64; 8]).unwrap();
        Box::new(move || value.set(black_box([1; 8])))
    }),
    ("Value: update, 64 B", || {
        let value = Value::new([0_u64; 8]).unwrap();
        Box::new(move || value.update(|value| value[0] += 1))
    }),
    ("Array: get", || {
        let array = Array::new(&[0_u64; 64]).unwrap();
        Box::new(move || _ = black_box(array.get(black_box(7)).unwrap()))
    }),
    ("Array: set", || {
        let array = Array::new(&[0_u64; 64]).unwrap();
        Box::new(move || array.set(black_box(7), 1).unwrap())
    }),
    ("channel: send, recv, 8 B", || {
        let (mut sender, mut receiver) = Channel::new(ROOM).plain::<u64>().unwrap();
        Box::new(move || {
            sender.send(black_box(1)).unwrap();
            black_box(receiver.recv().unwrap());
        })
    }),
    ("channel: send, recv, 64 B", || {
        let (mut sender, mut receiver) = Channel::new(ROOM).plain::<[u64; 8]>().unwrap();
        Box::new(move || {
            sender.send(black_box([1; 8])).unwrap();
            black_box(receiver.recv().unwrap());
        })
    }),
    ("channel: 32 in a batch, 8 B", || {
        let (mut sender, mut receiver) = Channel::new(ROOM).plain::<u64>().unwrap();
        let (mut sent, mut received) = (Vec::with_capacity(32), Vec::with_capacity(32));
        Box::new(move || {
            sent.resize(32, 1);
            sender.send_many(&mut sent).unwrap();
            assert_eq!(receiver.recv_many(&mut received, 32), Ok(32));
            received.clear();
        })
    }),
    ("Queue: send, recv, 8 B of plain data", || {
        let queue = Queue::<u64, PlainData>::plain(ROOM).unwrap();
        Box::new(move || {
            queue.send(black_box(1)).unwrap();
            black_box(queue.recv().unwrap());
        })
    }),
    ("Queue: send, recv, by serde", || {
        let queue = Queue::<u64>::new(ROOM).unwrap();
        Box::new(move || {
            queue.send(black_box(1)).unwrap();
            black_box(queue.recv().unwrap());
        })
    }),
    ("JoinableQueue: send, recv, done", || {
        let queue = JoinableQueue::<u64>::new(ROOM).unwrap();
        Box::new(move || {
            queue.send(black_box(1)).unwrap();
            queue.recv().unwrap().done();
        })
    }),
];

/// Repetitions of the shorter and of the longer run: what is between them is operations alone.
const RUNS: [u64; 2] = [500, 1_500];

/// What is not yet longer: a twentieth, and a few. (Where an object lies can change an instruction or two.)
fn tolerated(recorded: u64) -> u64 {
    recorded + (recorded / 20).max(4)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match &arguments[..] {
        [run, row, count] if run == "--run" => {
            repeat(row.parse().expect("a row's number"), count.parse().expect("a count"));
            ExitCode::SUCCESS
        }
        [flag, ..] if flag == "--test" || flag == "--list" => ExitCode::SUCCESS,
        arguments => compare(arguments.iter().any(|argument| argument == "--record")),
    }
}

fn repeat(row: usize, count: u64) {
    let mut operation = ROWS[row].1();
    (0..count).for_each(|_| operation());
}

/// The instructions of a run, by callgrind.
fn run(row: usize, count: u64) -> Option<u64> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(env::current_exe().ok()?);
    let output = command.args(["--run", &row.to_string(), &count.to_string()]).output().ok()?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}: {told}", ROWS[row].0);
    let line = told.lines().find(|line| line.contains("Collected :"))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// The instructions of one operation.
fn instructions(row: usize) -> Option<u64> {
    let [short, long] = RUNS;
    let more = run(row, long)?.checked_sub(run(row, short)?)?;
    Some((more + (long - short) / 2) / (long - short))
}

fn compiler() -> String {
    let output = Command::new(env::var("RUSTC").as_deref().unwrap_or("rustc")).arg("--version").output();
    output.map_or_else(
        |_| "an unknown rustc".into(),
        |said| String::from_utf8_lossy(&said.stdout).trim().into(),
    )
}

fn compare(record: bool) -> ExitCode {
    if !Command::new("valgrind").arg("--version").output().is_ok_and(|said| said.status.success()) {
        println!("instructions: SKIPPED, there is no valgrind");
        return ExitCode::SUCCESS;
    }
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.txt");
    let table = fs::read_to_string(&place).unwrap_or_default();
    let compiler = compiler();
    let judged = table.lines().next() == Some(&format!("# {compiler}"));
    let recorded = |name: &str| {
        let mut rows = table.lines().filter_map(|line| line.split_once(" | "));
        rows.find(|(recorded, _)| *recorded == name).and_then(|(_, count)| count.parse::<u64>().ok())
    };
    let (mut lines, mut longer) = (format!("# {compiler}\n"), 0);
    for (row, (name, _)) in ROWS.iter().enumerate() {
        let count = instructions(row).expect("a count from callgrind");
        lines.push_str(&format!("{name} | {count}\n"));
        let before = recorded(name);
        let is_longer = before.is_none_or(|before| count > tolerated(before));
        longer += usize::from(is_longer);
        let said = before.map_or("not recorded".into(), |before| format!("recorded {before}"));
        println!("{name:<40} {count:6}   {said}{}", if is_longer { ": LONGER" } else { "" });
    }
    if record {
        fs::write(&place, lines).expect("a file that can be written");
        return ExitCode::SUCCESS;
    }
    if !judged {
        println!(
            "not judged: recorded by {}",
            table.lines().next().unwrap_or("nobody").trim_start_matches("# ")
        );
        return ExitCode::SUCCESS;
    }
    println!("instructions: {} rows, {longer} longer than recorded", ROWS.len());
    ExitCode::from(u8::from(longer > 0))
}
