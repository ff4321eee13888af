//! Memory: mapping, layout, placement. Nothing in here waits.
//!
//! A [`Region`] is a sealed, fully allocated memfd, mapped shared. It begins with a header (`layout`) and hands out
//! space in bump order; space is never taken back while the region lives. The bump pointer stands in the header and
//! moves by an exchange, so every process that has the region may place objects in it: none is ever given bytes that
//! another has, and a death wastes at most the bytes it had just claimed.
//!
//! Objects made by `X::new()` go to the calling thread's `arena`: a region that grows by getting a bigger successor.
//! It is unmapped when the last handle to anything in it is gone. A forked child goes on in the arena it inherited,
//! which is safe by the same exchange.
//!
//! A handle that is sent to a process that no fork made goes as its place in a table (`luggage`), which travels beside
//! the message with the descriptors of the regions.
//!
//! A [`Handle`] is a region and an offset. It alone turns mapped bytes into references. Nothing in shared memory is a
//! pointer, but for the links of a held lock, which only its holder's thread and the kernel follow.

mod shareable;
pub use shareable::Plain;
pub(crate) use shareable::Shareable;

#[cfg(not(loom))]
mod layout;
#[cfg(not(loom))]
mod mapping;
#[cfg(all(feature = "testing", not(loom), target_arch = "x86_64"))]
pub(crate) mod names;
#[cfg(not(loom))]
pub use mapping::Region;
#[cfg(not(loom))]
mod handle;
#[cfg(not(loom))]
pub(crate) use handle::{Handle, Row, SharedBytes};
#[cfg(not(loom))]
mod arena;
#[cfg(not(loom))]
pub(crate) use arena::in_arena;
#[cfg(not(loom))]
mod luggage;
#[cfg(not(loom))]
pub(crate) use luggage::{
    Descriptor, Object, Packer, Portable, Unpacker, all_unpacked, deserialize, packed, portable, serialize,
    take_refusal, unpacked,
};

#[cfg(loom)]
mod model;
#[cfg(loom)]
pub use model::Region;
#[cfg(loom)]
pub(crate) use model::{Handle, Row, SharedBytes, in_arena, portable, take_refusal};
