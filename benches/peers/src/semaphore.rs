//! Semaphores: alone, and as a ball that is thrown to and fro by two that spin.

use std::sync::atomic::{
    AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};

use bytemuck::Zeroable;
use nix::libc;
use pshared::Semaphore;

use crate::{
    drive::{APART, alone, round_trips},
    parties::{Line, Mode, shared},
    python::python,
    rounds::{
        Kind::{Limit, Rival},
        Row,
    },
};

/// libc's semaphore between processes.
#[derive(Clone, Copy, Debug)]
pub struct Posix(&'static Line<[u64; 16]>);

impl Posix {
    pub fn new(permits: u32) -> Posix {
        let posix = Posix(shared());
        // SAFETY: aligned zero bytes that are never unmapped, and used for nothing else.
        assert_eq!(unsafe { libc::sem_init(posix.raw(), 1, permits) }, 0);
        posix
    }

    fn raw(self) -> *mut libc::sem_t {
        const { assert!(size_of::<libc::sem_t>() <= 128) };
        (&raw const self.0.0).cast_mut().cast()
    }

    #[inline]
    pub fn acquire(self) {
        // SAFETY: initialised by `new`.
        assert_eq!(unsafe { libc::sem_wait(self.raw()) }, 0);
    }

    #[inline]
    pub fn release(self) {
        // SAFETY: initialised by `new`.
        assert_eq!(unsafe { libc::sem_post(self.raw()) }, 0);
    }
}

/// A count of permits that nobody can sleep for.
#[derive(Debug, Zeroable)]
struct Bare(AtomicU32);

impl Bare {
    #[inline]
    fn acquire(&self) {
        loop {
            let permits = self.0.load(Relaxed);
            if permits > 0 && self.0.compare_exchange_weak(permits, permits - 1, Acquire, Relaxed).is_ok() {
                return;
            }
        }
    }

    #[inline]
    fn release(&self) {
        self.0.fetch_add(1, Release);
    }
}

/// A ball that is thrown by releases of one semaphore, and back by those of another.
pub fn ping_pong<S: Sync>(places: [usize; 2], there: S, back: S, acquire: fn(&S), release: fn(&S)) -> f64 {
    let (there, back) = (&there, &back);
    let ping = || {
        move || {
            release(there);
            acquire(back);
        }
    };
    let pong = || {
        move || {
            acquire(there);
            release(back);
        }
    };
    round_trips(Mode::Processes, places, ping, pong)
}

/// Ours.
pub fn ours(places: [usize; 2]) -> f64 {
    let make = || Semaphore::new(0).expect("a semaphore");
    let acquire = |semaphore: &Semaphore| semaphore.acquire().expect("nobody closes it");
    let release = |semaphore: &Semaphore| semaphore.release().expect("it has no bound");
    ping_pong(places, make(), make(), acquire, release)
}

/// libc's.
pub fn posix(places: [usize; 2]) -> f64 {
    ping_pong(places, Posix::new(0), Posix::new(0), |posix| posix.acquire(), |posix| posix.release())
}

pub fn rows() -> Vec<Row> {
    let uncontended = Row::on_one("semaphore/uncontended", || {
        let semaphore = Semaphore::new(1).expect("a semaphore");
        alone(|| {
            assert!(semaphore.acquire().is_ok());
            assert!(semaphore.release().is_ok());
        })
    })
    .beside(Limit, "bare exchange and add", || {
        let bare: &Line<Bare> = shared();
        bare.0.release();
        alone(|| {
            bare.0.acquire();
            bare.0.release();
        })
    })
    .beside(Rival, "sem_t", || {
        let posix = Posix::new(1);
        alone(|| {
            posix.acquire();
            posix.release();
        })
    })
    .beside(Rival, "Python Semaphore", || python(&["semaphore"]));

    let thrown = Row::apart("semaphore/ping-pong", || ours(APART))
        .beside(Limit, "bare spinning semaphore", || {
            let bares: &'static [Line<Bare>; 2] = shared();
            ping_pong(APART, &bares[0].0, &bares[1].0, |bare| bare.acquire(), |bare| bare.release())
        })
        .beside(Rival, "sem_t", || posix(APART));
    vec![uncontended, thrown]
}
