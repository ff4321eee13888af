//! The ring that cannot sleep: slots of the message's size, indices on lines of their own and cached by the other side,
//! and nothing else. Nobody's death is told, and who waits spins for ever, without a pause.

use std::{
    cell::UnsafeCell,
    hint::spin_loop,
    sync::atomic::{
        AtomicUsize,
        Ordering::{Acquire, Release},
    },
};

use bytemuck::Zeroable;

use crate::parties::{Line, shared};

/// Messages of `W` words; room for `CAP` of them, a power of two.
#[derive(Zeroable)]
pub struct Ring<const W: usize, const CAP: usize> {
    tail: Line<AtomicUsize>,
    head: Line<AtomicUsize>,
    slots: UnsafeCell<[[u64; W]; CAP]>,
}

// SAFETY: a slot is written by the only sender before the tail passes it, and read by the only receiver before the head
// does.
unsafe impl<const W: usize, const CAP: usize> Sync for Ring<W, CAP> {}

pub struct RingSender<const W: usize, const CAP: usize> {
    ring: &'static Ring<W, CAP>,
    tail: usize,
    head: usize,
}

pub struct RingReceiver<const W: usize, const CAP: usize> {
    ring: &'static Ring<W, CAP>,
    tail: usize,
    head: usize,
}

/// Both ends, for parties that share memory.
pub fn ring<const W: usize, const CAP: usize>() -> (RingSender<W, CAP>, RingReceiver<W, CAP>) {
    const { assert!(CAP.is_power_of_two()) };
    let ring = shared();
    (RingSender { ring, tail: 0, head: 0 }, RingReceiver { ring, tail: 0, head: 0 })
}

impl<const W: usize, const CAP: usize> Ring<W, CAP> {
    #[inline]
    fn slot(&self, index: usize) -> *mut [u64; W] {
        // SAFETY: in bounds.
        unsafe { self.slots.get().cast::<[u64; W]>().add(index % CAP) }
    }
}

impl<const W: usize, const CAP: usize> RingSender<W, CAP> {
    /// Writes a message that the other end does not see yet.
    #[inline]
    pub fn write(&mut self, message: &[u64; W]) {
        while self.tail - self.head == CAP {
            self.head = self.ring.head.0.load(Acquire);
            spin_loop();
        }
        // SAFETY: the slot is free.
        unsafe { self.ring.slot(self.tail).write(*message) };
        self.tail += 1;
    }

    /// Shows what was written.
    #[inline]
    pub fn publish(&mut self) {
        self.ring.tail.0.store(self.tail, Release);
    }
}

impl<const W: usize, const CAP: usize> RingReceiver<W, CAP> {
    /// Takes a message whose slot the other end does not get back yet.
    #[inline]
    pub fn read(&mut self) -> [u64; W] {
        while self.head == self.tail {
            self.tail = self.ring.tail.0.load(Acquire);
            spin_loop();
        }
        // SAFETY: the slot is full.
        let message = unsafe { self.ring.slot(self.head).read() };
        self.head += 1;
        message
    }

    /// Gives back the slots of what was taken.
    #[inline]
    pub fn give_back(&mut self) {
        self.ring.head.0.store(self.head, Release);
    }
}
