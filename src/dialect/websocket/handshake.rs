//! The opening handshake (RFC 6455 4), as strict as it lets a server and a client be.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderValue, Method, Version};
use sha1::{Digest, Sha1};

use crate::headers::{Headers, Value};
use crate::policy::{HeadFlaw, Refusal};

/// The subprotocol by which a browser, which can set no header, tells OpenAI's API its key.
const SECRET_PREFIX: &str = "openai-insecure-api-key.";

/// Those that would choose an account for the key; what they stand for as headers never goes upstream either.
const ACCOUNT_PREFIXES: [&str; 2] = ["openai-organization.", "openai-project."];

/// The most subprotocols a client may offer.
const MOST_PROTOCOLS: usize = 16;

/// What RFC 6455 appends to the key.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What a client's opening handshake offers.
#[derive(Clone, PartialEq, Eq)]
pub struct Offer {
    accept: HeaderValue,
    /// Subprotocols for the upstream to choose from, in the client's order; none holds a secret.
    protocols: Vec<Box<str>>,
}

/// What was offered is the client's own; nothing here is worth a line.
impl std::fmt::Debug for Offer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Offer").field("protocols", &self.protocols.len()).finish_non_exhaustive()
    }
}

impl Offer {
    /// Reads an opening handshake (RFC 6455 4.2.1). `Connection` may also say `keep-alive`, as one browser does.
    ///
    /// # Errors
    /// [`HeadFlaw::WebsocketOnly`] where none is asked for, or in another version; [`HeadFlaw::Handshake`] for one that breaks a rule.
    pub fn read(method: &Method, version: Version, headers: &Headers) -> Result<Self, HeadFlaw> {
        let asks = one(headers, &UPGRADE).is_some_and(|value| value.eq_ignore_ascii_case("websocket"));
        if *method != Method::GET || version != Version::HTTP_11 || !asks {
            return Err(HeadFlaw::WebsocketOnly);
        }
        if one(headers, &SEC_WEBSOCKET_VERSION) != Some("13") {
            return Err(HeadFlaw::WebsocketOnly);
        }
        if !says_upgrade(headers, true) {
            return Err(HeadFlaw::Handshake);
        }
        let key = one(headers, &SEC_WEBSOCKET_KEY).filter(|key| is_key(key)).ok_or(HeadFlaw::Handshake)?;
        let mut protocols: Vec<Box<str>> = offered(headers).ok_or(HeadFlaw::Handshake)?.map(Box::from).collect();
        protocols.retain(|name| !is_private(name));
        Ok(Self { accept: accept_of(key).ok_or(HeadFlaw::Handshake)?, protocols })
    }

    /// The headers of our own handshake with the upstream, put beside those that pass. `key` is ours, for this one connection.
    pub fn put_request_headers(&self, key: &Key, headers: &mut Headers) {
        headers.insert(CONNECTION, Value::from_static("Upgrade"));
        headers.insert(UPGRADE, Value::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_VERSION, Value::from_static("13"));
        headers.insert(SEC_WEBSOCKET_KEY, &key.0);
        if let Some(value) = Value::of(&self.protocols.join(", "))
            && !self.protocols.is_empty()
        {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, value);
        }
    }

    /// Checks the upstream's 101 (RFC 6455 4.1): what it accepts is what we sent, and nothing was agreed on that was not offered.
    /// Gives the subprotocol it chose.
    ///
    /// # Errors
    /// What is wrong with it, for the log.
    pub fn check_answer(&self, key: &Key, headers: &Headers) -> Result<Option<HeaderValue>, &'static str> {
        if !one(headers, &UPGRADE).is_some_and(|value| value.eq_ignore_ascii_case("websocket")) {
            return Err("101 without `upgrade: websocket`");
        }
        if !says_upgrade(headers, false) {
            return Err("101 without `connection: upgrade`");
        }
        let expected = key.0.to_str().ok().and_then(accept_of);
        if expected.is_none() || one(headers, &SEC_WEBSOCKET_ACCEPT) != expected.as_ref().and_then(|v| v.to_str().ok())
        {
            return Err("101 that does not accept our key");
        }
        if headers.contains_key(SEC_WEBSOCKET_EXTENSIONS) {
            return Err("101 with an extension that was not offered");
        }
        if !headers.contains_key(SEC_WEBSOCKET_PROTOCOL) {
            return Ok(None);
        }
        let chosen = one(headers, &SEC_WEBSOCKET_PROTOCOL).filter(|name| self.protocols.iter().any(|p| **p == **name));
        match chosen.map(HeaderValue::from_str) {
            Some(Ok(chosen)) => Ok(Some(chosen)),
            _ => Err("101 with a subprotocol that was not offered"),
        }
    }

    /// The headers of our 101 to the client.
    pub fn put_answer_headers(&self, chosen: Option<HeaderValue>, headers: &mut Headers) {
        headers.insert(CONNECTION, Value::from_static("Upgrade"));
        headers.insert(UPGRADE, Value::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, &self.accept);
        if let Some(chosen) = chosen {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, &chosen);
        }
    }
}

/// The key of one handshake of ours.
#[derive(Debug, Clone)]
pub struct Key(HeaderValue);

impl Key {
    /// From sixteen random bytes.
    pub fn new(random: [u8; 16]) -> Self {
        // Base64 is ASCII.
        Self(HeaderValue::from_str(&STANDARD.encode(random)).unwrap_or_else(|_| HeaderValue::from_static("")))
    }
}

/// The secret among the subprotocols, if there is one.
///
/// # Errors
/// [`Refusal::AmbiguousCredential`] when there are two.
pub fn secret_of(headers: &Headers) -> Result<Option<Cow<'_, [u8]>>, Refusal> {
    // What cannot be read is refused with the handshake, which is read first.
    let mut secrets = offered(headers).into_iter().flatten().filter_map(|name| strip_prefix(name, SECRET_PREFIX));
    match (secrets.next(), secrets.next()) {
        (Some(_), Some(_)) => Err(Refusal::AmbiguousCredential),
        (secret, _) => Ok(secret.map(|secret| Cow::Borrowed(secret.as_bytes()))),
    }
}

/// The `Sec-WebSocket-Accept` that answers `key` (RFC 6455 4.2.2).
pub fn accept_of(key: &str) -> Option<HeaderValue> {
    let digest = Sha1::new().chain_update(key.as_bytes()).chain_update(GUID).finalize();
    HeaderValue::from_str(&STANDARD.encode(digest)).ok()
}

/// The value of a header that stands exactly once, in printable ASCII.
fn one<'a>(headers: &'a Headers, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

/// Whether `Connection` says `upgrade`, once, and, where it is `alone`, nothing else but `keep-alive`.
fn says_upgrade(headers: &Headers, alone: bool) -> bool {
    let Some(value) = one(headers, &CONNECTION) else { return false };
    let (upgrades, others): (Vec<&str>, Vec<&str>) =
        value.split(',').map(str::trim).partition(|option| option.eq_ignore_ascii_case("upgrade"));
    upgrades.len() == 1 && (!alone || others.iter().all(|option| option.eq_ignore_ascii_case("keep-alive")))
}

/// Sixteen bytes in base64, written in the one way there is.
fn is_key(key: &str) -> bool {
    key.len() == 24 && STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16)
}

/// The subprotocols offered: tokens, each once. `None` when they are not that.
fn offered(headers: &Headers) -> Option<impl Iterator<Item = &str>> {
    let mut names: Vec<&str> = Vec::new();
    for value in headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter() {
        for name in value.to_str().ok()?.split(',').map(str::trim) {
            let is_new = is_token(name) && !names.contains(&name) && names.len() < MOST_PROTOCOLS;
            if !is_new {
                return None;
            }
            names.push(name);
        }
    }
    Some(names.into_iter())
}

fn is_token(name: &str) -> bool {
    // Of the separators `/` and `=` are let through: a secret may hold them, and clients that are no browsers send them.
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~/=".contains(&b))
}

fn is_private(name: &str) -> bool {
    strip_prefix(name, SECRET_PREFIX).is_some() || ACCOUNT_PREFIXES.iter().any(|p| strip_prefix(name, p).is_some())
}

/// In any letter case: what some backend could take for a secret does not pass.
fn strip_prefix<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = name.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

#[cfg(test)]
mod tests;
