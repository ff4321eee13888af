//! Objects and regions, as there are more of them or as they are larger.

use std::{
    fs,
    num::NonZeroUsize,
    os::fd::OwnedFd,
    ptr::NonNull,
    sync::atomic::{
        AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
    time::Instant,
};

use nix::{
    fcntl::{FallocateFlags, fallocate},
    libc,
    sys::{
        memfd::{MFdFlags, memfd_create},
        mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap},
    },
    unistd::ftruncate,
};
use pshared::{Array, Context, Event, Lock, Region, Semaphore, functions};

use super::{Plan, plan};
use crate::{
    drive::{alone, effort, median},
    parties::{Entrusted, LAST, Line, Mode::Processes, Party, together},
    rounds::Kind::{Limit, Ours},
};

pub(super) const OBJECTS: &str = "\
    Nanoseconds to make one in a region that has the room, and to take and free one lock at random among so many. \
    The limit changes two words of one line at random among as many of 128 bytes, with an atomic exchange.";

/// Bytes that so many of these take of a region.
fn region_for(objects: u64, each: usize) -> Region {
    Region::anonymous(objects as usize * each + 4096).expect("memory")
}

/// What an object takes of a region.
fn footprint<T>(make: fn(&Region) -> T) -> usize {
    let region = Region::anonymous(1 << 16).expect("a region");
    let _first = make(&region);
    let before = region.room();
    let _second = make(&region);
    before - region.room()
}

/// Nanoseconds to make one of so many.
fn made<T>(objects: u64, make: fn(&Region) -> T) -> f64 {
    let each = footprint(make);
    let (begun, mut figures) = (Instant::now(), Vec::new());
    while figures.is_empty() || begun.elapsed() < effort() {
        let region = region_for(objects, each);
        let mut all = Vec::with_capacity(objects as usize);
        let begun = Instant::now();
        all.extend((0..objects).map(|_| make(&region)));
        figures.push(begun.elapsed().as_secs_f64() * 1e9 / objects as f64);
    }
    median(figures)
}

fn a_lock(region: &Region) -> Lock {
    Lock::new_in(region).expect("room")
}

fn an_event(region: &Region) -> Event {
    Event::new_in(region).expect("room")
}

fn a_semaphore(region: &Region) -> Semaphore {
    Semaphore::new_in(region, 1).expect("room")
}

fn a_small_semaphore(region: &Region) -> Semaphore {
    Semaphore::with_holders_in(region, 1, 0).expect("room")
}

/// One of so many after the other, in no order that a prefetcher knows.
fn at_random(objects: u64) -> impl FnMut() -> usize {
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        ((u128::from(seed) * u128::from(objects)) >> 64) as usize
    }
}

pub(super) fn objects(many: &[u64]) -> Vec<Plan> {
    let lock = |objects: u64| {
        let region = region_for(objects, footprint(a_lock));
        let all: Vec<Lock> = (0..objects).map(|_| a_lock(&region)).collect();
        let mut which = at_random(objects);
        alone(|| drop(all[which()].lock().expect("nobody dies here")))
    };
    let bare = |objects: u64| {
        let size = NonZeroUsize::new(objects as usize * 128).expect("a size");
        let (rights, flags) = (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED);
        // SAFETY: a fresh mapping of zeroes, which may be these words, and is never unmapped.
        let words = unsafe {
            let place = mmap_anonymous(None, size, rights, flags | MapFlags::MAP_POPULATE).expect("mmap");
            std::slice::from_raw_parts(place.cast::<Line<[AtomicU64; 2]>>().as_ptr(), objects as usize)
        };
        let mut which = at_random(objects);
        alone(|| {
            let Line([word, other]) = &words[which()];
            assert_eq!(word.swap(1, Acquire), 0);
            other.store(1, Relaxed);
            word.store(0, Release);
        })
    };
    vec![
        plan(Ours, "Lock, taken", many, lock),
        plan(Limit, "bare exchange", many, bare),
        plan(Ours, "Lock, made", many, |objects| made(objects, a_lock)),
        plan(Ours, "Event, made", many, |objects| made(objects, an_event)),
        plan(Ours, "Semaphore, made", many, |objects| made(objects, a_semaphore)),
    ]
}

pub(super) const MEMORY: &str = "\
    Bytes each, on the average of so many in one region: of the region, and of the process that made them (its pages \
    of the region, the handles in a `Vec`, what the region remembers), in whole pages.";

/// Bytes of memory that this process has, those of others that it uses included.
fn resident() -> f64 {
    let text = fs::read_to_string("/proc/self/smaps_rollup").expect("smaps_rollup");
    let field = text.lines().find_map(|line| line.strip_prefix("Rss:"));
    let kibibytes: f64 =
        field.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).expect("a number");
    kibibytes * 1024.0
}

pub(super) fn memory(many: &[u64]) -> Vec<Plan> {
    fn taken<T>(objects: u64, make: fn(&Region) -> T) -> f64 {
        let region = region_for(objects, footprint(make));
        let before = region.room();
        let _all: Vec<T> = (0..objects).map(|_| make(&region)).collect();
        (before - region.room()) as f64 / objects as f64
    }
    fn in_all<T>(objects: u64, make: fn(&Region) -> T) -> f64 {
        // What is there before the first is no object's.
        let (each, _text) = (footprint(make), resident());
        let before = resident();
        let region = region_for(objects, each);
        let _all: Vec<T> = (0..objects).map(|_| make(&region)).collect();
        (resident() - before) / objects as f64
    }
    vec![
        plan(Ours, "Lock, of the region", many, |objects| taken(objects, a_lock)),
        plan(Ours, "Lock, in all", many, |objects| in_all(objects, a_lock)),
        plan(Ours, "Event, of the region", many, |objects| taken(objects, an_event)),
        plan(Ours, "Semaphore, of the region", many, |objects| taken(objects, a_semaphore)),
        plan(Ours, "the same, without guards", many, |objects| taken(objects, a_small_semaphore)),
    ]
}

pub(super) const REGION: &str = "\
    Nanoseconds. A region has all its pages from the beginning, so that touching it never fails: so it costs what \
    the kernel takes to clear them, and one that the machine cannot give is refused at once. *Touched*: the first \
    write of another process to a page, on the average of up to 4,096 of them. *Started with it*: a child begun anew \
    by `Context::spawn`, which maps it, writes to it and ends. Limits: the same calls without ours, with all pages \
    or with none. Up to a quarter of the memory that was free is taken, 4 GiB at most.";

functions! {
    static WRITES: fn(Array<u64>) -> () = |array| array.set(0, 1).expect("nobody dies here");
}

const MIB: usize = 1 << 20;

/// Pages whose first touch is timed.
const TOUCHED: usize = 4096;

/// How many MiB may be taken.
fn affordable() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").expect("meminfo");
    let field = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kibibytes: u64 =
        field.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).expect("a number");
    (kibibytes / 1024 / 4).min(4096)
}

/// How many MiB the machine cannot give.
fn too_many() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").expect("meminfo");
    let field = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes: u64 =
        field.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).expect("a number");
    kibibytes / 1024
}

/// Nanoseconds of one call, the median over an effort.
fn one_by_one<T>(mut call: impl FnMut() -> T) -> f64 {
    let (start, mut figures) = (Instant::now(), Vec::new());
    while figures.is_empty() || start.elapsed() < effort() {
        let begun = Instant::now();
        let made = call();
        figures.push(begun.elapsed().as_secs_f64() * 1e9);
        drop(made);
    }
    median(figures)
}

/// A memfd and where it is mapped.
struct Bare {
    place: NonNull<libc::c_void>,
    size: usize,
    _memfd: OwnedFd,
}

impl Bare {
    fn new(mib: u64, allocated: bool) -> Bare {
        let size = mib as usize * MIB;
        let memfd = memfd_create(c"peers", MFdFlags::MFD_CLOEXEC).expect("memfd_create");
        if allocated {
            fallocate(&memfd, FallocateFlags::empty(), 0, size as i64).expect("fallocate");
        } else {
            ftruncate(&memfd, size as i64).expect("ftruncate");
        }
        let rights = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let whole = NonZeroUsize::new(size).expect("a size");
        // SAFETY: a fresh mapping, which nobody uses.
        let place = unsafe { mmap(None, whole, rights, MapFlags::MAP_SHARED, &memfd, 0) }.expect("mmap");
        Bare { place, size, _memfd: memfd }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and not used again.
        unsafe { munmap(self.place, self.size) }.expect("munmap");
    }
}

/// Nanoseconds a page, when `touch` writes to one after the other of so many MiB in a process that never has.
fn touched(mib: u64, touch: impl Fn(usize) + Sync) -> f64 {
    let pages = (mib as usize * MIB / 4096 - 1).min(TOUCHED);
    let step = mib as usize * MIB / pages;
    let party: Party<'_> = Box::new(|clock| {
        clock.start();
        let begun = Instant::now();
        (0..pages).for_each(|page| touch(page * step));
        begun.elapsed().as_secs_f64() * 1e9 / pages as f64
    });
    together(Processes, &[LAST], vec![party]).results[0]
}

/// An array that fills a region of so many MiB.
fn array(mib: u64) -> Array<u64> {
    let region = Region::anonymous(mib as usize * MIB).expect("memory");
    Array::zeroed_in(&region, (region.room() - 256) / 8).expect("room")
}

pub(super) fn regions(sizes: &[u64]) -> Vec<Plan> {
    let (most, too_many) = (affordable(), too_many());
    let given: Vec<u64> = sizes.iter().copied().filter(|&mib| mib <= most).collect();
    let refused: Vec<u64> = sizes.iter().copied().filter(|&mib| mib > too_many).collect();
    let anonymous = |mib: u64| Region::anonymous(mib as usize * MIB);
    let touched_by_us = |mib| {
        let array = array(mib);
        touched(mib, |byte| array.set((byte / 8).min(array.len() - 1), 1).expect("nobody dies here"))
    };
    let touched_bare = |mib| {
        let bare = Bare::new(mib, false);
        // SAFETY: whoever uses the place writes within it.
        let place = unsafe { Entrusted::new(bare.place.cast::<u8>()) };
        // SAFETY: in bounds, and nobody else is there.
        touched(mib, |byte| unsafe { place.get().add(byte).write_volatile(1) })
    };
    let started = |mib| {
        let (array, context) = (array(mib), Context::spawn());
        one_by_one(|| context.start(&WRITES, array.clone()).expect("a child").join().expect("no value"))
    };
    vec![
        plan(Ours, "made", &given, move |mib| one_by_one(|| anonymous(mib).expect("memory"))),
        plan(Limit, "memfd + fallocate + mmap", &given, |mib| one_by_one(|| Bare::new(mib, true))),
        plan(Limit, "memfd + mmap, no pages", sizes, |mib| one_by_one(|| Bare::new(mib, false))),
        plan(Ours, "refused", &refused, move |mib| one_by_one(|| anonymous(mib).expect_err("too large"))),
        plan(Ours, "touched, a page", &given, touched_by_us),
        plan(Limit, "touched, a page that was none", sizes, touched_bare),
        plan(Ours, "started with it", &given, started),
    ]
}
