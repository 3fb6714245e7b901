//! Keys declared by file, on their way into the table.

use crate::config::FileKey;
use crate::keys::change::{ChangeRefused, KeyRecord, PreviousSecret, Source, diff};
use crate::keys::secret::Digester;
use crate::keys::table::KeyTable;

/// The keys of the file, as the table takes them.
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
