//! One worker's HTTP/2 connections to upstreams: many requests on each. Thread-local, like those of HTTP/1.1; but what is written and read
//! for many cannot be done by whoever waits for one, so that each connection has a task of its own on the worker.

mod heard;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;

use crate::clock::{Clock, NS_PER_SECOND};
use crate::upstream::multiplex::heard::{Heard, Hearing};
use crate::upstream::request::Whole;

/// Requests under way on one connection; most servers allow 100 or more.
const STREAMS_MAX: u32 = 100;
/// What one stream may send before it is read: what a slow client makes us hold.
const STREAM_WINDOW: u32 = 64 * 1024;
/// What all streams of a connection together may. More than their own windows come to, or those that nobody reads would hold up the others; and so
/// much more that small pieces are no reason to end it: h2 does that, and to all of its streams, once what the pieces under 256 bytes that nobody has
/// read lack to that size comes to half of this. With all streams full that is so at pieces of some 20 bytes; what comes in smaller ones is read.
const CONNECTION_WINDOW: u32 = STREAMS_MAX * STREAM_WINDOW * 24;
/// The largest head of an answer, bytes.
const HEAD_MAX: u32 = 64 * 1024;

/// After so long without a word, with requests under way, the other side is asked for a sign of life (RFC 9113 6.7).
const ASKED_AFTER: Duration = Duration::from_secs(10);
/// So long without one, and no more requests are put on the connection: whoever does not read will not answer them either.
const SILENT_NS: u64 = 20 * NS_PER_SECOND;
/// So long after it was asked, and the connection is over, with all that was on it. A server may be busy with an answer for some time.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(60);

/// Which HTTP an endpoint was found to speak, where the choice is its own; workers share it.
#[derive(Debug, Default)]
pub struct Spoken(AtomicU8);

impl Spoken {
    /// Whether it is known to speak HTTP/1.1.
    pub fn is_http1(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 1
    }

    /// Notes what a connection has agreed on.
    pub fn note(&self, is_http2: bool) {
        self.0.store(if is_http2 { 2 } else { 1 }, Ordering::Relaxed);
    }
}

/// The connections of one worker, by endpoint number.
#[derive(Debug, Default)]
pub struct Trunks {
    open: RefCell<HashMap<u64, Vec<Trunk>>>,
    opening: RefCell<HashMap<u64, Rc<Semaphore>>>,
}

/// One connection.
#[derive(Clone)]
pub struct Trunk {
    sender: SendRequest<Whole>,
    streams: Rc<Cell<u32>>,
    /// Requests at once that the other side takes.
    most_streams: Rc<Cell<usize>>,
    /// When it is not to be used any more, nanoseconds of the monotonic clock.
    until_ns: u64,
    /// When its last request ended.
    idle_since_ns: Rc<Cell<u64>>,
    /// When the first of the requests under way began.
    asked_ns: Rc<Cell<u64>>,
    /// When anything has come on it.
    heard: Heard,
    /// Whether a request on it was not answered in its time: who is slow may have new ones on another, and who is stuck does not keep them.
    is_passed_over: Rc<Cell<bool>>,
}

impl fmt::Debug for Trunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trunk").field("streams", &self.streams.get()).finish_non_exhaustive()
    }
}

/// A place for one request on a connection.
#[derive(Debug)]
pub struct Line {
    trunk: Trunk,
}

impl Trunks {
    /// A place on a connection to `endpoint` that is open and young enough.
    pub fn line(&self, endpoint: u64, now_ns: u64) -> Option<Line> {
        let mut open = self.open.borrow_mut();
        let trunks = open.get_mut(&endpoint)?;
        // Those that are over live on as long as their requests do.
        trunks.retain(|trunk| trunk.is_good(now_ns));
        trunks
            .iter()
            .find(|trunk| trunk.has_room() && !trunk.is_silent(now_ns))
            .map(|trunk| Line::on(trunk.clone(), now_ns))
    }

    /// Takes a new connection in, and a place on it.
    pub fn add(&self, endpoint: u64, trunk: Trunk, now_ns: u64) -> Line {
        self.open.borrow_mut().entry(endpoint).or_default().push(trunk.clone());
        Line::on(trunk, now_ns)
    }

    /// Held by whoever opens a connection to `endpoint`; the others wait for that one instead of opening as many.
    pub fn opening(&self, endpoint: u64) -> Rc<Semaphore> {
        Rc::clone(self.opening.borrow_mut().entry(endpoint).or_insert_with(|| Rc::new(Semaphore::new(1))))
    }

    /// Drops what was closed, what is over, and what has had no request for `idle_ns`.
    pub fn sweep(&self, idle_ns: u64, now_ns: u64) {
        self.open.borrow_mut().retain(|_, trunks| {
            trunks.retain(|trunk| {
                let is_idle = trunk.streams.get() == 0 && now_ns.saturating_sub(trunk.idle_since_ns.get()) >= idle_ns;
                trunk.is_good(now_ns) && !is_idle
            });
            !trunks.is_empty()
        });
        self.opening.borrow_mut().retain(|_, opening| Rc::strong_count(opening) > 1);
    }

    /// Open connections without a request.
    pub fn idle_count(&self) -> usize {
        self.open.borrow().values().flatten().filter(|trunk| trunk.streams.get() == 0).count()
    }
}

impl Trunk {
    /// Whether it may have more requests, now or later.
    fn is_good(&self, now_ns: u64) -> bool {
        !self.sender.is_closed() && now_ns < self.until_ns && !self.is_passed_over.get()
    }

    /// Whether the other side has said nothing for long, though it was asked.
    fn is_silent(&self, now_ns: u64) -> bool {
        let since_ns = self.asked_ns.get().max(self.heard.last_ns());
        self.streams.get() > 0 && now_ns.saturating_sub(since_ns) >= SILENT_NS
    }

    /// Whether the other side takes one more request at once: what is beyond that would wait unsent for as long as the others last, and look like
    /// an endpoint that does not answer.
    fn has_room(&self) -> bool {
        let streams = self.streams.get();
        streams < STREAMS_MAX && (streams as usize) < self.most_streams.get()
    }
}

impl Line {
    fn on(trunk: Trunk, now_ns: u64) -> Self {
        if trunk.streams.replace(trunk.streams.get() + 1) == 0 {
            trunk.asked_ns.set(now_ns);
        }
        trunk.idle_since_ns.set(now_ns);
        Self { trunk }
    }

    /// What is to be told when its request is not answered in its time.
    pub fn lateness(&self) -> Lateness {
        Lateness(Rc::clone(&self.trunk.is_passed_over))
    }

    /// Sends `request` and waits for the head of its answer.
    ///
    /// # Errors
    /// hyper's own, with the request where nothing of it was sent.
    pub async fn send(&mut self, request: Request<Whole>) -> Result<Response<Incoming>, TrySendError<Request<Whole>>> {
        self.trunk.sender.try_send_request(request).await
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.trunk.streams.set(self.trunk.streams.get().saturating_sub(1));
    }
}

/// Of a connection on which a request waits.
#[derive(Debug)]
pub struct Lateness(Rc<Cell<bool>>);

impl Lateness {
    /// The request was not answered in its time: the connection keeps what is under way on it, and gets no more.
    pub fn note(&self) {
        self.0.set(true);
    }
}

/// Begins HTTP/2 on `stream`; the connection is driven by a task of this worker.
///
/// # Errors
/// The other side does not speak it.
pub async fn handshake<S>(stream: S, until_ns: u64, clock: &Clock) -> std::io::Result<Trunk>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let now_ns = clock.monotonic_ns();
    let heard = Heard::at(now_ns);
    let stream = Hearing::new(stream, clock.clone(), heard.clone());
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEAD_MAX)
        .keep_alive_interval(ASKED_AFTER)
        .keep_alive_timeout(GIVEN_UP_AFTER)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(std::io::Error::other)?;
    let most_streams = Rc::new(Cell::new(STREAMS_MAX as usize));
    let told = Rc::clone(&most_streams);
    tokio::task::spawn_local(async move {
        let mut connection = pin!(connection);
        let ended = poll_fn(|cx| {
            let ended = connection.as_mut().poll(cx);
            if ended.is_pending() {
                told.set(connection.current_max_send_streams());
            }
            ended
        });
        if let Err(error) = ended.await {
            tracing::debug!(%error, "upstream connection ended");
        }
    });
    let [idle_since_ns, asked_ns] = [(); 2].map(|()| Rc::new(Cell::new(now_ns)));
    let (streams, is_passed_over) = (Rc::default(), Rc::default());
    Ok(Trunk { sender, streams, most_streams, until_ns, idle_since_ns, asked_ns, heard, is_passed_over })
}

/// Whether `error` says that nothing of the request was processed (RFC 9113 8.7): its stream was refused, or lies beyond the last
/// that the other side has looked at before it went away.
pub fn is_unprocessed(error: &hyper::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(error) = cause.downcast_ref::<h2::Error>() {
            let is_refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
            return error.is_remote() && (is_refused || error.is_go_away());
        }
        source = cause.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use tokio::task::LocalSet;

    #[test]
    fn a_connection_whose_other_side_is_gone_is_given_up() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let (ours, theirs) = tokio::io::duplex(1 << 20);
            let greeting = tokio::task::spawn_local(async move { h2::server::handshake(theirs).await });
            let clock = Clock::system();
            let trunk = handshake(ours, u64::MAX, &clock).await.unwrap();
            // From here on nobody reads there.
            let _theirs = greeting.await.unwrap().unwrap();
            let mut line = Line::on(trunk.clone(), clock.monotonic_ns());
            let request = Request::post("http://localhost/").body(Whole::new(Bytes::from_static(b"{}"))).unwrap();
            let began = tokio::time::Instant::now();
            let sent = tokio::time::timeout(10 * GIVEN_UP_AFTER, line.send(request)).await;
            assert!(sent.is_ok_and(|sent| sent.is_err()), "waited for ever");
            let waited = began.elapsed();
            assert!((GIVEN_UP_AFTER..=GIVEN_UP_AFTER + 2 * ASKED_AFTER).contains(&waited), "{waited:?}");
            // Its task hears of it after the request; time that stands still goes on only once everybody has.
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert!(!trunk.is_good(clock.monotonic_ns()));
        });
    }
}
