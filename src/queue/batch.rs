//! Many messages at once: one lock, one commit and at most one wake-up for all of them.
//!
//! Values become bytes before the lock is taken, in the form in which they lie in the ring (`frame.rs`), and values
//! again after it is freed: no foreign code runs in between.

use std::time::Duration;

use crate::{
    error::{CodecError, RecvError, RecvTimeoutError, SendManyError, TryRecvError},
    primitive::Deadline,
    queue::{
        codec::{Codec, Scratch},
        doorbell::MAX_COMMIT,
        ends::{Landing, NotReceived, NotSent},
        frame,
        queue::Queue,
        ring::Damage,
    },
    sync::Patience,
};

/// So many bytes are encoded before some are sent.
const CHUNK: usize = 64 << 10;

/// The values that are not yet sent. Dropped, it takes those that are out of the caller's list: also when a value's
/// serialisation panics.
struct Unsent<'a, T> {
    values: &'a mut Vec<T>,
    sent: usize,
}

impl<T> Drop for Unsent<'_, T> {
    fn drop(&mut self) {
        self.values.drain(..self.sent);
    }
}

impl<T, C: Codec<T>> Queue<T, C> {
    /// Sends all `values`, in order, and leaves the list empty. As many as there is room for are committed at once (at
    /// most 511, or 64 KiB); for the rest it waits as long as it takes.
    ///
    /// A sender that is killed has sent some of the first of them. Messages of others may come between two commits.
    ///
    /// # Errors
    /// [`SendManyError`] says how many were sent; the others stay in the list. A value that is too long, or that cannot
    /// be encoded, stands at its head then.
    ///
    /// # Examples
    /// ```
    /// let queue = pshared::Queue::plain(4096)?;
    /// let mut numbers = vec![1_u64, 2, 3];
    /// queue.send_many(&mut numbers).unwrap();
    /// assert_eq!(queue.recv_many(&mut numbers, 10).unwrap(), 3);
    /// assert_eq!(numbers, [1, 2, 3]);
    /// # Ok::<(), pshared::RegionError>(())
    /// ```
    pub fn send_many(&self, values: &mut Vec<T>) -> Result<(), SendManyError> {
        self.send_all(values, Patience::FOREVER)
    }

    /// Sends as many of the first `values` as there is room for now, and takes them from the list.
    ///
    /// # Errors
    /// [`SendManyError::Full`] if that was not all; else as for [`send_many`](Queue::send_many).
    pub fn try_send_many(&self, values: &mut Vec<T>) -> Result<(), SendManyError> {
        self.send_all(values, Patience::None)
    }

    /// As [`send_many`](Queue::send_many), waiting at most `timeout` in all.
    ///
    /// # Errors
    /// [`SendManyError::TimedOut`] if there was no room for all of them in time; else as for
    /// [`send_many`](Queue::send_many).
    pub fn send_many_timeout(&self, values: &mut Vec<T>, timeout: Duration) -> Result<(), SendManyError> {
        self.send_many_deadline(values, Deadline::after(timeout))
    }

    /// As [`send_many`](Queue::send_many), waiting at most until `deadline`.
    ///
    /// # Errors
    /// As for [`send_many_timeout`](Queue::send_many_timeout).
    pub fn send_many_deadline(&self, values: &mut Vec<T>, deadline: Deadline) -> Result<(), SendManyError> {
        self.send_all(values, Patience::Until(Some(deadline)))
    }

    fn send_all(&self, values: &mut Vec<T>, patience: Patience) -> Result<(), SendManyError> {
        let limit = self.raw.max_len();
        let mut unsent = Unsent { values, sent: 0 };
        let mut batch = Scratch::borrow();
        while unsent.sent < unsent.values.len() {
            batch.clear();
            let mut refused = None;
            let rest = &unsent.values[unsent.sent..];
            let rest = &rest[..rest.len().min(MAX_COMMIT as usize)];
            let at_once =
                C::Landing::FIXED.is_some_and(|len| len <= limit) && C::append_all(rest, &mut batch, CHUNK);
            for value in rest.iter().filter(|_| !at_once) {
                match frame::append(&mut batch, limit, |bytes| C::append(value, bytes)) {
                    Ok(Ok(())) if batch.len() < CHUNK => continue,
                    Ok(Ok(())) => {}
                    Ok(Err(len)) => refused = Some((len, None)),
                    Err(source) => refused = Some((0, Some(source))),
                }
                break;
            }
            let sent = if batch.is_empty() {
                Ok(())
            } else {
                self.raw.send_many(&batch, C::Landing::FIXED, &mut unsent.sent, patience)
            };
            let sent_so_far = unsent.sent;
            match (sent, refused) {
                (Ok(()), None) => {}
                (Ok(()), Some((len, None))) => {
                    return Err(SendManyError::TooLong { sent: sent_so_far, len, limit });
                }
                (Ok(()), Some((_, Some(source)))) => {
                    return Err(SendManyError::Encode { sent: sent_so_far, source });
                }
                (Err(NotSent::Full), _) => return Err(SendManyError::Full { sent: sent_so_far }),
                (Err(NotSent::TimedOut), _) => return Err(SendManyError::TimedOut { sent: sent_so_far }),
                (Err(NotSent::Disconnected), _) => {
                    return Err(SendManyError::Disconnected { sent: sent_so_far });
                }
                (Err(NotSent::Closed), _) => return Err(SendManyError::Closed { sent: sent_so_far }),
                (Err(NotSent::Damaged(Damage { found, limit })), _) => {
                    return Err(SendManyError::Damaged { sent: sent_so_far, found, limit });
                }
            }
        }
        Ok(())
    }

    /// Receives at most `most` messages, waiting for the first as long as it takes, and appends them to `into`. Says
    /// how many there were: at least one, unless `most` is 0, which asks for nothing and waits for nothing.
    ///
    /// They are taken at once (at most 511, or 64 KiB), and a receiver that is killed takes as many along.
    ///
    /// # Errors
    /// As for [`recv`](Queue::recv). After [`RecvError::Decode`] those that could be decoded are in `into`.
    pub fn recv_many(&self, into: &mut Vec<T>, most: usize) -> Result<usize, RecvError> {
        self.recv_batch(into, most, Patience::FOREVER)?.map_err(RecvError::Decode)
    }

    /// As [`recv_many`](Queue::recv_many), if there is a message now.
    ///
    /// # Errors
    /// As for [`try_recv`](Queue::try_recv), and [`recv_many`](Queue::recv_many).
    pub fn try_recv_many(&self, into: &mut Vec<T>, most: usize) -> Result<usize, TryRecvError> {
        self.recv_batch(into, most, Patience::None)?.map_err(TryRecvError::Decode)
    }

    /// As [`recv_many`](Queue::recv_many), waiting for the first message at most `timeout`.
    ///
    /// # Errors
    /// As for [`recv_timeout`](Queue::recv_timeout), and [`recv_many`](Queue::recv_many).
    pub fn recv_many_timeout(
        &self,
        into: &mut Vec<T>,
        most: usize,
        timeout: Duration,
    ) -> Result<usize, RecvTimeoutError> {
        self.recv_many_deadline(into, most, Deadline::after(timeout))
    }

    /// As [`recv_many`](Queue::recv_many), waiting for the first message at most until `deadline`.
    ///
    /// # Errors
    /// As for [`recv_many_timeout`](Queue::recv_many_timeout).
    pub fn recv_many_deadline(
        &self,
        into: &mut Vec<T>,
        most: usize,
        deadline: Deadline,
    ) -> Result<usize, RecvTimeoutError> {
        self.recv_batch(into, most, Patience::Until(Some(deadline)))?.map_err(RecvTimeoutError::Decode)
    }

    fn recv_batch(
        &self,
        into: &mut Vec<T>,
        most: usize,
        patience: Patience,
    ) -> Result<Result<usize, CodecError>, NotReceived> {
        if most == 0 {
            return Ok(Ok(0));
        }
        let mut batch = Scratch::borrow();
        self.raw.recv_many(&mut batch, most, patience)?;
        let before = into.len();
        let mut unreadable = None;
        if C::read_all(&batch, into) {
            return Ok(Ok(into.len() - before));
        }
        for payload in frame::payloads(&batch) {
            match C::read(payload) {
                Ok(value) => into.push(value),
                Err(source) => unreadable = Some(source),
            }
        }
        Ok(unreadable.map_or(Ok(into.len() - before), Err))
    }
}
