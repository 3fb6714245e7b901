//! Answers made from memory: the list of models, and what a key's holder may know of it.

use crate::admission::Caller;
use crate::dialect::route::Route;
use crate::dialect::{self, Answer, ModelEntry, key_status};
use crate::policy::{Endpoint, Refusal};
use crate::proxy::plane::{Live, Worker};
use crate::units::ModelName;
use crate::upstream::{Routes, Upstream, discovery};

/// Answers a local call.
///
/// # Errors
/// [`Refusal::EndpointNotAllowed`]; [`Refusal::ModelNotFound`] for a model that is not served or not the key's to see.
pub async fn answer(worker: &Worker, live: &Live, caller: &Caller, route: &Route) -> Result<Answer, Refusal> {
    let policy = caller.policy();
    if !policy.endpoints.allows(route.endpoint) {
        return Err(Refusal::EndpointNotAllowed { endpoint: route.endpoint });
    }
    let words = dialect::of(route.dialect);
    if route.endpoint == Endpoint::KeyStatus {
        let now = worker.plane.clock.now();
        let standing = caller.slot().entry().limits().standing(policy, now);
        return Ok(key_status::key_status(policy, &standing, now));
    }
    let Some(wanted) = &route.model else {
        return Ok(words.models(&listed(worker, &live.routes, caller, route).await));
    };
    let not_found = || Refusal::ModelNotFound { model: Some(wanted.clone()) };
    if !policy.models.allows(wanted.as_str()) {
        return Err(not_found());
    }
    let way = if policy.is_sandbox { live.routes.sandbox() } else { live.routes.find(route.dialect, wanted) };
    let way = way.ok_or_else(not_found)?;
    Ok(words.model(&entry(wanted.clone(), &way.upstream)))
}

/// What is listed to this key, each once and sorted: exact names and aliases of the configuration, names that upstreams with patterns
/// say they serve, and the key's own exact names. Only what the key may use and what is served.
async fn listed(worker: &Worker, routes: &Routes, caller: &Caller, route: &Route) -> Vec<ModelEntry> {
    let policy = caller.policy();
    let mut listed = routes.listed(route.dialect);
    for upstream in routes.upstreams().iter().filter(|upstream| upstream.speaks(route.dialect)) {
        let names = discovery::served(&worker.pool, upstream).await;
        listed.extend(names.iter().map(|name| entry(name.clone(), upstream)));
    }
    for name in policy.models.patterns().filter_map(ModelName::new) {
        let way = if policy.is_sandbox { routes.sandbox() } else { routes.find(route.dialect, &name) };
        listed.extend(way.map(|way| entry(name, &way.upstream)));
    }
    listed.retain(|entry| policy.models.allows(entry.id.as_str()));
    listed.sort_by(|a, b| a.id.cmp(&b.id));
    listed.dedup_by(|a, b| a.id == b.id);
    listed
}

fn entry(id: ModelName, upstream: &Upstream) -> ModelEntry {
    ModelEntry { id, owned_by: upstream.settings.name.clone(), created_unix: 0 }
}
