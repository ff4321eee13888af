//! The seam as it is modelled: loom's atomics, a modelled futex, and deaths by fuel.
//!
//! # What is modelled
//! - Every access to a word, and every futex call, first takes one *step* ([`kernel`]): a thread that runs on fuel
//!   stops when it has none left. Writes to the pending slot and to the list take a step as well, so that a death may
//!   fall between them. A thread that unwinds is dead or has failed: its accesses do nothing, so that the `Drop`
//!   impls on the way touch no shared memory.
//! - The futex: comparing and enqueuing are one event, changing and waking are one event, as under the kernel's
//!   bucket lock. Sleepers of a word wake in the order in which they came.
//! - The exit walk, over the list and the pending slot: [`kernel::bury`].
//!
//! # What is not
//! - Links are kept in a private table, not in the words: that a released word must not be in the list any more
//!   (`Mutant::ReleaseBeforeUnlink`) cannot be seen here. The exact-kill harness sees it.
//! - Time: a deadline never passes by itself. [`kernel::end_sleep`] lets another thread end a wait.
//! - A wait compares with the newest value of the word. On the machine this holds for every change that is followed
//!   by a wake; a change that is followed by none may also be missed.
//! - A wake orders what came before it before what the woken thread does next. Nothing may lean on that.
//! - Orders that loom's reduction leaves out: see [`Loads`].
//! - `SeqCst` accesses: loom counts them as `AcqRel`, but it has `fence(SeqCst)`, so each `SeqCst` load comes behind
//!   one. That is what a store or an exchange and a later load, all `SeqCst`, need of each other; it orders accesses
//!   around the load that are not `SeqCst` more than the machine need.
//! - loom itself: five threads with the main one; weak exchanges never fail by chance; a load never sees a store that
//!   comes later in its own thread's order; a plain store may fall before a concurrent exchange that did not see it.

use std::{ops::Deref, sync::Arc, time::Duration};

#[cfg(not(feature = "shuttle"))]
mod by_loom;
#[cfg(feature = "shuttle")]
mod by_shuttle;
#[cfg(not(feature = "shuttle"))]
use by_loom as backend;
#[cfg(feature = "shuttle")]
use by_shuttle as backend;

/// Lets others run, until they have gone as far as they can or by preemption.
#[cfg(test)]
pub(crate) use backend::yield_now;

#[cfg(test)]
pub(crate) mod explore;
pub(crate) mod kernel;
#[cfg(all(test, not(feature = "shuttle")))]
mod stacks;

use backend::atomic;
pub(crate) use backend::{
    UnsafeCell,
    atomic::Ordering::{self, AcqRel, Acquire, Relaxed, Release, SeqCst},
};

/// No spinning: loom tries every order anyway.
pub(crate) const SPINS: u32 = 0;

/// Nobody looks again before a sleep: a schedule in which it helps is one in which the sleep does.
pub(crate) struct Spins;

impl Spins {
    pub(crate) fn new(_deadline: Option<Deadline>) -> Spins {
        Spins
    }

    pub(crate) fn turn(&mut self) -> bool {
        false
    }
}

/// Nor does anybody wait before a look.
pub(crate) struct Pace;

impl Pace {
    pub(crate) fn new() -> Pace {
        Pace
    }

    pub(crate) fn wait(&self) {}

    pub(crate) fn learn(&self, _found: u32) {}
}

/// Nor at a lock.
pub(crate) struct Backoff;

impl Backoff {
    pub(crate) fn new(_deadline: Option<Deadline>) -> Backoff {
        Backoff
    }

    pub(crate) fn turn(&mut self) -> bool {
        false
    }
}

/// The kernel's bits, from linux/futex.h.
pub(crate) const WAITERS: u32 = 0x8000_0000;
pub(crate) const OWNER_DIED: u32 = 0x4000_0000;
pub(crate) const TID_MASK: u32 = 0x3fff_ffff;

/// No time, no courtesy.
pub(crate) const COURTESY: Duration = Duration::ZERO;

pub(crate) fn spin_hint() {
    backend::yield_now();
}

pub(crate) fn fence(order: atomic::Ordering) {
    if !std::thread::panicking() {
        atomic::fence(order);
    }
}

/// Half of a fence. A pair of a light and a heavy one orders as two full fences do, so each is modelled as one; but in
/// models of a system without heavy fences it is nothing.
pub(crate) fn light_fence() {
    if kernel::has_heavy_fences() {
        fence(SeqCst);
    }
}

/// The other half. It takes a step.
pub(crate) fn heavy_fence() -> bool {
    assert!(kernel::has_heavy_fences() || std::thread::panicking(), "there are no heavy fences here");
    if kernel::step() {
        fence(SeqCst);
    }
    true
}

/// Whether there are heavy fences.
pub(crate) fn meets_heavy_fences() -> bool {
    kernel::has_heavy_fences()
}

/// Nothing forks in a model.
pub(crate) fn forks() -> u32 {
    0
}

/// An atomic whose accesses take fuel.
macro_rules! atomic_on_fuel {
    ($name:ident, $int:ty) => {
        #[derive(Debug)]
        pub(crate) struct $name {
            word: atomic::$name,
            loads: Loads,
        }

        impl $name {
            pub(crate) fn new(value: $int) -> $name {
                $name { word: atomic::$name::new(value), loads: Loads::new() }
            }

            pub(crate) fn load(&self, order: atomic::Ordering) -> $int {
                if order == SeqCst {
                    fence(SeqCst);
                }
                self.access(|word| word.load(order)).unwrap_or(0)
            }

            pub(crate) fn store(&self, value: $int, order: atomic::Ordering) {
                self.access(|word| word.store(value, order));
            }

            pub(crate) fn swap(&self, value: $int, order: atomic::Ordering) -> $int {
                self.access(|word| word.swap(value, order)).unwrap_or(0)
            }

            pub(crate) fn fetch_add(&self, value: $int, order: atomic::Ordering) -> $int {
                self.access(|word| word.fetch_add(value, order)).unwrap_or(0)
            }

            pub(crate) fn fetch_sub(&self, value: $int, order: atomic::Ordering) -> $int {
                self.access(|word| word.fetch_sub(value, order)).unwrap_or(0)
            }

            pub(crate) fn fetch_or(&self, value: $int, order: atomic::Ordering) -> $int {
                self.access(|word| word.fetch_or(value, order)).unwrap_or(0)
            }

            pub(crate) fn fetch_and(&self, value: $int, order: atomic::Ordering) -> $int {
                self.access(|word| word.fetch_and(value, order)).unwrap_or(0)
            }

            pub(crate) fn fetch_xor(&self, value: $int, order: atomic::Ordering) -> $int {
                self.access(|word| word.fetch_xor(value, order)).unwrap_or(0)
            }

            pub(crate) fn compare_exchange(
                &self,
                current: $int,
                new: $int,
                success: atomic::Ordering,
                failure: atomic::Ordering,
            ) -> Result<$int, $int> {
                self.access(|word| word.compare_exchange(current, new, success, failure))
                    .unwrap_or(Ok(current))
            }

            /// Takes a step and touches the word; `None` when the thread is unwinding.
            fn access<R>(&self, touch: impl FnOnce(&atomic::$name) -> R) -> Option<R> {
                kernel::step().then(|| {
                    self.loads.note();
                    touch(&self.word)
                })
            }
        }
    };
}

/// Makes the order of *loads* of a word count, where a model asks for it ([`explore::every_load`]).
///
/// loom 0.7.2 remembers one last access of a word. A thread that loads a word and then stores to it finds its own load
/// there, and never tries that store before another thread's earlier load. A second word, which every access changes
/// first, brings those orders back, and many more with them: so only models of few steps can bear it.
#[derive(Debug)]
struct Loads(Option<atomic::AtomicU32>);

impl Loads {
    fn new() -> Loads {
        Loads(kernel::loads_count().then(|| atomic::AtomicU32::new(0)))
    }

    fn note(&self) {
        if let Some(word) = &self.0 {
            word.fetch_or(0, Relaxed);
        }
    }
}

atomic_on_fuel!(AtomicU32, u32);
atomic_on_fuel!(AtomicU64, u64);

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    Woken(usize),
    Changed,
    TimedOut,
    Interrupted,
}

/// A change that goes with a wake: what FUTEX_WAKE_OP can do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    Clear,
    StoreBit(u32),
    SetBit(u32),
    ClearBit(u32),
    Add(u32),
}

/// The largest argument of FUTEX_WAKE_OP.
pub(crate) const MAX_ADD: u32 = 2047;

/// A word that threads may sleep on.
#[derive(Debug)]
pub(crate) struct FutexWord(AtomicU32);

impl FutexWord {
    pub(crate) fn new(value: u32) -> FutexWord {
        FutexWord(AtomicU32::new(value))
    }

    /// Sleeps while the word is `expected`.
    pub(crate) fn wait(&self, expected: u32, deadline: Option<Deadline>) -> Wake {
        kernel::sleep(&[(self, expected)], &[], deadline)
    }

    /// Wakes at most `count` sleepers.
    pub(crate) fn wake(&self, count: u32) -> u32 {
        if kernel::step() { kernel::wake(self, count) } else { 0 }
    }

    /// Makes `change` and wakes at most `count` sleepers, in one event.
    pub(crate) fn change_and_wake(&self, change: Change, count: u32) -> u32 {
        if !kernel::step() {
            return 0;
        }
        self.change(change);
        kernel::rouse(self, count)
    }

    /// Pending counts are not modelled: a count that equals a TID is a matter of numbers, not of orders.
    pub(crate) fn announce_free(&self, _me: Me) {}

    /// Makes `change` and wakes all sleepers of this word and of `other`, in one event.
    pub(crate) fn change_and_wake_both(&self, change: Change, other: &FutexWord) -> u32 {
        if !kernel::step() {
            return 0;
        }
        // Tells loom that sleepers of `other` depend on this call; the event itself is the change.
        other.newest();
        self.change(change);
        kernel::rouse(self, u32::MAX) + kernel::rouse(other, u32::MAX)
    }

    /// The last value in modification order. A read-modify-write that leaves it as it is: loom thereby knows that
    /// this event and any other on the word depend on each other. Relaxed, so that it adds no edge.
    fn newest(&self) -> u32 {
        self.0.word.fetch_or(0, Relaxed)
    }

    /// The system call is a full barrier.
    fn change(&self, change: Change) {
        self.0.loads.note();
        let word = &self.0.word;
        match change {
            Change::Clear => word.swap(0, AcqRel),
            Change::StoreBit(bit) => word.swap(bit, AcqRel),
            Change::SetBit(bit) => word.fetch_or(bit, AcqRel),
            Change::ClearBit(bit) => word.fetch_and(!bit, AcqRel),
            Change::Add(n) => {
                assert!(n <= MAX_ADD, "FUTEX_WAKE_OP adds at most {MAX_ADD}, not {n}");
                word.fetch_add(n, AcqRel)
            }
        };
    }
}

impl Deref for FutexWord {
    type Target = AtomicU32;

    fn deref(&self) -> &AtomicU32 {
        &self.0
    }
}

/// The most words that one wait can be about.
pub(crate) const MAX_WORDS: usize = 128;

/// Sleeps while each of the words is as given beside it.
pub(crate) fn wait_any(words: &[(&FutexWord, u32)], deadline: Option<Deadline>) -> Wake {
    kernel::sleep(words, &[], deadline)
}

/// The same, unless one of `also` is not as given beside it once all `words` can wake us.
pub(crate) fn wait_any_if(
    words: &[(&FutexWord, u32)],
    also: &[(&FutexWord, u32)],
    deadline: Option<Deadline>,
) -> Wake {
    kernel::sleep(words, also, deadline)
}

/// A word that is always 0 and that the pending slot may name. Counted, like [`RobustWord`].
#[derive(Debug)]
pub(crate) struct Bell(Arc<FutexWord>);

impl Bell {
    pub(crate) fn new() -> Bell {
        Bell(Arc::new(FutexWord::new(0)))
    }

    /// Names the bell in the pending slot.
    pub(crate) fn announce(&self, me: Me) {
        kernel::set_pending(me, Some(self.0.clone()));
    }
}

impl Deref for Bell {
    type Target = FutexWord;

    fn deref(&self) -> &FutexWord {
        &self.0
    }
}

/// A futex word that the kernel marks when its owner dies. The table of the dead may outlive its user, so it is
/// counted.
#[derive(Debug)]
pub(crate) struct RobustWord(Arc<FutexWord>);

impl RobustWord {
    pub(crate) fn new() -> RobustWord {
        RobustWord(Arc::new(FutexWord::new(0)))
    }

    /// Names this word in the pending slot.
    pub(crate) fn announce(&self, me: Me) {
        kernel::set_pending(me, Some(self.0.clone()));
    }

    /// Puts the word into this thread's list.
    pub(crate) fn link(&self, me: Me) {
        kernel::link(me, self.0.clone());
    }

    /// Takes the word out of this thread's list.
    pub(crate) fn unlink(&self, me: Me) {
        kernel::unlink(me, &self.0);
    }
}

impl Deref for RobustWord {
    type Target = FutexWord;

    fn deref(&self) -> &FutexWord {
        &self.0
    }
}

/// The calling thread.
#[derive(Clone, Copy)]
pub(crate) struct Me {
    pub(crate) tid: u32,
}

impl Me {
    pub(crate) fn tid(self) -> u32 {
        self.tid
    }

    pub(crate) fn identity(self) -> u64 {
        u64::from(self.tid)
    }

    /// Empties the pending slot.
    pub(crate) fn retract(self) {
        kernel::set_pending(self, None);
    }

    /// How many robust words this thread has linked, if there are as many as `limit`.
    pub(crate) fn holds_as_many_as(self, limit: u32) -> Option<u32> {
        Some(kernel::held(self)).filter(|&held| held >= limit)
    }

    /// Whether this thread has linked any robust word.
    pub(crate) fn holds_any(self) -> bool {
        kernel::held(self) > 0
    }

    /// Every search begins at the first place: so that threads meet there.
    pub(crate) fn last_place(self) -> usize {
        0
    }

    /// See [`last_place`](Me::last_place).
    pub(crate) fn set_last_place(self, _place: usize) {}
}

pub(crate) fn me() -> Me {
    Me { tid: kernel::tid() }
}

/// The calling thread, if `identity` is its own.
pub(crate) fn me_if(identity: u64) -> Option<Me> {
    Some(me()).filter(|me| me.identity() == identity)
}

/// A model is one process.
pub(crate) fn signature() -> u64 {
    7
}

/// Nothing forks in a model.
pub(crate) fn lineage() -> u32 {
    0
}

pub(crate) fn is_of_this_process(_identity: u64) -> bool {
    true
}

/// An instant that never comes: under loom no time passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Duration);

impl Deadline {
    /// The instant `timeout` from now.
    pub fn after(timeout: Duration) -> Deadline {
        Deadline(timeout)
    }

    /// The present instant.
    pub fn now() -> Deadline {
        Deadline(Duration::ZERO)
    }

    /// Whether the instant lies in the past: never.
    pub fn has_passed(&self) -> bool {
        false
    }

    /// How long it is until then.
    pub fn remaining(&self) -> Duration {
        self.0
    }
}

/// A model is one process.
pub(crate) fn owned_here(_word: u32) -> bool {
    true
}

/// Elements in place are not modelled.
///
/// # Safety
/// None is asked for: nothing is touched.
pub(crate) unsafe fn store_whole<T>(_place: *mut T, _value: &T) -> bool {
    false
}

/// Shared bytes that a protocol hands from one thread to another. Every access is a copy, and takes a step.
///
/// loom watches them in cells of eight: two copies that race on a cell are reported, so ranges that different threads
/// use at once should not share one.
#[derive(Debug)]
pub(crate) struct Buffer {
    cells: Box<[UnsafeCell<[u8; CELL]>]>,
    len: usize,
}

const CELL: usize = 8;

// SAFETY: loom checks every access to the cells.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// `len` zero bytes.
    pub(crate) fn new(len: usize) -> Buffer {
        Buffer { cells: (0..len.div_ceil(CELL)).map(|_| UnsafeCell::new([0; CELL])).collect(), len }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Copies `bytes` to `at`.
    pub(crate) fn write(&self, at: usize, bytes: &[u8]) {
        assert!(at <= self.len && bytes.len() <= self.len - at, "write outside the buffer");
        if !kernel::step() {
            return;
        }
        let mut rest = bytes;
        self.for_each_cell(at, bytes.len(), |cell, within, len| {
            let (piece, later) = rest.split_at(len);
            // SAFETY: loom panics if anybody else is at the cell.
            cell.with_mut(|cell| unsafe { (&mut *cell)[within..within + len].copy_from_slice(piece) });
            rest = later;
        });
    }

    /// Copies `count` values from `at` on, and appends them to `values`.
    pub(crate) fn read_onto<T: bytemuck::AnyBitPattern>(
        &self,
        at: usize,
        values: &mut Vec<T>,
        count: usize,
    ) -> Option<()> {
        let mut bytes = vec![0; count * size_of::<T>()];
        self.read(at, &mut bytes);
        values.extend(bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned::<T>));
        Some(())
    }

    /// Copies from `at` into `bytes`.
    pub(crate) fn read(&self, at: usize, bytes: &mut [u8]) {
        assert!(at <= self.len && bytes.len() <= self.len - at, "read outside the buffer");
        if !kernel::step() {
            return;
        }
        let mut filled = 0;
        self.for_each_cell(at, bytes.len(), |cell, within, len| {
            let piece = &mut bytes[filled..filled + len];
            // SAFETY: loom panics if anybody writes the cell.
            cell.with(|cell| piece.copy_from_slice(unsafe { &(&*cell)[within..within + len] }));
            filled += len;
        });
    }

    /// Cuts the range at the borders of cells; `visit` gets the cell, where in it to begin, and how far to go.
    fn for_each_cell(
        &self,
        at: usize,
        len: usize,
        mut visit: impl FnMut(&UnsafeCell<[u8; CELL]>, usize, usize),
    ) {
        let end = at + len;
        let mut at = at;
        while at < end {
            let within = at % CELL;
            let len = (CELL - within).min(end - at);
            visit(&self.cells[at / CELL], within, len);
            at += len;
        }
    }
}
