//! A key's secret replaced, the key switched off and on, and why it would be refused.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::admin::native::fields::read_secret;
use crate::admin::native::key::{Key, RotatedKey};
use crate::admin::native::keys::{answer, given, no_query, shown};
use crate::admin::native::path::KeyInPath;
use crate::admin::native::reader::{Faults, Members};
use crate::admin::native::refused::Refused;
use crate::admin::native::request::{Sent, if_match};
use crate::admin::native::schema::{
    self, ExplainRequest, IdempotencyParams, IfMatchParams, KeyParams, KeyRotateRequest,
};
use crate::admin::service::{self, Caller, DEFAULT_GRACE_S, Explanation, MOST_GRACE_S, Made, Probe, Rotation};
use crate::admin::surface::Surface;
use crate::admin::times::rfc3339;
use crate::limits::reservation::MOST_TOKENS;
use crate::policy::{Endpoint, EndpointRules};
use crate::units::ModelName;

/// Gives a key another secret, in clear this once. The one in use works on for `grace_seconds`.
#[utoipa::path(
    put,
    path = "/api/v1/gateway/keys/{key_id}/rotate",
    tag = "keys",
    params(KeyParams, IfMatchParams, IdempotencyParams),
    request_body = Option<KeyRotateRequest>,
    responses(
        (status = 200, description = "The key with its new secret", body = RotatedKey, headers(("ETag" = String))),
        (status = 404, description = "There is no such key"),
        (status = 409, description = "The secret or the Idempotency-Key is taken, or the key is declared by file"),
        (status = 412, description = "The key was changed meanwhile"),
        (status = 413, description = "The body is larger than 1 MiB"),
        (status = 415, description = "The body is not application/json"),
    ),
)]
pub async fn rotate_key(
    State(surface): State<Surface>,
    Extension(caller): Extension<Caller>,
    key: KeyInPath,
    sent: Sent,
) -> Result<Response, Refused> {
    no_query(sent.head.uri.query())?;
    let service = &surface.service;
    let once = sent.idempotency_key()?;
    let path = sent.head.uri.path();
    let once = once.map(|given| service.idempotent(&caller, given, "PUT", path, &sent.body)).transpose()?;
    let rotation = read_rotation(&sent)?;
    let condition = if_match(&sent.head.headers)?;
    match once {
        Some(call) => {
            let again = service.rotate_once(&caller, key.key(), condition, rotation, call, render).await?;
            Ok(given(StatusCode::OK, again))
        }
        None => {
            let made = service.rotate(&caller, key.key(), condition, rotation).await?;
            Ok(shown(StatusCode::OK, &made.view.etag(), render(&made)))
        }
    }
}

fn render(made: &Made) -> String {
    serde_json::to_string(&RotatedKey::from(made)).unwrap_or_default()
}

fn read_rotation(sent: &Sent) -> Result<Rotation, Refused> {
    let body = sent.json_or_empty()?;
    let mut faults = Faults::default();
    let mut members = Members::of_body(&body, &mut faults);
    let grace = members.nullable("grace_seconds", &mut faults, |item, faults| {
        u32::try_from(item.integer(0..=MOST_GRACE_S.into(), faults)?).ok()
    });
    let secret = members.nullable("key", &mut faults, read_secret).flatten();
    members.finish(&mut faults);
    faults.verdict()?;
    Ok(Rotation { grace_seconds: grace.flatten().unwrap_or(DEFAULT_GRACE_S), secret })
}

/// Ends the grace of every previous secret now.
#[utoipa::path(
    put,
    path = "/api/v1/gateway/keys/{key_id}/rotate/end",
    tag = "keys",
    params(KeyParams, IfMatchParams),
    responses(
        (status = 200, description = "The key as it is now", body = Key, headers(("ETag" = String))),
        (status = 404, description = "There is no such key"),
        (status = 409, description = "The key is declared by file"),
        (status = 412, description = "The key was changed meanwhile"),
    ),
)]
pub async fn end_grace(
    State(surface): State<Surface>,
    Extension(caller): Extension<Caller>,
    key: KeyInPath,
    sent: Sent,
) -> Result<Response, Refused> {
    no_query(sent.head.uri.query())?;
    sent.no_body()?;
    Ok(answer(&surface.service.end_grace(&caller, key.key(), if_match(&sent.head.headers)?).await?))
}

/// Switches a key off: its requests are refused, its streams end within a second.
#[utoipa::path(
    put,
    path = "/api/v1/gateway/keys/{key_id}/disable",
    tag = "keys",
    params(KeyParams, IfMatchParams),
    responses(
        (status = 200, description = "The key as it is now", body = Key, headers(("ETag" = String))),
        (status = 404, description = "There is no such key"),
        (status = 409, description = "The key is declared by file"),
        (status = 412, description = "The key was changed meanwhile"),
    ),
)]
pub async fn disable_key(
    State(surface): State<Surface>,
    Extension(caller): Extension<Caller>,
    key: KeyInPath,
    sent: Sent,
) -> Result<Response, Refused> {
    set_disabled(&surface, &caller, key, &sent, true).await
}

/// Switches a key on.
#[utoipa::path(
    put,
    path = "/api/v1/gateway/keys/{key_id}/enable",
    tag = "keys",
    params(KeyParams, IfMatchParams),
    responses(
        (status = 200, description = "The key as it is now", body = Key, headers(("ETag" = String))),
        (status = 404, description = "There is no such key"),
        (status = 409, description = "The key is declared by file"),
        (status = 412, description = "The key was changed meanwhile"),
    ),
)]
pub async fn enable_key(
    State(surface): State<Surface>,
    Extension(caller): Extension<Caller>,
    key: KeyInPath,
    sent: Sent,
) -> Result<Response, Refused> {
    set_disabled(&surface, &caller, key, &sent, false).await
}

async fn set_disabled(
    surface: &Surface,
    caller: &Caller,
    key: KeyInPath,
    sent: &Sent,
    is_disabled: bool,
) -> Result<Response, Refused> {
    no_query(sent.head.uri.query())?;
    sent.no_body()?;
    let condition = if_match(&sent.head.headers)?;
    Ok(answer(&surface.service.set_disabled(caller, key.key(), condition, is_disabled).await?))
}

/// Whether a request would be admitted now, and every check in the order of the data plane.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExplainResponse {
    /// Whether it would be admitted.
    pub admitted: bool,
    /// The first check that refuses it; null when none does.
    #[schema(required)]
    pub refused_by: Option<&'static str>,
    /// All checks, those after a refusal too.
    pub checks: Vec<Check>,
}

/// One check.
#[derive(Debug, Serialize, ToSchema)]
pub struct Check {
    /// `status`, `address`, `endpoint`, `model`, `upstream`, `quota`, `parallel`, `tokens` or `requests`.
    pub check: &'static str,
    /// `pass`, `clamp` (with less output than asked for), `refuse`, or `skip` (nothing to check).
    #[schema(schema_with = schema::verdict)]
    pub verdict: &'static str,
    /// The name of the refusal.
    #[schema(required)]
    pub reason: Option<&'static str>,
    /// What the key has.
    #[schema(required)]
    pub limit: Option<u64>,
    /// What is used or held of it.
    #[schema(required)]
    pub used: Option<u64>,
    /// What is left of it.
    #[schema(required)]
    pub remaining: Option<u64>,
    /// What the request would take.
    #[schema(required)]
    pub asked: Option<u64>,
    /// When all of it is there again.
    #[schema(required, format = DateTime)]
    pub resets_at: Option<String>,
    /// In words.
    pub message: String,
}

/// Would this be admitted now? Takes nothing.
#[utoipa::path(
    post,
    path = "/api/v1/gateway/keys/{key_id}/explain",
    tag = "keys",
    params(KeyParams),
    request_body = Option<ExplainRequest>,
    responses(
        (status = 200, description = "Every check", body = ExplainResponse),
        (status = 404, description = "There is no such key"),
        (status = 413, description = "The body is larger than 1 MiB"),
        (status = 415, description = "The body is not application/json"),
    ),
)]
pub async fn explain_key(
    State(surface): State<Surface>,
    Extension(caller): Extension<Caller>,
    key: KeyInPath,
    sent: Sent,
) -> Result<axum::Json<ExplainResponse>, Refused> {
    no_query(sent.head.uri.query())?;
    let probe = read_probe(&sent)?;
    let found = surface.service.explain(&caller, key.key(), probe).await?;
    Ok(axum::Json((&found).into()))
}

fn read_probe(sent: &Sent) -> Result<Probe, Refused> {
    let body = sent.json_or_empty()?;
    let mut faults = Faults::default();
    let mut members = Members::of_body(&body, &mut faults);
    let model = members.nullable("model", &mut faults, |item, faults| {
        item.parsed("a model name: 1 to 256 of A-Z a-z 0-9 . _ : / @ + -, without '..'", faults, ModelName::new)
    });
    let endpoint = members.nullable("endpoint", &mut faults, |item, faults| {
        item.parsed("an endpoint such as 'chat/completions' or '/v1/embeddings'", faults, endpoint)
    });
    let address = members.nullable("client_ip", &mut faults, |item, faults| {
        item.parsed("an IP address", faults, |text| text.parse().ok())
    });
    let prompt = members.nullable("prompt_tokens", &mut faults, |item, faults| item.integer(0..=MOST_TOKENS, faults));
    let output = members.nullable("max_output", &mut faults, |item, faults| item.integer(1..=MOST_TOKENS, faults));
    members.finish(&mut faults);
    faults.verdict()?;
    Ok(Probe {
        model: model.flatten(),
        endpoint: endpoint.flatten().unwrap_or(Endpoint::ChatCompletions),
        address: address.flatten(),
        prompt_tokens: prompt.flatten().unwrap_or(0),
        max_output: output.flatten(),
    })
}

/// The endpoint of this name; of a group or a pattern its first.
fn endpoint(name: &str) -> Option<Endpoint> {
    let exact = Endpoint::ALL.into_iter().find(|endpoint| endpoint.as_str() == name);
    let first = |rules: EndpointRules| {
        Endpoint::ALL.into_iter().find(|endpoint| endpoint.group().is_some() && rules.allows(*endpoint))
    };
    exact.or_else(|| first(EndpointRules::compile(&[name]).ok()?))
}

impl From<&Explanation> for ExplainResponse {
    fn from(found: &Explanation) -> Self {
        let refused = found.checks.iter().find(|check| check.verdict == service::Verdict::Refuse);
        Self {
            admitted: found.admitted,
            refused_by: refused.map(|check| check.name),
            checks: found.checks.iter().map(Into::into).collect(),
        }
    }
}

impl From<&service::Check> for Check {
    fn from(check: &service::Check) -> Self {
        Self {
            check: check.name,
            verdict: check.verdict.as_str(),
            reason: check.reason,
            limit: check.limit,
            used: check.used,
            remaining: check.remaining,
            asked: check.asked,
            resets_at: check.resets_at_ms.map(rfc3339),
            message: check.message.clone(),
        }
    }
}
