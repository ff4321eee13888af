//! How a function comes to a worker: as the place of its own trampoline in the program.
//!
//! A fn item, or a closure that captures nothing, has no bytes: whoever knows its type has it. So what is sent is the
//! address of a trampoline that was compiled for it, as its distance from a static of the program: the same
//! in every process of the program, wherever it was loaded.

use std::{
    any::Any,
    fmt::Display,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    ptr::NonNull,
};

use serde::{Deserialize, Serialize};

use crate::{
    pool::{
        carry::{Carried, from_bytes, with_bytes},
        site::{Failure, Side, Site},
        word::{State, Word},
    },
    process::Panic,
};

/// Does the task in a slot and leaves the result there; says what to commit.
pub(super) type Trampoline = fn(&Site, usize, Word, &mut Vec<u8>) -> Word;

/// Where distances are counted from: a static, which there is once, where the compiler may copy a function.
static ANCHOR: u8 = 0;

fn base() -> usize {
    (&raw const ANCHOR).expose_provenance()
}

/// The number of a trampoline.
pub(super) fn number(trampoline: Trampoline) -> u64 {
    (trampoline as usize).wrapping_sub(base()) as u64
}

/// The trampoline of that number.
///
/// # Safety
/// Another process of this program has made the number by [`number`].
pub(super) unsafe fn trampoline(number: u64) -> Trampoline {
    let address = base().wrapping_add(number as usize);
    // SAFETY: the same function at the same distance, as the caller vouches.
    unsafe { mem::transmute::<*const (), Trampoline>(std::ptr::with_exposed_provenance(address)) }
}

/// The number of an initializer that captures nothing; `None` if it captures something.
pub(super) fn initializer_number<I, E>(_: &I) -> Option<u64>
where
    I: Fn() -> Result<(), E> + 'static,
    E: Display,
{
    fn initialize<I: Fn() -> Result<(), E>, E: Display>() -> Result<(), String> {
        // SAFETY: there is nothing to read, and the type is inhabited: the builder was given a value of it, which it
        // has kept. Shared by reference, it is never dropped.
        let initializer = unsafe { NonNull::<I>::dangling().as_ref() };
        initializer().map_err(|error| error.to_string())
    }
    (size_of::<I>() == 0).then(|| (initialize::<I, E> as InitializerFn as usize).wrapping_sub(base()) as u64)
}

/// What [`initializer_number`] numbers.
pub(super) type InitializerFn = fn() -> Result<(), String>;

/// The initializer of that number.
///
/// # Safety
/// Another process of this program has made the number by [`initializer_number`].
pub(super) unsafe fn initializer(number: u64) -> InitializerFn {
    let address = base().wrapping_add(number as usize);
    // SAFETY: the same function at the same distance, as the caller vouches.
    unsafe { mem::transmute::<*const (), InitializerFn>(std::ptr::with_exposed_provenance(address)) }
}

/// A value of a type that has no bytes, made of nothing.
#[inline]
pub(super) fn conjure<F: Copy>() -> F {
    const {
        assert!(size_of::<F>() == 0, "a pool runs fn items and closures that capture nothing");
    }
    // SAFETY: there is nothing to read, and the type is inhabited and `Copy`: the pool was given a value of it.
    unsafe { NonNull::<F>::dangling().read() }
}

/// The trampoline of a task by itself.
pub(super) fn one<F, A, R>(site: &Site, slot: usize, word: Word, scratch: &mut Vec<u8>) -> Word
where
    F: Fn(A) -> R + Copy,
    A: Carried,
    R: Carried,
{
    let argument = match site.get::<A>(Side::Argument, slot, word.argument(), scratch) {
        Ok(argument) => argument,
        Err(trouble) => return site.fail(slot, word, &Failure::Decode(trouble.to_string())),
    };
    // Encoding is foreign code too, and so is the destructor of the value.
    let done = catch_unwind(AssertUnwindSafe(|| {
        let value = conjure::<F>()(argument);
        site.put(Side::Result, slot, &value)
    }));
    match done {
        Ok(Ok(form)) => word.settled(State::Done, form),
        Ok(Err(trouble)) => site.fail(slot, word, &Failure::Encode(trouble.to_string())),
        Err(payload) => site.fail(slot, word, &panicked(payload)),
    }
}

/// The values of a chunk that are not all there: each encoded, or why not.
#[derive(Serialize, Deserialize)]
pub(super) struct Mixed(pub(super) Vec<Result<Vec<u8>, Failure>>);

/// The trampoline of a chunk of tasks.
pub(super) fn many<F, A, R>(site: &Site, slot: usize, word: Word, scratch: &mut Vec<u8>) -> Word
where
    F: Fn(A) -> R + Copy,
    A: Carried,
    R: Carried,
{
    let arguments = match site.get::<Vec<A>>(Side::Argument, slot, word.argument(), scratch) {
        Ok(arguments) => arguments,
        Err(trouble) => return site.fail(slot, word, &Failure::Decode(trouble.to_string())),
    };
    let len = arguments.len();
    let mut arguments = arguments.into_iter();
    let mut values: Vec<R> = Vec::with_capacity(len);
    let mut failures: Vec<(usize, Failure)> = Vec::new();
    loop {
        // One frame for as many as go well.
        let ran = catch_unwind(AssertUnwindSafe(|| {
            values.extend(arguments.by_ref().map(conjure::<F>()));
        }));
        match ran {
            Ok(()) => break,
            Err(payload) => failures.push((values.len() + failures.len(), panicked(payload))),
        }
    }
    if failures.is_empty() {
        let put = catch_unwind(AssertUnwindSafe(|| site.put(Side::Result, slot, &values)));
        if let Ok(Ok(form)) = put {
            return word.settled(State::Done, form);
        }
    }
    mixed(site, slot, word, values, failures)
}

/// Leaves what can be left of a chunk, value by value.
#[cold]
fn mixed<R: Carried>(
    site: &Site,
    slot: usize,
    word: Word,
    values: Vec<R>,
    failures: Vec<(usize, Failure)>,
) -> Word {
    let encode = |value: R| match catch_unwind(AssertUnwindSafe(|| with_bytes(&value, <[u8]>::to_vec))) {
        Ok(bytes) => bytes.map_err(|error| Failure::Encode(error.to_string())),
        Err(payload) => Err(panicked(payload)),
    };
    let mut all: Vec<Result<Vec<u8>, Failure>> = values.into_iter().map(encode).collect();
    for (place, failure) in failures {
        all.insert(place, Err(failure));
    }
    let bytes = postcard::to_stdvec(&Mixed(all)).unwrap_or_default();
    match site.put_bytes(Side::Result, slot, &bytes) {
        Ok(form) => word.settled(State::Failed, form),
        Err(error) => site.fail(slot, word, &Failure::Encode(error.to_string())),
    }
}

/// Reads back what [`many`] left; `None` for what cannot be read.
pub(super) fn unmixed<R: Carried>(bytes: &[u8]) -> Option<Vec<Result<R, Failure>>> {
    let Mixed(all) = postcard::from_bytes(bytes).ok()?;
    let decode = |one: Result<Vec<u8>, Failure>| {
        one.and_then(|bytes| from_bytes(&bytes).map_err(|error| Failure::Decode(error.to_string())))
    };
    Some(all.into_iter().map(decode).collect())
}

fn panicked(payload: Box<dyn Any + Send>) -> Failure {
    let panic = Panic::new(&*payload);
    // Its destructor is foreign code, and may panic in its turn.
    mem::forget(payload);
    Failure::Panicked(panic)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn double(n: u32) -> u32 {
        2 * n
    }

    fn numbered<F: Fn(u32) -> u32 + Copy>(_: F) -> u64 {
        number(one::<F, u32, u32>)
    }

    #[test]
    fn a_function_without_bytes_is_made_of_nothing() {
        fn again<F: Fn(u32) -> u32 + Copy>(_: F, n: u32) -> u32 {
            conjure::<F>()(n)
        }
        assert_eq!((again(double, 4), again(|n| n + 1, 4)), (8, 5));
    }

    #[test]
    fn each_function_has_a_number_that_leads_to_it() {
        let (first, second) = (numbered(double), numbered(|n| n + 1));
        assert_ne!(first, second);
        // SAFETY: made by `number` just now.
        assert_eq!(number(unsafe { trampoline(first) }), first);
    }
}
