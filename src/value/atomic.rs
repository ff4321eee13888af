//! A number of at most 8 bytes that needs no lock.

use std::{fmt, marker::PhantomData};

use crate::{
    error::RegionError,
    primitive::{AcqRel, Acquire, AtomicU64, Relaxed, Release},
    region::{Handle, Plain, Region, Shareable, in_arena, portable},
};

/// The word. Narrower numbers lie in it sign- or zero-extended, so that equal numbers are equal words.
#[repr(C, align(8))]
pub(crate) struct Number(AtomicU64);

// SAFETY: one atomic word.
unsafe impl Shareable for Number {
    const ROBUST: &'static [usize] = &[];
}

/// The integers that [`Atomic`] can hold: those of 1 to 8 bytes.
pub trait Integer: Plain + Ord + sealed::Sealed {
    #[doc(hidden)]
    const BITS: u32;
    #[doc(hidden)]
    fn to_word(self) -> u64;
    #[doc(hidden)]
    fn from_word(word: u64) -> Self;
}

mod sealed {
    pub trait Sealed {}
}

// One line a type: what differs between them is a cast, which no generic function can write.
macro_rules! integers {
    ($($int:ty),*) => {$(
        impl sealed::Sealed for $int {}
        impl Integer for $int {
            const BITS: u32 = <$int>::BITS;
            #[inline]
            fn to_word(self) -> u64 { self as u64 }
            #[inline]
            fn from_word(word: u64) -> $int { word as $int }
        }
    )*};
}
integers!(u8, u16, u32, u64, usize, i8, i16, i32, i64, isize);

/// An integer that processes share and change in one step, without a lock: nothing can be torn, and nobody waits.
///
/// Each operation is one atomic step, Acquire where it reads and Release where it writes: what a process wrote before
/// is seen by who reads the number after. Arithmetic wraps. A clone is another handle to the same number.
///
/// # Examples
/// ```
/// let counter = pshared::Atomic::new(40_u32)?;
/// assert_eq!(counter.fetch_add(2), 40);
/// assert_eq!(counter.get(), 42);
/// # Ok::<(), pshared::RegionError>(())
/// ```
///
/// # References
/// Python `Value('i', lock=False)`, whose `+=` loses counts; `std::sync::atomic`.
#[doc(alias = "RawValue")]
pub struct Atomic<T> {
    number: Handle<Number>,
    _type: PhantomData<T>,
}

portable!(of (T) Atomic<T> { number, _type });

impl<T: Integer> Atomic<T> {
    /// A number in anonymous memory, which children forked from now on inherit. It takes 8 bytes.
    ///
    /// # Errors
    /// What [`Region::anonymous`] says.
    pub fn new(value: T) -> Result<Atomic<T>, RegionError> {
        in_arena(size_of::<Number>(), |region| Atomic::new_in(region, value))
    }

    /// A number in `region`.
    ///
    /// # Errors
    /// [`RegionError::NoRoom`].
    pub fn new_in(region: &Region, value: T) -> Result<Atomic<T>, RegionError> {
        let number = region.place(Number(AtomicU64::new(value.to_word())))?;
        Ok(Atomic { number, _type: PhantomData })
    }

    #[inline]
    fn word(&self) -> &AtomicU64 {
        &self.number.0
    }

    /// The number now.
    #[inline]
    pub fn get(&self) -> T {
        // ORDERING: Acquire, pairs with whichever operation wrote what we read.
        T::from_word(self.word().load(Acquire))
    }

    /// Replaces the number.
    #[inline]
    pub fn set(&self, value: T) {
        // ORDERING: Release, pairs with whichever operation reads it.
        self.word().store(value.to_word(), Release);
    }

    /// Replaces the number and returns the one before.
    #[inline]
    pub fn swap(&self, value: T) -> T {
        T::from_word(self.word().swap(value.to_word(), AcqRel))
    }

    /// Puts `new` in the place of `current`, and returns it.
    ///
    /// # Errors
    /// The number that was there, if it was another; then nothing has changed.
    #[inline]
    pub fn compare_exchange(&self, current: T, new: T) -> Result<T, T> {
        let exchanged = self.word().compare_exchange(current.to_word(), new.to_word(), AcqRel, Acquire);
        exchanged.map(T::from_word).map_err(T::from_word)
    }

    /// Replaces the number by what `change` makes of it, in one step, and returns the one before. `change` may run
    /// several times.
    #[inline]
    pub fn update(&self, mut change: impl FnMut(T) -> T) -> T {
        // ORDERING: Relaxed, a first guess; the exchange decides and pairs.
        let mut seen = self.word().load(Relaxed);
        loop {
            let new = change(T::from_word(seen)).to_word();
            match self.word().compare_exchange(seen, new, AcqRel, Relaxed) {
                Ok(before) => return T::from_word(before),
                Err(now) => seen = now,
            }
        }
    }

    /// Adds, and returns the number before. Wraps.
    #[inline]
    pub fn fetch_add(&self, n: T) -> T {
        if T::BITS == 64 {
            return T::from_word(self.word().fetch_add(n.to_word(), AcqRel));
        }
        self.update(|old| T::from_word(old.to_word().wrapping_add(n.to_word())))
    }

    /// Subtracts, and returns the number before. Wraps.
    #[inline]
    pub fn fetch_sub(&self, n: T) -> T {
        if T::BITS == 64 {
            return T::from_word(self.word().fetch_sub(n.to_word(), AcqRel));
        }
        self.update(|old| T::from_word(old.to_word().wrapping_sub(n.to_word())))
    }

    /// Keeps the bits that are set in both, and returns the number before.
    #[inline]
    pub fn fetch_and(&self, bits: T) -> T {
        T::from_word(self.word().fetch_and(bits.to_word(), AcqRel))
    }

    /// Sets the bits that are set in either, and returns the number before.
    #[inline]
    pub fn fetch_or(&self, bits: T) -> T {
        T::from_word(self.word().fetch_or(bits.to_word(), AcqRel))
    }

    /// Keeps the bits that are set in one of them, and returns the number before.
    #[inline]
    pub fn fetch_xor(&self, bits: T) -> T {
        T::from_word(self.word().fetch_xor(bits.to_word(), AcqRel))
    }

    /// Keeps the larger, and returns the number before.
    #[inline]
    pub fn fetch_max(&self, other: T) -> T {
        self.update(|old| old.max(other))
    }

    /// Keeps the smaller, and returns the number before.
    #[inline]
    pub fn fetch_min(&self, other: T) -> T {
        self.update(|old| old.min(other))
    }
}

impl<T> Clone for Atomic<T> {
    fn clone(&self) -> Atomic<T> {
        Atomic { number: self.number.clone(), _type: PhantomData }
    }
}

impl<T: Integer + fmt::Debug> fmt::Debug for Atomic<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Atomic").field(&self.get()).finish()
    }
}
