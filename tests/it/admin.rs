//! The admin listener's dialects as their callers meet them: one program, three APIs over its keys.

mod apig;
mod cross;
mod newapi;
mod nonsense;
mod secrets;
mod shape;

use std::net::SocketAddr;

use serde_json::Value;

use crate::harness::program::Running;
use crate::harness::{Answer, Client};

/// Sees and changes everything.
const OPS: &str = "an-operators-token";
/// Sees everything.
const READER: &str = "a-readers-token-1";
/// Sees and changes what belongs to one application.
const BOUND: &str = "a-bound-operators-token";
/// The application of the vendor's page.
const APP: &str = "9ed8b7fe84224de681e7d7a5587e76dc";

/// In front of the built-in backend; nothing else is needed.
async fn start(more: &str) -> Running {
    let config = format!(
        r#"
keys_file = "keys.toml"
[server]
listen = "127.0.0.1:0"
workers = 1
[admin]
listen = "127.0.0.1:0"
tokens = [
    {{ name = "ops", token = "{OPS}", role = "write" }},
    {{ name = "reader", token = "{READER}", role = "read" }},
    {{ name = "bound", token = "{BOUND}", role = "write", org_id = "apig/p/i/{APP}" }},
]
[admin.apig]
apps = ["p/i/{APP}", "p/i/other"]
{more}
[[upstreams]]
name = "sandbox"
dialect = "sandbox"
models = ["*"]
"#
    );
    let keys = "[[keys]]\nname = \"filed\"\nkey = \"a-secret-of-the-file\"\n";
    Running::start(&config, |home| std::fs::write(home.join("keys.toml"), keys).expect("written")).await
}

/// One call: method and target, headers, body.
async fn call(address: SocketAddr, line: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut text = format!("{line} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        text.push_str(&format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len()));
    }
    Client::once(address, format!("{text}\r\n{body}").as_bytes()).await
}

/// A call of the native API.
async fn native(program: &Running, line: &str, body: &str) -> Answer {
    let line = line.replacen(" /", " /api/v1/gateway/keys/", 1).replace("keys/ ", "keys ");
    let bearer = format!("Bearer {OPS}");
    call(program.admin, line.trim_end_matches('/'), &[("authorization", &bearer)], body).await
}

/// A call of the API of APIG's shape, below the keys of the page's application.
async fn apig(program: &Running, method: &str, below: &str, body: &str) -> Answer {
    let line = format!("{method} /v2/p/apigw/instances/i/apps/{APP}/ai-api-keys{below}");
    call(program.admin, &line, &[("x-auth-token", OPS)], body).await
}

/// A call of the API of the new-api family's shape.
async fn newapi(program: &Running, line: &str, body: &str) -> Value {
    let answer = call(program.admin, line, &[("authorization", OPS)], body).await;
    assert_eq!(answer.status, 200, "{line}: {}", answer.text());
    answer.json()
}

/// What the data plane answers the next request with this secret.
async fn status_of(program: &Running, secret: &str, model: &str) -> u16 {
    let body = crate::harness::chat(model, false);
    Client::once(program.data, &crate::harness::post("/v1/chat/completions", secret, &body)).await.status
}
