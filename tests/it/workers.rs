//! Connections go between workers, and nobody at either end of one sees it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use keyward::clock::Clock;

use crate::harness::program::Stopwatch;
use crate::harness::proxy::ALICE;
use crate::harness::time::{PATIENCE, eventually};
use crate::harness::{Backend, Client, Proxy, Reply, Seen, chat, post};

const MOVED: &str = "keyward_connections_moved_total";

fn count(proxy: &Proxy, name: &str) -> u64 {
    let text = proxy.metrics_text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("no {name} in\n{text}"))
}

/// Asks without a pause until `enough`, and checks that each answer is the one to its own request.
async fn ask(client: &mut Client, who: usize, enough: impl Fn() -> bool) {
    static ASKED: AtomicU64 = AtomicU64::new(0);
    while !enough() {
        let model = format!("m-{who}-{}", ASKED.fetch_add(1, Ordering::Relaxed));
        client.send(&post("/v1/chat/completions", ALICE, &chat(&model, false))).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.json()["model"].as_str()), (200, Some(&*model)), "{}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_hot_connections_on_one_worker_one_goes_to_the_other_worker_between_two_requests() {
    let backend = Backend::start(|seen: Seen, mut reply: Reply| async move {
        let asked: serde_json::Value = serde_json::from_str(&seen.text()).expect("JSON");
        let model = asked["model"].as_str().expect("a model");
        let usage = r#"{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}"#;
        reply.json(200, &format!(r#"{{"model":"{model}","choices":[],"usage":{usage}}}"#)).await;
        reply
    });
    let config = Proxy::config_for(&backend, "");
    let proxy = Proxy::start(&config, &Proxy::keys_of(&[("alice", ALICE, "max_parallel = 2")]), Clock::system());
    // Of three at least two have the same worker.
    let mut clients = Vec::new();
    for who in 0..3 {
        let mut client = Client::connect(proxy.address).await;
        let is_asked = AtomicBool::new(false);
        ask(&mut client, who, || is_asked.swap(true, Ordering::Relaxed)).await;
        clients.push(client);
    }
    let began = Stopwatch::start();
    while count(&proxy, MOVED) == 0 {
        assert!(began.elapsed() < 6 * PATIENCE, "none has moved");
        let pair = Stopwatch::start();
        let enough = || count(&proxy, MOVED) > 0 || pair.elapsed() > PATIENCE / 5;
        let mut two = clients.iter_mut().enumerate();
        let ((one, first), (other, second)) = (two.next().expect("one"), two.next().expect("another"));
        tokio::join!(ask(first, one, enough), ask(second, other, enough));
        clients.rotate_left(1);
    }
    for (who, client) in clients.iter_mut().enumerate() {
        let is_asked = AtomicBool::new(false);
        ask(client, who, || is_asked.swap(true, Ordering::Relaxed)).await;
    }
    // All are counted, where they are now, and no longer once they are gone.
    assert_eq!(count(&proxy, "keyward_connections"), 3);
    drop(clients);
    eventually("all are gone", || count(&proxy, "keyward_connections") == 0).await;
    assert_eq!(count(&proxy, "keyward_panics_total"), 0);
}
