//! Moments and durations of the command line. See `fuzz/src/moment.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| keyward_fuzz::moment::check(input));
