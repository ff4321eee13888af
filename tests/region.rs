//! What `Region` promises: bad sizes and empty machines give typed errors, and nothing leaks.

mod support;

use std::{error::Error, fs, mem, os::fd::AsRawFd, process::ExitCode, thread, time::Duration};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, SealFlag, fcntl},
    libc,
    sys::resource::{Resource, getrlimit, setrlimit},
    unistd::{ftruncate, write},
};
use pshared::{Lock, LockError, Region, RegionError};
use support::{descriptors, fork_child, page::Page, the_memfd, until};

fn main() -> ExitCode {
    support::main(support::tests![
        a_region_has_whole_pages_and_its_figures_add_up,
        no_bytes_and_too_many_bytes_are_typed_errors,
        more_than_the_machine_has_is_refused_with_figures,
        a_file_size_limit_is_an_error_and_not_a_signal,
        a_file_size_limit_that_suffices_is_no_obstacle,
        an_address_space_limit_is_a_typed_error,
        a_process_without_a_free_descriptor_gets_a_typed_error,
        a_full_region_names_the_figures,
        a_full_region_stays_full_and_usable,
        many_objects_share_one_mapping,
        a_hundred_thousand_locks_take_few_mappings_and_descriptors,
        a_forked_child_is_never_given_bytes_that_its_parent_has,
        children_that_place_objects_at_once_never_share_bytes,
        children_of_the_arena_never_share_bytes,
        a_child_killed_while_placing_leaves_the_region_usable,
        the_memfd_is_sealed_against_every_change_of_size,
        the_memfd_is_closed_on_exec,
        memory_goes_with_the_last_handle,
        a_thread_that_ends_takes_its_arena_along,
        memory_outlives_the_process_that_made_it,
        debug_output_tells_size_and_room,
    ])
}

/// What a process has of this crate's: descriptors of any kind, mappings of a region.
fn possessions() -> (usize, usize) {
    let maps = fs::read_to_string("/proc/self/maps").expect("maps");
    (descriptors(), maps.lines().filter(|line| line.contains("memfd:pshared")).count())
}

/// Sets the soft limit of `resource` while `body` runs.
fn under_limit<T>(resource: Resource, limit: u64, body: impl FnOnce() -> T) -> T {
    let (soft, hard) = getrlimit(resource).unwrap();
    setrlimit(resource, limit, hard).unwrap();
    let result = body();
    setrlimit(resource, soft, hard).unwrap();
    result
}

/// Where in its region a lock stands, as far as a test can see: in its handle's first pointer into the mapping.
fn place_of(lock: &Lock) -> usize {
    let _guard = lock.try_lock().expect("a fresh lock");
    let me = nix::unistd::gettid().as_raw() as u32;
    let maps = fs::read_to_string("/proc/self/maps").expect("maps");
    let ranges = maps.lines().filter(|line| line.contains("memfd:pshared"));
    for line in ranges {
        let (start, rest) = line.split_once('-').expect("a range");
        let end = rest.split_once(' ').expect("a range").0;
        let (start, end) = (address(start), address(end));
        for place in (start..end).step_by(4) {
            // SAFETY: mapped and aligned; volatile, since peers may write.
            if unsafe { (place as *const u32).read_volatile() } == me {
                return place;
            }
        }
    }
    panic!("no word holds thread {me}");
}

fn address(hex: &str) -> usize {
    usize::from_str_radix(hex, 16).expect("an address")
}

fn a_region_has_whole_pages_and_its_figures_add_up() {
    for size in [1, 128, 4095, 4096, 4097, 100_000, 20 << 20] {
        let region = Region::anonymous(size).unwrap();
        assert_eq!(region.size(), size.next_multiple_of(4096));
        assert_eq!(region.room(), region.size() - 128);
    }
}

fn no_bytes_and_too_many_bytes_are_typed_errors() {
    drop(Region::anonymous(1).unwrap());
    let before = possessions();
    assert!(matches!(Region::anonymous(0), Err(RegionError::ZeroSize)));
    let largest = isize::MAX as usize;
    for size in [usize::MAX, usize::MAX - 4095, largest + 1, largest] {
        match Region::anonymous(size) {
            Err(error @ RegionError::TooLarge { need, limit }) => {
                assert_eq!((need, limit), (size, largest));
                assert_eq!(error.to_string(), format!("too large: need {size} bytes, limit is {largest}"));
            }
            other => panic!("{size}: {other:?}"),
        }
    }
    let pages = largest / 4096 * 4096;
    assert!(matches!(Region::anonymous(pages), Err(RegionError::OutOfMemory { .. })));
    assert_eq!(possessions(), before);
}

fn more_than_the_machine_has_is_refused_with_figures() {
    drop(Region::anonymous(1).unwrap());
    let before = possessions();
    let all = fs::read_to_string("/proc/meminfo").unwrap();
    let kib = |name: &str| -> usize {
        let line = all.lines().find(|line| line.starts_with(name)).expect("a field");
        line.split_ascii_whitespace().nth(1).expect("a figure").parse().expect("a number")
    };
    let machine = (kib("MemTotal:") + kib("SwapTotal:")) << 10;
    for size in [machine + (1 << 30), 1 << 45, 1 << 62] {
        match Region::anonymous(size) {
            Err(error @ RegionError::OutOfMemory { need, available, .. }) => {
                assert_eq!(need, size.next_multiple_of(4096));
                assert!(available > 0 && available <= machine as u64);
                let text = format!("not enough memory: need {need} bytes, {available} available");
                assert_eq!(error.to_string(), text);
                assert!(error.source().is_some());
            }
            other => panic!("{size}: {other:?}"),
        }
    }
    assert_eq!(possessions(), before);
    drop(Region::anonymous(1 << 20).unwrap());
}

fn a_file_size_limit_is_an_error_and_not_a_signal() {
    drop(Region::anonymous(1).unwrap());
    let before = possessions();
    under_limit(Resource::RLIMIT_FSIZE, 64 << 10, || {
        match Region::anonymous((64 << 10) + 1) {
            Err(RegionError::OutOfMemory { need, available, .. }) => {
                assert_eq!((need, available), (68 << 10, 64 << 10));
            }
            other => panic!("{other:?}"),
        }
        drop(Region::anonymous(64 << 10).unwrap());
    });
    under_limit(Resource::RLIMIT_FSIZE, 0, || {
        assert!(matches!(Region::anonymous(1), Err(RegionError::OutOfMemory { available: 0, .. })));
    });
    assert_eq!(possessions(), before);
}

fn a_file_size_limit_that_suffices_is_no_obstacle() {
    let lock = under_limit(Resource::RLIMIT_FSIZE, 64 << 10, || Lock::new().unwrap());
    drop(lock.lock().unwrap());
}

fn an_address_space_limit_is_a_typed_error() {
    drop(Region::anonymous(1).unwrap());
    let before = possessions();
    under_limit(Resource::RLIMIT_AS, 256 << 20, || match Region::anonymous(300 << 20) {
        Err(error @ RegionError::Os { call: "mmap", .. }) => {
            let source = error.source().expect("the system's word").to_string();
            assert!(source.contains("emory"), "{source}");
            assert_eq!(error.to_string(), format!("mmap failed for {} bytes", 300 << 20));
        }
        // A machine that has not even that much says so before.
        Err(RegionError::OutOfMemory { .. }) => {}
        other => panic!("{other:?}"),
    });
    assert_eq!(possessions(), before);
}

fn a_process_without_a_free_descriptor_gets_a_typed_error() {
    drop(Region::anonymous(1).unwrap());
    let before = possessions();
    let in_use = before.0 as u64;
    under_limit(Resource::RLIMIT_NOFILE, 3, || match Region::anonymous(1) {
        Err(RegionError::Os { call: "memfd_create", source, .. }) => {
            assert_eq!(source.raw_os_error(), Some(Errno::EMFILE as i32));
        }
        other => panic!("{other:?}"),
    });
    assert_eq!(possessions(), before);
    // The same by using them up, and with objects of the arena.
    under_limit(Resource::RLIMIT_NOFILE, in_use + 20, || {
        let mut regions = Vec::new();
        let error = loop {
            match Region::anonymous(4096) {
                Ok(region) => regions.push(region),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, RegionError::Os { call: "memfd_create", .. }), "{error:?}");
        assert!(matches!(Lock::new(), Err(RegionError::Os { .. })));
    });
    assert_eq!(possessions(), before);
    drop(Lock::new().unwrap());
}

fn a_full_region_names_the_figures() {
    let region = Region::anonymous(4096).unwrap();
    let locks: Vec<Lock> = (0..31).map(|_| Lock::new_in(&region).unwrap()).collect();
    assert_eq!(region.room(), 0);
    match Lock::new_in(&region) {
        Err(error @ RegionError::NoRoom { need: 128, have: 0 }) => {
            assert_eq!(error.to_string(), "no room in the region: need 128 bytes, have 0");
        }
        other => panic!("{other:?}"),
    }
    assert!(locks.iter().all(|lock| lock.try_lock().is_ok()));
}

fn a_full_region_stays_full_and_usable() {
    let region = Region::anonymous(4096).unwrap();
    let locks: Vec<Lock> = std::iter::from_fn(|| Lock::new_in(&region).ok()).collect();
    for _ in 0..100 {
        assert!(matches!(Lock::new_in(&region), Err(RegionError::NoRoom { .. })));
    }
    drop(locks);
    assert!(matches!(Lock::new_in(&region), Err(RegionError::NoRoom { .. })), "space is never taken back");
}

fn many_objects_share_one_mapping() {
    const COUNT: usize = 20_000;
    let region = Region::anonymous(128 * (COUNT + 1)).unwrap();
    let before = possessions();
    let locks: Vec<Lock> = (0..COUNT).map(|_| Lock::new_in(&region).unwrap()).collect();
    assert_eq!(possessions(), before);
    let guard = locks[COUNT / 2].lock().unwrap();
    let free = locks.iter().filter(|lock| lock.try_lock().is_ok()).count();
    assert_eq!(free, COUNT - 1);
    drop(guard);
}

fn a_hundred_thousand_locks_take_few_mappings_and_descriptors() {
    let before = possessions();
    let locks: Vec<Lock> = (0..100_000).map(|_| Lock::new().unwrap()).collect();
    let after = possessions();
    assert!(after.0 - before.0 <= 16 && after.1 - before.1 <= 16, "{before:?} before, {after:?} after");
    drop(locks);
    let left = possessions();
    assert!(
        left.1 <= before.1 + 1,
        "{before:?} before, {left:?} left: the arena's last region alone may stay"
    );
}

fn a_forked_child_is_never_given_bytes_that_its_parent_has() {
    let region = Region::anonymous(64 << 10).unwrap();
    let page = Page::new();
    let first = Lock::new_in(&region).unwrap();
    let child = fork_child(|| {
        let theirs = Lock::new_in(&region).unwrap();
        page.set(0, (place_of(&theirs) & 0xffff_ffff) as u32);
        let guard = theirs.lock().unwrap();
        page.set(1, 1);
        until(|| page.get(1) == 2);
        drop(guard);
        assert!(theirs.try_lock().is_ok(), "somebody else wrote into the child's lock");
    });
    until(|| page.get(1) == 1);
    let second = Lock::new_in(&region).unwrap();
    let places = [&first, &second].map(|lock| (place_of(lock) & 0xffff_ffff) as u32);
    assert!(!places.contains(&page.get(0)), "{places:x?} and {:x}", page.get(0));
    page.set(1, 2);
    child.join_ok();
    // What the child took is gone for the parent too.
    assert_eq!(region.room(), region.size() - 4 * 128);
}

fn children_that_place_objects_at_once_never_share_bytes() {
    const EACH: usize = 200;
    let region = Region::anonymous(128 * (4 * EACH + 1)).unwrap();
    let page = Page::new();
    let children: Vec<_> = (0..4)
        .map(|_| {
            fork_child(|| {
                let mut locks = Vec::new();
                for _ in 0..EACH {
                    let lock = Lock::new_in(&region).unwrap();
                    mem::forget(lock.try_lock().expect("bytes that nobody has"));
                    locks.push(lock);
                }
                page.add(0, 1);
                until(|| page.get(0) == 4);
            })
        })
        .collect();
    children.into_iter().for_each(support::Child::join_ok);
    assert_eq!(region.room(), 4096 - 128 * (4 * EACH + 1) % 4096);
}

fn children_of_the_arena_never_share_bytes() {
    let page = Page::new();
    let inherited = Lock::new().unwrap();
    let children: Vec<_> = (0..4)
        .map(|_| {
            fork_child(|| {
                let locks: Vec<Lock> = (0..50).map(|_| Lock::new().unwrap()).collect();
                for lock in &locks {
                    mem::forget(lock.try_lock().expect("bytes that nobody has"));
                }
                page.add(0, 1);
                until(|| page.get(0) == 5);
            })
        })
        .collect();
    let own: Vec<Lock> = (0..50).map(|_| Lock::new().unwrap()).collect();
    let guards: Vec<_> = own.iter().map(|lock| lock.try_lock().expect("bytes that nobody has")).collect();
    page.add(0, 1);
    children.into_iter().for_each(support::Child::join_ok);
    drop(guards);
    drop(inherited.lock().unwrap());
}

fn a_child_killed_while_placing_leaves_the_region_usable() {
    let region = Region::anonymous(1 << 20).unwrap();
    for round in 0..50 {
        let child = fork_child(|| while Lock::new_in(&region).is_ok() {});
        thread::sleep(Duration::from_micros(10 * round));
        let _ = nix::sys::signal::kill(child.pid(), nix::sys::signal::Signal::SIGKILL);
        let _ = child.join();
        match Lock::new_in(&region) {
            Ok(lock) => drop(lock.try_lock().expect("bytes that nobody has")),
            Err(error) => return assert!(matches!(error, RegionError::NoRoom { .. }), "{error:?}"),
        }
    }
}

fn the_memfd_is_sealed_against_every_change_of_size() {
    let region = Region::anonymous(64 << 10).unwrap();
    for size in [0, 4096, 128 << 10] {
        assert_eq!(ftruncate(the_memfd(&region), size), Err(Errno::EPERM));
    }
    let length = fs::metadata(format!("/proc/self/fd/{}", the_memfd(&region).as_raw_fd())).unwrap().len();
    assert_eq!(length, 64 << 10);
    let added = fcntl(the_memfd(&region), FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE));
    assert_eq!(added, Err(Errno::EPERM), "nobody can add a seal that forbids writing");
    // SAFETY: lseek(2) on a descriptor of ours.
    unsafe { libc::lseek(the_memfd(&region).as_raw_fd(), 0, libc::SEEK_END) };
    assert_eq!(write(the_memfd(&region), b"x"), Err(Errno::EPERM), "nor can a write make it grow");
}

fn the_memfd_is_closed_on_exec() {
    let region = Region::anonymous(4096).unwrap();
    let flags = fcntl(the_memfd(&region), FcntlArg::F_GETFD).unwrap();
    assert_ne!(flags & libc::FD_CLOEXEC, 0);
}

fn memory_goes_with_the_last_handle() {
    let before = possessions();
    let region = Region::anonymous(1 << 20).unwrap();
    assert_eq!(possessions(), (before.0 + 1, before.1 + 1));
    let clone = region.clone();
    let lock = Lock::new_in(&clone).unwrap();
    let other = lock.clone();
    drop((region, clone, lock));
    assert_eq!(possessions(), (before.0 + 1, before.1 + 1), "the last lock keeps it");
    drop(other.lock().unwrap());
    drop(other);
    assert_eq!(possessions(), before);
}

fn a_thread_that_ends_takes_its_arena_along() {
    drop(Lock::new().unwrap());
    let before = possessions();
    for _ in 0..100 {
        thread::spawn(|| drop(Lock::new().unwrap().lock().unwrap())).join().unwrap();
    }
    assert_eq!(possessions(), before);
}

fn memory_outlives_the_process_that_made_it() {
    let page = Page::new();
    // A child makes the region, forks a child of its own and dies; that one is ours to reap.
    let maker = fork_child(|| {
        let lock = Lock::new().unwrap();
        mem::forget(lock.lock().unwrap());
        let heir = fork_child(|| {
            assert!(matches!(lock.lock(), Err(LockError::OwnerDied(_))));
            assert!(matches!(lock.try_lock(), Err(LockError::OwnerDied(_))));
            page.set(0, 1);
        });
        mem::forget(heir);
    });
    maker.join_ok();
    nix::sys::wait::waitpid(None, None).unwrap();
    assert_eq!(page.get(0), 1);
}

fn debug_output_tells_size_and_room() {
    let region = Region::anonymous(4096).unwrap();
    assert_eq!(format!("{region:?}"), "Region { size: 4096, room: 3968 }");
}
