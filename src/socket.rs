//! What a TCP socket takes and gives, by system calls of their own. The C library's `send` and `recv` are points at which a thread can be
//! cancelled (pthreads(7)): each costs two atomic exchanges that nobody here needs.

mod queue;

use std::io;
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::io::{Interest, ReadBuf};
use tokio::net::TcpStream;

pub use self::queue::untaken;

/// Reads what has come. Ready with nothing at its end.
///
/// # Errors
/// Those of `recv`.
pub fn poll_recv(socket: &TcpStream, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
    loop {
        ready!(socket.poll_read_ready(cx))?;
        let room = buf.initialize_unfilled();
        let size = room.len();
        let call = || recv(socket, &mut *room, RecvFlags::empty()).map(|(count, _)| count);
        if let Some(count) = once(socket, Interest::READABLE, size, call)? {
            buf.advance(count);
            return Poll::Ready(Ok(()));
        }
    }
}

/// Writes what the system takes of `bytes`.
///
/// # Errors
/// Those of `send`.
pub fn poll_send(socket: &TcpStream, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
    loop {
        ready!(socket.poll_write_ready(cx))?;
        let sent = once(socket, Interest::WRITABLE, bytes.len(), || send(socket, bytes, SendFlags::NOSIGNAL))?;
        if let Some(count) = sent {
            return Poll::Ready(Ok(count));
        }
    }
}

/// Makes one call for up to `size` bytes; `None` where it would have to wait.
fn once(
    socket: &TcpStream,
    interest: Interest,
    size: usize,
    call: impl FnOnce() -> rustix::io::Result<usize>,
) -> io::Result<Option<usize>> {
    let mut done = None;
    let result = socket.try_io(interest, || {
        let count = call()?;
        done = Some(count);
        // Less than there was room for is all that there was: to say so spares the next call, which would find nothing.
        if count > 0 && count < size { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    match result {
        Err(error) if done.is_none() && error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => Ok(done),
    }
}
