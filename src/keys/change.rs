//! Changes to keys, whoever sends them, and how they merge.

use std::collections::HashMap;

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

/// What leads from `old` to `new`: removals first, then what is new or differs, in the order of `new`. Of records with one id the
/// last counts. O(old + new).
pub fn diff(old: &[KeyRecord], new: &[KeyRecord]) -> Vec<KeyChange> {
    let index = |records: &'_ [KeyRecord]| -> HashMap<KeyId, usize> {
        records.iter().enumerate().map(|(at, record)| (record.policy.id, at)).collect()
    };
    let (before, after) = (index(old), index(new));
    let mut changes = Vec::new();
    for (at, record) in old.iter().enumerate() {
        let id = record.policy.id;
        if !after.contains_key(&id) && before.get(&id) == Some(&at) {
            changes.push(KeyChange::Remove(id));
        }
    }
    for (at, record) in new.iter().enumerate() {
        let id = record.policy.id;
        let same = before.get(&id).and_then(|at| old.get(*at)).is_some_and(|known| known == record);
        if !same && after.get(&id) == Some(&at) {
            changes.push(KeyChange::Put(Box::new(record.clone())));
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn record(id: u128, secret: u8) -> KeyRecord {
        KeyRecord {
            policy: KeyPolicy::unlimited(KeyId(Uuid::from_u128(id)), "k", "p"),
            current: KeyDigest([secret; 32]),
            previous: Vec::new(),
            source: Source::File,
        }
    }

    #[test]
    fn a_reload_sends_only_what_changed() {
        let old = [record(1, 1), record(2, 2), record(3, 3)];
        let new = [record(4, 4), record(3, 9), record(2, 2)];
        let changes = diff(&old, &new);
        let put = |record| KeyChange::Put(Box::new(record));
        let gone = KeyChange::Remove(KeyId(Uuid::from_u128(1)));
        assert_eq!(changes, [gone, put(record(4, 4)), put(record(3, 9))]);
        assert_eq!(diff(&new, &new), []);
    }

    #[test]
    fn every_part_of_a_record_counts() {
        let old = record(1, 1);
        let mut disabled = old.clone();
        disabled.policy.is_disabled = true;
        let mut rotated = old.clone();
        rotated.previous.push(PreviousSecret { digest: KeyDigest([7; 32]), until_unix_ms: 5 });
        for new in [disabled, rotated] {
            assert_eq!(diff(std::slice::from_ref(&old), std::slice::from_ref(&new)), [KeyChange::Put(Box::new(new))]);
        }
    }
}
