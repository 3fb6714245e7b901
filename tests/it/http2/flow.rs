//! Many streams on a connection, clients that read slowly, and streams that end before their end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

use super::*;
use crate::harness::h2::{CANCEL, INTERNAL_ERROR, RESET, WINDOW_UPDATE};

/// A backend of endless streams: an event each time it is let, and a count of those that were cancelled.
struct Streaming {
    backend: Backend,
    go: Arc<Semaphore>,
    cancelled: Arc<AtomicUsize>,
}

impl Streaming {
    fn start(event: &'static str) -> Self {
        let (go, cancelled) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
        let (gate, count) = (Arc::clone(&go), Arc::clone(&cancelled));
        let backend = Backend::start(move |_, mut reply| {
            let (gate, count) = (Arc::clone(&gate), Arc::clone(&count));
            async move {
                reply.stream_head().await;
                reply.chunk(event.as_bytes()).await;
                loop {
                    tokio::select! {
                        permit = gate.acquire() => permit.expect("open").forget(),
                        () = reply.until_gone() => break,
                    }
                    reply.chunk(event.as_bytes()).await;
                }
                count.fetch_add(1, Ordering::SeqCst);
                reply
            }
        });
        Self { backend, go, cancelled }
    }

    async fn cancelled(&self, times: usize) {
        let cancelled = async {
            while self.cancelled.load(Ordering::SeqCst) < times {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, cancelled).await.expect("the upstream is let go");
    }
}

const EVENT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";

fn used(proxy: &Proxy) -> u64 {
    proxy.entry(ALICE).limits_if_used().expect("used").quota_count().used
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_streams_on_a_connection_run_side_by_side() {
    let upstream = Streaming::start(EVENT);
    let proxy = Proxy::with_key(&upstream.backend, "");
    let mut client = H2::connect(proxy.address).await;
    let mut streams = Vec::new();
    for _ in 0..100 {
        streams.push(client.post(CHAT, ALICE, &harness::chat("m", true)).await);
    }
    for round in 1..=3 {
        for stream in &streams {
            let got = client.until(*stream, round * EVENT.len()).await;
            assert_eq!((got.status(), got.end), (200, None));
        }
        assert!(proxy.plane.metrics.in_flight() == 100);
        upstream.go.add_permits(100);
        // Each of them is let go on once, whichever takes the permit: by the third round all have three.
        while client.order.len() < (round + 1) * 100 {
            client.more().await;
        }
        if streams.iter().any(|stream| client.so_far(*stream).body.len() < (round + 1) * EVENT.len()) {
            // The backend's streams share the permits; who has got too few waits for more.
            upstream.go.add_permits(10_000);
        }
    }
    let switches = client.order.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(switches > 100, "the streams take turns: {switches}");
    drop(client);
    upstream.cancelled(100).await;
    proxy.quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_its_client_resets_is_charged_and_its_upstream_let_go() {
    let upstream = Streaming::start(EVENT);
    let proxy = Proxy::with_key(&upstream.backend, "quota_limit = 1000000\nmax_parallel = 2");
    let mut client = H2::connect(proxy.address).await;
    let other = client.post(CHAT, ALICE, &harness::chat("m", true)).await;
    client.until(other, EVENT.len()).await;
    for round in 1..=20 {
        let stream = client.post(CHAT, ALICE, &harness::chat("m", true)).await;
        assert_eq!(client.until(stream, EVENT.len()).await.status(), 200, "round {round}");
        client.send_frame(RESET, 0, stream, &CANCEL.to_be_bytes()).await;
        upstream.cancelled(round).await;
        while proxy.plane.metrics.in_flight() > 1 {
            tokio::task::yield_now().await;
        }
    }
    let charged = used(&proxy);
    assert!(charged > 0 && charged.is_multiple_of(20), "each is charged the same: {charged}");
    assert_eq!(client.so_far(other).end, None, "the others run on");
    drop(client);
    proxy.quiet().await;
    assert_eq!(used(&proxy), charged / 20 * 21);
    assert!(proxy.metrics_text().contains("keyward_stream_cuts_total{reason=\"client_gone\"} 21"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_while_the_upstream_thinks_lets_it_go() {
    let asked = Arc::new(Semaphore::new(0));
    let (told, gone) = (Arc::clone(&asked), Arc::new(Semaphore::new(0)));
    let left = Arc::clone(&gone);
    let backend = Backend::start(move |_, mut reply| {
        let (told, left) = (Arc::clone(&told), Arc::clone(&left));
        async move {
            told.add_permits(1);
            reply.until_gone().await;
            left.add_permits(1);
            reply
        }
    });
    let proxy = Proxy::with_key(&backend, "quota_limit = 1000000");
    let mut client = H2::connect(proxy.address).await;
    let stream = client.post(CHAT, ALICE, &harness::chat("m", false)).await;
    timeout(PATIENCE, asked.acquire()).await.expect("asked").expect("open").forget();
    client.send_frame(RESET, 0, stream, &CANCEL.to_be_bytes()).await;
    timeout(PATIENCE, gone.acquire()).await.expect("let go").expect("open").forget();
    proxy.quiet().await;
    assert!(used(&proxy) > 0, "the prompt was read");
    let stream = client.get("/v1/models", ALICE).await;
    assert_eq!(client.answer(stream).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_breaks_off_is_reset_and_never_ends_cleanly() {
    let backend = Backend::start(|seen, mut reply| async move {
        if seen.text().contains("\"stream\":true") {
            reply.stream_head().await;
            reply.chunk(EVENT.as_bytes()).await;
        } else {
            reply.raw("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{\"id\":").await;
        }
        reply.cut();
        reply
    });
    let proxy = Proxy::with_key(&backend, "");
    let mut client = H2::connect(proxy.address).await;
    let stream = client.post(CHAT, ALICE, &harness::chat("m", true)).await;
    let got = client.answer(stream).await;
    assert!(got.text().starts_with(EVENT) && got.text().contains("\"error\""), "what was said before: {}", got.text());
    assert_eq!(got.end, Some(End::Reset(INTERNAL_ERROR)));
    let stream = client.post(CHAT, ALICE, &harness::chat("m", false)).await;
    let got = client.answer(stream).await;
    assert_eq!((got.text().as_str(), got.end), ("{\"id\":", Some(End::Reset(INTERNAL_ERROR))));
    let stream = client.get("/v1/models", ALICE).await;
    assert_eq!(client.answer(stream).await.status(), 200, "the connection goes on");
    proxy.quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revocation_ends_single_streams() {
    let upstream = Streaming::start(EVENT);
    let bob = "bob-secret-000000001";
    let keys = Proxy::keys_of(&[("alice", ALICE, ""), ("bob", bob, "")]);
    let proxy = Proxy::start(&Proxy::config_for(&upstream.backend, ""), &keys, Clock::system());
    let mut client = H2::connect(proxy.address).await;
    let hers = client.post(CHAT, ALICE, &harness::chat("m", true)).await;
    let his = client.post(CHAT, bob, &harness::chat("m", true)).await;
    for stream in [hers, his] {
        client.until(stream, EVENT.len()).await;
    }
    let id = proxy.entry(bob).id();
    let change = keyward::keys::change::KeyChange::Remove(id);
    proxy.plane.keys.apply(change).expect("removed");
    let got = client.answer(his).await;
    assert!(got.text().contains("\"error\""), "{}", got.text());
    assert_eq!((client.so_far(hers).end, client.is_closed), (None, false), "hers runs on");
    upstream.cancelled(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_whose_client_grants_no_room_is_cut_and_the_others_go_on() {
    let event: &'static str = Box::leak(
        format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n", "a".repeat(60_000))
            .into_boxed_str(),
    );
    let upstream = Streaming::start(event);
    let (proxy, clock) = by_hand(&upstream.backend, "write_stall_timeout = \"30s\"");
    let mut client = H2::connect(proxy.address).await;
    client.grants = false;
    let stream = client.post(CHAT, ALICE, &harness::chat("m", true)).await;
    upstream.go.add_permits(1_000);
    let got = client.until(stream, 65_535).await;
    assert_eq!((got.body.len(), got.end), (65_535, None), "the window is all that comes");
    assert!(got.pieces.iter().all(|piece| *piece <= 16 * 1024));
    let cut = moving(&clock, 31, client.answer(stream)).await;
    assert_eq!(cut.end, Some(End::Reset(CANCEL)));
    upstream.cancelled(1).await;
    client.send_frame(WINDOW_UPDATE, 0, 0, &1_000_000_u32.to_be_bytes()).await;
    let stream = client.get("/v1/models", ALICE).await;
    assert_eq!(client.answer(stream).await.status(), 200, "the connection goes on");
    proxy.quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_nothing_at_all_is_cut() {
    let event: &'static str = Box::leak(format!("data: {}\n\n", "a".repeat(64 * 1024)).into_boxed_str());
    let upstream = Streaming::start(event);
    let (proxy, clock) = by_hand(&upstream.backend, "write_stall_timeout = \"30s\"");
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(16 * 1024).expect("a small buffer");
    let socket = socket.connect(proxy.address).await.expect("a connection");
    // All the room there can be, so that nothing but the socket is in the way.
    let mut client = H2::begin(socket, &[(4, 0x7fff_ffff)]).await;
    client.send_frame(WINDOW_UPDATE, 0, 0, &0x7fff_0000_u32.to_be_bytes()).await;
    for _ in 0..4 {
        client.post(CHAT, ALICE, &harness::chat("m", true)).await;
    }
    upstream.go.add_permits(100_000);
    while upstream.backend.seen_count() < 4 {
        tokio::task::yield_now().await;
    }
    moving(&clock, 31, proxy.quiet()).await;
    gone(&proxy).await;
}
