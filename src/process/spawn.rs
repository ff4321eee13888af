//! Fork, run the closure, report, leave.
//!
//! # The way of a start
//! 1. Memory for the record; the gate is shut; std's output streams are locked and flushed, so that no byte is printed
//!    twice and no other thread holds them in the child's copy.
//! 2. fork, with signals blocked.
//! 3. The parent opens the pidfd, then the gate. If it cannot, it opens no gate and sees the child off.
//! 4. The child passes the gate, or leaves with [`REFUSED`] before it ran anything of the user's.
//! 5. It runs the closure, encodes what came of it, flushes, writes the record, and leaves by `_exit`.
//!
//! The child stands on a copy of its parent's stack and never goes back down it: what unwinds is caught here, what
//! escapes even that aborts ([`NoWayBack`]), and it leaves without running destructors or atexit handlers.

use std::{
    any::Any,
    cell::RefCell,
    io::{self, Write},
    mem,
    panic::{self, AssertUnwindSafe, PanicHookInfo, catch_unwind},
    process, thread,
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    error::SpawnError,
    os::{
        fork::{self, Side},
        pidfd,
    },
    primitive,
    process::{
        PanicLocation, Process,
        exit::PANICKED,
        gate::ShutGate,
        orphans,
        record::{Kind, Panic, Record},
    },
};

/// The code of a child whose parent died, or failed, before the gate was open. Nobody is there to see it.
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
    /// Never blocks for longer than a fork takes. If this process is killed before the child could be told from any
    /// other, the child ends without having run anything of `closure`; if later, the child goes on.
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
        // Asked first: the answer takes a thread, once per program.
        primitive::robust_support().map_err(refused("get_robust_list"))?;
        let threads = fork::settled_thread_count().map_err(refused("stat of /proc/self/task"))?;
        if threads > 1 {
            return Err(SpawnError::MultiThreaded { threads });
        }
        // SAFETY: this thread is the only one.
        unsafe { Process::spawn_unchecked(closure) }
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
        orphans::reap();
        let record = Record::new().map_err(refused("memfd_create"))?;
        let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
        // What cannot be written now is the next print's trouble.
        let _ = (out.flush(), err.flush());
        let gate = ShutGate::new()?;
        // SAFETY: one thread, or as the caller vouches.
        match unsafe { fork::fork() }.map_err(refused("fork"))? {
            Side::Child => {
                let _no_way_back = NoWayBack;
                drop((out, err));
                live(closure, &gate, &record)
            }
            Side::Parent(pid) => {
                drop((out, err));
                match pidfd::open(pid) {
                    Ok(pidfd) => {
                        gate.open();
                        let process = Process::new(pid, pidfd, record);
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
}

fn refused(call: &'static str) -> impl Fn(io::Error) -> SpawnError {
    move |source| SpawnError::Os { call, source }
}

/// Stands between the child's frames and its parent's: an unwinding that comes this far aborts.
struct NoWayBack;

impl Drop for NoWayBack {
    fn drop(&mut self) {
        process::abort();
    }
}

/// The whole life of the child.
fn live<T: Serialize, F: FnOnce() -> T>(closure: F, gate: &ShutGate, record: &Record) -> ! {
    if !gate.pass() {
        fork::leave(REFUSED);
    }
    let pid = process::id();
    // A child that keeps its parent's input is worse off, but not lost.
    let _ = fork::empty_stdin();
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
