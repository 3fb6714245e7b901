//! A websocket to an upstream: a connection of its own, our own opening handshake on it, and nothing but what a correct 101 opens.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use http::header::HOST;
use http::{HeaderMap, HeaderValue, Request, StatusCode, response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::upgrade::{self, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::dialect::websocket::Offer;
use crate::dialect::websocket::handshake::Key;
use crate::policy::Fault;
use crate::upstream::client::{Whole, target};
use crate::upstream::pool::{Counted, Driver, Pool};
use crate::upstream::route::{Endpoint, Upstream};
use crate::upstream::tls;

/// The longest body of an answer that opens nothing.
const MOST_BODY: usize = 256 * 1024;

/// What became of a handshake.
#[derive(Debug)]
pub enum Met {
    /// The upstream agreed.
    Opened(Box<Opened>),
    /// It answered otherwise.
    Declined {
        /// Status and headers.
        parts: Box<response::Parts>,
        /// The body, whole.
        body: Bytes,
    },
}

/// A websocket to an upstream. Dropping it closes it at once.
#[derive(Debug)]
pub struct Opened {
    /// Its bytes.
    pub io: TokioIo<Upgraded>,
    /// The headers of the 101.
    pub headers: HeaderMap,
    /// The subprotocol it chose.
    pub chosen: Option<HeaderValue>,
    _counted: Counted,
}

/// Shakes hands with the least loaded endpoint of `upstream`. `headers` are what passes of the client's, with the upstream's credential;
/// those of the handshake are put beside them.
///
/// # Errors
/// The [`Fault`] to tell the caller, and a note for the log.
pub async fn open(
    pool: &Rc<Pool>,
    upstream: &Upstream,
    path_and_query: &str,
    mut headers: HeaderMap,
    offer: &Offer,
) -> Result<Met, (Fault, String)> {
    let internal = |note: String| (Fault::Internal, note);
    let least = upstream.endpoints.iter().min_by_key(|endpoint| pool.outstanding(endpoint.number));
    let Some(endpoint) = least else { return Err((Fault::UpstreamUnreachable, "no endpoint".to_owned())) };
    let counted = pool.count(endpoint.number);
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| internal(error.to_string()))?;
    let key = Key::new(random);
    offer.put_request_headers(&key, &mut headers);
    headers.insert(HOST, endpoint.host.clone());
    let mut request = Request::new(Whole::default());
    *request.uri_mut() = target(endpoint, path_and_query).map_err(internal)?;
    *request.headers_mut() = headers;
    let (mut sender, driver) = connect(pool, upstream, endpoint).await?;
    let mut driver = Some(driver);
    let limit = upstream.settings.first_byte_timeout;
    let broken = |note: String| (Fault::UpstreamBroken, note);
    let asking = async {
        let sent = along(&mut driver, sender.send_request(request)).await;
        let (parts, incoming) = sent.map_err(|error| broken(error.to_string()))?.into_parts();
        if parts.status != StatusCode::SWITCHING_PROTOCOLS {
            return declined(parts, incoming, &mut driver).await;
        }
        let chosen = offer.check_answer(&key, &parts.headers).map_err(|note| broken(note.to_owned()))?;
        let headers = parts.headers.clone();
        let upgraded = upgrade::on(http::Response::from_parts(parts, ()));
        let io = along(&mut driver, upgraded).await.map_err(|error| broken(error.to_string()))?;
        Ok(Met::Opened(Box::new(Opened { io: TokioIo::new(io), headers, chosen, _counted: counted })))
    };
    match timeout(limit, asking).await {
        Ok(met) => met,
        Err(_elapsed) => Err((Fault::UpstreamTimeout, format!("no answer to the handshake in {limit:?}"))),
    }
}

/// An answer that opens nothing. Only an error is one: a success would be of something that nobody asked for.
async fn declined(parts: response::Parts, incoming: Incoming, driver: &mut Option<Driver>) -> Result<Met, (Fault, String)> {
    let broken = |note: String| (Fault::UpstreamBroken, note);
    if parts.status.is_informational() || parts.status.is_success() {
        return Err(broken(format!("status {} to a handshake", parts.status)));
    }
    let mut incoming = incoming;
    let mut body = BytesMut::new();
    loop {
        let next = poll_fn(|cx| Pin::new(&mut incoming).poll_frame(cx));
        match along(driver, next).await {
            None => return Ok(Met::Declined { parts: Box::new(parts), body: body.freeze() }),
            Some(Err(error)) => return Err(broken(error.to_string())),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    body.extend_from_slice(&data);
                }
                if body.len() > MOST_BODY {
                    return Err(broken(format!("status {} with a body that does not end", parts.status)));
                }
            }
        }
    }
}

/// What `work` comes to while the connection is driven along.
async fn along<T>(driver: &mut Option<Driver>, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    poll_fn(|cx| {
        // An error of the connection reaches whoever waits for the answer.
        if driver.as_mut().is_some_and(|driver| driver.as_mut().poll(cx).is_ready()) {
            *driver = None;
        }
        work.as_mut().poll(cx)
    })
    .await
}

type Sender = http1::SendRequest<Whole>;

async fn connect(pool: &Pool, upstream: &Upstream, endpoint: &Endpoint) -> Result<(Sender, Driver), (Fault, String)> {
    let address = &endpoint.address;
    let connecting = async {
        let tcp = TcpStream::connect((&*address.host, address.port)).await?;
        tcp.set_nodelay(true)?;
        if address.tls {
            shake(tls::connect(&pool.tls, &address.host, tcp).await?).await
        } else {
            shake(tcp).await
        }
    };
    let limit = upstream.settings.connect_timeout;
    let unreachable = |note| (Fault::UpstreamUnreachable, format!("{}: {note}", address.authority));
    match timeout(limit, connecting).await {
        Ok(connected) => connected.map_err(|error| unreachable(error.to_string())),
        Err(_elapsed) => Err(unreachable(format!("no connection in {limit:?}"))),
    }
}

async fn shake<S>(stream: S) -> std::io::Result<(Sender, Driver)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let shaking = http1::Builder::new().handshake(TokioIo::new(stream));
    let (sender, connection) = shaking.await.map_err(std::io::Error::other)?;
    Ok((sender, Box::pin(connection.with_upgrades())))
}
