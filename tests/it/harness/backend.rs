//! A backend that says exactly what its script says, byte for byte, and remembers everything it was sent.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// One request as it arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Request line and headers, as sent.
    pub head: String,
    pub body: Vec<u8>,
}

impl Seen {
    /// The value of a header, lower-case name.
    pub fn header(&self, name: &str) -> Option<String> {
        self.head.lines().skip(1).find_map(|line| {
            let (n, v) = line.split_once(':')?;
            n.eq_ignore_ascii_case(name).then(|| v.trim().to_owned())
        })
    }

    pub fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// The connection an answer is written to.
pub struct Reply {
    stream: TcpStream,
    keeps: bool,
}

impl Reply {
    /// Writes bytes as they are; a gone reader is not the backend's concern.
    pub async fn raw(&mut self, bytes: impl AsRef<[u8]>) {
        if self.stream.write_all(bytes.as_ref()).await.is_err() {
            self.keeps = false;
        }
        let _ = self.stream.flush().await;
    }

    /// A whole JSON answer.
    pub async fn json(&mut self, status: u16, body: &str) {
        let length = body.len();
        self.raw(format!(
            "HTTP/1.1 {status} Status\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
        .await;
    }

    /// The head of an event stream in chunks.
    pub async fn stream_head(&mut self) {
        self.raw("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n").await;
    }

    /// One chunk.
    pub async fn chunk(&mut self, bytes: &[u8]) {
        let mut framed = format!("{:x}\r\n", bytes.len()).into_bytes();
        framed.extend_from_slice(bytes);
        framed.extend_from_slice(b"\r\n");
        self.raw(framed).await;
    }

    /// The end of the chunks.
    pub async fn end(&mut self) {
        self.raw("0\r\n\r\n").await;
    }

    /// Breaks the connection off when the script returns.
    pub fn cut(&mut self) {
        self.keeps = false;
    }

    /// Whether a write has failed, or the script cut it.
    pub fn is_gone(&self) -> bool {
        !self.keeps
    }

    /// Waits until the other side has gone.
    pub async fn until_gone(&mut self) {
        let mut scratch = [0_u8; 64];
        while !matches!(self.stream.read(&mut scratch).await, Ok(0) | Err(_)) {}
        self.keeps = false;
    }
}

type Script = dyn Fn(Seen, Reply) -> Pin<Box<dyn Future<Output = Reply> + Send>> + Send + Sync;

/// A listening backend; gone when dropped.
pub struct Backend {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<Mutex<usize>>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
}

impl Backend {
    /// Runs `script` for every request, on a thread of its own.
    pub fn start<F, Fut>(script: F) -> Self
    where
        F: Fn(Seen, Reply) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Reply> + Send + 'static,
    {
        let script: Arc<Script> = Arc::new(move |seen, reply| Box::pin(script(seen, reply)));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("non-blocking");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(Mutex::new(0));
        let (log, count) = (Arc::clone(&seen), Arc::clone(&connections));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).expect("a listener");
                let accepting = async {
                    loop {
                        let Ok((stream, _)) = listener.accept().await else { continue };
                        let _ = stream.set_nodelay(true);
                        *count.lock().unwrap() += 1;
                        tokio::spawn(serve(stream, Arc::clone(&script), Arc::clone(&log)));
                    }
                };
                tokio::select! { () = accepting => {}, _ = stopped => {} }
            });
        });
        Self { address, seen, connections, stop: Some(stop) }
    }

    /// Answers every request with this JSON.
    pub fn json(body: &'static str) -> Self {
        Self::start(move |_, mut reply| async move {
            reply.json(200, body).await;
            reply
        })
    }

    /// Everything it was sent so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// How many requests it was sent so far.
    pub fn seen_count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// Whether it was sent a request like that.
    pub fn has_seen(&self, is_it: impl Fn(&Seen) -> bool) -> bool {
        self.seen.lock().unwrap().iter().any(is_it)
    }

    /// Connections it accepted so far.
    pub fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        drop(self.stop.take());
    }
}

async fn serve(mut stream: TcpStream, script: Arc<Script>, log: Arc<Mutex<Vec<Seen>>>) {
    let mut buffer = Vec::new();
    while let Some(seen) = read_request(&mut stream, &mut buffer).await {
        log.lock().unwrap().push(seen.clone());
        let reply = script(seen, Reply { stream, keeps: true }).await;
        if !reply.keeps {
            return;
        }
        stream = reply.stream;
    }
}

async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Seen> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
        read_more(stream, buffer).await?;
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    buffer.drain(..end);
    let seen = Seen { head, body: Vec::new() };
    // The proxy always knows the length of what it sends.
    assert_eq!(seen.header("transfer-encoding"), None, "a request must go out with its length");
    let length = seen.header("content-length").and_then(|v| v.parse::<usize>().ok()).unwrap_or(0);
    while buffer.len() < length {
        read_more(stream, buffer).await?;
    }
    let body = buffer.drain(..length).collect();
    Some(Seen { body, ..seen })
}

async fn read_more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    let mut chunk = [0_u8; 16 * 1024];
    match stream.read(&mut chunk).await {
        Ok(0) | Err(_) => None,
        Ok(count) => {
            buffer.extend_from_slice(&chunk[..count]);
            Some(())
        }
    }
}
