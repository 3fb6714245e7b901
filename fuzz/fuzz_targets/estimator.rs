//! Answers that estimates are learnt from. See `fuzz/src/estimator.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| keyward_fuzz::estimator::check(input));
