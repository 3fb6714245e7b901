//! Which upstream serves a model. Pure: built from the configuration, asked in memory.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use http::HeaderValue;
use prometheus_client::metrics::counter::Counter;

use crate::dialect::ModelEntry;
use crate::policy::DialectName;
use crate::units::ModelName;
use crate::upstream::health::Health;
use crate::upstream::http1::head::Destination;
use crate::upstream::keyring::Keyring;
use crate::upstream::multiplex::Spoken;
use crate::upstream::pool::Pool;
use crate::upstream::resolve::Resolved;
use crate::upstream::retry::Budget;
use crate::upstream::sandbox;
use crate::upstream::settings::{Address, Kind, UpstreamSettings};
use crate::upstream::tally::Tally;

/// A pool of endpoints that serve the same models, with everything about it that can be made once.
#[derive(Debug)]
pub struct Upstream {
    /// As configured.
    pub settings: UpstreamSettings,
    /// Its endpoints.
    pub endpoints: Vec<Endpoint>,
    /// Their weights, in the same order.
    pub weights: Box<[u32]>,
    /// Which of them are in service.
    pub health: Health,
    /// The retries it has left.
    pub budget: Budget,
    /// The operator's credentials for it.
    pub keyring: Keyring,
    /// What happened there since it was last shown; whoever comes after with other settings counts on.
    pub tally: Arc<Tally>,
    /// Counts requests, for the choice between endpoints that are equal.
    pub tickets: AtomicU32,
    /// Counts its answers; looked up at the first.
    pub answers: OnceLock<Counter>,
}

/// One address of an upstream.
#[derive(Debug)]
pub struct Endpoint {
    /// Its number in this process: what pooled connections are kept by.
    pub number: u64,
    /// Where it is.
    pub address: Address,
    /// Its `Host` header.
    pub host: HeaderValue,
    /// The addresses of whatever is connected to: itself, or the proxy before it.
    pub resolved: Resolved,
    /// Which HTTP it was found to speak, where that is its own choice.
    pub spoken: Spoken,
}

impl Endpoint {
    /// Where requests of HTTP/1 to it go.
    pub fn destination(&self) -> Destination<'_> {
        Destination { prefix: &self.address.prefix, host: &self.host }
    }
}

static NEXT_ENDPOINT: AtomicU64 = AtomicU64::new(1);

impl Upstream {
    /// Builds it; `None` when an authority cannot be a header, which a checked configuration excludes.
    pub fn new(settings: UpstreamSettings) -> Option<Self> {
        let endpoints = settings
            .urls
            .iter()
            .map(|target| {
                Some(Endpoint {
                    number: NEXT_ENDPOINT.fetch_add(1, Ordering::Relaxed),
                    address: target.address.clone(),
                    host: HeaderValue::from_str(target.address.authority.as_str()).ok()?,
                    resolved: Resolved::default(),
                    spoken: Spoken::default(),
                })
            })
            .collect::<Option<Vec<_>>>()?;
        Some(Self {
            weights: settings.urls.iter().map(|target| target.weight.max(1)).collect(),
            health: Health::new(endpoints.len(), settings.health.clone()),
            budget: Budget::new(settings.retry_budget_percent),
            keyring: Keyring::new(&settings.credentials),
            tally: Arc::default(),
            tickets: AtomicU32::new(0),
            answers: OnceLock::new(),
            settings,
            endpoints,
        })
    }

    /// The same upstream with other settings: what is under way counts on, and an endpoint that stays and is reached as before is as well as it was.
    fn after(old: &Self, settings: UpstreamSettings) -> Option<Self> {
        let of_old = |address: &Address| old.settings.urls.iter().position(|target| target.address == *address);
        let before = settings.urls.iter().map(|target| of_old(&target.address)).collect::<Vec<_>>();
        let is_as_reached = settings.reaches_as(&old.settings);
        let health = Health::after(&old.health, &before, settings.health.clone(), is_as_reached);
        Some(Self { health, tally: Arc::clone(&old.tally), ..Self::new(settings)? })
    }

    /// How many endpoints it has, and how many of them are ejected.
    pub fn ejected(&self) -> (usize, usize) {
        let count = self.endpoints.len();
        (count, (0..count).filter(|index| self.health.is_ejected(*index)).count())
    }

    /// Whether it answers calls of `dialect`.
    pub fn speaks(&self, dialect: DialectName) -> bool {
        match self.settings.kind {
            Kind::Sandbox => true,
            Kind::Http(own) => own == dialect,
        }
    }

    /// Whether its configuration says that it serves `model`.
    pub fn serves(&self, model: &str) -> bool {
        self.settings.models.iter().any(|glob| glob.matches(model))
    }
}

/// Who serves a model, and the name it is known by there, as the configuration says.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    /// Who.
    pub upstream: &'a Arc<Upstream>,
    /// The name to be written into the request; `None` when it is the one the client wrote.
    pub rename: Option<&'a ModelName>,
}

/// An upstream as the requests of one worker hold it, uncounted by the other workers: see [`Pool::hold`].
pub type Held = Rc<Arc<Upstream>>;

/// A model's way: the upstream, and the name it knows the model by.
#[derive(Debug, Clone)]
pub struct Way {
    /// Where it goes.
    pub upstream: Held,
    /// The name to be written into the request; `None` when it is the one the client wrote.
    pub rename: Option<ModelName>,
    /// Whether another upstream may take over from this one.
    pub is_followed: bool,
}

impl Way {
    /// The way of a request of this worker; nobody takes over.
    pub fn of(found: Found<'_>, pool: &Pool) -> Self {
        Self { upstream: pool.hold(found.upstream), rename: found.rename.cloned(), is_followed: false }
    }
}

/// Every way, in the operator's order.
#[derive(Debug, Default)]
pub struct Routes {
    upstreams: Vec<Arc<Upstream>>,
    sandbox: Option<Arc<Upstream>>,
    aliases: HashMap<ModelName, ModelName>,
    fallbacks: HashMap<ModelName, Vec<ModelName>>,
    /// Whether there is more than one priority.
    is_ranked: bool,
}

impl Routes {
    /// From a checked configuration. Upstreams that are as in `old` are taken over with their connections, those that have become others with what
    /// is known of them.
    pub fn new(settings: Vec<UpstreamSettings>, aliases: Vec<(ModelName, ModelName)>, old: Option<&Self>) -> Self {
        let mut settings = settings;
        // Stable: between equals the operator's order counts.
        settings.sort_by_key(|settings| settings.priority);
        let upstreams = settings
            .into_iter()
            .filter_map(|settings| {
                let of_name = |up: &&Arc<Upstream>| up.settings.name == settings.name;
                match old.and_then(|old| old.upstreams.iter().find(of_name)) {
                    Some(kept) if kept.settings == settings => Some(Arc::clone(kept)),
                    Some(old) if old.settings.kind == settings.kind => Upstream::after(old, settings).map(Arc::new),
                    _ => Upstream::new(settings).map(Arc::new),
                }
            })
            .collect::<Vec<_>>();
        let sandbox = Upstream::new(UpstreamSettings::sandbox()).map(Arc::new);
        let priority = |up: &Arc<Upstream>| up.settings.priority;
        let is_ranked = upstreams.first().map(priority) != upstreams.last().map(priority);
        Self { upstreams, sandbox, aliases: aliases.into_iter().collect(), fallbacks: HashMap::new(), is_ranked }
    }

    /// The same with these models tried in the place of others; none is its own.
    #[must_use]
    pub fn with_fallbacks(self, fallbacks: Vec<(ModelName, Vec<ModelName>)>) -> Self {
        Self { fallbacks: fallbacks.into_iter().collect(), ..self }
    }

    /// The models to be tried, in this order, where no upstream can take a request for `model`, as the client wrote it.
    pub fn fallbacks(&self, model: &ModelName) -> &[ModelName] {
        self.fallbacks.get(model).map_or(&[], Vec::as_slice)
    }

    /// The way of `model` for callers of `dialect`; the first upstream that serves it, or what it is an alias of.
    pub fn find(&self, dialect: DialectName, model: &ModelName) -> Option<Found<'_>> {
        let rename = self.aliases.get(model);
        let name = rename.unwrap_or(model).as_str();
        let upstream = self.upstreams.iter().find(|up| up.speaks(dialect) && up.serves(name))?;
        Some(Found { upstream, rename })
    }

    /// The upstream that takes over for one that cannot serve `model`, the name that is sent upstream, and the models named beside it: the
    /// next of a higher priority. One of the same priority never does, since nobody said that prompts may go there; nor does
    /// the built-in backend, whose answers are made up.
    pub fn after(
        &self,
        failed: &Upstream,
        dialect: DialectName,
        model: &ModelName,
        others: &[ModelName],
    ) -> Option<&Arc<Upstream>> {
        if !self.is_ranked {
            return None;
        }
        let serves = |up: &Upstream| {
            up.serves(model.as_str())
                && others.iter().all(|other| !self.aliases.contains_key(other) && up.serves(other.as_str()))
        };
        let is_next = |up: &&Arc<Upstream>| {
            up.settings.priority > failed.settings.priority && up.settings.kind == Kind::Http(dialect) && serves(up)
        };
        self.upstreams.iter().find(is_next)
    }

    /// Every upstream, in the order in which they are asked.
    pub fn upstreams(&self) -> &[Arc<Upstream>] {
        &self.upstreams
    }

    /// As [`Routes::find`], among the upstreams that take websockets.
    pub fn find_websocket(&self, dialect: DialectName, model: &ModelName) -> Option<Found<'_>> {
        let rename = self.aliases.get(model);
        let name = rename.unwrap_or(model).as_str();
        let takes = |up: &&Arc<Upstream>| up.settings.websocket && up.speaks(dialect) && up.serves(name);
        let upstream = self.upstreams.iter().find(takes)?;
        Some(Found { upstream, rename })
    }

    /// Whether `upstream` serves `model` under that very name, so that it may stand in a body beside the one model. An
    /// alias is no name an upstream knows, but for the built-in backend, which takes any.
    pub fn serves_as_named(&self, upstream: &Upstream, model: &ModelName) -> bool {
        let is_alias = self.aliases.contains_key(model) && upstream.settings.kind != Kind::Sandbox;
        !is_alias && upstream.serves(model.as_str())
    }

    /// The first upstream of `dialect`, for calls that name no model.
    pub fn any(&self, dialect: DialectName) -> Option<Found<'_>> {
        let upstream = self.upstreams.iter().find(|up| up.speaks(dialect))?;
        Some(Found { upstream, rename: None })
    }

    /// The upstream with this name, for passthrough paths.
    pub fn named(&self, name: &str) -> Option<Found<'_>> {
        let upstream = self.upstreams.iter().find(|up| &*up.settings.name == name)?;
        Some(Found { upstream, rename: None })
    }

    /// The built-in backend, whatever the model: where sandbox keys go.
    pub fn sandbox(&self) -> Option<Found<'_>> {
        Some(Found { upstream: self.sandbox.as_ref()?, rename: None })
    }

    /// The models that have a name of their own, for the list of models: exact names and aliases, and what the built-in backend names,
    /// in no order. A pattern names none, and no upstream is asked: the list comes from memory.
    pub fn listed(&self, dialect: DialectName) -> Vec<ModelEntry> {
        let mut entries = Vec::new();
        for upstream in self.upstreams.iter().filter(|up| up.speaks(dialect)) {
            let exact = upstream.settings.models.iter().filter(|glob| glob.is_exact());
            entries.extend(exact.filter_map(|glob| entry(glob.as_str(), upstream)));
            if upstream.settings.kind == Kind::Sandbox {
                let served = sandbox::MODELS.iter().filter(|model| upstream.serves(model));
                entries.extend(served.filter_map(|model| entry(model, upstream)));
            }
        }
        for alias in self.aliases.keys() {
            if let Some(found) = self.find(dialect, alias) {
                entries.extend(entry(alias.as_str(), found.upstream));
            }
        }
        entries
    }

    /// What the built-in backend names to a sandbox key.
    pub fn listed_in_sandbox(&self) -> Vec<ModelEntry> {
        let Some(upstream) = &self.sandbox else { return Vec::new() };
        sandbox::MODELS.iter().filter_map(|model| entry(model, upstream)).collect()
    }
}

fn entry(model: &str, upstream: &Upstream) -> Option<ModelEntry> {
    Some(ModelEntry { id: ModelName::new(model)?, owned_by: upstream.settings.name.clone(), created_unix: 0 })
}
