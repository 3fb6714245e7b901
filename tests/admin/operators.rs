//! Who may do what, the first operator, the audit, the reload.

use keyward::admin::{Operators, Role, Scope};
use serde_json::{Value, json};
use std::net::IpAddr;

use crate::house::{BLUE, House, READER, WRITER, caller, settings};

#[tokio::test]
async fn a_reader_sees_and_changes_nothing() {
    let house = House::start().await;
    let key = house.made(json!({ "name": "k" })).await;
    let id = key["id"].as_str().expect("an id");
    for path in ["keys", "usage", "usage/dashboard", "audit", "models", "ledger", &format!("keys/{id}")] {
        assert_eq!(house.call_as(READER, "GET", path, None).await.status, 200, "{path}");
    }
    assert_eq!(house.call_as(READER, "POST", &format!("keys/{id}/explain"), None).await.status, 200);
    let body = || Some(json!({ "name": "other" }));
    for (method, path, body) in [
        ("POST", "keys".to_owned(), body()),
        ("PUT", format!("keys/{id}"), body()),
        ("DELETE", format!("keys/{id}"), None),
        ("PUT", format!("keys/{id}/rotate"), None),
        ("PUT", format!("keys/{id}/rotate/end"), None),
        ("PUT", format!("keys/{id}/disable"), None),
        ("POST", "config/reload".to_owned(), None),
    ] {
        assert_eq!(house.call_as(READER, method, &path, body).await.status, 403, "{method} {path}");
    }
    assert_eq!(house.call("GET", &format!("keys/{id}"), None).await.json()["name"], "k");
}

#[tokio::test]
async fn every_change_is_in_the_audit_without_a_secret() {
    let house = House::start().await;
    let made = house.made(json!({ "name": "k", "rpm_limit": 5 })).await;
    let id = made["id"].as_str().expect("an id");
    house.later(5);
    house.call("PUT", &format!("keys/{id}"), Some(json!({ "rpm_limit": 9, "name": "k" }))).await;
    let rotated = house.call("PUT", &format!("keys/{id}/rotate"), None).await.json();
    house.call("PUT", &format!("keys/{id}/rotate/end"), None).await;
    house.call("PUT", &format!("keys/{id}/disable"), None).await;
    house.call("DELETE", &format!("keys/{id}"), None).await;
    *house.backstage.verdict.lock().expect("not poisoned") = Err(vec!["keyward.toml:3: broken".to_owned()]);
    let verdict = house.call("POST", "config/reload", None).await;
    assert_eq!((verdict.status, verdict.json()["applied"].clone()), (200, json!(false)));
    assert_eq!(verdict.json()["faults"], json!(["keyward.toml:3: broken"]));

    let answer = house.call("GET", "audit", None).await;
    let all = answer.json();
    let actions: Vec<_> = all["items"].as_array().expect("items").iter().map(|item| item["action"].clone()).collect();
    let expected =
        ["config.reload", "key.delete", "key.disable", "key.rotate_end", "key.rotate", "key.update", "key.create"];
    assert_eq!(actions, expected);
    let update = &all["items"][5];
    assert_eq!((&update["before"], &update["after"]), (&json!({ "rpm_limit": 5 }), &json!({ "rpm_limit": 9 })));
    assert_eq!(
        (&update["operator"], &update["via"], &update["address"]),
        (&json!("ops"), &json!("native"), &json!("127.0.0.1"))
    );
    assert_eq!(update["at"], "2026-01-01T00:00:05Z");
    for secret in [&made["key"], &rotated["key"]] {
        assert!(!answer.text().contains(secret.as_str().expect("a secret")));
    }

    let page = house.call("GET", &format!("audit?limit=2&key_id={id}"), None).await.json();
    assert_eq!(page["items"][0]["action"], "key.delete");
    let next = page["next_cursor"].as_str().expect("more");
    let page = house.call("GET", &format!("audit?limit=5&key_id={id}&cursor={next}"), None).await.json();
    assert_eq!((&page["items"][0]["action"], &page["next_cursor"]), (&json!("key.rotate_end"), &Value::Null));
    let one = house.call("GET", "audit?action=key.rotate&operator=ops&to=2027-01-01", None).await.json();
    assert_eq!(one["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_reload_waits_for_changes_and_is_not_for_the_bound() {
    let house = House::start().await;
    assert_eq!(house.call_as(BLUE, "POST", "config/reload", None).await.status, 403);
    let models = house.call_as(BLUE, "GET", "models", None).await.json();
    let items = models["items"].as_array().expect("items");
    assert!(!items.is_empty() && items.iter().all(|model| model["upstream"].is_null()), "{models}");
    assert_eq!(house.call_as(BLUE, "GET", "ledger", None).await.status, 403);
    let inside = house.service.reload_gate().pass().await;
    let reload = house.call("POST", "config/reload", None);
    let mut reload = std::pin::pin!(reload);
    let waited = tokio::time::timeout(std::time::Duration::from_millis(50), &mut reload).await;
    assert!(waited.is_err(), "somebody is in the gate");
    drop(inside);
    assert_eq!(reload.await.status, 200);
    let models = house.call("GET", "models", None).await.json();
    let ids: Vec<_> = models["items"].as_array().expect("items").iter().map(|model| model["id"].clone()).collect();
    assert!(ids.contains(&json!("fast")) && ids.contains(&json!("gpt-4o-mini")), "{models}");
    assert_eq!(house.call("GET", "ledger", None).await.json()["ok"], true);
}

#[tokio::test]
async fn the_first_operator_is_made_once_and_only_when_there_is_nobody() {
    let house = House::start().await;
    let now = house.clock.now();
    let nobody = keyward::admin::Settings { tokens: Vec::new(), ..settings() };
    let make = |operators: &Operators| operators.make_first(&*house.store, now).expect("stored");
    assert!(make(&Operators::new(&settings(), Vec::new())).is_none());
    let first = Operators::new(&nobody, Vec::new());
    let token = make(&first).expect("made");
    assert!(token.expose().starts_with("kw-admin-"));
    assert!(make(&first).is_none());
    let address = IpAddr::from([127, 0, 0, 1]);
    first.replace(&nobody);
    assert!(first.log_in(Some(token.expose().as_bytes()), address, now).is_ok(), "at once, and after a reload");
    let stored = house.store.operators().expect("readable");
    assert!(!format!("{stored:?}").contains(token.expose()));
    let operators = Operators::new(&nobody, stored);
    assert!(make(&operators).is_none());
    let found = operators.log_in(Some(token.expose().as_bytes()), address, now).expect("let in");
    assert_eq!((&*found.name, found.scope.is_unbound()), ("admin", true));
    assert!(house.call_as(WRITER, "GET", "keys", None).await.status == 200);
}

#[test]
fn reloads_that_wait_leave_threads_for_the_changes_they_wait_for() {
    let runtime = tokio::runtime::Builder::new_multi_thread().max_blocking_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let house = House::start().await;
        let changing = house.service.reload_gate().pass().await;
        let reload = || {
            let (service, who) = (house.service.clone(), caller("ops", Role::Write, Scope::default()));
            tokio::spawn(async move { service.reload(&who).await })
        };
        let reloads = [reload(), reload(), reload()];
        // Each has come as far as it can before the last of them is looked for.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let look = house.call("GET", "keys", None);
        let found = tokio::time::timeout(std::time::Duration::from_secs(10), look).await;
        assert_eq!(found.expect("no thread is left to look").status, 200);
        drop(changing);
        for reload in reloads {
            assert_eq!(reload.await.expect("it ends"), Ok(Ok(())));
        }
    });
}
