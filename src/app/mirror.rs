//! Keys declared by file, on their way into the store: operators list them beside the others, and what they used is theirs also when
//! they are gone. The file decides; the store only follows, and nothing waits for it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::admin::service::journal::{self, Author};
use crate::clock::Clock;
use crate::keys::change::Source;
use crate::store::{Store, StoreFault, StoredChange, StoredKey, Write, Written};
use crate::units::KeyId;

/// Keys written in one step.
const BATCH: usize = 500;

/// How long after a failure it is tried again.
const REST: Duration = Duration::from_secs(5);

/// Who is named in the audit.
const AUTHOR: Author<'static> = Author { operator: "file", via: "file", address: None };

/// What the store has of the keys declared by file.
#[derive(Debug)]
pub struct Mirror {
    store: Arc<dyn Store>,
    clock: Clock,
    kept: HashMap<KeyId, StoredKey>,
}

impl Mirror {
    /// A mirror that knows what the store had when the program started.
    pub fn new(store: Arc<dyn Store>, clock: Clock, kept: HashMap<KeyId, StoredKey>) -> Self {
        Self { store, clock, kept }
    }

    /// Follows `wanted` whenever it changes, until nobody can change it any more.
    pub async fn follow(mut self, mut wanted: watch::Receiver<Arc<Vec<StoredKey>>>) {
        loop {
            let keys = Arc::clone(&wanted.borrow_and_update());
            let bringing = tokio::task::spawn_blocking(move || {
                let brought = self.bring(&keys);
                (self, brought)
            });
            let Ok((mirror, brought)) = bringing.await else { return };
            self = mirror;
            match brought {
                Ok(0) => {}
                Ok(count) => tracing::info!(count, "keys declared by file are told to the store"),
                Err(fault) => {
                    tracing::warn!(%fault, "the store does not take the keys declared by file; it is tried again");
                    tokio::time::sleep(REST).await;
                    continue;
                }
            }
            if wanted.changed().await.is_err() {
                return;
            }
        }
    }

    /// Makes the store have `wanted` and no other keys of a file. Says how many changed.
    ///
    /// # Errors
    /// The store does not take it; what it took until then stays.
    pub fn bring(&mut self, wanted: &[StoredKey]) -> Result<usize, StoreFault> {
        let listed: HashSet<KeyId> = wanted.iter().map(|key| key.record.policy.id).collect();
        let gone: Vec<StoredKey> =
            self.kept.values().filter(|key| !listed.contains(&key.record.policy.id)).cloned().collect();
        let puts = wanted.iter().filter_map(|key| self.put(key)).collect::<Vec<_>>();
        let count = gone.len() + puts.len();
        for keys in gone.chunks(BATCH) {
            self.remove(keys)?;
        }
        for keys in puts.chunks(BATCH) {
            self.write(keys)?;
        }
        Ok(count)
    }

    /// The key as it is to be written; `None` where the store has it so already.
    fn put(&self, wanted: &StoredKey) -> Option<StoredKey> {
        let mut key = wanted.clone();
        if let Some(kept) = self.kept.get(&wanted.record.policy.id) {
            key.number = kept.number;
            key.details.version = kept.details.version;
            key.details.updated_at_ms = kept.details.updated_at_ms;
            if key.details.created_at_ms == 0 {
                key.details.created_at_ms = kept.details.created_at_ms;
            }
            if key == *kept {
                return None;
            }
        }
        let now_ms = self.clock.now().unix_ms;
        key.details.version += 1;
        key.details.updated_at_ms = now_ms;
        if key.details.created_at_ms == 0 {
            key.details.created_at_ms = now_ms;
        }
        Some(key)
    }

    fn write(&mut self, keys: &[StoredKey]) -> Result<(), StoreFault> {
        let changes = keys.iter().map(|key| StoredChange::Put(Box::new(key.clone()))).collect();
        let audit = keys.iter().flat_map(|key| {
            let before = self.kept.get(&key.record.policy.id);
            let action = if before.is_some() { "key.update" } else { "key.create" };
            journal::entries(&AUTHOR, action, before, Some(key), key.details.updated_at_ms)
        });
        let write = Write::Keys { changes, audit: audit.collect(), remember: None };
        let written = self.again_if_stale(write)?;
        for (at, key) in keys.iter().enumerate() {
            let number = written.get(at).copied().unwrap_or(key.number);
            self.kept.insert(key.record.policy.id, StoredKey { number, ..key.clone() });
        }
        Ok(())
    }

    fn remove(&mut self, keys: &[StoredKey]) -> Result<(), StoreFault> {
        let at_ms = self.clock.now().unix_ms;
        let changes = keys.iter().map(|key| StoredChange::Remove { id: key.record.policy.id, at_ms }).collect();
        let audit =
            keys.iter().flat_map(|key| journal::entries(&AUTHOR, "key.delete", Some(key), None, at_ms)).collect();
        self.again_if_stale(Write::Keys { changes, audit, remember: None })?;
        for key in keys {
            self.kept.remove(&key.record.policy.id);
        }
        Ok(())
    }

    /// Where the store has something else than we thought (a backup was restored, another program wrote), we look again, and the next
    /// try begins from there.
    fn again_if_stale(&mut self, write: Write) -> Result<Vec<i64>, StoreFault> {
        match self.store.write(write) {
            Ok(Written::Keys(numbers)) => Ok(numbers),
            Ok(_) => Ok(Vec::new()),
            Err(fault) => {
                if fault.is_conflict() {
                    let mut kept = HashMap::new();
                    self.store.load_keys(&mut |key| {
                        if key.record.source == Source::File {
                            kept.insert(key.record.policy.id, key);
                        }
                    })?;
                    self.kept = kept;
                }
                Err(fault)
            }
        }
    }
}
