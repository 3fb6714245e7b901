//! What is refused, and in which words: FastAPI's shape, every fault at once.

use serde_json::{Value, json};

use crate::house::{House, READER, WRITER};

fn login() -> String {
    format!("authorization: Bearer {WRITER}")
}

fn faults(body: &Value) -> Vec<(String, String)> {
    let all = body["detail"].as_array().expect("faults").iter();
    let step = |step: &Value| step.as_str().map_or_else(|| step.to_string(), ToOwned::to_owned);
    let loc = |fault: &Value| fault["loc"].as_array().expect("a place").iter().map(step).collect::<Vec<_>>().join(".");
    all.map(|fault| (loc(fault), fault["type"].as_str().expect("a type").to_owned())).collect()
}

#[tokio::test]
async fn every_fault_of_a_body_is_named_at_once() {
    let house = House::start().await;
    let body = r#"{"name":"","rpm_limit":0,"tpm_limit":"7","max_parallel":1.5,"quota_limit":-1,"quota_reset":"yearly",
        "allowed_ips":["10.0.0.1",7,"10.0.0.0/33"],"expires_at":"tomorrow","is_sandbox":"yes","models_allowed":["gpt 4"],
        "endpoints_allowed":["telepathy"],"on_disconnect":1,"metadata":{"":"x","a":1},"org_id":"a\u0000b","bogus":null,
        "team_id":[],"team_id":"twice"}"#;
    let refused = house.raw("POST", "keys", &[&login(), "content-type: application/json"], body).await;
    assert_eq!(refused.status, 422);
    let expected = [
        ("body.name", "string_too_short"),
        ("body.org_id", "string_pattern_mismatch"),
        ("body.team_id", "string_type"),
        ("body.models_allowed.0", "value_error"),
        ("body.endpoints_allowed.0", "value_error"),
        ("body.rpm_limit", "greater_than_equal"),
        ("body.tpm_limit", "int_type"),
        ("body.max_parallel", "int_from_float"),
        ("body.quota_limit", "greater_than_equal"),
        ("body.quota_reset", "enum"),
        ("body.allowed_ips.1", "string_type"),
        ("body.allowed_ips.2", "value_error"),
        ("body.expires_at", "datetime_parsing"),
        ("body.is_sandbox", "bool_type"),
        ("body.on_disconnect", "enum"),
        ("body.metadata.", "string_too_short"),
        ("body.metadata.a", "string_type"),
        ("body.bogus", "extra_forbidden"),
        ("body.team_id", "duplicate_member"),
    ];
    assert_eq!(faults(&refused.json()), expected.map(|(loc, kind)| (loc.to_owned(), kind.to_owned())));
    assert_eq!(refused.json()["detail"][5]["msg"], "Input should be greater than or equal to 1");
}

#[tokio::test]
async fn a_body_that_is_no_json_object_is_refused() {
    let house = House::start().await;
    let send = async |kind: &str, body: &str| house.raw("POST", "keys", &[&login(), kind], body).await;
    let json_type = "content-type: application/json; charset=utf-8";
    for (body, kind) in [
        ("", "json_invalid"),
        ("{", "json_invalid"),
        ("{}x", "json_invalid"),
        ("[]", "model_attributes_type"),
        ("null", "model_attributes_type"),
        ("{}", "missing"),
    ] {
        let refused = send(json_type, body).await;
        assert_eq!((refused.status, faults(&refused.json())[0].1.as_str()), (422, kind), "{body}");
    }
    let deep = "[".repeat(200);
    assert_eq!(send(json_type, &deep).await.status, 422);
    for kind in ["content-type: text/plain", "content-type: application/x-www-form-urlencoded", "x-none: 1"] {
        assert_eq!(send(kind, "{\"name\":\"k\"}").await.status, 415, "{kind}");
    }
    let name = "x".repeat((1 << 20) + 1);
    let huge = send(json_type, &json!({ "name": name }).to_string()).await;
    assert_eq!((huge.status, huge.json()["detail"].is_string()), (413, true));
    assert_eq!(house.call("GET", "keys", None).await.json()["total"], 0);
}

#[tokio::test]
async fn unknown_parameters_and_bad_cursors_are_refused() {
    let house = House::start().await;
    for (query, kind) in [
        ("bogus=1", "extra_forbidden"),
        ("limit=0", "greater_than_equal"),
        ("limit=1001", "less_than_equal"),
        ("limit=x", "int_parsing"),
        ("cursor=x", "value_error"),
        ("status=dead", "enum"),
        ("is_sandbox=maybe", "bool_parsing"),
        ("limit=1&limit=2", "duplicate_parameter"),
        ("name=", "string_too_short"),
        ("model=a%20b", "value_error"),
    ] {
        let refused = house.call("GET", &format!("keys?{query}"), None).await;
        assert_eq!((refused.status, faults(&refused.json())[0].1.as_str()), (422, kind), "{query}");
    }
    let bad_id = house.call("GET", "keys/not-a-uuid", None).await;
    assert_eq!(faults(&bad_id.json()), [("path.key_id".to_owned(), "uuid_parsing".to_owned())]);
    assert_eq!(house.call("GET", "keys/00000000-0000-7000-8000-000000000000", None).await.status, 404);
}

#[tokio::test]
async fn browsers_and_strangers_are_not_let_in() {
    let house = House::start().await;
    let origin = house.raw("GET", "keys", &[&login(), "origin: http://evil.example"], "").await;
    assert_eq!(origin.status, 403);
    for open in ["/metrics", "/readyz", "/docs", "/openapi.json"] {
        assert_eq!(house.raw("GET", open, &["origin: http://evil.example"], "").await.status, 403, "{open}");
    }
    let two = house.raw("GET", "keys", &[&login(), &login()], "").await;
    for answer in [two, house.raw("GET", "keys", &[], "").await, house.call_as("wrong", "GET", "keys", None).await] {
        assert_eq!((answer.status, answer.header("www-authenticate").as_deref()), (401, Some("Bearer")));
        assert_eq!(answer.json()["detail"], "Invalid or missing admin token");
    }
    let cookie = house.raw("GET", "keys", &[&format!("cookie: authorization=Bearer {WRITER}")], "").await;
    assert_eq!(cookie.status, 401);
    assert_eq!(house.raw("GET", "keys", &[&format!("authorization: bearer {WRITER}")], "").await.status, 200);
}

#[tokio::test]
async fn failed_logins_are_throttled_and_a_valid_token_is_not() {
    let house = House::start().await;
    for _ in 0..keyward::admin::operators::FAILURES_PER_MINUTE {
        assert_eq!(house.call_as("guess", "GET", "keys", None).await.status, 401);
    }
    let throttled = house.call_as("guess", "GET", "keys", None).await;
    assert_eq!((throttled.status, throttled.header("retry-after").as_deref()), (429, Some("3")));
    assert_eq!(house.call("GET", "keys", None).await.status, 200);
    let metrics = house.raw("GET", "/metrics", &[], "").await.text();
    assert!(metrics.contains("keyward_admin_failed_logins_total 21"), "{metrics}");
    assert!(metrics.contains("keyward_admin_requests_total{status=\"2xx\"} 1"), "{metrics}");
}

#[tokio::test]
async fn what_no_route_has_is_said_in_the_same_shape() {
    let house = House::start().await;
    let unknown = house.call("GET", "nothing", None).await;
    assert_eq!((unknown.status, unknown.json()), (404, json!({ "detail": "Not Found" })));
    let wrong = house.call("PATCH", "keys", None).await;
    assert_eq!((wrong.status, wrong.json()), (405, json!({ "detail": "Method Not Allowed" })));
    let allow = wrong.header("allow").expect("which methods");
    assert!(allow.contains("GET") && allow.contains("POST"), "{allow}");
    let head = house.raw("HEAD", "keys", &[&login()], "").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    for open in ["/healthz", "/readyz", "/openapi.json", "/docs"] {
        assert_eq!(house.raw("GET", open, &[], "").await.status, 200, "{open}");
    }
}

#[tokio::test]
async fn a_body_of_very_many_members_costs_no_more_than_it_is_long() {
    let house = House::start().await;
    let members: Vec<String> = (0..85_000).map(|n| format!("\"a{n:06}\":1")).collect();
    let body = format!("{{{}}}", members.join(","));
    let clock = keyward::clock::Clock::system();
    let began = clock.monotonic_ns();
    let json = "content-type: application/json";
    let login = format!("authorization: Bearer {READER}");
    let answer = house.raw("PUT", &format!("keys/{}", uuid::Uuid::max()), &[&login, json], &body).await;
    assert_eq!((answer.status, faults(&answer.json()).len()), (422, 1_000));
    let query: Vec<String> = (0..10_000).map(|n| format!("{n:x}")).collect();
    let answer = house.call("GET", &format!("keys?{}", query.join("&")), None).await;
    assert_eq!((answer.status, faults(&answer.json()).len()), (422, 1_000));
    // It took fifty times as long when each was compared with every one before it.
    let took_ms = (clock.monotonic_ns() - began) / 1_000_000;
    assert!(took_ms < 10_000, "{took_ms} ms");
}

#[tokio::test]
async fn what_the_document_describes_is_there_and_nothing_else_is() {
    let house = House::start().await;
    let document = keyward::admin::native::document();
    let described = document["paths"].as_object().expect("paths");
    for (path, item) in described {
        let path = path.replace("{key_id}", &uuid::Uuid::max().to_string());
        for method in ["GET", "PUT", "POST", "DELETE", "PATCH"] {
            let is_described = item.get(method.to_lowercase()).is_some();
            let answer = house.raw(method, &path, &[&login()], "").await;
            assert_eq!(answer.status != 405, is_described, "{method} {path}");
            assert_ne!(answer.json()["detail"], "Not Found", "{method} {path}");
        }
    }
    assert_eq!(described.len(), 14);
}
