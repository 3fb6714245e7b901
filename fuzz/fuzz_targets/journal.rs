//! Journals of a killed process. See `fuzz/src/journal.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| keyward_fuzz::journal::check(input));
