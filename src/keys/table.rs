//! The table: digest to key, shared by every worker.
//!
//! Two sets of pointers, one by digest for the data plane, one by id for whoever changes keys. Readers take a shard's read lock
//! for the time of one lookup and allocate nothing; changes come one at a time and touch one key's pointers.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dashmap::DashMap;

use crate::keys::change::{ChangeRefused, KeyChange, KeyRecord, PreviousSecret, Source};
use crate::limits::QuotaCount;
use crate::units::{KeyDigest, KeyId};

mod batch;
mod cold;
mod entry;
mod slot;

pub use entry::KeyEntry;
pub use slot::SecretSlot;

/// Shards of each set: small ones, so that one of them growing holds readers up for tens of microseconds at most.
const SHARDS: usize = 256;

/// What a store remembers of a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remembered {
    /// Where its quota's count stands.
    pub quota: QuotaCount,
    /// Its last use, milliseconds since 1970.
    pub last_used_unix_ms: Option<i64>,
    /// Of its previous secrets: uses since another took their place, and the last.
    pub previous: Vec<(KeyDigest, u64, Option<i64>)>,
}

/// Every key.
#[derive(Debug)]
pub struct KeyTable {
    secrets: DashMap<ByDigest, (), BuildHasherDefault<DigestHasher>>,
    keys: DashMap<ById, ()>,
    /// The lock that makes changes come one at a time.
    writer: Mutex<batch::Writer>,
}

impl Default for KeyTable {
    fn default() -> Self {
        Self::new()
    }
}

impl KeyTable {
    /// A table without keys.
    pub fn new() -> Self {
        Self {
            secrets: DashMap::with_hasher_and_shard_amount(BuildHasherDefault::default(), SHARDS),
            keys: DashMap::with_hasher_and_shard_amount(std::hash::RandomState::new(), SHARDS),
            writer: Mutex::default(),
        }
    }

    /// The secret with this digest: current, or previous and still listed, its grace over or not. O(1), no allocation.
    pub fn find(&self, digest: &KeyDigest) -> Option<Arc<SecretSlot>> {
        self.secrets.get(digest).map(|found| Arc::clone(&found.key().0))
    }

    /// The key with this id.
    pub fn get(&self, id: KeyId) -> Option<Arc<KeyEntry>> {
        self.keys.get(&id).map(|found| Arc::clone(&found.key().0))
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Every key, in no order. Holds each shard for the time of its copy.
    pub fn entries(&self) -> Vec<Arc<KeyEntry>> {
        self.keys.iter().map(|found| Arc::clone(&found.key().0)).collect()
    }

    /// The ids of what `source` declares, in no order.
    pub fn ids(&self, source: Source) -> Vec<KeyId> {
        self.keys.iter().filter(|found| found.key().0.source == source).map(|found| found.key().0.id).collect()
    }

    /// The secrets of a key, the current one first.
    pub fn secrets_of(&self, id: KeyId) -> Vec<Arc<SecretSlot>> {
        let writer = self.writer();
        let current = self.get(id).and_then(|entry| entry.current());
        current.into_iter().chain(writer.previous.get(&id).into_iter().flatten().cloned()).collect()
    }

    /// The key with this id as whoever declares it says it is.
    pub fn record(&self, id: KeyId) -> Option<KeyRecord> {
        let entry = self.get(id)?;
        let mut secrets = self.secrets_of(id).into_iter();
        let current = secrets.next()?.digest();
        let before = |slot: Arc<SecretSlot>| PreviousSecret { digest: slot.digest(), until_unix_ms: slot.until() };
        let policy = Arc::unwrap_or_clone(entry.policy_at_rest());
        Some(KeyRecord { policy, current, previous: secrets.map(before).collect(), source: entry.source() })
    }

    /// What leads from the keys that `source` declares to `records`, which name each key once, and no others: removals first, then what is new
    /// or differs, in their order. Of what is the same nothing is kept.
    pub fn changes_to(&self, source: Source, records: impl IntoIterator<Item = KeyRecord>) -> Vec<KeyChange> {
        let (mut listed, mut puts) = (HashSet::new(), Vec::new());
        for record in records {
            listed.insert(record.policy.id);
            if !self.has(&record) {
                puts.push(KeyChange::Put(Box::new(record)));
            }
        }
        let gone = self.ids(source).into_iter().filter(|id| !listed.contains(id));
        gone.map(KeyChange::Remove).chain(puts).collect()
    }

    /// What of a record another source's keys have: its id, or one of its secrets. Two of one source are no clash: a change of the whole source may
    /// move secrets among them.
    pub fn clashes(&self, record: &KeyRecord) -> Vec<ChangeRefused> {
        let id = record.policy.id;
        let other = self.get(id).map(|entry| entry.source()).filter(|source| *source != record.source);
        let conflict = other.map(|source_of| ChangeRefused::SourceConflict { id, source_of });
        let holders = record.secrets().filter_map(|(digest, _)| {
            let slot = self.find(&digest)?;
            let holder = slot.entry().id();
            // That one key is two is told by its id.
            (slot.entry().source() != record.source && holder != id).then_some(holder)
        });
        conflict.into_iter().chain(holders.map(|holder| ChangeRefused::DigestTaken { id, holder })).collect()
    }

    /// Whether a key is just as this record says.
    fn has(&self, record: &KeyRecord) -> bool {
        let id = record.policy.id;
        let Some(entry) = self.get(id).filter(|entry| entry.source() == record.source) else { return false };
        let secrets = self.secrets_of(id).into_iter().map(|slot| (slot.digest(), slot.until()));
        entry.is_under(&record.policy) && secrets.eq(record.secrets())
    }

    /// Makes one change; the very next request sees it.
    ///
    /// # Errors
    /// [`ChangeRefused`], and nothing is changed.
    pub fn apply(&self, change: KeyChange) -> Result<(), ChangeRefused> {
        self.apply_all(vec![change])
    }

    /// Makes all of `changes` or none: what a reload does. Of several changes to one key the last counts. A secret may move from
    /// one of the keys named to another, and at no moment has it none. Requests go on meanwhile and see each key as it was or as
    /// it is to be.
    ///
    /// # Errors
    /// [`ChangeRefused`] for the first change that cannot be made, and nothing is changed.
    pub fn apply_all(&self, changes: Vec<KeyChange>) -> Result<(), ChangeRefused> {
        let changes = batch::last_of_each(changes);
        let mut writer = self.writer();
        batch::check(self, &changes)?;
        let (mut removed, mut ended) = (Vec::new(), Vec::new());
        for change in changes {
            match change {
                KeyChange::Put(record) => batch::put(self, &mut writer, *record, &mut ended),
                KeyChange::Remove(id) => removed.push(id),
            }
        }
        // Last, so that a secret which another key takes over has always one of the two.
        removed.into_iter().for_each(|id| batch::remove(self, &mut writer, id, &mut ended));
        batch::withdraw(self, ended);
        Ok(())
    }

    /// Takes up what a store remembers of a key: before any request comes in, once. Of a key that is not there it is kept until the key
    /// comes back, as that of a key file does.
    pub fn restore(&self, id: KeyId, remembered: &Remembered) {
        let mut writer = self.writer();
        let Some(entry) = self.get(id) else {
            if remembered.quota != QuotaCount::default() {
                writer.retired.entry(id).or_default().restore_quota(remembered.quota);
            }
            return;
        };
        if remembered.quota != QuotaCount::default() {
            entry.limits().adopt(&entry.policy_at_rest());
            entry.limits().restore_quota(remembered.quota);
        }
        if let (Some(current), Some(last)) = (entry.current(), remembered.last_used_unix_ms) {
            current.restore_use(0, Some(last));
        }
        for slot in writer.previous.get(&id).into_iter().flatten() {
            let known = remembered.previous.iter().find(|(digest, ..)| *digest == slot.digest);
            if let Some((_, uses, last)) = known {
                slot.restore_use(*uses, *last);
            }
        }
    }

    /// Takes up what another process on the same store has settled for a key while this one runs: `at_unix_ms`, so many requests, with a previous
    /// secret whose digest begins so. Of a key that is not there it is kept as [`KeyTable::restore`] does.
    pub fn count_elsewhere(&self, id: KeyId, counted: QuotaCount, at_unix_ms: i64, previous: Option<([u8; 8], u64)>) {
        let mut writer = self.writer();
        let Some(entry) = self.get(id) else {
            writer.retired.entry(id).or_default().count_elsewhere(counted);
            return;
        };
        entry.limits().count_elsewhere(counted);
        let tagged = previous.and_then(|(tag, uses)| {
            let slots = writer.previous.get(&id)?;
            slots.iter().find(|slot| slot.digest.0.starts_with(&tag)).map(|slot| (slot, uses))
        });
        if let Some((slot, uses)) = tagged {
            slot.restore_use(uses, Some(at_unix_ms));
        }
        if let Some(current) = entry.current() {
            current.restore_use(0, Some(at_unix_ms));
        }
    }

    fn writer(&self) -> MutexGuard<'_, batch::Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A slot in the set of secrets, equal by digest.
#[derive(Debug)]
struct ByDigest(Arc<SecretSlot>);

impl Borrow<KeyDigest> for ByDigest {
    fn borrow(&self) -> &KeyDigest {
        &self.0.digest
    }
}

impl PartialEq for ByDigest {
    fn eq(&self, other: &Self) -> bool {
        self.0.digest == other.0.digest
    }
}

impl Eq for ByDigest {}

impl Hash for ByDigest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.digest.hash(state);
    }
}

/// An entry in the set of keys, equal by id.
#[derive(Debug)]
struct ById(Arc<KeyEntry>);

impl Borrow<KeyId> for ById {
    fn borrow(&self) -> &KeyId {
        &self.0.id
    }
}

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for ById {}

impl Hash for ById {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id.hash(state);
    }
}

/// Takes the first eight bytes of a digest for its hash. A digest is keyed with the pepper, so nobody outside can aim it.
#[derive(Debug, Default)]
struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    // The length that is hashed before the bytes says nothing.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests;
