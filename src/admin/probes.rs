//! What machines ask: is it alive, is it ready, how is it doing.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;

use crate::telemetry::Metrics;

/// What readiness depends on.
pub trait Readiness: Send + Sync {
    /// Why the files on disk are not the ones in force; `None` when they are.
    fn faults(&self) -> Option<Vec<String>>;

    /// The settings in the files that wait for a restart.
    fn needs_restart(&self) -> Vec<String>;

    /// Whether the program is going down.
    fn is_draining(&self) -> bool;

    /// Upstreams of which endpoints are ejected, in words; no reason not to be ready, since others may serve.
    fn ejected(&self) -> Vec<String> {
        Vec::new()
    }

    /// What is counted.
    fn metrics(&self) -> &Metrics;
}

type Shared = Arc<dyn Readiness>;

/// The routes of the admin listener.
pub fn router(readiness: Shared) -> Router {
    Router::new()
        .route("/healthz", get(alive))
        .route("/livez", get(alive))
        .route("/health/liveness", get(alive))
        .route("/readyz", get(ready))
        .route("/health/readiness", get(ready))
        .route("/metrics", get(metrics))
        .with_state(readiness)
}

async fn alive() -> &'static str {
    "ok\n"
}

/// 503 while draining. A refused reload leaves the program ready, by the old state, and says so.
async fn ready(State(readiness): State<Shared>) -> Response {
    let is_draining = readiness.is_draining();
    let faults = readiness.faults();
    let status = if is_draining { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let word = if is_draining { "draining" } else { "ready" };
    let config = if faults.is_some() { "refused; the old one is in force" } else { "in force" };
    let faults = faults.unwrap_or_default();
    let needs_restart = readiness.needs_restart();
    let body = json!({
        "status": word,
        "config": config,
        "faults": faults,
        "needs_restart": needs_restart,
        "ejected": readiness.ejected(),
    });
    (status, axum::Json(body)).into_response()
}

async fn metrics(State(readiness): State<Shared>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], readiness.metrics().render()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(Metrics, bool);

    impl Readiness for Fixed {
        fn faults(&self) -> Option<Vec<String>> {
            Some(vec!["keyward.toml:3:1: broken".to_owned()])
        }

        fn needs_restart(&self) -> Vec<String> {
            Vec::new()
        }

        fn is_draining(&self) -> bool {
            self.1
        }

        fn metrics(&self) -> &Metrics {
            &self.0
        }
    }

    #[tokio::test]
    async fn a_refused_reload_shows_but_does_not_take_the_program_out_of_service() {
        let fixed: Shared = Arc::new(Fixed(Metrics::new(), false));
        assert_eq!(ready(State(fixed)).await.status(), StatusCode::OK);
        let draining: Shared = Arc::new(Fixed(Metrics::new(), true));
        assert_eq!(ready(State(draining)).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
