//! `GET /api/usage/token/`: what the holder of a key may know of its quota, in the words of the new-api family. Refusals on this path are
//! worded like OpenAI's, as that family words them on its data plane.

use std::collections::BTreeMap;

use http::StatusCode;
use http::header::CACHE_CONTROL;
use serde::Serialize;

use crate::dialect::Answer;
use crate::headers::Value;
use crate::policy::{KeyPolicy, QuotaStanding};
use crate::units::Units;

#[derive(Serialize)]
struct Body<'a> {
    /// Always true; the family's own mark of success on this call.
    code: bool,
    message: &'static str,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    /// Always `token_usage`.
    object: &'static str,
    name: &'a str,
    /// Units of the quota; without one, what was used.
    total_granted: Units,
    total_used: Units,
    /// Units that are left; without a quota 0, as the family says it.
    total_available: Units,
    unlimited_quota: bool,
    /// Each model or pattern with `true`.
    model_limits: BTreeMap<&'a str, bool>,
    model_limits_enabled: bool,
    /// Unix seconds; 0 = never.
    expires_at: i64,
}

/// The answer. `used` are the units that are counted where there is no quota.
pub fn token_usage(policy: &KeyPolicy, quota: Option<&QuotaStanding>, used: Units) -> Answer {
    let used = quota.map_or(used, |quota| quota.used);
    let data = Data {
        object: "token_usage",
        name: &policy.name,
        total_granted: quota.map_or(used, |quota| quota.limit),
        total_used: used,
        total_available: quota.map_or(0, |quota| quota.limit.saturating_sub(quota.used)),
        unlimited_quota: quota.is_none(),
        model_limits: policy.models.patterns().map(|model| (model, true)).collect(),
        model_limits_enabled: !policy.models.is_unlimited(),
        expires_at: policy.expires_at_ms.map_or(0, |ms| ms.div_euclid(1000)),
    };
    let mut answer = Answer::json(StatusCode::OK, &Body { code: true, message: "ok", data });
    answer.headers.insert(CACHE_CONTROL, Value::from_static("no-store"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Glob, ModelRules, QuotaReset};
    use crate::units::KeyId;
    use uuid::Uuid;

    fn shown(policy: &KeyPolicy, quota: Option<&QuotaStanding>, used: Units) -> String {
        String::from_utf8(token_usage(policy, quota, used).body.to_vec()).unwrap()
    }

    #[test]
    fn a_key_without_any_limit() {
        let policy = KeyPolicy::unlimited(KeyId(Uuid::max()), "laptop", "sk-kw-3FqZbM");
        let expected = r#"{"code":true,"message":"ok","data":{"object":"token_usage","name":"laptop","total_granted":7,"total_used":7,"total_available":0,"unlimited_quota":true,"model_limits":{},"model_limits_enabled":false,"expires_at":0}}"#;
        assert_eq!(shown(&policy, None, 7), expected);
    }

    #[test]
    fn a_key_with_limits_and_a_quota_that_is_overrun() {
        let models = ["gpt-4o*", "o3"].into_iter().filter_map(Glob::new).collect();
        let policy = KeyPolicy {
            models: ModelRules::new(models),
            expires_at_ms: Some(1_767_225_600_999),
            ..KeyPolicy::unlimited(KeyId(Uuid::max()), "laptop", "sk-kw-3FqZbM")
        };
        let quota = |used| QuotaStanding { limit: 10, used, reserved: 3, reset: QuotaReset::None, resets_at_ms: None };
        let text = shown(&policy, Some(&quota(4)), 99);
        assert!(
            text.contains(r#""total_granted":10,"total_used":4,"total_available":6,"unlimited_quota":false"#),
            "{text}"
        );
        assert!(
            text.contains(
                r#""model_limits":{"gpt-4o*":true,"o3":true},"model_limits_enabled":true,"expires_at":1767225600"#
            ),
            "{text}"
        );
        assert!(shown(&policy, Some(&quota(12)), 0).contains(r#""total_used":12,"total_available":0"#));
    }
}
