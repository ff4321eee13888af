//! How values become bytes: numbers, and vectors of them, as they lie in memory; everything else by serde.

use std::any::Any;

use bytemuck::{AnyBitPattern, NoUninit};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    error::CodecError,
    primitive::Buffer,
    queue::{Codec, Serde},
};

/// What a [`Pool`](crate::Pool) carries to its workers and back: every serialisable type without borrows.
///
/// Numbers and vectors of numbers go as they lie in memory; everything else in postcard's compact form.
pub trait Carried: Serialize + DeserializeOwned + 'static {}

impl<T: Serialize + DeserializeOwned + 'static> Carried for T {}

/// A number.
trait Number: AnyBitPattern + NoUninit + Any {}

impl<T: AnyBitPattern + NoUninit + Any> Number for T {}

/// A value that fits into one word, if it is a number that does. The type is known when this is compiled, so nothing
/// of the search is left.
#[inline]
pub(super) fn to_cell<T: Any>(value: &T) -> Option<u64> {
    fn cell<N: Number>(value: &dyn Any) -> Option<u64> {
        let mut bytes = [0; 8];
        bytes[..size_of::<N>()].copy_from_slice(bytemuck::bytes_of(value.downcast_ref::<N>()?));
        Some(u64::from_ne_bytes(bytes))
    }
    let any: &dyn Any = value;
    cell::<u64>(any)
        .or_else(|| cell::<u32>(any))
        .or_else(|| cell::<i64>(any))
        .or_else(|| cell::<i32>(any))
        .or_else(|| cell::<f64>(any))
        .or_else(|| cell::<usize>(any))
        .or_else(|| cell::<()>(any))
        .or_else(|| cell::<u8>(any))
        .or_else(|| cell::<u16>(any))
        .or_else(|| cell::<i8>(any))
        .or_else(|| cell::<i16>(any))
        .or_else(|| cell::<f32>(any))
        .or_else(|| cell::<isize>(any))
}

/// The way back. `None` for a type that is no such number.
#[inline]
pub(super) fn from_cell<T: Any>(cell: u64) -> Option<T> {
    fn fill<N: Number>(place: &mut dyn Any, cell: u64) -> bool {
        let Some(place) = place.downcast_mut::<Option<N>>() else { return false };
        *place = Some(bytemuck::pod_read_unaligned(&cell.to_ne_bytes()[..size_of::<N>()]));
        true
    }
    let mut value: Option<T> = None;
    let any: &mut dyn Any = &mut value;
    let _ = fill::<u64>(any, cell)
        || fill::<u32>(any, cell)
        || fill::<i64>(any, cell)
        || fill::<i32>(any, cell)
        || fill::<f64>(any, cell)
        || fill::<usize>(any, cell)
        || fill::<()>(any, cell)
        || fill::<u8>(any, cell)
        || fill::<u16>(any, cell)
        || fill::<i8>(any, cell)
        || fill::<i16>(any, cell)
        || fill::<f32>(any, cell)
        || fill::<isize>(any, cell);
    value
}

/// The bytes of a vector of numbers, if it is one.
#[inline]
fn plain_bytes(value: &dyn Any) -> Option<&[u8]> {
    fn bytes<N: Number>(value: &dyn Any) -> Option<&[u8]> {
        value.downcast_ref::<Vec<N>>().map(|numbers| bytemuck::cast_slice(numbers))
    }
    bytes::<u8>(value)
        .or_else(|| bytes::<u64>(value))
        .or_else(|| bytes::<f64>(value))
        .or_else(|| bytes::<u32>(value))
        .or_else(|| bytes::<f32>(value))
        .or_else(|| bytes::<i64>(value))
        .or_else(|| bytes::<i32>(value))
        .or_else(|| bytes::<usize>(value))
        .or_else(|| bytes::<u16>(value))
        .or_else(|| bytes::<i8>(value))
        .or_else(|| bytes::<i16>(value))
        .or_else(|| bytes::<isize>(value))
}

/// The way back: fills `place` if it is an `Option` of a vector of numbers. An error is a length that does not fit.
#[inline]
fn fill_plain(place: &mut dyn Any, bytes: &[u8]) -> Option<Result<(), CodecError>> {
    fn fill<N: Number>(place: &mut dyn Any, bytes: &[u8]) -> Option<Result<(), CodecError>> {
        let place = place.downcast_mut::<Option<Vec<N>>>()?;
        let (whole, rest) = (bytes.len() / size_of::<N>(), bytes.len() % size_of::<N>());
        if rest != 0 {
            return Some(Err(CodecError::length((whole + 1) * size_of::<N>(), bytes.len())));
        }
        *place = Some(match bytemuck::try_cast_slice(bytes) {
            Ok(numbers) => numbers.to_vec(),
            Err(_) => bytes.chunks_exact(size_of::<N>()).map(bytemuck::pod_read_unaligned).collect(),
        });
        Some(Ok(()))
    }
    fill::<u8>(place, bytes)
        .or_else(|| fill::<u64>(place, bytes))
        .or_else(|| fill::<f64>(place, bytes))
        .or_else(|| fill::<u32>(place, bytes))
        .or_else(|| fill::<f32>(place, bytes))
        .or_else(|| fill::<i64>(place, bytes))
        .or_else(|| fill::<i32>(place, bytes))
        .or_else(|| fill::<usize>(place, bytes))
        .or_else(|| fill::<u16>(place, bytes))
        .or_else(|| fill::<i8>(place, bytes))
        .or_else(|| fill::<i16>(place, bytes))
        .or_else(|| fill::<isize>(place, bytes))
}

/// Calls `with` on a value's bytes: its own, or encoded.
pub(super) fn with_bytes<T: Carried, R>(value: &T, with: impl FnOnce(&[u8]) -> R) -> Result<R, CodecError> {
    match plain_bytes(value) {
        Some(bytes) => Ok(with(bytes)),
        None => <Serde as Codec<T>>::encode(value, with),
    }
}

/// The value that `bytes` are, which are its own: without a copy, if they are just that.
pub(super) fn from_own_bytes<T: Carried>(bytes: &mut Vec<u8>) -> Result<T, CodecError> {
    let mut value: Option<T> = None;
    let any: &mut dyn Any = &mut value;
    match any.downcast_mut::<Option<Vec<u8>>>() {
        Some(place) => *place = Some(std::mem::take(bytes)),
        None => return from_bytes(bytes),
    }
    value.ok_or(CodecError::length(0, 0))
}

/// The value that the first `len` bytes of `buffer` are, which the caller may read. `None` if its type is no vector of
/// numbers.
pub(super) fn from_buffer<T: Carried>(buffer: &Buffer, len: usize) -> Option<Result<T, CodecError>> {
    fn fill<N: Number>(place: &mut dyn Any, buffer: &Buffer, len: usize) -> Option<Result<(), CodecError>> {
        let place = place.downcast_mut::<Option<Vec<N>>>()?;
        let (whole, rest) = (len / size_of::<N>(), len % size_of::<N>());
        if rest != 0 {
            return Some(Err(CodecError::length((whole + 1) * size_of::<N>(), len)));
        }
        let mut numbers = Vec::new();
        buffer.read_onto(0, &mut numbers, whole)?;
        *place = Some(numbers);
        Some(Ok(()))
    }
    let mut value: Option<T> = None;
    let any: &mut dyn Any = &mut value;
    let filled = fill::<u8>(any, buffer, len)
        .or_else(|| fill::<u64>(any, buffer, len))
        .or_else(|| fill::<f64>(any, buffer, len))
        .or_else(|| fill::<u32>(any, buffer, len))
        .or_else(|| fill::<f32>(any, buffer, len))
        .or_else(|| fill::<i64>(any, buffer, len))
        .or_else(|| fill::<i32>(any, buffer, len))
        .or_else(|| fill::<usize>(any, buffer, len))
        .or_else(|| fill::<u16>(any, buffer, len))
        .or_else(|| fill::<i8>(any, buffer, len))
        .or_else(|| fill::<i16>(any, buffer, len))
        .or_else(|| fill::<isize>(any, buffer, len))?;
    Some(filled.and_then(|()| value.ok_or(CodecError::length(0, len))))
}

/// The way back.
pub(super) fn from_bytes<T: Carried>(bytes: &[u8]) -> Result<T, CodecError> {
    let mut value: Option<T> = None;
    match fill_plain(&mut value, bytes) {
        None => <Serde as Codec<T>>::read(bytes),
        Some(filled) => filled.and_then(|()| value.ok_or(CodecError::length(0, bytes.len()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comes_back<T: Carried + PartialEq + std::fmt::Debug>(value: T) {
        let bytes = with_bytes(&value, <[u8]>::to_vec).unwrap();
        assert_eq!(from_bytes::<T>(&bytes).unwrap(), value);
    }

    #[test]
    fn small_numbers_go_in_a_word() {
        assert_eq!(to_cell(&-5_i32).and_then(from_cell), Some(-5_i32));
        assert_eq!(to_cell(&1.5_f64).and_then(from_cell), Some(1.5_f64));
        assert_eq!(to_cell(&()).and_then(from_cell), Some(()));
        assert_eq!(to_cell(&u64::MAX).and_then(from_cell), Some(u64::MAX));
        assert_eq!((to_cell(&"text"), to_cell(&true), to_cell(&1_u128)), (None, None, None));
        assert_eq!(from_cell::<bool>(1), None);
    }

    #[test]
    fn vectors_of_numbers_are_their_own_bytes() {
        assert_eq!(with_bytes(&vec![1_u16, 2], <[u8]>::to_vec).unwrap().len(), 4);
        comes_back(vec![1.5_f64, -2.0]);
        comes_back(Vec::<u8>::new());
        // From an address that does not suit them.
        let bytes = [0, 1, 0, 0, 0, 2, 0, 0, 0];
        assert_eq!(from_bytes::<Vec<u32>>(&bytes[1..]).unwrap(), [1, 2]);
        assert!(from_bytes::<Vec<u32>>(&bytes).is_err());
    }

    #[test]
    fn everything_else_goes_by_serde() {
        comes_back((7_u8, "text".to_string(), vec![Some(true), None]));
        comes_back(String::new());
        assert!(from_bytes::<String>(&[9, b'x']).is_err());
    }
}
