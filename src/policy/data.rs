//! A key's policy as the data plane reads it: compiled, immutable, replaced whole when the key changes.

use crate::policy::address::AddressRules;
use crate::policy::endpoint::EndpointRules;
use crate::policy::glob::ModelRules;
use crate::units::{KeyId, Parallel, Rpm, Tpm, Units};

/// What a key may do. The limits' running state is elsewhere (`limits`), so replacing a policy hands nothing out anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPolicy {
    /// The key's identity.
    pub id: KeyId,
    /// What its owner calls it, 1 to 100 characters.
    pub name: Box<str>,
    /// The first visible characters of its secret (at most 12, fewer for a short one).
    pub key_prefix: Box<str>,
    /// Who pays; free text.
    pub org_id: Option<Box<str>>,
    /// Who pays; free text.
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
    /// Units in a period.
    pub quota: Option<QuotaRule>,
    /// Where it may be used from; empty = anywhere.
    pub allowed_ips: AddressRules,
    /// When it ends (exclusive), milliseconds since 1970.
    pub expires_at_ms: Option<i64>,
    /// Served by the built-in backend, never billed.
    pub is_sandbox: bool,
    /// What happens upstream when the client goes.
    pub on_disconnect: OnDisconnect,
    /// Switched off by an operator.
    pub is_disabled: bool,
}

/// A quota: so many units in a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaRule {
    /// Units. With 0, which only the new-api dialect can say, the key is exhausted from the start.
    pub limit: Units,
    /// When the use starts again from zero.
    pub reset: QuotaReset,
}

/// When a quota starts anew. Periods are UTC: days at midnight, weeks on Monday, months on the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotaReset {
    /// Never.
    None,
    /// Every day.
    Daily,
    /// Every Monday.
    Weekly,
    /// Every first of a month.
    Monthly,
}

impl QuotaReset {
    /// Every rule.
    pub const ALL: [Self; 4] = [Self::None, Self::Daily, Self::Weekly, Self::Monthly];

    /// The name in configuration and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
        }
    }
}

/// What happens upstream when the client has gone mid-answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnDisconnect {
    /// The upstream request is cancelled; charged as metered so far.
    #[default]
    Cancel,
    /// The answer is read on to its usage.
    Drain,
}

impl OnDisconnect {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Cancel, Self::Drain];

    /// The name in configuration and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Drain => "drain",
        }
    }
}

impl KeyPolicy {
    /// A policy without any limit: the base that file and API fill in.
    pub fn unlimited(id: KeyId, name: &str, key_prefix: &str) -> Self {
        Self {
            id,
            name: name.into(),
            key_prefix: key_prefix.into(),
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
        }
    }
}
