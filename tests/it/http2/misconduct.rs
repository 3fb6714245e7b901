//! Peers that send what costs them nothing: their connection is ended, memory stays as it was, and whatever they had begun is settled.

use super::*;
use crate::harness::h2::{
    ACK, CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PRIORITY, RESET, SETTINGS, WINDOW_UPDATE,
    block, frame,
};

/// Floods as many rounds as it takes until the connection ends; fails when it does not within `rounds`.
async fn flooded(proxy: &Proxy, reason: Option<&str>, rounds: u32, mut round: impl FnMut(&mut H2, u32) -> Vec<u8>) {
    let before = resident_bytes();
    let mut client = H2::connect(proxy.address).await;
    client.more().await;
    let mut ended_after = None;
    for number in 0..rounds {
        let bytes = round(&mut client, number);
        client.send(&bytes).await;
        if number.is_multiple_of(64) {
            tokio::task::yield_now().await;
        }
        if proxy.plane.metrics.connections.get() == 0 {
            ended_after = Some(number);
            break;
        }
    }
    client.until_closed().await;
    gone(proxy).await;
    proxy.quiet().await;
    if let Some(reason) = reason {
        let counted = format!("keyward_http2_connections_ended_total{{reason=\"{reason}\"}}");
        assert!(proxy.metrics_text().contains(&counted), "{reason}, ended after {ended_after:?}: {:?}", client.goaway);
    }
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "memory grew by {grown} bytes");
    let good = Client::once(proxy.address, &harness::get("/v1/models", ALICE)).await;
    assert_eq!(good.status, 200, "others are served");
}

/// Memory of this process, proxy and client together.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").expect("memory is told");
    let pages: u64 = status.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4096
}

fn start() -> (Backend, Proxy) {
    let backend = Backend::start(|_, mut reply| async move {
        reply.until_gone().await;
        reply
    });
    let proxy = Proxy::with_key(&backend, "quota_limit = 1000000000\ntpm_limit = 1000000000\nmax_parallel = 1000");
    (backend, proxy)
}

fn standing(proxy: &Proxy) -> keyward::policy::Standing {
    let entry = proxy.entry(ALICE);
    let policy = entry.policy();
    entry.limits_if_used().expect("used").standing(&policy, proxy.plane.clock.now())
}

fn request(client: &mut H2, ends: bool) -> (u32, Vec<u8>) {
    let stream = client.stream();
    let mut fields = h2::fields("POST", CHAT, ALICE);
    fields.push(("content-type".to_owned(), "application/json".to_owned()));
    let mut bytes = frame(HEADERS, END_HEADERS, stream, &block(&fields));
    bytes.extend(frame(DATA, if ends { END_STREAM } else { 0 }, stream, harness::chat("m", true).as_bytes()));
    (stream, bytes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rapid_reset_is_ended_and_every_request_settled() {
    let (backend, proxy) = start();
    flooded(&proxy, None, 20_000, |client, _| {
        let (stream, mut bytes) = request(client, true);
        bytes.extend(frame(RESET, 0, stream, &CANCEL.to_be_bytes()));
        bytes
    })
    .await;
    // One at a time, so that each is seen: then it is the watch that ends it.
    let mut client = H2::connect(proxy.address).await;
    client.more().await; // by then it is counted as open
    while !client.is_closed {
        let (stream, bytes) = request(&mut client, true);
        let seen = backend.seen_count();
        client.send(&bytes).await;
        while backend.seen_count() == seen && proxy.plane.metrics.connections.get() > 0 {
            tokio::task::yield_now().await;
        }
        client.send_frame(RESET, 0, stream, &CANCEL.to_be_bytes()).await;
        assert!(stream < 1_000, "it goes on for ever");
        if proxy.plane.metrics.connections.get() == 0 {
            client.until_closed().await;
        }
    }
    proxy.quiet().await;
    assert!(proxy.metrics_text().contains("keyward_http2_connections_ended_total{reason=\"resets\"} 1"));
    let standing = standing(&proxy);
    assert_eq!(standing.parallel.map(|parallel| parallel.in_use), Some(0), "no slot is left behind");
    assert_eq!(standing.quota.map(|quota| quota.reserved), Some(0), "nothing stays reserved");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn made_you_reset_is_ended_and_every_request_settled() {
    let (_backend, proxy) = start();
    // Every way to have us reset a stream whose request runs: no room to grant, too much of it, data behind the end.
    type Provoke = fn(u32) -> Vec<u8>;
    let ways: [Provoke; 3] = [
        |stream| frame(WINDOW_UPDATE, 0, stream, &0_u32.to_be_bytes()),
        |stream| frame(WINDOW_UPDATE, 0, stream, &0x7fff_ffff_u32.to_be_bytes()),
        |stream| frame(DATA, 0, stream, b"more"),
    ];
    for provoke in ways {
        flooded(&proxy, None, 20_000, |client, _| {
            let (stream, mut bytes) = request(client, true);
            bytes.extend(provoke(stream));
            bytes
        })
        .await;
    }
    let standing = standing(&proxy);
    assert_eq!(standing.parallel.map(|parallel| parallel.in_use), Some(0));
    assert_eq!(standing.quota.map(|quota| quota.reserved), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_is_continued_for_ever_is_ended() {
    let (_backend, proxy) = start();
    flooded(&proxy, Some("header_block"), 10_000, |client, number| match number {
        0 => {
            let stream = client.stream();
            frame(HEADERS, 0, stream, &block(&h2::fields("GET", "/v1/models", ALICE)))
        }
        _ => frame(CONTINUATION, 0, 1, &block(&[("x", "y")])),
    })
    .await;
    flooded(&proxy, Some("header_block"), 10_000, |client, number| match number {
        0 => {
            let stream = client.stream();
            frame(HEADERS, 0, stream, &block(&h2::fields("GET", "/v1/models", ALICE)))
        }
        _ => frame(CONTINUATION, 0, 1, &[]),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_head_that_unfolds_to_a_large_one_is_refused_with_flat_memory() {
    let (_backend, proxy) = start();
    let before = resident_bytes();
    let mut client = H2::connect(proxy.address).await;
    client.more().await;
    // One field of 4,000 bytes is remembered, and named by one byte ever after.
    let mut bomb = block(&h2::fields("GET", "/v1/models", ALICE));
    bomb.extend([0x40, 1, b'x', 127]);
    bomb.extend([(3_900 - 127) as u8 & 127 | 128, ((3_900 - 127) / 128) as u8]);
    bomb.extend([b'a'; 3_900]);
    bomb.extend([0x80 | 62; 10_000]);
    for _ in 0..50 {
        let stream = client.stream();
        client.send_frame(HEADERS, END_HEADERS | END_STREAM, stream, &bomb).await;
        let got = client.answer(stream).await;
        assert!(got.status() == 431 || got.end != Some(End::Clean), "{got:?}");
        if client.is_closed {
            break;
        }
    }
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "memory grew by {grown} bytes");
    proxy.quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_frames_that_ask_for_nothing_are_ended() {
    let (_backend, proxy) = start();
    flooded(&proxy, Some("settings"), 10_000, |_, _| frame(SETTINGS, 0, 0, &[])).await;
    flooded(&proxy, Some("settings"), 10_000, |_, _| frame(SETTINGS, ACK, 0, &[])).await;
    flooded(&proxy, Some("pings"), 10_000, |_, _| frame(PING, 0, 0, &[7; 8])).await;
    flooded(&proxy, Some("priorities"), 10_000, |_, _| frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])).await;
    flooded(&proxy, Some("priorities"), 10_000, |_, _| frame(0x77, 0, 0, b"?")).await;
    flooded(&proxy, Some("window_updates"), 10_000, |_, _| frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())).await;
    flooded(&proxy, Some("empty_data"), 10_000, |client, number| match number {
        0 => request(client, false).1,
        _ => frame(DATA, 0, 1, &[]),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_that_are_refused_again_and_again_end_the_connection() {
    let (_backend, proxy) = start();
    let mut client = H2::connect(proxy.address).await;
    let mut refused = 0;
    while !client.is_closed {
        let stream = client.get("/v1//models", ALICE).await;
        refused += u32::from(client.answer(stream).await.status() == 400);
        assert!(refused < 1_000, "it goes on for ever");
    }
    assert!(refused >= 50, "a few are forgiven: {refused}");
    assert!(proxy.metrics_text().contains("keyward_http2_connections_ended_total{reason=\"refused_heads\"} 1"));
    flooded(&proxy, None, 10_000, |client, _| {
        let stream = client.stream();
        frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&[(":method", "GET"), ("connection", "close")]))
    })
    .await;
}
