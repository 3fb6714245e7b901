//! A client's connection, whichever kind of socket it came by.

use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::socket;

/// A connection in a runtime.
#[derive(Debug)]
pub struct Stream {
    io: Io,
    /// What was read of it too early, for the next reader.
    unread: Vec<u8>,
}

#[derive(Debug)]
enum Io {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A connection between two runtimes.
#[derive(Debug)]
pub enum Loose {
    /// By a port.
    Tcp(std::net::TcpStream),
    /// By a path.
    Unix(std::os::unix::net::UnixStream),
}

impl Loose {
    /// Puts it into the runtime of the caller.
    ///
    /// # Errors
    /// The runtime cannot take it.
    pub fn settle(self) -> io::Result<Stream> {
        Ok(match self {
            Self::Tcp(stream) => Stream::tcp(TcpStream::from_std(stream)?),
            Self::Unix(stream) => Stream::unix(UnixStream::from_std(stream)?),
        })
    }
}

impl Stream {
    pub(super) fn tcp(stream: TcpStream) -> Self {
        Self { io: Io::Tcp(stream), unread: Vec::new() }
    }

    pub(super) fn unix(stream: UnixStream) -> Self {
        Self { io: Io::Unix(stream), unread: Vec::new() }
    }

    /// Takes it out of its runtime. What was given back with [`Stream::unread`] is lost.
    ///
    /// # Errors
    /// The runtime does not let go of it.
    pub fn loosen(self) -> io::Result<Loose> {
        Ok(match self.io {
            Io::Tcp(stream) => Loose::Tcp(stream.into_std()?),
            Io::Unix(stream) => Loose::Unix(stream.into_std()?),
        })
    }

    /// The same connection for another runtime, while nothing is held back of it. It is open until both are dropped.
    ///
    /// # Errors
    /// There is no descriptor for it.
    pub fn again(&self) -> io::Result<Loose> {
        Ok(match &self.io {
            Io::Tcp(stream) => Loose::Tcp(stream.as_fd().try_clone_to_owned()?.into()),
            Io::Unix(stream) => Loose::Unix(stream.as_fd().try_clone_to_owned()?.into()),
        })
    }

    /// Whether something has come that nobody has read, or its end; else the task is woken then.
    pub fn has_come(&self, cx: &mut Context<'_>) -> bool {
        match &self.io {
            Io::Tcp(io) => io.poll_read_ready(cx).is_ready(),
            Io::Unix(io) => io.poll_read_ready(cx).is_ready(),
        }
    }

    /// Whether nothing was given back with [`Stream::unread`] that nobody has read since.
    pub fn is_read(&self) -> bool {
        self.unread.is_empty()
    }

    /// The socket, where it came by a port.
    pub fn tcp_socket(&self) -> Option<&TcpStream> {
        match &self.io {
            Io::Tcp(stream) => Some(stream),
            Io::Unix(_) => None,
        }
    }

    /// Gives back what was read and is somebody else's: it comes first with the next read.
    pub fn unread(&mut self, bytes: Vec<u8>) {
        self.unread = bytes;
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        if !stream.unread.is_empty() {
            let count = stream.unread.len().min(buf.remaining());
            buf.put_slice(&stream.unread[..count]);
            stream.unread.drain(..count);
            return Poll::Ready(Ok(()));
        }
        match &mut stream.io {
            Io::Tcp(io) => socket::poll_recv(io, cx, buf),
            Io::Unix(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().io {
            Io::Tcp(io) => socket::poll_send(io, cx, bytes),
            Io::Unix(io) => Pin::new(io).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().io {
            Io::Tcp(io) => Pin::new(io).poll_write_vectored(cx, slices),
            Io::Unix(io) => Pin::new(io).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Tcp(io) => io.is_write_vectored(),
            Io::Unix(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Tcp(io) => Pin::new(io).poll_flush(cx),
            Io::Unix(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Tcp(io) => Pin::new(io).poll_shutdown(cx),
            Io::Unix(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}
