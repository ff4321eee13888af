//! What `Value`, `Atomic` and `Array` promise, with really forked children.

mod support;

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    time::{Duration, Instant},
};

use bytemuck::{Pod, Zeroable};
use pshared::{Array, ArrayError, Atomic, LockError, Region, RegionError, Value};
use support::{fork_child, until};

fn main() -> ExitCode {
    support::main(support::tests![
        a_child_sets_what_the_parent_reads,
        values_of_every_size_come_back_as_they_were,
        updates_of_many_processes_all_count,
        a_value_is_never_torn_by_random_kills,
        readers_do_not_wait_for_a_lock_holder,
        a_value_guard_commits_when_dropped,
        a_value_guard_that_panics_or_is_discarded_changes_nothing,
        a_killed_holder_of_a_value_leaves_the_old_one_and_no_trace,
        a_value_guard_copied_by_a_fork_does_nothing,
        a_value_locked_twice_is_an_error_or_a_panic_and_never_a_hang,
        atomics_of_many_processes_all_count,
        atomics_wrap_like_their_types,
        atomics_exchange,
        an_array_is_negated_by_a_child,
        array_indices_are_checked,
        array_slices_are_copied_whole,
        a_killed_writer_of_an_array_is_reported,
        a_killed_reader_of_an_array_is_not,
        a_panicking_writer_poisons_an_array,
        a_panicking_reader_does_not_poison_an_array,
        a_guard_copied_by_a_fork_gives_no_elements,
        a_child_forked_inside_an_update_commits_nothing,
        arrays_of_no_size_or_too_much_are_errors,
        objects_in_a_full_region_are_errors,
        lock_timeouts_last_at_least_so_long,
    ])
}

fn a_child_sets_what_the_parent_reads() {
    // The values of the example that every tutorial on the subject shows.
    let number = Value::new(0.0_f64).unwrap();
    let row = Array::new(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9_i32]).unwrap();
    fork_child(|| {
        number.set(2.75);
        row.lock().unwrap().iter_mut().for_each(|n| *n = -*n);
    })
    .join_ok();
    assert_eq!(number.get(), 2.75);
    assert_eq!(row.to_vec().unwrap(), [0, -1, -2, -3, -4, -5, -6, -7, -8, -9]);
}

fn values_of_every_size_come_back_as_they_were() {
    fn check<const N: usize>() {
        let mut bytes = [0_u8; N];
        bytes.iter_mut().enumerate().for_each(|(i, byte)| *byte = i as u8 + 1);
        let value = Value::new(bytes).unwrap();
        assert_eq!(value.get(), bytes);
        bytes.reverse();
        value.set(bytes);
        assert_eq!(value.get(), bytes);
    }
    check::<0>();
    check::<1>();
    check::<3>();
    check::<7>();
    check::<8>();
    check::<9>();
    check::<64>();
    check::<129>();
}

fn updates_of_many_processes_all_count() {
    let value = Value::new([0_u64; 8]).unwrap();
    let children: Vec<_> = (0..4)
        .map(|_| {
            fork_child(|| (0..2_000).for_each(|_| value.update(|row| row.iter_mut().for_each(|n| *n += 1))))
        })
        .collect();
    let mut last = 0;
    while last < 8_000 {
        let row = value.get();
        assert!(row.iter().all(|&n| n == row[0]), "torn: {row:?}");
        assert!(row[0] >= last, "went back: {row:?}");
        last = row[0];
    }
    children.into_iter().for_each(|child| child.join_ok());
}

fn a_value_is_never_torn_by_random_kills() {
    let value = Value::new([0_u64; 8]).unwrap();
    for round in 0..300 {
        let before = value.get()[0];
        let child = fork_child(|| {
            loop {
                value.update(|row| row.iter_mut().for_each(|n| *n += 1));
            }
        });
        until(|| value.get()[0] > before + round % 50);
        child.kill();
        let row = value.get();
        assert!(row.iter().all(|&n| n == row[0]), "torn: {row:?}");
        value.update(|row| row.iter_mut().for_each(|n| *n += 1));
        assert_eq!(value.get()[0], row[0] + 1);
    }
}

fn readers_do_not_wait_for_a_lock_holder() {
    let value = Value::new(5_u128).unwrap();
    let holder = fork_child(|| {
        let mut guard = value.lock().unwrap();
        *guard = 6;
        loop {
            std::thread::park();
        }
    });
    until(|| matches!(value.try_lock(), Err(LockError::WouldBlock)));
    assert_eq!(value.get(), 5);
    holder.kill();
}

fn a_value_guard_commits_when_dropped() {
    let value = Value::new(1_u32).unwrap();
    let mut guard = value.lock().unwrap();
    *guard += 1;
    assert_eq!((*guard, value.get()), (2, 1));
    drop(guard);
    assert_eq!(value.get(), 2);
}

fn a_value_guard_that_panics_or_is_discarded_changes_nothing() {
    let value = Value::new(1_u32).unwrap();
    let mut guard = value.lock().unwrap();
    *guard = 9;
    guard.discard();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let mut guard = value.lock().unwrap();
        *guard = 9;
        panic!("on purpose");
    }));
    assert!(panicked.is_err());
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        value.update(|n| {
            *n = 9;
            panic!("on purpose");
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(*value.lock().unwrap(), 1);
}

fn a_killed_holder_of_a_value_leaves_the_old_one_and_no_trace() {
    let value = Value::new([1_u64; 4]).unwrap();
    let holder = fork_child(|| {
        let mut guard = value.lock().unwrap();
        *guard = [2; 4];
        loop {
            std::thread::park();
        }
    });
    until(|| matches!(value.try_lock(), Err(LockError::WouldBlock)));
    holder.kill();
    assert_eq!(*value.lock().unwrap(), [1; 4]);
}

fn a_value_guard_copied_by_a_fork_does_nothing() {
    let value = Value::new(1_u32).unwrap();
    let mut guard = value.lock().unwrap();
    *guard = 2;
    let mut copy = Some(guard);
    fork_child(|| drop(copy.take())).join_ok();
    assert_eq!(value.get(), 1);
    assert!(matches!(value.try_lock(), Err(LockError::WouldBlock)));
    drop(copy);
    assert_eq!(value.get(), 2);
}

fn a_value_locked_twice_is_an_error_or_a_panic_and_never_a_hang() {
    let value = Value::new(1_u32).unwrap();
    let _guard = value.lock().unwrap();
    assert!(matches!(value.lock(), Err(LockError::AlreadyHeld)));
    assert!(catch_unwind(AssertUnwindSafe(|| value.set(2))).is_err());
    assert_eq!(value.get(), 1);
}

fn atomics_of_many_processes_all_count() {
    let wide = Atomic::new(0_u64).unwrap();
    let narrow = Atomic::new(0_u16).unwrap();
    let children: Vec<_> = (0..4)
        .map(|_| {
            fork_child(|| {
                (0..20_000).for_each(|_| {
                    wide.fetch_add(3);
                    narrow.fetch_add(1);
                })
            })
        })
        .collect();
    children.into_iter().for_each(|child| child.join_ok());
    assert_eq!((wide.get(), narrow.get()), (240_000, 80_000_u32 as u16));
}

fn atomics_wrap_like_their_types() {
    let byte = Atomic::new(250_u8).unwrap();
    byte.fetch_add(10);
    assert_eq!(byte.get(), 4);
    assert_eq!(byte.compare_exchange(4, 5), Ok(4));
    let signed = Atomic::new(i32::MAX).unwrap();
    signed.fetch_add(1);
    assert_eq!(signed.get(), i32::MIN);
    assert_eq!(signed.compare_exchange(i32::MIN, -1), Ok(i32::MIN));
    signed.fetch_sub(-3);
    assert_eq!(signed.get(), 2);
    let wide = Atomic::new(i64::MIN).unwrap();
    wide.fetch_sub(1);
    assert_eq!(wide.get(), i64::MAX);
    let negative = Atomic::new(-5_i8).unwrap();
    assert_eq!(negative.fetch_max(-7), -5);
    assert_eq!(negative.fetch_min(-7), -5);
    assert_eq!(negative.fetch_or(1), -7);
    assert_eq!(negative.fetch_and(-2), -7);
    assert_eq!(negative.fetch_xor(-1), -8);
    assert_eq!(negative.get(), 7);
}

fn atomics_exchange() {
    let number = Atomic::new(1_u32).unwrap();
    assert_eq!(number.swap(2), 1);
    assert_eq!(number.compare_exchange(1, 3), Err(2));
    assert_eq!(number.compare_exchange(2, 3), Ok(2));
    assert_eq!(number.update(|n| n * 10), 3);
    assert_eq!(number.get(), 30);
}

fn an_array_is_negated_by_a_child() {
    let array = Array::new(&(0..1000).collect::<Vec<i64>>()).unwrap();
    fork_child(|| {
        for i in 0..array.len() {
            let n = array.get(i).unwrap();
            array.set(i, -n).unwrap();
        }
    })
    .join_ok();
    assert!(array.lock().unwrap().iter().enumerate().all(|(i, &n)| n == -(i as i64)));
}

fn array_indices_are_checked() {
    let array = Array::new(&[1_u8, 2, 3]).unwrap();
    assert_eq!((array.len(), array.get(2)), (3, Ok(3)));
    assert_eq!(array.get(3), Err(ArrayError::OutOfRange { end: 4, len: 3 }));
    assert!(array.get(usize::MAX).is_err());
    let error = array.set(3, 9).unwrap_err();
    assert_eq!(error, ArrayError::OutOfRange { end: 4, len: 3 });
    assert_eq!(error.to_string(), "out of range: need 4 elements, the array has 3");
    assert!(array.copy_from_slice(2, &[1, 1]).is_err());
    assert!(array.copy_from_slice(usize::MAX, &[1, 1]).is_err());
    assert!(array.copy_to_slice(1, &mut [0; 3]).is_err());
    assert_eq!(array.to_vec().unwrap(), [1, 2, 3]);
}

fn array_slices_are_copied_whole() {
    #[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
    #[repr(C)]
    struct Point {
        x: f32,
        y: f32,
        z: f32,
    }
    let point = |i: usize| Point { x: i as f32, y: 0.5, z: -(i as f32) };
    let array = Array::<Point>::zeroed(100).unwrap();
    let points: Vec<Point> = (0..50).map(point).collect();
    fork_child(|| array.copy_from_slice(25, &points).unwrap()).join_ok();
    let mut back = vec![Point::zeroed(); 50];
    array.copy_to_slice(25, &mut back).unwrap();
    assert_eq!(back, points);
    assert_eq!(array.get(24), Ok(Point::zeroed()));
    array.set(0, point(7)).unwrap();
    assert_eq!(array.get(0), Ok(point(7)));
}

fn a_killed_writer_of_an_array_is_reported() {
    let array = Array::new(&[0_u32; 4]).unwrap();
    let begun = Atomic::new(0_u8).unwrap();
    let writer = fork_child(|| {
        let mut guard = array.lock().unwrap();
        guard[0] = 1;
        begun.set(1);
        loop {
            std::thread::park();
        }
    });
    until(|| begun.get() == 1);
    writer.kill();
    assert_eq!(array.get(0), Err(ArrayError::OwnerDied));
    assert_eq!(array.set(3, 4), Err(ArrayError::OwnerDied), "one call does nothing, and leaves the doubt");
    drop(array.lock().unwrap_err().into_guard());
    match array.lock() {
        Err(LockError::OwnerDied(mut guard)) => {
            guard[0] = 0;
            guard.make_consistent();
            guard[1] = 7;
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(*array.lock().unwrap(), [0, 7, 0, 0]);
}

fn a_killed_reader_of_an_array_is_not() {
    let array = Array::new(&[0_u32; 4]).unwrap();
    let reader = fork_child(|| {
        let guard = array.lock().unwrap();
        let _sum: u32 = guard.iter().sum();
        loop {
            std::thread::park();
        }
    });
    until(|| matches!(array.try_lock(), Err(LockError::WouldBlock)));
    reader.kill();
    assert!(array.lock().is_ok());
}

fn a_panicking_writer_poisons_an_array() {
    let array = Array::new(&[0_u32; 4]).unwrap();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        array.lock().unwrap()[0] = 1;
        let mut guard = array.lock().unwrap();
        guard[1] = 1;
        panic!("on purpose");
    }));
    assert!(panicked.is_err());
    match array.lock() {
        Err(LockError::Poisoned(mut guard)) => guard.make_consistent(),
        other => panic!("{other:?}"),
    }
    assert_eq!(*array.lock().unwrap(), [1, 1, 0, 0]);
}

fn a_panicking_reader_does_not_poison_an_array() {
    let array = Array::new(&[0_u32; 4]).unwrap();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let guard = array.lock().unwrap();
        panic!("on purpose: {}", guard[0]);
    }));
    assert!(panicked.is_err());
    assert_eq!(array.get(0), Ok(0));
}

fn a_guard_copied_by_a_fork_gives_no_elements() {
    let array = Array::new(&[1_u32; 4]).unwrap();
    let mut guard = array.lock().unwrap();
    fork_child(|| {
        assert!(catch_unwind(AssertUnwindSafe(|| guard[0] = 2)).is_err());
        assert!(catch_unwind(AssertUnwindSafe(|| guard[0])).is_err());
    })
    .join_ok();
    assert_eq!(guard[0], 1);
}

fn a_child_forked_inside_an_update_commits_nothing() {
    let value = Value::new([1_u64; 4]).unwrap();
    let child = value.update(|row| {
        let child = fork_child(|| {});
        *row = [2; 4];
        child
    });
    child.join_ok();
    // The child of this one goes the whole way back through `update`.
    let outer = fork_child(|| {
        let mut child = None;
        value.update(|row| {
            *row = [3; 4];
            // SAFETY: one thread; the child runs on through `update` and leaves by `_exit`.
            match unsafe { nix::unistd::fork() }.unwrap() {
                nix::unistd::ForkResult::Child => *row = [99; 4],
                nix::unistd::ForkResult::Parent { child: pid } => {
                    nix::sys::wait::waitpid(pid, None).unwrap();
                    child = Some(pid);
                }
            }
        });
        if child.is_none() {
            // SAFETY: leaves the copy.
            unsafe { nix::libc::_exit(0) }
        }
    });
    outer.join_ok();
    assert_eq!(value.get(), [3; 4]);
}

fn arrays_of_no_size_or_too_much_are_errors() {
    assert!(matches!(Array::<u64>::new(&[]), Err(RegionError::ZeroSize)));
    assert!(matches!(Array::<[u8; 0]>::zeroed(5), Err(RegionError::ZeroSize)));
    for len in [usize::MAX, usize::MAX / 8 + 1, isize::MAX as usize] {
        assert!(matches!(Array::<u64>::zeroed(len), Err(RegionError::TooLarge { .. })));
    }
    let error = Array::<u64>::zeroed(1 << 50).unwrap_err();
    assert!(matches!(error, RegionError::OutOfMemory { .. }), "{error:?}");
}

fn objects_in_a_full_region_are_errors() {
    let kept = {
        let region = Region::anonymous(4096).unwrap();
        let kept = Value::new_in(&region, [7_u64; 8]).unwrap();
        while Atomic::new_in(&region, 0_u8).is_ok() {}
        assert!(matches!(Value::new_in(&region, 0_u8), Err(RegionError::NoRoom { .. })));
        assert!(matches!(Array::new_in(&region, &[0_u8]), Err(RegionError::NoRoom { .. })));
        kept
    };
    assert_eq!(kept.get(), [7; 8], "a handle keeps its region");
    let region = Region::anonymous(4096).unwrap();
    let room = region.room();
    assert!(matches!(Value::new_in(&region, [0_u8; 3000]), Err(RegionError::NoRoom { .. })));
    assert!(matches!(Array::<u8>::zeroed_in(&region, 3_900), Err(RegionError::NoRoom { .. })));
    assert_eq!(region.room(), room, "an object that did not fit took nothing");
}

fn lock_timeouts_last_at_least_so_long() {
    let value = Value::new(0_u8).unwrap();
    let array = Array::new(&[0_u8]).unwrap();
    let ready = Atomic::new(0_u8).unwrap();
    let holder = fork_child(|| {
        mem::forget((value.lock().unwrap(), array.lock().unwrap()));
        ready.set(1);
        loop {
            std::thread::park();
        }
    });
    until(|| ready.get() == 1);
    let wait = Duration::from_millis(20);
    let start = Instant::now();
    assert!(matches!(value.lock_timeout(wait), Err(LockError::TimedOut)));
    assert!(matches!(array.lock_timeout(wait), Err(LockError::TimedOut)));
    assert!(start.elapsed() >= 2 * wait);
    holder.kill();
    assert!(value.lock().is_ok());
}
