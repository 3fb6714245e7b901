//! What outlives the process: keys, usage and the pepper that keys are digested with.

pub mod settings;

pub use settings::{Backend, PepperSource, Settings};
