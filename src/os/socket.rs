//! A pair of sockets that carries short messages with descriptors.
//!
//! Sources: socketpair(2), unix(7) on SCM_RIGHTS, cmsg(3), sendmsg(2).

use std::{
    io, mem,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    ptr,
};

use nix::{errno::Errno, libc};

/// How many descriptors one message carries at most: the kernel's SCM_MAX_FD.
pub(crate) const MOST_FILES: usize = 253;

/// Room for that many, aligned as a control message is.
#[repr(C, align(8))]
struct Control([u8; 1040]);

/// Two ends; each keeps messages apart.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: room for two descriptors, which are new and nobody else's.
    unsafe {
        Errno::result(libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()))?;
        Ok((OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])))
    }
}

/// Sends `bytes` with at most [`MOST_FILES`] descriptors. EPIPE when the other end is gone.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], files: &[BorrowedFd<'_>]) -> io::Result<()> {
    assert!(files.len() <= MOST_FILES, "{} descriptors in one message", files.len());
    let mut control = Control([0; 1040]);
    let mut piece = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let size = mem::size_of_val(files) as u32;
    // SAFETY: an all-zero msghdr is a valid one; the pieces outlive the call, and `Control` has room for so many.
    unsafe {
        let mut message: libc::msghdr = mem::zeroed();
        message.msg_iov = &raw mut piece;
        message.msg_iovlen = 1;
        if !files.is_empty() {
            message.msg_control = (&raw mut control).cast();
            message.msg_controllen = libc::CMSG_SPACE(size) as _;
            let head = libc::CMSG_FIRSTHDR(&message);
            (*head).cmsg_level = libc::SOL_SOCKET;
            (*head).cmsg_type = libc::SCM_RIGHTS;
            (*head).cmsg_len = libc::CMSG_LEN(size) as _;
            for (place, file) in files.iter().enumerate() {
                libc::CMSG_DATA(head).cast::<RawFd>().add(place).write_unaligned(file.as_raw_fd());
            }
        }
        loop {
            match Errno::result(libc::sendmsg(socket.as_raw_fd(), &message, libc::MSG_NOSIGNAL)) {
                Err(Errno::EINTR) => {}
                result => return Ok(result.map(drop)?),
            }
        }
    }
}

/// Waits for a message of at most `bytes.len()` bytes; says how long it is, and what came along, close-on-exec. 0 bytes
/// are the end: the other end is gone.
pub(crate) fn receive(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut control = Control([0; 1040]);
    let mut piece = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: an all-zero msghdr is a valid one; the pieces outlive the call.
    let (message, length) = unsafe {
        let mut message: libc::msghdr = mem::zeroed();
        message.msg_iov = &raw mut piece;
        message.msg_iovlen = 1;
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = size_of::<Control>() as _;
        loop {
            match Errno::result(libc::recvmsg(socket.as_raw_fd(), &mut message, libc::MSG_CMSG_CLOEXEC)) {
                Err(Errno::EINTR) => {}
                length => break (message, length? as usize),
            }
        }
    };
    let mut files = Vec::new();
    // SAFETY: the kernel filled the control messages; the descriptors in them are new and nobody else's.
    unsafe {
        let mut head = libc::CMSG_FIRSTHDR(&message);
        while !head.is_null() {
            if ((*head).cmsg_level, (*head).cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
                let size = (*head).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                for place in 0..size / size_of::<RawFd>() {
                    let file = ptr::read_unaligned(libc::CMSG_DATA(head).cast::<RawFd>().add(place));
                    files.push(OwnedFd::from_raw_fd(file));
                }
            }
            head = libc::CMSG_NXTHDR(&message, head);
        }
    }
    if message.msg_flags & (libc::MSG_CTRUNC | libc::MSG_TRUNC) != 0 {
        return Err(Errno::EMFILE.into());
    }
    Ok((length, files))
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write, os::fd::AsFd};

    use super::*;

    #[test]
    fn messages_come_whole_and_with_their_descriptors() {
        let (here, there) = pair().unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        send(here.as_fd(), b"first", &[writer.as_fd()]).unwrap();
        send(here.as_fd(), b"second", &[]).unwrap();
        drop((here, writer));
        let mut bytes = [0; 16];
        let (length, mut files) = receive(there.as_fd(), &mut bytes).unwrap();
        assert_eq!((&bytes[..length], files.len()), (&b"first"[..], 1));
        File::from(files.remove(0)).write_all(b"through it").unwrap();
        assert_eq!(io::read_to_string(&mut reader).unwrap(), "through it");
        let (length, files) = receive(there.as_fd(), &mut bytes).unwrap();
        assert_eq!((&bytes[..length], files.len()), (&b"second"[..], 0));
        assert_eq!(receive(there.as_fd(), &mut bytes).unwrap().0, 0);
        assert_eq!(send(there.as_fd(), b"x", &[]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn as_many_descriptors_as_the_kernel_takes() {
        let (here, there) = pair().unwrap();
        send(here.as_fd(), b"x", &[here.as_fd(); MOST_FILES]).unwrap();
        let (_, files) = receive(there.as_fd(), &mut [0; 1]).unwrap();
        assert_eq!(files.len(), MOST_FILES);
    }
}
