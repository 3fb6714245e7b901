//! Handshakes, good and bad.

use super::*;

const GOOD: [(&str, &str); 4] = [
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

fn map(pairs: &[(&str, &str)]) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in pairs {
        headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), &HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn read(headers: &Headers) -> Result<Offer, HeadFlaw> {
    Offer::read(&Method::GET, Version::HTTP_11, headers)
}

/// [`GOOD`] with one header's value replaced.
fn with(name: &str, value: &str) -> Headers {
    let mut headers = map(&GOOD);
    headers.insert(HeaderName::from_bytes(name.as_bytes()).unwrap(), &HeaderValue::from_str(value).unwrap());
    headers
}

#[test]
fn the_example_of_the_rfc_is_accepted_as_there() {
    let offer = read(&map(&GOOD)).unwrap();
    let mut headers = Headers::new();
    offer.put_answer_headers(None, &mut headers);
    assert_eq!(&headers[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert!(read(&with("connection", "keep-alive, Upgrade")).is_ok());
    assert!(read(&with("upgrade", "WebSocket")).is_ok());
}

#[test]
fn a_handshake_is_exactly_one() {
    use HeadFlaw::{Handshake, WebsocketOnly};
    assert_eq!(read(&Headers::new()), Err(WebsocketOnly));
    assert_eq!(Offer::read(&Method::HEAD, Version::HTTP_11, &map(&GOOD)), Err(WebsocketOnly));
    assert_eq!(Offer::read(&Method::GET, Version::HTTP_10, &map(&GOOD)), Err(WebsocketOnly));
    for (name, value, flaw) in [
        ("upgrade", "h2c", WebsocketOnly),
        ("upgrade", "websocket, h2c", WebsocketOnly),
        ("sec-websocket-version", "8", WebsocketOnly),
        ("sec-websocket-version", "13, 8", WebsocketOnly),
        ("sec-websocket-version", "013", WebsocketOnly),
        ("connection", "close", Handshake),
        ("connection", "upgrade, upgrade", Handshake),
        ("connection", "Upgrade, HTTP2-Settings", Handshake),
        ("connection", "Upgrade, close", Handshake),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ", Handshake),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZR==", Handshake),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZTE=", Handshake),
        ("sec-websocket-key", "", Handshake),
        ("sec-websocket-protocol", "", Handshake),
        ("sec-websocket-protocol", "a,,b", Handshake),
        ("sec-websocket-protocol", "a, a", Handshake),
        ("sec-websocket-protocol", "a b", Handshake),
    ] {
        assert_eq!(read(&with(name, value)), Err(flaw), "{name}: {value}");
    }
    for (name, value) in GOOD {
        let mut doubled = map(&GOOD);
        doubled.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), &HeaderValue::from_str(value).unwrap());
        assert!(read(&doubled).is_err(), "{name} twice");
    }
    let many = (0..17).map(|n| format!("p{n}")).collect::<Vec<_>>().join(",");
    assert_eq!(read(&with("sec-websocket-protocol", &many)), Err(Handshake));
}

#[test]
fn neither_secret_nor_account_is_among_what_goes_upstream() {
    let headers = with(
        "sec-websocket-protocol",
        "realtime, openai-insecure-api-key.sk-1, OpenAI-Insecure-API-Key, openai-organization.o, openai-project.p, openai-beta.realtime-v1",
    );
    assert_eq!(secret_of(&headers).unwrap().as_deref(), Some(&b"sk-1"[..]));
    let mut sent = Headers::new();
    read(&headers).unwrap().put_request_headers(&Key::new([0; 16]), &mut sent);
    assert_eq!(&sent[SEC_WEBSOCKET_PROTOCOL], "realtime, OpenAI-Insecure-API-Key, openai-beta.realtime-v1");
    let two = with("sec-websocket-protocol", "openai-insecure-api-key.a, openai-insecure-api-key.b");
    assert_eq!(secret_of(&two), Err(Refusal::AmbiguousCredential));
    let alone = with("sec-websocket-protocol", "OPENAI-insecure-api-key.a");
    let mut sent = Headers::new();
    read(&alone).unwrap().put_request_headers(&Key::new([0; 16]), &mut sent);
    assert!(!sent.contains_key(SEC_WEBSOCKET_PROTOCOL));
}

#[test]
fn an_upstreams_101_accepts_what_was_offered_and_nothing_else() {
    let offer = read(&with("sec-websocket-protocol", "realtime, openai-insecure-api-key.sk-1")).unwrap();
    let key = Key::new([7; 16]);
    let accept = accept_of(key.0.to_str().unwrap()).unwrap();
    let good =
        [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-accept", accept.to_str().unwrap())];
    assert_eq!(offer.check_answer(&key, &map(&good)), Ok(None));
    let mut chosen = map(&good);
    chosen.insert(SEC_WEBSOCKET_PROTOCOL, &HeaderValue::from_static("realtime"));
    assert_eq!(offer.check_answer(&key, &chosen), Ok(Some(HeaderValue::from_static("realtime"))));
    for (name, _) in good {
        let mut lacking = map(&good);
        lacking.remove(name);
        assert!(offer.check_answer(&key, &lacking).is_err(), "without {name}");
    }
    for (name, value) in [
        ("upgrade", "h2c"),
        ("connection", "close"),
        ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ("sec-websocket-protocol", "other"),
        ("sec-websocket-protocol", "openai-insecure-api-key.sk-1"),
        ("sec-websocket-extensions", "permessage-deflate"),
    ] {
        let mut headers = map(&good);
        headers.insert(HeaderName::from_bytes(name.as_bytes()).unwrap(), &HeaderValue::from_str(value).unwrap());
        assert!(offer.check_answer(&key, &headers).is_err(), "{name}: {value}");
    }
}
