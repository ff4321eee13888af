//! What this process knows of itself: its name, its parent, and the children it started.
//!
//! It lies behind one pointer, tagged with the lineage, and is never freed: a fork copies it, perhaps while another
//! thread holds its lock. The copy finds a lineage that is not its own, and begins a page of its own without asking for
//! that lock; it closes its parent's descriptors only if the lock is free in the copy. So no fork can hang on this.
//!
//! A child is on the list from before it may run until its end was read, by whomever: so whoever holds a handle
//! and never asks leaves no zombie either, as soon as anything is started, dropped, or looked for.

#![allow(clippy::disallowed_types, reason = "private to this process: not a shared word")]

use core::sync::atomic::AtomicPtr;
use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    process, ptr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use serde::{Deserialize, Serialize};

use crate::{
    os::readiness,
    primitive::{self, Acquire, AtomicU32, AtomicU64, Deadline, Relaxed, Release, lineage},
    process::{Child, ExitStatus, child::Known, hooks::Finalizers},
};

/// This process.
pub(crate) struct Here {
    pub(crate) identity: Identity,
    lineage: u32,
    started: AtomicU32,
    pub(crate) finalizers: Finalizers,
    registered: AtomicU64,
    children: Mutex<Children>,
    /// How many are on the list, for a copy, which asks for no lock.
    listed: AtomicU32,
}

/// Who a process is, to itself and to its children.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) name: String,
    /// The numbers in a name by ancestry: the third child of the first child is `[1, 3]`.
    pub(crate) path: Vec<u32>,
    pub(crate) daemon: bool,
    /// It is this crate's own affair, and nobody is told about it.
    pub(crate) service: bool,
    /// Number and name of the process that started this one.
    pub(crate) parent: Option<(u32, String)>,
}

#[derive(Default)]
struct Children {
    running: Vec<Child>,
    /// Those of the `Reaper`s.
    onlookers: Vec<Weak<Onlooker>>,
}

/// Children that somebody is to be told about once they have ended, whoever reaps them.
pub(crate) struct Onlooker {
    /// Can be read while one of them has ended.
    set: OwnedFd,
    children: Mutex<Vec<Child>>,
    /// 1: the kernel refused a child's place in the set.
    is_full: AtomicU32,
}

static HERE: AtomicPtr<Here> = AtomicPtr::new(ptr::null_mut());

/// This process, as it knows itself.
pub(crate) fn here() -> &'static Here {
    // ORDERING: Acquire, for what the Release below published.
    let page = HERE.load(Acquire);
    // SAFETY: a page that was leaked, whole before it was published, in this process or in one that it is a copy of.
    match unsafe { page.as_ref() } {
        Some(page) if page.lineage == lineage() => page,
        page => begin(page),
    }
}

/// The first look, in the program or in a copy that a foreign fork made.
#[cold]
fn begin(copied: Option<&'static Here>) -> &'static Here {
    primitive::me(); // from now on a fork counts
    let identity = match copied {
        None => {
            let name = "MainProcess".to_owned();
            Identity { name, path: Vec::new(), daemon: false, service: false, parent: None }
        }
        Some(Here { identity, .. }) => {
            let parent = Some((primitive::forker(), identity.name.clone()));
            Identity { parent, ..identity.clone() }
        }
    };
    install(copied, Here::new(identity, lineage()))
}

/// Makes this page that of this process, which is a newborn.
pub(crate) fn be(page: Box<Here>) {
    // ORDERING: Acquire, as in `here`.
    let copied = HERE.load(Acquire);
    // SAFETY: as in `here`.
    install(unsafe { copied.as_ref() }, page);
}

fn install(copied: Option<&'static Here>, page: Box<Here>) -> &'static Here {
    debug_assert_eq!(page.lineage, lineage());
    let page = Box::into_raw(page);
    let old = copied.map_or(ptr::null_mut(), |old| ptr::from_ref(old).cast_mut());
    // ORDERING: Release, for the Acquire of whoever looks.
    match HERE.compare_exchange(old, page, Release, Acquire) {
        Ok(_) => {
            // A lock that another thread of the parent held at the fork stays held: then the descriptors stay open.
            // ORDERING: Relaxed, written by threads of the parent, before the fork.
            if let Some(copied) = copied
                && copied.listed.load(Relaxed) > 0
                && let Ok(mut children) = copied.children.try_lock()
            {
                // The lists themselves stay: to free them is to copy the memory that they lie in.
                children.running.clear();
                children.onlookers.clear();
            }
            // SAFETY: published and never freed.
            unsafe { &*page }
        }
        Err(other) => {
            // SAFETY: `page` was never published; another thread's was, and is never freed.
            unsafe {
                drop(Box::from_raw(page));
                &*other
            }
        }
    }
}

impl Here {
    /// A page for a process of that lineage.
    fn new(identity: Identity, lineage: u32) -> Box<Here> {
        let started = AtomicU32::new(0);
        let (finalizers, registered) = (Finalizers::new(), AtomicU64::new(0));
        let (children, listed) = (Mutex::default(), AtomicU32::new(0));
        Box::new(Here { identity, lineage, started, finalizers, registered, children, listed })
    }

    /// A page for a child that this process is about to fork. It is made here, since a child pays for every page of
    /// memory that it is the first to write to.
    pub(crate) fn of_a_child(identity: Identity) -> Box<Here> {
        Here::new(identity, lineage().wrapping_add(1))
    }

    /// A page for this process, which is a newborn.
    pub(crate) fn of_a_newborn(identity: Identity) -> Box<Here> {
        Here::new(identity, lineage())
    }

    /// The identity of the next child, but for its number.
    pub(crate) fn next(&self, name: Option<String>, daemon: Option<bool>, service: bool) -> Identity {
        // ORDERING: Relaxed, a count. A service takes no number.
        let number = if service { 0 } else { self.started.fetch_add(1, Relaxed) + 1 };
        let mut path = self.identity.path.clone();
        path.push(number);
        let by_ancestry = || {
            let numbers: Vec<String> = path.iter().map(u32::to_string).collect();
            format!("Process-{}", numbers.join(":"))
        };
        Identity {
            name: name.unwrap_or_else(by_ancestry),
            path,
            daemon: daemon.unwrap_or(self.identity.daemon),
            service,
            parent: Some((process::id(), self.identity.name.clone())),
        }
    }

    /// A number that no other finalizer of this process has.
    pub(crate) fn number_of_finalizer(&self) -> u64 {
        // ORDERING: Relaxed, a count.
        self.registered.fetch_add(1, Relaxed)
    }

    fn children(&self) -> MutexGuard<'_, Children> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a newborn on the list.
    pub(crate) fn remember(&self, child: &Child) {
        let mut children = self.children();
        children.onlookers.retain(|onlooker| onlooker.strong_count() > 0);
        for onlooker in children.onlookers.iter().filter_map(Weak::upgrade) {
            // Without a place in the set the child does not ring, and whoever waits must wait for it itself.
            if onlooker.look_at(child).is_err() {
                // ORDERING: Release, for who waits next.
                onlooker.is_full.store(1, Release);
            }
        }
        children.running.push(child.clone());
        self.count(&children);
    }

    /// To be called whenever the list has changed.
    fn count(&self, children: &Children) {
        // ORDERING: Relaxed, a hint.
        self.listed.store(children.running.len() as u32, Relaxed);
    }

    /// Takes a child off the list: its end was read.
    pub(crate) fn forget(&self, child: &Child) {
        let mut children = self.children();
        let Some(place) = children.running.iter().position(|other| other.is(child)) else { return };
        children.running.remove(place);
        self.count(&children);
    }

    /// Does what is to be done before this process ends.
    pub(crate) fn finalize(&self) {
        // ORDERING: Relaxed, a count of this process's own.
        if self.registered.load(Relaxed) > 0 {
            self.finalizers.run();
        }
    }

    /// Somebody who is told about every child that runs now or is started later.
    pub(crate) fn look_on(&self) -> io::Result<Arc<Onlooker>> {
        let onlooker = Arc::new(Onlooker {
            set: readiness::new_set()?,
            children: Mutex::default(),
            is_full: AtomicU32::new(0),
        });
        let mut children = self.children();
        for child in &children.running {
            onlooker.look_at(child)?;
        }
        children.onlookers.push(Arc::downgrade(&onlooker));
        Ok(onlooker)
    }

    /// The children that are on the list: running, or ended and not reaped.
    pub(crate) fn listed(&self) -> Vec<Child> {
        self.children().running.clone()
    }

    /// Reaps the children that have ended: says which, and how.
    ///
    /// Under the list's lock: nobody asks for that one while he holds a child's.
    pub(crate) fn reap(&self) -> Vec<(Child, ExitStatus)> {
        let mut children = self.children();
        let ended = ended(&children.running);
        let (mut place, mut statuses) = (0, Vec::new());
        let is_reaped = |child: &mut Child| {
            place += 1;
            let is_over = ended.get(place - 1).is_some_and(|&is_over| is_over);
            // One that a tracer is to see first stays where it is.
            let status = is_over.then(|| child.status_now(Known::Unlisted).ok().flatten()).flatten();
            statuses.extend(status);
            status.is_some()
        };
        let reaped: Vec<Child> = children.running.extract_if(.., is_reaped).collect();
        self.count(&children);
        reaped.into_iter().zip(statuses).collect()
    }
}

impl Onlooker {
    fn children(&self) -> MutexGuard<'_, Vec<Child>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look_at(&self, child: &Child) -> io::Result<()> {
        if child.is_service() {
            return Ok(());
        }
        self.children().push(child.clone());
        readiness::add(self.set.as_fd(), child.as_fd())
    }

    /// Those whose ends the set does not tell of; none as a rule.
    pub(crate) fn unheard(&self) -> Vec<Child> {
        // ORDERING: Acquire, of the Release in `remember`.
        if self.is_full.load(Acquire) == 0 { Vec::new() } else { self.children().clone() }
    }

    /// Reaps those that have ended, if nobody did, and tells about each once.
    pub(crate) fn ended(&self) -> Vec<(Child, ExitStatus)> {
        let mut children = self.children();
        let places = ended(&children);
        let mut told = Vec::new();
        let mut place = 0;
        children.retain(|child| {
            place += 1;
            let is_over = places.get(place - 1).is_some_and(|&is_over| is_over);
            let Some(status) = is_over.then(|| child.status_now(Known::Over).ok().flatten()).flatten() else {
                return true;
            };
            let _ = readiness::remove(self.set.as_fd(), child.as_fd());
            told.push((child.clone(), status));
            false
        });
        told
    }
}

impl AsFd for Onlooker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.set.as_fd()
    }
}

/// Which of these have ended, by their places; empty if nobody has.
fn ended(children: &[Child]) -> Vec<bool> {
    if children.is_empty() {
        return Vec::new();
    }
    let mut files: Vec<_> = children.iter().map(Child::pollfd).collect();
    match readiness::wait_ready(&mut files, Some(Deadline::now())) {
        Ok(1..) => files.iter().map(|file| file.revents != 0).collect(),
        _ => Vec::new(),
    }
}
