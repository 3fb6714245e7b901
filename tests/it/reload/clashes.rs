//! Keys of the file that are not to be had beside those that the admin API has made: told as every other fault is, wherever one asks.

use serde_json::json;
use sha2::{Digest, Sha256};

use super::*;
use crate::harness::program::{Running, command};

const FREE: &str = "[[keys]]\nname = \"free\"\nkey = \"a-secret-of-the-file\"\n";

/// With an operator, who makes keys.
fn config() -> String {
    let tokens = "tokens = [{ name = \"ops\", token = \"an-operators-token\", role = \"write\" }]\n[storage]";
    process::config("keys.toml").replace("[storage]", tokens)
}

async fn make(running: &Running, name: &str, secret: &str) -> String {
    let body = json!({ "name": name, "key": secret }).to_string();
    let made = Client::once(running.admin, &post("/api/v1/gateway/keys", "an-operators-token", &body)).await;
    assert_eq!(made.status, 201, "{}", made.text());
    made.json()["id"].as_str().expect("an id").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_is_told_with_its_line_by_a_reload_a_check_and_a_start_alike() {
    let mut running = Running::start(&config(), |home| fs::write(home.join("keys.toml"), FREE).expect("written")).await;
    let first = make(&running, "made by api", "a-secret-of-the-api").await;
    let second = make(&running, "another", "another-secret-of-the-api").await;
    assert_eq!(verdict(&running), (Some(0), Vec::new()), "while it runs");

    let hash: String = Sha256::digest("another-secret-of-the-api").iter().map(|byte| format!("{byte:02x}")).collect();
    let old = format!("previous = [{{ key_hash = \"sha256:{hash}\", until = \"2100-01-01T00:00:00Z\" }}]");
    let bad = [
        FREE.to_owned(),
        format!("[[keys]]\nname = \"same id\"\nid = \"{first}\"\nkey = \"a-secret-of-the-api\"\n"),
        format!("[[keys]]\nname = \"same secret\"\nkey = \"new-secret-of-the-file\"\n{old}\n"),
    ];
    running.write("keys.toml", &bad.concat());
    let faults = running.until_refused(true).await;
    assert_eq!(
        faults,
        [
            format!(
                "keys.toml:4:1: keys[1]: \"same id\" has the id {first}, and a key with that id was made by the admin API; delete that key there, or \
                give this one another id"
            ),
            format!(
                "keys.toml:8:1: keys[2]: \"same secret\" has a secret of the key {second} (\"another\"), which was made by the admin API; delete that \
                key there, or give this one another secret"
            ),
        ]
    );
    assert_eq!(holder(running.data, "new-secret-of-the-file").await, None, "nothing of it is in force");
    let told = (Some(2), faults);
    assert_eq!(verdict(&running), told, "while it runs");
    running.kill();
    assert_eq!(verdict(&running), told, "killed");
    let start = command(running.home.path(), &["serve", "--config", "keyward.toml"]).output().expect("the binary runs");
    let told = String::from_utf8_lossy(&start.stderr).into_owned();
    assert_eq!(start.status.code(), Some(2), "{told}");
    assert!(told.contains("keys.toml:4:1") && told.contains("keys.toml:8:1") && told.contains("2 fault(s)"), "{told}");

    running.write("keys.toml", FREE);
    assert_eq!(verdict(&running), (Some(0), Vec::new()));
    running.restart().await;
    running.until_works("a-secret-of-the-file").await;
    running.until_works("a-secret-of-the-api").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_says_what_of_the_store_would_end_a_start() {
    let mut running = Running::start(&config(), |home| fs::write(home.join("keys.toml"), FREE).expect("written")).await;
    running.kill();
    fs::rename(running.path("pepper"), running.path("pepper.away")).expect("moved");
    let (code, faults) = verdict(&running);
    assert!(code == Some(2) && faults[0].contains("pepper that is not there any more"), "{faults:#?}");
    let start = command(running.home.path(), &["serve", "--config", "keyward.toml"]).output().expect("the binary runs");
    let told = String::from_utf8_lossy(&start.stderr).into_owned();
    assert!(start.status.code() == Some(2) && told.contains(&faults[0]), "{told}");
    assert!(!running.path("pepper").exists(), "neither makes another");
    fs::rename(running.path("pepper.away"), running.path("pepper")).expect("moved");
    assert!(!running.path("keyward.db-wal").exists(), "a start that fails leaves the store whole");
    fs::write(running.path("keyward.db"), "no database, and long enough to be looked at").expect("written");
    let (code, faults) = verdict(&running);
    assert!(code == Some(2) && faults[0].contains("damaged"), "{faults:#?}");
    fs::remove_file(running.path("keyward.db")).expect("removed");
    assert_eq!(verdict(&running), (Some(0), Vec::new()), "no store yet");
    assert!(!running.path("keyward.db").exists(), "a check makes nothing");
}

/// What a check says, but for its warnings.
fn verdict(running: &Running) -> (Option<i32>, Vec<String>) {
    let (code, verdict) = running.check();
    let faults: Vec<String> = serde_json::from_value(verdict["faults"].clone()).expect("a list");
    assert_eq!(verdict["ok"], faults.is_empty(), "{verdict}");
    (code, faults)
}
