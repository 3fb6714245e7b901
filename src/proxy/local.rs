//! Answers made from memory: the list of models, and what a key's holder may know of it.

use crate::admission::Caller;
use crate::dialect::route::Route;
use crate::dialect::{self, Answer, ModelEntry, key_status, token_usage};
use crate::policy::{Endpoint, Refusal};
use crate::proxy::plane::{Live, Plane};
use crate::units::ModelName;
use crate::upstream::{Routes, Upstream};

/// Answers a local call.
///
/// # Errors
/// [`Refusal::EndpointNotAllowed`]; [`Refusal::ModelNotFound`] for a model that is not served or not the key's to see.
pub fn answer(plane: &Plane, live: &Live, caller: &Caller, route: &Route) -> Result<Answer, Refusal> {
    let policy = caller.policy();
    if !policy.endpoints.allows(route.endpoint) {
        return Err(Refusal::EndpointNotAllowed { endpoint: route.endpoint });
    }
    let words = dialect::of(route.dialect);
    if route.endpoint == Endpoint::KeyStatus {
        let now = plane.clock.now();
        let standing = caller.slot().entry().limits().standing(policy, plane.clock.certain());
        return Ok(key_status::key_status(policy, &standing, now));
    }
    if route.endpoint == Endpoint::TokenUsage {
        let limits = caller.slot().entry().limits();
        let standing = limits.standing(policy, plane.clock.certain());
        return Ok(token_usage::token_usage(policy, standing.quota.as_ref(), limits.quota_used()));
    }
    let Some(wanted) = &route.model else {
        return Ok(words.models(&listed(&live.routes, caller, route)));
    };
    let not_found = || Refusal::ModelNotFound { model: Some(wanted.clone()) };
    if !policy.models.allows(wanted.as_str()) {
        return Err(not_found());
    }
    let way = if policy.is_sandbox { live.routes.sandbox() } else { live.routes.find(route.dialect, wanted) };
    let way = way.ok_or_else(not_found)?;
    Ok(words.model(&entry(wanted.clone(), way.upstream)))
}

/// What is listed to this key, each once and sorted: the names and aliases of the configuration, and the key's own exact names. Only what
/// the key may use and what is served.
fn listed(routes: &Routes, caller: &Caller, route: &Route) -> Vec<ModelEntry> {
    let policy = caller.policy();
    let mut listed = if policy.is_sandbox { routes.listed_in_sandbox() } else { routes.listed(route.dialect) };
    for name in policy.models.patterns().filter_map(ModelName::new) {
        let way = if policy.is_sandbox { routes.sandbox() } else { routes.find(route.dialect, &name) };
        listed.extend(way.map(|way| entry(name.clone(), way.upstream)));
    }
    listed.retain(|entry| policy.models.allows(entry.id.as_str()));
    listed.sort_by(|a, b| a.id.cmp(&b.id));
    listed.dedup_by(|a, b| a.id == b.id);
    listed
}

fn entry(id: ModelName, upstream: &Upstream) -> ModelEntry {
    ModelEntry { id, owned_by: upstream.settings.name.clone(), created_unix: 0 }
}
