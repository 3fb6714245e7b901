//! The table: digest to key, shared by every worker.
//!
//! Two sets of pointers, one by digest for the data plane, one by id for whoever changes keys. Readers take a shard's read lock
//! for the time of one lookup and allocate nothing; changes come one at a time and touch one key's pointers.

use std::borrow::Borrow;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use arc_swap::ArcSwapOption;
use dashmap::DashMap;

use crate::clock::Now;
use crate::keys::change::{ChangeRefused, KeyChange, KeyRecord, Source};
use crate::limits::{KeyLimits, QuotaCount};
use crate::policy::{CutReason, KeyPolicy};
use crate::units::{KeyDigest, KeyId};

mod batch;
mod cold;

/// Shards of each set: small ones, so that one of them growing holds readers up for tens of microseconds at most.
const SHARDS: usize = 256;

/// `until` of a current secret.
const NO_END: i64 = i64::MAX;

/// `until` of a secret that its key no longer lists.
const WITHDRAWN: i64 = i64::MIN;

/// How far behind the time of last use may lag, milliseconds: not every request writes to memory that all workers share.
const USE_LAG_MS: i64 = 1_000;

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

/// A key: what it may do now, and the state of its limits for life.
#[derive(Debug)]
pub struct KeyEntry {
    id: KeyId,
    /// What it may do; `None` while it sleeps folded up. Changed only under the lock of `cold`.
    policy: ArcSwapOption<KeyPolicy>,
    /// Made at the first use: most keys of a large table sleep.
    limits: OnceLock<Arc<KeyLimits>>,
    cold: Mutex<Cold>,
    is_removed: AtomicBool,
    source: Source,
}

/// What only changes and the first use of a key look at.
#[derive(Debug)]
struct Cold {
    current: Weak<SecretSlot>,
    /// `None` once `policy` is there.
    folded: Option<Box<cold::Folded>>,
}

/// A secret of a key: the current one or one before it. A running request holds on to the one it came with.
#[derive(Debug)]
pub struct SecretSlot {
    digest: KeyDigest,
    entry: Arc<KeyEntry>,
    until_unix_ms: AtomicI64,
    uses: AtomicU64,
    last_used_unix_ms: AtomicI64,
    /// The slot of the same secret at the key it went over to.
    successor: OnceLock<Arc<SecretSlot>>,
}

impl KeyEntry {
    /// Its identity.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// What it may do now.
    pub fn policy(&self) -> Arc<KeyPolicy> {
        self.policy.load_full().unwrap_or_else(|| self.unfold())
    }

    /// The first use: the policy is made whole and stays so.
    fn unfold(&self) -> Arc<KeyPolicy> {
        let mut cold = self.cold();
        match (self.policy.load_full(), cold.folded.take()) {
            (None, Some(folded)) => {
                let policy = Arc::new(folded.unfold(self.id));
                self.policy.store(Some(Arc::clone(&policy)));
                policy
            }
            (Some(policy), _) => policy,
            // Not reached: one of the two is always there. A key that may do nothing is the safe answer.
            (None, None) => Arc::new(KeyPolicy { is_disabled: true, ..KeyPolicy::unlimited(self.id, "", "") }),
        }
    }

    /// What it may do now, without waking it: a key that sleeps folded up sleeps on.
    pub fn policy_at_rest(&self) -> Arc<KeyPolicy> {
        let folded = |cold: &Cold| cold.folded.as_ref().map(|folded| Arc::new(folded.unfold(self.id)));
        self.policy.load_full().or_else(|| folded(&self.cold())).unwrap_or_else(|| self.policy())
    }

    /// The state of its limits.
    pub fn limits(&self) -> &Arc<KeyLimits> {
        self.limits.get_or_init(Arc::default)
    }

    /// The state of its limits if it was ever used: looking at a key makes none.
    pub fn limits_if_used(&self) -> Option<&Arc<KeyLimits>> {
        self.limits.get()
    }

    /// Who declares it.
    pub fn source(&self) -> Source {
        self.source
    }

    /// Whether it is gone; what still holds it must end.
    pub fn is_removed(&self) -> bool {
        self.is_removed.load(Ordering::Acquire)
    }

    fn current(&self) -> Option<Arc<SecretSlot>> {
        self.cold().current.upgrade()
    }

    fn cold(&self) -> MutexGuard<'_, Cold> {
        self.cold.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SecretSlot {
    fn new(digest: KeyDigest, entry: Arc<KeyEntry>, until_unix_ms: i64) -> Arc<Self> {
        Arc::new(Self {
            digest,
            entry,
            until_unix_ms: AtomicI64::new(until_unix_ms),
            uses: AtomicU64::new(0),
            last_used_unix_ms: AtomicI64::new(i64::MIN),
            successor: OnceLock::new(),
        })
    }

    /// The slot that the same secret has now: this one, or after it went over to another key, that key's.
    pub fn latest(&self) -> &Self {
        let mut latest = self;
        while let Some(next) = latest.successor.get() {
            latest = next;
        }
        latest
    }

    /// Its key.
    pub fn entry(&self) -> &Arc<KeyEntry> {
        &self.entry
    }

    /// What it is found by.
    pub fn digest(&self) -> KeyDigest {
        self.digest
    }

    /// Whether another secret has taken its place.
    pub fn is_previous(&self) -> bool {
        self.until_unix_ms.load(Ordering::Acquire) != NO_END
    }

    /// When it ends (exclusive), milliseconds since 1970; `None` for a current secret.
    pub fn until_unix_ms(&self) -> Option<i64> {
        let until = self.until_unix_ms.load(Ordering::Acquire);
        (until != NO_END).then_some(until)
    }

    /// Whether its key no longer lists it: it is in no table any more.
    pub fn is_withdrawn(&self) -> bool {
        self.until_unix_ms.load(Ordering::Acquire) == WITHDRAWN
    }

    /// Whether it is not its key's any more: the key is removed, or no longer lists it, or it is another key's now. Never undone.
    pub fn is_gone(&self) -> bool {
        self.is_withdrawn() || self.entry.is_removed() || self.successor.get().is_some()
    }

    /// Whether its grace is over.
    pub fn grace_ended(&self, now: Now) -> bool {
        self.until_unix_ms().is_some_and(|until| now.unix_ms >= until)
    }

    /// Whether a request that came with it may run on: what a stream asks again and again. Where the secret has gone over to another key
    /// meanwhile, that key decides: whoever holds the secret still may.
    ///
    /// # Errors
    /// [`CutReason::Deleted`], [`CutReason::Disabled`], [`CutReason::Expired`], or [`CutReason::GraceEnded`], which a secret that
    /// its key no longer lists has too.
    pub fn may_continue(&self, now: Now) -> Result<(), CutReason> {
        let latest = self.latest();
        if latest.entry.is_removed() {
            return Err(CutReason::Deleted);
        }
        // Asked for every stream at every tick, so what is unfolded is not cloned.
        match latest.entry.policy.load().as_ref() {
            Some(policy) => ends(policy, now)?,
            None => ends(&latest.entry.policy(), now)?,
        }
        if latest.grace_ended(now) { Err(CutReason::GraceEnded) } else { Ok(()) }
    }

    /// Notes a use. Those of a previous secret are counted; the time of any is kept to the second.
    pub fn note_use(&self, now: Now) {
        if self.is_previous() {
            self.uses.fetch_add(1, Ordering::Relaxed);
        }
        let last = self.last_used_unix_ms.load(Ordering::Relaxed);
        if now.unix_ms >= last.saturating_add(USE_LAG_MS) {
            self.last_used_unix_ms.fetch_max(now.unix_ms, Ordering::Relaxed);
        }
    }

    /// Sets what a store remembers of its use; what was noted since stays counted.
    fn restore_use(&self, uses: u64, last_used_unix_ms: Option<i64>) {
        self.uses.fetch_add(uses, Ordering::Relaxed);
        if let Some(last) = last_used_unix_ms {
            self.last_used_unix_ms.fetch_max(last, Ordering::Relaxed);
        }
    }

    /// Uses since another secret took its place.
    pub fn uses(&self) -> u64 {
        self.uses.load(Ordering::Relaxed)
    }

    /// The last use, to the second; milliseconds since 1970.
    pub fn last_used_unix_ms(&self) -> Option<i64> {
        let last = self.last_used_unix_ms.load(Ordering::Relaxed);
        (last != i64::MIN).then_some(last)
    }
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

/// Why a policy ends what runs under it, if it does.
fn ends(policy: &KeyPolicy, now: Now) -> Result<(), CutReason> {
    if policy.is_disabled {
        return Err(CutReason::Disabled);
    }
    match policy.expires_at_ms {
        Some(end) if now.unix_ms >= end => Err(CutReason::Expired),
        _ => Ok(()),
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
