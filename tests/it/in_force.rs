//! Keys by API and keys by file: what an operator changes, and when it is in force.

mod by_api;
mod by_file;

use std::net::SocketAddr;

use serde_json::Value;

use crate::harness::{Answer, Client, chat, post};

const TOKEN: &str = "an-operators-token";

const CONFIG: &str = r#"
[server]
listen = "127.0.0.1:0"
workers = 2
[admin]
listen = "127.0.0.1:0"
tokens = [{ name = "ops", token = "an-operators-token", role = "write" }]
[admin.apig]
apps = ["p/i/a"]
[[upstreams]]
name = "sandbox"
dialect = "sandbox"
models = ["*"]
"#;

const NATIVE: &str = "/api/v1/gateway/keys";
const APIG: &str = "/v2/p/apigw/instances/i/apps/a/ai-api-keys";
const NEWAPI: &str = "/api/token/";

/// An operator, on a connection that is kept.
struct Operator(Client);

impl Operator {
    async fn of(admin: SocketAddr) -> Self {
        Self(Client::connect(admin).await)
    }

    /// Every dialect has a header of its own for the same token.
    async fn ask(&mut self, method: &str, path: &str, body: &Value) -> Answer {
        let credential = match path {
            _ if path.starts_with("/v2/") => format!("x-auth-token: {TOKEN}"),
            _ if path.starts_with(NEWAPI) => format!("authorization: {TOKEN}"),
            _ => format!("authorization: Bearer {TOKEN}"),
        };
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let kind = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: admin\r\n{credential}\r\n{kind}content-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.0.send(head.as_bytes()).await;
        if method != "DELETE" || !path.starts_with("/v2/") && !path.starts_with(NATIVE) {
            return self.0.answer().await;
        }
        // 204 has no body, and no length.
        let head = self.0.head().await;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        Answer { status, head, body: Vec::new(), is_whole: true }
    }
}

/// A client whose connection stays open.
struct Caller(Client);

impl Caller {
    async fn of(data: SocketAddr) -> Self {
        let mut caller = Self(Client::connect(data).await);
        assert_eq!(caller.status("no-such-secret").await, 401, "open, and known to be");
        caller
    }

    /// The status of the next request.
    async fn status(&mut self, secret: &str) -> u16 {
        self.status_of(secret, "gpt-4o").await
    }

    async fn status_of(&mut self, secret: &str, model: &str) -> u16 {
        self.0.send(&post("/v1/chat/completions", secret, &chat(model, false))).await;
        let answer = self.0.answer().await;
        assert!(answer.header("connection").is_none_or(|value| value != "close"), "it stays open: {}", answer.head);
        answer.status
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("text: {value}")).to_owned()
}
