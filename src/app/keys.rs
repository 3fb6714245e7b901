//! Keys declared by file, on their way into the table and to whoever follows them.
//!
//! The table has them already, so nothing here keeps them a second time: only what the table does not take, and of those that changed their ids,
//! until they are told to the store.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::config::{Fault, Faults, FileKey};
use crate::keys::change::{ChangeRefused, KeyChange, KeyRecord, PreviousSecret, Source};
use crate::keys::secret::Digester;
use crate::keys::table::KeyTable;
use crate::store::{KeyDetails, Mask, OldSecret, StoredKey};
use crate::units::KeyId;

/// The keys of the file in force.
#[derive(Debug)]
pub struct Declared {
    table: Arc<KeyTable>,
    rest: Mutex<Rest>,
    /// That the store was told of a round.
    told: Condvar,
}

#[derive(Debug, Default)]
struct Rest {
    /// Of keys that say any of it; most say none.
    besides: HashMap<KeyId, Beside>,
    /// Of which the store is not told yet, in the order in which they are to be told.
    untold: Vec<KeyId>,
    /// How often the keys were replaced.
    round: u64,
    /// The round that the store was last told of whole.
    round_told: u64,
}

/// What the file says of a key beside what the table takes.
#[derive(Debug, PartialEq, Eq)]
struct Beside {
    created_at_ms: Option<i64>,
    metadata: Vec<(Box<str>, Box<str>)>,
}

/// The part of a key that the table takes.
pub fn record(key: FileKey, digester: &Digester) -> KeyRecord {
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

impl Declared {
    /// The file's part of a table.
    pub fn new(table: Arc<KeyTable>) -> Self {
        Self { table, rest: Mutex::default(), told: Condvar::new() }
    }

    /// Brings the table to the keys of `file`, whole. Says how many changed.
    ///
    /// # Errors
    /// Every key that clashes with one which the admin API has made; nothing is changed then.
    pub fn replace(&self, keys: Vec<FileKey>, file: &Path, digester: &Digester) -> Result<usize, Faults> {
        let (mut besides, mut untold, mut faults) = (HashMap::new(), Vec::new(), Vec::new());
        let file: Arc<Path> = file.into();
        let records = keys.into_iter().enumerate().map(|(index, mut key)| {
            let line = key.line;
            let beside = Beside { created_at_ms: key.created_at_ms, metadata: std::mem::take(&mut key.metadata) };
            if beside.created_at_ms.is_some() || !beside.metadata.is_empty() {
                besides.insert(key.policy.id, beside);
            }
            let record = record(key, digester);
            let clashes = self.table.clashes(&record).into_iter();
            faults.extend(clashes.map(|clash| self.fault(&file, (index, line), &record.policy.name, clash)));
            record
        });
        let changes = self.table.changes_to(Source::File, records);
        if let Some(faults) = Faults::found(faults) {
            return Err(faults);
        }
        untold.extend(changes.iter().map(KeyChange::id));
        let count = changes.len();
        self.table.apply_all(changes).map_err(|refused| {
            Faults::from(Fault::beyond(&file, None, "keys".to_owned(), refused.to_string(), None))
        })?;
        let mut rest = self.rest();
        let is_other = |id: &KeyId| rest.besides.get(id) != besides.get(id);
        untold.extend(besides.keys().chain(rest.besides.keys()).filter(|id| is_other(id)));
        rest.untold.extend(untold);
        rest.besides = besides;
        rest.round += 1;
        Ok(count)
    }

    /// That a key of the file, whose index and line are given, is not to be had beside what the admin API has made.
    fn fault(&self, file: &Arc<Path>, (index, line): (usize, usize), name: &str, clash: ChangeRefused) -> Fault {
        let (problem, help) = match clash {
            ChangeRefused::SourceConflict { id, .. } => (
                format!("{name:?} has the id {id}, and a key with that id was made by the admin API"),
                "delete that key there, or give this one another id",
            ),
            ChangeRefused::DigestTaken { holder, .. } => {
                let named = self.table.get(holder).map(|key| key.policy_at_rest().name.clone()).unwrap_or_default();
                (
                    format!("{name:?} has a secret of the key {holder} ({named:?}), which was made by the admin API"),
                    "delete that key there, or give this one another secret",
                )
            }
        };
        Fault::beyond(file, Some(line), format!("keys[{index}]"), problem, Some(help))
    }

    /// The keys of the file, in no order.
    pub fn ids(&self) -> Vec<KeyId> {
        self.table.ids(Source::File)
    }

    /// Whether the file has this key.
    pub fn lists(&self, id: KeyId) -> bool {
        self.table.get(id).is_some_and(|entry| entry.source() == Source::File)
    }

    /// A key as the store is to keep it, but for what the store itself gives; `None` for one that no file declares.
    pub fn stored(&self, id: KeyId) -> Option<StoredKey> {
        let record = self.table.record(id).filter(|record| record.source == Source::File)?;
        let prefix = &*record.policy.key_prefix;
        // What is declared by its hash has no prefix to show, but the beginning of the hash; no secret has a colon.
        let head = if prefix.contains(':') { "" } else { prefix };
        let rest = self.rest();
        let beside = rest.besides.get(&id);
        let details = KeyDetails {
            created_at_ms: beside.and_then(|beside| beside.created_at_ms).unwrap_or_default(),
            mask: Mask { head: head.into(), tail: Box::default() },
            old_secrets: vec![OldSecret::default(); record.previous.len()],
            metadata: beside.map(|beside| beside.metadata.clone()).unwrap_or_default(),
            ..KeyDetails::default()
        };
        Some(StoredKey { number: 0, record, details })
    }

    /// Takes the keys of which the store is to be told, and the round that this completes.
    pub fn take_untold(&self) -> (Vec<KeyId>, u64) {
        let mut rest = self.rest();
        (std::mem::take(&mut rest.untold), rest.round)
    }

    /// That the store was told of all that was taken with this round.
    pub fn note_told(&self, round: u64) {
        self.rest().round_told = round;
        self.told.notify_all();
    }

    /// Blocks until the store is told of the keys in force now, for `patience` at most. Whether it is.
    pub fn until_told(&self, patience: Duration) -> bool {
        let rest = self.rest();
        let round = rest.round;
        let waited = self.told.wait_timeout_while(rest, patience, |rest| rest.round_told < round);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Of these the store is still to be told, before all others.
    pub fn put_back(&self, mut ids: Vec<KeyId>) {
        let mut rest = self.rest();
        ids.append(&mut rest.untold);
        rest.untold = ids;
    }

    fn rest(&self) -> MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
