//! What an operator changes is in force for the very next request of a client whose connection is open all the while.

use serde_json::{Value, json};

use super::{APIG, CONFIG, Caller, NATIVE, NEWAPI, Operator, text};
use crate::harness::program::Running;

async fn start() -> (Running, Operator, Caller) {
    let running = Running::start(CONFIG, |_| {}).await;
    let (operator, caller) = (Operator::of(running.admin).await, Caller::of(running.data).await);
    (running, operator, caller)
}

#[tokio::test]
async fn by_the_native_api() {
    let (_running, mut operator, mut caller) = start().await;
    let made = operator.ask("POST", NATIVE, &json!({ "name": "n" })).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let (secret, path) = (text(&made.json()["key"]), format!("{NATIVE}/{}", text(&made.json()["id"])));
    assert_eq!(caller.status(&secret).await, 200);
    operator.ask("PUT", &path, &json!({ "models_allowed": ["claude-*"] })).await;
    assert_eq!((caller.status(&secret).await, caller.status_of(&secret, "claude-4").await), (403, 200));
    operator.ask("PUT", &path, &json!({ "models_allowed": null, "allowed_ips": ["10.0.0.0/8"] })).await;
    assert_eq!(caller.status(&secret).await, 403);
    operator.ask("PUT", &path, &json!({ "allowed_ips": [], "rpm_limit": 1 })).await;
    assert_eq!((caller.status(&secret).await, caller.status(&secret).await), (200, 429));
    operator.ask("PUT", &path, &json!({ "rpm_limit": null, "quota_limit": 1 })).await;
    assert_eq!(caller.status(&secret).await, 429, "what was used before the quota counts");
    operator.ask("PUT", &path, &json!({ "quota_limit": null })).await;
    assert_eq!(caller.status(&secret).await, 200);
    operator.ask("PUT", &format!("{path}/disable"), &Value::Null).await;
    assert_eq!(caller.status(&secret).await, 401);
    operator.ask("PUT", &format!("{path}/enable"), &Value::Null).await;
    assert_eq!(caller.status(&secret).await, 200);

    let rotated = operator.ask("PUT", &format!("{path}/rotate"), &json!({ "grace_seconds": 3600 })).await;
    let second = text(&rotated.json()["key"]);
    assert_eq!((caller.status(&secret).await, caller.status(&second).await), (200, 200));
    operator.ask("PUT", &format!("{path}/rotate/end"), &Value::Null).await;
    assert_eq!((caller.status(&secret).await, caller.status(&second).await), (401, 200));
    let rotated = operator.ask("PUT", &format!("{path}/rotate"), &json!({ "grace_seconds": 0 })).await;
    let third = text(&rotated.json()["key"]);
    assert_eq!((caller.status(&second).await, caller.status(&third).await), (401, 200));
    assert_eq!(operator.ask("DELETE", &path, &Value::Null).await.status, 204);
    assert_eq!(caller.status(&third).await, 401);
}

#[tokio::test]
async fn keys_are_listed_by_the_status_that_they_are_shown_with() {
    let (_running, mut operator, mut caller) = start().await;
    let made = operator.ask("POST", NATIVE, &json!({ "name": "n" })).await.json();
    assert_eq!(caller.status(&text(&made["key"])).await, 200);
    operator.ask("PUT", &format!("{NATIVE}/{}", text(&made["id"])), &json!({ "quota_limit": 1 })).await;
    // At once: what was used is not in the store yet.
    for (status, count) in [("active", 0), ("exhausted", 1)] {
        let found = operator.ask("GET", &format!("{NATIVE}?status={status}"), &Value::Null).await.json();
        assert_eq!(found["items"].as_array().map(Vec::len), Some(count), "{status}: {found}");
    }
}

#[tokio::test]
async fn by_huaweis() {
    let (_running, mut operator, mut caller) = start().await;
    let chosen = "a-chosen-key_of+32/characters=ok";
    let made = operator.ask("POST", APIG, &json!({ "ai_api_key": chosen, "alias": "h" })).await;
    assert_eq!(made.status, 200, "{}", made.text());
    assert_eq!(caller.status(chosen).await, 200);
    let path = format!("{APIG}/{}", text(&made.json()["id"]));
    assert_eq!(operator.ask("DELETE", &path, &Value::Null).await.status, 204);
    assert_eq!(caller.status(chosen).await, 401);
}

#[tokio::test]
async fn by_the_new_api_familys() {
    let (_running, mut operator, mut caller) = start().await;
    let limits =
        json!({ "name": "f", "unlimited_quota": true, "model_limits_enabled": true, "model_limits": "gpt-4o" });
    let made = operator.ask("POST", NEWAPI, &limits).await.json();
    assert_eq!(made["success"], true, "{made}");
    let (secret, id) = (text(&made["data"]["key"]), made["data"]["id"].clone());
    assert_eq!((caller.status(&secret).await, caller.status_of(&secret, "gpt-4").await), (200, 403));
    let off = operator.ask("PUT", &format!("{NEWAPI}?status_only=1"), &json!({ "id": id, "status": 2 })).await.json();
    assert_eq!(off["success"], true, "{off}");
    assert_eq!(caller.status(&secret).await, 401);
    operator.ask("PUT", &format!("{NEWAPI}?status_only=1"), &json!({ "id": id, "status": 1 })).await;
    assert_eq!(caller.status(&secret).await, 200);
    let free = json!({ "id": id, "name": "f", "unlimited_quota": true, "expired_time": -1 });
    assert_eq!(operator.ask("PUT", NEWAPI, &free).await.json()["success"], true);
    assert_eq!(caller.status_of(&secret, "gpt-4").await, 200, "omitted fields are zeroed");
    let spent = json!({ "id": id, "name": "f", "unlimited_quota": false, "remain_quota": 0, "expired_time": -1 });
    assert_eq!(operator.ask("PUT", NEWAPI, &spent).await.json()["success"], true);
    assert_eq!(caller.status(&secret).await, 429);
    assert_eq!(operator.ask("DELETE", &format!("{NEWAPI}{id}"), &Value::Null).await.json()["success"], true);
    assert_eq!(caller.status(&secret).await, 401);
}

#[tokio::test]
async fn both_secrets_of_a_rotation_share_limits_and_the_grace_ends_to_the_second() {
    let (_running, mut operator, mut caller) = start().await;
    let made =
        operator.ask("POST", NATIVE, &json!({ "name": "r", "rpm_limit": 1_000, "quota_limit": 1_000_000 })).await;
    let (first, path) = (text(&made.json()["key"]), format!("{NATIVE}/{}", text(&made.json()["id"])));
    assert_eq!(caller.status(&first).await, 200);
    let used = operator.ask("GET", &path, &Value::Null).await.json()["quota_used"].as_u64().expect("a number");
    assert!(used > 0);
    let rotated = operator.ask("PUT", &format!("{path}/rotate"), &json!({ "grace_seconds": 2 })).await.json();
    let second = text(&rotated["key"]);
    let until: jiff::Timestamp = text(&rotated["rotate_grace_until"]).parse().expect("a moment");
    let mut worked = 0;
    loop {
        let before = jiff::Timestamp::now();
        let status = caller.status(&first).await;
        let after = jiff::Timestamp::now();
        match status {
            200 => assert!(before < until, "it worked at {before}, after {until}"),
            401 => break assert!(after >= until, "it was refused by {after}, before {until}"),
            other => panic!("{other}"),
        }
        worked += 1;
        // A caller's pace: he meets the second in which it ends often enough, and no limit before.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(caller.status(&second).await, 200);
    let shown = operator.ask("GET", &path, &Value::Null).await.json();
    assert_eq!(shown["quota_used"].as_u64(), Some(used * (worked + 2)), "one quota for both: {shown}");
    let old = &shown["old_secrets"][0];
    assert_eq!((&old["prefix"], old["uses"].as_u64()), (&made.json()["key_prefix"], Some(worked)), "{shown}");
    let last: jiff::Timestamp = text(&old["last_used_at"]).parse().expect("a moment");
    assert!(last <= until && until.duration_since(last).as_secs() < 3, "{shown}");
}
