//! The one secret a request carries, wherever its client puts it.

use std::borrow::Cow;

use http::HeaderName;
use http::header::AUTHORIZATION;

use crate::dialect::route::target::{keys, unescape};
use crate::headers::Headers;
use crate::policy::Refusal;

/// The headers that carry a secret, on any route (ECOSYSTEM 2). None of them is forwarded.
pub static CREDENTIAL_HEADERS: [HeaderName; 4] = [
    AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
];

/// Whether `name`, in lower case, is one of [`CREDENTIAL_HEADERS`].
pub fn is_credential(name: &[u8]) -> bool {
    matches!(name, b"authorization" | b"x-api-key" | b"api-key" | b"x-goog-api-key")
}

/// The secret of a request: one of [`CREDENTIAL_HEADERS`] or `?key=`. The same value in two different places is one secret.
/// `None` when there is none at all, which the caller answers with [`Refusal::InvalidKey`]. Allocates only for an escaped
/// `?key=`.
///
/// # Errors
/// [`Refusal::AmbiguousCredential`] when one place holds two, or two places hold different ones;
/// [`Refusal::InvalidKey`] when it is empty or not of the form `Bearer <token>`.
pub fn credential<'a>(headers: &'a Headers, query: Option<&'a str>) -> Result<Option<Cow<'a, [u8]>>, Refusal> {
    credential_or(headers, query, None)
}

/// As [`credential`], with one more place that may hold it: a websocket's subprotocols.
///
/// # Errors
/// As [`credential`].
pub fn credential_or<'a>(
    headers: &'a Headers,
    query: Option<&'a str>,
    other: Option<Cow<'a, [u8]>>,
) -> Result<Option<Cow<'a, [u8]>>, Refusal> {
    // Outer `None`: no place seen yet. Inner `None`: one seen that holds nothing a secret could be.
    let mut found: Option<Option<Cow<'a, [u8]>>> = None;
    for name in &CREDENTIAL_HEADERS {
        let mut values = headers.get_all(name).iter();
        let Some(value) = values.next() else { continue };
        if values.next().is_some() {
            return Err(Refusal::AmbiguousCredential);
        }
        let value = value.as_bytes();
        let secret = if *name == AUTHORIZATION { bearer(value) } else { plain(value) };
        found = Some(join(found, secret.map(Cow::Borrowed))?);
    }
    let mut values = query.map(keys).into_iter().flatten();
    if let Some(value) = values.next() {
        if values.next().is_some() {
            return Err(Refusal::AmbiguousCredential);
        }
        let secret = unescape(value).filter(|secret| plain(secret).is_some());
        found = Some(join(found, secret)?);
    }
    if let Some(other) = other {
        found = Some(join(found, Some(other).filter(|secret| plain(secret).is_some()))?);
    }
    match found {
        None => Ok(None),
        Some(None) => Err(Refusal::InvalidKey),
        Some(secret) => Ok(secret),
    }
}

type Place<'a> = Option<Cow<'a, [u8]>>;

/// What two places hold together.
fn join<'a>(before: Option<Place<'a>>, next: Place<'a>) -> Result<Place<'a>, Refusal> {
    match before {
        Some(before) if before != next => Err(Refusal::AmbiguousCredential),
        _ => Ok(next),
    }
}

/// The token of `Bearer <token>`: the scheme in any letter case, exactly one space (RFC 6750 2.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(b"bearer ".len())?;
    if scheme.eq_ignore_ascii_case(b"bearer ") { plain(token) } else { None }
}

/// A secret has no spaces and is not empty.
fn plain(value: &[u8]) -> Option<&[u8]> {
    // Without a way out amid the value, so that it is looked at many bytes at once.
    let has_space = value.iter().fold(false, |found, byte| found | matches!(byte, b' ' | b'\t'));
    (!value.is_empty() && !has_space).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(pairs: &[(&'static str, &str)]) -> Headers {
        let mut headers = Headers::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), &HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn read(pairs: &[(&'static str, &str)], query: Option<&str>) -> Result<Option<String>, Refusal> {
        let headers = headers(pairs);
        let secret = credential(&headers, query)?;
        Ok(secret.map(|bytes| String::from_utf8(bytes.into_owned()).unwrap()))
    }

    #[test]
    fn credentials_are_known_by_name() {
        assert!(CREDENTIAL_HEADERS.iter().all(|name| is_credential(name.as_str().as_bytes())));
        for name in ["authorizations", "x-api", "api-keys", "key", ""] {
            assert!(!is_credential(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn every_place_is_read_on_any_route() {
        let good = Ok(Some("sk-kw-1".to_owned()));
        for place in ["x-api-key", "api-key", "x-goog-api-key"] {
            assert_eq!(read(&[(place, "sk-kw-1")], None), good, "{place}");
        }
        for value in ["Bearer sk-kw-1", "bearer sk-kw-1", "BEARER sk-kw-1"] {
            assert_eq!(read(&[("authorization", value)], None), good, "{value}");
        }
        for query in ["key=sk-kw-1", "alt=sse&key=sk%2Dkw-1", "%6bey=sk-kw-1"] {
            assert_eq!(read(&[], Some(query)), good, "{query}");
        }
        assert_eq!(read(&[], Some("key=a+b/c%3D")), Ok(Some("a+b/c=".to_owned())));
        assert_eq!(read(&[("accept", "*/*")], Some("alt=sse&Key=x")), Ok(None));
    }

    #[test]
    fn the_same_secret_in_two_places_is_one_and_two_secrets_are_refused() {
        let good = Ok(Some("s-1".to_owned()));
        assert_eq!(read(&[("authorization", "Bearer s-1"), ("x-api-key", "s-1")], None), good);
        assert_eq!(read(&[("x-goog-api-key", "s-1")], Some("key=s-1")), good);
        let ambiguous = Err(Refusal::AmbiguousCredential);
        assert_eq!(read(&[("authorization", "Bearer s-1"), ("x-api-key", "s-2")], None), ambiguous);
        assert_eq!(read(&[("api-key", "s-1")], Some("key=s-2")), ambiguous);
        assert_eq!(read(&[], Some("key=s-1&key=s-1")), ambiguous);
        assert_eq!(read(&[], Some("key=s-1&%6Bey=s-1")), ambiguous);
        for place in ["authorization", "x-api-key", "api-key", "x-goog-api-key"] {
            assert_eq!(read(&[(place, "Bearer s-1"), (place, "Bearer s-1")], None), ambiguous, "{place}");
        }
        assert_eq!(read(&[("authorization", "Basic s-1"), ("x-api-key", "s-1")], None), ambiguous);
    }

    #[test]
    fn a_further_place_is_one_like_the_others() {
        let read = |pairs: &[(&'static str, &str)], other: &'static [u8]| {
            let headers = headers(pairs);
            credential_or(&headers, None, Some(Cow::Borrowed(other))).map(|secret| secret.map(Cow::into_owned))
        };
        assert_eq!(read(&[], b"s-1"), Ok(Some(b"s-1".to_vec())));
        assert_eq!(read(&[("api-key", "s-1")], b"s-1"), Ok(Some(b"s-1".to_vec())));
        assert_eq!(read(&[("api-key", "s-2")], b"s-1"), Err(Refusal::AmbiguousCredential));
        assert_eq!(read(&[], b""), Err(Refusal::InvalidKey));
    }

    #[test]
    fn what_cannot_be_a_secret_is_an_invalid_key() {
        for value in
            ["", "Bearer", "Bearer ", "Bearer  s-1", "Bearer\ts-1", "Bearer s-1 s-2", "Basic s-1", "s-1", "Bearers s"]
        {
            assert_eq!(read(&[("authorization", value)], None), Err(Refusal::InvalidKey), "{value:?}");
        }
        assert_eq!(read(&[("x-api-key", "")], None), Err(Refusal::InvalidKey));
        assert_eq!(read(&[("x-api-key", "a b")], None), Err(Refusal::InvalidKey));
        for query in ["key=", "key", "key=%zz", "key=%2", "key=a%20b"] {
            assert_eq!(read(&[], Some(query)), Err(Refusal::InvalidKey), "{query}");
        }
        let mut opaque = Headers::new();
        opaque.insert(HeaderName::from_static("x-api-key"), &HeaderValue::from_bytes(b"\xff\xfe").unwrap());
        assert_eq!(credential(&opaque, None), Ok(Some(Cow::Borrowed(&b"\xff\xfe"[..]))));
    }
}
