//! The store: a memfd in which a slot has a stretch for what is too long for its plate, and another for its result.
//!
//! It is as long as it can ever be and has pages only where something was written. Whoever has a slot may write its
//! stretches. Up to some length that goes by a *window*, a mapping that each process makes for itself of the slots
//! that it has to do with, up to some number; the rest goes by system calls, as does all of a process whose address
//! space is limited: that is for its tasks.
//!
//! A machine without memory is an error and no signal: before the first byte is written through a window, the kernel
//! is asked for its pages, and says so if there are none. They stay until the parent gives a stretch back, which it
//! counts in the slot's `forgotten`: then they are asked for again. Source: madvise(2), MADV_POPULATE_WRITE.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::FileExt,
    },
    ptr::NonNull,
    sync::OnceLock,
};

use memmap2::MmapRaw;

use crate::{
    error::HandleError,
    os::map,
    pool::site::Side,
    primitive::{AtomicU32, AtomicU64, Buffer, Relaxed},
    region::{Packer, Portable, Unpacker},
};

/// Bytes of the store for each argument and each result.
const STRETCH: u64 = 1 << 36;

/// Bytes of a stretch that its window shows, and how many windows a process has at most.
const WINDOW: usize = 4 << 20;
const WINDOWS: u32 = 256;

/// Stretches whose windows stand together.
const GROUP: usize = 64;
type Group = [OnceLock<Option<Window>>; GROUP];

/// The first bytes of a stretch as memory of this process.
struct Window {
    buffer: Buffer,
    /// How many of its bytes have pages, and for which `forgotten`: in the lower half and the upper.
    known: AtomicU64,
    map: MmapRaw,
}

// SAFETY: a range of shared memory and its mapping; who has the slot touches it, and nobody else: see `board.rs`.
unsafe impl Send for Window {}
// SAFETY: as above.
unsafe impl Sync for Window {}

impl Window {
    fn new(file: &File, begin: u64) -> io::Result<Window> {
        if map::addresses_are_limited()? {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let map = map::map_part(file, begin, WINDOW)?;
        let base = NonNull::new(map.as_mut_ptr()).ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: the mapping is that long, aligned to a page, and kept in the same value.
        let buffer = unsafe { Buffer::new(base, WINDOW) };
        Ok(Window { buffer, known: AtomicU64::new(0), map })
    }

    /// Whether there are pages for so many bytes; `forgotten` is the slot's.
    fn has_pages(&self, len: usize, forgotten: u64) -> bool {
        // ORDERING: Relaxed, of this process alone, whose threads hand over the slot by a mutex.
        let known = self.known.load(Relaxed);
        let generation = forgotten << 32;
        if known >= generation + len as u64 && known >> 32 == generation >> 32 {
            return true;
        }
        let has = map::populate(&self.map, len).is_ok();
        if has {
            self.known.store(generation + len as u64, Relaxed);
        }
        has
    }
}

/// See the module.
pub(super) struct Store {
    file: File,
    stretch: u64,
    windows: Box<[OnceLock<Box<Group>>]>,
    /// How many were made.
    made: AtomicU32,
}

impl Store {
    pub(super) fn new(slots: usize) -> io::Result<Store> {
        // A limit on the length of files holds for this one, and would be told by a signal.
        let stretches = 2 * (slots as u64 + 1);
        let stretch = STRETCH.min(map::longest_file()? / stretches) & !4095;
        let file = File::from(map::growing_memfd(c"pshared-pool")?);
        file.set_len(stretch * stretches)?;
        Ok(Store::of(file, stretch, stretches as usize))
    }

    fn of(file: File, stretch: u64, stretches: usize) -> Store {
        let groups = (0..stretches.div_ceil(GROUP)).map(|_| OnceLock::new());
        Store { file, stretch, windows: groups.collect(), made: AtomicU32::new(0) }
    }

    /// The same, by another descriptor.
    pub(super) fn try_clone(&self) -> io::Result<Store> {
        Ok(Store::of(self.file.try_clone()?, self.stretch, self.windows.len() * GROUP))
    }

    fn begin(&self, side: Side, slot: usize) -> u64 {
        self.stretch * (2 * slot as u64 + side as u64)
    }

    /// The window of a stretch, if it shows so many bytes.
    fn window(&self, side: Side, slot: usize, len: usize) -> Option<&Window> {
        let place = 2 * slot + side as usize;
        let group = self.windows.get(place / GROUP);
        let group = group.filter(|_| len <= WINDOW && self.stretch >= WINDOW as u64)?;
        let place = &group.get_or_init(|| Box::new([const { OnceLock::new() }; GROUP]))[place % GROUP];
        // What could not be mapped once is not tried again.
        let make = || {
            // ORDERING: Relaxed, a count.
            let is_one_too_many = self.made.fetch_add(1, Relaxed) >= WINDOWS;
            (!is_one_too_many).then(|| Window::new(&self.file, self.begin(side, slot)).ok()).flatten()
        };
        place.get_or_init(make).as_ref()
    }

    /// Writes to a stretch of the caller's, which was given back so many times.
    pub(super) fn write(&self, side: Side, slot: usize, bytes: &[u8], forgotten: u64) -> io::Result<()> {
        if bytes.len() as u64 > self.stretch {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let window = self.window(side, slot, bytes.len());
        if let Some(window) = window.filter(|window| window.has_pages(bytes.len(), forgotten)) {
            window.buffer.write(0, bytes);
            return Ok(());
        }
        self.file.write_all_at(bytes, self.begin(side, slot))
    }

    /// What was written, if it is to be seen through a window.
    pub(super) fn view(&self, side: Side, slot: usize, len: usize) -> Option<&Buffer> {
        Some(&self.window(side, slot, len)?.buffer)
    }

    pub(super) fn read(&self, side: Side, slot: usize, bytes: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(bytes, self.begin(side, slot))
    }

    /// Gives the memory of a slot's stretch back.
    pub(super) fn forget(&self, side: Side, slot: usize) {
        // What cannot be given back now is written over by the next, or goes with the pool.
        let _ = map::punch(&self.file, self.begin(side, slot), self.stretch);
    }
}

impl Portable for Store {
    fn pack(&self, packer: &mut Packer<'_>) -> Result<(), HandleError> {
        packer.file(self.file.as_fd())?;
        packer.number(self.stretch)?;
        packer.number((self.windows.len() * GROUP) as u64)
    }

    fn unpack(unpacker: &mut Unpacker<'_>) -> Result<Store, HandleError> {
        let file: OwnedFd = unpacker.file()?;
        let stretch = unpacker.number()?;
        Ok(Store::of(file.into(), stretch, unpacker.size()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(store: &Store, side: Side, slot: usize, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        store.read(side, slot, &mut bytes).unwrap();
        bytes
    }

    fn seen(store: &Store, side: Side, slot: usize, len: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        store.view(side, slot, len).unwrap().read_onto(0, &mut bytes, len).unwrap();
        bytes
    }

    #[test]
    fn a_window_shows_what_the_file_has() {
        let store = Store::new(4).unwrap();
        let other = store.try_clone().unwrap();
        for (slot, side, byte) in [(0, Side::Argument, 1), (0, Side::Result, 2), (3, Side::Argument, 3)] {
            store.write(side, slot, &[byte; 5000], 0).unwrap();
            assert_eq!(seen(&other, side, slot, 5000), [byte; 5000]);
            assert_eq!(read(&other, side, slot, 5000), [byte; 5000]);
        }
        assert_eq!(seen(&store, Side::Argument, 0, 5000), [1; 5000]);
    }

    #[test]
    fn what_is_too_long_or_too_far_goes_by_the_file() {
        let store = Store::new(200).unwrap();
        let long = vec![7; WINDOW + 1];
        store.write(Side::Argument, 0, &long, 0).unwrap();
        assert!(store.view(Side::Argument, 0, long.len()).is_none());
        assert_eq!(read(&store, Side::Argument, 0, long.len()), long);
        // All windows but one are for others, and then none is left.
        (0..WINDOWS as usize / 2).for_each(|slot| _ = store.window(Side::Argument, slot, 1));
        (0..WINDOWS as usize / 2 - 1).for_each(|slot| _ = store.window(Side::Result, slot, 1));
        for (slot, has_one) in [(190, true), (191, false)] {
            store.write(Side::Result, slot, &[8; 100], 0).unwrap();
            assert_eq!(store.view(Side::Result, slot, 100).is_some(), has_one);
            assert_eq!(read(&store, Side::Result, slot, 100), [8; 100]);
        }
        let too_long = Store { stretch: 4096, ..store }.write(Side::Argument, 0, &long, 0);
        assert_eq!(too_long.unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn pages_that_were_given_back_are_asked_for_again() {
        let blocks = |store: &Store| {
            use std::os::linux::fs::MetadataExt;
            store.file.metadata().unwrap().st_blocks()
        };
        let store = Store::new(4).unwrap();
        assert_eq!(blocks(&store), 0);
        let window = store.window(Side::Argument, 1, 10_000).unwrap();
        assert!(window.has_pages(10_000, 0));
        let some = blocks(&store);
        assert!(some > 0);
        store.forget(Side::Argument, 1);
        assert_eq!(blocks(&store), 0);
        // It is known to have them, until it is told.
        assert!(window.has_pages(10_000, 0));
        assert_eq!(blocks(&store), 0);
        assert!(window.has_pages(10_000, 1));
        assert_eq!(blocks(&store), some);
    }
}
