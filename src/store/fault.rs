//! Why a store does not do what it is asked.

use thiserror::Error;

/// Why a call failed. Nothing of it is written then.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StoreFault {
    /// A secret already belongs to another key.
    #[error("a secret already belongs to another key")]
    SecretTaken,
    /// The key was changed since it was read.
    #[error("the key was changed meanwhile")]
    Stale,
    /// There is no such key.
    #[error("no such key")]
    Unknown,
    /// The answer to this call is remembered already.
    #[error("the call was made already")]
    Repeated,
    /// No room on the disk.
    #[error("the store is full: {0}")]
    Full(String),
    /// It cannot be written.
    #[error("the store is read-only: {0}")]
    ReadOnly(String),
    /// Somebody else holds it.
    #[error("the store is locked by another program: {0}")]
    Locked(String),
    /// It is damaged.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// It was written by a newer program.
    #[error("the store was made by a newer version (schema {found}, this program knows {known})")]
    Newer {
        /// Of the file.
        found: i64,
        /// Of the program.
        known: i64,
    },
    /// Anything else.
    #[error("the store does not answer: {0}")]
    Unavailable(String),
}

impl StoreFault {
    /// Whether it is about what was asked, so that asking again does not help. All others are accidents that may pass.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::SecretTaken | Self::Stale | Self::Unknown | Self::Repeated)
    }

    /// The name on a metric.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::SecretTaken => "secret_taken",
            Self::Stale => "stale",
            Self::Unknown => "unknown",
            Self::Repeated => "repeated",
            Self::Full(_) => "full",
            Self::ReadOnly(_) => "read_only",
            Self::Locked(_) => "locked",
            Self::Damaged(_) => "damaged",
            Self::Newer { .. } => "newer",
            Self::Unavailable(_) => "unavailable",
        }
    }
}
