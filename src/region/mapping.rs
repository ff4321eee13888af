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
            #[cfg(all(feature = "testing", target_arch = "x86_64"))]
            crate::region::names::note(place.as_ptr());
            Handle::new(self.clone(), place)
        }
    }

    /// The region of a descriptor that another process of this program sent.
    pub(crate) fn attach(fd: OwnedFd) -> Result<Region, HandleError> {
        let refused = |call: &'static str| {
            move |error: io::Error| HandleError::Os { call, code: error.raw_os_error().unwrap_or(0) }
        };
        robust_support().map_err(refused("get_robust_list"))?;
        let no_region = |(what, found, expected)| HandleError::NoRegion { what, found, expected };
        let (size, seals) = map::size_and_seals(&fd).map_err(refused("fstat"))?;
        if seals & map::SIZE_SEALS != map::SIZE_SEALS {
            return Err(no_region(("set of seals", seals.into(), map::SIZE_SEALS.into())));
        }
        if size < HEADER {
            return Err(no_region(("size", size as u64, HEADER as u64)));
        }
        let mapped = map::map_shared(&fd, size).map_err(|refusal| refused(refusal.call)(refusal.source))?;
        let memory = ManuallyDrop::new(mapped);
        let region = Region(Arc::new(Mapping { memory, fd, robust: Mutex::new(Vec::new()) }));
        region.header().check(size, page_size()).map_err(no_region)?;
        Ok(region)
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

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        os::{fd::AsRawFd, unix::fs::FileExt},
    };

    use nix::{
        fcntl::{FcntlArg, SealFlag, fcntl},
        libc,
        sys::memfd::{MFdFlags, memfd_create},
        unistd::ftruncate,
    };

    use super::*;

    /// A memfd of `size` bytes with these seals.
    fn memfd(size: usize, seals: SealFlag) -> OwnedFd {
        let fd = memfd_create(c"test", MFdFlags::MFD_ALLOW_SEALING).unwrap();
        ftruncate(&fd, size as i64).unwrap();
        fcntl(&fd, FcntlArg::F_ADD_SEALS(seals)).unwrap();
        fd
    }

    fn why(fd: impl Into<OwnedFd>) -> HandleError {
        Region::attach(fd.into()).expect_err("no region")
    }

    const SIZE: SealFlag = SealFlag::F_SEAL_SHRINK.union(SealFlag::F_SEAL_GROW);

    #[test]
    fn what_is_no_sealed_memory_is_refused() {
        let (reader, writer) = io::pipe().unwrap();
        let file = File::open("/proc/self/exe").unwrap();
        let null = File::options().read(true).write(true).open("/dev/null").unwrap();
        for fd in [OwnedFd::from(reader), writer.into(), file.into(), null.into()] {
            assert_eq!(why(fd), HandleError::Os { call: "fstat", code: libc::EINVAL });
        }
        let refused = why(memfd(4096, SIZE | SealFlag::F_SEAL_WRITE));
        assert_eq!(refused, HandleError::Os { call: "mmap", code: libc::EPERM });
    }

    #[test]
    fn what_can_shrink_or_grow_is_refused_with_its_seals() {
        for seals in
            [SealFlag::empty(), SealFlag::F_SEAL_SHRINK, SealFlag::F_SEAL_GROW, SealFlag::F_SEAL_SEAL]
        {
            let (found, expected) = (seals.bits() as u64, SIZE.bits() as u64);
            let refused = why(memfd(4096, seals));
            assert_eq!(refused, HandleError::NoRegion { what: "set of seals", found, expected });
        }
    }

    #[test]
    fn what_is_too_small_is_refused_with_its_size() {
        for size in [0, 1, 127] {
            let refused = why(memfd(size, SIZE));
            assert_eq!(refused, HandleError::NoRegion { what: "size", found: size as u64, expected: 128 });
            let said = format!("no region of this program: its size is {size}, where 128 is needed");
            assert_eq!(refused.to_string(), said);
        }
    }

    #[test]
    fn every_field_of_the_header_is_judged() {
        let names = ["magic number", "layout version", "pointer width", "page size", "size in the header"];
        for (at, len, name) in
            [(0, 8, names[0]), (8, 4, names[1]), (12, 4, names[2]), (16, 8, names[3]), (24, 8, names[4])]
        {
            for garbage in [0_u64, 7, u64::MAX] {
                let region = Region::anonymous(8192).unwrap();
                let file = File::from(region.descriptor().try_clone_to_owned().unwrap());
                file.write_all_at(&garbage.to_le_bytes()[..len], at).unwrap();
                match why(file) {
                    HandleError::NoRegion { what, found, expected } => {
                        assert!(
                            what == name && found != expected && found as u32 == garbage as u32,
                            "{what}"
                        );
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        // How much is given away is anybody's guess, and judged at every claim.
        let region = Region::anonymous(8192).unwrap();
        let file = File::from(region.descriptor().try_clone_to_owned().unwrap());
        file.write_all_at(&u64::MAX.to_le_bytes(), 32).unwrap();
        let attached = Region::attach(file.into()).unwrap();
        assert_eq!((attached.size(), attached.room()), (8192, 0));
    }

    #[test]
    fn the_file_is_its_users_alone() {
        let region = Region::anonymous(4096).unwrap();
        // SAFETY: an all-zero stat is a valid one; a descriptor that the region holds, and a stat of ours to write to.
        let mode = unsafe {
            let mut found: libc::stat = std::mem::zeroed();
            assert_eq!(libc::fstat(region.descriptor().as_raw_fd(), &mut found), 0);
            found.st_mode
        };
        assert_eq!(mode & 0o7777, 0o600);
    }
}
