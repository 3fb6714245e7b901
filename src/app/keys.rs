//! Keys declared by file, on their way into the table.

use crate::config::FileKey;
use crate::keys::change::{ChangeRefused, KeyRecord, PreviousSecret, Source, diff};
use crate::keys::secret::Digester;
use crate::keys::table::KeyTable;

/// The keys of a checked file, digested.
pub fn records(keys: Vec<FileKey>, digester: &Digester) -> Vec<KeyRecord> {
    keys.into_iter().map(|key| record(key, digester)).collect()
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

/// Brings the table from `old` to `new`. Says how many keys changed.
///
/// # Errors
/// The changes that the table refused, each beside the key's name; the others are in force.
pub fn apply(table: &KeyTable, old: &[KeyRecord], new: &[KeyRecord]) -> Result<usize, Vec<ChangeRefused>> {
    let changes = diff(old, new);
    let count = changes.len();
    let refused = changes.into_iter().filter_map(|change| table.apply(change).err()).collect::<Vec<_>>();
    if refused.is_empty() { Ok(count) } else { Err(refused) }
}
