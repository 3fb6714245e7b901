//! What the program says of itself: logs, metrics, the access log. Never a secret.

pub mod access_log;
pub mod lines;
pub mod logging;
pub mod metrics;

pub use metrics::Metrics;
