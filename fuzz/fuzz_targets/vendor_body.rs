//! Calls of the admin APIs in other vendors' shapes. See `fuzz/src/vendor_body.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| keyward_fuzz::vendor_body::check(input));
