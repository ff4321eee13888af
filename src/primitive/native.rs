//! The seam as it runs: core atomics, futex system calls, the thread's real robust list.

#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "this is the seam")]

use std::{
    mem::MaybeUninit,
    ops::Deref,
    ptr::{self, NonNull},
    slice,
    time::Duration,
};

pub(crate) mod mixed;
mod pace;
mod robust;
mod spins;

pub(crate) use core::sync::atomic::Ordering::{self, AcqRel, Acquire, Relaxed, Release, SeqCst};
use core::sync::atomic::{self, compiler_fence};

pub use crate::os::clock::Deadline;
use crate::os::{futex, membarrier, robust_list};
pub(crate) use crate::os::{
    futex::{Change, MAX_WORDS, Wake},
    robust_list::{OWNER_DIED, TID_MASK, WAITERS},
};
pub(crate) use pace::Pace;
pub(crate) use robust::{
    Me, RobustWord, after_fork_in_child, forker, forks, is_of_this_process, lineage, me, me_if, owned_here,
    robust_support, signature,
};
pub(crate) use spins::{Backoff, Spins};

/// Tries before a first sleep. One pause takes 10 to 40 ns; a sleep and a wake across CPUs cost 30 us. Who waits for
/// another's deed learns how often is worth while ([`Spins`]); who waits for a lock looks less and less often
/// ([`Backoff`]).
pub(crate) const SPINS: u32 = 100;

/// How long one who barges lets others go first. Long against a wake (30 us), short against what anybody notices.
pub(crate) const COURTESY: Duration = Duration::from_millis(2);

/// Tells the CPU that we spin.
#[inline]
pub(crate) fn spin_hint() {
    std::hint::spin_loop();
}

/// Does nothing for so many pauses.
#[inline]
pub(crate) fn pause(pauses: u32) {
    (0..pauses).for_each(|_| spin_hint());
}

/// An atomic of the core library under the seam's own name, so that the lint can tell who goes around the seam.
macro_rules! atomic {
    ($name:ident, $int:ty) => {
        #[repr(transparent)]
        #[derive(Debug)]
        pub(crate) struct $name(atomic::$name);

        #[allow(dead_code, reason = "both have all that one of them needs")]
        impl $name {
            #[inline]
            pub(crate) const fn new(value: $int) -> $name {
                $name(atomic::$name::new(value))
            }

            #[inline]
            pub(crate) fn load(&self, order: Ordering) -> $int {
                self.0.load(order)
            }

            #[inline]
            pub(crate) fn store(&self, value: $int, order: Ordering) {
                self.0.store(value, order);
            }

            #[inline]
            pub(crate) fn swap(&self, value: $int, order: Ordering) -> $int {
                self.0.swap(value, order)
            }

            #[inline]
            pub(crate) fn compare_exchange(
                &self,
                current: $int,
                new: $int,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$int, $int> {
                self.0.compare_exchange(current, new, success, failure)
            }

            #[inline]
            pub(crate) fn fetch_add(&self, value: $int, order: Ordering) -> $int {
                self.0.fetch_add(value, order)
            }

            #[inline]
            pub(crate) fn fetch_sub(&self, value: $int, order: Ordering) -> $int {
                self.0.fetch_sub(value, order)
            }

            #[inline]
            pub(crate) fn fetch_and(&self, value: $int, order: Ordering) -> $int {
                self.0.fetch_and(value, order)
            }

            #[inline]
            pub(crate) fn fetch_or(&self, value: $int, order: Ordering) -> $int {
                self.0.fetch_or(value, order)
            }

            #[inline]
            pub(crate) fn fetch_xor(&self, value: $int, order: Ordering) -> $int {
                self.0.fetch_xor(value, order)
            }

            /// For the kernel.
            #[inline]
            fn as_ptr(&self) -> *mut $int {
                self.0.as_ptr()
            }
        }
    };
}
atomic!(AtomicU32, u32);
atomic!(AtomicU64, u64);

/// Orders what comes before it and what comes after it, for the compiler and for the machine.
#[inline]
pub(crate) fn fence(order: Ordering) {
    atomic::fence(order);
}

/// One half of a fence whose other half is [`heavy_fence`]: for the side that must be fast. It orders for the compiler
/// alone.
#[inline]
pub(crate) fn light_fence() {
    compiler_fence(SeqCst);
}

/// A full fence here and, for every thread that meets a [`light_fence`], there: as if both were SeqCst fences. False if
/// the system forbids it: then it is a fence here alone.
pub(crate) fn heavy_fence() -> bool {
    membarrier::all() || {
        fence(SeqCst);
        false
    }
}

/// Lets the heavy fences of others reach this process and its children; says whether they will.
pub(crate) fn meets_heavy_fences() -> bool {
    membarrier::register()
}

/// A word that threads of any process may sleep on.
#[repr(transparent)]
#[derive(Debug)]
pub(crate) struct FutexWord(AtomicU32);

impl FutexWord {
    pub(crate) const fn new(value: u32) -> FutexWord {
        FutexWord(AtomicU32::new(value))
    }

    /// Sleeps while the word is `expected`.
    pub(crate) fn wait(&self, expected: u32, deadline: Option<Deadline>) -> Wake {
        sliced(deadline, |limit| {
            // SAFETY: `self` is a live word for as long as the borrow lasts.
            unsafe { futex::wait(self.0.as_ptr(), expected, limit) }
        })
    }

    /// Wakes at most `count` sleepers.
    pub(crate) fn wake(&self, count: u32) -> u32 {
        // SAFETY: only the address matters.
        unsafe { futex::wake(self.0.as_ptr(), count) }
    }

    /// Makes `change` and wakes at most `count` sleepers, in one step that a death cannot split.
    pub(crate) fn change_and_wake(&self, change: Change, count: u32) -> u32 {
        // SAFETY: `self` is a live, writable word.
        unsafe { futex::wake_op(self.0.as_ptr(), change, count) }
    }

    /// Names this word in the pending slot, until [`Me::retract`]. If its low 30 bits are 0 when we die, the kernel
    /// wakes a sleeper; if they equal our TID, it overwrites them: so never a word that counts.
    #[inline]
    pub(crate) fn announce_free(&self, me: Me) {
        let entry = self.0.as_ptr().wrapping_byte_add(robust_list::WORD_TO_ENTRY).cast();
        // SAFETY: the head is the calling thread's own; the kernel reads nothing but the word.
        unsafe { ptr::write_volatile(&raw mut (*me.head.as_ptr()).pending, entry) };
        compiler_fence(SeqCst);
    }

    /// Makes `change` and wakes all sleepers of this word and of `other`, in one step.
    pub(crate) fn change_and_wake_both(&self, change: Change, other: &FutexWord) -> u32 {
        // SAFETY: both are live, writable words.
        unsafe { futex::wake_op_both(self.0.as_ptr(), change, other.0.as_ptr()) }
    }
}

impl Deref for FutexWord {
    type Target = AtomicU32;

    #[inline]
    fn deref(&self) -> &AtomicU32 {
        &self.0
    }
}

/// Sleeps while each of the words is as given beside it: at most [`MAX_WORDS`] of them.
pub(crate) fn wait_any(words: &[(&FutexWord, u32)], deadline: Option<Deadline>) -> Wake {
    wait_any_if(words, &[], deadline)
}

/// The same, unless one of `also` is not as given beside it once all `words` can wake us. What changes in those later
/// does not end the sleep, and no wake of theirs is spent on us.
pub(crate) fn wait_any_if(
    words: &[(&FutexWord, u32)],
    also: &[(&FutexWord, u32)],
    deadline: Option<Deadline>,
) -> Wake {
    let mut waiters = [MaybeUninit::<futex::Waiter>::uninit(); MAX_WORDS];
    let waiters = &mut waiters[..words.len() + also.len()];
    let heard = words.iter().map(|&(word, expected)| futex::Waiter::new(word.0.as_ptr(), expected));
    let unheard = also.iter().map(|&(word, expected)| futex::Waiter::unheard(word.0.as_ptr(), expected));
    for (waiter, asked) in waiters.iter_mut().zip(heard.chain(unheard)) {
        waiter.write(asked);
    }
    // SAFETY: each was written just now.
    let waiters = unsafe { slice::from_raw_parts(waiters.as_ptr().cast::<futex::Waiter>(), waiters.len()) };
    sliced(deadline, |limit| {
        // SAFETY: the words are live for as long as the borrows last.
        unsafe { futex::wait_any(waiters, limit) }
    })
}

/// A word that is always 0. Named in the pending slot, it tells: if we die now, one of those who sleep on it wakes.
#[repr(transparent)]
#[derive(Debug)]
pub(crate) struct Bell(FutexWord);

impl Bell {
    pub(crate) const fn new() -> Bell {
        Bell(FutexWord::new(0))
    }

    /// Names the bell in the pending slot, until [`Me::retract`] or until a lock is taken or freed.
    #[inline]
    pub(crate) fn announce(&self, me: Me) {
        self.0.announce_free(me);
    }
}

impl Deref for Bell {
    type Target = FutexWord;

    #[inline]
    fn deref(&self) -> &FutexWord {
        &self.0
    }
}

/// A wait as the kernel does it, or, where the kernel would not tell of every death, cut in slices: a slice that
/// ends is a spurious wake-up, and the caller looks again.
fn sliced(deadline: Option<Deadline>, wait: impl FnOnce(Option<Deadline>) -> Wake) -> Wake {
    const SLICE: Duration = Duration::from_millis(100);
    if robust_list::wakes_for_free_pending_word() {
        return wait(deadline);
    }
    let slice = Deadline::after(SLICE);
    if deadline.is_some_and(|d| d <= slice) {
        return wait(deadline);
    }
    match wait(Some(slice)) {
        Wake::TimedOut => Wake::Interrupted,
        ended => ended,
    }
}

/// Stores `value` at `place` in one step that a death cannot split, if it has the size and alignment of a number; says
/// whether it did.
///
/// # Safety
/// `place` is writable and aligned for a `T`, and nobody but atomics touches it meanwhile.
#[inline]
pub(crate) unsafe fn store_whole<T: bytemuck::NoUninit>(place: *mut T, value: &T) -> bool {
    if align_of::<T>() != size_of::<T>() {
        return false;
    }
    let bytes = bytemuck::bytes_of(value);
    // SAFETY: as the caller vouches; the alignment is that of the atomic, by the check above.
    unsafe {
        match *bytes {
            [a] => (*place.cast::<atomic::AtomicU8>()).store(a, Relaxed),
            [a, b] => (*place.cast::<atomic::AtomicU16>()).store(u16::from_ne_bytes([a, b]), Relaxed),
            [a, b, c, d] => {
                (*place.cast::<atomic::AtomicU32>()).store(u32::from_ne_bytes([a, b, c, d]), Relaxed);
            }
            [a, b, c, d, e, f, g, h] => (*place.cast::<atomic::AtomicU64>())
                .store(u64::from_ne_bytes([a, b, c, d, e, f, g, h]), Relaxed),
            _ => return false,
        }
    }
    true
}

/// Shared bytes that a protocol hands from one process to another. Every access is a copy.
///
/// # Safety of use
/// Whoever writes a range has it to itself until a Release commit, and whoever reads it has seen that commit by an
/// Acquire load: the protocols above guarantee it and the models check it.
#[derive(Debug)]
pub(crate) struct Buffer {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a range of shared memory, not of a thread; see "Safety of use" for who may touch what when.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// A view of `len` bytes from `base`.
    ///
    /// # Safety
    /// The range stays mapped, readable and writable, while the value lives; `base` is 8-byte aligned.
    pub(crate) unsafe fn new(base: NonNull<u8>, len: usize) -> Buffer {
        Buffer { base, len }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Copies `bytes` to `at`.
    #[inline]
    pub(crate) fn write(&self, at: usize, bytes: &[u8]) {
        assert!(at <= self.len && bytes.len() <= self.len - at, "write outside the buffer");
        // SAFETY: in bounds by the line above; a private source cannot overlap shared memory; nobody else touches
        // the range (see "Safety of use").
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.base.as_ptr().add(at), bytes.len()) }
    }

    /// Copies `count` values from `at` on, and appends them to `values`. None if there is no memory for them.
    #[inline]
    pub(crate) fn read_onto<T: bytemuck::AnyBitPattern>(
        &self,
        at: usize,
        values: &mut Vec<T>,
        count: usize,
    ) -> Option<()> {
        let bytes = count.checked_mul(size_of::<T>())?;
        assert!(at <= self.len && bytes <= self.len - at, "read outside the buffer");
        values.try_reserve(count).ok()?;
        // SAFETY: in bounds by the lines above, any bytes make a `T`, and as for `write`, with the roles changed.
        unsafe {
            let end = values.spare_capacity_mut().as_mut_ptr();
            ptr::copy_nonoverlapping(self.base.as_ptr().add(at), end.cast(), bytes);
            values.set_len(values.len() + count);
        }
        Some(())
    }

    /// Copies from `at` into `bytes`.
    #[inline]
    pub(crate) fn read(&self, at: usize, bytes: &mut [u8]) {
        assert!(at <= self.len && bytes.len() <= self.len - at, "read outside the buffer");
        // SAFETY: as for `write`, with the roles changed.
        unsafe { ptr::copy_nonoverlapping(self.base.as_ptr().add(at), bytes.as_mut_ptr(), bytes.len()) }
    }
}
