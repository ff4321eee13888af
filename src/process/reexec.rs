//! The start method *spawn*: the child runs the program from its beginning, as far as [`init`].
//!
//! # The way of a start
//! 1. The order is packed; its descriptors' numbers stand in the child's environment, [`NOTE`].
//! 2. fork; between it and the exec there are system calls alone, so other threads may hold what they like. The child
//!    passes the gate, is made what the builder asked for, leaves the order's descriptors open, and begins anew
//!    (`os/exec.rs`). Its arguments are its parent's.
//! 3. [`init`] finds the note, takes the descriptors, and does what the order says; it never returns in a child.
//! 4. The parent waits until the child has said there that all is well, or has ended.
//!
//! # Where a process may die
//! The parent, before the gate is open: as for a fork. Before the child's watch is set, which is after the exec: the
//! child finds another parent than the order names, and leaves. The child: it has ended without a word.
//!
//! # Why there is no fork bomb
//! A child runs `main` from its beginning. What starts children there before it calls `init` would start them in each
//! child too, and so would a `main` that never calls it. Both are refused where they begin: a start is an error in a
//! process that has not called `init`.

#![allow(clippy::disallowed_types, reason = "private to this process: not a shared word")]

use core::sync::atomic::AtomicBool;
use std::{
    env,
    ffi::{CString, OsString},
    fs::File,
    io,
    os::{
        fd::{AsRawFd, OwnedFd, RawFd},
        unix::ffi::OsStringExt,
    },
};

use nix::sys::signal::SigSet;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    error::SpawnError,
    os::{
        exec::{self, Arguments},
        fork::{self, Side},
        newborn,
    },
    primitive::{self, Relaxed},
    process::{
        Builder, Child, Function, Process,
        function::Registered,
        gate::ShutGate,
        here::{self, Here, Identity},
        life::{self, Newborn, NoWayBack},
        order::{self, Order, Parcel},
        record::Record,
        spawn::{Departure, Silence, refused, setting},
        watch::Watch,
    },
    region::Descriptor,
};

/// Where in the environment of a program that was begun anew its order's descriptors stand.
const NOTE: &str = "PSHARED_ORDER";

static INITIALIZED: AtomicBool = AtomicBool::new(false);

/// To be called first in `main` by a program that starts children by another method than fork.
///
/// In the program itself it does next to nothing. In a child that was begun anew, it does what the child is for, and
/// never returns. So what `main` does before it is done in every child too: have it do nothing.
///
/// # Examples
/// ```standalone_crate
/// pshared::init();
/// // Here no child comes by.
/// ```
///
/// # References
/// Python's `if __name__ == "__main__":` with `freeze_support()`.
#[doc(alias = "freeze_support")]
pub fn init() {
    if let Some(parcel) = left_by_an_exec() {
        follow(parcel);
    }
    // ORDERING: Relaxed, a mark that carries nothing.
    INITIALIZED.store(true, Relaxed);
}

/// Refuses in a program that would start itself without end.
pub(super) fn refuse_uninitialized() -> Result<(), SpawnError> {
    // ORDERING: Relaxed, a mark that carries nothing.
    if INITIALIZED.load(Relaxed) { Ok(()) } else { Err(SpawnError::NotInitialized) }
}

/// What an exec left to this program, if it did. The note of a process further up, which means nothing here, is seen by
/// its number leading to no message.
fn left_by_an_exec() -> Option<Parcel> {
    let note = env::var(NOTE).ok()?;
    if exec::is_set_id() {
        return None;
    }
    let numbers: Vec<RawFd> = note.split(',').map(|number| number.parse().ok()).collect::<Option<_>>()?;
    if fork::thread_count().is_ok_and(|threads| threads == 1) {
        // SAFETY: this thread is the only one, so nobody reads the environment.
        unsafe { env::remove_var(NOTE) };
    }
    let first = *numbers.first()?;
    if !Parcel::is_message(first) {
        return None;
    }
    // SAFETY: an exec left them for us, as the message shows; nothing else has run here that could have opened them.
    let files = numbers.into_iter().map(|number| unsafe { exec::take_over(number) });
    Some(Parcel::arrived(files.collect::<io::Result<_>>().ok()?))
}

/// The life of a child that was begun anew.
fn follow(parcel: Parcel) -> ! {
    let _no_way_back = NoWayBack;
    primitive::me(); // from now on a fork counts
    let _ = parcel.open(|message| -> io::Result<()> {
        let order: Order = postcard::from_bytes(message).map_err(|_| io::ErrorKind::InvalidData)?;
        // ORDERING: Relaxed, a mark that carries nothing.
        INITIALIZED.store(true, Relaxed);
        obey(order)
    });
    // Nothing of it could be read, for want of a descriptor or of memory: there is nobody to tell.
    fork::leave(life::REFUSED)
}

/// Becomes and does what the order says.
pub(super) fn obey(order: Order) -> ! {
    let Order { function, argument, identity, watch, blocked, record, report, gate } = order;
    let report = report.map(|Descriptor(file)| File::from(file));
    let Ok(mut mask) = newborn::mask_of(&blocked) else { fork::leave(life::REFUSED) };
    let (ticket, settings) = gate.unzip();
    let settings = match settings.map(|settings| settings.prepare()).transpose() {
        Ok(settings) => settings.map(Box::new),
        Err(refused) => life::leave_refused(report.as_ref(), refused),
    };
    let page = Here::of_a_newborn(identity);
    Newborn { settings, watch, page, report }.begin(&mut mask, ticket.as_ref(), &record);
    life::live(
        || match Registered::find(&function) {
            Some(function) => function.run(&argument),
            None => Err(format!("no function is registered as {function}")),
        },
        &record,
    )
}

/// What a start by another method than fork begins with.
pub(super) fn order<A: Serialize, T>(
    function: &'static Function<A, T>,
    argument: &A,
    departure: &Departure,
    report: Option<OwnedFd>,
) -> Result<(Vec<u8>, Record, Option<Descriptor>, Identity), SpawnError> {
    function.check()?;
    let argument = order::encode(argument)?;
    let record = departure.record.try_clone().map_err(refused("dup"))?;
    Ok((argument, record, report.map(Descriptor), departure.identity.clone()))
}

/// The way of a start. `service`: the child is this crate's own affair.
pub(super) fn start<A, T>(
    builder: Builder,
    function: &'static Function<A, T>,
    argument: &A,
    service: bool,
) -> Result<Process<T>, SpawnError>
where
    A: Serialize,
    T: Serialize + DeserializeOwned,
{
    refuse_uninitialized()?;
    here::here().reap();
    let Builder { name, daemon, outlive_parent, on_drop, mut settings } = builder;
    let identity = here::here().next(name, daemon, service);
    let (departure, report) = Departure::new(identity, true)?;
    let says =
        report.as_ref().map(|end| end.try_clone()).transpose().map_err(refused("dup"))?.map(File::from);
    let watch = (!outlive_parent || departure.identity.daemon).then(Watch::on_this_process);
    let blocked = match settings.mask.take() {
        Some(signals) => signals,
        None => newborn::members(&newborn::mask().map_err(refused("sigprocmask"))?),
    };
    // What is no signal is found out here.
    newborn::mask_of(&blocked).map_err(|error| setting((2, error)))?;
    let parcel = Parcel::pack(|| {
        let (argument, record, report, identity) = order(function, argument, &departure, report)?;
        let function = function.name().to_owned();
        order::encode(&Order { function, argument, identity, watch, blocked, record, report, gate: None })
    })?;
    let numbers: Vec<RawFd> = parcel.files().map(|file| file.as_raw_fd()).collect();
    let note: Vec<String> = numbers.iter().map(RawFd::to_string).collect();
    settings.environment.insert(OsString::from(NOTE), Some(note.join(",").into()));
    let mut settings = settings.prepare().map_err(setting)?;
    let arguments = env::args_os().map(|argument| CString::new(argument.into_vec()));
    let arguments =
        Arguments::new(arguments.collect::<Result<_, _>>().map_err(|error| refused("execv")(error.into()))?);
    let gate = ShutGate::new()?;
    let mut mask = SigSet::empty();
    // SAFETY: until it begins anew or leaves, the child makes system calls alone, and uses words of shared memory.
    match unsafe { fork::fork(&mut mask) }.map_err(refused("fork"))? {
        Side::Child => {
            let _no_way_back = NoWayBack;
            if !gate.ticket().pass() {
                fork::leave(life::REFUSED);
            }
            let made = settings.apply(&mut mask);
            let kept = made.and_then(|()| {
                let kept = numbers.iter().try_for_each(|&number| exec::keep_at_exec(number));
                kept.map_err(|error| (u8::MAX - 1, error))
            });
            // Every signal stays blocked until the order has been read.
            let error = kept.err().unwrap_or_else(|| (u8::MAX - 1, exec::begin_anew(&arguments)));
            life::leave_refused(says.as_ref(), error)
        }
        Side::Parent(pid) => {
            // The child has its own; the end of the pipe must not be held here.
            drop((says, parcel));
            let child: Child = departure.see_through(pid, gate, Silence::IsAPrograms)?;
            Ok(Process::new(child, on_drop))
        }
    }
}
