//! Calls of the native admin API. See `fuzz/src/operator_body.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| keyward_fuzz::operator_body::check(input));
