//! What a child leaves behind for its parent: its value, or its panic.
//!
//! A memfd, made by the parent before the fork: a header of 32 bytes, then the body. The body is written first and
//! the header last, by one call within one page; so a child that dies leaves a whole record or none. It has no size
//! but that of memory, so a child never waits for its parent to read.
//!
//! | bytes  | meaning                                              |
//! |--------|------------------------------------------------------|
//! | 0..8   | [`MAGIC`]                                            |
//! | 8..12  | [`Kind`]                                             |
//! | 12..16 | the exit code that follows                           |
//! | 16..24 | how many bytes the body has                          |
//! | 24..32 | the number of the child that wrote it                |
//! | 32..   | the body: postcard of the value, or of [`Panic`]     |
//!
//! A new memfd costs more than all else that a start by fork adds to it, so the one whose small record was read last is
//! kept for the next child. That one has the next number: what its predecessor left is no record of it.

use std::{
    fs::File,
    io,
    os::{fd::AsFd, linux::fs::MetadataExt, unix::fs::FileExt},
    sync::{Arc, Mutex},
};

use serde::{Deserialize, Serialize};

use crate::{
    error::HandleError,
    os::{map, newborn},
    primitive::{AtomicU32, Relaxed, lineage},
    process::PanicLocation,
    region::{Packer, Portable, Unpacker, portable},
};

const MAGIC: u64 = u64::from_le_bytes(*b"pshared\x02");
const HEADER: usize = 32;
/// Bytes that are read at once, header included.
const AT_ONCE: usize = 512;
/// A memfd whose record is longer is not kept: it would keep the memory.
const KEPT: u64 = 4096;

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

/// The memfd, for one child.
#[derive(Debug)]
pub(crate) struct Record {
    file: Arc<File>,
    /// Device and inode.
    identity: (u64, u64),
    number: u32,
    /// The process that made it.
    lineage: u32,
    /// 1: no child writes to it any more, or yet, and what was written is small.
    is_spent: AtomicU32,
}

impl Portable for Record {
    fn pack(&self, packer: &mut Packer<'_>) -> Result<(), HandleError> {
        packer.file(self.file.as_fd())?;
        self.number.pack(packer)
    }

    fn unpack(unpacker: &mut Unpacker<'_>) -> Result<Record, HandleError> {
        let file = File::from(unpacker.file()?);
        let identity = map::file_number(file.as_fd()).map_err(|_| HandleError::Elsewhere)?;
        Ok(Record::of(file.into(), identity, u32::unpack(unpacker)?))
    }
}
portable!(Record);

/// A memfd that waits for the next child, and the number of its last.
struct Spare {
    file: Arc<File>,
    identity: (u64, u64),
    number: u32,
    lineage: u32,
}

/// Never waited for: a copy that a fork made may find it held by a thread that it has not.
static SPARE: Mutex<Option<Spare>> = Mutex::new(None);

impl Record {
    pub(crate) fn new() -> io::Result<Record> {
        let spare = SPARE.try_lock().ok().and_then(|mut spare| spare.take());
        // One that a fork copied is its original's.
        if let Some(Spare { file, identity, number, .. }) = spare.filter(|spare| spare.lineage == lineage()) {
            return Ok(Record::of(file, identity, number.wrapping_add(1)).unused());
        }
        let file = File::from(newborn::above_the_streams(map::growing_memfd(c"pshared-result")?)?);
        let identity = map::file_number(file.as_fd())?;
        Ok(Record::of(file.into(), identity, 0).unused())
    }

    fn unused(self) -> Record {
        self.is_spent(true);
        self
    }

    /// Whether no child is to write to it, or none has.
    pub(crate) fn is_spent(&self, is_spent: bool) {
        // ORDERING: Relaxed, for whoever drops it.
        self.is_spent.store(is_spent.into(), Relaxed);
    }

    fn of(file: Arc<File>, identity: (u64, u64), number: u32) -> Record {
        Record { file, identity, number, lineage: lineage(), is_spent: AtomicU32::new(0) }
    }

    /// The same, by another descriptor.
    pub(crate) fn try_clone(&self) -> io::Result<Record> {
        Ok(Record::of(self.file.try_clone()?.into(), self.identity, self.number))
    }

    /// The child's side: leaves `body`. The last thing it does but to leave. Foreign code has run, which may have
    /// closed descriptors that are not its own and opened others.
    pub(crate) fn write(&self, kind: Kind, code: i32, body: &[u8]) -> io::Result<()> {
        if map::file_number(self.file.as_fd())? != self.identity {
            return Err(io::Error::other("its descriptor was closed"));
        }
        self.file.write_all_at(body, HEADER as u64)?;
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(&MAGIC.to_le_bytes());
        header[8..12].copy_from_slice(&(kind as u32).to_le_bytes());
        header[12..16].copy_from_slice(&code.to_le_bytes());
        header[16..24].copy_from_slice(&(body.len() as u64).to_le_bytes());
        header[24..].copy_from_slice(&u64::from(self.number).to_le_bytes());
        self.file.write_all_at(&header, 0)
    }

    /// The exit code that the child announced, if it came to that.
    pub(crate) fn code(&self) -> Option<i32> {
        let mut bytes = [0; HEADER];
        let length = self.begin(&mut bytes).ok()?;
        self.header(&bytes[..length]).ok().flatten().map(|(_, code, _)| code)
    }

    /// What the child left: `Ok(None)` is nothing, an error of kind `InvalidData` is nonsense.
    pub(crate) fn read(&self) -> io::Result<Option<Found>> {
        let mut bytes = [0; AT_ONCE];
        let length = self.begin(&mut bytes)?;
        let bytes = &bytes[..length];
        let Some((kind, _, len)) = self.header(bytes)? else { return Ok(None) };
        let body = match bytes.get(HEADER..HEADER.saturating_add(len as usize)) {
            Some(body) => body.to_vec(),
            None => self.long_body(len)?,
        };
        // Of the others one cannot tell how long they were before they failed.
        if matches!(kind, Kind::Value | Kind::Panic) && len <= KEPT - HEADER as u64 {
            self.is_spent(true);
        }
        Ok(Some(Found { kind, body }))
    }

    fn long_body(&self, len: u64) -> io::Result<Vec<u8>> {
        let there = self.file.metadata()?.st_size().saturating_sub(HEADER as u64);
        if len > there {
            return Err(nonsense(format!("record too short: need {len} bytes, have {there}")));
        }
        let mut body = vec![0; usize::try_from(len).map_err(|_| nonsense("record too long".into()))?];
        self.file.read_exact_at(&mut body, HEADER as u64)?;
        Ok(body)
    }

    /// Reads what stands first; says how much that is.
    fn begin(&self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.file.read_at(bytes, 0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn header(&self, bytes: &[u8]) -> io::Result<Option<(Kind, i32, u64)>> {
        let Some(header) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
        let word =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        // A body without a header lies behind a hole, which reads as zeroes, or behind its predecessor's.
        let is_predecessors = long(0) == MAGIC && long(24) != u64::from(self.number);
        if *header == [0; HEADER] || is_predecessors {
            return Ok(None);
        }
        let kinds = [Kind::Value, Kind::Panic, Kind::Unencodable, Kind::Unwritable];
        let kind = kinds.into_iter().find(|&kind| kind as u32 == word(8));
        match kind {
            Some(kind) if long(0) == MAGIC => Ok(Some((kind, word(12) as i32, long(16)))),
            _ => Err(nonsense("the record has no header of ours".into())),
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        // ORDERING: Relaxed, whoever read it is done with it.
        if self.is_spent.load(Relaxed) == 1
            && self.lineage == lineage()
            && let Ok(mut spare) = SPARE.try_lock()
        {
            let (file, identity) = (self.file.clone(), self.identity);
            *spare = Some(Spare { file, identity, number: self.number, lineage: self.lineage });
        }
    }
}

fn nonsense(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A memfd of its own.
    fn record(number: u32) -> Record {
        let file = File::from(map::growing_memfd(c"pshared-result").unwrap());
        let identity = map::file_number(file.as_fd()).unwrap();
        Record::of(file.into(), identity, number)
    }

    #[test]
    fn a_record_comes_back_as_it_was_written() {
        let record = record(0);
        assert!(record.read().unwrap().is_none() && record.code().is_none());
        for len in [4, AT_ONCE - HEADER, AT_ONCE - HEADER + 1, 100_000] {
            let body = vec![7; len];
            record.write(Kind::Panic, 101, &body).unwrap();
            let found = record.read().unwrap().unwrap();
            assert_eq!((found.kind, found.body), (Kind::Panic, body));
            assert_eq!(record.code(), Some(101));
        }
    }

    #[test]
    fn a_body_without_its_header_is_no_record() {
        let record = record(0);
        record.file.write_all_at(b"body", HEADER as u64).unwrap();
        assert!(record.read().unwrap().is_none());
        assert_eq!(record.code(), None);
    }

    #[test]
    fn a_predecessors_record_is_nobodys() {
        let first = record(u32::MAX);
        first.write(Kind::Value, 0, b"first").unwrap();
        let second = Record::of(first.file.clone(), first.identity, u32::MAX.wrapping_add(1));
        assert!(second.read().unwrap().is_none() && second.code().is_none());
        second.file.write_all_at(b"secon", HEADER as u64).unwrap();
        assert!(second.read().unwrap().is_none());
        second.write(Kind::Value, 0, b"second").unwrap();
        assert_eq!(second.read().unwrap().unwrap().body, b"second");
        assert!(first.read().unwrap().is_none());
    }

    #[test]
    fn a_record_that_is_cut_short_or_overwritten_is_an_error() {
        let record = record(0);
        record.write(Kind::Value, 0, &[7; AT_ONCE]).unwrap();
        for length in [HEADER + 3, AT_ONCE, AT_ONCE + HEADER - 1] {
            record.file.set_len(length as u64).unwrap();
            assert_eq!(record.read().unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
        record.file.write_all_at(b"x", 0).unwrap();
        assert_eq!(record.read().unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn another_file_under_the_same_descriptor_is_not_written_to() {
        let (mine, other) = (record(0), record(0));
        let mine = Record::of(mine.file.clone(), other.identity, 0);
        assert!(mine.write(Kind::Value, 0, b"body").is_err());
        assert!(mine.read().unwrap().is_none());
    }
}
