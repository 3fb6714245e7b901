//! Huawei APIG's AI API keys: the page's requests as printed, and what is around them.

use serde_json::{Value, json};

use super::shape::Shape;
use super::{APP, BOUND, OPS, READER, apig, call, start, status_of};

#[tokio::test]
async fn the_page_s_request_is_answered_in_the_page_s_shape() {
    let program = start("").await;
    for alias in ["test2", "test1"] {
        let made = apig(&program, "POST", "", &format!(r#"{{"alias":"{alias}"}}"#)).await;
        assert_eq!(made.status, 200, "{}", made.text());
        let secret = made.json()["ai_api_key"].as_str().expect("a secret").to_owned();
        assert_eq!(status_of(&program, &secret, "gpt-4o").await, 200, "the very next request");
    }
    let list = apig(&program, "GET", "", "").await;
    assert_eq!(list.status, 200);
    assert_eq!(Shape::of(&list.text()), Shape::of_vendor("apig-list-ai-api-keys"), "{}", list.text());
    let list = list.json();
    assert_eq!((&list["total"], &list["size"]), (&json!(2), &json!(2)));
    let item = &list["ai_api_keys"][0];
    assert_eq!((&item["alias"], &item["app_id"]), (&json!("test1"), &json!(APP)), "newest first");
    let masked = item["ai_api_key"].as_str().expect("a mask");
    assert!(masked.len() == 27 && masked.get(12..19) == Some("*******"), "{masked}");
    let (id, at) = (item["id"].as_str().expect("an id"), item["create_time"].as_str().expect("a time"));
    assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
    assert!(at.len() == 20 && at.ends_with('Z'), "{at}");
}

#[tokio::test]
async fn pages_are_always_ones_there_can_be() {
    let program = start("").await;
    for n in 0..25 {
        assert_eq!(apig(&program, "POST", "", &format!(r#"{{"alias":"k{n}"}}"#)).await.status, 200);
    }
    for (query, size, first) in [
        ("", 20, "k24"),
        ("?offset=-1", 20, "k24"),
        ("?limit=0", 20, "k24"),
        ("?limit=-7", 20, "k24"),
        ("?limit=501", 25, "k24"),
        ("?limit=500&offset=24", 1, "k0"),
        ("?offset=3&limit=2", 2, "k21"),
    ] {
        let list = apig(&program, "GET", query, "").await.json();
        assert_eq!((&list["total"], &list["size"]), (&json!(25), &json!(size)), "{query}");
        assert_eq!(list["ai_api_keys"].as_array().map(Vec::len), Some(size), "{query}");
        assert_eq!(list["ai_api_keys"][0]["alias"], first, "{query}");
    }
    for (query, size) in [("?offset=25", 0), ("?offset=9223372036854775807", 0)] {
        assert_eq!(apig(&program, "GET", query, "").await.json()["size"], size, "{query}");
    }
    for (query, parameter) in [("?limit=abc", "limit"), ("?offset=1.5", "offset"), ("?limit=", "limit")] {
        let refused = apig(&program, "GET", query, "").await;
        assert_eq!(refused.status, 400, "{query}");
        assert!(refused.text().contains(&format!("parameterName:{parameter}.")), "{}", refused.text());
    }
}

#[tokio::test]
async fn a_key_is_made_with_what_was_chosen_shown_masked_and_deleted() {
    let program = start("").await;
    let chosen = "fdc8d90a30121234567813b6f572a123";
    let made = apig(&program, "POST", "", &format!(r#"{{"ai_api_key":"{chosen}","alias":"a_B-1"}}"#)).await;
    assert_eq!((made.status, &made.json()["ai_api_key"]), (200, &json!(chosen)));
    let id = made.json()["id"].as_str().expect("an id").to_owned();
    let shown = apig(&program, "GET", &format!("/{id}"), "").await.json();
    assert_eq!(shown["ai_api_key"], "fdc8d90a3012*******f572a123");
    assert_eq!(status_of(&program, chosen, "gpt-4o").await, 200);
    let short = apig(&program, "POST", "", r#"{"ai_api_key":"12345678"}"#).await.json();
    let short = apig(&program, "GET", &format!("/{}", short["id"].as_str().expect("an id")), "").await.json();
    assert_eq!(short["ai_api_key"], "12*******78");
    assert!(!short["alias"].as_str().unwrap_or_default().is_empty());

    let gone = apig(&program, "DELETE", &format!("/{id}"), "").await;
    assert_eq!((gone.status, gone.body.len()), (204, 0));
    assert_eq!(status_of(&program, chosen, "gpt-4o").await, 401, "the very next request");
    for (method, id) in [("GET", id.as_str()), ("DELETE", &id), ("GET", "not-an-id"), ("DELETE", "%00")] {
        let refused = apig(&program, method, &format!("/{id}"), "").await;
        assert_eq!((refused.status, &refused.json()["error_code"]), (404, &json!("APIG.3004")), "{method} {id}");
    }
    let taken = apig(&program, "POST", "", r#"{"ai_api_key":"12345678"}"#).await;
    assert_eq!((taken.status, taken.text().contains("parameterName:ai_api_key.")), (400, true));
    for secret in ["short", "has a space", &"x".repeat(129)] {
        let refused = apig(&program, "POST", "", &json!({ "ai_api_key": secret }).to_string()).await;
        assert!(refused.status == 400 && !refused.text().contains(secret), "{}", refused.text());
    }
}

#[tokio::test]
async fn errors_are_the_printed_ones() {
    let program = start("").await;
    let keys = |app: &str| format!("/v2/p/apigw/instances/i/apps/{app}/ai-api-keys");
    let wrong = [("x-auth-token", "wrong")];
    let reader = [("x-auth-token", READER)];
    let ops = [("x-auth-token", OPS)];
    let unknown = "9ed8b7fe84224de681e7d7a5587e76dd";
    for (line, headers, body, printed) in [
        (format!("GET {}", keys(APP)), &[][..], "", 401),
        (format!("GET {}", keys(APP)), &wrong, "", 401),
        (format!("POST {}", keys(APP)), &reader, "{}", 403),
        (format!("GET {}", keys("a%20b")), &ops, "", 400),
        (format!("GET {}", keys(unknown)), &ops, "", 404),
    ] {
        let answer = call(program.admin, &line, headers, body).await;
        assert_eq!(answer.status, printed, "{line}: {}", answer.text());
        let name = format!("apig-error-{printed}");
        assert_eq!(Shape::of(&answer.text()), Shape::of_vendor(&name), "{line}");
        let path = format!("{}/tests/golden/vendor/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let expected: Value = serde_json::from_str(&std::fs::read_to_string(path).expect("a file")).expect("JSON");
        let expected = expected["error_msg"].as_str().unwrap_or_default().replace(APP, unknown);
        assert_eq!(answer.json()["error_msg"], expected, "{line}");
    }
    let two = [("x-auth-token", OPS), ("x-auth-token", OPS)];
    assert_eq!(call(program.admin, &format!("GET {}", keys(APP)), &two, "").await.status, 401);
    let page = [("x-auth-token", OPS), ("origin", "https://elsewhere")];
    assert_eq!(call(program.admin, &format!("GET {}", keys(APP)), &page, "").await.status, 403);
    let large = format!(r#"{{"alias":"{}"}}"#, "a".repeat(1 << 20));
    assert_eq!(apig(&program, "POST", "", &large).await.status, 413);
    assert_eq!(apig(&program, "PATCH", "", "{}").await.status, 405);
}

#[tokio::test]
async fn an_operator_of_one_application_sees_no_other() {
    let program = start("").await;
    let bound = [("x-auth-token", BOUND)];
    let keys = |app: &str| format!("/v2/p/apigw/instances/i/apps/{app}/ai-api-keys");
    assert_eq!(call(program.admin, &format!("POST {}", keys(APP)), &bound, "{}").await.status, 200);
    let other = call(program.admin, &format!("POST {}", keys("other")), &[("x-auth-token", OPS)], "{}").await.json();
    let id = other["id"].as_str().expect("an id").to_owned();
    for line in
        [format!("GET {}", keys("other")), format!("DELETE {}/{id}", keys("other")), format!("GET {}/{id}", keys(APP))]
    {
        assert_eq!(call(program.admin, &line, &bound, "").await.status, 404, "{line}");
    }
    assert_eq!(call(program.admin, &format!("POST {}", keys("other")), &bound, "{}").await.status, 404);
    // Nor does any key of another application belong to this one.
    for method in ["GET", "DELETE"] {
        assert_eq!(apig(&program, method, &format!("/{id}"), "").await.status, 404, "{method}");
    }
    // An application that is not listed is there once it has a key.
    let fresh = "fresh";
    let body = json!({"name": "n", "org_id": format!("apig/p/i/{fresh}")}).to_string();
    let ops = [("x-auth-token", OPS)];
    assert_eq!(call(program.admin, &format!("GET {}", keys(fresh)), &ops, "").await.status, 404);
    assert_eq!(super::native(&program, "POST /", &body).await.status, 201);
    let list = call(program.admin, &format!("GET {}", keys(fresh)), &ops, "").await.json();
    assert_eq!((&list["total"], &list["ai_api_keys"][0]["alias"]), (&json!(1), &json!("n")));
}
