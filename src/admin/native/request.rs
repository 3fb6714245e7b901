//! What comes with a request beside its path and query: body, `If-Match`, `Idempotency-Key`.

use std::pin::Pin;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use http_body::Body as _;

use crate::admin::native::json::Json;
use crate::admin::native::refused::{Loc, Refused};
use crate::admin::service::IfMatch;

/// The largest body, bytes.
pub const LARGEST_BODY: usize = 1 << 20;

/// How much of a larger one is read before it is refused, so that whoever still sends gets to read why.
const READ_ON: usize = 8 << 20;

/// A request's head and its whole body. No `Debug`: either may hold a secret.
pub struct Sent {
    /// As it came.
    pub head: axum::http::request::Parts,
    /// At most [`LARGEST_BODY`].
    pub body: Bytes,
}

impl<S: Send + Sync> FromRequest<S> for Sent {
    type Rejection = Refused;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refused> {
        let (head, body) = request.into_parts();
        let body = read(body).await?;
        Ok(Self { head, body })
    }
}

async fn read(mut body: Body) -> Result<Bytes, Refused> {
    let mut all = Vec::new();
    let mut seen = 0_usize;
    while let Some(frame) = std::future::poll_fn(|task| Pin::new(&mut body).poll_frame(task)).await {
        let broken = |_| Refused::said(StatusCode::BAD_REQUEST, "The body ended before it was whole");
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        seen = seen.saturating_add(data.len());
        if seen <= LARGEST_BODY {
            all.extend_from_slice(&data);
        } else if seen > READ_ON {
            break;
        }
    }
    if seen > LARGEST_BODY {
        return Err(Refused::said(StatusCode::PAYLOAD_TOO_LARGE, "The body is larger than 1 MiB"));
    }
    Ok(all.into())
}

impl Sent {
    /// The body as JSON.
    ///
    /// # Errors
    /// 415, or 422 for what is not JSON.
    pub fn json(&self) -> Result<Json, Refused> {
        let kind = self.head.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/json") {
            let detail = "The content-type should be application/json";
            return Err(Refused::said(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
        }
        serde_json::from_slice(&self.body).map_err(|error| {
            let at = offset(&self.body, error.line(), error.column());
            Refused::fault(vec!["body".into(), Loc::At(at)], "json_invalid", format!("JSON decode error: {error}"))
        })
    }

    /// The same; an empty body is an empty object.
    ///
    /// # Errors
    /// As [`Sent::json`].
    pub fn json_or_empty(&self) -> Result<Json, Refused> {
        if self.body.is_empty() { Ok(Json::Object(Vec::new())) } else { self.json() }
    }

    /// Refuses a body where none is expected.
    ///
    /// # Errors
    /// 422.
    pub fn no_body(&self) -> Result<(), Refused> {
        match self.body.is_empty() {
            true => Ok(()),
            false => match self.json()? {
                Json::Object(members) if members.is_empty() => Ok(()),
                _ => Err(Refused::fault(vec!["body".into()], "extra_forbidden", "Extra inputs are not permitted")),
            },
        }
    }

    /// The `Idempotency-Key`, if there is one.
    ///
    /// # Errors
    /// 422 when there are several.
    pub fn idempotency_key(&self) -> Result<Option<&[u8]>, Refused> {
        let mut values = self.head.headers.get_all("idempotency-key").iter();
        let first = values.next().map(|value| value.as_bytes());
        if values.next().is_some() {
            let loc = vec!["header".into(), "Idempotency-Key".into()];
            return Err(Refused::fault(loc, "duplicate_header", "The header stands twice"));
        }
        Ok(first)
    }
}

/// Where a line and a column (in bytes, from 1) are in a text.
fn offset(body: &[u8], line: usize, column: usize) -> usize {
    let before =
        body.split_inclusive(|byte| *byte == b'\n').take(line.saturating_sub(1)).map(<[u8]>::len).sum::<usize>();
    before.saturating_add(column.saturating_sub(1))
}

/// `If-Match`: `*`, or tags of which one must be the key's. Weak tags never match, nor do those that were never ours.
///
/// # Errors
/// 422 for what RFC 9110 does not know as tags.
pub fn if_match(headers: &HeaderMap) -> Result<IfMatch, Refused> {
    let mut values = headers.get_all(header::IF_MATCH).iter().peekable();
    if values.peek().is_none() {
        return Ok(IfMatch::Always);
    }
    let mut versions = Vec::new();
    for value in values {
        let value = value.to_str().unwrap_or_default().trim();
        if value == "*" {
            // There is a key, or it is not found anyway.
            return Ok(IfMatch::Always);
        }
        if value.is_empty() {
            // A list of no tags, of which none matches.
            continue;
        }
        let Some(tags) = tags(value) else {
            let loc = vec!["header".into(), "If-Match".into()];
            return Err(Refused::fault(loc, "value_error", "Input should be * or entity tags such as \"1\""));
        };
        let is_ours = |tag: &&str| tag.bytes().all(|b| b.is_ascii_digit()) && !tag.starts_with('0');
        versions.extend(tags.into_iter().filter(is_ours).filter_map(|tag| tag.parse::<u64>().ok()));
    }
    Ok(IfMatch::Versions(versions))
}

/// What stands in the quotes of strong entity tags, those of weak ones left out; `None` for what is no list of tags (RFC 9110 8.8.3).
fn tags(value: &str) -> Option<Vec<&str>> {
    let (mut strong, mut rest) = (Vec::new(), value);
    loop {
        let (is_weak, tag) = rest.strip_prefix("W/").map_or((false, rest), |tag| (true, tag));
        let (opaque, after) = tag.strip_prefix('"')?.split_once('"')?;
        if !opaque.bytes().all(|b| b.is_ascii_graphic() || b >= 0x80) {
            return None;
        }
        strong.extend((!is_weak).then_some(opaque));
        let after = after.trim_start();
        if after.is_empty() {
            return Some(strong);
        }
        rest = after.strip_prefix(',')?.trim_start();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn read(values: &[&'static str]) -> Option<IfMatch> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::IF_MATCH, HeaderValue::from_static(value));
        }
        if_match(&headers).ok()
    }

    #[test]
    fn only_strong_tags_of_ours_can_match() {
        assert_eq!(read(&[]), Some(IfMatch::Always));
        assert_eq!(read(&["*"]), Some(IfMatch::Always));
        assert_eq!(read(&["\"1\", \"22\"", "\"3\""]), Some(IfMatch::Versions(vec![1, 22, 3])));
        assert_eq!(read(&["W/\"1\"", "\"x,5\", \"01\", \"\""]), Some(IfMatch::Versions(Vec::new())));
        assert_eq!(read(&[""]), Some(IfMatch::Versions(Vec::new())));
        for bad in ["1", "\"1\", ", "*, \"1\"", "\"a b\"", "W\"1\""] {
            assert_eq!(read(&[bad]), None, "{bad}");
        }
    }

    #[test]
    fn a_fault_is_placed_in_bytes() {
        assert_eq!(offset(b"{\n  x", 2, 3), 4);
        assert_eq!(offset(b"x", 1, 1), 0);
        assert_eq!(offset(b"", 1, 0), 0);
    }
}
