//! The admin listener: health, readiness, metrics. Never on the data listener, never with a data plane's secret.

pub mod probes;
pub mod settings;

pub use probes::{Readiness, router};
pub use settings::{Role, Settings, TokenDigest, TokenSettings};
