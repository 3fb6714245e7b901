//! The same call with the same key is answered by the same bytes, secret included.

use serde_json::json;

use crate::client::Answer;
use crate::house::{BLUE, House, WRITER};

async fn send(house: &House, token: &str, method: &str, path: &str, key: &str, body: &str) -> Answer {
    let (login, key) = (format!("authorization: Bearer {token}"), format!("idempotency-key: {key}"));
    house.raw(method, path, &[&login, &key, "content-type: application/json"], body).await
}

#[tokio::test]
async fn a_repeated_create_is_answered_by_the_same_bytes_for_a_day() {
    let house = House::start().await;
    let body = json!({ "name": "once" }).to_string();
    let first = send(&house, WRITER, "POST", "keys", "call-1", &body).await;
    assert_eq!(first.status, 201);
    house.later(3_600);
    let again = send(&house, WRITER, "POST", "keys", "call-1", &body).await;
    assert_eq!((again.status, &again.body, again.header("etag")), (201, &first.body, first.header("etag")));
    assert!(house.works(first.json()["key"].as_str().expect("a secret")));
    assert_eq!(house.call("GET", "keys", None).await.json()["total"], 1);

    let other = send(&house, WRITER, "POST", "keys", "call-1", &json!({ "name": "twice" }).to_string()).await;
    assert_eq!(other.status, 409);
    let anothers = send(&house, BLUE, "POST", "keys", "call-1", &body).await;
    assert_eq!(anothers.status, 201);
    assert_ne!(anothers.json()["id"], first.json()["id"], "another operator's key is another key");

    house.later(24 * 3_600);
    let late = send(&house, WRITER, "POST", "keys", "call-1", &body).await;
    assert_eq!(late.status, 201);
    assert_ne!(late.body, first.body);
}

#[tokio::test]
async fn a_clock_that_was_set_forward_by_mistake_forgets_no_call() {
    let house = House::start().await;
    let body = json!({ "name": "once" }).to_string();
    let first = send(&house, WRITER, "POST", "keys", "call-1", &body).await;
    let right = house.clock.now().unix_ms;
    house.clock.step_wall_ms(right + 3 * 24 * 3_600_000);
    let again = send(&house, WRITER, "POST", "keys", "call-1", &body).await;
    assert_eq!((again.status, &again.body), (201, &first.body));
    let ahead = send(&house, WRITER, "POST", "keys", "call-2", &body).await;
    house.clock.step_wall_ms(right);
    let again = send(&house, WRITER, "POST", "keys", "call-2", &body).await;
    assert_eq!((again.status, &again.body), (201, &ahead.body));
    assert_eq!(house.call("GET", "keys", None).await.json()["total"], 2);
}

#[tokio::test]
async fn a_chosen_secret_is_repeated_from_the_call_and_no_secret_is_stored() {
    let house = House::start().await;
    let body = json!({ "name": "rpm_limit", "key": "rpm_limit" }).to_string();
    let first = send(&house, WRITER, "POST", "keys", "k", &body).await;
    let again = send(&house, WRITER, "POST", "keys", "k", &body).await;
    assert_eq!((first.status, &first.body), (201, &again.body));
    assert_eq!(first.json()["key"], "rpm_limit", "a secret that stands elsewhere in the answer too");
    let kept = house.store.remembered("ops", "k", house.clock.now().unix_ms).expect("readable").expect("remembered");
    assert!(kept.seed.is_none() && !kept.body.contains("\"key\":\"rpm_limit\""));
    let made = send(&house, WRITER, "POST", "keys", "m", &json!({ "name": "made" }).to_string()).await.json();
    let kept = house.store.remembered("ops", "m", house.clock.now().unix_ms).expect("readable").expect("remembered");
    assert!(!kept.body.contains(made["key"].as_str().expect("a secret")));
}

#[tokio::test]
async fn a_repeated_rotation_rotates_once() {
    let house = House::start().await;
    let made = house.made(json!({ "name": "k" })).await;
    let path = format!("keys/{}/rotate", made["id"].as_str().expect("an id"));
    let first = send(&house, WRITER, "PUT", &path, "r", "{}").await;
    let again = send(&house, WRITER, "PUT", &path, "r", "{}").await;
    assert_eq!((first.status, &first.body), (200, &again.body));
    assert_eq!(first.json()["old_secrets"].as_array().map(Vec::len), Some(1));
    let other = made["id"].as_str().map(|id| format!("keys/{}/rotate", id.to_uppercase())).expect("an id");
    assert_eq!(send(&house, WRITER, "PUT", &other, "r", "{}").await.status, 409, "another path is another call");
}

#[tokio::test]
async fn of_equal_calls_at_once_one_makes_the_key_and_all_get_it() {
    let house = House::start().await;
    let body = json!({ "name": "once" }).to_string();
    let calls = (0..16).map(|_| send(&house, WRITER, "POST", "keys", "burst", &body));
    let answers = futures_util::future::join_all(calls).await;
    assert!(answers.iter().all(|answer| answer.status == 201 && answer.body == answers[0].body));
    assert_eq!(house.call("GET", "keys", None).await.json()["total"], 1);
}

#[tokio::test]
async fn a_key_that_is_none_is_refused() {
    let house = House::start().await;
    for bad in ["", "with space", &"x".repeat(256)] {
        let refused = send(&house, WRITER, "POST", "keys", bad, &json!({ "name": "k" }).to_string()).await;
        assert_eq!(refused.status, 422, "{bad:?}");
    }
}
