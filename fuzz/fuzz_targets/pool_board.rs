//! See `src/pool/fuzzing.rs` of the crate, which replays it on stable.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pshared::fuzz_board(data));
