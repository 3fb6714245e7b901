//! More than there is room for is sent away with words, or refused, before anything runs out.

use std::fs;
use std::time::Duration;

use keyward::clock::Clock;

use crate::harness::program::{PATIENCE, Running, Stopwatch};
use crate::harness::time::eventually;
use crate::harness::{Backend, Client, Proxy, Reply, Seen, chat, get, post};

const SECRET: &str = "overload-secret-001";

const CONFIG: &str = r#"
keys_file = "keys.toml"
[server]
listen = "127.0.0.1:0"
workers = 1
max_body = "32MiB"
memory_limit = "64MiB"
[admin]
listen = "127.0.0.1:0"
[storage]
journal_size = "1MiB"
[[upstreams]]
name = "sandbox"
dialect = "sandbox"
models = ["*"]
"#;

fn call() -> Vec<u8> {
    post("/v1/chat/completions", SECRET, &chat("m", false))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_requests_than_there_may_be_are_shed_in_the_callers_dialect() {
    let backend = Backend::start(|_: Seen, mut reply: Reply| async move {
        reply.until_gone().await;
        reply
    });
    let config = Proxy::config_for(&backend, "").replacen("[server]\n", "[server]\nmax_requests = 2\n", 1);
    let proxy = Proxy::start(&config, &Proxy::keys_of(&[("a", SECRET, "rpm_limit = 100")]), Clock::system());
    let mut running = Vec::new();
    for at in 1..=2 {
        let mut client = Client::connect(proxy.address).await;
        client.send(&call()).await;
        eventually("it comes to the backend", || backend.seen_count() >= at).await;
        running.push(client);
    }
    let refused = Client::once(proxy.address, &call()).await;
    assert_eq!((refused.status, refused.header("retry-after").as_deref()), (503, Some("1")), "{}", refused.text());
    assert_eq!(refused.header("connection").as_deref(), Some("close"));
    let claude = Client::once(proxy.address, &post("/v1/messages", SECRET, &chat("m", false))).await;
    assert_eq!((claude.status, claude.json()["error"]["type"].as_str()), (529, Some("overloaded_error")));
    assert!(proxy.metrics_text().contains("keyward_requests_shed_total{reason=\"max_requests\"} 2"));
    assert_eq!(backend.seen_count(), 2);
    let standing = proxy.entry(SECRET);
    let standing = standing.limits().standing(&standing.policy(), proxy.plane.clock.now());
    assert_eq!(standing.requests.expect("a limit").remaining, 98, "what is shed costs nothing");
    drop(running);
    proxy.quiet().await;
    let told = Client::once(proxy.address, &get("/v1/key", SECRET)).await;
    assert_eq!(told.status, 200, "there is room again");
}

async fn program(line: &str, config: &str) -> Running {
    let home = tempfile::tempdir().expect("a directory");
    let log = fs::File::create(home.path().join("log")).expect("a log");
    Running::start_through(home, line, config, Proxy::keys_of(&[("a", SECRET, "")]), log).await
}

async fn metrics(running: &Running) -> String {
    Client::once(running.admin, &get("/metrics", "")).await.text()
}

async fn until_shown(running: &Running, line: &str) {
    let began = Stopwatch::start();
    loop {
        let found = metrics(running).await;
        if found.lines().any(|one| one == line) {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{line}: {found}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_memory_than_there_may_be_sheds_requests_until_there_is_less() {
    let running = program(r#"exec "$0" "$@""#, CONFIG).await;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: p\r\nauthorization: Bearer {SECRET}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        32 << 20
    );
    let mut holding = Vec::new();
    for _ in 0..4 {
        let mut client = Client::connect(running.data).await;
        client.send(head.as_bytes()).await;
        holding.push(client);
    }
    // All of them are let in before there is too much.
    until_shown(&running, "keyward_requests_in_flight 4").await;
    for client in &mut holding {
        client.send(&vec![b' '; (32 << 20) - 100]).await;
    }
    // Bodies that still grow have more for a moment, when they move, than they have afterwards: once all is held it stays so.
    until_shown(&running, &format!("keyward_body_bytes {}", 4 * ((32 << 20) - 100))).await;
    running.until_log(|log| log.rfind("more memory than there is to be") > log.rfind("there is memory again")).await;
    let refused = Client::once(running.data, &call()).await;
    assert_eq!((refused.status, refused.header("retry-after").as_deref()), (503, Some("1")), "{}", refused.text());
    let found = metrics(&running).await;
    assert!(found.contains("keyward_requests_shed_total{reason=\"memory_limit\"}"), "{found}");
    assert!(found.contains(&format!("keyward_memory_limit_bytes {}", 64 << 20)), "{found}");
    drop(holding);
    running.write("keyward.toml", &CONFIG.replace("64MiB", "none"));
    running.until_log(|log| log.contains("there is memory again")).await;
    assert_eq!(Client::once(running.data, &call()).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_there_are_no_descriptors_for_are_refused_and_the_others_served() {
    let running = program(r#"ulimit -n 120; exec "$0" "$@""#, &CONFIG.replace("memory_limit = \"64MiB\"", "")).await;
    let found = metrics(&running).await;
    assert!(found.lines().any(|line| line == "keyward_connections_room 30"), "{found}");
    assert!(running.log().contains("too few open files"), "{}", running.log());
    let mut served = Vec::new();
    let mut refused = 0;
    for _ in 0..50 {
        let mut client = Client::connect(running.data).await;
        client.send(&call()).await;
        match client.first_status().await {
            Some(200) => served.push(client),
            Some(other) => panic!("{other}"),
            None => refused += 1,
        }
    }
    assert_eq!((served.len(), refused), (30, 20));
    assert!(metrics(&running).await.contains("keyward_connections_refused_total{reason=\"descriptors\"} 20"));
    for client in &mut served {
        client.answer().await;
        client.send(&call()).await;
        assert_eq!(client.answer().await.status, 200, "they are served on");
    }
    drop(served);
    let began = Stopwatch::start();
    while !metrics(&running).await.lines().any(|line| line == "keyward_connections 0") {
        assert!(began.elapsed() < PATIENCE, "they never end");
    }
    assert_eq!(Client::once(running.data, &call()).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accepting_rests_while_there_are_no_descriptors() {
    // The least that is left for connections is more than there is: what cannot be accepted waits, and nothing turns in circles.
    let running = program(r#"ulimit -n 44; exec "$0" "$@""#, &CONFIG.replace("memory_limit = \"64MiB\"", "")).await;
    let mut clients = Vec::new();
    for _ in 0..16 {
        let mut client = Client::connect(running.data).await;
        client.send(&call()).await;
        clients.push(client);
    }
    running.until_log(|log| log.contains("cannot accept a connection")).await;
    let lines = || running.log().matches("cannot accept a connection").count();
    let (before, began) = (lines(), Stopwatch::start());
    while lines() < before + 3 {
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(began.elapsed() > Duration::from_millis(150), "three attempts in {:?}", began.elapsed());
    drop(clients);
    let began = Stopwatch::start();
    loop {
        let mut client = Client::connect(running.data).await;
        client.send(&call()).await;
        if client.first_status().await == Some(200) {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "nobody is served any more");
    }
}
