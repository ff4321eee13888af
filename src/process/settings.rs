//! What a builder asked for, on its way to the child.
//!
//! All that needs memory is made ready first ([`Settings::prepare`]), by the parent, or by a child that has one
//! thread; then there are system calls alone ([`Prepared::apply`]), in the order of the fields of [`Prepared`]: the
//! limits while it may still raise them, user and group after all that may need the old ones' rights, and the
//! directory as whom it will be.

use std::{
    collections::BTreeMap,
    env,
    ffi::{CString, OsString, c_char},
    fs::File,
    io::{self, ErrorKind},
    os::{
        fd::AsFd,
        unix::ffi::{OsStrExt, OsStringExt},
    },
    ptr,
};

use nix::{libc, sys::signal::SigSet};
use serde::{Deserialize, Serialize};

use crate::{
    os::{fork, newborn},
    process::Stream,
    region::Descriptor,
};

/// A [`Stream`] that can be sent.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Way {
    Null,
    Inherit,
    File(Descriptor),
}

impl From<Stream> for Way {
    fn from(stream: Stream) -> Way {
        match stream {
            Stream::Null => Way::Null,
            Stream::Inherit => Way::Inherit,
            Stream::File(file) => Way::File(Descriptor(file)),
        }
    }
}

/// What is set in the child, and may be refused there.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Settings {
    pub(super) clear_environment: bool,
    pub(super) environment: BTreeMap<OsString, Option<OsString>>,
    pub(super) directory: Option<OsString>,
    pub(super) streams: [Option<Way>; 3],
    pub(super) mask: Option<Vec<i32>>,
    pub(super) session: bool,
    pub(super) group: Option<i32>,
    pub(super) limits: Vec<(u32, u64)>,
    pub(super) cpus: Option<Vec<usize>>,
    pub(super) nice: Option<i32>,
    pub(super) gid: Option<u32>,
    pub(super) uid: Option<u32>,
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
    streams: [Option<Way>; 3],
    pub(super) mask: Option<SigSet>,
    session: bool,
    group: Option<i32>,
    limits: Vec<(u32, u64)>,
    cpus: Option<libc::cpu_set_t>,
    nice: Option<i32>,
    gid: Option<u32>,
    uid: Option<u32>,
    directory: Option<CString>,
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
    /// Whether nothing was asked for at all.
    pub(super) fn is_plain(&self) -> bool {
        let streams = self.streams.iter().all(Option::is_none);
        let surroundings = !self.clear_environment && self.environment.is_empty() && self.directory.is_none();
        let standing = self.mask.is_none() && !self.session && self.group.is_none() && self.nice.is_none();
        let rights =
            self.limits.is_empty() && self.cpus.is_none() && self.uid.is_none() && self.gid.is_none();
        streams && surroundings && standing && rights
    }

    /// The parent's part.
    pub(super) fn prepare(self) -> Result<Prepared, Refused> {
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
                Some(Way::File(Descriptor(file))) => {
                    Some(Way::File(Descriptor(newborn::above_the_streams(file).map_err(|error| (1, error))?)))
                }
                other => other,
            };
        }
        let mask =
            self.mask.map(|signals| newborn::mask_of(&signals)).transpose().map_err(|error| (2, error))?;
        let cpus = self.cpus.map(|cpus| cpu_set(&cpus)).transpose().map_err(|error| (6, error))?;
        let directory = self.directory.map(|path| CString::new(path.into_vec()));
        let directory = directory.transpose().map_err(|error| (10, error.into()))?;
        let Settings { session, group, limits, nice, gid, uid, .. } = self;
        Ok(Prepared { environment, streams, mask, session, group, limits, cpus, nice, gid, uid, directory })
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
                (_, None | Some(Way::Inherit)) => {}
                (0, Some(Way::Null)) => fork::empty_stdin().map_err(at(1))?,
                (_, Some(Way::Null)) => {
                    let null = File::options().write(true).open("/dev/null").map_err(at(1))?;
                    newborn::redirect(null.as_fd(), number).map_err(at(1))?;
                }
                (_, Some(Way::File(Descriptor(file)))) => {
                    newborn::redirect(file.as_fd(), number).map_err(at(1))?
                }
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
            newborn::limit(limit, value).map_err(at(5))?;
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
