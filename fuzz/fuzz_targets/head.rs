//! What a peer sends on a connection, up to what its heads mean. See `fuzz/src/head.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| keyward_fuzz::head::check(input));
