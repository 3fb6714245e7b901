//! How a peer takes what is written to it. This stands right above the socket, below TLS and every protocol: what they hold back has not been
//! taken by anybody.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::WireNotes;

/// A socket whose peer has to take what is written within a time. `S` is the socket.
#[derive(Debug)]
pub struct Paced<S> {
    io: S,
    is_stalled: bool,
    notes: Rc<WireNotes>,
}

impl<S> Paced<S> {
    /// Notes how the peer of `io` takes what is written.
    pub fn new(io: S, notes: Rc<WireNotes>) -> Self {
        Self { io, is_stalled: false, notes }
    }

    /// A peer that takes nothing for too long loses the connection; one that takes something starts the time anew.
    fn note(&mut self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &result {
            Poll::Pending if !self.is_stalled => {
                self.is_stalled = true;
                self.notes.write_stalled();
            }
            Poll::Ready(_) if self.is_stalled => {
                self.is_stalled = false;
                self.notes.write_resumed();
            }
            _ => {}
        }
        result
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let paced = self.get_mut();
        let result = Pin::new(&mut paced.io).poll_write(cx, bytes);
        paced.note(result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let paced = self.get_mut();
        let result = Pin::new(&mut paced.io).poll_write_vectored(cx, slices);
        paced.note(result)
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
