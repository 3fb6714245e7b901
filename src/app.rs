//! The program: built from a configuration, started, reloaded, drained.

pub mod books;
pub mod copies;
pub mod descriptors;
pub mod handover;
pub mod holds;
pub mod keys;
pub mod memory;
pub mod mirror;
pub mod open;
pub mod pepper;
pub mod program;
pub mod records;
pub mod rehearsal;
pub mod reload;
mod service_manager;
mod signals;
pub mod sockets;
pub mod time_mark;
pub mod serve;
mod whole_file;

pub use open::{StartFault, open};
pub use serve::{Options, Outcome, serve};
