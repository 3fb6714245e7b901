//! Forms: audio and images. See `fuzz/src/form.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| keyward_fuzz::form::check(input));
