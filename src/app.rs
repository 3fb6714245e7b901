//! The program: built from a configuration, started, reloaded, drained.

pub mod keys;
pub mod pepper;
pub mod reload;
pub mod serve;

pub use serve::{Options, Outcome, serve};
