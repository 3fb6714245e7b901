//! Answers of backends. See `fuzz/src/meter.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| keyward_fuzz::meter::check(input));
