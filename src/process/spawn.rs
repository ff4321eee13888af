//! The start of a child by fork, and what the other ways of starting have in common with it.
//!
//! # The way of a start
//! 1. Memory for the record; the gate is shut; std's output streams are locked and flushed, so that no byte is printed
//!    twice and no other thread holds them in the child's copy.
//! 2. fork, with signals blocked.
//! 3. The parent opens the pidfd, then the gate. If it cannot, it opens no gate and sees the child off.
//! 4. The child passes the gate, and lives (`life`).
//!
//! Another start method (`context`) puts something else in the place of 2; the rest is the same ([`Departure`]).

use std::{
    io::{self, PipeReader, Read, Write},
    os::fd::{AsFd, OwnedFd},
};

use nix::{sys::signal::SigSet, unistd::Pid};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    error::SpawnError,
    os::{
        fork::{self, Side},
        newborn, pidfd, readiness,
    },
    primitive::{self, Deadline},
    process::{
        Builder, Child, Process,
        gate::ShutGate,
        here::{self, Here, Identity},
        hooks,
        life::{self, Newborn, NoWayBack, REPORT},
        record::Record,
        settings::{NAMES, Refused},
        watch::Watch,
    },
};

impl<T: Serialize + DeserializeOwned> Process<T> {
    /// Starts a child process that runs `closure`, by fork.
    ///
    /// The child is a copy of this process at this moment: it sees everything that the closure borrows or owns, and
    /// what it changes, it changes in its copy, except in shared memory. So nothing need be `'static` or [`Send`]: no
    /// thread and no borrow of *this* process ever meets the child's. What the closure owns is there twice, and is
    /// dropped on both sides: here when `spawn` returns, there when the closure ends. (The end of a pipe that is moved
    /// into the child is closed here. A directory that is deleted on drop is deleted at once: lend it instead.)
    ///
    /// The child's standard input is empty, but for what std had read ahead and not yet given out. Its value comes
    /// home through memory without a limit, so it never waits for this process to read. It ends without running
    /// destructors or exit handlers of this process; the locks that this process holds are not the child's, and guards
    /// that the closure captured do nothing there.
    ///
    /// Never blocks for longer than a fork takes. When this process ends, by SIGKILL too, the child ends with it; if
    /// that is before the child could be told from any other, without having run anything of `closure`. A child that is
    /// to go on, or to be different in another way, is made by a [`builder`](Process::builder).
    ///
    /// # Errors
    /// - [`SpawnError::MultiThreaded`]: this process has other threads. A lock that one of them holds (the allocator's,
    ///   a `Mutex`) would stay held in the child for ever.
    /// - [`SpawnError::Memory`], [`SpawnError::Os`]: no memory, no descriptor, no process left.
    ///
    /// In all cases nothing of the closure has run, and nothing is left behind.
    ///
    /// # Panics
    /// When the destructor of `closure` does, on this side; the child is detached then.
    ///
    /// # Examples
    /// ```standalone_crate
    /// use pshared::{JoinError, Process};
    ///
    /// let numbers = [1, 2, 3];
    /// let child = Process::spawn(|| numbers.iter().sum::<u32>())?;
    /// assert_eq!(child.join()?, 6);
    ///
    /// let child = Process::spawn(|| -> u32 { panic!("no numbers") })?;
    /// assert!(matches!(child.join(), Err(JoinError::Panicked { message, .. }) if message == "no numbers"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # References
    /// Python `Process(target=...).start()` with the start method "fork"; fork(2).
    #[doc(alias = "start")]
    #[doc(alias = "fork")]
    pub fn spawn<F: FnOnce() -> T>(closure: F) -> Result<Process<T>, SpawnError> {
        Builder::default().spawn(closure)
    }

    /// Starts a child process that runs `closure`, whatever other threads there are.
    ///
    /// As [`spawn`](Process::spawn), but it may wait for a thread that holds the lock of std's output streams: those
    /// are never held in the child.
    ///
    /// # Safety
    /// The child has the calling thread alone, and what other threads were in the middle of stays so for ever. If
    /// there are any, the closure may only use what none of them can have left half-done: signal-safety(7) lists what
    /// is sure. In practice glibc's allocator is usable too; locks, lazily made statics and other libraries'
    /// state are the danger.
    ///
    /// # Errors
    /// As for [`spawn`](Process::spawn), except [`SpawnError::MultiThreaded`].
    pub unsafe fn spawn_unchecked<F: FnOnce() -> T>(closure: F) -> Result<Process<T>, SpawnError> {
        // SAFETY: passed on.
        unsafe { Builder::default().spawn_unchecked(closure) }
    }
}

pub(super) fn refused(call: &'static str) -> impl Fn(io::Error) -> SpawnError {
    move |source| SpawnError::Os { call, source }
}

/// Refuses if this process has other threads.
pub(super) fn refuse_threads() -> Result<(), SpawnError> {
    // Asked first: the answer takes a thread, once per program.
    primitive::robust_support().map_err(refused("get_robust_list"))?;
    match fork::staying_thread_count().map_err(refused("a look at /proc/self/task"))? {
        threads if threads > 1 => Err(SpawnError::MultiThreaded { threads }),
        _ => Ok(()),
    }
}

/// The way of a start.
///
/// # Safety
/// As for [`Process::spawn_unchecked`].
pub(super) unsafe fn start<T, F>(builder: Builder, closure: F) -> Result<Process<T>, SpawnError>
where
    T: Serialize + DeserializeOwned,
    F: FnOnce() -> T,
{
    here::here().reap();
    let Builder { name, daemon, outlive_parent, on_drop, settings } = builder;
    let settings =
        if settings.is_plain() { None } else { Some(Box::new(settings.prepare().map_err(setting)?)) };
    let (departure, report) = Departure::new(here::here().next(name, daemon, false), settings.is_some())?;
    let page = Here::of_a_child(departure.identity.clone());
    let watch = (!outlive_parent || departure.identity.daemon).then(Watch::on_this_process);
    let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
    // What cannot be written now is the next print's trouble.
    let _ = (out.flush(), err.flush());
    let gate = ShutGate::new()?;
    let hooks = hooks::held();
    let mut mask = SigSet::empty();
    // SAFETY: one thread, or as the caller vouches.
    match unsafe { fork::fork(&mut mask) }.map_err(refused("fork"))? {
        Side::Child => {
            let _no_way_back = NoWayBack;
            let copy = if hooks.is_empty() { Vec::new() } else { hooks.clone() };
            drop((out, err, hooks));
            if settings.is_none() {
                // A child that keeps its parent's input for want of /dev/null is worse off, but not lost.
                let _ = fork::empty_stdin();
            }
            let record = &departure.record;
            let report = report.map(Into::into);
            Newborn { settings, watch, page, report }.begin(&mut mask, Some(gate.ticket()), record);
            let work = || {
                copy.iter().for_each(|hook| hook());
                life::encoded(closure())
            };
            life::live(work, record)
        }
        Side::Parent(pid) => {
            drop((out, err, hooks));
            drop((report, settings, page));
            let child = departure.see_through(pid, gate, Silence::IsAChilds)?;
            let process = Process::new(child, on_drop);
            drop(closure); // here, so that its panic finds the handle made
            Ok(process)
        }
    }
}

/// What an end without a report is, where one was to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// That of a child that was killed before it was ready.
    IsAChilds,
    /// That of a program that did not come to [`init`](crate::init), if it left by itself.
    IsAPrograms,
}

/// What the parent holds of a child to be.
pub(super) struct Departure {
    pub(super) record: Record,
    pub(super) identity: Identity,
    report: Option<PipeReader>,
}

impl Departure {
    /// And the end of the pipe that the child says by whether all is well, if it is to say so.
    pub(super) fn new(identity: Identity, reports: bool) -> Result<(Departure, Option<OwnedFd>), SpawnError> {
        let (report, end) = if reports { Some(pipe().map_err(refused("pipe"))?) } else { None }.unzip();
        let record = Record::new().map_err(refused("memfd_create"))?;
        Ok((Departure { record, identity, report }, end))
    }

    /// The child is there and waits at the gate. This process holds no other copy of the pipe's end.
    pub(super) fn see_through(self, pid: Pid, gate: ShutGate, silence: Silence) -> Result<Child, SpawnError> {
        let pidfd = match pidfd::open(pid) {
            Ok(pidfd) => pidfd,
            Err(source) => {
                drop(gate);
                fork::see_off(pid);
                return Err(SpawnError::Os { call: "pidfd_open", source });
            }
        };
        self.record.is_spent(false);
        let child = Child::new(pid, pidfd, self.record, self.identity);
        here::here().remember(&child);
        gate.open();
        if let Some(report) = self.report {
            hear(report, &child, silence)?;
        }
        Ok(child)
    }
}

/// A pipe that no redirection of the child's streams overwrites.
fn pipe() -> io::Result<(PipeReader, OwnedFd)> {
    let (reader, writer) = io::pipe()?;
    Ok((reader, newborn::above_the_streams(writer.into())?))
}

pub(super) fn setting((what, source): Refused) -> SpawnError {
    match NAMES.get(usize::from(what)) {
        Some(what) => SpawnError::Setting { what, source },
        None => SpawnError::Os { call: "execv", source },
    }
}

/// Waits until the child says that it is as it should be, or why not; or until it has ended, which its status tells.
fn hear(mut report: PipeReader, child: &Child, silence: Silence) -> Result<(), SpawnError> {
    // Not for the end of the pipe: another fork's copy could keep it open.
    let mut files = [readiness::readable(report.as_fd()), child.pollfd()];
    readiness::wait_ready(&mut files, None).map_err(refused("ppoll"))?;
    if files[0].revents == 0 {
        // It may have said it between the looks at the one and at the other.
        let now = Some(Deadline::now());
        readiness::wait_ready(&mut files[..1], now).map_err(refused("ppoll"))?;
    }
    let mut said = [0; REPORT];
    if files[0].revents == 0 || report.read_exact(&mut said).is_err() {
        return match child.wait().map_err(refused("waitid"))?.code() {
            Some(code) if silence == Silence::IsAPrograms => Err(SpawnError::NeverBegan { code }),
            _ => Ok(()),
        };
    }
    if said[0] == 0 {
        return Ok(());
    }
    // It leaves at once, and is reaped later if it cannot be now.
    if child.wait().is_ok() {
        child.record().is_spent(true);
    }
    let [what, code @ ..] = said;
    Err(setting((what - 1, io::Error::from_raw_os_error(i32::from_le_bytes(code)))))
}
