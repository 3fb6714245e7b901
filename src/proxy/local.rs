//! Answers made from memory: the list of models, and what a key's holder may know of it.

use crate::admission::Caller;
use crate::dialect::route::Route;
use crate::dialect::{self, Answer, key_status};
use crate::policy::{Endpoint, Refusal};
use crate::proxy::plane::{Live, Plane};
use crate::upstream::Routes;

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
        let standing = caller.slot().entry().limits().standing(policy, now);
        return Ok(key_status::key_status(policy, &standing, now));
    }
    let Some(wanted) = &route.model else {
        let mut listed = listed(&live.routes, caller, route);
        listed.retain(|entry| policy.models.allows(entry.id.as_str()));
        return Ok(words.models(&listed));
    };
    let not_found = || Refusal::ModelNotFound { model: Some(wanted.clone()) };
    if !policy.models.allows(wanted.as_str()) {
        return Err(not_found());
    }
    let way = if policy.is_sandbox { live.routes.sandbox() } else { live.routes.find(route.dialect, wanted) };
    let way = way.ok_or_else(not_found)?;
    Ok(words.model(&dialect::ModelEntry {
        id: wanted.clone(),
        owned_by: way.upstream.settings.name.clone(),
        created_unix: 0,
    }))
}

/// What is listed to this key: its own exact names that are served, beside the ones the upstreams name.
fn listed(routes: &Routes, caller: &Caller, route: &Route) -> Vec<dialect::ModelEntry> {
    let mut listed = routes.listed(route.dialect);
    for name in caller.policy().models.patterns().filter_map(crate::units::ModelName::new) {
        let way = if caller.policy().is_sandbox { routes.sandbox() } else { routes.find(route.dialect, &name) };
        if let Some(way) = way
            && !listed.iter().any(|entry| entry.id == name)
        {
            listed.push(dialect::ModelEntry {
                id: name,
                owned_by: way.upstream.settings.name.clone(),
                created_unix: 0,
            });
        }
    }
    listed.sort_by(|a, b| a.id.cmp(&b.id));
    listed
}
