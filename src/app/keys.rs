//! Keys declared by file, on their way into the table.

use crate::config::FileKey;
use crate::keys::change::{ChangeRefused, KeyRecord, PreviousSecret, Source, diff};
use crate::keys::secret::Digester;
use crate::keys::table::KeyTable;
use crate::store::{KeyDetails, Mask, OldSecret, StoredKey};

/// The part of them that the table takes.
pub fn records(keys: &[StoredKey]) -> Vec<KeyRecord> {
    keys.iter().map(|key| key.record.clone()).collect()
}

/// The keys of the file, as the store keeps them.
pub fn stored(keys: &[FileKey], digester: &Digester) -> Vec<StoredKey> {
    let one = |key: &FileKey| {
        let prefix = &*key.policy.key_prefix;
        // What is declared by its hash has no prefix to show, but the beginning of the hash; no secret has a colon.
        let head = if prefix.contains(':') { "" } else { prefix };
        let details = KeyDetails {
            created_at_ms: key.created_at_ms.unwrap_or_default(),
            mask: Mask { head: head.into(), tail: Box::default() },
            old_secrets: vec![OldSecret::default(); key.previous.len()],
            metadata: key.metadata.clone(),
            ..KeyDetails::default()
        };
        StoredKey { number: 0, record: record(key.clone(), digester), details }
    };
    keys.iter().map(one).collect()
}

fn record(key: FileKey, digester: &Digester) -> KeyRecord {
    let previous = key.previous.iter().map(|(sha256, until_unix_ms)| PreviousSecret {
        digest: digester.digest_of_sha256(sha256),
        until_unix_ms: *until_unix_ms,
    });
    KeyRecord {
        previous: previous.collect(),
        current: digester.digest_of_sha256(&key.secret_sha256),
        policy: key.policy,
        source: Source::File,
    }
}

/// Brings the table from `old` to `new`, whole. Says how many keys changed.
///
/// # Errors
/// The first change that the table refused; none is made then.
pub fn apply(table: &KeyTable, old: &[KeyRecord], new: &[KeyRecord]) -> Result<usize, ChangeRefused> {
    let changes = diff(old, new);
    let count = changes.len();
    table.apply_all(changes)?;
    Ok(count)
}
