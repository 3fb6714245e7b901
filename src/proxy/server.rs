//! Listeners, workers and connections. Each worker is one thread with its own single-threaded runtime; accepted connections go to
//! the least loaded one, so that a handful of busy connections cannot pile up on a core.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::thread::{self, JoinHandle};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;
use tokio::time::{interval, timeout};

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

/// The data plane, running.
#[derive(Debug)]
pub struct Server {
    /// Where it listens; ports are the real ones.
    pub addresses: Vec<SocketAddr>,
    threads: Vec<JoinHandle<()>>,
    drain: watch::Sender<bool>,
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
    let mut threads = Vec::with_capacity(count + 1);
    let mut seats = Vec::with_capacity(count);
    for number in 0..count {
        let (hand, taken) = mpsc::unbounded_channel();
        let load = Arc::new(Load::default());
        seats.push(Seat { hand, load: Arc::clone(&load) });
        let (plane, tls, draining) = (Arc::clone(plane), Arc::clone(tls), draining.clone());
        let ids = RequestIds::new().map_err(|error| std::io::Error::other(error.to_string()))?;
        let body = move || run_worker(plane, tls, ids, load, taken, draining);
        threads.push(thread::Builder::new().name(format!("keyward-worker-{number}")).spawn(body)?);
    }
    let accepting = Accepting { plane: Arc::clone(plane), seats, per_client: Arc::default(), draining };
    threads.push(thread::Builder::new().name("keyward-accept".to_owned()).spawn(move || accepting.run(listeners))?);
    Ok(Server { addresses, threads, drain, plane: Arc::clone(plane) })
}

impl Server {
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

/// A connection's place under the caps; given back when the connection ends.
struct Place {
    plane: Arc<Plane>,
    per_client: Arc<Mutex<HashMap<IpAddr, u32>>>,
    client: IpAddr,
    load: Arc<Load>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.plane.metrics.connections.dec();
        self.load.connections.fetch_sub(1, Ordering::Relaxed);
        let mut per_client = self.per_client.lock().unwrap_or_else(PoisonError::into_inner);
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
    per_client: Arc<Mutex<HashMap<IpAddr, u32>>>,
    draining: watch::Receiver<bool>,
}

impl Accepting {
    fn run(self, listeners: Vec<std::net::TcpListener>) {
        let runtime = match current_thread_runtime() {
            Ok(runtime) => runtime,
            Err(error) => return tracing::error!(%error, "no runtime for accepting connections"),
        };
        let accepting = Rc::new(self);
        LocalSet::new().block_on(&runtime, async {
            let mut draining = accepting.draining.clone();
            for listener in listeners {
                let accepting = Rc::clone(&accepting);
                match TcpListener::from_std(listener) {
                    Ok(listener) => drop(tokio::task::spawn_local(accepting.accept(listener))),
                    Err(error) => tracing::error!(%error, "a listener cannot be used"),
                }
            }
            let _ = draining.wait_for(|draining| *draining).await;
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
                    tokio::time::sleep(TICK).await;
                }
            }
        }
    }

    /// Hands a connection to the least loaded worker, unless a cap is reached.
    fn seat(&self, stream: TcpStream, peer: SocketAddr) -> Option<()> {
        let live = self.plane.live.load();
        let client = peer.ip().to_canonical();
        let seat = self.seats.iter().min_by_key(|seat| seat.load.weight())?;
        let metrics = &self.plane.metrics;
        if metrics.connections.get() >= i64::from(live.settings.max_connections) {
            return None;
        }
        {
            let mut per_client = self.per_client.lock().unwrap_or_else(PoisonError::into_inner);
            let count = per_client.entry(client).or_default();
            // A trusted proxy carries many clients.
            if *count >= live.settings.max_connections_per_client && !live.settings.trusted_proxies.contains(client) {
                return None;
            }
            *count += 1;
        }
        metrics.connections.inc();
        seat.load.connections.fetch_add(1, Ordering::Relaxed);
        let place = Place {
            plane: Arc::clone(&self.plane),
            per_client: Arc::clone(&self.per_client),
            client,
            load: Arc::clone(&seat.load),
        };
        stream.set_nodelay(true).ok()?;
        let stream = stream.into_std().ok()?;
        seat.hand.send(Accepted { stream, peer, _place: place }).ok()
    }
}

fn run_worker(
    plane: Arc<Plane>,
    tls: Arc<ClientConfig>,
    ids: RequestIds,
    load: Arc<Load>,
    mut taken: mpsc::UnboundedReceiver<Accepted>,
    mut draining: watch::Receiver<bool>,
) {
    let runtime = match current_thread_runtime() {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!(%error, "no runtime for a worker"),
    };
    let local = LocalSet::new();
    let clock = plane.clock.clone();
    let worker =
        Rc::new(Worker { pool: Pool::new(tls, clock.clone()), deadlines: Deadlines::new(clock), ids, load, plane });
    local.block_on(&runtime, async {
        tokio::task::spawn_local(tick(Rc::clone(&worker)));
        let connections = Rc::new(());
        let told = draining.clone();
        loop {
            tokio::select! {
                accepted = taken.recv() => match accepted {
                    Some(accepted) => {
                        let (worker, draining, open) = (Rc::clone(&worker), told.clone(), Rc::clone(&connections));
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
        drained(&worker, &connections).await;
    });
}

/// Waits for the connections to end, for as long as the operator allows.
async fn drained(worker: &Worker, connections: &Rc<()>) {
    let limit = worker.plane.live.load().settings.drain_timeout;
    let ended = async {
        let mut look = interval(TICK / 4);
        while Rc::strong_count(connections) > 1 {
            look.tick().await;
        }
    };
    if timeout(limit, ended).await.is_err() {
        tracing::warn!(connections = Rc::strong_count(connections) - 1, "drain time is over; running requests are cut");
    }
}

async fn tick(worker: Rc<Worker>) {
    let mut ticks = interval(TICK);
    let mut until_sweep = SWEEP_TICKS;
    let mut shown = [0; 3];
    loop {
        ticks.tick().await;
        worker.deadlines.tick();
        shown = show(&worker, shown);
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
        if notes.poll_cut(cx).is_ready() {
            return Poll::Ready(Err(()));
        }
        match serving.as_mut().poll(cx) {
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
