//! Listening sockets, the caps on connections, and which worker a new one goes to.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinSet, LocalSet};

use crate::proxy::plane::{Load, Plane};

const BACKLOG: i32 = 4096;
/// The rest after a connection that could not be accepted.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// A socket that listens.
///
/// # Errors
/// The address cannot be bound.
pub(super) fn bind(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket
        .bind(&address.into())
        .and_then(|()| socket.listen(BACKLOG))
        .map_err(|error| std::io::Error::new(error.kind(), format!("{address}: {error}")))?;
    Ok(socket.into())
}
/// One worker as the acceptor sees it.
pub(super) struct Seat {
    pub(super) hand: mpsc::UnboundedSender<Accepted>,
    pub(super) load: Arc<Load>,
}

/// A connection on its way to a worker.
pub(super) struct Accepted {
    pub(super) stream: std::net::TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) _place: Place,
}

/// How many connections there are, all together and by client.
#[derive(Default)]
pub(super) struct Places {
    all: AtomicUsize,
    per_client: Mutex<HashMap<IpAddr, u32>>,
}

/// A connection's place under the caps; given back when the connection ends.
pub(super) struct Place {
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

/// The acceptor.
pub(super) struct Accepting {
    pub(super) plane: Arc<Plane>,
    pub(super) seats: Vec<Seat>,
    pub(super) places: Arc<Places>,
    pub(super) draining: watch::Receiver<bool>,
}

impl Accepting {
    pub(super) fn run(self, runtime: &runtime::Runtime, listeners: Vec<TcpListener>) {
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
