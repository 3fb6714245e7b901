//! The strict edge, by exact bytes: what could be read in two ways is refused, never repaired.

mod attackers;
mod chunks;
mod garbage;
mod heads;
mod lengths;
mod passing;
mod sizes;
mod targets;
mod times;

use super::harness::proxy::ALICE;
use super::harness::{self, Answer, Backend, Client, Proxy};

/// What must become of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// It ends.
    Closed,
    /// The next request on it is answered.
    Open,
}

/// One hostile request and what must come of it.
#[derive(Debug, Clone)]
pub struct Attack {
    pub bytes: Vec<u8>,
    pub status: u16,
    pub after: After,
}

impl Attack {
    /// Refused with `status`, after which the connection ends.
    pub fn new(bytes: impl AsRef<[u8]>, status: u16) -> Self {
        Self { bytes: bytes.as_ref().to_vec(), status, after: After::Closed }
    }

    /// The same, on a connection that goes on.
    pub fn that_leaves_open(bytes: impl AsRef<[u8]>, status: u16) -> Self {
        Self { after: After::Open, ..Self::new(bytes, status) }
    }

    fn name(&self) -> String {
        let shown = self.bytes.len().min(400);
        format!("{:?}", String::from_utf8_lossy(&self.bytes[..shown]))
    }
}

/// A backend that must stay unseen, and a proxy with the key of [`ALICE`] in front of it.
pub struct Edge {
    pub backend: Backend,
    pub proxy: Proxy,
}

impl Edge {
    pub fn start() -> Self {
        let backend = Backend::json(r#"{"id":"1","usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#);
        let proxy = Proxy::with_key(&backend, "");
        Self { backend, proxy }
    }

    /// Each attack on a connection of its own, followed by a good request on another.
    pub async fn refuses(&self, attacks: &[Attack]) {
        for attack in attacks {
            let mut client = Client::connect(self.proxy.address).await;
            client.send(&attack.bytes).await;
            let answer = client.answer().await;
            self.judge(attack, &answer);
            self.judge_connection(attack, &answer, &mut client).await;
            self.serves(&attack.name()).await;
        }
        self.is_unharmed().await;
    }

    /// The same when every byte is sent on its own.
    pub async fn refuses_byte_by_byte(&self, attacks: &[Attack]) {
        for attack in attacks {
            let mut client = Client::connect(self.proxy.address).await;
            for byte in &attack.bytes {
                client.send(&[*byte]).await;
                tokio::task::yield_now().await;
            }
            self.judge(attack, &client.answer().await);
        }
        self.is_unharmed().await;
    }

    fn judge(&self, attack: &Attack, answer: &Answer) {
        let name = attack.name();
        assert_eq!(answer.status, attack.status, "{name}: {}", answer.text());
        assert!(answer.is_whole, "{name}: the refusal broke off");
        assert_eq!(answer.header("content-type").as_deref(), Some("application/json"), "{name}");
        assert!(answer.json()["error"]["message"].is_string(), "{name}: {}", answer.text());
        assert!(answer.header("x-request-id").or(answer.header("request-id")).is_some(), "{name}");
    }

    async fn judge_connection(&self, attack: &Attack, answer: &Answer, client: &mut Client) {
        let name = attack.name();
        let says_close = answer.header("connection").is_some_and(|value| value.ends_with("close"));
        match attack.after {
            After::Closed => {
                assert!(says_close, "{name}: {}", answer.head);
                assert!(client.is_closed().await, "{name}: the connection goes on");
            }
            After::Open => {
                assert!(!says_close, "{name}: {}", answer.head);
                client.send(&harness::get("/v1/models", ALICE)).await;
                assert_eq!(client.answer().await.status, 200, "{name}: the connection is out of step");
            }
        }
    }

    /// A good request on a new connection.
    pub async fn serves(&self, after: &str) {
        let answer = Client::once(self.proxy.address, &harness::get("/v1/models", ALICE)).await;
        assert_eq!(answer.status, 200, "after {after}");
    }

    /// Nothing reached the backend, nothing was our fault or counted as an upstream's, and nothing hangs.
    pub async fn is_unharmed(&self) {
        assert_eq!(self.backend.seen().len(), 0, "{:?}", self.backend.seen().first());
        assert_eq!(self.backend.connections(), 0);
        self.proxy.quiet().await;
        let metrics = self.proxy.metrics_text();
        assert!(!metrics.contains("status=\"5xx\""), "{metrics}");
        assert!(!metrics.contains("keyward_faults_total{"), "{metrics}");
    }
}

/// A chat request with these header lines (each with its CR LF) and these bytes after the head.
pub fn chat_with(headers: &str, body: &str) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: proxy\r\nauthorization: Bearer {ALICE}\r\ncontent-type: application/json\r\n{headers}\r\n{body}"
    )
}

/// A GET of the list of models with these header lines in place of the usual host.
pub fn models_with(headers: &str) -> String {
    format!("GET /v1/models HTTP/1.1\r\nauthorization: Bearer {ALICE}\r\n{headers}\r\n")
}

/// A GET with this request line (without its CR LF).
pub fn line(request_line: &str) -> String {
    format!("{request_line}\r\nhost: proxy\r\nauthorization: Bearer {ALICE}\r\n\r\n")
}

/// A request that must never be seen, for smuggling attempts.
pub fn smuggled() -> String {
    String::from_utf8(harness::post("/v1/chat/completions", ALICE, &harness::chat("smuggled", false))).expect("text")
}
