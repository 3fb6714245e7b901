//! A token as callers write it, and what becomes of a key by it.

use serde_json::{Map, Value};

use super::refused::Refused;
use super::token::{remain, seconds};
use crate::admin::native::fields::MOST_ENTRIES;
use crate::admin::service::{KeyFields, KeyView};
use crate::admin::times::LATEST_MS;
use crate::policy::{AddressRules, Glob, ModelRules, QuotaReset, QuotaRule};

/// The longest name, bytes.
const LONGEST_NAME: usize = 50;

/// The longest group, characters.
const LONGEST_GROUP: usize = 64;

/// The longest list of models that is kept while it is switched off, bytes: what the family's column holds.
const LONGEST_MODELS: usize = 65_535;

/// The members that can be set. One that is absent or null is zero, as in the family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Form {
    /// Which token, for an update.
    pub id: i64,
    status: i64,
    name: String,
    expired_time: i64,
    remain_quota: i64,
    unlimited_quota: bool,
    model_limits_enabled: bool,
    model_limits: String,
    allow_ips: String,
    group: String,
    cross_group_retry: bool,
}

impl Form {
    /// Reads a body. Members that are unknown are passed over.
    pub fn read(body: &[u8]) -> Result<Self, Refused> {
        let mut members = object(body)?;
        Ok(Self {
            id: number(&members, "id")?,
            status: number(&members, "status")?,
            expired_time: number(&members, "expired_time")?,
            remain_quota: number(&members, "remain_quota")?,
            unlimited_quota: truth(&members, "unlimited_quota")?,
            model_limits_enabled: truth(&members, "model_limits_enabled")?,
            cross_group_retry: truth(&members, "cross_group_retry")?,
            name: text(&mut members, "name")?,
            model_limits: text(&mut members, "model_limits")?,
            allow_ips: text(&mut members, "allow_ips")?,
            group: text(&mut members, "group")?,
        })
    }

    /// What `status_only` sets: 1 enables, 2 disables. The others are computed and cannot be set.
    pub fn is_enabled(&self) -> Result<bool, Refused> {
        match self.status {
            1 => Ok(true),
            2 => Ok(false),
            _ => Err(Refused::invalid("status: expected 1 or 2")),
        }
    }

    /// Writes them into the fields of a key: a new one, or the one shown in `key`. What the family does not have stays.
    pub fn apply(self, fields: &mut KeyFields, key: Option<&KeyView>) -> Result<(), Refused> {
        fields.name = self.checked_name(key)?;
        fields.quota = self.quota(key)?;
        fields.newapi.dormant_remain = if self.unlimited_quota { self.remain_quota } else { 0 };
        fields.expires_at_ms = self.expiry(key)?;
        (fields.models, fields.newapi.dormant_models) = self.models()?;
        let entries = self.allow_ips.split([' ', ',', '\n', '\r', '\t']).filter(|entry| !entry.is_empty());
        let entries = entries.collect::<Vec<_>>();
        if entries.len() > MOST_ENTRIES {
            return Err(Refused::Invalid(format!("allow_ips: more than {MOST_ENTRIES} entries")));
        }
        fields.allowed_ips = AddressRules::compile(&entries)
            .map_err(|entry| Refused::Invalid(format!("allow_ips: {entry:?} is no address or CIDR")))?;
        if self.group.chars().count() > LONGEST_GROUP || self.group.contains(char::is_control) {
            return Err(Refused::invalid("group"));
        }
        fields.newapi.group = self.group.into();
        fields.newapi.cross_group_retry = self.cross_group_retry;
        Ok(())
    }

    fn checked_name(&self, key: Option<&KeyView>) -> Result<Box<str>, Refused> {
        let is_kept = key.is_some_and(|key| *key.fields.name == *self.name);
        if self.name.is_empty() {
            Err(Refused::NameEmpty)
        } else if self.name.len() > LONGEST_NAME && !is_kept {
            Err(Refused::NameTooLong)
        } else if self.name.contains(char::is_control) {
            Err(Refused::invalid("name: it holds a control character"))
        } else {
            Ok(self.name.as_str().into())
        }
    }

    /// What is to remain, on top of what is used.
    fn quota(&self, key: Option<&KeyView>) -> Result<Option<QuotaRule>, Refused> {
        if self.unlimited_quota {
            return Ok(None);
        }
        let before = key.and_then(|key| key.fields.quota);
        // Sent back as it was shown, also where it was overdrawn.
        if before.is_some() && key.is_some_and(|key| remain(key) == self.remain_quota) {
            return Ok(before);
        }
        let remain = u64::try_from(self.remain_quota).map_err(|_| Refused::QuotaNegative)?;
        let used = key.map_or(0, |key| key.quota_used);
        let most = KeyFields::MOST_QUOTA.saturating_sub(used);
        if remain > most {
            return Err(Refused::QuotaExceeds(i64::try_from(most).unwrap_or(i64::MAX)));
        }
        Ok(Some(QuotaRule { limit: used + remain, reset: before.map_or(QuotaReset::None, |rule| rule.reset) }))
    }

    /// -1 is never. For a new token so is 0, which for another has long passed.
    fn expiry(&self, key: Option<&KeyView>) -> Result<Option<i64>, Refused> {
        match (self.expired_time, key) {
            (-1, _) | (0, None) => Ok(None),
            (at, key) => {
                let before = key.and_then(|key| key.fields.expires_at_ms);
                if before.is_some_and(|before| seconds(before) == at) {
                    // Not cut to the second.
                    return Ok(before);
                }
                let ms = at.checked_mul(1000).filter(|ms| (0..=LATEST_MS).contains(ms));
                Ok(Some(ms.ok_or_else(|| Refused::invalid("expired_time: expected seconds since 1970, or -1"))?))
            }
        }
    }

    /// The list that is in force, and the one that is kept while it is switched off.
    fn models(&self) -> Result<(ModelRules, Option<Box<str>>), Refused> {
        if !self.model_limits_enabled {
            if self.model_limits.len() > LONGEST_MODELS {
                return Err(Refused::invalid("model_limits: it is too long"));
            }
            let dormant = Some(&self.model_limits).filter(|list| !list.is_empty());
            return Ok((ModelRules::default(), dormant.map(|list| list.as_str().into())));
        }
        let names = self.model_limits.split(',').map(str::trim).filter(|name| !name.is_empty());
        let globs = names.map(|name| {
            Glob::new(name).ok_or_else(|| Refused::Invalid(format!("model_limits: {name:?} is no name of a model")))
        });
        let globs = globs.collect::<Result<Vec<_>, _>>()?;
        if globs.is_empty() {
            return Err(Refused::invalid("model_limits: it is empty and model_limits_enabled is true"));
        }
        if globs.len() > MOST_ENTRIES {
            return Err(Refused::Invalid(format!("model_limits: more than {MOST_ENTRIES} names")));
        }
        Ok((ModelRules::new(globs), None))
    }
}

/// Reads `{"ids":[...]}`.
pub fn read_ids(body: &[u8]) -> Result<Vec<i64>, Refused> {
    let invalid = || Refused::invalid("ids: expected a list of numbers");
    let members = object(body)?;
    let ids = members.get("ids").and_then(Value::as_array).filter(|ids| !ids.is_empty()).ok_or_else(invalid)?;
    ids.iter().map(|id| id.as_i64().ok_or_else(invalid)).collect()
}

fn object(body: &[u8]) -> Result<Map<String, Value>, Refused> {
    serde_json::from_slice(body).map_err(|_| Refused::invalid("the body is no JSON object"))
}

fn number(members: &Map<String, Value>, name: &str) -> Result<i64, Refused> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(0),
        Some(value) => value.as_i64().ok_or_else(|| Refused::Invalid(format!("{name}: expected a whole number"))),
    }
}

fn truth(members: &Map<String, Value>, name: &str) -> Result<bool, Refused> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(value) => value.as_bool().ok_or_else(|| Refused::Invalid(format!("{name}: expected true or false"))),
    }
}

fn text(members: &mut Map<String, Value>, name: &str) -> Result<String, Refused> {
    match members.remove(name) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(Refused::Invalid(format!("{name}: expected text"))),
    }
}

#[cfg(test)]
mod tests;
