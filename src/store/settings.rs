//! What the configuration says of storage.

use std::path::PathBuf;

use crate::keys::secret::Pepper;

/// `[storage]`, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where keys and usage are kept.
    pub backend: Backend,
    /// Where the pepper comes from.
    pub pepper: PepperSource,
}

/// Where keys and usage are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backend {
    /// A SQLite file, made at the first start.
    Sqlite(PathBuf),
}

/// Where the pepper comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PepperSource {
    /// A file, made with mode 0600 at the first start when missing; at least [`Pepper::SHORTEST`] when there.
    File(PathBuf),
    /// Given by the operator.
    Given(Pepper),
}
