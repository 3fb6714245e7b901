//! The schemas of what is sent: what the readers take, told as JSON Schema.

use std::borrow::Cow;

use serde_json::{Value, json};
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::openapi::{RefOr, Required, Schema};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use crate::admin::native::fields::MOST_ENTRIES;
use crate::admin::native::reader::{LONGEST_PAIR_NAME, LONGEST_PAIR_VALUE};
use crate::admin::native::usage::GROUPS;
use crate::admin::service::{KeyFields, MOST_GRACE_S};
use crate::limits::reservation::MOST_TOKENS;
use crate::policy::{Endpoint, EndpointGroup, KeyStatus, OnDisconnect, QuotaReset};
use crate::units::{Parallel, Rpm, Tpm};

/// Neither a control character nor a line's end.
const NO_CONTROLS: &str = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$";

const SECRET: &str = "^[A-Za-z0-9+_/=-]{8,128}$";

const MODEL: &str = "^[A-Za-z0-9_:/@+-](?:[.]?[A-Za-z0-9_:/@+-])*$";

/// A schema written as JSON. One that utoipa does not know is a mistake of ours, which a test finds.
fn schema(value: Value) -> Schema {
    serde_json::from_value(value).unwrap_or_default()
}

fn about(words: &str, mut value: Value) -> Value {
    value["description"] = json!(words);
    value
}

fn text(most: usize) -> Value {
    json!({ "type": "string", "minLength": 1, "maxLength": most, "pattern": NO_CONTROLS })
}

/// The same, or null.
fn nullable(mut value: Value) -> Value {
    if let Some(kind) = value.get("type").cloned() {
        value["type"] = json!([kind, "null"]);
    }
    value
}

fn whole(least: u64, most: u64) -> Value {
    json!({ "type": "integer", "minimum": least, "maximum": most })
}

fn names<T>(all: &[T], name: impl Fn(&T) -> &'static str) -> Value {
    let names: Vec<_> = all.iter().map(name).collect();
    json!({ "type": "string", "enum": names })
}

fn names_or_null<T>(all: &[T], name: impl Fn(&T) -> &'static str) -> Value {
    let names: Vec<_> = all.iter().map(name).map(Some).chain([None]).collect();
    json!({ "type": ["string", "null"], "enum": names })
}

fn list(items: Value) -> Value {
    json!({ "type": ["array", "null"], "maxItems": MOST_ENTRIES, "items": items })
}

/// An address or a prefix. The long spellings of IPv6 prefixes and the common short ones; others are taken too.
fn address_or_prefix() -> Value {
    const BYTE: &str = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])";
    let v4 = format!("^(?:{BYTE}[.]){{3}}{BYTE}/(?:3[0-2]|[12]?[0-9])$");
    let group = "[0-9A-Fa-f]{1,4}";
    let length = "(?:12[0-8]|1[01][0-9]|[1-9]?[0-9])";
    let v6 = format!("^(?:(?:{group}:){{7}}{group}|(?:{group}:){{1,6}}:|::)/{length}$");
    json!({ "anyOf": [
        { "type": "string", "format": "ipv4" },
        { "type": "string", "format": "ipv6" },
        { "type": "string", "pattern": v4 },
        { "type": "string", "pattern": v6 },
    ] })
}

/// The names of groups and calls, and the paths of calls.
fn endpoint_name() -> Value {
    let asked = Endpoint::ALL.into_iter().filter(|endpoint| endpoint.group().is_some() && *endpoint != Endpoint::Model);
    let calls: Vec<_> = asked.map(Endpoint::as_str).collect();
    let groups = EndpointGroup::ALL.map(EndpointGroup::as_str);
    let paths = calls.iter().filter(|call| !call.contains(char::is_uppercase) && **call != "passthrough");
    let paths = paths.map(|call| format!("/v1/{call}"));
    let mut all: Vec<String> = groups.iter().chain(&calls).map(ToString::to_string).chain(paths).collect();
    all.extend(["/v1/images/*", "/v1/audio/*", "/v1/models/{m}", "/v1beta/models/{m}:{verb}"].map(ToOwned::to_owned));
    all.extend(["/v1beta/models/{m}:generateContent", "/openai/deployments/{m}/*"].map(ToOwned::to_owned));
    let mut seen = std::collections::BTreeSet::new();
    all.retain(|name| seen.insert(name.clone()));
    json!({ "type": "string", "enum": all })
}

fn metadata() -> Value {
    json!({
        "type": ["object", "null"],
        "maxProperties": KeyFields::MOST_METADATA,
        "propertyNames": { "type": "string", "minLength": 1, "maxLength": LONGEST_PAIR_NAME, "pattern": NO_CONTROLS },
        "additionalProperties": { "type": "string", "maxLength": LONGEST_PAIR_VALUE, "pattern": NO_CONTROLS },
    })
}

fn fields() -> Value {
    let model = json!({ "type": "string", "minLength": 1, "maxLength": 256, "pattern": "^[A-Za-z0-9._:/@+*-]+$" });
    let (name, owner) = (text(KeyFields::LONGEST_NAME), nullable(text(KeyFields::LONGEST_OWNER)));
    let (rpm, tpm) = (whole(1, Rpm::MAX.into()), whole(1, Tpm::MAX));
    let (parallel, quota) = (whole(1, Parallel::MAX.into()), whole(1, KeyFields::MOST_QUOTA));
    let resets = names_or_null(&QuotaReset::ALL, |reset| reset.as_str());
    let ways = names_or_null(&OnDisconnect::ALL, |way| way.as_str());
    json!({
        "name": about("What its owner calls it.", name),
        "org_id": about("Who pays.", owner.clone()),
        "team_id": about("Who pays.", owner),
        "models_allowed": about("Names, and patterns with `*`; empty: every model.", list(model)),
        "rpm_limit": about("Requests per minute; null: no limit.", nullable(rpm)),
        "tpm_limit": about("Tokens per minute; null: no limit.", nullable(tpm)),
        "is_sandbox": about("Served by the built-in backend, never billed.", json!({ "type": ["boolean", "null"] })),
        "allowed_ips": about("Addresses and prefixes; empty: anywhere.", list(address_or_prefix())),
        "expires_at": about("When it ends.", json!({ "type": ["string", "null"], "format": "date-time" })),
        "endpoints_allowed": about("Groups, calls and paths; empty: all.", list(endpoint_name())),
        "max_parallel": about("Requests at once; null: no limit.", nullable(parallel)),
        "quota_limit": about("Units of a period; null: no limit.", nullable(quota)),
        "quota_reset": about("When the quota starts anew, UTC.", resets),
        "on_disconnect": about("What happens upstream when the client goes.", ways),
        "metadata": about("The operator's own pairs.", metadata()),
    })
}

fn secret() -> Value {
    json!({
        "type": ["string", "null"],
        "minLength": 8,
        "maxLength": 128,
        "pattern": SECRET,
        "description": "A secret of the client's own; one is made when there is none.",
    })
}

/// What JSON Schema can say of a quota: a period wants a limit. `is_change` says that the limit may be that of before.
pub fn quota_rule(is_change: bool) -> Value {
    let no_period = json!({ "properties": { "quota_reset": { "enum": ["none", null] } } });
    let mut limit = json!({ "properties": { "quota_limit": { "type": "integer" } } });
    if !is_change {
        limit["required"] = json!(["quota_limit"]);
    }
    json!([no_period, limit])
}

/// What is sent to make a key.
pub struct KeyCreateRequest;

/// What is sent to change one.
pub struct KeyUpdateRequest;

/// What is sent to rotate one.
pub struct KeyRotateRequest;

/// The request that is asked about.
pub struct ExplainRequest;

impl PartialSchema for KeyCreateRequest {
    fn schema() -> RefOr<Schema> {
        let mut properties = fields();
        properties["key"] = secret();
        let all = json!({
            "type": "object",
            "description": "A key to be made. A quota_reset other than none wants a quota_limit.",
            "required": ["name"],
            "properties": properties,
            "additionalProperties": false,
        });
        schema(all).into()
    }
}

impl PartialSchema for KeyUpdateRequest {
    fn schema() -> RefOr<Schema> {
        let all = json!({
            "type": "object",
            "description": "What is to change of a key; null clears. A quota_reset other than none wants a quota_limit.",
            "properties": fields(),
            "additionalProperties": false,
        });
        schema(all).into()
    }
}

impl PartialSchema for KeyRotateRequest {
    fn schema() -> RefOr<Schema> {
        let grace = json!({
            "type": ["integer", "null"],
            "minimum": 0,
            "maximum": MOST_GRACE_S,
            "description": "How long the secret in use works on, seconds; a day when nothing is said.",
        });
        let all = json!({
            "type": "object",
            "properties": { "grace_seconds": grace, "key": secret() },
            "additionalProperties": false,
        });
        schema(all).into()
    }
}

impl PartialSchema for ExplainRequest {
    fn schema() -> RefOr<Schema> {
        let client_ip = json!({ "anyOf": [
            { "type": "string", "format": "ipv4" },
            { "type": "string", "format": "ipv6" },
            { "type": "null" },
        ] });
        let mut endpoint = endpoint_name();
        endpoint["type"] = json!(["string", "null"]);
        if let Some(names) = endpoint["enum"].as_array_mut() {
            names.push(Value::Null);
        }
        endpoint["description"] = json!("Chat completions when nothing is said; of a group its first call.");
        let all = json!({
            "type": "object",
            "properties": {
                "model": { "type": ["string", "null"], "minLength": 1, "maxLength": 256, "pattern": MODEL },
                "endpoint": endpoint,
                "client_ip": client_ip,
                "prompt_tokens": nullable(whole(0, MOST_TOKENS)),
                "max_output": nullable(whole(1, MOST_TOKENS)),
            },
            "additionalProperties": false,
        });
        schema(all).into()
    }
}

impl ToSchema for KeyCreateRequest {
    fn name() -> Cow<'static, str> {
        "KeyCreateRequest".into()
    }
}

impl ToSchema for KeyUpdateRequest {
    fn name() -> Cow<'static, str> {
        "KeyUpdateRequest".into()
    }
}

impl ToSchema for KeyRotateRequest {
    fn name() -> Cow<'static, str> {
        "KeyRotateRequest".into()
    }
}

impl ToSchema for ExplainRequest {
    fn name() -> Cow<'static, str> {
        "ExplainRequest".into()
    }
}

/// What a key is now.
pub fn status() -> Schema {
    schema(about(
        "`active`, `disabled`, `expired` or `exhausted`; computed.",
        names(&KeyStatus::ALL, |status| status.as_str()),
    ))
}

/// When a quota starts anew.
pub fn quota_reset() -> Schema {
    schema(about(
        "When the quota starts anew, UTC; null without a quota.",
        names_or_null(&QuotaReset::ALL, |reset| reset.as_str()),
    ))
}

/// What happens upstream when the client goes.
pub fn on_disconnect() -> Schema {
    schema(about("What happens upstream when the client goes.", names(&OnDisconnect::ALL, |way| way.as_str())))
}

/// Who declares a key.
pub fn source() -> Schema {
    schema(about(
        "Who declares the key; one declared by file is read-only here.",
        json!({ "type": "string", "enum": ["api", "file"] }),
    ))
}

/// What a check came to.
pub fn verdict() -> Schema {
    schema(about(
        "`clamp` is a pass with less output than asked for, `skip` says that there is nothing to check.",
        json!({ "type": "string", "enum": ["pass", "clamp", "refuse", "skip"] }),
    ))
}

/// How usage is summed up.
pub fn group_by() -> Schema {
    schema(about("How it is summed up.", names(&GROUPS, |(name, _)| name)))
}

/// Where the next page begins.
pub fn cursor_or_null() -> Schema {
    schema(about("Where the next page begins; null on the last page.", json!({ "type": ["string", "null"] })))
}

/// Any members.
pub fn object_or_null() -> Schema {
    schema(about("The members that changed; never a secret.", json!({ "type": ["object", "null"] })))
}

fn parameter(place: ParameterIn, name: &str, about: &str, value: Value) -> Parameter {
    let required = if place == ParameterIn::Path { Required::True } else { Required::False };
    let mut parameter = Parameter::new(name);
    parameter.parameter_in = place;
    parameter.required = required;
    parameter.description = Some(about.to_owned());
    parameter.schema = Some(schema(value).into());
    parameter
}

fn query(name: &str, about: &str, value: Value) -> Parameter {
    parameter(ParameterIn::Query, name, about, value)
}

fn day_or_moment() -> Value {
    json!({ "anyOf": [{ "type": "string", "format": "date-time" }, { "type": "string", "format": "date" }] })
}

fn span() -> Vec<Parameter> {
    vec![
        query(
            "from",
            "Not before the hour that this lies in; 30 days before `to` when nothing is said.",
            day_or_moment(),
        ),
        query(
            "to",
            "Before this, and to the end of the hour that it lies in; now when nothing is said. The answer tells both as they were counted.",
            day_or_moment(),
        ),
    ]
}

/// `{key_id}`.
pub struct KeyParams;

/// `If-Match`.
pub struct IfMatchParams;

/// `Idempotency-Key`.
pub struct IdempotencyParams;

/// Which keys.
pub struct ListParams;

/// Which usage.
pub struct UsageParams;

/// Which usage of one key.
pub struct KeyUsageParams;

/// Which time.
pub struct DashboardParams;

/// Which changes.
pub struct AuditParams;

impl IntoParams for KeyParams {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let id = json!({ "type": "string", "format": "uuid" });
        vec![parameter(ParameterIn::Path, "key_id", "The key's id.", id)]
    }
}

impl IntoParams for IfMatchParams {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let about = "Only when the key's ETag is one of these: `*`, or entity tags as RFC 9110 writes them.";
        vec![parameter(ParameterIn::Header, "If-Match", about, json!({ "type": "string" }))]
    }
}

impl IntoParams for IdempotencyParams {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let about = "The same call with the same key is answered the same way for 24 hours, secret included.";
        let key = json!({ "type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$" });
        vec![parameter(ParameterIn::Header, "Idempotency-Key", about, key)]
    }
}

impl IntoParams for ListParams {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let cursor = json!({ "type": "string", "pattern": "^[0-9a-f]{32}$" });
        let model = json!({ "type": "string", "minLength": 1, "maxLength": 256, "pattern": MODEL });
        vec![
            query("limit", "At most so many; every key when nothing is said.", whole(1, 1_000)),
            query("cursor", "Where the page begins: a `next_cursor`.", cursor),
            query("status", "What the key is now.", names(&KeyStatus::ALL, |status| status.as_str())),
            query("org_id", "Exactly.", text(KeyFields::LONGEST_OWNER)),
            query("team_id", "Exactly.", text(KeyFields::LONGEST_OWNER)),
            query("name", "Contained in the name, any letter case.", text(KeyFields::LONGEST_NAME)),
            query("prefix", "Begins `key_prefix`.", text(128)),
            query("model", "The key may ask for this model.", model),
            query("is_sandbox", "Whether it is a sandbox key.", json!({ "type": "boolean" })),
        ]
    }
}

impl IntoParams for UsageParams {
    fn into_params(place: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let id = json!({ "type": "string", "format": "uuid" });
        let mut params = KeyUsageParams::into_params(place);
        params.push(query("key_id", "Of one key, removed or not.", id));
        params.push(query("team_id", "Of what was this team's then.", text(KeyFields::LONGEST_OWNER)));
        params.push(query("org_id", "Of what was this organisation's then.", text(KeyFields::LONGEST_OWNER)));
        params
    }
}

impl IntoParams for KeyUsageParams {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let groups = names(&GROUPS, |(name, _)| name);
        let mut params = span();
        params.push(query("group_by", "How it is summed up; by day when nothing is said.", groups));
        params
    }
}

impl IntoParams for DashboardParams {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let mut params = span();
        params.push(query("top", "How many keys; 10 when nothing is said.", whole(1, 100)));
        params
    }
}

impl IntoParams for AuditParams {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let id = json!({ "type": "string", "format": "uuid" });
        let cursor = json!({ "type": "string", "pattern": "^[0-9a-f]{16}$" });
        vec![
            query("limit", "At most so many; 100 when nothing is said.", whole(1, 1_000)),
            query("cursor", "Where the page begins: a `next_cursor`.", cursor),
            query("key_id", "Of one key.", id),
            query("org_id", "Exactly.", text(KeyFields::LONGEST_OWNER)),
            query("team_id", "Exactly.", text(KeyFields::LONGEST_OWNER)),
            query("operator", "Exactly.", text(100)),
            query("action", "Exactly, such as `key.rotate`.", text(100)),
            query("from", "Not before this.", day_or_moment()),
            query("to", "Before this.", day_or_moment()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_says_every_word_of_the_schemas() {
        for value in [
            fields(),
            secret(),
            address_or_prefix(),
            endpoint_name(),
            metadata(),
            day_or_moment(),
            nullable(whole(1, 5)),
            names_or_null(&QuotaReset::ALL, |reset| reset.as_str()),
        ] {
            let parts = match value.as_object() {
                Some(members) if !members.contains_key("type") && !members.contains_key("anyOf") => {
                    members.values().cloned().collect()
                }
                _ => vec![value],
            };
            for part in parts {
                assert_eq!(serde_json::to_value(schema(part.clone())).ok(), Some(part), "a word that utoipa drops");
            }
        }
    }
}
