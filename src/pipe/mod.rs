//! Connections between two processes: messages of any length, and news of the other end's death.

mod connection;
pub mod direction;
mod end;
mod source;

pub use connection::{Connection, PipeReader, PipeWriter, duplex, pipe};
