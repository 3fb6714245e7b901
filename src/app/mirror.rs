//! Keys declared by file, on their way into the store: operators list them beside the others, and what they used is theirs also when
//! they are gone. The file decides; the store only follows, and nothing waits for it.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::admin::service::journal::{self, Author};
use crate::app::keys::Declared;
use crate::clock::Clock;
use crate::keys::change::Source;
use crate::spare;
use crate::store::{KeyRef, Store, StoreFault, StoredChange, StoredKey, Write};
use crate::units::KeyId;

/// Keys written in one step.
const BATCH: usize = 500;

/// How long after a failure it is tried again.
const REST: Duration = Duration::from_secs(5);

/// Who is named in the audit.
const AUTHOR: Author<'static> = Author { operator: "file", via: "file", address: None };

/// Tells the store of the keys declared by file. It keeps none of them: what a key is comes from the table, what it was from the store.
#[derive(Debug)]
pub struct Mirror {
    store: Arc<dyn Store>,
    clock: Clock,
    declared: Arc<Declared>,
    /// Whether the store was looked through for what it had when the program started, and has turned out to be as we thought since (a backup may
    /// be restored, another program may write).
    is_compared: bool,
}

impl Mirror {
    /// A mirror that does not know yet what the store has.
    pub fn new(store: Arc<dyn Store>, clock: Clock, declared: Arc<Declared>) -> Self {
        Self { store, clock, declared, is_compared: false }
    }

    /// Follows the file whenever it `changed`, until nobody can change it any more.
    pub async fn follow(mut self, mut changed: watch::Receiver<()>) {
        loop {
            changed.mark_unchanged();
            let bringing = tokio::task::spawn_blocking(move || {
                let brought = self.bring();
                spare::give_back();
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
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// Makes the store have the keys of the file and no others of one. Says how many changed.
    ///
    /// # Errors
    /// The store does not take it; what it took until then stays.
    pub fn bring(&mut self) -> Result<usize, StoreFault> {
        let declared = Arc::clone(&self.declared);
        let (ids, round) = declared.take_untold();
        let mut untold = Untold { ids: ids.into(), declared: &declared };
        if !self.is_compared {
            self.compare(&mut untold.ids)?;
            self.is_compared = true;
        }
        let mut seen = HashSet::new();
        untold.ids.retain(|id| seen.insert(*id));
        drop(seen);
        // Those that are gone first: another key may have the secret now.
        untold.ids.make_contiguous().sort_by_cached_key(|id| declared.lists(*id));
        let mut count = 0;
        while !untold.ids.is_empty() {
            let step: Vec<KeyId> = untold.ids.iter().take(BATCH).copied().collect();
            count += self.tell(&step).inspect_err(|fault| self.is_compared &= !fault.is_conflict())?;
            untold.ids.drain(..step.len());
        }
        declared.note_told(round);
        Ok(count)
    }

    /// Leaves of the keys that are to be told those of which the store has something else, and adds all others of which that is so.
    fn compare(&self, untold: &mut VecDeque<KeyId>) -> Result<(), StoreFault> {
        let (mut same, mut others) = (HashSet::new(), Vec::new());
        self.store.load_keys(&mut |kept| {
            let id = kept.record.policy.id;
            if kept.record.source != Source::File {
                return;
            }
            let is_same = self.declared.stored(id).is_some_and(|wanted| self.due(wanted, Some(&kept)).is_none());
            if is_same {
                same.insert(id);
            } else {
                others.push(id);
            }
        })?;
        untold.extend(self.declared.ids());
        untold.extend(others);
        untold.retain(|id| !same.contains(id));
        Ok(())
    }

    /// Tells the store what became of some keys.
    fn tell(&self, ids: &[KeyId]) -> Result<usize, StoreFault> {
        let now_ms = self.clock.now().unix_ms;
        let (mut changes, mut audit) = (Vec::new(), Vec::new());
        for id in ids {
            let kept = self.store.key(KeyRef::Id(*id))?.map(|(key, _)| key);
            let kept = kept.filter(|kept| kept.record.source == Source::File);
            let action = match (self.declared.stored(*id), &kept) {
                (Some(wanted), _) => {
                    let Some(key) = self.due(wanted, kept.as_ref()) else { continue };
                    let action = if kept.is_some() { "key.update" } else { "key.create" };
                    audit.extend(journal::entries(&AUTHOR, action, kept.as_ref(), Some(&key), now_ms));
                    changes.push(StoredChange::Put(Box::new(key)));
                    continue;
                }
                (None, Some(_)) => "key.delete",
                (None, None) => continue,
            };
            audit.extend(journal::entries(&AUTHOR, action, kept.as_ref(), None, now_ms));
            changes.push(StoredChange::Remove { id: *id, at_ms: now_ms });
        }
        let count = changes.len();
        if count > 0 {
            self.store.write(Write::Keys { changes, audit, remember: None })?;
        }
        Ok(count)
    }

    /// The key as it is to be written; `None` where the store has it so already.
    fn due(&self, wanted: StoredKey, kept: Option<&StoredKey>) -> Option<StoredKey> {
        let mut key = wanted;
        if let Some(kept) = kept {
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
}

/// Keys of which the store is to be told. Those that are left when it fails are told the next time.
struct Untold<'a> {
    ids: VecDeque<KeyId>,
    declared: &'a Declared,
}

impl Drop for Untold<'_> {
    fn drop(&mut self) {
        if !self.ids.is_empty() {
            self.declared.put_back(std::mem::take(&mut self.ids).into());
        }
    }
}

#[cfg(test)]
mod tests;
