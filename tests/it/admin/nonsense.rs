//! Whatever is sent to the two dialects: no answer is an accident of ours.

use serde_json::{Value, json};

use super::{APP, OPS, READER, call, start};
use crate::harness::dice::Dice;

/// Calls made.
const CALLS: usize = 1_500;

/// What stands in paths and queries; encoded, since nothing else arrives.
const PIECES: [&str; 20] = [
    "",
    "0",
    "-1",
    "1",
    "2",
    "9223372036854775807",
    "99999999999999999999",
    "1e9",
    "abc",
    "%25",
    "%00",
    "%ff",
    "a%2Fb",
    "%2e%2e",
    "null",
    "%E5%90%8D",
    "'%3B--",
    "a%25b%25",
    "32dc8ca22d1b4b9cb94022186880576b",
    "01999f2e-3f6c-7c3a-9d55-2f1f6f0f9a11",
];

const MEMBERS: [&str; 14] = [
    "id",
    "ids",
    "name",
    "status",
    "expired_time",
    "remain_quota",
    "unlimited_quota",
    "model_limits_enabled",
    "model_limits",
    "allow_ips",
    "group",
    "cross_group_retry",
    "alias",
    "ai_api_key",
];

fn value(dice: &mut Dice) -> Value {
    let values = [
        Value::Null,
        json!(true),
        json!(false),
        json!(0),
        json!(1),
        json!(2),
        json!(-1),
        json!(i64::MAX),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(1.5),
        json!(""),
        json!("a"),
        json!("a-secret-that-is-chosen"),
        json!("gpt-4o,*"),
        json!("10.0.0.0/8\n::1"),
        json!("\u{0}"),
        json!("x".repeat(300)),
        json!([]),
        json!([1, 2, -1]),
        json!(["a"]),
        json!({}),
    ];
    dice.one_of(&values).clone()
}

fn body(dice: &mut Dice) -> String {
    match dice.below(8) {
        0 => String::new(),
        1 => (*dice.one_of(&["[]", "null", "{", "\"", "{\"a\":1,\"a\":2}", "\u{feff}{}", "1e999", "nul"])).to_owned(),
        _ => {
            let count = dice.below(8);
            let members = (0..count).map(|_| ((*dice.one_of(&MEMBERS)).to_owned(), value(dice)));
            Value::Object(members.collect()).to_string()
        }
    }
}

fn target(dice: &mut Dice) -> String {
    let piece = |dice: &mut Dice| *dice.one_of(&PIECES);
    let path = match dice.below(10) {
        0 | 1 => "/api/token/".to_owned(),
        2 | 3 => format!("/api/token/{}", piece(dice)),
        4 => "/api/token/search".to_owned(),
        5 => "/api/token/batch".to_owned(),
        6 => format!("/v2/{}/apigw/instances/{}/apps/{}/ai-api-keys", piece(dice), piece(dice), piece(dice)),
        7 => format!("/v2/p/apigw/instances/i/apps/{APP}/ai-api-keys"),
        _ => format!("/v2/p/apigw/instances/i/apps/{APP}/ai-api-keys/{}", piece(dice)),
    };
    let names = ["p", "page_size", "ps", "size", "offset", "limit", "keyword", "token", "status_only", "unknown"];
    let count = dice.below(4);
    let query = (0..count).map(|_| format!("{}={}", dice.one_of(&names), piece(dice))).collect::<Vec<_>>();
    if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) }
}

#[tokio::test]
async fn no_call_is_answered_with_an_accident() {
    let program = start("").await;
    let mut dice = Dice::new(11);
    let mut met = std::collections::BTreeMap::new();
    for _ in 0..CALLS {
        let method = *dice.one_of(&["GET", "GET", "POST", "POST", "PUT", "DELETE", "PATCH"]);
        let line = format!("{method} {}", target(&mut dice));
        let token = *dice.one_of(&[OPS, OPS, OPS, OPS, OPS, OPS, READER, "wrong"]);
        let body = body(&mut dice);
        let answer = call(program.admin, &line, &[("authorization", token), ("x-auth-token", token)], &body).await;
        assert!(answer.status < 500 && answer.is_whole, "{line} {body}: {}", answer.text());
        if answer.status != 204 {
            assert!(serde_json::from_slice::<Value>(&answer.body).is_ok(), "{line} {body}: {}", answer.text());
        }
        *met.entry(answer.status).or_insert(0_usize) += 1;
    }
    assert!([200, 400, 401, 403, 404, 405].iter().all(|status| met.contains_key(status)), "{met:?}");
    assert!(!program.log().contains("panicked"), "{}", program.log());
}
