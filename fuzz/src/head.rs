//! Any bytes on a connection, in any pieces: where they are cut changes no verdict; what passes is read alike by the parsers
//! behind; and what a head is taken to mean is what stands in it.

mod others;

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};

use http::HeaderName;
use keyward::clock::{Clock, NS_PER_SECOND, Now};
use keyward::dialect::credential::{CREDENTIAL_HEADERS, credential};
use keyward::dialect::route::{query_with_model, upstream_query};
use keyward::dialect::websocket::handshake::Key;
use keyward::headers::{Headers, RequestHead};
use keyward::proxy::carrier::Carrier;
use keyward::proxy::deadline::Deadlines;
use keyward::proxy::headers::request_headers;
use keyward::proxy::receive::{Received, check_encoding, receive};
use keyward::proxy::request_id::RequestIds;
use keyward::proxy::settings::Settings;
use keyward::proxy::wire::{MARKER, Wire, WireNotes, WireTimes};
use tokio::io::{AsyncRead, ReadBuf};

/// The peer every request comes from, and whether it is trusted.
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

/// How a connection's bytes came out of the wire.
#[derive(Debug, PartialEq)]
struct Seen {
    /// What hyper would have read, the marker aside.
    passed: Vec<u8>,
    end: Ended,
}

/// Why there was no more to read.
#[derive(Debug, PartialEq)]
enum Ended {
    /// The peer had no more to say.
    Peer,
    /// A head was refused; the marker came instead of it.
    Refused,
    /// A body's framing broke.
    Broken,
    /// A head asked for a websocket, and something stands behind it.
    Tunnel,
}

/// The first byte seeds the cuts, the second chooses the settings, the rest is what the peer sends.
pub fn check(input: &[u8]) {
    let [seed, settings, sent @ ..] = input else { return };
    let whole = through_the_wire(&[sent], 64 * 1024);
    let pieces = super::pieces::of(sent, *seed);
    // Room for few bytes and for many: what does not fit is handed over later.
    let room = if seed & 1 == 0 { 7 } else { 4096 };
    assert_eq!(through_the_wire(&pieces, room), whole, "where the bytes are cut changes the verdict");
    assert!(sent.starts_with(&whole.passed), "what passes is what was sent");
    let heads = others::heads(&whole.passed, whole.end == Ended::Broken);
    for head in heads {
        means(&head, settings_of(*settings));
    }
}

/// Reads a connection as hyper does, with no one to wait for.
fn through_the_wire(pieces: &[&[u8]], room: usize) -> Seen {
    let clock = Clock::manual(Now { monotonic_ns: NS_PER_SECOND, unix_ms: 0 });
    let notes = WireNotes::new(Deadlines::new(clock).register(), TIMES);
    let mut wire = Wire::new(Peer { pieces: pieces.iter().map(|piece| piece.to_vec()).collect() }, Rc::clone(&notes));
    let (mut passed, mut context) = (Vec::new(), Context::from_waker(Waker::noop()));
    let mut space = vec![0; room];
    let end = loop {
        let mut buf = ReadBuf::new(&mut space);
        match Pin::new(&mut wire).poll_read(&mut context, &mut buf) {
            Poll::Ready(Ok(())) if buf.filled().is_empty() => break Ended::Peer,
            Poll::Ready(Ok(())) => passed.extend_from_slice(buf.filled()),
            Poll::Ready(Err(_)) => break Ended::Broken,
            Poll::Pending if wire.is_tunnel() => break Ended::Tunnel,
            Poll::Pending => break Ended::Refused,
        }
    };
    assert_eq!(
        notes.flaw_of(&Headers::new()).is_some(),
        end == Ended::Refused,
        "a refusal and its reason come together"
    );
    if end == Ended::Refused {
        let at = passed.windows(MARKER.len()).rposition(|window| window == MARKER);
        passed.truncate(at.expect("a refused head is replaced by the marker"));
    }
    Seen { passed, end }
}

const TRUSTED: &str = "server.trusted_proxies = [\"10.0.0.0/8\", \"fd00::/8\"]\n";
const PASSTHROUGH: &str =
    "passthrough = [{ path = \"/v1/files\", methods = [\"GET\", \"POST\"], upstream = \"s\", model_free = true }]\n";
const TIMES: WireTimes = WireTimes { head_ns: 1, keep_alive_ns: 1, write_stall_ns: 1 };

/// A peer that has sent everything already, and closes.
struct Peer {
    pieces: VecDeque<Vec<u8>>,
}

impl AsyncRead for Peer {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(piece) = self.pieces.front_mut() {
            let count = piece.len().min(buf.remaining());
            buf.put_slice(&piece[..count]);
            piece.drain(..count);
            if piece.is_empty() {
                self.pieces.pop_front();
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Without and with trusted proxies, without and with a path of the operator's own.
fn settings_of(choice: u8) -> &'static Settings {
    static SETTINGS: LazyLock<[Settings; 4]> = LazyLock::new(|| {
        ["", TRUSTED, PASSTHROUGH, &[TRUSTED, PASSTHROUGH].concat()].map(|more| {
            let text = format!(
                "{more}[[upstreams]]\nname = \"s\"\ndialect = \"openai\"\nurl = \"http://s\"\nmodels = [\"*\"]\n"
            );
            keyward::config::parse(&text, Path::new("keyward.toml"), &|_| None).expect("a configuration").server
        })
    });
    &SETTINGS[usize::from(choice & 3)]
}

/// What a head is taken to mean stands in it, and nothing of the caller's secret is left in what goes on.
fn means(head: &RequestHead, settings: &Settings) {
    let notes = {
        let clock = Clock::manual(Now { monotonic_ns: NS_PER_SECOND, unix_ms: 0 });
        WireNotes::new(Deadlines::new(clock).register(), TIMES)
    };
    let query = head.target.query();
    let id = RequestIds::new().expect("a source of random numbers").of(&head.headers);
    assert!((1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic()));
    // Whether it errs or not is for tests by exact bytes to say; here, that it does not fail.
    let _ = check_encoding(&head.headers);
    let passed = request_headers(head.headers.clone());
    let hop = ["host", "connection", "upgrade", "transfer-encoding", "content-length", "te", "x-forwarded-for"];
    for name in hop.into_iter().chain(CREDENTIAL_HEADERS.iter().map(HeaderName::as_str)) {
        assert!(!passed.contains_key(name), "{name} goes upstream");
    }
    let left = query.and_then(upstream_query);
    assert_eq!(credential(&passed, left.as_deref()), Ok(None), "a secret goes upstream");
    if let Ok(received) = receive(head, &Carrier::Connection(notes), PEER, settings) {
        is_in_the_head(&received, head, settings);
    }
}

fn is_in_the_head(received: &Received, head: &RequestHead, settings: &Settings) {
    let (path, route) = (head.target.path(), &received.route);
    if let (Some(model), Some(range)) = (&route.model, &route.model_range) {
        assert_eq!(path.get(range.clone()), Some(model.as_str()), "the model is where it is said to be");
    }
    let is_told_where = route.model_range.is_some() || route.model_parameter.is_some();
    assert_eq!(route.model.is_some(), is_told_where);
    if let Some(parameter) = route.model_parameter {
        // Another name in its place is the one a form parser finds, and the only one.
        let query = query_with_model(head.target.query().unwrap_or_default(), parameter, "renamed");
        assert_eq!(query.split('&').filter(|part| part.starts_with(&format!("{parameter}="))).count(), 1, "{query}");
        assert!(query.contains("=renamed"), "{query}");
    }
    assert_eq!(received.offer.is_some(), route.model_parameter.is_some(), "a websocket is one by its handshake");
    for part in path.split('/') {
        assert!(!matches!(part, "." | "..") && !part.contains(['\\', ';', '\0']), "{path} was accepted");
    }
    if let Some(secret) = &received.secret {
        assert!(!secret.is_empty() && !secret.contains(&b' '));
        let ends_with_it = CREDENTIAL_HEADERS
            .iter()
            .filter_map(|name| head.headers.get(name))
            .any(|value| value.as_bytes().ends_with(secret));
        let is_in_query = head.target.query().is_some_and(|query| query.contains("key=") || query.contains('%'));
        let is_offered = received.offer.is_some()
            && head
                .headers
                .get_all("sec-websocket-protocol")
                .iter()
                .any(|value| value.as_bytes().windows(secret.len()).any(|window| window == secret.as_slice()));
        if let Some(offer) = &received.offer {
            let mut sent = Headers::new();
            offer.put_request_headers(&Key::new([0; 16]), &mut sent);
            let left = sent.get("sec-websocket-protocol").map_or("", |value| value.to_str().expect("tokens"));
            let mut names = left.split(',').map(|name| name.trim().to_ascii_lowercase());
            assert!(!names.any(|name| name.starts_with("openai-insecure-api-key.")), "{left} goes upstream");
        }
        assert!(ends_with_it || is_in_query || is_offered, "a secret that nobody sent");
    }
    if settings.trusted_proxies.is_empty() {
        assert_eq!(received.address, PEER, "an untrusted peer said who it is");
    }
}
