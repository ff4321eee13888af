//! What lies where, for whoever asks beforehand: by it the watchdog of `testing` says to which object a word belongs.

use std::{any::type_name, cell::RefCell};

use crate::region::Shareable;

thread_local! {
    static PLACED: RefCell<Option<Vec<Placed>>> = const { RefCell::new(None) };
}

struct Placed {
    start: usize,
    size: usize,
    name: &'static str,
    robust: &'static [usize],
}

/// Part of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// The object's type.
    pub(crate) name: &'static str,
    /// How far behind the beginning.
    pub(crate) offset: usize,
    /// Whether a word there says by its value which thread holds it.
    pub(crate) robust: bool,
}

/// From now on it is noted what this thread places; what was noted before is forgotten.
pub(crate) fn begin() {
    PLACED.set(Some(Vec::new()));
}

/// A `T` was placed there.
pub(crate) fn note<T: Shareable>(place: *const T) {
    let (start, size) = (place.addr(), size_of::<T>());
    let _ = PLACED.try_with(|placed| {
        if let Some(placed) = placed.borrow_mut().as_mut() {
            placed.push(Placed { start, size, name: type_name::<T>(), robust: T::ROBUST });
        }
    });
}

/// What lies at an address, if it was placed since the beginning.
pub(crate) fn at(address: usize) -> Option<Part> {
    PLACED.with_borrow(|placed| {
        let around = |placed: &&Placed| (placed.start..placed.start + placed.size).contains(&address);
        let Placed { start, name, robust, .. } = *placed.as_ref()?.iter().rev().find(around)?;
        let offset = address - start;
        Some(Part { name, offset, robust: robust.contains(&offset) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primitive::AtomicU32;

    struct Two {
        _first: AtomicU32,
        second: AtomicU32,
    }

    // SAFETY: atomic words; none of them is ever in a robust list.
    unsafe impl Shareable for Two {
        const ROBUST: &'static [usize] = &[4];
    }

    #[test]
    fn what_is_placed_is_known_from_the_beginning_on_and_no_longer() {
        let two = Two { _first: AtomicU32::new(0), second: AtomicU32::new(0) };
        let (start, second) = ((&raw const two).addr(), (&raw const two.second).addr());
        note(&raw const two);
        assert_eq!(at(second), None);
        begin();
        note(&raw const two);
        let found = [start, second].map(|address| at(address).map(|part| (part.offset, part.robust)));
        assert_eq!(found, [Some((0, false)), Some((4, true))]);
        assert!(at(start).is_some_and(|part| part.name.ends_with("::Two")));
        assert_eq!(at(start + size_of::<Two>()), None);
        begin();
        assert_eq!(at(second), None);
    }
}
