//! The real binary: what a file's change comes to, seen from outside.

use std::os::unix::fs::symlink;
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::*;
use crate::harness::program::{PATIENCE, Running, Stopwatch, command};

/// Every change must be in force by then (POLICY 7 and the promise of the README).
const A_SECOND: Duration = Duration::from_secs(1);

const CONFIG: &str = r#"
[server]
listen = "127.0.0.1:0"
workers = 1
failed_attempts_per_minute = 1000000
[admin]
listen = "127.0.0.1:0"
[storage]
url = "sqlite:keyward.db"
pepper = "file:pepper"
[[upstreams]]
name = "sandbox"
dialect = "sandbox"
models = ["*"]
"#;

pub(super) fn config(keys_file: &str) -> String {
    format!("keys_file = \"{keys_file}\"\n{CONFIG}")
}

/// The program in a directory that `lay_out` fills, beside its `keyward.toml`.
async fn start(lay_out: impl FnOnce(&Path)) -> Running {
    Running::start(&config("keys.toml"), lay_out).await
}

impl Running {
    /// Waits until `secret` works, and says how long that took.
    pub(super) async fn until_works(&self, secret: &str) -> Duration {
        let began = Stopwatch::start();
        while holder(self.data, secret).await.is_none() {
            assert!(began.elapsed() < PATIENCE, "{secret} never works:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        began.elapsed()
    }

    async fn readyz(&self) -> Value {
        let answer = Client::once(self.admin, b"GET /readyz HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert_eq!(answer.status, 200, "a refused file does not take the program out of service");
        answer.json()
    }

    /// Waits until readiness says that the files are refused, or in force, and gives the faults.
    pub(super) async fn until_refused(&self, is_refused: bool) -> Vec<String> {
        let began = Stopwatch::start();
        loop {
            let ready = self.readyz().await;
            if (ready["config"] != "in force") == is_refused {
                let faults = ready["faults"].as_array().expect("a list");
                return faults.iter().map(|fault| fault.as_str().expect("text").to_owned()).collect();
            }
            assert!(began.elapsed() < PATIENCE, "{ready}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(super) fn check(&self) -> (Option<i32>, Value) {
        let Output { status, stdout, .. } = command(self.home.path(), &["check", "--config", "keyward.toml", "--json"])
            .stderr(Stdio::null())
            .output()
            .expect("the binary runs");
        (status.code(), serde_json::from_slice(&stdout).expect("a verdict"))
    }
}

fn secret(n: usize) -> String {
    format!("reload-secret-{n:04}")
}

fn plain(home: &Path) {
    fs::write(home.join("keys.toml"), keys(&[("a", &secret(0))])).expect("written");
}

/// Changes the key file three times by `change`, which is given the round and the new text. Each time the new secret works and the
/// old one does not. The quickest must be within a second: only that the machine was busy excuses one of them.
async fn applies_within_a_second(running: &Running, change: impl Fn(usize, &str)) {
    let mut quickest = PATIENCE;
    for round in 1..=3 {
        change(round, &keys(&[("a", &secret(round))]));
        quickest = quickest.min(running.until_works(&secret(round)).await);
        // The new one comes before the old one goes, so that no request finds neither: on a busy machine some time may lie between.
        let began = Stopwatch::start();
        while holder(running.data, &secret(round - 1)).await.is_some() {
            assert!(began.elapsed() < PATIENCE, "round {round}: both work");
        }
    }
    assert!(quickest < A_SECOND, "{quickest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rewrite_in_place() {
    let running = start(plain).await;
    applies_within_a_second(&running, |_, text| running.write("keys.toml", text)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_editors_rename_over_the_file() {
    let running = start(plain).await;
    applies_within_a_second(&running, |_, text| {
        running.write("keys.toml.swp", text);
        fs::rename(running.path("keys.toml.swp"), running.path("keys.toml")).expect("renamed");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_symlink_swap_of_a_mounted_config_map() {
    let running = start(|home| {
        fs::create_dir(home.join("..0")).expect("a directory");
        fs::write(home.join("..0/keys.toml"), keys(&[("a", &secret(0))])).expect("written");
        symlink("..0", home.join("..data")).expect("a link");
        symlink("..data/keys.toml", home.join("keys.toml")).expect("a link");
    })
    .await;
    applies_within_a_second(&running, |round, text| {
        let version = format!("..{round}");
        fs::create_dir(running.path(&version)).expect("a directory");
        running.write(&format!("{version}/keys.toml"), text);
        symlink(&version, running.path("..data_tmp")).expect("a link");
        fs::rename(running.path("..data_tmp"), running.path("..data")).expect("renamed");
        fs::remove_dir_all(running.path(&format!("..{}", round - 1))).expect("removed");
    })
    .await;
}

/// A key's, an upstream's and an operator's alike: whatever names a file, that is looked at.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_file_of_a_secret() {
    let running = start(|home| {
        fs::write(home.join("secret"), secret(0)).expect("written");
        fs::write(home.join("keys.toml"), "[[keys]]\nname = \"a\"\nkey = \"file:secret\"\n").expect("written");
    })
    .await;
    running.until_works(&secret(0)).await;
    applies_within_a_second(&running, |round, _| running.write("secret", &secret(round))).await;
    // One that is no secret is told, and once it is one again that is in force.
    running.write("secret", "short");
    running.until_refused(true).await;
    running.write("secret", &secret(4));
    assert_eq!(running.until_refused(false).await, Vec::<String>::new());
    running.until_works(&secret(4)).await;
}

/// A name that is written with escapes is not looked for in a key file: nothing but the signal tells of this one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sighup_reads_again_what_no_watch_can_see() {
    let running = start(|home| {
        fs::write(home.join("secret"), secret(0)).expect("written");
        fs::write(home.join("keys.toml"), "[[keys]]\nname = \"a\"\nkey = \"\\u0066ile:secret\"\n").expect("written");
    })
    .await;
    running.until_works(&secret(0)).await;
    running.write("secret", &secret(1));
    assert_eq!(holder(running.data, &secret(1)).await, None);
    running.signal("HUP");
    running.until_works(&secret(1)).await;
    assert_eq!(holder(running.data, &secret(0)).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_file_changes_nothing_and_is_told_everywhere_alike() {
    let running = start(plain).await;
    assert_eq!((running.check().0, running.until_refused(false).await), (Some(0), Vec::new()));
    // Both at once: whichever is seen first, the verdict on both is the same in the end.
    let bad_keys = format!("[[keys]]\nname = \"a\"\nkey = \"{}\"\nrpm_limit = 0\nmodels_alowed = [\"x\"]\n", secret(1));
    running.write("keys.toml", &bad_keys);
    running.write("keyward.toml", &config("keys.toml").replace("workers = 1", "workers = \"many\""));
    let began = Stopwatch::start();
    let faults = loop {
        let faults = running.until_refused(true).await;
        if faults.len() == 3 || began.elapsed() > PATIENCE {
            break faults;
        }
    };
    assert!(faults[0].starts_with("keyward.toml:5:11: server.workers: "), "{faults:#?}");
    assert!(faults[1].starts_with("keys.toml:4:13: keys[0].rpm_limit: "), "{faults:#?}");
    assert!(faults[2].starts_with("keys.toml:5:1: keys[0].models_alowed: "), "{faults:#?}");
    assert!(faults[2].contains("did you mean models_allowed?"), "{faults:#?}");
    running
        .until_log(|log| {
            let log = log.replace("\\\"", "\"");
            faults.iter().all(|fault| log.contains(fault))
        })
        .await;
    let (code, verdict) = running.check();
    assert_eq!(
        (code, &verdict["ok"], &verdict["faults"]),
        (Some(2), &Value::Bool(false), &Value::from(faults.clone()))
    );
    let metrics = Client::once(running.admin, b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n").await.text();
    assert!(metrics.contains("keyward_config_in_force 0"), "{metrics}");
    assert_eq!(
        (holder(running.data, &secret(0)).await.as_deref(), holder(running.data, &secret(1)).await),
        (Some("a"), None)
    );
    // A start with these files says the same and starts nothing.
    let started =
        command(running.home.path(), &["serve", "--config", "keyward.toml"]).output().expect("the binary runs");
    let told = String::from_utf8_lossy(&started.stderr).into_owned();
    assert_eq!(started.status.code(), Some(2), "{told}");
    for place in ["keyward.toml:5:11", "keys.toml:4:13", "keys.toml:5:1"] {
        assert!(told.contains(place), "{place} is not told at the start:\n{told}");
    }
    running.write("keyward.toml", &config("keys.toml"));
    running.write("keys.toml", &keys(&[("a", &secret(2))]));
    running.until_works(&secret(2)).await;
    assert_eq!(running.until_refused(false).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_key_file_is_followed_to() {
    let running = start(plain).await;
    running.write("other.toml", &keys(&[("a", &secret(1))]));
    running.write("keyward.toml", &config("other.toml"));
    running.until_works(&secret(1)).await;
    running.write("other.toml", &keys(&[("a", &secret(2))]));
    running.until_works(&secret(2)).await;
    // One that is not there yet is waited for, and its coming is enough.
    fs::create_dir(running.path("sub")).expect("a directory");
    running.write("keyward.toml", &config("sub/third.toml"));
    running.until_refused(true).await;
    assert_eq!(holder(running.data, &secret(2)).await.as_deref(), Some("a"));
    running.write("sub/third.toml", &keys(&[("a", &secret(3))]));
    running.until_works(&secret(3)).await;
    // The first file is nobody's any more. What was logged before an answer's own line has been written with it.
    let answered = async |count| running.until_log(|log| log.matches("\"status\":200").count() == count).await;
    answered(4).await;
    let reloads = running.log().matches("reloading").count();
    running.write("keys.toml", &keys(&[("a", &secret(4))]));
    running.write("sub/third.toml", &keys(&[("a", &secret(5))]));
    running.until_works(&secret(5)).await;
    answered(5).await;
    assert_eq!(running.log().matches("reloading").count(), reloads + 1, "{}", running.log());
    assert_eq!(holder(running.data, &secret(4)).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_a_restart_puts_in_force_is_told_until_it_is() {
    let running = start(plain).await;
    assert_eq!(running.readyz().await["needs_restart"], serde_json::json!([]));
    running.write("keyward.toml", &config("keys.toml").replace("workers = 1", "workers = 3"));
    let waits_for = async |expected: Value| {
        let began = Stopwatch::start();
        while running.readyz().await["needs_restart"] != expected {
            assert!(began.elapsed() < PATIENCE, "never {expected}:\n{}", running.log());
        }
    };
    waits_for(serde_json::json!(["server.workers"])).await;
    // A later reload of something else does not make it forgotten.
    running.write("keys.toml", &keys(&[("a", &secret(1))]));
    running.until_works(&secret(1)).await;
    assert_eq!(running.readyz().await["needs_restart"], serde_json::json!(["server.workers"]));
    running.until_log(|log| log.matches("\"setting\":\"server.workers\"").count() >= 2).await;
    running.write("keyward.toml", &config("keys.toml"));
    waits_for(serde_json::json!([])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_unwise_in_the_key_file_is_told_at_the_start_and_at_each_reload() {
    let running = start(plain).await;
    let times = |times: usize| running.until_log(move |log| log.matches("keys[0].key: ").count() == times);
    times(1).await;
    running.write("keys.toml", &keys(&[("a", &secret(1))]));
    running.until_works(&secret(1)).await;
    times(2).await;
    assert!(!running.log().contains(&secret(1)));
}
