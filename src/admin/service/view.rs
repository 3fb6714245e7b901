//! What an operator is shown of a key: as it is stored, and as the data plane counts it at this moment.

use crate::admin::service::fields::KeyFields;
use crate::clock::{Clock, Now};
use crate::keys::{KeyTable, Source};
use crate::limits::quota::QuotaState;
use crate::policy::{KeyStatus, QuotaReset, QuotaRule, QuotaStanding};
use crate::store::{KeyState, Mask, StoredKey};
use crate::units::{KeyId, Units};

/// A key, for every dialect to word. No secret is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyView {
    /// Its identity.
    pub id: KeyId,
    /// Its number; 0 in what is rendered for a call that may be made again, before the store has given one.
    pub number: i64,
    /// What was set.
    pub fields: KeyFields,
    /// The first characters of its secret.
    pub prefix: Box<str>,
    /// What more may be shown of it to operators.
    pub mask: Mask,
    /// What it is now.
    pub status: KeyStatus,
    /// Units settled in the quota's period; without a quota, ever.
    pub quota_used: Units,
    /// Where it stands in its quota.
    pub quota: Option<QuotaStanding>,
    /// Until when the last of its previous secrets works; none when none does. Milliseconds since 1970.
    pub rotate_grace_until_ms: Option<i64>,
    /// Its previous secrets, as far as they are remembered, newest first.
    pub old_secrets: Vec<OldSecretView>,
    /// Milliseconds since 1970.
    pub created_at_ms: i64,
    /// Milliseconds since 1970.
    pub updated_at_ms: i64,
    /// To the second; milliseconds since 1970.
    pub last_used_at_ms: Option<i64>,
    /// Who declares it.
    pub source: Source,
    /// Counts its changes.
    pub version: u64,
}

/// A secret that was replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldSecretView {
    /// Its first characters.
    pub prefix: Box<str>,
    /// When it ends or ended, milliseconds since 1970.
    pub until_ms: i64,
    /// Requests with it since it was replaced.
    pub uses: u64,
    /// Its last use, before or after, to the second; milliseconds since 1970.
    pub last_used_at_ms: Option<i64>,
}

impl KeyView {
    /// Its strong entity tag: the version, in quotes.
    pub fn etag(&self) -> String {
        format!("\"{}\"", self.version)
    }

    /// Of what is stored and what the table knows. Takes nothing, makes nothing.
    pub(super) fn of(key: &StoredKey, state: &KeyState, table: &KeyTable, clock: &Clock) -> Self {
        let (now, certain) = (clock.now(), clock.certain());
        let record = &key.record;
        let policy = &record.policy;
        let slots = table.secrets_of(policy.id);
        let quota = quota(key, state, table, certain);
        let any_rule = QuotaRule { limit: Units::MAX, reset: QuotaReset::None };
        let quota_used =
            quota.map_or_else(|| standing(policy.id, any_rule, state, table, certain).used, |quota| quota.used);
        let mut old_secrets = Vec::with_capacity(record.previous.len());
        for (previous, shown) in record.previous.iter().zip(&key.details.old_secrets) {
            let stored = state.old_secrets.iter().find(|used| used.digest == previous.digest);
            let live = slots.iter().find(|slot| slot.digest() == previous.digest);
            old_secrets.push(OldSecretView {
                prefix: shown.prefix.clone(),
                until_ms: previous.until_unix_ms,
                uses: stored.map_or(0, |used| used.uses).max(live.map_or(0, |slot| slot.uses())),
                last_used_at_ms: stored
                    .and_then(|used| used.last_used_ms)
                    .max(live.and_then(|slot| slot.last_used_unix_ms())),
            });
        }
        old_secrets.reverse();
        let live_use = slots.iter().filter_map(|slot| slot.last_used_unix_ms()).max();
        let works = old_secrets.iter().map(|old| old.until_ms).filter(|until| now.unix_ms < *until);
        Self {
            id: policy.id,
            number: key.number,
            fields: KeyFields::of(key),
            prefix: policy.key_prefix.clone(),
            mask: key.details.mask.clone(),
            status: KeyStatus::of(policy, quota_used, now.unix_ms),
            quota_used,
            quota,
            rotate_grace_until_ms: works.max(),
            old_secrets,
            created_at_ms: key.details.created_at_ms,
            updated_at_ms: key.details.updated_at_ms,
            last_used_at_ms: state.last_used_ms.max(live_use),
            source: record.source,
            version: key.details.version,
        }
    }
}

fn quota(key: &StoredKey, state: &KeyState, table: &KeyTable, now: Now) -> Option<QuotaStanding> {
    let policy = &key.record.policy;
    policy.quota.map(|rule| standing(policy.id, rule, state, table, now))
}

/// The books and the limiter, whichever has counted more: the books may lag, and the limiter of a key not used since the start is
/// not there.
fn standing(id: KeyId, rule: QuotaRule, state: &KeyState, table: &KeyTable, now: Now) -> QuotaStanding {
    let books = QuotaState::default();
    books.restore(state.counted);
    let stored = books.standing(rule, now.unix_ms);
    let entry = table.get(id);
    match entry.as_ref().and_then(|entry| entry.limits_if_used()) {
        Some(limits) => {
            let live = limits.quota_standing(rule, now);
            QuotaStanding { used: live.used.max(stored.used), ..live }
        }
        None => stored,
    }
}
