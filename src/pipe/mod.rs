//! Connections between two processes: messages of any length, and news of the other end's death.

mod connection;
mod end;
mod source;

pub use connection::{
    Both, Connection, Direction, PipeReader, PipeWriter, ReadOnly, Reads, WriteOnly, Writes, duplex, pipe,
};
