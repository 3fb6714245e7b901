//! Connections of the admin listener: how many there may be, and how long each may take. Nobody has to show a token to connect, so whoever
//! connects and then does nothing must not cost anything for long.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::ConnectInfo;
use http_body::Frame;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::listen::{Open, Stream};
use crate::telemetry::metrics::EdgeMetrics;
use crate::tls::InForce;

/// The largest head of a request, bytes. hyper may have read up to twice as much before it looks.
const LARGEST_HEAD: usize = 64 * 1024;

/// The rest after a connection that could not be accepted.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// What connections may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Connections at once; more wait to be accepted.
    pub connections: usize,
    /// Of one address; more are closed at once, so that nobody alone keeps the others waiting.
    pub of_one_address: usize,
    /// For a whole head, from the connection's begin or the answer before.
    pub head: Duration,
    /// For a whole body, from its first look.
    pub body: Duration,
    /// For the client to take some of an answer.
    pub stall: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        let patience = Duration::from_secs(30);
        Self { connections: 512, of_one_address: 128, head: patience, body: patience, stall: patience }
    }
}

/// How connections come in.
#[derive(Debug, Clone)]
pub struct Door {
    /// What handshakes are made with; connections are in clear where it holds nothing.
    pub tls: Arc<InForce>,
    /// Where those that fail are counted.
    pub edge: EdgeMetrics,
}

/// Serves until the process ends. While `is_open` is `false`, whoever connects waits in the kernel's queue; calls that run are answered, and their
/// connections end: behind a kept one might be a process that has given the store away.
pub async fn serve(listener: Open, router: Router, bounds: Bounds, door: Door, mut is_open: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(bounds.connections));
    let peers = Peers::default();
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        if is_open.wait_for(|is_open| *is_open).await.is_err() {
            return; // nobody is there who could open it again: the program ends
        }
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            shut = is_open.wait_for(|is_open| !*is_open) => match shut {
                Ok(_) => continue,
                Err(_) => return,
            },
        };
        match accepted {
            Ok((stream, peer)) => {
                let Some(of_peer) = peers.enter(peer.ip(), bounds.of_one_address) else { continue };
                let (router, door, is_open) = (router.clone(), door.clone(), is_open.clone());
                tokio::spawn(async move {
                    let _held = (place, of_peer);
                    enter(stream, peer, router, bounds, door, is_open).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection of the admin listener could not be accepted");
                sleep(ACCEPT_REST).await;
            }
        }
    }
}

/// How many connections each address has.
#[derive(Debug, Clone, Default)]
struct Peers(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One of them; given back when dropped.
struct OfPeer(Peers, IpAddr);

impl Peers {
    fn enter(&self, address: IpAddr, most: usize) -> Option<OfPeer> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_insert(0);
        (*count < most).then(|| {
            *count += 1;
            OfPeer(self.clone(), address)
        })
    }
}

impl Drop for OfPeer {
    fn drop(&mut self) {
        let mut counts = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = counts.entry(self.1) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// One connection, from its handshake, where there is one, to its end.
async fn enter(
    stream: Stream,
    peer: SocketAddr,
    router: Router,
    bounds: Bounds,
    door: Door,
    is_open: watch::Receiver<bool>,
) {
    let stream = Impatient { stream, patience: bounds.stall, until: None };
    let Some(identity) = door.tls.get() else { return converse(stream, peer, router, bounds, is_open).await };
    let shaking = TlsAcceptor::from(Arc::clone(identity.config())).accept(stream);
    match timeout(bounds.head, shaking).await {
        Ok(Ok(stream)) => converse(stream, peer, router, bounds, is_open).await,
        Ok(Err(error)) => {
            door.edge.count_handshake("admin", false);
            tracing::debug!(%error, %peer, "no TLS handshake on the admin listener");
        }
        Err(_) => {
            door.edge.count_handshake("admin", true);
            tracing::debug!(%peer, "a TLS handshake on the admin listener took too long");
        }
    }
}

/// One connection, to its end.
async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    router: Router,
    bounds: Bounds,
    mut is_open: watch::Receiver<bool>,
) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        router.call(request.map(|body| Body::new(Timed { body, patience: bounds.body, until: None })))
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(bounds.head).max_buf_size(LARGEST_HEAD);
    let mut connection = pin!(server.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = async { drop(is_open.wait_for(|is_open| !*is_open).await) } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, %peer, "a connection of the admin listener ended early");
    }
}

fn late(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

/// A body that has to be there in time.
struct Timed {
    body: Incoming,
    patience: Duration,
    until: Option<Pin<Box<Sleep>>>,
}

impl http_body::Body for Timed {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(task) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let patience = self.patience;
        let until = self.until.get_or_insert_with(|| Box::pin(sleep(patience)));
        until.as_mut().poll(task).map(|()| Some(Err(late("the body took too long").into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

/// A stream that ends when nobody takes what is written to it.
struct Impatient {
    stream: Stream,
    patience: Duration,
    until: Option<Pin<Box<Sleep>>>,
}

impl Impatient {
    fn in_time<T>(&mut self, written: Poll<io::Result<T>>, task: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.until = None;
            return written;
        }
        let patience = self.patience;
        let until = self.until.get_or_insert_with(|| Box::pin(sleep(patience)));
        until.as_mut().poll(task).map(|()| Err(late("the client does not read")))
    }
}

impl AsyncRead for Impatient {
    fn poll_read(mut self: Pin<&mut Self>, task: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(task, buf)
    }
}

impl AsyncWrite for Impatient {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(task, bytes);
        self.in_time(written, task)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(task, bytes);
        self.in_time(written, task)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(task)
    }
}
