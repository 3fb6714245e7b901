//! Where a key stands in its limits at one moment: for rate-limit headers, `GET /v1/key` and explanations.

use crate::policy::data::{KeyPolicy, QuotaReset};
use crate::units::Units;

/// Every limit a key has, with what is left of it. `None` where the key has no such limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// Requests per minute.
    pub requests: Option<Gauge>,
    /// Tokens per minute.
    pub tokens: Option<Gauge>,
    /// Units of the period.
    pub quota: Option<QuotaStanding>,
    /// Requests at once.
    pub parallel: Option<ParallelStanding>,
}

/// Where a key stands in its rate limits alone: what every answer tells. `None` where the key has no such limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rates {
    /// Requests per minute.
    pub requests: Option<Gauge>,
    /// Tokens per minute.
    pub tokens: Option<Gauge>,
}

/// One rate limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gauge {
    /// A minute's worth.
    pub limit: u64,
    /// What could be taken now; 0 while in debt.
    pub remaining: u64,
    /// Nanoseconds until all of `limit` is there again, if nothing is taken.
    pub reset_ns: u64,
}

/// The quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaStanding {
    /// Units of the period.
    pub limit: Units,
    /// Units settled in it.
    pub used: Units,
    /// Units held by requests under way.
    pub reserved: Units,
    /// When the use starts again from zero.
    pub reset: QuotaReset,
    /// That moment, milliseconds since 1970.
    pub resets_at_ms: Option<i64>,
}

impl QuotaStanding {
    /// Units that a new request could reserve.
    pub fn remaining(&self) -> Units {
        self.limit.saturating_sub(self.used.saturating_add(self.reserved))
    }
}

/// The slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParallelStanding {
    /// Requests at once.
    pub limit: u32,
    /// Requests under way.
    pub in_use: u32,
}

/// What a key is at one moment (POLICY 2): computed, never set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyStatus {
    /// It may be used.
    Active,
    /// An operator switched it off.
    Disabled,
    /// Its end has come.
    Expired,
    /// Its quota is spent.
    Exhausted,
}

impl KeyStatus {
    /// Every status.
    pub const ALL: [Self; 4] = [Self::Active, Self::Disabled, Self::Expired, Self::Exhausted];

    /// What stops a key first, if anything does. `used` are the units settled in its quota's period.
    pub fn of(policy: &KeyPolicy, used: Units, unix_ms: i64) -> Self {
        if policy.is_disabled {
            Self::Disabled
        } else if policy.expires_at_ms.is_some_and(|end| unix_ms >= end) {
            Self::Expired
        } else if policy.quota.is_some_and(|rule| used >= rule.limit) {
            Self::Exhausted
        } else {
            Self::Active
        }
    }

    /// The name in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
            Self::Expired => "expired",
            Self::Exhausted => "exhausted",
        }
    }
}
