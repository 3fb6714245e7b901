//! Callers that a worker meets again and again, kept so that it need not ask for them in the table that all workers share.
//!
//! What is kept is only a way to a secret's slot and a copy of the pointer to its policy. Whether the secret works still, and whether the
//! policy is still that one, is asked of the slot with every request: it knows once it is gone, and never comes back.

use std::cell::RefCell;
use std::net::IpAddr;

use crate::admission::{Caller, Unidentified, identify, in_force};
use crate::clock::Now;
use crate::keys::KeyTable;
use crate::units::KeyDigest;

/// Callers kept at most.
const PLACES: usize = 1_024;

/// The callers that one worker has met lately.
#[derive(Debug)]
pub struct CallerCache(RefCell<Box<[Place]>>);

/// Each secret has one place, which it may share.
#[derive(Debug, Default)]
struct Place {
    caller: Option<Caller>,
    /// Who was not found here last. It is kept when it comes again: of a crowd that comes once each nobody is.
    missed: u64,
}

impl Default for CallerCache {
    fn default() -> Self {
        Self(RefCell::new((0..PLACES).map(|_| Place::default()).collect()))
    }
}

impl CallerCache {
    /// As [`identify`], and as fresh.
    ///
    /// # Errors
    /// As there.
    pub fn identify(
        &self,
        table: &KeyTable,
        digest: Option<KeyDigest>,
        address: IpAddr,
        now: Now,
    ) -> Result<Caller, Unidentified> {
        if let Some(caller) = digest.and_then(|digest| self.find(&digest)) {
            let verdict = in_force(caller.slot(), caller.policy(), now);
            if !caller.slot().is_gone() {
                verdict.map_err(|refusal| (None, refusal))?;
                return caller.enter(address, now);
            }
        }
        let caller = identify(table, digest, address, now)?;
        self.meet(&caller);
        Ok(caller)
    }

    /// Lets go of those whose secrets are gone, and of what belongs to them.
    pub fn forget_gone(&self) {
        for place in &mut *self.0.borrow_mut() {
            if place.caller.as_ref().is_some_and(|caller| caller.slot().is_gone()) {
                place.caller = None;
            }
        }
    }

    /// With the policy in force.
    fn find(&self, digest: &KeyDigest) -> Option<Caller> {
        let mut places = self.0.borrow_mut();
        let place = places.get_mut(place_of(digest))?;
        let caller = place.caller.as_mut().filter(|caller| caller.slot().digest() == *digest)?;
        *caller = caller.refreshed();
        Some(caller.clone())
    }

    fn meet(&self, caller: &Caller) {
        let digest = caller.slot().digest();
        if let Some(place) = self.0.borrow_mut().get_mut(place_of(&digest)) {
            let mark = eight(&digest, 8);
            if std::mem::replace(&mut place.missed, mark) == mark {
                place.caller = Some(caller.clone());
            }
        }
    }
}

fn place_of(digest: &KeyDigest) -> usize {
    usize::try_from(eight(digest, 0) % PLACES as u64).unwrap_or(0)
}

/// Eight bytes of a digest. It is keyed with the pepper, so nobody outside can aim it.
fn eight(digest: &KeyDigest, from: usize) -> u64 {
    let bytes = digest.0.get(from..).and_then(|bytes| bytes.first_chunk());
    u64::from_le_bytes(bytes.copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use uuid::Uuid;

    use super::*;
    use crate::keys::{KeyChange, KeyRecord, Source};
    use crate::policy::{KeyPolicy, Refusal};
    use crate::units::{KeyId, Rpm};

    const NOW: Now = Now { monotonic_ns: 60_000_000_000, unix_ms: 1_717_416_000_000 };

    fn record(id: u128, secret: u8) -> KeyRecord {
        KeyRecord {
            policy: KeyPolicy::unlimited(KeyId(Uuid::from_u128(id)), "k", "sk-kw-abc"),
            current: KeyDigest([secret; 32]),
            previous: Vec::new(),
            source: Source::Api,
        }
    }

    fn ask(cache: &CallerCache, table: &KeyTable, secret: u8) -> Result<Caller, Refusal> {
        let address = "10.0.0.1".parse().unwrap();
        cache.identify(table, Some(KeyDigest([secret; 32])), address, NOW).map_err(|(_, refusal)| refusal)
    }

    fn put(table: &KeyTable, records: &[KeyRecord]) {
        table.apply_all(records.iter().map(|record| KeyChange::Put(Box::new(record.clone()))).collect()).unwrap();
    }

    #[test]
    fn whoever_comes_again_is_kept_and_every_change_is_seen_at_once() {
        let (cache, table) = (CallerCache::default(), KeyTable::new());
        let mut key = record(1, 1);
        put(&table, &[key.clone()]);
        for _ in 0..2 {
            ask(&cache, &table, 1).unwrap();
        }
        let kept = ask(&cache, &table, 1).unwrap();
        assert!(std::rc::Rc::ptr_eq(&kept.0, &ask(&cache, &table, 1).unwrap().0));
        key.policy.rpm = Rpm::new(7);
        put(&table, &[key.clone()]);
        assert_eq!(ask(&cache, &table, 1).unwrap().policy().rpm, Rpm::new(7));
        key.policy.is_disabled = true;
        put(&table, &[key.clone()]);
        assert_eq!(ask(&cache, &table, 1).map(drop), Err(Refusal::KeyDisabled));
        key.policy.is_disabled = false;
        put(&table, &[key.clone()]);
        assert!(ask(&cache, &table, 1).is_ok());
        put(&table, &[KeyRecord { current: KeyDigest([2; 32]), ..key.clone() }]);
        assert_eq!(ask(&cache, &table, 1).map(drop), Err(Refusal::InvalidKey));
        assert!(ask(&cache, &table, 2).is_ok());
        table.apply(KeyChange::Remove(key.policy.id)).unwrap();
        assert_eq!(ask(&cache, &table, 2).map(drop), Err(Refusal::InvalidKey));
    }

    #[test]
    fn a_secret_that_goes_over_to_another_key_is_that_keys() {
        let (cache, table) = (CallerCache::default(), KeyTable::new());
        put(&table, &[record(1, 1), record(2, 2)]);
        for _ in 0..3 {
            assert_eq!(ask(&cache, &table, 1).unwrap().policy().id, KeyId(Uuid::from_u128(1)));
        }
        put(&table, &[record(1, 2), record(2, 1)]);
        assert_eq!(ask(&cache, &table, 1).unwrap().policy().id, KeyId(Uuid::from_u128(2)));
    }

    #[test]
    fn nothing_is_kept_of_a_key_that_is_gone() {
        let (cache, table) = (CallerCache::default(), KeyTable::new());
        put(&table, &[record(1, 1)]);
        let entry = Arc::downgrade(&table.get(KeyId(Uuid::from_u128(1))).unwrap());
        for _ in 0..3 {
            ask(&cache, &table, 1).unwrap();
        }
        table.apply(KeyChange::Remove(KeyId(Uuid::from_u128(1)))).unwrap();
        assert!(entry.upgrade().is_some());
        cache.forget_gone();
        assert!(entry.upgrade().is_none());
    }
}
