//! Frames and events of websockets. See `fuzz/src/websocket.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| keyward_fuzz::websocket::check(input));
