//! Tokens as CometAPI and the new-api family have them (ADMIN 3). Everything but missing or bad authentication is answered with 200; whether
//! it went well is told by `success`. What that family has and we have not, and the other way round:
//!
//! * Members of a body that are unknown are passed over, as there: its tools send back whole tokens. `key`, `user_id` and the like
//!   cannot be set.
//! * `remain_quota + used_quota` is our `quota_limit`. A token with nothing used and nothing left has a quota of 0, which no other API
//!   can set: exhausted at once. A quota that starts anew (`quota_reset`) keeps doing so; its figures are those of the period.
//! * A list of models that is switched on must not be empty, since here an empty list allows every model.
//! * A name must not be empty. One that is longer than the family's 50 bytes, given by another API, may be sent back as it is.
//! * `status` is computed. Of a whole update it is not read; `status_only` takes 1 and 2.
//! * A secret is known by its digest: tokens are searched by a whole secret, or with `%` at the end by its first characters.
//! * A token that a batch names and that cannot be deleted is not counted.
//! * There are no users: `user_id` is always 1.

mod form;
mod page;
mod refused;
mod token;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{Extensions, HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Serialize;
use std::collections::BTreeSet;

use self::form::Form;
use self::page::Pages;
use self::refused::Refused;
use self::token::Token;
use crate::admin::service::{Caller, IfMatch, KeyFields, KeyView, ListQuery, NewKey, ServiceFault};
use crate::admin::surface::Surface;
use crate::admin::vendors::{self, parameter};
use crate::keys::secret::Secret;
use crate::store::{KeyFilter, KeyRef, Order, PageFrom};

/// The most tokens that a batch names.
const MOST_IN_BATCH: usize = 100;

/// The routes. The family's own router forgives a slash at the end, so this does.
pub fn router(surface: Surface) -> Router {
    let all = get(list).post(create).put(update);
    let one = get(show).delete(delete);
    Router::new()
        .route("/api/token", all.clone())
        .route("/api/token/", all)
        .route("/api/token/search", get(search))
        .route("/api/token/search/", get(search))
        .route("/api/token/batch", post(delete_batch))
        .route("/api/token/batch/", post(delete_batch))
        .route("/api/token/{id}", one.clone())
        .route("/api/token/{id}/", one)
        .method_not_allowed_fallback(|| async { Refused::NotOffered })
        .with_state(surface)
}

/// An answer that went well.
#[derive(Debug, Serialize)]
struct Answer<T> {
    success: bool,
    message: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<T>,
}

fn done<T: Serialize>(data: Option<T>) -> Response {
    axum::Json(Answer { success: true, message: "", data }).into_response()
}

/// Who calls: the token stands in the header as it is, or behind `Bearer`.
fn caller(surface: &Surface, headers: &HeaderMap, extensions: &Extensions) -> Result<Caller, Refused> {
    if vendors::is_from_a_page(headers) {
        return Err(Refused::Forbidden);
    }
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().filter(|_| values.next().is_none());
    let token = value.and_then(|value| token_of(value.as_bytes()));
    Ok(vendors::caller(surface, token, extensions, "newapi")?)
}

fn token_of(value: &[u8]) -> Option<&[u8]> {
    let mut words = value.split(|b| *b == b' ' || *b == b'\t').filter(|word| !word.is_empty());
    match (words.next(), words.next(), words.next()) {
        (Some(token), None, None) => Some(token),
        (Some(scheme), Some(token), None) if scheme.eq_ignore_ascii_case(b"bearer") => Some(token),
        _ => None,
    }
}

async fn list(
    State(surface): State<Surface>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    extensions: Extensions,
) -> Result<Response, Refused> {
    let caller = caller(&surface, &headers, &extensions)?;
    listed(&surface, &caller, query.as_deref(), KeyFilter::default()).await
}

async fn search(
    State(surface): State<Surface>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    extensions: Extensions,
) -> Result<Response, Refused> {
    let caller = caller(&surface, &headers, &extensions)?;
    let given = |name| parameter(query.as_deref(), name).filter(|text| !text.is_empty());
    let mut filter = KeyFilter::default();
    if let Some(keyword) = given("keyword") {
        page::check_pattern(&keyword)?;
        filter.name_like = Some(keyword.into());
    }
    if let Some(token) = given("token") {
        page::check_pattern(&token)?;
        match token.strip_suffix('%') {
            Some(start) if !start.contains('%') => filter.prefix = Some(start.into()),
            _ if token.contains('%') => {
                return Err(Refused::invalid("token: only its first characters can be searched for (`sk-kw-ab%`)"));
            }
            _ => filter.secret = Some(surface.service.digest(&Secret::new(token))),
        }
    }
    listed(&surface, &caller, query.as_deref(), filter).await
}

async fn listed(
    surface: &Surface,
    caller: &Caller,
    query: Option<&str>,
    filter: KeyFilter,
) -> Result<Response, Refused> {
    let pages = Pages::read(query);
    let from = PageFrom::Offset(pages.offset());
    let asked = ListQuery { filter, order: Order::NumberDescending, from, limit: pages.size() };
    let listing = surface.service.list(caller, asked).await?;
    Ok(done(Some(pages.filled(listing.total, listing.keys.iter().map(Token::of).collect()))))
}

type Id = Result<Path<String>, PathRejection>;

/// The token that the path names.
fn named(id: Id) -> Result<KeyRef, Refused> {
    let id = id.ok().and_then(|Path(id)| id.parse().ok()).ok_or(Refused::InvalidId)?;
    Ok(KeyRef::Number(id))
}

async fn show(
    State(surface): State<Surface>,
    id: Id,
    headers: HeaderMap,
    extensions: Extensions,
) -> Result<Response, Refused> {
    let caller = caller(&surface, &headers, &extensions)?;
    Ok(done(Some(Token::of(&surface.service.get(&caller, named(id)?).await?))))
}

async fn create(
    State(surface): State<Surface>,
    headers: HeaderMap,
    extensions: Extensions,
    body: Body,
) -> Result<Response, Refused> {
    let caller = caller(&surface, &headers, &extensions)?;
    let form = Form::read(&vendors::body(&headers, body).await?)?;
    let mut fields = KeyFields::named("");
    form.apply(&mut fields, None)?;
    let made = surface.service.create(&caller, NewKey { fields, secret: None }).await?;
    let shows = surface.vendors.newapi().create_returns_data;
    Ok(done(shows.then(|| Token::in_clear(&made.view, &made.secret))))
}

async fn update(
    State(surface): State<Surface>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    extensions: Extensions,
    body: Body,
) -> Result<Response, Refused> {
    let caller = caller(&surface, &headers, &extensions)?;
    let is_status_only = parameter(query.as_deref(), "status_only").is_some_and(|text| !text.is_empty());
    let form = Form::read(&vendors::body(&headers, body).await?)?;
    let key = match form.id {
        0 => return Err(Refused::NoId),
        id => KeyRef::Number(id),
    };
    let now_ms = surface.service.clock().now().unix_ms;
    let edited = if is_status_only {
        let is_enabled = form.is_enabled()?;
        let action = if is_enabled { "key.enable" } else { "key.disable" };
        let switch = move |fields: &mut KeyFields, view: &KeyView| {
            if is_enabled {
                token::check_enabling(view, now_ms)?;
            }
            fields.is_disabled = !is_enabled;
            Ok::<(), Refused>(())
        };
        surface.service.edit(&caller, key, IfMatch::Always, action, switch).await?
    } else {
        let change = move |fields: &mut KeyFields, view: &KeyView| form.apply(fields, Some(view));
        surface.service.edit(&caller, key, IfMatch::Always, "key.update", change).await?
    };
    Ok(done(Some(Token::of(&edited))))
}

async fn delete(
    State(surface): State<Surface>,
    id: Id,
    headers: HeaderMap,
    extensions: Extensions,
) -> Result<Response, Refused> {
    let caller = caller(&surface, &headers, &extensions)?;
    surface.service.delete(&caller, named(id)?, IfMatch::Always).await?;
    Ok(done(None::<()>))
}

async fn delete_batch(
    State(surface): State<Surface>,
    headers: HeaderMap,
    extensions: Extensions,
    body: Body,
) -> Result<Response, Refused> {
    let caller = caller(&surface, &headers, &extensions)?;
    let ids = form::read_ids(&vendors::body(&headers, body).await?)?;
    if ids.len() > MOST_IN_BATCH {
        return Err(Refused::BatchTooMany);
    }
    let mut deleted = 0_usize;
    for id in ids.into_iter().collect::<BTreeSet<_>>() {
        match surface.service.delete(&caller, KeyRef::Number(id), IfMatch::Always).await {
            Ok(()) => deleted += 1,
            Err(ServiceFault::NotFound | ServiceFault::DeclaredByFile) => {}
            Err(fault) => return Err(fault.into()),
        }
    }
    Ok(done(Some(deleted)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_stands_raw_or_behind_bearer() {
        let token = |value: &str| token_of(value.as_bytes()).map(|token| String::from_utf8_lossy(token).into_owned());
        for value in ["abc", "Bearer abc", "bearer  abc", " abc "] {
            assert_eq!(token(value).as_deref(), Some("abc"), "{value}");
        }
        for value in ["", " ", "Basic abc", "Bearer abc def"] {
            assert_eq!(token(value), None, "{value}");
        }
    }
}
