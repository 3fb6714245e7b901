//! What concerns no single key: the audit, the models, the reload, the books.

use axum::Extension;
use axum::extract::{RawQuery, State};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::admin::native::keys::no_query;
use crate::admin::native::query::Query;
use crate::admin::native::refused::Refused;
use crate::admin::native::request::Sent;
use crate::admin::native::schema::{self, AuditParams};
use crate::admin::service::{Caller, KeyFields};
use crate::admin::surface::Surface;
use crate::admin::times::rfc3339;
use crate::store::audit::AuditRow;
use crate::store::{AuditQuery, Books};

/// Who changed what.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditList {
    /// Newest first.
    pub items: Vec<AuditItem>,
    /// Where the next page begins; null on the last page.
    #[schema(required, schema_with = schema::cursor_or_null)]
    pub next_cursor: Option<String>,
}

/// One change.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditItem {
    /// Ascending with time.
    pub id: i64,
    /// When.
    #[schema(format = DateTime)]
    pub at: String,
    /// Who: an operator's name, or `file` for what a reload of the key file changed.
    pub operator: String,
    /// Which API: `native`, `apig`, `newapi`, `file`.
    pub via: String,
    /// What was done.
    pub action: String,
    /// To which key.
    #[schema(required)]
    pub key_id: Option<String>,
    /// The key's organisation then.
    #[schema(required)]
    pub org_id: Option<String>,
    /// The key's team then.
    #[schema(required)]
    pub team_id: Option<String>,
    /// From where.
    #[schema(required)]
    pub address: Option<String>,
    /// The members that changed, as they were; never a secret.
    #[schema(required, schema_with = schema::object_or_null)]
    pub before: Option<Value>,
    /// The same, as they became.
    #[schema(required, schema_with = schema::object_or_null)]
    pub after: Option<Value>,
}

/// Who changed what, newest first.
#[utoipa::path(
    get,
    path = "/api/v1/gateway/audit",
    tag = "audit",
    params(AuditParams),
    responses((status = 200, description = "The changes", body = AuditList)),
)]
pub async fn audit(
    State(surface): State<Surface>,
    Extension(caller): Extension<Caller>,
    RawQuery(raw): RawQuery,
) -> Result<axum::Json<AuditList>, Refused> {
    let mut query = Query::new(raw.as_deref());
    let limit = query.integer("limit", 1..=1_000).and_then(|limit| usize::try_from(limit).ok()).unwrap_or(100);
    let asked = AuditQuery {
        key: query.key_id("key_id"),
        org_id: query.text("org_id", KeyFields::LONGEST_OWNER),
        team_id: query.text("team_id", KeyFields::LONGEST_OWNER),
        operator: query.text("operator", 100),
        action: query.text("action", 100),
        from_ms: query.moment("from"),
        to_ms: query.moment("to"),
        before_number: query.parsed("cursor", "Input should be a next_cursor", read_cursor),
        limit,
    };
    query.verdict()?;
    let page = surface.service.audit(&caller, asked).await?;
    let last = page.entries.last().filter(|_| page.has_more);
    let next_cursor = last.map(|row| format!("{:016x}", row.number.cast_unsigned()));
    Ok(axum::Json(AuditList { items: page.entries.iter().map(Into::into).collect(), next_cursor }))
}

fn read_cursor(text: &str) -> Option<i64> {
    let is_ours = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    u64::from_str_radix(text, 16).ok().filter(|_| is_ours).map(u64::cast_signed)
}

impl From<&AuditRow> for AuditItem {
    fn from(row: &AuditRow) -> Self {
        let json = |text: &Option<String>| text.as_deref().and_then(|text| serde_json::from_str(text).ok());
        Self {
            id: row.number,
            at: rfc3339(row.at_ms),
            operator: row.operator.clone(),
            via: row.via.clone(),
            action: row.action.clone(),
            key_id: row.key.map(|key| key.to_string()),
            org_id: row.org_id.clone(),
            team_id: row.team_id.clone(),
            address: row.address.clone(),
            before: json(&row.before),
            after: json(&row.after),
        }
    }
}

/// The models that have a name of their own.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ModelListResponse)]
pub struct ModelList {
    /// By name.
    pub items: Vec<ModelInfo>,
    /// How many there are.
    pub total: usize,
}

/// A model.
#[derive(Debug, Serialize, ToSchema)]
pub struct ModelInfo {
    /// As clients name it.
    pub id: String,
    /// The upstream that serves it; null for a token that is bound.
    #[schema(required)]
    pub upstream: Option<String>,
    /// By which APIs.
    pub dialects: Vec<&'static str>,
}

/// What upstreams serve. A pattern names no model, so what only a pattern allows is not listed.
#[utoipa::path(
    get,
    path = "/api/v1/gateway/models",
    tag = "operations",
    responses((status = 200, description = "The models", body = ModelList)),
)]
pub async fn models(
    State(surface): State<Surface>,
    Extension(caller): Extension<Caller>,
    RawQuery(raw): RawQuery,
) -> Result<axum::Json<ModelList>, Refused> {
    no_query(raw.as_deref())?;
    let found = surface.service.models(&caller);
    let items: Vec<_> = found
        .into_iter()
        .map(|model| ModelInfo {
            id: model.id,
            upstream: model.upstream,
            dialects: model.dialects.iter().map(|dialect| dialect.as_str()).collect(),
        })
        .collect();
    Ok(axum::Json(ModelList { total: items.len(), items }))
}

/// What a reload came to.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReloadVerdict {
    /// Whether the files are in force now; if not, everything is as it was.
    pub applied: bool,
    /// Every fault, with file, line and path.
    pub faults: Vec<String>,
    /// Settings in force that only a restart puts into effect.
    pub needs_restart: Vec<String>,
}

/// Reads configuration and key file anew. For tokens that may write and are not bound.
#[utoipa::path(
    post,
    path = "/api/v1/gateway/config/reload",
    tag = "operations",
    responses((status = 200, description = "The verdict, a refusal of the files too", body = ReloadVerdict)),
)]
pub async fn reload(
    State(surface): State<Surface>,
    Extension(caller): Extension<Caller>,
    sent: Sent,
) -> Result<axum::Json<ReloadVerdict>, Refused> {
    no_query(sent.head.uri.query())?;
    sent.no_body()?;
    let verdict = surface.service.reload(&caller).await?;
    let needs_restart = surface.service.program().needs_restart();
    let faults = verdict.as_ref().err().cloned().unwrap_or_default();
    Ok(axum::Json(ReloadVerdict { applied: verdict.is_ok(), faults, needs_restart }))
}

/// Whether the books agree.
#[derive(Debug, Serialize, ToSchema)]
pub struct LedgerVerdict {
    /// Whether everything agrees.
    pub ok: bool,
    /// Keys with a count.
    pub keys: u64,
    /// Records.
    pub records: u64,
    /// Requests they stand for.
    pub requests: u64,
    /// Units of them all.
    pub units: u64,
    /// What does not agree.
    pub mismatches: Vec<LedgerMismatch>,
}

/// Two numbers that should be one.
#[derive(Debug, Serialize, ToSchema)]
pub struct LedgerMismatch {
    /// Whose.
    #[schema(required)]
    pub key_id: Option<String>,
    /// What is compared.
    pub what: &'static str,
    /// The first.
    pub counted: u64,
    /// The second.
    pub summed: u64,
}

/// Recomputes the books: what limits enforce, what is recorded, the sum of the records. For tokens that are not bound.
#[utoipa::path(
    get,
    path = "/api/v1/gateway/ledger",
    tag = "operations",
    responses((status = 200, description = "The verdict", body = LedgerVerdict)),
)]
pub async fn ledger(
    State(surface): State<Surface>,
    Extension(caller): Extension<Caller>,
    RawQuery(raw): RawQuery,
) -> Result<axum::Json<LedgerVerdict>, Refused> {
    no_query(raw.as_deref())?;
    Ok(axum::Json((&surface.service.books(&caller).await?).into()))
}

impl From<&Books> for LedgerVerdict {
    fn from(books: &Books) -> Self {
        let mismatches: Vec<_> = books
            .mismatches
            .iter()
            .map(|mismatch| LedgerMismatch {
                key_id: mismatch.key.map(|key| key.to_string()),
                what: mismatch.what,
                counted: mismatch.counted,
                summed: mismatch.summed,
            })
            .collect();
        Self {
            ok: mismatches.is_empty(),
            keys: books.keys,
            records: books.records,
            requests: books.requests,
            units: books.units,
            mismatches,
        }
    }
}
