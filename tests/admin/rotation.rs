//! A secret replaced: both work through the grace, which ends to the millisecond and is never lengthened.

use serde_json::{Value, json};

use crate::house::House;

fn secret(answer: &Value) -> String {
    answer["key"].as_str().expect("a secret").to_owned()
}

#[tokio::test]
async fn both_secrets_work_until_the_grace_ends() {
    let house = House::start().await;
    let made = house.made(json!({ "name": "k" })).await;
    let (first, path) = (secret(&made), format!("keys/{}", made["id"].as_str().expect("an id")));
    let rotated = house.call("PUT", &format!("{path}/rotate"), Some(json!({ "grace_seconds": 60 }))).await;
    assert_eq!((rotated.status, rotated.header("etag").as_deref()), (200, Some("\"2\"")));
    let rotated = rotated.json();
    let second = secret(&rotated);
    assert_eq!(rotated["id"], made["id"]);
    assert_eq!(rotated["rotate_grace_until"], "2026-01-01T00:01:00Z");
    assert_eq!(rotated["old_secret"]["prefix"], made["key_prefix"]);
    assert_eq!((&rotated["old_secret"]["uses"], &rotated["old_secret"]["last_used_at"]), (&json!(0), &json!(null)));
    let slots =
        [&first, &second].map(|secret| house.keys.find(&house.digester.digest(secret.as_bytes())).expect("known"));
    assert!(std::sync::Arc::ptr_eq(slots[0].entry(), slots[1].entry()), "one key, so one state of every limit");

    house.later(30);
    slots[0].note_use(house.clock.now());
    let shown = house.call("GET", &path, None).await.json();
    assert_eq!(shown["old_secrets"][0]["uses"], 1);
    assert_eq!(shown["old_secrets"][0]["last_used_at"], "2026-01-01T00:00:30Z");

    house.later(29);
    assert!(house.works(&first) && house.works(&second));
    house.later(1);
    assert!(!house.works(&first) && house.works(&second));
    assert!(slots[0].grace_ended(house.clock.now()), "its holder is told why");
    assert_eq!(house.call("GET", &path, None).await.json()["rotate_grace_until"], Value::Null);
}

#[tokio::test]
async fn rotating_again_lengthens_nothing_and_the_end_can_be_brought_forward() {
    let house = House::start().await;
    let made = house.made(json!({ "name": "k" })).await;
    let (first, path) = (secret(&made), format!("keys/{}", made["id"].as_str().expect("an id")));
    let second =
        secret(&house.call("PUT", &format!("{path}/rotate"), Some(json!({ "grace_seconds": 10 }))).await.json());
    let again = house.call("PUT", &format!("{path}/rotate"), None).await.json();
    assert_eq!(again["rotate_grace_until"], "2026-01-02T00:00:00Z", "a day when nothing is said");
    house.later(10);
    assert!(!house.works(&first) && house.works(&second) && house.works(&secret(&again)));
    let ended = house.call("PUT", &format!("{path}/rotate/end"), None).await;
    assert_eq!((ended.status, &ended.json()["rotate_grace_until"]), (200, &Value::Null));
    assert!(!house.works(&second) && house.works(&secret(&again)));
    let nothing = house.call("PUT", &format!("{path}/rotate/end"), None).await;
    assert_eq!(nothing.header("etag"), ended.header("etag"));

    let at_once = house.call("PUT", &format!("{path}/rotate"), Some(json!({ "grace_seconds": 0 }))).await.json();
    assert!(!house.works(&secret(&again)) && house.works(&secret(&at_once)));
    assert_eq!(at_once["rotate_grace_until"], Value::Null);
}

#[tokio::test]
async fn a_seventeenth_live_secret_is_refused_and_ended_ones_make_room() {
    let house = House::start().await;
    let made = house.made(json!({ "name": "k" })).await;
    let path = format!("keys/{}/rotate", made["id"].as_str().expect("an id"));
    for n in 0..16 {
        let rotated = house.call("PUT", &path, Some(json!({ "grace_seconds": 100 + n }))).await;
        assert_eq!(rotated.status, 200);
    }
    let full = house.call("PUT", &path, None).await;
    assert_eq!(full.status, 409, "{}", full.text());
    house.later(100);
    let rotated = house.call("PUT", &path, None).await.json();
    assert_eq!(rotated["old_secrets"].as_array().map(Vec::len), Some(16), "the one that ended made room");
    house.later(31 * 86_400);
    let rotated = house.call("PUT", &path, None).await.json();
    assert_eq!(rotated["old_secrets"].as_array().map(Vec::len), Some(1), "those that ended long ago are forgotten");
}

#[tokio::test]
async fn a_secret_is_not_taken_up_again() {
    let house = House::start().await;
    let made = house.made(json!({ "name": "k", "key": "first-secret-0001" })).await;
    let path = format!("keys/{}/rotate", made["id"].as_str().expect("an id"));
    let same = house.call("PUT", &path, Some(json!({ "key": "first-secret-0001" }))).await;
    assert_eq!(same.status, 409);
    assert_eq!(house.call("PUT", &path, Some(json!({ "key": "second-secret-0001" }))).await.status, 200);
    assert_eq!(house.call("PUT", &path, Some(json!({ "key": "first-secret-0001" }))).await.status, 409);
    let faults = house.call("PUT", &path, Some(json!({ "grace_seconds": 2_592_001, "bogus": 1 }))).await.json();
    let kinds: Vec<_> =
        faults["detail"].as_array().expect("faults").iter().map(|fault| fault["type"].clone()).collect();
    assert_eq!(kinds, ["less_than_equal", "extra_forbidden"]);
}
