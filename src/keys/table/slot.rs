//! A secret as the table holds it.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::clock::Now;
use crate::keys::table::entry::KeyEntry;
use crate::policy::{CutReason, KeyPolicy};
use crate::units::KeyDigest;

/// `until` of a current secret.
pub(super) const NO_END: i64 = i64::MAX;

/// `until` of a secret that its key no longer lists.
const WITHDRAWN: i64 = i64::MIN;

/// How far behind the time of last use may lag, milliseconds: not every request writes to memory that all workers share.
const USE_LAG_MS: i64 = 1_000;

/// A secret of a key: the current one or one before it. A running request holds on to the one it came with.
#[derive(Debug)]
pub struct SecretSlot {
    pub(super) digest: KeyDigest,
    pub(super) entry: Arc<KeyEntry>,
    last_used_unix_ms: AtomicI64,
    /// Made once it is not its key's current secret any more: few ever are.
    past: OnceLock<Box<Past>>,
}

/// What a secret has that another has taken the place of, at its own key or as another key's.
#[derive(Debug)]
struct Past {
    until_unix_ms: AtomicI64,
    uses: AtomicU64,
    /// The slot of the same secret at the key it went over to.
    successor: OnceLock<Arc<SecretSlot>>,
}

impl Default for Past {
    fn default() -> Self {
        Self { until_unix_ms: AtomicI64::new(NO_END), uses: AtomicU64::new(0), successor: OnceLock::new() }
    }
}

impl SecretSlot {
    pub(super) fn new(digest: KeyDigest, entry: Arc<KeyEntry>, until_unix_ms: i64) -> Arc<Self> {
        let last_used_unix_ms = AtomicI64::new(i64::MIN);
        let slot = Self { digest, entry, last_used_unix_ms, past: OnceLock::new() };
        slot.set_until(until_unix_ms);
        Arc::new(slot)
    }

    fn past(&self) -> &Past {
        self.past.get_or_init(Box::default)
    }

    /// When it ends, `NO_END` for a current one.
    pub(super) fn until(&self) -> i64 {
        self.past.get().map_or(NO_END, |past| past.until_unix_ms.load(Ordering::Acquire))
    }

    pub(super) fn set_until(&self, until_unix_ms: i64) {
        if self.until() != until_unix_ms {
            self.past().until_unix_ms.store(until_unix_ms, Ordering::Release);
        }
    }

    /// Its key no longer lists it.
    pub(super) fn withdraw(&self) {
        self.set_until(WITHDRAWN);
    }

    /// Another key's slot has the secret from now on. It goes over once, and never comes back.
    pub(super) fn hand_over(&self, successor: &Arc<SecretSlot>) {
        let _only_once = self.past().successor.set(Arc::clone(successor));
    }

    fn successor(&self) -> Option<&Arc<SecretSlot>> {
        self.past.get()?.successor.get()
    }

    /// The slot that the same secret has now: this one, or after it went over to another key, that key's.
    pub fn latest(&self) -> &Self {
        let mut latest = self;
        while let Some(next) = latest.successor() {
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
        self.until() != NO_END
    }

    /// When it ends (exclusive), milliseconds since 1970; `None` for a current secret.
    pub fn until_unix_ms(&self) -> Option<i64> {
        let until = self.until();
        (until != NO_END).then_some(until)
    }

    /// Whether its key no longer lists it: it is in no table any more.
    pub fn is_withdrawn(&self) -> bool {
        self.until() == WITHDRAWN
    }

    /// Whether it is not its key's any more: the key is removed, or no longer lists it, or it is another key's now. Never undone.
    pub fn is_gone(&self) -> bool {
        self.is_withdrawn() || self.entry.is_removed() || self.successor().is_some()
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
        latest.entry.look(|policy| ends(policy, now))?;
        if latest.grace_ended(now) { Err(CutReason::GraceEnded) } else { Ok(()) }
    }

    /// Notes a use. Those of a previous secret are counted; the time of any is kept to the second.
    pub fn note_use(&self, now: Now) {
        if self.is_previous() {
            self.past().uses.fetch_add(1, Ordering::Relaxed);
        }
        let last = self.last_used_unix_ms.load(Ordering::Relaxed);
        if now.unix_ms >= last.saturating_add(USE_LAG_MS) {
            self.last_used_unix_ms.fetch_max(now.unix_ms, Ordering::Relaxed);
        }
    }

    /// Sets what a store remembers of its use; what was noted since stays counted.
    pub(super) fn restore_use(&self, uses: u64, last_used_unix_ms: Option<i64>) {
        if uses > 0 {
            self.past().uses.fetch_add(uses, Ordering::Relaxed);
        }
        if let Some(last) = last_used_unix_ms {
            self.last_used_unix_ms.fetch_max(last, Ordering::Relaxed);
        }
    }

    /// Uses since another secret took its place.
    pub fn uses(&self) -> u64 {
        self.past.get().map_or(0, |past| past.uses.load(Ordering::Relaxed))
    }

    /// The last use, to the second; milliseconds since 1970.
    pub fn last_used_unix_ms(&self) -> Option<i64> {
        let last = self.last_used_unix_ms.load(Ordering::Relaxed);
        (last != i64::MIN).then_some(last)
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
