//! Where a pool's processes meet: the board, and the bytes of what does not fit into a word of it.
//!
//! A slot has a *plate* for its argument and one for its result, in the region; and beyond that two stretches of the
//! *store*: see `store.rs`. So nothing has to be allocated, and nothing is left to be freed by anybody who dies: a
//! slot's bytes are its own, whatever was in them. They are handed over with the slot: see `board.rs`.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use crate::{
    error::CodecError,
    pool::{
        board::Board,
        carry::{self, Carried},
        column::Column,
        store::Store,
        word::{Form, Word},
    },
    primitive::Relaxed,
    process::Panic,
    region::{Packer, Portable, Unpacker, portable},
};

/// An argument, or a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Argument = 0,
    Result = 1,
}

/// Why a value did not go, or did not come.
#[derive(Debug)]
pub(super) enum Trouble {
    Codec(CodecError),
    Store(io::Error),
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Trouble::Codec(error) => error.fmt(f),
            Trouble::Store(error) => write!(f, "no memory to carry it in: {error}"),
        }
    }
}

impl From<CodecError> for Trouble {
    fn from(error: CodecError) -> Trouble {
        Trouble::Codec(error)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::Store(error)
    }
}

/// What a task says instead of a value, as it travels.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) enum Failure {
    Panicked(Panic),
    /// Its value could not be sent.
    Encode(String),
    /// Its argument could not be read.
    Decode(String),
}

/// What all processes of a pool have.
pub(super) struct Site {
    pub(super) board: Board,
    pub(super) store: Store,
    /// Whoever writes to it has the supervisor look.
    pub(super) kick: OwnedFd,
}

impl Portable for Site {
    fn pack(&self, packer: &mut Packer<'_>) -> Result<(), crate::error::HandleError> {
        self.board.pack(packer)?;
        self.store.pack(packer)?;
        packer.file(self.kick.as_fd())
    }

    fn unpack(unpacker: &mut Unpacker<'_>) -> Result<Site, crate::error::HandleError> {
        Ok(Site {
            board: Portable::unpack(unpacker)?,
            store: Portable::unpack(unpacker)?,
            kick: unpacker.file()?,
        })
    }
}
portable!(Site);

impl Site {
    /// The same, by other descriptors.
    pub(super) fn try_clone(&self) -> io::Result<Site> {
        Ok(Site { board: self.board.clone(), store: self.store.try_clone()?, kick: self.kick.try_clone()? })
    }

    /// Has the supervisor look at what is new. It looks anyway if the way is full.
    pub(super) fn kick(&self) {
        let _ = crate::os::packets::send(self.kick.as_fd(), &[&[1]], None);
    }

    fn cells(&self, side: Side) -> (&Column, &Column) {
        match side {
            Side::Argument => (&self.board.arguments, &self.board.lengths),
            Side::Result => (&self.board.results, &self.board.result_lengths),
        }
    }

    fn plate(&self, side: Side, slot: usize) -> usize {
        (2 * slot + side as usize) * self.board.plate
    }

    /// Leaves a value in a slot that is the caller's.
    #[inline]
    pub(super) fn put<T: Carried>(&self, side: Side, slot: usize, value: &T) -> Result<Form, Trouble> {
        match carry::to_cell(value) {
            Some(cell) => {
                // ORDERING: Relaxed, carried by the slot's state, here and below.
                self.cells(side).0.at(slot).store(cell, Relaxed);
                Ok(Form::Cell)
            }
            None => Ok(carry::with_bytes(value, |bytes| self.put_bytes(side, slot, bytes))??),
        }
    }

    pub(super) fn put_bytes(&self, side: Side, slot: usize, bytes: &[u8]) -> io::Result<Form> {
        let form = if bytes.len() <= self.board.plate {
            self.board.plates.buffer().write(self.plate(side, slot), bytes);
            Form::Plate
        } else {
            // ORDERING: Relaxed, carried by the slot's state.
            self.store.write(side, slot, bytes, self.board.forgotten.at(slot).load(Relaxed))?;
            Form::Stored
        };
        self.cells(side).1.at(slot).store(bytes.len() as u64, Relaxed);
        Ok(form)
    }

    /// Reads what was left in a slot.
    #[inline]
    pub(super) fn get<T: Carried>(
        &self,
        side: Side,
        slot: usize,
        form: Form,
        scratch: &mut Vec<u8>,
    ) -> Result<T, Trouble> {
        if form == Form::Cell
            && let Some(value) = carry::from_cell(self.cell(side, slot))
        {
            return Ok(value);
        }
        let len = self.cells(side).1.at(slot).load(Relaxed) as usize;
        if form == Form::Stored
            && let Some(view) = self.store.view(side, slot, len)
            && let Some(value) = carry::from_buffer(view, len)
        {
            return Ok(value?);
        }
        self.get_bytes(side, slot, form, scratch)?;
        Ok(carry::from_own_bytes(scratch)?)
    }

    /// Gives the memory back that both of a slot's stretches have.
    pub(super) fn forget(&self, slot: usize) {
        let forgotten = self.board.forgotten.at(slot);
        // ORDERING: Relaxed, only the parent writes it, and the slot's state carries it.
        forgotten.store(forgotten.load(Relaxed) + 1, Relaxed);
        self.store.forget(Side::Argument, slot);
        self.store.forget(Side::Result, slot);
    }

    #[inline]
    pub(super) fn cell(&self, side: Side, slot: usize) -> u64 {
        self.cells(side).0.at(slot).load(Relaxed)
    }

    /// Copies what was left in a slot.
    pub(super) fn get_bytes(
        &self,
        side: Side,
        slot: usize,
        form: Form,
        bytes: &mut Vec<u8>,
    ) -> io::Result<()> {
        let len = self.cells(side).1.at(slot).load(Relaxed) as usize;
        match form {
            Form::Cell => bytes.clear(),
            Form::Plate => {
                bytes.resize(len.min(self.board.plate), 0);
                self.board.plates.buffer().read(self.plate(side, slot), bytes);
            }
            Form::Stored => {
                bytes.clear();
                bytes.try_reserve_exact(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
                match self.store.view(side, slot, len) {
                    Some(view) => view.read_onto(0, bytes, len).ok_or(io::ErrorKind::OutOfMemory)?,
                    None => {
                        bytes.resize(len, 0);
                        self.store.read(side, slot, bytes)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Leaves a failure in the place of a result. One that cannot be left is told as such.
    pub(super) fn fail(&self, slot: usize, word: Word, failure: &Failure) -> Word {
        let put = |failure: &Failure| {
            let bytes = postcard::to_stdvec(failure).unwrap_or_default();
            self.put_bytes(Side::Result, slot, &bytes)
        };
        let form = put(failure).or_else(|error| put(&Failure::Encode(error.to_string())));
        word.settled(crate::pool::word::State::Failed, form.unwrap_or(Form::Cell))
    }
}
