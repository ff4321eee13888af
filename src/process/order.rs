//! What a child is told that is no copy of its parent, and how it gets there.
//!
//! An [`Order`] is a message in a memfd, and the descriptors that its handles stand for (`region/luggage.rs`). By exec
//! they go under their own numbers, which the environment lists: the message's first. By a socket they go as they are.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::fs::FileExt,
    },
};

use serde::{Deserialize, Serialize};

use crate::{
    error::{CodecError, SpawnError},
    os::{exec, map, newborn},
    process::{
        gate::Ticket, here::Identity, record::Record, settings::Settings, spawn::refused, watch::Watch,
    },
    region::{Descriptor, Object, packed, take_refusal, unpacked},
};

/// What a child is to be and to do.
#[derive(Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) function: String,
    pub(super) argument: Vec<u8>,
    pub(super) identity: Identity,
    pub(super) watch: Option<Watch>,
    /// The signals that it blocks, unless its settings say otherwise.
    pub(super) blocked: Vec<i32>,
    pub(super) record: Record,
    pub(super) report: Option<Descriptor>,
    /// For one that a server forks. Before an exec both are done with.
    pub(super) gate: Option<(Ticket, Settings)>,
}

/// The first bytes of a message.
const MAGIC: [u8; 8] = *b"pshared\x02";

/// A message and its descriptors, none of which is a standard stream's: the message first.
#[derive(Debug)]
pub(super) struct Parcel(Vec<OwnedFd>);

/// A value as it is sent with others: encoded within [`Parcel::pack`].
pub(super) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, SpawnError> {
    let failed =
        |error| SpawnError::Argument(take_refusal().map_or(CodecError::postcard(error), CodecError::handle));
    postcard::to_stdvec(value).map_err(failed)
}

impl Parcel {
    /// Packs what `message` makes; the handles in it may be serialised meanwhile.
    pub(super) fn pack(message: impl FnOnce() -> Result<Vec<u8>, SpawnError>) -> Result<Parcel, SpawnError> {
        let (body, luggage) = packed(message);
        let bytes = postcard::to_extend(&(luggage.objects, body?), MAGIC.to_vec());
        let bytes = bytes.map_err(|error| SpawnError::Argument(CodecError::postcard(error)))?;
        let message = map::growing_memfd(c"pshared-order").map_err(refused("memfd_create"))?;
        let message = File::from(message);
        message.write_all_at(&bytes, 0).map_err(refused("pwrite"))?;
        let mut files = vec![above(message.as_fd())?];
        for piece in &luggage.files {
            files.push(above(piece.as_fd())?);
        }
        Ok(Parcel(files))
    }

    pub(super) fn files(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().map(AsFd::as_fd)
    }

    /// The same descriptors, as they have come.
    pub(super) fn arrived(files: Vec<OwnedFd>) -> Parcel {
        Parcel(files)
    }

    /// Whether a descriptor is the message of a parcel.
    pub(super) fn is_message(file: RawFd) -> bool {
        exec::begins_with(file, &MAGIC)
    }

    /// Reads the message, and calls `body` with it; handles may be deserialised meanwhile.
    pub(super) fn open<R>(self, body: impl FnOnce(&[u8]) -> R) -> io::Result<R> {
        let mut files = self.0.into_iter();
        let message = File::from(files.next().ok_or(io::ErrorKind::UnexpectedEof)?);
        if !Parcel::is_message(message.as_raw_fd()) {
            return Err(io::Error::other("no message of this program's"));
        }
        // By place: where a read would begin is shared with whoever has a copy.
        let mut bytes = vec![0; message.metadata()?.len() as usize];
        message.read_exact_at(&mut bytes, 0)?;
        drop(message);
        let read: Result<(Vec<Object>, Vec<u8>), _> = postcard::from_bytes(&bytes[MAGIC.len()..]);
        let (objects, message) = read.map_err(|error| io::Error::other(error.to_string()))?;
        drop(bytes);
        Ok(unpacked(objects, files.collect(), || body(&message)))
    }
}

/// A copy that is none of the standard streams'.
fn above(file: BorrowedFd<'_>) -> Result<OwnedFd, SpawnError> {
    file.try_clone_to_owned().and_then(newborn::above_the_streams).map_err(refused("dup"))
}
