//! What `cargo lives objects` shows with many deaths, with some: objects do not wear out.

mod support;

use std::process::ExitCode;

use support::{random::Random, worn};

fn main() -> ExitCode {
    support::main(support::tests![objects_that_a_thousand_died_with_are_as_good_as_new])
}

fn objects_that_a_thousand_died_with_are_as_good_as_new() {
    let worn = worn::wear(1_000, &mut Random(0x5eed));
    println!("{worn}");
    assert_eq!(worn.figures[0], worn.figures[1]);
}
