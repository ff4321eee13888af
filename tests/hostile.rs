//! Peers that write what they like into the memory that is shared: fields of the header, owners, counts, places and
//! lengths. Whoever goes on gets an answer, an error that names figures, or, when the time is up, that. And users who
//! have no business with the memory, who do not get it.
//!
//! Links are spared, as SECURITY.md says; what a peer writes at any instant is `fuzz/src/hostile.rs`.

#![allow(clippy::disallowed_types, reason = "whoever scribbles looks from outside the seam")]

mod support;

use std::{
    fs,
    io::ErrorKind,
    os::fd::AsRawFd,
    process::ExitCode,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use nix::{
    fcntl::{FallocateFlags, fallocate},
    libc,
    unistd::gettid,
};
use pshared::{
    AcquireError, Array, Barrier, BarrierError, Capacity, Channel, Condition, Event, JoinableQueue, Lock,
    LockError, Once, OnceError, Queue, RLock, RecvTimeoutError, Region, RegionError, RwLock, RwLockError,
    Semaphore, SendTimeoutError, TryRecvError, TrySendError, Value,
};
use support::{fork_child, needs_root, the_memfd};

fn main() -> ExitCode {
    let tests = support::tests![
        a_bump_pointer_of_any_value_gives_room_or_none,
        a_header_of_garbage_hurts_nobody_who_has_the_region,
        a_lock_of_another_is_waited_for_until_the_time_is_up,
        a_lock_that_names_its_caller_is_no_deadlock,
        a_queue_whose_ends_are_held_by_nobody_real_ends_its_waits,
        an_end_of_a_queue_that_names_its_caller_is_damage,
        places_that_cannot_be_are_damage_with_figures,
        lengths_that_cannot_be_are_damage_with_figures,
        a_task_that_is_longer_than_its_place_is_damage,
        every_word_of_a_queue_may_be_anything,
        memory_that_is_emptied_under_its_users_ends_no_process,
        a_new_object_tells_nothing_of_its_makers_memory,
        another_user_cannot_open_the_memory,
        another_user_cannot_open_it_anew_by_a_descriptor_of_its_own,
    ];
    let root = needs_root as support::Need;
    support::main_where(
        tests,
        &[
            ("another_user_cannot_open_the_memory", root),
            ("another_user_cannot_open_it_anew_by_a_descriptor_of_its_own", root),
        ],
    )
}

const SOON: Duration = Duration::from_millis(2);
/// What a region has before its first object.
const HEADER: usize = 128;

/// The only region of this process, and its words.
fn region(size: usize) -> (Region, &'static [AtomicU64]) {
    let region = Region::anonymous(size).unwrap();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let range = |line: &str| {
        let (from, to) = line.split(' ').next()?.split_once('-')?;
        let [from, to] = [from, to].map(|number| usize::from_str_radix(number, 16).unwrap());
        (line.contains("memfd:pshared") && to - from == region.size()).then_some(from)
    };
    let found: Vec<usize> = maps.lines().filter_map(range).collect();
    assert_eq!(found.len(), 1, "{maps}");
    // SAFETY: mapped while the region is, which the tests keep; words of any content are words.
    let words = unsafe { std::slice::from_raw_parts(found[0] as *const AtomicU64, region.size() / 8) };
    (region, words)
}

/// The halves of words.
fn halves(words: &'static [AtomicU64]) -> &'static [AtomicU32] {
    // SAFETY: the same bytes; smaller words.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), 2 * words.len()) }
}

fn own_tid() -> u32 {
    gettid().as_raw() as u32
}

/// Where the calling thread's TID stands while `body` runs.
fn owner_words<R>(words: &'static [AtomicU64], body: impl FnOnce() -> R) -> Vec<&'static AtomicU32> {
    let _held = body();
    let is_ours = |word: &&AtomicU32| word.load(Relaxed) & 0x3fff_ffff == own_tid();
    let found: Vec<_> = halves(words).iter().filter(is_ours).collect();
    assert!(!found.is_empty());
    found
}

fn a_bump_pointer_of_any_value_gives_room_or_none() {
    let (region, words) = region(4096);
    for garbage in [0, 1, 127, 128, 129, 3968, 4095, 4096, 4097, 1 << 40, u64::MAX - 200, u64::MAX] {
        words[4].store(garbage, Relaxed);
        assert!(region.room() <= region.size());
        match Lock::new_in(&region) {
            Ok(lock) => assert!(lock.try_lock().is_ok()),
            Err(error @ RegionError::NoRoom { need: 128, have }) => {
                let said = format!("no room in the region: need 128 bytes, have {have}");
                assert!(have < 256 && error.to_string() == said, "{garbage}: {error}");
            }
            other => panic!("{garbage}: {other:?}"),
        }
    }
}

fn a_header_of_garbage_hurts_nobody_who_has_the_region() {
    let (region, words) = region(4096);
    let lock = Lock::new_in(&region).unwrap();
    for garbage in [0, u64::MAX, 1 << 33] {
        words[..HEADER / 8].iter().for_each(|word| word.store(garbage, Relaxed));
        assert_eq!(region.size(), 4096);
        assert!(lock.try_lock().is_ok());
        let _ = (Lock::new_in(&region).map(drop), format!("{region:?}"));
    }
}

fn a_lock_of_another_is_waited_for_until_the_time_is_up() {
    let (region, words) = region(64 << 10);
    let (lock, relock) = (Lock::new_in(&region).unwrap(), RLock::new_in(&region).unwrap());
    let rwlock = RwLock::with_readers_in(&region, 2).unwrap();
    let (value, array) =
        (Value::new_in(&region, 7_u64).unwrap(), Array::new_in(&region, &[1_u8; 9]).unwrap());
    let once = Once::new_in(&region).unwrap();
    let semaphore = Semaphore::new_in(&region, 1).unwrap();
    let mut owners = owner_words(words, || (lock.lock(), relock.lock(), value.lock(), array.lock()));
    owners.extend(owner_words(words, || rwlock.write()));
    // Held by thread 1, which is no thread of ours; and by one that there cannot be.
    for garbage in [1, 0x3fff_fffe, 0x8000_0001] {
        owners.iter().for_each(|word| word.store(garbage, Relaxed));
        assert!(matches!(lock.try_lock(), Err(LockError::WouldBlock)));
        assert!(matches!(lock.lock_timeout(SOON), Err(LockError::TimedOut)));
        assert!(matches!(relock.lock_timeout(SOON), Err(LockError::TimedOut)));
        assert!(matches!(rwlock.write_timeout(SOON), Err(RwLockError::TimedOut)));
        assert!(matches!(value.lock_timeout(SOON), Err(LockError::TimedOut)));
        assert!(matches!(array.lock_timeout(SOON), Err(LockError::TimedOut)));
        assert_eq!(value.get(), 7);
    }
    owners.iter().for_each(|word| word.store(0, Relaxed));
    assert!(lock.try_lock().is_ok() && relock.try_lock().is_ok() && rwlock.try_write().is_ok());
    assert!(value.try_lock().is_ok() && array.try_lock().is_ok());
    assert_eq!(once.try_call_once(|| ()), Ok(true));
    assert!(semaphore.try_permit().is_ok());
}

fn a_lock_that_names_its_caller_is_no_deadlock() {
    let (region, words) = region(64 << 10);
    let (lock, relock) = (Lock::new_in(&region).unwrap(), RLock::new_in(&region).unwrap());
    let rwlock = RwLock::with_readers_in(&region, 2).unwrap();
    let once = Once::new_in(&region).unwrap();
    let owners = owner_words(words, || (lock.lock(), relock.lock(), rwlock.write()));
    owners.iter().for_each(|word| word.store(own_tid(), Relaxed));
    assert!(matches!(lock.lock(), Err(LockError::AlreadyHeld)));
    assert!(matches!(relock.lock(), Err(LockError::StrangeOwner { tid }) if tid == own_tid()));
    assert!(matches!(rwlock.write(), Err(RwLockError::AlreadyHeld)));
    // The initialiser of a once, likewise.
    let start = words.len() - region.room() / 8 - 16;
    halves(&words[start..]).iter().for_each(|word| word.store(own_tid(), Relaxed));
    assert!(matches!(once.try_call_once(|| ()), Ok(false) | Err(OnceError::Reentered)));
}

type Letters = Queue<Vec<u8>, pshared::Bytes>;

/// A queue with a message in it, and the words that its ends are held by.
fn queue_and_owners() -> (Letters, Vec<&'static AtomicU32>, Region) {
    let (region, words) = region(64 << 10);
    let queue = Queue::bytes_in(&region, 1024).unwrap();
    queue.send(b"a message".to_vec()).unwrap();
    let owners = owner_words(words, || (queue.try_reserve(8).unwrap(), queue.try_read().unwrap()));
    // What was read is gone.
    queue.send(b"a message".to_vec()).unwrap();
    assert_eq!((owners.len(), queue.len()), (2, 1));
    (queue, owners, region)
}

fn a_queue_whose_ends_are_held_by_nobody_real_ends_its_waits() {
    let (queue, owners, _region) = queue_and_owners();
    owners.iter().for_each(|word| word.store(1, Relaxed));
    assert!(matches!(queue.try_send(vec![1]), Err(TrySendError::Full(_))));
    assert!(matches!(queue.send_timeout(vec![1], SOON), Err(SendTimeoutError::TimedOut(_))));
    assert_eq!(queue.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(queue.recv_timeout(SOON), Err(RecvTimeoutError::TimedOut));
    owners.iter().for_each(|word| word.store(0, Relaxed));
    assert_eq!(queue.try_recv().unwrap(), b"a message");
}

fn an_end_of_a_queue_that_names_its_caller_is_damage() {
    let (queue, owners, _region) = queue_and_owners();
    owners.iter().for_each(|word| word.store(own_tid(), Relaxed));
    assert!(matches!(queue.send(vec![1]).unwrap_err(), pshared::SendError::Damaged { .. }));
    assert!(matches!(queue.try_send(vec![1]), Err(TrySendError::Damaged { .. })));
    assert!(matches!(queue.recv(), Err(pshared::RecvError::Damaged { .. })));
    assert!(matches!(queue.try_recv(), Err(TryRecvError::Damaged { .. })));
}

/// The words of the memory that show `position` as a place behind one record.
fn places(words: &'static [AtomicU64], position: u64) -> Vec<&'static AtomicU64> {
    words
        .iter()
        .filter(|word| word.load(Relaxed) as u32 as u64 == position && word.load(Relaxed) >> 32 > 0)
        .collect()
}

fn places_that_cannot_be_are_damage_with_figures() {
    let (region, words) = region(64 << 10);
    let queue = Queue::bytes_in(&region, 1024).unwrap();
    // Two records of 3 units and one of 2: the tail stands at 8, after 3.
    [9, 16, 1].iter().for_each(|&len| queue.send(vec![7; len]).unwrap());
    let tails = places(words, 8);
    assert!(!tails.is_empty());
    for position in [256, 1000, u64::from(u32::MAX)] {
        tails.iter().for_each(|word| word.store(3 << 32 | position, Relaxed));
        match queue.try_send(vec![1]) {
            Err(error @ TrySendError::Damaged { found, limit: 1024, .. }) => {
                assert_eq!(found, 8 * position as usize);
                let said = format!(
                    "the shared memory is damaged: a length of {found} bytes, where there are at most 1024"
                );
                assert_eq!(error.to_string(), said);
            }
            other => panic!("{position}: {other:?}"),
        }
        assert!(matches!(queue.send_timeout(vec![1], SOON), Err(SendTimeoutError::Damaged { .. })));
        assert!(queue.len() <= 128);
    }
    tails.iter().for_each(|word| word.store(3 << 32 | 8, Relaxed));
    assert_eq!(queue.try_recv().unwrap(), [7; 9]);
}

fn lengths_that_cannot_be_are_damage_with_figures() {
    let (region, words) = region(64 << 10);
    let queue = Queue::bytes_in(&region, 1024).unwrap();
    queue.send(vec![0xee; 13]).unwrap();
    let header = words.iter().rfind(|word| word.load(Relaxed) == 13).expect("a header");
    for len in [1017_u64, 4096, u64::from(u32::MAX)] {
        header.store(len, Relaxed);
        let found = 8 + len.next_multiple_of(8) as usize;
        assert_eq!(queue.try_recv(), Err(TryRecvError::Damaged { found, limit: 1024 }));
        assert_eq!(queue.recv_timeout(SOON), Err(RecvTimeoutError::Damaged { found, limit: 1024 }));
        assert!(matches!(queue.try_read(), Err(TryRecvError::Damaged { .. })));
        assert!(matches!(queue.try_recv_many(&mut Vec::new(), 9), Err(TryRecvError::Damaged { .. })));
    }
    header.store(13, Relaxed);
    assert_eq!(queue.try_recv().unwrap(), [0xee; 13]);
}

fn a_task_that_is_longer_than_its_place_is_damage() {
    let (region, words) = region(64 << 10);
    let builder = JoinableQueue::builder(1024).takers(2).dead_letters(1).deliveries(1).longest(40);
    let queue: JoinableQueue<Vec<u8>> = builder.build_in(&region).unwrap();
    queue.send(vec![0xee; 12]).unwrap();
    let header = words.iter().find(|word| word.load(Relaxed) == 13).expect("a header");
    header.store(41, Relaxed);
    assert_eq!(queue.try_recv().unwrap_err(), TryRecvError::Damaged { found: 41, limit: 40 });
    header.store(13, Relaxed);
    queue.try_recv().unwrap().give_back();
    // Where it lies now, and in its length as a dead letter.
    let lens: Vec<_> = halves(words).iter().filter(|word| word.load(Relaxed) == 13).collect();
    lens.iter().for_each(|word| word.store(1 << 20, Relaxed));
    assert!(queue.try_recv().is_err());
    let letters: Vec<_> = queue.dead_letters().collect();
    assert!(
        matches!(letters[..], [Err(pshared::RecvError::Damaged { found: 0x10_0000, limit: 40 })]),
        "{letters:?}"
    );
}

fn every_word_of_a_queue_may_be_anything() {
    let (region, words) = region(16 << 10);
    let queue = Queue::bytes_in(&region, Capacity::bytes(256).items(6).peers(2)).unwrap();
    (1..5_u8).for_each(|len| queue.send(vec![len; len.into()]).unwrap());
    let used = words.len() - region.room() / 8;
    let whole: Vec<u64> = words.iter().map(|word| word.load(Relaxed)).collect();
    for at in HEADER / 8..used {
        for garbage in
            [0, 1, 3 << 32, 5 << 32 | 700, u64::from(own_tid()), u64::MAX, 0x7fff_ffff, whole[at] ^ 2]
        {
            words.iter().zip(&whole).for_each(|(word, &good)| word.store(good, Relaxed));
            words[at].store(garbage, Relaxed);
            let _ = queue.try_send(vec![9; 30]);
            let _ = queue.send_timeout(vec![9; 30], Duration::ZERO);
            let _ = queue.try_send_many(&mut vec![vec![8; 9]; 4]);
            let _ = queue.try_recv_many(&mut Vec::new(), 3);
            let _ = queue.try_read().map(|message| message.len());
            let _ = queue.recv_timeout(Duration::ZERO);
            let _ = (queue.len(), queue.is_full(), queue.is_closed(), format!("{queue:?}"));
        }
    }
    words.iter().zip(&whole).for_each(|(word, &good)| word.store(good, Relaxed));
    assert!((1..5_u8).all(|len| queue.try_recv().is_ok_and(|message| message == vec![len; len.into()])));
}

fn memory_that_is_emptied_under_its_users_ends_no_process() {
    let (region, words) = region(64 << 10);
    let queue: Queue<String> = Queue::new_in(&region, 1024).unwrap();
    let (lock, event) = (Lock::new_in(&region).unwrap(), Event::new_in(&region).unwrap());
    let (value, barrier) = (Value::new_in(&region, 5_u32).unwrap(), Barrier::new_in(&region, 2).unwrap());
    let semaphore = Semaphore::new_in(&region, 3).unwrap();
    queue.send("gone".to_string()).unwrap();
    event.set();
    // A seal forbids to shrink it; to punch holes into it no seal forbids that lets others write.
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    fallocate(the_memfd(&region), flags, 0, 64 << 10).unwrap();
    assert!(words.iter().all(|word| word.load(Relaxed) == 0));
    assert_eq!(queue.try_recv(), Err(TryRecvError::Empty));
    assert!(queue.try_send("anew".to_string()).is_ok());
    assert_eq!(queue.try_recv().unwrap(), "anew");
    assert!(lock.try_lock().is_ok() && !event.is_set());
    assert_eq!(value.get(), 0);
    assert!(matches!(barrier.wait_timeout(Duration::ZERO), Ok(_) | Err(BarrierError::TimedOut)));
    // Its bound went, too.
    assert!(matches!(
        semaphore.try_acquire(),
        Err(AcquireError::NoPermits | AcquireError::Impossible { .. })
    ));
    assert_eq!(region.size(), 64 << 10);
}

/// Bytes that nothing was written to are zero, and not what lay on the maker's stack: that would tell a peer where the
/// maker's memory lies.
fn a_new_object_tells_nothing_of_its_makers_memory() {
    let (region, words) = region(256 << 10);
    let lock = Lock::new_in(&region).unwrap();
    let queue: Queue<u8> = Queue::new_in(&region, Capacity::bytes(64).peers(3)).unwrap();
    let tasks: JoinableQueue<u8> = JoinableQueue::new_in(&region, 64).unwrap();
    let channel = Channel::new(64).in_region(&region).untrusted().bytes().unwrap();
    let others =
        (RLock::new_in(&region).unwrap(), RwLock::new_in(&region).unwrap(), Event::new_in(&region).unwrap());
    let more = (Barrier::new_in(&region, 3).unwrap(), Semaphore::new_in(&region, 3).unwrap());
    let values = (Value::new_in(&region, 1_u8).unwrap(), Array::new_in(&region, &[1_u8]).unwrap());
    let rest = (Once::new_in(&region).unwrap(), Condition::new_in(&region, &lock).unwrap());
    let addresses: Vec<_> =
        words.iter().map(|word| word.load(Relaxed)).filter(|&word| is_address(word)).collect();
    assert!(addresses.is_empty(), "{addresses:x?}");
    // Once is not enough for what a compiler leaves lying about; of all words only counts and sizes are set.
    let set = words[HEADER / 8..].iter().filter(|word| word.load(Relaxed) != 0).count();
    assert!(set < 40, "{set} words");
    drop((queue, tasks, channel, others, more, values, rest));
}

/// Whether something of this process is mapped there.
fn is_address(word: u64) -> bool {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let mut ranges = maps.lines().filter_map(|line| line.split(' ').next()?.split_once('-'));
    word > 0xffff_ffff
        && ranges.any(|(from, to)| {
            let [from, to] = [from, to].map(|number| u64::from_str_radix(number, 16).unwrap());
            (from..to).contains(&word)
        })
}

/// Runs `body` as another user, who has no rights, in a child.
fn as_nobody(body: impl FnOnce()) {
    fork_child(|| {
        // SAFETY: plain numbers; this process has one thread.
        unsafe {
            assert_eq!(libc::setgroups(0, std::ptr::null()), 0);
            assert_eq!(libc::setgid(65534), 0);
            assert_eq!(libc::setuid(65534), 0);
        }
        body();
    })
    .join_ok();
}

fn another_user_cannot_open_the_memory() {
    let (region, _) = region(4096);
    let path = format!("/proc/{}/fd/{}", std::process::id(), the_memfd(&region).as_raw_fd());
    assert!(fs::File::open(&path).is_ok(), "its own user may");
    as_nobody(|| {
        let refused = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap_err();
        assert_eq!(
            (refused.kind(), refused.raw_os_error()),
            (ErrorKind::PermissionDenied, Some(libc::EACCES))
        );
        let maps = fs::read(format!("/proc/{}/mem", std::os::unix::process::parent_id()));
        assert_eq!(maps.unwrap_err().raw_os_error(), Some(libc::EACCES));
    });
}

fn another_user_cannot_open_it_anew_by_a_descriptor_of_its_own() {
    let (region, _) = region(4096);
    let number = the_memfd(&region).as_raw_fd();
    fs::File::open(format!("/proc/self/fd/{number}")).expect("its own user may");
    as_nobody(|| {
        // SAFETY: a plain attribute: whoever is not dumpable may not look at its own descriptors.
        unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1) };
        let refused = fs::File::open(format!("/proc/self/fd/{number}")).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EACCES));
    });
}
