//! [`Region`]: a mapping that forked children inherit.

use std::{
    alloc::Layout,
    fmt, io,
    mem::ManuallyDrop,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    ptr::NonNull,
    sync::{Arc, Mutex},
};

use memmap2::MmapRaw;
use nix::unistd::{SysconfVar, sysconf};

use crate::{
    error::{HandleError, RegionError},
    os::map,
    primitive::{AtomicU32, Relaxed, owned_here, robust_support},
    region::{
        handle::{Handle, Row, SharedBytes},
        layout::{HEADER, MAX_ALIGN, RegionHeader},
        shareable::Shareable,
    },
};

/// Shared memory that forked children inherit and in which objects can be placed (`Lock::new_in(&region)`).
///
/// It is a sealed, fully allocated memfd: it cannot shrink under anybody, and touching it never fails. A clone is
/// another handle to the same memory. The memory goes when the last handle in the last process goes, whatever way
/// that process ends; there is no name to clean up.
///
/// # Examples
/// ```
/// let region = pshared::Region::anonymous(64 * 1024)?;
/// let lock = pshared::Lock::new_in(&region)?;
/// assert!(region.room() < 64 * 1024);
/// # Ok::<(), pshared::RegionError>(())
/// ```
///
/// # References
/// memfd_create(2), mmap(2); Python's `SharedMemory`, which has names and needs a tracker.
#[derive(Clone)]
pub struct Region(Arc<Mapping>);

struct Mapping {
    memory: ManuallyDrop<MmapRaw>,
    /// For whoever is sent the region. Not given away: a write through it would go past every lock.
    fd: OwnedFd,
    /// Where robust words of objects that this process placed stand. Only looked at when the mapping goes.
    robust: Mutex<Vec<usize>>,
}

// SAFETY: the memory is reached only through handles to types that synchronize themselves.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Region {
    /// A region of at least `size` bytes, rounded up to whole pages. It takes 128 of them for itself.
    ///
    /// All pages are allocated now: 0.6 ms per MiB at first touch.
    ///
    /// # Errors
    /// - [`RegionError::ZeroSize`], [`RegionError::TooLarge`]: no such size.
    /// - [`RegionError::OutOfMemory`]: more than the machine, or RLIMIT_FSIZE, can give.
    /// - [`RegionError::Os`]: what the system said: no descriptor left, no address space.
    pub fn anonymous(size: usize) -> Result<Region, RegionError> {
        if size == 0 {
            return Err(RegionError::ZeroSize);
        }
        robust_support().map_err(|source| RegionError::Os { call: "get_robust_list", need: size, source })?;
        let page_size = page_size();
        let whole = size.checked_next_multiple_of(page_size).filter(|&whole| whole <= isize::MAX as usize);
        let size = whole.ok_or(RegionError::TooLarge { need: size, limit: isize::MAX as usize })?;
        let refused = |map::Refusal { call, available, source }| match available {
            Some(available) => RegionError::OutOfMemory { need: size, available, source },
            None => RegionError::Os { call, need: size, source },
        };
        let fd = map::sealed_memfd(size).map_err(refused)?;
        let memory = ManuallyDrop::new(map::map_shared(&fd, size).map_err(refused)?);
        let region = Region(Arc::new(Mapping { memory, fd, robust: Mutex::new(Vec::new()) }));
        // SAFETY: the mapping is page-aligned and larger than a header; nobody else has it yet.
        unsafe { region.base().cast::<RegionHeader>().write(RegionHeader::new(size, page_size)) };
        region.header().finish();
        Ok(region)
    }

    /// Its size in bytes.
    pub fn size(&self) -> usize {
        self.0.memory.len()
    }

    /// The bytes that no object has been placed in.
    pub fn room(&self) -> usize {
        self.header().room(self.size())
    }

    /// Moves `value` into the region.
    pub(crate) fn place<T: Shareable>(&self, value: T) -> Result<Handle<T>, RegionError> {
        let offset = self.header().claim(Layout::new::<T>(), self.size())?;
        // SAFETY: `claim` gave these bytes to nobody else, in bounds and aligned.
        Ok(unsafe { self.put(value, offset) })
    }

    /// Moves `value` into the region, with `len` zero bytes behind it, aligned to `align` (8 to 128): both or neither.
    pub(crate) fn place_with_bytes<T: Shareable>(
        &self,
        value: T,
        len: usize,
        align: usize,
    ) -> Result<(Handle<T>, SharedBytes), RegionError> {
        debug_assert!((8..=MAX_ALIGN).contains(&align));
        let bytes = Layout::from_size_align(len, align);
        let both = bytes.and_then(|bytes| Layout::new::<T>().extend(bytes));
        let (both, behind) =
            both.map_err(|_| RegionError::TooLarge { need: len, limit: isize::MAX as usize })?;
        let offset = self.header().claim(both, self.size())?;
        // SAFETY: `claim` gave all of them to nobody else, in bounds and aligned; fresh pages are zero.
        Ok(unsafe {
            (self.put(value, offset), SharedBytes::new(self.clone(), self.base().add(offset + behind), len))
        })
    }

    /// Moves `value` into the region, and `len` of what `make` returns behind it: all or nothing.
    pub(crate) fn place_with_row<T: Shareable, S: Shareable>(
        &self,
        value: T,
        len: usize,
        make: impl Fn() -> S,
    ) -> Result<(Handle<T>, Row<S>), RegionError> {
        let both = Layout::array::<S>(len).and_then(|row| Layout::new::<T>().extend(row));
        let (both, behind) =
            both.map_err(|_| RegionError::TooLarge { need: usize::MAX, limit: isize::MAX as usize })?;
        let offset = self.header().claim(both, self.size())?;
        // SAFETY: `claim` gave all of them to nobody else, in bounds and aligned.
        Ok(unsafe {
            for place in 0..len {
                self.put(make(), offset + behind + place * size_of::<S>());
            }
            let first = self.base().add(offset + behind).cast();
            (self.put(value, offset), Row::new(self.clone(), first, len))
        })
    }

    /// # Safety
    /// The bytes at `offset` were claimed for a `T`.
    unsafe fn put<T: Shareable>(&self, value: T, offset: usize) -> Handle<T> {
        const { assert!(align_of::<T>() <= MAX_ALIGN && !std::mem::needs_drop::<T>()) };
        if let Ok(mut robust) = self.0.robust.lock() {
            robust.extend(T::ROBUST.iter().map(|word| offset + word));
        }
        // SAFETY: as the caller vouches; the handle keeps the region mapped.
        unsafe {
            let place = self.base().add(offset).cast::<T>();
            place.write(value);
            Handle::new(self.clone(), place)
        }
    }

    /// The region of a descriptor that another process of this program sent.
    pub(crate) fn attach(fd: OwnedFd) -> Result<Region, HandleError> {
        let refused = |call: &'static str| {
            move |error: io::Error| HandleError::Os { call, code: error.raw_os_error().unwrap_or(0) }
        };
        robust_support().map_err(refused("get_robust_list"))?;
        let size = map::sealed_size(&fd).map_err(refused("fstat"))?.ok_or(HandleError::Unknown)?;
        if size < HEADER {
            return Err(HandleError::Unknown);
        }
        let mapped = map::map_shared(&fd, size).map_err(|refusal| refused(refusal.call)(refusal.source))?;
        let memory = ManuallyDrop::new(mapped);
        let region = Region(Arc::new(Mapping { memory, fd, robust: Mutex::new(Vec::new()) }));
        if region.header().fits(size, page_size()) { Ok(region) } else { Err(HandleError::Unknown) }
    }

    /// Its descriptor, to be sent.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }

    /// Whether both are the same mapping.
    pub(crate) fn is(&self, other: &Region) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// How far a place in it lies behind its beginning.
    pub(crate) fn offset_of(&self, place: NonNull<u8>) -> usize {
        place.addr().get() - self.base().addr().get()
    }

    /// Where `len` of `T` lie from `offset` on, if they are in bounds and aligned; from now on they are objects of this
    /// process.
    pub(crate) fn adopt<T: Shareable>(&self, offset: usize, len: usize) -> Option<NonNull<T>> {
        let place = self.bytes_at(offset, size_of::<T>().checked_mul(len)?)?.cast::<T>();
        if !place.is_aligned() {
            return None;
        }
        if let Ok(mut robust) = self.0.robust.lock() {
            let starts = (0..len).map(|nth| offset + nth * size_of::<T>());
            robust.extend(starts.flat_map(|start| T::ROBUST.iter().map(move |word| start + word)));
        }
        Some(place)
    }

    /// Where `len` bytes lie from `offset` on, if they are in bounds.
    pub(crate) fn bytes_at(&self, offset: usize, len: usize) -> Option<NonNull<u8>> {
        let end = offset.checked_add(len)?;
        if offset < HEADER || end > self.size() {
            return None;
        }
        // SAFETY: in bounds of the mapping.
        Some(unsafe { self.base().add(offset) })
    }

    fn base(&self) -> NonNull<u8> {
        NonNull::new(self.0.memory.as_mut_ptr()).expect("a mapping is not at address 0")
    }

    fn header(&self) -> &RegionHeader {
        // SAFETY: every region begins with a header; it is shared by reference only after `anonymous` wrote it.
        unsafe { self.base().cast::<RegionHeader>().as_ref() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // A forgotten guard leaves its lock in this thread's robust list: the kernel must be able to walk over it, or
        // every lock that was taken before stays with the dead. So such memory stays mapped until the process ends.
        let held = match self.robust.get_mut() {
            Ok(words) => words.iter().any(|&offset| {
                // SAFETY: each offset is that of a robust word in this mapping, which is still mapped.
                let word = unsafe { &*self.memory.as_ptr().add(offset).cast::<AtomicU32>() };
                // ORDERING: Relaxed, our own thread's store is all that matters.
                owned_here(word.load(Relaxed))
            }),
            Err(_) => true,
        };
        if !held || crate::primitive::mutant(crate::primitive::Mutant::UnmapHeldLock) {
            // SAFETY: the value is not used again.
            unsafe { ManuallyDrop::drop(&mut self.memory) };
        }
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region").field("size", &self.size()).field("room", &self.room()).finish()
    }
}

fn page_size() -> usize {
    let size = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    size.and_then(|size| usize::try_from(size).ok()).unwrap_or(4096)
}

/// The bytes that a region must have to hold objects of `need` bytes, alignment included.
pub(crate) fn size_for(need: usize) -> usize {
    need.saturating_add(HEADER + MAX_ALIGN)
}
