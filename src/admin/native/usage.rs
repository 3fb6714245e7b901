//! What was used: sums as JSON or CSV, and figures for people.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::admin::native::csv;
use crate::admin::native::path::KeyInPath;
use crate::admin::native::query::Query;
use crate::admin::native::refused::Refused;
use crate::admin::native::schema::{self, DashboardParams, KeyParams, KeyUsageParams, UsageParams};
use crate::admin::service::{Caller, KeyFields, Share};
use crate::admin::surface::Surface;
use crate::admin::times::rfc3339;
use crate::store::{GroupBy, UsageQuery, UsageRow};

const MS_PER_HOUR: i64 = 3_600_000;

/// What is summed up when nothing is said: the last 30 days.
const DEFAULT_SPAN_MS: i64 = 30 * 86_400_000;

/// The ways to sum up, by name.
pub const GROUPS: [(&str, GroupBy); 8] = [
    ("key", GroupBy::Key),
    ("model", GroupBy::Model),
    ("team", GroupBy::Team),
    ("org", GroupBy::Org),
    ("day", GroupBy::Day),
    ("hour", GroupBy::Hour),
    ("endpoint", GroupBy::Endpoint),
    ("total", GroupBy::Total),
];

/// Sums of what was used.
#[derive(Debug, Serialize, ToSchema)]
pub struct UsageResponse {
    /// Not before.
    #[schema(format = DateTime)]
    pub from: String,
    /// Before.
    #[schema(format = DateTime)]
    pub to: String,
    /// How it is summed up.
    #[schema(schema_with = schema::group_by)]
    pub group_by: &'static str,
    /// In the order of their group.
    pub items: Vec<UsageSum>,
}

/// One sum.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UsageRow)]
pub struct UsageSum {
    /// The key's id, a name, a day, an hour; empty for none and for the total.
    pub group: String,
    /// The key's name, when summed up by key.
    #[schema(required)]
    pub name: Option<String>,
    /// Requests, whatever became of them.
    pub requests: u64,
    /// Those that were refused, by the refusal's name.
    pub refusals: BTreeMap<String, u64>,
    /// Those that ended in an upstream's error or a fault.
    pub errors: u64,
    /// Those whose usage was estimated.
    pub estimated: u64,
    /// Tokens.
    pub input_tokens: u64,
    /// Those of them that were read from a cache.
    pub cached_input_tokens: u64,
    /// Tokens.
    pub output_tokens: u64,
    /// Quota units.
    pub units: u64,
    /// Half of the answers began within so many milliseconds; null when there was none.
    #[schema(required)]
    pub first_byte_p50_ms: Option<f64>,
    /// 99 in a hundred.
    #[schema(required)]
    pub first_byte_p99_ms: Option<f64>,
    /// Half of the requests were over within so many milliseconds.
    #[schema(required)]
    pub duration_p50_ms: Option<f64>,
    /// 99 in a hundred.
    #[schema(required)]
    pub duration_p99_ms: Option<f64>,
}

/// Figures of a time.
#[derive(Debug, Serialize, ToSchema)]
pub struct DashboardResponse {
    /// Not before.
    #[schema(format = DateTime)]
    pub from: String,
    /// Before.
    #[schema(format = DateTime)]
    pub to: String,
    /// All in one.
    pub totals: UsageSum,
    /// By day, ascending; days without a request are left out.
    pub daily_trend: Vec<DailyTrend>,
    /// The largest first.
    pub model_distribution: Vec<ModelDistribution>,
    /// The largest first.
    pub team_cost: Vec<TeamCostItem>,
    /// The largest first.
    pub top_keys: Vec<TopKey>,
}

/// One day.
#[derive(Debug, Serialize, ToSchema)]
pub struct DailyTrend {
    /// UTC.
    pub date: String,
    /// Requests.
    pub requests: u64,
    /// Those that ended in an error.
    pub errors: u64,
    /// Tokens.
    pub input_tokens: u64,
    /// Tokens.
    pub output_tokens: u64,
    /// Quota units.
    pub units: u64,
}

/// One model's part.
#[derive(Debug, Serialize, ToSchema)]
pub struct ModelDistribution {
    /// As clients asked for it; empty where they named none.
    pub model: String,
    /// Requests.
    pub requests: u64,
    /// Tokens.
    pub input_tokens: u64,
    /// Tokens.
    pub output_tokens: u64,
    /// Quota units.
    pub units: u64,
    /// Of all units, 0 to 1; of all requests where nothing was billed.
    pub share: f64,
}

/// One team's part.
#[derive(Debug, Serialize, ToSchema)]
pub struct TeamCostItem {
    /// Null for what belongs to no team.
    #[schema(required)]
    pub team_id: Option<String>,
    /// Requests.
    pub requests: u64,
    /// Quota units.
    pub units: u64,
    /// Of all units, 0 to 1; of all requests where nothing was billed.
    pub share: f64,
}

/// A key that used much.
#[derive(Debug, Serialize, ToSchema)]
pub struct TopKey {
    /// The key.
    pub key_id: String,
    /// Its name; null when the caller may not see the key any more.
    #[schema(required)]
    pub name: Option<String>,
    /// Requests.
    pub requests: u64,
    /// Tokens.
    pub input_tokens: u64,
    /// Tokens.
    pub output_tokens: u64,
    /// Quota units.
    pub units: u64,
}

/// What was used, summed up. With `Accept: text/csv` as CSV.
#[utoipa::path(
    get,
    path = "/api/v1/gateway/usage",
    tag = "usage",
    params(UsageParams),
    responses((
        status = 200,
        description = "The sums",
        content((UsageResponse = "application/json"), (String = "text/csv")),
    )),
)]
pub async fn usage(
    State(surface): State<Surface>,
    Extension(caller): Extension<Caller>,
    RawQuery(raw): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let mut query = Query::new(raw.as_deref());
    let mut asked = read(&mut query, &surface);
    asked.key = query.key_id("key_id");
    asked.team_id = query.text("team_id", KeyFields::LONGEST_OWNER);
    asked.org_id = query.text("org_id", KeyFields::LONGEST_OWNER);
    query.verdict()?;
    let rows =
        if asked.from_ms < asked.to_ms { surface.service.usage(&caller, asked.clone()).await? } else { Vec::new() };
    Ok(render(&asked, &rows, &headers))
}

/// What one key used, summed up; of a removed key too. With `Accept: text/csv` as CSV.
#[utoipa::path(
    get,
    path = "/api/v1/gateway/keys/{key_id}/usage",
    tag = "usage",
    params(KeyParams, KeyUsageParams),
    responses(
        (
            status = 200,
            description = "The sums",
            content((UsageResponse = "application/json"), (String = "text/csv")),
        ),
        (status = 404, description = "There is no such key, and none was"),
    ),
)]
pub async fn key_usage(
    State(surface): State<Surface>,
    Extension(caller): Extension<Caller>,
    key: KeyInPath,
    RawQuery(raw): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let mut query = Query::new(raw.as_deref());
    let asked = read(&mut query, &surface);
    query.verdict()?;
    let mut rows = surface.service.usage_of(&caller, key.0, asked.clone()).await?;
    if asked.from_ms >= asked.to_ms {
        rows.clear();
    }
    Ok(render(&asked, &rows, &headers))
}

/// Figures for people: totals, the days, the models, the teams, the keys that used most.
#[utoipa::path(
    get,
    path = "/api/v1/gateway/usage/dashboard",
    tag = "usage",
    params(DashboardParams),
    responses((status = 200, description = "The figures", body = DashboardResponse)),
)]
pub async fn dashboard(
    State(surface): State<Surface>,
    Extension(caller): Extension<Caller>,
    RawQuery(raw): RawQuery,
) -> Result<axum::Json<DashboardResponse>, Refused> {
    let mut query = Query::new(raw.as_deref());
    let (from_ms, to_ms) = span(&mut query, &surface);
    let top = query.integer("top", 1..=100).and_then(|top| usize::try_from(top).ok()).unwrap_or(10);
    query.verdict()?;
    let found = match from_ms < to_ms {
        true => surface.service.dashboard(&caller, from_ms, to_ms, top).await?,
        false => crate::admin::service::Dashboard::default(),
    };
    Ok(axum::Json(DashboardResponse {
        from: rfc3339(from_ms),
        to: rfc3339(to_ms),
        totals: (&found.totals).into(),
        daily_trend: found.days.iter().map(Into::into).collect(),
        model_distribution: found.models.iter().map(Into::into).collect(),
        team_cost: found.teams.iter().map(Into::into).collect(),
        top_keys: found.keys.iter().map(Into::into).collect(),
    }))
}

fn span(query: &mut Query, surface: &Surface) -> (i64, i64) {
    let now_ms = surface.service.clock().now().unix_ms;
    let (from, to) = (query.moment("from"), query.moment("to"));
    // Up to the next millisecond, so that what was settled in this one is in it.
    let to_ms = to.unwrap_or(now_ms.saturating_add(1));
    let from_ms = from.unwrap_or(to_ms.saturating_sub(DEFAULT_SPAN_MS));
    // An empty span has nothing in it, and rounding must not give it an hour.
    if from_ms < to_ms { (hour(from_ms), hour(to_ms.saturating_add(MS_PER_HOUR - 1))) } else { (from_ms, to_ms) }
}

/// The hour `unix_ms` lies in: usage is summed by hours, and the answer says which of them it counts.
fn hour(unix_ms: i64) -> i64 {
    unix_ms.saturating_sub(unix_ms.rem_euclid(MS_PER_HOUR))
}

fn read(query: &mut Query, surface: &Surface) -> UsageQuery {
    let (from_ms, to_ms) = span(query, surface);
    let group_by = query.one_of("group_by", &GROUPS).unwrap_or(GroupBy::Day);
    UsageQuery { from_ms, to_ms, group_by, key: None, team_id: None, org_id: None }
}

fn render(asked: &UsageQuery, rows: &[UsageRow], headers: &HeaderMap) -> Response {
    if csv::is_preferred(headers) {
        let kind = HeaderValue::from_static("text/csv; charset=utf-8; header=present");
        let name = HeaderValue::from_static("attachment; filename=\"usage.csv\"");
        let head = [(header::CONTENT_TYPE, kind), (header::CONTENT_DISPOSITION, name)];
        return (head, csv::usage(rows)).into_response();
    }
    let group_by = GROUPS.iter().find(|(_, group)| *group == asked.group_by).map_or("", |(name, _)| *name);
    let items = rows.iter().map(UsageSum::from).collect();
    axum::Json(UsageResponse { from: rfc3339(asked.from_ms), to: rfc3339(asked.to_ms), group_by, items })
        .into_response()
}

impl From<&UsageRow> for UsageSum {
    fn from(row: &UsageRow) -> Self {
        Self {
            group: row.group.clone(),
            name: row.name.clone(),
            requests: row.requests,
            refusals: row.refusals.iter().cloned().collect(),
            errors: row.errors,
            estimated: row.estimated,
            input_tokens: row.input_tokens,
            cached_input_tokens: row.cached_input_tokens,
            output_tokens: row.output_tokens,
            units: row.units,
            first_byte_p50_ms: row.first_byte_p50_ms,
            first_byte_p99_ms: row.first_byte_p99_ms,
            duration_p50_ms: row.duration_p50_ms,
            duration_p99_ms: row.duration_p99_ms,
        }
    }
}

impl From<&UsageRow> for DailyTrend {
    fn from(row: &UsageRow) -> Self {
        Self {
            date: row.group.clone(),
            requests: row.requests,
            errors: row.errors,
            input_tokens: row.input_tokens,
            output_tokens: row.output_tokens,
            units: row.units,
        }
    }
}

impl From<&Share> for ModelDistribution {
    fn from(Share { row, share }: &Share) -> Self {
        Self {
            model: row.group.clone(),
            requests: row.requests,
            input_tokens: row.input_tokens,
            output_tokens: row.output_tokens,
            units: row.units,
            share: *share,
        }
    }
}

impl From<&Share> for TeamCostItem {
    fn from(Share { row, share }: &Share) -> Self {
        let team_id = Some(row.group.clone()).filter(|team| !team.is_empty());
        Self { team_id, requests: row.requests, units: row.units, share: *share }
    }
}

impl From<&UsageRow> for TopKey {
    fn from(row: &UsageRow) -> Self {
        Self {
            key_id: row.group.clone(),
            name: row.name.clone(),
            requests: row.requests,
            input_tokens: row.input_tokens,
            output_tokens: row.output_tokens,
            units: row.units,
        }
    }
}
