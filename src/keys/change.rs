//! Changes to keys, whoever sends them, and how they merge.

use thiserror::Error;

use crate::policy::KeyPolicy;
use crate::units::{KeyDigest, KeyId};

/// Who declared a key, and so who may change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The key file; read-only in the admin API.
    File,
    /// The admin API.
    Api,
}

impl Source {
    /// The name in the admin API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Api => "api",
        }
    }
}

/// A secret that was replaced and still works for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PreviousSecret {
    /// What it is found by.
    pub digest: KeyDigest,
    /// When it ends (exclusive), milliseconds since 1970. Its holder is told so until the record no longer lists it.
    pub until_unix_ms: i64,
}

/// A key as whoever declares it says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// What it may do; holds its id.
    pub policy: KeyPolicy,
    /// What its secret is found by.
    pub current: KeyDigest,
    /// The secrets before it.
    pub previous: Vec<PreviousSecret>,
    /// Who declares it.
    pub source: Source,
}

impl KeyRecord {
    /// Every digest with the end of its time; only the current one has none (`i64::MAX`).
    pub fn secrets(&self) -> impl Iterator<Item = (KeyDigest, i64)> + '_ {
        let end = |until: i64| until.clamp(i64::MIN + 1, i64::MAX - 1);
        let previous = self.previous.iter().map(move |previous| (previous.digest, end(previous.until_unix_ms)));
        std::iter::once((self.current, i64::MAX)).chain(previous)
    }
}

/// One change to the table.
///
/// *Put* of an unknown id makes a key; of a known one it replaces policy and secrets and keeps the state of every limit. A
/// secret that is no longer listed is gone at once, and what runs on it is cut. *Remove* ends a key and what runs on it; of an
/// unknown id it does nothing. It names no source: whoever sends it has looked at [`KeyEntry::source`] first.
///
/// [`KeyEntry::source`]: crate::keys::KeyEntry::source
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyChange {
    /// Makes or replaces.
    Put(Box<KeyRecord>),
    /// Ends.
    Remove(KeyId),
}

impl KeyChange {
    /// The key it is about.
    pub fn id(&self) -> KeyId {
        match self {
            Self::Put(record) => record.policy.id,
            Self::Remove(id) => *id,
        }
    }
}

/// Why a change is not made. Nothing is changed then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ChangeRefused {
    /// A secret already belongs to a key: another one, or this one twice.
    #[error("a secret of key {id} already belongs to key {holder}")]
    DigestTaken {
        /// The key that was to have it.
        id: KeyId,
        /// The key that has it.
        holder: KeyId,
    },
    /// The key belongs to another source.
    #[error("key {id} is declared by {}", source_of.as_str())]
    SourceConflict {
        /// The key.
        id: KeyId,
        /// Who declares it.
        source_of: Source,
    },
}
