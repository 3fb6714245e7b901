//! Many slow peers at once: a good client is served meanwhile, each of them is cut in its time, and nothing of them is left. The whole of
//! it, with thousands and the usual limits, is `tests/tools/attack.sh`.

use std::net::SocketAddr;

use tokio::time::timeout;

use super::{chat_with, line};
use crate::harness::time::{PATIENCE, by_hand, moving};
use crate::harness::{self, Backend, Client, Proxy, proxy::ALICE};

const ATTACKERS: usize = 300;

/// All of them, each having sent `bytes`.
async fn attackers(address: SocketAddr, bytes: &[u8]) -> Vec<Client> {
    let mut all = Vec::new();
    for _ in 0..ATTACKERS {
        let mut one = Client::connect(address).await;
        one.send(bytes).await;
        all.push(one);
    }
    all
}

/// Waits until the proxy has so many connections.
async fn connections(proxy: &Proxy, count: i64) {
    let until = async {
        while proxy.plane.metrics.connections.get() != count {
            tokio::task::yield_now().await;
        }
    };
    let open = || proxy.plane.metrics.connections.get();
    timeout(PATIENCE, until).await.unwrap_or_else(|_| panic!("{} connections instead of {count}", open()));
}

/// A good client is answered, and goes.
async fn serves(proxy: &Proxy) {
    let asked = harness::post("/v1/chat/completions", ALICE, &harness::chat("m", false));
    assert_eq!(Client::once(proxy.address, &asked).await.status, 200);
}

/// Nothing is held for anybody any more.
async fn nothing_is_left(proxy: &Proxy) {
    connections(proxy, 0).await;
    proxy.quiet().await;
    assert_eq!(proxy.plane.body_budget.held(), 0);
    assert!(!proxy.metrics_text().contains("keyward_faults_total{"), "{}", proxy.metrics_text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_heads_by_the_hundred_are_all_cut() {
    let backend = Backend::json("{}");
    let (proxy, clock) = by_hand(&backend, "header_timeout = \"10s\"\nkeep_alive_timeout = \"1h\"");
    let begun = "POST /v1/chat/completions HTTP/1.1\r\nhost: proxy\r\nx-1: ";
    let mut all = attackers(proxy.address, begun.as_bytes()).await;
    connections(&proxy, ATTACKERS as i64).await;
    serves(&proxy).await;
    clock.advance_ns(9 * keyward::clock::NS_PER_SECOND);
    // A byte now and then does not give them more time: it is the head's, not the silence's.
    for one in &mut all {
        one.send(b"a").await;
    }
    for one in &mut all {
        assert_eq!(moving(&clock, 2, one.answer()).await.status, 408);
    }
    moving(&clock, 3, nothing_is_left(&proxy)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_bodies_by_the_hundred_are_all_cut_and_give_back_what_they_held() {
    let backend = Backend::json("{}");
    let (proxy, clock) = by_hand(&backend, "body_idle_timeout = \"15s\"\nbody_min_rate = \"1KiB\"");
    let mut all = attackers(proxy.address, chat_with("content-length: 100000\r\n", "{").as_bytes()).await;
    let held = |bytes| {
        let proxy = &proxy;
        async move {
            while proxy.plane.body_budget.held() != bytes {
                tokio::task::yield_now().await;
            }
        }
    };
    timeout(PATIENCE, held(ATTACKERS as u64)).await.expect("a byte of each");
    serves(&proxy).await;
    clock.advance_ns(10 * keyward::clock::NS_PER_SECOND);
    for one in &mut all {
        one.send(b" ").await;
    }
    timeout(PATIENCE, held(2 * ATTACKERS as u64)).await.expect("none is idle");
    clock.advance_ns(6 * keyward::clock::NS_PER_SECOND);
    for one in &mut all {
        one.send(b" ").await;
        assert_eq!(one.answer().await.status, 408, "never idle, and far too slow");
    }
    moving(&clock, 3, nothing_is_left(&proxy)).await;
}

/// The answers are in the kernel's buffers whole, so no write ever waits for these readers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_leave_a_written_answer_are_all_cut() {
    let backend = Backend::start(|_, mut reply| async move {
        reply.json(200, &format!("{{\"text\":\"{}\"}}", "a".repeat(100_000))).await;
        reply
    });
    let (proxy, clock) = by_hand(&backend, "write_stall_timeout = \"30s\"\nkeep_alive_timeout = \"1h\"");
    let mut all = Vec::new();
    for _ in 0..ATTACKERS {
        let mut one = Client::connect_narrow(proxy.address).await;
        one.send(&harness::post("/v1/chat/completions", ALICE, &harness::chat("m", false))).await;
        all.push(one);
    }
    let mut idle = Client::connect(proxy.address).await;
    idle.send(line("GET /v1/models HTTP/1.1").as_bytes()).await;
    assert_eq!(idle.answer().await.status, 200);
    let answered = async {
        while backend.seen().len() < ATTACKERS {
            tokio::task::yield_now().await;
        }
        proxy.quiet().await;
    };
    timeout(PATIENCE, answered).await.expect("all answers are written");
    serves(&proxy).await;
    moving(&clock, 16, connections(&proxy, 1)).await;
    for one in &mut all {
        let answer = one.answer().await;
        let whole = (answer.status, answer.body.len());
        assert!(!answer.is_whole, "what was left is thrown away, not kept in the kernel: {whole:?}");
    }
    idle.send(line("GET /v1/models HTTP/1.1").as_bytes()).await;
    assert_eq!(idle.answer().await.status, 200, "who has read its answer may be idle");
    drop(idle);
    nothing_is_left(&proxy).await;
}
