//! A request on its way to an upstream: rebuilt from typed parts, then pointed at one pool and one endpoint.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::HOST;
use http::uri::{PathAndQuery, Scheme};
use http::{Method, Request, Uri};
use http_body::{Body, Frame, SizeHint};

use crate::headers::Headers;
use crate::upstream::route::{Endpoint, Upstream};
use crate::upstream::settings::{Credential, Kind};

/// A request on its way out.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// The method.
    pub method: Method,
    /// Path and query as the upstream is to see them, without the upstream's own prefix.
    pub path_and_query: String,
    /// The headers, but for those of framing and of where it goes.
    pub headers: Headers,
    /// The body; empty where there is none.
    pub body: Bytes,
    /// The headers as they are without an upstream's own; kept only where another upstream may have to take over.
    pub plain_headers: Option<Box<Headers>>,
}

impl Outgoing {
    /// Puts in what is the upstream's own: the operator's headers, and a credential.
    pub fn dress(&mut self, upstream: &Upstream, credential: Option<&Credential>) {
        for (name, value) in &upstream.settings.headers {
            self.headers.insert(name, value);
        }
        if let (Some(credential), Kind::Http(dialect)) = (credential, upstream.settings.kind) {
            credential.put_into(&mut self.headers, dialect);
        }
    }

    /// Takes out what was an upstream's own.
    pub fn undress(&mut self) {
        if let Some(plain) = &self.plain_headers {
            self.headers = Headers::clone(plain);
        }
    }

    /// Whether path and query can stand in a request: a name that was put into them may be of any letters.
    pub fn is_sound(&self) -> bool {
        let is_part = |byte: u8| byte > b' ' && byte != 0x7f && byte != b'#';
        self.path_and_query.starts_with('/') && self.path_and_query.bytes().all(is_part)
    }

    /// The same for connections that are hyper's, to `endpoint`, as HTTP/1.1 or HTTP/2 has it.
    ///
    /// # Errors
    /// The target cannot be one.
    pub fn request(&self, endpoint: &Endpoint, is_http2: bool) -> Result<Request<Whole>, String> {
        let target = join(&endpoint.address.prefix, &self.path_and_query).concat();
        let path_and_query = PathAndQuery::from_maybe_shared(Bytes::from(target)).map_err(|error| error.to_string())?;
        let mut request = Request::new(Whole::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.headers_mut() = self.headers.clone().into();
        if is_http2 {
            let mut parts = http::uri::Parts::default();
            parts.path_and_query = Some(path_and_query);
            parts.scheme = Some(if endpoint.address.tls { Scheme::HTTPS } else { Scheme::HTTP });
            parts.authority = Some(endpoint.address.authority.clone());
            *request.uri_mut() = Uri::from_parts(parts).map_err(|error| error.to_string())?;
        } else {
            request.headers_mut().insert(HOST, endpoint.host.clone());
            *request.uri_mut() = Uri::from(path_and_query);
        }
        Ok(request)
    }
}

/// An endpoint's prefix, and what of the API's own path stands behind it. A prefix that ends in the path's first segment (`https://host/v1` and
/// `/v1/chat/completions`) is not doubled: operators write base URLs both ways.
pub fn join<'a>(prefix: &'a str, path: &'a str) -> [&'a str; 2] {
    if prefix.is_empty() {
        return [prefix, path];
    }
    let shared = prefix.rfind('/').map_or("", |at| &prefix[at..]);
    let is_doubled = !shared.is_empty() && path.strip_prefix(shared).is_some_and(|rest| rest.starts_with('/'));
    [prefix, if is_doubled { &path[shared.len()..] } else { path }]
}

/// A body of one piece whose length is known, so that head and body leave in one write.
#[derive(Debug, Clone, Default)]
pub struct Whole(Option<Bytes>);

impl Whole {
    /// `bytes`, or no body at all when they are empty.
    pub fn new(bytes: Bytes) -> Self {
        Self((!bytes.is_empty()).then_some(bytes))
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
        assert_eq!(join("", "/v1/messages").concat(), "/v1/messages");
        assert_eq!(join("/v1", "/v1/messages").concat(), "/v1/messages");
        assert_eq!(join("/proxy/v1", "/v1/messages?x").concat(), "/proxy/v1/messages?x");
        assert_eq!(join("/proxy", "/v1/messages").concat(), "/proxy/v1/messages");
        assert_eq!(join("/v1", "/v1beta/models/m:generateContent").concat(), "/v1/v1beta/models/m:generateContent");
    }
}
