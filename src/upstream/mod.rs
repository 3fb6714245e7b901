//! Where requests go: which upstream serves a model, its connections, and how it is spoken to.

pub mod answer;
pub mod choice;
pub mod client;
pub mod connect;
pub mod health;
pub mod http1;
pub mod keyring;
pub mod multiplex;
mod patience;
pub mod play;
pub mod pool;
pub mod probe;
pub mod request;
pub mod resolve;
pub mod retry;
pub mod route;
pub mod sandbox;
pub mod seat;
pub mod settings;
pub mod tally;
pub mod tls;
pub mod websocket;

pub use health::HealthSettings;
pub use route::{Routes, Upstream};
pub use settings::{Address, Credential, Kind, ProbeSettings, Protocol, Target, UpstreamSettings};
