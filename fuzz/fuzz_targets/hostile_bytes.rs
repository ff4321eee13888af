//! See `hostile.rs`, `bytes`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pshared_fuzz::run("hostile_bytes", data));
