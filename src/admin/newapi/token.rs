//! A key as the family shows it.

use std::fmt;

use serde::Serialize;

use super::refused::Refused;
use crate::admin::service::KeyView;
use crate::keys::secret::Secret;
use crate::policy::KeyStatus;

/// A token, its members in the family's order.
#[derive(Serialize)]
pub struct Token {
    id: i64,
    user_id: i64,
    key: String,
    status: i64,
    name: String,
    created_time: i64,
    accessed_time: i64,
    expired_time: i64,
    remain_quota: i64,
    unlimited_quota: bool,
    model_limits_enabled: bool,
    model_limits: String,
    allow_ips: Option<String>,
    used_quota: i64,
    group: String,
    cross_group_retry: bool,
}

/// Hides the key: it is in clear when it has just been made.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Token {
    /// With what may be shown of the secret.
    pub fn of(key: &KeyView) -> Self {
        let fields = &key.fields;
        let models = fields.models.patterns().collect::<Vec<_>>().join(",");
        let dormant = fields.newapi.dormant_models.as_deref().filter(|_| fields.models.is_unlimited());
        let addresses = fields.allowed_ips.entries();
        Self {
            id: key.number,
            user_id: 1,
            key: key.mask.with_ten_stars(),
            status: match key.status {
                KeyStatus::Active => 1,
                KeyStatus::Disabled => 2,
                KeyStatus::Expired => 3,
                KeyStatus::Exhausted => 4,
            },
            name: fields.name.to_string(),
            created_time: seconds(key.created_at_ms),
            accessed_time: seconds(key.last_used_at_ms.unwrap_or(key.created_at_ms)),
            expired_time: fields.expires_at_ms.map_or(-1, seconds),
            remain_quota: remain(key),
            unlimited_quota: fields.quota.is_none(),
            model_limits_enabled: !fields.models.is_unlimited(),
            model_limits: dormant.map_or(models, str::to_owned),
            allow_ips: (!addresses.is_empty()).then(|| addresses.join("\n")),
            used_quota: signed(key.quota_used),
            group: fields.newapi.group.to_string(),
            cross_group_retry: fields.newapi.cross_group_retry,
        }
    }

    /// With the secret, this once.
    pub fn in_clear(key: &KeyView, secret: &Secret) -> Self {
        Self { key: secret.expose().to_owned(), ..Self::of(key) }
    }
}

/// Units that are left: below zero where an estimate was short, as in the family. Without a quota, what was said when it was given up.
pub fn remain(key: &KeyView) -> i64 {
    let fields = &key.fields;
    fields.quota.map_or(fields.newapi.dormant_remain, |rule| signed(rule.limit).saturating_sub(signed(key.quota_used)))
}

/// Whole seconds since 1970.
pub fn seconds(unix_ms: i64) -> i64 {
    unix_ms.div_euclid(1000)
}

fn signed(units: u64) -> i64 {
    i64::try_from(units).unwrap_or(i64::MAX)
}

/// One that would be expired or exhausted the moment it is enabled is not enabled.
pub fn check_enabling(key: &KeyView, now_ms: i64) -> Result<(), Refused> {
    if key.fields.expires_at_ms.is_some_and(|end| now_ms >= end) {
        Err(Refused::Expired)
    } else if key.fields.quota.is_some_and(|rule| key.quota_used >= rule.limit) {
        Err(Refused::Exhausted)
    } else {
        Ok(())
    }
}
