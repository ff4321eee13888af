//! See `rwlock.rs`, `run`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pshared_fuzz::run("rwlock_ops", data));
