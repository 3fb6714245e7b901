//! Keys: listed, made, shown, changed, removed.

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::admin::native::body::Listing;
use crate::admin::native::fields::Patch;
use crate::admin::native::key::{Key, KeyList};
use crate::admin::native::path::KeyInPath;
use crate::admin::native::query::Query;
use crate::admin::native::refused::Refused;
use crate::admin::native::request::{Sent, if_match};
use crate::admin::native::schema::{
    IdempotencyParams, IfMatchParams, KeyCreateRequest, KeyParams, KeyUpdateRequest, ListParams,
};
use crate::admin::service::{Caller, Given, KeyFields, KeyView, ListQuery, Made, NewKey};
use crate::admin::surface::Surface;
use crate::policy::KeyStatus;
use crate::store::{KeyFilter, Order, PageFrom, StatusFilter};
use crate::units::ModelName;

/// The largest page.
pub const LARGEST_PAGE: usize = 1_000;

/// Every key the token may see, newest first, or a page of those that are asked for.
#[utoipa::path(
    get,
    path = "/api/v1/gateway/keys",
    tag = "keys",
    params(ListParams),
    responses((status = 200, description = "The keys, newest first", body = KeyList)),
)]
pub async fn list_keys(
    State(surface): State<Surface>,
    Extension(caller): Extension<Caller>,
    axum::extract::RawQuery(raw): axum::extract::RawQuery,
) -> Result<Response, Refused> {
    let mut query = Query::new(raw.as_deref());
    let limit = query.integer("limit", 1..=LARGEST_PAGE as u64).and_then(|limit| usize::try_from(limit).ok());
    let from = query.parsed("cursor", "Input should be a next_cursor", read_cursor);
    let clock = surface.service.clock();
    let (at_ms, certain_ms) = (clock.now().unix_ms, clock.certain().unix_ms);
    let status = query.one_of("status", &KeyStatus::ALL.map(|status| (status.as_str(), status)));
    let filter = KeyFilter {
        org_id: query.text("org_id", KeyFields::LONGEST_OWNER),
        team_id: query.text("team_id", KeyFields::LONGEST_OWNER),
        name_contains: query.text("name", KeyFields::LONGEST_NAME),
        prefix: query.text("prefix", 128),
        model: query.parsed("model", "Input should be a model name", |text| ModelName::new(text).map(|_| text.into())),
        is_sandbox: query.boolean("is_sandbox"),
        status: status.map(|status| StatusFilter { status, at_ms, certain_ms }),
        ..KeyFilter::default()
    };
    query.verdict()?;
    let from = from.unwrap_or(PageFrom::Offset(0));
    let Some(limit) = limit else {
        return Listing::start(surface, caller, filter, from).await;
    };
    // One more than asked for tells whether there is a next page.
    let ask = ListQuery { filter, order: Order::NewestFirst, from, limit: limit + 1 };
    let mut found = surface.service.list(&caller, ask).await?;
    let is_last = found.keys.len() <= limit;
    found.keys.truncate(limit);
    let next = found.keys.last().filter(|_| !is_last).map(cursor);
    let items = found.keys.iter().map(Key::from).collect();
    Ok(axum::Json(KeyList { items, total: found.total, next_cursor: Some(next) }).into_response())
}

/// Makes a key. The answer holds its secret in clear, this once.
#[utoipa::path(
    post,
    path = "/api/v1/gateway/keys",
    tag = "keys",
    params(IdempotencyParams),
    request_body = KeyCreateRequest,
    responses(
        (status = 201, description = "The key with its secret", body = Key, headers(("ETag" = String))),
        (status = 409, description = "The secret or the Idempotency-Key is taken"),
        (status = 413, description = "The body is larger than 1 MiB"),
        (status = 415, description = "The body is not application/json"),
    ),
)]
pub async fn create_key(
    State(surface): State<Surface>,
    Extension(caller): Extension<Caller>,
    sent: Sent,
) -> Result<Response, Refused> {
    no_query(sent.head.uri.query())?;
    let service = &surface.service;
    let once = sent.idempotency_key()?;
    let path = sent.head.uri.path();
    let once = once.map(|key| service.idempotent(&caller, key, "POST", path, &sent.body)).transpose()?;
    let mut patch = Patch::for_create(&sent.json()?)?;
    let secret = patch.secret();
    let mut fields = KeyFields::named("");
    patch.apply(&mut fields)?;
    let new = NewKey { fields, secret };
    match once {
        Some(call) => Ok(given(StatusCode::CREATED, service.create_once(&caller, new, call, render).await?)),
        None => {
            let made = service.create(&caller, new).await?;
            Ok(shown(StatusCode::CREATED, &made.view.etag(), render(&made)))
        }
    }
}

/// One key.
#[utoipa::path(
    get,
    path = "/api/v1/gateway/keys/{key_id}",
    tag = "keys",
    params(KeyParams),
    responses(
        (status = 200, description = "The key", body = Key, headers(("ETag" = String))),
        (status = 404, description = "There is no such key"),
    ),
)]
pub async fn get_key(
    State(surface): State<Surface>,
    Extension(caller): Extension<Caller>,
    key: KeyInPath,
    axum::extract::RawQuery(raw): axum::extract::RawQuery,
) -> Result<Response, Refused> {
    no_query(raw.as_deref())?;
    Ok(answer(&surface.service.get(&caller, key.key()).await?))
}

/// Changes a key: only the fields present change, and null clears.
#[utoipa::path(
    put,
    path = "/api/v1/gateway/keys/{key_id}",
    tag = "keys",
    params(KeyParams, IfMatchParams),
    request_body = KeyUpdateRequest,
    responses(
        (status = 200, description = "The key as it is now", body = Key, headers(("ETag" = String))),
        (status = 404, description = "There is no such key"),
        (status = 409, description = "The key is declared by file, or has no quota_limit for the quota_reset"),
        (status = 412, description = "The key was changed meanwhile"),
        (status = 413, description = "The body is larger than 1 MiB"),
        (status = 415, description = "The body is not application/json"),
    ),
)]
pub async fn update_key(
    State(surface): State<Surface>,
    Extension(caller): Extension<Caller>,
    key: KeyInPath,
    sent: Sent,
) -> Result<Response, Refused> {
    no_query(sent.head.uri.query())?;
    let patch = Patch::for_update(&sent.json()?)?;
    let condition = if_match(&sent.head.headers)?;
    let edit = move |fields: &mut KeyFields, _: &KeyView| patch.apply(fields);
    Ok(answer(&surface.service.edit(&caller, key.key(), condition, "key.update", edit).await?))
}

/// Removes a key. What it used stays known.
#[utoipa::path(
    delete,
    path = "/api/v1/gateway/keys/{key_id}",
    tag = "keys",
    params(KeyParams, IfMatchParams),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "There is no such key"),
        (status = 409, description = "The key is declared by file"),
        (status = 412, description = "The key was changed meanwhile"),
    ),
)]
pub async fn delete_key(
    State(surface): State<Surface>,
    Extension(caller): Extension<Caller>,
    key: KeyInPath,
    sent: Sent,
) -> Result<StatusCode, Refused> {
    no_query(sent.head.uri.query())?;
    sent.no_body()?;
    surface.service.delete(&caller, key.key(), if_match(&sent.head.headers)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Refuses every parameter.
pub fn no_query(raw: Option<&str>) -> Result<(), Refused> {
    Query::new(raw).verdict()
}

/// A key with its entity tag.
pub fn answer(view: &KeyView) -> Response {
    let body = serde_json::to_string(&Key::from(view)).unwrap_or_default();
    shown(StatusCode::OK, &view.etag(), body)
}

/// An answer with its entity tag.
pub fn shown(status: StatusCode, etag: &str, body: String) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Ok(etag) = HeaderValue::from_str(etag) {
        headers.insert(header::ETAG, etag);
    }
    (status, headers, body).into_response()
}

/// An answer to a call that may be made again.
pub fn given(status: StatusCode, given: Given) -> Response {
    let mut response = shown(status, &given.etag, given.body);
    if given.is_repeated {
        response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
    }
    response
}

fn render(made: &Made) -> String {
    serde_json::to_string(&Key::from(made)).unwrap_or_default()
}

/// Where the page after this key begins: its time of creation and its number.
pub fn cursor(last: &KeyView) -> String {
    format!("{:016x}{:016x}", last.created_at_ms.cast_unsigned(), last.number.cast_unsigned())
}

fn read_cursor(text: &str) -> Option<PageFrom> {
    let is_ours = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let (created, number) = text.split_at_checked(16).filter(|_| is_ours)?;
    let read = |part| u64::from_str_radix(part, 16).ok().map(u64::cast_signed);
    Some(PageFrom::After { created_at_ms: read(created)?, number: read(number)? })
}
