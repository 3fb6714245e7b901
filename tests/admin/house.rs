//! A service with its store and table, served on a socket, with a clock that is moved by hand.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use keyward::admin::service::{Caller, Parts};
use keyward::admin::settings::{ApigSettings, NewApiSettings};
use keyward::admin::{Bounds, TokenDigest, TokenSettings, serve_within};
use keyward::admin::{Gate, Operator, Operators, Program, Readiness, Role, Scope, Service, Settings, Surface, Vendors};
use keyward::clock::{Clock, Now};
use keyward::keys::{Digester, KeyTable, Pepper};
use keyward::limits::LimitSettings;
use keyward::policy::{Glob, PriceTable};
use keyward::store::embedded::Embedded;
use keyward::store::{Books, Store};
use keyward::telemetry::Metrics;
use keyward::units::ModelName;
use keyward::upstream::Routes;
use keyward::upstream::settings::UpstreamSettings;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::client::{Answer, Client};

/// 2026-01-01T00:00:00Z.
pub const START_MS: i64 = 1_767_225_600_000;

pub const WRITER: &str = "writer-0123456789abcdef";
pub const READER: &str = "reader-0123456789abcdef";
/// Bound to the team `blue`.
pub const BLUE: &str = "blue-0123456789abcdef";
/// Bound to the organisation `acme`.
pub const ACME: &str = "acme-0123456789abcdef";

/// What the service asks of a running program.
pub struct Backstage {
    metrics: Metrics,
    routes: Arc<Routes>,
    /// What the next reload comes to.
    pub verdict: Mutex<Result<(), Vec<String>>>,
    pub flushes: AtomicUsize,
    store: Arc<dyn Store>,
    gate: Gate,
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
        Arc::clone(&self.routes)
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
        let _closed = self.gate.close();
        self.verdict.lock().expect("not poisoned").clone()
    }

    fn flush_usage(&self) {
        self.flushes.fetch_add(1, Ordering::SeqCst);
    }

    fn verify_books(&self) -> Result<Books, String> {
        self.store.books().map_err(|fault| fault.to_string())
    }
}

/// All of it.
pub struct House {
    pub service: Arc<Service>,
    pub keys: Arc<KeyTable>,
    pub store: Arc<dyn Store>,
    pub digester: Digester,
    pub clock: Clock,
    pub backstage: Arc<Backstage>,
    pub address: SocketAddr,
    pub surface: Surface,
    _folder: Option<tempfile::TempDir>,
}

impl House {
    pub async fn start() -> Self {
        Self::start_with(manual_clock(), |operators| operators).await
    }

    pub async fn start_with(clock: Clock, adjust: impl FnOnce(Operators) -> Operators) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Arc::new(Embedded::open(&folder.path().join("keys.db")).expect("a store"));
        Self { _folder: Some(folder), ..Self::start_on(store, clock, adjust).await }
    }

    /// Over a store of the test's own.
    pub async fn over(store: Arc<dyn Store>) -> Self {
        Self::start_on(store, manual_clock(), |operators| operators).await
    }

    async fn start_on(store: Arc<dyn Store>, clock: Clock, adjust: impl FnOnce(Operators) -> Operators) -> Self {
        let (keys, gate) = (Arc::new(KeyTable::new()), Gate::default());
        let digester = Digester::new(&Pepper::new(vec![7; 32]).expect("long enough"));
        let backstage = Arc::new(Backstage {
            metrics: Metrics::new(),
            routes: Arc::new(routes()),
            verdict: Mutex::new(Ok(())),
            flushes: AtomicUsize::new(0),
            store: Arc::clone(&store),
            gate: gate.clone(),
        });
        let service = Arc::new(Service::new(Parts {
            store: Arc::clone(&store),
            keys: Arc::clone(&keys),
            digester: digester.clone(),
            clock: clock.clone(),
            program: Arc::clone(&backstage) as Arc<dyn Program>,
            gate,
        }));
        let operators = Arc::new(adjust(Operators::new(&settings(), Vec::new())));
        let vendors = Arc::new(Vendors::new(&settings()));
        let surface = Surface { service: Arc::clone(&service), operators, vendors, tls: Arc::default() };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let address = listener.local_addr().expect("its address");
        let served = surface.clone();
        tokio::spawn(async move { serve_within(listener, &served, Bounds::default()).await });
        Self { service, keys, store, digester, clock, backstage, address, surface, _folder: None }
    }

    /// One request as the writer; JSON in, JSON out.
    pub async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.call_as(WRITER, method, path, body).await
    }

    pub async fn call_as(&self, token: &str, method: &str, path: &str, body: Option<Value>) -> Answer {
        let login = format!("authorization: Bearer {token}");
        match body {
            Some(body) => self.raw(method, path, &[&login, "content-type: application/json"], &body.to_string()).await,
            None => self.raw(method, path, &[&login], "").await,
        }
    }

    /// The same with further headers.
    pub async fn call_with(&self, method: &str, path: &str, more: &[(&str, &str)], body: Option<Value>) -> Answer {
        let mut headers = vec![format!("authorization: Bearer {WRITER}")];
        headers.extend(more.iter().map(|(name, value)| format!("{name}: {value}")));
        headers.extend(body.as_ref().map(|_| "content-type: application/json".to_owned()));
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        self.raw(method, path, &headers, &body.map(|body| body.to_string()).unwrap_or_default()).await
    }

    /// One request with these headers and this body.
    pub async fn raw(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
        let path = if path.starts_with("/") { path.to_owned() } else { format!("/api/v1/gateway/{path}") };
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n");
        headers.iter().for_each(|header| request.push_str(&format!("{header}\r\n")));
        request.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
        let mut client = Client::connect(self.address).await;
        client.send(request.as_bytes()).await;
        client.answer().await
    }

    /// Makes a key as the writer and returns what was answered.
    pub async fn made(&self, body: Value) -> Value {
        let answer = self.call("POST", "keys", Some(body)).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()
    }

    /// Whether a secret is one of an enabled key, as the data plane would find it.
    pub fn works(&self, secret: &str) -> bool {
        let slot = self.keys.find(&self.digester.digest(secret.as_bytes()));
        slot.is_some_and(|slot| slot.may_continue(self.clock.now()).is_ok() && !slot.is_gone())
    }

    pub fn later(&self, seconds: u64) {
        self.clock.advance_ns(seconds * 1_000_000_000);
    }
}

/// A clock that stands at [`START_MS`] until it is moved, guarded as the program's is.
pub fn manual_clock() -> Clock {
    Clock::manual(Now { monotonic_ns: 1 << 40, unix_ms: START_MS }).guarded(None, None)
}

/// A caller of the service itself.
pub fn caller(name: &str, role: Role, scope: Scope) -> Caller {
    let operator = Arc::new(Operator { name: name.into(), role, scope });
    Caller { operator, address: IpAddr::from([127, 0, 0, 1]), via: "native" }
}

pub fn settings() -> Settings {
    let token = |name: &str, token: &str, role, org: Option<&str>, team: Option<&str>| TokenSettings {
        name: name.into(),
        digest: TokenDigest(Sha256::digest(token.as_bytes()).into()),
        role,
        org_id: org.map(Into::into),
        team_id: team.map(Into::into),
    };
    let tokens = vec![
        token("ops", WRITER, Role::Write, None, None),
        token("audit", READER, Role::Read, None, None),
        token("blue", BLUE, Role::Write, None, Some("blue")),
        token("acme", ACME, Role::Write, Some("acme"), None),
    ];
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let listen = keyward::listen::Address::Tcp(listen);
    let (apig, newapi) = (ApigSettings::default(), NewApiSettings::default());
    Settings { listen, socket_mode: 0o600, tokens, apig, newapi, tls: None }
}

fn routes() -> Routes {
    let models = ["gpt-4o*", "gpt-4o-mini"].map(|name| Glob::new(name).expect("a pattern")).to_vec();
    let upstream = UpstreamSettings { name: "main".into(), models, ..UpstreamSettings::sandbox() };
    let name = |name: &str| ModelName::new(name).expect("a name");
    Routes::new(vec![upstream], vec![(name("fast"), name("gpt-4o-mini"))], None)
}
