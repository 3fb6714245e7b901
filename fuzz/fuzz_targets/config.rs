//! Configuration and key files. See `fuzz/src/config.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| keyward_fuzz::config::check(input));
