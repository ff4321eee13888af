//! Robust words, and what a thread knows of itself: its TID, and the list that the kernel reads when it ends.

use std::{
    cell::{Cell, UnsafeCell},
    ops::Deref,
    ptr::{self, NonNull},
    sync::Once,
};

use core::sync::atomic::compiler_fence;

use nix::libc;

use super::{AtomicU32, AtomicU64, FutexWord, Relaxed, SeqCst, TID_MASK};
use crate::os::{random::random, robust_list};

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

    /// Puts the word into this thread's list. It holds our TID, and the pending slot names it. If others are linked,
    /// the slot is empty afterwards.
    ///
    /// The exchange that frees the word waits for every store before it, so there are as few as can be: `prev` is left
    /// to whoever links an entry in front of this one.
    #[inline]
    pub(crate) fn link(&self, me: Me) {
        let head = me.head.as_ptr();
        // SAFETY: the head is the calling thread's own, and this thread owns the word, so the links are ours. The
        // entry is complete before the head names it.
        unsafe {
            if (*head).list != head.cast() {
                return self.link_beside_others(head);
            }
            ptr::write_volatile(&raw mut (*self.entry.get()).next, head.cast());
            compiler_fence(SeqCst);
            ptr::write_volatile(&raw mut (*head).list, self.entry.get());
        }
        compiler_fence(SeqCst);
    }

    #[cold]
    fn link_beside_others(&self, head: *mut robust_list::Head) {
        // SAFETY: as for `link`; `first` is an entry of this thread's or the head. The kernel follows `next` alone.
        unsafe {
            let first = (*head).list;
            ptr::write_volatile(&raw mut (*self.entry.get()).next, first);
            if untag(first) != head.cast() {
                *prev_of(first) = self.entry.get();
            }
            compiler_fence(SeqCst);
            ptr::write_volatile(&raw mut (*head).list, self.entry.get());
            compiler_fence(SeqCst);
            // The kernel looks at a pending entry last, and not at all if the walk meets one that is unmapped: which
            // may be a robust mutex of libc's, since ours stay mapped.
            ptr::write_volatile(&raw mut (*head).pending, ptr::null_mut());
        }
        THREAD.with(|thread| thread.further.set(thread.further.get() + 1));
    }

    /// Takes the word out of this thread's list. It still holds our TID, and the pending slot names it.
    #[inline]
    pub(crate) fn unlink(&self, me: Me) {
        let head = me.head.as_ptr();
        // SAFETY: as for `link`: nobody else touched the links since.
        unsafe {
            if (*head).list != self.entry.get() || (*self.entry.get()).next != head.cast() {
                return self.unlink_beside_others(head);
            }
            ptr::write_volatile(&raw mut (*head).list, head.cast());
        }
        compiler_fence(SeqCst);
    }

    #[cold]
    fn unlink_beside_others(&self, head: *mut robust_list::Head) {
        // SAFETY: as for `link`; both neighbours are entries of this thread or the head. Who is not the first has a
        // `prev`: it was written when another became the first, and by whoever left in between.
        unsafe {
            let next = (*self.entry.get()).next;
            let before = if (*head).list == self.entry.get() { head.cast() } else { untag(*self.prev.get()) };
            ptr::write_volatile(&raw mut (*before).next, next);
            if untag(next) != head.cast() {
                *prev_of(next) = before;
            }
        }
        compiler_fence(SeqCst);
        THREAD.with(|thread| thread.further.set(thread.further.get().saturating_sub(1)));
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
    identity: u64,
    pub(super) head: NonNull<robust_list::Head>,
}

/// What a thread knows of itself, in one place: found by one address. Empty until it registers.
struct Thread {
    /// TID, a number of its own, and the lineage above them: 32, 16 and 16 bits.
    identity: Cell<u64>,
    head: Cell<*mut robust_list::Head>,
    /// A guess at how many robust words it has linked beside the first, and not too low (but for libc's): words are
    /// counted that are not alone in the list when they come or go. See [`Me::holds_as_many_as`].
    further: Cell<u32>,
    /// See [`Me::last_place`].
    last_place: Cell<usize>,
}

thread_local! {
    static THREAD: Thread = const {
        let (identity, head) = (Cell::new(0), Cell::new(ptr::null_mut()));
        Thread { identity, head, further: Cell::new(0), last_place: Cell::new(0) }
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

/// Who forked this process by libc, if anybody did: its number, then.
pub(crate) fn forker() -> u32 {
    FORKER.load(Relaxed)
}

/// See [`forker`]; written before each fork.
static FORKER: AtomicU32 = AtomicU32::new(0);

/// Whether a thread of this process has, or had, this [`identity`](Me::identity); and not one of a process that this
/// one was forked from.
#[inline]
pub(crate) fn is_of_this_process(identity: u64) -> bool {
    (identity >> 48) as u16 == lineage() as u16
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
        Some(head) => Me { identity: thread.identity.get(), head },
        None => register(),
    })
}

/// The calling thread, if `identity` is its own: then it has registered, and was not forked since.
#[inline]
pub(crate) fn me_if(identity: u64) -> Option<Me> {
    THREAD.with(|thread| {
        // SAFETY: only a thread that registered has an identity (a TID is not 0), and its head with it.
        let me = || Me { identity, head: unsafe { NonNull::new_unchecked(thread.head.get()) } };
        (thread.identity.get() == identity).then(me)
    })
}

impl Me {
    #[inline]
    pub(crate) fn tid(self) -> u32 {
        self.identity as u32
    }

    /// No other thread of this process has the same, nor had one before, and no copy that a fork makes of this one. (As
    /// long as there are not 65,536 of them with the same TID.)
    #[inline]
    pub(crate) fn identity(self) -> u64 {
        self.identity
    }

    /// Empties the pending slot.
    #[inline]
    pub(crate) fn retract(self) {
        compiler_fence(SeqCst);
        // SAFETY: the head is the calling thread's own.
        unsafe { ptr::write_volatile(&raw mut (*self.head.as_ptr()).pending, ptr::null_mut()) };
    }

    /// How many robust words this thread has linked, libc's among them, if there are as many as `limit`.
    ///
    /// Costs nothing as long as a guess says that there are fewer. Otherwise they are counted, and the guess corrected.
    #[inline]
    pub(crate) fn holds_as_many_as(self, limit: u32) -> Option<u32> {
        let guess = THREAD.with(|thread| thread.further.get());
        if guess + 1 < limit { None } else { count_linked(self.head.as_ptr(), limit) }
    }

    /// Whether this thread has linked any robust word.
    #[inline]
    pub(crate) fn holds_any(self) -> bool {
        let head = self.head.as_ptr();
        // SAFETY: the head is the calling thread's own.
        unsafe { (*head).list != head.cast() }
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

/// See [`Me::holds_as_many_as`].
#[cold]
fn count_linked(head: *mut robust_list::Head, limit: u32) -> Option<u32> {
    let mut count = 0;
    // SAFETY: the head is the calling thread's own, and so are all entries of its list.
    unsafe {
        let mut entry = untag((*head).list);
        while entry != head.cast() && count < limit {
            count += 1;
            entry = untag((*entry).next);
        }
    }
    THREAD.with(|thread| thread.further.set(count.saturating_sub(1)));
    (count >= limit).then_some(count)
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
    // A TID comes back with another thread of the process, which is to be another.
    static REGISTERED: AtomicU32 = AtomicU32::new(0);
    let number = REGISTERED.fetch_add(1, Relaxed) as u16;
    let identity = u64::from(lineage() as u16) << 48 | u64::from(number) << 32 | u64::from(tid);
    let me = Me { identity, head: NonNull::new(head).expect("head() returns no null") };
    THREAD.with(|thread| {
        thread.identity.set(identity);
        thread.head.set(head);
    });
    me
}

/// Both go on with the same number.
extern "C" fn before_fork() {
    FORKS.fetch_add(1, Relaxed);
    // SAFETY: no arguments, no failure.
    FORKER.store(unsafe { libc::getpid() } as u32, Relaxed);
}

/// The child has another signature; its thread has another TID, owns none of the parent's locks, and an empty list.
pub(crate) extern "C" fn after_fork_in_child() {
    LINEAGE.store(LINEAGE.load(Relaxed).wrapping_add(1), Relaxed);
    SIGNATURE.store(0, Relaxed);
    THREAD.with(|thread| {
        if let Some(head) = NonNull::new(thread.head.get()) {
            // SAFETY: the child's copy of the forking thread has its head at the same address.
            unsafe {
                // glibc has emptied it by now; in musl's child it is the parent's.
                if cfg!(target_env = "musl") {
                    ptr::write_volatile(&raw mut (*head.as_ptr()).list, head.as_ptr().cast());
                }
                ptr::write_volatile(&raw mut (*head.as_ptr()).pending, ptr::null_mut());
            }
        }
        thread.head.set(ptr::null_mut());
        thread.identity.set(0);
        thread.further.set(0);
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
