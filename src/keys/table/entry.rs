//! A key as the table holds it: asleep in two pieces of memory until somebody uses it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use arc_swap::ArcSwapOption;

use crate::keys::change::Source;
use crate::keys::table::cold::Folded;
use crate::keys::table::slot::SecretSlot;
use crate::limits::KeyLimits;
use crate::policy::KeyPolicy;
use crate::units::KeyId;

/// A key: what it may do now, and the state of its limits for life.
#[derive(Debug)]
pub struct KeyEntry {
    pub(super) id: KeyId,
    /// Made at the first use: most keys of a large table sleep.
    used: OnceLock<Box<Used>>,
    cold: Mutex<Cold>,
    pub(super) is_removed: AtomicBool,
    pub(super) source: Source,
}

/// What a key has once it was used.
#[derive(Debug, Default)]
struct Used {
    /// What it may do; `None` while it sleeps folded up. Changed only under the lock of `cold`.
    policy: ArcSwapOption<KeyPolicy>,
    /// Counts its changes, each once it is made: who saw the number before the policy knows by it that the policy is the same still.
    changes: AtomicU64,
    limits: Arc<KeyLimits>,
}

/// What only changes and the first use of a key look at.
#[derive(Debug)]
pub(super) struct Cold {
    pub(super) current: Weak<SecretSlot>,
    /// `None` once the policy is there in full.
    pub(super) folded: Option<Folded>,
}

impl KeyEntry {
    /// A key that sleeps; with the state of its limits if it had one before.
    pub(super) fn asleep(id: KeyId, source: Source, folded: Folded, limits: Option<Arc<KeyLimits>>) -> Arc<Self> {
        let used = limits.map(|limits| Box::new(Used { limits, ..Used::default() }));
        Arc::new(Self {
            id,
            used: used.map_or_else(OnceLock::new, OnceLock::from),
            cold: Mutex::new(Cold { current: Weak::new(), folded: Some(folded) }),
            is_removed: AtomicBool::new(false),
            source,
        })
    }

    /// Its identity.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// What it may do now.
    pub fn policy(&self) -> Arc<KeyPolicy> {
        self.unfolded().unwrap_or_else(|| self.unfold())
    }

    /// How often that was changed, as far as anybody has seen it. Read before the policy: while it stays the same, so does that.
    pub fn changes(&self) -> u64 {
        self.used.get().map_or(0, |used| used.changes.load(Ordering::Acquire))
    }

    fn unfolded(&self) -> Option<Arc<KeyPolicy>> {
        self.used.get()?.policy.load_full()
    }

    /// The first use: the policy is made whole and stays so.
    fn unfold(&self) -> Arc<KeyPolicy> {
        let mut cold = self.cold();
        match (self.unfolded(), cold.folded.take()) {
            (None, Some(folded)) => {
                let policy = Arc::new(folded.unfold(self.id));
                self.used().policy.store(Some(Arc::clone(&policy)));
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
        self.unfolded().or_else(|| folded(&self.cold())).unwrap_or_else(|| self.policy())
    }

    /// Whether this is what it may do now; it sleeps on.
    pub(super) fn is_under(&self, policy: &KeyPolicy) -> bool {
        *self.policy_at_rest() == *policy
    }

    /// What `look` finds in what it may do now: for what is asked again and again, nothing is cloned.
    pub(super) fn look<T>(&self, look: impl FnOnce(&KeyPolicy) -> T) -> T {
        let policy = self.used.get().map(|used| used.policy.load());
        match policy.as_ref().and_then(|policy| policy.as_ref()) {
            Some(policy) => look(policy),
            None => look(&self.policy()),
        }
    }

    /// Gives it another policy, folded up by `fold` where it sleeps: it sleeps on.
    pub(super) fn replace(&self, policy: KeyPolicy, fold: impl FnOnce(KeyPolicy) -> Folded) {
        if let Some(limits) = self.limits_if_used() {
            limits.adopt(&policy);
        }
        let mut cold = self.cold();
        if cold.folded.is_some() {
            cold.folded = Some(fold(policy));
        } else {
            let used = self.used();
            used.policy.store(Some(Arc::new(policy)));
            used.changes.fetch_add(1, Ordering::Release);
        }
    }

    /// The state of its limits.
    pub fn limits(&self) -> &Arc<KeyLimits> {
        &self.used().limits
    }

    /// The state of its limits if it was ever used: looking at a key makes none.
    pub fn limits_if_used(&self) -> Option<&Arc<KeyLimits>> {
        self.used.get().map(|used| &used.limits)
    }

    fn used(&self) -> &Used {
        self.used.get_or_init(Box::default)
    }

    /// Who declares it.
    pub fn source(&self) -> Source {
        self.source
    }

    /// Whether it is gone; what still holds it must end.
    pub fn is_removed(&self) -> bool {
        self.is_removed.load(Ordering::Acquire)
    }

    pub(super) fn current(&self) -> Option<Arc<SecretSlot>> {
        self.cold().current.upgrade()
    }

    pub(super) fn cold(&self) -> MutexGuard<'_, Cold> {
        self.cold.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The two counts in front of what an `Arc` points to.
    const COUNTS: usize = 2 * size_of::<usize>();

    #[test]
    fn a_key_that_was_never_used_is_small() {
        // The allocator's next sizes are 112 and 96: a million keys would weigh 16 MB more with each.
        assert!(COUNTS + size_of::<KeyEntry>() <= 96, "{}", size_of::<KeyEntry>());
        assert!(COUNTS + size_of::<SecretSlot>() <= 80, "{}", size_of::<SecretSlot>());
    }
}
