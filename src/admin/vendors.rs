//! What the dialects of other vendors share: their settings, who calls, what stands in the query and the body.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Extensions, HeaderMap, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use percent_encoding::percent_decode_str;

use crate::admin::operators::LoginRefused;
use crate::admin::service::Caller;
use crate::admin::settings::{ApigSettings, NewApiSettings, Settings};
use crate::admin::surface::Surface;

/// The largest body, bytes.
pub(super) const MAX_BODY: usize = 1024 * 1024;

/// How much of a larger one is read before it is refused, so that whoever still sends gets to read why.
const READ_ON: usize = 8 * MAX_BODY;

/// The settings in force of the two dialects.
#[derive(Debug)]
pub struct Vendors {
    apig: ArcSwap<ApigSettings>,
    newapi: ArcSwap<NewApiSettings>,
}

impl Vendors {
    /// Those of the configuration.
    pub fn new(settings: &Settings) -> Self {
        Self {
            apig: ArcSwap::from_pointee(settings.apig.clone()),
            newapi: ArcSwap::from_pointee(settings.newapi.clone()),
        }
    }

    /// Puts others in force, for the next request.
    pub fn replace(&self, settings: &Settings) {
        self.apig.store(Arc::new(settings.apig.clone()));
        self.newapi.store(Arc::new(settings.newapi.clone()));
    }

    /// `[admin.apig]`.
    pub(super) fn apig(&self) -> Arc<ApigSettings> {
        self.apig.load_full()
    }

    /// `[admin.newapi]`.
    pub(super) fn newapi(&self) -> Arc<NewApiSettings> {
        self.newapi.load_full()
    }
}

/// Who calls, by the token it shows.
pub(super) fn caller(
    surface: &Surface,
    token: Option<&[u8]>,
    extensions: &Extensions,
    via: &'static str,
) -> Result<Caller, LoginRefused> {
    let peer = extensions.get::<ConnectInfo<SocketAddr>>();
    // The listener always tells who it is.
    let address = peer.map_or(Ipv4Addr::UNSPECIFIED.into(), |ConnectInfo(peer)| peer.ip().to_canonical());
    let operator = surface.log_in(token, address)?;
    Ok(Caller { operator, address, via })
}

/// Whether a page in a browser sent it: none has any business here (SECURITY 4).
pub(super) fn is_from_a_page(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ORIGIN)
}

/// Why a body is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyFault {
    /// It does not say that it is JSON.
    NotJson,
    /// It is larger than [`MAX_BODY`].
    TooLarge,
    /// It ended too early.
    Broken,
}

/// The whole body. An empty one need not say what it is.
pub(super) async fn body(headers: &HeaderMap, mut body: Body) -> Result<Bytes, BodyFault> {
    let mut whole = BytesMut::new();
    let mut seen = 0_usize;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| BodyFault::Broken)?.into_data() else { continue };
        seen = seen.saturating_add(data.len());
        if seen <= MAX_BODY {
            whole.extend_from_slice(&data);
        } else if seen > READ_ON {
            break;
        }
    }
    if seen > MAX_BODY {
        return Err(BodyFault::TooLarge);
    }
    if whole.is_empty() || is_json(headers) { Ok(whole.freeze()) } else { Err(BodyFault::NotJson) }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// The first value of a parameter, decoded as forms are. One that is not UTF-8 is read with replacement characters.
pub(super) fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    let decode = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    let mut pairs = query.unwrap_or_default().split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.find(|(own, _)| decode(own) == name).map(|(_, value)| decode(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_the_first_of_a_name_counts() {
        let query = Some("p=1&keyword=%E4%BD%A0+a%2Bb&p=2&bad=%ff%&x&=y&key%77ord=no");
        assert_eq!(parameter(query, "p").as_deref(), Some("1"));
        assert_eq!(parameter(query, "keyword").as_deref(), Some("你 a+b"));
        assert_eq!(parameter(query, "bad").as_deref(), Some("\u{fffd}%"));
        assert_eq!(
            (parameter(query, "x").as_deref(), parameter(query, "z"), parameter(None, "p")),
            (Some(""), None, None)
        );
    }

    #[tokio::test]
    async fn a_body_says_that_it_is_json_and_is_not_too_large() {
        let headers = |name: header::HeaderName, value: &str| HeaderMap::from_iter([(name, value.parse().unwrap())]);
        let json = headers(header::CONTENT_TYPE, "Application/JSON; charset=utf-8");
        assert_eq!(body(&json, Body::from("{}")).await, Ok(Bytes::from("{}")));
        assert_eq!(body(&HeaderMap::new(), Body::empty()).await, Ok(Bytes::new()));
        assert_eq!(body(&HeaderMap::new(), Body::from("{}")).await, Err(BodyFault::NotJson));
        assert_eq!(body(&json, Body::from(vec![b' '; MAX_BODY + 1])).await, Err(BodyFault::TooLarge));
        assert_eq!(body(&json, Body::from(vec![b' '; READ_ON + 1])).await, Err(BodyFault::TooLarge));
        assert_eq!(body(&json, Body::from(vec![b' '; MAX_BODY])).await.map(|body| body.len()), Ok(MAX_BODY));
    }
}
