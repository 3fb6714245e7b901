//! Answers of upstreams over HTTP/1. See `fuzz/src/answer.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| keyward_fuzz::answer::check(input));
