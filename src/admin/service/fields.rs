//! What of a key an operator may set: typed, and already in range.

use crate::keys::secret::Secret;
use crate::policy::{AddressRules, EndpointRules, KeyPolicy, ModelRules, OnDisconnect, QuotaRule};
use crate::store::{NewApiFields, StoredKey};
use crate::units::{Parallel, Rpm, Tpm};

/// Every field that an operator may set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFields {
    /// 1 to 100 characters, none of them a control character.
    pub name: Box<str>,
    /// Who pays; 1 to 256 characters.
    pub org_id: Option<Box<str>>,
    /// Who pays; 1 to 256 characters.
    pub team_id: Option<Box<str>>,
    /// Models it may ask for.
    pub models: ModelRules,
    /// Endpoints it may call.
    pub endpoints: EndpointRules,
    /// Requests per minute.
    pub rpm: Option<Rpm>,
    /// Tokens per minute.
    pub tpm: Option<Tpm>,
    /// Requests at once.
    pub max_parallel: Option<Parallel>,
    /// Units in a period; at most `i64::MAX`.
    pub quota: Option<QuotaRule>,
    /// Where it may be used from.
    pub allowed_ips: AddressRules,
    /// When it ends (exclusive), milliseconds since 1970.
    pub expires_at_ms: Option<i64>,
    /// Served by the built-in backend, never billed.
    pub is_sandbox: bool,
    /// What happens upstream when the client goes.
    pub on_disconnect: OnDisconnect,
    /// Switched off.
    pub is_disabled: bool,
    /// Up to [`KeyFields::MOST_METADATA`] pairs.
    pub metadata: Vec<(Box<str>, Box<str>)>,
    /// What only the new-api family has.
    pub newapi: NewApiFields,
}

impl KeyFields {
    /// The longest name, in characters.
    pub const LONGEST_NAME: usize = 100;

    /// The longest organisation or team, in characters.
    pub const LONGEST_OWNER: usize = 256;

    /// The most pairs of metadata.
    pub const MOST_METADATA: usize = 16;

    /// The largest quota.
    pub const MOST_QUOTA: u64 = i64::MAX as u64;

    /// A key of this name without any limit.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.into(),
            org_id: None,
            team_id: None,
            models: ModelRules::default(),
            endpoints: EndpointRules::ALL,
            rpm: None,
            tpm: None,
            max_parallel: None,
            quota: None,
            allowed_ips: AddressRules::default(),
            expires_at_ms: None,
            is_sandbox: false,
            on_disconnect: OnDisconnect::default(),
            is_disabled: false,
            metadata: Vec::new(),
            newapi: NewApiFields::default(),
        }
    }

    /// Those of a stored key.
    pub(super) fn of(key: &StoredKey) -> Self {
        let policy = &key.record.policy;
        Self {
            name: policy.name.clone(),
            org_id: policy.org_id.clone(),
            team_id: policy.team_id.clone(),
            models: policy.models.clone(),
            endpoints: policy.endpoints,
            rpm: policy.rpm,
            tpm: policy.tpm,
            max_parallel: policy.max_parallel,
            quota: policy.quota,
            allowed_ips: policy.allowed_ips.clone(),
            expires_at_ms: policy.expires_at_ms,
            is_sandbox: policy.is_sandbox,
            on_disconnect: policy.on_disconnect,
            is_disabled: policy.is_disabled,
            metadata: key.details.metadata.clone(),
            newapi: key.details.newapi.clone(),
        }
    }

    /// Writes them into a stored key, whose id, prefix, secrets and times stay.
    pub(super) fn into_key(self, key: &mut StoredKey) {
        let policy = &mut key.record.policy;
        *policy = KeyPolicy {
            id: policy.id,
            key_prefix: std::mem::take(&mut policy.key_prefix),
            name: self.name,
            org_id: self.org_id,
            team_id: self.team_id,
            models: self.models,
            endpoints: self.endpoints,
            rpm: self.rpm,
            tpm: self.tpm,
            max_parallel: self.max_parallel,
            quota: self.quota,
            allowed_ips: self.allowed_ips,
            expires_at_ms: self.expires_at_ms,
            is_sandbox: self.is_sandbox,
            on_disconnect: self.on_disconnect,
            is_disabled: self.is_disabled,
        };
        key.details.metadata = self.metadata;
        key.details.newapi = self.newapi;
    }
}

/// A key to be made.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// What it may do. Organisation and team are filled in for an operator that is bound to one.
    pub fields: KeyFields,
    /// The secret that the client chose; one is made when there is none.
    pub secret: Option<Secret>,
}
