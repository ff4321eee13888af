//! The watchdog: who hangs, where, on which word, who holds it, and who waits for it too.

use std::{cell::RefCell, fmt, fs, os::unix::fs::FileExt, path::Path};

use nix::{
    libc,
    sys::{ptrace, wait::waitpid},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

use super::{
    company::{asleep, state},
    site::{Site, Stance},
};
use crate::region::names;

/// The bits of a robust word beside its owner's TID.
const WAITERS: u32 = 1 << 31;
const OWNER_DIED: u32 = 1 << 30;

thread_local! {
    /// What is shown of the shared state when somebody is stuck.
    static SHOWN: RefCell<Option<Box<dyn Fn() -> String>>> = RefCell::default();
}

/// From now on, in this trial, this is what is shown; nothing is, without it.
pub(super) fn show(look: Option<Box<dyn Fn() -> String>>) {
    SHOWN.set(look);
}

/// What there is to show.
pub(super) fn shown() -> Option<String> {
    SHOWN.with_borrow(|look| look.as_ref().map(|look| look()))
}

/// A process that should have gone on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stuck {
    /// What the harness calls it.
    pub who: String,
    /// Its number.
    pub pid: i32,
    /// The state letter of proc(5): `S` asleep, `R` running, `T` or `t` stopped.
    pub state: char,
    /// Where it stands, or what called the system call that it sleeps in.
    pub at: Option<Site>,
    /// The words that it sleeps on.
    pub words: Vec<Word>,
}

/// A word that somebody sleeps on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Word {
    /// Its address.
    pub address: u64,
    /// The mapping that it lies in, as in proc(5), and the offset there, or in the file that is mapped.
    pub mapping: String,
    /// The type of the object of this crate that it is part of, and the offset there; empty if whoever set the trial
    /// up has not placed it.
    pub object: String,
    /// What it is now.
    pub value: u32,
    /// Who holds it, if it is a lock: its TID, and whether such a thread lives.
    pub holder: Option<(i32, bool)>,
    /// What the harness calls the holder, if it knows it.
    pub holder_is: String,
    /// Who sleeps on it.
    pub waiters: Vec<String>,
}

impl Stuck {
    /// Those of the processes who have not ended, each with its name.
    pub fn among(processes: &[(&str, Pid)]) -> Vec<Stuck> {
        let calls: Vec<Vec<u64>> = processes.iter().map(|&(_, pid)| words_of(pid)).collect();
        let mut found = Vec::new();
        for (&(who, pid), own) in processes.iter().zip(&calls) {
            let Some(state) = state(pid).filter(|state| !"ZX".contains(*state)) else { continue };
            let word = |&address: &u64| {
                let sleeps = |other: &Vec<u64>| other.contains(&address);
                let waiters = processes.iter().zip(&calls).filter(|(_, words)| sleeps(words));
                Word::at(pid, address, processes, waiters.map(|((name, _), _)| name.to_string()).collect())
            };
            let words = own.iter().filter_map(word).collect();
            found.push(Stuck { who: who.to_owned(), pid: pid.as_raw(), state, at: place(pid, state), words });
        }
        found
    }
}

impl Word {
    fn at(pid: Pid, address: u64, processes: &[(&str, Pid)], waiters: Vec<String>) -> Option<Word> {
        let mut bytes = [0; 4];
        let mem = fs::File::open(format!("/proc/{pid}/mem")).ok()?;
        mem.read_exact_at(&mut bytes, address).ok()?;
        let value = u32::from_ne_bytes(bytes);
        let tid = (value & !(WAITERS | OWNER_DIED)) as i32;
        let part = names::at(address as usize);
        // What is not the crate's is a lock only if its value is a number that a thread has, or one of those had who
        // are known.
        let known = processes.iter().find(|(_, pid)| pid.as_raw() == tid).map(|(name, _)| name.to_string());
        let lives = tid > 0
            && state(Pid::from_raw(tid)).is_some_and(|state| !"ZX".contains(state))
            && Path::new(&format!("/proc/{tid}")).exists();
        let held = tid > 0 && part.is_none_or(|part| part.robust) && (known.is_some() || lives);
        let (holder, known) = (held.then_some((tid, lives)), known.filter(|_| held));
        let mapping = mapping(pid, address);
        let object = part.map_or(String::new(), |part| format!("{}+{:#x}", part.name, part.offset));
        Some(Word { address, mapping, object, value, holder, holder_is: known.unwrap_or_default(), waiters })
    }
}

/// The words that it sleeps on.
fn words_of(pid: Pid) -> Vec<u64> {
    let Some(call) = asleep(pid) else { return Vec::new() };
    let (Some(&number), Some(&first)) = (call.first(), call.get(1)) else { return Vec::new() };
    match number as i64 {
        libc::SYS_futex => vec![first],
        libc::SYS_futex_waitv => {
            // An array of {value, address, flags}, of 24 bytes each.
            let mut bytes = vec![0; 24 * call.get(2).map_or(0, |&count| count.min(128) as usize)];
            let mem = fs::File::open(format!("/proc/{pid}/mem"));
            if mem.and_then(|mem| mem.read_exact_at(&mut bytes, first)).is_err() {
                return Vec::new();
            }
            let address = |entry: &[u8]| u64::from_ne_bytes(entry[8..16].try_into().expect("eight bytes"));
            bytes.chunks_exact(24).map(address).collect()
        }
        _ => Vec::new(),
    }
}

/// Where it stands.
fn place(pid: Pid, state: char) -> Option<Site> {
    let call = fs::read_to_string(format!("/proc/{pid}/syscall")).ok()?;
    let mut ends = call.split_ascii_whitespace().rev();
    let mut number = || u64::from_str_radix(ends.next()?.trim_start_matches("0x"), 16).ok();
    let stance = match (number(), number()) {
        (Some(address), Some(stack)) => Stance::of(pid, address, stack),
        // It runs: it is stopped for a look. What is traced already is not.
        _ if state == 'R' => {
            ptrace::attach(pid).ok()?;
            waitpid(pid, None).ok()?;
            let registers = ptrace::getregs(pid).ok();
            let stance = registers.map(|registers| Stance::of(pid, registers.rip, registers.rsp));
            let _ = ptrace::detach(pid, None);
            stance?
        }
        _ => return None,
    };
    Some(Site::of(&stance))
}

/// The mapping in which an address lies, and the offset there, or in its file.
fn mapping(pid: Pid, address: u64) -> String {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    for line in maps.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let ends = words[0].split('-').map(|end| u64::from_str_radix(end, 16).unwrap_or(0));
        let [start, end] = ends.collect::<Vec<_>>()[..] else { continue };
        if (start..end).contains(&address) {
            let skipped = words.get(2).and_then(|skipped| u64::from_str_radix(skipped, 16).ok());
            let offset = address - start + skipped.unwrap_or(0);
            return format!("{}+{offset:#x}", words.get(5).unwrap_or(&"anonymous"));
        }
    }
    String::new()
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {}) is stuck, state {}", self.who, self.pid, self.state)?;
        if let Some(at) = &self.at {
            write!(f, ", at {at}")?;
        }
        self.words.iter().try_for_each(|word| write!(f, "; {word}"))
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "on the word at {:#x} ({}", self.address, self.mapping)?;
        if !self.object.is_empty() {
            write!(f, ", {}", self.object)?;
        }
        write!(f, "), {:#010x}", self.value)?;
        if let Some((tid, lives)) = self.holder {
            let waiters = if self.value & WAITERS != 0 { " with WAITERS" } else { "" };
            let known = if self.holder_is.is_empty() { "" } else { ", the " };
            let state = if lives { "alive" } else { "dead" };
            write!(f, ": held{waiters} by TID {tid}{known}{} ({state})", self.holder_is)?;
        }
        write!(f, ", waited for by {}", self.waiters.join(", "))
    }
}
