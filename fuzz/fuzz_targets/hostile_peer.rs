//! See `hostile.rs`, `peer`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pshared_fuzz::run("hostile_peer", data));
