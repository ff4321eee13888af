//! One object of each kind, and thousands of processes that die with all of them in hand, or at any moment of using
//! them: afterwards each has the same room, permits and places as when it was new, and this process no more mappings
//! and descriptors.

use std::{
    fmt, fs, mem, thread,
    time::{Duration, Instant},
};

use pshared::{
    Array, Barrier, BarrierError, BoundedSemaphore, Bytes, Capacity, Channel, Condition, Event,
    JoinableQueue, Lock, LockError, Once, Queue, RLock, Receiver, RwLock, RwLockError, Sender, Value,
};

use super::{descriptors, fork_child, locks::our_mappings, random::Random, until};

const PERMITS: usize = 4;
const READERS: usize = 5;
const TAKERS: usize = 3;

struct Goods {
    lock: Lock,
    relock: RLock,
    rwlock: RwLock,
    semaphore: BoundedSemaphore,
    event: Event,
    barrier: Barrier,
    condition: Condition,
    /// Of the condition.
    door: Lock,
    once: Once,
    value: Value<[u64; 6]>,
    array: Array<u64>,
    queue: Queue<Vec<u8>, Bytes>,
    tasks: JoinableQueue<Vec<u8>>,
    sender: Sender<Vec<u8>, Bytes>,
    receiver: Receiver<Vec<u8>, Bytes>,
}

/// What can be had of the goods when nobody else uses them, and what they cost this process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Figures {
    messages: usize,
    items: usize,
    taken: usize,
    sent: usize,
    readers: usize,
    permits: usize,
    mappings: usize,
    descriptors: usize,
}

/// How it went.
#[derive(Debug)]
pub struct Worn {
    pub deaths: u32,
    /// In the beginning and in the end.
    pub figures: [Figures; 2],
    /// Microseconds for a use of everything, in each tenth.
    pub micros: Vec<f32>,
    /// What this process has in memory, in KiB, after each tenth.
    pub resident: Vec<u64>,
}

impl fmt::Display for Worn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [new, worn] = self.figures;
        let same = if new == worn { "the same as when they were new" } else { "NOT as when they were new" };
        writeln!(f, "{} deaths; what the objects hold is {same}: {worn:?}", self.deaths)?;
        writeln!(f, "us for one use of everything, by tenths: {:.1?}", self.micros)?;
        write!(f, "KiB resident, by tenths: {:?}", self.resident)
    }
}

impl Goods {
    fn new() -> Goods {
        let (sender, receiver) = Channel::new(512).bytes().unwrap();
        let door = Lock::new().unwrap();
        Goods {
            lock: Lock::new().unwrap(),
            relock: RLock::new().unwrap(),
            rwlock: RwLock::with_readers(READERS).unwrap(),
            semaphore: BoundedSemaphore::new(PERMITS).unwrap(),
            event: Event::new().unwrap(),
            barrier: Barrier::new(2).unwrap(),
            condition: Condition::new(&door).unwrap(),
            door,
            once: Once::new().unwrap(),
            value: Value::new([0; 6]).unwrap(),
            array: Array::new(&[0; 6]).unwrap(),
            queue: Queue::bytes(Capacity::bytes(1024).items(20)).unwrap(),
            tasks: JoinableQueue::builder(Capacity::bytes(1024).items(20))
                .takers(TAKERS)
                .longest(40)
                .build()
                .unwrap(),
            sender,
            receiver,
        }
    }

    /// What can be had of everything; nothing is in the queues before and after.
    fn figures(&mut self) -> Figures {
        let messages = (0..).take_while(|_| self.queue.try_send(vec![7; 20]).is_ok()).count();
        (0..messages).for_each(|_| drop(self.queue.try_recv().unwrap()));
        let items = (0..).take_while(|_| self.tasks.try_send(vec![7; 20]).is_ok()).count();
        let tasks: Vec<_> = std::iter::from_fn(|| self.tasks.try_recv().ok()).collect();
        let taken = tasks.len();
        drop(tasks);
        (taken..items).for_each(|_| drop(self.tasks.try_recv().unwrap()));
        let sent = (0..).take_while(|_| self.sender.try_send(vec![7; 20]).is_ok()).count();
        (0..sent).for_each(|_| drop(self.receiver.try_recv().unwrap()));
        self.sender.release().unwrap();
        self.receiver.release().unwrap();
        let readers: Vec<_> = std::iter::from_fn(|| self.rwlock.try_read().ok()).collect();
        let permits: Vec<_> = std::iter::from_fn(|| self.semaphore.try_permit().ok()).collect();
        let (readers, permits) = (readers.len(), permits.len());
        assert_eq!((self.tasks.unfinished(), self.queue.len(), self.sender.len()), (0, 0, 0));
        let (mappings, descriptors) = (our_mappings(), descriptors());
        Figures { messages, items, taken, sent, readers, permits, mappings, descriptors }
    }

    /// Has all in hand, and then waits for ever, in one of two places.
    fn hold_everything(&mut self, writes: bool, at_barrier: bool) {
        let _initialised = self.once.call_once(|| {
            let _lock = self.lock.lock();
            let _relocks = [self.relock.lock(), self.relock.lock()];
            let _reader = (!writes).then(|| self.rwlock.read());
            let _writer = writes.then(|| self.rwlock.write());
            let _permits = [self.semaphore.permit(), self.semaphore.permit()];
            let mut value = self.value.lock().unwrap();
            value[0] += 1;
            let mut array = self.array.lock().unwrap();
            array[0] += 1;
            let _message = self.queue.read().unwrap();
            let _slot = self.queue.reserve(9).unwrap();
            let _task = self.tasks.recv().unwrap();
            self.sender.claim().unwrap();
            self.receiver.claim().unwrap();
            self.event.set();
            if at_barrier {
                let _ = self.barrier.wait();
            }
            let _ = self.condition.wait(self.door.lock().unwrap());
        });
    }

    /// Uses everything, whatever it says of the dead.
    fn use_everything(&mut self) {
        drop(healed(self.lock.lock()));
        drop(self.relock.lock().or_else(heal_relock).map(|outer| (self.relock.lock().is_ok(), outer)));
        drop(self.rwlock.read().map_err(drop));
        if let Err(RwLockError::OwnerDied(mut guard)) = self.rwlock.write() {
            guard.make_consistent();
        }
        drop(self.semaphore.permit().unwrap());
        self.value.update(|row| row.iter_mut().for_each(|n| *n += 1));
        match self.array.lock() {
            Ok(mut guard) | Err(LockError::OwnerDied(mut guard)) => {
                guard.fill(7);
                guard.make_consistent();
            }
            Err(error) => panic!("{error}"),
        }
        let _ = self.queue.try_send(vec![1; 9]);
        let _ = self.queue.try_recv();
        let _ = self.tasks.try_send(vec![1; 9]);
        drop(self.tasks.try_recv());
        if self.sender.claim().is_ok() {
            let _ = self.sender.try_send(vec![2; 9]);
            let _ = self.sender.release();
        }
        if self.receiver.claim().is_ok() {
            let _ = self.receiver.try_recv();
            let _ = self.receiver.release();
        }
        self.event.set();
        self.event.clear();
        self.condition.notify_all();
        if self.barrier.is_broken() {
            self.barrier.reset();
        }
    }

    /// After a death with everything in hand each says what happened, or is as it was.
    fn judge(&mut self, writes: bool, at_barrier: bool) {
        assert!(matches!(self.lock.try_lock(), Err(LockError::OwnerDied(_))));
        drop(healed(self.lock.try_lock()));
        assert!(matches!(self.relock.try_lock(), Err(LockError::OwnerDied(_))));
        drop(self.relock.try_lock().or_else(heal_relock));
        assert_eq!(self.relock.depth(), 0);
        match self.rwlock.try_write() {
            Ok(_) => assert!(!writes),
            Err(RwLockError::OwnerDied(mut guard)) => {
                assert!(writes);
                guard.make_consistent();
            }
            Err(error) => panic!("{error}"),
        }
        assert_eq!(self.semaphore.available_permits(), PERMITS);
        let mut array = match self.array.try_lock() {
            Err(LockError::OwnerDied(guard)) => guard,
            other => panic!("{other:?}"),
        };
        array.make_consistent();
        drop(array);
        assert!(!self.once.is_completed() && self.event.is_set());
        assert_eq!(self.queue.try_recv().unwrap(), b"for the dead");
        let task = self.tasks.try_recv().unwrap();
        assert_eq!((task.as_slice(), task.deliveries()), (&b"for the dead"[..], 2));
        drop(task);
        assert_eq!(self.tasks.unfinished(), 0);
        self.sender.claim().unwrap();
        self.sender.release().unwrap();
        self.receiver.claim().unwrap();
        self.receiver.release().unwrap();
        if at_barrier {
            assert_eq!(self.barrier.wait_timeout(Duration::from_secs(60)), Err(BarrierError::PeerDied));
        }
        self.barrier.reset();
        drop(healed(self.door.try_lock()));
    }
}

/// The guard, and the data declared good.
fn healed<'a>(
    taken: Result<pshared::LockGuard<'a>, LockError<pshared::LockGuard<'a>>>,
) -> pshared::LockGuard<'a> {
    match taken {
        Ok(guard) => guard,
        Err(LockError::OwnerDied(mut guard)) => {
            guard.make_consistent();
            guard
        }
        Err(error) => panic!("{error}"),
    }
}

fn heal_relock<'a>(
    error: LockError<pshared::RLockGuard<'a>>,
) -> Result<pshared::RLockGuard<'a>, LockError<pshared::RLockGuard<'a>>> {
    error
        .into_guard()
        .map(|mut guard| {
            guard.make_consistent();
            guard
        })
        .ok_or(LockError::WouldBlock)
}

/// What this process has in memory, in KiB.
fn resident() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").expect("statm");
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number of pages");
    pages * 4
}

/// Lets so many processes die; every other one with everything in hand, the others at a random moment.
pub fn wear(deaths: u32, random: &mut Random) -> Worn {
    let mut goods = Goods::new();
    let new = goods.figures();
    let (mut micros, mut memory, mut used) = (Vec::new(), Vec::new(), (Duration::ZERO, 0_u32));
    for death in 0..deaths {
        if death % 2 == 0 {
            let (writes, at_barrier) = (death % 4 == 0, death % 8 < 4);
            goods.event.clear();
            goods.queue.send(b"for the dead".to_vec()).unwrap();
            goods.tasks.send(b"for the dead".to_vec()).unwrap();
            let child = fork_child(|| goods.hold_everything(writes, at_barrier));
            goods.event.wait();
            child.until_asleep();
            child.kill();
            goods.judge(writes, at_barrier);
        } else {
            let child = fork_child(|| {
                loop {
                    goods.use_everything();
                }
            });
            let pause = Duration::from_micros(random.below(400));
            thread::sleep(pause);
            child.kill();
        }
        let begun = Instant::now();
        goods.use_everything();
        used = (used.0 + begun.elapsed(), used.1 + 1);
        empty(&mut goods);
        if (death + 1) % deaths.div_ceil(10) == 0 || death + 1 == deaths {
            micros.push(used.0.as_secs_f32() * 1e6 / used.1 as f32);
            memory.push(resident());
            used = (Duration::ZERO, 0);
        }
    }
    let figures = [new, goods.figures()];
    mem::drop(goods);
    Worn { deaths, figures, micros, resident: memory }
}

/// Takes what the dead have left in the queues.
fn empty(goods: &mut Goods) {
    while goods.queue.try_recv().is_ok() {}
    while goods.tasks.try_recv().is_ok() {}
    goods.receiver.claim().unwrap();
    while goods.receiver.try_recv().is_ok() {}
    goods.receiver.release().unwrap();
}
