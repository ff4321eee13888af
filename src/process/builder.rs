//! [`Builder`]: what a child is to be like before it runs anything of its user's.

use std::{
    ffi::OsStr,
    fs::File,
    io::{PipeReader, PipeWriter},
    os::fd::OwnedFd,
    path::Path,
};

use nix::libc;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    error::SpawnError,
    process::{OnDrop, Process, settings::Settings, spawn},
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    pub(super) on_drop: Option<OnDrop>,
    pub(super) settings: Settings,
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
    /// and whatever [`outlive_parent`](Builder::outlive_parent) says; and it is told to end when its handle is dropped
    /// ([`on_drop`](Builder::on_drop)). Unlike Python's it may have children.
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

    /// What the drop of its handle does: [`OnDrop::Terminate`] for a daemon, else [`OnDrop::Detach`], unless this says
    /// otherwise.
    pub fn on_drop(mut self, action: OnDrop) -> Builder {
        self.on_drop = Some(action);
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
        self.settings.directory = Some(directory.as_ref().as_os_str().to_owned());
        self
    }

    /// Its standard input. A child that reads a pipe to its end must close its own copy of the other end, which it has
    /// from this process as everything else. What std had read ahead in this process, the child has a copy of.
    pub fn stdin(mut self, stream: impl Into<Stream>) -> Builder {
        self.settings.streams[0] = Some(stream.into().into());
        self
    }

    /// Its standard output.
    pub fn stdout(mut self, stream: impl Into<Stream>) -> Builder {
        self.settings.streams[1] = Some(stream.into().into());
        self
    }

    /// Its standard error output.
    pub fn stderr(mut self, stream: impl Into<Stream>) -> Builder {
        self.settings.streams[2] = Some(stream.into().into());
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
        self.settings.limits.push((limit.number(), value));
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
