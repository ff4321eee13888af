//! Memory: a region made and dropped, and what objects and processes take.

use std::{
    fs,
    io::{Read, Write, pipe},
    num::NonZeroUsize,
};

use nix::{
    fcntl::{FallocateFlags, fallocate},
    libc,
    sys::{
        memfd::{MFdFlags, memfd_create},
        mman::{MapFlags, ProtFlags, mmap, munmap},
        wait::waitpid,
    },
    unistd::{Pid, ftruncate},
};
use pshared::{BoundedSemaphore, Event, Lock, Queue, Region, Semaphore};

use crate::{
    drive::alone,
    parties::child,
    python::python,
    rounds::{
        Kind::{Limit, Rival},
        Row, Unit,
    },
};

const SIZE: usize = 1 << 20;

/// A memfd of 1 MiB, mapped and gone again; with all its pages, as ours has them, or without any.
fn bare(allocated: bool) -> f64 {
    alone(|| {
        let memfd = memfd_create(c"peers", MFdFlags::MFD_CLOEXEC).expect("memfd_create");
        if allocated {
            fallocate(&memfd, FallocateFlags::empty(), 0, SIZE as i64).expect("fallocate");
        } else {
            ftruncate(&memfd, SIZE as i64).expect("ftruncate");
        }
        let (size, rights) =
            (NonZeroUsize::new(SIZE).expect("a size"), ProtFlags::PROT_READ | ProtFlags::PROT_WRITE);
        // SAFETY: a fresh mapping, which nobody uses.
        unsafe {
            let place = mmap(None, size, rights, MapFlags::MAP_SHARED, &memfd, 0).expect("mmap");
            munmap(place, SIZE).expect("munmap");
        }
    })
}

/// Bytes that an object takes of a region.
fn taken(place: impl FnOnce(&Region)) -> f64 {
    let region = Region::anonymous(1 << 16).expect("a region");
    let before = region.room();
    place(&region);
    (before - region.room()) as f64
}

/// The bytes of a queue's buffer.
const BUFFER: usize = 4096;

/// Processes that use one queue at the same time.
const MANY: usize = 64;

/// Bytes of memory of its own that a forked process has, on the average of 64 that have done `work` and wait.
fn each_has(work: impl Fn()) -> f64 {
    let (mut there, done) = pipe().expect("a pipe");
    let (held, end) = pipe().expect("a pipe");
    let mut end = Some(end);
    let pids: Vec<Pid> = (0..MANY)
        .map(|_| {
            child(|| {
                drop(end.take());
                work();
                (&done).write_all(&[1]).expect("somebody listens");
                let _ = (&held).read(&mut [0]);
            })
        })
        .collect();
    there.read_exact(&mut [0; MANY]).expect("all are there");
    let all: f64 = pids.iter().map(|&pid| private_memory(pid)).sum();
    drop(end);
    pids.iter().for_each(|&pid| _ = waitpid(pid, None).expect("waitpid"));
    all / MANY as f64
}

/// Bytes that a process shares with nobody.
fn private_memory(pid: Pid) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("smaps_rollup");
    let fields =
        text.lines().filter(|line| line.starts_with("Private_Clean:") || line.starts_with("Private_Dirty:"));
    let kibibytes = fields.filter_map(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    kibibytes.sum::<f64>() * 1024.0
}

/// What those who send to and receive from one queue have, beyond what forked processes have that do nothing.
fn on_a_queue() -> f64 {
    let queue = Queue::plain(1 << 16).expect("a queue");
    let used = each_has(|| {
        for number in 0..100_u64 {
            queue.send(number).expect("room");
            queue.recv().expect("a message");
        }
    });
    used - each_has(|| ())
}

fn sizes() -> Vec<Row> {
    let of = |name: &str, ours: fn() -> f64| Row::of(Unit::Bytes, name, ours);
    let pthread = (size_of::<libc::pthread_cond_t>() + size_of::<libc::pthread_mutex_t>()) as f64;
    vec![
        of("memory/Lock", || taken(|region| drop(Lock::new_in(region).expect("room")))).beside(
            Rival,
            "pthread_mutex_t",
            || size_of::<libc::pthread_mutex_t>() as f64,
        ),
        of("memory/Semaphore", || taken(|region| drop(Semaphore::new_in(region, 1).expect("room")))).beside(
            Rival,
            "sem_t",
            || size_of::<libc::sem_t>() as f64,
        ),
        of("memory/Semaphore without guards", || {
            taken(|region| drop(Semaphore::with_holders_in(region, 1, 0).expect("room")))
        })
        .beside(Rival, "sem_t", || size_of::<libc::sem_t>() as f64),
        of("memory/BoundedSemaphore of 1", || {
            taken(|region| drop(BoundedSemaphore::new_in(region, 1).expect("room")))
        })
        .beside(Rival, "sem_t", || size_of::<libc::sem_t>() as f64),
        of("memory/Event", || taken(|region| drop(Event::new_in(region).expect("room")))).beside(
            Rival,
            "pthread_cond_t + pthread_mutex_t",
            move || pthread,
        ),
        of("memory/Queue beside its buffer", || {
            taken(|region| drop(Queue::<u64>::new_in(region, BUFFER).expect("room"))) - BUFFER as f64
        })
        .beside(Rival, "pthread_cond_t + pthread_mutex_t", move || pthread),
        of("memory/each of 64 on a queue", on_a_queue).beside(Limit, "bare fork", || each_has(|| ())),
    ]
}

pub fn rows() -> Vec<Row> {
    let region = Row::on_one("region/1 MiB made and dropped", || {
        alone(|| drop(Region::anonymous(SIZE).expect("a region")))
    })
    .beside(Limit, "memfd + fallocate + mmap + munmap", || bare(true))
    .beside(Limit, "the same without its pages", || bare(false))
    .beside(Rival, "shared_memory, without its pages", || {
        alone(|| drop(shared_memory::ShmemConf::new().size(SIZE).create().expect("a mapping")))
    })
    .beside(Rival, "Python SharedMemory, without its pages", || python(&["region"]));
    let mut rows = vec![region];
    rows.extend(sizes());
    rows
}
