//! The admin APIs over a real service and a real store, without a socket: requests in, answers out.

use std::convert::Infallible;
use std::mem::ManuallyDrop;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::response::Response;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use keyward::admin::service::Parts;
use keyward::admin::settings::{ApigSettings, NewApiSettings};
use keyward::admin::{
    Gate, Operators, Program, Readiness, Role, Service, Settings, Surface, TokenDigest, TokenSettings, Vendors,
};
use keyward::clock::{Clock, Now};
use keyward::keys::{Digester, KeyTable, Pepper};
use keyward::limits::LimitSettings;
use keyward::policy::PriceTable;
use keyward::store::embedded::Embedded;
use keyward::store::{Books, Store};
use keyward::telemetry::Metrics;
use keyward::upstream::Routes;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::runtime::{Builder, Runtime};
use tower_service::Service as _;

/// The operator's token.
const TOKEN: &str = "operator-0123456789abcdef";

/// The application of APIG's shape that there is.
pub const APP: &str = "/v2/p/apigw/instances/i/apps/a/ai-api-keys";

/// Where the native API has its keys.
pub const KEYS: &str = "/api/v1/gateway/keys";

/// Keys that are always there, so that there is something to list.
const STANDING: usize = 3;

/// The running program, as far as the APIs ask.
struct Backstage {
    metrics: Metrics,
    store: Arc<dyn Store>,
}

impl Readiness for Backstage {
    fn faults(&self) -> Option<Vec<String>> {
        None
    }

    fn needs_restart(&self) -> Vec<String> {
        Vec::new()
    }

    fn is_draining(&self) -> bool {
        false
    }

    fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

impl Program for Backstage {
    fn routes(&self) -> Arc<Routes> {
        Arc::new(Routes::new(Vec::new(), Vec::new(), None))
    }

    fn prices(&self) -> PriceTable {
        PriceTable::default()
    }

    fn limit_settings(&self) -> LimitSettings {
        LimitSettings::default()
    }

    fn expected_output(&self, _: Option<&str>) -> u64 {
        512
    }

    fn reload(&self) -> Result<(), Vec<String>> {
        Ok(())
    }

    fn flush_usage(&self) {}

    fn verify_books(&self) -> Result<Books, String> {
        self.store.books().map_err(|fault| fault.to_string())
    }
}

/// One house for all inputs: what an input makes it removes. When its thread ends only the folder goes: that is too late to end a runtime.
pub struct House {
    runtime: ManuallyDrop<Runtime>,
    router: ManuallyDrop<Router>,
    _folder: tempfile::TempDir,
}

/// An answer, whole.
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body, which is JSON; null when there is none.
    pub fn json(&self) -> Value {
        if self.body.is_empty() {
            return Value::Null;
        }
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("not JSON: {}", String::from_utf8_lossy(&self.body)))
    }

    /// The entity tag.
    pub fn etag(&self) -> &[u8] {
        self.headers.get("etag").expect("an entity tag").as_bytes()
    }
}

/// Does `work` with this thread's house.
pub fn with<T>(work: impl FnOnce(&House) -> T) -> T {
    thread_local! {
        static HOUSE: House = House::new();
    }
    HOUSE.with(work)
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store: Arc<dyn Store> = Arc::new(Embedded::open(&folder.path().join("keys.db")).expect("a store"));
        let program: Arc<dyn Program> = Arc::new(Backstage { metrics: Metrics::new(), store: Arc::clone(&store) });
        let service = Arc::new(Service::new(Parts {
            store,
            keys: Arc::new(KeyTable::new()),
            digester: Digester::new(&Pepper::new(vec![7; 32]).expect("long enough")),
            // 2026-01-01T00:00:00Z
            clock: Clock::manual(Now { monotonic_ns: 1 << 40, unix_ms: 1_767_225_600_000 }),
            program,
            gate: Gate::default(),
        }));
        let operators = Arc::new(Operators::new(&settings(), Vec::new()));
        let vendors = Arc::new(Vendors::new(&settings()));
        let router = Surface { service, operators, vendors, tls: Arc::default() }.router();
        let runtime = Builder::new_current_thread().build().expect("a runtime");
        let house = Self { runtime: ManuallyDrop::new(runtime), router: ManuallyDrop::new(router), _folder: folder };
        for at in 0..STANDING {
            house.made(&json!({ "name": format!("standing {at}"), "org_id": "apig/p/i/a" }));
        }
        house
    }

    /// What is answered to a request with a body of JSON; `None` when it cannot even be written down. Never an accident.
    pub fn call(&self, method: &str, path: &str, headers: &[(&str, &[u8])], body: &[u8]) -> Option<Answer> {
        let mut request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        request = request.header("authorization", format!("Bearer {TOKEN}")).header("x-auth-token", TOKEN);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let peer = ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 1)));
        let request = request.extension(peer).body(Full::from(body.to_vec())).ok()?;
        let answer = self.runtime.block_on(async {
            let answered: Result<Response, Infallible> = Router::clone(&self.router).call(request).await;
            let (head, body) = answered.unwrap_or_else(|never| match never {}).into_parts();
            let body = body.collect().await.expect("a whole body").to_bytes().to_vec();
            Answer { status: head.status, headers: head.headers, body }
        });
        let text = String::from_utf8_lossy(&answer.body);
        assert!(!answer.status.is_server_error(), "{} to {method} {path}: {text}", answer.status);
        Some(answer)
    }

    /// A key made by the native API.
    pub fn made(&self, body: &Value) -> Value {
        let made = self.call("POST", KEYS, &[], body.to_string().as_bytes()).expect("a request");
        assert_eq!(made.status, 201, "{}", String::from_utf8_lossy(&made.body));
        made.json()
    }

    /// A key as the native API shows it.
    pub fn shown(&self, id: &str) -> Answer {
        let shown = self.call("GET", &format!("{KEYS}/{id}"), &[], b"").expect("a request");
        assert_eq!(shown.status, 200);
        shown
    }

    /// Removes a key if it is still there.
    pub fn remove(&self, id: &str) {
        let gone = self.call("DELETE", &format!("{KEYS}/{id}"), &[], b"").expect("a request");
        assert!(matches!(gone.status.as_u16(), 204 | 404), "{}", gone.status);
    }
}

fn settings() -> Settings {
    let token = TokenSettings {
        name: "ops".into(),
        digest: TokenDigest(Sha256::digest(TOKEN.as_bytes()).into()),
        role: Role::Write,
        org_id: None,
        team_id: None,
    };
    Settings {
        listen: "127.0.0.1:0".parse().expect("an address"),
        socket_mode: 0o600,
        tokens: vec![token],
        apig: ApigSettings::default(),
        newapi: NewApiSettings::default(),
        tls: None,
    }
}

/// The next line, and what is behind it.
pub fn line(input: &[u8]) -> (&[u8], &[u8]) {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    (&input[..end], input.get(end + 1..).unwrap_or_default())
}

/// A path with a query behind it, if there is any.
pub fn with_query(path: &str, query: &[u8]) -> Option<String> {
    let query = std::str::from_utf8(query).ok()?;
    Some(if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") })
}
