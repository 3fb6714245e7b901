//! A key as the native API shows it: AIone's fields in AIone's order, then ours.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::admin::native::schema;
use crate::admin::service::{KeyView, Made, OldSecretView};
use crate::admin::times::rfc3339;

/// A key.
// It has no `Debug`, since it may hold a secret.
#[derive(Serialize, ToSchema)]
pub struct Key {
    /// Its identity for life.
    #[schema(format = "uuid")]
    pub id: String,
    /// Who pays.
    #[schema(required)]
    pub org_id: Option<String>,
    /// Who pays.
    #[schema(required)]
    pub team_id: Option<String>,
    /// What its owner calls it.
    pub name: String,
    /// The secret in clear, in the answers to create and rotate; null everywhere else.
    #[schema(required)]
    pub key: Option<String>,
    /// The first visible characters of the secret.
    pub key_prefix: String,
    /// Models it may ask for, names and patterns with `*`; empty: every model.
    pub models_allowed: Vec<String>,
    /// Requests per minute.
    #[schema(required)]
    pub rpm_limit: Option<u32>,
    /// Tokens per minute.
    #[schema(required)]
    pub tpm_limit: Option<u64>,
    /// Served by the built-in backend, never billed.
    pub is_sandbox: bool,
    /// Where it may be used from, addresses and prefixes; empty: anywhere.
    pub allowed_ips: Vec<String>,
    /// When it ends.
    #[schema(required, format = DateTime)]
    pub expires_at: Option<String>,
    /// Until when the last of the previous secrets works; null when none does.
    #[schema(required, format = DateTime)]
    pub rotate_grace_until: Option<String>,
    /// `active`, `disabled`, `expired` or `exhausted`; computed.
    #[schema(schema_with = schema::status)]
    pub status: &'static str,
    /// When it was made.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// Calls it may make, groups and endpoints; empty: all.
    pub endpoints_allowed: Vec<String>,
    /// Requests at once.
    #[schema(required)]
    pub max_parallel: Option<u32>,
    /// Units of a period.
    #[schema(required)]
    pub quota_limit: Option<u64>,
    /// Units used in the period; without a quota, ever.
    pub quota_used: u64,
    /// `none`, `daily`, `weekly` or `monthly`, UTC; null without a quota.
    #[schema(required, schema_with = schema::quota_reset)]
    pub quota_reset: Option<&'static str>,
    /// Units that a new request could take.
    #[schema(required)]
    pub quota_remaining: Option<u64>,
    /// When the period ends.
    #[schema(required, format = DateTime)]
    pub quota_resets_at: Option<String>,
    /// `cancel` or `drain`: what happens upstream when the client goes.
    #[schema(schema_with = schema::on_disconnect)]
    pub on_disconnect: &'static str,
    /// The operator's own.
    pub metadata: BTreeMap<String, String>,
    /// When it was last changed.
    #[schema(format = DateTime)]
    pub updated_at: String,
    /// When it was last used, to the second.
    #[schema(required, format = DateTime)]
    pub last_used_at: Option<String>,
    /// `api` or `file`; a key declared by file is read-only here.
    #[schema(schema_with = schema::source)]
    pub source: &'static str,
    /// Its previous secrets as far as they are remembered, newest first.
    pub old_secrets: Vec<OldSecret>,
}

/// A secret that was replaced.
#[derive(Debug, Serialize, ToSchema)]
pub struct OldSecret {
    /// Its first visible characters.
    pub prefix: String,
    /// When it was last used, to the second.
    #[schema(required, format = DateTime)]
    pub last_used_at: Option<String>,
    /// Requests with it since it was replaced.
    pub uses: u64,
    /// When it ends or ended.
    #[schema(format = DateTime)]
    pub until: String,
}

/// A key with its new secret, and what is known of the old one.
#[derive(Serialize, ToSchema)]
pub struct RotatedKey {
    /// The key.
    #[serde(flatten)]
    pub key: Key,
    /// The secret it replaced; null where there was none.
    #[schema(required)]
    pub old_secret: Option<OldSecret>,
}

/// Some keys.
#[derive(Serialize, ToSchema)]
pub struct KeyList {
    /// Newest first.
    pub items: Vec<Key>,
    /// How many there are on all pages.
    pub total: u64,
    /// Where the next page begins; only with `limit`, and null on the last page.
    #[schema(schema_with = schema::cursor_or_null)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<Option<String>>,
}

impl From<&KeyView> for Key {
    fn from(view: &KeyView) -> Self {
        let fields = &view.fields;
        let pairs = fields.metadata.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        Self {
            id: view.id.to_string(),
            org_id: fields.org_id.as_deref().map(Into::into),
            team_id: fields.team_id.as_deref().map(Into::into),
            name: fields.name.to_string(),
            key: None,
            key_prefix: view.prefix.to_string(),
            models_allowed: fields.models.patterns().map(Into::into).collect(),
            rpm_limit: fields.rpm.map(|n| n.get()),
            tpm_limit: fields.tpm.map(|n| n.get()),
            is_sandbox: fields.is_sandbox,
            allowed_ips: fields.allowed_ips.entries(),
            expires_at: fields.expires_at_ms.map(rfc3339),
            rotate_grace_until: view.rotate_grace_until_ms.map(rfc3339),
            status: view.status.as_str(),
            created_at: rfc3339(view.created_at_ms),
            endpoints_allowed: fields.endpoints.entries().into_iter().map(Into::into).collect(),
            max_parallel: fields.max_parallel.map(|n| n.get()),
            quota_limit: fields.quota.map(|rule| rule.limit),
            quota_used: view.quota_used,
            quota_reset: fields.quota.map(|rule| rule.reset.as_str()),
            quota_remaining: view.quota.map(|quota| quota.remaining()),
            quota_resets_at: view.quota.and_then(|quota| quota.resets_at_ms).map(rfc3339),
            on_disconnect: fields.on_disconnect.as_str(),
            metadata: pairs.collect(),
            updated_at: rfc3339(view.updated_at_ms),
            last_used_at: view.last_used_at_ms.map(rfc3339),
            source: view.source.as_str(),
            old_secrets: view.old_secrets.iter().map(Into::into).collect(),
        }
    }
}

impl From<&Made> for Key {
    fn from(made: &Made) -> Self {
        Self { key: Some(made.secret.expose().to_owned()), ..Self::from(&made.view) }
    }
}

impl From<&Made> for RotatedKey {
    fn from(made: &Made) -> Self {
        Self { key: made.into(), old_secret: made.replaced.as_ref().map(Into::into) }
    }
}

impl From<&OldSecretView> for OldSecret {
    fn from(old: &OldSecretView) -> Self {
        Self {
            prefix: old.prefix.to_string(),
            until: rfc3339(old.until_ms),
            last_used_at: old.last_used_at_ms.map(rfc3339),
            uses: old.uses,
        }
    }
}
