//! io_uring(7), for one thing: to sleep on words and on descriptors in one wait.
//!
//! A wait makes a ring, asks it for a poll of each descriptor and for a futex wait on each word, sleeps until one of
//! them ends, and takes the ring down. What ended is not read from the ring: the caller looks for itself, as after any
//! wake. So what is asked for may end at once, or for nothing, and no memory is shared with the kernel but while it is
//! told what to do.
//!
//! # Facts that the layers above lean on
//! - U1: a futex wait of a ring compares and enqueues in one step, as futex(2) does: a word that changed before ends
//!   the wait. It is not private (`os/futex.rs`, F3).
//! - U2: when [`wait`] returns, the ring sleeps on nothing any more: what it still asked for was called off, and that
//!   was waited for. If the process dies, the kernel does the same.
//!
//! # Kernel floor
//! Futex waits of a ring came with 6.7. io_uring can be switched off (`kernel.io_uring_disabled`), and containers often
//! forbid it.
//!
//! Sources: io_uring_setup(2), io_uring_enter(2), io_uring_register(2); linux/io_uring.h.

use std::{
    io, mem,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
};

use memmap2::{MmapOptions, MmapRaw};
use nix::{errno::Errno, libc};

use crate::os::{clock::Deadline, futex::Waiter};

/// One thing that the kernel is asked for.
#[repr(C)]
#[derive(Clone, Copy)]
struct Request {
    opcode: u8,
    flags: u8,
    priority: u16,
    fd: i32,
    offset: u64,
    address: u64,
    len: u32,
    op_flags: u32,
    user_data: u64,
    indices: u64,
    address3: u64,
    pad: u64,
}

const _: () = assert!(size_of::<Request>() == 64);

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct SubmissionOffsets {
    head: u32,
    tail: u32,
    ring_mask: u32,
    ring_entries: u32,
    flags: u32,
    dropped: u32,
    array: u32,
    reserved: u32,
    user_address: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CompletionOffsets {
    head: u32,
    tail: u32,
    ring_mask: u32,
    ring_entries: u32,
    overflow: u32,
    cqes: u32,
    flags: u32,
    reserved: u32,
    user_address: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Parameters {
    sq_entries: u32,
    cq_entries: u32,
    flags: u32,
    sq_thread_cpu: u32,
    sq_thread_idle: u32,
    features: u32,
    wq_fd: u32,
    reserved: [u32; 3],
    sq: SubmissionOffsets,
    cq: CompletionOffsets,
}

const _: () = assert!(size_of::<Parameters>() == 120);

const OP_POLL_ADD: u8 = 6;
const OP_FUTEX_WAIT: u8 = 51;
/// All requests are looked at, whatever becomes of one.
const SETUP_SUBMIT_ALL: u32 = 1 << 7;
/// The requests lie in the order in which they are to be taken.
const SETUP_NO_SQARRAY: u32 = 1 << 16;
const ENTER_GETEVENTS: u32 = 1;
const ENTER_EXT_ARG: u32 = 1 << 3;
const REGISTER_PROBE: u32 = 8;
const REGISTER_SYNC_CANCEL: u32 = 24;
const OFFSET_OF_REQUESTS: u64 = 0x1000_0000;

/// What io_uring_enter(2) is told of a limit.
#[repr(C)]
struct Limit {
    sigmask: u64,
    sigmask_size: u32,
    min_wait: u32,
    timespec: u64,
}

/// What is to be called off.
#[repr(C)]
struct Cancel {
    address: u64,
    fd: i32,
    flags: u32,
    timeout: [i64; 2],
    opcode: u8,
    pad: [u8; 7],
    pad2: [u64; 3],
}

const _: () = assert!(size_of::<Cancel>() == 64);

struct Ring {
    fd: OwnedFd,
    ring: MmapRaw,
    requests: MmapRaw,
    parameters: Parameters,
}

impl Ring {
    /// A ring with room for so many requests.
    fn new(entries: u32) -> io::Result<Ring> {
        let mut parameters =
            Parameters { flags: SETUP_SUBMIT_ALL | SETUP_NO_SQARRAY, ..Parameters::default() };
        // SAFETY: parameters of ours to read and write to; the descriptor is new and nobody else has it.
        let fd = unsafe {
            let fd = libc::syscall(libc::SYS_io_uring_setup, entries, &raw mut parameters);
            OwnedFd::from_raw_fd(Errno::result(fd)? as i32)
        };
        let map = |offset, len| MmapOptions::new().offset(offset).len(len).map_raw(fd.as_raw_fd());
        let cqes = parameters.cq.cqes as usize + 16 * parameters.cq_entries as usize;
        let ring = map(0, cqes)?;
        let requests = map(OFFSET_OF_REQUESTS, parameters.sq_entries as usize * size_of::<Request>())?;
        Ok(Ring { fd, ring, requests, parameters })
    }

    /// Puts in the requests, of which there is room for all.
    fn ask(&mut self, requests: &[Request]) {
        assert!(requests.len() <= self.parameters.sq_entries as usize);
        let at = self.requests.as_mut_ptr().cast::<Request>();
        for (place, &request) in requests.iter().enumerate() {
            // SAFETY: in bounds, by the check above; nobody looks before the next call.
            unsafe { at.add(place).write(request) };
        }
        // SAFETY: the kernel says where the tail is; it looks at it in the next call of this thread.
        unsafe {
            let tail = self.ring.as_mut_ptr().add(self.parameters.sq.tail as usize).cast::<u32>();
            ptr::write_volatile(tail, requests.len() as u32);
        }
    }

    /// Submits `count` requests and sleeps until one has ended, or `deadline` comes. Which it was is not said: a call
    /// that submitted something says how much.
    fn enter(&self, count: usize, deadline: Option<Deadline>) -> io::Result<()> {
        let timespec = deadline.map(|deadline| {
            let left = deadline.remaining();
            let secs = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
            [secs, i64::from(left.subsec_nanos())]
        });
        let timespec =
            timespec.as_ref().map_or(0, |timespec| ptr::from_ref(timespec).expose_provenance() as u64);
        let limit = Limit { sigmask: 0, sigmask_size: 0, min_wait: 0, timespec };
        // SAFETY: the requests name descriptors and words that the caller vouches for; `limit` and what it points to
        // outlive the call.
        let entered = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                self.fd.as_raw_fd(),
                count as u32,
                1_u32,
                ENTER_GETEVENTS | ENTER_EXT_ARG,
                &raw const limit,
                size_of::<Limit>(),
            )
        };
        match Errno::result(entered) {
            Ok(_) | Err(Errno::ETIME | Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Ring {
    /// U2.
    fn drop(&mut self) {
        const ALL: u32 = 1;
        const ANY: u32 = 1 << 2;
        let cancel = Cancel {
            address: 0,
            fd: -1,
            flags: ALL | ANY,
            timeout: [-1, -1],
            opcode: 0,
            pad: [0; 7],
            pad2: [0; 3],
        };
        // SAFETY: a request of ours. It fails if there is nothing to be called off.
        unsafe {
            libc::syscall(
                libc::SYS_io_uring_register,
                self.fd.as_raw_fd(),
                REGISTER_SYNC_CANCEL,
                &raw const cancel,
                1_u32,
            )
        };
    }
}

/// Whether this kernel's rings can wait on words.
fn knows_futex_waits(ring: &Ring) -> io::Result<()> {
    const OPS: usize = 64;
    let mut probe = [0_u8; 16 + 8 * OPS];
    // SAFETY: a probe of ours to write to, with room for so many operations.
    let result = unsafe {
        libc::syscall(
            libc::SYS_io_uring_register,
            ring.fd.as_raw_fd(),
            REGISTER_PROBE,
            probe.as_mut_ptr(),
            OPS as u32,
        )
    };
    Errno::result(result)?;
    let supported = probe[16 + 8 * usize::from(OP_FUTEX_WAIT) + 2] & 1 != 0;
    if supported { Ok(()) } else { Err(Errno::EOPNOTSUPP.into()) }
}

/// Sleeps until one of the words is not as its waiter says or is woken, one of `files` can be read or has failed, or
/// `deadline` comes. Which, is not said, and it may return for nothing: the caller looks again.
///
/// # Errors
/// The kernel has no such waits, or forbids them; or it has no memory, or no descriptor left.
///
/// # Safety
/// As for [`futex::wait_any`](crate::os::futex::wait_any), for any number of words.
pub(crate) unsafe fn wait(
    words: &[Waiter],
    files: &[BorrowedFd<'_>],
    deadline: Option<Deadline>,
) -> io::Result<()> {
    // SAFETY: all zeroes is a request, of nothing.
    let nothing: Request = unsafe { mem::zeroed() };
    let polls = files.iter().map(|file| Request {
        opcode: OP_POLL_ADD,
        fd: file.as_raw_fd(),
        op_flags: libc::POLLIN as u32,
        ..nothing
    });
    let sleeps = words.iter().map(|word| {
        let (address, expected, flags) = word.parts();
        Request {
            opcode: OP_FUTEX_WAIT,
            fd: flags as i32,
            address,
            offset: expected,
            address3: u64::from(u32::MAX), // any of the bits by which sleepers can be told apart
            ..nothing
        }
    });
    let requests: Vec<Request> = polls.chain(sleeps).collect();
    let mut ring = Ring::new(requests.len() as u32)?;
    knows_futex_waits(&ring)?;
    ring.ask(&requests);
    ring.enter(requests.len(), deadline)
}
