//! From the first byte of a connection to its end: how long it may be silent, and how it says goodbye.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::Notify;

use super::*;
use crate::harness::h2::{DATA, END_STREAM, HEADERS, PING, SETTINGS, block};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_asks_for_nothing_is_told_to_go() {
    let backend = Backend::json(USAGE);
    let (proxy, clock) = by_hand(&backend, "keep_alive_timeout = \"75s\"");
    let mut client = H2::connect(proxy.address).await;
    moving(&clock, 11, client.until_closed()).await;
    assert_eq!(client.goaway, Some(0), "without a request it has the time of a head");
    let mut client = H2::connect(proxy.address).await;
    for _ in 0..3 {
        let stream = client.get("/v1/models", ALICE).await;
        assert_eq!(client.answer(stream).await.status(), 200);
        proxy.quiet().await;
        clock.advance_ns(74 * NS_PER_SECOND);
        // Time for a look at the deadlines, which is to leave it: with none a fault could be missed, but nothing else go wrong.
        tokio::time::sleep(MOMENT).await;
        // Pings are no requests.
        client.send_frame(PING, 0, 0, &[1; 8]).await;
    }
    moving(&clock, 76, client.until_closed()).await;
    assert_eq!(client.goaway, Some(0));
    gone(&proxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_ignores_the_goodbye_is_cut() {
    let backend = Backend::json(USAGE);
    let (proxy, clock) = by_hand(&backend, "");
    let mut client = H2::connect(proxy.address).await;
    client.acknowledges = false;
    moving(&clock, 11, client.until_closed()).await;
    gone(&proxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_does_not_come_to_its_end_ends_the_connection() {
    let backend = Backend::json(USAGE);
    let (proxy, clock) = by_hand(&backend, "header_timeout = \"10s\"\nkeep_alive_timeout = \"1h\"");
    let whole = h2::frame(HEADERS, 0, 3, &block(&h2::fields("GET", "/v1/models", ALICE)));
    for part in [&whole[..5], &whole[..20], &whole[..]] {
        let mut client = H2::connect(proxy.address).await;
        let stream = client.get("/v1/models", ALICE).await;
        assert_eq!(client.answer(stream).await.status(), 200);
        proxy.quiet().await;
        client.send(part).await;
        moving(&clock, 11, client.until_closed()).await;
    }
    let mut begun = H2::over(tokio::net::TcpStream::connect(proxy.address).await.expect("a connection"));
    begun.send(h2::PREFACE).await;
    begun.send(&h2::frame(SETTINGS, 0, 0, &[0; 6])[..4]).await;
    moving(&clock, 11, begun.until_closed()).await;
    gone(&proxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_stops_coming_is_told_so_and_the_others_go_on() {
    let backend = Backend::json(USAGE);
    let (proxy, clock) = by_hand(&backend, "body_idle_timeout = \"15s\"");
    let mut client = H2::connect(proxy.address).await;
    let mut fields = h2::fields("POST", CHAT, ALICE);
    fields.push(("content-type".to_owned(), "application/json".to_owned()));
    let stream = client.open(&fields, false).await;
    client.send_frame(DATA, 0, stream, b"{\"mod").await;
    let got = moving(&clock, 16, client.answer(stream)).await;
    assert_eq!(got.status(), 408, "{}", got.text());
    assert_eq!(proxy.plane.body_budget.held(), 0);
    let stream = client.get("/v1/models", ALICE).await;
    assert_eq!(client.answer(stream).await.status(), 200);
    // What comes late for a stream that is over does no harm.
    client.send_frame(DATA, END_STREAM, 1, b"el\":\"m\"}").await;
    let stream = client.get("/v1/models", ALICE).await;
    assert_eq!(client.answer(stream).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn running_streams_end_before_a_drained_connection_does() {
    let go = Arc::new(Notify::new());
    let told = Arc::clone(&go);
    let backend = Backend::start(move |_, mut reply| {
        let told = Arc::clone(&told);
        async move {
            reply.stream_head().await;
            reply.chunk(b"data: 1\n\n").await;
            told.notified().await;
            reply.chunk(b"data: 2\n\n").await;
            reply.end().await;
            reply
        }
    });
    let config = Proxy::config_for(&backend, "").replace("drain_timeout = \"100ms\"", "drain_timeout = \"20s\"");
    let proxy = Proxy::start(&config, &Proxy::keys_of(&[("alice", ALICE, "")]), Clock::system());
    let plane = Arc::clone(&proxy.plane);
    let mut client = H2::connect(proxy.address).await;
    let mut idle = H2::connect(proxy.address).await;
    let stream = client.post(CHAT, ALICE, &harness::chat("m", true)).await;
    client.until(stream, 9).await;
    let draining = tokio::task::spawn_blocking(move || drop(proxy));
    idle.until_closed().await;
    while client.goaway.is_none() {
        client.more().await;
    }
    assert!(plane.is_draining.load(Ordering::Relaxed) && client.so_far(stream).end.is_none());
    go.notify_one();
    let got = client.answer(stream).await;
    assert_eq!((got.text().as_str(), got.end), ("data: 1\n\ndata: 2\n\n", Some(End::Clean)));
    client.until_closed().await;
    timeout(PATIENCE, draining).await.expect("it has drained").expect("without a panic");
}
