//! One kept connection of the load: a request out, its whole answer in.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::probe::parse_head;

#[derive(Debug)]
pub struct Exchange {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Exchange {
    pub async fn open(target: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(target).await.context("connecting")?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: BytesMut::with_capacity(4096) })
    }

    /// Sends these bytes and reads one answer of status 200.
    pub async fn ask(&mut self, request: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(request).await.context("sending")?;
        loop {
            ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the connection ends before the answer does");
            let Some(head) = parse_head(&self.buffer)? else { continue };
            ensure!(head.status == 200, "status {}: {}", head.status, String::from_utf8_lossy(&self.buffer));
            let whole = head.bytes + head.body_bytes.context("an answer without content-length")?;
            if self.buffer.len() >= whole {
                self.buffer.advance(whole);
                return Ok(());
            }
        }
    }
}
