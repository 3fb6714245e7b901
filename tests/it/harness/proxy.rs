//! A real data plane on a port of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;
use keyward::app::{keys, reload};
use keyward::clock::Clock;
use keyward::config;
use keyward::dialect::estimate::Estimator;
use keyward::keys::change::{KeyChange, KeyRecord, Source};
use keyward::keys::secret::{Digester, Pepper};
use keyward::keys::table::{KeyEntry, KeyTable};
use keyward::limits::attempts::Attempts;
use keyward::proxy::capacity::Capacity;
use keyward::proxy::plane::{BodyBudget, Overload};
use keyward::proxy::server::{self, Server};
use keyward::proxy::{Live, Plane};
use keyward::telemetry::Metrics;
use keyward::upstream::probe;
use keyward::upstream::tls::{self, Defaults};

use super::Backend;

/// The secret of the key named `alice` in [`Proxy::keys_of`].
pub const ALICE: &str = "alice-secret-0001";

/// A running data plane.
pub struct Proxy {
    pub address: SocketAddr,
    pub plane: Arc<Plane>,
    pub server: Option<Server>,
}

impl Proxy {
    /// A proxy in front of `backend` for every dialect and any model, with one key, `ALICE`, that has the policy lines given.
    pub fn with_key(backend: &Backend, policy: &str) -> Self {
        Self::start(&Self::config_for(backend, ""), &Self::keys_of(&[("alice", ALICE, policy)]), Clock::system())
    }

    /// The configuration that routes all dialects to `backend`; `more` is appended.
    pub fn config_for(backend: &Backend, more: &str) -> String {
        let mut text = "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 2\ndrain_timeout = \"100ms\"\n".to_owned();
        for dialect in ["openai", "anthropic", "gemini", "azure"] {
            text.push_str(&format!(
                "[[upstreams]]\nname = \"{dialect}\"\ndialect = \"{dialect}\"\nurl = \"http://{}\"\napi_key = \"upstream-credential-{dialect}\"\nmodels = [\"*\"]\n",
                backend.address
            ));
        }
        text + more
    }

    /// A key file with these keys: name, secret, further lines.
    pub fn keys_of(keys: &[(&str, &str, &str)]) -> String {
        let one = |(name, secret, lines): &(&str, &str, &str)| {
            format!("[[keys]]\nname = \"{name}\"\nkey = \"{secret}\"\n{lines}\n")
        };
        keys.iter().map(one).collect()
    }

    /// A proxy from the text of both files.
    pub fn start(config_text: &str, keys_text: &str, clock: Clock) -> Self {
        super::log::install();
        super::log::watch_for_secrets(&[config_text, keys_text]);
        let env = |_: &str| None;
        let config = config::parse(config_text, Path::new("keyward.toml"), &env)
            .unwrap_or_else(|faults| panic!("{}", faults.render(false)));
        let digester = Digester::new(&Pepper::generate());
        let keys = Arc::new(KeyTable::new());
        let changes = keys.changes_to(Source::File, records(keys_text, &digester));
        keys.apply_all(changes).expect("the test's keys");
        let metrics = Metrics::new();
        let plane = Arc::new(Plane {
            live: Arc::new(ArcSwap::from_pointee(reload::live(&config, None))),
            keys,
            digester,
            estimator: Estimator::new(config.limits.default_max_output),
            attempts: Attempts::default(),
            body_budget: BodyBudget::shown_by(&metrics.body_bytes),
            clock,
            overload: Overload::default(),
            capacity: Capacity::default(),
            metrics,
            ledger: None,
            is_draining: AtomicBool::new(false),
        });
        let listeners = server::bind(&config.server).expect("a port");
        let server = server::start(&plane, &tls::client_config().expect("tls"), listeners).expect("a port");
        server.door().resume();
        Self { address: server.addresses[0].tcp().expect("a port"), plane, server: Some(server) }
    }

    /// Probes the upstreams, as the control plane of a running program does, for as long as the test's runtime runs.
    pub fn probing(&self) {
        let plane = Arc::clone(&self.plane);
        let tls = Defaults::new(&tls::client_config().expect("tls"));
        let (clock, metrics) = (plane.clock.clone(), plane.metrics.upstreams.clone());
        tokio::spawn(probe::run(move || Arc::clone(&plane.live.load().routes), clock, tls, metrics));
    }

    /// The state of the key with this secret.
    pub fn entry(&self, secret: &str) -> Arc<KeyEntry> {
        let slot =
            self.plane.keys.find(&self.plane.digester.digest(secret.as_bytes())).expect("a key with this secret");
        Arc::clone(slot.entry())
    }

    /// Puts a key in force, as a reload or the admin API would.
    pub fn put(&self, keys_text: &str) {
        super::log::watch_for_secrets(&[keys_text]);
        for record in records(keys_text, &self.plane.digester) {
            self.plane.keys.apply(KeyChange::Put(Box::new(record))).expect("the test's key");
        }
    }

    /// The configuration in force.
    pub fn live(&self) -> Arc<Live> {
        self.plane.live.load_full()
    }

    /// All metrics, as they are scraped.
    pub fn metrics_text(&self) -> String {
        self.plane.metrics.render()
    }

    /// Waits until nothing is under way any more; fails when something leaked.
    pub async fn quiet(&self) {
        let quiet = async {
            while self.plane.metrics.in_flight() != 0 {
                tokio::task::yield_now().await;
            }
        };
        let patience = std::time::Duration::from_secs(10);
        tokio::time::timeout(patience, quiet).await.expect("requests under way that never end");
    }
}

fn records(keys_text: &str, digester: &Digester) -> Vec<KeyRecord> {
    let keys = config::parse_keys(keys_text, Path::new("keys.toml"), &|_| None)
        .unwrap_or_else(|faults| panic!("{}", faults.render(false)));
    keys.into_iter().map(|key| keys::record(key, digester)).collect()
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.drain();
        }
        // So every test that runs a proxy is one for secrets in its log, and in its metrics, too.
        if !std::thread::panicking() {
            let leaked = super::log::leaked();
            assert!(leaked.is_empty(), "secrets stand in the log: {leaked:?}");
            let metrics = self.plane.metrics.render();
            assert!(!super::log::holds_a_secret(&metrics), "a secret stands in the metrics:\n{metrics}");
        }
    }
}
