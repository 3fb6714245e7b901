//! A backend that is a socket and nothing more: for everything a backend may do wrong.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// A listener whose script gets each connection as it is, with its number from 0.
pub struct RawBackend {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    stop: Option<oneshot::Sender<()>>,
}

impl RawBackend {
    pub fn start<F, Fut>(script: F) -> Self
    where
        F: Fn(TcpStream, usize) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("non-blocking");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel::<()>();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).expect("a listener");
                let accepting = async {
                    loop {
                        let Ok((stream, _)) = listener.accept().await else { continue };
                        let _ = stream.set_nodelay(true);
                        tokio::spawn(script(stream, count.fetch_add(1, Ordering::SeqCst)));
                    }
                };
                tokio::select! { () = accepting => {}, _ = stopped => {} }
            });
        });
        Self { address, connections, stop: Some(stop) }
    }

    /// Connections it accepted so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for RawBackend {
    fn drop(&mut self) {
        drop(self.stop.take());
    }
}

/// An address on which nothing listens, now and for as long as the tests run: a port that was let go would be the next listener's, and be alive.
pub fn dead_address() -> SocketAddr {
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&any.into()).expect("a port");
    let address = socket.local_addr().ok().and_then(|address| address.as_socket()).expect("an address");
    std::mem::forget(socket);
    address
}

/// Reads one request, head and body; false when the other side has gone before.
pub async fn read_request(stream: &mut TcpStream) -> bool {
    let Some((length, got)) = read_head(stream).await else { return false };
    let mut left = length.saturating_sub(got);
    let mut scratch = [0_u8; 16 * 1024];
    while left > 0 {
        match stream.read(&mut scratch).await {
            Ok(0) | Err(_) => return false,
            Ok(count) => left = left.saturating_sub(count),
        }
    }
    true
}

/// Reads the head of a request and what comes with it: the length of its body, and how much of that was read.
pub async fn read_head(stream: &mut TcpStream) -> Option<(usize, usize)> {
    let mut head = Vec::new();
    let mut scratch = [0_u8; 1024];
    let end = loop {
        if let Some(at) = head.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
        match stream.read(&mut scratch).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => head.extend_from_slice(&scratch[..count]),
        }
    };
    let text = String::from_utf8_lossy(&head[..end]).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    Some((length.unwrap_or(0), head.len() - end))
}

/// Writes and forgets what becomes of it.
pub async fn write(stream: &mut TcpStream, bytes: impl AsRef<[u8]>) {
    let _ = stream.write_all(bytes.as_ref()).await;
    let _ = stream.flush().await;
}

/// Waits until the other side has gone.
pub async fn until_gone(stream: &mut TcpStream) {
    let mut scratch = [0_u8; 1024];
    while !matches!(stream.read(&mut scratch).await, Ok(0) | Err(_)) {}
}

/// Closes with a reset instead of an end.
pub fn reset(stream: TcpStream) {
    let stream = stream.into_std().expect("a socket");
    let _ = socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO));
}
