//! x
mod support;
fn main() -> std::process::ExitCode {
    pshared::init();
    support::main(vec![])
}
