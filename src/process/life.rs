//! The life of a child, from the gate to the way out, however it came about.
//!
//! 1. It passes the gate; is made what the builder asked for; sets the watch on its parent, and leaves if that is gone
//!    already; says that all is well, if anybody listens; lets signals through. Where it leaves, it does so with
//!    [`REFUSED`], before it ran anything of the user's.
//! 2. It does its work, encodes what came of it, runs its finalizers, flushes, writes the record, and leaves by
//!    `_exit`.
//!
//! A forked child stands on a copy of its parent's stack and never goes back down it: what unwinds is caught here, what
//! escapes even that aborts ([`NoWayBack`]), and it leaves without running destructors or atexit handlers.

use std::{
    any::Any,
    cell::{RefCell, UnsafeCell},
    fs::File,
    io::{self, Write},
    mem,
    panic::{self, AssertUnwindSafe, PanicHookInfo, catch_unwind},
    process, thread,
};

use nix::{libc, sys::signal::SigSet};
use serde::Serialize;

use crate::{
    os::{fork, newborn},
    process::{
        PanicLocation,
        exit::PANICKED,
        gate::Ticket,
        here::{self, Here},
        record::{Kind, Panic, Record},
        settings::{Prepared, Refused},
        watch::Watch,
    },
};

/// The code of a child whose parent died, or failed, before the child was ready; or that could not be made ready.
pub(super) const REFUSED: i32 = 125;
/// The code of a child whose value could not be sent: Python's for an error that nobody handled.
const UNSENT: i32 = 1;

/// Bytes that a child writes about its settings: 0 if all is well, else the place of the refused one, counted from 1;
/// and the error's number.
pub(super) const REPORT: usize = 5;

/// Tells the parent which setting was refused, and leaves.
pub(super) fn leave_refused(report: Option<&File>, (what, error): Refused) -> ! {
    let [a, b, c, d] = error.raw_os_error().unwrap_or(libc::EINVAL).to_le_bytes();
    if let Some(mut report) = report {
        let _ = report.write_all(&[what + 1, a, b, c, d]);
    }
    fork::leave(REFUSED)
}

/// What is to be done by a child before it is its user's.
pub(super) struct Newborn {
    /// None: there are none, or they were made true before an exec.
    pub(super) settings: Option<Box<Prepared>>,
    pub(super) watch: Option<Watch>,
    pub(super) page: Box<Here>,
    pub(super) report: Option<File>,
}

impl Newborn {
    /// Does it, or leaves. `mask` is of the signals to be blocked, unless the settings say otherwise; `ticket` for the
    /// gate, where it was not passed before. What it owns, the child keeps for good: its environment lies there.
    pub(super) fn begin(mut self, mask: &mut SigSet, ticket: Option<&Ticket>, record: &Record) {
        if ticket.is_some_and(|ticket| !ticket.pass()) {
            fork::leave(REFUSED);
        }
        if let Some(Err(refused)) = self.settings.as_mut().map(|settings| settings.apply(mask)) {
            leave_refused(self.report.as_ref(), refused);
        }
        // After the settings, since the kernel forgets the watch when the user changes.
        match self.watch.map(|watch| watch.arm(mask)) {
            None | Some(Ok(true)) => {}
            Some(Ok(false)) => fork::leave(REFUSED),
            Some(Err(error)) => {
                let text = format!("the watch on the parent cannot be set: {error}");
                let _ = record.write(Kind::Unwritable, REFUSED, text.as_bytes());
                fork::leave(REFUSED);
            }
        }
        here::be(self.page);
        if let Some(mut report) = self.report {
            let _ = report.write_all(&[0; REPORT]);
        }
        // A mask that libc made can be set.
        let _ = newborn::set_mask(mask);
        mem::forget(self.settings);
    }
}

/// Stands between the child's frames and its parent's: an unwinding that comes this far aborts.
pub(super) struct NoWayBack;

impl Drop for NoWayBack {
    fn drop(&mut self) {
        process::abort();
    }
}

/// What comes of a child's work: an encoded value, or why there is none.
pub(crate) type Outcome = Result<Vec<u8>, String>;

/// A value, encoded and dropped.
pub(crate) fn encoded<T: Serialize>(value: T) -> Outcome {
    let body = postcard::to_stdvec(&value);
    drop(value);
    body.map_err(|error| format!("cannot be encoded: {error}"))
}

/// The rest of a child's life.
pub(super) fn live(work: impl FnOnce() -> Outcome, record: &Record) -> ! {
    let pid = newborn::pid();
    remember_panics();
    let (kind, code, body) = run(work);
    // One that the closure forked has another page, with what it registered itself.
    here::here().finalize();
    let _ = catch_unwind(|| {
        let _ = (io::stdout().flush(), io::stderr().flush());
    });
    // A process that the closure forked, and that came back here with it, has nothing to report.
    let mut code = code;
    if pid == newborn::pid()
        && let Err(error) = record.write(kind, code, &body)
    {
        code = UNSENT;
        let _ = record.write(Kind::Unwritable, code, error.to_string().as_bytes());
    }
    fork::leave(code)
}

/// Does the work and says what comes of it.
fn run(work: impl FnOnce() -> Outcome) -> (Kind, i32, Vec<u8>) {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(body)) => (Kind::Value, 0, body),
        Ok(Err(reason)) => (Kind::Unencodable, UNSENT, reason.into_bytes()),
        Err(payload) => {
            let panic = Panic::new(&*payload);
            // Its destructor is foreign code, and may panic in its turn.
            mem::forget(payload);
            (Kind::Panic, PANICKED, postcard::to_stdvec(&panic).unwrap_or_default())
        }
    }
}

thread_local! {
    /// The last panic of this thread, as the hook saw it.
    static LAST: RefCell<Option<Panic>> = const { RefCell::new(None) };
}

/// Notes every panic, then does what the parent's hook did. The hook is the child's own copy.
fn remember_panics() {
    // A start in the middle of an unwinding: the hook cannot be changed then, and a further panic aborts anyway.
    if thread::panicking() {
        return;
    }
    // SAFETY: a newborn has one thread, which is here, and not within a hook; nobody writes to it later.
    let place = unsafe { &mut *USUAL.0.get() };
    if place.is_none() {
        *place = Some(panic::take_hook());
        panic::set_hook(Box::new(|info| {
            note(info);
            // SAFETY: written before this was a hook, and never since.
            if let Some(usual) = unsafe { &*USUAL.0.get() } {
                usual(info);
            }
        }));
    } else {
        // A child's child: the place is its parent's, whose hook it goes on with.
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            note(info);
            usual(info);
        }));
    }
}

type Usual = Box<dyn Fn(&PanicHookInfo<'_>) + Send + Sync>;

/// What the parent's hook did, in a child whose parent is none. It lies here and not on the heap, since a child pays
/// for every page that it is the first to write to.
struct Place(UnsafeCell<Option<Usual>>);

// SAFETY: written by the only thread that there is then, and only read by others.
unsafe impl Sync for Place {}

static USUAL: Place = Place(UnsafeCell::new(None));

fn note(info: &PanicHookInfo<'_>) {
    let location = info.location().map(|place| PanicLocation {
        file: place.file().to_owned(),
        line: place.line(),
        column: place.column(),
    });
    let panic = Panic { message: text(info.payload()), location };
    let _ = LAST.try_with(|last| last.replace(Some(panic)));
}

impl Panic {
    /// From what was caught. The hook knows the place, unless it last saw another panic.
    pub(crate) fn new(payload: &(dyn Any + Send)) -> Panic {
        let message = text(payload);
        let seen = LAST.try_with(|last| last.take()).ok().flatten();
        let location = seen.filter(|seen| seen.message == message).and_then(|seen| seen.location);
        Panic { message, location }
    }
}

/// The message of a panic, if it has one that can be read.
fn text(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "a value that is no text".to_owned()
    }
}
