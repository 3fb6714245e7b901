//! One worker's idle connections to upstreams. Thread-local: no lock, and a request stays on the core that read it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState as FastHash;
use rustls::ClientConfig;

use crate::clock::{Clock, NS_PER_SECOND};
use crate::turn::Turn;
use crate::upstream::http1::{Connection, Room};
use crate::upstream::multiplex::Trunks;
use crate::upstream::retry::Dice;
use crate::upstream::route::{Held, Upstream};
use crate::upstream::tls::Defaults;

/// A connection idle for longer is dropped: backends commonly close theirs after 5 s to 75 s, and a request sent into a
/// closing connection is lost. One that is used is looked at first, so only the flight time is at risk.
const IDLE_NS: u64 = 15 * NS_PER_SECOND;
/// Idle connections kept for one endpoint.
const IDLE_MAX: usize = 256;

/// The connections of one worker.
#[derive(Debug)]
pub struct Pool {
    idle: RefCell<HashMap<u64, Vec<Idle>, FastHash>>,
    /// The upstreams that its requests hold, or held lately.
    held: RefCell<Vec<Held>>,
    /// Where what they read goes first.
    pub room: Room,
    /// Connections that take many requests at once.
    pub trunks: Trunks,
    /// Has what is ready together leave together; for clients as well.
    pub turn: Turn,
    /// Requests of this worker under way at upstreams.
    pub in_flight: Cell<usize>,
    /// How TLS is spoken to upstreams that say nothing of it.
    pub tls: Defaults,
    /// The time.
    pub clock: Clock,
    /// Chance, where it is needed: so that not all come back at once.
    pub dice: Dice,
    /// Where a test's connections come from instead of the network.
    #[cfg(test)]
    pub script: RefCell<Option<Rc<super::client::tests::Script>>>,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since_ns: u64,
}

impl Pool {
    /// Without a connection.
    pub fn new(tls: &Arc<ClientConfig>, clock: Clock) -> Rc<Self> {
        // As random as the standard library's own tables: it only spreads things out.
        let seed = RandomState::new().hash_one(clock.monotonic_ns());
        Rc::new(Self {
            idle: RefCell::default(),
            held: RefCell::default(),
            room: Room::default(),
            trunks: Trunks::default(),
            turn: Turn::default(),
            in_flight: Cell::new(0),
            tls: Defaults::new(tls),
            clock,
            dice: Dice::new(seed),
            #[cfg(test)]
            script: RefCell::default(),
        })
    }

    /// An upstream for a request of this worker. All of its requests hold the same: how many they are is counted where no other worker looks.
    pub fn hold(&self, upstream: &Arc<Upstream>) -> Held {
        let mut held = self.held.borrow_mut();
        if let Some(known) = held.iter().find(|known| Arc::ptr_eq(known, upstream)) {
            return Rc::clone(known);
        }
        let new = Held::new(Arc::clone(upstream));
        held.push(Rc::clone(&new));
        new
    }

    /// When a connection made at `now_ns` is over: those that were made together end one after another, in the last eighth of their
    /// time.
    pub fn end_of_life(&self, lifetime: Duration, now_ns: u64) -> u64 {
        let whole_ns = u64::try_from(lifetime.as_nanos()).unwrap_or(u64::MAX);
        let spread_ns = self.dice.roll() % (whole_ns / 8 + 1);
        now_ns.saturating_add(whole_ns - spread_ns)
    }

    /// The connection of `endpoint` that was used last. Whether it is still open is seen before anything is written to it.
    pub fn take(&self, endpoint: u64) -> Option<Connection> {
        self.idle.borrow_mut().get_mut(&endpoint)?.pop().map(|idle| idle.connection)
    }

    /// Keeps a connection whose answer has been read to its end. One that is not quiet then is closing, or its backend answered
    /// without reading the whole request and may never do so: the next request would wait behind that. Whether it is open still is looked at when it
    /// is taken.
    pub fn give_back(&self, endpoint: u64, connection: Connection) {
        let now_ns = self.clock.coarse_ns();
        if connection.is_old(now_ns) || !connection.is_quiet() {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        let stack = idle.entry(endpoint).or_default();
        if stack.len() < IDLE_MAX {
            stack.push(Idle { connection, since_ns: now_ns });
        }
    }

    /// Drops what was idle for too long or was closed by its peer, and lets go of upstreams that no request holds.
    pub fn sweep(&self) {
        let now_ns = self.clock.monotonic_ns();
        self.idle.borrow_mut().retain(|_, stack| {
            stack.retain_mut(|idle| {
                let is_young = now_ns.saturating_sub(idle.since_ns) < IDLE_NS && !idle.connection.is_old(now_ns);
                is_young && idle.connection.is_free()
            });
            !stack.is_empty()
        });
        self.trunks.sweep(IDLE_NS, now_ns);
        self.held.borrow_mut().retain(|held| Rc::strong_count(held) > 1);
    }

    /// Idle connections, all endpoints together.
    pub fn idle_count(&self) -> usize {
        self.idle.borrow().values().map(Vec::len).sum::<usize>() + self.trunks.idle_count()
    }
}
