//! What the configuration says of an upstream, checked and in the types the data plane reads.

use std::fmt;
use std::time::Duration;

use http::StatusCode;
use http::header::{self, AUTHORIZATION, HeaderName, HeaderValue};
use http::uri::Authority;

use crate::dialect::credential::CREDENTIAL_HEADERS;
use crate::headers::Headers;
use crate::policy::{DialectName, Glob};
use crate::upstream::health::HealthSettings;
use crate::upstream::tls::ClientTls;

/// One `[[upstreams]]` entry: a pool of endpoints that serve the same models.
#[derive(Debug, Clone, PartialEq)]
pub struct UpstreamSettings {
    /// Its name in logs and metrics; unique.
    pub name: Box<str>,
    /// What it speaks.
    pub kind: Kind,
    /// Its place among those that serve the same model: a lower one comes first, one of a higher number takes over.
    pub priority: u32,
    /// Its endpoints, at most [`MOST_ENDPOINTS`](crate::upstream::choice::MOST_ENDPOINTS); empty only for the built-in backend.
    pub urls: Vec<Target>,
    /// The operator's credentials for it, used in turn; none where it wants none.
    pub credentials: Vec<Credential>,
    /// Headers put into every request, in place of the client's of that name. Their values may be secret and do not print.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The models it serves, as clients name them (or as aliases name them).
    pub models: Vec<Glob>,
    /// Time to connect, TLS included.
    pub connect_timeout: Duration,
    /// Time from the last byte of the request to the first byte of the answer, for each attempt; over HTTP/2 from its first byte.
    pub first_byte_timeout: Duration,
    /// Time from the first attempt to the first byte of the answer, all attempts together; `None` = no more than those take.
    pub request_timeout: Option<Duration>,
    /// Longest silence inside an answer.
    pub idle_timeout: Duration,
    /// How often a request that nothing accepted may be tried again.
    pub retries: u32,
    /// Retries that requests earn, percent of them.
    pub retry_budget_percent: u32,
    /// Statuses of answers that mean that nothing was done, so that the request may be tried again.
    pub retry_on: Vec<StatusCode>,
    /// When endpoints are ejected and requests shed.
    pub health: HealthSettings,
    /// How endpoints are probed; `None` = a connection, to those that are ejected.
    pub probe: Option<ProbeSettings>,
    /// Which HTTP is spoken to it.
    pub protocol: Protocol,
    /// How it is known and we to it over TLS; `None` = as the machine trusts, without a certificate of ours.
    pub tls: Option<ClientTls>,
    /// A forward proxy that connections go through; spoken to without TLS.
    pub via: Option<Address>,
    /// How long a connection may be used.
    pub connection_lifetime: Duration,
    /// How long the addresses of a name are believed.
    pub dns_refresh: Duration,
    /// Whether it takes calls that are websockets.
    pub websocket: bool,
}

impl UpstreamSettings {
    /// The built-in backend as sandbox keys meet it, whatever the configuration says.
    pub fn sandbox() -> Self {
        Self {
            name: "sandbox".into(),
            kind: Kind::Sandbox,
            priority: 0,
            urls: Vec::new(),
            credentials: Vec::new(),
            headers: Vec::new(),
            models: Glob::new("*").into_iter().collect(),
            connect_timeout: Duration::from_secs(5),
            first_byte_timeout: Duration::from_secs(600),
            request_timeout: None,
            idle_timeout: Duration::from_secs(300),
            retries: 0,
            retry_budget_percent: 20,
            retry_on: Vec::new(),
            health: HealthSettings::default(),
            probe: None,
            protocol: Protocol::Http1,
            tls: None,
            via: None,
            connection_lifetime: Duration::from_secs(600),
            dns_refresh: Duration::from_secs(30),
            websocket: false,
        }
    }

    /// Whether an endpoint of both is reached and asked in the same way, so that one that fails in one does in the other.
    pub fn reaches_as(&self, other: &Self) -> bool {
        // All but what says who is asked how often and for what.
        let beside = Self {
            priority: other.priority,
            urls: other.urls.clone(),
            models: other.models.clone(),
            retries: other.retries,
            retry_budget_percent: other.retry_budget_percent,
            retry_on: other.retry_on.clone(),
            health: other.health.clone(),
            connection_lifetime: other.connection_lifetime,
            idle_timeout: other.idle_timeout,
            websocket: other.websocket,
            ..self.clone()
        };
        beside == *other
    }

    /// Whether a failed attempt may leave something to send again that the attempt itself has used up.
    pub fn keeps_a_copy(&self) -> bool {
        !self.retry_on.is_empty() || self.protocol != Protocol::Http1
    }
}

/// An endpoint, and its share of the requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Where it is.
    pub address: Address,
    /// How many requests it gets for each that one of weight 1 gets; 1 to 1000.
    pub weight: u32,
}

/// Which HTTP is spoken to an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2: agreed on by ALPN over TLS, presumed without.
    Http2,
    /// Over TLS what the upstream prefers of the two, without TLS HTTP/1.1.
    Auto,
}

/// How every endpoint is asked whether it is well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeSettings {
    /// What is got; `None` = a connection is enough, and only those that are ejected are asked.
    pub path: Option<Box<str>>,
    /// From the start of one probe to that of the next.
    pub interval: Duration,
    /// Time for a probe from its start to the head of the answer.
    pub timeout: Duration,
    /// The status of an endpoint that is well; `None` = any of 200 to 299.
    pub expect: Option<StatusCode>,
}

impl Default for ProbeSettings {
    fn default() -> Self {
        Self { path: None, interval: Duration::from_secs(2), timeout: Duration::from_secs(2), expect: None }
    }
}

/// Headers that are no operator's to set: of the connection and the framing, credentials (that is what `api_key` is for), and those by which
/// the body and the answer are read.
static RESERVED: [HeaderName; 18] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
    header::EXPECT,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::ACCEPT_ENCODING,
    header::RANGE,
    HeaderName::from_static("x-request-id"),
];

/// Whether an operator may set this header for an upstream.
pub fn may_be_set(name: &HeaderName) -> bool {
    !RESERVED.contains(name) && !CREDENTIAL_HEADERS.contains(name)
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
    pub fn put_into(&self, headers: &mut Headers, dialect: DialectName) {
        let (name, value) = match dialect {
            DialectName::OpenAi => (AUTHORIZATION, &self.bearer),
            DialectName::Anthropic => (HeaderName::from_static("x-api-key"), &self.plain),
            DialectName::Gemini => (HeaderName::from_static("x-goog-api-key"), &self.plain),
            DialectName::Azure => (HeaderName::from_static("api-key"), &self.plain),
        };
        headers.insert(name, value);
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(..)")
    }
}
