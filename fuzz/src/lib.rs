//! What each fuzz target checks, as plain functions of bytes: `fuzz_targets/` feeds them what the fuzzer invents, and
//! `tests/corpora.rs` of the program what the fuzzer has kept.

pub mod addresses;
pub mod answer;
pub mod config;
pub mod estimator;
pub mod events;
pub mod form;
pub mod frames;
pub mod head;
pub mod house;
pub mod journal;
pub mod meter;
pub mod moment;
pub mod operator_body;
pub mod pieces;
pub mod proxy_protocol;
pub mod sandbox;
pub mod scanner;
pub mod vendor_body;
pub mod websocket;
