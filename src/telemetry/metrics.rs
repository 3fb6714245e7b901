//! Every metric, each name in this one place. No label carries a key, a model or anything else a caller chooses.

mod counts;
mod edge;

use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::telemetry::lines;
use crate::units::{Tokens, Units};

pub use counts::Counts;
use counts::{CLASSES, Shown, Totals, What, class_index};
pub use edge::EdgeMetrics;

type Plain = Counter<u64, AtomicU64>;
type Labelled<L> = Family<L, Plain>;

/// An answer, by API and outcome.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct AnsweredLabel {
    /// The caller's API.
    pub dialect: &'static str,
    /// `2xx`, `4xx` ...
    pub status: &'static str,
}

/// Why something did not go on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reason {
    /// Its name.
    pub reason: &'static str,
}

/// An upstream, as the operator named it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct UpstreamLabel {
    /// Its name.
    pub upstream: String,
    /// `answered`, or the fault's name.
    pub outcome: &'static str,
}

/// An upstream alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct UpstreamName {
    /// Its name.
    pub upstream: String,
}

/// Endpoints of an upstream by how they stand.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct EndpointsLabel {
    /// The upstream's name.
    pub upstream: String,
    /// `in_service` or `ejected`.
    pub state: &'static str,
}

/// How upstreams are, brought up to date every second; clones count together.
#[derive(Debug, Clone, Default)]
pub struct UpstreamMetrics {
    /// Endpoints by how they stand.
    pub endpoints: Family<EndpointsLabel, Gauge<i64, AtomicI64>>,
    /// Attempts after the first.
    pub retries: Labelled<UpstreamName>,
    /// Endpoints taken out of service.
    pub ejections: Labelled<UpstreamName>,
}

impl UpstreamMetrics {
    fn register(&self, registry: &mut Registry) {
        registry.register("upstream_endpoints", "Endpoints by how they stand", self.endpoints.clone());
        registry.register("upstream_retries", "Attempts after the first", self.retries.clone());
        registry.register("upstream_ejections", "Endpoints taken out of service", self.ejections.clone());
    }
}

/// Which tokens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Kind {
    /// `input`, `cached_input`, `output`.
    pub kind: &'static str,
}

/// Whether it worked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Verdict {
    /// `applied` or `refused`.
    pub result: &'static str,
}

/// A class of answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StatusClass {
    /// `2xx`, `4xx` ...
    pub status: &'static str,
}

/// What becomes of settled requests on their way into the store; clones count together.
#[derive(Debug, Clone, Default)]
pub struct LedgerMetrics {
    /// Entries written to the store.
    pub stored: Counter,
    /// Bytes of journals that are not in the store yet.
    pub pending_bytes: Gauge<i64, AtomicI64>,
    /// 1 while the store does not take what is settled.
    pub behind: Gauge<i64, AtomicI64>,
    /// Attempts to write to the store that failed.
    pub failures: Labelled<Reason>,
    /// Entries summed up in memory because a journal was full: charged, and lost only if the program is killed before the store takes them.
    pub summed: Counter,
    /// Entries lost because even the sums were too many, or because they cannot be read any more.
    pub lost: Counter,
    /// Journals brought to disk because the store had not taken what they held.
    pub synced: Counter,
    /// Refused requests left out of the usage because a journal was filling up.
    pub uncounted: Counter,
}

impl LedgerMetrics {
    fn register(&self, registry: &mut Registry) {
        registry.register("ledger_stored", "Settled requests written to the store", self.stored.clone());
        registry.register(
            "ledger_pending_bytes",
            "Bytes of journals that are not in the store yet",
            self.pending_bytes.clone(),
        );
        registry.register("ledger_behind", "1 while the store does not take what is settled", self.behind.clone());
        registry.register(
            "ledger_failures",
            "Attempts to write settled requests to the store that failed",
            self.failures.clone(),
        );
        registry.register(
            "ledger_summed",
            "Settled requests summed up in memory because a journal was full",
            self.summed.clone(),
        );
        registry.register(
            "ledger_lost",
            "Settled requests lost: even the sums were too many, or a journal is damaged",
            self.lost.clone(),
        );
        registry.register(
            "ledger_synced",
            "Journals brought to disk because the store had not taken what they held",
            self.synced.clone(),
        );
        registry.register(
            "ledger_uncounted_refusals",
            "Refused requests left out of the usage because a journal was filling up",
            self.uncounted.clone(),
        );
    }
}

/// Handles to count with, and the registry they are read from.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// What workers count of every request.
    totals: Totals,
    /// Refused requests.
    pub refusals: Labelled<Reason>,
    /// Accidents.
    pub faults: Labelled<Reason>,
    /// Streams ended before their end.
    pub cuts: Labelled<Reason>,
    /// Requests sent upstream.
    pub upstream: Labelled<UpstreamLabel>,
    /// How upstreams are.
    pub upstreams: UpstreamMetrics,
    /// Open client connections.
    pub connections: Gauge<i64, AtomicI64>,
    /// Connections that went from one worker to another between two requests.
    pub connections_moved: Counter,
    /// Connections turned away by a cap.
    pub connections_refused: Labelled<Reason>,
    /// Requests shed because too much is under way, by what there was too much of.
    pub shed: Labelled<Reason>,
    /// How far the wall clock is ahead of the time that is certain; below 0 it is behind it, and not believed.
    pub clock_lead_seconds: Gauge<i64, AtomicI64>,
    /// Connections that there are descriptors for.
    pub connections_room: Gauge<i64, AtomicI64>,
    /// Memory of the process as of the last look, bytes.
    pub memory_bytes: Gauge<i64, AtomicI64>,
    /// What it may have before requests are shed; 0 where there is no such bound.
    pub memory_limit_bytes: Gauge<i64, AtomicI64>,
    /// Bytes of request bodies held.
    pub body_bytes: Gauge<u64, AtomicU64>,
    /// Keys in the table.
    pub keys: Gauge<i64, AtomicI64>,
    /// Reloads of configuration and key file.
    pub reloads: Labelled<Verdict>,
    /// 1 while the files on disk are the ones in force.
    pub config_in_force: Gauge<i64, AtomicI64>,
    /// Time limits being kept, as of the last tick; at rest one for each open connection.
    pub time_limits: Gauge<i64, AtomicI64>,
    /// Idle connections to upstreams, as of the last tick.
    pub upstream_idle: Gauge<i64, AtomicI64>,
    /// Requests under way at upstreams, as of the last tick.
    pub upstream_in_flight: Gauge<i64, AtomicI64>,
    /// Requests to the admin listener.
    pub admin_requests: Labelled<StatusClass>,
    /// Logins to the admin listener that failed.
    pub admin_failed_logins: Counter,
    /// Accidents of the store.
    pub store_faults: Labelled<Reason>,
    /// Requests ended by a panic; each is a bug.
    pub panics: Counter,
    /// What becomes of settled requests on their way into the store.
    pub ledger: LedgerMetrics,
    /// What the listeners count.
    pub edge: EdgeMetrics,
    /// Log lines lost because nobody read them in time; all planes of a process share it.
    pub log_lines_dropped: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Every metric at zero.
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("keyward"),
            totals: Totals::default(),
            refusals: Family::default(),
            faults: Family::default(),
            cuts: Family::default(),
            upstream: Family::default(),
            upstreams: UpstreamMetrics::default(),
            connections: Gauge::default(),
            connections_moved: Counter::default(),
            connections_refused: Family::default(),
            shed: Family::default(),
            clock_lead_seconds: Gauge::default(),
            connections_room: Gauge::default(),
            memory_bytes: Gauge::default(),
            memory_limit_bytes: Gauge::default(),
            body_bytes: Gauge::default(),
            keys: Gauge::default(),
            reloads: Family::default(),
            config_in_force: Gauge::default(),
            time_limits: Gauge::default(),
            upstream_idle: Gauge::default(),
            upstream_in_flight: Gauge::default(),
            admin_requests: Family::default(),
            admin_failed_logins: Counter::default(),
            store_faults: Family::default(),
            panics: Counter::default(),
            ledger: LedgerMetrics::default(),
            edge: EdgeMetrics::default(),
            log_lines_dropped: lines::dropped(),
        };
        metrics.register();
        metrics
    }

    /// For one more worker to count with.
    pub fn counts(&self) -> Counts {
        self.totals.counts()
    }

    /// Requests under way.
    pub fn in_flight(&self) -> u64 {
        self.totals.in_flight()
    }

    /// Units charged.
    pub fn units(&self) -> Units {
        self.totals.units()
    }

    /// Tokens charged, of one kind.
    pub fn tokens(&self, kind: &str) -> Tokens {
        self.totals.tokens().find(|(label, _)| label.kind == kind).map_or(0, |(_, tokens)| tokens)
    }

    /// Answers without a usage report, charged by estimate.
    pub fn estimated(&self) -> u64 {
        self.totals.estimated()
    }

    /// Counts an answer of the admin listener.
    pub fn count_admin_answer(&self, status: u16) {
        let status = CLASSES.get(class_index(status)).copied().unwrap_or_default();
        self.admin_requests.get_or_create(&StatusClass { status }).inc();
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "requests",
            "Answered requests by dialect and status class",
            Shown::of(&self.totals, What::Answers),
        );
        registry.register("refusals", "Refused requests by reason", self.refusals.clone());
        registry.register("faults", "Accidents by kind", self.faults.clone());
        registry.register("stream_cuts", "Answers ended before their end, by reason", self.cuts.clone());
        registry.register("upstream_requests", "Requests sent upstream by outcome", self.upstream.clone());
        registry.register("tokens", "Tokens charged by kind", Shown::of(&self.totals, What::Tokens));
        registry.register("quota_units", "Quota units charged", Shown::of(&self.totals, What::Units));
        registry.register("usage_estimated", "Answers charged by estimate", Shown::of(&self.totals, What::Estimated));
        registry.register("connections", "Open client connections", self.connections.clone());
        registry.register(
            "connections_moved",
            "Connections that went to a less busy worker between two requests",
            self.connections_moved.clone(),
        );
        registry.register(
            "connections_refused",
            "Connections turned away, by reason",
            self.connections_refused.clone(),
        );
        registry.register(
            "requests_shed",
            "Requests shed because too much is under way, by what there was too much of",
            self.shed.clone(),
        );
        registry.register("requests_in_flight", "Requests under way", Shown::of(&self.totals, What::InFlight));
        registry.register("body_bytes", "Bytes of request bodies held in memory", self.body_bytes.clone());
        registry.register("keys", "Keys in the table", self.keys.clone());
        registry.register("reloads", "Reloads of configuration and key file", self.reloads.clone());
        registry.register(
            "config_in_force",
            "1 while the files on disk are the ones in force, 0 after a refused reload",
            self.config_in_force.clone(),
        );
        registry.register_with_unit(
            "first_byte",
            "From a request's head to the first byte of its answer",
            Unit::Seconds,
            Shown::of(&self.totals, What::FirstByte),
        );
        registry.register("time_limits", "Time limits being kept", self.time_limits.clone());
        registry.register("upstream_idle_connections", "Idle connections to upstreams", self.upstream_idle.clone());
        registry.register(
            "upstream_requests_in_flight",
            "Requests under way at upstreams",
            self.upstream_in_flight.clone(),
        );
        self.upstreams.register(registry);
        self.register_admin();
        self.register_machine();
        let registry = &mut self.registry;
        self.ledger.register(registry);
        self.edge.register(registry);
        registry.register("panics", "Requests ended by a panic; each is a bug", self.panics.clone());
        registry.register(
            "log_lines_dropped",
            "Log lines lost because nobody read them in time",
            self.log_lines_dropped.clone(),
        );
    }

    fn register_machine(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "connections_room",
            "Connections that there are descriptors for",
            self.connections_room.clone(),
        );
        registry.register("memory_bytes", "Memory of the process", self.memory_bytes.clone());
        registry.register(
            "memory_limit_bytes",
            "Memory above which requests are shed; 0 where there is no such bound",
            self.memory_limit_bytes.clone(),
        );
        registry.register(
            "clock_lead_seconds",
            "How far the wall clock is ahead of the time that is certain; below 0 it is behind it and not believed",
            self.clock_lead_seconds.clone(),
        );
    }

    fn register_admin(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "admin_requests",
            "Requests to the admin listener by status class",
            self.admin_requests.clone(),
        );
        registry.register(
            "admin_failed_logins",
            "Failed logins to the admin listener",
            self.admin_failed_logins.clone(),
        );
        registry.register("store_faults", "Accidents of the store by kind", self.store_faults.clone());
    }

    /// All of them in the text format Prometheus and OpenMetrics scrapers read.
    pub fn render(&self) -> String {
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(std::fmt::Error) => String::new(), // writing into a String does not fail
        }
    }
}
