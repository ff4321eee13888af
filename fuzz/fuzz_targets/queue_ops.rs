//! See `queue.rs`, `run`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pshared_fuzz::run("queue_ops", data));
