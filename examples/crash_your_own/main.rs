//! A structure of one's own, killed at every instruction: `cargo run --profile crash --example crash_your_own`.
//!
//! What to copy is in `accounts.rs`: a structure with a fault, the same mended, and the check that tells them apart.

#[cfg(target_arch = "x86_64")]
mod accounts;

#[cfg(target_arch = "x86_64")]
fn main() -> std::io::Result<()> {
    let [hoping, mending] = accounts::both()?;
    println!("transfer and hope: {hoping}\n\ntransfer: {mending}");
    Ok(())
}

#[cfg(not(target_arch = "x86_64"))]
fn main() {
    eprintln!("the exact kill steps x86-64 code only");
}
