//! What all workers share, and what each has for itself.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use arc_swap::{ArcSwap, Cache};
use prometheus_client::metrics::gauge::Gauge;

use crate::admission::CallerCache;
use crate::clock::Clock;
use crate::dialect::estimate::Estimator;
use crate::keys::secret::Digester;
use crate::keys::table::KeyTable;
use crate::ledger::{Journal, Ledger};
use crate::limits::LimitSettings;
use crate::limits::attempts::Attempts;
use crate::policy::PriceTable;
use crate::proxy::capacity::{Capacity, Spare};
use crate::proxy::carrier::Carrier;
use crate::proxy::deadline::Deadlines;
use crate::proxy::http1::Date;
use crate::proxy::neighbours::Neighbours;
use crate::proxy::request_id::RequestIds;
use crate::proxy::seating::surplus::Surplus;
use crate::proxy::seating::{Lately, Standing};
use crate::proxy::settings::Settings;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::Counts;
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
    pub live: Arc<ArcSwap<Live>>,
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
    /// Requests that there may be under way.
    pub capacity: Capacity,
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
    /// Who comes to it again and again.
    pub callers: CallerCache,
    /// Where it counts what every request counts.
    pub counts: Counts,
    /// What it has put by of the requests that there may be under way.
    pub spare: Spare,
    /// The configuration as it last saw it.
    pub seen: Seen,
    /// The other workers.
    pub(super) neighbours: Neighbours,
    /// What it has to give away to them.
    pub(super) surplus: Surplus,
}

impl Worker {
    /// The configuration in force, held for as long as a request wants it.
    pub fn live(&self) -> HeldLive {
        self.seen.latest()
    }
}

/// The configuration as the requests of one worker hold it, uncounted by the other workers.
pub type HeldLive = Rc<Arc<Live>>;

/// The configuration as one worker last saw it. Looking whether there is a newer one costs a glance.
#[derive(Debug)]
pub struct Seen(RefCell<Latest>);

#[derive(Debug)]
struct Latest {
    cache: Cache<Arc<ArcSwap<Live>>, Arc<Live>>,
    held: HeldLive,
}

impl Seen {
    /// Of the plane's.
    pub fn of(live: &Arc<ArcSwap<Live>>) -> Self {
        Self(RefCell::new(Latest { cache: Cache::new(Arc::clone(live)), held: HeldLive::new(live.load_full()) }))
    }

    fn latest(&self) -> HeldLive {
        let Latest { cache, held } = &mut *self.0.borrow_mut();
        let latest = cache.load();
        if !Arc::ptr_eq(latest, held) {
            *held = HeldLive::new(Arc::clone(latest));
        }
        Rc::clone(held)
    }
}

/// What a worker has to do.
#[derive(Debug, Default)]
pub struct Load {
    /// Open connections.
    pub connections: AtomicUsize,
    /// How busy it has been.
    pub lately: Lately,
}

impl Load {
    /// What that comes to now.
    pub(super) fn standing(&self, now_ns: u64) -> Standing {
        self.lately.standing(now_ns, self.connections.load(Ordering::Relaxed))
    }
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
    worker: Rc<Worker>,
    /// Whether this is one of those that there may be under way: else it is to be shed.
    has_place: bool,
    /// A panic ends the request of its connection, and is counted once: reading on without a client may well meet the next.
    has_client: bool,
}

/// The request its connection is busy with.
#[derive(Debug)]
struct OnWire(Carrier);

impl UnderWay {
    /// Counts a request whose head has just been read.
    pub fn new(worker: &Rc<Worker>, carrier: Carrier, live: &Live) -> Self {
        carrier.request_began();
        worker.counts.began();
        let most = u64::from(live.settings.max_requests);
        let has_place = worker.plane.capacity.take(&worker.spare, most);
        let counted = Counted { worker: Rc::clone(worker), has_place, has_client: true };
        Self { counted, on_wire: OnWire(carrier) }
    }

    /// Whether it is one of those that there may be at once.
    pub fn has_place(&self) -> bool {
        self.counted.has_place
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
            self.worker.plane.metrics.panics.inc();
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if self.has_place {
            self.worker.plane.capacity.give_back(&self.worker.spare);
        }
        // Before it is no longer under way: whoever waits for that finds it counted.
        self.note_panic();
        self.worker.counts.ended();
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
#[derive(Debug)]
pub struct BodyBudget {
    held: Gauge<u64, AtomicU64>,
}

impl BodyBudget {
    /// One whose bytes are those that `shown` shows.
    pub fn shown_by(shown: &Gauge<u64, AtomicU64>) -> Self {
        Self { held: shown.clone() }
    }

    /// Takes `bytes` unless that passes `limit`.
    pub fn take(&self, bytes: u64, limit: u64) -> bool {
        self.held
            .inner()
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |held| {
                held.checked_add(bytes).filter(|sum| *sum <= limit)
            })
            .is_ok()
    }

    /// What was counted as `from` bytes is `to` bytes now.
    pub fn change(&self, from: u64, to: u64) {
        if to > from {
            self.held.inner().fetch_add(to - from, Ordering::AcqRel);
        } else if to < from {
            self.held.inner().fetch_sub(from - to, Ordering::AcqRel);
        }
    }

    /// Bytes held now.
    pub fn held(&self) -> u64 {
        self.held.inner().load(Ordering::Acquire)
    }
}
