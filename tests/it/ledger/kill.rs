//! `kill -9` at random moments under load: every answer that a client had whole is in the ledger, once.
//!
//! `KEYWARD_KILL_ROUNDS=50 cargo test --test it ledger::kill` is the long version.

use std::time::Duration;

use super::load::{Load, Whole};
use super::{CONFIG, found, keys_file, secrets};
use crate::harness::dice::Dice;
use crate::harness::program::{Running, Stopwatch, command};
use crate::harness::time::eventually;
use crate::harness::{Client, get};

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
        eventually("a first answer", || load.count() > 0 && began.elapsed() >= moment).await;
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

    let (found, units) = found(&running.path("data/keyward.db"));
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
