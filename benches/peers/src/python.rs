//! Python's multiprocessing, by a script that measures as the rest does and prints a figure.

use std::{
    path::Path,
    process::{Command, Stdio},
    sync::OnceLock,
};

use crate::{drive::effort, parties::cpus};

/// The figure of the script for these words.
pub fn python(words: &[&str]) -> f64 {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python.py");
    let all = cpus();
    let output = Command::new("python3")
        .arg(script)
        .arg(all[0].to_string())
        .arg(all[all.len() - 1].to_string())
        .arg(effort().as_secs_f64().to_string())
        .args(words)
        .stderr(Stdio::inherit())
        .output()
        .expect("python3");
    assert!(output.status.success(), "python3 ended with {}", output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().unwrap_or_else(|_| panic!("python3 said {text:?}"))
}

/// Why there is no Python to be measured, if there is none.
pub fn absent() -> Option<&'static str> {
    static ABSENT: OnceLock<bool> = OnceLock::new();
    let absent = *ABSENT.get_or_init(|| {
        let asked = Command::new("python3").args(["-c", "import multiprocessing"]).status();
        !asked.is_ok_and(|status| status.success())
    });
    absent.then_some("not installed")
}
