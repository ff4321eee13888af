//! The words of files: maximal runs of ASCII letters, in lower case.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::{File, OpenOptions},
    hash::{BuildHasherDefault, Hasher},
    io::{self, Read},
    mem,
    os::unix::{ffi::OsStrExt, fs::OpenOptionsExt},
    path::Path,
};

use nix::libc;

use super::shared::Sums;

/// A file with a NUL byte in its first so many bytes is binary.
const BINARY_PREFIX: usize = 8192;
/// Files are read in pieces of this size.
const PIECE: usize = 256 << 10;

/// The words of a batch.
pub struct Counter {
    words: WordMap<[u8]>,
    piece: Vec<u8>,
    /// What of a word stood at the end of a piece.
    begun: Vec<u8>,
}

impl Counter {
    pub fn new() -> Counter {
        Counter { words: HashMap::default(), piece: vec![0; PIECE], begun: Vec::new() }
    }

    /// Counts `paths`; `half_way` runs once, in the middle.
    pub fn count_batch(&mut self, paths: &[Vec<u8>], half_way: impl FnOnce()) -> (Sums, Vec<(u32, String)>) {
        let mut half_way = Some(half_way);
        let mut unreadable: Vec<(u32, String)> = Vec::new();
        'again: loop {
            self.words.clear();
            let mut sums = Sums::default();
            for (i, path) in paths.iter().enumerate() {
                if unreadable.iter().any(|&(bad, _)| bad as usize == i) {
                    continue;
                }
                let bytes_before = sums.bytes;
                if let Err(error) = self.count_file(Path::new(OsStr::from_bytes(path)), &mut sums) {
                    unreadable.push((i as u32, error.to_string()));
                    // A part of it has been counted: the batch begins again, without it.
                    if sums.bytes != bytes_before {
                        continue 'again;
                    }
                }
                if 2 * (i + 1) >= paths.len()
                    && let Some(half_way) = half_way.take()
                {
                    half_way();
                }
            }
            return (sums, unreadable);
        }
    }

    fn count_file(&mut self, path: &Path, sums: &mut Sums) -> io::Result<()> {
        // It may have become something else since it was found: no link is followed, no pipe is waited for.
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
        let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("no longer a regular file"));
        }
        let mut piece = mem::take(&mut self.piece);
        let counted = self.count_pieces(&mut file, &mut piece, sums);
        self.piece = piece;
        self.begun.clear();
        counted
    }

    fn count_pieces(&mut self, file: &mut File, piece: &mut [u8], sums: &mut Sums) -> io::Result<()> {
        let mut len = fill(file, piece)?;
        if piece[..len.min(BINARY_PREFIX)].contains(&0) {
            sums.binary += 1;
            return Ok(());
        }
        loop {
            sums.bytes += len as u64;
            sums.words += self.count_piece(&mut piece[..len]);
            if len < piece.len() {
                break;
            }
            len = fill(file, piece)?;
        }
        sums.words += self.end_begun();
        sums.files += 1;
        Ok(())
    }

    /// Counts the words that end in `piece`, which it changes, and keeps the beginning of one that may go on.
    fn count_piece(&mut self, piece: &mut [u8]) -> u64 {
        for byte in piece.iter_mut() {
            let lower = *byte | 0x20;
            *byte = if lower.is_ascii_lowercase() { lower } else { 0 };
        }
        let mut rest = &piece[..];
        let mut words = 0;
        if !self.begun.is_empty() {
            let len = rest.iter().position(|&byte| byte == 0).unwrap_or(rest.len());
            self.begun.extend_from_slice(&rest[..len]);
            rest = &rest[len..];
            if rest.is_empty() {
                return 0;
            }
            words += self.end_begun();
        }
        let mut at = 0;
        loop {
            while at < rest.len() && rest[at] == 0 {
                at += 1;
            }
            let start = at;
            while at < rest.len() && rest[at] != 0 {
                at += 1;
            }
            if at == rest.len() {
                self.begun.extend_from_slice(&rest[start..]);
                return words;
            }
            self.add(&rest[start..at]);
            words += 1;
        }
    }

    /// The word that was begun ends here, if there is one.
    fn end_begun(&mut self) -> u64 {
        if self.begun.is_empty() {
            return 0;
        }
        let mut word = mem::take(&mut self.begun);
        self.add(&word);
        word.clear();
        self.begun = word;
        1
    }

    #[inline]
    fn add(&mut self, word: &[u8]) {
        match self.words.get_mut(word) {
            Some(count) => *count += 1,
            None => drop(self.words.insert(word.into(), 1)),
        }
    }

    pub fn words(&self) -> Vec<(&str, u64)> {
        let text = |word| str::from_utf8(word).expect("words are ASCII letters");
        self.words.iter().map(|(word, &count)| (text(word), count)).collect()
    }
}

/// Reads until `buffer` is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < buffer.len() {
        match file.read(&mut buffer[len..]) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

/// How often words occur.
pub type WordMap<W> = HashMap<Box<W>, u64, BuildHasherDefault<WordHasher>>;

/// Words are short: a multiplication for each 8 bytes, and the high half folded down.
#[derive(Default)]
pub struct WordHasher(u64);

impl WordHasher {
    fn mix(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word) * 0x9e37_79b9_7f4a_7c15;
        self.0 = product as u64 ^ (product >> 64) as u64;
    }
}

impl Hasher for WordHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|&word| self.mix(u64::from_ne_bytes(word)));
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.mix(u64::from_ne_bytes(last));
    }

    fn write_u8(&mut self, n: u8) {
        self.0 ^= u64::from(n);
    }

    fn write_usize(&mut self, n: usize) {
        self.0 ^= n as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
