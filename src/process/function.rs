//! [`Function`]: what a program can be asked for by name, when it is begun anew.
//!
//! Each is a static of the same shape in one section of the program, which the linker makes an array of: so it is known
//! by its name from the first instruction on, and nothing has to run to register it. The names of the section's ends
//! are the linker's: for a section `x`, `__start_x` and `__stop_x`.

use std::{fmt, marker::PhantomData, slice};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    error::SpawnError,
    process::life::{self, Outcome},
    region::{all_unpacked, take_refusal},
};

/// A function that a child can be told to run by name, with an argument that is sent to it.
///
/// Made by [`functions!`](crate::functions), run by [`Context::start`](crate::Context::start).
///
/// # References
/// Python `Process(target=..., args=...)` with the start methods "spawn" and "forkserver", which sends the module and
/// the name.
#[repr(C)]
pub struct Function<A, T> {
    entry: Entry,
    function: fn(A) -> T,
}

/// What is known of a function whatever its types. It stands first in it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Entry {
    name: &'static str,
    /// Decodes the argument, calls the function of the entry, encodes what it returns.
    run: unsafe fn(&'static Entry, &[u8]) -> Outcome,
}

/// One place in the section: any [`Function`] has this size.
#[repr(C)]
struct Place {
    entry: Entry,
    _function: fn(),
}

const _: () = assert!(size_of::<Place>() == size_of::<Function<String, Vec<u8>>>());

unsafe extern "C" {
    #[link_name = "__start_pshared_functions"]
    static FIRST: u8;
    #[link_name = "__stop_pshared_functions"]
    static END: u8;
}

/// All that are registered in this program.
fn registered() -> &'static [Place] {
    // SAFETY: the linker's names for the ends of the section, in which nothing but `Function`s stand, each a whole
    // `Place` of one size and alignment; this crate has one there itself, so there is a section.
    unsafe {
        let (first, end) = ((&raw const FIRST).cast::<Place>(), (&raw const END).cast::<Place>());
        slice::from_raw_parts(first, end.offset_from_unsigned(first))
    }
}

/// Registers functions by name, so that children can be told to run them by any start method.
///
/// Each becomes a static, a [`Function`](crate::Function), named by its path. A function takes one argument, which is
/// sent by serde, as is what it returns; of several make a tuple or a struct. It must be a plain function: a closure
/// that captures nothing will do.
///
/// It stands in a section of the program's that the linker collects, which the compiler counts as unsafe code: in a
/// crate that forbids `unsafe_code` it cannot be used.
///
/// # Examples
/// ```standalone_crate
/// use pshared::{Context, Queue, functions};
///
/// functions! {
///     /// Sends so many squares.
///     static SQUARES: fn((Queue<u64>, u64)) -> usize = squares;
/// }
///
/// fn squares((queue, most): (Queue<u64>, u64)) -> usize {
///     (0..most).filter(|n| queue.send(n * n).is_ok()).count()
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     pshared::init(); // in a child that is begun anew, everything ends here
///     let queue = Queue::new(4096)?;
///     let child = Context::spawn().start(&SQUARES, (queue.clone(), 4))?;
///     assert_eq!(child.join()?, 4);
///     assert_eq!((0..4).map(|_| queue.recv().unwrap()).sum::<u64>(), 14);
///     Ok(())
/// }
/// ```
#[macro_export]
macro_rules! functions {
    ($(
        $(#[$attribute:meta])*
        $visible:vis static $name:ident: fn($argument:ty) -> $result:ty = $function:expr;
    )+) => {$(
        $(#[$attribute])*
        #[used]
        #[unsafe(link_section = "pshared_functions")]
        $visible static $name: $crate::Function<$argument, $result> =
            $crate::Function::new(concat!(module_path!(), "::", stringify!($name)), $function);
    )+};
}

impl<A, T> Function<A, T> {
    /// Its name, the path of its static.
    pub fn name(&self) -> &'static str {
        self.entry.name
    }

    pub(super) fn function(&self) -> fn(A) -> T {
        self.function
    }

    /// Whether its name leads to it.
    pub(super) fn check(&'static self) -> Result<(), SpawnError> {
        match Registered::find(self.entry.name) {
            Some(Registered(entry)) if std::ptr::eq(entry, &self.entry) => Ok(()),
            _ => Err(SpawnError::Function { name: self.entry.name }),
        }
    }
}

impl<A: DeserializeOwned, T: Serialize> Function<A, T> {
    #[doc(hidden)]
    pub const fn new(name: &'static str, function: fn(A) -> T) -> Function<A, T> {
        Function { entry: Entry { name, run: run::<A, T> }, function }
    }
}

/// # Safety
/// `entry` stands first in a `Function<A, T>`.
unsafe fn run<A: DeserializeOwned, T: Serialize>(entry: &'static Entry, argument: &[u8]) -> Outcome {
    // SAFETY: as the caller vouches; `Function` is `repr(C)` with its entry first.
    let whole = unsafe { &*std::ptr::from_ref(entry).cast::<Function<A, T>>() };
    let argument = postcard::from_bytes(argument).map_err(|error| {
        let refusal = take_refusal().map_or(error.to_string(), |refusal| refusal.to_string());
        format!("the argument cannot be decoded: {refusal}")
    })?;
    all_unpacked();
    life::encoded((whole.function)(argument))
}

/// A registered function, found by its name.
#[derive(Clone, Copy)]
pub(super) struct Registered(&'static Entry);

impl Registered {
    /// The only one of that name.
    pub(super) fn find(name: &str) -> Option<Registered> {
        let mut named = registered().iter().filter(|place| place.entry.name == name);
        let only = named.next()?;
        named.next().is_none().then_some(Registered(&only.entry))
    }

    pub(super) fn run(self, argument: &[u8]) -> Outcome {
        // SAFETY: each entry of the section stands first in a `Function` of the types that its `run` was made for.
        unsafe { (self.0.run)(self.0, argument) }
    }
}

impl<A, T> fmt::Debug for Function<A, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let types = PhantomData::<fn(A) -> T>;
        f.debug_struct("Function").field("name", &self.name()).field("types", &types).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    functions! {
        static DOUBLE: fn(u32) -> u32 = |n| 2 * n;
        static JOIN: fn(Vec<String>) -> String = |words| words.concat();
    }

    static STRAY: Function<u8, u8> = Function::new("stray", |n| n);

    #[test]
    fn a_function_is_found_by_its_name_and_run() {
        assert!(DOUBLE.check().is_ok() && JOIN.check().is_ok());
        let found = Registered::find(DOUBLE.name()).unwrap();
        assert_eq!(found.run(&[21]), Ok(vec![42]));
        assert!(DOUBLE.name().ends_with("function::tests::DOUBLE"), "{}", DOUBLE.name());
    }

    #[test]
    fn an_argument_of_another_type_is_an_error() {
        let text = Registered::find(JOIN.name()).unwrap().run(&[9]).unwrap_err();
        assert!(text.starts_with("the argument cannot be decoded"), "{text}");
    }

    #[test]
    fn what_is_not_registered_is_not_found() {
        assert!(Registered::find("nowhere").is_none());
        assert!(matches!(STRAY.check(), Err(SpawnError::Function { name: "stray" })));
    }
}
