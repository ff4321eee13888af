//! Boost.Interprocess, by way of `boost.cpp`.

use std::{
    ffi::{CString, c_char, c_void},
    process,
};

use crate::{
    channel::block,
    drive::{Contest, Messages, alone, stream},
    lock::Guarded,
    parties::{Entrusted, Line, Mode, shared},
    rounds::{Kind::Rival, Row},
};

unsafe extern "C" {
    fn peers_queue_new(name: *const c_char, most: usize, size: usize) -> *mut c_void;
    fn peers_queue_send(queue: *mut c_void, message: *const c_void, size: usize);
    fn peers_queue_receive(queue: *mut c_void, message: *mut c_void, size: usize) -> usize;
    fn peers_mutex_size() -> usize;
    fn peers_mutex_new(place: *mut c_void);
    fn peers_mutex_lock(mutex: *mut c_void);
    fn peers_mutex_unlock(mutex: *mut c_void);
}

fn stream_of<const W: usize, const CAP: usize>() -> f64 {
    let name = CString::new(format!("pshared-peers-{}", process::id())).expect("a name");
    // SAFETY: a name that ends in 0; a queue is there to be used by all processes.
    let queue = unsafe { Entrusted::new(peers_queue_new(name.as_ptr(), CAP, 8 * W)) };
    let queue = &queue;
    let send = || {
        let mut messages = Messages::<W>::new();
        move |many| {
            for _ in 0..many {
                // SAFETY: the queue of above, and a message of so many bytes.
                unsafe { peers_queue_send(*queue.get(), messages.next().as_ptr().cast(), 8 * W) };
            }
        }
    };
    let receive = || {
        let (mut messages, mut message) = (Messages::<W>::new(), Box::new([0; W]));
        move |many| {
            for _ in 0..many {
                // SAFETY: the queue of above, and room for so many bytes.
                let size = unsafe { peers_queue_receive(*queue.get(), message.as_mut_ptr().cast(), 8 * W) };
                assert_eq!(size, 8 * W, "a whole message");
                messages.check(&message);
            }
        }
    };
    stream(Mode::Processes, block(W), send, receive)
}

/// The row with Boost's message queue beside it.
pub fn message_queue<const W: usize, const CAP: usize>(row: Row) -> Row {
    row.beside(Rival, "Boost message_queue", stream_of::<W, CAP>)
}

/// A mutex between processes.
struct Mutex(Entrusted<*mut c_void>);

impl Mutex {
    fn new() -> Mutex {
        let place: &'static Line<[u64; 16]> = shared();
        let start = (&raw const place.0).cast_mut().cast::<c_void>();
        // SAFETY: aligned shared memory that is large enough, used for nothing else and never unmapped; a mutex is
        // there to be used by all.
        unsafe {
            assert!(peers_mutex_size() <= size_of_val(place), "room for a mutex");
            peers_mutex_new(start);
            Mutex(Entrusted::new(start))
        }
    }

    #[inline]
    fn with(&self, work: impl FnOnce()) {
        // SAFETY: made by `new`.
        unsafe { peers_mutex_lock(*self.0.get()) };
        work();
        // SAFETY: made by `new`, and held.
        unsafe { peers_mutex_unlock(*self.0.get()) };
    }
}

/// The row of a lock that nobody else takes, with Boost's beside it.
pub fn uncontended(row: Row) -> Row {
    row.beside(Rival, "Boost interprocess_mutex", || {
        let (mutex, guarded) = (Mutex::new(), Guarded::default());
        alone(|| mutex.with(|| guarded.count()))
    })
}

/// The row of several at one lock, with Boost's beside it.
pub fn contended(row: Row, contest: Contest) -> Row {
    row.beside(Rival, "Boost interprocess_mutex", move || {
        let mutex = Mutex::new();
        contest.run(Mode::Processes, |work| mutex.with(work)).time
    })
}
