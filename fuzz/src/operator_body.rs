//! Any call of the native admin API: what is refused says why, what is accepted is what was sent and in range, and a key as it is shown
//! can be sent back and changes nothing.

use serde_json::{Map, Value, json};

use super::house::{Answer, House, KEYS, line, with, with_query};

/// What an operator may set, and so may send back.
const WRITABLE: [&str; 15] = [
    "name",
    "org_id",
    "team_id",
    "models_allowed",
    "endpoints_allowed",
    "rpm_limit",
    "tpm_limit",
    "max_parallel",
    "quota_limit",
    "quota_reset",
    "allowed_ips",
    "expires_at",
    "is_sandbox",
    "on_disconnect",
    "metadata",
];

/// A key that is not there.
const NOBODY: &str = "00000000-0000-7000-8000-000000000000";

/// The calls that read a query.
const QUERIES: [&str; 6] = [
    "/api/v1/gateway/keys",
    "/api/v1/gateway/usage",
    "/api/v1/gateway/keys/00000000-0000-7000-8000-000000000000/usage",
    "/api/v1/gateway/usage/dashboard",
    "/api/v1/gateway/audit",
    "/api/v1/gateway/models",
];

/// The first byte chooses the call; the lines after it are the query, `If-Match` and `Idempotency-Key`, empty for none; the rest is the
/// body.
pub fn check(input: &[u8]) {
    let [call, rest @ ..] = input else { return };
    let (query, rest) = line(rest);
    let (if_match, rest) = line(rest);
    let (idempotency_key, body) = line(rest);
    let mut headers = Vec::new();
    for (name, value) in [("if-match", if_match), ("idempotency-key", idempotency_key)] {
        headers.extend((!value.is_empty()).then_some((name, value)));
    }
    let sent = Sent { query, headers, body };
    with(|house| match call % 16 {
        0..=3 => create(house, &sent),
        4..=7 => change(house, &sent, "PUT", ""),
        8 => change(house, &sent, "PUT", "/rotate"),
        9 => change(house, &sent, "POST", "/explain"),
        10 => change(house, &sent, ["PUT", "DELETE"][body.len() % 2], ["/disable", ""][body.len() % 2]),
        11 => change(house, &sent, "PUT", ["/enable", "/rotate/end"][body.len() % 2]),
        other => ask(house, &sent, QUERIES[usize::from(*call >> 4).wrapping_add(usize::from(other)) % QUERIES.len()]),
    });
}

/// What comes with a call.
struct Sent<'a> {
    query: &'a [u8],
    headers: Vec<(&'a str, &'a [u8])>,
    body: &'a [u8],
}

impl Sent<'_> {
    fn to(&self, house: &House, method: &str, path: &str) -> Option<Answer> {
        let answer = house.call(method, &with_query(path, self.query)?, &self.headers, self.body)?;
        if !answer.status.is_success() {
            assert_told(&answer);
        }
        Some(answer)
    }

    /// A second reader of the body: its members, the last of a name.
    fn members(&self) -> Map<String, Value> {
        if self.body.is_empty() {
            return Map::new();
        }
        serde_json::from_slice(self.body).expect("accepted, but no JSON object")
    }
}

/// A refusal says why: a sentence, or every fault with its place.
fn assert_told(answer: &Answer) {
    let body = answer.json();
    let is_text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    match (answer.status.as_u16(), &body["detail"]) {
        (422, Value::Array(faults)) => {
            assert!(!faults.is_empty(), "refused for no fault");
            for fault in faults {
                let place =
                    fault["loc"].as_array().and_then(|loc| loc.first()).and_then(Value::as_str).unwrap_or_default();
                assert!(["body", "query", "header", "path"].contains(&place), "{fault}");
                assert!(is_text(&fault["msg"]) && is_text(&fault["type"]), "{fault}");
            }
        }
        (400 | 404 | 409 | 412 | 413 | 415, detail) => assert!(is_text(detail), "{body}"),
        (status, _) => panic!("{status}: {body}"),
    }
}

fn create(house: &House, sent: &Sent) {
    let Some(answer) = sent.to(house, "POST", KEYS) else { return };
    if answer.status != 201 {
        return;
    }
    let key = answer.json();
    let is_repeated = answer.headers.contains_key("idempotent-replayed");
    if sent.headers.iter().any(|(name, _)| *name == "idempotency-key") {
        let again = sent.to(house, "POST", KEYS).expect("the same request");
        assert!(again.body == answer.body && again.headers.contains_key("idempotent-replayed"), "made twice");
    }
    if !is_repeated {
        assert!(key["key"].as_str().is_some_and(|secret| secret.len() >= 8));
        assert_taken(&sent.members(), &key);
        assert_sent_back(house, &key);
        house.remove(key["id"].as_str().unwrap_or_default());
    }
}

/// A call about one key. Only what would be accepted meets one that is there: making one takes time.
fn change(house: &House, sent: &Sent, method: &str, call: &str) {
    let Some(answer) = sent.to(house, method, &format!("{KEYS}/{NOBODY}{call}")) else { return };
    if answer.status != 404 {
        assert!(!answer.status.is_success(), "{} for nobody", answer.status);
        return;
    }
    let before = house.made(&json!({
        "name": "subject", "quota_limit": 1000, "quota_reset": "monthly", "allowed_ips": ["10.0.0.0/8", "::1"],
        "models_allowed": ["gpt-*"], "endpoints_allowed": ["chat"], "expires_at": "2030-01-01T00:00:00.25Z", "metadata": { "a": "b" },
    }));
    let id = before["id"].as_str().expect("an id");
    let answer = sent.to(house, method, &format!("{KEYS}/{id}{call}")).expect("as good a request as before");
    match (answer.status.as_u16(), call) {
        (200, "") => {
            let after = answer.json();
            assert_taken(&sent.members(), &after);
            for name in
                WRITABLE.iter().filter(|name| !sent.members().contains_key(**name) && !name.starts_with("quota"))
            {
                assert_eq!(before[*name], after[*name], "{name} was not sent");
            }
            assert_sent_back(house, &after);
        }
        (200, "/explain") => assert!(answer.json()["checks"].as_array().is_some_and(|checks| !checks.is_empty())),
        (200, _) => assert_sent_back(house, &answer.json()),
        (204, "") => return,
        (412, _) => assert!(sent.headers.iter().any(|(name, _)| *name == "if-match"), "stale without a condition"),
        (409, _) => {}
        (status, _) => panic!("{status} for a key that is there, 404 for one that is not"),
    }
    house.remove(id);
}

/// What was sent is what is shown, and it is in range.
fn assert_taken(sent: &Map<String, Value>, shown: &Value) {
    for (name, value) in sent.iter().filter(|(name, value)| *name != "key" && !value.is_null()) {
        assert!(WRITABLE.contains(&name.as_str()), "{name} was accepted");
        let shown = &shown[name];
        let is_taken = match name.as_str() {
            "rpm_limit" | "tpm_limit" | "max_parallel" | "quota_limit" => value.as_f64() == shown.as_f64(),
            "name" | "org_id" | "team_id" | "is_sandbox" | "on_disconnect" | "metadata" => value == shown,
            "quota_reset" => value == shown || (value == "none" && shown.is_null()),
            "models_allowed" => {
                let (sent, shown) = (value.as_array().expect("a list"), shown.as_array().expect("a list"));
                sent.is_empty() == shown.is_empty() && shown.iter().all(|model| sent.contains(model))
            }
            _ => value.is_array() == shown.is_array() && value.is_string() == shown.is_string(),
        };
        assert!(is_taken, "{name}: {value} was sent, {shown} is shown");
    }
    let within = |name: &str, most: u64| {
        let value = &shown[name];
        assert!(value.is_null() || value.as_u64().is_some_and(|n| (1..=most).contains(&n)), "{name}: {value}");
    };
    within("rpm_limit", 1_000_000_000);
    within("tpm_limit", 10_000_000_000);
    within("max_parallel", 1_000_000);
    within("quota_limit", i64::MAX.unsigned_abs());
    for (name, most) in [("name", 100), ("org_id", 256), ("team_id", 256)] {
        let text = shown[name].as_str().unwrap_or("-");
        let is_good = (1..=most).contains(&text.chars().count()) && !text.contains(char::is_control);
        assert!(is_good, "{name}: {text:?}");
    }
    assert!(shown["metadata"].as_object().is_some_and(|pairs| pairs.len() <= 16));
    for name in ["models_allowed", "endpoints_allowed", "allowed_ips"] {
        assert!(shown[name].as_array().is_some_and(|list| list.len() <= 1_000), "{name}");
    }
}

/// A key as it is shown is a body that is accepted, and it changes nothing.
fn assert_sent_back(house: &House, key: &Value) {
    let id = key["id"].as_str().expect("an id");
    let before = house.shown(id);
    let shown = before.json();
    let body: Map<_, _> = WRITABLE.iter().map(|name| ((*name).to_owned(), shown[*name].clone())).collect();
    let body = Value::Object(body).to_string();
    let path = format!("{KEYS}/{id}");
    let after = house.call("PUT", &path, &[("if-match", before.etag())], body.as_bytes()).expect("a request");
    let text = String::from_utf8_lossy(&after.body);
    assert_eq!(after.status, 200, "{body} was shown and is refused: {text}");
    assert_eq!((after.etag(), after.json()), (before.etag(), shown), "sent back, it changed");
}

/// A question. Where its answer says where the next page begins, that is a place.
fn ask(house: &House, sent: &Sent, path: &str) {
    let sent = Sent { query: sent.query, headers: Vec::new(), body: b"" };
    let Some(answer) = sent.to(house, "GET", path).filter(|answer| answer.status == 200) else { return };
    if let Some(cursor) = answer.json()["next_cursor"].as_str() {
        let next = house.call("GET", &format!("{path}?limit=1&cursor={cursor}"), &[], b"").expect("a request");
        assert_eq!(next.status, 200, "{cursor}");
    }
}
