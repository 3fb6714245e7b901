//! From an endpoint's address to a stream on which HTTP can be spoken: name, connection, the way through a proxy, TLS.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::socket;
use crate::upstream::resolve;
use crate::upstream::route::{Endpoint, Upstream};
use crate::upstream::settings::{Address, Protocol};
use crate::upstream::tls::{self, Defaults};

/// After so long without a word the other system is asked whether it is there (SO_KEEPALIVE, socket(7)). No bound to how long what was sent may wait
/// (TCP_USER_TIMEOUT): a backend that is busy does not take a large body at once, which counts as the same.
const SILENT: Duration = Duration::from_secs(20);

/// The longest answer of a forward proxy that is read, bytes.
const TUNNEL_HEAD_MAX: usize = 8 * 1024;

/// A stream to an endpoint.
#[derive(Debug)]
pub enum Stream {
    /// In clear.
    Tcp(TcpStream),
    /// Over TLS.
    Tls(Box<TlsStream<TcpStream>>),
    /// A test's, in memory.
    #[cfg(test)]
    Script(tokio::io::DuplexStream),
}

/// The same call for whichever it is; in clear, the one named first.
macro_rules! whichever {
    ($this:expr, $tcp:ident => $own:expr, $stream:ident => $call:expr) => {
        match $this.get_mut() {
            Stream::Tcp($tcp) => $own,
            Stream::Tls(stream) => {
                let $stream = Pin::new(&mut **stream);
                $call
            }
            #[cfg(test)]
            Stream::Script(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
        }
    };
}

impl Stream {
    /// Bytes that were written and that the other side has not taken, as far as that can be told.
    pub fn untaken(&self) -> u64 {
        match self {
            Self::Tcp(stream) => socket::untaken(stream),
            Self::Tls(stream) => socket::untaken(stream.get_ref().0),
            #[cfg(test)]
            Self::Script(_) => 0,
        }
    }

    /// Whether anything has come, or its end; one byte is read of it. Whoever waits for what comes is woken as before, in clear, or by `cx`.
    pub fn has_come(&mut self, cx: &mut Context<'_>) -> bool {
        let mut byte = [0];
        match self {
            // Without a lock, and without a call where the system has said nothing.
            Self::Tcp(stream) => {
                !matches!(stream.try_read(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
            }
            _ => Pin::new(self).poll_read(cx, &mut ReadBuf::new(&mut byte)).is_ready(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        whichever!(self, tcp => socket::poll_recv(tcp, cx, buf), stream => stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        whichever!(self, tcp => socket::poll_send(tcp, cx, bytes), stream => stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        whichever!(self, tcp => Pin::new(tcp).poll_write_vectored(cx, slices), stream => stream.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        whichever!(self, _tcp => Poll::Ready(Ok(())), stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        whichever!(self, tcp => Pin::new(tcp).poll_shutdown(cx), stream => stream.poll_shutdown(cx))
    }
}

/// A stream, and whether HTTP/2 is spoken on it.
#[derive(Debug)]
pub struct Opened {
    /// The stream.
    pub stream: Stream,
    /// Whether it is for HTTP/2.
    pub is_http2: bool,
}

/// Opens a stream to `endpoint`. `now_ns` is the monotonic clock's.
///
/// # Errors
/// What went wrong on the way, without any address in it.
pub async fn open(upstream: &Upstream, endpoint: &Endpoint, defaults: &Defaults, now_ns: u64) -> io::Result<Opened> {
    let (settings, address) = (&upstream.settings, &endpoint.address);
    let hop = settings.via.as_ref().unwrap_or(address);
    let addresses = endpoint.resolved.addresses(&hop.host, hop.port, settings.dns_refresh, now_ns).await?;
    let mut tcp = resolve::connect(&addresses).await?;
    tcp.set_nodelay(true)?;
    watch_for_silence(&tcp)?;
    if settings.via.is_some() {
        tunnel(&mut tcp, address).await?;
    }
    if !address.tls {
        return Ok(Opened { stream: Stream::Tcp(tcp), is_http2: settings.protocol == Protocol::Http2 });
    }
    let config = settings.tls.as_ref().map_or_else(|| defaults.of(settings.protocol), |tls| tls.config());
    let stream = tls::connect(config, &address.host, tcp).await?;
    let is_http2 = tls::agreed_on_http2(&stream);
    if settings.protocol == Protocol::Http2 && !is_http2 {
        return Err(io::Error::other("it does not offer HTTP/2"));
    }
    Ok(Opened { stream: Stream::Tls(Box::new(stream)), is_http2 })
}

/// A host that is gone says nothing, and an answer may take its time: without this, whoever waits for one would wait for all of that.
fn watch_for_silence(tcp: &TcpStream) -> io::Result<()> {
    SockRef::from(tcp).set_tcp_keepalive(&TcpKeepalive::new().with_time(SILENT).with_interval(SILENT / 2))
}

/// Asks a forward proxy for the way to `address` (RFC 9110 9.3.6).
async fn tunnel(tcp: &mut TcpStream, address: &Address) -> io::Result<()> {
    let host = if address.host.contains(':') { format!("[{}]", address.host) } else { address.host.to_string() };
    let target = format!("{host}:{}", address.port);
    tcp.write_all(format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n").as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == TUNNEL_HEAD_MAX {
            return Err(io::Error::other("the proxy's answer has no end"));
        }
        // One at a time: what follows the head is the tunnel's.
        head.push(tcp.read_u8().await?);
    }
    let status = head.split(|byte| *byte == b' ').nth(1);
    match status {
        Some([b'2', _, _]) if head.starts_with(b"HTTP/1.") => Ok(()),
        _ => Err(io::Error::other("the proxy refuses the way")),
    }
}
