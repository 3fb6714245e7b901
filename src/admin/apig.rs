//! Huawei APIG's AI API keys, for tools written against them (ADMIN 2). Where the vendor's pages do not say, the choice is ours:
//!
//! * An app is the `org_id` `apig/{project}/{instance}/{app}`. It exists once the operator lists it or a key has it.
//! * An alias is the key's name; a key made without one gets one. Names that other dialects gave are told as they are.
//! * What is unknown in a body is refused, like everywhere here. Bodies that are too large are 413, a caller who failed too often 429.
//! * A key that is declared by file can be seen and not deleted: 403.

mod item;
mod refused;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{Extensions, HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use uuid::Uuid;

use self::item::{Item, Page};
use self::refused::Refused;
use crate::admin::service::{Caller, IfMatch, KeyView, ListQuery};
use crate::admin::settings::ApigSettings;
use crate::admin::surface::Surface;
use crate::admin::vendors::{self, parameter};
use crate::store::{KeyFilter, KeyRef, Order, PageFrom};
use crate::units::KeyId;

/// Keys of a page when the caller does not say.
const DEFAULT_LIMIT: i64 = 20;

/// The most keys of a page.
const MOST_LIMIT: i64 = 500;

/// The routes.
pub fn router(surface: Surface) -> Router {
    const KEYS: &str = "/v2/{project_id}/apigw/instances/{instance_id}/apps/{app_id}/ai-api-keys";
    let one = format!("{KEYS}/{{id}}");
    Router::new()
        .route(KEYS, get(list).post(create))
        .route(&one, get(show).delete(delete))
        .method_not_allowed_fallback(|| async { Refused::NotOffered })
        .with_state(surface)
}

/// What every call has.
struct Asked {
    caller: Caller,
    app: App,
}

/// An application, as the path names it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct App {
    id: String,
    org_id: String,
}

impl App {
    fn new(project: &str, instance: &str, app: &str) -> Result<Self, Refused> {
        for (parameter, text) in [("project_id", project), ("instance_id", instance), ("app_id", app)] {
            if !ApigSettings::is_name(text) {
                return Err(Refused::parameter(parameter));
            }
        }
        Ok(Self { id: app.to_owned(), org_id: format!("apig/{project}/{instance}/{app}") })
    }

    fn has(&self, key: &KeyView) -> bool {
        key.fields.org_id.as_deref() == Some(self.org_id.as_str())
    }
}

/// Who asks, about which application; both must be there.
async fn asked(
    surface: &Surface,
    path: &[String],
    headers: &HeaderMap,
    extensions: &Extensions,
) -> Result<Asked, Refused> {
    if vendors::is_from_a_page(headers) {
        return Err(Refused::Forbidden);
    }
    let mut tokens = headers.get_all("x-auth-token").iter();
    let token = tokens.next().filter(|_| tokens.next().is_none());
    let caller = vendors::caller(surface, token.map(|token| token.as_bytes()), extensions, "apig")?;
    let [project, instance, app, ..] = path else { return Err(Refused::parameter("app_id")) };
    let app = App::new(project, instance, app)?;
    let own = caller.operator.scope.org_id.as_deref();
    let may_see = own.is_none_or(|own| own == app.org_id);
    let is_listed =
        || surface.vendors.apig().apps.iter().any(|listed| app.org_id.strip_prefix("apig/") == Some(&**listed));
    if may_see && (is_listed() || surface.service.has_org(&caller, &app.org_id).await?) {
        Ok(Asked { caller, app })
    } else {
        Err(Refused::NoApp(app.id))
    }
}

type Names<const N: usize> = Result<Path<[String; N]>, PathRejection>;

/// The names in the path; one that is not UTF-8 is no name.
fn names<const N: usize>(path: Names<N>) -> Result<[String; N], Refused> {
    path.map(|Path(names)| names).map_err(|_| Refused::parameter("app_id"))
}

async fn list(
    State(surface): State<Surface>,
    path: Names<3>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    extensions: Extensions,
) -> Result<Response, Refused> {
    let asked = asked(&surface, &names(path)?, &headers, &extensions).await?;
    let (offset, limit) = page(query.as_deref())?;
    let query = ListQuery {
        filter: KeyFilter { org_id: Some(asked.app.org_id.as_str().into()), ..KeyFilter::default() },
        order: Order::NewestFirst,
        from: PageFrom::Offset(offset),
        limit,
    };
    let listing = surface.service.list(&asked.caller, query).await?;
    let items = listing.keys.iter().map(|key| Item::masked(key, &asked.app.id)).collect::<Vec<_>>();
    Ok(axum::Json(Page { total: listing.total, size: items.len(), ai_api_keys: items }).into_response())
}

async fn create(
    State(surface): State<Surface>,
    path: Names<3>,
    headers: HeaderMap,
    extensions: Extensions,
    body: Body,
) -> Result<Response, Refused> {
    let asked = asked(&surface, &names(path)?, &headers, &extensions).await?;
    let body = vendors::body(&headers, body).await?;
    let made = surface.service.create(&asked.caller, item::read(&body, &asked.app.org_id)?).await?;
    Ok(axum::Json(Item::in_clear(&made.view, &asked.app.id, &made.secret)).into_response())
}

async fn show(
    State(surface): State<Surface>,
    path: Names<4>,
    headers: HeaderMap,
    extensions: Extensions,
) -> Result<Response, Refused> {
    let names = names(path)?;
    let asked = asked(&surface, &names, &headers, &extensions).await?;
    let key = find(&surface, &asked, &names[3]).await?;
    Ok(axum::Json(Item::masked(&key, &asked.app.id)).into_response())
}

async fn delete(
    State(surface): State<Surface>,
    path: Names<4>,
    headers: HeaderMap,
    extensions: Extensions,
) -> Result<Response, Refused> {
    let names = names(path)?;
    let asked = asked(&surface, &names, &headers, &extensions).await?;
    let key = find(&surface, &asked, &names[3]).await?;
    match surface.service.delete(&asked.caller, KeyRef::Id(key.id), IfMatch::Always).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT.into_response()),
        Err(fault) => Err(Refused::from(fault).about(&names[3])),
    }
}

/// A key of the application. Ids are 32 hexadecimal digits; with hyphens they are understood too.
async fn find(surface: &Surface, asked: &Asked, id: &str) -> Result<KeyView, Refused> {
    let no_key = || Refused::NoKey(id.chars().take(ApigSettings::LONGEST_NAME).collect());
    let uuid = Uuid::try_parse(id).map_err(|_| no_key())?;
    let found = surface.service.get(&asked.caller, KeyRef::Id(KeyId(uuid))).await;
    let key = found.map_err(|fault| Refused::from(fault).about(id))?;
    if asked.app.has(&key) { Ok(key) } else { Err(no_key()) }
}

/// Where the page begins, and how long it is: always one there can be.
fn page(query: Option<&str>) -> Result<(u64, usize), Refused> {
    let offset = number(query, "offset")?.unwrap_or(0).max(0);
    let limit = match number(query, "limit")?.unwrap_or(DEFAULT_LIMIT) {
        ..=0 => DEFAULT_LIMIT,
        limit => limit.min(MOST_LIMIT),
    };
    Ok((offset.unsigned_abs(), usize::try_from(limit).unwrap_or_default()))
}

/// A number of the query; anything else that is given is a fault.
fn number(query: Option<&str>, name: &'static str) -> Result<Option<i64>, Refused> {
    let text = parameter(query, name);
    text.map(|text| text.parse().map_err(|_| Refused::parameter(name))).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_is_named_by_three_plain_names() {
        let app = App::new("p", "i-1", "9ed8b7fe84224de681e7d7a5587e76dc").expect("an app");
        assert_eq!(app.org_id, "apig/p/i-1/9ed8b7fe84224de681e7d7a5587e76dc");
        let long = "x".repeat(ApigSettings::LONGEST_NAME + 1);
        for (names, parameter) in [
            (["", "i", "a"], "project_id"),
            (["p", "i/j", "a"], "instance_id"),
            (["p", "i", "a b"], "app_id"),
            (["p", "i", "名"], "app_id"),
            (["p", "i", long.as_str()], "app_id"),
        ] {
            assert_eq!(App::new(names[0], names[1], names[2]), Err(Refused::parameter(parameter)));
        }
    }

    #[test]
    fn a_page_is_always_one_there_can_be() {
        for (query, expected) in [
            ("", (0, 20)),
            ("offset=-1&limit=0", (0, 20)),
            ("limit=-1", (0, 20)),
            ("offset=7&limit=500", (7, 500)),
            ("limit=501", (0, 500)),
            ("offset=9223372036854775807&limit=9223372036854775807", (i64::MAX.unsigned_abs(), 500)),
        ] {
            assert_eq!(page(Some(query)), Ok(expected), "{query}");
        }
        assert_eq!(page(Some("offset=x")), Err(Refused::parameter("offset")));
    }

    #[test]
    fn numbers_of_the_query_are_numbers() {
        assert_eq!(number(Some("limit=-1"), "limit"), Ok(Some(-1)));
        assert_eq!(number(Some("offset=3"), "limit"), Ok(None));
        for text in ["limit=", "limit=abc", "limit=1.5", "limit=99999999999999999999", "limit", "limit=1%00"] {
            assert_eq!(number(Some(text), "limit"), Err(Refused::parameter("limit")), "{text}");
        }
    }
}
