//! The control plane's own listener: health, metrics, and the operators who may change keys.

pub mod settings;

pub use settings::{Role, Settings, TokenDigest, TokenSettings};
