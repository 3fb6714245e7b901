//! One request to one pool: an endpoint is chosen, asked, and another where that one accepted nothing, until an answer begins.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::RETRY_AFTER;
use hyper::body::Incoming;
use tokio::time::{Instant, sleep, timeout};

use crate::clock::NS_PER_SECOND;
use crate::headers::AnswerHead;
use crate::policy::Fault;
use crate::upstream::answer::{Answered, Lease, Stream, UpstreamBody};
use crate::upstream::choice::{Closed, Leave, Tried};
use crate::upstream::connect::{self, Opened};
use crate::upstream::health::Trouble;
use crate::upstream::http1::{Connection, Taking, Unanswered};
use crate::upstream::multiplex::{self, Lateness, Line, is_unprocessed};
use crate::upstream::patience::Patience;
use crate::upstream::pool::Pool;
use crate::upstream::request::Outgoing;
use crate::upstream::retry;
use crate::upstream::route::{Endpoint, Held, Upstream};
use crate::upstream::seat::Seat;
use crate::upstream::settings::Protocol;

/// When to come back to a pool that has all the requests it may have.
const BUSY_RETRY_NS: u64 = NS_PER_SECOND;

/// No answer from a pool.
#[derive(Debug)]
pub struct Failure {
    /// What to tell the caller.
    pub fault: Fault,
    /// What to tell the log.
    pub note: String,
    /// The request, where nothing of it was accepted: another pool may have it.
    pub unsent: Option<Box<Outgoing>>,
    /// An answer that means that nothing was done; the caller's where nobody else takes over.
    pub answer: Option<Box<Answered>>,
    /// Whether nobody was so much as asked, because all endpoints are ejected.
    pub is_out: bool,
}

impl Failure {
    /// The request is gone, and nobody else may have it.
    pub fn lost(fault: Fault, note: impl Into<String>) -> Self {
        Self { fault, note: note.into(), unsent: None, answer: None, is_out: false }
    }

    /// The answer that means that nothing was done, where there is one: it says more than we could.
    ///
    /// # Errors
    /// The failure, where there is none.
    pub fn told(mut self) -> Result<Answered, Self> {
        self.answer.take().map_or(Err(self), |answer| Ok(*answer))
    }

    fn unsent(fault: Fault, note: impl Into<String>, unsent: Box<Outgoing>) -> Self {
        Self { unsent: Some(unsent), ..Self::lost(fault, note) }
    }
}

/// The end of the time that all attempts of a request together have, if there is one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limit(Option<Instant>);

impl Limit {
    /// What the operator allows for `upstream`, from now on.
    pub fn of(upstream: &Upstream) -> Self {
        Self(upstream.settings.request_timeout.map(|limit| Instant::now() + limit))
    }

    /// `own`, or what is left where that is less.
    pub(super) fn within(self, own: Duration) -> Duration {
        self.0.map_or(own, |end| own.min(end.saturating_duration_since(Instant::now())))
    }

    /// Whether it is over.
    pub fn is_over(self) -> bool {
        self.0.is_some_and(|end| Instant::now() >= end)
    }
}

/// A time limit that somebody keeps for whoever waits: a request needs no timer of its own.
pub trait Alarm {
    /// Rings once `time` has gone by, and not for what it was set to before.
    fn set_in(&self, time: Duration);

    /// Ready once it rings; else the task is woken then.
    fn poll_rung(&self, cx: &mut Context<'_>) -> Poll<()>;
}

/// What `work` comes to, unless it is late. Pinned by the caller: a future that is handed on takes its room twice.
async fn until<T>(patience: &mut Patience<'_>, mut work: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => patience.poll_over(cx).map(|()| None),
    })
    .await
}

/// Sends `outgoing` to the least loaded endpoint of `upstream`, tries again as often as the operator allows while nothing was
/// accepted, and waits for the head of the answer, as long as `alarm` is to say. `leave` says which endpoints may be asked where no better one
/// is left.
///
/// # Errors
/// The [`Failure`], with the request where another upstream may have it.
pub async fn send(
    pool: &Rc<Pool>,
    upstream: &Held,
    mut outgoing: Box<Outgoing>,
    limit: Limit,
    leave: Leave,
    alarm: &dyn Alarm,
) -> Result<Answered, Failure> {
    upstream.budget.earn();
    let (mut tried, mut again) = (Tried::default(), 0);
    let mut last: Option<Failure> = None;
    loop {
        let mut seat = match Seat::take(pool, upstream, tried, leave) {
            Ok(seat) => seat,
            Err(closed) => {
                let last = last.unwrap_or_else(|| nobody(closed));
                return Err(Failure { unsent: Some(outgoing), ..last });
            }
        };
        if tried.has(seat.index()) {
            sleep(limit.within(retry::wait(again, pool.dice.roll()))).await;
        }
        tried.add(seat.index());
        let copy = upstream.settings.keeps_a_copy().then(|| outgoing.clone());
        let mut failure = match attempt(&mut seat, upstream, outgoing, (limit, alarm), copy.as_deref()).await {
            Ok((head, source)) => {
                let answered = answered(seat, head, source);
                let turned_down = copy.filter(|_| upstream.settings.retry_on.contains(&answered.head.status));
                let Some(copy) = turned_down else { return Ok(answered) };
                let failure = Failure::unsent(Fault::UpstreamBroken, "the request was turned down", copy);
                Failure { answer: Some(Box::new(answered)), ..failure }
            }
            Err(failure) => {
                drop(seat);
                failure
            }
        };
        // What rings later is not to hide that the key is revoked meanwhile.
        alarm.set_in(Duration::MAX);
        // What was answered says more than that somebody else could not be reached.
        failure.answer = failure.answer.or_else(|| last.take().and_then(|last| last.answer));
        let may_retry = again < upstream.settings.retries && !limit.is_over();
        match failure.unsent.take() {
            Some(back) if may_retry && upstream.budget.spend(pool.clock.monotonic_ns()) => {
                again += 1;
                upstream.tally.retries.fetch_add(1, Ordering::Relaxed);
                outgoing = back;
                last = Some(failure);
            }
            unsent => return Err(Failure { unsent, ..failure }),
        }
    }
}

/// No place at any endpoint.
pub(super) fn nobody(closed: Closed) -> Failure {
    match closed {
        Closed::Busy => {
            let fault = Fault::UpstreamBusy { retry_after_ns: BUSY_RETRY_NS };
            Failure::lost(fault, "as many requests are under way as may be")
        }
        Closed::Out => {
            Failure { is_out: true, ..Failure::lost(Fault::UpstreamUnreachable, "no endpoint is in service") }
        }
    }
}

/// What a request is sent on.
enum Channel {
    /// A connection for one request at a time.
    One(Connection),
    /// A place on one for many.
    Many(Line),
}

/// What an answer's body is read from.
enum Source {
    One(Connection),
    /// On the heap: all requests would carry the room for it.
    Many(Box<(Line, Incoming)>),
}

/// No answer on a channel.
struct Unheard {
    note: String,
    taken: Taken,
}

/// What became of a request that was not answered.
enum Taken {
    /// Nothing was taken of it; it is where it was.
    Nothing,
    /// The other side says that it did nothing with it.
    Unprocessed,
    /// It may have been read.
    Perhaps,
    /// It cannot be said in the channel's protocol, and was not.
    Unsayable,
}

impl Channel {
    /// What is to be told when a request on it is not answered in its time, where it outlives that.
    fn lateness(&self) -> Option<Lateness> {
        match self {
            Self::One(_) => None,
            Self::Many(line) => Some(line.lateness()),
        }
    }

    /// How it is taken, where that can be seen.
    fn taking(&self) -> Option<Taking> {
        match self {
            Self::One(connection) => Some(connection.taking()),
            Self::Many(_) => None,
        }
    }

    /// Sends the request of `outgoing` and waits for the head of its answer.
    async fn send(
        self,
        outgoing: &Outgoing,
        endpoint: &Endpoint,
        pool: &Pool,
    ) -> Result<(AnswerHead, Source), Unheard> {
        match self {
            Self::One(mut connection) => {
                match connection.send(outgoing, endpoint.destination(), &pool.room, &pool.turn).await {
                    Ok(head) => Ok((head, Source::One(connection))),
                    Err(Unanswered { error, is_unsent }) => {
                        let taken = if is_unsent { Taken::Nothing } else { Taken::Perhaps };
                        Err(Unheard { note: error.to_string(), taken })
                    }
                }
            }
            Self::Many(mut line) => {
                let request = outgoing.request(endpoint, true);
                let request = request.map_err(|note| Unheard { note, taken: Taken::Unsayable })?;
                // Boxed, or every request would carry the room for it.
                let mut error = match Box::pin(line.send(request)).await {
                    Ok(response) => {
                        let (http::response::Parts { status, headers, .. }, incoming) = response.into_parts();
                        return Ok((
                            AnswerHead { status, headers: headers.into() },
                            Source::Many(Box::new((line, incoming))),
                        ));
                    }
                    Err(error) => error,
                };
                let is_back = error.take_message().is_some();
                let error = error.into_error();
                let taken = match is_back {
                    true => Taken::Nothing,
                    false if is_unprocessed(&error) => Taken::Unprocessed,
                    false => Taken::Perhaps,
                };
                Err(Unheard { note: error.to_string(), taken })
            }
        }
    }
}

fn answered(seat: Seat, head: AnswerHead, source: Source) -> Answered {
    let body = match source {
        Source::One(connection) => UpstreamBody::Http(Lease::new(seat, connection)),
        Source::Many(many) => {
            let (line, incoming) = *many;
            // An error may be told before a request has come as a whole, and the rest of it be waved off by a reset (RFC 9113 8.1).
            let may_be_waved_off = !head.status.is_success();
            UpstreamBody::Stream(Box::new(Stream { incoming, may_be_waved_off, line, seat }))
        }
    };
    Answered { head, body }
}

/// One attempt at the endpoint of `seat`. `copy` is the request again, for protocols in which it is refused after it was sent.
async fn attempt(
    seat: &mut Seat,
    upstream: &Upstream,
    mut outgoing: Box<Outgoing>,
    (limit, alarm): (Limit, &dyn Alarm),
    copy: Option<&Outgoing>,
) -> Result<(AnswerHead, Source), Failure> {
    let Some(endpoint) = upstream.endpoints.get(seat.index()) else {
        return Err(Failure::lost(Fault::Internal, "no such endpoint"));
    };
    if !outgoing.is_sound() {
        return Err(Failure::lost(Fault::Internal, "the target cannot be one"));
    }
    let pool = Rc::clone(seat.pool());
    let credential = upstream.keyring.next(|| pool.clock.monotonic_ns());
    outgoing.dress(upstream, credential.map(|(_, credential)| credential));
    // A pooled connection that turns out closed costs nothing: the request comes back unsent and takes the next one.
    loop {
        let (channel, is_fresh) = match pooled(&pool, upstream, endpoint) {
            Some(channel) => (channel, false),
            // Boxed, or every request would carry the room for a handshake.
            None => match Box::pin(open(&pool, upstream, endpoint, limit)).await {
                Ok(channel) => (channel, true),
                Err(note) => {
                    if !limit.is_over() {
                        seat.failed(Trouble::Unreachable);
                    }
                    return Err(Failure::unsent(Fault::UpstreamUnreachable, note, outgoing));
                }
            },
        };
        let taken = (outgoing.body.len(), channel.taking());
        let Some(mut patience) = Patience::new(alarm, limit, upstream.settings.first_byte_timeout, taken) else {
            return Err(Failure::lost(Fault::UpstreamTimeout, "no time is left for an answer"));
        };
        let lateness = channel.lateness();
        // Within braces, or it would keep the request.
        let sent = {
            let sending = pin!(channel.send(&outgoing, endpoint, &pool));
            until(&mut patience, sending).await
        };
        let Some(sent) = sent else {
            return Err(late(seat, patience.is_upstreams(), lateness));
        };
        let Unheard { note, taken } = match sent {
            Ok((head, source)) => {
                heard(seat, upstream, &head, credential.map(|(index, _)| index))?;
                return Ok((head, source));
            }
            Err(unheard) => unheard,
        };
        return Err(match (taken, copy) {
            (Taken::Nothing, _) if !is_fresh => continue,
            (Taken::Nothing, _) => {
                seat.failed(Trouble::Unreachable);
                Failure::unsent(Fault::UpstreamUnreachable, note, outgoing)
            }
            (Taken::Unprocessed, Some(copy)) => Failure::unsent(Fault::UpstreamBroken, note, Box::new(copy.clone())),
            (Taken::Unsayable, _) => Failure::lost(Fault::Internal, note),
            (Taken::Unprocessed, None) | (Taken::Perhaps, _) => {
                seat.failed(Trouble::Unanswered);
                Failure::lost(Fault::UpstreamBroken, note)
            }
        });
    }
}

/// No answer in time. Whether it is the endpoint's fault depends on whose time it was.
fn late(seat: &mut Seat, is_upstreams: bool, lateness: Option<Lateness>) -> Failure {
    if let Some(lateness) = lateness {
        lateness.note();
    }
    if is_upstreams {
        seat.failed(Trouble::Unanswered);
    }
    let whose = if is_upstreams { "first_byte_timeout" } else { "request_timeout" };
    Failure::lost(Fault::UpstreamTimeout, format!("no first byte within {whose}"))
}

/// What the head of an answer says of endpoint and credential. An upstream's own error is an answer like any other.
fn heard(seat: &mut Seat, upstream: &Upstream, head: &AnswerHead, credential: Option<usize>) -> Result<(), Failure> {
    let status = head.status;
    // Nothing here asks for another protocol.
    if status.is_informational() {
        seat.failed(Trouble::Unanswered);
        return Err(Failure::lost(Fault::UpstreamBroken, format!("status {status}")));
    }
    seat.answered();
    if let Some(index) = credential.filter(|_| status.is_client_error()) {
        let retry_after = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        upstream.keyring.answered(index, status, retry_after, seat.pool().clock.monotonic_ns());
    }
    Ok(())
}

fn pooled(pool: &Pool, upstream: &Upstream, endpoint: &Endpoint) -> Option<Channel> {
    if upstream.settings.protocol != Protocol::Http1
        && let Some(line) = pool.trunks.line(endpoint.number, pool.clock.monotonic_ns())
    {
        return Some(Channel::Many(line));
    }
    pool.take(endpoint.number).map(Channel::One)
}

/// Opens a connection within its time.
async fn open(pool: &Pool, upstream: &Upstream, endpoint: &Endpoint, limit: Limit) -> Result<Channel, String> {
    let authority = &endpoint.address.authority;
    let time = limit.within(upstream.settings.connect_timeout);
    match timeout(time, open_untimed(pool, upstream, endpoint)).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(format!("{authority}: {error}")),
        Err(_elapsed) => Err(format!("{authority}: no connection in {time:?}")),
    }
}

async fn open_untimed(pool: &Pool, upstream: &Upstream, endpoint: &Endpoint) -> std::io::Result<Channel> {
    let takes_many = upstream.settings.protocol != Protocol::Http1 && !endpoint.spoken.is_http1();
    let opening = takes_many.then(|| pool.trunks.opening(endpoint.number));
    let _alone = match &opening {
        Some(opening) => Some(opening.acquire().await.map_err(std::io::Error::other)?),
        None => None,
    };
    // Somebody else may have opened one meanwhile.
    if takes_many && let Some(line) = pool.trunks.line(endpoint.number, pool.clock.monotonic_ns()) {
        return Ok(Channel::Many(line));
    }
    let now_ns = pool.clock.monotonic_ns();
    let Opened { stream, is_http2 } = stream_to(pool, upstream, endpoint, now_ns).await?;
    endpoint.spoken.note(is_http2);
    let until_ns = pool.end_of_life(upstream.settings.connection_lifetime, now_ns);
    if is_http2 {
        let trunk = multiplex::handshake(stream, until_ns, &pool.clock).await?;
        return Ok(Channel::Many(pool.trunks.add(endpoint.number, trunk, now_ns)));
    }
    Ok(Channel::One(Connection::new(stream, until_ns)))
}

async fn stream_to(pool: &Pool, upstream: &Upstream, endpoint: &Endpoint, now_ns: u64) -> std::io::Result<Opened> {
    #[cfg(test)]
    {
        let script = pool.script.borrow().clone();
        if let Some(script) = script {
            return script.open(endpoint).await;
        }
    }
    connect::open(upstream, endpoint, &pool.tls, now_ns).await
}

#[cfg(test)]
pub mod tests;
