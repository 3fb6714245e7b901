//! The data plane: a request comes in, is decided, forwarded, relayed and settled.

pub mod settings;

pub use settings::Settings;
