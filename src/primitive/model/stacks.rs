//! Stacks of the checker's threads, used again.
//!
//! loom starts every thread of a model anew in each execution, of which there are millions, and `generator`, the crate
//! that it has them from, maps a stack for each, protects its lowest page, and unmaps it in the end. With the pages
//! that are then touched for the first time that took half of all time. So this program has `mmap` and `munmap` of its
//! own in front of libc's: a stack that is unmapped is kept for the next one of its size on the same thread of the
//! machine; all else goes to the system. The lowest page of a kept one is still protected, so an overflow is seen.
//!
//! What lies on a stack that is used again is not zero, and nobody leans on that: `generator` writes before it reads.

use std::{cell::RefCell, ffi::c_void};

use nix::libc::{
    self, MAP_ANON, MAP_PRIVATE, MAP_STACK, PROT_READ, PROT_WRITE, SYS_mmap, SYS_munmap, c_int, off_t,
    syscall,
};

/// Where a mapping is, and its size in bytes.
type Map = (*mut c_void, usize);

thread_local! {
    static STACKS: RefCell<Stacks> = const { RefCell::new(Stacks { used: Vec::new(), kept: Vec::new() }) };
}

/// The stacks that this thread has mapped.
struct Stacks {
    used: Vec<Map>,
    kept: Vec<Map>,
}

impl Stacks {
    /// One that is kept.
    fn take(&mut self, size: usize) -> Option<*mut c_void> {
        let place = self.kept.iter().rposition(|map| map.1 == size)?;
        let map = self.kept.swap_remove(place);
        self.used.push(map);
        Some(map.0)
    }

    /// Whether it is one of these, and so is kept.
    fn keep(&mut self, map: Map) -> bool {
        let place = self.used.iter().rposition(|&used| used == map);
        self.kept.extend(place.map(|place| self.used.swap_remove(place)));
        place.is_some()
    }
}

impl Drop for Stacks {
    fn drop(&mut self) {
        for &(address, size) in &self.kept {
            // SAFETY: this thread mapped it, and whoever ran on it has given it back.
            unsafe { syscall(SYS_munmap, address, size) };
        }
    }
}

/// mmap(2).
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
unsafe extern "C" fn mmap(
    address: *mut c_void,
    size: usize,
    rights: c_int,
    flags: c_int,
    fd: c_int,
    offset: off_t,
) -> *mut c_void {
    let is_stack =
        address.is_null() && (rights, flags) == (PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON | MAP_STACK);
    if is_stack && let Ok(Some(kept)) = STACKS.try_with(|stacks| stacks.borrow_mut().take(size)) {
        return kept;
    }
    // SAFETY: the caller's call.
    let map = unsafe { syscall(SYS_mmap, address, size, rights, flags, fd, offset) } as *mut c_void;
    if is_stack && map != libc::MAP_FAILED {
        let _ = STACKS.try_with(|stacks| stacks.borrow_mut().used.push((map, size)));
    }
    map
}

/// munmap(2).
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
unsafe extern "C" fn munmap(address: *mut c_void, size: usize) -> c_int {
    if STACKS.try_with(|stacks| stacks.borrow_mut().keep((address, size))) == Ok(true) {
        return 0;
    }
    // SAFETY: the caller's call.
    unsafe { syscall(SYS_munmap, address, size) as c_int }
}
