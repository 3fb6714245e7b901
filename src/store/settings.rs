//! What the configuration says of storage.

use std::fmt;
use std::path::PathBuf;

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
    /// A file, made with mode 0600 at the first start when missing; at least [`Pepper::MIN_BYTES`] when there.
    File(PathBuf),
    /// Given by the operator.
    Given(Pepper),
}

/// The secret that key digests are made with (POLICY 2). `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Pepper(Box<[u8]>);

impl Pepper {
    /// The shortest pepper, bytes (SECURITY 4: short secrets refuse to start).
    pub const MIN_BYTES: usize = 16;

    /// `None` when `bytes` is shorter than [`Pepper::MIN_BYTES`].
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (bytes.len() >= Self::MIN_BYTES).then(|| Self(bytes.into()))
    }

    /// The bytes themselves, for the digest and nothing else.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper(..)")
    }
}
