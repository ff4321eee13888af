//! A process among others that [`wait_any`](crate::wait_any) waits for.

use std::{io, os::fd::AsFd};

use crate::{
    process::{Child, Process},
    sync::{Sealed, Source, Watch},
};

/// A child is ready when it has ended. It is not reaped by that.
impl Source for Child {}

impl Sealed for Child {
    #[allow(private_interfaces, reason = "sealed: only this crate implements it")]
    fn look<'a>(&'a self, _began: &mut Option<u32>, watch: &mut Watch<'a>) -> io::Result<bool> {
        watch.file(self.as_fd());
        Ok(false)
    }
}

/// A process is ready when it has ended. It is not reaped by that.
impl<T> Source for Process<T> {}

impl<T> Sealed for Process<T> {
    #[allow(private_interfaces, reason = "sealed: only this crate implements it")]
    fn look<'a>(&'a self, _began: &mut Option<u32>, watch: &mut Watch<'a>) -> io::Result<bool> {
        watch.file(self.as_fd());
        Ok(false)
    }
}
