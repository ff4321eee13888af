//! Every public operation has its proofs: `covered.txt` says which rows of `cargo crash` and which models of
//! `cargo loom` kill in it, and this test compares the list with the sources.
//!
//! The operations are the public functions of every type that `src/lib.rs` exports, the exported free functions, and
//! what a drop or a step of an iterator does. A new one that the list does not name fails here; so does a line whose
//! operation, row, model or test is gone. A line is `names | proofs`:
//!
//! ```text
//! [Type]
//! lock | crash: lock; lock, unlock | loom: sync/lock/two_threads_take_turns
//! try_lock | as lock                         goes through the same code: shown by a call of one by the other, or by
//!                                            a function that both call
//! new, new_in | exempt: why a death in it is nobody's business
//! run | test: supervisor/who_fails_is_started_anew_alone
//! [Type] exempt: why                         a type that no two processes share
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// Of a type (or of none), the operations, and the text of each.
type Api = BTreeMap<String, BTreeMap<String, String>>;

/// Free functions stand in the list under this name.
const FREE: &str = "free functions";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Rust files below a folder: path from the root, text.
fn files(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).expect("below the root").to_str().expect("UTF-8");
                found.push((name.to_owned(), fs::read_to_string(&path).expect("a readable file")));
            }
        }
    }
    found.sort();
    found
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

/// The names that stand in `pub use` lines.
fn exported(lib: &str) -> BTreeSet<String> {
    let lists = lib.split("pub use ").skip(1).map(|rest| rest.split(';').next().unwrap_or(""));
    lists.flat_map(words).map(str::to_owned).collect()
}

/// What lies behind the generics at the beginning of `text`.
fn behind_generics(text: &str) -> &str {
    let mut depth = 0;
    let mut before = ' ';
    for (at, character) in text.char_indices() {
        match character {
            '<' => depth += 1,
            '>' if before != '-' => depth -= 1,
            _ => {}
        }
        before = character;
        if depth == 0 {
            return text[at + usize::from(character == '>')..].trim_start();
        }
    }
    text
}

/// The trait, if any, and the type of an `impl` line.
fn heading(line: &str) -> Option<(Option<String>, String)> {
    let text = behind_generics(line.strip_prefix("unsafe ").unwrap_or(line).strip_prefix("impl")?);
    let first = |text: &str| words(text).next().map(str::to_owned);
    // The `for` of a bound `for<'a>` is followed by no space.
    match text.split_once(" for ") {
        Some((of, on)) => Some((first(of), first(on.trim_start_matches('&'))?)),
        None => Some((None, first(text)?)),
    }
}

/// The name of a function that is declared in the line, at that depth; `public` ones only, if asked for.
fn declared(line: &str, indent: usize, public: bool) -> Option<&str> {
    let code = line.strip_prefix(&" ".repeat(indent))?;
    if code.starts_with(' ') || (public && !code.starts_with("pub ")) {
        return None;
    }
    let (before, behind) = code.split_once("fn ")?;
    let is_declaration = words(before).all(|word| ["pub", "const", "unsafe", "crate"].contains(&word));
    is_declaration.then(|| words(behind).next()).flatten()
}

/// Adds what the file declares.
fn operations(text: &str, exported: &BTreeSet<String>, api: &mut Api) {
    let lines: Vec<&str> = text.lines().collect();
    let mut on: Option<(bool, String)> = None;
    for (number, line) in lines.iter().enumerate() {
        if line.starts_with('}') {
            on = None;
        }
        if let Some((of, name)) = heading(line) {
            // In an implementation all functions are the trait's.
            let public = of.is_none();
            let shown = public || of.is_some_and(|of| ["Drop", "Iterator"].contains(&of.as_str()));
            on = (shown && exported.contains(&name)).then_some((public, name));
        }
        let (indent, found, name) = match &on {
            Some((public, name)) => (4, declared(line, 4, *public), name.as_str()),
            None => (0, declared(line, 0, true).filter(|name| exported.contains(*name)), FREE),
        };
        let Some(operation) = found.filter(|name| *name != "size_hint") else { continue };
        let end = format!("{}}}", " ".repeat(indent));
        let body: Vec<&str> = lines[number..].iter().copied().take_while(|line| *line != end).collect();
        api.entry(name.to_owned()).or_default().insert(operation.to_owned(), body.join("\n"));
    }
}

/// The public operations of the crate.
fn api() -> Api {
    let mut api = Api::new();
    let lib = fs::read_to_string(root().join("src/lib.rs")).expect("src/lib.rs");
    let exported = exported(&lib);
    let inner = ["src/os/", "src/primitive/", "src/testing/", "src/region/model.rs"];
    for (path, text) in files("src") {
        if !path.contains("/models/") && !inner.iter().any(|inner| path.starts_with(inner)) {
            operations(&text, &exported, &mut api);
        }
    }
    api
}

/// How an operation is covered.
#[derive(Debug, Default)]
struct Proofs {
    rows: Vec<String>,
    models: Vec<String>,
    tests: Vec<String>,
    like: Option<String>,
    exempt: bool,
}

/// The lines of the list: (type, operation), where no operation stands for all. What is wrong with them goes to `bad`.
fn list(text: &str, bad: &mut Vec<String>) -> BTreeMap<(String, String), Proofs> {
    let mut found = BTreeMap::new();
    let mut section = String::new();
    for (number, line) in text.lines().enumerate() {
        let place = format!("covered.txt:{}", number + 1);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (names, proofs) = match line.strip_prefix('[').and_then(|line| line.split_once(']')) {
            Some((name, rest)) => {
                section = name.to_owned();
                if rest.is_empty() {
                    continue;
                }
                ("", rest)
            }
            None => line.split_once('|').unwrap_or((line, "")),
        };
        let mut entry = Proofs::default();
        for proof in proofs.split('|').map(str::trim) {
            let (kind, what) = proof.split_once([':', ' ']).unwrap_or((proof, ""));
            let several = || what.split(';').map(|name| name.trim().to_owned()).collect();
            match kind {
                "crash" => entry.rows = several(),
                "loom" => entry.models = several(),
                "test" => entry.tests = several(),
                "as" => entry.like = Some(what.trim().to_owned()),
                "exempt" if words(what).count() > 2 => entry.exempt = true,
                _ => bad.push(format!("{place}: {proof:?} is no proof")),
            }
        }
        for name in names.split(',').map(str::trim) {
            let entry = Proofs {
                rows: entry.rows.clone(),
                models: entry.models.clone(),
                tests: entry.tests.clone(),
                like: entry.like.clone(),
                exempt: entry.exempt,
            };
            if found.insert((section.clone(), name.to_owned()), entry).is_some() {
                bad.push(format!("{place}: {section}::{name} stands there twice"));
            }
        }
    }
    found
}

/// What there is to name in a proof.
#[derive(Default)]
struct Walls {
    /// The operations of rows: whole string literals of tests/crash.
    rows: BTreeSet<String>,
    /// room/file/name
    models: BTreeSet<String>,
    /// file/name
    tests: BTreeSet<String>,
    /// The functions that are declared in src.
    functions: BTreeSet<String>,
}

impl Walls {
    fn of_the_crate() -> Walls {
        let mut walls = Walls::default();
        for (_, text) in files("tests/crash") {
            let literals = text.lines().flat_map(|line| line.split('"').skip(1).step_by(2));
            walls.rows.extend(literals.map(str::to_owned));
        }
        for (path, text) in files("src") {
            let named =
                |line: &str| (0..3).find_map(|depth| Some(declared(line, depth * 4, false)?.to_owned()));
            let names: BTreeSet<String> = text.lines().filter_map(named).collect();
            if let Some((room, file)) = path.trim_start_matches("src/").split_once("/models/") {
                let file = file.trim_end_matches(".rs");
                walls.models.extend(names.iter().map(|name| format!("{room}/{file}/{name}")));
            } else {
                walls.functions.extend(names);
            }
        }
        for (path, text) in files("tests") {
            let file = path.trim_start_matches("tests/").trim_end_matches(".rs");
            let names = text.lines().filter_map(|line| declared(line, 0, false));
            walls.tests.extend(names.map(|name| format!("{file}/{name}")));
        }
        walls
    }

    /// Whether one of two operations calls the other, or both call something of the crate's.
    fn are_akin(&self, (one, its): (&str, &str), (other, others): (&str, &str)) -> bool {
        let calls = |text: &str| -> BTreeSet<String> {
            let code: Vec<&str> =
                text.lines().skip(1).map(|line| line.split("//").next().unwrap_or("")).collect();
            let called = code.join("\n");
            let ends = called.match_indices('(').map(|(at, _)| at);
            ends.filter_map(|at| words(&called[..at]).last().map(str::to_owned)).collect()
        };
        let (its, others) = (calls(its), calls(others));
        let tells = |name: &&String| name.len() > 3 && self.functions.contains(*name);
        its.contains(other) || others.contains(one) || its.intersection(&others).any(|name| tells(&name))
    }
}

/// What is wrong between the operations, the list and the walls.
fn gaps(api: &Api, text: &str, walls: &Walls) -> Vec<String> {
    let mut bad = Vec::new();
    let listed = list(text, &mut bad);
    let own = |name: &str, operation: &str| listed.get(&(name.to_owned(), operation.to_owned()));
    for (name, operations) in api {
        let whole = own(name, "").is_some_and(|proofs| proofs.exempt);
        for operation in operations.keys().filter(|_| !whole) {
            if own(name, operation).is_none() {
                bad.push(format!("{name}::{operation}: no row, no model, and not exempt"));
            }
        }
    }
    for ((name, operation), proofs) in &listed {
        let place = format!("{name}::{operation}");
        let is_operation = |operation: &str| api.get(name).and_then(|all| all.get(operation));
        if !api.contains_key(name) || !operation.is_empty() && is_operation(operation).is_none() {
            bad.push(format!("{place}: there is no such operation"));
        }
        let missing = |kind: &str, wanted: &[String], there: &BTreeSet<String>| {
            let gone = wanted.iter().filter(|wanted| !there.contains(*wanted));
            gone.map(|wanted| format!("{place}: no {kind} {wanted:?}")).collect::<Vec<_>>()
        };
        bad.extend(missing("row", &proofs.rows, &walls.rows));
        bad.extend(missing("model", &proofs.models, &walls.models));
        bad.extend(missing("test", &proofs.tests, &walls.tests));
        let Some(like) = &proofs.like else {
            let shown =
                proofs.exempt || [&proofs.rows, &proofs.models, &proofs.tests].iter().any(|p| !p.is_empty());
            if !shown {
                bad.push(format!("{place}: nothing is named that covers it"));
            }
            continue;
        };
        // It may go by way of another form, so long as there is a proof at the end of the way.
        let mut at = like;
        let end = (0..4).find_map(|_| {
            let proofs = own(name, at)?;
            at = proofs.like.as_ref().unwrap_or(at);
            (proofs.like.is_none() && !proofs.exempt).then_some(())
        });
        if end.is_none() {
            bad.push(format!("{place}: as {like}, which leads to no proof"));
        }
        if let (Some(its), Some(others)) = (is_operation(operation), is_operation(like))
            && !walls.are_akin((operation, its), (like, others))
        {
            bad.push(format!("{place}: as {like}, but they have no code in common"));
        }
    }
    bad
}

#[test]
fn every_operation_has_its_proofs() {
    let text = fs::read_to_string(root().join("tests/covered.txt")).expect("tests/covered.txt");
    let bad = gaps(&api(), &text, &Walls::of_the_crate());
    assert!(bad.is_empty(), "{} gaps\n{}", bad.len(), bad.join("\n"));
}

/// The comparison can fail: it is shown a small crate, and lists that do not fit.
mod checks {
    use super::*;

    const CODE: &str = "
pub struct Bell;
impl<T: Into<u8>> Bell<T> {
    /// Rings.
    pub fn ring(&self) {
        self.strike(true)
    }

    pub fn try_ring(&self) {
        self.strike(false)
    }

    pub fn hang(&self) {
        nail();
    }

    fn strike(&self) {}
    pub(crate) fn quietly(&self) {}
}
impl Drop for Bell {
    fn drop(&mut self) {
        x();
    }
}
impl fmt::Debug for Bell {
    fn fmt(&self) {
    }
}
impl Hidden {
    pub fn hidden(&self) {
    }
}
pub fn peal() {
}
pub fn unexported() {
}
";
    const LIST: &str = "
[Bell]
ring | crash: Bell::ring | loom: sync/bell/it_rings
try_ring | as ring
hang | exempt: nobody else has it yet
drop | test: bell/it_drops
[free functions]
peal | loom: sync/bell/it_rings
";

    fn shown(text: &str) -> Vec<String> {
        let mut api = Api::new();
        operations(CODE, &exported("pub use a::{Bell, peal};\n"), &mut api);
        let set = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
        let walls = Walls {
            rows: set(&["Bell::ring"]),
            models: set(&["sync/bell/it_rings"]),
            tests: set(&["bell/it_drops"]),
            functions: set(&["strike"]),
        };
        gaps(&api, text, &walls)
    }

    #[test]
    fn a_list_that_fits_has_no_gaps() {
        assert_eq!(shown(LIST), [""; 0]);
    }

    #[test]
    fn what_does_not_fit_is_seen() {
        let each = [
            ("try_ring | as ring\n", "", "Bell::try_ring: no row"),
            ("drop | test: bell/it_drops\n", "", "Bell::drop: no row"),
            ("peal |", "toll |", "no such operation"),
            ("crash: Bell::ring", "crash: Bell::rung", "no row"),
            (
                "ring | crash: Bell::ring | loom: sync/bell/it_rings",
                "ring | loom: sync/bell/gone",
                "no model",
            ),
            ("it_drops", "it_falls", "no test"),
            ("exempt: nobody else has it yet", "exempt: no", "no proof"),
            ("exempt: nobody else has it yet", "as ring", "no code in common"),
            ("try_ring | as ring", "try_ring | as hang", "leads to no proof"),
            ("try_ring | as ring", "try_ring | as rung", "leads to no proof"),
            ("try_ring | as ring", "try_ring | as try_ring", "leads to no proof"),
            ("try_ring | as ring", "try_ring", "is no proof"),
            ("try_ring | as ring", "try_ring | as ring\ntry_ring | as ring", "twice"),
        ];
        for (there, instead, said) in each {
            assert!(LIST.contains(there), "{there}");
            let bad = shown(&LIST.replacen(there, instead, 1));
            assert!(bad.iter().any(|bad| bad.contains(said)), "{there} -> {instead}: {bad:?}");
        }
    }
}
