//! A request on its way to an upstream: rebuilt from typed parts, then pointed at one pool and one endpoint.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::HOST;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, Request, Uri};
use http_body::{Body, Frame, SizeHint};

use crate::upstream::route::{Endpoint, Upstream};
use crate::upstream::settings::{Credential, Kind};

/// A request on its way out.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Path and query as the upstream is to see them, without the upstream's own prefix.
    pub path_and_query: String,
    /// Method, headers and body; what is an upstream's or an endpoint's own is set for each.
    pub request: Request<Whole>,
    /// The headers as they are without an upstream's own; kept only where another upstream may have to take over.
    pub plain_headers: Option<HeaderMap>,
}

impl Outgoing {
    /// Puts in what is the upstream's own: the operator's headers, and a credential.
    pub fn dress(&mut self, upstream: &Upstream, credential: Option<&Credential>) {
        let headers = self.request.headers_mut();
        for (name, value) in &upstream.settings.headers {
            headers.insert(name, value.clone());
        }
        if let (Some(credential), Kind::Http(dialect)) = (credential, upstream.settings.kind) {
            credential.put_into(headers, dialect);
        }
    }

    /// Takes out what was an upstream's own.
    pub fn undress(&mut self) {
        if let Some(plain) = &self.plain_headers {
            *self.request.headers_mut() = plain.clone();
        }
    }

    /// Points it at `endpoint`, as HTTP/1.1 or HTTP/2 has it.
    ///
    /// # Errors
    /// The target cannot be one.
    pub fn address(&mut self, endpoint: &Endpoint, is_http2: bool) -> Result<(), String> {
        let target = join(&endpoint.address.prefix, &self.path_and_query);
        let path_and_query = PathAndQuery::from_maybe_shared(Bytes::from(target)).map_err(|error| error.to_string())?;
        if is_http2 {
            let mut parts = http::uri::Parts::default();
            parts.path_and_query = Some(path_and_query);
            parts.scheme = Some(if endpoint.address.tls { Scheme::HTTPS } else { Scheme::HTTP });
            parts.authority = Some(endpoint.address.authority.clone());
            self.request.headers_mut().remove(HOST);
            *self.request.uri_mut() = Uri::from_parts(parts).map_err(|error| error.to_string())?;
        } else {
            self.request.headers_mut().insert(HOST, endpoint.host.clone());
            *self.request.uri_mut() = Uri::from(path_and_query);
        }
        Ok(())
    }
}

/// An endpoint's prefix before the API's own path. A prefix that ends in the path's first segment (`https://host/v1` and
/// `/v1/chat/completions`) is not doubled: operators write base URLs both ways.
fn join(prefix: &str, path: &str) -> String {
    let shared = prefix.rfind('/').map_or("", |at| &prefix[at..]);
    let is_doubled = !shared.is_empty() && path.strip_prefix(shared).is_some_and(|rest| rest.starts_with('/'));
    let path = if is_doubled { &path[shared.len()..] } else { path };
    let mut joined = String::with_capacity(prefix.len() + path.len());
    joined.push_str(prefix);
    joined.push_str(path);
    joined
}

/// A body of one piece whose length is known, so that head and body leave in one write.
#[derive(Debug, Clone, Default)]
pub struct Whole(Option<Bytes>);

impl Whole {
    /// `bytes`, or no body at all when they are empty.
    pub fn new(bytes: Bytes) -> Self {
        Self((!bytes.is_empty()).then_some(bytes))
    }

    /// The bytes; none where there is no body, or it has been read.
    pub fn bytes(&self) -> Bytes {
        self.0.clone().unwrap_or_default()
    }
}

impl Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.get_mut().0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_that_ends_in_the_version_is_not_doubled() {
        assert_eq!(join("", "/v1/messages"), "/v1/messages");
        assert_eq!(join("/v1", "/v1/messages"), "/v1/messages");
        assert_eq!(join("/proxy/v1", "/v1/messages?x"), "/proxy/v1/messages?x");
        assert_eq!(join("/proxy", "/v1/messages"), "/proxy/v1/messages");
        assert_eq!(join("/v1", "/v1beta/models/m:generateContent"), "/v1/v1beta/models/m:generateContent");
    }
}
