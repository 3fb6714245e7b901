//! Listeners, workers and connections. Each worker is one thread with its own single-threaded runtime; accepted connections go to
//! the least loaded one, so that a handful of busy connections cannot pile up on a core.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{interval, timeout};

use crate::ledger::Journal;
use crate::proxy::deadline::{Deadlines, TICK};
use crate::proxy::handle::handle;
use crate::proxy::plane::{Load, Plane, Worker};
use crate::proxy::request_id::RequestIds;
use crate::proxy::wire::head::{MAX_HEADERS, MAX_HEADERS_BYTES};
use crate::proxy::wire::{Wire, WireNotes, WireTimes};
use crate::upstream::pool::Pool;

const BACKLOG: i32 = 4096;
/// Idle upstream connections are looked at every so many ticks.
const SWEEP_TICKS: u32 = 10;
/// The rest after a connection that could not be accepted.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// How often a worker that drains looks whether all of its requests have ended.
const DRAIN_LOOK: Duration = Duration::from_millis(25);

/// The data plane, running.
#[derive(Debug)]
pub struct Server {
    /// Where it listens; ports are the real ones.
    pub addresses: Vec<SocketAddr>,
    threads: Vec<JoinHandle<()>>,
    drain: watch::Sender<bool>,
    /// The names of threads that ended without being asked to.
    died: mpsc::UnboundedReceiver<String>,
    plane: Arc<Plane>,
}

/// Binds, starts the workers and accepts.
///
/// # Errors
/// An address that cannot be bound, a thread or runtime that cannot be made.
pub fn start(plane: &Arc<Plane>, tls: &Arc<ClientConfig>) -> std::io::Result<Server> {
    let settings = plane.live.load_full();
    let settings = &settings.settings;
    let listeners = settings.listen.iter().map(|address| bind(*address)).collect::<Result<Vec<_>, _>>()?;
    let addresses = listeners.iter().map(std::net::TcpListener::local_addr).collect::<Result<Vec<_>, _>>()?;
    let count = match settings.workers {
        0 => thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get),
        set => set,
    };
    let (drain, draining) = watch::channel(false);
    let (tell, died) = mpsc::unbounded_channel();
    let mut threads = Vec::with_capacity(count + 1);
    let mut seats = Vec::with_capacity(count);
    for number in 0..count {
        let (hand, taken) = mpsc::unbounded_channel();
        let load = Arc::new(Load::default());
        seats.push(Seat { hand, load: Arc::clone(&load) });
        let (plane, tls, told) = (Arc::clone(plane), Arc::clone(tls), draining.clone());
        let ids = RequestIds::new().map_err(|error| std::io::Error::other(error.to_string()))?;
        let journal = plane.ledger.as_ref().map(|ledger| ledger.journal()).transpose()?;
        let runtime = current_thread_runtime()?;
        let alarm = Alarm { name: format!("keyward-worker-{number}"), draining: draining.clone(), tell: tell.clone() };
        threads.push(spawn(alarm, move || run_worker(&runtime, Own { ids, journal, load }, plane, tls, taken, told))?);
    }
    let places = Arc::new(Places::default());
    let alarm = Alarm { name: "keyward-accept".to_owned(), draining: draining.clone(), tell };
    let accepting = Accepting { plane: Arc::clone(plane), seats, places, draining };
    let runtime = current_thread_runtime()?;
    let listeners = {
        let _entered = runtime.enter();
        listeners.into_iter().map(TcpListener::from_std).collect::<Result<Vec<_>, _>>()?
    };
    threads.push(spawn(alarm, move || accepting.run(&runtime, listeners))?);
    Ok(Server { addresses, threads, drain, died, plane: Arc::clone(plane) })
}

impl Server {
    /// Waits until one of the threads dies, and gives its name. The others go on, without what that one served.
    pub async fn died(&mut self) -> String {
        match self.died.recv().await {
            Some(name) => name,
            None => std::future::pending().await, // all of them ended as they were asked to
        }
    }

    /// Stops accepting, lets running requests end, and waits for them for `drain_timeout` at most. True when all of them ended.
    pub fn drain(self) -> bool {
        self.plane.is_draining.store(true, Ordering::Relaxed);
        let _ = self.drain.send(true);
        let mut is_clean = true;
        for thread in self.threads {
            is_clean &= thread.join().is_ok();
        }
        is_clean && self.plane.metrics.in_flight.get() == 0
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

fn bind(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket
        .bind(&address.into())
        .and_then(|()| socket.listen(BACKLOG))
        .map_err(|error| std::io::Error::new(error.kind(), format!("{address}: {error}")))?;
    Ok(socket.into())
}

fn current_thread_runtime() -> std::io::Result<runtime::Runtime> {
    runtime::Builder::new_current_thread().enable_all().build()
}

/// One worker as the acceptor sees it.
struct Seat {
    hand: mpsc::UnboundedSender<Accepted>,
    load: Arc<Load>,
}

struct Accepted {
    stream: std::net::TcpStream,
    peer: SocketAddr,
    _place: Place,
}

/// How many connections there are, all together and by client.
#[derive(Default)]
struct Places {
    all: AtomicUsize,
    per_client: Mutex<HashMap<IpAddr, u32>>,
}

/// A connection's place under the caps; given back when the connection ends.
struct Place {
    plane: Arc<Plane>,
    places: Arc<Places>,
    client: IpAddr,
    load: Arc<Load>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.plane.metrics.connections.dec();
        self.load.connections.fetch_sub(1, Ordering::Relaxed);
        self.places.all.fetch_sub(1, Ordering::Relaxed);
        let mut per_client = self.places.per_client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = per_client.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                per_client.remove(&self.client);
            }
        }
    }
}

struct Accepting {
    plane: Arc<Plane>,
    seats: Vec<Seat>,
    places: Arc<Places>,
    draining: watch::Receiver<bool>,
}

impl Accepting {
    fn run(self, runtime: &runtime::Runtime, listeners: Vec<TcpListener>) {
        let mut draining = self.draining.clone();
        let accepting = Rc::new(self);
        LocalSet::new().block_on(runtime, async {
            let mut accepted = JoinSet::new();
            for listener in listeners {
                accepted.spawn_local(Rc::clone(&accepting).accept(listener));
            }
            tokio::select! {
                _ = draining.wait_for(|draining| *draining) => {}
                // A listener is served for ever; that it is not is a panic, and ends the thread.
                Some(_) = accepted.join_next() => {}
            }
        });
    }

    async fn accept(self: Rc<Self>, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    if self.seat(stream, peer).is_none() {
                        self.plane.metrics.connections_refused.inc();
                    }
                }
                Err(error) => {
                    // Out of descriptors, most likely: a moment's rest instead of a busy loop.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            }
        }
    }

    /// Hands a connection to the least loaded worker, unless a cap is reached.
    fn seat(&self, stream: TcpStream, peer: SocketAddr) -> Option<()> {
        let live = self.plane.live.load();
        let client = peer.ip().to_canonical();
        let seat = self.seats.iter().min_by_key(|seat| seat.load.weight())?;
        let most = usize::try_from(live.settings.max_connections).unwrap_or(usize::MAX);
        // Only this thread adds, so that no other can take the last place in between.
        if self.places.all.load(Ordering::Relaxed) >= most {
            return None;
        }
        {
            let mut per_client = self.places.per_client.lock().unwrap_or_else(PoisonError::into_inner);
            let count = per_client.entry(client).or_default();
            // A trusted proxy carries many clients.
            if *count >= live.settings.max_connections_per_client && !live.settings.trusted_proxies.contains(client) {
                return None;
            }
            *count += 1;
        }
        self.plane.metrics.connections.inc();
        self.places.all.fetch_add(1, Ordering::Relaxed);
        seat.load.connections.fetch_add(1, Ordering::Relaxed);
        let place = Place {
            plane: Arc::clone(&self.plane),
            places: Arc::clone(&self.places),
            client,
            load: Arc::clone(&seat.load),
        };
        stream.set_nodelay(true).ok()?;
        let stream = stream.into_std().ok()?;
        seat.hand.send(Accepted { stream, peer, _place: place }).ok()
    }
}

/// What a worker is given for itself.
struct Own {
    ids: RequestIds,
    journal: Option<Arc<Journal>>,
    load: Arc<Load>,
}

fn run_worker(
    runtime: &runtime::Runtime,
    own: Own,
    plane: Arc<Plane>,
    tls: Arc<ClientConfig>,
    taken: mpsc::UnboundedReceiver<Accepted>,
    draining: watch::Receiver<bool>,
) {
    let clock = plane.clock.clone();
    let Own { ids, journal, load } = own;
    let (pool, deadlines) = (Pool::new(tls, clock.clone()), Deadlines::new(clock));
    let worker = Rc::new(Worker { pool, deadlines, ids, journal, load, plane });
    LocalSet::new().block_on(runtime, async {
        // Not a task of its own: without the tick no time limit is kept, so a panic in it ends the thread.
        tokio::select! {
            never = tick(&worker) => match never {},
            () = serve(&worker, taken, draining) => {}
        }
    });
}

/// Serves the connections that are handed over, until it is time to drain and the last request has ended.
async fn serve(worker: &Rc<Worker>, mut taken: mpsc::UnboundedReceiver<Accepted>, mut draining: watch::Receiver<bool>) {
    let connections = Rc::new(());
    let told = draining.clone();
    loop {
        tokio::select! {
            accepted = taken.recv() => match accepted {
                Some(accepted) => {
                    let (worker, draining, open) = (Rc::clone(worker), told.clone(), Rc::clone(&connections));
                    tokio::task::spawn_local(async move {
                        connection(worker, accepted, draining).await;
                        drop(open);
                    });
                }
                None => break,
            },
            _ = draining.wait_for(|draining| *draining) => break,
        }
    }
    drained(worker, &connections).await;
}

/// Waits for the connections to end, and for the requests that outlive theirs (`on_disconnect = "drain"`), for as long as the
/// operator allows.
async fn drained(worker: &Worker, connections: &Rc<()>) {
    let limit = worker.plane.live.load().settings.drain_timeout;
    let open = || Rc::strong_count(connections) - 1;
    let running = || worker.load.requests.load(Ordering::Relaxed);
    let ended = async {
        let mut look = interval(DRAIN_LOOK);
        while open() + running() > 0 {
            look.tick().await;
        }
    };
    if timeout(limit, ended).await.is_err() {
        let (connections, requests) = (open(), running());
        tracing::warn!(connections, requests, "drain time is over; running requests are cut");
    }
}

async fn tick(worker: &Worker) -> Infallible {
    let mut ticks = interval(TICK);
    let mut until_sweep = SWEEP_TICKS;
    let mut shown = [0; 3];
    loop {
        ticks.tick().await;
        worker.deadlines.tick();
        shown = show(worker, shown);
        until_sweep -= 1;
        if until_sweep == 0 {
            until_sweep = SWEEP_TICKS;
            worker.pool.sweep();
        }
    }
}

/// Adds to the gauges, which sum up all workers, how far this worker's own numbers have moved.
fn show(worker: &Worker, shown: [i64; 3]) -> [i64; 3] {
    let metrics = &worker.plane.metrics;
    let counts = [worker.deadlines.count(), worker.pool.idle_count(), worker.pool.outstanding_count()];
    let now = counts.map(|count| i64::try_from(count).unwrap_or(i64::MAX));
    let gauges = [&metrics.time_limits, &metrics.upstream_idle, &metrics.upstream_in_flight];
    for ((gauge, now), shown) in gauges.into_iter().zip(now).zip(shown) {
        gauge.inc_by(now - shown);
    }
    now
}

/// Serves one connection to its end.
async fn connection(worker: Rc<Worker>, accepted: Accepted, mut draining: watch::Receiver<bool>) {
    let Accepted { stream, peer, _place } = accepted;
    let Ok(stream) = TcpStream::from_std(stream) else { return };
    let notes = WireNotes::new(worker.deadlines.register(), wire_times(&worker.plane));
    let io = TokioIo::new(Wire::new(stream, Rc::clone(&notes)));
    let service = service_fn(|request| {
        let answering = handle(Rc::clone(&worker), Rc::clone(&notes), peer.ip(), request);
        async move { Ok::<_, Infallible>(answering.await) }
    });
    let mut builder = http1::Builder::new();
    // The wire has checked the limits already; hyper's own must not be the tighter ones. No `pipeline_flush`: it buffers answers
    // without bound, and holds back the first bytes of one while the next request waits.
    builder.half_close(false).max_headers(MAX_HEADERS + 1).max_buf_size(MAX_HEADERS_BYTES * 2);
    let mut serving = pin!(builder.serve_connection(io, service));
    let mut is_draining = pin!(draining.wait_for(|draining| *draining));
    let mut told = false;
    let outcome = poll_fn(|cx| {
        if !told && is_draining.as_mut().poll(cx).is_ready() {
            told = true;
            serving.as_mut().graceful_shutdown();
        }
        // What has arrived is read before it is judged to be late.
        match serving.as_mut().poll(cx) {
            Poll::Pending if notes.poll_cut(cx).is_ready() => Poll::Ready(Err(())),
            Poll::Pending => notes.poll_unheard(cx).map(|()| Err(())),
            Poll::Ready(ended) => {
                Poll::Ready(ended.map_err(|error| tracing::debug!(%error, "client connection ended")))
            }
        }
    })
    .await;
    if outcome.is_err() {
        tracing::trace!(%peer, "connection cut");
    }
}

fn wire_times(plane: &Plane) -> WireTimes {
    let settings = &plane.live.load().settings;
    let ns = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    WireTimes {
        head_ns: ns(settings.header_timeout),
        keep_alive_ns: ns(settings.keep_alive_timeout),
        write_stall_ns: ns(settings.write_stall_timeout),
    }
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
