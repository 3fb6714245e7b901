//! `GET /v1/key`: what the holder of a key may know of it. Its own limits and what is left of them; no id, no owner, no secret.

use http::StatusCode;
use http::header::CACHE_CONTROL;
use serde::Serialize;

use crate::clock::Now;
use crate::dialect::Answer;
use crate::dialect::wording::times::{rfc3339, rfc3339_in};
use crate::headers::Value;
use crate::policy::{Gauge, KeyPolicy, KeyStatus, Standing};
use crate::units::Units;

/// The answer's body. A limit the key does not have is `null` throughout; moments are RFC 3339 in UTC.
#[derive(Serialize)]
struct Body<'a> {
    /// Always `key`.
    object: &'static str,
    /// What its owner calls it.
    name: &'a str,
    /// The first visible characters of its secret; null for a key that is declared by its hash alone.
    key_prefix: Option<&'a str>,
    /// `active`, `disabled`, `expired` or `exhausted` (POLICY 2).
    status: &'static str,
    /// Served by the built-in backend, never billed.
    is_sandbox: bool,
    /// When it ends.
    expires_at: Option<String>,
    /// Names and globs; empty = every model.
    models_allowed: Vec<&'a str>,
    /// Calls it may make; empty = all.
    endpoints_allowed: Vec<&'static str>,
    /// Requests per minute.
    rpm_limit: Option<u64>,
    /// Requests that could be made now.
    rpm_remaining: Option<u64>,
    /// When all of them are there again, if none is made.
    rpm_resets_at: Option<String>,
    /// Tokens per minute.
    tpm_limit: Option<u64>,
    /// Tokens that could be taken now.
    tpm_remaining: Option<u64>,
    /// When all of them are there again, if none is taken.
    tpm_resets_at: Option<String>,
    /// Requests at once.
    max_parallel: Option<u32>,
    /// Requests under way.
    parallel_in_use: Option<u32>,
    /// Units of the period.
    quota_limit: Option<Units>,
    /// Units settled in it.
    quota_used: Option<Units>,
    /// Units held by requests under way.
    quota_reserved: Option<Units>,
    /// Units a new request could take.
    quota_remaining: Option<Units>,
    /// `none`, `daily`, `weekly` or `monthly`.
    quota_reset: Option<&'static str>,
    /// When the use starts again from zero.
    quota_resets_at: Option<String>,
}

/// The answer to `GET /v1/key`, the same in every dialect. `standing` is the key's at `now`.
pub fn key_status(policy: &KeyPolicy, standing: &Standing, now: Now) -> Answer {
    let resets_at = |gauge: Gauge| rfc3339_in(now, gauge.reset_ns);
    let body = Body {
        object: "key",
        name: &policy.name,
        // No secret has a colon: this is the beginning of a hash, which says nothing to the holder.
        key_prefix: Some(&*policy.key_prefix).filter(|prefix| !prefix.contains(':')),
        status: KeyStatus::of(policy, standing.quota.map_or(0, |quota| quota.used), now.unix_ms).as_str(),
        is_sandbox: policy.is_sandbox,
        expires_at: policy.expires_at_ms.map(rfc3339),
        models_allowed: policy.models.patterns().collect(),
        endpoints_allowed: policy.endpoints.entries(),
        rpm_limit: standing.requests.map(|gauge| gauge.limit),
        rpm_remaining: standing.requests.map(|gauge| gauge.remaining),
        rpm_resets_at: standing.requests.map(resets_at),
        tpm_limit: standing.tokens.map(|gauge| gauge.limit),
        tpm_remaining: standing.tokens.map(|gauge| gauge.remaining),
        tpm_resets_at: standing.tokens.map(resets_at),
        max_parallel: standing.parallel.map(|slots| slots.limit),
        parallel_in_use: standing.parallel.map(|slots| slots.in_use),
        quota_limit: standing.quota.map(|quota| quota.limit),
        quota_used: standing.quota.map(|quota| quota.used),
        quota_reserved: standing.quota.map(|quota| quota.reserved),
        quota_remaining: standing.quota.map(|quota| quota.remaining()),
        quota_reset: standing.quota.map(|quota| quota.reset.as_str()),
        quota_resets_at: standing.quota.and_then(|quota| quota.resets_at_ms).map(rfc3339),
    };
    let mut answer = Answer::json(StatusCode::OK, &body);
    answer.headers.insert(CACHE_CONTROL, Value::from_static("no-store"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{
        EndpointGroup, EndpointRules, Glob, ModelRules, ParallelStanding, QuotaReset, QuotaRule, QuotaStanding,
    };
    use crate::units::KeyId;
    use serde_json::{Value, json};
    use uuid::Uuid;

    const NOW: Now = Now { monotonic_ns: 0, unix_ms: 1_767_225_600_000 };

    fn shown(policy: &KeyPolicy, standing: &Standing) -> Value {
        serde_json::from_slice(&key_status(policy, standing, NOW).body).unwrap()
    }

    fn policy() -> KeyPolicy {
        KeyPolicy::unlimited(KeyId(Uuid::max()), "laptop", "sk-kw-3FqZbM")
    }

    #[test]
    fn a_holder_sees_its_limits_and_what_is_left_and_nothing_of_its_owner() {
        let policy = KeyPolicy {
            org_id: Some("org-secret".into()),
            models: ModelRules::new(vec![Glob::new("gpt-4o*").unwrap()]),
            endpoints: EndpointRules::compile(&["embeddings"]).unwrap(),
            expires_at_ms: Some(1_767_225_601_000),
            ..policy()
        };
        let standing = Standing {
            requests: Some(Gauge { limit: 60, remaining: 59, reset_ns: 1_000_000_000 }),
            tokens: None,
            quota: Some(QuotaStanding {
                limit: 100,
                used: 30,
                reserved: 20,
                reset: QuotaReset::Daily,
                resets_at_ms: Some(1_767_312_000_000),
            }),
            parallel: Some(ParallelStanding { limit: 4, in_use: 1 }),
        };
        let shown = shown(&policy, &standing);
        let expected = json!({
            "object": "key", "name": "laptop", "key_prefix": "sk-kw-3FqZbM", "status": "active", "is_sandbox": false,
            "expires_at": "2026-01-01T00:00:01Z", "models_allowed": ["gpt-4o*"],
            "endpoints_allowed": ["embeddings"],
            "rpm_limit": 60, "rpm_remaining": 59, "rpm_resets_at": "2026-01-01T00:00:01Z",
            "tpm_limit": null, "tpm_remaining": null, "tpm_resets_at": null,
            "max_parallel": 4, "parallel_in_use": 1,
            "quota_limit": 100, "quota_used": 30, "quota_reserved": 20, "quota_remaining": 50, "quota_reset": "daily",
            "quota_resets_at": "2026-01-02T00:00:00Z",
        });
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_key_declared_by_its_hash_has_no_prefix_to_show() {
        let policy = KeyPolicy { key_prefix: "sha256:9f86d081".into(), ..policy() };
        assert_eq!(shown(&policy, &Standing::default())["key_prefix"], Value::Null);
    }

    #[test]
    fn the_status_is_what_stops_it_first() {
        let spent = Standing {
            quota: Some(QuotaStanding { limit: 9, used: 9, reserved: 0, reset: QuotaReset::None, resets_at_ms: None }),
            ..Standing::default()
        };
        let limited = KeyPolicy { quota: Some(QuotaRule { limit: 9, reset: QuotaReset::None }), ..policy() };
        let ended = KeyPolicy { expires_at_ms: Some(NOW.unix_ms), ..limited.clone() };
        let off = KeyPolicy { is_disabled: true, ..ended.clone() };
        for (policy, standing, status) in [
            (&policy(), &Standing::default(), "active"),
            (&limited, &spent, "exhausted"),
            (&ended, &spent, "expired"),
            (&off, &spent, "disabled"),
        ] {
            assert_eq!(shown(policy, standing)["status"], status);
        }
    }

    #[test]
    fn a_key_without_rules_shows_empty_lists() {
        let shown = shown(&policy(), &Standing::default());
        assert_eq!((&shown["models_allowed"], &shown["endpoints_allowed"]), (&json!([]), &json!([])));
        let every = EndpointRules::compile(&EndpointGroup::ALL.map(EndpointGroup::as_str));
        let all = KeyPolicy { endpoints: every.unwrap(), ..policy() };
        assert_eq!(self::shown(&all, &Standing::default())["endpoints_allowed"], json!([]));
    }
}
