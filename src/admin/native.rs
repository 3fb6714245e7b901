//! The native API, in AIone's shape: `/api/v1/gateway`, `Authorization: Bearer`, errors as FastAPI words them.

pub mod body;
pub mod csv;
pub mod docs;
pub mod fields;
pub mod json;
pub mod key;
pub mod keys;
pub mod lifecycle;
pub mod openapi;
pub mod operations;
pub mod path;
pub mod query;
pub mod reader;
pub mod refused;
pub mod request;
pub mod schema;
pub mod usage;

use std::sync::LazyLock;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post, put};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::admin::operators::LoginRefused;
use crate::admin::service::Caller;
use crate::admin::surface::{Surface, no_page, peer};

use refused::Refused;

/// The document and the page of it, made when the first asks: most programs are never asked, and each is some hundred KiB.
static TEXT: LazyLock<String> = LazyLock::new(|| document().to_string());
static PAGE: LazyLock<String> = LazyLock::new(|| docs::page(&document()));

/// The routes of the native API, its document and the page of it.
pub fn router(surface: Surface) -> Router {
    let is_json = [(header::CONTENT_TYPE, "application/json")];
    let pages = Router::new()
        .route("/openapi.json", get(move || async move { (is_json, TEXT.as_str()) }))
        .route("/docs", get(|| async { page_of(&PAGE) }))
        .layer(middleware::from_fn(no_page));
    api()
        .route_layer(middleware::from_fn_with_state(surface.clone(), admit))
        .merge(pages)
        .fallback(|| async { Refused::said(StatusCode::NOT_FOUND, "Not Found") })
        .method_not_allowed_fallback(|| async { Refused::said(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed") })
        .with_state(surface)
}

/// The calls, without what the document says of them: that is made only for who asks. A test holds that both have the same.
fn api() -> Router<Surface> {
    let all = || get(keys::list_keys).post(keys::create_key);
    let one = get(keys::get_key).put(keys::update_key).delete(keys::delete_key);
    Router::new()
        .route("/api/v1/gateway/keys", all())
        // AIone's own clients ask for the list with a slash at its end.
        .route("/api/v1/gateway/keys/", all())
        .route("/api/v1/gateway/keys/{key_id}", one)
        .route("/api/v1/gateway/keys/{key_id}/rotate", put(lifecycle::rotate_key))
        .route("/api/v1/gateway/keys/{key_id}/rotate/end", put(lifecycle::end_grace))
        .route("/api/v1/gateway/keys/{key_id}/disable", put(lifecycle::disable_key))
        .route("/api/v1/gateway/keys/{key_id}/enable", put(lifecycle::enable_key))
        .route("/api/v1/gateway/keys/{key_id}/explain", post(lifecycle::explain_key))
        .route("/api/v1/gateway/keys/{key_id}/usage", get(usage::key_usage))
        .route("/api/v1/gateway/usage", get(usage::usage))
        .route("/api/v1/gateway/usage/dashboard", get(usage::dashboard))
        .route("/api/v1/gateway/audit", get(operations::audit))
        .route("/api/v1/gateway/models", get(operations::models))
        .route("/api/v1/gateway/config/reload", post(operations::reload))
        .route("/api/v1/gateway/ledger", get(operations::ledger))
}

/// The OpenAPI document of the admin listener.
pub fn document() -> serde_json::Value {
    openapi::complete(described().into_openapi())
}

fn described() -> OpenApiRouter<Surface> {
    OpenApiRouter::with_openapi(openapi::head())
        .routes(routes!(keys::list_keys, keys::create_key))
        .routes(routes!(keys::get_key, keys::update_key, keys::delete_key))
        .routes(routes!(lifecycle::rotate_key))
        .routes(routes!(lifecycle::end_grace))
        .routes(routes!(lifecycle::disable_key))
        .routes(routes!(lifecycle::enable_key))
        .routes(routes!(lifecycle::explain_key))
        .routes(routes!(usage::key_usage))
        .routes(routes!(usage::usage))
        .routes(routes!(usage::dashboard))
        .routes(routes!(operations::audit))
        .routes(routes!(operations::models))
        .routes(routes!(operations::reload))
        .routes(routes!(operations::ledger))
}

/// Scripts, frames and everything from elsewhere are off: the page is text.
fn page_of(page: &'static str) -> Response {
    let policy =
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let head = [(header::CONTENT_SECURITY_POLICY, policy), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (head, Html(page)).into_response()
}

/// Lets operators in. A browser's page on another site is not one (SECURITY: `Origin` is refused, there are no cookies).
async fn admit(State(surface): State<Surface>, mut request: Request, next: Next) -> Response {
    if request.headers().contains_key(header::ORIGIN) {
        let detail = "Requests from browsers are not taken: Origin is set";
        return Refused::said(StatusCode::FORBIDDEN, detail).into_response();
    }
    let Some(address) = peer(&request) else {
        // The listener always tells.
        return Refused::said(StatusCode::INTERNAL_SERVER_ERROR, "Internal error").into_response();
    };
    let login = match token(request.headers()) {
        Ok(token) => surface.log_in(token, address),
        Err(refused) => Err(refused),
    };
    match login {
        Ok(operator) => {
            request.extensions_mut().insert(Caller { operator, address, via: "native" });
            next.run(request).await
        }
        Err(refused) => Refused::from(refused).into_response(),
    }
}

/// The one bearer token; two are none.
fn token(headers: &HeaderMap) -> Result<Option<&[u8]>, LoginRefused> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Err(LoginRefused::Unknown) };
    let (scheme, token) = value.as_bytes().split_at_checked(7).ok_or(LoginRefused::Unknown)?;
    let token = token.trim_ascii();
    if !scheme.eq_ignore_ascii_case(b"bearer ") || token.is_empty() {
        return Err(LoginRefused::Unknown);
    }
    Ok(Some(token))
}
