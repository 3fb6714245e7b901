//! Bodies, by exact bytes: what some backend reads as another request than we do is refused in the caller's dialect, and what is good
//! arrives as it was sent.

mod forms;
mod good;
mod json;
mod types;

use super::harness::proxy::ALICE;
use super::harness::{self, Answer, Backend, Client, Proxy};

/// One call of each dialect that takes a JSON body; the model of those that have one in the path is `m`.
pub const CALLS: [&str; 4] = [
    "/v1/chat/completions",
    "/v1/messages",
    "/v1beta/models/m:generateContent",
    "/openai/deployments/m/chat/completions",
];

/// The stable name of an error, wherever its dialect has it.
pub fn code(answer: &Answer) -> String {
    let json = answer.json();
    let at = |pointer| json.pointer(pointer).and_then(|value| value.as_str()).map(str::to_ascii_lowercase);
    at("/error/code").or(at("/error/details/error_code")).or(at("/error/details/0/reason")).unwrap_or_default()
}

/// A POST of any bytes with these header lines, its length told.
pub fn post(path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: proxy\r\nauthorization: Bearer {ALICE}\r\n{headers}content-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// The header line of a JSON body.
pub const JSON: &str = "content-type: application/json\r\n";

/// A proxy whose backend must stay unseen, and one connection that must stay in step.
pub struct Refusing {
    backend: Backend,
    proxy: Proxy,
    client: Client,
}

impl Refusing {
    pub async fn start() -> Self {
        Self::for_key("").await
    }

    /// With these lines in the key's policy.
    pub async fn for_key(policy: &str) -> Self {
        let backend = Backend::json("{}");
        let proxy = Proxy::with_key(&backend, policy);
        let client = Client::connect(proxy.address).await;
        Self { backend, proxy, client }
    }

    /// Sends a body; it must be refused with this status and this name, and the connection goes on.
    pub async fn refuses(&mut self, path: &str, headers: &str, body: &[u8], status: u16, name: &str) {
        let shown = format!("{path} {headers:?} {}", String::from_utf8_lossy(&body[..body.len().min(300)]));
        self.client.send(&post(path, headers, body)).await;
        let answer = self.client.answer().await;
        assert_eq!(answer.status, status, "{shown}: {}", answer.text());
        assert_eq!(code(&answer), name, "{shown}: {}", answer.text());
        assert!(answer.is_whole && answer.header("connection").is_none(), "{shown}: {}", answer.head);
        self.client.send(&harness::get("/v1/models", ALICE)).await;
        assert_eq!(self.client.answer().await.status, 200, "{shown}: the connection is out of step");
    }

    /// Sends a body and says how it is answered; the connection goes on.
    pub async fn status(&mut self, path: &str, headers: &str, body: &[u8]) -> u16 {
        self.client.send(&post(path, headers, body)).await;
        let answer = self.client.answer().await;
        assert!(answer.is_whole && answer.header("connection").is_none(), "{path}: {}", answer.head);
        answer.status
    }

    /// The same on a connection of its own, which ends.
    pub async fn status_and_close(&mut self, path: &str, headers: &str, body: &[u8]) -> u16 {
        let answer = Client::once(self.proxy.address, &post(path, headers, body)).await;
        assert!(answer.is_whole && answer.header("connection").as_deref() == Some("close"), "{path}: {}", answer.head);
        answer.status
    }

    /// Nothing reached the backend, and nothing was held or counted as anybody's fault.
    pub async fn is_unharmed(&self) {
        assert_eq!(self.backend.seen().len(), 0, "{:?}", self.backend.seen().first());
        self.proxy.quiet().await;
        assert_eq!(self.proxy.plane.body_budget.held(), 0);
        let metrics = self.proxy.metrics_text();
        assert!(!metrics.contains("status=\"5xx\"") && !metrics.contains("keyward_faults_total{"), "{metrics}");
    }
}
