//! Reads the source for what eyes forget. Each check is a function of text, and is shown a bad snippet at the foot.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The rooms from the top down; an import goes to the same room or to a later line.
const FLOORS: [&[&str]; 9] = [
    &["pool", "manager", "testing"],
    &["process"],
    &["queue", "pipe", "containers", "value"],
    &["sync"],
    &["region"],
    &["primitive"],
    &["os"],
    &["error"],
    &[],
];

/// Words that say nothing in a SAFETY comment.
const PLACEHOLDERS: [&str; 6] = ["todo", "fixme", "xxx", "safe", "see above", "fine"];

/// The page that lists what the other headers say.
const DESIGN: &str = "src/design.rs";

/// A file may be this long; a list of tests longer by a half.
const MAX_LINES: usize = 600;
/// A line may be this long.
const MAX_COLUMNS: usize = 120;

/// A file of the crate: its path from the crate's root, and its text.
struct Source {
    path: String,
    text: String,
}

fn sources(folder: &str) -> Vec<Source> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        let Ok(entries) = fs::read_dir(folder) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    walk(&root.join(folder), &mut found);
    found.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a readable source file");
        let path = path.strip_prefix(root).expect("below the root").to_str().expect("UTF-8").to_owned();
        Source { path, text }
    };
    found.into_iter().map(read).collect()
}

/// The line's code: comments cut off, and what stands in plain string literals.
fn code(line: &str) -> String {
    let (mut kept, mut in_string, mut escaped) = (String::new(), false, false);
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' if in_string && !escaped => escaped = true,
            '"' if !escaped => {
                in_string = !in_string;
                kept.push('"');
            }
            '\'' if !in_string && characters.peek() == Some(&'"') => {
                characters.next();
                characters.next();
            }
            '/' if !in_string && characters.peek() == Some(&'/') => break,
            _ => {
                escaped = false;
                if !in_string {
                    kept.push(character);
                }
            }
        }
    }
    kept
}

/// The line's comment, without its slashes; empty when it has none.
fn comment(line: &str) -> &str {
    line.find("//").map_or("", |at| line[at..].trim_start_matches(['/', '!']).trim())
}

/// The `//!` lines at the top.
fn header(text: &str) -> String {
    let lines = text.lines().take_while(|line| line.starts_with("//!"));
    lines.map(|line| line.trim_start_matches("//!")).collect::<Vec<_>>().join("\n")
}

/// What stands in `TAG(name)`, for every occurrence in `text`.
fn tagged<'a>(text: &'a str, tag: &str) -> Vec<&'a str> {
    let rest = text.split(tag).skip(1);
    rest.filter_map(|rest| rest.strip_prefix('(')?.split_once(')')).map(|(name, _)| name).collect()
}

/// The `file::function`s whose code `names` something, and what: by file name alone, so that a table can name it.
fn by_function(path: &str, text: &str, names: impl Fn(&str) -> Vec<String>) -> Vec<(String, String)> {
    let file = path.rsplit('/').next().unwrap_or("").trim_end_matches(".rs");
    let (mut function, mut found) = (String::new(), Vec::new());
    for line in text.lines().take_while(|line| !line.starts_with("mod tests")).map(code) {
        if let Some((_, rest)) = line.split_once("fn ") {
            function = first_word(rest).unwrap_or_default();
        }
        found.extend(names(&line).into_iter().map(|name| (format!("{file}::{function}"), name)));
    }
    found
}

/// The names that stand behind `Mutant::`.
fn mutants_in(line: &str) -> Vec<String> {
    line.split("Mutant::").skip(1).filter_map(first_word).collect()
}

/// Fences, and calls of the futex that wake.
fn fences_and_wakes(line: &str) -> Vec<String> {
    let does = ["fence(", ".wake(", "change_and_wake"].iter().any(|call| line.contains(call));
    let declares = line.contains("fn ");
    if does && !declares { vec![String::new()] } else { Vec::new() }
}

/// The first column of the rows of a table of [`DESIGN`], the part that begins with `title`, each split at its names.
fn rows(design: &str, title: &str) -> Vec<(BTreeSet<String>, String)> {
    let (_, part) = design.split_once(title).expect("the design has this part");
    let part = part.split("\n//! # ").next().unwrap_or("").split("\n//!\n//! Fences").next().unwrap_or("");
    let rows = part.lines().filter_map(|line| line.strip_prefix("//! | `"));
    rows.map(|row| {
        let (names, rest) = row.split_once(" | ").expect("a row has two columns");
        let names = names.replace('`', "").split(", ").map(str::to_owned).collect();
        (names, rest.trim_end_matches(" |").to_owned())
    })
    .collect()
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

/// `use crate::x` or a path `crate::x::` of a room above one's own, and of a neighbour on the same floor.
fn imports_that_go_up(path: &str, text: &str) -> Vec<String> {
    let room = path.trim_start_matches("src/").split(['/', '.']).next().unwrap_or("");
    let Some(own) = floor(room) else { return Vec::new() };
    let mut bad = Vec::new();
    // An import list of several lines names its rooms at the depth of one brace.
    let mut depth: Option<i32> = None;
    for (number, line) in text.lines().enumerate() {
        let code = code(line);
        let mut names: Vec<String> = Vec::new();
        let mut rest = code.as_str();
        while let Some(at) = rest.find("crate::") {
            let qualified = at > 0 && rest[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
            rest = &rest[at + "crate::".len()..];
            if qualified {
                continue;
            }
            if let Some(list) = rest.strip_prefix('{') {
                depth = Some(1);
                rest = list;
            } else {
                names.extend(first_word(rest));
            }
        }
        if let Some(mut level) = depth {
            let list = if code.contains("crate::{") { rest } else { code.as_str() };
            let mut word = String::new();
            for character in list.chars().chain([' ']) {
                if character.is_alphanumeric() || character == '_' {
                    word.push(character);
                    continue;
                }
                if level == 1 && !word.is_empty() {
                    names.push(word.clone());
                }
                word.clear();
                match character {
                    '{' => level += 1,
                    '}' => level -= 1,
                    // What follows a path's first name is not a room.
                    ':' => level += i32::from(level == 1) * 100,
                    ',' if level > 100 && level % 100 == 1 => level = 1,
                    _ => {}
                }
                if level <= 0 {
                    break;
                }
            }
            depth = (level > 0 && level != 100).then_some(level);
        }
        for name in names {
            let goes_up = floor(&name).is_some_and(|there| there < own || (there == own && name != room));
            if goes_up {
                bad.push(format!("{path}:{}: {room} imports {name}", number + 1));
            }
        }
    }
    bad
}

fn first_word(text: &str) -> Option<String> {
    let word: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!word.is_empty()).then_some(word)
}

/// An edge has two ends in the code, and stands in the header's list, `- `name`: ...`.
fn edges_without_two_ends(path: &str, text: &str) -> Vec<String> {
    let body: Vec<&str> = text.lines().filter(|line| !line.starts_with("//!")).map(comment).collect();
    let listed = listed_under(text, "# Ordering edges");
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for line in body {
        for name in tagged(line, "ORDERING") {
            *seen.entry(name).or_default() += 1;
        }
    }
    let mut bad = Vec::new();
    for (name, &count) in &seen {
        if count < 2 {
            bad.push(format!("{path}: ORDERING({name}) stands at one end only"));
        }
        if !listed.contains(*name) {
            bad.push(format!("{path}: ORDERING({name}) is not in the header"));
        }
    }
    for name in listed.iter().filter(|name| !seen.contains_key(name.as_str())) {
        bad.push(format!("{path}: the header's edge `{name}` stands nowhere in the code"));
    }
    bad
}

/// A crash point of the code is in the header's list, and the reverse.
fn crash_points_in_one_place_only(path: &str, text: &str) -> Vec<String> {
    if path == DESIGN {
        return Vec::new(); // lists them all: see `the_design_lists_every_crash_point`
    }
    let listed = listed_under(text, "# Crash points");
    let body = text.lines().filter(|line| !line.starts_with("//!")).map(comment);
    let standing: BTreeSet<String> = body.flat_map(|line| tagged(line, "CRASH")).map(str::to_owned).collect();
    let unlisted =
        standing.difference(&listed).map(|name| format!("{path}: CRASH({name}) is not in the header"));
    let absent = listed.difference(&standing).map(|name| format!("{path}: no CRASH({name}) in the code"));
    unlisted.chain(absent).collect()
}

/// The names of a header's section: those that begin an item of its list, `- `a`, `b`: ...`.
fn listed_under(text: &str, section: &str) -> BTreeSet<String> {
    let header = header(text);
    let Some((_, rest)) = header.split_once(section) else { return BTreeSet::new() };
    let section = rest.split("\n # ").next().unwrap_or("");
    let items = section
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- `").or(line.trim().strip_prefix("| `")));
    let mut names = BTreeSet::new();
    for item in items {
        let head = item.split_once([':', '|']).map_or(item, |(head, _)| head);
        names.extend(head.split('`').step_by(2).map(str::to_owned).filter(|name| !name.trim().is_empty()));
    }
    names
}

/// `unsafe {`, `unsafe impl` and `unsafe fn` (and the unsafe functions' declarations) without a reason. A function
/// states what it asks for in a `# Safety` section.
fn unsafe_without_a_reason(path: &str, text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let mut bad = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let code = code(line);
        let is_block = code.contains("unsafe {") || code.contains("unsafe impl");
        let is_function = code.contains("unsafe fn ") || code.contains("unsafe trait ");
        if !is_block && !is_function {
            continue;
        }
        let reason = comments_above(&lines, number);
        let place = format!("{path}:{}", number + 1);
        if is_function {
            if !reason.contains("# Safety") {
                bad.push(format!("{place}: no `# Safety` section"));
            }
            continue;
        }
        let Some((_, said)) = reason.rsplit_once("SAFETY:") else {
            bad.push(format!("{place}: no SAFETY comment"));
            continue;
        };
        let said = said.trim().trim_end_matches('.').to_lowercase();
        if said.len() < 8 || PLACEHOLDERS.contains(&said.as_str()) {
            bad.push(format!("{place}: the SAFETY comment `{said}` is a placeholder"));
        }
    }
    bad
}

/// The nearest comment at or above the line: attributes and the lines of the same statement stand between.
fn comments_above(lines: &[&str], number: usize) -> String {
    let mut found = vec![comment(lines[number])];
    let mut above = number;
    let mut in_comment = false;
    while above > 0 {
        above -= 1;
        let line = lines[above].trim();
        if line.starts_with("//") {
            in_comment = true;
            found.push(comment(line));
            continue;
        }
        let ended = in_comment || line.is_empty() || line.ends_with(';') || line.ends_with('}');
        let is_start = line.ends_with('{') && !line.contains("match ") && !line.contains("if ");
        if !line.starts_with("#[") && (ended || is_start) {
            break;
        }
    }
    found.reverse();
    found.join("\n")
}

/// `cfg(loom)` and `cfg(mutants)` on anything but `mod`, `use` and layout assertions, outside the seam.
fn misplaced_cfgs(path: &str, text: &str) -> Vec<String> {
    if path.starts_with("src/primitive/") {
        return Vec::new();
    }
    let lines: Vec<String> = text.lines().map(code).collect();
    let mut bad = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let about = |name: &str| {
            ["(", " ", ","].iter().any(|before| {
                line.split(&format!("{before}{name}")).skip(1).any(|rest| rest.starts_with([')', ',']))
            })
        };
        let lints_only = line.starts_with("#![cfg_attr(loom, allow(");
        if lints_only || !line.contains("cfg") || !(about("loom") || about("mutants")) {
            continue;
        }
        let target = lines[number + 1..]
            .iter()
            .map(|line| line.trim())
            .find(|line| !line.is_empty() && !line.starts_with("#["));
        let target = target.unwrap_or("");
        let bare = target.trim_start_matches("pub(crate) ").trim_start_matches("pub ");
        let allowed =
            ["mod ", "use ", "const _:", "compile_error!"].iter().any(|start| bare.starts_with(start));
        if !line.trim_start().starts_with("#[cfg(") || !allowed {
            bad.push(format!("{path}:{}: a cfg on `{target}`", number + 1));
        }
    }
    bad
}

/// Core's atomics by name, outside the seam.
fn atomics_beside_the_seam(path: &str, text: &str) -> Vec<String> {
    if path.starts_with("src/primitive/") {
        return Vec::new();
    }
    if text.contains("#![allow(clippy::disallowed_types, reason = \"") {
        return Vec::new();
    }
    let names = |code: &str| {
        code.contains("sync::atomic")
            || (code.contains("use std::") && code.contains("sync::{") && code.contains("atomic"))
    };
    let lines = text.lines().map(code).enumerate();
    lines.filter(|(_, code)| names(code)).map(|(n, _)| format!("{path}:{}: core atomics", n + 1)).collect()
}

fn too_long(path: &str, text: &str) -> Vec<String> {
    let mut bad = Vec::new();
    let lines = text.lines().count();
    let most = if path.starts_with("tests/") { MAX_LINES * 3 / 2 } else { MAX_LINES };
    if lines > most {
        bad.push(format!("{path}: {lines} lines, at most {most}"));
    }
    for (number, line) in text.lines().enumerate() {
        let columns = line.chars().count();
        let is_table = line.starts_with("//! |");
        if columns > MAX_COLUMNS && !is_table {
            bad.push(format!("{path}:{}: {columns} columns, at most {MAX_COLUMNS}", number + 1));
        }
    }
    bad
}

/// What must not be left in the code.
fn left_undone(path: &str, text: &str) -> Vec<String> {
    let words = ["todo!", "unimplemented!", "#[ignore", "dbg!("];
    let mut bad = Vec::new();
    for (number, line) in text.lines().map(code).enumerate() {
        for word in words.iter().filter(|word| line.contains(**word)) {
            bad.push(format!("{path}:{}: {word}", number + 1));
        }
    }
    bad
}

/// Runs a check over every file of the folders.
fn tidy(folders: &[&str], check: impl Fn(&str, &str) -> Vec<String>) {
    let files: Vec<Source> = folders.iter().flat_map(|folder| sources(folder)).collect();
    assert!(files.len() > 1, "no files in {folders:?}");
    let bad: Vec<String> = files.iter().flat_map(|file| check(&file.path, &file.text)).collect();
    assert!(bad.is_empty(), "\n{}", bad.join("\n"));
}

#[test]
fn imports_go_down_only() {
    tidy(&["src"], imports_that_go_up);
}

#[test]
fn every_ordering_edge_has_two_ends_and_stands_in_the_header() {
    tidy(&["src"], edges_without_two_ends);
}

#[test]
fn every_crash_point_is_listed_and_every_listed_one_exists() {
    tidy(&["src"], crash_points_in_one_place_only);
}

#[test]
fn the_design_lists_every_crash_point() {
    let design = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(DESIGN)).unwrap();
    let (_, table) = design.split_once("# Crash points").unwrap();
    let table = table.split("\n//! # ").next().unwrap();
    let first_column = |row: &str| row.split('|').nth(1).unwrap_or("").to_owned();
    let rows = table.lines().filter(|line| line.starts_with("//! | `")).map(first_column);
    let listed: BTreeSet<String> = rows
        .flat_map(|names| names.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let standing = RefCell::new(BTreeSet::new());
    tidy(&["src"], |_, text| {
        let body = text.lines().filter(|line| !line.starts_with("//!")).map(comment);
        standing.borrow_mut().extend(body.flat_map(|line| tagged(line, "CRASH")).map(str::to_owned));
        Vec::new()
    });
    assert_eq!(listed, standing.into_inner());
}

#[test]
fn every_unsafe_has_a_reason() {
    tidy(&["src", "tests", "benches", "fuzz/src"], unsafe_without_a_reason);
}

#[test]
fn model_cfgs_stand_on_modules_imports_and_layout_assertions() {
    tidy(&["src"], misplaced_cfgs);
}

#[test]
fn atomics_are_the_seams() {
    tidy(&["src"], atomics_beside_the_seam);
}

#[test]
fn files_and_lines_are_short() {
    tidy(&["src", "tests", "benches", "fuzz/fuzz_targets", "fuzz/src"], too_long);
}

#[test]
fn nothing_is_left_undone() {
    tidy(&["src", "tests", "benches", "fuzz/src"], left_undone);
}

#[test]
fn papers_are_there_and_their_lines_short() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for paper in ["README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md", "deny.toml"] {
        let text = fs::read_to_string(root.join(paper)).unwrap_or_else(|error| panic!("{paper}: {error}"));
        let long = |line: &&str| line.chars().count() > MAX_COLUMNS && !line.starts_with('|');
        assert_eq!(text.lines().find(long), None, "{paper}");
    }
}

#[test]
fn every_fuzzer_is_built_and_has_a_small_corpus() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let mut files = 0;
    for target in sources("fuzz/fuzz_targets") {
        let name = Path::new(&target.path).file_stem().unwrap().to_str().unwrap();
        assert!(
            manifest.contains(&format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"")),
            "{name}"
        );
        // The published package has none.
        let Ok(corpus) = fs::read_dir(root.join("corpus")) else { continue };
        drop(corpus);
        let inputs =
            fs::read_dir(root.join("corpus").join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let sizes: Vec<u64> = inputs.map(|input| input.unwrap().metadata().unwrap().len()).collect();
        assert!(!sizes.is_empty() && sizes.iter().all(|&size| size <= 1024), "{name}: {sizes:?}");
        files += sizes.len();
    }
    assert!(files < 200, "{files} inputs");
}

/// The enum, the code, the catchers and the table in the design say the same: no fault without a step and a catcher,
/// and no fence or wake without either a fault or a reason.
#[test]
fn every_step_has_a_mutant_and_every_mutant_a_catcher() {
    let files = sources("src");
    let text = |path: &str| &files.iter().find(|file| file.path == path).expect("it is there").text;
    let named = |kept: &dyn Fn(&str) -> bool, names: &dyn Fn(&str) -> Vec<String>| -> Vec<(String, String)> {
        let kept = files.iter().filter(|file| kept(&file.path));
        kept.flat_map(|file| by_function(&file.path, &file.text, names)).collect()
    };
    let is_model = |path: &str| path.contains("/models/");
    let is_step = |path: &str| {
        !is_model(path) && !["src/primitive/", "src/os/"].iter().any(|room| path.starts_with(room))
    };
    let seam = text("src/primitive/mutant.rs");
    let (_, faults) = seam.split_once("pub enum Mutant").unwrap();
    let faults = faults.split("\n}").next().unwrap().lines().map(code);
    let faults: BTreeSet<String> =
        faults.filter_map(|line| line.trim().strip_suffix(',').map(str::to_owned)).collect();
    let mut expected: BTreeMap<String, (BTreeSet<String>, String)> = BTreeMap::new();
    for (place, fault) in named(&is_step, &mutants_in) {
        expected.entry(fault).or_default().0.insert(place);
    }
    let hunted = sources("tests/crash").into_iter().find(|file| file.path.ends_with("mutants.rs")).unwrap();
    let hunted: BTreeSet<String> = hunted
        .text
        .lines()
        .filter(|line| line.contains("caught_by(") || line.contains("fault("))
        .flat_map(|line| mutants_in(&code(line)))
        .collect();
    let modelled: BTreeSet<String> =
        named(&is_model, &mutants_in).into_iter().map(|(_, fault)| fault).collect();
    for (fault, (_, catchers)) in &mut expected {
        let weakens = fault.starts_with("Relaxed") || fault.ends_with("Unfenced");
        let loom = modelled.contains(fault);
        let all = [("loom", loom), ("shuttle", loom && !weakens), ("crash", hunted.contains(fault))];
        let all: Vec<&str> = all.into_iter().filter_map(|(name, catches)| catches.then_some(name)).collect();
        assert!(!all.is_empty(), "nothing catches {fault}");
        *catchers = all.join(", ");
    }
    let known: BTreeSet<String> = expected.keys().cloned().chain(["None".to_owned()]).collect();
    assert_eq!(faults, known, "the enum and the code");

    let design = text(DESIGN);
    let listed: BTreeMap<String, (BTreeSet<String>, String)> = rows(design, "# Steps and their mutants")
        .into_iter()
        .map(|(places, rest)| {
            let (fault, catchers) = rest.split_once(" | ").expect("a row has three columns");
            (fault.to_owned(), (places, catchers.to_owned()))
        })
        .collect();
    assert_eq!(listed, expected, "the table and the code");

    let steps: BTreeSet<String> =
        named(&is_step, &fences_and_wakes).into_iter().map(|(place, _)| place).collect();
    let mutated = expected.values().flat_map(|(places, _)| places.clone());
    let excused: BTreeSet<String> = rows(design, "Fences and wakes without a mutant")
        .into_iter()
        .flat_map(|(places, _)| places)
        .collect();
    assert!(excused.is_subset(&steps), "reasons for steps that are not there: {excused:?}");
    let covered: BTreeSet<String> = mutated.chain(excused).collect();
    let bare: Vec<_> = steps.difference(&covered).collect();
    assert!(bare.is_empty(), "neither a mutant nor a reason: {bare:?}");
}

/// The checks can fail: each is shown something bad, and something good that resembles it.
mod checks {
    use super::*;

    fn count(bad: &[String]) -> usize {
        bad.len()
    }

    #[test]
    fn an_import_of_a_higher_room_is_seen() {
        let one = imports_that_go_up;
        assert_eq!(count(&one("src/os/futex.rs", "use crate::sync::Lock;")), 1);
        assert_eq!(
            count(&one("src/sync/lock.rs", "use crate::{\n    error::X,\n    queue::{Ring, y},\n};")),
            1
        );
        assert_eq!(count(&one("src/sync/lock.rs", "use crate::{error::X, pool::{a, b}, value};")), 2);
        assert_eq!(count(&one("src/queue/ring.rs", "let x = crate::pipe::pipe();")), 1);
        assert_eq!(count(&one("src/error.rs", "use crate::os::map::Refusal;")), 1);
        assert_eq!(
            count(&one("src/pool/mod.rs", "use crate::{process::P, queue::{pool, manager}, sync, os};")),
            0
        );
        assert_eq!(
            count(&one(
                "src/sync/lock.rs",
                "use crate::{\n    error::{pool,\n    queue},\n    region::A,\n};"
            )),
            0
        );
        assert_eq!(
            count(&one("src/os/futex.rs", "// use crate::sync::Lock;\nlet x = my_crate::sync::a;")),
            0
        );
        assert_eq!(count(&one("src/sync/lock.rs", "use crate::sync::owner::OwnerWord;")), 0);
        assert_eq!(count(&one("src/lib.rs", "use crate::pool::Pool;")), 0);
    }

    #[test]
    fn an_edge_with_one_end_is_seen() {
        let check = edges_without_two_ends;
        let head =
            "//! # Ordering edges\n//! - `a`: `unlock` -> `lock`.\n//!\n//! # Crash points\n//! - `b`: x\n";
        assert_eq!(count(&check("x", &format!("{head}// ORDERING(a): one\n// ORDERING(a): two\n"))), 0);
        assert_eq!(count(&check("x", &format!("{head}// ORDERING(a): one\n"))), 1);
        assert_eq!(count(&check("x", head)), 1);
        assert_eq!(count(&check("x", "// ORDERING(a): one\n// ORDERING(a): two\n")), 1);
        assert_eq!(count(&check("x", &format!("{head}// ORDERING(a): 1, ORDERING(a), ORDERING(c): 2\n"))), 2);
        assert_eq!(count(&check("x", "// ORDERING: Relaxed, a hint.\n")), 0);
    }

    #[test]
    fn a_crash_point_that_stands_or_is_listed_alone_is_seen() {
        let check = crash_points_in_one_place_only;
        let head = "//! # Crash points\n//! - `q.a`: x\n//! - `q.b`, `q.c`: `other` y\n";
        let all = "// CRASH(q.a): x\n    // CRASH(q.b): y\n// CRASH(q.c): z\n";
        assert_eq!(count(&check("x", &format!("{head}{all}"))), 0);
        assert_eq!(count(&check("x", &format!("{head}{all}// CRASH(q.d): w\n"))), 1);
        assert_eq!(count(&check("x", head)), 3);
        assert_eq!(count(&check("x", all)), 3);
    }

    #[test]
    fn an_unsafe_without_a_reason_is_seen() {
        let check = unsafe_without_a_reason;
        assert_eq!(count(&check("x", "fn a() {\n    unsafe { b() }\n}")), 1);
        assert_eq!(count(&check("x", "// SAFETY: safe.\nunsafe { b() }")), 1);
        assert_eq!(count(&check("x", "// SAFETY: TODO\nunsafe impl Send for X {}")), 1);
        assert_eq!(count(&check("x", "// SAFETY: the word is atomic.\nunsafe impl Send for X {}")), 0);
        assert_eq!(count(&check("x", "// SAFETY: the word is atomic.\nlet x =\n    unsafe { b() };")), 0);
        assert_eq!(
            count(&check("x", "// SAFETY: the word is atomic.\nlet x = 1;\nlet y = unsafe { b() };")),
            1
        );
        assert_eq!(
            count(&check(
                "x",
                "// SAFETY: word is atomic.\nunsafe impl Send for X {}\nunsafe impl Sync for X {}"
            )),
            1
        );
        assert_eq!(count(&check("x", "/// Frees.\npub unsafe fn a() {}")), 1);
        assert_eq!(count(&check("x", "/// # Safety\n/// It is mapped.\n#[inline]\npub unsafe fn a() {}")), 0);
        assert_eq!(count(&check("x", "let x = \"unsafe { b() }\"; // unsafe {")), 0);
    }

    #[test]
    fn a_cfg_inside_a_function_is_seen() {
        let check = misplaced_cfgs;
        assert_eq!(
            count(&check("src/sync/a.rs", "#[cfg(not(loom))]\nmod a;\n#[cfg(loom)]\npub(crate) use b;")),
            0
        );
        assert_eq!(count(&check("src/sync/a.rs", "#[cfg(all(test, loom))]\n#[allow(x)]\nmod models;")), 0);
        assert_eq!(count(&check("src/sync/a.rs", "#[cfg(not(loom))]\nconst _: () = {};")), 0);
        assert_eq!(count(&check("src/sync/a.rs", "#[cfg(not(loom))]\nfn a() {}")), 1);
        assert_eq!(count(&check("src/sync/a.rs", "if cfg!(loom) {\n    x();\n}")), 1);
        assert_eq!(count(&check("src/sync/a.rs", "#[cfg(any(loom, mutants))]\nlet x = 1;")), 1);
        assert_eq!(count(&check("src/sync/a.rs", "#[cfg_attr(loom, allow(x))]\nmod a;")), 1);
        assert_eq!(count(&check("src/primitive/a.rs", "#[cfg(loom)]\nfn a() {}")), 0);
    }

    #[test]
    fn an_atomic_beside_the_seam_is_seen() {
        let check = atomics_beside_the_seam;
        assert_eq!(count(&check("src/sync/a.rs", "use std::sync::atomic::AtomicU32;")), 1);
        assert_eq!(count(&check("src/sync/a.rs", "let x = core::sync::atomic::fence(y);")), 1);
        assert_eq!(count(&check("src/sync/a.rs", "use std::sync::{Arc, atomic::AtomicU32};")), 1);
        assert_eq!(
            count(&check("src/sync/a.rs", "// std::sync::atomic\nuse crate::primitive::AtomicU32;")),
            0
        );
        assert_eq!(count(&check("src/primitive/a.rs", "use std::sync::atomic::AtomicU32;")), 0);
    }

    #[test]
    fn a_long_file_and_a_long_line_are_seen() {
        assert_eq!(count(&too_long("x", &"a\n".repeat(MAX_LINES))), 0);
        assert_eq!(count(&too_long("x", &"a\n".repeat(MAX_LINES + 1))), 1);
        assert_eq!(count(&too_long("x", &"ä".repeat(MAX_COLUMNS))), 0);
        assert_eq!(count(&too_long("x", &"ä".repeat(MAX_COLUMNS + 1))), 1);
    }

    #[test]
    fn what_is_left_undone_is_seen() {
        let (undone, ignored) = (["to", "do!()"].concat(), ["#[ig", "nore]"].concat());
        assert_eq!(count(&left_undone("x", &undone)), 1);
        assert_eq!(count(&left_undone("x", &ignored)), 1);
        assert_eq!(count(&left_undone("x", &["unimple", "mented!(1)"].concat())), 1);
        assert_eq!(count(&left_undone("x", &format!("// {undone}\nlet x = \"{undone}\";"))), 0);
    }
}
