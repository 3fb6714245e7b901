//! The fast backend: canned answers, and events that carry the time of their emission. A process of its own.

use std::io::{BufRead, Read, Write};
use std::net::SocketAddr;
use std::process::{ChildStdout, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::{Buf, BytesMut};
use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep_until};

use crate::guard::Guarded;
use crate::moment::Moment;
use crate::request::{self, BURST_HEADER, COUNT_HEADER, INTERVAL_HEADER, Wish};

/// The hidden argument.
pub const MODE: &str = "--backend";

/// Longer bodies are thrown away as they come.
const KEPT_BODY: usize = 64 * 1024;

/// 0.4 KB, as a model answers a short question.
const ANSWER: &str = r#"{"id":"chatcmpl-9bqKxW1fVr3uN0aZt5LmPd2e","object":"chat.completion","created":1767225600,"model":"gpt-4o-mini","choices":[{"index":0,"message":{"role":"assistant","content":"A proxy stands between two that speak, and what it costs is a little of the time of both of them."},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":291,"completion_tokens":23,"total_tokens":314}}"#;

const USAGE_EVENT: &str = "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1767225600,\"model\":\"gpt-4o-mini\",\"choices\":[],\"usage\":{\"prompt_tokens\":291,\"completion_tokens\":23,\"total_tokens\":314}}\n\n";

/// A running backend.
#[derive(Debug)]
pub struct Backend {
    pub address: SocketAddr,
    _child: Guarded,
}

impl Backend {
    /// Starts one and waits for its address.
    pub fn start() -> anyhow::Result<Self> {
        let mut child = Guarded::spawn_mode(MODE, &[], |command| {
            command.stdin(Stdio::null()).stdout(Stdio::piped());
        })?;
        let address = first_line(child.0.stdout.take())?.parse().context("the backend's address")?;
        Ok(Self { address, _child: child })
    }
}

fn first_line(from: Option<ChildStdout>) -> anyhow::Result<String> {
    let mut line = String::new();
    std::io::BufReader::new(from.context("the backend's output")?.take(100)).read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

/// The backend's own process: prints its address and serves until it is killed.
pub fn run() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
        socket.listen(4096)?;
        let listener = TcpListener::from_std(socket.into())?;
        let mut out = std::io::stdout();
        writeln!(out, "{}", listener.local_addr()?)?;
        out.flush()?;
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::task::spawn_local(async move {
                // A proxy that goes away ends its connection; whatever is wrong with a request shows at the client.
                let _ = serve(stream).await;
            });
        }
    })
}

async fn serve(mut stream: TcpStream) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = BytesMut::with_capacity(4096);
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nx-request-id: req_1\r\n\r\n{ANSWER}",
        ANSWER.len()
    );
    while let Some(asked) = receive(&mut stream, &mut buffer).await? {
        match asked.wish {
            None => stream.write_all(answer.as_bytes()).await?,
            Some(wish) => send_events(&mut stream, wish, asked.wants_usage).await?,
        }
    }
    Ok(())
}

/// What matters of a request.
struct Request {
    wish: Option<Wish>,
    wants_usage: bool,
}

/// Reads one request; `None` at the end of the connection.
async fn receive(stream: &mut TcpStream, buffer: &mut BytesMut) -> anyhow::Result<Option<Request>> {
    let (head_bytes, mut body_left, wish) = loop {
        if let Some(head) = read_head(buffer)? {
            break head;
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    buffer.advance(head_bytes);
    let mut wants_usage = false;
    if body_left <= KEPT_BODY {
        while buffer.len() < body_left {
            if stream.read_buf(buffer).await? == 0 {
                bail!("a body that ends too soon");
            }
        }
        let body = buffer.split_to(body_left);
        wants_usage = wish.is_some() && memmem::find(&body, b"\"include_usage\"").is_some();
    } else {
        let here = buffer.len().min(body_left);
        buffer.advance(here);
        body_left -= here;
        let mut scratch = vec![0; 256 * 1024];
        while body_left > 0 {
            let most = body_left.min(scratch.len());
            let read = stream.read(&mut scratch[..most]).await?;
            if read == 0 {
                bail!("a body that ends too soon");
            }
            body_left -= read;
        }
    }
    Ok(Some(Request { wish, wants_usage }))
}

/// The length of the head, the length of the body, and the wish for a stream.
fn read_head(bytes: &[u8]) -> anyhow::Result<Option<(usize, usize, Option<Wish>)>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(length) = head.parse(bytes)? else { return Ok(None) };
    let number = |name: &str| {
        let header = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(header.value).ok()?.parse::<usize>().ok()
    };
    let body = number("content-length").context("a request without content-length")?;
    let wish = number(INTERVAL_HEADER).map(|interval| Wish {
        interval_us: interval as u64,
        burst: number(BURST_HEADER).unwrap_or(1),
        count: number(COUNT_HEADER),
    });
    Ok(Some((length, body, wish)))
}

async fn send_events(stream: &mut TcpStream, wish: Wish, wants_usage: bool) -> anyhow::Result<()> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    let interval = Duration::from_micros(wish.interval_us);
    let mut next = Instant::now() + interval;
    let mut sent = 0;
    let mut bytes = Vec::with_capacity(320 * wish.burst);
    while wish.count.is_none_or(|count| sent < count) {
        sleep_until(next).await;
        next = (next + interval).max(Instant::now());
        bytes.clear();
        for _ in 0..wish.burst {
            push_event(&mut bytes)?;
        }
        stream.write_all(&bytes).await?;
        sent += 1;
    }
    bytes.clear();
    if wants_usage {
        push_chunk(&mut bytes, USAGE_EVENT)?;
    }
    push_chunk(&mut bytes, "data: [DONE]\n\n")?;
    bytes.extend_from_slice(b"0\r\n\r\n");
    stream.write_all(&bytes).await?;
    Ok(())
}

fn push_event(bytes: &mut Vec<u8>) -> std::io::Result<()> {
    let event = format!(
        "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1767225600,\"model\":\"gpt-4o-mini\",\
         \"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"t={:0width$}\"}},\"finish_reason\":null}}]}}\n\n",
        Moment::now().0,
        width = request::TIME_DIGITS
    );
    push_chunk(bytes, &event)
}

fn push_chunk(bytes: &mut Vec<u8>, data: &str) -> std::io::Result<()> {
    write!(bytes, "{:x}\r\n{data}\r\n", data.len())
}
