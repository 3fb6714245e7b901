//! What all workers share, and what each has for itself.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwap;

use crate::clock::Clock;
use crate::dialect::estimate::Estimator;
use crate::keys::secret::Digester;
use crate::keys::table::KeyTable;
use crate::ledger::{Journal, Ledger};
use crate::limits::LimitSettings;
use crate::limits::attempts::Attempts;
use crate::policy::PriceTable;
use crate::proxy::carrier::Carrier;
use crate::proxy::deadline::Deadlines;
use crate::proxy::http1::Date;
use crate::proxy::request_id::RequestIds;
use crate::proxy::seating::Lately;
use crate::proxy::settings::Settings;
use crate::telemetry::Metrics;
use crate::upstream::Routes;
use crate::upstream::http1::Room;
use crate::upstream::pool::Pool;

/// What the configuration decides, replaced whole by a reload.
#[derive(Debug)]
pub struct Live {
    /// `[server]`.
    pub settings: Settings,
    /// `[limits]`.
    pub limits: LimitSettings,
    /// `[[upstreams]]` and `[models]`.
    pub routes: Arc<Routes>,
    /// `[prices]`.
    pub prices: PriceTable,
}

/// What every worker shares.
#[derive(Debug)]
pub struct Plane {
    /// The configuration in force.
    pub live: ArcSwap<Live>,
    /// The keys.
    pub keys: Arc<KeyTable>,
    /// From secret to digest.
    pub digester: Digester,
    /// What requests may cost.
    pub estimator: Estimator,
    /// Failed credentials.
    pub attempts: Attempts,
    /// Bytes of request bodies held.
    pub body_budget: BodyBudget,
    /// The time.
    pub clock: Clock,
    /// What there is enough of for one more.
    pub overload: Overload,
    /// Counters.
    pub metrics: Metrics,
    /// Where settled requests are written down; `None` where nothing is to outlive the process.
    pub ledger: Option<Arc<Ledger>>,
    /// Set when the program is going down: answers close their connections.
    pub is_draining: AtomicBool,
}

/// One worker's own.
#[derive(Debug)]
pub struct Worker {
    /// What it shares.
    pub plane: Arc<Plane>,
    /// Its upstream connections.
    pub pool: Rc<Pool>,
    /// Its time limits.
    pub deadlines: Rc<Deadlines>,
    /// Its request ids.
    pub ids: RequestIds,
    /// Where it writes settled requests down.
    pub journal: Option<Arc<Journal>>,
    /// Where what its clients send goes first.
    pub room: Room,
    /// The date, for answers that have none.
    pub date: Date,
    /// Its load, read by whoever hands out connections.
    pub load: Arc<Load>,
}

/// What a worker has to do.
#[derive(Debug, Default)]
pub struct Load {
    /// Open connections.
    pub connections: AtomicUsize,
    /// Requests under way.
    pub requests: AtomicUsize,
    /// How busy it has been.
    pub lately: Lately,
}

/// A request from its head to the end of its answer, however that comes about.
#[derive(Debug)]
pub struct UnderWay {
    counted: Counted,
    on_wire: OnWire,
}

/// One of the requests under way; outlives its connection where the answer is read on without a client.
#[derive(Debug)]
pub struct Counted {
    plane: Arc<Plane>,
    load: Arc<Load>,
    /// A panic ends the request of its connection, and is counted once: reading on without a client may well meet the next.
    has_client: bool,
}

/// The request its connection is busy with.
#[derive(Debug)]
struct OnWire(Carrier);

impl UnderWay {
    /// Counts a request whose head has just been read.
    pub fn new(worker: &Worker, carrier: Carrier) -> Self {
        carrier.request_began();
        worker.load.requests.fetch_add(1, Ordering::Relaxed);
        worker.plane.metrics.in_flight.inc();
        let counted = Counted { plane: Arc::clone(&worker.plane), load: Arc::clone(&worker.load), has_client: true };
        Self { counted, on_wire: OnWire(carrier) }
    }

    /// What carries it.
    pub fn carrier(&self) -> &Carrier {
        &self.on_wire.0
    }

    /// The connection has done with it, but it is not over.
    pub fn off_wire(mut self) -> Counted {
        self.counted.note_panic();
        self.counted.has_client = false;
        self.counted
    }
}

impl Counted {
    fn note_panic(&self) {
        if self.has_client && std::thread::panicking() {
            self.plane.metrics.panics.inc();
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.load.requests.fetch_sub(1, Ordering::Relaxed);
        // Before it is no longer under way: whoever waits for that finds it counted.
        self.note_panic();
        self.plane.metrics.in_flight.dec();
    }
}

impl Drop for OnWire {
    fn drop(&mut self) {
        self.0.request_ended();
    }
}

/// What the machine leaves room for, as the control plane sees it (SECURITY: shed before memory runs out).
#[derive(Debug)]
pub struct Overload {
    most_connections: AtomicUsize,
    is_short_of_memory: AtomicBool,
}

impl Default for Overload {
    fn default() -> Self {
        Self { most_connections: AtomicUsize::new(usize::MAX), is_short_of_memory: AtomicBool::new(false) }
    }
}

impl Overload {
    /// Connections that there are descriptors for.
    pub fn most_connections(&self) -> usize {
        self.most_connections.load(Ordering::Relaxed)
    }

    /// Sets that.
    pub fn set_most_connections(&self, most: usize) {
        self.most_connections.store(most, Ordering::Relaxed);
    }

    /// Whether the process has more memory than it is to have.
    pub fn is_short_of_memory(&self) -> bool {
        self.is_short_of_memory.load(Ordering::Relaxed)
    }

    /// Sets that.
    pub fn set_short_of_memory(&self, is_short: bool) {
        self.is_short_of_memory.store(is_short, Ordering::Relaxed);
    }
}

/// The bytes of request bodies that all requests together may hold (SECURITY: shed before memory runs out).
#[derive(Debug, Default)]
pub struct BodyBudget {
    held: AtomicU64,
}

impl BodyBudget {
    /// Takes `bytes` unless that passes `limit`.
    pub fn take(&self, bytes: u64, limit: u64) -> bool {
        self.held
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |held| {
                held.checked_add(bytes).filter(|sum| *sum <= limit)
            })
            .is_ok()
    }

    /// Gives `bytes` back.
    pub fn give_back(&self, bytes: u64) {
        self.held.fetch_sub(bytes, Ordering::AcqRel);
    }

    /// What was counted as `from` bytes is `to` bytes now.
    pub fn change(&self, from: u64, to: u64) {
        if to >= from {
            self.held.fetch_add(to - from, Ordering::AcqRel);
        } else {
            self.give_back(from - to);
        }
    }

    /// Bytes held now.
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Acquire)
    }
}
