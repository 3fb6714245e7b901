//! Restarts without a gap: nobody is refused, no stream is cut, and the books are exact, also where a process is killed in the middle of it.
//!
//! `KEYWARD_RESTARTS=50 cargo test --release --test it handover` is the long version, with 200 streams.

mod kills;
mod load;
mod processes;

use std::collections::HashSet;
use std::fs;
use std::time::Duration;

use crate::harness::h2::H2;
use crate::harness::program::command;
use crate::harness::{Client, get, post};
use crate::ledger::{found, keys_file, secrets};
use load::{Load, Whole};
use processes::{House, is_alive};

const CONFIG: &str = r#"
keys_file = "keys.toml"
[server]
listen = "127.0.0.1:0"
workers = 2
drain_timeout = "60s"
[admin]
listen = "127.0.0.1:0"
tokens = [{ name = "ops", token = "an-operators-token", role = "write" }]
[storage]
journal_size = "4MiB"
[[upstreams]]
name = "sandbox"
dialect = "sandbox"
models = ["*"]
"#;

async fn house(config: &str) -> House {
    House::start(config, |home| fs::write(home.join("keys.toml"), keys_file()).expect("written")).await
}

/// How many restarts: few in the test command, many where somebody asks for them.
fn restarts(few: usize) -> usize {
    std::env::var("KEYWARD_RESTARTS").ok().and_then(|text| text.parse().ok()).unwrap_or(few)
}

/// Ends the last process in order, and compares what clients had with what is written down.
async fn books_are_exact(mut house: House, whole: &[Whole], may_be_more: bool) {
    let verdict = command(house.home.path(), &["ledger", "verify", "--config", "keyward.toml"])
        .env("KEYWARD_ADMIN_TOKEN", "an-operators-token")
        .env("KEYWARD_ADMIN_URL", format!("http://{}", house.admin))
        .output()
        .expect("verify runs");
    let said = [&verdict.stdout[..], &verdict.stderr[..]].concat();
    assert!(verdict.status.success(), "{}\n{}", String::from_utf8_lossy(&said), house.log());
    // Whoever asks for the books has what others have settled last taken up.
    let books = Client::once(house.admin, &get("/api/v1/gateway/ledger", "an-operators-token")).await;
    assert_eq!(books.json()["mismatches"], serde_json::json!([]), "{}", books.text());
    let mut enforced = 0;
    for secret in secrets() {
        let answer = Client::once(house.data, &get("/v1/key", &secret)).await;
        enforced += answer.json()["quota_used"].as_u64().expect("a number");
    }
    house.end().await;
    let (found, units) = found(&house.path("data/keyward.db"));
    assert_eq!(enforced, units, "what is enforced is the sum of the records\n{}", house.log());
    for answer in whole {
        let records = found.get(&answer.request_id).map(Vec::as_slice).unwrap_or_default();
        assert_eq!(records.len(), 1, "{answer:?}: {records:?}\n{}", house.log());
        if let Some(tokens) = answer.tokens {
            assert_eq!(records[0].tokens, tokens, "{answer:?}");
        }
    }
    assert!(found.values().all(|records| records.len() == 1), "nothing is there twice");
    if !may_be_more {
        let told: HashSet<&str> = whole.iter().map(|answer| &*answer.request_id).collect();
        let more = found.keys().filter(|id| !told.contains(id.as_str())).collect::<Vec<_>>();
        assert!(more.is_empty(), "charged and not had: {more:?}");
    }
    let left = fs::read_dir(house.path("data/keyward.db.ledger")).expect("the journals' folder").count();
    assert_eq!(left, 0, "no journal is left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_under_load_refuse_nobody_cut_no_stream_and_charge_everything_once() {
    let rounds = restarts(4);
    let (requests, streams) = if rounds > 10 { (16, 200) } else { (6, 20) };
    let mut house = house(CONFIG).await;
    let load = Load::start(house.data, requests, streams);
    let niceness = house.niceness();
    for round in 0..rounds {
        load.until_more(requests + streams).await;
        house.hand_over().await;
        assert_eq!(house.niceness(), niceness, "whoever serves gives way to nobody");
        assert!(load.is_well(), "round {round}");
    }
    load.until_more(requests + streams).await;
    let whole = load.end().await;
    house.until_alone().await;
    println!("{rounds} restarts, {} whole answers, slowest {:?}", whole.len(), house.slowest);
    books_are_exact(house, &whole, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_process_that_cannot_start_changes_nothing() {
    let mut house = house(CONFIG).await;
    let load = Load::start(house.data, 3, 3);
    load.until_more(6).await;
    let good = fs::read_to_string(house.path("keyward.toml")).expect("the configuration");
    // Refused by its configuration, and by an address that is not to be had.
    for bad in [
        good.replace("workers = 2", "wrokers = 2"),
        good.replace("listen = \"127.0.0.1:0\"\nworkers", "listen = [\"127.0.0.1:0\", \"203.0.113.1:1\"]\nworkers"),
    ] {
        house.write("keyward.toml", &bad);
        house.hand_over_in_vain().await;
        load.until_more(6).await;
    }
    // The pepper of another store: found when the store is open, and everything is taken back.
    house.write("other-pepper", "a-pepper-that-is-not-the-one-of-this-store");
    house.write("keyward.toml", &good.replace("journal_size", "pepper = \"file:other-pepper\"\njournal_size"));
    house.hand_over_in_vain().await;
    load.until_more(6).await;
    let made = format!(
        "POST /api/v1/gateway/keys HTTP/1.1\r\nhost: a\r\nauthorization: Bearer an-operators-token\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{}",
        r#"{"name":"after"}"#.len(),
        r#"{"name":"after"}"#
    );
    let answer = Client::once(house.admin, made.as_bytes()).await;
    assert_eq!(answer.status, 201, "operators are served again: {}", answer.text());
    house.write("keyward.toml", &good);
    house.hand_over().await;
    load.until_more(6).await;
    let whole = load.end().await;
    house.until_alone().await;
    books_are_exact(house, &whole, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_is_not_overdrawn_by_what_the_old_process_still_runs() {
    let keys = "[[keys]]\nname = \"tight\"\nkey = \"handover-secret-1\"\nquota_limit = 100\n";
    let mut house = House::start(CONFIG, |home| fs::write(home.join("keys.toml"), keys).expect("written")).await;
    let body =
        r#"{"model":"sandbox-slow","max_tokens":60,"stream":true,"messages":[{"role":"user","content":"Hello"}]}"#;
    let mut running = Client::connect(house.data).await;
    running.send(&post("/v1/chat/completions", "handover-secret-1", body)).await;
    house.until_metric("keyward_requests_in_flight 1").await;
    // Twice: what the first process runs is held by the third, although the second has nothing to wait for.
    house.hand_over().await;
    house.hand_over().await;
    let told = Client::once(house.data, &get("/v1/key", "handover-secret-1")).await.json();
    assert_eq!(told["quota_used"], 0, "{told}");
    let body = r#"{"model":"sandbox","max_tokens":80,"messages":[{"role":"user","content":"Hello"}]}"#;
    let answer = Client::once(house.data, &post("/v1/chat/completions", "handover-secret-1", body)).await;
    let is_kept_within = answer.status == 429 || answer.header("x-keyward-clamped").is_some();
    assert!(is_kept_within, "the new process knows what is held: {} {}", answer.head, answer.text());
    assert!(running.answer().await.is_whole);
    house.until_alone().await;
    // Both say so, the second of its own predecessor: it is the third's word that tells what is held no more.
    house.until_log(|log| log.matches("the process before this one has ended").count() == 2).await;
    let told = Client::once(house.data, &get("/v1/key", "handover-secret-1")).await.json();
    let (used, limit) = (told["quota_used"].as_u64().expect("a number"), 100);
    assert!(used > 0 && used <= limit, "{told}");
    let again = Client::once(
        house.data,
        &post("/v1/chat/completions", "handover-secret-1", r#"{"model":"sandbox","max_tokens":5,"messages":[]}"#),
    )
    .await;
    assert_eq!(again.status, 200, "nothing is held for ever: {}", again.text());
    house.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http_2_the_old_process_takes_one_request_more_and_says_goodbye() {
    let mut house = house(CONFIG).await;
    let secret = &secrets()[0];
    let mut client = H2::connect(house.data).await;
    let first = client.get("/v1/key", secret).await;
    assert_eq!(client.answer(first).await.status(), 200);
    house.hand_over().await;
    let last = client.get("/v1/key", secret).await;
    assert_eq!(client.answer(last).await.status(), 200, "what was on its way is answered");
    client.until_closed().await;
    assert_eq!(client.goaway, Some(0));
    house.until_alone().await;
    house.end().await;
}

/// A stream that does not end of itself.
async fn held(house: &House) -> Client {
    let mut stream = Client::connect(house.data).await;
    stream
        .send(&post("/v1/chat/completions", &secrets()[0], r#"{"model":"sandbox-stall","stream":true,"messages":[]}"#))
        .await;
    assert!(stream.head().await.contains(" 200 "));
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operators_kept_connection_ends_and_the_next_one_is_the_new_processs() {
    let mut house = house(CONFIG).await;
    let health = get("/healthz", "");
    let mut kept = Client::connect(house.admin).await;
    kept.send(&health).await;
    assert_eq!(kept.answer().await.status, 200);
    // A stream holds the old process.
    let stream = held(&house).await;
    let before = house.pid;
    house.hand_over().await;
    assert!(kept.is_closed().await);
    assert!(is_alive(before), "it ended before its connections");
    let made = Client::once(house.admin, &get("/api/v1/gateway/keys", "an-operators-token")).await;
    assert_eq!(made.status, 200, "{}", made.text());
    drop(stream);
    house.until_alone().await;
    house.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_has_handed_over_is_cut_by_the_second_signal_to_end_and_not_by_the_first() {
    let mut house = house(CONFIG).await;
    let mut stream = held(&house).await;
    let before = house.pid;
    house.hand_over().await;
    processes::signal(before, "TERM");
    house.until_log(|log| log.contains("drains already")).await;
    assert!(is_alive(before));
    processes::signal(before, "TERM");
    stream.is_closed().await;
    house.until_alone().await;
    house.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_to_end_as_soon_as_the_one_to_hand_over_ends_both() {
    for _ in 0..4 {
        let mut house = house(CONFIG).await;
        house.signals(&["USR2", "TERM"]);
        house.until_nobody(Duration::from_secs(20)).await;
        // One that was started in between is nobody's child now.
        let others = tokio::net::TcpStream::connect(house.admin).await;
        assert!(others.is_err(), "somebody serves on:\n{}", house.log());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_to_end_in_the_middle_of_a_hand_over_ends_both() {
    let mut house = house(CONFIG).await;
    house.ask_to_hand_over();
    house.until_log(|log| log.contains("handing over to a new process")).await;
    house.signal("TERM");
    house.until_nobody(Duration::from_secs(20)).await;
}
