//! How a value becomes bytes: by serde and postcard, or as it lies in memory.

use std::{
    cell::RefCell,
    mem,
    ops::{Deref, DerefMut},
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    error::CodecError,
    queue::{
        ends::Landing,
        frame::{self, HEADER},
        lane::{Hindrance, Taking},
    },
    region::{self, Plain},
};

/// How a [`Queue`](crate::Queue) carries values of type `T`: [`Serde`] or [`PlainData`].
pub trait Codec<T>: sealed::Sealed {
    /// Where the bytes of a received value go.
    #[doc(hidden)]
    #[allow(private_bounds, reason = "sealed: only this module implements it")]
    type Landing: Landing;
    #[doc(hidden)]
    fn encode<R>(value: &T, send: impl FnOnce(&[u8]) -> R) -> Result<R, CodecError>;
    #[doc(hidden)]
    fn landing() -> Self::Landing;
    #[doc(hidden)]
    fn decode(landing: Self::Landing) -> Result<T, CodecError>;
    /// The length of the shortest message.
    #[doc(hidden)]
    const SHORTEST: usize;
    /// Appends the bytes of `value`; if that fails, or panics, perhaps some of them.
    #[doc(hidden)]
    fn append(value: &T, bytes: &mut Vec<u8>) -> Result<(), CodecError>;
    #[doc(hidden)]
    fn read(bytes: &[u8]) -> Result<T, CodecError>;
    /// Appends records of the first of `values` to a batch, as many as `bytes` hold, but at least one; false if they
    /// have to be appended one by one.
    #[doc(hidden)]
    #[inline]
    fn append_all(_values: &[T], _batch: &mut Vec<u8>, _bytes: usize) -> bool {
        false
    }
    /// Appends what a batch holds to `into`; false if it has to be read one by one.
    #[doc(hidden)]
    #[inline]
    fn read_all(_batch: &[u8], _into: &mut Vec<T>) -> bool {
        false
    }
    /// The bytes of `values`, if they lie there as they do in a channel.
    #[doc(hidden)]
    #[inline]
    fn as_records(_values: &[T]) -> Option<&[u8]> {
        None
    }
    /// Takes records that lie in a channel as they do in a list, at most so many; `None` if they do not.
    #[doc(hidden)]
    #[inline]
    #[allow(private_interfaces, reason = "sealed: only this module implements it")]
    fn take_records(
        _taking: &mut Taking<'_>,
        _into: &mut Vec<T>,
        _most: usize,
    ) -> Option<Result<usize, Hindrance>> {
        None
    }
}

mod sealed {
    pub trait Sealed {}
}

/// Any serialisable type, in postcard's compact form.
#[derive(Debug)]
pub enum Serde {}

/// Plain data, copied as it is: no serialisation, and always as long as the type.
#[derive(Debug)]
pub enum PlainData {}

/// Byte strings, as they are: of a [`Channel`](crate::Channel) alone.
#[derive(Debug)]
pub enum Bytes {}

impl sealed::Sealed for Bytes {}
impl sealed::Sealed for Serde {}
impl sealed::Sealed for PlainData {}

thread_local! {
    /// Kept from message to message, so that a running queue does not allocate.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What is larger goes back to the allocator after use.
const KEEP: usize = 64 << 10;

fn borrow_scratch() -> Vec<u8> {
    let mut bytes = SCRATCH.try_with(|scratch| mem::take(&mut *scratch.borrow_mut())).unwrap_or_default();
    bytes.clear();
    bytes
}

fn return_scratch(bytes: Vec<u8>) {
    if bytes.capacity() <= KEEP {
        let _ = SCRATCH.try_with(|scratch| *scratch.borrow_mut() = bytes);
    }
}

/// The thread's scratch memory, borrowed: empty at first, given back when dropped.
#[derive(Debug)]
pub(super) struct Scratch(Vec<u8>);

impl Scratch {
    pub(super) fn borrow() -> Scratch {
        Scratch(borrow_scratch())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        return_scratch(mem::take(&mut self.0));
    }
}

impl Deref for Scratch {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

/// What postcard said; or what a handle said, of which postcard only knows that it said something.
fn failed(error: postcard::Error) -> CodecError {
    match error {
        postcard::Error::SerdeSerCustom | postcard::Error::SerdeDeCustom => {
            region::take_refusal().map_or(CodecError::postcard(error), CodecError::handle)
        }
        error => CodecError::postcard(error),
    }
}

/// Where postcard writes: behind what is there.
struct Behind<'a>(&'a mut Vec<u8>);

impl Extend<u8> for Behind<'_> {
    fn extend<I: IntoIterator<Item = u8>>(&mut self, bytes: I) {
        self.0.extend(bytes);
    }
}

impl<T: Serialize + DeserializeOwned> Codec<T> for Serde {
    type Landing = Vec<u8>;
    const SHORTEST: usize = 0;

    fn encode<R>(value: &T, send: impl FnOnce(&[u8]) -> R) -> Result<R, CodecError> {
        let bytes = postcard::to_extend(value, borrow_scratch()).map_err(failed)?;
        let sent = send(&bytes);
        return_scratch(bytes);
        Ok(sent)
    }

    fn landing() -> Vec<u8> {
        borrow_scratch()
    }

    fn decode(bytes: Vec<u8>) -> Result<T, CodecError> {
        let value = postcard::from_bytes(&bytes).map_err(failed);
        return_scratch(bytes);
        value
    }

    fn append(value: &T, bytes: &mut Vec<u8>) -> Result<(), CodecError> {
        postcard::to_extend(value, Behind(bytes)).map(drop).map_err(failed)
    }

    fn read(bytes: &[u8]) -> Result<T, CodecError> {
        postcard::from_bytes(bytes).map_err(failed)
    }
}

impl Codec<Vec<u8>> for Bytes {
    type Landing = Vec<u8>;
    const SHORTEST: usize = 0;

    fn encode<R>(value: &Vec<u8>, send: impl FnOnce(&[u8]) -> R) -> Result<R, CodecError> {
        Ok(send(value))
    }

    fn landing() -> Vec<u8> {
        Vec::new()
    }

    fn decode(bytes: Vec<u8>) -> Result<Vec<u8>, CodecError> {
        Ok(bytes)
    }

    fn append(value: &Vec<u8>, bytes: &mut Vec<u8>) -> Result<(), CodecError> {
        bytes.extend_from_slice(value);
        Ok(())
    }

    fn read(bytes: &[u8]) -> Result<Vec<u8>, CodecError> {
        Ok(bytes.to_vec())
    }
}

/// Whether values lie in a list as their records lie in a channel: one behind the other.
const fn is_as_in_a_list<T>() -> bool {
    size_of::<T>() > 0 && size_of::<T>().is_multiple_of(HEADER)
}

/// A value of plain data that its bytes are copied into.
#[derive(Debug)]
pub struct PlainLanding<T> {
    value: T,
    len: usize,
}

impl<T: Plain> Landing for PlainLanding<T> {
    const FIXED: Option<usize> = Some(size_of::<T>());

    #[inline]
    fn room(&mut self, len: usize) -> Option<&mut [u8]> {
        self.len = len;
        let bytes = bytemuck::bytes_of_mut(&mut self.value);
        Some(if len == bytes.len() { bytes } else { &mut [] })
    }
}

impl<T: Plain> Codec<T> for PlainData {
    type Landing = PlainLanding<T>;
    const SHORTEST: usize = size_of::<T>();

    #[inline]
    fn encode<R>(value: &T, send: impl FnOnce(&[u8]) -> R) -> Result<R, CodecError> {
        Ok(send(bytemuck::bytes_of(value)))
    }

    #[inline]
    fn landing() -> PlainLanding<T> {
        PlainLanding { value: T::zeroed(), len: 0 }
    }

    #[inline]
    fn decode(landing: PlainLanding<T>) -> Result<T, CodecError> {
        let (need, have) = (size_of::<T>(), landing.len);
        if need == have { Ok(landing.value) } else { Err(CodecError::length(need, have)) }
    }

    fn append_all(values: &[T], batch: &mut Vec<u8>, bytes: usize) -> bool {
        frame::append_plain(batch, values, bytes);
        true
    }

    fn read_all(batch: &[u8], into: &mut Vec<T>) -> bool {
        frame::read_plain(batch, into)
    }

    #[inline]
    fn as_records(values: &[T]) -> Option<&[u8]> {
        is_as_in_a_list::<T>().then(|| bytemuck::cast_slice(values))
    }

    #[inline]
    #[allow(private_interfaces, reason = "as declared")]
    fn take_records(
        taking: &mut Taking<'_>,
        into: &mut Vec<T>,
        most: usize,
    ) -> Option<Result<usize, Hindrance>> {
        is_as_in_a_list::<T>().then(|| taking.next_all::<Self::Landing, T>(into, most))
    }

    fn append(value: &T, bytes: &mut Vec<u8>) -> Result<(), CodecError> {
        bytes.extend_from_slice(bytemuck::bytes_of(value));
        Ok(())
    }

    fn read(bytes: &[u8]) -> Result<T, CodecError> {
        let (need, have) = (size_of::<T>(), bytes.len());
        if need == have {
            Ok(bytemuck::pod_read_unaligned(bytes))
        } else {
            Err(CodecError::length(need, have))
        }
    }
}
