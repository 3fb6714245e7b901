//! Keyward, a reverse proxy that enforces key policies in front of LLM backends.

#![doc = include_str!("../ARCHITECTURE.md")]

// -- core: decides; no await, no hyper, no tracing, no I/O. Low to high.
pub mod units;
pub mod headers;
pub mod clock;
pub mod policy;
pub mod dialect;
pub mod limits;
pub mod keys;
pub mod admission;
// -- shell: waits, speaks, stores.
pub mod background;
pub mod spare;
pub mod turn;
pub mod socket;
pub mod listen;
pub mod telemetry;
pub mod tls;
pub mod store;
pub mod ledger;
pub mod upstream;
pub mod proxy;
pub mod admin;
pub mod config;
pub mod app;
pub mod cli;
