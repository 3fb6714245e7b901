//! A websocket to an upstream: a connection of its own, our own opening handshake on it, and nothing but what a correct 101 opens.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use http::header::RETRY_AFTER;
use http::{HeaderValue, Method, Request, StatusCode, response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::upgrade::{self, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use crate::dialect::websocket::Offer;
use crate::dialect::websocket::handshake::Key;
use crate::headers::{AnswerHead, Headers};
use crate::policy::Fault;
use crate::upstream::choice::{Leave, Tried};
use crate::upstream::client::{self, Failure};
use crate::upstream::connect::{self, Opened as Opening, Stream};
use crate::upstream::health::Trouble;
use crate::upstream::pool::Pool;
use crate::upstream::request::{Outgoing, Whole};
use crate::upstream::route::Held;
use crate::upstream::seat::Seat;

/// The longest body of an answer that opens nothing.
const MOST_BODY: usize = 256 * 1024;

/// The longest head of an answer, bytes.
const MOST_HEAD: usize = 64 * 1024;

/// What became of a handshake.
#[derive(Debug)]
pub enum Met {
    /// The upstream agreed.
    Opened(Box<Opened>),
    /// It answered otherwise.
    Declined {
        /// Status and headers.
        head: AnswerHead,
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
    pub headers: Headers,
    /// The subprotocol it chose.
    pub chosen: Option<HeaderValue>,
    _seat: Seat,
}

/// Shakes hands with an endpoint of `upstream`, and with another where that one cannot be reached. `headers` are what passes of the
/// client's; what is the upstream's own, and the handshake's, is put beside them.
///
/// # Errors
/// The [`Fault`] to tell the caller, and a note for the log.
pub async fn open(
    pool: &Rc<Pool>,
    upstream: &Held,
    path_and_query: &str,
    headers: Headers,
    offer: &Offer,
) -> Result<Met, (Fault, String)> {
    let internal = |note: String| (Fault::Internal, note);
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| internal(error.to_string()))?;
    let key = Key::new(random);
    let (mut seat, (mut sender, driver)) = connect(pool, upstream).await?;
    let endpoint = seat.endpoint().ok_or_else(|| internal("no such endpoint".to_owned()))?;
    let credential = upstream.keyring.next(|| pool.clock.monotonic_ns());
    let mut outgoing = Outgoing {
        method: Method::GET,
        path_and_query: path_and_query.to_owned(),
        headers,
        body: Bytes::new(),
        plain_headers: None,
    };
    outgoing.dress(upstream, credential.map(|(_, credential)| credential));
    offer.put_request_headers(&key, &mut outgoing.headers);
    let request = outgoing.request(endpoint, false).map_err(internal)?;
    let mut driver = Some(driver);
    let limit = upstream.settings.first_byte_timeout;
    let mut is_heard = false;
    let asked = timeout(limit, ask(&mut sender, &mut driver, request, (&key, offer), &mut is_heard)).await;
    let answer = asked
        .unwrap_or_else(|_elapsed| Err((Fault::UpstreamTimeout, format!("no answer to the handshake in {limit:?}"))));
    // An answer is one, whatever it says: what a client offers may well be the cause of it.
    if is_heard {
        seat.answered()
    } else {
        seat.failed(Trouble::Unanswered)
    }
    match answer? {
        Answer::Opened { io, headers, chosen } => {
            Ok(Met::Opened(Box::new(Opened { io: TokioIo::new(io), headers, chosen, _seat: seat })))
        }
        Answer::Declined { head, body } => {
            if let Some((index, _)) = credential.filter(|_| head.status.is_client_error()) {
                let retry_after = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
                upstream.keyring.answered(index, head.status, retry_after, pool.clock.monotonic_ns());
            }
            Ok(Met::Declined { head, body })
        }
    }
}

enum Answer {
    Opened { io: Upgraded, headers: Headers, chosen: Option<HeaderValue> },
    Declined { head: AnswerHead, body: Bytes },
}

/// Sends the handshake and waits for the whole of its answer.
async fn ask(
    sender: &mut Sender,
    driver: &mut Option<Driver>,
    request: Request<Whole>,
    (key, offer): (&Key, &Offer),
    is_heard: &mut bool,
) -> Result<Answer, (Fault, String)> {
    let broken = |note: String| (Fault::UpstreamBroken, note);
    let sent = along(driver, sender.send_request(request)).await;
    let (parts, incoming) = sent.map_err(|error| broken(error.to_string()))?.into_parts();
    *is_heard = true;
    if parts.status != StatusCode::SWITCHING_PROTOCOLS {
        return declined(parts, incoming, driver).await;
    }
    let headers = Headers::from(parts.headers.clone());
    let chosen = offer.check_answer(key, &headers).map_err(|note| broken(note.to_owned()))?;
    let upgraded = upgrade::on(http::Response::from_parts(parts, ()));
    let io = along(driver, upgraded).await.map_err(|error| broken(error.to_string()))?;
    Ok(Answer::Opened { io, headers, chosen })
}

/// An answer that opens nothing. Only an error is one: a success would be of something that nobody asked for.
async fn declined(
    parts: response::Parts,
    incoming: Incoming,
    driver: &mut Option<Driver>,
) -> Result<Answer, (Fault, String)> {
    let broken = |note: String| (Fault::UpstreamBroken, note);
    if parts.status.is_informational() || parts.status.is_success() {
        return Err(broken(format!("status {} to a handshake", parts.status)));
    }
    let mut incoming = incoming;
    let mut body = BytesMut::new();
    loop {
        let next = poll_fn(|cx| Pin::new(&mut incoming).poll_frame(cx));
        match along(driver, next).await {
            None => {
                let head = AnswerHead { status: parts.status, headers: parts.headers.into() };
                return Ok(Answer::Declined { head, body: body.freeze() });
            }
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

/// What reads and writes a connection's wire.
type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>>>>;

/// A place at an endpoint and a connection to it; at the next where there is none, as often as the operator allows.
async fn connect(pool: &Rc<Pool>, upstream: &Held) -> Result<(Seat, (Sender, Driver)), (Fault, String)> {
    let (settings, leave) = (&upstream.settings, Leave { to_repeat: true, to_insist: true });
    upstream.budget.earn();
    let (mut tried, mut again) = (Tried::default(), 0);
    loop {
        let mut seat = Seat::take(pool, upstream, tried, leave).map_err(|closed| {
            let Failure { fault, note, .. } = client::nobody(closed);
            (fault, note)
        })?;
        tried.add(seat.index());
        let Some(endpoint) = seat.endpoint() else { return Err((Fault::Internal, "no such endpoint".to_owned())) };
        let now_ns = pool.clock.monotonic_ns();
        let connecting = async {
            let Opening { stream, .. } = connect::open(upstream, endpoint, &pool.tls, now_ns).await?;
            shake(stream).await
        };
        let note = match timeout(settings.connect_timeout, connecting).await {
            Ok(Ok(connected)) => return Ok((seat, connected)),
            Ok(Err(error)) => format!("{}: {error}", endpoint.address.authority),
            Err(_elapsed) => format!("{}: no connection in {:?}", endpoint.address.authority, settings.connect_timeout),
        };
        seat.failed(Trouble::Unreachable);
        if again >= settings.retries || !upstream.budget.spend(pool.clock.monotonic_ns()) {
            return Err((Fault::UpstreamUnreachable, note));
        }
        again += 1;
    }
}

async fn shake(stream: Stream) -> std::io::Result<(Sender, Driver)> {
    let shaking = http1::Builder::new().max_buf_size(MOST_HEAD).handshake(TokioIo::new(stream));
    let (sender, connection) = shaking.await.map_err(std::io::Error::other)?;
    Ok((sender, Box::pin(connection.with_upgrades())))
}
