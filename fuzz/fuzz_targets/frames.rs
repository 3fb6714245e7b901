//! What goes both ways on an HTTP/2 connection, by its frames. See `fuzz/src/frames.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| keyward_fuzz::frames::check(input));
