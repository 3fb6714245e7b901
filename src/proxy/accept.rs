//! Accepting: the caps on connections, and which worker a new one goes to.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::timeout;

use crate::limits::attempts::Client;
use crate::listen::{Loose, Open, Stream};
use crate::proxy::plane::{Load, Plane};
use crate::proxy::seating;
use crate::telemetry::metrics::Reason;

/// The rest after a connection that could not be accepted.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Before a listener is closed: how long nobody has to have come, and how long that is waited for.
const CLOSING_REST: Duration = Duration::from_millis(10);
pub(super) const CLOSING: Duration = Duration::from_millis(100);

/// Held for as long as there are sockets that clients can connect to.
pub(super) type Listening = std::sync::mpsc::Sender<()>;

/// What becomes of clients who connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// They wait in the kernel's queue.
    Shut,
    /// They are accepted.
    Open,
    /// They are refused, but for those who wait already: nobody listens any more.
    Closed,
}

/// One worker as the acceptor sees it.
pub(super) struct Seat {
    pub(super) hand: mpsc::UnboundedSender<Handed>,
    pub(super) load: Arc<Load>,
}

/// A connection on its way to a worker.
#[derive(Debug)]
pub(super) struct Handed {
    pub(super) stream: Loose,
    pub(super) peer: SocketAddr,
    pub(super) place: Place,
    /// It comes from another worker, who knows whose it is and what it speaks.
    pub(super) speaks_http1: bool,
}

/// A connection that a worker serves.
pub(super) struct Accepted {
    /// What the client sends, and what it is sent.
    pub(super) stream: Stream,
    /// Who is at its other end: the peer, or whom the PROXY protocol names. What `trusted_proxies` and `X-Forwarded-For` are about.
    pub(super) peer: SocketAddr,
    /// To be dropped when the connection ends.
    pub(super) place: Place,
    /// It was served by another worker already.
    pub(super) speaks_http1: bool,
}

/// How many connections there are, all together and by client.
#[derive(Debug, Default)]
pub(super) struct Places {
    all: AtomicUsize,
    per_client: Mutex<HashMap<Client, u32>>,
}

/// A connection's place under the caps; given back when the connection ends.
#[derive(Debug)]
pub(super) struct Place {
    plane: Arc<Plane>,
    places: Arc<Places>,
    /// Whom it is counted for, once that is known.
    client: Option<Client>,
    load: Arc<Load>,
}

impl Place {
    /// Counts it for this client; `false` when that has as many as it may have. A trusted proxy carries many clients.
    pub(super) fn count_for(&mut self, client: IpAddr) -> bool {
        let live = self.plane.live.load();
        let is_proxy = live.settings.trusted_proxies.contains(client.to_canonical());
        let client = Client::of(client);
        let mut per_client = self.places.per_client.lock().unwrap_or_else(PoisonError::into_inner);
        let count = per_client.entry(client).or_default();
        if *count >= live.settings.max_connections_per_client && !is_proxy {
            return false;
        }
        *count += 1;
        self.client = Some(client);
        true
    }

    /// The connection is another worker's from now on.
    pub(super) fn move_to(&mut self, load: &Arc<Load>) {
        load.connections.fetch_add(1, Ordering::Relaxed);
        let before = std::mem::replace(&mut self.load, Arc::clone(load));
        before.connections.fetch_sub(1, Ordering::Relaxed);
        self.plane.metrics.connections_moved.inc();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.plane.metrics.connections.dec();
        self.load.connections.fetch_sub(1, Ordering::Relaxed);
        self.places.all.fetch_sub(1, Ordering::Relaxed);
        let Some(client) = self.client else { return };
        let mut per_client = self.places.per_client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = per_client.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                per_client.remove(&client);
            }
        }
    }
}

/// The acceptor.
pub(super) struct Accepting {
    pub(super) plane: Arc<Plane>,
    pub(super) seats: Vec<Seat>,
    pub(super) places: Arc<Places>,
    pub(super) entry: watch::Receiver<Entry>,
    pub(super) draining: watch::Receiver<bool>,
}

impl Accepting {
    /// Until it is time to drain; `listening` goes when no socket is open any more.
    pub(super) fn run(self, runtime: &runtime::Runtime, listeners: Vec<Open>, listening: Listening) {
        let mut draining = self.draining.clone();
        let accepting = Rc::new(self);
        LocalSet::new().block_on(runtime, async {
            let mut accepted = JoinSet::new();
            for listener in listeners {
                accepted.spawn_local(Rc::clone(&accepting).accept(listener));
            }
            while let Some(served) = accepted.join_next().await {
                // A panic, which ends the thread.
                if served.is_err() {
                    return;
                }
            }
            drop(listening);
            // The workers begin to wait for their ends when this ends.
            let _server_is_gone = draining.wait_for(|draining| *draining).await;
        });
    }

    async fn accept(self: Rc<Self>, listener: Open) {
        let mut entry = self.entry.clone();
        loop {
            // The server is gone, and with it everything.
            let Ok(now) = entry.wait_for(|entry| *entry != Entry::Shut).await.map(|entry| *entry) else { return };
            if now == Entry::Closed {
                break;
            }
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                other = entry.wait_for(|entry| *entry != Entry::Open) => match other {
                    Ok(_) => continue,
                    Err(_) => return,
                },
            };
            match accepted {
                Ok((stream, peer)) => self.seat(stream, peer),
                Err(error) => {
                    // Out of descriptors, most likely: a moment's rest instead of a busy loop.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            }
        }
        // With the listener those are reset who have connected and were not accepted.
        let waiting = async {
            while let Ok(Ok((stream, peer))) = timeout(CLOSING_REST, listener.accept()).await {
                self.seat(stream, peer);
            }
        };
        let _too_many = timeout(CLOSING, waiting).await;
    }

    /// Hands a connection to a worker, or closes it: whoever sees that finds it counted.
    fn seat(&self, stream: Stream, peer: SocketAddr) {
        let mut stream = Some(stream);
        if let Err(reason) = self.try_seat(&mut stream, peer) {
            self.plane.metrics.connections_refused.get_or_create(&Reason { reason }).inc();
        }
    }

    /// Hands a connection to the least busy worker.
    ///
    /// # Errors
    /// Which cap is reached, or what else is wrong with it.
    fn try_seat(&self, stream: &mut Option<Stream>, peer: SocketAddr) -> Result<(), &'static str> {
        let live = self.plane.live.load();
        let settings = &live.settings;
        let now_ns = self.plane.clock.monotonic_ns();
        let place = seating::least_busy(self.seats.iter().map(|seat| seat.load.standing(now_ns)));
        let seat = place.and_then(|place| self.seats.get(place)).ok_or("no_worker")?;
        // Only this thread adds, so that no other can take the last place in between.
        let all = self.places.all.load(Ordering::Relaxed);
        if all >= usize::try_from(settings.max_connections).unwrap_or(usize::MAX) {
            return Err("max_connections");
        }
        if all >= self.plane.overload.most_connections() {
            return Err("descriptors");
        }
        if settings.proxy_protocol && !settings.trusted_proxies.contains(peer.ip().to_canonical()) {
            return Err("proxy_not_trusted");
        }
        self.plane.metrics.connections.inc();
        self.places.all.fetch_add(1, Ordering::Relaxed);
        seat.load.connections.fetch_add(1, Ordering::Relaxed);
        let mut place = Place {
            plane: Arc::clone(&self.plane),
            places: Arc::clone(&self.places),
            client: None,
            load: Arc::clone(&seat.load),
        };
        // Else the worker counts it, once the header has said whom it is from.
        if !settings.proxy_protocol && !place.count_for(peer.ip()) {
            return Err("max_connections_per_client");
        }
        let stream = stream.take().ok_or("broken")?.loosen().map_err(|_| "broken")?;
        seat.hand.send(Handed { stream, peer, place, speaks_http1: false }).map_err(|_| "no_worker")
    }
}
