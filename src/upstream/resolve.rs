//! The addresses of a name, and a connection to one of them.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long one address is waited for before the next is tried beside it (RFC 8305).
const HEAD_START: Duration = Duration::from_millis(250);

/// What a name was found to stand for, and when; workers share it. Looked at only where a connection is made.
#[derive(Debug, Default)]
pub struct Resolved(Mutex<Option<Found>>);

#[derive(Debug, Clone)]
struct Found {
    addresses: Vec<SocketAddr>,
    at_ns: u64,
}

impl Resolved {
    /// The addresses of `host`, asked again when they are older than `refresh`. Those found last are kept where none can be found now.
    ///
    /// # Errors
    /// The name stands for nothing.
    pub async fn addresses(
        &self,
        host: &str,
        port: u16,
        refresh: Duration,
        now_ns: u64,
    ) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let known = self.known();
        if let Some(found) = &known
            && u128::from(now_ns.saturating_sub(found.at_ns)) < refresh.as_nanos()
        {
            return Ok(found.addresses.clone());
        }
        match lookup_host((host, port)).await.map(|found| alternate(found.collect())) {
            Ok(addresses) if !addresses.is_empty() => {
                let found = Found { addresses: addresses.clone(), at_ns: now_ns };
                *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
                Ok(addresses)
            }
            outcome => {
                let nothing = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
                known.map(|found| found.addresses).ok_or_else(|| outcome.err().unwrap_or_else(nothing))
            }
        }
    }

    fn known(&self) -> Option<Found> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The two families in turn, the one that came first before the other.
fn alternate(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let Some(first) = addresses.first().map(SocketAddr::is_ipv4) else { return addresses };
    let (own, other): (VecDeque<_>, VecDeque<_>) =
        addresses.into_iter().partition(|address| address.is_ipv4() == first);
    let mut queues = [own, other];
    let mut turn = 0;
    let mut ordered = Vec::new();
    while queues.iter().any(|queue| !queue.is_empty()) {
        ordered.extend(queues[turn].pop_front());
        turn = 1 - turn;
    }
    ordered
}

/// A connection to the first of `addresses` that takes one. The next is tried as soon as one has failed, or beside it when it keeps
/// us waiting.
///
/// # Errors
/// What the last of them said.
pub async fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    if let [only] = addresses {
        return TcpStream::connect(only).await;
    }
    let mut waiting = addresses.iter().copied();
    let mut trying = JoinSet::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no address");
    loop {
        let next = waiting.next();
        let is_last = next.is_none();
        if let Some(address) = next {
            trying.spawn(TcpStream::connect(address));
        }
        let ended = if is_last {
            trying.join_next().await
        } else {
            match timeout(HEAD_START, trying.join_next()).await {
                Ok(ended) => ended,
                Err(_elapsed) => continue,
            }
        };
        match ended {
            Some(Ok(Ok(stream))) => return Ok(stream),
            Some(Ok(Err(error))) => last = error,
            Some(Err(error)) => last = io::Error::other(error),
            None if is_last => return Err(last),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn families_take_turns() {
        let found = ["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "1.1.1.2:1"].map(address).to_vec();
        let ordered = ["[::1]:1", "1.1.1.1:1", "[::2]:1", "1.1.1.2:1", "[::3]:1"].map(address).to_vec();
        assert_eq!(alternate(found), ordered);
        assert_eq!(alternate(Vec::new()), Vec::new());
    }

    #[tokio::test]
    async fn every_address_is_tried_until_one_takes_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let good = listener.local_addr().unwrap();
        // Held and not listened on: a port that is let go may be somebody else's at once.
        let dead = |_| {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.bind(&address("127.0.0.1:0").into()).unwrap();
            socket
        };
        let sockets = (0..3).map(dead).collect::<Vec<_>>();
        let of = |socket: &socket2::Socket| socket.local_addr().unwrap().as_socket().unwrap();
        let mut addresses = sockets.iter().map(of).collect::<Vec<_>>();
        assert_eq!(connect(&addresses).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        addresses.push(good);
        assert_eq!(connect(&addresses).await.unwrap().peer_addr().unwrap(), good);
        assert!(connect(&[]).await.is_err());
    }

    #[tokio::test]
    async fn a_name_is_asked_again_after_a_while_and_kept_where_it_is_lost() {
        let resolved = Resolved::default();
        let refresh = Duration::from_secs(1);
        let found = resolved.addresses("localhost", 80, refresh, 0).await.unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 80));
        // From memory: this name stands for nothing, and nobody is asked.
        let nobody = "no-such-name.invalid";
        assert_eq!(resolved.addresses(nobody, 80, refresh, 999_999_999).await.unwrap(), found);
        assert_eq!(resolved.addresses(nobody, 80, refresh, 5_000_000_000).await.unwrap(), found, "better than none");
        assert!(Resolved::default().addresses(nobody, 80, refresh, 0).await.is_err());
    }
}
