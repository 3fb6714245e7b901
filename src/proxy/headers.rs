//! Which headers pass, in and out. Framing and credentials are ours to set; what is hop-by-hop ends here.

use http::header::{ACCEPT, ACCEPT_ENCODING, CONNECTION, TRANSFER_ENCODING};

use crate::dialect::credential::is_credential;
use crate::headers::{Headers, Value};

/// Whether a header of this name, in lower case, is about one connection (RFC 9110 7.6.1 and the usual ones that were never registered).
fn is_of_the_hop(name: &[u8]) -> bool {
    matches!(
        name,
        b"connection"
            | b"keep-alive"
            | b"proxy-connection"
            | b"proxy-authenticate"
            | b"proxy-authorization"
            | b"te"
            | b"trailer"
            | b"transfer-encoding"
            | b"upgrade"
    )
}

/// Whether by this header a client could tell a backend that it is someone, somewhere or something else (SECURITY 1). In lower case.
fn is_never_upstream(name: &[u8]) -> bool {
    matches!(
        name,
        b"host"
            | b"content-length"
            | b"expect"
            | b"forwarded"
            | b"http2-settings"
            | b"x-real-ip"
            | b"true-client-ip"
            | b"cf-connecting-ip"
            | b"x-client-ip"
            | b"x-cluster-client-ip"
            | b"x-original-url"
            | b"x-rewrite-url"
            | b"x-http-method-override"
            | b"x-http-method"
            | b"x-method-override"
            // Which of the operator's accounts pays, and a credential that some front ends take before the usual one.
            | b"openai-organization"
            | b"openai-project"
            | b"x-goog-user-project"
            | b"x-goog-quota-user"
            // What of an answer is left out: its usage, say.
            | b"x-goog-fieldmask"
            | b"ocp-apim-subscription-key"
            // Of the client's dealings with this host, not with the backend's.
            | b"cookie"
            | b"request-id"
    )
}

/// By headers of these kinds other gateways let a caller choose where the request goes, and with it the operator's credential, or Azure's which
/// model answers. The last are of a handshake, which is ours to make.
const STEERING: [&[u8]; 8] = [
    b"x-forwarded",
    b"x-portkey-",
    b"helicone-",
    b"cf-aig-",
    b"x-litellm-",
    b"azureml-",
    b"x-ms-model-mesh-",
    b"sec-websocket-",
];

/// The names a `Connection` header lists, lower case. Framing and credential headers are set after these are taken out and cannot be named
/// away; nor can the content type, by which the body was read.
fn named_by_connection(headers: &Headers) -> Vec<String> {
    let values = headers.get_all(CONNECTION).iter().filter(|value| *value != "keep-alive");
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| name != "content-type")
        .collect()
}

/// The headers that go upstream, before ours are set: a client can neither add to nor take from what we set.
pub fn request_headers(from_client: Headers) -> Headers {
    let named = named_by_connection(&from_client);
    let mut passed = from_client;
    passed.retain(|name| {
        let is_ours = is_of_the_hop(name)
            || is_credential(name)
            || is_never_upstream(name)
            || STEERING.iter().any(|start| name.starts_with(start))
            || name.contains(&b'_')
            || named.iter().any(|n| n.as_bytes() == name);
        !is_ours
    });
    passed
}

/// Asks for no encoding of an answer that cannot be metered: what Google's APIs answer in JSON they also have in Protocol Buffers.
pub fn set_accept(headers: &mut Headers) {
    let is_usual = |value: &[u8]| matches!(value, b"application/json" | b"*/*" | b"text/event-stream");
    let is_binary = |value: &[u8]| value.windows(8).any(|part| part.eq_ignore_ascii_case(b"protobuf"));
    let wants_binary = |value: Value<'_>| !is_usual(value.as_bytes()) && is_binary(value.as_bytes());
    if headers.get_all(ACCEPT).iter().any(wants_binary) {
        headers.remove(ACCEPT);
    }
}

/// Asks for codings a copy of which can be decoded to be metered, or for none at all.
pub fn set_accept_encoding(headers: &mut Headers, must_be_identity: bool) {
    if must_be_identity || !headers.contains_key(ACCEPT_ENCODING) {
        headers.insert(ACCEPT_ENCODING, Value::from_static("identity"));
        return;
    }
    let wanted = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let known = wanted.flat_map(|value| value.split(',')).filter_map(|coding| {
        let name = coding.split(';').next().unwrap_or_default().trim();
        let is_refused = coding.bytes().rev().filter(|byte| *byte != b' ').take(4).eq(*b"0=q;");
        ["gzip", "deflate", "br"].into_iter().find(|known| !is_refused && known.eq_ignore_ascii_case(name))
    });
    let known = known.collect::<Vec<_>>();
    let value = if known.is_empty() { "identity".to_owned() } else { known.join(", ") };
    if let Some(value) = Value::of(&value) {
        headers.insert(ACCEPT_ENCODING, value);
    }
}

/// The headers of an upstream's answer that pass to the client, but for those that are `ours` to say.
pub fn answer_headers(from_upstream: Headers, ours: impl Fn(&[u8]) -> bool) -> Headers {
    let named = named_by_connection(&from_upstream);
    // The chunks were believed, so the length must not be told (RFC 9112 6.3).
    let is_chunked = from_upstream.contains_key(TRANSFER_ENCODING);
    let mut headers = from_upstream;
    headers.retain(|name| {
        let is_hops = is_of_the_hop(name) || (is_chunked && name == b"content-length");
        !is_hops && !named.iter().any(|n| n.as_bytes() == name) && !ours(name)
    });
    headers
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> Headers {
        pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn no_answer_is_asked_for_that_cannot_be_metered() {
        for (accept, passes) in [
            ("application/json", true),
            ("*/*", true),
            ("application/json, text/plain", true),
            ("application/x-protobuf", false),
            ("application/json;q=0.1, application/X-ProtoBuf", false),
        ] {
            let mut headers = map(&[("accept", accept), ("x-other", "protobuf")]);
            set_accept(&mut headers);
            assert_eq!((headers.contains_key(ACCEPT), headers.len()), (passes, 1 + usize::from(passes)), "{accept}");
        }
    }

    #[test]
    fn nothing_about_the_hop_the_caller_or_its_secret_goes_upstream() {
        let headers = map(&[
            ("connection", "close, X-Secret-Hop, authorization, Content-Type"),
            ("x-secret-hop", "1"),
            ("authorization", "Bearer a"),
            ("x-api-key", "a"),
            ("api-key", "a"),
            ("x-goog-api-key", "a"),
            ("x-goog-fieldmask", "candidates"),
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-host", "evil"),
            ("forwarded", "for=1.1.1.1"),
            ("x_under", "1"),
            ("upgrade", "h2c"),
            ("http2-settings", "AA"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("content-length", "3"),
            ("host", "h"),
            ("x-original-url", "/admin"),
            ("helicone-target-url", "http://evil"),
            ("x-portkey-custom-host", "http://evil"),
            ("x-ms-model-mesh-model-name", "dearer"),
            ("cf-aig-custom-host", "evil"),
            ("openai-organization", "org-1"),
            ("cookie", "session=1"),
            ("x-litellm-api-key", "a"),
            ("request-id", "1"),
            ("sec-websocket-protocol", "openai-insecure-api-key.a"),
            ("content-type", "application/json"),
            ("anthropic-version", "2023-06-01"),
            ("traceparent", "00-1-2-3"),
        ]);
        let passed = request_headers(headers);
        let names = passed.keys().collect::<Vec<_>>();
        assert_eq!(names, ["content-type", "anthropic-version", "traceparent"]);
    }

    #[test]
    fn only_codings_we_can_read_are_asked_for() {
        let asked = |value: &'static str, identity| {
            let mut headers = map(&[("accept-encoding", value)]);
            set_accept_encoding(&mut headers, identity);
            headers[ACCEPT_ENCODING].to_owned()
        };
        assert_eq!(asked("gzip, deflate, br, zstd", false), "gzip, deflate, br");
        assert_eq!(asked("zstd", false), "identity");
        assert_eq!(asked("gzip;q=0, br;q=0.5", false), "br");
        assert_eq!(asked("gzip", true), "identity");
    }

    #[test]
    fn an_answer_keeps_everything_but_the_hop() {
        let headers = map(&[
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("keep-alive", "5"),
            ("x-any", "1"),
            ("x-ours", "1"),
            ("content-length", "3"),
        ]);
        let passed = answer_headers(headers, |name| name == b"x-ours");
        assert_eq!(passed.keys().collect::<Vec<_>>().len(), 2);
        assert!(passed.contains_key("x-any") && passed.contains_key("content-length"));
    }
}
