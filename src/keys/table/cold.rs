//! A key's policy while nobody uses the key: what it has of its own beside what it shares with keys like it.
//!
//! A policy in full weighs some 250 bytes, and most keys of a large table sleep while most of them have the rules of many
//! others. So the table keeps a sleeping key as its name and prefix and a pointer to the rest, and unfolds it at the first use.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use uuid::Uuid;

use crate::policy::KeyPolicy;
use crate::units::KeyId;

/// A policy folded up.
#[derive(Debug)]
pub(super) struct Folded {
    /// The policy without what is below.
    rules: Arc<KeyPolicy>,
    /// The length of the prefix in digits, a colon, the prefix and the name.
    labels: Box<str>,
}

impl Folded {
    /// The policy in full; `id` is known to whoever holds it.
    pub(super) fn unfold(&self, id: KeyId) -> KeyPolicy {
        let (key_prefix, name) = self.labels();
        KeyPolicy { id, name: name.into(), key_prefix: key_prefix.into(), ..(*self.rules).clone() }
    }

    fn labels(&self) -> (&str, &str) {
        let parts = self.labels.split_once(':');
        let cut = parts.and_then(|(length, labels)| labels.split_at_checked(length.parse().ok()?));
        // Not reached: they are always written as they are read.
        cut.unwrap_or(("", &self.labels))
    }
}

/// Rules seen lately, for the next key that has the same. Holds at most [`RuleBook::PLACES`] of them.
#[derive(Debug)]
pub(super) struct RuleBook(Box<[Option<Arc<KeyPolicy>>]>);

impl Default for RuleBook {
    fn default() -> Self {
        Self(vec![None; Self::PLACES].into())
    }
}

impl RuleBook {
    const PLACES: usize = 1_024;

    /// Folds a policy up.
    pub(super) fn fold(&mut self, policy: KeyPolicy) -> Folded {
        let labels = format!("{}:{}{}", policy.key_prefix.len(), policy.key_prefix, policy.name).into_boxed_str();
        let rules = KeyPolicy { id: KeyId(Uuid::nil()), name: Box::default(), key_prefix: Box::default(), ..policy };
        Folded { rules: self.shared(rules), labels }
    }

    fn shared(&mut self, rules: KeyPolicy) -> Arc<KeyPolicy> {
        let at = usize::try_from(fingerprint(&rules) % Self::PLACES as u64).unwrap_or(0);
        match self.0.get_mut(at) {
            Some(Some(known)) if **known == rules => Arc::clone(known),
            Some(place) => Arc::clone(place.insert(Arc::new(rules))),
            None => Arc::new(rules),
        }
    }
}

/// Equal rules have equal ones; what differs less often is left out.
fn fingerprint(rules: &KeyPolicy) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&rules.org_id, &rules.team_id, rules.expires_at_ms).hash(&mut hasher);
    let rates = (rules.rpm.map(|n| n.get()), rules.tpm.map(|n| n.get()), rules.max_parallel.map(|n| n.get()));
    (rates, rules.quota.map(|rule| rule.limit), rules.is_disabled).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Rpm;

    #[test]
    fn keys_with_the_same_rules_share_them_and_unfold_to_themselves() {
        let policy = |id: u128, name: &str, rpm| KeyPolicy {
            rpm: Rpm::new(rpm),
            org_id: Some("org".into()),
            ..KeyPolicy::unlimited(KeyId(Uuid::from_u128(id)), name, "sk-kw-abc")
        };
        let all = [policy(1, "n\u{e4}me", 5), policy(2, "", 5), policy(3, "3:c", 6)];
        let mut book = RuleBook::default();
        let folded = all.clone().map(|policy| book.fold(policy));
        assert!(Arc::ptr_eq(&folded[0].rules, &folded[1].rules) && !Arc::ptr_eq(&folded[0].rules, &folded[2].rules));
        for (policy, folded) in all.iter().zip(&folded) {
            assert_eq!(&folded.unfold(policy.id), policy);
        }
    }
}
