//! The end: what a signal leaves time for, what a second one does not, and what is never waited for.

use std::fs;
use std::io::ErrorKind;
use std::process::Stdio;
use std::time::Duration;

use keyward::clock::Clock;
use serde_json::Value;

use crate::harness::program::{PATIENCE, Running, Stopwatch, command};
use crate::harness::{Backend, Client, Proxy, Reply, chat, get, post};

const SECRET: &str = "shutdown-secret-0001";

const CONFIG: &str = r#"
keys_file = "keys.toml"
[server]
listen = "127.0.0.1:0"
workers = 1
drain_timeout = "1m"
[admin]
listen = "127.0.0.1:0"
[storage]
pepper = "file:pepper"
[[upstreams]]
name = "sandbox"
dialect = "sandbox"
models = ["*"]
"#;

async fn program(policy: &str) -> Running {
    let keys = Proxy::keys_of(&[("a", SECRET, policy)]);
    Running::start(CONFIG, |home| fs::write(home.join("keys.toml"), keys).expect("written")).await
}

fn call(model: &str, stream: bool) -> Vec<u8> {
    post("/v1/chat/completions", SECRET, &chat(model, stream))
}

async fn metric(running: &Running, line: &str) -> bool {
    let metrics = Client::once(running.admin, b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n").await.text();
    metrics.lines().any(|found| found == line)
}

async fn until_metric(running: &Running, line: &str) {
    let began = Stopwatch::start();
    while !metric(running, line).await {
        assert!(began.elapsed() < PATIENCE, "{line} never shows");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_at_once() {
    for second in ["TERM", "INT"] {
        let mut running = program("").await;
        let mut client = Client::connect(running.data).await;
        client.send(&call("sandbox-hang", false)).await;
        until_metric(&running, "keyward_requests_in_flight 1").await;
        running.signal("TERM");
        running.until_log(|log| log.contains("draining")).await;
        assert!(running.child.try_wait().expect("a child").is_none(), "one signal leaves time");
        running.signal(second);
        let status = running.ended_within(Duration::from_secs(5)).await;
        assert_eq!(status.code(), Some(0), "{}", running.log());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_second_signal_cuts_is_paid_for() {
    let mut running = program("quota_limit = 1000000").await;
    let mut client = Client::connect(running.data).await;
    client.send(&call("sandbox-slow", true)).await;
    client.head().await;
    assert!(client.chunk().await.is_some());
    running.signal("TERM");
    running.until_log(|log| log.contains("draining")).await;
    running.signal("TERM");
    assert_eq!(running.ended_within(Duration::from_secs(5)).await.code(), Some(0), "{}", running.log());
    let line = ["ledger", "records", "--json", "--config", "keyward.toml"];
    let records = command(running.home.path(), &line).stderr(Stdio::null()).output().expect("the binary runs");
    let records = String::from_utf8(records.stdout).expect("text");
    let records: Vec<Value> = records.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(records.len(), 1, "{}", running.log());
    assert!(records[0]["units"].as_u64().is_some_and(|units| units > 0), "{}", records[0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_comes_during_a_drain_is_refused_and_not_left_waiting() {
    let running = program("").await;
    let mut client = Client::connect(running.data).await;
    client.send(&call("sandbox-hang", false)).await;
    until_metric(&running, "keyward_requests_in_flight 1").await;
    running.signal("TERM");
    let began = Stopwatch::start();
    loop {
        match tokio::net::TcpStream::connect(running.data).await {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => break,
            // Who comes at the very moment that the socket is closed is not left waiting either.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("{error}"),
            Ok(_) => {}
        }
        assert!(began.elapsed() < PATIENCE, "connections are taken: {}", running.log());
    }
    // Operators are let in to the end, and what runs goes on.
    until_metric(&running, "keyward_requests_in_flight 1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_connected_and_was_not_accepted_yet_is_served_before_the_sockets_are_closed() {
    let backend = Backend::start(|_, mut reply: Reply| async move {
        reply.json(200, "{}").await;
        reply
    });
    let keys = Proxy::keys_of(&[("a", SECRET, "")]);
    let mut proxy = Proxy::start(&Proxy::config_for(&backend, ""), &keys, Clock::system());
    let server = proxy.server.take().expect("a server");
    server.door().pause();
    // As far as the kernel goes.
    let mut client = Client::connect(proxy.address).await;
    client.send(&get("/v1/key", SECRET)).await;
    let drained = tokio::task::spawn_blocking(move || server.drain_slowly(PATIENCE));
    assert_eq!(client.answer().await.status, 200);
    assert!(drained.await.expect("no panic"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_has_its_line_in_the_log_by_the_end() {
    let mut running = program("").await;
    let mut ids = Vec::new();
    for _ in 0..20 {
        let answer = Client::once(running.data, &call("m", false)).await;
        ids.push(answer.header("x-request-id").expect("an id"));
    }
    running.signal("TERM");
    running.ended_within(PATIENCE).await;
    let log = running.log();
    // The token of a first start is told beside the log.
    let lines = log.lines().filter(|line| line.starts_with('{'));
    let lines = lines.map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a line of JSON"));
    let access = lines.filter(|line| line["target"] == "access").collect::<Vec<_>>();
    assert_eq!(access.iter().map(|line| line["request_id"].as_str().expect("an id")).collect::<Vec<_>>(), ids);
    for line in access {
        assert_eq!(
            (&line["level"], &line["message"], &line["status"]),
            (&"INFO".into(), &"request".into(), &200.into())
        );
        assert_eq!((&line["decision"], &line["upstream"]), (&"allowed".into(), &"sandbox".into()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_balancer_sees_it_before_anybody_is_turned_away() {
    let config = CONFIG.replace("drain_timeout = \"1m\"", "drain_timeout = \"1m\"\ndrain_delay = \"1m\"");
    let keys = Proxy::keys_of(&[("a", SECRET, "")]);
    let mut running = Running::start(&config, |home| fs::write(home.join("keys.toml"), keys).expect("written")).await;
    let mut kept = Client::connect(running.data).await;
    kept.send(&get("/v1/key", SECRET)).await;
    assert_eq!(kept.answer().await.header("connection"), None);
    running.signal("TERM");
    running.until_log(|log| log.contains("going down; new connections are still taken")).await;
    let ready = Client::once(running.admin, b"GET /readyz HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!((ready.status, ready.json()["status"].as_str()), (503, Some("draining")));
    // Both are answered, and told that this was the last on their connection.
    kept.send(&get("/v1/key", SECRET)).await;
    for answer in [kept.answer().await, Client::once(running.data, &get("/v1/key", SECRET)).await] {
        assert_eq!((answer.status, answer.header("connection").as_deref()), (200, Some("close")));
    }
    running.signal("TERM");
    assert_eq!(running.ended_within(PATIENCE).await.code(), Some(0), "a second signal does not wait for it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_still_runs_when_the_time_is_over_is_cut() {
    let config = CONFIG.replace("drain_timeout = \"1m\"", "drain_timeout = \"300ms\"");
    let keys = Proxy::keys_of(&[("a", SECRET, "")]);
    let mut running = Running::start(&config, |home| fs::write(home.join("keys.toml"), keys).expect("written")).await;
    let mut client = Client::connect(running.data).await;
    client.send(&call("sandbox-hang", false)).await;
    until_metric(&running, "keyward_requests_in_flight 1").await;
    running.signal("TERM");
    assert_eq!(running.ended_within(Duration::from_secs(10)).await.code(), Some(0));
    assert!(running.log().contains("drain time is over; running requests are cut"), "{}", running.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_runs_is_finished() {
    let mut running = program("").await;
    let mut client = Client::connect(running.data).await;
    client.send(&call("sandbox-slow", true)).await;
    until_metric(&running, "keyward_requests_in_flight 1").await;
    running.signal("TERM");
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.is_whole), (200, true));
    assert!(answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text());
    let status = running.ended_within(PATIENCE).await;
    assert_eq!(status.code(), Some(0), "{}", running.log());
    assert!(running.log().contains("\"decision\":\"allowed\""), "the last line is written: {}", running.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_on_for_its_usage_is_waited_for() {
    let mut running = program("on_disconnect = \"drain\"").await;
    let mut client = Client::connect(running.data).await;
    client.send(&call("sandbox-slow", true)).await;
    client.head().await;
    drop(client);
    until_metric(&running, "keyward_connections 0").await;
    assert!(metric(&running, "keyward_requests_in_flight 1").await, "it is under way still");
    running.signal("TERM");
    assert_eq!(running.ended_within(PATIENCE).await.code(), Some(0));
    let log = running.log();
    assert!(log.contains("\"cut\":\"client_gone\"") && log.contains("\"estimated\":false"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_nobody_reads_holds_up_no_request_and_no_end() {
    let keys = Proxy::keys_of(&[("a", SECRET, "")]);
    let home = tempfile::tempdir().expect("a directory");
    let lay_out = |home: &std::path::Path| fs::write(home.join("keys.toml"), keys).expect("written");
    let mut running = Running::start_in(home, CONFIG, lay_out, Stdio::piped()).await;
    let mut client = Client::connect(running.data).await;
    // A pipe holds 64 KiB; a line is longer than 200 bytes.
    for _ in 0..1000 {
        client.send(&get("/v1/key", SECRET)).await;
        assert_eq!(client.answer().await.status, 200);
    }
    drop(client);
    running.signal("TERM");
    assert_eq!(running.ended_within(PATIENCE).await.code(), Some(0));
}
