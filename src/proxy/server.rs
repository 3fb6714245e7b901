//! The data plane's threads: each worker is one thread with its own single-threaded runtime; accepted connections go to
//! the least busy one, so that a handful of busy connections cannot pile up on a core.

use std::convert::Infallible;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustls::ClientConfig;
use tokio::runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{interval, sleep};

use crate::admission::CallerCache;
use crate::clock::thread_cpu_ns;
use crate::ledger::Journal;
use crate::listen::{Address, Listener};
use crate::proxy::accept::{Accepting, CLOSING, Entry, Handed, Places, Seat};
use crate::proxy::arrival::arrive;
use crate::proxy::capacity::Spare;
use crate::proxy::connection::connection;
use crate::proxy::deadline::{Deadlines, TICK};
use crate::proxy::http1::{self, Date};
use crate::proxy::neighbours::Neighbours;
use crate::proxy::plane::{Load, Plane, Seen, Worker};
use crate::proxy::request_id::RequestIds;
use crate::proxy::seating::Teller;
use crate::proxy::seating::surplus::Surplus;
use crate::proxy::settings::Settings;
use crate::spare::{self, Ebb};
use crate::upstream::http1::Room;
use crate::upstream::pool::Pool;

/// Idle upstream connections are looked at every so many ticks.
const SWEEP_TICKS: u32 = 10;
/// How often a worker that drains looks whether all of its requests have ended.
const DRAIN_LOOK: Duration = Duration::from_millis(25);

/// The data plane, running.
#[derive(Debug)]
pub struct Server {
    /// Where it listens; ports are the real ones.
    pub addresses: Vec<Address>,
    threads: Vec<JoinHandle<()>>,
    door: Door,
    drain: watch::Sender<bool>,
    cut: Cut,
    /// Ends when the acceptor has closed its sockets.
    listening: std::sync::mpsc::Receiver<()>,
    /// The names of threads that ended without being asked to.
    died: mpsc::UnboundedReceiver<String>,
    plane: Arc<Plane>,
}

/// The sockets that the settings want, all of them new.
///
/// # Errors
/// An address or a path that cannot be had.
pub fn bind(settings: &Settings) -> std::io::Result<Vec<Listener>> {
    settings.listen.iter().map(|address| Listener::bind(address, settings.socket_mode)).collect()
}

/// Starts the workers, who accept what comes to `listeners` once their [`Door`] is opened.
///
/// # Errors
/// A socket that is not to be used, a thread or runtime that cannot be made.
pub fn start(plane: &Arc<Plane>, tls: &Arc<ClientConfig>, listeners: Vec<Listener>) -> std::io::Result<Server> {
    let addresses = listeners.iter().map(Listener::address).collect::<Result<Vec<_>, _>>()?;
    let count = match plane.live.load().settings.workers {
        0 => thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get),
        set => set,
    };
    let (drain, draining) = watch::channel(false);
    let (enter, entry) = watch::channel(Entry::Shut);
    let cut = Cut(watch::Sender::new(false));
    let (tell, died) = mpsc::unbounded_channel();
    let mut threads = Vec::with_capacity(count + 1);
    let new = |_| {
        let (hand, taken) = mpsc::unbounded_channel();
        (Seat { hand, load: Arc::new(Load::default()) }, taken)
    };
    let (seats, taken): (Vec<_>, Vec<_>) = (0..count).map(new).unzip();
    for (number, (taken, neighbours)) in taken.into_iter().zip(Neighbours::of(&seats)).enumerate() {
        let (plane, tls) = (Arc::clone(plane), Arc::clone(tls));
        let end = End { draining: draining.clone(), cut: cut.0.subscribe() };
        let ids = RequestIds::new().map_err(|error| std::io::Error::other(error.to_string()))?;
        let journal = plane.ledger.as_ref().map(|ledger| ledger.journal()).transpose()?;
        let runtime = current_thread_runtime()?;
        let alarm = Alarm { name: format!("keyward-worker-{number}"), draining: draining.clone(), tell: tell.clone() };
        threads.push(spawn(alarm, move || {
            run_worker(&runtime, Own { ids, journal, neighbours }, plane, tls, taken, end)
        })?);
    }
    let places = Arc::new(Places::default());
    let alarm = Alarm { name: "keyward-accept".to_owned(), draining: draining.clone(), tell };
    let accepting = Accepting { plane: Arc::clone(plane), seats, places, entry, draining };
    let runtime = current_thread_runtime()?;
    let listeners = {
        let _entered = runtime.enter();
        listeners.into_iter().map(Listener::open).collect::<Result<Vec<_>, _>>()?
    };
    let (hold, listening) = std::sync::mpsc::channel();
    threads.push(spawn(alarm, move || accepting.run(&runtime, listeners, hold))?);
    Ok(Server {
        addresses,
        threads,
        door: Door { entry: enter, plane: Arc::clone(plane) },
        drain,
        cut,
        listening,
        died,
        plane: Arc::clone(plane),
    })
}

impl Server {
    /// Waits until one of the threads dies, and gives its name. The others go on, without what that one served.
    pub async fn died(&mut self) -> String {
        match self.died.recv().await {
            Some(name) => name,
            None => std::future::pending().await, // all of them ended as they were asked to
        }
    }

    /// What lets clients in, for whoever opens and closes it.
    pub fn door(&self) -> Door {
        self.door.clone()
    }

    /// What ends a drain at once, for whoever may not wait for it.
    pub fn cut(&self) -> Cut {
        self.cut.clone()
    }

    /// Ends as [`Server::drain`] does, but leaves connections that wait for a request up to `linger` for it, and no longer than running ones have: the
    /// answer says that it was the last, and no request is lost that is on its way already.
    pub fn drain_slowly(self, linger: Duration) -> bool {
        self.close();
        let linger = linger.min(self.plane.live.load().settings.drain_timeout);
        let mut looks = linger.as_millis() / DRAIN_LOOK.as_millis();
        while looks > 0 && self.plane.metrics.connections.get() > 0 && !self.cut.is_asked() {
            thread::sleep(DRAIN_LOOK);
            looks -= 1;
        }
        self.drain()
    }

    /// Lets nobody in any more. Whoever has connected by then is among the connections when this returns.
    fn close(&self) {
        self.door.announce();
        self.door.close();
        let _gone = self.listening.recv_timeout(2 * CLOSING);
    }

    /// Stops accepting, lets running requests end, and waits for them for `drain_timeout` at most. True when all of them ended.
    pub fn drain(self) -> bool {
        self.close();
        let _ = self.drain.send(true);
        let mut is_clean = true;
        for thread in self.threads {
            is_clean &= thread.join().is_ok();
        }
        is_clean && self.plane.metrics.in_flight() == 0
    }
}

/// What lets clients in.
#[derive(Debug, Clone)]
pub struct Door {
    entry: watch::Sender<Entry>,
    plane: Arc<Plane>,
}

/// Cuts what a drain still waits for: each request is settled with what has passed of it.
#[derive(Debug, Clone)]
pub struct Cut(watch::Sender<bool>);

impl Cut {
    /// Now, or as soon as the drain begins.
    pub fn now(&self) {
        self.0.send_replace(true);
    }

    fn is_asked(&self) -> bool {
        *self.0.borrow()
    }
}

impl Door {
    /// Says with every answer from now on that its connection ends with it. What runs goes on, and what is new is accepted.
    pub fn announce(&self) {
        self.plane.is_draining.store(true, Ordering::Relaxed);
    }

    /// Accepts nothing for a while: whoever connects waits, and is not refused. What runs goes on.
    pub fn pause(&self) {
        self.entry.send_replace(Entry::Shut);
    }

    /// Listens no more: whoever connects is refused, unless another process has the socket too.
    fn close(&self) {
        self.entry.send_replace(Entry::Closed);
    }

    /// Accepts, those first that waited; connections last again.
    pub fn resume(&self) {
        self.plane.is_draining.store(false, Ordering::Relaxed);
        self.entry.send_replace(Entry::Open);
    }
}

/// Goes off when the thread that holds it ends, in whatever way, without having been asked to drain.
struct Alarm {
    name: String,
    draining: watch::Receiver<bool>,
    tell: mpsc::UnboundedSender<String>,
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if !*self.draining.borrow() {
            // Nobody listens when the start itself has failed, which is told then.
            let _ = self.tell.send(std::mem::take(&mut self.name));
        }
    }
}

fn spawn(alarm: Alarm, body: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    thread::Builder::new().name(alarm.name.clone()).spawn(move || {
        let _alarm = alarm;
        body();
    })
}
fn current_thread_runtime() -> std::io::Result<runtime::Runtime> {
    runtime::Builder::new_current_thread().enable_all().build()
}
/// How a worker hears of its end.
struct End {
    /// Whether it is to come to one.
    draining: watch::Receiver<bool>,
    /// Whether that is to be at once.
    cut: watch::Receiver<bool>,
}

/// What a worker is given for itself.
struct Own {
    ids: RequestIds,
    journal: Option<Arc<Journal>>,
    neighbours: Neighbours,
}

fn run_worker(
    runtime: &runtime::Runtime,
    own: Own,
    plane: Arc<Plane>,
    tls: Arc<ClientConfig>,
    taken: mpsc::UnboundedReceiver<Handed>,
    end: End,
) {
    let clock = plane.clock.clone();
    let Own { ids, journal, neighbours } = own;
    let (pool, deadlines) = (Pool::new(&tls, clock.clone()), Deadlines::new(clock));
    let (room, date) = (Room::of(http1::ROOM), Date::default());
    let (callers, counts, seen) = (CallerCache::default(), plane.metrics.counts(), Seen::of(&plane.live));
    let (spare, surplus) = (Spare::default(), Surplus::default());
    let worker =
        Worker { pool, deadlines, ids, journal, room, date, callers, counts, spare, seen, neighbours, surplus, plane };
    let worker = Rc::new(worker);
    LocalSet::new().block_on(runtime, async {
        let (ticking, pool) = (Rc::clone(&worker), Rc::clone(&worker.pool));
        // Tasks, and here nothing but their ends: what stands here is looked at whenever anything happens on the worker.
        let mut ends = JoinSet::new();
        ends.spawn_local(async move { match tick(&ticking).await {} });
        // One of its own, to come behind those whose turn it ends.
        ends.spawn_local(async move { match pool.turn.run().await {} });
        ends.spawn_local(serve(worker, taken, end));
        // Without the tick no time limit is kept, and without ends of turns nothing is written: a panic in any of them ends the thread.
        if let Some(Err(error)) = ends.join_next().await
            && let Ok(panic) = error.try_into_panic()
        {
            resume_unwind(panic);
        }
    });
}

/// Serves the connections that are handed over, until there are no more, and then until the last request has ended. The acceptor is the first to
/// hear that it is time to drain: whatever it has accepted is served, with one request at least.
async fn serve(worker: Rc<Worker>, mut taken: mpsc::UnboundedReceiver<Handed>, end: End) {
    let End { draining, cut } = end;
    let connections = Rc::new(());
    while let Some(handed) = taken.recv().await {
        let (worker, draining, open) = (Rc::clone(&worker), draining.clone(), Rc::clone(&connections));
        tokio::task::spawn_local(async move {
            if let Some(accepted) = arrive(&worker, handed).await {
                connection(worker, accepted, draining).await;
            }
            drop(open);
        });
    }
    drained(&worker, &connections, cut).await;
}

/// Waits for the connections to end, and for the requests that outlive theirs (`on_disconnect = "drain"`), for as long as the
/// operator allows. What still runs then ends with the worker, and is settled as it does.
async fn drained(worker: &Worker, connections: &Rc<()>, mut cut: watch::Receiver<bool>) {
    let limit = worker.plane.live.load().settings.drain_timeout;
    let open = || Rc::strong_count(connections) - 1;
    let running = || worker.counts.in_flight();
    let ended = async {
        let mut look = interval(DRAIN_LOOK);
        while open() > 0 || running() > 0 {
            look.tick().await;
        }
    };
    let why = tokio::select! {
        () = ended => return,
        () = sleep(limit) => "drain time is over; running requests are cut",
        Ok(_) = cut.wait_for(|cut| *cut) => "the end is to be at once; running requests are cut",
    };
    let (connections, requests) = (open(), running());
    tracing::warn!(connections, requests, "{why}");
}

async fn tick(worker: &Worker) -> Infallible {
    let mut ticks = interval(TICK);
    let mut until_sweep = SWEEP_TICKS;
    let (mut shown, mut ebb) = ([0; 3], Ebb::default());
    let clock = &worker.plane.clock;
    let mut teller = Teller::new(clock.monotonic_ns(), thread_cpu_ns());
    loop {
        ticks.tick().await;
        worker.deadlines.tick();
        weigh(worker, &mut teller, clock.monotonic_ns(), thread_cpu_ns());
        shown = show(worker, shown);
        // Or a worker that is asked for nothing would hold on to what a reload has replaced, and to what others have use for.
        let most = worker.live().settings.max_requests;
        worker.plane.capacity.trim(&worker.spare, u64::from(most));
        until_sweep -= 1;
        if until_sweep == 0 {
            until_sweep = SWEEP_TICKS;
            worker.pool.sweep();
            worker.callers.forget_gone();
            if ebb.has_come(worker.deadlines.count()) {
                worker.deadlines.shrink();
                spare::give_back();
            }
        }
    }
}

/// Tells the others how busy this worker has been, and finds out what it has to give away to them.
fn weigh(worker: &Worker, teller: &mut Teller, now_ns: u64, cpu_ns: u64) {
    let Worker { neighbours, surplus, .. } = worker;
    if let Some(load) = neighbours.own_load() {
        teller.tell(&load.lately, now_ns, cpu_ns, load.connections.load(Ordering::Relaxed));
    }
    surplus.tick(neighbours.busy(now_ns));
}

/// Adds to the gauges, which sum up all workers, how far this worker's own numbers have moved.
fn show(worker: &Worker, shown: [i64; 3]) -> [i64; 3] {
    let metrics = &worker.plane.metrics;
    let counts = [worker.deadlines.count(), worker.pool.idle_count(), worker.pool.in_flight.get()];
    let now = counts.map(|count| i64::try_from(count).unwrap_or(i64::MAX));
    let gauges = [&metrics.time_limits, &metrics.upstream_idle, &metrics.upstream_in_flight];
    for ((gauge, now), shown) in gauges.into_iter().zip(now).zip(shown) {
        gauge.inc_by(now - shown);
    }
    now
}
#[cfg(test)]
mod tests {
    use super::*;

    fn watched() -> (watch::Sender<bool>, mpsc::UnboundedReceiver<String>, Alarm) {
        let (drain, draining) = watch::channel(false);
        let (tell, died) = mpsc::unbounded_channel();
        (drain, died, Alarm { name: "keyward-worker-7".to_owned(), draining, tell })
    }

    #[test]
    fn a_thread_that_panics_or_ends_unasked_is_told() {
        for body in [|| panic!("a bug, made on purpose"), || ()] {
            let (_drain, mut died, alarm) = watched();
            let _ = spawn(alarm, body).unwrap().join();
            assert_eq!(died.try_recv().as_deref(), Ok("keyward-worker-7"));
        }
    }

    #[test]
    fn a_thread_that_ends_because_it_was_asked_to_is_not() {
        let (drain, mut died, alarm) = watched();
        drain.send(true).unwrap();
        spawn(alarm, || ()).unwrap().join().unwrap();
        assert!(died.try_recv().is_err());
    }
}
