//! [`channel`] and [`Channel`]: how the two ends are made.

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    error::RegionError,
    queue::{
        capacity::Capacity,
        codec::{Bytes, Codec, PlainData},
        ends::Landing,
        lane,
        receiver::Receiver,
        sender::Sender,
    },
    region::{Plain, Region, in_arena},
};

/// A first-in first-out channel of at least `capacity` bytes from one process to another, for any serde type, and
/// without a lock. [`Channel`] makes others: for plain data, for byte strings in place, in a [`Region`].
///
/// # Whose an end is
/// An end belongs to one thread at a time: the one that first uses it, or [`claim`](Sender::claim)s it. So make the
/// channel, fork, and use each end where it belongs: the copies of an end that a fork makes do no harm, and their use
/// is refused ([`ClaimError::Held`](crate::ClaimError::Held)) while somebody holds the end. An end that nobody holds
/// goes as an argument to a child of any [`Context`](crate::Context), which is a copy as well.
///
/// - The holder drops or [`close`](Sender::close)s its end: the end is closed for good. A receiver receives what there
///   is and is told `Disconnected`; a sender is told at once, and has its value back.
/// - The holder's process is killed, or the thread ends: the same is told, at once and without a timer. But the end is
///   not closed: a process that has a copy may claim it and go on where the dead one was. What was sent is received.
/// - The holder [`release`](Sender::release)s its end: the other end waits for whoever claims it next.
/// - Nobody has claimed an end yet: the other end waits. Dropping a handle that never claimed its end closes the end,
///   unless this process has forked since the channel was made, or has sent the end to a child: then the copy in a
///   child may be the one that counts.
///   To say that nobody will come, [`close`](Sender::close) it; that a child will not come because it has died before
///   it claimed its end, only who waits for the child can know.
///
/// # What it takes
/// 512 bytes and twice the capacity: a message lies in one piece wherever it begins. The capacity is counted as a
/// [`Queue`](crate::Queue)'s: a message takes 8 bytes and its own length, rounded up to a multiple of 8. Plain data
/// takes its own length alone, rounded up to a multiple of 8, and the capacity once.
///
/// # Errors
/// [`RegionError::ZeroSize`]; [`RegionError::TooLarge`] beyond 4 GiB; else what [`Region::anonymous`] says.
///
/// # Examples
/// ```
/// let (mut sender, mut receiver) = pshared::channel(4096)?;
/// let child = pshared::Process::spawn(move || {
///     for word in ["one", "two"] {
///         sender.send(word.to_string()).unwrap();
///     }
/// })?;
/// let words: Result<Vec<String>, _> = receiver.iter().collect();
/// assert_eq!(words.unwrap(), ["one", "two"]);
/// child.join().unwrap();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Python `multiprocessing.Pipe(duplex=False)`, and `SimpleQueue` between two; the errors have the shapes of
/// crossbeam-channel's.
#[doc(alias = "Pipe")]
#[doc(alias = "SimpleQueue")]
pub fn channel<T: Serialize + DeserializeOwned>(
    capacity: impl Into<Capacity>,
) -> Result<(Sender<T>, Receiver<T>), RegionError> {
    Channel::new(capacity).serde()
}

/// What a channel is to be like; see [`channel`] for what holds of all of them.
///
/// # Examples
/// ```
/// use pshared::Channel;
///
/// let (mut sender, mut receiver) = Channel::new(4096).plain::<[f64; 2]>()?;
/// sender.send([1.5, 2.5]).unwrap();
/// assert_eq!(receiver.recv().unwrap(), [1.5, 2.5]);
///
/// let (mut sender, mut receiver) = Channel::new(4096).bytes()?;
/// let mut slot = sender.reserve(5).unwrap();
/// slot.copy_from_slice(b"bytes");
/// slot.commit().unwrap();
/// assert_eq!(*receiver.read().unwrap(), *b"bytes");
/// # Ok::<(), pshared::RegionError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "it makes no channel by itself"]
pub struct Channel {
    capacity: Capacity,
    region: Option<Region>,
    trusts: bool,
}

impl Channel {
    /// One that holds `capacity`, in anonymous memory, which children forked from then on inherit.
    pub fn new(capacity: impl Into<Capacity>) -> Channel {
        Channel { capacity: capacity.into(), region: None, trusts: true }
    }

    /// In `region`, which may then be too small: [`RegionError::NoRoom`].
    pub fn in_region(self, region: &Region) -> Channel {
        Channel { region: Some(region.clone()), ..self }
    }

    /// Between processes that do not trust each other: whatever the other end writes into the memory of the channel,
    /// this end reads nothing outside it, and gets messages or errors. (In any channel each word of the other end is
    /// read once, and bounded.)
    ///
    /// Two things are given up for it. The kernel's list of what a thread holds does not lead through this memory, so
    /// the death of the other end is not told: a clean end is; for the rest use timeouts, and watch its process. And
    /// [`reserve`](Sender::reserve) and [`read`](Receiver::read) work on copies. An end whose holder died stays its
    /// own, and nobody can claim it.
    ///
    /// Other objects in the same [`Region`] are not protected by this.
    pub fn untrusted(self) -> Channel {
        Channel { trusts: false, ..self }
    }

    /// Both ends, for any serialisable type.
    ///
    /// # Errors
    /// As for [`channel`].
    pub fn serde<T: Serialize + DeserializeOwned>(self) -> Result<(Sender<T>, Receiver<T>), RegionError> {
        self.make()
    }

    /// Both ends, for plain data, which is copied as it is.
    ///
    /// # Errors
    /// As for [`channel`].
    #[allow(clippy::type_complexity, reason = "both ends, or why not")]
    pub fn plain<T: Plain>(self) -> Result<(Sender<T, PlainData>, Receiver<T, PlainData>), RegionError> {
        self.make()
    }

    /// Both ends, for byte strings: whole, or written and read in place.
    ///
    /// # Errors
    /// As for [`channel`].
    #[allow(clippy::type_complexity, reason = "both ends, or why not")]
    pub fn bytes(self) -> Result<(Sender<Vec<u8>, Bytes>, Receiver<Vec<u8>, Bytes>), RegionError> {
        self.make()
    }

    #[allow(clippy::type_complexity, reason = "both ends, or why not")]
    fn make<T, C: Codec<T>>(self) -> Result<(Sender<T, C>, Receiver<T, C>), RegionError> {
        let layout = lane::Layout::new(self.capacity.bounds()?, C::Landing::FIXED)?;
        let make = |region: &Region| lane::new_in(region, layout, self.trusts);
        let (sender, receiver) = match &self.region {
            Some(region) => make(region)?,
            None => in_arena(layout.footprint(), make)?,
        };
        Ok((Sender::new(sender), Receiver::new(receiver)))
    }
}
