//! Keys declared by file are operators' to see and not to change, and keep what they used when they are gone for a while.

use serde_json::{Value, json};

use super::{CONFIG, Caller, NATIVE, Operator};
use crate::harness::program::{PATIENCE, Running, Stopwatch};

const ALICE: &str = "[[keys]]\nname = \"alice\"\nkey = \"alices-secret\"\nteam_id = \"blue\"\nquota_limit = 1000000\n";

async fn start() -> (Running, Operator, Caller) {
    let config = format!("keys_file = \"keys.toml\"\n{CONFIG}");
    let running = Running::start(&config, |home| std::fs::write(home.join("keys.toml"), ALICE).expect("written")).await;
    let (operator, caller) = (Operator::of(running.admin).await, Caller::of(running.data).await);
    (running, operator, caller)
}

/// Asks until what is answered is as it is to be: the store follows the file in its own time.
async fn until(operator: &mut Operator, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let began = Stopwatch::start();
    loop {
        let answer = operator.ask("GET", path, &Value::Null).await.json();
        if holds(&answer) {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "{path}: {answer}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

async fn alice(operator: &mut Operator) -> Value {
    let found = until(operator, &format!("{NATIVE}?name=alice"), |list| list["total"] == 1).await;
    found["items"][0].clone()
}

#[tokio::test]
async fn a_key_of_the_file_is_seen_and_not_changed_by_the_api() {
    let (running, mut operator, mut caller) = start().await;
    let key = alice(&mut operator).await;
    assert_eq!(
        (&key["source"], &key["team_id"], &key["quota_limit"]),
        (&json!("file"), &json!("blue"), &json!(1_000_000))
    );
    let path = format!("{NATIVE}/{}", key["id"].as_str().expect("an id"));
    for (method, path, body) in [
        ("PUT", path.clone(), json!({ "name": "mine" })),
        ("PUT", format!("{path}/disable"), Value::Null),
        ("PUT", format!("{path}/rotate"), json!({})),
    ] {
        assert_eq!(operator.ask(method, &path, &body).await.status, 409, "{method} {path}");
    }
    assert_eq!(caller.status("alices-secret").await, 200);
    running.write("keys.toml", &ALICE.replace("1000000", "2000000"));
    until(&mut operator, &path, |key| key["quota_limit"] == 2_000_000).await;
    let audit = until(&mut operator, "/api/v1/gateway/audit", |audit| {
        audit["items"].as_array().is_some_and(|all| all.len() == 2)
    })
    .await;
    let change = &audit["items"][0];
    assert_eq!((&change["operator"], &change["action"]), (&json!("file"), &json!("key.update")), "{audit}");
    assert_eq!(
        (&change["before"]["quota_limit"], &change["after"]["quota_limit"]),
        (&json!(1_000_000), &json!(2_000_000))
    );
}

#[tokio::test]
async fn a_key_that_is_taken_out_of_the_file_and_put_back_finds_what_it_used() {
    let (mut running, mut operator, mut caller) = start().await;
    assert_eq!(caller.status("alices-secret").await, 200);
    let used = alice(&mut operator).await["quota_used"].clone();
    assert!(used.as_u64().is_some_and(|used| used > 0));
    running.write("keys.toml", "keys = []\n");
    until(&mut operator, NATIVE, |list| list["total"] == 0).await;
    assert_eq!(caller.status("alices-secret").await, 401);
    let usage = operator.ask("GET", "/api/v1/gateway/usage?group_by=key", &Value::Null).await.json();
    assert_eq!((&usage["items"][0]["name"], &usage["items"][0]["units"]), (&json!("alice"), &used), "{usage}");
    // Over a restart too.
    running.kill();
    running.restart().await;
    let mut operator = Operator::of(running.admin).await;
    running.write("keys.toml", ALICE);
    assert_eq!(alice(&mut operator).await["quota_used"], used);
    let mut caller = Caller::of(running.data).await;
    assert_eq!(caller.status("alices-secret").await, 200);
    assert_eq!(alice(&mut operator).await["quota_used"].as_u64(), used.as_u64().map(|used| used * 2));
}
