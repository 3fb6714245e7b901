//! Any bytes as a configuration file and as a key file: a verdict, never a panic, and faults that can be told and drawn.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let env = |name: &str| (name.len() % 2 == 0).then(|| "a-secret-of-the-environment".to_owned());
    match keyward::config::parse(text, Path::new("keyward.toml"), &env) {
        Ok(config) => drop(format!("{config:?}")),
        Err(faults) => drop((faults.to_string(), faults.render(false), faults.render(true))),
    }
    match keyward::config::parse_keys(text, Path::new("keys.toml"), &env) {
        Ok(keys) => drop(format!("{keys:?}")),
        Err(faults) => drop((faults.to_string(), faults.render(false), faults.render(true))),
    }
});
