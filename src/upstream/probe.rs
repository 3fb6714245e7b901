//! Asks endpoints whether they are well, on the control plane's runtime: no worker ever waits for that.
//!
//! Where the operator names a path, every endpoint is asked for it at each interval. Where not, those that are ejected are asked for a
//! connection, so that one that has come back is found at once and not by a client's request.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::time::{sleep, timeout};

use crate::clock::{Clock, NS_PER_SECOND};
use crate::headers::Headers;
use crate::telemetry::metrics::UpstreamMetrics;
use crate::upstream::connect::{self, Opened, Stream};
use crate::upstream::health::Finding;
use crate::upstream::request::{Outgoing, Whole};
use crate::upstream::route::{Endpoint, Routes, Upstream};
use crate::upstream::seat::note;
use crate::upstream::settings::{Kind, ProbeSettings};
use crate::upstream::tally;
use crate::upstream::tls::Defaults;

/// How often it is looked whether a probe is due, at least and at most: a process that has nothing to do is not to be woken all the time.
const LOOK: RangeInclusive<Duration> = Duration::from_millis(25)..=Duration::from_millis(250);

/// Looks in the shortest interval between two probes: one of them is late by no more than this part.
const LOOKS_IN_INTERVAL: u32 = 8;

/// How long the metrics are left alone.
const SHOW_NS: u64 = NS_PER_SECOND;

/// Probes the upstreams that `routes` gives, and shows how they are, for ever.
pub async fn run(routes: impl Fn() -> Arc<Routes>, clock: Clock, tls: Defaults, metrics: UpstreamMetrics) {
    let rounds = Rounds::default();
    let (mut show_at_ns, mut shown) = (0, HashSet::new());
    loop {
        let now_ns = clock.monotonic_ns();
        let routes = routes();
        if now_ns >= show_at_ns {
            show_at_ns = now_ns.saturating_add(SHOW_NS);
            tally::show(&routes, &metrics, &mut shown);
        }
        for upstream in routes.upstreams() {
            for index in 0..upstream.endpoints.len() {
                if rounds.is_due(upstream, index, now_ns) {
                    let (upstream, rounds, clock, tls) =
                        (Arc::clone(upstream), rounds.clone(), clock.clone(), tls.clone());
                    tokio::spawn(async move { probe(&upstream, index, &rounds, &clock, &tls).await });
                }
            }
        }
        rounds.forget(&routes);
        let rest = until_next_look(routes.upstreams().iter().map(|upstream| settings(upstream).interval));
        drop(routes); // or what a reload replaces would stay in memory for the rest
        sleep(rest).await;
    }
}

/// How long nobody looks where probes are made at these intervals.
fn until_next_look(intervals: impl Iterator<Item = Duration>) -> Duration {
    let shortest = intervals.min().unwrap_or(Duration::MAX);
    (shortest / LOOKS_IN_INTERVAL).clamp(*LOOK.start(), *LOOK.end())
}

/// When each endpoint is asked next, by its number; `None` while it is being asked.
#[derive(Debug, Clone, Default)]
struct Rounds(Arc<Mutex<HashMap<u64, Option<u64>>>>);

impl Rounds {
    /// Whether an endpoint is to be asked now; if so it is noted as being asked.
    fn is_due(&self, upstream: &Upstream, index: usize, now_ns: u64) -> bool {
        let Some(endpoint) = upstream.endpoints.get(index) else { return false };
        let has_path = upstream.settings.probe.as_ref().is_some_and(|probe| probe.path.is_some());
        if upstream.settings.kind == Kind::Sandbox || !has_path && !upstream.health.is_ejected(index) {
            return false;
        }
        let mut rounds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // One that has just been ejected is asked after an interval: it has just shown that it is not well.
        let first_ns = if has_path { 0 } else { now_ns.saturating_add(interval_ns(upstream)) };
        let next = rounds.entry(endpoint.number).or_insert(Some(first_ns));
        let is_due = next.is_some_and(|at_ns| now_ns >= at_ns);
        if is_due {
            *next = None;
        }
        is_due
    }

    fn asked(&self, number: u64, next_ns: Option<u64>) {
        let mut rounds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match next_ns {
            Some(next_ns) => drop(rounds.insert(number, Some(next_ns))),
            None => drop(rounds.remove(&number)),
        }
    }

    /// Forgets endpoints that a reload has taken away.
    fn forget(&self, routes: &Routes) {
        let mut rounds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let endpoints = || routes.upstreams().iter().flat_map(|upstream| &upstream.endpoints);
        rounds.retain(|number, next| next.is_none() || endpoints().any(|endpoint| endpoint.number == *number));
    }
}

fn settings(upstream: &Upstream) -> ProbeSettings {
    upstream.settings.probe.clone().unwrap_or_default()
}

fn interval_ns(upstream: &Upstream) -> u64 {
    u64::try_from(settings(upstream).interval.as_nanos()).unwrap_or(u64::MAX)
}

/// Asks one endpoint and notes what was found.
async fn probe(upstream: &Upstream, index: usize, rounds: &Rounds, clock: &Clock, tls: &Defaults) {
    let Some(endpoint) = upstream.endpoints.get(index) else { return };
    let settings = settings(upstream);
    let began_ns = clock.monotonic_ns();
    let asked = timeout(settings.timeout, ask(upstream, endpoint, &settings, tls, began_ns)).await;
    let finding = match asked {
        Ok(Ok(finding)) => finding,
        Ok(Err(error)) => {
            tracing::debug!(upstream = &*upstream.settings.name, %error, "probe failed");
            Finding::Unwell
        }
        Err(_elapsed) => Finding::Unwell,
    };
    let interval_ns = interval_ns(upstream);
    let now_ns = clock.monotonic_ns();
    let change = upstream.health.probed(index, finding, interval_ns, now_ns);
    note(upstream, index, change);
    let goes_on = settings.path.is_some() || upstream.health.is_ejected(index);
    rounds.asked(endpoint.number, goes_on.then(|| began_ns.saturating_add(interval_ns).max(now_ns)));
}

async fn ask(
    upstream: &Upstream,
    endpoint: &Endpoint,
    settings: &ProbeSettings,
    tls: &Defaults,
    now_ns: u64,
) -> std::io::Result<Finding> {
    let opened = connect::open(upstream, endpoint, tls, now_ns).await?;
    let Some(path) = &settings.path else { return Ok(Finding::Reachable) };
    let mut outgoing = Outgoing {
        method: Method::GET,
        path_and_query: path.to_string(),
        headers: Headers::new(),
        body: Bytes::new(),
        plain_headers: None,
    };
    outgoing.dress(upstream, upstream.keyring.next(|| now_ns).map(|(_, credential)| credential));
    let Opened { stream, is_http2 } = opened;
    let request = outgoing.request(endpoint, is_http2).map_err(std::io::Error::other)?;
    let status = status(stream, is_http2, request).await?;
    let is_well = settings.expect.map_or_else(|| status.is_success(), |expected| status == expected);
    Ok(if is_well { Finding::Well } else { Finding::Unwell })
}

/// The status of the answer; its body is nobody's concern.
async fn status(stream: Stream, is_http2: bool, request: Request<Whole>) -> std::io::Result<StatusCode> {
    let other = std::io::Error::other;
    let io = TokioIo::new(stream);
    let (answer, driver) = if is_http2 {
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.map_err(other)?;
        let driver = tokio::spawn(async move { drop(connection.await) });
        (sender.send_request(request).await, driver)
    } else {
        let (mut sender, connection) = http1::handshake(io).await.map_err(other)?;
        let driver = tokio::spawn(async move { drop(connection.await) });
        (sender.send_request(request).await, driver)
    };
    driver.abort();
    answer.map(|answer| answer.status()).map_err(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_looked_often_enough_for_the_shortest_interval_and_not_all_the_time() {
        let ms = Duration::from_millis;
        let rest = |intervals: &[u64]| until_next_look(intervals.iter().map(|interval| ms(*interval)));
        assert_eq!(rest(&[]), ms(250));
        assert_eq!(rest(&[60_000, 2_000]), ms(250));
        assert_eq!(rest(&[2_000, 400]), ms(50));
        assert_eq!(rest(&[100]), ms(25));
    }
}
