//! `[limits]`.

use http::StatusCode;

use crate::config::raw::{Names, Table};
use crate::limits::{LimitSettings, OnLowQuota};

pub(super) const NAMES: Names = &["default_max_output", "on_low_quota", "quota_status"];

/// Reads the section.
pub(super) fn read(root: &Table<'_>) -> LimitSettings {
    let limits = root.section("limits", NAMES);
    let default = LimitSettings::default();
    let on_low_quota = limits
        .get("on_low_quota")
        .and_then(|item| item.one_of(&[("clamp", OnLowQuota::Clamp), ("refuse", OnLowQuota::Refuse)]));
    let quota_status = limits.get("quota_status").and_then(|item| match item.value.as_integer().map(|n| n.as_str()) {
        Some("429") => Some(StatusCode::TOO_MANY_REQUESTS),
        Some("402") => Some(StatusCode::PAYMENT_REQUIRED),
        _ => {
            item.is_not("429 or 402");
            None
        }
    });
    LimitSettings {
        default_max_output: limits.integer_or("default_max_output", default.default_max_output, 1..=10_000_000),
        on_low_quota: on_low_quota.unwrap_or(default.on_low_quota),
        quota_status: quota_status.unwrap_or(default.quota_status),
    }
}
