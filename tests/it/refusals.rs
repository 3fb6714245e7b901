//! Saying no, over the wire: every reason in every dialect, in the right order, at no cost.

mod addresses;
mod attempts;
mod credentials;
mod limits;
mod order;

use keyward::clock::{Clock, NS_PER_SECOND, Now};

use super::harness::proxy::ALICE;
use super::harness::{Answer, Backend, Client, Proxy};

/// A dialect as its callers meet it.
pub struct Speaker {
    pub name: &'static str,
    /// A call that takes a model in its body or its path.
    pub path: &'static str,
    /// Its own credential header, and what stands before the secret.
    pub credential: (&'static str, &'static str),
}

pub const SPEAKERS: [Speaker; 4] = [
    Speaker { name: "openai", path: "/v1/chat/completions", credential: ("authorization", "Bearer ") },
    Speaker { name: "anthropic", path: "/v1/messages", credential: ("x-api-key", "") },
    Speaker { name: "gemini", path: "/v1beta/models/m:generateContent", credential: ("x-goog-api-key", "") },
    Speaker { name: "azure", path: "/openai/deployments/m/chat/completions", credential: ("api-key", "") },
];

pub const BODY: &str = r#"{"model":"m","messages":[],"contents":[]}"#;

impl Speaker {
    /// A call with this body and these header lines, the secret in the dialect's own place.
    pub fn call(&self, secret: &str, headers: &str, body: &str) -> Vec<u8> {
        let (name, scheme) = self.credential;
        self.bare(&format!("{name}: {scheme}{secret}\r\n{headers}"), body)
    }

    /// A call without a secret but for what `headers` hold.
    pub fn bare(&self, headers: &str, body: &str) -> Vec<u8> {
        request(self.path, headers, body)
    }

    /// The stable name of an error, wherever this dialect has it.
    pub fn code(&self, answer: &Answer) -> String {
        let json = answer.json();
        let pointer = match self.name {
            "anthropic" => "/error/details/error_code",
            "gemini" => "/error/details/0/reason",
            _ => "/error/code",
        };
        json.pointer(pointer).and_then(|code| code.as_str()).unwrap_or_default().to_ascii_lowercase()
    }

    /// The class of an error: `type`, or Gemini's `status`.
    pub fn class(&self, answer: &Answer) -> String {
        let pointer = if self.name == "gemini" { "/error/status" } else { "/error/type" };
        answer.json().pointer(pointer).and_then(|class| class.as_str()).unwrap_or_default().to_owned()
    }

    pub fn message(&self, answer: &Answer) -> String {
        answer.json()["error"]["message"].as_str().unwrap_or_default().to_owned()
    }
}

/// A POST of JSON with these header lines.
pub fn request(path: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: proxy\r\n{headers}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// A proxy in front of a backend that serves only the models `m` and `n*`, with these `[server]` lines, these keys (name, secret, lines) and a
/// clock that stands still.
pub struct Stage {
    pub backend: Backend,
    pub proxy: Proxy,
    pub clock: Clock,
}

impl Stage {
    pub fn start(server: &str, keys: &[(&str, &str, &str)]) -> Self {
        let backend = Backend::json(r#"{"id":"1","usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#);
        Self::before(backend, server, keys)
    }

    /// In front of a backend of one's own.
    pub fn before(backend: Backend, server: &str, keys: &[(&str, &str, &str)]) -> Self {
        let clock = Clock::manual(Now { monotonic_ns: 60 * NS_PER_SECOND, unix_ms: 1_767_225_600_000 });
        let config = Proxy::config_for(&backend, "")
            .replacen("[server]\n", &format!("[server]\n{server}\n"), 1)
            .replace("models = [\"*\"]", "models = [\"m\", \"n*\"]");
        let proxy = Proxy::start(&config, &Proxy::keys_of(keys), clock.clone());
        Self { backend, proxy, clock }
    }

    /// With the one key of [`ALICE`].
    pub fn alice(policy: &str) -> Self {
        Self::start("", &[("alice", ALICE, policy)])
    }

    pub async fn ask(&self, bytes: &[u8]) -> Answer {
        Client::once(self.proxy.address, bytes).await
    }
}

/// The headers that say what to do next: `x-should-retry`, `retry-after`, `retry-after-ms`.
pub fn advice(answer: &Answer) -> [Option<String>; 3] {
    ["x-should-retry", "retry-after", "retry-after-ms"].map(|name| answer.header(name))
}
