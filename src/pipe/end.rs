//! One end of a connection: a socket, and whose it is.
//!
//! # Substrate
//! A pair of sockets that carry packets (`os/packets.rs`), and not a ring in shared memory: a pipe is to be waited for
//! beside sockets, timers and processes, so it must be a descriptor; and only the kernel knows how many processes have
//! a copy of an end that none of them has used yet. A packet is queued whole or not at all, whatever dies (K1), so
//! there is nothing to lock and nothing to repair. A message that is long travels as a sealed memfd in a packet of its
//! own.
//!
//! # Whose an end is
//! A fork copies descriptors, used or not, so "all copies are closed" may be news that never comes: some other child
//! has a copy that it knows nothing of. So an end belongs to the process that uses it first. It *greets* the other end
//! by a packet with its own pidfd, and then writes its signature into the pair's shared memory; from then on all other
//! copies are void, and the end has gone when that process drops it or ends, whoever has copies. An end that nobody has
//! used is there as long as any process has a copy.
//!
//! # Words
//! | word        | meaning                                                     | written by                         |
//! |-------------|-------------------------------------------------------------|------------------------------------|
//! | `owners[i]` | the signature of the process whose end i is; 0: nobody's yet | the first user: one exchange       |
//!
//! # Packets
//! A header of 16 bytes, {kind, a number}, and for `MESSAGE` the bytes.
//!
//! | kind      | number               | descriptor                     |
//! |-----------|----------------------|--------------------------------|
//! | `HELLO`   | the sender's signature | its pidfd                    |
//! | `MESSAGE` | the length in bytes  | none                           |
//! | `LONG`    | the length in bytes  | a memfd with the bytes         |
//!
//! # Invariants
//! - C1: who owns an end has greeted before, and greets before it sends: so the other end finds the greeting first,
//!   and while it knows no pidfd of the owner, there is no message in front of the greeting.
//! - C2: a greeting counts if its signature is the owner's. Of several who greet at once one becomes the owner; the
//!   others are forgotten.
//! - C3: a message is taken when its bytes are in private memory; what cannot be taken stays.
//!
//! # Ordering edges
//! - `owner`: AcqRel exchange in `claim` -> Acquire in `claim` and `peer`; carries nothing but itself: the greeting
//!   goes through the socket.
//!
//! # Crash points
//! - `pipe.greeted`: greeted and not the owner. The other end hears of the death and forgets the greeting: the end is
//!   nobody's still.
//! - `pipe.owned`: the owner: its end is news by its pidfd.
//! - `pipe.looked`: a copy of a message in a dead process, and the message where it was; its receiver's end has gone.

use std::{
    io::{self, IoSliceMut},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::FileExt,
    },
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use nix::{libc, unistd::getpid};

use crate::{
    error::{HandleError, PipeRecvError, PipeSendError},
    os::{map, packets, pidfd, readiness},
    primitive::{AcqRel, Acquire, AtomicU64, Deadline, Mutant, Relaxed, me, mutant, signature},
    region::{Handle, Packer, Portable, Shareable, Unpacker},
};

/// What the two ends share. 16 bytes.
#[repr(C)]
pub(super) struct Pair {
    owners: [AtomicU64; 2],
}

// SAFETY: two atomic words.
unsafe impl Shareable for Pair {
    const ROBUST: &'static [usize] = &[];
}

impl Pair {
    pub(super) fn new() -> Pair {
        Pair { owners: [AtomicU64::new(0), AtomicU64::new(0)] }
    }
}

const HEADER: usize = 16;
const HELLO: u64 = 1;
const MESSAGE: u64 = 2;
const LONG: u64 = 3;

/// Longer messages travel in a memfd. (A packet must fit a socket's buffer, which has 208 KiB as a rule.)
const LONGEST_PACKET: usize = 64 << 10;

fn header(kind: u64, number: u64) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(&kind.to_ne_bytes());
    header[8..].copy_from_slice(&number.to_ne_bytes());
    header
}

fn parse(header: [u8; HEADER]) -> (u64, u64) {
    let word = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&header[at..at + 8]);
        u64::from_ne_bytes(bytes)
    };
    (word(0), word(8))
}

/// One who greeted.
struct Greeter {
    signature: u64,
    /// Counted: who sleeps on it keeps it open.
    pidfd: Arc<OwnedFd>,
}

impl Greeter {
    fn has_ended(&self) -> bool {
        // What cannot be asked counts as alive: the socket tells all the same, a little later.
        pidfd::wait_end(self.pidfd.as_fd(), Some(Deadline::now())).unwrap_or(false)
    }
}

/// How it stands with the other end's owner.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Peer {
    /// There is none, or it has not been heard of.
    Unknown,
    Alive,
    Ended,
}

/// The first message that waits to be taken.
struct Waiting {
    len: usize,
    /// Where its bytes are, if they are not in the packet.
    file: Option<OwnedFd>,
}

/// What there is to receive.
enum Next {
    Message(Waiting),
    Nothing,
    /// There will be nothing more.
    Over,
}

/// What a send came to.
enum Pushed {
    Queued,
    /// There is no room; how it stands with the other end's owner.
    Full(Peer),
}

/// See the module.
pub(super) struct End {
    pair: Handle<Pair>,
    side: usize,
    socket: OwnedFd,
    /// The signature of the process whose end this is, as far as this copy knows.
    owner: AtomicU64,
    /// Whom this process has heard of; and who has it looks at the socket and takes from it. Only the owner locks it,
    /// so no fork copies it locked into a process that will.
    greeters: Mutex<Vec<Greeter>>,
    /// The socket and the pidfd of the other end's owner, for whoever waits elsewhere. The owner's alone.
    set: OnceLock<OwnedFd>,
}

fn os_error(call: &'static str) -> impl Fn(io::Error) -> Fault {
    move |source| Fault { call, source }
}

/// What the system said.
pub(super) struct Fault {
    pub(super) call: &'static str,
    pub(super) source: io::Error,
}

/// Why the end cannot be used.
pub(super) enum Unusable {
    Taken,
    Fault(Fault),
}

impl Portable for End {
    fn pack(&self, packer: &mut Packer<'_>) -> Result<(), HandleError> {
        // ORDERING: Relaxed, a word that says whether somebody has it already.
        if self.pair.owners[self.side].load(Relaxed) != 0 {
            return Err(HandleError::Bound { what: "the end of the connection is in use" });
        }
        self.pair.pack(packer)?;
        self.side.pack(packer)?;
        packer.file(self.socket.as_fd())
    }

    fn unpack(unpacker: &mut Unpacker<'_>) -> Result<End, HandleError> {
        let (pair, side) = (Portable::unpack(unpacker)?, usize::unpack(unpacker)?);
        Ok(End::new(pair, side & 1, unpacker.file()?))
    }
}

impl End {
    pub(super) fn new(pair: Handle<Pair>, side: usize, socket: OwnedFd) -> End {
        let (owner, greeters, set) = (AtomicU64::new(0), Mutex::default(), OnceLock::new());
        End { pair, side, socket, owner, greeters, set }
    }

    fn greeters(&self) -> MutexGuard<'_, Vec<Greeter>> {
        self.greeters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the end this process's, if it is nobody's.
    #[inline]
    pub(super) fn claim(&self) -> Result<(), Unusable> {
        me(); // so that a fork is noticed
        // ORDERING: Relaxed, this process's own note.
        if self.owner.load(Relaxed) == signature() { Ok(()) } else { self.claim_slowly() }
    }

    #[cold]
    fn claim_slowly(&self) -> Result<(), Unusable> {
        let (word, ours) = (&self.pair.owners[self.side], signature());
        // ORDERING(owner): Acquire.
        if word.load(Acquire) == 0 && !mutant(Mutant::PipeUngreeted) {
            self.greet(ours).map_err(Unusable::Fault)?; // C1
        }
        // CRASH(pipe.greeted): nobody's still; the greeting counts for nothing (C2).
        // ORDERING(owner): AcqRel.
        match word.compare_exchange(0, ours, AcqRel, Acquire) {
            Err(owner) if owner != ours => return Err(Unusable::Taken),
            _ => {}
        }
        // CRASH(pipe.owned): the other end has our pidfd.
        self.owner.store(ours, Relaxed); // ORDERING: Relaxed, as in `claim`.
        Ok(())
    }

    fn greet(&self, ours: u64) -> Result<(), Fault> {
        let here = pidfd::open(getpid()).map_err(os_error("pidfd_open"))?;
        match packets::send(self.socket.as_fd(), &[&header(HELLO, ours)], Some(here.as_fd())) {
            // Nobody is left to be told.
            Err(error) if has_gone(&error) => Ok(()),
            sent => sent.map_err(os_error("sendmsg")),
        }
    }

    /// How it stands with the other end's owner.
    fn peer(&self, greeters: &mut Vec<Greeter>) -> Peer {
        // ORDERING(owner): Acquire.
        let owner = || self.pair.owners[1 - self.side].load(Acquire);
        greeters.retain(|greeter| {
            let counts = counts(greeter.signature, owner, || greeter.has_ended());
            if !counts && let Some(set) = self.set.get() {
                let _ = readiness::remove(set.as_fd(), greeter.pidfd.as_fd());
            }
            counts
        });
        let owner = owner();
        match greeters.iter().find(|greeter| greeter.signature == owner) {
            Some(greeter) if greeter.has_ended() => Peer::Ended,
            Some(_) => Peer::Alive,
            None => Peer::Unknown,
        }
    }

    /// The next message, after the greetings before it. The caller owns the end.
    fn next(&self, greeters: &mut Vec<Greeter>) -> Result<Next, Fault> {
        let mut last_look = false;
        loop {
            let mut bytes = [0; HEADER];
            let seen = match packets::look(self.socket.as_fd(), &mut bytes) {
                Ok(seen) => seen,
                Err(error) if error.raw_os_error() == Some(libc::ECONNRESET) => continue, // K2
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                    return Err(os_error("recvmsg")(error));
                }
                Err(_) if last_look => return Ok(Next::Over),
                // What it sent before it ended is there by now.
                Err(_) if self.peer(greeters) == Peer::Ended => {
                    last_look = true;
                    continue;
                }
                Err(_) => return Ok(Next::Nothing),
            };
            if seen.len < HEADER {
                return Ok(Next::Over);
            }
            let (kind, number) = parse(bytes);
            if kind == MESSAGE {
                return Ok(Next::Message(Waiting { len: number as usize, file: None }));
            }
            let Some(file) = seen.file else {
                return Err(os_error("recvmsg")(io::Error::from_raw_os_error(libc::EMFILE))); // K4
            };
            if kind == LONG {
                return Ok(Next::Message(Waiting { len: number as usize, file: Some(file) }));
            }
            self.drop_packet(&mut [])?;
            self.enter(greeters, Greeter { signature: number, pidfd: Arc::new(file) });
        }
    }

    fn enter(&self, greeters: &mut Vec<Greeter>, greeter: Greeter) {
        if greeters.iter().any(|known| known.signature == greeter.signature) {
            return;
        }
        if let Some(set) = self.set.get() {
            let _ = readiness::add(set.as_fd(), greeter.pidfd.as_fd());
        }
        greeters.push(greeter);
    }

    fn drop_packet(&self, payload: &mut [u8]) -> Result<(), Fault> {
        let mut header = [0; HEADER];
        let parts = &mut [IoSliceMut::new(&mut header), IoSliceMut::new(payload)];
        packets::take(self.socket.as_fd(), parts).map(drop).map_err(os_error("recvmsg"))
    }

    /// Takes the next message if it is not longer than `limit`; `None` if there is none yet.
    fn try_take(&self, limit: usize) -> Result<Option<Vec<u8>>, PipeRecvError> {
        let mut greeters = self.greeters();
        let waiting = match self.next(&mut greeters)? {
            Next::Nothing => return Ok(None),
            Next::Over => return Err(PipeRecvError::Disconnected),
            Next::Message(waiting) => waiting,
        };
        let Waiting { len, file } = waiting;
        if len > limit {
            return Err(PipeRecvError::TooLong { len, limit });
        }
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).map_err(|_| PipeRecvError::OutOfMemory { len })?;
        bytes.resize(len, 0);
        match file {
            None => self.drop_packet(&mut bytes)?,
            Some(file) => {
                std::fs::File::from(file).read_exact_at(&mut bytes, 0).map_err(os_error("pread"))?;
                // CRASH(pipe.looked): it dies with the end's owner.
                self.drop_packet(&mut [])?;
            }
        }
        Ok(Some(bytes))
    }

    /// Takes the next message, waiting for it until `deadline` if there is one.
    pub(super) fn recv(&self, limit: usize, deadline: Option<Deadline>) -> Result<Vec<u8>, PipeRecvError> {
        self.claim()?;
        loop {
            if let Some(bytes) = self.try_take(limit)? {
                return Ok(bytes);
            }
            if !self.wait_readable(deadline)? {
                return self.try_take(limit)?.ok_or(PipeRecvError::TimedOut);
            }
        }
    }

    /// The same, without waiting.
    pub(super) fn try_recv(&self, limit: usize) -> Result<Vec<u8>, PipeRecvError> {
        self.claim()?;
        self.try_take(limit)?.ok_or(PipeRecvError::Empty)
    }

    /// Whether `recv` would not wait.
    pub(super) fn is_readable(&self) -> Result<bool, PipeRecvError> {
        self.claim()?;
        let next = self.next(&mut self.greeters())?;
        Ok(!matches!(next, Next::Nothing))
    }

    /// Waits until `recv` would not wait, or until `deadline`: then false.
    pub(super) fn poll(&self, deadline: Option<Deadline>) -> Result<bool, PipeRecvError> {
        while !self.is_readable()? {
            if !self.wait_readable(deadline)? {
                return self.is_readable();
            }
        }
        Ok(true)
    }

    /// Sleeps until there is a packet, or a greeter ends; false when the time was up.
    fn wait_readable(&self, deadline: Option<Deadline>) -> Result<bool, Fault> {
        self.wait(readiness::readable(self.socket.as_fd()), deadline)
    }

    fn wait(&self, socket: libc::pollfd, deadline: Option<Deadline>) -> Result<bool, Fault> {
        let pidfds: Vec<_> = self.greeters().iter().map(|greeter| greeter.pidfd.clone()).collect();
        let mut files = vec![socket];
        if !mutant(Mutant::PipeOwnerUnwatched) {
            files.extend(pidfds.iter().map(|pidfd| readiness::readable(pidfd.as_fd())));
        }
        Ok(readiness::wait_ready(&mut files, deadline).map_err(os_error("ppoll"))? > 0)
    }

    /// Sends `bytes`, waiting for room until `deadline` if there is one.
    pub(super) fn send(&self, bytes: &[u8], deadline: Option<Deadline>) -> Result<(), PipeSendError> {
        self.claim()?;
        let long = self.as_file(bytes)?;
        let mut expired = false;
        loop {
            let peer = match self.push(bytes, long.as_ref())? {
                Pushed::Queued => return Ok(()),
                Pushed::Full(_) if expired => return Err(PipeSendError::TimedOut),
                Pushed::Full(peer) => peer,
            };
            let mut socket = readiness::writable(self.socket.as_fd());
            if peer == Peer::Unknown {
                socket.events |= libc::POLLIN; // a greeting: by C1 it can be nothing else
            }
            expired = !self.wait(socket, deadline)?;
        }
    }

    /// The same, without waiting.
    pub(super) fn try_send(&self, bytes: &[u8]) -> Result<(), PipeSendError> {
        self.claim()?;
        match self.push(bytes, self.as_file(bytes)?.as_ref())? {
            Pushed::Queued => Ok(()),
            Pushed::Full(_) => Err(PipeSendError::Full),
        }
    }

    /// A memfd with the bytes, if they are too long for a packet.
    fn as_file(&self, bytes: &[u8]) -> Result<Option<OwnedFd>, PipeSendError> {
        if bytes.len() <= LONGEST_PACKET {
            return Ok(None);
        }
        let file = map::sealed_memfd(bytes.len()).map_err(|refusal| match refusal.available {
            Some(_) => PipeSendError::OutOfMemory { len: bytes.len() },
            None => PipeSendError::Os { call: refusal.call, source: refusal.source },
        })?;
        let file = std::fs::File::from(file);
        file.write_all_at(bytes, 0).map_err(os_error("pwrite"))?;
        Ok(Some(file.into()))
    }

    /// Queues a message, in one step (K1).
    fn push(&self, bytes: &[u8], long: Option<&OwnedFd>) -> Result<Pushed, PipeSendError> {
        let peer = self.hear()?;
        if peer == Peer::Ended {
            return Err(PipeSendError::Disconnected);
        }
        let socket = self.socket.as_fd();
        let sent = match long {
            None => packets::send(socket, &[&header(MESSAGE, bytes.len() as u64), bytes], None),
            Some(file) => packets::send(socket, &[&header(LONG, bytes.len() as u64)], Some(file.as_fd())),
        };
        match sent {
            Ok(()) => Ok(Pushed::Queued),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Pushed::Full(peer)),
            Err(error) if has_gone(&error) => Err(PipeSendError::Disconnected),
            Err(source) => Err(PipeSendError::Os { call: "sendmsg", source }),
        }
    }

    /// How it stands with the other end's owner, after the greetings that lie there.
    fn hear(&self) -> Result<Peer, Fault> {
        let mut greeters = self.greeters();
        match self.peer(&mut greeters) {
            Peer::Unknown => {
                self.next(&mut greeters)?; // C1: takes greetings, and nothing else
                Ok(self.peer(&mut greeters))
            }
            peer => Ok(peer),
        }
    }

    /// A descriptor that can be read while `recv` would not wait, and now and then for nothing.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        // Another's end, or no descriptor to spare: then the socket must do.
        let set = self.claim().ok().and_then(|()| self.set().ok());
        set.unwrap_or(self.socket.as_fd())
    }

    /// The descriptor of the set, which is the owner's.
    pub(super) fn set(&self) -> io::Result<BorrowedFd<'_>> {
        let greeters = self.greeters();
        if self.set.get().is_none() {
            let set = readiness::new_set()?;
            readiness::add(set.as_fd(), self.socket.as_fd())?;
            for greeter in greeters.iter() {
                readiness::add(set.as_fd(), greeter.pidfd.as_fd())?;
            }
            let _ = self.set.set(set);
        }
        Ok(self.set.get().map_or(self.socket.as_fd(), |set| set.as_fd()))
    }

    /// Whether the end is this process's, another's, or nobody's.
    pub(super) fn state(&self) -> &'static str {
        me();
        // ORDERING(owner): Acquire.
        match self.pair.owners[self.side].load(Acquire) {
            0 => "unused",
            owner if owner == signature() => "ours",
            _ => "taken",
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        me();
        // ORDERING: Relaxed, as in `claim`.
        let owner = self.owner.load(Relaxed);
        if owner != 0 && owner == signature() && !mutant(Mutant::PipeClosedQuietly) {
            packets::shut_down(self.socket.as_fd());
        }
    }
}

/// Whether a greeting counts, or may come to (C2): `owner` looks whose the end is now, `has_ended` whether the greeter
/// has ended. One that is found to have ended while the end was nobody's may have become the owner in between, so it is
/// looked at again: what is not its own by then will never be.
fn counts(signature: u64, owner: impl Fn() -> u64, has_ended: impl FnOnce() -> bool) -> bool {
    match owner() {
        0 => !has_ended() || owner() == signature,
        owner => owner == signature,
    }
}

/// Whether a send found the other end gone.
fn has_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPIPE | libc::ECONNRESET | libc::ENOTCONN))
}

impl From<Fault> for PipeSendError {
    fn from(Fault { call, source }: Fault) -> PipeSendError {
        PipeSendError::Os { call, source }
    }
}

impl From<Fault> for PipeRecvError {
    fn from(Fault { call, source }: Fault) -> PipeRecvError {
        PipeRecvError::Os { call, source }
    }
}

impl From<Unusable> for PipeSendError {
    fn from(unusable: Unusable) -> PipeSendError {
        match unusable {
            Unusable::Taken => PipeSendError::Taken,
            Unusable::Fault(fault) => fault.into(),
        }
    }
}

impl From<Unusable> for PipeRecvError {
    fn from(unusable: Unusable) -> PipeRecvError {
        match unusable {
            Unusable::Taken => PipeRecvError::Taken,
            Unusable::Fault(fault) => fault.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_greeting_counts_until_its_sender_cannot_own_the_end_any_more() {
        assert!(counts(7, || 0, || false));
        assert!(!counts(7, || 0, || true));
        assert!(counts(7, || 7, || unreachable!()));
        assert!(!counts(7, || 8, || unreachable!()));
    }

    #[test]
    fn one_that_becomes_the_owner_and_ends_while_it_is_looked_at_is_not_forgotten() {
        let owner = Cell::new(0);
        let becomes_the_owner_and_ends = || {
            owner.set(7);
            true
        };
        assert!(counts(7, || owner.get(), becomes_the_owner_and_ends));
    }

    #[test]
    fn a_header_is_read_as_it_was_written() {
        assert_eq!(parse(header(LONG, u64::MAX - 1)), (LONG, u64::MAX - 1));
    }
}
