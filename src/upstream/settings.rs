//! What the configuration says of an upstream, checked and in the types the data plane reads.

use std::fmt;
use std::time::Duration;

use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use http::uri::Authority;

use crate::policy::{DialectName, Glob};

/// One `[[upstreams]]` entry: a pool of endpoints that serve the same models.
#[derive(Debug, Clone, PartialEq)]
pub struct UpstreamSettings {
    /// Its name in logs and metrics; unique.
    pub name: Box<str>,
    /// What it speaks.
    pub kind: Kind,
    /// Its endpoints; empty only for the built-in backend.
    pub urls: Vec<Address>,
    /// The operator's credential for it; `None` where it wants none.
    pub credential: Option<Credential>,
    /// The models it serves, as clients name them (or as aliases name them).
    pub models: Vec<Glob>,
    /// Time to connect, TLS included.
    pub connect_timeout: Duration,
    /// Time from the last byte of the request to the first byte of the answer.
    pub first_byte_timeout: Duration,
    /// Longest silence inside an answer.
    pub idle_timeout: Duration,
    /// How often a request that nothing accepted may be tried again.
    pub retries: u32,
    /// Whether it takes calls that are websockets.
    pub websocket: bool,
}

impl UpstreamSettings {
    /// The built-in backend as sandbox keys meet it, whatever the configuration says.
    pub fn sandbox() -> Self {
        Self {
            name: "sandbox".into(),
            kind: Kind::Sandbox,
            urls: Vec::new(),
            credential: None,
            models: Glob::new("*").into_iter().collect(),
            connect_timeout: Duration::from_secs(5),
            first_byte_timeout: Duration::from_secs(600),
            idle_timeout: Duration::from_secs(300),
            retries: 0,
            websocket: false,
        }
    }
}

/// What an upstream speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A backend over HTTP that speaks one dialect.
    Http(DialectName),
    /// The built-in deterministic backend, which speaks all of them.
    Sandbox,
}

/// An endpoint's URL, taken apart once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Whether it is spoken to over TLS.
    pub tls: bool,
    /// Host and, where given, port: what the `Host` header says.
    pub authority: Authority,
    /// Host without brackets, for the resolver and the certificate.
    pub host: Box<str>,
    /// Port, the scheme's own when none was given.
    pub port: u16,
    /// Path before the API's own, without a slash at the end; `""` for most.
    pub prefix: Box<str>,
}

/// The operator's secret for an upstream, as it stands in headers. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    plain: HeaderValue,
    bearer: HeaderValue,
}

impl Credential {
    /// `None` when `secret` is empty or could not stand in a header.
    pub fn new(secret: &str) -> Option<Self> {
        if secret.is_empty() || !secret.bytes().all(|b| b.is_ascii_graphic()) {
            return None;
        }
        let value = |text: &str| {
            let mut value = HeaderValue::from_str(text).ok()?;
            value.set_sensitive(true);
            Some(value)
        };
        Some(Self { plain: value(secret)?, bearer: value(&format!("Bearer {secret}"))? })
    }

    /// Puts it where a backend of this dialect looks for it.
    pub fn put_into(&self, headers: &mut HeaderMap, dialect: DialectName) {
        let (name, value) = match dialect {
            DialectName::OpenAi => (AUTHORIZATION, &self.bearer),
            DialectName::Anthropic => (HeaderName::from_static("x-api-key"), &self.plain),
            DialectName::Gemini => (HeaderName::from_static("x-goog-api-key"), &self.plain),
            DialectName::Azure => (HeaderName::from_static("api-key"), &self.plain),
        };
        headers.insert(name, value.clone());
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(..)")
    }
}
