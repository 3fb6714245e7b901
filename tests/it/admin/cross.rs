//! One key, three dialects: made by one, it is seen, changed and removed by the others.

use serde_json::json;

use super::shape::Shape;
use super::{APP, apig, native, newapi, start, status_of};

#[tokio::test]
async fn a_key_made_by_apig_is_changed_by_new_api_and_removed_by_the_native_api() {
    let program = start("").await;
    let made = apig(&program, "POST", "", r#"{"alias":"shared"}"#).await.json();
    let secret = made["ai_api_key"].as_str().expect("a secret").to_owned();
    let hex = made["id"].as_str().expect("an id").to_owned();

    let found = newapi(&program, "GET /api/token/search?keyword=shared", "").await["data"]["items"][0].clone();
    assert_eq!((&found["unlimited_quota"], &found["expired_time"]), (&json!(true), &json!(-1)));
    let mut change = found.clone();
    change["name"] = json!("renamed");
    change["model_limits_enabled"] = json!(true);
    change["model_limits"] = json!("gpt-4o");
    assert_eq!(newapi(&program, "PUT /api/token/", &change.to_string()).await["success"], true);
    assert_eq!(status_of(&program, &secret, "o3").await, 403, "the very next request");
    assert_eq!(apig(&program, "GET", &format!("/{hex}"), "").await.json()["alias"], "renamed");

    let id = uuid::Uuid::parse_str(&hex).expect("a uuid").to_string();
    let key = native(&program, &format!("GET /{id}"), "").await.json();
    assert_eq!((&key["name"], &key["models_allowed"]), (&json!("renamed"), &json!(["gpt-4o"])));
    assert_eq!(key["org_id"], format!("apig/p/i/{APP}"));
    assert_eq!(native(&program, &format!("DELETE /{id}"), "").await.status, 204);
    assert_eq!(status_of(&program, &secret, "gpt-4o").await, 401, "the very next request");
    assert_eq!(apig(&program, "GET", &format!("/{hex}"), "").await.status, 404);
    let number = found["id"].clone();
    assert_eq!(newapi(&program, &format!("GET /api/token/{number}"), "").await["message"], "record not found");
}

#[tokio::test]
async fn a_key_made_by_the_native_api_keeps_what_other_dialects_do_not_know() {
    let program = start("").await;
    let body = json!({
        "name": "full", "org_id": format!("apig/p/i/{APP}"), "team_id": "t", "rpm_limit": 600, "tpm_limit": 1_000_000,
        "max_parallel": 9, "quota_limit": 5_000_000, "quota_reset": "monthly", "endpoints_allowed": ["chat"],
        "metadata": {"a": "b"}, "on_disconnect": "drain", "expires_at": "2030-01-01T00:00:00.250Z",
    });
    let made = native(&program, "POST /", &body.to_string()).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let (id, secret) = (made.json()["id"].clone(), made.json()["key"].as_str().expect("a secret").to_owned());
    let path = format!("GET /{}", id.as_str().expect("an id"));
    let before = native(&program, &path, "").await.json();
    let found = newapi(&program, "GET /api/token/search?keyword=full", "").await["data"]["items"][0].clone();
    assert_eq!((&found["remain_quota"], &found["expired_time"]), (&json!(5_000_000), &json!(1_893_456_000)));
    assert_eq!(
        newapi(&program, "PUT /api/token/", &found.to_string()).await["data"],
        found,
        "sent back as it was shown"
    );
    assert_eq!(native(&program, &path, "").await.json(), before, "and nothing is changed");

    let mut change = found.clone();
    change["remain_quota"] = json!(10);
    assert_eq!(newapi(&program, "PUT /api/token/", &change.to_string()).await["success"], true);
    let after = native(&program, &path, "").await.json();
    let mut expected = before.clone();
    for name in ["quota_limit", "quota_remaining", "updated_at"] {
        expected[name] = after[name].clone();
    }
    assert_eq!((&after["quota_limit"], &after), (&json!(10), &expected));

    let hex = id.as_str().expect("an id").replace('-', "");
    assert_eq!(apig(&program, "GET", "", "").await.json()["ai_api_keys"][0]["id"], hex);
    assert_eq!(apig(&program, "DELETE", &format!("/{hex}"), "").await.status, 204);
    assert_eq!(status_of(&program, &secret, "gpt-4o").await, 401, "the very next request");
}

#[tokio::test]
async fn a_token_of_new_api_is_rotated_and_disabled_by_the_native_api_and_the_audit_says_by_whom() {
    let program = start("").await;
    let made = newapi(
        &program,
        "POST /api/token/",
        r#"{"name":"n","unlimited_quota":true,"group":"vip","cross_group_retry":true}"#,
    )
    .await;
    let (number, secret) = (made["data"]["id"].clone(), made["data"]["key"].as_str().expect("a key").to_owned());
    let key = native(&program, "GET /?name=n&limit=1", "").await.json()["items"][0].clone();
    let id = key["id"].as_str().expect("an id").to_owned();
    let rotated = native(&program, &format!("PUT /{id}/rotate"), r#"{"grace_seconds":0}"#).await;
    assert_eq!(rotated.status, 200, "{}", rotated.text());
    assert_eq!(status_of(&program, &secret, "gpt-4o").await, 401);
    assert_eq!(native(&program, &format!("PUT /{id}/disable"), "").await.status, 200);
    let shown = newapi(&program, &format!("GET /api/token/{number}"), "").await["data"].clone();
    assert_eq!(
        (&shown["status"], &shown["group"], &shown["cross_group_retry"]),
        (&json!(2), &json!("vip"), &json!(true))
    );
    let audit = super::call(
        program.admin,
        "GET /api/v1/gateway/audit",
        &[("authorization", &format!("Bearer {}", super::OPS))],
        "",
    )
    .await;
    let steps = audit.json()["items"]
        .as_array()
        .expect("items")
        .iter()
        .filter(|step| step["key_id"] == json!(id))
        .map(|step| {
            format!("{} {}", step["via"].as_str().unwrap_or_default(), step["action"].as_str().unwrap_or_default())
        })
        .collect::<Vec<_>>();
    assert_eq!(steps, ["native key.disable", "native key.rotate", "newapi key.create"]);
    assert!(!audit.text().contains(&secret));
}

#[tokio::test]
async fn what_is_set_while_it_is_switched_off_is_in_the_audit_too() {
    let program = start("").await;
    let made = newapi(&program, "POST /api/token/", r#"{"name":"n","unlimited_quota":true}"#).await;
    let body = json!({"id": made["data"]["id"], "name": "n", "unlimited_quota": true, "expired_time": -1, "remain_quota": 7, "model_limits": "o3"});
    assert_eq!(newapi(&program, "PUT /api/token/", &body.to_string()).await["success"], json!(true));
    let login = format!("Bearer {}", super::OPS);
    let line = "GET /api/v1/gateway/audit?limit=1";
    let audit = super::call(program.admin, line, &[("authorization", &login)], "").await.json();
    let (before, after) = (&audit["items"][0]["before"], &audit["items"][0]["after"]);
    assert_eq!(*before, json!({"dormant_models": null, "dormant_remain": null}));
    assert_eq!(*after, json!({"dormant_models": "o3", "dormant_remain": 7}));
}

#[tokio::test]
async fn a_token_without_any_quota_is_exhausted_for_everybody_after_a_restart_too_until_one_gives_it_some() {
    let mut program = start("").await;
    let made = newapi(&program, "POST /api/token/", r#"{"name":"empty"}"#).await;
    let secret = made["data"]["key"].as_str().expect("a key").to_owned();
    for restarts in [false, true] {
        if restarts {
            program.kill();
            program.restart().await;
        }
        let key = native(&program, "GET /?status=exhausted", "").await.json()["items"][0].clone();
        assert_eq!(
            (&key["name"], &key["quota_limit"], &key["quota_remaining"]),
            (&json!("empty"), &json!(0), &json!(0))
        );
        assert_eq!(status_of(&program, &secret, "gpt-4o").await, 429, "restarted: {restarts}");
    }
    let id =
        native(&program, "GET /?name=empty", "").await.json()["items"][0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(native(&program, &format!("PUT /{id}"), r#"{"quota_limit":1000000}"#).await.status, 200);
    assert_eq!(status_of(&program, &secret, "gpt-4o").await, 200, "the very next request");
}

#[tokio::test]
async fn the_native_list_begins_with_the_members_of_its_page() {
    let program = start("").await;
    native(&program, "POST /", r#"{"name":"n"}"#).await;
    let Shape::Object(page) = Shape::of(&native(&program, "GET /", "").await.text()) else { panic!("no object") };
    let Shape::Object(sample) = Shape::of_vendor("aione-list-keys") else { panic!("no object") };
    let names = |members: &[(String, Shape)]| members.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&page), names(&sample));
    let item = |members: &[(String, Shape)]| match &members[0].1 {
        Shape::List(items) => match &items[0] {
            Shape::Object(item) => names(item),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    let (ours, printed) = (item(&page), item(&sample));
    assert_eq!(ours[..printed.len()], printed);
}
