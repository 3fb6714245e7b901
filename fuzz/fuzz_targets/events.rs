//! Server-sent events. See `fuzz/src/events.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| keyward_fuzz::events::check(input));
