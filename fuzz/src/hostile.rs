//! One of each object in a region whose words are set to anything: between the operations (`bytes`), or all the while,
//! by another thread (`peer`). Whatever is answered, nothing panics, waits for ever, or touches what lies outside.
//!
//! Spared are the links of what is held, as long as it is held: they are pointers that its holder follows, and whoever
//! can write them must be trusted (SECURITY.md). So nothing is held between operations here, and `peer` leaves out
//! where it has seen links to lie.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    fs,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
    time::Duration,
};

use arbitrary::Arbitrary;
use pshared::{
    Array, Atomic, Barrier, Bytes, Capacity, Channel, Condition, Event, JoinableQueue, Lock, Once, OnceValue,
    Queue, RLock, Receiver, Region, RwLock, Semaphore, Sender, Value,
};

/// Of the region, which no other region of the process has.
const SIZE: usize = 19 << 12;
/// The region's header, in words.
const HEADER: usize = 16;
/// Where the header keeps how much was given away.
const NEXT: usize = 4;
/// A region notes each object that it ever gave room to.
const USES: u32 = 2_000;

/// A region and its words.
struct Ground {
    region: Region,
    words: &'static [AtomicU64],
    uses: u32,
}

thread_local! {
    static GROUND: RefCell<Option<Ground>> = const { RefCell::new(None) };
}

/// Where regions of that size are mapped.
fn mappings() -> BTreeSet<usize> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let start = |line: &str| {
        let (from, to) = line.split(' ').next()?.split_once('-')?;
        let [from, to] = [from, to].map(|number| usize::from_str_radix(number, 16).unwrap());
        (line.contains("memfd:pshared") && to - from == SIZE).then_some(from)
    };
    maps.lines().filter_map(start).collect()
}

impl Ground {
    fn new() -> Ground {
        let before = mappings();
        let region = Region::anonymous(SIZE).unwrap();
        let start = *mappings().difference(&before).next().expect("the new region");
        // SAFETY: mapped as long as the region is, which is dropped with this; words of any content are words.
        let words = unsafe { std::slice::from_raw_parts(start as *const AtomicU64, SIZE / 8) };
        Ground { region, words, uses: 0 }
    }

    /// As it was in the beginning.
    fn clear(&mut self) {
        self.words[HEADER..].iter().for_each(|word| word.store(0, Relaxed));
        self.words[NEXT].store(8 * HEADER as u64, Relaxed);
        self.uses += 1;
    }
}

/// Lets `body` have a region with nothing in it.
fn on_clear_ground(body: impl FnOnce(&Region, &'static [AtomicU64])) {
    let mut ground = GROUND.take().filter(|ground| ground.uses < USES).unwrap_or_else(Ground::new);
    // Its last magic word may be gone, but `size` never is: nobody asks for either.
    ground.clear();
    body(&ground.region, ground.words);
    GROUND.set(Some(ground));
}

/// One of each.
struct Objects {
    lock: Lock,
    relock: RLock,
    rwlock: RwLock,
    semaphore: Semaphore,
    event: Event,
    barrier: Barrier,
    once: Once,
    once_value: OnceValue<u64>,
    condition: Condition,
    atomic: Atomic<u32>,
    value: Value<[u64; 5]>,
    array: Array<u16>,
    plain: Queue<[u8; 20], pshared::PlainData>,
    bytes: Queue<Vec<u8>, Bytes>,
    serde: Queue<String>,
    tasks: JoinableQueue<Vec<u8>>,
    sender: Sender<Vec<u8>, Bytes>,
    receiver: Receiver<Vec<u8>, Bytes>,
    plain_sender: Sender<[u64; 3], pshared::PlainData>,
    plain_receiver: Receiver<[u64; 3], pshared::PlainData>,
}

impl Objects {
    fn new(region: &Region) -> Objects {
        let lock = Lock::new_in(region).unwrap();
        let capacity = Capacity::bytes(512).items(9);
        let channel = || Channel::new(512).in_region(region).untrusted();
        let (sender, receiver) = channel().bytes().unwrap();
        let (plain_sender, plain_receiver) = channel().plain().unwrap();
        Objects {
            relock: RLock::new_in(region).unwrap(),
            rwlock: RwLock::with_readers_in(region, 3).unwrap(),
            semaphore: Semaphore::new_in(region, 3).unwrap(),
            event: Event::new_in(region).unwrap(),
            barrier: Barrier::new_in(region, 2).unwrap(),
            once: Once::new_in(region).unwrap(),
            once_value: OnceValue::new_in(region).unwrap(),
            condition: Condition::new_in(region, &lock).unwrap(),
            atomic: Atomic::new_in(region, 7).unwrap(),
            value: Value::new_in(region, [1; 5]).unwrap(),
            array: Array::new_in(region, &[1; 9]).unwrap(),
            plain: Queue::plain_in(region, capacity.peers(2)).unwrap(),
            bytes: Queue::bytes_in(region, capacity).unwrap(),
            serde: Queue::new_in(region, capacity).unwrap(),
            tasks: JoinableQueue::builder(capacity)
                .takers(3)
                .dead_letters(1)
                .deliveries(2)
                .longest(64)
                .build_in(region)
                .unwrap(),
            lock,
            sender,
            receiver,
            plain_sender,
            plain_receiver,
        }
    }

    /// Does the `which`-th thing that there is to do, with `n`, in no more than a moment.
    fn act(&mut self, region: &Region, which: u8, n: u8) {
        const SOON: Duration = Duration::ZERO;
        let message = vec![n; usize::from(n % 70)];
        match which % 42 {
            0 => drop(self.lock.try_lock()),
            1 => drop(self.lock.lock_timeout(SOON)),
            2 => drop(self.relock.try_lock().map(|guard| (guard, self.relock.try_lock().is_ok()))),
            3 => drop((self.relock.lock_timeout(SOON), self.relock.depth())),
            4 => drop(self.rwlock.try_read().map(|guard| (guard, self.rwlock.try_read().is_ok()))),
            5 => drop(self.rwlock.write_timeout(SOON)),
            6 => {
                if let Ok(mut guard) = self.rwlock.try_upgradable_read() {
                    drop(guard.try_upgrade());
                }
            }
            7 => drop(self.semaphore.try_permit()),
            8 => drop(self.semaphore.acquire_many_timeout((n % 4).into(), SOON)),
            9 => drop((self.semaphore.release_many((n % 4).into()), self.semaphore.available_permits())),
            10 => drop((self.event.wait_timeout(SOON), self.event.set())),
            11 => drop((self.event.clear(), self.event.is_set())),
            12 => drop((self.barrier.wait_timeout(SOON), self.barrier.n_waiting())),
            13 => self.barrier.abort(),
            14 => drop((self.barrier.is_broken(), self.barrier.parties())),
            15 => drop(self.once.try_call_once(|| ())),
            16 => drop((self.once_value.get(), self.once_value.get_or_init_timeout(SOON, || n.into()))),
            17 => drop((self.condition.notify_n((n % 3).into()), self.condition.notify_all())),
            18 => {
                if let Ok(guard) = self.lock.try_lock() {
                    drop(self.condition.wait_timeout(guard, SOON));
                }
            }
            19 => drop((self.atomic.fetch_add(n.into()), self.atomic.get())),
            20 => drop(self.value.get()),
            21 => drop(self.value.try_lock().map(|mut guard| guard[0] += 1)),
            22 => drop(self.array.try_lock().map(|mut guard| guard.fill(n.into()))),
            23 => drop(self.plain.try_send([n; 20])),
            24 => drop(self.plain.recv_timeout(SOON)),
            25 => drop(self.plain.try_send_many(&mut vec![[n; 20]; (n % 12).into()])),
            26 => drop(self.plain.try_recv_many(&mut Vec::new(), n.into())),
            27 => drop(self.bytes.try_reserve(message.len()).map(|slot| slot.commit())),
            28 => drop(self.bytes.try_read().map(|message| message.to_vec())),
            29 => drop((self.serde.try_send(str(n)), self.serde.send_timeout(str(n), SOON))),
            30 => drop((self.serde.try_recv(), self.serde.recv_many_timeout(&mut Vec::new(), 5, SOON))),
            31 => drop(self.tasks.try_send(message)),
            32 => drop(self.tasks.try_recv().map(|task| task.done())),
            33 => drop(self.tasks.recv_timeout(SOON).map(|task| task.give_back())),
            34 => drop((self.tasks.dead_letters().take(5).count(), self.tasks.join_timeout(SOON))),
            35 => drop((
                self.sender.try_send(message.clone()),
                self.sender.try_send_many(&mut vec![message; 3]),
            )),
            36 => drop(self.sender.try_reserve(message.len()).map(|slot| slot.commit())),
            37 => drop((self.receiver.try_recv(), self.receiver.recv_timeout(SOON))),
            38 => drop((self.receiver.try_recv_many(&mut Vec::new(), 4), self.receiver.try_read().map(drop))),
            39 => drop((self.plain_sender.try_send([n.into(); 3]), self.plain_sender.is_full())),
            40 => drop((
                self.plain_receiver.try_recv_many(&mut Vec::new(), n.into()),
                self.plain_receiver.len(),
            )),
            _ => drop((self.describe(), Lock::new_in(region).is_ok(), region.room())),
        }
    }

    fn describe(&self) -> String {
        let sync = (&self.lock, &self.relock, &self.rwlock, &self.semaphore, &self.event, &self.barrier);
        let more = (&self.once, &self.once_value, &self.condition, &self.atomic, &self.value, &self.array);
        let queues = (&self.plain, &self.bytes, &self.serde, &self.tasks, &self.sender, &self.receiver);
        format!("{sync:?} {more:?} {queues:?} {}", self.tasks.len() + self.bytes.len())
    }

    /// Calls `look` while as much as can be is held.
    fn while_held(&mut self, look: impl FnOnce()) {
        self.bytes.try_send(Vec::new()).unwrap();
        (0..3).for_each(|_| self.tasks.try_send(Vec::new()).unwrap());
        self.plain.try_send([0; 20]).unwrap();
        let tasks = [(); 3].map(|()| self.tasks.try_recv().unwrap());
        let locks =
            (self.lock.try_lock().unwrap(), self.relock.try_lock().unwrap(), self.rwlock.try_read().unwrap());
        let values = (self.value.try_lock().unwrap(), self.array.try_lock().unwrap());
        let ends = (self.bytes.try_reserve(0).unwrap(), self.bytes.try_read().unwrap());
        let permits = [(); 3].map(|()| self.semaphore.try_permit().unwrap());
        look();
        drop((tasks, locks, values, ends, permits));
    }
}

fn str(n: u8) -> String {
    "s".repeat(n.into())
}

/// What a word is set to.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Garbage {
    Any(u64),
    Small(u8, bool),
    /// The caller's TID, in either half or both, with flags.
    OwnTid(u8),
    Flags(u8),
    Change(i8),
    Flip(u8),
}

impl Garbage {
    fn set(self, word: &AtomicU64, tid: u64) {
        let seen = word.load(Relaxed);
        let value = match self {
            Garbage::Any(value) => value,
            Garbage::Small(value, high) => u64::from(value) << if high { 32 } else { 0 },
            Garbage::OwnTid(how) => {
                let tid = tid | u64::from(how >> 6) << 30;
                [tid, tid << 32, tid << 32 | tid, seen | tid][usize::from(how % 4)]
            }
            Garbage::Flags(bits) => u64::from(bits & 15) << 28 | u64::from(bits >> 4) << 60,
            Garbage::Change(by) => seen.wrapping_add_signed(by.into()),
            Garbage::Flip(bit) => seen ^ 1 << (bit % 64),
        };
        word.store(value, Relaxed);
    }
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Step {
    Act(u8, u8),
    Act2(u8, u8),
    Scribble(u16, Garbage),
    /// Behind the last one that was set.
    Further(u8, Garbage),
}

fn own_tid() -> u64 {
    let link = fs::read_link("/proc/thread-self").expect("a thread");
    link.file_name().and_then(|name| name.to_str()?.parse().ok()).expect("a number")
}

thread_local! {
    static TID: u64 = own_tid();
}

pub fn bytes(data: &[u8]) {
    let Some(steps) = super::case::<Vec<Step>>(data) else { return };
    let tid = TID.with(|&tid| tid);
    on_clear_ground(|region, words| {
        let mut objects = Objects::new(region);
        let used = words.len() - region.room() / 8;
        let mut last = 0;
        for step in steps {
            match step {
                Step::Act(which, n) | Step::Act2(which, n) => objects.act(region, which, n),
                Step::Scribble(at, garbage) => {
                    last = NEXT + usize::from(at) % (used - NEXT);
                    garbage.set(&words[last], tid);
                }
                Step::Further(by, garbage) => {
                    last = NEXT + (last + usize::from(by)) % (used - NEXT);
                    garbage.set(&words[last], tid);
                }
            }
        }
        forget_claims(words);
    });
}

/// An end that another thread seems to hold would be closed when it is dropped, as it should be: that takes no look at
/// anything that is not there. Words with our TID keep the region mapped for ever.
fn forget_claims(words: &[AtomicU64]) {
    words[HEADER..].iter().for_each(|word| word.store(0, Relaxed));
}

/// The words that may be written while anything is held: not the links, which lie behind a word with the holder's TID.
fn words_but_links(
    objects: &mut Objects,
    words: &'static [AtomicU64],
    used: usize,
) -> Vec<&'static AtomicU64> {
    const LINKS: std::ops::RangeInclusive<usize> = 3..=4;
    let (tid, mut links) = (TID.with(|&tid| tid) as u32, BTreeSet::new());
    objects.while_held(|| {
        for (at, word) in words[..used].iter().enumerate() {
            // The word of a robust list's entry is aligned as its links are.
            if word.load(Relaxed) as u32 & 0x3fff_ffff == tid {
                links.extend(LINKS.map(|behind| at + behind));
            }
        }
    });
    // The words of what one thread cannot hold all at once: slots and leases, of one line each, and locks.
    (NEXT..used).filter(|at| !links.contains(at)).map(|at| &words[at]).collect()
}

pub fn peer(data: &[u8]) {
    type Case = (Vec<(u16, Garbage)>, Vec<(u8, u8)>);
    let Some((garbage, acts)) = super::case::<Case>(data) else { return };
    if garbage.is_empty() {
        return;
    }
    let tid = TID.with(|&tid| tid);
    on_clear_ground(|region, words| {
        let mut objects = Objects::new(region);
        let used = words.len() - region.room() / 8;
        let targets = words_but_links(&mut objects, words, used);
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Relaxed) {
                    for &(at, garbage) in &garbage {
                        garbage.set(targets[usize::from(at) % targets.len()], tid);
                    }
                }
            });
            // These are taken by slots that the look has not seen held: readers and permits of others, barriers, once.
            let spared = [4, 5, 6, 12, 13, 15, 16, 17, 18, 23, 24, 25, 26, 29, 30];
            for (which, n) in acts.into_iter().filter(|(which, _)| !spared.contains(&(which % 42))) {
                objects.act(region, which, n);
            }
            over.store(true, Relaxed);
        });
        forget_claims(words);
    });
}
