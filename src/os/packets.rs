//! Packets between processes: unix(7) sockets of the kind SOCK_SEQPACKET, with a descriptor in a packet now and then.
//!
//! # Facts that the layers above lean on
//! - K1: a packet is queued whole or not at all, and taken whole or not at all: no death splits it.
//! - K2: what was queued before an end went, its receiver still gets; then it is told, by a packet of 0 bytes. (If that
//!   end left something unread, an ECONNRESET comes first, once, and means nothing.)
//! - K3: an end has gone when somebody shut it down, or when no process has a descriptor of it any more.
//! - K4: a receiver that has no number left for a descriptor is given the packet without it. So one looks first, which
//!   brings the descriptor as well, and takes the packet when one has it.
//! - K5: two ends that are each other's only peer have no limit on the number of packets, only on their memory.
//!
//! Sources: unix(7), send(2), recv(2); net/unix/af_unix.c.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
};

use nix::{errno::Errno, libc};

/// Two connected ends, close-on-exec, on which nothing ever blocks.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: two integers of ours to write to; the descriptors are new and nobody else has them.
    unsafe {
        Errno::result(libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()))?;
        Ok((OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])))
    }
}

/// Room for the control message that carries one descriptor.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Sends the parts as one packet, with `file` in it if there is one. Never waits, never raises SIGPIPE.
pub(crate) fn send(end: BorrowedFd<'_>, parts: &[&[u8]], file: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let parts: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
    let mut control = Control([0; 64]);
    // SAFETY: all zeroes is an empty header; the control message is written into room that is large enough for it
    // and aligned; everything it points to outlives the call.
    let sent = unsafe {
        let mut message: libc::msghdr = mem::zeroed();
        message.msg_iov = parts.as_ptr().cast_mut().cast();
        message.msg_iovlen = parts.len() as _;
        if let Some(file) = file {
            message.msg_control = (&raw mut control).cast();
            message.msg_controllen = libc::CMSG_SPACE(size_of::<i32>() as u32) as _;
            let header = libc::CMSG_FIRSTHDR(&message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(size_of::<i32>() as u32) as _;
            ptr::write_unaligned(libc::CMSG_DATA(header).cast::<i32>(), file.as_raw_fd());
        }
        retried(|| libc::sendmsg(end.as_raw_fd(), &message, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT))
    };
    sent.map(drop)
}

/// What [`look`] saw.
#[derive(Debug)]
pub(crate) struct Seen {
    /// As much of the packet as there was room for, in bytes; 0 when the other end has gone (K2).
    pub(crate) len: usize,
    /// The descriptor in it.
    pub(crate) file: Option<OwnedFd>,
}

/// Copies the beginning of the next packet, and its descriptor if it has one, and leaves it where it is. Never waits.
pub(crate) fn look(end: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<Seen> {
    let mut parts = [IoSliceMut::new(bytes)];
    let mut control = Control([0; 64]);
    // SAFETY: all zeroes is an empty header; what it points to is ours and outlives the call. The kernel wrote the
    // control messages, and the descriptor in one is new and nobody else's.
    unsafe {
        let mut message: libc::msghdr = mem::zeroed();
        message.msg_iov = parts.as_mut_ptr().cast();
        message.msg_iovlen = 1;
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = libc::CMSG_SPACE(size_of::<i32>() as u32) as _;
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
        let len = retried(|| libc::recvmsg(end.as_raw_fd(), &mut message, flags))?;
        let header = libc::CMSG_FIRSTHDR(&message);
        let carries = !header.is_null()
            && (*header).cmsg_level == libc::SOL_SOCKET
            && (*header).cmsg_type == libc::SCM_RIGHTS
            && (*header).cmsg_len as usize >= libc::CMSG_LEN(size_of::<i32>() as u32) as usize;
        let file =
            carries.then(|| OwnedFd::from_raw_fd(ptr::read_unaligned(libc::CMSG_DATA(header).cast::<i32>())));
        Ok(Seen { len, file })
    }
}

/// Takes the next packet, into the parts one after the other, and says how long it was, as far as there was room. A
/// descriptor in it is dropped. Never waits.
pub(crate) fn take(end: BorrowedFd<'_>, parts: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
    // SAFETY: all zeroes is an empty header; what it points to is ours and outlives the call.
    unsafe {
        let mut message: libc::msghdr = mem::zeroed();
        message.msg_iov = parts.as_mut_ptr().cast();
        message.msg_iovlen = parts.len() as _;
        retried(|| libc::recvmsg(end.as_raw_fd(), &mut message, libc::MSG_DONTWAIT))
    }
}

/// Ends the connection for all who have a copy of this end, and tells the other one (K3).
pub(crate) fn shut_down(end: BorrowedFd<'_>) {
    // SAFETY: a descriptor that we hold, and a flag. It fails only if it is shut down already.
    unsafe { libc::shutdown(end.as_raw_fd(), libc::SHUT_RDWR) };
}

/// Again when a signal came in between.
fn retried(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        match Errno::result(call()) {
            Ok(count) => return Ok(count as usize),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read, os::fd::AsFd};

    use super::*;

    #[test]
    fn a_packet_is_seen_and_taken_with_its_descriptor() {
        let (here, there) = pair().unwrap();
        let file = File::open("/proc/self/comm").unwrap();
        send(here.as_fd(), &[b"head", b"", b"body"], Some(file.as_fd())).unwrap();
        send(here.as_fd(), &[b"second"], None).unwrap();
        let mut head = [0; 4];
        let seen = look(there.as_fd(), &mut head).unwrap();
        assert_eq!((seen.len, &head), (4, b"head"));
        let mut text = String::new();
        File::from(seen.file.unwrap()).read_to_string(&mut text).unwrap();
        assert!(!text.is_empty());
        let mut body = [0; 9];
        let parts = &mut [IoSliceMut::new(&mut head), IoSliceMut::new(&mut body)];
        assert_eq!(take(there.as_fd(), parts).unwrap(), 8);
        assert_eq!(&body[..4], b"body");
        assert_eq!(look(there.as_fd(), &mut head).unwrap().len, 4);
        assert_eq!(&head, b"seco");
    }

    #[test]
    fn an_end_that_goes_is_heard_of_after_what_it_sent() {
        for closes in [true, false] {
            let (here, there) = pair().unwrap();
            send(there.as_fd(), &[b"unread"], None).unwrap();
            send(here.as_fd(), &[b"last"], None).unwrap();
            let copy = here.try_clone().unwrap();
            if closes {
                drop((here, copy));
            } else {
                shut_down(here.as_fd());
            }
            let mut head = [0; 4];
            let mut seen = look(there.as_fd(), &mut head);
            if closes {
                assert_eq!(seen.unwrap_err().raw_os_error(), Some(libc::ECONNRESET));
                seen = look(there.as_fd(), &mut head);
            }
            assert_eq!((seen.unwrap().len, &head), (4, b"last"));
            take(there.as_fd(), &mut [IoSliceMut::new(&mut head)]).unwrap();
            assert_eq!(look(there.as_fd(), &mut head).unwrap().len, 0);
            let refused = send(there.as_fd(), &[b"late"], None).unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(libc::EPIPE));
        }
    }

    #[test]
    fn a_full_end_refuses_and_loses_nothing() {
        let (here, there) = pair().unwrap();
        let mut sent = 0_u32;
        let refused = loop {
            match send(here.as_fd(), &[&sent.to_ne_bytes(), &[0; 1000]], None) {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        for expected in 0..sent {
            let mut head = [0; 4];
            take(there.as_fd(), &mut [IoSliceMut::new(&mut head)]).unwrap();
            assert_eq!(u32::from_ne_bytes(head), expected);
        }
    }
}
