//! The first thing on a connection: a TLS handshake, where there is TLS, and which protocol its client speaks.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::listen::Stream;
use crate::proxy::http2::conduct::PREFACE;
use crate::proxy::plane::Worker;
use crate::proxy::wire::{Paced, WireNotes};
use crate::tls::{ALPN_H2, Identity};

/// Bytes read at once to find out what a client speaks; the head of most requests fits.
const FIRST_READ: usize = 4 * 1024;

type Socket = Paced<Stream>;

/// The bytes of a connection, in clear.
#[derive(Debug)]
pub enum Line {
    /// As they come.
    Plain(Socket),
    /// Out of TLS.
    Tls(Box<TlsStream<Socket>>),
}

/// What its client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0 or 1.1, or no HTTP at all.
    Http1,
    /// HTTP/2.
    Http2,
}

/// A connection that can be served.
#[derive(Debug)]
pub struct Opened {
    /// Its bytes.
    pub line: Line,
    /// What is spoken on it.
    pub protocol: Protocol,
    /// What was read of them to find that out.
    pub start: Vec<u8>,
}

/// Opens a connection; `None` when there is nothing to be served on it.
pub async fn open(
    worker: &Worker,
    socket: Socket,
    peer: SocketAddr,
    notes: &WireNotes,
    draining: &mut watch::Receiver<bool>,
) -> Option<Opened> {
    let tls = worker.plane.live.load().settings.tls.clone();
    match tls {
        Some(identity) => shake_hands(worker, &identity, socket, peer, notes).await,
        None => listen_first(socket, notes, draining).await,
    }
}

/// A handshake, in the time that a head has.
async fn shake_hands(
    worker: &Worker,
    identity: &Identity,
    socket: Socket,
    peer: SocketAddr,
    notes: &WireNotes,
) -> Option<Opened> {
    let mut shaking = pin!(TlsAcceptor::from(Arc::clone(identity.config())).accept(socket));
    let shaken = poll_fn(|cx| match shaking.as_mut().poll(cx) {
        Poll::Ready(shaken) => Poll::Ready(Some(shaken)),
        Poll::Pending => notes.poll_cut(cx).map(|()| None),
    });
    match shaken.await {
        Some(Ok(stream)) => {
            notes.opened();
            let protocol = match stream.get_ref().1.alpn_protocol() {
                Some(ALPN_H2) => Protocol::Http2,
                _ => Protocol::Http1,
            };
            Some(Opened { line: Line::Tls(Box::new(stream)), protocol, start: Vec::new() })
        }
        Some(Err(error)) => {
            worker.plane.metrics.edge.count_handshake("data", false);
            tracing::debug!(%error, %peer, "no TLS handshake");
            None
        }
        None => {
            worker.plane.metrics.edge.count_handshake("data", true);
            tracing::debug!(%peer, "a TLS handshake took too long");
            None
        }
    }
}

/// Without TLS nobody says beforehand what will be spoken: HTTP/2 is known by its first bytes (RFC 9113 3.3).
async fn listen_first(mut socket: Socket, notes: &WireNotes, draining: &mut watch::Receiver<bool>) -> Option<Opened> {
    let mut start = Vec::with_capacity(FIRST_READ);
    let protocol = loop {
        let read = tokio::select! {
            biased;
            read = socket.read_buf(&mut start) => read.ok()?,
            () = late(notes) => 0,
            _ = draining.wait_for(|draining| *draining) => 0,
        };
        match (read, start.as_slice()) {
            (_, []) => return None,
            (_, start) if start.starts_with(PREFACE) => break Protocol::Http2,
            // What is not HTTP/2, or will never be, is for the strict wire to judge.
            (0, _) => break Protocol::Http1,
            (_, start) if !PREFACE.starts_with(start) => break Protocol::Http1,
            _ => notes.head_began(),
        }
    };
    Some(Opened { line: Line::Plain(socket), protocol, start })
}

/// Ends when the peer has taken too long to begin.
async fn late(notes: &WireNotes) {
    poll_fn(|cx| match notes.poll_cut(cx) {
        Poll::Pending if !notes.head_is_overdue() => Poll::Pending,
        Poll::Pending | Poll::Ready(()) => Poll::Ready(()),
    })
    .await;
}

impl Line {
    /// The socket, where there is nothing else to it: no TLS, and nothing that is held back for its reader or its peer.
    pub fn at_rest(&self) -> Option<&Stream> {
        match self {
            Self::Plain(socket) => socket.at_rest().filter(|stream| stream.is_read()),
            Self::Tls(_) => None,
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Line {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
