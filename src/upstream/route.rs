//! Which upstream serves a model. Pure: built from the configuration, asked in memory.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use http::HeaderValue;
use prometheus_client::metrics::counter::Counter;

use crate::dialect::ModelEntry;
use crate::policy::DialectName;
use crate::units::ModelName;
use crate::upstream::sandbox;
use crate::upstream::settings::{Address, Kind, UpstreamSettings};

/// A pool of endpoints that serve the same models, with everything about it that can be made once.
#[derive(Debug)]
pub struct Upstream {
    /// As configured.
    pub settings: UpstreamSettings,
    /// Its endpoints.
    pub endpoints: Vec<Endpoint>,
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
}

static NEXT_ENDPOINT: AtomicU64 = AtomicU64::new(1);

impl Upstream {
    /// Builds it; `None` when an authority cannot be a header, which a checked configuration excludes.
    pub fn new(settings: UpstreamSettings) -> Option<Self> {
        let endpoints = settings
            .urls
            .iter()
            .map(|address| {
                Some(Endpoint {
                    number: NEXT_ENDPOINT.fetch_add(1, Ordering::Relaxed),
                    address: address.clone(),
                    host: HeaderValue::from_str(address.authority.as_str()).ok()?,
                })
            })
            .collect::<Option<Vec<_>>>()?;
        Some(Self { settings, endpoints, answers: OnceLock::new() })
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

/// A model's way: the upstream, and the name it knows the model by.
#[derive(Debug, Clone)]
pub struct Way {
    /// Where it goes.
    pub upstream: Arc<Upstream>,
    /// The name to be written into the request; `None` when it is the one the client wrote.
    pub rename: Option<ModelName>,
}

/// Every way, in the operator's order.
#[derive(Debug, Default)]
pub struct Routes {
    upstreams: Vec<Arc<Upstream>>,
    sandbox: Option<Arc<Upstream>>,
    aliases: HashMap<ModelName, ModelName>,
}

impl Routes {
    /// From a checked configuration. Upstreams that are as in `old` are taken over with their connections.
    pub fn new(settings: Vec<UpstreamSettings>, aliases: Vec<(ModelName, ModelName)>, old: Option<&Self>) -> Self {
        let upstreams = settings
            .into_iter()
            .filter_map(|settings| {
                let kept = old.and_then(|old| old.upstreams.iter().find(|up| up.settings == settings));
                match kept {
                    Some(kept) => Some(Arc::clone(kept)),
                    None => Upstream::new(settings).map(Arc::new),
                }
            })
            .collect::<Vec<_>>();
        let sandbox = Upstream::new(UpstreamSettings::sandbox()).map(Arc::new);
        Self { upstreams, sandbox, aliases: aliases.into_iter().collect() }
    }

    /// The way of `model` for callers of `dialect`; the first upstream that serves it, or what it is an alias of.
    pub fn find(&self, dialect: DialectName, model: &ModelName) -> Option<Way> {
        let target = self.aliases.get(model);
        let name = target.unwrap_or(model);
        let upstream = self.upstreams.iter().find(|up| up.speaks(dialect) && up.serves(name.as_str()))?;
        Some(Way { upstream: Arc::clone(upstream), rename: target.cloned() })
    }

    /// As [`Routes::find`], among the upstreams that take websockets.
    pub fn find_websocket(&self, dialect: DialectName, model: &ModelName) -> Option<Way> {
        let target = self.aliases.get(model);
        let name = target.unwrap_or(model).as_str();
        let takes = |up: &&Arc<Upstream>| up.settings.websocket && up.speaks(dialect) && up.serves(name);
        let upstream = self.upstreams.iter().find(takes)?;
        Some(Way { upstream: Arc::clone(upstream), rename: target.cloned() })
    }

    /// Whether the upstream of `way` serves `model` under that very name, so that it may stand in a body beside the one model. An
    /// alias is no name an upstream knows, but for the built-in backend, which takes any.
    pub fn serves_as_named(&self, way: &Way, model: &ModelName) -> bool {
        let is_alias = self.aliases.contains_key(model) && way.upstream.settings.kind != Kind::Sandbox;
        !is_alias && way.upstream.serves(model.as_str())
    }

    /// The first upstream of `dialect`, for calls that name no model.
    pub fn any(&self, dialect: DialectName) -> Option<Way> {
        let upstream = self.upstreams.iter().find(|up| up.speaks(dialect))?;
        Some(Way { upstream: Arc::clone(upstream), rename: None })
    }

    /// The upstream with this name, for passthrough paths.
    pub fn named(&self, name: &str) -> Option<Way> {
        let upstream = self.upstreams.iter().find(|up| &*up.settings.name == name)?;
        Some(Way { upstream: Arc::clone(upstream), rename: None })
    }

    /// The built-in backend, whatever the model: where sandbox keys go.
    pub fn sandbox(&self) -> Option<Way> {
        let upstream = Arc::clone(self.sandbox.as_ref()?);
        Some(Way { upstream, rename: None })
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
            if let Some(way) = self.find(dialect, alias) {
                entries.extend(entry(alias.as_str(), &way.upstream));
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
