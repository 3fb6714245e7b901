//! A thousand streams killed in the middle, by either side: nothing is held afterwards, and what came was charged.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use keyward::clock::Clock;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::harness::proxy::ALICE;
use crate::harness::raw_backend::{self, RawBackend};
use crate::harness::time::eventually;
use crate::harness::{Client, Proxy, apis};

const KILLS: usize = 1_000;
const AT_ONCE: usize = 50;

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

/// Counts a connection of the backend as open until it is gone.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Streams a little and dies, by its number in one of five ways; the last waits for the client to go.
async fn dies(mut stream: TcpStream, number: usize) {
    if !raw_backend::read_request(&mut stream).await {
        return;
    }
    let event = apis::ANTHROPIC.events[2];
    let chunk = format!("{:x}\r\n{event}\r\n", event.len());
    raw_backend::write(&mut stream, [HEAD, &chunk].concat()).await;
    match number % 5 {
        0 => drop(stream),
        1 => raw_backend::reset(stream),
        2 => raw_backend::write(&mut stream, "zz\r\n").await,
        3 => raw_backend::write(&mut stream, &chunk[..chunk.len() / 2]).await,
        _ => raw_backend::until_gone(&mut stream).await,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_kills_leak_no_reservation_no_slot_and_no_connection() {
    let open = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&open);
    let backend = RawBackend::start(move |stream, number| {
        count.fetch_add(1, Ordering::SeqCst);
        let open = Open(Arc::clone(&count));
        async move {
            dies(stream, number).await;
            drop(open);
        }
    });
    let text = apis::config(&[backend.address], "", "retries = 0", "");
    // A client that has left comes back before that is noticed: its slot is looked for at the end, and not missed in between.
    let limits = format!("quota_limit = 1000000000\ntpm_limit = 1000000000\nmax_parallel = {KILLS}");
    let proxy = Proxy::start(&text, &Proxy::keys_of(&[("alice", ALICE, &limits)]), Clock::system());
    let cut = Arc::new(AtomicUsize::new(0));
    let mut killing = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (address, cut) = (proxy.address, Arc::clone(&cut));
        killing.spawn(async move {
            for _ in 0..KILLS / AT_ONCE {
                let mut client = Client::connect(address).await;
                client.send(&apis::ANTHROPIC.stream_call(ALICE, "")).await;
                let head = client.head().await;
                assert!(head.starts_with("HTTP/1.1 200"), "{head}");
                // Those that the backend does not end, the client does.
                let patience = Duration::from_millis(200);
                let mut ends = false;
                while let Ok(chunk) = tokio::time::timeout(patience, client.chunk()).await {
                    let Some(chunk) = chunk else {
                        cut.fetch_add(1, Ordering::SeqCst);
                        ends = true;
                        break;
                    };
                    assert!(!chunk.is_empty(), "a cut stream never ends cleanly");
                }
                cut.fetch_add(usize::from(!ends), Ordering::SeqCst);
            }
        });
    }
    while let Some(ended) = killing.join_next().await {
        ended.expect("every client gets its answer and its cut");
    }
    assert_eq!((cut.load(Ordering::SeqCst), backend.connections()), (KILLS, KILLS));
    proxy.quiet().await;
    let entry = proxy.entry(ALICE);
    let limits = entry.limits();
    assert_eq!((limits.quota_committed(), limits.in_use()), (limits.quota_used(), 0));
    assert!(limits.quota_used() >= KILLS as u64, "what came was charged");
    assert_eq!(proxy.plane.body_budget.held(), 0);
    eventually("no connections to the backend", || open.load(Ordering::SeqCst) == 0).await;
    let metrics = &proxy.plane.metrics;
    eventually("no requests under way at upstreams", || metrics.upstream_in_flight.get() == 0).await;
    eventually("no idle connections", || metrics.upstream_idle.get() == 0).await;
    eventually("no clients' connections", || metrics.connections.get() == 0).await;
    eventually("no time limits", || metrics.time_limits.get() == 0).await;
    let live = proxy.live();
    let busy = |upstream: &Arc<keyward::upstream::Upstream>| upstream.health.outstanding(0) != 0;
    assert!(!live.routes.upstreams().iter().any(busy), "a place at an endpoint leaked");
}
