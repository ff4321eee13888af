//! Children whose handle was dropped while they lived: reaped later, so that none stays a zombie for long.
//!
//! A list of this process alone, pushed at its head and taken whole, both by one exchange. So it has no lock that a
//! fork could copy in its held state, and no node is freed while another thread reads it. A forked copy finds its
//! parent's list, knows it by the lineage, and closes its copies of the descriptors.

#![allow(clippy::disallowed_types, reason = "private to this process: not a shared word")]

use core::sync::atomic::AtomicPtr;
use std::{
    os::fd::{AsFd, OwnedFd},
    ptr,
};

use crate::{
    os::pidfd,
    primitive::{Acquire, Relaxed, Release, lineage},
};

struct Orphan {
    pidfd: OwnedFd,
    lineage: u32,
    next: *mut Orphan,
}

static NEWEST: AtomicPtr<Orphan> = AtomicPtr::new(ptr::null_mut());

/// Takes charge of a living child.
pub(crate) fn adopt(pidfd: OwnedFd) {
    push(Box::new(Orphan { pidfd, lineage: lineage(), next: ptr::null_mut() }));
}

/// Reaps those that have ended.
pub(crate) fn reap() {
    // ORDERING: Relaxed, a first look; the exchange decides.
    if NEWEST.load(Relaxed).is_null() {
        return;
    }
    // ORDERING: Acquire, so that we see the nodes as they were pushed.
    let mut next = NEWEST.swap(ptr::null_mut(), Acquire);
    // SAFETY: every node came from a Box, and the exchange gave the whole list to us alone.
    while let Some(orphan) = (!next.is_null()).then(|| unsafe { Box::from_raw(next) }) {
        next = orphan.next;
        // An error means that somebody else reaped it: then it is no zombie either.
        if orphan.lineage == lineage() && matches!(pidfd::reap(orphan.pidfd.as_fd()), Ok(None)) {
            push(orphan);
        }
    }
}

fn push(orphan: Box<Orphan>) {
    let node = Box::into_raw(orphan);
    // ORDERING: Relaxed, a guess; the exchange decides.
    let mut newest = NEWEST.load(Relaxed);
    loop {
        // SAFETY: the node is ours until the exchange publishes it.
        unsafe { (*node).next = newest };
        // ORDERING: Release, for the Acquire of whoever takes the list.
        match NEWEST.compare_exchange_weak(newest, node, Release, Relaxed) {
            Ok(_) => return,
            Err(now) => newest = now,
        }
    }
}
