//! An HTTP/2 client that sends exactly the frames it is told to, however wrong, and keeps all that comes back.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use loona_hpack::Decoder;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a test waits for what must come; only a failure takes this long.
const PATIENCE: Duration = Duration::from_secs(20);

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RESET: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const ACK: u8 = 1;

/// Codes of resets.
pub const PROTOCOL_ERROR: u32 = 1;
pub const INTERNAL_ERROR: u32 = 2;
pub const CANCEL: u32 = 8;

/// What a connection can be over.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Io for S {}

/// One frame.
#[derive(Debug, Clone)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// The bytes of a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a length").to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A head as HPACK writes it most plainly: every field in full, nothing remembered.
pub fn block<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: &[(N, V)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        text(&mut bytes, name.as_ref());
        text(&mut bytes, value.as_ref());
    }
    bytes
}

fn text(bytes: &mut Vec<u8>, text: &[u8]) {
    // An integer with a prefix of seven bits (RFC 7541 5.1).
    if text.len() < 127 {
        bytes.push(text.len() as u8);
    } else {
        bytes.push(127);
        let mut left = text.len() - 127;
        while left >= 128 {
            bytes.push((left % 128) as u8 | 128);
            left /= 128;
        }
        bytes.push(left as u8);
    }
    bytes.extend_from_slice(text);
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Clean,
    Reset(u32),
    /// The connection ended before it.
    Lost,
}

/// What came on a stream.
#[derive(Debug, Clone, Default)]
pub struct Got {
    pub head: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub end: Option<End>,
    /// Data frames, by their lengths.
    pub pieces: Vec<usize>,
}

impl Got {
    pub fn status(&self) -> u16 {
        self.header(":status").and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    pub fn header(&self, name: &str) -> Option<String> {
        self.head.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

/// One connection.
pub struct H2 {
    io: Box<dyn Io>,
    buffer: Vec<u8>,
    decoder: Decoder<'static>,
    next: u32,
    got: HashMap<u32, Got>,
    /// The order in which data came: the stream of each frame.
    pub order: Vec<u32>,
    /// The code of the last GOAWAY.
    pub goaway: Option<u32>,
    /// What the server's first SETTINGS say, by number.
    pub settings: HashMap<u16, u32>,
    /// Whether room is granted for what was received.
    pub grants: bool,
    /// Whether pings and settings are acknowledged.
    pub acknowledges: bool,
    pub is_closed: bool,
}

impl H2 {
    /// A connection in clear, begun as HTTP/2.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        let _ = stream.set_nodelay(true);
        Self::begin(stream, &[]).await
    }

    /// The same over anything, with these settings.
    pub async fn begin(io: impl Io + 'static, settings: &[(u16, u32)]) -> Self {
        let mut client = Self::over(io);
        let mut payload = Vec::new();
        for (number, value) in settings {
            payload.extend_from_slice(&number.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        }
        client.send(&[PREFACE, &frame(SETTINGS, 0, 0, &payload)].concat()).await;
        client
    }

    /// A connection on which nothing has been said.
    pub fn over(io: impl Io + 'static) -> Self {
        Self {
            io: Box::new(io),
            buffer: Vec::new(),
            decoder: Decoder::new(),
            next: 1,
            got: HashMap::new(),
            order: Vec::new(),
            goaway: None,
            settings: HashMap::new(),
            grants: true,
            acknowledges: true,
            is_closed: false,
        }
    }

    /// Sends; a peer that stopped reading is seen when something is read.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = timeout(PATIENCE, self.io.write_all(bytes)).await.expect("nothing is taken in 20 s");
        let _ = self.io.flush().await;
    }

    pub async fn send_frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.send(&frame(kind, flags, stream, payload)).await;
    }

    /// The number of a stream that was not used yet.
    pub fn stream(&mut self) -> u32 {
        self.next += 2;
        self.next - 2
    }

    /// Opens a stream with exactly these fields; `ends` with it where there is no body.
    pub async fn open<N: AsRef<[u8]>, V: AsRef<[u8]>>(&mut self, fields: &[(N, V)], ends: bool) -> u32 {
        let stream = self.stream();
        let flags = END_HEADERS | if ends { END_STREAM } else { 0 };
        self.send_frame(HEADERS, flags, stream, &block(fields)).await;
        stream
    }

    /// A GET.
    pub async fn get(&mut self, path: &str, key: &str) -> u32 {
        self.open(&fields("GET", path, key), true).await
    }

    /// A POST with a JSON body.
    pub async fn post(&mut self, path: &str, key: &str, body: &str) -> u32 {
        let mut fields = fields("POST", path, key);
        fields.push(("content-type".to_owned(), "application/json".to_owned()));
        let stream = self.open(&fields, false).await;
        self.send_frame(DATA, END_STREAM, stream, body.as_bytes()).await;
        stream
    }

    /// Reads the answer on a stream to its end.
    pub async fn answer(&mut self, stream: u32) -> Got {
        while self.got.entry(stream).or_default().end.is_none() {
            self.more().await;
        }
        self.got[&stream].clone()
    }

    /// Reads until the answer on a stream has begun and this much of its body is there.
    pub async fn until(&mut self, stream: u32, bytes: usize) -> Got {
        loop {
            let got = self.got.entry(stream).or_default();
            if got.end.is_some() || (!got.head.is_empty() && got.body.len() >= bytes) {
                return got.clone();
            }
            self.more().await;
        }
    }

    /// What has come on a stream so far.
    pub fn so_far(&mut self, stream: u32) -> Got {
        self.got.entry(stream).or_default().clone()
    }

    /// Reads until the connection ends.
    pub async fn until_closed(&mut self) {
        while !self.is_closed {
            self.more().await;
        }
    }

    /// Reads one frame and remembers what it says.
    pub async fn more(&mut self) -> Option<Frame> {
        let frame = self.frame().await;
        let Some(frame) = frame else {
            self.is_closed = true;
            for got in self.got.values_mut() {
                got.end.get_or_insert(End::Lost);
            }
            return None;
        };
        let got = self.got.entry(frame.stream).or_default();
        match frame.kind {
            HEADERS => {
                let head = self.decoder.decode(&frame.payload).expect("a head in HPACK");
                let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
                got.head = head.into_iter().map(|(name, value)| (text(name), text(value))).collect();
            }
            DATA => {
                got.body.extend_from_slice(&frame.payload);
                got.pieces.push(frame.payload.len());
                self.order.push(frame.stream);
            }
            RESET => {
                got.end.get_or_insert(End::Reset(number(&frame.payload)));
            }
            GOAWAY => self.goaway = Some(number(&frame.payload[4..])),
            _ => {}
        }
        if matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0 {
            got.end = Some(End::Clean);
        }
        self.reply(&frame).await;
        Some(frame)
    }

    async fn reply(&mut self, frame: &Frame) {
        match frame.kind {
            SETTINGS if frame.flags & ACK == 0 => {
                for setting in frame.payload.chunks_exact(6) {
                    let id = u16::from_be_bytes([setting[0], setting[1]]);
                    self.settings.insert(id, number(&setting[2..]));
                }
                if self.acknowledges {
                    self.send_frame(SETTINGS, ACK, 0, &[]).await;
                }
            }
            PING if frame.flags & ACK == 0 && self.acknowledges => {
                self.send_frame(PING, ACK, 0, &frame.payload).await;
            }
            DATA if self.grants && !frame.payload.is_empty() => {
                let count = u32::try_from(frame.payload.len()).expect("a length").to_be_bytes();
                self.send_frame(WINDOW_UPDATE, 0, 0, &count).await;
                if frame.flags & END_STREAM == 0 {
                    self.send_frame(WINDOW_UPDATE, 0, frame.stream, &count).await;
                }
            }
            _ => {}
        }
    }

    async fn frame(&mut self) -> Option<Frame> {
        while self.buffer.len() < 9 || self.buffer.len() < 9 + length(&self.buffer) {
            let mut chunk = [0_u8; 16 * 1024];
            match timeout(PATIENCE, self.io.read(&mut chunk)).await.expect("nothing came in 20 s") {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
            }
        }
        let length = length(&self.buffer);
        let bytes: Vec<u8> = self.buffer.drain(..9 + length).collect();
        let stream = number(&bytes[5..9]);
        Some(Frame { kind: bytes[3], flags: bytes[4], stream, payload: bytes[9..].to_vec() })
    }
}

fn length(bytes: &[u8]) -> usize {
    u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]) as usize
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// The fields of a good request.
pub fn fields(method: &str, path: &str, key: &str) -> Vec<(String, String)> {
    let fields = [
        (":method", method),
        (":scheme", "http"),
        (":authority", "proxy"),
        (":path", path),
        ("authorization", &format!("Bearer {key}")),
    ];
    fields.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
}
