//! [`Connection`], [`pipe`] and [`duplex`]: what users hold; whose an end is, and how it travels, is in `end.rs`.

use std::{
    fmt, io,
    marker::PhantomData,
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    error::{CodecError, PipeRecvError, PipeSendError},
    os::packets,
    pipe::{
        direction::{Both, ReadOnly, Reads, WriteOnly, Writes},
        end::{End, Pair},
    },
    primitive::Deadline,
    region::{in_arena, portable},
    sync::Watch,
};

/// The receiving end of a [`pipe`].
pub type PipeReader = Connection<ReadOnly>;
/// The sending end of a [`pipe`].
pub type PipeWriter = Connection<WriteOnly>;

/// A connection that goes one way.
///
/// # Errors
/// What the system says: no descriptor left, no memory.
///
/// # Examples
/// ```standalone_crate
/// use pshared::Process;
///
/// let (reader, writer) = pshared::pipe()?;
/// let child = Process::spawn(move || writer.send(&("answer", 42)).unwrap())?;
/// assert_eq!(reader.recv::<(String, i32)>()?, ("answer".to_string(), 42));
/// child.join()?;
/// assert!(matches!(reader.recv::<()>(), Err(pshared::PipeRecvError::Disconnected)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// `std::io::pipe`; Python `multiprocessing.Pipe(duplex=False)`, in the same order.
#[doc(alias = "Pipe")]
pub fn pipe() -> io::Result<(PipeReader, PipeWriter)> {
    let (reader, writer) = ends()?;
    Ok((Connection::new(reader), Connection::new(writer)))
}

/// A connection that goes both ways.
///
/// # Errors
/// As for [`pipe`].
///
/// # Examples
/// ```
/// let (here, there) = pshared::duplex()?;
/// here.send_bytes(b"ping")?;
/// assert_eq!(there.recv_bytes(64)?, b"ping");
/// there.send_bytes(b"pong")?;
/// assert_eq!(here.recv_bytes(64)?, b"pong");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Python `multiprocessing.Pipe()`.
#[doc(alias = "Pipe")]
pub fn duplex() -> io::Result<(Connection, Connection)> {
    let (one, other) = ends()?;
    Ok((Connection::new(one), Connection::new(other)))
}

fn ends() -> io::Result<(End, End)> {
    let pair = in_arena(size_of::<Pair>(), |region| region.place(Pair::new())).map_err(io::Error::other)?;
    let (one, other) = packets::pair()?;
    Ok((End::new(pair.clone(), 0, one), End::new(pair, 1, other)))
}

/// One end of a connection between two processes, made by [`pipe`] or [`duplex`].
///
/// Messages are kept apart, whatever their length. One that was accepted is in the kernel's hands: its sender may end,
/// or be killed, at once, and the receiver gets it. No message is ever torn. A message that was received dies with its
/// receiver. About 200 KiB fit into a connection in each direction (the system's `net.core.wmem_default`; a short
/// message counts as 1 KiB or less). A message of more than 64 KiB counts little there, but takes as much shared
/// memory, and a descriptor, until it is received.
///
/// # Whose an end is
/// An end belongs to the process that uses it first: that sends, receives, polls or asks for its descriptor. Any of the
/// process's threads may. The copies that forks make of it, before or after, are void from then on, and say `Taken`.
/// When that process drops its end, or ends in whatever way, the other end is told at once, even if other children of
/// the same parent have copies of the descriptor: after the last message, receiving says `Disconnected`, and so does
/// sending. There is never a SIGPIPE. An end that nobody has used yet is there as long as any process has a copy. (An
/// exec closes the descriptors, but is no end of the process: there the copies that others have never used count.) An
/// end that nobody has used goes as an argument to a child of any [`Context`](crate::Context).
///
/// A *stopped* process is not dead. An end takes 2 descriptors or 3, and a connection 16 bytes of shared memory.
///
/// # References
/// Python `multiprocessing.connection.Connection`, which hears of the other end's death only when no process has a copy
/// of the descriptor any more; unix(7).
pub struct Connection<D = Both> {
    end: End,
    _direction: PhantomData<fn() -> D>,
}

portable!(of (W) Connection<W> { end, _direction });

impl<D> Connection<D> {
    fn new(end: End) -> Connection<D> {
        Connection { end, _direction: PhantomData }
    }

    /// Drops it, which tells the other end, if this process has used it or nobody else has a copy.
    pub fn close(self) {}
}

impl<D: Writes> Connection<D> {
    /// Sends `value`, waiting for room as long as it takes.
    ///
    /// # Errors
    /// [`PipeSendError::Disconnected`], also while waiting; [`PipeSendError::Taken`], [`PipeSendError::Encode`],
    /// [`PipeSendError::OutOfMemory`], [`PipeSendError::Os`].
    pub fn send<T: Serialize + ?Sized>(&self, value: &T) -> Result<(), PipeSendError> {
        self.send_bytes(&encode(value)?)
    }

    /// Sends `value`, if there is room now.
    ///
    /// # Errors
    /// [`PipeSendError::Full`], and as for [`send`](Connection::send).
    pub fn try_send<T: Serialize + ?Sized>(&self, value: &T) -> Result<(), PipeSendError> {
        self.try_send_bytes(&encode(value)?)
    }

    /// Sends `value`, waiting for room at most `timeout` (CLOCK_MONOTONIC, from the call; zero tries once).
    ///
    /// # Errors
    /// [`PipeSendError::TimedOut`], and as for [`send`](Connection::send).
    pub fn send_timeout<T: Serialize + ?Sized>(
        &self,
        value: &T,
        timeout: Duration,
    ) -> Result<(), PipeSendError> {
        self.send_deadline(value, Deadline::after(timeout))
    }

    /// Sends `value`, waiting for room at most until `deadline`.
    ///
    /// # Errors
    /// As for [`send_timeout`](Connection::send_timeout).
    pub fn send_deadline<T: Serialize + ?Sized>(
        &self,
        value: &T,
        deadline: Deadline,
    ) -> Result<(), PipeSendError> {
        self.send_bytes_deadline(&encode(value)?, deadline)
    }

    /// Sends `bytes` as one message, which may be empty, waiting for room as long as it takes.
    ///
    /// # Errors
    /// As for [`send`](Connection::send).
    pub fn send_bytes(&self, bytes: &[u8]) -> Result<(), PipeSendError> {
        self.end.send(bytes, None)
    }

    /// Sends `bytes` as one message, if there is room now.
    ///
    /// # Errors
    /// As for [`try_send`](Connection::try_send).
    pub fn try_send_bytes(&self, bytes: &[u8]) -> Result<(), PipeSendError> {
        self.end.try_send(bytes)
    }

    /// Sends `bytes` as one message, waiting for room at most `timeout`.
    ///
    /// # Errors
    /// As for [`send_timeout`](Connection::send_timeout).
    pub fn send_bytes_timeout(&self, bytes: &[u8], timeout: Duration) -> Result<(), PipeSendError> {
        self.send_bytes_deadline(bytes, Deadline::after(timeout))
    }

    /// Sends `bytes` as one message, waiting for room at most until `deadline`.
    ///
    /// # Errors
    /// As for [`send_timeout`](Connection::send_timeout).
    pub fn send_bytes_deadline(&self, bytes: &[u8], deadline: Deadline) -> Result<(), PipeSendError> {
        self.end.send(bytes, Some(deadline))
    }
}

impl<D: Reads> Connection<D> {
    /// Receives the oldest message, as a value that [`send`](Connection::send) took, waiting for one as long as it
    /// takes.
    ///
    /// # Errors
    /// [`PipeRecvError::Disconnected`] when the other end has gone and all it sent was received;
    /// [`PipeRecvError::Decode`] for a message that is no `T`, which is gone; [`PipeRecvError::Taken`],
    /// [`PipeRecvError::OutOfMemory`], [`PipeRecvError::Os`].
    pub fn recv<T: DeserializeOwned>(&self) -> Result<T, PipeRecvError> {
        decode(&self.end.recv(usize::MAX, None)?)
    }

    /// Receives the oldest message, if there is one now.
    ///
    /// # Errors
    /// [`PipeRecvError::Empty`], and as for [`recv`](Connection::recv).
    pub fn try_recv<T: DeserializeOwned>(&self) -> Result<T, PipeRecvError> {
        decode(&self.end.try_recv(usize::MAX)?)
    }

    /// Receives the oldest message, waiting for one at most `timeout` (CLOCK_MONOTONIC, from the call; zero tries
    /// once).
    ///
    /// # Errors
    /// [`PipeRecvError::TimedOut`], and as for [`recv`](Connection::recv).
    pub fn recv_timeout<T: DeserializeOwned>(&self, timeout: Duration) -> Result<T, PipeRecvError> {
        self.recv_deadline(Deadline::after(timeout))
    }

    /// Receives the oldest message, waiting for one at most until `deadline`.
    ///
    /// # Errors
    /// As for [`recv_timeout`](Connection::recv_timeout).
    pub fn recv_deadline<T: DeserializeOwned>(&self, deadline: Deadline) -> Result<T, PipeRecvError> {
        decode(&self.end.recv(usize::MAX, Some(deadline))?)
    }

    /// Receives the bytes of the oldest message, if they are not more than `limit`, waiting for it as long as it
    /// takes.
    ///
    /// # Errors
    /// [`PipeRecvError::TooLong`] for a longer one, which stays where it is; else as for [`recv`](Connection::recv).
    ///
    /// # References
    /// Python `Connection.recv_bytes(maxlength)`, after whose error the connection is unreadable.
    pub fn recv_bytes(&self, limit: usize) -> Result<Vec<u8>, PipeRecvError> {
        self.end.recv(limit, None)
    }

    /// Receives the bytes of the oldest message, if there is one now.
    ///
    /// # Errors
    /// [`PipeRecvError::Empty`], and as for [`recv_bytes`](Connection::recv_bytes).
    pub fn try_recv_bytes(&self, limit: usize) -> Result<Vec<u8>, PipeRecvError> {
        self.end.try_recv(limit)
    }

    /// Receives the bytes of the oldest message, waiting for one at most `timeout`.
    ///
    /// # Errors
    /// [`PipeRecvError::TimedOut`], and as for [`recv_bytes`](Connection::recv_bytes).
    pub fn recv_bytes_timeout(&self, limit: usize, timeout: Duration) -> Result<Vec<u8>, PipeRecvError> {
        self.recv_bytes_deadline(limit, Deadline::after(timeout))
    }

    /// Receives the bytes of the oldest message, waiting for one at most until `deadline`.
    ///
    /// # Errors
    /// As for [`recv_bytes_timeout`](Connection::recv_bytes_timeout).
    pub fn recv_bytes_deadline(&self, limit: usize, deadline: Deadline) -> Result<Vec<u8>, PipeRecvError> {
        self.end.recv(limit, Some(deadline))
    }

    /// Waits until receiving would not wait, at most `timeout`, or, without one, as long as it takes; a zero looks
    /// once. Says whether it is so: there is a message, or the other end has gone.
    ///
    /// # Errors
    /// [`PipeRecvError::Taken`], [`PipeRecvError::Os`].
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    ///
    /// let (here, there) = pshared::duplex()?;
    /// assert!(!here.poll(Some(Duration::ZERO))?);
    /// there.send(&1)?;
    /// assert!(here.poll(None)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # References
    /// Python `Connection.poll(timeout)`.
    pub fn poll(&self, timeout: Option<Duration>) -> Result<bool, PipeRecvError> {
        self.end.poll(timeout.map(Deadline::after))
    }

    /// For [`wait_any`](crate::wait_any).
    pub(super) fn watch<'a>(&'a self, watch: &mut Watch<'a>) -> io::Result<bool> {
        // Whoever receives is told what is wrong.
        if self.end.is_readable().unwrap_or(true) {
            return Ok(true);
        }
        watch.hint(self.end.set()?);
        Ok(false)
    }

    /// Waits until receiving would not wait, at most until `deadline`. Says whether it is so.
    ///
    /// # Errors
    /// As for [`poll`](Connection::poll).
    pub fn poll_deadline(&self, deadline: Deadline) -> Result<bool, PipeRecvError> {
        self.end.poll(Some(deadline))
    }
}

fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, PipeSendError> {
    postcard::to_stdvec(value).map_err(|error| PipeSendError::Encode(CodecError::postcard(error)))
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, PipeRecvError> {
    postcard::from_bytes(bytes).map_err(|error| PipeRecvError::Decode(CodecError::postcard(error)))
}

impl<D: Reads> AsFd for Connection<D> {
    /// A descriptor that can be read while receiving would not wait, for poll(2) and event loops, and nothing else. It
    /// may be ready for nothing, when the other end's owner greets: so receive by a `try_` form.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }
}

const _: () = {
    /// Any thread of the process that owns an end may use it.
    const fn is_send_and_sync<T: Send + Sync>() {}
    is_send_and_sync::<Connection>();
    is_send_and_sync::<PipeReader>();
    is_send_and_sync::<PipeWriter>();
};

impl<D> fmt::Debug for Connection<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("state", &self.end.state()).finish_non_exhaustive()
    }
}
