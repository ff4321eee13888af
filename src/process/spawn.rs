//! Fork, run the closure, report, leave.
//!
//! # The way of a start
//! 1. Memory for the record; the gate is shut; std's output streams are locked and flushed, so that no byte is printed
//!    twice and no other thread holds them in the child's copy.
//! 2. fork, with signals blocked.
//! 3. The parent opens the pidfd, then the gate. If it cannot, it opens no gate and sees the child off.
//! 4. The child passes the gate; is made what the builder asked for; sets the watch on its parent, and leaves if that
//!    is gone already; says that all is well, if anything was asked for; lets signals through. Where it leaves, it does
//!    so with [`REFUSED`], before it ran anything of the user's.
//! 5. It runs the closure, encodes what came of it, flushes, writes the record, and leaves by `_exit`.
//!
//! Another start method than fork is to be chosen by a context that is passed to the builder, never by a global: what
//! it replaces is [`start`], and everything after the gate is the same.
//!
//! The child stands on a copy of its parent's stack and never goes back down it: what unwinds is caught here, what
//! escapes even that aborts ([`NoWayBack`]), and it leaves without running destructors or atexit handlers.

use std::{
    any::Any,
    cell::RefCell,
    io::{self, PipeReader, PipeWriter, Read, Write},
    mem,
    os::fd::AsFd,
    panic::{self, AssertUnwindSafe, PanicHookInfo, catch_unwind},
    process, thread,
};

use nix::sys::signal::SigSet;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    error::SpawnError,
    os::{
        fork::{self, Side},
        newborn, pidfd, readiness,
    },
    primitive,
    process::{
        Builder, Child, PanicLocation, Process,
        builder::{NAMES, Prepared, Refused},
        exit::PANICKED,
        gate::ShutGate,
        here::{self, Identity},
        record::{Kind, Panic, Record},
        watch::Watch,
    },
};

/// The code of a child whose parent died, or failed, before the child was ready; or that could not be made ready.
const REFUSED: i32 = 125;
/// The code of a child whose value could not be sent: Python's for an error that nobody handled.
const UNSENT: i32 = 1;

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

fn refused(call: &'static str) -> impl Fn(io::Error) -> SpawnError {
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
    let here = here::here();
    here.reap();
    let Builder { name, daemon, outlive_parent, on_drop, settings } = builder;
    let settings = settings.prepare().map_err(setting)?;
    let report = if settings.plain { None } else { Some(pipe().map_err(refused("pipe"))?) };
    let record = Record::new().map_err(refused("memfd_create"))?;
    let identity = here.next(name, daemon);
    let watch = (!outlive_parent || identity.daemon).then(Watch::on_this_process);
    let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
    // What cannot be written now is the next print's trouble.
    let _ = (out.flush(), err.flush());
    let gate = ShutGate::new()?;
    // SAFETY: one thread, or as the caller vouches.
    match unsafe { fork::fork() }.map_err(refused("fork"))? {
        Side::Child(mask) => {
            let _no_way_back = NoWayBack;
            drop((out, err));
            let report = report.map(|(_, writer)| writer);
            Newborn { settings, mask, watch, identity, report }.begin(&gate, &record);
            live(closure, &record)
        }
        Side::Parent(pid) => {
            drop((out, err));
            match pidfd::open(pid) {
                Ok(pidfd) => {
                    let child = Child::new(pid, pidfd, record, identity.name, identity.daemon);
                    here.remember(&child);
                    gate.open();
                    if let Some((reader, writer)) = report {
                        drop(writer);
                        hear(reader, &child)?;
                    }
                    let process = Process::new(child, on_drop);
                    drop(closure); // here, so that its panic finds the handle made
                    Ok(process)
                }
                Err(source) => {
                    drop(gate);
                    fork::see_off(pid);
                    Err(SpawnError::Os { call: "pidfd_open", source })
                }
            }
        }
    }
}

/// A pipe that no redirection of the child's streams overwrites.
fn pipe() -> io::Result<(PipeReader, PipeWriter)> {
    let (reader, writer) = io::pipe()?;
    let writer = newborn::above_the_streams(writer.into())?;
    Ok((reader, writer.into()))
}

fn setting((what, source): Refused) -> SpawnError {
    SpawnError::Setting { what: NAMES[usize::from(what)], source }
}

/// Waits until the child says that it is as it should be, or why not; or until it has ended, which its status tells.
fn hear(mut report: PipeReader, child: &Child) -> Result<(), SpawnError> {
    // Not for the end of the pipe: another fork's copy could keep it open.
    let mut files = [readiness::readable(report.as_fd()), child.pollfd()];
    readiness::wait_ready(&mut files, None).map_err(refused("ppoll"))?;
    let mut said = [0; REPORT];
    if files[0].revents == 0 || report.read_exact(&mut said).is_err() || said[0] == 0 {
        return Ok(());
    }
    // It leaves at once, and is reaped later if it cannot be now.
    let _ = child.wait();
    let [what, code @ ..] = said;
    Err(setting((what - 1, io::Error::from_raw_os_error(i32::from_le_bytes(code)))))
}

/// Bytes that a child writes about its settings: 0 if all is well, else the place of the refused one, counted from 1;
/// and the error's number.
const REPORT: usize = 5;

/// What is to be done by a child before it is its closure's.
struct Newborn {
    settings: Prepared,
    mask: SigSet,
    watch: Option<Watch>,
    identity: Identity,
    report: Option<PipeWriter>,
}

impl Newborn {
    /// Does it, or leaves. What it owns, the child keeps for good: its environment lies there.
    fn begin(mut self, gate: &ShutGate, record: &Record) {
        if !gate.pass() {
            fork::leave(REFUSED);
        }
        if let Err((what, error)) = self.settings.apply(&mut self.mask) {
            let [a, b, c, d] = error.raw_os_error().unwrap_or(0).to_le_bytes();
            if let Some(report) = &mut self.report {
                let _ = report.write_all(&[what + 1, a, b, c, d]);
            }
            fork::leave(REFUSED);
        }
        // After the settings, since the kernel forgets the watch when the user changes.
        match self.watch.map(|watch| watch.arm(&mut self.mask)) {
            None | Some(Ok(true)) => {}
            Some(Ok(false)) => fork::leave(REFUSED),
            Some(Err(error)) => {
                let text = format!("the watch on the parent cannot be set: {error}");
                if let Ok(identity) = record.identity() {
                    let _ = record.write(identity, Kind::Unwritable, REFUSED, text.as_bytes());
                }
                fork::leave(REFUSED);
            }
        }
        here::be(Identity { pid: process::id(), ..self.identity });
        if let Some(mut report) = self.report {
            let _ = report.write_all(&[0; REPORT]);
        }
        // A mask that libc made can be set.
        let _ = newborn::set_mask(&self.mask);
        mem::forget(self.settings);
    }
}

/// Stands between the child's frames and its parent's: an unwinding that comes this far aborts.
struct NoWayBack;

impl Drop for NoWayBack {
    fn drop(&mut self) {
        process::abort();
    }
}

/// The whole life of the child.
fn live<T: Serialize, F: FnOnce() -> T>(closure: F, record: &Record) -> ! {
    let pid = process::id();
    let identity = record.identity();
    remember_panics();
    let (kind, code, body) = run(closure);
    let _ = catch_unwind(|| {
        let _ = (io::stdout().flush(), io::stderr().flush());
    });
    // A process that the closure forked, and that came back here with it, has nothing to report.
    let mut code = code;
    if pid == process::id()
        && let Ok(identity) = identity
        && let Err(error) = record.write(identity, kind, code, &body)
    {
        code = UNSENT;
        let _ = record.write(identity, Kind::Unwritable, code, error.to_string().as_bytes());
    }
    fork::leave(code)
}

/// Runs the closure and encodes what comes of it.
fn run<T: Serialize, F: FnOnce() -> T>(closure: F) -> (Kind, i32, Vec<u8>) {
    let sent = catch_unwind(AssertUnwindSafe(|| {
        let value = closure();
        let body = postcard::to_stdvec(&value);
        drop(value);
        body
    }));
    match sent {
        Ok(Ok(body)) => (Kind::Value, 0, body),
        Ok(Err(error)) => (Kind::Unencodable, UNSENT, format!("cannot be encoded: {error}").into_bytes()),
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
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
        let location = info.location().map(|place| PanicLocation {
            file: place.file().to_owned(),
            line: place.line(),
            column: place.column(),
        });
        let panic = Panic { message: text(info.payload()), location };
        let _ = LAST.try_with(|last| last.replace(Some(panic)));
        usual(info);
    }));
}

impl Panic {
    /// From what was caught. The hook knows the place, unless it last saw another panic.
    fn new(payload: &(dyn Any + Send)) -> Panic {
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
