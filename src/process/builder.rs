//! [`Builder`]: what a child is to be like before it runs anything of its user's.
//!
//! All that needs memory is made ready by the parent ([`Settings::prepare`]); the child makes system calls alone
//! ([`Prepared::apply`]), in the order of the fields of [`Prepared`]: the limits while it may still raise them, user
//! and group after all that may need the old ones' rights, and the directory as whom it will be.

use std::{
    collections::BTreeMap,
    env,
    ffi::{CString, OsStr, OsString, c_char},
    fs::File,
    io::{self, ErrorKind, PipeReader, PipeWriter},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Path, PathBuf},
    ptr,
};

use nix::{libc, sys::signal::SigSet};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    error::SpawnError,
    os::{fork, newborn},
    process::{OnDrop, Process, spawn},
};

/// What one of a child's standard streams is.
#[derive(Debug)]
#[non_exhaustive]
pub enum Stream {
    /// Nothing: empty to read, gone when written. What standard input is unless the builder says otherwise.
    Null,
    /// The parent's. What the two outputs are unless the builder says otherwise.
    Inherit,
    /// This file, or this end of a pipe ([`std::io::pipe`]).
    File(OwnedFd),
}

impl From<OwnedFd> for Stream {
    fn from(file: OwnedFd) -> Stream {
        Stream::File(file)
    }
}

impl From<File> for Stream {
    fn from(file: File) -> Stream {
        Stream::File(file.into())
    }
}

impl From<PipeReader> for Stream {
    fn from(end: PipeReader) -> Stream {
        Stream::File(end.into())
    }
}

impl From<PipeWriter> for Stream {
    fn from(end: PipeWriter) -> Stream {
        Stream::File(end.into())
    }
}

/// What a process may use at most.
///
/// # References
/// setrlimit(2); Python `resource.setrlimit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limit {
    /// Bytes of address space.
    AddressSpace,
    /// Bytes of a core dump; 0 is none, so that a death is told at once.
    Core,
    /// Seconds of CPU time.
    CpuTime,
    /// Bytes of data segment.
    Data,
    /// Bytes of a file that it writes.
    FileSize,
    /// Bytes of locked memory.
    LockedMemory,
    /// Descriptors.
    OpenFiles,
    /// Processes of its user.
    Processes,
    /// Bytes of stack of its main thread.
    Stack,
}

impl Limit {
    #[allow(clippy::unnecessary_cast, reason = "other libcs number them by another type")]
    fn number(self) -> u32 {
        let number = match self {
            Limit::AddressSpace => libc::RLIMIT_AS,
            Limit::Core => libc::RLIMIT_CORE,
            Limit::CpuTime => libc::RLIMIT_CPU,
            Limit::Data => libc::RLIMIT_DATA,
            Limit::FileSize => libc::RLIMIT_FSIZE,
            Limit::LockedMemory => libc::RLIMIT_MEMLOCK,
            Limit::OpenFiles => libc::RLIMIT_NOFILE,
            Limit::Processes => libc::RLIMIT_NPROC,
            Limit::Stack => libc::RLIMIT_STACK,
        };
        number as u32
    }
}

/// A child to be: its name, its surroundings, and what becomes of it when its parent ends.
///
/// Made by [`Process::builder`]. It is used up by the start, so that nothing can be set too late or started twice.
///
/// # Examples
/// ```standalone_crate
/// use pshared::{Limit, Process};
///
/// let child = Process::builder()
///     .name("worker")
///     .env("MODE", "quiet")
///     .limit(Limit::Core, 0)
///     .spawn(|| (pshared::current_process().name().to_owned(), std::env::var("MODE").unwrap()))?;
/// assert_eq!(child.name(), "worker");
/// assert_eq!(child.join()?, ("worker".to_owned(), "quiet".to_owned()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Python `Process(name=..., daemon=...)`; `std::process::Command`.
#[derive(Debug, Default)]
#[must_use = "a builder starts nothing until `spawn`"]
pub struct Builder {
    pub(super) name: Option<String>,
    pub(super) daemon: Option<bool>,
    pub(super) outlive_parent: bool,
    pub(super) on_drop: OnDrop,
    pub(super) settings: Settings,
}

/// What is set in the child, and may be refused there.
#[derive(Debug, Default)]
pub(super) struct Settings {
    clear_environment: bool,
    environment: BTreeMap<OsString, Option<OsString>>,
    directory: Option<PathBuf>,
    streams: [Option<Stream>; 3],
    mask: Option<Vec<i32>>,
    session: bool,
    group: Option<i32>,
    limits: Vec<(Limit, u64)>,
    cpus: Option<Vec<usize>>,
    nice: Option<i32>,
    gid: Option<u32>,
    uid: Option<u32>,
}

impl Process {
    /// A child to be, with everything as [`spawn`](Process::spawn) has it.
    pub fn builder() -> Builder {
        Builder::default()
    }
}

impl Builder {
    /// Its name, else one by ancestry: `Process-2` is the second child, `Process-2:1` that one's first.
    pub fn name(mut self, name: impl Into<String>) -> Builder {
        self.name = Some(name.into());
        self
    }

    /// Makes it a daemon or not, else it is what this process is. A daemon ends when its parent ends, in whatever way,
    /// and whatever [`outlive_parent`](Builder::outlive_parent) says. Unlike Python's it may have children.
    pub fn daemon(mut self, daemon: bool) -> Builder {
        self.daemon = Some(daemon);
        self
    }

    /// Whether it goes on when this process ends. Unless this says so, the child is killed by the kernel when this
    /// *process* ends, by SIGKILL too; the end of the *thread* that started it does nothing.
    ///
    /// The watch is set before anything of the closure's runs, and it needs no help of this process or of a third. What
    /// it cannot see: a child that changed its user or group by itself, or runs a set-user-ID program, has lost it. And
    /// for children that another thread than the main one started by
    /// [`spawn_unchecked`](Builder::spawn_unchecked), it is a handler of the highest free real-time signal, which is
    /// not there after an exec and waits as long as that signal is blocked.
    ///
    /// # References
    /// PR_SET_PDEATHSIG(2const).
    pub fn outlive_parent(mut self, outlive: bool) -> Builder {
        self.outlive_parent = outlive;
        self
    }

    /// What the drop of its handle does.
    pub fn on_drop(mut self, action: OnDrop) -> Builder {
        self.on_drop = action;
        self
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Builder {
        self.settings.environment.insert(key.as_ref().into(), Some(value.as_ref().into()));
        self
    }

    /// Takes a variable out of its environment.
    pub fn env_remove(mut self, key: impl AsRef<OsStr>) -> Builder {
        self.settings.environment.insert(key.as_ref().into(), None);
        self
    }

    /// Begins with an empty environment; what was set before this call is forgotten.
    pub fn env_clear(mut self) -> Builder {
        self.settings.clear_environment = true;
        self.settings.environment.clear();
        self
    }

    /// Its working directory.
    pub fn current_dir(mut self, directory: impl AsRef<Path>) -> Builder {
        self.settings.directory = Some(directory.as_ref().into());
        self
    }

    /// Its standard input. A child that reads a pipe to its end must close its own copy of the other end, which it has
    /// from this process as everything else. What std had read ahead in this process, the child has a copy of.
    pub fn stdin(mut self, stream: impl Into<Stream>) -> Builder {
        self.settings.streams[0] = Some(stream.into());
        self
    }

    /// Its standard output.
    pub fn stdout(mut self, stream: impl Into<Stream>) -> Builder {
        self.settings.streams[1] = Some(stream.into());
        self
    }

    /// Its standard error output.
    pub fn stderr(mut self, stream: impl Into<Stream>) -> Builder {
        self.settings.streams[2] = Some(stream.into());
        self
    }

    /// Blocks exactly these signals in it, else those that the calling thread blocks. Blocking SIGINT shields it from
    /// Ctrl-C.
    pub fn signal_mask(mut self, blocked: &[i32]) -> Builder {
        self.settings.mask = Some(blocked.to_vec());
        self
    }

    /// The process group that it joins; 0 is a new one of its own, which Ctrl-C at the terminal does not reach.
    pub fn process_group(mut self, group: i32) -> Builder {
        self.settings.group = Some(group);
        self
    }

    /// Makes it the leader of a session of its own, without a terminal.
    #[doc(alias = "setsid")]
    pub fn session(mut self) -> Builder {
        self.settings.session = true;
        self
    }

    /// Limits what it may use; the limit cannot be raised again.
    #[doc(alias = "rlimit")]
    pub fn limit(mut self, limit: Limit, value: u64) -> Builder {
        self.settings.limits.push((limit, value));
        self
    }

    /// The CPUs that it may run on, counted from 0.
    pub fn affinity(mut self, cpus: &[usize]) -> Builder {
        self.settings.cpus = Some(cpus.to_vec());
        self
    }

    /// Adds to its niceness: the nicer, the less of the CPU it gets.
    pub fn nice(mut self, increment: i32) -> Builder {
        self.settings.nice = Some(increment);
        self
    }

    /// The user that it becomes. A child of root without a [`gid`](Builder::gid) of its own leaves its groups all the
    /// same.
    pub fn uid(mut self, uid: u32) -> Builder {
        self.settings.uid = Some(uid);
        self
    }

    /// The group that it becomes a member of, and of no other.
    pub fn gid(mut self, gid: u32) -> Builder {
        self.settings.gid = Some(gid);
        self
    }

    /// Starts it: see [`Process::spawn`]. Waits until the child is as it should be.
    ///
    /// # Errors
    /// [`SpawnError::Setting`]: the child could not be made so; else as for [`Process::spawn`].
    ///
    /// # Panics
    /// As for [`Process::spawn`].
    #[doc(alias = "start")]
    pub fn spawn<T, F>(self, closure: F) -> Result<Process<T>, SpawnError>
    where
        T: Serialize + DeserializeOwned,
        F: FnOnce() -> T,
    {
        spawn::refuse_threads()?;
        // SAFETY: this thread is the only one.
        unsafe { self.spawn_unchecked(closure) }
    }

    /// Starts it whatever other threads there are: see [`Process::spawn_unchecked`].
    ///
    /// # Safety
    /// As for [`Process::spawn_unchecked`].
    ///
    /// # Errors
    /// As for [`spawn`](Builder::spawn), except [`SpawnError::MultiThreaded`].
    pub unsafe fn spawn_unchecked<T, F>(self, closure: F) -> Result<Process<T>, SpawnError>
    where
        T: Serialize + DeserializeOwned,
        F: FnOnce() -> T,
    {
        // SAFETY: passed on.
        unsafe { spawn::start(self, closure) }
    }
}

/// Settings that may be refused, as the child calls them when it tells its parent which.
pub(super) const NAMES: [&str; 11] = [
    "environment",
    "standard streams",
    "signal mask",
    "session",
    "process group",
    "limits",
    "affinity",
    "niceness",
    "group",
    "user",
    "working directory",
];

/// Which setting was refused, by its place in [`NAMES`], and why.
pub(super) type Refused = (u8, io::Error);

/// [`Settings`], ready to be made true by system calls alone.
pub(super) struct Prepared {
    environment: Option<Environment>,
    streams: [Option<Stream>; 3],
    mask: Option<SigSet>,
    session: bool,
    group: Option<i32>,
    limits: Vec<(Limit, u64)>,
    cpus: Option<libc::cpu_set_t>,
    nice: Option<i32>,
    gid: Option<u32>,
    uid: Option<u32>,
    directory: Option<CString>,
    /// Whether anything was asked for at all.
    pub(super) plain: bool,
}

/// The strings of an environment, and the list of them that the kernel's and libc's conventions ask for.
struct Environment {
    _entries: Vec<CString>,
    list: Vec<*const c_char>,
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, text)
}

impl Settings {
    fn is_plain(&self) -> bool {
        let streams = self.streams.iter().all(Option::is_none);
        let surroundings = !self.clear_environment && self.environment.is_empty() && self.directory.is_none();
        let standing = self.mask.is_none() && !self.session && self.group.is_none() && self.nice.is_none();
        let rights =
            self.limits.is_empty() && self.cpus.is_none() && self.uid.is_none() && self.gid.is_none();
        streams && surroundings && standing && rights
    }

    /// The parent's part.
    pub(super) fn prepare(self) -> Result<Prepared, Refused> {
        let plain = self.is_plain();
        let changes_environment = self.clear_environment || !self.environment.is_empty();
        let environment = if changes_environment {
            Some(environment(self.clear_environment, self.environment).map_err(|error| (0, error))?)
        } else {
            None
        };
        let mut streams = self.streams;
        for stream in &mut streams {
            // What lies where a stream will be would be overwritten before its turn.
            *stream = match stream.take() {
                Some(Stream::File(file)) => {
                    Some(Stream::File(newborn::above_the_streams(file).map_err(|error| (1, error))?))
                }
                other => other,
            };
        }
        let mask =
            self.mask.map(|signals| newborn::mask_of(&signals)).transpose().map_err(|error| (2, error))?;
        let cpus = self.cpus.map(|cpus| cpu_set(&cpus)).transpose().map_err(|error| (6, error))?;
        let directory = self.directory.map(|path| CString::new(path.into_os_string().into_vec()));
        let directory = directory.transpose().map_err(|error| (10, error.into()))?;
        let Settings { session, group, limits, nice, gid, uid, .. } = self;
        Ok(Prepared {
            environment,
            streams,
            mask,
            session,
            group,
            limits,
            cpus,
            nice,
            gid,
            uid,
            directory,
            plain,
        })
    }
}

/// This process's environment with the changes.
fn environment(clear: bool, changes: BTreeMap<OsString, Option<OsString>>) -> io::Result<Environment> {
    let mut entries = Vec::new();
    if !clear {
        let kept = env::vars_os().filter(|(key, _)| !changes.contains_key(key));
        entries.extend(kept);
    }
    for (key, value) in changes {
        if key.is_empty() || key.as_bytes().contains(&b'=') {
            return Err(invalid("a name of a variable is empty or has a `=` in it"));
        }
        if let Some(value) = value {
            entries.push((key, value));
        }
    }
    let entry =
        |(key, value): (OsString, OsString)| CString::new([key.as_bytes(), b"=", value.as_bytes()].concat());
    let entries = entries.into_iter().map(entry).collect::<Result<Vec<CString>, _>>()?;
    let list = entries.iter().map(|entry| entry.as_ptr()).chain([ptr::null()]).collect();
    Ok(Environment { _entries: entries, list })
}

fn cpu_set(cpus: &[usize]) -> io::Result<libc::cpu_set_t> {
    // SAFETY: an all-zero set is the empty one.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for &cpu in cpus {
        if cpu >= libc::CPU_SETSIZE as usize {
            return Err(invalid("there is no such CPU"));
        }
        // SAFETY: the number is in range, and the set ours.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    Ok(set)
}

impl Prepared {
    /// The child's part: makes them true. `mask` is the one to set at last.
    pub(super) fn apply(&mut self, mask: &mut SigSet) -> Result<(), Refused> {
        let at = |place: u8| move |error: io::Error| (place, error);
        if let Some(environment) = &self.environment {
            // SAFETY: the child never frees what it found at its birth, and has one thread.
            unsafe { newborn::set_environment(&environment.list) };
        }
        for (number, stream) in self.streams.iter_mut().enumerate() {
            let number = number as i32;
            match (number, stream.take()) {
                // A child that keeps its parent's input for want of /dev/null is worse off, but not lost.
                (0, None) => drop(fork::empty_stdin()),
                (_, None | Some(Stream::Inherit)) => {}
                (0, Some(Stream::Null)) => fork::empty_stdin().map_err(at(1))?,
                (_, Some(Stream::Null)) => {
                    let null = File::options().write(true).open("/dev/null").map_err(at(1))?;
                    newborn::redirect(null.as_fd(), number).map_err(at(1))?;
                }
                (_, Some(Stream::File(file))) => newborn::redirect(file.as_fd(), number).map_err(at(1))?,
            }
        }
        if let Some(asked) = self.mask {
            *mask = asked;
        }
        if self.session {
            newborn::new_session().map_err(at(3))?;
        }
        if let Some(group) = self.group {
            newborn::join_group(group).map_err(at(4))?;
        }
        for &(limit, value) in &self.limits {
            newborn::limit(limit.number(), value).map_err(at(5))?;
        }
        if let Some(cpus) = &self.cpus {
            newborn::run_on(cpus).map_err(at(6))?;
        }
        if let Some(increment) = self.nice {
            newborn::nice(increment).map_err(at(7))?;
        }
        if self.gid.is_some() || self.uid.is_some() {
            newborn::leave_groups().map_err(at(8))?;
        }
        if let Some(gid) = self.gid {
            newborn::become_group(gid).map_err(at(8))?;
        }
        if let Some(uid) = self.uid {
            newborn::become_user(uid).map_err(at(9))?;
        }
        if let Some(directory) = &self.directory {
            newborn::change_directory(directory).map_err(at(10))?;
        }
        Ok(())
    }
}
