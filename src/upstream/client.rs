//! One request to one upstream: connect, send, wait for the head of the answer.

use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{Request, Response, Uri, response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::policy::Fault;
use crate::upstream::play::Playing;
use crate::upstream::pool::{Connection, Lease, Pool};
use crate::upstream::route::{Endpoint, Upstream};
use crate::upstream::tls;

/// Read buffer of an upstream connection, bytes at most: bounds what one slow client can make us hold.
const READ_BUFFER_MAX: usize = 64 * 1024;

/// A request on its way out, rebuilt from typed parts.
#[derive(Debug)]
pub struct Outgoing {
    /// Path and query as the upstream is to see them, without the upstream's own prefix.
    pub path_and_query: String,
    /// Method, headers (the upstream's credential included) and body; target and `Host` are set for each endpoint.
    pub request: Request<Whole>,
}

/// The head of an upstream's answer, and its body to come.
#[derive(Debug)]
pub struct Answered {
    /// Status and headers.
    pub parts: response::Parts,
    /// The body.
    pub body: UpstreamBody,
}

/// An answer's body while it comes in.
#[derive(Debug)]
pub enum UpstreamBody {
    /// Over HTTP.
    Http {
        /// What hyper reads.
        incoming: Incoming,
        /// The connection, back to the pool at the end.
        lease: Lease,
    },
    /// From the built-in backend.
    Sandbox(Playing),
}

/// A body that broke, and how.
#[derive(Debug)]
pub struct BodyBroke(pub String);

impl UpstreamBody {
    /// The next data of the body; trailers are passed over. `None` at its clean end.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyBroke>>> {
        match self {
            Self::Http { incoming, lease } => loop {
                // What it waits for comes about as the connection is driven, so it has nobody to wake.
                let mut asked = Pin::new(&mut *incoming).poll_frame(&mut Context::from_waker(Waker::noop()));
                if asked.is_pending() {
                    lease.drive(cx);
                    asked = Pin::new(&mut *incoming).poll_frame(&mut Context::from_waker(Waker::noop()));
                }
                match asked {
                    Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                        Ok(data) => {
                            if incoming.is_end_stream() {
                                lease.finish();
                            }
                            return Poll::Ready(Some(Ok(data)));
                        }
                        Err(_trailers) => {}
                    },
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(BodyBroke(error.to_string())))),
                    Poll::Ready(None) => {
                        lease.finish();
                        return Poll::Ready(None);
                    }
                    Poll::Pending => return Poll::Pending,
                }
            },
            Self::Sandbox(playing) => playing.poll_data(cx),
        }
    }

    /// Whether the end is known to have come already.
    pub fn is_ended(&self) -> bool {
        match self {
            Self::Http { incoming, .. } => incoming.is_end_stream(),
            Self::Sandbox(playing) => playing.is_ended(),
        }
    }
}

/// Sends `outgoing` to the least loaded endpoint of `upstream`, tries another as often as the operator allows while nothing was
/// accepted, and waits for the head of the answer.
///
/// # Errors
/// The [`Fault`] to tell the caller, and a note for the log.
pub async fn send(pool: &Rc<Pool>, upstream: &Upstream, outgoing: Outgoing) -> Result<Answered, (Fault, String)> {
    let settings = &upstream.settings;
    let mut outgoing = outgoing;
    let mut tried = Vec::new();
    let mut last = (Fault::UpstreamUnreachable, "no endpoint".to_owned());
    for _ in 0..=settings.retries {
        let Some(endpoint) = choose(pool, upstream, &tried) else { break };
        tried.push(endpoint.number);
        match attempt(pool, upstream, endpoint, outgoing).await {
            Ok(answered) => return Ok(answered),
            Err(Attempt { fault, note, unsent: Some(back) }) => {
                last = (fault, note);
                outgoing = *back;
            }
            Err(Attempt { fault, note, unsent: None }) => return Err((fault, note)),
        }
    }
    Err(last)
}

/// The endpoint with the fewest requests under way, one not tried yet before one that was.
fn choose<'a>(pool: &Pool, upstream: &'a Upstream, tried: &[u64]) -> Option<&'a Endpoint> {
    upstream.endpoints.iter().min_by_key(|endpoint| {
        let times = tried.iter().filter(|number| **number == endpoint.number).count();
        (times, pool.outstanding(endpoint.number))
    })
}

/// A failed attempt; `unsent` is the request where no byte of it was accepted.
struct Attempt {
    fault: Fault,
    note: String,
    unsent: Option<Box<Outgoing>>,
}

async fn attempt(
    pool: &Rc<Pool>,
    upstream: &Upstream,
    endpoint: &Endpoint,
    mut outgoing: Outgoing,
) -> Result<Answered, Attempt> {
    let settings = &upstream.settings;
    let counted = pool.count(endpoint.number);
    address(endpoint, &mut outgoing).map_err(|note| Attempt { fault: Fault::Internal, note, unsent: None })?;
    let Outgoing { path_and_query, mut request } = outgoing;
    let unsent = |request| Some(Box::new(Outgoing { path_and_query, request }));
    // A pooled connection that turns out closed costs nothing: the request comes back unsent and takes the next one.
    loop {
        let (mut connection, is_fresh) = match pool.take(endpoint.number) {
            Some(connection) => (connection, false),
            // Boxed, or every request would carry the room for a handshake.
            None => match Box::pin(connect(pool, endpoint, settings.connect_timeout)).await {
                Ok(connection) => (connection, true),
                Err(note) => {
                    return Err(Attempt { fault: Fault::UpstreamUnreachable, note, unsent: unsent(request) });
                }
            },
        };
        match timeout(settings.first_byte_timeout, connection.send(request)).await {
            Ok(Ok(response)) => {
                let (parts, incoming) = Response::into_parts(response);
                // Nothing here asks for another protocol.
                if parts.status.is_informational() {
                    let note = format!("status {}", parts.status);
                    return Err(Attempt { fault: Fault::UpstreamBroken, note, unsent: None });
                }
                let mut lease = Lease::new(Rc::clone(pool), endpoint.number, connection, counted);
                if incoming.is_end_stream() {
                    lease.finish();
                }
                return Ok(Answered { parts, body: UpstreamBody::Http { incoming, lease } });
            }
            Ok(Err(mut error)) => match error.take_message() {
                Some(back) if !is_fresh => request = back,
                Some(back) => {
                    let note = error.into_error().to_string();
                    return Err(Attempt { fault: Fault::UpstreamUnreachable, note, unsent: unsent(back) });
                }
                None => {
                    let note = error.into_error().to_string();
                    return Err(Attempt { fault: Fault::UpstreamBroken, note, unsent: None });
                }
            },
            Err(_elapsed) => {
                let note = format!("no first byte in {:?}", settings.first_byte_timeout);
                return Err(Attempt { fault: Fault::UpstreamTimeout, note, unsent: None });
            }
        }
    }
}

async fn connect(pool: &Pool, endpoint: &Endpoint, limit: Duration) -> Result<Connection, String> {
    let address = &endpoint.address;
    let connecting = async {
        let tcp = TcpStream::connect((&*address.host, address.port)).await?;
        tcp.set_nodelay(true)?;
        if address.tls {
            let stream = tls::connect(&pool.tls, &address.host, tcp).await?;
            handshake(stream).await
        } else {
            handshake(tcp).await
        }
    };
    match timeout(limit, connecting).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(format!("{}: {error}", address.authority)),
        Err(_elapsed) => Err(format!("{}: no connection in {limit:?}", address.authority)),
    }
}

async fn handshake<S>(stream: S) -> std::io::Result<Connection>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(READ_BUFFER_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(std::io::Error::other)?;
    Ok(Connection::new(sender, Box::pin(connection)))
}

/// Path and query as `endpoint` is to see them.
///
/// # Errors
/// What is wrong with them, for the log.
pub(super) fn target(endpoint: &Endpoint, path_and_query: &str) -> Result<Uri, String> {
    Uri::try_from(join(&endpoint.address.prefix, path_and_query)).map_err(|error| error.to_string())
}

/// Points the request at `endpoint`.
fn address(endpoint: &Endpoint, outgoing: &mut Outgoing) -> Result<(), String> {
    *outgoing.request.uri_mut() = target(endpoint, &outgoing.path_and_query)?;
    outgoing.request.headers_mut().insert(HOST, endpoint.host.clone());
    Ok(())
}

/// An endpoint's prefix before the API's own path. A prefix that ends in the path's first segment (`https://host/v1` and
/// `/v1/chat/completions`) is not doubled: operators write base URLs both ways.
fn join(prefix: &str, path: &str) -> String {
    let shared = prefix.rfind('/').map_or("", |at| &prefix[at..]);
    let is_doubled = !shared.is_empty() && path.strip_prefix(shared).is_some_and(|rest| rest.starts_with('/'));
    let path = if is_doubled { &path[shared.len()..] } else { path };
    format!("{prefix}{path}")
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
        assert_eq!(join("", "/v1/messages"), "/v1/messages");
        assert_eq!(join("/v1", "/v1/messages"), "/v1/messages");
        assert_eq!(join("/proxy/v1", "/v1/messages?x"), "/proxy/v1/messages?x");
        assert_eq!(join("/proxy", "/v1/messages"), "/proxy/v1/messages");
        assert_eq!(join("/v1", "/v1beta/models/m:generateContent"), "/v1/v1beta/models/m:generateContent");
    }
}
