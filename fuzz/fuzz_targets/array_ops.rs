//! See `values.rs`, `run`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pshared_fuzz::run("array_ops", data));
