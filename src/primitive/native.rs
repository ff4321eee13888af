//! The seam as it runs: core atomics, futex system calls, the thread's real robust list.

#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "this is the seam")]

use std::{
    cell::{Cell, UnsafeCell},
    mem::MaybeUninit,
    ops::Deref,
    ptr::{self, NonNull},
    slice,
    sync::Once,
    time::Duration,
};

pub(crate) use core::sync::atomic::Ordering::{self, AcqRel, Acquire, Relaxed, Release, SeqCst};
use core::sync::atomic::{self, compiler_fence};

use nix::libc;

mod bytes;
pub(crate) use bytes::{Buffer, store_whole};

pub use crate::os::clock::Deadline;
use crate::os::{futex, membarrier, random::random, robust_list};
pub(crate) use crate::os::{
    futex::{Change, MAX_WORDS, Wake},
    robust_list::{OWNER_DIED, TID_MASK, WAITERS},
};

/// Tries before a first sleep. One pause takes 10 to 40 ns; a sleep and a wake across CPUs cost 30 us.
pub(crate) const SPINS: u32 = 100;

/// How long one who barges lets others go first. Long against a wake (30 us), short against what anybody notices.
pub(crate) const COURTESY: Duration = Duration::from_millis(2);

/// Tells the CPU that we spin.
#[inline]
pub(crate) fn spin_hint() {
    std::hint::spin_loop();
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

/// A futex word that the kernel marks when its owner dies, with the links that let the kernel find it.
///
/// The word holds TID, WAITERS and OWNER_DIED. The links stand where libc's robust list expects them behind the word.
/// They are pointers into the address space of the thread that linked them, which alone follows them.
#[repr(C, align(8))]
pub(crate) struct RobustWord {
    #[cfg(target_env = "musl")]
    _pad: u32,
    word: FutexWord,
    #[cfg(not(target_env = "musl"))]
    _pad: u32,
    _gap: [u64; 2],
    prev: UnsafeCell<*mut robust_list::Entry>,
    entry: UnsafeCell<robust_list::Entry>,
}

const _: () = {
    let distance = std::mem::offset_of!(RobustWord, entry) - std::mem::offset_of!(RobustWord, word);
    assert!(distance == robust_list::WORD_TO_ENTRY);
    assert!(std::mem::offset_of!(RobustWord, entry) - std::mem::offset_of!(RobustWord, prev) == 8);
};

// SAFETY: the word is atomic; the links are touched only by the thread whose TID stands in the word, or that the
// pending slot of the same thread names.
unsafe impl Sync for RobustWord {}
// SAFETY: nothing in it belongs to a thread but the links, which are only followed while that thread holds the word.
unsafe impl Send for RobustWord {}

impl RobustWord {
    pub(crate) const fn new() -> RobustWord {
        RobustWord {
            word: FutexWord::new(0),
            _pad: 0,
            _gap: [0; 2],
            prev: UnsafeCell::new(ptr::null_mut()),
            entry: UnsafeCell::new(robust_list::Entry { next: ptr::null_mut() }),
        }
    }

    /// Names this word in the pending slot: from now until [`Me::retract`] the kernel looks at it if we die.
    #[inline]
    pub(crate) fn announce(&self, me: Me) {
        // SAFETY: the head is the calling thread's own (see `Me`); the kernel reads the slot only when we end.
        unsafe { ptr::write_volatile(&raw mut (*me.head.as_ptr()).pending, self.entry.get()) };
        compiler_fence(SeqCst);
    }

    /// Puts the word into this thread's list. It holds our TID, and the pending slot names it.
    #[inline]
    pub(crate) fn link(&self, me: Me) {
        let head = me.head.as_ptr();
        // SAFETY: this thread owns the word, so the links are ours; `first` is an entry of ours or the head
        // itself. The entry is complete before the head names it, and the kernel follows `next` alone.
        unsafe {
            let first = (*head).list;
            *self.prev.get() = head.cast();
            ptr::write_volatile(&raw mut (*self.entry.get()).next, first);
            if untag(first) != head.cast() {
                *prev_of(first) = self.entry.get();
            }
            compiler_fence(SeqCst);
            ptr::write_volatile(&raw mut (*head).list, self.entry.get());
        }
        compiler_fence(SeqCst);
        me.count_held(1);
    }

    /// Takes the word out of this thread's list. It still holds our TID, and the pending slot names it.
    #[inline]
    pub(crate) fn unlink(&self, me: Me) {
        let head = me.head.as_ptr();
        // SAFETY: as for `link`: nobody else touched the links since, and both neighbours are entries of this
        // thread or the head.
        unsafe {
            let (next, prev) = ((*self.entry.get()).next, untag(*self.prev.get()));
            ptr::write_volatile(&raw mut (*prev).next, next);
            if untag(next) != head.cast() {
                *prev_of(next) = prev;
            }
        }
        compiler_fence(SeqCst);
        me.count_held(u32::MAX);
    }
}

impl Deref for RobustWord {
    type Target = FutexWord;

    #[inline]
    fn deref(&self) -> &FutexWord {
        &self.word
    }
}

/// libc marks entries of priority-inheriting mutexes by bit 0.
#[inline]
fn untag(entry: *mut robust_list::Entry) -> *mut robust_list::Entry {
    entry.map_addr(|address| address & !1)
}

/// Where an entry keeps its `prev`: one pointer below.
#[inline]
fn prev_of(entry: *mut robust_list::Entry) -> *mut *mut robust_list::Entry {
    untag(entry).cast::<*mut robust_list::Entry>().wrapping_sub(1)
}

/// The calling thread, as robust words know it. Good until the thread forks; so it is asked for anew each time.
#[derive(Clone, Copy)]
pub(crate) struct Me {
    pub(crate) tid: u32,
    /// See [`LINEAGE`].
    lineage: u32,
    head: NonNull<robust_list::Head>,
}

/// What a thread knows of itself, in one place: found by one address. Empty until it registers.
struct Thread {
    /// TID, and the lineage above it.
    identity: Cell<u64>,
    head: Cell<*mut robust_list::Head>,
    /// How many robust words of ours it has linked.
    held: Cell<u32>,
    /// See [`Me::last_place`].
    last_place: Cell<usize>,
}

thread_local! {
    static THREAD: Thread = const {
        let (identity, head) = (Cell::new(0), Cell::new(ptr::null_mut()));
        Thread { identity, head, held: Cell::new(0), last_place: Cell::new(0) }
    };
}

/// How many forks lie between the program's start and this process: a copy that a fork made is told from the
/// original by it, since the child counts one more.
static LINEAGE: AtomicU32 = AtomicU32::new(0);

/// See [`LINEAGE`].
#[inline]
pub(crate) fn lineage() -> u32 {
    LINEAGE.load(Relaxed)
}

/// How many forks there were in the line of this process's life: those that made it and its ancestors, and its own.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// See [`FORKS`]. As long as it is the same, no other process can have a copy of what this one has made. (Who forks
/// without libc is not counted.) The calling thread asks for [`me`] first, so that a fork is noticed.
pub(crate) fn forks() -> u32 {
    me();
    FORKS.load(Relaxed)
}

/// The process's signature; 0 before it was asked for.
static SIGNATURE: AtomicU64 = AtomicU64::new(0);

/// A random number that is this process's own, and not 0: a TID comes back, this does not. A forked child draws
/// another. The calling thread has asked for [`me`] before, so a fork is noticed.
#[inline]
pub(crate) fn signature() -> u64 {
    match SIGNATURE.load(Relaxed) {
        0 => draw_signature(),
        drawn => drawn,
    }
}

#[cold]
fn draw_signature() -> u64 {
    let drawn = random() | 1;
    match SIGNATURE.compare_exchange(0, drawn, Relaxed, Relaxed) {
        Ok(_) => drawn,
        Err(another) => another,
    }
}

/// The calling thread.
#[inline]
pub(crate) fn me() -> Me {
    THREAD.with(|thread| match NonNull::new(thread.head.get()) {
        Some(head) => Me::new(thread.identity.get(), head),
        None => register(),
    })
}

/// The calling thread, if `identity` is its own: then it has registered, and was not forked since.
#[inline]
pub(crate) fn me_if(identity: u64) -> Option<Me> {
    THREAD.with(|thread| {
        // SAFETY: only a thread that registered has an identity (a TID is not 0), and its head with it.
        let me = || Me::new(identity, unsafe { NonNull::new_unchecked(thread.head.get()) });
        (thread.identity.get() == identity).then(me)
    })
}

impl Me {
    #[inline]
    fn new(identity: u64, head: NonNull<robust_list::Head>) -> Me {
        Me { tid: identity as u32, lineage: (identity >> 32) as u32, head }
    }

    /// TID, and the lineage above it: no other thread, and no copy that a fork makes of this one, has the same.
    #[inline]
    pub(crate) fn identity(self) -> u64 {
        u64::from(self.lineage) << 32 | u64::from(self.tid)
    }

    /// Empties the pending slot.
    #[inline]
    pub(crate) fn retract(self) {
        compiler_fence(SeqCst);
        // SAFETY: the head is the calling thread's own.
        unsafe { ptr::write_volatile(&raw mut (*self.head.as_ptr()).pending, ptr::null_mut()) };
    }

    /// How many robust words of ours this thread has linked.
    #[inline]
    pub(crate) fn held(self) -> u32 {
        THREAD.with(|thread| thread.held.get())
    }

    #[inline]
    fn count_held(self, by: u32) {
        THREAD.with(|thread| thread.held.set(thread.held.get().wrapping_add(by)));
    }

    /// Where this thread last found a free place in a row: a hint of where to look first.
    #[inline]
    pub(crate) fn last_place(self) -> usize {
        THREAD.with(|thread| thread.last_place.get())
    }

    /// See [`last_place`](Me::last_place).
    #[inline]
    pub(crate) fn set_last_place(self, place: usize) {
        THREAD.with(|thread| thread.last_place.set(place));
    }
}

/// Finds the thread's TID and list head, and sees to it that a fork forgets them.
#[cold]
fn register() -> Me {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        // SAFETY: the hook touches nothing but this thread's cells, its list head and a counter.
        let refused = unsafe { libc::pthread_atfork(Some(before_fork), None, Some(after_fork_in_child)) };
        assert!(refused == 0, "pthread_atfork was refused: error {refused}");
    });
    let head = robust_list::head().unwrap_or_else(|error| panic!("no robust list for this thread: {error}"));
    // SAFETY: no arguments, no failure.
    let tid = unsafe { libc::gettid() } as u32;
    let me = Me { tid, lineage: lineage(), head: NonNull::new(head).expect("head() returns no null") };
    THREAD.with(|thread| {
        thread.identity.set(me.identity());
        thread.head.set(head);
    });
    me
}

/// Both go on with the same number.
extern "C" fn before_fork() {
    FORKS.fetch_add(1, Relaxed);
}

/// The child has another signature; its thread has another TID, owns none of the parent's locks, and an empty list.
extern "C" fn after_fork_in_child() {
    LINEAGE.store(LINEAGE.load(Relaxed).wrapping_add(1), Relaxed);
    SIGNATURE.store(0, Relaxed);
    THREAD.with(|thread| {
        if let Some(head) = NonNull::new(thread.head.get()) {
            // SAFETY: the child's copy of the forking thread has its head at the same address.
            unsafe { ptr::write_volatile(&raw mut (*head.as_ptr()).pending, ptr::null_mut()) };
        }
        thread.head.set(ptr::null_mut());
        thread.identity.set(0);
        thread.held.set(0);
    });
}

/// Whether robust words work here at all; asks for the kernel's habits at the same time.
///
/// # Errors
/// What get_robust_list(2) says: forbidden, or an unknown shape.
pub(crate) fn robust_support() -> std::io::Result<()> {
    robust_list::head()?;
    robust_list::wakes_for_free_pending_word();
    Ok(())
}

/// Whether a thread of this process has the TID that stands in `word`.
pub(crate) fn owned_here(word: u32) -> bool {
    let tid = word & TID_MASK;
    // SAFETY: signal 0 only asks; both ids are plain numbers.
    tid != 0 && unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), tid, 0) } == 0
}
