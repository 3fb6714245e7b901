//! A request's place at an endpoint, counted from the attempt to the end of the answer, and what it tells of the endpoint's health.

use std::rc::Rc;
use std::sync::atomic::Ordering;

use crate::upstream::choice::{self, Chosen, Closed, Leave, Tried};
use crate::upstream::health::{Change, Trouble};
use crate::upstream::pool::Pool;
use crate::upstream::route::{Endpoint, Held, Upstream};

/// One request at one endpoint. What it does not say of the endpoint, because its client has gone, counts for nothing.
#[derive(Debug)]
pub struct Seat {
    pool: Rc<Pool>,
    upstream: Held,
    index: usize,
    /// Whether it owes a verdict on an endpoint that was ejected.
    is_trial: bool,
}

impl Seat {
    /// Chooses an endpoint of `upstream` and takes a place there.
    ///
    /// # Errors
    /// Why there is none.
    pub fn take(pool: &Rc<Pool>, upstream: &Held, tried: Tried, leave: Leave) -> Result<Self, Closed> {
        let health = &upstream.health;
        // With all in service it does not matter what time it is.
        let now_ns = if health.is_whole() { 0 } else { pool.clock.monotonic_ns() };
        let start = match upstream.endpoints.len() {
            0 | 1 => 0,
            _ => choice::by_ticket(&upstream.weights, upstream.tickets.fetch_add(1, Ordering::Relaxed)),
        };
        let Chosen { index, is_trial } = choice::choose(health, &upstream.weights, start, tried, leave, now_ns)?;
        pool.in_flight.set(pool.in_flight.get() + 1);
        Ok(Self { pool: Rc::clone(pool), upstream: Rc::clone(upstream), index, is_trial })
    }

    /// Its pool of connections.
    pub fn pool(&self) -> &Rc<Pool> {
        &self.pool
    }

    /// Its upstream.
    pub fn upstream(&self) -> &Held {
        &self.upstream
    }

    /// Which endpoint of the upstream it is at.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Its endpoint.
    pub fn endpoint(&self) -> Option<&Endpoint> {
        self.upstream.endpoints.get(self.index)
    }

    /// The endpoint has answered.
    pub fn answered(&mut self) {
        self.is_trial = false;
        let change = self.upstream.health.succeeded(self.index, || self.pool.clock.monotonic_ns());
        note(&self.upstream, self.index, change);
    }

    /// It has not, by no fault of the request or its client.
    pub fn failed(&mut self, trouble: Trouble) {
        let was_trial = std::mem::take(&mut self.is_trial);
        let now_ns = self.pool.clock.monotonic_ns();
        let change = self.upstream.health.failed(self.index, trouble, was_trial, now_ns);
        note(&self.upstream, self.index, change);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.is_trial {
            self.upstream.health.trial_abandoned(self.index);
        }
        self.upstream.health.leave(self.index);
        self.pool.in_flight.set(self.pool.in_flight.get().saturating_sub(1));
    }
}

/// Writes down what became of an endpoint.
pub fn note(upstream: &Upstream, index: usize, change: Change) {
    let name = &*upstream.settings.name;
    let endpoint = upstream.endpoints.get(index).map_or("", |endpoint| endpoint.address.authority.as_str());
    match change {
        Change::None => {}
        Change::Ejected(ns) => {
            upstream.tally.ejections.fetch_add(1, Ordering::Relaxed);
            let seconds = ns / crate::clock::NS_PER_SECOND;
            tracing::warn!(upstream = name, endpoint, seconds, "endpoint ejected");
        }
        Change::Returned => tracing::info!(upstream = name, endpoint, "endpoint in service again"),
    }
}
