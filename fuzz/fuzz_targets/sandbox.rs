//! Requests to the built-in backend. See `fuzz/src/sandbox.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| keyward_fuzz::sandbox::check(input));
