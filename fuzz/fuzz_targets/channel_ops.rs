//! See `channel.rs`, `run`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pshared_fuzz::run("channel_ops", data));
