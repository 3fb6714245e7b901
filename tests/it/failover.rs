//! Several backends, one of them gone: killed, hung, or pools of which one takes over from another. What could be retried safely is.

mod connections;
mod fallback;
mod load;
mod pools;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use keyward::clock::Clock;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;

use crate::harness::proxy::ALICE;
use crate::harness::time::eventually;
use crate::harness::{Proxy, apis, raw_backend};

const JSON: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";

/// A backend that can be killed, hung and brought back on the same port.
struct Mortal {
    address: SocketAddr,
    life: watch::Sender<Life>,
    served: Arc<AtomicUsize>,
    probed: Arc<AtomicUsize>,
    /// Requests it has read, or begun to.
    begun: Arc<AtomicUsize>,
    is_dead: Arc<AtomicBool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Well,
    /// Takes connections and requests, and says nothing.
    Hung,
    Killed,
}

impl Mortal {
    async fn start() -> Self {
        let (life, lives) = watch::channel(Life::Well);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let mortal = Self {
            address: listener.local_addr().expect("an address"),
            life,
            served: Arc::default(),
            probed: Arc::default(),
            begun: Arc::default(),
            is_dead: Arc::default(),
        };
        mortal.live(listener, lives);
        mortal
    }

    fn live(&self, listener: TcpListener, mut lives: watch::Receiver<Life>) {
        let (served, probed, begun) = (Arc::clone(&self.served), Arc::clone(&self.probed), Arc::clone(&self.begun));
        let is_dead = Arc::clone(&self.is_dead);
        tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            let told = lives.clone();
            let accepting = async {
                while let Ok((stream, _)) = listener.accept().await {
                    open.spawn(attend(
                        stream,
                        told.clone(),
                        [Arc::clone(&served), Arc::clone(&probed), Arc::clone(&begun)],
                    ));
                }
            };
            tokio::select! {
                () = accepting => {}
                _ = lives.wait_for(|life| *life == Life::Killed) => {}
            }
            drop(listener);
            open.shutdown().await;
            is_dead.store(true, Ordering::SeqCst);
        });
    }

    fn is(&self, life: Life) {
        self.life.send_replace(life);
    }

    /// Kills it; afterwards nothing listens there and every connection is closed.
    async fn kill(&self) {
        self.is(Life::Killed);
        while !self.is_dead.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
    }

    /// Listens again on the same port.
    async fn revive(&self) {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("reuse");
        socket.bind(self.address).expect("the same port");
        self.is_dead.store(false, Ordering::SeqCst);
        self.is(Life::Well);
        self.live(socket.listen(1024).expect("a listener"), self.life.subscribe());
    }

    fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }

    /// Waits until it serves again.
    async fn serves_again(&self) {
        self.serves_more(1).await;
    }

    /// Waits until it has served so many more.
    async fn serves_more(&self, count: usize) {
        let enough = self.served() + count;
        eventually("it serves", || self.served() >= enough).await;
    }
}

async fn attend(
    mut stream: TcpStream,
    mut life: watch::Receiver<Life>,
    [served, probed, begun]: [Arc<AtomicUsize>; 3],
) {
    let _ = stream.set_nodelay(true);
    loop {
        let mut first = [0; 4];
        match stream.peek(&mut first).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let is_probe = &first == b"GET ";
        begun.fetch_add(usize::from(!is_probe), Ordering::SeqCst);
        if !raw_backend::read_request(&mut stream).await {
            return;
        }
        if life.wait_for(|life| *life == Life::Well).await.is_err() {
            return;
        }
        // Counted before it is answered: whoever has the answer finds it counted.
        (if is_probe { &probed } else { &served }).fetch_add(1, Ordering::SeqCst);
        raw_backend::write(&mut stream, JSON).await;
    }
}

/// A proxy for OpenAI's API in front of these, with an unlimited key.
fn proxy(addresses: &[SocketAddr], upstream: &str) -> Proxy {
    let text = apis::config(addresses, "", upstream, "");
    let keys = Proxy::keys_of(&[("alice", ALICE, "quota_limit = 1000000000000")]);
    Proxy::start(&text, &keys, Clock::system())
}

/// Nothing is held for the key, and no connection is counted as busy.
async fn is_quiet(proxy: &Proxy) {
    proxy.quiet().await;
    let entry = proxy.entry(ALICE);
    let limits = entry.limits();
    assert_eq!((limits.quota_committed(), limits.in_use()), (limits.quota_used(), 0), "a reservation leaked");
    for upstream in proxy.live().routes.upstreams() {
        for index in 0..upstream.endpoints.len() {
            assert_eq!(upstream.health.outstanding(index), 0, "a place at an endpoint leaked");
        }
    }
}
