//! What the configuration says of limits.

use http::StatusCode;

use crate::units::Tokens;

/// `[limits]`, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitSettings {
    /// Output tokens assumed when a request names none, until learnt for its model.
    pub default_max_output: Tokens,
    /// What happens when a quota covers the prompt but not the whole output.
    pub on_low_quota: OnLowQuota,
    /// The status of a spent quota: 429 or 402.
    pub quota_status: StatusCode,
}

/// What happens when a quota covers the prompt but not the whole output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnLowQuota {
    /// The output is lowered to what is covered.
    #[default]
    Clamp,
    /// The request is refused.
    Refuse,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self { default_max_output: 512, on_low_quota: OnLowQuota::Clamp, quota_status: StatusCode::TOO_MANY_REQUESTS }
    }
}
