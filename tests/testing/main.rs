//! `pshared::testing` itself, where there is such a module.

#[cfg(target_arch = "x86_64")]
mod kills;

#[cfg(target_arch = "x86_64")]
fn main() -> std::process::ExitCode {
    kills::main()
}

#[cfg(not(target_arch = "x86_64"))]
fn main() {
    eprintln!("SKIPPED: the exact kill steps x86-64 code only");
}
