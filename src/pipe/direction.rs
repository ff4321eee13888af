//! Which ways a [`Connection`](crate::Connection) goes: in its type, so that the wrong one does not compile.

/// Which ways a [`Connection`](crate::Connection) goes: [`Both`], [`ReadOnly`] or [`WriteOnly`].
pub trait Direction: sealed::Sealed {}
/// A direction in which one can receive.
pub trait Reads: Direction {}
/// A direction in which one can send.
pub trait Writes: Direction {}

/// Sends and receives.
#[derive(Debug)]
pub enum Both {}
/// Receives.
#[derive(Debug)]
pub enum ReadOnly {}
/// Sends.
#[derive(Debug)]
pub enum WriteOnly {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Both {}
    impl Sealed for super::ReadOnly {}
    impl Sealed for super::WriteOnly {}
}

impl Direction for Both {}
impl Direction for ReadOnly {}
impl Direction for WriteOnly {}
impl Reads for Both {}
impl Reads for ReadOnly {}
impl Writes for Both {}
impl Writes for WriteOnly {}
