//! An instruction, by the names that its author gave it: symbol, file and line, from the debug information.
//!
//! One that stands in a library (a system call, a copy of bytes) is named by who called it: return addresses are
//! looked for on the stack, which is a guess where frames are not kept, and a good one near its top.

use std::{cell::RefCell, collections::HashMap, fmt, fs, os::unix::fs::FileExt};

use addr2line::Loader;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// How much of a stack is looked at, in words.
const WORDS: usize = 512;
/// What a path of the standard library contains.
const STANDARD: [&str; 2] = ["/rustc/", "/rustlib/src/"];

/// Where a process stood: its next instruction, and the top of its stack.
#[derive(Clone, Debug, Default)]
pub(super) struct Stance {
    address: u64,
    stack: Vec<u64>,
}

impl Stance {
    pub(super) fn of(pid: Pid, address: u64, stack: u64) -> Stance {
        let mut bytes = vec![0; WORDS * 8];
        let read = fs::File::open(format!("/proc/{pid}/mem")).and_then(|mem| mem.read_at(&mut bytes, stack));
        let words = bytes[..read.unwrap_or(0)].chunks_exact(8);
        let word = |word: &[u8]| u64::from_ne_bytes(word.try_into().expect("eight bytes"));
        Stance { address, stack: words.map(word).collect() }
    }
}

/// An instruction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    /// Its address.
    pub address: u64,
    /// The file that it was loaded from, without its folder, and the offset there.
    pub module: String,
    /// The function that the line belongs to, inlined ones included; empty if it is not known.
    pub symbol: String,
    /// `file:line` of the code outside the standard library that it is part of, or that called it; empty if it is not
    /// known.
    pub line: String,
}

impl Site {
    pub(super) fn of(stance: &Stance) -> Site {
        let maps = Maps::now();
        let mut site =
            Site { address: stance.address, module: maps.module(stance.address), ..Site::default() };
        let callers = stance.stack.iter().filter(|&&word| maps.follows_a_call(word)).map(|word| word - 1);
        let named = [stance.address].into_iter().chain(callers).find_map(|address| maps.named(address));
        (site.symbol, site.line) = named.unwrap_or_default();
        site
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Site { address, module, symbol, line } = self;
        match module.is_empty() {
            true => write!(f, "{address:#x}")?,
            false => write!(f, "{module}")?,
        }
        if !line.is_empty() {
            write!(f, " ({symbol} at {line})")?;
        }
        Ok(())
    }
}

/// A part of the code that is mapped here, and so in every process that was forked from here.
struct Map {
    start: u64,
    end: u64,
    /// Where the file begins.
    base: u64,
    file: String,
}

struct Maps(Vec<Map>);

thread_local! {
    /// What is known of a file.
    static LOADED: RefCell<HashMap<String, Option<Loader>>> = RefCell::default();
}

impl Maps {
    fn now() -> Maps {
        let text = fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let mut bases: HashMap<String, u64> = HashMap::new();
        let mut maps = Vec::new();
        for line in text.lines() {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let ends = words[0].split_once('-');
            let Some((start, end)) = ends.and_then(|(start, end)| {
                Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
            }) else {
                continue;
            };
            let file = words.get(5).copied().unwrap_or("").to_owned();
            let base = *bases.entry(file.clone()).or_insert(start);
            if words[1].contains('x') {
                maps.push(Map { start, end, base, file });
            }
        }
        Maps(maps)
    }

    fn of(&self, address: u64) -> Option<&Map> {
        self.0.iter().find(|map| (map.start..map.end).contains(&address))
    }

    fn module(&self, address: u64) -> String {
        let Some(map) = self.of(address) else { return String::new() };
        let name = map.file.rsplit('/').next().unwrap_or(&map.file);
        format!("{name}+{:#x}", address - map.base)
    }

    /// Whether the instruction before it is a call.
    fn follows_a_call(&self, address: u64) -> bool {
        if self.of(address).is_none_or(|map| address - map.start < 8) {
            return false;
        }
        // SAFETY: the eight bytes of code before it are mapped, and code does not change.
        let before = unsafe { *((address - 8) as *const [u8; 8]) };
        // A relative one, or one through a register or a word.
        before[3] == 0xe8 || (2..7).any(|at| before[at] == 0xff && before[at + 1] & 0x38 == 0x10)
    }

    /// The innermost function outside the standard library, and its line.
    fn named(&self, address: u64) -> Option<(String, String)> {
        let map = self.of(address)?;
        LOADED.with_borrow_mut(|loaded| {
            let load = || Loader::new(&map.file).ok();
            let loader = loaded.entry(map.file.clone()).or_insert_with(load).as_ref()?;
            let mut frames = loader.find_frames(address - map.base).ok()?;
            while let Ok(Some(frame)) = frames.next() {
                let location = frame.location.as_ref().and_then(|at| Some((at.file?, at.line?)));
                let Some((file, line)) = location else { continue };
                if STANDARD.iter().any(|part| file.contains(part)) {
                    continue;
                }
                let function =
                    frame.function.as_ref().and_then(|name| name.demangle().ok().map(String::from));
                return Some((function.unwrap_or_default(), format!("{}:{line}", relative(file))));
            }
            None
        })
    }
}

/// The path from here, if it lies below.
fn relative(file: &str) -> String {
    let here = std::env::current_dir().ok();
    let below = here
        .and_then(|here| std::path::Path::new(file).strip_prefix(here).ok().map(|p| p.display().to_string()));
    below.unwrap_or_else(|| file.to_owned())
}
