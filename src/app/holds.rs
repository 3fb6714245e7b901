//! Units of quotas that the process before this one holds for requests it has admitted and not settled yet. They are held here too, until each is
//! settled or that process has ended: whatever the two of them admit, no quota is overdrawn.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::keys::table::KeyTable;
use crate::units::{KeyId, Units};

/// What a process holds for requests that run, by key.
pub type Held = Vec<(KeyId, Units)>;

/// What all requests under way hold of quotas.
pub fn held(keys: &KeyTable) -> Held {
    let entries = keys.entries();
    let held = |entry: &crate::keys::table::KeyEntry| {
        let limits = entry.limits_if_used()?;
        // In this order: `committed` is never less than `used` was before.
        let used = limits.quota_used();
        let units = limits.quota_committed().saturating_sub(used);
        (units > 0).then_some((entry.id(), units))
    };
    entries.iter().filter_map(|entry| held(entry)).collect()
}

/// The holds of the process before.
#[derive(Debug, Default)]
pub struct Holds {
    left: Mutex<HashMap<KeyId, Units>>,
    keys: Arc<KeyTable>,
}

impl Holds {
    /// Holds `held` in the table.
    pub fn take(keys: Arc<KeyTable>, held: Held) -> Self {
        let mut left = HashMap::new();
        for (id, units) in held {
            if let Some(entry) = keys.get(id) {
                entry.limits().hold_elsewhere(units);
                left.insert(id, units);
            }
        }
        Self { left: Mutex::new(left), keys }
    }

    /// One of its requests is settled, which was held for at least what it has used, as a rule; what that was short is never let go of twice.
    pub fn settled(&self, id: KeyId, units: Units) {
        let mut left = self.left();
        let Some(held) = left.get_mut(&id) else { return };
        let over = units.min(*held);
        *held -= over;
        self.release(id, over);
    }

    /// That process has ended, and everything it settled is counted.
    pub fn end(&self) {
        for (id, units) in std::mem::take(&mut *self.left()) {
            self.release(id, units);
        }
    }

    fn release(&self, id: KeyId, units: Units) {
        if let Some(entry) = self.keys.get(id) {
            entry.limits().release_elsewhere(units);
        }
    }

    fn left(&self) -> MutexGuard<'_, HashMap<KeyId, Units>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::change::{KeyChange, KeyRecord, Source};
    use crate::limits::QuotaCount;
    use crate::policy::KeyPolicy;
    use crate::units::KeyDigest;

    #[test]
    fn what_is_held_elsewhere_counts_until_it_is_settled_or_its_process_has_ended() {
        let keys = Arc::new(KeyTable::new());
        let id = KeyId(uuid::Uuid::from_u128(7));
        let policy = KeyPolicy::unlimited(id, "k", "sk-kw-");
        let record = KeyRecord { policy, current: KeyDigest([7; 32]), previous: Vec::new(), source: Source::Api };
        keys.apply(KeyChange::Put(Box::new(record))).unwrap();
        let unknown = KeyId(uuid::Uuid::from_u128(8));
        let holds = Holds::take(Arc::clone(&keys), vec![(id, 100), (unknown, 5)]);
        let limits = Arc::clone(keys.get(id).unwrap().limits());
        assert_eq!((limits.quota_committed(), held(&keys)), (100, vec![(id, 100)]));
        keys.count_elsewhere(id, QuotaCount { used: 30, ..QuotaCount::default() }, 1, None);
        holds.settled(id, 30);
        assert_eq!((limits.quota_used(), limits.quota_committed()), (30, 100));
        holds.settled(unknown, 5);
        holds.end();
        holds.end();
        assert_eq!((limits.quota_used(), limits.quota_committed()), (30, 30));
    }
}
