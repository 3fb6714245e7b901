//! What a newcomer meets first: quickstart, and the line it says to paste.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::harness::{Client, post};

/// A running quickstart, and what it printed.
struct Quickstart {
    child: Child,
    greeting: String,
}

impl Quickstart {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_keyward"))
            .args(["quickstart", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .env("KEYWARD_LOG", "off")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let mut greeting = String::new();
        while !greeting.contains("Ctrl-C") {
            let line = lines.next().expect("more of the greeting").expect("text");
            greeting.push_str(&line);
            greeting.push('\n');
        }
        Self { child, greeting }
    }

    fn value(&self, label: &str) -> &str {
        let line = self.greeting.lines().find(|line| line.trim_start().starts_with(label)).expect(label);
        line.trim_start()[label.len()..].split_whitespace().next().expect("a value")
    }

    /// The arguments of the printed curl line, as a shell reads them.
    fn pasted(&self) -> Vec<String> {
        let line = self.greeting.lines().find(|line| line.starts_with("curl ")).expect("a line to paste");
        let printing = line.replacen("curl", "printf '%s\\n'", 1);
        let output = Command::new("sh").args(["-c", &printing]).output().expect("a shell");
        String::from_utf8(output.stdout).expect("text").lines().map(str::to_owned).collect()
    }
}

impl Drop for Quickstart {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address and the whole request that a pasted curl line sends.
fn request(arguments: &[String], change: impl Fn(&str) -> String) -> (std::net::SocketAddr, Vec<u8>) {
    let rest = arguments[0].strip_prefix("http://").expect("a URL");
    let (address, path) = rest.split_once('/').expect("a path");
    let mut headers = String::new();
    let mut body = String::new();
    for pair in arguments[1..].chunks(2) {
        match pair[0].as_str() {
            "-H" => headers.push_str(&format!("{}\r\n", pair[1])),
            "-d" => body = change(&pair[1]),
            other => panic!("an argument the newcomer did not expect: {other}"),
        }
    }
    let length = body.len();
    let bytes = format!("POST /{path} HTTP/1.1\r\nhost: {address}\r\n{headers}content-length: {length}\r\n\r\n{body}");
    (address.parse().expect("an address"), bytes.into_bytes())
}

#[tokio::test]
async fn the_printed_line_works_when_pasted() {
    let quickstart = Quickstart::start();
    let (address, bytes) = request(&quickstart.pasted(), str::to_owned);
    let answer = Client::once(address, &bytes).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.json()["choices"][0]["message"]["content"].is_string());

    let streaming = |body: &str| body.replacen('{', r#"{"stream":true,"#, 1);
    let (address, bytes) = request(&quickstart.pasted(), streaming);
    let answer = Client::once(address, &bytes).await;
    assert_eq!(answer.status, 200);
    assert!(answer.text().starts_with("data: {") && answer.text().ends_with("data: [DONE]\n\n"));
}

#[tokio::test]
async fn a_wrong_key_gets_openais_own_401() {
    let quickstart = Quickstart::start();
    let (address, _) = request(&quickstart.pasted(), str::to_owned);
    let answer = Client::once(address, &post("/v1/chat/completions", "sk-wrong-key", "{}")).await;
    assert_eq!(answer.status, 401);
    let error = &answer.json()["error"];
    assert_eq!(error["code"], "invalid_api_key");
    assert_eq!(error["type"], "invalid_request_error");
    assert!(error["message"].as_str().is_some_and(|text| text.starts_with("Incorrect API key provided")));
    assert!(error.get("param").is_some_and(serde_json::Value::is_null));
}

#[tokio::test]
async fn the_sandbox_key_and_the_admin_address_work_too() {
    let quickstart = Quickstart::start();
    let (address, _) = request(&quickstart.pasted(), str::to_owned);
    let body = r#"{"model":"anything","max_tokens":9,"messages":[{"role":"user","content":"Hi"}]}"#;
    let answer = Client::once(address, &post("/v1/messages", quickstart.value("sandbox key"), body)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());

    let admin = quickstart.value("admin").strip_prefix("http://").expect("a URL").parse().expect("an address");
    for (path, status) in [("/healthz", 200), ("/readyz", 200), ("/metrics", 200), ("/v1/models", 404)] {
        let bytes = format!("GET {path} HTTP/1.1\r\nhost: admin\r\n\r\n");
        assert_eq!(Client::once(admin, bytes.as_bytes()).await.status, status, "{path}");
    }
}
