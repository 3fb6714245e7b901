//! A connection whose peer is watched: every frame that comes and goes is counted before h2 sees it.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::proxy::http2::ConnectionNotes;
use crate::proxy::http2::conduct::Misconduct;

/// The bytes of a connection, in clear. `S` is where they come from.
#[derive(Debug)]
pub struct Watched<S> {
    io: S,
    /// What was read before the watch began.
    start: Vec<u8>,
    notes: Rc<ConnectionNotes>,
}

impl<S> Watched<S> {
    /// Watches the peer of `io`, from which `start` was read already.
    pub fn new(start: Vec<u8>, io: S, notes: Rc<ConnectionNotes>) -> Self {
        Self { io, start, notes }
    }
}

fn ended(misconduct: Misconduct) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, misconduct.as_str())
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let watched = self.get_mut();
        let before = buf.filled().len();
        if watched.start.is_empty() {
            ready!(Pin::new(&mut watched.io).poll_read(cx, buf))?;
        } else {
            let count = watched.start.len().min(buf.remaining());
            buf.put_slice(&watched.start[..count]);
            watched.start.drain(..count);
        }
        Poll::Ready(watched.notes.received(&buf.filled()[before..]).map_err(ended))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let watched = self.get_mut();
        let count = ready!(Pin::new(&mut watched.io).poll_write(cx, bytes))?;
        watched.notes.sent(bytes.get(..count).unwrap_or_default()).map_err(ended)?;
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let watched = self.get_mut();
        let count = ready!(Pin::new(&mut watched.io).poll_write_vectored(cx, slices))?;
        let mut left = count;
        for slice in slices {
            let taken = left.min(slice.len());
            watched.notes.sent(&slice[..taken]).map_err(ended)?;
            left -= taken;
        }
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
