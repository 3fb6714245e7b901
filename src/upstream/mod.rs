//! Where requests go: which upstream serves a model, its connections, and how it is spoken to.

pub mod client;
pub mod health;
pub mod play;
pub mod pool;
pub mod retry;
pub mod route;
pub mod sandbox;
pub mod settings;
pub mod tls;

pub use route::{Routes, Upstream};
pub use settings::{Address, Credential, Kind, UpstreamSettings};
