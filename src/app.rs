//! The program: built from a configuration, started, reloaded, drained.

pub mod books;
pub mod keys;
pub mod mirror;
pub mod open;
pub mod pepper;
pub mod program;
pub mod reload;
pub mod serve;

pub use open::{StartFault, open};
pub use serve::{Options, Outcome, serve};
