//! Tokens of the new-api family: the page's request as printed, and what is around it.

use serde_json::{Value, json};

use super::shape::Shape;
use super::{BOUND, OPS, READER, call, native, newapi, start, status_of};
use crate::harness::Client;
use crate::harness::program::Running;

/// Makes a token: its id and its secret.
async fn made(program: &Running, body: Value) -> (i64, String) {
    let answer = newapi(program, "POST /api/token/", &body.to_string()).await;
    assert_eq!(answer["success"], true, "{answer}");
    let token = &answer["data"];
    (token["id"].as_i64().expect("an id"), token["key"].as_str().expect("a key").to_owned())
}

/// The token as it is shown.
async fn token(program: &Running, id: i64) -> Value {
    newapi(program, &format!("GET /api/token/{id}"), "").await["data"].clone()
}

/// What a call that does not go well says.
async fn said(program: &Running, line: &str, body: &str) -> String {
    let answer = newapi(program, line, body).await;
    assert_eq!((&answer["success"], answer.get("data")), (&json!(false), None), "{line}: {answer}");
    answer["message"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn the_page_s_request_is_answered_in_the_page_s_shape() {
    let program = start("").await;
    let (id, secret) = made(&program, json!({"name": "production", "remain_quota": 100_000, "expired_time": -1})).await;
    assert_eq!(status_of(&program, &secret, "gpt-4o").await, 200, "the very next request");
    let answer = call(program.admin, "GET /api/token/?p=1&page_size=20", &[("authorization", OPS)], "").await;
    // The key of the file is in the list too.
    let whole = answer.json();
    let mut ours = whole.clone();
    assert_eq!((&whole["data"]["page"], &whole["data"]["page_size"]), (&json!(1), &json!(20)));
    ours["data"]["items"].as_array_mut().expect("items").retain(|item| item["name"] == "production");
    assert_eq!((&ours["data"]["items"][0]["id"], &ours["data"]["items"][0]["status"]), (&json!(id), &json!(1)));
    assert_eq!(Shape::of(&answer.text()), Shape::of_vendor("cometapi-list-tokens"), "{}", answer.text());
    let mask = ours["data"]["items"][0]["key"].as_str().expect("a mask").to_owned();
    assert_eq!(mask, format!("{}**********{}", &secret[..4], &secret[secret.len() - 4..]));
}

#[tokio::test]
async fn pages_are_always_ones_there_can_be_and_the_newest_is_first() {
    let program = start("").await;
    for n in 0..25 {
        made(&program, json!({"name": format!("k{n}"), "unlimited_quota": true})).await;
    }
    for (query, page, size, count) in [
        ("", 1, 20, 20),
        ("?p=0&page_size=1000", 1, 100, 26),
        ("?p=-1&page_size=-1", 1, 20, 20),
        ("?p=abc&page_size=abc", 1, 20, 20),
        ("?p=2&ps=10", 2, 10, 10),
        ("?p=3&size=10", 3, 10, 6),
        ("?p=9223372036854775807&page_size=100", i64::MAX, 100, 0),
    ] {
        for path in ["/api/token", "/api/token/"] {
            let data = newapi(&program, &format!("GET {path}{query}"), "").await["data"].clone();
            let told = (&data["page"], &data["page_size"], &data["total"]);
            assert_eq!(told, (&json!(page), &json!(size), &json!(26)), "{path}{query}");
            let items = data["items"].as_array().expect("items");
            assert_eq!(items.len(), count, "{path}{query}");
            assert!(items.is_sorted_by(|a, b| a["id"].as_i64() > b["id"].as_i64()), "{path}{query}");
        }
    }
}

#[tokio::test]
async fn tokens_are_searched_by_name_and_by_secret() {
    let program = start("").await;
    let (id, secret) = made(&program, json!({"name": "alpha_1", "unlimited_quota": true})).await;
    made(&program, json!({"name": "alphabet", "unlimited_quota": true})).await;
    let found = async |query: &str| {
        let data = newapi(&program, &format!("GET /api/token/search?{query}"), "").await["data"].clone();
        let names = data["items"]
            .as_array()
            .expect("items")
            .iter()
            .map(|item| item["name"].as_str().unwrap_or_default().to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(found("keyword=alpha_1").await, ["alpha_1"]);
    assert_eq!(found("keyword=alpha").await, Vec::<String>::new(), "exact without a pattern");
    assert_eq!(found("keyword=alpha%25").await, ["alphabet", "alpha_1"]);
    assert_eq!(found("keyword=%25pha_%25").await, ["alpha_1"], "an underscore is one");
    assert_eq!(found(&format!("token={secret}")).await, ["alpha_1"]);
    assert_eq!(found(&format!("token={}%25", &secret[..10])).await, ["alpha_1"]);
    assert_eq!(found("token=nobody-has-this").await, Vec::<String>::new());
    assert_eq!(found("keyword=&token=").await.len(), 3);
    for (query, part) in [
        ("keyword=a%25%25b", "连续"),
        ("keyword=%25a%25b%25", "2 个 %"),
        ("keyword=%25a", "至少"),
        ("token=ab%25cd", "first characters"),
    ] {
        assert!(said(&program, &format!("GET /api/token/search?{query}"), "").await.contains(part), "{query}");
    }
    assert_eq!(token(&program, id).await["name"], "alpha_1");
}

#[tokio::test]
async fn an_update_zeroes_what_it_leaves_out_and_leaves_the_status_alone() {
    let program = start("").await;
    let body = json!({"name": "a", "remain_quota": 1_000_000, "model_limits_enabled": true, "model_limits": "gpt-4o", "allow_ips": "127.0.0.1"});
    let (id, secret) = made(&program, body).await;
    assert_eq!(status_of(&program, &secret, "o3").await, 403);
    let disabled =
        newapi(&program, "PUT /api/token/?status_only=true", &json!({"id": id, "status": 2}).to_string()).await;
    assert_eq!((&disabled["data"]["status"], &disabled["data"]["name"]), (&json!(2), &json!("a")));
    assert_eq!(status_of(&program, &secret, "gpt-4o").await, 401, "the very next request");
    let body = json!({"id": id, "name": "b", "status": 1, "expired_time": -1, "unlimited_quota": true}).to_string();
    let updated = newapi(&program, "PUT /api/token/", &body).await["data"].clone();
    assert_eq!(
        (&updated["name"], &updated["status"], &updated["unlimited_quota"]),
        (&json!("b"), &json!(2), &json!(true))
    );
    assert_eq!(
        (&updated["model_limits"], &updated["allow_ips"], &updated["remain_quota"]),
        (&json!(""), &Value::Null, &json!(0))
    );
    let enable = json!({"id": id, "status": 1}).to_string();
    assert_eq!(newapi(&program, "PUT /api/token?status_only=1", &enable).await["data"]["status"], 1);
    assert_eq!(status_of(&program, &secret, "o3").await, 200, "the very next request");

    let zeroed = newapi(&program, "PUT /api/token/", &json!({"id": id, "name": "b"}).to_string()).await["data"].clone();
    assert_eq!((&zeroed["expired_time"], &zeroed["status"]), (&json!(0), &json!(3)), "0 is long ago");
    let line = "PUT /api/token/?status_only=true";
    assert!(said(&program, line, &enable).await.starts_with("Token has expired and cannot be enabled"));
    let body = json!({"id": id, "name": "b", "expired_time": -1, "remain_quota": 0}).to_string();
    let spent = newapi(&program, "PUT /api/token/", &body).await["data"].clone();
    assert_eq!((&spent["status"], &spent["remain_quota"]), (&json!(4), &json!(0)));
    assert!(said(&program, line, &enable).await.starts_with("Token quota is exhausted and cannot be enabled"));
    assert_eq!(
        said(&program, line, &json!({"id": id, "status": 4}).to_string()).await,
        "Invalid parameters: status: expected 1 or 2"
    );
}

#[tokio::test]
async fn a_token_with_nothing_left_and_nothing_used_is_exhausted_at_once_and_one_with_units_counts_them() {
    let program = start("").await;
    let (id, secret) = made(&program, json!({"name": "empty"})).await;
    assert_eq!(token(&program, id).await["status"], 4);
    assert_eq!(status_of(&program, &secret, "gpt-4o").await, 429);
    let (id, secret) = made(&program, json!({"name": "full", "remain_quota": 1_000_000})).await;
    assert_eq!(status_of(&program, &secret, "gpt-4o").await, 200);
    let shown = token(&program, id).await;
    let (remain, used) = (shown["remain_quota"].as_i64().expect("units"), shown["used_quota"].as_i64().expect("units"));
    assert!(used > 0 && remain + used == 1_000_000, "{shown}");
    let usage = Client::once(program.data, &crate::harness::get("/api/usage/token/", &secret)).await;
    assert_eq!(usage.status, 200);
    let expected = json!({"code": true, "message": "ok", "data": {
        "object": "token_usage", "name": "full", "total_granted": 1_000_000, "total_used": used, "total_available": remain,
        "unlimited_quota": false, "model_limits": {}, "model_limits_enabled": false, "expires_at": 0}});
    assert_eq!(usage.json(), expected);
    assert_eq!(
        Client::once(program.data, &crate::harness::get("/api/usage/token", "nobody-has-this")).await.status,
        401
    );
}

#[tokio::test]
async fn tokens_are_deleted_one_by_one_and_in_a_batch_that_counts() {
    let program = start("").await;
    let mut tokens = Vec::new();
    for name in ["a", "b", "c"] {
        tokens.push(made(&program, json!({"name": name, "unlimited_quota": true})).await);
    }
    let line = format!("DELETE /api/token/{}", tokens[0].0);
    assert_eq!(newapi(&program, &line, "").await, json!({"success": true, "message": ""}));
    assert_eq!(status_of(&program, &tokens[0].1, "gpt-4o").await, 401, "the very next request");
    assert_eq!(said(&program, &line, "").await, "record not found");
    assert_eq!(said(&program, "DELETE /api/token/0", "").await, "record not found");
    let filed = newapi(&program, "GET /api/token/search?keyword=filed", "").await["data"]["items"][0]["id"].clone();
    let ids = json!({"ids": [tokens[0].0, tokens[1].0, tokens[1].0, tokens[2].0, 999_999, -1, filed]}).to_string();
    assert_eq!(
        newapi(&program, "POST /api/token/batch", &ids).await,
        json!({"success": true, "message": "", "data": 2})
    );
    assert_eq!(status_of(&program, &tokens[2].1, "gpt-4o").await, 401);
    for body in [r#"{"ids":[]}"#, "{}", "[]"] {
        assert!(said(&program, "POST /api/token/batch", body).await.starts_with("Invalid parameters"), "{body}");
    }
    let many = json!({"ids": (1..=101).collect::<Vec<_>>()}).to_string();
    assert!(said(&program, "POST /api/token/batch", &many).await.contains("maximum is 100"));
    assert_eq!(
        said(&program, &format!("DELETE /api/token/{filed}"), "").await,
        "The key is declared in the key file and can be changed only there"
    );
}

#[tokio::test]
async fn only_bad_authentication_has_a_status_of_its_own() {
    let program = start("").await;
    let status = async |headers: &[(&str, &str)], line: &str, body: &str| {
        let answer = call(program.admin, line, headers, body).await;
        assert_eq!(answer.json()["success"], answer.status == 200, "{line}");
        answer.status
    };
    let list = "GET /api/token/";
    let bearer = format!("Bearer {OPS}");
    assert_eq!(status(&[("authorization", OPS)], list, "").await, 200);
    assert_eq!(status(&[("authorization", &bearer)], list, "").await, 200);
    assert_eq!(status(&[], list, "").await, 401);
    assert_eq!(status(&[("authorization", "wrong")], list, "").await, 401);
    assert_eq!(status(&[("authorization", READER)], list, "").await, 200);
    assert_eq!(status(&[("authorization", READER)], "POST /api/token/", r#"{"name":"a"}"#).await, 403);
    assert_eq!(status(&[("authorization", OPS), ("origin", "https://elsewhere")], list, "").await, 403);
    let (id, _) = made(&program, json!({"name": "elsewhere", "unlimited_quota": true})).await;
    let bound = [("authorization", BOUND)];
    let hidden = call(program.admin, &format!("GET /api/token/{id}"), &bound, "").await.json();
    assert_eq!(hidden, json!({"success": false, "message": "record not found"}));
    let total = call(program.admin, list, &bound, "").await.json()["data"]["total"].clone();
    assert_eq!(total, 0);
    assert_eq!(said(&program, "GET /api/token/abc", "").await, "Invalid ID");
    assert_eq!(said(&program, "PUT /api/token/", r#"{"name":"a"}"#).await, "ID is empty!");
    assert_eq!(said(&program, "PUT /api/token/", r#"{"id":999999,"name":"a"}"#).await, "record not found");
}

#[tokio::test]
async fn the_answer_to_a_new_token_may_be_without_data_and_a_reload_changes_that() {
    let program = start("[admin.newapi]\ncreate_returns_data = false").await;
    let body = json!({"name": "quiet", "unlimited_quota": true}).to_string();
    assert_eq!(newapi(&program, "POST /api/token/", &body).await, json!({"success": true, "message": ""}));
    let text = std::fs::read_to_string(program.path("keyward.toml")).expect("the file");
    program.write("keyward.toml", &text.replace("create_returns_data = false", "create_returns_data = true"));
    let reload = "POST /api/v1/gateway/config/reload";
    let bearer = format!("Bearer {OPS}");
    let verdict = call(program.admin, reload, &[("authorization", &bearer)], "").await;
    assert_eq!(verdict.json()["applied"], true, "{}", verdict.text());
    assert!(newapi(&program, "POST /api/token/", &body).await["data"]["key"].is_string());
    assert_eq!(native(&program, "GET /?name=quiet", "").await.json()["total"], 2);
}
