//! `kill -9` at random moments under load: every answer that a client had whole is in the ledger, once.
//!
//! `KEYWARD_KILL_ROUNDS=50 cargo test --test it ledger::kill` is the long version.

use std::collections::HashMap;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::load::{Load, Whole};
use crate::harness::dice::Dice;
use crate::harness::program::{Running, Stopwatch, command};
use crate::harness::{Client, get};

const CONFIG: &str = r#"
keys_file = "keys.toml"
[server]
listen = "127.0.0.1:0"
workers = 2
[admin]
listen = "127.0.0.1:0"
tokens = [{ name = "ops", token = "an-operators-token", role = "write" }]
[[upstreams]]
name = "sandbox"
dialect = "sandbox"
models = ["*"]
"#;

const KEYS: usize = 4;

fn secrets() -> Vec<String> {
    (0..KEYS).map(|n| format!("kill-secret-{n}")).collect()
}

fn keys_file() -> String {
    let limits = ["quota_limit = 1000000000", "rpm_limit = 1000000", "tpm_limit = 1000000000", "max_parallel = 1000"];
    let one = |(n, secret): (usize, &String)| {
        let limit = if n == 0 { "" } else { limits[n % limits.len()] };
        format!(
            "[[keys]]\nname = \"k{n}\"\nkey = \"{secret}\"\nquota_limit = 1000000000000\n{}\n",
            limit.replace("quota_limit = 1000000000", "")
        )
    };
    secrets().iter().enumerate().map(one).collect()
}

/// What the ledger holds of one request.
#[derive(Debug)]
struct Record {
    units: u64,
    tokens: u64,
}

fn records(path: &std::path::Path) -> (HashMap<String, Vec<Record>>, u64) {
    let store = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("the store");
    let mut rows =
        store.prepare("SELECT request_id, units, input_tokens + output_tokens FROM records").expect("records");
    let mut found: HashMap<String, Vec<Record>> = HashMap::new();
    let mut units = 0;
    let mut each = rows.query([]).expect("records");
    while let Some(row) = each.next().expect("a record") {
        let record =
            Record { units: row.get::<_, i64>(1).unwrap() as u64, tokens: row.get::<_, i64>(2).unwrap() as u64 };
        units += record.units;
        found.entry(row.get(0).unwrap()).or_default().push(record);
    }
    (found, units)
}

async fn quota_used(running: &Running) -> u64 {
    let mut sum = 0;
    for secret in secrets() {
        let answer = Client::once(running.data, &get("/v1/key", &secret)).await;
        sum += answer.json()["quota_used"].as_u64().expect("a number");
    }
    sum
}

#[tokio::test(flavor = "multi_thread")]
async fn every_whole_answer_is_in_the_ledger_once() {
    let rounds = std::env::var("KEYWARD_KILL_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(6);
    let seed = std::env::var("KEYWARD_KILL_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_261_126);
    let mut dice = Dice::new(seed);
    let mut running =
        Running::start(CONFIG, |home| std::fs::write(home.join("keys.toml"), keys_file()).expect("keys")).await;
    let mut whole: Vec<Whole> = Vec::new();
    let mut slowest = Duration::ZERO;
    for round in 0..rounds {
        let load = Load::start(running.data, &secrets(), &format!("r{round}"), 6);
        let moment = Duration::from_millis(20 + dice.below(400));
        let began = Stopwatch::start();
        // A kill before the first answer shows nothing.
        while load.count() == 0 || began.elapsed() < moment {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        running.kill();
        whole.extend(load.end());
        let began = Stopwatch::start();
        running.restart().await;
        slowest = slowest.max(began.elapsed());
    }
    let enforced = quota_used(&running).await;
    let verdict = command(running.home.path(), &["ledger", "verify", "--config", "keyward.toml"])
        .env("KEYWARD_ADMIN_TOKEN", "an-operators-token")
        .env("KEYWARD_ADMIN_URL", format!("http://{}", running.admin))
        .output()
        .expect("verify runs");
    assert!(
        verdict.status.success(),
        "{}{}",
        String::from_utf8_lossy(&verdict.stdout),
        String::from_utf8_lossy(&verdict.stderr)
    );
    running.signal("TERM");
    assert!(running.ended_within(Duration::from_secs(20)).await.success());

    let (found, units) = records(&running.path("data/keyward.db"));
    assert_eq!(enforced, units, "what is enforced after the kills is the sum of the records");
    for answer in &whole {
        let records = found.get(&answer.request_id).map(Vec::as_slice).unwrap_or_default();
        assert_eq!(records.len(), 1, "round of seed {seed}: {answer:?}: {records:?}");
        if let Some(tokens) = answer.tokens {
            assert_eq!(records[0].tokens, tokens, "{answer:?}");
        }
    }
    assert!(found.values().all(|records| records.len() == 1), "nothing is there twice");
    let left = std::fs::read_dir(running.path("data/keyward.db.ledger")).expect("the journals' folder").count();
    assert_eq!(left, 0, "an end in order leaves no journal");
    println!("{rounds} rounds, {} whole answers, {} records, slowest start {slowest:?}", whole.len(), found.len());
}
