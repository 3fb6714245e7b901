//! What is written down of a change: who, from where, and the members that changed, before and after. Never a secret.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use crate::admin::service::{Caller, KeyFields};
use crate::admin::times::rfc3339;
use crate::keys::PreviousSecret;
use crate::store::{AuditEntry, StoredKey};

/// Who changes something.
#[derive(Debug, Clone, Copy)]
pub struct Author<'a> {
    /// An operator's name, or `file`.
    pub operator: &'a str,
    /// By which API, or `file`.
    pub via: &'static str,
    /// From where; a file is nowhere.
    pub address: Option<IpAddr>,
}

impl<'a> From<&'a Caller> for Author<'a> {
    fn from(caller: &'a Caller) -> Self {
        Self { operator: &caller.operator.name, via: caller.via, address: Some(caller.address) }
    }
}

/// The entries for one change of a key: one, or two where it moved from one organisation or team to another, so that each side is told
/// what concerns it and nothing of the other.
pub fn entries(
    author: &Author<'_>,
    action: &'static str,
    before: Option<&StoredKey>,
    after: Option<&StoredKey>,
    at_ms: i64,
) -> Vec<AuditEntry> {
    let (old, new) = (before.map(shown).unwrap_or_default(), after.map(shown).unwrap_or_default());
    let differs = |(name, value): &(&String, &Value), other: &Map<String, Value>| other.get(*name) != Some(*value);
    let part = |map: &Map<String, Value>, other: &Map<String, Value>, is_there: bool| {
        let changed = map.iter().filter(|member| differs(member, other));
        let changed: Map<String, Value> = changed.map(|(name, value)| (name.clone(), value.clone())).collect();
        is_there.then(|| Value::Object(changed).to_string())
    };
    let (was, is) = (part(&old, &new, before.is_some()), part(&new, &old, after.is_some()));
    let entry = |key: &StoredKey, before: Option<String>, after: Option<String>| AuditEntry {
        number: 0,
        at_ms,
        operator: author.operator.into(),
        via: author.via,
        action,
        key: Some(key.record.policy.id),
        org_id: key.record.policy.org_id.clone(),
        team_id: key.record.policy.team_id.clone(),
        address: author.address,
        before,
        after,
    };
    match (before, after) {
        (Some(old), Some(new)) if owner(old) != owner(new) => vec![entry(old, was, None), entry(new, None, is)],
        (_, Some(key)) | (Some(key), None) => vec![entry(key, was, is)],
        (None, None) => Vec::new(),
    }
}

/// The entry of something that concerns no key.
pub(super) fn entry(caller: &Caller, action: &'static str, after: Value, at_ms: i64) -> AuditEntry {
    AuditEntry {
        number: 0,
        at_ms,
        operator: caller.operator.name.clone(),
        via: caller.via,
        action,
        key: None,
        org_id: None,
        team_id: None,
        address: Some(caller.address),
        before: None,
        after: Some(after.to_string()),
    }
}

fn owner(key: &StoredKey) -> (Option<&str>, Option<&str>) {
    (key.record.policy.org_id.as_deref(), key.record.policy.team_id.as_deref())
}

/// Everything that can change of a key, by the names of the native API.
fn shown(key: &StoredKey) -> Map<String, Value> {
    let fields = KeyFields::of(key);
    let metadata: Map<String, Value> =
        fields.metadata.iter().map(|(name, value)| (name.to_string(), json!(value))).collect();
    let mut ends: Vec<Value> = Vec::new();
    for (previous, old) in key.record.previous.iter().zip(&key.details.old_secrets) {
        let PreviousSecret { until_unix_ms, .. } = previous;
        ends.push(json!({ "prefix": old.prefix, "until": rfc3339(*until_unix_ms) }));
    }
    let all = json!({
        "org_id": fields.org_id,
        "team_id": fields.team_id,
        "name": fields.name,
        "key_prefix": key.record.policy.key_prefix,
        "models_allowed": fields.models.patterns().collect::<Vec<_>>(),
        "endpoints_allowed": fields.endpoints.entries(),
        "rpm_limit": fields.rpm.map(|n| n.get()),
        "tpm_limit": fields.tpm.map(|n| n.get()),
        "max_parallel": fields.max_parallel.map(|n| n.get()),
        "quota_limit": fields.quota.map(|rule| rule.limit),
        "quota_reset": fields.quota.map(|rule| rule.reset.as_str()),
        "allowed_ips": fields.allowed_ips.entries(),
        "expires_at": fields.expires_at_ms.map(rfc3339),
        "is_sandbox": fields.is_sandbox,
        "on_disconnect": fields.on_disconnect.as_str(),
        "disabled": fields.is_disabled,
        "metadata": metadata,
        "group": fields.newapi.group,
        "cross_group_retry": fields.newapi.cross_group_retry,
        "dormant_models": fields.newapi.dormant_models,
        "dormant_remain": Some(fields.newapi.dormant_remain).filter(|remain| *remain != 0),
        "old_secrets": ends,
    });
    match all {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
