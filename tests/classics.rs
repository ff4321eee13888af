//! What the classics print.
//!
//! Their source is a part of this program, which starts itself to play one of them: so no example of another build is
//! ever met, and none need have been built.

#[path = "../examples/classics/main.rs"]
mod classics;
mod support;

use std::{
    env,
    io::Write,
    process::{Command, ExitCode, Stdio},
};

use nix::sys::wait::waitpid;

/// Set for a process that is to be the program of the classics.
const PLAYS: &str = "PSHARED_TEST_PLAYS_CLASSICS";

fn main() -> ExitCode {
    if env::var_os(PLAYS).is_some() {
        return classics::main();
    }
    support::main(support::tests![
        each_classic_is_listed,
        classics_without_surprises_print_what_they_say,
        ten_children_end_before_it_is_over,
        lines_under_one_lock_are_whole,
        a_childs_input_is_at_its_end,
    ])
}

/// What a classic prints, given `input`; it must end well and say nothing else, and so must everybody it left to us.
fn told(name: &str, input: &str) -> String {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(Some(name).filter(|name| !name.is_empty()))
        .env(PLAYS, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.is_empty(), "{name}: {} {said}", output.status);
    // Who outlived it has come to this test; the harness ends the test if one never ends.
    while waitpid(None, None).is_ok() {}
    String::from_utf8(output.stdout).unwrap()
}

const QUIET: [(&str, &str); 13] = [
    ("cache_by_pid", "opened by MainProcess\nopened by Process-1\nopened by MainProcess\n"),
    ("list_by_queue", "(42, None, \"hello\")\n"),
    ("million_bytes", "joined, sent: true, then 1000000 bytes read\n"),
    ("no_zombies", "zombies that a start left: 0, now: 0\n"),
    (
        "outlives",
        "the parent exited with 0\nthe survivor saw its parent end\nthe other said 0 bytes and ended\n",
    ),
    (
        "pool",
        "[0, 1, 4, 9, 16, 25, 36, 49, 64, 81]\n\
         in any order, sorted here: [0, 1, 4, 9, 16, 25, 36, 49, 64, 81]\n400\n\
         at most four workers: true, none of them us: true\nwe lacked patience, and got no value\n\
         for the moment, the pool remains available: 144\nnow the pool is gone: true\n",
    ),
    ("reap_by_polling", "all went well: true\n"),
    ("reap_on_end", "child 1 exited with 1\nchild 2 exited with 2\nchild 3 exited with 3\n"),
    ("shared_value", "3.1415927\n[0, -1, -2, -3, -4, -5, -6, -7, -8, -9]\n"),
    ("start_methods", "hello fork\nhello spawn\nhello fork server\n"),
    ("unchanged_variable", "in the child [1, 2, 3, 4]\nin the parent [1, 2, 3]\n"),
    ("who_am_i", "MainProcess: parent None\nbob: parent MainProcess\nboth agree: true\n"),
    ("worker_type", "greeter of ann: hello ann\ngreeter of bob: hello bob\n"),
];

fn each_classic_is_listed() {
    let listed = told("", "");
    let tested = QUIET.iter().map(|(name, _)| *name).chain(["empty_stdin", "one_lock", "ten_children"]);
    let mut tested: Vec<&str> = tested.collect();
    tested.sort();
    assert_eq!(listed.lines().collect::<Vec<_>>(), tested, "a classic without a test, or a test without one");
}

fn classics_without_surprises_print_what_they_say() {
    for (name, text) in QUIET {
        assert_eq!(told(name, ""), text, "{name}");
    }
}

fn ten_children_end_before_it_is_over() {
    let text = told("ten_children", "");
    let mut lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.pop(), Some("over"));
    lines.sort();
    assert_eq!(lines, (0..10).map(|n| format!("child {n}")).collect::<Vec<_>>());
}

fn lines_under_one_lock_are_whole() {
    let text = told("one_lock", "");
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort();
    assert_eq!(lines, (0..10).map(|n| format!("hello world {n}")).collect::<Vec<_>>());
}

fn a_childs_input_is_at_its_end() {
    assert_eq!(
        told("empty_stdin", "for the parent"),
        "the child read 0 bytes\nthe parent read \"for the parent\"\n"
    );
}
