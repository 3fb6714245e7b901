//! What a proxy in front says of a connection. See `fuzz/src/proxy_protocol.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| keyward_fuzz::proxy_protocol::check(input));
