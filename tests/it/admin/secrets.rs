//! No secret is told twice: whatever is done with it through the two dialects, it is in no log, metric, audit or file.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::{OPS, READER, apig, call, newapi, start, status_of};

/// Every file below `folder` with its bytes.
fn files(folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        match entry.path() {
            path if path.is_dir() => files(&path, found),
            path => found.push((path.display().to_string(), fs::read(&path).expect("a file"))),
        }
    }
}

#[tokio::test]
async fn a_secret_is_shown_to_whom_it_belongs_and_is_nowhere_else() {
    let program = start("").await;
    let chosen = "canary-chosen-secret-4711";
    let never = "canary bad secret with spaces 4712";
    assert_eq!(apig(&program, "POST", "", &json!({ "ai_api_key": chosen }).to_string()).await.status, 200);
    let made = newapi(&program, "POST /api/token/", r#"{"name":"n","unlimited_quota":true}"#).await;
    let given = made["data"]["key"].as_str().expect("a key").to_owned();

    let mut answers = Vec::new();
    for body in [json!({ "ai_api_key": chosen }), json!({ "ai_api_key": never }), json!({ "alias": [chosen] })] {
        answers.push(apig(&program, "POST", "", &body.to_string()).await.text());
    }
    answers.push(apig(&program, "GET", "", "").await.text());
    for secret in [chosen, given.as_str()] {
        assert_eq!(status_of(&program, secret, "gpt-4o").await, 200);
        answers.push(newapi(&program, &format!("GET /api/token/search?token={secret}"), "").await.to_string());
        // A key of the data plane is no operator's token.
        let line = format!("GET /api/token/{secret}");
        for token in [secret, OPS, READER] {
            answers.push(call(program.admin, &line, &[("authorization", token)], "").await.text());
        }
        let body = json!({"id": 1, "name": "n", "key": secret, "remain_quota": secret}).to_string();
        answers.push(newapi(&program, "PUT /api/token/", &body).await.to_string());
    }
    let bearer = format!("Bearer {OPS}");
    for line in ["GET /api/v1/gateway/audit", "GET /api/v1/gateway/keys", "GET /metrics"] {
        answers.push(call(program.admin, line, &[("authorization", &bearer)], "").await.text());
    }
    assert!(answers.iter().all(|answer| !answer.is_empty()));
    let mut found = answers.into_iter().map(|answer| ("an answer".to_owned(), answer.into_bytes())).collect::<Vec<_>>();
    files(program.home.path(), &mut found);
    assert!(found.iter().any(|(name, _)| name.ends_with("keyward.db")), "the store is looked at");
    for (name, bytes) in found {
        for secret in [chosen, never, given.as_str()] {
            let is_there = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!is_there, "{secret} is in {name}: {}", String::from_utf8_lossy(&bytes[..bytes.len().min(400)]));
        }
    }
}
