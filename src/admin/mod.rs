//! The admin listener: health, readiness, metrics, and the APIs that make and change keys. Never on the data listener, never with a data
//! plane's secret.

pub mod apig;
pub mod listener;
pub mod native;
pub mod newapi;
pub mod operators;
pub mod probes;
pub mod program;
pub mod service;
pub mod settings;
pub mod surface;
pub mod times;
pub mod vendors;

pub use listener::Bounds;
pub use operators::{LoginRefused, Operator, Operators, Scope};
pub use probes::{Readiness, router};
pub use program::Program;
pub use service::{Gate, Service};
pub use settings::{Role, Settings, TokenDigest, TokenSettings};
pub use surface::{Surface, serve, serve_within};
pub use vendors::Vendors;
