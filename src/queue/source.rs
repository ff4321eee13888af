//! A queue, or a channel, among others that [`wait_any`](crate::wait_any) waits for.

use std::io;

use crate::{
    queue::{queue::Queue, receiver::Receiver},
    sync::{Sealed, Source, Watch},
};

/// A queue is ready when one can receive without waiting: there is a message, or there will be none.
impl<T, C> Source for Queue<T, C> {}

impl<T, C> Sealed for Queue<T, C> {
    #[allow(private_interfaces, reason = "sealed: only this crate implements it")]
    fn look<'a>(&'a self, _began: &mut Option<u32>, watch: &mut Watch<'a>) -> io::Result<bool> {
        match self.raw.watch() {
            Some(word) => watch.word(word),
            None => return Ok(true),
        }
        Ok(false)
    }
}

/// A channel's receiver is ready when one can receive without waiting. One that is not the calling thread's (see
/// [`claim`](Receiver::claim)) is ready, too: to use it says why.
impl<T, C> Source for Receiver<T, C> {}

impl<T, C> Sealed for Receiver<T, C> {
    #[allow(private_interfaces, reason = "sealed: only this crate implements it")]
    fn look<'a>(&'a self, _began: &mut Option<u32>, watch: &mut Watch<'a>) -> io::Result<bool> {
        let Some(bed) = self.bed() else { return Ok(true) };
        watch.word((bed.word, bed.expected));
        bed.until.into_iter().for_each(|until| watch.at_most_until(until));
        Ok(false)
    }
}
