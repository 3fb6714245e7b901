//! The store takes nothing: traffic flows, nothing that a client has is lost, and the program goes on by itself.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rusqlite::Connection;

use super::load::{Load, Whole};
use super::{CONFIG, found, keys_file, metric, secrets};
use crate::harness::program::{Running, Stopwatch, command};

/// A wait that only a failure comes to the end of.
const PATIENCE: Duration = Duration::from_secs(20);

async fn start() -> Running {
    Running::start(CONFIG, |home| std::fs::write(home.join("keys.toml"), keys_file()).expect("keys")).await
}

async fn until(what: &str, running: &Running, holds: impl Fn(f64) -> bool, name: &str) {
    let began = Stopwatch::start();
    while !holds(metric(running.admin, name).await) {
        assert!(began.elapsed() < PATIENCE, "{what}:\n{}", running.log());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Clients for as long as it takes to have `more` answers whole.
async fn load(running: &Running, name: &str, more: usize) -> Vec<Whole> {
    let load = Load::start(running.data, &secrets(), name, 4);
    let began = Stopwatch::start();
    while load.count() < more {
        assert!(began.elapsed() < PATIENCE, "traffic stands still:\n{}", running.log());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    load.end()
}

async fn end_and_check(mut running: Running, whole: &[Whole]) {
    running.signal("TERM");
    assert!(running.ended_within(PATIENCE).await.success(), "{}", running.log());
    check(running.home.path(), whole);
}

fn check(home: &Path, whole: &[Whole]) {
    let (records, _) = found(&home.join("data/keyward.db"));
    for answer in whole {
        assert_eq!(records.get(&answer.request_id).map_or(0, Vec::len), 1, "{answer:?}");
    }
    let verdict = command(home, &["ledger", "verify", "--config", "keyward.toml"]).output().expect("verify runs");
    assert!(verdict.status.success(), "{}", String::from_utf8_lossy(&verdict.stdout));
}

fn hold(running: &Running) -> Connection {
    let other = Connection::open(running.path("data/keyward.db")).expect("the store");
    other.busy_timeout(PATIENCE).expect("set");
    other.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    other
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_store_holds_nothing_up_and_is_caught_up_with() {
    let running = start().await;
    let other = hold(&running);
    let mut whole = load(&running, "locked", 300).await;
    until("it does not tell that it is behind", &running, |value| value == 1.0, "keyward_ledger_behind").await;
    whole.extend(load(&running, "still-locked", 100).await);
    other.execute_batch("ROLLBACK").expect("let go");
    until("it does not catch up", &running, |value| value == 0.0, "keyward_ledger_behind").await;
    whole.extend(load(&running, "after", 100).await);
    end_and_check(running, &whole).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_while_the_store_is_locked_loses_nothing() {
    let mut running = start().await;
    let other = hold(&running);
    let whole = load(&running, "killed", 300).await;
    until("it does not tell that it is behind", &running, |value| value == 1.0, "keyward_ledger_behind").await;
    running.kill();
    other.execute_batch("ROLLBACK").expect("let go");
    drop(other);
    running.restart().await;
    end_and_check(running, &whole).await;
}

/// The size that files of a running program may have; `unlimited` for any.
fn limit_files(running: &Running, size: &str) {
    let (pid, limit) = (running.child.id().to_string(), format!("--fsize={size}"));
    let limited = Command::new("prlimit").args(["--pid", &pid, &limit]).stdout(Stdio::null()).status();
    assert!(limited.expect("prlimit runs").success());
}

/// A disk that takes no more, as a limit on the size of files shows it: no file grows any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_takes_no_more_holds_nothing_up_and_is_caught_up_with() {
    let home = tempfile::tempdir().expect("a directory");
    let log = std::fs::File::create(home.path().join("log")).expect("a log");
    // The signal that goes with the limit is ignored, as a service would have it; what is written fails instead.
    let running = Running::start_through(home, "trap '' XFSZ; exec \"$0\" \"$@\"", CONFIG, keys_file(), log).await;
    let mut whole = load(&running, "before", 50).await;
    // Less than the write-ahead log has by now.
    limit_files(&running, "8192:");
    whole.extend(load(&running, "full", 300).await);
    until("it does not tell that it is behind", &running, |value| value == 1.0, "keyward_ledger_behind").await;
    whole.extend(load(&running, "still-full", 100).await);
    limit_files(&running, "unlimited");
    until("it does not catch up", &running, |value| value == 0.0, "keyward_ledger_behind").await;
    whole.extend(load(&running, "after", 100).await);
    end_and_check(running, &whole).await;
}
