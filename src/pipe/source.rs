//! A connection among others that [`wait_any`](crate::wait_any) waits for.

use std::io;

use crate::{
    pipe::{connection::Connection, direction::Reads},
    sync::{Sealed, Source, Watch},
};

/// A connection is ready when one can receive without waiting: there is a message, or the other end has gone.
impl<D: Reads> Source for Connection<D> {}

impl<D: Reads> Sealed for Connection<D> {
    #[allow(private_interfaces, reason = "sealed: only this crate implements it")]
    fn look<'a>(&'a self, _began: &mut Option<u32>, watch: &mut Watch<'a>) -> io::Result<bool> {
        self.watch(watch)
    }
}
