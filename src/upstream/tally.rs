//! What happened at an upstream since it was last looked at, and how it is brought into the metrics: by the control plane, so that no
//! worker looks a label up.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::telemetry::metrics::{EndpointsLabel, UpstreamMetrics, UpstreamName};
use crate::upstream::route::Routes;

/// Counts of one upstream; workers share it.
#[derive(Debug, Default)]
pub struct Tally {
    /// Attempts after the first.
    pub retries: AtomicU64,
    /// Endpoints taken out of service.
    pub ejections: AtomicU64,
}

/// Brings what is known of all upstreams into the metrics. `shown` are the names that are there already; what a reload has taken
/// away is taken out.
pub fn show(routes: &Routes, metrics: &UpstreamMetrics, shown: &mut HashSet<String>) {
    let mut names = HashSet::new();
    for upstream in routes.upstreams() {
        let name = upstream.settings.name.to_string();
        let label = UpstreamName { upstream: name.clone() };
        metrics.retries.get_or_create(&label).inc_by(upstream.tally.retries.swap(0, Ordering::Relaxed));
        metrics.ejections.get_or_create(&label).inc_by(upstream.tally.ejections.swap(0, Ordering::Relaxed));
        let (all, ejected) = upstream.ejected();
        // Where there is none, as with the built-in backend, none can be out of service.
        let states = if all == 0 { &[][..] } else { &[("in_service", all - ejected), ("ejected", ejected)] };
        for &(state, count) in states {
            let label = EndpointsLabel { upstream: name.clone(), state };
            metrics.endpoints.get_or_create(&label).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        names.insert(name);
    }
    for gone in shown.difference(&names) {
        for state in ["in_service", "ejected"] {
            metrics.endpoints.remove(&EndpointsLabel { upstream: gone.clone(), state });
        }
    }
    *shown = names;
}
