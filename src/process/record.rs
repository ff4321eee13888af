//! What a child leaves behind for its parent: its value, or its panic.
//!
//! A memfd, made by the parent before the fork: a header of 24 bytes, then the body. The body is written first and
//! the header last, by one call within one page; so a child that dies leaves a whole record or none. It has no size
//! but that of memory, so a child never waits for its parent to read.
//!
//! | bytes  | meaning                                              |
//! |--------|------------------------------------------------------|
//! | 0..8   | [`MAGIC`]                                            |
//! | 8..12  | [`Kind`]                                             |
//! | 12..16 | the exit code that follows                           |
//! | 16..24 | how many bytes the body has                          |
//! | 24..   | the body: postcard of the value, or of [`Panic`]     |

use std::{
    fs::File,
    io,
    os::{fd::AsFd, linux::fs::MetadataExt, unix::fs::FileExt},
};

use serde::{Deserialize, Serialize};

use crate::{
    error::HandleError,
    os::{map, newborn},
    process::PanicLocation,
    region::{Packer, Portable, Unpacker, portable},
};

const MAGIC: u64 = u64::from_le_bytes(*b"pshared\x01");
const HEADER: usize = 24;

/// What the body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Kind {
    /// The value.
    Value = 1,
    /// A [`Panic`].
    Panic = 2,
    /// Text: why the value could not be encoded.
    Unencodable = 3,
    /// Text: why the value could not be written.
    Unwritable = 4,
}

/// A panic as it travels.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Panic {
    pub(crate) message: String,
    pub(crate) location: Option<PanicLocation>,
}

/// What was read.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) kind: Kind,
    pub(crate) body: Vec<u8>,
}

/// The memfd.
#[derive(Debug)]
pub(crate) struct Record(File);

impl Portable for Record {
    fn pack(&self, packer: &mut Packer<'_>) -> Result<(), HandleError> {
        packer.file(self.0.as_fd())
    }

    fn unpack(unpacker: &mut Unpacker<'_>) -> Result<Record, HandleError> {
        unpacker.file().map(|file| Record(file.into()))
    }
}
portable!(Record);

/// The file itself, whatever the descriptor's number means by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity(u64, u64);

impl Record {
    pub(crate) fn new() -> io::Result<Record> {
        Ok(Record(File::from(newborn::above_the_streams(map::growing_memfd(c"pshared-result")?)?)))
    }

    /// Another descriptor of it.
    pub(crate) fn try_clone(&self) -> io::Result<Record> {
        self.0.try_clone().map(Record)
    }

    /// Asked before foreign code runs, which may close descriptors that are not its own and open others.
    pub(crate) fn identity(&self) -> io::Result<Identity> {
        let metadata = self.0.metadata()?;
        Ok(Identity(metadata.st_dev(), metadata.st_ino()))
    }

    /// The child's side: leaves `body`. The last thing it does but to leave.
    pub(crate) fn write(&self, identity: Identity, kind: Kind, code: i32, body: &[u8]) -> io::Result<()> {
        if self.identity()? != identity {
            return Err(io::Error::other("its descriptor was closed"));
        }
        self.0.write_all_at(body, HEADER as u64)?;
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(&MAGIC.to_le_bytes());
        header[8..12].copy_from_slice(&(kind as u32).to_le_bytes());
        header[12..16].copy_from_slice(&code.to_le_bytes());
        header[16..].copy_from_slice(&(body.len() as u64).to_le_bytes());
        self.0.write_all_at(&header, 0)
    }

    /// The exit code that the child announced, if it came to that.
    pub(crate) fn code(&self) -> Option<i32> {
        self.header().ok().flatten().map(|(_, code, _)| code)
    }

    /// What the child left: `Ok(None)` is nothing, an error of kind `InvalidData` is nonsense.
    pub(crate) fn read(&self) -> io::Result<Option<Found>> {
        let Some((kind, _, len)) = self.header()? else { return Ok(None) };
        let there = self.0.metadata()?.st_size().saturating_sub(HEADER as u64);
        if len > there {
            return Err(nonsense(format!("record too short: need {len} bytes, have {there}")));
        }
        let mut body = vec![0; usize::try_from(len).map_err(|_| nonsense("record too long".into()))?];
        self.0.read_exact_at(&mut body, HEADER as u64)?;
        Ok(Some(Found { kind, body }))
    }

    fn header(&self) -> io::Result<Option<(Kind, i32, u64)>> {
        let mut header = [0; HEADER];
        match self.0.read_exact_at(&mut header, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            result => result?,
        }
        // A body without a header lies behind a hole, which reads as zeroes.
        if header == [0; HEADER] {
            return Ok(None);
        }
        let word =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        let kinds = [Kind::Value, Kind::Panic, Kind::Unencodable, Kind::Unwritable];
        let kind = kinds.into_iter().find(|&kind| kind as u32 == word(8));
        match kind {
            Some(kind) if long(0) == MAGIC => Ok(Some((kind, word(12) as i32, long(16)))),
            _ => Err(nonsense("the record has no header of ours".into())),
        }
    }
}

fn nonsense(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_as_it_was_written() {
        let record = Record::new().unwrap();
        assert!(record.read().unwrap().is_none());
        record.write(record.identity().unwrap(), Kind::Panic, 101, b"body").unwrap();
        let found = record.read().unwrap().unwrap();
        assert_eq!((found.kind, found.body.as_slice()), (Kind::Panic, &b"body"[..]));
        assert_eq!(record.code(), Some(101));
    }

    #[test]
    fn a_body_without_its_header_is_no_record() {
        let record = Record::new().unwrap();
        record.0.write_all_at(b"body", HEADER as u64).unwrap();
        assert!(record.read().unwrap().is_none());
        assert_eq!(record.code(), None);
    }

    #[test]
    fn a_record_that_is_cut_short_or_overwritten_is_an_error() {
        let record = Record::new().unwrap();
        record.write(record.identity().unwrap(), Kind::Value, 0, b"body").unwrap();
        record.0.set_len(HEADER as u64 + 3).unwrap();
        assert_eq!(record.read().unwrap_err().kind(), io::ErrorKind::InvalidData);
        record.0.write_all_at(b"x", 0).unwrap();
        assert_eq!(record.read().unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn another_file_under_the_same_descriptor_is_not_written_to() {
        let record = Record::new().unwrap();
        let other = Record::new().unwrap();
        assert!(record.write(other.identity().unwrap(), Kind::Value, 0, b"body").is_err());
        assert!(record.read().unwrap().is_none());
    }
}
