//! What the example `wordcount` promises: it agrees with tr, sort and uniq, whoever is killed.
//!
//! Its source is a part of this program, which starts itself to play it: so no example of another build is ever met,
//! and none need have been built.

#[path = "../examples/wordcount.rs"]
mod program;
mod support;

use std::{
    env,
    ffi::OsStr,
    fs::{self, File, Permissions},
    io::Write,
    os::unix::{
        ffi::OsStrExt,
        fs::{PermissionsExt, symlink},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, ExitCode, Output, Stdio},
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    libc,
    sys::{
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::Pid,
};
use serde_json::Value;
use support::random::Random;

const PLACES: [&str; 5] =
    ["--kill-one", "--kill-one=counting", "--kill-one=locked", "--kill-one=parts", "--kill-one=anywhere"];

/// By name; what is said of a worker that was not killed.
const ENGINES: [(&str, &str); 2] =
    [("--engine=pool", "left with its pool"), ("--engine=queue", "exited with 0")];

/// Set for a process that is to be the program.
const PLAYS: &str = "PSHARED_TEST_PLAYS_WORDCOUNT";

fn main() -> ExitCode {
    if env::var_os(PLAYS).is_some() {
        return program::main();
    }
    support::main(support::tests![
        counts_agree_with_tr_sort_and_uniq,
        a_worker_killed_in_the_middle_costs_nothing,
        workers_killed_by_others_cost_nothing,
        any_number_of_workers_counts_the_same,
        a_killed_worker_that_was_alone_is_replaced,
        a_word_longer_than_the_queue_comes_home,
        what_is_named_twice_is_counted_once,
        nothing_to_count_is_no_error,
        unreadable_files_are_named_and_skipped,
        workers_go_with_their_parent,
        bad_arguments_get_usage,
        text_names_the_figures_and_the_workers,
    ])
}

// The tree.

/// A directory that goes when it is dropped.
struct Tree {
    root: PathBuf,
}

/// What tr, sort and uniq say about a tree.
#[derive(Debug, PartialEq)]
struct Truth {
    files: u64,
    bytes: u64,
    words: u64,
    distinct: u64,
    top: Vec<(String, u64)>,
}

impl Tree {
    fn empty(name: &str) -> Tree {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        Tree { root }
    }

    /// More than 1,000 files, of every kind that needs thought.
    fn full(name: &str) -> Tree {
        let tree = Tree::empty(name);
        let mut random = Random(0x5eed);
        for i in 0..1_100 {
            let words = random.below(400);
            tree.write(format!("a{}/b{}/file {i}.txt", i % 7, i % 13), &text(&mut random, words));
        }
        for i in 0..20 {
            tree.write(format!("empty/{i}"), b"");
        }
        tree.write("big", &text(&mut random, 900_000)[..3_000_000]);
        tree.write("many words", distinct_words(30_000).as_bytes());
        // One word across the end of a piece, one that is longer than a piece, one that ends with it.
        let border = 256 << 10;
        tree.write("across", &[vec![b' '; border - 3], b"acrosstheborder and on".to_vec()].concat());
        tree.write("long", &[b"short ", &vec![b'L'; border + 77][..], b" short"].concat());
        tree.write("exact", &[vec![b'.'; border - 5], b"exact".to_vec()].concat());
        tree.write("exact and more", &[vec![b'.'; border - 5], b"Exact more".to_vec()].concat());
        tree.write("binary", b"these words\0do not count");
        tree.write("binary late", &[vec![b'x'; 8191], b"\0nor do these".to_vec()].concat());
        tree.write("text with a late zero", &[vec![b'y'; 8192], b"\0but these do".to_vec()].concat());
        tree.write("not UTF-8", b"caf\xe9 na\xefve \xff\xfeword don't i18n");
        tree.write(OsStr::from_bytes(b"name \xff\xfe\n not UTF-8"), b"a name of bytes");
        tree.write(OsStr::from_bytes(b"dir \xc3\x28/inner"), b"a directory of bytes");
        symlink(tree.root.join("big"), tree.root.join("link to a file")).unwrap();
        symlink(&tree.root, tree.root.join("a0/link to a directory")).unwrap();
        symlink("nowhere", tree.root.join("link to nothing")).unwrap();
        let fifo = tree.root.join("fifo");
        assert!(Command::new("mkfifo").arg(fifo).status().unwrap().success());
        tree
    }

    fn write(&self, name: impl AsRef<Path>, content: &[u8]) {
        let path = self.root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Every regular file.
    fn files(&self) -> Vec<PathBuf> {
        let (mut files, mut directories) = (Vec::new(), vec![self.root.clone()]);
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
                let kind = entry.file_type().unwrap();
                if kind.is_dir() {
                    directories.push(entry.path());
                } else if kind.is_file() {
                    files.push(entry.path());
                }
            }
        }
        files
    }

    fn truth(&self) -> Truth {
        let all = self.root.with_extension("all");
        let mut joined = File::create(&all).unwrap();
        let (mut files, mut bytes) = (0, 0);
        for file in self.files() {
            let content = fs::read(file).unwrap();
            if !content[..content.len().min(8192)].contains(&0) {
                (files, bytes) = (files + 1, bytes + content.len() as u64);
                joined.write_all(&content).unwrap();
                joined.write_all(b"\n").unwrap();
            }
        }
        let pipeline = r"tr -cs 'A-Za-z' '\n' | tr A-Z a-z | sort | uniq -c";
        let counted = Command::new("sh")
            .args(["-c", pipeline])
            .env("LC_ALL", "C")
            .stdin(File::open(&all).unwrap())
            .output()
            .unwrap();
        fs::remove_file(&all).unwrap();
        let mut top = Vec::new();
        for line in String::from_utf8(counted.stdout).unwrap().lines() {
            let mut columns = line.split_ascii_whitespace();
            // What stands before the first word is an empty line.
            if let (Some(count), Some(word)) = (columns.next(), columns.next()) {
                top.push((word.to_string(), count.parse::<u64>().unwrap()));
            }
        }
        let (words, distinct) = (top.iter().map(|(_, count)| count).sum(), top.len() as u64);
        top.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        top.truncate(20);
        Truth { files, bytes, words, distinct, top }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// Common words often, rare ones seldom, all sorts of bytes between them.
fn text(random: &mut Random, words: u64) -> Vec<u8> {
    let mut text = Vec::new();
    for _ in 0..words {
        let range = 1 + random.below(2_000);
        let mut word = random.below(range);
        while word > 0 {
            text.push(b"etaoinSHRD"[(word % 10) as usize]);
            word /= 10;
        }
        text.push(b" \n\t.,-_0'\xe9"[random.below(10) as usize]);
    }
    text.extend_from_slice(b" end of the text ");
    text
}

fn distinct_words(words: u64) -> String {
    let letter = |n: u64| char::from(b'a' + (n % 26) as u8);
    let word = |n: u64| (0..8).map(|i| letter(n / 26_u64.pow(i % 4) + u64::from(i))).collect::<String>();
    (0..words).map(|n| word(n) + " ").collect()
}

// The program.

fn wordcount() -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.arg0("wordcount").env(PLAYS, "1").stdin(Stdio::null());
    command
}

fn json(output: &Output) -> Value {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn figures(found: &Value) -> Truth {
    let number = |key: &str| found[key].as_u64().unwrap_or_else(|| panic!("{key} in {found}"));
    let pair = |pair: &Value| (pair[0].as_str().unwrap().to_string(), pair[1].as_u64().unwrap());
    Truth {
        files: number("files"),
        bytes: number("bytes"),
        words: number("words"),
        distinct: number("distinct"),
        top: found["top"].as_array().unwrap().iter().map(pair).collect(),
    }
}

fn count(arguments: &[&str], path: &Path) -> Value {
    json(&wordcount().args(arguments).arg("--json").arg(path).output().unwrap())
}

/// How many of the workers were killed.
fn killed(found: &Value) -> usize {
    let ends = found["workers"].as_array().unwrap().iter().map(|worker| worker["ended"].as_str().unwrap());
    ends.filter(|end| end.contains("SIGKILL")).count()
}

fn children(of: u32) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent =
            stat.rsplit(')').next().and_then(|rest| rest.split_ascii_whitespace().nth(1)?.parse().ok());
        parent == Some(of)
    })
    .map(Pid::from_raw)
    .collect()
}

// The promises.

fn counts_agree_with_tr_sort_and_uniq() {
    let tree = Tree::full("plain");
    let truth = tree.truth();
    assert!(truth.files > 1_100 && truth.bytes > 3_000_000 && truth.distinct > 30_000, "{truth:?}");
    assert_eq!(figures(&count(&[], &tree.root)), truth);
    assert_eq!(figures(&count(&["--engine=queue"], &tree.root)), truth);
}

fn a_worker_killed_in_the_middle_costs_nothing() {
    let tree = Tree::full("killed");
    let truth = tree.truth();
    for i in 0..20 {
        let (place, (engine, _)) = (PLACES[i % PLACES.len()], ENGINES[i / 2 % 2]);
        let found = count(&["--workers", "3", place, engine], &tree.root);
        assert_eq!(figures(&found), truth, "{engine} {place}");
        assert_eq!(killed(&found), 1, "{engine} {place}: {found}");
    }
}

fn workers_killed_by_others_cost_nothing() {
    let tree = Tree::full("storm");
    let truth = tree.truth();
    let mut random = Random(u64::from(std::process::id()) << 8 | 1);
    println!("seed {:#x}", random.0);
    let mut kills = 0;
    for (engine, _) in ENGINES.iter().cycle().take(20) {
        let output = File::create(tree.root.with_extension("out")).unwrap();
        let mut run = wordcount()
            .args(["--json", "--workers", "3", engine])
            .arg(&tree.root)
            .stdout(output)
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        for _ in 0..6 {
            thread::sleep(Duration::from_micros(random.below(25_000)));
            let mut children = children(run.id());
            // A pool's workers are its supervisor's.
            let deeper: Vec<Pid> =
                children.iter().flat_map(|&child| self::children(child.as_raw() as u32)).collect();
            children.extend(deeper);
            if !children.is_empty() {
                let victim = children[random.below(children.len() as u64) as usize];
                kills += usize::from(kill(victim, Signal::SIGKILL).is_ok());
            }
        }
        assert!(run.wait().unwrap().success());
        let found = fs::read(tree.root.with_extension("out")).unwrap();
        assert_eq!(figures(&serde_json::from_slice(&found).unwrap()), truth);
    }
    // Workers whose supervisor was killed come to this process.
    while waitpid(None, None) != Err(Errno::ECHILD) {}
    fs::remove_file(tree.root.with_extension("out")).unwrap();
    assert!(kills > 0, "every run was over before anybody could be killed");
}

fn any_number_of_workers_counts_the_same() {
    let tree = Tree::full("numbers");
    let one = figures(&count(&["--workers", "1"], &tree.root));
    for (engine, _) in ENGINES {
        assert_eq!(figures(&count(&["--workers", "5", engine], &tree.root)), one);
        assert_eq!(figures(&count(&["--workers", "32", engine], &tree.root)), one);
    }
}

fn a_killed_worker_that_was_alone_is_replaced() {
    let tree = Tree::full("alone");
    let truth = tree.truth();
    let small = Tree::empty("small");
    small.write("one", b"one file, one batch, one worker");
    let small_truth = small.truth();
    for (i, place) in PLACES.into_iter().enumerate() {
        let engines = [ENGINES[i % 2].0, ENGINES[(i + 1) % 2].0];
        for ((tree, truth), engine) in [(&tree, &truth), (&small, &small_truth)].into_iter().zip(engines) {
            let found = count(&["--workers", "1", place, engine], &tree.root);
            assert_eq!(&figures(&found), truth, "{engine} {place}");
            assert_eq!(killed(&found), 1, "{engine} {place}: {found}");
            assert!(found["workers"].as_array().unwrap().len() > 1, "{engine} {place}: {found}");
        }
    }
}

fn a_word_longer_than_the_queue_comes_home() {
    let tree = Tree::empty("long");
    tree.write("word", &[b'Q'; 5 << 20]);
    let engines: [&[&str]; 4] =
        [&[], &["--kill-one=parts"], &["--engine=queue"], &["--engine=queue", "--kill-one=parts"]];
    for arguments in engines {
        let found = figures(&count(arguments, &tree.root));
        assert_eq!((found.words, found.distinct, found.bytes), (1, 1, 5 << 20));
        assert!(found.top[0].0 == "q".repeat(5 << 20) && found.top[0].1 == 1);
    }
}

fn what_is_named_twice_is_counted_once() {
    let tree = Tree::empty("twice");
    tree.write("inner/file", b"once");
    let again = tree.root.join("./inner/../inner");
    let output = wordcount().arg("--json").args([&again, &tree.root, &tree.root.join("inner/file")]).output();
    assert_eq!(figures(&json(&output.unwrap())), tree.truth());
}

fn nothing_to_count_is_no_error() {
    let tree = Tree::empty("nothing");
    for arguments in [&[][..], &["--kill-one"], &["--engine=queue", "--kill-one"]] {
        let found = count(arguments, &tree.root);
        assert_eq!(figures(&found), Truth { files: 0, bytes: 0, words: 0, distinct: 0, top: vec![] });
    }
}

fn unreadable_files_are_named_and_skipped() {
    let tree = Tree::empty("unreadable");
    tree.write("readable", b"some words");
    let truth = tree.truth();
    tree.write("secret", b"more words");
    fs::set_permissions(tree.root.join("secret"), Permissions::from_mode(0o0)).unwrap();
    // Root reads everything, unless it has lost CAP_DAC_OVERRIDE (1) and CAP_DAC_READ_SEARCH (2): here, at the exec.
    for capability in [1, 2] {
        // SAFETY: plain numbers; who is not root is refused, and has none of the two.
        unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
    }
    for (engine, _) in ENGINES {
        let output = wordcount().args(["--json", "--kill-one", engine]).arg(&tree.root).output().unwrap();
        assert_eq!(figures(&json(&output)), truth);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(errors.matches("secret: Permission denied").count(), 1, "{errors}");
    }
}

fn workers_go_with_their_parent() {
    let tree = Tree::full("orphans");
    for i in 0..6 {
        let (engine, _) = ENGINES[i as usize % 2];
        let mut run = wordcount().arg(engine).arg(&tree.root).stdout(Stdio::null()).spawn().unwrap();
        thread::sleep(Duration::from_millis(10 * i));
        let _ = run.kill();
        let _ = run.wait();
        // Orphans come to this process; whoever did not end would hang here.
        while waitpid(None, None) != Err(Errno::ECHILD) {}
    }
}

fn bad_arguments_get_usage() {
    let here = env!("CARGO_MANIFEST_DIR");
    let bad: [&[&str]; 9] = [
        &["--engine=steam", here],
        &["--no-such-option"],
        &["--workers", "0", here],
        &["--workers", "many", here],
        &["--workers", "-1", here],
        &["--workers"],
        &["--kill-one=nowhere", here],
        &["/no/such/path"],
        &[here, "/dev/null/below"],
    ];
    for arguments in bad {
        let output = wordcount().args(arguments).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {errors}");
        assert!(errors.contains("Usage: wordcount"), "{arguments:?}: {errors}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
    let help = wordcount().arg("--help").output().unwrap();
    assert!(help.status.success() && String::from_utf8(help.stdout).unwrap().contains("Usage: wordcount"));
}

fn text_names_the_figures_and_the_workers() {
    let tree = Tree::empty("text");
    tree.write("file", b"b a c b a; the end of b");
    tree.write("binary", b"\0");
    for (engine, end) in ENGINES {
        let arguments = ["--workers", "2", "--kill-one", engine];
        let output = wordcount().args(arguments).arg(&tree.root).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[..4], [["3", "b"], ["2", "a"], ["1", "c"], ["1", "end"]], "{text}");
        for part in ["files     1 (1 binary, 0 unreadable skipped)", "words     9", "MB/s", "SIGKILL", end] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
