//! Shared memory that cannot shrink, move or fail later: a sealed memfd, fully allocated, mapped MAP_SHARED.
//!
//! `ftruncate` on a full tmpfs succeeds and the first touch is a SIGBUS; `fallocate` says ENOSPC at once. A memfd
//! has no size limit of its own, so a size that the machine does not have is refused before the kernel is asked to
//! find the pages: asking would call in the OOM killer, and RLIMIT_FSIZE would send SIGXFSZ.
//!
//! Sources: memfd_create(2), fallocate(2), fcntl(2) on seals, proc_meminfo(5).

use std::{
    ffi::CStr,
    fs::{self, File},
    hint::black_box,
    io, mem,
    os::{
        fd::{AsRawFd, BorrowedFd, OwnedFd},
        linux::fs::MetadataExt,
    },
    path::Path,
};

use memmap2::{Advice, MmapOptions, MmapRaw};
use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl},
    libc,
    sys::{
        memfd::{MFdFlags, memfd_create},
        resource::{Resource, getrlimit},
        stat::{Mode, fchmod},
    },
};

/// Above this size the figures of the machine are looked up first: below, the look-up would cost more than it saves.
const ASK_FIRST: usize = 16 << 20;

/// What one fallocate(2) is asked for: a few milliseconds of it.
const PIECE: usize = 4 << 20;

/// Why memory could not be had. `available` is in bytes, and known for what is refused before the kernel is asked.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) call: &'static str,
    pub(crate) available: Option<u64>,
    pub(crate) source: io::Error,
}

/// A memfd of `size` bytes, all zero, all there, sealed against every change of size.
pub(crate) fn sealed_memfd(size: usize) -> Result<OwnedFd, Refusal> {
    fits_the_machine(size)?;
    let failed =
        |call: &'static str| move |error: Errno| Refusal { call, available: None, source: error.into() };
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let fd = memfd_create(c"pshared", flags).map_err(failed("memfd_create"))?;
    // Whoever has the descriptor has the memory; by its place in /proc no other user is to get it.
    fchmod(&fd, Mode::S_IRUSR | Mode::S_IWUSR).map_err(failed("fchmod"))?;
    // In pieces: a signal makes some kernels undo a whole call, and a timer could do so for ever.
    for start in (0..size).step_by(PIECE) {
        let (start, length) = (start as libc::off_t, PIECE.min(size - start) as libc::off_t);
        while let Err(error) = fallocate(&fd, FallocateFlags::empty(), start, length) {
            if error != Errno::EINTR {
                return Err(failed("fallocate")(error));
            }
        }
    }
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&fd, FcntlArg::F_ADD_SEALS(seals)).map_err(failed("fcntl(F_ADD_SEALS)"))?;
    Ok(fd)
}

/// The seals without which a file can change its size.
pub(crate) const SIZE_SEALS: u32 = (libc::F_SEAL_SHRINK | libc::F_SEAL_GROW) as u32;

/// The size of a file, and its seals.
pub(crate) fn size_and_seals(fd: &OwnedFd) -> io::Result<(usize, u32)> {
    let seals = fcntl(fd, FcntlArg::F_GET_SEALS)?;
    let size = File::from(fd.try_clone()?).metadata()?.st_size();
    Ok((size as usize, seals as u32))
}

/// Which file that is, whatever its descriptor's number: device and inode.
pub(crate) fn file_number(file: BorrowedFd<'_>) -> io::Result<(u64, u64)> {
    let found = status(file.as_raw_fd())?;
    #[allow(clippy::unnecessary_cast, reason = "other machines number them by other types")]
    Ok((found.st_dev as u64, found.st_ino as u64))
}

/// Whether /dev/null is open under that number.
pub(crate) fn is_the_null_device(descriptor: i32) -> bool {
    let device = libc::makedev(1, 3);
    status(descriptor)
        .is_ok_and(|found| found.st_mode & libc::S_IFMT == libc::S_IFCHR && found.st_rdev == device)
}

fn status(descriptor: i32) -> io::Result<libc::stat> {
    // By a path that our stack holds: libc's own lies in a page that each forked child would have to map.
    let path = [0_u8];
    // SAFETY: an all-zero stat is a valid one; a string and a stat of ours. The kernel checks the number.
    unsafe {
        let mut found: libc::stat = mem::zeroed();
        let path = black_box(&path).as_ptr().cast();
        Errno::result(libc::fstatat(descriptor, path, &mut found, libc::AT_EMPTY_PATH))?;
        Ok(found)
    }
}

/// An empty memfd that grows as it is written to.
pub(crate) fn growing_memfd(name: &CStr) -> io::Result<OwnedFd> {
    Ok(memfd_create(name, MFdFlags::MFD_CLOEXEC)?)
}

/// How long a file of this process may become.
pub(crate) fn longest_file() -> io::Result<u64> {
    Ok(getrlimit(Resource::RLIMIT_FSIZE)?.0.min(i64::MAX as u64))
}

/// Whether this process may have only so much mapped.
pub(crate) fn addresses_are_limited() -> io::Result<bool> {
    Ok(getrlimit(Resource::RLIMIT_AS)?.0 != libc::RLIM_INFINITY)
}

/// Gives the pages of a range back: it reads as zeroes from now on.
pub(crate) fn punch(file: &File, start: u64, length: u64) -> io::Result<()> {
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    Ok(fallocate(file, flags, start as libc::off_t, length as libc::off_t)?)
}

/// Maps `size` bytes of `file` from `start` on, readable, writable and shared.
pub(crate) fn map_part(file: &File, start: u64, size: usize) -> io::Result<MmapRaw> {
    MmapOptions::new().offset(start).len(size).map_raw(file.as_raw_fd())
}

/// Has pages for the first `size` bytes, which are the caller's to write; an error if there is no memory for them.
pub(crate) fn populate(map: &MmapRaw, size: usize) -> io::Result<()> {
    map.advise_range(Advice::PopulateWrite, 0, size.min(map.len()))
}

/// Maps the first `size` bytes of `fd`, readable, writable and shared.
pub(crate) fn map_shared(fd: &OwnedFd, size: usize) -> Result<MmapRaw, Refusal> {
    MmapOptions::new().len(size).map_raw(fd.as_raw_fd()).map_err(|source| Refusal {
        call: "mmap",
        available: None,
        source,
    })
}

/// Refuses what would end in a signal: more than RLIMIT_FSIZE, or more than the machine can still give.
fn fits_the_machine(size: usize) -> Result<(), Refusal> {
    let need = size as u64;
    if let Ok((limit, _)) = getrlimit(Resource::RLIMIT_FSIZE)
        && need > limit
    {
        let source = Errno::EFBIG.into();
        return Err(Refusal { call: "RLIMIT_FSIZE", available: Some(limit), source });
    }
    if size >= ASK_FIRST
        && let Some(available) = memory_available().into_iter().chain(cgroup_available()).min()
        && need > available
    {
        let source = Errno::ENOMEM.into();
        return Err(Refusal { call: "MemAvailable", available: Some(available), source });
    }
    Ok(())
}

/// MemAvailable and free swap, in bytes: what the kernel thinks it can give without calling in the OOM killer.
fn memory_available() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let field = |name: &str| -> Option<u64> {
        let line = text.lines().find(|line| line.starts_with(name))?;
        let kib: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
        Some(kib << 10)
    };
    Some(field("MemAvailable:")? + field("SwapFree:").unwrap_or(0))
}

/// What the memory limits of this process's cgroup and those above it still allow, in bytes, where there are any.
fn cgroup_available() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let number = |file: String| -> Option<u64> { fs::read_to_string(file).ok()?.trim().parse().ok() };
    let left = |group: &Path| {
        let group = group.display();
        let limit = number(format!("/sys/fs/cgroup{group}/memory.max"))?;
        Some(limit.saturating_sub(number(format!("/sys/fs/cgroup{group}/memory.current"))?))
    };
    Path::new(own).ancestors().filter_map(left).min()
}
