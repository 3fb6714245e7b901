//! Single requests on a blocking connection: is it up, and does it do what is measured?

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use memchr::memmem;

use crate::request::{self, TIME_MARK, Wish};

const PATIENCE: Duration = Duration::from_secs(20);

/// A kept connection.
#[derive(Debug)]
pub struct Probe {
    stream: TcpStream,
}

impl Probe {
    pub fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream })
    }

    /// Asks with a body of 1.2 KB; the status of the answer, which is read to its end.
    pub fn ask(&mut self, secret: &str) -> anyhow::Result<u16> {
        self.stream.write_all(&request::chat(secret, 1200, None))?;
        let mut answer = Vec::new();
        let mut scratch = [0; 4096];
        loop {
            let read = self.stream.read(&mut scratch)?;
            ensure!(read > 0, "the connection ends before the answer does");
            answer.extend_from_slice(&scratch[..read]);
            let Some(head) = parse_head(&answer)? else { continue };
            let body = head.body_bytes.context("an answer without content-length")?;
            if answer.len() >= head.bytes + body {
                return Ok(head.status);
            }
        }
    }

    /// Asks for a short stream and sees to it that it arrives whole, with nothing that was not asked for.
    pub fn check_stream(&mut self, secret: &str) -> anyhow::Result<()> {
        let wish = Wish { interval_us: 5_000, burst: 2, count: Some(3) };
        self.stream.write_all(&request::chat(secret, 1200, Some(wish)))?;
        let mut answer = Vec::new();
        let mut scratch = [0; 4096];
        while !answer.ends_with(b"\r\n0\r\n\r\n") {
            let read = self.stream.read(&mut scratch)?;
            ensure!(read > 0, "the connection ends before the stream does: {:?}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&scratch[..read]);
        }
        let events = memmem::find_iter(&answer, TIME_MARK).count();
        ensure!(answer.starts_with(b"HTTP/1.1 200 ") && events == 6, "{events} events of 6");
        ensure!(memmem::find(&answer, b"[DONE]").is_some(), "a stream without its end");
        ensure!(memmem::find(&answer, b"\"usage\":{").is_none(), "usage that nobody asked for");
        Ok(())
    }
}

/// The head of an answer.
#[derive(Debug, Clone, Copy)]
pub struct Head {
    pub bytes: usize,
    pub status: u16,
    /// By content-length.
    pub body_bytes: Option<usize>,
}

/// Reads the head of an answer; `None` while it is not whole.
pub fn parse_head(bytes: &[u8]) -> anyhow::Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = head.parse(bytes).context("an answer's head")? else { return Ok(None) };
    let status = head.code.context("an answer without a status")?;
    let mut body_bytes = None;
    for header in head.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("content-length")) {
        let Ok(text) = std::str::from_utf8(header.value) else { bail!("content-length is no number") };
        body_bytes = Some(text.parse::<usize>().context("content-length")?);
    }
    Ok(Some(Head { bytes: length, status, body_bytes }))
}
