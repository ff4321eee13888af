//! What may live where other processes can see it.

use bytemuck::Pod;

/// Data without pointers, padding or forbidden bit patterns: what shared memory can hold and a death cannot make
/// invalid.
///
/// It is [`bytemuck::Pod`] and can be sent between threads; integers, floats and arrays of them are, and a
/// `#[repr(C)]` struct is with `#[derive(bytemuck::Pod, bytemuck::Zeroable)]`.
///
/// # Examples
/// ```
/// #[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
/// #[repr(C)]
/// struct Point { x: f64, y: f64 }
///
/// let value = pshared::Value::new(Point { x: 1.0, y: 2.0 })?;
/// assert_eq!(value.get().y, 2.0);
/// # Ok::<(), pshared::RegionError>(())
/// ```
pub trait Plain: Pod + Send + Sync {}

impl<T: Pod + Send + Sync> Plain for T {}

/// A struct of words that processes share by reference.
///
/// # Safety
/// The type has a fixed layout, no pointers but robust links, nothing to drop, and is valid whatever bytes a peer
/// leaves in it; every field that can change after it was placed is atomic or guarded by a protocol of its own.
/// `ROBUST` lists the offset of every robust word in it. Padding is spelled out in fields: else what lay on the stack
/// goes along with them, for every peer to read.
pub(crate) unsafe trait Shareable: Send + Sync + 'static {
    /// Where in the struct the robust words stand: memory in which one is held is never unmapped.
    const ROBUST: &'static [usize];
}
