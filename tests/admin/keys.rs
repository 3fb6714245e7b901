//! Keys made, shown, changed and removed, each in force at once.

use keyward::policy::KeyStatus;
use serde_json::{Value, json};

use crate::house::House;

#[tokio::test]
async fn a_key_is_in_force_from_its_making_to_its_removal_and_its_secret_is_shown_once() {
    let house = House::start().await;
    let key = house.made(json!({ "name": "demo", "rpm_limit": 60, "models_allowed": ["gpt-4o*"] })).await;
    let secret = key["key"].as_str().expect("a secret").to_owned();
    let id = key["id"].as_str().expect("an id");
    assert!(house.works(&secret) && secret.starts_with("sk-kw-"));
    assert_eq!(key["key_prefix"], json!(secret[..12]));

    let shown = house.call("GET", &format!("keys/{id}"), None).await;
    assert_eq!((shown.status, shown.header("etag").as_deref()), (200, Some("\"1\"")));
    assert_eq!(shown.json()["key"], Value::Null);
    assert!(!shown.text().contains(&secret));

    let off = house.call("PUT", &format!("keys/{id}/disable"), None).await;
    assert_eq!((off.status, off.json()["status"].clone()), (200, json!("disabled")));
    assert!(!house.works(&secret));
    let again = house.call("PUT", &format!("keys/{id}/disable"), None).await;
    assert_eq!(again.header("etag"), off.header("etag"), "nothing changed, so nothing was written");
    house.call("PUT", &format!("keys/{id}/enable"), None).await;
    assert!(house.works(&secret));

    assert_eq!(house.call("DELETE", &format!("keys/{id}"), None).await.status, 204);
    assert!(!house.works(&secret));
    for (method, path) in [("GET", ""), ("DELETE", ""), ("PUT", "/enable"), ("PUT", "/rotate")] {
        assert_eq!(house.call(method, &format!("keys/{id}{path}"), None).await.status, 404, "{method} {path}");
    }
}

#[tokio::test]
async fn only_the_fields_present_change_and_null_clears() {
    let house = House::start().await;
    let key = house
        .made(json!({
            "name": "demo", "org_id": "acme", "team_id": "blue", "rpm_limit": 60, "tpm_limit": 1000, "max_parallel": 2,
            "quota_limit": 500, "quota_reset": "monthly", "allowed_ips": ["10.1.2.3/8", "::1"], "is_sandbox": true,
            "expires_at": "2030-01-01T00:00:00+01:00", "endpoints_allowed": ["chat", "/v1/embeddings"],
            "on_disconnect": "drain", "metadata": { "cost centre": "12" }, "models_allowed": ["gpt-4o*"],
        }))
        .await;
    assert_eq!(key["expires_at"], "2029-12-31T23:00:00Z");
    assert_eq!(key["allowed_ips"], json!(["10.0.0.0/8", "::1"]));
    assert_eq!((&key["quota_remaining"], &key["quota_resets_at"]), (&json!(500), &json!("2026-02-01T00:00:00Z")));
    let path = format!("keys/{}", key["id"].as_str().expect("an id"));

    let renamed = house.call("PUT", &path, Some(json!({ "name": "other", "quota_limit": 600 }))).await.json();
    for (name, value) in key.as_object().expect("an object") {
        let expected = match name.as_str() {
            "name" => json!("other"),
            "quota_limit" | "quota_remaining" => json!(600),
            "key" => json!(null),
            _ => value.clone(),
        };
        assert_eq!(renamed[name], expected, "{name}");
    }

    let cleared = json!({
        "org_id": null, "team_id": null, "rpm_limit": null, "tpm_limit": null, "max_parallel": null, "quota_limit": null,
        "allowed_ips": null, "is_sandbox": null, "expires_at": null, "endpoints_allowed": null, "on_disconnect": null,
        "metadata": null, "models_allowed": null,
    });
    let bare = house.call("PUT", &path, Some(cleared)).await.json();
    let plain = house.made(json!({ "name": "other" })).await;
    for name in
        ["org_id", "rpm_limit", "quota_limit", "quota_reset", "allowed_ips", "is_sandbox", "on_disconnect", "metadata"]
    {
        assert_eq!(bare[name], plain[name], "{name}");
    }
}

#[tokio::test]
async fn a_stale_if_match_changes_nothing() {
    let house = House::start().await;
    let key = house.made(json!({ "name": "demo" })).await;
    let path = format!("/api/v1/gateway/keys/{}", key["id"].as_str().expect("an id"));
    let login = format!("authorization: Bearer {}", crate::house::WRITER);
    let send = async |tag: &str, name: &str| {
        let headers = [login.as_str(), "content-type: application/json", tag];
        house.raw("PUT", &path, &headers, &json!({ "name": name }).to_string()).await
    };
    let first = send("if-match: \"1\"", "one").await;
    assert_eq!((first.status, first.header("etag").as_deref()), (200, Some("\"2\"")));
    for tag in ["if-match: \"1\"", "if-match: W/\"2\"", "if-match: \"9\", \"10\""] {
        let stale = send(tag, "two").await;
        assert_eq!(stale.status, 412, "{tag}");
        assert!(stale.json()["detail"].is_string());
    }
    assert_eq!(send("if-match: *", "three").await.json()["name"], "three");
    let headers = [login.as_str(), "if-match: \"2\""];
    assert_eq!(house.raw("DELETE", &path, &headers, "").await.status, 412);
    assert_eq!(house.call("GET", &path, None).await.json()["name"], "three");
}

#[tokio::test]
async fn a_list_pages_newest_first_and_filters() {
    let house = House::start().await;
    for n in 0..7 {
        house.later(1);
        let team = if n % 2 == 0 { "blue" } else { "red" };
        house.made(json!({ "name": format!("key {n}"), "team_id": team, "models_allowed": ["gpt-4o*"] })).await;
    }
    let names = |page: &Value| -> Vec<String> {
        let items = page["items"].as_array().expect("items").iter();
        items.map(|key| key["name"].as_str().unwrap_or_default().to_owned()).collect()
    };
    let all = house.call("GET", "keys", None).await.json();
    assert_eq!(names(&all), ["key 6", "key 5", "key 4", "key 3", "key 2", "key 1", "key 0"]);
    assert_eq!((&all["total"], all.get("next_cursor")), (&json!(7), None));
    assert_eq!(house.call("GET", "keys/", None).await.json(), all, "with AIone's slash");

    let (mut path, mut seen) = ("keys?limit=3".to_owned(), Vec::new());
    loop {
        let page = house.call("GET", &path, None).await.json();
        assert_eq!(page["total"], 7);
        seen.extend(names(&page));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("keys?limit=3&cursor={cursor}");
    }
    assert_eq!(seen, names(&all));
    for (query, expected) in [
        ("team_id=red", 3),
        ("name=KEY%205", 1),
        ("model=gpt-4o-mini", 7),
        ("model=o3", 0),
        ("status=active", 7),
        ("status=disabled", 0),
        ("is_sandbox=true", 0),
        ("prefix=sk-kw-", 7),
        ("org_id=acme", 0),
    ] {
        let found = house.call("GET", &format!("keys?{query}"), None).await;
        assert_eq!((found.status, found.json()["total"].clone()), (200, json!(expected)), "{query}: {}", found.text());
    }
}

#[tokio::test]
async fn a_long_list_comes_whole_and_in_order() {
    let house = House::start().await;
    for n in 0..2_003 {
        let fields = keyward::admin::service::KeyFields::named(&format!("key {n}"));
        let new = keyward::admin::service::NewKey { fields, secret: None };
        let caller = crate::house::caller("ops", keyward::admin::Role::Write, keyward::admin::Scope::default());
        house.service.create(&caller, new).await.expect("made");
    }
    let answer = house.call("GET", "keys", None).await;
    assert!(answer.is_whole);
    let all = answer.json();
    let items = all["items"].as_array().expect("items");
    assert_eq!((items.len(), &all["total"]), (2_003, &json!(2_003)));
    assert!(items.iter().rev().enumerate().all(|(n, key)| key["name"] == format!("key {n}")));
}

#[tokio::test]
async fn a_chosen_secret_works_and_one_that_is_taken_or_mistyped_does_not() {
    let house = House::start().await;
    let key = house.made(json!({ "name": "mine", "key": "my-own-secret-of-24-chars" })).await;
    assert_eq!((&key["key"], &key["key_prefix"]), (&json!("my-own-secret-of-24-chars"), &json!("my-own-s")));
    assert!(house.works("my-own-secret-of-24-chars"));
    let taken = house.call("POST", "keys", Some(json!({ "name": "two", "key": "my-own-secret-of-24-chars" }))).await;
    assert_eq!(taken.status, 409);
    let ours = house.made(json!({ "name": "ours" })).await["key"].as_str().expect("a secret").to_owned();
    let mut mistyped = ours.clone();
    mistyped.replace_range(20..21, if &ours[20..21] == "x" { "y" } else { "x" });
    for bad in [mistyped.as_str(), "2short", "with space in it", "\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}"] {
        let refused = house.call("POST", "keys", Some(json!({ "name": "bad", "key": bad }))).await;
        assert_eq!((refused.status, &refused.json()["detail"][0]["loc"]), (422, &json!(["body", "key"])), "{bad}");
        assert!(!refused.text().contains(bad), "what was typed is not said again");
    }
}

#[tokio::test]
async fn a_status_is_what_the_key_is_now() {
    let house = House::start().await;
    let key = house.made(json!({ "name": "k", "expires_at": "2026-01-01T00:00:10Z", "quota_limit": 10 })).await;
    let path = format!("keys/{}", key["id"].as_str().expect("an id"));
    assert_eq!(key["status"], KeyStatus::Active.as_str());
    let id = key["id"].as_str().and_then(|id| id.parse().ok()).map(keyward::units::KeyId).expect("an id");
    let entry = house.keys.get(id).expect("in the table");
    assert!(entry.limits_if_used().is_none(), "looking makes nothing");
    let count = keyward::limits::QuotaCount { used: 10, ..keyward::limits::QuotaCount::default() };
    entry.limits().restore_quota(count);
    let spent = house.call("GET", &path, None).await.json();
    assert_eq!(
        (&spent["status"], &spent["quota_used"], &spent["quota_remaining"]),
        (&json!("exhausted"), &json!(10), &json!(0))
    );
    house.later(10);
    assert_eq!(house.call("GET", &path, None).await.json()["status"], "expired");
}
