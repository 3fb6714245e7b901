//! Any call of the admin APIs in the shapes of other vendors: never an accident, always the vendor's own words, and what is made or shown is
//! what was sent.

use serde_json::{Value, json};

use super::house::{APP, Answer, House, KEYS, line, with, with_query};

/// The first byte chooses the call, the first line is its query or what its path ends with, the rest is the body.
pub fn check(input: &[u8]) {
    let [call, rest @ ..] = input else { return };
    let (first, body) = line(rest);
    with(|house| match call % 12 {
        0 => apig_list(house, first),
        1 | 2 => apig_create(house, body),
        3 => drop(apig(house, ["GET", "DELETE"][body.len() % 2], format!("{APP}/{}", text(first)), body)),
        4 => newapi_list(house, "/api/token/", first),
        5 => newapi_list(house, "/api/token/search", first),
        6 | 7 => newapi_create(house, body),
        8 | 9 => newapi_update(house, first, body),
        10 => drop(newapi(house, "POST", "/api/token/batch".to_owned(), &without_ours(body))),
        // Whatever it names, the keys that are always there stay.
        _ => drop(newapi(house, "GET", format!("/api/token/{}", text(first)), body)),
    });
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// An answer of APIG's API: an error has its code and its words.
fn apig(house: &House, method: &str, path: String, body: &[u8]) -> Option<Answer> {
    let answer = house.call(method, &path, &[], body)?;
    // A path of more names, or with an empty one, is no path of this API.
    let names = path.split(['?', '#']).next().unwrap_or_default().strip_prefix(APP).unwrap_or_default();
    let is_known = names.is_empty() || (names.matches('/').count() == 1 && names.len() > 1);
    if !answer.status.is_success() && is_known {
        let told = answer.json();
        let is_told = |name: &str| told[name].as_str().is_some_and(|text| !text.is_empty());
        assert!(is_told("error_code") && is_told("error_msg"), "{}: {told}", answer.status);
    }
    Some(answer)
}

fn apig_list(house: &House, query: &[u8]) {
    let Some(path) = with_query(APP, query) else { return };
    let Some(answer) = apig(house, "GET", path, b"").filter(|answer| answer.status == 200) else { return };
    let page = answer.json();
    let keys = page["ai_api_keys"].as_array().expect("keys");
    assert_eq!(page["size"], keys.len());
    assert!(page["total"].as_u64().is_some_and(|total| keys.len() as u64 <= total));
    for key in keys {
        assert!(key["ai_api_key"].as_str().is_some_and(|secret| secret.contains("*******")), "a secret is shown");
    }
}

fn apig_create(house: &House, body: &[u8]) {
    let Some(answer) = apig(house, "POST", APP.to_owned(), body).filter(|answer| answer.status.is_success()) else {
        return;
    };
    let sent = if body.is_empty() { json!({}) } else { serde_json::from_slice(body).expect("accepted, but no JSON") };
    let made = answer.json();
    for name in ["alias", "ai_api_key"] {
        assert!(sent[name].is_null() || sent[name] == made[name], "{name}: {} became {}", sent[name], made[name]);
    }
    let one = format!("{APP}/{}", made["id"].as_str().expect("an id"));
    let shown = apig(house, "GET", one.clone(), b"").expect("a request");
    assert_eq!((shown.status.as_u16(), &shown.json()["alias"]), (200, &made["alias"]));
    assert_eq!(apig(house, "DELETE", one, b"").expect("a request").status, 204);
}

/// An answer of new-api's API: it says whether it went well, and if it did not, why.
fn newapi(house: &House, method: &str, path: String, body: &[u8]) -> Option<Value> {
    let answer = house.call(method, &path, &[], body)?;
    // A path of more names than one is another API's.
    if answer.status != 200 {
        assert!(matches!(answer.status.as_u16(), 404 | 405), "{} to {method} {path}", answer.status);
        return None;
    }
    let answer = answer.json();
    let message = answer["message"].as_str().expect("a message");
    assert_eq!(answer["success"].as_bool().expect("whether it went well"), message.is_empty(), "{answer}");
    Some(answer)
}

fn newapi_list(house: &House, path: &str, query: &[u8]) {
    let Some(answer) = with_query(path, query).and_then(|path| newapi(house, "GET", path, b"")) else { return };
    if answer["success"] == false {
        return;
    }
    let page = &answer["data"];
    let (number, size) = (page["page"].as_i64().expect("a page"), page["page_size"].as_u64().expect("its size"));
    let tokens = page["items"].as_array().expect("tokens");
    assert!(number >= 1 && (1..=100).contains(&size) && tokens.len() as u64 <= size, "{number}, {size}");
    for token in tokens {
        assert!(token["key"].as_str().is_some_and(|secret| secret.contains("**********")), "a secret is shown");
    }
}

fn newapi_create(house: &House, body: &[u8]) {
    let Some(answer) = newapi(house, "POST", "/api/token/".to_owned(), body) else { return };
    let token = &answer["data"];
    if answer["success"] == true {
        let sent: Value = serde_json::from_slice(body).expect("accepted, but no JSON");
        for name in ["name", "remain_quota", "unlimited_quota", "model_limits_enabled", "group", "cross_group_retry"] {
            assert!(sent[name].is_null() || sent[name] == token[name], "{name}: {} became {}", sent[name], token[name]);
        }
        let newest = house.call("GET", &format!("{KEYS}?limit=1"), &[], b"").expect("a request").json();
        let id = newest["items"][0]["id"].as_str().expect("an id");
        assert_sent_back(house, token, id);
        house.remove(id);
    }
}

/// A change of a token made for it, whatever number the body has.
fn newapi_update(house: &House, query: &[u8], body: &[u8]) {
    let Some(path) = with_query("/api/token/", query) else { return };
    // A body that would be refused is refused for nobody's token too, before one is made.
    let Some(mut sent) = serde_json::from_slice::<Value>(body).ok().filter(Value::is_object) else {
        let refused = newapi(house, "PUT", path, body);
        assert!(refused.is_none_or(|answer| answer["success"] == false));
        return;
    };
    sent["id"] = json!(i64::MAX);
    let for_nobody = newapi(house, "PUT", path.clone(), sent.to_string().as_bytes());
    if for_nobody.is_none_or(|answer| answer["message"] != "record not found") {
        return;
    }
    let made = house.made(&json!({
        "name": "a name that is longer than the fifty bytes of that family",
        "quota_limit": 1000, "quota_reset": "weekly", "models_allowed": ["gpt-*"], "expires_at": "2030-01-01T00:00:00.25Z",
    }));
    let id = made["id"].as_str().expect("an id");
    let list = newapi(house, "GET", "/api/token/?page_size=1".to_owned(), b"").expect("a list");
    let token = &list["data"]["items"][0];
    // It has more than that family knows, which stays.
    assert_sent_back(house, token, id);
    sent["id"] = token["id"].clone();
    let answer = newapi(house, "PUT", path, sent.to_string().as_bytes()).expect("as good a request as before");
    if answer["success"] == true {
        assert_sent_back(house, &answer["data"], id);
    }
    house.remove(id);
}

/// A token as it is shown can be sent back, and nothing changes, nor of what only the native API shows of the key `id`.
fn assert_sent_back(house: &House, token: &Value, id: &str) {
    let path = format!("/api/token/{}", token["id"]);
    let key = house.shown(id);
    let before = newapi(house, "GET", path, b"").expect("an answer")["data"].clone();
    let after = newapi(house, "PUT", "/api/token/".to_owned(), before.to_string().as_bytes()).expect("an answer");
    assert_eq!((&after["success"], &after["data"]), (&json!(true), &before), "sent back, it changed: {after}");
    let again = house.shown(id);
    assert_eq!((again.etag(), again.json()), (key.etag(), key.json()), "sent back, it changed");
}

/// The body of a batch without the first numbers, which the keys that are always there have.
fn without_ours(body: &[u8]) -> Vec<u8> {
    let Ok(mut batch) = serde_json::from_slice::<Value>(body) else { return body.to_vec() };
    if let Some(ids) = batch.get_mut("ids").and_then(Value::as_array_mut) {
        ids.retain(|id| !id.as_i64().is_some_and(|id| (1..=STANDING).contains(&id)));
    }
    batch.to_string().into_bytes()
}

/// Numbers that may be those of standing keys.
const STANDING: i64 = 3;
