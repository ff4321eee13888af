//! futex(2) and futex_waitv(2) on words that several processes share.
//!
//! # The calls
//! | function    | system call                                   | returns                              |
//! |-------------|-----------------------------------------------|--------------------------------------|
//! | [`wait`]    | FUTEX_WAIT_BITSET, absolute CLOCK_MONOTONIC    | why the wait ended, [`Wake`]         |
//! | [`wait_any`]| futex_waitv on up to [`MAX_WORDS`] words      | the same                             |
//! | [`wake`]    | FUTEX_WAKE                                    | how many were woken                  |
//! | [`wake_op`] | FUTEX_WAKE_OP: change a word *and* wake       | how many were woken                  |
//! | [`requeue`] | FUTEX_REQUEUE: move one sleeper, wake nobody   | how many were moved                  |
//!
//! # Facts that the layers above lean on
//! - F1: the kernel compares and enqueues in one step: a word that changed before the wait gives `Changed`.
//! - F2: `wake_op` changes and wakes in one step that a SIGKILL cannot split. A page that is missing is brought in
//!   *before* the change, so a death in the middle leaves the word as it was.
//! - F3: no call here sets FUTEX_PRIVATE_FLAG: the wake that the kernel sends at a death uses the shared key, and a
//!   private sleeper would never hear it. But for F6.
//! - F4: `Woken` means that a wake was consumed; `TimedOut`, `Changed` and `Interrupted` never consumed one.
//! - F5: until a sleeper on several words runs again, each of them may spend one wake on it; it is told the last of
//!   those words in its own order.
//! - F6: of several words each is compared when those before it are queued. A [`Waiter::unheard`] is compared in its
//!   turn and then queued under a private key, where nothing ever wakes: so it can spend nobody's wake.
//!
//! Sources: futex(2), futex_waitv(2), kernel/futex/.

use std::{io, ptr, sync::OnceLock, time::Duration};

use nix::libc;

use crate::os::clock::Deadline;

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// Somebody woke us by the word of this place (0 in a wait on one), and that wake is spent on us (F4, F5).
    Woken(usize),
    /// The word no longer held the expected value, so there was no sleep.
    Changed,
    /// The deadline came first.
    TimedOut,
    /// A signal handler ran. The word may be as it was.
    Interrupted,
}

/// A change that [`wake_op`] makes to its word. The kernel gives 12 signed bits, or a power of two.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    /// Store 0.
    Clear,
    /// Store the one bit.
    StoreBit(u32),
    /// Or in the one bit.
    SetBit(u32),
    /// Take the one bit out.
    ClearBit(u32),
    /// Add at most 2047.
    Add(u32),
}

const OP_SET: u32 = 0;
const OP_ADD: u32 = 1;
const OP_OR: u32 = 2;
const OP_ANDN: u32 = 3;
/// The argument is the exponent of a power of two.
const ARG_IS_SHIFT: u32 = 8;
/// The largest argument of 12 signed bits.
pub(crate) const MAX_ADD: u32 = 2047;

impl Change {
    /// Packs the operation. The comparison is "old value equals `old_is`", which decides about the second wake.
    fn encode(self, old_is: u32) -> u32 {
        let (op, arg) = match self {
            Change::Clear => (OP_SET, 0),
            Change::StoreBit(bit) => (OP_SET | ARG_IS_SHIFT, bit.trailing_zeros()),
            Change::SetBit(bit) => (OP_OR | ARG_IS_SHIFT, bit.trailing_zeros()),
            Change::ClearBit(bit) => (OP_ANDN | ARG_IS_SHIFT, bit.trailing_zeros()),
            Change::Add(n) => {
                assert!(n <= MAX_ADD, "FUTEX_WAKE_OP adds at most {MAX_ADD}, not {n}");
                (OP_ADD, n)
            }
        };
        const CMP_EQ: u32 = 0;
        (op << 28) | (CMP_EQ << 24) | (arg << 12) | old_is
    }
}

/// Sleeps while `*word == expected`, until `deadline` if there is one.
///
/// # Safety
/// `word` points to a readable, aligned word for as long as the call lasts.
pub(crate) unsafe fn wait(word: *const u32, expected: u32, deadline: Option<Deadline>) -> Wake {
    let limit = deadline.map(|d| d.as_timespec());
    let limit = limit.as_ref().map_or(ptr::null(), |t| t as *const libc::timespec);
    // SAFETY: the caller vouches for `word`; `limit` is null or a timespec that outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word,
            libc::FUTEX_WAIT_BITSET,
            expected,
            limit,
            ptr::null::<u32>(),
            libc::FUTEX_BITSET_MATCH_ANY,
        )
    };
    ended(result, "FUTEX_WAIT_BITSET")
}

/// The most words that one wait can be about.
pub(crate) const MAX_WORDS: usize = 128;

/// One word of several to sleep on, as the kernel lays it out.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiter {
    val: u64,
    uaddr: u64,
    flags: u32,
    reserved: u32,
}

impl Waiter {
    /// `word`, as long as it is `expected`.
    pub(crate) fn new(word: *const u32, expected: u32) -> Waiter {
        const SIZE_U32: u32 = 2; // FUTEX2_SIZE_U32, and no FUTEX2_PRIVATE (F3)
        Waiter {
            val: u64::from(expected),
            uaddr: word.expose_provenance() as u64,
            flags: SIZE_U32,
            reserved: 0,
        }
    }

    /// The same, but no wake of `word` ends the sleep (F6).
    pub(crate) fn unheard(word: *const u32, expected: u32) -> Waiter {
        const PRIVATE: u32 = 128; // FUTEX2_PRIVATE
        let waiter = Waiter::new(word, expected);
        Waiter { flags: waiter.flags | PRIVATE, ..waiter }
    }

    /// Address, value and flags.
    pub(crate) fn parts(&self) -> (u64, u64, u32) {
        (self.uaddr, self.val, self.flags)
    }

    fn word(&self) -> *const u32 {
        ptr::with_exposed_provenance(self.uaddr as usize)
    }
}

/// Sleeps while each word is as its waiter says, until `deadline` if there is one.
///
/// # Safety
/// As for [`wait`], for all words. There are 1 to [`MAX_WORDS`].
pub(crate) unsafe fn wait_any(waiters: &[Waiter], deadline: Option<Deadline>) -> Wake {
    debug_assert!((1..=MAX_WORDS).contains(&waiters.len()), "a wait on {} words", waiters.len());
    if NO_WAITV.get().is_some() {
        // SAFETY: passed on.
        return unsafe { wait_any_in_slices(waiters, deadline) };
    }
    let limit = deadline.map(|d| d.as_timespec());
    let limit = limit.as_ref().map_or(ptr::null(), |t| t as *const libc::timespec);
    let count = waiters.len() as u32;
    // SAFETY: the caller vouches for the words; flags are 0.
    let result = unsafe {
        libc::syscall(libc::SYS_futex_waitv, waiters.as_ptr(), count, 0_u32, limit, libc::CLOCK_MONOTONIC)
    };
    if result < 0 && matches!(io::Error::last_os_error().raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) {
        let _ = NO_WAITV.set(());
        // SAFETY: passed on.
        return unsafe { wait_any_in_slices(waiters, deadline) };
    }
    ended(result, "futex_waitv")
}

/// Set when this kernel has no futex_waitv, or a filter forbids it.
static NO_WAITV: OnceLock<()> = OnceLock::new();

/// [`wait_any`] without the system call: sleeps on the first word for at most 10 ms, since a wake by another cannot
/// be seen; a slice that ends counts as an interruption.
///
/// # Safety
/// As for [`wait_any`].
unsafe fn wait_any_in_slices(waiters: &[Waiter], deadline: Option<Deadline>) -> Wake {
    const SLICE: Duration = Duration::from_millis(10);
    let (first, others) = (waiters[0], &waiters[1..]);
    // SAFETY: the caller vouches for the words.
    if others.iter().any(|other| u64::from(unsafe { other.word().read_volatile() }) != other.val) {
        return Wake::Changed;
    }
    let slice = Deadline::after(SLICE);
    let last = deadline.filter(|&deadline| deadline <= slice);
    // SAFETY: passed on.
    match unsafe { wait(first.word(), first.val as u32, Some(last.unwrap_or(slice))) } {
        Wake::TimedOut if last.is_none() => Wake::Interrupted,
        ended => ended,
    }
}

/// Wakes at most `count` sleepers of `word`; says how many there were.
///
/// # Safety
/// `word` is an aligned address; it need not be mapped.
pub(crate) unsafe fn wake(word: *const u32, count: u32) -> u32 {
    // SAFETY: FUTEX_WAKE only hashes the address.
    let woken = unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAKE, clamp(count)) };
    count_of(woken, "FUTEX_WAKE")
}

/// Makes `change` to `word` and wakes at most `count` of its sleepers, in one step (F2).
///
/// # Safety
/// `word` points to a writable, aligned word.
pub(crate) unsafe fn wake_op(word: *const u32, change: Change, count: u32) -> u32 {
    // SAFETY: as the caller vouches. The comparison "old value is 0" is false for every word of ours that has
    // sleepers (WAITERS or SLEEPER is set in it); were it true, one more of them would wake for nothing.
    let woken = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word,
            libc::FUTEX_WAKE_OP,
            clamp(count),
            0_usize,
            word,
            change.encode(0),
        )
    };
    count_of(woken, "FUTEX_WAKE_OP")
}

/// Makes `change` to `word` and wakes every sleeper of `word` and of `other`, in one step (F2).
///
/// # Safety
/// Both point to aligned words, `word` to a writable one. If the old value of `word` is 0x7ff, its own sleepers are
/// passed over: so it must not be one that anybody sleeps on.
pub(crate) unsafe fn wake_op_both(word: *const u32, change: Change, other: *const u32) -> u32 {
    // The kernel wakes the sleepers of its first address, and those of the changed word only if the comparison
    // holds: so it is given "old value is not NEVER", which always holds.
    const NEVER: u32 = 0x7ff;
    const CMP_NE: u32 = 1;
    // SAFETY: as the caller vouches.
    let woken = unsafe {
        libc::syscall(
            libc::SYS_futex,
            other,
            libc::FUTEX_WAKE_OP,
            i32::MAX,
            i32::MAX as usize,
            word,
            change.encode(NEVER) | (CMP_NE << 24),
        )
    };
    count_of(woken, "FUTEX_WAKE_OP")
}

/// Moves one sleeper of `from` to `to` without waking it; says whether there was one.
///
/// # Safety
/// Both are aligned addresses of mapped words.
pub(crate) unsafe fn requeue(from: *const u32, to: *const u32) -> bool {
    // SAFETY: as the caller vouches; nobody is woken, at most one is moved.
    let moved = unsafe { libc::syscall(libc::SYS_futex, from, libc::FUTEX_REQUEUE, 0, 1_usize, to) };
    count_of(moved, "FUTEX_REQUEUE") > 0
}

/// The kernel takes the count as a signed number.
fn clamp(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn ended(result: libc::c_long, call: &str) -> Wake {
    if let Ok(place) = usize::try_from(result) {
        return Wake::Woken(place);
    }
    match io::Error::last_os_error().raw_os_error() {
        Some(libc::EAGAIN) => Wake::Changed,
        Some(libc::ETIMEDOUT) => Wake::TimedOut,
        Some(libc::EINTR) => Wake::Interrupted,
        error => refused(call, error),
    }
}

fn count_of(result: libc::c_long, call: &str) -> u32 {
    match u32::try_from(result) {
        Ok(count) => count,
        Err(_) => refused(call, io::Error::last_os_error().raw_os_error()),
    }
}

/// The kernel refuses these calls only for a bad address or an unknown operation: a bug, or a forbidden call.
#[cold]
fn refused(call: &str, error: Option<i32>) -> ! {
    let error = io::Error::from_raw_os_error(error.unwrap_or(0));
    panic!("{call} was refused: {error}")
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_wait_on_a_changed_word_does_not_sleep() {
        let word = 7_u32;
        // SAFETY: `word` lives on this stack.
        assert_eq!(unsafe { wait(&word, 8, None) }, Wake::Changed);
        // SAFETY: as above.
        assert_eq!(unsafe { wait_any(&[Waiter::new(&word, 7), Waiter::new(&word, 8)], None) }, Wake::Changed);
    }

    #[test]
    fn a_wait_ends_at_its_deadline() {
        let word = 7_u32;
        let deadline = Deadline::after(Duration::from_millis(20));
        // SAFETY: `word` lives on this stack.
        assert_eq!(unsafe { wait(&word, 7, Some(deadline)) }, Wake::TimedOut);
        assert!(deadline.has_passed());
        // SAFETY: as above.
        assert_eq!(unsafe { wait_any(&[Waiter::new(&word, 7); 2], Some(deadline)) }, Wake::TimedOut);
    }

    #[test]
    fn slices_do_what_futex_waitv_does_and_end_early() {
        let word = 7_u32;
        let deadline = Deadline::after(Duration::from_millis(25));
        // SAFETY: `word` lives on this stack.
        let wait = |a, b, limit| unsafe {
            wait_any_in_slices(&[Waiter::new(&word, a), Waiter::new(&word, b)], limit)
        };
        assert_eq!(wait(7, 8, None), Wake::Changed);
        assert_eq!(wait(8, 7, None), Wake::Changed);
        assert_eq!(wait(7, 7, None), Wake::Interrupted);
        while wait(7, 7, Some(deadline)) != Wake::TimedOut {}
        assert!(deadline.has_passed());
    }

    #[test]
    fn a_sleeper_on_several_words_is_told_which() {
        let words = [0_u32; 3];
        for place in 0..words.len() {
            let woken = thread::scope(|scope| {
                let sleeper = scope.spawn(|| {
                    let all: Vec<_> = words.iter().map(|word| Waiter::new(word, 0)).collect();
                    // SAFETY: the words outlive the scope.
                    unsafe { wait_any(&all, None) }
                });
                // SAFETY: as above.
                while unsafe { wake(&words[place], 1) } == 0 {
                    thread::yield_now();
                }
                sleeper.join().unwrap()
            });
            assert_eq!(woken, Wake::Woken(place));
        }
    }

    #[test]
    fn wake_op_makes_each_change() {
        for (change, before, after) in [
            (Change::Clear, 5, 0),
            (Change::StoreBit(1 << 31), 5, 1 << 31),
            (Change::SetBit(2), 5, 7),
            (Change::ClearBit(1 << 31), 5 | 1 << 31, 5),
            (Change::ClearBit(1 << 31), 5, 5),
            (Change::Add(MAX_ADD), 5, 5 + MAX_ADD),
        ] {
            let mut word: u32 = before;
            let place: *mut u32 = &mut word;
            // SAFETY: `place` points to `word`, on this stack.
            assert_eq!(unsafe { wake_op(place, change, 1) }, 0);
            // SAFETY: as above.
            assert_eq!(unsafe { place.read() }, after, "{change:?}");
        }
    }

    #[test]
    #[should_panic(expected = "at most 2047")]
    fn an_addition_beyond_twelve_bits_is_a_bug() {
        Change::Add(2048).encode(0);
    }
}
