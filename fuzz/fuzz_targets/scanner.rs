//! JSON bodies. See `fuzz/src/scanner.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| keyward_fuzz::scanner::check(input));
