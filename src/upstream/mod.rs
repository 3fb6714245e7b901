//! Where requests go: which upstream serves a model, its connections, and how it is spoken to.

pub mod sandbox;
pub mod settings;

pub use settings::{Address, Credential, Kind, UpstreamSettings};
