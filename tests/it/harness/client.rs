//! A client that sends exactly the bytes it is given and reads exactly what comes back.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a test waits for what must come; only a failure takes this long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    /// The body without its chunk framing.
    pub body: Vec<u8>,
    /// Whether it ended as its framing promised; false for a connection that broke off.
    pub is_whole: bool,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<String> {
        self.head.lines().skip(1).find_map(|line| {
            let (n, v) = line.split_once(':')?;
            n.eq_ignore_ascii_case(name).then(|| v.trim().to_owned())
        })
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

/// One connection.
pub struct Client {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        let _ = stream.set_nodelay(true);
        Self { stream, buffer: Vec::new() }
    }

    /// A connection whose receive buffer is small, so that not reading soon shows.
    pub async fn connect_narrow(address: SocketAddr) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(16 * 1024).expect("a small buffer");
        Self { stream: socket.connect(address).await.expect("a connection"), buffer: Vec::new() }
    }

    /// One request on a connection of its own, and its answer.
    pub async fn once(address: SocketAddr, bytes: &[u8]) -> Answer {
        let mut client = Self::connect(address).await;
        client.send(bytes).await;
        client.answer().await
    }

    /// Sends; a peer that stopped reading is seen when the answer is read.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// Reads one answer to its end.
    pub async fn answer(&mut self) -> Answer {
        let head = self.head().await;
        let (body, is_whole) = self.body(&head).await;
        Answer { status: status(&head), head, body, is_whole }
    }

    /// Reads the head of an answer, past any interim ones.
    pub async fn head(&mut self) -> String {
        loop {
            let end = loop {
                if let Some(at) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                    break at + 4;
                }
                assert!(
                    self.more().await,
                    "the connection ended without an answer: {:?}",
                    String::from_utf8_lossy(&self.buffer)
                );
            };
            let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
            self.buffer.drain(..end);
            if status(&head) >= 200 {
                return head;
            }
        }
    }

    async fn body(&mut self, head: &str) -> (Vec<u8>, bool) {
        let answer = Answer { status: 0, head: head.to_owned(), body: Vec::new(), is_whole: true };
        if answer.header("transfer-encoding").is_some_and(|v| v == "chunked") {
            let mut body = Vec::new();
            loop {
                match self.chunk().await {
                    Some(chunk) if chunk.is_empty() => return (body, true),
                    Some(chunk) => body.extend(chunk),
                    None => return (body, false),
                }
            }
        }
        match answer.header("content-length").and_then(|v| v.parse::<usize>().ok()) {
            Some(length) => {
                while self.buffer.len() < length {
                    if !self.more().await {
                        return (std::mem::take(&mut self.buffer), false);
                    }
                }
                (self.buffer.drain(..length).collect(), true)
            }
            None => {
                while self.more().await {}
                (std::mem::take(&mut self.buffer), true)
            }
        }
    }

    /// The next chunk of a chunked body; empty at its end, `None` when the connection broke off.
    pub async fn chunk(&mut self) -> Option<Vec<u8>> {
        let line = loop {
            if let Some(at) = self.buffer.windows(2).position(|w| w == b"\r\n") {
                break at;
            }
            if !self.more().await {
                return None;
            }
        };
        let size = usize::from_str_radix(std::str::from_utf8(&self.buffer[..line]).ok()?, 16).ok()?;
        while self.buffer.len() < line + 2 + size + 2 {
            if !self.more().await {
                return None;
            }
        }
        let chunk = self.buffer[line + 2..line + 2 + size].to_vec();
        self.buffer.drain(..line + 2 + size + 2);
        Some(chunk)
    }

    /// Reads on until the connection ends, a little at a time and slowly, for [`Client::answer`] to find it.
    pub async fn trickle(&mut self) {
        let mut chunk = [0_u8; 16 * 1024];
        while let Ok(count @ 1..) = timeout(PATIENCE, self.stream.read(&mut chunk)).await.expect("nothing came in 20 s")
        {
            self.buffer.extend_from_slice(&chunk[..count]);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// The first bytes of what comes, as they are; fewer when the connection ends before.
    pub async fn raw_start(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length && self.more().await {}
        let length = length.min(self.buffer.len());
        self.buffer[..length].to_vec()
    }

    /// The status of the next answer; `None` when the connection ends instead.
    pub async fn first_status(&mut self) -> Option<u16> {
        let start = self.raw_start(12).await;
        (start.len() == 12).then(|| status(&String::from_utf8_lossy(&start)))
    }

    /// Says that nothing more will be sent and reads to the end; the status of the first answer, if one came.
    pub async fn finish(&mut self) -> Option<u16> {
        let _ = self.stream.shutdown().await;
        while self.more().await {}
        (!self.buffer.is_empty()).then(|| status(&String::from_utf8_lossy(&self.buffer)))
    }

    /// Everything that still comes before the connection closes, as it is.
    pub async fn remaining(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.buffer)
    }

    /// Whether the server closes the connection without another byte.
    pub async fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && !self.more().await
    }

    async fn more(&mut self) -> bool {
        let mut chunk = [0_u8; 16 * 1024];
        match timeout(PATIENCE, self.stream.read(&mut chunk)).await.expect("nothing came in 20 s") {
            Ok(0) | Err(_) => false,
            Ok(count) => {
                self.buffer.extend_from_slice(&chunk[..count]);
                true
            }
        }
    }
}

fn status(head: &str) -> u16 {
    head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0)
}
