//! Lists of hops of `x-forwarded-for` and `forwarded`. See `fuzz/src/addresses.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| keyward_fuzz::addresses::check(input));
