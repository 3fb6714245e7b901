//! How a peer takes what is written to it. This stands right above the socket, below TLS and every protocol: what they hold back has not been
//! taken by anybody.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Outlet, WireNotes};

/// A socket whose peer has to take what is written within a time. `S` is the socket.
#[derive(Debug)]
pub struct Paced<S: Outlet> {
    io: S,
    /// Bytes, since it was opened.
    written: u64,
    is_stalled: bool,
    notes: Rc<WireNotes>,
}

impl<S: Outlet> Paced<S> {
    /// Notes how the peer of `io` takes what is written.
    pub fn new(io: S, notes: Rc<WireNotes>) -> Self {
        Self { io, written: 0, is_stalled: false, notes }
    }

    /// The socket, where its peer has left nothing: what it leaves is timed here.
    pub fn at_rest(&self) -> Option<&S> {
        Some(&self.io).filter(|io| !self.is_stalled && io.untaken() == 0)
    }

    /// A peer that takes nothing for too long loses the connection; one that takes something starts the time anew.
    fn note(&mut self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &result {
            Poll::Pending if !self.is_stalled => {
                self.is_stalled = true;
                self.notes.write_stalled(self.written, self.io.untaken());
            }
            Poll::Ready(_) if self.is_stalled => {
                self.is_stalled = false;
                self.notes.write_resumed();
            }
            _ => {}
        }
        if let Poll::Ready(Ok(count)) = &result {
            self.written += *count as u64;
        }
        result
    }

    /// What the peer has taken is looked at now and then: what the kernel still keeps for it was written without a stall.
    fn look(&self) {
        if self.notes.wants_a_look() {
            self.notes.looked(self.written, self.io.untaken());
        }
    }
}

/// A peer that is cut for what it did not take is not kept in the kernel either. One whose answer broke off is told.
impl<S: Outlet> Drop for Paced<S> {
    fn drop(&mut self) {
        if self.notes.is_broken_off() || (self.notes.is_cut() && self.io.untaken() > 0) {
            self.io.discard_on_close();
        }
    }
}

impl<S: AsyncRead + Outlet + Unpin> AsyncRead for Paced<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let paced = self.get_mut();
        paced.look();
        Pin::new(&mut paced.io).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Outlet + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let paced = self.get_mut();
        paced.look();
        let result = Pin::new(&mut paced.io).poll_write(cx, bytes);
        paced.note(result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let paced = self.get_mut();
        paced.look();
        let result = Pin::new(&mut paced.io).poll_write_vectored(cx, slices);
        paced.note(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let paced = self.get_mut();
        paced.look();
        Pin::new(&mut paced.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let paced = self.get_mut();
        if paced.io.untaken() > 0 {
            // Nobody looks after it once it is closed.
            paced.io.give_up_after(paced.notes.stall_time());
        }
        Pin::new(&mut paced.io).poll_shutdown(cx)
    }
}
