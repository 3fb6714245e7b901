//! What of an answer a client has not taken, as the kernel counts it: an answer that fits into the kernel's buffer is written at once, and
//! whoever never reads it would keep that buffer for as long as it likes.

use std::time::Duration;

use tokio::net::TcpStream;

use crate::listen::Stream;
use crate::socket;

/// A socket that is written to.
pub trait Outlet {
    /// Bytes that were written and that the peer's kernel has not taken; 0 where that cannot be told.
    fn untaken(&self) -> u64 {
        0
    }

    /// When the peer takes nothing of what is left for so long, the kernel throws it away, also after the socket is closed.
    fn give_up_after(&self, _time: Duration) {}

    /// Closing throws away what was not taken, and tells the peer by a reset.
    fn discard_on_close(&self) {}
}

#[cfg(target_os = "linux")]
impl Outlet for TcpStream {
    fn untaken(&self) -> u64 {
        socket::untaken(self)
    }

    fn give_up_after(&self, time: Duration) {
        // Where it cannot be set, the kernel's own patience applies.
        let _ = socket2::SockRef::from(self).set_tcp_user_timeout(Some(time));
    }

    fn discard_on_close(&self) {
        let _ = socket2::SockRef::from(self).set_linger(Some(Duration::ZERO));
    }
}

#[cfg(not(target_os = "linux"))]
impl Outlet for TcpStream {}

/// By a path there is no kernel of the peer's in between: what is written is in its queue, and closing is told at once.
impl Outlet for Stream {
    fn untaken(&self) -> u64 {
        self.tcp_socket().map_or(0, Outlet::untaken)
    }

    fn give_up_after(&self, time: Duration) {
        if let Some(socket) = self.tcp_socket() {
            socket.give_up_after(time);
        }
    }

    fn discard_on_close(&self) {
        if let Some(socket) = self.tcp_socket() {
            socket.discard_on_close();
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::Read;

    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn what_the_peer_has_not_taken_is_counted_until_it_has() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        client.set_recv_buffer_size(1024).unwrap();
        client.connect(&listener.local_addr().unwrap().into()).unwrap();
        let mut client = std::net::TcpStream::from(client);
        let served = listener.accept().unwrap().0;
        served.set_nonblocking(true).unwrap();
        let mut served = TcpStream::from_std(served).unwrap();
        assert_eq!(served.untaken(), 0);
        let sent = vec![7_u8; 32 * 1024];
        served.write_all(&sent).await.unwrap();
        assert!(served.untaken() > 0, "a window of a kilobyte does not take 32");
        let mut got = vec![0_u8; sent.len()];
        client.read_exact(&mut got).unwrap();
        let all_taken = async {
            while served.untaken() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), all_taken).await.expect("what was read was taken");
    }
}
