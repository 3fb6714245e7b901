//! From the upstream to the client: bytes untouched and at once, and what was used is charged.

mod answers;
mod flow;
mod streams;

use crate::harness::apis::{self, Api};
use crate::harness::proxy::ALICE;
use crate::harness::{Answer, Backend, Client, Proxy};

/// A proxy whose key has a quota, so that what is charged shows.
fn proxy(backend: &Backend) -> Proxy {
    Proxy::with_key(backend, "quota_limit = 1000000")
}

/// Units charged to the key so far; what is still reserved must be nothing.
async fn charged(proxy: &Proxy) -> u64 {
    proxy.quiet().await;
    let entry = proxy.entry(ALICE);
    assert_eq!(entry.limits().quota_committed(), entry.limits().quota_used(), "a reservation leaked");
    assert_eq!(entry.limits().in_use(), 0, "a slot leaked");
    entry.limits().quota_used()
}

/// One call for JSON.
async fn call(proxy: &Proxy, api: &Api, more: &str) -> Answer {
    Client::once(proxy.address, &api.call(ALICE, more)).await
}

/// The JSON answer of the API that a path belongs to.
fn json_for(path: &str) -> &'static str {
    let api = apis::ALL.into_iter().find(|api| path.starts_with(api.path.split(['?', ':']).next().unwrap_or_default()));
    api.expect("a known path").json
}

/// The events of the API that a path belongs to.
fn events_for(path: &str) -> &'static [&'static str] {
    let api = apis::ALL.into_iter().find(|api| path.starts_with(api.path.split(['?', ':']).next().unwrap_or_default()));
    api.expect("a known path").events
}
