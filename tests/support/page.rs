//! A page that a test and the children it forks see alike: counters, flags, and a libc mutex.

#![allow(clippy::disallowed_types, reason = "tests talk to their children beside the crate, not through it")]

use std::{
    mem,
    ptr::{self, NonNull},
    sync::atomic::{AtomicU32, Ordering::SeqCst},
};

use nix::libc;

/// 4,096 zero bytes, shared with every child that is forked afterwards.
#[derive(Debug)]
pub struct Page(NonNull<u8>);

// SAFETY: words are atomic, and whoever uses the two-step addition holds the lock that is being tested.
unsafe impl Sync for Page {}

// SAFETY: a mapping that any thread may use.
unsafe impl Send for Page {}

/// Bytes in a page.
const SIZE: usize = 4096;

impl Page {
    pub fn new() -> Page {
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        let place = unsafe { libc::mmap(ptr::null_mut(), SIZE, access, kind, -1, 0) };
        assert_ne!(place, libc::MAP_FAILED, "mmap of a page");
        Page(NonNull::new(place.cast()).expect("not at address 0"))
    }

    /// The `index`-th word.
    pub fn word(&self, index: usize) -> &AtomicU32 {
        assert!(index < SIZE / 4);
        // SAFETY: in bounds and aligned; zeroed and then only used as a word.
        unsafe { self.0.cast::<AtomicU32>().add(index).as_ref() }
    }

    pub fn get(&self, index: usize) -> u32 {
        self.word(index).load(SeqCst)
    }

    pub fn set(&self, index: usize, value: u32) {
        self.word(index).store(value, SeqCst);
    }

    pub fn add(&self, index: usize, value: u32) -> u32 {
        self.word(index).fetch_add(value, SeqCst)
    }

    /// Adds one to the word by a separate read and write: right only if nobody else does so meanwhile.
    pub fn add_one_in_two_steps(&self, index: usize) {
        let place = self.word(index).as_ptr();
        // SAFETY: a word of this page; whoever calls this holds the lock that is being tested.
        unsafe { place.write_volatile(place.read_volatile() + 1) }
    }

    /// The `slot`-th libc mutex of the page's second half, as it is.
    fn mutex_at(&self, slot: usize) -> *mut libc::pthread_mutex_t {
        let start = SIZE / 2 + slot * mem::size_of::<libc::pthread_mutex_t>().next_multiple_of(64);
        assert!(start + mem::size_of::<libc::pthread_mutex_t>() <= SIZE);
        // SAFETY: in bounds.
        unsafe { self.0.add(start).as_ptr().cast() }
    }

    /// Makes a process-shared libc mutex, robust or not, in the `slot`-th place.
    pub fn mutex(&self, slot: usize, robust: bool) -> PthreadMutex {
        let mutex = PthreadMutex(self.mutex_at(slot));
        // SAFETY: attributes and mutex are initialised before use, in libc's order.
        unsafe {
            let mut attributes: libc::pthread_mutexattr_t = mem::zeroed();
            assert_eq!(libc::pthread_mutexattr_init(&mut attributes), 0);
            libc::pthread_mutexattr_setpshared(&mut attributes, libc::PTHREAD_PROCESS_SHARED);
            if robust {
                libc::pthread_mutexattr_setrobust(&mut attributes, libc::PTHREAD_MUTEX_ROBUST);
            }
            assert_eq!(libc::pthread_mutex_init(mutex.0, &attributes), 0);
            libc::pthread_mutexattr_destroy(&mut attributes);
        }
        mutex
    }
}

impl Page {
    /// Makes a process-shared libc condition in the `slot`-th place; mutexes have places of their own.
    pub fn condition(&self, slot: usize) -> PthreadCondition {
        let condition = PthreadCondition(self.mutex_at(slot).cast());
        const { assert!(mem::size_of::<libc::pthread_cond_t>() <= 64) };
        // SAFETY: attributes and condition are initialised before use, in libc's order.
        unsafe {
            let mut attributes: libc::pthread_condattr_t = mem::zeroed();
            assert_eq!(libc::pthread_condattr_init(&mut attributes), 0);
            libc::pthread_condattr_setpshared(&mut attributes, libc::PTHREAD_PROCESS_SHARED);
            assert_eq!(libc::pthread_cond_init(condition.0, &attributes), 0);
            libc::pthread_condattr_destroy(&mut attributes);
        }
        condition
    }
}

/// A libc condition between processes, to be measured beside.
#[derive(Clone, Copy, Debug)]
pub struct PthreadCondition(*mut libc::pthread_cond_t);

impl PthreadCondition {
    #[inline]
    pub fn wait(self, mutex: PthreadMutex) {
        // SAFETY: both initialised by `Page`, in a page that is never unmapped; the caller holds the mutex.
        assert_eq!(unsafe { libc::pthread_cond_wait(self.0, mutex.0) }, 0);
    }

    #[inline]
    pub fn notify_one(self) {
        // SAFETY: as for `wait`.
        unsafe { libc::pthread_cond_signal(self.0) };
    }
}

/// A libc mutex between processes: what this crate's lock shares a robust list with, and is measured beside.
#[derive(Clone, Copy, Debug)]
pub struct PthreadMutex(*mut libc::pthread_mutex_t);

impl PthreadMutex {
    /// Locks it and returns what libc said: 0, or EOWNERDEAD with the mutex held.
    #[inline]
    pub fn lock(self) -> i32 {
        // SAFETY: initialised by `Page::mutex`, in a page that is never unmapped.
        unsafe { libc::pthread_mutex_lock(self.0) }
    }

    /// Declares it usable again after EOWNERDEAD.
    pub fn make_consistent(self) {
        // SAFETY: as for `lock`; refused if nobody died, which changes nothing.
        unsafe { libc::pthread_mutex_consistent(self.0) };
    }

    #[inline]
    pub fn unlock(self) {
        // SAFETY: as for `lock`; the caller holds it.
        let error = unsafe { libc::pthread_mutex_unlock(self.0) };
        assert_eq!(error, 0);
    }
}
