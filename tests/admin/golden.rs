//! AIone's own page against what is answered: names, order, types.

use serde_json::{Value, json};

use crate::house::{House, WRITER};

/// As the page prints it.
const SAMPLE: &str = r#"{
    "items": [
        {
            "id": "497f6eca-6276-4993-bfeb-53cbbbba6f08",
            "org_id": "a40f5d1f-d889-42e9-94ea-b9b33585fc6b",
            "team_id": "810007d0-bec5-486c-b5d1-28fcd8a079ba",
            "name": "string",
            "key": "string",
            "key_prefix": "string",
            "models_allowed": [
                "string"
            ],
            "rpm_limit": 0,
            "tpm_limit": 0,
            "is_sandbox": true,
            "allowed_ips": [
                "string"
            ],
            "expires_at": "2019-08-24T14:15:22.123Z",
            "rotate_grace_until": "2019-08-24T14:15:22.123Z",
            "status": "string",
            "created_at": "string"
        }
    ],
    "total": 0
}"#;

/// The names of the members of the first object after `from`, in the order they stand in the text.
fn names_in_order(text: &str, names: &[&str]) -> bool {
    let places: Vec<_> = names.iter().map(|name| text.find(&format!("\"{name}\":"))).collect();
    places.iter().all(Option::is_some) && places.is_sorted()
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[tokio::test]
async fn the_printed_request_is_answered_in_the_printed_shape() {
    let house = House::start().await;
    house.clock.advance_ns(123_000_000);
    let full = json!({
        "name": "string", "org_id": "a40f5d1f-d889-42e9-94ea-b9b33585fc6b", "team_id": "810007d0-bec5-486c-b5d1-28fcd8a079ba",
        "models_allowed": ["string"], "rpm_limit": 1, "tpm_limit": 1, "is_sandbox": true, "allowed_ips": ["10.0.0.1"],
        "expires_at": "2029-08-24T14:15:22.123Z",
    });
    let made = house.made(full).await;
    house.call("PUT", &format!("keys/{}/rotate", made["id"].as_str().expect("an id")), None).await;
    // curl --location --request GET '/api/v1/gateway/keys' --header 'Authorization: Bearer <token>'
    let login = format!("Authorization: Bearer {WRITER}");
    let answer = house.raw("GET", "/api/v1/gateway/keys", &[&login], "").await;
    assert_eq!((answer.status, answer.header("content-type").as_deref()), (200, Some("application/json")));
    let (ours, theirs): (Value, Value) = (answer.json(), serde_json::from_str(SAMPLE).expect("JSON"));
    let sample = theirs["items"][0].as_object().expect("a key");
    // The page's own text gives the order; a map may not keep it.
    let order = [
        "id",
        "org_id",
        "team_id",
        "name",
        "key",
        "key_prefix",
        "models_allowed",
        "rpm_limit",
        "tpm_limit",
        "is_sandbox",
        "allowed_ips",
        "expires_at",
        "rotate_grace_until",
        "status",
        "created_at",
    ];
    assert!(names_in_order(SAMPLE, &order) && sample.len() == order.len());
    assert!(names_in_order(&answer.text(), &order), "{}", answer.text());
    assert!(names_in_order(&answer.text(), &["items", "total"]));
    let key = &ours["items"][0];
    for (name, value) in sample {
        let is_hidden = name == "key";
        assert_eq!(kind(&key[name]), if is_hidden { "null" } else { kind(value) }, "{name}");
    }
    assert_eq!(kind(&made["key"]), "string");
    assert_eq!(made["created_at"], "2026-01-01T00:00:00.123Z");
    assert_eq!(made["expires_at"], "2029-08-24T14:15:22.123Z");
    let first_ours = answer.text().find("\"endpoints_allowed\"").expect("ours come after theirs");
    assert!(first_ours > answer.text().find("\"created_at\"").expect("theirs"));
}
