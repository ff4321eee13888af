//! The files to count, and how they are cut into batches.

use std::{
    cmp::Reverse,
    error::Error,
    fmt, fs, io,
    ops::Range,
    path::{Path, PathBuf},
};

/// A batch has at most so many bytes of paths, one path aside; a job must fit its queue.
const BATCH_PATHS: usize = 32 << 10;

pub struct Found {
    pub path: PathBuf,
    pub size: u64,
}

/// A path that was asked for and is not there.
#[derive(Debug)]
pub struct Missing(PathBuf);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no such file or directory: {}", self.0.display())
    }
}

impl Error for Missing {}

pub fn skipped(path: &Path, why: impl fmt::Display) {
    eprintln!("wordcount: skipped {}: {why}", path.display());
}

/// All regular files below `roots`, each once. Names what it cannot look at.
pub fn find(mut roots: Vec<PathBuf>) -> Result<Vec<Found>, Missing> {
    if roots.is_empty() {
        // cargo sets it for what it runs.
        roots.push(std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from("."), PathBuf::from));
    }
    let mut found = Vec::new();
    let mut directories = Vec::new();
    let mut look = |path: PathBuf, asked_for: bool, directories: &mut Vec<PathBuf>| match path
        .symlink_metadata()
    {
        Ok(data) if data.is_dir() => directories.push(path),
        Ok(data) if data.is_file() => found.push(Found { path, size: data.len() }),
        Ok(data) if asked_for && data.is_symlink() => skipped(&path, "a link, and links are not followed"),
        Ok(_) if asked_for => skipped(&path, "not a regular file"),
        Ok(_) => {}
        Err(error) => skipped(&path, error),
    };
    for root in without_overlap(roots)? {
        look(root, true, &mut directories);
        while let Some(directory) = directories.pop() {
            match fs::read_dir(&directory) {
                Err(error) => skipped(&directory, error),
                Ok(entries) => {
                    for entry in entries {
                        match entry {
                            Ok(entry) => look(entry.path(), false, &mut directories),
                            Err(error) => skipped(&directory, error),
                        }
                    }
                }
            }
        }
    }
    Ok(found)
}

/// Leaves out what is named twice, or lies below something else that is named.
fn without_overlap(roots: Vec<PathBuf>) -> Result<Vec<PathBuf>, Missing> {
    let mut resolved: Vec<(PathBuf, PathBuf)> = Vec::new();
    let mut links = Vec::new();
    for root in roots {
        match root.symlink_metadata() {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Err(Missing(root));
            }
            Ok(data) if data.is_symlink() => links.push(root),
            _ => resolved.push((root.canonicalize().unwrap_or_else(|_| root.clone()), root)),
        }
    }
    resolved.sort();
    resolved.dedup_by(|later, earlier| later.0.starts_with(&earlier.0));
    Ok(resolved.into_iter().map(|(_, root)| root).chain(links).collect())
}

/// Files in the order in which they go out, and where they are cut.
pub struct Batches {
    files: Vec<Found>,
    cuts: Vec<Range<usize>>,
}

impl Batches {
    /// Big enough that results are few, small enough that the workers finish together. Big files go first.
    pub fn cut(mut files: Vec<Found>, workers: usize) -> Batches {
        let total: u64 = files.iter().map(|file| file.size).sum();
        let size = (total / (8 * workers as u64)).clamp(64 << 10, 4 << 20);
        files.sort_by_key(|file| Reverse(if file.size < size { 0 } else { file.size }));
        let mut cuts = Vec::new();
        let (mut first, mut bytes, mut path_bytes) = (0, 0, 0);
        for (i, file) in files.iter().enumerate() {
            bytes += file.size;
            path_bytes += file.path.as_os_str().len() + 8;
            if bytes >= size || path_bytes >= BATCH_PATHS || i + 1 == files.len() {
                cuts.push(first..i + 1);
                (first, bytes, path_bytes) = (i + 1, 0, 0);
            }
        }
        Batches { files, cuts }
    }

    pub fn len(&self) -> usize {
        self.cuts.len()
    }

    pub fn files(&self, batch: u32) -> &[Found] {
        &self.files[self.cuts[batch as usize].clone()]
    }

    pub fn bytes(&self, batch: u32) -> u64 {
        self.files(batch).iter().map(|file| file.size).sum()
    }
}
